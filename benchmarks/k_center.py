"""K-center greedy: the choice of the plain algorithm, and how much sooner.

    python -m benchmarks.k_center --rows 50000 --picks 1000 [--vectors file.npy]

Here belongs the comparison of `methods.diversity.coreset.k_center_greedy` with farthest-point sampling as it is
printed: one matrix-vector product over all rows a pick (NumPy, float32), in one process on one thread. Vectors are
those of the file (n x d, normalised here) or made by a seed: about unequal clusters' centres, of which one set is
tight, one loose, and one has no clusters at all. The same rows must be chosen in the same order. Prints Markdown.

Both sides tell squared distances apart in steps of 1e-6 and give equal ones to the lowest index. A float32 product
cannot place them in such steps by itself, so the plain side looks up the distance of the few rows within 1e-5 of the
farthest in float64. That takes it less than a hundredth of its time.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.diversity.coreset import TIE, k_center_greedy  # noqa: E402
from methods.kinds import Candidates  # noqa: E402

WIDTH = 384
CLOSE = 1e-5
SETS = (
    ("200 clusters, loose", 200, 1.0),
    ("200 clusters, tight", 200, 0.5),
    ("1,000 clusters", 1000, 0.6),
    ("none", 1, 1e3),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--vectors", type=Path, help=".npy of shape (n, d)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of ours of which the fastest counts")
    given = parser.parse_args()
    if given.vectors:
        sets = [(given.vectors.name, unit(np.load(given.vectors, mmap_mode="r")[: given.rows]))]
    else:
        sets = [(name, made(given.rows, centres, noise)) for name, centres, noise in SETS]
    ours(made(100, 5, 1.0), 5)  # compiles
    print(f"{given.rows:,} rows of {WIDTH} dimensions, {given.picks:,} picks, one thread, seconds\n")
    print("| clusters | a product a pick | ours | times faster | covering radius |\n|---|---|---|---|---|")
    for name, vectors in sets:
        start = time.perf_counter()
        expected = plain(vectors, given.picks)
        slow = time.perf_counter() - start
        spent = []
        for _ in range(given.repeats):
            start = time.perf_counter()
            found, radius = ours(vectors, given.picks)
            spent.append(time.perf_counter() - start)
        assert found == expected, f"{name}: another choice from pick {first_difference(found, expected)}"
        print(f"| {name} | {slow:.2f} | {min(spent):.2f} | {slow / min(spent):.1f} | {radius} |", flush=True)


def made(rows: int, centres: int, noise: float, seed: int = 0) -> np.ndarray:
    """Unit vectors about unequal clusters' centres, float32; ``noise`` is their length beside that of a centre."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, WIDTH))
    share = rng.dirichlet(np.full(centres, 0.5))
    return unit(middle[rng.choice(centres, rows, p=share)] + noise * rng.normal(size=(rows, WIDTH)))


def unit(vectors: np.ndarray) -> np.ndarray:
    """The finite rows, of unit length, float32."""
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def ours(vectors: np.ndarray, picks: int) -> tuple[list[int], str]:
    """The rows chosen, from row 0 on, and the covering radius as the last reason tells it."""
    ids = pl.Series([f"{i:08d}" for i in range(len(vectors))], dtype=pl.String)
    found = k_center_greedy(Candidates(ids, vectors=vectors), picks, 0, start=0)
    return found.order.tolist(), found.reason[-1].split("within ")[1].split()[0]


def plain(vectors: np.ndarray, picks: int) -> list[int]:
    """As it is printed: the distances of all rows to each new pick, and the largest of the running minima."""
    squared = np.einsum("ij,ij->i", vectors, vectors)
    step = TIE * float(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max())
    away = np.full(len(vectors), np.inf, dtype=np.float32)
    nearest = np.zeros(len(vectors), dtype=np.int64)
    order = [0]
    while len(order) < picks:
        row = order[-1]
        found = squared + squared[row] - 2 * (vectors @ vectors[row])
        closer = found < away
        away[closer], nearest[closer] = found[closer], row
        away[row] = -np.inf
        close = np.flatnonzero(away >= away.max() - CLOSE)
        here, there = vectors[close].astype(np.float64), vectors[nearest[close]].astype(np.float64)
        exact = (here**2).sum(axis=1) + (there**2).sum(axis=1) - 2 * (here * there).sum(axis=1)
        order.append(int(close[np.rint(exact / step).argmax()]))
    return order


def first_difference(left: list[int], right: list[int]) -> int:
    """The place from which two choices differ."""
    return next(i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)


if __name__ == "__main__":
    main()
