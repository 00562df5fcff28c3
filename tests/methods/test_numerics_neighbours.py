"""Nearest neighbours: against brute force, and an update against a search from nothing."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.numerics import neighbours
from methods.numerics.neighbours import NEIGHBOURS_SCHEMA, neighbours_frame, top_k, update_top_k


def lattice(n, seed):
    """Unit vectors of four halves: their cosines are multiples of 1/4 and exact in any arithmetic, with many ties."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, 6), dtype=np.float32)
    for row in rows:
        row[rng.choice(6, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return rows


def mixed(n, seed):
    """Random unit vectors, among them exact copies, near copies and rows without a vector."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for i in range(1, n):
        draw = rng.random()
        if draw < 0.3:
            rows[i] = rows[rng.integers(i)]
        elif draw < 0.4:
            rows[i] = rows[i - 1] + 1e-7
    rows = rows.astype(np.float32)
    rows[rng.random(n) < 0.1] = np.nan
    return rows


def by_hand(vectors, k):
    """The neighbours by sorting every pair: the oracle."""
    index, similarity = np.full((len(vectors), k), -1), np.full((len(vectors), k), np.nan, dtype=np.float32)
    there = [i for i in range(len(vectors)) if np.isfinite(vectors[i]).all()]
    for i in there:
        pairs = sorted((-float(np.dot(vectors[i], vectors[j])), j) for j in there if j != i)[:k]
        index[i, : len(pairs)] = [j for _, j in pairs]
        similarity[i, : len(pairs)] = [-s for s, _ in pairs]
    return index, similarity


@pytest.mark.parametrize(("n", "k", "block"), [(1, 3, 4), (2, 3, 1), (9, 3, 4), (40, 5, 7), (40, 60, 64)])
def test_top_k_is_the_brute_force_with_ties_by_lowest_index(n, k, block):
    vectors = lattice(n, n)
    if n > 5:
        vectors[[2, 5]] = np.nan
    index, similarity = top_k(vectors, k, block)
    expected_index, expected_similarity = by_hand(vectors, k)
    assert np.array_equal(index, expected_index)
    assert np.array_equal(similarity, expected_similarity, equal_nan=True)
    assert index.dtype == np.int64 and similarity.dtype == np.float32


def test_top_k_of_real_looking_vectors_agrees_with_plain_cosines():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index, similarity = top_k(vectors, 4, 37)
    plain = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(plain, -np.inf)
    assert np.allclose(similarity, -np.sort(-plain, axis=1)[:, :4], atol=1e-6)
    assert np.allclose(np.take_along_axis(plain, index, axis=1), similarity, atol=1e-6)


def test_the_result_does_not_depend_on_blocks_or_tiles(monkeypatch):
    vectors = mixed(50, 1)
    whole = top_k(vectors, 6)
    monkeypatch.setattr(neighbours, "TILE", 7)
    cut = top_k(vectors, 6, block=11)
    assert np.array_equal(whole[0], cut[0])
    assert np.array_equal(whole[1], cut[1], equal_nan=True)


def test_all_equal_rows_list_the_lowest_other_indices():
    vectors = np.tile(np.float32([0.6, 0.8]), (5, 1))
    index, similarity = top_k(vectors, 2)
    assert index.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    assert (similarity == 1).all()


def test_opposite_rows_and_an_empty_pool():
    index, similarity = top_k(np.float32([[1, 0], [-1, 0]]), 1)
    assert (index.tolist(), similarity.tolist()) == ([[1], [0]], [[-1.0], [-1.0]])
    index, similarity = top_k(np.empty((0, 3), dtype=np.float32), 2)
    assert index.shape == similarity.shape == (0, 2)
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_k(np.float32([[1, 0]]), 0)


def ids_of(places):
    return pl.Series("row_id", [f"r{i}" for i in places], dtype=pl.String)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 25),
    k=st.integers(1, 6),
    k_before=st.integers(1, 6),
    keep_order=st.booleans(),
    data=st.data(),
)
def test_an_update_is_exactly_a_search_from_nothing(seed, n, k, k_before, keep_order, data):
    vectors = mixed(n, seed) if seed % 2 else lattice(n, seed)
    before = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    after = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if not keep_order:
        after = np.array(data.draw(st.permutations(after.tolist())), dtype=np.int64)
    earlier, _ = neighbours_frame(ids_of(before), vectors[before], k_before)
    updated, stats = neighbours_frame(ids_of(after), vectors[after], k, earlier, block=5)
    anew, _ = neighbours_frame(ids_of(after), vectors[after], k)
    assert updated.equals(anew)
    assert stats.rows == stats.fresh + stats.redone + stats.merged == len(after) - stats.without_vector


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.lists(st.sets(st.integers(0, 19), max_size=4), min_size=2, max_size=5))
def test_many_small_updates_do_not_drift(seed, steps):
    vectors = mixed(20, seed)
    pool = set(range(20))
    kept = None
    for flip in steps:
        pool ^= flip
        rows = np.array(sorted(pool), dtype=np.int64)
        kept, _ = neighbours_frame(ids_of(rows), vectors[rows], 3, kept)
        assert kept.equals(neighbours_frame(ids_of(rows), vectors[rows], 3)[0])


def test_an_update_computes_no_more_than_it_must(monkeypatch):
    vectors = mixed(60, 3)
    vectors[np.isnan(vectors).any(axis=1)] = np.float32([1, 0, 0, 0, 0])
    index, similarity = top_k(vectors[:50], 3)
    asked = []
    search = neighbours._search

    def counted(v, rows, columns, k, block):
        asked.append(len(rows) * len(columns))
        return search(v, rows, columns, k, block)

    monkeypatch.setattr(neighbours, "_search", counted)
    _, _, stats = update_top_k(index, similarity, np.arange(50), vectors, 3)
    assert (stats.fresh, stats.redone, stats.merged) == (10, 0, 50)
    assert stats.computed_in_full == 10
    assert asked == [50 * 10, 10 * 60]


def test_only_rows_that_lost_a_neighbour_are_searched_again():
    angles = np.array([0.0, 0.1, 0.25, 1.5, 1.6, 1.75])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    index, similarity = top_k(vectors, 1)
    stay = [0, 2, 3, 4, 5]
    moved_to = np.array([0, -1, 1, 2, 3, 4])
    found, _, stats = update_top_k(index, similarity, moved_to, vectors[stay], 1)
    assert np.array_equal(found, top_k(vectors[stay], 1)[0])
    assert (stats.fresh, stats.redone, stats.merged) == (0, 2, 3)


def test_lists_that_showed_the_whole_pool_are_never_searched_again():
    vectors = lattice(4, 0)
    index, similarity = top_k(vectors, 9)
    found, _, stats = update_top_k(index, similarity, np.array([0, -1, 1, 2]), vectors[[0, 2, 3]], 9)
    assert np.array_equal(found, top_k(vectors[[0, 2, 3]], 9)[0])
    assert stats.computed_in_full == 0


def test_a_lost_neighbour_replaced_by_a_nearer_one_needs_no_search():
    angles = np.array([0.0, 0.2, 1.0, 0.1])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    index, similarity = top_k(vectors[:3], 1)
    found, _, stats = update_top_k(index, similarity, np.array([0, -1, 1]), vectors[[0, 2, 3]], 1)
    assert found.tolist() == [[2], [2], [0]]
    assert stats.redone == 1  # row 2 lost row 1 for the farther row 3; row 0 lost it for a nearer one


def test_a_row_that_changed_its_place_is_put_in_anew():
    vectors = np.tile(np.float32([1, 0]), (4, 1))
    earlier, _ = neighbours_frame(ids_of([0, 1, 2, 3]), vectors, 1)
    updated, stats = neighbours_frame(ids_of([3, 0, 1, 2]), vectors, 1, earlier)
    assert updated["ids"].to_list() == [["r0"], ["r3"], ["r3"], ["r3"]]
    assert stats.fresh == 1


def test_the_table_tells_no_vector_from_no_neighbour():
    table, stats = neighbours_frame(ids_of([0, 1]), np.float32([[1, 0], [np.nan, 0]]), 2)
    assert table.schema == NEIGHBOURS_SCHEMA
    assert table.rows() == [("r0", [], []), ("r1", None, None)]
    assert (stats.rows, stats.without_vector) == (1, 1)
    grown, _ = neighbours_frame(ids_of([0, 1]), np.float32([[1, 0], [0, 1]]), 2, table)
    assert grown.rows() == [("r0", ["r1"], [0.0]), ("r1", ["r0"], [0.0])]


def test_the_table_of_an_empty_pool():
    table, stats = neighbours_frame(ids_of([]), np.empty((0, 4), dtype=np.float32), 3)
    assert table.schema == NEIGHBOURS_SCHEMA and table.height == stats.rows == 0


def test_an_earlier_table_with_a_neighbour_it_has_no_line_for():
    vectors = mixed(12, 7)
    vectors[np.isnan(vectors).any(axis=1)] = np.float32([0, 1, 0, 0, 0])
    earlier, _ = neighbours_frame(ids_of(range(12)), vectors, 3)
    torn = earlier.filter(pl.col("row_id") != "r4")
    assert neighbours_frame(ids_of(range(12)), vectors, 3, torn)[0].equals(earlier)


def test_repeated_ids_and_a_wrong_height_are_refused():
    vectors = np.float32([[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="unique"):
        neighbours_frame(pl.Series(["a", "a"]), vectors, 1)
    with pytest.raises(ValueError, match="do not fit"):
        neighbours_frame(pl.Series(["a"]), vectors, 1)
