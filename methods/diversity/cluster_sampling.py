"""Choosing inside clusters: a quota for each, and a rule which of its rows fill it.

Here belong easy and diverse first, ClusterClip, ordered clustering and the moderate coreset, and how all of them come
by clusters. Sampling by sensitivity, which needs losses, stands in ``sensitivity.py``; the plain quota by cluster and
score is `stratified` in ``selection/basic.py``; fitting clusters stands in ``numerics/kmeans.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.numerics import kmeans
from methods.numerics.similarity import BLOCK, blocks, usable_rows
from methods.selection.basic import at_most, best_first, places_within, quotas, require, stratified

Quota = Literal["balanced", "proportional"]
Prototype = Literal["mean", "median"]
Order = Literal["lowest", "highest"]
Noise = Literal["exclude", "last"]
DIMENSIONS = 50
"""What ordered clustering reduces the vectors to: density says little in hundreds of dimensions."""


# --- clusters ---------------------------------------------------------------------------------------------------------
def labels_of(candidates: Candidates, k: int | None, seed: int, method: str) -> np.ndarray:
    """(n,) int64: the clusters that the candidates bring (``k`` None), or ``k`` found by spherical k-means here."""
    if k is None:
        if candidates.clusters is None:
            raise ValueError(f"{method} needs clusters: run it on clustered rows, or say how many to look for (k)")
        return require(candidates, "clusters", method).astype(np.int64)
    if isinstance(k, bool) or k != int(k) or k < 1:
        raise ValueError(f"{method}: k is a whole number of clusters from 1 on, got {k!r}")
    vectors = vectors_of(candidates, method)
    return kmeans.assign(vectors, kmeans.fit(vectors, int(k), seed))[0]


def vectors_of(candidates: Candidates, method: str) -> np.ndarray:
    """The vectors, each of them finite."""
    vectors = require(candidates, "vectors", method)
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError(f"{method}: a candidate has no vector; drop such rows, with a reason, before it")
    return vectors


def rows_of(cluster: np.ndarray) -> list[np.ndarray]:
    """The rows of each cluster, ascending; ``cluster`` counts from 0 without gaps."""
    if not len(cluster):
        return []
    return np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster))[:-1])


def to_centre(vectors: np.ndarray, cluster: np.ndarray, prototype: Prototype = "mean") -> np.ndarray:
    """(n,) float64: Euclidean distance of each row to the mean (or the median of each number) of its cluster's rows.

    ``cluster`` counts from 0 without gaps. Blocks in float64: float32 would break ties.
    """
    found = np.empty(len(vectors))
    for rows in rows_of(cluster):
        parts = [rows[part] for part in blocks(len(rows), BLOCK)]
        if prototype == "median":
            numbers = blocks(vectors.shape[1], 16)
            centre = np.concatenate([np.median(vectors[rows, some].astype(np.float64), axis=0) for some in numbers])
        else:
            centre = np.sum([vectors[part].sum(axis=0, dtype=np.float64) for part in parts], axis=0) / len(rows)
        for part in parts:
            gap = vectors[part] - centre
            found[part] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    return found


def _one_of(method: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{method}: {name} must be {' or '.join(allowed)}, got {value!r}")


# --- easy and diverse first -------------------------------------------------------------------------------------------
def easy_and_diverse_first(
    candidates: Candidates, budget: int, seed: int = 0, k: int | None = 16, quota: Quota = "balanced"
) -> Chosen:
    """The easiest rows of every cluster; what is easy, the recipe's score says: the rows of highest score are taken.

    Equation: S_b = union over j of the q_j rows of C_j with the highest score; q_j = b / K.

    Direction: a score is turned so that higher means take first. The paper takes the rows of least learning complexity
    (a loss, lower is easier): a recipe with `learning_complexity` as its score does that, and with
    `directions: {learning_complexity: higher}` it takes the hardest rows of every cluster.

    Parameters: `k` is K, the clusters that spherical k-means looks for among the candidates (16; the paper tries 8, 12,
    16, 20 and 24); None takes the pool's own clusters, of which a negative label is one too. `quota` is `balanced`
    (b / K each; the rest of b mod K to the lowest clusters, and what a small cluster lacks is shared by the others) or
    `proportional` (b |C_j| / N, by largest remainder). `seed` is that of k-means.

    Order: round the clusters, the best row left of each. Gain: the score.

    Source: Jiang et al. 2024, arXiv 2402.05356 (survey Eq. 39, Alg. 4).

    Departures: the survey prints F(S) <= b / K, which compares a share with a count, and which takes the hardest rows
    if S is its Eq. 8. Its vectors are of unit length, those of the paper are not.
    """
    _one_of("easy_and_diverse_first", "quota", quota, get_args(Quota))
    require(candidates, "score", "easy_and_diverse_first")
    labels = labels_of(candidates, k, seed, "easy_and_diverse_first")
    allocation: Literal["equal", "proportional"] = "equal" if quota == "balanced" else "proportional"
    return stratified(replace(candidates, clusters=labels), budget, seed, allocation)


# --- ClusterClip ------------------------------------------------------------------------------------------------------
def cluster_clip(candidates: Candidates, budget: int, seed: int, k: int | None = None, clip: int = 5) -> Chosen:
    """The same share for every cluster, but no row more than ``clip`` times: small clusters are repeated, not overfit.

    Equation: q_j = min(level, c |C_j|) with sum q_j = min(b, c N), in whole numbers by largest remainder. Clusters of
    6, 2 and 1 rows and b = 9 give 4, 3, 2 for c = 2 and 6, 2, 1 for c = 1. A cluster's rows are seen in an order drawn
    by `seed`, again and again until its q_j is used up.

    Gain and weight: how often the row is to be seen in training, from 1 to c. A choice holds a row once; the weights
    add up to min(b, c N), so that with c > 1 there can be fewer rows than the budget. Whoever trains must repeat the
    rows by their weights. With c = 1 every weight is 1, and the choice is a plain subset.

    Parameters: `clip` is c (5; not verified in the paper). `k` None takes the pool's clusters (a negative label is a
    cluster too); a number looks for so many by spherical k-means (the paper: 2,000).

    Order: round the clusters, by ascending label.

    Source: Shao et al. 2024, ClusterClip (arXiv 2402.14526).

    Departures: the paper draws one row after the other, a cluster with equal chances, and drops a row that was seen c
    times; here every cluster gets its share to the row. The survey's cap on a cluster is one on a row: it is what
    keeps small clusters from being overfit.
    """
    if isinstance(clip, bool) or clip != int(clip) or clip < 1:
        raise ValueError(f"cluster_clip: clip is a whole number of times from 1 on, got {clip!r}")
    at_most(candidates, budget)  # refuses a negative one
    labels = labels_of(candidates, k, seed, "cluster_clip")
    names, sizes = np.unique(labels, return_counts=True)
    quota = quotas(sizes * int(clip), int(budget), "equal")
    order = np.random.default_rng(seed).permutation(len(labels))
    cluster = np.searchsorted(names, labels[order])
    place = places_within(cluster, sizes)
    times = quota[cluster] // sizes[cluster] + (place < quota[cluster] % sizes[cluster])
    rounds = np.lexsort((cluster, place))
    rounds = rounds[times[rounds] > 0]
    reason = [
        f"to be seen {_times(times[i])}: cluster {names[c]} ({sizes[c]} rows) is seen {_times(quota[c])}"
        for i, c in zip(rounds, cluster[rounds], strict=True)
    ]
    seen = times[rounds].astype(np.float64)
    return Chosen(order[rounds].astype(np.int64), seen, reason, weight=seen)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# --- moderate coreset -------------------------------------------------------------------------------------------------
def moderate_coreset(
    candidates: Candidates, budget: int, seed: int = 0, k: int | None = None, prototype: Prototype = "mean"
) -> Chosen:
    """Of every cluster the rows at a middling distance from its centre: neither the typical ones nor the outliers.

    Equation: rank the rows of C_j by ||g_i - c_j||; keep the ranks in the band .5 +- b / 2N. Distances .1, .4, .2, .3,
    .9 and a budget of 3 of 5 keep rows 1, 2 and 3.

    Parameters: `prototype` is the centre c_j: the `mean` of the cluster's rows (default), or the `median` of each of
    their numbers, as implementations have it that were seen; which is the paper's was not verified. `k` None takes the
    pool's clusters (a negative label is a cluster too); a number looks for so many by spherical k-means with `seed`.
    1 makes the whole pool one class.

    Order: each cluster gives b |C_j| / N rows by largest remainder, from the middle rank outwards (the nearer of two
    first), round the clusters. Distances within 1e-9 are tied and go by index.

    Gain: minus the difference to the median distance of the cluster.

    Source: Xia et al. 2022, Moderate Coreset (ICLR 2023). The survey cites it without details.
    """
    _one_of("moderate_coreset", "prototype", prototype, get_args(Prototype))
    vectors = vectors_of(candidates, "moderate_coreset")
    labels = labels_of(candidates, k, seed, "moderate_coreset")
    names, cluster, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    distance = to_centre(vectors, cluster, prototype)
    rank, outwards = middle_first(distance, cluster, sizes)
    found = stratified(replace(candidates, score=-outwards, clusters=labels), budget, seed, "proportional")
    medians = np.array([np.median(distance[rows]) for rows in rows_of(cluster)])
    order = found.order
    reason = [
        f"{distance[i]:.4f} from the {prototype} of cluster {names[j]}: rank {rank[i] + 1} of {sizes[j]}, "
        f"where the middle is {medians[j]:.4f}"
        for i, j in zip(order, cluster[order], strict=True)
    ]
    return Chosen(order, -np.abs(distance - medians[cluster])[order], reason)


def middle_first(distance: np.ndarray, cluster: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row its rank by distance in its cluster, from 0, and the place of that rank from the middle outwards."""
    near_first = best_first(-distance)
    rank = np.empty(len(distance), dtype=np.int64)
    rank[near_first] = places_within(cluster[near_first], sizes)
    beyond = 2 * rank - (sizes[cluster] - 1)
    return rank, 2.0 * np.abs(beyond) + (beyond > 0)


# --- ordered clustering -----------------------------------------------------------------------------------------------
def ordered_clustering(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    order: Order = "lowest",
    min_cluster_size: int = 5,
    noise: Noise = "exclude",
) -> Chosen:
    """Dense clusters from the largest to the smallest, a row of each in turn, until the budget; no chance.

    HDBSCAN on the vectors, reduced to 50 principal components. Round after round, each cluster gives the row left in
    it with the lowest membership probability (how near to the cluster's dense core a row lies, from 0 to 1).

    Parameters: `order` is `lowest`, as the survey has it, which picks the rows at a cluster's border, or `highest`, the
    rows of its core. `min_cluster_size` (5) is HDBSCAN's: smaller groups are noise. `noise` are rows of no cluster:
    `exclude` refuses them, so that the choice may be smaller than the budget (and empty where all is noise, as with
    copies of a single row), `last` takes them by index once all clusters are used up.

    Ties: clusters of one size by their first row, rows of one probability (within 1e-9) by index.

    Gain: the membership probability (0 for noise). Time and memory: the reduction in float64, and about N^2 distances
    in 50 dimensions.

    Source: Alcoforado et al. 2024, arXiv 2401.13229; HDBSCAN of scikit-learn. Not verified: no code was found, the
    steps and defaults are the survey's account and scikit-learn's.
    """
    _one_of("ordered_clustering", "order", order, get_args(Order))
    _one_of("ordered_clustering", "noise", noise, get_args(Noise))
    vectors = vectors_of(candidates, "ordered_clustering")
    n_take = at_most(candidates, budget)
    label, member = dense_clusters(vectors, min_cluster_size)
    some = label >= 0
    sizes = np.bincount(label[some])
    firsts = np.unique(label[some], return_index=True)[1]
    place_of = np.empty(len(sizes), dtype=np.int64)
    place_of[np.lexsort((firsts, -sizes))] = np.arange(len(sizes))  # 0 for the largest
    by_member = best_first(-member if order == "lowest" else member)
    by_member = by_member[some[by_member]]
    turn = places_within(label[by_member], sizes)
    taken = by_member[np.lexsort((place_of[label[by_member]], turn))]
    outside = np.flatnonzero(~some)
    every = taken if noise == "exclude" else np.concatenate([taken, outside])
    chosen = every[:n_take].astype(np.int64)
    reason = [
        f"membership {member[i]:.4f} in cluster {place_of[label[i]] + 1} of {len(sizes)} by size "
        f"({sizes[label[i]]} rows)"
        if some[i]
        else "in no cluster; all rows of clusters are taken"
        for i in chosen
    ]
    refused = {int(i): "noise: in no dense cluster" for i in outside} if noise == "exclude" else {}
    return Chosen(chosen, member[chosen], reason, refused=refused)


def dense_clusters(vectors: np.ndarray, min_cluster_size: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """HDBSCAN on at most `DIMENSIONS` principal components: (n,) label, -1 for noise, and (n,) membership."""
    if isinstance(min_cluster_size, bool) or min_cluster_size != int(min_cluster_size) or min_cluster_size < 2:
        raise ValueError(f"min_cluster_size is a whole number of rows from 2 on, got {min_cluster_size!r}")
    n = len(vectors)
    if n < min_cluster_size:
        return np.full(n, -1, dtype=np.int64), np.zeros(n)
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    reduced = vectors.astype(np.float64)
    if min(reduced.shape) > DIMENSIONS:
        reduced = PCA(DIMENSIONS, svd_solver="covariance_eigh").fit_transform(reduced)
    # The last bits differ between machines; without them copies stay copies.
    found = HDBSCAN(min_cluster_size=int(min_cluster_size), algorithm="kd_tree", copy=True).fit(np.round(reduced, 7))
    member = np.where(np.isfinite(found.probabilities_), found.probabilities_, 1.0)
    return found.labels_.astype(np.int64), np.where(found.labels_ < 0, 0.0, member)


SELECTORS = (
    Selector(
        id="easy_and_diverse_first",
        title="Easy and diverse first",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="S_b = union_j {the b/K rows of C_j that come first by score}",
        paper="Jiang et al. 2024, arXiv 2402.05356",
        meaning="Every topic gives the same number of rows, the easiest first (or the hardest, if the score is turned "
        "so).",
        needs=("score", "vectors", "clusters"),
        params={"k": 16, "quota": "balanced"},
        select=easy_and_diverse_first,
    ),
    Selector(
        id="cluster_clip",
        title="ClusterClip",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="q_j = min(level, c |C_j|), sum_j q_j = min(b, c N)",
        paper="Shao et al. 2024, ClusterClip, arXiv 2402.14526",
        meaning="Every topic is seen equally often, with rows of small topics repeated a few times at most. The weight "
        "is how often to repeat the row in training.",
        needs=("vectors", "clusters"),
        params={"k": None, "clip": 5},
        select=cluster_clip,
    ),
    Selector(
        id="moderate_coreset",
        title="Moderate coreset: the middle of every cluster's distances",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="keep the ranks of ||g(x_i) - c_j|| within C_j in .5 +- b / 2N",
        paper="Xia et al. 2022, Moderate Coreset (ICLR 2023)",
        meaning="Of every topic the rows that are neither the most typical nor the oddest.",
        needs=("vectors", "clusters"),
        params={"k": None, "prototype": "mean"},
        select=moderate_coreset,
    ),
    Selector(
        id="ordered_clustering",
        title="Ordered clustering: in turn from the largest dense cluster to the smallest",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="round-robin over the HDBSCAN clusters by size: argmin_{i in C_j} P(x_i in C_j)",
        paper="Alcoforado et al. 2024, arXiv 2401.13229",
        meaning="A row of every dense group in turn, those at its border first; rows that belong to no group are left "
        "out.",
        needs=("vectors",),
        params={"order": "lowest", "min_cluster_size": 5, "noise": "exclude"},
        select=ordered_clustering,
    ),
)
