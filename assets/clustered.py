"""Stage 5: the pool as groups of alike rows.

Here belong the fitted clusterings (`clustered/kmeans_model`: what each cluster is about) and their application to the
pool (`clustered/kmeans`: each row's label), apart, so that a model can be kept while rows come and go. The algorithms
are in `methods.numerics.kmeans` and `methods.diversity.clusters`.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import automation, metadata
from assets.embedded import vectors_of
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods.diversity import clusters as science
from methods.numerics import kmeans as algorithm
from methods.rows import TEXT
from resources.encoder import Encoder
from resources.settings import Settings
from resources.tables import LakeResource

MODEL, LABELS = dg.AssetKey(["clustered", "kmeans_model"]), dg.AssetKey(["clustered", "kmeans"])


@dg.asset(
    key=MODEL,
    group_name="clustered",
    deps=[same_source("filtered/pool"), whole_pool("filtered/instructions"), whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"parquet"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(MODEL.path),
    description="Spherical k-means of the pool's embeddings (k-means++ start, seeded): centroid, size, top terms "
    "and exemplars of each cluster.",
)
def kmeans_model(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Fit the clusters on the pool and say what each is about."""
    step = Step(context, lake, settings)
    pool = step.pool(MODEL)
    config = {"seed": 0, "k": None, "encoder": encoder.identity(), **settings.params.get("kmeans", {})}

    def compute() -> Result:
        ids = step.scan("filtered/pool").select("row_id").collect()
        rows = step.scan("filtered/instructions", pool)
        if settings.all_rows:
            rows = pl.concat(
                [rows, step.lake.scan_sources(["filtered", "dropped"], pool).select(rows.collect_schema().names())]
            )
        texts = (
            ids.lazy()
            .join(
                rows.unique("row_id", keep="first").select("row_id", text=TEXT),
                on="row_id",
                how="left",
                maintain_order="left",
            )
            .collect()
        )
        vectors = vectors_of(lake, encoder).read(ids["row_id"].to_list())
        fine = np.isfinite(vectors).all(axis=1)
        k = min(int(config["k"] or science.default_k(int(fine.sum()))), max(int(fine.sum()), 1))
        centroids = algorithm.fit(vectors[fine], k, seed=int(config["seed"]))
        labels, similarity = algorithm.assign(vectors, centroids)
        about = science.describe_clusters(texts["row_id"], labels, similarity, texts["text"])
        centroid_frame = pl.DataFrame(
            {"cluster": np.arange(len(centroids)), "centroid": list(centroids)}, schema_overrides={"cluster": pl.Int64}
        )
        frame = about.join(centroid_frame, on="cluster", how="left", maintain_order="left")
        shown = (
            about.sort("size", descending=True)
            .head(40)
            .select("cluster", "size", pl.col("top_terms").list.join(", "), "mean_similarity")
        )
        facts = {"pool": pool, "clusters": k, "largest share": max(about["size"], default=0) / max(int(fine.sum()), 1)}
        return Result(frame, facts, {"what each cluster is about": metadata.table(shown)})

    yield from step.make(MODEL, config, compute, pool)


@dg.asset(
    key=LABELS,
    group_name="clustered",
    deps=[same_source("clustered/kmeans_model"), same_source("filtered/pool"), whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"parquet"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(LABELS.path),
    description="The nearest cluster of every row of the pool, and the cosine to its centroid.",
)
def kmeans(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Apply the fitted clusters to the pool."""
    step = Step(context, lake, settings)
    pool = step.pool(LABELS)

    def compute() -> Result:
        rows = step.scan("filtered/pool").select("row_id", "source").collect()
        model = step.scan("clustered/kmeans_model").sort("cluster").collect()
        centroids = np.asarray(model["centroid"].to_list(), dtype=np.float32)
        labels, similarity = algorithm.assign(vectors_of(lake, encoder).read(rows["row_id"].to_list()), centroids)
        frame = rows.select("row_id").with_columns(
            cluster=pl.Series(labels, dtype=pl.Int64),
            similarity=pl.Series(similarity, dtype=pl.Float32).fill_nan(None),
            status=pl.when(pl.Series(labels) >= 0).then(pl.lit("ok")).otherwise(pl.lit("no_embedding")),
        )
        return Result(
            frame,
            {"pool": pool, "rows missing": 0},
            {"cosine to centroid": metadata.histogram(frame["similarity"], "cosine to the centroid")},
        )

    yield from step.make(LABELS, {"encoder": encoder.identity()}, compute, pool)


ASSETS = (kmeans_model, kmeans)
