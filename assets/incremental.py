"""Computing only what is new: the rows of a table that are already known are taken over, the others come in blocks.

Here belongs the bookkeeping of known and new rows, for evidence and verdicts alike. What is computed for a block is
handed in as a function. Memory is bounded by a block: finished blocks go to disk, and the table is joined from there.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl

from assets.step import Step
from resources.lake import RowCache

BLOCK = 8192
"""Rows in hand at a time."""


@dataclass(frozen=True)
class Filled:
    """A complete table in a staged file, and how much of it had to be computed."""

    data: Path
    rows: int
    computed: int
    missing: int
    seconds: float = 0.0
    """What computing took, in this run."""

    @property
    def facts(self) -> dict[str, int | float]:
        """The counts, under the names that the expectations know, and the time."""
        counts = {"rows computed": self.computed, "rows reused": self.rows - self.computed}
        return {**counts, "rows missing": self.missing, "seconds computing": round(self.seconds, 3)}


def fill(
    step: Step,
    key: dg.AssetKey,
    rows: pl.LazyFrame,
    known: Iterable[pl.LazyFrame | None],
    compute: Callable[[pl.LazyFrame, int], Iterator[pl.DataFrame]],
    cache: RowCache | None = None,
) -> Filled:
    """A line for every row of ``rows`` (unique ``row_id``, in order): from ``known`` tables where it stands, else
    computed.

    ``compute(todo, n)`` yields finished batches (an empty one for no rows); each is stored as it arrives, in
    ``cache`` (which stays, so that a killed run goes on from there) or in a folder that goes when the table is made.
    Two runs that want the same cache take turns, so that the second finds the rows of the first.
    """
    if cache is not None:
        with cache.alone():
            filled = _fill(step, key, rows, known, compute, cache)
            cache.compact()
            return filled
    passing = RowCache(step.lake.staging_path(key.path, step.partition))
    try:
        return _fill(step, key, rows, known, compute, passing)
    finally:
        shutil.rmtree(passing.folder, ignore_errors=True)


def _fill(
    step: Step,
    key: dg.AssetKey,
    rows: pl.LazyFrame,
    known: Iterable[pl.LazyFrame | None],
    compute: Callable[[pl.LazyFrame, int], Iterator[pl.DataFrame]],
    cache: RowCache,
) -> Filled:
    ids = rows.select("row_id").collect()
    sources = [frame for frame in (*known, cache.scan()) if frame is not None]
    have = pl.concat([frame.select("row_id") for frame in sources]).unique().collect() if sources else ids.clear()
    todo = ids.join(have, on="row_id", how="anti")
    started = time.monotonic()
    if todo.height or not sources:
        for batch in compute(rows.join(todo.lazy(), on="row_id", how="semi", maintain_order="left"), todo.height):
            cache.append(batch)
    seconds = time.monotonic() - started
    tables = [frame for frame in (*known, cache.scan()) if frame is not None]
    columns = tables[-1].collect_schema().names()
    everything = (
        pl.concat([frame.select(columns) for frame in tables])
        .join(ids.lazy(), on="row_id", how="semi")
        .unique("row_id", keep="first")
    )
    staged = step.lake.staging_path(key.path, step.partition)
    ids.lazy().join(everything, on="row_id", how="inner", maintain_order="left").sink_parquet(staged)
    made = pl.scan_parquet(staged, glob=False).select(pl.len()).collect().item()
    return Filled(staged, made, todo.height, ids.height - made, seconds)


def in_blocks(
    step: Step, what: str, compute: Callable[[pl.DataFrame], pl.DataFrame]
) -> Callable[[pl.LazyFrame, int], Iterator[pl.DataFrame]]:
    """A function of a block as a pass over all of them, with progress."""

    def run(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
        if total == 0:
            yield compute(todo.collect())
            return
        progress = step.progress(what, total)
        for block in todo.collect_batches(chunk_size=BLOCK, maintain_order=True):
            if block.height:
                yield compute(block)
                progress.advance(block.height)

    return run
