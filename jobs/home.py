"""The home folder: where a person's data, settings and Dagster's records lie.

Here belongs making a home ready and pointing this process at it. What lies inside is described in `resources.lake`.
"""

import os
from pathlib import Path

import dagster as dg

from resources.lake import Lake
from resources.tables import default_home

DAGSTER_YAML = """\
# Written by sluice. Runs share two cores' worth of models and tables, so few at a time.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 2
  pools:
    default_limit: 1
"""


def prepare(home: str | Path | None = None) -> Lake:
    """Make the home if it is not there, and make it this process's: `SLUICE_HOME` and `DAGSTER_HOME`."""
    lake = Lake(home or default_home())
    records = lake.home / "dagster"
    for folder in (lake.root, lake.landing, lake.targets, lake.home / "recipes", records):
        folder.mkdir(parents=True, exist_ok=True)
    settings = records / "dagster.yaml"
    if not settings.exists():
        settings.write_text(DAGSTER_YAML)
    os.environ["SLUICE_HOME"] = str(lake.home)
    os.environ["DAGSTER_HOME"] = str(records)
    return lake


def instance() -> dg.DagsterInstance:
    """Dagster's records of the prepared home: the same that the UI shows."""
    return dg.DagsterInstance.get()
