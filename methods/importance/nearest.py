"""The pool's rows nearest to a target by cosine, in all or in turn for each of the target's parts.

Here belongs what compares a row's vector with those of the target's rows. What compares their words stands in
``dsir.py``; whether the target itself stands in the pool in ``target_check.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.similarity import QUANTUM, TILE, blocks, on_grid, units, usable_rows
from methods.selection.basic import at_most, best_first, require

Turns = Literal["none", "target", "row"]

_INDEX = 2.0**32
"""One unit of cosine in a key; a key is ``units * _INDEX - index``: a whole number below 2^53, hence exact."""
_SPARE = 16
"""Rows that each target row's list holds beyond its part of the budget; a list that runs out is searched again."""


@dataclass(frozen=True)
class Likeness:
    """How near each row of a pool comes to a target."""

    value: np.ndarray
    """(n,) float64: the mean of the largest cosines to the target's rows."""
    row: np.ndarray
    """(n,) int64: the target's row of largest cosine, the first of equals."""
    largest: np.ndarray
    """(n,) float64: that cosine."""


def likeness(vectors: np.ndarray, target: np.ndarray, top_m: int = 1, block: int = 2048) -> Likeness:
    """The mean of each row's ``top_m`` largest cosines to the target's rows (all of them where there are fewer).

    Cosines are exact to the grid of ``numerics.similarity``, so that the block never changes the result. Memory: the
    vectors and one block of cosines, at most ``block`` x `TILE`.
    """
    if top_m < 1:
        raise ValueError(f"top_m must be at least 1, got {top_m}")
    if not len(target) or target.shape[1] != vectors.shape[1]:
        raise ValueError(f"a target of shape {target.shape} does not fit vectors of shape {vectors.shape}")
    m, n = min(top_m, len(target)), len(vectors)
    value, row, largest = np.empty(n), np.empty(n, dtype=np.int64), np.empty(n)
    goal = on_grid(target)
    for part in blocks(n, block):
        here = on_grid(vectors[part])
        best = np.full((len(here), m), -np.inf)
        for tile in blocks(len(goal), TILE):
            keys = units(here, goal[tile]) * _INDEX - np.arange(tile.start, tile.stop)
            if keys.shape[1] > m:
                keys = np.partition(keys, keys.shape[1] - m, axis=1)[:, -m:]
            best = np.sort(np.hstack([best, keys]), axis=1)[:, ::-1][:, :m]
        level = np.ceil(best / _INDEX)
        value[part] = level.sum(axis=1) * QUANTUM / m
        row[part] = level[:, 0] * _INDEX - best[:, 0]
        largest[part] = level[:, 0] * QUANTUM
    return Likeness(value, row, largest)


def nearest_to_target(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    targets: Sequence[str] | None = None,
    top_m: int = 1,
    per_target: Turns = "none",
    block: int = 2048,
) -> Chosen:
    """The rows most like a target: of the largest mean of ``top_m`` cosines to the target's rows.

    One cosine (``top_m=1``) asks for a row like *some* row of the target; more ask for rows like several of them. By
    likeness alone a choice may crowd around a few of the target's rows; ``per_target`` gives every part its turn:
    ``target``: every named target in turn takes the row nearest to it that is left; ``row``: every row of every
    target does (by one cosine). The last turns go to the first parts, so parts differ by one row at most.

    Cosines are exact to the grid of ``numerics.similarity``: rows within about 1e-6 are tied and go to the lowest
    index. O(n x target rows). Memory: the vectors, one block of cosines, and for ``row`` a list of some
    budget / target rows entries for each row of the target.

    Parameters
    ----------
    candidates : ``vectors`` and ``targets`` with vectors, all of unit length.
    budget : rows to take.
    seed : not used.
    targets : names of the targets to use; all by default.
    top_m : cosines that are averaged.
    per_target : ``none``, ``target`` or ``row``.
    block : rows compared at a time; never changes the result.

    Returns
    -------
    Chosen. ``gain``: the likeness that the row was taken by. The reason names the nearest of the target's rows, by
    target and number from 0.
    """
    vectors = require(candidates, "vectors", "nearest_to_target")
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError("nearest_to_target: a candidate has no vector; drop such rows, with a reason, before it")
    goals = _goals(candidates, targets)
    if per_target not in ("none", "target", "row"):
        raise ValueError(f"per_target must be none, target or row, got {per_target!r}")
    if per_target == "row" and top_m != 1:
        raise ValueError("per_target=row takes one cosine to each row of the target: leave top_m at 1")
    n_take = at_most(candidates, budget)
    if not n_take:
        return Chosen(np.zeros(0, np.int64), np.zeros(0), [])
    goal = np.concatenate(list(goals.values()))
    labels = [f"row {i} of {name}" for name, rows in goals.items() for i in range(len(rows))]
    if per_target == "row":
        order, parts, gain = _by_rows(vectors, goal, n_take, block)
        reason = [f"cosine {g:.4f} to {labels[t]}, whose turn it was" for t, g in zip(parts, gain, strict=True)]
        return Chosen(order, gain, reason)
    starts = np.cumsum([0, *map(len, goals.values())])
    sets = [goal] if per_target == "none" else list(goals.values())
    likes = [likeness(vectors, rows, top_m, block) for rows in sets]
    if per_target == "none":
        order, parts = best_first(likes[0].value)[:n_take], np.zeros(n_take, np.int64)
    else:
        order, parts = _in_turn([best_first(like.value) for like in likes], n_take)
    reason = []
    for i, part in zip(order.tolist(), parts.tolist(), strict=True):
        like = likes[part]
        text = f"cosine {like.largest[i]:.4f} to {labels[starts[part] + like.row[i]]}"
        mean = f", mean of the {min(top_m, len(sets[part]))} largest {like.value[i]:.4f}" if top_m > 1 else ""
        reason.append(text + mean + (", whose turn it was" if per_target == "target" else ""))
    gain = np.array([likes[part].value[i] for i, part in zip(order, parts, strict=True)], dtype=np.float64)
    return Chosen(order.astype(np.int64), gain, reason)


def _goals(candidates: Candidates, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The wanted targets' vectors, in the order named; those without rows are left out."""
    found: dict[str, np.ndarray] = {}
    for name in candidates.targets if names is None else names:
        if name not in candidates.targets:
            known = ", ".join(candidates.targets) or "none"
            raise ValueError(f"nearest_to_target: there is no target {name!r}; there are {known}")
        vectors = candidates.targets[name].vectors
        if vectors is None:
            raise ValueError(f"nearest_to_target: the target {name} has no vectors; embed it first")
        if len(usable_rows(vectors)) < len(vectors):
            raise ValueError(f"nearest_to_target: a row of target {name!r} has no vector")
        if len(vectors):
            found[name] = vectors
    if not found:
        raise ValueError("nearest_to_target needs a target with at least one row")
    return found


def _in_turn(rankings: list[np.ndarray], n_take: int) -> tuple[np.ndarray, np.ndarray]:
    """Each ranking in turn takes its best row that is left: the rows, and which ranking took each."""
    taken = np.zeros(len(rankings[0]), dtype=bool)
    place = [0] * len(rankings)
    order, parts = np.empty(n_take, np.int64), np.arange(n_take) % len(rankings)
    for i, part in enumerate(parts.tolist()):
        while taken[rankings[part][place[part]]]:
            place[part] += 1
        order[i] = rankings[part][place[part]]
        taken[order[i]] = True
    return order, parts


def _by_rows(
    vectors: np.ndarray, goal: np.ndarray, n_take: int, block: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row of the target in turn takes the nearest row left: the rows, the target's rows, the cosines."""
    length = min(-(-n_take // len(goal)) + _SPARE, len(vectors))
    lists = _nearest(vectors, goal, np.zeros(len(vectors), dtype=bool), length, block)
    taken = np.zeros(len(vectors), dtype=bool)
    place = np.zeros(len(goal), dtype=np.int64)
    order, gain, parts = np.empty(n_take, np.int64), np.empty(n_take), np.arange(n_take) % len(goal)
    for i, part in enumerate(parts.tolist()):
        while True:
            if place[part] == length:
                lists[part] = _nearest(vectors, goal[part : part + 1], taken, length, block)[0]
                place[part] = 0
            key = lists[part, place[part]]
            place[part] += 1
            level = np.ceil(key / _INDEX)
            row = int(level * _INDEX - key)
            if not taken[row]:
                break
        order[i], gain[i] = row, level * QUANTUM
        taken[row] = True
    return order, parts, gain


def _nearest(vectors: np.ndarray, goal: np.ndarray, taken: np.ndarray, length: int, block: int) -> np.ndarray:
    """(rows of the target, length) keys, best first, of the nearest rows that are not taken; -inf where none is."""
    left = np.flatnonzero(~taken)
    found = np.full((len(goal), length), -np.inf)
    for tile in blocks(len(goal), TILE):
        goals = on_grid(goal[tile])
        for part in blocks(len(left), block):
            keys = units(goals, on_grid(vectors[left[part]])) * _INDEX - left[part]
            if keys.shape[1] > length:
                keys = np.partition(keys, keys.shape[1] - length, axis=1)[:, -length:]
            found[tile] = np.sort(np.hstack([found[tile], keys]), axis=1)[:, ::-1][:, :length]
    return found


SELECTORS = (
    Selector(
        id="nearest_to_target",
        title="Nearest to the target",
        axis="importance",
        family="model",
        section="5.2",
        equation="S_b = top-b of (1/m) sum of the m largest cos(g(x), g(t)) over target rows t",
        paper="similarity to a target, the usual baseline of importance methods (Qin et al. 2024, arXiv 2408.02085)",
        meaning="Takes the rows whose meaning is nearest to what one wants to be good at.",
        needs=("vectors", "target_vectors"),
        params={"targets": None, "top_m": 1, "per_target": "none", "block": 2048},
        select=nearest_to_target,
    ),
)
