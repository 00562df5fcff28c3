"""Small sets of rows for tests of measures, and encoders that know a few texts.

Here belongs what several such tests share; the tests themselves stand in `methods/test_dqi*.py`.
"""

import math
import zlib

import numpy as np
import polars as pl

from methods.kinds import Subset


def texts(rows, source=None):
    rows = list(rows)
    return pl.DataFrame(
        {
            "source": source or ["a"] * len(rows),
            "prompt": [q for q, _ in rows],
            "response": [r for _, r in rows],
        },
        schema={"source": pl.String, "prompt": pl.String, "response": pl.String},
    )


def subset(rows, source=None, clusters=None, encode=None):
    table = texts(rows, source)
    ids = pl.Series([str(i) for i in range(table.height)], dtype=pl.String)
    return Subset(ids, texts=table, clusters=None if clusters is None else np.array(clusters), encode=encode)


def angle(cosine):
    return np.array([cosine, math.sqrt(1 - cosine * cosine)], dtype=np.float32)


def table_encoder(vectors):
    return lambda asked: np.array([vectors[text] for text in asked], dtype=np.float32)


def hashed(asked):
    """A made-up encoder: the same text always gets the same unit vector, whatever stands beside it."""
    found = np.array([np.random.default_rng(zlib.crc32(t.encode())).normal(size=6) + 0.7 for t in asked])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
