"""Compiled: the loops from the bytes of a text to the exact similarity of two rows.

Here belong the loops alone. What they compute is said in `shingles` (words, windows) and in `duplicates` (signatures,
buckets, pairs), their only readers. Importing this module imports the compiler; the compiled code is kept beside it.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _mixed(value: np.uint64) -> np.uint64:
    """`shingles.scramble` of one number."""
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return value ^ (value >> np.uint64(32))


@numba.njit(cache=True, nogil=True)
def hash_words(text: np.ndarray, offsets: np.ndarray, table: np.ndarray, base: np.uint64) -> tuple:
    """The word hashes of each text, end to end, and how many each has: mixed(sum_j table[b_j] base^j), j from 0.

    Text i is ``text[offsets[i]:offsets[i + 1]]``. ``table`` holds a number for each byte, 0 for those that separate.
    """
    n, size = len(offsets) - 1, offsets[-1] - offsets[0]
    hashes, counts = np.empty((size + n) // 2 + 1, dtype=np.uint64), np.empty(n, dtype=np.int64)
    one, filled = np.uint64(1), 0
    for row in range(n):
        before = filled
        total, power = np.uint64(0), one
        for at in range(offsets[row], offsets[row + 1]):
            # Without a branch, since where a word ends cannot be foretold: outside a word the power is 1.
            number = table[text[at]]
            inside = number != 0
            total += number * power
            hashes[filled] = total
            filled += (power != one) & (not inside)
            total = total if inside else np.uint64(0)
            power = power * base if inside else one
        if power != one:
            filled += 1
        counts[row] = filled - before
    for word in range(filled):
        hashes[word] = _mixed(hashes[word])
    return hashes[:filled].copy(), counts


@numba.njit(cache=True, nogil=True)
def windows(values: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, starts: np.ndarray, factors: np.ndarray,
            length: np.uint64) -> np.ndarray:  # fmt: skip
    """The hash of every window of ``sizes[i]`` values of row i: sum_j factors[j] v_j + length * size (mod 2^64).

    Row i's windows go to ``starts[i]:starts[i + 1]``: none where that is empty.
    """
    out = np.empty(starts[-1], dtype=np.uint64)
    for row in range(len(sizes)):
        count, source, target = starts[row + 1] - starts[row], offsets[row], starts[row]
        rest = length * np.uint64(sizes[row])
        if sizes[row] == 3:  # the usual size, without a loop inside
            one, two, three = factors[0], factors[1], factors[2]
            for at in range(count):
                here = source + at
                out[target + at] = rest + one * values[here] + two * values[here + 1] + three * values[here + 2]
            continue
        for at in range(count):
            total = rest
            for place in range(sizes[row]):
                total += factors[place] * values[source + at + place]
            out[target + at] = total
    return out


@numba.njit(cache=True, nogil=True)
def minima(values: np.ndarray, offsets: np.ndarray, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """(rows, permutations) uint32: the least hash of each row under each permutation; the largest number if empty."""
    n, k = len(offsets) - 1, len(factors)
    out = np.full((n, k), np.uint32(0xFFFFFFFF), dtype=np.uint32)
    for row in range(n):
        least = out[row]
        for at in range(offsets[row], offsets[row + 1]):
            x = np.uint32(values[at] >> np.uint64(32))
            for j in range(k):
                hashed = np.uint32(x * factors[j] + shifts[j])
                hashed = np.uint32((hashed ^ (hashed >> np.uint32(15))) * np.uint32(0x2C1B3C6D))
                least[j] = min(least[j], hashed)
    return out


@numba.njit(cache=True, nogil=True)
def bucketed(signature: np.ndarray, known: np.ndarray, start: int, width: int) -> tuple:
    """The rows of the buckets of two and more, bucket by bucket, and each row's place in its own.

    A bucket holds the rows, in their order, that agree in the hash of the columns from ``start``, ``width`` of them;
    buckets stand in the order of their first rows. Only rows that are ``known`` are looked at.
    """
    n, size = len(signature), 4
    while size < 2 * n:
        size *= 2
    table, mask = np.full(size, -1, dtype=np.int32), np.uint64(size - 1)  # the first row of the bucket
    keys, firsts = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.int32)
    counts = np.zeros(n, dtype=np.int32)
    for row in range(n):
        if not known[row]:
            continue
        key = np.uint64(0)
        for at in range(start, start + width):
            key = (key ^ np.uint64(signature[row, at])) * np.uint64(0x9E3779B97F4A7C55)
        key = _mixed(key)
        keys[row] = key
        slot = key & mask
        while table[slot] >= 0 and keys[table[slot]] != key:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = row
        firsts[row] = table[slot]
        counts[table[slot]] += 1
    total = np.sum(counts[counts > 1])
    rows, places = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
    starts, placed, filled = np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.int32), 0
    for row in range(n):
        if not known[row] or counts[firsts[row]] == 1:
            continue
        first = firsts[row]
        if first == row:
            starts[row] = filled
            filled += counts[row]
        at = starts[first] + placed[first]
        rows[at], places[at] = row, placed[first]
        placed[first] += 1
    return rows, places


@numba.njit(cache=True, nogil=True)
def by_row(rows: np.ndarray, n: int) -> tuple:
    """Where each row stands in ``rows``: entries ``offsets[i]:offsets[i + 1]`` of the first array returned."""
    offsets = np.zeros(n + 1, dtype=np.int64)
    for row in rows:
        offsets[row + 1] += 1
    for row in range(n):
        offsets[row + 1] += offsets[row]
    slots, filled = np.empty(len(rows), dtype=np.int64), offsets[:n].copy()
    for slot, row in enumerate(rows):
        slots[filled[row]] = slot
        filled[row] += 1
    return slots, offsets


@numba.njit(cache=True, nogil=True)
def _equal(low: np.ndarray, a: int, b: int) -> int:
    """In how many bytes two rows agree."""
    same = np.int32(0)
    for at in range(low.shape[1]):
        same += np.int32(low[a, at] == low[b, at])
    return int(same)


@numba.njit(cache=True, nogil=True)
def meetings(rows: np.ndarray, places: np.ndarray, slots: np.ndarray, offsets: np.ndarray, start: int, reach: int,
             low: np.ndarray, least: float, met: np.ndarray, out: np.ndarray) -> tuple:  # fmt: skip
    """The pairs worth comparing of row ``start`` and those after it, as many rows as ``out`` is sure to have room for.

    Each row meets, in each of its buckets, the ``reach`` rows before it and the first. A pair counts once (``met``:
    the last row that met each row) and if at least ``least`` bytes of ``low`` are equal. Written to ``out`` are the
    row and the one it met; returned are the next row and how many pairs were written.
    """
    n, filled, row = len(offsets) - 1, 0, start
    while row < n:
        room = 0
        for at in range(offsets[row], offsets[row + 1]):
            room += min(places[slots[at]], reach + 1)
        if filled + min(room, row) > len(out):
            break
        met[row] = row
        for at in range(offsets[row], offsets[row + 1]):
            slot, place = slots[at], places[slots[at]]
            for back in range(min(place, reach) + 1):
                other = rows[slot - (back if back else place)]
                if met[other] != row:
                    met[other] = row
                    if _equal(low, other, row) >= least:
                        out[filled, 0], out[filled, 1] = row, other
                        filled += 1
        row += 1
    return row, filled


@numba.njit(cache=True, nogil=True)
def numbered(values: np.ndarray, offsets: np.ndarray, wanted: np.ndarray) -> tuple:
    """The rows wanted as sets of small numbers, one for each distinct value, and where each row starts; the others
    are empty. At last how many numbers there are."""
    n, room, total = len(offsets) - 1, 1 << 12, 0
    for row in range(n):
        total += offsets[row + 1] - offsets[row] if wanted[row] else 0
    codes, starts = np.empty(total, dtype=np.uint32), np.zeros(n + 1, dtype=np.int64)
    table = np.full(4 * room, -1, dtype=np.int32)
    known, seen = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int32)  # the value; the last row with it
    filled, n_codes = 0, 0
    for row in range(n):
        for at in range(offsets[row], offsets[row + 1] if wanted[row] else offsets[row]):
            value, mask = values[at], np.uint64(len(table) - 1)
            slot = (value ^ (value >> np.uint64(32))) & mask
            while table[slot] >= 0 and known[table[slot]] != value:
                slot = (slot + np.uint64(1)) & mask
            code = table[slot]
            if code < 0:
                code = np.int32(n_codes)
                table[slot] = code
                known[code], seen[code] = value, -1
                n_codes += 1
                if n_codes == room:
                    known = np.concatenate((known, np.empty(room, dtype=np.uint64)))
                    seen = np.concatenate((seen, np.empty(room, dtype=np.int32)))
                    room *= 2
                    table = _filled(known[:n_codes], 4 * room)
            if seen[code] != row:
                seen[code] = row
                codes[filled] = code
                filled += 1
        starts[row + 1] = filled
    return codes[:filled].copy(), starts, n_codes


@numba.njit(cache=True, nogil=True)
def _filled(known: np.ndarray, size: int) -> np.ndarray:
    """A table of ``size`` places, a power of two, with the number of each known value."""
    table, mask = np.full(size, -1, dtype=np.int32), np.uint64(size - 1)
    for code in range(len(known)):
        slot = (known[code] ^ (known[code] >> np.uint64(32))) & mask
        while table[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = code
    return table


@numba.njit(cache=True, nogil=True)
def overlaps(codes: np.ndarray, starts: np.ndarray, n_codes: int, pairs: np.ndarray) -> np.ndarray:
    """The Jaccard index of each pair of rows; quickest where pairs with the same first row stand together."""
    out, marks = np.zeros(len(pairs)), np.zeros(n_codes, dtype=np.uint8)
    held = codes[:0]
    row = -1
    for i in range(len(pairs)):
        if pairs[i, 0] != row:
            row = pairs[i, 0]
            for code in held:
                marks[code] = 0
            held = codes[starts[row] : starts[row + 1]]
            for code in held:
                marks[code] = 1
        other = codes[starts[pairs[i, 1]] : starts[pairs[i, 1] + 1]]
        common = np.uint32(0)
        for at in range(len(other)):
            common += np.uint32(marks[other[at]])
        union = len(held) + len(other) - np.int64(common)
        if union > 0:
            out[i] = common / union
    return out
