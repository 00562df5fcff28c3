"""Measures of a set: hand-worked values, vendi-score and brute force, invariances, and where they are undefined."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import measures
from methods.diversity.measures import MEASURES, d_inertia, d_knn, d_radius, d_renyi, d_simpson, vendi
from methods.kinds import Subset


def subset(vectors=None, clusters=None, words=None):
    n = max(len(field) for field in (vectors, clusters, words) if field is not None)
    return Subset(
        pl.Series([str(i) for i in range(n)], dtype=pl.String),
        None if vectors is None else np.asarray(vectors, dtype=np.float32),
        None if clusters is None else np.asarray(clusters, dtype=np.int64),
        None if words is None else pl.Series(words, dtype=pl.List(pl.UInt64)),
    )


def unit(rng, n, width):
    vectors = rng.normal(size=(n, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


HALF = [[1.0, 0.0], [0.5, math.sqrt(0.75)]]  # cosine .5


@pytest.mark.parametrize(
    ("order", "score"), [(0.5, 1.866025), (1, 1.754765), (2, 1.6), ("inf", 1.333333), (float("inf"), 1.333333)]
)
def test_vendi_of_two_rows_at_sixty_degrees(order, score):
    assert vendi(subset(HALF), order=order) == pytest.approx(score, abs=1e-6)


def test_vendi_by_hand():
    assert vendi(subset([(1, 0), (1, 0), (0, 1)])) == pytest.approx(1.889882, abs=1e-6)
    assert vendi(subset([(1, 0)] * 5)) == pytest.approx(1)
    assert vendi(subset(np.eye(4))) == pytest.approx(4)
    assert vendi(subset(np.eye(4)), order=0.1) == pytest.approx(4)
    with pytest.raises(ValueError, match="order"):
        vendi(subset(HALF), order=-1)


@pytest.mark.parametrize("order", [0.5, 1, 2, "inf"])
def test_vendi_package_agrees(order):
    # its score_X ignores q, and infinity must be the string: score_dual is the one to ask
    theirs = pytest.importorskip("vendi_score.vendi")
    vectors = unit(np.random.default_rng(1), 60, 9)
    exact = vectors.astype(float)
    assert vendi(subset(vectors), order=order) == pytest.approx(theirs.score_dual(exact, q=order), rel=1e-6)


def test_vendi_by_blocks_and_without_noise(monkeypatch):
    vectors = unit(np.random.default_rng(4), 50, 5) @ np.linalg.qr(np.random.default_rng(5).normal(size=(32, 5)))[0].T
    direct = np.linalg.eigvalsh(vectors.astype(float) @ vectors.T.astype(float) / 50)[-5:]
    wanted = np.log((direct**0.1).sum()) / 0.9
    assert vendi(subset(vectors), order=0.1) == pytest.approx(np.exp(wanted), rel=1e-4)
    whole = vendi(subset(vectors))
    monkeypatch.setattr(measures, "ROWS_AT_A_TIME", 7)
    assert vendi(subset(vectors)) == pytest.approx(whole, rel=1e-12)


def test_knn_distance():
    # on a circle, chords of .1, .1, .2, .4 to the nearest
    angles = np.cumsum([0, *(2 * np.arcsin(np.array([0.1, 0.2, 0.4]) / 2))])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert d_knn(subset(points)) == pytest.approx(0.2, abs=1e-6)
    assert d_knn(subset(points), metric="cosine") == pytest.approx((0.1**2 * 2 + 0.2**2 + 0.4**2) / 2 / 4, abs=1e-6)
    assert d_knn(subset([(1, 0)] * 3)) == 0.0
    assert d_knn(subset([(1, 0)])) is None


def test_knn_against_brute_force():
    vectors = unit(np.random.default_rng(8), 40, 5)
    gaps = np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2) + 9 * np.eye(40)
    assert d_knn(subset(vectors)) == pytest.approx(gaps.min(axis=1).mean(), rel=1e-5)


def test_radius():
    points = [(0, 0), (2, 1), (4, 2)]
    assert d_radius(subset(points)) == pytest.approx(1.154701, abs=1e-6)
    assert d_radius(subset(points), ddof=1) == pytest.approx(1.414214, abs=1e-6)
    flat = [(0, 5), (2, 5), (4, 5)]
    assert d_radius(subset(flat), floor=1e-4) == pytest.approx(math.sqrt(math.sqrt(8 / 3) * 1e-4), rel=1e-5)
    assert d_radius(subset([(1, 2)] * 3)) == 0.0
    assert d_radius(subset([(1, 2)]), ddof=1) is None


def test_inertia():
    data = subset([(0, 0), (0, 2), (5, 0), (7, 0)], clusters=[3, 3, 9, 9])
    assert d_inertia(data) == pytest.approx(4)
    assert d_inertia(data, per_row=True) == pytest.approx(1)
    with pytest.raises(ValueError, match="clusters"):
        d_inertia(subset([(0, 0)]))


COUNTS = subset(clusters=[7, 7, 1, 4])


def test_categories():
    assert measures.d_entropy(COUNTS) == pytest.approx(1.5)
    assert d_renyi(COUNTS) == pytest.approx(1.415037, abs=1e-6)
    assert d_renyi(COUNTS, alpha=0.5) == pytest.approx(1.543107, abs=1e-6)
    assert d_renyi(COUNTS, alpha="inf") == pytest.approx(1.0)
    assert d_renyi(COUNTS, alpha=1) == pytest.approx(1.5)
    assert d_simpson(COUNTS) == pytest.approx(0.5)
    assert d_simpson(COUNTS, variant="unbiased") == pytest.approx(1 / 6)
    assert d_simpson(COUNTS, variant="plain") == pytest.approx(0.375)
    assert d_simpson(subset(clusters=[1, 1, 1])) == 1.0
    assert d_simpson(subset(clusters=[1, 2, 3])) == pytest.approx(2 / 4)
    assert d_simpson(subset(clusters=[1]), variant="unbiased") is None
    with pytest.raises(ValueError, match="variant"):
        d_simpson(COUNTS, variant="gini")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=20))
def test_simpson_is_the_share_of_equal_pairs(labels):
    n = len(labels)
    pairs = [labels[i] == labels[j] for i in range(n) for j in range(i, n)]
    assert d_simpson(subset(clusters=labels)) == pytest.approx(np.mean(pairs))
    apart = [labels[i] == labels[j] for i in range(n) for j in range(n) if i != j]
    assert d_simpson(subset(clusters=labels), variant="unbiased") == pytest.approx(np.mean(apart))
    assert d_renyi(subset(clusters=labels), alpha=2) == pytest.approx(
        -math.log2(d_simpson(subset(clusters=labels), variant="plain")), abs=1e-12
    )


WORDS = subset(words=[[1, 2, 1], [], [2, 1, 3]])


def test_words():
    assert measures.vocab_richness(WORDS) == 3
    assert measures.corpus_ttr(WORDS) == pytest.approx(0.5)
    assert measures.corpus_distinct(WORDS) == pytest.approx(3 / 4)  # 12 21 | 21 13: no pair across rows
    assert measures.corpus_distinct(WORDS, n=3) == 1.0
    assert measures.corpus_distinct(WORDS, n=4) is None
    assert measures.mean_response_length(WORDS) == 2
    wordless = subset(words=[[], []])
    assert [measures.vocab_richness(wordless), measures.corpus_ttr(wordless)] == [None, None]
    assert measures.corpus_distinct(wordless) is None
    assert measures.mean_response_length(wordless) == 0


def full(n, seed=0):
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, 30, size=rng.integers(1, 12)).tolist() for _ in range(n)]
    return unit(rng, n, 6), rng.integers(0, 4, n), words


@pytest.mark.parametrize("method", MEASURES, ids=lambda method: method.id)
def test_permutation_empty_set_and_missing_field(method):
    vectors, clusters, words = full(30)
    value = method.compute(subset(vectors, clusters, words), **method.params)
    assert isinstance(value, float)
    order = np.random.default_rng(1).permutation(30)
    moved = subset(vectors[order], clusters[order], [words[i] for i in order])
    assert method.compute(moved, **method.params) == pytest.approx(value, rel=1e-9)
    empty = subset(np.empty((0, 6)), np.empty(0), [])
    assert method.compute(empty, **method.params) is None
    with pytest.raises(ValueError, match=r"this measure reads"):
        method.compute(Subset(pl.Series(["a"])), **method.params)


@pytest.mark.parametrize("id", ["vendi", "d_radius", "d_entropy", "d_renyi"])
def test_taking_every_row_twice_changes_nothing(id):
    method = next(method for method in MEASURES if method.id == id)
    vectors, clusters, words = full(20, seed=3)
    once = method.compute(subset(vectors, clusters, words), **method.params)
    twice = method.compute(subset(np.repeat(vectors, 2, axis=0), np.repeat(clusters, 2), words * 2), **method.params)
    assert twice == pytest.approx(once, rel=1e-6)


def test_duplicates_bring_the_nearest_neighbour_to_zero():
    vectors, _, _ = full(20, seed=3)
    assert d_knn(subset(np.repeat(vectors, 2, axis=0))) == 0.0
