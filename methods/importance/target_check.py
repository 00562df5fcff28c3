"""Whether a target stands in the pool already: the same prompt, most of its words, or nearly its vector.

Here belongs the check of a target's rows against the pool's, before rows like them are looked for: choosing rows that
*are* the target teaches the test. The shared n-grams are those of `methods.filters.contamination`; taking leaked rows
out of the pool is a filter's business.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from methods.filters.contamination import LEAST_OVERLAP, leaks, target_ngrams
from methods.kinds import Target
from methods.numerics.similarity import QUANTUM, TILE, blocks, on_grid, units, usable_rows

LEAST_COSINE = 0.95
BLOCK = 2048
SCHEMA = pl.Schema(
    {"target_row": pl.Int64(), "how": pl.String(), "row_id": pl.String(), "value": pl.Float64(), "rows": pl.Int64()}
)
"""``target_row``: number from 0. ``how``: ``exact``, ``overlap`` or ``cosine``. ``row_id``: a row of the pool that
shows it. ``value``: 1, the share of shared words, or the cosine. ``rows``: rows of the pool that show it, null where
they were not counted."""


def target_in_pool(
    row_ids: pl.Series,
    texts: pl.DataFrame,
    target: Target,
    vectors: np.ndarray | None = None,
    least_overlap: float = LEAST_OVERLAP,
    least_cosine: float = LEAST_COSINE,
    block: int = BLOCK,
) -> pl.DataFrame:
    """The rows of a target that stand in the pool, one line for each way in which one does (`SCHEMA`).

    ``exact``: a row of the pool has the same prompt, but for case and white space. ``overlap``: the words that a row
    of the pool shares with the target's prompt in n-grams of 13 (8 for shorter ones; still shorter ones are matched
    whole) are at least ``least_overlap`` of it. ``cosine``: the vectors of a row of the pool and of the target's have
    a cosine of ``least_cosine`` or more; not looked for where either has no vectors. A target's row without a prompt
    goes by its response, which ``exact`` compares with responses. Lines are ordered by the target's row, then
    ``exact``, ``overlap``, ``cosine``.

    Parameters
    ----------
    row_ids, texts : the pool; ``texts`` has ``prompt`` and ``response``, in the same order.
    target : the rows to look for.
    vectors : (n, d) float32, rows of unit length, NaN where a row has none.
    block : rows of the pool that are looked at together; never changes the result.
    """
    if len(row_ids) != len(texts) or (vectors is not None and len(vectors) != len(texts)):
        raise ValueError("row ids, texts and vectors of a pool must be of one length")
    prompt, response = pl.col("prompt").fill_null(""), pl.col("response").fill_null("")
    bare = prompt.str.strip_chars() == ""
    goals = target.texts.select(
        side=pl.when(bare).then(pl.lit("response")).otherwise(pl.lit("prompt")),
        text=pl.when(bare).then(response).otherwise(prompt).cast(pl.String),
    )
    rows = texts.select(prompt=prompt.cast(pl.String), response=response.cast(pl.String))
    rows = rows.with_columns(row_id=row_ids.cast(pl.String))
    found = [_exact(rows, goals), _overlap(rows, goals["text"], least_overlap, block)]
    if vectors is not None and target.vectors is not None:
        found.append(_cosine(row_ids, vectors, target.vectors, least_cosine, block))
    way = pl.col("how").replace_strict({"exact": 0, "overlap": 1, "cosine": 2}, return_dtype=pl.Int64)
    return pl.concat(found).sort("target_row", way)


def _exact(rows: pl.DataFrame, goals: pl.DataFrame) -> pl.DataFrame:
    """Rows with the target's prompt as theirs, or with its response where it has no prompt; the first of them named."""

    def plain(text: pl.Expr) -> pl.Expr:
        return text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" ")

    numbered = rows.with_row_index("at")
    sides = [
        numbered.select("at", "row_id", side=pl.lit(side), text=plain(pl.col(side))) for side in ("prompt", "response")
    ]
    wanted = goals.with_row_index("target_row").with_columns(plain(pl.col("text"))).filter(pl.col("text") != "")
    both = wanted.join(pl.concat(sides), on=("side", "text"), how="inner").sort("target_row", "at")
    best = both.group_by("target_row", maintain_order=True).agg(pl.col("row_id").first(), rows=pl.len())
    return best.with_columns(how=pl.lit("exact"), value=pl.lit(1.0)).select(SCHEMA.names()).cast(SCHEMA)


def _overlap(rows: pl.DataFrame, wanted: pl.Series, least: float, block: int) -> pl.DataFrame:
    """A row for each of the target's rows that shares enough n-grams: of the rows that it fits best, the best.

    `leaks` names one item a row, the best; an item that stood behind another in every row is found in a next round,
    when those found before are no longer looked for.
    """
    goals = target_ngrams(wanted)
    asked = rows.select("row_id", "response", instruction="prompt", input=pl.lit(""))
    found: dict[int, tuple[str, float]] = {}
    left = np.arange(len(rows))
    while len(left):
        flagged: list[np.ndarray] = []
        fresh: dict[int, tuple[str, float]] = {}
        for part in blocks(len(left), block):
            here = leaks(asked[left[part]], goals, least)
            hits = here.with_columns(at=pl.Series(left[part])).filter("leaked")
            flagged.append(hits["at"].to_numpy())
            for row_id, name, overlap in hits.select("row_id", "target_id", "overlap").iter_rows():
                item = int(name)
                if item not in found and overlap > fresh.get(item, ("", 0.0))[1]:
                    fresh[item] = (row_id, overlap)
        found |= fresh
        left = np.concatenate(flagged) if fresh else left[:0]
        items = np.array(sorted(found), dtype=np.int64)
        keep = ~np.isin(goals.item, items)
        whole = goals.whole.copy()
        whole[items] = 0  # no row's words hash to this one, so that it is not found again
        goals = replace(goals, whole=whole, **{n: getattr(goals, n)[keep] for n in ("grams", "item", "place", "size")})
    lines = [(item, "overlap", *found[item], None) for item in sorted(found)]
    return pl.DataFrame(lines, schema=SCHEMA, orient="row")


def _cosine(row_ids: pl.Series, vectors: np.ndarray, target: np.ndarray, least: float, block: int) -> pl.DataFrame:
    """The nearest row of each of the target's rows, where it is near enough; the first of equals."""
    usable = usable_rows(vectors)
    best, first, many = np.full(len(target), -np.inf), np.zeros(len(target), np.int64), np.zeros(len(target), np.int64)
    limit = np.rint(least / QUANTUM)
    for tile in blocks(len(target), TILE):
        goal = on_grid(target[tile])
        for part in blocks(len(usable), block):
            level = units(goal, on_grid(vectors[usable[part]]))
            many[tile] += (level >= limit).sum(axis=1)
            winner = level.argmax(axis=1)
            value = level[np.arange(len(goal)), winner]
            better = np.flatnonzero(value > best[tile])
            best[tile.start + better] = value[better]
            first[tile.start + better] = usable[part][winner[better]]
    near = np.flatnonzero(best >= limit)
    columns = {
        "target_row": near, "how": ["cosine"] * len(near), "row_id": row_ids.cast(pl.String).gather(first[near]),
        "value": best[near] * QUANTUM, "rows": many[near],
    }  # fmt: skip
    return pl.DataFrame(columns, schema=SCHEMA)
