"""Embedding throughput side by side with ``SentenceTransformer.encode``, on the same rows, model and threads.

Here belongs the comparison of `resources.encoder` with its peer. Both embed all texts, taking turns, so that a busy
machine slows both; the best time of each counts. Run it from the project's root:

    python -m benchmarks.embedding --data alpaca.jsonl --rows 2000
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from resources.compute import cores
from resources.encoder import Encoder


def texts_of(path: Path, rows: int) -> list[str]:
    """The text of the first rows: all string fields but ids, joined by line breaks."""
    texts = []
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if len(texts) == rows:
                break
            record = json.loads(line)
            texts.append("\n".join(v for k, v in record.items() if k != "id" and isinstance(v, str) and v))
    return texts


def ours(encoder: Encoder, texts: list[str]) -> np.ndarray:
    """All vectors, in the order of the texts."""
    vectors = np.empty((len(texts), encoder.dimension()), dtype=np.float32)
    for block in encoder.encode(texts):
        vectors[block.indices] = block.vectors
    return vectors


def main() -> None:
    """Print one markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=None)
    parser.add_argument("--model", default="embedded:minilm")
    options = parser.parse_args()

    texts = texts_of(options.data, options.rows)
    encoder = Encoder(model=options.model, batch_tokens=options.batch_tokens)
    peer: Any = encoder._loaded()
    ours(encoder, texts[:64])
    peer.encode(texts[:64])
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for turn in range(options.turns):
        for who in ("ours", "peer") if turn % 2 else ("peer", "ours"):
            start = time.perf_counter()
            if who == "ours":
                mine = ours(encoder, texts)
            else:
                theirs = peer.encode(texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)
            times[who].append(time.perf_counter() - start)

    best = {who: len(texts) / min(spent) for who, spent in times.items()}
    middle = {who: len(texts) / statistics.median(spent) for who, spent in times.items()}
    print(f"{len(texts)} rows of {options.data.name}, {cores()} threads of {os.cpu_count()} cores\n")
    print("| encoder | rows/s (best) | rows/s (median) |\n|---|---|---|")
    print(f"| sluice, batch_tokens={options.batch_tokens or 'auto'} | {best['ours']:.1f} | {middle['ours']:.1f} |")
    print(f"| SentenceTransformer.encode, batch_size=32 | {best['peer']:.1f} | {middle['peer']:.1f} |")
    print(f"\nratio {best['ours'] / best['peer']:.2f} (best), {middle['ours'] / middle['peer']:.2f} (median); ", end="")
    print(f"largest difference of a component {np.abs(mine - theirs).max():.1e}")


if __name__ == "__main__":
    main()
