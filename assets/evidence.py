"""Stage 4: what one expensive pass learns about rows, gathered once and read by many indicators.

Here belong the passes: text counts and the token statistics of a language model (a source at a time), and the nearest
neighbours across the pool. The counting rules are `methods.text`, the model is `resources.causal_lm`, the search is
`methods.numerics`. Every pass keeps what it has finished: killed, it goes on from there.
"""

from collections.abc import Iterator, Sequence
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
from methods.importance import prompting
from methods.numerics import neighbours as search
from methods.quality import readability, yes_no
from methods.rows import TEXT
from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource
from resources.token_pass import TOKEN_STATISTICS_SCHEMA

COUNTS, TOKENS, PERTURBATIONS, YES_NO, NEIGHBOURS, FEATURES = (
    dg.AssetKey(["evidence", name])
    for name in (
        *("text_counts", "token_statistics", "prompt_perturbations", "yes_no"),
        *("neighbours", "readability_features"),
    )
)
NEIGHBOURS_KEPT = 10
ASKED_AGAIN = 10
"""Perturbed copies of an instruction."""
ROWS_ASKED = 32
"""Rows whose copies are passed and kept together."""


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
    key=TOKENS,
    group_name="evidence",
    partitions_def=SOURCES,
    deps=FROM_FILTERED,
    code_version="2",
    kinds={"parquet", "transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    check_specs=check_specs(TOKENS.path, SOURCES),
    description="For each response token, from one forward pass of a causal language model: ln p of the token "
    "with and without the prompt, "
    "entropy, Σp², the two largest probabilities, and whether the largest is the token. Every batch is kept as it"
    " is finished.",
)
def token_statistics(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Pass the rows that were not passed yet through the model."""
    step = Step(context, lake, settings)
    identity = causal_lm.identity()

    def compute() -> Result:
        cache = step.lake.cache("token_statistics", {"code": step.code_version(TOKENS), **identity})
        rows = rows_to_assess(step).select("row_id", "messages", "instruction", "input", "response")

        def forward(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
            yield pl.DataFrame(schema=TOKEN_STATISTICS_SCHEMA)
            progress = step.progress(f"{identity.get('model', 'language model')} reading", total)
            for batch in causal_lm.token_statistics(todo.collect()):
                yield batch
                progress.advance(batch.height)

        done = fill(step, TOKENS, rows, [], forward, cache)
        facts = {**done.facts, **coverage(step), **share_not_ok(done.data), "model": str(identity.get("model", ""))}
        seen = pl.scan_parquet(done.data, glob=False).select(
            "n_response_tokens", pl.col("logp_conditional").list.mean()
        )
        tokens, mean = seen.collect().get_columns()
        shown = {
            "response length": metadata.histogram(tokens, "tokens in the response"),
            "mean ln p": metadata.histogram(mean, "mean ln p of a response's tokens, given the prompt"),
        }
        return Result(done.data, facts, shown)

    yield from step.make(TOKENS, identity, compute)


@dg.asset(
    key=PERTURBATIONS,
    group_name="evidence",
    partitions_def=SOURCES,
    deps=FROM_FILTERED,
    code_version="1",
    kinds={"parquet", "transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    check_specs=check_specs(PERTURBATIONS.path, SOURCES),
    description=f"For each response token, ln p behind the instruction as it is, and behind {ASKED_AGAIN} copies of it "
    "from which words are missing: eleven passes a row, made only where somebody asks for what is read off them.",
)
def prompt_perturbations(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Pass the rows that were not yet, each with its instruction perturbed."""
    step = Step(context, lake, settings)
    identity = {**causal_lm.identity(), "copies": ASKED_AGAIN}

    def compute() -> Result:
        cache = step.lake.cache("prompt_perturbations", {"code": step.code_version(PERTURBATIONS), **identity})
        rows = rows_to_assess(step).select("row_id", "messages", "instruction", "input", "response")

        def ask(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
            yield pl.DataFrame(schema=dict(prompting.PERTURBATIONS_SCHEMA))
            progress = step.progress(f"{identity.get('model', 'language model')} asked again", total)
            for block in todo.collect().iter_slices(ROWS_ASKED):
                yield asked_again(block, causal_lm)
                progress.advance(block.height)

        done = fill(step, PERTURBATIONS, rows, [], ask, cache)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(PERTURBATIONS, identity, compute)


def asked_again(rows: pl.DataFrame, causal_lm: CausalLM) -> pl.DataFrame:
    """`prompting.PERTURBATIONS_SCHEMA` of some rows: each is passed once for every form of its instruction."""
    forms = [
        {"row_id": f"{row['row_id']}/{number}", "messages": _with_instruction(row, form)}
        for row in rows.iter_rows(named=True)
        for number, form in enumerate(prompting.perturbed(row["instruction"], ASKED_AGAIN))
    ]
    asked = pl.DataFrame(forms, schema={"row_id": pl.String, "messages": rows.schema["messages"]})
    passed = pl.concat(list(causal_lm.token_statistics(asked, alone=False)))
    lists = (
        passed.with_columns(pl.col("row_id").str.split("/"))
        .with_columns(number=pl.col("row_id").list.last().cast(pl.Int64), row_id=pl.col("row_id").list.first())
        .sort("row_id", "number")
        .group_by("row_id", maintain_order=True)
        .agg(
            status=pl.col("status").filter(pl.col("status") != "ok").first().fill_null("ok"),
            logp=pl.col("logp_conditional"),
        )
    )
    short = pl.Series([prompting.perturbation_status(text) for text in rows["instruction"]])
    told = rows.select("row_id", short=short).join(lists, on="row_id", how="left", maintain_order="left")
    status = pl.when(pl.col("status") == "ok").then("short").otherwise("status")
    return told.select("row_id", status=status, logp=pl.when(status == "ok").then("logp")).cast(
        pl.Schema(dict(prompting.PERTURBATIONS_SCHEMA))
    )


def _with_instruction(row: dict[str, Any], instruction: str) -> list[dict[str, str]]:
    """The row's messages with another instruction at the head of what the user says first."""
    first = next((place for place, m in enumerate(row["messages"]) if m["role"] == "user"), None)
    return [
        {**m, "content": instruction + m["content"][len(row["instruction"]) :]} if place == first else m
        for place, m in enumerate(row["messages"])
    ]


@dg.asset(
    key=YES_NO,
    group_name="evidence",
    partitions_def=SOURCES,
    deps=FROM_FILTERED,
    code_version="1",
    kinds={"parquet", "transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    check_specs=check_specs(YES_NO.path, SOURCES),
    description="For each question that is asked about a row, ln p of yes and of no as the next token of a language "
    "model: one pass a question, nothing is generated. Made only where somebody asks for what is read off it.",
)
def yes_or_no(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Ask about the rows that were not asked about yet."""
    step = Step(context, lake, settings)
    questions = list(settings.params.get("autods_lm_score", {}).get("questions", yes_no.QUESTIONS))
    identity = {**causal_lm.identity(), "questions": questions}

    def compute() -> Result:
        cache = step.lake.cache("yes_no", {"code": step.code_version(YES_NO), **identity})
        rows = rows_to_assess(step).select("row_id", "response", text=TEXT)

        def ask(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
            yield pl.DataFrame(schema=dict(yes_no.YES_NO_SCHEMA))
            progress = step.progress(f"{identity.get('model', 'language model')} asked for yes or no", total)
            for block in todo.collect().iter_slices(ROWS_ASKED):
                yield asked_yes_or_no(block, questions, causal_lm)
                progress.advance(block.height)

        done = fill(step, YES_NO, rows, [], ask, cache)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(YES_NO, identity, compute)


def asked_yes_or_no(rows: pl.DataFrame, questions: Sequence[str], causal_lm: CausalLM) -> pl.DataFrame:
    """`yes_no.YES_NO_SCHEMA` of some rows (``row_id``, ``text``, ``response``)."""
    words = (*yes_no.YES, *yes_no.NO)
    prompts = [prompt for text in rows["text"] for prompt in yes_no.yes_no_prompts(text, questions)]
    logp = causal_lm.next_token(prompts, words).reshape(rows.height, len(questions), len(words))
    unread = np.isnan(logp).all(axis=2).any(axis=1)
    sides = np.split(np.where(np.isnan(logp), yes_no.UNSEEN, logp), [len(yes_no.YES)], axis=2)
    yes, no = (pl.Series(side.max(axis=2, initial=yes_no.UNSEEN).tolist(), dtype=pl.List(pl.Float64)) for side in sides)
    mute = (rows["response"].str.strip_chars() == "").to_numpy()
    status = pl.Series(np.where(mute, "empty_response", np.where(unread, "too_long", "ok")), dtype=pl.String)
    table = pl.DataFrame({"row_id": rows["row_id"], "status": status, "logp_yes": yes, "logp_no": no})
    fine = pl.col("status") == "ok"
    return table.with_columns(pl.when(fine).then("logp_yes"), pl.when(fine).then("logp_no"))


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


ASSETS = (text_counts, readability_features, token_statistics, prompt_perturbations, yes_or_no, neighbours)
