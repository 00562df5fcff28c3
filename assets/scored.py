"""Stage 6: every indicator of the catalogue as an asset of its own.

Here belongs turning `methods.catalog.INDICATORS` into assets: one subsettable multi-asset for all indicators that
need the same evidence, so that a family costs one step and one scan while each indicator keeps its own key, code
version, lineage and checks. An indicator is added in the catalogue, and nowhere else.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, equations, metadata
from assets.coverage import coverage
from assets.incremental import BLOCK
from assets.partitions import SOURCES, same_source, whole_pool
from assets.step import STORED, Result, Step, check_specs
from assets.views import COPY, pool_view
from methods import catalog
from methods.kinds import Indicator, Pool
from methods.rows import PROMPT
from resources.encoder import Encoder
from resources.lake import Manifest, RowCache
from resources.settings import Settings
from resources.tables import LakeResource


def key_of(indicator_id: str) -> dg.AssetKey:
    """The asset of an indicator."""
    return dg.AssetKey(["scored", indicator_id])


def _spec(indicator: Indicator) -> dg.AssetSpec:
    pooled = indicator.scope == "pool"
    partitioned_need = whole_pool if pooled else same_source
    tables = tables_of(indicator.needs)
    deps = [same_source(need) if need in UNPARTITIONED else partitioned_need(need) for need in tables]
    if pooled:
        deps.append(same_source("filtered/pool"))
    return dg.AssetSpec(
        key_of(indicator.id),
        deps=deps,
        group_name=f"scored_{indicator.axis}",
        code_version=indicator.version,
        kinds={"polars"},
        skippable=True,
        tags={"axis": indicator.axis, "family": indicator.family, "cost": indicator.cost},
        automation_condition=automation.REFRESH if pooled else None,
        description=_description(indicator),
        metadata={
            "direction": indicator.direction,
            "paper": indicator.paper,
            "survey section": indicator.section,
            "parameters": dg.MetadataValue.json(dict(indicator.params)),
            "equation in LaTeX": indicator.equation,
            **STORED,
        },
    )


def tables_of(needs: Sequence[str]) -> tuple[str, ...]:
    """The assets among the needs; ``encode`` is a service and no table."""
    return tuple(need for need in needs if "/" in need)


UNPARTITIONED = frozenset(
    {"evidence/neighbours", "clustered/kmeans", "clustered/kmeans_model", "filtered/pool", "filtered/duplicates"}
    | {"evidence/token_statistics_experienced", "mods/seed", "mods/answers"}
    | {"tuned/instruction_mining_rows", "evidence/cape"}
    | {"judged/strengths", "judged/rated", "tuned/distilled", "humans/ratings"}
    | {"tagged/instag", "corrected/answers"}
)
"""Evidence that is kept for the pool as a whole."""


BETTER = {"higher": "Higher is better.", "lower": "Lower is better.", "band": "Neither end is better by itself."}


def _description(indicator: Indicator) -> str:
    """What the page says first: what the number means, the equation, and the method in words."""
    words = (indicator.compute.__doc__ or "").strip().split("\n\n")[0]
    return (
        f"**{indicator.title}**. {indicator.meaning} {BETTER[indicator.direction]}\n\n"
        f"    {equations.readable(indicator.equation)}\n\n{words}\n\n"
        f"{indicator.paper}; survey section {indicator.section}"
    )


def build_assets(indicators: Sequence[Indicator]) -> tuple[dg.AssetsDefinition, ...]:
    """One multi-asset for each set of evidence."""
    families: dict[tuple[str, tuple[str, ...]], list[Indicator]] = defaultdict(list)
    for indicator in indicators:
        families[indicator.scope, indicator.needs].append(indicator)
    return tuple(
        _of_rows(needs, members) if scope == "row" else _of_pool(needs, members)
        for (scope, needs), members in sorted(families.items())
    )


def _name(scope: str, needs: Sequence[str]) -> str:
    return f"scored_{scope}_" + "_".join(need.replace("/", "_") for need in needs)


# ---- indicators of a row alone -------------------------------------------------------------------------------------


def _of_rows(needs: tuple[str, ...], members: Sequence[Indicator]) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=_name("row", needs),
        partitions_def=SOURCES,
        can_subset=True,
        specs=[_spec(member) for member in members],
        check_specs=[spec for member in members for spec in check_specs(key_of(member.id).path, SOURCES)],
    )
    def scored(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
        step = Step(context, lake, settings)
        todo: list[tuple[Indicator, dict[str, Any], Manifest]] = []
        made_with = step.made_with(needs)
        for member in members:
            key = key_of(member.id)
            if key not in context.selected_asset_keys:
                continue
            params = {**member.params, **settings.params.get(member.id, {})}
            config = {**params, MADE_WITH: made_with}
            draft = step.draft(key, config)
            stored = step.up_to_date(key, draft)
            if stored:
                yield from step.unchanged(key, stored)
            else:
                todo.append((member, params, draft))
        yield from _score_rows(step, needs, todo)

    return scored


def _score_rows(
    step: Step, needs: Sequence[str], todo: list[tuple[Indicator, dict[str, Any], Manifest]]
) -> Iterator[Any]:
    """One scan over the evidence for all indicators; rows scored before by the same code are not scored again.

    The scores of a finished block go to disk, so that memory holds a block, and of the rest one indicator at a time.
    """
    if not todo:
        return
    evidence = step.scan(needs[0])
    for need in needs[1:]:
        evidence = evidence.join(
            step.scan(need).drop("source", "status", strict=False), on="row_id", how="left", maintain_order="left"
        )
    ids = evidence.select("row_id").collect()
    known = {member.id: step.previous(key_of(member.id), draft.config) for member, _, draft in todo}
    rest = ids.join(_in_all(ids, known.values()), on="row_id", how="anti")
    block_scores = RowCache(step.lake.staging_path(key_of(todo[0][0].id).path, step.partition))
    try:
        progress = step.progress(f"scoring by {len(todo)} indicators", rest.height)
        block_scores.append(_block_scores(evidence.head(0).collect(), todo))  # so that there are columns to read
        for block in _batches(evidence.join(rest.lazy(), on="row_id", how="semi", maintain_order="left")):
            block_scores.append(_block_scores(block, todo))
            progress.advance(block.height)
        counts = {"rows computed": rest.height, "rows reused": ids.height - rest.height, **coverage(step)}
        for member, _, draft in todo:
            table = _all_scores(ids, member, block_scores, known[member.id])
            yield from step.publish(key_of(member.id), _result(step, member, table, needs, counts), draft)
    finally:
        shutil.rmtree(block_scores.folder, ignore_errors=True)


def _in_all(ids: pl.DataFrame, tables: Iterable[pl.LazyFrame | None]) -> pl.DataFrame:
    """The ids that stand in every one of the tables."""
    for table in tables:
        ids = (
            ids.clear() if table is None else ids.lazy().join(table.select("row_id"), on="row_id", how="semi").collect()
        )
    return ids


def _batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    return iter(frame.collect_batches(chunk_size=BLOCK, maintain_order=True))


def _block_scores(block: pl.DataFrame, todo: Sequence[tuple[Indicator, dict[str, Any], Manifest]]) -> pl.DataFrame:
    """Value and status of each indicator beside each other."""
    scores = [
        member.compute(block, **params).select(
            pl.col("value").alias(f"{member.id} value"), pl.col("status").alias(f"{member.id} status")
        )
        for member, params, _ in todo
    ]
    return pl.concat([block.select("row_id"), *scores], how="horizontal")


def _all_scores(ids: pl.DataFrame, member: Indicator, new: RowCache, known: pl.LazyFrame | None) -> pl.DataFrame:
    """One indicator's scores of all rows, in order: the new ones first, then those known before."""
    fresh = new.scan()
    assert fresh is not None
    scores = [fresh.select("row_id", value=f"{member.id} value", status=f"{member.id} status")]
    if known is not None:
        scores.append(known.select("row_id", "value", "status"))
    merged = pl.concat(scores).unique("row_id", keep="first")
    return ids.lazy().join(merged, on="row_id", how="left", maintain_order="left").collect()


MADE_WITH = "made with"
"""Beside the parameters, a score's configuration names the code and models of its evidence: with another model, rows
that were scored before are scored again."""


# ---- indicators of a row in its pool -------------------------------------------------------------------------------


def _of_pool(needs: tuple[str, ...], members: Sequence[Indicator]) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=_name("pool", needs),
        can_subset=True,
        specs=[_spec(member) for member in members],
        check_specs=[spec for member in members for spec in check_specs(key_of(member.id).path)],
    )
    def scored(
        context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
    ) -> Iterator[Any]:
        step = Step(context, lake, settings)
        view: Pool | None = None
        for member in members:
            key = key_of(member.id)
            if key not in context.selected_asset_keys:
                continue
            pool = step.pool(key)
            params = {**member.params, **settings.params.get(member.id, {})}
            config = {**params, "encoder": encoder.identity()} if "encode" in needs else params
            draft = step.draft(key, config, pool)
            stored = step.up_to_date(key, draft)
            if stored:
                yield from step.unchanged(key, stored)
                continue
            view = view or pool_view(lake, encoder, pool, needs, settings.all_rows, context.log.info)
            table = pl.concat([view.row_ids.to_frame("row_id"), member.compute(view, **params)], how="horizontal")
            table = table.filter(~pl.col("row_id").str.starts_with(COPY))
            yield from step.publish(
                key, _result(step, member, table, needs, {"pool": pool, "rows computed": table.height}), draft
            )

    return scored


# ---- what both show ------------------------------------------------------------------------------------------------


def _result(step: Step, member: Indicator, table: pl.DataFrame, needs: Sequence[str], counts: dict[str, Any]) -> Result:
    table = table.with_columns(pl.col("status").fill_null("not_scored"))
    ok = table["status"] == "ok"
    value = table["value"]
    facts = {
        **counts,
        "rows missing": int((table["status"] == "not_scored").sum()),
        "values without ok": int((ok == value.is_null()).sum()),
        "values not finite": int((~value.drop_nulls().is_finite()).sum()),
        "share not ok": 1.0 - int(ok.sum()) / max(len(ok), 1),
        "mean": value.mean(),
        "median": value.median(),
        "drift": _drift(step, member, value),
    }
    shown = {
        "distribution": metadata.histogram(
            value, f"{member.id}, {member.direction} is better" if member.direction != "band" else member.id
        ),
        **_extremes(step, member, table),
        "status": metadata.table(
            table.group_by("status").agg(pl.len().alias("rows")).sort("rows", "status", descending=[True, False])
        ),
    }
    return Result(table.select("row_id", "value", "status"), facts, shown, {"value": _reads(step, needs)})


def _reads(step: Step, needs: Sequence[str]) -> list[tuple[str, str]]:
    """The columns of evidence that an indicator may read: all but the keys."""
    pairs = []
    for need in tables_of(needs):
        place = step.partition or next(iter(step.lake.partitions(need.split("/"))), None)
        path = need.split("/")
        if step.lake.exists(path, place if step.is_partitioned(path) else None):
            names = step.lake.scan(path, place if step.is_partitioned(path) else None).collect_schema().names()
            pairs += [(need, name) for name in names if name not in {"row_id", "source", "status"}]
    return pairs


def _extremes(step: Step, member: Indicator, table: pl.DataFrame) -> dict[str, Any]:
    """The best and the worst rows with their text: a person sees at once whether the numbers mean anything."""
    best_first = member.direction != "lower"
    ranked = table.filter(pl.col("value").is_not_null()).sort("value", "row_id", descending=[best_first, False])
    names = ("highest", "lowest") if member.direction == "band" else ("best", "worst")
    shown = {}
    for name, rows in zip(names, (ranked.head(5), ranked.tail(5).reverse()), strict=True):
        texts = _texts(step, rows["row_id"])
        shown[f"{name} rows"] = metadata.table(
            rows.join(texts, on="row_id", how="left", maintain_order="left").select(
                "value", metadata.texts("prompt", "response").alias("prompt → response  [row_id]")
            ),
            320,
        )
    return shown


def _texts(step: Step, ids: pl.Series) -> pl.DataFrame:
    sources = [step.partition] if step.partition else step.lake.partitions(["filtered", "instructions"])
    names = ["row_id", "instruction", "input", "response"]
    frames = [
        step.lake.scan(["filtered", table], source).select(names)
        for source in sources
        for table in ("instructions", "dropped")
        if step.lake.exists(["filtered", table], source)
    ]
    rows = pl.concat(frames).filter(pl.col("row_id").is_in(ids.to_list())).unique("row_id", keep="first")
    return rows.select("row_id", prompt=PROMPT, response=pl.col("response")).collect()


def _drift(step: Step, member: Indicator, value: pl.Series) -> float | None:
    """Kolmogorov-Smirnov distance to the stored version: the largest gap between the two distribution functions."""
    key = key_of(member.id)
    if not step.lake.exists(key.path, step.partition):
        return None
    old = np.sort(step.lake.scan(key.path, step.partition).select("value").collect()["value"].drop_nulls().to_numpy())
    new = np.sort(value.drop_nulls().to_numpy())
    if len(old) == 0 or len(new) == 0:
        return None
    points = np.concatenate([old, new])
    return float(
        np.abs(
            np.searchsorted(old, points, side="right") / len(old)
            - np.searchsorted(new, points, side="right") / len(new)
        ).max()
    )


ASSETS = build_assets(catalog.INDICATORS)
