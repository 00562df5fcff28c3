"""Compiled loops of the lazy greedy choice: over a kept matrix of similarities, and over a sparse graph of them.

Here belongs what must run once a number: gains, the queue of stale gains, lists of nearest rows, and the graph made of
them. Similarities are whole steps (`methods.diversity.maximise`), so that sums are exact in whatever order they are
added. What is maximised, and over which rows, stands with the methods. Imported only where it is used: it loads numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CHUNK = 256
"""So many steps of at most 2^22 add up to at most 2^30, which 32 bits hold."""

SPAN = 32
"""Products that are looked at together for one that matters."""


# --- the queue: rows by descending value, equal ones by index ---------------------------------------------------------
@njit(cache=True, nogil=True)
def _before(value: np.ndarray, a: int, b: int) -> bool:
    return value[a] > value[b] or (value[a] == value[b] and a < b)


@njit(cache=True, nogil=True)
def _sink(heap: np.ndarray, place: np.ndarray, size: int, value: np.ndarray, at: int) -> None:
    row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _before(value, heap[child + 1], heap[child]):
            child += 1
        if not _before(value, heap[child], row):
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = row
    place[row] = at


@njit(cache=True, nogil=True)
def _rise(heap: np.ndarray, place: np.ndarray, value: np.ndarray, at: int) -> None:
    row = heap[at]
    while at > 0:
        parent = (at - 1) // 2
        if not _before(value, row, heap[parent]):
            break
        heap[at] = heap[parent]
        place[heap[at]] = at
        at = parent
    heap[at] = row
    place[row] = at


@njit(cache=True, nogil=True)
def _queue(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(value)
    heap = np.arange(n)
    place = np.arange(n)
    for at in range(n // 2 - 1, -1, -1):
        _sink(heap, place, n, value, at)
    return heap, place


@njit(cache=True, nogil=True)
def _leave(heap: np.ndarray, place: np.ndarray, size: int, value: np.ndarray, row: int) -> None:
    """Takes a row out of a queue of ``size``; its value must still be the one it stands there with."""
    at = place[row]
    last = heap[size - 1]
    heap[at] = last
    place[last] = at
    if last != row:
        _sink(heap, place, size - 1, value, at)
        _rise(heap, place, value, place[last])


@njit(cache=True, nogil=True)
def _next(heap: np.ndarray, value: np.ndarray, known_at: np.ndarray, now: int, tie: float) -> int:
    """The row to compute anew, or the one to take: the lowest index within ``tie`` of the largest value."""
    top = heap[0]
    if known_at[top] != now or tie == 0.0:
        return top
    limit = value[top] - tie
    for row in range(top):
        if value[row] >= limit:
            return row
    return top


# --- over a kept matrix -----------------------------------------------------------------------------------------------
@njit(cache=True, nogil=True)
def _gain(similar: np.ndarray, reached: np.ndarray) -> np.int64:
    n = len(similar)
    whole = n - n % CHUNK
    total = np.int64(0)
    for start in range(0, whole, CHUNK):  # pieces of a fixed length, which the compiler turns into vector arithmetic
        here, there = similar[start : start + CHUNK], reached[start : start + CHUNK]
        part = np.int32(0)
        for i in range(CHUNK):
            more = np.int32(here[i] - there[i])
            part = np.int32(part + (more if more > 0 else np.int32(0)))
        total += part
    for i in range(whole, n):
        total += max(np.int64(similar[i]) - reached[i], 0)
    return total


@njit(cache=True, nogil=True)
def lazy_dense(
    matrix: np.ndarray, bound: np.ndarray, weight: float, extra: np.ndarray, tie: float, take: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The greedy choice of ``take`` rows of a matrix (rows, served), by ``weight`` x gain + ``extra``.

    Parameters
    ----------
    matrix : int32 (n, m), the similarity of each row to each that is served, 0 to 2^22.
    bound : int64 (n,), the sums of its rows.
    weight, extra, tie : float, float64 (n,), float; values within ``tie`` of the largest go to the lowest index.
    take : at most n.

    Returns
    -------
    order, gain (in steps) : int64. nearest : int64, which row served the picked one before, -1 without one (of use
    where n and m are the same rows). served : int64, for how many the pick became the nearest.
    """
    n, m = matrix.shape
    reached = np.zeros(m, np.int32)
    owner = np.full(m, -1)
    known_at = np.zeros(n, np.int64)
    value = weight * bound + extra
    heap, place = _queue(value)
    order, gain = np.empty(take, np.int64), np.empty(take, np.int64)
    nearest, served = np.full(take, -1), np.zeros(take, np.int64)
    gains = bound.copy()
    for now in range(take):
        row = _next(heap, value, known_at, now, tie)
        while known_at[row] != now:
            gains[row] = _gain(matrix[row], reached)
            value[row] = weight * gains[row] + extra[row]
            known_at[row] = now
            _sink(heap, place, n - now, value, place[row])
            row = _next(heap, value, known_at, now, tie)
        order[now], gain[now] = row, gains[row]
        if n == m:
            nearest[now] = owner[row]
        for i in range(m):
            if matrix[row, i] > reached[i] or now == 0:
                reached[i] = matrix[row, i]
                owner[i] = row
                served[now] += 1
        _leave(heap, place, n - now, value, row)
        value[row] = -np.inf
    return order, gain, nearest, served


# --- over a sparse graph ----------------------------------------------------------------------------------------------
@njit(cache=True, nogil=True)
def lazy_sparse(
    start: np.ndarray,
    other: np.ndarray,
    steps: np.ndarray,
    bound: np.ndarray,
    weight: float,
    extra: np.ndarray,
    tie: float,
    take: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `lazy_dense`, where row i serves only ``other[start[i]:start[i + 1]]``, with the similarities ``steps``."""
    n = len(bound)
    reached = np.zeros(n, np.int32)
    known_at = np.zeros(n, np.int64)
    value = weight * bound + extra
    heap, place = _queue(value)
    order, gain, served = np.empty(take, np.int64), np.empty(take, np.int64), np.zeros(take, np.int64)
    gains = bound.copy()
    for now in range(take):
        row = _next(heap, value, known_at, now, tie)
        while known_at[row] != now:
            total = 0
            for at in range(start[row], start[row + 1]):
                total += max(steps[at] - reached[other[at]], 0)
            gains[row] = total
            value[row] = weight * total + extra[row]
            known_at[row] = now
            _sink(heap, place, n - now, value, place[row])
            row = _next(heap, value, known_at, now, tie)
        order[now], gain[now] = row, gains[row]
        for at in range(start[row], start[row + 1]):
            if steps[at] > reached[other[at]]:
                reached[other[at]] = steps[at]
                served[now] += 1
        _leave(heap, place, n - now, value, row)
        value[row] = -np.inf
    return order, gain, served


# --- the graph --------------------------------------------------------------------------------------------------------
@njit(cache=True, nogil=True)
def _offer(values: np.ndarray, index: np.ndarray, row: int, value: float, name: int) -> None:
    """Puts a neighbour on a row's list (a heap with its worst at 0) if it is better than the worst there."""
    worst = values[row, 0]
    if value < worst or (value == worst and name > index[row, 0]):
        return
    k = values.shape[1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= k:
            break
        right = child + 1
        if right < k and (
            values[row, right] < values[row, child]
            or (values[row, right] == values[row, child] and index[row, right] > index[row, child])
        ):
            child = right
        if values[row, child] > value or (values[row, child] == value and index[row, child] < name):
            break
        values[row, at], index[row, at] = values[row, child], index[row, child]
        at = child
    values[row, at], index[row, at] = value, name


@njit(cache=True, nogil=True)
def _any_reach(products: np.ndarray, worst: np.ndarray, bar: float) -> bool:
    """Whether one of `SPAN` products reaches its row's or its column's worst neighbour; vector arithmetic."""
    some = np.int32(0)
    for c in range(SPAN):
        some |= np.int32(products[c] >= bar) | np.int32(products[c] >= worst[c])
    return some != 0


@njit(cache=True, nogil=True)
def offer_tile(products: np.ndarray, row0: int, col0: int, values: np.ndarray, index: np.ndarray) -> None:
    """Offers a tile of products to the lists of its rows and (off the diagonal) of its columns.

    ``products`` float32 (r, c): of rows from ``row0`` with rows from ``col0``; ``values`` float32 (n, k) and ``index``
    int32 (n, k): the lists, started with -inf and the largest index. A row is not its own neighbour. Equal products go
    to the lower index, so that the lists do not depend on the tiles.
    """
    rows, columns = products.shape
    same = row0 == col0
    worst = np.empty(columns, np.float32)
    for c in range(columns):
        worst[c] = np.float32(np.inf) if same else values[col0 + c, 0]
    for r in range(rows):
        here = row0 + r
        for begin in range(0, columns, SPAN):
            end = min(begin + SPAN, columns)
            if end - begin == SPAN and not _any_reach(products[r, begin:end], worst[begin:end], values[here, 0]):
                continue
            for c in range(begin, end):
                there = col0 + c
                if here == there:
                    continue
                if products[r, c] >= values[here, 0]:
                    _offer(values, index, here, products[r, c], there)
                if not same and products[r, c] >= worst[c]:
                    _offer(values, index, there, products[r, c], here)
                    worst[c] = values[there, 0]


@njit(cache=True, nogil=True)
def both_ways(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The graph in which rows are joined if either lists the other, each also with itself.

    ``index`` int32 (n, k), each row ascending. Gives ``start`` int64 (n + 1,) and ``other`` int32.
    """
    n, k = index.shape
    start = np.zeros(n + 1, np.int64)
    for fill in range(2):
        if fill == 0:
            other = np.empty(0, np.int32)
            at = np.ones(n, np.int64)
        else:
            start[1:] = np.cumsum(at)
            other = np.empty(start[n], np.int32)
            at[:] = start[:n]
            for i in range(n):
                other[at[i]] = i
                at[i] += 1
        for i in range(n):
            for c in range(k):
                j = index[i, c]
                if fill == 1:
                    other[at[i]] = j
                at[i] += 1
                found = np.searchsorted(index[j], i)
                if found == k or index[j, found] != i:
                    if fill == 1:
                        other[at[j]] = i
                    at[j] += 1
    return start, other


@njit(cache=True, nogil=True)
def edge_products(vectors: np.ndarray, start: np.ndarray, other: np.ndarray, first: int, last: int) -> np.ndarray:
    """Inner products of the rows ``first`` to ``last`` with those they are joined to, float64.

    ``vectors`` float32 (n, d) on the grid: every partial sum is exact, so that its order does not matter.
    """
    d = vectors.shape[1]
    out = np.empty(start[last] - start[first], np.float64)
    left = np.empty(d, np.float64)
    for i in range(first, last):
        left[:] = vectors[i]
        for at in range(start[i], start[i + 1]):
            right = vectors[other[at]]
            a, b, c, e = 0.0, 0.0, 0.0, 0.0
            whole = d - d % 4
            for x in range(0, whole, 4):
                a += left[x] * right[x]
                b += left[x + 1] * right[x + 1]
                c += left[x + 2] * right[x + 2]
                e += left[x + 3] * right[x + 3]
            for x in range(whole, d):
                a += left[x] * right[x]
            out[at - start[first]] = (a + b) + (c + e)
    return out
