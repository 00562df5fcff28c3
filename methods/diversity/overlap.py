"""How far a row is from the others by the words it uses (survey 4.1, Eq. 26 with the Jaccard distance on shingles).

Here belongs the exact search for the rows that share most shingles, through an inverted index. Pairs of rows that are
so alike that one has to go are the business of `methods.filters.duplicates`, which finds them without comparing all;
distance in the space of an embedding is in `methods.diversity.geometry`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from methods.filters.shingles import Ragged, distinct, ngrams, offsets_of
from methods.kinds import Indicator, Pool, statused
from methods.text import FIELDS, status_when_short, words_of

ROWS_AT_A_TIME = 8192
MEETINGS = 8_000_000
"""A block of rows is cut where it would meet others in more shingles than this (the bound of its memory), except that
a single row may meet as many rows as the pool has."""


def knn_jaccard(pool: Pool, field: str = "both", n: int = 3, j: int = 1, stat: str = "jth") -> pl.DataFrame:
    """Jaccard distance of a row from the other row of the pool that shares most word shingles with it.

    Equation: 1 - |A & B|/|A | B| to the j-th most overlapping other row (Eq. 26), A and B the sets of runs of n words.
    The texts "a b c d", "a b c e", "x y z" have 1 - 1/3, 1 - 1/3 and 1.

    Direction: higher is more unlike the rest. 0 is a row with the same shingles, such as an exact duplicate; 1 is
    a row that shares no run of n words with any other.

    Parameters: `field` is `response`, `prompt` or `both` (the prompt's words, then the response's). `n` is the length
    of a shingle in words (a character is a word in scripts without spaces). `j` and `stat` (`jth` or `mean` of the
    first j) as for `knn_1`. A row that overlaps with fewer than `j` others counts the missing ones with distance 1.

    Statuses: `empty_text` (`empty_prompt`, `empty_response`), `no_words`; `too_short` under `n` words;
    `too_few_neighbours` where the pool holds fewer than `j` other rows that have a shingle.

    Source: Dong et al. 2011 (Jaccard among the metrics of their graphs); survey 4.1.

    Departures: exact, not by NN-Descent. Each row is multiplied with an inverted index of all shingles that stand in
    two rows or more; the others count for the size of a set alone.
    """
    if pool.counts is None:
        raise ValueError("knn_jaccard reads the word counts of the pool, and this pool has none")
    if stat not in ("jth", "mean"):
        raise ValueError(f"stat must be 'jth' or 'mean', not {stat!r}")
    for name, given in (("j", j), ("n", n)):
        if given < 1:
            raise ValueError(f"{name} must be at least 1, got {given}")
    sets, status = _shingle_sets(pool.counts, field, n)
    if len(sets) != len(pool.row_ids):
        raise ValueError(f"the pool has {len(pool.row_ids)} rows and word counts of {len(sets)}")
    scored = np.flatnonzero(sets.lengths > 0)
    value = np.full(len(sets), np.nan)
    if len(scored) <= j:
        status[scored] = "too_few_neighbours"
    else:
        value[scored] = _distances(sets.take(scored), j, stat)
    return statused(value, status)


def _shingle_sets(counts: pl.LazyFrame, field: str, n: int) -> tuple[Ragged, np.ndarray]:
    """The set of shingles of every row (empty where the status is not ok), and the statuses; read in blocks."""
    judged = status_when_short(field, n)
    parts = FIELDS if field == "both" else (field,)
    columns = [f"{part}_{name}" for part in parts for name in ("words", "n_words", "n_visible")]
    values, lengths, statuses = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, object)]
    for block in counts.select(columns).collect_batches(chunk_size=ROWS_AT_A_TIME, maintain_order=True):
        words = words_of(block, field)
        offsets = offsets_of(words.list.len().fill_null(0).to_numpy().astype(np.int64))
        flat = words.explode(empty_as_null=False, keep_nulls=False).to_numpy()
        sets = distinct(ngrams(Ragged(flat, offsets), np.full(len(words), n)))
        values.append(sets.values)
        lengths.append(sets.lengths)
        statuses.append(block.select(judged).to_series().to_numpy().astype(object))
    return Ragged(np.concatenate(values), offsets_of(np.concatenate(lengths))), np.concatenate(statuses)


def _distances(sets: Ragged, j: int, stat: str) -> np.ndarray:
    """(n,) the distance of each set from its j-th nearest other, or the mean of its first j."""
    sizes = sets.lengths
    index, meetings = _inverted(sets)
    found = np.empty(len(sets))
    for part in _cut(meetings):
        common = index[part] @ index.T
        row = np.repeat(np.arange(part.start, part.stop), np.diff(common.indptr))
        likeness = common.data / (sizes[row] + sizes[common.indices] - common.data)
        likeness[common.indices == row] = -1.0
        for i, (start, stop) in enumerate(zip(common.indptr[:-1], common.indptr[1:], strict=True)):
            best = likeness[start:stop]
            if len(best) > j:
                best = np.partition(best, len(best) - j)[-j:]
            best = best[best > 0]
            if stat == "mean":
                found[part.start + i] = 1.0 - best.sum() / j
            else:
                found[part.start + i] = 1.0 - best.min() if len(best) == j else 1.0
    return found


def _inverted(sets: Ragged) -> tuple[Any, np.ndarray]:
    """The incidence of rows and the shingles that two rows or more hold (sparse), and of each row the number of its
    meetings: over its shingles, how many rows hold them."""
    from scipy.sparse import csr_array

    _, codes, holders = np.unique(sets.values, return_inverse=True, return_counts=True)
    shared = holders[codes] > 1
    new_code = np.cumsum(holders > 1) - 1
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(shared, dtype=np.int64)])[sets.offsets]
    columns = new_code[codes[shared]]
    index = csr_array((np.ones(len(columns), np.int32), columns, offsets), shape=(len(sets), int((holders > 1).sum())))
    reach = np.concatenate([np.zeros(1, np.int64), np.cumsum(holders[codes[shared]], dtype=np.int64)])[offsets]
    return index, np.diff(reach)


def _cut(meetings: np.ndarray) -> Iterator[slice]:
    """Runs of rows with at most `MEETINGS` meetings and `ROWS_AT_A_TIME` rows; a row with more has its own run."""
    reach = np.cumsum(meetings)
    start = 0
    while start < len(meetings):
        before = int(reach[start - 1]) if start else 0
        stop = int(np.searchsorted(reach, before + MEETINGS, side="right"))
        stop = min(max(stop, start + 1), start + ROWS_AT_A_TIME)
        yield slice(start, stop)
        start = stop


INDICATORS = (
    Indicator(
        id="knn_jaccard",
        title="Distance to the nearest wording",
        axis="diversity",
        family="handcrafted",
        section="4.1",
        equation=r"1 - \frac{\lvert A_i \cap A_{N_j(i)} \rvert}{\lvert A_i \cup A_{N_j(i)} \rvert}",
        paper="Dong et al. 2011, NN-Descent; survey 4.1",
        meaning="How little of a row's wording stands together in any one other row. 0: a copy; 1: no run of three "
        "words is shared with any row.",
        needs=("evidence/text_counts",),
        params={"field": "both", "n": 3, "j": 1, "stat": "jth"},
        direction="higher",
        scope="pool",
        compute=knn_jaccard,
    ),
)
