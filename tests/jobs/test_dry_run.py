"""What a judge would cost, and its limits, from the command line: nobody is asked unless it is meant."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner, Result

from assets import filtered, judged, raw, scored
from assets.expectations import SuiteResult
from jobs import judging
from jobs.cli import main
from methods import catalog
from methods.judging import questions
from methods.judging.kinds import OK, Answer, Cell, Question, Reading
from methods.kinds import Indicator, statused
from resources import judge_local
from resources.answers import Answers
from resources.fakes import FakeEncoder
from resources.from_env import judge_from_env
from resources.judge_bill import store_path
from resources.lake import Lake
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables
from tests.house import alpaca, lines

ASKED: list[str] = []


def cells(rows: pl.DataFrame, times: int = 1) -> list[Cell]:
    asked = rows.select("row_id", "instruction", "response").iter_rows()
    return [
        Cell(row, str(k), (("user", f"{text} {said}"),), repeat=k) for row, text, said in asked for k in range(times)
    ]


def cells_after(rows: pl.DataFrame, before: pl.DataFrame) -> list[Cell]:
    return [Cell(row, "", (("user", f"Why {row}?"),)) for row in before["row_id"]]


def read(answer: Answer, cell: Cell, **_: Any) -> Reading:
    return Reading(OK, float(answer.text.removeprefix("Score: ")[0]))


def toy_score(block: pl.DataFrame) -> pl.DataFrame:
    return statused(block["values"].list.mean(), block["status"])


TOY = Question("toy", "A toy", (), "Nobody", "How good it is.", cells, read, {"times": 1})
AFTER = Question("after", "After it", (), "Nobody", "Why.", cells_after, read, {"before": "evidence/judgments_toy"})
SCORES = tuple(
    Indicator(f"{name}_score", "A score", "quality", "judge", "3.4", "s", "Nobody", "What a judge says.",
              needs=(f"evidence/judgments_{name}",), cost="llm", compute=toy_score)
    for name in ("toy", "after")
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry")
    lines(folder / "a.jsonl", [alpaca(i) for i in range(8)])
    lines(folder / "b.jsonl", [alpaca(i) for i in range(6, 12)])  # two of them are in the other file too
    return folder


@pytest.fixture(autouse=True)
def house(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ASKED.clear()
    home = tmp_path / "home"
    monkeypatch.setenv("SLUICE_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.setenv("SLUICE_JUDGE_MODEL", "fake")
    monkeypatch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())
    monkeypatch.setattr(catalog, "INDICATORS", (*catalog.INDICATORS, *SCORES))
    monkeypatch.setattr(catalog, "METHODS", (*catalog.METHODS, *SCORES))
    monkeypatch.setattr(questions, "QUESTIONS", (TOY, AFTER))
    records = dg.DagsterInstance.ephemeral()
    monkeypatch.setattr("jobs.home.instance", lambda: nullcontext(records))
    whole = judge_local.StandIn.ask

    async def ask(self: Any, cell: Cell, *args: Any, **more: Any) -> Answer:
        ASKED.append(cell.messages[-1][1])
        got = await whole(self, cell, *args, **more)
        return Answer(OK, got.text, {}, 40, 10)

    monkeypatch.setattr(judge_local.StandIn, "ask", ask)

    def definitions() -> dg.Definitions:
        assets = [*raw.ASSETS, *filtered.ASSETS, *judged.build_assets((TOY, AFTER)), *scored.build_assets(SCORES)]
        return dg.Definitions(
            assets=assets,
            resources={
                "io_manager": ParquetTables(home=str(home)),
                "lake": LakeResource(home=str(home)),
                "settings": Settings(),
                "encoder": FakeEncoder(),
                "judge": judge_from_env(),
            },
        )

    monkeypatch.setattr("jobs.cli._definitions", definitions)
    yield


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home")


def sluice(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def numbers(result: Result, name: str) -> list[str]:
    """The numbers of a line of a table."""
    (line,) = [line for line in result.stdout.splitlines() if f" {name} " in line]
    return [part.strip() for part in line.strip("│ ").replace("┃", "│").split("│")][1:]


def test_a_dry_run_says_what_it_takes_and_asks_nobody(made: Path, lake: Lake) -> None:
    sources = ["--source", f"a={made / 'a.jsonl'}", "--source", f"b={made / 'b.jsonl'}"]
    said = sluice("score", *sources, "--indicator", "toy_score", "--dry-run")
    found = numbers(said, "toy")
    assert found[:4] == ["14", "0", "0", "12"]  # what stands in both files is asked once
    assert int(found[4].replace(",", "")) > 0 and found[5] == f"{12 * 120:,}" and found[6] == "0.00"
    assert found[7].endswith("s") and "no earlier answers to go by" in said.stdout
    assert ASKED == [] and lake.exists(["filtered", "instructions"], "a")
    assert not lake.exists(["evidence", "judgments_toy"], "a") and not lake.exists(["scored", "toy_score"], "a")
    bought = sluice("score", *sources, "--indicator", "toy_score", "--max-calls", 5)
    assert (len(ASKED) == 5 and "not ok" in bought.stderr) or len(ASKED) == 5
    again = sluice("score", *sources, "--indicator", "toy_score", "--dry-run")
    found = numbers(again, "toy")
    assert (found[1], found[3]) == ("5", "7") and found[5] == "70"
    assert len(ASKED) == 5 and "no earlier answers" not in again.stdout


def test_the_same_command_goes_on_where_a_limit_stopped_it(made: Path, lake: Lake) -> None:
    words = ("score", "--source", f"a={made / 'a.jsonl'}", "--indicator", "toy_score", "--max-calls", 5)
    sluice(*words)
    assert len(ASKED) == 5
    sluice(*words)
    assert len(ASKED) == 8 and len(set(ASKED)) == 8
    sluice(*words)
    assert len(ASKED) == 8
    assert lake.scan(["scored", "toy_score"], "a").collect()["status"].to_list() == [OK] * 8


def test_limits_hold_for_all_sources_of_a_command(made: Path) -> None:
    sources = ["--source", f"a={made / 'a.jsonl'}", "--source", f"b={made / 'b.jsonl'}"]
    sluice("make", "evidence/judgments_toy", *sources, "--max-calls", 9)
    assert len(ASKED) == 9


def test_a_budget_from_the_command_line(made: Path, lake: Lake) -> None:
    lake.home.mkdir(parents=True, exist_ok=True)
    (lake.home / "prices.yaml").write_text("fake:judge: {input: 1000, output: 1000}\n")
    words = ("score", "--source", f"a={made / 'a.jsonl'}", "--indicator", "toy_score")
    assert float(numbers(sluice(*words, "--dry-run"), "toy")[6]) > 0.1
    sluice(*words, "--max-budget", "0.9", "--param", "judge.concurrency=1")
    with Answers(store_path(lake.home)) as store:
        cost = store.bill().cost
    assert 0 < len(ASKED) < 8 and cost == pytest.approx(len(ASKED) * 0.05) and cost <= 0.9
    billed = sluice("bill")
    assert numbers(billed, "toy")[1:4] == [str(len(ASKED)), str(len(ASKED)), str(40 * len(ASKED))]
    assert numbers(billed, "all")[5] == f"{cost:.2f}"


def test_a_question_about_answers_that_are_not_there(made: Path) -> None:
    words = ("score", "--source", f"a={made / 'a.jsonl'}", "--indicator", "after_score")
    said = sluice(*words, "--dry-run")
    assert numbers(said, "toy")[3] == "8" and "after: cannot be said yet" in said.stdout
    sluice(*words)
    assert len(ASKED) == 16
    found = numbers(sluice(*words, "--dry-run"), "all")
    assert (found[0], found[1], found[3]) == ("16", "16", "0")


def test_parameters_of_a_question_count_too(made: Path) -> None:
    words = ("score", "--source", f"a={made / 'a.jsonl'}", "--indicator", "toy_score", "--dry-run")
    assert numbers(sluice(*words, "--param", "judgments_toy.times=3"), "toy")[0] == "24"
    refused = sluice(*words, "--param", "judgments_toy.time=3", code=2)
    assert "judgments_toy has no parameter 'time'" in refused.output
    refused = sluice(*words, "--param", "judge.max_call=3", code=1)
    assert "it has max_calls" in refused.output


def test_what_needs_no_judge_costs_nothing(made: Path) -> None:
    said = sluice("make", "filtered/instructions", "--source", f"a={made / 'a.jsonl'}", "--dry-run")
    assert "nothing of this asks a judge" in said.stdout


def test_without_a_judge_it_is_said_what_to_set(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_JUDGE_MODEL")
    words = ("score", "--source", f"a={made / 'a.jsonl'}", "--indicator", "toy_score")
    for more in ((), ("--dry-run",)):
        assert "SLUICE_JUDGE_MODEL" in sluice(*words, *more, code=1).output
    assert "no judge was asked yet" in sluice("bill").stdout


@pytest.mark.parametrize("limit", [("--max-calls", "-1"), ("--max-calls", "1.5"), ("--max-budget", "much")])
def test_a_limit_that_is_none_is_refused(made: Path, limit: tuple[str, str]) -> None:
    refused = sluice("score", "--source", f"a={made / 'a.jsonl'}", "--indicator", "toy_score", *limit, code=2)
    assert limit[0] in refused.output and ASKED == []


def test_limits_join_what_was_set_by_hand() -> None:
    with click.Context(main) as context:
        assert judging.within({"budget": "5"}) == {"budget": "5"} and not judging.is_dry()
        context.meta["sluice.judge"] = {"max_calls": 3, "dry_run": True}
        given = {"params": {"judge": {"batch": True, "max_calls": 9}, "judgments_toy": {"times": 2}}}
        assert judging.within(given)["params"] == {
            "judge": {"batch": True, "max_calls": 3, "dry_run": True},
            "judgments_toy": {"times": 2},
        }
        assert json.loads(json.dumps(given))["params"]["judge"]["max_calls"] == 9  # what was given stays as it was


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [("RPM", "fast", "number from 0"), ("TPM", "-1", "number from 0"), ("CONCURRENCY", "0", "whole number from 1")],
)
def test_the_judge_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str) -> None:
    for key, text in {"URL": "http://h/v1", "MODEL": "m", "KEY_NAME": "MINE", "RPM": "60", "CONCURRENCY": "3"}.items():
        monkeypatch.setenv(f"SLUICE_JUDGE_{key}", text)
    judge = judge_from_env()
    assert (judge.url, judge.model, judge.key_name) == ("http://h/v1", "m", "MINE")
    assert (judge.requests_per_minute, judge.tokens_per_minute, judge.concurrency) == (60, 0, 3)
    monkeypatch.setenv(f"SLUICE_JUDGE_{name}", value)
    with pytest.raises(ValueError, match=f"SLUICE_JUDGE_{name} is '{value}'; give a {why}"):
        judge_from_env()
