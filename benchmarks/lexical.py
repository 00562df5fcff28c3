"""Lexical diversity side by side: the indicators of `methods.diversity.handcrafted` against lexicalrichness 0.5.1.

Here belongs the comparison alone: the responses of the same rows, the same words handed to both, one process on one
thread, by turns, in CPU seconds.

    python -m benchmarks.lexical --data alpaca.jsonl [--rows 20000]

(a) TTR, MTLD, HD-D and MATTR (50 words), from words to values and from raw texts to values. Words to values: ours gets
the block that `evidence/text_counts` keeps (the words as hashes), the peer the same words as lists of strings. Raw
texts to values: both have to make words of the texts first, the peer by its own `preprocess` and `tokenize`, ours by
`methods.text.count_block`, which counts letters, sentences and syllables beside; its share is shown. It remembers the
words that it met, a thread for itself: ours is timed in a new thread, which knows none, and then with all words known,
as in the later blocks of a large pool.
(b) vocd's D: ours exact over all rows, and by drawing as the peer does on a random sample of the rows that are long
enough; the peer on the same sample, its time scaled to all such rows.
(c) The largest difference of values, row by row, relative to the value.

The peer (a development dependency) gets only the rows for which a number is defined; for the others it would raise, or
give the length for the MTLD of a text without repetition. Our kernels are compiled on first use and kept on disk:
that is done before the clock starts, like all imports, and its time printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.diversity.handcrafted import hdd, mattr, mtld, ttr, vocd_d  # noqa: E402
from methods.flat import flat_words  # noqa: E402
from methods.text import count_block  # noqa: E402

Values = dict[str, np.ndarray]
OURS = {"ttr": ttr, "mtld": mtld, "hdd": hdd, "mattr": mattr}
SEED = 7


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a JSONL pool with `output` or `response`")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts")
    parser.add_argument("--sample", type=int, default=150, help="rows on which the peer's vocd is timed")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")  # the peer's curve fit and its imports
    texts = read(given.data, given.rows)
    seconds, _ = timed(compiled)
    block = count_block(frame(texts))
    words = written(block)
    print(f"{len(texts):,} rows of {given.data.name}, {sum(map(len, words)):,} words, one thread, CPU seconds")
    print(
        f"compiling the kernels or reading them from disk, dictionaries, imports: {seconds:.1f} s, once, not counted\n"
    )
    four(texts, words, block, given.repeats)
    vocd(words, block, given.repeats, given.sample)


def read(path: Path, rows: int) -> list[str]:
    """The responses of the first rows."""
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line, _ in zip(lines, range(rows), strict=False)]
    return [record.get("output") or record.get("response") or "" for record in records]


def frame(texts: list[str]) -> pl.DataFrame:
    """Rows as `count_block` reads them, with empty prompts."""
    return pl.DataFrame(
        {"row_id": [str(i) for i in range(len(texts))], "instruction": "", "input": "", "response": texts},
        schema=dict.fromkeys(("row_id", "instruction", "input", "response"), pl.String),
    )


def written(block: pl.DataFrame) -> list[list[str]]:
    """The words of each row as strings: equal strings for equal words is all that a peer needs."""
    flat = flat_words(block, "response")
    names = [f"word{code}" for code in range(flat.n_types)]
    words = [names[code] for code in flat.codes.tolist()]
    return [words[start:end] for start, end in zip(flat.offsets[:-1].tolist(), flat.offsets[1:].tolist(), strict=True)]


def anew(work: Callable[[], Any]) -> Any:
    """Done in a thread of its own, which remembers nothing."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def compiled() -> None:
    """Everything once on a tiny block, the peer too, so that it is imported."""
    tiny = count_block(frame(["so it goes and so it is " * 10]))
    ours(tiny)
    vocd_d(tiny)
    vocd_d(tiny, method="sampled")
    theirs([["so", "it", "goes"] * 20])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and what came of it."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def by_turns(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, Any]]:
    """The least CPU seconds of each way and its values; they take turns, so that all meet the same noise."""
    best: dict[str, tuple[float, Any]] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds, found = timed(way)
            best[name] = (min(best.get(name, (seconds, None))[0], seconds), found)
    return best


# --- (a) four indicators ---------------------------------------------------------------------------------------------
def ours(block: pl.DataFrame) -> Values:
    """Our values; a fresh frame, so that nothing is remembered from the run before."""
    block = block.clone()
    return {name: method(block)["value"].to_numpy() for name, method in OURS.items()}


def theirs(words: list[list[str]]) -> Values:
    """The peer's values from lists of words, NaN where ours are null."""
    from lexicalrichness import LexicalRichness

    return gathered(LexicalRichness(row, preprocessor=None, tokenizer=None) if row else None for row in words)


def theirs_from_texts(texts: list[str]) -> Values:
    """The peer's values by its own words: other words than ours, so only the time counts."""
    from lexicalrichness import LexicalRichness

    return gathered(LexicalRichness(text) if text else None for text in texts)


def gathered(rows: Any) -> Values:
    """The four numbers of the peer's objects, where they are defined."""
    out: dict[str, list[float]] = {name: [] for name in OURS}
    for row in rows:
        n = row.words if row else 0
        out["ttr"].append(row.ttr if n else np.nan)
        out["mtld"].append(row.mtld(threshold=0.72) if n >= 10 and row.terms < n else np.nan)
        out["hdd"].append(row.hdd(draws=42) if n >= 42 else np.nan)
        out["mattr"].append(row.mattr(window_size=50) if n >= 50 else np.nan)
    return {name: np.array(values) for name, values in out.items()}


def four(texts: list[str], words: list[list[str]], block: pl.DataFrame, repeats: int) -> None:
    """The first table, and the differences."""
    fast = by_turns(
        {
            "values": lambda: ours(block),
            "all": lambda: anew(lambda: ours(count_block(frame(texts)))),
            "words": lambda: anew(lambda: count_block(frame(texts))),
            "known": lambda: ours(count_block(frame(texts))),
        },
        repeats,
    )
    slow = by_turns({"values": lambda: theirs(words), "all": lambda: theirs_from_texts(texts)}, 1)
    print("### TTR + MTLD + HD-D + MATTR\n")
    print("| | ours | lexicalrichness | times as fast |\n|---|---|---|---|")
    row("words to values", fast["values"][0], slow["values"][0])
    row("raw texts to values", fast["all"][0], slow["all"][0])
    row("raw texts to values, all words known", fast["known"][0], slow["all"][0])
    share = fast["words"][0] / fast["all"][0]
    print(f"\nOf our raw texts to values, {fast['words'][0]:.2f} s ({share:.0%}) are `count_block`.\n")
    print("| | rows with a value | largest relative difference | rows that only one of both has |\n|---|---|---|---|")
    for name in OURS:
        difference(name, fast["values"][1][name], slow["values"][1][name])


# --- (b) vocd --------------------------------------------------------------------------------------------------------
def vocd(words: list[list[str]], block: pl.DataFrame, repeats: int, sample: int) -> None:
    """The second table."""
    from lexicalrichness import LexicalRichness

    exact, status = (vocd_d(block)[column] for column in ("value", "status"))
    long = np.flatnonzero((status == "ok").to_numpy())
    picked = np.sort(np.random.default_rng(SEED).choice(long, min(sample, len(long)), replace=False))
    part = block[picked.tolist()]
    runs = by_turns(
        {
            "exact": lambda: vocd_d(block.clone()),
            "drawn": lambda: vocd_d(part.clone(), method="sampled")["value"].to_numpy(),
        },
        repeats,
    )
    peer, found = timed(
        lambda: [LexicalRichness(words[i], preprocessor=None, tokenizer=None).vocd() for i in picked.tolist()]
    )
    scale = len(long) / max(len(picked), 1)
    print(f"\n### vocd's D: {len(long):,} rows of more than 50 words, the peer timed on {len(picked)} of them\n")
    print("| | ours | lexicalrichness | times as fast |\n|---|---|---|---|")
    row("exact, all rows (peer's time scaled)", runs["exact"][0], peer * scale)
    row("by drawing, the sample", runs["drawn"][0], peer)
    away = np.abs(np.array(found) / exact.to_numpy()[picked] - 1)
    apart = np.abs(runs["drawn"][1] / exact.to_numpy()[picked] - 1)
    print(f"\nFrom the exact value the peer's draws are {np.median(away):.2%} away in the median ({away.max():.1%} at"
          f" most), ours {np.median(apart):.2%} ({apart.max():.1%}).")  # fmt: skip


def row(label: str, fast: float, slow: float) -> None:
    """One line of a table of times."""
    print(f"| {label} | {fast:.3f} s | {slow:.1f} s | {slow / fast:,.0f} |", flush=True)


def difference(name: str, left: np.ndarray, right: np.ndarray) -> None:
    """One line of the table of differences."""
    both = np.isfinite(left) & np.isfinite(right)
    most = np.max(np.abs(left[both] - right[both]) / np.abs(right[both]), initial=0.0)
    print(f"| {name} | {both.sum():,} | {most:.1e} | {(np.isfinite(left) != np.isfinite(right)).sum()} |", flush=True)


if __name__ == "__main__":
    main()
