"""Exact nearest neighbours by cosine, from nothing or from the lists of an earlier pool.

Here belongs the search itself, as arrays (`top_k`, `update_top_k`) and as the table that is kept as evidence
(`neighbours_frame`). What the neighbours say about a row (distances, density, duplicates) stands with the indicators.

The order is total: by cosine, rounded as `numerics.similarity` says (rows that agree to about 1e-6 are tied), then by
lowest index. An update therefore gives bit for bit what a search from nothing would give. Memory is bounded by one
block of `BLOCK` x `TILE` cosines beside the vectors and the lists; no n x n matrix is ever made.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.numerics.similarity import BLOCK, QUANTUM, TILE, blocks, on_grid, units, usable_rows

_INDEX = 2.0**32
"""One unit of cosine in a key; a key is ``units * _INDEX - index``: a whole number below 2^53, hence exact."""

NEIGHBOURS_SCHEMA = pl.Schema({"row_id": pl.String(), "ids": pl.List(pl.String()), "similarity": pl.List(pl.Float32())})
"""One line a row of the pool; both lists are null where the row has no vector, empty where it stands alone."""


@dataclass(frozen=True)
class NeighbourStats:
    """What a search cost. ``fresh + redone`` rows were compared with the whole pool."""

    rows: int
    """Rows of the pool that have a vector."""
    without_vector: int
    fresh: int
    """Rows that the earlier lists did not know (or that changed places)."""
    redone: int
    """Earlier rows that lost neighbours and had to be searched again in full."""
    merged: int
    """Earlier rows whose lists were only merged with the fresh rows."""

    @property
    def computed_in_full(self) -> int:
        """Rows that were compared with the whole pool."""
        return self.fresh + self.redone


def top_k(vectors: np.ndarray, k: int, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of largest cosine for every row, itself excluded.

    Parameters
    ----------
    vectors : (n, d) float32, rows of unit length; a row with NaN has no vector: it gets no neighbours and is nobody's.
    k : neighbours a row.
    block : rows searched at a time; changes memory and speed, never the result.

    Returns
    -------
    index : (n, k) int64, nearest first, ties by lowest index; -1 where there is no such neighbour.
    similarity : (n, k) float32 cosines, NaN where the index is -1.
    """
    usable = usable_rows(vectors)
    keys = np.full((len(vectors), _checked(k)), -np.inf)
    keys[usable] = _search(vectors, usable, usable, k, block)
    return _decode(keys)


def update_top_k(
    previous_index: np.ndarray,
    previous_similarity: np.ndarray,
    moved_to: np.ndarray,
    vectors: np.ndarray,
    k: int,
    block: int = BLOCK,
) -> tuple[np.ndarray, np.ndarray, NeighbourStats]:
    """Exactly what ``top_k(vectors, k)`` gives, computed from the lists of the pool as it was before.

    Fresh rows are compared with the whole pool, and earlier rows with the fresh rows only. An earlier row that lost a
    neighbour is searched again in full, unless what it kept and what came new are surely nearer than everything its
    list never showed. Earlier rows that changed their order among themselves are treated as taken out and put back,
    because ties go by index.

    Parameters
    ----------
    previous_index, previous_similarity : (m, k'), k' >= 1, as `top_k` gave them for the earlier pool of m rows.
    moved_to : (m,) int64, where each earlier row stands in ``vectors``; -1 if it was removed (or had no vector).
        A row that is said to stay must have the vector that it had.
    vectors, k, block : as for `top_k`, for the pool as it is now.

    Returns
    -------
    index, similarity : as `top_k`.
    stats : `NeighbourStats`.
    """
    n = len(vectors)
    usable = usable_rows(vectors)
    keys = np.full((n, _checked(k)), -np.inf)
    place = _steady(moved_to, usable, n)
    stays = np.flatnonzero(place >= 0)
    fresh = np.setdiff1d(usable, place[stays], assume_unique=True)

    known = previous_index[stays] >= 0
    mapped = np.where(known, place[previous_index[stays]], -1)
    level = np.where(known, np.rint(previous_similarity[stays] / np.float64(QUANTUM)), -np.inf)
    survivors = np.where(mapped >= 0, level * _INDEX - mapped, -np.inf)
    arrivals = _search(vectors, place[stays], fresh, k, block)
    keys[place[stays]] = _best(np.hstack([survivors, arrivals]), k)

    # A list shorter than k' showed its whole pool, so nothing is hidden from it. Of a full list we know that what it
    # hides ranks after its last entry: k survivors and strictly nearer arrivals are enough to be sure.
    last = level[:, -1:]
    sure = (mapped >= 0).sum(axis=1) + (np.ceil(arrivals / _INDEX) > last).sum(axis=1)
    redo = place[stays][known.all(axis=1) & (sure < k)]
    again = np.sort(np.concatenate([fresh, redo]))
    keys[again] = _search(vectors, again, usable, k, block)
    stats = NeighbourStats(len(usable), n - len(usable), len(fresh), len(redo), len(stays) - len(redo))
    return *_decode(keys), stats


def neighbours_frame(
    row_ids: pl.Series, vectors: np.ndarray, k: int, previous: pl.DataFrame | None = None, block: int = BLOCK
) -> tuple[pl.DataFrame, NeighbourStats]:
    """The neighbours of a pool as a table of row ids, made from ``previous`` where there is one.

    Parameters
    ----------
    row_ids : unique ids of the rows, in the pool's order.
    vectors : (n, d) float32, rows of unit length, NaN where a row has none.
    k : neighbours a row.
    previous : a table that this function made for an earlier pool with the same encoder, or None.

    Returns
    -------
    table : `NEIGHBOURS_SCHEMA`, one line a row in the pool's order.
    stats : `NeighbourStats`.
    """
    if len(row_ids) != len(vectors):
        raise ValueError(f"{len(row_ids)} row ids do not fit {len(vectors)} vectors")
    if row_ids.n_unique() != len(row_ids):
        raise ValueError("row ids must be unique in a pool: keep one row for each row_id before searching")
    if previous is None or previous.is_empty():
        index = np.empty((0, k), dtype=np.int64)
        index, similarity, stats = update_top_k(index, index.astype(np.float32), index[:, 0], vectors, k, block)
    else:
        index, similarity, moved_to = _matrices(previous, row_ids)
        index, similarity, stats = update_top_k(index, similarity, moved_to, vectors, k, block)
    has_vector = np.zeros(len(row_ids), dtype=bool)
    has_vector[usable_rows(vectors)] = True
    return table_of(row_ids, index, similarity, has_vector), stats


def _checked(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return k


def _search(vectors: np.ndarray, rows: np.ndarray, columns: np.ndarray, k: int, block: int) -> np.ndarray:
    """Keys (len(rows), k), best first, of the nearest ``columns`` of each of ``rows``; both ascending indices."""
    found = np.full((len(rows), k), -np.inf)
    for part in blocks(len(rows), block):
        left = on_grid(vectors[rows[part]])
        for tile in blocks(len(columns), TILE):
            names = columns[tile]
            keys = units(left, on_grid(vectors[names]))
            keys *= _INDEX
            keys -= names
            own = np.minimum(np.searchsorted(names, rows[part]), len(names) - 1)
            itself = np.flatnonzero(names[own] == rows[part])
            keys[itself, own[itself]] = -np.inf
            if keys.shape[1] > k:
                keys.partition(keys.shape[1] - k, axis=1)
            found[part] = _best(np.hstack([found[part], keys[:, -k:]]), k)
    return found


def _best(keys: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` largest keys of each row, descending (keys are distinct, except for -inf: no neighbour)."""
    keys.sort(axis=1)
    return keys[:, ::-1][:, :k]


def _decode(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    some = np.isfinite(keys)
    safe = np.where(some, keys, 0.0)
    level = np.ceil(safe / _INDEX)
    index = np.where(some, level * _INDEX - safe, -1).astype(np.int64)
    return index, np.where(some, level * QUANTUM, np.nan).astype(np.float32)


def _steady(moved_to: np.ndarray, usable: np.ndarray, n: int) -> np.ndarray:
    """``moved_to`` with -1 also for rows that lost their vector or that changed their order among the others."""
    has_vector = np.zeros(n + 1, dtype=bool)
    has_vector[usable] = True
    place = np.where(has_vector[moved_to], moved_to, -1).astype(np.int64)
    kept = np.flatnonzero(place >= 0)
    steady = np.full(len(place), -1, dtype=np.int64)
    still = kept[_longest_increasing(place[kept])]
    steady[still] = place[still]
    return steady


def _longest_increasing(values: np.ndarray) -> np.ndarray:
    """Indices of a longest increasing subsequence of distinct ``values``."""
    if np.all(values[1:] > values[:-1]):
        return np.arange(len(values))
    tails: list[int] = []
    tail_at: list[int] = []
    before = np.full(len(values), -1, dtype=np.int64)
    for i, value in enumerate(values.tolist()):
        length = bisect_left(tails, value)
        before[i] = tail_at[length - 1] if length else -1
        tails[length : length + 1] = [value]
        tail_at[length : length + 1] = [i]
    chain = [tail_at[-1]]
    while before[chain[-1]] >= 0:
        chain.append(int(before[chain[-1]]))
    return np.array(chain[::-1], dtype=np.int64)


def _matrices(previous: pl.DataFrame, row_ids: pl.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An earlier table as `update_top_k` wants it: index, similarity, moved_to."""
    known = previous.filter(pl.col("ids").is_not_null())
    lengths = known["ids"].list.len().to_numpy()
    filled = np.arange(max(1, int(lengths.max(initial=0)))) < lengths[:, None]
    index = np.full(filled.shape, -1, dtype=np.int64)
    similarity = np.full(filled.shape, np.nan, dtype=np.float32)
    some = known.filter(pl.col("ids").list.len() > 0)
    index[filled] = _places(some["ids"].explode(), known["row_id"])
    similarity[filled] = some["similarity"].explode().to_numpy()
    # An id that the earlier table lists but has no line for cannot be followed: an extra row, removed since.
    stranger = filled & (index < 0)
    moved_to = _places(known["row_id"], row_ids)
    index[stranger] = len(moved_to)
    return index, similarity, moved_to if not stranger.any() else np.append(moved_to, -1)


def _places(ids: pl.Series, among: pl.Series) -> np.ndarray:
    """Index of each id in ``among``, -1 where it is not there."""
    places = pl.DataFrame({"id": among.cast(pl.String), "place": np.arange(len(among), dtype=np.int64)})
    wanted = pl.DataFrame({"id": ids.cast(pl.String)})
    return wanted.join(places, on="id", how="left", maintain_order="left")["place"].fill_null(-1).to_numpy()


def table_of(row_ids: pl.Series, index: np.ndarray, similarity: np.ndarray, has_vector: np.ndarray) -> pl.DataFrame:
    """`NEIGHBOURS_SCHEMA` of lists as `top_k` gives them; ``has_vector`` says which rows have lists at all."""
    some = index >= 0
    lines = pl.DataFrame(
        {
            "row": np.nonzero(some)[0].astype(np.int64),
            "ids": row_ids.cast(pl.String).gather(index[some]),
            "similarity": similarity[some],
        },
        schema={"row": pl.Int64, "ids": pl.String, "similarity": pl.Float32},
    )
    lists = lines.group_by("row", maintain_order=True).agg("ids", "similarity")
    rows = pl.DataFrame(
        {"row_id": row_ids.cast(pl.String), "row": np.arange(len(row_ids), dtype=np.int64), "has_vector": has_vector},
        schema={"row_id": pl.String, "row": pl.Int64, "has_vector": pl.Boolean},
    )
    empty = pl.when("has_vector").then(pl.lit([]))
    return (
        rows.join(lists, on="row", how="left", maintain_order="left")
        .select(
            "row_id",
            pl.coalesce("ids", empty.cast(pl.List(pl.String))),
            pl.coalesce("similarity", empty.cast(pl.List(pl.Float32))).alias("similarity"),
        )
        .cast(NEIGHBOURS_SCHEMA)
    )
