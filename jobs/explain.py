"""Why a row is in the training set, or why not: everything the lake knows of one row.

Here belongs walking back from a row id: file and record, the filter's verdict, its twins, every score with the model
and code that made it, and what each recipe decided. The facts are read from the tables and the manifests that travel
in them.
"""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from resources.lake import Lake, LakeError, Manifest


@dataclass(frozen=True)
class Explanation:
    """All that is known of a row. Every part is plain data."""

    row_id: str
    places: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    twins: list[dict[str, Any]] = field(default_factory=list)
    cluster: dict[str, Any] | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return dict(vars(self))


def explain(lake: Lake, row_id: str) -> Explanation:
    """Everything known of the row with this id, or with an id that begins so."""
    full = _full_id(lake, row_id)
    return Explanation(
        full,
        _places(lake, full),
        _verdicts(lake, full),
        _twins(lake, full),
        _cluster(lake, full),
        _scores(lake, full),
        _decisions(lake, full),
    )


def _rows(table: pl.LazyFrame, row_id: str) -> list[dict[str, Any]]:
    return table.filter(pl.col("row_id") == row_id).collect().to_dicts()


def _full_id(lake: Lake, start: str) -> str:
    found: set[str] = set()
    for source in lake.partitions(["raw", "instructions"]):
        ids = (
            lake.scan(["raw", "instructions"], source)
            .select("row_id")
            .filter(pl.col("row_id").str.starts_with(start))
            .unique()
            .collect()
        )
        found |= set(ids["row_id"])
    if not found:
        raise LakeError(
            f"no row {start!r} in {lake.home}: row ids stand in the subset file under sluice.row_id and in `sluice"
            f" score`'s table"
        )
    if len(found) > 1:
        raise LakeError(
            f"{len(found)} rows begin with {start!r}: {', '.join(sorted(found)[:3])} ...; give more of the id"
        )
    return found.pop()


def _places(lake: Lake, row_id: str) -> list[dict[str, Any]]:
    places = []
    for source in lake.partitions(["raw", "instructions"]):
        manifest = lake.manifest(["raw", "instructions"], source)
        for row in _rows(lake.scan(["raw", "instructions"], source), row_id):
            facts = manifest.facts if manifest else {}
            names = (
                "source",
                "position",
                "part",
                "line",
                "layout",
                "instruction",
                "input",
                "response",
                "turns",
                "record",
            )
            places.append(
                {
                    **{name: row[name] for name in names},
                    "file": facts.get("file"),
                    "content hash": facts.get("content hash"),
                    "read at": manifest.made_at if manifest else "",
                }
            )
    return places


def _verdicts(lake: Lake, row_id: str) -> list[dict[str, Any]]:
    verdicts = []
    for source in lake.partitions(["filtered", "instructions"]):
        for row in _rows(lake.scan(["filtered", "instructions"], source), row_id):
            verdicts.append(
                {
                    "source": source,
                    "position": row["position"],
                    "verdict": "kept",
                    "rule": None,
                    "detail": "passed every rule",
                    "language": row["language"],
                    "flags": row["flags"],
                }
            )
        for row in _rows(lake.scan(["filtered", "dropped"], source), row_id):
            verdicts.append(
                {
                    "source": source,
                    "position": row["position"],
                    "verdict": "dropped",
                    **{name: row[name] for name in ("rule", "detail", "language", "flags")},
                }
            )
    return verdicts


def _twins(lake: Lake, row_id: str) -> list[dict[str, Any]]:
    if not lake.exists(["filtered", "duplicates"]):
        return []
    pairs = lake.scan(["filtered", "duplicates"]).filter((pl.col("a") == row_id) | (pl.col("b") == row_id)).collect()
    return [
        {"twin": line["b"] if line["a"] == row_id else line["a"], "similarity": line["similarity"]}
        for line in pairs.sort("similarity", descending=True).to_dicts()
    ]


def _cluster(lake: Lake, row_id: str) -> dict[str, Any] | None:
    if not (lake.exists(["clustered", "kmeans"]) and lake.exists(["clustered", "kmeans_model"])):
        return None
    labels = lake.scan(["clustered", "kmeans"]).filter(pl.col("row_id") == row_id)
    about = lake.scan(["clustered", "kmeans_model"]).select("cluster", "size", "top_terms")
    found = labels.join(about, on="cluster", how="left").collect().to_dicts()
    return found[0] if found else None


def _scores(lake: Lake, row_id: str) -> list[dict[str, Any]]:
    from methods import catalog

    scores = []
    for indicator in catalog.INDICATORS:
        key = ["scored", indicator.id]
        places: list[str | None] = [None] if lake.exists(key) else list(lake.partitions(key))
        for place in places:
            manifest = lake.manifest(key, place) or Manifest("unknown")
            for row in _rows(lake.scan(key, place), row_id):
                scores.append(
                    {
                        "indicator": indicator.id,
                        "value": row["value"],
                        "status": row["status"],
                        "direction": indicator.direction,
                        "source": place,
                        "code": manifest.code_version,
                        "parameters": {k: v for k, v in manifest.config.items() if k != "made with"},
                        "made of": _models(lake, manifest) or manifest.inputs,
                        "data version": manifest.data_version,
                        "made at": manifest.made_at,
                        "run": manifest.run_id,
                    }
                )
    return scores


def _models(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    """The evidence behind a score, each with the model that made it."""
    made_of = {}
    for name, version in manifest.inputs.items():
        key, _, place = name.removesuffix("]").partition("[")
        stored = lake.manifest(key.split("/"), place or None)
        if stored:
            made_of[name] = {"data version": version, "code": stored.code_version, **stored.config}
    return made_of


def _decisions(lake: Lake, row_id: str) -> list[dict[str, Any]]:
    decisions = []
    for name in sorted(file.stem for file in lake.path(["selected", "ledgers", "_"]).parent.glob("*.parquet")):
        manifest = lake.manifest(["selected", "ledgers", name]) or Manifest("unknown")
        config = manifest.config
        for row in _rows(lake.scan(["selected", "ledgers", name]), row_id):
            recipe = config.get("recipe", {})
            kept = {key: value for key, value in row.items() if key != "row_id" and value is not None}
            decisions.append(
                {
                    "recipe": name,
                    **kept,
                    "title": recipe.get("title"),
                    "selector": recipe.get("selector"),
                    "budget": config.get("budget"),
                    "pool": config.get("pool"),
                    "made at": manifest.made_at,
                }
            )
    return decisions
