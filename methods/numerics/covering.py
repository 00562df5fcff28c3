"""Compiled: farthest-first traversal, in which a row meets the picks only when it may be the next of them.

Here belongs the search of `diversity/coreset.py`. Importing it imports the compiler; the compiled code is kept beside
it. What is chosen by it, and how it is told, does not belong here.

The distance of a row to its nearest pick only falls as picks are added, so the last one known bounds it. Rows wait in
a heap by that bound; the first is brought up to date pick by pick, until it falls behind the second (and waits on) or
has met all of them, and then no other row is farther. Rows that come near an early pick are never looked at again;
those that are looked at meet many picks while they stay in the cache, where the plain algorithm reads the whole pool
from memory for each pick.

Before each exact distance stands the product in single precision, with a bound of its error. Only where it leaves open
whether the pick is nearer is the distance computed in double precision, in a fixed order of the sums; it is rounded to
a whole number of steps, so that equal means equal and the result is the same on every machine. (The triangle inequality
over distances among the picks, as a further test before it, saved less than a tenth of the time.)
"""

from __future__ import annotations

import numba
import numpy as np

_FAST = {"reassoc", "contract", "nsz"}
_EPSILON = 2.0**-24


def farthest_first(vectors: np.ndarray, initial: np.ndarray, n_take: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order in which each is the farthest from all before, after some that are there already.

    Parameters
    ----------
    vectors : (n, d) float32, finite, C-contiguous.
    initial : int64, at least one: distinct rows picked before.
    n_take : rows to find, at most those that are left.
    step : squared distances are rounded to multiples of it; equal ones go to the lowest index.

    Returns
    -------
    order : (n_take,) int64.
    nearest : (n_take,) int64, the row picked before that is nearest to each; the first picked of equals.
    """
    squared = _squared(vectors)
    margin = 4.0 * (vectors.shape[1] + 4) * _EPSILON * max(float(squared.max(initial=0.0)), step)
    steps = _from_one(vectors, int(initial[0]), step, squared)
    rows = np.setdiff1d(np.arange(len(vectors)), initial)
    # One number orders the rows: by steps, then by the lowest index. Sorted, they are a heap.
    heap = np.sort(steps[rows] * len(vectors) + (len(vectors) - 1 - rows))[::-1].copy()
    return _search(vectors, initial, n_take, step, squared, margin, steps, heap)


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _product(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Inner product in single precision, in whatever order is fastest."""
    total = np.float32(0.0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@numba.njit(cache=True, nogil=True)
def _exact_product(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product in double precision, in a fixed order: eight sums side by side."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = len(a) - len(a) % 8
    for k in range(0, whole, 8):
        s0 += np.float64(a[k]) * np.float64(b[k])
        s1 += np.float64(a[k + 1]) * np.float64(b[k + 1])
        s2 += np.float64(a[k + 2]) * np.float64(b[k + 2])
        s3 += np.float64(a[k + 3]) * np.float64(b[k + 3])
        s4 += np.float64(a[k + 4]) * np.float64(b[k + 4])
        s5 += np.float64(a[k + 5]) * np.float64(b[k + 5])
        s6 += np.float64(a[k + 6]) * np.float64(b[k + 6])
        s7 += np.float64(a[k + 7]) * np.float64(b[k + 7])
    for k in range(whole, len(a)):
        s0 += np.float64(a[k]) * np.float64(b[k])
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@numba.njit(cache=True, nogil=True)
def _squared(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths."""
    found = np.empty(len(vectors), dtype=np.float64)
    for row in range(len(vectors)):
        found[row] = _exact_product(vectors[row], vectors[row])
    return found


@numba.njit(cache=True, nogil=True)
def _steps(a: np.ndarray, b: np.ndarray, squares: float, step: float) -> int:
    """Squared distance in whole steps; ``squares`` is the sum of both squared lengths."""
    return max(0, int(np.rint((squares - 2.0 * _exact_product(a, b)) / step)))


@numba.njit(cache=True, nogil=True)
def _from_one(vectors: np.ndarray, pick: int, step: float, squared: np.ndarray) -> np.ndarray:
    """Squared distances of all rows to one, in whole steps."""
    steps = np.empty(len(vectors), dtype=np.int64)
    for row in range(len(vectors)):
        steps[row] = _steps(vectors[row], vectors[pick], squared[row] + squared[pick], step)
    return steps


@numba.njit(cache=True, nogil=True)
def _sink(heap: np.ndarray, size: int, key: int) -> None:
    """Put ``key`` in place of the first of the heap, and down to where it belongs."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key


@numba.njit(cache=True, nogil=True)
def _search(
    vectors: np.ndarray,
    initial: np.ndarray,
    n_take: int,
    step: float,
    squared: np.ndarray,
    margin: float,
    steps: np.ndarray,
    heap: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n, d = vectors.shape
    picks = np.empty((len(initial) + n_take, d), dtype=np.float32)
    picked = np.empty(len(picks), dtype=np.int64)
    owner = np.zeros(n, dtype=np.int64)  # the nearest pick, by its place among the picks
    met = np.ones(n, dtype=np.int64)  # picks that the row was compared with
    order = np.empty(n_take, dtype=np.int64)
    nearest = np.empty(n_take, dtype=np.int64)
    known = len(initial)
    for place in range(known):
        picks[place], picked[place] = vectors[initial[place]], initial[place]
    size = len(heap)
    taken = 0
    while taken < n_take:
        first = heap[0]
        row = n - 1 - first % n
        second = np.int64(-1)
        if size > 1:
            second = heap[1]
        if size > 2 and heap[2] > second:
            second = heap[2]
        level, own = steps[row], owner[row]
        place, here = met[row], vectors[row]
        key = first
        while level and place < known and key > second:  # nothing is nearer than 0
            squares = squared[row] + squared[picked[place]]
            if squares - 2.0 * _product(here, picks[place]) - margin < (level - 0.5) * step:
                found = _steps(here, picks[place], squares, step)
                if found < level:
                    level, own = found, place
                    key = level * n + (n - 1 - row)
            place += 1
        steps[row], owner[row], met[row] = level, own, place
        if key < second:
            _sink(heap, size, key)
            continue
        order[taken], nearest[taken] = row, picked[own]
        picks[known], picked[known] = here, row
        taken += 1
        known += 1
        size -= 1
        _sink(heap, size, heap[size])
    return order, nearest
