"""Cherry's warm-up (survey 3.2): which rows a model gets a first taste of, and the difficulty of all rows after it.

Here belong the choice of the rows that an *experienced* model is trained on, and `ifd_experienced`, which reads that
model's pass over the pool. No model runs here: vectors, perplexities and token statistics are handed in. The difficulty
as such is `methods.quality.model.ifd`; without any warm-up it is the indicator `ifd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from methods.kinds import Indicator, Pool
from methods.numerics import kmeans
from methods.numerics.similarity import usable_rows
from methods.quality.model import ifd

EXPERIENCED = "evidence/token_statistics_experienced"
NO_PERPLEXITY, NO_VECTOR = "no_perplexity", "no_vector"
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Warmup:
    """The rows of a warm-up, cluster after cluster; all three have one entry a chosen row."""

    order: np.ndarray
    """int64 indices of the rows."""
    cluster: np.ndarray
    """int64; -1 where there are no clusters."""
    reason: list[str]
    """Why each row was taken, for a person."""
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Rows that could not be looked at, and why: `NO_PERPLEXITY`, `NO_VECTOR`."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """How many rows each cluster has."""


def warmup_rows(
    vectors: np.ndarray,
    perplexity: np.ndarray,
    clusters: int = 100,
    each: int = 10,
    window: tuple[float, float] = (1, 99),
    seed: int = 0,
) -> Warmup:
    """A few rows of every kind of instruction, neither the easiest nor the hardest of their kind.

    k-means on the instructions' vectors; of each cluster the rows whose perplexity lies in the closed window between
    two of the cluster's percentiles, in order of perplexity (ties by lowest index), and of these m rows those in the
    middle of ``each`` equal stretches: places floor((2 k + 1) m / (2 each)). A cluster of at most ``each`` rows gives
    all of them, for a window would only take its ends away.

    Parameters: ``vectors`` (n, d), of unit length, NaN where an instruction has none; ``perplexity`` (n,), NaN where
    there is none; such rows are left out. ``clusters`` 100, ``each`` 10 and ``window`` (1, 99) are the paper's. Where
    there are fewer distinct vectors than ``clusters``, there are as many clusters.

    Source: Li et al. 2023, Cherry LLM (arXiv 2308.12032).

    Departures: k-means is spherical (on unit vectors). The paper's code takes rows at even steps in the order of the
    file; here the steps are even in perplexity's order, so that the easier and the harder end of the window are both
    there whatever the order of the rows.
    """
    low, high = window
    if clusters < 1 or each < 1 or not 0 <= low <= high <= 100:
        raise ValueError(
            f"a warm-up needs at least one cluster, one row a cluster and a window of percentiles from 0 to 100, got "
            f"clusters={clusters}, each={each}, window={window}"
        )
    perplexity = np.asarray(perplexity, dtype=np.float64)
    left_out = _left_out(vectors, perplexity)
    rows = np.setdiff1d(np.arange(len(perplexity)), list(left_out)).astype(np.int64)
    label = np.full(len(perplexity), -1, dtype=np.int64)
    if len(rows):
        label[rows], _ = kmeans.assign(vectors[rows], kmeans.fit(vectors[rows], min(clusters, len(rows)), seed=seed))
    order: list[int] = []
    reason: list[str] = []
    sizes: dict[int, int] = {}
    for cluster in np.unique(label[rows]).tolist():
        members = np.flatnonzero(label == cluster)
        taken, inside = _spread(members, perplexity[members], each, low, high)
        sizes[cluster] = len(members)
        order += taken.tolist()
        among = f"of {inside} rows between its percentiles {low:g} and {high:g}" if inside else "all its rows are taken"
        reason += [f"cluster {cluster}: perplexity {perplexity[row]:.4g}, {among}" for row in taken]
    chosen = np.array(order, dtype=np.int64)
    return Warmup(chosen, label[chosen], reason, left_out, sizes)


def random_rows(n: int, budget: int, seed: int = 0) -> Warmup:
    """As many rows drawn at random: what the survey says of the warm-up, and a baseline for the paper's."""
    order = np.random.default_rng(seed).choice(n, size=min(budget, n), replace=False).astype(np.int64)
    return Warmup(order, np.full(len(order), -1, dtype=np.int64), ["drawn at random"] * len(order))


def _left_out(vectors: np.ndarray, perplexity: np.ndarray) -> dict[int, str]:
    without = dict.fromkeys(np.setdiff1d(np.arange(len(vectors)), usable_rows(vectors)).tolist(), NO_VECTOR)
    without |= dict.fromkeys(np.flatnonzero(~np.isfinite(perplexity)).tolist(), NO_PERPLEXITY)
    return dict(sorted(without.items()))


def _spread(members: np.ndarray, perplexity: np.ndarray, each: int, low: float, high: float) -> tuple[np.ndarray, int]:
    """Rows at even steps of perplexity inside the window, and how many stand in it (0: no window was needed)."""
    ranked = np.argsort(perplexity, kind="stable")
    if len(members) <= each:
        return members[ranked], 0
    lowest, highest = np.percentile(perplexity, [low, high])
    inside = ranked[(perplexity[ranked] >= lowest) & (perplexity[ranked] <= highest)]
    n = len(inside)
    places = np.unique((2 * np.arange(each) + 1) * n // (2 * each)) if n else np.empty(0, dtype=np.int64)
    return members[inside[places]], n


def prompt_perplexity(block: pl.DataFrame) -> pl.Series:
    """exp of the mean -ln p of the prompt's tokens that have a prediction (``logp_prompt``); null where none has.

    p = (.5, .125) gives exp((ln 2 + ln 8) / 2) = 4.
    """
    mean = pl.col("logp_prompt").cast(pl.List(pl.Float64)).list.mean()
    return block.select(perplexity=(-mean).exp()).to_series()


def ifd_experienced(pool: Pool, keep_truncated: bool = False) -> pl.DataFrame:
    """Instruction-following difficulty as a model sees it that was trained on a few rows of the pool first.

    Equation: IFD = NLL(A|Q) / NLL(A) under the experienced model, NLL the mean of -ln p over the response's tokens
    (Eq. 12). p(A|Q) = (.5, .5, .25) and p(A) = (.25, .25, .125) give 4/7.

    Direction: higher, the prompt helps less and there is more to learn; above 1 it misleads, and the paper drops such
    rows before it takes the top (a threshold of the recipe, not of the indicator).

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: as for `ifd`, and `not_passed` where the experienced model has not read the row.

    Source: Li et al. 2023, Cherry LLM (arXiv 2308.12032).

    Departures: as for `ifd`. The warm-up's rows come from clusters of the text encoder's vectors of instructions; the
    paper's are the mean of the base model's last hidden layer. The survey says that they are drawn at random: that is
    a parameter of the warm-up (`warmup`), whose default is the paper's.
    """
    table = pool.tables[EXPERIENCED].select("row_id", "status", "truncated", "logp_conditional", "logp_alone")
    found = [
        ifd(block.with_columns(pl.col("status").fill_null("not_passed")), keep_truncated)
        for block in table.collect_batches(chunk_size=ROWS_AT_A_TIME, maintain_order=True)
    ]
    return pl.concat([pl.DataFrame(schema={"value": pl.Float64, "status": pl.String}), *found])


INDICATORS = (
    Indicator(
        id="ifd_experienced",
        title="Instruction-following difficulty after a warm-up",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"\frac{NLL(A \mid Q)}{NLL(A)}",
        paper="Li et al. 2023, Cherry LLM, arXiv 2308.12032",
        meaning="How little the prompt helps a model to write the answer, after it was shown a few rows of every "
        "kind in the pool. High: there is still something to learn. Above 1 the prompt misleads: the row is suspect.",
        needs=(EXPERIENCED,),
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        scope="pool",
        compute=ifd_experienced,
    ),
)
