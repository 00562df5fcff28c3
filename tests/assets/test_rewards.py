"""Rewards in a home: without a model, with one, and with a head that is trained on comparisons or on the pool."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assets.rewards import by_head, preference_files, read_preferences
from jobs.runs import RunFailed
from methods.quality import preference
from methods.quality.reward import REWARDS_SCHEMA, question_and_answer
from resources.fakes import FakeEncoder
from resources.reward_model import RewardModel, stand_in
from tests.house import ALPHA, House, alpaca, conversation, lines, prose

NONE, FAKE, BY_HEAD = (RewardModel(model=name) for name in ("", "fake:reward", "preference_head"))
SCORE = "scored/reward_score"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A home with one source, filtered."""
    folder = tmp_path_factory.mktemp("rewards")
    house = House(folder / "home")
    file = lines(folder / "alpha.jsonl", [*ALPHA[:30], conversation(7)])
    house.make(["filtered/pool"], {"alpha": file}, reward_model=NONE)
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    copy = made.copy(tmp_path / "home")
    copy.instance.add_dynamic_partitions("source", ["alpha"])
    return copy


def comparisons(n: int = 60, better: str = "The {} is good.", worse: str = "Nobody knows.") -> list[dict[str, object]]:
    return [
        {"prompt": f"What of {i}?", "chosen": better.format(prose(i, 1)), "rejected": f"{worse} {prose(i + 900, 1)}"}
        for i in range(n)
    ]


def prefer(house: House, records: list[dict[str, object]], name: str = "mine.json") -> Path:
    folder = house.lake.home / "preferences"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(records))
    return folder / name


def failure(house: House, target: str, **given: object) -> str:
    with pytest.raises(RunFailed) as error:
        house.make([target], **given)
    return str(error.value)


def test_without_a_model_it_is_said_what_to_do(house: House) -> None:
    said = failure(house, "evidence/rewards", reward_model=NONE)
    assert "no reward model is set" in said and "SLUICE_REWARD_MODEL" in said and "tuned/preference_head" in said
    said = failure(house, "evidence/rewards", reward_model=BY_HEAD)
    assert "there is no such head yet: materialize tuned/preference_head first" in said
    assert not house.lake.exists(["evidence", "rewards"], "alpha")


def test_a_line_a_row_and_only_new_rows_are_asked_about(house: House, tmp_path: Path) -> None:
    outcome = house.make([SCORE], reward_model=FAKE)
    assert not outcome.failures
    rows = house.frame("filtered/instructions", "alpha").unique("row_id", maintain_order=True)
    table = house.frame("evidence/rewards", "alpha").drop("source")
    assert table.schema == pl.Schema(dict(REWARDS_SCHEMA)) and table["row_id"].equals(rows["row_id"])
    expected = [stand_in(*question_and_answer(row))[0] for row in rows.iter_rows(named=True)]
    np.testing.assert_allclose(table["reward"].to_list(), expected)
    score = house.frame(SCORE, "alpha")
    assert score["value"].to_list() == table["reward"].to_list() and set(score["status"]) == {"ok"}
    manifest = house.lake.manifest(["evidence", "rewards"], "alpha")
    assert manifest is not None and manifest.facts["model"] == manifest.config["model"] == "fake:reward"
    more = lines(tmp_path / "alpha.jsonl", [*ALPHA[:30], conversation(7), alpaca(500)])
    again = house.make(["evidence/rewards"], {"alpha": more}, reward_model=FAKE)
    assert {m.key: m.computed for m in again.made}["evidence/rewards"] == 1
    other = house.make(["evidence/rewards"], {"alpha": more}, reward_model=RewardModel(model="fake:other"))
    assert {m.key: m.computed for m in other.made}["evidence/rewards"] == table.height + 1


def test_a_head_from_comparisons_and_a_new_head_means_new_scores(house: House) -> None:
    prefer(house, comparisons())
    outcome = house.make(["tuned/preference_head"], reward_model=BY_HEAD)
    assert not outcome.failures
    head = house.frame("tuned/preference_head")
    assert head["feature"].to_list() == [*preference.BLOCKS, "offset"]
    assert head["weights"].list.len().to_list() == [64, 64, 64, 1, 1]
    manifest = house.lake.manifest(["tuned", "preference_head"])
    assert manifest is not None and set(manifest.inputs) == {"preferences/mine.json"}
    facts = manifest.facts
    assert facts["pairs trained on"] + facts["pairs held out"] == 60 and facts["pairs left out"] == 0
    assert facts["held-out accuracy"] > 0.9 and facts["chance"] == 0.5 and facts["pairs from"] == "files"
    assert (
        facts["held-out accuracy, low"] < facts["held-out accuracy"] and "always taking the longer" in facts["verdict"]
    )
    assert "preferences/" in facts["shown"]["how good it is"]

    house.make([SCORE], reward_model=BY_HEAD)
    first = house.frame("evidence/rewards", "alpha")
    assert set(first["status"]) == {"ok"} and first["reward"].n_unique() == first.height
    inputs = house.lake.manifest(["evidence", "rewards"], "alpha").inputs
    assert inputs["tuned/preference_head"] == manifest.data_version
    scores = house.frame(SCORE, "alpha")["value"].to_list()

    house.forget_calls()
    again = house.make(["tuned/preference_head", SCORE], reward_model=BY_HEAD)
    assert all(m.up_to_date for m in again.made)

    prefer(house, comparisons(better="Nobody knows. {}", worse="This is good."))
    house.forget_calls()
    house.make(["tuned/preference_head"], reward_model=BY_HEAD)
    house.forget_calls()
    work = house.make([SCORE], reward_model=BY_HEAD)
    assert {m.key: m.computed for m in work.made}["evidence/rewards"] == first.height
    assert house.frame(SCORE, "alpha")["value"].to_list() != scores
    assert (
        house.frame(SCORE, "alpha")["value"].to_list() == house.frame("evidence/rewards", "alpha")["reward"].to_list()
    )


def test_a_head_of_another_encoder_is_refused(house: House) -> None:
    prefer(house, comparisons())
    house.make(["tuned/preference_head"], reward_model=BY_HEAD)
    said = failure(house, "evidence/rewards", reward_model=BY_HEAD, encoder=FakeEncoder(model="fake:wider", width=96))
    assert "was trained on vectors of fake:words, and the encoder is fake:wider now" in said


def test_without_comparisons_they_are_made_from_the_pool(house: House) -> None:
    outcome = house.make(["tuned/preference_head"], reward_model=BY_HEAD)
    assert not outcome.failures
    manifest = house.lake.manifest(["tuned", "preference_head"])
    assert manifest is not None and "filtered/pool" in manifest.inputs and manifest.facts["pairs from"] == "pool"
    assert "No comparisons were given, so they were made from the pool" in manifest.facts["shown"]["how good it is"]
    assert manifest.facts["verdict"].startswith("On comparisons that nobody made but the program: right in ")
    kinds = [row[0] for row in manifest.facts["shown"]["on unseen pairs"]["rows"]]
    assert kinds[0] == "all" and "another row's answer" in kinds and "its first half" in kinds
    few = {"preference_head": {"most_rows": 5}}
    said = failure(house, "tuned/preference_head", reward_model=BY_HEAD, params=few)
    assert "no head can be trained from the pool" in said and "at least 10 questions" in said
    said = failure(house, "tuned/preference_head", reward_model=BY_HEAD, params={"preference_head": {"epochs": 3}})
    assert "preference_head has no parameter epochs" in said


def test_bad_records_are_named_and_the_rest_goes_on(house: House) -> None:
    good = comparisons(40)
    prefer(house, [*good[:10], {"prompt": "Q", "chosen": "A"}, *good[10:20]], "a[1].json")
    folder = house.lake.home / "preferences"
    broken = [*(json.dumps(r) for r in good[20:30]), '{"prompt": "half', json.dumps({"prompt": "x", "chosen": 1})]
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(broken).encode()))
    (folder / "c.jsonl").write_text("\n".join(json.dumps(record) for record in good[30:]) + "\n")
    (folder / "notes.docx").write_text("no data")
    (folder / ".hidden").write_text("no data")
    pairs, left, bad = read_preferences(preference_files(house.lake.home))
    assert len(pairs) == 40 and left == {} and {pair.kind for pair in pairs} == {"a[1].json", "b.jsonl.gz", "c.jsonl"}
    assert [(name, at) for name, at, _ in bad] == [
        ("a[1].json", 10),
        ("b.jsonl.gz", 10),
        ("b.jsonl.gz", 11),
        ("notes.docx", -1),
    ]
    outcome = house.make(["tuned/preference_head"], reward_model=BY_HEAD)
    assert not outcome.failures
    facts = house.lake.manifest(["tuned", "preference_head"]).facts
    assert facts["bad records"] == 4
    shown = facts["shown"]["records that could not be read"]["rows"]
    assert [row[:2] for row in shown] == [
        ["a[1].json", "10"],
        ["b.jsonl.gz", "10"],
        ["b.jsonl.gz", "11"],
        ["notes.docx", "-1"],
    ]


def test_comparisons_of_which_none_can_be_read_are_not_replaced_by_others(house: House) -> None:
    prefer(house, [{"question": "Q"}])
    said = failure(house, "tuned/preference_head", reward_model=BY_HEAD)
    assert "no head can be trained from 1 file" in said and "1 record could not be read" in said


def test_a_row_without_an_answer_has_no_reward() -> None:
    rng = np.random.default_rng(0)
    head = preference.head_frame(rng.standard_normal(13), 0.5, 4)
    rows = pl.DataFrame(
        {"row_id": ["a", "b", "c"], "instruction": ["Q", "Q", "Q"], "input": ["", "", ""], "response": ["A", " ", "?"]}
    )

    def encode(texts: list[str]) -> np.ndarray:
        known = {"Q": [1, 0, 0, 0], "A": [0, 1, 0, 0]}
        return np.array([known.get(text, [np.nan] * 4) for text in texts], dtype=np.float32)

    found = by_head(rows, head, encode)
    assert found["status"].to_list() == ["ok", "empty_response", "no_embedding"]
    weights = np.concatenate(head["weights"].to_list()[:4])
    phi = np.array([0, 1, 0, 0] + [0, 0, 0, 0] + [1, 1, 0, 0] + [0])
    assert found["reward"].to_list() == [pytest.approx(float(weights @ phi) - 0.5), None, None]
