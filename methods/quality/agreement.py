"""Whether raters agree: Cohen's and Fleiss' kappa, Krippendorff's alpha, with intervals.

Here belongs agreement between people who label the same things; the same numbers serve any raters, judges among them.
Everything that cannot be told is undefined and says why: agreement about a single value is no agreement, and is neither
1 nor NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import polars as pl

from methods.kinds import OK

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")
Weights = Literal["linear", "quadratic"]
ALARM = 0.667
"""Krippendorff's least alpha for tentative conclusions."""
NO_OVERLAP, ONE_VALUE, TOO_FEW_RATERS = "no_overlap", "one_value", "too_few_raters"
REASON = {
    NO_OVERLAP: "no row was rated by two raters",
    ONE_VALUE: "all ratings are the same, so that agreement cannot be told from chance",
    TOO_FEW_RATERS: "there are fewer than two raters",
}


@dataclass(frozen=True)
class Agreement:
    """How far raters agree, or why that cannot be said."""

    value: float | None
    status: str = OK
    low: float | None = None
    high: float | None = None
    units: int = 0
    """Rows that at least two raters rated: the others say nothing of agreement."""

    @property
    def alarm(self) -> bool:
        """The raters agree too little for their labels to be relied on. What is undefined raises none."""
        return self.value is not None and self.value < ALARM

    @property
    def reason(self) -> str:
        """Why there is no value, in words; empty if there is one."""
        return REASON.get(self.status, "")


def matrix(labels: pl.DataFrame) -> tuple[np.ndarray, list[str], list[str]]:
    """(raters, rows) with NaN where a rater did not rate a row, and both their names in order.

    ``labels`` has ``row_id, rater, value``: one dimension, one label for each rater and row.
    """
    raters, rows = labels["rater"].unique().sort().to_list(), labels["row_id"].unique().sort().to_list()
    ratings = np.full((len(raters), len(rows)), np.nan)
    line, column = {name: i for i, name in enumerate(raters)}, {name: i for i, name in enumerate(rows)}
    for rater, row, value in labels.select("rater", "row_id", "value").iter_rows():
        ratings[line[rater], column[row]] = value
    return ratings, raters, rows


# ---- two raters ----------------------------------------------------------------------------------------------------


def _tally(a: np.ndarray, b: np.ndarray, categories: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The rows that both rated, as indices of categories."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    known = np.unique(np.concatenate([a, b])) if categories is None else np.unique(categories)
    if len(a) and not np.isin(np.concatenate([a, b]), known).all():
        raise ValueError("a rating is none of the categories")
    return np.searchsorted(known, a), np.searchsorted(known, b)


def cohen_kappa(
    a: np.ndarray, b: np.ndarray, weights: Weights | None = None, categories: np.ndarray | None = None
) -> Agreement:
    """How far two raters agree beyond what their habits alone would give.

    Equation: 1 - sum_ij w_ij O_ij / sum_ij w_ij E_ij, O the shares of pairs of ratings, E the products of the raters'
    own shares; w_ij is 1 for i != j, or |i - j|, or (i - j)^2 in steps of ``categories`` (all values that occur, in
    order, if not given).

    Undefined: `no_overlap` where no row was rated by both; `one_value` where both always say the same one thing.

    Source: Cohen 1960, "A coefficient of agreement for nominal scales"; Cohen 1968 for the weights.
    """
    i, j = _tally(np.asarray(a, float), np.asarray(b, float), categories)
    if len(i) == 0:
        return Agreement(None, NO_OVERLAP)
    size = int(max(i.max(), j.max())) + 1
    seen = np.zeros((size, size))
    np.add.at(seen, (i, j), 1)
    chance = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / len(i)
    steps = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    weight = {None: (steps > 0).astype(float), "linear": steps.astype(float), "quadratic": steps.astype(float) ** 2}
    expected = float((weight[weights] * chance).sum())
    if expected == 0:
        return Agreement(None, ONE_VALUE, units=len(i))
    return Agreement(1 - float((weight[weights] * seen).sum()) / expected, units=len(i))


# ---- any number of raters ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """How often each value was given to each row that at least two raters rated; who gave it is of no account."""

    counts: np.ndarray
    """(rows, values) int64."""
    values: np.ndarray
    """(values,) float64, ascending."""


def counted(ratings: np.ndarray) -> Counts:
    """The counts of a (raters, rows) matrix with NaN for what is missing."""
    ratings = np.asarray(ratings, float)
    values = np.unique(ratings[np.isfinite(ratings)])
    counts = (ratings[:, :, None] == values).sum(axis=0)
    return Counts(counts[counts.sum(axis=1) > 1], values)


def _distance(level: str, values: np.ndarray, n: np.ndarray) -> np.ndarray:
    if level == "nominal":
        return (values[:, None] != values).astype(float)
    if level == "interval":
        return (values[:, None] - values) ** 2
    # Ordinal: how many ratings lie between two values, half of those at either end included.
    middle = np.cumsum(n) - n / 2
    return (middle[:, None] - middle) ** 2


def fleiss_kappa(ratings: np.ndarray | Counts) -> Agreement:
    """How far several raters agree on categories beyond chance.

    Equation: (P - P_e) / (1 - P_e), P the mean over rows of the share of pairs of raters that agree, P_e = sum_j p_j^2,
    p_j the share of all ratings that are j. ``ratings`` is (raters, rows), NaN where missing,
    or the counts of such a matrix.

    Undefined: `no_overlap` where no row has two ratings; `one_value` where all ratings are the same.

    Source: Fleiss 1971, "Measuring nominal scale agreement among many raters".

    Departures: rows may have different numbers of ratings; each row's share is of its own pairs. Rows with fewer than
    two are left out.
    """
    counts = ratings if isinstance(ratings, Counts) else counted(ratings)
    n = counts.counts.sum(axis=1)
    if len(n) == 0:
        return Agreement(None, NO_OVERLAP)
    shares = counts.counts.sum(axis=0) / n.sum()
    chance = float((shares**2).sum())
    if np.count_nonzero(shares) < 2:
        return Agreement(None, ONE_VALUE, units=len(n))
    agree = (counts.counts * (counts.counts - 1)).sum(axis=1) / (n * (n - 1))
    return Agreement((float(agree.mean()) - chance) / (1 - chance), units=len(n))


def krippendorff_alpha(ratings: np.ndarray | Counts, level: Level = "ordinal") -> Agreement:
    """How far several raters agree, given how far apart their values are; ratings may be missing.

    Equation: 1 - D_o / D_e, D_o the mean distance of the values given to one row, D_e that of all values given. The
    distance of two values is 1 for different ones (`nominal`), the square of the number of ratings between them
    (`ordinal`), or the square of their difference (`interval`). ``ratings`` is (raters, rows), NaN where missing.

    Undefined: `no_overlap` where no row has two ratings; `one_value` where all such ratings are the same.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    counts = ratings if isinstance(ratings, Counts) else counted(ratings)
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    c = counts.counts.astype(float)
    if len(c) == 0:
        return Agreement(None, NO_OVERLAP)
    each = c / (c.sum(axis=1, keepdims=True) - 1)
    together = c.T @ each - np.diag(each.sum(axis=0))
    n = together.sum(axis=1)
    if np.count_nonzero(n) < 2:
        return Agreement(None, ONE_VALUE, units=len(c))
    far = _distance(level, counts.values, n)
    expected = float((far * (np.outer(n, n) - np.diag(n))).sum()) / (n.sum() - 1)
    return Agreement(1 - float((far * together).sum()) / float(expected), units=len(c))


STATISTICS: Mapping[str, Callable[[Counts], Agreement]] = {
    "fleiss_kappa": fleiss_kappa,
    "krippendorff_nominal": partial(krippendorff_alpha, level="nominal"),
    "krippendorff_ordinal": partial(krippendorff_alpha, level="ordinal"),
    "krippendorff_interval": partial(krippendorff_alpha, level="interval"),
}
DEFINED = 0.9
"""Where fewer of the resamples than this have a value there is no interval: what is left would be a choice of them."""


def with_interval(
    ratings: np.ndarray, statistic: str, resamples: int = 500, level: float = 0.95, seed: int = 0
) -> Agreement:
    """One of `STATISTICS` with its percentile interval: what it might have been on other rows rated by these raters.

    Rows with two ratings or more are drawn with replacement. There is no interval where there are fewer than two such
    rows, or where too many draws have no value.
    """
    counts, tell = counted(ratings), STATISTICS[statistic]
    found = tell(counts)
    if found.value is None or found.units < 2:
        return found
    rng = np.random.default_rng(seed)
    rows = len(counts.counts)
    drawn = (tell(Counts(counts.counts[rng.integers(0, rows, rows)], counts.values)) for _ in range(resamples))
    values = [one.value for one in drawn if one.value is not None]
    if len(values) < DEFINED * resamples:
        return found
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Agreement(found.value, found.status, float(low), float(high), found.units)


# ---- a table of all ------------------------------------------------------------------------------------------------

AGREEMENT_SCHEMA = pl.Schema(
    {
        "dimension": pl.String(),
        "measure": pl.String(),
        "raters": pl.String(),  # all, or the two
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "status": pl.String(),
        "n_rows": pl.Int64(),  # with two ratings or more
        "n_labels": pl.Int64(),
        "alarm": pl.Boolean(),
    }
)
ALL = "all"


def agreement_table(
    labels: pl.DataFrame, likert: frozenset[str], resamples: int = 500, seed: int = 0, most_pairs: int = 45
) -> pl.DataFrame:
    """`AGREEMENT_SCHEMA`: for each dimension Fleiss' kappa, Krippendorff's alphas, Cohen's kappa of each two raters.

    ``labels`` has ``row_id, rater, dimension, value``. Dimensions in ``likert`` are ordered: they get all alphas and
    weighted kappas, and the ordinal alpha raises the alarm; of the others the nominal alpha does. Beyond
    ``most_pairs`` pairs of raters are left out.
    """
    lines: list[tuple[object, ...]] = []
    for (name,), part in labels.sort("dimension").group_by("dimension", maintain_order=True):
        ratings, raters, _ = matrix(part)
        dimension, ordered, n = str(name), str(name) in likert, part.height
        sounding = "krippendorff_ordinal" if ordered else "krippendorff_nominal"
        for measure in STATISTICS if ordered else ("fleiss_kappa", "krippendorff_nominal"):
            alone = len(raters) < 2
            found = Agreement(None, TOO_FEW_RATERS) if alone else with_interval(ratings, measure, resamples, seed=seed)
            lines.append(_line(dimension, measure, ALL, found, n, found.alarm and measure == sounding))
        pairs = [(a, b) for a in range(len(raters)) for b in range(a + 1, len(raters))]
        steps = np.unique(ratings[np.isfinite(ratings)])
        for a, b in pairs[:most_pairs]:
            both = int(np.isfinite(ratings[[a, b]]).sum())
            who = f"{raters[a]}, {raters[b]}"
            for weights in (None, "linear", "quadratic") if ordered else (None,):
                found = cohen_kappa(ratings[a], ratings[b], weights, steps)  # type: ignore[arg-type]
                lines.append(
                    _line(dimension, f"cohen_kappa{f'_{weights}' if weights else ''}", who, found, both, False)
                )
    return pl.DataFrame(lines, schema=AGREEMENT_SCHEMA, orient="row")


def _line(dimension: str, measure: str, who: str, found: Agreement, n: int, alarm: bool) -> tuple[object, ...]:
    return dimension, measure, who, found.value, found.low, found.high, found.status, found.units, n, alarm
