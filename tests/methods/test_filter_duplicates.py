"""Signatures, candidate pairs and verification against brute force."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.filters import duplicates as D
from methods.filters.shingles import Ragged, distinct, offsets_of, shingles, word_list, words
from tests.pairs import candidate_pairs, compared

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
def test_the_similarity_is_the_exact_jaccard_index(texts: list[str], n: int) -> None:
    pairs = np.array([(a, b) for a in range(len(texts)) for b in range(a + 1, len(texts))], np.int64).reshape(-1, 2)
    edges = compared(pairs, pl.Series(texts), 0.0, n)
    expected = [brute_jaccard(texts[a], texts[b], n) for a, b in pairs]
    assert edges["similarity"].to_list() == pytest.approx(expected)
    half = compared(pairs, pl.Series(texts), 0.5, n)
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


def test_stored_signatures_do_not_change_between_releases() -> None:
    """Signatures are kept as evidence: if these numbers change, the version of what is stored must change, too."""
    texts = ["Say hello to the World, please; it is 7 o'clock.", "请你写出一个程序，谢谢。", "one",
             "Ｈｅｌｌｏ Ñandú — straße über_x 42 été"]  # fmt: skip
    block = pl.DataFrame({"row_id": list("abcd"), "instruction": texts, "input": "", "response": "ok then"})
    found = D.signatures(block)["signature"].to_numpy()
    assert found[:, [0, 1, 2, 3, 127]].tolist() == [
        [262679103, 1050383442, 355520583, 33085041, 54217762],
        [752293104, 65967461, 308406459, 44552936, 289668032],
        [2848538855, 3124492194, 1621320426, 4188098714, 2265232018],
        [237116811, 2090180, 521823477, 104188771, 685025062],
    ]
    assert D.signatures(block, 3, seed=7)["signature"].to_list() == [
        [386651626, 147847447, 36397901],
        [247411207, 14963868, 286686386],
        [2968758076, 2151919166, 1077484123],
        [126736554, 1031308579, 794641489],
    ]


def test_minima_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(6)
    lengths = np.array([0, 1, 40, 0, 7, 0])
    grams = Ragged(rng.integers(0, 1 << 64, lengths.sum(), dtype=np.uint64), offsets_of(lengths))
    draw = np.random.default_rng(3)
    factors, shifts = draw.integers(0, 1 << 32, 5, dtype=np.uint32), draw.integers(0, 1 << 32, 5, dtype=np.uint32)
    expected = np.full((6, 5), (1 << 32) - 1)
    for row in range(6):
        for value in grams.values[grams.offsets[row] : grams.offsets[row + 1]].tolist():
            for k in range(5):
                hashed = ((value >> 32) * (int(factors[k]) | 1) + int(shifts[k])) % (1 << 32)
                hashed = (hashed ^ (hashed >> 15)) * 0x2C1B3C6D % (1 << 32)
                expected[row, k] = min(expected[row, k], hashed)
    assert D.minhash(grams, 5, seed=3).tolist() == expected.tolist()


def test_jaccard_of_sets_of_python() -> None:
    rng = np.random.default_rng(8)
    rows = [rng.integers(0, most, size).tolist() for most in (5, 60, 1 << 63) for size in (0, 1, 9, 50, 3000, 6000)]
    rows += [rows[-1][::-1], rows[-2] + rows[-1], [0], [(1 << 64) - 1]]
    sets = Ragged(
        np.concatenate([np.array(row, np.uint64) for row in rows]), offsets_of(np.array([len(row) for row in rows]))
    )
    pairs = rng.integers(0, len(rows), (300, 2))
    expected = []
    for a, b in pairs.tolist():
        one, two = set(rows[a]), set(rows[b])
        expected.append(len(one & two) / len(one | two) if one | two else 0.0)
    assert len(set(expected)) > 10
    assert D.jaccard(sets, pairs).tolist() == expected
    assert D.jaccard(sets, pairs[:0]).tolist() == []


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
    pairs = candidate_pairs(same, 0.8, neighbours=8)
    assert len(pairs) <= 3000 * 9
    assert {(0, i) for i in range(1, 3000)} <= set(map(tuple, pairs.tolist()))
    small = candidate_pairs(same[:9], 0.8, neighbours=8)
    assert small.tolist() == [[a, b] for a in range(9) for b in range(a + 1, 9)]


def test_meetings_grow_in_line_with_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    same, (bands, _) = np.ones((500, 128), np.uint32), D.banding(0.8)
    monkeypatch.setattr(D, "MEETINGS", 20 * bands)
    # Row i can meet i rows in each bucket: reach r costs r (r - 1) / 2 + (500 - r) r, which is most 20 * 500 at r = 20.
    assert D._reach(np.tile(np.arange(500, dtype=np.int32), bands), 500) == 20
    pairs = set(map(tuple, candidate_pairs(same, 0.8).tolist()))
    assert pairs == {(a, b) for b in range(500) for a in range(b) if a == 0 or b - a <= 20}
    monkeypatch.setattr(D, "MEETINGS", 250 * bands)
    assert len(candidate_pairs(same, 0.8)) == 500 * 499 // 2


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_candidates_are_all_that_share_a_band_and_may_reach_the_threshold(
    threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    matrix = rng.integers(0, 1 << 32, (90, 128), dtype=np.uint32)
    kin = rng.integers(0, 9, 90)
    matrix = np.where(rng.random((90, 128)) < rng.random((90, 1)), matrix[kin], matrix)
    bands, width = D.banding(threshold)
    least = 128 * threshold - 4 * np.sqrt(128 * threshold * (1 - threshold))
    expected = []
    for a in range(90):
        for b in range(a + 1, 90):
            same = matrix[a] == matrix[b]
            shares = same[: bands * width].reshape(bands, width).all(axis=1).any()
            if shares and np.count_nonzero((matrix[a] & 0xFF) == (matrix[b] & 0xFF)) >= least:
                expected.append([a, b])
    assert len(expected) > 25
    assert candidate_pairs(matrix, threshold).tolist() == expected
    monkeypatch.setattr(D, "_PAIR_BLOCK", 1)
    assert candidate_pairs(matrix, threshold).tolist() == expected


def test_chinese_is_compared_by_characters() -> None:
    texts = pl.Series(["请你写出一个可以生成五个不同随机数的程序并解释它的原理。",
                       "请你写出一个可以生成五个不同随机数的程序并解释它的原理吧。", "今天天气很好我们去公园散步吧。"])  # fmt: skip
    assert D.near_duplicates(texts, 0.8).select("a", "b").rows() == [(0, 1)]


@pytest.mark.parametrize("texts", [[], ["one row alone"], ["", "", "?"]])
def test_edges_of_small_pools(texts: list[str]) -> None:
    edges = D.near_duplicates(pl.Series(texts, dtype=pl.String))
    assert edges.height == 0 and edges.schema == D.EDGES
