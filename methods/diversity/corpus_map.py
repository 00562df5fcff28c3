"""The pool as a map: every row as a point of the plane, so that groups and what was chosen can be seen.

Here belong the layouts and the choice of the points that a plot can carry. Drawing them does not belong here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from methods.numerics.projection import principal

Layout = Literal["pca", "tsne"]
MOST_TSNE = 5_000
"""Rows up to which t-SNE is offered: its time grows faster than the pool."""


def corpus_map(
    vectors: np.ndarray, layout: Layout = "pca", seed: int = 0, perplexity: float = 30.0, iterations: int = 1000
) -> np.ndarray:
    """A point of the plane for every row.

    Equation: `pca`: (x - mean) projected on the two directions of greatest variance. `tsne`: points y that minimise
    KL(P || Q), P the neighbourhoods of the vectors (a normal kernel of the given perplexity), Q those of the points
    (a Student kernel); started from the first two components.

    Parameters: `layout` pca is the default: exact and linear, so distances mean the same everywhere and rows that come
    later could be placed in the same map; the sign of an axis is set so that its largest loading is positive. Nothing
    is drawn, and the map is the same on every run (last bits may depend on threads). `tsne` keeps neighbours together,
    and shows groups where the two directions of PCA overlay them; distances between groups then mean nothing. It goes
    by ``seed``, and only up to 5,000 rows: above, and below 4 rows, the map is that of PCA (see `layout_of`).
    `perplexity` (30, at most a third of the other rows) and `iterations` are those of t-SNE.

    Returns (n, 2) float32; a row of NaN where a row has no vector.

    Source: Pearson 1901; van der Maaten and Hinton 2008; van der Maaten 2014 (Barnes-Hut). t-SNE as in scikit-learn.
    """
    vectors = np.asarray(vectors)
    fine = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    points = np.full((len(vectors), 2), np.nan, dtype=np.float32)
    if not len(fine):
        return points
    rows = vectors[fine]
    if layout_of(len(fine), layout) == "pca":
        points[fine] = principal(rows, 2)
        return points
    from sklearn.manifold import TSNE

    start = principal(rows, 2)
    spread = start[:, 0].std()
    if spread < 1e-9:  # all rows in one place: t-SNE would only scatter them
        points[fine] = start
        return points
    model = TSNE(
        n_components=2,
        perplexity=max(1.0, min(perplexity, (len(rows) - 1) / 3)),
        init=(start / spread * 1e-4).astype(np.float32),
        learning_rate="auto",
        max_iter=iterations,
        random_state=seed,
        n_jobs=1,
    )
    points[fine] = model.fit_transform(rows.astype(np.float32))
    return points


def layout_of(n: int, layout: Layout) -> Layout:
    """The layout that a map of n rows with a vector has when this one is asked for."""
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    return "tsne" if layout == "tsne" and 4 <= n <= MOST_TSNE else "pca"


def thinned(
    points: np.ndarray, labels: np.ndarray, most: int = 4000, seed: int = 0, keep: np.ndarray | None = None
) -> np.ndarray:
    """The rows that a plot shows where it cannot show all: every cluster in its share, and in it rows by chance.

    Each label (-1 too) gets places by its number of rows, by largest remainder (ties to the lowest label), but at
    least one while there are places, so that small clusters stay on the map.

    Parameters
    ----------
    points : (n, 2); rows with NaN are never shown.
    labels : (n,) int64.
    most : rows to show at most.
    seed : of the rows drawn within a label.
    keep : indices that come before all others (such as the selected rows), drawn from in turn where even they are too
        many.

    Returns
    -------
    Ascending int64 indices.
    """
    if most < 0:
        raise ValueError(f"most must not be negative, got {most}")
    labels = np.asarray(labels)
    rows = np.flatnonzero(np.isfinite(points).all(axis=1)).astype(np.int64)
    rng = np.random.default_rng(seed)
    if keep is None:
        return np.sort(_in_shares(rows, labels, most, rng))
    first = _in_shares(np.intersect1d(rows, keep), labels, most, rng)
    rest = _in_shares(np.setdiff1d(rows, keep), labels, most - len(first), rng)
    return np.sort(np.concatenate([first, rest]))


def _in_shares(rows: np.ndarray, labels: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows) <= most:
        return rows
    present, of, size = np.unique(labels[rows], return_inverse=True, return_counts=True)
    places = np.zeros(len(present), dtype=np.int64)
    places[np.argsort(-size, kind="stable")[:most]] = 1
    free = most - int(places.sum())
    wanted = free * (size - places) / max(1, int((size - places).sum()))
    places += np.floor(wanted + 1e-9).astype(np.int64)
    remainder = np.round(wanted - np.floor(wanted + 1e-9), 9)
    places[np.argsort(-remainder, kind="stable")[: most - int(places.sum())]] += 1
    drawn = [rng.choice(rows[of == i], size=int(n), replace=False) for i, n in enumerate(places) if n]
    return np.concatenate(drawn) if drawn else rows[:0]
