"""Stage 4: what one expensive pass learns about rows, gathered once and read by many indicators.

Here belong the passes that need no language model: text counts and what is read off them (a source at a time), and
the nearest neighbours across the pool. The passes of a language model are in `passes`. The counting rules are
`methods.text`, the search is `methods.numerics`. Every pass keeps what it has finished: killed, it goes on from there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata
from assets.coverage import FROM_FILTERED, coverage, rows_to_assess, share_not_ok
from assets.embedded import vectors_of
from assets.filtered import RULES_VERSION
from assets.incremental import fill, in_blocks
from assets.partitions import SOURCES, same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods import text
from methods.numerics import neighbours as search
from methods.quality import readability
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource

COUNTS, FEATURES, NEIGHBOURS = (
    dg.AssetKey(["evidence", name]) for name in ("text_counts", "readability_features", "neighbours")
)
NEIGHBOURS_KEPT = 10
SEARCHES = ("auto", "exact", "approximate")
SEARCH_DEFAULTS: dict[str, Any] = {"search": "auto", "exact_rows": 200_000, "recall": 0.95, "sample": 1000, "seed": 0}
"""``exact_rows``: rows of a pool up to which `auto` compares every pair. The others are those of the approximate
search: the recall below which more is searched, the rows that it is measured on, and the seed."""


@dg.asset(
    key=COUNTS,
    group_name="evidence",
    partitions_def=SOURCES,
    deps=FROM_FILTERED,
    code_version=text.COUNTS_VERSION,
    kinds={"parquet"},
    check_specs=check_specs(COUNTS.path, SOURCES),
    description="Words (as hashes, in order), sentences, syllables, letters of prompt and response, counted once.",
)
def text_counts(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Count the rows that were not counted yet."""
    step = Step(context, lake, settings)
    config = {"language": RULES_VERSION}  # the language of a row is told by the rules

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "instruction", "input", "response", "language")
        done = fill(
            step, COUNTS, rows, [step.previous(COUNTS, config)], in_blocks(step, "counting words", text.count_block)
        )
        words = pl.scan_parquet(done.data, glob=False).select("response_n_words").collect()["response_n_words"]
        return Result(
            done.data,
            {**done.facts, **coverage(step)},
            {"response length": metadata.histogram(words, "words in the response")},
        )

    yield from step.make(COUNTS, config, compute)


@dg.asset(
    key=FEATURES,
    group_name="evidence",
    partitions_def=SOURCES,
    deps=[same_source("evidence/text_counts")],
    code_version=readability.FEATURES_VERSION,
    kinds={"polars"},
    check_specs=check_specs(FEATURES.path, SOURCES),
    description="46 numbers on a text's words, sentences and their links, in four families:\n\n"
    + "\n".join(
        f"- **{family}**: {', '.join(names)}"
        for family, names in (
            ("lexical", readability.LEXICAL),
            ("syntactic", readability.SYNTACTIC),
            ("cohesion", readability.COHESION),
            ("formulae", readability.FORMULAE),
        )
    ),
)
def readability_features(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Read the features off the counts of the rows that have none yet."""
    step = Step(context, lake, settings)
    field = settings.params.get("readability_features", {}).get("field", "response")
    config = {"field": field, **step.made_with(["evidence/text_counts"])}

    def compute() -> Result:
        counts = step.scan("evidence/text_counts").drop("source", strict=False)
        of_block = in_blocks(step, "reading features", lambda block: readability.features_of(block, field))
        done = fill(step, FEATURES, counts, [step.previous(FEATURES, config)], of_block)
        shown = {"features": metadata.table(_summary(pl.scan_parquet(done.data, glob=False)))}
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)}, shown)

    yield from step.make(FEATURES, config, compute)


def _summary(features: pl.LazyFrame) -> pl.DataFrame:
    """One line a feature: what it is, where its values lie, and how many rows have none."""
    names = list(readability.FEATURES)
    columns = pl.col(names)
    lines = features.select(
        *(
            columns.quantile(share).name.suffix(f" {word}")
            for share, word in ((0.05, "low"), (0.5, "mid"), (0.95, "high"))
        ),
        columns.null_count().name.suffix(" none"),
    )
    (found,) = lines.collect().to_dicts()
    return pl.DataFrame(
        {
            "feature": names,
            "5 % lie below": [found[f"{name} low"] for name in names],
            "median": [found[f"{name} mid"] for name in names],
            "5 % lie above": [found[f"{name} high"] for name in names],
            "rows without": [found[f"{name} none"] for name in names],
            "what it is": [readability.MEANING[name] for name in names],
        }
    )


@dg.asset(
    key=NEIGHBOURS,
    group_name="evidence",
    deps=[same_source("filtered/pool"), whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"parquet"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(NEIGHBOURS.path),
    description=f"The {NEIGHBOURS_KEPT} nearest other rows of the pool by cosine. Exact up to "
    f"{SEARCH_DEFAULTS['exact_rows']:,} rows: when rows come or go, only new rows and rows that lost a neighbour are "
    "searched again. Above, approximate: rows are compared with the cells nearest to them, as many as it takes to find "
    f"{SEARCH_DEFAULTS['recall']:.0%} of the true neighbours of sampled rows (the recall is told here), and a changed "
    "pool is searched anew. Which of the two can be set (`neighbours.search`: auto, exact, approximate).",
)
def neighbours(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Search the neighbours of the pool's rows; an exact search brings the stored ones up to date."""
    step = Step(context, lake, settings)
    pool = step.pool(NEIGHBOURS)
    stored = step.lake.manifest(["filtered", "pool"])
    wanted = how_to_search(settings.params.get("neighbours", {}), stored.rows if stored else 0)
    config = {"k": NEIGHBOURS_KEPT, "encoder": encoder.identity(), **wanted}

    def compute() -> Result:
        rows = step.scan("filtered/pool").collect()
        vectors = vectors_of(lake, encoder).read(rows["row_id"].to_list())
        facts: dict[str, Any]
        if wanted["search"] == "approximate":
            frame, facts = _approximately(step, rows["row_id"], vectors, wanted)
        else:
            before = step.previous(NEIGHBOURS, config)
            known = before.drop("status").collect() if before is not None else None
            frame, stats = search.neighbours_frame(rows["row_id"], vectors, NEIGHBOURS_KEPT, known)
            searched = stats.computed_in_full
            facts = {"rows computed": searched, "rows reused": rows.height - searched, "search": "exact"}
        frame = frame.with_columns(
            status=pl.when(pl.Series(np.isfinite(vectors).all(axis=1)))
            .then(pl.lit("ok"))
            .otherwise(pl.lit("no_embedding"))
        )
        nearest = frame["similarity"].list.first()
        facts |= {"rows missing": rows.height - frame.height, "pool": pool}
        return Result(
            frame, facts, {"nearest neighbour": metadata.histogram(nearest, "cosine to the nearest other row")}
        )

    yield from step.make(NEIGHBOURS, config, compute, pool)


def how_to_search(given: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The search that a pool of so many rows gets, as it stands in the configuration of the table: its mode, and what
    else its result depends on."""
    if unknown := sorted(set(given) - set(SEARCH_DEFAULTS)):
        raise ValueError(f"neighbours has no {', '.join(unknown)}; there are {', '.join(SEARCH_DEFAULTS)}")
    wanted = {**SEARCH_DEFAULTS, **given}
    mode = wanted["search"]
    if mode not in SEARCHES:
        raise ValueError(f"neighbours.search must be one of {', '.join(SEARCHES)}, got {mode!r}")
    if mode == "auto":
        mode = "exact" if rows <= wanted["exact_rows"] else "approximate"
    if mode == "exact":
        return {"search": "exact"}
    return {"search": "approximate", **{name: wanted[name] for name in ("recall", "sample", "seed")}}


def _approximately(
    step: Step, row_ids: pl.Series, vectors: np.ndarray, wanted: Mapping[str, Any]
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The neighbours through an index, and what the search found out about itself; nothing stored is taken over."""
    from methods.numerics import approximate

    frame, stats = approximate.neighbours_frame(
        row_ids,
        vectors,
        NEIGHBOURS_KEPT,
        floor=float(wanted["recall"]),
        sample=int(wanted["sample"]),
        seed=int(wanted["seed"]),
    )
    step.context.log.info(stats.line())
    facts = {
        "rows computed": len(row_ids),
        "rows reused": 0,
        "search": "every pair, since no less reached the recall" if stats.exact else "approximate",
        "recall floor": stats.floor,
        "rows checked": stats.checked,
        "cells": stats.cells,
        "cells searched": stats.probes,
    }
    if np.isfinite(stats.recall):
        facts["recall"] = stats.recall
    return frame, facts


ASSETS = (text_counts, readability_features, neighbours)
