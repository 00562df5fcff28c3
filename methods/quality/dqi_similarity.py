"""The passes over cosines of DQI's components 3, 4, 5 and 7, in blocks: no matrix of all pairs is ever kept.

Here belongs what turns texts and unit vectors into the counts, sums and largest values that the formulas in ``dqi.py``
read. Cosines of sentences are those of ``numerics.similarity``: exact multiples of 2^-20 (about 1e-6), the same for
every block size and machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from methods.kinds import Encode
from methods.numerics.similarity import BLOCK, QUANTUM, blocks, on_grid, units, usable_rows

EQUAL = 1e-6
"""float32 vectors tell cosines apart to about this: a smaller distance from WSIML is none."""
TOKENS_AT_A_TIME = 16_384
"""Word vectors gathered at a time: 25 MB at 384 dimensions."""


def filled(texts: pl.DataFrame, field: str) -> list[str]:
    """The prompts or the responses, a missing one as an empty text."""
    return texts[field].cast(pl.String).fill_null("").to_list()


def sentences(texts: pl.DataFrame) -> list[str]:
    """The prompts and responses that are not blank, row after row."""
    pairs = zip(filled(texts, "prompt"), filled(texts, "response"), strict=True)
    return [text for pair in pairs for text in pair if text.strip()]


def sampled(n: int, most: int, seed: int) -> np.ndarray:
    """Ascending indices of all n things, or of a sample of ``most`` of them where there are more."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=most, replace=False))


def encoded(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """The vectors of those texts that have one."""
    if not texts:
        return np.empty((0, 1), dtype=np.float32)
    vectors = encode(texts)
    return vectors[usable_rows(vectors)]


# --- c3 --------------------------------------------------------------------------------------------------------------
def unlike_counts(vectors: np.ndarray, limits: Sequence[float], block: int = BLOCK) -> np.ndarray:
    """#{m != l: sim_lm < limit} of every row l and limit, (limits, n) int64; each pair is compared once.

    A cosine that is equal to the limit (to 2^-20) does not count.
    """
    n = len(vectors)
    found = np.zeros((len(limits), n), dtype=np.int64)
    bars = [np.rint(limit / QUANTUM) for limit in limits]
    for left in blocks(n, block):
        here = on_grid(vectors[left])
        for right in blocks(n, block):
            if right.start < left.start:
                continue
            level = units(here, here if right == left else on_grid(vectors[right]))
            for count, bar in zip(found, bars, strict=True):
                below = level < bar
                if right == left:
                    np.fill_diagonal(below, False)
                    count[left] += below.sum(axis=1)
                else:
                    count[left] += below.sum(axis=1)
                    count[right] += below.sum(axis=0)
    return found


def nearest_shortfalls(vectors: np.ndarray, shares: Sequence[float], siml: float, block: int = 256) -> list[float]:
    """For each share a: sum_l sum of (SIML - sim) over those of l's a * n nearest rows (at least 1) with sim < SIML."""
    n = len(vectors)
    ks = [min(n - 1, max(1, int(share * n + 1e-9))) for share in shares]
    found = np.zeros(len(shares))
    if n < 2 or not ks:
        return found.tolist()
    grid, bar = on_grid(vectors), siml / QUANTUM
    for part in blocks(n, block):
        short = bar - units(grid[part], grid)  # whole units; the nearest rows have the least
        short[np.arange(len(short)), np.arange(part.start, part.stop)] = np.inf  # a row is not its own neighbour
        short.partition(sorted({k - 1 for k in ks}), axis=1)
        for i, k in enumerate(ks):
            found[i] += np.maximum(short[:, :k], 0).sum()
    return (found * QUANTUM).tolist()


# --- c4 --------------------------------------------------------------------------------------------------------------
def word_values(code: np.ndarray, length: np.ndarray, vectors: np.ndarray, wsiml: float) -> np.ndarray:
    """1/sum_i |m_i - WSIML| of every sentence, m_i = (sum_{j != i} sim(w_i, w_j))/L; NaN where the sum is 0.

    Parameters
    ----------
    code : (tokens,) which word type stands at each place, sentence after sentence.
    length : (n_s,) words of each sentence.
    vectors : (types, d) float32; words whose vector has a NaN are left out of their sentence.

    Since sum_j sim(w_i, w_j) = w_i . sum_j w_j, a sentence of L words costs L products and not L^2.
    """
    has = np.isfinite(vectors).all(axis=1)
    sentence = np.repeat(np.arange(len(length)), length)
    kept = has[code] if len(code) else np.empty(0, dtype=bool)
    code, sentence = code[kept], sentence[kept]
    size = np.bincount(sentence, minlength=len(length))
    starts = np.concatenate(([0], np.cumsum(size)))
    away = np.zeros(len(length))
    first = 0
    while first < len(length):
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + TOKENS_AT_A_TIME, side="right")) - 1)
        part = slice(starts[first], starts[last])
        away[first:last] = _words_away(vectors[code[part]], sentence[part] - first, size[first:last], wsiml)
        first = last
    with np.errstate(divide="ignore"):
        return np.where(away > EQUAL, 1.0 / away, np.nan)


def _words_away(words: np.ndarray, sentence: np.ndarray, size: np.ndarray, wsiml: float) -> np.ndarray:
    """sum_i |m_i - WSIML| of the sentences of a block from the vectors of their words."""
    filled = np.flatnonzero(size)
    if not len(filled):
        return np.zeros(len(size))
    words = words.astype(np.float64)
    starts = np.concatenate(([0], np.cumsum(size)[:-1]))
    sums = np.zeros((len(size), words.shape[1]))
    sums[filled] = np.add.reduceat(words, starts[filled], axis=0)
    among = np.einsum("ij,ij->i", words, sums[sentence]) - np.einsum("ij,ij->i", words, words)
    return np.bincount(sentence, weights=np.abs(among / size[sentence] - wsiml), minlength=len(size))


# --- c5 --------------------------------------------------------------------------------------------------------------
def pair_cosines(left: np.ndarray, right: np.ndarray, block: int = 16_384) -> np.ndarray:
    """Cosine of each row of ``left`` with the row of ``right`` at the same place; NaN where either has no vector."""
    found = np.full(len(left), np.nan)
    for part in blocks(len(left), block):
        level = np.einsum("ij,ij->i", on_grid(left[part]), on_grid(right[part]))
        found[part] = np.clip(np.rint(level / QUANTUM) * QUANTUM, -1.0, 1.0)
    return found


# --- c7 --------------------------------------------------------------------------------------------------------------
def largest_cosines(left: np.ndarray, right: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """For each row of ``left``, its largest cosine with a row of ``right``; both finite, ``right`` not empty."""
    found = np.full(len(left), -np.inf)
    for across in blocks(len(right), block):
        there = on_grid(right[across])
        for part in blocks(len(left), block):
            np.maximum(found[part], units(on_grid(left[part]), there).max(axis=1), out=found[part])
    return found * QUANTUM
