"""Choices inside clusters: worked examples, plain re-statements as oracles, edges."""

from fractions import Fraction
from math import floor

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import cluster_sampling
from methods.diversity.cluster_sampling import (
    SELECTORS,
    cluster_clip,
    dense_clusters,
    easy_and_diverse_first,
    labels_of,
    middle_first,
    moderate_coreset,
    ordered_clustering,
    to_centre,
)
from methods.kinds import Candidates


def pool(vectors=None, **fields):
    n = len(next(iter([x for x in (vectors, *fields.values()) if x is not None])))
    vectors = None if vectors is None else np.array(vectors, dtype=np.float32)
    fields = {name: np.array(x, dtype=np.int64 if name == "clusters" else float) for name, x in fields.items()}
    return Candidates(pl.Series([f"r{i}" for i in range(n)], dtype=pl.String), vectors=vectors, **fields)


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(sizes, d=8, spread=0.05, seed=0):
    """Rows about as many far apart directions as there are sizes, and which one each is about."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.eye(d)[label] + spread * rng.normal(size=(len(label), d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), label


labelled = st.lists(st.tuples(st.integers(-1, 4), st.integers(-3, 3)), min_size=1, max_size=25)


def in_turn(queues):
    """A row of each queue in turn until all are empty."""
    order = []
    while any(queues):
        order += [queue.pop(0) for queue in queues if queue]
    return order


def test_all_are_listed_under_the_specification_s_names():
    names = ["easy_and_diverse_first", "cluster_clip", "moderate_coreset", "ordered_clustering"]
    assert [s.id for s in SELECTORS] == names
    everything = pool(blobs([9, 9])[0], score=np.arange(18), clusters=blobs([9, 9])[1])
    assert all(s.select(everything, 6, 0, **s.params).order.size for s in SELECTORS)


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda s: s.id)
def test_edges(selector):
    def run(rows, budget, **params):
        rows = np.array(rows, dtype=np.float32)
        every = pool(rows, score=np.zeros(len(rows)), clusters=np.zeros(len(rows)))
        return selector.select(every, budget, 3, **{**selector.params, **params})

    fill = {"noise": "last"} if selector.id == "ordered_clustering" else {}
    for found in (run(np.empty((0, 3)), 4), run(unit_rows(20), 0)):
        assert found.order.size == found.gain.size == len(found.reason) == 0
    assert run([[0.6, 0.8]], 1, **fill).order.tolist() == [0]
    for rows in ([[0.6, 0.8]] * 7, unit_rows(20)):
        assert sorted(run(rows, 99, **fill).order.tolist()) == list(range(len(rows)))
        assert run(rows, 5, **fill).order.tolist() == run(rows, 5, **fill).order.tolist()
    with pytest.raises(ValueError, match="must not be negative"):
        run(unit_rows(3), -1)


# --- clusters


def test_clusters_are_the_pool_s_or_found_here():
    rows, label = blobs([12, 7, 5])
    assert labels_of(pool(rows, clusters=label[::-1]), None, 0, "x").tolist() == label[::-1].tolist()
    found = labels_of(pool(rows, clusters=label[::-1]), 3, 0, "x")  # k goes before the pool's
    assert len(set(zip(found.tolist(), label.tolist(), strict=True))) == 3
    with pytest.raises(ValueError, match="x needs clusters"):
        labels_of(pool(rows), None, 0, "x")
    with pytest.raises(ValueError, match="k is a whole number"):
        labels_of(pool(rows), 0, 0, "x")
    with pytest.raises(ValueError, match="has no vector"):
        labels_of(pool([[np.nan, 1.0]]), 2, 0, "x")


@pytest.mark.parametrize("prototype", ["mean", "median"])
def test_distances_to_the_centre(prototype, monkeypatch):
    rows, cluster = unit_rows(50, seed=2), np.arange(50) % 3
    centre = {j: getattr(np, prototype)(rows[cluster == j].astype(float), axis=0) for j in range(3)}
    expected = [np.linalg.norm(row - centre[j]) for row, j in zip(rows, cluster, strict=True)]
    assert to_centre(rows, cluster, prototype) == pytest.approx(expected, abs=1e-6)
    whole = to_centre(rows, cluster, prototype)
    monkeypatch.setattr(cluster_sampling, "BLOCK", 4)
    assert to_centre(rows, cluster, prototype) == pytest.approx(whole, abs=1e-12)


# --- easy and diverse first

LOSS = np.array([0.9, 0.2, 0.5, 0.8])


def test_easy_first_of_the_specification():
    found = easy_and_diverse_first(pool(score=-LOSS, clusters=[0, 0, 1, 1]), 2, k=None)
    assert found.order.tolist() == [1, 2] and found.gain.tolist() == [-0.2, -0.5]
    assert found.reason[0] == "1 of 1 from cluster 0 (2 rows), score -0.2"
    hard = easy_and_diverse_first(pool(score=LOSS, clusters=[0, 0, 1, 1]), 2, k=None)
    assert hard.order.tolist() == [0, 3]  # the score is turned: what comes first is the recipe's word


def test_balanced_and_proportional_quotas():
    label = [0] * 6 + [1] * 2 + [2] * 1

    def taken(budget, quota):
        found = easy_and_diverse_first(pool(score=np.arange(9), clusters=label), budget, k=None, quota=quota)
        return np.bincount(np.array(label)[found.order], minlength=3).tolist()

    assert taken(4, "balanced") == [2, 1, 1]  # b mod K to the lowest cluster
    assert taken(8, "balanced") == [5, 2, 1]  # what small clusters lack is shared by the others
    assert taken(3, "proportional") == [2, 1, 0]  # 2, .667, .333
    with pytest.raises(ValueError, match="quota must be balanced or proportional"):
        taken(3, "equal")


@settings(max_examples=60, deadline=None)
@given(labelled, st.integers(0, 30))
def test_easy_first_is_the_plain_one(rows, budget):
    label, score = np.array(rows).T
    names = sorted(set(label.tolist()))
    quota = dict.fromkeys(names, 0)
    while sum(quota.values()) < min(budget, len(rows)):  # one more for each in turn
        for j in names:
            quota[j] += quota[j] < np.sum(label == j) and sum(quota.values()) < min(budget, len(rows))
    best = {j: sorted(np.flatnonzero(label == j).tolist(), key=lambda i: (-score[i], i))[: quota[j]] for j in names}
    found = easy_and_diverse_first(pool(score=score, clusters=label), budget, k=None)
    assert found.order.tolist() == in_turn([best[j] for j in names])


def test_easy_first_finds_clusters_of_its_own():
    rows, label = blobs([30, 6, 4])
    found = easy_and_diverse_first(pool(rows, score=np.arange(40)), 3, seed=1, k=3)
    assert sorted(found.order.tolist()) == [29, 35, 39]
    with pytest.raises(ValueError, match="needs score"):
        easy_and_diverse_first(pool(rows, clusters=label), 3)


# --- ClusterClip

SIZES = [0] * 6 + [1] * 2 + [2] * 1


@pytest.mark.parametrize(("clip", "quota"), [(1, [6, 2, 1]), (2, [4, 3, 2])])
def test_clip_of_the_specification(clip, quota):
    found = cluster_clip(pool(clusters=SIZES), 9, 0, clip=clip)
    seen = np.bincount(np.array(SIZES)[found.order], weights=found.gain)
    assert seen.tolist() == quota and found.gain.max() == clip
    assert len(set(found.order.tolist())) == len(found.order) == (9 if clip == 1 else 7)
    assert found.reason[2] == f"to be seen {'once' if clip == 1 else '2 times'}: cluster 2 (1 rows) is seen " + (
        "once" if clip == 1 else "2 times"
    )


def clipped(sizes, budget, clip):
    """min(level, c n) in whole fractions: the level by trying every set of clusters that reach their cap."""
    caps = [clip * n for n in sizes]
    budget = min(budget, sum(caps))
    for cap in [0, *sorted(caps)]:
        below = sum(c for c in caps if c <= cap)
        above = sum(c > cap for c in caps)
        level = Fraction(budget - below, above) if above else Fraction(cap)
        if sum(min(level, c) for c in caps) == budget:
            break
    exact = [min(level, Fraction(c)) for c in caps]
    whole = [floor(x) for x in exact]
    by_rest = sorted(range(len(sizes)), key=lambda j: (whole[j] - exact[j], j))
    for j in by_rest[: budget - sum(whole)]:
        whole[j] += 1
    return whole


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 120), st.integers(1, 5), st.integers(0, 99))
def test_clip_is_the_level_by_largest_remainder(sizes, budget, clip, seed):
    label = np.repeat(np.arange(len(sizes)), sizes)
    found = cluster_clip(pool(clusters=label), budget, seed, clip=clip)
    seen = np.bincount(label[found.order], weights=found.gain, minlength=len(sizes))
    assert seen.tolist() == clipped(sizes, budget, clip)
    assert len(np.unique(found.order)) == len(found.order)
    times = np.zeros(len(label))
    times[found.order] = found.gain
    assert times.max() <= clip
    assert all(times[label == j].max() - times[label == j].min() <= 1 for j in range(len(sizes)))


def test_clip_draws_by_the_seed_and_refuses_nonsense():
    label = np.zeros(50)
    drawn = {tuple(sorted(cluster_clip(pool(clusters=label), 5, seed).order.tolist())) for seed in range(20)}
    assert len(drawn) == 20
    shares = sum(np.bincount(cluster_clip(pool(clusters=label), 5, s).order, minlength=50) for s in range(2000)) / 2000
    assert np.abs(shares - 0.1).max() < 0.035  # 5 standard deviations
    for clip in (0, 1.5, True):
        with pytest.raises(ValueError, match="clip is a whole number"):
            cluster_clip(pool(clusters=label), 5, 0, clip=clip)


# --- moderate coreset


def test_the_middle_ranks_of_the_specification():
    distance = np.array([0.1, 0.4, 0.2, 0.3, 0.9])
    rank, outwards = middle_first(distance, np.zeros(5, dtype=np.int64), np.array([5]))
    assert rank.tolist() == [0, 3, 1, 2, 4]
    assert np.argsort(outwards).tolist() == [3, 2, 1, 0, 4]
    assert sorted(np.argsort(outwards)[:3].tolist()) == [1, 2, 3]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 24), st.integers(0, 10**6), st.integers(0, 26), st.sampled_from(["mean", "median"]))
def test_moderate_is_the_plain_one(n, seed, budget, prototype):
    rows = unit_rows(n, 3, seed)
    rng = np.random.default_rng(seed)
    rows = rows[rng.integers(n, size=n)]
    label = rng.integers(-1, 3, size=n)
    names = sorted(set(label.tolist()))
    _, cluster = np.unique(label, return_inverse=True)
    far = np.round(to_centre(rows, cluster, prototype), 9)
    sizes = [int(np.sum(label == j)) for j in names]
    exact = [Fraction(min(budget, n) * size, n) for size in sizes]
    quota = [floor(x) for x in exact]
    for j in sorted(range(len(names)), key=lambda j: (quota[j] - exact[j], j))[: min(budget, n) - sum(quota)]:
        quota[j] += 1
    queues = []
    for j, q in zip(names, quota, strict=True):
        near_first = sorted(np.flatnonzero(label == j).tolist(), key=lambda i: (far[i], i))
        start = (len(near_first) - q) // 2
        middle = (len(near_first) - 1) / 2
        band = range(start, start + q)
        queues.append([near_first[r] for r in sorted(band, key=lambda r: (abs(r - middle), r))])
    found = moderate_coreset(pool(rows, clusters=label), budget, prototype=prototype)
    assert found.order.tolist() == in_turn(queues)


def test_moderate_leaves_out_the_typical_and_the_odd():
    rows, _ = blobs([41], spread=0.2)
    found = moderate_coreset(pool(rows), 21, k=1)
    far = np.sort(to_centre(rows, np.zeros(41, dtype=np.int64)))
    taken = to_centre(rows, np.zeros(41, dtype=np.int64))[found.order]
    assert sorted(taken.tolist()) == far[10:31].tolist()
    assert found.gain[0] == 0 and found.gain.max() == 0
    middle = far[20]
    assert (
        found.reason[0] == f"{middle:.4f} from the mean of cluster 0: rank 21 of 41, where the middle is {middle:.4f}"
    )
    with pytest.raises(ValueError, match="prototype must be mean or median"):
        moderate_coreset(pool(rows), 3, k=1, prototype="medoid")


# --- ordered clustering


@settings(max_examples=60, deadline=None)
@given(labelled, st.integers(0, 30), st.sampled_from(["lowest", "highest"]), st.sampled_from(["exclude", "last"]))
def test_ordered_clustering_is_the_plain_round_robin(rows, budget, order, noise):
    label, level = np.array(rows).T
    label = np.unique(label, return_inverse=True)[1] - (label.min() < 0)  # without gaps, as HDBSCAN's
    member = np.where(label < 0, 0.0, (level + 4) / 8)
    sign = 1 if order == "lowest" else -1
    clusters = [np.flatnonzero(label == j).tolist() for j in range(label.max() + 1)]
    clusters = sorted(clusters, key=lambda c: (-len(c), c[0]))
    expected = in_turn([sorted(c, key=lambda i: (sign * member[i], i)) for c in clusters])
    outside = np.flatnonzero(label < 0).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_sampling, "dense_clusters", lambda vectors, size: (label, member))
        found = ordered_clustering(pool(np.ones((len(rows), 1))), budget, order=order, noise=noise)
    assert found.order.tolist() == (expected + (outside if noise == "last" else []))[:budget]
    assert found.gain.tolist() == member[found.order].tolist()
    assert sorted(found.refused) == (outside if noise == "exclude" else [])


def test_dense_groups_are_found_in_many_dimensions_and_noise_is_left_out():
    rows, label = blobs([40, 25, 15], d=80, spread=0.02)
    rows = (rows + np.eye(80)[79]) / np.sqrt(2 + 2 * rows[:, 79:])  # nearer to each other than to the lone rows
    lone = (np.eye(80)[10:14] - np.eye(80)[79]) / np.sqrt(2)  # too few to be a group
    rows, label = np.concatenate([rows, lone]).astype(np.float32), np.append(label, [-1] * 4)
    shuffled = np.random.default_rng(1).permutation(len(rows))
    rows, label = rows[shuffled], label[shuffled]
    found, member = dense_clusters(rows)
    pairs = set(zip(found[found >= 0].tolist(), label[found >= 0].tolist(), strict=True))
    assert len(pairs) == 3 and {j for _, j in pairs} == {0, 1, 2} and np.mean(found[label >= 0] >= 0) > 0.9
    chosen = ordered_clustering(pool(rows), 9)
    assert label[chosen.order].tolist() == [0, 1, 2] * 3
    assert set(np.flatnonzero(label < 0).tolist()) <= set(chosen.refused)
    first = chosen.order[0]
    assert member[first] == member[found == found[first]].min()
    assert chosen.reason[0].startswith(f"membership {member[first]:.4f} in cluster 1 of 3 by size (")
    core = ordered_clustering(pool(rows), 3, order="highest")
    assert core.gain.tolist() == [1.0, 1.0, 1.0]


def test_copies_alone_are_no_group_and_two_heaps_of_copies_are_two():
    alike = ordered_clustering(pool([[0.6, 0.8]] * 12), 4)
    assert alike.order.size == 0 and len(alike.refused) == 12
    heaps = ordered_clustering(pool([[1, 0]] * 6 + [[0, 1]] * 7), 4)
    assert heaps.order.tolist() == [6, 0, 7, 1] and heaps.gain.tolist() == [1.0] * 4
    for params in ({"order": "low"}, {"noise": "keep"}, {"min_cluster_size": 1}):
        with pytest.raises(ValueError, match=r"must be|whole number"):
            ordered_clustering(pool([[1, 0]] * 6), 4, **params)
