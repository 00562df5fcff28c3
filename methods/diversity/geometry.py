"""Hand-crafted diversity of a row in its pool (survey 4.1): how far it lies from the others.

Here belong the indicators over the pool's vectors and neighbours. What a row's own words say is in
`methods.diversity.handcrafted`; the neighbours themselves are found in `methods.numerics.neighbours`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, Pool, statused
from methods.numerics.similarity import blocks

ROWS_AT_A_TIME = 8192


def has_vector(vectors: np.ndarray) -> np.ndarray:
    """Which rows are finite throughout, looked at in blocks."""
    finite = np.zeros(len(vectors), dtype=bool)
    for part in blocks(len(vectors), ROWS_AT_A_TIME):
        finite[part] = np.isfinite(vectors[part]).all(axis=1)
    return finite


def _neighbour_pairs(pool: Pool, neighbours: pl.DataFrame, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pool indices (row, its neighbour) and the neighbour's rank from 0, for the first ``j`` of every row.

    Ids that the pool does not hold, and the row itself, are passed over.
    """
    place = pl.DataFrame({"id": pool.row_ids.cast(pl.String), "place": np.arange(len(pool.row_ids))}).unique(
        "id", keep="first", maintain_order=True
    )
    pairs = (
        neighbours.select("row_id", "ids")
        .unique("row_id", keep="first", maintain_order=True)
        .explode("ids")
        .join(place.rename({"id": "row_id", "place": "row"}), on="row_id", how="inner", maintain_order="left")
        .join(place.rename({"id": "ids", "place": "other"}), on="ids", how="inner", maintain_order="left")
        .filter(pl.col("row") != pl.col("other"))
        .with_columns(rank=pl.int_range(pl.len()).over("row"))
        .filter(pl.col("rank") < j)
    )
    return pairs["row"].to_numpy(), pairs["other"].to_numpy(), pairs["rank"].to_numpy()


def pair_distances(vectors: np.ndarray, left: np.ndarray, right: np.ndarray, metric: str) -> np.ndarray:
    """Distance of each pair of rows in float64, in blocks: ``euclidean``, or ``cosine`` (1 - dot of unit vectors)."""
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric must be 'euclidean' or 'cosine', not {metric!r}")
    found = np.empty(len(left), dtype=np.float64)
    for part in blocks(len(left), ROWS_AT_A_TIME):
        a, b = vectors[left[part]].astype(np.float64), vectors[right[part]].astype(np.float64)
        if metric == "euclidean":
            found[part] = np.sqrt(np.einsum("ij,ij->i", a - b, a - b))
        else:
            found[part] = np.maximum(1.0 - np.einsum("ij,ij->i", a, b), 0.0)
    return found


def _vectors(pool: Pool, method: str) -> np.ndarray:
    if pool.vectors is None:
        raise ValueError(f"{method} reads the vectors of the pool, and this pool has none")
    return pool.vectors


def _distance(pool: Pool, method: str, j: int, stat: str, metric: str) -> pl.DataFrame:
    """The distance of every row from its ``j``-th neighbour, or the mean of its first ``j``."""
    vectors = _vectors(pool, method)
    if pool.neighbours is None:
        raise ValueError(f"{method} reads the neighbour lists of the pool, and this pool has none")
    if stat not in ("jth", "mean"):
        raise ValueError(f"stat must be 'jth' or 'mean', not {stat!r}")
    if j < 1:
        raise ValueError(f"j must be at least 1, got {j}")
    n = len(pool.row_ids)
    row, other, rank = _neighbour_pairs(pool, pool.neighbours, j)
    enough = np.bincount(row, minlength=n) == j
    if stat == "jth":
        row, other = row[rank == j - 1], other[rank == j - 1]
    total = np.bincount(row, weights=pair_distances(vectors, row, other, metric), minlength=n)
    value = total / (1 if stat == "jth" else j)
    status = np.where(has_vector(vectors), np.where(enough, OK, "too_few_neighbours"), "no_embedding")
    return statused(value, status.astype(object))


def knn_1(pool: Pool, j: int = 1, stat: str = "jth", metric: str = "euclidean") -> pl.DataFrame:
    """Distance of a row from its nearest other row in the pool, in the space of the embedding.

    Equation: d(g(x), g(N_j(x))), N_j the j-th nearest other row (Eq. 26). Points 0, 1, 3, 7 give (1, 1, 2, 4) for
    j = 1 and (3, 2, 3, 6) for j = 2.

    Direction: higher is more unlike the rest. An exact duplicate has 0.

    Parameters: `j` is 1 in the survey, 6 in InstructionMining. `stat` is `jth` (the distance of the j-th) or `mean` (of
    the first j). `metric` is `euclidean` (0 to 2 for unit vectors) or `cosine` (1 - cosine).

    Statuses: `no_embedding`; `too_few_neighbours` where fewer than `j` are known (raise the k of the neighbour lists).

    Source: Dong et al. 2011 (the graph); Cao et al. 2023, InstructionMining (arXiv 2307.06290).

    Departures: who the neighbours are comes from `evidence/neighbours`; the distance is computed anew in double
    precision, because the root of 2 - 2 cos would blur distances below .001.
    """
    return _distance(pool, "knn_1", j, stat, metric)


def knn_i(pool: Pool, j: int = 6, stat: str = "jth", metric: str = "euclidean") -> pl.DataFrame:
    """Distance of a row from its sixth nearest other row in the pool: how empty its surroundings are.

    Equation: d(g(x), g(N_j(x))), N_j the j-th nearest other row (Eq. 26). Points 0, 1, 3, 7 give (3, 2, 3, 6) for
    j = 2.

    Direction: higher is more unlike the rest. A few copies of a row do not bring it to 0, as they do with `knn_1`; at
    least `j` copies do.

    Parameters: `j` is 6 in InstructionMining, 1 in the survey; the neighbour lists hold 10 and bound it. `stat` is
    `jth` (the distance of the j-th) or `mean` (of the first j, as some scorers take it). `metric` is `euclidean` (0 to
    2 for unit vectors) or `cosine` (1 - cosine).

    Statuses: `no_embedding`; `too_few_neighbours` where fewer than `j` are known (raise the k of the neighbour lists).

    Source: Cao et al. 2023, InstructionMining (arXiv 2307.06290); Dong et al. 2011 (the graph).

    Departures: as `knn_1`, which it is with another `j`.
    """
    return _distance(pool, "knn_i", j, stat, metric)


def _principal_axes(vectors: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, eigenvalues (descending) and signed eigenvectors (columns) of the covariance, streamed in float64."""
    width = vectors.shape[1]
    mean, scatter = np.zeros(width), np.zeros((width, width))
    for part in blocks(len(rows), ROWS_AT_A_TIME):
        mean += vectors[rows[part]].sum(axis=0, dtype=np.float64)
    mean /= len(rows)
    for part in blocks(len(rows), ROWS_AT_A_TIME):
        centred = vectors[rows[part]] - mean
        scatter += centred.T @ centred
    values, axes = np.linalg.eigh(scatter / (len(rows) - 1))
    values, axes = np.maximum(values[::-1], 0.0), axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return mean, values, axes * np.where(axes[largest, np.arange(width)] < 0, -1.0, 1.0)


def pca_row_variance(pool: Pool, k: int | None = None, stat: str = "variance", explained: float = 0.95) -> pl.DataFrame:
    """How unevenly a row spreads over the principal axes of the pool: its variance across them.

    Equation: Y = (X - mean) V_k; the sample variance (ddof 1) of row i's k coordinates (Eq. 27). X = [(4, 1), (1, 2),
    (-2, -2), (-3, -1)] with k = 2 gives (12.005837, .091642, 1.561157, 6.341364); `energy` gives (17, 5, 8, 10).

    Direction: higher; LIFT keeps the top 20 %.

    Parameters: `k` is the number of axes; without it, the least whose share of the variance reaches `explained`.
    `stat` is `variance`, or `energy` (sum of squares), which does not depend on the axes' signs. With one axis there
    is no variance across axes, and both are the energy.

    Statuses: `no_embedding`; `too_few_rows` where fewer than two rows have one; `no_variance` where all are the same.

    Source: Xu et al. 2023, LIFT (arXiv 2312.11508); the number of axes is not stated there.

    Departures: the factor (j-1)^k in the survey's print is a slip of typesetting and is left out. An axis's sign is
    arbitrary but changes the variance: the loading of largest magnitude is made positive (first of equals).
    """
    if stat not in ("variance", "energy"):
        raise ValueError(f"stat must be 'variance' or 'energy', not {stat!r}")
    vectors = _vectors(pool, "pca_row_variance")
    n, width = vectors.shape
    if k is not None and not 1 <= k <= width:
        raise ValueError(f"k must lie between 1 and the {width} dimensions, got {k}")
    finite = has_vector(vectors)
    rows = np.flatnonzero(finite)
    value = np.full(n, np.nan)
    if len(rows) < 2:
        return statused(value, np.where(finite, "too_few_rows", "no_embedding").astype(object))
    mean, spread, axes = _principal_axes(vectors, rows)
    if spread[0] <= np.finfo(np.float32).eps ** 2:
        return statused(value, np.where(finite, "no_variance", "no_embedding").astype(object))
    if k is None:
        share = np.cumsum(spread) / spread.sum()
        k = min(int(np.searchsorted(share, explained - 1e-9)) + 1, width)
    for part in blocks(len(rows), ROWS_AT_A_TIME):
        projected = (vectors[rows[part]] - mean) @ axes[:, :k]
        energy = stat == "energy" or k == 1
        value[rows[part]] = (projected**2).sum(axis=1) if energy else projected.var(axis=1, ddof=1)
    return statused(value, np.where(finite, OK, "no_embedding").astype(object))


INDICATORS = (
    Indicator(
        id="knn_1",
        title="Distance to the nearest neighbour",
        axis="diversity",
        family="handcrafted",
        section="4.1",
        equation=r"d(g(x_i), g(N_j(x_i)))",
        paper="Cao et al. 2023, InstructionMining, arXiv 2307.06290; Dong et al. 2011, NN-Descent",
        meaning="How far the most similar other row is. 0: an exact duplicate; high: nothing is like it.",
        needs=("embedded/minilm", "evidence/neighbours"),
        params={"j": 1, "stat": "jth", "metric": "euclidean"},
        direction="higher",
        scope="pool",
        compute=knn_1,
    ),
    Indicator(
        id="knn_i",
        title="Distance to the sixth neighbour",
        axis="diversity",
        family="handcrafted",
        section="4.1",
        equation=r"d(g(x_i), g(N_j(x_i)))",
        paper="Cao et al. 2023, InstructionMining, arXiv 2307.06290; Dong et al. 2011, NN-Descent",
        meaning="How far one must go to meet six like rows. Low: the row stands in a crowd; high: few are like it, "
        "even if it has a copy or two.",
        needs=("embedded/minilm", "evidence/neighbours"),
        params={"j": 6, "stat": "jth", "metric": "euclidean"},
        direction="higher",
        scope="pool",
        compute=knn_i,
    ),
    Indicator(
        id="pca_row_variance",
        title="Variance across principal axes",
        axis="diversity",
        family="handcrafted",
        section="4.1",
        equation=r"\mathrm{Var}_{j \le k} [(x_i - \mu) V_k]_j",
        paper="Xu et al. 2023, LIFT, arXiv 2312.11508",
        meaning="High: the row lies far out along some main direction of the pool. Low: it lies near the average row.",
        needs=("embedded/minilm",),
        params={"k": None, "stat": "variance", "explained": 0.95},
        direction="higher",
        scope="pool",
        compute=pca_row_variance,
    ),
)
