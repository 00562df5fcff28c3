"""Running a suite of expectations over a table: Great Expectations in, one readable table out.

Here belongs the bridge to Great Expectations and the shape of a suite. Which stage expects what stands in `checks.py`.
Great Expectations reads pandas only and takes seconds to import, so it is imported when the first suite runs and is
handed nothing but the columns that a suite names.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg
import polars as pl

_names = itertools.count()


@dataclass(frozen=True)
class Expectation:
    """One expectation: the class in `great_expectations.expectations`, its arguments, and why it is held."""

    kind: str
    kwargs: Mapping[str, Any]
    why: str


@dataclass(frozen=True)
class Outcome:
    """How one expectation fared, in words for a table."""

    expectation: str
    column: str
    expected: str
    observed: str
    passed: bool
    why: str


@dataclass(frozen=True)
class SuiteResult:
    """All outcomes of a suite; stored with the table, so that an unchanged table keeps its verdict."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every expectation held."""
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """One sentence for each expectation that did not hold."""
        return [
            f"{o.column}: expected {o.expected}, found {o.observed} ({o.why})" for o in self.outcomes if not o.passed
        ]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Plain data for the manifest."""
        return [asdict(outcome) for outcome in self.outcomes]

    def check(self, key: dg.AssetKey, name: str, blocking: bool) -> dg.AssetCheckResult:
        """The suite as an asset check, one row of its table an expectation."""
        records = [
            dg.TableRecord(
                {
                    "holds": "✓ yes" if o.passed else "✗ NO",
                    "column": o.column,
                    "expected": o.expected,
                    "found": o.observed,
                    "why": o.why,
                }
            )
            for o in sorted(self.outcomes, key=lambda o: o.passed)
        ]
        metadata: dict[str, Any] = {"failed": len(self.failures), "held": len(self.outcomes) - len(self.failures)}
        if records:
            metadata["expectations"] = dg.MetadataValue.table(records)
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=self.passed,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            description="; ".join(self.failures) or f"all hold ({len(self.outcomes)})",
            metadata=metadata,
        )


def from_dicts(outcomes: Sequence[Mapping[str, Any]]) -> SuiteResult:
    """A suite's result as stored in a manifest."""
    return SuiteResult([Outcome(**outcome) for outcome in outcomes])


def run_suite(expectations: Sequence[Expectation], frame: pl.DataFrame | pl.LazyFrame) -> SuiteResult:
    """Hold a table against a suite. Only the columns that the suite names are read."""
    if not expectations:
        return SuiteResult()
    wanted = sorted({name for e in expectations for name in _columns(e)})
    present = frame.lazy().collect_schema().names()
    missing = [name for name in wanted if name not in present]
    if missing:
        return SuiteResult(
            [
                Outcome("ExpectColumnToExist", name, "a column of this name", "no such column", False, "schema")
                for name in missing
            ]
        )
    table = frame.lazy().select(wanted or [present[0]]).collect()
    return SuiteResult(_validate(expectations, table))


def _validate(expectations: Sequence[Expectation], table: pl.DataFrame) -> list[Outcome]:
    import great_expectations as gx

    suite = gx.ExpectationSuite(
        name=f"suite-{next(_names)}",
        expectations=[getattr(gx.expectations, e.kind)(**e.kwargs) for e in expectations],
    )
    batch = _whole_tables().get_batch({"dataframe": table.to_pandas()})
    result = batch.validate(suite, result_format="BASIC")
    return [_outcome(e, r, table) for e, r in zip(expectations, _in_order(result.results, expectations), strict=True)]


def _in_order(results: Sequence[Any], expectations: Sequence[Expectation]) -> list[Any]:
    """Great Expectations groups its results by column; put them back in the suite's order."""

    def matches(result: Any, expectation: Expectation) -> bool:
        config = result.expectation_config
        same_kind = config.type == _snake(expectation.kind)
        return same_kind and all(config.kwargs.get(k) == v for k, v in expectation.kwargs.items())

    left = list(results)
    ordered = []
    for expectation in expectations:
        found = next(r for r in left if matches(r, expectation))
        left.remove(found)
        ordered.append(found)
    return ordered


def _outcome(expectation: Expectation, result: Any, table: pl.DataFrame) -> Outcome:
    numbers = result.result or {}
    columns = _columns(expectation)
    column = ", ".join(columns) or "table"
    if result.exception_info and result.exception_info.get("raised_exception"):
        observed = str(result.exception_info.get("exception_message"))[:200]
    elif "observed_value" in numbers:
        observed = str(numbers["observed_value"])[:200]
    elif table.height == 1 and len(columns) == 1:
        observed = _short(_number(table[columns[0]][0]))
    elif result.success:
        observed = "as expected"
    else:
        others = ", ".join(_short(_number(value)) for value in numbers.get("partial_unexpected_list", [])[:3])
        observed = f"{numbers.get('unexpected_count', '?')} of {table.height:,} other, e.g. {others}"[:200]
    return Outcome(expectation.kind, column, _words(expectation), observed, bool(result.success), expectation.why)


WORDS = {
    "ExpectColumnValuesToBeUnique": "no value twice",
    "ExpectCompoundColumnsToBeUnique": "no two lines alike",
    "ExpectColumnValuesToNotBeNull": "always there",
    "ExpectColumnValuesToMatchRegex": "like {regex}",
}
"""What the commonest expectations ask, for a person."""


def _words(expectation: Expectation) -> str:
    rest = {k: v for k, v in expectation.kwargs.items() if k not in {"column", "column_list"}}
    if set(rest) == {"min_value", "max_value"}:
        return _range(rest["min_value"], rest["max_value"])
    if expectation.kind in WORDS:
        return WORDS[expectation.kind].format(**{k: _short(v) for k, v in rest.items()})
    verb = (
        _snake(expectation.kind)
        .removeprefix("expect_")
        .replace("column_values_to_", "")
        .replace("column_", "")
        .replace("_", " ")
    )
    return verb + (" " + ", ".join(f"{k}={_short(v)}" for k, v in rest.items()) if rest else "")


def _range(low: float | None, high: float | None) -> str:
    if low == high:
        return f"{low:g}"
    return f"at most {high:g}" if low is None else f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def _number(value: Any) -> Any:
    if not isinstance(value, float) or value.is_integer():
        return value
    return "null" if value != value else float(f"{value:.4g}")


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _columns(expectation: Expectation) -> list[str]:
    if "column" in expectation.kwargs:
        return [expectation.kwargs["column"]]
    return list(expectation.kwargs.get("column_list", []))


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


@functools.cache
def _context() -> Any:
    import logging
    import os

    # Great Expectations asks a server of its maker's for permission to count its users; nothing leaves this machine.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


@functools.cache
def _whole_tables() -> Any:
    """Where every table goes through: a data source of its own for each would be registered and forgotten again."""
    source = _context().data_sources.add_pandas("tables")
    return source.add_dataframe_asset("table").add_batch_definition_whole_dataframe("all")
