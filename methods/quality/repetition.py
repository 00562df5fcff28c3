"""Repetition as a fault of a text (survey 3.1): how much of it says again what it said.

Here belong the indicators that count repeated words and phrases, over the word hashes of `evidence/text_counts`. Their
arithmetic is compiled and stands in `methods.numerics.words`. The same counts read as a merit, the richness of the
vocabulary, are in `methods.diversity.handcrafted`; lengths are in `methods.quality.handcrafted`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.flat import Flat, flat_words
from methods.kinds import Indicator, statused
from methods.text import status_when_short

COUNTS = ("evidence/text_counts",)
STATS = ("ratio", "count", "max_run", "dup_ngram")


def _stat(words: Flat, stat: str, n: int) -> np.ndarray:
    from methods.numerics.words import gram_counts, longest_runs

    again = words.lengths - words.types
    if stat == "count":
        return again
    if stat == "max_run":
        return longest_runs(words.previous, words.offsets)
    if stat == "dup_ngram":
        again = gram_counts(words.codes, words.offsets, n)[1]
    with np.errstate(invalid="ignore"):
        return again / words.lengths


def excessive_word_repetition(
    block: pl.DataFrame, field: str = "response", stat: str = "ratio", n: int = 3
) -> pl.DataFrame:
    """How much of a text says again what it said: words beyond the first of their kind.

    Equation: ratio = sum_v max(0, c_v - 1) / n, which is 1 - TTR. "a b a c a b d e a f" gives count 4, ratio .4.

    Direction: lower is better. The ratio grows with length; compare texts of like length, or use `dup_ngram`.

    Parameters: `field` is `response`, `prompt` or `both`. `stat` is `ratio`, `count` (the same, not divided),
    `max_run` (most times that one word stands in a row) or `dup_ngram` (share of the words inside an n-gram that
    occurs more than once). `n` is the length of that n-gram.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `n` words for `dup_ngram`.

    Source: Saranathan et al. (DELE, ICLR 2024 workshop) name a count of repeating words; the formula is ours.
    """
    if stat not in STATS:
        raise ValueError(f"stat must be one of {', '.join(map(repr, STATS))}, not {stat!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    status = block.select(status_when_short(field, n if stat == "dup_ngram" else 1)).to_series()
    return statused(_stat(flat_words(block, field), stat, n), status)


INDICATORS = (
    Indicator(
        id="excessive_word_repetition",
        title="Excessive word repetition",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"\frac{1}{n} \sum_v \max(0, c_v - 1)",
        paper="Saranathan et al. 2024, DELE, ICLR workshop (indicator named, formula ours)",
        meaning="The share of words that were said before in the same text. High values show loops and padding, but "
        "long texts repeat more by nature.",
        needs=COUNTS,
        params={"field": "response", "stat": "ratio", "n": 3},
        direction="lower",
        compute=excessive_word_repetition,
    ),
)
