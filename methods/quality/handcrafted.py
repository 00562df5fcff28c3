"""Hand-crafted quality (survey 3.1): what plain counting says of a text, without any model.

Here belong lengths and repetition, each read off `evidence/text_counts`. What counts as a word is decided in
`methods.text`; lexical diversity is in `methods.diversity.handcrafted`, readability in
`methods.importance.handcrafted`.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from methods.kinds import Indicator, statused
from methods.text import count_of, status_when_short, words_of

COUNTS = ("evidence/text_counts",)


def _read(block: pl.DataFrame, value: pl.Expr, status: pl.Expr) -> pl.DataFrame:
    frame = block.select(value=value.cast(pl.Float64), status=status)
    return statused(frame["value"], frame["status"])


def _length(block: pl.DataFrame, field: str, unit: str) -> pl.DataFrame:
    if unit not in ("words", "chars"):
        raise ValueError(f"unit must be 'words' or 'chars', not {unit!r}")
    return _read(block, count_of(field, f"n_{unit}"), status_when_short(field))


def response_length(block: pl.DataFrame, unit: str = "words") -> pl.DataFrame:
    """Length of the response: the words of `methods.text` (one a character for Chinese), or code points.

    Equation: n.

    Direction: band; neither end is good by itself. Long answers win many judges' favour and are the baseline that
    every other method must beat.

    Parameters: `unit` is `words` or `chars`.

    Statuses: `empty_response`; `no_words` (signs only). Not a length of 0, so that no band takes such a row.

    Source: an input of InstructionMining, Cao et al. 2023 (arXiv 2307.06290), and of LIFT, Xu et al. 2023
    (arXiv 2312.11508).
    """
    return _length(block, "response", unit)


def prompt_length(block: pl.DataFrame, unit: str = "words") -> pl.DataFrame:
    """Length of the prompt (the instruction and its input): the words of `methods.text`, or code points.

    Equation: n.

    Direction: band; neither end is good by itself.

    Parameters: `unit` is `words` or `chars`.

    Statuses: `empty_prompt`; `no_words` (signs only).

    Source: an input of InstructionMining, Cao et al. 2023 (arXiv 2307.06290).
    """
    return _length(block, "prompt", unit)


def average_word_length(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Mean number of letters of a word, over the words of the prose that have a letter.

    Equation: sum_w len(w) / #words. "The cat sat on the mat" gives 17/6.

    Direction: band; take a window of it.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` where there are words but none
    with a letter outside code fences; `unspaced_script` where most of the words are single characters of a script
    without spaces, which makes the number a constant.

    Source: survey 3.1; no formula printed there.
    """
    unspaced = count_of(field, "n_unspaced") * 2 > count_of(field, "n_prose_words")
    status = pl.when(unspaced).then(pl.lit("unspaced_script")).otherwise(status_when_short(field, 1, "n_letter_words"))
    return _read(block, count_of(field, "n_letters") / count_of(field, "n_letter_words"), status)


# --- repetition ------------------------------------------------------------------------------------------------------
def _longest_run(words: list[int]) -> int:
    longest = run = 1
    for before, word in pairwise(words):
        run = run + 1 if word == before else 1
        longest = max(longest, run)
    return longest


def _share_in_repeated(words: list[int], n: int) -> float | None:
    """Share of the words that stand inside some n-gram that occurs more than once; None under n words."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return None
    seen: dict[tuple[int, ...], int] = {}
    for gram in grams:
        seen[gram] = seen.get(gram, 0) + 1
    covered = np.zeros(len(words), dtype=bool)
    for i, gram in enumerate(grams):
        if seen[gram] > 1:
            covered[i : i + n] = True
    return float(covered.mean())


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
    words = words_of(block, field)
    status = block.select(status_when_short(field, n if stat == "dup_ngram" else 1)).to_series()
    again = words.list.len().cast(pl.Float64) - words.list.n_unique().cast(pl.Float64)
    if stat == "ratio":
        return statused(again / words.list.len(), status)
    if stat == "count":
        return statused(again, status)
    if stat == "max_run":
        return statused([float(_longest_run(row)) for row in words.to_list()], status)
    if stat == "dup_ngram":
        return statused([_share_in_repeated(row, n) for row in words.to_list()], status)
    raise ValueError(f"stat must be 'ratio', 'count', 'max_run' or 'dup_ngram', not {stat!r}")


INDICATORS = (
    Indicator(
        id="response_length",
        title="Response length",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"n",
        paper="Cao et al. 2023, InstructionMining, arXiv 2307.06290",
        meaning="How many words the answer has. Long answers look better to most judges; choose a window, not an end.",
        needs=COUNTS,
        params={"unit": "words"},
        direction="band",
        compute=response_length,
    ),
    Indicator(
        id="prompt_length",
        title="Prompt length",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"n",
        paper="Cao et al. 2023, InstructionMining, arXiv 2307.06290",
        meaning="How many words the instruction and its input have. Very short prompts ask for little; very long ones "
        "may be truncated by a model.",
        needs=COUNTS,
        params={"unit": "words"},
        direction="band",
        compute=prompt_length,
    ),
    Indicator(
        id="average_word_length",
        title="Average word length",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"\frac{1}{n} \sum_w len(w)",
        paper="Survey 3.1 (no formula printed)",
        meaning="Letters a word. Usual English lies between 4 and 6; far outside stand word lists, code and noise.",
        needs=COUNTS,
        params={"field": "response"},
        direction="band",
        compute=average_word_length,
    ),
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
