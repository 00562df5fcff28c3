"""The report of a selection, filled from the lake.

Here belongs gathering what `render` lays out: every number is read from a table or its manifest, none is computed for
the report alone but the two axes of the map.
"""

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets.embedded import vectors_of
from assets.selected import texts_of
from assets.views import clusters_of
from jobs.report.data import FILTERS_SCHEMA, MAP_COLUMNS, MIX_SCHEMA, CorpusMap, PlantedKind, RecipeResult, ReportData
from jobs.report.render import render_report
from jobs.tables import drops
from methods import catalog
from methods.diversity.corpus_map import corpus_map, layout_of, thinned
from resources.lake import Lake, Manifest

MAP_ROWS = 4000
"""Points of the map at most: a browser draws no more at ease."""
MAP_CLUSTERS = 8
"""Clusters that have a colour of their own on the map."""
REASON_CHARS, EXCERPT_CHARS = 160, 140
DUPLICATES_SHOWN = 200


def write(
    lake: Lake,
    definitions: dg.Definitions,
    recipes: Sequence[str],
    path: Path,
    command: str = "",
    planted: Sequence[PlantedKind] = (),
    title: str = "Sluice: what was chosen, and why",
) -> None:
    """Write the report of these recipes; the first is the one that the funnel and the map show."""
    render_report(gather(lake, definitions, recipes, command, planted, title), path)


def gather(
    lake: Lake,
    definitions: dg.Definitions,
    recipes: Sequence[str],
    command: str,
    planted: Sequence[PlantedKind],
    title: str,
) -> ReportData:
    """All that the report shows."""
    main = _manifest(lake, recipes[0])
    pool = main.facts["pool"]
    return ReportData(
        title=title,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        funnel=_funnel(lake, recipes[0], pool),
        sources=_sources(lake, pool),
        filters=_filters(lake, recipes[0], pool),
        quarantined=pl.concat([lake.scan(["raw", "quarantine"], source) for source in pool])
        .select("file", "line", "reason", "detail", "excerpt")
        .collect(),
        duplicates=_duplicates(lake, recipes[0], pool),
        recipes=[_recipe(lake, name) for name in recipes],
        corpus_map=_map(lake, definitions, recipes[0], pool),
        planted=planted,
        models=_models(lake, pool),
        versions={
            name: importlib.metadata.version(name)
            for name in ("sluice", "dagster", "polars", "lancedb", "torch", "transformers", "sentence-transformers")
        }
        | {"python": platform.python_version()},
        config=_config(lake, recipes, pool),
        command=command,
    )


def _manifest(lake: Lake, recipe: str) -> Manifest:
    manifest = lake.manifest(["selected", recipe])
    if manifest is None:
        raise ValueError(f"recipe {recipe!r} has chosen nothing yet: run `sluice run {recipe}` first")
    return manifest


def _ledger(lake: Lake, recipe: str) -> pl.DataFrame:
    return lake.scan(["selected", "ledgers", recipe]).collect()


def _sources(lake: Lake, pool: Sequence[str]) -> pl.DataFrame:
    lines = []
    for source in pool:
        raw, kept = lake.manifest(["raw", "instructions"], source), lake.manifest(["filtered", "instructions"], source)
        if raw and kept:
            file = Path(raw.facts["file"]).name
            lines.append(
                {
                    "source": source,
                    "file": file,
                    "records": raw.facts["records"],
                    "rows": raw.rows,
                    "quarantined": raw.facts["records quarantined"],
                    "kept": kept.rows,
                }
            )
    return pl.DataFrame(lines)


def _funnel(lake: Lake, recipe: str, pool: Sequence[str]) -> pl.DataFrame:
    sources = _sources(lake, pool)
    bad = int(sources["quarantined"].sum())
    rules = (
        pl.concat([lake.scan(["filtered", "dropped"], source).select("rule") for source in pool])
        .group_by("rule")
        .len()
        .sort("len", "rule", descending=[True, False])
        .collect()
    )
    ledger = _ledger(lake, recipe)
    lines: list[tuple[str, str, int]] = [
        ("in", "records read", int(sources["rows"].sum()) + bad),
        ("quarantined", "unreadable", bad),
    ]
    lines += [("duplicate" if rule == "exact_duplicate" else "filtered", rule, n) for rule, n in rules.iter_rows()]
    dropped = (
        ledger.filter(pl.col("decision") == "dropped")
        .group_by("rule")
        .len()
        .sort("len", "rule", descending=[True, False])
    )
    lines += [("duplicate" if "duplicate" in rule else "gated", rule, n) for rule, n in dropped.iter_rows()]
    lines.append(
        ("not_chosen", "not chosen within the budget", ledger.filter(pl.col("decision") == "not_chosen").height)
    )
    lines.append(("selected", "selected", ledger.filter(pl.col("decision") == "selected").height))
    return pl.DataFrame(lines, schema={"step": pl.String, "label": pl.String, "rows": pl.Int64}, orient="row")


def _filters(lake: Lake, recipe: str, pool: Sequence[str]) -> pl.DataFrame:
    lines = [(where, rule, n, str(example)) for where, rule, n, example in drops(lake, recipe, pool)]
    return pl.DataFrame(lines, schema=FILTERS_SCHEMA, orient="row")


def _duplicates(lake: Lake, recipe: str, pool: Sequence[str]) -> pl.DataFrame:
    gone = _ledger(lake, recipe).filter(pl.col("rule") == "near_duplicate").head(DUPLICATES_SHOWN)
    pairs = lake.scan(["filtered", "duplicates"]).collect()
    both = pl.concat(
        [pairs.select("a", "b", "similarity"), pairs.select(a="b", b="a", similarity="similarity")]
    ).unique(["a", "b"])
    found = gone.select("row_id", "source", "twin").join(
        both, left_on=["row_id", "twin"], right_on=["a", "b"], how="left"
    )
    texts = texts_of(lake, pl.concat([found["row_id"], found["twin"]]).unique(), pool).select(
        "row_id", "instruction", "response"
    )
    named = found.join(texts, on="row_id", how="left").join(
        texts, left_on="twin", right_on="row_id", how="left", suffix=" of twin"
    )
    return (
        named.rename({"row_id": "row"})
        .select("row", "twin", "similarity", "source", "instruction", "instruction of twin")
        .sort("similarity", "row", descending=[True, False])
    )


def _recipe(lake: Lake, name: str) -> RecipeResult:
    manifest, ledger = _manifest(lake, name), _ledger(lake, name)
    recipe = manifest.config["recipe"]
    chosen = lake.scan(["selected", name]).sort("rank").collect()
    texts = texts_of(lake, chosen["row_id"], manifest.facts["pool"]).select("row_id", "instruction", "response")
    decisions = ledger.group_by(
        pl.coalesce(
            pl.when(pl.col("decision") == "dropped").then(pl.concat_str(pl.lit("dropped: "), "rule")), "decision"
        ).alias("what")
    ).len()
    card = lake.scan(["evaluated", name]).collect() if lake.exists(["evaluated", name]) else pl.DataFrame()
    indicators = sorted({*(recipe["score"] or {}).get("indicators", {}), *recipe["gates"], "response_length"})
    return RecipeResult(
        name=name,
        title=recipe["title"],
        description=recipe["description"],
        rule=_rule(recipe, manifest),
        budget=f"{manifest.facts['budget']:,} rows",
        selected=chosen.join(texts, on="row_id", how="left", maintain_order="left"),
        decisions={"selected": 0, **dict(decisions.iter_rows())},
        measures={line["measure"]: (line["subset"], line["pool"], line["random"]) for line in card.to_dicts()},
        directions={line["measure"]: line["direction"] for line in card.to_dicts()}
        | {name: catalog.indicator(name).direction for name in indicators},
        mix=_mix(lake, ledger),
        distributions=_distributions(lake, indicators, ledger, manifest.facts["pool"]),
    )


def _rule(recipe: Mapping[str, Any], manifest: Manifest) -> str:
    from methods.selection.recipe import Recipe, Score

    score = Score(**recipe["score"]) if recipe["score"] else None
    return replace(
        Recipe(**{**recipe, "score": score}), budget=str(manifest.config["budget"]), seed=manifest.config["seed"]
    ).rule()


def _mix(lake: Lake, ledger: pl.DataFrame) -> pl.DataFrame:
    labels = lake.scan(["clustered", "kmeans"]).select("row_id", "cluster").collect()
    about = (
        lake.scan(["clustered", "kmeans_model"])
        .select("cluster", pl.col("top_terms").list.head(3).list.join(", ").alias("about"))
        .collect()
    )
    lines = ledger.join(labels, on="row_id", how="left").join(about, on="cluster", how="left")
    lines = lines.with_columns(about=pl.coalesce("about", pl.lit("no cluster")))
    parts = [
        lines.group_by(value=pl.col(column)).agg(
            pl.lit(by).first().alias("by"),
            pl.len().cast(pl.Int64).alias("pool"),
            (pl.col("decision") == "selected").sum().cast(pl.Int64).alias("selected"),
        )
        for by, column in (("source", "source"), ("cluster", "about"))
    ]
    return pl.concat(parts).select(MIX_SCHEMA.keys()).sort("by", "pool", "value", descending=[True, True, False])


def _distributions(
    lake: Lake, indicators: Sequence[str], ledger: pl.DataFrame, pool: Sequence[str]
) -> dict[str, tuple[pl.Series, pl.Series]]:
    found = {}
    chosen = ledger.filter(pl.col("decision") == "selected").select("row_id")
    for name in indicators:
        key = ["scored", name]
        pooled = catalog.indicator(name).scope == "pool"
        if lake.exists(key) if pooled else all(lake.exists(key, source) for source in pool):
            table = lake.scan(key) if pooled else lake.scan_sources(key, pool)
            values = table.select("row_id", "value").unique("row_id", keep="first").collect()
            values = values.join(ledger.select("row_id").unique(), on="row_id", how="semi")
            found[name] = (chosen.join(values, on="row_id", how="left")["value"], values["value"])
    return found


def _map(lake: Lake, definitions: dg.Definitions, recipe: str, pool: Sequence[str]) -> CorpusMap:
    """The rows that the recipe looked at: t-SNE where there are few enough, else their two principal components."""
    ledger = _ledger(lake, recipe).unique("row_id", keep="first", maintain_order=True)
    resources: Any = definitions.resources
    vectors = vectors_of(resources["lake"], resources["encoder"]).read(ledger["row_id"].to_list())
    fine = np.isfinite(vectors).all(axis=1)
    layout = layout_of(int(fine.sum()), "tsne")
    points = corpus_map(vectors, layout)
    labels = clusters_of(ledger["row_id"], lake.scan(["clustered", "kmeans"]).select("row_id", "cluster").collect())
    selected = (ledger["decision"] == "selected").to_numpy()
    shown = _shown(points, labels, selected)
    names = _names(lake)
    sizes = pl.Series("cluster", labels[fine & (labels >= 0)], dtype=pl.Int64).value_counts()
    largest = sizes.sort("count", "cluster", descending=[True, False])["cluster"].head(MAP_CLUSTERS)
    rows = ledger[shown].with_columns(
        x=pl.Series(points[shown, 0], dtype=pl.Float64),
        y=pl.Series(points[shown, 1], dtype=pl.Float64),
        cluster=pl.Series([names.get(int(label)) for label in labels[shown]], dtype=pl.String),
        chosen=pl.Series(selected[shown], dtype=pl.Boolean),
        decision=_decided(),
        reason=pl.col("reason").str.slice(0, REASON_CHARS),
    )
    texts = texts_of(lake, rows["row_id"], pool).select(
        "row_id", excerpt=pl.col("instruction").str.slice(0, EXCERPT_CHARS)
    )
    return CorpusMap(
        points=rows.join(texts, on="row_id", how="left", maintain_order="left").select(MAP_COLUMNS),
        layout=layout,
        rows=int(fine.sum()),
        selected=int((selected & fine).sum()),
        unplaced=int((~fine).sum()),
        largest=[names[label] for label in largest if label in names],
        explained=_explained(vectors[fine], points[fine]) if layout == "pca" else None,
    )


def _shown(points: np.ndarray, labels: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """The rows to draw: the selected ones, but no more than half of the map where there are others; then the others."""
    lit, dark = (np.where(mask[:, None], points, np.nan) for mask in (selected, ~selected))
    others = int(np.isfinite(dark).all(axis=1).sum())
    keep = thinned(lit, labels, max(MAP_ROWS // 2, MAP_ROWS - others))
    dark[keep] = points[keep]
    return thinned(dark, labels, MAP_ROWS, keep=keep)


def _decided() -> pl.Expr:
    """A decision for a person: with the rank, or the rule."""
    return (
        pl.when(pl.col("decision") == "selected")
        .then(pl.format("selected, rank {}", "rank"))
        .when(pl.col("decision") == "dropped")
        .then(pl.format("dropped: {}", pl.col("rule").str.replace_all("_", " ")))
        .otherwise(pl.col("decision").str.replace_all("_", " "))
    )


def _names(lake: Lake) -> dict[int, str]:
    """What each cluster is about; its number keeps two of the same terms apart."""
    about = lake.scan(["clustered", "kmeans_model"]).select("cluster", pl.col("top_terms").list.head(3).list.join(", "))
    return {number: f"{number}: {terms}" if terms else str(number) for number, terms in about.collect().iter_rows()}


def _explained(vectors: np.ndarray, points: np.ndarray) -> float | None:
    """The share of the variance that two axes show."""
    if not len(vectors):
        return None
    mean = vectors.mean(axis=0, dtype=np.float64)
    whole = float(np.einsum("ij,ij->", vectors, vectors, dtype=np.float64) / len(vectors) - mean @ mean)
    return float(points.astype(np.float64).var(axis=0).sum()) / whole if whole > 1e-12 else None


def _models(lake: Lake, pool: Sequence[str]) -> dict[str, str]:
    found = {}
    for what, key in (("encoder", ["embedded", "minilm"]), ("language model", ["evidence", "token_statistics"])):
        manifest = lake.manifest(key, pool[0])
        if manifest:
            found[what] = ", ".join(f"{name} {value}" for name, value in manifest.config.items())
    return found


def _config(lake: Lake, recipes: Sequence[str], pool: Sequence[str]) -> dict[str, str]:
    filters = lake.manifest(["filtered", "instructions"], pool[0])
    found = {"filters": json.dumps(filters.config) if filters else "", "pool": ", ".join(pool), "home": str(lake.home)}
    for name in recipes:
        manifest = _manifest(lake, name)
        found[f"recipe {name}"] = (
            f"data version {manifest.data_version}, made at {manifest.made_at} in run {manifest.run_id}"
        )
    return found
