"""How sure the measure of a set is: the rows that it really used, and an interval by resampling them.

Here belong the two ways of resampling and which measure takes which. The measures themselves are in
`methods.diversity.measures`, `word_measures` and `vendi`. An interval speaks of the rows that the set might have had
instead, drawn from wherever it came from; it says nothing of another encoder or clustering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from methods.diversity.geometry import has_vector
from methods.diversity.word_measures import bleu_rows
from methods.kinds import Measure, Subset

BOOTSTRAPPED = frozenset(
    {"d_radius", "d_inertia", "d_entropy", "d_renyi", "d_simpson", "tag_entropy", "mean_response_length"}
)
"""Measures of means and shares: a row drawn twice weighs twice and does no harm."""

SUBSAMPLED = frozenset(
    {
        "d_knn",  # the nearest neighbour of a copy is the copy, at distance 0
        "vendi",  # a copy brings no new direction: the score of a bootstrap sample is that of some 0.63 N rows
        "quality_weighted_vendi",  # as vendi
        "vocab_richness",  # a copy brings no new word
        "corpus_ttr",  # ... and lengthens the text
        "corpus_distinct",  # a copy repeats every n-gram
        "self_bleu",  # a copy has BLEU 1 with its original
        "d_icd",  # copies make rare words look common inside a cluster
        "tag_count",  # a copy brings no new tag
        "tag_coverage",  # as tag_count
    }
)
"""Measures that take a copy for likeness between rows: resampled without replacement. So is any measure that stands
in neither set, because that is never wrong."""

BOOTSTRAP = "basic bootstrap"
JACKKNIFE = "delete-half jackknife"
UNDEFINED = "undefined"

_OWN_ROWS: Mapping[str, Callable[..., np.ndarray]] = {"self_bleu": bleu_rows}
"""Measures that draw some of the rows they could use, by their parameters ``rows`` and ``seed``."""


@dataclass(frozen=True)
class Interval:
    """Where the measure of the population plausibly lies; both ends are None where the measure has no meaning."""

    low: float | None
    high: float | None
    method: str
    """`BOOTSTRAP`, `JACKKNIFE` or `UNDEFINED`."""


def take(subset: Subset, indices: np.ndarray) -> Subset:
    """These rows of the set, in this order; a row may be named more than once."""
    rows = np.asarray(indices, dtype=np.int64)
    arrays = {name: getattr(subset, name) for name in ("vectors", "clusters", "quality")}
    columns = {name: getattr(subset, name) for name in ("words", "tags")}
    return replace(
        subset,
        row_ids=subset.row_ids.gather(rows),
        texts=None if subset.texts is None else subset.texts[rows],
        **{name: None if field is None else field[rows] for name, field in arrays.items()},
        **{name: None if field is None else field.gather(rows) for name, field in columns.items()},
    )


def used_rows(measure: Measure, subset: Subset, params: Mapping[str, Any] | None = None) -> np.ndarray:
    """The rows that have all that the measure reads (and that it draws, where it reads a sample), ascending."""
    if measure.id in _OWN_ROWS:
        given = {**measure.params, **(params or {})}
        return _OWN_ROWS[measure.id](subset, rows=given["rows"], seed=given["seed"])
    usable = np.ones(len(subset.row_ids), dtype=bool)
    for need in measure.needs:
        field = getattr(subset, need, None)
        if field is None:
            continue
        if need == "vectors":
            usable &= has_vector(field)
        elif need == "clusters":
            usable &= field >= 0
        elif need == "quality":
            usable &= ~np.isnan(field)
        elif isinstance(field, pl.Series):
            usable &= field.is_not_null().to_numpy()
    return np.flatnonzero(usable)


def n_of(measure: Measure, subset: Subset, params: Mapping[str, Any] | None = None) -> int:
    """How many rows the measure really used: the N to be reported beside its value."""
    return len(used_rows(measure, subset, params))


def interval(
    measure: Measure,
    subset: Subset,
    params: Mapping[str, Any] | None = None,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
    most: int = 4000,
) -> Interval:
    """An interval for a measure of a set, from the rows of the set alone.

    Measures in `BOOTSTRAPPED`: N rows are drawn with replacement, ``draws`` times. How the values lie about that of the
    set is taken for how it lies about the population's, so the interval is 2 value - quantile((1 + level)/2) to 2 value
    - quantile((1 - level)/2) (the basic bootstrap, Davison and Hinkley 1997). The quantiles themselves (the percentile
    bootstrap) would be wrong here: entropy and its kin are biased by about clusters/N, a draw of the set bears that
    bias a second time, and with a hundred clusters the quantiles lie wholly on the wrong side of the value. Where the
    bias is that strong the corrected interval lies wholly beside the value too; it is then stretched to hold it.

    All others: m = min(N // 2, ``most``) rows are drawn without replacement, ``draws`` times. For a mean, such a value
    has the variance S^2/m (1 - m/N) about that of the whole set, which itself has S^2/N about the population's; their
    ratio is m/(N - m). So the deviations of the draws from their mean, times sqrt(m/(N - m)) (1 for halves), are taken
    for those of the set from the population: the variance of Shao and Wu (1989), and with quantiles instead of a
    variance the subsampling of Politis and Romano (1994). The interval is value - quantile((1 + level)/2) to value -
    quantile((1 - level)/2) of them. Deviations are taken from the mean of the draws, not from the value, because most
    of these measures change with N; ends below 0 are cut, no measure of the catalogue being negative.

    Parameters
    ----------
    measure, params : the measure, and parameters other than its defaults.
    subset : what it is measured on; rows that the measure cannot use are left out first.
    draws, level, seed : how many resamples, the coverage wanted, and the seed of the draws.
    most : the largest m, so that the cost of a draw is bounded where a measure compares all pairs.

    Returns
    -------
    `Interval`; `UNDEFINED` where the measure has no value, under four rows, or if less than half of the draws have one.
    """
    if draws < 2 or not 0 < level < 1 or most < 2:
        raise ValueError(f"draws and most must be at least 2 and level between 0 and 1: {draws}, {most}, {level}")
    given = {**measure.params, **(params or {})}
    used = take(subset, used_rows(measure, subset, params))
    n = len(used.row_ids)
    value = measure.compute(used, **given)
    if value is None or n < 4:
        return Interval(None, None, UNDEFINED)
    rng = np.random.default_rng(seed)
    again = measure.id in BOOTSTRAPPED
    m = n if again else min(n // 2, most)
    values = [measure.compute(take(used, np.sort(rng.choice(n, size=m, replace=again))), **given) for _ in range(draws)]
    known = np.array([one for one in values if one is not None])
    if 2 * len(known) < draws:
        return Interval(None, None, UNDEFINED)
    tails = [(1 - level) / 2, (1 + level) / 2]
    if again:
        late, early = np.quantile(known, tails)
        low, high = min(2 * value - early, value), max(2 * value - late, value)
        return Interval(max(float(low), 0.0), float(high), BOOTSTRAP)
    late, early = np.quantile(known - known.mean(), tails) * np.sqrt(m / (n - m))
    return Interval(max(float(value - early), 0.0), float(value - late), JACKKNIFE)
