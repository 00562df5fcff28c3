"""Compiled: a free point among fixed ones, moved down the mean logarithm of its distances.

Here belong the gradient and the steps. What is descended for does not belong here. Importing this module imports the
compiler; the compiled code is kept beside it.

Near a fixed point the slope is steep and a step overshoots: two descents that differ in the last bit may end far from
each other. So every sum here is taken in one order, whatever the machine, and matrix products are not used.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def slope(columns: np.ndarray, point: np.ndarray, floor: float, inside: float) -> np.ndarray:
    """The gradient in ``point`` of mean_i ln(r_i + inside) with r_i its distance to the i-th fixed point.

    ``columns`` is (dimensions, fixed points) float64. Fixed points whose squared distance is at most ``floor`` do not
    pull.
    """
    d, n = columns.shape
    pull = np.zeros(n)
    for j in range(d):
        for i in range(n):
            gap = point[j] - columns[j, i]
            pull[i] += gap * gap
    for i in range(n):
        length = np.sqrt(pull[i])
        pull[i] = 1 / ((length + inside) * length) if pull[i] > floor else 0.0
    found = np.zeros(d)
    for j in range(d):
        for i in range(n):
            found[j] += pull[i] * (point[j] - columns[j, i])
    return found / n


@numba.njit(cache=True, nogil=True)
def descend(columns: np.ndarray, point: np.ndarray, step: float, steps: int, floor: float, inside: float) -> np.ndarray:
    """Where ``point`` ends after ``steps`` steps of ``step`` times the `slope`."""
    for _ in range(steps):
        point = point - step * slope(columns, point, floor, inside)
    return point
