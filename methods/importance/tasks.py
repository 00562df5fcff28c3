"""Importance by task (survey 5.2): what prompt uncertainty says of a whole task, and the task map.

Here belong the means over a task's rows and the regions of the map. What a task is (a cluster, a source) is said by
whoever asks; the values of rows are those of `methods.importance.prompting`.
"""

from __future__ import annotations

from hashlib import blake2b

import polars as pl


def _luck(text: str, seed: int) -> bytes:
    """Eight bytes that hang on the text and the seed, and on nothing else."""
    key = seed.to_bytes(8, "little", signed=True)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()


def task_scores(table: pl.DataFrame, instances: int = 10, seed: int = 0) -> pl.DataFrame:
    """The mean over at most ``instances`` rows of each task, most uncertain task first.

    ``table`` has ``row_id``, ``task`` (a text; null for none), ``uncertainty`` and ``probability`` (null for none).
    Rows without an uncertainty are left out before rows are drawn. Which are drawn hangs on their ids and the
    seed, not on the order of the rows. Gives ``task``, ``uncertainty``, ``probability``, ``task_rows`` (those with an
    uncertainty) and ``drawn``; equal tasks are in order of name.
    """
    if instances < 1:
        raise ValueError(f"instances must be at least 1, got {instances}")
    luck = [_luck(row_id, seed) for row_id in table["row_id"]]
    return (
        table.select(
            "task",
            *(pl.when(pl.col(n).is_finite()).then(pl.col(n)).alias(n) for n in ("uncertainty", "probability")),
            luck=pl.Series(luck, dtype=pl.Binary),
        )
        .drop_nulls(["task", "uncertainty"])
        .sort("task", "luck")
        .group_by("task", maintain_order=True)
        .agg(
            pl.col("uncertainty", "probability").head(instances).mean(),
            task_rows=pl.len().cast(pl.Int64),
            drawn=pl.len().clip(upper_bound=instances).cast(pl.Int64),
        )
        .sort("uncertainty", "task", descending=[True, False])
    )


def cuts_of(uncertainty: pl.Series, probability: pl.Series, at: float = 0.5) -> tuple[float | None, float | None]:
    """Where the map is cut: the quantile ``at`` of each axis over the tasks that have both numbers, interpolated."""
    if not 0 <= at <= 1:
        raise ValueError(f"the map is cut at a quantile, got {at}")
    known = pl.DataFrame({"u": uncertainty, "p": probability}).drop_nulls()
    return known["u"].quantile(at, "linear"), known["p"].quantile(at, "linear")


def task_map(uncertainty: pl.Series, probability: pl.Series, at: float = 0.5) -> pl.Series:
    """``ambiguous``, ``difficult`` or ``easy`` for each task; null where one of the two numbers is missing.

    Ambiguous: an uncertainty above the cut (`cuts_of`). The others are difficult up to the cut of the probability and
    easy above.

    Source: Kung et al. 2023, Active Instruction Tuning (arXiv 2311.00288), the task map.

    Departures: the paper draws the regions by eye; the median of each axis is our choice, so that they are relative to
    the pool: half of its tasks are ambiguous at most, whatever the pool.
    """
    numbers = pl.DataFrame({"u": uncertainty, "p": probability}, {"u": pl.Float64, "p": pl.Float64})
    uncertain, probable = cuts_of(numbers["u"], numbers["p"], at)
    rest = pl.when(pl.col("p") <= pl.lit(probable, pl.Float64)).then(pl.lit("difficult")).otherwise(pl.lit("easy"))
    region = pl.when(pl.col("u") > pl.lit(uncertain, pl.Float64)).then(pl.lit("ambiguous")).otherwise(rest)
    known = pl.all_horizontal(pl.col("u", "p").is_not_null())
    return numbers.select(region=pl.when(known).then(region))["region"]
