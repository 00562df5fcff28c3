"""Semantic duplicates: who goes for whom, how many are left by threshold, the alarm, and pairs carried between pools."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.filters import semantic
from methods.numerics.similarity import QUANTUM, cosines
from methods.selection import twins

A, B, C, D = "abcd"


def ids(n: int) -> pl.Series:
    return pl.Series([f"{i:032x}" for i in range(n)], dtype=pl.String)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some(n: int, seed: int, spread: float = 0.3) -> np.ndarray:
    """Rows in groups, some of them equal, some without a vector."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((max(1, n // 12), 6))[rng.integers(max(1, n // 12), size=n)]
                   + spread * rng.standard_normal((n, 6)))  # fmt: skip
    vectors[rng.integers(n, size=n // 6)] = vectors[rng.integers(n, size=n // 6)]
    vectors[rng.integers(n, size=max(1, n // 40))] = np.nan
    return vectors


def table(*pairs: tuple[str, str, float], kind: str = semantic.SEMANTIC) -> pl.DataFrame:
    rows = [(a, b, s, semantic.SAME_VECTOR if s == 1 else kind, False) for a, b, s in pairs]
    return pl.DataFrame(rows, schema=semantic.PAIRS_SCHEMA, orient="row")


def walk(names: list[str], vectors: np.ndarray, threshold: float) -> dict[str, str]:
    """Who goes for whom, by brute force over vectors in order of preference; equal vectors are one row."""
    near, kept, gone = cosines(np.nan_to_num(vectors), np.nan_to_num(vectors)), [], {}
    for i in range(len(names)):
        equal = [j for j in kept if (vectors[i] == vectors[j]).all()]
        close = [j for j in kept if near[i, j] >= threshold] if np.isfinite(vectors[i]).all() else []
        if equal or close:
            gone[names[i]] = names[equal[0] if equal else max(close, key=lambda j: (near[i, j], -kept.index(j)))]
        else:
            kept.append(i)
    return gone


CHAIN = table((A, B, 0.9), (B, C, 0.88), (C, D, 0.95))


# ---- decisions ------------------------------------------------------------------------------------------------------


def test_no_chain() -> None:
    found = semantic.drop_at(pl.Series([A, B, C, D]), CHAIN, 0.85)
    assert found.dropped.rows() == [(B, A, 0.9), (D, C, 0.95)] and found.left == 2
    assert "2 of 4 rows go at a cosine of 0.85; 2 are left" in found.reason


def test_the_preferred_row_stays() -> None:
    found = semantic.drop_at(pl.Series([B, D, C, A]), CHAIN, 0.85)
    assert found.dropped.rows() == [(C, D, 0.95), (A, B, 0.9)]


def test_a_higher_threshold_and_a_part_of_the_pool_ask_for_no_new_pairs() -> None:
    assert semantic.drop_at(pl.Series([A, B, C, D]), CHAIN, 0.93).dropped.rows() == [(D, C, 0.95)]
    assert semantic.drop_at(pl.Series([B, C]), CHAIN, 0.85).dropped.rows() == [(C, B, 0.88)]
    assert semantic.drop_at(pl.Series([A, C]), CHAIN, 0.85).left == 2


def test_the_first_of_equal_rows_stands_for_them_and_is_replaced() -> None:
    pairs = table((A, B, 1.0), (A, C, 0.9))
    assert semantic.drop_at(pl.Series([A, B, C]), pairs, 0.85).dropped.rows() == [(B, A, 1.0), (C, A, 0.9)]
    # The first is not at hand: the other row of its vector keeps the third row out.
    assert semantic.drop_at(pl.Series([B, C]), pairs, 0.85).dropped.rows() == [(C, B, 0.9)]
    assert semantic.drop_at(pl.Series([C, B, A]), pairs, 0.95).dropped["row_id"].to_list() == [A]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.8, 1.0))
def test_decisions_are_those_of_a_walk_over_the_vectors(seed: int, threshold: float) -> None:
    rng, vectors, names = np.random.default_rng(seed), some(80, seed), ids(80)
    pairs = semantic.find_pairs(names, vectors, 0.8, most=80).pairs
    order = rng.permutation(80)[: rng.integers(1, 81)]
    found = semantic.drop_at(names.gather(order), pairs, threshold)
    want = walk(names.gather(order).to_list(), vectors[order], threshold)
    assert dict(found.dropped.select("row_id", "twin").iter_rows()) == want
    assert found.left == len(order) - len(want) and not len(found.unsure)
    assert not set(found.dropped["twin"]) & set(found.dropped["row_id"])


def test_nothing_to_decide() -> None:
    nothing = semantic.find_pairs(ids(0), np.empty((0, 4), np.float32)).pairs
    assert nothing.schema == pl.Schema(semantic.PAIRS_SCHEMA)
    found = semantic.drop_at(ids(3), nothing, 0.9)
    assert found.left == 3 and found.dropped.is_empty()
    assert semantic.drop_at(ids(0), nothing, 0.9).left == 0
    assert semantic.curve(ids(0), nothing, [0.9]).rows() == [(0.9, 0, 0, 0.0)]


def test_recipes_read_the_pairs_as_twins() -> None:
    pairs = semantic.as_twins(table((A, B, 1.0), (A, C, 0.9)))
    assert pairs.schema == pl.Schema(twins.PAIRS_SCHEMA)
    assert pairs["kind"].to_list() == [twins.SAME_TEXT, twins.NEAR]
    assert twins.resolve(pl.Series([C, B]), pairs, 0.9).rows() == [(B, C, 0.9)]


# ---- to a number of rows, and by threshold ------------------------------------------------------------------------------


def test_to_a_number_of_rows() -> None:
    order = pl.Series([A, B, C, D])
    three = semantic.dedup_to(order, CHAIN, 3)
    assert three.threshold == 0.95 and three.left == 3 and three.dropped["row_id"].to_list() == [D]
    assert "the next lower cosine, 0.9, leaves fewer" in three.reason
    two = semantic.dedup_to(order, CHAIN, 2)
    assert two.threshold == 0.88 and two.left == 2 and "every stored pair is resolved" in two.reason
    assert semantic.dedup_to(order, CHAIN, 0).left == 2
    for n in (4, 9):
        none = semantic.dedup_to(order, CHAIN, n)
        assert none.threshold is None and none.left == 4 and none.dropped.is_empty()
    with pytest.raises(ValueError, match="negative"):
        semantic.dedup_to(order, CHAIN, -1)


def test_rows_of_one_vector_all_stay_where_they_are_needed() -> None:
    pairs = table((A, B, 1.0), (A, C, 1.0))
    found = semantic.dedup_to(pl.Series([A, B, C]), pairs, 2)
    assert found.threshold is None and found.left == 3 and "even rows of the highest cosine" in found.reason


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 70))
def test_the_threshold_found_leaves_enough_and_the_next_lower_one_too_few(seed: int, n: int) -> None:
    names = ids(60)
    pairs = semantic.find_pairs(names, some(60, seed), 0.8, most=60).pairs
    found = semantic.dedup_to(names, pairs, n)
    assert found.left >= min(n, 60)
    levels = pairs["similarity"].unique().sort().to_list()
    if found.threshold is None:
        assert n >= 60 or not levels or semantic.drop_at(names, pairs, levels[-1]).left < n
    else:
        at = levels.index(found.threshold)
        assert found.left == semantic.drop_at(names, pairs, found.threshold).left
        assert at == 0 or semantic.drop_at(names, pairs, levels[at - 1]).left < n


def test_rows_left_by_threshold() -> None:
    found = semantic.curve(pl.Series([A, B, C, D]), CHAIN, [0.85, 0.89, 0.92, 1.0])
    assert found["left"].to_list() == [2, 2, 3, 4]
    assert found["dropped"].to_list() == [2, 2, 1, 0] and found["share_left"].to_list() == [0.5, 0.5, 0.75, 1.0]


def test_thresholds_of_the_curve() -> None:
    assert semantic.steps(0.95) == [0.95, 0.96, 0.97, 0.98, 0.99, 1.0]
    assert semantic.steps(0.985) == [0.985, 0.99, 1.0]
    assert semantic.steps(1.0) == [1.0]


# ---- the alarm ------------------------------------------------------------------------------------------------------


def test_one_row_that_eats_a_source() -> None:
    rows = pl.DataFrame({"row_id": ids(200), "source": ["x"] * 100 + ["y"] * 100})
    pairs = table(*((rows["row_id"][0], rows["row_id"][i], 0.9) for i in (*range(1, 12), *range(100, 110))))
    dropped = semantic.drop_at(rows["row_id"], pairs, 0.85).dropped
    assert semantic.alarms(rows, dropped).rows() == [("x", rows["row_id"][0], 11, 0.11)]
    assert semantic.alarms(rows, dropped, most_share=0.09).height == 2
    assert semantic.alarms(rows, dropped, least_rows=12).is_empty()
    assert semantic.alarms(rows, dropped.clear()).is_empty()


# ---- from pool to pool ----------------------------------------------------------------------------------------------


def test_the_table_says_which_rows_share_a_vector_and_whose_list_is_cut() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    names = ids(7)
    found = semantic.find_pairs(names, np.vstack([vectors, np.full((1, 3), np.nan, np.float32)]))
    assert found.pairs.select("a", "b").rows() == [(names[i], names[i + 1]) for i in (0, 2, 4)]
    assert found.pairs["kind"].unique().to_list() == [semantic.SAME_VECTOR]
    assert found.compared.to_list() == names[:6].to_list() and found.searched == 3
    crowd = unit(np.ones(5) + 0.01 * np.random.default_rng(0).standard_normal((30, 5)))
    cut = semantic.find_pairs(ids(30), crowd, most=4).pairs
    assert set(cut.filter("cut")["b"]) == set(ids(30)[5:]) and set(cut["b"]) == set(ids(30)[1:])
    decided = semantic.drop_at(ids(30), cut, 0.85)
    assert decided.left == 1 and not len(decided.unsure)
    # The rows that keep this one out are not at hand, and not all who could are listed.
    late = semantic.drop_at(ids(30)[20:], cut, 0.85)
    assert len(late.unsure) and "may have one that stays" in late.reason


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 200]), st.floats(0.02, 0.5))
def test_carried_from_pool_to_pool_the_pairs_are_those_found_anew(seed: int, most: int, spread: float) -> None:
    rng, vectors, names = np.random.default_rng(seed), some(120, seed, spread), ids(120)
    found = None
    for _ in range(4):
        at = rng.permutation(120)[: rng.integers(0, 121)]
        anew = semantic.find_pairs(names.gather(at), vectors[at], 0.85, most=most)
        found = semantic.find_pairs(names.gather(at), vectors[at], 0.85, found, most)
        assert found.pairs.equals(anew.pairs) and found.compared.equals(anew.compared)
        assert found.searched <= anew.searched


def test_only_new_rows_are_searched() -> None:
    vectors, names = unit(np.random.default_rng(0).standard_normal((50, 8))), ids(50)
    before = semantic.find_pairs(names[:40], vectors[:40], 0.5)
    assert before.searched == 40
    assert semantic.find_pairs(names, vectors, 0.5, before).searched == 10
    assert semantic.find_pairs(names[5:40], vectors[5:40], 0.5, before).searched == 0


def test_another_row_stands_in_for_the_first_of_a_vector_that_went() -> None:
    near = np.array([[1, 0], [1, 0], [0.96, 0.28], [1, 0]], np.float32)
    before = semantic.find_pairs(pl.Series([A, B, C, D]), near)
    after = semantic.find_pairs(pl.Series([C, D, B]), near[[2, 3, 1]], before=before)
    assert after.searched == 0
    assert after.pairs.select("a", "b", "kind").rows() == [(C, D, "semantic"), (D, B, "same_vector")]
    assert after.pairs["similarity"].to_list() == pytest.approx([0.96, 1.0], abs=QUANTUM)


def test_ids_must_be_unique_and_fit() -> None:
    with pytest.raises(ValueError, match="unique"):
        semantic.find_pairs(pl.Series([A, A]), np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        semantic.find_pairs(pl.Series([A]), np.eye(2, dtype=np.float32))
