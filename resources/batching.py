"""How sequences of unlike length share batches, and how batches share the machine.

Here belong what goes together, in which order it runs, and what happens to a batch that does not fit into memory. What
is computed for a batch is handed in as a function.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from resources import compute


class Lengthy(Protocol):
    """Whatever runs through a model: it has tokens."""

    @property
    def tokens(self) -> list[int]:
        """Token ids."""
        ...


_S = TypeVar("_S", bound=Lengthy)
_R = TypeVar("_R")


def groups(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in groups whose padded size (longest times count) is at most ``budget``, or of a single sequence.

    Longest first: a batch that does not fit into memory shows at once, and neighbours are of like length.
    """
    made: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if made and (len(made[-1]) + 1) * lengths[made[-1][0]] <= budget:
            made[-1].append(i)
        else:
            made.append([i])
    return made


_BATCH = 48
"""What a batch costs by itself, in tokens: many small batches pad least and are slowest."""


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """As `groups`, but with the least padding that the budget allows: every cut between two lengths is weighed."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    least, cut = [0.0], [0]
    for end in range(1, len(order) + 1):
        best, where = float("inf"), end - 1
        for start in range(end - 1, -1, -1):
            padded = lengths[order[start]] * (end - start)
            if padded > budget and end - start > 1:
                break
            if least[start] + padded + _BATCH < best:
                best, where = least[start] + padded + _BATCH, start
        least.append(best)
        cut.append(where)
    made: list[list[int]] = []
    end = len(order)
    while end:
        made.append(order[cut[end] : end])
        end = cut[end]
    return made[::-1]


def score_all(
    score: Callable[[list[_S]], Sequence[_R]],
    sequences: Sequence[_S],
    budget: int,
    workers: int = 1,
    kind: Callable[[_S], object] = lambda _: None,
) -> list[_R | None]:
    """Score all sequences in batches; a batch that does not fit into memory is halved. None: not even alone.

    Only sequences of one ``kind`` share a batch. The largest batches run first, so that all are done at once.

    With several ``workers`` each runs batches of its own on one core: on a CPU that is faster than one batch on all
    cores, which wait for each other at every small step. What comes out does not depend on who runs which.
    """
    found: list[_R | None] = [None] * len(sequences)
    waiting = sorted(_by_kind(sequences, budget, kind), key=lambda batch: _padded(sequences, batch))

    def work() -> None:
        while waiting:
            try:
                batch = waiting.pop()
            except IndexError:  # another worker took the last one
                return
            try:
                waiting.extend(_scored(score, sequences, batch, found))
            except BaseException:
                waiting.clear()  # nobody goes on with what will not be kept
                raise

    if min(workers, len(waiting)) > 1:
        compute.side_by_side(work, min(workers, len(waiting)))
    work()  # alone, or what a worker put back after the others had gone
    return found


def _by_kind(sequences: Sequence[_S], budget: int, kind: Callable[[_S], object]) -> list[list[int]]:
    kinds: dict[object, list[int]] = {}
    for i, sequence in enumerate(sequences):
        kinds.setdefault(kind(sequence), []).append(i)
    made = [(alike, batches([len(sequences[i].tokens) for i in alike], budget)) for alike in kinds.values()]
    return [[alike[i] for i in batch] for alike, parts in made for batch in parts]


def _padded(sequences: Sequence[Lengthy], batch: list[int]) -> int:
    return len(batch) * max(len(sequences[i].tokens) for i in batch)


def _scored(
    score: Callable[[list[_S]], Sequence[_R]], sequences: Sequence[_S], batch: list[int], found: list[Any]
) -> list[list[int]]:
    """Run one batch; its two halves if it did not fit and holds more than one sequence."""
    try:
        for i, numbers in zip(batch, score([sequences[i] for i in batch]), strict=True):
            found[i] = numbers
        return []
    except (RuntimeError, MemoryError) as error:
        if not compute.is_out_of_memory(error):
            raise
    compute.free_memory()
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]] if len(batch) > 1 else []
