"""Hand-crafted importance (survey 5.1): readability, that is how hard a text is by its word and sentence lengths.

Here belong formulae over the counts of `evidence/text_counts`. The counting rules stand in `methods.text`; difficulty
that a model sees is in `methods.quality.model` and in the other modules of this room.
"""

from __future__ import annotations

import polars as pl

from methods.kinds import Indicator, statused
from methods.text import count_of, status_when_short

COUNTS = ("evidence/text_counts",)


def _readable(field: str, language: str, min_words: int, min_letters: float) -> pl.Expr:
    """The status of a readability value: what makes the English formulae meaningless comes out by name."""
    letters = count_of(field, "n_letters") / count_of(field, "n_visible")
    short = status_when_short(field, max(min_words, 1), "n_prose_words")
    return (
        pl.when(count_of(field, "n_words") == 0)
        .then(short)
        .when((pl.col("language") == "und") & (pl.lit(language) != "und"))
        .then(pl.lit("unknown_language"))
        .when(pl.col("language") != language)
        .then(pl.lit("wrong_language"))
        .when(short != "ok")
        .then(short)
        .when(letters < min_letters)
        .then(pl.lit("not_prose"))
        .otherwise(pl.lit("ok"))
    )


def _formula(
    block: pl.DataFrame, value: pl.Expr, field: str, language: str, min_words: int, min_letters: float
) -> pl.DataFrame:
    frame = block.select(value=value, status=_readable(field, language, min_words, min_letters))
    return statused(frame["value"], frame["status"])


def flesch_reading_ease(
    block: pl.DataFrame,
    field: str = "response",
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """How easy English prose is to read: short sentences and short words give a high value (100 very easy, 0 hard).

    Equation: 206.835 - 1.015 W/S - 84.6 Y/W with W words, S sentences, Y syllables, all of the prose.

    Direction: lower is harder, and importance wants the harder row: `lower`. The value itself stays Flesch's.

    Parameters: `field` is `response`, `prompt` or `both`. `language` is the one the row must have; the formula was
    fitted to English. `min_words` is the least number of words of prose, `min_letters` the least share of letters among
    the visible characters. The row's language is that of its response, whatever the field.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `wrong_language`; `unknown_language` where
    the row's is not known; `too_short` under `min_words`; `not_prose` under `min_letters` (tables, formulae, unfenced
    code).

    Source: Flesch 1948, "A new readability yardstick".

    Departures: an empty text has no value, where textstat says 0 ("very hard"); code fences are left out; sentences of
    one or two words count, where textstat drops them; numbers in digits have one syllable.
    """
    words, sentences = count_of(field, "n_prose_words"), count_of(field, "n_sentences")
    value = 206.835 - 1.015 * words / sentences - 84.6 * count_of(field, "n_syllables") / words
    return _formula(block, value, field, language, min_words, min_letters)


INDICATORS = (
    Indicator(
        id="flesch_reading_ease",
        title="Flesch reading ease",
        axis="importance",
        family="handcrafted",
        section="5.1",
        equation=r"206.835 - 1.015 \frac{W}{S} - 84.6 \frac{Y}{W}",
        paper="Flesch 1948, A new readability yardstick, Journal of Applied Psychology 32",
        meaning="High values are easy to read (100: primary school), low ones hard (0: scholarly). English prose only.",
        needs=COUNTS,
        params={"field": "response", "language": "en", "min_words": 30, "min_letters": 0.6},
        direction="lower",
        compute=flesch_reading_ease,
    ),
)
