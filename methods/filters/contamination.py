"""Test items that leaked into a pool: n-grams of the items, and the rows that hold them.

Here belongs the comparison of rows with a test set that must stay unseen. Likeness among the pool's own rows is that
of `duplicates`.

The measure is the share of an item's words that stand in the row inside shared n-grams of 13 words (Brown et al.
2020, arXiv 2005.14165, for the length; the share, which keeps one common phrase from condemning a row, follows the
70 % rule of Chowdhery et al. 2022, arXiv 2204.02311).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from methods.filters.shingles import Ragged, Words, ngrams, offsets_of, prompt_of, roll, word_list, words

N = 13
N_SHORT = 8
N_CHARS = 2
"""In scripts without spaces an n-gram has this many times as many characters."""
MAX_TARGETS = 3
LEAST_OVERLAP = 0.7
LEAKS = {
    "row_id": pl.String, "leaked": pl.Boolean, "target_id": pl.String, "overlap": pl.Float64, "span": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """The test items as hashes, ready to be looked up. Made by `target_ngrams`."""

    ids: tuple[str, ...]
    lengths: np.ndarray
    """(items,) int64: words of each item."""
    spaced: np.ndarray
    """(items,) bool."""
    sizes: np.ndarray
    """(items,) int64: n of its n-grams, 0 for an item that is matched only whole."""
    grams: np.ndarray
    """(g,) uint64, sorted: hashes of n-grams. One n-gram may stand in several items."""
    item: np.ndarray
    """(g,) int64: the item of each."""
    place: np.ndarray
    """(g,) int64: the word of the item at which it begins."""
    size: np.ndarray
    """(g,) int64: its n."""
    whole: np.ndarray
    """(items,) uint64: the hash of all words of each item."""


def target_ngrams(
    texts: Sequence[str] | pl.Series,
    ids: Sequence[str] | None = None,
    n: int = N,
    n_short: int = N_SHORT,
    max_targets: int = MAX_TARGETS,
) -> Targets:
    """The n-grams of test items: of ``n`` words, or ``n_short`` for items with fewer than ``n``.

    Items with fewer than ``n_short`` words are matched whole. In scripts without spaces every character is a word
    and all lengths are doubled. An n-gram of more than ``max_targets`` different items is boilerplate (the frame of
    a task, not an item) and not counted; an item left without n-grams is matched whole.
    """
    series = pl.Series(texts, dtype=pl.String)
    names = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(series)))
    if len(names) != len(series):
        raise ValueError(f"{len(names)} ids for {len(series)} test items")
    found = words(series)
    scale = np.where(found.spaced, 1, N_CHARS)
    short = np.where(found.lengths >= n_short * scale, n_short * scale, 0)
    sizes = np.where(found.lengths >= n * scale, n * scale, short)
    cut = ngrams(found, sizes)
    item = cut.rows
    place = np.arange(len(item)) - cut.offsets[:-1][item]
    made = Targets(names, found.lengths, found.spaced, sizes, cut.values, item, place, sizes[item], _whole(found))
    return _only(made, ~_in_many(made, max_targets))


def leaks(block: pl.DataFrame, targets: Targets, least_overlap: float = LEAST_OVERLAP) -> pl.DataFrame:
    """For each row, in order: ``row_id``, ``leaked``, ``target_id``, ``overlap``, ``span``.

    ``overlap`` is the largest share of an item's words that the row's prompt and response hold inside shared
    n-grams (1 for an item matched whole; null if nothing is shared), ``target_id`` that item, ``span`` the longest
    run of shared words, normalised. A row is leaked if the overlap reaches ``least_overlap``. A short item is matched
    whole, and only with a row whose instruction, input or prompt has exactly its words.
    """
    prompt = block.select(prompt_of()).to_series()
    both = prompt + "\n" + block["response"].fill_null("")
    sides = [side.cast(pl.String).fill_null("") for side in (both, prompt, block["instruction"], block["input"])]
    row, item, overlap, first, last = _by_ngrams(words(sides[0]), targets)
    hits = [_hits(row, item, overlap, first, last, side=0)]
    bare = np.setdiff1d(np.arange(len(targets.ids)), targets.item)
    for k in (1, 2, 3) if len(bare) else ():
        row, item = _by_whole(words(sides[k]), targets, bare)
        hits.append(_hits(row, item, np.ones(len(row)), 0 * row, targets.lengths[item], side=k))
    best = pl.concat(hits).sort("row", "overlap", "item", "side", descending=[False, True, False, False])
    best = best.unique("row", keep="first", maintain_order=True)
    shown = [(targets.ids[i], _span(sides[k][r], a, b)) for r, i, _, a, b, k in best.iter_rows()]
    best = best.select("row", "overlap").hstack(
        pl.DataFrame(shown, schema={"target_id": pl.String, "span": pl.String}, orient="row")
    )
    rows = pl.DataFrame({"row_id": block["row_id"], "row": pl.Series(np.arange(len(block)), dtype=pl.Int64)})
    joined = rows.join(best, on="row", how="left", maintain_order="left")
    return joined.with_columns(leaked=(pl.col("overlap") >= least_overlap).fill_null(False)).select(*LEAKS)


def _hits(
    row: np.ndarray, item: np.ndarray, overlap: np.ndarray, first: np.ndarray, last: np.ndarray, side: int
) -> pl.DataFrame:
    """Finds as a frame; ``side``: the text that ``first`` and ``last`` count the words of."""
    columns = {"row": row, "item": item, "overlap": overlap, "first": first, "last": last}
    kinds = {name: pl.Float64 if name == "overlap" else pl.Int64 for name in columns}
    return pl.DataFrame(columns, schema=kinds).with_columns(side=pl.lit(side, pl.Int64))


def _by_ngrams(found: Words, targets: Targets) -> tuple[np.ndarray, ...]:
    """Row, item, overlap and the longest run of shared words (first, last) for each row and item that share any."""
    hits = []
    for size in np.unique(targets.size).tolist():
        mine = np.flatnonzero(targets.size == size)
        cut = ngrams(found, np.full(len(found), size))
        low = np.searchsorted(targets.grams[mine], cut.values, side="left")
        high = np.searchsorted(targets.grams[mine], cut.values, side="right")
        at = np.flatnonzero(high > low)
        many = (high - low)[at]
        gram = mine[np.arange(many.sum()) + np.repeat(low[at] - offsets_of(many)[:-1], many)]
        rows = np.repeat(cut.rows[at], many)
        where = np.repeat(at, many) - cut.offsets[:-1][rows]
        hits.append(np.stack([rows, targets.item[gram], targets.place[gram], where, np.full(len(rows), size)]))
    joined = np.concatenate(hits, axis=1) if hits else np.zeros((5, 0), np.int64)
    joined = joined[:, np.lexsort((joined[3], joined[2], joined[1], joined[0]))]
    out: list[tuple[int, int, float, int, int]] = []
    borders = np.flatnonzero(np.any(np.diff(joined[:2], axis=1) != 0, axis=0)) + 1
    for part in np.split(joined, borders, axis=1) if joined.size else []:
        row, item, size = int(part[0, 0]), int(part[1, 0]), int(part[4, 0])
        covered = np.zeros(int(targets.lengths[item]), bool)
        for place in part[2]:
            covered[place : place + size] = True
        first, last = _longest(part[3], size)
        out.append((row, item, float(covered.mean()), first, last))
    columns = np.array(out, dtype=np.float64).reshape(-1, 5).T
    whole = [columns[k].astype(np.int64) for k in (0, 1, 3, 4)]
    return whole[0], whole[1], columns[2], whole[2], whole[3]


def _longest(starts: np.ndarray, size: int) -> tuple[int, int]:
    """The longest run of words covered by n-grams that begin at ``starts``: first word, one past the last."""
    starts = np.unique(starts)
    breaks = np.flatnonzero(np.diff(starts) > 1)
    begin = starts[np.concatenate([[0], breaks + 1])]
    end = starts[np.concatenate([breaks, [len(starts) - 1]])] + size
    best = int(np.argmax(end - begin))
    return int(begin[best]), int(end[best])


def _by_whole(found: Words, targets: Targets, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and item where all the words of a text are all the words of one of ``items``."""
    order = items[np.argsort(targets.whole[items], kind="stable")]
    keys, mine = targets.whole[order], _whole(found)
    low, high = np.searchsorted(keys, mine, side="left"), np.searchsorted(keys, mine, side="right")
    row = np.flatnonzero((high > low) & (found.lengths > 0))
    return row, order[low[row]]


def _whole(found: Ragged) -> np.ndarray:
    """One hash for all the words of each row."""
    out = np.zeros(len(found), np.uint64)
    for size in np.unique(found.lengths[found.lengths > 0]).tolist():
        rows = np.flatnonzero(found.lengths == size)
        out[rows] = roll(found.take(rows).values, size)[::size]
    return out


def _in_many(targets: Targets, most: int) -> np.ndarray:
    """Which n-grams stand in more than ``most`` different items (items of the same words count once)."""
    _, twin = np.unique(targets.whole, return_inverse=True)
    pairs = np.unique(np.stack([targets.grams, twin[targets.item].astype(np.uint64)]), axis=1)[0]
    counts = np.searchsorted(pairs, targets.grams, side="right") - np.searchsorted(pairs, targets.grams, side="left")
    return counts > most


def _only(targets: Targets, keep: np.ndarray) -> Targets:
    """The targets with some of their n-grams, sorted by hash."""
    order = np.flatnonzero(keep)
    order = order[np.lexsort((targets.place[order], targets.item[order], targets.grams[order]))]
    left = {name: getattr(targets, name)[order] for name in ("grams", "item", "place", "size")}
    return replace(targets, **left)


def _span(text: str, first: int, last: int) -> str:
    """Some words of a text, normalised."""
    return " ".join(word_list(text)[first:last])
