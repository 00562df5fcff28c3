"""What must be chosen again: the safety net under the automation conditions.

Here belongs noticing that a subset was chosen from something other than what the lake holds now. The conditions on the assets
(`assets.automation`) ask for a refresh as soon as content changes; a change that lands in the very tick of such a request is
lost to them. This sensor compares what each subset was made of with what is there, and asks for the rest, once for each state.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg

from resources.fingerprint import fingerprint
from resources.lake import Lake, Manifest
from resources.tables import LakeResource

ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def behind(manifest: Manifest | None, now: Mapping[str, str]) -> bool:
    """Whether a subset was made of other versions than there are now."""
    return manifest is not None and any(
        now.get(name) != version for name, version in manifest.inputs.items() if name in now
    )


def versions_now(lake: Lake, manifest: Manifest) -> dict[str, str]:
    """The present data version of each table that went into a subset."""
    now = {}
    for name in manifest.inputs:
        key, _, partition = name.removesuffix("]").partition("[")
        stored = lake.manifest(key.split("/"), partition or None)
        if stored:
            now[name] = stored.data_version
    return now


def build_sensor(recipes: Sequence[str], downstream: Sequence[dg.AssetKey], interval: int = 60) -> dg.SensorDefinition:
    """The sensor; ``downstream`` are the assets that look across sources (recipes and cards among them)."""

    @dg.sensor(
        name="selection",
        target=dg.AssetSelection.assets(*downstream),
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for a subset again when it was chosen from other data than there is now and nothing is under way.",
    )
    def selection(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
        if context.instance.get_runs_count(dg.RunsFilter(statuses=ACTIVE)):
            return dg.SkipReason("runs are under way")
        stale: dict[str, str] = {}
        for name in recipes:
            manifest = lake.lake.manifest(["selected", name])
            now = versions_now(lake.lake, manifest) if manifest else {}
            if manifest and behind(manifest, now):
                stale[name] = fingerprint(now)
        before = json.loads(context.cursor or "{}")
        # The conditions get the first word: only what is still behind at the next look is asked for here.
        ripe = sorted(name for name, state in stale.items() if before.get(name) == state)
        requests = (
            [
                dg.RunRequest(
                    run_key=f"{fingerprint([stale[name] for name in ripe])}",
                    asset_selection=wanted(lake.lake, ripe, downstream),
                )
            ]
            if ripe
            else []
        )
        return dg.SensorResult(run_requests=requests, cursor=json.dumps(stale, sort_keys=True))

    return selection


def wanted(lake: Lake, recipes: Sequence[str], downstream: Sequence[dg.AssetKey]) -> list[dg.AssetKey]:
    """The subsets that are behind, their cards, and whatever across sources was made before: all that is already in use."""
    ours = {("selected", name) for name in recipes} | {("evaluated", name) for name in recipes}
    return [
        key
        for key in downstream
        if lake.exists(key.path) and (key.path[0] not in ("selected", "evaluated") or tuple(key.path) in ours)
    ]
