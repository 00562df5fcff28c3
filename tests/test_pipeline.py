"""The whole pipeline on small files with stand-in models: what it makes, what it makes again, and what it survives.

A home with every recipe that ships, but for those on request, is built once; the tests work on copies of it. Great Expectations takes most of a small run's
time, so all go without it but the test of contracts.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.expectations import SuiteResult
from jobs import definitions, runs
from jobs.made import Outcome
from methods import catalog, text
from resources.lake import Lake, Table
from tests.house import (
    ALPHA,
    CHINESE,
    COUNTED,
    NEAR,
    Encoder,
    House,
    Model,
    alpaca,
    computed,
    conversation,
    fresh,
    lines,
    prose,
)

RECIPES = [recipe.name for recipe in definitions.recipes_of(Path("nowhere")) if not recipe.on_request]
EVERYTHING = [f"{stage}/{recipe}" for recipe in RECIPES for stage in ("selected", "evaluated")]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    beta = folder / "beta.json"
    beta.write_text(json.dumps([*(conversation(i) for i in range(200, 212)), NEAR, alpaca(7)]))
    return {"alpha": lines(folder / "alpha.jsonl", ALPHA), "beta": beta}


@pytest.fixture(scope="module")
def built(tmp_path_factory, files) -> tuple[House, Outcome]:
    """A home in which every recipe that ships has run."""
    house = House(tmp_path_factory.mktemp("home") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assets.checks.run_suite", no_expectations)
        return house, house.make(EVERYTHING, files, budget="8")


def no_expectations(*_: object) -> SuiteResult:
    return SuiteResult()


@pytest.fixture
def house(built, tmp_path, monkeypatch) -> House:
    """A copy of that home."""
    monkeypatch.setattr("assets.checks.run_suite", no_expectations)
    return built[0].copy(tmp_path / "home")


# ---- what is made -------------------------------------------------------------------------------------------------------


def test_every_record_is_a_row_or_quarantined_and_every_row_kept_or_dropped(built):
    lake = built[0].lake
    raw = lake.manifest(["raw", "instructions"], "alpha")
    assert (raw.facts["records"], raw.rows, raw.facts["records quarantined"]) == (36, 35, 1)
    bad = built[0].frame("raw/quarantine", "alpha")
    assert bad.select("position", "line", "reason").rows() == [(35, 36, "malformed_json")]
    dropped = built[0].frame("filtered/dropped", "alpha")
    assert dict(dropped.select("position", "rule").rows()) == {30: "exact_duplicate", 32: "empty"}
    kept = built[0].frame("filtered/instructions", "alpha")
    assert kept.height + dropped.height == raw.rows
    assert kept.filter(pl.col("position") == 33)["language"].to_list() == ["zh"]
    assert built[0].frame("filtered/instructions", "beta").height == 14


def test_the_pool_lists_a_content_once_with_its_copies(built):
    pool = built[0].frame("filtered/pool")
    assert pool.height == 33 + 14 - 1
    twice = pool.filter(pl.col("copies") == 2)
    assert twice.select("source", "position").rows() == [("alpha", 7)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_in_are_selected_dropped_or_not_chosen(built, recipe):
    house = built[0]
    facts, subset = house.lake.manifest(["selected", recipe]).facts, house.frame(f"selected/{recipe}")
    ledger = house.frame(f"selected/ledgers/{recipe}")
    assert facts["rows in"] == 35 + 14
    assert facts["rows in"] == subset.height + facts["rows dropped"] + facts["rows not chosen"]
    assert subset.height == 8 == facts["budget"]
    assert ledger.select("source", "position", "part").n_unique() == ledger.height == 33 + 14
    assert subset["rank"].to_list() == list(range(1, 9)) and subset["row_id"].n_unique() == 8
    assert (
        subset["row_id"].to_list() == ledger.filter(pl.col("decision") == "selected").sort("rank")["row_id"].to_list()
    )
    rules = dict(ledger.filter(pl.col("decision") == "dropped").group_by("rule").len().rows())
    assert rules["exact_duplicate"] == 1 and rules["near_duplicate"] == 2
    card = house.frame(f"evaluated/{recipe}")
    assert card.select("n_subset", "n_random", "n_pool").unique().rows() == [(8, 8, 46)]
    assert card["n_used"].is_between(1, 8).all() and card["parameters"].str.json_path_match("$.seed").count() > 0


def test_nothing_half_written_is_left(built):
    assert [path for path in built[0].lake.root.rglob("*") if path.name.endswith(".staged")] == []


# ---- a second time ------------------------------------------------------------------------------------------------------


def test_the_same_again_computes_nothing(house, files):
    tables = {path: path.stat().st_mtime_ns for path in (house.lake.root / "tables").rglob("*.parquet")}
    runs_before = house.instance.get_runs_count()
    again = house.make(EVERYTHING, dict(reversed(files.items())), budget="8")  # in whatever order they are named
    assert house.instance.get_runs_count() == runs_before  # not even a run
    assert again.up_to_date == len(again.made) > 50
    house.forget_calls()
    again = house.make(["evaluated/lm_quality_diverse", "selected/random"], files, budget="8")
    assert house.instance.get_runs_count() > runs_before
    assert fresh(again) == set() and {made.computed for made in again.made} == {0}
    assert COUNTED == []
    assert tables == {path: path.stat().st_mtime_ns for path in (house.lake.root / "tables").rglob("*.parquet")}


ROW_PASSES = {
    "evidence/text_counts",
    "evidence/token_statistics",
    "embedded/minilm",
    "filtered/signatures",
    "filtered/instructions",
}
"""What looks at a row alone, and so is worth computing once a row."""


def test_one_changed_row_is_one_row_computed(house, files, tmp_path):
    """And what was taken over is what would have been computed: some rows went, others changed places."""
    before = house.version("selected/lm_quality_diverse")
    changed = [alpaca(4, prose(4) + " And a new end."), *ALPHA[10:], *ALPHA[:3]]
    new = {**files, "alpha": lines(tmp_path / "alpha.jsonl", changed)}
    target = ["selected/lm_quality_diverse"]
    work = computed(house.make(target, new, budget="8"))
    for name in ROW_PASSES:
        assert work[f"{name}[alpha]"] == 1, name
    for name in ("ifd", "mtld", "response_length", "excessive_word_repetition"):
        assert work[f"scored/{name}[alpha]"] == 1, name
    assert not [key for key in work if key.endswith("[beta]")]
    assert 1 <= work["evidence/neighbours"] < 40
    assert sorted(COUNTED) == ["causal_lm", "encoder"]
    assert house.version("selected/lm_quality_diverse") != before
    other = House(tmp_path / "other")
    other.make(target, new, budget="8")
    for path in (house.lake.root / "tables").rglob("alpha.parquet"):
        key = path.relative_to(house.lake.root / "tables").parent.as_posix()
        if other.lake.exists(key.split("/"), "alpha"):
            assert house.frame(key, "alpha").equals(other.frame(key, "alpha")), key
    for key in (
        "filtered/pool",
        "evidence/neighbours",
        "clustered/kmeans",
        "scored/knn_1",
        "selected/lm_quality_diverse",
    ):
        assert house.frame(key).equals(other.frame(key)), key
        assert house.version(key) == other.version(key), key


def test_rows_that_only_go_cost_nothing(house, tmp_path):
    target = [*ROW_PASSES, "scored/ifd"]
    new = {"alpha": lines(tmp_path / "alpha.jsonl", ALPHA[:20])}
    work = computed(house.make(target, new, budget="8"))
    assert {work[f"{name}[alpha]"] for name in ROW_PASSES} == {0}
    assert work["scored/ifd[alpha]"] == 0
    assert COUNTED == []
    assert house.frame("scored/ifd", "alpha").height == 20
    renamed = {"alpha": tmp_path / "same content.jsonl"}
    shutil.copy(new["alpha"], renamed["alpha"])
    house.forget_calls()
    assert fresh(house.make(target, renamed, budget="8")) == set()
    assert "source" not in pl.read_parquet_schema(house.lake.path(["filtered", "signatures"], "alpha"))


# ---- other code, other models, other settings -----------------------------------------------------------------------------


def made_by_older_code(lake: Lake, key: str, source: str) -> None:
    path = key.split("/")
    manifest = replace(lake.manifest(path, source), code_version="0", data_version="older")
    lake.write(path, source, Table(pl.read_parquet(lake.path(path, source)), manifest))


def test_older_code_is_computed_again(house, files):
    for key in ("scored/mtld", "evidence/text_counts"):
        made_by_older_code(house.lake, key, "alpha")
    work = computed(house.make(["scored/mtld"], files))
    assert work == {"evidence/text_counts[alpha]": 33, "scored/mtld[alpha]": 33}


def test_another_language_model_reads_and_scores_again_and_the_former_is_still_known(house, files):
    first = house.frame("scored/ifd", "alpha")
    other = Model(model="fake:other")
    outcome = house.make(["scored/ifd"], files, causal_lm=other)
    work = computed(outcome)
    assert work["evidence/token_statistics[alpha]"] == work["scored/ifd[alpha]"] == 33
    assert work["evidence/token_statistics[beta]"] == 13  # one content stands in both sources and was read in the first
    assert work["scored/ifd[beta]"] == 14
    assert "filtered/instructions" not in fresh(outcome)
    back = computed(house.make(["scored/ifd"], files))
    assert back["evidence/token_statistics[alpha]"] == 0 and "causal_lm" not in COUNTED
    assert back["scored/ifd[alpha]"] == 33
    assert house.frame("scored/ifd", "alpha").equals(first)


def test_another_encoder_embeds_again_and_all_that_reads_vectors(house, files):
    outcome = house.make(["selected/quality_diverse"], files, encoder=Encoder(model="fake:other"), budget="8")
    work = computed(outcome)
    assert work["embedded/minilm[alpha]"] == 33 and work["evidence/neighbours"] == 46
    assert {"scored/knn_1", "clustered/kmeans_model", "clustered/kmeans", "selected/quality_diverse"} <= fresh(outcome)
    assert "evidence/text_counts" not in fresh(outcome)


def test_parameters_budget_and_seed_change_what_they_decide_and_nothing_else(house, files):
    before = house.frame("selected/random")["row_id"].to_list()
    assert fresh(house.make(["selected/random"], files, budget="50%", seed=1)) == {"selected/random"}
    assert house.frame("selected/random").height == 23
    assert house.frame("selected/random")["row_id"].to_list()[:8] != before
    changed = house.make(["scored/mtld", "scored/ttr"], files, params={"mtld": {"threshold": 0.6}})
    assert computed(changed) == {"scored/mtld[alpha]": 33, "scored/mtld[beta]": 14}


def test_filters_are_set_for_good_in_a_file_and_for_a_run(house, files):
    (house.lake.home / "filters.yaml").write_text("least_words: 40\nflag_only: [empty]\n")
    house.make(["filtered/instructions"], files)
    dropped = house.frame("filtered/dropped", "alpha")
    assert dict(dropped.filter(pl.col("position") == 32).select("position", "rule").rows()) != {32: "empty"}
    house.make(["filtered/instructions"], files, filters={"least_words": 5000, "most_words": 9000})
    assert set(house.frame("filtered/dropped", "alpha")["rule"]) >= {"too_short"}
    assert house.frame("filtered/instructions", "beta").height == 0
    (house.lake.home / "filters.yaml").unlink()
    outcome = house.make(["filtered/instructions"], files)
    assert computed(outcome)["filtered/instructions[alpha]"] == 0  # judged under these rules before
    assert house.frame("filtered/dropped", "alpha").height == 2


@pytest.mark.parametrize(
    ("said", "error"),
    [("least_word: 3", "unknown filter setting 'least_word'"), ("[a]", "give a mapping"), ("a: [", "while parsing"),
     ("disabled: [nonsense]", "no rule 'nonsense'")],
)  # fmt: skip
def test_a_filter_file_that_is_wrong_is_named(house, files, said, error):
    (house.lake.home / "filters.yaml").write_text(said)
    before = house.version("filtered/instructions", "alpha")
    with pytest.raises(runs.RunFailed, match=error) as raised:
        house.make(["filtered/instructions"], files)
    assert "filters.yaml" in str(raised.value)
    assert house.version("filtered/instructions", "alpha") == before


def test_leaked_test_items_are_dropped(house, files):
    target = house.lake.targets / "exam.jsonl"
    lines(target, [{"instruction": ALPHA[34]["instruction"], "output": "About forty."}])
    house.make(["filtered/instructions"], files)
    leaked = house.frame("filtered/dropped", "alpha").filter(pl.col("rule") == "leaked")
    assert leaked["position"].to_list() == [34] and "exam" in leaked["detail"][0]
    target.write_text("{broken")
    with pytest.raises(runs.RunFailed, match="no test item could be read from exam"):
        house.make(["filtered/instructions"], files)
    assert house.frame("filtered/dropped", "alpha").filter(pl.col("rule") == "leaked").height == 1


# ---- what goes wrong --------------------------------------------------------------------------------------------------------


def test_a_broken_contract_leaves_the_last_good_table_and_stops_what_reads_it(tmp_path, files, monkeypatch):
    house, target = House(tmp_path / "home"), ["scored/mtld"]
    house.make(target, {"alpha": files["alpha"]})  # every contract holds on sound data
    before = {key: house.version(key, "alpha") for key in ("evidence/text_counts", "scored/mtld")}
    sound = text.count_block
    monkeypatch.setattr(text, "count_block", lambda block: sound(block.head(block.height - 1)))
    new = {"alpha": lines(tmp_path / "alpha.jsonl", [*ALPHA, alpaca(400), alpaca(401)])}
    with pytest.raises(runs.RunFailed) as raised:
        house.make(target, new)
    for part in (
        "source 'alpha'",
        "evidence/text_counts",
        "rows missing",
        "every row has its line",
        "last good version stays",
    ):
        assert part in str(raised.value)
    assert {key: house.version(key, "alpha") for key in before} == before
    assert house.frame("evidence/text_counts", "alpha").height == 33
    assert [path for path in house.lake.root.rglob("*.staged")] == []
    monkeypatch.undo()
    assert computed(house.make(target, new))["evidence/text_counts[alpha]"] == 2
    assert house.frame("evidence/text_counts", "alpha").height == 35


def test_a_file_that_is_gone_or_cannot_be_read(house, files, tmp_path):
    (tmp_path / "alpha.jsonl").write_text("")
    with pytest.raises(runs.RunFailed, match=r"source 'alpha': raw: .*alpha.jsonl has no record that can be read"):
        house.make(["selected/random"], {"alpha": tmp_path / "alpha.jsonl"})
    assert house.frame("raw/instructions", "alpha").height == 35
    assert house.frame("raw/quarantine", "alpha")["reason"].to_list() == ["empty_file"]


def test_a_recipe_of_other_sources_says_so(house, files):
    (house.lake.home / "recipes").mkdir()
    (house.lake.home / "recipes" / "own.yaml").write_text("title: T\nselector: random\nsources: [beta]\nbudget: 3\n")
    house.make(["selected/own"], files)
    assert set(house.frame("selected/own")["source"]) == {"beta"}
    assert house.lake.manifest(["selected", "own"]).facts["pool"] == ["beta"]
    with pytest.raises(runs.RunFailed, match="selected/own looks at beta, and this run at alpha"):
        house.make(["selected/own"], {"alpha": files["alpha"]})


def test_a_table_of_another_pool_is_not_taken_for_this_one(house, files):
    """Were the pool's tables changed underneath a run, rows without values would be dropped for no reason of theirs."""
    house.make(["clustered/kmeans"], {"beta": files["beta"]})
    defs = definitions.build_defs(house.lake.home, Encoder(), Model())
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        run_config=runs.run_config({"sources": ["alpha", "beta"]}),
        instance=house.instance,
        asset_selection=[dg.AssetKey(["selected", "random"])],
        raise_on_error=False,
    )
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "was made without alpha" in str(failed.step_failure_data.error)


def test_pairs_that_were_not_sought_are_asked_for_with_a_hint(house, files):
    (house.lake.home / "recipes").mkdir()
    (house.lake.home / "recipes" / "loose.yaml").write_text("title: T\nselector: random\nduplicates: 0.3\nbudget: 3\n")
    with pytest.raises(runs.RunFailed, match=r"--param duplicates\.threshold=0\.3"):
        house.make(["selected/loose"], files)
    house.make(["selected/loose"], files, params={"duplicates": {"threshold": 0.3}})
    assert house.frame("selected/loose").height == 3


# ---- odd sources ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path, monkeypatch) -> House:
    monkeypatch.setattr("assets.checks.run_suite", no_expectations)
    return House(tmp_path / "home")


SCORES = ["scored/ifd", "scored/mtld", "scored/knn_1", "scored/pca_row_variance"]


def test_a_source_of_one_row(bare, tmp_path):
    bare.make(
        ["evaluated/lm_quality_diverse", "evaluated/k_center", *SCORES],
        {"one": lines(tmp_path / "one.jsonl", [alpaca(1)])},
    )
    assert bare.frame("selected/k_center")["rank"].to_list() == [1]
    assert bare.frame("scored/knn_1")["value"].to_list() == [None]
    assert bare.frame("evaluated/k_center").height > 5


def test_all_rows_are_the_same(bare, tmp_path):
    bare.make(["selected/quality_diverse"], {"same": lines(tmp_path / "same.jsonl", [alpaca(1)] * 20)})
    assert bare.frame("filtered/pool")["copies"].to_list() == [1]  # the other 19 were dropped in the source
    assert bare.frame("selected/quality_diverse").height == 1
    facts = bare.lake.manifest(["selected", "quality_diverse"]).facts
    assert (facts["rows in"], facts["rows dropped"]) == (20, 19)


def test_chinese_alone(bare, tmp_path):
    said = [
        {"instruction": f"第{i}题", "input": "", "output": CHINESE + "一二三四五六七八九十"[i] * (3 + i)}
        for i in range(8)
    ]
    bare.make(["evaluated/lm_quality_diverse", *SCORES], {"zh": lines(tmp_path / "zh.jsonl", said)}, budget="3")
    assert set(bare.frame("filtered/instructions", "zh")["language"]) == {"zh"}
    assert bare.frame("selected/lm_quality_diverse").height >= 1


def test_a_source_of_which_nothing_is_left(bare, tmp_path):
    """Alone it is an error that says why; beside others it is simply empty."""
    none = lines(tmp_path / "none.jsonl", [alpaca(i, "") for i in range(5)])
    with pytest.raises(runs.RunFailed, match="nothing is left to choose from: the filters dropped every row of none"):
        bare.make(["selected/lm_quality_diverse"], {"none": none})
    both = {"none": none, "some": lines(tmp_path / "some.jsonl", [alpaca(i) for i in range(12)])}
    bare.make(["evaluated/lm_quality_diverse", *SCORES], both, budget="3")
    assert set(bare.frame("selected/lm_quality_diverse")["source"]) == {"some"}
    facts = bare.lake.manifest(["selected", "lm_quality_diverse"]).facts
    assert facts["rows in"] == 17 and facts["rows dropped"] >= 5
    for key in ("evidence/text_counts", "evidence/token_statistics", "embedded/minilm", "scored/ifd"):
        assert bare.frame(key, "none").height == 0


def test_every_row_has_an_answer_when_dropped_rows_are_asked_for_too(bare, tmp_path):
    none = {"none": lines(tmp_path / "none.jsonl", [*(alpaca(i, "") for i in range(3)), alpaca(1), alpaca(1)])}
    learned = {
        "tuned/instruction_mining_rows",
        "tuned/distilled",
        "judged/strengths",
        "judged/rated",
    }  # of several rows
    indicators = [i for i in catalog.INDICATORS if not learned & set(i.needs)]
    bare.make([f"scored/{indicator.id}" for indicator in indicators], none, all_rows=True)
    for indicator in indicators:
        table = bare.frame(f"scored/{indicator.id}", "none" if indicator.scope == "row" else None)
        assert table.height == 4, indicator.id  # the two that are the same have one id
        assert table["value"].is_null().eq(table["status"] != "ok").all(), indicator.id
