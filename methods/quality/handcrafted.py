"""Hand-crafted quality (survey 3.1): what plain counting says of a text, without any model.

Here belong lengths, each read off `evidence/text_counts`. Repetition is in `methods.quality.repetition`, spelling in
`methods.quality.spelling`; what counts as a word is decided in `methods.tokens`; lexical diversity is in
`methods.diversity.handcrafted`, readability in `methods.importance.handcrafted`.
"""

from __future__ import annotations

import polars as pl

from methods.kinds import Indicator, statused
from methods.text import count_of, status_when_short

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
)
