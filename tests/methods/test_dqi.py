"""DQI as measures: hand-worked values, naive recounts with Counter and full matrices, invariances, edges."""

import math
import statistics
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Subset
from methods.parts_of_speech import coarse_pos
from methods.quality import dqi_similarity, dqi_terms
from methods.quality.dqi_counts import (
    GRANULARITIES,
    PARTS,
    SHARES,
    count_words,
    lemma,
    occurrences,
    read_corpus,
)
from methods.quality.dqi_measures import MEASURES
from methods.quality.dqi_terms import c1_terms, c2_terms, c3_terms, c4_terms, c5_terms, c6_terms, c7_terms
from methods.quality.stopwords import STOP_WORDS
from methods.tokens import tokenize
from tests.sets import hashed, subset, texts

COMPUTE = {measure.id: measure.compute for measure in MEASURES}


WORDS = "the cat cats sat quickly on red mats and dogs ran because big dog said hello 猫 42".split()
SENTENCE = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)
ROWS = st.lists(st.tuples(SENTENCE, SENTENCE), max_size=7)


# --- recounted -------------------------------------------------------------------------------------------------------
def units(rows, granularity):
    """The units of each sentence, counted the slow way."""
    found = []
    for text in (text for row in rows for text in row):
        words = tokenize(text)
        if not words:
            continue
        if granularity in PARTS:
            found.append([w for w in words if coarse_pos(w) == granularity])
        elif granularity == "bigram":
            found.append(list(pairwise(words)))
        elif granularity == "trigram":
            found.append(list(zip(words, words[1:], words[2:], strict=False)))
        else:
            found.append(words if granularity == "word" else [tuple(words)])
    return found


def slow_bands(counts, share, c=1):
    if not counts:
        return None, None
    n = sum(counts.values())
    sigma = statistics.stdev([v / len(counts) for v in counts.values()]) if len(counts) > 1 else 0
    if share is None:
        signed = sum(v if v < 2 else -v for v in counts.values())
    else:
        signed = sum(v if (share * n - v) * (v - c) >= -1e-9 else -v for v in counts.values())
    return (1 / sigma if sigma > 1e-15 else None), signed / n


SMALL = {"word": 0.2, "noun": 0.3, "bigram": 0.1, "trigram": 0.15}


@settings(deadline=None, max_examples=35)
@given(ROWS)
def test_bands_recounted(rows):
    found = c2_terms(subset(rows), shares=SMALL)
    combined = 0.0
    for granularity in GRANULARITIES:
        counts = Counter(unit for sentence in units(rows, granularity) for unit in sentence)
        share = None if granularity == "sentence" else {**SHARES, **SMALL}[granularity]
        t1, t2 = slow_bands(counts, share)
        assert found.get(f"{granularity}_t1") == (t1 if t1 is None else pytest.approx(t1))
        assert found.get(f"{granularity}_t2") == (t2 if t2 is None else pytest.approx(t2))
        combined += 0 if t1 is None or t2 is None else t1 * t2
    assert found["combined"] == pytest.approx(combined) if found["combined"] is not None else combined == 0


@settings(deadline=None, max_examples=35)
@given(ROWS, st.data())
def test_giveaways_recounted(rows, data):
    labels = data.draw(st.lists(st.integers(-1, 2), min_size=len(rows), max_size=len(rows)))
    found = c6_terms(subset(rows, clusters=np.array(labels, dtype=np.int64)))
    kept = [(row, label) for row, label in zip(rows, labels, strict=True) if label >= 0 and any(map(tokenize, row))]
    names = sorted({label for _, label in kept})
    n_sentences = sum(bool(tokenize(text)) for row, _ in kept for text in row)
    if len(names) < 2:
        assert found["combined"] is None
        return
    for n, granularity in enumerate(("word", "bigram", "trigram"), start=1):
        counts = {
            name: Counter(u for s in units([row for row, of in kept if of == name], granularity) for u in s)
            for name in names
        }
        repeated = {u for u, total in sum(counts.values(), Counter()).items() if total > 1}
        slow = math.fsum(statistics.stdev([counts[name][u] for name in names]) for u in repeated) / n_sentences
        assert found[f"giveaway_{n}"] == pytest.approx(slow)
    within = [c2_terms(subset([row for row, of in kept if of == name]))["combined"] for name in names]
    known = [value for value in within if value is not None]
    assert found["within_labels"] == (pytest.approx(sum(known) / len(known)) if known else None)


@settings(deadline=None, max_examples=35)
@given(ROWS)
def test_vocabulary_recounted(rows):
    lengths = [len(tokenize(text)) for row in rows for text in row if tokenize(text)]
    lemmas = {lemma(w) for row in rows for text in row for w in tokenize(text) if w not in STOP_WORDS}
    n_rows = sum(any(map(tokenize, row)) for row in rows)
    found = COMPUTE["dqi_c1_vocabulary"](subset(rows), a=2, b=6)
    if len(lengths) < 2:
        assert found is None
        return
    balance = sum(1 if (n - 2) * (6 - n) > 0 else -1 for n in lengths) / len(lengths)
    assert found == pytest.approx(len(lemmas) / n_rows + statistics.stdev(lengths) * balance)


def unit_rows(seed, n, width=5):
    vectors = np.random.default_rng(seed).normal(size=(n, width)) + 0.6
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_passes_against_full_matrices(block):
    vectors = unit_rows(3, 23)
    similarity = vectors.astype(float) @ vectors.astype(float).T
    np.fill_diagonal(similarity, -9)
    for limit, counts in zip((0.2, 0.6), dqi_similarity.unlike_counts(vectors, (0.2, 0.6), block), strict=True):
        assert counts.tolist() == ((similarity < limit).sum(axis=1) - 1).tolist()
    ranked = -np.sort(-similarity, axis=1)
    shares = (0.01, 0.25, 0.5, 1.0)
    for share, found in zip(shares, dqi_similarity.nearest_shortfalls(vectors, shares, 0.6, block), strict=True):
        top = ranked[:, : min(22, max(1, int(share * 23)))]
        assert found == pytest.approx(np.maximum(0.6 - top, 0).sum(), rel=1e-5)
    other = unit_rows(4, 9)
    largest = dqi_similarity.largest_cosines(vectors, other, block)
    assert largest == pytest.approx((vectors @ other.T).max(axis=1), abs=2e-6)
    paired = dqi_similarity.pair_cosines(vectors[:9], other, block)
    assert paired == pytest.approx(np.einsum("ij,ij->i", vectors[:9], other), abs=2e-6)


@pytest.mark.parametrize("tokens", [1, 5, 1000])
def test_word_values_against_matrices(monkeypatch, tokens):
    monkeypatch.setattr(dqi_similarity, "TOKENS_AT_A_TIME", tokens)
    rng = np.random.default_rng(2)
    vectors = unit_rows(7, 6)
    vectors[5] = np.nan
    length = np.array([3, 0, 1, 9, 2])
    code = rng.integers(0, 5, length.sum())
    code[-2:], code[4] = 5, 5  # the last sentence has no word with a vector
    found = dqi_similarity.word_values(code, length, vectors, 0.5)
    start = 0
    for value, size in zip(found, length, strict=True):
        known = [c for c in code[start : start + size] if c != 5]
        start += size
        if not known:
            assert math.isnan(value)
            continue
        similarity = vectors[known].astype(float) @ vectors[known].astype(float).T
        mean = (similarity.sum(axis=1) - np.diag(similarity)) / len(similarity)
        assert value == pytest.approx(1 / np.abs(mean - 0.5).sum(), rel=1e-5)


def test_words_beyond_the_cap_are_not_read():
    long, short = subset([("x y z z z z", "")], encode=hashed), subset([("x y z", "")], encode=hashed)
    assert c4_terms(long, most_words=3) == c4_terms(short)
    assert c4_terms(long) != c4_terms(short)
    with pytest.raises(ValueError, match="most_words"):
        c4_terms(long, most_words=0)


# --- what must not matter, and what must -----------------------------------------------------------------------------
ALL = {
    "dqi_c1_vocabulary": {},
    "dqi_c2_ngram_inter": {},
    "dqi_c3_sts_inter": {},
    "dqi_c4_word_sim_intra": {},
    "dqi_c5_sts_intra": {},
    "dqi_c6_ngram_label": {"label": "source"},
    "dqi_c7_sts_split": {"test_source": "b"},
}


@settings(deadline=None, max_examples=25)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    source = ["ab"[len(q + r) % 2] for q, r in rows]
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = [rows[i] for i in order]
    for id, params in ALL.items():
        one = COMPUTE[id](subset(rows, source, encode=hashed), **params)
        two = COMPUTE[id](subset(shuffled, [source[i] for i in order], encode=hashed), **params)
        assert one == (two if two is None else pytest.approx(two))


def test_stock_phrases_lower_the_second_component():
    varied = [(f"ask w{i}", f"say v{i} u{i}") for i in range(60)]
    stock = [(f"ask w{i}", "as a language model") for i in range(60)]
    assert COMPUTE["dqi_c2_ngram_inter"](subset(stock)) < COMPUTE["dqi_c2_ngram_inter"](subset(varied))


def test_wording_that_tells_the_label_raises_the_sixth():
    telling = subset([("x x", "y"), ("x", "y"), ("p p", "q"), ("p", "q")], ["a", "a", "b", "b"])
    mixed = subset([("x x", "y"), ("x", "y"), ("p p", "q"), ("p", "q")], ["a", "b", "a", "b"])
    compute = COMPUTE["dqi_c6_ngram_label"]
    assert compute(telling, label="source") > compute(mixed, label="source")
    even = subset([("x y", "z"), ("x y", "z")], ["a", "b"])
    assert compute(even, label="source") == 0


def test_a_doubled_set_gives_the_same_vocabulary_for_twice_the_rows():
    rows = [("cats ran", "big red dogs"), ("hello", "a mat")]
    one, two = c1_terms(subset(rows)), c1_terms(subset(rows * 2))
    assert two["lemmas_per_row"] == one["lemmas_per_row"] / 2
    assert two["length_balance"] == one["length_balance"]


# --- edges -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("id", COMPUTE)
@pytest.mark.parametrize("rows", [[], [("", " ")], [(None, "")]])
def test_nothing_has_no_number(id, rows):
    assert COMPUTE[id](subset(rows, clusters=[0] * len(rows), encode=hashed)) is None


@pytest.mark.parametrize("id", COMPUTE)
def test_what_it_needs_is_asked_for(id):
    with pytest.raises(ValueError, match="has none"):
        COMPUTE[id](Subset(pl.Series(["x"])))


@pytest.mark.parametrize("id", ["dqi_c3_sts_inter", "dqi_c4_word_sim_intra", "dqi_c5_sts_intra", "dqi_c7_sts_split"])
def test_an_encoder_is_asked_for(id):
    with pytest.raises(ValueError, match="no encoder"):
        COMPUTE[id](subset([("a", "b")]))


def test_clusters_labels_and_shares_are_checked():
    one = subset([("a", "b")])
    with pytest.raises(ValueError, match="clusters"):
        COMPUTE["dqi_c6_ngram_label"](one)
    with pytest.raises(ValueError, match="label"):
        COMPUTE["dqi_c6_ngram_label"](one, label="task")
    with pytest.raises(ValueError, match="fourgram"):
        COMPUTE["dqi_c2_ngram_inter"](one, shares={"fourgram": 0.1})
    with pytest.raises(ValueError, match="granularity"):
        occurrences(count_words(texts([])), "letter")


def test_rows_that_are_all_the_same():
    same = subset([("say hello", "hello")] * 4, clusters=[0, 0, 1, 1], encode=hashed)
    assert c2_terms(same)["sentence_t1"] is None  # both sentences stand four times
    assert c2_terms(same)["sentence_t2"] == -1
    assert c6_terms(same)["giveaway"] == 0
    assert c5_terms(same)["similarity_spread"] == 0


def test_chinese_counts_characters_and_no_parts_of_speech():
    found = c2_terms(subset([("猫坐在垫子上", "猫很好")]))
    assert found["word_t2"] is not None and found["bigram_t2"] is not None
    assert all(found[f"{part}_t2"] is None for part in PARTS)
    assert c1_terms(subset([("猫坐", "猫很好")]))["lemmas_per_row"] == 4


def test_texts_without_an_embedding_are_left_out():
    def broken(asked):
        found = hashed(asked)
        found[[i for i, text in enumerate(asked) if "x" in text]] = np.nan
        return found

    rows = [("one", "two"), ("three", "four x"), ("five", "six"), ("seven", "eight")]
    assert c3_terms(subset(rows, encode=broken))["sentences"] == 6
    good = [rows[0], rows[3]]
    assert c5_terms(subset(rows, encode=broken)) == c5_terms(subset(good, encode=hashed))
    assert COMPUTE["dqi_c7_sts_split"](subset([("x", ""), ("y", "")], ["a", "b"], encode=broken), "a") is None


def test_a_split_must_be_there():
    rows = [("one", "two"), ("three", "four")]
    assert COMPUTE["dqi_c7_sts_split"](subset(rows, encode=hashed)) is None
    assert COMPUTE["dqi_c7_sts_split"](subset(rows, encode=hashed), test_source="elsewhere") is None
    assert COMPUTE["dqi_c7_sts_split"](subset(rows, encode=hashed), test_source="a") is None


def test_a_sample_stands_for_a_large_set():
    rows = [(f"p{i}", f"r{i}") for i in range(20)]
    asked = []

    def counting(texts):
        asked.append(len(texts))
        return hashed(texts)

    set_ = subset(rows, encode=counting)
    one = c3_terms(set_, sample=10, seed=1)
    assert asked == [10] and one["sentences"] == 10
    assert one == c3_terms(set_, sample=10, seed=1) != c3_terms(set_, sample=10, seed=2)
    halves = subset(rows, ["a", "b"] * 10, encode=counting)
    asked.clear()
    c7_terms(halves, "b", sample=4)
    assert asked == [4, 10]


def test_one_reading_serves_three_measures():
    set_ = subset([("cats ran", "dogs ran")])
    first = read_corpus(set_.texts)
    assert read_corpus(set_.texts) is first
    other = subset([("cats ran", "dogs ran")])
    assert read_corpus(other.texts) is not first
    assert dqi_terms.c1_terms(set_) == dqi_terms.c1_terms(other)


def test_many_words_do_not_overflow_the_keys():
    corpus = count_words(texts([("a b c a b d", "a b c")]))
    huge = corpus.__class__([*corpus.words, *map(str, range(3_000_000))], corpus.code, corpus.length, corpus.row, 1)
    for granularity in ("bigram", "trigram"):
        expected, found = occurrences(corpus, granularity), occurrences(huge, granularity)
        assert found[1].tolist() == expected[1].tolist()
        same = (expected[0][:, None] == expected[0]).tolist()
        assert (found[0][:, None] == found[0]).tolist() == same
