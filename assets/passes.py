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
from resources.progress import Progress
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


def model_pass(key: dg.AssetKey, code_version: str, description: str) -> Callable[..., dg.AssetsDefinition]:
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


def passed(
    step: Step,
    key: dg.AssetKey,
    identity: Mapping[str, Any],
    schema: Mapping[str, Any],
    rows: pl.LazyFrame,
    what: str,
    ask: Callable[[pl.DataFrame], Iterable[pl.DataFrame]],
    counted: "Callable[[Progress, pl.DataFrame], Callable[[pl.DataFrame], None]]" = lambda progress, todo: (
        lambda batch: progress.advance(batch.height)
    ),
) -> Filled:
    """A line for every row: those that were not passed yet, batch by finished batch, and the others as they were.

    ``counted`` says how a finished batch counts as progress: as its rows, or otherwise.
    """
    cache = step.lake.cache(key.path[-1], {"code": step.code_version(key), **identity})

    def forward(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame(schema=dict(schema))
        waiting = todo.collect()
        tell = counted(step.progress(f"{identity.get('model', 'language model')} {what}", total), waiting)
        for batch in ask(waiting):
            yield batch
            tell(batch)

    return fill(step, key, rows, [], forward, cache)


def in_tokens(progress: Progress, todo: pl.DataFrame) -> Callable[[pl.DataFrame], None]:
    """Progress by tokens, for long rows come first: those still to come are guessed from the characters left."""
    characters = dict(todo.select("row_id", pl.col("messages").list.eval(LETTERS).list.sum()).iter_rows())
    left = sum(characters.values())
    read = 0
    progress.unit, progress.total = "tokens", left // 4

    def tell(batch: pl.DataFrame) -> None:
        nonlocal left, read
        passed = sum(characters[row] for row in batch["row_id"])
        left, read = left - passed, read + passed
        tokens = int(batch.select(TOKENS_READ.sum()).item() or 0)
        progress.total = progress.done + tokens + round(left * (progress.done + tokens) / max(read, 1))
        progress.advance(tokens)

    return tell


LETTERS = pl.element().struct.field("content").str.len_chars().fill_null(0)
TOKENS_READ = pl.col("n_prompt_tokens").fill_null(0) + pl.col("n_response_tokens").fill_null(0)
"""Tokens of a conversation; the responses alone are read once more, which is not counted here."""


@model_pass(
    TOKENS,
    "3",
    "For each response token, from one forward pass of a causal language model: ln p of the token with and without "
    "the prompt, entropy, Σp², the two largest probabilities, and whether the largest is the token; and ln p of each "
    "token of the prompt. Every batch is kept as it is finished.",
)
def token_statistics(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Pass the rows that were not passed yet through the model."""
    step = Step(context, lake, settings)
    identity = causal_lm.identity()

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "messages", "instruction", "input", "response")
        reading = causal_lm.token_statistics
        done = passed(step, TOKENS, identity, TOKEN_STATISTICS_SCHEMA, rows, "reading", reading, in_tokens)
        seen = pl.scan_parquet(done.data, glob=False).select(
            "n_response_tokens", pl.col("logp_conditional").list.mean(), "truncated", read=TOKENS_READ
        )
        tokens, mean, cut, read = seen.collect().get_columns()
        facts = {
            **done.facts,
            **coverage(step),
            **share_not_ok(done.data),
            "model": str(identity.get("model", "")),
            "tokens": int(read.sum()),
            "rows cut": int(cut.sum()),
        }
        shown = {
            "response length": metadata.histogram(tokens, "tokens in the response"),
            "mean ln p": metadata.histogram(mean, "mean ln p of a response's tokens, given the prompt"),
        }
        return Result(done.data, facts, shown)

    yield from step.make(TOKENS, identity, compute)


@model_pass(
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
        done = passed(step, PERTURBATIONS, identity, prompting.PERTURBATIONS_SCHEMA, rows, "asked again", ask)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(PERTURBATIONS, identity, compute)


def asked_again(rows: pl.DataFrame, causal_lm: CausalLM) -> pl.DataFrame:
    """`prompting.PERTURBATIONS_SCHEMA` of some rows: each is passed once for every form of its instruction."""
    passed = causal_lm.token_statistics(prompting.forms_of(rows, ASKED_AGAIN), alone=False)
    return prompting.gathered(rows, pl.concat(list(passed)))


@model_pass(
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
        done = passed(step, YES_NO, identity, yes_no.YES_NO_SCHEMA, rows, "asked for yes or no", ask)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(YES_NO, identity, compute)


def asked_yes_or_no(rows: pl.DataFrame, questions: Sequence[str], causal_lm: CausalLM) -> pl.DataFrame:
    """`yes_no.YES_NO_SCHEMA` of some rows (``row_id``, ``text``, ``response``)."""
    prompts = [prompt for text in rows["text"] for prompt in yes_no.yes_no_prompts(text, questions)]
    return yes_no.answered(rows, len(questions), *causal_lm.next_token(prompts, yes_no.WORDS))


ASSETS = (token_statistics, prompt_perturbations, yes_or_no)
