"""Cherry from the rows to the score: a warm-up, a model, its pass over the pool; made once, held, and brought up to date."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from assets import metadata, training, tuned
from assets.partitions import SOURCES
from assets.views import COPY, _with_copies
from jobs.definitions import build_defs
from methods.kinds import Pool
from methods.quality.model import ifd
from methods.selection.recipe import Recipe, Score
from resources.fakes import FakeCausalLM, FakeEncoder
from resources.lake import Lake, Manifest, Table
from resources.settings import Settings
from resources.tuning import STEPS_SCHEMA, Tuned
from tests.house import ALPHA, COUNTED, House, Model, alpaca, computed, fresh, lines

pytestmark = [pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")]

SMALL = {"warmup_rows": {"clusters": 3, "each": 2}}
READ = "evidence/token_statistics_experienced"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A home with an experienced model, and what follows of it."""
    home = tmp_path_factory.mktemp("tuned")
    house = House(home / "home")
    house.make(["scored/ifd_experienced"], {"alpha": lines(home / "alpha.jsonl", ALPHA)}, params=SMALL)
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    return made.copy(tmp_path / "copy")


def test_a_few_rows_of_every_cluster(made: House) -> None:
    rows, pool = made.frame("tuned/warmup_rows"), made.frame("filtered/pool")
    assert rows.columns == ["row_id", "source", "rank", "cluster", "perplexity", "reason"]
    assert rows["rank"].to_list() == list(range(1, rows.height + 1)) and 3 <= rows.height <= 6
    assert rows["cluster"].n_unique() == 3 and max(rows["cluster"].value_counts()["count"].to_list()) <= 2
    assert set(rows["row_id"]) <= set(pool["row_id"])
    manifest = made.lake.manifest(["tuned", "warmup_rows"])
    assert manifest is not None and manifest.facts["chosen from"] == pool.height
    assert set(manifest.facts["shown"]) >= {"clusters", "prompts", "chosen prompts"}


def test_the_perplexity_of_a_prompt_is_that_of_the_base_model(made: House) -> None:
    passed = made.frame("evidence/token_statistics", "alpha").select("row_id", "logp_prompt")
    both = made.frame("tuned/warmup_rows").join(passed, on="row_id", how="left", maintain_order="left")
    by_hand = [float(np.exp(-np.mean(np.asarray(logp, dtype=float)))) for logp in both["logp_prompt"]]
    assert both["perplexity"].to_list() == pytest.approx(by_hand)


def test_the_model_is_named_beside_the_table(made: House) -> None:
    manifest = made.lake.manifest(["tuned", "experienced"])
    assert manifest is not None
    assert manifest.facts[training.MODEL].startswith("fake:tuned-")
    assert manifest.facts["rows trained on"] == made.frame("tuned/warmup_rows").height
    assert [folder.name[:12] for folder in (made.lake.home / "models").iterdir() if folder.is_dir()] == ["experienced-"]
    assert manifest.config["tuning"]["epochs"] == 1.0 and manifest.config["model"] == "fake:bigrams"


def test_the_score_is_ifd_of_the_experienced_model(made: House) -> None:
    passed, scores = made.frame(READ), made.frame("scored/ifd_experienced")
    assert passed["row_id"].to_list() == scores["row_id"].to_list() == made.frame("filtered/pool")["row_id"].to_list()
    assert scores.select("value", "status").equals(ifd(passed))
    assert (scores["status"] == "ok").sum() > 20
    assert READ in made.lake.manifest(["scored", "ifd_experienced"]).inputs  # type: ignore[union-attr]


def test_a_second_time_nothing_is_computed(house: House) -> None:
    house.forget_calls()
    again = house.make(["scored/ifd_experienced"], params=SMALL)
    assert not fresh(again) and not COUNTED


def test_one_more_row_is_the_only_one_that_is_passed(house: House, tmp_path: Path) -> None:
    before = house.frame("tuned/warmup_rows"), house.lake.manifest(["tuned", "experienced"])
    more = lines(tmp_path / "alpha.jsonl", [*ALPHA, alpaca(300)])
    outcome = house.make(["scored/ifd_experienced"], {"alpha": more}, params=SMALL)
    after = house.lake.manifest(["tuned", "experienced"])
    assert computed(outcome)[READ] == 1
    assert COUNTED.count("causal_lm") == 2  # by the base model and by the experienced one
    assert house.frame("tuned/warmup_rows").equals(before[0])
    assert before[1] is not None and after is not None
    assert after.facts[training.MODEL] == before[1].facts[training.MODEL]
    assert house.frame("scored/ifd_experienced").height == house.frame("filtered/pool").height
    assert after.data_version != before[1].data_version


def test_a_pool_that_grew_much_is_chosen_from_again(house: House, tmp_path: Path) -> None:
    many = lines(tmp_path / "alpha.jsonl", [*ALPHA, *(alpaca(i) for i in range(300, 320))])
    house.make(["tuned/warmup_rows"], {"alpha": many}, params=SMALL)
    manifest = house.lake.manifest(["tuned", "warmup_rows"])
    assert manifest is not None and not manifest.facts["held from before"]
    assert manifest.facts["chosen from"] == house.frame("filtered/pool").height


def test_every_row_is_read_and_none_that_was_dropped_is_trained_on(house: House) -> None:
    house.make(["scored/ifd_experienced"], params=SMALL, all_rows=True)
    dropped = set(house.frame("filtered/dropped", "alpha")["row_id"])
    assert dropped and dropped <= set(house.frame(READ)["row_id"])
    assert not dropped & set(house.frame("tuned/warmup_rows")["row_id"])
    assert len(list((house.lake.home / "models").glob("experienced-*"))) == 1
    new = dropped - set(house.frame("filtered/instructions", "alpha")["row_id"])
    assert new and COUNTED.count("causal_lm") == 2 * len(new)  # by the base model and by the experienced one


def test_a_row_that_went_is_chosen_for_again(house: House, tmp_path: Path) -> None:
    gone = house.frame("tuned/warmup_rows")["row_id"][0]
    place = house.frame("raw/instructions", "alpha").filter(row_id=gone)["position"].to_list()
    fewer = lines(tmp_path / "alpha.jsonl", [row for at, row in enumerate(ALPHA) if at not in place])
    house.make(["tuned/warmup_rows"], {"alpha": fewer}, params=SMALL)
    assert gone not in house.frame("tuned/warmup_rows")["row_id"].to_list()


def test_at_random() -> None:
    rows = pl.DataFrame({"instruction": ["a", "b", "c", "d", "e"], "perplexity": [1.0, None, 2.0, 3.0, 4.0]})
    params = {**tuned.WARMUP_DEFAULTS, "clusters": 2, "each": 2, "warmup": "random", "seed": 5}

    def encode(texts: Sequence[str]) -> np.ndarray:
        raise AssertionError("nothing is to be encoded")

    found = tuned._choose(rows, params, encode)
    assert len(set(found.order.tolist())) == 4 and set(found.reason) == {"drawn at random"}


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"warmup": "none"}, "without one there is the indicator ifd"),
        ({"vectors": "model"}, "are not offered"),
        ({"cluster": 3}, "warmup_rows has no parameter cluster; it has warmup"),
    ],
)
def test_settings_that_there_are_not(wanted: dict[str, Any], why: str) -> None:
    assert tuned.params_of(Settings()) == dict(tuned.WARMUP_DEFAULTS)
    with pytest.raises(ValueError, match=why):
        tuned.params_of(Settings(params={"warmup_rows": wanted}))
    with pytest.raises(ValueError, match="experienced has no setting epoch"):
        training.tuning_of(Settings(params={"experienced": {"epoch": 2}}), "experienced", tuned.TUNING)


# --- a model whose files can go ----------------------------------------------------------------------------------------
class Trainer:
    """Stands for a training: a folder with a few bytes, and its steps."""

    def __init__(self) -> None:
        self.trained: list[list[str]] = []

    def __call__(
        self, model: FakeCausalLM, rows: pl.DataFrame, folder: Path, tuning: Any, on_progress: Any = None
    ) -> Tuned:
        if not folder.is_dir():
            self.trained.append(rows["row_id"].to_list())
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps({"rows": rows["row_id"].to_list()}))
            for step in (1, 2, 3):
                on_progress(step, 3)
        steps = pl.DataFrame([(1, 3.0, 1e-5, 40), (2, 2.5, 5e-6, 41), (3, 2.0, 0.0, 39)], STEPS_SCHEMA, orient="row")
        return Tuned(str(folder), steps, rows.height, 120, 1.5)


class Files(Model):
    """A stand-in that says of a folder what a real model does."""

    def identity(self) -> dict[str, Any]:
        told = super().identity()
        return {**told, "content": (Path(self.model) / "config.json").read_text()} if "/" in self.model else told


def test_a_model_in_a_folder(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer()
    monkeypatch.setattr(training, "tune", trainer)
    params = {**SMALL, "experienced": {"epochs": 2}}
    house.make(["scored/ifd_experienced"], causal_lm=Files(), params=params)
    manifest, passed = house.lake.manifest(["tuned", "experienced"]), house.lake.manifest(READ.split("/"))
    assert manifest is not None and passed is not None
    assert trainer.trained == [house.frame("tuned/warmup_rows")["row_id"].to_list()]
    name = manifest.facts[training.MODEL]
    assert name.startswith("models/experienced-") and (house.lake.home / name).is_dir()
    assert (manifest.facts["loss, first step"], manifest.facts["loss, last step"]) == (3.0, 2.0)
    assert manifest.facts["tokens"] == 120 and manifest.rows == 3
    assert "data:image/svg" in manifest.facts["shown"]["loss"]
    assert passed.config["model"] == name

    shutil.rmtree(house.lake.home / name)
    house.forget_calls()
    house.make(["tuned/experienced"], causal_lm=Files(), params=params)
    assert len(trainer.trained) == 2 and (house.lake.home / name).is_dir()
    assert house.version("tuned/experienced") == manifest.data_version

    shutil.rmtree(house.lake.home / name)
    defs = build_defs(house.lake.home, FakeEncoder(), Files())
    job = defs.resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(READ.split("/"))
    refreshed = job.execute_in_process(instance=house.instance, asset_selection=[key])
    assert refreshed.success  # all rows were read, so the files need not be there


# --- the graph -----------------------------------------------------------------------------------------------------------
def jobs_of(home: Path, *recipes: Recipe) -> set[str]:
    defs = build_defs(home, FakeEncoder(), FakeCausalLM(), recipes)
    choose = defs.resolve_job_def("choose")
    return {key.to_user_string() for key in choose.asset_layer.selected_asset_keys}


def test_nothing_is_trained_that_no_recipe_reads(tmp_path: Path) -> None:
    plain = jobs_of(tmp_path, Recipe("plain", "Any rows", "random"))
    assert not {name for name in plain if name.startswith(("tuned/", "mods/"))} and READ not in plain
    cherry = jobs_of(tmp_path, Recipe("cherry", "Rows", "top_k", score=Score({"ifd_experienced": 1.0})))
    assert cherry - plain >= {"scored/ifd_experienced", READ, "tuned/experienced", "tuned/warmup_rows"}
    assert not {name for name in cherry if name.startswith("mods/")}


def test_trainings_are_started_by_hand(tmp_path: Path) -> None:
    defs = build_defs(tmp_path, FakeEncoder(), FakeCausalLM())
    graph = defs.resolve_asset_graph()
    by_hand = {"tuned/warmup_rows", "tuned/experienced", "mods/seed", "mods/model"}
    for name in by_hand:
        assert graph.get(dg.AssetKey(name.split("/"))).automation_condition is None
    assert graph.get(dg.AssetKey(READ.split("/"))).automation_condition is not None
    selection = next(sensor for sensor in defs.sensors or () if sensor.name == "selection")
    targeted = {key.to_user_string() for key in selection.job.selection.resolve(graph)}  # type: ignore[union-attr]
    assert not by_hand & targeted and READ in targeted


# --- parts -----------------------------------------------------------------------------------------------------------------
def test_copies_have_the_lines_of_what_they_are_copies_of() -> None:
    ids = pl.Series("row_id", ["a", "b", "c"])
    near = pl.DataFrame({"row_id": ids, "ids": [["b"], ["a"], ["a"]], "similarity": [[0.5], [0.5], [0.1]]})
    near = near.with_columns(pl.col("similarity").cast(pl.List(pl.Float32)))
    table = pl.LazyFrame({"row_id": ids, "status": ["ok", None, "cut"]})
    pool = _with_copies(Pool(ids, neighbours=near, tables={"x/y": table}), np.array([2, 1, 3]))
    assert pool.row_ids.to_list()[:3] == ["a", "b", "c"] and all(name.startswith(COPY) for name in pool.row_ids[3:])
    assert pool.tables["x/y"].collect()["status"].to_list() == ["ok", None, "cut", "ok", "cut", "cut"]


def test_a_line_for_a_person() -> None:
    shown = metadata.line([3.0 + 0.01 * np.sin(k) for k in range(5000)], "loss of a step").md_str
    assert shown is not None and len(shown) < metadata.IN_PLACE and "data:image/svg" in shown
    assert metadata.line([], "loss of a step").md_str == "no value of loss of a step"
    assert "svg" in (metadata.line([1.0], "x").md_str or "") and "svg" in (metadata.line([2.0, 2.0], "x").md_str or "")


def test_a_list_of_names_is_a_tuple_of_the_training() -> None:
    settings = Settings(params={"experienced": {"method": "lora", "lora_targets": ["q_proj"]}})
    tuning = training.tuning_of(settings, "experienced", tuned.TUNING)
    assert tuning.lora_targets == ("q_proj",) and (tuning.epochs, tuning.batch_rows) == (1.0, 128)
    assert hash(tuning)


def test_what_was_never_trained_says_so(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    lake = Lake(house.lake.home)
    lake.write(["filtered", "pool"], None, Table(pl.DataFrame({"row_id": ["a"]}), Manifest("1")))
    assert SOURCES.name == "source"
    step = type("Step", (), {"lake": lake})()
    with pytest.raises(Exception, match="tuned/experienced is not there yet"):
        training.tuned_identity(step, tuned.EXPERIENCED, FakeCausalLM())
