"""Selectors that read several indicators: the definitions' rows by hand, slow counts as oracles, edges."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import catalog
from methods.kinds import Candidates
from methods.selection.voting import SELECTORS, bettermixture_voting, mods_union

VALUES = st.one_of(st.none(), st.sampled_from([-0.5, 0.0, 0.2, 0.4, 0.6, 0.9, 1.0, 1.3]), st.floats(0.01, 0.99))
TABLES = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.tuples(*[VALUES] * n), min_size=1, max_size=15).map(
        lambda rows: {f"m{i}": [row[i] for row in rows] for i in range(n)}
    )
)


def pool(values):
    """Candidates with these indicators; None is a row without a value."""
    columns = {name: np.array([np.nan if x is None else x for x in column]) for name, column in values.items()}
    rows = max((len(column) for column in values.values()), default=0)
    return Candidates(pl.Series([f"r{i}" for i in range(rows)], dtype=pl.String), values=columns)


def vote(values, budget, **params):
    return bettermixture_voting(pool(values), budget, voters=list(values), **params)


def two(base, experienced):
    return {"base": base, "experienced": experienced}


def test_both_are_listed_and_ask_for_values():
    assert [s.id for s in SELECTORS] == ["bettermixture_voting", "mods_union"]
    assert all(s.needs == ("values",) and s in catalog.SELECTORS for s in SELECTORS)
    given = pool({"ifd": [0.5], "ifd_experienced": [0.5], "mods_seed": [1], "reward_necessity": [None]})
    assert all(s.select(given, 1, 0, **s.params).order.tolist() == [0] for s in SELECTORS)


# --- BetterMixture


def test_two_votes_keep_and_one_drops():
    ifd = two([0.5, 0.5], [0.7, 1.2])  # votes (1, 1) and (1, 0)
    found = vote(ifd, 2, fill=False)
    assert found.order.tolist() == [0]
    assert found.refused == {1: "1 of 2 votes (base)"}
    assert found.reason == ["2 of 2 votes (base, experienced), mean rank 1.25 of 2"]
    # the union keeps both; a budget that is not filled takes the second after the first
    assert vote(ifd, 2, votes=1, fill=False).order.tolist() == [0, 1]
    filled = vote(ifd, 2)
    assert filled.order.tolist() == [0, 1] and filled.reason[1].endswith("filled in") and not filled.refused


def test_mean_ranks_by_hand():
    ifd = two([0.9, 0.8, 0.7, 1.5, None], [0.2, 0.6, 0.6, 0.9, 0.1])
    found = vote(ifd, 5)
    # base ranks 1 2 3 5 5, experienced 4 2.5 2.5 1 5: means 2.5 2.25 2.75 3 5; rows 3 and 4 have one vote
    assert found.order.tolist() == [1, 0, 2, 3, 4]
    assert found.gain.tolist() == [-2.25, -2.5, -2.75, -3, -5]
    assert vote(ifd, 2).order.tolist() == [1, 0]
    assert set(vote(ifd, 2).refused) == {3, 4}  # row 2 is left out by the budget alone


def test_the_band_is_open_and_its_ends_are_parameters():
    ifd = two([0.0, 0.3, 1.0, float("inf"), 0.5], [0.5, 0.5, 0.5, 0.5, float("nan")])
    assert vote(ifd, 5, fill=False).order.tolist() == [1]
    assert vote(ifd, 5, fill=False, tau_min=0.3).order.tolist() == []
    assert sorted(vote(ifd, 5, fill=False, tau_min=-1, below=2).order.tolist()) == [0, 1, 2]


def test_the_top_is_that_of_the_values_under_the_bound():
    base = [1.4, 0.9, 0.8, 0.7, 0.6, 0.5]
    ifd = two(base, base[::-1])
    # of five values under 1, two fifths: rows 1 2 of the base model, 4 3 of the other
    assert sorted(vote(ifd, 9, votes=1, by="top", top=0.4).order.tolist()) == [1, 2, 3, 4]
    assert sorted(vote(ifd, 9, votes=1, by="top", top=2).order.tolist()) == [1, 2, 3, 4]
    assert vote(ifd, 9, by="top", top=0.4, fill=False).order.tolist() == []
    assert vote(two([0.5] * 4, [0.5] * 4), 9, by="top", top=2, fill=False).order.tolist() == [0, 1]


@settings(deadline=None)
@given(TABLES, st.integers(0, 16), st.booleans(), st.sampled_from([0.0, 0.3]), st.data())
def test_votes_and_order_against_a_slow_count(voters, budget, fill, tau_min, data):
    from scipy.stats import rankdata

    v = data.draw(st.integers(1, len(voters)))
    rows = len(next(iter(voters.values())))
    count = [sum(c[i] is not None and tau_min < c[i] < 1 for c in voters.values()) for i in range(rows)]
    ranks = []
    for column in voters.values():
        under = [i for i in range(rows) if column[i] is not None and column[i] < 1]
        rank = np.full(rows, float(rows))
        rank[under] = rankdata([-round(column[i], 9) for i in under])  # values within 1e-9 are tied
        ranks.append(rank)
    mean = np.mean(ranks, axis=0)
    kept = sorted((i for i in range(rows) if count[i] >= v), key=lambda i: (round(mean[i], 9), i))
    rest = sorted((i for i in range(rows) if 0 < count[i] < v), key=lambda i: (round(mean[i], 9), i))
    expected = [*kept, *(rest if fill else [])][:budget]
    found = vote(voters, budget, votes=v, tau_min=tau_min, fill=fill)
    assert found.order.tolist() == expected
    assert found.gain == pytest.approx(-mean[expected])
    assert set(found.refused) == {i for i in range(rows) if count[i] < v} - set(expected)
    assert len(found.reason) == len(expected)


@settings(deadline=None)
@given(TABLES, st.data())
def test_more_votes_ask_for_more_and_a_larger_budget_holds_the_smaller_choice(voters, data):
    v = data.draw(st.integers(1, len(voters)))
    loose, strict = (set(vote(voters, 99, votes=n, fill=False).order) for n in (1, v))
    assert strict <= loose
    budget = data.draw(st.integers(0, 15))
    larger = vote(voters, budget + 1, votes=v).order
    assert vote(voters, budget, votes=v).order.tolist() == larger[:budget].tolist()
    turned = dict(reversed(voters.items()))  # the order of voters has no say
    assert vote(turned, 99, votes=v).order.tolist() == vote(voters, 99, votes=v).order.tolist()


def test_edges():
    empty = vote(two([], []), 3)
    assert empty.order.tolist() == [] and empty.order.dtype == np.int64 and not empty.refused
    one = vote({"base": [0.5]}, 1, votes=1)
    assert one.order.tolist() == [0] and one.gain.tolist() == [-1]
    equal = vote(two([0.5] * 4, [0.5] * 4), 3)
    assert equal.order.tolist() == [0, 1, 2] and equal.gain.tolist() == [-2.5] * 3
    nobody = vote(two([None, 1.2], [None, None]), 2)
    assert nobody.order.tolist() == [] and nobody.refused == {0: "0 of 2 votes", 1: "0 of 2 votes"}


def test_wrong_parameters_are_named():
    ifd = two([0.5], [0.5])
    wrong = [{"votes": 3}, {"votes": 0}, {"by": "rank"}, {"by": "top", "top": 0}, {"top": 1.5}, {"budget": -1}]
    for parameters in wrong:
        with pytest.raises(ValueError, match=list(parameters)[-1]):
            vote(ifd, **{"budget": 1, **parameters})
    for voters in ([], ["base", "base"]):
        with pytest.raises(ValueError, match="voters must name at least one indicator, each once"):
            bettermixture_voting(pool(ifd), 1, voters=voters)
    with pytest.raises(ValueError, match=r"needs ifd, and the recipe reads base, experienced: add `reads: \[ifd, ifd_"):
        bettermixture_voting(pool(ifd), 1)
    with pytest.raises(ValueError, match="1 values of experienced do not fit 2 candidates"):
        vote(two([0.5, 0.6], [0.5]), 1)


# --- MoDS


def mods(ranks, rewards, budget=99, **params):
    necessity = [None if reward is None else -reward for reward in rewards]
    return mods_union(pool({"mods_seed": ranks, "reward_necessity": necessity}), budget, **params)


def test_only_rewards_strictly_below_the_threshold_are_needed():
    found = mods([None] * 3, [-1.2, 0, 0.3])
    assert found.order.tolist() == [0] and found.gain.tolist() == [1.2]
    assert found.reason == ["needed: the tuned model's answer has a reward of -1.2, below 0"]
    assert found.refused == {
        1: "no seed row; the tuned model's answer has a reward of 0, not below 0",
        2: "no seed row; the tuned model's answer has a reward of 0.3, not below 0",
    }
    assert mods([None] * 3, [-1.2, 0, 0.3], threshold=0.3).order.tolist() == [0, 1]
    assert mods([None] * 3, [-1.2, 0, 0.3], threshold=-1.2).order.tolist() == []


def test_the_seed_comes_first_and_nobody_twice():
    found = mods([2, None, 1, None, None], [-5, -1, 3, -2, None])
    assert found.order.tolist() == [2, 0, 3, 1]
    assert found.gain.tolist() == [-3, 5, 2, 1]
    assert found.reason[:2] == ["seed row, rank 1", "seed row, rank 2"]
    assert found.refused == {4: "no seed row, and no reward"}
    # the budget cuts the needed rows first; what it leaves out is not refused
    cut = mods([2, None, 1, None, None], [-5, -1, 3, -2, None], budget=3)
    assert cut.order.tolist() == [2, 0, 3] and set(cut.refused) == {4}
    assert mods([2, None, 1, None], [-5, -1, 3, -2], budget=1).order.tolist() == [2]


def test_rows_that_are_as_needed_go_by_index():
    assert mods([None, 1, None, 1], [-1, 0, -1, 0]).order.tolist() == [1, 3, 0, 2]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(1, 5)), st.one_of(st.none(), st.integers(-3, 3))), max_size=12),
    st.integers(0, 14),
    st.sampled_from([-1, 0, 0.5]),
)
def test_the_union_against_a_slow_one(rows, budget, threshold):
    seeded = sorted((i for i, (rank, _) in enumerate(rows) if rank), key=lambda i: (rows[i][0], i))
    needed = [i for i, (rank, reward) in enumerate(rows) if rank is None and reward is not None and reward < threshold]
    needed.sort(key=lambda i: (rows[i][1], i))
    ranks, rewards = [rank for rank, _ in rows], [reward for _, reward in rows]
    found = mods(ranks, rewards, budget, threshold=threshold)
    assert found.order.tolist() == [*seeded, *needed][:budget]
    assert set(found.refused) == set(range(len(rows))) - {*seeded, *needed}
    assert np.array_equal(found.gain, [np.nan if rewards[i] is None else -rewards[i] for i in found.order], True)
    assert len(found.reason) == len(found.order)


def test_mods_names_what_is_wrong():
    with pytest.raises(ValueError, match="mods_union needs reward_necessity, and the recipe reads mods_seed"):
        mods_union(pool({"mods_seed": [1]}), 1)
    for threshold in ("0.0", float("nan"), True):
        with pytest.raises(ValueError, match="threshold takes a finite number"):
            mods([1], [1], threshold=threshold)
    with pytest.raises(ValueError, match="budget must not be negative"):
        mods([1], [1], budget=-1)
    assert mods([], []).order.dtype == np.int64
