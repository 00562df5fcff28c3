"""Alignment of words (survey 3.2): how far what is said in one text is carried by another, word by word.

Here belong what a word is for an aligner (`word_spans`), the shape of the stored alignments (`ALIGNMENT_SCHEMA`), the
aspects that are read off them, and the indicator. No model runs here: the aligners stand in `resources.alignment`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, statused
from methods.quality.stopwords import STOP_WORDS
from methods.tokens import unspaced

CONTEXTS = ("instruction", "input", "prompt")
"""What a response is held against: the first thing that the user says, the material that it speaks of, and both."""

ALIGNMENT_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "row_id": pl.String,
        "status": pl.String,
        "truncated": pl.Boolean,
        "stop": pl.List(pl.Boolean),
        **{f"to_{name}": pl.List(pl.Float32) for name in CONTEXTS},
        **{f"of_{name}": pl.List(pl.Float32) for name in CONTEXTS},
    }
)
"""One line a row. ``to_X``: for each word of the response, how far X carries it, in [0, 1]; ``of_X``: for each word of
X, how far the response carries it; ``stop``: which words of the response are stop-words. A list is null where the row
has no X, or where the words of X could not be told apart (``of_X``); all are null unless the status is ``ok``."""

BETWEEN = "\n\n\n"
"""Stands between the input and the instruction where both are read as one context."""

EMPTY_RESPONSE, UNALIGNED = "empty_response", "unaligned"
_ABSENT = {"instruction": "empty_instruction", "input": "no_input", "prompt": "empty_prompt"}

_VISIBLE = re.compile(r"\S+")
_BARE = re.compile(r"^[\W_]+|[\W_]+$")


# ---- words ---------------------------------------------------------------------------------------------------------
def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word begins and ends: what stands between blanks; in scripts without blanks each character alone."""
    spans: list[tuple[int, int]] = []
    for found in _VISIBLE.finditer(text):
        start, end = found.span()
        if found[0].isascii():
            spans.append((start, end))
            continue
        for at in range(start, end):
            if unspaced(text[at]):
                if start < at:
                    spans.append((start, at))
                spans.append((at, at + 1))
                start = at + 1
        if start < end:
            spans.append((start, end))
    return spans


def is_stop_word(word: str) -> bool:
    """Whether a word is an English function word; signs around it and capitals do not matter."""
    return _BARE.sub("", word).replace("’", "'").lower() in STOP_WORDS


def contexts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The texts that a row's response is held against, by name; one that the row does not have is left out."""
    parts = {name: (row.get(name) or "").strip() for name in ("instruction", "input")}
    found = {name: text for name, text in parts.items() if text}
    both = BETWEEN.join(text for text in (parts["input"], parts["instruction"]) if text)
    return found | ({"prompt": both} if both else {})


# ---- aspects -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Aspect:
    """What an aspect reads and how, unless a parameter says otherwise."""

    against: str
    reduce: Literal["mean", "sum"]
    drop: bool
    """Whether stop-words are left out."""
    back: str | None = None
    """What else is held against the response: ``same`` as ``against``, or one of `CONTEXTS`."""


ASPECTS: Mapping[str, Aspect] = MappingProxyType(
    {
        "consistency": Aspect("instruction", "mean", drop=False),
        "groundedness": Aspect("input", "sum", drop=True),
        "engagingness": Aspect("prompt", "sum", drop=True),
        "preservation": Aspect("prompt", "mean", drop=False, back="same"),
        "relevance": Aspect("prompt", "mean", drop=False, back="instruction"),
    }
)


def preservation(to: Any, of: Any) -> np.ndarray:
    """Harmonic mean of a(y -> x) and a(x -> y): low if either is. (.8, .6) gives .685714; 0 where both are."""
    to, of = np.asarray(to, dtype=np.float64), np.asarray(of, dtype=np.float64)
    total = to + of
    return np.where(total == 0, 0.0, 2 * to * of / np.where(total == 0, 1.0, total))


def relevance(to_document: Any, of_reference: Any) -> np.ndarray:
    """Product of a(hypothesis -> document) and a(reference -> hypothesis). (.8, .6) gives .48."""
    return np.asarray(to_document, dtype=np.float64) * np.asarray(of_reference, dtype=np.float64)


def _checked(aspect: str, against: str, reduce: str, stop_words: str) -> Aspect:
    for name, value, known in (
        ("aspect", aspect, tuple(ASPECTS)),
        ("against", against, ("auto", *CONTEXTS)),
        ("reduce", reduce, ("auto", "mean", "sum")),
        ("stop_words", stop_words, ("auto", "keep", "drop")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    usual = ASPECTS[aspect]
    drop = usual.drop if stop_words == "auto" else stop_words == "drop"
    if drop and usual.back:
        raise ValueError(f"{aspect} looks at the words of the prompt too, where stop-words are not told: keep them")
    reduced: Literal["mean", "sum"] = usual.reduce if reduce == "auto" else reduce  # type: ignore[assignment]
    return Aspect(usual.against if against == "auto" else against, reduced, drop, usual.back)


def ctc_unified_evaluator(
    block: pl.DataFrame,
    aspect: str = "consistency",
    against: str = "auto",
    reduce: str = "auto",
    stop_words: str = "auto",
    keep_truncated: bool = True,
) -> pl.DataFrame:
    """How far the words of the response are carried by what was given to it, and the other way round.

    Equation: with a(y -> c)_k in [0, 1] the alignment of word k of y to the text c, Q the instruction, I the input and
    A the response: consistency = mean_k a(A -> Q)_k; groundedness = sum_k a(A -> I)_k; engagingness = sum_k
    a(A -> I + Q)_k; preservation = harmonic mean of mean a(A -> I + Q) and mean a(I + Q -> A); relevance =
    mean a(A -> I + Q) * mean a(Q -> A). Means of .8 and .6 give a preservation of .685714 and a relevance of .48.

    Direction: higher. Means lie between 0 and 1. The sums of groundedness and engagingness do not: they grow with the
    length of the response, so that a long answer outdoes a short one that is as well carried, and are comparable
    between answers of one length only; `reduce="mean"` takes that away.

    Parameters: `aspect` is one of the five. `against` replaces what the aspect holds the response against
    (`instruction`, `input`, `prompt`); `reduce` (`mean`, `sum`) and `stop_words` (`keep`, `drop`) replace how its words
    are put together; `auto` is the paper's way: sums without stop-words for groundedness and engagingness, means of
    all words for the others. `keep_truncated` also scores rows of which the aligner saw only the beginning, as the
    reference does, by the words that were seen.

    Statuses: `no_input`, `empty_instruction`, `empty_prompt` (the row lacks what the aspect looks at);
    `only_stop_words`; `unaligned` (the aligner's pieces could not be put together to words); `truncated` unless
    `keep_truncated`; `empty_response`; any status of the aligner's pass.

    Source: Deng et al. 2021, Compression, Transduction, and Creation (arXiv 2109.06379).

    Departures: the survey lists one RoBERTa scorer with five numbers in [0, 1]; two are sums. Rows hold no reference
    answer: in relevance the instruction stands for it, which asks whether what was asked about is taken up.
    Stop-words are this project's English list; the reference's is another, and a sign at a word's end hides it there.
    A response of stop-words alone has no value, where the reference says 0. In scripts without blanks a word is a
    character. Which aligner it was decides about the scale: numbers of two aligners are not comparable.
    """
    asked = _checked(aspect, against, reduce, stop_words)
    wanted = [(f"to_{asked.against}", asked.against)]
    if asked.back:
        other = asked.against if asked.back == "same" else asked.back
        wanted.append((f"of_{other}", other))
    status = block.select(_status(wanted, keep_truncated)).to_series()
    fine = (status == OK).to_numpy()
    seen = block.filter(fine)
    keep = seen["stop"].list.eval(~pl.element()) if asked.drop else None
    reduced = [_reduced(seen[name], keep, asked.reduce) for name, _ in wanted]
    values, none_left = np.full(block.height, np.nan), np.zeros(block.height, dtype=bool)
    if len(reduced) == 1:
        values[fine] = reduced[0][0]
    else:
        values[fine] = (preservation if asked.back == "same" else relevance)(reduced[0][0], reduced[1][0])
    none_left[fine] = np.logical_or.reduce([found[1] == 0 for found in reduced])
    return statused(values, status.zip_with(~pl.Series(none_left), pl.Series(["only_stop_words"])))


def _status(wanted: list[tuple[str, str]], keep_truncated: bool) -> pl.Expr:
    """The pass's own status first, then what the row lacks, then a cut."""
    said: Any = pl.when(pl.col("status") != OK).then("status")
    for _, context in wanted:
        said = said.when(pl.col(f"to_{context}").is_null()).then(pl.lit(_ABSENT[context]))
    for name, _ in wanted:
        said = said.when(pl.col(name).is_null()).then(pl.lit(UNALIGNED))
    cut = pl.col("truncated").fill_null(False) & (not keep_truncated)
    return said.when(cut).then(pl.lit("truncated")).otherwise(pl.lit(OK)).alias("status")


def _reduced(lists: pl.Series, keep: pl.Series | None, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Sum or mean of each list, of the entries that are kept, and how many there were; a missing entry makes NaN."""
    of = np.repeat(np.arange(len(lists)), lists.list.len().to_numpy())
    values = lists.explode(empty_as_null=False, keep_nulls=False).cast(pl.Float64).fill_null(np.nan).to_numpy()
    if keep is not None:
        chosen = keep.explode(empty_as_null=False, keep_nulls=False).to_numpy().astype(bool)
        of, values = of[chosen], values[chosen]
    counts = np.bincount(of, minlength=len(lists))
    sums = np.bincount(of, weights=values, minlength=len(lists))
    return (sums if how == "sum" else sums / np.maximum(counts, 1)), counts


INDICATORS = (
    Indicator(
        id="ctc_unified_evaluator",
        title="Words carried by the prompt",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"\frac{1}{|A|} \sum_k a(A \to c)_k",
        paper="Deng et al. 2021, Compression, Transduction, and Creation, arXiv 2109.06379",
        meaning="High where what the answer says finds a counterpart in what was given, low where it speaks of other "
        "things. Groundedness and engagingness are sums and grow with the length of the answer.",
        needs=("evidence/ctc_alignment",),
        cost="gpu",
        params={
            "aspect": "consistency",
            "against": "auto",
            "reduce": "auto",
            "stop_words": "auto",
            "keep_truncated": True,
        },
        direction="higher",
        compute=ctc_unified_evaluator,
    ),
)
