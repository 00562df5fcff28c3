"""New data against a live `dagster dev`: a file is dropped into the folder, and everything that follows happens by itself.

One server for all tests, with models that are stand-ins, in a home of its own. The tests follow one another on purpose: each
begins when nothing is under way, and counts from there.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.step import UNDER_WAY
from resources.lake import Lake

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("random", "quality_diverse")
PATIENCE = 240.0
"""Seconds until a test gives up; far more than it takes."""


class Live:
    """The home that the server works on, seen from outside."""

    def __init__(self, lake: Lake, instance: dg.DagsterInstance, server: subprocess.Popen[bytes], log: Path) -> None:
        self.lake, self.instance, self.server, self.log = lake, instance, server, log

    def drop(self, name: str, text: str) -> None:
        (self.lake.landing / name).write_text(text, encoding="utf-8")

    def wait(self, what: str, until: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not until():
            assert self.server.poll() is None, f"the server ended: {self.log.read_text()[-3000:]}"
            assert time.monotonic() < end, f"waited in vain: {what}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.2)

    def runs(self) -> list[dg.DagsterRun]:
        return [record.dagster_run for record in self.instance.get_run_records()]

    def under_way(self) -> bool:
        return bool(self.instance.get_runs_count(dg.RunsFilter(statuses=list(UNDER_WAY))))

    def started(self, asset: str) -> bool:
        """Whether a run that makes this asset has begun to work."""
        return any(
            run.status == dg.DagsterRunStatus.STARTED and dg.AssetKey(asset.split("/")) in (run.asset_selection or ())
            for run in self.runs()
        )

    def chosen(self) -> dict[str, int]:
        """How often each recipe was chosen so far."""
        made = {
            name: self.instance.fetch_materializations(dg.AssetKey(["selected", name]), limit=1000) for name in RECIPES
        }
        return {name: len(result.records) for name, result in made.items()}

    def looks(self, sensor: str, since: float) -> int:
        """How many looks of a sensor began after this moment and are over."""
        for state in self.instance.all_instigator_state():
            if state.instigator_name == sensor:
                ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since)
                return sum(tick.end_timestamp is not None and tick.timestamp > since for tick in ticks)
        return 0

    def quiet(self) -> None:
        """Until whatever was to happen has happened: no run, and the sensors looked (twice for a file) and asked for none."""
        while True:
            self.wait("the runs to end", lambda: not self.under_way())
            known, now = len(self.runs()), time.time()
            self.wait("looks at the folder", lambda now=now: self.looks("landing", now) >= 2)
            self.wait("a look at the conditions", lambda now=now: self.looks("refresh", now) >= 1)
            if not self.under_way() and len(self.runs()) == known:
                return

    def failed(self) -> list[dg.DagsterRun]:
        return [run for run in self.runs() if run.status == dg.DagsterRunStatus.FAILURE]

    def is_current(self, recipe: str) -> bool:
        """Whether a subset was made of exactly what the lake holds now."""
        manifest = self.lake.manifest(["selected", recipe])
        assert manifest is not None
        places = [name.removesuffix("]").partition("[")[::2] for name in manifest.inputs]
        stored = [self.lake.manifest(key.split("/"), source or None) for key, source in places]
        return list(manifest.inputs.values()) == [found.data_version for found in stored if found]

    def by_sensor(self) -> list[str]:
        """Who asked for a run, and for which source, in the order of asking."""
        tags = [run.tags for run in reversed(self.runs()) if "dagster/sensor_name" in run.tags]
        return [
            " ".join([t["dagster/sensor_name"], *([t["sluice/source"]] if "sluice/source" in t else [])]) for t in tags
        ]


def rows(topic: str, n: int = 12) -> str:
    """A small source of its own making."""
    lines = []
    for i in range(n):
        answer = (
            f"The {topic} number {i} is opened in the morning, checked for damage, and set down near lamp {i * 7}. "
            f"After that two people carry it to hall {i % 5}, note its weight of {i * 3 + 11} pounds, and leave."
        )
        lines.append(json.dumps({"instruction": f"What happens to {topic} {i} on day {i * 5 + 1}?", "output": answer}))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    from jobs import definitions, runs
    from jobs import home as homes
    from resources.fakes import FakeCausalLM, FakeEncoder

    folder = tmp_path_factory.mktemp("live")
    settings = {
        "SLUICE_ENCODER": "fake",
        "SLUICE_CAUSAL_LM": "fake",
        "SLUICE_SENSOR_INTERVAL": "2",
        "OMP_NUM_THREADS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLUICE_HOME", "DAGSTER_HOME"):
            patch.setenv(name, "")  # so that what `prepare` sets is taken back
        lake = homes.prepare(folder / "home")
        files = {name: folder / f"{name}.jsonl" for name in ("barrels", "crates")}
        for name, path in files.items():
            path.write_text(rows(name), encoding="utf-8")
        defs = definitions.build_defs(lake.home, FakeEncoder(), FakeCausalLM())
        with homes.instance() as instance:
            runs.add_sources(lake, instance, files)
            runs.materialize(
                lake, defs, instance, [dg.AssetKey(["selected", name]) for name in RECIPES], list(files), {}
            )
            with _server({**os.environ, **settings}, folder / "server.log") as server:
                seen = Live(lake, instance, server, folder / "server.log")
                seen.quiet()
                yield seen


@contextlib.contextmanager
def _server(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["-m", "jobs.definitions", "-d", str(ROOT), "-h", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", *where],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A process that a script starts in the background would ignore the interrupt, and so would the server.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield server
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


def test_what_the_command_line_made_is_left_alone(live: Live) -> None:
    assert live.chosen() == dict.fromkeys(RECIPES, 1)
    assert all(run.tags.get("sluice/from") == "command line" for run in live.runs())


def test_new_files_become_sources_and_each_change_makes_each_recipe_choose_once(live: Live) -> None:
    """The second file lands while the recipes choose from the first: they finish, and choose once more."""
    before = live.chosen()
    live.drop("sacks.jsonl", rows("sacks"))
    live.wait("a selection to run", lambda: live.started("selected/random"))
    live.drop("bales.jsonl", rows("bales", 15))
    live.wait("the second choice", lambda: all(live.chosen()[name] >= before[name] + 2 for name in RECIPES))
    live.quiet()
    assert set(live.instance.get_dynamic_partitions("source")) == {"barrels", "crates", "sacks", "bales"}
    assert live.chosen() == {name: n + 2 for name, n in before.items()}
    # A lane for each file, and after each lane one run for all that looks across sources.
    assert live.by_sensor() == ["landing sacks", "refresh", "landing bales", "refresh"]
    assert not live.failed()
    for name in RECIPES:
        ledger = live.lake.scan(["selected", "ledgers", name]).collect()
        assert dict(ledger.group_by("source").len().iter_rows()) == dict(barrels=12, crates=12, sacks=12, bales=15)
        assert live.is_current(name)


def test_the_same_content_asks_for_nothing(live: Live) -> None:
    before, runs = live.chosen(), len(live.runs())
    path, copy = live.lake.landing / "sacks.jsonl", live.lake.landing / ".copy"
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    os.utime(path, (1, 1))
    live.quiet()
    assert (live.chosen(), len(live.runs())) == (before, runs)


def test_a_file_that_breaks_the_contract_changes_nothing(live: Live) -> None:
    before, runs = live.chosen(), len(live.runs())
    stored = live.lake.manifest(["raw", "instructions"], "sacks")
    live.drop("sacks.jsonl", "this is no record\n" * 3)
    live.wait("the lane to fail", live.failed)
    live.quiet()
    assert [run.tags["sluice/source"] for run in live.failed()] == ["sacks"]
    assert len(live.runs()) == runs + 1, "it is not tried again until it changes"
    assert live.chosen() == before
    assert live.lake.manifest(["raw", "instructions"], "sacks") == stored
    assert live.lake.manifest(["raw", "quarantine"], "sacks").rows == 3, "and one sees why"
