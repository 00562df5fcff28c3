"""IDEAL: the rows whose influence spreads farthest over the graph of nearest neighbours.

Here belong that graph and the selector. How a cascade spreads, and the choice of its starts, stand in
`numerics/cascade.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.columns import nearest_before
from methods.numerics.neighbours import top_k
from methods.numerics.similarity import QUANTUM, usable_rows
from methods.selection.basic import at_most, require

if TYPE_CHECKING:
    from methods.numerics.cascade import Graph

LARGE = 100_000
"""Pools of more rows are chosen from by reverse-reachable sets."""


def ideal(candidates: Candidates, budget: int, seed: int = 0, k: int = 10, samples: int = 100) -> Chosen:
    """The rows that together influence most of the pool: what to annotate first, or to show as worked examples.

    Equation: each row i has edges to its k nearest rows j by cosine, itself left out, with the probability
    w_ij = max(0, cos_ij) / sum_j max(0, cos_ij). In an independent cascade each newly active row makes each inactive
    row that it has an edge to active once, with that probability. Choose b rows that maximise sigma(S), the expected
    number of active rows at the end if those of S are active at the start; greedily, each pick the largest gain. sigma
    is monotone and submodular: the greedy choice reaches at least 1 - 1/e of the best one, up to the error of sampling.

    Parameters: `k` is the number of neighbours (10). `samples` is R (100; the paper simulates 10 times for every
    candidate and pick). The seed draws, once, R graphs of live edges, over which all spreads are compared; lazy
    evaluation (CELF) is exact on them.

    Gain: what the pick adds to the mean number of active rows, in rows. It flatters the choice, which was made by the
    same samples: 100 of 10,000 rows that were said to reach 801 reached 618 in new samples (100 by chance: 563). Equal
    gains go to the lowest index; rows that all samples reach already add nothing and are taken last. `nearest`: the row
    chosen before with the largest cosine.

    Pools of more than 100,000 rows: R / 10 reverse-reachable sets a row (the rows that reach a row drawn by chance)
    in place of the samples, 2^27 rows in all of them together at most; each pick is the row in most sets that hold no
    chosen one. The reason says which way was taken.

    Memory: the graph (k edges a row) and about 9 bytes a row and sample; or the sets and their index, 1 GiB at most.
    Neighbours are exact, by blocks: one pass over all pairs of rows.

    Source: Zhang, Xia et al. 2024, IDEAL (arXiv 2310.10873), for the annotation of in-context examples, not for
    training sets; Kempe et al. 2003 (cascade); Leskovec et al. 2007 (CELF); Borgs et al. 2014, arXiv 1212.0884 (sets).

    Departures: from the reference code, which takes the row of largest out-degree first (all have k: an arbitrary row)
    instead of the widest spread; counts a row twice that two parents activate in one round; takes a row's last
    neighbour for itself, which is wrong among copies; gives negative cosines negative weights; and simulates every
    candidate anew for every pick. A row whose neighbours all have cosine 0 or less has no edges.
    """
    vectors = require(candidates, "vectors", "ideal")
    n_take = at_most(candidates, budget)
    if k < 1 or samples < 1:
        raise ValueError(f"ideal: k and samples are at least 1, got {k} and {samples}")
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError("ideal: a candidate has no vector; drop such rows, with a reason, before it")
    n = len(vectors)
    if n_take == 0:
        return Chosen(np.empty(0, dtype=np.int64), np.empty(0), [], np.empty(0, dtype=np.int64))
    from methods.numerics.cascade import widest, widest_by_sets

    graph = neighbour_graph(vectors, k)
    if n > LARGE:
        found, drawn = widest_by_sets(graph, n_take, max(1, samples * n // 10), seed), "reverse-reachable sets"
    else:
        found, drawn = widest(graph, n_take, samples, seed), "samples of live edges"
    reason = [
        f"reaches {gain:.6g} rows that no row chosen before reaches (now {total:.6g} of {n} reached, the mean "
        f"over the {found.drawn} {drawn} it was chosen by)"
        for gain, total in zip(found.gain, np.cumsum(found.gain), strict=True)
    ]
    return Chosen(found.order, found.gain, reason, nearest_before(vectors, found.order))


def neighbour_graph(vectors: np.ndarray, k: int) -> Graph:
    """Edges from every row to its ``k`` nearest, weighted by cosine; a row's weights add up to 1.

    Parameters
    ----------
    vectors : (n, d) float32, rows of unit length, finite.
    k : neighbours a row; negative cosines count as 0, and edges of weight 0 are left out.
    """
    from methods.numerics.cascade import Graph

    index, similarity = top_k(vectors, k)
    weights = np.where(index >= 0, similarity, 0).astype(np.float64)
    np.maximum(weights, 0.0, out=weights)
    some = weights > 0
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), QUANTUM)
    starts = np.zeros(len(vectors) + 1, dtype=np.int64)
    np.cumsum(some.sum(axis=1), out=starts[1:])
    return Graph(starts, index[some].astype(np.int32), weights[some])


SELECTORS = (
    Selector(
        id="ideal",
        title="IDEAL: widest influence over the neighbours",
        axis="importance",
        family="model",
        section="5.2",
        equation="max_{S} sigma(S): rows expected to be activated from S in an independent cascade with "
        "P(i -> j) = cos_ij / sum_{j in kNN(i)} cos_ij",
        paper="Zhang, Xia et al. 2024, arXiv 2310.10873",
        meaning="Rows from which one gets to most of the pool over nearest neighbours: which unlabelled rows are worth "
        "annotating first. It spends the budget on dense regions; it knows nothing of what a model learns from a row.",
        needs=("vectors",),
        params={"k": 10, "samples": 100},
        select=ideal,
    ),
)
