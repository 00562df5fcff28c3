"""Tables of a judge's answers in a home: what is asked, what is left open, what is never bought twice, what is said."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets import judged
from assets.expectations import SuiteResult, run_suite
from assets.partitions import SOURCES
from assets.spending import COMMAND
from methods.judging.kinds import JUDGMENTS_SCHEMA, OK, PARSE_ERROR, Cell, Question
from resources import prices
from resources.answers import Answers
from resources.judge import Judge
from resources.judge_bill import lines as bill_lines
from resources.judge_bill import store_path
from tests.asking import ASKED, BROKEN, SECOND, TOY, Home, cells, count_calls, metadata_of, read, said, verdict
from tests.house import alpaca, lines


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    count_calls(monkeypatch)
    monkeypatch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one source of twelve rows, filtered."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())
        return Home(folder / "home", lines(folder / "a.jsonl", [alpaca(i) for i in range(12)]))


@pytest.fixture
def home(twelve: Home, tmp_path: Path) -> Home:
    shutil.copytree(twelve.lake.home, tmp_path / "home")
    copy = Home(tmp_path / "home")
    copy.instance.add_dynamic_partitions(SOURCES.name, ["a"])
    return copy


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the expectations of the tables; elsewhere they only cost time."""
    monkeypatch.setattr("assets.checks.run_suite", run_suite)


@pytest.mark.usefixtures("checked")
def test_a_table_of_answers(home: Home) -> None:
    result = home.ask()
    assert result.success and len(ASKED) == 12
    table = home.table()
    assert dict(table.drop("source").schema) == dict(JUDGMENTS_SCHEMA)
    rows = home.lake.scan(["filtered", "instructions"], "a").collect()
    assert table["row_id"].to_list() == rows["row_id"].to_list()
    assert table["status"].to_list() == [OK] * 12
    assert table["values"].list.first().is_between(1, 5).all()
    shown = metadata_of(result)
    assert (shown["calls"], shown["prompt tokens"], shown["completion tokens"]) == (12, 120, 60)
    assert shown["cost"] == 0 and shown["key from"] == "OPENAI_API_KEY"
    assert "stand-in" in shown["toy judge"] and shown["stopped by"] == "nothing: all was asked"
    assert {"statuses", "values", "readings"} <= set(shown)
    assert verdict(result, "contract") and verdict(result, "statistics")


@pytest.mark.usefixtures("checked")
def test_a_limit_leaves_the_rest_for_the_next_time(home: Home) -> None:
    first = home.ask(params={"judge": {"max_calls": 5}})
    assert first.success and len(ASKED) == 5
    assert sorted(home.table()["status"]) == ["not_asked"] * 7 + [OK] * 5
    assert home.facts()["cells open"] == 7 and "5 calls" in home.facts()["stopped by"]
    assert verdict(first, "contract") and not verdict(first, "statistics")
    assert home.table().filter(pl.col("status") == "not_asked")["values"].list.first().null_count() == 7
    had, version = set(ASKED), home.version()
    second = home.ask()
    assert second.success and len(ASKED) == 7 and not had & set(ASKED)
    assert home.table()["status"].to_list() == [OK] * 12 and home.version() != version
    assert metadata_of(second)["calls"] == 7 and metadata_of(second)["answers known before"] == 5
    version = home.version()
    third = home.ask()
    assert third.success and not ASKED and metadata_of(third)["up to date"]
    assert home.version() == version


def test_a_table_that_can_get_no_further_stays_what_it_is(home: Home) -> None:
    home.ask(params={"judge": {"max_calls": 5}})
    version = home.version()
    again = home.ask(params={"judge": {"max_calls": 0}})
    assert not ASKED and metadata_of(again)["up to date"] and home.version() == version


def test_what_could_not_be_read_is_asked_again_alone_and_not_for_ever(home: Home) -> None:
    BROKEN.add("Write about topic number 3.")
    first = home.ask()
    assert first.success and home.facts()["cells open"] == 1
    line = home.table().filter(pl.col("status") == PARSE_ERROR)
    assert line["answers"].to_list() == [["stumble"]] and line["values"].to_list() == [[None]]
    waiting = home.ask(params={"judge": {"max_calls": 0}})
    assert not ASKED and metadata_of(waiting)["up to date"]  # still a parse error, not one that nobody asked
    BROKEN.clear()
    home.ask()
    assert ASKED == ["Write about topic number 3."] and home.facts()["cells open"] == 0
    BROKEN.add("Write about topic number 4.")
    store_path(home.lake.home).unlink()
    home.lake.path(judged.key_of("toy").path, "a").unlink()
    for expected in (12, 1, 0):
        home.ask()
        assert len(ASKED) == expected
    assert home.table()["status"].to_list().count(PARSE_ERROR) == 1


def test_parameters_prompts_and_judges_make_another_table_and_limits_do_not(home: Home, tmp_path: Path) -> None:
    home.ask()
    version = home.version()
    home.ask(params={"judge": {"max_calls": 99, "concurrency": 2, "requests_per_minute": 90_000}})
    assert not ASKED and home.version() == version
    home.ask(params={"judgments_toy": {"times": 2}})
    assert len(ASKED) == 12  # the first time was asked before
    assert home.table()["parts"].list.len().to_list() == [2] * 12
    home.ask(judge=Judge(model="fake:other"))
    assert len(ASKED) == 12
    (tmp_path / "home" / "prompts").mkdir()
    (tmp_path / "home" / "prompts" / "own.v1.md").write_text("Be fair.\n---\nAsk {{it}}")
    home.questions = (Question("toy", "A toy", ("own.v1",), "Nobody", "How good.", cells, read, {"times": 1}),)
    home.ask()
    assert not ASKED  # the same was asked before, and is read into another table
    version = home.version()
    (tmp_path / "home" / "prompts" / "own.v1.md").write_text("Be strict.\n---\nAsk {{it}}")
    assert metadata_of(home.ask())["up to date"] is False and home.version() != version


def test_sources_of_one_command_share_its_limits(tmp_path: Path) -> None:
    paths = [
        lines(tmp_path / f"{name}.jsonl", [alpaca(i + start) for i in range(4)])
        for name, start in (("a", 0), ("b", 50))
    ]
    home = Home(tmp_path / "home", *paths)
    tags, params = {COMMAND: "one"}, {"judge": {"max_calls": 5}}
    home.ask("a", tags=tags, params=params)
    assert len(ASKED) == 4
    home.ask("b", tags=tags, params=params)
    assert len(ASKED) == 1 and home.facts("b")["cells open"] == 3 and home.facts("b")["calls"] == 1
    home.ask("b", tags={COMMAND: "two"}, params=params)
    assert len(ASKED) == 3 and home.facts("b")["cells open"] == 0


def test_a_budget_needs_a_price_and_is_kept(home: Home) -> None:
    (home.lake.home / "prices.yaml").write_text("fake:dear: {input: 1000000, output: 1000000}\n")
    dear = Judge(model="fake:dear", concurrency=1)
    one = Cell("", "", (("user", "Write about topic number 0."),))
    budget = prices.most_tokens(one) + one.max_tokens + 4 * 15
    result = home.ask(judge=dear, params={"judge": {"max_budget": budget}})
    assert result.success and 0 < len(ASKED) < 12
    paid = home.facts()["cost"]
    assert paid == len(ASKED) * 15 <= budget and f"{budget} dollars" in home.facts()["stopped by"]
    assert bill_lines(store_path(home.lake.home))[0].cost == paid


def test_a_dry_run_asks_nobody_and_leaves_the_table(home: Home) -> None:
    home.ask(params={"judge": {"max_calls": 5}})
    version = home.version()
    result = home.ask(params={"judge": {"dry_run": True}})
    assert result.success and not ASKED and home.version() == version
    seen = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    told = {n: v.value for n, v in seen[0].asset_observation_data.asset_observation.metadata.items()}
    assert (told["cells"], told["answers known"], told["calls"]) == (12, 5, 7)
    assert told["completion tokens"] == 35 and told["cost"] == 0
    assert not [e for e in result.all_events if e.event_type_value == "ASSET_MATERIALIZATION"]


def test_a_question_that_follows_another(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", lines(tmp_path / "a.jsonl", [alpaca(i) for i in range(4)]), questions=(TOY, SECOND))
    missing = home.ask(question="second")
    assert not missing.success and "evidence/judgments_toy" in said(missing) and not ASKED
    home.ask(params={"judge": {"max_calls": 3}})
    assert home.ask(question="second").success
    assert len(ASKED) == 3 and all(re.match(r"After \d\.0: Write", text) for text in ASKED)
    assert home.table(question="second")["status"].to_list().count("not_asked") == 1
    home.ask()
    home.ask(question="second")
    assert len(ASKED) == 1
    refused = home.ask(question="second", params={"judgments_second": {"before": "evidence/judgments_other"}})
    assert not refused.success and "judgments_second has no parameter before" in said(refused)


def test_without_a_judge_it_is_said_what_to_set(home: Home) -> None:
    result = home.ask(judge=Judge())
    assert not result.success
    assert "SLUICE_JUDGE_MODEL" in said(result) and "SLUICE_JUDGE_URL" in said(result)
    assert not store_path(home.lake.home).exists()


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"max_call": 3}, "it has max_calls"),
        ({"max_calls": -1}, "a number from 0"),
        ({"max_calls": 2.5}, "a whole number"),
        ({"max_budget": "all"}, "a number from 0"),
        ({"dry_run": "yes"}, "true or false"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_refused(home: Home, wish: dict[str, Any], why: str) -> None:
    result = home.ask(params={"judge": wish})
    assert not result.success and why in said(result) and not ASKED


def test_an_unknown_parameter_is_refused(home: Home) -> None:
    result = home.ask(params={"judgments_toy": {"time": 2}})
    assert not result.success and "it has times" in said(result) and not ASKED


def test_neither_key_nor_row_is_in_what_is_logged(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    refused = home.ask(judge=Judge(model="gone", url="http://127.0.0.1:9/v1", tries=1, timeout_s=2))
    home.ask(params={"judge": {"max_calls": 2}})
    events = " ".join(
        json.dumps(e.to_dict() if hasattr(e, "to_dict") else str(e), default=str) for e in refused.all_events
    )
    assert "very-secret" not in events and "topic number" not in events
    manifest = home.lake.manifest(judged.key_of("toy").path, "a")
    assert "very-secret" not in json.dumps([manifest.config, manifest.facts])


def test_rows_that_cannot_be_asked_about_and_no_rows(tmp_path: Path) -> None:
    rows = [alpaca(0), {**alpaca(1), "instruction": "Say nothing of it."}]
    home = Home(tmp_path / "home", lines(tmp_path / "a.jsonl", rows))
    home.ask()
    assert sorted(home.table()["status"]) == ["empty_response", OK] and len(ASKED) == 1
    assert home.facts()["cells open"] == 0
    assert metadata_of(home.ask())["up to date"]


def test_the_answers_of_two_openings_are_one_store(home: Home) -> None:
    home.ask()
    with Answers(store_path(home.lake.home)) as store:
        assert store.bill().calls == 12
    (line,) = bill_lines(store_path(home.lake.home))
    assert (line.question, line.model, line.answers, line.calls) == ("toy", "fake:judge", 12, 12)
    assert (line.prompt_tokens, line.completion_tokens, line.cost) == (120, 60, 0.0)
