"""What a report tells, as plain records that check themselves.

Here belongs the shape of everything that the HTML report shows (`ReportData` and its parts), and the checks that its
numbers fit together: a report that does not add up is refused before it is written. Where the numbers come from is the
business of the caller; how they look stands in `render`, `plots` and the folder `page`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

STEPS = ("in", "quarantined", "filtered", "duplicate", "gated", "not_chosen", "selected")
"""The steps of the funnel in their order: what came in, the ways to leave, and what is left."""

SELECTED_COLUMNS = ("rank", "source", "instruction", "response", "score", "gain", "reason")
MIX_SCHEMA: dict[str, type[pl.DataType]] = {"by": pl.String, "value": pl.String, "pool": pl.Int64, "selected": pl.Int64}
FUNNEL_SCHEMA = {"step": pl.String, "label": pl.String, "rows": pl.Int64}
SOURCES_SCHEMA = {
    "source": pl.String,
    "file": pl.String,
    "records": pl.Int64,
    "rows": pl.Int64,
    "quarantined": pl.Int64,
    "kept": pl.Int64,
}
FILTERS_SCHEMA = {"source": pl.String, "rule": pl.String, "count": pl.Int64, "example": pl.String}
QUARANTINED_SCHEMA = {"file": pl.String, "line": pl.Int64, "reason": pl.String}
DUPLICATES_SCHEMA = {"row": pl.String, "twin": pl.String, "similarity": pl.Float64}
MAP_COLUMNS = ("x", "y", "cluster", "chosen", "excerpt", "source", "decision", "reason")

Triple = tuple[float | None, float | None, float | None]
Values = Sequence[float | None] | pl.Series


class ReportError(ValueError):
    """The numbers handed to the report contradict each other, or a column is missing."""


def _need(frame: pl.DataFrame, columns: Sequence[str], where: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ReportError(f"{where} lacks the column(s) {', '.join(missing)}; it has {', '.join(frame.columns)}")


def _total(frame: pl.DataFrame, column: str) -> int:
    return int(frame[column].sum() or 0)


@dataclass(frozen=True)
class PlantedKind:
    """What became of the rows of one planted kind. Every planted row was dropped, not chosen, or escaped."""

    kind: str
    planted: int
    dropped_by: Mapping[str, int]
    """Rule (or ``quarantine``, ``duplicate``, a gate) -> how many of them it took."""
    not_chosen: int
    escaped: int
    """How many were selected all the same."""

    def __post_init__(self) -> None:
        """Refuses counts that do not add up."""
        told = sum(self.dropped_by.values()) + self.not_chosen + self.escaped
        if told != self.planted:
            raise ReportError(
                f"planted kind {self.kind!r}: {self.planted} planted, but dropped + not chosen + escaped is {told}"
            )


@dataclass(frozen=True)
class RecipeResult:
    """One recipe and what it chose."""

    name: str
    title: str
    description: str
    rule: str
    """The rule in words."""
    budget: str
    """As it was asked for: ``60 rows``, ``10 %``."""
    selected: pl.DataFrame
    """``rank, source, instruction, response, score, gain, reason`` (``row_id``, ``weight`` too if known), best first.
    It may be only the head of a long selection; ``decisions["selected"]`` tells the whole number."""
    decisions: Mapping[str, int]
    """Decision -> rows of the pool: ``selected`` and why the others were not."""
    measures: Mapping[str, Triple] = field(default_factory=dict)
    """Name -> value for the subset, for the pool, and for a random subset of the same size."""
    directions: Mapping[str, str] = field(default_factory=dict)
    """Name of a measure or indicator -> ``higher``, ``lower`` or ``band``."""
    mix: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=MIX_SCHEMA))
    """``by`` (``source``, ``cluster``, ...), ``value``, and counts in ``pool`` and ``selected``."""
    distributions: Mapping[str, tuple[Values, Values]] = field(default_factory=dict)
    """Indicator -> values of the selected rows and of the pool; nulls are counted apart."""

    def __post_init__(self) -> None:
        """Refuses a selection that contradicts its own count."""
        where = f"recipe {self.name!r}"
        _need(self.selected, SELECTED_COLUMNS, f"{where}: selected")
        _need(self.mix, tuple(MIX_SCHEMA), f"{where}: mix")
        if "selected" not in self.decisions:
            raise ReportError(f"{where}: decisions has no count for 'selected'")
        if self.selected.height > self.decisions["selected"]:
            raise ReportError(
                f"{where}: {self.selected.height} selected rows, but decisions says {self.decisions['selected']}"
            )

    @property
    def n_selected(self) -> int:
        """How many rows the recipe chose."""
        return self.decisions["selected"]

    @property
    def n_pool(self) -> int:
        """How many rows the recipe decided on."""
        return sum(self.decisions.values())


@dataclass(frozen=True)
class CorpusMap:
    """The rows that a recipe chose from, as points of the plane."""

    points: pl.DataFrame
    """`MAP_COLUMNS`, a line for each row that is drawn: its place, the name of its cluster (null for none), whether it
    was selected, the beginning of its instruction, its source, and what was decided on it, and why."""
    layout: Literal["pca", "tsne"]
    rows: int
    """How many rows have a place on the map, drawn or not."""
    selected: int
    """How many of them were selected."""
    unplaced: int = 0
    """How many rows have no embedding, and so no place."""
    largest: Sequence[str] = ()
    """The names of the clusters with most rows, largest first."""
    explained: float | None = None
    """For ``pca``: the share of the embeddings' variance that the map's two axes show."""

    def __post_init__(self) -> None:
        """Refuses more points than there are rows."""
        _need(self.points, MAP_COLUMNS, "corpus_map")
        drawn, lit = self.points.height, int(self.points["chosen"].sum())
        if lit > self.selected or drawn - lit > self.rows - self.selected:
            raise ReportError(
                f"corpus_map: {drawn} points, {lit} of them selected, but {self.rows} rows, {self.selected} selected"
            )

    @property
    def drawn(self) -> str:
        """In words, how many rows are drawn of how many."""
        drawn, lit = self.points.height, int(self.points["chosen"].sum())
        if drawn == self.rows:
            said = f"All {drawn:,} rows are drawn, {lit:,} of them selected."
        else:
            of = f"all {lit:,}" if lit == self.selected else f"{lit:,} of the {self.selected:,}"
            said = (
                f"{drawn:,} of {self.rows:,} rows are drawn: {of} selected rows, and {drawn - lit:,} of the "
                f"{self.rows - self.selected:,} others, each cluster in its share."
            )
        rest = "row has" if self.unplaced == 1 else "rows have"
        return f"{said} {self.unplaced:,} {rest} no embedding, and so no place here." if self.unplaced else said


def _empty(schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict(schema))


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows. Frames may have more columns than named here: tables show them too."""

    title: str
    made_at: str
    funnel: pl.DataFrame
    """``step`` (one of `STEPS`; several lines may share one, e.g. a line for each rule), ``label``, ``rows``.
    The rows of ``in`` must equal those of all other steps together."""
    sources: pl.DataFrame = field(default_factory=lambda: _empty(SOURCES_SCHEMA))
    filters: pl.DataFrame = field(default_factory=lambda: _empty(FILTERS_SCHEMA))
    """A row that broke several rules may be counted at each of them."""
    quarantined: pl.DataFrame = field(default_factory=lambda: _empty(QUARANTINED_SCHEMA))
    duplicates: pl.DataFrame = field(default_factory=lambda: _empty(DUPLICATES_SCHEMA))
    recipes: Sequence[RecipeResult] = ()
    corpus_map: CorpusMap | None = None
    planted: Sequence[PlantedKind] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    """The command line that made this, if there was one."""

    def __post_init__(self) -> None:
        """Refuses missing columns and numbers that do not add up."""
        _need(self.funnel, tuple(FUNNEL_SCHEMA), "funnel")
        _need(self.sources, tuple(SOURCES_SCHEMA), "sources")
        _need(self.filters, tuple(FILTERS_SCHEMA), "filters")
        _need(self.quarantined, tuple(QUARANTINED_SCHEMA), "quarantined")
        _need(self.duplicates, tuple(DUPLICATES_SCHEMA), "duplicates")
        self._check_funnel()
        self._check_sources()

    def rows_at(self, *steps: str) -> int:
        """How many rows the funnel counts at these steps."""
        return _total(self.funnel.filter(pl.col("step").is_in(list(steps))), "rows")

    def _check_funnel(self) -> None:
        unknown = sorted(set(self.funnel["step"]) - set(STEPS))
        if unknown:
            raise ReportError(f"funnel: unknown step(s) {', '.join(unknown)}; known are {', '.join(STEPS)}")
        if self.funnel.filter((pl.col("rows") < 0) | pl.col("rows").is_null()).height:
            raise ReportError("funnel: a count is negative or missing")
        came, told = self.rows_at("in"), self.rows_at(*STEPS[1:])
        if came != told:
            raise ReportError(
                f"the funnel does not add up: {came} came in, but the other steps count {told} "
                f"({abs(came - told)} {'unexplained' if came > told else 'too many'})"
            )

    def _check_sources(self) -> None:
        if self.sources.is_empty():
            return
        bad = self.sources.filter(pl.col("kept") > pl.col("rows"))
        if bad.height:
            raise ReportError(f"sources: {bad['source'][0]!r} keeps more rows than it has")
        read, bad_records = (_total(self.sources, "rows"), _total(self.sources, "quarantined"))
        came = self.rows_at("in")
        if read + bad_records != came:
            raise ReportError(
                f"sources and funnel disagree: {read} rows + {bad_records} quarantined, but {came} came in"
            )
        if bad_records != self.rows_at("quarantined"):
            raise ReportError(
                f"sources and funnel disagree: {bad_records} quarantined in the sources, "
                f"{self.rows_at('quarantined')} in the funnel"
            )
