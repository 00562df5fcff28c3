"""Measures of a set (survey 4.1): one number for how varied a whole selection is.

Here belong the measures that read vectors, clusters or tags, and what all measures share: reading a field of a
`Subset` without the rows that lack it, and drawing rows. Measures of words are in `methods.diversity.word_measures`,
the Vendi scores in `methods.diversity.vendi`, how sure a number is in `methods.diversity.intervals`, and indicators of
single rows in `methods.diversity.handcrafted`.

None of these numbers is comparable between encoders, and few between sets of different size: report N and the encoder
beside the number. A number that has no meaning (an empty set, a single row) is None, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import polars as pl

from methods.diversity.geometry import ROWS_AT_A_TIME, has_vector, pair_distances
from methods.kinds import Direction, Measure, Subset
from methods.numerics.neighbours import top_k
from methods.numerics.similarity import blocks


# --- what all measures share -----------------------------------------------------------------------------------------
def missing(field: str) -> ValueError:
    """What a measure says when it was not handed a field that it reads."""
    return ValueError(f"this measure reads {field}, and this subset has none")


def embedded(subset: Subset) -> tuple[np.ndarray, np.ndarray]:
    """The vectors, and the indices of the rows that have one. Take the rows block by block."""
    if subset.vectors is None:
        raise missing("vectors")
    return subset.vectors, np.flatnonzero(has_vector(subset.vectors))


def clustered(subset: Subset) -> tuple[np.ndarray, np.ndarray]:
    """The cluster labels, and the indices of the rows that have one."""
    if subset.clusters is None:
        raise missing("clusters")
    return subset.clusters, np.flatnonzero(subset.clusters >= 0)


def drawn(subset: Subset, rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """At most ``size`` of these rows, ascending: those whose row id has the least keyed hash.

    A row's luck hangs on its id and the seed and not on its place, so that a measure of a sample does not change with
    the order of the rows.
    """
    if size < 1:
        raise ValueError(f"a sample needs at least one row, got {size}")
    if len(rows) <= size:
        return rows
    key = seed.to_bytes(8, "little", signed=True)
    ids = subset.row_ids.gather(rows).cast(pl.String).to_list()
    luck = [blake2b(id.encode(), digest_size=8, key=key).digest() for id in ids]
    best = sorted(range(len(rows)), key=luck.__getitem__)[:size]
    return np.sort(rows[best])


def set_measure(
    id: str,
    title: str,
    section: str,
    equation: str,
    paper: str,
    meaning: str,
    needs: tuple[str, ...],
    compute: Callable[..., float | None],
    direction: Direction = "higher",
    **params: object,
) -> Measure:
    """A record of the catalogue with what all measures of this room have in common."""
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
        direction=direction,
        compute=compute,
    )


# --- geometry --------------------------------------------------------------------------------------------------------
def d_knn(subset: Subset, metric: str = "euclidean") -> float | None:
    """Mean distance of a row from its nearest other row in the set.

    Equation: (1/N) sum_i min_{j != i} d(x_i, x_j) (Eq. 28). Points 0, 1, 3, 7 give 2.

    Parameters: `metric` is `euclidean` or `cosine` (1 - cosine).

    Undefined: under two rows with an embedding; rows without one are left out.

    Source: survey 4.1. It shrinks as N grows: compare sets of equal size. Neighbours whose cosines agree to 1e-6 are
    tied (lowest index).
    """
    vectors, rows = embedded(subset)
    if len(rows) < 2:
        return None
    nearest = top_k(vectors, 1)[0][rows, 0]
    return float(pair_distances(vectors, rows, nearest, metric).mean())


def d_radius(subset: Subset, ddof: int = 0, floor: float = 1e-8) -> float | None:
    """Geometric mean, over the dimensions, of the standard deviation of the vectors.

    Equation: exp((1/H) sum_j ln sigma_j) (Eq. 30). Columns (0, 2, 4), (0, 1, 2) give 1.154701 (ddof 1: 1.414214).

    Parameters: `ddof` 0 or 1. `floor` is the least sigma, so that one constant dimension does not make the whole 0.

    Undefined: for N <= ddof, counting rows with an embedding; the others are left out. It is 0 where all rows are the
    same.

    Source: Lai et al. 2020 (arXiv 2003.08529).
    """
    vectors, rows = embedded(subset)
    if len(rows) <= ddof:
        return None
    mean, squares = np.zeros(vectors.shape[1]), np.zeros(vectors.shape[1])
    for part in blocks(len(rows), ROWS_AT_A_TIME):
        mean += vectors[rows[part]].sum(axis=0, dtype=np.float64)
    mean /= len(rows)
    for part in blocks(len(rows), ROWS_AT_A_TIME):
        squares += ((vectors[rows[part]] - mean) ** 2).sum(axis=0)
    sigma = np.sqrt(squares / (len(rows) - ddof))
    return float(np.exp(np.log(np.maximum(sigma, floor)).mean())) if (sigma > floor).any() else 0.0


def d_inertia(subset: Subset, per_row: bool = False) -> float | None:
    """Sum of squared distances of the rows from the centre of their cluster.

    Equation: sum_k sum_{i in C_k} ||x_i - mean(C_k)||^2 (Eq. 29). (0,0), (0,2) and (5,0), (7,0) give 4.

    Parameters: `per_row` divides by N.

    Undefined: without a row that has both an embedding and a cluster; the others are left out.

    Source: Du and Black 2019. The clusters are those that the subset names (their number must match when two sets are
    compared); the centres are the means of the subset's own rows.
    """
    vectors, rows = embedded(subset)
    clusters, labelled = clustered(subset)
    rows = np.intersect1d(rows, labelled, assume_unique=True)
    if not len(rows):
        return None
    rows = rows[np.argsort(clusters[rows], kind="stable")]
    total = 0.0
    for members in np.split(rows, np.flatnonzero(np.diff(clusters[rows])) + 1):
        parts = [members[part] for part in blocks(len(members), ROWS_AT_A_TIME)]
        centre = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts) / len(members)
        total += float(sum(((vectors[part] - centre) ** 2).sum() for part in parts))
    return total / len(rows) if per_row else total


# --- categories ------------------------------------------------------------------------------------------------------
def entropy_order(name: str, value: float | str) -> float:
    """The order of an entropy as a number: 0 or more, or infinity."""
    order = float(value)
    if not order >= 0:
        raise ValueError(f"{name} must be 0 or more, or 'inf', got {value!r}")
    return order


def _cluster_counts(subset: Subset) -> np.ndarray:
    clusters, rows = clustered(subset)
    return np.unique(clusters[rows], return_counts=True)[1].astype(np.float64)


def _bits(counts: np.ndarray, alpha: float) -> float | None:
    """Renyi entropy of these counts, in bits; None without counts."""
    if not len(counts):
        return None
    # The sum over sorted shares does not hang on the names of the categories.
    shares = np.sort(counts) / counts.sum()
    if math.isinf(alpha):
        return max(float(-np.log2(shares[-1])), 0.0)
    bits = -(shares * np.log2(shares)).sum() if alpha == 1.0 else np.log2((shares**alpha).sum()) / (1.0 - alpha)
    return max(float(bits), 0.0)


def d_renyi(subset: Subset, alpha: float | str = 2.0) -> float | None:
    """Renyi entropy of the rows over clusters, in bits.

    Equation: log2(sum_c p_c^alpha)/(1 - alpha); alpha 1 is Shannon's, inf is -log2 max p (Eq. 33). Counts 2, 1, 1 give
    1.415037 (alpha 2), 1.543107 (.5).

    Parameters: `alpha` small: rare clusters weigh more.

    Undefined: without a row that has a cluster; rows of no cluster are left out.

    Source: survey 4.1.
    """
    return _bits(_cluster_counts(subset), entropy_order("alpha", alpha))


def d_entropy(subset: Subset) -> float | None:
    """Shannon entropy of the rows over clusters, in bits: 0 when all are in one, log2 K when evenly spread over K.

    Equation: -sum_c p_c log2 p_c (Eq. 32). Counts 2, 1, 1 give 1.5.

    Undefined: without a row that has a cluster; rows of no cluster are left out.

    Source: survey 4.1.

    Departures: the survey sums over x in S without saying of what p is a distribution; probabilities that a language
    model gives to whole texts are none over S. Here the categories are clusters.
    """
    return _bits(_cluster_counts(subset), 1.0)


def d_simpson(subset: Subset, variant: str = "survey") -> float | None:
    """Simpson's index of the rows over clusters: the chance that two rows are of one cluster.

    Equation: sum_c n_c(n_c+1)/(N(N+1)) (`survey`, Eq. 34, a row may be paired with itself); sum_c n_c(n_c-1)/(N(N-1))
    (`unbiased`); sum_c p_c^2 (`plain`). Counts 2, 1, 1 give .5, .166667, .375. Two complements: 1 - `survey` (`gini`,
    .5 here) and 1/sum_c p_c^2 (`inverse`, 2.666667 here: the number of equal clusters that would be as diverse).

    Parameters: `variant` as above.

    Direction: lower is more diverse: it measures concentration, although the survey calls it diversity. The variants
    `gini` and `inverse` run the other way: higher is more diverse.

    Undefined: without a row that has a cluster, and for one such row with `unbiased`; rows of no cluster are left out.

    Source: Zhou et al. 2020; Simpson 1949.

    Departures: the index of Gini and Simpson is usually 1 - `plain`; `gini` here is the complement of the survey's
    equation, with its pairs of a row and itself.
    """
    if variant not in ("survey", "unbiased", "plain", "gini", "inverse"):
        raise ValueError(f"variant must be 'survey', 'unbiased', 'plain', 'gini' or 'inverse', not {variant!r}")
    counts = _cluster_counts(subset)
    n = counts.sum()
    shift = {"survey": 1.0, "gini": 1.0, "unbiased": -1.0}.get(variant, 0.0)
    pairs = n * (n + shift)
    if pairs <= 0:
        return None
    index = float((counts * (counts + shift)).sum() / pairs)
    return {"gini": 1.0 - index, "inverse": 1.0 / index if index else None}.get(variant, index)


# --- tags ------------------------------------------------------------------------------------------------------------
def _tag_counts(subset: Subset) -> pl.DataFrame | None:
    """``tag`` and its number of occurrences ``n``, by tag; None where no row of the set says anything of tags."""
    if subset.tags is None:
        raise missing("tags")
    said = subset.tags.drop_nulls()
    if said.is_empty():
        return None
    tags = said.explode(empty_as_null=False, keep_nulls=False).drop_nulls().cast(pl.String).alias("tag")
    return tags.to_frame().group_by("tag").agg(n=pl.len()).sort("tag")


def tag_count(subset: Subset) -> float | None:
    """Number of distinct tags in the set.

    Equation: |T|, T the union of the rows' tags. Tags (a, b), (b), () give 2. It grows with N: compare sets of equal
    size.

    Undefined: where no row comes from a source that gives tags. A row with an empty list says that it has none.

    Source: Lu et al. 2023, InsTag (arXiv 2308.07074), the diversity of a set; survey 4.1.
    """
    counts = _tag_counts(subset)
    return None if counts is None else float(counts.height)


def tag_coverage(subset: Subset) -> float | None:
    """Share of the pool's tags that stand in the set.

    Equation: |T & P|/|P|, T the set's tags and P the pool's. Of a, b, c, d the set a, b, x covers .5.

    Undefined: where the pool's tags are not known or there is none, and where no row comes from a source that gives
    tags.

    Source: Lu et al. 2023, InsTag (arXiv 2308.07074): the rate of covered tags.
    """
    counts = _tag_counts(subset)
    if counts is None or not subset.known_tags:
        return None
    return len(subset.known_tags.intersection(counts["tag"].to_list())) / len(subset.known_tags)


def tag_entropy(subset: Subset) -> float | None:
    """Shannon entropy of the tags over all their occurrences in the set, in bits.

    Equation: -sum_t p_t log2 p_t, p_t the share of tag t among all occurrences. Tags (a, b), (a), (c) give 1.5.

    Undefined: where no row has a tag.

    Source: survey 4.1 (Eq. 32) with tags for categories; Lu et al. 2023, InsTag (arXiv 2308.07074).
    """
    counts = _tag_counts(subset)
    return None if counts is None else _bits(counts["n"].to_numpy().astype(np.float64), 1.0)


MEASURES = (
    set_measure(
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
    set_measure(
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
    set_measure(
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
    set_measure(
        "d_entropy",
        "Entropy over clusters",
        "4.1",
        r"-\sum_c p_c \log_2 p_c",
        "Shannon 1948; survey 4.1",
        "How evenly the rows are spread over clusters, in bits: 2 to its power is the number of equal clusters.",
        ("clusters",),
        d_entropy,
    ),
    set_measure(
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
    set_measure(
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
    set_measure(
        "tag_count",
        "Distinct tags",
        "4.1",
        r"\lvert T \rvert",
        "Lu et al. 2023, InsTag, arXiv 2308.07074",
        "How many different tags the set's rows carry: more kinds of task, more tags. Grows with the number of rows.",
        ("tags",),
        tag_count,
    ),
    set_measure(
        "tag_coverage",
        "Coverage of the pool's tags",
        "4.1",
        r"\frac{\lvert T \cap P \rvert}{\lvert P \rvert}",
        "Lu et al. 2023, InsTag, arXiv 2308.07074",
        "How much of what the pool is about the set still holds: 1 when no tag of the pool was lost.",
        ("tags", "known_tags"),
        tag_coverage,
    ),
    set_measure(
        "tag_entropy",
        "Entropy over tags",
        "4.1",
        r"-\sum_t p_t \log_2 p_t",
        "Shannon 1948; Lu et al. 2023, InsTag, arXiv 2308.07074",
        "How evenly the tags are used, in bits: low when a few tags stand on nearly every row.",
        ("tags",),
        tag_entropy,
    ),
)
