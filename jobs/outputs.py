"""The files that a command leaves: scores, subsets.

Here belongs writing what outsiders read. Every file is written beside its place and moved over it when it is whole.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from methods.quality import bsdetector
from resources.lake import Lake, LakeError, replacing

WRITERS: Mapping[str, Callable[[pl.DataFrame, Path], None]] = {
    ".parquet": pl.DataFrame.write_parquet,
    ".csv": pl.DataFrame.write_csv,
    ".jsonl": pl.DataFrame.write_ndjson,
}
SAID = ("row_id", "source", "position", "rank", "score", "gain", "weight", "reason")
"""What a chosen record carries besides itself; ``weight``: what it counts for in training (1 unless the selector gives
another), as a factor of its loss or as how often to repeat it."""
SCORE_COLUMNS = ["source", "position", "row_id", "indicator", "value", "status"]


def scores(lake: Lake, sources: Sequence[str], indicators: Sequence[str], pooled: Sequence[str]) -> pl.DataFrame:
    """One line for every row of every file and every indicator, in file order."""
    parts = []
    for source in sources:
        rows = (
            lake.scan(["raw", "instructions"], source)
            .select("source", "position", "part", "row_id")
            .collect()
            .sort("position", "part", maintain_order=True)
        )
        for indicator in indicators:
            key = ["scored", indicator]
            table = lake.scan(key) if indicator in pooled else lake.scan(key, source)
            values = table.select("row_id", "value", "status").unique("row_id", keep="first").collect()
            lines = rows.join(values, on="row_id", how="left", maintain_order="left")
            parts.append(
                lines.with_columns(pl.col("status").fill_null("not_scored"), indicator=pl.lit(indicator)).select(
                    SCORE_COLUMNS
                )
            )
    return pl.concat(parts)


def check_extension(path: Path) -> None:
    """Refuse, before the work, a file that could not be written after it."""
    if path.suffix not in WRITERS:
        raise LakeError(f"{path}: cannot write {path.suffix or 'a file without extension'}; use {', '.join(WRITERS)}")


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Parquet, CSV or JSON lines, by the extension."""
    check_extension(path)
    with replacing(path) as staged:
        WRITERS[path.suffix](frame, staged)


def finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not know: null stands in their place."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value


def write_subset(lake: Lake, recipe: str, path: Path) -> int:
    """The chosen records in rank order: the original record, plus what Sluice has to say of it. Returns how many."""
    if path.suffix != ".jsonl":
        raise LakeError(f"{path}: a subset is written as .jsonl")
    with replacing(path) as staged, staged.open("w", encoding="utf-8") as file:
        count = 0
        for record in subset_records(lake, recipe):
            file.write(json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def subset_records(lake: Lake, recipe: str) -> Iterator[dict[str, Any]]:
    """The records of a subset, each once, whatever its weight."""
    chosen = lake.scan(["selected", recipe]).sort("rank").collect()
    answers = new_answers(lake, recipe)
    for block in chosen.iter_slices(2000):
        yield from _records(lake, block, answers)


def new_answers(lake: Lake, recipe: str) -> dict[str, dict[str, Any]]:
    """The answers that replace a row's own, by row: where the recipe keeps rows for them (`auto_correct`)."""
    manifest, key = lake.manifest(["selected", recipe]), bsdetector.CORRECTED.split("/")
    if manifest is None or bsdetector.AUTO_CORRECT not in manifest.config["recipe"]["gates"]:
        return {}
    stays, now = lake.manifest(["scored", bsdetector.AUTO_CORRECT]), lake.manifest(key)
    read = manifest.inputs[f"scored/{bsdetector.AUTO_CORRECT}"]
    if not (stays and now and read == stays.data_version and stays.inputs[bsdetector.CORRECTED] == now.data_version):
        raise LakeError(f"{bsdetector.CORRECTED} is newer than the subset of {recipe}: choose again first")
    replaced = lake.scan(key).filter(pl.col("decision") == bsdetector.REPLACED).collect()
    return {line["row_id"]: line for line in replaced.iter_rows(named=True)}


def _records(lake: Lake, block: pl.DataFrame, answers: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    wanted = block.select("row_id", "source", "position", "part")
    places = []
    for source in wanted["source"].unique().sort():
        mine = wanted.filter(pl.col("source") == source).select("position", "part").lazy()
        there = lake.scan(["raw", "instructions"], source).select("source", "position", "part", "record", "messages")
        places.append(there.join(mine, on=["position", "part"], how="semi"))
    records = pl.concat(places).collect()
    for line in block.join(records, on=["source", "position", "part"], how="left", maintain_order="left").iter_rows(
        named=True
    ):
        record = json.loads(line["record"])
        if not isinstance(record, dict):
            record = {"messages": line["messages"], "record": record}
        if line["part"]:
            record = {**record, "messages": line["messages"]}
        said = {name: line[name] for name in SAID}
        if better := answers.get(line["row_id"]):
            record = bsdetector.with_correction(record, line["messages"], better["old"], better["new"])
            said["answer"] = bsdetector.lineage(better)
        yield {**record, "sluice": {**said, **({"part": line["part"]} if line["part"] else {})}}
