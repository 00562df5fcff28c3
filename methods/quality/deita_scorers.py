"""DEITA's trained scorers (survey 3.3): language models tuned to say how complex or how good, read at one token.

Here belong what those checkpoints are asked, the shape of the stored answers (`SCORERS_SCHEMA`), and the indicators. No
model runs here; a judge that ranks variants of a row by itself is `judge_deita`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from methods.judging.wrapping import turns
from methods.kinds import OK, Indicator, statused

SCORES = ("1", "2", "3", "4", "5", "6")
EMPTY_RESPONSE = "empty_response"
NO_ANSWER = "no_answer"
COMPLEXITY = (
    "You are a helpful assistant. Please identify the complexity score of the following user query. \n"
    "##Query: {instruction}  \n##Complexity: "
)
QUALITY = (
    "You are a helpful assistant. Please identify the quality score of the Response corresponding to the Question. \n "
    "#Question#:\n{instruction}\n#Response#:\n{response} \n##Quality: "
)
"""What the released checkpoints were trained to read, blanks and all: the interface of those models."""
SCORERS_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "row_id": pl.String,
        "status": pl.String,
        "complexity": pl.List(pl.Float64),
        "quality": pl.List(pl.Float64),
    }
)
"""One line a row, one value a turn; null unless the status is ``ok``."""


def expected(logp: np.ndarray) -> np.ndarray:
    """(n,) sum_k k P(k), P the softmax over the six scores of ln p (n, 6); logits 0, 0, 0, 0, ln 2, ln 2 give 4. NaN
    where a score cannot be written."""
    shifted = np.exp(logp - logp.max(axis=1, keepdims=True, initial=-np.inf))
    return (shifted / shifted.sum(axis=1, keepdims=True)) @ np.arange(1.0, len(SCORES) + 1)


def prompts_of(rows: pl.DataFrame) -> tuple[list[str], list[str], list[int]]:
    """What is asked about complexity and about quality, turn by turn, and how many turns each row has.

    Turns are those of `wrapping.turns`; a row one of whose turns has no answer has none.
    """
    complexity: list[str] = []
    quality: list[str] = []
    counts: list[int] = []
    for row in rows.iter_rows(named=True):
        told = turns(row)
        if not told or not all(turn.answer.strip() for turn in told):
            counts.append(0)
            continue
        counts.append(len(told))
        for turn in told:
            complexity.append(COMPLEXITY.replace("{instruction}", turn.prompt))
            # The answer first: it may hold the other placeholder's letters.
            before, behind = QUALITY.split("{response}")
            quality.append(before.replace("{instruction}", turn.prompt) + turn.answer + behind)
    return complexity, quality, counts


def gathered(
    row_ids: Sequence[str], counts: Sequence[int], read: Sequence[tuple[np.ndarray, Sequence[str]]]
) -> pl.DataFrame:
    """`SCORERS_SCHEMA` from the ln p of the six scores and a status, for complexity and for quality, turn by turn."""
    values = [expected(logp) if len(logp) else np.zeros(0) for logp, _ in read]
    lines: list[tuple[Any, ...]] = []
    at = 0
    for row_id, count in zip(row_ids, counts, strict=True):
        mine = slice(at, at + count)
        at += count
        said = [status for _, statuses in read for status in statuses[mine] if status != OK]
        told = [value[mine] for value in values]
        status = EMPTY_RESPONSE if not count else said[0] if said else OK
        if status == OK and not all(np.isfinite(one).all() for one in told):
            status = NO_ANSWER
        lines.append((row_id, status, *(one.tolist() if status == OK else None for one in told)))
    return pl.DataFrame(lines, schema=dict(SCORERS_SCHEMA), orient="row")


def _mean_of(block: pl.DataFrame, column: str) -> pl.DataFrame:
    found = block.select("status", value=pl.col(column).list.mean())
    return statused(found["value"], found["status"])


def deita_complexity_scorer(block: pl.DataFrame) -> pl.DataFrame:
    """How complex DEITA's trained scorer finds the instructions of a row, from 1 to 6; the mean over its turns.

    Equation: sum_k k P(k), P the probabilities of "1" to "6" as the next token, made to sum to 1.

    Direction: higher.

    Statuses: `empty_response`; `no_answer` (the vocabulary lacks a score); any status of the model's pass.

    Source: Liu et al. 2023, DEITA (arXiv 2312.15685); checkpoint hkust-nlp/deita-complexity-scorer.

    Departures: where scoring fails the reference writes 3.0; here such a row has no value.
    """
    return _mean_of(block, "complexity")


def deita_quality_scorer(block: pl.DataFrame) -> pl.DataFrame:
    """How good DEITA's trained scorer finds the answers of a row, from 1 to 6; the mean over its turns.

    Equation: as for `deita_complexity_scorer`, of what the quality scorer says of instruction and response.

    Direction: higher.

    Statuses: as for `deita_complexity_scorer`.

    Source: Liu et al. 2023, DEITA (arXiv 2312.15685); checkpoint hkust-nlp/deita-quality-scorer.

    Departures: as for `deita_complexity_scorer`.
    """
    return _mean_of(block, "quality")


def deita_scorers(block: pl.DataFrame) -> pl.DataFrame:
    """DEITA's measure of a row by its trained scorers: complexity times quality, summed over the turns.

    Equation: sum_t c_t q_t.

    Direction: higher; conversations of many turns gain, as in the paper.

    Statuses: as for `deita_complexity_scorer`.

    Source: Liu et al. 2023, DEITA (arXiv 2312.15685).
    """
    found = block.select("status", value=(pl.col("complexity") * pl.col("quality")).list.sum())
    return statused(found["value"], found["status"])


_DEITA = "Liu et al. 2023, DEITA, arXiv 2312.15685"
_NEEDS = ("evidence/deita_scorers",)

INDICATORS = (
    Indicator(
        id="deita_complexity_scorer",
        title="DEITA: complexity by the trained scorer",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"\sum_{k=1}^{6} k P(k)",
        paper=_DEITA,
        meaning="Near 6 the instruction is as demanding as a model's own can be; near 1 it asks for little.",
        needs=_NEEDS,
        cost="gpu",
        compute=deita_complexity_scorer,
    ),
    Indicator(
        id="deita_quality_scorer",
        title="DEITA: quality by the trained scorer",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"\sum_{k=1}^{6} k P(k)",
        paper=_DEITA,
        meaning="Near 6 the answer could hardly be better; near 1 it is poor.",
        needs=_NEEDS,
        cost="gpu",
        compute=deita_quality_scorer,
    ),
    Indicator(
        id="deita_scorers",
        title="DEITA: complexity times quality by the trained scorers",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"\sum_t c_t q_t",
        paper=_DEITA,
        meaning="High: a demanding instruction with a good answer, or many such turns.",
        needs=_NEEDS,
        cost="gpu",
        compute=deita_scorers,
    ),
)
