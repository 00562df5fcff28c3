"""Killed at any moment, a run goes on from its last finished batch; two runs at once share what they compute."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from resources.lake import Lake

ROOT = Path(__file__).resolve().parents[1]
ROWS, BATCH = 40, 8
SCRIPT = '''
"""One run with models that are slow and write down every row that they look at: HOME FILE LOG TARGET..."""
import sys, time
from pathlib import Path
import dagster as dg
import assets.checks
from assets.expectations import SuiteResult
from jobs import definitions, runs
from resources.fakes import FakeCausalLM, FakeEncoder
from resources.lake import Lake

home, file, log, *targets = sys.argv[1:]

def looked_at(model, rows):
    time.sleep(0.1)
    with open(log, "a") as lines:
        lines.write("".join(f"{model} {row}\\n" for row in rows))

class Encoder(FakeEncoder):
    def encode(self, texts, on_progress=None, block=2048):
        for made in super().encode(texts, on_progress, BATCH):
            looked_at("encoder", [hash_of(texts[i]) for i in made.indices])
            yield made

class Model(FakeCausalLM):
    def token_statistics(self, rows, on_progress=None):
        for start in range(0, rows.height, BATCH):
            part = rows.slice(start, BATCH)
            looked_at("causal_lm", part["row_id"])
            yield from super().token_statistics(part)

def hash_of(text):
    return text.split(".")[0].replace(" ", "_")

assets.checks.run_suite = lambda *_: SuiteResult()
lake = Lake(home)
lake.targets.mkdir(parents=True, exist_ok=True)
instance = dg.DagsterInstance.ephemeral()
runs.add_sources(lake, instance, {"s": Path(file)})
print("ready", flush=True)
keys = [dg.AssetKey(target.split("/")) for target in targets]
made = runs.materialize(lake, definitions.build_defs(Path(home), Encoder(), Model()), instance, keys, ["s"],
                        {"sources": ["s"], "budget": "10"})
'''.replace("BATCH", str(BATCH))


class Run:
    """A process of its own, which can be watched by what its models write down, and killed."""

    def __init__(self, folder: Path, home: str, log: str, *targets: str) -> None:
        script = folder / "run.py"
        script.write_text(SCRIPT)
        self.log = folder / log
        words = [sys.executable, str(script), str(folder / home), str(folder / "s.jsonl"), str(self.log), *targets]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def looked_at(self, model: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[1] for line in lines if line.startswith(model)]

    def kill_after(self, model: str, rows: int) -> None:
        until = time.monotonic() + 120
        while len(self.looked_at(model)) < rows:
            assert self.process.poll() is None, self.process.communicate()[1][-2000:]
            assert time.monotonic() < until
            time.sleep(0.01)
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(30) == -signal.SIGKILL
        self.process.communicate()

    def finish(self) -> None:
        errors = self.process.communicate(timeout=300)[1]
        assert self.process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("crash")
    nouns = "river harbour engine garden letter market bridge lantern orchard signal copper winter theatre".split()
    records = [
        {
            "instruction": f"Question {i}.",
            "output": f"The {nouns[i % 13]} is near the {nouns[i * 7 % 11]}, said {i}. " * 3,
        }
        for i in range(ROWS)
    ]
    (made / "s.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return made


def tables(home: Path) -> dict[str, pl.DataFrame]:
    folder = Lake(home).root / "tables"
    return {path.relative_to(folder).as_posix(): pl.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))}


WHOLE, LANE = ["selected/ifd_top", "scored/knn_1"], ["embedded/minilm", "scored/ifd"]


@pytest.fixture(scope="module")
def undisturbed(folder) -> dict[str, pl.DataFrame]:
    """The tables of a run that nobody killed, though another worked on the same source at the same time."""
    one, two = Run(folder, "both", "log of both", *WHOLE), Run(folder, "both", "log of both", *LANE)
    one.finish()
    two.finish()
    for model in ("encoder", "causal_lm"):
        assert Counter(Counter(one.looked_at(model)).values()) == {1: ROWS}, (
            model
        )  # every row once, by the one or the other
    assert [path.name for path in (folder / "both" / "lake").rglob("*.staged")] == []
    return tables(folder / "both")


def test_two_runs_at_once_compute_every_row_once(undisturbed):
    assert {table.height for name, table in undisturbed.items() if name.endswith("/s.parquet")} == {ROWS, 0}


def test_killed_in_the_middle_of_a_pass(folder, undisturbed):
    """First while rows are embedded, then while the language model reads: no finished batch is computed again."""
    Run(folder, "home", "log", *WHOLE).kill_after("encoder", 2 * BATCH)
    Run(folder, "home", "log", *WHOLE).kill_after("causal_lm", 3 * BATCH)
    last = Run(folder, "home", "log", *WHOLE)
    last.finish()
    for model in ("encoder", "causal_lm"):
        seen = Counter(last.looked_at(model))
        assert len(seen) == ROWS
        assert sum(seen.values()) <= ROWS + BATCH, model  # at most the batch in hand when it was killed
    found = tables(folder / "home")
    assert set(found) == set(undisturbed)
    for name, table in undisturbed.items():
        assert found[name].equals(table), name
