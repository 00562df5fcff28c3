"""K-center greedy and DEITA's filter: worked examples, plain re-statements as oracles, edges."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import coreset
from methods.diversity.coreset import SELECTORS, deita_filter, k_center_greedy
from methods.kinds import Candidates
from methods.numerics.covering import farthest_first


def pool(vectors, score=None):
    vectors = np.array(vectors, dtype=np.float32)
    ids = pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String)
    return Candidates(ids, score=None if score is None else np.array(score, dtype=np.float64), vectors=vectors)


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


LINE = [[0], [1], [4], [9], [10]]


def test_both_are_listed_under_the_specification_s_names():
    assert [s.id for s in SELECTORS] == ["k_center_greedy", "deita_repr_filter"]
    assert all(s.select(pool(unit_rows(3), [1, 2, 3]), 2, 0, **s.params).order.size == 2 for s in SELECTORS)


# --- k-center


def test_k_center_on_a_line():
    found = k_center_greedy(pool(LINE), 3, 0, start=0)
    assert found.order.tolist() == [0, 4, 2]
    assert found.nearest.tolist() == [-1, 0, 0]
    assert np.isnan(found.gain[0]) and found.gain[1:].tolist() == [10, 4]
    assert found.reason[2] == (
        "farthest from the rows chosen before (4.0000 from row r0); every row now lies within 1.0000 of a chosen one"
    )


def test_k_center_with_rows_given_returns_only_new_ones():
    found = k_center_greedy(pool(LINE), 2, 0, given=[0, 4])
    assert found.order.tolist() == [2, 1]
    assert found.gain.tolist() == [4, 1]
    assert k_center_greedy(pool(LINE), 9, 0, given=[0, 4]).order.tolist() == [2, 1, 3]


def test_k_center_starts_by_seed():
    firsts = {int(k_center_greedy(pool(LINE), 1, seed).order[0]) for seed in range(40)}
    assert firsts == {0, 1, 2, 3, 4}
    assert k_center_greedy(pool(LINE), 4, 7).order.tolist() == k_center_greedy(pool(LINE), 4, 7).order.tolist()


def slow_k_center(vectors, budget, start):
    """Recompute every distance for every pick."""
    picked = [start]
    while len(picked) < min(budget, len(vectors)):
        away = [min(np.linalg.norm(v - vectors[j]) for j in picked) for v in vectors]
        away = [-1 if i in picked else a for i, a in enumerate(away)]
        picked.append(int(np.argmax(away)))
    return picked


@pytest.mark.parametrize("seed", range(8))
def test_k_center_is_the_slow_one(seed):
    vectors = unit_rows(60, 5, seed)
    found = k_center_greedy(pool(vectors), 25, 0, start=3)
    assert found.order.tolist() == slow_k_center(vectors.astype(np.float64), 25, 3)
    for pick, gain, near in zip(found.order[1:], found.gain[1:], found.nearest[1:], strict=True):
        assert gain == pytest.approx(np.linalg.norm(vectors[pick].astype(np.float64) - vectors[near]), abs=1e-12)
    assert (np.diff(found.gain[1:]) <= 1e-3).all()


def grouped(seed, n, d, spread):
    """Unit rows about a few centres, some of them twice."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1 + n // 8, d))[rng.integers(0, 1 + n // 8, n)] + spread * rng.normal(size=(n, d))
    rows[rng.random(n) < 0.2] = rows[0]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def in_steps(vectors, initial, n_take, step):
    """All distances of every pick, rounded; the nearest pick is the first of equals."""
    wide = vectors.astype(np.float64)
    away = np.rint(((wide[:, None] - wide[None]) ** 2).sum(axis=2) / step)
    picked = list(initial)
    nearest = []
    for _ in range(n_take):
        row = int(np.where(np.isin(np.arange(len(wide)), picked), -1, away[:, picked].min(axis=1)).argmax())
        nearest.append(picked[int(away[row, picked].argmin())])
        picked.append(row)
    return picked[len(initial) :], nearest


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 9999),
    n=st.integers(2, 60),
    d=st.sampled_from([1, 3, 8, 21]),
    spread=st.sampled_from([0.0, 0.05, 0.5]),
    step=st.sampled_from([1e-6, 1e-3, 0.3]),
    known=st.integers(1, 4),
)
def test_farthest_first_is_that_of_all_distances(seed, n, d, spread, step, known):
    vectors = grouped(seed, n, d, spread)
    initial = np.random.default_rng(seed).permutation(n)[:known]
    n_take = n - len(initial)
    order, nearest = farthest_first(vectors, initial, n_take, step)
    if step == 1e-6 and spread:  # there, the expanded square and the difference may round to different steps
        wide = vectors.astype(np.float64)
        away = np.linalg.norm(wide[order][:, None] - wide[np.append(initial, order)][None], axis=2)
        for t in range(n_take):
            assert nearest[t] in np.append(initial, order)[: known + t]
            later = np.delete(wide, np.append(initial, order)[: known + t], axis=0)
            before = wide[np.append(initial, order)[: known + t]]
            radius = np.linalg.norm(later[:, None] - before[None], axis=2).min(axis=1).max()
            assert away[t, : known + t].min() ** 2 == pytest.approx(radius**2, abs=1.1e-6)
    else:
        assert (order.tolist(), nearest.tolist()) == in_steps(vectors, initial.tolist(), n_take, step)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0])
def test_k_center_does_not_depend_on_the_unit_of_length(scale):
    vectors = grouped(3, 80, 12, 0.3)
    found = k_center_greedy(pool(vectors * np.float32(scale)), 20, 0, start=5)
    assert found.order.tolist() == slow_k_center(vectors.astype(np.float64), 20, 5)
    assert found.gain[1:] == pytest.approx(scale * k_center_greedy(pool(vectors), 20, 0, start=5).gain[1:], rel=1e-5)


def test_k_center_tells_the_radius_that_is_left():
    vectors = unit_rows(50, 4, 1)
    found = k_center_greedy(pool(vectors), 10, 0)
    away = np.linalg.norm(vectors[:, None] - vectors[found.order][None], axis=2).min(axis=1).max()
    assert found.reason[-1].endswith(f"every row now lies within {away:.4f} of a chosen one")
    assert k_center_greedy(pool(vectors), 50, 0).reason[-1].endswith("within 0.0000 of a chosen one")


@pytest.mark.parametrize("seed", range(5))
def test_k_center_is_within_twice_the_best_radius(seed):
    vectors = unit_rows(10, 3, seed).astype(np.float64)
    away = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    best = min(away[list(c)].min(axis=0).max() for c in itertools.combinations(range(10), 3))
    found = k_center_greedy(pool(vectors), 3, seed)
    assert away[found.order].min(axis=0).max() <= 2 * best + 1e-6


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 30), small=st.integers(0, 30), more=st.integers(0, 30))
def test_k_center_of_a_larger_budget_holds_the_smaller(seed, n, small, more):
    candidates = pool(unit_rows(n, 3, seed))
    few, many = k_center_greedy(candidates, small, 1), k_center_greedy(candidates, small + more, 1)
    assert many.order[: len(few.order)].tolist() == few.order.tolist()
    assert many.reason[: len(few.order)] == few.reason
    assert sorted(set(many.order.tolist())) == sorted(many.order.tolist())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), shuffled=st.permutations(range(20)))
def test_k_center_follows_a_shuffled_pool(seed, shuffled):
    vectors = unit_rows(20, 6, seed)
    straight = k_center_greedy(pool(vectors), 9, 0, start=shuffled[0]).order.tolist()
    mixed = k_center_greedy(pool(vectors[list(shuffled)]), 9, 0, start=0).order
    assert [shuffled[i] for i in mixed] == straight


def test_k_center_ties_go_to_the_lowest_index():
    vectors = np.float32([[1, 0], [0, 1], [0, 1], [0, -1]])
    assert k_center_greedy(pool(vectors), 4, 0, start=0).order.tolist() == [0, 1, 3, 2]
    same = np.tile(np.float32([0.6, 0.8]), (4, 1))
    found = k_center_greedy(pool(same), 4, 0, start=2)
    assert found.order.tolist() == [2, 0, 1, 3]
    assert found.gain[1:].tolist() == [0, 0, 0]


def test_k_center_takes_no_difference_of_rounding_for_a_distance():
    assert k_center_greedy(pool([[0], [1], [1.0000002]]), 2, 0, start=0).order.tolist() == [0, 1]


@pytest.mark.parametrize(("n", "budget"), [(0, 0), (0, 3), (1, 0), (1, 1), (1, 5), (4, 0), (4, 9)])
def test_k_center_edges(n, budget):
    found = k_center_greedy(pool(unit_rows(n)), budget, 0)
    assert sorted(found.order.tolist()) == list(range(min(n, budget)))
    assert len(found.gain) == len(found.reason) == len(found.nearest) == len(found.order)


def test_k_center_refuses_what_is_no_row():
    for options in ({"start": 5}, {"given": [0, 0]}, {"given": [-1]}):
        with pytest.raises(ValueError, match="indices from 0 to 4"):
            k_center_greedy(pool(LINE), 2, 0, **options)
    with pytest.raises(ValueError, match="leave one of them out"):
        k_center_greedy(pool(LINE), 2, 0, start=1, given=[0])
    with pytest.raises(ValueError, match="needs vectors"):
        k_center_greedy(Candidates(pl.Series(["a"])), 1, 0)
    for gap in (np.nan, np.inf):
        with pytest.raises(ValueError, match="k_center_greedy: a candidate has no vector"):
            k_center_greedy(pool([[1, 0], [0, 1], [gap, 0]]), 2, 0)


# --- DEITA's filter

ROWS = [[1, 0], [0.98, 0.199], [0, 1], [0.6, 0.8]]


def test_deita_worked_example():
    found = deita_filter(pool(ROWS, [9, 8, 7, 6]), 4)
    assert found.order.tolist() == [0, 2, 3]
    assert found.gain.tolist() == [9, 7, 6]
    assert found.nearest.tolist() == [-1, 0, 2]
    assert found.refused == {1: "too close to row r0 (0.98)"}
    assert found.reason == [
        "best score 9",
        "score 7, nearest taken row r0 (0.00)",
        "score 6, nearest taken row r2 (0.80); the pool ended here, 3 of the 4 rows asked for",
    ]


def test_deita_stops_at_the_budget_and_looks_no_further():
    found = deita_filter(pool(ROWS, [9, 8, 7, 6]), 1)
    assert (found.order.tolist(), found.refused, found.reason) == ([0], {}, ["best score 9"])


def test_a_refused_row_refuses_nobody():
    angles = np.array([0.0, 0.3, 0.6])  # each within 0.9 of the next, the ends are not
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    for block in (1, 2, 256):
        assert deita_filter(pool(vectors, [3, 2, 1]), 3, block=block).order.tolist() == [0, 2]


def test_a_cosine_at_the_threshold_is_not_too_close():
    vectors = np.float32([[1, 0], [0.6, 0.8], [0.8, -0.6]])
    assert deita_filter(pool(vectors, [3, 2, 1]), 3, threshold=0.8).order.tolist() == [0, 1, 2]
    assert deita_filter(pool(vectors, [3, 2, 1]), 3, threshold=0.79).order.tolist() == [0, 1]
    assert deita_filter(pool(np.tile(vectors[1], (3, 1)), [1, 1, 1]), 3, threshold=1).order.tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 2048])
def test_of_equally_near_rows_the_first_taken_is_named(size, monkeypatch):
    cut = coreset.blocks
    monkeypatch.setattr(coreset, "blocks", lambda n, block=size: cut(n, block))
    vectors = np.float32([[0.6, 0.8], [0.6, -0.8], [1, 0]])
    assert deita_filter(pool(vectors, [3, 2, 1]), 3, block=1).nearest.tolist() == [-1, 0, 0]


def slow_deita(vectors, score, budget, threshold):
    """One row after another, every cosine anew."""
    taken, refused = [], {}
    for i in sorted(range(len(score)), key=lambda i: (-score[i], i)):
        if len(taken) == budget:
            break
        near = max(taken, key=lambda j: (float(vectors[i] @ vectors[j]), -taken.index(j)), default=None)
        if near is not None and vectors[i] @ vectors[near] > threshold:
            refused[i] = near
        else:
            taken.append(i)
    return taken, refused


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 9999),
    n=st.integers(0, 40),
    budget=st.integers(0, 45),
    block=st.integers(1, 50),
    threshold=st.sampled_from([-0.3, 0.0, 0.5, 0.9, 0.99]),
)
def test_deita_is_the_slow_one_for_every_block(seed, n, budget, block, threshold):
    vectors = unit_rows(n, 3, seed)
    score = np.random.default_rng(seed).integers(0, 6, n).astype(float)
    found = deita_filter(pool(vectors, score), budget, threshold=threshold, block=block)
    taken, refused = slow_deita(vectors.astype(np.float64), score, budget, threshold)
    assert found.order.tolist() == taken
    assert {i: why.split()[4] for i, why in found.refused.items()} == {i: f"r{j}" for i, j in refused.items()}
    close = vectors[found.order] @ vectors[found.order].T - 2 * np.eye(len(taken))
    assert (close <= threshold + 2e-6).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), small=st.integers(0, 20), shuffled=st.permutations(range(20)))
def test_deita_prefix_and_permutation(seed, small, shuffled):
    vectors, score = unit_rows(20, 3, seed), np.random.default_rng(seed).permutation(20).astype(float)
    whole = deita_filter(pool(vectors, score), 20)
    assert deita_filter(pool(vectors, score), small).order.tolist() == whole.order[:small].tolist()
    mixed = deita_filter(pool(vectors[list(shuffled)], score[list(shuffled)]), 20)
    assert [shuffled[i] for i in mixed.order] == whole.order.tolist()


def test_all_equal_rows_give_one():
    found = deita_filter(pool(np.tile(np.float32([0.6, 0.8]), (4, 1)), [1, 1, 2, 1]), 3)
    assert found.order.tolist() == [2]
    assert found.refused == dict.fromkeys([0, 1, 3], "too close to row r2 (1.00)")
    assert found.reason == ["best score 2; the pool ended here, 1 of the 3 rows asked for"]


def test_deita_edges():
    assert deita_filter(pool(unit_rows(0), []), 3).reason == []
    assert deita_filter(pool(unit_rows(3), [1, 2, 3]), 0).order.tolist() == []
    assert deita_filter(pool(unit_rows(1), [1]), 1).reason == ["best score 1"]
    with pytest.raises(ValueError, match="needs score"):
        deita_filter(pool(unit_rows(2)), 1)
    with pytest.raises(ValueError, match="no vector"):
        deita_filter(pool([[np.nan, 0], [1, 0]], [1, 2]), 1)
