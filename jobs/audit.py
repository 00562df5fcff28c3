"""An audit by people, from the drawing of its rows to what their labels say of the data.

Here belongs what `sluice audit` does: which tables a design needs, the folder that raters are given, taking their files
in, and the report. Drawing and estimating stand in `methods.humans`, reading words and printing in `jobs.audit_cli`.

    FOLDER/page.html           what raters open; works without a network
    FOLDER/label_studio.json   ... or tasks and interface for Label Studio
    FOLDER/label_studio.xml
    FOLDER/argilla.json        ... or records and settings for Argilla
    FOLDER/argilla_settings.json
    FOLDER/guidelines.md
    FOLDER/key.json            which rows are planted, and what each row stands for: not for raters
    HOME/audits/ID.json        the same key, for the report
    HOME/labels/               files of labels, as they came
"""

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from assets.humans import AGREEMENT, LABELS, audit_keys, audits_folder, labels_folder
from assets.scored import key_of
from methods import catalog, readers
from methods.humans import exports, imports, rendering, sample, tasks
from methods.quality import human
from methods.quality.agreement import ALL
from resources.lake import Lake, LakeError, replacing

DEFAULT_INDICATORS = ("mtld", "spelling_error_rate", "flesch_kincaid_grade")
"""Asked where the sample goes by disagreement and nothing has been scored yet: cheap, and of different kinds."""
POOL, CLUSTERS = dg.AssetKey(["filtered", "pool"]), dg.AssetKey(["clustered", "kmeans"])
REPORT_TABLES = (LABELS, AGREEMENT)
WIDTH = 0.1
"""The report says how many rows one must read for an interval of ten points."""


@dataclass(frozen=True)
class Wish:
    """What is asked of a draw."""

    rows: int = 60
    by: str = "random"
    indicators: tuple[str, ...] = ()
    """One for the design `score`; those that are compared for `disagreement`."""
    planted: str = "0"
    """A number of rows, or a share of ``rows`` (``10%``)."""
    rankings: int = 0
    seed: int = 0
    title: str = "Audit"
    guidelines: Path | None = None


@dataclass(frozen=True)
class Drawn:
    """What was written."""

    audit: str
    folder: Path
    rows: int
    planted: int
    rankings: int
    cells: pl.DataFrame


# ---- drawing -------------------------------------------------------------------------------------------------------


def planted_rows(wish: Wish) -> int:
    """How many rows are planted beside the drawn ones."""
    text = wish.planted.strip()
    try:
        share = text.endswith("%")
        number = float(text.removesuffix("%")) / 100 if share else int(text)
    except ValueError as error:
        raise LakeError(f"--planted takes a number of rows (6) or a share of them (10%), got {text!r}") from error
    if not 0 <= number <= (1 if share else number):
        raise LakeError(f"--planted is at least 0, and at most 100%, got {text!r}")
    return round(number * wish.rows) if share else int(number)


def check(wish: Wish, folder: Path) -> None:
    """Refuse, before the work, what could not be done after it."""
    if wish.by not in sample.DESIGNS:
        raise LakeError(f"--by is one of {', '.join(sample.DESIGNS)}, got {wish.by!r}")
    if wish.rows < 1:
        raise LakeError("--rows is at least 1")
    if wish.by == "score" and len(wish.indicators) != 1:
        raise LakeError("--by score goes by one indicator: name it with --indicator")
    if wish.by == "disagreement" and len(wish.indicators) == 1:
        raise LakeError("--by disagreement compares indicators: name two or more, or none")
    planted_rows(wish)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LakeError(f"{folder} is there already: an audit that raters may have is not written over")
    if wish.guidelines and not wish.guidelines.is_file():
        raise LakeError(f"there are no guidelines {wish.guidelines}")


def compared(lake: Lake, wish: Wish, sources: Sequence[str]) -> tuple[str, ...]:
    """The indicators that a sample by disagreement compares: those named, or all that every source was scored by."""
    if wish.by != "disagreement" or wish.indicators:
        return wish.indicators
    scored = [
        indicator.id
        for indicator in catalog.INDICATORS
        if indicator.direction != "band"
        and indicator.family != "human"
        and (
            lake.exists(["scored", indicator.id])
            or (sources and all(lake.exists(["scored", indicator.id], source) for source in sources))
        )
    ]
    return tuple(scored) if len(scored) > 1 else DEFAULT_INDICATORS


def keys_for(wish: Wish, indicators: Sequence[str]) -> list[dg.AssetKey]:
    """The tables that a draw wants made. A judge's scores are read as they are, unless they were named: a sample must
    not spend money that nobody spoke of."""
    keys = [POOL, *([CLUSTERS] if wish.by == "cluster" else [])]
    made = [i for i in indicators if i in wish.indicators or catalog.indicator(i).cost != "llm"]
    return keys + [key_of(indicator) for indicator in made if wish.by in ("score", "disagreement")]


def draw(lake: Lake, wish: Wish, indicators: Sequence[str], folder: Path) -> Drawn:
    """Draw the rows and write the folder, and the key into the home; everything or nothing."""
    population = _population(lake, wish, indicators)
    drawn = sample.draw(population, wish.rows, wish.by, wish.seed)
    rest = population.filter(~pl.col("row_id").is_in(drawn.rows["row_id"].to_list()))
    wanted = planted_rows(wish)
    donors = rest if rest.height > wanted else population
    planted: list[dict[str, Any]] = []
    if wanted:
        donors = sample.draw(donors.select("row_id", "source"), 4 * wanted + 20, "random", wish.seed + 1).rows
        planted = sample.planted(_with_messages(lake, donors), wanted, wish.seed)
        there = set(population["row_id"])
        planted = [row for row in planted if row["row_id"] not in there]
    todo = tasks.rating_tasks(_with_messages(lake, drawn.rows), planted, wish.seed)
    rankings = tasks.ranking_tasks(_with_messages(lake, population), wish.rankings, wish.seed) if wish.rankings else ()
    todo += rankings
    guidelines = (wish.guidelines or tasks.GUIDELINES).read_text(encoding="utf-8")
    audit = tasks.Audit(tasks.audit_id(todo), wish.title, todo, guidelines)
    design = {"by": wish.by, "seed": wish.seed, "rows": wish.rows, "indicators": list(indicators)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    key = tasks.Key(audit.id, wish.title, now, design, drawn, tuple(planted))
    write(audit, key, folder)
    with replacing(audits_folder(lake) / f"{audit.id}.json") as staged:
        staged.write_text(key.dump(), encoding="utf-8")
    return Drawn(audit.id, folder, drawn.rows.height, len(planted), len(rankings), drawn.cells)


def write(audit: tasks.Audit, key: tasks.Key, folder: Path) -> None:
    """Write an audit's folder beside its place, and move it there when it is whole."""

    def as_json(data: Any) -> str:
        return json.dumps(data, indent=1, ensure_ascii=False)

    files = {
        "page.html": rendering.render(audit),
        "label_studio.json": as_json(exports.label_studio_tasks(audit)),
        "label_studio.xml": exports.label_studio_config(audit),
        "argilla.json": as_json(exports.argilla_records(audit)),
        "argilla_settings.json": as_json(exports.argilla_settings(audit)),
        "guidelines.md": audit.guidelines,
        "key.json": key.dump(),
    }
    folder = folder.absolute()
    staged = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.staged"
    try:
        staged.mkdir(parents=True)
        for name, text in files.items():
            (staged / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _population(lake: Lake, wish: Wish, indicators: Sequence[str]) -> pl.DataFrame:
    rows = lake.scan(["filtered", "pool"]).select("row_id", "source", "position", "part").collect()
    if wish.by == "cluster":
        labels = lake.scan(["clustered", "kmeans"]).select("row_id", "cluster").collect()
        return rows.join(labels, on="row_id", how="left", maintain_order="left")
    if wish.by not in ("score", "disagreement"):
        return rows
    values = rows.select("row_id")
    for indicator in indicators:
        table = _scores(lake, indicator, rows["source"].unique().sort().to_list())
        values = values.join(table, on="row_id", how="left", maintain_order="left")
    values = values.drop("row_id")
    if wish.by == "score":
        return rows.with_columns(values.to_series(0).alias("score"))
    directions = {indicator: catalog.indicator(indicator).direction for indicator in indicators}
    return rows.with_columns(sample.disagreement(values, directions))


def _scores(lake: Lake, indicator: str, sources: Sequence[str]) -> pl.DataFrame:
    key = ["scored", indicator]
    table = lake.scan(key) if lake.exists(key) else lake.scan_sources(key, sources)
    return table.select("row_id", pl.col("value").alias(indicator)).unique("row_id", keep="first").collect()


def _with_messages(lake: Lake, rows: pl.DataFrame) -> pl.DataFrame:
    """``row_id, source, messages`` of these rows, in their order."""
    ids = rows["row_id"].to_list()
    places = [
        lake.scan(["filtered", "instructions"], source)
        .select("row_id", "messages")
        .filter(pl.col("row_id").is_in(ids))
        .unique("row_id", keep="first")
        for source in rows["source"].unique().sort()
    ]
    said = pl.concat(places).unique("row_id", keep="first").collect()
    return rows.select("row_id", "source").join(said, on="row_id", how="left", maintain_order="left")


# ---- taking labels in ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """What became of a file of labels."""

    file: Path
    labels: int
    problems: pl.DataFrame
    stored: Path | None
    """Where it lies now; None if nothing in it could be read."""
    new: bool
    unknown: int
    """Labels of rows that no source and no audit has."""


def take(lake: Lake, file: Path) -> Taken:
    """Put a file into the folder of labels, under a name that says its content; the same file twice is one."""
    if not file.is_file():
        raise LakeError(f"there is no file {file}")
    content = file.read_bytes()
    read = imports.read_text(file.name, content)
    if read.labels.is_empty():
        return Taken(file, 0, read.problems, None, False, 0)
    mark = readers.content_hash(file)[:12]
    folder = labels_folder(lake)
    there = next((path for path in imports.label_files(folder) if path.stem.endswith(f"-{mark}")), None)
    stored = there or folder / f"{file.stem[:60].lstrip('.~') or 'labels'}-{mark}{file.suffix.lower()}"
    if there is None:
        with replacing(stored) as staged:
            staged.write_bytes(content)
    return Taken(file, read.labels.height, read.problems, stored, there is None, _unknown(lake, read.labels))


def _unknown(lake: Lake, labels: pl.DataFrame) -> int:
    ids = labels["row_id"].unique()
    known = {row["row_id"] for key in audit_keys(lake)[0] for row in key.planted}
    for source in lake.partitions(["raw", "instructions"]):
        rows = lake.scan(["raw", "instructions"], source).select("row_id").filter(pl.col("row_id").is_in(ids.to_list()))
        known |= set(rows.collect()["row_id"])
    return labels.filter(~pl.col("row_id").is_in(list(known))).height


# ---- the report ----------------------------------------------------------------------------------------------------


def report(lake: Lake, minimum: int = 1) -> dict[str, Any]:
    """What people's labels say: agreement, and for each audit the planted rows that passed, and the noise by source.

    ``minimum`` is the least number of raters for a verdict on a row. Plain data, without a row's text.
    """
    labels = lake.scan(["humans", "labels"]).filter("current").collect()
    agreement = lake.scan(["humans", "agreement"]).filter(pl.col("raters") == ALL).collect()
    audits, wrong = audit_keys(lake)
    return {
        "labels": labels.height,
        "raters": labels["rater"].n_unique(),
        "rows": labels["row_id"].n_unique(),
        "minimum raters": minimum,
        "agreement": agreement.drop("raters").to_dicts(),
        "alarms": sorted(agreement.filter("alarm")["dimension"].to_list()),
        "audits": [_of_audit(key, labels, minimum) for key in audits],
        "problems": wrong,
    }


def _of_audit(key: tasks.Key, labels: pl.DataFrame, minimum: int) -> dict[str, Any]:
    planted = [row["row_id"] for row in key.planted]
    mine = labels.filter(pl.col("row_id").is_in([*key.sample.rows["row_id"].to_list(), *planted]))
    verdicts = human.verdicts(mine, minimum)
    noise = sample.noise(key.sample.rows, key.sample.cells, verdicts)
    raters = mine["rater"].unique().sort().to_list()
    passed = {
        name: sample.false_positives(_accepted(planted, human.verdicts(said, least)))
        for name, said, least in [
            (ALL, mine, minimum),
            *((rater, mine.filter(pl.col("rater") == rater), 1) for rater in raters),
        ]
    }
    return {
        "audit": key.audit,
        "title": key.title,
        "made_at": key.made_at,
        "design": dict(key.design),
        "raters": raters,
        "verdicts": verdicts.group_by("status").len("rows").sort("status").to_dicts(),
        "planted": passed,
        "noise": [{**line, "rows for ten points": _needed(line)} for line in noise.to_dicts()],
    }


def _accepted(planted: Sequence[str], verdicts: pl.DataFrame) -> pl.Series:
    rows = pl.DataFrame({"row_id": planted}, schema={"row_id": pl.String})
    return rows.join(verdicts, on="row_id", how="left", maintain_order="left")["accepted"]


def _needed(line: Mapping[str, Any]) -> int | None:
    """Rows to read, drawn alike, for an interval of `WIDTH`, if the share stays what it seems to be."""
    if line["value"] is None:
        return None
    return sample.rows_needed(WIDTH, line["value"], line["population"])
