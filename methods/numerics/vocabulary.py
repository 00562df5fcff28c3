"""Compiled: what a row of scores over a vocabulary says of its label, in one pass over the row.

Here belongs the arithmetic for a CPU, where a row of some 50,000 scores should be read once and nothing as large as it
written. The same numbers by torch, for other devices, are in `resources.token_pass`, the only reader of this module.
Importing it imports the compiler; the compiled code is kept beside it.

The exponential is a polynomial in single precision (relative error under 2e-7), which the compiler spreads over the
processor's lanes; a library call for each score would take most of the time. Sums are kept relative to the largest
score so far, and brought down when a larger one comes.
"""

from __future__ import annotations

import numba
import numpy as np

NUMBERS = ("logp", "entropy", "sum_p2", "top1", "top2", "hit")
"""The columns of the result: ln p of the label, entropy in nats, the sum of p^2, the two largest p, whether the label
has the largest."""

_LANE = 512
_FAST = {"nnan", "nsz", "reassoc", "contract", "arcp", "afn"}
"""What the compiler may take for granted; not that numbers are finite, since a model may forbid a token by -inf."""
_LOG2E, _LOWEST = np.float32(1.4426950408889634), np.float32(-126.0)
_NONE = np.float32(-3e38)
# 2^f on [-1/2, 1/2]: the Taylor polynomial of degree 6.
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(c)
    for c in (
        1.0,
        0.6931471805599453,
        0.2402265069591007,
        0.05550410866482158,
        0.009618129107628477,
        0.0013333558146428443,
        0.00015403530393381608,
    )
)


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _read(bits_in: np.ndarray, shift: int, bits: np.ndarray) -> None:
    for i in range(len(bits_in)):
        bits[i] = np.int32(bits_in[i]) << np.int32(shift)


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _above(score: np.ndarray, bound: np.float32) -> np.int32:
    """How many scores are above the bound: a count spreads over the lanes, a search for the largest does not."""
    count = np.int32(0)
    for i in range(len(score)):
        count += np.int32(score[i] > bound)
    return count


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _raise(score: np.ndarray, top: np.float32, power: np.ndarray, part: np.ndarray) -> None:
    """e to the power of (score - top), in two factors: ``part``, and the bits of a power of two."""
    for i in range(len(score)):
        x = (score[i] - top) * _LOG2E
        x = x if x > _LOWEST else _LOWEST
        whole = np.int32(x - np.float32(0.5))  # the nearest, for numbers that are never above 0
        f = x - np.float32(whole)
        power[i] = (whole + np.int32(127)) << np.int32(23)
        part[i] = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6)))))


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _sums(score: np.ndarray, top: np.float32, weight: np.ndarray, part: np.ndarray) -> tuple:
    some, twice, mean = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for i in range(len(score)):
        p = part[i] * weight[i]
        away = score[i] - top
        some += p
        twice += p * p
        mean += p * (away if away > _NONE else np.float32(0.0))
    return some, twice, mean


@numba.njit(cache=True, nogil=True)
def statistics(scores: np.ndarray, shift: int, labels: np.ndarray, found: np.ndarray) -> None:
    """Fill ``found`` (n, len(NUMBERS)) float64 from scores (n, vocabulary) and labels (n,) int64.

    Scores come as their bits: float32 as int32 with shift 0, bfloat16 (the upper half of a float32) as uint16 with
    shift 16. A label that shares the largest score with another token is a hit too.
    """
    n, width = scores.shape
    bits, power = np.empty(_LANE, dtype=np.int32), np.empty(_LANE, dtype=np.int32)
    score, weight = bits.view(np.float32), power.view(np.float32)
    part = np.empty(_LANE, dtype=np.float32)
    for r in range(n):
        first, second = _NONE, _NONE
        total, squares, expected = 0.0, 0.0, 0.0
        for start in range(0, width, _LANE):
            size = min(_LANE, width - start)
            _read(scores[r, start : start + size], shift, bits[:size])
            if _above(score[:size], second):  # seldom: the two largest of the row are sought here alone
                for i in range(size):
                    if score[i] > first:
                        down = np.float64(first) - np.float64(score[i])
                        shrink = np.exp(down)
                        expected = (expected + total * down) * shrink if total > 0.0 else 0.0
                        squares *= shrink * shrink
                        total *= shrink
                        first, second = score[i], first
                    elif score[i] > second:
                        second = score[i]
            _raise(score[:size], first, power[:size], part[:size])
            some, twice, mean = _sums(score[:size], first, weight[:size], part[:size])
            total += some
            squares += twice
            expected += mean
        bits[0] = np.int32(scores[r, labels[r]]) << np.int32(shift)
        label = np.float64(score[0]) - np.float64(first)
        found[r, 0] = label - np.log(total)
        found[r, 1] = max(np.log(total) - expected / total, 0.0)
        found[r, 2] = squares / (total * total)
        found[r, 3] = 1.0 / total
        found[r, 4] = np.exp(np.float64(second) - np.float64(first)) / total
        found[r, 5] = 1.0 if label == 0.0 else 0.0
