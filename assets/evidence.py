"""Stage 4: what one expensive pass learns about rows, gathered once and read by many indicators.

Here belong the passes that need no language model: text counts and what is read off them (a source at a time), and
the nearest neighbours across the pool. The passes of a language model are in `passes`. The counting rules are
`methods.text`, the search is `methods.numerics`. Every pass keeps what it has finished: killed, it goes on from there.
"""

from collections.abc import Iterator
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
    description=f"The {NEIGHBOURS_KEPT} nearest other rows of the pool by cosine, exact. When rows come or go, "
    f"only new rows and rows that lost a "
    "neighbour are searched again.",
)
def neighbours(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Search the neighbours of the pool's rows, or bring the stored ones up to date."""
    step = Step(context, lake, settings)
    pool = step.pool(NEIGHBOURS)
    config = {"k": NEIGHBOURS_KEPT, "encoder": encoder.identity()}

    def compute() -> Result:
        rows = step.scan("filtered/pool").collect()
        vectors = vectors_of(lake, encoder).read(rows["row_id"].to_list())
        before = step.previous(NEIGHBOURS, config)
        known = before.drop("status").collect() if before is not None else None
        frame, stats = search.neighbours_frame(rows["row_id"], vectors, NEIGHBOURS_KEPT, known)
        searched = stats.computed_in_full
        frame = frame.with_columns(
            status=pl.when(pl.Series(np.isfinite(vectors).all(axis=1)))
            .then(pl.lit("ok"))
            .otherwise(pl.lit("no_embedding"))
        )
        nearest = frame["similarity"].list.first()
        facts = {
            "rows computed": searched,
            "rows reused": rows.height - searched,
            "rows missing": rows.height - frame.height,
            "pool": pool,
        }
        return Result(
            frame, facts, {"nearest neighbour": metadata.histogram(nearest, "cosine to the nearest other row")}
        )

    yield from step.make(NEIGHBOURS, config, compute, pool)


ASSETS = (text_counts, readability_features, neighbours)
