"""Cosines that do not depend on how the work was cut."""

from fractions import Fraction

import numpy as np
import pytest

from methods.numerics.similarity import QUANTUM, blocks, cosines, in_two, on_grid, units, usable_rows


def unit_rows(n, d, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_cosines_are_within_a_millionth_of_the_plain_ones():
    a, b = unit_rows(40, 384, 1), unit_rows(30, 384, 2)
    plain = a.astype(np.float64) @ b.T.astype(np.float64)
    assert np.abs(cosines(a, b) - plain).max() < 1e-6


def test_every_cut_and_every_order_of_addition_gives_the_same_bits():
    a = on_grid(unit_rows(60, 97, 3))
    whole = units(a, a)
    one_by_one = np.vstack([units(a[i : i + 1], a) for i in range(60)])
    shuffled = np.random.default_rng(0).permutation(97)
    assert np.array_equal(whole, one_by_one)
    assert np.array_equal(whole, units(a[:, shuffled], a[:, shuffled]))
    assert np.array_equal(whole, whole.T)


def test_the_grid_is_that_of_the_docstring():
    rows = unit_rows(20, 384, 8)
    assert not np.array_equal(rows * 2.0**26, np.rint(rows * 2.0**26))
    grid = on_grid(rows)
    assert np.array_equal(grid * 2.0**26, np.rint(grid * 2.0**26))
    assert np.abs(grid - rows).max() <= 2.0**-27


@pytest.mark.parametrize(("n", "d"), [(1, 3), (40, 97), (3000, 384)])
def test_products_with_both_parts_of_a_sum_are_exact(n, d):
    rows = on_grid(unit_rows(n, d, 9) + np.float32(0.5 / d))  # with a mean, so that the sum is long
    total = rows.sum(axis=0)
    parts = in_two(total)
    assert np.array_equal(parts.sum(axis=0), total)
    whole = [int(x) for x in total * 2.0**26]
    for row, found in zip(rows[:5], rows[:5] @ parts.T, strict=True):
        exact = sum(int(x) * y for x, y in zip(row * 2.0**26, whole, strict=True))
        assert sum(Fraction(x) for x in found.tolist()) == Fraction(exact, 2**52)


def test_results_are_whole_units_that_float32_holds_exactly():
    found = cosines(unit_rows(20, 50, 4), unit_rows(20, 50, 5))
    assert np.array_equal(found, np.rint(found / QUANTUM) * QUANTUM)
    assert np.array_equal(found, found.astype(np.float32).astype(np.float64))


def test_a_row_with_itself_is_exactly_one_even_if_rounding_made_it_longer():
    rows = unit_rows(50, 384, 6) * np.float32(1 + 3e-6)
    assert np.diag(cosines(rows, rows)).max() == 1.0


def test_usable_rows_leaves_out_nan_and_infinity():
    rows = unit_rows(5, 3)
    rows[1, 0], rows[3, 2] = np.nan, np.inf
    assert usable_rows(rows).tolist() == [0, 2, 4]
    assert usable_rows(rows, block=2).tolist() == [0, 2, 4]
    assert usable_rows(np.empty((0, 3), dtype=np.float32)).tolist() == []


def test_usable_rows_refuses_long_vectors_and_other_shapes():
    with pytest.raises(ValueError, match="row 1 has length 5"):
        usable_rows(np.array([[1, 0], [3, 4]], dtype=np.float32))
    with pytest.raises(ValueError, match="matrix"):
        usable_rows(np.ones(3, dtype=np.float32))


def test_blocks_cover_the_range_once():
    assert [(s.start, s.stop) for s in blocks(5, 2)] == [(0, 2), (2, 4), (4, 5)]
    assert list(blocks(0, 2)) == []
    with pytest.raises(ValueError, match="at least one row"):
        list(blocks(3, 0))
