"""A home with questions to a judge for tests: small questions, what was asked, and runs of one table.

Here belongs what several such tests share; the tests themselves stand in ``assets/test_judged*.py``.
"""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets import filtered, judged, raw
from jobs.runs import add_sources, run_config
from methods.judging.kinds import OK, PARSE_ERROR, Answer, Cell, Question, Reading
from resources import judge_local
from resources.judge import Judge
from resources.lake import Lake
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables

ASKED: list[str] = []
"""The instruction of every call that was made."""
BROKEN: set[str] = set()
"""Instructions to which the judge babbles."""


def cells(rows: pl.DataFrame, times: int = 1) -> list[Cell]:
    return [
        Cell(row["row_id"], "" if times == 1 else f"part {k}", (("user", row["instruction"]),), repeat=k)
        for row in rows.iter_rows(named=True)
        if "nothing" not in row["instruction"]
        for k in range(times)
    ]


def read(answer: Answer, cell: Cell, times: int = 1) -> Reading:
    found = re.match(r"Score: (\d)", answer.text)
    if "stumble" in answer.text:
        raise KeyError("a reader's slip")
    return Reading(OK, float(found[1]), {"n": 1}) if found else Reading(PARSE_ERROR)


TOY = Question("toy", "A toy", (), "Nobody", "How good it is.", cells, read, {"times": 1})


def cells_after(rows: pl.DataFrame, before: pl.DataFrame) -> list[Cell]:
    given = rows.join(before, on="row_id", how="left", maintain_order="left")
    return [
        Cell(row["row_id"], "", (("user", f"After {row['values'][0]}: {row['instruction']}"),))
        for row in given.iter_rows(named=True)
        if row["status"] == OK
    ]


def read_after(answer: Answer, cell: Cell, before: str) -> Reading:
    return read(answer, cell)


SECOND = Question(
    "second", "A second", (), "Nobody", "What follows.", cells_after, read_after, {"before": "evidence/judgments_toy"}
)


class Home:
    def __init__(self, home: Path, *sources: Path, questions: tuple[Question, ...] = (TOY,)) -> None:
        self.lake, self.questions = Lake(home), questions
        self.instance = dg.DagsterInstance.ephemeral()
        self.sources = [path.stem for path in sources]
        add_sources(self.lake, self.instance, {path.stem: path for path in sources})
        for source in self.sources:
            assert self.run(source, self.defs(Judge()), [a for a in self.rows()]).success

    def rows(self) -> list[dg.AssetKey]:
        return [dg.AssetKey(name.split("/")) for name in (
            "raw/instructions", "raw/quarantine", "filtered/instructions", "filtered/dropped")]  # fmt: skip

    def defs(self, judge: Judge) -> dg.Definitions:
        home = str(self.lake.home)
        return dg.Definitions(
            assets=[*raw.ASSETS, *filtered.ASSETS, *judged.build_assets(self.questions)],
            resources={
                "io_manager": ParquetTables(home=home),
                "lake": LakeResource(home=home),
                "settings": Settings(),
                "judge": judge,
            },
        )

    def run(
        self, source: str, defs: dg.Definitions, keys: list[dg.AssetKey], tags: Any = None, **settings: Any
    ) -> dg.ExecuteInProcessResult:
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            run_config=run_config(settings), instance=self.instance, partition_key=source, asset_selection=keys,
            raise_on_error=False, tags=tags or {},
        )  # fmt: skip

    def ask(
        self, source: str = "a", question: str = "toy", judge: Judge | None = None, tags: Any = None, **settings: Any
    ) -> dg.ExecuteInProcessResult:
        ASKED.clear()
        return self.run(
            source, self.defs(judge or Judge(model="fake:judge")), [judged.key_of(question)], tags, **settings
        )

    def table(self, source: str = "a", question: str = "toy") -> pl.DataFrame:
        return self.lake.scan(judged.key_of(question).path, source).collect()

    def facts(self, source: str = "a", question: str = "toy") -> dict[str, Any]:
        return self.lake.manifest(judged.key_of(question).path, source).facts

    def version(self, source: str = "a") -> str:
        return self.lake.manifest(judged.key_of("toy").path, source).data_version


def said(result: dg.ExecuteInProcessResult) -> str:
    data = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    failure = data[0].user_failure_data
    return failure.description if failure else data[0].error.message + str(data[0].error.cause)


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    made = [e for e in result.all_events if e.event_type_value == "ASSET_MATERIALIZATION"]
    return {name: value.value for name, value in made[-1].step_materialization_data.materialization.metadata.items()}


def verdict(result: dg.ExecuteInProcessResult, name: str) -> bool:
    checks = [
        e.asset_check_evaluation_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    return next(check.passed for check in checks if check.check_name == name)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write down every call of the stand-in, and babble where a test wants it."""
    ASKED.clear()
    BROKEN.clear()
    whole = judge_local.StandIn.ask

    async def ask(self: Any, cell: Cell, *args: Any, **more: Any) -> Answer:
        ASKED.append(cell.messages[-1][1])
        got = await whole(self, cell, *args, **more)
        babble = next((word for word in BROKEN if cell.messages[-1][1].startswith(word)), None)
        return Answer(OK, "stumble" if babble else got.text, {}, 10, 5)

    monkeypatch.setattr(judge_local.StandIn, "ask", ask)
