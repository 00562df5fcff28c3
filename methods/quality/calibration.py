"""Whether a judge (any indicator) says what people say, and what leads it astray.

Here belong rank correlations with intervals, agreement at thresholds, bias by length, position and source, and the
mapping from the judge's numbers to the people's. What people say comes from `human`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import OK
from methods.quality.agreement import cohen_kappa

LEAST_ROWS = 20
"""With fewer labelled rows nothing is said."""
THRESHOLDS = (0.25, 0.5, 0.75)
FOLDS = 5
MOST_FOR_KENDALL = 500
"""Rows up to which Kendall's tau gets an interval: it compares all pairs."""
TOO_FEW_ROWS, ONE_VALUE = "too_few_rows", "one_value"
_SIGN = {"higher": 1, "lower": -1, "band": 0}

CALIBRATION_SCHEMA = pl.Schema(
    {
        "indicator": pl.String(),
        "dimension": pl.String(),
        "status": pl.String(),
        "n_rows": pl.Int64(),
        "raters_a_row": pl.Float64(),
        **{
            f"{name}{end}": pl.Float64()
            for name in ("spearman", "kendall", "length_bias", "position_bias")
            for end in ("", "_low", "_high")
        },
        **{f"kappa_{round(100 * t)}": pl.Float64() for t in THRESHOLDS},
        "source_share": pl.Float64(),
        "source_most": pl.String(),
        "source_difference": pl.Float64(),
        "error": pl.Float64(),
        "error_of_mean": pl.Float64(),
        "mapping_from": pl.List(pl.Float64()),
        "mapping_to": pl.List(pl.Float64()),
    }
)
"""One line an indicator and human dimension; null where something cannot be told."""


# ---- ranks ---------------------------------------------------------------------------------------------------------


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=-1), dtype=float)


def draws(n: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, n): how often each row is drawn when n of n are drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    weight = np.zeros((resamples, n))
    np.add.at(weight, (np.arange(resamples)[:, None], drawn), 1)
    return weight


def _drawn_ranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean rank of each row in each draw, where it stands as often as it weighs; nothing is sorted again."""
    order = np.argsort(values, kind="stable")
    at, first = np.unique(values[order], return_index=True)
    before = np.concatenate([np.zeros((len(weight), 1)), np.cumsum(weight[:, order], axis=1)], axis=1)
    low, high = before[:, first], before[:, np.append(first[1:], len(values))]
    return ((low + high + 1) / 2)[:, np.searchsorted(at, values)]


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Pearson's, along the last axis, each row as often as it weighs; NaN where either does not vary."""
    w = np.ones_like(a) if weight is None else weight
    total = w.sum(axis=-1, keepdims=True)
    a, b = a - (w * a).sum(axis=-1, keepdims=True) / total, b - (w * b).sum(axis=-1, keepdims=True) / total
    below = np.sqrt((w * a**2).sum(axis=-1) * (w * b**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, (w * a * b).sum(axis=-1) / below, np.nan)


def _partial(a: np.ndarray, b: np.ndarray, given: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Correlation of a and b with what `given` explains of either taken away; NaN where nothing is left."""
    ab, ag, bg = (_correlation(x, y, weight) for x, y in ((a, b), (a, given), (b, given)))
    left = (1 - ag**2) * (1 - bg**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(left > 1e-12, (ab - ag * bg) / np.sqrt(left), np.nan)


@dataclass(frozen=True)
class Told:
    """A number and its interval; None where it cannot be told."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def named(self, name: str) -> dict[str, float | None]:
        """As columns."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def _told(value: float, drawn: np.ndarray, level: float = 0.95) -> Told:
    if not np.isfinite(value):
        return Told(None)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 20:
        return Told(float(value))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Told(float(value), float(low), float(high))


def spearman(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> Told:
    """Rank correlation with its percentile interval; ``weight`` is that of `draws`."""
    whole = _correlation(_ranks(a), _ranks(b))
    return _told(float(whole), _correlation(_drawn_ranks(a, weight), _drawn_ranks(b, weight), weight))


def kendall(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> Told:
    """Kendall's tau-b with its percentile interval: (concordant - discordant) / sqrt(pairs untied in a, in b)."""
    from scipy.stats import kendalltau

    value = float(kendalltau(a, b).statistic)
    n = len(a)
    if n > MOST_FOR_KENDALL or not np.isfinite(value):
        return _told(value, np.empty(0))
    up, right = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    same, in_a, in_b = (((weight @ m) * weight).sum(axis=1) for m in (up * right, np.abs(up), np.abs(right)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return _told(value, same / np.sqrt(in_a * in_b))


def bias(judge: np.ndarray, human: np.ndarray, what: np.ndarray, weight: np.ndarray) -> Told:
    """Whether the judge likes rows for something that people do not like them for, such as their length.

    The partial rank correlation of the judge with ``what``, given what people say. It is also that of the difference
    between judge and people: given the people, the difference varies only with the judge. Above 0: rows with much of it
    are rated higher than people rate them.
    """
    whole = _partial(_ranks(judge), _ranks(what), _ranks(human))
    j, w, h = (_drawn_ranks(values, weight) for values in (judge, what, human))
    return _told(float(whole), _partial(j, w, h, weight))


def bias_by_source(judge: np.ndarray, human: np.ndarray, sources: np.ndarray) -> dict[str, Any]:
    """How much of the difference between judge and people hangs on the source, and on which most.

    ``source_share``: the share of the variance of the judge's rank, given the people's, that lies between sources,
    corrected for their number (about 0 by chance, may be below). ``source_difference``: by how much of all ranks the
    judge prefers the source ``source_most``. Null for a single source.
    """
    names, at = np.unique(sources, return_inverse=True)
    n, k = len(judge), len(names)
    nothing = {"source_share": None, "source_most": None, "source_difference": None}
    if k < 2 or n <= k:
        return nothing
    a, b = _ranks(judge), _ranks(human)
    slope = np.cov(a, b, bias=True)[0, 1] / b.var() if b.var() > 0 else 0.0
    rest = (a - a.mean()) - slope * (b - b.mean())
    if rest.var() <= 1e-12:
        return nothing
    means = np.bincount(at, rest) / np.bincount(at)
    between = float((np.bincount(at) * means**2).sum() / (rest**2).sum())
    most = int(np.argmax(np.abs(means)))
    return {
        "source_share": 1 - (n - 1) / (n - k) * (1 - between),
        "source_most": str(names[most]),
        "source_difference": float(means[most] / n),
    }


# ---- thresholds and mapping ----------------------------------------------------------------------------------------


def kappa_at(judge: np.ndarray, human: np.ndarray, threshold: float) -> float | None:
    """Cohen's kappa between "people say more than the threshold" and as many rows that the judge likes best.

    The judge's own threshold follows from the share alone, ties included; no scale needs to be shared. None where
    people put all rows on one side.
    """
    good = human > threshold
    if not good.any() or good.all():
        return None
    cut = np.sort(judge)[len(judge) - int(good.sum())]
    return cohen_kappa(good.astype(float), (judge >= cut).astype(float), None, np.array([0.0, 1.0])).value


def isotonic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The non-decreasing function of x nearest to y by least squares, as its values at the distinct x.

    Pool adjacent violators: equal x are averaged first; between two x the function is a straight line, outside it is
    level (`np.interp`).
    """
    at, where = np.unique(x, return_inverse=True)
    weight = np.bincount(where).astype(float)
    blocks: list[list[float]] = []  # mean, weight, how many x
    for mean, mass in zip(np.bincount(where, y) / weight, weight, strict=True):
        blocks.append([float(mean), float(mass), 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            last = blocks.pop()
            first = blocks[-1]
            both = first[1] + last[1]
            blocks[-1] = [(first[0] * first[1] + last[0] * last[1]) / both, both, first[2] + last[2]]
    return at, np.repeat([block[0] for block in blocks], [int(block[2]) for block in blocks])


def _towards(judge: np.ndarray, human: np.ndarray, sign: int) -> int:
    """Which end of the judge people like: as its direction says, or as these rows say where it says nothing."""
    return sign or (-1 if _correlation(_ranks(judge), _ranks(human)) < 0 else 1)


def mapped(judge: np.ndarray, human: np.ndarray, sign: int = 1, seed: int = 0) -> dict[str, Any]:
    """The judge's numbers on the people's scale, and the mean absolute error on rows that the mapping never saw.

    ``error``: over `FOLDS` parts, each mapped by what the others say; ``error_of_mean``: the same where each row is
    given the others' mean. A judge that tells nothing has no smaller error than the mean.
    """
    part = np.random.default_rng(seed).permutation(len(judge)) % FOLDS
    wrong, plain = np.empty(len(judge)), np.empty(len(judge))
    for fold in range(FOLDS):
        out, rest = part == fold, part != fold
        way = _towards(judge[rest], human[rest], sign)
        wrong[out] = np.interp(way * judge[out], *isotonic(way * judge[rest], human[rest])) - human[out]
        plain[out] = human[rest].mean() - human[out]
    way = _towards(judge, human, sign)
    at, to = isotonic(way * judge, human)
    level = np.concatenate([[False], to[:-1] == to[1:], [False]])
    corner = ~(level[:-1] & level[1:])  # between two points of one level a point says nothing
    at, to = at[corner], to[corner]
    order = slice(None, None, way)
    return {
        "error": float(np.abs(wrong).mean()),
        "error_of_mean": float(np.abs(plain).mean()),
        "mapping_from": (way * at)[order].tolist(),
        "mapping_to": to[order].tolist(),
    }


# ---- all of it -----------------------------------------------------------------------------------------------------


def calibrate(
    rows: pl.DataFrame, direction: str = "higher", resamples: int = 300, seed: int = 0, least: int = LEAST_ROWS
) -> dict[str, Any]:
    """Everything that `CALIBRATION_SCHEMA` says of one indicator and one human dimension, but for their names.

    ``rows`` has ``judge`` and ``human`` (higher is better), ``n`` (raters), ``length`` (characters), ``position`` and
    ``source``. Rows where judge or people have no value are left out. The judge is turned round where lower is better;
    one whose direction is a band is correlated as it is.
    """
    both = rows.filter(pl.col("judge").is_finite() & pl.col("human").is_finite())
    n = both.height
    told: dict[str, Any] = {"n_rows": n, "raters_a_row": both["n"].mean()}
    if n < least:
        return {**told, "status": TOO_FEW_ROWS}
    sign = _SIGN[direction]
    raw, human = both["judge"].to_numpy(), both["human"].to_numpy()
    judge = raw * (sign or 1)
    if len(np.unique(judge)) < 2 or len(np.unique(human)) < 2:
        return {**told, "status": ONE_VALUE}
    weight = draws(n, resamples, seed)
    length = np.log1p(both["length"].to_numpy().astype(float))
    position = both["position"].to_numpy().astype(float)
    return {
        **told,
        "status": OK,
        **spearman(judge, human, weight).named("spearman"),
        **kendall(judge, human, weight).named("kendall"),
        **bias(judge, human, length, weight).named("length_bias"),
        **bias(judge, human, position, weight).named("position_bias"),
        **{f"kappa_{round(100 * t)}": kappa_at(judge, human, t) for t in THRESHOLDS},
        **bias_by_source(judge, human, both["source"].to_numpy()),
        **mapped(raw, human, sign, seed),
    }


def calibration_frame(lines: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """`CALIBRATION_SCHEMA` from `calibrate`'s dictionaries with ``indicator`` and ``dimension``."""
    return pl.DataFrame([{**dict.fromkeys(CALIBRATION_SCHEMA), **line} for line in lines], schema=CALIBRATION_SCHEMA)
