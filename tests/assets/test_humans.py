"""Labels as tables: what is read, which labels count, agreement, and indicators held against people."""

import json
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets import humans
from assets.expectations import SuiteResult
from assets.partitions import SOURCES
from methods.humans.sample import CELLS_SCHEMA, Sample
from methods.humans.tasks import Key
from resources.lake import Lake, Manifest, Table
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables

RATERS = ("ann", "ben", "cy")
ROWS = [f"{i:032x}" for i in range(30)]


@pytest.fixture(autouse=True)
def no_expectations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())


def line(row: str, rater: str, dimension: str, value: float, hour: int = 9) -> str:
    said = {
        "row_id": row,
        "rater": rater,
        "dimension": dimension,
        "value": value,
        "timestamp": f"2024-01-01T{hour:02}:00Z",
    }
    return json.dumps(said) + "\n"


def quality(i: int) -> float:
    return (i % 5) / 4


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A pool of 30 rows with one score of the source and one of the pool, and three raters who nearly agree."""
    lake = Lake(tmp_path)
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "a.jsonl").write_text(
        "".join(line(row, rater, "quality", quality(i)) for i, row in enumerate(ROWS) for rater in RATERS)
        + "{broken\n"
        + line(ROWS[0], "ann", "quality", 0.25, 10)
        + line("f" * 32, "ann", "quality", 1.0)
    )
    rows = pl.DataFrame(
        {"row_id": ROWS, "position": range(30), "response": ["x" * (7 + i * 31 % 17) for i in range(30)]}
    )
    scores = pl.DataFrame(
        {"row_id": ROWS, "value": [10 * quality(i) + (i % 3) / 5 for i in range(30)], "status": ["ok"] * 30}
    )
    lake.write(["filtered", "instructions"], "notes", Table(rows, Manifest("1")))
    lake.write(["scored", "mtld"], "notes", Table(scores, Manifest("1")))
    lake.write(["scored", "knn_1"], None, Table(scores.with_columns(-pl.col("value")), Manifest("1")))
    lake.write(["scored", "response_length"], "notes", Table(scores[:10], Manifest("1")))
    return lake


def make(lake: Lake, names: Sequence[str], **settings: object) -> dict[str, dict[str, object]]:
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions(SOURCES.name or "", ["notes"])
    done = dg.materialize(
        humans.ASSETS,
        instance=instance,
        selection=[f"key:humans/{name}" for name in names],
        resources={
            "io_manager": ParquetTables(home=str(lake.home)),
            "lake": LakeResource(home=str(lake.home)),
            "settings": Settings(**settings),
        },
    )
    events = done.get_asset_materialization_events()
    return {
        event.asset_key.path[-1]: {k: v.value for k, v in event.materialization.metadata.items()} for event in events
    }


def test_labels_are_read_and_the_last_word_counts(lake: Lake) -> None:
    told = make(lake, ["labels", "ratings"])["labels"]
    assert (told["labels that count"], told["history"], told["bad lines"], told["rows labelled"]) == (91, 1, 1, 31)
    table = lake.scan(["humans", "labels"]).collect()
    mine = table.filter(row_id=ROWS[0], rater="ann").select("value", "current").sort("value").rows()
    assert mine == [(0.0, False), (0.25, True)]
    ratings = lake.scan(["humans", "ratings"]).collect()
    assert ratings.height == 31 and ratings.filter(row_id=ROWS[0])["values"].to_list() == [[0.25, 0.0, 0.0]]


def test_bad_lines_are_named_by_file_and_line(lake: Lake) -> None:
    shown = make(lake, ["labels"])["labels"]["bad lines of files"]
    (record,) = shown.records
    assert (record.data["file"], str(record.data["line"])) == ("a.jsonl", "91")


def test_the_same_files_change_nothing_and_a_file_that_goes_takes_its_labels(lake: Lake) -> None:
    make(lake, ["labels"])
    assert make(lake, ["labels"])["labels"]["up to date"] is True
    (lake.home / "labels" / "a.jsonl").unlink()
    assert make(lake, ["labels", "ratings"])["labels"]["up to date"] is False
    assert lake.scan(["humans", "labels"]).collect().height == 0
    assert lake.scan(["humans", "ratings"]).collect().height == 0


def test_agreement(lake: Lake) -> None:
    told = make(lake, ["labels", "agreement"], params={"agreement": {"resamples": 40}})["agreement"]
    table = lake.scan(["humans", "agreement"]).collect()
    alpha = table.filter(measure="krippendorff_ordinal").to_dicts()[0]
    assert alpha["value"] > 0.98 and alpha["low"] <= alpha["value"] and alpha["n_rows"] == 30
    assert told["alarms"] == 0
    cohen = table.filter(measure="cohen_kappa_quadratic").select("raters", "value").rows()
    assert [who for who, _ in cohen] == ["ann, ben", "ann, cy", "ben, cy"] and cohen[2][1] == pytest.approx(1)


def test_planted_rows_are_no_part_of_the_agreement(lake: Lake) -> None:
    few = {"params": {"agreement": {"resamples": 40}}}
    make(lake, ["labels", "agreement"], **few)
    rows = pl.DataFrame(schema={"row_id": pl.String, "source": pl.String, "stratum": pl.String})
    planted = ({"row_id": ROWS[3], "prompt_of": "x", "answer_of": "y"},)
    key = Key("k", "T", "2024", {}, Sample(rows, pl.DataFrame(schema=CELLS_SCHEMA)), planted)
    (lake.home / "audits").mkdir()
    (lake.home / "audits" / "k.json").write_text(key.dump())
    (lake.home / "audits" / "broken.json").write_text("{")
    assert make(lake, ["agreement"], **few)["agreement"]["up to date"] is False
    table = lake.scan(["humans", "agreement"]).collect()
    assert table.filter(measure="krippendorff_ordinal")["n_rows"].to_list() == [29]


def test_every_indicator_with_enough_labelled_rows_is_held_against_people(lake: Lake) -> None:
    make(lake, ["labels", "ratings", "calibration"], params={"calibration": {"resamples": 40}})
    table = lake.scan(["humans", "calibration"]).collect().sort("indicator")
    assert table.select("indicator", "dimension", "n_rows").rows() == [
        ("knn_1", "quality", 30),
        ("mtld", "quality", 30),
    ]
    far, near = table.to_dicts()
    assert near["spearman"] > 0.9 and far["spearman"] == pytest.approx(-near["spearman"])
    assert near["error"] < 0.3 * near["error_of_mean"] and near["raters_a_row"] == 3
    assert lake.manifest(["humans", "calibration"]).facts["left out for too few rows"] == 1


def test_a_new_score_is_news_to_the_calibration(lake: Lake) -> None:
    few = {"params": {"calibration": {"resamples": 40}}}
    make(lake, ["labels", "ratings", "calibration"], **few)
    assert make(lake, ["calibration"], **few)["calibration"]["up to date"] is True
    scores = lake.scan(["scored", "mtld"], "notes").drop("source").collect()
    lake.write(["scored", "mtld"], "notes", Table(scores, Manifest("2")))
    assert make(lake, ["calibration"], **few)["calibration"]["up to date"] is False


def test_an_unknown_parameter_is_said(lake: Lake) -> None:
    make(lake, ["labels"])
    with pytest.raises(ValueError, match="agreement has no luck; there are resamples, seed"):
        make(lake, ["agreement"], params={"agreement": {"luck": 1}})
