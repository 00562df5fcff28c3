"""Stage 5, the other clusterings: every clustering of the catalogue as a table of its own.

Here belongs turning `methods.diversity.clusterings.CLUSTERINGS` into assets (`clustered/<id>`): a label and its
strength for each row of the pool, and on the page what each cluster is about and where it lies on the map of the pool.
Plain k-means, which other assets read, stands in `clustered.py`. A clustering is added in the catalogue, and nowhere
else.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata
from assets.embedded import vectors_of
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods.diversity import clusters as science
from methods.diversity.clustering_kinds import Clustering, ClusteringMethod
from methods.diversity.corpus_map import corpus_map, thinned
from methods.rows import TEXT
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource

POINTS = 400
"""Points of the map on the page; a report can carry more."""
COLOURS = ("#4f6bed", "#e5484d", "#30a46c", "#f76b15", "#8e4ec6", "#0797b9", "#ad7f58", "#d6409f")
"""Of the largest clusters on the map, in turn."""
OTHERS, NONE = "other clusters", "no cluster"


def key_of(method_id: str) -> dg.AssetKey:
    """The asset of a clustering."""
    return dg.AssetKey(["clustered", method_id])


def build_assets(methods: Sequence[ClusteringMethod]) -> tuple[dg.AssetsDefinition, ...]:
    """One asset for each clustering."""
    return tuple(_asset(method) for method in methods)


def _asset(method: ClusteringMethod) -> dg.AssetsDefinition:
    key = key_of(method.id)

    @dg.asset(
        key=key,
        group_name="clustered",
        # Whatever a clustering goes by, its page draws the vectors and reads the texts.
        deps=[same_source("filtered/pool"), whole_pool("filtered/instructions"), whole_pool("embedded/minilm")],
        code_version=method.version,
        kinds={"parquet"},
        automation_condition=automation.REFRESH,
        check_specs=check_specs(key.path),
        description=description(method),
        metadata={
            "paper": method.paper,
            "goes by": method.needs,
            "parameters": dg.MetadataValue.json(dict(method.params)),
            "equation": method.equation,
        },
    )
    def clustering(
        context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
    ) -> Iterator[Any]:
        step = Step(context, lake, settings)
        pool = step.pool(key)
        params = {**method.params, **settings.params.get(method.id, {})}

        def compute() -> Result:
            texts = pool_texts(step, pool)
            vectors = vectors_of(lake, encoder).read(texts["row_id"].to_list())
            found = method.fit(vectors if method.needs == "vectors" else texts["text"], **params)
            return result(texts, vectors, found, pool)

        yield from step.make(key, {**params, "encoder": encoder.identity()}, compute, pool)

    return clustering


def description(method: ClusteringMethod) -> str:
    """What the page says first: what the groups are, the equation, and the method in words."""
    words = (method.fit.__doc__ or "").strip().split("\n\n")[0]
    return f"**{method.title}**. {method.meaning}\n\n    {method.equation}\n\n{words}\n\n{method.paper}"


def pool_texts(step: Step, pool: Sequence[str]) -> pl.DataFrame:
    """``row_id`` and ``text`` of the rows of the pool, in its order."""
    rows = step.scan("filtered/instructions", pool)
    if step.settings.all_rows:
        dropped = step.lake.scan_sources(["filtered", "dropped"], pool)
        rows = pl.concat([rows, dropped.select(rows.collect_schema().names())])
    texts = rows.unique("row_id", keep="first", maintain_order=True).select("row_id", text=TEXT)
    ids = step.scan("filtered/pool").select("row_id")
    return ids.join(texts, on="row_id", how="left", maintain_order="left").collect()


def result(texts: pl.DataFrame, vectors: np.ndarray, found: Clustering, pool: Sequence[str]) -> Result:
    """The table of labels, what was decided on the way, and what the page shows."""
    frame = labels_table(texts["row_id"], found)
    about = science.describe_clusters(texts["row_id"], found.labels, found.strength, texts["text"])
    grouped = int((found.labels >= 0).sum())
    facts = {
        "pool": list(pool),
        "rows missing": texts.height - frame.height,
        "clusters": about.height,
        "share in a cluster": grouped / max(1, texts.height),
        "largest share": max(about["size"], default=0) / max(1, grouped),
        **{name: value for name, value in found.facts.items() if name not in ("pool", "rows missing", "clusters")},
    }
    return Result(frame, facts, shown(frame, about, vectors, found.labels))


def labels_table(row_ids: pl.Series, found: Clustering) -> pl.DataFrame:
    """``row_id``, ``cluster`` (-1: none), ``strength`` (null: none) and ``status``."""
    return pl.DataFrame(
        {
            "row_id": row_ids.cast(pl.String),
            "cluster": pl.Series(found.labels, dtype=pl.Int64),
            "strength": pl.Series(found.strength, dtype=pl.Float64).fill_nan(None),
        }
    ).with_columns(status=pl.when(pl.col("cluster") >= 0).then(pl.lit("ok")).otherwise(pl.lit("no_cluster")))


def shown(frame: pl.DataFrame, about: pl.DataFrame, vectors: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What each cluster is about, how sure the labels are, and the map."""
    largest = about.sort(["size", "cluster"], descending=[True, False])
    named = largest.head(40).select("cluster", "size", pl.col("top_terms").list.join(", "), "mean_similarity")
    return {
        "what each cluster is about": metadata.table(named.rename({"mean_similarity": "mean_strength"})),
        "strength": metadata.histogram(frame["strength"], "strength of the label"),
        "map": _map(vectors, labels, largest["cluster"].to_list()),
    }


def _map(vectors: np.ndarray, labels: np.ndarray, largest: Sequence[int]) -> dg.MarkdownMetadataValue:
    points = corpus_map(vectors)
    rows = thinned(points, labels, POINTS)
    names = {cluster: f"cluster {cluster}" for cluster in largest[: len(COLOURS)]}
    drawn = pl.DataFrame(
        {
            "x": pl.Series(points[rows, 0], dtype=pl.Float64),
            "y": pl.Series(points[rows, 1], dtype=pl.Float64),
            "kind": pl.Series([_kind(int(label), names) for label in labels[rows]], dtype=pl.String),
        }
    )
    # What is drawn later lies on top: the clusters that have a colour.
    beneath = {NONE: "#ddd", OTHERS: "#aaa"}
    colours = {kind: colour for kind, colour in beneath.items() if (drawn["kind"] == kind).any()}
    colours |= dict(zip(names.values(), COLOURS, strict=False))
    return metadata.scatter(drawn, colours, (None, None), f"two principal components of {len(rows):,} rows")


def _kind(label: int, names: dict[int, str]) -> str:
    return NONE if label < 0 else names.get(label, OTHERS)
