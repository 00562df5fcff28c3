"""Cherry's warm-up: the rows of a first taste, the model that had it, and the pool as that model reads it.

Here belongs wiring. Which rows are chosen stands in `methods.quality.warmup`; when a model is trained again, and where
it lies, in `training`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata
from assets.coverage import share_not_ok
from assets.embedded import encode_with
from assets.incremental import BLOCK
from assets.partitions import same_source, whole_pool
from assets.passes import in_tokens, passed
from assets.step import Result, Step, check_specs
from assets.training import (
    POOL_ROWS,
    chosen_from,
    held,
    pool_rows,
    training,
    trains,
    tuned_identity,
    tuned_model,
    tuning_of,
)
from methods.quality import warmup
from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource
from resources.token_pass import TOKEN_STATISTICS_SCHEMA

WARMUP, EXPERIENCED = (dg.AssetKey(["tuned", name]) for name in ("warmup_rows", "experienced"))
TOKENS = dg.AssetKey(warmup.EXPERIENCED.split("/"))
WARMUP_DEFAULTS: Mapping[str, Any] = {
    "warmup": "kmeans",
    "vectors": "text",
    "clusters": 100,
    "each": 10,
    "window": [1, 99],
    "seed": 0,
    "hold": 0.1,
}
"""``warmup``: kmeans (the paper's) or random (the survey's). ``vectors``: text, the text encoder's of the instruction,
which are cheap and kept; the paper's are the mean of the base model's last hidden layer. ``hold``: see `held`."""
TUNING: Mapping[str, Any] = {"epochs": 1.0, "learning_rate": 2e-5, "batch_rows": 128}
"""One epoch is the paper's; the rate and the batch are those in use for instructions of this kind."""
# ---- the warm-up ---------------------------------------------------------------------------------------------------


def params_of(settings: Settings) -> dict[str, Any]:
    """The parameters of the warm-up: the defaults, and what a person set."""
    wanted = settings.params.get("warmup_rows", {})
    if unknown := sorted(set(wanted) - set(WARMUP_DEFAULTS)):
        raise ValueError(f"warmup_rows has no parameter {', '.join(unknown)}; it has {', '.join(WARMUP_DEFAULTS)}")
    params = {**WARMUP_DEFAULTS, **wanted}
    if params["warmup"] not in ("kmeans", "random") or params["vectors"] != "text":
        raise ValueError(
            f"warmup is kmeans or random (without one there is the indicator ifd), and vectors is text (the text "
            f"encoder's; those of the language model are not offered), got {params['warmup']} and {params['vectors']}"
        )
    return params


@dg.asset(
    key=WARMUP,
    group_name="tuned",
    deps=[*POOL_ROWS, whole_pool("evidence/token_statistics")],
    code_version="1",
    kinds={"polars"},
    check_specs=check_specs(WARMUP.path),
    description="The rows that the experienced model is trained on: of each of 100 clusters of instructions ten, at "
    "even steps of how perplexing the base model finds the prompt, without the cluster's easiest and hardest percent "
    "(or as many rows drawn at random). They are held while the pool stays much the same.",
)
def warmup_rows(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder, causal_lm: CausalLM
) -> Iterator[Any]:
    """Choose the rows of the warm-up, or hold those that were chosen."""
    step = Step(context, lake, settings)
    pool = step.pool(WARMUP)
    params = params_of(settings)
    config = {**params, "encoder": encoder.identity(), "causal_lm": causal_lm.identity()}

    def compute() -> Result:
        rows = pool_rows(step, pool, kept=True).select("row_id", "source", "instruction").collect()
        kept = held(step, WARMUP, config, rows["row_id"])
        facts = {"pool": pool, **chosen_from(step, WARMUP, kept, rows["row_id"])}
        if kept is not None:
            return Result(kept, facts, _shown(rows, kept))
        rows = rows.join(_perplexity(step, pool), on="row_id", how="left", maintain_order="left")
        chosen = _choose(rows, params, encode_with(lake, encoder, context.log.info))
        table = rows[chosen.order].select(
            "row_id",
            "source",
            rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
            cluster=pl.Series(chosen.cluster, dtype=pl.Int64),
            perplexity="perplexity",
            reason=pl.Series(chosen.reason, dtype=pl.String),
        )
        out = list(chosen.left_out.values())
        facts["share of pool"] = table.height / max(rows.height, 1)
        facts |= {f"left out: {why}": out.count(why) for why in sorted(set(out))}
        shown = {"prompts": metadata.histogram(rows["perplexity"], "perplexity of a prompt of the pool")}
        return Result(table, facts, {**_shown(rows, table, chosen.sizes), **shown})

    yield from step.make(WARMUP, config, compute, pool)


def _perplexity(step: Step, pool: list[str]) -> pl.DataFrame:
    """How perplexing the base model finds each prompt, a block at a time."""
    lists = step.scan("evidence/token_statistics", pool).select("row_id", "logp_prompt")
    found = [
        block.select("row_id", perplexity=warmup.prompt_perplexity(block))
        for block in lists.collect_batches(chunk_size=BLOCK, maintain_order=True)
    ]
    return pl.concat(
        [pl.DataFrame(schema={"row_id": pl.String, "perplexity": pl.Float64}), *found], how="vertical"
    ).unique("row_id", keep="first")


def _choose(rows: pl.DataFrame, params: Mapping[str, Any], encode: Callable[[list[str]], np.ndarray]) -> warmup.Warmup:
    clusters, each, seed = int(params["clusters"]), int(params["each"]), int(params["seed"])
    if params["warmup"] == "random":
        return warmup.random_rows(rows.height, clusters * each, seed)
    vectors = encode(rows["instruction"].to_list())
    perplexity = rows["perplexity"].fill_null(float("nan")).to_numpy()
    low, high = params["window"]
    return warmup.warmup_rows(vectors, perplexity, clusters, each, (float(low), float(high)), seed)


def _shown(rows: pl.DataFrame, table: pl.DataFrame, sizes: Mapping[int, int] | None = None) -> dict[str, Any]:
    texts = table.join(rows.select("row_id", "instruction"), on="row_id", how="left", maintain_order="left")
    by_cluster = texts.group_by("cluster", maintain_order=True).agg(
        taken=pl.len(),
        perplexity=pl.format("{} – {}", pl.col("perplexity").min().round(1), pl.col("perplexity").max().round(1)),
        example=pl.first("instruction"),
    )
    if sizes:
        whole = pl.DataFrame({"cluster": list(sizes), "rows": list(sizes.values())})
        by_cluster = by_cluster.join(whole, on="cluster", how="left", maintain_order="left")
        by_cluster = by_cluster.select("cluster", "rows", "taken", "perplexity", "example")
    return {
        "clusters": metadata.table(by_cluster, 160, 100),
        "chosen prompts": metadata.histogram(table["perplexity"], "perplexity of a chosen prompt"),
    }


# ---- the experienced model -----------------------------------------------------------------------------------------


@trains(
    EXPERIENCED,
    [same_source("tuned/warmup_rows")],
    "The language model after one epoch over the rows of the warm-up; it lies in the home, under `models`. The table "
    "has a line for each step of the training. Trained only when somebody asks for it.",
)
def experienced(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Train the language model on the warm-up, unless it was."""
    step = Step(context, lake, settings)
    tuning = tuning_of(settings, "experienced", TUNING)
    yield from training(step, EXPERIENCED, "experienced", causal_lm, tuning, "tuned/warmup_rows")


@dg.asset(
    key=TOKENS,
    group_name="evidence",
    deps=[same_source("tuned/experienced"), *POOL_ROWS],
    code_version="1",
    kinds={"parquet", "transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(TOKENS.path),
    description="As `evidence/token_statistics`, by the experienced model and over the whole pool. Every batch is kept "
    "as it is finished; rows that this model has read are not read again.",
)
def token_statistics_experienced(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Pass the rows of the pool that the experienced model has not read yet."""
    step = Step(context, lake, settings)
    pool = step.pool(TOKENS)
    identity = tuned_identity(step, EXPERIENCED, causal_lm)

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        return tuned_model(step, EXPERIENCED, causal_lm).token_statistics(rows)

    def compute() -> Result:
        done = passed(step, TOKENS, identity, TOKEN_STATISTICS_SCHEMA, pool_rows(step, pool), "reading", ask, in_tokens)
        facts = {**done.facts, "pool": pool, **share_not_ok(done.data), "model": identity["model"]}
        mean = pl.scan_parquet(done.data, glob=False).select(pl.col("logp_conditional").list.mean()).collect()
        shown = metadata.histogram(mean.to_series(), "mean ln p of a response's tokens, given the prompt")
        return Result(done.data, facts, {"mean ln p": shown})

    yield from step.make(TOKENS, identity, compute, pool)


ASSETS = (warmup_rows, experienced, token_statistics_experienced)
