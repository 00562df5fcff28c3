"""Vectors on disk: read back in the order of the request, once a row, NaN where there is none."""

import numpy as np
import pytest

from resources.vectors import VectorStore


def unit(n: int, d: int = 4, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tuple[VectorStore, np.ndarray]:
    """2,500 vectors in two blocks: more than one batch of reading, and of any default limit."""
    made = VectorStore(tmp_path_factory.mktemp("home"), "minilm", {"id": "a"})
    vectors = unit(2500)
    made.append([f"r{i}" for i in range(1500)], vectors[:1500])
    made.append([f"r{i}" for i in range(1500, 2500)], vectors[1500:])
    return made, vectors


def test_the_order_is_that_of_the_request(store):
    vectors, order = store[1], np.random.default_rng(1).permutation(2500)
    np.testing.assert_array_equal(store[0].read([f"r{i}" for i in order]), vectors[order])


def test_missing_rows_are_nan_and_asked_twice_is_given_twice(store):
    found = store[0].read(["r7", "nobody", "r7", "r2400"])
    np.testing.assert_array_equal(found[[0, 2, 3]], store[1][[7, 7, 2400]])
    assert np.isnan(found[1]).all()
    assert store[0].read([]).shape == (0, 4)


def test_all_ids_are_known(store):
    assert store[0].row_ids() == {f"r{i}" for i in range(2500)}


def test_compaction_changes_nothing(store):
    store[0].compact()
    np.testing.assert_array_equal(store[0].read(["r0", "r2499"]), store[1][[0, 2499]])


def test_a_row_stays_as_it_was_first_written(tmp_path):
    """Two runs may finish the same block: nothing is stored twice, and the first word stands."""
    one, two = (VectorStore(tmp_path, "minilm", {"id": "a"}) for _ in range(2))
    first, second = unit(2, seed=1), unit(2, seed=2)
    one.append(["a", "b"], first)
    two.append(["b", "c"], second)
    np.testing.assert_array_equal(one.read(["a", "b", "c"]), np.stack([first[0], first[1], second[1]]))
    assert one._table().count_rows() == 3


def test_nothing_was_ever_embedded(tmp_path):
    store = VectorStore(tmp_path / "not there", "minilm", {"id": "a"})
    store.compact()
    assert store.row_ids() == set()
    assert np.isnan(store.read(["a", "b"])).all()


def test_a_block_without_vectors(tmp_path):
    """All texts of a block were empty: the table exists, and every row reads as NaN."""
    store = VectorStore(tmp_path, "minilm", {"id": "a"})
    store.append([], np.empty((0, 4), np.float32))
    assert store.read(["a"]).shape == (1, 4)
    store.append(["a"], unit(1))
    np.testing.assert_array_equal(store.read(["a"]), unit(1))


def test_encoders_do_not_mix(tmp_path):
    a, b = (VectorStore(tmp_path, "minilm", {"id": name}) for name in "ab")
    a.append(["r"], unit(1))
    assert np.isnan(b.read(["r"])).all()


def test_quotes_in_ids_and_encoder_names(tmp_path):
    store = VectorStore(tmp_path, "minilm", {"id": 'it\'s a "path"; drop table'})
    ids = ["it's", 'a "b"', "x' OR '1'='1", "换行"]
    store.append(ids, unit(4))
    store.append(ids, unit(4, seed=9))
    np.testing.assert_array_equal(store.read(ids[::-1]), unit(4)[::-1])
