"""Clusterings of the pool's vectors beside k-means, and the list of all clusterings.

Here belong the fits by batches and by a graph, as pure functions of vectors, and the list `CLUSTERINGS` of all
clusterings. Those by density stand in ``density.py``, those that go by words in ``topics.py``, plain spherical k-means
in ``numerics/kmeans.py``; what a cluster is about is read in ``clusters.py``.

Distances are 1 - cos, made from exact products (see ``numerics.similarity``): neighbours and radii do not depend on
blocks or threads, and cosines that agree to about 1e-6 are tied. Rows without a vector (NaN) get the label -1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from methods.diversity import density, topics
from methods.diversity.clustering_kinds import Clustering, ClusteringMethod, add_rows, numbered, to_centre
from methods.diversity.clusters import default_k
from methods.numerics import kmeans
from methods.numerics.neighbours import top_k
from methods.numerics.similarity import QUANTUM, blocks, on_grid, units, usable_rows

EXACT_SPECTRAL = 50_000
DENSE_SPECTRAL = 1_500
"""Up to so many rows all eigenvectors are computed, which is exact; above, only those wanted, by iteration."""
MOST_EIGENVECTORS = 200
LANDMARKS = 2_000


# ---- mini-batch k-means ---------------------------------------------------------------------------------------------


def minibatch(
    vectors: np.ndarray,
    seed: int = 0,
    k: int | None = None,
    batch: int = 4096,
    passes: int = 10,
    patience: int = 10,
    starve: float = 0.01,
    starts: int = 3,
) -> Clustering:
    """Spherical k-means that looks at a batch of rows at a time, for pools of millions.

    Equation: for each row x of a batch with nearest centre c: s_c += x, and c = s_c / ||s_c||; s_c is the sum of all
    rows that c was given so far, so that a centre moves less the more rows it has seen. It heads for the greatest
    sum of cos(x_i, c_label(i)), as k-means does.

    Strength: the cosine to the centre.

    Parameters: `k` clusters (None: the root of the number of rows, at most 2,000), `batch` rows at a time, drawn
    without replacement until the pool is through, `passes` times at most; the end comes earlier where the smoothed
    mean cosine of the batches has not grown for `patience` of them. A centre that was given fewer than `starve` times
    the most rows of any (.01) in a pass starts again at the row of a batch that is farthest from its centre.
    The start is k-means++ and two rounds of k-means on max(3 batches, 3 k) rows drawn by the seed; of `starts` such
    starts the one with the greatest mean cosine is taken.

    Memory: the vectors and a block of cosines. Time: one product of rows and centres a pass.

    Source: Sculley 2010, Web-scale k-means clustering; k-means++: Arthur and Vassilvitskii 2007; spherical: Dhillon
    and Modha 2001.

    Departures: centres are of unit length; after each pass the sums begin anew, weighed as one batch, so that rows seen
    beside the early centres are forgotten.
    """
    usable = usable_rows(vectors)
    centres, seen = _batch_centres(
        vectors, usable, _number(k, len(usable)), seed, batch, passes, patience, starve, starts
    )
    labels, similarity = kmeans.assign(vectors, centres)
    labels, kept = numbered(labels)
    return Clustering(labels, similarity.astype(np.float64), {"clusters": kept, "batches": seen, "batch": batch})


def _number(k: int | None, n: int, most: int = 2000) -> int:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return max(1, min(k if k is not None else default_k(n, most), n))


def _batch_centres(
    vectors: np.ndarray,
    usable: np.ndarray,
    k: int,
    seed: int,
    batch: int,
    passes: int,
    patience: int,
    starve: float,
    starts: int,
) -> tuple[np.ndarray, int]:
    """The centres and how many batches they saw."""
    rng = np.random.default_rng(seed)
    first = usable
    if len(usable) > max(3 * batch, 3 * k):
        first = np.sort(rng.choice(usable, size=max(3 * batch, 3 * k), replace=False))
    sample, centres, level = vectors[first], np.empty((0, vectors.shape[1]), dtype=np.float32), -np.inf
    for start in range(starts if len(sample) else 0):
        found = kmeans.fit(sample, k, seed + start, iterations=2, sample_cap=len(sample))
        reached = float(kmeans.assign(sample, found)[1].astype(np.float64).mean())
        if reached > level + 1e-9:
            centres, level = found, reached
    best, smoothed, since, seen = -np.inf, np.nan, 0, 0
    weight = min(1.0, 2 * batch / (len(usable) + 1))
    for turn in range(passes):
        sums = np.zeros(centres.shape) if turn == 0 else centres * (batch / max(1, len(centres)))
        given = np.zeros(len(centres))
        order = rng.permutation(usable)
        for part in blocks(len(order), batch):
            rows = vectors[np.sort(order[part])]
            label, similarity = kmeans.assign(rows, centres)
            add_rows(sums, rows, label)
            given += np.bincount(label, minlength=len(centres))
            length = np.linalg.norm(sums, axis=1)
            moved = length > 1e-9
            centres[moved] = sums[moved] / length[moved, None]
            seen += 1
            level = float(similarity.astype(np.float64).mean())
            smoothed = level if np.isnan(smoothed) else (1 - weight) * smoothed + weight * level
            since = 0 if smoothed > best + 1e-6 else since + 1
            best = max(best, smoothed)
            if since >= patience:
                return centres, seen
        starved = np.flatnonzero(given < starve * given.max(initial=0))
        if turn + 1 < passes and len(starved):
            outlying = np.argsort(similarity, kind="stable")[: len(starved)]
            centres[starved[: len(outlying)]] = rows[outlying]
            since, best = 0, -np.inf
    return centres, seen


# ---- spectral -------------------------------------------------------------------------------------------------------


def spectral(
    vectors: np.ndarray,
    seed: int = 0,
    k: int | None = None,
    neighbours: int = 10,
    most: int = EXACT_SPECTRAL,
    landmarks: int = LANDMARKS,
) -> Clustering:
    """Groups that hang together in the graph of nearest neighbours, whatever their shape.

    Equation: A = (G + G^T)/2 with G_ij = 1 where j is among the `neighbours` nearest rows of i; L = I - D^-1/2 A D^-1/2
    with D the row sums of A. The k eigenvectors of least eigenvalue of L, their rows scaled to unit length, are
    clustered by spherical k-means.

    Strength: the cosine to the normalised mean of the cluster's vectors.

    Parameters: `k` clusters (None: the root of the number of rows, at most 200); `neighbours` 10. Up to 1,500 rows (5 k
    if that is more) all eigenvectors are computed, from the whole matrix; above by LOBPCG with a start drawn by the
    seed. Above `most` rows the graph runs over `landmarks`, centres of a mini-batch k-means: each row is tied to its 5
    nearest with weights exp(-(1 - cos)/s), s the mean distance, scaled to sum 1 (Z); the eigenvectors of Z D^-1 Z^T
    come from the landmarks' small matrix.

    Memory: the vectors, their lists of neighbours and n x k numbers. Time: all pairs once (not with landmarks).

    Source: Ng, Jordan and Weiss 2002; von Luxburg 2007 (arXiv 0711.0189). Landmarks: Chen and Cai 2011 (AAAI).

    Departures: rows of equal vectors count once, else copies would be each other's neighbours and nobody else's.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, got {neighbours}")
    usable = usable_rows(vectors)
    rows, copy_of = _distinct(vectors[usable])
    labels = np.full(len(vectors), -1, dtype=np.int64)
    k = _number(k, len(rows), MOST_EIGENVECTORS)
    exact = len(rows) <= most
    facts: dict[str, Any] = {"graph": f"{neighbours} nearest neighbours" if exact else "landmarks (approximate)"}
    if len(rows):
        if exact:
            embedded, facts["largest residual"] = _eigenvectors(rows, k, neighbours, seed)
        else:
            embedded = _by_landmarks(rows, k, landmarks, seed)
        length = np.linalg.norm(embedded, axis=1, keepdims=True)
        unit = np.divide(embedded, length, out=np.zeros_like(embedded), where=length > 1e-12).astype(np.float32)
        labels[usable] = kmeans.assign(unit, kmeans.fit(unit, k, seed))[0][copy_of]
    labels, facts["clusters"] = numbered(labels)
    return Clustering(labels, to_centre(vectors, labels), facts)


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows without copies, in their order, and which of them each row is."""
    place: dict[bytes, int] = {}
    copy_of = np.array([place.setdefault(row.tobytes(), len(place)) for row in rows], dtype=np.int64)
    return rows[np.unique(copy_of, return_index=True)[1]], copy_of


def _eigenvectors(rows: np.ndarray, k: int, neighbours: int, seed: int) -> tuple[np.ndarray, float]:
    """(n, k) eigenvectors of greatest eigenvalue of D^-1/2 A D^-1/2, and how far the worst is from being one."""
    import warnings

    from scipy.sparse import coo_array, diags_array, eye_array
    from scipy.sparse.linalg import lobpcg

    n = len(rows)
    index, _ = top_k(rows, min(neighbours, max(1, n - 1)))
    here, place = np.nonzero(index >= 0)
    graph = coo_array((np.ones(len(here)), (here, index[here, place])), shape=(n, n)).tocsr()
    graph = (graph + graph.T) / 2
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(np.divide(1, np.sqrt(degree), out=np.zeros(n), where=degree > 0))
    operator = scale @ graph @ scale
    if n <= max(DENSE_SPECTRAL, 5 * k):
        return np.linalg.eigh(operator.toarray())[1][:, ::-1][:, :k], 0.0
    # Moved up by the identity, so that the wanted eigenvalues, near 2, are also the greatest in size.
    start = np.random.default_rng(seed).normal(size=(n, k))
    start[:, 0] = np.sqrt(degree)
    moved = (operator + eye_array(n)).tocsr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is left to do is told as the residual
        values, found = lobpcg(moved, start, largest=True, tol=1e-4, maxiter=200)
    return np.asarray(found), float(np.linalg.norm(moved @ found - found * values, axis=0).max())


def _by_landmarks(rows: np.ndarray, k: int, landmarks: int, seed: int, ties: int = 5) -> np.ndarray:
    """(n, k) eigenvectors of Z D^-1 Z^T, from those of the landmarks' own matrix."""
    from scipy.sparse import coo_array, diags_array

    wanted = min(len(rows), max(landmarks, 4 * k))
    centres, _ = _batch_centres(rows, np.arange(len(rows)), wanted, seed, 4096, 1, 10, 0.0, 1)
    ties, right = min(ties, len(centres)), on_grid(centres)
    near, level = np.empty((2, len(rows), ties))
    for part in blocks(len(rows)):
        found = units(on_grid(rows[part]), right)
        keys = found * len(centres) - np.arange(len(centres))  # ties to the lowest landmark
        order = np.argpartition(-keys, ties - 1, axis=1)[:, :ties]
        near[part], level[part] = order, np.take_along_axis(found, order, axis=1)
    distance = 1.0 - level * QUANTUM
    weight = np.exp(-distance / max(float(distance.mean()), 1e-9))
    weight /= weight.sum(axis=1, keepdims=True)
    here = np.repeat(np.arange(len(rows)), ties)
    tied = coo_array((weight.ravel(), (here, near.ravel().astype(np.int64))), shape=(len(rows), len(centres))).tocsr()
    mass = np.asarray(tied.sum(axis=0)).ravel()
    tied = tied @ diags_array(np.divide(1, np.sqrt(mass), out=np.zeros(len(mass)), where=mass > 0))
    values, small = np.linalg.eigh((tied.T @ tied).toarray())
    values, small = values[::-1][:k], small[:, ::-1][:, :k]
    return np.asarray(tied @ (small / np.sqrt(np.maximum(values, 1e-12))))


BY_VECTORS = (
    ClusteringMethod(
        id="minibatch",
        title="Mini-batch k-means",
        equation="s_c += x; c = s_c / ||s_c|| for each x of a batch with nearest centre c",
        paper="Sculley 2010; Arthur and Vassilvitskii 2007",
        meaning="Rows by their nearest of k centres, found by looking at a batch of rows at a time: k-means for pools "
        "too large for it.",
        needs="vectors",
        params={"seed": 0, "k": None, "batch": 4096, "passes": 10, "patience": 10, "starve": 0.01, "starts": 3},
        fit=minibatch,
    ),
    ClusteringMethod(
        id="dbscan",
        title="Dense regions (DBSCAN)",
        equation="core: |{j: 1 - cos(i, j) <= eps}| >= min_samples; clusters: connected core rows and what they reach",
        paper="Ester, Kriegel, Sander and Xu 1996",
        meaning="Rows that lie close together in chains are one group, however many groups there are; rows that stand "
        "alone belong to none.",
        needs="vectors",
        params={"seed": 0, "eps": None, "min_samples": 5, "most": density.EXACT_DBSCAN, "probes": 8},
        fit=density.dbscan,
    ),
    ClusteringMethod(
        id="hdbscan",
        title="Dense regions of any density (HDBSCAN)",
        equation="max sum_rows (1/d_leave - 1/d_enter) over sets of clusters, by max(d_core(a), d_core(b), d(a, b))",
        paper="Campello, Moulavi and Sander 2013; McInnes and Healy 2017, arXiv 1705.07321",
        meaning="Groups of rows that are denser than their surroundings, with how surely each row belongs; rows in "
        "thin regions belong to none.",
        needs="vectors",
        params={"seed": 0, "min_cluster_size": 5, "min_samples": None, "dimensions": 50, "most": density.EXACT_HDBSCAN},
        fit=density.hdbscan,
    ),
    ClusteringMethod(
        id="spectral",
        title="Spectral clustering",
        equation="k-means of the rows of the k least eigenvectors of I - D^-1/2 A D^-1/2, A the nearest neighbours",
        paper="Ng, Jordan and Weiss 2002; von Luxburg 2007, arXiv 0711.0189; Chen and Cai 2011",
        meaning="Rows that are neighbours of each other's neighbours are one group, whatever shape the group has.",
        needs="vectors",
        params={"seed": 0, "k": None, "neighbours": 10, "most": EXACT_SPECTRAL, "landmarks": LANDMARKS},
        fit=spectral,
    ),
)

CLUSTERINGS: tuple[ClusteringMethod, ...] = (*BY_VECTORS, *topics.BY_TEXTS)
"""All clusterings beside plain k-means, those of vectors first."""
