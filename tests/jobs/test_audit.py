"""`sluice audit`: drawn, rated by stand-ins for people, taken in, and reported."""

import json
import random
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from dagster import DagsterInstance

from assets import humans
from assets.expectations import SuiteResult
from jobs import audit, audit_cli
from jobs.audit import Wish
from jobs.cli import main
from methods.humans import imports, sample
from methods.humans.tasks import Key
from resources.lake import Lake, LakeError
from tests.house import alpaca, lines

FILES = {
    "page.html", "label_studio.json", "label_studio.xml", "argilla.json", "argilla_settings.json", "guidelines.md",
    "key.json",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two sources of 60 and 30 rows, and an audit of 24 of them with 6 planted."""
    made = tmp_path_factory.mktemp("audit")
    lines(made / "a.jsonl", [alpaca(i) for i in range(60)])
    lines(made / "b.jsonl", [alpaca(i) for i in range(100, 130)])
    records = DagsterInstance.ephemeral()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "SLUICE_ENCODER": "fake",
            "SLUICE_CAUSAL_LM": "fake",
            "SLUICE_HOME": str(made / "home"),
        }.items():
            patch.setenv(name, value)
        patch.setenv("DAGSTER_HOME", str(made / "home" / "dagster"))
        patch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())
        patch.setattr("jobs.home.instance", lambda: nullcontext(records))
        sources = ["--source", f"a={made / 'a.jsonl'}", "--source", f"b={made / 'b.jsonl'}"]
        sluice("draw", *sources, "--rows", 24, "--by", "source", "--planted", "25%", "--out", made / "out")
        yield made


@pytest.fixture(autouse=True)
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets both for its process."""
    monkeypatch.setenv("SLUICE_HOME", str(folder / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home" / "dagster"))


def sluice(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["audit", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def rated(folder: Path, rater: str, blind: bool = False, noisy: str = "b") -> Path:
    """A file of labels as the page writes it: who reads refuses what is planted, and everything of one source."""
    key = Key.load(folder / "out" / "key.json")
    planted = {row["row_id"] for row in key.planted}
    bad = planted | set(key.sample.rows.filter(source=noisy)["row_id"])
    rng = random.Random(rater)
    said = []
    for task in json.loads((folder / "out" / "argilla.json").read_text()):
        row = task["id"]
        fails = 0 if blind else int(row in bad)
        quality = rng.choice([0.75, 1.0]) if not fails else 0.25
        given = {"spam": 0, "lang_mismatch": 0, "fails_task": fails, "quality": quality}
        said += [
            {"row_id": row, "rater": rater, "dimension": d, "value": v, "timestamp": "2024-01-01"}
            for d, v in given.items()
        ]
    return lines(folder / f"{rater}.jsonl", said)


# ---- drawing ------------------------------------------------------------------------------------------------------------


def test_the_folder_holds_all_that_raters_need(folder: Path) -> None:
    assert {path.name for path in (folder / "out").iterdir()} == FILES
    records = json.loads((folder / "out" / "argilla.json").read_text())
    key = Key.load(folder / "out" / "key.json")
    assert len(records) == 30 == len(json.loads((folder / "out" / "label_studio.json").read_text()))
    assert len(key.planted) == 6 and key.sample.rows["source"].value_counts().sort("source").rows() == [
        ("a", 12),
        ("b", 12),
    ]
    assert {r["id"] for r in records} == {*key.sample.rows["row_id"], *(row["row_id"] for row in key.planted)}
    places = [i for i, record in enumerate(records) if record["id"] in {row["row_id"] for row in key.planted}]
    assert places != list(range(24, 30)) and places != list(range(6))
    kept = Lake(folder / "home").home / "audits" / f"{key.audit}.json"
    assert kept.read_text() == (folder / "out" / "key.json").read_text()


def test_raters_are_not_told_what_is_planted(folder: Path) -> None:
    key = Key.load(folder / "out" / "key.json")
    for name in FILES - {"key.json"}:
        text = (folder / "out" / name).read_text()
        assert "planted" not in text and "stratum" not in text
        assert not any(row["prompt_of"] in text for row in key.planted)


def test_an_audit_is_not_written_over(folder: Path) -> None:
    before = (folder / "out" / "key.json").read_bytes()
    assert "is there already" in sluice("draw", "--out", folder / "out", code=1).output
    assert (folder / "out" / "key.json").read_bytes() == before
    assert not list(folder.glob(".*staged"))


def test_nothing_is_left_of_a_folder_that_could_not_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(folder / "home")
    audits = sorted((lake.home / "audits").iterdir())

    def broken(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("jobs.audit.exports.label_studio_config", broken)
    with pytest.raises(OSError, match="disk full"):
        audit.draw(lake, Wish(rows=5, seed=9), (), folder / "broken")
    assert not list(folder.glob("*broken*")) and sorted((lake.home / "audits").iterdir()) == audits


def test_by_disagreement_and_by_score(folder: Path) -> None:
    names = ("mtld", "spelling_error_rate")
    chosen = [word for name in names for word in ("--indicator", name)]
    said = sluice(
        "draw", "--rows", 20, "--by", "disagreement", *chosen, "--planted", 0, "--out", folder / "apart"
    ).output
    assert "20 rows, 0 planted" in said
    key = Key.load(folder / "apart" / "key.json")
    assert key.design["indicators"] == list(names) and key.sample.rows["stratum"].to_list().count("quarter 4") == 10
    # Both were scored now, so that nobody needs to name them.
    assert set(names) <= set(audit.compared(Lake(folder / "home"), Wish(by="disagreement"), ["a", "b"]))
    assert audit.compared(Lake(folder / "none"), Wish(by="disagreement"), ["a"]) == audit.DEFAULT_INDICATORS
    audit.draw(Lake(folder / "home"), Wish(rows=8, by="score"), ("mtld",), folder / "scored")
    assert set(Key.load(folder / "scored" / "key.json").sample.cells["stratum"]) == {
        f"quarter {i}" for i in range(1, 5)
    }


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--planted", "some"), "--planted takes"), (("--planted", "120%"), "at most 100%"), (("--rows", 0), "at least 1"),
        (("--by", "score"), "name it"), (("--by", "disagreement", "--indicator", "mtld"), "two or more"),
        (("--indicator", "mltd"), "did you mean"), (("--guidelines", "nowhere.md"), "no guidelines"),
        (("--planted", "-1"), "at least 0"),
    ],
)  # fmt: skip
def test_mistakes_are_sentences(folder: Path, words: tuple[object, ...], why: str) -> None:
    result = sluice("draw", *words, "--out", folder / "never", code=1)
    assert why in result.output and "Traceback" not in result.output
    assert not (folder / "never").exists()


# ---- labels and the report ----------------------------------------------------------------------------------------------


def test_labels_go_in_once_and_bad_files_do_not(folder: Path, tmp_path: Path) -> None:
    house = tmp_path / "home"
    file = rated(folder, "dan")
    with file.open("a") as more:
        more.write("{broken\n")
    said = sluice("import", file, "--home", house).output
    assert "120 labels" in said and "dan.jsonl, line 121: it is no JSON" in said and "120 labels are of rows" in said
    assert "there already" in sluice("import", file, "--home", house).output
    assert len(imports.label_files(house / "labels")) == 1
    bad = lines(tmp_path / "bad.jsonl", [{"a": 1}])
    result = sluice("import", bad, rated(folder, "eve"), "--home", house, code=1)
    assert "nothing could be read" in result.output and len(imports.label_files(house / "labels")) == 2
    assert "there is no file" in sluice("import", tmp_path / "lost.jsonl", code=1).output


def test_the_report_finds_the_noisy_source_and_the_rater_who_does_not_read(folder: Path) -> None:
    files = [rated(folder, "ann"), rated(folder, "ben"), rated(folder, "cy", blind=True)]
    assert "worth a look" not in sluice("import", *files).output
    found = json.loads(sluice("report", "--json").stdout)
    assert found["raters"] == 3 and "fails_task" in found["alarms"] and found["problems"] == []
    mine = next(one for one in found["audits"] if one["raters"])
    passed = {who: (line["accepted"], line["read"]) for who, line in mine["planted"].items()}
    assert passed == {"all": (0, 6), "ann": (0, 6), "ben": (0, 6), "cy": (6, 6)}
    assert mine["planted"]["all"]["high"] == pytest.approx(sample.clopper_pearson(0, 6)[1])
    noise = {line["source"]: line for line in mine["noise"]}
    assert noise["a"]["value"] == 0 and noise["b"]["value"] == 1
    assert (noise["a"]["low"], noise["a"]["high"]) == sample.finite_interval(0, 12, noise["a"]["population"])
    assert noise[sample.ALL_SOURCES]["value"] == pytest.approx(30 / 90) and noise["a"]["rows for ten points"] > 12
    text = sluice("report").output
    for words in ("too little agreement", "Planted rows that were accepted", "Noise", "100.0%"):
        assert words in text
    four = json.loads(sluice("report", "--json", "--minimum", 4).stdout)
    assert {line["status"] for one in four["audits"] for line in one["noise"]} == {"no_labels"}


def test_a_key_that_was_changed_is_said_and_left_out(folder: Path, tmp_path: Path) -> None:
    text = (folder / "out" / "key.json").read_text()
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "x.json").write_text(text.replace("quarter", "half").replace('"a"', '"b"'))
    found, wrong = humans.audit_keys(Lake(tmp_path))
    assert found == [] and "seal" in wrong[0]


def test_an_empty_report_says_what_to_do() -> None:
    nothing = {"labels": 0, "rows": 0, "raters": 0, "problems": [], "agreement": [], "alarms": [], "audits": []}
    assert "sluice audit draw" in str(audit_cli.tables(nothing)[-1])


def test_planted_rows_are_counted_or_shared() -> None:
    assert [
        audit.planted_rows(Wish(rows=50, planted=text)) for text in ("0", "7", "10%", "0.5 %".replace(" ", ""))
    ] == [0, 7, 5, 0]
    with pytest.raises(LakeError, match=r"got '1\.5'"):
        audit.planted_rows(Wish(planted="1.5"))


def test_labels_of_rows_that_nobody_knows_are_counted(folder: Path, tmp_path: Path) -> None:
    row = {"row_id": "f" * 32, "rater": "z", "dimension": "quality", "value": 1}
    taken = audit.take(Lake(tmp_path / "home"), lines(tmp_path / "z.jsonl", [row]))
    assert (taken.labels, taken.unknown, taken.new) == (1, 1, True)
    assert isinstance(taken.problems, pl.DataFrame) and taken.problems.is_empty()


def test_a_draw_asks_no_judge_that_nobody_named() -> None:
    seen = ("mtld", "alpagasus_score")
    by_itself = audit.keys_for(Wish(by="disagreement"), seen)
    named = audit.keys_for(Wish(by="disagreement", indicators=seen), seen)
    assert {key.path[-1] for key in by_itself} == {"pool", "mtld"}
    assert {key.path[-1] for key in named} == {"pool", "mtld", "alpagasus_score"}
