"""Projections: against scikit-learn, what random ones promise on average, and the report by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection, johnson_lindenstrauss_min_dim

from methods.numerics import projection as module
from methods.numerics.projection import Distortion, distortion, project


def rows(n=80, d=40, seed=0):
    found = np.random.default_rng(seed).normal(size=(n, d)) / (1 + np.arange(d))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


# ---- projections ----------------------------------------------------------------------------------------------------


def test_principal_components_are_those_of_the_reference():
    found = project(rows(), 5)
    oracle = PCA(5, svd_solver="full").fit_transform(rows().astype(np.float64))
    assert found.dtype == np.float64
    assert np.abs(found) == pytest.approx(np.abs(oracle), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "reference"), [("gaussian", GaussianRandomProjection), ("sparse", SparseRandomProjection)]
)
def test_random_projections_are_those_of_the_reference(kind, reference):
    found = project(rows(), 7, kind, seed=3)
    oracle = np.asarray(reference(7, random_state=3).fit(rows()).transform(rows().astype(np.float64)))
    assert found == pytest.approx(oracle, abs=1e-6)
    assert not np.allclose(found, project(rows(), 7, kind, seed=4))


@pytest.mark.parametrize("kind", ["gaussian", "sparse"])
def test_random_projections_keep_squared_lengths_in_the_mean(kind):
    vectors = rows(6)
    lengths = np.mean([(project(vectors, 30, kind, seed) ** 2).sum(axis=1) for seed in range(200)], axis=0)
    assert lengths == pytest.approx(np.ones(6), abs=0.1)


@pytest.mark.parametrize("kind", ["pca", "gaussian", "sparse"])
def test_a_row_without_a_vector_stays_one_and_changes_no_other(kind):
    vectors = np.insert(rows(), 10, np.nan, axis=0)
    found = project(vectors, 4, kind)
    assert np.isnan(found[10]).all()
    assert np.delete(found, 10, axis=0) == pytest.approx(project(rows(), 4, kind), abs=1e-12)


@pytest.mark.parametrize("kind", ["pca", "gaussian", "sparse"])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows_and_more_dimensions_than_there_were(kind, n):
    found = project(rows(n), 50, kind)
    assert found.shape == (n, 50) and np.isfinite(found).all()


def test_random_projections_do_not_look_at_the_other_rows():
    assert project(rows(), 6, "sparse")[:9] == pytest.approx(project(rows()[:9], 6, "sparse"), abs=1e-12)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"dimensions": 0}, "at least 1"), ({"dimensions": 2, "kind": "umap"}, "one of pca")]
)
def test_what_is_no_projection_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        project(rows(), **wrong)
    with pytest.raises(ValueError, match="matrix"):
        project(rows()[0], 2)


def test_in_so_many_dimensions_all_distances_are_kept():
    enough = int(johnson_lindenstrauss_min_dim(40, eps=0.5)) + 1  # the reference rounds down
    uneven, even = rows(40, 500), np.random.default_rng(0).normal(size=(40, 500))
    for vectors, kind in ((uneven, "gaussian"), (even, "gaussian"), (even, "sparse")):
        found = distortion(vectors, project(vectors, enough, kind))
        assert found.pairs == 40 * 39 // 2 and found.largest <= 0.5
    # A sparse matrix may miss the few entries that matter.
    assert distortion(uneven, project(uneven, enough, "sparse")).largest > 0.5


# ---- the report -----------------------------------------------------------------------------------------------------

CORNERS = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])


def test_the_report_by_hand():
    # squared distances 9, 16, 25; on the first axis alone 9, 0, 9: off by 0, 1, 16/25
    found = distortion(CORNERS, CORNERS[:, :1], k=1)
    assert found.pairs == 3
    assert found.mean == pytest.approx((0 + 1 + 0.64) / 3)
    assert found.largest == 1
    assert found.p95 == pytest.approx(0.64 + 0.9 * 0.36)
    # ranks 1, 2, 3 against 2.5, 1, 2.5
    assert found.rank_correlation == pytest.approx(np.corrcoef([1, 2, 3], [2.5, 1, 2.5])[0, 1])
    # nearest before: 1, 0, 0; after: 2, 0 (tied with 2), 0
    assert found.neighbours_kept == pytest.approx(2 / 3)


def brute(before, after, k):
    n = len(before)
    old = ((before[:, None].astype(np.float64) - before[None]) ** 2).sum(axis=2)
    new = ((after[:, None].astype(np.float64) - after[None]) ** 2).sum(axis=2)
    left, right = np.triu_indices(n, 1)
    off = np.abs(new[left, right] / old[left, right] - 1)
    ranks = np.corrcoef(rankdata(old[left, right]), rankdata(new[left, right]))[0, 1]
    near = [
        {*sorted(set(range(n)) - {i}, key=lambda j: old[i, j])[:k]}
        & {*sorted(set(range(n)) - {i}, key=lambda j: new[i, j])[:k]}
        for i in range(n)
    ]
    return off.mean(), np.quantile(off, 0.95), off.max(), ranks, np.mean([len(both) / k for both in near])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(4, 30), k=st.integers(1, 3))
def test_the_report_is_that_of_all_pairs(seed, n, k):
    before = np.random.default_rng(seed).normal(size=(n, 6))
    found = distortion(before, before[:, :2], k=k)
    got = (found.mean, found.p95, found.largest, found.rank_correlation, found.neighbours_kept)
    assert got == pytest.approx(brute(before, before[:, :2], k), abs=1e-9)


def test_a_sample_is_near_to_all_pairs_and_seeded(monkeypatch):
    before = rows(300)
    after = project(before, 3)
    whole, some = distortion(before, after, pairs=10**6, queries=300), distortion(before, after, 2000, 1, queries=60)
    assert whole.pairs == 300 * 299 // 2 and some.pairs == 2000
    assert some == distortion(before, after, 2000, 1, queries=60) != distortion(before, after, 2000, 2, queries=60)
    for name in ("mean", "p95", "rank_correlation", "neighbours_kept"):
        assert getattr(some, name) == pytest.approx(getattr(whole, name), abs=0.05)
    monkeypatch.setattr(module, "BLOCK", 20)
    assert distortion(before, after, 2000, 1, queries=60) == some


def test_nothing_changes_by_moving_and_turning():
    before = rows(50, 8)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    found = distortion(before, before @ turn + 5.0)
    assert found.largest < 1e-6
    assert found.rank_correlation == pytest.approx(1, abs=1e-6)
    assert found.neighbours_kept == 1
    twice = distortion(before, 2 * before)
    assert (twice.mean, twice.largest, twice.neighbours_kept) == (pytest.approx(3), pytest.approx(3), 1)


def test_rows_without_a_vector_and_equal_rows_are_left_out():
    before = np.insert(CORNERS, 1, np.nan, axis=0)
    assert distortion(before, before[:, :1], k=1) == distortion(CORNERS, CORNERS[:, :1], k=1)
    again = distortion(np.vstack([CORNERS, CORNERS[:1]]), np.vstack([CORNERS, CORNERS[:1]])[:, :1], k=1)
    assert again.pairs == 5
    same = distortion(np.ones((4, 3)), np.ones((4, 2)))
    assert same == Distortion(0, None, None, None, None, 1.0, 3)
    assert same.as_facts() == {"share of 3 nearest rows kept": 1.0}


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_no_number(n):
    assert distortion(np.ones((n, 3)), np.ones((n, 2))).as_facts() == {}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="same rows"):
        distortion(CORNERS, CORNERS[:2])
    with pytest.raises(ValueError, match="at least 1"):
        distortion(CORNERS, CORNERS, k=0)
