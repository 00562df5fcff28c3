"""The audit sample: which rows people read, what is planted among them, and what their verdicts tell of all rows.

Here belong designs, exact intervals and estimates. A design divides the pool into strata and draws from each at random,
without replacement; whatever the design, the rows of one source in one stratum (a *cell*) are then a simple random
sample of that cell, and that is all that the estimates rest on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from methods import rows as row_methods
from methods.kinds import OK

DESIGNS: Mapping[str, str] = {
    "random": "every row alike",
    "source": "as many from each source",
    "cluster": "from each cluster in proportion to its size",
    "score": "as many from each quarter of an indicator's values",
    "disagreement": "half of the rows from the quarter on which the indicators disagree most",
}
_BANDS = 4
_DISAGREEMENT = (1.0, 1.0, 1.0, 3.0)
CELLS_SCHEMA = pl.Schema({"source": pl.String(), "stratum": pl.String(), "population": pl.Int64(), "drawn": pl.Int64()})
NOISE_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "status": pl.String(),
        "read": pl.Int64(),
        "drawn": pl.Int64(),
        "population": pl.Int64(),
        "covered": pl.Float64(),
        "interval": pl.String(),
    }
)
EXACT, STRATIFIED = "exact, finite population", "stratified, Korn-Graubard"


@dataclass(frozen=True)
class Sample:
    """Drawn rows (``row_id, source, stratum``, in an order that tells nothing) and the cells that they came from."""

    rows: pl.DataFrame
    cells: pl.DataFrame


def disagreement(values: pl.DataFrame, directions: Mapping[str, str]) -> pl.Series:
    """How differently the indicators rank each row: the variance of its ranks, each between 0 and 1, best is 1.

    ``values`` has one column an indicator, null where it has none. An indicator whose direction is a band ranks nothing
    and is left out. Null where fewer than two indicators have a value.
    """
    from scipy.stats import rankdata

    ranks = np.full((values.height, values.width), np.nan)
    for j, name in enumerate(values.columns):
        column = values[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        there = np.isfinite(column)
        if directions.get(name, "higher") != "band" and there.sum() > 1:
            turned = -column[there] if directions.get(name) == "lower" else column[there]
            ranks[there, j] = (rankdata(turned) - 1) / (there.sum() - 1)
    n = np.isfinite(ranks).sum(axis=1)
    mean = np.nansum(ranks, axis=1) / np.maximum(n, 1)
    variance = np.nansum((ranks - mean[:, None]) ** 2, axis=1) / np.maximum(n, 1)
    return pl.Series("disagreement", np.where(n > 1, variance, np.nan), dtype=pl.Float64).fill_nan(None)


def _bands(values: pl.Series) -> pl.Series:
    """Quarters by rank, ties by position; rows without a value are a stratum of their own."""
    rank = values.fill_nan(None).rank("ordinal").cast(pl.Int64)
    there = max(len(values) - values.fill_nan(None).null_count(), 1)
    quarter = ((rank - 1) * _BANDS // there).clip(0, _BANDS - 1) + 1
    return pl.Series("stratum", [f"quarter {q}" if q is not None else "no value" for q in quarter], dtype=pl.String)


def strata(population: pl.DataFrame, by: str) -> pl.Series:
    """The stratum of each row: ``population`` has ``source``, and the column that the design goes by."""
    if by not in DESIGNS:
        raise ValueError(f"a sample is drawn by {', '.join(DESIGNS)}, not by {by!r}")
    if by == "random":
        return pl.Series("stratum", ["all"] * population.height, dtype=pl.String)
    if by == "source":
        return population["source"].alias("stratum")
    if by == "cluster":
        return population["cluster"].fill_null(-1).cast(pl.String).alias("stratum")
    return _bands(population[by])


def allocate(sizes: Sequence[int], weights: Sequence[float], n: int) -> list[int]:
    """How many of n rows each stratum gives: in proportion to its weight, never more than it has, remainders largest
    first (ties: the earlier). What one cannot give, the others give."""
    size, weight = np.asarray(sizes, dtype=np.int64), np.asarray(weights, dtype=float)
    given = np.zeros(len(size), dtype=np.int64)
    left = min(n, int(size.sum()))
    rest = np.flatnonzero(size > 0)
    while left > 0:
        share = weight[rest] if weight[rest].sum() > 0 else np.ones(len(rest))
        share = left * share / share.sum()
        full = share >= size[rest]
        if not full.any():
            whole = np.floor(share + 1e-9).astype(np.int64)
            first = np.lexsort((rest, -np.round(share - whole, 9)))[: left - int(whole.sum())]
            whole[first] += 1
            given[rest] = whole
            break
        given[rest[full]] = size[rest[full]]
        left -= int(size[rest[full]].sum())
        rest = rest[~full]
    return [int(g) for g in given]


def draw(population: pl.DataFrame, n: int, by: str = "random", seed: int = 0) -> Sample:
    """Draw n rows (all, if there are no more) of ``row_id, source`` and the column that the design goes by."""
    if n < 1:
        raise ValueError(f"an audit reads at least one row, not {n}")
    labelled = population.select("row_id", "source").with_columns(strata(population, by))
    parts = {str(name): part for (name,), part in labelled.sort("stratum").group_by("stratum", maintain_order=True)}
    sizes = [part.height for part in parts.values()]
    weights = [1.0] * len(sizes) if by in ("source", "score") else [float(size) for size in sizes]
    if by == "disagreement":
        share = {f"quarter {i + 1}": weight for i, weight in enumerate(_DISAGREEMENT)}
        weights = [share.get(name, 1.0) for name in parts]
    rng = np.random.default_rng(seed)
    taken = [labelled.clear()]
    for part, k in zip(parts.values(), allocate(sizes, weights, n), strict=True):
        taken.append(part.sort("row_id")[np.sort(rng.permutation(part.height)[:k])])
    drawn = pl.concat(taken)
    drawn = drawn[rng.permutation(drawn.height)]
    cells = labelled.group_by("source", "stratum").agg(population=pl.len().cast(pl.Int64))
    counts = drawn.group_by("source", "stratum").agg(drawn=pl.len().cast(pl.Int64))
    cells = cells.join(counts, on=["source", "stratum"], how="left").with_columns(pl.col("drawn").fill_null(0))
    return Sample(drawn, cells.sort("source", "stratum").select(list(CELLS_SCHEMA)))


# ---- planted rows --------------------------------------------------------------------------------------------------


def planted(donors: pl.DataFrame, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Counterfactual rows: each has the question of one row and the answer of another, so that no rater may accept it.

    ``donors`` has ``row_id, source, messages``. Answers go round among the n rows drawn, within a source where it has
    several, so that a strange style or language does not give a row away; of a conversation the last answer is
    exchanged. Each has ``row_id`` (of its own content), ``messages``, ``prompt_of`` and ``answer_of``. A row whose
    answer happens to be the same, or that stands in ``donors`` already, is not planted: there may be fewer than n.
    """
    usable = donors.filter(pl.col("messages").list.last().struct.field("role") == "assistant").unique(
        "row_id", keep="first", maintain_order=True
    )
    rng = np.random.default_rng(seed)
    # One more than wanted: a single row needs somebody to exchange with.
    picked = usable[rng.permutation(usable.height)[: max(n, 2)]].sort("source", maintain_order=True)
    lines, there = picked.to_dicts(), set(donors["row_id"])
    made = []
    for line, other in zip(lines, lines[1:] + lines[:1], strict=True):
        answer = other["messages"][-1]["content"]
        if answer.strip() == line["messages"][-1]["content"].strip():
            continue
        messages = [*line["messages"][:-1], {"role": "assistant", "content": answer}]
        row_id = row_methods.row_id(messages)
        if row_id not in there:
            made.append(
                {"row_id": row_id, "messages": messages, "prompt_of": line["row_id"], "answer_of": other["row_id"]}
            )
    return made[:n]


# ---- intervals -----------------------------------------------------------------------------------------------------


def clopper_pearson(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share from k of n independent draws; k and n need not be whole."""
    from scipy.stats import beta

    if n <= 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if k <= 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k >= n else float(beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def finite_interval(k: int, n: int, population: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share of so many rows, k of n of them drawn without replacement.

    The hypergeometric counterpart of Clopper and Pearson: all shares that the draw does not refuse at half the error on
    either side. When all rows are read it is a point.
    """
    from scipy.stats import hypergeom

    if not 0 <= k <= n <= population:
        raise ValueError(f"{k} of {n} of {population} is no sample")
    if n == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    least, most = k, population - (n - k)

    def first(low: int, high: int, test: Any) -> int:
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if test(middle) else (middle + 1, high)
        return low

    low = first(least, most, lambda total: hypergeom.sf(k - 1, population, total, n) > tail) if k else least
    above = first(least, most + 1, lambda total: hypergeom.cdf(k, population, total, n) <= tail) if k < n else most + 1
    return low / population, (above - 1) / population


def rows_needed(width: float, share: float = 0.5, population: int | None = None, level: float = 0.95) -> int:
    """How many rows to read so that the interval of a share is at most so wide, if it comes out at ``share``.

    One half is the worst case. With a population the interval is that of `finite_interval`. The least n from which on
    the interval stays narrow enough for the next ten n too.
    """
    if not 0 < width < 1 or not 0 <= share <= 1:
        raise ValueError("width lies between 0 and 1, share from 0 to 1")

    def wide(n: int) -> bool:
        if population is not None:
            low, high = finite_interval(round(share * min(n, population)), min(n, population), population, level)
        else:
            low, high = clopper_pearson(share * n, n, level)
        return high - low > width + 1e-12

    high = 1
    while wide(high):
        high *= 2
    low = max(high // 2 - 10, 1)
    while low < high:  # from here on widths fall but for rounding
        middle = (low + high) // 2
        low, high = (middle + 1, high) if any(wide(middle + i) for i in range(10)) else (low, middle)
    return min(low, population) if population is not None else low


# ---- what verdicts tell --------------------------------------------------------------------------------------------


def false_positives(accepted: pl.Series, level: float = 0.95) -> dict[str, Any]:
    """The share of planted rows that raters accept, with its exact interval; null verdicts are left out."""
    told = accepted.drop_nulls()
    k, n = int(told.sum()), len(told)
    low, high = clopper_pearson(k, n, level)
    found = {"accepted": k, "read": n, "planted": len(accepted)}
    if n == 0:
        return {**found, "value": None, "low": None, "high": None, "status": "no_labels"}
    return {**found, "value": k / n, "low": low, "high": high, "status": OK}


def share_of_cells(cells: pl.DataFrame, level: float = 0.95) -> dict[str, Any]:
    """The share of noise in all rows of some cells: ``population, read, noisy`` each.

    Equation: sum_h W_h k_h / n_h, W_h = N_h / N, over cells that were read. Its variance is sum_h W_h^2 (1 - n_h / N_h)
    p_h (1 - p_h) / (n_h - 1), with the pooled p where a cell has one row.

    One cell: the exact interval of a finite population. Several: Korn and Graubard's, Clopper and Pearson's with the
    effective number of rows (Kish's where the variance is 0), corrected for degrees of freedom. Rows of cells of which
    none was read may be anything: the interval takes them for clean at its lower end, for noise at its upper end.
    """
    from scipy.stats import t

    total = int(cells["population"].sum())
    seen = cells.filter(pl.col("read") > 0)
    n, size = int(seen["read"].sum()), int(seen["population"].sum())
    base = {"read": n, "drawn": int(cells["drawn"].sum()), "population": total, "covered": size / max(total, 1)}
    if n == 0:
        return {**base, "value": None, "low": None, "high": None, "status": "no_labels", "interval": None}
    big, read, noisy = (seen[name].to_numpy().astype(float) for name in ("population", "read", "noisy"))
    weight = big / size
    value = float((weight * noisy / read).sum())
    if len(big) == 1:
        low, high = finite_interval(int(noisy[0]), int(read[0]), int(big[0]), level)
    else:
        p = np.where(read > 1, noisy / read, value)
        variance = float((weight**2 * (1 - read / big) * p * (1 - p) / np.maximum(read - 1, 1)).sum())
        effective = value * (1 - value) / variance if variance > 1e-15 else 1 / float((weight**2 / read).sum())
        freedom = max(n - len(big), 1)
        if n > 1:
            tail = (1 + level) / 2
            effective *= float((t.ppf(tail, n - 1) / t.ppf(tail, freedom)) ** 2)
        low, high = (value, value) if n == size else clopper_pearson(value * effective, effective, level)
    # What was read is known for certain, whatever the rest.
    low = max(low * size, float(noisy.sum())) / total
    high = (min(high * size, size - float((read - noisy).sum())) + total - size) / total
    method = EXACT if len(big) == 1 else STRATIFIED
    return {**base, "value": value, "low": low, "high": high, "status": OK, "interval": method}


ALL_SOURCES = "all sources"


def noise(rows: pl.DataFrame, cells: pl.DataFrame, verdicts: pl.DataFrame, level: float = 0.95) -> pl.DataFrame:
    """`NOISE_SCHEMA`: the share of each source that raters do not accept, and of all sources together.

    ``rows`` and ``cells`` are a `Sample`'s, ``verdicts`` has ``row_id, accepted``. Rows without a verdict are taken for
    missing at random.
    """
    told = rows.join(verdicts.select("row_id", "accepted"), on="row_id", how="inner").drop_nulls("accepted")
    counts = told.group_by("source", "stratum").agg(
        read=pl.len().cast(pl.Int64), noisy=(~pl.col("accepted")).sum().cast(pl.Int64)
    )
    full = cells.join(counts, on=["source", "stratum"], how="left").with_columns(pl.col("read", "noisy").fill_null(0))
    lines = [
        {"source": str(name), **share_of_cells(part, level)}
        for (name,), part in full.sort("source", "stratum").group_by("source", maintain_order=True)
    ]
    if len(lines) > 1:
        lines.append({"source": ALL_SOURCES, **share_of_cells(full, level)})
    return pl.DataFrame(lines, schema=NOISE_SCHEMA)
