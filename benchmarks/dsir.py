"""DSIR's log-weights side by side with the paper's package, data-selection 1.0.3, on the same rows and target.

    python -m benchmarks.dsir --data alpaca.jsonl --target code.jsonl

Both read texts from memory, fit the target's and the pool's frequencies and weigh every row of the pool; ours in one
process and thread, the package in ``--processes``. They take turns, and the best time of each counts. Compiling is
not counted. The package needs ``pip install --no-deps data-selection==1.0.3`` beside nltk, joblib and tqdm. Records
are one a line; the text of a row is all its string fields but ids, joined by line breaks.

It prints, too, the largest difference of a log-weight, how the weights of the fast hash rank the rows, how many rows
the weights are worth, and the KL reduction of the best ``--budget`` rows, of a draw, and of a random choice.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from methods.importance.dsir import effective_sample_size, kl_reduction, log_weights


def texts_of(path: Path) -> list[str]:
    texts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        texts.append("\n".join(v for k, v in record.items() if "id" not in k.split("_") and isinstance(v, str) and v))
    return texts


def peer(pool: list[str], target: list[str], processes: int) -> tuple[float, np.ndarray]:
    """Seconds and log-weights of the package, in the pool's order."""
    from data_selection import HashedNgramDSIR

    kept = {"pool": pool, "target": target}

    def read(name: str) -> list[str]:
        return kept[name]

    def same(text: Any) -> str:
        return text

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        made = HashedNgramDSIR(
            ["pool"], ["target"], folder, raw_load_dataset_fn=read, raw_parse_example_fn=same,
            target_load_dataset_fn=read, target_parse_example_fn=same, num_proc=processes, min_example_length=0,
        )  # fmt: skip
        made.fit_importance_estimator()
        made.compute_importance_weights()
        spent = time.perf_counter() - start
        found = np.empty(len(pool))
        for i in range(processes):  # every process took each n-th row
            found[i::processes] = np.load(Path(folder) / "log_importance_weights" / f"{i}.npy")
    return spent, found


def ours(pool: list[str], target: list[str], hash: Any) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    weights = log_weights(pl.Series(pool), {"target": pl.Series(target)}, hash=hash)
    return time.perf_counter() - start, weights.log_weight[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--budget", type=int, default=1000)
    given = parser.parse_args()
    pool, target = texts_of(given.data), texts_of(given.target)
    ours(pool[:10], target[:10], "sha256")
    peer(pool[:10], target[:10], given.processes)
    spent: dict[str, list[float]] = {"peer": [], "sha256": [], "fast": []}
    found: dict[str, np.ndarray] = {}
    for _ in range(given.turns):
        for who, times in spent.items():
            seconds, found[who] = peer(pool, target, given.processes) if who == "peer" else ours(pool, target, who)
            times.append(seconds)

    best = {who: min(times) for who, times in spent.items()}
    print(f"{len(pool):,} rows, {len(target):,} rows of target, {os.cpu_count()} cores\n")
    print("| log-weights of all rows | s (best) | rows/s | times as fast |\n|---|---|---|---|")
    names = {"peer": f"data-selection, {given.processes} processes", "sha256": "ours", "fast": "ours, fast hash"}
    for who, name in names.items():
        line = f"{best[who]:.3f} | {len(pool) / best[who]:,.0f} | {best['peer'] / best[who]:.1f}"
        print(f"| {name} | {line} |")
    report(pool, target, found, given.budget)


def report(pool: list[str], target: list[str], found: dict[str, np.ndarray], budget: int) -> None:
    from scipy.stats import spearmanr

    exact, budget = found["sha256"], min(budget, len(pool))
    print(f"\nlargest difference of a log-weight to the package's: {np.abs(exact - found['peer']).max():.1e}")
    top = [set(np.argsort(-found[who], kind="stable")[:budget].tolist()) for who in ("sha256", "fast")]
    shared = len(top[0] & top[1]) / budget
    print(f"fast hash: rank correlation {spearmanr(exact, found['fast']).statistic:.4f}, ", end="")
    print(f"{shared:.1%} of the best {budget:,} the same")
    worth = {t: effective_sample_size(exact, t) for t in (1.0, 10.0, 100.0)}
    print("worth in equal rows: " + ", ".join(f"{w:.1f} at temperature {t:g}" for t, w in worth.items()))
    frame = pl.DataFrame({"prompt": pool, "response": [""] * len(pool)})
    goal = pl.DataFrame({"prompt": target, "response": [""] * len(target)})
    rng = np.random.default_rng(0)
    lengths = np.array([len(text) for text in pool])
    choices = {
        "largest weights": np.argsort(-exact, kind="stable"),
        "a draw at temperature 100": np.argsort(-(exact / 100 + rng.gumbel(size=len(exact)))),
        "largest weights a character": np.argsort(-exact / np.maximum(lengths, 1), kind="stable"),
        "random": rng.permutation(len(exact)),
    }
    for name, order in choices.items():
        rows = frame[order[:budget]]
        reduced = kl_reduction(frame, rows, goal, seed=1) or 0.0
        length = int(rows["prompt"].str.len_chars().sum()) / budget
        print(f"KL reduction of {budget:,} rows, {name}: {reduced:.4f} nats (mean length {length:.0f} characters)")


if __name__ == "__main__":
    main()
