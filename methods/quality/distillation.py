"""A judge's score learned by a small local model, so that rows are scored that nobody judged.

Here belong the fit on embeddings, how well it does on rows that it has not seen beside the length of the answer alone,
the refusal to use it where that is not well enough, and the indicator that reads what it said. Which score is learned,
and where the vectors come from, is said by the asset.

Whatever is said of a fit is measured out of fold: rows that share a question are in one fold, and each is predicted by
a model that saw no row of its fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, Pool, statused

KINDS = ("ridge", "ordinal")
LEAST_ROWS = 30
"""With fewer judged rows nothing is fitted."""
MOST_STEPS = 12
"""Values that an ordinal score may have."""
PENALTIES = tuple(float(10**at) for at in np.arange(0.0, 5.01, 0.5))
STRENGTHS = (1e-3, 1e-2, 1e-1)
RESAMPLES = 500
TOO_WEAK, FROM_ANOTHER, NO_EMBEDDING = "distilled_too_weak", "distilled_from_another", "no_embedding"
DISTILLED_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {"row_id": pl.String, "status": pl.String, "predicted": pl.Float64, "of": pl.String, "correlation": pl.Float64}
)
"""One line a row. ``of`` names the score that was learned and ``correlation`` is the fit's held-out rank correlation;
both are the same in all lines."""


@dataclass(frozen=True)
class Distilled:
    """A fit on the judged rows, and what it says of all."""

    predicted: np.ndarray
    """(n,) float64, in the judge's unit; NaN where there is no vector."""
    learned_from: int
    report: pl.DataFrame
    """``from``, ``spearman``, ``low``, ``high`` (95 %): `length` (whichever sign goes with the score), `embedding`,
    `embedding and length`; null where a rank correlation is not defined."""
    features: str
    """Which line of the report is the model in use."""
    ahead: tuple[float, float, float] | None
    """By how much its rank correlation is above that of the length, with the interval."""

    @property
    def correlation(self) -> float | None:
        """The held-out rank correlation of the model in use."""
        return self.report.filter(pl.col("from") == self.features)["spearman"].item()

    @property
    def beats_length(self) -> bool:
        """The whole interval is above what the length alone does."""
        return self.ahead is not None and self.ahead[1] > 0

    def usable(self, minimum: float) -> bool:
        """Whether its numbers may be used."""
        return usable(self.correlation, minimum)

    def verdict(self, minimum: float) -> str:
        """In words, for a person."""
        rho, low, high = self.report.filter(pl.col("from") == self.features).select("spearman", "low", "high").row(0)
        (length,) = self.report.filter(pl.col("from") == "length")["spearman"].to_list()
        if rho is None:
            return f"Nothing was learned from {self.learned_from} rows: the score, or what is predicted, is one value."
        alone = "not defined" if length is None else f"{length:.2f}"
        text = (
            f"Rank correlation {rho:.2f} with the score on rows that it has not seen (95 % interval {low:.2f} to "
            f"{high:.2f}, {self.learned_from} judged rows); the length of the answer alone: {alone}."
        )
        if not self.usable(minimum):
            return f"{text} That is below {minimum:g}: it is not used."
        return text if self.beats_length else f"{text} It is not shown to be better than looking at the length."


def usable(correlation: float | None, minimum: float) -> bool:
    """A fit without a held-out rank correlation is as little used as one with too small a one."""
    return correlation is not None and correlation >= minimum


def distil(
    vectors: np.ndarray,
    characters: np.ndarray,
    target: np.ndarray,
    groups: Sequence[str],
    kind: str = "ridge",
    with_length: bool = False,
    folds: int = 5,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Distilled:
    """Learn ``target`` (NaN where a row was not judged) from ``vectors`` and ``characters`` of the answer.

    ``ridge`` is least squares with a penalty on squared weights, chosen by the leave-one-out error among the training
    rows. ``ordinal`` is one logistic regression a step of the scale, P(y > k), and the expected score (Frank and Hall
    2001). Features are standardised; the length is ln(1 + characters). ``groups`` share a fold (rows of a question).
    Raises `ValueError` where there are too few judged rows, or too many steps.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    here = np.isfinite(vectors).all(axis=1)
    judged = np.flatnonzero(here & np.isfinite(target))
    mine = [groups[i] for i in judged.tolist()]
    if len(judged) < LEAST_ROWS or len(set(mine)) < folds:
        raise ValueError(
            f"{len(judged)} rows with a vector have a score; at least {LEAST_ROWS}, of {folds} questions, are needed"
        )
    y, length = target[judged].astype(np.float64), np.log1p(characters.astype(np.float64))[:, None]
    of = folded(mine, folds, seed)
    spaces = {"embedding": vectors.astype(np.float64), "embedding and length": np.hstack([vectors, length])}
    fit = _ridge if kind == "ridge" else _ordinal
    held = {"length": signed(length[judged, 0], y)}
    held |= {name: out_of_fold(space[judged], y, of, fit) for name, space in spaces.items()}
    used = "embedding and length" if with_length else "embedding"
    report, ahead = compared(held, y, np.array(mine), used, seed, resamples)
    predicted = np.full(len(vectors), np.nan)
    predicted[here] = fit(spaces[used][judged], y)(spaces[used][here])
    return Distilled(predicted, len(judged), report, used, ahead)


def signed(length: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The length, shorter first where the score prefers that: the baseline gets its best direction for nothing."""
    rho = rank_correlation(length, y)
    return -length if rho is not None and rho < 0 else length


Predictor = Callable[[np.ndarray], np.ndarray]


def _ridge(x: np.ndarray, y: np.ndarray) -> Predictor:
    from sklearn.linear_model import RidgeCV

    mean, scale = _standard(x)
    model = RidgeCV(alphas=PENALTIES).fit((x - mean) / scale, y)
    return lambda new: model.predict((new - mean) / scale)


def _ordinal(x: np.ndarray, y: np.ndarray) -> Predictor:
    """The strength is the one whose expected scores have the least squared error on three inner folds."""
    steps = np.unique(y)
    if len(steps) > MOST_STEPS:
        raise ValueError(f"the score has {len(steps)} values; an ordinal fit takes {MOST_STEPS} at most (kind ridge)")
    mean, scale = _standard(x)
    z, inner = (x - mean) / scale, np.arange(len(y)) % 3
    errors = []
    for strength in STRENGTHS:
        missed = [
            ((_steps(z[inner != k], y[inner != k], steps, strength)(z[inner == k]) - y[inner == k]) ** 2).sum()
            for k in range(3)
        ]
        errors.append(round(float(sum(missed)), 9))
    final = _steps(z, y, steps, STRENGTHS[int(np.argmin(errors))])
    return lambda new: final((new - mean) / scale)


def _steps(z: np.ndarray, y: np.ndarray, steps: np.ndarray, strength: float) -> Predictor:
    """Expected score = lowest + sum over steps of (its height) P(y > the step below)."""
    from sklearn.linear_model import LogisticRegression

    above: list[tuple[float, Any]] = []
    for low, high in pairwise(steps.tolist()):
        said = y > low
        height = float(high - low)
        if said.all() or not said.any():  # a step that the training rows do not have
            above.append((height, float(said.all())))
        else:
            above.append((height, LogisticRegression(C=strength, max_iter=2000).fit(z, said)))

    def expected(new: np.ndarray) -> np.ndarray:
        total = np.full(len(new), float(steps[0]))
        for height, model in above:
            total += height * (model if isinstance(model, float) else model.predict_proba(new)[:, 1])
        return total

    return expected


def _standard(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = x.std(axis=0)
    return x.mean(axis=0), np.where(scale > 0, scale, 1.0)


# ---- how good it is -------------------------------------------------------------------------------------------------


def folded(groups: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """The fold of each row: groups in a random order by the seed, dealt round; a group stays together."""
    names = list(dict.fromkeys(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[i]: place % folds for place, i in enumerate(order.tolist())}
    return np.array([fold[group] for group in groups], dtype=np.int64)


def out_of_fold(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray, fit: Callable[[np.ndarray, np.ndarray], Predictor]
) -> np.ndarray:
    """Each row predicted by a model that was fitted to the rows of the other folds."""
    found = np.full(len(y), np.nan)
    for k in np.unique(fold):
        found[fold == k] = fit(x[fold != k], y[fold != k])(x[fold == k])
    return found


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rho with mean ranks for ties; None where one of the two does not vary, or there are fewer than 3."""
    from scipy.stats import rankdata

    if len(a) < 3:
        return None
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else None


def compared(
    held: Mapping[str, np.ndarray],
    y: np.ndarray,
    groups: np.ndarray,
    used: str,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[pl.DataFrame, tuple[float, float, float] | None]:
    """The rank correlation of each prediction with ``y``, and how far the one in use is above the length's: 95 % by
    resampling groups with replacement, the same rows for all, so that the difference is of pairs."""
    rng = np.random.default_rng([seed, 2])
    names, of = np.unique(groups, return_inverse=True)
    order = np.argsort(of, kind="stable")
    ends = np.cumsum(np.bincount(of, minlength=len(names)))
    members = np.split(order, ends[:-1])
    drawn: dict[str, list[float]] = {name: [] for name in held}
    gaps: list[float] = []
    for _ in range(resamples):
        rows = np.concatenate([members[i] for i in rng.integers(len(names), size=len(names))])
        now = {name: rank_correlation(values[rows], y[rows]) for name, values in held.items()}
        for name, rho in now.items():
            drawn[name] += [] if rho is None else [rho]
        ours, length = now[used], now["length"]
        gaps += [] if ours is None or length is None else [ours - length]
    lines = []
    rhos = {name: rank_correlation(values, y) for name, values in held.items()}
    for name, rho in rhos.items():
        fine = rho is not None and drawn[name]
        low, high = np.quantile(drawn[name], [0.025, 0.975]).tolist() if fine else (None, None)
        lines.append((name, rho, low, high))
    schema = {"from": pl.String, "spearman": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    report = pl.DataFrame(lines, schema=schema, orient="row")
    ours, length = rhos[used], rhos["length"]
    if ours is None or length is None or not gaps:
        return report, None
    low, high = np.quantile(gaps, [0.025, 0.975]).tolist()
    return report, (ours - length, low, high)


# ---- the indicator --------------------------------------------------------------------------------------------------


def table_of(ids: pl.Series, found: Distilled, of: str) -> pl.DataFrame:
    """`DISTILLED_SCHEMA` of a pool's rows."""
    fine = np.isfinite(found.predicted)
    return pl.DataFrame(
        {
            "row_id": ids,
            "status": np.where(fine, OK, NO_EMBEDDING),
            "predicted": pl.Series(found.predicted, dtype=pl.Float64).fill_nan(None),
            "of": [of] * len(ids),
            "correlation": pl.Series([found.correlation] * len(ids), dtype=pl.Float64),
        },
        schema=dict(DISTILLED_SCHEMA),
    )


def distilled(pool: Pool, of: str = "", minimum: float = 0.3) -> pl.DataFrame:
    """A judge's or a person's score, as a small model on embeddings guesses it for every row.

    Equation: s(x) = b + w . (g(x) - m) / d, fitted to the judged rows by least squares with a penalty on |w|^2; m and d
    are the means and deviations of the embedding's places.

    Direction: higher, as most judges' scores; where the score that was learned is better when low, take it the other
    way round in the recipe.

    Parameters: `of` is the indicator that is learned (`tuned/distilled` must have been made of it; empty: whichever it
    was made of); `minimum` is the held-out rank correlation below which nothing is believed.

    Statuses: `distilled_too_weak` (all rows: on rows that it had not seen, the model's order went too little with the
    judge's); `distilled_from_another` (the stored model learned another score); `no_embedding`.

    Source: no single paper; as QuRating (arXiv 2402.09739) and DEITA (arXiv 2312.15685) train scorers on the labels of
    a judge.

    Departures: the scorers of these papers are tuned language models of a billion parameters and more. One on
    embeddings costs nothing, knows less, and often little more than the length: `tuned/distilled` says how much.
    """
    table = pool.tables["tuned/distilled"].collect()
    rho = pl.col("correlation")
    status = (
        pl.when(pl.col("of").is_null())
        .then(pl.lit("not_scored"))
        .when((pl.col("of") != of) & (of != ""))
        .then(pl.lit(FROM_ANOTHER))
        .when(rho.is_null() | (rho < minimum))
        .then(pl.lit(TOO_WEAK))
        .otherwise("status")
    )
    return statused(table["predicted"], table.select(status.alias("status")).to_series())


INDICATORS = (
    Indicator(
        id="distilled",
        title="Distilled score",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"b + w \cdot \frac{g(x) - m}{d}",
        paper="after Wettig et al. 2024, arXiv 2402.09739, and Liu et al. 2023, arXiv 2312.15685",
        meaning="What a small model, which learned a judge's score from some rows, guesses for this one. Null for all "
        "rows where its guesses went too little with the judge.",
        needs=("tuned/distilled",),
        params={"of": "", "minimum": 0.3},
        direction="higher",
        scope="pool",
        compute=distilled,
    ),
)
