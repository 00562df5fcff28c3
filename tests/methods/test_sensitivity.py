"""Sampling by sensitivity: the worked example, a plain re-statement, unbiased weights, edges."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import sensitivity
from methods.diversity.sensitivity import SELECTORS, probabilities, sensitivity_sampling
from methods.kinds import Candidates


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pool(rows, losses=None, clusters=None, **fields):
    rows = np.array(rows, dtype=np.float32)
    return Candidates(
        pl.Series([f"r{i}" for i in range(len(rows))], dtype=pl.String),
        vectors=rows,
        clusters=np.zeros(len(rows), dtype=np.int64) if clusters is None else np.array(clusters),
        values={} if losses is None else {"mean_nll": np.array(losses, dtype=np.float64)},
        **fields,
    )


def expected_p(rows, losses, label, z=2.0, scale=1.0):
    """The definition, row by row: NaN where the cluster has no loss."""
    rows = rows.astype(np.float64)
    s = np.full(len(rows), np.nan)
    for j in set(label.tolist()):
        inside = np.flatnonzero(label == j)
        away = np.linalg.norm(rows[inside] - rows[inside].mean(axis=0), axis=1)
        told = [(round(d, 9), i) for d, i in zip(away, inside, strict=True) if np.isfinite(losses[i])]
        if told:
            s[inside] = losses[min(told)[1]] + scale * away**z
    return s / np.nansum(s) if np.nansum(s) > 0 else np.where(np.isnan(s), s, 1 / max(np.sum(~np.isnan(s)), 1))


def test_the_worked_example():
    assert SELECTORS[0].id == "sensitivity_sampling"
    p = probabilities(np.array([2.0, 2, 1, 1]), np.sqrt([0.0, 4, 0, 1]))
    assert p == pytest.approx([0.181818, 0.545455, 0.090909, 0.181818], abs=1e-6)
    assert 1 / (2 * p) == pytest.approx([2.75, 0.916667, 5.5, 2.75], abs=1e-6)
    assert probabilities(np.zeros(4), np.zeros(4)).tolist() == [0.25] * 4


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(0, 10**6), st.integers(0, 25), st.sampled_from([1.0, 2.0]), st.booleans())
def test_weights_are_those_of_the_definition(n, seed, budget, z, gaps):
    rng = np.random.default_rng(seed)
    rows, label, losses = unit_rows(n, 3, seed), rng.integers(-1, 3, size=n), rng.random(n)
    if gaps:
        losses[rng.random(n) < 0.6] = np.nan
    p = expected_p(rows, losses, label, z, 0.5)
    found = sensitivity_sampling(pool(rows, losses, label), budget, seed, z=z, scale=0.5)
    able = int(np.sum(~np.isnan(p)))
    draws = min(budget, able)
    assert sorted(found.refused) == np.flatnonzero(np.isnan(p)).tolist()
    assert len(np.unique(found.order)) == len(found.order)
    times = found.gain * draws * p[found.order]
    assert times == pytest.approx(np.round(times), abs=1e-5) and np.round(times).sum() == draws
    once = sensitivity_sampling(pool(rows, losses, label), budget, seed, z=z, scale=0.5, replacement=False)
    assert len(once.order) == len(set(once.order.tolist())) == min(draws, int(np.sum(p > 1e-12)))
    assert not once.gain.size or once.gain.min() >= 1 - 1e-9
    assert set(once.order.tolist()).isdisjoint(once.refused)


@pytest.mark.parametrize("draw", [sensitivity._with, sensitivity._without])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_weighted_sums_have_no_bias(draw, n):
    p = np.array([0.4, 0.0, 0.3, 0.2, 0.06, 0.04])
    value = np.array([1.0, 0.0, 2.0, 3.0, 5.0, 0.5])
    sums = []
    for seed in range(4000):
        rows, weight, times = draw(p, n, np.random.default_rng(seed))
        assert 1 not in rows and times.sum() == n
        sums.append(float(weight @ value[rows]))
    error = np.std(sums) / len(sums) ** 0.5
    assert abs(np.mean(sums) - value.sum()) < 4 * error + 1e-9


def test_draws_follow_p():
    p = np.array([0.5, 0.3, 0.2])
    first = np.array([[d(p, 1, np.random.default_rng(s))[0][0] for s in range(3000)] for d in DRAWS])
    for rows in first:
        assert np.bincount(rows) / 3000 == pytest.approx(p, abs=0.04)


DRAWS = (sensitivity._with, sensitivity._without)


def test_a_row_drawn_twice_stands_once_and_says_so():
    found = sensitivity_sampling(pool([[1, 0], [1, 0], [0, 1]], [0.0, 0.0, 4.0], [0, 0, 1]), 3, 0)
    assert found.order.tolist() == [2] and found.gain.tolist() == [1.0]  # all the loss is there: 3 of 3 draws
    assert found.reason == [
        "drawn 3 of 3 times with p = 1: mean_nll 4 at the centre of cluster 1 (row r2), 0.0000 away; weight 1"
    ]


def test_everything_is_taken_with_weight_one():
    rows = unit_rows(12)
    found = sensitivity_sampling(pool(rows, np.ones(12)), 99, 0, replacement=False)
    assert sorted(found.order.tolist()) == list(range(12)) and found.gain.tolist() == [1.0] * 12


def test_edges():
    for replacement in (True, False):

        def run(rows, losses, budget, **more):
            return sensitivity_sampling(pool(rows, losses, **more), budget, 1, replacement=replacement)  # noqa: B023

        for found in (run(np.empty((0, 3)), [], 4), run(unit_rows(5), np.ones(5), 0)):
            assert found.order.size == found.gain.size == len(found.reason) == 0
        one = run([[0.6, 0.8]], [2.0], 5)
        assert one.order.tolist() == [0] and one.gain.tolist() == [1.0]
        alike = run([[0.6, 0.8]] * 6, [0.0] * 6, 3)  # no loss and no distance: as good as uniform
        assert len(alike.order) <= 3 and (replacement is False or np.allclose(alike.gain % 2, 0))
        none = run(unit_rows(4), [np.nan, np.inf, np.nan, np.nan], 3)
        assert none.order.size == 0 and none.refused[1] == "no row of cluster 0 has mean_nll"
    with pytest.raises(ValueError, match="must not be negative"):
        run(unit_rows(3), np.ones(3), -1)


def test_only_the_centres_losses_are_looked_at():
    rows = unit_rows(30)
    label = np.arange(30) % 3
    base = sensitivity_sampling(pool(rows, np.ones(30), label), 10, 5)
    centres = {r.split("(row r")[1].split(")")[0] for r in base.reason}
    losses = np.where([str(i) in centres for i in range(30)], 1.0, 7.0)
    again = sensitivity_sampling(pool(rows, losses, label), 10, 5)
    assert len(centres) == 3 and again.order.tolist() == base.order.tolist()
    assert again.gain.tolist() == base.gain.tolist()


def test_hoelder_s_scale_is_the_steepest_loss_of_each_cluster():
    rows = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [0, 1], [0, 1]], dtype=np.float32)
    label, losses = np.array([0, 0, 0, 1, 1, 1]), np.array([1.0, 2.0, 1.5, 3.0, np.nan, 5.0])
    away = np.linalg.norm(rows[:3].astype(float) - rows[:3].astype(float).mean(axis=0), axis=1)
    centre = int(away.argmin())
    steep = max(abs(losses[i] - losses[centre]) / away[i] for i in range(3)) * np.log(6)
    s = np.append(losses[centre] + steep * away**2, [3.0] * 3)  # copies have no distance: no slope
    found = sensitivity_sampling(pool(rows, losses, label), 6, 0, scale="hoelder")
    times = np.array([int(r.split()[1]) for r in found.reason])
    assert found.gain == pytest.approx(times * s.sum() / (6 * s[found.order]), rel=1e-6)


def test_where_the_losses_come_from():
    rows = unit_rows(6)
    by_score = sensitivity_sampling(pool(rows, score=np.arange(6.0)), 3, 0)
    named = Candidates(
        pool(rows).row_ids, vectors=rows, clusters=pool(rows).clusters, values={"a": np.ones(6), "b": np.arange(6.0)}
    )
    assert sensitivity_sampling(named, 3, 0, loss="b").gain.tolist() == by_score.gain.tolist()
    assert len(sensitivity_sampling(pool(rows, np.ones(6)), 3, 0, k=2).order)
    for wrong, params, say in (
        (named, {}, "say which of them is the loss"),
        (named, {"loss": "c"}, "needs c, and the recipe reads a, b"),
        (pool(rows), {}, "needs score"),
        (pool(rows, -np.ones(6)), {}, "a loss is never negative"),
        (pool(rows, np.ones(5)), {}, "5 values of mean_nll do not fit 6"),
        (pool(rows, np.ones(6)), {"z": -1}, "z is a number"),
        (pool(rows, np.ones(6)), {"scale": "wide"}, "scale is a number from 0 on or hoelder"),
    ):
        with pytest.raises(ValueError, match=say):
            sensitivity_sampling(wrong, 3, 0, **params)
