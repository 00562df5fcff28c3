"""Greedy maximisation of facility location, alone or with a bonus a row: exactly, on a sparse graph, or in shards.

Here belong the similarities, the three ways to the choice and the rule that picks one by size. The selectors that
rest on them stand in ``facility.py`` and ``submodular.py``, the compiled loops in ``numerics.greedy``.

The similarities are held in whole steps of a fixed width, made from exact products (see ``numerics.similarity``):
sums of steps are exact, in whatever order they are added. So rows of equal gain are seen to be equal, and the choice
does not depend on blocks, threads or on whether the matrix was kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import Any, Literal, get_args

import numpy as np

from methods.numerics.columns import nearest_before, neighbour_graph
from methods.numerics.similarity import TILE, blocks, on_grid

Similarity = Literal["cosine", "euclidean"]
Way = Literal["auto", "exact", "sparse", "greedi"]
STEPS = 2.0**22
"""Steps between the least and the greatest similarity: 1.0 in whole numbers of 32 bits, of which 256 add up."""
CACHE_BYTES = 2**30
"""A matrix is kept where it is at most this large (16,384 rows); above, its columns are made when they are needed."""
KEPT_SIDE = 384
"""Of the tiles in which the kept matrix is made; half of them are, and those on the diagonal in full."""
LOOK_AHEAD = 64
"""Columns made together where the matrix is not kept: the rows with the largest bounds, which are next to be asked."""
LONGEST = 2.01
"""No two rows that `usable_rows` lets pass are farther from each other."""
SPARSE_SHARE = 0.25
"""The graph is used where k neighbours for each pick make at least this many for each row."""
SHARD = 8192
"""Rows of a shard, at most."""
HANDED = 20_000
"""The shards together hand on about so many rows, each no more than the budget; twice the budget if that is more."""
JUDGED_BYTES = 2**31
"""The similarities of the rows handed on with the rows that judge them, at most."""


@dataclass(frozen=True)
class Bonus:
    """What a row is worth beside its gain: (1 - share) gain / unit + share quality."""

    share: float
    quality: np.ndarray
    """(n,) float64."""
    unit: Literal["rows", "first", "one"] = "one"
    """The gain is divided by the number of rows, by the largest gain of a single row, or not at all."""
    pool: int = 0
    """Rows that the gain is meant over; where fewer are looked at, it is scaled up to them."""

    def among(self, rows: np.ndarray) -> Bonus:
        """Of some rows."""
        return Bonus(self.share, self.quality[rows], self.unit, self.pool)


@dataclass(frozen=True)
class Found:
    """A greedy choice."""

    order: np.ndarray
    gain: np.ndarray
    """float64: what each pick added to the sum of similarities (estimated where only some rows were looked at)."""
    nearest: np.ndarray
    served: np.ndarray
    """For how many rows the pick became the nearest chosen one."""
    of: int
    """So many rows could be served."""
    unit: float = 1.0
    """What the gain was divided by before the bonus was added."""
    total: int = 0
    """Rows of the pool."""
    how: str = ""
    """What was left out, for a person; empty where the choice is exact."""

    def reasons(self) -> list[str]:
        """What each pick added, for a person."""
        means = np.cumsum(self.gain) / max(self.total, 1)
        return [
            f"adds {gain:.6g} to the sum of similarities to the nearest chosen row (mean now {mean:.6g}); "
            f"it is that row for {served} of {self.of}{self.how}"
            for gain, mean, served in zip(self.gain, means, self.served, strict=True)
        ]


def maximise(
    vectors: np.ndarray,
    n_take: int,
    similarity: str = "cosine",
    epsilon: float | None = None,
    seed: int = 0,
    method: str = "auto",
    neighbours: int = 64,
    bonus: Bonus | None = None,
) -> Found:
    """The greedy choice of rows of unit vectors; parameters as `facility.facility_location` says."""
    if similarity not in get_args(Similarity):
        raise ValueError(f"similarity must be cosine or euclidean, got {similarity!r}")
    if method not in get_args(Way):
        raise ValueError(f"method must be auto, exact, sparse or greedi, got {method!r}")
    if epsilon is not None and not 0 < epsilon < 1:
        raise ValueError(f"epsilon lies between 0 and 1, or is left out; got {epsilon}")
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, got {neighbours}")
    if epsilon is not None and method in ("sparse", "greedi"):
        raise ValueError(f"epsilon samples the exact way only, and method is {method!r}: leave one of them out")
    n = len(vectors)
    none = np.empty(0, dtype=np.int64)
    if n_take == 0:
        return Found(none, np.empty(0), none, none, n)
    kernel: _Kernel = _Kernel(similarity, vectors.shape[1])  # type: ignore[arg-type]
    way = way_for(n, n_take, neighbours) if method == "auto" and epsilon is None else method
    if way == "sparse":
        return _sparse(_gridded(vectors), kernel, n_take, neighbours, bonus)
    if way == "greedi" and n > SHARD:
        return _in_shards(vectors, kernel, n_take, seed, bonus)
    similarities = Similarities(vectors, kernel)
    bound = similarities.sums()
    weighing = _weighing(bound, kernel, bonus, n)
    if epsilon is not None or similarities.kept is None:
        steps = _sampled(similarities, bound, weighing, n_take, epsilon, seed)
    else:
        steps = _dense(similarities.kept, bound, weighing, n_take)
    order, gain, nearest, served = steps
    return Found(order, _gains(gain, kernel, n), nearest, served, n, weighing.unit, n)


def way_for(rows: int, budget: int, neighbours: int) -> Way:
    """By size: exact while the matrix can be kept; else the graph where lists of neighbours cover the pool."""
    if 4 * rows * rows <= CACHE_BYTES:
        return "exact"
    return "sparse" if neighbours * budget >= SPARSE_SHARE * rows else "greedi"


def sample_size(rows: int, budget: int, epsilon: float) -> int:
    """How many rows a sampled pick looks at: ceil(N/b ln(1/epsilon)), at most all."""
    return min(rows, max(1, ceil(rows / budget * log(1 / epsilon))))


# --- similarities -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Kernel:
    """A similarity is ``least + step * k`` with a whole number k from 0 to about `STEPS`."""

    name: Similarity
    dimensions: int

    @property
    def least(self) -> float:
        return 0.0 if self.name == "cosine" else exp(-LONGEST / self.dimensions)

    @property
    def step(self) -> float:
        return (1.0 - self.least) / STEPS

    def steps(self, products: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """k from the inner products (overwritten) and the squared lengths of both sides, in shapes that fit."""
        if self.name == "cosine":
            products *= STEPS
            found = np.clip(products, 0.0, STEPS, out=products)
        else:
            found = np.maximum(left + right - 2.0 * products, 0.0)
            np.sqrt(found, out=found)
            found /= -self.dimensions
            np.exp(found, out=found)
            found -= self.least
            found /= self.step
        return np.rint(found, out=found)


def _gridded(vectors: np.ndarray) -> np.ndarray:
    """On the grid, in float32, which holds it exactly: 26 bits after the point, of which it has 24 from the first."""
    out = np.empty(vectors.shape, dtype=np.float32)
    for part in blocks(len(vectors)):
        out[part] = on_grid(vectors[part])
    return out


def _squares(grid: np.ndarray) -> np.ndarray:
    out = np.empty(len(grid), dtype=np.float64)
    for part in blocks(len(grid)):
        some = grid[part].astype(np.float64)
        out[part] = np.einsum("ij,ij->i", some, some)
    return out


class Similarities:
    """Rows of the symmetric matrix of similarities, in whole steps, kept or made again."""

    def __init__(self, vectors: np.ndarray, kernel: _Kernel) -> None:
        self.kernel = kernel
        self.vectors = _gridded(vectors)
        self.squared = _squares(self.vectors)
        n = len(vectors)
        self.kept = np.empty((n, n), dtype=np.int32) if 4 * n * n <= CACHE_BYTES else None

    def __len__(self) -> int:
        return len(self.squared)

    def sums(self) -> np.ndarray:
        """The sum of every row; one pass over all pairs, in which the matrix is kept if it is to be."""
        found = np.zeros(len(self), dtype=np.int64)
        if self.kept is None:
            for part in blocks(len(self), LOOK_AHEAD):
                found[part] = self.rows(np.arange(part.start, part.stop)).sum(axis=1, dtype=np.int64)
            return found
        for rows in blocks(len(self), min(KEPT_SIDE, TILE)):
            left = self.vectors[rows].astype(np.float64)
            for columns in blocks(len(self), min(KEPT_SIDE, TILE)):
                if columns.start < rows.start:
                    continue
                made = self._tile(left, rows, columns).astype(np.int32)
                self.kept[rows, columns] = made
                found[rows] += made.sum(axis=1, dtype=np.int64)
                if columns.start > rows.start:
                    self.kept[columns, rows] = made.T
                    found[columns] += made.sum(axis=0, dtype=np.int64)
        return found

    def rows(self, which: np.ndarray) -> np.ndarray:
        """int32 (which, all)."""
        return self._made(which, np.arange(len(self))) if self.kept is None else self.kept[which]

    def between(self, which: np.ndarray, served: np.ndarray) -> np.ndarray:
        """int32 (which, served)."""
        return self._made(which, served)

    def _made(self, which: np.ndarray, served: np.ndarray) -> np.ndarray:
        out = np.empty((len(which), len(served)), dtype=np.int32)
        for some in blocks(len(which), 1024):
            left = self.vectors[which[some]].astype(np.float64)
            for part in blocks(len(served), TILE):
                out[some, part] = self._tile(left, which[some], served[part])
        return out

    def _tile(self, left: np.ndarray, rows: Any, columns: Any) -> np.ndarray:
        products = left @ self.vectors[columns].T.astype(np.float64)
        return self.kernel.steps(products, self.squared[rows][:, None], self.squared[columns][None, :])


# --- the greedy choice ------------------------------------------------------------------------------------------------
Steps = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""order, gain in steps, nearest row picked before, rows served."""


@dataclass(frozen=True)
class _Weighing:
    """A row is worth ``weight`` x gain in steps + ``extra``; within ``tie`` of the best it is as good."""

    weight: float
    extra: np.ndarray
    tie: float
    unit: float


def _weighing(bound: np.ndarray, kernel: _Kernel, bonus: Bonus | None, served: int) -> _Weighing:
    unit = 1.0 if bonus is None else _unit(bound, kernel, bonus, served)
    if bonus is None or bonus.share == 0:
        return _Weighing(1.0, np.zeros(len(bound)), 0.0, unit)
    weight = (1 - bonus.share) * kernel.step / unit
    # Each similarity is rounded to a step; a sum of m of them is known to about sqrt(m) steps.
    return _Weighing(weight, bonus.share * bonus.quality, weight * (2 + sqrt(served)) + 1e-9, unit)


def _unit(bound: np.ndarray, kernel: _Kernel, bonus: Bonus, served: int) -> float:
    if bonus.unit == "rows":
        return float(served)
    largest = float(bound.max()) * kernel.step + kernel.least * served
    return largest if bonus.unit == "first" and largest > 0 else served / bonus.pool


def _gains(steps: np.ndarray, kernel: _Kernel, served: int) -> np.ndarray:
    gain = steps * kernel.step
    gain[:1] += kernel.least * served  # the first pick gives every row the least similarity that there is, too
    return gain


def _dense(matrix: np.ndarray, bound: np.ndarray, weighing: _Weighing, n_take: int) -> Steps:
    from methods.numerics.greedy import lazy_dense

    return lazy_dense(matrix, bound, weighing.weight, weighing.extra, weighing.tie, n_take)


def _sparse(vectors: np.ndarray, kernel: _Kernel, n_take: int, k: int, bonus: Bonus | None) -> Found:
    """Over the graph of the k nearest rows, joined both ways; the similarities on it are exact."""
    from methods.numerics.greedy import edge_products, lazy_sparse

    n = len(vectors)
    start, other = neighbour_graph(vectors, min(k, n - 1))
    squared = _squares(vectors)
    steps = np.empty(len(other), dtype=np.int32)
    for part in blocks(n, 4096):
        edges = slice(start[part.start], start[part.stop])
        products = edge_products(vectors, start, other, part.start, part.stop)
        left = np.repeat(squared[part], np.diff(start[part.start : part.stop + 1]))
        steps[edges] = kernel.steps(products, left, squared[other[edges]])
    bound = np.add.reduceat(steps, start[:-1], dtype=np.int64)
    weighing = _weighing(bound, kernel, bonus, n)
    order, gain, served = lazy_sparse(start, other, steps, bound, weighing.weight, weighing.extra, weighing.tie, n_take)
    how = f" (rows count with their {min(k, n - 1)} nearest only)"
    nearest = nearest_before(vectors, order)
    return Found(order, _gains(gain, kernel, n), nearest, served, n, weighing.unit, n, how)


def _in_shards(vectors: np.ndarray, kernel: _Kernel, n_take: int, seed: int, bonus: Bonus | None) -> Found:
    """Greedily in each of some random shards, then greedily among what they chose."""
    n, rng = len(vectors), np.random.default_rng(seed)
    shards = np.array_split(rng.permutation(n), ceil(n / SHARD))
    each = min(n_take, ceil(max(HANDED, 2 * n_take) / len(shards)))
    handed: list[np.ndarray] = []
    for shard in shards:
        rows = np.sort(shard)
        steps = _kept_choice(vectors[rows], kernel, min(each, len(rows)), bonus and bonus.among(rows))
        handed.append(rows[steps[0]])
    among = np.sort(np.concatenate(handed))
    room = max(1, JUDGED_BYTES // (4 * len(among)))
    judges = np.arange(n) if room >= n else np.sort(rng.choice(n, room, replace=False))
    similarities = Similarities(vectors, kernel)
    matrix = similarities.between(among, judges)
    bound = matrix.sum(axis=1, dtype=np.int64)
    weighing = _weighing(bound, kernel, bonus and bonus.among(among), len(judges))
    order, gain, _, served = _dense(matrix, bound, weighing, n_take)
    how = f" (chosen among {len(among)} rows that {len(shards)} shards handed on"
    how += ")" if len(judges) == n else f"; sums estimated from {len(judges)} of {n} rows)"
    chosen, whole = among[order], n / len(judges)
    return Found(
        chosen,
        _gains(gain, kernel, len(judges)) * whole,
        nearest_before(similarities.vectors, chosen),
        served,
        len(judges),
        weighing.unit * whole,
        n,
        how,
    )


def _kept_choice(vectors: np.ndarray, kernel: _Kernel, n_take: int, bonus: Bonus | None) -> Steps:
    similarities = Similarities(vectors, kernel)
    if similarities.kept is None:
        similarities.kept = np.empty((len(vectors), len(vectors)), dtype=np.int32)
    bound = similarities.sums()
    return _dense(similarities.kept, bound, _weighing(bound, kernel, bonus, len(vectors)), n_take)


def _sampled(
    similarities: Similarities, bound: np.ndarray, weighing: _Weighing, n_take: int, epsilon: float | None, seed: int
) -> Steps:
    """Where the matrix is not kept, or each pick looks only at some rows drawn by the seed."""
    state = _Greedy(similarities, bound, weighing)
    n, rng = len(bound), np.random.default_rng(seed)
    drawn = n if epsilon is None else sample_size(n, n_take, epsilon)
    while len(state.order) < n_take:
        left = n - len(state.order)
        if drawn >= left:
            state.take(state.best())
        else:
            rest = np.flatnonzero(state.value > -np.inf)
            state.take(state.best(np.sort(rng.choice(rest, drawn, replace=False))))
    return (
        np.array(state.order, dtype=np.int64),
        np.array(state.gain, dtype=np.int64),
        np.array(state.nearest, dtype=np.int64),
        np.array(state.served, dtype=np.int64),
    )


class _Greedy:
    """For every row, the similarity to the nearest taken row and which that is; and an upper bound of its own value."""

    def __init__(self, similarities: Similarities, bound: np.ndarray, weighing: _Weighing) -> None:
        n = len(similarities)
        self.similarities, self.weighing = similarities, weighing
        self.reached = np.zeros(n, dtype=np.int32)
        self.owner = np.full(n, -1, dtype=np.int64)
        self.gains = bound
        self.value = weighing.weight * bound + weighing.extra
        self.known_at = np.zeros(n, dtype=np.int64)
        """After how many picks the value was computed; it is the row's own where that is now, and else a bound."""
        self.order: list[int] = []
        self.gain: list[int] = []
        self.nearest: list[int] = []
        self.served: list[int] = []

    def best(self, among: np.ndarray | None = None) -> int:
        """The row of the largest value, the first of equals; ``among`` ascending indices of rows not yet taken."""
        now = len(self.order)
        while True:
            value = self.value if among is None else self.value[among]
            at = int(np.argmax(value))  # the first of the largest: if its own is known, no other row can beat it
            row = at if among is None else int(among[at])
            if self.known_at[row] == now and self.weighing.tie > 0:
                at = int(np.argmax(value >= value[at] - self.weighing.tie))
                row = at if among is None else int(among[at])
            if self.known_at[row] == now:
                return row
            stale = np.array([row]) if self.similarities.kept is not None else self._next(row, among, value, now)
            rows = self.similarities.rows(stale)
            rows -= self.reached
            np.maximum(rows, 0, out=rows)
            self.gains[stale] = rows.sum(axis=1, dtype=np.int64)
            self.value[stale] = self.weighing.weight * self.gains[stale] + self.weighing.extra[stale]
            self.known_at[stale] = now

    def _next(self, row: int, among: np.ndarray | None, value: np.ndarray, now: int) -> np.ndarray:
        """The row, and those with the largest values that are not known to be their own: likely next to be asked."""
        some = min(LOOK_AHEAD, len(value))
        places = np.argpartition(value, -some)[-some:]
        rows = np.union1d(places if among is None else among[places], [row])
        return rows[(self.known_at[rows] < now) & (self.value[rows] > -np.inf)]

    def take(self, row: int) -> None:
        self.gain.append(int(self.gains[row]))
        self.nearest.append(int(self.owner[row]))
        similar = self.similarities.rows(np.array([row]))[0]
        closer = np.flatnonzero(similar > self.reached) if self.order else np.arange(len(self.owner))
        self.reached[closer] = similar[closer]
        self.owner[closer] = row
        self.served.append(len(closer))
        self.value[row] = -np.inf
        self.order.append(row)
