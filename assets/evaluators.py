"""Stage 4, what costs a second model: passes of models that were trained to judge or to align texts.

Here belongs wiring, as in `passes`, whose shape these passes share. The models are `resources.alignment` and
`resources.boolean_qa`; what they are asked, and what is kept of the answer, stands with the methods that read it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from assets.coverage import coverage, rows_to_assess, share_not_ok
from assets.passes import ROWS_ASKED, model_pass, passed
from assets.step import Result, Step
from methods.quality import alignment
from methods.quality import deita_scorers as deita_science
from methods.quality import unieval as judged
from resources.alignment import Aligner
from resources.boolean_qa import UniEval
from resources.deita import DeitaScorers
from resources.settings import Settings
from resources.tables import LakeResource

ALIGNMENT, UNIEVAL, DEITA = (dg.AssetKey(["evidence", name]) for name in ("ctc_alignment", "unieval", "deita_scorers"))


@model_pass(
    ALIGNMENT,
    "1",
    "For each word of a response, how far the instruction, the input and both carry it, and for each word of those how "
    "far the response does: by the embedded encoder, or by an aligner that is named (SLUICE_CTC_ALIGNER). Made only "
    "where somebody asks for what is read off it.",
)
def ctc_alignment(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, ctc_aligner: Aligner
) -> Iterator[Any]:
    """Align the rows that were not aligned yet."""
    step = Step(context, lake, settings)
    identity = ctc_aligner.identity()

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "instruction", "input", "response")
        done = passed(step, ALIGNMENT, identity, alignment.ALIGNMENT_SCHEMA, rows, "aligning", ctc_aligner.align)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(ALIGNMENT, identity, compute)


@model_pass(
    UNIEVAL,
    "1",
    "For each dimension that is asked about, the chance that a model trained to judge texts says yes of the row: one "
    "pass a question, nothing is generated. It needs a checkpoint (SLUICE_UNIEVAL), and is made only where somebody "
    "asks for what is read off it.",
)
def unieval(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, unieval_model: UniEval
) -> Iterator[Any]:
    """Ask about the rows that were not asked about yet."""
    if not unieval_model.model:
        raise dg.Failure(
            description="evidence/unieval needs a checkpoint of UniEval, and none comes with the program: set "
            "SLUICE_UNIEVAL to a folder or to a hub id such as MingZhong/unieval-dialog (fake:unieval is a stand-in "
            "for trying things out)",
            allow_retries=False,
        )
    step = Step(context, lake, settings)
    wished = settings.params.get("unieval", {})
    task = wished.get("task", judged.DEFAULT_TASK)
    asked = judged.asked(task, wished.get("ask", judged.DEFAULT_ASK), wished.get("dimension", "overall"))
    identity = {**unieval_model.identity(), "task": task, "dimensions": list(asked)}

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        alike = rows.sort(pl.col("response").str.len_chars(), descending=True, maintain_order=True)
        return (asked_about(block, asked, unieval_model, task) for block in alike.iter_slices(ROWS_ASKED))

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "instruction", "input", "response")
        done = passed(step, UNIEVAL, identity, judged.answers_schema(asked), rows, "judging", ask)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(UNIEVAL, identity, compute)


def asked_about(
    rows: pl.DataFrame, dimensions: Sequence[str], model: UniEval, task: str = judged.DEFAULT_TASK
) -> pl.DataFrame:
    """`methods.quality.unieval.answers_schema` of some rows (``row_id, instruction, input, response``)."""
    asked = judged.questions_of(rows, dimensions, task)
    return judged.gathered(rows, dimensions, asked, *model.ask(asked.texts), task=task)


@model_pass(
    DEITA,
    "1",
    "How complex each instruction and how good each response is, turn by turn, as DEITA's two trained scorers say at "
    "one token. It needs both checkpoints (SLUICE_DEITA_COMPLEXITY, SLUICE_DEITA_QUALITY), and is made only where "
    "somebody asks for what is read off it.",
)
def deita_scorers(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, deita: DeitaScorers
) -> Iterator[Any]:
    """Score the rows that were not scored yet."""
    if not (deita.complexity and deita.quality):
        raise dg.Failure(
            description="evidence/deita_scorers needs two checkpoints, and none comes with the program: set "
            "SLUICE_DEITA_COMPLEXITY and SLUICE_DEITA_QUALITY to folders or hub ids such as "
            "hkust-nlp/deita-complexity-scorer and hkust-nlp/deita-quality-scorer (fake:deita is a stand-in)",
            allow_retries=False,
        )
    step = Step(context, lake, settings)
    identity = deita.identity()

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        return (scored_by(block, deita) for block in rows.iter_slices(ROWS_ASKED))

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "messages", "instruction", "input", "response")
        done = passed(step, DEITA, identity, deita_science.SCORERS_SCHEMA, rows, "scoring", ask)
        return Result(done.data, {**done.facts, **coverage(step), **share_not_ok(done.data)})

    yield from step.make(DEITA, identity, compute)


def scored_by(rows: pl.DataFrame, deita: DeitaScorers) -> pl.DataFrame:
    """`deita_scorers.SCORERS_SCHEMA` of some rows."""
    complexity, quality, counts = deita_science.prompts_of(rows)
    read = [
        model.next_token(prompts, deita_science.SCORES, raw=True)
        for model, prompts in zip(deita.models(), (complexity, quality), strict=True)
    ]
    return deita_science.gathered(rows["row_id"].to_list(), counts, read)


ASSETS = (ctc_alignment, unieval, deita_scorers)
