"""All pairs of unit vectors whose cosine reaches a threshold, exact, in tiles, from nothing or from an earlier pool.

Here belongs the search, over row numbers. What is decided by the pairs (who stays, for whom) stands in
`methods.filters.semantic`. Importing this module imports the compiler; the compiled code is kept beside it.

Nearly all of the pairs are far apart, and telling that needs few numbers. With an orthonormal basis, of which a row
keeps its first p coordinates x_p and the length r_x of the rest, Cauchy and Schwarz give

    <x, y>  =  <x_p, y_p> + <x_rest, y_rest>  <=  <x_p, y_p> + r_x r_y,

which is itself an inner product of p + 1 numbers. So each tile is one matrix product of p + 1 columns in single
precision, and only the pairs whose bound (with room for every rounding) reaches the threshold are computed in full, as
whole numbers of 2^-52, which is exact in any order (`numerics.similarity`). The basis is that of the largest second
moments of a sample of the rows, and p is what costs least on a sample; neither has a part in the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numba
import numpy as np

from methods.numerics.similarity import GRID_BITS, QUANTUM, QUANTUM_BITS, blocks, on_grid, units, usable_rows

MOST = 128
"""Earlier rows that are listed for a row."""
BLOCK, TILE = 512, 2048
"""A tile of bounds is at most `BLOCK` x `TILE` float32: it stays in the cache."""
HELD = 1 << 22
"""Pairs in hand before lists that are too long are cut."""
WIDTHS = (15, 31, 47, 63, 79, 95, 127, 159, 191, 255)
"""Coordinates kept that are tried; one more number, and products of full registers."""
_SAMPLE, _MOMENTS = 512, 8192
_EXACT_COST = 4000.0
"""What a product in full precision costs, in columns of the tile's product."""
_DENSE = 16
"""Where more than one pair in so many may reach the threshold, the whole tile is computed in full precision."""
_SPAN = 64
_FAST = {"reassoc", "contract", "nsz"}


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, sorted by ``a``, then ``b``; all arrays have one entry a pair but for ``classes`` and ``cut``."""

    a: np.ndarray
    """int64, the earlier row."""
    b: np.ndarray
    """int64, the later row."""
    similarity: np.ndarray
    """float64, the cosine: a multiple of `QUANTUM`."""
    same: np.ndarray
    """bool: the vectors are identical, and ``a`` is the first of them: all other pairs of its class are left out."""
    classes: np.ndarray
    """(n,) int64, the first row of the same vector; itself if there is none, or no vector."""
    cut: np.ndarray
    """(n,) bool: the row has more earlier rows in reach than are listed."""
    compared: int
    """Rows that were compared with all others."""


def all_pairs(
    vectors: np.ndarray,
    threshold: float,
    most: int = MOST,
    stored: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    settled: np.ndarray | None = None,
    block: int = BLOCK,
) -> Pairs:
    """Every pair (a, b), a < b, with cos(a, b) >= ``threshold``.

    Rows of identical vectors make a class; it is searched once, by its first row, and the others are paired with that
    row alone. A row with more than ``most`` earlier rows in reach keeps half as many of the nearest of them (ties: the
    lowest index) and half as many of the first, and is marked as ``cut``: that it has an earlier twin is never lost.
    So there are at most ``most`` pairs a row, whatever the rows are.

    Parameters
    ----------
    vectors : (n, d) float32, rows of unit length; a row with NaN has no vector and no pairs.
    threshold : the least cosine, above 0 and up to 1.
    most : earlier rows that are listed for a row, at least 2.
    stored, settled : a, b and similarity that an earlier search gave for rows that are still there (at the same
        threshold, by their numbers now), and which rows have all their pairs with each other among them. Only other
        rows are then compared with all. Rows whose lists were cut are never settled.
    block : rows compared at a time; changes memory and speed, never the result.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the least cosine of a pair must be above 0 and at most 1, got {threshold}")
    if most < 2:
        raise ValueError(f"at least two earlier rows must be listed for a row, got most={most}")
    n, usable = len(vectors), usable_rows(vectors)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    least = float(np.ceil(threshold / QUANTUM))
    classes, own = _classes(vectors, usable, least)
    first = np.unique(classes[usable])
    fresh = np.zeros(n, dtype=bool)
    fresh[first] = True
    if settled is not None:
        fresh[classes[np.asarray(settled, dtype=bool)]] = False
    lists = _Lists(n, most)
    if stored is not None:
        _take_over(lists, stored, classes, fresh)
    _search(lists, vectors, first, fresh, threshold, least, block)
    a, b, level = lists.cut()
    later = np.flatnonzero(classes != np.arange(n))
    a, b = np.concatenate([a, classes[later]]), np.concatenate([b, later])
    level = np.concatenate([level, own[later]])
    order = np.lexsort((b, a))
    same = np.arange(len(a)) >= len(level) - len(later)
    similarity = level[order] * QUANTUM
    cut = lists.seen > most
    return Pairs(a[order], b[order], similarity, same[order], classes, cut, int(fresh[first].sum()))


def _classes(vectors: np.ndarray, usable: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each row's vector (rounded to the grid), and each vector's product with itself in units.

    Rows are brought together by a hash and then compared in full, so that a collision joins nothing. Vectors that do
    not even reach the threshold with themselves (shorter ones) stay apart.
    """
    n, d = vectors.shape
    odd = np.random.default_rng(0).integers(0, 2**64, size=d, dtype=np.uint64) | np.uint64(1)
    key, own = np.zeros(n, dtype=np.uint64), np.zeros(n)
    for part in blocks(len(usable), 4096):
        whole = np.rint(vectors[usable[part]].astype(np.float64) * 2.0**GRID_BITS)
        own[usable[part]] = np.minimum(np.rint((whole * 2.0**-GRID_BITS) ** 2 @ np.full(d, 2.0**QUANTUM_BITS)), 2**20)
        mixed = whole.astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        key[usable[part]] = (mixed * odd).sum(axis=1, dtype=np.uint64)
    classes = np.arange(n)
    alike = usable[own[usable] >= least]
    _, at, again = np.unique(key[alike], return_index=True, return_inverse=True)
    first = alike[at][again]
    later = np.flatnonzero(first != alike)
    for part in blocks(len(later), 4096):
        row, other = alike[later[part]], first[later[part]]
        equal = (on_grid(vectors[row]) == on_grid(vectors[other])).all(axis=1)
        classes[row[equal]] = other[equal]
    return classes, own


def _take_over(
    lists: _Lists, stored: tuple[np.ndarray, np.ndarray, np.ndarray], classes: np.ndarray, fresh: np.ndarray
) -> None:
    """The stored pairs between classes that are not searched again."""
    one, other = classes[stored[0]], classes[stored[1]]
    still = (one != other) & ~fresh[one] & ~fresh[other]
    one, other = one[still], other[still]
    level = np.rint(np.asarray(stored[2], dtype=np.float64)[still] / QUANTUM)
    lists.add(np.minimum(one, other), np.maximum(one, other), level)


@dataclass
class _Lists:
    """The pairs in hand: of each row's earlier ones no more than it may list, and how many there were."""

    n: int
    most: int
    seen: np.ndarray = field(init=False)
    held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    size: int = 0
    limit: int = field(default_factory=lambda: HELD)

    def __post_init__(self) -> None:
        self.seen = np.zeros(self.n, dtype=np.int64)

    def add(self, a: np.ndarray, b: np.ndarray, level: np.ndarray) -> None:
        """More pairs, each for the first time."""
        np.add.at(self.seen, b, 1)
        self.held.append((a.astype(np.int32), b.astype(np.int32), level.astype(np.int32)))
        self.size += len(a)
        if self.size > self.limit:
            kept = self.cut()
            self.held, self.size = [tuple(part.astype(np.int32) for part in kept)], len(kept[0])  # type: ignore[list-item]
            self.limit = max(HELD, 2 * self.size)

    def cut(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pairs, lists that are too long cut down to the nearest and the first. Cutting twice cuts the same."""
        if not self.held:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        a, b, level = (np.concatenate(parts) for parts in zip(*self.held, strict=True))
        long = np.flatnonzero((self.seen > self.most)[b])
        if len(long):
            stays = np.ones(len(a), dtype=bool)
            nearest = _rank(b[long], (a[long], -level[long], b[long])) < self.most - self.most // 2
            stays[long] = nearest | (_rank(b[long], (a[long], b[long])) < self.most // 2)
            a, b, level = a[stays], b[stays], level[stays]
        return a.astype(np.int64), b.astype(np.int64), level.astype(np.float64)


def _rank(group: np.ndarray, keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """Place of each entry in its group, by ``keys`` (the last of them the group itself)."""
    order = np.lexsort(keys)
    sorted_group = group[order]
    start = np.searchsorted(sorted_group, sorted_group)
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - start
    return rank


def _search(
    lists: _Lists, vectors: np.ndarray, first: np.ndarray, fresh: np.ndarray, threshold: float, least: float, block: int
) -> None:
    """Every pair of the rows ``first`` of which at least one is fresh, into the lists."""
    new = fresh[first]
    left = np.flatnonzero(new)
    if not len(left) or len(first) < 2:
        return
    bounds, margin = _bounds(vectors, first, threshold)
    bar = np.float32(threshold - margin)
    space = np.empty(block * TILE, dtype=np.float32)
    room = max(1, block * TILE // _DENSE)
    a, b, level = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float64)
    for part in blocks(len(left), block):
        rows = left[part]
        of_rows = bounds[rows]
        for tile in _tiles(len(first), new, int(rows[-1])):
            shape = (len(rows), tile.stop - tile.start)
            product = np.matmul(of_rows, bounds[tile].T, out=space[: shape[0] * shape[1]].reshape(shape))
            columns = first[tile]
            found = _sift(product, bar, first[rows], columns, fresh, vectors, least, a, b, level)
            if found >= 0:
                lists.add(a[:found], b[:found], level[:found])
            else:
                lists.add(*_dense(vectors, first[rows], columns, fresh, least))


def _tiles(n: int, new: np.ndarray, last: int) -> Iterator[slice]:
    """The tiles that rows up to ``last`` meet: fresh rows behind them meet them in their own turn."""
    for tile in blocks(n, TILE):
        stop = tile.stop
        if new[tile].all():
            stop = min(stop, last + 1)
        if stop > tile.start:
            yield slice(tile.start, stop)


def _bounds(vectors: np.ndarray, rows: np.ndarray, threshold: float) -> tuple[np.ndarray, float]:
    """Numbers of each row whose inner products bound the cosines from above, and by how much they may fall short."""
    d = vectors.shape[1]
    take = rows[:: max(1, len(rows) // _MOMENTS)]
    width, basis = _width(vectors, take, threshold) if len(rows) > 4 * _SAMPLE else (d, None)
    found = np.empty((len(rows), width if basis is None else width + 1), dtype=np.float32)
    for part in blocks(len(rows), 4096):
        grid = on_grid(vectors[rows[part]])
        found[part] = grid if basis is None else _shortened(grid, basis, width)
    # Rounding to float32, the sum of the products, and the cosine's own rounding to its quantum.
    return found, (found.shape[1] + 8) * 1.02 * 2.0**-24 + QUANTUM


def _shortened(grid: np.ndarray, basis: np.ndarray, width: int) -> np.ndarray:
    """The first coordinates by the basis, and the length of the rest."""
    kept = grid @ basis[:, :width]
    rest = np.einsum("ij,ij->i", grid, grid) - np.einsum("ij,ij->i", kept, kept)
    return np.column_stack([kept, np.sqrt(np.maximum(rest, 0.0))])


def _width(vectors: np.ndarray, sample: np.ndarray, threshold: float) -> tuple[int, np.ndarray | None]:
    """How many coordinates to keep, and of which basis; all of them, and none, if that is cheapest."""
    d = vectors.shape[1]
    moments = np.zeros((d, d))
    for part in blocks(len(sample), 4096):
        grid = on_grid(vectors[sample[part]])
        moments += grid.T @ grid
    basis = np.linalg.eigh(moments)[1][:, ::-1]
    few = on_grid(vectors[sample[:: max(1, len(sample) // _SAMPLE)]])
    best, cost = d, float(d)
    for width in (width for width in WIDTHS if width < d - 1):
        short = _shortened(few, basis, width)
        reach = int((short @ short.T >= threshold).sum()) - len(few)
        price = width + 1 + _EXACT_COST * max(reach, 0) / max(1, len(few) * (len(few) - 1))
        if price < cost:
            best, cost = width, price
    return best, basis if best < d else None


def _dense(
    vectors: np.ndarray, rows: np.ndarray, columns: np.ndarray, fresh: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_sift`, where so many pairs are near that a product of the whole tile is cheaper."""
    level = units(on_grid(vectors[rows]), on_grid(vectors[columns]))
    i, j = np.nonzero(level >= least)
    one, other, near = rows[i], columns[j], level[i, j]
    ours = (one != other) & ~(fresh[other] & (other > one))
    one, other = one[ours], other[ours]
    return np.minimum(one, other), np.maximum(one, other), near[ours]


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _units_of(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine in whole units. Each product is a whole number and their sum below 2^53: exact in any order."""
    total = 0.0
    for k in range(len(one)):
        total += np.rint(np.float64(one[k]) * 67108864.0) * np.rint(np.float64(other[k]) * 67108864.0)
    return min(np.rint(total * 2.0**-32), 1048576.0)


@numba.njit(cache=True, nogil=True)
def _any(bounds: np.ndarray, bar: np.float32) -> bool:
    """Whether one of the bounds reaches the bar; vector arithmetic."""
    some = np.int32(0)
    for c in range(len(bounds)):
        some |= np.int32(bounds[c] >= bar)
    return some != 0


@numba.njit(cache=True, nogil=True)
def _sift(
    tile: np.ndarray,
    bar: np.float32,
    rows: np.ndarray,
    columns: np.ndarray,
    fresh: np.ndarray,
    vectors: np.ndarray,
    least: float,
    a: np.ndarray,
    b: np.ndarray,
    level: np.ndarray,
) -> int:
    """The pairs of a tile into ``a``, ``b``, ``level``: how many; -1 if more may be than there is room for.

    Of two fresh rows the later one finds the pair.
    """
    found, seen, width = 0, 0, tile.shape[1]
    for r in range(tile.shape[0]):
        if not _any(tile[r], bar):
            continue
        i = rows[r]
        for begin in range(0, width, _SPAN):
            end = min(begin + _SPAN, width)
            if not _any(tile[r, begin:end], bar):
                continue
            for c in range(begin, end):
                j = columns[c]
                if tile[r, c] < bar or i == j or (fresh[j] and j > i):
                    continue
                seen += 1
                if seen > len(a):
                    return -1
                near = _units_of(vectors[i], vectors[j])
                if near >= least:
                    a[found], b[found], level[found] = min(i, j), max(i, j), near
                    found += 1
    return found
