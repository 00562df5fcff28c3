"""The Vendi scores (survey 4.1, Eq. 35): how many wholly different rows a set is worth, from 1 to N.

Here belong the spectra of the two kernels (cosine; radial, exactly and in two approximations) and the scores read off
them. Everything is float64, summed in blocks, and nothing is N x N beyond a size that the caller names. The other
measures of vectors are in `methods.diversity.measures`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from methods.diversity.geometry import ROWS_AT_A_TIME
from methods.diversity.measures import drawn, embedded, entropy_order, missing, set_measure
from methods.kinds import Subset
from methods.numerics.similarity import blocks

_NOISE = 1e-10
"""Eigenvalues at or below this are rounding; they would inflate the score of orders under 1."""
_BANDWIDTH_ROWS = 1000
"""The median distance is that of the pairs of this many rows."""

Features = Callable[[np.ndarray], np.ndarray]
"""Rows (b, d) to features (b, m) whose products are (nearly) the kernel's values."""


def vendi(
    subset: Subset,
    order: float | str = 1.0,
    kernel: str = "cosine",
    bandwidth: float | None = None,
    method: str = "nystroem",
    exact_up_to: int = 2000,
    components: int = 2048,
    seed: int = 0,
) -> float | None:
    """Vendi score: how many wholly different rows the set is worth, from 1 to N.

    Equation: lambda = eigenvalues of K/N; exp(ln(sum lambda^q)/(1-q)), for q = 1 the exponential of their entropy, for
    q = inf 1/max lambda (Eq. 35). K = [[1, .5], [.5, 1]] gives 1.866025 (q = .5), 1.754765, 1.6 (q = 2), 1.333333
    (inf). K_ij = x_i . x_j (`cosine`) or exp(-||x_i - x_j||^2/(2 sigma^2)) (`rbf`; .606531 at distance 1 and sigma 1).

    Shapes: vectors (N, d). With the cosine, the d x d matrix X'X/N has the same nonzero eigenvalues and is summed in
    blocks: exact, and no N x N matrix is made. The radial kernel has full rank: beyond `exact_up_to` rows it is
    approximated by features Z of m = `components` columns, and the m x m matrix Z'Z/N takes the place of X'X/N.

    Parameters: `order` is q; under 1 rare directions weigh more, over 1 less; `"inf"` is allowed. `kernel` is `cosine`
    or `rbf`. The others concern `rbf` alone: `bandwidth` is sigma, 1 in the survey; without it, the median distance of
    pairs among 1000 rows drawn by `seed` (equal pairs not counted). Up to `exact_up_to` rows the N x N matrix is used;
    beyond, `method` is `nystroem` (`components` of the rows as landmarks, drawn by `seed`; the mass that they do not
    explain is spread evenly over the N - m eigenvalues that they leave open) or `features` (random Fourier features,
    half of `components` cosines and half sines, drawn by `seed`).

    Orders up to 1 listen to the long tail, which both approximations must guess: there `nystroem` comes out too high
    and `features` too low, and the truth lies between. With one landmark to twelve rows of 384 dimensions order 1 was
    30 to 50 % too high, with one to three 6 to 13 %, and order 2 within 1.5 %. Compare such scores only at equal N and
    `components`, or raise `exact_up_to` (8 N^2 bytes, and some times that at work).

    Undefined: without a row that has an embedding; the others are left out.

    Source: Friedman and Dieng 2023 (arXiv 2210.02410); orders Pasarkar and Dieng 2023 (arXiv 2310.12952); Williams and
    Seeger 2001 (Nystroem); Rahimi and Recht 2007 (Fourier features).

    Departures: the survey prints exp with log2, which is wrong for every q but 1, and a radial kernel without a
    bandwidth. Eigenvalues up to 1e-10 are noise.
    """
    vectors, rows = embedded(subset)
    q = entropy_order("order", order)
    if kernel not in ("cosine", "rbf"):
        raise ValueError(f"kernel must be 'cosine' or 'rbf', not {kernel!r}")
    if method not in ("nystroem", "features"):
        raise ValueError(f"method must be 'nystroem' or 'features', not {method!r}")
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth must be above 0, got {bandwidth}")
    if components < 2:
        raise ValueError(f"components must be at least 2, got {components}")
    if not len(rows):
        return None
    if kernel == "cosine":
        return _effective_number(_cosine_spectrum(vectors, rows), q)
    sigma = _median_distance(subset, vectors, rows, seed) if bandwidth is None else float(bandwidth)
    if len(rows) <= exact_up_to:
        points = vectors[rows].astype(np.float64)
        return _effective_number(np.linalg.eigvalsh(_rbf(points, points, sigma) / len(rows)), q)
    if method == "features":
        return _effective_number(_dual_spectrum(vectors, rows, _fourier(vectors.shape[1], components, sigma, seed)), q)
    landmarks = drawn(subset, rows, components, seed)
    values = _dual_spectrum(vectors, rows, _nystroem(vectors[landmarks].astype(np.float64), sigma))
    return _effective_number(_with_tail(values, len(rows) - len(landmarks)), q)


def quality_weighted_vendi(
    subset: Subset,
    order: float | str = 1.0,
    kernel: str = "cosine",
    bandwidth: float | None = None,
    method: str = "nystroem",
    exact_up_to: int = 2000,
    components: int = 2048,
    seed: int = 0,
) -> float | None:
    """Vendi score times the mean quality of the rows: how many wholly different and good rows the set is worth.

    Equation: (sum_i s_i / N) VS_q(S). Two rows of quality .3 and .7 whose cosine is .5 give .5 x 1.754765 = .877383.

    Parameters: `order`, `kernel`, `bandwidth`, `method`, `exact_up_to`, `components` and `seed` as for `vendi`.

    Undefined: without a row that has both an embedding and a quality; the others are left out.

    Source: Nguyen and Dieng 2024 (arXiv 2405.02449).

    Departures: a negative quality is an error, because a product with it would reward likeness.
    """
    if subset.quality is None:
        raise missing("quality")
    _, rows = embedded(subset)
    rows = rows[~np.isnan(subset.quality[rows])]
    if not len(rows):
        return None
    quality = subset.quality[rows]
    if (quality < 0).any():
        raise ValueError(
            f"quality must not be negative, and the least is {quality.min():.4g}: shift it (subtract the least of the "
            "pool) or scale it to [0, 1] first"
        )
    assert subset.vectors is not None
    scored = np.full(len(subset.vectors), False)
    scored[rows] = True
    only = Subset(subset.row_ids.filter(scored), subset.vectors if scored.all() else subset.vectors[scored])
    worth = vendi(only, order, kernel, bandwidth, method, exact_up_to, components, seed)
    return None if worth is None else float(quality.mean()) * worth


# --- spectra ---------------------------------------------------------------------------------------------------------
def _effective_number(values: np.ndarray, q: float) -> float | None:
    values = values[values > _NOISE]
    if not len(values):
        return None
    if math.isinf(q):
        return float(1.0 / values.max())
    if q == 1.0:
        return float(np.exp(-(values * np.log(values)).sum()))
    return float(np.exp(np.log((values**q).sum()) / (1.0 - q)))


def _cosine_spectrum(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if len(rows) < vectors.shape[1]:
        points = vectors[rows].astype(np.float64)
        return np.linalg.eigvalsh(points @ points.T / len(rows))
    return _dual_spectrum(vectors, rows, lambda points: points)


def _dual_spectrum(vectors: np.ndarray, rows: np.ndarray, features: Features) -> np.ndarray:
    """Eigenvalues of Z'Z/N, Z the features of the rows, summed in blocks."""
    gram = np.zeros((0, 0))
    for part in blocks(len(rows), ROWS_AT_A_TIME):
        block = features(vectors[rows[part]].astype(np.float64))
        gram = block.T @ block if not gram.size else gram + block.T @ block
    return np.linalg.eigvalsh(gram / len(rows))


def _squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    found = left @ right.T
    found *= -2.0
    found += np.einsum("ij,ij->i", left, left)[:, None]
    found += np.einsum("ij,ij->i", right, right)
    return np.maximum(found, 0.0, out=found)


def _rbf(left: np.ndarray, right: np.ndarray, sigma: float) -> np.ndarray:
    found = _squared_distances(left, right)
    found /= -2.0 * sigma**2
    return np.exp(found, out=found)


def _median_distance(subset: Subset, vectors: np.ndarray, rows: np.ndarray, seed: int) -> float:
    """The median distance between two rows that differ; 1 where none do."""
    points = vectors[drawn(subset, rows, _BANDWIDTH_ROWS, seed)].astype(np.float64)
    squared = _squared_distances(points, points)[np.triu_indices(len(points), 1)]
    squared = squared[squared > 1e-12]
    return float(np.sqrt(np.median(squared))) if len(squared) else 1.0


def _nystroem(landmarks: np.ndarray, sigma: float) -> Features:
    """k(x, L) K_LL^(-1/2): products are the projection of the kernel on the landmarks."""
    values, axes = np.linalg.eigh(_rbf(landmarks, landmarks, sigma))
    some = values > _NOISE * values[-1]
    basis = axes[:, some] / np.sqrt(values[some])
    return lambda points: _rbf(points, landmarks, sigma) @ basis


def _with_tail(values: np.ndarray, places: int) -> np.ndarray:
    """The mass that is missing to 1, spread evenly over so many further eigenvalues.

    What landmarks leave of K has a trace of N minus theirs and a rank of at most N minus their number. Left out, it
    would make a set of many rows look poorer the fewer landmarks there are.
    """
    missing_mass = 1.0 - values.sum()
    if places < 1 or missing_mass <= _NOISE:
        return values
    return np.concatenate([values, np.full(places, missing_mass / places)])


def _fourier(width: int, components: int, sigma: float, seed: int) -> Features:
    """cos(w x) and sin(w x) for random w: products are the kernel on average."""
    waves = np.random.default_rng(seed).normal(size=(width, components // 2)) / sigma

    def features(points: np.ndarray) -> np.ndarray:
        phase = points @ waves
        return np.hstack([np.cos(phase), np.sin(phase)]) / math.sqrt(waves.shape[1])

    return features


_PARAMS: dict[str, Any] = {
    "order": 1.0,
    "kernel": "cosine",
    "bandwidth": None,
    "method": "nystroem",
    "exact_up_to": 2000,
    "components": 2048,
    "seed": 0,
}

MEASURES = (
    set_measure(
        "vendi",
        "Vendi score",
        "4.1",
        r"\exp\left(\frac{1}{1-q} \ln \sum_i \lambda_i^q\right)",
        "Friedman and Dieng 2023, arXiv 2210.02410; Pasarkar and Dieng 2023, arXiv 2310.12952",
        "How many wholly different rows the set is worth: 1 when all are the same, N when none resembles another.",
        ("vectors",),
        vendi,
        **_PARAMS,
    ),
    set_measure(
        "quality_weighted_vendi",
        "Quality-weighted Vendi score",
        "4.1",
        r"\left(\frac{1}{N} \sum_i s_i\right) \mathrm{VS}_q(S)",
        "Nguyen and Dieng 2024, arXiv 2405.02449",
        "How many wholly different rows the set is worth, each counted by how good rows are on average: high only for "
        "sets that are both varied and good.",
        ("vectors", "quality"),
        quality_weighted_vendi,
        **_PARAMS,
    ),
)
