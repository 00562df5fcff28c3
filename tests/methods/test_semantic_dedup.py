"""SemDeDup and D4: the specification's examples, plain re-statements as oracles, edges."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import semantic_dedup
from methods.diversity.semantic_dedup import SELECTORS, d4, farthest, semdedup
from methods.kinds import Candidates
from methods.numerics import kmeans
from methods.numerics.similarity import cosines


def pool(vectors, clusters=None):
    vectors = np.array(vectors, dtype=np.float32)
    ids = pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String)
    return Candidates(ids, vectors=vectors, clusters=None if clusters is None else np.array(clusters))


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def angles(*degrees):
    turned = np.radians(degrees)
    return np.column_stack([np.cos(turned), np.sin(turned)])


CHAIN = np.linalg.cholesky([[1, 0.97, 0.90], [0.97, 1, 0.97], [0.90, 0.97, 1]])
IN_ORDER = next(seed for seed in range(99) if np.random.default_rng(seed).permutation(3).tolist() == [0, 1, 2])


def test_both_are_listed_under_the_specification_s_names():
    assert [s.id for s in SELECTORS] == ["semdedup", "d4"]
    assert all(s.select(pool(unit_rows(9)), 4, 0, **s.params).order.size == 4 for s in SELECTORS)


# --- SemDeDup


@pytest.mark.parametrize(("semantics", "kept"), [("reference", [0]), ("greedy", [0, 2])])
def test_worked_example(semantics, kept):
    options = {"clusters": "given", "order": "random", "semantics": semantics}
    found = semdedup(pool(CHAIN, [0, 0, 0]), 3, IN_ORDER, **options)
    assert found.order.tolist() == kept
    assert found.refused[1] == "the same as row r0 (cosine 0.9700)"
    assert found.reason[-1].endswith(f"the pool ended here, {len(kept)} of the 3 rows asked for")
    if semantics == "reference":
        assert found.refused[2] == (
            "the same as row r1 (cosine 0.9700), itself dropped; row r0 is kept for both (cosine 0.9000)"
        )


def test_hard_keeps_the_outlying_row_and_easy_the_typical_one():
    candidates = pool(angles(0, 1, 2, 10), [5] * 4)  # the mean is at 3.25 degrees
    hard = semdedup(candidates, 4, clusters="given", epsilon=0.01)  # up to 8.1 degrees
    easy = semdedup(candidates, 4, clusters="given", epsilon=0.01, order="easy")
    assert hard.order.tolist() == [3, 0]
    assert easy.order.tolist() == [2]  # the row at 10 degrees is 8 from it
    assert hard.gain == pytest.approx(1 - np.cos(np.radians([6.75, 3.25])), abs=2e-5)
    assert hard.nearest.tolist() == [-1, 3]
    assert hard.reason[0] == (
        "0.0069 from the centre of cluster 5 (4 rows), no earlier row of it with a cosine above 0.9900"
    )


def test_rows_of_different_clusters_are_not_compared():
    same = np.tile(angles(30), (4, 1))
    assert semdedup(pool(same, [0, 0, 1, -1]), 4, clusters="given").order.tolist() == [0, 2, 3]
    assert semdedup(pool(same, [-1, -1, 1, -1]), 4, clusters="given").order.tolist() == [0, 2]


def test_more_rows_left_than_the_budget_gives_the_first_in_order():
    candidates = pool(angles(0, 1, 90, 100, 170), [0] * 5)
    whole = semdedup(candidates, 5, clusters="given", epsilon=0.01)
    assert whole.order.size == 4
    few = semdedup(candidates, 2, clusters="given", epsilon=0.01)
    assert few.order.tolist() == whole.order[:2].tolist()
    none = semdedup(candidates, 0, clusters="given", epsilon=0.01)
    assert none.order.size == 0
    assert set(none.refused.values()) == {f"{next(iter(whole.refused.values()))}, which the budget left out"}


def slow(vectors, label, ranked, limit, semantics):
    """One row after another, every cosine to all before it."""
    kept, twins = [], {}
    for place, i in enumerate(ranked):
        before = [j for j in ranked[:place] if label[j] == label[i] and (semantics == "reference" or j in kept)]
        close = cosines(vectors[[i]], vectors[before])[0] if before else np.zeros(0)
        if before and close.max() > limit + 1e-6:
            twins[i] = before[int(close.argmax())]
        else:
            kept.append(i)
    return kept, twins


def order_of(vectors, label, order, seed):
    away = np.empty(len(vectors))
    for name in set(label):
        rows = np.flatnonzero(label == name)
        mean = vectors[rows].astype(np.float64).mean(axis=0)
        centre = (mean / np.linalg.norm(mean)).astype(np.float32)
        away[rows] = 1 - cosines(vectors[rows], centre[None])[:, 0]
    if order == "random":
        return np.random.default_rng(seed).permutation(len(vectors)).tolist()
    sign = -1 if order == "hard" else 1
    return sorted(range(len(vectors)), key=lambda i: (sign * away[i], i))


options = {
    "semantics": st.sampled_from(["reference", "greedy"]),
    "order": st.sampled_from(["hard", "easy", "random"]),
    "seed": st.integers(0, 9999),
    "n": st.integers(1, 40),
}


@settings(max_examples=100, deadline=None)
@given(**options, epsilon=st.sampled_from([0.0, 0.02, 0.1, 0.4, 1.3]), k=st.integers(1, 4))
def test_it_is_the_slow_one(semantics, order, seed, n, epsilon, k):
    vectors, label = unit_rows(n, 3, seed), np.random.default_rng(seed).integers(0, k, n)
    found = semdedup(pool(vectors, label), n, seed, epsilon, semantics, order, "given")
    kept, twins = slow(vectors, label, order_of(vectors, label, order, seed), 1 - epsilon, semantics)
    assert found.order.tolist() == kept
    assert {i: why.split()[4] for i, why in found.refused.items()} == {i: f"r{j}" for i, j in twins.items()}
    for i, why in found.refused.items():
        end = twins[i]
        while end in twins:
            end = twins[end]
        assert (f"itself dropped; row r{end} is kept for both" in why) == (end != twins[i])
    for i, j, place in zip(found.order, found.nearest, range(n), strict=False):
        before = [b for b in kept[:place] if label[b] == label[i]]
        assert j == (before[int(cosines(vectors[[i]], vectors[before])[0].argmax())] if before else -1)


@settings(max_examples=60, deadline=None)
@given(**options, budget=st.integers(0, 45))
def test_auto_leaves_the_budget_with_the_largest_epsilon(semantics, order, seed, n, budget):
    vectors, label = unit_rows(n, 3, seed), np.zeros(n, dtype=int)
    vectors[n // 2 :] = vectors[: n - n // 2]
    candidates = pool(vectors, label)
    found = semdedup(candidates, budget, seed, "auto", semantics, order, "given")
    assert len(found.order) == min(budget, n)
    assert not set(found.order.tolist()) & set(found.refused)
    if 0 < budget < n and semantics == "reference":
        limit, ranked = float(found.reason[0].split()[-1]), order_of(vectors, label, order, seed)
        assert len(slow(vectors, label, ranked, limit + 1e-4, semantics)[0]) >= budget
        assert limit < -0.99 or len(slow(vectors, label, ranked, limit - 1e-4, semantics)[0]) < budget


@pytest.mark.parametrize(
    ("semantics", "limits"), [("reference", (2, 4, 12)), ("greedy", (3, 7, 15))], ids=["reference", "greedy"]
)
def test_auto_by_hand(semantics, limits):
    """Rows go 31, 0, 1, 3, 15, 7 degrees; earlier ones are 31, 1, 2, 12 and 4 away, kept ones 31, 1, 3, 15 and 7."""
    candidates = pool(angles(0, 1, 3, 7, 15, 31), [0] * 6)
    for budget, limit in zip((5, 4, 3), limits, strict=True):
        found = semdedup(candidates, budget, 0, "auto", semantics, "hard", "given")
        assert len(found.refused) == 6 - budget
        assert found.reason[0].endswith(f"{np.cos(np.radians(limit)):.4f}")


@pytest.mark.parametrize("semantics", ["reference", "greedy"])
def test_blocks_leave_no_trace(semantics, monkeypatch):
    candidates = pool(unit_rows(150, 3, 2))
    whole = semdedup(candidates, 150, 0, 0.02, semantics)
    cut = semantic_dedup.blocks
    monkeypatch.setattr(semantic_dedup, "blocks", lambda n, size=7: cut(n, min(size, 7)))
    monkeypatch.setattr(semantic_dedup, "TILE", 5)
    pieces = semdedup(candidates, 150, 0, 0.02, semantics)
    assert pieces.order.tolist() == whole.order.tolist()
    assert pieces.refused == whole.refused and pieces.nearest.tolist() == whole.nearest.tolist()


def test_a_large_cluster_is_split_and_equal_rows_stay_together(monkeypatch):
    rng = np.random.default_rng(0)
    middle = unit_rows(6, 16, 1)
    vectors = np.repeat(middle, 20, axis=0) + 0.01 * rng.normal(size=(120, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = semdedup(pool(vectors, [0] * 120), 120, clusters="given")
    monkeypatch.setattr(semantic_dedup, "MOST_ROWS", 50)
    assert semdedup(pool(vectors, [0] * 120), 120, clusters="given").order.tolist() == whole.order.tolist()
    assert len(whole.order) == 6
    same = np.tile(np.float32([0.6, 0.8]), (120, 1))
    assert semdedup(pool(same), 120).order.tolist() == [0]


def test_own_clusters_are_those_of_k_means():
    vectors = np.concatenate([unit_rows(30, 8, seed) * 0.1 + np.eye(8)[seed] for seed in range(3)])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    label, _ = kmeans.assign(vectors, kmeans.fit(vectors, 3, 0))
    own, told = semdedup(pool(vectors), 90, k=3), semdedup(pool(vectors, label), 90, clusters="given")
    assert sorted(own.order.tolist()) == sorted(told.order.tolist())
    assert "30 rows" in own.reason[0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), shuffled=st.permutations(range(20)))
def test_it_follows_a_shuffled_pool(seed, shuffled):
    vectors, label = unit_rows(20, 4, seed), np.arange(20) % 2
    straight = semdedup(pool(vectors, label), 20, epsilon=0.2, clusters="given").order.tolist()
    mixed = semdedup(pool(vectors[list(shuffled)], label[list(shuffled)]), 20, epsilon=0.2, clusters="given").order
    assert [shuffled[i] for i in mixed] == straight


@pytest.mark.parametrize("select", [semdedup, d4])
@pytest.mark.parametrize(("n", "budget"), [(0, 0), (0, 3), (1, 0), (1, 1), (1, 5), (4, 0), (4, 9)])
def test_edges(select, n, budget):
    found = select(pool(unit_rows(n)), budget, 0)
    assert sorted(found.order.tolist()) == list(range(min(n, budget)))
    assert len(found.gain) == len(found.reason) == len(found.nearest) == len(found.order)


def test_what_is_missing_or_wrong_is_said():
    candidates = pool(unit_rows(3))
    wrong = ({"epsilon": -0.1}, {"epsilon": "x"}, {"semantics": "x"}, {"order": "x"}, {"clusters": "x"})
    for given_ in (*wrong, {"clusters": "given"}):
        with pytest.raises(ValueError, match="|".join((*given_, "needs clusters"))):
            semdedup(candidates, 2, **given_)
    for given_ in ({"dedup": 0}, {"scope": "x"}):
        with pytest.raises(ValueError, match="d4"):
            d4(candidates, 2, **given_)
    for select in (semdedup, d4):
        with pytest.raises(ValueError, match="no vector"):
            select(pool([[np.nan, 0], [1, 0]]), 1)


# --- D4


def test_the_farthest_are_kept():
    away, label = np.array([0.1, 0.4, 0.2, 0.3]), np.array([0, 0, 1, 1])
    assert farthest(away, label, 2, "global").tolist() == [1, 3]
    assert farthest(away, label, 2, "cluster").tolist() == [1, 3]
    assert farthest(away, np.array([0, 1, 0, 1]), 2, "global").tolist() == [1, 3]
    assert farthest(away, np.array([0, 1, 0, 1]), 2, "cluster").tolist() == [1, 2]
    assert farthest(away, np.array([0, 0, 0, 1]), 2, "cluster").tolist() == [1, 2]  # 1.5 and .5: the lower label
    assert farthest(np.full(4, 0.5), label, 3, "global").tolist() == [0, 1, 2]


@pytest.mark.parametrize("scope", ["global", "cluster"])
def test_d4_is_its_two_halves(scope):
    vectors = unit_rows(80, 5, 4)
    found = d4(pool(vectors), 30, 7, scope=scope, k=6, k_after=4)
    left = np.sort(semdedup(pool(vectors), 60, 7, "auto", k=6).order)
    label, close = kmeans.assign(vectors[left], kmeans.fit(vectors[left], 4, 7))
    away = 1 - close.astype(np.float64)
    assert found.order.tolist() == left[farthest(away, label, 30, scope)].tolist()
    assert (np.diff(found.gain) <= 0).all()
    if scope == "global":
        assert found.gain.min() >= np.sort(away)[30]
    assert len(found.refused) == 50
    typical = [i for i, why in found.refused.items() if why.endswith("too typical")]
    assert sorted([*typical, *found.order.tolist()]) == left.tolist()


def test_d4_drops_duplicates_first():
    vectors = unit_rows(30, 5, 1)
    vectors = np.concatenate([vectors, vectors[:10]])
    found = d4(pool(vectors), 20)
    twice = {i % 30 for i in found.order.tolist() if i % 30 < 10}
    assert len(twice) == sum(i % 30 < 10 for i in found.order.tolist())
    assert all(why.startswith("the same as row r") for why in found.refused.values() if "cosine" in why)


def test_d4_leaves_the_budget_and_says_what_the_share_left_out():
    same = d4(pool(np.tile(np.float32([0.6, 0.8]), (8, 1))), 3)
    assert same.order.tolist() == [0, 1, 2]
    assert sum(why == "not among the first 6 rows without duplicates" for why in same.refused.values()) == 2
    assert len(d4(pool(unit_rows(20)), 19, dedup=0.5).order) == 19
    assert d4(pool(unit_rows(20)), 20).refused == {}
