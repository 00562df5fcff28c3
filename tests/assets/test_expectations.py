"""Suites of expectations: what they find, in which words, and what the UI is handed."""

import math

import dagster as dg
import polars as pl
import pytest

from assets import checks
from assets.checks import Suite, between, filled, unique, zero
from assets.expectations import Expectation, SuiteResult, from_dicts, run_suite

A, B = "a" * 32, "b" * 32


def outcomes(expectation: Expectation, values: dict[str, list[object]]) -> tuple[bool, str, str]:
    (outcome,) = run_suite([expectation], pl.DataFrame(values)).outcomes
    return outcome.passed, outcome.expected, outcome.observed


@pytest.mark.parametrize(
    ("expectation", "values", "said"),
    [
        (between("x", 0, 1, ""), {"x": [0.0, 1.0, None]}, (True, "0 to 1", "as expected")),
        (between("x", 0, 1, ""), {"x": [0.0, 1.25, -2.0]}, (False, "0 to 1", "2 of 3 other, e.g. 1.25, -2")),
        (between("x", 0, None, ""), {"x": [-1, 3]}, (False, "at least 0", "1 of 2 other, e.g. -1")),
        (between("x", None, 2, ""), {"x": [3, 1]}, (False, "at most 2", "1 of 2 other, e.g. 3")),
        (zero("x", ""), {"x": [7.0]}, (False, "0", "7")),
        (zero("x", ""), {"x": [0.0]}, (True, "0", "0")),
        (between("x", 0, 0.05, ""), {"x": [0.148148]}, (False, "0 to 0.05", "0.1481")),
        (unique("x", why=""), {"x": ["p", "p", "q"]}, (False, "no value twice", "2 of 3 other, e.g. p, p")),
        (filled("x", ""), {"x": ["p", "q"]}, (True, "always there", "as expected")),
        (checks.row_id(), {"row_id": [A, "B" * 32]}, (False, "like ^[0-9a-f]{32}$", f"1 of 2 other, e.g. {'B' * 32}")),
    ],
)
def test_what_is_said(expectation: Expectation, values: dict[str, list[object]], said: tuple[bool, str, str]) -> None:
    assert outcomes(expectation, values) == said


def test_a_null_is_found_and_named() -> None:
    passed, _, observed = outcomes(filled("x", ""), {"x": ["p", None]})
    assert (passed, observed.startswith("1 of 2 other")) == (False, True)


def test_two_columns_together_are_unique() -> None:
    pair = unique("position", "part", why="")
    assert outcomes(pair, {"position": [0, 0], "part": [0, 1]})[0]
    passed, expected, _ = outcomes(pair, {"position": [0, 0], "part": [1, 1]})
    assert (passed, expected) == (False, "no two lines alike")


def test_a_missing_column_is_an_outcome_and_not_an_error() -> None:
    result = run_suite([filled("x", "why"), filled("y", "why")], pl.DataFrame({"y": ["p"]}))
    assert [(o.column, o.passed) for o in result.outcomes] == [("x", False)]
    assert "no such column" in result.failures[0]


def test_a_suite_of_nothing_passes() -> None:
    assert run_suite([], pl.DataFrame()).passed
    assert SuiteResult().as_dicts() == []


def test_an_empty_table_keeps_every_promise_about_its_rows() -> None:
    empty = pl.DataFrame(schema={"row_id": pl.String, "position": pl.Int64, "part": pl.Int64})
    assert run_suite([*checks.ONE_A_ROW, between("position", 0, None, "")], empty).passed


def test_outcomes_stand_in_the_order_of_the_suite() -> None:
    """Great Expectations groups its results by column."""
    suite = [filled("a", "1"), filled("b", "2"), unique("a", why="3"), unique("b", why="4"), filled("a", "5")]
    result = run_suite(suite, pl.DataFrame({"a": ["x", "y"], "b": ["x", "x"]}))
    assert [o.why for o in result.outcomes] == ["1", "2", "3", "4", "5"]
    assert [o.passed for o in result.outcomes] == [True, True, True, False, True]


def test_only_the_columns_that_are_named_are_read() -> None:
    def never(_: pl.Series) -> pl.Series:
        raise AssertionError("this column must not be computed")

    frame = pl.LazyFrame({"a": ["x"], "b": ["y"]}).with_columns(pl.col("b").map_batches(never, pl.String))
    assert run_suite([filled("a", "")], frame).passed


# ---- contract and statistics --------------------------------------------------------------------------------------


def test_facts_are_held_against_the_suite() -> None:
    suite = Suite(columns=(filled("x", ""),), facts=(zero("lost", "nothing is lost"),), statistics=(*checks.DRIFT,))
    contract, statistics = suite.run(pl.LazyFrame({"x": ["p"]}), {"lost": 0, "rows": 10, "rows before": 4})
    assert contract.passed
    assert statistics.failures == [
        "growth: expected 0.5 to 2, found 2.5 (half or double the rows of the last version is worth a look)"
    ]
    contract, _ = suite.run(pl.LazyFrame({"x": ["p"]}), {"lost": 3, "rows": 10})
    assert contract.failures == ["lost: expected 0, found 3 (nothing is lost)"]


def test_a_statistic_without_its_fact_is_not_told() -> None:
    suite = Suite(statistics=(between("drift", 0, 0.2, ""), *checks.DRIFT))
    _, statistics = suite.run(pl.LazyFrame({"x": [1]}), {"rows": 5, "rows before": None, "drift": None})
    assert statistics.outcomes == []


def test_a_fact_that_the_contract_names_cannot_be_left_out() -> None:
    contract, _ = Suite(facts=(zero("lost", ""),)).run(pl.LazyFrame({"x": [1]}), {"rows": 1})
    assert not contract.passed


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"row_id": [A, A]}, "row_id"),
        ({"row_id": [A, "short"]}, "row_id"),
        ({"status": ["ok", None]}, "status"),
    ],
)
def test_a_broken_score_table_is_noticed(change: dict[str, list[object]], column: str) -> None:
    good = {"row_id": [A, B], "value": [1.0, None], "status": ["ok", "too_short"]}
    facts = {"rows missing": 0, "values without ok": 0, "values not finite": 0, "rows": 2}
    assert checks.SCORED.run(pl.LazyFrame(good), facts)[0].passed
    contract, _ = checks.SCORED.run(pl.LazyFrame({**good, **change}), facts)
    assert [o.column for o in contract.outcomes if not o.passed] == [column]


@pytest.mark.parametrize("key", [("scored", "mtld"), ("selected", "x"), ("raw", "instructions"), ("evidence", "y")])
def test_every_stage_has_a_suite(key: tuple[str, str]) -> None:
    assert checks.suite_of(key).columns


def test_an_asset_of_its_own_kind_has_its_own_suite() -> None:
    assert checks.suite_of(("filtered", "duplicates")) is checks.PAIRS
    assert checks.suite_of(("filtered", "instructions")) is checks.FILTERED
    assert checks.suite_of(("elsewhere", "x")) == Suite()


# ---- what the UI shows ----------------------------------------------------------------------------------------------


def test_the_table_of_a_check_begins_with_what_failed() -> None:
    result = run_suite([filled("a", "it must be there"), unique("b", why="once")], pl.DataFrame({"a": [1], "b": [2]}))
    broken = SuiteResult([*result.outcomes, *run_suite([zero("n", "none lost")], pl.DataFrame({"n": [3]})).outcomes])
    check = broken.check(dg.AssetKey(["raw", "x"]), "contract", blocking=True)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.description == "n: expected 0, found 3 (none lost)"
    assert (check.metadata["failed"].value, check.metadata["held"].value) == (1, 2)
    first, *rest = check.metadata["expectations"].records
    assert first.data == {"holds": "✗ NO", "column": "n", "expected": "0", "found": "3", "why": "none lost"}
    assert [record.data["holds"] for record in rest] == ["✓ yes", "✓ yes"]


def test_statistics_only_warn() -> None:
    result = run_suite([zero("n", "")], pl.DataFrame({"n": [3]}))
    assert result.check(dg.AssetKey("x"), "statistics", blocking=False).severity == dg.AssetCheckSeverity.WARN


def test_a_suite_without_outcomes_can_be_shown() -> None:
    check = SuiteResult().check(dg.AssetKey("x"), "statistics", blocking=False)
    assert check.passed
    assert "expectations" not in check.metadata


def test_a_verdict_survives_being_stored() -> None:
    result = run_suite([zero("n", "why"), filled("n", "")], pl.DataFrame({"n": [math.pi]}))
    assert from_dicts(result.as_dicts()) == result
