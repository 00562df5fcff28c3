"""Spherical k-means: centroids on the unit sphere, found by cosine, the same on every machine.

Here belongs fitting centroids and assigning rows to them. How many clusters to ask for and what a cluster is about
stand in ``diversity/clusters.py``.

Why not a library: every cosine here is exact (`numerics.similarity`), so that labels depend neither on block size nor
on the number of threads; the loop is one matrix product and one segmented sum an iteration, which is as fast.
"""

from __future__ import annotations

import numpy as np

from methods.numerics.similarity import BLOCK, QUANTUM, QUANTUM_BITS, TILE, blocks, on_grid, units, usable_rows

ROWS_PER_CENTROID = 256
"""A fit looks at no more than this many rows a centroid: beyond it centroids hardly move."""
COLUMNS = 32
"""Dimensions that are summed at a time."""


def fit(
    vectors: np.ndarray,
    k: int,
    seed: int = 0,
    iterations: int = 50,
    sample_cap: int | None = None,
    block: int = BLOCK,
) -> np.ndarray:
    """Centroids of a spherical k-means, started by k-means++.

    Maximises the sum of cos(x_i, c_label(i)) over unit centroids: assign each row to its nearest centroid, put each
    centroid at the normalised mean of its rows, until no label changes. On unit vectors squared Euclidean distance is
    2 - 2 cos, so (greedy) k-means++ draws starts with probability proportional to 1 - cos to the nearest start.
    A cluster that lost all its rows starts again at the row that is farthest from its own centroid (ties by lowest
    index, each row once).

    Parameters
    ----------
    vectors : (n, d) float32, rows of unit length; rows with NaN are left out.
    k : clusters wanted. Fewer come back where there are fewer distinct rows.
    seed : of the sample and of k-means++.
    iterations : at most so many.
    sample_cap : rows to fit on, drawn by ``seed`` where there are more; None for 256 a cluster.
    block : rows at a time; never changes the result.

    Memory is that of the rows fitted on, three times (themselves, and once in float64), and a block of cosines.

    Returns
    -------
    (at most k, d) float32, rows of unit length; (0, d) where no row has a vector.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    rng = np.random.default_rng(seed)
    rows = usable_rows(vectors)
    cap = ROWS_PER_CENTROID * k if sample_cap is None else max(sample_cap, k)
    if len(rows) > cap:
        rows = np.sort(rng.choice(rows, size=cap, replace=False))
    sample = vectors[rows]
    if not len(sample):
        return np.empty((0, vectors.shape[1]), dtype=np.float32)
    grid = on_grid(sample)  # once, and not in every pass: the conversion costs as much as the product
    centroids = sample[_starts(grid, k, rng, block)]
    before = np.full(len(sample), -1, dtype=np.int64)
    for _ in range(iterations):
        label, level = _nearest(grid, centroids, block)
        if np.array_equal(label, before):
            break
        centroids = _means(sample, label, level, centroids)
        before = label
    return centroids


def assign(vectors: np.ndarray, centroids: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of every row.

    Parameters
    ----------
    vectors : (n, d) float32, rows of unit length, NaN where a row has none.
    centroids : (k, d) float32, rows of unit length.
    block : rows at a time; never changes the result.

    Returns
    -------
    label : (n,) int64, ties to the lowest label; -1 where the row has no vector (or there is no centroid).
    similarity : (n,) float32, cosine to that centroid; NaN where the label is -1.
    """
    label = np.full(len(vectors), -1, dtype=np.int64)
    similarity = np.full(len(vectors), np.nan, dtype=np.float32)
    rows = usable_rows(vectors)
    if len(centroids):
        for part in blocks(len(rows), block):
            here = rows[part]
            label[here], level = _nearest(on_grid(vectors[here]), centroids, block)
            similarity[here] = level * QUANTUM
    return label, similarity


def _nearest(grid: np.ndarray, centroids: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Label and cosine (in whole units) of the nearest centroid of every row of ``grid``."""
    label = np.zeros(len(grid), dtype=np.int64)
    best = np.full(len(grid), -np.inf)
    for tile in blocks(len(centroids), TILE):
        right = on_grid(centroids[tile])
        for part in blocks(len(grid), block):
            found = units(grid[part], right)
            winner = found.argmax(axis=1)
            level = found[np.arange(len(winner)), winner]
            better = level > best[part]
            label[part] = np.where(better, winner + tile.start, label[part])
            best[part] = np.where(better, level, best[part])
    return label, best


def _starts(grid: np.ndarray, k: int, rng: np.random.Generator, block: int) -> np.ndarray:
    """Greedy k-means++: rows that are distinct to about 1e-6, at most ``k``.

    Each start is the best of 2 + ln k rows drawn with probability proportional to their distance 1 - cos to the
    nearest start so far: the one that leaves the smallest sum of distances.
    """
    picks = [int(rng.integers(len(grid)))]
    away = _away(grid, grid[picks], np.full(len(grid), np.inf), block)[:, 0]
    trials = 2 + int(np.log(k))
    while len(picks) < k and away.any():
        # Whole numbers, and their sum far below 2^53: the cumulative sum is exact, and a row of no distance is never
        # drawn.
        mass = np.cumsum(away)
        drawn = np.searchsorted(mass, rng.random(trials) * mass[-1], side="right")
        left = _away(grid, grid[drawn], away, block)
        best = int(left.sum(axis=0).argmin())
        picks.append(int(drawn[best]))
        away = np.ascontiguousarray(left[:, best])
    return np.array(picks, dtype=np.int64)


def _away(grid: np.ndarray, centres: np.ndarray, away: np.ndarray, block: int) -> np.ndarray:
    """(n, centres): distance 1 - cos in whole units to the nearest start, if that centre were added to them."""
    found = np.empty((len(grid), len(centres)))
    for part in blocks(len(grid), block):
        # The few on the left: it is they that `units` copies, and the product takes little more than half the time.
        found[part] = 2.0**QUANTUM_BITS - units(centres, grid[part]).T
    np.minimum(found, away[:, None], out=found)
    found[found < 3] = 0.0  # the same row, up to the rounding of its length
    return found


def _means(sample: np.ndarray, label: np.ndarray, level: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Normalised means; a centroid whose rows cancel out stays where it was, an empty one goes to an outlying row."""
    order = np.argsort(label, kind="stable")
    present, first = np.unique(label[order], return_index=True)
    sums = np.empty((len(present), sample.shape[1]))
    for some in blocks(sample.shape[1], COLUMNS):  # not at once: the rows in order and in float64 are a lot
        sums[:, some] = np.add.reduceat(sample[order, some], first, axis=0, dtype=np.float64)
    length = np.linalg.norm(sums, axis=1)
    moved = centroids.copy()
    fine = length > 1e-9
    moved[present[fine]] = (sums[fine] / length[fine, None]).astype(np.float32)
    empty = np.setdiff1d(np.arange(len(centroids)), present)
    outlying = np.argsort(level, kind="stable")[: len(empty)]
    moved[empty] = sample[outlying]
    return moved
