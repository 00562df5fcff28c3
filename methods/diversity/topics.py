"""Clusterings of the pool by its words: topics.

Here belong how many topics there are and which row belongs to which. Counts and fits stand in ``topic_models.py``,
clusterings of vectors in ``clusterings.py``; the words by which a person knows a cluster are read in ``clusters.py``,
for every clustering alike.
"""

from __future__ import annotations

from functools import partial
from math import log
from typing import Any, Literal

import numpy as np
import polars as pl

from methods.diversity.clustering_kinds import Clustering, ClusteringMethod, numbered
from methods.diversity.topic_models import (
    Counts,
    Model,
    count_words,
    fit_lda,
    fit_nmf,
    fit_spherical,
    strongest,
    tf_idf,
    umass,
)

GRID = (2, 5, 10, 20, 40)
"""Numbers of topics that are tried where none is given."""
CONCEPTS = (1, 2, 5, 10, 20, 40)
CHOICE_ROWS = 2_000
"""How many topics there are is decided on so many rows at most."""
CHOICE_PASSES = 10
"""LDA reads them so often for each number that is tried."""


def lda(
    texts: pl.Series,
    seed: int = 0,
    k: int | None = None,
    min_df: int | None = None,
    max_df: float | None = None,
    passes: int | None = None,
    restarts: int = 3,
) -> Clustering:
    """Topics as word distributions of which every text is a mixture; a row belongs to its largest share.

    Equation: theta_d ~ Dir(1/k), beta_t ~ Dir(1/k), each word of d is drawn from beta_z with z drawn from theta_d;
    label = argmax_t E[theta_dt | d], by variational inference on mini-batches (online).

    Strength: that share of the row. Rows without a word of the vocabulary belong to none.

    Parameters: `k` topics (None: of 2, 5, 10, 20, 40 the fewest whose mean coherence by `umass` is within one standard
    error of the best, on up to 2,000 rows drawn by the seed: topics cut finer than the texts are about as coherent as
    before); `min_df` and `max_df` as in `count_words`; `passes` over the pool (None: as many as read 40,000 rows,
    between 2 and 30); `restarts` fits of which the one with the best bound is taken (above 5,000 rows: one).

    Source: Blei, Ng and Jordan 2003; online: Hoffman, Blei and Bach 2010. As in scikit-learn. Coherence: Mimno et al.
    2011.
    """
    counts = count_words(texts, min_df, max_df)
    tries = 1 if counts.matrix.shape[0] > 5_000 else restarts
    fit = partial(fit_lda, passes=passes, restarts=tries)
    once = partial(fit_lda, passes=passes or CHOICE_PASSES, restarts=1)
    return _clustered(counts, counts.matrix, fit, once, k, seed)


def nmf(
    texts: pl.Series,
    seed: int = 0,
    k: int | None = None,
    min_df: int | None = None,
    max_df: float | None = None,
    iterations: int = 300,
) -> Clustering:
    """Topics as parts that add up to the texts' TF-IDF; a row belongs to its largest part.

    Equation: min ||X - W H||_F^2 with W, H >= 0, X the TF-IDF rows (see `tf_idf`); label = argmax_t W_dt.

    Strength: W_dt over the row's sum of W. Rows without a word of the vocabulary, or of no part, belong to none.

    Parameters: `k`, `min_df` and `max_df` as in `lda`; `iterations` of coordinate descent. Started by NNDSVD, so that
    the seed decides next to nothing.

    Source: Lee and Seung 1999; Boutsidis and Gallopoulos 2008 (the start). As in scikit-learn.

    Departures: W H leaves the scale of each part open; here every part of H has unit length, so that W's columns can
    be compared.
    """
    counts = count_words(texts, min_df, max_df)
    fit = partial(fit_nmf, iterations=iterations)
    return _clustered(counts, tf_idf(counts.matrix), fit, fit, k, seed)


def tfidf(
    texts: pl.Series,
    seed: int = 0,
    k: int | None = None,
    min_df: int | None = None,
    max_df: float | None = None,
    iterations: int = 50,
    restarts: int = 3,
) -> Clustering:
    """Texts that use the same telling words: spherical k-means of TF-IDF rows.

    Equation: idf(w) = ln((1 + N)/(1 + df_w)) + 1; x = tf idf / ||tf idf||; the greatest sum of cos(x_d, c_label(d)).

    Strength: the cosine to the centre. Rows without a word of the vocabulary belong to none.

    Parameters: `k`, `min_df` and `max_df` as in `lda`; `iterations` at most; `restarts` starts (k-means++) of which
    the best is taken.

    Source: Salton and Buckley 1988; Dhillon and Modha 2001.
    """
    counts = count_words(texts, min_df, max_df)
    fit = partial(fit_spherical, iterations=iterations, restarts=restarts)
    once = partial(fit_spherical, iterations=iterations, restarts=1)
    return _clustered(counts, tf_idf(counts.matrix), fit, once, k, seed)


def latent_concept(
    texts: pl.Series,
    seed: int = 0,
    k: int | None = None,
    criterion: Literal["bic", "perplexity"] = "bic",
    min_df: int | None = None,
    max_df: float | None = None,
    passes: int | None = None,
    restarts: int = 3,
) -> Clustering:
    """A stand-in for the latent concepts that texts are drawn from: LDA with as many topics as the likelihood favours.

    Equation: label = argmax_t E[theta_dt | d] as in `lda`; k minimises BIC = -2 ln L + (k V - 1) ln N, V words,
    N texts, ln L by its bound; or the perplexity of half the words of texts that
    were not fitted (every tenth), given their other half: the
    fewest within one standard error of the best.

    Strength: the share of the largest concept in the row. Rows without a word of the vocabulary belong to none.

    Parameters: `criterion` bic or perplexity; `k` fixes the number; the others as in `lda`. Tried are 1, 2, 5, 10,
    20, 40, on up to 2,000 rows drawn by the seed.

    Source: Xie, Raghunathan, Liang and Ma 2021 (arXiv 2111.02080); Schwarz 1978 (BIC).

    Departures: there each concept is a hidden Markov chain over words and the number is given; the order of words is
    not looked at here. The bound is below the likelihood, and BIC with so many words is strict: both favour few
    concepts.
    """
    if criterion not in ("bic", "perplexity"):
        raise ValueError(f"criterion must be bic or perplexity, got {criterion!r}")
    counts = count_words(texts, min_df, max_df)
    tries = 1 if counts.matrix.shape[0] > 5_000 else restarts
    fit = partial(fit_lda, passes=passes, restarts=tries)
    once = partial(
        fit_lda, passes=passes or CHOICE_PASSES, restarts=1, scored=True, apart=0 if criterion == "bic" else 10
    )

    def cost(matrix: Any, model: Model) -> tuple[float, float]:
        if criterion == "perplexity":
            return model.held_out
        return -2 * model.bound + (model.topics.size - 1) * log(max(2, matrix.shape[0])), 0.0

    return _clustered(counts, counts.matrix, fit, once, k, seed, CONCEPTS, cost, criterion)


def _clustered(
    counts: Counts,
    matrix: Any,
    fit: Any,
    once: Any,
    k: int | None,
    seed: int,
    grid: tuple[int, ...] = GRID,
    cost: Any = None,
    criterion: str = "UMass coherence",
) -> Clustering:
    """Fit on the rows that have words, with k of the least ``cost`` (by coherence where there is none).

    ``once`` is the fit by which k is chosen, and ``cost`` gives a number and its standard error.
    """
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    n = matrix.shape[0]
    labels, strength = np.full(n, -1, dtype=np.int64), np.full(n, np.nan)
    rows = np.flatnonzero(np.diff(counts.matrix.indptr) > 0)
    facts: dict[str, Any] = {**counts.facts, "rows without words": n - len(rows)}
    if not len(rows):
        return Clustering(labels, strength, facts | {"clusters": 0})
    inside = matrix[rows]
    largest = max(1, min(len(rows), inside.shape[1]))
    if k is None:
        some = rows
        if len(rows) > CHOICE_ROWS:
            some = np.sort(np.random.default_rng(seed).choice(rows, size=CHOICE_ROWS, replace=False))
        tried, doubt = {}, {}
        for one in sorted({min(one, max(1, largest // 2)) for one in grid}):
            if cost:
                value, doubt[one] = cost(matrix[some], once(matrix[some], one, seed))
                tried[one] = -value
            else:
                coherence = umass(counts.matrix[some], once(matrix[some], one, seed).topics)
                tried[one] = float(coherence.mean())
                doubt[one] = float(coherence.std(ddof=1) / one**0.5) if one > 1 else 0.0
        best = max(tried, key=lambda one: (round(tried[one], 9), -one))
        k = min(one for one in tried if tried[one] >= tried[best] - doubt[best] - 1e-9)
        sign = -1 if cost else 1
        facts |= {
            "k by": f"{criterion}, on {len(some)} rows",
            "tried": ", ".join(f"{one}: {sign * value:.6g}" for one, value in tried.items()),
        }
    k = min(k, largest)
    found = fit(inside, k, seed).rows
    label = strongest(found)
    strong = found[np.arange(len(rows)), label]
    some_part = strong > 1e-12
    labels[rows[some_part]] = label[some_part]
    strength[rows[some_part]] = strong[some_part]
    labels, count = numbered(labels)
    return Clustering(labels, strength, facts | {"topics": k, "clusters": count})


_LIMITS: dict[str, Any] = {"seed": 0, "k": None, "min_df": None, "max_df": None}

BY_TEXTS = (
    ClusteringMethod(
        id="lda",
        title="Topics (LDA)",
        equation="theta_d ~ Dir(1/k); z ~ theta_d; w ~ beta_z; label = argmax_t E[theta_dt | d]",
        paper="Blei, Ng and Jordan 2003; Hoffman, Blei and Bach 2010",
        meaning="Each topic is a set of words that are used together, and a row belongs to the topic that most of its "
        "words come from.",
        needs="texts",
        params={**_LIMITS, "passes": None, "restarts": 3},
        fit=lda,
    ),
    ClusteringMethod(
        id="nmf",
        title="Topics as parts (NMF)",
        equation="min ||X - W H||_F^2, W, H >= 0, X = TF-IDF; label = argmax_t W_dt",
        paper="Lee and Seung 1999",
        meaning="Each topic is a set of telling words that occur together, and a row belongs to the one that makes up "
        "most of it.",
        needs="texts",
        params={**_LIMITS, "iterations": 300},
        fit=nmf,
    ),
    ClusteringMethod(
        id="tfidf",
        title="Texts with the same telling words",
        equation="idf = ln((1 + N)/(1 + df)) + 1; max sum_d cos(x_d, c_label(d)), x = TF-IDF",
        paper="Salton and Buckley 1988; Dhillon and Modha 2001",
        meaning="Rows that share rare words are one group, whatever an embedding says of them.",
        needs="texts",
        params={**_LIMITS, "iterations": 50, "restarts": 3},
        fit=tfidf,
    ),
    ClusteringMethod(
        id="latent_concept",
        title="Latent concepts (stand-in: LDA with k by likelihood)",
        equation="k = argmin -2 ln L + (k V - 1) ln N; label = argmax_t E[theta_dt | d]",
        paper="Xie, Raghunathan, Liang and Ma 2021, arXiv 2111.02080; Schwarz 1978",
        meaning="How many hidden subjects the words of the pool give evidence of, and to which each row belongs. Word "
        "order is not looked at.",
        needs="texts",
        params={**_LIMITS, "criterion": "bic", "passes": None, "restarts": 3},
        fit=latent_concept,
    ),
)
