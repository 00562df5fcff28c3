"""What people said: their labels as a table, whether they agree, and whether the indicators agree with them.

Here belongs reading the home's folder ``labels`` and making tables of it. The formats are those of
`methods.humans.imports`, the numbers those of `methods.quality`. Labels are evidence like any other: indicators and
recipes read `humans/ratings`. Everything is made where somebody asks for it; the sensor `labels` keeps it fresh.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import metadata
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods import catalog, readers
from methods.humans import imports
from methods.humans.tasks import BadKey, Key
from methods.kinds import Indicator
from methods.quality import agreement, calibration, human
from methods.quality.calibration import LEAST_ROWS
from resources.fingerprint import fingerprint
from resources.lake import Lake
from resources.settings import Settings
from resources.tables import LakeResource

LABELS = dg.AssetKey(["humans", "labels"])
RATINGS = dg.AssetKey(["humans", "ratings"])
AGREEMENT = dg.AssetKey(["humans", "agreement"])
CALIBRATION = dg.AssetKey(["humans", "calibration"])
LIKERT = frozenset(dimension.name for dimension in human.DIMENSIONS if dimension.kind == "likert")
CALIBRATION_DEFAULTS = {"least": LEAST_ROWS, "resamples": 300, "seed": 0}
AGREEMENT_DEFAULTS = {"resamples": 500, "seed": 0}


def labels_folder(lake: Lake) -> Path:
    """The folder of files of labels."""
    return lake.home / "labels"


def audits_folder(lake: Lake) -> Path:
    """The folder of keys of audits: which rows were drawn, and which were planted."""
    return lake.home / "audits"


def audit_keys(lake: Lake) -> tuple[list[Key], list[str]]:
    """The keys of all audits, oldest first, and what is wrong with those that cannot be read."""
    found, wrong = [], []
    for path in sorted(audits_folder(lake).glob("[!.]*.json")):
        try:
            found.append(Key.load(path))
        except BadKey as error:
            wrong.append(str(error))
    return sorted(found, key=lambda key: (key.made_at, key.audit)), wrong


def _set(settings: Settings, name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    given = settings.params.get(name, {})
    if unknown := sorted(set(given) - set(defaults)):
        raise ValueError(f"{name} has no {', '.join(unknown)}; there are {', '.join(defaults)}")
    return {**defaults, **given}


# ---- labels --------------------------------------------------------------------------------------------------------


@dg.asset(
    key=LABELS,
    group_name="humans",
    code_version="1",
    kinds={"polars"},
    check_specs=check_specs(LABELS.path),
    description="Every label that people gave, from the files of the home's folder `labels`: one label a line (row_id, "
    "rater, dimension, value, timestamp), or exports of Label Studio and Argilla. A rater's latest label for a row and "
    "dimension is `current`; the earlier ones are history. Lines that could not be read are told by file and line, and "
    "hold nobody up.",
)
def labels(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Read the files of labels."""
    step = Step(context, lake, settings)
    folder = labels_folder(step.lake)
    files = imports.label_files(folder)
    hashes = {f"labels/{path.name}": readers.content_hash(path) for path in files}

    def compute() -> Result:
        read = imports.read_folder(folder)
        table = human.with_current(read.labels)
        now = table.filter("current")
        facts = {
            "files": len(files),
            "labels that count": now.height,
            "history": table.height - now.height,
            "said twice": read.labels.height - table.height,
            "raters": now["rater"].n_unique(),
            "rows labelled": now["row_id"].n_unique(),
            "bad lines": read.problems.height,
        }
        shown = {
            "dimensions": metadata.table(
                now.group_by("dimension")
                .agg(
                    labels=pl.len(),
                    rows=pl.col("row_id").n_unique(),
                    raters=pl.col("rater").n_unique(),
                    mean=pl.col("value").mean(),
                )
                .sort("dimension")
            ),
            "bad lines of files": metadata.table(read.problems),
        }
        return Result(table, facts, shown)

    yield from step.make(LABELS, {}, compute, None, hashes)


@dg.asset(
    key=RATINGS,
    group_name="humans",
    deps=[same_source("humans/labels")],
    code_version="1",
    kinds={"polars"},
    check_specs=check_specs(RATINGS.path),
    description="The labels that count, one line a row: what indicators read.",
)
def ratings(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Put the labels of each row beside each other."""
    step = Step(context, lake, settings)

    def compute() -> Result:
        table = human.ratings(step.scan("humans/labels").collect())
        raters = table.select(pl.col("raters").list.n_unique()).to_series()
        return Result(table, {}, {"raters a row": metadata.histogram(raters, "raters of a row")})

    yield from step.make(RATINGS, {}, compute)


# ---- agreement -----------------------------------------------------------------------------------------------------


@dg.asset(
    key=AGREEMENT,
    group_name="humans",
    deps=[same_source("humans/labels")],
    code_version="1",
    kinds={"polars"},
    check_specs=check_specs(AGREEMENT.path),
    description="Whether raters agree, for each dimension: Krippendorff's alpha, Fleiss' kappa, Cohen's kappa of "
    "each two raters, with 95 % intervals over rows. An alpha below "
    f"{agreement.ALARM} (ordinal for scales, nominal for yes and no) raises the alarm. What cannot be told has no "
    "value and says why. Planted rows are left out: to agree on those is easy.",
)
def agreement_of_raters(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Measure the agreement of the raters."""
    step = Step(context, lake, settings)
    params = _set(settings, "agreement", AGREEMENT_DEFAULTS)
    keys, wrong = audit_keys(step.lake)
    for problem in wrong:
        context.log.warning(problem)
    planted = sorted({row["row_id"] for key in keys for row in key.planted})

    def compute() -> Result:
        said = step.scan("humans/labels").filter("current", pl.col("group").is_null()).collect()
        said = said.filter(~pl.col("row_id").is_in(planted))
        table = agreement.agreement_table(said, LIKERT, int(params["resamples"]), int(params["seed"]))
        alarms = table.filter("alarm")
        facts = {"dimensions": table["dimension"].n_unique(), "alarms": alarms.height}
        shown = {
            "all raters": metadata.table(
                table.filter(pl.col("raters") == agreement.ALL).drop("raters", "alarm"), most=80
            ),
            "too little agreement": metadata.table(alarms.select("dimension", "measure", "value", "low", "high")),
        }
        return Result(table, facts, shown)

    yield from step.make(AGREEMENT, {**params, "planted": fingerprint(planted)}, compute)


# ---- calibration ---------------------------------------------------------------------------------------------------


@dg.asset(
    key=CALIBRATION,
    group_name="humans",
    deps=[same_source("humans/ratings"), whole_pool("filtered/instructions")],
    code_version="1",
    kinds={"polars"},
    check_specs=check_specs(CALIBRATION.path),
    description="Whether each indicator that was scored so far says what people say, for each scale that people used "
    f"on at least {LEAST_ROWS} of its rows: rank correlations with 95 % intervals, agreement at thresholds, bias by "
    "length, position and source, and the mapping onto the people's scale with its error on rows that it never saw.",
)
def calibration_of_indicators(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings
) -> Iterator[Any]:
    """Hold every indicator against the labels."""
    step = Step(context, lake, settings)
    params = _set(settings, "calibration", CALIBRATION_DEFAULTS)
    pool = step.pool(CALIBRATION)
    places = scored_places(step.lake, pool)
    versions = {}
    for indicator, sources in places:
        for source in sources:
            manifest = step.lake.manifest(["scored", indicator.id], source)
            if manifest:
                versions[f"scored/{indicator.id}" + (f"[{source}]" if source else "")] = manifest.data_version

    def compute() -> Result:
        said = human.labels_of(step.scan("humans/ratings"))
        known = _known_rows(step, pool, said["row_id"].unique())
        people = {name: _people(said, name) for name in sorted(set(said["dimension"]) & LIKERT)}
        lines, few = [], 0
        progress = step.progress("holding indicators against labels", len(places), "indicators")
        for indicator, sources in places:
            scores = _scores(step.lake, indicator, sources, known["row_id"])
            for name, told in people.items():
                rows = known.join(scores, on="row_id").join(told, on="row_id")
                found = calibration.calibrate(
                    rows, indicator.direction, int(params["resamples"]), int(params["seed"]), int(params["least"])
                )
                if found["status"] == calibration.TOO_FEW_ROWS:
                    few += 1
                else:
                    lines.append({"indicator": indicator.id, "dimension": name, **found})
            progress.advance(1)
        table = calibration.calibration_frame(lines)
        facts = {
            "pool": pool,
            "indicators held against labels": table["indicator"].n_unique(),
            "left out for too few rows": few,
            "labelled rows of the pool": known.height,
        }
        columns = ["indicator", "dimension", "n_rows", "spearman", "spearman_low", "spearman_high", "kappa_50"]
        columns += ["length_bias", "error", "error_of_mean"]
        ordered = table.sort(pl.col("spearman").abs(), "indicator", descending=[True, False], nulls_last=True)
        return Result(table, facts, {"nearest to people": metadata.table(ordered.select(columns))})

    yield from step.make(CALIBRATION, params, compute, pool, versions)


def scored_places(lake: Lake, pool: list[str]) -> list[tuple[Indicator, list[str | None]]]:
    """The indicators that were scored so far, with the sources of the pool that they were scored for (or None)."""
    found: list[tuple[Indicator, list[str | None]]] = []
    for indicator in catalog.INDICATORS:
        key = ["scored", indicator.id]
        sources: list[str | None] = [source for source in pool if lake.exists(key, source)]
        if lake.exists(key):
            sources = [None]
        if sources and indicator.family != "human":
            found.append((indicator, sources))
    return found


def _known_rows(step: Step, pool: list[str], ids: pl.Series) -> pl.DataFrame:
    """Length, position and source of the labelled rows of the pool, each once."""
    rows = step.scan("filtered/instructions", pool).filter(pl.col("row_id").is_in(ids.to_list()))
    length = pl.col("response").str.len_chars()
    return (
        rows.select("row_id", "source", "position", length=length)
        .unique("row_id", keep="first")
        .collect()
        .sort("row_id")
    )


def _people(said: pl.DataFrame, dimension: str) -> pl.DataFrame:
    """What the raters of each row say together, however few: reversed items flipped."""
    return human.aggregate(said, dimension, "mean", minimum=1).select("row_id", "n", human="value")


def _scores(lake: Lake, indicator: Indicator, sources: list[str | None], ids: pl.Series) -> pl.DataFrame:
    tables = [lake.scan(["scored", indicator.id], source).select("row_id", judge="value") for source in sources]
    found = pl.concat(tables).filter(pl.col("row_id").is_in(ids.to_list())).unique("row_id", keep="first")
    return found.with_columns(pl.col("judge").cast(pl.Float64).fill_null(np.nan)).collect()


ASSETS = (labels, ratings, agreement_of_raters, calibration_of_indicators)
