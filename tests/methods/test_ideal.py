"""IDEAL and the cascade under it: the worked graph, all worlds and a plain greedy as oracles, edges."""

import itertools
from itertools import product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance import ideal as module
from methods.importance.ideal import SELECTORS, ideal, neighbour_graph
from methods.kinds import Candidates
from methods.numerics import cascade, columns
from methods.numerics.cascade import Graph, widest, widest_by_sets


def exact_spread(graph: Graph, seeds: list[int]) -> float:
    """The expected number of active nodes, over all worlds of live and dead edges: for graphs of a few edges."""
    leaves = np.repeat(np.arange(len(graph)), np.diff(graph.starts)).tolist()
    edges = list(zip(leaves, graph.ends.tolist(), graph.weights.tolist(), strict=True))
    unsure = [edge for edge in edges if 0 < edge[2] < 1]
    sure = [edge[:2] for edge in edges if edge[2] >= 1]
    total = 0.0
    for world in product((False, True), repeat=len(unsure)):
        chance = 1.0
        live = list(sure)
        for on, (a, b, weight) in zip(world, unsure, strict=True):
            chance *= weight if on else 1 - weight
            live += [(a, b)] if on else []
        active = set(seeds)
        while more := {b for a, b in live if a in active} - active:
            active |= more
        total += chance * len(active)
    return total


def graph_of(n, edges):
    """From (a, b, weight)."""
    edges = sorted(edges)
    starts = np.searchsorted([a for a, _, _ in edges], np.arange(n + 1)).astype(np.int64)
    ends = np.array([b for _, b, _ in edges], dtype=np.int32)
    return Graph(starts, ends, np.array([w for _, _, w in edges], dtype=np.float64))


WORKED = graph_of(4, [(0, 1, 0.5), (0, 2, 0.5), (1, 2, 1.0), (3, 2, 1.0)])


def pool(vectors):
    vectors = np.array(vectors, dtype=np.float32)
    return Candidates(pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String), vectors=vectors)


def unit_rows(n, d=8, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def worlds(graph, samples, seed):
    """The live edges of each sample, as sets of pairs."""
    base, first, live = cascade._live_edges(graph.starts, graph.ends, graph.weights, samples, seed)
    return [
        {
            (node, int(end))
            for node in range(len(graph))
            for end in live[base[s] + first[s, node] : base[s] + first[s, node + 1]]
        }
        for s in range(samples)
    ]


def reached(edges, seeds):
    active = set(seeds)
    while more := {b for a, b in edges if a in active} - active:
        active |= more
    return active


def plain_greedy(n, drawn, budget):
    """Every gain anew for every pick, the first of the largest, counted in whole nodes over all samples."""
    order, gains = [], []
    spread = lambda seeds: sum(len(reached(edges, seeds)) for edges in drawn)  # noqa: E731
    while len(order) < min(budget, n):
        gain = [-1 if v in order else spread([*order, v]) - spread(order) for v in range(n)]
        order.append(int(np.argmax(gain)))
        gains.append(max(gain))
    return order, gains


@st.composite
def graphs(draw, most=6):
    n = draw(st.integers(1, most))
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    some = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=8)) if pairs else []
    return graph_of(n, [(a, b, draw(st.sampled_from([0.25, 0.5, 0.75, 1.0]))) for a, b in some])


def test_it_is_listed_under_the_specification_s_name():
    assert [s.id for s in SELECTORS] == ["ideal"]
    assert SELECTORS[0].select(pool(unit_rows(3)), 2, 0, **SELECTORS[0].params).order.size == 2


# --- the spread


@pytest.mark.parametrize(
    ("seeds", "spread"), [([0], 2.25), ([1], 2), ([2], 1), ([3], 2), ([0, 1], 3), ([0, 3], 3.5), ([1, 3], 3)]
)
def test_the_worked_graph(seeds, spread):
    assert exact_spread(WORKED, seeds) == pytest.approx(spread, abs=1e-12)
    drawn = worlds(WORKED, 4000, 1)
    assert np.mean([len(reached(edges, seeds)) for edges in drawn]) == pytest.approx(spread, abs=0.05)


def test_the_greedy_choice_on_the_worked_graph():
    for found in (widest(WORKED, 2, 4000, 0), widest_by_sets(WORKED, 2, 20_000, 0)):
        assert found.order.tolist() == [0, 3]
        assert found.gain == pytest.approx([2.25, 1.25], abs=0.05)


@settings(deadline=None, max_examples=40)
@given(graphs(), st.integers(0, 2**31))
def test_samples_and_sets_estimate_the_exact_spread(graph, seed):
    every = np.array([exact_spread(graph, [v]) for v in range(len(graph))])
    drawn = worlds(graph, 400, seed)
    sampled = [np.mean([len(reached(edges, [v])) for edges in drawn]) for v in range(len(graph))]
    assert sampled == pytest.approx(every, abs=6 * 0.5 * len(graph) / 400**0.5)
    back = graph.reversed()
    entries, offsets = cascade._reverse_sets(back.starts, back.ends, back.weights, 4000, seed, 2**20)
    share = np.bincount(entries, minlength=len(graph)) / (len(offsets) - 1)
    assert len(graph) * share == pytest.approx(every, abs=6 * 0.5 * len(graph) / 4000**0.5)


def test_every_edge_is_tossed_by_its_weight_and_by_itself():
    graph = graph_of(4, [(0, 1, 0.25), (0, 2, 0.5), (1, 2, 0.75), (2, 3, 1.0)])
    drawn = worlds(graph, 10_000, 5)
    live = np.array([[pair in edges for pair in ((0, 1), (0, 2), (1, 2), (2, 3))] for edges in drawn], dtype=float)
    assert live.mean(axis=0) == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.02)
    assert np.abs(np.corrcoef(live[:, :3].T) - np.eye(3)).max() < 0.05
    follows = np.corrcoef(live[1:, 0], live[:-1, 0])[0, 1]
    assert abs(follows) < 0.05
    assert worlds(graph, 10, 5) == drawn[:10] and worlds(graph, 10, 6) != drawn[:10]


# --- the choice


@settings(deadline=None, max_examples=60)
@given(graphs(), st.integers(1, 7), st.integers(1, 6), st.integers(0, 2**31))
def test_lazy_is_plain_with_ties_to_the_lowest(graph, budget, samples, seed):
    found = widest(graph, budget, samples, seed)
    order, gains = plain_greedy(len(graph), worlds(graph, samples, seed), budget)
    assert found.order.tolist() == order
    assert (found.gain * samples).tolist() == pytest.approx(gains)
    assert (np.diff(found.gain) <= 1e-12).all()
    if budget >= len(graph):
        assert found.gain.sum() == pytest.approx(len(graph))


@settings(deadline=None, max_examples=60)
@given(graphs(), st.integers(1, 7), st.integers(1, 30), st.integers(0, 2**31))
def test_cover_of_the_sets_is_the_plain_greedy_one(graph, budget, sets, seed):
    found = widest_by_sets(graph, budget, sets, seed)
    back = graph.reversed()
    entries, offsets = cascade._reverse_sets(back.starts, back.ends, back.weights, sets, seed, 2**20)
    left = [set(entries[a:b].tolist()) for a, b in itertools.pairwise(offsets)]
    assert found.drawn == sets == len(left)
    assert [len(held) for held in left] == np.diff(offsets).tolist()
    for row, gain in zip(found.order.tolist(), found.gain, strict=True):
        taken = found.order[: found.order.tolist().index(row)]
        counts = [-1 if v in taken else sum(v in held for held in left) for v in range(len(graph))]
        assert row == int(np.argmax(counts)) and gain == pytest.approx(len(graph) * counts[row] / sets)
        left = [held for held in left if row not in held]


def test_greedy_is_within_its_bound_of_the_best_choice():
    rng = np.random.default_rng(3)
    for seed in range(5):
        edges = {(int(a), int(b)) for a, b in rng.integers(6, size=(9, 2)) if a != b}
        graph = graph_of(6, [(a, b, 0.5) for a, b in edges])
        drawn = worlds(graph, 50, seed)
        spread = lambda s, drawn=drawn: sum(len(reached(edges, s)) for edges in drawn) / 50  # noqa: E731
        best = max(spread((a, b)) for a in range(6) for b in range(a))
        assert widest(graph, 2, 50, seed).gain.sum() >= (1 - 1 / np.e) * best


def test_sets_stop_where_their_room_ends():
    ring = graph_of(6, [(i, (i + 1) % 6, 1.0) for i in range(6)])
    back = ring.reversed()
    entries, offsets = cascade._reverse_sets(back.starts, back.ends, back.weights, 100, 0, 20)
    assert offsets.tolist() == [0, 6, 12, 18] and len(entries) == 18
    assert widest_by_sets(ring, 1, 100, 0, room=20).drawn == 3
    found = widest_by_sets(ring, 2, 100, 0, room=3)
    assert found.drawn == 0 and found.order.tolist() == [0, 1] and found.gain.tolist() == [0, 0]


# --- the graph


def test_out_weights_add_up_to_one_and_negative_cosines_count_as_none():
    vectors = unit_rows(30, d=3)
    graph = neighbour_graph(vectors, 10)
    exact = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(exact, -2)
    for row in range(30):
        here = slice(graph.starts[row], graph.starts[row + 1])
        best = np.argsort(-exact[row])[:10]
        wanted = best[exact[row, best] > 0]
        assert sorted(graph.ends[here].tolist()) == sorted(wanted.tolist())
        assert graph.weights[here].sum() == pytest.approx(1, abs=1e-12)
        share = np.maximum(exact[row, graph.ends[here]], 0) / np.maximum(exact[row, best], 0).sum()
        assert graph.weights[here] == pytest.approx(share, abs=1e-5)
    lonely = neighbour_graph(np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32), 2)
    assert lonely.starts.tolist() == [0, 0, 0, 0] and lonely.ends.size == 0


def test_a_row_is_no_neighbour_of_itself_even_among_copies():
    graph = neighbour_graph(np.tile(np.float32([[0.6, 0.8]]), (5, 1)), 3)
    leaves = np.repeat(np.arange(5), np.diff(graph.starts))
    assert (leaves != graph.ends).all() and graph.weights.tolist() == pytest.approx([1 / 3] * 15)


# --- the selector


def test_the_middles_of_dense_groups_come_first():
    """Two groups around a middle; stragglers that point to a group, and that nobody points to, are worth less."""
    rng = np.random.default_rng(0)
    middles = np.eye(8)[:2]
    groups = [middles[g] + 0.2 * rng.normal(size=(40, 8)) for g in (0, 1)]
    vectors = np.concatenate([*groups, rng.normal(size=(5, 8))])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = ideal(pool(vectors), 2, seed=1, k=5)
    assert sorted(int(i) // 40 for i in found.order) == [0, 1]


def test_what_it_says():
    vectors = unit_rows(20)
    found = ideal(pool(vectors), 3, seed=2)
    total = found.gain[0] + found.gain[1]
    assert found.reason[1] == (
        f"reaches {found.gain[1]:.6g} rows that no row chosen before reaches (now {total:.6g} of 20 reached, the mean "
        "over the 100 samples of live edges it was chosen by)"
    )
    near = vectors[found.order[2]] @ vectors[found.order[:2]].T
    assert found.nearest.tolist()[:2] == [-1, found.order[0]]
    assert found.nearest[2] == found.order[int(np.argmax(near))]
    again = ideal(pool(vectors), 3, seed=2)
    assert again.order.tolist() == found.order.tolist() and again.gain.tolist() == found.gain.tolist()


def test_a_large_pool_is_chosen_from_by_sets(monkeypatch):
    vectors = unit_rows(60, d=4)
    by_samples = ideal(pool(vectors), 5, samples=1000)
    monkeypatch.setattr(module, "LARGE", 59)
    by_sets = ideal(pool(vectors), 5, samples=1000)
    assert "6000 reverse-reachable sets" in by_sets.reason[0]
    assert by_sets.gain.sum() == pytest.approx(by_samples.gain.sum(), rel=0.1)


def test_edges():
    empty = ideal(pool(np.empty((0, 4))), 3)
    assert empty.order.size == empty.gain.size == 0 and empty.reason == []
    assert ideal(pool(unit_rows(4)), 0).order.size == 0
    one = ideal(pool([[1, 0]]), 5)
    assert one.order.tolist() == [0] and one.gain.tolist() == [1] and one.nearest.tolist() == [-1]
    copies = ideal(pool([[0.6, 0.8]] * 6), 9, k=3)
    assert sorted(copies.order.tolist()) == list(range(6)) and copies.gain.sum() == pytest.approx(6)
    apart = ideal(pool([[1, 0], [0, 1], [-1, 0]]), 3)
    assert apart.order.tolist() == [0, 1, 2] and apart.gain.tolist() == [1, 1, 1]


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ideal(pool(unit_rows(3)), 1, k=0)
    with pytest.raises(ValueError, match="at least 1"):
        ideal(pool(unit_rows(3)), 1, samples=0)
    with pytest.raises(ValueError, match="has no vector"):
        ideal(pool([[1, 0], [np.nan, 0]]), 1)
    with pytest.raises(ValueError, match="needs vectors"):
        ideal(Candidates(pl.Series(["a"])), 1)
    with pytest.raises(ValueError, match="negative"):
        ideal(pool(unit_rows(3)), -1)


@pytest.mark.parametrize("block", [2, 1000])
def test_the_nearest_before_by_blocks(monkeypatch, block):
    vectors = np.concatenate([unit_rows(12, d=3), unit_rows(12, d=3)])  # each row twice
    order = np.random.default_rng(1).permutation(24)
    slow = [-1]
    for place in range(1, 24):
        level = (vectors[order[:place]].astype(np.float64) @ vectors[order[place]].astype(np.float64)).round(6)
        slow.append(int(order[int(np.argmax(level))]))
    monkeypatch.setattr(columns, "blocks", lambda n, _, cut=columns.blocks: cut(n, block))
    assert columns.nearest_before(vectors, order).tolist() == slow
