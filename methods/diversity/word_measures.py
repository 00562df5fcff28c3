"""Measures of the words of a set (survey 4.1, 4.2): vocabulary, repetition between rows, contrast between clusters.

Here belong the measures of a `Subset` that read the hashed words of its responses. What the words of one row say is in
`methods.diversity.handcrafted`; measures of vectors, clusters and tags are in `methods.diversity.measures`. Rows whose
words were never counted (null) are left out everywhere; a response without a word is a response of length 0.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.diversity.measures import clustered, drawn, missing, set_measure
from methods.kinds import Subset


def spoken(subset: Subset) -> pl.Series:
    """The words of every row, null where they were never counted."""
    if subset.words is None:
        raise missing("words")
    return subset.words


def _all_words(subset: Subset) -> pl.Series:
    return spoken(subset).explode(empty_as_null=False, keep_nulls=False)


def vocab_richness(subset: Subset) -> float | None:
    """Number of distinct words in the responses of the set.

    Equation: V. It grows with the number of words: compare sets of like size.

    Source: a correlate of the diversity coefficient in Lee et al. 2023 (arXiv 2306.13840).

    Undefined: without a word.
    """
    words = _all_words(subset)
    return float(words.n_unique()) if len(words) else None


def corpus_ttr(subset: Subset) -> float | None:
    """Distinct words over all words of the responses.

    Equation: V / n over the whole set. Falls with the number of words.

    Source: survey 4.1 (Eq. 20 on the set).

    Undefined: without a word.
    """
    words = _all_words(subset)
    return words.n_unique() / len(words) if len(words) else None


def corpus_distinct(subset: Subset, n: int = 2) -> float | None:
    """Distinct n-grams over all n-grams of the responses; no n-gram reaches across two rows.

    Equation: #distinct n-grams / #n-grams.

    Parameters: `n` is the length of the n-gram.

    Source: Li et al. 2015 (arXiv 1510.03055), on the set.

    Undefined: where no response has `n` words.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    words = spoken(subset).drop_nulls()
    lengths = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode(empty_as_null=False, keep_nulls=False).to_numpy()
    row = np.repeat(np.arange(len(words)), lengths)
    total = max(len(flat) - n + 1, 0)
    starts = np.flatnonzero(row[:total] == row[len(row) - total :])
    if not len(starts):
        return None
    return pl.DataFrame({f"w{i}": flat[starts + i] for i in range(n)}).n_unique() / len(starts)


def mean_response_length(subset: Subset) -> float | None:
    """Mean number of words of a response, empty ones counted as 0.

    Equation: n / N.

    Direction: band; neither end is good by itself. It says whether a selection is but the long answers.

    Undefined: for an empty set.

    Source: survey 4.2.
    """
    words = spoken(subset).drop_nulls()
    return float(words.list.len().mean()) if len(words) else None  # type: ignore[arg-type]


# --- clusters --------------------------------------------------------------------------------------------------------
def _document_frequencies(subset: Subset) -> tuple[np.ndarray, pl.DataFrame] | None:
    """Rows a cluster, and of each (cluster, word) how many rows hold it: ``cluster`` and ``word`` numbered from 0,
    ``df``, by cluster and word; None with fewer than two clusters."""
    words = spoken(subset)
    clusters, rows = clustered(subset)
    rows = rows[words.is_not_null().to_numpy()[rows]]
    names, cluster = np.unique(clusters[rows], return_inverse=True)
    if len(names) < 2:
        return None
    pairs = (
        pl.DataFrame({"row": np.arange(len(rows)), "cluster": cluster, "word": words.gather(rows)})
        .explode("word", empty_as_null=False)
        .unique(["row", "word"])
        .group_by("cluster", "word")
        .agg(df=pl.len().cast(pl.Int64))
        .sort("cluster", "word")
        .with_columns(word=pl.col("word").rank("dense").cast(pl.Int64) - 1)
    )
    return np.bincount(cluster), pairs


def d_icd(subset: Subset) -> float | None:
    """Inter-cluster diversity: how differently the clusters use words, from 0 (alike) to 1 (no word in common).

    Equation: (1/K) sum_k JSD(P_k, Q_k) (Eq. 31), P_k the inverse document frequencies of the words inside cluster k,
    divided by their sum, Q_k the same over all other rows; idf = ln((1 + N)/(1 + df)) + 1 with N and df counted inside
    the side, and mass 0 where df = 0; JSD in bits. P = (.5, .5, 0) and Q = (0, .5, .5) are .5 apart.

    Undefined: with fewer than two clusters, or where no cluster has words on both sides; a cluster without a word (or
    alone with words) is left out of the mean, and rows of no cluster are left out throughout.

    Source: Dang and Verma 2024, as the survey gives it (4.1).

    Departures: the survey compares the vectors without making distributions of them and names no idf; smoothing alone
    would give the words that a side lacks the largest mass.
    """
    counted = _document_frequencies(subset)
    if counted is None:
        return None
    sizes, pairs = counted
    cluster, word, df = (pairs[name].to_numpy() for name in ("cluster", "word", "df"))
    if not len(df):
        return None
    total = np.bincount(word, weights=df)
    # Words outside a cluster need no line of their own: they give Q alone, hence half their mass to the divergence.
    level = np.log1p(sizes.sum() - sizes) + 1.0
    inside = np.log1p(sizes)[cluster] + 1.0 - np.log1p(df)
    rest = total[word] - df
    outside = np.where(rest > 0, level[cluster] - np.log1p(rest), 0.0)
    k = len(sizes)
    without = len(total) - np.bincount(cluster, minlength=k)
    elsewhere = without * level - (np.log1p(total).sum() - np.bincount(cluster, np.log1p(total)[word], minlength=k))
    sum_p = np.bincount(cluster, inside, minlength=k)
    sum_q = np.bincount(cluster, outside, minlength=k) + elsewhere
    known = (sum_p > 0) & (np.bincount(cluster, rest > 0, minlength=k) + without > 0)
    if not known.any():
        return None
    mine = known[cluster]
    cluster, p, q = cluster[mine], inside[mine], outside[mine]
    p, q = p / sum_p[cluster], q / sum_q[cluster]
    both = p * np.log2(2 * p / (p + q)) + q * np.log2(np.where(q > 0, 2 * q / (p + q), 1.0))
    shared = np.bincount(cluster, both, minlength=k)[known]
    return float(np.clip((shared + elsewhere[known] / sum_q[known]) / 2, 0.0, 1.0).mean())


# --- texts against each other -----------------------------------------------------------------------------------------
def bleu_rows(subset: Subset, rows: int = 1000, seed: int = 0) -> np.ndarray:
    """The rows that `self_bleu` reads: at most ``rows`` of those with a word."""
    some = (spoken(subset).list.len().fill_null(0) > 0).to_numpy()
    return drawn(subset, np.flatnonzero(some), rows, seed)


def _most_elsewhere(gram: np.ndarray, row: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Of each (gram, row) with its count: the largest count of the gram in any other row, 0 if there is none.

    That is the largest count of all rows, or for the row that has it the second largest.
    """
    order = np.lexsort((row, -count, gram))
    sorted_gram, sorted_count = gram[order], count[order]
    first = np.ones(len(gram), bool)
    first[1:] = sorted_gram[1:] != sorted_gram[:-1]
    start = np.flatnonzero(first)
    second = np.where(np.append(first[1:], True), 0, np.append(sorted_count[1:], 0))
    most = np.repeat(sorted_count[start], np.diff(np.append(start, len(gram))))
    out = np.empty(len(gram), np.int64)
    out[order] = np.where(first, second, most)
    return out


def _closest(lengths: np.ndarray) -> np.ndarray:
    """For each length the nearest among the others, of equally near ones the shorter."""
    order = np.argsort(lengths, kind="stable")
    sorted_lengths = lengths[order].astype(np.float64)
    before = np.append(-np.inf, sorted_lengths[:-1])
    after = np.append(sorted_lengths[1:], np.inf)
    out = np.empty(len(lengths))
    out[order] = np.where(sorted_lengths - before <= after - sorted_lengths, before, after)
    return out


def self_bleu(subset: Subset, n: int = 4, epsilon: float = 0.1, rows: int = 1000, seed: int = 0) -> float | None:
    """Mean BLEU of each response against all the others: how much the set's texts are put together of one another.

    Equation: (1/N) sum_i BP_i exp((1/n) sum_{m <= n} ln p_im), p_im the share of text i's m-grams that some other text
    holds (each counted at most as often as in the one other text that has it most), BP_i = min(1, exp(1 - r_i/c_i)) for
    a text of c_i words whose nearest other length is r_i (the shorter of two equally near). 1 where every text has a
    copy.

    Direction: lower is more diverse.

    Parameters: `n` is the longest n-gram. A precision of 0 counts as `epsilon` matches, which is how short texts
    without any n-gram of some length are smoothed too (method 1 of Chen and Cherry 2014); a text without a common word
    is 0. At most `rows` rows are compared, drawn by `seed` and their ids.

    Undefined: with fewer than two responses that have a word; empty ones are left out.

    Source: Zhu et al. 2018, Texygen (arXiv 1802.01886); Papineni et al. 2002; Chen and Cherry 2014 (smoothing).
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    texts = spoken(subset).gather(bleu_rows(subset, rows, seed))
    if len(texts) < 2:
        return None
    lengths = texts.list.len().to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    word = np.unique(texts.explode().to_numpy(), return_inverse=True)[1]
    gram, vocabulary = word, int(word.max()) + 1
    log_precision = np.zeros(len(lengths))
    common = np.zeros(len(lengths), dtype=bool)
    for m in range(1, n + 1):
        if m > 1:
            last = len(row) - m + 1
            pairs = gram[:last] * vocabulary + word[m - 1 :] if last > 0 else np.empty(0, np.int64)
            gram = np.unique(pairs, return_inverse=True)[1]
        inside = np.flatnonzero(row[: len(gram)] == row[len(row) - len(gram) :])
        entry, count = np.unique(gram[inside] * len(lengths) + row[inside], return_counts=True)
        owner = entry % len(lengths)
        clipped = np.minimum(count, _most_elsewhere(entry // len(lengths), owner, count))
        matches = np.bincount(owner, clipped, minlength=len(lengths))
        common |= matches > 0
        log_precision += np.log(np.where(matches > 0, matches, epsilon) / np.maximum(lengths - m + 1, 1)) / n
    penalty = np.minimum(1.0, np.exp(1.0 - _closest(lengths) / lengths))
    return float(np.where(common, penalty * np.exp(log_precision), 0.0).mean())


MEASURES = (
    set_measure(
        "vocab_richness",
        "Vocabulary size",
        "4.2",
        r"V",
        "Lee et al. 2023, Beyond Scale, arXiv 2306.13840",
        "How many different words the answers use. Grows with the number of words.",
        ("words",),
        vocab_richness,
    ),
    set_measure(
        "corpus_ttr",
        "Type-token ratio of the set",
        "4.1",
        r"\frac{V}{n}",
        "Templin 1957; survey 4.1",
        "Distinct words over all words. Falls as the set grows: compare sets of like size.",
        ("words",),
        corpus_ttr,
    ),
    set_measure(
        "corpus_distinct",
        "Distinct n-grams of the set",
        "4.1",
        r"\frac{\#\mathrm{distinct}\ n\mathrm{-grams}}{\#n\mathrm{-grams}}",
        "Li et al. 2015, A Diversity-Promoting Objective Function, arXiv 1510.03055",
        "The share of word pairs that no other place in the set repeats. Low values show stock phrases.",
        ("words",),
        corpus_distinct,
        n=2,
    ),
    set_measure(
        "mean_response_length",
        "Mean response length",
        "4.2",
        r"\frac{n}{N}",
        "Survey 4.2",
        "Words an answer. Look at it beside every selection: many methods choose long answers and little else.",
        ("words",),
        mean_response_length,
        direction="band",
    ),
    set_measure(
        "d_icd",
        "Inter-cluster diversity",
        "4.1",
        r"\frac{1}{K} \sum_k \mathrm{JSD}(P_k \parallel P_{\ne k})",
        "Dang and Verma 2024, as given in survey 4.1",
        "How far the wording of each cluster is from that of the rest: 0 when all use the same words, 1 when none is "
        "shared.",
        ("words", "clusters"),
        d_icd,
    ),
    set_measure(
        "self_bleu",
        "Self-BLEU",
        "4.1",
        r"\frac{1}{N} \sum_i \mathrm{BLEU}(x_i, S \setminus x_i)",
        "Zhu et al. 2018, Texygen, arXiv 1802.01886",
        "How far each answer could be put together from stretches of the others: near 1 the set repeats itself, low "
        "values mean that every answer has wording of its own.",
        ("words",),
        self_bleu,
        direction="lower",
        n=4,
        epsilon=0.1,
        rows=1000,
        seed=0,
    ),
)
