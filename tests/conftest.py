"""What every test shares: quiet, small, offline, and a home of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for model in (
    "SLUICE_REWARD_MODEL",
    "SLUICE_CTC_ALIGNER",
    "SLUICE_UNIEVAL",
    "SLUICE_JUDGE_MODEL",
    "SLUICE_DEITA_COMPLEXITY",
    "SLUICE_DEITA_QUALITY",
):  # none of them comes with the program
    os.environ.setdefault(model, "fake")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real open datasets beside the checkout; the tests that read it are skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real datasets are not at {SHARED_DATA}")
    return SHARED_DATA


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window and without any network but this machine."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("SLUICE_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is on the path (set SLUICE_BROWSER to one)")
    quiet = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
    with driver.sync_playwright() as play:
        chromium = play.chromium.launch(
            executable_path=program,
            args=[
                f"--{flag}" for flag in (*quiet, "disable-component-update", "disable-sync", "disable-dev-shm-usage")
            ],
        )
        yield chromium
        chromium.close()
