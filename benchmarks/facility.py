"""Facility location: against submodlib and apricot on one thread, and what its ways at scale lose and take.

Here belongs the comparison alone. Seeded clustered unit vectors of 384 numbers; each way from vectors to the choice,
its own similarities included, in seconds of one thread, best of the repeats; and the sum over the pool of each choice,
measured alike for all, beside that of the exact greedy choice. Peers are optional (not a dependency: they are run where
they are installed).

    python -m benchmarks.facility
    python -m benchmarks.facility --scale 20000 40000 --dimensions 128

`--scale` runs the graph and the shards on larger pools, each in a process of its own, with the memory at the peak.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.diversity.facility import facility_location  # noqa: E402
from methods.kinds import Candidates  # noqa: E402

Way = Callable[[np.ndarray, int], list[int]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--scale", type=int, nargs="*", default=[], help="rows of larger pools; a twentieth is chosen")
    parser.add_argument("--one", choices=("sparse", "greedi"), help="one way on --rows, printed as a table row")
    given = parser.parse_args()
    if given.one:
        one(given.rows, given.budget, given.dimensions, given.one)
        return
    if given.scale:
        print("| rows | budget | way | seconds | sum over the pool | MiB at the peak | MiB before |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for rows in given.scale:
            for way in ("sparse", "greedi"):
                command = [sys.executable, str(Path(__file__).resolve()), "--rows", str(rows), "--one", way]
                command += ["--budget", str(max(1, rows // 20)), "--dimensions", str(given.dimensions)]
                subprocess.run(command, check=True)
        return
    compare(given.rows, given.budget, given.dimensions, given.repeats)


def pool(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in groups of about 100."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, rows // 100), dimensions), dtype=np.float32)
    out = centres[rng.integers(len(centres), size=rows)]
    out += 1.2 * rng.standard_normal(out.shape, dtype=np.float32)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out


def total(vectors: np.ndarray, order: list[int]) -> float:
    """The sum over the pool of the similarity to the nearest chosen row."""
    chosen, found = vectors[order], 0.0
    for start in range(0, len(vectors), 4096):
        found += float(np.maximum((vectors[start : start + 4096] @ chosen.T).max(axis=1), 0).sum(dtype=np.float64))
    return found


def ours(method: str) -> Way:
    """One of our ways."""

    def run(vectors: np.ndarray, budget: int) -> list[int]:
        ids = pl.Series(np.arange(len(vectors))).cast(pl.String)
        return facility_location(Candidates(ids, vectors=vectors), budget, method=method).order.tolist()  # type: ignore[arg-type]

    return run


def submodlib(vectors: np.ndarray, budget: int) -> list[int]:
    """Its lazy greedy on its own dense cosines."""
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(len(vectors), mode="dense", data=vectors, metric="cosine", separate_rep=False)
    found = function.maximize(
        budget, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return [row for row, _ in found]


def apricot(optimizer: str, metric: str) -> Way:
    """Its lazy or two-stage greedy, on its own cosines or on ours made before."""

    def run(vectors: np.ndarray, budget: int) -> list[int]:
        from apricot import FacilityLocationSelection

        similarities = vectors if metric == "cosine" else np.maximum(vectors @ vectors.T, 0).astype(np.float64)
        function = FacilityLocationSelection(budget, metric=metric, optimizer=optimizer)
        return function.fit(similarities).ranking.tolist()

    return run


WAYS: dict[str, Way] = {
    "ours, exact": ours("exact"),
    "ours, sparse": ours("sparse"),
    "submodlib, LazyGreedy": submodlib,
    "apricot, lazy, metric cosine": apricot("lazy", "cosine"),
    "apricot, two-stage, metric cosine": apricot("two-stage", "cosine"),
    "apricot, lazy, matrix given": apricot("lazy", "precomputed"),
    "apricot, two-stage, matrix given": apricot("two-stage", "precomputed"),
}


def compare(rows: int, budget: int, dimensions: int, repeats: int) -> None:
    """One table row for each way; compiled code is warmed up on a small pool first."""
    vectors, runs = pool(rows, dimensions), {}
    for name, way in WAYS.items():
        try:
            way(vectors[:200], 5)
        except ImportError as error:
            print(f"{name}: skipped, {error}", flush=True)
            continue
        runs[name] = (float("inf"), 0.0)
    for _ in range(repeats):
        for name, (least, _value) in runs.items():
            start = time.process_time()
            order = WAYS[name](vectors, budget)
            runs[name] = (min(least, time.process_time() - start), total(vectors, order))
    print(f"\n### {rows:,} rows of {dimensions} numbers, {budget} chosen\n")
    print("| | CPU s | times ours | sum over the pool | of exact greedy |\n|---|---|---|---|---|")
    first, best = runs["ours, exact"]
    for name, (seconds, value) in runs.items():
        print(f"| {name} | {seconds:.2f} | {seconds / first:.1f} | {value:.2f} | {value / best:.5f} |")


def one(rows: int, budget: int, dimensions: int, method: str) -> None:
    """A table row: seconds, value and memory of one way on one pool."""
    ours(method)(pool(200, dimensions), 5)
    vectors = pool(rows, dimensions)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    order = ours(method)(vectors, budget)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    value = total(vectors, order)
    print(
        f"| {rows:,} | {budget:,} | {method} | {seconds:.1f} | {value:.1f} | {peak:,.0f} | {before:,.0f} |", flush=True
    )


if __name__ == "__main__":
    main()
