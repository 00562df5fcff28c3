"""The safety net: which subsets lag behind what the lake holds, and when it asks for them."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets.step import Step, half_refreshed
from methods.selection.recipe import Recipe
from resources.lake import Lake, LakeError, Manifest, Table
from resources.tables import LakeResource
from sensors import selection

PLAIN, OWN = Recipe("plain", "Any rows", "random"), Recipe("own", "Rows of a", "random", sources=("a",))
DOWNSTREAM = [
    dg.AssetKey(name.split("/"))
    for name in (
        "filtered/pool",
        "filtered/duplicates",
        "selected/plain",
        "evaluated/plain",
        "selected/own",
        "scored/knn_1",
    )
]


class Kept:
    """A lake with two sources and two subsets, as small as can be."""

    def __init__(self, home: Path) -> None:
        self.lake = Lake(home)
        for source in ("a", "b"):
            self.store("filtered/instructions", source, "1")
            self.store("evidence/text_counts", source, "1", {f"filtered/instructions[{source}]": "1"})
            self.store("scored/mtld", source, "1", {f"evidence/text_counts[{source}]": "1"})
        self.store("filtered/pool", None, "1")
        self.store("filtered/duplicates", None, "1")
        self.choose("plain", ("a", "b"))
        self.choose("own", ("a",))

    def store(self, name: str, source: str | None, version: str, inputs: Mapping[str, str] | None = None) -> None:
        manifest = Manifest(data_version=version, inputs=dict(inputs or {}))
        self.lake.write(name.split("/"), source, Table(pl.DataFrame({"row_id": ["x"]}), manifest))

    def choose(self, recipe: str, sources: tuple[str, ...]) -> None:
        names = ["filtered/duplicates"]
        names += [f"{table}[{s}]" for table in ("filtered/instructions", "scored/mtld") for s in sources]
        self.store(f"selected/{recipe}", None, "1", {name: self.version(name) for name in names})

    def version(self, name: str) -> str:
        key, _, source = name.removesuffix("]").partition("[")
        manifest = self.lake.manifest(key.split("/"), source or None)
        assert manifest is not None
        return manifest.data_version

    def refresh(self, source: str, version: str) -> None:
        """A whole lane."""
        self.store("filtered/instructions", source, version)
        self.store("evidence/text_counts", source, version, {f"filtered/instructions[{source}]": version})
        self.store("scored/mtld", source, version, {f"evidence/text_counts[{source}]": version})


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "home")


def test_nothing_lags_at_first(kept: Kept) -> None:
    for recipe in (PLAIN, OWN, Recipe("never", "Not asked for", "random")):
        assert selection.state_of(kept.lake, recipe) is None


def test_a_subset_lags_behind_its_own_sources_only(kept: Kept) -> None:
    kept.refresh("b", "2")
    kept.store("filtered/duplicates", None, "2")
    assert selection.state_of(kept.lake, PLAIN)
    assert selection.state_of(kept.lake, OWN) is None
    kept.refresh("a", "2")
    assert selection.state_of(kept.lake, OWN)
    kept.choose("own", ("a",))
    assert selection.state_of(kept.lake, OWN) is None


def test_each_state_has_a_name_of_its_own(kept: Kept) -> None:
    kept.refresh("b", "2")
    second = selection.state_of(kept.lake, PLAIN)
    kept.refresh("b", "3")
    assert second != selection.state_of(kept.lake, PLAIN)


def test_a_source_that_came_since_is_not_its_business(kept: Kept) -> None:
    """Whether a subset of named sources was meant to leave it out, the manifest does not say."""
    kept.refresh("c", "1")
    assert selection.state_of(kept.lake, PLAIN) is None


# ---- half a lane ----------------------------------------------------------------------------------------------------------

TABLES = (["filtered", "instructions"], ["scored", "mtld"])


def test_a_lane_that_stopped_half_way_is_noticed_wherever_it_stopped(kept: Kept) -> None:
    assert half_refreshed(kept.lake, TABLES, "a") is None
    kept.store("filtered/instructions", "a", "2")
    assert half_refreshed(kept.lake, TABLES, "a") == "evidence/text_counts was made from an older filtered/instructions"
    assert half_refreshed(kept.lake, TABLES, "b") is None
    kept.store("evidence/text_counts", "a", "2", {"filtered/instructions[a]": "2"})
    assert half_refreshed(kept.lake, TABLES, "a") == "scored/mtld was made from an older evidence/text_counts"
    kept.store("scored/mtld", "a", "2", {"evidence/text_counts[a]": "2"})
    assert half_refreshed(kept.lake, TABLES, "a") is None


def test_what_is_not_read_does_not_matter(kept: Kept) -> None:
    kept.store("filtered/instructions", "a", "2")
    assert half_refreshed(kept.lake, TABLES[:1], "a") is None


def test_a_file_that_could_not_be_filtered_leaves_the_source_whole(kept: Kept) -> None:
    kept.store("filtered/instructions", "a", "1", {"raw/instructions[a]": "1"})
    kept.store("raw/instructions", "a", "2")
    assert half_refreshed(kept.lake, TABLES, "a") is None


def test_a_step_refuses_half_a_source_unless_its_lane_is_under_way(kept: Kept) -> None:
    said: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        step: Any = SimpleNamespace(
            lake=kept.lake, context=SimpleNamespace(instance=instance, log=SimpleNamespace(warning=said.append))
        )
        Step._whole(step, TABLES, ["a", "b"])
        kept.store("filtered/instructions", "a", "2")
        with pytest.raises(
            LakeError, match="source 'a' is half refreshed: evidence/text_counts was made from an older"
        ):
            Step._whole(step, TABLES, ["a", "b"])
        instance.add_run(
            dg.DagsterRun("lane", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "a"}, run_id="0" * 32)
        )
        Step._whole(step, TABLES, ["a", "b"])
    assert "source 'a' is being refreshed right now" in said[0]


def test_the_safety_net_waits_for_a_whole_source(kept: Kept) -> None:
    kept.store("filtered/instructions", "a", "2")
    assert selection.state_of(kept.lake, PLAIN) is None
    kept.refresh("a", "2")
    assert selection.state_of(kept.lake, PLAIN)


# ---- the whole sensor -------------------------------------------------------------------------------------------------------


class Watched:
    """The sensor with an instance; each look takes up the cursor of the one before."""

    def __init__(self, kept: Kept, instance: dg.DagsterInstance) -> None:
        self.kept, self.instance, self.cursor = kept, instance, None
        self.sensor = selection.build_sensor([PLAIN, OWN], DOWNSTREAM)

    def look(self) -> Any:
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"lake": LakeResource(home=str(self.kept.lake.home))}
        ) as context:
            result = self.sensor(context)
        if isinstance(result, dg.SensorResult):
            self.cursor = result.cursor
        return result


@pytest.fixture
def watched(kept: Kept) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(kept, instance)


def names(request: dg.RunRequest) -> set[str]:
    return {key.to_user_string() for key in request.asset_selection or ()}


def test_it_asks_once_at_the_second_look_for_what_is_in_use(watched: Watched) -> None:
    assert not watched.look().run_requests
    watched.kept.refresh("b", "2")
    assert not watched.look().run_requests, "the conditions get the first word"
    (request,) = watched.look().run_requests
    assert names(request) == {"filtered/pool", "filtered/duplicates", "selected/plain"}, "no card, no knn_1: never made"
    (again,) = watched.look().run_requests
    assert again.run_key == request.run_key, "the same state has the same key, so Dagster starts it once"
    watched.kept.choose("plain", ("a", "b"))
    assert not watched.look().run_requests


def test_a_state_that_changes_between_looks_waits_for_the_next(watched: Watched) -> None:
    watched.kept.refresh("b", "2")
    watched.look()
    watched.kept.refresh("b", "3")
    assert not watched.look().run_requests
    assert len(watched.look().run_requests) == 1


def test_it_does_nothing_while_runs_are_under_way(watched: Watched) -> None:
    watched.kept.refresh("b", "2")
    watched.look()
    watched.instance.add_run(dg.DagsterRun("lane", status=dg.DagsterRunStatus.STARTING, run_id="0" * 32))
    assert isinstance(watched.look(), dg.SkipReason)


@pytest.mark.parametrize(
    ("table", "held"), [("filtered/duplicates", True), ("scored/mtld", True), ("scored/ifd", False)]
)
def test_it_asks_for_nothing_beside_a_broken_contract(watched: Watched, table: str, held: bool) -> None:
    watched.kept.refresh("b", "2")
    watched.look()
    for passed in (False, True):
        evaluation = dg.AssetCheckEvaluation(dg.AssetKey(table.split("/")), "contract", passed)
        watched.instance.report_runless_asset_event(evaluation)
        result = watched.look()
        if held and not passed:
            assert table in result.skip_message
        else:
            assert len(result.run_requests) == 1


def test_a_broken_head_of_a_lane_holds_nobody(watched: Watched) -> None:
    watched.kept.refresh("b", "2")
    watched.look()
    broken = dg.AssetCheckEvaluation(dg.AssetKey(["filtered", "instructions"]), "contract", False)
    watched.instance.report_runless_asset_event(broken)
    assert len(watched.look().run_requests) == 1
