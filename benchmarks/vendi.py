"""The Vendi score: how near to the eigenvalues of the N x N kernel, and how its cost grows with N.

    python -m benchmarks.vendi --rows 29700 [--vectors file.npy]

Here belongs the comparison of `methods.diversity.vendi` with the N x N eigenvalues (numpy) and with the package
``vendi-score`` (a development dependency), in one process on one thread. Vectors are those of the file (n x d,
normalised here) or made: unit vectors about seeded centres. Both sides get the same float32 vectors and work in
float64. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.diversity.vendi import vendi  # noqa: E402
from methods.kinds import Subset  # noqa: E402

ORDERS: tuple[float | str, ...] = (0.1, 0.5, 1, 2, "inf")
SMALL = 3000
WIDTH = 384


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=29_700, help="largest N")
    parser.add_argument("--vectors", type=Path, help=".npy of shape (n, d)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts")
    given = parser.parse_args()
    vectors = read(given.vectors, given.rows) if given.vectors else made(given.rows)
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} dimensions, one thread\n")
    exactness(vectors[:SMALL])
    growth(vectors, given.repeats)
    radial(vectors[:SMALL])


def made(rows: int, centres: int = 200, seed: int = 0) -> np.ndarray:
    """Unit vectors about unequal clusters' centres, float32."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, WIDTH))
    share = rng.dirichlet(np.full(centres, 0.5))
    return unit(middle[rng.choice(centres, rows, p=share)] + rng.normal(size=(rows, WIDTH)))


def read(path: Path, rows: int) -> np.ndarray:
    """The first rows of the file that are finite, of unit length."""
    vectors = np.load(path, mmap_mode="r")[:rows]
    return unit(vectors[np.isfinite(vectors).all(axis=1)])


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows, of unit length, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def as_set(vectors: np.ndarray) -> Subset:
    """The vectors as a set."""
    return Subset(pl.Series([f"{i:08d}" for i in range(len(vectors))], dtype=pl.String), vectors)


def from_eigenvalues(values: np.ndarray, order: float | str) -> float:
    """The score written down anew: the exponential of the entropy of this order, noise left out."""
    values = values[values > 1e-10]
    if order == "inf":
        return float(1 / values.max())
    if order == 1:
        return float(np.exp(-np.sum(values * np.log(values))))
    return float(np.sum(values ** float(order)) ** (1 / (1 - float(order))))


def timed(work: Callable[[], object], repeats: int) -> float:
    """The least seconds of some runs."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def exactness(vectors: np.ndarray) -> None:
    """Ours against the eigenvalues of the N x N matrix, for every order."""
    points = vectors.astype(np.float64)
    values = np.linalg.eigvalsh(points @ points.T / len(points))
    data, worst = as_set(vectors), 0.0
    print(f"### Cosine kernel against the N x N eigenvalues, N = {len(vectors):,}\n")
    print("| order | N x N | ours | relative difference |\n|---|---|---|---|")
    for order in ORDERS:
        theirs, mine = from_eigenvalues(values, order), vendi(data, order)
        assert mine is not None
        gap = abs(mine / theirs - 1)
        worst = max(worst, gap)
        print(f"| {order} | {theirs:.9f} | {mine:.9f} | {gap:.1e} |")
    print(f"\nLargest relative difference {worst:.1e}.\n")


def growth(vectors: np.ndarray, repeats: int) -> None:
    """Seconds at an eighth, a quarter, a half and all of the rows; and those of the package at N = `SMALL`."""
    print("### Cost, cosine kernel, order 1\n")
    print("| N | | seconds | times the one before |\n|---|---|---|---|")
    before = 0.0
    vendi(as_set(vectors[:500]))
    for part in (8, 4, 2, 1):
        data = as_set(vectors[: len(vectors) // part])
        seconds = timed(lambda data=data: vendi(data), repeats)  # type: ignore[misc]
        ratio = f"{seconds / before:.2f}" if before else ""
        print(f"| {len(vectors) // part:,} | ours | {seconds:.3f} | {ratio} |", flush=True)
        before = seconds
    small = as_set(vectors[:SMALL])
    mine = timed(lambda: vendi(small), repeats)
    print(f"| {len(small.row_ids):,} | ours | {mine:.3f} | |", flush=True)
    try:
        from vendi_score import vendi as package
    except ImportError:
        print("\nvendi-score is not installed.\n")
        return
    points = vectors[:SMALL].astype(np.float64)
    theirs = timed(lambda: package.score_X(points), 1)
    print(f"| {len(points):,} | vendi-score, N x N | {theirs:.3f} | |")
    print(f"\n{theirs / mine:.0f} times faster than the package at N = {len(points):,}.\n")


def radial(vectors: np.ndarray) -> None:
    """The approximations of the radial kernel against its exact form."""
    data, n = as_set(vectors), len(vectors)
    print(f"### Radial kernel: relative error of the approximations, N = {n:,}\n")
    print(
        "| bandwidth | order | exact | s | approximation | components | error | s |\n|---|---|---|---|---|---|---|---|"
    )
    for bandwidth in (None, 1.0):
        for order in (1, 2):
            start = time.perf_counter()
            exact = vendi(data, order, "rbf", bandwidth, exact_up_to=n)
            spent = time.perf_counter() - start
            assert exact is not None
            for method in ("nystroem", "features"):
                for components in (256, 1024, 2048):
                    start = time.perf_counter()
                    near = vendi(data, order, "rbf", bandwidth, method, 0, components)
                    took = time.perf_counter() - start
                    assert near is not None
                    said = (bandwidth or "median", order, f"{exact:.3f}", f"{spent:.1f}", method, components)
                    print(f"| {' | '.join(map(str, said))} | {near / exact - 1:+.3f} | {took:.1f} |", flush=True)


if __name__ == "__main__":
    main()
