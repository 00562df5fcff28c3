"""Pairs of rows that say nearly the same: signatures, candidate pairs, and their exact similarity.

Here belongs everything from a text to a verified pair. Which row of a pair stays is decided in `resolution`, so that
one stored set of edges serves every rule of choice and every threshold from its own upwards.

Similarity is the Jaccard index of two rows' sets of shingles, J(A, B) = |A & B| / |A | B|. MinHash signatures
(Broder 1997, "On the resemblance and containment of documents") find the pairs worth comparing by banding; each
pair found is then compared exactly, so no estimate decides about a row.

The signature is a numpy kernel. The Rust library tried beside it (rensa 0.5) hashes faster (0.06 s against 0.3 s for
29,700 rows and 128 permutations on one core) but hands the digests back as Python lists only, at 0.6 s; and its
digests change their meaning with its releases, which stored evidence must not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from methods.filters.shingles import Ragged, distinct, scramble, shingles, text_of, words

NUM_PERM = 128
SEED = 1
N_WORDS = 3
N_CHARS = 5
THRESHOLD = 0.8
MAX_MISS = 0.02
NEIGHBOURS = 64
"""In a bucket each row is paired with the first row and with this many rows before it."""
EDGES = {"a": pl.Int64, "b": pl.Int64, "similarity": pl.Float64}
_CHUNK = 1 << 15
_PAIR_CHUNK = 1 << 16
_EQUAL_CHUNK = 1 << 12


def signatures(
    block: pl.DataFrame, num_perm: int = NUM_PERM, seed: int = SEED, n_words: int = N_WORDS, n_chars: int = N_CHARS
) -> pl.DataFrame:
    """``row_id`` and ``signature`` (Array of ``num_perm`` UInt32): what is stored of each row as evidence.

    Row-relative: the signature of a row does not depend on its block. Null where the row has no words at all.
    """
    grams = shingles(words(text_of(block)), n_words, n_chars)
    matrix, known = minhash(grams, num_perm, seed), grams.lengths > 0
    stored = pl.Series("signature", matrix, dtype=pl.Array(pl.UInt32, num_perm))
    frame = pl.DataFrame({"row_id": block["row_id"], "signature": stored, "known": known})
    return frame.select("row_id", signature=pl.when("known").then("signature"))


def minhash(grams: Ragged, num_perm: int = NUM_PERM, seed: int = SEED) -> np.ndarray:
    """The MinHash matrix, (n, num_perm) uint32: sig[i, k] = min over row i's shingles x of h_k(x).

    h_k(x) = m(a_k x + b_k mod 2^32), x the upper half of the shingle's hash, a_k odd, m a fixed xor-shift and
    multiplication: a bijection of 32 bits each. Pr[sig[i, k] = sig[j, k]] = J(i, j). A row without shingles gets
    the largest number everywhere.
    """
    if num_perm < 1:
        raise ValueError(f"a signature needs at least one permutation: num_perm={num_perm}")
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 1 << 32, num_perm, dtype=np.uint32) | np.uint32(1)
    shifts = rng.integers(0, 1 << 32, num_perm, dtype=np.uint32)
    out = np.full((len(grams), num_perm), np.iinfo(np.uint32).max, np.uint32)
    filled = np.flatnonzero(grams.lengths > 0)
    for rows, values, starts in _row_chunks(grams, filled):
        out[rows] = _minima(values, starts, factors, shifts)
    return out


def banding(threshold: float, num_perm: int = NUM_PERM, max_miss: float = MAX_MISS) -> tuple[int, int]:
    """Bands b and rows a band r: the longest bands that still find a pair at the threshold.

    A pair of similarity s shares a band with probability 1 - (1 - s^r)^b. Of all r with b = floor(num_perm / r) the
    largest is taken for which a pair exactly at the threshold is missed with probability of at most ``max_miss``;
    pairs above it are missed less often. Precision is left to `verify`.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], not {threshold}")
    fits = [r for r in range(1, num_perm + 1) if (1 - threshold**r) ** (num_perm // r) <= max_miss]
    r = max(fits, default=1)
    return num_perm // r, r


def candidate_pairs(
    signature: np.ndarray, threshold: float = THRESHOLD, max_miss: float = MAX_MISS, neighbours: int = NEIGHBOURS
) -> np.ndarray:
    """Pairs of rows (a < b) that share a band, (m, 2) int64 in order, each once.

    A bucket of N equal bands is not squared: its rows stand in row order, and each is paired with the bucket's first
    row and the ``neighbours`` rows before it. So at most N (neighbours + 1) pairs come of it, all of them if
    N <= neighbours + 1. Lost is a pair of two rows that are further apart than that in every bucket they share.
    """
    n, (bands, width) = len(signature), banding(threshold, signature.shape[1], max_miss)
    low = (signature & np.uint32(0xFF)).astype(np.uint8)
    found = [np.zeros(0, np.int64)]
    for band in range(bands):
        keys = _band_keys(signature[:, band * width : (band + 1) * width])
        for later, earlier in _bucket_pairs(keys, neighbours):
            near = _may_reach(low, earlier, later, threshold)
            found.append(earlier[near] * n + later[near])
    joined = np.unique(np.concatenate(found))
    return np.stack([joined // max(n, 1), joined % max(n, 1)], axis=1)


def jaccard(sets: Ragged, pairs: np.ndarray) -> np.ndarray:
    """The exact Jaccard index of each pair of rows, (m,) float64; 0 where both are empty."""
    from scipy.sparse import csr_array

    _, codes = np.unique(sets.values, return_inverse=True)
    shape = (len(sets), int(codes.max(initial=0)) + 1)
    incidence = csr_array((np.ones(len(codes), np.int32), codes, sets.offsets), shape=shape)
    incidence.sort_indices()
    out, lengths = np.zeros(len(pairs)), sets.lengths
    for start in range(0, len(pairs), _PAIR_CHUNK):
        a, b = pairs[start : start + _PAIR_CHUNK].T
        common = incidence[a].multiply(incidence[b]).sum(axis=1)
        union = lengths[a] + lengths[b] - common
        np.divide(common, union, out=out[start : start + len(a)], where=union > 0)
    return out


def verify(
    pairs: np.ndarray, texts: pl.Series, threshold: float = THRESHOLD, n_words: int = N_WORDS, n_chars: int = N_CHARS
) -> pl.DataFrame:
    """The pairs whose exact similarity reaches the threshold: ``a``, ``b`` (row indices), ``similarity``."""
    rows, local = np.unique(pairs, return_inverse=True)
    sets = distinct(shingles(words(texts.gather(rows)), n_words, n_chars))
    return _edges(pairs, jaccard(sets, local.reshape(pairs.shape)), threshold)


def near_duplicates(
    texts: pl.Series,
    threshold: float = THRESHOLD,
    signature: np.ndarray | None = None,
    num_perm: int = NUM_PERM,
    seed: int = SEED,
    n_words: int = N_WORDS,
    n_chars: int = N_CHARS,
) -> pl.DataFrame:
    """All the edges of a pool in one call: hash, band, verify. ``signature`` spares the first if it is stored.

    Hand over one text of each class of equal texts (`resolution.exact_classes`): a thousand copies of a row are a
    thousand rows for `resolution.resolve`, but one row here.
    """
    grams = shingles(words(texts), n_words, n_chars)
    matrix = minhash(grams, num_perm, seed) if signature is None else signature
    filled = np.flatnonzero(grams.lengths > 0)
    pairs = filled[candidate_pairs(matrix[filled], threshold)]
    rows, local = np.unique(pairs, return_inverse=True)
    return _edges(pairs, jaccard(distinct(grams.take(rows)), local.reshape(pairs.shape)), threshold)


def _edges(pairs: np.ndarray, similarity: np.ndarray, threshold: float) -> pl.DataFrame:
    kept = similarity >= threshold
    columns = {"a": pairs[kept, 0], "b": pairs[kept, 1], "similarity": similarity[kept]}
    return pl.DataFrame(columns, schema=EDGES)


def _row_chunks(grams: Ragged, filled: np.ndarray) -> Iterator[tuple[slice | np.ndarray, np.ndarray, np.ndarray]]:
    """Runs of rows with about `_CHUNK` shingles (a part that fits the cache): rows, their values, where each starts."""
    starts, ends = grams.offsets[:-1][filled], grams.offsets[1:][filled]
    first = 0
    while first < len(filled):
        last = max(int(np.searchsorted(ends, starts[first] + _CHUNK, side="right")), first + 1)
        values = grams.values[starts[first] : ends[last - 1]]
        yield filled[first:last], values, starts[first:last] - starts[first]
        first = last


def _minima(values: np.ndarray, starts: np.ndarray, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """(rows, permutations): the least hash of each row under each permutation. Empty rows lie between none."""
    x = (values >> np.uint64(32)).astype(np.uint32)
    hashed, moved = np.empty_like(x), np.empty_like(x)
    out = np.empty((len(factors), len(starts)), np.uint32)
    for k, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
        np.multiply(x, factor, out=hashed)
        np.add(hashed, shift, out=hashed)
        np.right_shift(hashed, 15, out=moved)
        np.bitwise_xor(hashed, moved, out=hashed)
        np.multiply(hashed, np.uint32(0x2C1B3C6D), out=hashed)
        np.minimum.reduceat(hashed, starts, out=out[k])
    return out.T


def _band_keys(columns: np.ndarray) -> np.ndarray:
    """One uint64 for each row's band."""
    keys = np.zeros(len(columns), np.uint64)
    for column in columns.T:
        keys = scramble(keys ^ column)
    return keys


def _bucket_pairs(keys: np.ndarray, neighbours: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows (later, earlier) to be paired in the buckets of equal keys, one partner a row at a time."""
    # The row stands in the low bits of its key: one sort of plain numbers is several times faster than an argsort, and
    # leaves each bucket in row order. The upper bits that are left (40 for 16 million rows) make few false pairs.
    bits = np.uint64(max(len(keys) - 1, 1).bit_length())
    packed = np.sort((keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64))
    ranked, place = packed >> bits, np.arange(len(keys))
    order = (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    fresh = np.ones(len(keys), bool)
    fresh[1:] = ranked[1:] != ranked[:-1]
    first = np.maximum.accumulate(np.where(fresh, place, 0))
    inner = place[place > first]
    yield order[inner], order[first[inner]]
    for back in range(1, neighbours + 1):
        inner = inner[inner - back > first[inner]]
        if not len(inner):
            return
        yield order[inner], order[inner - back]


def _may_reach(low: np.ndarray, a: np.ndarray, b: np.ndarray, threshold: float) -> np.ndarray:
    """Which pairs are worth the exact comparison: the share of equal entries is an unbiased estimate of J with a
    standard error of sqrt(J (1 - J) / k); a pair at the threshold falls four of them below once in 30,000. One byte
    of each entry is enough: entries that differ agree in it once in 256, which only lets more pairs through."""
    k = low.shape[1]
    least = k * (threshold - 4 * np.sqrt(threshold * (1 - threshold) / k))
    out = np.zeros(len(a), bool)
    for start in range(0, len(a), _EQUAL_CHUNK):
        part = slice(start, start + _EQUAL_CHUNK)
        out[part] = np.count_nonzero(low[a[part]] == low[b[part]], axis=1) >= least
    return out
