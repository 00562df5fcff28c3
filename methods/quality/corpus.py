"""How usual the words of a text are in the pool it comes from (survey 3.1): quality by a model of the pool's own words.

Here belong indicators that first count the words of the whole pool and then score each row by the counts. What looks at
one text alone is in ``handcrafted.py``, ``repetition.py`` and ``spelling.py``; a language model's view of a text is in
``model.py``. Two passes over `evidence/text_counts`, both in blocks: memory holds one block and the distinct words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.kinds import Indicator, Pool, statused
from methods.text import FIELDS, status_when_short, words_of

ROWS_AT_A_TIME = 8192
UNSEEN = 0.5
"""The count of a word that the counting pass did not see."""


@dataclass(frozen=True)
class Unigrams:
    """How often each word was counted."""

    words: np.ndarray
    """(V,) uint64 hashes, ascending."""
    counts: np.ndarray
    """(V,) int64."""

    def log_probability(self, words: np.ndarray) -> np.ndarray:
        """ln P(w) = ln(c_w / sum c) of every word; a word that was not counted has c_w = `UNSEEN`."""
        known = np.append(self.words, np.uint64(0))
        place = np.searchsorted(self.words, words)
        seen = (place < len(self.words)) & (known[place] == words)
        count = np.where(seen, np.append(self.counts, 1)[place], UNSEEN)
        return np.log(count) - np.log(max(1, int(self.counts.sum())))


def _blocks(counts: pl.LazyFrame, field: str) -> Iterator[pl.DataFrame]:
    if field not in (*FIELDS, "both"):
        raise ValueError(f"field must be 'response', 'prompt' or 'both', not {field!r}")
    parts = FIELDS if field == "both" else (field,)
    wanted = [f"{part}_{name}" for part in parts for name in ("words", "n_words", "n_visible")]
    return iter(counts.select(wanted).collect_batches(chunk_size=ROWS_AT_A_TIME, maintain_order=True))


def _flat(block: pl.DataFrame, field: str) -> tuple[np.ndarray, np.ndarray]:
    """The words of a block, row after row, and how many each row has."""
    words = words_of(block, field)
    lengths = words.list.len().fill_null(0).to_numpy().astype(np.int64)
    return words.explode(empty_as_null=False, keep_nulls=False).to_numpy().astype(np.uint64), lengths


def count_unigrams(counts: pl.LazyFrame, field: str = "response") -> Unigrams:
    """Count the words of a field over a whole pool, block after block."""
    words, seen = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    for block in _blocks(counts, field):
        new, times = np.unique(_flat(block, field)[0], return_counts=True)
        together, place = np.unique(np.concatenate((words, new)), return_inverse=True)
        sums = np.zeros(len(together), dtype=np.int64)
        np.add.at(sums, place, np.concatenate((seen, times)))
        words, seen = together, sums
    return Unigrams(words, seen)


def log_probabilities(
    counts: pl.LazyFrame, model: Unigrams, field: str = "response", stat: str = "mean"
) -> pl.DataFrame:
    """``value`` and ``status`` of every row under a model that may have been counted elsewhere."""
    if stat not in ("mean", "sum"):
        raise ValueError(f"stat must be 'mean' or 'sum', not {stat!r}")
    found = [statused(pl.Series([], dtype=pl.Float64), pl.Series([], dtype=pl.String))]
    for block in _blocks(counts, field):
        words, lengths = _flat(block, field)
        row = np.repeat(np.arange(len(lengths)), lengths)
        value = np.bincount(row, weights=model.log_probability(words), minlength=len(lengths))
        if stat == "mean":
            value = value / np.maximum(lengths, 1)
        found.append(statused(value, block.select(status_when_short(field)).to_series()))
    return pl.concat(found)


def compound_probability_distribution(pool: Pool, field: str = "response", stat: str = "mean") -> pl.DataFrame:
    """How probable the row's words are, drawn one by one from all the words of the pool.

    Equation: sum_j ln P(w_j) (the compound probability), or its mean over the words; P(w) = c_w / sum c over the pool.
    Corpus "a a b", text "a b": sum -1.50408, mean -.75204.

    Direction: band. The most probable texts say only what all say; the least probable are rare terms, other languages
    and noise. Keep the middle (survey Eq. 5).

    Parameters: `field` is `response`, `prompt` or `both`: of the words counted and of the row's. `stat` is `mean`
    (comparable between texts of any length) or `sum`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words` (signs only).

    Source: survey 3.1, which gives only the name; the formula is ours.

    Departures: the row is part of the corpus that it is judged by. A word that was not counted has a count of .5, which
    can happen only where the counts come from another pool.
    """
    if pool.counts is None:
        raise ValueError("this indicator reads text counts, and this pool has none")
    return log_probabilities(pool.counts, count_unigrams(pool.counts, field), field, stat)


INDICATORS = (
    Indicator(
        id="compound_probability_distribution",
        title="Compound probability of the words",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"\frac{1}{n} \sum_j \ln P(w_j), P(w) = c_w / \sum c",
        paper="Survey 3.1 (named; formula ours)",
        meaning="How usual the words of the text are in this pool. The highest values are commonplaces, the lowest "
        "rare terms, other languages and noise; take the middle.",
        needs=("evidence/text_counts",),
        params={"field": "response", "stat": "mean"},
        direction="band",
        scope="pool",
        compute=compound_probability_distribution,
    ),
)
