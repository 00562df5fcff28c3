"""Measuring the rows of some files as one set.

Here belongs finding what a measure needs, handing it over, and saying what the number was measured on. The measures
are in `methods.catalog`, what they are handed is put together in `assets.views`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from assets.scored import key_of
from assets.views import BEHIND, quality_of, subset_view
from methods import catalog
from methods.diversity import intervals
from methods.kinds import Indicator, Measure
from resources.lake import Lake


@dataclass(frozen=True)
class Wish:
    """What is asked for beside the measures themselves."""

    params: Mapping[str, Mapping[str, Any]]
    quality: Indicator | None = None
    """The indicator that stands for quality where a measure weighs by it."""
    draws: int = 0
    """Resamples for an interval; 0 for none."""
    seed: int = 0


def keys_for(measures: Sequence[Measure], wish: Wish) -> list[dg.AssetKey]:
    """The assets that these measures read."""
    names = {"filtered/instructions", *(asset for m in measures for need in m.needs for asset in BEHIND[need])}
    keys = [dg.AssetKey(name.split("/")) for name in sorted(names)]
    return keys + ([key_of(wish.quality.id)] if wish.quality else [])


def measure(
    lake: Lake, definitions: dg.Definitions, sources: Sequence[str], measures: Sequence[Measure], wish: Wish
) -> dict[str, Any]:
    """One number a measure, and under ``sluice`` what each was measured on."""
    resources = definitions.resources or {}
    encoder = resources["encoder"]
    needs = {need for m in measures for need in m.needs}
    rows = lake.scan_sources(["raw", "instructions"], sources).select("row_id").collect()["row_id"]
    quality = _quality(lake, sources, wish.quality) if "quality" in needs and wish.quality else None
    view = subset_view(resources["lake"], encoder, rows, sources, needs, quality)
    found: dict[str, Any] = {}
    each: dict[str, Any] = {}
    for m in measures:
        params = {**m.params, **wish.params.get(m.id, {})}
        able = "quality" not in m.needs or quality is not None
        terms = m.terms(view, **params) if m.terms and able else None
        found[m.id] = terms["combined"] if terms else m.compute(view, **params) if able else None
        each[m.id] = {
            "n": intervals.n_of(m, view, params) if able else 0,
            "direction": m.direction,
            "parameters": params,
            "seed": params.get("seed"),
            **({"encoder": encoder.identity()} if {"vectors", "encode"} & set(m.needs) else {}),
            **({"clusters": _clustering(lake)} if "clusters" in m.needs else {}),
            **({"terms": dict(terms)} if terms else {}),
            **({} if able else {"missing": "name an indicator of quality: --quality ID"}),
            **(_interval(m, view, params, wish) if wish.draws and able else {}),
        }
    about = {
        "sources": list(sources),
        "rows": len(rows),
        "quality": wish.quality.id if wish.quality else None,
        "measures": each,
    }
    return {**found, "sluice": about}


def _clustering(lake: Lake) -> dict[str, Any]:
    """With how many clusters and from which seed: two sets compare under the same clustering alone."""
    manifest = lake.manifest(["clustered", "kmeans_model"])
    return {} if manifest is None else {k: v for k, v in manifest.config.items() if k not in ("pool", "encoder")}


def _interval(m: Measure, view: Any, params: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    between = intervals.interval(m, view, params, draws=wish.draws, seed=wish.seed)
    ends = [between.low, between.high]
    return {"interval": {"95%": ends, "method": between.method, "draws": wish.draws, "seed": wish.seed}}


def _quality(lake: Lake, sources: Sequence[str], indicator: Indicator) -> pl.DataFrame:
    """What an indicator says of the rows, whatever its unit and direction."""
    if indicator.direction == "band":
        raise ValueError(f"{indicator.id} has no better end, so it says nothing of quality; take another indicator")
    key = ["scored", indicator.id]
    table = lake.scan(key) if indicator.scope == "pool" else lake.scan_sources(key, sources)
    values = table.select("row_id", "value").drop_nulls().unique("row_id", keep="first").collect()
    return quality_of(values["row_id"], values["value"] * (1 if indicator.direction == "higher" else -1))


def known_quality(name: str | None) -> Indicator | None:
    """The indicator of this name, or None for no name."""
    return catalog.indicator(name) if name else None
