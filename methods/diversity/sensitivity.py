"""Sampling by sensitivity: few losses, one a cluster, say how likely every row is drawn, and what it then weighs.

Here belong the probabilities, the draw with and without replacement, and its weights. Other choices inside clusters
stand in ``cluster_sampling.py``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from methods.diversity.cluster_sampling import labels_of, to_centre, vectors_of
from methods.kinds import Candidates, Chosen, Selector
from methods.selection.basic import at_most, best_first, require

Scale = float | Literal["hoelder"]


def sensitivity_sampling(
    candidates: Candidates,
    budget: int,
    seed: int,
    loss: str | None = None,
    k: int | None = None,
    z: float = 2.0,
    scale: Scale = 1.0,
    replacement: bool = True,
) -> Chosen:
    """Draws rows where the loss is high or the cluster wide, with weights that make up for it.

    Equation: s_i = loss(c_j) + scale ||g_i - mean(C_j)||^z for a row of cluster j, p_i = s_i / sum s; b draws with
    probabilities p, weight 1 / (b p_i). c_j is the row of the cluster that is nearest to its mean (ties by index) and
    has a loss: one loss a cluster is enough. Losses (2, 2, 1, 1) and squared distances (0, 4, 0, 1) give
    p = 2/11, 6/11, 1/11, 2/11, and for b = 2 weights 2.75, .9167, 5.5, 2.75. Where all s are 0, p is uniform.

    Gain and weight: the row's weight, which is part of the method: the sum of weight times loss over the chosen rows
    estimates the sum of the losses over the pool without bias. Whoever trains must weigh the rows' losses by it. p
    stands in the reason.

    Parameters: `loss` names the indicator that holds the losses; None takes the only one that the recipe reads, or the
    score where it reads none. Losses are never negative, lower is easier; rows may lack one (or have an infinite one),
    but a cluster without any is left out and its rows are refused. `k` None takes the pool's clusters (a negative label
    is a cluster too); a number looks for so many by spherical k-means with `seed`. `z` is 2. `scale` is the paper's
    Lambda: a number (1), or `hoelder`, for each cluster the largest |loss_i - loss(c_j)| / ||g_i - mean(C_j)|| of its
    rows that have a loss, times ln N.

    `replacement`: True as in the paper; a row drawn m times stands once, with weight m / (b p_i), so there can be fewer
    rows than draws. False takes the b largest ln p_i + Gumbel noise, which is drawing without replacement; the weight
    is 1 / P(ln p_i + noise > the largest one left out), under which the estimate has no bias either (Kool et al.
    2019, arXiv 1903.06059), and 1 where all rows are taken. Rows with p = 0 are never drawn.

    Order: as drawn. Source: Axiotis et al. 2024, arXiv 2402.17327.

    Departures: the survey has p proportional to both terms; it is to their sum.
    """
    _refuse_nonsense(z, scale)
    vectors = vectors_of(candidates, "sensitivity_sampling")
    name, losses = _losses(candidates, loss)
    labels = labels_of(candidates, k, seed, "sensitivity_sampling")
    n_draw = at_most(candidates, budget)
    names, cluster = np.unique(labels, return_inverse=True)
    distance = to_centre(vectors, cluster)
    centre = _centres(distance, cluster, losses, len(names))
    rows = np.flatnonzero(centre[cluster] >= 0)
    refused = {int(i): f"no row of cluster {labels[i]} has {name}" for i in np.flatnonzero(centre[cluster] < 0)}
    of_centre = losses[centre[cluster[rows]]]
    wide = _scales(scale, distance[rows], losses[rows] - of_centre, cluster[rows], len(names), len(rows))
    p = probabilities(of_centre, distance[rows], z, wide)
    rng = np.random.default_rng(seed)
    drawn, weight, times = (_with if replacement else _without)(p, min(n_draw, len(rows)), rng)
    how = "drawn {} of " + f"{min(n_draw, len(rows))} times" if replacement else "drawn"
    reason = [
        f"{how.format(m)} with p = {p[i]:.6g}: {name} {of_centre[i]:.6g} at the centre of cluster {labels[rows[i]]} "
        f"(row {candidates.row_ids[int(centre[cluster[rows[i]]])]}), {distance[rows[i]]:.4f} away; weight {w:.6g}"
        for i, m, w in zip(drawn, times, weight, strict=True)
    ]
    return Chosen(rows[drawn].astype(np.int64), weight, reason, refused=refused, weight=weight)


def probabilities(
    loss: np.ndarray, distance: np.ndarray, z: float = 2.0, scale: float | np.ndarray = 1.0
) -> np.ndarray:
    """p_i proportional to loss_i + scale distance_i^z, uniform where all of them are 0."""
    s = loss + scale * distance**z
    total = s.sum()
    return s / total if total > 0 else np.full(len(s), 1 / max(len(s), 1))


def _with(p: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows in the order of their first draw, their weights, and how often they were drawn."""
    mass = np.cumsum(p)
    if not n:
        return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0, dtype=np.int64)
    draws = np.searchsorted(mass, rng.random(n) * mass[-1], side="right")
    draws = np.minimum(draws, np.flatnonzero(p)[-1])  # rounding may reach the end
    drawn, first, times = np.unique(draws, return_index=True, return_counts=True)
    in_order = np.argsort(first)
    drawn, times = drawn[in_order], times[in_order]
    return drawn, times / (n * p[drawn]), times


def _without(p: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_with`: the ``n`` largest of ln p + noise, weighed by the chance to lie above the next one."""
    noise = rng.gumbel(size=len(p))
    able = np.flatnonzero(p)
    log_p = np.log(p[able])
    key = log_p + noise[able]
    order = np.argsort(-key, kind="stable")
    drawn = order[:n]
    bar = key[order[n]] if n < len(order) else -np.inf
    weight = -1 / np.expm1(-np.exp(log_p[drawn] - bar)) if np.isfinite(bar) else np.ones(len(drawn))
    return able[drawn], weight, np.ones(len(drawn), dtype=np.int64)


def _losses(candidates: Candidates, loss: str | None) -> tuple[str, np.ndarray]:
    """What the losses are called, and the losses; NaN where there is none."""
    method, has = "sensitivity_sampling", ", ".join(candidates.values) or "nothing"
    if loss is None and not candidates.values:
        name, found = "score", require(candidates, "score", method).astype(np.float64)
    elif loss is None and len(candidates.values) > 1:
        raise ValueError(f"{method}: the recipe reads {has}; say which of them is the loss")
    else:
        name = next(iter(candidates.values)) if loss is None else loss
        if name not in candidates.values:
            raise ValueError(f"{method} needs {name}, and the recipe reads {has}: add `reads: [{name}]`")
        found = np.asarray(candidates.values[name], dtype=np.float64)
        if found.shape != (len(candidates),):
            raise ValueError(f"{method}: {found.size} values of {name} do not fit {len(candidates)} candidates")
    found = np.where(np.isfinite(found), found, np.nan)
    if (found < 0).any():
        raise ValueError(f"{method}: a loss is never negative, and {name} is; let the recipe read a loss as it is")
    return name, found


def _centres(distance: np.ndarray, cluster: np.ndarray, losses: np.ndarray, k: int) -> np.ndarray:
    """For each cluster the row with a loss that is nearest to its mean, -1 where no row has one."""
    near_first = best_first(-distance)
    near_first = near_first[np.isfinite(losses[near_first])]
    found = np.full(k, -1, dtype=np.int64)
    some, first = np.unique(cluster[near_first], return_index=True)
    found[some] = near_first[first]
    return found


def _scales(
    scale: Scale, distance: np.ndarray, more: np.ndarray, cluster: np.ndarray, k: int, n: int
) -> float | np.ndarray:
    if scale != "hoelder":
        return float(scale)
    steep = np.zeros(k)
    told = np.isfinite(more) & (distance > 1e-9)
    np.maximum.at(steep, cluster[told], np.abs(more[told]) / distance[told])
    return (steep * np.log(max(n, 1)))[cluster]


def _refuse_nonsense(z: float, scale: Scale) -> None:
    numbers = {"z": z} if scale == "hoelder" else {"z": z, "scale": scale}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not (np.isfinite(value) and value >= 0):
            choice = " or hoelder" if name == "scale" else ""
            raise ValueError(f"sensitivity_sampling: {name} is a number from 0 on{choice}, got {value!r}")


SELECTORS = (
    Selector(
        id="sensitivity_sampling",
        title="Sensitivity sampling",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="p_i = s_i / sum s,  s_i = loss(c_j) + Lambda ||g(x_i) - mean(C_j)||^z,  weight 1 / (b p_i)",
        paper="Axiotis et al. 2024, arXiv 2402.17327",
        meaning="Rows are likelier where the model is bad and where a topic is wide. The weight is what the "
        "row must count for in training so that the choice stands for the whole pool.",
        needs=("vectors", "clusters", "values"),
        params={"loss": None, "k": None, "z": 2.0, "scale": 1.0, "replacement": True},
        select=sensitivity_sampling,
    ),
)
