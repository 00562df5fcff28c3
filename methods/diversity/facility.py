"""Facility location (survey 4.3): the rows that together are nearest to everything in the pool.

Here belong the similarities, their greedy maximisation, and the selectors that rest on it. Selectors that compare a row
only with the rows chosen before stand in ``coreset.py``.

The similarities are held in whole steps of a fixed width, made from exact products (see ``numerics.similarity``):
float32 holds each step exactly and float64 their sums, in whatever order they are added. So rows of equal gain are seen
to be equal, and the choice does not depend on blocks, threads or on whether the matrix was kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log
from typing import Literal, get_args

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.similarity import TILE, blocks, on_grid, usable_rows
from methods.selection.basic import at_most, best_first, require

Similarity = Literal["cosine", "euclidean"]
STEPS = 2.0**22
"""Steps between the least and the greatest similarity: whole numbers that float32 holds exactly."""
CACHE_BYTES = 2**29
"""The matrix is kept where it is at most this large (11,585 rows); above, its columns are made when they are needed."""
LOOK_AHEAD = 64
"""Columns made together where the matrix is not kept: the rows with the largest bounds, which are next to be asked."""
LONGEST = 2.01
"""No two rows that `usable_rows` lets pass are farther from each other."""


def facility_location(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    similarity: Similarity = "cosine",
    epsilon: float | None = None,
) -> Chosen:
    """Rows that stand for the pool: each row of the pool counts with its similarity to the nearest chosen row.

    Equation: maximise sum_i max_{j in S} s_ij over S of b rows; greedily, each pick the largest gain
    sum_i max(0, s_ij - max_{k in S} s_ik). s >= 0 makes the sum monotone submodular, and the greedy choice reaches at
    least 1 - 1/e of the best one.

    Parameters: `similarity` is `cosine`, max(0, cos) (negative ones count as none, as where the running maximum starts
    at 0), or `euclidean`, exp(-||g_i - g_j|| / d) for vectors of d numbers: the kernel of submodlib, which on unit
    vectors is nearly 1 - ||g_i - g_j|| / d, so that the choice is close to that of the least sum of distances.
    `epsilon`: None is exact. Between 0 and 1, each pick is the best of ceil(N/b ln(1/epsilon)) rows drawn by the seed
    (1,000 rows, b = 50, .01: 93), which reaches 1 - 1/e - epsilon in expectation. `seed` is not used without it.

    Lazy: the gain of a row only falls as others are taken, so that its last known gain bounds it, and only rows with
    the largest bound are computed anew. The choice is that of computing all of them. Equal gains go to the lowest
    index; two rows that stand for nobody but each other always gain the same.

    Memory: the vectors, and the N x N float32 similarities up to `CACHE_BYTES`; above, columns are made again, 64 at a
    time. Time: one pass over all pairs, and a column for each gain computed anew.

    Gain: what the pick adds to the sum. `nearest`: the chosen row most similar to the pick. Copies of chosen rows add
    nothing and are taken last, by index.

    Source: Nemhauser et al. 1978; Minoux 1978 (lazy); Mirzasoleiman et al. 2015, arXiv 1409.7938 (sampled). On
    embeddings: Bhatt et al. 2024, arXiv 2401.06692 (there with an RBF kernel).

    Departures: similarities are rounded to 2^-22 of their range; sums that agree so far are tied.
    """
    n_take = at_most(candidates, budget)
    vectors = _vectors(candidates, "facility_location")
    found = _greedy(vectors, n_take, similarity, epsilon, seed)
    return Chosen(found.order, found.gain, found.reasons(), found.nearest)


def superfiltering_d(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    first: float = 0.2,
    similarity: Similarity = "euclidean",
    epsilon: float | None = None,
) -> Chosen:
    """The top of the scores, thinned to the rows that stand for it (Superfiltering.D).

    Equation: T = the share r of highest scores; S = facility location of b rows among T, each row of T counting with
    its similarity to the nearest chosen row.

    Parameters: `first` is r (.2; the paper goes from there to 2 % of the pool): up to 1 a share of the candidates,
    rounded to the nearest row, from above 1 so many rows; never fewer than the budget. `similarity` (euclidean, the
    paper's) and `epsilon` are those of `facility_location`.

    Gain: what the pick adds to the sum over T. Rows outside T are refused with their score.

    Source: Li et al. 2024, Superfiltering (arXiv 2402.00530), variant D. There the score is the perplexity ratio below
    1, and the vectors are MiniLM-L6 of the whole text.

    Departures: the share is one of the candidates, that is of what gates and near-duplicates left, and not of the pool.
    """
    if isinstance(first, bool) or not first > 0 or (first > 1 and first != int(first)):
        raise ValueError(f"superfiltering_d: first is a share up to 1, or a whole number of rows; got {first}")
    n_take = at_most(candidates, budget)
    score = require(candidates, "score", "superfiltering_d").astype(np.float64)
    vectors = _vectors(candidates, "superfiltering_d")
    wanted = round(first * len(score)) if first <= 1 else int(first)
    ranked = best_first(score)
    kept = min(len(score), max(wanted, n_take))
    top = np.sort(ranked[:kept])  # in the pool's order: ties among gains go by it
    found = _greedy(vectors[top], n_take, similarity, epsilon, seed)
    among = f"among the {kept} of {len(score)} rows with the highest scores"
    reason = [f"score {score[top[i]]:.6g}, {among}; {why}" for i, why in zip(found.order, found.reasons(), strict=True)]
    refused = {int(i): f"score {score[i]:.6g}, not {among}" for i in ranked[kept:]}
    nearest = np.where(found.nearest >= 0, top[found.nearest], -1).astype(np.int64) if len(top) else found.nearest
    return Chosen(top[found.order], found.gain, reason, nearest, refused)


def _vectors(candidates: Candidates, method: str) -> np.ndarray:
    vectors = require(candidates, "vectors", method)
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError(f"{method}: a candidate has no vector; drop such rows, with a reason, before it")
    return vectors


# --- similarities -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Kernel:
    """A similarity is ``least + step * k`` with a whole number k from 0 to about `STEPS`."""

    name: Similarity
    dimensions: int

    @property
    def least(self) -> float:
        return 0.0 if self.name == "cosine" else exp(-LONGEST / self.dimensions)

    @property
    def step(self) -> float:
        return (1.0 - self.least) / STEPS

    def steps(self, products: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """k from the inner products (overwritten) and the squared lengths of both sides."""
        if self.name == "cosine":
            found = np.clip(products, 0.0, 1.0, out=products)
        else:
            found = np.maximum(left[:, None] + right[None, :] - 2.0 * products, 0.0)
            np.sqrt(found, out=found)
            found /= -self.dimensions
            np.exp(found, out=found)
            found -= self.least
        found /= self.step
        return np.rint(found, out=found)


class _Similarities:
    """Rows of the symmetric matrix of similarities, in whole steps, kept or made again."""

    def __init__(self, vectors: np.ndarray, kernel: _Kernel) -> None:
        self.kernel = kernel
        # float32 holds the grid exactly: 26 bits after the point, of which it has 24 from the first one on.
        self.vectors = np.empty(vectors.shape, dtype=np.float32)
        self.squared = np.empty(len(vectors), dtype=np.float64)
        for part in blocks(len(vectors)):
            grid = on_grid(vectors[part])
            self.vectors[part], self.squared[part] = grid, np.einsum("ij,ij->i", grid, grid)
        n = len(vectors)
        self.kept = np.empty((n, n), dtype=np.float32) if 4 * n * n <= CACHE_BYTES else None

    def __len__(self) -> int:
        return len(self.squared)

    def sums(self) -> np.ndarray:
        """The sum of every row; one pass over all pairs, in which the matrix is kept if it is to be."""
        found = np.empty(len(self), dtype=np.float64)
        for part in blocks(len(self), LOOK_AHEAD if self.kept is None else TILE):
            rows = self._made(np.arange(part.start, part.stop), None if self.kept is None else self.kept[part])
            found[part] = rows.sum(axis=1, dtype=np.float64)
        return found

    def rows(self, which: np.ndarray) -> np.ndarray:
        return self._made(which) if self.kept is None else self.kept[which]

    def _made(self, which: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        out = np.empty((len(which), len(self)), dtype=np.float32) if out is None else out
        for some in blocks(len(which), 1024):
            left, here = self.vectors[which[some]].astype(np.float64), self.squared[which[some]]
            for part in blocks(len(self), TILE):
                products = left @ self.vectors[part].T.astype(np.float64)
                out[some, part] = self.kernel.steps(products, here, self.squared[part])
        return out


# --- the greedy choice ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Found:
    order: np.ndarray
    gain: np.ndarray
    nearest: np.ndarray
    served: list[int]
    """For how many rows the pick became the nearest chosen one."""
    of: int

    def reasons(self) -> list[str]:
        means = np.cumsum(self.gain) / max(self.of, 1)
        return [
            f"adds {gain:.6g} to the sum of similarities to the nearest chosen row (mean now {mean:.6g}); "
            f"it is that row for {served} of {self.of}"
            for gain, mean, served in zip(self.gain, means, self.served, strict=True)
        ]


def _greedy(vectors: np.ndarray, n_take: int, similarity: str, epsilon: float | None, seed: int) -> _Found:
    if similarity not in get_args(Similarity):
        raise ValueError(f"similarity must be cosine or euclidean, got {similarity!r}")
    if epsilon is not None and not 0 < epsilon < 1:
        raise ValueError(f"epsilon lies between 0 and 1, or is left out; got {epsilon}")
    none = np.empty(0, dtype=np.int64)
    if n_take == 0:
        return _Found(none, np.empty(0), none, [], len(vectors))
    kernel: _Kernel = _Kernel(similarity, vectors.shape[1])  # type: ignore[arg-type]
    state = _Greedy(_Similarities(vectors, kernel))
    n, rng = len(vectors), np.random.default_rng(seed)
    drawn = n if epsilon is None else sample_size(n, n_take, epsilon)
    while len(state.order) < n_take:
        left = n - len(state.order)
        if drawn >= left:
            state.take(state.best())
        else:
            rest = np.flatnonzero(state.bound > -np.inf)
            state.take(state.best(np.sort(rng.choice(rest, drawn, replace=False))))
    gain = np.array(state.gain) * kernel.step
    gain[0] += kernel.least * n  # the first pick gives every row the least similarity that there is, too
    return _Found(np.array(state.order, dtype=np.int64), gain, np.array(state.nearest, np.int64), state.served, n)


def sample_size(rows: int, budget: int, epsilon: float) -> int:
    """How many rows a sampled pick looks at: ceil(N/b ln(1/epsilon)), at most all."""
    return min(rows, max(1, ceil(rows / budget * log(1 / epsilon))))


class _Greedy:
    """For every row, the similarity to the nearest taken row and which that is; and an upper bound of its own gain."""

    def __init__(self, similarities: _Similarities) -> None:
        n = len(similarities)
        self.similarities = similarities
        self.reached = np.zeros(n, dtype=np.float32)
        self.owner = np.full(n, -1, dtype=np.int64)
        self.bound = similarities.sums()
        self.known_at = np.zeros(n, dtype=np.int64)
        """After how many picks the bound was computed; it is the gain itself where that is now."""
        self.order: list[int] = []
        self.gain: list[float] = []
        self.nearest: list[int] = []
        self.served: list[int] = []

    def best(self, among: np.ndarray | None = None) -> int:
        """The row of the largest gain, the first of equals; ``among`` ascending indices of rows not yet taken."""
        now = len(self.order)
        while True:
            bound = self.bound if among is None else self.bound[among]
            at = int(np.argmax(bound))  # the first of the largest: if its gain is known, no other row can beat it
            row = at if among is None else int(among[at])
            if self.known_at[row] == now:
                return row
            stale = np.array([row]) if self.similarities.kept is not None else self._next(row, among, bound, now)
            rows = self.similarities.rows(stale)
            rows -= self.reached
            np.maximum(rows, 0, out=rows)
            self.bound[stale] = rows.sum(axis=1, dtype=np.float64)
            self.known_at[stale] = now

    def _next(self, row: int, among: np.ndarray | None, bound: np.ndarray, now: int) -> np.ndarray:
        """The row, and those with the largest bounds that are not known to be gains: the likely next to be asked."""
        some = min(LOOK_AHEAD, len(bound))
        places = np.argpartition(bound, -some)[-some:]
        rows = np.union1d(places if among is None else among[places], [row])
        return rows[(self.known_at[rows] < now) & (self.bound[rows] > -np.inf)]

    def take(self, row: int) -> None:
        self.gain.append(float(self.bound[row]))
        self.nearest.append(int(self.owner[row]))
        similar = self.similarities.rows(np.array([row]))[0]
        closer = np.flatnonzero(similar > self.reached) if self.order else np.arange(len(self.owner))
        self.reached[closer] = similar[closer]
        self.owner[closer] = row
        self.served.append(len(closer))
        self.bound[row] = -np.inf
        self.order.append(row)


SELECTORS = (
    Selector(
        id="facility_location",
        title="Facility location",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="max_{S} sum_{i} max_{j in S} sim(g(x_i), g(x_j)), greedily",
        paper="Bhatt et al. 2024, arXiv 2401.06692",
        meaning="Rows that stand for the whole pool: every row has a chosen one like it, and where rows lie close "
        "together one stands for many. Less fond of outliers than k-center.",
        needs=("vectors",),
        params={"similarity": "cosine", "epsilon": None},
        select=facility_location,
    ),
    Selector(
        id="superfiltering_d",
        title="Superfiltering.D: the top scores, thinned by facility location",
        axis="quality",
        family="selection",
        section="3.2",
        equation="T = top r by score; max_{S in T} sum_{i in T} max_{j in S} sim(g(x_i), g(x_j)), greedily",
        paper="Li et al. 2024, Superfiltering, arXiv 2402.00530",
        meaning="High scores that are not all of one kind: of the best fifth, the rows that stand for the others.",
        needs=("score", "vectors"),
        params={"first": 0.2, "similarity": "euclidean", "epsilon": None},
        select=superfiltering_d,
    ),
)
