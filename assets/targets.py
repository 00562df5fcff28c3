"""What one wants to be good at: the files of the home's folder ``targets``, as a table.

Here belongs reading them, once for everybody who looks for rows like them, and saying which of them the pool holds
already. That rows which contain their questions are dropped is `filtered`'s business.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata
from assets.embedded import encode_with, vectors_of
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods import readers
from methods.importance.target_check import target_in_pool
from methods.kinds import Target
from methods.rows import PROMPT
from resources.encoder import Encoder
from resources.lake import Lake, LakeError
from resources.settings import Settings
from resources.tables import LakeResource

TARGETS = dg.AssetKey(["targets", "rows"])
SCHEMA = {"target": pl.String, "row_id": pl.String, "position": pl.Int64, "prompt": pl.String, "response": pl.String}


def target_files(lake: Lake) -> list[Path]:
    """The files of targets, by name."""
    return sorted(path for path in lake.targets.glob("[!.]*") if path.is_file())


def target_file(lake: Lake, name: str) -> Path:
    """The file of a target, named with or without its ending; or an error that says which there are."""
    files = target_files(lake)
    fitting = [file for file in files if name in (file.name, file.stem)]
    if len(fitting) != 1:
        there = ", ".join(file.name for file in files) or "none"
        raise LakeError(f"{name!r} names {len(fitting) or 'no'} files in {lake.targets}; there are: {there}")
    return fitting[0]


@dg.asset(
    key=TARGETS,
    group_name="targets",
    deps=[same_source("filtered/pool"), whole_pool("filtered/instructions"), whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"polars"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(TARGETS.path),
    description="The files of the home's folder `targets` as rows, each file a target of its own, with the hash of its "
    "content; and how many of them stand in the pool, as they are, with most of their words, or in nearly "
    "the same sense.",
)
def target_rows(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Read the targets."""
    step = Step(context, lake, settings)
    pool = step.pool(TARGETS)
    files = target_files(step.lake)
    for one, other in pairwise(sorted(files, key=lambda file: file.stem)):
        if one.stem == other.stem:
            raise LakeError(f"{one.name} and {other.name} in {step.lake.targets} would be one target: rename one")
    hashes = {f"targets/{file.name}": readers.content_hash(file) for file in files}

    def compute() -> Result:
        table = pl.concat([pl.DataFrame(schema=SCHEMA), *(rows_of(file) for file in files)])
        about = table.group_by("target", maintain_order=True).agg(rows=pl.len(), example=pl.first("prompt"))
        there = _in_pool(step, pool, table, encoder)
        about = about.with_columns(
            pl.Series("in the pool", [there[name] for name in about["target"]], dtype=pl.Int64),
            content=pl.Series(_by_target(files, hashes), dtype=pl.String),
        )
        facts = {"pool": pool, "targets": about.height, "rows that are in the pool": sum(there.values())}
        shown = {"targets": metadata.table(about.select("target", "rows", "in the pool", "content", "example"), 160)}
        return Result(table, facts, shown)

    yield from step.make(TARGETS, {"encoder": encoder.identity()}, compute, pool, hashes)


def target_of(step: Step, rows: pl.DataFrame, encoder: Encoder) -> Target:
    """Some of the table's rows as what selectors look for; rows without a vector are left out."""
    texts = rows.select("prompt", "response")
    whole = texts.select(pl.concat_str("prompt", pl.lit("\n"), "response")).to_series().to_list()
    vectors = encode_with(step.resource, encoder, step.context.log.info)(whole)
    there = np.isfinite(vectors).all(axis=1)
    return Target(texts.filter(pl.Series(there, dtype=pl.Boolean)), vectors[there])


def _in_pool(step: Step, pool: Sequence[str], table: pl.DataFrame, encoder: Encoder) -> dict[str, int]:
    """How many rows of each target stand in the pool: as they are, with most of their words, or nearly their vector."""
    rows = step.scan("filtered/instructions", pool).unique("row_id", keep="first", maintain_order=True)
    texts = rows.select("row_id", PROMPT, "response").collect()
    vectors = vectors_of(step.resource, encoder).read(texts["row_id"].to_list())
    found = {}
    for (name,), part in table.group_by("target", maintain_order=True):
        wanted = target_of(step, part, encoder)
        held = target_in_pool(texts["row_id"], texts.drop("row_id"), wanted, vectors)
        found[str(name)] = held["target_row"].n_unique()
    return found


def _by_target(files: Sequence[Path], hashes: dict[str, str]) -> list[str]:
    return [hashes[f"targets/{file.name}"][:12] for file in files]


def rows_of(file: Path) -> pl.DataFrame:
    """A target's rows, with their answers where the file has any; a file without a single readable row is an error."""
    for layout in (None, "prompts"):
        rows = pl.concat([batch.rows for batch in readers.read_file(file, file.stem, layout=layout)])
        if rows.height:
            named = rows.select(pl.lit(file.stem).alias("target"), "row_id", "position", PROMPT, "response")
            return named.select(list(SCHEMA))
    raise LakeError(f"no row could be read from {file}: put it right or take it away")


ASSETS = (target_rows,)
