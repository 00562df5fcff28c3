"""Tables by their names, from the command line: what was counted is shown, and a slip is answered with what there is."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dagster import DagsterInstance

from assets.expectations import SuiteResult
from jobs.cli import main
from resources.lake import Lake
from tests.house import alpaca, lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("make")
    lines(made / "a.jsonl", [alpaca(i) for i in range(30)])
    return made


@pytest.fixture(autouse=True)
def stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SLUICE_ENCODER", "SLUICE_CAUSAL_LM"):
        monkeypatch.setenv(name, "fake")
    monkeypatch.setenv("SLUICE_HOME", str(folder / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home" / "dagster"))
    monkeypatch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())
    records = DagsterInstance.ephemeral()
    monkeypatch.setattr("jobs.home.instance", lambda: nullcontext(records))
    yield


def sluice(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def test_a_table_and_what_it_counted(folder: Path) -> None:
    said = sluice(
        "make", "tuned/preference_head", "filtered/instructions", "--source", f"a={folder / 'a.jsonl'}"
    ).output
    assert "tuned/preference_head" in said and "unseen pairs" in said
    assert "filtered/instructions of a" in said and "rows in" in said
    assert Lake(folder / "home").manifest(["tuned", "preference_head"]) is not None


def test_parameters_of_steps_that_are_no_methods(folder: Path) -> None:
    source = f"a={folder / 'a.jsonl'}"
    words = ("make", "tuned/experienced", "--source", source, "--param", "warmup_rows.clusters=3")
    sluice(*words, "--param", "warmup_rows.each=2", "--param", "experienced.epochs=2")
    manifest = Lake(folder / "home").manifest(["tuned", "experienced"])
    assert manifest is not None and manifest.facts["rows trained on"] == 6
    assert manifest.config["tuning"]["epochs"] == 2
    refused = sluice("make", "tuned/experienced", "--source", source, "--param", "experienced.epoch=2", code=1)
    assert "experienced has no setting epoch" in refused.output
    refused = sluice("make", "tuned/experienced", "--source", source, "--param", "experience.epochs=2", code=2)
    assert "there is no method 'experience'" in refused.output and "experienced" in refused.output


def test_a_slip_is_answered_with_the_nearest_names(folder: Path) -> None:
    refused = sluice("make", "tuned/preferences_head", "--source", f"a={folder / 'a.jsonl'}", code=1)
    assert "there is no table 'tuned/preferences_head'; did you mean tuned/preference_head" in refused.output


def test_what_one_wants_to_be_good_at(folder: Path) -> None:
    targets = folder / "home" / "targets"
    targets.mkdir(parents=True, exist_ok=True)
    records = [{"instruction": f"Sail to harbour {i}.", "output": f"Ship {i} sails."} for i in range(3)]
    lines(targets / "sailing.jsonl", [*records, {**alpaca(4), "input": ""}])
    said = sluice("make", "targets/rows", "--source", f"a={folder / 'a.jsonl'}").output
    assert "targets/rows" in said
    table = Lake(folder / "home").scan(["targets", "rows"]).collect()
    assert table["target"].to_list() == ["sailing"] * 4 and table["response"][0] == "Ship 0 sails."
    (targets / "empty.jsonl").write_text(json.dumps({"nothing": 1}) + "\n")
    refused = sluice("make", "targets/rows", "--source", f"a={folder / 'a.jsonl'}", code=1)
    assert "empty" in refused.output and "targets" in refused.output
    (targets / "empty.jsonl").unlink()
    (targets / "sailing.jsonl").unlink()
