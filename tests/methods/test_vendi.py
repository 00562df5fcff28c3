"""The Vendi scores: hand-worked values, the package and the N x N eigenvalues, ranges, approximations, edges."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity.vendi import quality_weighted_vendi, vendi
from methods.kinds import Subset

HALF = [[1.0, 0.0], [0.5, math.sqrt(0.75)]]  # cosine .5, distance 1
ORDERS = [0.1, 0.5, 1, 2, "inf"]


def subset(vectors, quality=None):
    ids = pl.Series([str(i) for i in range(len(vectors))], dtype=pl.String)
    quality = None if quality is None else np.asarray(quality, dtype=np.float64)
    return Subset(ids, np.asarray(vectors, dtype=np.float32), quality=quality)


def unit(rng, n, width):
    vectors = rng.normal(size=(n, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def from_matrix(kernel, order):
    """The definition, over the eigenvalues of K/N."""
    values = np.linalg.eigvalsh(kernel / len(kernel))
    values = values[values > 1e-10]
    if order == "inf":
        return 1 / values.max()
    return np.exp(-(values * np.log(values)).sum()) if order == 1 else (values**order).sum() ** (1 / (1 - order))


def radial(vectors, sigma):
    points = vectors.astype(float)
    return np.exp(-((points[:, None] - points[None]) ** 2).sum(axis=2) / (2 * sigma**2))


@pytest.mark.parametrize(
    ("order", "score"), [(0.5, 1.866025), (1, 1.754765), (2, 1.6), ("inf", 1.333333), (float("inf"), 1.333333)]
)
def test_two_rows_at_sixty_degrees(order, score):
    assert vendi(subset(HALF), order=order) == pytest.approx(score, abs=1e-6)


def test_by_hand():
    assert vendi(subset([(1, 0), (1, 0), (0, 1)])) == pytest.approx(1.889882, abs=1e-6)
    assert vendi(subset([(1, 0)] * 5)) == pytest.approx(1)
    assert vendi(subset(np.eye(4))) == pytest.approx(4)
    assert vendi(subset(np.eye(4)), order=0.1) == pytest.approx(4)
    assert vendi(subset([(1, 0)])) == pytest.approx(1)
    assert vendi(subset([(math.nan, 0)])) is None
    assert vendi(subset([*HALF, (math.nan, 0)])) == pytest.approx(1.754765, abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"order": -1}, {"kernel": "linear"}, {"method": "exact"}, {"bandwidth": 0.0}, {"components": 1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        vendi(subset(HALF), **wrong)


@pytest.mark.parametrize("order", ORDERS[1:])
def test_package_agrees(order):
    # its score_X ignores q, and infinity must be the string: score_dual is the one to ask
    theirs = pytest.importorskip("vendi_score.vendi")
    vectors = unit(np.random.default_rng(1), 60, 9)
    assert vendi(subset(vectors), order=order) == pytest.approx(
        theirs.score_dual(vectors.astype(float), q=order), rel=1e-6
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(80, 12), (12, 80)], ids=["long", "wide"])
def test_cosine_against_the_full_matrix(order, shape):
    vectors = unit(np.random.default_rng(2), *shape)
    points = vectors.astype(float)
    assert vendi(subset(vectors), order=order) == pytest.approx(from_matrix(points @ points.T, order), rel=1e-9)


def test_noise_does_not_count():
    # rows of rank 5 in 32 dimensions: rounded eigenvalues would add to the score at a small order
    plane = np.linalg.qr(np.random.default_rng(5).normal(size=(32, 5)))[0].T
    vectors = unit(np.random.default_rng(4), 50, 5) @ plane.astype(np.float32)
    direct = np.linalg.eigvalsh(vectors.astype(float) @ vectors.T.astype(float) / 50)[-5:]
    assert vendi(subset(vectors), order=0.1) == pytest.approx((direct**0.1).sum() ** (1 / 0.9), rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from(ORDERS), st.sampled_from(["cosine", "rbf"]))
def test_range_and_copies(seed, n, order, kernel):
    vectors = unit(np.random.default_rng(seed), n, 5)
    score = vendi(subset(vectors), order, kernel)
    assert 1 - 1e-6 <= score <= n + 1e-6
    # a fixed bandwidth: the median distance of a set with copies is another
    once, twice = (vendi(subset(np.repeat(vectors, k, axis=0)), order, kernel, 1.0) for k in (1, 2))
    assert twice == pytest.approx(once, rel=1e-5)


# --- radial kernel -----------------------------------------------------------------------------------------------------
def test_rbf_by_hand():
    k = math.exp(-0.5)  # distance 1, sigma 1: .606531
    low, high = (1 - k) / 2, (1 + k) / 2
    wanted = math.exp(-(low * math.log(low) + high * math.log(high)))
    assert vendi(subset(HALF), kernel="rbf", bandwidth=1.0) == pytest.approx(wanted, abs=1e-6)
    assert vendi(subset(HALF), kernel="rbf") == pytest.approx(wanted, abs=1e-6)  # the median distance is 1 as well
    assert vendi(subset([(1, 0)] * 4), kernel="rbf") == pytest.approx(1)
    assert vendi(subset(np.eye(4)), kernel="rbf", bandwidth=0.01) == pytest.approx(4)


@pytest.mark.parametrize("order", ORDERS)
def test_rbf_against_the_full_matrix(order):
    vectors = unit(np.random.default_rng(7), 50, 6)
    assert vendi(subset(vectors), order, "rbf", 0.8) == pytest.approx(
        from_matrix(radial(vectors, 0.8), order), rel=1e-9
    )
    gaps = np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2)[np.triu_indices(50, 1)]
    wanted = from_matrix(radial(vectors, np.median(gaps)), order)
    assert vendi(subset(vectors), order, "rbf") == pytest.approx(wanted, rel=1e-7)


def clustered(n=600, width=16):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(20, width))[rng.integers(0, 20, n)] + 0.3 * rng.normal(size=(n, width))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("order", "method", "components", "within"),
    [(1, "nystroem", 200, 0.04), (2, "nystroem", 200, 0.005), (1, "features", 600, 0.25), (2, "features", 600, 0.05)],
)
def test_approximations_come_near(order, method, components, within):
    data = subset(clustered())
    exact = vendi(data, order, "rbf", 1.0)
    near = vendi(data, order, "rbf", 1.0, method, exact_up_to=100, components=components)
    assert near == pytest.approx(exact, rel=within)
    assert near != exact
    assert vendi(data, order, "rbf", 1.0, method, exact_up_to=100, components=components) == near
    assert vendi(data, order, "rbf", 1.0, method, exact_up_to=100, components=components, seed=1) != near


def test_the_two_approximations_stand_on_either_side_and_close_in():
    data = subset(clustered())
    exact = vendi(data, 1, "rbf", 1.0)
    for method, side in (("nystroem", 1), ("features", -1)):
        few, more = (
            side * (vendi(data, 1, "rbf", 1.0, method, exact_up_to=1, components=m) - exact) for m in (50, 300)
        )
        assert few > more > 0


def test_nystroem_with_every_row_a_landmark_is_exact():
    data = subset(clustered(80))
    exact = vendi(data, 1, "rbf", 0.5)
    assert vendi(data, 1, "rbf", 0.5, exact_up_to=1, components=80) == pytest.approx(exact, rel=1e-6)


def test_approximations_do_not_depend_on_the_order_of_rows():
    vectors = clustered(200)
    order = np.random.default_rng(0).permutation(200)
    data = subset(vectors)
    moved = Subset(data.row_ids.gather(order), vectors[order])
    for method in ("nystroem", "features"):
        once, again = (vendi(one, 1, "rbf", None, method, 50, 40) for one in (data, moved))
        assert again == pytest.approx(once, rel=1e-9)


def test_approximations_stay_in_range():
    # far apart for the kernel: everything is left to the even tail of the landmarks
    data = subset(unit(np.random.default_rng(0), 300, 40))
    for order in ORDERS:
        score = vendi(data, order, "rbf", 0.05, exact_up_to=10, components=20)
        assert score == pytest.approx(300, rel=1e-6)


# --- quality -----------------------------------------------------------------------------------------------------------
def test_quality_by_hand():
    assert quality_weighted_vendi(subset(HALF, [0.3, 0.7])) == pytest.approx(0.877383, abs=1e-6)
    assert quality_weighted_vendi(subset(HALF, [0, 0])) == 0.0
    assert quality_weighted_vendi(subset([*HALF, (1, 0)], [0.3, 0.7, math.nan])) == pytest.approx(0.877383, abs=1e-6)
    assert quality_weighted_vendi(subset([*HALF, (math.nan, 0)], [0.3, 0.7, 9])) == pytest.approx(0.877383, abs=1e-6)
    assert quality_weighted_vendi(subset(HALF, [math.nan] * 2)) is None
    score = vendi(subset(HALF), 2, "rbf", 1.0)
    assert quality_weighted_vendi(subset(HALF, [2, 4]), 2, "rbf", 1.0) == pytest.approx(3 * score)


def test_negative_quality_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="shift it"):
        quality_weighted_vendi(subset(HALF, [0.3, -0.1]))
    with pytest.raises(ValueError, match="reads quality"):
        quality_weighted_vendi(subset(HALF))
