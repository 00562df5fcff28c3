"""The real pass killed at any moment and taken up again gives the same bytes as one that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from resources.lake import Lake
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
ROWS = 60
SCRIPT = '''
"""One lane up to the token statistics, with a model that writes down every frame: HOME FILE LOG MODEL"""
import sys, time
from pathlib import Path
import dagster as dg
import assets.checks
from assets.expectations import SuiteResult
from jobs import definitions, runs
from resources.causal_lm import CausalLM
from resources.fakes import FakeEncoder
from resources.lake import Lake

home, file, log, model = sys.argv[1:]

class Watched(CausalLM):
    def token_statistics(self, rows, on_progress=None, alone=True):
        for frame in super().token_statistics(rows, on_progress, alone):
            yield frame
            with open(log, "a") as lines:
                lines.write(f"{frame.height}\\n")
            time.sleep(0.05)

assets.checks.run_suite = lambda *_: SuiteResult()
lake = Lake(home)
lake.targets.mkdir(parents=True, exist_ok=True)
instance = dg.DagsterInstance.ephemeral()
runs.add_sources(lake, instance, {"s": Path(file)})
defs = definitions.build_defs(Path(home), FakeEncoder(), Watched(model=model, device="cpu", batch_tokens=32))
runs.materialize(lake, defs, instance, [dg.AssetKey(["evidence", "token_statistics"])], ["s"], {"sources": ["s"]})
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("crash pass")
    size = tiny.tokenizer(made / "model", bos_token="<|s|>", eos_token="<|e|>")
    tiny.llama(made / "model", size, max_position_embeddings=512)
    said = "the dog ran and the cat sat ".split()
    records = [
        {
            "instruction": f"Question {i}.",
            "output": " ".join(said[(i * k) % 7] for k in range(5 + i % 23)) + f", said {i}.",
        }
        for i in range(ROWS)
    ]
    (made / "s.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (made / "run.py").write_text(SCRIPT)
    return made


def start(folder: Path, home: str) -> subprocess.Popen[str]:
    words = [sys.executable, str(folder / "run.py"), str(folder / home), str(folder / "s.jsonl")]
    words += [str(folder / f"{home} log"), str(folder / "model")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLUICE_THREADS": "2"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def frames(folder: Path, home: str) -> list[int]:
    log = folder / f"{home} log"
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def kill_after(folder: Path, home: str, more: int) -> None:
    process, wanted = start(folder, home), len(frames(folder, home)) + more
    until = time.monotonic() + 120
    while len(frames(folder, home)) < wanted:
        assert process.poll() is None and time.monotonic() < until, process.communicate()[1][-2000:]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    process.communicate()


def finish(folder: Path, home: str) -> pl.DataFrame:
    process = start(folder, home)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-3000:]
    return Lake(folder / home).scan(["evidence", "token_statistics"], "s").collect()


def test_killed_in_the_real_pass_and_taken_up_again(folder: Path) -> None:
    undisturbed = finish(folder, "whole")
    assert len(frames(folder, "whole")) >= 4, "too few frames to be killed between"
    kill_after(folder, "home", 2)
    found = finish(folder, "home")
    assert found.height > 40 and set(found["status"]) == {"ok"}
    assert found.equals(undisturbed)  # to the last bit: a batch holds the same rows as without the kills
    # What was in hand at the kill may be passed twice, nothing else.
    assert sum(frames(folder, "home")) <= found.height + max(frames(folder, "whole"))
