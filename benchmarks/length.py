"""How every indicator goes with the length of the response: Spearman's rank correlation, for the page of methods.

    python -m benchmarks.length --data alpaca.jsonl [--embedded 3000] [--passed 200]
    python -m benchmarks.length --data alpaca.jsonl --passed 100 --indicator cape_uncertainty [--indicator ...]

Length is the confounder of this field: an indicator that ranks rows as their length does chooses long answers under
another name. Indicators of words are computed on the whole file; those that need embeddings on the first `--embedded`
rows, those that read the language model's token statistics on the first `--passed`, and so are those that are named:
what takes many passes a row is measured only then. Written to docs/length_correlation.json, from where the
generated page takes its column.
"""

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path

import polars as pl

from methods.kinds import Indicator

OUT = Path(__file__).resolve().parents[1] / "docs" / "length_correlation.json"


def scored(home: Path, data: Path, ids: list[str]) -> pl.DataFrame:
    """``sluice score`` on a file: one line a row and indicator."""
    from click.testing import CliRunner

    from jobs.cli import main as sluice

    out = home / "scores.parquet"
    named = [word for name in ids for word in ("--indicator", name)]
    call = ["score", "--home", str(home / "home"), "--source", f"pool={data}", *named, "--out", str(out)]
    result = CliRunner().invoke(sluice, call, catch_exceptions=False)
    if result.exit_code:
        raise SystemExit(result.output)
    return pl.read_parquet(out)


def correlations(scores: pl.DataFrame, ids: list[str]) -> dict[str, dict[str, float | int | None]]:
    """Spearman's rho of each indicator with response_length over the rows that have both, and their number."""
    from scipy.stats import spearmanr

    length = scores.filter(pl.col("indicator") == "response_length").select("position", length="value")
    found: dict[str, dict[str, float | int | None]] = {}
    for name in ids:
        mine = scores.filter(pl.col("indicator") == name).join(length, on="position").drop_nulls(["value", "length"])
        varies = mine["value"].n_unique() > 1
        rho = float(spearmanr(mine["value"].to_numpy(), mine["length"].to_numpy())[0]) if varies else None
        found[name] = {"rho": None if rho is None else round(rho, 2), "n": mine.height}
    return found


def main() -> None:
    from methods import catalog

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedded", type=int, default=3000)
    parser.add_argument("--passed", type=int, default=200)
    parser.add_argument("--indicator", action="append", default=[])
    arguments = parser.parse_args()
    vectors = {"embedded/minilm", "encode", "clustered/kmeans", "evidence/neighbours"}

    def level_of(indicator: Indicator) -> int | None:
        """Which of the limits holds; None: not to be measured now."""
        if arguments.indicator:
            return 2 if indicator.id in arguments.indicator else None
        if indicator.cost != "cpu":
            return 2 if indicator.needs == ("evidence/token_statistics",) else None
        return 1 if vectors & set(indicator.needs) else 0

    limits = (None, arguments.embedded, arguments.passed)
    found: dict[str, dict[str, float | int | None]] = {}
    lines = arguments.data.read_text(encoding="utf-8").splitlines(keepends=True)
    for level, rows in enumerate(limits):
        ids = [i.id for i in catalog.INDICATORS if level_of(i) == level]
        if rows == 0 or not ids:
            continue
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "pool.jsonl"
            part.write_text("".join(lines[:rows]), encoding="utf-8")
            table = scored(Path(folder), part, list(dict.fromkeys(["response_length", *ids])))
            found |= correlations(table, ids)
    known = json.loads(OUT.read_text(encoding="utf-8"))["indicators"] if OUT.exists() else {}
    said = {
        "data": "alpaca",
        "measured": date.today().isoformat(),
        "indicators": dict(sorted({**known, **found}.items())),
    }
    OUT.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for name, values in sorted(found.items()):
        print(f"{name:34} {values['rho']!s:>6} {values['n']:>7,}")


if __name__ == "__main__":
    main()
