"""The labels sensor: when it asks, and for what."""

import json
import os
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.humans import AGREEMENT, LABELS, RATINGS
from resources.lake import Lake, Manifest, Table
from resources.tables import LakeResource
from sensors.labels import Cursor, build_sensor, look

SCORE = dg.AssetKey(["scored", "human_acceptance"])


def put(path: Path, text: str) -> None:
    """Write a file at a time of its own: a test is quicker than a file system's clock."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    put.clock = getattr(put, "clock", 10**18) + 10**9
    os.utime(path, ns=(put.clock, put.clock))


def looks(folder: Path, cursor: Cursor, n: int = 2) -> tuple[list[bool], Cursor]:
    found = []
    for _ in range(n):
        changed, cursor = look(folder, Cursor.load(cursor.dump()))
        found.append(changed)
    return found, cursor


def test_files_are_taken_once_and_when_they_stand_still(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", "1")
    found, cursor = looks(tmp_path, Cursor(), 4)
    assert found == [False, True, False, False]
    put(tmp_path / "a.jsonl", "2")
    assert look(tmp_path, cursor)[0] is False
    found, cursor = looks(tmp_path, cursor)
    assert found == [False, True]
    os.utime(tmp_path / "a.jsonl", (1, 1))
    assert looks(tmp_path, cursor, 3)[0] == [False, False, False]


def test_one_file_in_motion_holds_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", "1")
    cursor = Cursor()
    for n in range(3):
        put(tmp_path / "b.jsonl", "x" * n)
        changed, cursor = look(tmp_path, cursor)
        assert not changed
    assert look(tmp_path, cursor)[0]


def test_a_file_that_goes_is_a_change_and_a_state_that_returns_is_another(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", "1")
    _, cursor = looks(tmp_path, Cursor())
    first = cursor.asked
    (tmp_path / "a.jsonl").unlink()
    found, cursor = looks(tmp_path, cursor)
    assert found == [True, False]
    put(tmp_path / "a.jsonl", "1")
    found, cursor = looks(tmp_path, cursor)
    assert found == [False, True]
    assert (cursor.asked, cursor.change) == (first, 3)


@pytest.mark.parametrize("name", [".hidden.jsonl", "~open.csv", "notes.txt", "folder.json"])
def test_what_holds_no_labels_asks_for_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir() if name == "folder.json" else put(tmp_path / name, "x")
    assert looks(tmp_path, Cursor(), 3)[0] == [False] * 3
    assert looks(tmp_path / "absent", Cursor())[0] == [False] * 2


def test_it_asks_for_labels_and_for_what_was_made_before(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write(AGREEMENT.path, None, Table(pl.DataFrame({"a": [1]}), Manifest("1")))
    put(tmp_path / "labels" / "a.jsonl", json.dumps({}))
    sensor = build_sensor([LABELS, RATINGS, AGREEMENT, SCORE])
    cursor, asked = None, []
    for _ in range(3):
        with dg.build_sensor_context(
            instance=dg.DagsterInstance.ephemeral(), cursor=cursor, resources={"lake": LakeResource(home=str(tmp_path))}
        ) as context:
            result = sensor(context)
        cursor = result.cursor
        asked += result.run_requests
    (request,) = asked
    assert request.asset_selection == [LABELS, RATINGS, AGREEMENT]
    assert request.run_key.endswith("#1")
