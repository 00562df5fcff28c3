"""QuRating: pairs that a judge compared train a rater on embeddings, which then scores every row without the judge.

Here belong the rater, how well it does on rows that it has not seen beside the length, the refusal to use it where that
is not well enough, and the indicator. Which pairs are asked, and their votes, stands in `methods.judging.pairs`;
strengths of the asked rows in `methods.quality.pairwise`. The paper chooses rows by drawing them with a temperature:
that is the selector `gumbel_top_k` on standardised scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from methods.judging.pairs import CONFIDENT
from methods.kinds import OK, Indicator, Pool, statused
from methods.numerics.bradley_terry import cross_entropy, linear
from methods.quality.distillation import NO_EMBEDDING, RESAMPLES, TOO_WEAK, compared, folded, signed, usable
from methods.quality.preference import right, wilson

LEAST_PAIRS = 30
"""With fewer pairs to learn from there is no rater."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Values of C (the inverse of the penalty on squared weights) that are tried."""
RATER_SCHEMA: Mapping[str, Any] = MappingProxyType({"feature": pl.String, "weights": pl.List(pl.Float64)})
"""Two lines: ``embedding`` (a weight a place) and ``offset`` (what is taken off)."""
RATED_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "row_id": pl.String,
        "status": pl.String,
        "rating": pl.Float64,
        "criterion": pl.String,
        "correlation": pl.Float64,
    }
)
"""One line a row; ``correlation`` is the rater's held-out rank correlation, the same in all lines."""


@dataclass(frozen=True)
class Rater:
    """A fitted rater, and what it does on rows that it has not seen."""

    weights: np.ndarray
    offset: float
    """The mean over the rows asked about, so that their mean rating is 0."""
    strength: float
    trained_on: int
    tested: int
    """Pairs whose two rows were both unseen by the model that was asked."""
    accuracy: float
    interval: tuple[float, float]
    longer: float
    """How often the longer of the two is the preferred one, in the same pairs."""
    loss: float
    """Mean cross-entropy of these pairs; .693 knows nothing."""
    report: pl.DataFrame
    """As `distillation.Distilled.report`: rank correlations with the strengths."""
    ahead: tuple[float, float, float] | None

    @property
    def correlation(self) -> float | None:
        """The held-out rank correlation of ratings with strengths."""
        return self.report.filter(pl.col("from") == "embedding")["spearman"].item()

    def verdict(self, minimum: float) -> str:
        """In words, for a person."""
        rho, low, high = self.report.filter(pl.col("from") == "embedding").select("spearman", "low", "high").row(0)
        (length,) = self.report.filter(pl.col("from") == "length")["spearman"].to_list()
        text = (
            f"Right in {self.accuracy:.0%} of {self.tested} pairs of unseen rows (95 % interval {self.interval[0]:.0%} "
            f"to {self.interval[1]:.0%}); always taking the longer: {self.longer:.0%}; chance: 50 %. "
        )
        if rho is None:
            return f"{text}Its ratings or the strengths are all one value: it is not used."
        alone = "not defined" if length is None else f"{length:.2f}"
        text += f"Rank correlation with the strengths {rho:.2f} ({low:.2f} to {high:.2f}); the length alone: {alone}."
        if not usable(rho, minimum):
            return f"{text} That is below {minimum:g}: it is not used."
        if self.ahead is None or self.ahead[1] <= 0:
            return f"{text} It is not shown to be better than looking at the length."
        return text


def train(
    vectors: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    probability: np.ndarray,
    strengths: np.ndarray,
    characters: np.ndarray,
    seed: int = 0,
    folds: int = 5,
    resamples: int = RESAMPLES,
) -> Rater:
    """A rater of the rows asked about: s(x) = w . g(x) - c, so that S(s_b - s_a) is near P(b preferred to a).

    ``first``, ``second``: places of a and b; pairs with |2 P - 1| below .5, and rows without a vector, are left out.
    ``strengths``: the Bradley-Terry strengths, NaN for none.

    Rows are dealt into folds. A pair is tested by a model that learned from no pair with a row of either's fold, so
    both of its rows are new to it; a row's held-out rating comes from a model that saw no pair of its fold. Raises
    `ValueError` where there are too few pairs.
    """
    here = np.isfinite(vectors).all(axis=1)
    keep = (np.abs(2 * probability - 1) >= CONFIDENT - 1e-9) & here[first] & here[second]
    a, b, y = first[keep], second[keep], probability[keep]
    if len(y) < LEAST_PAIRS:
        raise ValueError(
            f"{len(y)} pairs have a clear answer (|2 P - 1| of {CONFIDENT:g} or more, of {len(probability)} usable "
            f"pairs); a rater needs at least {LEAST_PAIRS}: ask about more rows, or give them more neighbours"
        )
    fold = folded([str(at) for at in range(len(vectors))], folds, seed)
    x = np.where(here[:, None], vectors, 0.0).astype(np.float64)
    differences = x[b] - x[a]
    margins, ratings = np.full(len(y), np.nan), np.full(len(vectors), np.nan)
    for i in range(folds):
        for j in range(i, folds):
            outside = ~np.isin(fold[a], (i, j)) & ~np.isin(fold[b], (i, j))
            if outside.sum() < folds:
                continue
            w = linear(differences[outside], y[outside], best_strength(differences[outside], y[outside], seed))
            across = ((fold[a] == i) & (fold[b] == j)) | ((fold[a] == j) & (fold[b] == i))
            margins[across] = differences[across] @ w
            if i == j:
                said = x @ w
                mine = here & (fold == i)
                ratings[mine] = (said - said[here & (fold != i)].mean())[mine]
    strength = best_strength(differences, y, seed)
    weights = linear(differences, y, strength)
    tested = np.isfinite(margins)
    n, toward = int(tested.sum()), np.where(y > 0.5, 1.0, -1.0)[tested]
    good = right(margins[tested] * toward)
    longer = right((characters[b] - characters[a])[tested] * toward)
    report, ahead = _ranked(ratings, strengths, characters, seed, resamples)
    return Rater(
        weights,
        float((x[here] @ weights).mean()),
        strength,
        len(y),
        n,
        good / n if n else 0.5,
        wilson(good, n),
        longer / n if n else 0.5,
        cross_entropy(margins[tested], y[tested]) if n else float(np.log(2)),
        report,
        ahead,
    )


def best_strength(differences: np.ndarray, labels: np.ndarray, seed: int, folds: int = 3) -> float:
    """The C with the least mean loss on folds of pairs that were left out; ties to the weaker rater."""
    fold = np.random.default_rng([seed, 3]).permutation(len(labels)) % folds
    losses = []
    for strength in STRENGTHS:
        margins = np.empty(len(labels))
        for k in range(folds):
            margins[fold == k] = differences[fold == k] @ linear(differences[fold != k], labels[fold != k], strength)
        losses.append(round(cross_entropy(margins, labels), 9))
    return STRENGTHS[int(np.argmin(losses))]


def _ranked(
    ratings: np.ndarray, strengths: np.ndarray, characters: np.ndarray, seed: int, resamples: int
) -> tuple[pl.DataFrame, tuple[float, float, float] | None]:
    fine = np.isfinite(ratings) & np.isfinite(strengths)
    y = strengths[fine]
    held = {"length": signed(characters[fine].astype(np.float64), y), "embedding": ratings[fine]}
    return compared(held, y, np.flatnonzero(fine), "embedding", seed, resamples)


# ---- the rater's table ----------------------------------------------------------------------------------------------


def rater_frame(rater: Rater) -> pl.DataFrame:
    """`RATER_SCHEMA` of a fitted rater."""
    lines = {"feature": ["embedding", "offset"], "weights": [rater.weights.tolist(), [rater.offset]]}
    return pl.DataFrame(lines, schema=dict(RATER_SCHEMA))


def rated(
    row_ids: pl.Series, rater: pl.DataFrame, vectors: np.ndarray, criterion: str, correlation: float | None
) -> pl.DataFrame:
    """`RATED_SCHEMA`: each row's rating by a stored rater."""
    parts = {name: np.array(weights) for name, weights in rater.iter_rows()}
    if len(vectors) and vectors.shape[1] != len(parts["embedding"]):
        raise ValueError(f"the rater reads vectors of {len(parts['embedding'])} numbers, not {vectors.shape[1]}")
    value = vectors.astype(np.float64) @ parts["embedding"] - parts["offset"][0] if len(vectors) else np.empty(0)
    fine = np.isfinite(value)
    return pl.DataFrame(
        {
            "row_id": row_ids,
            "status": np.where(fine, OK, NO_EMBEDDING),
            "rating": pl.Series(value, dtype=pl.Float64).fill_nan(None),
            "criterion": [criterion] * len(row_ids),
            "correlation": pl.Series([correlation] * len(row_ids), dtype=pl.Float64),
        },
        schema=dict(RATED_SCHEMA),
    )


def qurating(pool: Pool, minimum: float = 0.3) -> pl.DataFrame:
    """How a rater, which learned from a judge's comparisons of some rows, rates this one.

    Equation: s(x) = w . g(x) - c with w the likeliest under P(b preferred to a) = S(s(x_b) - s(x_a)), S being the
    logistic function (cross-entropy with soft labels, a penalty on |w|^2). P is the mean of both orders of showing the
    two; only pairs with |2 P - 1| >= .5 are learned from. A difference of 1 means odds of e = 2.7.

    Direction: higher (more of what the criterion asks for).

    Parameters: `minimum` is the rank correlation with the strengths of held-out rows below which nothing is believed.
    What is asked, and of how many rows, is set under `judged_pairs`.

    Statuses: `distilled_too_weak` (all rows: the rater's order of unseen rows went too little with the judge's);
    `no_embedding`; `not_scored` (the row is newer than the table).

    Source: Wettig et al. 2024, QuRating (arXiv 2402.09739).

    Departures: the paper's rater is a language model of 1.3 billion parameters with a head a criterion, trained on
    many more judged pairs; this one is a vector of weights on the embedding of question and answer, which sees the
    beginning of a long text only. One generation an order is asked instead of 20 (`repeats`), at temperature 0. The
    survey calls the loss like DPO's; it is that of Bradley-Terry. The paper then draws rows with probabilities
    proportional to exp(s / temperature): the selector `gumbel_top_k`.
    """
    table = pool.tables["judged/rated"].select("status", "rating", "criterion", "correlation").collect()
    rho = pl.col("correlation")
    status = (
        pl.when(pl.col("criterion").is_null())
        .then(pl.lit("not_scored"))
        .when(rho.is_null() | (rho < minimum))
        .then(pl.lit(TOO_WEAK))
        .otherwise("status")
    )
    return statused(table["rating"], table.select(status.alias("status")).to_series())


INDICATORS = (
    Indicator(
        id="qurating",
        title="QuRating",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"w \cdot g(x) - c,\quad P(b > a) = \sigma(s_b - s_a)",
        paper="Wettig et al. 2024, QuRating, arXiv 2402.09739",
        meaning="How a small model rates this row; it learned from a judge which of two rows has more of what a "
        "criterion asks for (educational value unless set otherwise). Null for all rows where it learned too little.",
        needs=("judged/rated",),
        params={"minimum": 0.3},
        direction="higher",
        scope="pool",
        compute=qurating,
    ),
)
