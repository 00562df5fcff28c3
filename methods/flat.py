"""The words of a block of rows as flat arrays, made once for all the methods that read the same block.

Here belong `Flat`, `flat_words`, which makes it from the word hashes of `evidence/text_counts`, and the memory of the
last block. What is computed from the arrays stands in `methods.numerics.words`, what it means with the indicators.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from threading import RLock

import numpy as np
import polars as pl

from methods.text import words_of


@dataclass(frozen=True)
class Flat:
    """The words of n rows one after another, m in all. The arrays are shared: they cannot be written to."""

    codes: np.ndarray
    """(m,) int32: equal words have equal codes, 0..n_types - 1 in order of first appearance in the block."""
    offsets: np.ndarray
    """(n + 1,) int64: row r is ``codes[offsets[r]:offsets[r + 1]]``."""
    lengths: np.ndarray
    """(n,) int64 words of each row."""
    types: np.ndarray
    """(n,) int64 distinct words of each row."""
    previous: np.ndarray
    """(m,) int32: where in its row, counted from 0, the same word stood last before; -1 where it is the first."""
    fingerprints: np.ndarray
    """(n,) uint64: a hash of each row's words in order, the same in every block: seeds the row's random draws."""
    keys: np.ndarray
    """(n_types,) uint64: the hash that stands for each code."""

    @property
    def n_types(self) -> int:
        """Distinct words of the block."""
        return len(self.keys)


class _Last:
    """The last block that was flattened, its field, and what came of it; forgotten with the block itself."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.block: weakref.ref[pl.DataFrame] | None = None
        self.field = ""
        self.flat: Flat | None = None

    def get(self, block: pl.DataFrame, field: str) -> Flat:
        with self.lock:
            held = self.block() if self.block is not None else None
            if held is not block or self.field != field or self.flat is None:
                flat = flatten(words_of(block, field))
                self.block, self.field, self.flat = weakref.ref(block, self.forget), field, flat
            return self.flat

    def forget(self, gone: weakref.ref[pl.DataFrame]) -> None:
        with self.lock:
            if self.block is gone:
                self.block = self.flat = None


_LAST = _Last()


def flat_words(block: pl.DataFrame, field: str) -> Flat:
    """The words of the block's response, prompt or both, made anew only if the last call had another block or field.

    A block is recognised by being the same object: it must not be changed in place between two calls.
    """
    return _LAST.get(block, field)


def flatten(words: pl.Series) -> Flat:
    """The flat arrays of a List(UInt64) column of word hashes. A null row has no words."""
    from methods.numerics.words import code_words

    lengths = words.list.len().fill_null(0).to_numpy().astype(np.int64)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    hashes = np.ascontiguousarray(words.explode(empty_as_null=False, keep_nulls=False).to_numpy(), dtype=np.uint64)
    codes, previous, types, fingerprints, keys = code_words(hashes, offsets)
    flat = Flat(codes, offsets, lengths, types, previous, fingerprints, keys)
    for array in (codes, offsets, lengths, types, previous, fingerprints, keys):
        array.flags.writeable = False
    return flat
