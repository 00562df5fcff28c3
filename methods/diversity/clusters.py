"""What a fitted clustering tells a person: how many clusters to ask for, and what each of them is about.

Here belongs the reading of clusters. Fitting them stands in ``numerics/kmeans.py``; methods that measure or choose by
clusters (inertia, ICD, quotas, ClusterClip) stand with the measures and the selectors.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.numerics.similarity import blocks

CLUSTERS_SCHEMA = pl.Schema(
    {
        "cluster": pl.Int64(),
        "size": pl.Int64(),
        "mean_similarity": pl.Float64(),
        "top_terms": pl.List(pl.String()),
        "exemplars": pl.List(pl.String()),
    }
)
MOST_CLUSTERS = 2000
TEXT_BLOCK = 4096
LOOK_AT = 2000
"""Characters of a text that are read for terms: what a row is about is said at its beginning."""

# Scripts written without spaces between words: Han, kana, Thai, Lao, Khmer, Myanmar.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = rf"[\p{{L}}\p{{M}}\p{{N}}_--{_UNSPACED}](?:[\p{{L}}\p{{M}}\p{{N}}_'\u2019--{_UNSPACED}])+"
_RUN = rf"[{_UNSPACED}]{{2,}}"


def default_k(n: int, most: int = MOST_CLUSTERS) -> int:
    """The number of clusters to ask for: the square root of the number of rows, at least 1 and at most ``most``."""
    return max(1, min(most, round(float(n) ** 0.5)))


def describe_clusters(
    row_ids: pl.Series,
    labels: np.ndarray,
    similarity: np.ndarray,
    texts: pl.Series,
    n_terms: int = 8,
    n_exemplars: int = 3,
) -> pl.DataFrame:
    """One line a cluster: its size, how tight it is, its telling terms and its most typical rows.

    A term is a word of at least two characters, lower-cased; in scripts without spaces it is a pair of neighbouring
    characters. Terms are weighed by a class TF-IDF over rows: p_c ln(p_c / p), where p_c is the share of the
    cluster's rows that hold the term and p the share of all rows. It differs from Grootendorst's (2022,
    arXiv 2203.05794) tf_c ln(1 + A / f) in that a term as frequent in the cluster as everywhere weighs nothing
    whatever the number of clusters, and that a long row counts a term once. Terms that the cluster does not favour
    are left out; only where none is favoured (a single cluster) the most frequent ones stand for it. Ties go to the
    more frequent term in the pool, then to the alphabet.

    Parameters
    ----------
    row_ids, texts : n ids and n texts, in the same order; the first `LOOK_AT` characters of each text are read.
    labels : (n,) int64; rows with a negative label belong to no cluster and are left out.
    similarity : (n,) cosine of each row to its centroid.
    n_terms, n_exemplars : how many of each at most.

    Returns
    -------
    `CLUSTERS_SCHEMA`, ascending by cluster. ``exemplars`` are the rows nearest to the centroid, nearest first, ties
    by lowest index.
    """
    rows = pl.DataFrame(
        {
            "row_id": row_ids.cast(pl.String),
            "cluster": np.asarray(labels, dtype=np.int64),
            "similarity": np.asarray(similarity, dtype=np.float64),
            "text": texts.cast(pl.String),
        }
    ).filter(pl.col("cluster") >= 0)
    if rows.is_empty():
        return CLUSTERS_SCHEMA.to_frame()
    sizes = (
        rows.with_row_index("place")
        .sort(["similarity", "place"], descending=[True, False], nulls_last=True)
        .group_by("cluster", maintain_order=True)
        .agg(
            size=pl.len().cast(pl.Int64),
            mean_similarity=pl.col("similarity").mean(),
            exemplars=pl.col("row_id").head(n_exemplars),
        )
    )
    terms = _top_terms(_term_counts(rows), sizes.select("cluster", "size"), n_terms)
    return (
        sizes.join(terms, on="cluster", how="left")
        .with_columns(pl.coalesce("top_terms", pl.lit([]).cast(pl.List(pl.String))))
        .select(CLUSTERS_SCHEMA.names())
        .sort("cluster")
        .cast(CLUSTERS_SCHEMA)
    )


def terms_of(texts: pl.Series) -> pl.Series:
    """The distinct terms of each text, as List(String): words, and character pairs of scripts without spaces."""
    lowered = pl.col("text").fill_null("").str.slice(0, LOOK_AT).str.to_lowercase()
    runs = lowered.str.extract_all(_RUN)
    odd = runs.list.eval(pl.element().str.slice(1))
    return (
        pl.DataFrame({"text": texts})
        .select(
            terms=pl.concat_list(
                lowered.str.extract_all(_WORD).list.filter(pl.element().str.contains(r"\D")),
                _pairs(runs),
                _pairs(odd),
            ).list.unique(maintain_order=True)
        )
        .to_series()
    )


def _pairs(runs: pl.Expr) -> pl.Expr:
    """The character pairs at even places of each run; joined by a space, no pair reaches over two runs."""
    return runs.list.join(" ").str.extract_all(rf"[{_UNSPACED}][{_UNSPACED}]")


def _term_counts(rows: pl.DataFrame) -> pl.DataFrame:
    """``cluster``, ``term``, ``rows``: in how many rows of each cluster a term stands. Works in blocks of texts."""
    counted = []
    for part in blocks(rows.height, TEXT_BLOCK):
        piece = rows[part]
        counted.append(
            pl.DataFrame({"cluster": piece["cluster"], "term": terms_of(piece["text"])})
            .explode("term")
            .drop_nulls("term")
            .group_by("cluster", "term")
            .agg(rows=pl.len().cast(pl.Int64))
        )
    return pl.concat(counted).group_by("cluster", "term").agg(pl.col("rows").sum())


def _top_terms(counts: pl.DataFrame, sizes: pl.DataFrame, n_terms: int) -> pl.DataFrame:
    everywhere = int(sizes["size"].sum())
    inside = pl.col("rows") / pl.col("size")
    favour = inside / (pl.col("total") / everywhere)
    weighed = (
        counts.join(sizes, on="cluster")
        .with_columns(total=pl.col("rows").sum().over("term"))
        .with_columns(weight=(inside * favour.log()).round(12))
        .with_columns(favoured=pl.col("weight") > 0)
        .filter(pl.col("favoured") | ~pl.col("favoured").any().over("cluster"))
    )
    return (
        weighed.sort(["cluster", "weight", "total", "term"], descending=[False, True, True, False])
        .group_by("cluster", maintain_order=True)
        .agg(top_terms=pl.col("term").head(n_terms))
    )
