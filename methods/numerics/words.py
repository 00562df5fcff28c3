"""Kernels over the words of a block of rows, compiled: one pass over flat arrays for all rows, linear in the words.

Here belongs arithmetic on words only: coding their hashes, stretches, windows, draws, n-grams. What a number means,
when it is defined and what it is called stands with the indicators. The arrays are those of `methods.flat.Flat`;
a row whose number is not defined gets NaN. Rows are independent of each other and of the block that they stand in.

Most kernels need only ``previous``: where in its row a word stood last before (-1: nowhere). A word is the first of
its type in the stretch from ``start`` on exactly if its ``previous`` is less than ``start``, so that no set is kept.

Importing this module imports the compiler: import it inside functions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_kernel: Any = numba.njit(cache=True, nogil=True)  # compiled on first use, kept on disk, other threads not held back

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@_kernel
def _mixed(x: np.uint64) -> np.uint64:
    """A number whose every bit depends on all bits of x (the finish of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


# --- coding ----------------------------------------------------------------------------------------------------------
@_kernel
def _slots(keys: np.ndarray, n_types: int, bits: int) -> np.ndarray:
    """An open-addressing table of 2**bits places that holds the codes of ``keys[:n_types]``; -1 is a free place."""
    slots = np.full(1 << bits, -1, np.int32)
    mask, shift = np.int64((1 << bits) - 1), np.uint64(64 - bits)
    for code in range(n_types):
        at = np.int64((keys[code] * _GOLDEN) >> shift)
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = code
    return slots


@_kernel
def code_words(
    hashes: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes in order of first appearance, and what a row's words say about each other.

    Parameters
    ----------
    hashes : (m,) uint64, the words of all rows one after another.
    offsets : (n + 1,) int64, row r is ``hashes[offsets[r]:offsets[r + 1]]``.

    Returns
    -------
    codes : (m,) int32 from 0 on. previous : (m,) int32. types : (n,) int64 distinct words of each row.
    fingerprints : (n,) uint64, a hash of each row's words in order. keys : (n_types,) uint64, the hash of each code.
    """
    bits, n_types = 12, 0
    keys, last = np.empty(1 << 11, np.uint64), np.full(1 << 11, -1, np.int64)  # last: flat place, whatever the row
    slots = _slots(keys, 0, bits)
    mask, shift = np.int64((1 << bits) - 1), np.uint64(64 - bits)
    codes, previous = np.empty(len(hashes), np.int32), np.empty(len(hashes), np.int32)
    types, fingerprints = np.zeros(len(offsets) - 1, np.int64), np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(offsets) - 1):
        start, fingerprint = offsets[row], _GOLDEN
        for at in range(start, offsets[row + 1]):
            key = hashes[at]
            place = np.int64((key * _GOLDEN) >> shift)
            while slots[place] >= 0 and keys[slots[place]] != key:
                place = (place + 1) & mask
            code = slots[place]
            if code < 0:
                code = np.int32(n_types)
                slots[place], keys[code] = code, key
                n_types += 1
                if n_types == len(keys):  # half of the places are taken: double
                    bits += 1
                    mask, shift = np.int64((1 << bits) - 1), np.uint64(64 - bits)
                    keys = np.concatenate((keys, np.empty(n_types, np.uint64)))
                    last = np.concatenate((last, np.full(n_types, -1, np.int64)))
                    slots = _slots(keys, n_types, bits)
            codes[at] = code
            if last[code] >= start:
                previous[at] = last[code] - start
            else:
                previous[at] = -1
                types[row] += 1
            last[code] = at
            fingerprint = (fingerprint ^ key) * _MIX_1
            fingerprint ^= fingerprint >> np.uint64(29)
        fingerprints[row] = fingerprint
    return codes, previous, types, fingerprints, keys[:n_types].copy()


# --- stretches -------------------------------------------------------------------------------------------------------
@_kernel
def _longest(offsets: np.ndarray) -> int:
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@_kernel
def factors(previous: np.ndarray, offsets: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """MTLD's factors of each row, read forward and backward: stretches after which types / tokens <= threshold, and a
    part of one for the rest."""
    n_rows = len(offsets) - 1
    forward, backward = np.zeros(n_rows), np.zeros(n_rows)
    following = np.empty(_longest(offsets), np.int32)
    for row in range(n_rows):
        words = previous[offsets[row] : offsets[row + 1]]
        n = len(words)
        start, types, ratio, full = 0, 0, 1.0, 0
        for at in range(n):
            types += words[at] < start
            ratio = types / (at - start + 1)
            following[at] = n
            if words[at] >= 0:
                following[words[at]] = at
            if ratio <= threshold:
                start, types, ratio, full = at + 1, 0, 1.0, full + 1
        forward[row] = full + (1.0 - ratio) / (1.0 - threshold)
        start, types, ratio, full = n - 1, 0, 1.0, 0
        for at in range(n - 1, -1, -1):
            types += following[at] > start
            ratio = types / (start - at + 1)
            if ratio <= threshold:
                start, types, ratio, full = at - 1, 0, 1.0, full + 1
        backward[row] = full + (1.0 - ratio) / (1.0 - threshold)
    return forward, backward


@_kernel
def wrapped_lengths(previous: np.ndarray, offsets: np.ndarray, threshold: float, least: int) -> np.ndarray:
    """Mean over all starts of the words that it takes, in the text read twice, until types / tokens < threshold.

    From t types on, the ratio cannot fall below the threshold within t / threshold words: the words up to there are
    only counted, in a loop without a branch.
    """
    out = np.full(len(offsets) - 1, np.nan)
    longest = _longest(offsets)
    twice, first, final = np.empty(2 * longest, np.int32), np.empty(longest, np.int32), np.empty(longest, np.int32)
    for row in range(len(offsets) - 1):
        words = previous[offsets[row] : offsets[row + 1]]
        n = len(words)
        for at in range(n):
            first[at] = at if words[at] < 0 else first[words[at]]
            final[first[at]] = at
            twice[at] = words[at]
        for at in range(n):
            twice[n + at] = words[at] + n if words[at] >= 0 else final[at]
        dropped, total = 0, 0
        for start in range(n):
            length, wanted, types = 0, least, 0
            while start + wanted <= 2 * n:
                for at in range(start + length, start + wanted):
                    types += twice[at] < start
                length = wanted
                if types / length < threshold:
                    dropped += 1
                    total += length
                    break
                wanted = max(length + 1, int(types / threshold))
        if dropped:
            out[row] = total / dropped
    return out


@_kernel
def longest_runs(previous: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The most times that one word stands in a row, for each row."""
    out = np.zeros(len(offsets) - 1)
    for row in range(len(offsets) - 1):
        words = previous[offsets[row] : offsets[row + 1]]
        run, longest = 0, 0
        for at in range(len(words)):
            run = run + 1 if at and words[at] == at - 1 else 1
            longest = max(longest, run)
        out[row] = longest
    return out


# --- windows ---------------------------------------------------------------------------------------------------------
@_kernel
def moving_ratio(previous: np.ndarray, offsets: np.ndarray, window: int) -> np.ndarray:
    """Mean of types / window over all windows: each word counts in those in which it is the first of its type."""
    out = np.full(len(offsets) - 1, np.nan)
    for row in range(len(offsets) - 1):
        words = previous[offsets[row] : offsets[row + 1]]
        last, types = len(words) - window, 0
        if last < 0:
            continue
        for at in range(len(words)):
            types += max(min(at, last) - max(words[at] + 1, at - window + 1) + 1, 0)
        out[row] = types / window / (last + 1)
    return out


@_kernel
def segment_ratio(previous: np.ndarray, offsets: np.ndarray, window: int) -> np.ndarray:
    """Mean of types / window over the full windows that stand one after another from the row's start."""
    out = np.full(len(offsets) - 1, np.nan)
    for row in range(len(offsets) - 1):
        words = previous[offsets[row] : offsets[row + 1]]
        segments, types = len(words) // window, 0
        if segments == 0:
            continue
        for segment in range(segments):
            start = segment * window
            for at in range(start, start + window):
                types += words[at] < start
        out[row] = types / window / segments
    return out


# --- draws -----------------------------------------------------------------------------------------------------------
@_kernel
def _spectrum(words: np.ndarray, count: np.ndarray, of_count: np.ndarray) -> int:
    """Types that occur c times into ``of_count[c]`` (zeros before); returns the largest c. ``count`` is scratch."""
    most = 0
    for at in range(len(words)):
        c = 1 if words[at] < 0 else count[words[at]] + 1
        count[at] = c
        of_count[c] += 1
        if c > 1:
            of_count[c - 1] -= 1
        most = max(most, c)
    return most


@_kernel
def _expected(of_count: np.ndarray, most: int, n: int, k: int) -> float:
    """Mean of types / k over all draws of k of n words: of a type with count c none is drawn with probability
    C(n-c, k) / C(n, k), which is that of c - 1 times (n-k-c+1) / (n-c+1)."""
    missed, types = 1.0, 0.0
    for c in range(1, most + 1):
        missed *= max(n - k - c + 1, 0) / (n - c + 1)
        types += of_count[c] * (1.0 - missed)
    return types / k


@_kernel
def expected_ratios(previous: np.ndarray, offsets: np.ndarray, k_min: int, k_max: int) -> np.ndarray:
    """(n, k_max - k_min + 1): the exact mean of types / k over all draws of k words without putting back (HD-D), for
    each k; NaN in rows of fewer than k_max words."""
    out = np.full((len(offsets) - 1, k_max - k_min + 1), np.nan)
    longest = _longest(offsets)
    count, of_count = np.empty(longest, np.int32), np.zeros(longest + 1, np.int64)
    for row in range(len(offsets) - 1):
        words = previous[offsets[row] : offsets[row + 1]]
        if len(words) < k_max:
            continue
        most = _spectrum(words, count, of_count)
        for k in range(k_min, k_max + 1):
            out[row, k - k_min] = _expected(of_count, most, len(words), k)
        of_count[: most + 1] = 0
    return out


@_kernel
def _type_numbers(words: np.ndarray, number: np.ndarray, seen: np.ndarray) -> None:
    """The row's own number of each word's type into ``number``, and zeros into ``seen`` for all of them."""
    types = 0
    for at in range(len(words)):
        if words[at] < 0:
            number[at] = types
            seen[types] = 0
            types += 1
        else:
            number[at] = number[words[at]]


@_kernel
def _drawn(number: np.ndarray, seen: np.ndarray, state: np.ndarray, k: int, draws: int, drawn_before: int) -> float:
    """Mean of types / k over random draws: the first k steps of a shuffle, each from where the last draw left off.

    ``seen`` holds the last draw in which a type was seen; draws are numbered from ``drawn_before + 1`` on.
    """
    n, types = np.uint64(len(number)), 0
    for draw in range(drawn_before + 1, drawn_before + draws + 1):
        for i in range(k):
            state[0] += _GOLDEN
            bits = _mixed(state[0]) >> np.uint64(32)
            j = i + np.int64((bits * (n - np.uint64(i))) >> np.uint64(32))
            word = number[j]
            number[j] = number[i]
            number[i] = word
            if seen[word] != draw:
                seen[word] = draw
                types += 1
    return types / k / draws


@_kernel
def drawn_ratios(
    previous: np.ndarray, offsets: np.ndarray, fingerprints: np.ndarray, k_min: int, k_max: int, draws: int,
    repeats: int, seed: int,
) -> np.ndarray:  # fmt: skip
    """(n, repeats, k_max - k_min + 1): the mean of types / k over random draws of k words, for each k; NaN in rows of
    fewer than k_max words. A row's draws depend on its words (``fingerprints``) and the seed alone."""
    out = np.full((len(offsets) - 1, repeats, k_max - k_min + 1), np.nan)
    number, seen = np.empty(_longest(offsets), np.int32), np.empty(_longest(offsets), np.int64)
    state = np.empty(1, np.uint64)
    for row in range(len(offsets) - 1):
        words = previous[offsets[row] : offsets[row + 1]]
        if len(words) < k_max:
            continue
        _type_numbers(words, number, seen)
        state[0] = fingerprints[row] ^ _mixed(np.uint64(seed) + _GOLDEN)
        done = 0
        for repeat in range(repeats):
            for k in range(k_min, k_max + 1):
                out[row, repeat, k - k_min] = _drawn(number[: len(words)], seen, state, k, draws, done)
                done += draws
    return out


# --- vocd's curve ----------------------------------------------------------------------------------------------------
@_kernel
def _fit(k_min: int, ratios: np.ndarray) -> float:
    """One D. Each ratio y alone would give D = k y^2 / (2 (1 - y)). The answer is not below the least of these; an
    upper bound is sought by doubling, and the zero of the slope between the two by Newton steps kept inside."""
    low, high = np.inf, np.inf
    for i in range(len(ratios)):
        if ratios[i] < 1.0:
            low = min(low, (k_min + i) * ratios[i] ** 2 / (2.0 * (1.0 - ratios[i])))
        elif ratios[i] != 1.0:
            return np.nan
    d = low
    for _ in range(200):
        if d == np.inf:
            break
        slope, curve = 0.0, 0.0
        for i in range(len(ratios)):
            root = np.sqrt(1.0 + 2.0 * (k_min + i) / d)
            rise = 2.0 * (k_min + i) / (d * d * root * (1.0 + root) ** 2)
            slope += (2.0 / (1.0 + root) - ratios[i]) * rise
            curve += rise * rise
        if slope > 0.0:
            high = d
        else:
            low = d
        after = d - slope / curve
        if high == np.inf:
            after = min(max(after, 1.01 * d), 2.0 * d)
        elif not low < after < high:
            after = 0.5 * (low + high)
        if abs(after - d) <= 1e-13 * d:
            return after
        d = after
    return d


@_kernel
def fitted_d(k_min: int, ratios: np.ndarray) -> np.ndarray:
    """For each line of ratios of k_min, k_min + 1, ... words the D whose curve is nearest to it in least squares:
    2 / (1 + sqrt(1 + 2k/D)), which is (D/k)(sqrt(1 + 2k/D) - 1). Infinite where all ratios are 1."""
    out = np.empty(len(ratios))
    for line in range(len(ratios)):
        out[line] = _fit(k_min, ratios[line])
    return out


# --- n-grams ---------------------------------------------------------------------------------------------------------
@_kernel
def _number_grams(
    codes: np.ndarray, n: int, ids: np.ndarray, keys: np.ndarray, held: np.ndarray, stamps: np.ndarray, stamp: int
) -> int:
    """Equal n-grams of a row get equal ``ids`` from 0 on; returns how many there are. Exact: a gram of j words is the
    pair of its first j - 1 words' id and its last word. ``stamp``s up to ``stamp + n - 1`` are used up."""
    bits = 1
    while (1 << bits) < 2 * len(codes):
        bits += 1
    mask, shift = np.int64((1 << bits) - 1), np.uint64(64 - bits)
    found = 0
    for level in range(n):
        found = 0
        for at in range(len(codes) - n + 1):
            before = ids[at] if level else 0
            key = (np.uint64(before) << np.uint64(32)) | np.uint64(codes[at + level])
            place = np.int64((_mixed(key) * _GOLDEN) >> shift)
            while stamps[place] == stamp + level and keys[place] != key:
                place = (place + 1) & mask
            if stamps[place] != stamp + level:
                stamps[place], keys[place], held[place] = stamp + level, key, found
                found += 1
            ids[at] = held[place]
    return found


@_kernel
def gram_counts(codes: np.ndarray, offsets: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row its distinct n-grams, and its words that stand inside an n-gram that occurs more than once."""
    n_rows, longest = len(offsets) - 1, _longest(offsets)
    distinct, covered = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
    ids, times = np.empty(longest, np.int32), np.empty(longest, np.int32)
    size = 2
    while size < 2 * longest:
        size *= 2
    keys, held, stamps = np.empty(size, np.uint64), np.empty(size, np.int32), np.full(size, -1, np.int64)
    for row in range(n_rows):
        words = codes[offsets[row] : offsets[row + 1]]
        if len(words) < n:
            continue
        found = _number_grams(words, n, ids, keys, held, stamps, row * n)
        grams = len(words) - n + 1
        distinct[row] = found
        if found == grams:
            continue
        times[:found] = 0
        for at in range(grams):
            times[ids[at]] += 1
        end = 0  # words before it are counted already
        for at in range(grams):
            if times[ids[at]] > 1:
                covered[row] += at + n - max(at, end)
                end = at + n
    return distinct, covered
