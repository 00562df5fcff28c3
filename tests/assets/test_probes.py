"""Probes in a home: a line a row, only what is new is asked, other parameters are another question; the task map."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assets import metadata, probes
from jobs import definitions
from jobs.runs import RunFailed
from methods import catalog
from methods.importance.options import CAPE_SCHEMA, LETTERS, TEMPLATES, words
from resources.fakes import FakeCausalLM
from tests.house import ALPHA, House, Model, alpaca, computed, lines, prose

ROWS = [*ALPHA[:12], alpaca(40, prose(40, 14)), alpaca(41, prose(41, 14))]
ASKED: Counter[str] = Counter()


class Choosing(Model):
    """Counts prompts, and always takes the first answer that it is shown."""

    def next_token(self, prompts: Any, words: Any) -> Any:
        ASKED["prompts"] += len(prompts)
        found = np.full((len(prompts), len(words)), -50.0)
        found[:, 0] = -0.01
        return found, ["ok"] * len(prompts)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("probes")
    house = House(folder / "home")
    house.make(["filtered/pool"], {"alpha": lines(folder / "alpha.jsonl", ROWS)})
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    copy = made.copy(tmp_path / "home")
    copy.instance.add_dynamic_partitions("source", ["alpha"])
    return copy


# ---- a source ------------------------------------------------------------------------------------------------------


def test_writing_on(house: House, tmp_path: Path) -> None:
    score = "scored/memorization_rank_generated"
    assert not house.make([score]).failures
    table = house.frame("evidence/continuations", "alpha")
    assert table.height == 14 and set(table["status"]) == {"ok"} and set(table["n_scored"]) == {32}
    values = house.frame(score, "alpha")["value"]
    assert values.to_list() == [matched / 32 for matched in table["n_matched"]]
    forced = house.make(["scored/memorization_rank"]) and house.frame("scored/memorization_rank", "alpha")["value"]
    assert (values <= forced).all() and (values < forced).any()  # by itself it never finds back
    more = lines(tmp_path / "alpha.jsonl", [*ROWS, alpaca(50), alpaca(51, "Too short.")])
    outcome = computed(house.make([score], {"alpha": more}))
    assert outcome["evidence/continuations[alpha]"] == 2
    assert house.frame(score, "alpha")["status"].to_list() == ["ok"] * 15 + ["too_short"]
    params = {"memorization_rank_generated": {"prompt_tokens": 2, "window": 4}}
    house.make([score], params=params)
    assert set(house.frame("evidence/continuations", "alpha")["n_scored"]) <= {4, None}


def test_thinned_models(house: House) -> None:
    scores = ["scored/learning_complexity", "scored/learning_complexity_confidence"]
    assert not house.make(scores).failures
    losses = house.frame("evidence/subnets", "alpha")
    assert losses["mean_nll"].list.len().to_list() == [3] * 14
    assert house.frame(scores[0], "alpha")["value"].to_list() == pytest.approx(losses["mean_nll"].list.mean().to_list())
    again = computed(house.make(scores))
    assert again.get("evidence/subnets[alpha]", 0) == 0
    outcome = house.make(scores, params={"learning_complexity": {"subnets": "dropout"}})
    assert computed(outcome)["evidence/subnets[alpha]"] == 14
    assert house.frame("evidence/subnets", "alpha")["mean_nll"].list.len().to_list() == [9] * 14
    with pytest.raises(RunFailed, match="magnitude or dropout"):
        house.make(scores, params={"learning_complexity": {"subnets": "noise"}})


# ---- choosing between answers --------------------------------------------------------------------------------------


def test_a_model_that_always_takes_the_first_is_wholly_undecided(house: House, tmp_path: Path) -> None:
    ASKED.clear()
    model = Choosing()
    outcome = house.make(["scored/cape_uncertainty"], causal_lm=model)
    assert not outcome.failures
    table = house.frame("evidence/cape")
    assert table.schema == pl.Schema(dict(CAPE_SCHEMA))
    assert table["row_id"].to_list() == house.frame("filtered/pool")["row_id"].to_list()
    assert set(table["n_options"]) == {4} and ASKED["prompts"] == 14 * 4 * len(TEMPLATES)
    values = house.frame("scored/cape_uncertainty")
    assert values["value"].to_list() == pytest.approx([np.log(4)] * 14)
    facts = house.lake.manifest(["evidence", "cape"]).facts
    assert facts["expected calibration error"] == pytest.approx(0.25) and facts["Brier score"] == pytest.approx(1 / 16)

    ASKED.clear()
    house.make(["scored/cape_uncertainty"], causal_lm=model, params={"cape_uncertainty": {"stat": "epistemic"}})
    assert ASKED["prompts"] == 0 and computed(outcome)["scored/cape_uncertainty"] == 14

    more = lines(tmp_path / "alpha.jsonl", [*ROWS, alpaca(50)])
    house.make(["scored/cape_uncertainty"], {"alpha": more}, causal_lm=model)
    changed = ASKED["prompts"] // (4 * len(TEMPLATES))
    assert 1 <= changed < 15  # the new row, and those whose nearest rows it is one of
    assert house.frame("evidence/cape").height == 15


def test_rows_that_cannot_choose() -> None:
    rows = pl.DataFrame(
        {"row_id": ["a", "b", "c"], "prompt": ["Say {options}.", "q", "r"], "options": [["x", "y"], [], None]},
        {"row_id": pl.String, "prompt": pl.String, "options": pl.List(pl.String)},
    )
    found = probes.asked_to_choose(rows, FakeCausalLM())
    assert found["status"].to_list() == ["ok", "no_candidates", "empty_response"]
    assert found["n_options"].to_list() == [2, None, None]
    assert np.array(found["probabilities"][0].to_list()).sum(axis=1) == pytest.approx([1.0] * 2 * len(TEMPLATES))
    assert probes.asked_to_choose(rows[1:], FakeCausalLM())["status"].to_list() == ["no_candidates", "empty_response"]
    assert probes.asked_to_choose(rows.clear(), FakeCausalLM()).schema == pl.Schema(dict(CAPE_SCHEMA))

    class Silent(FakeCausalLM):
        def next_token(self, prompts: Any, words: Any) -> Any:
            return np.full((len(prompts), len(words)), np.nan), ["too_long"] * len(prompts)

    assert probes.asked_to_choose(rows[:1], Silent()).row(0) == ("a", "too_long", 2, None)
    assert len(words()) == 2 * len(LETTERS)


# ---- tasks ---------------------------------------------------------------------------------------------------------


def test_the_task_map(house: House, tmp_path: Path) -> None:
    other = lines(tmp_path / "beta.jsonl", [alpaca(i) for i in range(60, 75)])
    one = lines(tmp_path / "alpha.jsonl", ROWS)
    outcome = house.make(["explored/task_map"], {"alpha": one, "beta": other})
    assert not outcome.failures
    table = house.frame("explored/task_map")
    assert table.columns == ["task", "name", "uncertainty", "probability", "task_rows", "drawn", "region"]
    assert table["task_rows"].sum() == 29 and table["drawn"].max() <= 10
    labels = house.frame("clustered/kmeans").group_by("cluster").len()
    assert dict(table.select(pl.col("task").cast(pl.Int64), "task_rows").iter_rows()) == dict(labels.iter_rows())
    assert set(table["region"]) <= set(probes.REGIONS)
    terms = house.frame("clustered/kmeans_model").filter(cluster=int(table["task"][0]))["top_terms"][0].to_list()
    assert table["name"][0] == ", ".join(terms[:5])

    house.make(["explored/task_map"], params={"task_map": {"by": "source", "instances": 40}})
    table = house.frame("explored/task_map").sort("task")
    assert table["name"].to_list() == table["task"].to_list() == ["alpha", "beta"]
    for source, mean in table.select("task", "uncertainty").iter_rows():
        assert mean == pytest.approx(house.frame("scored/prompt_uncertainty", source)["value"].mean())
    assert sorted(table["region"]) in (["ambiguous", "difficult"], ["ambiguous", "easy"])
    for wrong, why in (({"by": "tag"}, "cluster or source"), ({"instance": 40}, "no parameter instance; it has by")):
        with pytest.raises(RunFailed, match=why):
            house.make(["explored/task_map"], params={"task_map": wrong})


def test_the_picture_of_the_map() -> None:
    points = pl.DataFrame(
        {"x": [0.0, 1.0, 0.5, None], "y": [0.0, 2.0, 1.0, 1.0], "kind": ["easy", "ambiguous", "easy", "easy"]}
    )
    picture = metadata.scatter(points, probes.REGIONS, (0.5, 1.0), "map").md_str
    assert picture.startswith("![map](data:image/svg+xml;base64,")
    import base64

    svg = base64.b64decode(picture.partition("base64,")[2].rstrip(")")).decode()
    assert 'd="M240 0v180M0 90h480"' in svg and 'd="M8 172h0M240 90h0"' in svg and 'd="M472 8h0"' in svg
    assert "easy 2" in svg and "ambiguous 1" in svg and "difficult 0" in svg
    assert len(picture) < metadata.IN_PLACE
    assert metadata.scatter(points.clear(), probes.REGIONS, (None, None), "map").md_str == "no points of map"
    one = metadata.scatter(points[:1], probes.REGIONS, (None, None), "map").md_str
    assert "M8 172h0" in base64.b64decode(one.partition("base64,")[2].rstrip(")")).decode()


# ---- who asks ------------------------------------------------------------------------------------------------------


def test_nothing_here_is_made_unless_somebody_reads_it(tmp_path: Path) -> None:
    defs = definitions.build_defs(tmp_path)
    keys = {key.to_user_string() for key in defs.resolve_job_def("choose").asset_layer.selected_asset_keys}
    assert not keys & {"evidence/cape", "explored/task_map", "scored/cape_uncertainty"}
    read = {need for indicator in catalog.INDICATORS for need in indicator.needs}
    assert {"evidence/cape", "evidence/continuations", "evidence/subnets"} <= read
