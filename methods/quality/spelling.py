"""Hand-crafted quality (survey 3.1): misspelt words.

Here belongs what the counts of spelling say of a text. Which words can be held to a dictionary is decided in
`methods.text`; the dictionaries stand in `methods.english`.
"""

from __future__ import annotations

import polars as pl

from methods.kinds import Indicator, statused
from methods.text import count_of, status_when_short

DICTIONARIES = ("en",)
"""The languages whose spelling can be looked up."""


def spelling_error_rate(
    block: pl.DataFrame, field: str = "response", stat: str = "rate", min_words: int = 5
) -> pl.DataFrame:
    """The share of words that no dictionary of the language knows. "the caat sat" gives 1/3.

    Equation: #{w : w not in dictionary} / #{w}, over the words that can be held to a dictionary.

    Direction: lower is better. Rare terms and names at the beginning of a sentence count as errors, so a value a little
    above 0 says nothing.

    Parameters: `field` is `response`, `prompt` or `both`. `stat` is `rate`, or `count` for the number of errors, which
    grows with length. `min_words` is the least number of words that can be looked up.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `wrong_language` where the row's language has
    no dictionary (there is one for English); `unknown_language`; `too_short` under `min_words`.

    Source: Yannakoudakis & Fawthrop 1983, "The rules of spelling errors"; named by Saranathan et al. (DELE, ICLR 2024
    workshop). The formula is ours.

    Departures: left out are code, links, words with digits or underscores, words in capitals, and words with a capital
    that open no sentence, because most of them are names.
    """
    if stat not in ("rate", "count"):
        raise ValueError(f"stat must be 'rate' or 'count', not {stat!r}")
    errors, words = count_of(field, "n_misspelt"), count_of(field, "n_spellable")
    short = status_when_short(field, max(min_words, 1), "n_spellable")
    status = (
        pl.when(count_of(field, "n_words") == 0)
        .then(short)
        .when(pl.col("language") == "und")
        .then(pl.lit("unknown_language"))
        .when(~pl.col("language").is_in(DICTIONARIES))
        .then(pl.lit("wrong_language"))
        .otherwise(short)
    )
    value = errors / words if stat == "rate" else errors.cast(pl.Float64)
    frame = block.select(value=value, status=status)
    return statused(frame["value"], frame["status"])


INDICATORS = (
    Indicator(
        id="spelling_error_rate",
        title="Misspelt words",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"\frac{misspelt}{words}",
        paper="Yannakoudakis & Fawthrop 1983, The rules of spelling errors; Saranathan et al. 2024, DELE",
        meaning="How many words no English dictionary knows. High values show typing errors, garbled text or jargon; "
        "differences of one or two in a hundred mean nothing.",
        needs=("evidence/text_counts",),
        params={"field": "response", "stat": "rate", "min_words": 5},
        direction="lower",
        compute=spelling_error_rate,
    ),
)
