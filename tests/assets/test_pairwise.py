"""Pairs before a judge in a home: asked once, held, turned into strengths, a rater and ratings; and a score distilled."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from assets import distilled, embedded, pairwise, raw
from assets import filtered as filtering
from assets.expectations import SuiteResult
from assets.judged import OPEN_CELLS
from assets.views import pool_view
from jobs.runs import run_config
from methods.judging.kinds import Answer, Cell
from methods.judging.pairs import PAIRS_SCHEMA
from methods.quality import distillation, qurating
from methods.quality import pairwise as strengths
from resources.answers import Answers
from resources.fakes import FakeEncoder
from resources.judge import Judge
from resources.judge_bill import store_path
from resources.judge_local import StandIn
from resources.lake import Manifest, Table
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables
from tests.house import House, lines, prose

FEW = {"rows": 40, "neighbours": 6}
SAID: list[Cell] = []
"""Every request that reached the judge."""
LIKES = "the"


def parted(cell: Cell) -> list[str]:
    """The two texts of a request."""
    said = cell.messages[-1][1]
    return [" ".join(re.findall(rf"text {name}, response>>>\n(.*?)\n<<<", said, re.DOTALL)) for name in "AB"]


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expectations are run by other tests; here they only cost time."""
    monkeypatch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())


@pytest.fixture(autouse=True)
def preferring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A judge who likes a word, and the second text where both have it as often."""
    SAID.clear()

    async def ask(self: StandIn, cell: Cell, *_: Any) -> Answer:
        SAID.append(cell)
        a, b = (text.lower().split().count(LIKES) for text in parted(cell))
        return Answer("ok", "A" if a > b else "B", {}, 100, 1)

    monkeypatch.setattr(StandIn, "ask", ask)
    yield


def record(i: int) -> dict[str, str]:
    return {"instruction": f"Write about topic number {i}.", "input": "", "output": prose(i, 2 + i % 9)}


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("pairwise")
    house = House(folder / "home")
    file = lines(folder / "alpha.jsonl", [record(i) for i in range(60)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())
        house.make(["filtered/pool", "embedded/minilm"], {"alpha": file}, encoder=FakeEncoder())
    return house


@pytest.fixture
def house(filtered: House, tmp_path: Path) -> House:
    copy = filtered.copy(tmp_path / "home")
    copy.instance.add_dynamic_partitions("source", ["alpha"])
    return copy


def make(
    house: House, *targets: str, judge_model: str = "fake:judge", sources: tuple[str, ...] = ("alpha",), **params: Any
) -> dg.ExecuteInProcessResult:
    """Make these tables of ours, from what is in the home."""
    params.setdefault("judged_pairs", FEW)
    home = str(house.lake.home)
    return dg.materialize(
        [*raw.ASSETS, *filtering.ASSETS, *embedded.ASSETS, *pairwise.ASSETS, *distilled.ASSETS],
        instance=house.instance,
        resources={
            "io_manager": ParquetTables(home=home),
            "lake": LakeResource(home=home),
            "settings": Settings(),
            "encoder": FakeEncoder(),
            "judge": Judge(model=judge_model),
        },
        run_config=run_config({"sources": list(sources), "params": params}),
        selection=dg.AssetSelection.assets(*(dg.AssetKey(t.split("/")) for t in targets)),
        raise_on_error=False,
    )


def made(house: House, *targets: str, **given: Any) -> None:
    """The same, and it went well."""
    result = make(house, *targets, **given)
    assert result.success, failure(result)


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (event,) = [e for e in result.all_events if e.is_step_failure]
    error = event.step_failure_data.error
    return " ".join([error.message, error.cause.message if error.cause else ""])


def facts(house: House, key: str) -> dict[str, Any]:
    manifest = house.lake.manifest(key.split("/"))
    assert manifest is not None
    return manifest.facts


# ---- asking ---------------------------------------------------------------------------------------------------------


def test_pairs_are_asked_in_both_orders_and_only_once(house: House) -> None:
    made(house, "judged/pairs")
    table = house.frame("judged/pairs")
    assert table.schema == PAIRS_SCHEMA and table.height == 40 * 6 // 2
    assert len(SAID) == 2 * table.height == len({cell.key({}) for cell in SAID})
    assert set(table["status"]) == {"ok"}
    told = facts(house, "judged/pairs")
    assert told["rows asked about"] == 40 and told["calls"] == told["cells"] == 240 and told[OPEN_CELLS] == 0
    assert told["prompt tokens"] == 24_000 and told["cost"] == 0.0 and told["pairs"] == 120
    assert told["pairs clear"] == int(table["confident"].sum()) < 120  # equal ones: always the second, so one half
    assert set(table.filter(~pl.col("confident"))["probability"]) == {0.5}
    assert told["first preferred"] < 0.5 and told["longer preferred"] > 0.9
    version = house.version("judged/pairs")

    SAID.clear()
    made(house, "judged/pairs")
    assert not SAID
    assert house.version("judged/pairs") == version
    made(house, "judged/pairs", judged_pairs={**FEW, "criterion": "Which is funnier?"})
    assert len(SAID) == 240 and facts(house, "judged/pairs")["rows held from before"]
    assert house.frame("judged/pairs").select("a", "b").equals(table.select("a", "b"))


def test_a_limit_stops_and_the_rest_is_asked_next_time(house: House) -> None:
    made(house, "judged/pairs", judge={"max_calls": 100, "concurrency": 1})
    table = house.frame("judged/pairs")
    assert len(SAID) == 100 and facts(house, "judged/pairs")[OPEN_CELLS] == 140
    assert set(table["status"]) == {"ok", "not_asked"} and (table["status"] == "ok").sum() == 50
    assert table.filter(pl.col("status") != "ok")["probability"].null_count() == 70
    before = house.version("judged/pairs")
    made(house, "judged/pairs")
    assert len(SAID) == 240 == len({cell.key({}) for cell in SAID})
    assert set(house.frame("judged/pairs")["status"]) == {"ok"} and house.version("judged/pairs") != before


def test_a_dry_run_asks_nobody(house: House) -> None:
    result = make(house, "judged/pairs", judge={"dry_run": True})
    assert result.success and not SAID and not house.lake.exists(["judged", "pairs"])
    (seen,) = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    told = {name: value.value for name, value in seen.asset_observation_data.asset_observation.metadata.items()}
    assert told["calls"] == 240 and told["cells"] == 240


def test_answers_that_cannot_be_read_are_kept_and_count_for_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unsure(self: StandIn, cell: Cell, *_: Any) -> Answer:
        SAID.append(cell)
        return Answer("ok", "Both are fine." if "topic number 1" in cell.messages[-1][1] else "A", {}, 10, 4)

    monkeypatch.setattr(StandIn, "ask", unsure)
    made(house, "judged/pairs", "judged/strengths")
    table = house.frame("judged/pairs")
    bad = table.filter(pl.col("status") == "parse_error")
    assert 0 < bad.height < table.height and bad["probability"].null_count() == bad.height
    assert set(bad["answers"].explode()) == {"Both are fine."}
    assert facts(house, "judged/pairs")["first preferred"] == 1.0
    known = house.frame("judged/strengths").filter(pl.col("status") == "ok")
    np.testing.assert_allclose(known["strength"].to_list(), 0, atol=1e-8)  # place alone: no row is better
    with Answers(store_path(house.lake.home)) as store:
        assert store.bill().answered == len(SAID)


def test_without_a_judge_it_is_said_what_to_do_and_what_is_there_stays(house: House) -> None:
    assert "SLUICE_JUDGE_MODEL" in failure(make(house, "judged/pairs", judge_model=""))
    assert "has no parameter row" in failure(make(house, "judged/pairs", judged_pairs={"row": 3}))
    assert "repeats is 1 or more" in failure(make(house, "judged/pairs", judged_pairs={"repeats": 0}))
    made(house, "judged/pairs")
    before, SAID[:] = house.version("judged/pairs"), []
    made(house, "judged/pairs", judge_model="")
    assert not SAID
    assert house.version("judged/pairs") == before


# ---- what follows ---------------------------------------------------------------------------------------------------


def test_the_rater_rates_rows_that_nobody_asked_about(house: House) -> None:
    made(house, "judged/pairs", "judged/strengths", "tuned/rater", "judged/rated")
    told = facts(house, "tuned/rater")
    assert told["held-out accuracy"] > 0.7 and told["rank correlation"] > 0.7
    assert told["criterion"] == "educational_value" and told["judge"] == "fake:judge"
    asked = house.frame("judged/strengths")
    assert asked.height == 40 and set(asked["status"]) == {"ok"} and (asked["error"] > 0).all()
    table = house.frame("judged/rated")
    assert table["row_id"].equals(house.frame("filtered/pool")["row_id"]) and table.height == 60
    rest = table.filter(~pl.col("row_id").is_in(asked["row_id"].implode()))
    rows = rest.join(house.frame("filtered/instructions", "alpha"), on="row_id", maintain_order="left")
    likes = np.array([text.lower().split().count(LIKES) for text in rows["response"]])
    assert distillation.rank_correlation(rest["rating"].to_numpy(), likes) > 0.7

    lake = LakeResource(home=str(house.lake.home))
    needs = ("judged/rated", "judged/strengths")
    pool = pool_view(lake, FakeEncoder(), ["alpha"], needs, False, lambda _: None)
    assert qurating.qurating(pool)["value"].to_list() == table["rating"].to_list()
    by_pairs = strengths.pairwise_strength(pool)
    assert (by_pairs["status"] == "not_asked").sum() == 20 and by_pairs["value"].count() == 40
    assert set(qurating.qurating(pool, minimum=0.999)["status"]) == {"distilled_too_weak"}


def test_a_new_row_is_rated_without_the_judge(house: House, tmp_path: Path) -> None:
    every = ("judged/pairs", "judged/strengths", "tuned/rater", "judged/rated")
    made(house, *every)
    file = lines(tmp_path / "beta.jsonl", [record(i) for i in range(100, 110)])
    house.make(
        ["filtered/pool", "embedded/minilm"],
        {"alpha": Path(house.lake.source("alpha").path), "beta": file},
        encoder=FakeEncoder(),
    )
    weights = house.frame("tuned/rater")
    SAID.clear()
    made(house, "judged/rated", sources=("alpha", "beta"))
    assert house.frame("judged/rated").height == 70 and set(house.frame("judged/rated")["status"]) == {"ok"}
    made(house, *every, sources=("alpha", "beta"))
    assert not SAID  # the rows asked about are held
    assert house.frame("tuned/rater").equals(weights)


def test_a_judge_who_throws_dice_trains_nobody(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dice(self: StandIn, cell: Cell, *_: Any) -> Answer:
        pair = sum(map(ord, cell.row_id))
        return Answer("ok", "AB"[(pair + (cell.part == "ba")) % 2], {}, 10, 1)

    monkeypatch.setattr(StandIn, "ask", dice)
    made(house, "judged/pairs", "judged/strengths", "tuned/rater", "judged/rated")
    told = facts(house, "tuned/rater")
    assert told["rank correlation"] < 0.3 and "it is not used" in told["verdict"]
    pool = pool_view(
        LakeResource(home=str(house.lake.home)), FakeEncoder(), ["alpha"], ("judged/rated",), False, lambda _: None
    )
    found = qurating.qurating(pool)
    assert found["value"].null_count() == 60 and set(found["status"]) == {"distilled_too_weak"}
    few = make(house, "judged/pairs", "judged/strengths", "tuned/rater", judged_pairs={"rows": 6, "neighbours": 2})
    assert "no rater can be trained" in failure(few) and "at least 30" in failure(few)


def test_a_rater_of_another_encoder_is_refused(house: House) -> None:
    made(house, "judged/pairs", "judged/strengths", "tuned/rater")
    rater = house.lake.manifest(["tuned", "rater"])
    assert rater is not None
    other = replace(rater, config={**rater.config, "model": "fake:other"})
    house.lake.write(["tuned", "rater"], None, Table(house.frame("tuned/rater"), other))
    assert "vectors of another encoder" in failure(make(house, "judged/rated"))


# ---- distillation ---------------------------------------------------------------------------------------------------


def judged_scores(house: House, how: str = "likes", share: int = 2) -> None:
    """A table of scores as a judge of rows leaves it: some rows have none."""
    rows = house.frame("filtered/instructions", "alpha").unique("row_id", maintain_order=True)
    likes = [float(text.lower().split().count(LIKES)) for text in rows["response"]]
    noise = np.random.default_rng(0).normal(size=rows.height).tolist()
    kept = np.arange(rows.height) % share == 0 if share > 1 else np.ones(rows.height, dtype=bool)
    value = pl.Series(likes if how == "likes" else noise).zip_with(
        pl.Series(kept), pl.Series([None] * rows.height, dtype=pl.Float64)
    )
    table = rows.select("row_id").with_columns(value=value, status=pl.Series(np.where(kept, "ok", "not_asked")))
    house.lake.write(["scored", "reward_score"], "alpha", Table(table, Manifest(f"{how} {share}", "1", "run")))


def test_a_score_is_learned_from_the_rows_that_have_it(house: House) -> None:
    asked = {"distilled": {"of": "reward_score"}, "distillation": {"folds": 3}}
    assert "say which score is to be learned" in failure(make(house, "tuned/distilled"))
    assert "no source of the pool has reward_score yet" in failure(make(house, "tuned/distilled", **asked))
    judged_scores(house, share=1)
    made(house, "tuned/distilled", **asked)
    table, told = house.frame("tuned/distilled"), facts(house, "tuned/distilled")
    assert table.height == 60 and set(table["of"]) == {"reward_score"} and set(table["status"]) == {"ok"}
    assert told["rows learned from"] == 60 and told["rank correlation"] > 0.6
    assert "scored/reward_score[alpha]" in house.lake.manifest(["tuned", "distilled"]).inputs
    pool = pool_view(
        LakeResource(home=str(house.lake.home)), FakeEncoder(), ["alpha"], ("tuned/distilled",), False, lambda _: None
    )
    assert distillation.distilled(pool)["value"].to_list() == table["predicted"].to_list()
    version = house.version("tuned/distilled")
    made(house, "tuned/distilled", distillation={"folds": 3})  # of the same as before
    assert house.version("tuned/distilled") == version

    apart = {**asked, "distillation": {"folds": 3, "apart": True, "with_length": True}}
    made(house, "tuned/distilled", **apart)
    guessed = house.frame("tuned/distilled")["predicted"]
    assert guessed.null_count() == 0 and guessed.to_list() != table["predicted"].to_list()

    judged_scores(house, "noise", share=1)
    made(house, "tuned/distilled", **asked)
    assert house.version("tuned/distilled") != version
    assert "it is not used" in facts(house, "tuned/distilled")["verdict"]
    judged_scores(house, share=3)
    assert "20 rows with a vector have a score; at least 30" in failure(make(house, "tuned/distilled", **asked))
    assert "has no parameter kin" in failure(
        make(house, "tuned/distilled", **{**asked, "distillation": {"kin": "ridge"}})
    )
