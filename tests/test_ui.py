"""`sluice ui` as a person meets it: a real browser on the real Dagster UI, over a small home with stand-in models."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    *("raw", "filtered", "evidence", "embedded", "clustered"),
    *("scored_quality", "scored_diversity", "scored_importance", "selected", "evaluated"),
)
ROWS, BAD = 17, 2
PATIENCE = 90
"""Seconds until the UI answers, or a run has ended; it takes a quarter of that on an idle machine."""
DIRECT = build_opener(ProxyHandler({}))


@dataclass
class Ui:
    """A running `sluice ui`."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def answers(self) -> bool:
        try:
            with DIRECT.open(self.url("/server_info"), timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def interrupt(self) -> None:
        """What Ctrl-C in a terminal does: the signal goes to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def members(self) -> bool:
        """Whether a process of the group is left."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def prepared(home: Path) -> None:
    """A home with one registered source: readable records, and bad ones between them."""
    import dagster as dg

    from assets.partitions import SOURCES
    from jobs import home as homes
    from resources.lake import Source

    file = home.parent / "notes.jsonl"
    records = [
        json.dumps({"instruction": f"What is | {i} <b>plus</b> one?", "input": "", "output": f"The sum is {i + 1}."})
        for i in range(ROWS)
    ]
    file.write_text("\n".join([*records[:5], "{broken", *records[5:], '{"other": 1}']) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUICE_HOME", str(home))
        patch.setenv("DAGSTER_HOME", str(home / "dagster"))
        lake = homes.prepare(home)
        lake.register(Source("notes", str(file)))
        with dg.DagsterInstance.get() as instance:
            instance.add_dynamic_partitions(SOURCES.name or "", ["notes"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def ui(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """`sluice ui` on a home of its own, in a session of its own; stopped by its process group, whatever happens."""
    home = tmp_path_factory.mktemp("ui") / "home"
    prepared(home)
    port = free_port()
    fakes = {"SLUICE_ENCODER": "fake", "SLUICE_CAUSAL_LM": "fake", "OMP_NUM_THREADS": "1"}
    environment = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "SLUICE_HOME")} | fakes
    # A background shell starts its children deaf to SIGINT, and they hand that on; a terminal does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (home.parent / "ui.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", "ui", "--home", str(home), "--port", str(port)],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    running = Ui(process, port, home)
    try:
        until(running.answers, lambda: f"the UI does not answer: {(home.parent / 'ui.log').read_text()[-2000:]}")
        yield running
    finally:
        if running.members():
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def until(reached: Any, otherwise: Any, patience: float = PATIENCE) -> None:
    """Wait, but not for ever."""
    end = time.monotonic() + patience
    while not reached():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.2)


@pytest.fixture
def page(browser: Any, ui: Ui) -> Iterator[Any]:
    """A fresh page that may speak to this machine only, and has not tried anything else when the test is over."""
    page = browser.new_page(viewport={"width": 1600, "height": 1200})
    page.set_default_timeout(1000 * PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    outside = [url for url in asked if not url.startswith((ui.url(""), f"ws://127.0.0.1:{ui.port}", "data:", "blob:"))]
    assert not outside


def test_the_lineage_page_shows_a_group_for_each_stage(page: Any, ui: Ui) -> None:
    page.goto(ui.url("/asset-groups"))
    for stage in STAGES:
        page.get_by_text(stage, exact=True).first.wait_for()


def test_one_source_is_materialized_from_its_page(page: Any, ui: Ui) -> None:
    page.goto(ui.url("/assets/raw/instructions"))
    page.get_by_role("button", name="Materialize…").first.click()
    page.get_by_role("button", name="Confirm").click()  # what could not be read is told in a table of its own
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Launch").click()
    until(
        lambda: (ui.home / "lake" / "tables" / "raw" / "instructions" / "notes.parquet").is_file(),
        lambda: "the run that was launched made no table",
    )
    page.goto(ui.url("/assets/raw/instructions?view=partitions&partition=notes"))
    page.get_by_text("Materialized", exact=True).first.wait_for()
    said = page.locator("tr", has_text="dagster/row_count").first
    said.wait_for()
    assert str(ROWS) in said.inner_text().split()
    assert str(BAD) in page.locator("tr", has_text="records quarantined").last.inner_text().split()
    first = page.locator("tr", has_text="first rows").first
    assert "What is | 0 <b>plus</b> one? → The sum is 1." in first.inner_text()


def test_a_failed_expectation_is_read_as_a_table(page: Any, ui: Ui) -> None:
    """More than one bad record in twenty: the source is used, and its page says what to look at."""
    page.goto(ui.url("/assets/raw/instructions?view=checks&checkDetail=statistics"))
    page.get_by_text("✗ NO").first.wait_for()
    line = page.locator("tr", has_text="✗ NO").last.inner_text()
    assert [cell.strip() for cell in line.split("\t")][1:4] == ["share quarantined", "0 to 0.05", "0.1053"]


def test_the_page_of_an_indicator_tells_its_equation(page: Any, ui: Ui) -> None:
    page.goto(ui.url("/assets/scored/mtld"))
    page.get_by_text("Measure of textual lexical diversity", exact=True).wait_for()
    page.get_by_text("1/2 (n/F_→ + n/F_←)").first.wait_for()


def test_only_this_machine_is_served(ui: Ui) -> None:
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", ui.port), timeout=2):
        pass


def test_ctrl_c_leaves_nothing_behind(ui: Ui) -> None:
    assert ui.process.poll() is None
    ui.interrupt()
    until(lambda: not ui.members(), lambda: "processes of the UI are left after Ctrl-C")
    assert not ui.answers()
