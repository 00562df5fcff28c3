"""Signatures, candidate pairs and verification against brute force."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.filters import duplicates as D
from methods.filters.shingles import distinct, shingles, word_list, words

VOCABULARY = [f"w{i}" for i in range(12)]
TEXTS = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=14).map(" ".join), min_size=1, max_size=14)


def brute_jaccard(a: str, b: str, n: int) -> float:
    def cut(text: str) -> set[tuple[str, ...]]:
        found = word_list(text)
        return {tuple(found[i : i + n]) for i in range(max(len(found) - n + 1, 1))} if found else set()

    one, two = cut(a), cut(b)
    return len(one & two) / len(one | two) if one | two else 0.0


def planted(rng: np.random.Generator, n: int) -> list[str]:
    """Pairs of texts, the second with a few words of the first replaced."""
    out = []
    for _ in range(n):
        first = rng.integers(0, 5000, 60)
        second = first.copy()
        second[rng.integers(0, 60, rng.integers(0, 4))] = rng.integers(0, 5000)
        out += [" ".join(map(str, first)), " ".join(map(str, second))]
    return out


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.integers(1, 3))
def test_verify_is_the_exact_jaccard_index(texts: list[str], n: int) -> None:
    pairs = np.array([(a, b) for a in range(len(texts)) for b in range(a + 1, len(texts))], np.int64).reshape(-1, 2)
    edges = D.verify(pairs, pl.Series(texts), 0.0, n)
    expected = [brute_jaccard(texts[a], texts[b], n) for a, b in pairs]
    assert edges["similarity"].to_list() == pytest.approx(expected)
    half = D.verify(pairs, pl.Series(texts), 0.5, n)
    assert list(half.select("a", "b").iter_rows()) == [
        (a, b) for (a, b), j in zip(pairs.tolist(), expected, strict=True) if j >= 0.5
    ]


def test_the_share_of_equal_entries_estimates_jaccard_without_bias() -> None:
    texts = pl.Series(planted(np.random.default_rng(3), 150))
    sets = distinct(shingles(words(texts)))
    pairs = np.arange(len(texts)).reshape(-1, 2)
    exact = D.jaccard(sets, pairs)
    for num_perm in (128, 256):
        matrix = D.minhash(sets, num_perm, seed=5)
        error = (matrix[pairs[:, 0]] == matrix[pairs[:, 1]]).mean(axis=1) - exact
        expected = np.sqrt(np.mean(exact * (1 - exact)) / num_perm)
        assert abs(error.mean()) < 4 * expected / np.sqrt(len(pairs))
        assert np.sqrt(np.mean(error**2)) == pytest.approx(expected, rel=0.25)


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.randoms())
def test_a_signature_depends_on_its_row_alone(texts: list[str], random) -> None:
    block = pl.DataFrame({"row_id": [str(i) for i in range(len(texts))], "instruction": texts, "input": "",
                          "response": "end"})  # fmt: skip
    order = list(range(len(texts)))
    random.shuffle(order)
    one, two = D.signatures(block, 16), D.signatures(block[order], 16)
    assert two["signature"].to_list() == one["signature"].gather(order).to_list()
    assert two["row_id"].to_list() == [str(i) for i in order]


def test_signatures_are_null_without_words_and_differ_by_seed() -> None:
    block = pl.DataFrame({"row_id": ["a", "b"], "instruction": ["?", "say hello now"], "input": ["", None],
                          "response": ["!", "hello"]})  # fmt: skip
    frame = D.signatures(block)
    assert frame.schema == {"row_id": pl.String, "signature": pl.Array(pl.UInt32, 128)}
    assert frame["signature"].is_null().to_list() == [True, False]
    assert D.signatures(block, seed=2)["signature"][1].to_list() != frame["signature"][1].to_list()
    assert D.signatures(block.head(0)).height == 0
    with pytest.raises(ValueError, match="num_perm"):
        D.signatures(block, 0)


def test_messages_are_read_where_they_are() -> None:
    talk = [[{"role": "user", "content": "say hello"}, {"role": "assistant", "content": "hello you"}]]
    kind = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    plain = pl.DataFrame({"row_id": ["a"], "instruction": ["say hello"], "input": [""], "response": ["hello you"]})
    both = plain.with_columns(messages=pl.Series(talk, dtype=kind))
    assert D.signatures(both)["signature"].to_list() == D.signatures(plain)["signature"].to_list()


def test_bands_are_as_long_as_recall_allows() -> None:
    for threshold in (0.3, 0.5, 0.8, 0.9, 1.0):
        b, r = D.banding(threshold, 128, 0.02)
        assert b * r <= 128 and (1 - threshold**r) ** b <= 0.02
        longer = 128 // (r + 1)
        assert r == 128 or (1 - threshold ** (r + 1)) ** longer > 0.02
    assert D.banding(0.8) == (18, 7)
    with pytest.raises(ValueError, match="threshold"):
        D.banding(0.0)


def test_all_planted_pairs_are_found_and_nothing_else() -> None:
    texts = planted(np.random.default_rng(0), 200)
    edges = D.near_duplicates(pl.Series(texts), 0.8)
    found = {(a, b): s for a, b, s in edges.iter_rows()}
    true = {(i, i + 1): brute_jaccard(texts[i], texts[i + 1], 3) for i in range(0, 400, 2)}
    true = {pair: s for pair, s in true.items() if s >= 0.8}
    assert 20 < len(true) < 200
    assert set(found) <= set(true) and len(found) >= 0.95 * len(true)
    assert all(found[pair] == pytest.approx(true[pair]) for pair in found)


def test_stored_signatures_give_the_same_edges() -> None:
    texts = pl.Series(planted(np.random.default_rng(1), 30))
    matrix = D.minhash(shingles(words(texts)))
    assert D.near_duplicates(texts, 0.7, matrix).equals(D.near_duplicates(texts, 0.7))


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(20)))
def test_pairs_do_not_depend_on_the_order_of_the_rows(order: list[int]) -> None:
    texts = planted(np.random.default_rng(2), 10)
    edges = D.near_duplicates(pl.Series([texts[i] for i in order]), 0.6)
    back = {(min(order[a], order[b]), max(order[a], order[b])) for a, b in edges.select("a", "b").iter_rows()}
    assert back == set(D.near_duplicates(pl.Series(texts), 0.6).select("a", "b").iter_rows())


def test_a_bucket_of_thousands_is_not_squared() -> None:
    same = np.ones((3000, 128), np.uint32)
    pairs = D.candidate_pairs(same, 0.8, neighbours=8)
    assert len(pairs) <= 3000 * 9
    assert {(0, i) for i in range(1, 3000)} <= set(map(tuple, pairs.tolist()))
    small = D.candidate_pairs(same[:9], 0.8, neighbours=8)
    assert len(small) == 9 * 8 // 2


def test_chinese_is_compared_by_characters() -> None:
    texts = pl.Series(["请你写出一个可以生成五个不同随机数的程序并解释它的原理。",
                       "请你写出一个可以生成五个不同随机数的程序并解释它的原理吧。", "今天天气很好我们去公园散步吧。"])  # fmt: skip
    assert D.near_duplicates(texts, 0.8).select("a", "b").rows() == [(0, 1)]


@pytest.mark.parametrize("texts", [[], ["one row alone"], ["", "", "?"]])
def test_edges_of_small_pools(texts: list[str]) -> None:
    edges = D.near_duplicates(pl.Series(texts, dtype=pl.String))
    assert edges.height == 0 and edges.schema == D.EDGES
