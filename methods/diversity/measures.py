"""Measures of a set (survey 4.1, 4.2): one number for how varied a whole selection is.

Here belong functions of a `Subset`. None of them is comparable between encoders, and few between sets of different
size: report N and the encoder beside the number. A number that has no meaning (an empty set, a single row) is None,
never 0. Indicators of single rows are in `methods.diversity.handcrafted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from methods.diversity.geometry import ROWS_AT_A_TIME, pair_distances
from methods.kinds import Measure, Subset
from methods.numerics.neighbours import top_k
from methods.numerics.similarity import blocks

_NOISE = 1e-10
"""Eigenvalues at or below this are rounding; they would inflate the Vendi score of orders under 1."""


def _vectors(subset: Subset) -> np.ndarray:
    if subset.vectors is None:
        raise ValueError("this measure reads vectors, and this subset has none")
    return subset.vectors


def _cluster_counts(subset: Subset) -> np.ndarray:
    if subset.clusters is None:
        raise ValueError("this measure reads clusters, and this subset has none")
    return np.unique(subset.clusters, return_counts=True)[1].astype(np.float64)


def _words(subset: Subset) -> pl.Series:
    if subset.words is None:
        raise ValueError("this measure reads words, and this subset has none")
    return subset.words.drop_nulls()


# --- geometry --------------------------------------------------------------------------------------------------------
def _order(value: float | str) -> float:
    order = float(value)
    if not order >= 0:
        raise ValueError(f"order must be 0 or more, or 'inf', got {value!r}")
    return order


def vendi(subset: Subset, order: float | str = 1.0) -> float | None:
    """Vendi score with the cosine kernel: how many wholly different rows the set is worth, from 1 to N.

    Equation: lambda = eigenvalues of K/N, K_ij = x_i . x_j; exp(ln(sum lambda^q)/(1-q)), for q = 1 the exponential of
    their entropy, for q = inf 1/max lambda (Eq. 35). K = [[1, .5], [.5, 1]] gives 1.866025 (q = .5), 1.754765, 1.6
    (q = 2), 1.333333 (inf).

    Shapes: vectors (N, d); the d x d matrix X'X/N has the same nonzero eigenvalues and is summed in blocks, so that no
    N x N matrix is made.

    Parameters: `order` is q; under 1 rare directions weigh more, over 1 less; `"inf"` is allowed.

    Undefined: for an empty set.

    Source: Friedman and Dieng 2023 (arXiv 2210.02410); orders Pasarkar and Dieng 2023 (arXiv 2310.12952).

    Departures: the survey prints exp with log2, which is wrong for every q but 1. Eigenvalues up to 1e-10 are noise.
    """
    vectors, q = _vectors(subset), _order(order)
    if not len(vectors):
        return None
    gram = np.zeros((vectors.shape[1],) * 2)
    for part in blocks(len(vectors), ROWS_AT_A_TIME):
        block = vectors[part].astype(np.float64)
        gram += block.T @ block
    values = np.linalg.eigvalsh(gram / len(vectors))
    values = values[values > _NOISE]
    if not len(values):
        return None
    if math.isinf(q):
        return float(1.0 / values.max())
    if q == 1.0:
        return float(np.exp(-(values * np.log(values)).sum()))
    return float(np.exp(np.log((values**q).sum()) / (1.0 - q)))


def d_knn(subset: Subset, metric: str = "euclidean") -> float | None:
    """Mean distance of a row from its nearest other row in the set.

    Equation: (1/N) sum_i min_{j != i} d(x_i, x_j) (Eq. 28). Points 0, 1, 3, 7 give 2.

    Parameters: `metric` is `euclidean` or `cosine` (1 - cosine).

    Undefined: under two rows.

    Source: survey 4.1. It shrinks as N grows: compare sets of equal size. Neighbours whose cosines agree to 1e-6 are
    tied (lowest index).
    """
    vectors = _vectors(subset)
    if len(vectors) < 2:
        return None
    nearest = top_k(vectors, 1)[0][:, 0]
    return float(pair_distances(vectors, np.arange(len(vectors)), nearest, metric).mean())


def d_radius(subset: Subset, ddof: int = 0, floor: float = 1e-8) -> float | None:
    """Geometric mean, over the dimensions, of the standard deviation of the vectors.

    Equation: exp((1/H) sum_j ln sigma_j) (Eq. 30). Columns (0, 2, 4), (0, 1, 2) give 1.154701 (ddof 1: 1.414214).

    Parameters: `ddof` 0 or 1. `floor` is the least sigma, so that one constant dimension does not make the whole 0.

    Undefined: for N <= ddof. It is 0 where all rows are the same.

    Source: Lai et al. 2020 (arXiv 2003.08529).
    """
    vectors = _vectors(subset)
    if len(vectors) <= ddof:
        return None
    mean, squares = np.zeros(vectors.shape[1]), np.zeros(vectors.shape[1])
    for part in blocks(len(vectors), ROWS_AT_A_TIME):
        mean += vectors[part].sum(axis=0, dtype=np.float64)
    mean /= len(vectors)
    for part in blocks(len(vectors), ROWS_AT_A_TIME):
        squares += ((vectors[part] - mean) ** 2).sum(axis=0)
    sigma = np.sqrt(squares / (len(vectors) - ddof))
    return float(np.exp(np.log(np.maximum(sigma, floor)).mean())) if (sigma > floor).any() else 0.0


def d_inertia(subset: Subset, per_row: bool = False) -> float | None:
    """Sum of squared distances of the rows from the centre of their cluster.

    Equation: sum_k sum_{i in C_k} ||x_i - mean(C_k)||^2 (Eq. 29). (0,0), (0,2) and (5,0), (7,0) give 4.

    Parameters: `per_row` divides by N.

    Undefined: for an empty set.

    Source: Du and Black 2019. The clusters are those that the subset names (their number must match when two sets are
    compared); the centres are the means of the subset's own rows.
    """
    vectors, clusters = _vectors(subset), subset.clusters
    if clusters is None:
        raise ValueError("this measure reads clusters, and this subset has none")
    if not len(vectors):
        return None
    total = 0.0
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        parts = [members[part] for part in blocks(len(members), ROWS_AT_A_TIME)]
        centre = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts) / len(members)
        total += float(sum(((vectors[part] - centre) ** 2).sum() for part in parts))
    return total / len(vectors) if per_row else total


# --- categories ------------------------------------------------------------------------------------------------------
def d_renyi(subset: Subset, alpha: float | str = 2.0) -> float | None:
    """Renyi entropy of the rows over clusters, in bits.

    Equation: log2(sum_c p_c^alpha)/(1 - alpha); alpha 1 is Shannon's, inf is -log2 max p (Eq. 33). Counts 2, 1, 1 give
    1.415037 (alpha 2), 1.543107 (.5).

    Parameters: `alpha` small: rare clusters weigh more.

    Undefined: for an empty set.

    Source: survey 4.1.
    """
    counts, a = _cluster_counts(subset), _order(alpha)
    if not len(counts):
        return None
    shares = counts / counts.sum()
    if math.isinf(a):
        return float(-np.log2(shares.max()))
    bits = -(shares * np.log2(shares)).sum() if a == 1.0 else np.log2((shares**a).sum()) / (1.0 - a)
    return max(float(bits), 0.0)


def d_entropy(subset: Subset) -> float | None:
    """Shannon entropy of the rows over clusters, in bits: 0 when all are in one, log2 K when evenly spread over K.

    Equation: -sum_c p_c log2 p_c (Eq. 32). Counts 2, 1, 1 give 1.5.

    Undefined: for an empty set.

    Source: survey 4.1.
    """
    return d_renyi(subset, 1.0)


def d_simpson(subset: Subset, variant: str = "survey") -> float | None:
    """Simpson's index of the rows over clusters: the chance that two rows are of one cluster.

    Equation: sum_c n_c(n_c+1)/(N(N+1)) (`survey`, Eq. 34, a row may be paired with itself); sum_c n_c(n_c-1)/(N(N-1))
    (`unbiased`); sum_c p_c^2 (`plain`). Counts 2, 1, 1 give .5, .166667, .375.

    Parameters: `variant` as above.

    Direction: lower is more diverse: it measures concentration, although the survey calls it diversity.

    Undefined: for an empty set, and for one row with `unbiased`.

    Source: Zhou et al. 2020; Simpson 1949.
    """
    counts = _cluster_counts(subset)
    n = counts.sum()
    shift = {"survey": 1.0, "unbiased": -1.0, "plain": 0.0}
    if variant not in shift:
        raise ValueError(f"variant must be 'survey', 'unbiased' or 'plain', not {variant!r}")
    pairs = n * (n + shift[variant])
    return float((counts * (counts + shift[variant])).sum() / pairs) if pairs > 0 else None


# --- words -----------------------------------------------------------------------------------------------------------
def _all_words(subset: Subset) -> pl.Series:
    return _words(subset).explode(empty_as_null=False, keep_nulls=False)


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
    words = _words(subset)
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
    words = _words(subset)
    return float(words.list.len().mean()) if len(words) else None  # type: ignore[arg-type]


def _measure(
    id: str,
    title: str,
    section: str,
    equation: str,
    paper: str,
    meaning: str,
    needs: tuple[str, ...],
    compute: Callable[..., float | None],
    direction: str = "higher",
    **params: object,
) -> Measure:
    return Measure(
        id=id,
        title=title,
        axis="diversity",
        family="measures",
        section=section,
        equation=equation,
        paper=paper,
        meaning=meaning,
        needs=needs,
        params=params,
        direction=direction,  # type: ignore[arg-type]
        compute=compute,
    )


MEASURES = (
    _measure(
        "vendi",
        "Vendi score",
        "4.1",
        r"\exp\left(\frac{1}{1-q} \ln \sum_i \lambda_i^q\right)",
        "Friedman and Dieng 2023, arXiv 2210.02410; Pasarkar and Dieng 2023, arXiv 2310.12952",
        "How many wholly different rows the set is worth: 1 when all are the same, N when none resembles another.",
        ("vectors",),
        vendi,
        order=1.0,
    ),
    _measure(
        "d_knn",
        "Mean nearest-neighbour distance",
        "4.1",
        r"\frac{1}{N} \sum_i \min_{j \ne i} d(x_i, x_j)",
        "Survey 4.1; Dong et al. 2011 (the graph)",
        "How far rows stand from their most similar fellow: near 0 the set is full of near-duplicates.",
        ("vectors",),
        d_knn,
        metric="euclidean",
    ),
    _measure(
        "d_radius",
        "Radius",
        "4.1",
        r"\left(\prod_j \sigma_j\right)^{1/H}",
        "Lai et al. 2020, Diversity, Density, and Homogeneity, arXiv 2003.08529",
        "How wide the set's cloud of vectors is, over all dimensions alike.",
        ("vectors",),
        d_radius,
        ddof=0,
        floor=1e-8,
    ),
    _measure(
        "d_inertia",
        "Inertia of clusters",
        "4.1",
        r"\sum_k \sum_{i \in C_k} \lVert x_i - \mu_k \rVert^2",
        "Du and Black 2019, Boosting Dialog Response Generation",
        "How widely rows scatter about the centre of their cluster; grows with N unless divided by it.",
        ("vectors", "clusters"),
        d_inertia,
        per_row=False,
    ),
    _measure(
        "d_entropy",
        "Entropy over clusters",
        "4.1",
        r"-\sum_c p_c \log_2 p_c",
        "Shannon 1948; survey 4.1",
        "How evenly the rows are spread over clusters, in bits: 2 to its power is the number of equal clusters.",
        ("clusters",),
        d_entropy,
    ),
    _measure(
        "d_renyi",
        "Renyi entropy over clusters",
        "4.1",
        r"\frac{1}{1-\alpha} \log_2 \sum_c p_c^{\alpha}",
        "Renyi 1961; survey 4.1",
        "As the entropy, with a dial: a small alpha listens to rare clusters, a large one to the most common.",
        ("clusters",),
        d_renyi,
        alpha=2.0,
    ),
    _measure(
        "d_simpson",
        "Simpson index over clusters",
        "4.1",
        r"\frac{\sum_c n_c (n_c + 1)}{N (N + 1)}",
        "Simpson 1949; Zhou et al. 2020",
        "The chance that two rows are of the same cluster: 1 when all are, so lower is more diverse.",
        ("clusters",),
        d_simpson,
        direction="lower",
        variant="survey",
    ),
    _measure(
        "vocab_richness",
        "Vocabulary size",
        "4.2",
        r"V",
        "Lee et al. 2023, Beyond Scale, arXiv 2306.13840",
        "How many different words the answers use. Grows with the number of words.",
        ("words",),
        vocab_richness,
    ),
    _measure(
        "corpus_ttr",
        "Type-token ratio of the set",
        "4.1",
        r"\frac{V}{n}",
        "Templin 1957; survey 4.1",
        "Distinct words over all words. Falls as the set grows: compare sets of like size.",
        ("words",),
        corpus_ttr,
    ),
    _measure(
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
    _measure(
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
)
