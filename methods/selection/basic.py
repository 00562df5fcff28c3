"""The plain selectors: thresholds, percentiles, best first, by chance, and by cluster.

Here belong the usual choices that need no vectors. Bands, strata of the score and quotas by group stand in
``selection/quotas.py``, joining scores into one in ``selection/aggregate.py``; selectors that look at distances stand
in ``diversity``. The small helpers of all selectors (`at_most`, `require`, `best_first`, `ranked`,
`largest_remainder`, `places_within`) stand here too.

All of them are deterministic under their seed, take fewer rows than the budget where the pool holds fewer, and give
back an empty choice for an empty pool or a budget of 0. A ``gain`` of NaN means that the method knows no gain.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.selection.aggregate import ecdf, select_percentile, select_threshold, tied

Allocation = Literal["proportional", "equal"]


def at_most(candidates: Candidates, budget: int) -> int:
    """How many rows can be taken: the budget, or the whole pool if that is smaller."""
    if budget < 0:
        raise ValueError(f"the budget must not be negative, got {budget}")
    return min(int(budget), len(candidates))


def require(
    candidates: Candidates, field: Literal["score", "vectors", "clusters", "groups"], method: str
) -> np.ndarray:
    """A field of the candidates, or an error that says who misses it."""
    found = getattr(candidates, field)
    if found is None:
        hint = {
            "score": "name at least one indicator in the recipe",
            "vectors": "run it on embedded rows",
            "clusters": "run it on clustered rows",
            "groups": "give each row's group, such as its source",
        }[field]
        raise ValueError(f"{method} needs {field}: {hint}")
    if len(found) != len(candidates):
        raise ValueError(f"{method}: {len(found)} {field} do not fit {len(candidates)} candidates")
    return np.asarray(found)


def best_first(score: np.ndarray) -> np.ndarray:
    """Indices by descending score; scores that differ by rounding only (1e-9 of their size) go by lowest index."""
    score = np.asarray(score, dtype=np.float64)
    if np.isnan(score).any():
        raise ValueError("a score is NaN: rows without a score must be dropped, with a reason, before selecting")
    order = np.argsort(-score, kind="stable")
    group = np.concatenate([[0], np.cumsum(~tied(score[order]))]) if len(score) else order
    return order[np.lexsort((order, group))]


def ranked(candidates: Candidates, seed: int, method: str) -> tuple[np.ndarray, np.ndarray, str]:
    """How a selector that can do without a score goes through the rows: best first, else by chance under ``seed``.

    The indices in that order, the score of each candidate (NaN without one), and how a reason says it.
    """
    if candidates.score is None:
        order = np.random.default_rng(seed).permutation(len(candidates))
        return order, np.full(len(candidates), np.nan), "drawn by chance"
    score = require(candidates, "score", method).astype(np.float64)
    return best_first(score), score, "score {:.6g}"


def largest_remainder(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that add up to ``total`` and follow ``shares``: rounded down, the rest to the largest fractions.

    Fractions within 1e-9 are tied and go to the lowest index. Shares need not add up to anything in particular, but
    must not be negative, nor all be 0 while ``total`` is not.
    """
    shares = np.asarray(shares, dtype=np.float64)
    if total == 0:
        return np.zeros(len(shares), dtype=np.int64)
    exact = shares / shares.sum() * total
    whole = np.floor(exact + 1e-9).astype(np.int64)
    fraction = np.round(np.maximum(exact - whole, 0.0), 9)
    whole[np.argsort(-fraction, kind="stable")[: total - int(whole.sum())]] += 1
    return whole


def quotas(sizes: np.ndarray, budget: int, allocation: Allocation = "proportional") -> np.ndarray:
    """How many rows each cluster gives, never more than it has, adding up to min(budget, all).

    ``proportional``: budget x size / all, by largest remainder. ``equal``: the same for every cluster; what a small
    cluster cannot give is shared by the others in the same way, and the last rows go to the lowest clusters.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    budget = min(budget, int(sizes.sum()))
    if allocation == "proportional":
        return largest_remainder(sizes, budget)
    if allocation != "equal":
        raise ValueError(f"allocation must be proportional or equal, got {allocation!r}")
    taken = np.zeros(len(sizes), dtype=np.int64)
    while (left := budget - int(taken.sum())) > 0:
        able = np.flatnonzero(taken < sizes)
        share = left // len(able)
        if share:
            taken[able] += np.minimum(share, sizes[able] - taken[able])
        else:
            taken[able[:left]] += 1
    return taken


def random(candidates: Candidates, budget: int, seed: int) -> Chosen:
    """Every row with the same chance, without replacement: the baseline that a method has to beat.

    The pool is shuffled by ``seed`` and cut at the budget, so a larger budget holds the smaller choice. No gain (NaN).
    """
    order = np.random.default_rng(seed).permutation(len(candidates))[: at_most(candidates, budget)].astype(np.int64)
    return Chosen(order, np.full(len(order), np.nan), [f"drawn by chance (seed {seed})"] * len(order))


def top_k(candidates: Candidates, budget: int, seed: int = 0) -> Chosen:
    """The rows of highest score: S_b = the first b of the pool sorted by q(x), descending (survey 2, Eq. 2).

    Gain: the score. Ties (within 1e-9 of the score's size) go to the lowest index. The seed is not used.
    """
    score = require(candidates, "score", "top_k")
    return _by_rank(candidates, best_first(score), at_most(candidates, budget))


def threshold(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    low: float | None = None,
    high: float | None = None,
    inclusive: tuple[bool, bool] = (False, False),
) -> Chosen:
    """Rows with low < score < high (survey Eq. 4), best first, cut at the budget. Gain: the score."""
    score = require(candidates, "score", "select_threshold")
    keep = select_threshold(score, low, high, inclusive)
    open_low, open_high = ("[" if inclusive[0] else "(", "]" if inclusive[1] else ")")
    band = f"{open_low}{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'}{open_high}"
    return _kept(candidates, budget, keep, "score {score:.6g} is outside " + band)


def percentile(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    low: float = 0.0,
    high: float = 1.0,
    inclusive: tuple[bool, bool] = (True, True),
) -> Chosen:
    """Rows with low <= F(score) <= high (survey Eq. 5), best first, cut at the budget.

    Gain: the score. F is the ECDF, with shares in [0, 1]: the lowest of N rows stands at 1/N; see
    `select_percentile` for open bounds.
    """
    score = require(candidates, "score", "select_percentile")
    keep = select_percentile(score, low, high, inclusive)
    text = "score {score:.6g} stands at share {share:.4g}, outside " + f"{low:g} to {high:g}"
    return _kept(candidates, budget, keep, text)


def gumbel_top_k(candidates: Candidates, budget: int, seed: int, temperature: float = 1.0) -> Chosen:
    """A draw without replacement with probabilities proportional to exp(score / temperature).

    Adds independent Gumbel noise g_i = -ln(-ln u_i) to score_i / T and takes the b largest sums, which is the same as
    drawing one row after another from the softmax over the rows that are left (Kool et al. 2019). T -> 0 is `top_k`
    (and ``temperature=0`` is exactly that); T -> infinity is `random`. The unit of the temperature is the score's:
    QuRating standardises its scores first. Gain: the score. A larger budget holds the smaller choice.
    """
    if not temperature >= 0:
        raise ValueError(f"the temperature must not be negative, got {temperature}")
    score = require(candidates, "score", "gumbel_top_k")
    if temperature == 0:
        return top_k(candidates, budget)
    best_first(score)  # refuses NaN
    noise = np.random.default_rng(seed).gumbel(size=len(score))
    sums = score.astype(np.float64) / temperature + noise
    order = np.argsort(-sums, kind="stable")[: at_most(candidates, budget)].astype(np.int64)
    reason = [f"drawn with temperature {temperature:g}: score {score[i]:.6g}" for i in order]
    return Chosen(order, score[order].astype(np.float64), reason)


def stratified(candidates: Candidates, budget: int, seed: int, allocation: Allocation = "proportional") -> Chosen:
    """A quota for every cluster, filled best first: the choice keeps the pool's make-up (or evens it out).

    Quotas follow the clusters' sizes (``proportional``) or are the same for all (``equal``); see `quotas`. Inside a
    cluster rows go by score, ties by lowest index; without a score by chance under ``seed``. A negative label (noise)
    is a cluster of its own. The order of choice goes round the clusters (ascending label) and takes the best row left
    of each that still has quota. Gain: the score, NaN without one.
    """
    labels = require(candidates, "clusters", "stratified")
    n_take = at_most(candidates, budget)
    order, score, how = ranked(candidates, seed, "stratified")
    names, sizes = np.unique(labels, return_counts=True)
    quota = quotas(sizes, n_take, allocation)
    cluster = np.searchsorted(names, labels[order])
    place = places_within(cluster, sizes)
    inside = place < quota[cluster]
    taken, place, cluster = order[inside], place[inside], cluster[inside]
    round_robin = np.lexsort((cluster, place))
    order = taken[round_robin].astype(np.int64)
    reason = [
        f"{p + 1} of {quota[c]} from cluster {names[c]} ({sizes[c]} rows), {how.format(score[i])}"
        for i, p, c in zip(order, place[round_robin], cluster[round_robin], strict=True)
    ]
    return Chosen(order, score[order], reason)


def places_within(cluster: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """For rows in ranked order: how many rows of the same cluster come before."""
    by_cluster = np.argsort(cluster, kind="stable")
    place = np.empty(len(cluster), dtype=np.int64)
    place[by_cluster] = np.arange(len(cluster)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return place


def _by_rank(candidates: Candidates, order: np.ndarray, n_take: int) -> Chosen:
    score = require(candidates, "score", "top_k")
    order = order[:n_take].astype(np.int64)
    reason = [f"rank {rank} of {len(candidates)} by score {score[i]:.6g}" for rank, i in enumerate(order, start=1)]
    return Chosen(order, score[order].astype(np.float64), reason)


def _kept(candidates: Candidates, budget: int, keep: np.ndarray, text: str) -> Chosen:
    """The kept rows, best first; the others refused with ``text``."""
    score = require(candidates, "score", "a gate")
    order = best_first(score)
    chosen = _by_rank(candidates, order[keep[order]], at_most(candidates, budget))
    share = ecdf(score)
    refused = {int(i): text.format(score=score[i], share=share[i]) for i in np.flatnonzero(~keep)}
    return Chosen(chosen.order, chosen.gain, chosen.reason, refused=refused)


_SURVEY = "Qin et al. 2024, arXiv 2408.02085"

SELECTORS = (
    Selector(
        id="random",
        title="Random choice",
        axis="diversity",
        family="selection",
        section="2",
        equation="P(x in S_b) = b / N",
        paper="baseline of " + _SURVEY,
        meaning="Every row has the same chance. A method that does not beat it at the same budget is worth nothing.",
        select=random,
    ),
    Selector(
        id="top_k",
        title="Best rows first",
        axis="quality",
        family="selection",
        section="2",
        equation="S_b = argmax_{|S'|=b} sum_{x in S'} q(x)",
        paper=_SURVEY + ", Eq. 2",
        meaning="Takes the rows of highest score and nothing else; near-duplicates of a good row come along with it.",
        needs=("score",),
        select=top_k,
    ),
    Selector(
        id="select_threshold",
        title="Rows between two thresholds",
        axis="quality",
        family="selection",
        section="2",
        equation="S' = {x : tau_min < q(x) < tau_max}",
        paper=_SURVEY + ", Eq. 4",
        meaning="Keeps the rows whose score lies between two fixed values, best first.",
        needs=("score",),
        params={"low": None, "high": None, "inclusive": (False, False)},
        select=threshold,
    ),
    Selector(
        id="select_percentile",
        title="Rows between two percentiles",
        axis="quality",
        family="selection",
        section="2",
        equation="S' = {x : P_min <= F(q(x)) <= P_max}, F(s) = #{s_j <= s} / N",
        paper=_SURVEY + ", Eq. 5",
        meaning="Keeps a slice of the pool by rank (shares from 0 to 1), whatever unit the score has.",
        needs=("score",),
        params={"low": 0.0, "high": 1.0, "inclusive": (True, True)},
        select=percentile,
    ),
    Selector(
        id="gumbel_top_k",
        title="Draw by score",
        axis="quality",
        family="selection",
        section="2",
        equation="S_b = top-b of q(x)/T + g,  g ~ Gumbel(0, 1)",
        paper="Kool et al. 2019, arXiv 1903.06059; Wettig et al. 2024 (QuRating), arXiv 2402.09739",
        meaning="Good rows are likelier, but weaker ones keep a chance: a higher temperature means more variety.",
        needs=("score",),
        params={"temperature": 1.0},
        select=gumbel_top_k,
    ),
    Selector(
        id="stratified",
        title="Quota for every cluster",
        axis="diversity",
        family="selection",
        section="4.3",
        equation="b_j = b |C_j| / N (largest remainder), S_b = union of the best b_j rows of every C_j",
        paper="proportional allocation (Neyman 1934), as used in " + _SURVEY,
        meaning="Every topic is represented by its size (or equally); within a topic the best rows are taken.",
        needs=("clusters",),
        params={"allocation": "proportional"},
        select=stratified,
    ),
)
