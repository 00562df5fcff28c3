"""Which of several like rows stays: exact classes, the greedy walk over edges, contradictions, and the alarm.

Here belongs every decision over duplicates once the pairs are known (`duplicates` finds them). A row is dropped only
because of one named row that stays: likeness is never passed on along a chain, so a chain of small changes cannot
eat a source.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.filters.duplicates import EDGES, jaccard
from methods.filters.shingles import Ragged, distinct, prompt_of, text_of, words

DROPPED = {"row": pl.Int64, "twin": pl.Int64, "similarity": pl.Float64}
CONTRADICTIONS = {
    "row": pl.Int64, "row_id": pl.String, "twin": pl.Int64, "twin_id": pl.String, "similarity": pl.Float64,
}  # fmt: skip
ALARMS = {"source": pl.String, "twin": pl.Int64, "rows": pl.Int64, "share": pl.Float64}


def text_key(texts: pl.Series) -> pl.Series:
    """What two texts must share to count as the same: Unicode NFKC, lower case, every run of white space one space.

    Punctuation and digits stay, so that ``2 + 2`` and ``2 - 2`` differ.
    """
    folded = texts.fill_null("").str.normalize("NFKC").str.to_lowercase()
    return folded.str.replace_all(r"\s+", " ").str.strip_chars()


def exact_classes(block: pl.DataFrame) -> np.ndarray:
    """(n,) int64: the lowest row index with the same ``row_id`` or the same `text_key`; itself if there is none.

    Rows with one ``row_id`` hold the same messages, so the text alone makes the classes; a ``row_id`` given to two
    texts would be an error of the reader and is joined all the same.
    """
    frame = pl.DataFrame({"id": block["row_id"], "key": text_key(text_of(block))}).with_row_index("i")
    least = pl.col("i").min()
    frame = frame.with_columns(c=least.over("key")).with_columns(c=pl.col("c").min().over("id"))
    return frame.select(pl.col("c").min().over("key")).to_series().cast(pl.Int64).to_numpy()


def resolve(
    order: np.ndarray, edges: pl.DataFrame, threshold: float, classes: np.ndarray | None = None
) -> pl.DataFrame:
    """The rows to drop: ``row``, ``twin`` (the nearest row that stays), ``similarity``, in the order of the walk.

    Rows are walked in ``order``, those to be preferred first. A row is dropped if and only if it has an edge of at
    least ``threshold`` with a row already kept; the most similar of these is its twin (ties: the one kept first). So
    no two rows that stay share an edge, and no row is dropped for the sake of one that is dropped itself.

    ``edges``: ``a``, ``b`` (row indices), ``similarity``, as `duplicates.near_duplicates` returns them; any threshold
    from the one they were made with upwards. ``classes`` (`exact_classes`): rows of one class are one row to the edges,
    which may name any of them, and are each other's duplicates with similarity 1.
    """
    order = np.asarray(order, np.int64)
    n = int(order.max(initial=-1)) + 1 if classes is None else len(classes)
    place = np.arange(n) if classes is None else np.asarray(classes, np.int64)
    starts, others, likeness = _adjacency(edges.filter(pl.col("similarity") >= threshold), place, n)
    holder, rank = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    dropped: list[tuple[int, int, float]] = []
    for step, row in enumerate(order.tolist()):
        group = place[row]
        if holder[group] >= 0:
            dropped.append((row, int(holder[group]), 1.0))
            continue
        near = slice(starts[group], starts[group + 1])
        kept = np.flatnonzero(holder[others[near]] >= 0) if near.stop > near.start else ()
        if len(kept):
            seen, close = others[near][kept], likeness[near][kept]
            best = int(np.lexsort((rank[seen], -close))[0])
            dropped.append((row, int(holder[seen[best]]), float(close[best])))
        else:
            holder[group], rank[group] = row, step
    return pl.DataFrame(dropped, schema=DROPPED, orient="row")


def contradictions(block: pl.DataFrame, most: float = 0.2, most_rows: int = 100) -> pl.DataFrame:
    """Rows that answer the same prompt clearly differently: ``row``, ``row_id``, ``twin``, ``twin_id``, ``similarity``.

    Prompts are compared by `text_key`, responses by the Jaccard index of their sets of words. A row is named if some
    other response to its prompt has an index of at most ``most``; its twin is the most different one (ties: the
    first). Open questions have many right answers, so this is a finding to show, not a reason to drop. In a group of
    more than ``most_rows`` rows each is compared with the first ``most_rows`` only. Empty responses do not count.
    """
    bag = distinct(words(block["response"].cast(pl.String)))
    prompts = text_key(block.select(prompt_of()).to_series())
    frame = pl.DataFrame({"row": pl.Series(np.arange(len(block)), dtype=pl.Int64), "key": prompts})
    frame = frame.filter(pl.Series(bag.lengths > 0))
    groups = frame.filter((pl.len().over("key") > 1) & (pl.col("key") != ""))
    heads = groups.with_columns(at=pl.int_range(pl.len()).over("key")).filter(pl.col("at") < most_rows)
    pairs = groups.join(heads.select("key", twin="row"), on="key").filter(pl.col("row") != pl.col("twin"))
    similarity = jaccard(Ragged(bag.values, bag.offsets), pairs.select("row", "twin").to_numpy())
    found = pairs.select("row", "twin").with_columns(similarity=pl.Series(similarity, dtype=pl.Float64))
    found = found.filter(pl.col("similarity") <= most).sort("row", "similarity", "twin")
    found = found.unique("row", keep="first").sort("row")
    ids, columns = block["row_id"], {name: found[name] for name in ("row", "twin", "similarity")}
    named = {"row_id": ids.gather(found["row"]), "twin_id": ids.gather(found["twin"]), **columns}
    return pl.DataFrame({name: named[name] for name in CONTRADICTIONS}, schema=CONTRADICTIONS)


def cluster_alarm(
    sources: pl.Series, dropped: pl.DataFrame, most_share: float = 0.1, least_rows: int = 10
) -> pl.DataFrame:
    """The clusters that eat too much of a source: ``source``, ``twin`` (the row kept), ``rows`` dropped, ``share``.

    A cluster is a row that stays and all that were dropped for it. One that takes more than ``most_share`` of a
    source's rows, and at least ``least_rows`` of them, is more likely a fault (a template, a header, a threshold
    too low) than so many true repeats, and a person should look before the rows go.
    """
    sizes = pl.DataFrame({"source": sources}).group_by("source").len("n")
    frame = dropped.select("twin", source=sources.gather(dropped["row"]))
    eaten = frame.group_by("source", "twin").len("rows").join(sizes, on="source")
    eaten = eaten.with_columns(share=pl.col("rows") / pl.col("n"))
    eaten = eaten.filter((pl.col("share") > most_share) & (pl.col("rows") >= least_rows))
    return eaten.sort("share", "source", "twin", descending=[True, False, False]).select(
        pl.col(name).cast(kind) for name, kind in ALARMS.items()
    )


def _adjacency(edges: pl.DataFrame, place: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbours of each class: entries ``starts[c]:starts[c + 1]`` of the other class and the similarity."""
    a, b = (place[edges[side].cast(EDGES[side]).to_numpy()] for side in ("a", "b"))
    likeness = edges["similarity"].to_numpy()
    outer = a != b
    source = np.concatenate([a[outer], b[outer]])
    order = np.argsort(source, kind="stable")
    starts = np.searchsorted(source[order], np.arange(n + 1))
    return starts, np.concatenate([b[outer], a[outer]])[order], np.concatenate([likeness[outer]] * 2)[order]
