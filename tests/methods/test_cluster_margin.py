"""Cluster-Margin by hand, against a plain loop, and at its edges."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity.cluster_margin import cluster_margin
from methods.kinds import Candidates


def pool(score, clusters):
    n = len(score)
    return Candidates(
        pl.Series([f"r{i}" for i in range(n)]), np.array(score, float), clusters=np.array(clusters, np.int64)
    )


def test_by_hand():
    """Six of seven rows are looked at: clusters 0 (four rows), 1 (one), 2 (one); row 6 is too sure."""
    given = pool([9, 8, 7, 6, 5, 4, 3], [0, 0, 0, 0, 2, 1, 1])
    chosen = cluster_margin(given, 3, factor=2)
    assert chosen.order.tolist() == [5, 4, 0]  # the groups of one (the lower label first), then the large one's best
    assert chosen.gain.tolist() == [4, 5, 9]
    assert "cluster 1, which has 1 of the 6" in chosen.reason[0]
    assert cluster_margin(given, 5, factor=2).order.tolist() == [4, 5, 0, 6, 1]  # all seven; cluster 1 has two now


def test_a_factor_of_one_is_the_top_by_score():
    given = pool([1, 5, 3, 5, 2], [0, 0, 1, 1, 1])
    assert sorted(cluster_margin(given, 3, factor=1).order.tolist()) == [1, 2, 3]


def plain(score, clusters, budget, factor):
    """The loop as one would write it down."""
    order = sorted(range(len(score)), key=lambda i: (-score[i], i))[: int(np.ceil(factor * min(budget, len(score))))]
    groups = {c: [i for i in order if clusters[i] == c] for c in {clusters[i] for i in order}}
    queue = [groups[c] for c in sorted(groups, key=lambda c: (len(groups[c]), c))]
    taken = []
    while len(taken) < min(budget, len(score)):
        for group in queue:
            if group and len(taken) < budget:
                taken.append(group.pop(0))
    return taken


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 4)), min_size=1, max_size=25),
    st.integers(0, 30),
    st.sampled_from([1.0, 1.5, 3.0, 10.0]),
)
def test_it_is_the_plain_loop(rows, budget, factor):
    score, clusters = [s for s, _ in rows], [c for _, c in rows]
    assert cluster_margin(pool(score, clusters), budget, factor=factor).order.tolist() == plain(
        score, clusters, budget, factor
    )


def test_edges():
    assert cluster_margin(pool([], []), 3).order.tolist() == []
    assert cluster_margin(pool([1.0], [0]), 5).order.tolist() == [0]
    assert cluster_margin(pool([1.0] * 4, [0, 0, 1, 1]), 4).order.tolist() == [0, 2, 1, 3]
    with pytest.raises(ValueError, match="factor is k_m / budget"):
        cluster_margin(pool([1.0], [0]), 1, factor=0.5)
    with pytest.raises(ValueError, match="needs clusters"):
        cluster_margin(Candidates(pl.Series(["a"]), np.ones(1)), 1)
