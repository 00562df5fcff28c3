"""Pairs of rows that say nearly the same: signatures, candidate pairs, and their exact similarity.

Here belongs everything from a text to a verified pair. Which row of a pair stays is decided in `resolution`, so that
one stored set of edges serves every rule of choice and every threshold from its own upwards.

Similarity is the Jaccard index of two rows' sets of shingles, J(A, B) = |A & B| / |A | B|. MinHash signatures
(Broder 1997, "On the resemblance and containment of documents") find the pairs worth comparing by banding; each
pair found is then compared exactly, so no estimate decides about a row.

The loops are compiled (`minhash_loops`) and not a library's: signatures are stored, so their numbers must not change
with a library's releases.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from methods.filters.shingles import Ragged, shingles, text_of, words

NUM_PERM = 128
SEED = 1
N_WORDS = 3
N_CHARS = 5
THRESHOLD = 0.8
MAX_MISS = 0.02
MEETINGS = 1 << 12
"""How many rows a row may meet in all its buckets, on average over the pool: about the price of hashing it."""
EDGES = {"a": pl.Int64, "b": pl.Int64, "similarity": pl.Float64}
_PAIR_BLOCK = 1 << 18


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
    from methods.filters.minhash_loops import minima

    if num_perm < 1:
        raise ValueError(f"a signature needs at least one permutation: num_perm={num_perm}")
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 1 << 32, num_perm, dtype=np.uint32) | np.uint32(1)
    shifts = rng.integers(0, 1 << 32, num_perm, dtype=np.uint32)
    return minima(grams.values, grams.offsets, factors, shifts)


def banding(threshold: float, num_perm: int = NUM_PERM, max_miss: float = MAX_MISS) -> tuple[int, int]:
    """Bands b and rows a band r: the longest bands that still find a pair at the threshold.

    A pair of similarity s shares a band with probability 1 - (1 - s^r)^b. Of all r with b = floor(num_perm / r) the
    largest is taken for which a pair exactly at the threshold is missed with probability of at most ``max_miss``;
    pairs above it are missed less often. Precision is left to the exact comparison.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], not {threshold}")
    fits = [r for r in range(1, num_perm + 1) if (1 - threshold**r) ** (num_perm // r) <= max_miss]
    r = max(fits, default=1)
    return num_perm // r, r


def jaccard(sets: Ragged, pairs: np.ndarray) -> np.ndarray:
    """The exact Jaccard index of each pair of rows, (m,) float64; 0 where both are empty. Repeats in a row count once.

    Quickest where pairs with the same first row stand together, as in order.
    """
    from methods.filters.minhash_loops import overlaps

    pairs = np.ascontiguousarray(pairs, np.int64)
    codes, starts, n_codes = _sets(sets, pairs)
    return overlaps(codes, starts, n_codes, pairs)


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
    from methods.filters.minhash_loops import overlaps

    grams = shingles(words(texts), n_words, n_chars)
    matrix = minhash(grams, num_perm, seed) if signature is None else signature
    buckets = _buckets(matrix, grams.lengths > 0, *banding(threshold, matrix.shape[1]))
    codes, starts, n_codes = _sets(grams, buckets[0])
    found, likeness = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for met in _meetings(matrix, buckets, threshold):
        similarity = overlaps(codes, starts, n_codes, met)
        kept = similarity >= threshold
        found.append(met[kept])
        likeness.append(similarity[kept])
    pairs = np.concatenate(found)
    order = _in_order(pairs, len(texts))
    columns = {"a": pairs[order, 1], "b": pairs[order, 0], "similarity": np.concatenate(likeness)[order]}
    return pl.DataFrame(columns, schema=EDGES)


def _sets(grams: Ragged, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The rows named as sets of numbered shingles: numbers, where each row starts, how many there are."""
    from methods.filters.minhash_loops import numbered

    wanted = np.zeros(len(grams), bool)
    wanted[rows] = True
    codes, starts, n_codes = numbered(grams.values, grams.offsets, wanted)
    return codes, starts, n_codes


def _buckets(signature: np.ndarray, known: np.ndarray, bands: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of all buckets of two and more, band after band, and each row's place in its bucket."""
    from methods.filters.minhash_loops import bucketed

    rows, places = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for band in range(bands):
        found, place = bucketed(signature, known, band * width, width)
        rows.append(found)
        places.append(place)
    return np.concatenate(rows), np.concatenate(places)


def _meetings(
    signature: np.ndarray, buckets: tuple[np.ndarray, np.ndarray], threshold: float, neighbours: int | None = None
) -> Iterator[np.ndarray]:
    """The pairs (later row, earlier row) worth comparing, each once, in blocks and in the order of the later row.

    Rows with an equal band lie in one bucket, in row order, and each is paired with those before it. Buckets are
    squared while that makes no more than `MEETINGS` meetings a row on average. Beyond, a row is paired with the first
    row of its bucket and the ``neighbours`` before it (None: as many as keep to `MEETINGS`), so that work grows in
    line with the pool whatever it holds; lost is a pair of rows further apart than that in every bucket they share.

    Pairs not worth the exact comparison are left out at once: the share of equal entries of k is an unbiased estimate
    of J with a standard error of sqrt(J (1 - J) / k), and a pair at the threshold falls four of them below once in
    30,000. One byte of each entry is compared: entries that differ agree in it once in 256, which only lets more
    pairs through.
    """
    from methods.filters.minhash_loops import by_row, meetings

    (n, k), (rows, places), row = signature.shape, buckets, 0
    reach = _reach(places, n) if neighbours is None else neighbours
    slots, offsets = by_row(rows, n)
    least = k * (threshold - 4 * np.sqrt(threshold * (1 - threshold) / k))
    low, met, block = signature.astype(np.uint8), np.full(n, -1, np.int32), np.empty((max(_PAIR_BLOCK, n), 2), np.int64)
    while row < n:
        row, size = meetings(rows, places, slots, offsets, row, reach, low, least, met, block)
        yield block[:size].copy()


def _reach(places: np.ndarray, n: int) -> int:
    """The most rows before it that a row may be paired with if the pool is to keep to `MEETINGS`; at least one."""
    # A reach of one more costs a meeting for each row that has one more before it in its bucket.
    further = np.cumsum(np.bincount(places, minlength=1)[::-1])[::-1][1:]
    return max(int(np.searchsorted(np.cumsum(further), MEETINGS * n, side="right")), 1)


def _in_order(pairs: np.ndarray, n: int) -> np.ndarray:
    """The order by earlier row, then by later row, of pairs (later, earlier) that come in the order of the later."""
    from methods.filters.minhash_loops import by_row

    order, _ = by_row(np.ascontiguousarray(pairs[:, 1]), n)
    return order
