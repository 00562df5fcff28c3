"""What all readability formulae share: when they may be used, their ratios, and their record in the catalogue.

Here belong the gate (`readable`) that keeps the formulae from texts they mean nothing for, and the few expressions
over `evidence/text_counts` that they are put together from. The formulae stand in `methods.importance.handcrafted`
(lengths) and `methods.importance.familiarity` (lists of familiar words).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import polars as pl

from methods.kinds import Direction, Indicator, statused
from methods.text import count_of, status_when_short

COUNTS = ("evidence/text_counts",)
ENGLISH: Mapping[str, Any] = MappingProxyType(
    {"field": "response", "language": "en", "min_words": 30, "min_letters": 0.6}
)
"""The gate's parameters, which every formula has."""


def readable(field: str, language: str | None, min_words: int, min_letters: float) -> pl.Expr:
    """The status of a readability value: what makes the formulae meaningless comes out by name."""
    letters = count_of(field, "n_letters") / count_of(field, "n_visible")
    short = status_when_short(field, max(min_words, 1), "n_prose_words")
    unknown = (pl.col("language") == "und") & pl.lit(language not in (None, "und"))
    other = (pl.col("language") != language) if language is not None else pl.lit(False)
    return (
        pl.when(count_of(field, "n_words") == 0)
        .then(short)
        .when(unknown)
        .then(pl.lit("unknown_language"))
        .when(other)
        .then(pl.lit("wrong_language"))
        .when(count_of(field, "n_unspaced") * 2 > count_of(field, "n_prose_words"))
        .then(pl.lit("unspaced_script"))
        .when(short != "ok")
        .then(short)
        .when(letters < min_letters)
        .then(pl.lit("not_prose"))
        .otherwise(pl.lit("ok"))
    )


def formula(block: pl.DataFrame, value: pl.Expr, status: pl.Expr) -> pl.DataFrame:
    """The values of a formula, null with a status where it may not be used."""
    frame = block.select(value=value.cast(pl.Float64), status=status)
    return statused(frame["value"], frame["status"])


def per_sentence(field: str) -> pl.Expr:
    """W/S: words of the prose a sentence."""
    return count_of(field, "n_prose_words") / count_of(field, "n_sentences")


def per_word(field: str, name: str) -> pl.Expr:
    """A count of the prose as a share of its words W."""
    return count_of(field, name) / count_of(field, "n_prose_words")


def one_of(name: str, value: str, allowed: Mapping[str, str]) -> str:
    """What a parameter's word stands for, or an error that names the words there are."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    return allowed[value]


def readability(
    id: str,
    title: str,
    equation: str,
    paper: str,
    meaning: str,
    compute: Callable[..., pl.DataFrame],
    direction: Direction = "higher",
    **params: Any,
) -> Indicator:
    """The record of a readability formula; ``params`` are those it has beside the gate's, or other defaults."""
    return Indicator(
        id=id, title=title, axis="importance", family="handcrafted", section="5.1", equation=equation, paper=paper,
        meaning=meaning, needs=COUNTS, params={**ENGLISH, **params}, direction=direction, compute=compute,
    )  # fmt: skip
