"""Stage 4, what costs a language model more than a look: writing on, thinning, choosing; and the task map.

Here belongs wiring, as in `passes`: which rows, in which batches, kept where. How a model writes stands in
`resources.generation`, how it is thinned in `resources.subnets`; what is made of the answers, with the methods.
Everything here is made only where somebody asks for what is read off it.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import dagster as dg
import polars as pl

from assets import automation, metadata
from assets.coverage import coverage, rows_to_assess, share_not_ok
from assets.incremental import fill
from assets.partitions import same_source, whole_pool
from assets.passes import ROWS_ASKED, model_pass, passed
from assets.step import Result, Step, check_specs
from methods.importance import options, tasks
from methods.kinds import OK
from methods.quality.subnets import LEVELS, SUBNETS_SCHEMA
from methods.rows import PROMPT
from resources.causal_lm import CausalLM
from resources.generation import CONTINUATIONS_SCHEMA, continuations
from resources.settings import Settings
from resources.subnets import checked, subnet_losses
from resources.tables import LakeResource
from resources.token_pass import EMPTY_RESPONSE

CONTINUATIONS, SUBNETS, CAPE = (dg.AssetKey(["evidence", name]) for name in ("continuations", "subnets", "cape"))
TASK_MAP = dg.AssetKey(["explored", "task_map"])
_MESSAGES = ("row_id", "messages", "instruction", "input", "response")


@model_pass(
    CONTINUATIONS,
    "1",
    "A model reads each row's prompt and the first 32 tokens of its response and writes 32 more by itself: how many of "
    "them are the response's own. In bfloat16 a near tie may fall otherwise in another batch; in float32 it does not.",
)
def written_on(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Let the model go on with the responses that it did not see yet."""
    step = Step(context, lake, settings)
    said = {"prompt_tokens": 32, "window": 32, **settings.params.get("memorization_rank_generated", {})}
    shown, window = int(said["prompt_tokens"]), int(said["window"])
    identity = {**causal_lm.identity(), "prompt_tokens": shown, "window": window}

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        return continuations(causal_lm, rows, shown, window)

    def compute() -> Result:
        rows = rows_to_assess(step).select(_MESSAGES)
        done = passed(step, CONTINUATIONS, identity, CONTINUATIONS_SCHEMA, rows, "writing on", ask)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(CONTINUATIONS, identity, compute)


@model_pass(
    SUBNETS,
    "1",
    "The mean loss of each response on several models that are made of one: each lacks a share of its smallest weights "
    "(0, 20 and 40 %), or of its hidden units. One pass a model.",
)
def thinned(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Pass the rows that were not passed yet through the thinned models."""
    step = Step(context, lake, settings)
    said = settings.params.get("learning_complexity", {})
    kind = said.get("subnets", "magnitude")
    levels = checked(kind, said.get("levels") or LEVELS.get(kind, ()))
    seed = int(said.get("seed", 0))
    identity = {**causal_lm.identity(), "subnets": kind, "levels": levels, "seed": seed}

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        return subnet_losses(causal_lm, rows, kind, levels, seed)

    def compute() -> Result:
        rows = rows_to_assess(step).select(_MESSAGES)
        done = passed(step, SUBNETS, identity, SUBNETS_SCHEMA, rows, "thinned", ask)
        shown = {"loss of each subnet": metadata.table(_by_level(pl.scan_parquet(done.data, glob=False), levels))}
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)}, shown)

    yield from step.make(SUBNETS, identity, compute)


def _by_level(losses: pl.LazyFrame, levels: list[float]) -> pl.DataFrame:
    """One line a subnet: what it lacks, and the mean loss of the rows on it."""
    read = losses.filter(pl.col("status") == OK)
    means = read.select(pl.col("mean_nll").list.get(at).mean().alias(str(at)) for at in range(len(levels))).collect()
    return pl.DataFrame({"share that is missing": levels, "mean -ln p a token": list(means.row(0))}, strict=False)


# ---- choosing between answers --------------------------------------------------------------------------------------


@dg.asset(
    key=CAPE,
    group_name="evidence",
    deps=[same_source("filtered/pool"), same_source("evidence/neighbours"), whole_pool("filtered/instructions")],
    code_version="1",
    kinds={"parquet", "transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(CAPE.path),
    description="For each row of the pool, how probable a model finds each of up to four answers as the reply: the "
    "row's own and those of its nearest other rows, asked for their letter in three wordings and all cyclic orders. "
    "Rows whose options are the same as before are not asked again.",
)
def choosing(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Ask about the rows that have new options."""
    step = Step(context, lake, settings)
    pool = step.pool(CAPE)
    identity = {**causal_lm.identity(), "templates": options.TEMPLATES}

    def compute() -> Result:
        rows = _with_options(step, pool)
        cache = step.lake.cache("cape", {"code": step.code_version(CAPE), **identity})

        def forward(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
            yield pl.DataFrame(schema=dict(options.CAPE_SCHEMA))
            progress = step.progress(f"{identity.get('model', 'language model')} choosing", total)
            for block in todo.collect().iter_slices(ROWS_ASKED):
                yield asked_to_choose(block, causal_lm)
                progress.advance(block.height)

        # In the cache a row goes by its options too: with other neighbours it is another question.
        done = fill(step, CAPE, rows.select("prompt", "options", row_id="question").lazy(), [], forward, cache)
        named = rows.lazy().select("row_id", question="question")
        found = pl.scan_parquet(done.data, glob=False).rename({"row_id": "question"})
        table = (
            named.join(found, on="question", how="left", maintain_order="left")
            .select(list(options.CAPE_SCHEMA))
            .collect()
        )
        done.data.unlink()
        measured, shown = _calibrated(table)
        facts = {**done.facts, "pool": pool, "share not ok": (table["status"] != OK).mean() or 0.0, **measured}
        return Result(table, facts, shown)

    yield from step.make(CAPE, identity, compute, pool)


def _with_options(step: Step, pool: list[str]) -> pl.DataFrame:
    """``row_id``, ``prompt``, ``options`` of the pool's rows, and ``question``, a hash of all three."""
    texts = step.scan("filtered/instructions", pool)
    if step.settings.all_rows:
        dropped = step.lake.scan_sources(["filtered", "dropped"], pool).select(texts.collect_schema().names())
        texts = pl.concat([texts, dropped])
    said = texts.unique("row_id", keep="first").select("row_id", "response", prompt=PROMPT)
    near = step.scan("evidence/neighbours").select("row_id", "ids")
    rows = (
        step.scan("filtered/pool")
        .select("row_id")
        .join(said, on="row_id", how="left", maintain_order="left")
        .join(near, on="row_id", how="left", maintain_order="left")
        .collect()
    )
    responses = dict(rows.select("row_id", "response").iter_rows())
    given = [
        options.options_of(response or "", [responses.get(other) or "" for other in ids or ()])
        if (response or "").strip()
        else None
        for response, ids in rows.select("response", "ids").iter_rows()
    ]
    questions = [
        blake2b(repr((row_id, prompt, asked)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        for (row_id, prompt), asked in zip(rows.select("row_id", "prompt").iter_rows(), given, strict=True)
    ]
    return rows.select(
        "row_id",
        "prompt",
        options=pl.Series(given, dtype=pl.List(pl.String)),
        question=pl.Series(questions, dtype=pl.String),
    )


def asked_to_choose(rows: pl.DataFrame, causal_lm: CausalLM) -> pl.DataFrame:
    """`options.CAPE_SCHEMA` of some rows: ``row_id``, ``prompt``, ``options`` (null: the row has no response; empty:
    there is nothing to choose from)."""
    asked = [(prompt, texts) for prompt, texts in rows.select("prompt", "options").iter_rows() if texts]
    prompts = [text for prompt, texts in asked for text in options.option_prompts(prompt, texts)]
    counts = [len(texts) for _, texts in asked]
    words = options.words(max(counts, default=2))
    found = iter(options.answered(counts, *causal_lm.next_token(prompts, words)))
    lines: list[dict[str, Any]] = []
    for row_id, texts in rows.select("row_id", "options").iter_rows():
        line: dict[str, Any] = {"row_id": row_id, "status": EMPTY_RESPONSE if texts is None else "no_candidates"}
        if texts:
            line["status"], line["probabilities"] = next(found)
            line["n_options"] = len(texts)
        lines.append(line)
    return pl.DataFrame(lines, schema=dict(options.CAPE_SCHEMA))


def _calibrated(table: pl.DataFrame) -> tuple[dict[str, float], dict[str, Any]]:
    """How far the model's confidence can be believed: numbers, and a line for each bin of it."""
    told = options.answers(table)
    found = options.calibration(told["confidence"], told["correct"])
    if found is None:
        return {}, {}
    bins = found.bins.select(
        pl.format("{} to {}", pl.col("from").round(2), pl.col("to").round(2)).alias("confidence"),
        "rows",
        pl.col("confidence").alias("mean confidence"),
        pl.col("right").alias("share that took the row's own answer"),
    )
    numbers = {"expected calibration error": found.ece, "Brier score": found.brier}
    return numbers, {"reliability": metadata.table(bins)}


# ---- tasks ---------------------------------------------------------------------------------------------------------

TASKS: Mapping[str, Any] = {"by": "cluster", "instances": 10, "seed": 0}
"""What a task is (a cluster or a source), and how many of its rows are drawn."""


@dg.asset(
    key=TASK_MAP,
    group_name="explored",
    deps=[
        same_source("filtered/pool"),
        same_source("clustered/kmeans"),
        same_source("clustered/kmeans_model"),
        whole_pool("scored/prompt_uncertainty"),
        whole_pool("scored/prediction_probability"),
    ],
    code_version="1",
    kinds={"polars"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(TASK_MAP.path),
    description="Tasks (clusters, or sources) by how uncertain a model is of them when words of the instruction are "
    "missing, and how probable it finds their answers: the means over up to ten rows of each. Ambiguous: uncertain; "
    "difficult: certain and improbable; easy: certain and probable; each relative to the pool's median task.",
)
def task_map(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Draw rows of each task and place it on the map."""
    step = Step(context, lake, settings)
    pool = step.pool(TASK_MAP)
    config = {**TASKS, **settings.params.get("task_map", {})}
    if unknown := sorted(set(config) - set(TASKS)):
        raise ValueError(f"task_map has no parameter {', '.join(unknown)}; it has {', '.join(TASKS)}")
    if config["by"] not in ("cluster", "source"):
        raise ValueError(f"task_map: by must be cluster or source, got {config['by']!r}")

    def compute() -> Result:
        found = tasks.task_scores(_of_tasks(step, pool, config["by"]), int(config["instances"]), int(config["seed"]))
        region = tasks.task_map(found["uncertainty"], found["probability"])
        named = _names(step, config["by"])
        name = pl.Series([named.get(task, task) for task in found["task"]], dtype=pl.String)
        table = found.with_columns(name=name, region=region).select(
            "task", "name", "uncertainty", "probability", "task_rows", "drawn", "region"
        )
        cuts = tasks.cuts_of(found["uncertainty"], found["probability"])
        counts = {f"{one} tasks": int((table["region"] == one).sum()) for one in REGIONS}
        shown = {
            "task map": metadata.scatter(
                table.select(x="probability", y="uncertainty", kind="region"),
                REGIONS,
                (cuts[1], cuts[0]),
                "uncertainty (upwards) by probability of the response",
            ),
            "tasks": metadata.table(table, 120),
        }
        return Result(table, {"pool": pool, **counts}, shown)

    yield from step.make(TASK_MAP, config, compute, pool)


REGIONS: Mapping[str, str] = {"ambiguous": metadata.MARK, "difficult": metadata.AXIS, "easy": metadata.BAR}
"""The regions of the map, and their colours."""


def _of_tasks(step: Step, pool: list[str], by: str) -> pl.DataFrame:
    """``row_id``, ``task``, ``uncertainty`` and ``probability`` of the pool's rows."""
    rows = step.scan("filtered/pool").select("row_id", task="source")
    if by == "cluster":
        labels = step.scan("clustered/kmeans").filter(pl.col("cluster") >= 0)
        rows = rows.select("row_id").join(
            labels.select("row_id", task=pl.col("cluster").cast(pl.String)),
            on="row_id",
            how="left",
            maintain_order="left",
        )
    for name, key in (("uncertainty", "prompt_uncertainty"), ("probability", "prediction_probability")):
        values = step.scan(f"scored/{key}", pool).unique("row_id", keep="first")
        rows = rows.join(
            values.select("row_id", pl.col("value").alias(name)), on="row_id", how="left", maintain_order="left"
        )
    return rows.collect()


def _names(step: Step, by: str) -> dict[str, str]:
    """What each cluster is about, in its top terms; a source goes by its own name."""
    if by != "cluster":
        return {}
    about = step.scan("clustered/kmeans_model").select(
        pl.col("cluster").cast(pl.String), pl.col("top_terms").list.head(5).list.join(", ")
    )
    return dict(about.collect().iter_rows())


SOURCE_ASSETS = (written_on, thinned)
POOL_ASSETS = (choosing, task_map)
