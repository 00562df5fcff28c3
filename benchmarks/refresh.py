"""What a refresh costs: a recipe on N rows, then 1 % more rows, then nothing new; and a language-model pass that is
interrupted.

    python -m benchmarks.refresh --data alpaca.jsonl --rows 5000 --lm-rows 300

Every phase runs in this one process, after a warm-up on a few rows of another home, so that imports and the loading
of models are not counted. Homes are made in a temporary folder and removed. ``--fake`` takes stand-in models: then
only the house itself is measured. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from jobs import definitions, home, runs
from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.fakes import FakeCausalLM, FakeEncoder
from resources.lake import Lake

RECIPE = [dg.AssetKey([stage, "quality_diverse"]) for stage in ("selected", "evaluated")]
TOKENS = [dg.AssetKey(["evidence", "token_statistics"])]
NAME = "pool"


@dataclass
class Phase:
    """One measured call."""

    seconds: float
    computed: dict[str, int]
    """Rows computed by each table that counts them."""
    steps: dict[str, float]
    """Seconds of each step."""
    made: int
    up_to_date: int


class House:
    """A home in a folder, and calls on it."""

    def __init__(self, folder: Path, encoder: Encoder, causal_lm: CausalLM) -> None:
        self.lake: Lake = home.prepare(folder)
        self.folder, self.models = folder, (encoder, causal_lm)

    def call(self, lines: list[str], targets: list[dg.AssetKey], causal_lm: CausalLM | None = None) -> Phase:
        file = self.folder / f"{NAME}.jsonl"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        defs = definitions.build_defs(self.folder, self.models[0], causal_lm or self.models[1])
        with home.instance() as instance:
            before = {run.run_id for run in instance.get_runs()}
            runs.add_sources(self.lake, instance, {NAME: file})
            start = time.perf_counter()
            outcome = runs.materialize(self.lake, defs, instance, targets, [NAME], {"sources": [NAME]})
            seconds = time.perf_counter() - start
            stats = [
                s
                for run in instance.get_runs()
                if run.run_id not in before
                for s in instance.get_run_step_stats(run.run_id)
            ]
        steps: dict[str, float] = defaultdict(float)
        for step in stats:
            steps[step.step_key] += (step.end_time or 0) - (step.start_time or 0)
        computed = {made.key: made.computed for made in outcome.made if made.computed is not None}
        return Phase(seconds, computed, steps, len(outcome.made), outcome.up_to_date)


class Interrupted(CausalLM):
    """A language model whose process is killed after some rows."""

    after: int = 0

    def token_statistics(self, rows: pl.DataFrame, *args: Any, **kwargs: Any) -> Iterator[pl.DataFrame]:
        done = 0
        for batch in super().token_statistics(rows, *args, **kwargs):
            yield batch
            done += batch.height
            if done >= self.after:
                raise RuntimeError("interrupted")


class InterruptedFake(FakeCausalLM):
    """The same with a stand-in."""

    after: int = 0

    def token_statistics(self, rows: pl.DataFrame, *args: Any, **kwargs: Any) -> Iterator[pl.DataFrame]:
        for start in range(0, rows.height, 32):
            if start >= self.after:
                raise RuntimeError("interrupted")
            yield from super().token_statistics(rows.slice(start, 32), *args, **kwargs)


def refresh(folder: Path, lines: list[str], rows: int, models: tuple[Encoder, CausalLM]) -> None:
    more = max(1, rows // 100)
    house = House(folder / "refresh", *models)
    full = house.call(lines[:rows], RECIPE)
    fresh = house.call(lines[: rows + more], RECIPE)
    same = house.call(lines[: rows + more], RECIPE)
    print(f"## `quality_diverse`: {rows:,} rows, then {more:,} more\n")
    print("| | seconds | share of the full run | tables made | up to date |\n|---|---|---|---|---|")
    for name, phase in (("full run", full), (f"{more:,} rows more", fresh), ("the same again", same)):
        share = phase.seconds / full.seconds
        print(f"| {name} | {phase.seconds:.2f} | {share:.1%} | {phase.made - phase.up_to_date} | {phase.up_to_date} |")
    print("\n| rows computed | full run | refresh |\n|---|---|---|")
    for key in sorted(full.computed):
        print(f"| {key} | {full.computed[key]:,} | {fresh.computed.get(key, 0):,} |")
    print("\n| seconds of a step | full run | refresh |\n|---|---|---|")
    for key in sorted(full.steps, key=lambda k: -full.steps[k]):
        print(f"| {key} | {full.steps[key]:.2f} | {fresh.steps.get(key, 0.0):.2f} |")
    print()


def resume(folder: Path, lines: list[str], rows: int, models: tuple[Encoder, CausalLM], fake: bool) -> None:
    whole = House(folder / "whole", *models).call(lines[:rows], TOKENS)
    house = House(folder / "killed", *models)
    killer = (InterruptedFake if fake else Interrupted)(after=rows // 2)
    start = time.perf_counter()
    try:
        house.call(lines[:rows], TOKENS, killer)
    except runs.RunFailed:
        first = time.perf_counter() - start
    else:
        raise SystemExit("the pass was over before it could be interrupted: raise --lm-rows")
    identity = {"code": "1", **models[1].identity()}
    kept = len(house.lake.cache("token_statistics", identity).row_ids())
    rest = house.call(lines[:rows], TOKENS)
    again = rest.computed["evidence/token_statistics"] + kept - whole.computed["evidence/token_statistics"]
    print(f"## Language-model pass over {rows:,} rows, interrupted and taken up again\n")
    print("| | seconds | rows |\n|---|---|---|")
    print(f"| in one go | {whole.seconds:.2f} | {whole.computed['evidence/token_statistics']:,} |")
    print(f"| until the interruption | {first:.2f} | {kept:,} kept |")
    print(f"| the rest | {rest.seconds:.2f} | {rest.computed['evidence/token_statistics']:,} |")
    print(f"\nRows of finished batches computed twice: {again}.\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a .jsonl file of instruction data")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--lm-rows", type=int, default=0, help="0: without the language-model pass")
    parser.add_argument("--fake", action="store_true", help="stand-in models: measure the house alone")
    arguments = parser.parse_args()
    lines = [line for line in arguments.data.read_text(encoding="utf-8").splitlines() if line.strip()]
    needed = max(arguments.rows + max(1, arguments.rows // 100), arguments.lm_rows)
    if len(lines) < needed:
        raise SystemExit(f"{arguments.data} has {len(lines):,} lines; {needed:,} are needed")
    models = (FakeEncoder(), FakeCausalLM()) if arguments.fake else (Encoder(), CausalLM())
    cores = len(os.sched_getaffinity(0))
    print(
        f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}; encoder {models[0].identity()['model']}\n"
    )
    with tempfile.TemporaryDirectory(prefix="sluice-refresh-") as made:
        folder = Path(made)
        House(folder / "warm", *models).call(lines[-40:], RECIPE + (TOKENS if arguments.lm_rows else []))
        refresh(folder, lines, arguments.rows, models)
        if arguments.lm_rows:
            resume(folder, lines, arguments.lm_rows, models, arguments.fake)


if __name__ == "__main__":
    main()
