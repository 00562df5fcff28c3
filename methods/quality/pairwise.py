"""Rows ranked by which of two a judge prefers: strengths from a table of pairs, and the indicator that reads them.

Here belong the strengths of the rows that were asked about. What is asked stands in `methods.judging.pairs`, the fit in
`methods.numerics.bradley_terry`; scoring rows that nobody asked about is `methods.quality.qurating`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, Pool, statused
from methods.numerics import bradley_terry
from methods.numerics.bradley_terry import Strengths

STRENGTHS_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "row_id": pl.String,
        "status": pl.String,
        "strength": pl.Float64,
        "error": pl.Float64,
        "component": pl.Int64,
        "pairs": pl.Int64,
        "characters": pl.Int64,
    }
)
"""One line a row that was asked about. ``component`` 0 is the largest set of rows that are joined by comparisons."""
NOT_COMPARED, NOT_JOINED, NOT_FINITE, NOT_ASKED = "not_compared", "not_joined", "not_finite", "not_asked"
ORDERS_ASKED = 2.0


def strengths_of(
    row_ids: pl.Series, characters: np.ndarray, pairs: pl.DataFrame, prior: float
) -> tuple[pl.DataFrame, Strengths]:
    """`STRENGTHS_SCHEMA` of the rows asked about, from a table of pairs (`methods.judging.pairs.PAIRS_SCHEMA`).

    A usable pair counts as two comparisons, one an order, of which the row b wins 2 P: asking the same again makes P
    surer, but is no comparison with another row. Statuses: ``not_compared`` (no usable pair), ``not_joined`` (no chain
    of comparisons joins it with the most of the rows, so its strength means something else), ``not_finite`` (without a
    prior: it always won, or always lost).
    """
    first, second, chance = indexed(row_ids, pairs)
    times = np.full(len(first), ORDERS_ASKED)
    found = bradley_terry.fit(len(row_ids), first, second, (1 - chance) * ORDERS_ASKED, times, prior)
    status = np.select(
        [found.component < 0, found.component > 0, np.isnan(found.strength)],
        [NOT_COMPARED, NOT_JOINED, NOT_FINITE],
        OK,
    )
    numbers = np.bincount(first, minlength=len(row_ids)) + np.bincount(second, minlength=len(row_ids))
    fine = pl.col("status") == OK
    table = pl.DataFrame(
        {
            "row_id": row_ids,
            "status": status,
            "strength": found.strength,
            "error": found.error,
            "component": found.component,
            "pairs": numbers.astype(np.int64),
            "characters": characters.astype(np.int64),
        },
        schema=dict(STRENGTHS_SCHEMA),
    )
    return table.with_columns(pl.when(fine).then(name).alias(name) for name in ("strength", "error")), found


def indexed(row_ids: pl.Series, pairs: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the usable pairs: the place of a, the place of b, and P(b preferred to a)."""
    place = {row_id: at for at, row_id in enumerate(row_ids)}
    fine = pairs.filter(pl.col("status") == OK)
    first = np.array([place[row_id] for row_id in fine["a"]], dtype=np.int64)
    second = np.array([place[row_id] for row_id in fine["b"]], dtype=np.int64)
    return first, second, fine["probability"].to_numpy().astype(np.float64)


def pairwise_strength(pool: Pool) -> pl.DataFrame:
    """How strong the row came out when a judge was shown it beside others and named the better one.

    Equation: argmax_s sum over pairs of [2 P ln S(s_b - s_a) + 2 (1 - P) ln S(s_a - s_b)] - (prior / 2) |s|^2, S being
    the logistic function and P(b preferred to a) the mean of both orders (Bradley and Terry 1952). A difference of 1
    means odds of e = 2.7. The mean is 0.

    Direction: higher.

    Statuses: `not_asked` (the row is none of those that were asked about); `not_compared` (no usable answer about any
    of its pairs); `not_joined` (no chain of comparisons joins it with most of the rows); `not_finite` (with a prior of
    0: it never lost, or never won).

    Source: Bradley and Terry 1952; as the labels of QuRating (Wettig et al. 2024, arXiv 2402.09739).

    Departures: a normal prior (inverse variance 0.1 unless `judged_pairs` sets it) keeps rows that never lost finite
    and pulls what is known little towards 0.
    """
    table = pool.tables["judged/strengths"].select("status", "strength").collect()
    return statused(table["strength"], table["status"].fill_null(NOT_ASKED))


INDICATORS = (
    Indicator(
        id="pairwise_strength",
        title="Strength among judged pairs",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"\arg\max_s \sum 2P \ln\sigma(s_b - s_a) + 2(1-P)\ln\sigma(s_a - s_b) - \frac{\lambda}{2}|s|^2",
        paper="Bradley and Terry 1952; Wettig et al. 2024, QuRating, arXiv 2402.09739",
        meaning="High: where this row was shown beside another, the judge named it as the better one by the criterion. "
        "Only rows that were asked about have a value.",
        needs=("judged/strengths",),
        cost="llm",
        direction="higher",
        scope="pool",
        compute=pairwise_strength,
    ),
)
