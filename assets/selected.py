"""Stage 7: every recipe as an asset that depends on exactly the indicators that it names.

Here belongs turning the recipes into assets, gathering what a recipe reads, and telling what it chose. How rows are
chosen is `methods.selection`. A recipe is added as a file in ``jobs/recipes``, and nowhere else.

Beside each subset lies its ledger: the decision on *every* row of the pool, and the reason. It is what `sluice
explain` reads.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata
from assets.embedded import vectors_of
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from assets.targets import target_file, target_of
from assets.views import clusters_of, tags_in_order, texts_in_order
from methods import catalog
from methods.kinds import Target
from methods.selection import choose as science
from methods.selection.recipe import SOURCE, Recipe, budget_rows
from resources.encoder import Encoder
from resources.lake import Lake, LakeError
from resources.settings import Settings
from resources.tables import LakeResource

SELECTION_VERSION = "2"
SEMANTIC_PAIRS = "evidence/semantic_pairs"


def key_of(recipe: Recipe) -> dg.AssetKey:
    """The asset of a recipe's subset."""
    return dg.AssetKey(["selected", recipe.name])


def ledger_path(name: str) -> tuple[str, ...]:
    """Where the ledger of a recipe lies in the lake."""
    return ("selected", "ledgers", name)


def deps_of(recipe: Recipe) -> list[dg.AssetDep]:
    """What a recipe reads: the rows, the duplicate pairs, its indicators, and what its selector needs."""
    sources = list(recipe.sources) or None
    deps = [whole_pool("filtered/instructions", sources), same_source("filtered/duplicates")]
    for name in recipe.indicators:
        indicator = catalog.indicator(name)
        deps.append(
            same_source(f"scored/{name}") if indicator.scope == "pool" else whole_pool(f"scored/{name}", sources)
        )
    needs = catalog.selector(recipe.selector).needs
    if "vectors" in needs:
        deps.append(whole_pool("embedded/minilm", sources))
    if recipe.tags != SOURCE:
        deps.append(same_source(f"tagged/{recipe.tags}"))
    if recipe.targets:
        deps.append(same_source("targets/rows"))
    if recipe.semantic_duplicates is not None:
        deps.append(same_source(SEMANTIC_PAIRS))
    deps.append(same_source(clustering_of(recipe)))
    return deps


def clustering_of(recipe: Recipe) -> str:
    """The table of cluster labels that a recipe reads."""
    return f"clustered/{recipe.clusters}"


def aside_of(recipe: Recipe) -> tuple[str, ...]:
    """What a recipe with sources of its own reads without having to choose again when only other sources changed it.

    Duplicate pairs among its own rows stay what they were; cluster labels matter to a selector that chooses by them.
    """
    if not recipe.sources:
        return ()
    by_cluster = "clusters" in catalog.selector(recipe.selector).needs
    return ("filtered/pool", "filtered/duplicates", SEMANTIC_PAIRS, *(() if by_cluster else (clustering_of(recipe),)))


def build_asset(recipe: Recipe) -> dg.AssetsDefinition:
    """The asset of one recipe."""
    key = key_of(recipe)

    @dg.asset(
        key=key,
        group_name="selected",
        deps=deps_of(recipe),
        code_version=SELECTION_VERSION,
        kinds={"parquet"},
        automation_condition=automation.refresh_of(recipe.sources, aside_of(recipe)),
        check_specs=check_specs(key.path),
        tags={"selector": recipe.selector},
        description=f"**{recipe.title}**\n\n{recipe.description}\n\n{recipe.rule()}",
        metadata={"recipe": dg.MetadataValue.json(recipe.as_dict()), "rule": recipe.rule()},
    )
    def selected(
        context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
    ) -> Iterator[Any]:
        step = Step(context, lake, settings)
        pool = step.pool(key, recipe.sources)
        params = {**recipe.params, **settings.params.get(recipe.selector, {})}
        config: dict[str, Any] = {
            "recipe": {**recipe.as_dict(), "params": params},
            "pool": pool,
            "budget": settings.budget or recipe.budget,
        }
        config["seed"] = recipe.seed if settings.seed is None else settings.seed
        if {"vectors", "target_vectors"} & set(catalog.selector(recipe.selector).needs):
            config["encoder"] = encoder.identity()
        yield from step.make(key, config, lambda: _choose(step, recipe, params, pool, encoder, config), pool)

    return selected


def _choose(
    step: Step, recipe: Recipe, params: dict[str, Any], pool: Sequence[str], encoder: Encoder, config: dict[str, Any]
) -> Result:
    from dataclasses import replace

    _refuse_unsought_pairs(step, recipe)
    rows = step.scan("filtered/instructions", pool).select("row_id", "source", "position", "part").collect()
    labels = step.scan(clustering_of(recipe)).select("row_id", "cluster").collect()
    store = vectors_of(step.resource, encoder) if "vectors" in catalog.selector(recipe.selector).needs else None
    data = science.Ingredients(
        rows=rows,
        values={
            name: step.scan(f"scored/{name}", pool).select("row_id", "value", "status").collect()
            for name in recipe.indicators
        },
        pairs=step.scan("filtered/duplicates").collect(),
        vectors=lambda ids: store.read(ids.to_list()) if store else np.empty((len(ids), 0), np.float32),
        clusters=lambda ids: clusters_of(ids, labels),
        texts=lambda ids: texts_in_order(step.lake, ids, pool),
        tags=lambda ids: tags_in_order(step.lake, ids, pool, recipe.tags),
        targets=lambda: _targets(step, recipe, encoder),
        semantic_pairs=step.scan(SEMANTIC_PAIRS).collect() if recipe.semantic_duplicates is not None else None,
    )
    indicators = {name: catalog.indicator(name) for name in recipe.indicators}
    ledger = science.choose(
        replace(recipe, params=params),
        catalog.selector(recipe.selector),
        indicators,
        data,
        config["budget"],
        config["seed"],
    )
    subset = _subset(ledger, data, labels)
    facts = _account(step, recipe, pool, ledger, rows, config["budget"])
    facts |= _kept_from_before(step, recipe, subset)
    lineage = {name: [("filtered/instructions", name)] for name in ("row_id", "source", "position", "part")}
    lineage |= {name: [(f"scored/{name}", "value")] for name in recipe.indicators}
    if recipe.score:
        lineage["score"] = [(f"scored/{name}", "value") for name in recipe.score.indicators]
    return Result(
        subset, facts, _shown(step, recipe, ledger, subset, pool), lineage, beside={ledger_path(recipe.name): ledger}
    )


def _targets(step: Step, recipe: Recipe, encoder: Encoder) -> dict[str, Target]:
    """The recipe's targets, with vectors where its selector looks at them."""
    rows = step.scan("targets/rows").collect()
    parts = {name: rows.filter(pl.col("target") == target_file(step.lake, name).stem) for name in recipe.targets}
    if "target_vectors" in catalog.selector(recipe.selector).needs:
        return {name: target_of(step, part, encoder) for name, part in parts.items()}
    return {name: Target(part.select("prompt", "response")) for name, part in parts.items()}


def _refuse_unsought_pairs(step: Step, recipe: Recipe) -> None:
    """Pairs were sought down to a threshold; a recipe that wants less similar ones would miss them unnoticed."""
    wanted = (
        ("near-duplicates", "filtered/duplicates", "duplicates", recipe.duplicates),
        ("semantic duplicates", SEMANTIC_PAIRS, "semantic_pairs", recipe.semantic_duplicates),
    )
    for what, table, parameter, threshold in wanted:
        manifest = step.lake.manifest(table.split("/"))
        sought = float(manifest.config.get("threshold", 0)) if manifest else 0.0
        if isinstance(threshold, float) and threshold < sought:
            raise LakeError(
                f"recipe {recipe.name} drops {what} from {threshold:g}, but pairs were sought from {sought:g}: "
                f"raise the former, or seek them from there with --param {parameter}.threshold={threshold:g}"
            )


def _subset(ledger: pl.DataFrame, data: science.Ingredients, labels: pl.DataFrame) -> pl.DataFrame:
    """The chosen rows in rank order, with every indicator that the recipe read."""
    chosen = ledger.filter(pl.col("decision") == "selected").sort("rank").drop("decision", "rule", "twin")
    chosen = chosen.join(labels, on="row_id", how="left", maintain_order="left")
    for name, frame in data.values.items():
        chosen = chosen.join(
            frame.select("row_id", pl.col("value").alias(name)).unique("row_id", keep="first"),
            on="row_id",
            how="left",
            maintain_order="left",
        )
    return chosen


def _account(
    step: Step, recipe: Recipe, pool: Sequence[str], ledger: pl.DataFrame, rows: pl.DataFrame, budget: str
) -> dict[str, Any]:
    """Every row that came in is selected, dropped with a reason, or not chosen."""
    filtered = [step.lake.manifest(["filtered", "instructions"], source) for source in pool]
    rows_in = sum(int(m.facts["rows in"]) for m in filtered if m)
    dropped_before = sum(int(m.facts["rows dropped"]) for m in filtered if m)
    decisions = dict(ledger.group_by("decision").len().iter_rows())
    wanted = budget_rows(budget, rows["row_id"].n_unique())
    chosen = decisions.get("selected", 0)
    return {
        "pool": list(pool),
        "rows in": rows_in,
        "rows dropped": dropped_before + decisions.get("dropped", 0),
        "dropped by rule": dict(
            ledger.filter(pl.col("decision") == "dropped")
            .group_by("rule")
            .len()
            .sort("len", descending=True)
            .iter_rows()
        ),
        "rows not chosen": decisions.get("not_chosen", 0),
        "rows unaccounted": rows_in - dropped_before - ledger.height,
        "budget": wanted,
        "rows over budget": max(0, chosen - wanted),
        "share of budget used": chosen / wanted if wanted else 1.0,
        "ids not in pool": ledger.filter(pl.col("decision") == "selected").join(rows, on="row_id", how="anti").height,
    }


def _kept_from_before(step: Step, recipe: Recipe, subset: pl.DataFrame) -> dict[str, Any]:
    key = key_of(recipe)
    if not step.lake.exists(key.path):
        return {}
    before = step.lake.scan(key.path).select("row_id").collect()
    stayed = subset.join(before, on="row_id", how="semi").height
    return {
        "kept from before": stayed / max(before.height, 1),
        "rows new in subset": subset.height - stayed,
        "rows gone from subset": before.height - stayed,
    }


def _shown(
    step: Step, recipe: Recipe, ledger: pl.DataFrame, subset: pl.DataFrame, pool: Sequence[str]
) -> dict[str, Any]:
    first = subset.head(6).join(
        texts_of(step.lake, subset.head(6)["row_id"], pool), on="row_id", how="left", maintain_order="left"
    )
    place = pl.format("{} #{}", "source", "position")
    rules = (
        ledger.filter(pl.col("decision") == "dropped")
        .group_by("rule", maintain_order=True)
        .agg(
            pl.len().alias("rows"),
            metadata.texts("reason").first().alias("for example  [row_id]"),
        )
    )
    named = recipe.clusters == "kmeans" and step.lake.exists(["clustered", "kmeans_model"])
    about = (
        step.scan("clustered/kmeans_model")
        .select("cluster", pl.col("top_terms").list.head(3).list.join(", "))
        .collect()
        if named
        else None
    )
    labels = step.scan(clustering_of(recipe)).select("row_id", "cluster").collect()
    by_cluster = shares(subset.select(group="cluster"), ledger.join(labels, on="row_id").select(group="cluster"))
    if about is not None:
        by_cluster = by_cluster.join(
            about, left_on="group", right_on="cluster", how="left", maintain_order="left"
        ).with_columns(group=pl.coalesce("top_terms", pl.col("group").cast(pl.String)))
    return {
        "mix by source": metadata.mix(shares(subset.select(group="source"), ledger.select(group="source")), "source"),
        "mix by cluster": metadata.mix(by_cluster, "cluster"),
        **({"score": metadata.histogram(subset["score"], "score of the chosen rows")} if recipe.score else {}),
        "decisions": metadata.table(ledger.group_by("decision").agg(pl.len().alias("rows")).sort("decision")),
        "dropped in this recipe": metadata.table(rules.sort("rows", descending=True), 160),
        "first rows": metadata.table(
            first.with_columns(place=place).select(
                "rank", metadata.texts("instruction", "response", "place", "reason").alias("row → why  [row_id]")
            ),
            560,
        ),
        "their scores": metadata.table(first.select("rank", "score", *recipe.indicators, "gain", "weight")),
    }


def shares(subset: pl.DataFrame, pool: pl.DataFrame) -> pl.DataFrame:
    """``group, subset, pool``: the share of each group in both, largest of the subset first."""
    chosen = subset.group_by("group").agg((pl.len() / max(subset.height, 1)).alias("subset"))
    there = pool.group_by("group").agg((pl.len() / max(pool.height, 1)).alias("pool"))
    joined = there.join(chosen, on="group", how="left").with_columns(pl.col("subset").fill_null(0.0))
    return joined.sort("subset", "pool", "group", descending=[True, True, False]).select("group", "subset", "pool")


def texts_of(lake: Lake, ids: pl.Series, pool: Sequence[str]) -> pl.DataFrame:
    """Prompt and response of some rows."""
    rows = lake.scan_sources(["filtered", "instructions"], pool).filter(pl.col("row_id").is_in(ids.to_list()))
    return rows.select("row_id", "instruction", "response").unique("row_id", keep="first").collect()


def build_assets(recipes: Sequence[Recipe]) -> tuple[dg.AssetsDefinition, ...]:
    """One asset a recipe."""
    return tuple(build_asset(recipe) for recipe in recipes)
