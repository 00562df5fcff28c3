"""Texts cut into hashed words and word n-grams, as flat arrays with one offset a row.

Here belongs how a text is normalised, split and hashed for duplicate and contamination checks. Counting words for
readability or length is `methods.text`'s business, comparing rows is that of `duplicates` and `contamination`.

Hashes are computed from the bytes by loops of our own (`minhash_loops`), not by a library's hash function, because
signatures made of them are stored: they have to mean the same under the next release of every library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl

SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts written without spaces between words: each of their characters is a word of its own."""

BLOCK_BYTES = 1 << 18
_LENGTH = 0x2545F4914F6CDD1D
_BASE = 0x9E3779B97F4A7C55


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length end to end: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: np.ndarray
    """(total,) uint64 hashes."""
    offsets: np.ndarray
    """(n + 1,) int64."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64: entries a row."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """(total,) int64: the row that each entry belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: np.ndarray) -> Ragged:
        """The named rows, in the order named."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(self.values[index], offsets)


@dataclass(frozen=True)
class Words(Ragged):
    """The hashed words of each row in their order."""

    spaced: np.ndarray
    """(n,) bool: False where most words are characters of a script without spaces."""


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where each row starts, and at last where all end: (n + 1,) int64."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def prompt_of() -> pl.Expr:
    """The prompt of a row: the instruction, then its input on a line of its own if there is one."""
    instruction, extra = pl.col("instruction").fill_null(""), pl.col("input").fill_null("")
    return pl.when(extra == "").then(instruction).otherwise(instruction + "\n" + extra)


def text_of(block: pl.DataFrame) -> pl.Series:
    """All that a row says: every message where ``messages`` is there, else prompt and response."""
    if "messages" in block.columns:
        contents = pl.col("messages").list.eval(pl.element().struct.field("content").fill_null(""))
        return block.select(text=contents.list.join("\n").fill_null("")).to_series()
    return block.select(text=prompt_of() + "\n" + pl.col("response").fill_null("")).to_series()


def words(texts: pl.Series) -> Words:
    """Split each text into words and hash them.

    Unicode NFKC, lower case; a word is a run of letters, digits, marks or underscores, and each character of a script
    without spaces is a word. Everything else separates. Null is an empty text.
    """
    plain, single = _separated(texts)
    hashes, counts = [], []
    for part in _parts(plain):
        found, per_row = _hash_part(part)
        hashes.append(found)
        counts.append(per_row)
    lengths = np.concatenate(counts) if counts else np.zeros(0, np.int64)
    values = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
    return Words(values, offsets_of(lengths), spaced=2 * single <= lengths)


def word_list(text: str) -> list[str]:
    """The words of one text as strings, by the rule of `words`."""
    plain = _separated(pl.Series([text], dtype=pl.String))[0].str.to_lowercase()
    found: list[str] = plain.str.extract_all(r"\w+")[0].to_list()
    return found


def shingles(found: Words, n_words: int = 3, n_chars: int = 5) -> Ragged:
    """The n-grams of each row in their order: ``n_words`` long, or ``n_chars`` in scripts without spaces.

    A row with fewer words than that has one shingle of all of them; a row without words has none.
    """
    if n_words < 1 or n_chars < 1:
        raise ValueError(f"a shingle needs at least one word: n_words={n_words}, n_chars={n_chars}")
    sizes = np.where(found.spaced, n_words, n_chars)
    return ngrams(found, np.minimum(sizes, found.lengths))


def ngrams(found: Ragged, sizes: np.ndarray) -> Ragged:
    """The n-grams of each row, with an n for each row; a row with n = 0 or fewer than n words has none."""
    from methods.filters.minhash_loops import windows

    lengths = np.where(sizes > 0, np.maximum(found.lengths - sizes + 1, 0), 0)
    offsets = offsets_of(lengths)
    factors = _factors(int(sizes[lengths > 0].max(initial=1)))
    return Ragged(windows(found.values, found.offsets, sizes, offsets, factors, np.uint64(_LENGTH)), offsets)


def roll(values: np.ndarray, n: int) -> np.ndarray:
    """The hash of every window of ``n`` values, blind to row borders: sum_i c_i v_i + c_n n (mod 2^64)."""
    out = np.full(max(len(values) - n + 1, 0), _LENGTH * n % (1 << 64), np.uint64)
    for place, factor in enumerate(_factors(n)):
        out += values[place : place + len(out)] * factor
    return out


def distinct(grams: Ragged) -> Ragged:
    """Each row as a set: sorted, every value once."""
    rows = grams.rows
    order = np.lexsort((grams.values, rows))
    values, rows = grams.values[order], rows[order]
    first = np.ones(len(values), bool)
    first[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    return Ragged(values[first], offsets_of(np.bincount(rows[first], minlength=len(grams))))


def scramble(values: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that makes every bit depend on every bit (multiply and xor-shift, twice)."""
    out = values ^ (values >> np.uint64(32))
    out *= np.uint64(0xD6E8FEB86659FD93)
    out ^= out >> np.uint64(32)
    out *= np.uint64(0xD6E8FEB86659FD93)
    out ^= out >> np.uint64(32)
    return out


def _separated(texts: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Texts whose words are the runs of ASCII letters, digits, underscores and non-ASCII bytes; and how many of a
    row's words are single characters of a script without spaces. ASCII texts have that form as they stand."""
    plain = texts.cast(pl.String).fill_null("")
    single = np.zeros(len(plain), np.int64)
    rows = (plain.str.len_bytes() != plain.str.len_chars()).arg_true()
    if len(rows):
        other = plain.gather(rows).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\W+", " ")
        single[rows.to_numpy()] = other.str.count_matches(f"[{SPACELESS}]").to_numpy()
        plain = plain.scatter(rows, other.str.replace_all(f"([{SPACELESS}])", " $1 "))
    return plain, single


def _parts(texts: pl.Series) -> Iterator[pl.Series]:
    """Slices of about `BLOCK_BYTES` of text, so that the kernel's arrays stay small whatever the pool."""
    ends = np.cumsum(texts.str.len_bytes().to_numpy().astype(np.int64) + 1)
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + BLOCK_BYTES, side="right")), start + 1)
        yield texts.slice(start, stop - start)
        start = stop


def _hash_part(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """The word hashes of some texts and how many each text has.

    A word of bytes b_1..b_m hashes to scramble(sum_j T[b_j] P^(j - 1)), with T a table of random numbers (capitals
    share the entry of their small letter) and P odd.
    """
    import pyarrow as pa

    from methods.filters.minhash_loops import hash_words

    column = texts.rechunk().to_arrow().cast(pa.large_string())
    _, places, data = column.buffers()
    offsets = np.frombuffer(places, np.int64)[column.offset :][: len(texts) + 1]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return hash_words(raw, offsets, _table(), np.uint64(_BASE))


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """The random number of each byte that makes words, 0 for the others."""
    codes = np.arange(256)
    letters = ((codes >= 97) & (codes <= 122)) | ((codes >= 65) & (codes <= 90))
    is_word = letters | ((codes >= 48) & (codes <= 57)) | (codes == 95) | (codes >= 128)
    lower = np.where((codes >= 65) & (codes <= 90), codes + 32, codes).astype(np.uint64)
    return np.where(is_word, scramble(scramble(lower + np.uint64(0x9E3779B97F4A7C15))), np.uint64(0))


@lru_cache(maxsize=64)
def _factors(n: int) -> np.ndarray:
    """n odd random numbers, so that the order of the words counts."""
    return scramble(np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
