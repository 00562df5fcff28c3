"""Stage 4, across the pool: which rows mean the same, as pairs that are found once and decided at any threshold.

Here belongs `evidence/semantic_pairs` and its page. The search is `methods.numerics.pairs`, what is decided by the
pairs is `methods.filters.semantic`; a recipe drops by them among its own rows, at its own threshold. When rows come or
go, only new rows are compared with the pool: beside the pairs stands the list of rows that they are known for.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from assets import automation, metadata
from assets.embedded import vectors_of
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods.filters import semantic
from methods.rows import TEXT
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource

SEMANTIC_PAIRS = dg.AssetKey(["evidence", "semantic_pairs"])
COMPARED = ("evidence", "semantic_pairs_rows")
"""The rows that the pairs are known for, kept beside them: a row without a twin stands in no pair."""
EXAMPLES = 8


@dg.asset(
    key=SEMANTIC_PAIRS,
    group_name="evidence",
    deps=[same_source("filtered/pool"), whole_pool("filtered/instructions"), whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"parquet"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(SEMANTIC_PAIRS.path),
    description="Pairs of rows of the pool that mean the same: every pair whose embeddings have a cosine of at least "
    f"the threshold (`semantic_pairs.threshold`, {semantic.THRESHOLD}), exact. Rows of one vector are paired with the "
    "first of them, which stands for all (`same_vector`). Rows are dropped at any higher threshold without finding "
    "the pairs again; when rows come or go, only new rows are compared with the pool.",
)
def semantic_pairs(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Find the pairs, or bring the stored ones up to date."""
    step = Step(context, lake, settings)
    pool = step.pool(SEMANTIC_PAIRS)
    params = {"threshold": semantic.THRESHOLD, **settings.params.get("semantic_pairs", {})}
    config = {**params, "encoder": encoder.identity()}

    def compute() -> Result:
        rows = _rows(step, pool)
        vectors = vectors_of(lake, encoder).read(rows["row_id"].to_list())
        before = _before(step, config)
        found = semantic.find_pairs(rows["row_id"], vectors, before=before, **params)
        compared = found.compared.alias("row_id").to_frame()
        gone = semantic.drop_at(rows["row_id"], found.pairs, params["threshold"]).dropped
        eaten = semantic.alarms(rows.select("row_id", "source"), gone)
        facts = {**_facts(rows, found, pool), "alarms": eaten.height}
        shown = {**_shown(rows, found.pairs, params["threshold"]), **_sources_shown(rows, gone, eaten)}
        return Result(found.pairs, facts, shown, beside={COMPARED: compared})

    yield from step.make(SEMANTIC_PAIRS, config, compute, pool)


def _rows(step: Step, pool: list[str]) -> pl.DataFrame:
    """``row_id``, ``source`` and ``text`` of the rows of the pool, in its order."""
    rows = step.scan("filtered/instructions", pool)
    if step.settings.all_rows:
        dropped = step.lake.scan_sources(["filtered", "dropped"], pool)
        rows = pl.concat([rows, dropped.select(rows.collect_schema().names())])
    texts = rows.unique("row_id", keep="first", maintain_order=True).select("row_id", text=TEXT)
    listed = step.scan("filtered/pool").select("row_id", "source")
    return listed.join(texts, on="row_id", how="left", maintain_order="left").collect()


def _before(step: Step, config: dict[str, Any]) -> semantic.Found | None:
    """What was found for the pool as it was, if it was found alike and its list of rows was stored with it."""
    pairs = step.previous(SEMANTIC_PAIRS, config)
    listed, stored = step.lake.manifest(COMPARED), step.lake.manifest(SEMANTIC_PAIRS.path)
    if pairs is None or listed is None or stored is None or listed.data_version != stored.data_version:
        return None
    return semantic.Found(pairs.collect(), step.lake.scan(COMPARED).collect()["row_id"], 0)


def _facts(rows: pl.DataFrame, found: semantic.Found, pool: list[str]) -> dict[str, Any]:
    pairs, with_vector = found.pairs, len(found.compared)
    return {
        "pool": pool,
        "rows computed": found.searched,
        "rows reused": with_vector - min(found.searched, with_vector),
        "rows without a vector": rows.height - with_vector,
        "rows of the same vector": pairs.filter(pl.col("kind") == semantic.SAME_VECTOR).height,
        "rows with more twins than listed": pairs.filter("cut").select(pl.col("b").n_unique()).item(),
        "pairs of a row with itself": pairs.filter(pl.col("a") == pl.col("b")).height,
        "ids not in pool": pl.concat([pairs["a"], pairs["b"]])
        .to_frame("row_id")
        .join(rows, on="row_id", how="anti")
        .height,
        "share with an earlier twin": pairs["b"].n_unique() / max(rows.height, 1),
    }


def _shown(rows: pl.DataFrame, pairs: pl.DataFrame, threshold: float) -> dict[str, Any]:
    """How many rows each threshold leaves, and what the nearest pairs say."""
    left = semantic.curve(rows["row_id"], pairs, semantic.steps(threshold))
    table = left.select(
        "threshold", "left", "dropped", share_left=pl.format("{}%", (pl.col("share_left") * 100).round(1))
    )
    nearest = pairs.sort("similarity", descending=True, maintain_order=True)
    identical = nearest.filter(pl.col("kind") == semantic.SAME_VECTOR).head(EXAMPLES // 4)
    examples = pl.concat([nearest.filter(pl.col("kind") == semantic.SEMANTIC).head(EXAMPLES), identical])
    return {
        "rows left by threshold": metadata.table(table),
        "from the lowest threshold to 1": metadata.line(left["left"].to_list(), "rows left"),
        "most similar pairs": metadata.table(_with_texts(examples, rows), 400),
        "cosine of pairs": metadata.histogram(pairs["similarity"], "cosine"),
    }


def _sources_shown(rows: pl.DataFrame, gone: pl.DataFrame, eaten: pl.DataFrame) -> dict[str, Any]:
    """What each source would lose at the lowest threshold, and the rows that stand for a large part of one."""
    lost = rows.join(gone, on="row_id", how="semi").group_by("source").len("dropped")
    listed = rows.group_by("source").len("rows").join(lost, on="source", how="left")
    texts = rows.select("row_id", "text")
    named = eaten.head(12).join(texts, left_on="twin", right_on="row_id", how="left", maintain_order="left")
    kept = metadata.texts("text", row_id="twin").alias("the row that they go for  [row_id]")
    return {
        "dropped by source at the lowest threshold": metadata.table(
            listed.with_columns(pl.col("dropped").fill_null(0)).sort("source")
        ),
        "rows that eat a source": metadata.table(named.select("source", "rows", "share", kept), 200),
    }


def _with_texts(pairs: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    text = rows.select("row_id", "text")
    both = pairs.join(text, left_on="a", right_on="row_id", how="left", maintain_order="left").join(
        text, left_on="b", right_on="row_id", how="left", suffix=" of b", maintain_order="left"
    )
    one, other = metadata.texts("text", row_id="a"), metadata.texts("text of b", row_id="b")
    return both.select(
        "similarity", "kind", pl.format("{} ↔ {}", one, other).alias("row a  [row_id] ↔ row b  [row_id]")
    )


ASSETS = (semantic_pairs,)
