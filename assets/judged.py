"""Stage 4, what costs money: the questions that a judge is asked about rows, each question a table.

Here belongs wiring: which rows are asked about, within which limits, and when a table is taken up again. Questions and
readings stand in `methods.judging`; asking, paying and keeping in ``resources/judge*.py``.

An answer is no function of what it was asked with, so the version of such a table follows from its answers. A table
with cells that have none (failed, not asked because a limit came first, waiting in a batch) is taken up again whenever
it is asked for: what is known is not bought twice.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from assets import metadata
from assets.coverage import FROM_FILTERED, coverage, rows_to_assess
from assets.partitions import SOURCES, same_source
from assets.spending import Plan, Wish, account_of, add_up, wish_of
from assets.step import STORED, Result, Step, check_specs
from methods.judging import prompts
from methods.judging.kinds import (
    FAILED,
    JUDGMENTS_SCHEMA,
    NOT_ASKED,
    OK,
    PARSE_ERROR,
    PENDING,
    Answer,
    Cell,
    Question,
    Reading,
    gathered,
)
from methods.judging.questions import reads_from
from resources import prices
from resources.answers import Answers, Bill
from resources.judge import Judge
from resources.judge_batch import Batches
from resources.judge_bill import store_path
from resources.judge_calls import JudgeUnavailable
from resources.lake import Manifest
from resources.prices import Price
from resources.progress import Progress
from resources.settings import Settings
from resources.tables import LakeResource

ASKED_TOGETHER = 4096
"""Rows whose requests are in hand at a time."""
OPEN_CELLS, WAITS_FOR, TOY = "cells open", "waits for", "toy judge"
ASKED_OF = ("row_id", "source", "messages", "instruction", "input", "response", "turns")
"""What a question sees of a row."""
NO_JUDGE = (
    "no judge is set, and none comes with the program: set SLUICE_JUDGE_MODEL to a model's name, and SLUICE_JUDGE_URL "
    "to the address of a server unless it is OpenAI's (local:embedded:smollm2 is a toy in this process, fake:judge a "
    "stand-in, both for trying things out)"
)
SHOWN = 5
"""Answers that a page shows of each kind."""
_TOYS = {
    "local:": "a small model in this process: what it says of a row is worth little",
    "fake": "a stand-in, no model",
}


def key_of(question_id: str) -> dg.AssetKey:
    """The asset of a question."""
    return dg.AssetKey(["evidence", f"judgments_{question_id}"])


def build_assets(questions: Sequence[Question]) -> tuple[dg.AssetsDefinition, ...]:
    """One asset a question."""
    return tuple(_asset(question) for question in questions)


def _asset(question: Question) -> dg.AssetsDefinition:
    key = key_of(question.id)
    before = [same_source(key_of(other).to_user_string()) for other in reads_from(question).values()]

    # Of several, although it is one: only so may a step end without a table, as a dry run does.
    @dg.multi_asset(
        name=f"judgments_{question.id}",
        partitions_def=SOURCES,
        can_subset=True,
        pool="judge",
        check_specs=check_specs(key.path, SOURCES),
        specs=[
            dg.AssetSpec(
                key,
                deps=[*FROM_FILTERED, *before],
                group_name="evidence",
                code_version=question.version,
                kinds={"parquet", "openai"},
                skippable=True,
                tags={"cost": "llm"},
                description=f"**{question.title}**. {question.meaning} Asked of a judge (SLUICE_JUDGE_MODEL); every "
                "answer is kept as it arrives. It costs money, and is made only where somebody asks for it.\n\n"
                f"{question.paper}",
                metadata={
                    "prompts": ", ".join(question.prompts),
                    "parameters": dg.MetadataValue.json(dict(question.params)),
                    **STORED,
                },
            )
        ],
    )
    def judged(
        context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, judge: Judge
    ) -> Iterator[Any]:
        if not judge.model:
            raise dg.Failure(description=f"{key.to_user_string()}: {NO_JUDGE}", allow_retries=False)
        step = Step(context, lake, settings)
        try:
            yield from _Judging(step, question, wish_of(settings), judge).made()
        except JudgeUnavailable as error:
            # From None: what lies behind it may repeat the request.
            raise dg.Failure(description=str(error), allow_retries=False) from None

    return judged


def params_of(question: Question, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The question's parameters, and what a person set under its table's name (an indicator may have its id)."""
    step = key_of(question.id).path[-1]
    wanted = settings.get(step, {})
    free = [name for name in question.params if name not in reads_from(question)]
    if unknown := sorted(set(wanted) - set(free)):
        raise ValueError(f"{step} has no parameter {', '.join(unknown)}; it has {', '.join(free) or 'none'}")
    return {**question.params, **wanted}


def requests(
    question: Question,
    params: Mapping[str, Any],
    rows: pl.LazyFrame,
    table: Callable[[str], pl.LazyFrame],
    home: Path,
) -> Iterator[tuple[list[str], list[Cell], dict[str, str]]]:
    """Row ids, what is asked about these rows, and why some are not asked about; some rows at a time.

    ``table`` finds the table of a question that this one reads: what failed there cannot be asked about here.
    """
    for block in rows.select(ASKED_OF).collect_batches(chunk_size=ASKED_TOGETHER, maintain_order=True):
        if not block.height:
            continue
        ids = block.select("row_id").lazy()
        handed = {
            name: table(key_of(other).to_user_string())
            .select(JUDGMENTS_SCHEMA.names())
            .join(ids, on="row_id", how="semi")
            .collect()
            for name, other in reads_from(question).items()
        }
        with prompts.using(home):
            cells = question.cells(block, **{**params, **handed})
        failed = [part.filter(pl.col("status") != OK).select("row_id", "status") for part in handed.values()]
        yield block["row_id"].to_list(), cells, {row: why for part in failed for row, why in part.iter_rows()}


def reading_of(question: Question, params: Mapping[str, Any]) -> Callable[[Answer, Cell], Reading]:
    """How answers to a question are read: one that its reader stumbles over is one that cannot be read."""

    def read(answer: Answer, cell: Cell) -> Reading:
        try:
            return question.reading(answer, cell, **params)
        except Exception:  # the others were paid for too
            return Reading(PARSE_ERROR)

    return read


class _Judging:
    """The making of one question's table for one source."""

    def __init__(self, step: Step, question: Question, wish: Wish, judge: Judge) -> None:
        self.step, self.question, self.wish = step, question, wish
        self.key = key_of(question.id)
        self.judge = judge.limited(**wish.limits)
        self.home = step.lake.home
        self.params = params_of(question, step.settings.params)
        self.read = reading_of(question, self.params)
        self.price: Price | None = prices.price_of(judge.model, judge.url, self.home)
        self.config = {
            **judge.identity(),
            "question": question.id,
            "version": question.version,
            "prompts": {name: prompts.content_hash([name], self.home) for name in question.prompts},
            "params": self.params,
        }
        self.known = 0

    def made(self) -> Iterator[Any]:
        """The table, or the word that nothing is to be done."""
        if self.wish.dry_run:
            self._say_what_it_would_take()
            return
        stored = self._settled()
        if stored is not None:
            yield from self.step.unchanged(self.key, stored)
            return
        inputs = self.step.inputs(self.key)
        with self._store() as store, Batches(store_path(self.home), store) as batches:
            before = store.bill(store.account)
            frame, waits = self._asked(store, batches)
            result = self._result(frame, waits, before, store.bill(store.account))
        draft = self.step.draft(self.key, {**self.config, "answers": _content(frame, waits)})
        if draft.inputs != inputs:
            raise JudgeUnavailable("the rows changed while they were asked about: ask again; what was bought is kept")
        stored = self.step.up_to_date(self.key, draft)
        yield from self.step.unchanged(self.key, stored) if stored else self.step.publish(self.key, result, draft)

    def _store(self) -> Answers:
        return Answers(store_path(self.home), account_of(self.step.context))

    def _settled(self) -> Manifest | None:
        """The stored table, if it has all answers to what would be asked."""
        stored = self.step.lake.manifest(self.key.path, self.step.partition)
        if stored is None or stored.facts.get(OPEN_CELLS):
            return None
        same = {**self.config, "answers": stored.config.get("answers")}
        return self.step.up_to_date(self.key, self.step.draft(self.key, same))

    # ---- asking ------------------------------------------------------------------------------------------------

    def _rows(self) -> pl.LazyFrame:
        return rows_to_assess(self.step)

    def _blocks(self) -> Iterator[tuple[list[str], list[Cell], dict[str, str]]]:
        return requests(self.question, self.params, self._rows(), self.step.scan, self.home)

    def _asked(self, store: Answers, batches: Batches) -> tuple[pl.DataFrame, list[str]]:
        """The table, and the batches that it waits for."""
        total = self._rows().select(pl.len()).collect().item()
        progress = self.step.progress(f"{self.judge.model} asked ({self.question.id})", 0, "answers")
        tables, waits, done = [pl.DataFrame(schema=JUDGMENTS_SCHEMA)], set[str](), 0
        for row_ids, cells, excused in self._blocks():
            done += len(row_ids)
            progress.total = progress.done + round(len(cells) * (1 + (total - done) / len(row_ids)))
            answers, batched = self._answers(cells, store, batches, progress)
            waits |= batched
            tables.append(gathered(row_ids, cells, answers, self.read, excused))
        return pl.concat(tables), sorted(waits)

    def _answers(
        self, cells: list[Cell], store: Answers, batches: Batches, progress: Progress
    ) -> tuple[list[Answer], set[str]]:
        """An answer for every cell; and the batches in which some of them lie."""
        identity = self.judge.identity()
        keys = [cell.key(identity) for cell in cells]
        self.known += sum(answer.status == OK for answer in store.known(keys).values())
        held = batches.holding(keys)
        free = {key: cell for key, cell in zip(keys, cells, strict=True) if key not in held}
        # A batch takes what is left when nobody may be asked now.
        judge = self.judge.limited(max_calls=0) if self.judge.batch else self.judge
        ask = list(free.values())
        given = judge.ask(ask, store, self.question.id, self._worth, self.price, progress.advance)
        found = dict(zip(free, given, strict=True))
        left = [key for key, answer in found.items() if answer.status == NOT_ASKED]
        if self.judge.batch and left:
            batches.hand_in(self.judge, [free[key] for key in left], self.question.id, self.price)
        held = batches.holding(keys)
        # An answer that could not be read, and was not bought anew, is still an answer.
        found |= {**store.known(left), **dict.fromkeys(held, Answer(PENDING))}
        return [found[key] for key in keys], set(held.values())

    def _worth(self, cell: Cell, answer: Answer) -> str:
        return self.read(answer, cell).status

    # ---- telling -----------------------------------------------------------------------------------------------

    def _say_what_it_would_take(self) -> None:
        with self._store() as store, Batches(store_path(self.home), store) as batches:
            plan = Plan(self.question.id)
            blocks = (cells for _, cells, _ in self._blocks())
            add_up(plan, self.judge, blocks, store, batches, self.price, self._worth)
        said = dg.AssetObservation(
            asset_key=self.key,
            partition=self.step.partition,
            description="a dry run: nobody was asked, and the table is as it was",
            metadata={"model": self.judge.model, **plan.told()},
        )
        self.step.context.log_event(said)

    def _result(self, frame: pl.DataFrame, waits: list[str], before: Bill, bill: Bill) -> Result:
        cells = frame.explode("parts", "values", "statuses", "fields", "answers").drop_nulls("statuses")
        counted = dict(cells.group_by("statuses").len().iter_rows())
        toy = next((said for start, said in _TOYS.items() if self.judge.model.startswith(start)), "")
        paid = None if bill.cost is None or before.cost is None else bill.cost - before.cost
        calls = bill.calls - before.calls
        facts = {
            **coverage(self.step),
            "rows missing": 0,
            "share not ok": float(frame.select((pl.col("status") != OK).mean()).item() or 0.0),
            "cells": cells.height,
            OPEN_CELLS: sum(counted.get(status, 0) for status in (*FAILED, NOT_ASKED, PENDING)),
            WAITS_FOR: waits,
            "answers known before": self.known,
            "calls": calls,
            "calls that failed": bill.failed - before.failed,
            "prompt tokens": bill.prompt_tokens - before.prompt_tokens,
            "completion tokens": bill.completion_tokens - before.completion_tokens,
            "cost": "the model has no price" if paid is None else paid,
            "stopped by": self._stopped(counted.get(NOT_ASKED, 0), bill),
            "model": self.judge.model,
            "key from": self.judge.key_name,
            **({TOY: toy} if toy else {}),
        }
        return Result(frame, facts, self._shown(cells, counted))

    def _stopped(self, not_asked: int, bill: Bill) -> str:
        """Which limit came first, in words."""
        if not not_asked:
            return "nothing: all was asked"
        limits = self.judge
        if limits.max_calls is not None and bill.calls >= limits.max_calls:
            return f"max_calls: {limits.max_calls:,} calls were allowed"
        if limits.max_budget is not None:
            return f"max_budget: the next answer might have passed {limits.max_budget:g} dollars"
        return "another run"

    def _shown(self, cells: pl.DataFrame, counted: Mapping[str, int]) -> dict[str, Any]:
        statuses = sorted(counted, key=lambda status: (status != OK, -counted[status], status))
        shares = pl.DataFrame(
            {
                "status": statuses,
                "answers": [counted[status] for status in statuses],
                "share": [counted[status] / cells.height for status in statuses],
            },
            schema={"status": pl.String, "answers": pl.Int64, "share": pl.Float64},
        )
        values = cells["values"].cast(pl.Float64)
        return {
            "statuses": metadata.table(shares),
            **({"values": metadata.histogram(values, f"what {self.question.id} reads")} if values.count() else {}),
            "readings": metadata.table(self._readings(cells), 130),
        }

    def _readings(self, cells: pl.DataFrame) -> pl.DataFrame:
        """Some answers with what was read off them: the least, the greatest, and some without a reading."""
        ok = cells.filter(pl.col("statuses") == OK).sort("values", maintain_order=True)
        odd = cells.filter((pl.col("statuses") != OK) & (pl.col("answers") != ""))
        few = pl.concat([ok.head(SHOWN), ok[SHOWN:].tail(SHOWN), odd.head(SHOWN)])
        rows = self._rows().select("row_id", "instruction", "response")
        texts = rows.join(few.select("row_id").unique().lazy(), on="row_id", how="semi").collect()
        return few.join(texts, on="row_id", how="left", maintain_order="left").select(
            metadata.texts("instruction", "response").alias("row"),
            part="parts",
            value="values",
            status="statuses",
            answer="answers",
        )


def _content(frame: pl.DataFrame, waits: Sequence[str]) -> str:
    """A hash of what a judge said: the part of a table's version that nothing else decides."""
    digest = hashlib.blake2b(json.dumps(list(waits)).encode(), digest_size=12)
    for line in frame.select("row_id", "parts", "statuses", "answers").iter_rows():
        digest.update(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
