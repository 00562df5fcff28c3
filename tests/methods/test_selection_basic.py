"""The plain selectors: order, ties, quotas, draws, and the pools at the edge."""

from itertools import pairwise, permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Candidates, Selector
from methods.selection.basic import SELECTORS, at_most, best_first, largest_remainder, quotas

BY_ID = {s.id: s for s in SELECTORS}


def pool(score=None, clusters=None):
    n = len(score if score is not None else clusters)
    return Candidates(
        pl.Series([f"r{i}" for i in range(n)], dtype=pl.String),
        score=None if score is None else np.array(score, dtype=np.float64),
        clusters=None if clusters is None else np.array(clusters, dtype=np.int64),
    )


def chosen(method, candidates, budget, seed=0, **params):
    return BY_ID[method].select(candidates, budget, seed, **params)


def test_every_selector_says_what_it_is():
    for selector in SELECTORS:
        assert isinstance(selector, Selector)
        assert selector.title and selector.equation and selector.paper and selector.meaning and selector.section


@pytest.mark.parametrize("method", sorted(BY_ID))
@pytest.mark.parametrize(("n", "budget"), [(0, 0), (0, 5), (1, 0), (1, 1), (1, 9), (6, 0), (6, 4), (6, 6), (6, 50)])
def test_edges(method, n, budget):
    candidates = pool([1.0] * n, [0] * n)
    found = chosen(method, candidates, budget)
    assert len(found.order) == len(found.gain) == len(found.reason) == min(n, budget)
    assert len(set(found.order.tolist())) == len(found.order)
    assert found.order.dtype == np.int64 and found.gain.dtype == np.float64
    with pytest.raises(ValueError, match="must not be negative"):
        chosen(method, candidates, -1)


def test_top_k_goes_by_score_and_then_by_index():
    found = chosen("top_k", pool([2, 5, 5, 1, 9]), 4)
    assert found.order.tolist() == [4, 1, 2, 0]
    assert found.gain.tolist() == [9, 5, 5, 2]
    assert found.reason[0] == "rank 1 of 5 by score 9"


def test_rounding_does_not_order_rows_but_small_scores_do():
    assert best_first(np.array([0.3, 0.1 + 0.2])).tolist() == [0, 1]
    assert best_first(np.array([0.1 + 0.2, 0.3])).tolist() == [0, 1]
    assert best_first(np.array([1e-40, 3e-40, 2e-40])).tolist() == [1, 2, 0]
    assert best_first(np.array([-np.inf, np.inf, 0, np.inf])).tolist() == [1, 3, 2, 0]
    with pytest.raises(ValueError, match="NaN"):
        best_first(np.array([1, np.nan]))


@pytest.mark.parametrize("method", ["top_k", "gumbel_top_k", "select_threshold", "select_percentile"])
def test_a_missing_score_is_an_error_that_helps(method):
    with pytest.raises(ValueError, match="needs score: name at least one indicator"):
        chosen(method, pool(clusters=[0, 1]), 1)


def test_lengths_must_agree():
    candidates = Candidates(pl.Series(["a", "b"]), score=np.ones(3))
    with pytest.raises(ValueError, match="3 score do not fit 2"):
        chosen("top_k", candidates, 1)


@pytest.mark.parametrize("method", ["random", "top_k", "gumbel_top_k"])
def test_a_larger_budget_holds_the_smaller_choice(method):
    candidates = pool(np.random.default_rng(1).normal(size=40))
    small, large = (chosen(method, candidates, b, seed=5) for b in (7, 31))
    assert small.order.tolist() == large.order[:7].tolist()
    assert chosen(method, candidates, 7, seed=5).order.tolist() == small.order.tolist()


def test_random_is_fair_and_seeded():
    candidates = pool([0.0] * 5)
    first = [int(chosen("random", candidates, 1, seed=s).order[0]) for s in range(2000)]
    assert np.allclose(np.bincount(first, minlength=5) / 2000, 0.2, atol=0.04)
    assert np.isnan(chosen("random", candidates, 3).gain).all()


def test_gumbel_draws_with_softmax_probabilities():
    candidates = pool(np.log([1, 2, 5]))
    draws = np.array([chosen("gumbel_top_k", candidates, 2, seed=s).order for s in range(4000)])
    first = np.bincount(draws[:, 0], minlength=3) / 4000
    assert np.allclose(first, [1 / 8, 2 / 8, 5 / 8], atol=0.03)
    then = draws[draws[:, 0] == 2][:, 1]
    assert np.isclose((then == 1).mean(), 2 / 3, atol=0.04)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_gumbel_takes_each_row_with_its_probability(temperature):
    """Inclusion among b = 2 of 4, against the sum over all ordered draws without replacement from the softmax."""
    score = np.array([0.0, 0.5, 1.0, 2.0])
    weight = np.exp(score / temperature)
    exact = np.zeros(4)
    for first, then in permutations(range(4), 2):
        drawn = weight[first] / weight.sum() * weight[then] / (weight.sum() - weight[first])
        exact[[first, then]] += drawn
    assert exact.sum() == pytest.approx(2)
    runs = [chosen("gumbel_top_k", pool(score), 2, seed=s, temperature=temperature).order for s in range(4000)]
    found = np.bincount(np.concatenate(runs), minlength=4) / 4000
    assert np.abs(found - exact).max() < 4 * 0.5 / np.sqrt(4000)


def test_gumbel_at_the_ends_of_the_temperature():
    candidates = pool([1, 3, 2])
    assert chosen("gumbel_top_k", candidates, 3, temperature=0).order.tolist() == [1, 2, 0]
    assert chosen("gumbel_top_k", candidates, 3, temperature=1e-6).order.tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="temperature"):
        chosen("gumbel_top_k", candidates, 3, temperature=-1)


def test_threshold_and_percentile_selectors_refuse_with_a_reason():
    found = chosen("select_threshold", pool([0.5, 1.0, 0.9, 0.2]), 5, low=0.2, high=1)
    assert found.order.tolist() == [2, 0]
    assert found.refused == {1: "score 1 is outside (0.2, 1)", 3: "score 0.2 is outside (0.2, 1)"}
    found = chosen("select_percentile", pool([10, 20, 20, 40]), 2, low=0.5, high=0.75)
    assert found.order.tolist() == [1, 2]
    assert found.refused[0] == "score 10 stands at share 0.25, outside 0.5 to 0.75"


def test_the_top_fifth_is_strict_and_both_ends_of_a_pool_can_be_had():
    candidates = pool([3, 0, 9, 4, 7, 1, 8, 2, 6, 5])
    top = chosen("select_percentile", candidates, 10, low=0.8, high=1.0, inclusive=(False, True))
    assert top.order.tolist() == [2, 6]  # 9 and 8: exactly a fifth
    closed = chosen("select_percentile", candidates, 10, low=0.8, high=1.0)
    assert closed.order.tolist() == [2, 6, 4]  # the closed bound of the equation takes the row at .8 too
    trap = chosen("select_percentile", candidates, 10, low=1 - 0.9, high=1.0, inclusive=(False, True))
    assert len(trap.order) == 9  # 1 - .9 is a little less than .1; whole ranks are compared
    easy = chosen("select_percentile", candidates, 10, low=0.0, high=0.2)
    assert easy.order.tolist() == [5, 1]


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=25), st.integers(0, 10), st.integers(0, 10))
def test_adjoining_percentile_windows_share_no_row_and_miss_none(score, a, b):
    cuts = [0, *sorted((a / 10, b / 10)), 1]
    taken = []
    for low, high in pairwise(cuts):
        window = {"low": low, "high": high, "inclusive": (False, True)}
        taken += chosen("select_percentile", pool(score), len(score), **window).order.tolist()
    assert sorted(taken) == list(range(len(score)))


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        ([1, 1, 1], 4, [2, 1, 1]),
        ([3.5, 3.5, 2], 9, [4, 3, 2]),
        ([0.1, 0.7, 0.2], 10, [1, 7, 2]),
        ([5, 0], 3, [3, 0]),
        ([2, 3], 0, [0, 0]),
        ([], 0, []),
    ],
)
def test_largest_remainder(shares, total, expected):
    assert largest_remainder(np.array(shares, dtype=float), total).tolist() == expected


def test_quotas_by_hand():
    sizes = np.array([60, 30, 10])
    assert quotas(sizes, 10).tolist() == [6, 3, 1]
    assert quotas(sizes, 60, "equal").tolist() == [25, 25, 10]
    assert quotas(sizes, 61, "equal").tolist() == [26, 25, 10]
    assert quotas(sizes, 1000, "equal").tolist() == [60, 30, 10]
    with pytest.raises(ValueError, match="allocation"):
        quotas(sizes, 3, "fair")


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.integers(0, 400),
    st.sampled_from(["proportional", "equal"]),
)
def test_quotas_add_up_and_never_exceed_a_cluster(sizes, budget, allocation):
    found = quotas(np.array(sizes), budget, allocation)
    assert found.sum() == min(budget, sum(sizes))
    assert (found >= 0).all() and (found <= sizes).all()
    if allocation == "proportional":
        assert np.abs(found - np.array(sizes) * found.sum() / sum(sizes)).max() < 1
    else:
        full = found == sizes
        assert full.all() or found[~full].max() - found[~full].min() <= 1


def test_stratified_takes_the_best_of_each_cluster():
    candidates = pool([1, 9, 8, 7, 5, 6], [4, -1, -1, -1, 4, -1])
    found = chosen("stratified", candidates, 3)
    assert found.order.tolist() == [1, 4, 2]
    assert found.gain.tolist() == [9, 5, 8]
    assert found.reason[2] == "2 of 2 from cluster -1 (4 rows), score 8"
    assert chosen("stratified", candidates, 4, allocation="equal").order.tolist() == [1, 4, 2, 0]


def test_stratified_without_scores_draws_by_seed():
    candidates = pool(clusters=[0] * 20 + [1] * 20)
    found = chosen("stratified", candidates, 10, seed=3)
    assert (found.order < 20).sum() == 5
    assert found.order.tolist() == chosen("stratified", candidates, 10, seed=3).order.tolist()
    assert found.order.tolist() != chosen("stratified", candidates, 10, seed=4).order.tolist()
    assert found.reason[0].endswith("drawn by chance")
    with pytest.raises(ValueError, match="needs clusters"):
        chosen("stratified", pool([1.0]), 1)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=25, unique=True), st.integers(0, 30), st.randoms())
def test_shuffling_the_pool_shuffles_the_choice(score, budget, rnd):
    shuffled = list(range(len(score)))
    rnd.shuffle(shuffled)
    straight = pool(score, [s % 3 for s in score])
    mixed = pool([score[i] for i in shuffled], [score[i] % 3 for i in shuffled])
    for method in ("top_k", "stratified"):
        again = [shuffled[i] for i in chosen(method, mixed, budget).order]
        assert again == chosen(method, straight, budget).order.tolist()


def test_at_most():
    assert at_most(pool([1, 2]), 5) == 2
