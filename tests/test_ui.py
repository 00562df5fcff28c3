"""The UI in a real browser: the pipeline is there, an asset is made from its page, and the page shows what was made."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STAGES = ("raw", "filtered", "embedded", "evidence", "clustered", "scored_quality", "selected", "evaluated")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
PATIENCE = 180

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dg.DagsterInstance]]:
    """A home with one small source, chosen from once, behind a server on loopback."""
    from jobs import definitions, runs
    from jobs import home as homes
    from resources.fakes import FakeCausalLM, FakeEncoder

    folder = tmp_path_factory.mktemp("ui")
    rows = [{"instruction": f"Which tower has {i} steps?", "output": f"The tower of hall {i} has {i} steps."} for i in range(30)]
    (folder / "towers.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLUICE_HOME", "DAGSTER_HOME"):
            patch.setenv(name, "")  # so that what `prepare` sets is taken back
        lake = homes.prepare(folder / "home")
        defs = definitions.build_defs(lake.home, FakeEncoder(), FakeCausalLM())
        with homes.instance() as instance:
            runs.add_sources(lake, instance, {"towers": folder / "towers.jsonl"})
            runs.materialize(lake, defs, instance, [dg.AssetKey(["selected", "random"])], ["towers"], {})
            with _server(folder / "server.log") as address:
                yield address, instance


@contextlib.contextmanager
def _server(log: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"SLUICE_ENCODER": "fake", "SLUICE_CAUSAL_LM": "fake", "SLUICE_SENSOR_INTERVAL": "3600"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A process that a script starts in the background would ignore the interrupt, and so would the server.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            _wait(lambda: b"Serving dagster-webserver" in log.read_bytes(), f"the server to start: {log}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


def _wait(until: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def page(served: tuple[str, dg.DagsterInstance]) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        browser.close()


def test_the_collapsed_lineage_is_the_pipeline(page: Any, served: tuple[str, dg.DagsterInstance]) -> None:
    page.goto(f"{served[0]}/asset-groups")
    for stage in STAGES:
        page.get_by_text(stage, exact=True).first.wait_for()


def test_an_asset_is_made_from_its_page(page: Any, served: tuple[str, dg.DagsterInstance]) -> None:
    address, instance = served
    key = dg.AssetKey(["selected", "random"])
    before = len(instance.fetch_materializations(key, limit=10).records)
    page.goto(f"{address}/assets/selected/random")
    page.get_by_role("button", name="Materialize", exact=False).first.click()
    _wait(lambda: len(instance.fetch_materializations(key, limit=10).records) == before + 1, "the asset to be made")
    made = instance.fetch_materializations(key, limit=1).records[0]
    assert made.asset_materialization is not None
    rows = made.asset_materialization.metadata["dagster/row_count"].value
    assert rows == 3  # a tenth of thirty rows
    run_id = made.event_log_entry.run_id
    _wait(lambda: instance.get_run_by_id(run_id).is_finished, "the run to end")  # type: ignore[union-attr]
    assert instance.get_run_by_id(run_id).is_success  # type: ignore[union-attr]
    page.goto(f"{address}/assets/selected/random")
    page.get_by_text("Row count").first.wait_for()
    page.get_by_text("mix by source").first.wait_for()
    page.get_by_text("Random subset").first.wait_for()
