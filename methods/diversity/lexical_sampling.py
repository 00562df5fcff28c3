"""Choosing by words: rows drawn by chance, of which one must not repeat the words of those before.

Here belong the two likenesses of texts by their words (ROUGE-L, BLEU) as a selector needs them, and the draw that rests
on them. Likeness in meaning stands in ``semantic_dedup.py``, duplicates by shingles in ``filters``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import exp, log
from typing import Literal, get_args

import numpy as np
import polars as pl

from methods.kinds import Candidates, Chosen, Selector
from methods.selection.basic import at_most
from methods.tokens import tokenize_all

Likeness = Literal["rouge_l", "bleu"]
Compare = Literal["previous", "all"]
Text = Literal["prompt", "response", "both"]
ORDERS = 4
"""BLEU counts runs of one to four words."""
AHEAD = 256
"""Texts cut into words together."""
_NAMES = {"rouge_l": "ROUGE-L", "bleu": "BLEU"}
_CLOSE = 1e-9


def limited_lexical_similarity(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    likeness: Likeness = "rouge_l",
    tau: float = 0.3,
    compare: Compare = "previous",
    max_tries: int = 100,
    relax: float | None = 0.1,
    text: Text = "both",
) -> Chosen:
    """Rows by chance, each unlike the one before: a draw is taken iff it shares few words with the previous pick.

    Equation: draw x_1; then draw x_i from the rest until sim(x_i, x_{i-1}) <= tau, or with `compare="all"` until
    max_{j < i} sim(x_i, x_j) <= tau.

    Parameters: `likeness` is `rouge_l` (default), F1 of the longest common subsequence of words, or `bleu`, up to four
    words, the earlier pick being the reference. `tau` (.3) is the largest likeness allowed. `compare`: `previous`
    (default, the survey's) or `all` picks, which takes time with the square of the budget. `max_tries` (100): after so
    many draws in vain the limit of this pick rises by `relax` (.1) and the drawing goes on, until a row passes; the
    next pick begins at `tau` again. With `relax=None` the choice ends there, and its last reason says so. `text` is
    what is compared: `prompt`, `response` or `both` (default).

    The pool is shuffled once by the seed; draws go through it, and rows refused go to its end. A text without words is
    like no other (0). A likeness within 1e-9 of the limit passes.

    Gain: 1 - the likeness that was compared with the limit (NaN for the first row). `nearest`: the pick that it was
    compared with, for `all` the most alike. Refused: rows drawn in vain and not taken later, with their last likeness.

    Source: Alcoforado et al. 2024 (arXiv 2401.13229). ROUGE-L: Lin 2004; BLEU: Papineni et al. 2002.

    Departures: `all`, the tries and their relaxation are added, without which the draw may never end. The
    value of tau is not known from the paper.
    """
    _check(likeness, compare, text, tau, max_tries, relax)
    n_take = at_most(candidates, budget)
    if candidates.texts is None:
        raise ValueError("limited_lexical_similarity needs texts: run it on rows with their texts")
    texts = _texts(candidates.texts, text)
    if len(texts) != len(candidates):
        raise ValueError(f"limited_lexical_similarity: {len(texts)} texts do not fit {len(candidates)} candidates")
    draw = _Draw(texts, np.random.default_rng(seed).permutation(len(texts)), likeness, compare)
    name = _NAMES[likeness]
    gain: list[float] = []
    nearest: list[int] = []
    reason: list[str] = []
    while len(draw.order) < n_take:
        limit = tau
        found = draw.next(limit, max_tries)
        while found is None and relax is not None:
            limit = round(limit + relax, 9)
            found = draw.next(limit, max_tries)
        if found is None:
            break
        level, near = found
        gain.append(1 - level if near >= 0 else float("nan"))
        nearest.append(near)
        reason.append(_why(candidates, name, level, near, limit, tau, compare))
    if reason and len(reason) < n_take:
        reason[-1] += f"; {max_tries} draws in vain after it, {len(reason)} of the {budget} rows asked for"
    refused = {
        row: f"{name} {level:.4f} to row {candidates.row_ids[near]}, above the limit"
        for row, (level, near) in draw.refused.items()
    }
    order = np.array(draw.order, dtype=np.int64)
    return Chosen(order, np.array(gain, dtype=np.float64), reason, np.array(nearest, dtype=np.int64), refused)


def _check(likeness: str, compare: str, text: str, tau: float, max_tries: int, relax: float | None) -> None:
    for value, known in ((likeness, Likeness), (compare, Compare), (text, Text)):
        if value not in get_args(known):
            raise ValueError(f"limited_lexical_similarity: one of {get_args(known)} is wanted, got {value!r}")
    if not 0 <= tau <= 1 or max_tries < 1 or (relax is not None and not relax > 0):
        raise ValueError(
            "limited_lexical_similarity: tau is from 0 to 1, max_tries at least 1 and relax above 0 or None; "
            f"got {tau}, {max_tries} and {relax}"
        )


def _texts(frame: pl.DataFrame, text: Text) -> pl.Series:
    fields = {"prompt": ["prompt"], "response": ["response"], "both": ["prompt", "response"]}[text]
    return frame.select(pl.concat_str([pl.col(f).fill_null("") for f in fields], separator="\n")).to_series()


def _why(candidates: Candidates, name: str, level: float, near: int, limit: float, tau: float, compare: Compare) -> str:
    if near < 0:
        return "first row, drawn by chance"
    which = "the row chosen before" if compare == "previous" else "the most alike row chosen before"
    text = f"drawn by chance; {name} {level:.4f} to {which} ({candidates.row_ids[near]})"
    return text if limit == tau else f"{text}, under a limit raised from {tau:g} to {min(limit, 1.0):g}"


# --- likeness ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Words:
    """A text as its words, and what is counted of them once it is asked for."""

    words: list[str]

    @cached_property
    def places(self) -> dict[str, int]:
        """For ROUGE-L, where the text is the reference: a bit for each place of a word."""
        found: dict[str, int] = {}
        for place, word in enumerate(self.words):
            found[word] = found.get(word, 0) | 1 << place
        return found

    @cached_property
    def runs(self) -> list[Counter[tuple[str, ...]]]:
        """For BLEU: how often each run of 1, 2, ... words stands in it."""
        return [Counter(zip(*(self.words[k:] for k in range(n)), strict=False)) for n in range(1, ORDERS + 1)]


def rouge_l(candidate: Words, reference: Words) -> float:
    """2 L / (m + n), with L the longest common subsequence of m and n words; 0 where a text has no words.

    L by bits (Crochemore et al. 2001): a bit for each place of the reference, cleared where the subsequence grows.
    """
    m, n = len(candidate.words), len(reference.words)
    if not m or not n:
        return 0.0
    every = (1 << n) - 1
    still = every
    for word in candidate.words:
        here = reference.places.get(word)
        if here:
            hit = still & here
            still = (still + hit | still - hit) & every
    return 2 * (n - still.bit_count()) / (m + n)


def bleu(candidate: Words, reference: Words) -> float:
    """exp(min(0, 1 - n/m)) times the geometric mean of the clipped precisions of runs of 1 to 4 words, from 0 to 1.

    Orders for which the candidate is too short are left out; the k-th precision of 0 becomes 1 / (2^k runs), except
    where no word is shared at all, which gives 0 (the sentence form that is usual since Chen & Cherry 2014).
    """
    m, n = len(candidate.words), len(reference.words)
    if not m or not n:
        return 0.0
    logs: list[float] = []
    halved = 1.0
    for own, theirs in zip(candidate.runs[:m], reference.runs, strict=False):
        shared = float((own & theirs).total())
        if not shared:
            if not logs:
                return 0.0
            halved /= 2
            shared = halved
        logs.append(log(shared / own.total()))
    return exp(min(0.0, 1 - n / m) + sum(logs) / len(logs))


_LIKENESS: dict[str, Callable[[Words, Words], float]] = {"rouge_l": rouge_l, "bleu": bleu}


# --- the draw ---------------------------------------------------------------------------------------------------------
class _Draw:
    """The shuffled pool, and the rows picked from it."""

    def __init__(self, texts: pl.Series, shuffled: np.ndarray, likeness: Likeness, compare: Compare) -> None:
        self.texts, self.compare = texts, compare
        self.waiting = deque(shuffled.tolist())
        self.order: list[int] = []
        self.refused: dict[int, tuple[float, int]] = {}
        self._measure = _LIKENESS[likeness]
        self._picks: list[tuple[int, Words]] = []
        self._cut: dict[int, Words] = {}

    def next(self, limit: float, tries: int) -> tuple[float, int] | None:
        """Takes the first of so many draws that passes: its likeness and to which pick; None if none does."""
        for _ in range(min(tries, len(self.waiting))):
            row = self.waiting.popleft()
            words = self._words(row)
            level, near = self._compared(words, limit)
            if near < 0 or level <= limit + _CLOSE:
                self._take(row, words)
                return level, near
            self.refused[row] = level, near
            self.waiting.append(row)
        return None

    def _compared(self, words: Words, limit: float) -> tuple[float, int]:
        """The largest likeness to a pick, and to which; the first above the limit is enough."""
        level, near = -1.0, -1
        for row, pick in reversed(self._picks):
            here = self._measure(words, pick)
            if here > level:
                level, near = here, row
                if level > limit + _CLOSE:
                    break
        return level, near

    def _take(self, row: int, words: Words) -> None:
        self.order.append(row)
        self.refused.pop(row, None)
        if self.compare == "previous":
            self._picks.clear()
        self._picks.append((row, words))

    def _words(self, row: int) -> Words:
        """A text as words, once; the texts that are drawn next are cut with it."""
        if row not in self._cut:
            rows = [row, *islice(self.waiting, AHEAD - 1)]
            cut = tokenize_all(self.texts.gather(rows))
            self._cut = {i: Words(words) for i, words in zip(rows, cut, strict=True)}
        return self._cut.pop(row)


SELECTORS = (
    Selector(
        id="limited_lexical_similarity",
        title="Rows by chance that share few words",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="draw x_i until sim(x_i, x_{i-1}) <= tau, sim = ROUGE-L or BLEU",
        paper="Alcoforado et al. 2024, arXiv 2401.13229",
        meaning="A random choice in which a row does not repeat the words of the one before (or of any before).",
        needs=("texts",),
        params={
            "likeness": "rouge_l",
            "tau": 0.3,
            "compare": "previous",
            "max_tries": 100,
            "relax": 0.1,
            "text": "both",
        },
        select=limited_lexical_similarity,
    ),
)
