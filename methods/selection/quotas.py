"""Selectors that spread a budget: a band of the score, strata over all of it, and quotas for named groups.

Here belong choices by score and by group that do not simply take the best. The plain ones, quotas for clusters and the
helpers of all selectors stand in ``selection/basic.py``. The conventions are the same: deterministic under the seed,
fewer rows than the budget where the pool (or the band) holds fewer, an empty choice for an empty pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.selection.aggregate import TIE, ecdf, select_percentile, select_threshold
from methods.selection.basic import Allocation, at_most, best_first, largest_remainder, places_within, ranked, require
from methods.selection.basic import quotas as by_size

Unit = Literal["value", "percentile"]
Bins = Literal["count", "width"]
Within = Literal["best", "random"]


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(allowed)}, got {value!r}")


# --- a band of the score ---------------------------------------------------------------------------------------------
def band(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    target: float | None = None,
    low: float | None = None,
    high: float | None = None,
    unit: Unit = "value",
) -> Chosen:
    """Rows whose score lies nearest to a middle, and inside [low, high] where bounds are given; the seed is not used.

    Equation: order by |p(x) - m|, over low <= p(x) <= high; p is the score or its place F in the pool.

    Parameters: `unit` is `value` (p is the score as the recipe makes it: raw only with ``normalise: none``) or
    `percentile` (p = F(score), shares from 0 to 1 of the ECDF; the lowest of N rows stands at 1/N). `low` and `high`
    are closed bounds, each optional. The middle m is `target`, else halfway between two bounds, else the median of the
    rows inside. The easy and the hard end of a pool are `select_percentile`.

    Gain: minus the distance to the middle. Rows outside, and infinite scores, are refused with a reason. Equal
    distances (within 1e-9 of the score's size) go to the lowest index, on whichever side they lie.

    Source: the window of survey Eq. 4 and 5; taking its middle first is ours.
    """
    _one_of("unit", unit, ("value", "percentile"))
    _refuse_bounds(target, low, high, unit)
    n_take = at_most(candidates, budget)
    score = require(candidates, "score", "select_band").astype(np.float64)
    best_first(score)  # refuses NaN
    share = ecdf(score)
    if unit == "percentile":
        place = share
        inside = select_percentile(score, 0.0 if low is None else low, 1.0 if high is None else high)
    else:
        place = score
        inside = select_threshold(score, low, high, (True, True))
    middle = _middle(target, low, high, place[inside])
    distance = _distance(np.where(np.isfinite(score), place, np.nan), middle)
    order = best_first(-distance)
    order = order[inside[order]][:n_take].astype(np.int64)
    what = "score {0:.6g}" if unit == "value" else "score {0:.6g} at share {1:.4g}"
    reason = [f"{what.format(score[i], share[i])}, {distance[i]:.6g} from the middle {middle:.6g}" for i in order]
    bounds = f"outside [{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'}]"
    refused = {int(i): f"{what.format(score[i], share[i])}, {bounds}" for i in np.flatnonzero(~inside)}
    return Chosen(order, -distance[order], reason, refused=refused)


def _refuse_bounds(target: float | None, low: float | None, high: float | None, unit: Unit) -> None:
    given = {name: x for name, x in (("low", low), ("target", target), ("high", high)) if x is not None}
    for name, x in given.items():
        if isinstance(x, bool) or not isinstance(x, int | float) or not np.isfinite(x):
            raise ValueError(f"select_band: {name} takes a finite number, got {x!r}")
        if unit == "percentile" and not 0 <= x <= 1:
            raise ValueError(f"select_band: percentiles are shares from 0 to 1; {name} is {x:g}")
    if list(given.values()) != sorted(given.values()):
        said = ", ".join(f"{name} {x:g}" for name, x in given.items())
        raise ValueError(f"select_band: low, target and high must be in this order, got {said}")


def _middle(target: float | None, low: float | None, high: float | None, inside: np.ndarray) -> float:
    if target is not None:
        return float(target)
    if low is not None and high is not None:
        return (low + high) / 2
    return float(np.median(inside)) if len(inside) else 0.0


def _distance(place: np.ndarray, middle: float) -> np.ndarray:
    """|place - middle|, 0 where only rounding parts them, infinite where there is no place."""
    distance = np.abs(place - middle)
    near = distance <= TIE * np.maximum(np.abs(place), abs(middle))
    return np.where(near, 0.0, np.where(np.isfinite(distance), distance, np.inf))


# --- strata over the whole score -------------------------------------------------------------------------------------
def stratified_by_score(
    candidates: Candidates,
    budget: int,
    seed: int,
    strata: int = 10,
    bins: Bins = "count",
    allocation: Allocation = "equal",
    within: Within = "best",
) -> Chosen:
    """Rows from the whole range of the score: it is cut into strata, and each gives its quota.

    Equation: b_j = b / K over the strata C_1..C_K of the score; a small stratum's rest is shared by the others.

    Parameters: `strata` is the number K. `bins` is `count` (as many rows in each, by rank) or `width` (each spans the
    same range of the score, so that few rows of a rare score weigh as much as many of a usual one). `allocation` is
    `equal`, or `proportional` to the rows of each. `within` a stratum rows go `best` first, or at `random` by the seed.

    The order of choice goes round the strata, highest first. Gain: the score. An empty stratum is passed over; under
    `width` infinite scores belong to the outermost strata.

    Source: coverage sampling as in DEALRec, Lin et al. 2024 (arXiv 2401.17197): 50 strata of one width, random within.

    Departures: DEALRec first drops the highest tenth; put a gate before it. It rounds each quota down and gives fewer
    rows than the budget; here the last rows go to the highest strata.
    """
    _one_of("bins", bins, ("count", "width"))
    _one_of("within", within, ("best", "random"))
    if isinstance(strata, bool) or not isinstance(strata, int) or strata < 1:
        raise ValueError(f"strata must be a whole number from 1, got {strata!r}")
    n_take = at_most(candidates, budget)
    score = require(candidates, "score", "stratified_by_score").astype(np.float64)
    order = best_first(score)
    stratum = _by_rank(order, strata) if bins == "count" else _by_width(score, strata)
    names, stratum, sizes = np.unique(stratum, return_inverse=True, return_counts=True)
    if within == "random":
        order = np.random.default_rng(seed).permutation(len(order))
    quota = by_size(sizes, n_take, allocation)
    mine = stratum[order]
    place = places_within(mine, sizes)
    inside = place < quota[mine]
    order, mine, place = order[inside], mine[inside], place[inside]
    turn = np.lexsort((mine, place))
    reason = [
        f"{p + 1} of {quota[s]} from stratum {names[s] + 1} of {strata} ({sizes[s]} rows), score {score[i]:.6g}"
        for i, s, p in zip(order[turn], mine[turn], place[turn], strict=True)
    ]
    order = order[turn].astype(np.int64)
    return Chosen(order, score[order], reason)


def _by_rank(order: np.ndarray, strata: int) -> np.ndarray:
    """The stratum of each row, 0 for the best: as many rows in each, the first ones hold one more."""
    stratum = np.empty(len(order), dtype=np.int64)
    for number, rows in enumerate(np.array_split(order, strata)):
        stratum[rows] = number
    return stratum


def _by_width(score: np.ndarray, strata: int) -> np.ndarray:
    """The stratum of each row, 0 for the best: half-open spans of one width, the lowest score in the lowest."""
    finite = score[np.isfinite(score)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if high - low <= TIE * max(abs(low), abs(high)):
        low, high = low - 1.0, low + 1.0
    part = np.clip(score, low, high) - low
    # Rounding is forgiven, so that a score on a border always belongs to the stratum above it.
    return strata - 1 - np.minimum(np.floor(part / (high - low) * strata + TIE), strata - 1).astype(np.int64)


# --- quotas for groups -----------------------------------------------------------------------------------------------
def group_quota(
    candidates: Candidates,
    budget: int,
    seed: int,
    quotas: Mapping[str, float] | None = None,
    others: float | None = None,
) -> Chosen:
    """So many rows from every named group, which in a recipe is the row's source; best first within each.

    Equation: b_g = quota of g; what g cannot give goes to the others.

    Parameters: `quotas` names groups. A whole number is a number of rows, a number with a point a share of the budget
    (`1` is one row, `1.0` all of them), and 0 keeps a group out. `others` is what the groups not named get together, by
    their sizes; None is all that is left of the budget. Without `quotas` every group gets its share of the pool.

    A group that cannot fill its quota gives its places to the groups that have a quota and rows left, in proportion to
    their quotas, and then to the groups not named (not where `others` is given). Quotas above the budget are cut in
    proportion; fractions of a row go by largest remainder. Rows go by score, ties by lowest index; without a score by
    chance under the seed. The order of choice keeps the quotas' proportions at every length. Gain: the score, NaN
    without one.

    Source: quota sampling; the mixtures of sources that the survey reports are set by hand in this way.
    """
    n_take = at_most(candidates, budget)
    labels = require(candidates, "groups", "group_quota")
    order, score, how = ranked(candidates, seed, "group_quota")
    said = np.array(["no group" if label is None else str(label) for label in labels], dtype=np.str_)
    names, group, sizes = np.unique(said, return_inverse=True, return_counts=True)
    named = np.isin(names, list(quotas or {}))
    asked = _asked(names, sizes, n_take, quotas or {}, others)
    wanted = _whole(asked, min(n_take, int(asked.sum() + 0.5)))
    quota = _filled(asked, wanted, sizes, ~named & (others is None))
    mine = group[order]
    place = places_within(mine, sizes)
    inside = place < quota[mine]
    order, mine, place = order[inside], mine[inside], place[inside]
    turn = np.lexsort((mine, np.round((place + 1) / quota[mine], 12)))
    of = [f"of {quota[g]} from {names[g]} ({_why(quota[g], wanted[g])})" for g in range(len(names))]
    reason = [
        f"{p + 1} {of[g]}, {how.format(score[i])}" for i, g, p in zip(order[turn], mine[turn], place[turn], strict=True)
    ]
    refused = {
        int(i): f"the quotas leave no place for {names[group[i]]}"
        for i in np.flatnonzero(((asked == 0) & (quota == 0))[group])
    }
    order = order[turn].astype(np.int64)
    return Chosen(order, score[order], reason, refused=refused if n_take else {})


def _asked(
    names: np.ndarray, sizes: np.ndarray, budget: int, given: Mapping[str, float], others: float | None
) -> np.ndarray:
    """How many rows the recipe wants of each group, in fractions, adding up to the budget at most."""
    if not isinstance(given, Mapping):
        raise ValueError(f"group_quota: quotas must map groups to numbers, e.g. {{code: 0.3}}; got {given!r}")
    amounts = [*given.items(), *([] if others is None else [("others", others)])]
    for name, amount in amounts:
        _refuse_amount(name, amount)
    shares = sum(amount for _, amount in amounts if isinstance(amount, float))
    if shares > 1 + TIE:
        raise ValueError(f"group_quota: the shares add up to {shares:g}, more than the budget")
    if len(names) and (strangers := sorted(set(given) - set(names))):
        raise ValueError(
            f"group_quota: no candidate is of group {', '.join(map(repr, strangers))}; "
            f"the groups are {', '.join(map(str, names))}"
        )
    asked = np.array([_rows(given.get(str(name), 0), budget) for name in names], dtype=np.float64)
    unnamed = np.array([str(name) not in given for name in names], dtype=bool)
    rest = max(budget - asked.sum(), 0.0) if others is None else _rows(others, budget)
    if unnamed.any():
        asked[unnamed] = rest * sizes[unnamed] / sizes[unnamed].sum()
    total = float(asked.sum())
    return asked * (budget / total) if total > budget else asked


def _refuse_amount(name: str, amount: object) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < np.inf:
        raise ValueError(
            f"group_quota: the quota of {name} is {amount!r}; give a number of rows or a share of the budget"
        )
    if isinstance(amount, float) and amount > 1:
        raise ValueError(
            f"group_quota: the quota of {name} is {amount:g}; a share is at most 1.0, rows are whole numbers"
        )


def _rows(amount: float, budget: int) -> float:
    return amount * budget if isinstance(amount, float) else float(amount)


def _whole(amounts: np.ndarray, total: int) -> np.ndarray:
    """The amounts as whole numbers that add up to ``total``: whole ones stay, fractions go by largest remainder."""
    whole = np.floor(amounts + TIE).astype(np.int64)
    fraction = np.round(np.maximum(amounts - whole, 0.0), 9)
    whole[np.argsort(-fraction, kind="stable")[: total - int(whole.sum())]] += 1
    return whole


def _filled(asked: np.ndarray, wanted: np.ndarray, sizes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The wanted numbers where the groups have them; the rest to others with a quota, then to those in ``last``."""
    quota = np.minimum(wanted, sizes)
    while left := int(wanted.sum() - quota.sum()):
        able = np.flatnonzero((quota < sizes) & (asked > 0))
        if not len(able):
            break
        quota[able] += np.minimum(largest_remainder(asked[able], left), sizes[able] - quota[able])
    free = np.flatnonzero(last & (quota < sizes))
    if left and len(free):
        quota[free] += by_size(sizes[free] - quota[free], left)
    return quota


def _why(quota: int, wanted: int) -> str:
    if quota < wanted:
        return f"all it has, its quota is {wanted}"
    return "its quota" if quota == wanted else f"its quota {wanted} and {quota - wanted} that others could not fill"


_SURVEY = "Qin et al. 2024, arXiv 2408.02085"

SELECTORS = (
    Selector(
        id="select_band",
        title="Rows nearest to a middle",
        axis="importance",
        family="selection",
        section="2",
        equation="order by |p(x) - m|, low <= p(x) <= high",
        paper="the middle first is ours; the window as in " + _SURVEY + ", Eq. 4 and 5",
        meaning="Takes rows that are neither too easy nor too hard: those nearest to the middle of a band come first.",
        needs=("score",),
        params={"target": None, "low": None, "high": None, "unit": "value"},
        select=band,
    ),
    Selector(
        id="stratified_by_score",
        title="Quota for every stratum of the score",
        axis="diversity",
        family="selection",
        section="5.4",
        equation="b_j = b / K over the strata C_1..C_K of the score",
        paper="coverage sampling of DEALRec, Lin et al. 2024, arXiv 2401.17197",
        meaning="Covers the whole range of the score, from the best rows to the worst, instead of one end of it.",
        needs=("score",),
        params={"strata": 10, "bins": "count", "allocation": "equal", "within": "best"},
        select=stratified_by_score,
    ),
    Selector(
        id="group_quota",
        title="Quota for every source",
        axis="diversity",
        family="selection",
        section="2",
        equation="S_b = union of the best b_g rows of every group g, sum_g b_g = b",
        paper="quota sampling, as in the mixtures of " + _SURVEY,
        meaning="You say how many rows each source gives, as a number or a share; the best rows of each are taken.",
        needs=("groups",),
        params={"quotas": None, "others": None},
        select=group_quota,
    ),
)
