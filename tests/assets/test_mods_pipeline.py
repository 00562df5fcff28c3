"""MoDS from the rewards to the chosen rows: a seed, a model, its answers; made once, held, and brought up to date."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assets import mods, training
from jobs.runs import RunFailed
from methods.quality.reward import rewarded as judged
from resources.generation import ANSWERS_SCHEMA as GENERATED
from resources.generation import generate
from resources.reward_model import RewardModel
from resources.settings import Settings
from tests.house import ALPHA, House, alpaca, computed, fresh, lines

pytestmark = [pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")]

PARAMS = {"mods": {"quality": 0.1, "necessity": 0.8, "k": 6}}
TARGETS = ["mods/chosen", "scored/reward_necessity", "scored/mods_seed"]
ASKED: list[str] = []


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row that a model is asked to answer."""
    ASKED.clear()

    def asked(model: Any, rows: pl.DataFrame, length: int) -> Iterator[pl.DataFrame]:
        assert model.model.startswith("fake:tuned-")
        ASKED.extend(rows["row_id"])
        return generate(model, rows, length)

    monkeypatch.setattr(mods, "generate", asked)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    home = tmp_path_factory.mktemp("mods")
    house = House(home / "home")
    house.make(TARGETS, {"alpha": lines(home / "alpha.jsonl", ALPHA)}, params=PARAMS)
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    return made.copy(tmp_path / "copy")


def rewards(house: House) -> dict[str, float]:
    return dict(house.frame("scored/reward_score", "alpha").select("row_id", "value").iter_rows())


def test_the_seed_is_of_quality(made: House) -> None:
    seed, own = made.frame("mods/seed"), rewards(made)
    high = {row for row, reward in own.items() if reward is not None and reward > 0.1}
    assert set(seed["row_id"]) <= high and len(high) > 12
    assert seed.height == 6 and seed["rank"].to_list() == [1, 2, 3, 4, 5, 6]
    assert seed["reward"].to_list() == [own[row] for row in seed["row_id"]]
    assert seed["gain"][0] is None and seed["gain"][1:].is_sorted(descending=True)


def test_every_row_of_quality_is_answered_and_judged(made: House) -> None:
    answers, own = made.frame("mods/answers"), rewards(made)
    assert set(answers["row_id"]) == {row for row, reward in own.items() if reward is not None and reward > 0.1}
    assert answers["status"].to_list() == ["ok"] * answers.height
    texts = made.frame("filtered/instructions", "alpha").unique("row_id", keep="first")
    asked = answers.join(texts, on="row_id", how="left", maintain_order="left")
    pairs = list(asked.select("instruction", "answer").iter_rows())
    assert answers["reward"].to_list() == RewardModel(model="fake:reward").scores(pairs)[0].tolist()


def test_the_chosen_are_the_seed_and_what_it_does_not_teach(made: House) -> None:
    chosen, answers, seed = (made.frame(f"mods/{name}") for name in ("chosen", "answers", "seed"))
    low = set(answers.filter(pl.col("reward") < 0.8)["row_id"])
    assert 0 < len(low) < answers.height and set(chosen["row_id"]) == low | set(seed["row_id"])
    assert chosen["row_id"].is_unique().all()
    assert chosen.filter(step="seed")["row_id"].to_list() == seed["row_id"].to_list()
    own = rewards(made)
    assert chosen["reward"].to_list() == [own[row] for row in chosen["row_id"]]
    manifest = made.lake.manifest(["mods", "chosen"])
    assert manifest is not None
    counts = {name: manifest.facts[f"rows: {name}"] for name in ("pool", "quality", "seed", "answered", "needed")}
    assert counts == {
        "pool": made.frame("filtered/pool").height,
        "quality": answers.height,
        "seed": 6,
        "answered": answers.height,
        "needed": len(low),
    }
    assert [row[0] for row in manifest.facts["shown"]["steps"]["rows"]] == [*counts, "chosen"]


def test_what_the_indicators_say_of_the_pool(made: House) -> None:
    pool, answers = made.frame("filtered/pool"), made.frame("mods/answers")
    necessity, place = made.frame("scored/reward_necessity"), made.frame("scored/mods_seed")
    assert necessity["row_id"].to_list() == place["row_id"].to_list() == pool["row_id"].to_list()
    found = dict(necessity.filter(status="ok").select("row_id", "value").iter_rows())
    assert found == {row: -reward for row, reward in answers.select("row_id", "reward").iter_rows()}
    assert set(necessity["status"]) == {"ok", "not_asked"} and set(place["status"]) == {"ok", "not_seed"}
    seed = dict(made.frame("mods/seed").select("row_id", "rank").iter_rows())
    assert dict(place.filter(status="ok").select("row_id", "value").iter_rows()) == seed


def test_a_second_time_nothing_is_computed(house: House) -> None:
    house.forget_calls()
    assert not fresh(house.make(TARGETS, params=PARAMS)) and not ASKED


def test_one_more_row_is_the_only_one_that_is_asked(house: House, tmp_path: Path) -> None:
    before, seed = house.frame("mods/answers"), house.frame("mods/seed")
    more = lines(tmp_path / "alpha.jsonl", [*ALPHA, alpaca(300, "Write about topic number 300. " * 4)])
    work = computed(house.make(TARGETS, {"alpha": more}, params=PARAMS))
    new = set(house.frame("mods/answers")["row_id"]) - set(before["row_id"])
    assert len(new) == work["mods/answers"] == 1 and list(new) == ASKED
    assert house.frame("mods/seed").equals(seed)
    assert house.frame("mods/answers").filter(~pl.col("row_id").is_in(list(new))).equals(before)
    assert len(list((house.lake.home / "models").glob("mods-*"))) == 1


def test_another_threshold_asks_only_those_that_were_not_asked(house: House) -> None:
    """And another threshold of necessity asks nobody."""
    before = house.frame("mods/chosen").height
    house.make(TARGETS, params={"mods": {**PARAMS["mods"], "necessity": 5.0}})
    assert not ASKED and house.frame("mods/chosen").height == house.frame("mods/answers").height > before
    high = {"mods": {**PARAMS["mods"], "quality": 9.0}}
    with pytest.raises(RunFailed, match=r"no row of alpha has a reward above 9\.0"):
        house.make(["mods/seed"], params=high)


def test_what_is_not_set_or_not_there_is_said(house: House) -> None:
    with pytest.raises(ValueError, match="mods has no parameter necesity; there are: quality"):
        mods.params_of(Settings(params={"mods": {"necesity": 1}}))
    with pytest.raises(RunFailed, match="no reward model is set"):
        house.make(["mods/answers"], reward_model=RewardModel(), params=PARAMS)


# --- parts -----------------------------------------------------------------------------------------------------------------
def test_what_was_not_answered_is_not_judged() -> None:
    rows = pl.DataFrame({"row_id": ["a", "b", "c"], "instruction": ["p", "q", "r"], "input": ["i", "", ""]})
    rows = rows.with_columns(response=pl.lit("theirs"))
    frames = [
        pl.DataFrame([("b", "Yes.", "ok", 1), ("a", "No.", "ok", 1)], GENERATED, orient="row"),
        pl.DataFrame([("c", None, "too_long", None)], GENERATED, orient="row"),
    ]
    seen = []

    def judge(asked: pl.DataFrame) -> pl.DataFrame:
        seen.extend(asked.select("instruction", "input", "response").rows())
        status = ["ok", "truncated"][: asked.height]
        return judged(asked["row_id"], np.array([0.5, -1.0][: asked.height]), status)

    found = pl.concat(mods.rewarded(rows, frames, judge))
    assert seen == [("q", "", "Yes."), ("p\ni", "", "No.")]
    assert found.rows() == [
        ("b", "ok", "Yes.", 0.5),
        ("a", "truncated", "No.", -1.0),
        ("c", "too_long", None, None),
    ]
    assert found.schema == pl.Schema(dict(mods.ANSWERS_SCHEMA))


def test_the_reference_trains_for_three_epochs() -> None:
    tuning = training.tuning_of(Settings(), "mods_model", mods.TUNING)
    assert (tuning.epochs, tuning.learning_rate, tuning.warmup, tuning.batch_rows) == (3.0, 2e-5, 0.03, 512)
    assert mods.params_of(Settings()) == dict(mods.DEFAULTS)


def test_a_funnel_of_nothing() -> None:
    shown = mods.funnel({"pool": 0, "quality": 0})
    assert [record.data["rows"] for record in shown.records] == ["0", "0"]  # type: ignore[attr-defined]
