"""Passes of models that judge and align, in a home: the stand-ins, no checkpoint, what is new, and what is asked."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assets.evaluators import asked_about
from jobs.runs import RunFailed
from methods.quality.alignment import ALIGNMENT_SCHEMA
from methods.quality.unieval import DEFAULT_ASK, answers_schema, unieval
from resources.boolean_qa import UniEval
from tests.house import ALPHA, House, computed, conversation, lines, prose

ALIGNED, JUDGED = "evidence/ctc_alignment", "evidence/unieval"
CTC, SCORE = "scored/ctc_unified_evaluator", "scored/unieval"
GIVEN = {
    "instruction": "Say it again.",
    "input": "A narrow river.",
    "output": "It carries a narrow boat. " + prose(900, 3),
}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CTC_ALIGNER", "fake")
    monkeypatch.setenv("SLUICE_UNIEVAL", "fake:unieval")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A home with one source, filtered."""
    folder = tmp_path_factory.mktemp("evaluators")
    house = House(folder / "home")
    house.make(["filtered/pool"], {"alpha": lines(folder / "alpha.jsonl", [*ALPHA[:12], ALPHA[33], GIVEN])})
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    copy = made.copy(tmp_path / "home")
    copy.instance.add_dynamic_partitions("source", ["alpha"])
    return copy


def test_alignment_from_a_file_to_scores(house: House, tmp_path: Path) -> None:
    first = house.make([CTC])
    table = house.frame(ALIGNED, "alpha")
    rows = house.frame("filtered/instructions", "alpha")
    assert computed(first)[f"{ALIGNED}[alpha]"] == rows.height > 10
    assert {name: table.schema[name] for name in ALIGNMENT_SCHEMA} == pl.Schema(dict(ALIGNMENT_SCHEMA))
    assert table["row_id"].to_list() == rows["row_id"].to_list()
    filled = rows["input"].str.len_chars() > 0
    assert table["to_input"].is_not_null().to_list() == filled.to_list() and filled.any()
    scored = house.frame(CTC, "alpha")
    assert scored["status"].to_list() == ["ok"] * rows.height
    assert scored["value"].to_list() == pytest.approx(table["to_instruction"].list.mean().to_list())
    house.make([CTC], params={"ctc_unified_evaluator": {"aspect": "groundedness"}})
    grounded = house.frame(CTC, "alpha")
    assert (grounded["status"] == "ok").to_list() == filled.to_list()
    assert set(grounded["status"]) == {"ok", "no_input"}
    more = lines(tmp_path / "alpha.jsonl", [*ALPHA[:12], ALPHA[33], GIVEN, conversation(7)])
    assert computed(house.make([CTC], {"alpha": more}))[f"{ALIGNED}[alpha]"] == 1
    kept = house.frame(ALIGNED, "alpha")
    assert kept.head(table.height).equals(table)


def test_another_aligner_aligns_anew(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.make([ALIGNED])
    before = house.version(ALIGNED, "alpha")
    monkeypatch.setenv("SLUICE_CTC_ALIGNER", "fake:other")
    house.forget_calls()
    assert computed(house.make([ALIGNED]))[f"{ALIGNED}[alpha]"] > 10
    assert house.version(ALIGNED, "alpha") != before


def test_without_a_checkpoint_it_is_said_what_to_do(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_UNIEVAL")
    with pytest.raises(RunFailed, match="SLUICE_UNIEVAL"):
        house.make([SCORE])
    assert not house.lake.exists(["evidence", "unieval"], "alpha")


def test_judging_from_a_file_to_scores(house: House) -> None:
    house.make([SCORE])
    table = house.frame(JUDGED, "alpha")
    rows = house.frame("filtered/instructions", "alpha")
    assert list(table.columns)[: 3 + len(DEFAULT_ASK)] == list(answers_schema(DEFAULT_ASK))
    assert table["row_id"].to_list() == rows["row_id"].to_list()
    mean = table.select(pl.mean_horizontal(DEFAULT_ASK)).to_series()
    assert house.frame(SCORE, "alpha")["value"].to_list() == pytest.approx(mean.to_list())
    again = house.make([SCORE], params={"unieval": {"dimension": "coherence"}})
    assert f"{JUDGED}[alpha]" not in computed(again)
    assert house.frame(SCORE, "alpha")["value"].to_list() == table["coherence"].to_list()
    wider = house.make([SCORE], params={"unieval": {"dimension": "engagingness"}})
    assert computed(wider)[f"{JUDGED}[alpha]"] == rows.height
    status = house.frame(SCORE, "alpha")["status"]
    assert (status == "ok").to_list() == (rows["input"].str.len_chars() > 0).to_list()
    assert house.frame(SCORE, "alpha")["value"].max() > 1  # a sum over four sentences


def test_what_cannot_be_asked_is_said(house: House) -> None:
    with pytest.raises(RunFailed, match="has no dimension 'beauty'"):
        house.make([JUDGED], params={"unieval": {"ask": ["beauty"]}})


def test_rows_are_asked_about_alone_or_together() -> None:
    fake = UniEval(model="fake:unieval")
    rows = pl.DataFrame(
        {
            "row_id": ["a", "b", "c"],
            "instruction": ["Ask", "", "Ask"],
            "input": ["", "Given", ""],
            "response": ["One. Two!", "三。四。", " "],
        }
    )
    names = ("naturalness", "engagingness", "groundedness")
    whole = asked_about(rows, names, fake)
    assert whole["status"].to_list() == ["ok", "ok", "empty_response"]
    assert whole["groundedness"].is_not_null().to_list() == [False, True, False]
    for at in range(3):
        assert asked_about(rows[at : at + 1], names, fake).equals(whole[at : at + 1])
    assert asked_about(rows.head(0), names, fake).height == 0
    assert unieval(whole, dimension="naturalness")["status"].to_list() == ["ok", "ok", "empty_response"]
    values = whole["engagingness"].to_numpy()
    assert np.isfinite(values).tolist() == [False, True, False]
