"""Approximate nearest neighbours by cosine, held against the exact ones on a sample: for pools too large to compare
every pair.

Here belongs the search through an index (faiss, inverted lists) and the measurement of what it misses. The exact
search, and the form of the table that is kept, stand in ``neighbours.py``.

What is approximate is only *which* rows are looked at. Their cosines are made anew from exact products (see
`numerics.similarity`) and ordered as in the exact search, so that every similarity returned is the one that the exact
search gives for that pair. The module is imported where it is used: it is compiled and loads a library.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numba
import numpy as np
import polars as pl

from methods.numerics import neighbours
from methods.numerics.similarity import BLOCK, GRID_BITS, QUANTUM, QUANTUM_BITS, blocks, on_grid, units, usable_rows

FLOOR = 0.95
"""Recall below which more cells are searched."""
SAMPLE = 1000
"""Rows whose neighbours are also found exactly."""
SPARE = 8
"""Candidates beyond k: float32 may err in the order of cosines that nearly agree."""
MARGIN = 0.005
"""The number of probes is settled by one sample and judged by another: the first must be above the floor by this."""
ROWS_PER_CELL = 64
"""Rows that the cells are fitted on, for each of them."""
ITERATIONS = 10
_ONE = 2.0**GRID_BITS
_SCALE = 2.0 ** (QUANTUM_BITS - 2 * GRID_BITS)


@dataclass(frozen=True)
class Approximation:
    """What an approximate search did, and how good it is."""

    rows: int
    """Rows that have a vector."""
    without_vector: int
    cells: int
    probes: int
    """Cells that were searched for each row; all of them where the search was exact in the end."""
    recall: float
    """Of the lists returned, on ``checked`` rows that had no part in settling the probes; NaN where no row has any."""
    checked: int
    floor: float
    exact: bool
    """Whether no number of probes below all reached the floor, so that every pair was compared."""
    tried: tuple[tuple[int, float], ...]
    """(probes, recall) of each attempt, first on the sample that settles the probes, then on all rows."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return {**asdict(self), "tried": [[probes, recall] for probes, recall in self.tried]}

    def line(self) -> str:
        """The outcome in a sentence."""
        what = "every pair was compared" if self.exact else f"{self.probes} of {self.cells} cells were searched a row"
        return (
            f"approximate neighbours of {self.rows:,} rows: {what}; recall {self.recall:.4f} on {self.checked:,} rows "
            f"(floor {self.floor:g})"
        )


def top_k(
    vectors: np.ndarray,
    k: int,
    floor: float = FLOOR,
    sample: int = SAMPLE,
    seed: int = 0,
    cells: int | None = None,
    block: int = BLOCK,
) -> tuple[np.ndarray, np.ndarray, Approximation]:
    """The ``k`` rows of largest cosine for nearly every row, found without comparing all pairs.

    Rows go into cells by their nearest centre, and each row is compared with the rows of the ``probes`` cells whose
    centres are nearest to it. Probes are doubled from 1 until recall (see `recall_check`) on ``sample`` rows is above
    the floor; then all rows are searched, and recall is measured on other rows. If it lies below the floor, probes are
    doubled again. Where that would take half of the cells or more, every pair is compared: the exact search.

    Parameters
    ----------
    vectors : (n, d) float32, rows of unit length; a row with NaN has no vector: it gets no neighbours and is nobody's.
    k : neighbours a row.
    floor : recall wanted, 0.95; 1 asks for the exact search unless a sample has no miss.
    sample : rows compared with all, 1,000, twice: to settle the probes and to measure.
    seed : of the cells and of both samples.
    cells : None for four times the root of the number of rows.
    block : rows searched at a time; changes memory and speed, never the result.

    Memory: the vectors once more in the index (growing lists may take up to twice that), the lists, and blocks.

    Returns
    -------
    index, similarity : as `neighbours.top_k`, in its order: by cosine, ties by lowest index. Of rows tied at the end of
        a list others may be listed than in the exact search.
    stats : `Approximation`.

    The result does not depend on blocks or threads: centres are fitted on one thread, cells are told by exact cosines,
    and a row is compared with another by one thread. On another kind of processor a last bit may differ, and with it
    which rows are looked at.

    Source: inverted lists: Sivic and Zisserman 2003 (ICCV); Jégou, Douze and Schmid 2011 (IEEE TPAMI 33). As in faiss:
    Douze et al. 2024 (arXiv 2401.08281).
    """
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must lie between 0 and 1, got {floor}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    usable = usable_rows(vectors)
    if cells is None:
        cells = round(4 * np.sqrt(len(usable)))
    cells = max(1, min(cells, len(usable)))
    tried: list[tuple[int, float]] = []
    if cells > 2:
        index = _Index(vectors, usable, cells, seed)
        cells = len(index.centres)
        queries = _drawn(usable, sample, seed, 0)
        truth = _exact_levels(vectors, queries, usable, k)
        probes = 1
        while 2 * probes <= cells:
            found, levels = index.search(queries, k, probes, block)
            tried.append((probes, _recall(truth, levels)))
            if tried[-1][1] >= min(1.0, floor + MARGIN):
                found, levels = index.search(usable, k, probes, block)
                everywhere = np.full((len(vectors), k), -1, dtype=np.int64)
                everywhere[usable] = found
                recall, checked = recall_check(vectors, everywhere, k, sample, seed)
                tried.append((probes, recall))
                if recall >= floor:
                    similarity = np.full(everywhere.shape, np.nan, dtype=np.float32)
                    similarity[usable] = np.where(found >= 0, levels * QUANTUM, np.nan)
                    stats = _stats(vectors, usable, cells, probes, recall, checked, floor, False, tried)
                    return everywhere, similarity, stats
            probes = max(
                probes + 1, probes * 4 // 3 if probes.bit_count() == 2 else probes * 3 // 2
            )  # 1 2 3 4 6 8 12 ..
        del index
    nearest, similarity = neighbours.top_k(vectors, k, block)
    recall, checked = recall_check(vectors, nearest, k, sample, seed)
    return nearest, similarity, _stats(vectors, usable, cells, cells, recall, checked, floor, True, tried)


def neighbours_frame(
    row_ids: pl.Series,
    vectors: np.ndarray,
    k: int,
    floor: float = FLOOR,
    sample: int = SAMPLE,
    seed: int = 0,
) -> tuple[pl.DataFrame, Approximation]:
    """`top_k` as the table that is kept, in the shape of `neighbours.neighbours_frame`; always searched from nothing.

    ``row_ids`` are the unique ids of the rows, in the pool's order; everything else is as for `top_k`.
    """
    if len(row_ids) != len(vectors):
        raise ValueError(f"{len(row_ids)} row ids do not fit {len(vectors)} vectors")
    if row_ids.n_unique() != len(row_ids):
        raise ValueError("row ids must be unique in a pool: keep one row for each row_id before searching")
    index, similarity, stats = top_k(vectors, k, floor, sample, seed)
    has_vector = np.zeros(len(row_ids), dtype=bool)
    has_vector[usable_rows(vectors)] = True
    return neighbours.table_of(row_ids, index, similarity, has_vector), stats


def recall_check(
    vectors: np.ndarray, index: np.ndarray, k: int, sample: int = SAMPLE, seed: int = 0
) -> tuple[float, int]:
    """The share of the true ``k`` nearest rows that some lists hold, measured on sampled rows.

    Equation: mean over the sampled rows i of |{j in index_i: cos(x_i, x_j) >= c_i}| / k_i, where c_i is the k-th
    largest cosine of i to any other row, and k_i is k (or the number of other rows, if that is less). Of rows tied
    for the last place any will do, but each entry counts once, and at most k_i of them.

    Parameters
    ----------
    vectors : (n, d) float32, rows of unit length, NaN where a row has none.
    index : (n, at least k) int64, as a search gave it; -1 where there is no neighbour.
    k : neighbours a row that count.
    sample : rows drawn, at most.
    seed : of the draw.

    Returns
    -------
    recall : between 0 and 1; NaN where no row has another to find.
    checked : rows that were looked at.
    """
    usable = usable_rows(vectors)
    queries = _drawn(usable, sample, seed, 1)
    given = np.sort(index[queries][:, :k], axis=1)
    given[:, 1:][given[:, 1:] == given[:, :-1]] = -1  # named twice, found once
    given[given == queries[:, None]] = -1
    truth = _exact_levels(vectors, queries, usable, k)
    return _recall(truth, _levels_of(vectors, queries, given)), len(queries)


def _stats(
    vectors: np.ndarray,
    usable: np.ndarray,
    cells: int,
    probes: int,
    recall: float,
    checked: int,
    floor: float,
    exact: bool,
    tried: list[tuple[int, float]],
) -> Approximation:
    return Approximation(
        len(usable), len(vectors) - len(usable), cells, probes, recall, checked, floor, exact, tuple(tried)
    )


def _drawn(usable: np.ndarray, sample: int, seed: int, part: int) -> np.ndarray:
    """At most ``sample`` rows, ascending; those of part 0 and of part 1 are distinct where there are enough."""
    order = np.random.default_rng(seed).permutation(usable)
    chosen = order[part * sample : (part + 1) * sample] if len(order) >= 2 * sample else order[:sample]
    return np.sort(chosen)


def _exact_levels(vectors: np.ndarray, queries: np.ndarray, usable: np.ndarray, k: int) -> np.ndarray:
    """(queries, k): the largest cosines to other rows in whole units, descending; -inf where there are fewer."""
    found = np.full((len(queries), k), -np.inf)
    left = on_grid(vectors[queries])
    for tile in blocks(len(usable), BLOCK):
        names = usable[tile]
        level = units(left, on_grid(vectors[names]))
        own = np.minimum(np.searchsorted(names, queries), len(names) - 1)
        itself = np.flatnonzero(names[own] == queries)
        level[itself, own[itself]] = -np.inf
        both = np.hstack([found, level])
        both.partition(both.shape[1] - k, axis=1)
        found = both[:, -k:]
    return -np.sort(-found, axis=1)


def _recall(truth: np.ndarray, levels: np.ndarray) -> float:
    """Mean share of the true neighbours that were found; rows that have none do not count."""
    wanted = np.isfinite(truth).sum(axis=1)
    some = wanted > 0
    if not some.any():
        return float("nan")
    last = np.where(np.isfinite(truth), truth, np.inf).min(axis=1)
    found = np.minimum((levels >= last[:, None]).sum(axis=1), wanted)
    return float(np.mean(found[some] / wanted[some]))


def _levels_of(vectors: np.ndarray, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(queries, candidates): exact cosines in whole units; -inf where the candidate is -1."""
    levels = np.empty(candidates.shape)
    _exact_products(np.ascontiguousarray(vectors, dtype=np.float32), queries, candidates, levels)
    return levels


@numba.njit(cache=True, nogil=True)
def _exact_products(  # type: ignore[no-untyped-def]
    vectors, queries, candidates, levels
):  # pragma: no cover
    # Whole numbers below 2^53, as in `similarity.units`: added in any order they give the same sum.
    left = np.empty(vectors.shape[1], dtype=np.int64)
    for i in range(len(queries)):
        for t in range(vectors.shape[1]):
            left[t] = np.int64(np.rint(np.float64(vectors[queries[i], t]) * _ONE))
        for c in range(candidates.shape[1]):
            row = candidates[i, c]
            if row < 0:
                levels[i, c] = -np.inf
                continue
            total = np.int64(0)
            for t in range(vectors.shape[1]):
                total += left[t] * np.int64(np.rint(np.float64(vectors[row, t]) * _ONE))
            level = np.rint(np.float64(total) * _SCALE)
            levels[i, c] = min(max(level, -(2.0**QUANTUM_BITS)), 2.0**QUANTUM_BITS)


class _Index:
    """The rows in inverted lists, one for each cell; a row is known to the index by its place in ``vectors``."""

    def __init__(self, vectors: np.ndarray, usable: np.ndarray, cells: int, seed: int) -> None:
        import faiss

        self.vectors, self.usable, self.swig = vectors, usable, faiss.swig_ptr
        self.centres = _centres(vectors, usable, cells, seed)
        self._grid = on_grid(self.centres)
        d = vectors.shape[1]
        self._quantizer = faiss.IndexFlatIP(d)
        self._quantizer.add(self.centres)
        # Any: its typed signatures are those of the library underneath.
        self._lists: Any = faiss.IndexIVFFlat(self._quantizer, d, len(self.centres), faiss.METRIC_INNER_PRODUCT)
        for part in blocks(len(usable)):
            names = usable[part]
            rows, cell = _rows(vectors, names), self._cells(names, 1)[:, 0].copy()
            self._lists.add_core(len(names), self.swig(rows), self.swig(names), self.swig(cell))

    def search(self, queries: np.ndarray, k: int, probes: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """(queries, k) int64 rows, nearest first and -1 for none, and their cosines in whole units (-inf)."""
        found = np.full((len(queries), k), -1, dtype=np.int64)
        levels = np.full((len(queries), k), -np.inf)
        self._lists.nprobe = probes
        for part in blocks(len(queries), block):
            names = queries[part]
            cells = self._cells(names, probes)
            nought = np.zeros(cells.shape, dtype=np.float32)
            _, near = self._lists.search_preassigned(_rows(self.vectors, names), k + 1 + SPARE, cells, nought)
            near[near == names[:, None]] = -1
            level = _levels_of(self.vectors, names, near)
            order = np.lexsort((near, -level), axis=1)[:, :k]  # by cosine, then by lowest index; what is none is last
            found[part] = np.take_along_axis(near, order, axis=1)
            levels[part] = np.take_along_axis(level, order, axis=1)
        return found, levels

    def _cells(self, names: np.ndarray, probes: int) -> np.ndarray:
        """(names, probes) int64: the cells of nearest centre, nearest first, ties to the lowest."""
        level = units(on_grid(self.vectors[names]), self._grid)
        if probes == 1:
            return level.argmax(axis=1)[:, None]
        keys = level * -float(level.shape[1]) + np.arange(level.shape[1])
        near = np.argpartition(keys, probes - 1, axis=1)[:, :probes]
        order = np.argsort(np.take_along_axis(keys, near, axis=1), axis=1)
        return np.take_along_axis(near, order, axis=1)


def _rows(vectors: np.ndarray, names: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors[names], dtype=np.float32)


def _centres(vectors: np.ndarray, usable: np.ndarray, cells: int, seed: int) -> np.ndarray:
    """Centres of unit length by spherical k-means from rows drawn at random; the same whatever the threads."""
    import faiss

    some = usable
    if len(usable) > ROWS_PER_CELL * cells:
        some = np.sort(np.random.default_rng(seed).choice(usable, size=ROWS_PER_CELL * cells, replace=False))
    # The library warns where there are few rows a centre, and fits them all the same.
    fit = faiss.Kmeans(
        vectors.shape[1],
        cells,
        niter=ITERATIONS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=max(ROWS_PER_CELL, -(-len(some) // cells)),
    )
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        fit.train(_rows(vectors, some))
    finally:
        faiss.omp_set_num_threads(threads)
    return np.ascontiguousarray(fit.centroids, dtype=np.float32)
