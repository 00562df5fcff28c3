"""The named terms of the seven components of the Data Quality Index, read off a set of rows.

Here belongs what leads from a `Subset` to the terms of a component, ``combined`` among them. The formulas stand in
``dqi.py``, the passes over texts and vectors in ``dqi_counts.py`` and ``dqi_similarity.py``; the measures, whose number
is ``combined``, and what is to be known of them, in ``dqi_measures.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from methods.kinds import Encode, Subset
from methods.quality import dqi
from methods.quality.dqi import Terms
from methods.quality.dqi_counts import (
    GRAM_LENGTH,
    SHARES,
    Corpus,
    band_terms_by_label,
    label_spreads,
    lengths_in_words,
    occurrences,
    read_corpus,
    row_lemmas,
)
from methods.quality.dqi_similarity import (
    encoded,
    filled,
    largest_cosines,
    nearest_shortfalls,
    pair_cosines,
    sampled,
    sentences,
    unlike_counts,
    word_values,
)


def texts_of(subset: Subset) -> pl.DataFrame:
    """The subset's texts, or an error that says it has none."""
    if subset.texts is None:
        raise ValueError("this measure reads texts, and this subset has none")
    return subset.texts


def encoder_of(subset: Subset) -> Encode:
    """The subset's encoder, or an error that says it has none."""
    if subset.encode is None:
        raise ValueError("this measure encodes texts, and this subset has no encoder")
    return subset.encode


def c1_terms(subset: Subset, a: float = 3, b: float = 30) -> Terms:
    """``lemmas_per_row``, ``length_spread``, ``length_balance`` and ``combined`` of `dqi_c1_vocabulary`."""
    corpus = read_corpus(texts_of(subset))
    lemmas = row_lemmas(corpus)[1]
    return dqi.vocabulary_terms(len(np.unique(lemmas)), len(np.unique(corpus.row)), corpus.length, a, b)


def c2_terms(subset: Subset, shares: Mapping[str, float] = SHARES, c: float = 1, ddof_pos: int = 1) -> Terms:
    """``{granularity}_t1``, ``{granularity}_t2`` of the eight granularities and ``combined``."""
    corpus = read_corpus(texts_of(subset))
    found = band_terms_by_label(corpus, np.zeros(len(corpus.length), dtype=np.int64), shares, c, ddof_pos)
    return found.get(0, {"combined": None})


def labels_of(subset: Subset, label: str) -> np.ndarray:
    """One number a row; -1 where it has no label."""
    if label == "source":
        ranks = texts_of(subset)["source"].cast(pl.String).rank("dense").cast(pl.Int64) - 1
        return ranks.fill_null(-1).to_numpy()
    if label != "cluster":
        raise ValueError(f"label must be 'cluster' or 'source', not {label!r}")
    if subset.clusters is None:
        raise ValueError("this measure reads clusters, and this subset has none")
    return np.asarray(subset.clusters, dtype=np.int64)


def giveaways(corpus: Corpus, label: np.ndarray) -> Terms:
    """``giveaway_1`` to ``giveaway_3`` and their sum ``giveaway``; ``label`` has one number a sentence, -1 for none."""
    kept = label >= 0
    names, n_sentences = np.unique(label[kept]), int(kept.sum())
    terms: Terms = {f"giveaway_{n}": None for n in GRAM_LENGTH.values()}
    if len(names) > 1:
        for granularity, n in GRAM_LENGTH.items():
            key, sentence = occurrences(corpus, granularity)
            of = label[sentence]
            spreads = label_spreads(key[of >= 0], of[of >= 0], len(names))["sigma"].to_list()
            terms[f"giveaway_{n}"] = math.fsum(spreads) / n_sentences
    return terms | {"giveaway": dqi.total(terms.values())}


def c6_terms(
    subset: Subset,
    label: str = "cluster",
    shares: Mapping[str, float] = SHARES,
    c: float = 1,
    ddof_pos: int = 1,
) -> Terms:
    """``giveaway_1`` to ``giveaway_3``, ``giveaway`` (lower is better), ``within_labels`` (higher), ``combined``."""
    corpus = read_corpus(texts_of(subset))
    of_sentence = labels_of(subset, label)[corpus.row]
    within = band_terms_by_label(corpus, of_sentence, shares, c, ddof_pos)
    known = [terms["combined"] for terms in within.values() if terms["combined"] is not None]
    terms = giveaways(corpus, of_sentence)
    return terms | {"within_labels": dqi.over(sum(known), len(known)), "combined": terms["giveaway"]}


def c3_terms(
    subset: Subset,
    siml: Sequence[float] = (0.5, 0.6, 0.7),
    a: Sequence[float] = (0.25, 0.33, 0.5),
    siml_top: float = 0.5,
    sample: int = 50_000,
    seed: int = 0,
) -> Terms:
    """``t1_{siml}`` for each limit, ``t2_{a}`` for each share of nearest sentences, ``sentences`` and ``combined``."""
    texts = sentences(texts_of(subset))
    chosen = sampled(len(texts), sample, seed)
    vectors = encoded(encoder_of(subset), [texts[i] for i in chosen])
    n = len(vectors)
    t1: Terms = {
        f"t1_{limit:g}": dqi.unlike_term(counts)
        for limit, counts in zip(siml, unlike_counts(vectors, siml), strict=True)
    }
    t2: Terms = {
        f"t2_{share:g}": dqi.shortfall_term(n, short)
        for share, short in zip(a, nearest_shortfalls(vectors, a, siml_top), strict=True)
    }
    return {**t1, **t2, "sentences": float(n), "combined": dqi.total([*t1.values(), *t2.values()])}


def c4_terms(subset: Subset, wsiml: float = 0.5, most_words: int = 256) -> Terms:
    """``sentences``, ``mean_v`` (mean of v_s) and ``combined``."""
    corpus = read_corpus(texts_of(subset))
    values = sentence_word_values(corpus, encoder_of(subset), wsiml, most_words)
    return dqi.word_similarity_terms(values[np.isfinite(values)].tolist())


def sentence_word_values(corpus: Corpus, encode: Encode, wsiml: float, most_words: int) -> np.ndarray:
    """1/sum_i |m_i - WSIML| of every sentence's first ``most_words`` words; each distinct word is encoded once."""
    if most_words < 1:
        raise ValueError(f"most_words must be at least 1, got {most_words}")
    if not len(corpus.code):
        return np.empty(0)
    starts = np.cumsum(corpus.length) - corpus.length
    place = np.arange(len(corpus.code)) - np.repeat(starts, corpus.length)
    used, code = np.unique(corpus.code[place < most_words], return_inverse=True)
    vectors = encode([corpus.words[i] for i in used])
    return word_values(code, np.minimum(corpus.length, most_words), vectors, wsiml)


def c5_terms(subset: Subset, siml: float = 0.5) -> Terms:
    """``similarity``, ``length``, ``length_spread``, ``similarity_spread`` and ``combined`` (= ``similarity``)."""
    texts, encode = texts_of(subset), encoder_of(subset)
    pairs = zip(filled(texts, "prompt"), filled(texts, "response"), strict=True)
    whole = [(asked, said) for asked, said in pairs if asked.strip() and said.strip()]
    if not whole:
        return dqi.pair_terms(np.empty(0), np.empty(0), siml)
    prompts, responses = [asked for asked, _ in whole], [said for _, said in whole]
    similarity = pair_cosines(encode(prompts), encode(responses))
    gap = np.abs(lengths_in_words(prompts) - lengths_in_words(responses))
    known = np.isfinite(similarity)
    return dqi.pair_terms(similarity[known], gap[known], siml)


def c7_terms(
    subset: Subset,
    test_source: str | None = None,
    siml: Sequence[float] = (0.2, 0.3, 0.4),
    sample: int = 50_000,
    seed: int = 0,
) -> Terms:
    """``siml_{siml}`` for each limit, ``mean_largest`` (the mean of the largest similarities) and ``combined``."""
    texts, encode = texts_of(subset), encoder_of(subset)
    whole = [f"{q} {r}" for q, r in zip(filled(texts, "prompt"), filled(texts, "response"), strict=True)]
    tested = texts["source"].cast(pl.String).fill_null("").eq(test_source or "").to_list() if test_source else []
    test = [text for text, held in zip(whole, tested, strict=False) if held and text.strip()]
    train = [text for text, held in zip(whole, tested, strict=False) if not held and text.strip()]
    chosen = sampled(len(test), sample, seed)
    left, right = encoded(encode, [test[i] for i in chosen]), encoded(encode, train)
    largest = largest_cosines(left, right) if len(left) and len(right) else np.empty(0)
    terms: Terms = {f"siml_{limit:g}": dqi.split_term(largest, limit) for limit in siml}
    mean = float(largest.mean()) if len(largest) else None
    return {**terms, "mean_largest": mean, "combined": dqi.total(terms.values())}
