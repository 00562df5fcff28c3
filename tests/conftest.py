"""What every test shares: quiet, small, offline, and a home of its own."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for model in (
    "SLUICE_REWARD_MODEL",
    "SLUICE_CTC_ALIGNER",
    "SLUICE_UNIEVAL",
    "SLUICE_JUDGE_MODEL",
):  # none of them comes with the program
    os.environ.setdefault(model, "fake")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real open datasets beside the checkout; the tests that read it are skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real datasets are not at {SHARED_DATA}")
    return SHARED_DATA
