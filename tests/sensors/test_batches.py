"""Looking after batches: what is fetched, which tables are asked for, with which settings, and how often."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets.judged import key_of
from methods.judging.kinds import Cell
from resources.answers import Answers
from resources.judge import Judge
from resources.judge_batch import Batch, Batches, Collected
from resources.judge_bill import store_path
from resources.judge_calls import JudgeUnavailable
from resources.lake import Lake, Manifest, Table
from resources.tables import LakeResource
from sensors import batches as sensing
from tests.provider import provider

TOY, OTHER = key_of("toy"), key_of("other")
SCORE = dg.AssetKey(["scored", "toy_score"])


def store(lake: Lake, key: dg.AssetKey, source: str, waits: list[str], run: str = "1", **facts: Any) -> None:
    question = key.path[-1].removeprefix("judgments_")
    config = {"model": "m", "question": question, "params": {"times": 2, "variants": "evidence/judgments_x"}}
    manifest = Manifest("v", run_id=run, config=config, facts={"waits for": waits, **facts})
    lake.write(key.path, source, Table(pl.DataFrame({"row_id": ["x"]}), manifest))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home")


def test_a_table_is_ready_when_a_batch_of_its_own_has_ended(lake: Lake) -> None:
    store(lake, TOY, "a", ["one", "two"])
    store(lake, TOY, "b", ["two"])
    store(lake, TOY, "c", [])
    assert sensing.ready(lake, [TOY, OTHER], ["one", "two"]) == []
    (found,) = sensing.ready(lake, [TOY, OTHER], ["two"])
    assert (found.key, found.source, found.ended) == (TOY, "a", ("one",))
    assert [table.source for table in sensing.ready(lake, [TOY], [])] == ["a", "b"]


def test_it_is_asked_for_as_it_was_made_and_nobody_is_asked(lake: Lake) -> None:
    store(lake, TOY, "a", ["one"], coverage="all")
    scored = Manifest("v", config={"dimension": "accuracy", "made with": {"evidence/judgments_toy": {}}})
    lake.write(SCORE.path, "a", Table(pl.DataFrame({"row_id": ["x"]}), scored))
    (table,) = sensing.ready(lake, [TOY], [])
    asked = sensing.request(lake, table, [SCORE, dg.AssetKey(["scored", "never_made"])])
    assert asked.partition_key == "a" and asked.asset_selection == [TOY, SCORE]
    settings = asked.run_config["resources"]["settings"]["config"]
    assert settings == {
        "all_rows": True,
        "params": {"judge": {"max_calls": 0}, "toy_score": {"dimension": "accuracy"}, "toy": {"times": 2}},
    }


def test_each_state_is_asked_for_once(lake: Lake) -> None:
    def run_key() -> str | None:
        (table,) = sensing.ready(lake, [TOY], ["three"])
        return sensing.request(lake, table, []).run_key

    store(lake, TOY, "a", ["one", "three"])
    first = run_key()
    assert run_key() == first
    store(lake, TOY, "a", ["one", "two", "three"])
    second = run_key()
    store(lake, TOY, "a", ["one", "three"], run="2")
    assert len({first, second, run_key()}) == 3


class Fakes:
    """Batches by their states, and what collecting each brings."""

    def __init__(self, **outcomes: Any) -> None:
        self.outcomes, self.found_again = outcomes, list[str]()

    def under_way(self) -> list[Batch]:
        return [
            Batch(name, None, None, "", "m", "KEY", "toy", 0.0, "handing in" if got == "lost" else "open")
            for name, got in self.outcomes.items()
        ]

    def find_again(self, _: Any, batch: Batch) -> str:
        self.found_again.append(batch.id)
        return "open"

    def collect(self, _: Any, batch: Batch, __: Any) -> Collected | None:
        got = self.outcomes[batch.id]
        if isinstance(got, Exception):
            raise got
        return got


class Client:
    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""


def test_one_batch_in_trouble_does_not_hold_the_others(tmp_path: Path) -> None:
    done = Collected("d", "toy", "collected", answers=3, failed=1)
    fakes: Any = Fakes(a=ConnectionError("Bearer sk-secret"), b=None, c="lost", d=done, e=JudgeUnavailable("set KEY"))
    collected, problems = sensing.look_after(fakes, tmp_path, lambda *_: Client())
    assert collected == [done] and fakes.found_again == ["c"]
    assert problems == ["batch a of toy: ConnectionError", "set KEY"]


def test_what_is_said_of_a_batch() -> None:
    assert sensing.said(Collected("abc", "toy", "collected", 1200)) == "batch abc of toy collected: 1,200 answers"
    odd = sensing.said(Collected("abc", "toy", "expired", 2, 1, 4, 3, 5))
    assert odd == "batch abc of toy expired: 2 answers, 1 failed, 4 free again, 3 about unknown cells, 5 told twice"


def test_from_the_provider_to_a_request(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = sensing.build_sensor([TOY], {TOY: [SCORE]}, 30)

    def tick() -> Any:
        context = dg.build_sensor_context(
            instance=dg.DagsterInstance.ephemeral(), resources={"lake": LakeResource(home=str(lake.home))}
        )
        return sensor(context)

    assert "no judge was asked" in tick().skip_message
    with provider() as there:
        path = store_path(lake.home)
        cells = [Cell(f"r{i}", "", (("user", f"Text {i}"),)) for i in range(3)]
        with Answers(path) as answers, Batches(path, answers) as handed:
            (batch,) = handed.hand_in(Judge(model="m", url=there.url), cells, "toy").batches
        store(lake, TOY, "a", [batch])
        waiting = tick()
        assert waiting.run_requests == [] and "1 batches are under way" in str(waiting.skip_reason)
        there.finish("batch-0")
        (asked,) = tick().run_requests
        assert (asked.partition_key, asked.asset_selection) == ("a", [TOY])
        with Answers(path) as answers:
            assert answers.bill().answered == 3
        assert [request.run_key for request in tick().run_requests] == [asked.run_key]
    store(lake, TOY, "a", [])
    assert "no batch is under way" in str(tick().skip_reason)


def test_a_provider_out_of_reach_is_said_and_tried_again(lake: Lake) -> None:
    path = store_path(lake.home)
    with provider() as there, Answers(path) as answers, Batches(path, answers) as handed:
        handed.hand_in(Judge(model="m", url=there.url), [Cell("r", "", (("user", "Text"),))], "toy")
    context = dg.build_sensor_context(
        instance=dg.DagsterInstance.ephemeral(), resources={"lake": LakeResource(home=str(lake.home))}
    )
    result: Any = sensing.build_sensor([TOY], {}, 30, connect=_unreachable)(context)
    assert "APIConnectionError" in str(result.skip_reason) and not result.run_requests
    with Answers(path) as answers, Batches(path, answers) as handed:
        assert len(handed.under_way()) == 1


def _unreachable(url: str, key_name: str) -> Any:
    from resources.judge_batch import client

    return client(url, key_name).with_options(max_retries=0)
