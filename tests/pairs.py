"""Pairs of rows for tests of duplicates: those that are worth comparing, and all with their exact similarity.

Here belongs putting the pieces of `methods.filters.duplicates` together in another way than the search does.
"""

import numpy as np
import polars as pl

from methods.filters import duplicates as D
from methods.filters.shingles import shingles, words


def candidate_pairs(signature: np.ndarray, threshold: float, neighbours: int | None = None) -> np.ndarray:
    """Pairs of rows (a < b) that the search would compare, (m, 2) int64 in order, each once."""
    known, (bands, width) = np.ones(len(signature), bool), D.banding(threshold, signature.shape[1])
    met = D._meetings(signature, D._buckets(signature, known, bands, width), threshold, neighbours)
    found = np.concatenate([np.zeros((0, 2), np.int64), *met])[:, ::-1]
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def compared(pairs: np.ndarray, texts: pl.Series, threshold: float, n_words: int = D.N_WORDS) -> pl.DataFrame:
    """The pairs (`D.EDGES`) whose exact similarity reaches the threshold."""
    similarity = D.jaccard(shingles(words(texts), n_words, D.N_CHARS), pairs)
    kept = similarity >= threshold
    columns = {"a": pairs[kept, 0], "b": pairs[kept, 1], "similarity": similarity[kept]}
    return pl.DataFrame(columns, schema=D.EDGES)
