"""Models in memory: each is loaded once a process, whoever asks for it and however often.

Here belongs keeping them and letting them go. Where a model's files lie is said in `models`; how one is loaded, by the
resource that needs it.
"""

import gc
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_models: dict[tuple[Any, ...], Any] = {}
_lock = threading.Lock()


def once(key: tuple[Any, ...], load: Callable[[], _T]) -> _T:
    """What ``load`` gave when this key was first asked for. A key begins with its kind and the model's name."""
    with _lock:
        if key not in _models:
            _models[key] = load()
        return _models[key]


def let_go(kind: str, model: str) -> None:
    """Free a model that nobody will ask again; otherwise it would stay in memory until the process ends."""
    with _lock:
        gone = [key for key in _models if key[:2] == (kind, model)]
        for key in gone:
            del _models[key]
    if gone:
        gc.collect()
