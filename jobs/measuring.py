"""Measuring the rows of some files as one set.

Here belongs finding what a measure needs and handing it over; the measures are `methods.diversity.measures`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets.embedded import vectors_of
from assets.selected import clusters_of
from methods.kinds import Measure, Subset
from resources.lake import Lake

NEEDS = {
    "vectors": ("embedded/minilm",),
    "clusters": ("clustered/kmeans", "embedded/minilm"),
    "words": ("evidence/text_counts",),
    "row_ids": ("filtered/instructions", "filtered/dropped"),
}
"""The assets behind each field of a `Subset`."""


def keys_for(measures: Sequence[Measure]) -> list[dg.AssetKey]:
    """The assets that these measures read."""
    names = {"filtered/instructions", *(asset for m in measures for need in m.needs for asset in NEEDS[need])}
    return [dg.AssetKey(name.split("/")) for name in sorted(names)]


def measure(
    lake: Lake,
    definitions: dg.Definitions,
    sources: Sequence[str],
    measures: Sequence[Measure],
    params: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One number a measure, and what it was measured on."""
    needs = {need for m in measures for need in m.needs}
    encoder = definitions.resources["encoder"] if definitions.resources else None
    rows = lake.scan_sources(["raw", "instructions"], sources).select("row_id").collect()["row_id"]
    vectors = vectors_of(definitions.resources["lake"], encoder).read(rows.to_list()) if "vectors" in needs else None  # type: ignore[index,arg-type]
    clusters = (
        clusters_of(rows, lake.scan(["clustered", "kmeans"]).select("row_id", "cluster").collect())
        if "clusters" in needs
        else None
    )
    view = Subset(
        rows,
        None if vectors is None else vectors[np.isfinite(vectors).all(axis=1)],
        clusters,
        _words(lake, sources, rows) if "words" in needs else None,
    )
    about = {
        "sources": list(sources),
        "rows": len(rows),
        "rows without embedding": None if vectors is None else int((~np.isfinite(vectors).all(axis=1)).sum()),
        "encoder": encoder.identity() if encoder and "vectors" in needs else None,
        "parameters": {m.id: {**m.params, **params.get(m.id, {})} for m in measures},
    }
    return {**{m.id: m.compute(view, **{**m.params, **params.get(m.id, {})}) for m in measures}, "sluice": about}


def _words(lake: Lake, sources: Sequence[str], rows: pl.Series) -> pl.Series:
    words = (
        lake.scan_sources(["evidence", "text_counts"], sources)
        .select("row_id", "response_words")
        .unique("row_id", keep="first")
    )
    return (
        rows.to_frame("row_id")
        .lazy()
        .join(words, on="row_id", how="left", maintain_order="left")
        .collect()["response_words"]
    )
