"""Judged tags in a home: from the judge's words to a vocabulary and to the rows, and what is not tagged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets import tags
from assets.tags import JUDGMENTS, TAGS, TAGS_SCHEMA, VOCABULARY
from assets.views import pool_view
from methods.judging.kinds import JUDGMENTS_SCHEMA
from methods.quality.tag_normalisation import INDICATORS, VOCABULARY_SCHEMA
from resources.lake import Manifest, Table
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables
from tests.house import ALPHA, Encoder, House, alpaca, lines

SMALL = {"instag_vocabulary": {"min_count": 2, "min_support": 5, "distance": 0.01}}
FORMS = [["Coding", "Python"], ["coding", "python"], ["coding", "haiku"], ["cookery", "coding"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A home with two sources, filtered and pooled."""
    folder = tmp_path_factory.mktemp("tags")
    house = House(folder / "home")
    beta = [alpaca(200 + i) for i in range(6)]
    files = {"alpha": lines(folder / "alpha.jsonl", ALPHA[:20]), "beta": lines(folder / "beta.jsonl", beta)}
    house.make(["filtered/pool"], files)
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    copy = made.copy(tmp_path / "home")
    copy.instance.add_dynamic_partitions("source", ["alpha", "beta"])
    return copy


def said(words: list[str] | str) -> tuple[Any, ...]:
    if isinstance(words, str):
        return words, [""], [None], [words], ["{}"], [""]
    fields = json.dumps({"tags": words, "explanations": [""] * len(words)})
    return "ok", [""], [float(len(words))], ["ok"], [fields], [fields]


def judge(house: House, source: str, answers: Mapping[int, list[str] | str], version: str = "1") -> list[str]:
    """The judge's table of a source: these answers in its rows' order, the forms in turn elsewhere."""
    ids = house.frame("filtered/instructions", source)["row_id"].unique(maintain_order=True).to_list()
    rows = [(row_id, *said(answers.get(at, FORMS[at % 4]))) for at, row_id in enumerate(ids)]
    inputs = {
        f"filtered/{name}[{source}]": house.version(f"filtered/{name}", source) for name in ("instructions", "dropped")
    }
    frame = pl.DataFrame(rows, schema=JUDGMENTS_SCHEMA, orient="row")
    house.lake.write(JUDGMENTS.split("/"), source, Table(frame, Manifest(data_version=version, inputs=inputs)))
    return ids


def make(
    house: House, asset: dg.AssetsDefinition, params: Mapping[str, Any] = SMALL, **settings: Any
) -> dg.ExecuteInProcessResult:
    home = str(house.lake.home)
    return dg.materialize(
        [asset],
        instance=house.instance,
        resources={
            "io_manager": ParquetTables(home=home),
            "lake": LakeResource(home=home),
            "settings": Settings(params=dict(params), **settings),
            "encoder": Encoder(),
        },
        raise_on_error=True,
    )


def facts(house: House, key: dg.AssetKey) -> Mapping[str, Any]:
    manifest = house.lake.manifest(key.path)
    assert manifest is not None
    return manifest.facts


def test_from_words_to_rows(house: House) -> None:
    alpha = judge(house, "alpha", {3: "parse_error", 4: [], 5: ["Rare"]})
    beta = judge(house, "beta", {})
    make(house, tags.instag_vocabulary)
    vocabulary = house.frame("tagged/instag_vocabulary")
    assert vocabulary.schema == VOCABULARY_SCHEMA
    names = dict(vocabulary.select("raw", "tag").iter_rows())
    # Python always stands beside coding, and so do haiku and cookery: they are one intention here.
    assert names == {"Coding": "coding", "Python": "coding", "python": "coding", "coding": "coding", "haiku": "coding", "cookery": "coding", "Rare": None}  # fmt: skip
    told = facts(house, VOCABULARY)
    assert [told[f"tags: {step}"] for step in ("raw", "frequency", "rules", "semantic", "association")] == [
        7,
        6,
        4,
        4,
        1,
    ]
    assert told["rows tagged"] == len(alpha) + len(beta) - 1 and told["pool"] == ["alpha", "beta"]
    assert "merged by meaning or company" in told["shown"]

    make(house, tags.instag)
    table = house.frame("tagged/instag")
    assert table.schema == TAGS_SCHEMA
    assert table["row_id"].equals(house.frame("filtered/pool")["row_id"])
    by_id = {line["row_id"]: line for line in table.iter_rows(named=True)}
    assert by_id[alpha[0]]["raw"] == ["Coding", "Python"] and by_id[alpha[0]]["tags"] == ["coding"]
    assert by_id[alpha[3]]["status"] == "parse_error" and by_id[alpha[3]]["tags"] is None
    assert by_id[alpha[4]]["tags"] == by_id[alpha[5]]["tags"] == [] and by_id[alpha[5]]["raw"] == ["Rare"]
    told = facts(house, TAGS)
    assert told["rows left without a tag"] == 2 and told["tags that the vocabulary lacks"] == 0 and told["tags"] == 1
    assert told["rows missing"] == 0

    view = pool_view(
        LakeResource(home=str(house.lake.home)), Encoder(), ["alpha", "beta"], INDICATORS[0].needs, False, print
    )
    scores = INDICATORS[0].compute(view, **INDICATORS[0].params)
    assert scores.height == table.height
    found = dict(zip(view.row_ids, scores.iter_rows(), strict=True))
    assert (
        found[alpha[0]] == (1.0, "ok") and found[alpha[3]] == (None, "parse_error") and found[alpha[5]] == (0.0, "ok")
    )


def test_without_association_names_stay_apart(house: House) -> None:
    judge(house, "alpha", {})
    judge(house, "beta", {})
    make(house, tags.instag_vocabulary, {"instag_vocabulary": {"min_count": 2, "min_confidence": "off"}})
    make(house, tags.instag)
    assert {tag for row in house.frame("tagged/instag")["tags"] for tag in row} == {
        "coding",
        "python",
        "haiku",
        "cookery",
    }


def test_the_same_answers_are_not_worked_out_again_and_others_are(house: House) -> None:
    judge(house, "alpha", {})
    judge(house, "beta", {})
    make(house, tags.instag_vocabulary)
    first = house.version("tagged/instag_vocabulary")
    again = make(house, tags.instag_vocabulary)
    assert materialized(again)["up to date"].value is True
    judge(house, "beta", {0: ["poetry"], 1: ["poetry"]}, version="2")
    make(house, tags.instag_vocabulary)
    assert house.version("tagged/instag_vocabulary") != first
    assert "poetry" in house.frame("tagged/instag_vocabulary")["tag"]
    make(house, tags.instag_vocabulary, {"instag_vocabulary": {"min_count": 1}})
    assert facts(house, VOCABULARY)["tags: frequency"] > 5


def materialized(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return event.materialization.metadata


def test_a_source_that_nobody_asked_about_is_left_out_and_its_rows_say_so(house: House) -> None:
    judge(house, "alpha", {})
    make(house, tags.instag_vocabulary)
    make(house, tags.instag)
    table = house.frame("tagged/instag")
    beta = set(house.frame("filtered/instructions", "beta")["row_id"])
    assert set(table.filter(pl.col("row_id").is_in(list(beta)))["status"]) == {"not_tagged"}
    assert table.height == house.frame("filtered/pool").height and facts(house, TAGS)["pool"] == ["alpha"]


def test_nothing_left_is_said(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    judge(house, "alpha", {})
    judge(house, "beta", {})
    make(house, tags.instag_vocabulary, {"instag_vocabulary": {"min_count": 1000}})
    assert facts(house, VOCABULARY)["tags: association"] == 0
    assert "no tag is left of 6" in capfd.readouterr().err
    make(house, tags.instag)
    assert facts(house, TAGS)["rows left without a tag"] == house.frame("filtered/pool").height


def test_unknown_parameters_are_named(house: House) -> None:
    judge(house, "alpha", {})
    judge(house, "beta", {})
    with pytest.raises(ValueError, match="instag_vocabulary has no parameter least"):
        make(house, tags.instag_vocabulary, {"instag_vocabulary": {"least": 3}})
