"""Plain ways to a varied set, to compare others with: marginal relevance, determinants, effective number, centroids.

Here belong greedy choices that look at the chosen rows and at quality, and one that looks at centroids alone. Choices
that count how well the whole pool is served stand in ``facility.py`` and ``submodular.py``.
"""

from __future__ import annotations

import numpy as np

from methods.diversity.facility import all_vectors
from methods.diversity.submodular import all_scores, min_max
from methods.kinds import Candidates, Chosen, Selector
from methods.numerics import kmeans
from methods.numerics.columns import Columns, first_best, nearest_before
from methods.numerics.similarity import QUANTUM, blocks
from methods.selection.basic import at_most

LEAST = 1e-10
"""A conditional variance at or below this is rounding: the row lies in the span of those chosen."""
_STALE = 64
"""Rows computed anew together."""
_SHORT = 4096
"""Rows of the largest values that are looked at before all others are."""


def mmr(candidates: Candidates, budget: int, seed: int = 0, weight: float = 0.5, normalize: bool = True) -> Chosen:
    """Maximal marginal relevance: good rows that are unlike the ones chosen before.

    Equation: argmax_i lambda q_i - (1 - lambda) max_{j in S} cos(g_i, g_j); the maximum over no row is 0, so that the
    first pick is the highest score.

    Parameters: `weight` is lambda (.5; 1 takes the highest scores, 0 the row least like those chosen). `normalize`
    brings the score to [0, 1] by the least and greatest of the candidates (all equal: 0), so that it compares with a
    cosine; False takes it as it is.

    Gain: the value of the pick; `nearest`: the chosen row it is most like. Ties (1e-9) go to the lowest index. One
    column of exact cosines a pick: O(N b d), O(N d) memory.

    Source: Carbonell and Goldstein 1998 (MMR), with a score of the row in the place of a query.
    """
    if isinstance(weight, bool) or not 0 <= weight <= 1:
        raise ValueError(f"mmr: weight lies between 0 and 1, got {weight}")
    n_take = at_most(candidates, budget)
    score = all_scores(candidates, "mmr")
    vectors = all_vectors(candidates, "mmr")
    quality = min_max(score) if normalize else score
    columns = Columns(vectors)
    closest = np.full(len(vectors), -np.inf)
    free = np.ones(len(vectors), dtype=bool)
    order, gain = np.empty(n_take, dtype=np.int64), np.empty(n_take)
    reason = []
    for place in range(n_take):
        near = closest * QUANTUM if place else np.zeros(len(vectors))
        value = np.where(free, weight * quality - (1 - weight) * near, -np.inf)
        row = first_best(value)
        order[place], gain[place], free[row] = row, value[row], False
        beside = f"its cosine to the nearest row before is {near[row]:.4f}" if place else "first row"
        reason.append(f"value {value[row]:.6g}: score {score[row]:.6g} ({quality[row]:.6g}), {beside}")
        np.maximum(closest, columns.column(row, np.where(free, value, -np.inf)), out=closest)
    return Chosen(order, gain, reason, nearest_before(vectors, order))


def dpp_greedy(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    theta: float = 0.5,
    ridge: float = 0.01,
    normalize: bool = True,
) -> Chosen:
    """The likeliest set of a determinantal point process, greedily: rows that span much and score well.

    Equation: maximise theta sum_{i in S} q_i + (1 - theta) ln det K_S, K = (1 - delta) G G' + delta I; each pick is
    argmax_i theta q_i + (1 - theta) ln v_i with the conditional variance v_i = (1 - delta) g_i' M g_i + delta, M = I at
    first and M - (1 - delta) u u'/v_j, u = M g_j, after the pick of j.

    Parameters: `theta` weighs quality (.5; 0: the determinant alone, 1: the highest scores). `ridge` is delta: vectors
    of d numbers span d directions, so that without it (0) the determinant of more than d rows is 0, and the choice ends
    where no row is left outside the span; with it, rows can be taken without end. `normalize` brings the score to
    [0, 1] (all equal: 0).

    Lazy: v_i only falls as others are taken, so that only rows whose last known value could still win are computed
    anew, from the d x d matrix M: no matrix of N x b is kept. The choice is that of computing all, in float64; values
    within 1e-9 are tied and go to the lowest index.

    Gain: the value of the pick. `nearest`: the chosen row of the largest cosine.

    Source: Chen, Zhang and Zhou 2018, fast greedy MAP inference (arXiv 1709.05135); Kulesza and Taskar 2012 (arXiv
    1207.6083). There the Cholesky factor of K_S grows by a column a pick; M is the same elimination, held in d x d.
    """
    if isinstance(theta, bool) or not 0 <= theta <= 1:
        raise ValueError(f"dpp_greedy: theta lies between 0 and 1, got {theta}")
    if isinstance(ridge, bool) or not 0 <= ridge < 1:
        raise ValueError(f"dpp_greedy: ridge lies between 0 and 1 (without it), got {ridge}")
    n_take = at_most(candidates, budget)
    score = all_scores(candidates, "dpp_greedy")
    vectors = all_vectors(candidates, "dpp_greedy")
    quality = min_max(score) if normalize else score
    state = _Determinant(vectors, theta * quality, 1 - theta, ridge)
    order: list[int] = []
    gain: list[float] = []
    reason: list[str] = []
    while len(order) < n_take and (row := state.best()) >= 0:
        order.append(row)
        gain.append(float(state.value[row]))
        reason.append(
            f"value {state.value[row]:.6g}: score {score[row]:.6g} ({quality[row]:.6g}), and {state.variance[row]:.4f} "
            "of the row is not explained by those before"
        )
        state.take(row)
    if len(order) < n_take and reason:
        reason[-1] += f"; every row left lies in the span of these, {len(order)} of the {budget} asked for"
    chosen = np.array(order, dtype=np.int64)
    return Chosen(chosen, np.array(gain, dtype=np.float64), reason, nearest_before(vectors, chosen))


class _Determinant:
    """For every row, the last known variance that the taken rows leave to it, and its value with it."""

    def __init__(self, vectors: np.ndarray, extra: np.ndarray, share: float, ridge: float) -> None:
        self.vectors, self.extra, self.share, self.ridge = vectors, extra, share, ridge
        self.left = np.eye(vectors.shape[1])
        self.variance = np.empty(len(vectors))
        self.value = np.empty(len(vectors))
        self.known_at = np.zeros(len(vectors), dtype=np.int64)
        self.taken = 0
        for part in blocks(len(vectors)):
            self._know(np.arange(part.start, part.stop))
        self.short, self.rest = np.arange(0), np.inf

    def _know(self, rows: np.ndarray) -> None:
        some = self.vectors[rows].astype(np.float64)
        length = np.einsum("ij,ij->i", some, some)  # of float32 rows it is 1 up to rounding, which must not decide
        found = np.einsum("ij,ij->i", some @ self.left, some) if self.taken else length
        share = np.divide(found, length, out=np.zeros(len(rows)), where=length > 0)
        variance = (1 - self.ridge) * np.maximum(share, 0.0) + self.ridge
        self.variance[rows] = variance
        self.known_at[rows] = self.taken
        with np.errstate(divide="ignore"):
            value = self.extra[rows] + (self.share * np.log(variance) if self.share else 0.0)
        self.value[rows] = np.where(variance > LEAST, value, -np.inf)

    def best(self) -> int:
        """The row of the largest value, the first within 1e-9; -1 where none is left."""
        size = _SHORT
        while True:
            value = self.value[self.short]
            top = float(value.max(initial=-np.inf))
            if not top > self.rest + 1e-9:  # another row may be as good
                if len(self.short) == len(self.value):
                    return -1
                self._shorten(size)
                size *= 4
                continue
            at = int(np.argmax(value))
            if self.known_at[self.short[at]] == self.taken:
                at = int(np.argmax(value >= top - 1e-9))
            row = int(self.short[at])
            if self.known_at[row] == self.taken:
                return row
            some = min(_STALE, len(value))
            likely = self.short[np.union1d(np.argpartition(value, -some)[-some:], [at])]
            self._know(likely[(self.known_at[likely] < self.taken) & (self.value[likely] > -np.inf)])

    def _shorten(self, size: int) -> None:
        """The rows of the largest values, ascending, and the largest of the others: a bound, for values only fall."""
        n = len(self.value)
        if size >= n:
            self.short, self.rest = np.arange(n), -np.inf
            return
        places = np.argpartition(self.value, n - size)
        self.short, self.rest = np.sort(places[n - size :]), float(self.value[places[: n - size]].max())

    def take(self, row: int) -> None:
        vector = self.vectors[row].astype(np.float64)
        away = self.left @ (vector / max(float(np.linalg.norm(vector)), LEAST))
        self.left -= np.outer(away, away) * ((1 - self.ridge) / self.variance[row])
        self.value[row] = -np.inf
        self.taken += 1


def quality_weighted_vendi_greedy(candidates: Candidates, budget: int, seed: int = 0, normalize: bool = True) -> Chosen:
    """Rows whose mean quality times their effective number (the Vendi score of order 2) is largest, greedily.

    Equation: each pick is argmax_i (sum_{j in S + i} q_j / m) VS_2(S + i), m the rows then chosen. With the cosine,
    VS_2 = 1 / sum lambda^2 = m^2 / ||G'G||^2 = m^2 / sum_{j,k} cos(g_j, g_k)^2, and a row adds
    1 + 2 sum_{j in S} cos(g_i, g_j)^2 to that sum: exact with one column of cosines a pick, where the other orders need
    the eigenvalues of every possible set. O(N b d), O(N d) memory.

    Parameters: `normalize` brings the score to [0, 1] by the least and greatest of the candidates (all equal: 1);
    False takes it as it is, and then none may be negative, because a product with it would reward likeness.

    Gain: the quality-weighted score of the set after the pick less that before; it may be negative where a set cannot
    be bettered. `nearest`: the chosen row of the largest cosine. Ties (1e-9 of the largest) go to the lowest index.

    Source: Nguyen and Dieng 2024 (arXiv 2405.02449); order 2 of Pasarkar and Dieng 2023 (arXiv 2310.12952).

    Departures: order 2 alone. The reference returns the last candidate looked at in place of the best, and chooses
    nothing where no score is above 0.
    """
    n_take = at_most(candidates, budget)
    score = all_scores(candidates, "quality_weighted_vendi_greedy")
    vectors = all_vectors(candidates, "quality_weighted_vendi_greedy")
    if not normalize and (score < 0).any():
        raise ValueError(
            f"quality_weighted_vendi_greedy: the least score is {score.min():.4g}, and none may be negative"
        )
    quality = min_max(score) if normalize else score
    if normalize and len(quality) and not quality.any():
        quality = np.ones(len(quality))
    columns = Columns(vectors)
    alike = np.zeros(len(vectors))
    free = np.ones(len(vectors), dtype=bool)
    good, inside, worth = 0.0, 0.0, 0.0
    order, gain = np.empty(n_take, dtype=np.int64), np.empty(n_take)
    reason = []
    for place in range(n_take):
        value = np.where(free, (good + quality) * (place + 1) / (inside + 1.0 + 2.0 * alike), -np.inf)
        row = first_best(value, 1e-9 * max(1.0, float(value.max())))
        good, inside = good + quality[row], inside + 1.0 + 2.0 * alike[row]
        order[place], gain[place], free[row] = row, value[row] - worth, False
        worth = float(value[row])
        reason.append(
            f"mean quality x effective number is now {worth:.6g} = {good / (place + 1):.6g} x "
            f"{(place + 1) ** 2 / inside:.6g}; score {score[row]:.6g}"
        )
        # Squares of cosines, rounded to 2^-20, are multiples of 2^-40: their sums are exact.
        alike += (columns.column(row, np.where(free, value, -np.inf)) * QUANTUM) ** 2
    return Chosen(order, gain, reason, nearest_before(vectors, order))


def representative(
    candidates: Candidates, budget: int, seed: int = 0, k: int | None = None, iterations: int = 20
) -> Chosen:
    """The rows nearest to the centroids of a k-means with as many clusters as rows are wanted.

    Equation: spherical k-means; of each cluster the row of the largest cosine to its centroid, then of each the second,
    and so on; larger clusters first.

    Parameters: `k` clusters, by default the budget; with fewer, each gives several rows, its nearest ones. `iterations`
    of k-means, at most. `seed` starts it. O(N k d) an iteration: above some thousand clusters, ask for fewer.

    Gain: the row's cosine to its centroid. Ties go to the lowest index. Where rows are fewer than clusters wanted
    because some are alike, the clusters there are give more.

    Source: the usual baseline of active learning (Xu et al. 2003, representative sampling).
    """
    if k is not None and (isinstance(k, bool) or k < 1):
        raise ValueError(f"representative: k must be at least 1, or is left out; got {k}")
    if isinstance(iterations, bool) or iterations < 1:
        raise ValueError(f"representative: iterations must be at least 1, got {iterations}")
    n_take = at_most(candidates, budget)
    vectors = all_vectors(candidates, "representative")
    if n_take == 0:
        return Chosen(np.empty(0, dtype=np.int64), np.empty(0), [])
    centroids = kmeans.fit(vectors, min(len(vectors), n_take if k is None else k), seed, iterations)
    label, cosine = kmeans.assign(vectors, centroids)
    index = np.arange(len(vectors))
    sizes = np.bincount(label, minlength=len(centroids))
    inside = np.lexsort((index, -cosine, label))
    rank = np.empty(len(vectors), dtype=np.int64)
    rank[inside] = index - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order = np.lexsort((label, -sizes[label], rank))[:n_take].astype(np.int64)
    reason = [
        f"place {rank[i] + 1} by its cosine {cosine[i]:.4f} to the centroid of a cluster of {sizes[label[i]]} rows"
        for i in order
    ]
    return Chosen(order, cosine[order].astype(np.float64), reason)


SELECTORS = (
    Selector(
        id="mmr",
        title="Maximal marginal relevance",
        axis="diversity",
        family="baseline",
        section="4.3",
        equation="argmax_i lambda q_i - (1 - lambda) max_{j in S} cos(g(x_i), g(x_j))",
        paper="Carbonell and Goldstein 1998",
        meaning="High scores, less what is already there: each pick is marked down by its likeness to the nearest row "
        "chosen before.",
        needs=("score", "vectors"),
        params={"weight": 0.5, "normalize": True},
        select=mmr,
    ),
    Selector(
        id="dpp_greedy",
        title="Determinantal point process, greedily",
        axis="diversity",
        family="baseline",
        section="4.3",
        equation="argmax_S theta sum_{i in S} q_i + (1 - theta) ln det K_S, greedily",
        paper="Chen et al. 2018, arXiv 1709.05135",
        meaning="Rows that point in as many directions as possible and score well: a row that those chosen before "
        "explain is worth little.",
        needs=("score", "vectors"),
        params={"theta": 0.5, "ridge": 0.01, "normalize": True},
        select=dpp_greedy,
    ),
    Selector(
        id="quality_weighted_vendi_greedy",
        title="Quality-weighted Vendi score, greedily",
        axis="diversity",
        family="baseline",
        section="4.3",
        equation="argmax_i mean(q over S + i) VS_2(S + i)",
        paper="Nguyen and Dieng 2024, arXiv 2405.02449",
        meaning="Raises the number of wholly different rows that the set is worth, times how good its rows are on "
        "average.",
        needs=("score", "vectors"),
        params={"normalize": True},
        select=quality_weighted_vendi_greedy,
    ),
    Selector(
        id="representative",
        title="Nearest to the centroids",
        axis="diversity",
        family="baseline",
        section="4.3",
        equation="for each of k clusters argmax_i cos(g(x_i), c_k)",
        paper="Xu et al. 2003",
        meaning="One typical row for each of as many clusters as rows are wanted: the middle of everything, "
        "without its edges.",
        needs=("vectors",),
        params={"k": None, "iterations": 20},
        select=representative,
    ),
)
