"""What topics are made of: counts of words, TF-IDF, and the models that find topics in them.

Here belong the numbers: matrices of rows and words, fits with a number of topics given, and how coherent topics are.
How many topics there are, and which row belongs to which, stands in ``topics.py``.

Words are those of `methods.tokens`, in any script, in lower case; in scripts without spaces a word is one character.
The vocabulary is in the order of the alphabet, so that a fit does not depend on the order in which words turn up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import polars as pl

from methods.numerics.similarity import blocks
from methods.tokens import cut, is_word, lowered

TEXT_BLOCK = 4096
MOST_WORDS = 20_000
READINGS = 40_000
"""LDA reads the pool so often that it reads about so many rows, but at least twice and at most 30 times."""


# ---- counts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """How often each word of the vocabulary stands in each text."""

    matrix: Any
    """Sparse (n, words) float64."""
    words: list[str]
    facts: dict[str, Any]


def count_words(
    texts: pl.Series, min_df: int | None = None, max_df: float | None = None, most: int = MOST_WORDS
) -> Counts:
    """The counts of every word that stands in at least ``min_df`` texts and in at most the share ``max_df`` of them.

    The shares are of the texts that have a word. None stands for 5 and .5, adapted to small pools: one text for each
    200, between 1 and 5, and everything where there are fewer than 100. Where nothing is left both limits are lifted.
    Of more than ``most`` words those in the most texts stay (ties by the alphabet).
    """
    from scipy.sparse import csr_array, vstack

    place: dict[str, int] = {}
    parts: list[tuple[np.ndarray, np.ndarray, int]] = []
    texts = texts.cast(pl.String).fill_null("")
    for part in blocks(len(texts), TEXT_BLOCK):
        found = cut(texts[part])
        named = [place.setdefault(lowered(piece), len(place)) if is_word(piece) else -1 for piece in found.distinct]
        words = np.array(named, dtype=np.int64)[found.codes]
        rows = np.repeat(np.arange(len(found.lengths)), found.lengths)
        parts.append((rows[words >= 0], words[words >= 0], len(found.lengths)))
    names = sorted(place)
    order = np.empty(len(place), dtype=np.int64)
    order[[place[name] for name in names]] = np.arange(len(names))
    shape = len(names)
    counted = [csr_array((np.ones(len(w)), (r, order[w])), shape=(n, shape)) for r, w, n in parts]
    matrix = vstack(counted, format="csr") if counted else csr_array((0, shape))
    matrix.sum_duplicates()
    df = np.bincount(matrix.indices, minlength=shape)
    n = int((np.diff(matrix.indptr) > 0).sum())
    low = min_df if min_df is not None else min(5, max(1, n // 200))
    high = max_df if max_df is not None else (0.5 if n >= 100 else 1.0)
    kept = np.flatnonzero((df >= low) & (df <= high * n))
    lifted = not len(kept) and shape > 0
    if lifted:
        low, high, kept = 1, 1.0, np.arange(shape)
    if len(kept) > most:
        kept = np.sort(kept[np.argsort(-df[kept], kind="stable")[:most]])
    facts = {"words": len(kept), "min_df": low, "max_df": high}
    return Counts(matrix[:, kept], [names[i] for i in kept], facts | ({"limits lifted": True} if lifted else {}))


def idf(matrix: Any) -> np.ndarray:
    """ln((1 + N) / (1 + df)) + 1 of each word: 1.693147 for a word in one of three texts."""
    df = np.bincount(matrix.indices, minlength=matrix.shape[1])
    return np.log((1 + matrix.shape[0]) / (1 + df)) + 1


def tf_idf(matrix: Any) -> Any:
    """Counts times `idf`, each row scaled to unit length (a row without words stays 0)."""
    from scipy.sparse import diags_array

    weighed = matrix @ diags_array(idf(matrix))
    length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
    return (diags_array(np.divide(1, length, out=np.zeros(len(length)), where=length > 0)) @ weighed).tocsr()


def umass(matrix: Any, topics: np.ndarray, top: int = 10) -> np.ndarray:
    """The coherence of each topic: sum_{m > l} ln((D(v_m, v_l) + 1) / D(v_l)) over its ``top`` heaviest words v.

    D counts the texts that hold one word, or both. ``topics`` is (k, words), the weight of each word in each topic;
    ties go to the earlier word. Higher is more coherent, and about 0 is where words always stand together. Mimno et
    al. 2011; there l and m run in the order of the weights. Here the word in more texts comes first: the sum depends
    on the order, and in that of the weights topics cut at random come out as more coherent than whole ones.
    """
    held = (matrix > 0).astype(np.float64).tocsc()
    df = np.asarray(held.sum(axis=0)).ravel()
    found = np.zeros(len(topics))
    for topic, weight in enumerate(topics):
        heaviest = np.argsort(-weight, kind="stable")[:top]
        heaviest = heaviest[np.argsort(-df[heaviest], kind="stable")]
        both = (held[:, heaviest].T @ held[:, heaviest]).toarray()
        for m in range(1, len(heaviest)):
            found[topic] += np.log((both[m, :m] + 1) / np.maximum(np.diag(both)[:m], 1)).sum()
    return found


# ---- the models -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A fit, seen from the rows and from the words."""

    rows: np.ndarray
    """(n, k): how much of each topic is in a row."""
    topics: np.ndarray
    """(k, words)."""
    bound: float = 0.0
    """Of LDA: a lower bound of the log-likelihood."""
    held_out: tuple[float, float] = (0.0, 0.0)
    """Of LDA: perplexity of half the words of rows that were not fitted, given their other half; its standard
    error."""


def fit_lda(
    matrix: Any, k: int, seed: int, passes: int | None, restarts: int, scored: bool = False, apart: int = 0
) -> Model:
    """The best by its bound of some fits (one is held against its bound only if ``scored``).

    Every ``apart``-th row is left out of the fit (0: none).
    """
    from sklearn.decomposition import LatentDirichletAllocation

    out = np.arange(matrix.shape[0]) % apart == apart - 1 if apart else np.zeros(matrix.shape[0], dtype=bool)
    seen = matrix[~out] if apart else matrix
    n = seen.shape[0]
    best: Model | None = None
    for start in range(restarts):
        model = LatentDirichletAllocation(
            k,
            learning_method="online",
            max_iter=passes if passes is not None else min(30, max(2, READINGS // max(1, n))),
            batch_size=max(1, min(256, ceil(n / 4))),
            total_samples=n,
            random_state=seed + start,
            n_jobs=1,
        ).fit(seen)
        bound = float(model.score(seen)) if restarts > 1 or scored else 0.0
        if best is None or bound > best.bound + 1e-9 * abs(best.bound):
            held_out = _completion(model, matrix[out], seed) if out.any() else (0.0, 0.0)
            best = Model(model.transform(matrix), model.components_, bound, held_out)
    assert best is not None
    return best


def _completion(model: Any, matrix: Any, seed: int) -> tuple[float, float]:
    """exp(-mean of ln sum_t theta_dt beta_tw) over half the words of each row, theta from its other half; its
    standard error over rows.

    The fitted model's own bound on new rows counts the prior of all topics once for however few rows, which tells
    against many topics by the size of the sample alone.
    """
    known = matrix.copy()
    known.data = np.random.default_rng(seed).binomial(matrix.data.astype(np.int64), 0.5).astype(np.float64)
    asked = (matrix - known).tocoo()
    theta = model.transform(known)
    beta = model.components_ / model.components_.sum(axis=1, keepdims=True)
    total = float(asked.data.sum())
    if not total:
        return 1.0, 0.0
    share = np.einsum("it,it->i", theta[asked.coords[0]], beta.T[asked.coords[1]])
    log_share = asked.data * np.log(share)
    mean = float(log_share.sum() / total)
    off = np.bincount(asked.coords[0], log_share - asked.data * mean, minlength=matrix.shape[0])
    perplexity = float(np.exp(-mean))
    return perplexity, perplexity * float(np.sqrt((off**2).sum())) / total


def fit_nmf(matrix: Any, k: int, seed: int, iterations: int) -> Model:
    """X = W H by coordinate descent; rows are shares of W, scaled as if each part of H had unit length."""
    import warnings

    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    # Where the start has not converged by then, what moves still is small, and labels hardly change.
    # A perfect fit has an error of 0, which rounding can bring below it: its root is told, and not used.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = NMF(k, init="nndsvd", solver="cd", beta_loss="frobenius", max_iter=iterations, random_state=seed)
        rows = model.fit_transform(matrix)
    length = np.linalg.norm(model.components_, axis=1)
    rows = rows * length
    total = rows.sum(axis=1, keepdims=True)
    return Model(np.divide(rows, total, out=np.zeros_like(rows), where=total > 1e-12), model.components_)


def fit_spherical(matrix: Any, k: int, seed: int, iterations: int, restarts: int) -> Model:
    """Spherical k-means of sparse rows of unit length: the greatest sum of cosines of some starts."""
    best: Model | None = None
    for start in range(restarts):
        rng = np.random.default_rng(seed + start)
        centres = _far_starts(matrix, k, rng)
        label = np.full(matrix.shape[0], -1)
        for _ in range(iterations):
            cosine = matrix @ centres.T
            found = strongest(cosine)
            if np.array_equal(found, label):
                break
            label = found
            centres = _centres(matrix, label, cosine.max(axis=1), centres)
        cosine = matrix @ centres.T
        total = float(cosine.max(axis=1).sum())
        if best is None or total > best.bound + 1e-9:
            best = Model(cosine, centres, total)
    assert best is not None
    return best


def _far_starts(matrix: Any, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: rows drawn with probability proportional to 1 - cos to the nearest row drawn before."""
    picks = [int(rng.integers(matrix.shape[0]))]
    away = np.full(matrix.shape[0], np.inf)
    while len(picks) < k:
        away = np.minimum(away, 1.0 - (matrix @ matrix[[picks[-1]]].toarray()[0]))
        away[away < 1e-9] = 0.0
        mass = np.cumsum(away)
        if mass[-1] <= 0:
            break
        picks.append(min(int(np.searchsorted(mass, rng.random() * mass[-1], side="right")), len(mass) - 1))
    return matrix[picks].toarray()


def _centres(matrix: Any, label: np.ndarray, cosine: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Normalised means; a centre that lost all its rows starts again at an outlying row."""
    from scipy.sparse import csr_array

    n, k = matrix.shape[0], len(before)
    sums = (csr_array((np.ones(n), (label, np.arange(n))), shape=(k, n)) @ matrix).toarray()
    empty = np.flatnonzero(np.bincount(label, minlength=k) == 0)
    outlying = np.argsort(cosine, kind="stable")[: len(empty)]
    sums[empty[: len(outlying)]] = matrix[outlying].toarray()
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def strongest(shares: np.ndarray) -> np.ndarray:
    """The column of the greatest value of each row; values within 1e-9 go to the first."""
    return (shares >= shares.max(axis=1, keepdims=True) - 1e-9).argmax(axis=1).astype(np.int64)
