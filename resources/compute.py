"""Where the models run: the device, the number type, the threads, and how running out of memory is recognised.

Here belongs what every model resource must decide before it loads anything. What a model is and where its files lie
stands in `models`; what it computes stands in `encoder` and `token_pass`. Nothing here imports torch before it is
asked for something that only torch knows.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

DTYPES = ("bfloat16", "float32", "float16")
_SHORT = {"auto": "bfloat16", "bf16": "bfloat16", "fp32": "float32", "fp16": "float16"}


def dtype_name(name: str) -> str:
    """The full name of a number type. ``auto`` is bfloat16 on every machine, so that it never changes a fingerprint."""
    full = _SHORT.get(name, name)
    if full not in DTYPES:
        raise ValueError(f"dtype={name!r} is not known: use auto, {', '.join(DTYPES)}.")
    return full


def pick_device(name: str = "auto") -> str:
    """``auto`` takes the first GPU if there is one, else the CPU; every other name is handed to torch as it is."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def cores() -> int:
    """The cores that this process may use, or fewer where the environment says so."""
    asked = os.environ.get("SLUICE_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_torch() -> None:
    """Give torch one thread a core, once: more than that makes it wait for itself."""
    import torch

    if torch.get_num_threads() != cores():
        torch.set_num_threads(cores())


def side_by_side(work: Callable[[], None], workers: int) -> None:
    """Run ``work`` in so many threads at once, each with torch on a single core; the first error is raised here."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(work) for _ in range(workers)]:
                done.result()
    finally:
        torch.set_num_threads(before)  # the number of one thread leaks into others through the maths library


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a batch failed because it was too large (torch says so in several ways)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    signs = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def free_memory() -> None:
    """Hand cached GPU blocks back after a batch that did not fit."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars and load-time chatter: errors still reach the caller as exceptions."""
    import transformers

    log: Any = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    other = logging.getLogger("sentence_transformers")
    other_level = other.level
    log.set_verbosity_error()
    log.disable_progress_bar()
    other.setLevel(logging.ERROR)
    try:
        # Some bars (the GGUF reader's) ask nobody and write to stderr.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        other.setLevel(other_level)
        if bars:
            log.enable_progress_bar()
