"""Nearest neighbours: exact, ours through an index, and the libraries that could be the index.

Here belongs the comparison alone. Seeded clustered unit vectors of 384 numbers: topics in topics of uneven size, with a
spectrum that falls. Each way builds its index, raises its effort until it finds the share `--recall` of the true
neighbours of 1,000 rows, and searches all rows with that; each in a process of its own, CPU seconds of one thread, and
the memory at the peak above the vectors. LanceDB is asked for 1,000 rows and scaled, in wall seconds (it works in
threads of its own). usearch is optional (not a dependency: it is run where it is installed).

    python -m benchmarks.neighbours --rows 50000
    python -m benchmarks.neighbours --rows 200000 --ways ours faiss-ivf
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LANCE_CPU_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("RUST_LOG", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

DIMENSIONS, CHECKED = 384, 1000
Search = Callable[[np.ndarray, int], np.ndarray]
"""Rows and an effort to their nearest rows, themselves among them."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--ways", nargs="*", choices=("exact", "ours", *WAYS), default=["exact", "ours", *WAYS])
    parser.add_argument("--one", choices=("exact", "ours", *WAYS), help="one way, printed as a table row")
    given = parser.parse_args()
    if given.one:
        one(given.one, given.rows, given.k, given.recall)
        return
    print(
        "| way | rows | build s | search s | effort | recall | MiB above the vectors |\n|---|---|---|---|---|---|---|"
    )
    sys.stdout.flush()
    for way in given.ways:
        command = [sys.executable, str(Path(__file__).resolve()), "--one", way, "--rows", str(given.rows)]
        subprocess.run([*command, "--k", str(given.k), "--recall", str(given.recall)], check=True)


def pool(n: int, seed: int = 0) -> np.ndarray:
    """Unit vectors: topics of some 2,000 rows, in them topics of 100 in the mean, and noise."""
    rng = np.random.default_rng(seed)
    spectrum = (1 / np.sqrt(1 + np.arange(DIMENSIONS) / 16)).astype(np.float32)
    wide = rng.standard_normal((max(1, n // 2000), DIMENSIONS), dtype=np.float32)
    narrow = rng.standard_normal((max(1, n // 100), DIMENSIONS), dtype=np.float32)
    narrow += wide[rng.integers(len(wide), size=len(narrow))]
    size = rng.pareto(1.5, len(narrow)) + 0.2
    out = narrow[rng.choice(len(narrow), size=n, p=size / size.sum())]
    out += 1.2 * rng.standard_normal(out.shape, dtype=np.float32)
    out *= spectrum
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out


def peak(reset: bool = False) -> float:
    """MiB at the peak, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


# ---- the ways -------------------------------------------------------------------------------------------------------


def faiss_ivf(vectors: np.ndarray, k: int) -> tuple[Search, Sequence[int]]:
    """Inverted lists, fitted by the library."""
    import faiss

    cells = round(4 * len(vectors) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIMENSIONS), DIMENSIONS, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed, index.cp.max_points_per_centroid = 10, 0, 64
    index.train(vectors)
    index.add(vectors)

    def search(rows: np.ndarray, effort: int) -> np.ndarray:
        index.nprobe = effort
        return index.search(rows, k + 1)[1]

    return search, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def faiss_hnsw(vectors: np.ndarray, k: int) -> tuple[Search, Sequence[int]]:
    """A navigable graph."""
    import faiss

    index = faiss.IndexHNSWFlat(DIMENSIONS, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(vectors)

    def search(rows: np.ndarray, effort: int) -> np.ndarray:
        index.hnsw.efSearch = effort
        return index.search(rows, k + 1)[1]

    return search, (64, 96, 128, 192, 256, 512)


def usearch(vectors: np.ndarray, k: int) -> tuple[Search, Sequence[int]]:
    """A navigable graph."""
    from usearch.index import Index

    index = Index(ndim=DIMENSIONS, metric="ip", dtype="f32", connectivity=32, expansion_add=100)
    index.add(np.arange(len(vectors)), vectors, threads=1)

    def search(rows: np.ndarray, effort: int) -> np.ndarray:
        index.expansion_search = effort
        return index.search(rows, k + 1, threads=1).keys.astype(np.int64)

    return search, (64, 96, 128, 192, 256, 512)


def lance(vectors: np.ndarray, k: int) -> tuple[Search, Sequence[int]]:
    """The index of the store that the vectors are kept in: inverted lists on disk."""
    import lancedb
    import pyarrow as pa

    rows = pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIMENSIONS)
    database = lancedb.connect(tempfile.mkdtemp())
    table = database.create_table("vectors", pa.table({"id": np.arange(len(vectors)), "vector": rows}))
    table.create_index(metric="dot", num_partitions=round(len(vectors) ** 0.5), index_type="IVF_FLAT")

    def search(rows: np.ndarray, effort: int) -> np.ndarray:
        out = np.full((len(rows), k + 1), -1)
        for i, row in enumerate(rows):
            asked = table.search(row).distance_type("dot").nprobes(effort).limit(k + 1)
            found = asked.select(["id", "_distance"]).to_arrow()["id"].to_numpy()
            out[i, : len(found)] = found
        return out

    return search, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


WAYS: dict[str, Callable[[np.ndarray, int], tuple[Search, Sequence[int]]]] = {
    "faiss-ivf": faiss_ivf,
    "faiss-hnsw": faiss_hnsw,
    "usearch": usearch,
    "lance": lance,
}


# ---- one way --------------------------------------------------------------------------------------------------------


def one(way: str, n: int, k: int, floor: float) -> None:
    """A table row."""
    from methods.numerics import approximate, neighbours

    vectors = pool(n)
    queries = np.sort(np.random.default_rng(1).choice(n, size=min(CHECKED, n), replace=False))
    approximate.top_k(vectors[:500], 3)  # compiled, and loaded
    before = peak(reset=True)
    clock = time.perf_counter if way == "lance" else time.process_time
    start, built, effort = clock(), 0.0, "-"
    if way in ("exact", "ours"):
        if way == "exact":
            index = neighbours.top_k(vectors, k)[0]
        else:
            index, _, stats = approximate.top_k(vectors, k, floor)
            effort = f"{stats.probes} of {stats.cells} cells"
        seconds = clock() - start
    else:
        try:
            search, efforts = WAYS[way](vectors, k)
        except ImportError as error:
            print(f"| {way} | skipped: {error} |", flush=True)
            return
        built = clock() - start
        index = np.full((n, k), -1)
        for step in efforts:
            effort = str(step)
            index[queries] = others(search(vectors[queries], step), queries, k)
            if recall(vectors, index, queries, k) >= floor:
                break
        start = clock()
        if way == "lance":
            search(vectors[queries], int(effort))
        else:
            search(vectors, int(effort))
        seconds = (clock() - start) * (n / len(queries) if way == "lance" else 1)
    used = peak() - before
    reached: Any = recall(vectors, index, queries, k)
    print(f"| {way} | {n:,} | {built:.1f} | {seconds:.1f} | {effort} | {reached:.4f} | {used:,.0f} |", flush=True)


def others(found: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The first ``k`` found rows without the row itself."""
    last = np.argsort(found == queries[:, None], axis=1, kind="stable")
    return np.take_along_axis(found, last, axis=1)[:, :k]


def recall(vectors: np.ndarray, index: np.ndarray, queries: np.ndarray, k: int) -> float:
    """Of the true neighbours of some rows."""
    share = []
    for row in queries:
        cosine = vectors @ vectors[row]
        cosine[row] = -2
        share.append(len(np.intersect1d(np.argpartition(-cosine, k)[:k], index[row])) / k)
    return float(np.mean(share))


if __name__ == "__main__":
    main()
