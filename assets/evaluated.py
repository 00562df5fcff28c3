"""Stage 8: what a subset is like, beside its pool and beside a random subset of the same size.

Here belongs one card a recipe: the measures of the catalogue and the means of some cheap indicators, for the three
sets. A number for a set means little alone; two subsets can be compared where N and encoder are the same, and the
card states both.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata
from assets.partitions import same_source, whole_pool
from assets.selected import aside_of, ledger_path
from assets.step import Result, Step, check_specs
from assets.targets import rows_of, target_files
from assets.views import quality_of, subset_view, texts_in_order
from methods import catalog, readers
from methods.diversity import intervals
from methods.importance.dsir import kl_reduction
from methods.selection.recipe import SOURCE, Recipe
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource

CARD_VERSION = "4"
RANDOM_SEED = 20240805


def key_of(recipe: Recipe) -> dg.AssetKey:
    """The asset of a recipe's card."""
    return dg.AssetKey(["evaluated", recipe.name])


ON_EVERY_CARD = (
    "response_length",
    "prompt_length",
    "average_word_length",
    "spelling_error_rate",
    "excessive_word_repetition",
    "ttr",
    "mtld",
    "mattr",
    "distinct_2",
    "flesch_reading_ease",
    "lix",
)
"""Indicators whose mean stands on every card: they cost no more than counting words, and each says something else."""
CARD_MEASURES = tuple(m for m in catalog.MEASURES if not {"texts", "encode"} & set(m.needs))
"""The measures of every card: all but those that read the texts again or embed their parts (`sluice measure`)."""


def card_indicators(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's own indicators, and those of every card."""
    return tuple(dict.fromkeys([*recipe.indicators, *ON_EVERY_CARD]))


def build_asset(recipe: Recipe) -> dg.AssetsDefinition:
    """The card of one recipe."""
    key = key_of(recipe)
    sources = list(recipe.sources) or None
    deps = [same_source(f"selected/{recipe.name}"), same_source("filtered/pool"), same_source("clustered/kmeans")]
    deps += [
        whole_pool(name, sources)
        for name in ("filtered/instructions", "filtered/dropped", "evidence/text_counts", "embedded/minilm")
    ]
    if recipe.tags != SOURCE:
        deps.append(same_source(f"tagged/{recipe.tags}"))
    for name in card_indicators(recipe):
        pooled = catalog.indicator(name).scope == "pool"
        deps.append(same_source(f"scored/{name}") if pooled else whole_pool(f"scored/{name}", sources))

    @dg.asset(
        key=key,
        group_name="evaluated",
        deps=deps,
        code_version=CARD_VERSION,
        kinds={"parquet"},
        automation_condition=automation.refresh_of(recipe.sources, aside_of(recipe)),
        check_specs=check_specs(key.path),
        description=f"The card of `selected/{recipe.name}`: measures of quality, diversity and importance for the "
        f"subset, its pool, and a random "
        "subset of the same size.",
    )
    def evaluated(
        context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
    ) -> Iterator[Any]:
        step = Step(context, lake, settings)
        pool = step.pool(key, recipe.sources)
        config = {
            "pool": pool,
            "encoder": encoder.identity(),
            "measures": {m.id: m.version for m in CARD_MEASURES},
            "random seed": RANDOM_SEED,
        }

        targets = target_files(step.lake)
        hashes = {f"targets/{file.name}": readers.content_hash(file) for file in targets}

        def compute() -> Result:
            card = _card(step, recipe, pool, encoder, targets)
            shown = card.select(
                "axis", "measure", "subset", "random", "pool", _against_random(), "n_used", "parameters"
            )
            sizes = (
                dict(
                    zip(("subset", "random", "pool"), card.select("n_subset", "n_random", "n_pool").row(0), strict=True)
                )
                if card.height
                else {}
            )
            facts = {f"rows of {name}": n for name, n in sizes.items()}
            return Result(card, facts, {"card": metadata.table(shown)})

        # The files themselves, not `targets/rows`: most homes have no target, and their cards wait for no such table.
        yield from step.make(key, config, compute, pool, hashes)

    return evaluated


def _card(step: Step, recipe: Recipe, pool: Sequence[str], encoder: Encoder, targets: Sequence[Path]) -> pl.DataFrame:
    rows = (
        step.scan("filtered/instructions", pool)
        .select("row_id")
        .unique("row_id", keep="first", maintain_order=True)
        .collect()["row_id"]
    )
    chosen = step.scan(f"selected/{recipe.name}").select("row_id").collect()["row_id"]
    lucky = rows.gather(np.sort(np.random.default_rng(RANDOM_SEED).permutation(len(rows))[: len(chosen)]))
    sets = {"subset": chosen, "random": lucky, "pool": rows}
    lines = _measures(step, recipe, sets, pool, encoder) + _means(step, recipe, sets, pool)
    lines += _towards(step, targets, sets, pool)
    sizes = {f"n_{name}": pl.lit(len(ids), pl.Int64) for name, ids in sets.items()}
    card = pl.DataFrame(lines, schema=CARD_SCHEMA, orient="row")
    told = pl.any_horizontal(
        pl.col("subset", "random", "pool").is_not_null()
    )  # no tags in the sources: no line on tags
    return card.filter(told).with_columns(encoder=pl.lit(str(encoder.identity().get("model", ""))), **sizes)


def _against_random() -> pl.Expr:
    """In a word, whether the subset is better than as many rows drawn at random."""
    gap = (pl.col("subset") - pl.col("random")) * pl.when(pl.col("direction") == "lower").then(-1).otherwise(1)
    words = (
        pl.when(gap > 0).then(pl.lit("better")).when(gap < 0).then(pl.lit("worse")).when(gap == 0).then(pl.lit("same"))
    )
    named = pl.when(pl.col("direction") == "band").then(pl.lit("no better end")).otherwise(words)
    return named.alias("against random")


CARD_SCHEMA = {
    "measure": pl.String,
    "axis": pl.String,
    "direction": pl.String,
    "subset": pl.Float64,
    "random": pl.Float64,
    "pool": pl.Float64,
    "n_used": pl.Int64,
    "parameters": pl.String,
}


def _measures(
    step: Step, recipe: Recipe, sets: dict[str, pl.Series], pool: Sequence[str], encoder: Encoder
) -> list[tuple[Any, ...]]:
    needs = {need for m in CARD_MEASURES for need in m.needs}
    quality = _quality(step, recipe)
    views = {
        name: subset_view(step.resource, encoder, ids, pool, needs, quality, recipe.tags) for name, ids in sets.items()
    }
    tags = views["pool"].tags
    known = None if tags is None else frozenset(tags.explode().drop_nulls())
    views = {name: replace(view, known_tags=known) for name, view in views.items()}
    return [
        (
            *(m.id, m.axis, m.direction),
            *(m.compute(views[name], **m.params) for name in ("subset", "random", "pool")),
            intervals.n_of(m, views["subset"]),
            json.dumps(dict(m.params)),
        )
        for m in CARD_MEASURES
        if quality is not None or "quality" not in m.needs
    ]


def _towards(
    step: Step, targets: Sequence[Path], sets: dict[str, pl.Series], pool: Sequence[str]
) -> list[tuple[Any, ...]]:
    """For each target of the home, how much nearer the words of each set are to it than those of random rows.

    The pool is as near as its rows drawn at random: nought, without looking.
    """
    if not targets:
        return []
    texts = {of: texts_in_order(step.lake, ids, pool).select("prompt", "response") for of, ids in sets.items()}
    stems, lines = [file.stem for file in targets], []
    for file in targets:
        target = file.stem if stems.count(file.stem) == 1 else file.name
        wanted = rows_of(file).select("prompt", "response")
        found = [kl_reduction(texts["pool"], texts[of], wanted, RANDOM_SEED) for of in ("subset", "random")]
        found.append(None if found[0] is None else 0.0)
        params = json.dumps({"target": target, "seed": RANDOM_SEED})
        name = f"KL reduction towards {target}"
        lines.append((name, "importance", "higher", *found, texts["subset"].height, params))
    return lines


def _quality(step: Step, recipe: Recipe) -> pl.DataFrame | None:
    """What the recipe's own score says of the rows that it scored."""
    if recipe.score is None:
        return None
    ledger = step.lake.scan(ledger_path(recipe.name)).select("row_id", "score").drop_nulls().unique("row_id").collect()
    return quality_of(ledger["row_id"], ledger["score"])


def _means(step: Step, recipe: Recipe, sets: dict[str, pl.Series], pool: Sequence[str]) -> list[tuple[Any, ...]]:
    lines = []
    for name in card_indicators(recipe):
        indicator = catalog.indicator(name)
        values = step.scan(f"scored/{name}", pool).select("row_id", "value").unique("row_id", keep="first").collect()
        found = {of: ids.to_frame("row_id").join(values, on="row_id", how="left")["value"] for of, ids in sets.items()}
        means = [found[of].mean() for of in ("subset", "random", "pool")]
        used = len(found["subset"]) - found["subset"].null_count()
        params = {**indicator.params, **step.settings.params.get(name, {})}
        lines.append((f"mean {name}", indicator.axis, indicator.direction, *means, used, json.dumps(params)))
    return lines


def build_assets(recipes: Sequence[Recipe]) -> tuple[dg.AssetsDefinition, ...]:
    """One card a recipe."""
    return tuple(build_asset(recipe) for recipe in recipes)
