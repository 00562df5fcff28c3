"""Learning complexity (survey 3.2): does a model still predict the response when a part of the model is missing?

Here belong the shape of the losses that are stored (`SUBNETS_SCHEMA`), the two readings of them, and FlexRand, the
selection of the same paper. No model runs here: how one is thinned is in `resources.subnets`.

All logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl

from methods.kinds import OK, Candidates, Chosen, Indicator, Selector, statused
from methods.selection.aggregate import ecdf
from methods.selection.basic import at_most, best_first, largest_remainder, require

SUBNETS = ("evidence/subnets",)
SUBNETS_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {"row_id": pl.String, "status": pl.String, "mean_nll": pl.List(pl.Float64)}
)
"""One line a row, one value a subnet: the mean of -ln p over the response's tokens behind the prompt; null unless the
status is ``ok``. Which subnets they are is said beside the table."""

LEVELS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"magnitude": (0.0, 0.2, 0.4), "dropout": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}
)
"""What the subnets lack unless a person says otherwise: shares of each linear layer's weights, or of hidden units."""


def _over_subnets(block: pl.DataFrame, value: pl.Expr) -> pl.DataFrame:
    losses = pl.col("mean_nll").list
    status = (
        pl.when(pl.col("status") != OK)
        .then("status")
        .when(losses.len().fill_null(0) == 0)
        .then(pl.lit("no_subnets"))
        .when(losses.drop_nulls().list.len() < losses.len())
        .then(pl.lit("missing_subnet"))
        .otherwise(pl.lit(OK))
    )
    found = block.select(value=value, status=status)
    return statused(found["value"], found["status"])


def learning_complexity(
    block: pl.DataFrame, subnets: str = "magnitude", levels: Sequence[float] | None = None, seed: int = 0
) -> pl.DataFrame:
    """How hard the response is for a model of which parts are missing: the mean of its losses.

    Equation: (1/I) sum_j NLL_j(A|Q), NLL_j the j-th subnet's mean of -ln p over the response's tokens. Perplexities
    (2, 4, 8) give ln 4 = 1.386294.

    Direction: lower is easier, and easy rows are taken first where data are few. Where they are many the hard ones are:
    `directions: {learning_complexity: higher}`, or the selector `flex_rand`.

    Parameters: `subnets` are `magnitude` (the smallest weights of each linear layer are missing) or `dropout` (hidden
    units are); `levels` are the shares that are missing, by default 0, .2 and .4 of the weights, or .1, .2 ... .9 of
    the units; `seed` draws the units. All three are asked for when the evidence is gathered: others gather it anew.

    Statuses: `truncated` (the response was cut); `no_subnets`; `missing_subnet` (one has no loss, so the mean would be
    of other subnets than that of other rows); any status of the model's pass.

    Source: Jiang et al. 2024 (arXiv 2402.05356), as its released scorer for instructions computes it.

    Departures: the survey keeps small values of Eq. 8, a mean of 1/PPL, as easy; there large ones are, see
    `learning_complexity_confidence`. The released scorer prunes three times but stays at a fifth of the weights, since
    the second time takes the zeros of the first; here the shares are of the whole model. Its head is not pruned here,
    which in many models would be a cut in the embeddings too.
    """
    return _over_subnets(block, pl.col("mean_nll").list.mean())


def learning_complexity_confidence(block: pl.DataFrame) -> pl.DataFrame:
    """How sure of the response a model is of which parts are missing: the mean of its confidences.

    Equation: (1/I) sum_j exp(-NLL_j(A|Q)) = (1/I) sum_j 1 / PPL_j (Eq. 8). Perplexities (2, 4, 8) give .291667.

    Direction: higher is easier: the other end than `learning_complexity`. To take hard rows first a recipe says
    `directions: {learning_complexity_confidence: lower}`.

    Statuses: as for `learning_complexity`.

    Source: Jiang et al. 2024 (arXiv 2402.05356), the paper's first version.

    Departures: which subnets there are is said for `learning_complexity`, whose evidence it reads: by default it is not
    the paper's dropout of .1 to .9, which is `learning_complexity: {subnets: dropout}`. The survey says that small
    values are easy; the paper says that they are hard, and so does the equation. Dropout is drawn once a subnet and not
    anew for each token, and in the blocks of models that have no dropout layer too.
    """
    return _over_subnets(block, pl.col("mean_nll").list.eval((-pl.element()).exp()).list.mean())


# --- FlexRand --------------------------------------------------------------------------------------------------------
def flex_shares(keep: float, q: float) -> tuple[float, float]:
    """Which shares of all rows FlexRand takes from the easy and from the hard side, ``keep`` in all.

    ``q`` up to .5: easy = min(q, keep / 2), hard is the rest; above: hard = min(1 - q, keep / 2), easy is the rest.
    """
    if not (0 <= keep <= 1 and 0 <= q <= 1):
        raise ValueError(f"keep and q are shares, got {keep} and {q}")
    less = min(q, 1 - q, keep / 2)
    return (less, keep - less) if q <= 0.5 else (keep - less, less)


def flex_rand(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    prefer: Literal["easy", "hard"] = "easy",
    q: float | None = None,
) -> Chosen:
    """Easy rows and hard rows, both by chance: a border cuts the pool in two, and each side gives its share.

    Equation: the q * N rows with the highest score are the easy side, the others the hard one. With r = budget / N:
    q <= .5: easy gives min(q, r/2) * N, hard the rest; q > .5: hard gives min(1 - q, r/2) * N, easy the rest.

    Parameters: `prefer` is the larger side: `easy` (q = .75, for few data) or `hard` (q = .25, for many). `q` sets the
    border itself; then `prefer` is not asked.

    The score must be high for easy rows, as it is for `learning_complexity` and `learning_complexity_confidence` with
    their own directions. A recipe that turns them (`directions`) turns easy and hard.

    Order: by chance under the seed. Gain: the score. Whole numbers by largest remainder, ties to the easy side; of
    equal scores the lowest index is easier. Where rounding asks a side for more rows than it has, the other gives them.

    Source: Jiang et al. 2024 (arXiv 2402.05356), the released selection.
    """
    if prefer not in ("easy", "hard"):
        raise ValueError(f"prefer must be easy or hard, got {prefer!r}")
    border_share = {"easy": 0.75, "hard": 0.25}[prefer] if q is None else q
    n_take, n = at_most(candidates, budget), len(candidates)
    score = require(candidates, "score", "flex_rand").astype(np.float64)
    easy_first = best_first(score)
    shares = flex_shares(n_take / max(n, 1), border_share)  # refuses a q that is no share
    border = int(border_share * n + 0.5 + 1e-9)
    wanted = largest_remainder(np.array(shares), n_take)
    easy = min(max(int(wanted[0]), n_take - (n - border)), border)
    generator = np.random.default_rng(seed)
    sides = (easy_first[:border], easy_first[border:])
    taken = [generator.choice(side, k, replace=False) for side, k in zip(sides, (easy, n_take - easy), strict=True)]
    order = generator.permutation(np.concatenate(taken)).astype(np.int64)
    is_easy = np.isin(np.arange(n), sides[0])
    share = ecdf(score)
    reason = [
        f"drawn by chance from the {'easy' if is_easy[i] else 'hard'} side (score {score[i]:.6g} stands at share "
        f"{share[i]:.4g} of the pool)"
        for i in order
    ]
    return Chosen(order, score[order], reason)


_LEARNING = "Jiang et al. 2024, Exploring Learning Complexity for Downstream Data Pruning, arXiv 2402.05356"
_indicator = partial(
    Indicator, axis="quality", family="model", section="3.2", paper=_LEARNING, needs=SUBNETS, cost="gpu"
)

INDICATORS = (
    _indicator(
        id="learning_complexity",
        title="Loss of thinned models",
        equation=r"\frac{1}{I} \sum_j NLL_j(A \mid Q)",
        params={"subnets": "magnitude", "levels": None, "seed": 0},
        meaning="Low: even a model that lacks many of its weights predicts the answer, so it is easy to learn. High: "
        "only the whole model does, or none.",
        direction="lower",
        compute=learning_complexity,
    ),
    _indicator(
        id="learning_complexity_confidence",
        title="Confidence of thinned models",
        equation=r"\frac{1}{I} \sum_j \frac{1}{PPL_j}",
        meaning="As `learning_complexity`, as a probability from 0 to 1: high is easy.",
        direction="higher",
        compute=learning_complexity_confidence,
    ),
)

SELECTORS = (
    Selector(
        id="flex_rand",
        title="Easy and hard rows by chance",
        axis="quality",
        family="selection",
        section="3.2",
        equation="q <= .5: easy = min(q, r/2), hard = r - easy;  q > .5: hard = min(1 - q, r/2), easy = r - hard",
        paper=_LEARNING,
        meaning="Mixes rows that the score calls easy with rows that it calls hard, so that neither end of the pool is "
        "left out. Give it learning complexity as the score.",
        needs=("score",),
        params={"prefer": "easy", "q": None},
        select=flex_rand,
    ),
)
