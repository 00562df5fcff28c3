"""Measures of a set: hand-worked values, other packages and brute force, invariances, and where they are undefined."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import measures, vendi, word_measures
from methods.diversity.measures import d_inertia, d_knn, d_radius, d_renyi, d_simpson
from methods.diversity.word_measures import d_icd, self_bleu
from methods.kinds import Subset

MEASURES = (*measures.MEASURES, *vendi.MEASURES, *word_measures.MEASURES)


def subset(vectors=None, clusters=None, words=None, tags=None, known_tags=None, quality=None):
    n = max(len(field) for field in (vectors, clusters, words, tags, quality) if field is not None)
    return Subset(
        pl.Series([str(i) for i in range(n)], dtype=pl.String),
        None if vectors is None else np.asarray(vectors, dtype=np.float32),
        None if clusters is None else np.asarray(clusters, dtype=np.int64),
        None if words is None else pl.Series(words, dtype=pl.List(pl.UInt64)),
        tags=None if tags is None else pl.Series(tags, dtype=pl.List(pl.String)),
        known_tags=None if known_tags is None else frozenset(known_tags),
        quality=None if quality is None else np.asarray(quality, dtype=np.float64),
    )


def unit(rng, n, width):
    vectors = rng.normal(size=(n, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# --- geometry --------------------------------------------------------------------------------------------------------
def test_knn_distance():
    # on a circle, chords of .1, .1, .2, .4 to the nearest
    angles = np.cumsum([0, *(2 * np.arcsin(np.array([0.1, 0.2, 0.4]) / 2))])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert d_knn(subset(points)) == pytest.approx(0.2, abs=1e-6)
    assert d_knn(subset(points), metric="cosine") == pytest.approx((0.1**2 * 2 + 0.2**2 + 0.4**2) / 2 / 4, abs=1e-6)
    assert d_knn(subset([(1, 0)] * 3)) == 0.0
    assert d_knn(subset([(1, 0)])) is None
    assert d_knn(subset([(1, 0), (math.nan, math.nan)])) is None


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


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.25, 4))
def test_radius_and_inertia_scale(seed, factor):
    points = np.random.default_rng(seed).normal(size=(9, 3)).astype(np.float32)
    one, other = subset(points, [0, 1, 2] * 3), subset(points * np.float32(factor), [0, 1, 2] * 3)
    factor = float(np.float32(factor))
    assert d_radius(other) == pytest.approx(d_radius(one) * factor, rel=1e-5)
    assert d_inertia(other) == pytest.approx(d_inertia(one) * factor**2, rel=1e-5)


def test_inertia():
    data = subset([(0, 0), (0, 2), (5, 0), (7, 0)], clusters=[3, 3, 9, 9])
    assert d_inertia(data) == pytest.approx(4)
    assert d_inertia(data, per_row=True) == pytest.approx(1)
    lacking = subset([(0, 0), (0, 2), (9, 9), (math.nan, 1)], clusters=[3, 3, -1, 3])
    assert d_inertia(lacking, per_row=True) == pytest.approx(1)
    assert d_inertia(subset([(9, 9), (math.nan, 1)], clusters=[-1, 3])) is None
    with pytest.raises(ValueError, match="clusters"):
        d_inertia(subset([(0, 0)]))


# --- categories ------------------------------------------------------------------------------------------------------
COUNTS = subset(clusters=[7, 7, 1, -1, 4])


def test_categories():
    assert measures.d_entropy(COUNTS) == pytest.approx(1.5)
    assert d_renyi(COUNTS) == pytest.approx(1.415037, abs=1e-6)
    assert d_renyi(COUNTS, alpha=0.5) == pytest.approx(1.543107, abs=1e-6)
    assert d_renyi(COUNTS, alpha="inf") == pytest.approx(1.0)
    assert d_renyi(COUNTS, alpha=1) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="alpha"):
        d_renyi(COUNTS, alpha=-1)
    assert d_simpson(COUNTS) == pytest.approx(0.5)
    assert d_simpson(COUNTS, variant="unbiased") == pytest.approx(1 / 6)
    assert d_simpson(COUNTS, variant="plain") == pytest.approx(0.375)
    assert d_simpson(COUNTS, variant="gini") == pytest.approx(0.5)
    assert d_simpson(COUNTS, variant="inverse") == pytest.approx(8 / 3)
    assert d_simpson(subset(clusters=[1, 1, 1])) == 1.0
    assert d_simpson(subset(clusters=[1, 1, 1]), variant="gini") == 0.0
    assert d_simpson(subset(clusters=[1, 2, 3])) == pytest.approx(2 / 4)
    assert d_simpson(subset(clusters=[1, 2, 3]), variant="inverse") == pytest.approx(3)
    assert d_simpson(subset(clusters=[1]), variant="unbiased") is None
    assert [measures.d_entropy(subset(clusters=[-1])), d_simpson(subset(clusters=[-1]))] == [None, None]
    with pytest.raises(ValueError, match="variant"):
        d_simpson(COUNTS, variant="shannon")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=20))
def test_simpson_is_the_share_of_equal_pairs(labels):
    n = len(labels)
    pairs = [labels[i] == labels[j] for i in range(n) for j in range(i, n)]
    assert d_simpson(subset(clusters=labels)) == pytest.approx(np.mean(pairs))
    apart = [labels[i] == labels[j] for i in range(n) for j in range(n) if i != j]
    assert d_simpson(subset(clusters=labels), variant="unbiased") == pytest.approx(np.mean(apart))
    assert d_renyi(subset(clusters=labels), alpha=2) == pytest.approx(
        math.log2(d_simpson(subset(clusters=labels), variant="inverse")), abs=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(1, 9))
def test_renyi_falls_with_its_order_and_concentration_lowers_it(labels, more):
    data = subset(clusters=labels)
    bits = [d_renyi(data, alpha=alpha) for alpha in (0, 0.5, 1, 2, "inf")]
    assert all(a >= b - 1e-12 for a, b in pairwise(bits))
    assert bits[0] == pytest.approx(math.log2(len(set(labels))))
    common = Counter(labels).most_common(1)[0][0]
    assert measures.d_entropy(subset(clusters=[*labels, *[common] * more])) <= bits[2] + 1e-12


# --- tags ------------------------------------------------------------------------------------------------------------
def test_tags():
    tagged = subset(tags=[["a", "b"], ["a"], ["c"], [], None], known_tags="abcd")
    assert measures.tag_count(tagged) == 3
    assert measures.tag_coverage(tagged) == 0.75
    assert measures.tag_entropy(tagged) == pytest.approx(1.5)
    assert measures.tag_coverage(subset(tags=[["a", "x"]], known_tags="ab")) == 0.5  # x is none of the pool's
    assert measures.tag_count(subset(tags=[["数学", "写作"], ["数学"]])) == 2


def test_tags_unknown_are_not_zero():
    silent, none = subset(tags=[None, None], known_tags="ab"), subset(tags=[[], []], known_tags="ab")
    for measure in (measures.tag_count, measures.tag_coverage, measures.tag_entropy):
        assert measure(silent) is None
    assert (measures.tag_count(none), measures.tag_coverage(none), measures.tag_entropy(none)) == (0, 0, None)
    assert measures.tag_coverage(subset(tags=[["a"]])) is None
    assert measures.tag_coverage(subset(tags=[["a"]], known_tags="")) is None


# --- words -----------------------------------------------------------------------------------------------------------
WORDS = subset(words=[[1, 2, 1], [], None, [2, 1, 3]])


def test_words():
    assert word_measures.vocab_richness(WORDS) == 3
    assert word_measures.corpus_ttr(WORDS) == pytest.approx(0.5)
    assert word_measures.corpus_distinct(WORDS) == pytest.approx(3 / 4)  # 12 21 | 21 13: no pair across rows
    assert word_measures.corpus_distinct(WORDS, n=3) == 1.0
    assert word_measures.corpus_distinct(WORDS, n=4) is None
    assert word_measures.mean_response_length(WORDS) == 2
    wordless = subset(words=[[], []])
    assert [word_measures.vocab_richness(wordless), word_measures.corpus_ttr(wordless)] == [None, None]
    assert word_measures.corpus_distinct(wordless) is None
    assert word_measures.mean_response_length(wordless) == 0
    assert word_measures.mean_response_length(subset(words=[None])) is None
    with pytest.raises(ValueError, match="n must"):
        word_measures.corpus_distinct(WORDS, n=0)


def icd_by_brute_force(words, clusters):
    """The equation over the whole vocabulary, cluster by cluster, with Python's sets; None as the docstring has it."""
    rows = [(set(w), c) for w, c in zip(words, clusters, strict=True) if w is not None and c >= 0]
    vocabulary = sorted(set().union(*(w for w, _ in rows))) if rows else []

    def distribution(side):
        df = np.array([sum(word in row for row in side) for word in vocabulary], dtype=float)
        idf = np.where(df > 0, np.log((1 + len(side)) / (1 + df)) + 1, 0)
        return idf / idf.sum() if idf.sum() else None

    def entropy(p):
        return -(p[p > 0] * np.log2(p[p > 0])).sum()

    found = []
    for cluster in sorted({c for _, c in rows}):
        p = distribution([w for w, c in rows if c == cluster])
        q = distribution([w for w, c in rows if c != cluster])
        if p is not None and q is not None:
            found.append(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)
    return np.mean(found) if found else None


def test_icd_by_hand():
    # one row a side: every word has df = N, hence weight 1: P = (.5, .5, 0), Q = (0, .5, .5)
    assert d_icd(subset(clusters=[0, 1], words=[[1, 2], [2, 3]])) == pytest.approx(0.5)
    assert d_icd(subset(clusters=[0, 1], words=[[1, 2], [3, 4]])) == pytest.approx(1)
    assert d_icd(subset(clusters=[0, 1], words=[[1, 2], [2, 1, 1]])) == pytest.approx(0, abs=1e-12)
    assert d_icd(subset(clusters=[0, 0, -1], words=[[1, 2], [2, 3], [4]])) is None
    assert d_icd(subset(clusters=[0, 1], words=[[1, 2], []])) is None
    assert d_icd(subset(clusters=[0, 1], words=[[], []])) is None
    assert d_icd(subset(clusters=[0, 1], words=[[1], None])) is None


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_icd_against_brute_force(data):
    n = data.draw(st.integers(2, 12))
    row = st.one_of(st.none(), st.lists(st.integers(0, 6), max_size=5))
    words = data.draw(st.lists(row, min_size=n, max_size=n))
    clusters = data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    wanted, found = icd_by_brute_force(words, clusters), d_icd(subset(clusters=clusters, words=words))
    assert (found is None) == (wanted is None)
    if wanted is not None:
        assert found == pytest.approx(wanted, abs=1e-9)
        assert 0 <= found <= 1


def bleu_by_nltk(texts):
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smooth = bleu.SmoothingFunction(epsilon=0.1).method1
    return np.mean(
        [
            float(bleu.sentence_bleu(texts[:i] + texts[i + 1 :], text, smoothing_function=smooth))
            for i, text in enumerate(texts)
        ]
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=2, max_size=7))
def test_self_bleu_against_nltk(texts):
    # its sentence_bleu with method 1 is the definition; auto_reweigh, which forgives short texts, stays off
    assert self_bleu(subset(words=texts)) == pytest.approx(bleu_by_nltk(texts), rel=1e-9, abs=1e-12)


def test_self_bleu_by_hand():
    # 1 2 3 4 in each other's: p = 3/4, 2/3, 1/2, .1/1; equal lengths, no penalty
    value = (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25
    assert self_bleu(subset(words=[[1, 2, 3, 4], [1, 2, 3, 5]])) == pytest.approx(value)
    assert self_bleu(subset(words=[[1, 2, 3, 4], [1, 2, 3, 5]]), n=1) == pytest.approx(0.75)
    assert self_bleu(subset(words=[[1, 2, 3, 4]] * 3)) == pytest.approx(1)
    assert self_bleu(subset(words=[[1, 2], [3, 4]])) == 0.0
    assert self_bleu(subset(words=[[1, 2, 3, 4], [], None])) is None
    # a word said twice counts once where every other text says it once
    assert self_bleu(subset(words=[[1, 1], [1, 2]]), n=1) == pytest.approx(0.5)
    for wrong in ({"n": 0}, {"epsilon": 0}, {"rows": 0}):
        with pytest.raises(ValueError):
            self_bleu(subset(words=[[1], [1]]), **wrong)


def test_self_bleu_of_a_sample():
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 9, 8).tolist() for _ in range(60)]
    data = subset(words=texts)
    chosen = word_measures.bleu_rows(data, rows=20, seed=3)
    assert len(chosen) == 20
    assert self_bleu(data, rows=20, seed=3) == pytest.approx(self_bleu(subset(words=[texts[i] for i in chosen])))
    assert chosen.tolist() != word_measures.bleu_rows(data, rows=20, seed=4).tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=4, max_size=12), min_size=2, max_size=6))
def test_a_planted_copy_raises_self_bleu_and_lowers_distinct_shares(texts):
    before, after = subset(words=texts), subset(words=[*texts, *texts])
    assert self_bleu(after) == pytest.approx(1)
    assert self_bleu(before) <= 1
    assert word_measures.corpus_ttr(after) == pytest.approx(word_measures.corpus_ttr(before) / 2)
    assert word_measures.corpus_distinct(after) == pytest.approx(word_measures.corpus_distinct(before) / 2)


# --- all -------------------------------------------------------------------------------------------------------------
def full(n, seed=0):
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, 30, size=rng.integers(1, 12)).tolist() for _ in range(n)]
    tags = [rng.choice(list("abcde"), size=rng.integers(0, 3)).tolist() for _ in range(n)]
    return unit(rng, n, 6), rng.integers(0, 4, n), words, tags, "abcdefg", rng.random(n)


def reordered(fields, rows):
    vectors, clusters, words, tags, known, quality = fields
    pick = [int(i) for i in rows]
    return vectors[pick], clusters[pick], [words[i] for i in pick], [tags[i] for i in pick], known, quality[pick]


@pytest.mark.parametrize("method", MEASURES, ids=lambda method: method.id)
def test_permutation_empty_set_and_missing_field(method):
    fields = full(30)
    value = method.compute(subset(*fields), **method.params)
    assert isinstance(value, float)
    moved = subset(*reordered(fields, np.random.default_rng(1).permutation(30)))
    assert method.compute(moved, **method.params) == pytest.approx(value, rel=1e-9)
    empty = subset(np.empty((0, 6)), np.empty(0), [], [], "ab", [])
    assert method.compute(empty, **method.params) is None
    with pytest.raises(ValueError, match=r"this measure reads"):
        method.compute(Subset(pl.Series(["a"])), **method.params)


@pytest.mark.parametrize("method", MEASURES, ids=lambda method: method.id)
def test_rows_that_lack_what_is_read_are_left_out(method):
    fields = full(30)
    wanted = method.compute(subset(*fields), **method.params)
    vectors, clusters, words, tags, known, quality = fields
    longer = subset(
        np.vstack([vectors[:10], np.full((3, 6), np.nan), vectors[10:]]),
        np.insert(clusters, 10, [-1] * 3),
        [*words[:10], None, None, None, *words[10:]],
        [*tags[:10], None, None, None, *tags[10:]],
        known,
        np.insert(quality, 10, [np.nan] * 3),
    )
    assert method.compute(longer, **method.params) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("id", ["vendi", "quality_weighted_vendi", "d_radius", "d_entropy", "d_renyi", "tag_entropy"])
def test_taking_every_row_twice_changes_nothing(id):
    method = next(method for method in MEASURES if method.id == id)
    fields = full(20, seed=3)
    once = method.compute(subset(*fields), **method.params)
    twice = method.compute(subset(*reordered(fields, [*range(20), *range(20)])), **method.params)
    assert twice == pytest.approx(once, rel=1e-6)


def test_duplicates_bring_the_nearest_neighbour_to_zero():
    vectors = full(20, seed=3)[0]
    assert d_knn(subset(np.repeat(vectors, 2, axis=0))) == 0.0


def test_the_draw_hangs_on_ids_and_seed_alone():
    data = subset(clusters=range(40))
    every = np.arange(40)
    drawn = measures.drawn(data, every, 15, seed=2)
    assert len(drawn) == 15
    order = np.random.default_rng(0).permutation(40)
    moved = Subset(data.row_ids.gather(order))
    assert sorted(order[measures.drawn(moved, every, 15, seed=2)]) == drawn.tolist()
    assert measures.drawn(data, every, 15, seed=-3).tolist() != drawn.tolist()
    assert measures.drawn(data, every, 99, seed=2).tolist() == every.tolist()


def test_a_row_scored_in_blocks(monkeypatch):
    data = subset(*full(30))
    whole = {method.id: method.compute(data, **method.params) for method in MEASURES}
    monkeypatch.setattr(measures, "ROWS_AT_A_TIME", 7)
    monkeypatch.setattr(vendi, "ROWS_AT_A_TIME", 7)
    assert {method.id: method.compute(data, **method.params) for method in MEASURES} == pytest.approx(whole, rel=1e-9)
