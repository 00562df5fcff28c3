"""Which rows a pass looks at: those that the filters kept, and on request those that they dropped too.

Here belongs that choice and what it is called in the tables, for every stage that gathers evidence of rows.
"""

from pathlib import Path

import polars as pl

from assets.partitions import same_source
from assets.step import Step

FROM_FILTERED = [same_source("filtered/instructions"), same_source("filtered/dropped")]


def rows_to_assess(step: Step) -> pl.LazyFrame:
    """The distinct rows of the source that evidence is gathered for: those kept, and on request those dropped too."""
    rows = step.scan("filtered/instructions")
    if step.settings.all_rows:
        dropped = step.scan("filtered/dropped")
        rows = pl.concat([rows, dropped.select(rows.collect_schema().names())])
    return rows.unique("row_id", keep="first", maintain_order=True)


def coverage(step: Step) -> dict[str, str]:
    """Whether the table also holds the rows that a filter dropped."""
    return {"coverage": "all" if step.settings.all_rows else "kept"}


def share_not_ok(path: Path) -> dict[str, float]:
    """The share of rows without evidence."""
    share = pl.scan_parquet(path, glob=False).select((pl.col("status") != "ok").mean()).collect().item()
    return {"share not ok": share or 0.0}
