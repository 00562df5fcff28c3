"""Choosing by inner products with the whole pool: herding, and reverse semantic search.

Here belong greedy selectors whose every step needs one product of a row with all others, and those products. K-center
and DEITA's filter, which compare a row with the rows chosen so far, stand in ``coreset.py``; sums over the pool of the
nearest chosen row in ``facility.py``; choices inside clusters in ``cluster_sampling.py``.

The products are exact (see ``numerics.similarity``): the choice does not depend on blocks, threads or look-ahead.
"""

from __future__ import annotations

from itertools import pairwise
from math import frexp

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.similarity import BLOCK, QUANTUM, QUANTUM_BITS, blocks, in_two, on_grid, usable_rows
from methods.selection.basic import at_most, require

TIE = 1e-6
"""Costs this close (times about the largest squared length) are tied: float32 vectors cannot tell them apart."""
EXACT_UP_TO = 50_000
"""Rows among which the least similar pair is searched by comparing all pairs."""
LOOK_AHEAD = 16
"""Rows whose products are made together with those of the pick, for they are likely to be picked soon (not in
herding, where a pick makes the rows like it less likely)."""
TILE = 1024
"""Rows turned to float64 at a time: few enough to stay in the cache, where the product finds them."""


# --- herding ----------------------------------------------------------------------------------------------------------
def herding_greedy(candidates: Candidates, budget: int, seed: int = 0) -> Chosen:
    """Rows whose mean is the pool's: each pick brings the mean of the chosen rows nearest to it. The seed is not used.

    Equation: add argmin_i || mu - (s + g_i) / (t + 1) ||, where mu is the mean of the pool and s the sum of the t rows
    chosen before; which is argmin_i ||g_i||^2 - 2 g_i . ((t + 1) mu - s). On a line, 0, 1, 2 and 10 (mu 3.25) give 2,
    1, 10.

    A row is taken once (classic kernel herding may repeat one). The inner products with s grow by those with the last
    pick: a product of one row with all a step. Costs within 1e-6 (times about the largest squared length) are tied and
    go to the lowest index. Memory: the vectors once more, and some numbers a row.

    Gain: by how much the pick brought the mean of the chosen rows nearer to the pool's, negative where it took it
    farther away; NaN for the first row. `nearest`: by Euclidean distance.

    Source: Welling 2009; Chen, Welling and Smola 2012, arXiv 1203.3472; Harvey and Samadi 2014 (survey Alg. 3,
    whose "n" is N).

    Departures: DeepCore's implementation takes the argmax of the distance, i.e. the row that leads farthest away (10,
    2, 1 in the example); this is the argmin that is printed.
    """
    vectors = require(candidates, "vectors", "herding_greedy")
    n, n_take = len(candidates), at_most(candidates, budget)
    if n_take == 0:
        return _nothing()
    products = _Products(vectors)
    toward = products.with_sum() / n
    mean, total = products.sum / n, np.zeros(vectors.shape[1])
    inner, away = np.zeros(n), np.full(n, np.inf)
    closest = np.full(n, -1, dtype=np.int64)
    taken = np.zeros(n, dtype=bool)
    order, nearest, apart = [], [], []
    for t in range(1, n_take + 1):
        cost = products.squared - 2 * (t * toward - inner)
        cost[taken] = np.inf
        row = int(np.argmax(cost <= cost.min() + TIE))
        order.append(row)
        nearest.append(int(closest[row]))
        taken[row] = True
        total += products.row(row)
        apart.append(float(np.linalg.norm(mean - total / t)) * products.scale)
        found = products.column(row)
        inner += found
        gap = products.squared + (products.squared[row] - 2 * found)
        closer = gap < away
        away[closer], closest[closer] = gap[closer], row
    gain = -np.diff(np.array(apart), prepend=np.nan)
    reason = [f"first row: {apart[0]:.4f} from the mean of the pool"] + [
        f"the mean of the chosen rows is now {after:.4f} from the pool's, {before:.4f} before"
        for before, after in pairwise(apart)
    ]
    return Chosen(np.array(order, dtype=np.int64), gain, reason, np.array(nearest, dtype=np.int64))


# --- reverse semantic search ------------------------------------------------------------------------------------------
def reverse_semantic_search(
    candidates: Candidates, budget: int, seed: int = 0, exact_up_to: int = EXACT_UP_TO
) -> Chosen:
    """The two least similar rows, then each time the row that is least similar to all chosen; the seed is not used.

    Equation: S = argmin_{i<j} cos(g_i, g_j), then add argmin_i max_{j in S} cos(g_i, g_j): k-center with cosines, from
    the pair that lies farthest apart. Rows (1, 0), (.8, .6), (0, 1), (-1, 0) give the pair 0 and 3, then 2.

    Parameters: `exact_up_to` (50,000) is the number of rows up to which the pair is the least similar of all, found by
    comparing all pairs in blocks. In a larger pool it is the row farthest from the mean, and the row farthest from
    that one; the first reason says so. What follows is exact for any number of rows. A budget of 1 takes the first of
    the pair.

    Ties: cosines that agree to about 1e-6 are tied; the pair of lowest first, then second index, later the lowest
    index. Memory: the vectors, a block of products and `LOOK_AHEAD` rows of them. Time: N^2/2 products for the pair,
    then N a pick.

    Gain: 1 minus the cosine to the most similar row chosen before, which is `nearest`; NaN for the first row.

    Source: Alcoforado et al. 2024, arXiv 2401.13229. Not verified: no code was found, the steps are the survey's
    account.
    """
    vectors = require(candidates, "vectors", "reverse_semantic_search")
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError("reverse_semantic_search: a candidate has no vector; drop such rows, with a reason, before it")
    n, n_take = len(candidates), at_most(candidates, budget)
    if n_take == 0:
        return _nothing()
    products = _Products(vectors)
    all_pairs = n <= exact_up_to
    first, second = _pair(products, all_pairs)
    level = np.full(n, -np.inf)
    closest = np.full(n, -1, dtype=np.int64)
    order, gain, nearest = [], [], []
    for t in range(n_take):
        row = first if t == 0 else second if t == 1 else int(np.argmin(level))
        order.append(row)
        nearest.append(int(closest[row]))
        gain.append(1 - level[row] * QUANTUM if t else np.nan)
        found = np.rint(products.ahead(row, level) * 2.0**QUANTUM_BITS)
        closer = found > level
        level[closer], closest[closer] = found[closer], row
        level[row] = np.inf
    reason = [
        f"cosine {1 - g:.4f} to the most similar row chosen before, {candidates.row_ids[j]}"
        if j >= 0
        else ("one of the two least similar rows of the pool" if all_pairs else "farthest from the mean of the pool")
        for g, j in zip(gain, nearest, strict=True)
    ]
    return Chosen(np.array(order, dtype=np.int64), np.array(gain), reason, np.array(nearest, dtype=np.int64))


def _pair(products: _Products, all_pairs: bool) -> tuple[int, int]:
    """The first two rows; twice the same where there is but one."""
    if len(products) == 1:
        return 0, 0
    if all_pairs:
        return least_similar(products)
    first = int(np.argmin(np.rint(products.with_sum() / len(products) * 2.0**QUANTUM_BITS)))
    found = np.rint(products.column(first) * 2.0**QUANTUM_BITS)
    found[first] = np.inf
    return first, int(np.argmin(found))


def least_similar(products: _Products, block: int = BLOCK) -> tuple[int, int]:
    """The pair of least cosine, the first of equals. A float32 product shows which blocks need an exact one."""
    error = 1.1 * products.vectors.shape[1] * 2.0**-24  # of a float32 product of unit vectors, in the worst case
    best = (np.inf, -1, -1)
    for left in blocks(len(products), block):
        for right in blocks(len(products), block):
            if right.start < left.start:
                continue
            rough = float((products.vectors[left] @ products.vectors[right].T).min())
            if (rough - error) * 2.0**QUANTUM_BITS > best[0] + 1:
                continue
            found = np.rint(products.part(left) @ products.part(right).T * 2.0**QUANTUM_BITS)
            if left.start == right.start:
                np.fill_diagonal(found, np.inf)
            i, j = divmod(int(np.argmin(found)), found.shape[1])
            best = min(best, (float(found[i, j]), left.start + i, right.start + j))
    return best[1], best[2]


# --- products ---------------------------------------------------------------------------------------------------------
class _Products:
    """Exact inner products of the pool's rows, which are scaled by a power of two to be no longer than 1."""

    def __init__(self, vectors: np.ndarray) -> None:
        longest = float(np.max([_longest(vectors[part]) for part in blocks(len(vectors))]))  # NaN if one of them is
        if not np.isfinite(longest):
            raise ValueError("a candidate has no vector; drop such rows, with a reason, before choosing")
        # Unit vectors are longer than 1 by rounding now and then; the products have room for that (up to 1.01).
        self.scale = 1.0 if 0.5 < longest <= 1.01 else 2.0 ** frexp(longest)[1] if longest else 1.0
        # float32 holds the grid exactly: 26 bits after the point, of which it has 24 from the first one on.
        self.vectors: np.ndarray = np.empty(vectors.shape, dtype=np.float32)
        self.squared = np.empty(len(vectors))
        self.sum = np.zeros(vectors.shape[1])
        for part in blocks(len(vectors)):
            grid = on_grid(vectors[part].astype(np.float64) / self.scale)
            self.vectors[part], self.squared[part] = grid, np.einsum("ij,ij->i", grid, grid)
            self.sum += grid.sum(axis=0)
        self._ahead: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.squared)

    def part(self, rows: slice) -> np.ndarray:
        return self.vectors[rows].astype(np.float64)

    def row(self, row: int) -> np.ndarray:
        return self.vectors[row].astype(np.float64)

    def with_sum(self) -> np.ndarray:
        """Products of all rows with the sum of all rows."""
        found = self._made(in_two(self.sum))
        return found[0] + found[1]

    def column(self, row: int) -> np.ndarray:
        """Products of a row with all."""
        return self._made(self.row(row)[None, :])[0]

    def ahead(self, row: int, cost: np.ndarray) -> np.ndarray:
        """As `column`, made in one pass with those of the rows of least finite cost, which are kept for later."""
        if row not in self._ahead:
            some = min(LOOK_AHEAD, len(self))
            rows = np.argpartition(cost, some - 1)[:some]
            rows = np.unique(np.append(rows[np.isfinite(cost[rows])], row))
            self._ahead = dict(zip(rows.tolist(), self._made(self.vectors[rows].astype(np.float64)), strict=True))
        return self._ahead[row]

    def _made(self, left: np.ndarray) -> np.ndarray:
        out = np.empty((len(left), len(self)))
        for part in blocks(len(self), TILE):
            out[:, part] = left @ self.part(part).T
        return out


def _longest(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max(initial=0.0)))


def _nothing() -> Chosen:
    none = np.empty(0, dtype=np.int64)
    return Chosen(none, np.empty(0), [], none)


SELECTORS = (
    Selector(
        id="herding_greedy",
        title="Herding",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="x* = argmin_i || mu - (sum_{j in S_b} g(x_j) + g(x_i)) / (|S_b| + 1) ||",
        paper="Welling 2009; Chen, Welling and Smola 2012, arXiv 1203.3472",
        meaning="Rows that on average are where the pool is on average: the usual comes first, and outliers only where "
        "they balance each other.",
        needs=("vectors",),
        select=herding_greedy,
    ),
    Selector(
        id="reverse_semantic_search",
        title="Reverse semantic search: the least similar rows",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="S = argmin_{i<j} cos(g(x_i), g(x_j)); then add argmin_i max_{j in S_b} cos(g(x_i), g(x_j))",
        paper="Alcoforado et al. 2024, arXiv 2401.13229",
        meaning="Starts with the two rows that have least in common and goes on with whatever is least like the chosen "
        "ones. Fond of outliers: clean the pool first.",
        needs=("vectors",),
        params={"exact_up_to": EXACT_UP_TO},
        select=reverse_semantic_search,
    ),
)
