"""Facility location and Superfiltering.D: worked examples, a plain greedy and all subsets as oracles, edges."""

import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import catalog
from methods.diversity import maximise
from methods.diversity.facility import SELECTORS, facility_location, superfiltering_d
from methods.diversity.maximise import sample_size
from methods.kinds import Candidates
from methods.numerics import columns

WORKED = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
KINDS = ("cosine", "euclidean")


def pool(vectors, score=None):
    vectors = np.array(vectors, dtype=np.float32)
    ids = pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String)
    return Candidates(ids, score=None if score is None else np.array(score, dtype=np.float64), vectors=vectors)


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def similar(vectors, kind):
    """The matrix in float64, pair by pair."""
    v = np.asarray(vectors, dtype=np.float64)
    if kind == "cosine":
        return np.maximum(v @ v.T, 0)
    return np.exp(-np.linalg.norm(v[:, None] - v[None], axis=2) / v.shape[1])


def value(s, rows):
    return s[:, list(rows)].max(axis=1).sum() if len(rows) else 0.0


def in_steps(vectors, kind):
    """The same matrix in the whole steps that the method holds."""
    kernel = maximise._Kernel(kind, vectors.shape[1])
    return np.rint((similar(vectors, kind) - kernel.least) / kernel.step)


def plain_greedy(s, budget):
    """Every gain anew for every pick, the first of the largest."""
    order = []
    for _ in range(min(budget, len(s))):
        gains = [-1 if j in order else value(s, [*order, j]) - value(s, order) for j in range(len(s))]
        order.append(int(np.argmax(gains)))
    return order


def dyadic_rows(draw, n):
    """Rows of unit length whose products are exact, with many ties and copies among them."""
    corners = [np.eye(4)[i] * sign for i in range(4) for sign in (1, -1)]
    halves = [np.array(signs) / 2 for signs in itertools.product((1, -1), repeat=4)]
    return np.array([draw(st.sampled_from([*corners, *halves])) for _ in range(n)])


def test_both_are_listed_under_the_specification_s_names():
    assert [s.id for s in SELECTORS] == ["facility_location", "superfiltering_d"]
    assert all(s in catalog.SELECTORS for s in SELECTORS)
    assert all(s.select(pool(unit_rows(3), [1, 2, 3]), 2, 0, **s.params).order.size == 2 for s in SELECTORS)


# --- worked


def test_the_worked_example():
    kernel = maximise._Kernel("cosine", 3)
    alone = maximise.Similarities(pool(np.linalg.cholesky(WORKED)).vectors, kernel).sums() * kernel.step
    assert alone == pytest.approx([2.0, 2.1, 1.3], abs=1e-5)
    found = facility_location(pool(np.linalg.cholesky(WORKED)), 2)
    assert found.order.tolist() == [1, 2]
    assert found.gain == pytest.approx([2.1, 0.8], abs=1e-5)
    assert found.nearest.tolist() == [-1, 1]
    assert found.reason == [
        "adds 2.1 to the sum of similarities to the nearest chosen row (mean now 0.7); it is that row for 3 of 3",
        "adds 0.8 to the sum of similarities to the nearest chosen row (mean now 0.966667); it is that row for 1 of 3",
    ]
    assert facility_location(pool(np.linalg.cholesky(WORKED)), 3).gain == pytest.approx([2.1, 0.8, 0.1], abs=1e-5)


def test_the_middle_of_each_of_two_groups_is_found():
    """Two groups of three on a circle: the best two rows are the middles, and the greedy choice finds them."""
    angles = np.array([0.0, 0.2, 0.4, 2.0, 2.2, 2.4])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for kind in KINDS:
        assert sorted(facility_location(pool(vectors), 2, similarity=kind).order.tolist()) == [1, 4]


def test_negative_cosines_count_as_none():
    found = facility_location(pool([[1, 0], [-1, 0]]), 2)
    assert found.order.tolist() == [0, 1] and found.gain.tolist() == [1, 1]
    assert found.nearest.tolist() == [-1, 0]


def test_the_euclidean_kernel():
    """exp(-distance / dimensions), in which opposite rows are still a little alike."""
    found = facility_location(pool([[1, 0, 0, 0], [-1, 0, 0, 0]]), 2, similarity="euclidean")
    assert found.gain == pytest.approx([1 + math.exp(-0.5), 1 - math.exp(-0.5)], abs=1e-6)


# --- against slow ones


@st.composite
def exact_rows(draw, largest=9):
    return dyadic_rows(draw, draw(st.integers(1, largest)))


@settings(deadline=None)
@given(exact_rows(), st.integers(1, 10), st.sampled_from(KINDS), st.booleans())
def test_the_choice_is_the_plain_greedy_one_with_ties_to_the_first(vectors, budget, kind, kept):
    with pytest.MonkeyPatch.context() as patch:
        if not kept:
            patch.setattr(maximise, "CACHE_BYTES", 0)
            patch.setattr(maximise, "LOOK_AHEAD", 2)
        found = facility_location(pool(vectors), budget, similarity=kind, method="exact")
    assert found.order.tolist() == plain_greedy(in_steps(vectors, kind), budget)
    s = similar(vectors, kind)
    totals = [value(s, found.order[: i + 1]) for i in range(len(found.order))]
    assert np.cumsum(found.gain) == pytest.approx(totals, abs=1e-5)
    for place, (row, near) in enumerate(zip(found.order, found.nearest, strict=True)):
        before = found.order[:place]
        assert near == -1 if place == 0 else s[row, near] == pytest.approx(s[row, before].max(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_each_pick_of_random_rows_is_a_best_one(kind, seed):
    vectors = unit_rows(80, 5, seed)
    found, s = facility_location(pool(vectors), 40, similarity=kind), similar(vectors, kind)
    assert len(set(found.order.tolist())) == 40
    for place, row in enumerate(found.order):
        before = found.order[:place].tolist()
        gains = [value(s, [*before, j]) - value(s, before) for j in range(80) if j not in before]
        assert value(s, [*before, row]) - value(s, before) == pytest.approx(max(gains), abs=3e-5)
    assert (np.diff(found.gain) <= 1e-9).all()


@settings(deadline=None, max_examples=40)
@given(exact_rows(8), st.integers(1, 8), st.sampled_from(KINDS))
def test_the_greedy_choice_is_near_the_best_of_all_subsets(vectors, budget, kind):
    s = similar(vectors, kind)
    budget = min(budget, len(s))
    best = max(value(s, rows) for rows in itertools.combinations(range(len(s)), budget))
    found = value(s, facility_location(pool(vectors), budget, similarity=kind).order)
    assert (1 - 1 / math.e) * best <= found + 1e-9 and found <= best + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_the_kept_matrix_change_nothing(kind, monkeypatch):
    candidates = pool(unit_rows(150, 7, 1))
    found = facility_location(candidates, 60, similarity=kind)
    for kept, ahead, tile in ((2**29, 64, 16), (0, 64, 4096), (0, 3, 16)):
        for name, size in (("CACHE_BYTES", kept), ("LOOK_AHEAD", ahead), ("TILE", tile)):
            monkeypatch.setattr(maximise, name, size)
        again = facility_location(candidates, 60, similarity=kind, method="exact")
        assert again.order.tolist() == found.order.tolist() and again.gain.tolist() == found.gain.tolist()
        assert again.nearest.tolist() == found.nearest.tolist() and again.reason == found.reason


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(20)), st.sampled_from(KINDS))
def test_the_order_of_the_pool_has_no_say_without_ties(order, kind):
    """Rows of which six picks are clear; later ones are tied where two rows stand for nobody but each other."""
    vectors = unit_rows(20, 5, 26)
    found = facility_location(pool(vectors), 6, similarity=kind)
    moved = facility_location(pool(vectors[order]), 6, similarity=kind)
    assert [order[i] for i in moved.order] == found.order.tolist()
    assert moved.gain.tolist() == found.gain.tolist()


def test_a_larger_budget_holds_the_smaller_choice_and_copies_add_nothing():
    vectors = unit_rows(12, 4, 2)
    found = facility_location(pool(vectors), 12)
    assert facility_location(pool(vectors), 5).order.tolist() == found.order[:5].tolist()
    doubled = facility_location(pool(np.concatenate([vectors, vectors])), 24)
    assert doubled.order[:12].tolist() == found.order.tolist()
    assert doubled.gain[:12] == pytest.approx(2 * found.gain)
    assert doubled.order[12:].tolist() == list(range(12, 24)) and not doubled.gain[12:].any()


# --- sampled


def test_how_many_rows_a_sampled_pick_looks_at():
    assert sample_size(1000, 50, 0.01) == 93
    assert sample_size(10, 9, 0.9) == 1 and sample_size(10, 1, 1e-9) == 10


def test_sampled_picks_go_by_the_seed_and_take_the_best_of_what_is_drawn(monkeypatch):
    vectors = unit_rows(100, 4, 5)
    found = facility_location(pool(vectors), 30, seed=1, epsilon=0.2)
    assert found.order.tolist() == facility_location(pool(vectors), 30, seed=1, epsilon=0.2).order.tolist()
    assert found.order.tolist() != facility_location(pool(vectors), 30, seed=2, epsilon=0.2).order.tolist()
    exact = facility_location(pool(vectors), 30)
    assert 0.9 * exact.gain.sum() < found.gain.sum() < exact.gain.sum()
    s, rng, slow = in_steps(vectors, "cosine"), np.random.default_rng(1), []
    for _ in range(30):
        rest = [j for j in range(100) if j not in slow]
        drawn = sorted(rng.choice(np.array(rest), 6, replace=False).tolist())
        slow.append(max(drawn, key=lambda j: (value(s, [*slow, j]), -j)))
    assert found.order.tolist() == slow
    monkeypatch.setattr(maximise, "CACHE_BYTES", 0)
    assert facility_location(pool(vectors), 30, seed=1, epsilon=0.2).order.tolist() == slow
    assert facility_location(pool(vectors), 30, epsilon=1e-30).order.tolist() == exact.order.tolist()


# --- at scale: the sparse graph and the shards


@settings(deadline=None)
@given(exact_rows(), st.integers(1, 10), st.sampled_from(KINDS))
def test_the_graph_of_all_neighbours_gives_the_exact_choice(vectors, budget, kind):
    found = facility_location(pool(vectors), budget, similarity=kind, method="sparse", neighbours=20)
    exact = facility_location(pool(vectors), budget, similarity=kind)
    assert found.order.tolist() == exact.order.tolist() and found.gain.tolist() == exact.gain.tolist()
    assert found.nearest[0] == -1 and all(n in found.order[:i] for i, n in enumerate(found.nearest) if i)


def coarse_products(vectors):
    grid = np.rint(vectors.astype(np.float64) * columns.COARSE)
    return grid @ grid.T


@pytest.mark.parametrize("side", [5, 64, 1024])
def test_the_graph_joins_rows_of_which_either_is_among_the_nearest_of_the_other(side, monkeypatch):
    monkeypatch.setattr(columns, "SIDE", side)
    vectors = np.concatenate([unit_rows(70, 5, 7), unit_rows(10, 5, 7)])  # the first ten twice: ties
    start, other = columns.neighbour_graph(vectors, 6)
    products = coarse_products(vectors)
    listed = [sorted(range(80), key=lambda j, i=i: (j == i, -products[i, j], j))[:6] for i in range(80)]
    for i in range(80):
        joined = {i, *listed[i], *(j for j in range(80) if i in listed[j])}
        assert sorted(other[start[i] : start[i + 1]].tolist()) == sorted(joined)


def test_coarse_products_are_exact_in_float32():
    """Rows of the greatest length that is let pass, against whole numbers."""
    vectors = unit_rows(50, 384, 8) * np.float32(1.0049)
    grid = np.rint(vectors * np.float32(columns.COARSE))
    scaled = grid * np.float32(2.0**-12)
    whole = grid.astype(np.int64) @ grid.astype(np.int64).T
    assert np.array_equal((scaled @ scaled.T).astype(np.float64) * 2.0**24, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_the_choice_on_a_graph_is_the_plain_greedy_one_on_it(kind):
    vectors = unit_rows(60, 6, 9)
    start, other = columns.neighbour_graph(vectors, 5)
    s = np.zeros((60, 60))
    for i in range(60):
        joined = other[start[i] : start[i + 1]]
        s[i, joined] = in_steps(vectors, kind)[i, joined]
    found = facility_location(pool(vectors), 40, similarity=kind, method="sparse", neighbours=5)
    assert found.order.tolist() == plain_greedy(s, 40)
    assert found.reason[0].endswith("of 60 (rows count with their 5 nearest only)")


def test_shards_hand_on_their_choices_and_the_best_of_them_are_taken(monkeypatch):
    vectors = unit_rows(100, 6, 10)
    monkeypatch.setattr(maximise, "SHARD", 30)
    monkeypatch.setattr(maximise, "HANDED", 32)
    found = facility_location(pool(vectors), 10, seed=3, method="greedi")
    handed = []
    for shard in np.array_split(np.random.default_rng(3).permutation(100), 4):
        rows = np.sort(shard)
        handed += rows[facility_location(pool(vectors[rows]), 8).order].tolist()
    handed.sort()
    s, slow = in_steps(vectors, "cosine"), []
    for _ in range(10):
        slow.append(max((j for j in handed if j not in slow), key=lambda j: (value(s, [*slow, j]), -j)))
    assert found.order.tolist() == slow
    assert found.gain.sum() == pytest.approx(value(similar(vectors, "cosine"), slow), abs=1e-4)
    assert found.reason[0].endswith("of 100 (chosen among 32 rows that 4 shards handed on)")
    assert found.order.tolist() == facility_location(pool(vectors), 10, seed=3, method="greedi").order.tolist()
    monkeypatch.setattr(maximise, "JUDGED_BYTES", 4 * 32 * 40)
    judged = facility_location(pool(vectors), 10, seed=3, method="greedi")
    assert judged.reason[0].endswith("; sums estimated from 40 of 100 rows)")
    exact = facility_location(pool(vectors), 10, method="exact").gain.sum()
    assert judged.gain.sum() == pytest.approx(exact, rel=0.15)


def test_the_way_goes_by_the_size():
    assert maximise.way_for(16_384, 10, 64) == "exact"
    assert maximise.way_for(200_000, 10_000, 64) == "sparse"
    assert maximise.way_for(200_000, 500, 64) == maximise.way_for(16_385, 63, 64) == "greedi"
    assert maximise.way_for(16_385, 65, 64) == "sparse"


def test_both_ways_lose_little():
    """Clustered rows: the sum over the pool against that of the exact greedy choice."""
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(30, 16))[rng.integers(30, size=900)] + 0.7 * rng.normal(size=(900, 16))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    s = similar(vectors, "cosine")
    exact = value(s, facility_location(pool(vectors), 90).order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maximise, "SHARD", 200)
        shards = value(s, facility_location(pool(vectors), 90, method="greedi").order)
    graph = value(s, facility_location(pool(vectors), 90, method="sparse", neighbours=40).order)
    assert shards > 0.98 * exact and graph > 0.98 * exact


@pytest.mark.parametrize("method", ["sparse", "greedi"])
def test_edges_of_both_ways(method, monkeypatch):
    monkeypatch.setattr(maximise, "SHARD", 2)
    assert facility_location(pool(np.empty((0, 4))), 3, method=method).order.tolist() == []
    assert facility_location(pool([[0.6, 0.8]]), 5, method=method).order.tolist() == [0]
    equal = facility_location(pool([[0, 1, 0]] * 5), 3, method=method)
    assert equal.gain == pytest.approx([5, 0, 0]) and len(set(equal.order.tolist())) == 3
    assert sorted(facility_location(pool(unit_rows(7)), 99, method=method).order.tolist()) == list(range(7))


# --- Superfiltering.D


def test_superfiltering_d_thins_the_top_of_the_scores():
    """Of ten rows the five best by score; among them the three that stand for the others."""
    vectors, score = unit_rows(10, 4, 6), [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.95, 0.6, 0.0, 0.5]
    found = superfiltering_d(pool(vectors, score), 3, first=0.5)
    top = [1, 3, 5, 6, 7]
    inner = facility_location(pool(vectors[top]), 3, similarity="euclidean")
    assert found.order.tolist() == [top[i] for i in inner.order]
    assert found.gain.tolist() == inner.gain.tolist()
    assert found.nearest.tolist() == [-1, *(top[i] for i in inner.nearest[1:])]
    assert set(found.refused) == {0, 2, 4, 8, 9}
    assert found.refused[9] == "score 0.5, not among the 5 of 10 rows with the highest scores"
    best = top[inner.order[0]]
    assert found.reason[0] == (
        f"score {score[best]:.6g}, among the 5 of 10 rows with the highest scores; {inner.reason[0]}"
    )
    assert superfiltering_d(pool(vectors, score), 3, first=5).order.tolist() == found.order.tolist()


def test_superfiltering_d_looks_at_no_fewer_rows_than_the_budget_and_at_no_more_than_there_are():
    vectors, score = unit_rows(10, 4, 6), np.arange(10.0)
    found = superfiltering_d(pool(vectors, score), 4)  # a fifth of ten rows is two
    assert sorted(found.order.tolist()) == [6, 7, 8, 9] and len(found.refused) == 6
    assert superfiltering_d(pool(vectors, score), 99, first=50).order.size == 10
    everything = superfiltering_d(pool(vectors, score), 4, first=1.0, similarity="cosine")
    assert everything.order.tolist() == facility_location(pool(vectors), 4).order.tolist() and not everything.refused


def test_superfiltering_d_takes_ties_of_the_score_by_index():
    found = superfiltering_d(pool(unit_rows(6), [1.0] * 6), 2, first=2)
    assert sorted(found.order.tolist()) == [0, 1]


# --- edges


@pytest.mark.parametrize("kind", KINDS)
def test_edges(kind):
    for select in (facility_location, superfiltering_d):
        empty = select(pool(np.empty((0, 4)), []), 3, similarity=kind)
        assert empty.order.tolist() == [] and empty.order.dtype == np.int64 == empty.nearest.dtype
        assert select(pool(unit_rows(3), [1, 2, 3]), 0, similarity=kind).order.tolist() == []
        one = select(pool([[0.6, 0.8]], [1]), 5, similarity=kind)
        assert one.order.tolist() == [0] and one.gain == pytest.approx([1.0]) and one.nearest.tolist() == [-1]
        everything = {"first": 1.0} if select is superfiltering_d else {}
        equal = select(pool([[0, 1, 0]] * 5, [1] * 5), 3, similarity=kind, **everything)
        assert equal.order.tolist() == [0, 1, 2] and equal.gain == pytest.approx([5, 0, 0])
        assert sorted(select(pool(unit_rows(6), range(6)), 99, similarity=kind).order.tolist()) == list(range(6))


def test_a_row_of_zeros_is_like_nothing():
    found = facility_location(pool([[0, 0], [1, 0], [1, 0]]), 3)
    assert found.order.tolist() == [1, 0, 2] and found.gain.tolist() == [2, 0, 0]


def test_wrong_parameters_are_named():
    candidates = pool(unit_rows(3), [1, 2, 3])
    wrong = [
        {"method": "fast"},
        {"neighbours": 0},
        {"similarity": "dot"},
        {"epsilon": 0},
        {"epsilon": 1.5},
        {"first": 0},
        {"first": 1.5},
        {"first": True},
    ]
    for parameters in wrong:
        with pytest.raises(ValueError, match=next(iter(parameters))):
            superfiltering_d(candidates, 1, **parameters)
    with pytest.raises(ValueError, match="epsilon samples the exact way only"):
        facility_location(candidates, 1, epsilon=0.1, method="sparse")
    with pytest.raises(ValueError, match="budget must not be negative"):
        facility_location(candidates, -1)
    with pytest.raises(ValueError, match="facility_location: a candidate has no vector"):
        facility_location(pool([[1, 0], [np.nan, 0]]), 1)
    with pytest.raises(ValueError, match="unit length"):
        facility_location(pool([[1, 1]]), 1)
    with pytest.raises(ValueError, match="facility_location needs vectors"):
        facility_location(Candidates(pl.Series(["a"])), 1)
    with pytest.raises(ValueError, match="superfiltering_d needs score"):
        superfiltering_d(pool([[1, 0]]), 1)
