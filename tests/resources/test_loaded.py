"""Models are loaded once a process, and let go by name."""

import threading

from resources import loaded


def test_everybody_gets_the_same_model_and_it_is_loaded_once() -> None:
    calls: list[int] = []
    got: list[object] = []

    def load() -> object:
        calls.append(1)
        return object()

    threads = [threading.Thread(target=lambda: got.append(loaded.once(("test kind", "a", 1), load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(set(map(id, got))) == 1 and len(got) == 8
    loaded.let_go("test kind", "a")


def test_only_the_named_model_is_let_go() -> None:
    first, other = (loaded.once(("test kind", name, "cpu"), object) for name in "ab")
    loaded.let_go("test kind", "a")
    assert loaded.once(("test kind", "b", "cpu"), object) is other
    assert loaded.once(("test kind", "a", "cpu"), object) is not first
    for name in "ab":
        loaded.let_go("test kind", name)
