"""Stage 1: files become rows.

Here belongs reading one source's file into `raw/instructions`, and what could not be read into `raw/quarantine`. The
layouts and the parsing are `methods.formats` and `methods.readers`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from assets import metadata
from assets.partitions import SOURCES
from assets.step import STORED, Result, Step, check_specs
from methods import readers
from methods.rows import QUARANTINE_SCHEMA, ROW_SCHEMA
from resources.lake import LakeError
from resources.settings import Settings
from resources.tables import LakeResource

INSTRUCTIONS, QUARANTINE = dg.AssetKey(["raw", "instructions"]), dg.AssetKey(["raw", "quarantine"])
READER_VERSION = "1"


@dg.multi_asset(
    name="raw",
    group_name="raw",
    partitions_def=SOURCES,
    specs=[
        dg.AssetSpec(
            INSTRUCTIONS,
            code_version=READER_VERSION,
            kinds={"parquet"},
            metadata=STORED,
            description="Every readable record of a source as a row: messages, and instruction, input and "
            "response read off them. "
            "`row_id` is a hash of the content; `(source, position, part)` says where it stood.",
        ),
        dg.AssetSpec(
            QUARANTINE,
            code_version=READER_VERSION,
            kinds={"parquet"},
            metadata=STORED,
            description="Every record that could not be read, with file, position, line and reason. Nothing is "
            "silently lost.",
        ),
    ],
    check_specs=[*check_specs(INSTRUCTIONS.path, SOURCES), *check_specs(QUARANTINE.path, SOURCES)],
)
def raw(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Read the file of one source, block by block, so that its size does not matter."""
    step = Step(context, lake, settings)
    source = step.lake.source(step.partition or "")
    path = Path(source.path)
    content = readers.content_hash(path)
    config, inputs = {"layout": source.layout}, {"file": content}
    draft = step.draft(INSTRUCTIONS, config, extra_inputs=inputs)
    stored = step.up_to_date(INSTRUCTIONS, draft)
    bad_stored = step.lake.manifest(QUARANTINE.path, step.partition)
    if stored and bad_stored:
        yield from step.unchanged(QUARANTINE, bad_stored)
        yield from step.unchanged(INSTRUCTIONS, stored)
        return
    good, bad, facts = _read(step, path, source.layout)
    facts |= {"file": str(path), "content hash": content, "bytes": path.stat().st_size}
    by_reason = (
        bad.group_by("reason").agg(pl.len().alias("records")).sort("records", "reason", descending=[True, False])
    )
    said = pl.format("{} → {}", "detail", "excerpt").alias("what is wrong → how the record begins")
    examples = bad.select("line", "position", "reason", said).head(20)
    shown = {"quarantined by reason": metadata.table(by_reason), "quarantined": metadata.table(examples)}
    yield from step.publish(
        QUARANTINE, Result(bad, {"file": str(path)}, shown), step.draft(QUARANTINE, config, extra_inputs=inputs)
    )
    if facts["records"] == facts["records quarantined"]:
        good.unlink()
        why = f"{by_reason['reason'][0]}: {bad['detail'][0]}" if bad.height else "it holds no records"
        raise LakeError(f"{path} has no record that can be read ({facts['records']:,} were tried; the first: {why})")
    row = metadata.texts("instruction", "response").alias("instruction → response  [row_id]")
    first = pl.scan_parquet(good, glob=False).select("position", "layout", row).head(8).collect()
    yield from step.publish(INSTRUCTIONS, Result(good, facts, {"first rows": metadata.table(first), **shown}), draft)


def _read(step: Step, path: Path, layout: str | None) -> tuple[Path, pl.DataFrame, dict[str, Any]]:
    """Rows into one staged Parquet file, bad records into a frame, and the counts that must add up."""
    import pyarrow.parquet as pq

    batches = readers.read_file(path, step.partition or "", layout=layout)
    staged = step.lake.staging_path(INSTRUCTIONS.path, step.partition)
    progress = step.progress("reading", path.stat().st_size, "bytes")
    bad: list[pl.DataFrame] = [pl.DataFrame(schema=QUARANTINE_SCHEMA)]
    records_with_rows = last = 0
    writer = pq.ParquetWriter(staged, pl.DataFrame(schema=ROW_SCHEMA).to_arrow().schema, compression="zstd")
    try:
        for batch in batches:
            if batch.rows.height:
                writer.write_table(batch.rows.to_arrow())
            bad.append(batch.quarantined)
            records_with_rows += batch.rows["position"].n_unique()
            last += batch.records
            progress.advance(batch.bytes_read - progress.done)
    except BaseException:
        writer.close()
        staged.unlink()
        raise
    writer.close()
    quarantined = pl.concat(bad)
    facts: dict[str, Any] = {
        "records": last,
        "records quarantined": quarantined["position"].n_unique() if quarantined.height else 0,
    }
    facts["records lost"] = last - records_with_rows - facts["records quarantined"]
    facts["share quarantined"] = facts["records quarantined"] / max(last, 1)
    return staged, quarantined, facts


ASSETS = (raw,)
