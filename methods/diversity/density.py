"""Clusters as dense regions of the pool's vectors: DBSCAN and HDBSCAN.

Here belong clusterings that need no number of clusters and call rows in thin regions noise (-1). Distances of DBSCAN
are 1 - cos, made from exact products (see ``numerics.similarity``): cosines that agree to about 1e-6 are tied, and
neither blocks nor threads change a label. Rows without a vector (NaN) get the label -1 too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from methods.diversity.clustering_kinds import Clustering, numbered, to_centre
from methods.diversity.clusters import default_k
from methods.numerics import kmeans
from methods.numerics.projection import distortion, project
from methods.numerics.similarity import BLOCK, QUANTUM, QUANTUM_BITS, TILE, blocks, on_grid, units, usable_rows

EXACT_DBSCAN = 100_000
"""Rows up to which every pair is compared."""
EXACT_HDBSCAN = 20_000
"""Rows that are fitted at most."""


# ---- DBSCAN ---------------------------------------------------------------------------------------------------------


def dbscan(
    vectors: np.ndarray,
    seed: int = 0,
    eps: float | None = None,
    min_samples: int = 5,
    most: int = EXACT_DBSCAN,
    probes: int = 8,
) -> Clustering:
    """Dense regions as clusters, of any shape and number; thinly spread rows are noise (-1).

    Equation: a row is core if at least `min_samples` rows, itself among them, lie within 1 - cos <= eps. Core rows
    within eps of each other are of one cluster, and so are chains of them. Any other row within eps of a core row
    joins the cluster of the nearest one; the rest is noise. Clusters are numbered by their lowest core row.

    Strength: the cosine to the normalised mean of the cluster's rows.

    Parameters: `eps` is a cosine distance (None: see `knee`, on the distances of up to 2,000 rows drawn by the seed
    to their `min_samples` - 1st nearest other row); `min_samples` 5. Up to `most` rows every pair is compared. Above,
    the graph is approximate: rows go into root-of-n cells by mini-batch k-means, and each is compared with the rows of
    the `probes` cells nearest to it. A neighbour may be missed, never invented, so that a cluster may fall apart or
    a core row pass for noise; clusters are connected components as before.

    Memory: the vectors and a block of cosines. Time: two passes over all pairs compared.

    Source: Ester, Kriegel, Sander and Xu 1996 (KDD).

    Departures: a row between two clusters joins the one of its nearest core row (ties to the lowest index), not the one
    that was grown first.
    """
    if min_samples < 1:
        raise ValueError(f"min_samples must be at least 1, got {min_samples}")
    usable = usable_rows(vectors)
    rows = vectors[usable]
    given = eps is not None
    if eps is None:
        eps = knee(_k_distances(rows, max(1, min_samples - 1), seed))
    if not eps >= 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    cut = round((1.0 - eps) * 2.0**QUANTUM_BITS)
    cells = _cells(rows, probes, seed) if len(rows) > most else None
    near = np.zeros(len(rows), dtype=np.int64)
    everything = np.ones(len(rows), dtype=bool)
    for queries, _, level in _compared(rows, everything, cells):
        near[queries] += (level >= cut).sum(axis=1)
    core = near >= min_samples
    labels = np.full(len(vectors), -1, dtype=np.int64)
    labels[usable] = _grown(rows, core, cut, cells)
    facts: dict[str, Any] = {
        "clusters": int(labels.max(initial=-1)) + 1,
        "eps": float(eps),
        "eps from": "given" if given else "the knee of the k-distances",
        "core rows": int(core.sum()),
        "noise rows": int((labels[usable] < 0).sum()),
        "neighbours": "exact" if cells is None else f"approximate: among the rows of the {probes} nearest cells",
    }
    return Clustering(labels, to_centre(vectors, labels), facts)


def knee(values: np.ndarray) -> float:
    """The distance at which the sorted distances turn up: where their curve is farthest below its chord.

    Where the curve hardly turns (the greatest distance is less than twice that one) nothing lies apart, and the
    greatest distance is the answer. 0 for no values.
    """
    curve = np.sort(np.asarray(values, dtype=np.float64))
    if not len(curve):
        return 0.0
    if curve[-1] <= curve[0]:
        return float(curve[-1])
    below = np.linspace(0, 1, len(curve)) - (curve - curve[0]) / (curve[-1] - curve[0])
    found = float(curve[int(np.argmax(below > below.max() - 1e-9))])
    return found if curve[-1] >= 2 * found else float(curve[-1])


def _k_distances(rows: np.ndarray, k: int, seed: int, most: int = 2000) -> np.ndarray:
    """Distance of some rows to their k-th nearest other row (the farthest one where there are fewer)."""
    queries = np.arange(len(rows))
    if len(rows) > most:
        queries = np.sort(np.random.default_rng(seed).choice(len(rows), size=most, replace=False))
    k = min(k, len(rows) - 1)
    if k < 1:
        return np.zeros(len(rows))
    found = np.full((len(queries), k + 1), -np.inf)  # itself is the nearest, or as near as the nearest
    for tile in blocks(len(rows), TILE):
        right = on_grid(rows[tile])
        for part in blocks(len(queries)):
            level = np.hstack([found[part], units(on_grid(rows[queries[part]]), right)])
            found[part] = np.partition(level, level.shape[1] - k - 1, axis=1)[:, -k - 1 :]
    return 1.0 - found.min(axis=1) * QUANTUM


def _cells(rows: np.ndarray, probes: int, seed: int) -> np.ndarray:
    """(n, probes) int64: the cells nearest to each row, its own first."""
    centres = kmeans.fit(rows, default_k(len(rows)), seed, iterations=10, sample_cap=64 * default_k(len(rows)))
    nearest = np.empty((len(rows), min(probes, len(centres))), dtype=np.int64)
    right = on_grid(centres)
    for part in blocks(len(rows)):
        level = units(on_grid(rows[part]), right)
        nearest[part] = np.argsort(-level, axis=1, kind="stable")[:, : nearest.shape[1]]
    return nearest


def _compared(
    rows: np.ndarray, columns: np.ndarray, cells: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of (rows, other rows out of ``columns``, their cosines in whole units); a row is as near to itself as can
    be. Every pair once in each direction, or, with cells, the pairs that share a looked-at cell."""
    members: Iterator[tuple[np.ndarray, np.ndarray]]
    if cells is None:
        members = iter([(np.arange(len(rows)), np.flatnonzero(columns))])
    else:
        members = (
            (np.flatnonzero((cells == cell).any(axis=1)), np.flatnonzero((cells[:, 0] == cell) & columns))
            for cell in range(int(cells.max()) + 1)
        )
    for left, right in members:
        for tile in blocks(len(right), TILE):
            there = right[tile]
            grid = on_grid(rows[there])
            for part in blocks(len(left), BLOCK):
                here = left[part]
                level = units(on_grid(rows[here]), grid)
                own = np.minimum(np.searchsorted(there, here), len(there) - 1)
                itself = np.flatnonzero(there[own] == here)
                level[itself, own[itself]] = 2.0**QUANTUM_BITS
                yield here, there, level


def _grown(rows: np.ndarray, core: np.ndarray, cut: int, cells: np.ndarray | None) -> np.ndarray:
    """The label of each row: components of the core rows, and the nearest core row within reach for the others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group = np.arange(len(rows))
    level_of = np.full(len(rows), -np.inf)
    nearest = np.full(len(rows), len(rows), dtype=np.int64)
    for here, there, level in _compared(rows, core, cells):
        inside = core[here]
        some, other = np.nonzero(level[inside] >= cut)
        left, right = group[here[inside]][some], group[there][other]
        apart = left != right
        if apart.any():
            size = int(group.max()) + 1
            graph = coo_array((np.ones(int(apart.sum())), (left[apart], right[apart])), shape=(size, size))
            group = connected_components(graph, directed=False)[1].astype(np.int64)[group]
        outside = here[~inside]
        if len(outside):
            winner = level[~inside].argmax(axis=1)
            best = level[~inside][np.arange(len(winner)), winner]
            better = (best > level_of[outside]) | ((best == level_of[outside]) & (there[winner] < nearest[outside]))
            level_of[outside] = np.where(better, best, level_of[outside])
            nearest[outside] = np.where(better, there[winner], nearest[outside])
    labels = np.full(len(rows), -1, dtype=np.int64)
    labels[core] = group[core]
    labels, _ = numbered(labels)
    border = np.flatnonzero(~core & (level_of >= cut))
    labels[border] = labels[nearest[border]]
    return labels


# ---- HDBSCAN --------------------------------------------------------------------------------------------------------


def hdbscan(
    vectors: np.ndarray,
    seed: int = 0,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    dimensions: int = 50,
    most: int = EXACT_HDBSCAN,
) -> Clustering:
    """Dense regions as clusters, where dense is judged in each region by its own; the rest is noise (-1).

    Equation: with d_core the distance to the `min_samples`-th nearest row, the tree of rows under
    max(d_core(a), d_core(b), d(a, b)) is cut where clusters of at least `min_cluster_size` rows last longest:
    those that together have the greatest sum over rows of (1/d_leave - 1/d_enter).

    Strength: the membership, 1 for the densest rows of a cluster and falling to 0 at its rim.

    Parameters: `min_cluster_size` 5; `min_samples` (None: the same); `dimensions`: principal components kept before
    (50; Euclidean distances in more tell little; what that does to distances is told with the labels). `most` rows are
    fitted, drawn by the seed where there are more: the fit goes by all pairs. Every other row takes label and strength
    of its nearest fitted row.

    Source: Campello, Moulavi and Sander 2013; McInnes and Healy 2017 (arXiv 1705.07321). As in scikit-learn.

    Departures: none in the fit. A pool of one dense region only is all noise, as in the reference.
    """
    usable = usable_rows(vectors)
    labels = np.full(len(vectors), -1, dtype=np.int64)
    strength = np.full(len(vectors), np.nan)
    fitted = usable
    if len(usable) > most:
        fitted = np.sort(np.random.default_rng(seed).choice(usable, size=most, replace=False))
    facts: dict[str, Any] = {"rows fitted": len(fitted), "dimensions": min(dimensions, vectors.shape[1])}
    if len(fitted) >= max(min_cluster_size, min_samples or 0, 2):
        from sklearn.cluster import HDBSCAN

        model = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, algorithm="kd_tree", copy=True)
        rows = vectors[fitted]
        points = project(rows, dimensions)
        facts |= distortion(rows, points, seed=seed).as_facts()
        found = model.fit(points)
        label, place = np.asarray(found.labels_, dtype=np.int64), np.arange(len(fitted))
        if len(fitted) < len(usable):
            place, _ = kmeans.assign(vectors[usable], vectors[fitted])
            place[np.searchsorted(usable, fitted)] = np.arange(len(fitted))
        labels[usable] = label[place]
        strength[usable] = np.asarray(found.probabilities_, dtype=np.float64)[place]
    labels, count = numbered(labels)
    strength[labels < 0] = np.nan
    facts |= {"clusters": count, "noise rows": int((labels[usable] < 0).sum())}
    if len(fitted) < len(usable):
        facts["other rows"] = "as their nearest fitted row"
    return Clustering(labels, strength, facts)
