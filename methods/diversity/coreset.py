"""Choosing by distance: cover the pool (k-center), or take the best that are not alike (DEITA's filter).

Here belong greedy selectors that compare a row with the rows chosen so far. Selectors that maximise a sum over the
pool (facility location) stand in ``facility.py``, those that work inside clusters beside it in ``diversity``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.similarity import QUANTUM, blocks, on_grid, units, usable_rows
from methods.selection.basic import at_most, best_first, require

TIE = 1e-6
"""Squared distances are told apart in steps of this, times the largest squared length: float32 vectors are no finer."""


def k_center_greedy(
    candidates: Candidates, budget: int, seed: int, start: int | None = None, given: Sequence[int] = ()
) -> Chosen:
    """Farthest-point sampling: each pick is the row farthest from all picked before (survey Eq. 38, Alg. 2).

    argmax_i min_{j in S} ||g_i - g_j||, which keeps the covering radius max_i min_{j in S} ||g_i - g_j|| within twice
    the best possible for that many rows. Euclidean distance; on unit vectors the order is that of the cosine. Exact:
    the choice is that of comparing each pick with all rows, but only rows that may be the next pick are compared (see
    `numerics.covering`). Squared distances are rounded to whole steps of 1e-6 of the largest squared length, and equal
    ones go to the lowest index. Memory: the pool's vectors, the picks' once more, and a few numbers a row.

    Parameters
    ----------
    candidates : ``vectors`` (n, d) float32, finite.
    budget : rows to take, beside those ``given``.
    seed : draws the first row where there is neither ``start`` nor ``given`` (the minimum over an empty set, with
        which the printed algorithm would begin, is undefined).
    start : index of the first row; counts toward the budget.
    given : indices of rows that are chosen already (an earlier pool S_b^0); they are not returned and do not count.

    Returns
    -------
    Chosen. ``gain``: distance to the nearest row chosen before, which is the covering radius before the pick (NaN for
    a first row with none before). The reason also names the covering radius after the pick.
    """
    vectors = np.ascontiguousarray(require(candidates, "vectors", "k_center_greedy"), dtype=np.float32)
    n = len(vectors)
    longest = float(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max(initial=0.0))
    if not np.isfinite(longest):
        raise ValueError("k_center_greedy: a candidate has no vector; drop such rows, with a reason, before it")
    if start is not None and len(given):
        raise ValueError("k_center_greedy begins at the rows given, or at start: leave one of them out")
    known = _indices(given, n, "given")
    n_take = min(at_most(candidates, budget), n - len(known))
    order: list[int] = []
    nearest: list[int] = []
    if n_take and not known:
        order = [int(np.random.default_rng(seed).integers(n))] if start is None else _indices([start], n, "start")
        nearest = [-1]
    # One row more than asked for: its distance is the covering radius that the last pick leaves.
    wanted = min(n_take + 1, n - len(known)) - len(order) if n_take else 0
    if wanted:
        from methods.numerics.covering import farthest_first

        found, beside = farthest_first(vectors, np.array(known or order, dtype=np.int64), wanted, TIE * longest or 1.0)
        order += found.tolist()
        nearest += beside.tolist()
    away = [_distance(vectors, i, j) for i, j in zip(order, nearest, strict=True)]
    after = [*away[1:], 0.0][:n_take]
    reason = [
        ("first row" if j < 0 else f"farthest from the rows chosen before ({g:.4f} from row {candidates.row_ids[j]})")
        + f"; every row now lies within {radius:.4f} of a chosen one"
        for g, j, radius in zip(away, nearest, after, strict=False)
    ]
    gain = np.array(away[:n_take], dtype=np.float64)
    return Chosen(np.array(order[:n_take], dtype=np.int64), gain, reason, np.array(nearest[:n_take], dtype=np.int64))


def _indices(rows: Sequence[int], n: int, name: str) -> list[int]:
    """Distinct indices into the pool, as given."""
    if len(set(rows)) != len(rows) or any(not 0 <= row < n for row in rows):
        raise ValueError(f"{name} must hold distinct indices from 0 to {n - 1}, got {list(rows)}")
    return [int(row) for row in rows]


def _distance(vectors: np.ndarray, i: int, j: int) -> float:
    return float(np.linalg.norm(vectors[i].astype(np.float64) - vectors[j])) if j >= 0 else float("nan")


def deita_filter(
    candidates: Candidates, budget: int, seed: int = 0, threshold: float = 0.9, block: int = 256
) -> Chosen:
    """The best rows of which no two are alike (DEITA's representation filter, survey Alg. 6).

    Walk down the rows by score; take a row iff max_{j in S} cos(g_i, g_j) <= threshold over the rows *taken* so far;
    stop at the budget or at the end of the pool. The first row is always taken.

    The survey prints "distance > tau"; with cosine similarity s the paper's rule is s <= 0.9, i.e. distance >= 0.1.
    A literal ``1 - cos > 0.9`` would keep almost nothing. Compared with the reference code, a row of the same block
    counts only if it was taken, so the result does not depend on the block. Cosines are exact (to the grid of
    ``numerics.similarity``), and one within 1e-6 of the threshold counts as equal to it. O(scanned x taken).

    Parameters
    ----------
    candidates : ``score`` (complexity x quality in the paper) and ``vectors``, rows of unit length.
    budget : rows to take; fewer are taken if the pool ends before, and the last reason says so.
    seed : not used.
    threshold : largest cosine allowed to a row taken before.
    block : rows compared at a time; never changes the result.

    Returns
    -------
    Chosen. ``gain``: the row's score. ``nearest``: the most similar row taken before. ``refused``: the rows that were
    looked at and are too close to a taken one, and to which (row id and cosine). Rows after the last one needed were
    not looked at.
    """
    score = require(candidates, "score", "deita_repr_filter")
    vectors = require(candidates, "vectors", "deita_repr_filter")
    n_take = at_most(candidates, budget)
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError("deita_repr_filter: a candidate has no vector; drop such rows, with a reason, before it")
    limit = np.floor(threshold / QUANTUM + 1 + 1e-9)  # whole units; one unit above still counts as equal
    walk = Walk(vectors, n_take, limit)
    ranked = best_first(score)
    for part in blocks(len(ranked), block):
        if len(walk.order) == n_take:
            break
        walk.look_at(ranked[part])
    reason = [_why_taken(candidates, score[i], j, c) for i, j, c in zip(walk.order, walk.near, walk.close, strict=True)]
    if reason and len(reason) < budget:
        reason[-1] += f"; the pool ended here, {len(reason)} of the {budget} rows asked for"
    refused = {i: f"too close to row {candidates.row_ids[j]} ({c:.2f})" for i, (j, c) in walk.refused.items()}
    order = np.array(walk.order, dtype=np.int64)
    return Chosen(order, score[order].astype(np.float64), reason, np.array(walk.near, dtype=np.int64), refused)


class Walk:
    """The rows taken on the way down, with the nearest row taken before each."""

    def __init__(self, vectors: np.ndarray, n_take: int, limit: float) -> None:
        self.vectors, self.n_take, self.limit = vectors, n_take, limit
        self.order: list[int] = []
        self.near: list[int] = []
        self.close: list[float] = []
        self.refused: dict[int, tuple[int, float]] = {}

    def look_at(self, rows: np.ndarray) -> None:
        """Take or refuse a block of rows in their order."""
        here = on_grid(self.vectors[rows])
        closest, level = self._nearest_taken(here)
        among = units(here, here)
        for i, row in enumerate(rows.tolist()):
            if len(self.order) == self.n_take:
                return
            if level[i] > self.limit:
                self.refused[row] = (int(closest[i]), float(level[i] * QUANTUM))
                continue
            self.order.append(row)
            self.near.append(int(closest[i]))
            self.close.append(float(level[i] * QUANTUM))
            nearer = among[i] > level
            level[nearer], closest[nearer] = among[i][nearer], row

    def _nearest_taken(self, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each row of a block, the most similar row taken in earlier blocks (the first of equals), in units."""
        closest = np.full(len(here), -1, dtype=np.int64)
        level = np.full(len(here), -np.inf)
        taken = np.array(self.order, dtype=np.int64)
        for part in blocks(len(taken)):
            found = units(here, on_grid(self.vectors[taken[part]]))
            winner = found.argmax(axis=1)
            value = found[np.arange(len(here)), winner]
            better = value > level
            level[better], closest[better] = value[better], taken[part][winner[better]]
        return closest, level


def _why_taken(candidates: Candidates, score: float, nearest: int, cosine: float) -> str:
    if nearest < 0:
        return f"best score {score:.6g}"
    return f"score {score:.6g}, nearest taken row {candidates.row_ids[nearest]} ({cosine:.2f})"


SELECTORS = (
    Selector(
        id="k_center_greedy",
        title="K-center greedy (farthest point)",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="x* = argmax_i min_{j in S_b} ||g(x_i) - g(x_j)||",
        paper="Sener & Savarese 2017, arXiv 1708.00489",
        meaning="Covers the pool so that no row is far from a chosen one. Fond of outliers: clean the pool first.",
        needs=("vectors",),
        params={"start": None, "given": ()},
        select=k_center_greedy,
    ),
    Selector(
        id="deita_repr_filter",
        title="DEITA: best rows that are not alike",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="take x_i in order of q(x) iff max_{j in S_b} cos(g(x_i), g(x_j)) <= tau",
        paper="Liu et al. 2023 (DEITA), arXiv 2312.15685",
        meaning="The highest scores, without a row that is too similar to one already taken.",
        needs=("score", "vectors"),
        params={"threshold": 0.9, "block": 256},
        select=deita_filter,
    ),
)
