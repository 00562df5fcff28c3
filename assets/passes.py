"""Stage 4, what costs a language model: the passes over a source's rows that many indicators read.

Here belongs wiring: which rows, in which batches, kept where. The model is `resources.causal_lm`; what a row is asked,
and what is kept of the answer, stands with the methods that read it. Every finished batch is kept, so that a killed
pass goes on from there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from assets import metadata
from assets.coverage import FROM_FILTERED, coverage, rows_to_assess, share_not_ok
from assets.incremental import Filled, fill
from assets.partitions import SOURCES
from assets.step import Result, Step, check_specs
from methods.importance import prompting
from methods.quality import yes_no
from methods.rows import TEXT
from resources.causal_lm import CausalLM
from resources.settings import Settings
from resources.tables import LakeResource
from resources.token_pass import TOKEN_STATISTICS_SCHEMA

TOKENS, PERTURBATIONS, YES_NO = (
    dg.AssetKey(["evidence", name]) for name in ("token_statistics", "prompt_perturbations", "yes_no")
)
ASKED_AGAIN = 10
"""Perturbed copies of an instruction."""
ROWS_ASKED = 32
"""Rows that are asked, and kept, together."""


def _pass(key: dg.AssetKey, code_version: str, description: str) -> Callable[..., dg.AssetsDefinition]:
    """The asset of a pass: all passes look alike but for what they ask."""
    return dg.asset(
        key=key,
        group_name="evidence",
        partitions_def=SOURCES,
        deps=FROM_FILTERED,
        code_version=code_version,
        kinds={"parquet", "transformers"},
        pool="gpu",
        tags={"cost": "gpu"},
        check_specs=check_specs(key.path, SOURCES),
        description=description,
    )


def _passed(
    step: Step,
    key: dg.AssetKey,
    identity: Mapping[str, Any],
    schema: Mapping[str, Any],
    rows: pl.LazyFrame,
    what: str,
    ask: Callable[[pl.DataFrame], Iterable[pl.DataFrame]],
) -> Filled:
    """A line for every row: those that were not passed yet, batch by finished batch, and the others as they were."""
    cache = step.lake.cache(key.path[-1], {"code": step.code_version(key), **identity})

    def forward(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame(schema=dict(schema))
        progress = step.progress(f"{identity.get('model', 'language model')} {what}", total)
        for batch in ask(todo.collect()):
            yield batch
            progress.advance(batch.height)

    return fill(step, key, rows, [], forward, cache)


@_pass(
    TOKENS,
    "2",
    "For each response token, from one forward pass of a causal language model: ln p of the token with and without "
    "the prompt, entropy, Σp², the two largest probabilities, and whether the largest is the token. Every batch is "
    "kept as it is finished.",
)
def token_statistics(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Pass the rows that were not passed yet through the model."""
    step = Step(context, lake, settings)
    identity = causal_lm.identity()

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "messages", "instruction", "input", "response")
        done = _passed(step, TOKENS, identity, TOKEN_STATISTICS_SCHEMA, rows, "reading", causal_lm.token_statistics)
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


@_pass(
    PERTURBATIONS,
    "1",
    f"For each response token, ln p behind the instruction as it is, and behind {ASKED_AGAIN} copies of it from which "
    "words are missing: eleven passes a row, made only where somebody asks for what is read off them.",
)
def prompt_perturbations(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Pass the rows that were not yet, each with its instruction perturbed."""
    step = Step(context, lake, settings)
    identity = {**causal_lm.identity(), "copies": ASKED_AGAIN}

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        return (asked_again(block, causal_lm) for block in rows.iter_slices(ROWS_ASKED))

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "messages", "instruction", "input", "response")
        done = _passed(step, PERTURBATIONS, identity, prompting.PERTURBATIONS_SCHEMA, rows, "asked again", ask)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(PERTURBATIONS, identity, compute)


def asked_again(rows: pl.DataFrame, causal_lm: CausalLM) -> pl.DataFrame:
    """`prompting.PERTURBATIONS_SCHEMA` of some rows: each is passed once for every form of its instruction."""
    passed = causal_lm.token_statistics(prompting.forms_of(rows, ASKED_AGAIN), alone=False)
    return prompting.gathered(rows, pl.concat(list(passed)))


@_pass(
    YES_NO,
    "1",
    "For each question that is asked about a row, ln p of yes and of no as the next token of a language model: one "
    "pass a question, nothing is generated. Made only where somebody asks for what is read off it.",
)
def yes_or_no(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Ask about the rows that were not asked about yet."""
    step = Step(context, lake, settings)
    questions = yes_no.checked(settings.params.get("autods_lm_score", {}).get("questions", yes_no.QUESTIONS))
    identity = {**causal_lm.identity(), "questions": questions}

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        return (asked_yes_or_no(block, questions, causal_lm) for block in rows.iter_slices(ROWS_ASKED))

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "response", text=TEXT)
        done = _passed(step, YES_NO, identity, yes_no.YES_NO_SCHEMA, rows, "asked for yes or no", ask)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(YES_NO, identity, compute)


def asked_yes_or_no(rows: pl.DataFrame, questions: Sequence[str], causal_lm: CausalLM) -> pl.DataFrame:
    """`yes_no.YES_NO_SCHEMA` of some rows (``row_id``, ``text``, ``response``)."""
    prompts = [prompt for text in rows["text"] for prompt in yes_no.yes_no_prompts(text, questions)]
    return yes_no.answered(rows, len(questions), *causal_lm.next_token(prompts, yes_no.WORDS))


ASSETS = (token_statistics, prompt_perturbations, yes_or_no)
