"""Distance to the i-th neighbour: the default of six, the lists that bound it, and pools without vectors."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity.geometry import INDICATORS, knn_1, knn_i, pca_row_variance
from methods.kinds import Pool
from methods.numerics.neighbours import neighbours_frame


def unit(seed, n, width=5):
    vectors = np.random.default_rng(seed).normal(size=(n, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def pool(vectors, k=10):
    ids = pl.Series([f"{i:03d}" for i in range(len(vectors))], dtype=pl.String)
    return Pool(ids, vectors, neighbours_frame(ids, vectors, k)[0])


def line(points):
    ids = [str(i) for i in range(len(points))]
    orders = [sorted((abs(p - q), j) for j, q in enumerate(points) if j != i) for i, p in enumerate(points)]
    lists = pl.DataFrame({"row_id": ids, "ids": [[str(j) for _, j in order] for order in orders]})
    return Pool(pl.Series(ids), np.array(points, dtype=np.float32)[:, None], lists)


def test_on_a_line():
    assert knn_i(line([0, 1, 3, 7]), j=2)["value"].to_list() == [3, 2, 3, 6]
    assert knn_i(line([0, 1, 3, 7]), j=1)["value"].to_list() == [1, 1, 2, 4]
    assert knn_i(line([0, 1, 3, 7]), j=2, stat="mean")["value"].to_list() == [2, 1.5, 2.5, 5]
    assert knn_i(line([0, 1, 3, 7, 8, 9, 20]))["value"].to_list() == [20, 19, 17, 13, 12, 11, 20]
    assert knn_i(line([0, 1, 3, 7])).rows() == [(None, "too_few_neighbours")] * 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_against_all_distances(seed, j):
    vectors = unit(seed, 14)
    gaps = np.sort(np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2), axis=1)
    found = pool(vectors)
    assert knn_i(found, j=j)["value"].to_numpy() == pytest.approx(gaps[:, j], abs=2e-3)
    assert knn_i(found, j=j, stat="mean")["value"].to_numpy() == pytest.approx(
        gaps[:, 1 : j + 1].mean(axis=1), abs=2e-3
    )
    cosine = knn_i(found, j=j, metric="cosine")["value"].to_numpy()
    assert cosine == pytest.approx(gaps[:, j] ** 2 / 2, abs=1e-5)


def test_the_lists_bound_it():
    found = pool(unit(0, 30))
    assert knn_i(found, j=10)["status"].unique().to_list() == ["ok"]
    assert knn_i(found, j=11)["status"].unique().to_list() == ["too_few_neighbours"]


def test_copies_and_missing_vectors():
    vectors = unit(1, 12)
    vectors[:7] = vectors[0]  # each of the seven has six copies
    vectors[11] = np.nan
    found = knn_i(pool(vectors))
    assert found["value"].to_list()[:7] == [0.0] * 7
    assert all(value > 0 for value in found["value"].to_list()[7:11])
    assert found.row(11) == (None, "no_embedding")


def test_one_family():
    found = pool(unit(2, 20))
    assert knn_i(found, j=1).rows() == knn_1(found).rows()
    assert knn_1(found, j=6).rows() == knn_i(found).rows()


def test_what_is_missing_is_named():
    found = pool(unit(3, 5))
    for method in INDICATORS:
        with pytest.raises(ValueError, match=f"{method.id} reads the vectors"):
            method.compute(Pool(found.row_ids, neighbours=found.neighbours), **method.params)
    with pytest.raises(ValueError, match="knn_i reads the neighbour lists"):
        knn_i(Pool(found.row_ids, found.vectors))
    for wrong in ({"stat": "median"}, {"metric": "jaccard"}, {"j": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            knn_i(found, **wrong)


def test_pca_row_variance_of_the_specification():
    points = np.array([(4, 1), (1, 2), (-2, -2), (-3, -1)], dtype=np.float32)
    found = Pool(pl.Series(list("abcd")), points)
    assert pca_row_variance(found, k=2)["value"].to_list() == pytest.approx(
        [12.005837, 0.091642, 1.561157, 6.341364], abs=1e-5
    )
    assert pca_row_variance(found, k=2, stat="energy")["value"].to_list() == pytest.approx([17, 5, 8, 10])
