"""Approximate neighbours: against the exact search, the recall by hand, and effort that is raised until it is enough."""

import numpy as np
import polars as pl
import pytest

from methods.numerics import approximate, neighbours
from methods.numerics.approximate import recall_check, top_k


def pool(n=1500, d=16, groups=40, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(groups, d))[rng.integers(groups, size=n)] + spread * rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def share_found(vectors, index, k):
    """Recall over all rows, a row at a time: an entry counts if it is as near as the k-th true one."""
    exact, similarity = neighbours.top_k(vectors, k)
    shares = []
    for i in np.flatnonzero(exact[:, 0] >= 0):
        true = [s for s in similarity[i] if np.isfinite(s)]
        near = {int(j) for j in index[i] if j >= 0}
        cosines = [float(np.float64(vectors[i]) @ np.float64(vectors[j])) for j in near]
        shares.append(min(len(true), sum(c >= min(true) - 1e-6 for c in cosines)) / len(true))
    return np.mean(shares)


def test_most_neighbours_are_found_and_their_cosines_are_those_of_the_exact_search():
    vectors = pool()
    vectors[[3, 700]] = np.nan
    index, similarity, stats = top_k(vectors, 8, sample=400)
    exact, exact_similarity = neighbours.top_k(vectors, 8)
    assert not stats.exact and stats.probes < stats.cells / 2
    assert (stats.rows, stats.without_vector, stats.checked) == (1498, 2, 400)
    assert share_found(vectors, index, 8) == pytest.approx(stats.recall, abs=0.03)
    assert 0.95 <= stats.recall < 1
    cosine = {(i, j): s for i in range(1500) for j, s in zip(exact[i].tolist(), exact_similarity[i], strict=True)}
    for i in range(1500):
        kept = [j for j in index[i].tolist() if (i, j) in cosine]
        shown = dict(zip(index[i].tolist(), similarity[i], strict=True))
        assert all(np.array_equal(shown[j], cosine[i, j], equal_nan=True) for j in kept)
        assert i not in index[i]
    assert np.array_equal(index[[3, 700]], np.full((2, 8), -1)) and np.isnan(similarity[[3, 700]]).all()
    assert not np.isin([3, 700], index).any()
    assert index.dtype == np.int64 and similarity.dtype == np.float32


def test_a_list_is_ordered_by_cosine_and_then_by_lowest_index():
    vectors = pool(600, d=4, groups=20)
    vectors[1::3] = vectors[::3]  # pairs of equal rows
    index, similarity, stats = top_k(vectors, 5, sample=100)
    assert not stats.exact
    falls = similarity[:, :-1] > similarity[:, 1:]
    ties = (similarity[:, :-1] == similarity[:, 1:]) & (index[:, :-1] < index[:, 1:])
    assert (falls | ties).all() and ties.any()


def test_blocks_and_threads_change_nothing():
    import faiss

    vectors = pool()
    whole = top_k(vectors, 6, sample=200)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if before > 1 else 2)
    cut = top_k(vectors, 6, sample=200, block=97)
    faiss.omp_set_num_threads(before)
    assert np.array_equal(whole[0], cut[0]) and np.array_equal(whole[1], cut[1]) and whole[2] == cut[2]


def test_effort_is_raised_until_the_floor_is_met():
    vectors = pool()
    little, much = (top_k(vectors, 8, floor=floor, sample=300)[2] for floor in (0.5, 0.99))
    assert little.recall >= 0.5 and much.recall >= 0.99
    assert little.probes < much.probes
    for stats in (little, much):
        tried, recall = zip(*stats.tried, strict=True)
        assert list(tried) == sorted(tried) and tried[0] == 1
        assert recall[-1] == stats.recall
        assert all(r < stats.floor + approximate.MARGIN for r in recall[:-2])


def test_a_second_sample_that_falls_short_raises_the_effort(monkeypatch):
    vectors, told = pool(), []

    def unlucky(*args):
        told.append(recall_check(*args))
        return (0.1, 9) if len(told) == 1 else told[-1]

    monkeypatch.setattr(approximate, "recall_check", unlucky)
    stats = top_k(vectors, 8, sample=200)[2]
    assert len(told) == 2
    searched = [probes for probes, recall in stats.tried if recall == 0.1]
    assert stats.probes > searched[0] and stats.recall == told[-1][0] >= 0.95


def test_where_no_effort_is_enough_every_pair_is_compared():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(300, 60))  # no groups: neighbours lie anywhere
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index, similarity, stats = top_k(vectors, 5, floor=1.0)
    assert stats.exact and stats.recall == 1 and stats.probes == stats.cells
    assert stats.tried and max(recall for _, recall in stats.tried) < 1
    exact, exact_similarity = neighbours.top_k(vectors, 5)
    assert np.array_equal(index, exact) and np.array_equal(similarity, exact_similarity)
    assert "every pair" in stats.line() and stats.as_dict()["tried"][0] == list(stats.tried[0])


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_rows_are_searched_as_exactly_as_they_can_be(n):
    vectors = pool(n) if n else np.empty((0, 16), dtype=np.float32)
    index, similarity, stats = top_k(vectors, 3)
    exact, exact_similarity = neighbours.top_k(vectors, 3)
    assert np.array_equal(index, exact) and np.array_equal(similarity, exact_similarity, equal_nan=True)
    assert np.isnan(stats.recall) if n < 2 else stats.recall == 1


def test_equal_rows_and_rows_without_a_vector():
    same = np.tile(pool(1), (200, 1))
    index, similarity, stats = top_k(same, 4)
    assert (similarity == 1).all() and stats.recall == 1
    assert (index != np.arange(200)[:, None]).all()
    assert all(len(set(row)) == 4 for row in index.tolist())
    index, similarity, stats = top_k(np.full((5, 4), np.nan, dtype=np.float32), 2)
    assert (index == -1).all() and stats.rows == 0 and np.isnan(stats.recall)


# ---- recall ---------------------------------------------------------------------------------------------------------

ANGLES = np.deg2rad([0, 10, 20, 30, 90])
FAN = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
# Two nearest of each: 0: 1 2; 1: 0 2 (tied); 2: 1 3 (tied); 3: 2 1; 4: 3 2.


def test_recall_by_hand():
    true = np.array([[1, 2], [0, 2], [1, 3], [2, 1], [3, 2]])
    assert recall_check(FAN, true, 2) == (1.0, 5)
    worse = true.copy()
    worse[0, 1] = 4  # one of ten is wrong
    worse[4] = [0, 1]  # two more
    assert recall_check(FAN, worse, 2) == (pytest.approx(0.7), 5)
    assert recall_check(FAN, np.full((5, 2), -1), 2)[0] == 0
    assert recall_check(FAN, true, 1)[0] == 1


def test_of_rows_tied_for_the_last_place_any_will_do():
    for near in (0, 2):
        lists = np.array([[1], [near], [3], [2], [3]])
        assert recall_check(FAN, lists, 1)[0] == 1


def test_a_row_named_twice_is_found_once_and_itself_never():
    twice = np.array([[1, 1], [0, 2], [1, 3], [2, 1], [3, 2]])
    itself = np.array([[0, 1], [0, 2], [1, 3], [2, 1], [3, 2]])
    assert recall_check(FAN, twice, 2)[0] == pytest.approx(0.9)
    assert recall_check(FAN, itself, 2)[0] == pytest.approx(0.9)


def test_a_pool_smaller_than_the_list_can_be_found_whole():
    assert recall_check(FAN, np.array([[*sorted({0, 1, 2, 3, 4} - {i}), -1] for i in range(5)]), 5)[0] == 1
    assert recall_check(FAN, np.array([[(i + 1) % 5, -1, -1, -1, -1] for i in range(5)]), 5)[0] == pytest.approx(0.25)


def test_recall_is_measured_on_a_seeded_sample():
    vectors = pool(400)
    index = neighbours.top_k(vectors, 4)[0]
    index[::2, 2:] = -1  # half of the rows have half of theirs
    first = recall_check(vectors, index, 4, sample=100, seed=1)
    assert first == recall_check(vectors, index, 4, sample=100, seed=1)
    assert first[1] == 100 and first[0] == pytest.approx(0.75, abs=0.08)
    assert recall_check(vectors, index, 4)[0] == pytest.approx(0.75)


# ---- the table ------------------------------------------------------------------------------------------------------


def test_the_table_has_the_form_of_the_exact_one():
    vectors = pool(30)
    vectors[4] = np.nan
    ids = pl.Series([f"r{i}" for i in range(30)])
    table, stats = approximate.neighbours_frame(ids, vectors, 3, floor=1.0)
    exact, _ = neighbours.neighbours_frame(ids, vectors, 3)
    assert table.schema == neighbours.NEIGHBOURS_SCHEMA
    assert stats.recall == 1
    assert table.equals(exact)
    with pytest.raises(ValueError, match="unique"):
        approximate.neighbours_frame(pl.Series(["a", "a"]), vectors[:2], 3)
    with pytest.raises(ValueError, match="do not fit"):
        approximate.neighbours_frame(ids, vectors[:2], 3)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 3, "floor": 1.5}, {"k": 3, "sample": 0}])
def test_what_makes_no_search_is_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        top_k(pool(10), **wrong)
