"""What every clustering has and gives back, as plain frozen records, and how labels are numbered and held to centres.

Here belongs what clusterings beside k-means have in common, so that each can become a table of the same columns. How
they cluster stands in ``clusterings.py`` and ``density.py`` (rows as vectors) and ``topics.py`` (rows as words).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from methods.numerics.similarity import blocks


@dataclass(frozen=True)
class Clustering:
    """The pool as groups, in the order of its rows."""

    labels: np.ndarray
    """(n,) int64: the cluster of each row, counted from 0; -1 where a row belongs to none (noise, or nothing to go
    by)."""
    strength: np.ndarray
    """(n,) float64: how surely a row belongs to its cluster, a membership or a cosine to the centre; NaN for none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was decided on the way (a radius, a number of clusters), and what was approximated."""


@dataclass(frozen=True)
class ClusteringMethod:
    """A way to cluster: ``fit(data, seed=0, **params) -> Clustering``."""

    id: str
    """The name of its table, ``clustered/<id>``."""
    title: str
    equation: str
    """In plain text."""
    paper: str
    """Authors, year, arXiv id where there is one."""
    meaning: str
    """What the groups are, for a user who does not know the paper: one or two sentences."""
    needs: Literal["vectors", "texts"]
    """What ``data`` is: an (n, d) float32 array of rows of unit length, NaN where a row has none; or a `pl.Series` of
    n texts."""
    fit: Callable[..., Clustering] = field(kw_only=True)
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameter names and defaults; these are keyword arguments of ``fit``, ``seed`` among them."""
    version: str = "1"
    """Raised when the labels change."""


def numbered(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels counted from 0 in the order of their first row, and how many there are; -1 stays."""
    present, first, place = np.unique(labels, return_index=True, return_inverse=True)
    names = np.full(len(present), -1, dtype=np.int64)
    real = np.flatnonzero(present >= 0)
    names[real[np.argsort(first[real])]] = np.arange(len(real))
    return names[place.reshape(-1)] if len(labels) else labels, len(real)


def to_centre(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cosine of each row to the normalised mean of its cluster; NaN where it has none, or where the mean is nought."""
    strength = np.full(len(labels), np.nan)
    rows = np.flatnonzero(labels >= 0)
    sums = np.zeros((int(labels.max(initial=-1)) + 1, vectors.shape[1]))
    for part in blocks(len(rows)):
        add_rows(sums, vectors[rows[part]], labels[rows[part]])
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    centres = np.divide(sums, length, out=np.full_like(sums, np.nan), where=length > 1e-9)
    for part in blocks(len(rows)):
        here = rows[part]
        strength[here] = np.einsum("ij,ij->i", vectors[here].astype(np.float64), centres[labels[here]]).clip(-1, 1)
    return strength


def add_rows(sums: np.ndarray, rows: np.ndarray, label: np.ndarray) -> None:
    """Add each row to the sum of its label, in float64."""
    order = np.argsort(label, kind="stable")
    present, first = np.unique(label[order], return_index=True)
    sums[present] += np.add.reduceat(rows[order], first, axis=0, dtype=np.float64)
