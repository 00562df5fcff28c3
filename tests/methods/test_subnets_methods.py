"""Learning complexity and FlexRand: the specification's toys, plain numpy as the oracle, quotas by hand, statuses."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Candidates
from methods.quality import subnets
from methods.quality.subnets import (
    SUBNETS_SCHEMA,
    flex_rand,
    flex_shares,
    learning_complexity,
    learning_complexity_confidence,
)


def evidence(*rows):
    return pl.DataFrame([(str(i), *row) for i, row in enumerate(rows)], schema=dict(SUBNETS_SCHEMA), orient="row")


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


def test_learning_complexity_of_the_toy():
    block = evidence(("ok", [math.log(2), math.log(4), math.log(8)]))
    assert only(learning_complexity_confidence(block)) == pytest.approx(0.291667, abs=1e-6)
    assert only(learning_complexity(block)) == pytest.approx(1.386294, abs=1e-6)


def test_the_two_readings_point_to_opposite_ends():
    block = evidence(*(("ok", [nll, nll + 0.5]) for nll in (0.1, 0.9, 3.0)))
    by_id = {method.id: method for method in subnets.INDICATORS}
    for name, sign in (("learning_complexity", 1), ("learning_complexity_confidence", -1)):
        values = by_id[name].compute(block)["value"] * sign
        assert values.is_sorted()
        assert by_id[name].direction == ("lower" if sign == 1 else "higher")


def test_statuses_of_learning_complexity():
    block = evidence(
        ("ok", [1.0, 2.0]),
        ("empty_response", None),
        ("ok", []),
        ("ok", None),
        ("ok", [1.0, None]),
        ("ok", [1.0, float("nan")]),
    )
    for reading in (learning_complexity, learning_complexity_confidence):
        found = reading(block)
        wanted = ["ok", "empty_response", "no_subnets", "no_subnets", "missing_subnet", "not_finite"]
        assert found["status"].to_list() == wanted
        assert found["value"].is_not_null().to_list() == [status == "ok" for status in wanted]
        assert reading(block.head(0)).schema == found.schema


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.floats(0, 30), min_size=1, max_size=9), min_size=1, max_size=6))
def test_learning_complexity_against_plain_numpy(rows):
    block = evidence(*(("ok", row) for row in rows))
    loss = learning_complexity(block)["value"].to_list()
    sure = learning_complexity_confidence(block)["value"].to_list()
    assert loss == pytest.approx([np.mean(row) for row in rows])
    assert sure == pytest.approx([np.mean(np.exp(-np.array(row))) for row in rows])
    assert all(math.exp(-x) <= y + 1e-12 for x, y in zip(loss, sure, strict=True))  # Jensen


# --- FlexRand --------------------------------------------------------------------------------------------------------
def pool(score):
    score = np.asarray(score, dtype=np.float64)
    return Candidates(pl.Series([f"r{i}" for i in range(len(score))], dtype=pl.String), score=score)


@pytest.mark.parametrize(
    ("keep", "q", "wanted"),
    [
        (0.2, 0.25, (0.1, 0.1)),
        (0.6, 0.25, (0.25, 0.35)),
        (0.2, 0.75, (0.1, 0.1)),
        (0.6, 0.75, (0.35, 0.25)),
        (0.4, 0.5, (0.2, 0.2)),
        (1.0, 0.25, (0.25, 0.75)),
        (0.3, 0.0, (0.0, 0.3)),
        (0.3, 1.0, (0.3, 0.0)),
    ],
)
def test_flex_shares_by_hand(keep, q, wanted):
    assert flex_shares(keep, q) == pytest.approx(wanted)


@pytest.mark.parametrize(("keep", "q"), [(1.1, 0.5), (0.5, -0.1)])
def test_flex_shares_refuses(keep, q):
    with pytest.raises(ValueError, match="shares"):
        flex_shares(keep, q)


def test_flex_rand_by_hand():
    rows = pool(np.arange(20))  # row 19 has the highest score: the easiest
    for seed in range(20):
        chosen = flex_rand(rows, 12, seed, prefer="hard")
        assert len(set(chosen.order)) == 12
        assert set(chosen.order) >= {15, 16, 17, 18, 19}  # a quarter is easy and all of it is taken
        assert chosen.order.tolist() == flex_rand(rows, 12, seed, prefer="hard").order.tolist()
        assert [("easy side" in why) == (i >= 15) for i, why in zip(chosen.order, chosen.reason, strict=True)]
        other = flex_rand(rows, 12, seed)  # easy: 15 of the rows are, 5 are hard and all of them are taken
        assert set(other.order) >= {0, 1, 2, 3, 4}
    assert flex_rand(rows, 12, 1).order.tolist() != flex_rand(rows, 12, 2).order.tolist()
    small = flex_rand(rows, 4)
    assert sum(small.order >= 5) == 2  # under half the smaller side: two of each
    assert small.gain.tolist() == small.order.tolist()


def test_flex_rand_of_equal_rows_calls_the_first_easy():
    assert set(flex_rand(pool(np.zeros(8)), 6, q=0.25).order) >= {0, 1}


def test_flex_rand_at_the_edges():
    assert len(flex_rand(pool([]), 5).order) == len(flex_rand(pool([1.0, 2.0]), 0).order) == 0
    assert sorted(flex_rand(pool([3.0, 1.0, 2.0]), 9).order) == [0, 1, 2]
    assert flex_rand(pool([1.0]), 1).order.tolist() == [0]
    for wrong in ({"prefer": "odd"}, {"q": 1.5}):
        with pytest.raises(ValueError, match=r"prefer|shares"):
            flex_rand(pool([1.0]), 1, **wrong)
    with pytest.raises(ValueError, match="score"):
        flex_rand(Candidates(pl.Series(["a"])), 1)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 40), st.integers(0, 45), st.integers(0, 100), st.integers(0, 5))
def test_flex_rand_keeps_its_quotas(n, budget, q, seed):
    score = np.random.default_rng(seed).permutation(n).astype(float)
    taken = flex_rand(pool(score), budget, seed, q=q / 100).order
    k = min(n, budget)
    assert len(set(taken)) == len(taken) == k
    easy = int((score[taken] >= n - (2 * q * n + 100) // 200).sum())
    assert abs(easy - flex_shares(k / max(n, 1), q / 100)[0] * n) <= 1.5
