"""Pruning by perplexity (survey 3.2): the low, the middle or the high part of the pool's ranks.

Here belongs the selector by name, with the paper's parts. Bands with bounds of one's own stand in
``selection/quotas.py`` and ``selection/basic.py``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.selection.aggregate import ecdf, select_percentile
from methods.selection.basic import at_most, best_first, require

Band = Literal["low", "mid", "high"]


def ppl_prune(
    candidates: Candidates, budget: int, seed: int = 0, rate: float | None = None, band: Band = "mid"
) -> Chosen:
    """One part of the pool by perplexity: the most predictable, the middle, or the most surprising rows.

    Equation: low: F <= r; mid: .5 - r/2 < F <= .5 + r/2; high: F > 1 - r, with F the ECDF of the perplexities and r the
    share that is kept. Of ten values r = .2 keeps the ranks 1-2, 5-6 or 9-10.

    Parameters: `rate` is r; None is the budget's share of the candidates, and then the part is as large as the budget:
    rows are taken by their place among all, equal values by lowest index.
    `band` is `low`, `mid` or `high`. Which is best depends on the data and has to be tried: the paper found high best
    for the Pile and the middle for Dolma.

    The score must be perplexity itself and not turned, for else low and high change places. In a recipe:
    `score: {indicators: {perplexity: 1}, directions: {perplexity: higher}}`. How it is scaled does not matter (with one
    indicator every scale keeps the order).

    Order: without a `rate`, from the band's own end: low the lowest first, high the highest first, mid the nearest to
    the middle rank, ties by lowest index. With one, by chance under the seed, for a band that is larger than the budget
    is to be sampled as a whole. Gain: the score. Rows outside the band are refused with their place.

    With a `rate` equal values share the largest rank: where they lie across a bound, low and mid may keep fewer rows
    than r of them, and high and mid more.

    Source: Ankner et al. 2024 (arXiv 2405.20541); the middle band for pre-training: Marion et al. 2023.
    """
    if band not in ("low", "mid", "high"):
        raise ValueError(f"band must be low, mid or high, got {band!r}")
    if rate is not None and not 0 < rate <= 1:
        raise ValueError(f"rate is the share to keep, above 0 and at most 1; got {rate}")
    n_take = at_most(candidates, budget)
    score = require(candidates, "score", "ppl_prune_low_mid_high").astype(np.float64)
    from_its_end = _from_its_end(score, band)  # refuses NaN
    if rate is None:
        order = from_its_end[:n_take].astype(np.int64)
        keep, bounds = np.isin(np.arange(len(score)), order), f"the {band} {n_take} of {len(score)} ranks"
    else:
        keep, bounds = _inside(score, rate, band)
        by_chance = np.random.default_rng(seed).permutation(len(score))
        order = by_chance[keep[by_chance]][:n_take].astype(np.int64)
    share = ecdf(score)
    place = "{0:.6g} stands at share {1:.4g} of the pool"
    reason = [f"{place.format(score[i], share[i])}, inside {bounds}" for i in order]
    refused = {int(i): f"{place.format(score[i], share[i])}, outside {bounds}" for i in np.flatnonzero(~keep)}
    return Chosen(order, score[order], reason, refused=refused)


def _inside(score: np.ndarray, rate: float, band: Band) -> tuple[np.ndarray, str]:
    """Which rows are in the band, and its bounds for a person. A rate of 0 keeps nothing."""
    low, high = {"low": (0.0, rate), "mid": (0.5 - rate / 2, 0.5 + rate / 2), "high": (1 - rate, 1.0)}[band]
    return select_percentile(score, low, high, inclusive=(False, True)), f"the {band} band ({low:.4g}, {high:.4g}]"


def _from_its_end(score: np.ndarray, band: Band) -> np.ndarray:
    """All rows: lowest first, highest first, or those first whose rank is nearest to the middle rank."""
    if band == "high":
        return best_first(score)
    ascending = best_first(-score)
    if band == "low":
        return ascending
    away = np.abs(np.arange(len(ascending)) - (len(ascending) - 1) / 2)
    return ascending[np.lexsort((np.arange(len(ascending)), away))]  # of two as near, the lower, as in the band


SELECTORS = (
    Selector(
        id="ppl_prune_low_mid_high",
        title="Low, middle or high perplexity",
        axis="quality",
        family="selection",
        section="3.2",
        equation="low: F <= r;  mid: .5 - r/2 < F <= .5 + r/2;  high: F > 1 - r",
        paper="Ankner et al. 2024, Perplexed by Perplexity, arXiv 2405.20541; Marion et al. 2023",
        meaning="Keeps one part of the pool by rank: what the model finds predictable, usual, or surprising. Give it "
        "perplexity as the score, with the direction `higher`.",
        needs=("score",),
        params={"rate": None, "band": "mid"},
        select=ppl_prune,
    ),
)
