"""Words and shingles against plain Python."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.filters import shingles as S

LINES = st.text(alphabet="abcAB 0_,.-\nñéß你好あ한", max_size=40)


def plain_words(text: str) -> list[str]:
    return re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W\u3040-\u30ff\u4e00-\u9fff]+", text.lower())


@settings(max_examples=80, deadline=None)
@given(st.lists(LINES, max_size=6))
def test_words_are_those_of_a_regular_expression(texts: list[str]) -> None:
    found = S.words(pl.Series(texts, dtype=pl.String))
    lists = [plain_words(text) for text in texts]
    assert found.lengths.tolist() == [len(words) for words in lists]
    flat = [word for words in lists for word in words]
    by_word: dict[str, int] = {}
    for word, value in zip(flat, found.values.tolist(), strict=True):
        assert by_word.setdefault(word, value) == value
    assert len(set(by_word.values())) == len(by_word)
    assert [S.word_list(text) for text in texts] == lists


@settings(max_examples=50, deadline=None)
@given(st.lists(LINES, max_size=6), st.integers(1, 4))
def test_shingles_are_the_windows_of_each_row(texts: list[str], n: int) -> None:
    found = S.words(pl.Series(texts, dtype=pl.String))
    grams = S.shingles(found, n, n + 1)
    seen: dict[tuple[str, ...], int] = {}
    for row, text in enumerate(texts):
        words = plain_words(text)
        size = n if found.spaced[row] else n + 1
        windows = [tuple(words[i : i + size]) for i in range(max(len(words) - size + 1, 1))] if words else []
        values = grams.values[grams.offsets[row] : grams.offsets[row + 1]].tolist()
        assert len(values) == len(windows)
        for window, value in zip(windows, values, strict=True):
            assert seen.setdefault(window, value) == value
    assert len(set(seen.values())) == len(seen)


def test_a_word_hashes_the_same_wherever_it_stands(monkeypatch) -> None:
    monkeypatch.setattr(S, "BLOCK_BYTES", 16)
    texts = pl.Series(["alpha beta", "x" * 50 + " Alpha", "", None, "BETA, alpha"])
    found = S.words(texts)
    rows = [found.values[a:b].tolist() for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]
    alpha, beta = rows[0]
    assert rows[1][1] == alpha and rows[4] == [beta, alpha] and rows[2] == rows[3] == []


def mixed(value: int) -> int:
    for factor in (0xD6E8FEB86659FD93, 0xD6E8FEB86659FD93, 1):
        value = (value ^ (value >> 32)) * factor % (1 << 64)
    return value


def test_a_word_is_a_polynomial_of_its_bytes() -> None:
    texts = ["Alpha", "-beta 7", "", "ñ_1--ALPHA", "x"]
    numbers = [[mixed(mixed(byte + 0x9E3779B97F4A7C15)) for byte in word.encode()]
               for word in ("alpha", "beta", "7", "ñ_1", "alpha", "x")]  # fmt: skip
    powers = [pow(0x9E3779B97F4A7C55, j, 1 << 64) for j in range(9)]
    expected = [mixed(sum(a * b for a, b in zip(word, powers, strict=False)) % (1 << 64)) for word in numbers]
    found = S.words(pl.Series(texts))
    assert found.values.tolist() == expected and found.lengths.tolist() == [1, 2, 0, 2, 1]
    assert S.words(pl.Series(["?", *texts])[2:4]).values.tolist() == expected[1:3]


def test_windows_of_any_size_are_rolled_sums() -> None:
    rng = np.random.default_rng(0)
    sizes, lengths = np.array([3, 0, 1, 5, 3, 8, -1, 4]), np.array([9, 4, 2, 5, 2, 20, 3, 0])
    rows = S.Ragged(rng.integers(0, 1 << 64, lengths.sum(), dtype=np.uint64), S.offsets_of(lengths))
    grams = S.ngrams(rows, sizes)
    assert grams.lengths.tolist() == [7, 0, 2, 1, 0, 13, 0, 0]
    for row, size in enumerate(sizes.tolist()):
        values = rows.values[rows.offsets[row] : rows.offsets[row + 1]]
        expected = S.roll(values, size).tolist() if size > 0 else []
        assert grams.values[grams.offsets[row] : grams.offsets[row + 1]].tolist() == expected


def test_hashes_do_not_change_between_releases() -> None:
    """Stored signatures rest on these numbers: if they change, the version of what is stored must change, too."""
    assert S.words(pl.Series(["sluice"])).values.tolist() == [2129194360261728917]
    assert S.roll(np.array([1, 2, 3], np.uint64), 2).tolist() == [1057205995565657645, 10936956522823468259]


def test_scripts_without_spaces_are_cut_into_characters() -> None:
    found = S.words(pl.Series(["你好世界", "hello world", "ภาษาไทย", "你好 hello big world"]))
    assert found.spaced.tolist() == [False, True, False, True]
    assert found.lengths.tolist() == [4, 2, 7, 5]


def test_full_width_letters_are_the_same_words() -> None:
    one, two = S.words(pl.Series(["Ｈｅｌｌｏ", "hello"])), S.words(pl.Series(["hello", "hello"]))
    assert one.values.tolist() == two.values.tolist()


def test_distinct_is_a_set_a_row() -> None:
    grams = S.Ragged(np.array([3, 1, 3, 2, 2], np.uint64), np.array([0, 3, 3, 5]))
    once = S.distinct(grams)
    assert once.values.tolist() == [1, 3, 2] and once.offsets.tolist() == [0, 2, 2, 3]


def test_nothing_comes_of_nothing() -> None:
    empty = S.words(pl.Series([], dtype=pl.String))
    assert len(empty) == 0 and len(S.shingles(empty)) == 0 and len(S.distinct(empty)) == 0
