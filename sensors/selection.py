"""What must be chosen again: the safety net under the automation conditions.

Here belongs noticing that a subset was chosen from something other than what the lake holds now. The conditions on
the assets (`assets.automation`) ask for a refresh as soon as content changes. What can still be missed is a change
while nobody was watching (the daemon was off when the first lane ran) and a run that died. This sensor compares what
each subset was made of with what is there, and asks for the rest, once for each state.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from assets.automation import HEAD
from assets.selected import aside_of
from assets.step import CONTRACT, UNDER_WAY, half_refreshed
from methods.selection.recipe import Recipe
from resources.fingerprint import fingerprint
from resources.lake import Lake, Manifest
from resources.tables import LakeResource


def behind(manifest: Manifest | None, now: Mapping[str, str]) -> bool:
    """Whether a subset was made of other versions than there are now."""
    return manifest is not None and any(
        now.get(name) != version for name, version in manifest.inputs.items() if name in now
    )


def versions_now(lake: Lake, manifest: Manifest, aside: Sequence[str] = ()) -> dict[str, str]:
    """The present data version of each table that went into a subset, but for those aside
    (`assets.selected.aside_of`)."""
    now = {}
    for name in manifest.inputs:
        key, _, partition = name.removesuffix("]").partition("[")
        stored = lake.manifest(key.split("/"), partition or None)
        if stored and key not in aside:
            now[name] = stored.data_version
    return now


def state_of(lake: Lake, recipe: Recipe) -> str | None:
    """What a subset would now be made of, if that is something else than it was made of; None if it is not behind.

    A source that is half refreshed is waited for. A source that came since is the conditions' business: whether the
    subset was meant to leave it out, its manifest does not say.
    """
    manifest = lake.manifest(["selected", recipe.name])
    if manifest is None:
        return None
    places = {name.removesuffix("]").partition("[")[::2] for name in manifest.inputs if name.endswith("]")}
    for source in {place for _, place in places}:
        if half_refreshed(lake, [table.split("/") for table, place in places if place == source], source):
            return None
    now = versions_now(lake, manifest, aside_of(recipe))
    return fingerprint(now) if behind(manifest, now) else None


def broken(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> list[str]:
    """Which of these tables broke their contract when they were last made (see `assets.automation` for the
    exceptions)."""
    checks = [dg.AssetCheckKey(key, CONTRACT) for key in keys if key.to_user_string() not in HEAD]
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    failed = (
        check.asset_key.to_user_string()
        for check, record in found.items()
        if record.event
        and record.event.dagster_event
        and record.event.dagster_event.event_type_value == "ASSET_CHECK_EVALUATION"
        and not record.event.dagster_event.asset_check_evaluation_data.passed
    )
    return sorted(failed)


def build_sensor(
    recipes: Sequence[Recipe], downstream: Sequence[dg.AssetKey], interval: int = 60
) -> dg.SensorDefinition:
    """The sensor; ``downstream`` are the assets that look across sources (recipes and cards among them)."""

    @dg.sensor(
        name="selection",
        target=dg.AssetSelection.assets(*downstream),
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for a subset again when it was chosen from other data than there is now and nothing is "
        "under way.",
    )
    def selection(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
        if context.instance.get_runs_count(dg.RunsFilter(statuses=list(UNDER_WAY))):
            return dg.SkipReason("runs are under way")
        states = {recipe.name: state_of(lake.lake, recipe) for recipe in recipes}
        stale = {name: state for name, state in states.items() if state}
        before = json.loads(context.cursor or "{}")
        # The conditions get the first word: only what is still behind at the next look is asked for here.
        ripe = sorted(name for name, state in stale.items() if before.get(name) == state)
        keys = wanted(lake.lake, ripe, downstream)
        problems = broken(context.instance, [*keys, *_read_by(lake.lake, ripe)]) if ripe else []
        if problems:
            return dg.SkipReason(f"behind, but the contract of {', '.join(problems)} is broken: {', '.join(ripe)}")
        state = fingerprint([stale[name] for name in ripe])
        requests = [dg.RunRequest(run_key=state, asset_selection=keys)] if ripe else []
        return dg.SensorResult(run_requests=requests, cursor=json.dumps(stale, sort_keys=True))

    return selection


def _read_by(lake: Lake, recipes: Sequence[str]) -> list[dg.AssetKey]:
    manifests = (lake.manifest(["selected", name]) for name in recipes)
    tables = {name.partition("[")[0] for manifest in manifests if manifest for name in manifest.inputs}
    return [dg.AssetKey(table.split("/")) for table in sorted(tables)]


def wanted(lake: Lake, recipes: Sequence[str], downstream: Sequence[dg.AssetKey]) -> list[dg.AssetKey]:
    """The subsets that are behind, their cards, and whatever across sources was made before: all that is already in
    use."""
    ours = {("selected", name) for name in recipes} | {("evaluated", name) for name in recipes}
    return [
        key
        for key in downstream
        if lake.exists(key.path) and (key.path[0] not in ("selected", "evaluated") or tuple(key.path) in ours)
    ]
