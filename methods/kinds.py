"""The three kinds of method and what they are handed: plain frozen records, no logic of their own.

Here belongs the shape that every method of the catalogue has (`Indicator`, `Measure`, `Selector`) and the views of
the data that they read (`Pool`, `Subset`, `Candidates`). What a method computes stands in its own room
(`quality`, `diversity`, `importance`, `selection`); the list of all of them stands in `catalog.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

Axis = Literal["quality", "diversity", "importance"]
Direction = Literal["higher", "lower", "band"]
Cost = Literal["cpu", "gpu", "llm"]
Scope = Literal["row", "pool"]

OK = "ok"
"""The status of a value that could be computed. Every other status says in one word why there is none."""


@dataclass(frozen=True)
class Method:
    """What every method says of itself, whatever its kind."""

    id: str
    """The specification's id, e.g. ``mtld``."""
    title: str
    """A few words for a person: ``Measure of textual lexical diversity``."""
    axis: Axis
    family: str
    """The survey's chapter within the axis: ``handcrafted``, ``model``, ``judge``, ``human``, ``coreset``, ..."""
    section: str
    """The survey's section, e.g. ``4.1``."""
    equation: str
    """The equation in plain text or LaTeX without dollar signs."""
    paper: str
    """Authors, year, arXiv id."""
    meaning: str
    """What a high (or low) value tells a user who does not know the paper: one or two sentences."""
    needs: tuple[str, ...] = ()
    """What it reads. Indicators name assets (``evidence/text_counts``); measures and selectors name the fields
    of the view that they are handed (``vectors``, ``score``)."""
    cost: Cost = "cpu"
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameter names and defaults; these are the keyword arguments of the function."""
    version: str = "1"
    """Raised when the numbers change, so that stored values are not taken for new ones."""


@dataclass(frozen=True)
class Indicator(Method):
    """A number for a row: ``value`` (Float64, null where it has no meaning) and ``status``.

    ``scope="row"``: ``compute(block, **params)`` gets a `pl.DataFrame` of any number of rows that has ``row_id`` and
    the columns of the evidence it needs, and returns a frame of the same height and order with ``value`` and
    ``status``.  ``scope="pool"``: ``compute(pool, **params)`` gets a `Pool` and returns the same for all its rows.
    """

    direction: Direction = "higher"
    """Which end a selector wants: ``higher``, ``lower``, or ``band`` (no end by itself)."""
    scope: Scope = "row"
    compute: Callable[..., pl.DataFrame] = field(kw_only=True)


@dataclass(frozen=True)
class Measure(Method):
    """A number for a set of rows: ``compute(subset, **params) -> float | None`` with a `Subset`."""

    direction: Direction = "higher"
    compute: Callable[..., float | None] = field(kw_only=True)
    terms: Callable[..., Mapping[str, float | None]] | None = None
    """Where the number is put together from several: all of them by name, the number itself as ``combined``."""


@dataclass(frozen=True)
class Selector(Method):
    """A way to choose: ``select(candidates, budget, seed, **params) -> Chosen``."""

    select: Callable[..., Chosen] = field(kw_only=True)


Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts to unit vectors, (n, d) float32; a row of NaN where there is no text. What was encoded once is kept."""


@dataclass(frozen=True)
class Pool:
    """All the rows that a pool-relative indicator sees, in the pool's order. A field is None unless it was asked for
    (see `Method.needs`)."""

    row_ids: pl.Series
    vectors: np.ndarray | None = None
    """(n, d) float32, rows of unit length; a row of NaN where there is no embedding (`embedded/minilm`)."""
    neighbours: pl.DataFrame | None = None
    """``row_id``, ``ids`` (list of row ids, nearest first), ``similarity`` (list of cosines); ties by row order."""
    counts: pl.LazyFrame | None = None
    """`evidence/text_counts` of these rows, in the pool's order: to be read in blocks."""
    features: pl.DataFrame | None = None
    """`evidence/readability_features` of these rows, in the pool's order."""
    texts: pl.DataFrame | None = None
    """``source``, ``prompt``, ``response`` of these rows, in the pool's order (`filtered/instructions`)."""
    clusters: np.ndarray | None = None
    """(n,) int64 label of each row's cluster (`clustered/kmeans`); -1 for none."""
    encode: Encode | None = None
    tables: Mapping[str, pl.LazyFrame] = field(default_factory=dict)
    """Tables over the whole pool, by their assets' names (`evidence/token_statistics_experienced`): the lines of these
    rows, in the pool's order, null where a row has none. To be read in blocks."""


@dataclass(frozen=True)
class Subset:
    """A set of rows to be measured, every field in the order of ``row_ids``. A field is None when the caller did not
    ask for it (see `Method.needs`)."""

    row_ids: pl.Series
    vectors: np.ndarray | None = None
    """(n, d) float32, rows of unit length; a row of NaN where there is no embedding."""
    clusters: np.ndarray | None = None
    """(n,) int64 label of each row's cluster; -1 for none."""
    words: pl.Series | None = None
    """List(UInt64): each row's response words as hashes, in order (`evidence/text_counts`)."""
    texts: pl.DataFrame | None = None
    """``source``, ``prompt``, ``response``."""
    tags: pl.Series | None = None
    """List(String): the tags that the source gave a row; null where it gives none."""
    known_tags: frozenset[str] | None = None
    """All tags of the pool that the set was chosen from."""
    quality: np.ndarray | None = None
    """(n,) float64, never negative, higher is better; NaN where a row has no score."""
    encode: Encode | None = None


@dataclass(frozen=True)
class Target:
    """What one wants to be good at: rows like these are looked for, and these must not be chosen themselves."""

    texts: pl.DataFrame
    """``prompt``, ``response``; empty text where there is none."""
    vectors: np.ndarray | None = None
    """(m, d) float32, rows of unit length, finite."""


@dataclass(frozen=True)
class Candidates:
    """The rows that a selector may choose from, in the pool's order; ties go to the lowest index."""

    row_ids: pl.Series
    score: np.ndarray | None = None
    """(n,) float64, higher = take first; never NaN (rows without a score were dropped with a reason before)."""
    vectors: np.ndarray | None = None
    """(n, d) float32, rows of unit length, finite."""
    clusters: np.ndarray | None = None
    """(n,) int64."""
    groups: pl.Series | None = None
    """String: what a quota is kept by, such as the row's source."""
    texts: pl.DataFrame | None = None
    """``prompt``, ``response``."""
    tags: pl.Series | None = None
    """List(String): the tags that the source gave a row; null where it gives none."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """By name: what the recipe wants to be good at."""
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The recipe's indicators by name, (n,) float64, raw, NaN where a row has none."""

    def __len__(self) -> int:
        return len(self.row_ids)


@dataclass(frozen=True)
class Chosen:
    """What a selector chose, in the order of choice. All arrays have one entry a chosen row."""

    order: np.ndarray
    """int64 indices into the candidates."""
    gain: np.ndarray
    """float64: what each row added when it was taken; the method's docstring says in which unit."""
    reason: list[str]
    """Why each row was taken, for a person."""
    nearest: np.ndarray | None = None
    """int64: index of the nearest row chosen before (-1 for none)."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Candidates that were looked at and refused, and why."""
    weight: np.ndarray | None = None
    """float64, finite and above 0: what a chosen row counts for in training, as a factor of its loss or as how often it
    is to be seen (the method's docstring says which). None: every row counts for 1."""


def statused(value: Any, status: Any) -> pl.DataFrame:
    """The frame that every indicator returns: ``value`` is null wherever ``status`` is not ``ok``, and never NaN."""
    frame = pl.DataFrame({"value": value, "status": status}, schema={"value": pl.Float64, "status": pl.String})
    finite = pl.col("value").is_finite().fill_null(False)
    return frame.select(
        value=pl.when(finite & (pl.col("status") == OK)).then("value"),
        status=pl.when((pl.col("status") == OK) & ~finite).then(pl.lit("not_finite")).otherwise("status"),
    )
