"""Rows nearest to a target: by all, by several cosines, and in turn; against a plain search."""

import inspect

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance import nearest
from methods.importance.nearest import SELECTORS, likeness, nearest_to_target
from methods.kinds import Candidates, Target
from methods.numerics.similarity import cosines


def unit(rows: object) -> np.ndarray:
    found = np.array(rows, dtype=np.float64)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def pool(vectors: np.ndarray, *targets: np.ndarray) -> Candidates:
    texts = pl.DataFrame(schema={"prompt": pl.String, "response": pl.String})
    named = {f"t{i}": Target(texts, target) for i, target in enumerate(targets)}
    return Candidates(pl.Series([str(i) for i in range(len(vectors))], dtype=pl.String), vectors=vectors, targets=named)


ANGLES = unit([[1, 0], [0, 1], [1, 1], [3, 4], [-1, 0]])


def test_the_nearest_row_of_the_target_counts() -> None:
    chosen = nearest_to_target(pool(ANGLES, unit([[1, 0], [0.6, 0.8]])), 3)
    assert chosen.order.tolist() == [0, 3, 2]
    assert chosen.gain.tolist() == pytest.approx([1, 1, 1.4 / 2**0.5], abs=1e-6)
    assert chosen.reason == [
        "cosine 1.0000 to row 0 of t0",
        "cosine 1.0000 to row 1 of t0",
        "cosine 0.9899 to row 1 of t0",
    ]


def test_several_cosines_are_averaged() -> None:
    chosen = nearest_to_target(pool(ANGLES, unit([[1, 0], [0, 1]])), 5, top_m=2)
    assert chosen.order.tolist() == [2, 3, 0, 1, 4]  # 1/sqrt 2, .7, .5, .5, -.5
    assert chosen.gain.tolist() == pytest.approx([0.5**0.5, 0.7, 0.5, 0.5, -0.5], abs=1e-6)
    assert chosen.reason[1] == "cosine 0.8000 to row 1 of t0, mean of the 2 largest 0.7000"
    more = nearest_to_target(pool(ANGLES, unit([[1, 0], [0, 1]])), 5, top_m=9)
    assert more.order.tolist() == chosen.order.tolist()


def test_several_targets_are_searched_as_one_and_names_choose_among_them() -> None:
    candidates = pool(ANGLES, unit([[-1, 0]]), unit([[0, 1]]))
    assert nearest_to_target(candidates, 2).order.tolist() == [1, 4]
    assert nearest_to_target(candidates, 2).reason[1] == "cosine 1.0000 to row 0 of t0"
    assert nearest_to_target(candidates, 1, targets=["t0"]).order.tolist() == [4]


def test_each_target_in_turn() -> None:
    near = unit([[1, 0.01 * i] for i in range(5)] + [[0, 1]])
    candidates = pool(near, unit([[1, 0]]), unit([[0.3, 1], [0.2, 1]]))
    chosen = nearest_to_target(candidates, 4, per_target="target")
    assert chosen.order.tolist() == [0, 5, 1, 4]
    assert chosen.reason[1].endswith("to row 1 of t1, whose turn it was")
    assert nearest_to_target(candidates, 4).order.tolist() == [0, 1, 2, 3]


def test_each_row_of_the_target_in_turn() -> None:
    near = unit([[1, 0.01 * i] for i in range(5)] + [[0, 1]])
    candidates = pool(near, unit([[1, 0]]), unit([[0.3, 1], [0.2, 1]]))
    chosen = nearest_to_target(candidates, 5, per_target="row")
    assert chosen.order.tolist() == [0, 5, 4, 1, 3]
    assert chosen.reason[2].endswith("to row 1 of t1, whose turn it was")


def in_turn(levels: np.ndarray, budget: int) -> list[int]:
    """Each column of (rows, columns) in turn takes its best row left; the first of equals."""
    left, order = levels.copy(), []
    for i in range(budget):
        row = int(np.argmax(left[:, i % levels.shape[1]]))
        order.append(row)
        left[row] = -np.inf
    return order


SMALL = st.lists(st.tuples(*[st.integers(-2, 2)] * 3).filter(any), min_size=1, max_size=12)


@given(SMALL, SMALL, SMALL, st.integers(0, 14), st.integers(1, 3), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_against_a_plain_search(
    rows: list[tuple[int, ...]], one: list[tuple[int, ...]], two: list[tuple[int, ...]], budget: int, m: int, block: int
) -> None:
    vectors, goals = unit(rows), [unit(one), unit(two)]
    candidates = pool(vectors, *goals)
    take = min(budget, len(vectors))
    level = cosines(vectors, np.concatenate(goals))

    def value(found: np.ndarray) -> np.ndarray:
        return np.sort(found, axis=1)[:, ::-1][:, :m].mean(axis=1)

    plain = nearest_to_target(candidates, budget, top_m=m, block=block)
    assert plain.order.tolist() == np.lexsort((np.arange(len(vectors)), -value(level).round(9)))[:take].tolist()
    assert plain.gain == pytest.approx(value(level)[plain.order])
    split = np.stack([value(level[:, : len(one)]), value(level[:, len(one) :])], axis=1).round(9)
    turns = nearest_to_target(candidates, budget, top_m=m, per_target="target", block=block)
    assert turns.order.tolist() == in_turn(split, take)
    by_row = nearest_to_target(candidates, budget, per_target="row", block=block)
    assert by_row.order.tolist() == in_turn(level, take)
    assert by_row.gain == pytest.approx([level[i, t % level.shape[1]] for t, i in enumerate(by_row.order)])


def test_lists_that_run_out_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_SPARE", 1)
    rng = np.random.default_rng(0)
    vectors, goal = unit(rng.normal(size=(60, 4))), unit(np.ones((7, 4)) + rng.normal(size=(7, 4)) / 100)
    chosen = nearest_to_target(pool(vectors, goal), 60, per_target="row")
    assert chosen.order.tolist() == in_turn(cosines(vectors, goal), 60)


def test_tiles_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    vectors, goal = unit(rng.normal(size=(50, 8))), unit(rng.normal(size=(23, 8)))
    whole = likeness(vectors, goal, top_m=4)
    monkeypatch.setattr(nearest, "TILE", 3)
    parts = likeness(vectors, goal, top_m=4, block=7)
    for name in ("value", "row", "largest"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()
    assert whole.row.tolist() == cosines(vectors, goal).argmax(axis=1).tolist()


def test_edges_of_the_pool() -> None:
    goal = unit([[1, 0]])
    assert nearest_to_target(pool(ANGLES, goal), 0).order.tolist() == []
    assert nearest_to_target(pool(ANGLES[:0], goal), 3, per_target="row").order.tolist() == []
    for turns in ("none", "target", "row"):
        assert nearest_to_target(pool(ANGLES[:1], goal), 9, per_target=turns).order.tolist() == [0]
        same = pool(np.repeat(ANGLES[:1], 4, axis=0), goal, goal)
        assert nearest_to_target(same, 9, per_target=turns).order.tolist() == [0, 1, 2, 3]


def test_wrong_requests() -> None:
    candidates = pool(ANGLES, unit([[1, 0]]))
    for match, options in {
        "no target 'x'": {"targets": ["x"]},
        "at least one row": {"targets": []},
        "per_target must be": {"per_target": "all"},
        "leave top_m": {"per_target": "row", "top_m": 2},
        "top_m must be": {"top_m": 0},
    }.items():
        with pytest.raises(ValueError, match=match):
            nearest_to_target(candidates, 1, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not fit"):
        nearest_to_target(pool(ANGLES, unit([[1, 0, 0]])), 1)
    gap = ANGLES.copy()
    gap[2] = np.nan
    for turns in ("none", "target", "row"):
        with pytest.raises(ValueError, match="a candidate has no vector"):
            nearest_to_target(pool(gap, ANGLES), 1, per_target=turns)
        with pytest.raises(ValueError, match="a row of target 't0' has no vector"):
            nearest_to_target(pool(ANGLES, gap), 1, per_target=turns)
    with pytest.raises(ValueError, match="unit length"):
        nearest_to_target(pool(ANGLES, 2 * ANGLES), 1)
    blind = Candidates(pl.Series(["0"]), vectors=ANGLES[:1], targets={"t": Target(candidates.targets["t0"].texts)})
    with pytest.raises(ValueError, match="embed it first"):
        nearest_to_target(blind, 1)


def test_the_entry_names_the_functions_parameters() -> None:
    (entry,) = SELECTORS
    found = inspect.signature(entry.select).parameters
    assert dict(entry.params) == {k: p.default for k, p in list(found.items())[3:]}
