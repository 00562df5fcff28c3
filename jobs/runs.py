"""Materializing assets from the command line, in this process, in the instance that the UI shows.

Here belongs finding what must be made for a target, making it (source by source, then across sources), and collecting
what happened. Printing is the command line's business.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg

from assets.automation import FROM_COMMAND_LINE
from assets.partitions import SOURCES
from assets.spending import COMMAND
from jobs import judging, memo
from jobs.made import Made, Outcome
from methods.selection.recipe import RecipeError
from methods.streams import SourceError, kind_by_name
from resources.lake import Lake, LakeError, MissingTable, Source

SPOKEN = {error.__name__ for error in (LakeError, MissingTable, SourceError, RecipeError, ValueError)}
"""Errors whose message is a sentence for a person."""


class RunFailed(Exception):
    """A run that did not succeed; the message says which step and why."""


def add_sources(
    lake: Lake, instance: dg.DagsterInstance, sources: Mapping[str, Path], layout: str | None = None
) -> None:
    """Register files as sources and make them partitions."""
    for name, path in sources.items():
        if not path.is_file():
            raise LakeError(f"source {name!r}: there is no file {path}")
        kind_by_name(path)
    for name, path in sources.items():
        lake.register(Source(name, str(path.absolute()), layout))
    instance.add_dynamic_partitions(SOURCES.name or "", list(sources))


def forget_unread(lake: Lake, instance: dg.DagsterInstance, sources: Iterable[str]) -> None:
    """Take back sources of which nothing was ever read, so that a slip does not stand in the way of every later run."""
    for name in sources:
        if not lake.exists(["raw", "instructions"], name):
            lake.unregister(name)
            instance.delete_dynamic_partition(SOURCES.name or "", name)


LOOK_AGAIN = ("tuned", "mods", "judged", "humans")
"""Stages whose tables depend on more than the graph names."""


def materialize(
    lake: Lake,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    targets: Sequence[dg.AssetKey],
    sources: Sequence[str],
    settings: Mapping[str, Any],
) -> Outcome:
    """Make the targets and all that they are made of: first each source's lane, then what looks across sources.

    The same call over the same data, with every table as it was left, starts no run. The order of the sources is of
    no account.
    """
    sources = sorted(sources)
    settings = {**settings, "sources": sources}
    graph = definitions.resolve_asset_graph()
    wanted = dg.AssetSelection.assets(*targets).upstream().required_multi_asset_neighbors().resolve(graph)
    lane = sorted(key for key in wanted if graph.get(key).is_partitioned)
    across = sorted(key for key in wanted if not graph.get(key).is_partitioned)
    call = memo.fingerprint_of_call(lake, definitions, [*lane, *across], sources, settings)
    # What is trained may read scores that its place in the graph does not name, a judge's table may have cells open,
    # and people's labels are files: each step looks for itself.
    looks = any(key.path[0] in LOOK_AGAIN for key in across) or any(map(judging.is_judged, lane))
    if not looks and (known := memo.recall(lake, call)):
        return known
    config = run_config(settings)
    outcome = Outcome(sources=list(sources))
    command = uuid4().hex
    for source in sources if lane else ():
        _run(definitions, instance, lane, source, config, outcome, command)
    if across:
        _run(definitions, instance, across, None, config, outcome, command)
    memo.remember(lake, call, outcome)
    return outcome


def targets(definitions: dg.Definitions, names: Sequence[str]) -> list[dg.AssetKey]:
    """The assets of these names, or an error that names the nearest ones that there are."""
    from difflib import get_close_matches

    known = {key.to_user_string(): key for key in definitions.resolve_asset_graph().materializable_asset_keys}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:3]
            raise LakeError(f"there is no table {name!r}; did you mean {', '.join(near)}?")
    return [known[name] for name in dict.fromkeys(names)]


def run_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dagster's form of a run's settings."""
    return {
        "resources": {"settings": {"config": dict(settings)}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


def _run(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    keys: Sequence[dg.AssetKey],
    partition: str | None,
    config: dict[str, Any],
    outcome: Outcome,
    command: str = "",
) -> None:
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        run_config=config,
        instance=instance,
        partition_key=partition,
        asset_selection=list(keys),
        raise_on_error=False,
        tags={
            **FROM_COMMAND_LINE,
            **({COMMAND: command} if command else {}),
            **({"sluice/source": partition} if partition else {}),
        },
    )
    outcome.made += [_made(event, partition) for event in _materializations(result.all_events)]
    outcome.warnings += [warning for event in result.all_events for warning in _failed_expectations(event, partition)]
    if not result.success:
        reasons = [_reason(event) for event in result.all_events if event.is_step_failure]
        outcome.failures += reasons
        raise RunFailed((f"source {partition!r}: " if partition else "") + ("; ".join(reasons) or "the run failed"))


def _materializations(events: Iterable[dg.DagsterEvent]) -> list[dg.AssetMaterialization]:
    return [
        event.step_materialization_data.materialization
        for event in events
        if event.event_type_value == "ASSET_MATERIALIZATION"
    ]


def _made(event: dg.AssetMaterialization, partition: str | None) -> Made:
    values: dict[str, Any] = {name: value.value for name, value in event.metadata.items()}
    return Made(
        event.asset_key.to_user_string(),
        partition,
        int(values.get("dagster/row_count", 0)),
        values.get("rows computed"),
        bool(values.get("up to date", False)),
        values,
    )


def _failed_expectations(event: dg.DagsterEvent, partition: str | None) -> list[str]:
    if event.event_type_value != "ASSET_CHECK_EVALUATION":
        return []
    check = event.asset_check_evaluation_data
    if check.passed:
        return []
    return [
        f"{check.asset_key.to_user_string()}" + (f" of {partition}" if partition else "") + f": {check.description}"
    ]


def _reason(event: dg.DagsterEvent) -> str:
    """The step and what went wrong in it; the name of an error is left out where its sentence says all."""
    error = event.step_failure_data.error
    while error and error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    said = event.step_failure_data.user_failure_data
    text = said.description if said and said.description else (error.message.strip() if error else "unknown error")
    if error and error.cls_name in SPOKEN:
        text = text.partition(": ")[2]
    return f"{event.step_key}: {text}"
