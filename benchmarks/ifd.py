"""What IFD with the embedded model is worth: against a published selection, against length, and on planted mismatches.

    python -m benchmarks.ifd --data alpaca.jsonl --labels alpaca_selections.jsonl [--rows 500] [--pairs 200]

- *agreement*: AUC of IFD (and of the ratio of perplexities) for rows that Cherry published as its choice from Alpaca
  (IFD with LLaMA-7B), against rows of a random sample of Alpaca that it did not choose; `--rows` of each by seed.
  Beside it the AUC of length alone, and that of IFD among rows of like length (the mean over ten strata of equal size,
  weighted by their pairs). Intervals: 95 %, bootstrap of both groups.
- *mismatch*: `--pairs` rows whose answers have 40 words or more; each answer once behind its own prompt and once behind
  that of another row. The share of answers whose IFD rises.

``data`` has one record a line with ``id``, ``instruction``, ``input``, ``output``; ``labels`` one with ``id``,
``selected_by`` (names of published selections) and ``random_base``.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

STRATA = 10


def auc(chosen: np.ndarray, others: np.ndarray) -> float:
    """The chance that a chosen row is above another; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([chosen, others]))[: len(chosen)]
    return float((ranks.sum() - len(chosen) * (len(chosen) + 1) / 2) / (len(chosen) * len(others)))


def within_strata(value: np.ndarray, length: np.ndarray, chosen: np.ndarray) -> float:
    """AUC among rows of like length."""
    edges = np.quantile(length, np.linspace(0, 1, STRATA + 1)[1:-1])
    stratum = np.searchsorted(edges, length, side="right")
    found, weights = [], []
    for s in range(STRATA):
        mine, others = value[(stratum == s) & chosen], value[(stratum == s) & ~chosen]
        if len(mine) and len(others):
            found.append(auc(mine, others))
            weights.append(len(mine) * len(others))
    return float(np.average(found, weights=weights)) if found else float("nan")


def interval(measure: Any, chosen: np.ndarray, *columns: np.ndarray, draws: int = 500) -> tuple[float, float]:
    """The middle 95 % of a measure of (columns, chosen) over bootstrap samples of both groups."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(chosen), np.flatnonzero(~chosen)]
    values = []
    for _ in range(draws):
        rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
        values.append(measure(*(column[rows] for column in columns), chosen[rows]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def passed(conversations: Sequence[tuple[str, str, str]]) -> pl.DataFrame:
    """``ifd``, ``superfiltering`` and ``length`` (words) of (instruction, input, response), in order."""
    from methods.quality import model
    from resources.causal_lm import CausalLM

    columns = dict(zip(("instruction", "input", "response"), zip(*conversations, strict=True), strict=True))
    rows = pl.DataFrame({"row_id": [str(i) for i in range(len(conversations))], **columns})

    def told(done: int, of: int) -> None:
        print(f"\r{done} of {of} rows", end="", flush=True)

    found = pl.concat(list(CausalLM().token_statistics(rows, told)))
    print("\r", end="")
    found = rows.select("row_id").join(found, on="row_id", how="left", maintain_order="left")
    values = {name: getattr(model, name)(found)["value"] for name in ("ifd", "superfiltering")}
    return pl.DataFrame({**values, "length": rows["response"].str.split(" ").list.len()})


def agreement(rows: dict[str, dict[str, Any]], labels: list[dict[str, Any]], n: int) -> None:
    """Print how IFD, the ratio of perplexities and length find the published choice."""
    rng = np.random.default_rng(0)
    filled = [label for label in labels if rows.get(label["id"], {}).get("output", "").strip()]
    cherry = [label["id"] for label in filled if "cherry5" in label["selected_by"]]
    base = [label["id"] for label in filled if label["random_base"] and "cherry5" not in label["selected_by"]]
    ids = [str(i) for group in (cherry, base) for i in rng.choice(group, min(n, len(group)), replace=False)]
    chosen = np.arange(len(ids)) < min(n, len(cherry))
    found = passed([(rows[i]["instruction"], rows[i]["input"], rows[i]["output"]) for i in ids])
    known = found.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
    found, chosen = found.filter(pl.Series(known)), chosen[known]
    print(f"{chosen.sum()} chosen rows, {(~chosen).sum()} of the random base, {(~known).sum()} without a value\n")
    print("| score | AUC | 95 % | AUC among rows of like length | 95 % |\n|---|---|---|---|---|")
    length = found["length"].to_numpy().astype(float)

    def plain(value: np.ndarray, chosen: np.ndarray) -> float:
        return auc(value[chosen], value[~chosen])

    for name in ("ifd", "superfiltering", "length"):
        value = found[name].to_numpy().astype(float)
        low, high = interval(plain, chosen, value)
        line = f"| {name} | {plain(value, chosen):.3f} | {low:.3f} to {high:.3f} "
        if name == "length":
            print(line + "| | |")
            continue
        low, high = interval(within_strata, chosen, value, length)
        print(line + f"| {within_strata(value, length, chosen):.3f} | {low:.3f} to {high:.3f} |")


def mismatch(rows: dict[str, dict[str, Any]], pairs: int) -> None:
    """Print the share of answers whose IFD rises behind another row's prompt."""
    rng = np.random.default_rng(1)
    long = [row for row in rows.values() if len(row["output"].split()) >= 40]
    drawn = [long[int(i)] for i in rng.choice(len(long), min(pairs, len(long)), replace=False)]
    other = [*drawn[1:], drawn[0]]
    own = [(row["instruction"], row["input"], row["output"]) for row in drawn]
    planted = [(row["instruction"], row["input"], mine["output"]) for row, mine in zip(other, drawn, strict=True)]
    found = passed(own + planted)["ifd"].to_numpy().astype(float)
    before, after = found[: len(own)], found[len(own) :]
    known = np.isfinite(before) & np.isfinite(after)
    rose = int((after[known] > before[known]).sum())
    print(
        f"\n{rose} of {known.sum()} mismatched answers ({rose / known.sum():.1%}) have a higher IFD than with their own"
    )
    print(f"prompt; median {np.median(before[known]):.3f} with it, {np.median(after[known]):.3f} with another's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=200)
    given = parser.parse_args()
    rows = {row["id"]: row for row in map(json.loads, given.data.read_text().splitlines())}
    labels = [json.loads(line) for line in given.labels.read_text().splitlines()]
    agreement(rows, labels, given.rows)
    mismatch(rows, given.pairs)


if __name__ == "__main__":
    main()
