"""A house that stands still: every asset made once, told to an instance, and the daemon that looks at it.

Here belongs what the scenarios of the automation conditions share; the scenarios stand in `assets/test_automation.py`.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData

from assets import automation
from jobs.definitions import build_defs
from methods import catalog
from methods.diversity.clusterings import CLUSTERINGS
from methods.selection.recipe import Recipe, Score
from resources.fakes import FakeCausalLM, FakeEncoder

SCORED = Score({"mtld": 1.0, "knn_1": 1.0})
RECIPES = (
    Recipe("plain", "Any rows", "random"),
    Recipe("scored", "The best rows", "top_k", score=SCORED),
    Recipe("own", "Rows of a", "random", sources=("a",)),
    Recipe("never", "Not asked for", "random"),
)
LANE = (
    *("raw/instructions", "filtered/instructions", "filtered/dropped", "evidence/text_counts", "scored/mtld"),
    *automation.LANE_ENDS,
)
"""Enough of a lane: its head, its middle and all its ends."""
UNASKED = {f"scored/{i.id}" for i in catalog.INDICATORS if i.scope == "pool"} - {
    "scored/knn_1",
    "scored/pca_row_variance",
}
"""What nobody has asked for: most scores across the pool."""
UNASKED |= {"evidence/token_statistics_experienced", "evidence/cape", "evidence/semantic_pairs"}
UNASKED |= {f"clustered/{method.id}" for method in CLUSTERINGS}
ON_REQUEST = {"tuned", "mods", "explored", "targets", "judged", "humans", "tagged", "corrected"}
"""Stages that are made only where somebody asks for them."""
IN_USE = ("plain", "scored", "own")
NEVER = dg.AutomationCondition.missing() & ~dg.AutomationCondition.missing()
ALWAYS = ~NEVER


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("/"))


class Book:
    """An instance in which everything was made once, and the daemon that looks at it."""

    def __init__(self, home: Path, change: Callable[[dg.AutomationCondition], dg.AutomationCondition] | None) -> None:
        self.defs = build_defs(home, FakeEncoder(), FakeCausalLM(), RECIPES, sensor_interval=1)
        if change:
            self.defs = dg.Definitions(
                assets=[
                    asset.map_asset_specs(
                        lambda spec: (
                            spec.replace_attributes(automation_condition=change(spec.automation_condition))
                            if spec.automation_condition
                            else spec
                        )
                    )
                    for asset in self.defs.assets
                ],
                resources=self.defs.resources,
            )
        graph = self.defs.resolve_asset_graph()
        self.graph = graph
        made = [k for k in graph.toposorted_asset_keys if k.path[-1] != "never" and k.to_user_string() not in UNASKED]
        made = [k for k in made if k.path[0] not in ON_REQUEST]
        self.lane = [k for k in made if k.to_user_string() in LANE]
        self.across = [k for k in made if not graph.get(k).is_partitioned]
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: Any = None
        self.sources = ["a", "b"]
        self.instance.add_dynamic_partitions("source", self.sources)
        # Dagster asks for the partitions hundreds of times a look, and each time the database.
        self.instance.get_dynamic_partitions = lambda partitions_def_name: self.sources  # type: ignore[method-assign]
        for source in self.sources:
            self.run_lane(source, "1")
        self.run_across("1")
        self.look()

    def add_source(self, name: str) -> None:
        self.instance.add_dynamic_partitions("source", [name])
        self.sources = [*self.sources, name]

    # ---- runs --------------------------------------------------------------------------------------------------------

    def start(self, keys: Iterable[dg.AssetKey], partition: str | None = None, **tags: str) -> "Run":
        return Run(self, list(keys), partition, tags)

    def run_lane(self, source: str, version: str, **tags: str) -> None:
        self.start(self.lane, source, **tags).make(version).end()

    def run_across(self, version: str, keys: Iterable[dg.AssetKey] | None = None, **tags: str) -> None:
        self.start(list(keys or self.across), None, **tags).make(version).end()

    def run_requested(self, version: str | None = None) -> None:
        self.start(self.requested).make(version or uuid.uuid4().hex).end()

    def check(self, name: str, passed: bool) -> None:
        """The contract of a table, as judged after its latest materialization."""
        (latest,) = self.instance.fetch_materializations(key(name), limit=1).records
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=latest.storage_id, run_id=latest.run_id, timestamp=latest.timestamp
        )
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(key(name), "contract", passed, target_materialization_data=target)
        )

    # ---- looks -------------------------------------------------------------------------------------------------------

    def look(self) -> set[str]:
        """What one look of the daemon asks for, by name."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        self.requested = [k for k in self.graph.toposorted_asset_keys if result.get_num_requested(k)]
        return {k.to_user_string() for k in self.requested}


class Run:
    """A run as Dagster records it: planned, then table by table, then over."""

    def __init__(self, book: Book, keys: list[dg.AssetKey], partition: str | None, tags: Mapping[str, str]) -> None:
        self.book, self.keys, self.partition = book, keys, partition
        place = {"dagster/partition": partition} if partition else {}
        self.run = dg.DagsterRun(
            job_name="__ASSET_JOB",
            run_id=str(uuid.uuid4()),
            asset_selection=frozenset(keys),
            tags={**{name.replace("__", "/"): value for name, value in tags.items()}, **place},
            status=dg.DagsterRunStatus.STARTED,
        )
        book.instance.add_run(self.run)
        for k in keys:
            self._event(DagsterEventType.ASSET_MATERIALIZATION_PLANNED, AssetMaterializationPlannedData(k, partition))

    def make(self, version: str, names: Iterable[str] | None = None) -> "Run":
        for k in [key(name) for name in names] if names is not None else self.keys:
            made = dg.AssetMaterialization(k, partition=self.partition, tags={"dagster/data_version": version})
            self._event(DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(made))
        return self

    def end(self, success: bool = True) -> None:
        self._event(DagsterEventType.RUN_SUCCESS if success else DagsterEventType.RUN_FAILURE, None)

    def _event(self, kind: DagsterEventType, data: Any) -> None:
        event = DagsterEvent(kind.value, self.run.job_name, event_specific_data=data)
        self.book.instance.report_dagster_event(event, self.run.run_id)
