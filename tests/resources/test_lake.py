"""The lake: a crash never costs the last good table, finished batches stay, and a name cannot leave its folder."""

import os
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from resources.lake import Lake, LakeError, Manifest, MissingTable, RowCache, Source, Table, locked, replacing

KEY = ["stage", "name"]


def frame(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({"row_id": list(ids), "n": range(len(ids))}, schema={"row_id": pl.String, "n": pl.Int64})


def table(*ids: str, version: str = "v1", **manifest) -> Table:
    return Table(frame(*ids), Manifest(version, rows=len(ids), **manifest))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home")


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


# ---- replacing a file -------------------------------------------------------------------------------------------------


def test_a_crash_while_writing_leaves_the_last_version_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with replacing(path) as staged:
        staged.write_text("good")
    with pytest.raises(RuntimeError), replacing(path) as staged:
        staged.write_text("half of the n")
        assert path.read_text() == "good"
        raise RuntimeError("killed")
    assert path.read_text() == "good"
    assert os.listdir(path.parent) == ["file.txt"]


def test_nothing_written_is_an_error_not_an_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_crash_between_the_table_and_its_place(lake, monkeypatch):
    lake.write(KEY, None, table("a"))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("resources.lake.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        lake.write(KEY, None, table("b", "c", version="v2"))
    monkeypatch.undo()
    assert lake.scan(KEY).collect()["row_id"].to_list() == ["a"]
    assert lake.manifest(KEY).data_version == "v1"
    assert leftovers(lake.root) == []


def test_an_open_scan_survives_the_replacement_of_its_table(lake):
    lake.write(KEY, "s", table("a"))
    with lake.path(KEY, "s").open("rb") as before:
        lake.write(KEY, "s", table("b", version="v2"))
        assert pl.read_parquet(before)["row_id"].to_list() == ["a"]
    assert lake.scan(KEY, "s").collect()["row_id"].to_list() == ["b"]


# ---- tables -----------------------------------------------------------------------------------------------------------


def test_the_manifest_travels_in_the_file(lake):
    made = table("a", "b", inputs={"raw/x[s]": "7"}, config={"threshold": 0.5}, facts={"pool": ["s"], "mean": 1.25})
    lake.write(KEY, None, made)
    assert lake.manifest(KEY) == made.manifest
    moved = Lake(lake.home.parent / "elsewhere")
    path = moved.path(KEY)
    path.parent.mkdir(parents=True)
    path.write_bytes(lake.path(KEY).read_bytes())
    assert moved.manifest(KEY) == made.manifest


def test_a_file_written_in_blocks_is_moved_with_its_manifest(lake):
    staged = lake.staging_path(KEY, "s")
    frame("a").write_parquet(staged, metadata={"sluice": '{"data_version": "v9"}'})
    lake.write(KEY, "s", Table(staged, Manifest("ignored: the file carries its own")))
    assert lake.manifest(KEY, "s").data_version == "v9"
    assert leftovers(lake.root) == []


def test_a_foreign_file_has_a_version_that_matches_nothing(lake):
    path = lake.path(KEY)
    path.parent.mkdir(parents=True)
    frame("a").write_parquet(path)
    assert lake.manifest(KEY).data_version == "unknown"


def test_missing_tables_are_named(lake):
    assert lake.manifest(KEY) is None
    assert not lake.exists(KEY, "s")
    with pytest.raises(MissingTable, match="stage/name of source 's' is not there yet: materialize it first"):
        lake.scan(KEY, "s")
    lake.write(KEY, "here", table("a"))
    with pytest.raises(MissingTable, match="'gone'"):
        lake.scan_sources(KEY, ["here", "gone"])


def test_sources_stay_apart_and_in_the_order_asked_for(lake):
    for name in ("b", "a", "with.dots-and_more"):
        lake.write(KEY, name, table(f"of {name}"))
    assert lake.partitions(KEY) == ["a", "b", "with.dots-and_more"]
    rows = lake.scan_sources(KEY, ["b", "a"]).collect()
    assert rows.select("source", "row_id").rows() == [("b", "of b"), ("a", "of a")]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "a\n", "-x", "é", "x" * 101, "a'b", "a*"])
def test_names_that_cannot_be_file_names_are_refused(lake, name):
    with pytest.raises(LakeError, match="cannot be a source name"):
        lake.register(Source(name, "/data/file.jsonl"))
    with pytest.raises(LakeError):
        lake.path(KEY, name)


def test_sources_are_remembered_and_forgotten(lake):
    lake.register(Source("b", "/b.jsonl"))
    lake.register(Source("a", "/a.csv", "alpaca"))
    lake.register(Source("b", "/new.jsonl"))
    assert lake.sources() == [Source("a", "/a.csv", "alpaca"), Source("b", "/new.jsonl")]
    lake.unregister("b")
    lake.unregister("b")
    with pytest.raises(LakeError, match="no source 'b': drop a file"):
        lake.source("b")


def test_what_killed_runs_left_is_swept_when_it_is_old(lake):
    lake.write(KEY, None, table("a"))
    old, young, folder = (lake.staging_path(KEY) for _ in range(3))
    old.write_text("half")
    young.write_text("half")
    RowCache(folder).append(frame("x"))
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    os.utime(folder, (long_ago, long_ago))
    assert lake.sweep() == 2
    assert young.exists() and not old.exists() and not folder.exists()
    assert lake.scan(KEY).collect().height == 1


# ---- finished batches -------------------------------------------------------------------------------------------------


def test_two_writers_and_a_row_that_both_finished(tmp_path):
    one, two = RowCache(tmp_path / "cache"), RowCache(tmp_path / "cache")
    assert one.scan() is None and one.row_ids() == set()
    one.append(frame("a", "b"))
    two.append(frame("b", "c"))
    assert one.row_ids() == two.row_ids() == {"a", "b", "c"}
    assert sorted(two.scan().collect()["row_id"]) == ["a", "b", "c"]


def test_compaction_keeps_every_row_once(tmp_path):
    cache = RowCache(tmp_path)
    cache.compact()
    for ids in (("a", "b"), ("b", "c"), (), ("d",)):
        cache.append(frame(*ids))
    cache.compact()
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert sorted(cache.scan().collect()["row_id"]) == ["a", "b", "c", "d"]


def test_a_crash_during_compaction_loses_no_row(tmp_path, monkeypatch):
    cache = RowCache(tmp_path)
    cache.append(frame("a"))
    cache.append(frame("b"))

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)  # the joined file has landed, the old ones still lie there
    with pytest.raises(KeyboardInterrupt):
        cache.compact()
    monkeypatch.undo()
    assert sorted(cache.scan().collect()["row_id"]) == ["a", "b"]


def test_a_half_written_batch_is_not_seen(tmp_path):
    cache = RowCache(tmp_path)
    cache.append(frame("a"))
    (tmp_path / ".b.parquet.0.staged").write_bytes(b"PAR1 half")
    assert cache.row_ids() == {"a"}


def test_other_models_have_other_caches(lake):
    assert lake.cache("pass", {"model": "a"}).folder != lake.cache("pass", {"model": "b"}).folder
    assert lake.cache("pass", {"a": 1, "b": 2}).folder == lake.cache("pass", {"b": 2, "a": 1}).folder


def test_a_lock_is_waited_for_and_let_go_after_an_error(tmp_path):
    said: list[str] = []
    waiting, entered = threading.Event(), []

    def second() -> None:
        with locked(tmp_path / "lock", waiting=waiting.set):
            entered.append(list(said))

    with pytest.raises(RuntimeError), locked(tmp_path / "lock"):
        other = threading.Thread(target=second)
        other.start()
        assert waiting.wait(10)
        said.append("first is done")
        raise RuntimeError
    other.join(10)
    assert entered == [["first is done"]]
