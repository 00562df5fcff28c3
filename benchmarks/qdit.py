"""QDIT on a large pool: time and memory.

    python -m benchmarks.qdit [--rows 200000] [--budget 10000] [--dimensions 384]

Seeded unit vectors in 500 clusters, qualities drawn at random. The peak is that of the whole process.
"""

import argparse
import resource
import time

import numpy as np
import polars as pl

from methods.diversity.submodular import qdit
from methods.kinds import Candidates

CLUSTERS, NOISE, BLOCK = 500, 1.2, 20_000


def vectors_of(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """(n, d) float32, rows of unit length."""
    centres = rng.standard_normal((CLUSTERS, d)).astype(np.float32)
    made = np.empty((n, d), np.float32)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        part = centres[rng.integers(0, CLUSTERS, size)] + NOISE * rng.standard_normal((size, d)).astype(np.float32)
        made[start : start + size] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--budget", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=384)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = vectors_of(given.rows, given.dimensions, rng)
    ids = pl.Series([str(i) for i in range(given.rows)])
    candidates = Candidates(row_ids=ids, score=rng.random(given.rows), vectors=vectors)
    wall, cpu = time.perf_counter(), time.process_time()
    chosen = qdit(candidates, given.budget, 0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(chosen.order):,} of {given.rows:,} rows of {given.dimensions} numbers: {wall:.0f} s, {cpu:.0f} CPU s")
    print(f"{peak:,.0f} MiB at the peak, {vectors.nbytes / 2**20:,.0f} MiB of them the vectors")


if __name__ == "__main__":
    main()
