"""Runs on subsets: what is held out, what the ledger remembers, the rule that is fitted to it, the size that is best."""

import hashlib
import math

import dagster as dg
import numpy as np
import polars as pl
import pytest

from assets import checks, subset_runs
from assets.expectations import SuiteResult
from assets.instruction_mining import row_terms
from assets.subset_runs import Plan, held_out, last_epoch, losses_of
from jobs import definitions, runs
from jobs.made import Outcome
from jobs.runs import RunFailed
from resources.fakes import FakeCausalLM, FakeEncoder
from resources.lake import LakeError
from resources.settings import Settings
from resources.tuning import STEPS_SCHEMA, Tuned
from tests.house import House, alpaca, lines, prose

WORDS = {}
"""Mean words a response of the rows that each stand-in was trained on, by the stand-in's name."""
TRAINED: list[list[str]] = []
"""The rows of every training, in order."""


class Model(FakeCausalLM):
    """Longer rows make a better model: its losses are less by a share that hangs on what it was trained on."""

    def token_statistics(self, rows, on_progress=None, alone=True):  # type: ignore[no-untyped-def]
        worth = math.exp(-0.02 * WORDS[self.model]) if self.model in WORDS else 1.0
        for frame in super().token_statistics(rows, on_progress, alone):
            yield frame.with_columns(pl.col("logp_conditional") * worth)


def tune(model, rows, folder, tuning, on_progress=None):  # type: ignore[no-untyped-def]
    """A training that leaves a folder, and knows how long its rows were."""
    assert rows["messages"].null_count() == 0
    TRAINED.append(rows["row_id"].to_list())
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    name = "fake:tuned-" + hashlib.blake2b("".join(TRAINED[-1]).encode()).hexdigest()[:8]
    WORDS[name] = float(np.mean([len(text.split()) for text in rows["response"]]))
    if on_progress:
        on_progress(1, 2), on_progress(2, 2)
    steps = pl.DataFrame([(1, 3.0, 0.1, 5), (2, 1.0, 0.1, 5)], schema=STEPS_SCHEMA, orient="row")
    return Tuned(name, steps, rows.height, 10, 0.0)


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> House:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("runs")
    file = lines(folder / "s.jsonl", [alpaca(i, prose(i, 2 + i % 9)) for i in range(48)])
    house = House(folder / "home")
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(checks, "run_suite", lambda *_: SuiteResult())
        house.make(["filtered/pool", "scored/response_length", "scored/prompt_length", "scored/mtld"], {"s": file})
    return house


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expectations are dear, and other tests hold these tables against theirs."""
    monkeypatch.setattr(checks, "run_suite", lambda *_: SuiteResult())


@pytest.fixture
def house(scored, tmp_path, monkeypatch) -> House:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(subset_runs, "tune", tune)
    TRAINED.clear()
    WORDS.clear()
    return scored.copy(tmp_path / "home")


def make(house: House, *targets: str, **params: dict) -> Outcome:
    """Only these tables: what they read is there."""
    params = {"subset_runs": {"runs": 6, "rows": 8}, **params}
    defs = definitions.build_defs(house.lake.home, FakeEncoder(), Model())
    outcome = Outcome(sources=["s"])
    config = runs.run_config({"sources": ["s"], "params": params})
    runs._run(defs, house.instance, [dg.AssetKey(target.split("/")) for target in targets], None, config, outcome)
    return outcome


RULE = ("tuned/subset_runs", "tuned/instruction_mining_rule")
SCORES = (*RULE, "tuned/instruction_mining_rows", "scored/instruction_mining")


# ---- the ledger ----------------------------------------------------------------------------------------------------


def test_a_ledger_of_runs(house: House) -> None:
    make(house, "tuned/subset_runs")
    runs = house.frame("tuned/subset_runs")
    pool = house.frame("filtered/pool")["row_id"].to_list()
    assert runs["run"].to_list() == list(range(6)) and runs["key"].n_unique() == 6
    kept_out = set(runs["eval_rows"][0])
    assert len(kept_out) == 5 and kept_out <= set(pool)
    for line in runs.iter_rows(named=True):
        rows = line["rows"]
        assert len(rows) == line["n"] == 8 and not set(rows) & kept_out
        assert rows == sorted(rows, key=pool.index)
        assert line["eval_loss"] == pytest.approx(np.mean(line["eval_losses"])) and len(line["eval_losses"]) == 5
        assert line["train_loss"] == 1.0 and line["tokens"] == 10  # the last of three epochs is the last step
    assert runs["rows"].to_list() == TRAINED
    words = [WORDS["fake:tuned-" + hashlib.blake2b("".join(rows).encode()).hexdigest()[:8]] for rows in TRAINED]
    facts = house.lake.manifest(["tuned", "subset_runs"]).facts
    assert runs["eval_loss"].to_list() == pytest.approx(
        [facts["loss before training"] * math.exp(-0.02 * w) for w in words], rel=1e-5
    )
    assert not list((house.lake.home / "models").iterdir())  # weights go when the loss is known


@pytest.mark.usefixtures("unchecked")
def test_more_runs_add_runs_and_repeat_none(house: House) -> None:
    make(house, "tuned/subset_runs")
    first = house.frame("tuned/subset_runs")
    make(house, "tuned/subset_runs", subset_runs={"runs": 8, "rows": 8})
    more = house.frame("tuned/subset_runs")
    assert len(TRAINED) == 8 and more.height == 8
    assert more.head(6).equals(first)


@pytest.mark.usefixtures("unchecked")
def test_a_run_that_is_killed_goes_on_with_what_it_had(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_at_the_fourth(*args: object) -> Tuned:
        if len(TRAINED) == 3:
            raise OSError("the power is out")
        return tune(*args)

    monkeypatch.setattr(subset_runs, "tune", fail_at_the_fourth)
    with pytest.raises(RunFailed, match="power is out"):
        make(house, "tuned/subset_runs")
    assert len(TRAINED) == 3 and not house.lake.exists(["tuned", "subset_runs"])
    monkeypatch.setattr(subset_runs, "tune", tune)
    make(house, "tuned/subset_runs")
    assert house.frame("tuned/subset_runs")["rows"].to_list() == TRAINED and len(TRAINED) == 6


@pytest.mark.usefixtures("unchecked")
def test_the_loss_is_measured_on_a_target(house: House) -> None:
    lines(house.lake.targets / "exam.jsonl", [alpaca(900, prose(900)), alpaca(901, prose(901))])
    settings = {"runs": 2, "rows": 8, "target": "exam", "draw": "mixed", "keep_models": True}
    make(house, "tuned/subset_runs", subset_runs=settings)
    runs = house.frame("tuned/subset_runs")
    assert len(runs["eval_rows"][0]) == 2
    assert not set(runs["eval_rows"][0]) & set(house.frame("filtered/pool")["row_id"])
    assert len(list((house.lake.home / "models").iterdir())) == 2
    with pytest.raises(RunFailed, match="'test' names no files"):
        make(house, "tuned/subset_runs", subset_runs={"target": "test"})
    with pytest.raises(RunFailed, match="no parameter size; it has runs"):
        make(house, "tuned/subset_runs", subset_runs={"size": 3})


def test_what_is_held_out() -> None:
    ids = [f"{n:032x}" for n in range(100)]
    out = held_out(ids, 0.1, 256, 0)
    assert len(out) == 10 and out == sorted(out) and out != held_out(ids, 0.1, 256, 1)
    assert set(held_out(ids[::-1], 0.1, 256, 0)) == set(out)
    assert len(held_out(ids, 0.5, 7, 0)) == 7 and set(held_out(ids, 0.1, 7, 0)) <= set(out)
    for wrong in ((ids[:1], 0.1), (ids, 0.0), (ids, 1.0)):
        with pytest.raises(LakeError, match="cannot be held out"):
            held_out(*wrong, 256, 0)


def test_rows_that_cannot_be_read_have_no_loss() -> None:
    rows = pl.DataFrame({"row_id": ["a", "b"], "instruction": ["x", "x"], "input": ["", ""], "response": ["", "y z"]})
    losses = losses_of(Model(), rows)
    assert losses[0] is None and losses[1] > 0 and losses.mean() == losses[1]


def test_settings() -> None:
    assert [last_epoch(*case) for case in ((6, 3.0), (1, 3.0), (4, 0.5), (0, 1.0))] == [2, 1, 4, 1]
    plan = Plan.of(Settings(params={"subset_runs": {"tuning": {"epochs": 2, "lora_targets": ["q_proj"]}}}))
    assert plan.training.epochs == 2 and plan.training.lora_targets == ("q_proj",) and plan.training.batch_rows == 16
    with pytest.raises(LakeError, match="no setting epoch; it has method"):
        _ = Plan(tuning={"epoch": 1}).training


# ---- what is read off it -------------------------------------------------------------------------------------------


def test_the_rule_finds_what_makes_the_loss(house: House) -> None:
    """The stand-in's loss is exp(-.02 words) of what it was: the weight of the length is -.02, and R squared is 1."""
    named = {"instruction_mining_rule": {"indicators": ["mtld", "response_length"]}}
    make(house, *SCORES, **named)
    rule = house.frame("tuned/instruction_mining_rule")
    assert dict(rule.select("term", "status").rows()) == {"intercept": "ok", "mtld": "dropped", "response_length": "ok"}
    weight = dict(rule.select("term", "weight").rows())
    assert weight["response_length"] == pytest.approx(-0.02, rel=1e-4)
    facts = house.lake.manifest(["tuned", "instruction_mining_rule"]).facts
    assert facts["indicators"] == ["mtld", "response_length"] and facts["R squared"] > 0.999
    both = house.frame("scored/instruction_mining").join(house.frame("scored/response_length", "s"), on="row_id")
    assert both["status"].to_list() == ["ok"] * 48
    expected = weight["intercept"] + weight["response_length"] * both["value_right"]
    assert both["value"].to_list() == pytest.approx(expected.to_list())


def test_few_runs_fit_nothing_and_say_so(house: House) -> None:
    few = {"runs": 3, "rows": 8}
    made = make(house, *SCORES, subset_runs=few)
    assert any("too few runs" in warning or "chance" in warning for warning in made.warnings)
    rule = house.frame("tuned/instruction_mining_rule")
    assert rule["term"].to_list() == ["intercept", "response_length", "prompt_length", "mtld"]
    assert rule["status"][0] == "too_few_runs" and rule["weight"].null_count() == rule.height
    scores = house.frame("scored/instruction_mining")
    assert scores["status"].to_list() == ["no_rule"] * 48 and scores["value"].null_count() == 48
    make(house, *RULE, subset_runs=few, instruction_mining_rule={"indicators": ["response_length"]})
    assert house.frame("tuned/instruction_mining_rule")["status"].to_list() == ["ok", "ok"] and len(TRAINED) == 3
    with pytest.raises(RunFailed, match="materialize scored/perplexity first"):
        make(house, RULE[1], instruction_mining_rule={"indicators": ["perplexity"]})


def test_terms_of_rows() -> None:
    values = pl.DataFrame({"row_id": ["a", "b", "c"], "x": [1.0, None, 2.0], "y": [10.0, 20.0, math.nan]})
    rows = row_terms(values, 0.5, {"x": 2.0, "y": -1.0})
    assert rows.columns == ["row_id", "status", "intercept", "terms"]
    assert rows["status"].to_list() == ["ok", "missing: x", "missing: y"]
    assert rows["terms"].to_list() == [[2.0, -10.0], None, None]
    none = row_terms(values.select("row_id"), None, {})
    assert none["status"].to_list() == ["no_rule"] * 3 and none.schema == rows.schema


def test_the_size_that_is_best(house: House) -> None:
    """Sizes count from the best row down; what the ledger has is not trained again."""
    search = {"by": "mtld", "trials": 4, "smallest": 5}
    make(house, "tuned/size_search", size_search=search)
    sizes = house.frame("tuned/size_search")
    assert sizes["trial"].to_list() == [0, 1, 2, 3] and sizes["size"].is_between(5, 43).all()
    assert sizes.filter("best")["eval_loss"].to_list() == [sizes["eval_loss"].min()]
    assert [len(rows) for rows in TRAINED] == sizes["size"].to_list()
    score = dict(house.frame("scored/mtld", "s").select("row_id", "value").rows())
    few, many = min(TRAINED, key=len), max(TRAINED, key=len)
    assert set(few) < set(many)
    assert min(score[row] for row in few) >= max(score[row] for row in many if row not in few)
    make(house, "tuned/size_search", size_search={**search, "trials": 5})
    assert len(TRAINED) == 5 and house.frame("tuned/size_search").head(4)["key"].equals(sizes["key"])
    for by, why in (("instruction_mining_v1", "materialize scored/instruction_mining_v1"), ("response_length", "end")):
        with pytest.raises(RunFailed, match=why):
            make(house, "tuned/size_search", size_search={"by": by})


@pytest.mark.usefixtures("unchecked")
def test_where_no_loss_could_be_measured_no_size_is_best(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(_: object, rows: pl.DataFrame) -> pl.Series:
        return pl.Series([None] * rows.height, dtype=pl.Float64)

    monkeypatch.setattr(subset_runs, "losses_of", unread)
    make(house, "tuned/size_search", size_search={"by": "mtld", "trials": 3, "smallest": 5})
    sizes, facts = house.frame("tuned/size_search"), house.lake.manifest(["tuned", "size_search"]).facts
    assert sizes["status"].to_list() == ["no_loss"] * sizes.height and not sizes["best"].any()
    assert facts["best size"] is None and facts["least loss"] is None
