"""The formulas of the seven components of the Data Quality Index (DQI), on plain arrays.

Here belong the equations alone: numbers in, named terms out. Where the numbers come from stands beside it: word counts
in ``dqi_counts.py``, cosines in ``dqi_similarity.py``; the measures of a set in ``dqi_measures.py`` and the scores of
single rows in ``dqi_rows.py``.

DQI was written for pairs of premise and hypothesis with a label. Here the premise is the prompt, the hypothesis the
response, and a *sentence* is either of them (blank ones are left out), so that N rows have at most 2N sentences. A
higher DQI means fewer of the patterns by which a model can guess without understanding. The published code prints
terms; how they add up to one number is remembered from the paper and not verified, so that every component gives its
terms by name beside ``combined``. Standard deviations have ddof 1. A term whose denominator is 0 is None, never 0 and
never infinite, and is left out of sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Terms = dict[str, float | None]
"""Named terms of a component; ``combined`` among them."""

Pair = tuple[float | None, float | None]
"""T1 and T2 of one granularity."""

SOURCE = "Mishra et al. 2020, DQI, arXiv 2005.00816 and 2008.03964"

_ROUNDING = 1e-9


def over(numerator: float, denominator: float | None) -> float | None:
    """The quotient; None where the denominator is unknown or 0, or either is not finite."""
    if denominator is None or denominator == 0 or not math.isfinite(denominator) or not math.isfinite(numerator):
        return None
    return numerator / denominator


def total(values: Iterable[float | None]) -> float | None:
    """The sum of the values that are known, in whatever order; None where none is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None


def spread(values: np.ndarray, ddof: int = 1) -> float | None:
    """The standard deviation; None under ``ddof + 1`` values."""
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=ddof)) if len(values) > ddof else None


def spread_of_sums(n: int, total: int, squares: int, ddof: int = 1) -> float | None:
    """The standard deviation of n whole numbers from their sum and the sum of their squares, without rounding."""
    if n <= ddof:
        return None
    return math.sqrt((n * squares - total * total) / (n * (n - ddof)))


def sign_above(z: np.ndarray) -> np.ndarray:
    """+1 where z > 0, else -1: the published code's sign, for which 0 is negative."""
    return np.where(z > 0, 1, -1)


def sign_from(z: np.ndarray) -> np.ndarray:
    """+1 where z >= 0 (but for rounding), else -1: the sign of the n-gram bands, for which 0 is positive."""
    return np.where(z >= -_ROUNDING, 1, -1)


# --- c1 --------------------------------------------------------------------------------------------------------------
def vocabulary_terms(n_lemmas: int, n_rows: int, lengths: np.ndarray, a: float = 3, b: float = 30) -> Terms:
    """V/N + sigma(len) * mean_s sgn+((len_s - a)(b - len_s)); lengths of the sentences in words."""
    lengths = np.asarray(lengths, dtype=np.float64)
    per_row = over(n_lemmas, n_rows)
    sigma = spread(lengths)
    balance = float(sign_above((lengths - a) * (b - lengths)).mean()) if len(lengths) else None
    whole = None if per_row is None or sigma is None or balance is None else per_row + sigma * balance
    return {"lemmas_per_row": per_row, "length_spread": sigma, "length_balance": balance, "combined": whole}


# --- c2, c6 ----------------------------------------------------------------------------------------------------------
def band_signs(counts: np.ndarray, share: float | None, c: float, n: float | None = None) -> np.ndarray:
    """+1 for the types whose count lies between c and d = share * (sum of the counts, or n), else -1.

    A ``share`` of None is the rule for sentences: sgn+(2 - count), so that whatever occurs twice is negative.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if share is None:
        return sign_above(2 - counts)
    d = share * (float(counts.sum()) if n is None else n)
    return sign_from((d - counts) * (counts - c))


def combine_bands(terms: Mapping[str, Pair]) -> float | None:
    """The sum of T1 * T2 over the granularities that have both."""
    return total(t1 * t2 for t1, t2 in terms.values() if t1 is not None and t2 is not None)


# --- c3 --------------------------------------------------------------------------------------------------------------
def unlike_term(counts: np.ndarray) -> float | None:
    """T1 = n_s/(sigma_l(counts) + 1), counts = #{m != l: sim_lm < SIML} of every sentence l."""
    sigma = spread(counts)
    return None if sigma is None else len(counts) / (sigma + 1)


def shortfall_term(n: int, shortfall: float) -> float | None:
    """T2 = n_s/(1 + the summed |sim - SIML| of the nearest ones that are less alike than SIML)."""
    return n / (1 + shortfall) if n > 1 else None


# --- c4 --------------------------------------------------------------------------------------------------------------
def word_similarity_terms(values: Sequence[float | None]) -> Terms:
    """n_s/sum_s v_s with v_s = n_s * ``values``, each 1/sum_i |m_i - WSIML| of a sentence; None is left out."""
    known = [value for value in values if value is not None]
    n = len(known)
    mean = math.fsum(known) if n else None  # (1/n) sum_s v_s = sum_s of the values without the factor n
    return {"sentences": float(n), "mean_v": mean, "combined": over(1.0, mean)}


# --- c5 --------------------------------------------------------------------------------------------------------------
def pair_terms(similarity: np.ndarray, length_gap: np.ndarray, siml: float = 0.5) -> Terms:
    """N/sum_i |sim_i - SIML| and the three terms of lengths and spread; ``combined`` is the first alone."""
    n = len(similarity)
    away = math.fsum(np.abs(np.asarray(similarity, dtype=np.float64) - siml).tolist())
    sigma_gap, sigma_similarity = spread(length_gap), spread(similarity)
    main = over(float(n), away) if n else None
    return {
        "similarity": main,
        "length": n / (1 + float(np.sum(length_gap))) if n else None,
        "length_spread": None if sigma_gap is None else sigma_gap / n,
        "similarity_spread": None if sigma_similarity is None else sigma_similarity / n,
        "combined": main,
    }


# --- c7 --------------------------------------------------------------------------------------------------------------
def split_term(largest: np.ndarray, siml: float) -> float | None:
    """1/mean_i |max_{j in train} sim(test_i, j) - SIML|."""
    if not len(largest):
        return None
    return over(1.0, float(np.abs(np.asarray(largest, dtype=np.float64) - siml).mean()))
