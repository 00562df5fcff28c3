"""What a command made, so that the same command over the same data need not even start a run.

Here belongs recognising a call whose every input is the same and whose every table is still as it was left. Each
table knows for itself whether it is up to date (`assets.step`); asking them one by one through Dagster costs seconds,
looking here costs none.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from jobs.made import Made, Outcome
from methods import catalog, readers
from resources.fingerprint import fingerprint
from resources.lake import Lake, Manifest, replacing


def fingerprint_of_call(
    lake: Lake,
    definitions: dg.Definitions,
    keys: Sequence[dg.AssetKey],
    sources: Sequence[str],
    settings: Mapping[str, Any],
) -> str:
    """A hash of everything that decides what the tables of a call hold."""
    graph = definitions.resolve_asset_graph()
    resources: Mapping[str, Any] = definitions.resources or {}
    files = [(source.name, source.layout, readers.content_hash(source.path)) for source in map(lake.source, sources)]
    given = (*sorted(lake.targets.glob("*")), *sorted((lake.home / "preferences").glob("*")))
    settled = [path for path in (lake.home / "filters.yaml", *given) if path.is_file()]
    head = lake.manifest(["tuned", "preference_head"])
    models = [resource for _, resource in sorted(resources.items()) if hasattr(resource, "identity")]
    return fingerprint(
        {
            "tables": [(key.path, graph.get(key).code_version, _recipe(graph.get(key).metadata)) for key in keys],
            "files": files,
            "settings": settings,
            "methods": {method.id: method.version for method in catalog.METHODS},
            "settled": [(path.name, readers.content_hash(path)) for path in settled],
            "models": [model.identity() for model in models],
            "head": head and head.data_version,
        }
    )


def _recipe(metadata: Mapping[str, Any]) -> Any:
    recipe = metadata.get("recipe")
    return getattr(recipe, "value", None)


def recall(lake: Lake, call: str) -> Outcome | None:
    """What the same call left, if every table is still just that."""
    path = _path(lake, call)
    if not path.is_file():
        return None
    left = json.loads(path.read_text(encoding="utf-8"))
    for key, source, state, _ in left["tables"]:
        manifest = lake.manifest(key.split("/"), source)
        if manifest is None or _state(manifest) != state:
            return None
    made = [Made(key, source, rows, 0, True, {}) for key, source, _, rows in left["tables"]]
    return Outcome(left["sources"], made, left["warnings"])


def remember(lake: Lake, call: str, outcome: Outcome) -> None:
    """Keep what a call left."""
    tables = []
    for made in outcome.made:
        manifest = lake.manifest(made.key.split("/"), made.source)
        if manifest:
            tables.append((made.key, made.source, _state(manifest), made.rows))
    with replacing(_path(lake, call)) as staged:
        staged.write_text(
            json.dumps({"sources": outcome.sources, "tables": tables, "warnings": outcome.warnings}), encoding="utf-8"
        )


def _state(manifest: Manifest) -> list[str]:
    """One writing of a table: the same content may be written for all rows or only for those that the filters kept."""
    return [manifest.data_version, manifest.run_id]


def _path(lake: Lake, call: str) -> Path:
    return lake.root / "calls" / f"{call}.json"
