"""The map of the pool: principal components against an oracle, neighbours kept by t-SNE, and the points of a plot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from methods.diversity.corpus_map import corpus_map, layout_of, thinned
from methods.numerics import projection as module
from methods.numerics.projection import principal


def groups(n=60, d=12, k=3, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % k
    rows = rng.normal(size=(k, d))[truth] + spread * rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


def test_the_map_is_that_of_the_reference_up_to_the_sign_of_an_axis():
    vectors, _ = groups()
    found = corpus_map(vectors)
    oracle = PCA(2, svd_solver="full").fit_transform(vectors.astype(np.float64))
    assert found.dtype == np.float32
    assert found.shape == (60, 2)
    assert np.abs(found) == pytest.approx(np.abs(oracle), abs=1e-5)
    assert np.array_equal(found, corpus_map(vectors))


def test_an_axis_points_where_its_largest_loading_is_positive():
    rows = np.array([[0, 0, 0], [0, -4, 0], [0, -8, 0], [1, -4, 0], [-1, -4, 0]], dtype=np.float32)
    assert principal(rows, 2)[:3, 0].tolist() == pytest.approx([4, 0, -4])
    assert principal(rows, 2)[3:, 1].tolist() == pytest.approx([1, -1])
    assert principal(rows, 5)[:, 2:].tolist() == [[0, 0, 0]] * 5


def test_the_map_does_not_depend_on_blocks(monkeypatch):
    vectors, _ = groups()
    whole = corpus_map(vectors)
    cut = module.blocks
    monkeypatch.setattr(module, "blocks", lambda n: cut(n, 7))
    assert corpus_map(vectors) == pytest.approx(whole, abs=1e-6)


def test_rows_without_a_vector_are_not_on_the_map():
    vectors, _ = groups()
    vectors[[0, 9]] = np.nan
    for layout in ("pca", "tsne"):
        found = corpus_map(vectors, layout, iterations=250)
        assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [0, 9]
    rest = np.delete(np.arange(60), [0, 9])
    assert np.array_equal(corpus_map(vectors)[rest], corpus_map(vectors[rest]))


@pytest.mark.parametrize("layout", ["pca", "tsne"])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_and_equal_rows(layout, n):
    found = corpus_map(np.tile(np.array([[0.6, 0.8, 0]], dtype=np.float32), (n, 1)), layout)
    assert found.tolist() == [[0, 0]] * n
    assert np.isnan(corpus_map(np.full((n, 3), np.nan, dtype=np.float32), layout)).all()


def test_one_dimension_is_a_line():
    found = corpus_map(np.array([[1.0], [-1.0], [1.0]], dtype=np.float32))
    assert found[:, 1].tolist() == [0, 0, 0]
    assert found[0, 0] == found[2, 0] > 0 > found[1, 0]


def test_neighbours_stay_neighbours_where_two_axes_overlay_groups():
    vectors, truth = groups(n=120, d=40, k=8, spread=0.1)

    def kept(points):
        away = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(away, np.inf)
        return (truth[away.argmin(axis=1)] == truth).mean()

    placed = corpus_map(vectors, "tsne", iterations=300, perplexity=10)
    assert kept(placed) == 1
    assert kept(placed) >= kept(corpus_map(vectors))
    assert np.array_equal(placed, corpus_map(vectors, "tsne", iterations=300, perplexity=10))


def test_a_layout_is_offered_where_it_can_be_made():
    assert [layout_of(n, "tsne") for n in (3, 4, 5000, 5001)] == ["pca", "tsne", "tsne", "pca"]
    assert layout_of(100, "pca") == "pca"
    with pytest.raises(ValueError, match="layout"):
        layout_of(3, "umap")


# ---- the points of a plot ---------------------------------------------------------------------------------------------


def shown(labels, most, **kwargs):
    labels = np.asarray(labels)
    rows = thinned(np.zeros((len(labels), 2)), labels, most, **kwargs)
    return {label: int((labels[rows] == label).sum()) for label in sorted(set(labels.tolist()))}


def test_clusters_are_shown_in_their_shares_and_small_ones_too():
    # One place each, and seven by 59 : 29 : 9, that is 4.26, 2.09, .65: whole parts 4, 2, 0 and the remainder to the last.
    assert shown([0] * 60 + [1] * 30 + [2] * 10, 10) == {0: 5, 1: 3, 2: 2}
    assert shown([0] * 1000 + [7], 5) == {0: 4, 7: 1}
    assert shown([3] * 5 + [1] * 2 + [2] * 4, 2) == {1: 0, 2: 1, 3: 1}  # fewer places than clusters: the largest


def test_what_must_be_seen_comes_first():
    labels = np.zeros(50, dtype=np.int64)
    rows = thinned(np.zeros((50, 2)), labels, 10, keep=np.array([49, 3, 17]))
    assert {3, 17, 49} <= set(rows.tolist())
    assert len(rows) == 10
    assert len(thinned(np.zeros((50, 2)), labels, 2, keep=np.array([49, 3, 17]))) == 2


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(-1, 4), max_size=40),
    most=st.integers(0, 45),
    seed=st.integers(0, 3),
    missing=st.sets(st.integers(0, 39)),
)
def test_as_many_as_there_are_places_for_and_no_row_twice(labels, most, seed, missing):
    points = np.zeros((len(labels), 2))
    gone = [row for row in missing if row < len(labels)]
    points[gone] = np.nan
    rows = thinned(points, np.array(labels, dtype=np.int64), most, seed)
    assert len(rows) == min(most, len(labels) - len(gone))
    assert rows.dtype == np.int64
    assert (np.diff(rows) > 0).all()
    assert not set(rows.tolist()) & set(gone)
    assert np.array_equal(rows, thinned(points, np.array(labels, dtype=np.int64), most, seed))
    if most >= len(labels):
        assert len(rows) == len(labels) - len(gone)
    there = {label for row, label in enumerate(labels) if row not in gone}
    if most >= len(there):
        assert {labels[row] for row in rows} == there


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="most"):
        thinned(np.zeros((1, 2)), np.zeros(1, dtype=np.int64), -1)
