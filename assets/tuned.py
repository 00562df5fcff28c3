"""Models that are trained on some rows of the pool, and Cherry's warm-up: the pool as an experienced model reads it.

Here belongs wiring: the rows of the warm-up, the short training, the trained model's pass over the pool; and what any
asset needs that trains (`training`) or reads with a trained model (`tuned_identity`, `tuned_model`). Which rows are
chosen stands in `methods.quality.warmup`, the training in `resources.tuning`.

A training starts only when somebody asks for it: what trains, and what decides on what is trained, has no automation.
Rows once chosen are held while the pool stays much the same, so that a new row does not mean a new model, and with it
a new pass over every other row.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
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
from methods.quality import warmup
from resources import models
from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.lake import LakeError, MissingTable
from resources.progress import Progress
from resources.settings import Settings
from resources.tables import LakeResource
from resources.token_pass import TOKEN_STATISTICS_SCHEMA
from resources.tuning import Tuning, fingerprint_of, tune

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
POOL_ROWS = [same_source("filtered/pool"), whole_pool("filtered/instructions")]
MODEL, CONTENT = "trained model", "content of its files"


# ---- what other assets over the pool use ---------------------------------------------------------------------------


def pool_rows(step: Step, pool: list[str], kept: bool = False) -> pl.LazyFrame:
    """The distinct rows of the pool with their texts, in the pool's order.

    ``kept``: without those that a filter dropped, which are in the pool where every row is to be scored. No model is
    trained on them.
    """
    names = ["row_id", "messages", "instruction", "input", "response"]
    tables = ["filtered/instructions", *(["filtered/dropped"] if step.settings.all_rows and not kept else [])]
    rows = pl.concat([step.scan(table, pool).select(names) for table in tables]).unique("row_id", keep="first")
    ids = step.scan("filtered/pool").select("row_id", "source")
    return ids.join(rows, on="row_id", how="inner", maintain_order="left")


def held(step: Step, key: dg.AssetKey, config: Mapping[str, Any], candidates: pl.Series) -> pl.DataFrame | None:
    """The rows that were chosen before, if they may stay.

    They stay while the code and the parameters are the same, every one of them is still a candidate, and there are not
    many more or fewer candidates than when they were chosen (by ``hold``, a share of those; with 0 any change of their
    number chooses again). So what is chosen depends on the pool that it was first chosen from, which the table names.
    """
    stored = step.lake.manifest(key.path)
    if stored is None or step.previous(key, config) is None:
        return None
    before = int(stored.facts.get("chosen from", 0))
    rows = step.lake.scan(key.path).collect()
    same = abs(len(candidates) - before) <= float(config["hold"]) * before
    return rows if same and rows["row_id"].is_in(candidates.implode()).all() else None


def chosen_from(step: Step, key: dg.AssetKey, kept: pl.DataFrame | None, candidates: pl.Series) -> dict[str, Any]:
    """The facts that `held` reads the next time."""
    stored = step.lake.manifest(key.path)
    before = int(stored.facts["chosen from"]) if stored and kept is not None else len(candidates)
    return {"chosen from": before, "candidates": len(candidates), "held from before": kept is not None}


def tuning_of(settings: Settings, name: str, defaults: Mapping[str, Any]) -> Tuning:
    """The settings of a training: its defaults, and what a person set for it."""
    wanted = settings.params.get(name, {})
    known = Tuning.__dataclass_fields__
    if unknown := sorted(set(wanted) - set(known)):
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; there are: {', '.join(known)}")
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in wanted.items()}
    return Tuning(**{**defaults, **plain})


def training(
    step: Step,
    key: dg.AssetKey,
    name: str,
    causal_lm: CausalLM,
    tuning: Tuning,
    pool: list[str],
    rows: Callable[[], pl.DataFrame],
) -> Iterator[Any]:
    """The whole life of a trained model: the folder ``HOME/models/NAME-FINGERPRINT``, and the table of its steps.

    The same rows and settings are trained on once, however often this is asked. A model whose folder was removed is
    trained again, although its table is up to date.
    """
    config = {**causal_lm.identity(), "tuning": asdict(tuning)}
    draft = step.draft(key, config, pool)
    stored = step.up_to_date(key, draft)
    if stored is not None and _is_there(step, str(stored.facts[MODEL])):
        yield from step.unchanged(key, stored)
        return
    learned = rows()
    folder = step.lake.home / "models" / f"{name}-{fingerprint_of(causal_lm, learned, tuning)}"
    tuned = tune(causal_lm, learned, folder, tuning, _told(step, f"training {name}"))
    losses = tuned.steps["loss"].drop_nulls()
    facts = {
        "pool": pool,
        MODEL: tuned.model if models.is_fake(tuned.model) else f"models/{folder.name}",
        CONTENT: str(causal_lm.with_model(tuned.model).identity()["content"]),
        "rows asked for": learned.height,
        "rows trained on": tuned.rows,
        "tokens": tuned.tokens,
        "seconds": tuned.seconds,
        **({"loss, first step": losses[0], "loss, last step": losses[-1]} if len(losses) else {}),
    }
    shown = {"loss": metadata.line(losses.to_list(), "loss of a step")}
    yield from step.publish(key, Result(tuned.steps, facts, shown), draft)


def _told(step: Step, what: str) -> Callable[[int, int], None]:
    progress: list[Progress] = []

    def tell(done: int, total: int) -> None:
        if not progress:
            progress.append(step.progress(what, total, "steps"))
        progress[0].advance(done - progress[0].done)

    return tell


def _is_there(step: Step, model: str) -> bool:
    return models.is_fake(model) or (step.lake.home / model).is_dir()


def _facts(step: Step, key: dg.AssetKey) -> dict[str, Any]:
    stored = step.lake.manifest(key.path)
    if stored is None:
        raise MissingTable(f"{key.to_user_string()} is not there yet: materialize it first; it trains a model")
    return stored.facts


def tuned_identity(step: Step, key: dg.AssetKey, causal_lm: CausalLM) -> dict[str, Any]:
    """As `CausalLM.identity` of the trained model; its files need not be there for it."""
    facts = _facts(step, key)
    base = {name: value for name, value in causal_lm.identity().items() if name != "revision"}
    return {**base, "model": str(facts[MODEL]), "content": facts[CONTENT]}


def tuned_model(step: Step, key: dg.AssetKey, causal_lm: CausalLM) -> CausalLM:
    """The trained model, with the settings of the language model that is in use."""
    model = str(_facts(step, key)[MODEL])
    if not _is_there(step, model):
        raise LakeError(f"{step.lake.home / model} is gone: materialize {key.to_user_string()} again, which trains it")
    return causal_lm.with_model(model if models.is_fake(model) else str(step.lake.home / model))


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


@dg.asset(
    key=EXPERIENCED,
    group_name="tuned",
    deps=[same_source("tuned/warmup_rows"), *POOL_ROWS],
    code_version="1",
    kinds={"transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    check_specs=check_specs(EXPERIENCED.path),
    description="The language model after one epoch over the rows of the warm-up; it lies in the home, under `models`. "
    "The table has a line for each step of the training. Trained only when somebody asks for it.",
)
def experienced(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Train the language model on the warm-up, unless it was."""
    step = Step(context, lake, settings)
    pool = step.pool(EXPERIENCED)

    def rows() -> pl.DataFrame:
        chosen = step.scan("tuned/warmup_rows").sort("rank").select("row_id")
        return chosen.join(pool_rows(step, pool), on="row_id", how="inner", maintain_order="left").collect()

    tuning = tuning_of(settings, "experienced", TUNING)
    yield from training(step, EXPERIENCED, "experienced", causal_lm, tuning, pool, rows)


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
