"""Exact cosines of one row with all the others; which of some rows came nearest before; the graph of nearest rows.

Here belongs what greedy selectors ask for. The cosines are whole units, as `numerics.similarity` makes them, so that
sums of them are exact and the choice does not depend on blocks.
"""

from __future__ import annotations

import numpy as np

from methods.numerics.similarity import TILE, blocks, on_grid, units

LOOK_AHEAD = 32
"""Columns made together: that of the row asked for, and those of the rows that are likely to be asked for next."""
KEPT_BYTES = 2**28
"""Columns that were made and not asked for, at most."""

COARSE = 4096 * 63 / 64
"""Vectors for the search of neighbours are whole numbers of at most 12 bits: float32 adds up their products exactly."""
SIDE = 1024
"""Of the tiles in which every pair of rows is looked at once."""


class Columns:
    """Columns of the matrix of cosines of some vectors, in whole units of 2^-20, made when they are asked for."""

    def __init__(self, vectors: np.ndarray) -> None:
        # float32 holds the grid exactly: 26 bits after the point, of which it has 24 from the first one on.
        self.grid = np.empty(vectors.shape, dtype=np.float32)
        for part in blocks(len(vectors)):
            self.grid[part] = on_grid(vectors[part])
        self._made: dict[int, np.ndarray] = {}

    def column(self, row: int, value: np.ndarray) -> np.ndarray:
        """int32 (n,): the cosines of ``row`` with all, to be asked for once; ``value`` (n,) says who is likely next."""
        if row not in self._made:
            some = min(LOOK_AHEAD, len(value))
            likely = np.argpartition(value, -some)[-some:]
            wanted = np.unique(np.append(likely[value[likely] > -np.inf], row))
            which = np.array([i for i in wanted.tolist() if i not in self._made], dtype=np.int64)
            self._make(which)
        return self._made.pop(row)

    def _make(self, which: np.ndarray) -> None:
        """Columns stay right, so that what was made and not yet asked for is kept while there is room."""
        room = max(KEPT_BYTES // (4 * len(self.grid)), len(which))
        for oldest in list(self._made)[: max(0, len(self._made) + len(which) - room)]:
            del self._made[oldest]
        left = self.grid[which].astype(np.float64)
        found = [np.empty(len(self.grid), dtype=np.int32) for _ in which]
        for part in blocks(len(self.grid), TILE):
            for column, values in zip(found, units(left, self.grid[part].astype(np.float64)), strict=True):
                column[part] = values
        self._made.update(zip(which.tolist(), found, strict=True))


def first_best(value: np.ndarray, tie: float = 1e-9) -> int:
    """The lowest index within ``tie`` of the largest value."""
    return int(np.argmax(value >= value.max() - tie))


def nearest_before(vectors: np.ndarray, order: np.ndarray) -> np.ndarray:
    """For each of the rows ``order``, the most similar of those before it (the first of equals); -1 for the first."""
    out = np.full(len(order), -1, dtype=np.int64)
    level = np.full(len(order), -np.inf)
    for part in blocks(len(order), 1024):
        left = on_grid(vectors[order[part]])
        for tile in blocks(part.stop, 1024):
            found = units(left, on_grid(vectors[order[tile]]))
            later = np.arange(tile.start, tile.stop)[None, :] >= np.arange(part.start, part.stop)[:, None]
            found[later] = -np.inf
            winner = found.argmax(axis=1)
            value = found[np.arange(len(winner)), winner]
            better = np.flatnonzero(value > level[part])
            level[part.start + better] = value[better]
            out[part.start + better] = order[tile][winner[better]]
    return out


def neighbour_graph(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows joined to their k nearest, both ways and to themselves: ``start`` int64 (n + 1,) and ``other`` int32.

    Every pair is looked at once, as a product of float32 that is exact: vectors are rounded to 12 bits, cosines with
    them to about 1e-4, which concerns only who comes k-th and who after it. Equal ones go by index.
    """
    from methods.numerics.greedy import both_ways, offer_tile

    n = len(vectors)
    if k < 1:
        return np.arange(n + 1), np.arange(n, dtype=np.int32)
    coarse = np.empty(vectors.shape, dtype=np.float32)
    for part in blocks(n):
        coarse[part] = np.rint(vectors[part] * np.float32(COARSE))
    coarse *= np.float32(2.0**-12)
    values = np.full((n, k), -np.inf, dtype=np.float32)
    index = np.full((n, k), 2**31 - 1, dtype=np.int32)
    for rows in blocks(n, SIDE):
        for columns in blocks(n, SIDE):
            if columns.start >= rows.start:
                offer_tile(coarse[rows] @ coarse[columns].T, rows.start, columns.start, values, index)
    index.sort(axis=1)
    return both_ways(index)
