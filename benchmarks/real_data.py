"""What is found in real data: code among other things, copies of tool calls, and the rows that two sources share.

    python -m benchmarks.real_data --data FOLDER

FOLDER holds ``pools/`` (one file a source) and ``targets/``. Texts are read as the program reads them. Here belong
three questions with an answer known beforehand, and the tables of `docs/found.md`; nothing is timed.

- Does DSIR with HumanEval as its target take rows of the code source out of a pool of all sources?
- Do near-duplicates go? Of one source of tool calls, rows are dropped at two thresholds, and the rows that stay are
  held against the exact Jaccard index of all pairs (a blocked sparse product).
- Are the rows found that stand in two sources, and those that nearly do?
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.filters import duplicates, resolution  # noqa: E402
from methods.filters.shingles import distinct, prompt_of, shingles, words  # noqa: E402
from methods.importance.dsir import dsir  # noqa: E402
from methods.kinds import Candidates, Target  # noqa: E402
from methods.readers import read_file  # noqa: E402
from methods.selection import twins  # noqa: E402

MARKS = ("<!-- what follows is made by `python -m benchmarks.real_data --data FOLDER` -->", "<!-- made until here -->")
CODE, SAME, ALIKE = "code_alpaca", "gpteacher_codegen", "gpteacher_toolformer"
TARGET = "humaneval"
BUDGETS = (0.01, 0.02, 0.05, 0.1)
SEEDS = 3
THRESHOLDS = (0.8, 0.5)
DROPPED = ((0.8, 0.8), (0.7, 0.8), (0.5, 0.5))
"""From which similarity pairs are found, and from which rows are dropped. The program finds a pool's pairs from .7."""
LIKE_CODE = r"(?m)```|#include|console\.log|System\.out|\);\s*$|^\s*(def \w+\(|import \w+|SELECT .+ FROM|<\w+>)"
"""A rough sign of code, independent of the source: for the rows of sources that hold code among other things."""
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("drawn, temperature 1 (the default)", {}),
    ("drawn, temperature 10", {"temperature": 10.0}),
    ("drawn, temperature 100", {"temperature": 100.0}),
    ("largest weights", {"top_k": True}),
    ("largest weights, the slower buckets of the paper's code", {"top_k": True, "hash": "sha256"}),
    ("largest weights, rows of 20 tokens or more", {"top_k": True, "min_tokens": 20}),
    ("largest weights, laplace 1", {"top_k": True, "laplace": 1.0}),
    ("drawn, temperature 10, laplace 1", {"temperature": 10.0, "laplace": 1.0}),
    ("largest weights an n-gram", {"top_k": True, "length_normalise": True}),
    ("largest weights an n-gram, rows of 20 tokens or more, laplace 1",
     {"top_k": True, "length_normalise": True, "min_tokens": 20, "laplace": 1.0}),
)  # fmt: skip


def read(path: Path) -> pl.DataFrame:
    """All rows of a file, as the program reads it."""
    rows = pl.concat([batch.rows for batch in read_file(path, path.stem)])
    return rows.select("row_id", "source", "instruction", "input", "response")


def once(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """One pool: the same row in two sources is one row, of the first of them."""
    return pl.concat(list(frames)).unique("row_id", keep="first", maintain_order=True)


def said(rows: pl.DataFrame) -> pl.DataFrame:
    """What selectors get of a row's text."""
    return rows.select(prompt=prompt_of(), response=pl.col("response"))


# --- code towards a code target ---------------------------------------------------------------------------------------
def picks(rows: pl.DataFrame, target: pl.DataFrame, budgets: Sequence[float]) -> list[str]:
    """Markdown: what share of each choice is of the code source, and how many times its share of the pool that is."""
    code = (rows["source"] == CODE).to_numpy()
    like = rows.select((pl.col("response")).str.contains(LIKE_CODE)).to_series().to_numpy()
    length = rows["response"].str.len_chars().to_numpy()
    pool = Candidates(rows["row_id"], texts=said(rows), targets={TARGET: Target(said(target))})
    largest = round(max(budgets) * len(rows))
    out = [f"{len(rows):,} rows; {code.mean():.1%} are of `{CODE}`, {like.mean():.1%} look like code."]
    out += [
        "Cells: share of the code source, times its share of the pool; share that looks like code. Last: characters of",
        "the response, median at 2 %.",
        "",
    ]
    out.append("| choice | " + " | ".join(f"{b:.0%} ({round(b * len(rows)):,})" for b in budgets) + " | characters |")
    out.append("|---|" + "---|" * (len(budgets) + 1))
    orders = {"random": [np.random.default_rng(seed).permutation(len(rows)) for seed in range(SEEDS)]}
    for name, options in WAYS:
        seeds = 1 if options.get("top_k") else SEEDS
        chosen = [dsir(pool, largest, seed, **{"hash": "fast", **options}) for seed in range(seeds)]
        orders[name] = [found.order for found in chosen]
    for name, several in orders.items():
        cells = []
        for budget in budgets:
            # Of one target the order of a larger budget begins with that of a smaller one.
            heads = [order[: round(budget * len(rows))] for order in several]
            share, alike = (np.mean([kind[head].mean() for head in heads]) for kind in (code, like))
            cells.append(f"{share:.1%}, {share / code.mean():.1f}x; {alike:.1%}")
        middle = np.median(np.concatenate([length[order[: round(budgets[1] * len(rows))]] for order in several]))
        out.append(f"| {name} | " + " | ".join(cells) + f" | {middle:.0f} |")
    return out


# --- pairs, exactly ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Pairs:
    """Pairs of rows a < b and their Jaccard index."""

    a: np.ndarray
    b: np.ndarray
    similarity: np.ndarray

    def where(self, mask: np.ndarray) -> Pairs:
        return Pairs(self.a[mask], self.b[mask], self.similarity[mask])

    def keys(self, n: int) -> np.ndarray:
        """One number a pair."""
        return self.a * n + self.b


def all_pairs(texts: pl.Series, threshold: float, block: int = 512) -> Pairs:
    """Every pair of texts at or above the threshold, from products of blocks of the incidence matrix."""
    from scipy.sparse import csr_array

    sets = distinct(shingles(words(texts), duplicates.N_WORDS, duplicates.N_CHARS))
    _, codes = np.unique(sets.values, return_inverse=True)
    shape = (len(sets), int(codes.max(initial=0)) + 1)
    matrix = csr_array((np.ones(len(codes), np.int32), codes, sets.offsets), shape=shape)
    other, size = matrix.T.tocsr(), sets.lengths
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(sets), block):
        common = (matrix[start : start + block] @ other).tocoo()
        a, b = common.coords[0].astype(np.int64) + start, common.coords[1].astype(np.int64)
        similarity = common.data / (size[a] + size[b] - common.data)
        kept = (a < b) & (similarity >= threshold)
        parts.append((a[kept], b[kept], similarity[kept]))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def found_pairs(rows: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """The pairs as the program finds them."""
    return twins.find_pairs(rows, duplicates.signatures(rows)["signature"], threshold)


def covered(rows: pl.DataFrame, pairs: pl.DataFrame, exact: Pairs) -> np.ndarray:
    """Which of the exact pairs the program knows: both of one text, or their texts' first rows are a pair."""
    first = resolution.exact_classes(rows)
    number = dict(zip(rows["row_id"].to_list(), range(len(rows)), strict=True))
    near = pairs.filter(pl.col("kind") == twins.NEAR)
    a, b = (first[near[side].replace_strict(number, return_dtype=pl.Int64).to_numpy()] for side in ("a", "b"))
    known = np.minimum(a, b) * len(rows) + np.maximum(a, b)
    a, b = first[exact.a], first[exact.b]
    here: np.ndarray = (a == b) | np.isin(np.minimum(a, b) * len(rows) + np.maximum(a, b), known)
    return here


def unbanded(rows: pl.DataFrame, exact: Pairs, threshold: float) -> int:
    """How many of the pairs agree in no band of their signatures, so that they are never compared."""
    signature = duplicates.minhash(shingles(words(resolution.text_of(rows)), duplicates.N_WORDS, duplicates.N_CHARS))
    bands, width = duplicates.banding(threshold, signature.shape[1])
    apart = np.ones(len(exact.a), bool)
    for band in range(bands):
        columns = signature[:, band * width : (band + 1) * width]
        apart &= (columns[exact.a] != columns[exact.b]).any(axis=1)
    return int(apart.sum())


# --- near-duplicates of one source ------------------------------------------------------------------------------------
def gone(rows: pl.DataFrame, thresholds: Sequence[tuple[float, float]] = DROPPED) -> list[str]:
    """Markdown: pairs found of all pairs, rows dropped, and pairs at or above the threshold among those that stay."""
    exact = all_pairs(resolution.text_of(rows), min(least for _, least in thresholds))
    order, first = np.arange(len(rows)), resolution.exact_classes(rows)
    out = ["| found from | dropped from | pairs, exactly | found | missed, of them never compared | rows dropped |"]
    out[0] += " dropped on exact pairs, in common | rows kept | pairs left among the kept |"
    out.append("|---|---|---|---|---|---|---|---|---|")
    for start, threshold in thresholds:
        true = exact.where(exact.similarity >= threshold)
        pairs = found_pairs(rows, start)
        known = covered(rows, pairs, true)
        dropped = twins.resolve(rows["row_id"], pairs, threshold)["row_id"]
        edges = pl.DataFrame({"a": true.a, "b": true.b, "similarity": true.similarity}, schema=duplicates.EDGES)
        best = rows["row_id"].gather(resolution.resolve(order, edges, threshold, first)["row"])
        kept = ~rows["row_id"].is_in(dropped.implode()).to_numpy()
        left = true.where(kept[true.a] & kept[true.b])
        missed = true.where(~known)
        cells = [start, threshold, f"{len(known):,}", f"{known.sum():,} ({known.mean():.4f})"]
        cells += [f"{len(missed.a):,}, {unbanded(rows, missed, start):,}", f"{len(dropped):,}"]
        cells += [f"{len(best):,}, {len(set(best) & set(dropped)):,}", f"{kept.sum():,}", len(left.a)]
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return out


# --- rows of two sources ----------------------------------------------------------------------------------------------
def shared(one: pl.DataFrame, other: pl.DataFrame, thresholds: Sequence[float]) -> list[str]:
    """Markdown: pairs across two sources by brute force, and how many of them the program finds.

    Rows get an id a source, so that pairs are sought by their texts: by its own ids the program would know equal rows
    already.
    """
    by_id = len(set(one["row_id"]) & set(other["row_id"]))
    rows = pl.concat([one, other]).with_columns(row_id=pl.col("source") + ":" + pl.col("row_id"))
    texts = resolution.text_of(rows)
    key = resolution.text_key(texts)
    twin = pl.DataFrame({"key": key}).with_row_index("i").with_columns(pl.col("i").cast(pl.Int64))
    same = twin[: len(one)].join(twin[len(one) :], on="key", suffix="_other")
    exact = all_pairs(texts, min(thresholds))
    across = exact.where((exact.a < len(one)) & (exact.b >= len(one)))
    own = across.where(key.gather(across.a).to_numpy() != key.gather(across.b).to_numpy())
    out = [
        f"{len(one):,} rows of `{one['source'][0]}`, {len(other):,} of `{other['source'][0]}`; {by_id:,} rows of the",
        "",
    ]
    out = [out[0] + " one have the same `row_id` in the other and are one row of a pool without any search."]
    out += ["", "| pairs across the sources | by brute force | found | recall |", "|---|---|---|---|"]
    for threshold in thresholds:
        pairs = found_pairs(rows, threshold)
        known = set(pairs.filter(pl.col("kind") == twins.SAME_TEXT).select("a", "b").iter_rows())
        ids = rows["row_id"]
        ends = list(zip(ids.gather(same["i"]).to_list(), ids.gather(same["i_other"]).to_list(), strict=True))
        # A text of several rows stands beside its first one only.
        first = dict(zip(ids.to_list(), ids.gather(resolution.exact_classes(rows)).to_list(), strict=True))
        hit = sum((a == first[b] or (first[b], a) in known) and (first[b], b) in known for a, b in ends)
        out.append(f"| same text | {len(ends):,} | {hit:,} | {hit / max(len(ends), 1):.4f} |")
        near = own.where(own.similarity >= threshold)
        there = covered(rows, pairs, near)
        out.append(f"| Jaccard index of {threshold} or more, not of one text | {len(there):,} | {there.sum():,} | "
                   f"{there.mean() if len(there) else 1:.4f} |")  # fmt: skip
        missed = near.where(~there)
        out += [f"| - missed: {exact_text(rows, missed, at)} | | | |" for at in range(min(len(missed.a), 3))]
    return list(dict.fromkeys(out))  # what holds at every threshold stands once


def exact_text(rows: pl.DataFrame, pairs: Pairs, at: int) -> str:
    """A pair by the numbers of its records."""
    a, b = int(pairs.a[at]), int(pairs.b[at])
    return f"rows {a} and {b} of the two files end to end, {pairs.similarity[at]:.3f}"


def written(path: Path, text: str) -> None:
    """The page with its made part replaced; what a person wrote around it stays."""
    before, after = "# Found in real data\n\n", "\n"
    if path.exists() and MARKS[0] in (old := path.read_text(encoding="utf-8")):
        before, after = old.split(MARKS[0])[0], old.split(MARKS[1])[1]
    path.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of pools/ and targets/")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    given = parser.parse_args()
    sources = {path.stem: read(path) for path in sorted((given.data / "pools").iterdir())}
    target = read(next((given.data / "targets").glob(f"{TARGET}.*")))
    out = [f"## Code for a code target (DSIR, {len(target)} rows of `{TARGET}`)", ""]
    out += [*picks(once(sources.values()), target, BUDGETS), ""]
    out += [f"## Near-duplicates of `{ALIKE}`: {len(sources[ALIKE]):,} rows", "", *gone(sources[ALIKE]), ""]
    out += ["## Rows of two sources", "", *shared(sources[CODE], sources[SAME], THRESHOLDS)]
    written(given.docs / "found.md", "\n".join(out))


if __name__ == "__main__":
    main()
