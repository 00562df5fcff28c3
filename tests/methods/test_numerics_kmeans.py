"""Spherical k-means: recovery, optimality against scikit-learn, and the awkward pools."""

import numpy as np
import pytest

from methods.numerics import kmeans
from methods.numerics.kmeans import assign, fit


def blobs(sizes, d=16, spread=0.05, seed=0):
    """Tight groups round orthogonal directions, and which group each row is of."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.eye(d)[truth] + spread * rng.normal(size=(len(truth), d))
    shuffled = rng.permutation(len(truth))
    rows = rows[shuffled] / np.linalg.norm(rows[shuffled], axis=1, keepdims=True)
    return rows.astype(np.float32), truth[shuffled]


@pytest.mark.parametrize("seed", range(5))
def test_separate_groups_are_found(seed):
    from sklearn.metrics import adjusted_rand_score

    rows, truth = blobs([30, 30, 7, 60], seed=seed)
    label, similarity = assign(rows, fit(rows, 4, seed=seed))
    assert adjusted_rand_score(truth, label) == 1.0
    assert (similarity > 0.9).all()


def test_centroids_are_normalised_means_of_their_rows():
    rows, _ = blobs([20, 30], spread=0.3)
    centroids = fit(rows, 2)
    label, similarity = assign(rows, centroids)
    for j in range(2):
        mean = rows[label == j].mean(axis=0)
        assert np.allclose(centroids[j], mean / np.linalg.norm(mean), atol=1e-6)
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    assert np.allclose(similarity, (rows @ centroids.T).max(axis=1), atol=1e-6)


def test_it_is_no_worse_than_scikit_learn_on_formless_data():
    from sklearn.cluster import KMeans

    rows = np.random.default_rng(1).normal(size=(600, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    theirs = KMeans(12, n_init=1, random_state=0).fit(rows).cluster_centers_.astype(np.float32)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = [assign(rows, fit(rows, 12, seed=s))[1].mean() for s in range(3)]
    assert np.mean(ours) > assign(rows, theirs)[1].mean() - 0.01


def test_same_seed_same_bits_whatever_the_block():
    rows, _ = blobs([40, 40, 40], spread=0.6)
    whole, cut = fit(rows, 7, seed=3), fit(rows, 7, seed=3, block=11)
    assert np.array_equal(whole, cut)
    assert np.array_equal(assign(rows, whole)[0], assign(rows, whole, block=7)[0])
    assert not np.array_equal(whole, fit(rows, 7, seed=4))


def test_the_sample_is_capped_by_seed():
    rows, truth = blobs([200, 200], spread=0.1)
    centroids = fit(rows, 2, sample_cap=20)
    assert not np.array_equal(centroids, fit(rows, 2))
    label, _ = assign(rows, centroids)
    assert len(set(zip(label.tolist(), truth.tolist(), strict=True))) == 2


def test_rows_without_a_vector_get_no_label():
    rows, _ = blobs([5, 5])
    rows[3] = np.nan
    centroids = fit(rows, 2)
    label, similarity = assign(rows, centroids)
    assert label[3] == -1 and np.isnan(similarity[3])
    assert (np.delete(label, 3) >= 0).all() and np.isfinite(centroids).all()
    assert np.array_equal(centroids, fit(np.delete(rows, 3, axis=0), 2))


def test_fewer_distinct_rows_than_clusters():
    same = np.tile(np.float32([0.6, 0.8]), (9, 1))
    assert fit(same, 3).shape == (1, 2)
    assert assign(same, fit(same, 3))[0].tolist() == [0] * 9
    two = np.float32([[1, 0], [0, 1], [1, 0]])
    assert fit(two, 5).shape == (2, 2)
    assert fit(two[:1], 5).tolist() == [[1, 0]]


def test_pools_without_any_vector():
    nothing = np.full((3, 2), np.nan, dtype=np.float32)
    assert fit(nothing, 2).shape == (0, 2)
    assert assign(nothing, fit(nothing, 2))[0].tolist() == [-1, -1, -1]
    assert fit(nothing[:0], 2).shape == (0, 2)
    with pytest.raises(ValueError, match="k must be at least 1"):
        fit(nothing, 0)


@pytest.mark.parametrize("tile", [1, 2, 4096])
def test_equal_centroids_give_the_lowest_label(tile, monkeypatch):
    monkeypatch.setattr(kmeans, "TILE", tile)
    rows = np.float32([[1, 0], [0, 1]])
    assert assign(rows, rows[[1, 1, 0]])[0].tolist() == [2, 0]


def test_an_empty_cluster_starts_again_at_the_most_outlying_row():
    sample = np.float32([[1, 0], [0.8, 0.6], [0, 1]])
    centroids = np.float32([[1, 0], [-1, 0]])
    label = np.zeros(3, dtype=np.int64)
    moved = kmeans._means(sample, label, sample @ centroids[0], centroids)
    assert moved[1].tolist() == [0, 1]


def test_rows_that_cancel_out_leave_the_centroid_where_it_was():
    sample = np.float32([[1, 0], [-1, 0]])
    centroids = np.float32([[0, 1]])
    assert kmeans._means(sample, np.zeros(2, dtype=np.int64), np.zeros(2), centroids).tolist() == [[0, 1]]
