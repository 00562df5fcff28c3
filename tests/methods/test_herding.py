"""Herding and reverse semantic search: worked examples, plain re-statements as oracles, edges."""

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import herding
from methods.diversity.herding import SELECTORS, herding_greedy, least_similar, reverse_semantic_search
from methods.kinds import Candidates
from methods.numerics.similarity import cosines


def pool(vectors):
    vectors = np.array(vectors, dtype=np.float32)
    return Candidates(pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String), vectors=vectors)


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


LINE = [[0], [1], [2], [10]]
TURNS = [[1, 0], [0.8, 0.6], [0, 1], [-1, 0]]
CLOUD = unit_rows(300, 8, seed=5)


def test_both_are_listed_under_the_specification_s_names():
    assert [s.id for s in SELECTORS] == ["herding_greedy", "reverse_semantic_search"]
    assert all(s.select(pool(unit_rows(5)), 3, 0, **s.params).order.size == 3 for s in SELECTORS)


@pytest.mark.parametrize("select", [herding_greedy, reverse_semantic_search])
def test_edges(select):
    empty = select(pool(np.empty((0, 3))), 5)
    assert empty.order.size == empty.gain.size == len(empty.reason) == 0
    assert select(pool(TURNS), 0).order.size == 0
    one = select(pool([[0.6, 0.8]]), 7)
    assert one.order.tolist() == [0] and np.isnan(one.gain).all() and one.nearest.tolist() == [-1]
    alike = select(pool([[0.6, 0.8]] * 5), 9)
    assert alike.order.tolist() == [0, 1, 2, 3, 4]  # all is tied: by index
    assert np.allclose(alike.gain[1:], 0, atol=1e-6) and alike.nearest.tolist() == [-1, 0, 0, 0, 0]
    assert sorted(select(pool(TURNS), 99).order.tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="must not be negative"):
        select(pool(TURNS), -1)
    with pytest.raises(ValueError, match="needs vectors"):
        select(Candidates(pl.Series(["a"])), 1)
    with pytest.raises(ValueError, match="has no vector"):
        select(pool([[1, 0], [np.nan, 0]]), 1)
    with pytest.raises(ValueError, match="has no vector"):  # in a later block of rows
        select(pool([*[[1, 0]] * herding.BLOCK, [np.nan, 0]]), 1)


@pytest.mark.parametrize("select", [herding_greedy, reverse_semantic_search])
def test_the_choice_does_not_depend_on_how_the_work_is_cut(select, monkeypatch):
    rows = np.concatenate([CLOUD, CLOUD[:40]])  # copies: many ties
    whole = select(pool(rows), 60)
    monkeypatch.setattr(herding, "TILE", 37)
    monkeypatch.setattr(herding, "LOOK_AHEAD", 3)
    cut = select(pool(rows), 60)
    assert cut.order.tolist() == whole.order.tolist() and cut.nearest.tolist() == whole.nearest.tolist()
    assert np.array_equal(cut.gain, whole.gain, equal_nan=True)
    assert select(pool(rows), 25).order.tolist() == whole.order[:25].tolist()  # a larger budget holds the smaller


# --- herding


def herded(rows, budget, pick=min):
    """The printed algorithm in whole fractions; ``pick=max`` is what DeepCore's code does."""
    rows = [[Fraction(float(x)) for x in row] for row in rows]
    dims = range(len(rows[0]))
    mean = [sum(row[k] for row in rows) / len(rows) for k in dims]
    order = []
    while len(order) < min(budget, len(rows)):
        away = {}
        for i in range(len(rows)):
            if i not in order:
                chosen = [rows[j] for j in [*order, i]]
                away[i] = sum((mean[k] - sum(row[k] for row in chosen) / len(chosen)) ** 2 for k in dims)
        best = pick(away.values())
        order.append(next(i for i in away if away[i] == best))
    return order


def test_herding_on_a_line():
    found = herding_greedy(pool(LINE), 3)
    assert found.order.tolist() == [2, 1, 3]
    assert found.nearest.tolist() == [-1, 2, 2]
    # the mean 3.25 is 1.25 from 2, 1.75 from (2 + 1) / 2, 1.0833 from (2 + 1 + 10) / 3
    assert np.isnan(found.gain[0]) and found.gain[1:] == pytest.approx([-0.5, 1.75 - 13 / 12], abs=1e-7)
    assert found.reason[0] == "first row: 1.2500 from the mean of the pool"
    assert found.reason[2] == "the mean of the chosen rows is now 1.0833 from the pool's, 1.7500 before"


def test_deepcore_takes_the_row_that_leads_farthest_away_and_we_do_not():
    assert herded(LINE, 3, pick=max) == [3, 2, 1]  # the defect: argmax in the place of argmin
    assert herded(LINE, 3) == herding_greedy(pool(LINE), 3).order.tolist() == [2, 1, 3]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda d: st.lists(st.lists(st.integers(-4, 4), min_size=d, max_size=d), min_size=1, max_size=9)
    ),
    st.integers(0, 10),
)
def test_herding_is_the_printed_algorithm(rows, budget):
    assert herding_greedy(pool(rows), budget).order.tolist() == herded(rows, budget)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=2), min_size=2, max_size=8), st.integers(-8, 8))
def test_herding_knows_no_unit_of_length(rows, power):
    small = herding_greedy(pool(rows), 6)
    large = herding_greedy(pool(np.array(rows) * 2.0**power), 6)
    assert small.order.tolist() == large.order.tolist()
    assert np.allclose(small.gain * 2.0**power, large.gain, rtol=1e-6, atol=1e-7 * 2.0**power, equal_nan=True)


def test_herding_comes_nearer_to_the_mean_than_chance():
    mean = CLOUD.mean(axis=0)
    herd = np.linalg.norm(CLOUD[herding_greedy(pool(CLOUD), 30).order].mean(axis=0) - mean)
    rng = np.random.default_rng(0)
    drawn = [np.linalg.norm(CLOUD[rng.choice(300, 30, replace=False)].mean(axis=0) - mean) for _ in range(50)]
    assert herd < min(drawn) / 3
    every = herding_greedy(pool(CLOUD), 300)
    assert sorted(every.order.tolist()) == list(range(300))
    assert np.nansum(every.gain) == pytest.approx(np.linalg.norm(CLOUD[every.order[0]] - mean), abs=1e-6)


def test_the_nearest_row_is_that_of_a_plain_search():
    found = herding_greedy(pool(CLOUD), 40)
    for t in range(1, 40):
        away = np.linalg.norm(CLOUD[found.order[:t]].astype(float) - CLOUD[found.order[t]], axis=1)
        assert found.nearest[t] == found.order[int(away.argmin())]


# --- reverse semantic search


def searched(rows, budget, all_pairs=True):
    near = cosines(rows, rows)
    n = len(rows)
    if n == 1:
        return [0][:budget]
    if all_pairs:
        order = list(min(((i, j) for i in range(n) for j in range(i + 1, n)), key=lambda p: (near[p], p)))
    else:
        mean = rows.astype(np.float64).mean(axis=0)
        first = int(np.argmin(np.round(rows @ mean, 6)))
        order = [first, min((j for j in range(n) if j != first), key=lambda j: (near[first, j], j))]
    while len(order) < min(budget, n):
        order.append(min((i for i in range(n) if i not in order), key=lambda i: (near[i, order].max(), i)))
    return order[:budget]


def test_reverse_search_of_the_specification():
    found = reverse_semantic_search(pool(TURNS), 3)
    assert found.order.tolist() == [0, 3, 2]
    assert found.nearest.tolist() == [-1, 0, 0]
    assert np.isnan(found.gain[0]) and found.gain[1:].tolist() == [2.0, 1.0]
    assert found.reason == [
        "one of the two least similar rows of the pool",
        "cosine -1.0000 to the most similar row chosen before, r0",
        "cosine 0.0000 to the most similar row chosen before, r0",
    ]
    assert reverse_semantic_search(pool(TURNS), 1).order.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(2, 4), st.integers(0, 10**6), st.integers(0, 14), st.booleans())
def test_reverse_search_is_the_plain_one(n, d, seed, budget, copies):
    rows = unit_rows(n, d, seed)
    if copies:
        rows = rows[np.random.default_rng(seed).integers(n, size=n)]
    assert reverse_semantic_search(pool(rows), budget).order.tolist() == searched(rows, budget)


def test_a_larger_pool_starts_from_its_mean():
    rows = CLOUD[:60]
    found = reverse_semantic_search(pool(rows), 12, exact_up_to=59)
    assert found.order.tolist() == searched(rows, 12, all_pairs=False)
    assert found.reason[0] == "farthest from the mean of the pool"
    assert reverse_semantic_search(pool(rows), 12, exact_up_to=60).order.tolist() == searched(rows, 12)


# 1 is opposite to 2, and 0 to the last: the tie goes to 0, whose partner stands in a later block
CROSS = np.array([[1, 0], [0, 1], [0, -1], *[[0.8, 0.6]] * 40, [-1, 0]], dtype=np.float32)


@pytest.mark.parametrize("rows", [CROSS, CLOUD, np.tile(CLOUD[:3], (40, 1)), np.tile(CLOUD[:1], (50, 1))])
def test_the_pair_is_the_first_of_least_cosine_for_every_block(rows):
    near = cosines(rows, rows)
    near[np.tril_indices(len(rows))] = np.inf
    pair = divmod(int(near.argmin()), len(rows))
    assert [least_similar(herding._Products(rows), block) for block in (1, 7, 64, 4096)] == [pair] * 4


def test_signs_of_the_axes_and_their_order_do_not_matter():
    turned = CLOUD[:, ::-1] * np.array([1, -1] * 4, dtype=np.float32)
    for select in (herding_greedy, reverse_semantic_search):
        assert select(pool(CLOUD), 40).order.tolist() == select(pool(turned), 40).order.tolist()
