"""Duplicate pairs by row id: finding them in a pool, and resolving them among the rows that one chooses from.

Here belongs carrying the pairs of `methods.filters` (which speak of row numbers) from pool to recipe by row id. Pairs
are found once for a pool; each recipe resolves them for its own rows and its own preference.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.filters import duplicates, resolution

PAIRS_SCHEMA = {"a": pl.String, "b": pl.String, "similarity": pl.Float64, "kind": pl.String}
RESOLVED_SCHEMA = {"row_id": pl.String, "twin": pl.String, "similarity": pl.Float64}
SAME_TEXT, NEAR = "same_text", "near"


def find_pairs(rows: pl.DataFrame, signatures: pl.Series, threshold: float = duplicates.THRESHOLD) -> pl.DataFrame:
    """All pairs of a pool: ``a`` (the earlier row), ``b``, ``similarity``, ``kind``.

    ``rows`` has ``row_id`` (unique), ``instruction``, ``input``, ``response``; ``signatures`` are theirs. Rows of the
    same text (`resolution.text_key`) stand once each, beside the first of them (``same_text``, similarity 1);
    near-duplicates are sought among those first ones, verified by exact Jaccard similarity, and kept from the
    threshold upwards.
    """
    first = resolution.exact_classes(rows)
    own = np.arange(len(first))
    ids = rows["row_id"]
    again = np.flatnonzero(first != own)
    same = _pairs(ids, first[again], again, np.ones(len(again)), SAME_TEXT)
    kept = np.flatnonzero(first == own)
    known = signatures.gather(kept)
    matrix = _matrix(known)
    edges = duplicates.near_duplicates(resolution.text_of(rows[kept]), threshold, matrix)
    a, b = (kept[edges[side].to_numpy()] for side in ("a", "b"))
    near = _pairs(ids, a, b, edges["similarity"].to_numpy(), NEAR)
    return pl.concat([same, near])


def _matrix(signatures: pl.Series) -> np.ndarray:
    """Signatures as a matrix; a row without words has the largest number everywhere, as `duplicates.minhash` gives
    it."""
    width = signatures.dtype.shape[0]  # type: ignore[attr-defined]
    top = np.iinfo(np.uint32).max
    matrix = np.full((len(signatures), width), top, dtype=np.uint32)
    there = signatures.is_not_null().to_numpy()
    if there.any():
        matrix[there] = signatures.drop_nulls().to_numpy()
    return matrix


def _pairs(ids: pl.Series, a: np.ndarray, b: np.ndarray, similarity: np.ndarray, kind: str) -> pl.DataFrame:
    frame = pl.DataFrame(
        {"a": ids.gather(a), "b": ids.gather(b), "similarity": similarity}, schema_overrides={"similarity": pl.Float64}
    )
    return frame.with_columns(kind=pl.lit(kind)).cast(PAIRS_SCHEMA)  # type: ignore[arg-type]


def resolve(preferred: pl.Series, pairs: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """The rows to drop: ``row_id``, ``twin`` (of the rows preferred to it that stay, the most similar), ``similarity``.

    ``preferred`` are unique row ids, those to keep rather first. A row goes only for a twin that stays: no chains.
    """
    number = preferred.to_frame("row_id").with_row_index("n").with_columns(pl.col("n").cast(pl.Int64))
    ends = pairs.join(number.rename({"row_id": "a", "n": "na"}), on="a", how="left").join(
        number.rename({"row_id": "b", "n": "nb"}), on="b", how="left"
    )
    classes = _classes(ends.filter(pl.col("kind") == SAME_TEXT), len(preferred))
    near = _between_classes(ends)
    near = near.filter(pl.col("na").is_not_null() & pl.col("nb").is_not_null()).select(
        a="na", b="nb", similarity="similarity"
    )
    gone = resolution.resolve(np.arange(len(preferred)), near, threshold, classes)
    named = {
        "row_id": preferred.gather(gone["row"]),
        "twin": preferred.gather(gone["twin"]),
        "similarity": gone["similarity"],
    }
    return pl.DataFrame(named).cast(RESOLVED_SCHEMA)  # type: ignore[arg-type]


def _classes(same: pl.DataFrame, n: int) -> np.ndarray:
    """(n,) the first row of the same text among the rows at hand; the text's own first row may not be among them."""
    classes = np.arange(n)
    members = pl.concat([same.select("a", n="nb"), same.select("a", n="na")]).drop_nulls("n").unique()
    for row, lowest in members.with_columns(least=pl.col("n").min().over("a")).select("n", "least").iter_rows():
        classes[row] = lowest
    return classes


def _between_classes(ends: pl.DataFrame) -> pl.DataFrame:
    """Near pairs, with a row that stands for a text but is not at hand replaced by one of the same text that is."""
    stand_in = (
        ends.filter((pl.col("kind") == SAME_TEXT) & pl.col("nb").is_not_null())
        .group_by("a")
        .agg(pl.col("nb").min().alias("other"))
    )
    near = ends.filter(pl.col("kind") == NEAR)
    for side in ("a", "b"):
        near = (
            near.join(stand_in.rename({"a": side}), on=side, how="left")
            .with_columns(pl.coalesce(f"n{side}", "other").alias(f"n{side}"))
            .drop("other")
        )
    return near
