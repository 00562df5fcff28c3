"""Bands, strata of the score and quotas for groups: by hand, against brute force, and at the edges."""

import inspect
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Candidates, Selector
from methods.selection.quotas import SELECTORS

BY_ID = {s.id: s for s in SELECTORS}


def pool(score=None, groups=None):
    n = len(score if score is not None else groups)
    return Candidates(
        pl.Series([f"r{i}" for i in range(n)], dtype=pl.String),
        score=None if score is None else np.array(score, dtype=np.float64),
        groups=None if groups is None else pl.Series(groups, dtype=pl.String),
    )


def chosen(method, candidates, budget, seed=0, **params):
    return BY_ID[method].select(candidates, budget, seed, **params)


def order(method, candidates, budget, seed=0, **params):
    return chosen(method, candidates, budget, seed, **params).order.tolist()


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda s: s.id)
def test_a_selector_says_what_it_is(selector):
    assert isinstance(selector, Selector)
    assert all((selector.title, selector.equation, selector.paper, selector.meaning, selector.section, selector.needs))
    named = list(inspect.signature(selector.select).parameters.values())[3:]
    assert {p.name: p.default for p in named} == dict(selector.params)
    says = inspect.getdoc(selector.select)
    assert all(f"`{name}`" in says for name in selector.params)


@pytest.mark.parametrize("method", sorted(BY_ID))
@pytest.mark.parametrize(("n", "budget"), [(0, 0), (0, 5), (1, 0), (1, 1), (1, 9), (6, 0), (6, 4), (6, 6), (6, 50)])
def test_edges(method, n, budget):
    for scores in ([1.0] * n, list(range(n)), [np.inf, -np.inf] * (n // 2) + [0.0] * (n % 2)):
        found = chosen(method, pool(scores, ["a"] * n), budget)
        able = int(np.isfinite(scores).sum()) if method == "select_band" else n
        assert len(found.order) == len(found.gain) == len(found.reason) == min(able, budget)
        assert len(set(found.order.tolist())) == len(found.order)
        assert found.order.dtype == np.int64 and found.gain.dtype == np.float64
        assert not set(found.refused) & set(found.order.tolist())
    with pytest.raises(ValueError, match="must not be negative"):
        chosen(method, pool([1.0] * n, ["a"] * n), -1)


@pytest.mark.parametrize(("method", "missing"), [("select_band", "score"), ("stratified_by_score", "score")])
def test_a_missing_score_is_an_error(method, missing):
    with pytest.raises(ValueError, match=f"{method} needs {missing}"):
        chosen(method, pool(groups=["a"]), 1)
    with pytest.raises(ValueError, match="NaN"):
        chosen(method, pool([1.0, np.nan]), 1)


# --- bands -----------------------------------------------------------------------------------------------------------
TEN = pool([5, 9, 1, 7, 3, 2, 8, 6, 4, 0])


def test_a_target_takes_the_nearest_first_and_ties_by_index():
    assert order("select_band", TEN, 4, target=5) == [0, 7, 8, 3]  # 5, then 6 and 4, then 7 before 3
    found = chosen("select_band", TEN, 2, target=5)
    assert found.gain.tolist() == [0, -1] and found.refused == {}
    assert found.reason == ["score 5, 0 from the middle 5", "score 6, 1 from the middle 5"]


def test_bounds_are_closed_and_refuse_with_a_reason():
    found = chosen("select_band", TEN, 9, low=2, high=5)
    assert found.order.tolist() == [4, 8, 0, 5]  # 3 and 4 are .5 from 3.5, then 5 and 2
    assert found.refused[1] == "score 9, outside [2, 5]" and len(found.refused) == 6
    assert order("select_band", TEN, 3, low=2, high=5, target=2) == [5, 4, 8]
    assert chosen("select_band", TEN, 1, low=9.5).order.tolist() == []
    assert chosen("select_band", TEN, 1, high=3).refused[0] == "score 5, outside [-inf, 3]"


def test_one_bound_or_none_takes_the_median_of_what_is_inside():
    assert order("select_band", TEN, 2, low=5) == [3, 6]  # 5..9: 7, then 8 (before 6)
    assert order("select_band", TEN, 2) == [0, 8]  # median 4.5


def test_percentiles_are_shares_of_the_pool():
    scores = pool([10, 20, 20, 40])  # F = .25, .75, .75, 1
    assert order("select_band", scores, 4, low=0.5, high=1, unit="percentile") == [1, 2, 3]
    found = chosen("select_band", scores, 1, target=1.0, unit="percentile")
    assert found.order.tolist() == [3] and found.reason == ["score 40 at share 1, 0 from the middle 1"]
    # the middle fifth of ten rows: shares .4, .5, .6 in closed bounds; the middle first
    assert order("select_band", TEN, 9, low=0.4, high=0.6, unit="percentile") == [8, 0, 4]


def test_rounding_does_not_order_a_band():
    near = pool([0.1 + 0.2, 0.3])
    assert order("select_band", near, 2, target=0.3) == [0, 1]
    assert order("select_band", pool([1000.1, 999.9]), 2, target=1000) == [0, 1]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"unit": "rank"}, "unit must be value or percentile, got 'rank'"),
        ({"low": 3, "high": 2}, "low, target and high must be in this order, got low 3, high 2"),
        ({"low": 3, "target": 2}, "in this order"),
        ({"target": 50, "unit": "percentile"}, "shares from 0 to 1; target is 50"),
        ({"target": "mid"}, "target takes a finite number, got 'mid'"),
        ({"low": float("nan")}, "low takes a finite number"),
        ({"high": True}, "high takes a finite number"),
    ],
)
def test_a_band_refuses_nonsense(params, says):
    with pytest.raises(ValueError, match=says):
        chosen("select_band", TEN, 1, **params)


SCORES = st.lists(st.integers(-9, 9), max_size=20)


@settings(deadline=None)
@given(SCORES, st.integers(-9, 9), st.integers(0, 22))
def test_a_band_is_the_sorted_distance(scores, target, budget):
    found = chosen("select_band", pool(scores), budget, target=target)
    expected = sorted(range(len(scores)), key=lambda i: (abs(scores[i] - target), i))[:budget]
    assert found.order.tolist() == expected
    assert found.gain.tolist() == [-abs(scores[i] - target) for i in expected]
    assert order("select_band", pool(scores), budget + 3, target=target)[: len(expected)] == expected


# --- strata ----------------------------------------------------------------------------------------------------------
def test_strata_by_rank_take_the_best_of_each():
    assert order("stratified_by_score", TEN, 5, strata=5) == [1, 3, 0, 4, 2]  # 9, 7, 5, 3, 1
    found = chosen("stratified_by_score", TEN, 3, strata=2)
    assert found.order.tolist() == [1, 8, 6]  # 9 and 4, then 8
    assert found.gain.tolist() == [9, 4, 8]
    assert found.reason[2] == "2 of 2 from stratum 1 of 2 (5 rows), score 8"
    assert order("stratified_by_score", TEN, 2, strata=1) == [1, 6]


def test_strata_by_width_give_a_rare_score_its_weight():
    scores = pool([0, 0.1, 0.2, 0.3, 0.4, 0.5, 10, 4.9])
    # four strata of 2.5: [7.5, 10] 10; [2.5, 5) 4.9; [0, 2.5) the rest; nothing in [5, 7.5)
    assert order("stratified_by_score", scores, 3, strata=4, bins="width") == [6, 7, 5]
    assert order("stratified_by_score", scores, 6, strata=4, bins="width") == [6, 7, 5, 4, 3, 2]
    found = chosen("stratified_by_score", scores, 3, strata=4, bins="width")
    assert [r.split(" (")[0] for r in found.reason] == [
        "1 of 1 from stratum 1 of 4", "1 of 1 from stratum 3 of 4", "1 of 1 from stratum 4 of 4",
    ]  # fmt: skip
    by_size = order("stratified_by_score", scores, 4, strata=4, bins="width", allocation="proportional")
    assert sorted(by_size) == [3, 4, 5, 6]  # 3, .5 and .5 of 4: the tie goes to the higher stratum


def test_a_score_on_a_border_belongs_to_the_stratum_above():
    tenths = [i / 10 for i in range(11)]
    reasons = chosen("stratified_by_score", pool(tenths), 11, strata=10, bins="width").reason
    assert sum("(1 rows)" in r for r in reasons) == 9 and sum("(2 rows)" in r for r in reasons) == 2
    assert order("stratified_by_score", pool([3.0] * 4), 2, bins="width") == [0, 1]
    assert order("stratified_by_score", pool([0, np.inf, 1, -np.inf]), 2, strata=2, bins="width") == [1, 0]


def test_random_within_strata_is_seeded_and_covers_all_of_them():
    scores = pool(np.arange(100.0))
    one = order("stratified_by_score", scores, 10, seed=1, within="random")
    assert one == order("stratified_by_score", scores, 10, seed=1, within="random")
    assert one != order("stratified_by_score", scores, 10, seed=2, within="random")
    assert sorted(i // 10 for i in one) == list(range(10))
    firsts = [
        order("stratified_by_score", pool(np.arange(4.0)), 2, seed=s, strata=2, within="random") for s in range(400)
    ]
    assert np.allclose(np.mean(np.array(firsts) == [3, 1], axis=0), 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"strata": 0}, "strata must be a whole number from 1, got 0"),
        ({"strata": 2.5}, "strata must be"),
        ({"strata": True}, "strata must be"),
        ({"bins": "rank"}, "bins must be count or width"),
        ({"within": "worst"}, "within must be best or random"),
        ({"allocation": "fair"}, "allocation must be proportional or equal"),
    ],
)
def test_strata_refuse_nonsense(params, says):
    with pytest.raises(ValueError, match=says):
        chosen("stratified_by_score", TEN, 1, **params)


@settings(deadline=None)
@given(
    SCORES,
    st.integers(0, 25),
    st.integers(1, 12),
    st.sampled_from(["count", "width"]),
    st.sampled_from(["best", "random"]),
)
def test_strata_fill_the_budget_evenly_and_grow_with_it(scores, budget, strata, bins, within):
    params = {"strata": strata, "bins": bins, "within": within}
    found = order("stratified_by_score", pool(scores), budget, seed=3, **params)
    assert len(found) == len(set(found)) == min(budget, len(scores))
    assert set(found) <= set(order("stratified_by_score", pool(scores), budget + 4, seed=3, **params))
    if bins == "count" and within == "best":
        ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        parts = [part.tolist() for part in np.array_split(ranked, strata)]
        turns = [i for turn in itertools.zip_longest(*parts) for i in turn if i is not None]
        assert found == turns[:budget]  # going round is equal allocation


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=20, unique=True), st.integers(0, 22), st.randoms())
def test_shuffling_the_pool_shuffles_the_choice(scores, budget, rnd):
    shuffled = rnd.sample(range(len(scores)), len(scores))
    groups = [f"g{s % 3}" for s in scores]
    straight = pool(scores, groups)
    mixed = pool([scores[i] for i in shuffled], [groups[i] for i in shuffled])
    for method, params in (
        ("select_band", {"target": 0.25}),
        ("stratified_by_score", {"strata": 4}),
        ("stratified_by_score", {"strata": 4, "bins": "width"}),
        ("group_quota", {}),
    ):
        assert [shuffled[i] for i in order(method, mixed, budget, **params)] == order(
            method, straight, budget, **params
        )


# --- groups ----------------------------------------------------------------------------------------------------------
MIXED = pool(
    [5, 9, 1, 7, 3, 2, 8, 6, 4, 0], ["code", "chat", "code", "math", "chat", "chat", "chat", "math", "chat", "chat"]
)


def taken(candidates, budget, **params):
    found = chosen("group_quota", candidates, budget, **params)
    names = [candidates.groups[i] for i in found.order.tolist()]
    return {name: names.count(name) for name in sorted(set(names))}


def test_shares_and_counts_by_hand():
    # code 2 rows, math 2, chat 6; a tenth is a row of ten
    assert taken(MIXED, 10) == {"chat": 6, "code": 2, "math": 2}
    assert taken(MIXED, 5, quotas={"code": 0.4}) == {"chat": 2, "code": 2, "math": 1}  # 3 left: 2.25 and .75
    assert taken(MIXED, 5, quotas={"code": 1, "math": 1}) == {"chat": 3, "code": 1, "math": 1}
    assert taken(MIXED, 4, quotas={"chat": 1.0}) == {"chat": 4}
    assert taken(MIXED, 4, quotas={"chat": 1}, others=1) == {"chat": 1, "code": 1}  # .5 each: the first of the names
    assert taken(MIXED, 4, quotas={"chat": 0.5, "code": 0}, others=0) == {"chat": 2}


def test_the_best_of_each_group_in_proportion():
    found = chosen("group_quota", MIXED, 4, quotas={"chat": 0.75, "code": 0.25})
    assert found.order.tolist() == [1, 6, 8, 0]  # chat 9, 8, 4 at thirds, code 5 at the whole
    assert found.gain.tolist() == [9, 8, 4, 5]
    assert found.reason[0] == "1 of 3 from chat (its quota), score 9"


def test_a_group_that_runs_out_gives_its_places_away():
    found = chosen("group_quota", MIXED, 6, quotas={"code": 4, "math": 1, "chat": 1})
    said = {MIXED.groups[i]: reason for i, reason in zip(found.order.tolist(), found.reason, strict=True)}
    assert said["code"].startswith("2 of 2 from code (all it has, its quota is 4)")
    assert said["math"].startswith("2 of 2 from math (its quota 1 and 1 that others could not fill)")
    assert taken(MIXED, 6, quotas={"code": 4, "math": 1, "chat": 1}) == {"chat": 2, "code": 2, "math": 2}
    # first those that have a quota, then those that are not named
    assert taken(MIXED, 6, quotas={"code": 4, "math": 2}) == {"chat": 2, "code": 2, "math": 2}
    assert taken(MIXED, 6, quotas={"code": 4, "math": 2}, others=0) == {"code": 2, "math": 2}
    assert taken(MIXED, 6, quotas={"code": 6, "math": 0}) == {"chat": 4, "code": 2}


def test_rows_of_a_group_without_a_quota_are_refused():
    found = chosen("group_quota", MIXED, 3, quotas={"chat": 0, "code": 1.0})
    assert found.order.tolist() == [0, 2, 3]
    assert set(found.refused) == {1, 4, 5, 6, 8, 9} and found.refused[1] == "the quotas leave no place for chat"


def test_quotas_above_the_budget_are_cut_in_proportion():
    assert taken(MIXED, 3, quotas={"chat": 4, "math": 2}, others=0) == {"chat": 2, "math": 1}


def test_groups_without_a_score_are_drawn_by_seed():
    candidates = pool(groups=["a"] * 20 + ["b"] * 20)
    found = chosen("group_quota", candidates, 10, seed=3, quotas={"a": 0.2})
    assert (found.order < 20).sum() == 2 and np.isnan(found.gain).all()
    assert found.reason[0].endswith("drawn by chance")
    assert found.order.tolist() == order("group_quota", candidates, 10, seed=3, quotas={"a": 0.2})
    assert found.order.tolist() != order("group_quota", candidates, 10, seed=4, quotas={"a": 0.2})


def test_a_row_without_a_group_has_one_of_its_own():
    candidates = pool([1, 2, 3], [None, "a", None])
    assert chosen("group_quota", candidates, 1, quotas={"no group": 1.0}).order.tolist() == [2]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"quotas": {"cods": 1}}, "no candidate is of group 'cods'; the groups are chat, code, math"),
        ({"quotas": {"code": 1.5}}, "the quota of code is 1.5; a share is at most 1.0"),
        ({"quotas": {"code": -1}}, "the quota of code is -1; give a number of rows or a share"),
        ({"quotas": {"code": "30%"}}, "the quota of code is '30%'"),
        ({"quotas": {"code": True}}, "the quota of code is True"),
        ({"quotas": {"code": float("nan")}}, "the quota of code is nan"),
        ({"quotas": {"code": 0.6, "chat": 0.6}}, "the shares add up to 1.2"),
        ({"quotas": {"code": 0.6}, "others": 0.6}, "the shares add up to 1.2"),
        ({"others": "all"}, "the quota of others is 'all'"),
        ({"quotas": ["code"]}, "quotas must map groups to numbers"),
    ],
)
def test_quotas_refuse_nonsense(params, says):
    with pytest.raises(ValueError, match=says):
        chosen("group_quota", MIXED, 3, **params)


def test_groups_must_be_given():
    with pytest.raises(ValueError, match="group_quota needs groups: give each row's group"):
        chosen("group_quota", pool([1.0]), 1)
    assert order("group_quota", pool([], []), 3, quotas={"code": 0.5}) == []


AMOUNT = st.one_of(st.integers(0, 12), st.sampled_from([0.0, 0.1, 0.25, 1 / 3]))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from("abcd"), max_size=25),
    st.integers(0, 30),
    st.dictionaries(st.sampled_from("abc"), AMOUNT, max_size=3),
    st.one_of(st.none(), st.integers(0, 9)),
)
def test_quotas_are_kept_where_the_groups_have_the_rows(groups, budget, quotas, others):
    quotas = {name: amount for name, amount in quotas.items() if name in groups}
    candidates = pool(np.arange(len(groups), dtype=float), groups)
    found = taken(candidates, budget, quotas=quotas, others=others)
    budget = min(budget, len(groups))
    assert sum(found.values()) <= budget
    assert all(found[name] <= groups.count(name) for name in found)
    asked = {name: a * budget if isinstance(a, float) else a for name, a in quotas.items()}
    assert not any(found.get(name) for name, amount in asked.items() if amount == 0)
    if sum(asked.values()) + (others or 0) <= budget:
        for name, amount in asked.items():
            assert found.get(name, 0) >= min(int(amount + 1e-9), groups.count(name))
    able = [name for name in set(groups) if asked.get(name, 1) > 0]
    if others is None and set(groups) - set(quotas):  # nothing stays free while a row may be taken
        assert sum(found.values()) == min(budget, sum(groups.count(name) for name in able))
    for name in found:  # the best of each
        rows = [i for i, g in enumerate(groups) if g == name]
        picked = [
            i
            for i in chosen("group_quota", candidates, budget, quotas=quotas, others=others).order
            if groups[i] == name
        ]
        assert picked == sorted(rows, reverse=True)[: len(picked)]
