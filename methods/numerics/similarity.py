"""Cosines of unit vectors that do not depend on how the work was cut into blocks.

A float32 matrix product changes in its last bits with the shape of the block, the number of threads and the BLAS at
hand, and with it change ties, thresholds and "the same result as before". Here the vectors are first rounded to a
grid of 2^-26. Products of two such numbers are multiples of 2^-52, and every partial sum for vectors of unit length
stays below 2, so that float64 holds each of them *exactly*, in whatever order they are added. The exact cosine is
then rounded once to a multiple of 2^-20 (about 1e-6), which float32 holds exactly too: rows whose cosines agree to
about 1e-6 are tied, and the result is the same for every block size, thread count and machine. The distance to the
unrounded cosine is below 1e-6.

What is done with the cosines (nearest neighbours, clusters, filters) does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import frexp

import numpy as np

GRID_BITS = 26
QUANTUM_BITS = 20
QUANTUM = 2.0**-QUANTUM_BITS
"""Cosines are multiples of this; two cosines that differ by less are tied."""
BLOCK = 2048
"""Rows handled at a time: a block of cosines is at most `BLOCK` x `TILE` float64."""
TILE = 4096


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Cut ``range(n)`` into slices of at most ``size``."""
    if size < 1:
        raise ValueError(f"a block must hold at least one row, got block={size}")
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def usable_rows(vectors: np.ndarray, block: int = 16_384) -> np.ndarray:
    """Ascending int64 indices of the rows without NaN or infinity; refuses vectors longer than one.

    Raises
    ------
    ValueError
        If ``vectors`` is no matrix, or a row is longer than unit length (the arithmetic here is exact only up to it).
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be a matrix (rows, dimensions), got shape {vectors.shape}")
    squared = np.empty(len(vectors), dtype=np.float64)
    for part in blocks(len(vectors), block):
        squared[part] = np.einsum("ij,ij->i", vectors[part], vectors[part], dtype=np.float64)
    usable = np.flatnonzero(np.isfinite(squared))
    too_long = usable[squared[usable] > 1.01]
    if too_long.size:
        first = int(too_long[0])
        length = float(np.sqrt(squared[first]))
        raise ValueError(f"vectors must be of unit length: row {first} has length {length:.4g}; normalise them first")
    return usable.astype(np.int64)


def on_grid(vectors: np.ndarray) -> np.ndarray:
    """The vectors as float64 multiples of 2^-26: the form in which `units` is exact."""
    grid = vectors.astype(np.float64)
    grid *= 2.0**GRID_BITS
    np.rint(grid, out=grid)
    grid *= 2.0**-GRID_BITS
    return grid


def in_two(total: np.ndarray) -> np.ndarray:
    """(2, d): a sum of vectors on the grid as its high and its low bits.

    Products of a vector on the grid with either are exact, for sums of some millions of vectors; those with the sum
    itself are not, and may differ between copies of a row.
    """
    bits = frexp(float(np.linalg.norm(total)))[1]
    high = np.rint(total * 2.0 ** (GRID_BITS - bits)) * 2.0 ** (bits - GRID_BITS)
    return np.stack([high, total - high])


def units(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines of every row of ``left`` with every row of ``right``, in whole units of `QUANTUM`.

    Parameters
    ----------
    left, right : arrays (n, d) and (m, d) from `on_grid`, rows of at most unit length and finite.

    Returns
    -------
    array (n, m) float64 of whole numbers in [-2^20, 2^20]; times `QUANTUM` they are the cosines.
    """
    found = (left * 2.0**QUANTUM_BITS) @ right.T
    np.rint(found, out=found)
    return np.clip(found, -(2.0**QUANTUM_BITS), 2.0**QUANTUM_BITS, out=found)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """As `units`, but from plain vectors and as float64 cosines in [-1, 1]. For small products."""
    return units(on_grid(left), on_grid(right)) * QUANTUM
