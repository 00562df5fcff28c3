"""The command line as an outsider sees it: files in, files out, sentences for mistakes. The models are stand-ins."""

import csv
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from dagster import DagsterInstance

from assets.expectations import SuiteResult
from jobs import tables
from jobs.cli import main
from methods import catalog
from resources.lake import Lake

SCORE_COLUMNS = ["source", "position", "row_id", "indicator", "value", "status"]


def response(i: int) -> str:
    words = "ships sail north while the patient farmer counts his golden apples under an old and crooked tree".split()
    return " ".join(words[i % 7 :] + [f"number{i}"] + words[: 3 + i % 5]) + "."


def alpaca(i: int, said: str | None = None, **more: object) -> dict[str, object]:
    return {"instruction": f"Tell me of {i}.", "input": "", "output": response(i) if said is None else said, **more}


A = [alpaca(i, topic=f"t{i}") for i in range(8)] + [alpaca(3), alpaca(20, ""), alpaca(21, response(1) + " Yes.")]
"""11 rows (and a broken line): 8 is the same content as 3, 9 is empty."""
B = [
    {"messages": [{"role": "user", "content": f"Tell me of {i}."}, {"role": "assistant", "content": response(i)}]}
    for i in range(5, 12)
]
"""7 rows: the first three are those of the other source."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("cli")
    with (made / "a.jsonl").open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in A)
        file.write("{broken\n")
    (made / "b.json").write_text(json.dumps(B))
    return made


@pytest.fixture(scope="module", autouse=True)
def stand_ins(folder) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_ENCODER", "fake")
        patch.setenv("SLUICE_CAUSAL_LM", "fake")
        patch.setenv("SLUICE_HOME", str(folder / "home"))
        patch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())
        records = DagsterInstance.ephemeral()
        patch.setattr("jobs.home.instance", lambda: nullcontext(records))
        yield


@pytest.fixture(autouse=True)
def home(folder, monkeypatch) -> None:
    """A command sets both for its process."""
    monkeypatch.setenv("SLUICE_HOME", str(folder / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home" / "dagster"))


def sluice(*words: object, code: int = 0) -> Result:
    """A command; anything else than this exit code, or a traceback, is a failure."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def refused(*words: object, code: int = 1) -> str:
    """What a command says that goes wrong, on one line."""
    return " ".join(sluice(*words, code=code).stderr.split())


@pytest.fixture(scope="module")
def sources(folder) -> list[str]:
    return ["--source", f"a={folder / 'a.jsonl'}", "--source", f"b={folder / 'b.json'}"]


def strict(text: str) -> object:
    """JSON without NaN and infinity, which its standard does not know."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


# ---- methods ------------------------------------------------------------------------------------------------------------


def test_methods_are_listed_with_all_that_the_catalogue_knows():
    listed = strict(sluice("methods", "--json").stdout)
    assert [m["id"] for m in listed] == [m.id for m in catalog.METHODS]
    contract = {"id", "kind", "axis", "section", "equation", "direction", "needs", "cost", "paper"}
    assert all(contract <= set(m) for m in listed)
    assert {m["kind"] for m in listed} == {"indicator", "measure", "selector"}
    assert "mtld" in sluice("methods").stdout


# ---- score --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores(folder, sources) -> pl.DataFrame:
    out = folder / "scores.parquet"
    sluice("score", *sources, "--indicator", "response_length", "--indicator", "ifd", "--indicator", "knn_1",
           "--indicator", "ifd", "--out", out)  # fmt: skip
    return pl.read_parquet(out)


def test_every_row_of_every_file_has_a_line_in_file_order(scores):
    assert scores.columns == SCORE_COLUMNS
    places = [("a", i) for i in range(11)] + [("b", i) for i in range(7)]
    for indicator in ("response_length", "ifd", "knn_1"):
        lines = scores.filter(pl.col("indicator") == indicator)
        assert lines.select("source", "position").rows() == places, indicator
    assert scores.height == 3 * 18
    assert scores["row_id"].str.contains("^[0-9a-f]{32}$").all()


def test_a_line_has_a_value_or_a_status_that_says_why_not(scores):
    assert scores["status"].null_count() == 0
    assert ((scores["status"] == "ok") == scores["value"].is_not_null()).all()
    empty = scores.filter((pl.col("source") == "a") & (pl.col("position") == 9))
    said = dict(empty.select("indicator", "status").rows())
    assert said["ifd"] == "empty_response"
    assert not scores["value"].is_nan().any()


def test_a_content_has_one_id_and_one_score_wherever_it_stands(scores):
    ids = {(s, p): i for s, p, i in scores.select("source", "position", "row_id").rows()}
    assert ids["a", 8] == ids["a", 3] and ids["b", 0] == ids["a", 5]
    per_row = scores.group_by("row_id", "indicator").agg(pl.col("value").n_unique())
    assert per_row["value"].max() == 1
    twice = scores.filter((pl.col("indicator") == "knn_1") & (pl.col("row_id") == ids["a", 3]))
    assert twice["value"].to_list() == pytest.approx(
        [0.0, 0.0], abs=1e-6
    )  # a row that stands twice is its own neighbour


LEARNED = {"distilled": "say which score is to be learned", "qurating": "no rater can be trained"}
"""What is learned of other scores wants more than a dozen rows, and says so."""


@pytest.mark.parametrize("indicator", LEARNED)
def test_what_cannot_be_learned_says_what_it_needs(sources, indicator):
    assert LEARNED[indicator] in sluice("score", *sources, "--indicator", indicator, code=1).output


def test_every_indicator_gives_every_row_a_value_or_a_reason(folder, sources):
    ids = [indicator.id for indicator in catalog.INDICATORS if indicator.id not in LEARNED]
    out = folder / "every.parquet"
    sluice("score", *sources, *(word for name in ids for word in ("--indicator", name)), "--out", out)
    found = pl.read_parquet(out)
    assert found.height == 18 * len(ids) and found["status"].null_count() == 0
    assert ((found["status"] == "ok") == found["value"].is_not_null()).all()
    empty = found.filter((pl.col("source") == "a") & (pl.col("position") == 9), pl.col("value").is_not_null())
    # What a row without an answer still has: a prompt, a place among the vectors, no noise that could be asked for.
    assert set(empty["indicator"]) <= {
        *("prompt_length", "knn_1", "knn_i", "knn_jaccard", "pca_row_variance", "aflite", "proxy_predictability"),
        *("judge_difficulty", "deita_complexity", "instag_complexity"),
    } | {name for name in ids if name.startswith("dqi") or name.endswith("flag")}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_same_table_in_other_forms(folder, sources, scores, kind):
    out = folder / f"scores.{kind}"
    sluice("score", *sources, "--indicator", "ifd", "--out", out)
    if kind == "csv":
        with out.open() as file:
            lines = list(csv.DictReader(file))
    else:
        lines = [strict(line) for line in out.read_text().splitlines()]
    expected = scores.filter(pl.col("indicator") == "ifd")
    assert list(lines[0]) == SCORE_COLUMNS
    assert [line["row_id"] for line in lines] == expected["row_id"].to_list()
    values = [None if line["value"] in (None, "") else float(line["value"]) for line in lines]
    assert values == pytest.approx(expected["value"].to_list())


def test_without_a_source_all_that_are_known_are_scored(folder, scores):
    out = folder / "all.csv"
    sluice("score", "--indicator", "response_length", "--out", out)
    assert len(out.read_text().splitlines()) == 1 + 18


def test_a_parameter_changes_the_values(folder, sources):
    out = folder / "mtld.parquet"
    sluice("score", *sources, "--indicator", "mtld", "--param", "mtld.threshold=0.9", "--out", out)
    other = folder / "mtld_default.parquet"
    sluice("score", *sources, "--indicator", "mtld", "--out", other)
    assert pl.read_parquet(out)["status"].equals(pl.read_parquet(other)["status"])
    assert not pl.read_parquet(out)["value"].equals(pl.read_parquet(other)["value"])


# ---- measure ------------------------------------------------------------------------------------------------------------


def test_measures_are_numbers_in_json(sources):
    ids = [measure.id for measure in catalog.MEASURES]
    words = [word for name in ids for word in ("--measure", name)]
    found = strict(sluice("measure", *sources, *words).stdout)
    assert set(found) == {*ids, "sluice"}
    assert all(found[name] is None or isinstance(found[name], int | float) for name in ids)
    assert found["sluice"]["rows"] == 18 and found["sluice"]["sources"] == ["a", "b"]


def test_each_measure_says_what_it_was_measured_on(sources):
    words = [
        word for name in ("vendi", "quality_weighted_vendi", "d_entropy", "tag_count") for word in ("--measure", name)
    ]
    found = strict(sluice("measure", *sources, *words, "--quality", "mtld", "--bootstrap", 20).stdout)
    about = found["sluice"]["measures"]
    assert {name: about[name]["n"] for name in ("vendi", "d_entropy", "tag_count")} == {
        "vendi": 18,
        "d_entropy": 18,
        "tag_count": 12,  # eight rows of one file bring a topic; their contents stand at four more places
    }
    assert found["tag_count"] == 8
    assert about["vendi"]["encoder"]["model"] and "encoder" not in about["d_entropy"]
    assert found["sluice"]["quality"] == "mtld" and 0 < about["quality_weighted_vendi"]["n"] < 18
    assert 0 < found["quality_weighted_vendi"] < found["vendi"]
    for name, method in (("vendi", "delete-half jackknife"), ("d_entropy", "bootstrap")):
        interval = about[name]["interval"]
        assert method in interval["method"] and interval["draws"] == 20
        low, high = interval["95%"]
        assert low <= found[name] <= high


def test_a_measure_without_what_it_weighs_by_says_so(sources):
    found = strict(sluice("measure", *sources, "--measure", "quality_weighted_vendi").stdout)
    assert found["quality_weighted_vendi"] is None
    assert "--quality" in found["sluice"]["measures"]["quality_weighted_vendi"]["missing"]


def test_the_terms_of_dqi_through_the_encoder(sources):
    words = [word for name in ("dqi_c5_sts_intra", "dqi_c7_sts_split") for word in ("--measure", name)]
    alone = strict(sluice("measure", *sources, *words).stdout)
    assert alone["dqi_c5_sts_intra"] > 0 and alone["dqi_c7_sts_split"] is None
    terms = alone["sluice"]["measures"]["dqi_c5_sts_intra"]["terms"]
    assert terms["combined"] == alone["dqi_c5_sts_intra"] and len(terms) > 1
    split = strict(sluice("measure", *sources, *words, "--param", "dqi_c7_sts_split.test_source=b").stdout)
    assert split["dqi_c7_sts_split"] > 0 and split["dqi_c5_sts_intra"] == alone["dqi_c5_sts_intra"]


# ---- run ----------------------------------------------------------------------------------------------------------------


def chosen(folder: Path, sources: list[str], *words: object, recipe: str = "longest") -> list[dict]:
    out = folder / "subset.jsonl"
    sluice("run", recipe, *sources, *words, "--out", out)
    return [strict(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_a_subset_is_the_original_records_in_rank_order(folder, sources):
    records = chosen(folder, sources, "--budget", 5)
    assert [record["sluice"]["rank"] for record in records] == [1, 2, 3, 4, 5]
    for record in records:
        said = record.pop("sluice")
        assert set(said) == {"row_id", "source", "position", "rank", "score", "gain", "weight", "reason"}
        assert record == {"a": A, "b": B}[said["source"]][said["position"]]
    assert len({json.dumps(record, sort_keys=True) for record in records}) == 5


def test_the_card_counts_the_tags_of_the_pool(folder, sources):
    chosen(folder, sources, "--budget", 2)
    card = Lake(folder / "home").scan(["evaluated", "longest"]).collect()
    lines = {line["measure"]: line for line in card.to_dicts()}
    assert lines["tag_count"]["pool"] == 8 and lines["tag_coverage"]["pool"] == 1.0
    assert lines["tag_coverage"]["subset"] == lines["tag_count"]["subset"] / 8
    assert lines["quality_weighted_vendi"]["subset"] <= lines["vendi"]["subset"]


def test_budgets_seeds_and_what_is_shown(folder, sources):
    half = chosen(folder, sources, "--budget", "50%", recipe="random")
    assert len(half) == 6  # of 13 distinct rows that the filters kept
    again = chosen(folder, sources, "--budget", "50%", recipe="random")
    assert again == half
    other = chosen(folder, sources, "--budget", "50%", "--seed", 7, recipe="random")
    assert [r["sluice"]["row_id"] for r in other] != [r["sluice"]["row_id"] for r in half]
    said = sluice("run", "random", *sources, "--budget", "50%", "--seed", 7).stderr
    assert "18 rows in = 6 selected + " in said and "✓" in said
    assert "malformed_json" in said and "exact_duplicate" in said


def test_a_subset_is_itself_a_source(folder, sources):
    first = chosen(folder, sources, "--budget", 5)
    (folder / "again.jsonl").write_text("".join(json.dumps(record) + "\n" for record in first))
    second = chosen(folder, ["--source", f"again={folder / 'again.jsonl'}"], "--budget", 5)
    assert {r["sluice"]["row_id"] for r in second} == {r["sluice"]["row_id"] for r in first}


# ---- explain --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explained(folder, sources) -> dict[tuple[str, int], str]:
    """Row ids by their place, after a run of which there is something to explain."""
    sluice("run", "longest", *sources, "--budget", 5)
    lake = Lake(folder / "home")
    rows = lake.scan_sources(["raw", "instructions"], ["a", "b"]).select("source", "position", "row_id").collect()
    return {(source, position): row for source, position, row in rows.rows()}


def explain(row_id: str) -> dict:
    found = strict(sluice("explain", row_id, "--json").stdout)
    sluice("explain", row_id)
    return found


def decision(found: dict) -> dict:
    (made,) = [d for d in found["decisions"] if d["recipe"] == "longest"][:1]
    return made


def test_a_selected_row_by_the_beginning_of_its_id(folder, explained):
    subset = Lake(folder / "home").scan(["selected", "longest"]).collect()
    row = subset["row_id"][0]
    found = explain(row[:12])
    assert found["row_id"] == row
    assert [decision(found)[name] for name in ("decision", "rank", "weight")] == ["selected", 1, 1.0]
    place = found["places"][0]
    assert place["file"].startswith(str(folder)) and json.loads(place["record"])
    scores = {score["indicator"]: score for score in found["scores"]}
    assert {"mtld", "response_length"} <= set(scores)
    assert scores["mtld"]["parameters"] == dict(catalog.indicator("mtld").params)
    assert all(score["made at"] and score["run"] for score in found["scores"])


def test_what_a_row_counts_for_is_told_where_it_is_not_one():
    decided = {"recipe": "r", "decision": "selected", "reason": "drawn", "made at": "now"}
    assert [tables._decision({**decided, **more})[4] for more in ({}, {"weight": 1.0}, {"weight": 2.625})] == [
        "drawn",
        "drawn",
        "drawn; counts for 2.625 in training",
    ]


def test_a_row_that_a_filter_dropped(explained):
    found = explain(explained["a", 9])
    assert [(v["verdict"], v["rule"]) for v in found["verdicts"]] == [("dropped", "empty")]
    assert found["decisions"] == []


def test_a_row_that_stands_in_several_places(explained):
    found = explain(explained["a", 5])
    assert {("a", 5), ("b", 0)} <= {(p["source"], p["position"]) for p in found["places"]}
    copy = [d for d in found["decisions"] if d["recipe"] == "longest"][1]
    assert copy["rule"] == "exact_duplicate" and "stands in a at position 5" in copy["reason"]
    within = explain(explained["a", 3])
    assert ("dropped", "exact_duplicate") in [(v["verdict"], v["rule"]) for v in within["verdicts"]]


def test_ids_that_are_unknown_or_too_short(explained):
    assert "no row 'ffff0000'" in refused("explain", "ffff0000")
    assert "give more of the id" in refused("explain", "")


# ---- mistakes ---------------------------------------------------------------------------------------------------------------


def source(path: object, name: str = "x") -> list[str]:
    return ["--source", f"{name}={path}"]


def test_mistakes_of_the_command(folder, sources):
    ok, ifd = sources[:2], ["--indicator", "ifd"]
    for words, code, sentence in [
        (["run", "qualty_diverse", *ok], 1, "there is no recipe 'qualty_diverse'; there are"),
        (["score", *ok, "--indicator", "mtdl"], 1, "there is no indicator 'mtdl'; did you mean mtld"),
        (["measure", *ok, "--measure", "vendy"], 1, "there is no measure 'vendy'"),
        (["measure", *ok, "--measure", "vendi", "--quality", "mtlt"], 1, "there is no indicator 'mtlt'"),
        (["measure", *ok, "--measure", "quality_weighted_vendi", "--quality", "lix", "--bootstrap", "1"], 1, "2 or more"),
        (["score", *ok, *ifd, "--param", "mtld.tau=1"], 2, "mtld has no parameter 'tau'; it has field, threshold"),
        (["score", *ok, *ifd, "--param", "nothing.x=1"], 2, "there is no method 'nothing'"),
        (["score", *ok, *ifd, "--param", "mtld=1"], 2, "'mtld=1' is not ID.NAME=VALUE"),
        (["score", *ok], 2, "Missing option '--indicator'"),
        (["score", "--source", "file.jsonl", *ifd], 2, "'file.jsonl' is not NAME=FILE"),
        (["score", "--source", "x=", *ifd], 2, "'x=' is not NAME=FILE"),
        (["score", *source("f.jsonl", "a/b"), *ifd], 2, "'a/b' cannot be a source name"),
        (["score", *source("f.jsonl", "../x"), *ifd], 2, "'../x' cannot be a source name"),
        (["score", *ok, *ok, *ifd], 2, "source 'a' is named twice"),
        (["score", *source(folder / "gone.jsonl"), *ifd], 1, "source 'x': there is no file"),
        (["score", *source(folder), *ifd], 1, "source 'x': there is no file"),
        (["score", *source(__file__), *ifd], 1, "has no extension that is known"),
        (["score", *ok, "--layout", "alpacca", *ifd], 2, "'alpacca' is not one of"),
        (["score", *ok, *ifd, "--out", folder / "x.txt"], 1, "cannot write .txt; use .parquet, .csv, .jsonl"),
        (["run", "random", *ok, "--out", folder / "x.json"], 1, "a subset is written as .jsonl"),
        (["run", "random", *ok, "--budget", "many"], 1, "budget 'many' is neither a number of rows"),
        (["run", "random", *ok, "--budget", "0"], 1, "budget '0' is neither"),
        (["run", "random", *ok, "--seed", "x"], 2, "'x' is not a valid integer"),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
    ]:  # fmt: skip
        assert sentence in refused(*words, code=code), words


def test_mistakes_in_the_data_name_the_file_and_do_not_stay(folder, sources):
    """A slip is told once; it does not stand in the way of the next run over all sources."""
    for name, content, sentence in [
        ("empty.jsonl", "", "has no record that can be read"),
        ("bad.jsonl", "{nonsense\n[1,\n", "has no record that can be read (2 were tried; the first: "),
        ("odd.jsonl", '{"a": 1}\n', "has no record that can be read (1 were tried"),
        ("utf16.jsonl", "\ufeff{}", "is UTF-16"),
    ]:
        (folder / name).write_text(content, encoding="utf-16-le" if name.startswith("utf16") else "utf-8")
        said = refused("run", "random", *source(folder / name))
        assert "source 'x': raw: " in said and str(folder / name) in said and sentence in said
    assert "x" not in [known.name for known in Lake(folder / "home").sources()]


def test_a_home_without_data_and_a_recipe_that_is_wrong(tmp_path):
    assert "no data yet: name a file with --source NAME=FILE" in refused("run", "random", "--home", tmp_path / "new")
    recipe = tmp_path / "new" / "recipes" / "mine.yaml"
    recipe.write_text("title: T\nselector: top_k\n")
    said = refused("run", "mine", "--home", tmp_path / "new")
    assert "mine.yaml: score is missing" in said


def test_brackets_in_a_message_are_not_taken_for_markup():
    assert "[/bold][red]x.jsonl" in refused("score", *source("[/bold][red]x.jsonl"), "--indicator", "ifd")


def test_sentences_are_not_broken_where_they_are_piped(tmp_path):
    long = tmp_path / ("long " * 30) / "file.jsonl"
    assert str(long) in sluice("score", *source(long), "--indicator", "ifd", code=1).stderr
