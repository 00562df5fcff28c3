"""The language-model pass side by side: with the bare forward of the same model, and with how reference scripts run.

    python -m benchmarks.language_model --data alpaca.jsonl [--rows 300] [--sample 24]

- *bare*: the model's body without its head on as many tokens in perfectly packed batches (8 x 128): no pass can be
  faster. Measured before and after ours.
- *reference*: float32, two forwards a row (the conversation, and the response behind its header), a batch of one, the
  scores of all tokens over the whole vocabulary; on a random sample of the rows, scaled.
- equal scores: ln p of every response token in float32, ours against the reference's; and the rank correlation of the
  rows' losses and IFD in the default precision with those in float32.
- memory: the peak of a process that passes rows of 512 tokens, above that of the loaded model.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl


def rows_of(path: Path, limit: int) -> pl.DataFrame:
    from methods.readers import read_file

    rows = pl.concat([batch.rows for batch in read_file(path, "pool")]).head(limit)
    return rows.select("row_id", "messages")


def ours(lm: Any, rows: pl.DataFrame) -> tuple[pl.DataFrame, float]:
    start = time.perf_counter()
    frame = pl.concat(list(lm.token_statistics(rows)))
    return frame, time.perf_counter() - start


def bare_rate(lm: Any, seconds: float = 6.0) -> float:
    """Tokens a second of the body alone."""
    import torch

    body = lm.load().model.base_model
    ids = torch.randint(0, 40_000, (8, 128))
    with torch.inference_mode():
        start, tokens = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            body(input_ids=ids, use_cache=False)
            tokens += ids.numel()
        return tokens / (time.perf_counter() - start)


def reference(lm: Any, rows: pl.DataFrame) -> tuple[dict[str, list[np.ndarray]], float]:
    """ln p of each response token, with its prompt and alone, the way the reference scripts compute it."""
    import torch

    loaded = lm.load()
    plans = lm.plans(rows["row_id"].to_list(), [list(m) for m in rows["messages"].to_list()])
    found: dict[str, list[np.ndarray]] = {}
    start = time.perf_counter()
    with torch.inference_mode():
        for plan in plans:
            passes = []
            for sequence in plan.sequences:
                ids = torch.tensor([sequence.tokens])
                scores = loaded.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
                where = np.concatenate([np.arange(a, b) for a, b in sequence.spans])
                passes.append(scores[where - 1, ids[0, where]].numpy())
            found[plan.row_id] = passes
    return found, time.perf_counter() - start


def tokens_of(lm: Any, rows: pl.DataFrame) -> int:
    plans = lm.plans(rows["row_id"].to_list(), [list(m) for m in rows["messages"].to_list()])
    return sum(len(sequence.tokens) for plan in plans for sequence in plan.sequences)


def losses(frame: pl.DataFrame) -> pl.DataFrame:
    means = {name: -pl.col(f"logp_{name}").list.mean() for name in ("conditional", "alone")}
    return frame.select("row_id", **means).with_columns(ifd=pl.col("conditional") / pl.col("alone"))


def memory(rows: int) -> dict[str, float]:
    """MiB at the peak of passing so many rows of 512 tokens, above the loaded model."""
    from resources.causal_lm import CausalLM

    lm = CausalLM(max_tokens=512)
    one = pl.DataFrame({"row_id": ["x"], "instruction": ["Say it."], "input": [""], "response": ["It is."]})
    list(lm.token_statistics(one))
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    long = pl.DataFrame(
        {"row_id": [str(i) for i in range(rows)], "instruction": ["Go on."] * rows, "input": [""] * rows}
    ).with_columns(response=pl.lit("and so on and on " * 200))
    for _ in lm.token_statistics(long):
        pass
    return {"rows": rows, "MiB": _resident("VmHWM") - before}


def _resident(which: str) -> float:
    """MiB of this process: now (VmRSS) or at the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def main() -> None:
    from scipy.stats import spearmanr

    from resources.causal_lm import CausalLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--sample", type=int, default=24)
    parser.add_argument("--memory", type=int)
    given = parser.parse_args()
    if given.memory:
        print(json.dumps(memory(given.memory)))
        return
    rows = rows_of(given.data, given.rows)
    fast, exact = CausalLM(), CausalLM(dtype="float32")
    ours(fast, rows.head(8))
    tokens = tokens_of(fast, rows)
    rates = [bare_rate(fast)]
    frame, seconds = ours(fast, rows)
    rates.append(bare_rate(fast))
    bare = tokens / float(np.mean(rates))
    few = rows.sample(given.sample, seed=1)
    ours(exact, few.head(4))
    theirs, slow = reference(exact, few)
    precise, spent_exact = ours(exact, few)
    print(f"{rows.height} rows, {tokens:,} tokens in both passes, {few.height} rows for the reference\n")
    print("| | seconds | rows/s | ratio |\n|---|---|---|---|")
    print(f"| ours, default precision | {seconds:.1f} | {rows.height / seconds:.2f} | |")
    print(f"| bare forward of as many tokens | {bare:.1f} | | ours takes {seconds / bare:.2f} times as long |")
    per_row = slow / few.height
    times = per_row * rows.height / seconds
    print(f"| reference way, float32 | | {1 / per_row:.2f} | ours {times:.2f} times its rows/s |")
    rate, times = few.height / spent_exact, slow / spent_exact
    print(f"| ours, float32, the sample | {spent_exact:.1f} | {rate:.2f} | {times:.2f} times |")
    gap = 0.0
    for line in precise.iter_rows(named=True):
        passes = theirs[line["row_id"]]
        alone = np.concatenate(passes[1:])
        for mine, other in ((line["logp_conditional"], passes[0]), (line["logp_alone"], alone)):
            gap = max(gap, float(np.max(np.abs(np.array(mine) - other) / np.maximum(np.abs(other), 1.0))))
    both = losses(frame).join(losses(precise), on="row_id", suffix=" exact").drop_nulls()
    ranks = {name: float(spearmanr(both[name], both[f"{name} exact"])[0]) for name in ("conditional", "ifd")}
    print(f"\nln p in float32, largest difference (relative above 1): {gap:.1e}")
    print(
        f"rank correlation of default precision with float32: loss {ranks['conditional']:.4f}, IFD {ranks['ifd']:.4f}"
    )
    for n in (8, 32):
        command = [sys.executable, "-m", "benchmarks.language_model", "--memory", str(n)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        print(f"memory above the model at 512 tokens, {n} rows: {found['MiB']:.0f} MiB")


if __name__ == "__main__":
    main()
