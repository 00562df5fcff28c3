"""Texts as buckets of n-grams: the tokeniser, SHA-256 in compiled code, what is kept, and the two sums."""

import hashlib
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance import ngram_buckets
from methods.importance.ngram_buckets import BUCKETS, BucketedTexts, tokens

WORDS = st.text(st.characters(codec="utf-8"), max_size=30)


def by_hand(text: str, n_buckets: int = BUCKETS) -> list[int]:
    """Buckets in the order of the compiled code: each token, then the pair that it ends."""
    found = tokens(pl.Series([text]))[0].to_list()
    grams = []
    for i, token in enumerate(found):
        grams += [token] if not i else [token, f"{found[i - 1]} {token}"]
    return [int(hashlib.sha256(gram.encode()).hexdigest(), 16) % n_buckets for gram in grams]


def ours(texts: list[str], **options: object) -> list[list[int]]:
    found = []
    for _, values, offsets in BucketedTexts(texts, **options):  # type: ignore[arg-type]
        found += [values[a:b].tolist() for a, b in pairwise(offsets)]
    return found


def test_buckets_of_the_papers_code() -> None:
    cat = int(hashlib.sha256(b"cat").hexdigest(), 16) % BUCKETS
    assert ours(["Alice went", "the cat"])[0][:1] == [6720] and 114 in ours(["Alice went"])[0]
    assert ours(["the cat"]) == [[8288, cat, 143]]


def test_tokens_are_runs_of_word_characters_and_runs_of_marks() -> None:
    texts = ["Don't stop... 3.5%", "a_b  C\tD\n", "", "x² ❤️", "नमस्ते दुनिया", "今天 天气。", "ΟΔΟΣ İ"]
    expected = [
        ["don", "'", "t", "stop", "...", "3", ".", "5", "%"], ["a_b", "c", "d"], [], ["x", "²", "❤", "\ufe0f"],
        ["नमस्ते", "दुनिया"], ["今天", "天气", "。"], ["οδος", "i̇"],
    ]  # fmt: skip
    assert tokens(pl.Series(texts)).to_list() == expected
    assert ours(texts) == [by_hand(text) for text in texts]


@given(st.lists(WORDS, max_size=6))
@settings(max_examples=150, deadline=None)
def test_every_text_has_the_buckets_of_its_ngrams(texts: list[str]) -> None:
    assert ours(texts) == [by_hand(text) for text in texts]


@pytest.mark.parametrize("size", [54, 55, 56, 63, 64, 118, 119, 120, 255, 256, 300, 5000])
def test_sha256_of_messages_around_the_block_size(size: int) -> None:
    texts = ["x" * size, "y" * (size - 2) + " z", "é" * (size // 2)]
    assert ours(texts) == [by_hand(text) for text in texts]


@pytest.mark.parametrize("n_buckets", [1, 7, 65_536])
def test_any_number_of_buckets(n_buckets: int) -> None:
    text = "one two three four"
    assert ours([text], n_buckets=n_buckets) == [by_hand(text, n_buckets)]


def test_a_full_table_of_known_ngrams_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{a} of {b}" for a in range(40) for b in range(40)]
    monkeypatch.setattr(ngram_buckets, "SLOT_BITS", 3)  # 8 places for some 3,000 n-grams
    assert ours(texts) == [by_hand(text) for text in texts]


@pytest.mark.parametrize("hash", ["sha256", "fast"])
@pytest.mark.parametrize("keep", [0, 100, 1 << 20])
def test_what_is_kept_changes_nothing(hash: str, keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_buckets, "BLOCK_ROWS", 2)
    texts = ["a b c", "", "b c", "c a a", "d"]
    made = BucketedTexts(texts, hash=hash, keep=keep)  # type: ignore[arg-type]
    weight = np.random.default_rng(0).normal(size=BUCKETS)
    whole = BucketedTexts(texts, hash=hash)  # type: ignore[arg-type]
    for _ in range(2):
        assert made.counts().tolist() == whole.counts().tolist()
        assert made.sums(weight).tolist() == whole.sums(weight).tolist()
    assert made.lengths().tolist() == [5, 0, 3, 5, 1]


@given(st.lists(st.text("ab ,é", max_size=12), min_size=1, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_sums_are_counts_times_weights(texts: list[str], data: st.DataObject) -> None:
    made = BucketedTexts(texts)
    weight = np.random.default_rng(1).normal(size=BUCKETS)
    each = [np.bincount(by_hand(text), minlength=BUCKETS) for text in texts]
    assert np.allclose(made.sums(weight), [counts @ weight for counts in each], atol=1e-9)
    assert made.counts().tolist() == np.sum(each, axis=0).tolist()
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), unique=True))
    chosen = np.sum([each[row] for row in rows] or [np.zeros(BUCKETS, int)], axis=0)
    assert made.counts(np.array(rows, dtype=np.int64)).tolist() == chosen.tolist()


def test_the_fast_hash_spreads_and_keeps_equal_ngrams_together() -> None:
    words = [f"word{i}" for i in range(50_000)]
    counts = BucketedTexts(words, hash="fast").counts()
    assert counts.sum() == 50_000
    # chi-square over 10,000 buckets: mean 9,999, sd 141
    assert abs(((counts - 5) ** 2 / 5).sum() - 9_999) < 6 * 141
    again = ours(["the cat, the cat", "cat the"], hash="fast")
    first, second = again
    assert first[0] == first[5]  # the
    assert first[2] == first[8]  # the cat
    assert second[2] not in first  # cat the is another pair
    assert ours(["The CAT"], hash="fast") == ours(["the cat"], hash="fast")


def test_nothing_and_nulls() -> None:
    assert ours([]) == []
    assert BucketedTexts([]).counts().sum() == 0
    assert BucketedTexts(pl.Series([None, "a"], dtype=pl.String)).lengths().tolist() == [0, 1]


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="hash must be"):
        BucketedTexts(["a"], hash="md5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buckets"):
        BucketedTexts(["a"], n_buckets=0)
