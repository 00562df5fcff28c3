"""Bradley-Terry against hand-worked values, choix, scipy's general minimiser, and the head of the reward model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.numerics.bradley_terry import EXACT_ERRORS, cross_entropy, fit, linear
from methods.quality import preference


def compared(n: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n)
    first = rng.integers(n, size=m)
    second = (first + rng.integers(1, n, size=m)) % n
    times = rng.integers(1, 6, size=m).astype(float)
    wins = rng.binomial(times.astype(int), 1 / (1 + np.exp(true[second] - true[first]))).astype(float)
    return first, second, wins, times, true


def minimised(n, first, second, wins, times, prior):
    """Brute force: the likelihood, written down again, minimised by a general method."""
    from scipy.optimize import minimize

    def loss(s):
        total = prior / 2 * (s**2).sum()
        for i, j, w, t in zip(first, second, wins, times, strict=True):
            p = 1 / (1 + np.exp(-(s[i] - s[j])))
            total -= w * np.log(p) + (t - w) * np.log(1 - p)
        return total

    return minimize(loss, np.zeros(n), method="BFGS", options={"gtol": 1e-8}).x


def test_three_to_one_is_ln_3() -> None:
    found = fit(2, [0], [1], [3], [4], prior=0)
    np.testing.assert_allclose(found.strength, [0.549306144, -0.549306144], atol=1e-9)
    # Fisher information of the difference: 4 * .75 * .25 = .75; each of two strengths is half of it
    np.testing.assert_allclose(found.error, np.sqrt(1 / 0.75) / 2, atol=1e-9)
    same = fit(2, [1, 0], [0, 1], [1, 1.5], [2, 2], prior=0)
    assert same.strength[0] - same.strength[1] == pytest.approx(np.log(2.5 / 1.5))


def test_the_loss_of_a_soft_label() -> None:
    assert cross_entropy(np.array([1.0]), np.array([0.8])) == pytest.approx(0.513262, abs=1e-6)
    assert cross_entropy(np.array([0.0, 900.0, -900.0]), np.array([0.3, 1.0, 0.0])) == pytest.approx(np.log(2) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_as_choix(seed: int) -> None:
    choix = pytest.importorskip("choix")
    first, second, wins, times, _ = compared(12, 300, seed)
    data = []
    for i, j, w, t in zip(first, second, wins, times, strict=True):
        data += [(i, j)] * int(w) + [(j, i)] * int(t - w)
    np.testing.assert_allclose(
        fit(12, first, second, wins, times, prior=0).strength, choix.ilsr_pairwise(12, data), atol=1e-6
    )
    # choix's alpha is the penalty on s_i^2 itself, twice our prior's half
    expected = choix.opt_pairwise(12, data, alpha=0.25, tol=1e-9)
    np.testing.assert_allclose(fit(12, first, second, wins, times, prior=0.5).strength, expected, atol=1e-4)


@pytest.mark.parametrize("prior", [0.0, 0.02, 1.0])
def test_as_brute_force_with_shares_of_wins(prior: float) -> None:
    first, second, wins, times, _ = compared(8, 60, 5)
    wins = np.clip(wins * 0.8 + 0.13, 0, times)
    found = fit(8, first, second, wins, times, prior)
    expected = minimised(8, first, second, wins, times, prior)
    assert found.converged
    np.testing.assert_allclose(found.strength, expected - expected.mean(), atol=1e-5)


def test_errors_are_those_of_the_curvature() -> None:
    first, second, wins, times, _ = compared(7, 80, 2)
    for prior in (0.0, 0.3):
        found = fit(7, first, second, wins, times, prior)
        p = 1 / (1 + np.exp(found.strength[second] - found.strength[first]))
        curvature = prior * np.eye(7)
        for i, j, w in zip(first, second, times * p * (1 - p), strict=True):
            step = np.zeros(7)
            step[i], step[j] = 1, -1
            curvature += w * np.outer(step, step)
        centred = np.eye(7) - 1 / 7
        expected = np.sqrt(np.diag(centred @ np.linalg.pinv(curvature) @ centred))
        np.testing.assert_allclose(found.error, expected, rtol=1e-8)
        assert found.exact_errors


def test_errors_cover_the_truth() -> None:
    first, second, wins, times, true = compared(200, 20000, 9)
    found = fit(200, first, second, wins, times, prior=0)
    off = (found.strength - (true - true.mean())) / found.error
    assert 0.85 < off.std() < 1.15


def test_an_undefeated_thing_is_finite_with_a_prior_alone() -> None:
    rows = ([0, 1, 2], [1, 2, 1], [2, 1, 1], [2, 2, 2])
    assert np.isnan(fit(3, *rows, prior=0).strength).all()
    found = fit(3, *rows)
    assert found.converged and np.isfinite(found.strength).all() and found.strength[0] == found.strength.max()
    weaker = fit(3, *rows, prior=0.001)
    assert weaker.strength[0] > found.strength[0] and weaker.strength.sum() == pytest.approx(0, abs=1e-9)


def test_components_are_told_apart_and_each_has_mean_0() -> None:
    rows = ([1, 2, 5, 5], [2, 3, 6, 6], [1, 1, 1, 0], [2, 2, 1, 1])
    found = fit(8, *rows, prior=0)
    assert found.component.tolist() == [-1, 0, 0, 0, -1, 1, 1, -1]
    assert found.comparisons.tolist() == [0, 2, 4, 2, 0, 2, 2, 0]
    assert np.isnan(found.strength[[0, 4, 7]]).all() and np.isnan(found.error[[0, 4, 7]]).all()
    np.testing.assert_allclose(found.strength[[1, 2, 3, 5, 6]], 0, atol=1e-9)
    # a component without a chain of wins both ways has none; the other keeps its own
    rows = ([0, 1, 2, 3], [1, 2, 0, 4], [2, 1, 1, 3], [3, 3, 3, 3])
    found = fit(5, *rows, prior=0)
    assert found.component.tolist() == [0, 0, 0, 1, 1]
    assert np.isfinite(found.strength[:3]).all() and np.isnan(found.strength[3:]).all()


def test_nothing_and_what_is_wrong() -> None:
    for n in (0, 1, 3):
        none = fit(n, [], [], [], [])
        assert none.strength.shape == (n,) and np.isnan(none.strength).all() and (none.component == -1).all()
    assert np.isnan(fit(2, [0], [1], [0], [0]).strength).all()  # a line of no comparison says nothing
    for first, second, wins, times, prior in (
        ([0], [0], [1], [1], 0.1),
        ([0], [2], [1], [1], 0.1),
        ([0], [1], [2], [1], 0.1),
        ([0], [1], [float("nan")], [1], 0.1),
        ([0], [1], [1], [1], -1.0),
        ([0, 1], [1], [1], [1], 0.1),
    ):
        with pytest.raises(ValueError):
            fit(2, first, second, wins, times, prior)


def test_many_things_take_the_bound() -> None:
    n = EXACT_ERRORS + 500
    first, second, wins, times, true = compared(n, 20 * n, 1)
    found = fit(n, first, second, wins, times)
    assert found.converged and not found.exact_errors and np.corrcoef(found.strength, true)[0, 1] > 0.95
    assert (found.error > 0).all()


def test_linear_strengths_are_the_head_of_the_reward_model() -> None:
    rng = np.random.default_rng(4)
    weights = rng.normal(size=6)
    x = rng.normal(size=(200, 6)) * [1, 2, 0.1, 1, 1, 0]
    d = x * np.sign(x @ weights + rng.normal(size=200))[:, None]
    for strength in (0.01, 1.0):
        expected = preference.fit(d, strength)
        np.testing.assert_allclose(linear(d, np.ones(200), strength), expected, rtol=2e-3, atol=1e-5)
    # a soft label is so much of either hard one
    mixed = linear(d, np.full(200, 0.8), 0.1)
    twice = linear(np.vstack([d] * 10), np.r_[np.ones(1600), np.zeros(400)], 0.01)
    np.testing.assert_allclose(mixed, twice, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1]), st.integers(2, 9))
def test_what_must_hold(seed: int, prior: float, n: int) -> None:
    first, second, wins, times, _ = compared(n, 30, seed)
    found = fit(n, first, second, wins, times, prior)
    turned = fit(n, second, first, times - wins, times, prior)
    np.testing.assert_allclose(turned.strength, found.strength, atol=1e-6)
    losing = fit(n, first, second, times - wins, times, prior)
    np.testing.assert_allclose(losing.strength, -found.strength, atol=1e-6)
    order = np.random.default_rng(seed).permutation(n)
    moved = fit(n, order[first], order[second], wins, times, prior)
    np.testing.assert_allclose(moved.strength[order], found.strength, atol=1e-6)
    doubled = fit(n, first, second, 2 * wins, 2 * times, 2 * prior)
    np.testing.assert_allclose(doubled.strength, found.strength, atol=1e-6)
    fine = np.isfinite(found.strength)
    assert not prior or (fine == (found.component >= 0)).all()
    for name in set(found.component[fine].tolist()):
        assert found.strength[found.component == name].sum() == pytest.approx(0, abs=1e-6)


def test_many_comparisons_come_to_an_end() -> None:
    """Near the maximum the loss no longer shows a gain; the steps must go on all the same."""
    first, second, wins, times, _ = compared(300, 30_000, 3)
    for prior in (0.0, 0.1):
        found = fit(300, first, second, wins, times, prior)
        p = 1 / (1 + np.exp(found.strength[second] - found.strength[first]))
        pull = np.bincount(first, wins - times * p, 300) - np.bincount(second, wins - times * p, 300)
        assert found.converged and np.abs(pull - prior * found.strength).max() < 1e-7
