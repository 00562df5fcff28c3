"""Batches against every other way to cut; what does not fit is halved; what fails stops everybody."""

import itertools
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources import batching


@dataclass(frozen=True)
class Run:
    tokens: list[int]


@given(lengths=st.lists(st.integers(1, 40), max_size=30), budget=st.integers(1, 200))
def test_batches_hold_everything_once_within_the_budget(lengths: list[int], budget: int) -> None:
    made = batching.batches(lengths, budget)
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), budget=st.integers(1, 200))
def test_no_other_cuts_pad_less(lengths: list[int], budget: int) -> None:
    """Against every way to cut the sorted lengths."""

    def cost(parts: list[list[int]]) -> int:
        return sum(max(part) * len(part) + batching._BATCH for part in parts)

    ordered = sorted(lengths, reverse=True)
    ways = []
    for cuts in itertools.product([False, True], repeat=len(ordered) - 1):
        parts = [[ordered[0]]]
        for length, new in zip(ordered[1:], cuts, strict=True):
            parts.append([length]) if new else parts[-1].append(length)
        if all(len(part) == 1 or part[0] * len(part) <= budget for part in parts):
            ways.append(cost(parts))
    made = [[lengths[i] for i in batch] for batch in batching.batches(lengths, budget)]
    assert cost(made) == min(ways)


@given(lengths=st.lists(st.integers(1, 40), max_size=20), workers=st.integers(1, 3), room=st.integers(1, 60))
def test_everything_is_scored_that_fits_alone(lengths: list[int], workers: int, room: int) -> None:
    def score(batch: list[Run]) -> list[int]:
        if sum(len(run.tokens) for run in batch) > room:
            raise MemoryError
        return [len(run.tokens) for run in batch]

    found = batching.score_all(score, [Run([0] * n) for n in lengths], 100, workers)
    assert found == [n if n <= room else None for n in lengths]


def test_workers_share_the_batches() -> None:
    met = threading.Barrier(2, timeout=20)

    def score(batch: list[Run]) -> list[str]:
        met.wait()  # passes only if two batches run at once
        return [threading.current_thread().name] * len(batch)

    found = batching.score_all(score, [Run([0] * 9) for _ in range(2)], 9, workers=2)
    assert len(set(found)) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_stops_everybody(workers: int) -> None:
    done = []

    def score(batch: list[Run]) -> list[int]:
        if len(batch[0].tokens) == 9:
            raise RuntimeError("shape mismatch")
        done.append(batch)
        return [0] * len(batch)

    with pytest.raises(RuntimeError, match="shape mismatch"):
        batching.score_all(score, [Run([0] * n) for n in range(1, 10)], 9, workers)
    assert len(done) < 8
