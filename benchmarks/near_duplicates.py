"""Near-duplicates side by side: `methods.filters.duplicates` against datasketch's MinHash and LSH.

Here belongs the comparison alone: the same rows, the same shingles' length, the same number of permutations and the
same threshold, in one process on one thread, each from raw texts to pairs, in CPU seconds. Speed is measured on one
pool, precision and recall of the pairs on another, smaller one against the exact Jaccard index of all pairs (a blocked
sparse product).

Each way stops the clock when it holds all its pairs: ours as a table, datasketch's, whose index answers in lists, as a
set. Ours runs once on a few rows before, so that its loops are compiled or read from their cache: that is not timed.
Ways take turns, and the fastest of their runs counts, since others may use the machine, too.

    python benchmarks/near_duplicates.py --data alpaca.jsonl --pairs gpteacher_toolformer.json

datasketch (a development dependency) is run in two ways: `MinHash` a row at a time, as its documentation shows it,
and `MinHash.bulk`, its fastest. Its pairs are those that its index returns; "checked" keeps those whose
estimated similarity reaches the threshold, which is the nearest it has to a verification.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.filters.duplicates import near_duplicates  # noqa: E402
from methods.filters.shingles import distinct, shingles, words  # noqa: E402

Pairs = set[tuple[int, int]]
NUM_PERM, N_WORDS, SEED = 128, 3, 1


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pool for the speed")
    parser.add_argument("--pairs", type=Path, help="pool for precision and recall")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.8, 0.5])
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts")
    given = parser.parse_args()
    ours(["a few words to begin with"] * 2, 0.5)
    texts = read(given.data)
    print(f"### Speed: {len(texts):,} rows of {given.data.name}, {NUM_PERM} permutations, one thread\n")
    print("| threshold | | CPU s | rows/s | pairs | times datasketch bulk |\n|---|---|---|---|---|---|")
    for threshold in given.thresholds:
        speed(texts, threshold, given.repeats)
    if given.pairs:
        texts = read(given.pairs)
        print(f"\n### Pairs: {len(texts):,} rows of {given.pairs.name} against all pairs exactly\n")
        print("| threshold | | CPU s | pairs | precision | recall |\n|---|---|---|---|---|---|")
        exact = all_pairs(texts, min(given.thresholds))
        for threshold in given.thresholds:
            quality(texts, threshold, exact)


def read(path: Path) -> list[str]:
    """One text a row: all its string fields but the id, in their order."""
    content = path.read_text(encoding="utf-8")
    records = json.loads(content) if path.suffix == ".json" else [json.loads(line) for line in content.splitlines()]
    fields = ("instruction", "input", "output", "response")
    return ["\n".join(record[f] for f in fields if isinstance(record.get(f), str)) for record in records]


def speed(texts: list[str], threshold: float, repeats: int) -> None:
    """One table row for each way."""
    runs = fastest(texts, threshold, repeats)
    base = runs["datasketch bulk"][0]
    for name, (seconds, pairs) in runs.items():
        row = (threshold, name, f"{seconds:.2f}", f"{len(texts) / seconds:,.0f}", f"{pairs:,}", f"{base / seconds:.1f}")
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def quality(texts: list[str], threshold: float, exact: dict[tuple[int, int], float]) -> None:
    """One table row for each way: precision and recall of its pairs."""
    true = {pair for pair, similarity in exact.items() if similarity >= threshold}
    print(f"| {threshold} | exact | | {len(true):,} | 1 | 1 |")
    for name, way in {**WAYS, "datasketch bulk, checked": checked}.items():
        if name == "datasketch":
            continue
        start = time.process_time()
        held = way(texts, threshold)
        seconds = time.process_time() - start
        found = as_set(held)
        right = len(found & true)
        row = (threshold, name, f"{seconds:.2f}", f"{len(found):,}", f"{right / max(len(found), 1):.4f}",
               f"{right / max(len(true), 1):.4f}")  # fmt: skip
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def fastest(texts: list[str], threshold: float, repeats: int) -> dict[str, tuple[float, int]]:
    """The least CPU seconds and the number of pairs of each way; they take turns, so that all meet the same noise."""
    out = {name: (float("inf"), 0) for name in WAYS}
    for _ in range(repeats):
        for name, way in WAYS.items():
            start = time.process_time()
            found = way(texts, threshold)
            out[name] = (min(out[name][0], time.process_time() - start), len(found))
    return out


def ours(texts: list[str], threshold: float) -> pl.DataFrame:
    """Hash, band and verify exactly."""
    return near_duplicates(pl.Series(texts), threshold, num_perm=NUM_PERM, seed=SEED, n_words=N_WORDS)


def as_set(held: Pairs | pl.DataFrame) -> Pairs:
    """The pairs of any way."""
    return held if isinstance(held, set) else set(zip(held["a"].to_list(), held["b"].to_list(), strict=True))


def token_sets(texts: list[str]) -> list[list[bytes]]:
    """Word n-grams as bytes, in the plainest Python."""
    out = []
    for text in texts:
        tokens = re.findall(r"\w+", text.lower())
        count = max(len(tokens) - N_WORDS + 1, 1)
        out.append(list({" ".join(tokens[i : i + N_WORDS]).encode() for i in range(count)}))
    return out


def sketches(texts: list[str], bulk: bool) -> list:
    """datasketch's signatures."""
    from datasketch import MinHash

    if bulk:
        return MinHash.bulk(token_sets(texts), num_perm=NUM_PERM, seed=SEED)
    out = []
    for tokens in token_sets(texts):
        made = MinHash(num_perm=NUM_PERM, seed=SEED)
        made.update_batch(tokens)
        out.append(made)
    return out


def indexed(made: list, threshold: float) -> Pairs:
    """The pairs that datasketch's index returns."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=NUM_PERM)
    with index.insertion_session() as session:
        for row, sketch in enumerate(made):
            session.insert(row, sketch)
    return {(min(row, other), max(row, other)) for row, sketch in enumerate(made) for other in index.query(sketch)
            if other != row}  # fmt: skip


def plain(texts: list[str], threshold: float) -> Pairs:
    """datasketch, a row at a time."""
    return indexed(sketches(texts, bulk=False), threshold)


def bulk(texts: list[str], threshold: float) -> Pairs:
    """datasketch at its fastest."""
    return indexed(sketches(texts, bulk=True), threshold)


def checked(texts: list[str], threshold: float) -> Pairs:
    """datasketch, its pairs checked by the estimate."""
    made = sketches(texts, bulk=True)
    return {(a, b) for a, b in indexed(made, threshold) if made[a].jaccard(made[b]) >= threshold}


def all_pairs(texts: list[str], threshold: float, block: int = 256) -> dict[tuple[int, int], float]:
    """Every pair with its exact Jaccard index, from products of blocks of the incidence matrix with its transpose."""
    from scipy.sparse import csr_array

    sets = distinct(shingles(words(pl.Series(texts)), N_WORDS))
    _, codes = np.unique(sets.values, return_inverse=True)
    matrix = csr_array((np.ones(len(codes), np.int32), codes, sets.offsets), shape=(len(sets), codes.max() + 1))
    other, sizes = matrix.T.tocsr(), sets.lengths
    out: dict[tuple[int, int], float] = {}
    for start in range(0, len(sets), block):
        common = (matrix[start : start + block] @ other).tocoo()
        a, b = common.coords[0] + start, common.coords[1]
        similarity = common.data / (sizes[a] + sizes[b] - common.data)
        kept = (a < b) & (similarity >= threshold)
        out.update(zip(zip(a[kept].tolist(), b[kept].tolist(), strict=True), similarity[kept].tolist(), strict=True))
    return out


WAYS: dict[str, Callable[[list[str], float], Pairs | pl.DataFrame]] = {
    "ours": ours,
    "datasketch": plain,
    "datasketch bulk": bulk,
}

if __name__ == "__main__":
    main()
