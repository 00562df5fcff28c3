"""What all deterministic choices by vectors have in common: a shuffled pool gives the same rows, copies go by index."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity.baselines import dpp_greedy, mmr, quality_weighted_vendi_greedy
from methods.diversity.coreset import deita_filter, k_center_greedy
from methods.diversity.facility import facility_location
from methods.diversity.herding import herding_greedy, reverse_semantic_search
from methods.diversity.semantic_dedup import semdedup
from methods.diversity.submodular import graph_cut, qdit
from methods.importance.nearest import nearest_to_target
from methods.kinds import Candidates, Target


def unit_rows(n, d, seed):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pool(vectors, score, clusters):
    goal = Target(pl.DataFrame(schema={"prompt": pl.String, "response": pl.String}), unit_rows(3, vectors.shape[1], 99))
    ids = pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String)
    return Candidates(ids, score=score, vectors=vectors, clusters=clusters, targets={"t": goal})


CHOICES = {
    "graph_cut": lambda rows, budget: graph_cut(rows.vectors, budget)[0],
    "qdit": lambda rows, budget: qdit(rows, budget).order,
    "mmr": lambda rows, budget: mmr(rows, budget).order,
    "dpp_greedy": lambda rows, budget: dpp_greedy(rows, budget).order,
    "vendi": lambda rows, budget: quality_weighted_vendi_greedy(rows, budget).order,
    "herding": lambda rows, budget: herding_greedy(rows, budget).order,
    "nearest": lambda rows, budget: nearest_to_target(rows, budget, top_m=2).order,
    "nearest by row": lambda rows, budget: nearest_to_target(rows, budget, per_target="row").order,
}
ONLY_COPIES = {
    "k_center": lambda rows, budget: k_center_greedy(rows, budget, 0, start=0).order,
    "deita": lambda rows, budget: deita_filter(rows, budget, threshold=1).order,
    "facility": lambda rows, budget: facility_location(rows, budget).order,
    "facility by distance": lambda rows, budget: facility_location(rows, budget, similarity="euclidean").order,
    "facility on a graph": lambda rows, budget: facility_location(rows, budget, method="sparse", neighbours=8).order,
    "reverse search": lambda rows, budget: reverse_semantic_search(rows, budget).order,
    "semdedup": lambda rows, budget: semdedup(rows, budget, epsilon=0, clusters="given").order,
}


@pytest.mark.parametrize("name", CHOICES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.sampled_from([6, 17]), n=st.integers(8, 50))
def test_a_shuffled_pool_gives_the_same_rows_in_the_same_order(name, seed, d, n):
    """Eight rows or more at random, of which no two are worth the same (of two rows both make up the mean alike)."""
    rng = np.random.default_rng(seed)
    vectors, score, clusters, shuffled = unit_rows(n, d, seed), rng.random(n), np.arange(n) % 3, rng.permutation(n)
    straight = CHOICES[name](pool(vectors, score, clusters), 1 + n // 4)
    mixed = CHOICES[name](pool(vectors[shuffled], score[shuffled], clusters[shuffled]), 1 + n // 4)
    assert shuffled[mixed].tolist() == straight.tolist()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40))
def test_in_a_shuffled_pool_only_the_first_pair_of_reverse_search_may_turn_round(seed, n):
    vectors, shuffled = unit_rows(n, 8, seed), np.random.default_rng(seed).permutation(n)
    straight = reverse_semantic_search(pool(vectors, None, None), n // 2 + 1).order
    mixed = shuffled[reverse_semantic_search(pool(vectors[shuffled], None, None), n // 2 + 1).order]
    assert set(mixed[:2]) == set(straight[:2]) and mixed[2:].tolist() == straight[2:].tolist()


@pytest.mark.parametrize("name", [*CHOICES, *ONLY_COPIES])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.sampled_from([3, 17, 50]), n=st.integers(1, 60))
def test_of_copies_the_lowest_index_comes_first(name, seed, d, n):
    """Of a pool of copies in any order, all rows are taken: those of one kind by their indices."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 1 + n // 3, size=n)
    rows = pool(unit_rows(n, d, seed)[kind], rng.random(n)[kind], kind % 3)
    order = {**CHOICES, **ONLY_COPIES}[name](rows, n)
    assert len(set(order.tolist())) == len(order)
    for one in set(kind.tolist()):
        taken = [i for i in order.tolist() if kind[i] == one]
        assert taken == np.flatnonzero(kind == one)[: len(taken)].tolist()
