"""The landing sensor: which files it takes, when, and what it asks for."""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.partitions import SOURCES
from resources.lake import Lake, Source
from resources.tables import LakeResource
from sensors import landing
from sensors.landing import Asked, Cursor, Landed, look

LANE = [dg.AssetKey(name.split("/")) for name in ("raw/instructions", "filtered/instructions", "scored/mtld")]
TOKENS, IFD = dg.AssetKey(["evidence", "token_statistics"]), dg.AssetKey(["scored", "ifd"])


def record(text: str) -> str:
    return json.dumps({"instruction": "say", "output": text}) + "\n"


_clock = itertools.count(10**18, 10**9)


def put(path: Path, text: str) -> None:
    """Write a file at a time of its own: a test is quicker than a file system's clock."""
    path.write_text(text)
    now = next(_clock)
    os.utime(path, ns=(now, now))


def two_looks(folder: Path, cursor: Cursor) -> tuple[list[Landed], list[str], Cursor]:
    """A file is taken when it stands still, so it takes two looks to see a change."""
    _, _, cursor = look(folder, cursor)
    return look(folder, cursor)


# ---- looking ------------------------------------------------------------------------------------------------------------


def test_a_file_is_taken_at_the_second_look(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(record("one"))
    landed, problems, cursor = look(tmp_path, Cursor())
    assert (landed, problems) == ([], [])
    landed, problems, cursor = look(tmp_path, cursor)
    assert [(file.name, file.path.name, file.change) for file in landed] == [("a", "a.jsonl", 1)]
    assert look(tmp_path, cursor)[0] == []


def test_a_growing_file_is_waited_for(tmp_path: Path) -> None:
    path, cursor = tmp_path / "a.jsonl", Cursor()
    for n in range(3):
        with path.open("a") as file:
            file.write(record(str(n)))
        landed, _, cursor = look(tmp_path, cursor)
        assert landed == []
    landed, _, cursor = look(tmp_path, cursor)
    assert len(landed) == 1


def test_a_file_rewritten_in_place_with_the_same_size_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(record("one"))
    _, _, cursor = look(tmp_path, Cursor())
    put(path, record("two"))
    landed, _, cursor = look(tmp_path, cursor)
    assert landed == []
    assert len(look(tmp_path, cursor)[0]) == 1


def test_the_same_content_under_a_new_time_or_as_a_copy_asks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(record("one"))
    _, _, cursor = two_looks(tmp_path, Cursor())
    os.utime(path, (1, 1))
    landed, _, cursor = two_looks(tmp_path, cursor)
    assert landed == []
    copy = tmp_path / ".copy"
    copy.write_text(record("one"))
    copy.replace(path)
    assert two_looks(tmp_path, cursor)[0] == []


def test_content_that_returns_is_a_change_with_a_key_of_its_own(tmp_path: Path) -> None:
    path, cursor, keys = tmp_path / "a.jsonl", Cursor(), []
    for text in ("A", "B", "A", "B"):
        put(path, record(text))
        landed, _, cursor = two_looks(tmp_path, cursor)
        keys.append(landing.request(landed[0], LANE).run_key)
    assert len(set(keys)) == 4
    assert keys[0].split("#")[0] == keys[2].split("#")[0], "the content is named in the key"


def test_a_stamp_is_a_hint_only_and_a_file_at_rest_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text(record("one"))
    _, _, cursor = two_looks(tmp_path, Cursor())
    monkeypatch.setattr(landing.readers, "content_hash", lambda path: pytest.fail("read again"))
    assert look(tmp_path, cursor)[0] == []


def test_a_file_that_changes_while_it_is_hashed_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(record("one"))
    _, _, cursor = look(tmp_path, Cursor())

    def hash_and_write(path: Path) -> str:
        path.write_text(record("two, and longer"))
        return "0" * 32

    monkeypatch.setattr(landing.readers, "content_hash", hash_and_write)
    landed, _, cursor = look(tmp_path, cursor)
    monkeypatch.undo()
    assert landed == []
    assert len(two_looks(tmp_path, cursor)[0]) == 1


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("notes.txt", "not a kind of file"),
        ("README", "not a kind of file"),
        ("a.jsonl.zip", "not a kind of file"),
        ("my data.jsonl", "cannot be a source name"),
        ("..jsonl", None),  # hidden
        ("ünicode.csv", "cannot be a source name"),
        (f"{'x' * 101}.json", "cannot be a source name"),
    ],
)
def test_what_cannot_be_taken_is_said_and_never_asked_for(tmp_path: Path, file: str, said: str | None) -> None:
    (tmp_path / file).write_text(record("one"))
    landed, problems, _ = two_looks(tmp_path, Cursor())
    assert landed == []
    assert [said in problem for problem in problems if said] == ([True] if said else [])


@pytest.mark.parametrize(
    "file", ["a.json", "a.jsonl", "a.ndjson", "a.csv", "a.parquet", "a.JSONL", "a.jsonl.gz", "a.CSV.GZ"]
)
def test_every_kind_of_file_names_its_source(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text(record("one"))
    assert [found.name for found in two_looks(tmp_path, Cursor())[0]] == ["a"]


def test_only_one_extension_is_taken_off() -> None:
    assert landing.source_name(Path("a.csv.json")) == "a.csv"
    assert landing.source_name(Path("v1.2.jsonl.gz")) == "v1.2"


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    (tmp_path / ".a.jsonl").write_text(record("one"))
    (tmp_path / "~a.jsonl").write_text(record("one"))
    (tmp_path / "folder.jsonl").mkdir()
    assert two_looks(tmp_path, Cursor())[:2] == ([], [])


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert look(tmp_path / "none", Cursor())[:2] == ([], [])


def test_of_two_files_for_one_source_the_one_in_use_stays(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(record("one"))
    _, _, cursor = two_looks(tmp_path, Cursor())
    (tmp_path / "a.csv").write_text("instruction,output\nsay,two\n")
    landed, problems, cursor = two_looks(tmp_path, cursor)
    assert landed == []
    assert problems == ["a.csv: a.jsonl already names the source 'a'; rename or remove one of them"]
    (tmp_path / "a.jsonl").unlink()
    landed, problems, _ = two_looks(tmp_path, cursor)
    assert ([file.path.name for file in landed], problems) == (["a.csv"], [])


def test_two_new_files_for_one_source_are_told_apart_by_name_also_while_one_grows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(record("one"))
    first = tmp_path / "a.csv"
    cursor = Cursor()
    for n in range(3):
        first.write_text("instruction,output\n" + "say,two\n" * (n + 1))
        landed, problems, cursor = look(tmp_path, cursor)
        assert landed == []
        assert len(problems) == 1
    assert [file.path.name for file in look(tmp_path, cursor)[0]] == ["a.csv"]


def test_a_file_that_cannot_be_read_is_said_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(record(name))
    real = landing.readers.content_hash

    def refuse(path: Path) -> str:
        if path.name == "a.jsonl":
            raise landing.SourceError(f"{path} cannot be opened (permission denied)")
        return real(path)

    monkeypatch.setattr(landing.readers, "content_hash", refuse)
    landed, problems, cursor = two_looks(tmp_path, Cursor())
    assert [file.name for file in landed] == ["b"]
    assert "permission denied" in problems[0]
    monkeypatch.undo()
    assert [file.name for file in two_looks(tmp_path, cursor)[0]] == ["a"]


def test_a_file_that_goes_away_leaves_its_source(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(record("one"))
    _, _, cursor = two_looks(tmp_path, Cursor())
    path.unlink()
    landed, problems, cursor = two_looks(tmp_path, cursor)
    assert (landed, problems) == ([], [])
    path.write_text(record("one"))
    assert two_looks(tmp_path, cursor)[0] == [], "put back as it was, it is no change"


def test_the_cursor_survives_being_stored(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(record("one"))
    _, _, cursor = two_looks(tmp_path, Cursor())
    assert Cursor.load(cursor.dump()) == cursor
    assert Cursor.load(None) == Cursor()
    assert cursor.asked["a"] == Asked("a.jsonl", cursor.asked["a"].content, 1)


# ---- asking -------------------------------------------------------------------------------------------------------------


def test_the_request_names_source_content_and_lane(tmp_path: Path) -> None:
    request = landing.request(Landed("a", tmp_path / "a.jsonl", "c0ffee", 2), LANE)
    assert (request.run_key, request.partition_key) == ("a@c0ffee#2", "a")
    assert request.asset_selection == LANE
    assert request.tags["sluice/source"] == "a"


def test_expensive_passes_join_only_once_in_use() -> None:
    lane = [*LANE, TOKENS, IFD]
    assert landing.wanted_keys(lane, {TOKENS}, set()) == LANE
    assert landing.wanted_keys(lane, {TOKENS}, {TOKENS}) == lane


# ---- the whole sensor ------------------------------------------------------------------------------------------------------


class Watched:
    """A sensor, its home and an instance; each look takes up the cursor of the one before."""

    def __init__(self, home: Path, instance: dg.DagsterInstance, read: list[dg.AssetKey] | None = None) -> None:
        self.lake, self.instance, self.cursor = Lake(home), instance, None
        self.lake.landing.mkdir(parents=True)
        self.sensor = landing.build_sensor([*LANE, TOKENS, IFD], read=read, expensive=[TOKENS])
        assets = [dg.AssetSpec(key, partitions_def=SOURCES) for key in [*LANE, TOKENS, IFD]]
        self.definitions = dg.Definitions(assets=assets)

    def drop(self, text: str, file: str = "a.jsonl") -> None:
        put(self.lake.landing / file, text)

    def look(self) -> dg.SensorResult:
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"lake": LakeResource(home=str(self.lake.home))}
        ) as context:
            result = self.sensor(context)
            assert isinstance(result, dg.SensorResult)
            self.cursor = result.cursor
            for added in result.dynamic_partitions_requests or []:
                self.instance.add_dynamic_partitions("source", list(added.partition_keys))
            return result

    def asked(self) -> list[dg.RunRequest]:
        """What two looks ask for."""
        return [request for _ in range(2) for request in self.look().run_requests or []]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(tmp_path / "home", instance)


def test_a_new_file_becomes_a_partition_and_a_run(watched: Watched) -> None:
    watched.drop(record("one"))
    (request,) = watched.asked()
    assert request.partition_key == "a"
    assert list(request.asset_selection or []) == sorted(LANE)
    assert watched.instance.get_dynamic_partitions("source") == ["a"]
    assert watched.lake.source("a") == Source("a", str(watched.lake.landing / "a.jsonl"))
    assert watched.asked() == []


def test_a_changed_file_asks_again_without_adding_the_partition_again(watched: Watched) -> None:
    watched.drop(record("one"))
    watched.asked()
    watched.drop(record("two"))
    watched.look()
    result = watched.look()
    assert [request.partition_key for request in result.run_requests or []] == ["a"]
    assert not result.dynamic_partitions_requests


def test_a_lane_that_failed_is_asked_for_again_only_when_the_file_changes(watched: Watched) -> None:
    """Whether the run failed is not looked at: what was asked for was asked for."""
    watched.drop("no record\n")
    (broken,) = watched.asked()
    assert [watched.asked() for _ in range(3)] == [[], [], []]
    watched.drop(record("fixed"))
    (fixed,) = watched.asked()
    assert fixed.run_key != broken.run_key
    watched.drop("no record\n")
    (again,) = watched.asked()
    assert again.run_key not in (broken.run_key, fixed.run_key)


def test_the_landing_folder_takes_over_a_source_of_another_file_and_says_so(watched: Watched, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.jsonl"
    watched.lake.register(Source("a", str(elsewhere), "alpaca"))
    watched.instance.add_dynamic_partitions("source", ["a"])
    watched.drop(record("one"))
    assert len(watched.asked()) == 1
    assert watched.lake.source("a").path == str(watched.lake.landing / "a.jsonl")
    file = Landed("b", watched.lake.landing / "b.jsonl", "c0ffee")
    watched.lake.register(Source("b", str(elsewhere)))
    said = landing.register(watched.lake, file)
    assert said == f"source 'b' was read from {elsewhere}; from now on it is read from {file.path}"
    assert landing.register(watched.lake, file) is None, "once"


def test_a_layout_that_a_person_named_for_the_file_stays(watched: Watched) -> None:
    file = Landed("a", watched.lake.landing / "a.jsonl", "c0ffee")
    watched.lake.register(Source("a", str(file.path), "sharegpt"))
    assert landing.register(watched.lake, file) is None
    assert watched.lake.source("a").layout == "sharegpt"


def test_the_expensive_pass_joins_once_someone_asked_for_it(watched: Watched) -> None:
    watched.drop(record("one"))
    (without,) = watched.asked()
    assert TOKENS not in (without.asset_selection or ())
    watched.instance.report_runless_asset_event(dg.AssetMaterialization(TOKENS, partition="z"))
    watched.drop(record("two"))
    (with_it,) = watched.asked()
    assert {TOKENS, IFD} <= set(with_it.asset_selection or ())


def test_a_score_that_no_recipe_reads_joins_once_someone_asked_for_it(tmp_path: Path) -> None:
    scores = [key for key in LANE if key.path[0] == "scored"]
    assert scores
    with dg.DagsterInstance.ephemeral() as instance:
        watched = Watched(tmp_path / "home", instance, read=[key for key in LANE if key not in scores])
        watched.drop(record("one"))
        (without,) = watched.asked()
        assert not set(scores) & set(without.asset_selection or ())
        made = watched.lake.path(scores[0].path, "z")
        made.parent.mkdir(parents=True)
        pl.DataFrame({"row_id": []}).write_parquet(made)
        watched.drop(record("two"))
        (with_it,) = watched.asked()
        assert set(scores) & set(with_it.asset_selection or ()) == {scores[0]}


def test_what_is_wrong_shows_in_the_list_of_looks(watched: Watched) -> None:
    watched.drop("x", "notes.txt")
    assert "notes.txt: not a kind of file" in (watched.look().skip_reason.skip_message or "")
    watched.drop(record("one"))
    assert len(watched.asked()) == 1, "a wrong file holds up no other"
