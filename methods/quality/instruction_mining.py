"""InstructMining (survey 3.2): a linear rule from a row's indicators to the loss that training on such rows leads to.

Here belong the two published rules and the indicators that apply them, drawing subsets, fitting a rule of one's own
to the losses that were measured on them, and the search for the size of a subset. The indicators that a rule reads
are computed elsewhere, and so is every loss: nothing here trains or runs a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from methods.diversity.geometry import knn_i
from methods.kinds import OK, Indicator, Pool, statused

NO_RULE = "no_rule"


@dataclass(frozen=True)
class Rule:
    """ln L = intercept + sum_k weights[k] x_k."""

    intercept: float
    weights: Mapping[str, float]
    p_values: Mapping[str, float] = field(default_factory=dict)
    """Of each weight, from the fit; empty for a published rule."""
    r_squared: float | None = None
    """The share of the variance of ln L that the rule explains on the subsets that it was fitted to."""
    dropped: tuple[str, ...] = ()
    """Indicators that the fit left out, in the order in which they went."""


V1 = Rule(1.0694, {"reward": -0.1498, "response_length": 8.257e-5, "knn_6": -0.9350})
V3 = Rule(
    0.0274, {"reward": -0.0078, "understandability": 0.4421, "naturalness": -0.3212, "coherence": -0.1520}, {}, 0.52
)
"""The two rules of the paper's versions, quoted at second hand. The positive weight of understandability is as it was
published."""


# --- scoring ---------------------------------------------------------------------------------------------------------
def predicted_log_loss(columns: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """What a linear rule says of each row: the logarithm of the loss of a model trained on rows like it.

    ``columns`` are the indicators by the rule's names; what the rule does not read is ignored. A row that lacks one
    (null, NaN or infinite) has the status ``missing: `` and the names of all that it lacks.
    """
    if absent := [name for name in rule.weights if name not in columns.columns]:
        raise ValueError(f"the rule reads {', '.join(rule.weights)}; there is no {', '.join(absent)}")
    missing = missing_of(rule.weights)
    value = pl.sum_horizontal(
        pl.lit(rule.intercept), *(weight * pl.col(name).cast(pl.Float64) for name, weight in rule.weights.items())
    )
    found = columns.select(value=value, missing=missing)
    return statused(found["value"], found["missing"].fill_null(OK))


def missing_of(names: Sequence[str] | Mapping[str, float]) -> pl.Expr:
    """``missing: a, b`` where these columns have no finite number, null where all have one."""
    lacking = pl.concat_str(
        [pl.when(~pl.col(name).cast(pl.Float64).is_finite().fill_null(False)).then(pl.lit(name)) for name in names],
        separator=", ",
        ignore_nulls=True,
    )
    return pl.when(lacking != "").then(pl.lit("missing: ") + lacking)


def instruction_mining_v1(pool: Pool) -> pl.DataFrame:
    """The loss that InstructMining's first rule predicts, from a row's reward, its length and how apart it stands.

    Equation: ln L = 1.0694 - .1498 reward + 8.257e-5 length - .9350 knn_6; reward 2, length 100, distance .4 give
    .404057.

    Direction: lower: a lower predicted loss is a better row.

    Statuses: `missing: a, b` names which of `reward`, `response_length` and `knn_6` the row has no number for.

    Source: Cao et al. 2023, Instruction Mining (arXiv 2307.06290), the rule of its first version.

    Departures: the length is that of the response, in words; the sources leave both open, and the weight is so small
    that a hundred words more or less move the sum by .008. `knn_6` is the Euclidean distance of the sixth nearest row
    (as `knn_i`). The weights hold for the paper's own scorers and scales and for nothing else: with others, the order
    of the rows may mean something and the number does not. Fit a rule of your own (`instruction_mining`).
    """
    if pool.counts is None:
        raise ValueError("instruction_mining_v1 reads the counts of the pool, and this pool has none")
    rewards = pool.tables["evidence/rewards"].select("row_id", "reward").unique("row_id", keep="first")
    lengths = pool.counts.select("row_id", response_length="response_n_words").unique("row_id", keep="first")
    rows = pool.row_ids.to_frame("row_id").lazy()
    for table in (rewards, lengths):
        rows = rows.join(table, on="row_id", how="left", maintain_order="left")
    return predicted_log_loss(rows.collect().with_columns(knn_6=knn_i(pool, 6)["value"]), V1)


def instruction_mining_v3(block: pl.DataFrame) -> pl.DataFrame:
    """The loss that InstructMining's later rule predicts, from a row's reward and three of UniEval's scores.

    Equation: ln L = .0274 - .0078 reward + .4421 understandability - .3212 naturalness - .1520 coherence; reward 2,
    understandability .9, naturalness .8, coherence .7 give .046330.

    Direction: lower: a lower predicted loss is a better row.

    Statuses: `missing: a, b` names which of the four the row has no number for (UniEval was perhaps not asked).

    Source: Cao et al. 2023, Instruction Mining (arXiv 2307.06290), the rule of its third version (R^2 about .52).

    Departures: none in the rule; understandability makes a row worse, as it was published. The weights hold for the
    paper's own scorers and scales and for nothing else: with others, fit a rule of your own (`instruction_mining`).
    """
    unasked = [name for name in V3.weights if name not in block.columns]
    return predicted_log_loss(block.with_columns(pl.lit(None, pl.Float64).alias(name) for name in unasked), V3)


def instruction_mining(pool: Pool) -> pl.DataFrame:
    """The loss that a rule predicts which was fitted here: to models trained on subsets of this pool.

    Equation: ln L = b_0 + sum_k b_k x_k, with b from ordinary least squares of ln(loss on rows that were held out) on
    the subsets' mean indicators, over the runs of `tuned/subset_runs`.

    Direction: lower: a lower predicted loss is a better row.

    Statuses: `missing: a, b` names the indicators of the rule that the row has no number for; `no_rule` where the
    runs were too few, or no indicator told the losses apart.

    Source: Cao et al. 2023, Instruction Mining (arXiv 2307.06290).

    Departures: a rule that was fitted to means of many rows is applied to single rows, which lie further out; that is
    the paper's own step. Which indicators took part, and how sure each weight is, stands in
    `tuned/instruction_mining_rule`.
    """
    table = pool.tables["tuned/instruction_mining_rows"].unique("row_id", keep="first")
    rows = pool.row_ids.to_frame("row_id").lazy().join(table, on="row_id", how="left", maintain_order="left").collect()
    value = rows["intercept"] + rows["terms"].list.sum()
    return statused(value, rows["status"].fill_null("not_scored"))


# --- subsets to train on ---------------------------------------------------------------------------------------------
def random_subsets(groups: Sequence[str], runs: int, rows: int, seed: int = 0, mixed: bool = False) -> list[np.ndarray]:
    """``runs`` draws of ``rows`` row numbers each, ascending, without repetition within a draw.

    A draw hangs on the seed and its own number alone, so that more runs add draws and change none. Every row is as
    likely as any other; with ``mixed`` each draw first takes a share for every group (such as a row's source) from a
    flat Dirichlet distribution, so that subsets differ more than chance makes them. A group that is too small for its
    share gives all it has, and the rest comes from the others at random.
    """
    if runs < 1 or not 1 <= rows <= len(groups):
        raise ValueError(f"{runs} draws of {rows} rows cannot be made from {len(groups)}")
    names, of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    drawn = []
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        order = rng.permutation(len(groups))
        if mixed and len(names) > 1:
            quota = np.floor(rng.dirichlet(np.ones(len(names))) * rows).astype(int)
            within = np.concatenate([order[of[order] == group][: quota[group]] for group in range(len(names))])
            order = np.concatenate([within, order[~np.isin(order, within)]])
        drawn.append(np.sort(order[:rows]))
    return drawn


# --- fitting ---------------------------------------------------------------------------------------------------------
def subset_means(values: pl.DataFrame, subsets: Sequence[np.ndarray]) -> pl.DataFrame:
    """One line a subset (row numbers into ``values``): the mean of every numeric column, over the values it has."""
    means = pl.col(pl.Float64).replace({math.nan: None}).mean()
    numbers = values.select(pl.selectors.numeric().cast(pl.Float64))
    if not subsets:
        return numbers.clear()
    return pl.concat([numbers[rows].select(means) for rows in subsets])


def fitted(means: pl.DataFrame, losses: Sequence[float], p_below: float | None = 0.05) -> tuple[pl.DataFrame, Rule]:
    """A rule, and the account of it: ``term, weight, p_value, status``, the intercept first.

    Statuses: ``ok``; ``dropped`` (its p-value is not under ``p_below``); ``no_mean`` (some subset has no value of
    it); ``constant`` (the same mean in every subset); ``too_few_runs`` (more runs than indicators + 1 are needed);
    ``not_told_apart`` (the indicators are linear in one another). Where nothing can be fitted the rule has no weights.
    """
    status = {name: _unusable(means[name]) for name in means.columns}
    usable = [name for name, why in status.items() if why is None]
    why_not = None
    rule = Rule(math.nan, {})
    if len(losses) <= len(usable) + 1:
        why_not = "too_few_runs"
    else:
        try:
            rule = refit(means.select(usable), losses, p_below)
        except Collinear:
            why_not = "not_told_apart"
    status |= {name: why_not or ("dropped" if name in rule.dropped else OK) for name in usable}
    lines = [{"term": "intercept", "weight": rule.intercept, "p_value": None, "status": why_not or OK}]
    lines += [
        {"term": name, "weight": rule.weights.get(name), "p_value": rule.p_values.get(name), "status": why}
        for name, why in status.items()
    ]
    schema = {"term": pl.String, "weight": pl.Float64, "p_value": pl.Float64, "status": pl.String}
    return pl.DataFrame(lines, schema=schema).with_columns(pl.col("weight").fill_nan(None)), rule


def _unusable(column: pl.Series) -> str | None:
    numbers = column.cast(pl.Float64).fill_null(math.nan).to_numpy()
    if not np.isfinite(numbers).all():
        return "no_mean"
    return "constant" if _flat(numbers) else None


def _flat(x: np.ndarray) -> np.ndarray:
    return x.std(axis=0) <= 1e-12 * np.abs(x.mean(axis=0)) if len(x) else np.ones(x.shape[1:], dtype=bool)


class Collinear(ValueError):
    """Indicators that are sums of one another, so that no weight of theirs can be told."""


def refit(means: pl.DataFrame, losses: Sequence[float], p_below: float | None = 0.05) -> Rule:
    """A rule of one's own: least squares of the logarithm of measured losses on the means of subsets' indicators.

    Every line of ``means`` is a subset that a model was trained on (`subset_means`), and ``losses`` holds the loss
    (not its logarithm) that the model came to. Each weight is held against 0 by a two-sided t-test with
    (subsets - indicators - 1) degrees of freedom; while the largest p-value is not under ``p_below`` its indicator is
    left out and the rest fitted anew (the last column of equals goes first). None keeps them all.

    The paper filters by p-value and says no more; leaving out one at a time is ours. It makes the p-values that stay
    too good: hold a rule against subsets that it was not fitted to.

    Not enough subsets (there must be more than indicators + 1), a loss that is not positive, a mean that is missing,
    and indicators that are linear in one another are errors. A rule may end up without any indicator.
    """
    names = list(means.columns)
    x = means.cast(pl.Float64).fill_null(math.nan).to_numpy().reshape(means.height, len(names))
    loss = np.asarray(losses, dtype=np.float64)
    if len(loss) != means.height:
        raise ValueError(f"{means.height} subsets and {len(loss)} losses: give one loss a subset")
    if not (np.isfinite(loss) & (loss > 0)).all():
        raise ValueError("a loss is a finite number above 0: its logarithm is fitted")
    if not np.isfinite(x).all():
        holes = [name for name, column in zip(names, x.T, strict=True) if not np.isfinite(column).all()]
        raise ValueError(f"no mean of {', '.join(holes)} in some subset: leave out the indicator or the subset")
    kept, dropped = list(range(len(names))), []
    while True:
        weights, p, r_squared = _least_squares(x[:, kept], np.log(loss), [names[i] for i in kept])
        if p_below is None or not kept or p.max() < p_below:
            break
        worst = len(kept) - 1 - int(np.argmax(p[::-1]))
        dropped.append(names[kept.pop(worst)])
    return Rule(
        float(weights[0]),
        {names[i]: float(weight) for i, weight in zip(kept, weights[1:], strict=True)},
        {names[i]: float(each) for i, each in zip(kept, p, strict=True)},
        r_squared,
        tuple(dropped),
    )


def _least_squares(x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Intercept and weights (k + 1,), the weights' p-values (k,), and R squared (NaN where all y are equal)."""
    n, k = x.shape
    if n <= k + 1:
        raise ValueError(f"{n} subsets cannot fit {k} indicators and an intercept: train on {k + 2} subsets or more")
    middle, spread, flat = x.mean(axis=0), x.std(axis=0), _flat(x)
    z = (x - middle) / np.where(flat, 1.0, spread)
    if flat.any() or np.linalg.matrix_rank(z) < k:
        raise Collinear(f"{', '.join(names)}: one is constant or a sum of the others, so that no weight can be told")
    slopes, *_ = np.linalg.lstsq(z, y - y.mean(), rcond=None)
    left = float(((y - y.mean() - z @ slopes) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    error = np.sqrt(left / (n - k - 1) * np.diag(np.linalg.inv(z.T @ z))) if k else np.zeros(0)
    weights = slopes / spread
    return (
        np.concatenate([[y.mean() - middle @ weights], weights]),
        _p_values(slopes, error, n - k - 1),
        1 - left / total if total > 0 else math.nan,
    )


def _p_values(slopes: np.ndarray, error: np.ndarray, freedom: int) -> np.ndarray:
    """Two-sided, by Student's t; without any error a weight is certain (0), unless it is 0 itself (1)."""
    if not len(slopes):
        return np.zeros(0)
    from scipy.stats import t

    certain = np.where(slopes == 0, 1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 * t.sf(np.abs(slopes / error), freedom)
    return np.where(error > 0, found, certain)


# --- the size of the subset ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sized:
    """The best size that was tried, its loss, and every trial in the order in which it was made."""

    size: int
    loss: float
    tried: tuple[tuple[int, float], ...]


def search_size(loss_of: Callable[[int], float], n: int, trials: int = 20, seed: int = 0, smallest: int = 64) -> Sized:
    """How many of the best rows to train on: the size of least loss among those that BlendSearch tries.

    ``loss_of(size)`` trains on the first ``size`` rows, best first, and gives the loss; it is asked at most ``trials``
    times and never twice for a size. Sizes lie between ``smallest`` and ``n`` on the logarithmic scale: the loss may
    fall, rise and fall again as the subset grows. A loss that is NaN counts as infinite; equal losses go to the
    smaller size. Where there are no more sizes than trials, every size is tried, in order.

    The search starts at the geometric middle. Started at the smallest size, as one does to save work, its few dozen
    trials never come near a valley among the large ones. The same seed tries the same sizes, for nothing hangs on
    how long a trial takes.

    Source: Cao et al. 2023, Instruction Mining (arXiv 2307.06290); BlendSearch: Wang et al. 2021 (flaml).
    """
    if n < 1 or trials < 1 or smallest < 1:
        raise ValueError(f"n, trials and smallest must be at least 1; got {n}, {trials}, {smallest}")
    smallest = min(smallest, n)
    losses: dict[int, float] = {}

    def ask(size: int) -> float:
        if size not in losses:
            loss = float(loss_of(size))
            losses[size] = math.inf if math.isnan(loss) else loss
        return losses[size]

    if n - smallest < trials:
        for size in range(smallest, n + 1):
            ask(size)
    else:
        _blend(ask, smallest, n, trials, seed)
    best = min(losses, key=lambda size: (losses[size], size))
    return Sized(best, losses[best], tuple(losses.items()))


def _blend(ask: Callable[[int], float], smallest: int, n: int, trials: int, seed: int) -> None:
    """BlendSearch over whole sizes; it repeats some, which ``ask`` answers from memory."""
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its other half, AutoML, is not installed
        import optuna
        from flaml import tune
        from flaml.tune.searcher.blendsearch import BlendSearch

    talk, level = logging.getLogger("flaml.tune"), optuna.logging.get_verbosity()
    was = talk.disabled
    try:
        talk.disabled = True  # a size that is tried again is told as a fault
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        search = BlendSearch(
            metric="loss",
            mode="min",
            space={"size": tune.lograndint(smallest, n + 1)},
            low_cost_partial_config={"size": round(math.sqrt(smallest * n))},
            seed=seed,
        )
        tune.run(lambda config: {"loss": ask(int(config["size"]))}, search_alg=search, num_samples=trials, verbose=0)
    finally:
        talk.disabled = was
        optuna.logging.set_verbosity(level)


_PAPER = "Cao et al. 2023, Instruction Mining, arXiv 2307.06290"
INDICATORS = (
    Indicator(
        id="instruction_mining_v1",
        title="InstructMining's first rule",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"1.0694 - 0.1498\,\mathrm{reward} + 8.257 \cdot 10^{-5}\,\mathrm{length} - 0.9350\,\mathrm{knn}_6",
        paper=_PAPER,
        meaning="What the published rule says of the loss after training on such rows, as a logarithm: rows that a "
        "reward model likes and that stand apart from the others come out low.",
        needs=("embedded/minilm", "evidence/neighbours", "evidence/rewards", "evidence/text_counts"),
        cost="gpu",
        direction="lower",
        scope="pool",
        compute=instruction_mining_v1,
    ),
    Indicator(
        id="instruction_mining_v3",
        title="InstructMining's later rule",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"0.0274 - 0.0078\,\mathrm{reward} + 0.4421\,\mathrm{understandability} "
        r"- 0.3212\,\mathrm{naturalness} - 0.1520\,\mathrm{coherence}",
        paper=_PAPER,
        meaning="What the published rule says of the loss after training on such rows, as a logarithm: answers that "
        "read naturally and hang together come out low.",
        needs=("evidence/rewards", "evidence/unieval"),
        cost="gpu",
        direction="lower",
        compute=instruction_mining_v3,
    ),
    Indicator(
        id="instruction_mining",
        title="InstructMining with a rule of one's own",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"b_0 + \sum_k b_k x_k",
        paper=_PAPER,
        meaning="What a rule says of the loss after training on such rows, as a logarithm; the rule was fitted to "
        "models that were trained on subsets of this pool.",
        needs=("tuned/instruction_mining_rows",),
        cost="gpu",
        direction="lower",
        scope="pool",
        compute=instruction_mining,
    ),
)
