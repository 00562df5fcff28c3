"""Semantic duplicates side by side: `methods.filters.semantic` against SemHash, from the same vectors to the same end.

    pip install --target PEER --no-deps semhash vicinity usearch model2vec pyversity frozendict joblib
    python benchmarks/semantic_dedup.py --peer PEER --rows 10000 50000

Here belongs the comparison alone. Seeded unit vectors of 384 numbers in groups of about a hundred; a twentieth of the
rows are near-duplicates of others, planted at cosines from about .8 to 1. Each side goes from vectors to the rows that
stay at the threshold: ours by all exact pairs, SemHash by `from_embeddings` and `self_deduplicate`, with its default
index (usearch) and its exact one (`--exact-up-to`; it compares every row with every other twice). CPU seconds, both
sides on one core, in turn, best of the repeats; compiled code is warmed up on a small pool first.

Recall: the share of the exact pairs that a side found, where exact is one float32 product of all rows, whose results
near the threshold are computed again in float64 (`--oracle-up-to`; beyond it, our pairs). SemHash is no dependency.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
# An index that asks how many cores there are is told one.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.filters import semantic  # noqa: E402

WIDTH = 384
Found = tuple[np.ndarray, int]
"""Pairs as ``a * n + b``, a < b, ascending; and the rows that are left."""
Made = Callable[[], Found]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--threshold", type=float, default=semantic.THRESHOLD)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--peer", type=Path, help="folder that SemHash was installed into")
    parser.add_argument("--exact-up-to", type=int, default=50_000)
    parser.add_argument("--oracle-up-to", type=int, default=50_000)
    given = parser.parse_args()
    if given.peer:
        sys.path.append(str(given.peer))
    print("| rows | | CPU s | times ours | pairs | recall of pairs | wrong pairs | rows left |\n" + "|---" * 8 + "|")
    ways: dict[str, Callable[[np.ndarray, float], Made]] = {
        "ours": ours,
        "SemHash, usearch": lambda v, t: semhash(v, t, "usearch"),
    }
    for way in ways.values():
        way(pool(3000), given.threshold)
    for rows in given.rows:
        vectors = pool(rows)
        now = dict(ways)
        if rows <= given.exact_up_to:
            now["SemHash, exact index"] = lambda v, t: semhash(v, t, "basic")
        seconds, found = dict.fromkeys(now, np.inf), dict[str, Found]()
        for _ in range(given.repeats):
            for name, way in now.items():
                start = time.process_time()
                made = way(vectors, given.threshold)
                seconds[name] = min(seconds[name], time.process_time() - start)
                print(f"{rows:,} rows, {name}: {seconds[name]:.2f} s", file=sys.stderr, flush=True)
                found[name] = made()
        exact = oracle(vectors, given.threshold) if rows <= given.oracle_up_to else found["ours"][0]
        for name, (pairs, left) in found.items():
            recall = len(np.intersect1d(pairs, exact)) / max(1, len(exact))
            wrong = len(np.setdiff1d(pairs, exact))
            print(
                f"| {rows:,} | {name} | {seconds[name]:.2f} | {seconds[name] / seconds['ours']:.1f} | {len(pairs):,} | "
                f"{recall:.4f} | {wrong} | {left:,} |",
                flush=True,
            )


def pool(rows: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in groups, a twentieth of them near-duplicates of other rows."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, rows // 100), WIDTH), dtype=np.float32)
    out = centres[rng.integers(len(centres), size=rows)]
    out += 1.2 * rng.standard_normal(out.shape, dtype=np.float32)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    copies, originals = np.split(rng.permutation(rows)[: 2 * (rows // 20)], 2)
    noise = rng.standard_normal((len(copies), WIDTH), dtype=np.float32)
    noise *= rng.uniform(0, 0.75, (len(copies), 1)).astype(np.float32) / np.linalg.norm(noise, axis=1, keepdims=True)
    out[copies] = out[originals] + noise
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out


def ours(vectors: np.ndarray, threshold: float) -> Made:
    """Pairs, and who stays; the pairs by number are told afterwards."""
    names = pl.Series(np.arange(len(vectors))).cast(pl.String)
    pairs = semantic.find_pairs(names, vectors, threshold).pairs
    left = semantic.drop_at(names, pairs, threshold).left

    def told() -> Found:
        return np.sort((pairs["a"].cast(pl.Int64) * len(vectors) + pairs["b"].cast(pl.Int64)).to_numpy()), left

    return told


class Given:
    """An encoder that is never asked: the vectors are given."""

    def encode(self, inputs: Sequence[object], **kwargs: object) -> np.ndarray:
        """Refuses."""
        raise RuntimeError("the vectors were given")


def semhash(vectors: np.ndarray, threshold: float, backend: str) -> Made:
    """Its own path from vectors to the rows that stay; the pairs are its neighbours of at least the threshold."""
    from semhash import SemHash

    texts = [f"row {i}" for i in range(len(vectors))]
    index = SemHash.from_embeddings(vectors, texts, Given(), ann_backend=backend)
    result = index.self_deduplicate(threshold)

    def told() -> Found:
        n, keys = len(vectors), []
        for row, (others, scores) in enumerate(result._selection_inputs[1]):
            others = others[(scores >= threshold) & (others != row)].astype(np.int64)
            keys.append(np.minimum(others, row) * n + np.maximum(others, row))
        return np.unique(np.concatenate(keys)), len(result.selected)

    return told


def oracle(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """All pairs by one plain product, those near the threshold checked in float64."""
    n, keys = len(vectors), []
    for start in range(0, n, 1024):
        i, j = np.nonzero(vectors[start : start + 1024] @ vectors.T >= threshold - 1e-4)
        i += start
        i, j = i[i < j], j[i < j]
        true = np.einsum("ij,ij->i", vectors[i].astype(np.float64), vectors[j].astype(np.float64))
        keys.append(i[true >= threshold] * n + j[true >= threshold])
    return np.sort(np.concatenate(keys))


if __name__ == "__main__":
    main()
