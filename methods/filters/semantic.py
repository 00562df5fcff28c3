"""Semantic duplicates from stored pairs: who goes for whom, how many are left at each threshold, and the alarm.

Here belongs carrying the pairs of `methods.numerics.pairs` by row id from pool to pool, and every decision over them.
The pairs are evidence: found once from a threshold upwards, and decided at any higher one without looking at a vector
again. A row goes only for one named row that stays (`methods.filters.resolution`): likeness is never passed on along a
chain.

Source: Abbas et al. 2023 (arXiv 2303.09540) for dropping rows by the cosine of their embeddings; here over the whole
pool instead of inside clusters, by exact pairs, and never for the sake of a row that goes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.filters import resolution
from methods.numerics.similarity import usable_rows
from methods.selection import twins

THRESHOLD = 0.85
"""Pairs are kept from this cosine upwards."""
SEMANTIC, SAME_VECTOR = "semantic", "same_vector"
PAIRS_SCHEMA = {"a": pl.String, "b": pl.String, "similarity": pl.Float64, "kind": pl.String, "cut": pl.Boolean}
CURVE = {"threshold": pl.Float64, "left": pl.Int64, "dropped": pl.Int64, "share_left": pl.Float64}
ALARMS = {"source": pl.String, "twin": pl.String, "rows": pl.Int64, "share": pl.Float64}
_KINDS = {SEMANTIC: twins.NEAR, SAME_VECTOR: twins.SAME_TEXT}


@dataclass(frozen=True)
class Found:
    """The pairs of a pool, and what finding them cost."""

    pairs: pl.DataFrame
    """`PAIRS_SCHEMA`: ``a`` stands before ``b`` in the pool. ``same_vector``: ``b`` has the vector of ``a``, and all
    its other pairs are those of ``a``. ``cut``: ``b`` has more earlier twins than are listed."""
    compared: pl.Series
    """The rows that have a vector: between any two of them the pair is known."""
    searched: int
    """Vectors that were compared with all others."""


@dataclass(frozen=True)
class Decision:
    """Which rows go at a threshold, and for whom."""

    threshold: float | None
    """None: nothing goes, not even rows of identical vectors."""
    dropped: pl.DataFrame
    """``row_id``, ``twin`` (the row that stays), ``similarity``."""
    left: int
    unsure: pl.Series
    """Rows that stay though not all of their earlier twins are listed: one of those left out might stay as well."""
    reason: str


def find_pairs(
    row_ids: pl.Series,
    vectors: np.ndarray,
    threshold: float = THRESHOLD,
    before: Found | None = None,
    most: int | None = None,
) -> Found:
    """All pairs of a pool with a cosine of at least ``threshold``, only new rows being compared with all.

    Parameters: ``row_ids`` (unique) and ``vectors`` (unit length, NaN where a row has none) in the pool's order;
    ``before``: what this found for an earlier pool with the same encoder, threshold and ``most``; ``most`` earlier
    twins are listed for a row (None: 128). The result is the same with ``before`` and without: rows whose lists had
    been cut are compared again.
    """
    from methods.numerics import pairs as search

    if len(row_ids) != len(vectors):
        raise ValueError(f"{len(row_ids)} row ids do not fit {len(vectors)} vectors")
    if row_ids.n_unique() != len(row_ids):
        raise ValueError("row ids must be unique in a pool: keep one row for each row_id before searching")
    ids = row_ids.cast(pl.String)
    most = search.MOST if most is None else most
    if before is None:
        found = search.all_pairs(vectors, threshold, most)
    else:
        stored, settled = _carried(before, ids)
        found = search.all_pairs(vectors, threshold, most, stored, settled)
    table = pl.DataFrame(
        {
            "a": ids.gather(found.a),
            "b": ids.gather(found.b),
            "similarity": found.similarity,
            "kind": pl.Series(np.where(found.same, SAME_VECTOR, SEMANTIC), dtype=pl.String),
            "cut": found.cut[found.b],
        },
        schema=PAIRS_SCHEMA,
    )
    return Found(table, ids.gather(usable_rows(vectors)), found.compared)


def _carried(before: Found, ids: pl.Series) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Earlier pairs by the rows' numbers now, and the rows among which they are all there are.

    Where the first row of a vector has gone, another row of that vector stands in for it.
    """
    number = pl.DataFrame({"id": ids, "n": np.arange(len(ids), dtype=np.int64)})
    same = before.pairs.filter(pl.col("kind") == SAME_VECTOR)
    near = before.pairs.filter(pl.col("kind") == SEMANTIC)
    stand_in = same.join(number, left_on="b", right_on="id").group_by("a").agg(pl.col("n").min()).rename({"a": "id"})
    places = pl.concat([number, stand_in.join(number, on="id", how="anti")])
    ends = near.join(places.rename({"id": "a", "n": "na"}), on="a").join(places.rename({"id": "b", "n": "nb"}), on="b")
    stored = (ends["na"].to_numpy(), ends["nb"].to_numpy(), ends["similarity"].to_numpy())
    cut = near.filter("cut").select(id=pl.col("b")).unique()
    cut = pl.concat([cut, same.join(cut, left_on="a", right_on="id", how="semi").select(id="b")])
    known = before.compared.cast(pl.String).to_frame("id").join(cut, on="id", how="anti")
    settled = np.zeros(len(ids), dtype=bool)
    settled[number.join(known, on="id", how="semi")["n"].to_numpy()] = True
    return stored, settled


def as_twins(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs as `twins.resolve` reads them: identical vectors as rows of the same text, the others as near ones."""
    return pairs.select("a", "b", "similarity", pl.col("kind").replace_strict(_KINDS, return_dtype=pl.String))


def drop_at(preferred: pl.Series, pairs: pl.DataFrame, threshold: float) -> Decision:
    """Who goes at a threshold: a row goes if and only if a row preferred to it stays and has a cosine of at least it.

    Equation: in order of preference, drop x_i iff max_{j kept before i} cos(x_i, x_j) >= threshold; its twin is that
    j (ties: the one kept first). Rows of identical vectors are one row, with similarity 1.

    Parameters: ``preferred``, unique row ids, those to keep rather first (of the whole pool or of some of it);
    ``pairs`` as `find_pairs` gives them; ``threshold``, not below the one that the pairs were found with.
    """
    paired = pl.concat([pairs["a"], pairs["b"]]).unique()
    concerned = preferred.cast(pl.String).filter(preferred.cast(pl.String).is_in(paired.implode()))
    gone = twins.resolve(concerned, as_twins(pairs), threshold)
    left = len(preferred) - gone.height
    unsure = pairs.filter("cut").select(pl.col("b").unique()).to_series()
    stay = concerned.filter(~concerned.is_in(gone["row_id"].implode()))
    unsure = stay.filter(stay.is_in(unsure.implode()))
    reason = f"{gone.height:,} of {len(preferred):,} rows go at a cosine of {threshold:.6g}; {left:,} are left"
    if len(unsure):
        reason += f"; {len(unsure):,} of them have more earlier twins than are listed, and may have one that stays"
    return Decision(threshold, gone, left, unsure, reason)


def dedup_to(preferred: pl.Series, pairs: pl.DataFrame, n: int) -> Decision:
    """Who goes so that at least ``n`` rows are left: at a threshold found by bisection among the stored cosines.

    The threshold leaves ``n`` rows or more, and the next lower cosine that is stored leaves fewer. (Who stays is not
    quite monotone in the threshold: where a row that kept others out goes itself, they may come back. So a lower one
    yet may by chance leave ``n`` again.) If every stored pair is dropped and more are left, that is what there is: a
    lower threshold asks for pairs that were not kept. If even rows of identical vectors must stay, nothing goes.
    """
    if n < 0:
        raise ValueError(f"a number of rows to leave cannot be negative, got {n}")
    levels = pairs["similarity"].unique().sort().to_list()
    if not levels or len(preferred) <= n:
        return Decision(None, _none(), len(preferred), _no_ids(), _asked(n, len(preferred), "nothing goes"))
    lowest = drop_at(preferred, pairs, levels[0])
    if lowest.left >= n:
        return _told(lowest, n, "every stored pair is resolved; fewer are left only by pairs of a lower cosine")
    low, high, best = 0, len(levels), None
    while high - low > 1:
        middle = (low + high) // 2
        found = drop_at(preferred, pairs, levels[middle])
        if found.left >= n:
            high, best = middle, found
        else:
            low = middle
    if best is None:
        said = "nothing goes: even rows of the highest cosine are needed"
        return Decision(None, _none(), len(preferred), _no_ids(), _asked(n, len(preferred), said))
    return _told(best, n, f"the next lower cosine, {levels[high - 1]:.6g}, leaves fewer")


def _told(found: Decision, n: int, said: str) -> Decision:
    reason = f"{_asked(n, found.left, said)}; {found.reason}"
    return Decision(found.threshold, found.dropped, found.left, found.unsure, reason)


def _asked(n: int, left: int, said: str) -> str:
    return f"at least {n:,} rows were asked for, and {left:,} are left: {said}"


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema=twins.RESOLVED_SCHEMA)


def _no_ids() -> pl.Series:
    return pl.Series(dtype=pl.String)


def curve(preferred: pl.Series, pairs: pl.DataFrame, thresholds: Sequence[float]) -> pl.DataFrame:
    """Rows left by threshold: ``threshold``, ``left``, ``dropped``, ``share_left``, each as `drop_at` decides."""
    total = len(preferred)
    left = [drop_at(preferred, pairs, threshold).left for threshold in thresholds]
    rows = [(t, kept, total - kept, kept / max(total, 1)) for t, kept in zip(thresholds, left, strict=True)]
    return pl.DataFrame(rows, schema=CURVE, orient="row")


def steps(threshold: float = THRESHOLD, step: float = 0.01) -> list[float]:
    """From the threshold up to 1, by whole hundredths."""
    above = np.arange(np.floor(threshold / step + 1e-9) + 1, round(1 / step) + 1) * step
    return [threshold, *(round(float(at), 6) for at in above)]


def alarms(rows: pl.DataFrame, dropped: pl.DataFrame, most_share: float = 0.1, least_rows: int = 10) -> pl.DataFrame:
    """Rows that stay and stand for too much of a source: ``source``, ``twin``, ``rows`` that go for it, ``share``.

    ``rows``: ``row_id`` (unique) and ``source``; ``dropped``: of a `Decision`. See `resolution.cluster_alarm`.
    """
    number = rows.select(pl.col("row_id").cast(pl.String)).with_row_index("n").with_columns(pl.col("n").cast(pl.Int64))
    numbered = dropped.join(number.rename({"n": "row"}), on="row_id").join(
        number.rename({"row_id": "twin", "n": "kept"}), on="twin"
    )
    found = resolution.cluster_alarm(
        rows["source"], numbered.select("row", twin="kept", similarity="similarity"), most_share, least_rows
    )
    return found.with_columns(twin=number["row_id"].gather(found["twin"])).cast(ALARMS)  # type: ignore[arg-type]
