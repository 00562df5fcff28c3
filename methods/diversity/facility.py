"""Facility location (survey 4.3): the rows that together are nearest to everything in the pool.

Here belong the selectors that maximise it alone; those that mix it with something else stand in ``submodular.py``, the
similarities and the greedy maximisation in ``maximise.py``, and selectors that compare a row only with the rows chosen
before in ``coreset.py``.
"""

from __future__ import annotations

import numpy as np

from methods.diversity.maximise import Similarity, Way, maximise
from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.similarity import usable_rows
from methods.selection.basic import at_most, best_first, require


def facility_location(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    similarity: Similarity = "cosine",
    epsilon: float | None = None,
    method: Way = "auto",
    neighbours: int = 64,
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

    `method`: how pools are dealt with whose N x N similarities are too many to keep. `exact` computes columns again
    when they are needed. `sparse` lets each row count only with its `neighbours` (64) nearest rows, and those whose
    nearest it is among; a pick gives other rows nothing. `greedi` cuts the pool by the seed into shards of 8,192 rows,
    chooses greedily in each, and then among the some 20,000 rows that they handed on, judged by all rows or as many
    drawn by the seed as fit in 2 GiB (reaching (1 - 1/e) / 2 in expectation where each shard hands on b rows and all
    judge). `auto` is `exact` up to 16,384 rows (and with `epsilon`); above, `sparse` where `neighbours` x b is at least
    a quarter of N, else `greedi`.

    Loss, as the share of the exact greedy choice's sum: `sparse` .988 to 1.003 where `auto` takes it (16,000 rows; it
    can be better, because greedy is not optimal), .96 with half the budget below that; `greedi` .993 to .9999 with two
    shards. On 60,000 clustered rows `greedi` reached .987 of `sparse`. The reason says where a way was not exact.

    Lazy: the gain of a row only falls as others are taken, so that its last known gain bounds it, and only rows with
    the largest bound are computed anew. The choice is that of computing all of them. Equal gains go to the lowest
    index; two rows that stand for nobody but each other always gain the same.

    Memory: `exact` the vectors, and the N x N similarities in 4 bytes up to 1 GiB; above, columns are made again, 64 at
    a time. `sparse` three times the vectors, and some 25 bytes a row and neighbour. Time: `exact` and `sparse` one pass
    over all pairs (in float64 and float32), and a column or a list for each gain computed anew.

    Gain: what the pick adds to the sum (`sparse`: over the graph; `greedi`: estimated from the judges). `nearest`: the
    chosen row most similar to the pick. Copies of chosen rows add nothing and are taken last, by index.

    Source: Nemhauser et al. 1978; Minoux 1978 (lazy); Mirzasoleiman et al. 2015, arXiv 1409.7938 (sampled). On
    embeddings: Bhatt et al. 2024, arXiv 2401.06692 (there with an RBF kernel). Shards: Mirzasoleiman et al. 2013
    (GreeDi), arXiv 1411.0541; Barbosa et al. 2015, arXiv 1502.02606 (random shards).

    Departures: similarities are rounded to 2^-22 of their range; sums that agree so far are tied. `greedi` takes the
    second choice without comparing it with the best single shard's.
    """
    n_take = at_most(candidates, budget)
    vectors = all_vectors(candidates, "facility_location")
    found = maximise(vectors, n_take, similarity, epsilon, seed, method, neighbours)
    return Chosen(found.order, found.gain, found.reasons(), found.nearest)


def superfiltering_d(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    first: float = 0.2,
    similarity: Similarity = "euclidean",
    epsilon: float | None = None,
    method: Way = "auto",
    neighbours: int = 64,
) -> Chosen:
    """The top of the scores, thinned to the rows that stand for it (Superfiltering.D).

    Equation: T = the share r of highest scores; S = facility location of b rows among T, each row of T counting with
    its similarity to the nearest chosen row.

    Parameters: `first` is r (.2; the paper goes from there to 2 % of the pool): up to 1 a share of the candidates,
    rounded to the nearest row, from above 1 so many rows; never fewer than the budget. `similarity` (euclidean, the
    paper's), `epsilon`, `method` and `neighbours` are those of `facility_location`.

    Gain: what the pick adds to the sum over T. Rows outside T are refused with their score.

    Source: Li et al. 2024, Superfiltering (arXiv 2402.00530), variant D. There the score is the perplexity ratio below
    1, and the vectors are MiniLM-L6 of the whole text.

    Departures: the share is one of the candidates, that is of what gates and near-duplicates left, and not of the pool.
    """
    if isinstance(first, bool) or not first > 0 or (first > 1 and first != int(first)):
        raise ValueError(f"superfiltering_d: first is a share up to 1, or a whole number of rows; got {first}")
    n_take = at_most(candidates, budget)
    score = require(candidates, "score", "superfiltering_d").astype(np.float64)
    vectors = all_vectors(candidates, "superfiltering_d")
    wanted = round(first * len(score)) if first <= 1 else int(first)
    ranked = best_first(score)
    kept = min(len(score), max(wanted, n_take))
    top = np.sort(ranked[:kept])  # in the pool's order: ties among gains go by it
    found = maximise(vectors[top], n_take, similarity, epsilon, seed, method, neighbours)
    among = f"among the {kept} of {len(score)} rows with the highest scores"
    reason = [f"score {score[top[i]]:.6g}, {among}; {why}" for i, why in zip(found.order, found.reasons(), strict=True)]
    refused = {int(i): f"score {score[i]:.6g}, not {among}" for i in ranked[kept:]}
    nearest = np.where(found.nearest >= 0, top[found.nearest], -1).astype(np.int64) if len(top) else found.nearest
    return Chosen(top[found.order], found.gain, reason, nearest, refused)


def all_vectors(candidates: Candidates, method: str) -> np.ndarray:
    """The vectors, or an error that names the method if a candidate has none."""
    vectors = require(candidates, "vectors", method)
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError(f"{method}: a candidate has no vector; drop such rows, with a reason, before it")
    return vectors


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
        version="2",
        params={"similarity": "cosine", "epsilon": None, "method": "auto", "neighbours": 64},
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
        version="2",
        params={"first": 0.2, "similarity": "euclidean", "epsilon": None, "method": "auto", "neighbours": 64},
        select=superfiltering_d,
    ),
)
