"""Selectors that read several indicators of a row side by side: BetterMixture's vote, and MoDS's union.

Here belong choices for which one score is not enough, because each indicator has its own say. Which indicators they
get, a recipe's ``reads`` names; their raw values come as `Candidates.values`, NaN where a row has none. What a recipe
does before (gates, near-duplicates) and joining indicators into one score do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.selection.aggregate import tied
from methods.selection.basic import at_most, best_first

By = Literal["band", "top"]


def _read(candidates: Candidates, names: Sequence[str], method: str) -> list[np.ndarray]:
    """These indicators of the candidates, or an error that says what a recipe has to name."""
    found = []
    for name in names:
        if name not in candidates.values:
            has = ", ".join(candidates.values) or "none"
            raise ValueError(f"{method} needs {name}, and the recipe reads {has}: add `reads: [{', '.join(names)}]`")
        column = np.asarray(candidates.values[name], dtype=np.float64)
        if column.shape != (len(candidates),):
            raise ValueError(f"{method}: {column.size} values of {name} do not fit {len(candidates)} candidates")
        found.append(column)
    return found


# --- BetterMixture ----------------------------------------------------------------------------------------------------
def bettermixture_voting(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    voters: Sequence[str] = ("ifd", "ifd_experienced"),
    votes: int = 2,
    by: By = "band",
    tau_min: float = 0.0,
    below: float = 1.0,
    top: float = 0.1,
    fill: bool = True,
) -> Chosen:
    """Rows on which several models' instruction-following difficulties agree, by mean rank; the seed is not used.

    Equation: v_m(x) = [tau_min < IFD_m(x) < below] (`band`), or [IFD_m(x) among the top r of the values under `below`]
    (`top`); keep x if sum_m v_m(x) >= v. Votes (1, 1) and (1, 0) with v = 2: keep, drop.

    Parameters: `voters` are the indicators that vote, the base model's and the experienced one's IFD; a recipe's
    `reads` names them. `votes` is v: the number of voters is the intersection, 1 the union. `by` is `band` or `top`.
    `tau_min` and `below` are the open ends of the band (0, and 1, above which the prompt misleads); `below` bounds the
    top as well. `top` is r: a share of the values under `below`, below 1 and rounded to the nearest row, or, from 1,
    so many of them. `fill` takes rows with fewer votes, but one at least, where the kept ones do not fill the budget;
    without it, those are refused.

    Order: the kept rows by mean rank, then the filled in ones by mean rank, ties by lowest index. A voter ranks the
    values under `below` from the highest (1; equal values share their mean rank); all other rows, without a value or
    at `below` and more, share the last rank, that of the last row. A row without a value has no vote of that voter.

    Gain: minus the mean rank. Every row that is not taken for want of votes is refused with its votes; a row that the
    budget alone leaves out is not.

    Source: Zhao and Fang 2024, BetterMixture (arXiv 2403.13233).

    Departures: the paper's rule of voting is not published; the band, the top and the mean rank are as the survey's
    account suggests them, and the fill never takes a row that nobody is for. The band of perplexity is a gate of the
    recipe; the paper's k-center at the end is a selector of its own.
    """
    voters = [voters] if isinstance(voters, str) else list(voters)
    _refuse_nonsense(voters, votes, by, top)
    n_take, rows = at_most(candidates, budget), len(candidates)
    scores = _read(candidates, voters, "bettermixture_voting")
    each = [(score, np.isfinite(score) & (score < below)) for score in scores]
    yes = np.stack([under & (score > tau_min) if by == "band" else _top(score, under, top) for score, under in each])
    count = yes.sum(axis=0)
    rank = np.mean([_ranks(score, under) for score, under in each], axis=0)
    by_rank = np.lexsort((np.arange(rows), np.round(rank, 9)))
    kept, short = by_rank[count[by_rank] >= votes], by_rank[(count[by_rank] > 0) & (count[by_rank] < votes)]
    order = np.concatenate([kept, short] if fill else [kept])[:n_take].astype(np.int64)
    taken = set(order.tolist())
    refused = {int(i): _said(voters, yes[:, i]) for i in np.flatnonzero(count < votes) if int(i) not in taken}
    reason = [
        f"{_said(voters, yes[:, i])}, mean rank {rank[i]:.6g} of {rows}" + ("" if count[i] >= votes else ", filled in")
        for i in order
    ]
    return Chosen(order, -rank[order], reason, refused=refused)


def _refuse_nonsense(voters: list[str], votes: int, by: str, top: float) -> None:
    if not voters or len(set(voters)) < len(voters):
        raise ValueError(f"voters must name at least one indicator, each once; got {voters}")
    if not 1 <= votes <= len(voters):
        raise ValueError(f"votes must be between 1 and the number of voters ({len(voters)}), got {votes}")
    if by not in ("band", "top"):
        raise ValueError(f"by must be band or top, got {by!r}")
    if not top > 0 or (top >= 1 and top != int(top)):
        raise ValueError(f"top must be a share between 0 and 1, or a whole number of rows; got {top}")


def _groups(score: np.ndarray, under: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows under the bound from the highest value down, ties by row, and which of them are of one value."""
    rows = np.flatnonzero(under)
    order = rows[np.argsort(-score[rows], kind="stable")]
    group = np.concatenate([[0], np.cumsum(~tied(score[order]))]) if len(order) else order
    return order[np.lexsort((order, group))], group


def _top(score: np.ndarray, under: np.ndarray, top: float) -> np.ndarray:
    """Which rows are among the highest values under the bound; ties at the edge go to the lowest index."""
    order, _ = _groups(score, under)
    yes = np.zeros(len(score), dtype=bool)
    yes[order[: int(top) if top >= 1 else round(top * len(order))]] = True
    return yes


def _ranks(score: np.ndarray, under: np.ndarray) -> np.ndarray:
    """1 for the highest value under the bound, equal values at their mean rank, the number of rows for the others."""
    order, group = _groups(score, under)
    rank = np.full(len(score), float(len(score)))
    if len(order):
        sizes = np.bincount(group)
        rank[order] = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return rank


def _said(voters: list[str], yes: np.ndarray) -> str:
    names = [name for name, voted in zip(voters, yes, strict=True) if voted]
    return f"{len(names)} of {len(yes)} votes" + (f" ({', '.join(names)})" if names else "")


# --- MoDS -------------------------------------------------------------------------------------------------------------
def mods_union(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    seeds: str = "mods_seed",
    necessity: str = "reward_necessity",
    threshold: float = 0.0,
) -> Chosen:
    """MoDS's last step: the seed rows, and the rows that a model tuned on them still answers badly. No chance.

    Equation: S = seed + {x : r(Q, generated answer) < threshold}, up to the budget. Rewards (-1.2, 0, 0.3) of the
    generated answers and threshold 0: only the first is needed.

    Parameters: `seeds` is the indicator that holds the seed rows' ranks (1 is the first; no value: no seed row),
    `necessity` the one that holds minus the reward of the tuned model's answer. `threshold` is the reward below which,
    strictly, a row is needed (0; it is the reward model's own scale).

    Order: the seed rows by rank, then the needed rows from the lowest reward up, ties by lowest index. A row that is
    both stands once, as a seed row.

    Gain: minus the reward; NaN for a seed row whose answer has none. Rows that are neither are refused, and a row
    without a reward is never needed.

    Source: Du, Zong and Zhang 2023, MoDS (arXiv 2311.15653).

    Departures: the reference keeps a row twice that is both; it has no budget, which here cuts the needed rows first.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not np.isfinite(threshold):
        raise ValueError(f"mods_union: threshold takes a finite number, got {threshold!r}")
    n_take = at_most(candidates, budget)
    rank, need = _read(candidates, (seeds, necessity), "mods_union")
    seeded = np.flatnonzero(np.isfinite(rank))
    first = seeded[best_first(-rank[seeded])]
    needed = np.flatnonzero(np.isfinite(need) & (need > -threshold) & ~np.isfinite(rank))
    order = np.concatenate([first, needed[best_first(need[needed])]])[:n_take].astype(np.int64)
    answered = [f"the tuned model's answer has a reward of {0.0 - x:.6g}" if np.isfinite(x) else "" for x in need]
    reason = [
        f"seed row, rank {rank[i]:.6g}" if np.isfinite(rank[i]) else f"needed: {answered[i]}, below {threshold:g}"
        for i in order
    ]
    neither = ~np.isfinite(rank)
    neither[needed] = False
    refused = {
        int(i): f"no seed row; {answered[i]}, not below {threshold:g}" if answered[i] else "no seed row, and no reward"
        for i in np.flatnonzero(neither)
    }
    return Chosen(order, need[order], reason, refused=refused)


SELECTORS = (
    Selector(
        id="bettermixture_voting",
        title="BetterMixture: what several models find instructive",
        axis="quality",
        family="selection",
        section="3.2",
        equation="keep x iff sum_m [tau_min < IFD_m(x) < 1] >= v, by mean rank",
        paper="Zhao and Fang 2024, BetterMixture, arXiv 2403.13233",
        meaning="Rows that a model as it came and one that has seen some instructions both find neither trivial nor "
        "misleading. One model's whim does not decide.",
        needs=("values",),
        params={
            "voters": ("ifd", "ifd_experienced"),
            "votes": 2,
            "by": "band",
            "tau_min": 0.0,
            "below": 1.0,
            "top": 0.1,
            "fill": True,
        },
        select=bettermixture_voting,
    ),
    Selector(
        id="mods_union",
        title="MoDS: the seed, and what a model tuned on it still needs",
        axis="importance",
        family="selection",
        section="5.2",
        equation="S = seed + {x : r(Q, A_generated) < threshold}",
        paper="Du, Zong and Zhang 2023, MoDS, arXiv 2311.15653",
        meaning="Diverse rows to start from, then those whose instruction the model tuned on the start answers worst.",
        needs=("values",),
        params={"seeds": "mods_seed", "necessity": "reward_necessity", "threshold": 0.0},
        select=mods_union,
    ),
)
