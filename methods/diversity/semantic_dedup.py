"""Choosing by leaving out: rows that mean the same as another (SemDeDup), and the most typical ones (D4).

Here belong selectors that drop rows inside clusters. Duplicates by their words are found in ``filters``; DEITA's
filter, which compares a row with every row taken, stands in ``coreset.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from methods.diversity.clusters import default_k
from methods.diversity.coreset import Walk
from methods.diversity.facility import all_vectors
from methods.kinds import Candidates, Chosen, Selector
from methods.numerics import kmeans
from methods.numerics.similarity import QUANTUM, QUANTUM_BITS, TILE, blocks, on_grid, units
from methods.selection.basic import at_most, largest_remainder, places_within, require

Order = Literal["hard", "easy", "random"]
Semantics = Literal["reference", "greedy"]
Clusters = Literal["own", "given"]
Scope = Literal["global", "cluster"]
MOST_ROWS = 50_000
"""Clusters with more rows are split by a k-means of their own: the cost of one grows with the square of its rows."""
WALK_BLOCK = 256
_SAME = 2**QUANTUM_BITS
"""A cosine of 1 in whole units."""


def semdedup(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    epsilon: float | Literal["auto"] = 0.05,
    semantics: Semantics = "reference",
    order: Order = "hard",
    clusters: Clusters = "own",
    k: int | None = None,
) -> Chosen:
    """Rows without their semantic duplicates: inside a cluster, a row too close to an earlier one is dropped.

    Equation: within each cluster, in its order, drop x_i iff max_{j before i} cos(g_i, g_j) > 1 - epsilon.

    Parameters: `epsilon` (.05; the papers sweep it) is the distance up to which two rows mean the same. `auto` takes
    the largest one that leaves at least as many rows as the budget, so that duplicates are all that is left out.
    `semantics`: `reference` (default, as published code does) compares a row with all earlier ones, also with those
    that were dropped, so that a chain of near rows goes down to its first; `greedy` compares with kept rows only and
    keeps more. `order`: `hard` (default) goes from the row farthest from its centroid to the nearest and so keeps
    unusual rows, `easy` the other way, `random` by the seed. `clusters`: `own` fits a spherical k-means with `k`
    clusters (None: the square root of the number of rows, at most 2,000) under the seed; `given` takes those of the
    candidates, where a negative label is one cluster like the others.

    Where more rows are left than the budget asks for, the first in order are taken, over all clusters: with `hard` the
    ones farthest from their centroids. Equal distances go to the lowest index. Cosines are exact (to the grid of
    `numerics.similarity`), and one within 1e-6 of 1 - epsilon counts as equal to it and drops nothing.

    Gain: the distance 1 - cos to the row's centroid. `nearest` is the most similar row of the same cluster chosen
    before. Refused: every duplicate, with the kept row that stands for it and their cosine; by `reference` semantics
    this may be the end of a chain, and less alike than 1 - epsilon.

    Source: Abbas et al. 2023 (arXiv 2303.09540) and its published code.

    Departures: `auto` sorts the cosines to the nearest earlier row, which gives what a bisection would converge to;
    `greedy` bisects. A cluster above 50,000 rows is split by another k-means, and its parts are not compared with each
    other; the order stays that of the whole cluster.
    """
    vectors = all_vectors(candidates, "semdedup")
    if clusters not in get_args(Clusters):
        raise ValueError(f"semdedup: clusters are own or given, got {clusters!r}")
    n_take = at_most(candidates, budget)
    label = require(candidates, "clusters", "semdedup").astype(np.int64) if clusters == "given" else None
    layout = _layout(vectors, label, k, seed, order)
    found = _dropped(vectors, layout, epsilon, semantics, n_take)
    left = layout.ranked[~found.dropped[layout.ranked]]
    order_, nearest = left[:n_take], _nearest_chosen(vectors, layout.label, left[:n_take])
    sizes = dict(zip(*np.unique(layout.label, return_counts=True), strict=True))
    reason = [
        f"{layout.away[i]:.4f} from the centre of cluster {layout.label[i]} ({sizes[layout.label[i]]} rows), "
        f"no earlier row of it with a cosine above {found.limit * QUANTUM:.4f}"
        for i in order_
    ]
    if reason and len(reason) < budget:
        reason[-1] += f"; the pool ended here, {len(reason)} of the {budget} rows asked for"
    refused = found.words(candidates, vectors, set(order_.tolist()))
    return Chosen(order_.astype(np.int64), layout.away[order_], reason, nearest, refused)


def d4(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    dedup: float = 0.75,
    scope: Scope = "global",
    semantics: Semantics = "reference",
    order: Order = "hard",
    k: int | None = None,
    k_after: int | None = None,
) -> Chosen:
    """First without semantic duplicates, then without the most typical rows: what is left is spread out.

    Equation: S_d = SemDeDup with the epsilon that leaves R_dedup N rows; cluster S_d anew; keep the budget's rows of
    the largest distance 1 - cos(g_i, c_i) to their centroid (self-supervised prototypes).

    Parameters: `dedup` is R_dedup (.75): up to this share of the pool is left by the first step, never fewer than the
    budget. `scope`: `global` (default) keeps the farthest of all, so that loose clusters keep more; `cluster` keeps the
    same share of each. `k` and `k_after` are the clusters of the first and the second k-means (None: the square root of
    the number of rows, at most 2,000). `semantics` and `order` are those of `semdedup`.

    Gain: the distance 1 - cos to the centroid of the second clustering. The order of choice is by it, farthest first,
    ties by lowest index; quotas of `cluster` are rounded by largest remainder. Refused: duplicates as in `semdedup`;
    rows that the share of the first step left out; and rows too near to their centroid.

    Source: Tirumala et al. 2023 (arXiv 2308.12284); prototypes: Sorscher et al. 2022 (arXiv 2206.14486).

    Departures: the printed algorithm compares a row with its whole cluster, itself included, which leaves nothing;
    here with earlier rows. It keeps a row by comparing a share with a count; here the share is b / |S_d|. Where many
    rows are equally close to earlier ones, the first in order fill the share.
    """
    if not 0 < dedup <= 1:
        raise ValueError(f"d4: dedup is a share above 0 and at most 1, got {dedup}")
    if scope not in get_args(Scope):
        raise ValueError(f"d4: the scope is global or cluster, got {scope!r}")
    vectors = all_vectors(candidates, "d4")
    n_take = at_most(candidates, budget)
    n_left = max(n_take, round(dedup * len(vectors)))
    layout = _layout(vectors, None, k, seed, order)
    found = _dropped(vectors, layout, "auto", semantics, n_left)
    left = layout.ranked[~found.dropped[layout.ranked]]
    rows, beyond = np.sort(left[:n_left]), left[n_left:]
    second = _layout(vectors[rows], None, k_after, seed, "hard")
    kept = farthest(second.away, second.label, n_take, scope)
    order_ = rows[kept]
    why = f"one of {len(rows)} rows left without duplicates (cosine above {found.limit * QUANTUM:.4f})"
    reason = [f"{second.away[i]:.4f} from the centre of its cluster, far; {why}" for i in kept]
    refused = found.words(candidates, vectors, set(rows.tolist()))
    refused |= {int(i): f"not among the first {len(rows)} rows without duplicates" for i in beyond}
    near = np.setdiff1d(np.arange(len(rows)), kept)
    refused |= {int(rows[i]): f"{second.away[i]:.4f} from the centre of its cluster: too typical" for i in near}
    nearest = np.full(len(order_), -1, dtype=np.int64)
    if len(kept):
        beside = _nearest_chosen(vectors[rows], second.label, kept)
        nearest = np.where(beside >= 0, rows[beside], -1)
    return Chosen(order_.astype(np.int64), second.away[kept], reason, nearest, refused)


def farthest(away: np.ndarray, label: np.ndarray, n_take: int, scope: Scope) -> np.ndarray:
    """Indices of the ``n_take`` largest distances, largest first: of all rows, or by the same share of each cluster."""
    ranked = np.argsort(-away, kind="stable")
    if scope == "global" or not n_take:
        return ranked[:n_take]
    _, cluster, sizes = np.unique(label[ranked], return_inverse=True, return_counts=True)
    quota = largest_remainder(n_take * sizes / len(away), n_take)
    return ranked[places_within(cluster, sizes) < quota[cluster]]


# --- clusters and their order -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Layout:
    """The rows in clusters, and in the order in which they are looked at."""

    label: np.ndarray
    away: np.ndarray
    """1 - cos to the centroid."""
    ranked: np.ndarray
    """All rows, first to last; the order inside a cluster is the same."""

    def clusters(self, vectors: np.ndarray) -> Iterator[np.ndarray]:
        """The rows of each cluster in order; those of a large one in parts."""
        by_label = self.ranked[np.argsort(self.label[self.ranked], kind="stable")]
        ends = np.flatnonzero(np.diff(self.label[by_label])) + 1
        waiting = np.split(by_label, ends)[::-1] if len(by_label) else []
        while waiting:
            rows = waiting.pop()
            parts = _split(vectors, rows) if len(rows) > MOST_ROWS else [rows]
            if len(parts) == 1:
                yield rows
            else:
                waiting += parts[::-1]


def _split(vectors: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """A cluster in parts, each in the order of ``rows``; one part where its rows are all the same."""
    here = vectors[np.sort(rows)]
    label = kmeans.assign(vectors[rows], kmeans.fit(here, -(-len(rows) // MOST_ROWS), 0))[0]
    return [rows[label == name] for name in np.unique(label)]


def _layout(vectors: np.ndarray, label: np.ndarray | None, k: int | None, seed: int, order: Order) -> _Layout:
    if order not in get_args(Order):
        raise ValueError(f"the order is hard, easy or random, got {order!r}")
    n = len(vectors)
    if label is None:
        centroids = kmeans.fit(vectors, default_k(n) if k is None else k, seed)
        label, similarity = kmeans.assign(vectors, centroids)
        away = 1.0 - similarity.astype(np.float64)
    else:
        away = _to_mean(vectors, label)
    if order == "random":
        ranked = np.random.default_rng(seed).permutation(n)
    else:
        ranked = np.argsort(-away if order == "hard" else away, kind="stable")
    return _Layout(label, away, ranked)


def _to_mean(vectors: np.ndarray, label: np.ndarray) -> np.ndarray:
    """1 - cos of each row to the normalised mean of its cluster; 1 where the rows of a cluster cancel out."""
    away = np.ones(len(vectors))
    for rows in _by_label(label):
        mean = vectors[rows].sum(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(mean))
        if length > 1e-9:
            centre = on_grid((mean / length).astype(np.float32)[None])
            for part in blocks(len(rows)):
                away[rows[part]] -= units(on_grid(vectors[rows[part]]), centre)[:, 0] * QUANTUM
    return away


def _by_label(label: np.ndarray) -> list[np.ndarray]:
    ranked = np.argsort(label, kind="stable")
    return np.split(ranked, np.flatnonzero(np.diff(label[ranked])) + 1) if len(label) else []


# --- duplicates -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Dropped:
    """Which rows are duplicates, and of which."""

    dropped: np.ndarray
    twin: np.ndarray
    """The nearest earlier row of the cluster (reference) or the nearest kept one (greedy); -1 for none."""
    level: np.ndarray
    """The cosine to it in whole units; -inf for none."""
    limit: float
    """The largest cosine that is no duplicate, in whole units."""

    def words(self, candidates: Candidates, vectors: np.ndarray, chosen: set[int]) -> dict[int, str]:
        """For every dropped row, the kept row that stands for it."""
        told: dict[int, str] = {}
        ends: dict[int, int] = {}
        for i in np.flatnonzero(self.dropped).tolist():
            twin = int(self.twin[i])
            text = f"the same as row {candidates.row_ids[twin]} (cosine {self.level[i] * QUANTUM:.4f})"
            if self.dropped[twin]:
                twin = self._end(i, ends)
                cosine = float(units(on_grid(vectors[[i]]), on_grid(vectors[[twin]]))[0, 0] * QUANTUM)
                text += f", itself dropped; row {candidates.row_ids[twin]} is kept for both (cosine {cosine:.4f})"
            told[i] = text if twin in chosen else text + ", which the budget left out"
        return told

    def _end(self, row: int, ends: dict[int, int]) -> int:
        """The kept row to which a chain of twins goes down; ``ends`` are those that are known, and grows."""
        chain = []
        while self.dropped[row] and row not in ends:
            chain.append(row)
            row = int(self.twin[row])
        end = ends.get(row, row)
        ends.update(dict.fromkeys(chain, end))
        return end


def _dropped(
    vectors: np.ndarray, layout: _Layout, epsilon: float | Literal["auto"], semantics: Semantics, n_take: int
) -> _Dropped:
    if semantics not in get_args(Semantics):
        raise ValueError(f"the semantics are reference or greedy, got {semantics!r}")
    if epsilon != "auto" and (isinstance(epsilon, str) or not 0 <= epsilon <= 2):
        raise ValueError(f"epsilon is a distance from 0 to 2, or auto; got {epsilon!r}")
    if epsilon != "auto":
        limit = float(np.floor((1 - epsilon) / QUANTUM + 1 + 1e-9))  # one unit above still counts as equal
        return _all_earlier(vectors, layout, limit) if semantics == "reference" else _kept_only(vectors, layout, limit)
    found = _all_earlier(vectors, layout, _SAME)
    ranked = np.sort(found.level)
    # The lowest cosine under which enough rows are left; none is dropped where all are wanted.
    limit = float(max(ranked[n_take - 1], -_SAME)) if 0 < n_take < len(ranked) else float(_SAME if n_take else -_SAME)
    if semantics == "reference":
        return _Dropped(found.level > limit, found.twin, found.level, limit)
    low, high = -_SAME - 1, int(limit)  # at ``high`` enough are left: kept rows alone drop fewer than all earlier ones
    while high - low > 1:
        middle = (low + high) // 2
        if np.count_nonzero(~_kept_only(vectors, layout, middle).dropped) >= n_take:
            high = middle
        else:
            low = middle
    return _kept_only(vectors, layout, high)


def _all_earlier(vectors: np.ndarray, layout: _Layout, limit: float) -> _Dropped:
    """Each row with the nearest of all before it in its cluster."""
    twin = np.full(len(vectors), -1, dtype=np.int64)
    level = np.full(len(vectors), -np.inf)
    for rows in layout.clusters(vectors):
        place, level[rows] = _nearest_before(on_grid(vectors[rows]))
        twin[rows] = np.where(place >= 0, rows[place], -1)
    return _Dropped(level > limit, twin, level, limit)


def _nearest_before(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the place of the most similar row before it (the first of equals) and their cosine in units."""
    place = np.full(len(grid), -1, dtype=np.int64)
    level = np.full(len(grid), -np.inf)
    for part in blocks(len(grid)):
        for tile in blocks(part.stop, TILE):
            found = units(grid[part], grid[tile])
            if tile.stop > part.start:
                here, there = np.arange(part.start, part.stop)[:, None], np.arange(tile.start, tile.stop)[None]
                found[there >= here] = -np.inf
            winner = found.argmax(axis=1)
            value = found[np.arange(len(found)), winner]
            better = value > level[part]
            level[part] = np.where(better, value, level[part])
            place[part] = np.where(better, winner + tile.start, place[part])
    return place, level


def _kept_only(vectors: np.ndarray, layout: _Layout, limit: float) -> _Dropped:
    """Each row with the nearest kept one before it in its cluster."""
    n = len(vectors)
    twin, level, dropped = np.full(n, -1, dtype=np.int64), np.full(n, -np.inf), np.zeros(n, dtype=bool)
    for rows in layout.clusters(vectors):
        walk = Walk(vectors, len(rows), limit)
        for part in blocks(len(rows), WALK_BLOCK):
            walk.look_at(rows[part])
        for i, (j, cosine) in walk.refused.items():
            dropped[i], twin[i], level[i] = True, j, round(cosine / QUANTUM)
    return _Dropped(dropped, twin, level, limit)


def _nearest_chosen(vectors: np.ndarray, label: np.ndarray, order: np.ndarray) -> np.ndarray:
    """For each chosen row, the most similar row of its cluster chosen before; -1 for none."""
    nearest = np.full(len(order), -1, dtype=np.int64)
    for places in _by_label(label[order]):
        before, _ = _nearest_before(on_grid(vectors[order[places]]))
        nearest[places] = np.where(before >= 0, order[places][before], -1)
    return nearest


SELECTORS = (
    Selector(
        id="semdedup",
        title="SemDeDup: no two rows that mean the same",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="drop x_i iff max_{j before i, C_j = C_i} cos(g(x_i), g(x_j)) > 1 - epsilon",
        paper="Abbas et al. 2023 (SemDeDup), arXiv 2303.09540",
        meaning="Leaves out rows whose meaning another row already has, and keeps unusual rows before typical ones.",
        needs=("vectors", "clusters"),
        params={"epsilon": 0.05, "semantics": "reference", "order": "hard", "clusters": "own", "k": None},
        select=semdedup,
    ),
    Selector(
        id="d4",
        title="D4: without duplicates, then without the most typical",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="S_d = SemDeDup(S, R_dedup); S_b = top b of S_d by 1 - cos(g(x_i), c_i)",
        paper="Tirumala et al. 2023 (D4), arXiv 2308.12284",
        meaning="Leaves out duplicates in meaning and then the rows most like all others of their kind. What stays is "
        "varied, outliers included.",
        needs=("vectors",),
        params={
            "dedup": 0.75,
            "scope": "global",
            "semantics": "reference",
            "order": "hard",
            "k": None,
            "k_after": None,
        },
        select=d4,
    ),
)
