"""The one counting pass of DQI's components 1, 2 and 6: texts become numbered words, n-grams and how often each is.

Here belong reading the texts of a set once (`read_corpus`), the eight granularities, and the sums over them. The
formulas stand in ``dqi.py``. Words are those of `methods.tokens`; lemmas, stop-words and parts of speech follow English
rules whatever the language of a row, so that for other languages the vocabulary holds word forms, the parts of speech
mean little, and only words, bigrams, trigrams and sentences count as meant. Memory: some 4 bytes a word of the set,
and some 30 bytes a word while one granularity is counted.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from weakref import ref

import numpy as np
import polars as pl

from methods.numerics.similarity import blocks
from methods.parts_of_speech import coarse_pos
from methods.quality.dqi import Pair, Terms, combine_bands, over, spread_of_sums
from methods.quality.stopwords import STOP_WORDS
from methods.tokens import tokenize_all

PARTS = ("noun", "verb", "adj", "adv")
GRANULARITIES = ("word", *PARTS, "bigram", "trigram", "sentence")

SHARES: dict[str, float] = {
    "word": 0.01,
    "noun": 0.01,
    "verb": 0.01,
    "adj": 0.02,
    "adv": 0.03,
    "bigram": 0.01,
    "trigram": 0.002,
}
"""d/(sum of the counts): above this share of all occurrences a word (n-gram) counts as too frequent."""

ROWS_AT_A_TIME = 4096
GRAM_LENGTH = {"word": 1, "bigram": 2, "trigram": 3}


@dataclass(frozen=True)
class Corpus:
    """The sentences of a set as numbered words. A sentence is a prompt or a response that has a word."""

    words: list[str]
    """The distinct words, in order of appearance."""
    code: np.ndarray
    """(tokens,) int32: which word stands at each place, sentence after sentence."""
    length: np.ndarray
    """(n_s,) int64: words of each sentence."""
    row: np.ndarray
    """(n_s,) int64: the row that each sentence belongs to; ascending."""
    n_rows: int
    """Rows of the set, those without any word included."""

    @property
    def sentence(self) -> np.ndarray:
        """(tokens,) int32: the sentence that each token stands in."""
        return np.repeat(np.arange(len(self.length), dtype=np.int32), self.length)


class _Numbers(dict[str, int]):
    """Word -> its number, given out in order of appearance."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def count_words(texts: pl.DataFrame) -> Corpus:
    """Read ``prompt`` and ``response`` of every row, once."""
    numbers = _Numbers()
    code, length, row = array("i"), array("q"), array("q")
    for part in blocks(texts.height, ROWS_AT_A_TIME):
        pair = pl.concat_list(pl.col("prompt", "response").cast(pl.String).fill_null(""))
        turns = texts[part].select(pair.alias("text")).to_series().explode(empty_as_null=False, keep_nulls=False)
        for i, words in enumerate(tokenize_all(turns)):
            if words:
                code.extend(map(numbers.__getitem__, words))
                length.append(len(words))
                row.append(part.start + i // 2)
    return Corpus(
        list(numbers),
        np.array(code, dtype=np.int32),
        np.array(length, dtype=np.int64),
        np.array(row, dtype=np.int64),
        texts.height,
    )


def lengths_in_words(texts: Sequence[str]) -> np.ndarray:
    """(n,) float64: the words of each text."""
    found = array("d")
    for part in blocks(len(texts), ROWS_AT_A_TIME):
        found.extend(len(words) for words in tokenize_all(pl.Series(texts[part], dtype=pl.String)))
    return np.array(found, dtype=np.float64)


_read: dict[str, tuple[ref[pl.DataFrame], Corpus]] = {}


def read_corpus(texts: pl.DataFrame) -> Corpus:
    """As `count_words`; the last set that was read is remembered, so that three measures of one set read it once."""
    held = _read.get("last")
    if held is not None and held[0]() is texts:
        return held[1]
    corpus = count_words(texts)
    _read["last"] = (ref(texts, lambda _: _read.clear()), corpus)
    return corpus


# --- vocabulary ------------------------------------------------------------------------------------------------------
@cache
def lemma(word: str) -> str:
    """The dictionary form of a lower-cased English word (``mice`` gives ``mouse``); a word it does not know itself."""
    from simplemma import lemmatize

    return str(lemmatize(word, lang="en")).lower()


def row_lemmas(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs of row and lemma, stop-words left out, as two arrays (row, number of the lemma)."""
    numbers = _Numbers()
    of_word = np.array([-1 if w in STOP_WORDS else numbers[lemma(w)] for w in corpus.words], dtype=np.int64)
    if not len(of_word):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    found, row = of_word[corpus.code], np.repeat(corpus.row, corpus.length)
    kept = found >= 0
    pairs = np.unique(row[kept] * max(1, len(numbers)) + found[kept])
    return np.divmod(pairs, max(1, len(numbers)))


# --- granularities ---------------------------------------------------------------------------------------------------
def occurrences(corpus: Corpus, granularity: str) -> tuple[np.ndarray, np.ndarray]:
    """Every occurrence of a granularity's units: the key of its type (int64) and the sentence where it stands."""
    if granularity in GRAM_LENGTH:
        return _grams(corpus, GRAM_LENGTH[granularity])
    if granularity in PARTS:
        wanted = np.array([coarse_pos(word) == granularity for word in corpus.words], dtype=bool)
        here = wanted[corpus.code] if len(wanted) else np.empty(0, dtype=bool)
        return corpus.code[here].astype(np.int64), corpus.sentence[here]
    if granularity == "sentence":
        return _sentences(corpus)
    raise ValueError(f"granularity must be one of {', '.join(GRANULARITIES)}, not {granularity!r}")


def _grams(corpus: Corpus, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the n-grams inside sentences: the words' numbers as digits to the base of the vocabulary."""
    base = max(1, len(corpus.words))
    key, bound, sentence = corpus.code.astype(np.int64), base, corpus.sentence
    for step in range(1, n):
        if bound * base >= 2**62:  # too many digits for 63 bits: number the types seen so far afresh
            seen, key = np.unique(key, return_inverse=True)
            bound = len(seen)
        key = key[:-1] * base + corpus.code[step:]
        bound *= base
    within = sentence[: len(key)] == sentence[n - 1 :]
    return key[within], sentence[: len(key)][within]


def _sentences(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Sentences with the same words in the same order are of one type."""
    numbers: dict[bytes, int] = {}
    ends = np.cumsum(corpus.length)
    keys = [
        numbers.setdefault(corpus.code[end - size : end].tobytes(), len(numbers))
        for end, size in zip(ends.tolist(), corpus.length.tolist(), strict=True)
    ]
    return np.array(keys, dtype=np.int64), np.arange(len(keys), dtype=np.int32)


def checked_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """The defaults, overridden by the shares given; refuses what is no granularity."""
    unknown = sorted(set(shares) - set(SHARES))
    if unknown:
        raise ValueError(f"shares has {', '.join(unknown)}; it may have {', '.join(SHARES)}")
    return {**SHARES, **shares}


# --- the sums of components 2 and 6 ----------------------------------------------------------------------------------
def band_sums(key: np.ndarray, label: np.ndarray, share: float | None, c: float, ddof: int = 1) -> dict[int, Pair]:
    """T1 and T2 of one granularity within each label, from the occurrences' keys and labels.

    All sums are of whole numbers, so that the result does not depend on the order of the rows.
    """
    count, whole = pl.col("count"), pl.col("count").sum().over("label")
    positive = count < 2 if share is None else (share * whole - count) * (count - c) >= -1e-9
    counted = (
        pl.DataFrame({"label": label, "key": key})
        .group_by("label", "key")
        .agg(count=pl.len().cast(pl.Int64))
        .with_columns(signed=pl.when(positive).then(count).otherwise(-count))
        .group_by("label")
        .agg(types=pl.len(), total=count.sum(), squares=(count * count).sum(), signed=pl.col("signed").sum())
        .sort("label")
    )
    found: dict[int, Pair] = {}
    for name, types, total, squares, signed in counted.iter_rows():
        sigma = spread_of_sums(types, total, squares, ddof)
        found[name] = over(float(types), sigma), over(float(signed), float(total))
    return found


def band_terms_by_label(
    corpus: Corpus, label: np.ndarray, shares: Mapping[str, float], c: float, ddof_pos: int
) -> dict[int, Terms]:
    """The named terms of component 2 within each label; ``label`` has one number a sentence, -1 for none."""
    shares = checked_shares(shares)
    by_label: dict[int, dict[str, Pair]] = {}
    for granularity in GRANULARITIES:
        key, sentence = occurrences(corpus, granularity)
        of = label[sentence]
        kept = of >= 0
        ddof = ddof_pos if granularity in PARTS else 1
        for name, pair in band_sums(key[kept], of[kept], shares.get(granularity), c, ddof).items():
            by_label.setdefault(name, {})[granularity] = pair
    return {name: _named(by_label[name]) for name in sorted(by_label)}


def _named(pairs: Mapping[str, Pair]) -> Terms:
    terms: Terms = {}
    for granularity in GRANULARITIES:
        terms[f"{granularity}_t1"], terms[f"{granularity}_t2"] = pairs.get(granularity, (None, None))
    return terms | {"combined": combine_bands(pairs)}


def label_spreads(key: np.ndarray, label: np.ndarray, n_labels: int) -> pl.DataFrame:
    """``key``, ``count``, ``sigma``: for every n-gram that occurs more than once, sigma of its counts over the labels.

    sigma^2 = (K sum c^2 - (sum c)^2)/(K (K - 1)) over K labels, those without the n-gram counted as 0.
    """
    squares, whole = pl.col("squares"), pl.col("count")
    variance = (n_labels * squares - whole * whole) / (n_labels * (n_labels - 1))
    return (
        pl.DataFrame({"label": label, "key": key})
        .group_by("key", "label")
        .agg(c=pl.len().cast(pl.Int64))
        .group_by("key")
        .agg(count=pl.col("c").sum(), squares=(pl.col("c") * pl.col("c")).sum())
        .filter(whole > 1)
        .select("key", "count", sigma=variance.sqrt())
        .sort("key")
    )
