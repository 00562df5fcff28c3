"""DEITA's indicators (survey 3.3): complexity, quality and their product, read off a judge's scores.

Here belong the numbers of whole rows out of the scores of their turns. What every indicator of a judge has in common
stands in `judge`, how the texts are scored beside variants of themselves in `methods.judging.evolved`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from methods.judging.kinds import NOT_ASKED
from methods.kinds import OK, statused
from methods.quality.judge import Part, cells_of, failed, indicator_of, means

UNEVEN_TURNS = "uneven_turns"
_TURNS: Mapping[str, Callable[[list[float]], float]] = {
    "mean": lambda scores: sum(scores) / len(scores),
    "sum": sum,
    "max": max,
}


def _over_turns(block: pl.DataFrame, over: str) -> pl.DataFrame:
    if over not in _TURNS:
        raise ValueError(f"over must be one of {', '.join(_TURNS)}, not {over!r}")
    frame = means(block)
    scores = [[value for _, value, *_ in cells if value is not None] for _, cells in cells_of(block)]
    fine = frame["value"].is_not_null()
    values = [_TURNS[over](turns) if is_fine else None for turns, is_fine in zip(scores, fine, strict=True)]
    return statused(values, frame["status"])


def deita_complexity(block: pl.DataFrame, over: str = "mean") -> pl.DataFrame:
    """How complex a judge finds the instruction beside more complex forms of itself, from 1 to 6.

    Equation: c, the row's own score among those of its M variants, given all together; 6 is beyond the judge itself.

    Direction: higher.

    Parameters: `over` says how the turns of a conversation become one number: `mean`, `sum` or `max`.

    Statuses: `empty_response` (nothing is asked, or no variants were written); `parse_error`, `refused`, `api_error`,
    `truncated`, `not_asked`, `pending`.

    Source: Liu et al. 2023, DEITA (arXiv 2312.15685).

    Departures: the paper has a judge score a few thousand rows so and trains a model on them that scores the rest;
    here the judge scores the rows themselves. The authors' code writes 3.0 where scoring fails; here such a row has no
    value. The texts stand in an order drawn from themselves and not from simple to complex; the wording is ours.
    """
    return _over_turns(block, over)


def deita_quality(block: pl.DataFrame, over: str = "mean") -> pl.DataFrame:
    """How good a judge finds the response beside better forms of itself, from 1 to 6.

    Equation: q, the row's own score among those of its M variants, given all together; 6 could not be improved.

    Direction: higher.

    Parameters: `over` says how the turns of a conversation become one number: `mean`, `sum` or `max`.

    Statuses: `empty_response` (also where no variants were written); `parse_error`, `refused`, `api_error`,
    `truncated`, `not_asked`, `pending`.

    Source: Liu et al. 2023, DEITA (arXiv 2312.15685).

    Departures: as for `deita_complexity`.
    """
    return _over_turns(block, over)


def deita_score(block: pl.DataFrame) -> pl.DataFrame:
    """DEITA's measure of a row: how complex the instruction is times how good the response is, turn by turn.

    Equation: sum_t c_t q_t. A single turn with c = 4, q = 5 gives 20; between 1 and 36 a turn.

    Direction: higher. The sum favours conversations of many turns, as in the paper.

    Statuses: `uneven_turns` (not the same turns were scored for both); `not_asked` (also where there is no score of
    quality at all); `empty_response`, `parse_error`, `refused`, `api_error`, `truncated`, `pending`.

    Source: Liu et al. 2023, DEITA (arXiv 2312.15685).

    Departures: as for `deita_complexity`.
    """
    values, told = [], []
    for (status, complexity), (_, quality) in zip(cells_of(block), cells_of(block, "_right"), strict=True):
        said = failed(complexity + quality) or OK
        if not complexity or not quality:
            said = status if status != OK else NOT_ASKED
        c, q = (_by_turn(cells) for cells in (complexity, quality))
        if said == OK and c.keys() != q.keys():
            said = UNEVEN_TURNS
        told.append(said)
        values.append(sum(c[turn] * q[turn] for turn in c) if said == OK else None)
    return statused(values, told)


def _by_turn(cells: list[Part]) -> dict[str, float]:
    return {part.partition(":")[0]: float("nan") if value is None else value for part, value, *_ in cells}


_DEITA = "Liu et al. 2023, DEITA, arXiv 2312.15685"

INDICATORS = (
    indicator_of(
        "deita_complexity",
        id="deita_complexity",
        title="DEITA: complexity",
        equation=r"c(x)",
        paper=_DEITA,
        meaning="High: the instruction is complex even beside forms of itself that were made more complex.",
        params={"over": "mean"},
        compute=deita_complexity,
    ),
    indicator_of(
        "deita_quality",
        id="deita_quality",
        title="DEITA: quality",
        equation=r"q(x)",
        paper=_DEITA,
        meaning="High: the answer is good even beside forms of itself that were made better.",
        params={"over": "mean"},
        compute=deita_quality,
    ),
    indicator_of(
        "deita_complexity",
        id="deita_score",
        title="DEITA: complexity times quality",
        equation=r"\sum_t c_t q_t",
        paper=_DEITA,
        meaning="High: a complex instruction, answered well; a conversation adds up its turns.",
        needs=("evidence/judgments_deita_complexity", "evidence/judgments_deita_quality"),
        compute=deita_score,
    ),
)
