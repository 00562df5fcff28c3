"""MoDS, a table a step: good rows, a seed of them, a model tuned on the seed, its answers, and the rows it needs.

Here belongs wiring. The decisions and their thresholds stand in `methods.importance.mods`, training in
`resources.tuning`, generation in `resources.generation`, rewards in `resources.reward_model`.

The last step of the paper is not here: tuning the raw model again on `mods/chosen` is the training run of whoever
asked for the rows. As everywhere (`training`), a training starts only when somebody asks for it, and a seed once chosen
is held while the pool stays much the same; new rows are answered by the model that there is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata, rewards
from assets.coverage import share_not_ok
from assets.embedded import encode_with
from assets.partitions import same_source, whole_pool
from assets.passes import passed
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
from methods.importance import mods
from methods.quality.reward import question_and_answer
from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.generation import generate
from resources.lake import LakeError
from resources.reward_model import PREFERENCE_HEAD, RewardModel
from resources.settings import Settings
from resources.tables import LakeResource

SEED, MODEL, ANSWERS, CHOSEN = (dg.AssetKey(["mods", name]) for name in ("seed", "model", "answers", "chosen"))
REWARD = "scored/reward_score"
DEFAULTS: Mapping[str, Any] = {
    "quality": 0.0,
    "k": 1000,
    "seed": 0,
    "hold": 0.1,
    "necessity": 0.0,
    "max_new_tokens": 128,
    "keep_truncated": False,
}
"""Thresholds, the size of the seed and the seed of its first row are the paper's (see `methods.importance.mods`);
``keep_truncated`` believes rewards of answers of which the reward model saw only the beginning."""
TUNING: Mapping[str, Any] = {"epochs": 3.0, "learning_rate": 2e-5, "warmup": 0.03, "batch_rows": 512}
"""The reference's: 8 rows on each of 4 devices, 16 times before a step. Small seeds make few steps of it; `mods_model`
among the parameters sets it otherwise."""
ANSWERS_SCHEMA: Mapping[str, Any] = {
    "row_id": pl.String,
    "status": pl.String,
    "answer": pl.String,
    "reward": pl.Float64,
}


def params_of(settings: Settings) -> dict[str, Any]:
    """The parameters of the pipeline: the defaults, and what a person set."""
    wanted = settings.params.get("mods", {})
    if unknown := sorted(set(wanted) - set(DEFAULTS)):
        raise ValueError(f"mods has no parameter {', '.join(unknown)}; there are: {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **wanted}


def some(params: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those parameters that a step reads, for its configuration: the others do not change its table."""
    return {name: params[name] for name in names}


def good(step: Step, pool: list[str], threshold: float, kept: bool = False) -> pl.LazyFrame:
    """The rows of quality with their rewards, in the pool's order (see `training.pool_rows`)."""
    found = step.scan(REWARD, pool).select("row_id", reward="value").unique("row_id", keep="first").collect()
    above = found.filter(pl.Series(mods.good_rows(found["reward"], threshold), dtype=pl.Boolean))
    return pool_rows(step, pool, kept).join(above.lazy(), on="row_id", how="inner", maintain_order="left")


# ---- steps 1 and 2: quality and seed -------------------------------------------------------------------------------


@dg.asset(
    key=SEED,
    group_name="mods",
    deps=[*POOL_ROWS, whole_pool(REWARD)],
    code_version="1",
    kinds={"polars"},
    check_specs=check_specs(SEED.path),
    description="Of the rows whose reward is above a threshold, those whose instructions cover the others best "
    "(k-center greedy; 1,000 rows, or half of them where there are fewer than 2,000). They are held while the pool "
    "stays much the same.",
)
def seed(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder) -> Iterator[Any]:
    """Choose the seed, or hold the one that was chosen."""
    step = Step(context, lake, settings)
    pool = step.pool(SEED)
    params = params_of(settings)
    made = step.lake.manifest(REWARD.split("/"), pool[0])
    config = {
        **some(params, "quality", "k", "seed", "hold"),
        "encoder": encoder.identity(),
        "rewards": made.config.get("made with") if made else None,
    }

    def compute() -> Result:
        above = good(step, pool, float(params["quality"]), kept=True)
        rows = above.select("row_id", "source", "instruction", "reward").collect()
        if rows.is_empty():
            raise LakeError(
                f"no row of {', '.join(pool)} has a reward above {params['quality']}: a lower threshold "
                "(parameter quality of mods) or another reward model would leave some"
            )
        counts = {"pool": step.scan("filtered/pool").select(pl.len()).collect().item(), "quality": rows.height}
        kept = held(step, SEED, config, rows["row_id"])
        facts = {**_steps(counts), "pool": pool, **chosen_from(step, SEED, kept, rows["row_id"])}
        table = kept
        if table is None:
            vectors = encode_with(lake, encoder, context.log.info)(rows["instruction"].to_list())
            size = mods.seed_size(rows.height, int(params["k"]))
            chosen = mods.seed_rows(rows["row_id"], vectors, size, int(params["seed"]))
            facts["without a vector"] = rows.height - int(np.isfinite(vectors).all(axis=1).sum())
            table = rows[chosen.order].select(
                "row_id",
                "source",
                rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
                reward="reward",
                gain=pl.Series(chosen.gain, dtype=pl.Float64).fill_nan(None),
                reason=pl.Series(chosen.reason, dtype=pl.String),
            )
        counts["seed"] = table.height
        texts = table.head(40).join(rows, on="row_id", how="left", maintain_order="left")
        shown = {
            "steps": funnel(counts),
            "rewards": metadata.histogram(step.scan(REWARD, pool).select("value").collect()["value"], "reward"),
            "first rows": metadata.table(texts.select("rank", "reward", "gain", "instruction"), 160),
        }
        return Result(table, {**facts, **_steps(counts)}, shown, {"reward": [(REWARD, "value")]})

    yield from step.make(SEED, config, compute, pool)


def _steps(counts: Mapping[str, int]) -> dict[str, int]:
    return {f"rows: {name}": counts[name] for name in mods.STEPS if name in counts}


def funnel(counts: Mapping[str, int]) -> dg.MetadataValue:
    """How many rows each step left."""
    names = [name for name in mods.STEPS if name in counts]
    most = max([counts[name] for name in names], default=0) or 1
    bars = ["█" * round(counts[name] / most * 20) for name in names]
    return metadata.table(pl.DataFrame({"step": names, "rows": [counts[name] for name in names], "": bars}))


# ---- step 3: the model ---------------------------------------------------------------------------------------------


@trains(
    MODEL,
    [same_source("mods/seed")],
    "The language model after three epochs over the seed; it lies in the home, under `models`. The table has a line "
    "for each step of the training. Trained only when somebody asks for it.",
)
def model(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Train the language model on the seed, unless it was."""
    step = Step(context, lake, settings)
    yield from training(step, MODEL, "mods", causal_lm, tuning_of(settings, "mods_model", TUNING), "mods/seed")


# ---- step 4: its answers -------------------------------------------------------------------------------------------


@dg.asset(
    key=ANSWERS,
    group_name="mods",
    deps=[same_source("mods/model"), *POOL_ROWS, whole_pool(REWARD)],
    code_version="1",
    kinds={"parquet", "transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(ANSWERS.path),
    description="What the model that was tuned on the seed answers to every row of quality, and the reward of that. "
    "Answers are greedy; each batch is kept as it is finished, and what this model answered is not asked again.",
)
def answers(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    settings: Settings,
    encoder: Encoder,
    causal_lm: CausalLM,
    reward_model: RewardModel,
) -> Iterator[Any]:
    """Ask the rows of quality that the model has not answered yet."""
    step = Step(context, lake, settings)
    pool = step.pool(ANSWERS)
    params = params_of(settings)
    if not reward_model.model:
        raise dg.Failure(description=rewards.NO_MODEL, allow_retries=False)
    reward, head = reward_model.identity(), dict[str, str]()
    if reward_model.model == PREFERENCE_HEAD:
        head = {rewards.HEAD.to_user_string(): rewards.head_version(step, encoder)}
        reward |= {"head": head[rewards.HEAD.to_user_string()]}
    length = int(params["max_new_tokens"])
    seeded = step.lake.manifest(SEED.path)
    quality = float((seeded.config if seeded else params)["quality"])  # of the seed that the model was tuned on
    identity = {**tuned_identity(step, MODEL, causal_lm), "max_new_tokens": length, "reward": reward}

    def judge(rows: pl.DataFrame) -> pl.DataFrame:
        if not head:
            return rewards.asked(rows, reward_model)
        encode = encode_with(lake, encoder, context.log.info)
        return rewards.by_head(rows, step.lake.scan(rewards.HEAD.path).collect(), encode)

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        return rewarded(rows, generate(tuned_model(step, MODEL, causal_lm), rows, length), judge)

    def compute() -> Result:
        rows = good(step, pool, quality).drop("source", "reward")
        done = passed(step, ANSWERS, identity, ANSWERS_SCHEMA, rows, "answering", ask)
        numbers = pl.scan_parquet(done.data, glob=False).select("reward").collect()["reward"]
        facts = {**done.facts, "pool": pool, **share_not_ok(done.data), "model": identity["model"]}
        return Result(done.data, facts, {"rewards": metadata.histogram(numbers, "reward of a generated answer")})

    yield from step.make(ANSWERS, {**identity, "quality": quality}, compute, pool, head)


def rewarded(
    rows: pl.DataFrame, answered: Iterable[pl.DataFrame], judge: Callable[[pl.DataFrame], pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """Generated answers with their rewards, frame by frame.

    ``rows`` are what was asked; ``judge`` is handed rows as it would be those of a file, with the generated answer for
    a response, and gives `REWARDS_SCHEMA`. What was not answered is not judged and keeps its status.
    """
    questions = {row["row_id"]: question_and_answer(row)[0] for row in rows.iter_rows(named=True)}
    for frame in answered:
        written = frame.filter(pl.col("status") == "ok")
        asked = pl.Series([questions[row_id] for row_id in written["row_id"]], dtype=pl.String)
        judged = judge(written.select("row_id", "response", instruction=asked, input=pl.lit("")))
        judged = judged.select("row_id", "reward", judged="status")
        told = frame.join(judged, on="row_id", how="left", maintain_order="left")
        status = pl.coalesce("judged", "status")
        found = told.select("row_id", "reward", status=status, answer="response").select(list(ANSWERS_SCHEMA))
        yield found.cast(pl.Schema(dict(ANSWERS_SCHEMA)))


# ---- step 5: what is chosen ----------------------------------------------------------------------------------------


@dg.asset(
    key=CHOSEN,
    group_name="mods",
    deps=[same_source("mods/seed"), same_source("mods/answers"), same_source("filtered/pool"), whole_pool(REWARD)],
    code_version="1",
    kinds={"polars"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(CHOSEN.path),
    description="What MoDS takes: the seed, and the rows whose prompt the model tuned on it answers badly (a reward "
    "below a threshold). Each row once. The raw model is to be tuned on these.",
)
def chosen(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Put the seed and the needed rows together."""
    step = Step(context, lake, settings)
    pool = step.pool(CHOSEN)
    params = params_of(settings)

    def compute() -> Result:
        ids = step.scan("filtered/pool").select("row_id").collect()["row_id"]
        answered = step.scan("mods/answers").select("row_id", "status", "reward").collect()
        believed = ["ok", "truncated"] if params["keep_truncated"] else ["ok"]
        judged = answered.filter(pl.col("status").is_in(believed))
        covering = step.scan("mods/seed").collect()
        own = step.scan(REWARD, pool).select("row_id", reward="value").unique("row_id", keep="first").collect()
        threshold = float(params["necessity"])
        table = mods.with_rewards(mods.chosen_rows(ids, covering, judged, threshold), own)
        in_seed = int((table["step"] == "seed").sum())
        counts = {
            "pool": len(ids),
            "quality": answered.height,
            "seed": in_seed,
            "answered": judged.height,
            "needed": int(mods.needed_rows(judged["reward"], threshold).sum()),
            "chosen": table.height,
        }
        facts = {
            "pool": pool,
            **_steps(counts),
            "seed rows gone": covering.height - in_seed,
            "ids not in pool": table.height - int(table["row_id"].is_in(ids.implode()).sum()),
        }
        shown = {
            "steps": funnel(counts),
            "rewards of the chosen": metadata.histogram(table["reward_generated"], "reward of the generated answer"),
        }
        lineage = {"reward": [(REWARD, "value")], "reward_generated": [("mods/answers", "reward")]}
        return Result(table, facts, shown, lineage)

    yield from step.make(CHOSEN, some(params, "necessity", "keep_truncated"), compute, pool)


ASSETS = (seed, model, answers, chosen)
