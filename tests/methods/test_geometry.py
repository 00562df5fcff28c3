"""Geometric diversity of a row: distances on a line, principal axes by hand and against scikit-learn, edges."""

import numpy as np
import polars as pl
import pytest

from methods.diversity import geometry
from methods.diversity.geometry import knn_1, pca_row_variance
from methods.kinds import Pool


def pool(points, neighbours=None):
    """A pool of these vectors with every row's neighbours in order of distance (or as given)."""
    vectors = np.asarray(points, dtype=np.float32)
    ids = [chr(97 + i) for i in range(len(vectors))]
    if neighbours is None:
        gaps = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) if len(vectors) else np.empty((0, 0))
        orders = [[j for j in np.argsort(row, kind="stable") if j != i] for i, row in enumerate(gaps)]
        neighbours = {ids[i]: [ids[j] for j in order] for i, order in enumerate(orders)}
    lists = pl.DataFrame(
        {"row_id": list(neighbours), "ids": list(neighbours.values())},
        schema={"row_id": pl.String, "ids": pl.List(pl.String)},
    ).with_columns(similarity=pl.lit([], dtype=pl.List(pl.Float32)))
    return Pool(pl.Series(ids, dtype=pl.String), vectors, lists)


LINE = [[0.0], [1.0], [3.0], [7.0]]


def test_knn_on_a_line():
    line = pool(LINE)
    assert knn_1(line)["value"].to_list() == [1, 1, 2, 4]
    assert knn_1(line, j=2)["value"].to_list() == [3, 2, 3, 6]
    assert knn_1(line, j=2, stat="mean")["value"].to_list() == [2, 1.5, 2.5, 5]
    assert knn_1(line, j=4).rows() == [(None, "too_few_neighbours")] * 4


def test_knn_statuses_and_duplicates():
    points = [[1, 0], [1, 0], [0, 1], [np.nan, np.nan], [-1, 0]]
    lists = {"a": ["b", "c"], "b": ["a", "c"], "c": ["gone", "c", "a"], "d": [], "e": []}
    found = knn_1(pool(points, lists))
    assert found["status"].to_list() == ["ok", "ok", "ok", "no_embedding", "too_few_neighbours"]
    assert found["value"].to_list()[:3] == [0.0, 0.0, pytest.approx(2**0.5)]  # "gone" and the row itself do not count
    assert knn_1(pool(points, lists), metric="cosine")["value"].to_list()[:3] == [0.0, 0.0, 1.0]
    null = pool(points, {"a": None, "b": ["a"]})
    assert knn_1(null)["status"].to_list()[:3] == ["too_few_neighbours", "ok", "too_few_neighbours"]


def test_knn_refuses():
    line = pool(LINE)
    with pytest.raises(ValueError, match="neighbour lists"):
        knn_1(Pool(line.row_ids, line.vectors))
    for wrong in ({"stat": "median"}, {"metric": "jaccard"}, {"j": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            knn_1(line, **wrong)


def test_knn_with_the_kernel_of_the_project():
    from methods.numerics.neighbours import neighbours_frame

    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = pl.Series([f"{i:03d}" for i in range(40)])
    table, _ = neighbours_frame(ids, vectors, 5)
    gaps = np.sort(np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2), axis=1)
    found = Pool(ids, vectors, table)
    assert knn_1(found)["value"].to_numpy() == pytest.approx(gaps[:, 1], abs=1e-5)
    assert knn_1(found, j=3)["value"].to_numpy() == pytest.approx(gaps[:, 3], abs=1e-5)
    assert knn_1(found, j=5, stat="mean")["value"].to_numpy() == pytest.approx(gaps[:, 1:6].mean(axis=1), abs=1e-5)


SQUARE = [(4, 1), (1, 2), (-2, -2), (-3, -1)]


def test_pca_row_variance_by_hand():
    found = pca_row_variance(pool(SQUARE), k=2)["value"].to_list()
    assert found == pytest.approx([12.005837, 0.091642, 1.561157, 6.341364], abs=1e-5)
    assert pca_row_variance(pool(SQUARE), k=2, stat="energy")["value"].to_list() == pytest.approx([17, 5, 8, 10])


@pytest.mark.parametrize("block", [3, 1000])
def test_pca_against_sklearn(monkeypatch, block):
    decomposition = pytest.importorskip("sklearn.decomposition")
    monkeypatch.setattr(geometry, "ROWS_AT_A_TIME", block)
    rng = np.random.default_rng(11)
    x = (rng.normal(size=(60, 8)) * np.array([9, 7, 5, 4, 3, 2, 1, 0.1]) + 20).astype(np.float32)
    fitted = decomposition.PCA(svd_solver="full").fit(x.astype(float))
    kept = int(np.searchsorted(np.cumsum(fitted.explained_variance_ratio_), 0.95)) + 1
    assert 1 < kept < 8
    theirs = fitted.transform(x.astype(float))[:, :kept]
    assert pca_row_variance(pool(x))["value"].to_numpy() == pytest.approx(theirs.var(axis=1, ddof=1), rel=1e-6)
    energy = pca_row_variance(pool(x), stat="energy", k=3)["value"].to_numpy()
    assert energy == pytest.approx((theirs[:, :3] ** 2).sum(axis=1), rel=1e-6)


def test_pca_edges():
    nan = [np.nan, np.nan]
    found = pca_row_variance(pool([*SQUARE, nan]), k=2)
    assert found.head(4).rows() == pca_row_variance(pool(SQUARE), k=2).rows()
    assert found.row(4) == (None, "no_embedding")
    assert pca_row_variance(pool([(1, 0), nan])).rows() == [(None, "too_few_rows"), (None, "no_embedding")]
    assert pca_row_variance(pool([(1, 0), (1, 0)])).rows() == [(None, "no_variance")] * 2
    assert pca_row_variance(pool(LINE), k=1)["value"].to_list() == pytest.approx([7.5625, 3.0625, 0.0625, 18.0625])
    for wrong in ({"k": 3}, {"k": 0}, {"stat": "range"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            pca_row_variance(pool(SQUARE), **wrong)


@pytest.mark.parametrize("method", geometry.INDICATORS, ids=lambda method: method.id)
def test_geometric_order_and_empty_pool(method):
    rng = np.random.default_rng(2)
    points = rng.normal(size=(12, 3))
    forward = method.compute(pool(points), **method.params)["value"].to_numpy()
    order = rng.permutation(12)
    assert method.compute(pool(points[order]), **method.params)["value"].to_numpy() == pytest.approx(forward[order])
    empty = method.compute(pool(np.empty((0, 3)), {}), **method.params)
    assert empty.schema == {"value": pl.Float64, "status": pl.String}
    assert empty.height == 0
