"""Pruning by perplexity: the ten values of the definition, against a slow count of ranks, ties and edges."""

import inspect

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Candidates
from methods.selection.bands import SELECTORS, ppl_prune
from methods.selection.recipe import Score

TEN = [50.0, 3.0, 8.0, 21.0, 1.0, 99.0, 13.0, 2.0, 5.0, 34.0]
"""Ranks 9 3 5 7 1 10 6 2 4 8."""
RANKS = np.argsort(np.argsort(TEN)) + 1


def pool(score):
    return Candidates(
        pl.Series([f"r{i}" for i in range(len(score))], dtype=pl.String), score=np.array(score, dtype=np.float64)
    )


def test_the_record_fits_its_function():
    (selector,) = SELECTORS
    named = list(inspect.signature(selector.select).parameters.values())[3:]
    assert {p.name: p.default for p in named} == dict(selector.params)
    assert all(f"`{name}`" in inspect.getdoc(selector.select) for name in selector.params)


@pytest.mark.parametrize(("band", "ranks"), [("low", [1, 2]), ("mid", [5, 6]), ("high", [10, 9])])
def test_ten_values(band, ranks):
    by_budget = ppl_prune(pool(TEN), 2, band=band)
    assert RANKS[by_budget.order].tolist() == ranks
    assert by_budget.gain.tolist() == [TEN[i] for i in by_budget.order]
    by_rate = ppl_prune(pool(TEN), 9, band=band, rate=0.2)
    assert sorted(RANKS[by_rate.order]) == sorted(ranks)
    assert set(by_rate.refused) == set(range(10)) - set(by_rate.order.tolist())
    assert "inside" in by_rate.reason[0] and "outside" in next(iter(by_rate.refused.values()))


def test_middle_first():
    assert RANKS[ppl_prune(pool(TEN), 5).order].tolist() == [5, 6, 4, 7, 3]  # equally far: the lower
    assert RANKS[ppl_prune(pool(TEN[:9]), 1).order].tolist() == [5]  # of nine values, 8 is the fifth


@settings(deadline=None)
@given(st.integers(1, 40), st.data(), st.sampled_from(["low", "mid", "high"]), st.integers(0, 9))
def test_different_values_fill_the_budget(n, data, band, seed):
    budget = data.draw(st.integers(0, n))
    score = np.random.default_rng(seed).permutation(n) * 0.1
    found = ppl_prune(pool(score), budget, band=band)
    ranks = np.sort(np.argsort(np.argsort(score))[found.order] + 1)
    first = {"low": 0, "mid": (n - budget) // 2, "high": n - budget}[band]
    assert len(ranks) == budget and len(found.refused) == n - budget
    # the middle of an odd rest may lie one rank off either way
    assert ranks.tolist() == list(range(ranks[0], ranks[0] + budget)) if budget else True
    assert not budget or abs(ranks[0] - 1 - first) <= (band == "mid")


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 8), max_size=30),
    st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]),
    st.sampled_from(["low", "mid", "high"]),
    st.integers(0, 30),
)
def test_ranks_against_a_slow_count(values, rate, band, budget):
    n = len(values)
    low, high = {"low": (0, rate), "mid": (0.5 - rate / 2, 0.5 + rate / 2), "high": (1 - rate, 1)}[band]
    place = [sum(other <= value for other in values) for value in values]
    inside = {i for i in range(n) if low * n + 1e-9 < place[i] <= high * n + 1e-9}
    found = ppl_prune(pool(values), budget, seed=3, rate=rate, band=band)
    taken = found.order.tolist()
    assert len(set(taken)) == len(taken) == min(budget, len(inside)) and set(taken) <= inside
    assert set(found.refused) == set(range(n)) - inside


@pytest.mark.parametrize("scale", [lambda x: x, np.log, lambda x: 3 * x - 100])
@pytest.mark.parametrize("band", ["low", "mid", "high"])
def test_the_scale_does_not_matter(scale, band):
    plain, scaled = ppl_prune(pool(TEN), 3, band=band), ppl_prune(pool(scale(np.array(TEN))), 3, band=band)
    assert plain.order.tolist() == scaled.order.tolist()


def test_the_score_that_the_docstring_names_is_not_turned():
    from methods import catalog

    frame = pl.DataFrame({"row_id": [str(i) for i in range(10)], "perplexity": TEN})
    score = Score({"perplexity": 1.0}, directions={"perplexity": "higher"})
    value = score.of(frame, {"perplexity": catalog.indicator("perplexity")})["value"].to_numpy()
    assert RANKS[ppl_prune(pool(value), 2, band="low").order].tolist() == [1, 2]


def test_equal_values():
    for band, taken in (("low", [0, 1]), ("mid", [2, 3]), ("high", [0, 1])):
        assert ppl_prune(pool([7] * 6), 2, band=band).order.tolist() == taken
        at_a_rate = ppl_prune(pool([7] * 6), 2, band=band, rate=0.4).order
        assert len(at_a_rate) == (2 if band == "high" else 0)  # all stand at share 1
    assert ppl_prune(pool([1, 2, 2, 3]), 2, band="high").order.tolist() == [3, 1]


def test_a_rate_is_sampled_as_a_whole():
    found = [ppl_prune(pool(range(100)), 10, seed, rate=0.5, band="low").order.tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert max(found[0]) < 50 and max(found[0]) - min(found[0]) > 9
    assert ppl_prune(pool(range(100)), 20, 0, rate=0.5, band="low").order.tolist()[:10] == found[0]


@pytest.mark.parametrize("band", ["low", "mid", "high"])
@pytest.mark.parametrize("rate", [None, 0.5])
@pytest.mark.parametrize(("n", "budget"), [(0, 0), (0, 3), (1, 0), (1, 5), (4, 0)])
def test_edges(band, rate, n, budget):
    found = ppl_prune(pool(range(n)), budget, rate=rate, band=band)
    assert len(found.order) == len(found.gain) == len(found.reason) <= min(n, budget)
    assert found.order.dtype == np.int64 and found.gain.dtype == np.float64
    if rate is None:
        assert len(found.order) == min(n, budget)


def test_wrong_parameters_are_named():
    for wrong in ({"band": "middle"}, {"rate": 0}, {"rate": 1.5}, {"rate": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ppl_prune(pool(TEN), 2, **wrong)
    with pytest.raises(ValueError, match="budget"):
        ppl_prune(pool(TEN), -1)
    with pytest.raises(ValueError, match="needs score"):
        ppl_prune(Candidates(pl.Series(["a"])), 1)
    with pytest.raises(ValueError, match="NaN"):
        ppl_prune(pool([1, float("nan")]), 1)
