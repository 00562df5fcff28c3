"""Cluster-Margin: the rows that a model is least sure of, spread over clusters from the smallest on.

Here belongs this one selector. The margin itself is an indicator (`uncertainty_mean_margin` and its kin); other
choosing by clusters stands in ``cluster_sampling.py``.
"""

from __future__ import annotations

import numpy as np

from methods.diversity.cluster_sampling import labels_of, rows_of
from methods.kinds import Candidates, Chosen, Selector
from methods.selection.basic import at_most, best_first, require


def cluster_margin(
    candidates: Candidates, budget: int, seed: int = 0, factor: float = 10.0, k: int | None = None
) -> Chosen:
    """Of the rows with the best scores (the smallest margins), one cluster after the other, the smallest first.

    Equation: M = the k_m = factor b rows that come first by score; group M by cluster; go round the groups from the
    smallest to the largest, taking one row of each a round, until b are taken.

    Parameters: the score is what a recipe makes of a margin (`uncertainty_mean_margin`, which is higher where the model
    is less sure).
    `factor` is k_m / b (10, as in the paper's larger experiments; 1 is the top by score). `k` None takes the pool's
    clusters (a negative label is a cluster too); a number looks for so many by spherical k-means with `seed`.

    Order: by rounds; within a round groups by size (ties: the lower label), within a group by score (ties: lowest
    index). Gain: the score. Not chosen rows outside M are no worse in kind, only surer.

    Source: Citovsky et al. 2021, Batch Active Learning at Scale (arXiv 2107.14263). The survey cites it without
    details.

    Departures: the paper clusters by average linkage up to a distance, which needs all pairs; here the clusters are
    those that the recipe names (`clustered/dbscan` and `clustered/hdbscan` go by distance too). It draws at random
    inside a group; we take the least sure row, so that nothing is left to chance.
    """
    if not factor >= 1:
        raise ValueError(f"cluster_margin: factor is k_m / budget and at least 1, got {factor!r}")
    score = require(candidates, "score", "cluster_margin")
    n_take = at_most(candidates, budget)
    first = best_first(score)[: int(np.ceil(factor * n_take - 1e-9))]
    labels = labels_of(candidates, k, seed, "cluster_margin")[first]
    names, cluster, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    round_of = np.empty(len(first), dtype=np.int64)
    for rows in rows_of(cluster):
        round_of[rows] = np.arange(len(rows))  # `first` is in order of score, and so is each group of it
    turn = np.lexsort((names[cluster], sizes[cluster], round_of))[:n_take]
    order = first[turn].astype(np.int64)
    reason = [
        f"round {round_of[i] + 1} of cluster {labels[i]}, which has {sizes[cluster[i]]} of the {len(first)} "
        "least sure rows"
        for i in turn
    ]
    return Chosen(order, score[order], reason)


SELECTORS = (
    Selector(
        id="cluster_margin",
        title="Cluster-Margin: unsure rows, small clusters first",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="round-robin over the clusters, by size, of the factor b rows of least margin",
        paper="Citovsky et al. 2021, arXiv 2107.14263",
        meaning="Rows that the model hesitates over, without taking most of them from the few topics where it "
        "hesitates most.",
        needs=("score", "vectors", "clusters"),
        params={"factor": 10.0, "k": None},
        select=cluster_margin,
    ),
)
