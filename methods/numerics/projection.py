"""Vectors in fewer dimensions, and what that does to their distances.

Here belong the projections that are linear (random ones, principal components) and the report on how well distances and
neighbourhoods outlive them. Maps for the eye stand in ``diversity/corpus_map.py``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from methods.numerics.similarity import BLOCK, blocks

Kind = Literal["pca", "gaussian", "sparse"]


def project(vectors: np.ndarray, dimensions: int, kind: Kind = "pca", seed: int = 0) -> np.ndarray:
    """The vectors in ``dimensions`` dimensions.

    Equation: y = R x with R (dimensions, d). ``gaussian``: entries drawn from N(0, 1/dimensions). ``sparse``: entries
    0, but +-sqrt(s / dimensions) with probability 1/(2 s) each, s = sqrt(d). In both E ||y||^2 = ||x||^2; with
    4 ln n / (epsilon^2 / 2 - epsilon^3 / 3) dimensions (Dasgupta and Gupta 2003) the squared distances of n rows likely
    stay within 1 +- epsilon, for ``gaussian`` whatever the vectors are, for ``sparse`` where no few entries hold most
    of a difference (else it strays farther).
    ``pca``: y = A (x - mean), A the directions of greatest variance; distances never grow, and the sum of squared
    distances loses as little as any linear map can.

    Parameters
    ----------
    vectors : (n, d), NaN where a row has none.
    dimensions : at least 1. Of principal components there are at most d, and columns beyond are 0.
    kind : pca follows the data and needs a pass over it; the others are drawn by ``seed`` alone, so that rows that
        come later are projected alike.
    seed : of the random projections.

    Returns
    -------
    (n, dimensions) float64; NaN where a row has no vector.

    Memory: the result, the covariance (pca) and a block.

    Source: Pearson 1901; Johnson and Lindenstrauss 1984; Achlioptas 2003 (JCSS 66); Li, Hastie and Church 2006 (KDD).
    The random matrices are scikit-learn's.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a matrix (rows, dimensions), got shape {vectors.shape}")
    if dimensions < 1:
        raise ValueError(f"dimensions must be at least 1, got {dimensions}")
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    found = np.full((len(vectors), dimensions), np.nan)
    fine = np.isfinite(vectors).all(axis=1)
    if not fine.any() or not vectors.shape[1]:
        return found
    if kind == "pca":
        found[fine] = principal(vectors if fine.all() else vectors[fine], dimensions)
        return found
    matrix = _drawn(vectors.shape[1], dimensions, kind, seed)
    for part in blocks(len(vectors)):
        found[part] = np.asarray((matrix @ np.where(fine[part, None], vectors[part], 0.0).astype(np.float64).T).T)
    found[~fine] = np.nan
    return found


def principal(rows: np.ndarray, dimensions: int) -> np.ndarray:
    """(n, dimensions) float64 principal components of finite rows, the first of greatest variance.

    From the covariance, summed in float64 over blocks. Each axis points to where its largest loading is positive;
    columns beyond the number of dimensions that the rows have are 0.
    """
    found = np.zeros((len(rows), dimensions))
    kept = min(dimensions, rows.shape[1])
    if not len(rows) or not kept:
        return found
    mean = rows.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    for part in blocks(len(rows)):
        centred = rows[part].astype(np.float64) - mean
        scatter += centred.T @ centred
    variance, axes = np.linalg.eigh(scatter)
    axes, variance = axes[:, ::-1][:, :kept], variance[::-1][:kept]
    largest = np.abs(axes).round(9).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(kept)] < 0, -1.0, 1.0)
    axes[:, variance <= 1e-12 * len(rows)] = 0.0  # rounding noise is no direction
    for part in blocks(len(rows)):
        found[part, :kept] = (rows[part].astype(np.float64) - mean) @ axes
    return found


def _drawn(d: int, dimensions: int, kind: Kind, seed: int) -> Any:
    """(dimensions, d): the random matrix, a sparse one where most of it is 0."""
    import warnings

    from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

    model = (GaussianRandomProjection if kind == "gaussian" else SparseRandomProjection)(dimensions, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more dimensions than there were are allowed
        return model.fit(np.zeros((1, d))).components_


@dataclass(frozen=True)
class Distortion:
    """How distances changed. A number is None where there was nothing to measure it on."""

    pairs: int
    """Pairs measured; those of no distance before are left out."""
    mean: float | None
    """Of |d'^2 / d^2 - 1| over the pairs; so are the next two."""
    p95: float | None
    largest: float | None
    rank_correlation: float | None
    """Spearman's, of the distances before and after; None where either are all equal."""
    neighbours_kept: float | None
    """Share of the nearest rows after that were among the nearest before (or tied with the last of them)."""
    k: int
    """So many nearest rows."""

    def as_facts(self) -> dict[str, Any]:
        """By names for a person; only what was measured."""
        names = {
            "mean": "distortion of squared distances, mean",
            "p95": "distortion of squared distances, 95 % below",
            "largest": "distortion of squared distances, largest",
            "rank_correlation": "rank correlation of distances",
            "neighbours_kept": f"share of {self.k} nearest rows kept",
        }
        return {names[key]: value for key, value in asdict(self).items() if key in names and value is not None}


def distortion(
    before: np.ndarray,
    after: np.ndarray,
    pairs: int = 10_000,
    seed: int = 0,
    k: int = 10,
    queries: int = 200,
) -> Distortion:
    """What a projection did to Euclidean distances and to neighbourhoods, on a sample.

    Equation: |d'(i, j)^2 / d(i, j)^2 - 1| over pairs of rows, its mean, 95th percentile (linear) and largest value;
    Spearman's correlation of d and d'; and the mean over rows i of |{j in N'_k(i): d(i, j) <= d_k(i)}| / k, with N'_k
    the k nearest after (ties by lowest index) and d_k the distance to the k-th nearest before.

    Parameters
    ----------
    before, after : (n, d) and (n, d') of the same rows; rows with NaN in either are left out.
    pairs : of two different rows, drawn with replacement by ``seed``; all of them where there are no more.
    k : nearest rows looked at; all others where there are fewer.
    queries : rows drawn by ``seed`` whose neighbours are looked for among all rows.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} rows before and {len(after)} after are not the same rows")
    if min(pairs, k, queries) < 1:
        raise ValueError(f"pairs, k and queries must be at least 1, got {pairs}, {k} and {queries}")
    fine = np.flatnonzero(np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1))
    rng = np.random.default_rng(seed)
    left, right = _pairs(len(fine), pairs, rng)
    old, new = _squared(before, fine[left], fine[right]), _squared(after, fine[left], fine[right])
    apart = old > 1e-12
    old, new = old[apart], new[apart]
    off = np.abs(new / old - 1.0)
    k = min(k, max(0, len(fine) - 1))
    kept = None
    if k:
        asked = fine if len(fine) <= queries else np.sort(rng.choice(fine, size=queries, replace=False))
        kept = _kept(before, after, fine, asked, k)
    some = len(off) > 0
    return Distortion(
        pairs=len(off),
        mean=float(off.mean()) if some else None,
        p95=float(np.quantile(off, 0.95)) if some else None,
        largest=float(off.max()) if some else None,
        rank_correlation=_spearman(old, new),
        neighbours_kept=kept,
        k=k,
    )


def _pairs(n: int, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places of two different rows."""
    if n * (n - 1) // 2 <= most:
        left, right = np.triu_indices(n, 1)
        return left, right
    left = rng.integers(n, size=most)
    return left, (left + 1 + rng.integers(n - 1, size=most)) % n


def _squared(rows: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distances of pairs, from differences: exact for equal rows."""
    found = np.empty(len(left))
    for part in blocks(len(left)):
        apart = rows[left[part]].astype(np.float64) - rows[right[part]]
        found[part] = np.einsum("ij,ij->i", apart, apart)
    return found


def _spearman(old: np.ndarray, new: np.ndarray) -> float | None:
    if len(old) < 2 or np.ptp(old) == 0 or np.ptp(new) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(old, new).statistic)


def _kept(before: np.ndarray, after: np.ndarray, fine: np.ndarray, asked: np.ndarray, k: int) -> float:
    """Share of the k nearest after that are as near as the k-th nearest before."""
    share = []
    for part in blocks(len(asked), max(1, BLOCK * BLOCK // len(fine))):
        old, new = _distances(before, asked[part], fine), _distances(after, asked[part], fine)
        itself = np.searchsorted(fine, asked[part])
        here = np.arange(len(itself))
        old[here, itself] = new[here, itself] = np.inf
        last = np.partition(old, k - 1, axis=1)[:, k - 1]
        near = np.argsort(new.round(12), axis=1, kind="stable")[:, :k]
        share.append((np.take_along_axis(old, near, axis=1) <= last[:, None] + 1e-9).mean(axis=1))
    return float(np.concatenate(share).mean())


def _distances(rows: np.ndarray, queries: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(queries, among) squared distances, from products."""
    left = rows[queries].astype(np.float64)
    found = np.empty((len(queries), len(among)))
    for part in blocks(len(among)):
        right = rows[among[part]].astype(np.float64)
        found[:, part] = np.einsum("ij,ij->i", right, right)
        found[:, part] -= 2 * left @ right.T
    found += np.einsum("ij,ij->i", left, left)[:, None]
    return np.maximum(found, 0.0, out=found)
