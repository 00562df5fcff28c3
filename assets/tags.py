"""Tags that a judge gave, brought to one vocabulary, and each row's tags by it.

Here belong the two tables, apart as `clustered` has them: what became of each tag (`tagged/instag_vocabulary`), and
each row's tags (`tagged/instag`). The judge's own words are `evidence/judgments_instag`, the steps of the normalisation
`methods.quality.tag_normalisation`. Tags that sources bring are read off their records (`methods.tags`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from assets import metadata
from assets.embedded import encode_with
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods.kinds import OK
from methods.quality import tag_normalisation as science
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource

VOCABULARY, TAGS = dg.AssetKey(["tagged", "instag_vocabulary"]), dg.AssetKey(["tagged", "instag"])
JUDGMENTS = "evidence/judgments_instag"
NOT_TAGGED = "not_tagged"
"""The status of a row of the pool that the judge was never asked about."""
TAGS_SCHEMA = pl.Schema(
    {"row_id": pl.String(), "status": pl.String(), "raw": pl.List(pl.String()), "tags": pl.List(pl.String())}
)
"""One line for each row of the pool; ``raw`` and ``tags`` are null where the judge gave none."""


def params_of(settings: Settings) -> dict[str, Any]:
    """The parameters of the normalisation: the defaults, and what a person set under ``instag_vocabulary``."""
    wanted = settings.params.get(VOCABULARY.path[-1], {})
    if unknown := sorted(set(wanted) - set(science.DEFAULTS)):
        there = ", ".join(science.DEFAULTS)
        raise ValueError(f"instag_vocabulary has no parameter {', '.join(unknown)}; there are: {there}")
    return {**science.DEFAULTS, **wanted}


@dg.asset(
    key=VOCABULARY,
    group_name="tagged",
    deps=[same_source("filtered/pool"), whole_pool("filtered/instructions"), whole_pool(JUDGMENTS)],
    code_version="1",
    kinds={"parquet"},
    check_specs=check_specs(VOCABULARY.path),
    description="What became of each tag that the judge gave: rare ones go, ways of writing are made one, names that "
    "mean nearly the same are joined, and so are tags that always stand beside another. Each change has its reason.",
)
def instag_vocabulary(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Bring the pool's tags to one vocabulary."""
    step = Step(context, lake, settings)
    pool = step.pool(VOCABULARY)
    params = params_of(settings)

    def compute() -> Result:
        rows = raw_tags(step, pool)
        found = science.normalise(rows["raw"], encode_with(lake, encoder, context.log.info), **params)
        counts, table = found.counts, found.vocabulary
        facts = {"pool": pool, "rows tagged": rows.height - rows["raw"].null_count()}
        facts |= {f"tags: {name}": counts[name] for name in ("raw", *science.STEPS)}
        if counts["raw"] and not counts["association"]:
            context.log.warning(
                f"no tag is left of {counts['raw']}: each stands in fewer than {params['min_count']} rows. With few "
                "rows set min_count (parameters of instag_vocabulary) lower"
            )
        return Result(table, facts, shown(table, counts), {"raw": [(JUDGMENTS, "fields")]})

    yield from step.make(VOCABULARY, {**params, "encoder": encoder.identity()}, compute, pool)


@dg.asset(
    key=TAGS,
    group_name="tagged",
    deps=[
        same_source("tagged/instag_vocabulary"),
        same_source("filtered/pool"),
        whole_pool("filtered/instructions"),
        whole_pool(JUDGMENTS),
    ],
    code_version="1",
    kinds={"parquet"},
    check_specs=check_specs(TAGS.path),
    description="The tags of every row of the pool, as the judge wrote them and by the vocabulary.",
)
def instag(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Apply the vocabulary to the pool."""
    step = Step(context, lake, settings)
    pool = step.pool(TAGS)

    def compute() -> Result:
        rows, vocabulary = raw_tags(step, pool), step.scan("tagged/instag_vocabulary").collect()
        table = rows.with_columns(science.applied(rows["raw"], vocabulary)).select(list(TAGS_SCHEMA))
        many = table["tags"].list.len()
        facts = {
            "pool": pool,
            "rows missing": step.scan("filtered/pool").select(pl.len()).collect().item() - table.height,
            "share not ok": float((table["status"] != OK).mean() or 0.0),  # type: ignore[arg-type]
            "tags that the vocabulary lacks": science.unknown(rows["raw"], vocabulary),
            "rows left without a tag": int((many == 0).sum()),
            "tags": table["tags"].explode(empty_as_null=False, keep_nulls=False).n_unique(),
        }
        statuses = table.group_by("status").agg(rows=pl.len()).sort("rows", "status", descending=[True, False])
        about = {"tags of a row": metadata.histogram(many, "tags of a row"), "status": metadata.table(statuses)}
        return Result(table, facts, about, {"tags": [("tagged/instag_vocabulary", "tag")]})

    yield from step.make(TAGS, {}, compute, pool)


def raw_tags(step: Step, pool: Sequence[str]) -> pl.DataFrame:
    """``row_id``, ``status`` and ``raw`` of every row of the pool, in its order."""
    ids = step.scan("filtered/pool").select("row_id").collect()
    given = step.scan(JUDGMENTS, pool).select("row_id", "status", "fields").unique("row_id", keep="first").collect()
    raw = [_tags(status, fields) for status, fields in given.select("status", "fields").iter_rows()]
    lines = given.select("row_id", "status", raw=pl.Series(raw, dtype=pl.List(pl.String)))
    found = ids.join(lines, on="row_id", how="left", maintain_order="left")
    return found.with_columns(pl.col("status").fill_null(NOT_TAGGED))


def _tags(status: str, fields: Sequence[str]) -> list[str] | None:
    return json.loads(fields[0])["tags"] if status == OK else None


def shown(vocabulary: pl.DataFrame, counts: Mapping[str, int]) -> dict[str, Any]:
    """How many tags each step left, the most frequent ones, and merges to look at."""
    left = pl.DataFrame({"step": list(counts), "different tags": list(counts.values())})
    names = vocabulary.drop_nulls("tag").group_by("tag").agg(written=pl.len(), rows=pl.col("rows").sum())
    merged = vocabulary.filter(pl.col("step").is_in(["semantic", "association"]))
    lines = merged.select("raw", "rows", "tag", why=pl.col("why").list.last())
    return {
        "steps": metadata.table(left),
        "most frequent": metadata.table(names.sort("rows", "tag", descending=[True, False]).head(40)),
        "merged by meaning or company": metadata.table(lines.head(40), 160),
    }


ASSETS = (instag_vocabulary, instag)
