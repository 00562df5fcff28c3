"""What methods are handed: the pool, or a set of rows, with just the fields that they ask for.

Here belongs putting a `Pool` or a `Subset` together from the lake, every field in the order of the rows. What a field
means stands in `methods.kinds`; which tables lie behind it, here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from assets.embedded import encode_with, vectors_of
from assets.evidence import NEIGHBOURS_KEPT
from methods.kinds import Pool, Subset
from methods.rows import PROMPT
from methods.selection.aggregate import ecdf
from methods.selection.recipe import SOURCE
from methods.tags import tags_of
from resources.encoder import Encoder
from resources.lake import Lake
from resources.tables import LakeResource

BEHIND = {
    "vectors": ("embedded/minilm",),
    "clusters": ("clustered/kmeans", "embedded/minilm"),
    "words": ("evidence/text_counts",),
    "texts": ("filtered/instructions", "filtered/dropped"),
    "tags": ("filtered/instructions", "filtered/dropped"),
    "known_tags": ("filtered/instructions", "filtered/dropped"),
    "quality": (),
    "encode": (),
}
"""The tables behind each field of a `Subset`."""


def in_order(ids: pl.Series, table: pl.LazyFrame) -> pl.LazyFrame:
    """The lines of a table in the order of these rows; nulls where it has none."""
    lines = table.unique("row_id", keep="first")
    return ids.to_frame("row_id").lazy().join(lines, on="row_id", how="left", maintain_order="left")


def clusters_of(ids: pl.Series, labels: pl.DataFrame) -> np.ndarray:
    """The cluster of each row, -1 where it has none."""
    found = ids.to_frame("row_id").join(labels, on="row_id", how="left", maintain_order="left")
    return found["cluster"].fill_null(-1).to_numpy().astype(np.int64)


def _labels(lake: Lake) -> pl.DataFrame:
    return lake.scan(["clustered", "kmeans"]).select("row_id", "cluster").collect()


def _rows(lake: Lake, sources: Sequence[str]) -> pl.LazyFrame:
    """The rows of these sources, those that a filter dropped last."""
    tables = [lake.scan_sources(["filtered", name], sources) for name in ("instructions", "dropped")]
    names = ["row_id", "source", "instruction", "input", "response", "record"]
    return pl.concat([table.select(names) for table in tables])


def texts_in_order(lake: Lake, ids: pl.Series, sources: Sequence[str]) -> pl.DataFrame:
    """``source, prompt, response`` of these rows, in their order."""
    rows = _rows(lake, sources).select("row_id", "source", PROMPT, "response")
    return in_order(ids, rows).drop("row_id").collect()


def tags_in_order(lake: Lake, ids: pl.Series, sources: Sequence[str], by: str = SOURCE) -> pl.Series:
    """The tags of these rows, in their order; null where there are none: those that the source gives, or those of
    ``tagged/<by>``."""
    if by != SOURCE:
        return in_order(ids, lake.scan(["tagged", by]).select("row_id", "tags")).collect()["tags"]
    return tags_of(in_order(ids, _rows(lake, sources).select("row_id", "record")).collect()["record"].fill_null("{}"))


# ---- a set of rows -------------------------------------------------------------------------------------------------


def subset_view(
    resource: LakeResource,
    encoder: Encoder,
    ids: pl.Series,
    sources: Sequence[str],
    needs: Collection[str],
    quality: pl.DataFrame | None = None,
    tags: str = SOURCE,
) -> Subset:
    """These rows as a set to be measured, with the fields named in ``needs``.

    ``quality`` has ``row_id`` and ``quality`` (see `quality_of`). What the rows were chosen from is not known here:
    ``known_tags`` stays None.
    """
    lake: Lake = resource.lake
    words = lake.scan_sources(["evidence", "text_counts"], sources) if "words" in needs else None
    return Subset(
        row_ids=ids,
        vectors=vectors_of(resource, encoder).read(ids.to_list()) if "vectors" in needs else None,
        clusters=clusters_of(ids, _labels(lake)) if "clusters" in needs else None,
        words=in_order(ids, words.select("row_id", "response_words")).collect()["response_words"]
        if words is not None
        else None,
        texts=texts_in_order(lake, ids, sources) if "texts" in needs else None,
        tags=tags_in_order(lake, ids, sources, tags) if {"tags", "known_tags"} & set(needs) else None,
        quality=None if quality is None else in_order(ids, quality.lazy()).collect()["quality"].to_numpy(),
        encode=encode_with(resource, encoder) if "encode" in needs else None,
    )


def quality_of(ids: pl.Series, score: pl.Series) -> pl.DataFrame:
    """Scores (higher is better) as a quality that is never negative: each row's share of rows that score no better."""
    return pl.DataFrame({"row_id": ids, "quality": pl.Series(ecdf(score.to_numpy()), dtype=pl.Float64)})


# ---- the pool ------------------------------------------------------------------------------------------------------


def pool_view(
    resource: LakeResource,
    encoder: Encoder,
    sources: Sequence[str],
    needs: Collection[str],
    copies: bool,
    log: Callable[[str], None],
) -> Pool:
    """The pool with the fields that these assets hold; ``copies``: every place of a content is a row of its own.

    ``log`` is told how far long work is.
    """
    lake: Lake = resource.lake
    rows = lake.scan(["filtered", "pool"]).collect()
    ids = rows["row_id"]
    features = ["evidence", "readability_features"]
    counts = lake.scan_sources(["evidence", "text_counts"], sources) if "evidence/text_counts" in needs else None
    pool = Pool(
        row_ids=ids,
        vectors=vectors_of(resource, encoder).read(ids.to_list()) if "embedded/minilm" in needs else None,
        neighbours=lake.scan(["evidence", "neighbours"]).collect() if "evidence/neighbours" in needs else None,
        counts=None if counts is None else in_order(ids, counts.drop("source")),
        features=in_order(ids, lake.scan_sources(features, sources).drop("source")).collect()
        if "/".join(features) in needs
        else None,
        texts=texts_in_order(lake, ids, sources) if "filtered/instructions" in needs else None,
        clusters=clusters_of(ids, _labels(lake)) if "clustered/kmeans" in needs else None,
        encode=encode_with(resource, encoder, log) if "encode" in needs else None,
        tables=_tables(lake, ids, needs, sources),
    )
    return _with_copies(pool, rows["copies"].to_numpy()) if copies and pool.neighbours is not None else pool


def _tables(lake: Lake, ids: pl.Series, needs: Collection[str], sources: Sequence[str]) -> dict[str, pl.LazyFrame]:
    """The tables of rows that are asked for: of the whole pool, or of its sources."""
    there: dict[str, pl.LazyFrame] = {}
    for need in needs:
        path = need.split("/")
        if "/" in need and lake.exists(path):
            there[need] = lake.scan(path)
        elif "/" in need and lake.partitions(path):
            there[need] = lake.scan_sources(path, sources).drop("source")
    return {need: in_order(ids, table) for need, table in there.items() if "row_id" in table.collect_schema().names()}


COPY = "copy "
"""How the name of a copy begins; no row id does."""


def _with_copies(pool: Pool, copies: np.ndarray) -> Pool:
    """When every row of a file is scored, a content that stands twice has its copy for nearest other row.

    Copies stand at the end of the pool under names of their own, and first in the neighbours of what they are copies
    of.
    """
    assert pool.neighbours is not None, "copies are for indicators that look at neighbours"
    again = np.repeat(np.arange(len(copies)), np.minimum(copies - 1, NEIGHBOURS_KEPT))
    names = pl.Series([f"{COPY}{n}" for n in range(len(again))], dtype=pl.String)
    twins = pl.DataFrame({"row_id": pool.row_ids.gather(again), "copy": names}).group_by("row_id").agg("copy")
    near = pool.neighbours
    found = near.join(twins, on="row_id", how="left", maintain_order="left").with_columns(pl.col("copy").fill_null([]))
    same = pl.lit(1.0, pl.Float32).repeat_by(pl.col("copy").list.len())
    near = found.with_columns(
        ids=pl.concat_list("copy", "ids"), similarity=pl.concat_list(same, pl.col("similarity"))
    ).drop("copy")
    every = np.concatenate([np.arange(len(copies)), again])

    def repeated(field: np.ndarray | None) -> np.ndarray | None:
        return None if field is None else field[every]

    return replace(
        pool,
        row_ids=pl.concat([pool.row_ids, names]),
        vectors=repeated(pool.vectors),
        neighbours=near,
        clusters=repeated(pool.clusters),
        counts=None if pool.counts is None else pool.counts.select(pl.all().gather(pl.Series(every))),
        features=None if pool.features is None else pool.features[every],
        texts=None if pool.texts is None else pool.texts[every],
        tables={need: table.select(pl.all().gather(pl.Series(every))) for need, table in pool.tables.items()},
    )
