"""Texts as hashed n-grams: tokens and pairs of neighbours, each put into one of some 10,000 buckets.

Here belongs the way from a text to its buckets (the tokeniser, SHA-256 and a faster hash, what is kept of a pool) and
the two sums over them: how often each bucket occurs, and what a weight of each bucket makes of each text. What the
counts are compared with stands in ``dsir.py``.

A token is what ``\\w+|[^\\w\\s]+`` finds in the lower-cased text (the WordPunct rule), with Unicode's classes of
characters, as NLTK has them from 3.10 on: marks belong to their word, so that words of Indian scripts stay whole, and
superscripts do not (with Python's ``re``, of earlier releases, both are the other way about). A pair is two tokens
joined by one space. The bucket of either is the SHA-256 of its UTF-8 bytes, read as one big number, modulo the number
of buckets.

Most n-grams were met before: their buckets are kept in a table of fixed size, found by a 64-bit hash of the n-gram (two
that share all 64 bits would share a bucket, a chance of some 1e-7 in a pool of a million different n-grams).
``hash="fast"`` takes that 64-bit hash itself, modulo the number of buckets: other buckets, equally good, without
SHA-256.

Importing this module imports the compiler: import it inside functions. The compiled code is kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

import numba
import numpy as np
import polars as pl

Hash = Literal["sha256", "fast"]

BUCKETS = 10_000
BLOCK_ROWS = 2048
KEEP_BYTES = 1 << 28
"""Buckets of a pool that are kept for the next sum over it; texts beyond are cut and hashed again."""
SLOT_BITS = 21
"""The table of known n-grams has at most 2^21 places of 10 bytes."""

_TOKEN = r"\w+|[^\w\s]+"
_SPACE, _WORD, _MARK = 0, 1, 2
_kernel: Any = numba.njit(cache=True, nogil=True)

_U32, _U64 = np.uint32, np.uint64
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_TURN = np.uint64(0x9E3779B97F4A7C15)


def _roots(power: int, n: int) -> np.ndarray:
    """The first 32 bits of the fractions of the square or cube roots of the first n primes: SHA-256's constants."""
    primes = [p for p in range(2, 320) if all(p % q for q in range(2, int(p**0.5) + 1))][:n]
    found = []
    for p in primes:
        scaled = p << (64 if power == 2 else 96)  # the root of p times 2^32, in whole numbers
        low, high = 0, 1 << 40
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**power <= scaled else (low, middle - 1)
        found.append(low & 0xFFFFFFFF)
    return np.array(found, dtype=np.uint32)


_START, _ROUND = _roots(2, 8), _roots(3, 64)


def tokens(texts: pl.Series) -> pl.Series:
    """List(String): the tokens of each text, in order; the rule of the compiled code, and the measure for it."""
    lowered = [text.lower() for text in texts.fill_null("").to_list()]
    return pl.Series(lowered, dtype=pl.String).str.extract_all(_TOKEN)


class BucketedTexts:
    """The buckets of all tokens and pairs of some texts, made a block at a time.

    A text of t tokens has 2 t - 1 n-grams (t > 0). Memory: one block, the table of known n-grams, and the buckets of
    the texts (2 bytes each) up to `KEEP_BYTES`.
    """

    def __init__(
        self, texts: pl.Series | Sequence[str], hash: Hash = "sha256", n_buckets: int = BUCKETS, keep: int = KEEP_BYTES
    ) -> None:
        if hash not in ("sha256", "fast"):
            raise ValueError(f"hash must be sha256 or fast, got {hash!r}")
        if not 1 <= n_buckets <= 1 << 16:
            raise ValueError(f"there can be 1 to 65,536 buckets, got {n_buckets}")
        self.texts = pl.Series(texts, dtype=pl.String).fill_null("")
        self.hash, self.n_buckets, self.keep = hash, n_buckets, keep
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._bytes = 0
        size = int(self.texts.str.len_bytes().sum())
        slots = 1 << min(SLOT_BITS, size.bit_length() + 1) if hash == "sha256" else 1
        self._keys, self._values = np.zeros(slots, np.uint64), np.zeros(slots, np.uint16)

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Blocks: which texts, their buckets end to end, and where each text's begin (one more than texts)."""
        for start in range(0, len(self.texts), BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, len(self.texts)))
            if start in self._kept:
                yield part, *self._kept[start]
                continue
            values, offsets = self._cut(self.texts[part].to_list())
            if self._bytes + values.nbytes + offsets.nbytes <= self.keep:
                self._kept[start] = values, offsets
                self._bytes += values.nbytes + offsets.nbytes
            yield part, values, offsets

    def counts(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(n_buckets,) int64: n-grams in each bucket over all texts, or over those named (indices, each once)."""
        total = np.zeros(self.n_buckets, np.int64)
        wanted = np.ones(len(self), np.bool_)
        if rows is not None:
            wanted[:] = False
            wanted[rows] = True
        for part, values, offsets in self:
            _count(values, offsets, wanted[part], total)
        return total

    def sums(self, weight: np.ndarray) -> np.ndarray:
        """(texts,) float64: the sum of the weights (n_buckets,) of each text's n-grams, in their order."""
        found = np.zeros(len(self), np.float64)
        weight = np.ascontiguousarray(weight, dtype=np.float64)
        for part, values, offsets in self:
            _sum(values, offsets, weight, found[part])
        return found

    def lengths(self) -> np.ndarray:
        """(texts,) int64: n-grams of each text, tokens and pairs."""
        found = np.zeros(len(self), np.int64)
        for part, _, offsets in self:
            found[part] = np.diff(offsets)
        return found

    def _cut(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        plain = [text.lower().encode() for text in texts]
        ends = np.cumsum([0, *map(len, plain)], dtype=np.int64)
        raw = np.frombuffer(b"".join(plain), np.uint8)
        exact = self.hash == "sha256"
        return _buckets(raw, ends, _classes(), self.n_buckets, exact, _START, _ROUND, self._keys, self._values)


@lru_cache(maxsize=1)
def _classes() -> np.ndarray:
    """For every code point whether it is white space, part of a word, or a mark."""
    points = np.arange(0x110000, dtype=np.uint32)
    points[0xD800:0xE000] = 32  # surrogates are no characters
    every = pl.Series([points.tobytes().decode("utf-32-le")])
    kinds = np.full(len(points), _MARK, np.uint8)
    for pattern, kind in ((r"\s+", _SPACE), (r"\w+", _WORD)):
        found = "".join(every.str.extract_all(pattern)[0].to_list())
        kinds[np.frombuffer(found.encode("utf-32-le"), np.uint32)] = kind
    return kinds


# --- compiled --------------------------------------------------------------------------------------------------------
@_kernel
def _mixed(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _U64(30))) * _MIX_1
    x = (x ^ (x >> _U64(27))) * _MIX_2
    return x ^ (x >> _U64(31))


@_kernel
def _turned(x: np.uint32, by: int) -> np.uint32:
    return _U32(x >> _U32(by)) | _U32(x << _U32(32 - by))


@_kernel
def _sha256(message: np.ndarray, n_blocks: int, start: np.ndarray, constants: np.ndarray, modulus: np.uint64) -> int:
    """SHA-256 of a message that is already padded to whole blocks, as one number, modulo ``modulus``."""
    state, w = start.copy(), np.empty(64, np.uint32)
    for block in range(n_blocks):
        for i in range(16):
            at = 64 * block + 4 * i
            w[i] = (
                (_U32(message[at]) << _U32(24))
                | (_U32(message[at + 1]) << _U32(16))
                | (_U32(message[at + 2]) << _U32(8))
                | _U32(message[at + 3])
            )
        for i in range(16, 64):
            x, y = w[i - 15], w[i - 2]
            low = _turned(x, 7) ^ _turned(x, 18) ^ _U32(x >> _U32(3))
            high = _turned(y, 17) ^ _turned(y, 19) ^ _U32(y >> _U32(10))
            w[i] = _U32(w[i - 16] + low + w[i - 7] + high)
        a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
        for i in range(64):
            high = _turned(e, 6) ^ _turned(e, 11) ^ _turned(e, 25)
            first = _U32(h + high + ((e & f) ^ (~e & g)) + constants[i] + w[i])
            low = _turned(a, 2) ^ _turned(a, 13) ^ _turned(a, 22)
            second = _U32(low + ((a & b) ^ (a & c) ^ (b & c)))
            h, g, f, e, d, c, b, a = g, f, e, _U32(d + first), c, b, a, _U32(first + second)
        state[0], state[1], state[2], state[3] = (
            _U32(state[0] + a), _U32(state[1] + b), _U32(state[2] + c), _U32(state[3] + d),
        )  # fmt: skip
        state[4], state[5], state[6], state[7] = (
            _U32(state[4] + e), _U32(state[5] + f), _U32(state[6] + g), _U32(state[7] + h),
        )  # fmt: skip
    left = _U64(0)
    for i in range(8):
        left = ((left << _U64(32)) | _U64(state[i])) % modulus
    return int(left)


@_kernel
def _sha_bucket(
    raw: np.ndarray, before: int, before_end: int, begin: int, end: int, scratch: np.ndarray,
    start: np.ndarray, constants: np.ndarray, modulus: np.uint64,
) -> int:  # fmt: skip
    """The bucket of ``raw[begin:end]``; with ``before`` not negative, of the token there, a space, and this one."""
    n = before_end - before + 1 if before >= 0 else 0
    size = n + end - begin
    n_blocks = (size + 8) // 64 + 1
    message = scratch if 64 * n_blocks <= len(scratch) else np.empty(64 * n_blocks, np.uint8)
    for i in range(n - 1):
        message[i] = raw[before + i]
    if n:
        message[n - 1] = 32
    for i in range(n, size):
        message[i] = raw[begin + i - n]
    message[size] = 128
    for i in range(size + 1, 64 * n_blocks - 8):
        message[i] = 0
    for i in range(8):
        message[64 * n_blocks - 1 - i] = np.uint8((8 * size) >> (8 * i) & 255)
    return _sha256(message, n_blocks, start, constants, modulus)


@_kernel
def _class_at(raw: np.ndarray, at: int, classes: np.ndarray) -> tuple[int, int]:
    """The class of the character that begins at a byte, and how many bytes it has."""
    lead = np.int64(raw[at])
    if lead < 0x80:
        return classes[lead], 1
    if lead < 0xE0:
        return classes[((lead & 31) << 6) | (raw[at + 1] & 63)], 2
    if lead < 0xF0:
        return classes[((lead & 15) << 12) | ((np.int64(raw[at + 1]) & 63) << 6) | (raw[at + 2] & 63)], 3
    point = ((lead & 7) << 18) | ((np.int64(raw[at + 1]) & 63) << 12)
    return classes[point | ((np.int64(raw[at + 2]) & 63) << 6) | (np.int64(raw[at + 3]) & 63)], 4


@_kernel
def _buckets(
    raw: np.ndarray, ends: np.ndarray, classes: np.ndarray, n_buckets: int, exact: bool,
    start: np.ndarray, constants: np.ndarray, keys: np.ndarray, known: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Buckets of all texts' n-grams end to end (each token, then the pair that it ends), and where each text begins.

    Text i is ``raw[ends[i]:ends[i + 1]]``, lower-cased UTF-8. ``keys`` and ``known``: the table of known n-grams.
    """
    found, n = np.empty(2 * len(raw), np.uint16), 0  # never more; what is not written takes no memory
    offsets = np.zeros(len(ends), np.int64)
    scratch = np.empty(256, np.uint8)
    modulus, mask = _U64(n_buckets), len(keys) - 1
    for row in range(len(ends) - 1):
        at, stop = ends[row], ends[row + 1]
        last, last_begin, last_end = _U64(0), -1, -1
        while at < stop:
            kind, width = _class_at(raw, at, classes)
            if kind == _SPACE:
                at += width
                continue
            begin, here, key = at, kind, _OFFSET
            while here == kind:
                for i in range(at, at + width):
                    key = (key ^ _U64(raw[i])) * _PRIME
                at += width
                if at == stop:
                    break
                here, width = _class_at(raw, at, classes)
            token = _mixed(key)
            for pair in range(1 if last_begin < 0 else 2):
                key = _mixed(last * _TURN + token) if pair else token
                if exact:
                    slot = np.int64(key >> _U64(20)) & mask
                    if keys[slot] != key:
                        before = last_begin if pair else -1
                        known[slot] = _sha_bucket(raw, before, last_end, begin, at, scratch, start, constants, modulus)
                        keys[slot] = key
                    found[n] = known[slot]
                else:
                    found[n] = key % modulus
                n += 1
            last, last_begin, last_end = token, begin, at
        offsets[row + 1] = n
    return found[:n].copy(), offsets


@_kernel
def _count(values: np.ndarray, offsets: np.ndarray, wanted: np.ndarray, total: np.ndarray) -> None:
    for row in range(len(wanted)):
        if wanted[row]:
            for at in range(offsets[row], offsets[row + 1]):
                total[values[at]] += 1


@_kernel
def _sum(values: np.ndarray, offsets: np.ndarray, weight: np.ndarray, found: np.ndarray) -> None:
    for row in range(len(found)):
        total = 0.0
        for at in range(offsets[row], offsets[row + 1]):
            total += weight[values[at]]
        found[row] = total
