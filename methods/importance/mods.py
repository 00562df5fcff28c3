"""MoDS (survey 5.2): a seed that covers the good rows, and the rows that a model tuned on it cannot answer.

Here belong the decisions of the pipeline (which rows are good, which are the seed, which are needed, what is chosen in
the end) and the two indicators that read its tables. Rewards, vectors, training and generated answers are handed in.
The pipeline, a step after the other:

1. quality: rows whose own answer has a reward strictly above a threshold;
2. seed: k-center greedy over the instructions of these rows;
3. a model is tuned on the seed;
4. it answers all rows of quality, and the answers get rewards: rows strictly below a threshold are needed;
5. chosen: the seed and the needed rows. The raw model is then tuned on them by whoever asked for them.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.diversity.coreset import k_center_greedy
from methods.kinds import OK, Candidates, Chosen, Indicator, Pool, statused

ANSWERS, SEED = "mods/answers", "mods/seed"
STEPS = ("pool", "quality", "seed", "answered", "needed", "chosen")
"""What is counted, in the order in which it happens."""


def good_rows(reward: pl.Series, threshold: float = 0.0) -> np.ndarray:
    """(n,) bool: the rows whose reward is strictly above the threshold; a row without a reward is not.

    Rewards (-1.2, 0, .3) and threshold 0 keep only the last.
    """
    return (reward.cast(pl.Float64).fill_nan(None) > threshold).fill_null(False).to_numpy()


def needed_rows(reward: pl.Series, threshold: float = 0.0) -> np.ndarray:
    """(n,) bool: the rows whose generated answer has a reward strictly below the threshold; without a reward, not.

    Rewards (-1.2, 0, .3) and threshold 0 keep only the first.
    """
    return (reward.cast(pl.Float64).fill_nan(None) < threshold).fill_null(False).to_numpy()


def seed_size(good: int, wanted: int = 1000) -> int:
    """How many rows the seed has: as many as wanted, but never more than half of the rows of quality (one at least).

    With a seed of all rows nothing would be left to be needed.
    """
    return min(wanted, max(good // 2, 1), good)


def seed_rows(row_ids: pl.Series, vectors: np.ndarray, size: int, seed: int = 0) -> Chosen:
    """The seed: the rows that cover the others best, by k-center greedy (`coreset.k_center_greedy`).

    Points 0, 1, 5, 10 on a line, the first of which starts, give 0, 10, 5. Vectors are the instructions'; rows without
    one cannot be compared and are not among the candidates. ``Chosen.order`` are indices of the rows given here.

    Parameters: ``size`` is the paper's K (1,000); the first row is drawn by ``seed``.

    Departures: the paper's vectors are the last layer's [CLS] of bert-base-uncased over at most 96 tokens; here they
    are whatever is handed in (the text encoder's, of unit length).
    """
    usable = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    found = k_center_greedy(Candidates(row_ids.gather(usable), vectors=vectors[usable]), size, seed)
    nearest = None if found.nearest is None else np.append(usable, -1)[found.nearest]
    return Chosen(usable[found.order], found.gain, found.reason, nearest)


def chosen_rows(pool: pl.Series, seed: pl.DataFrame, answers: pl.DataFrame, threshold: float = 0.0) -> pl.DataFrame:
    """The union of the seed and the needed rows, each row once, the seed first.

    ``pool``: the ids to choose from. ``seed``: ``row_id, rank, reward``. ``answers``: ``row_id, reward`` of the
    generated answers. Both may name rows that left the pool since; those are not chosen. A row that is seed and needed
    is called seed; its reason says both.

    Returns ``row_id, step, reward, reward_generated, reason``: the seed by rank, then the needed rows, the neediest
    first (ties in the pool's order). ``reward`` is the row's own answer's (null for needed rows: see `with_rewards`).
    """
    place = pool.to_frame("row_id").with_row_index("place")
    generated = answers.select("row_id", reward_generated=pl.col("reward").cast(pl.Float64).fill_nan(None))
    generated = generated.with_columns(needed=pl.Series(needed_rows(generated["reward_generated"], threshold)))
    first = (
        seed.select("row_id", "rank", pl.col("reward").cast(pl.Float64))
        .join(place, on="row_id", how="inner", maintain_order="left")
        .join(generated, on="row_id", how="left", maintain_order="left")
        .sort("rank")
        .with_columns(step=pl.lit("seed"))
    )
    rest = (
        generated.filter("needed")
        .join(seed, on="row_id", how="anti", maintain_order="left")
        .join(place, on="row_id", how="inner", maintain_order="left")
        .sort("reward_generated", "place")
        .with_columns(step=pl.lit("necessity"), rank=pl.lit(None, pl.Int64), reward=pl.lit(None, pl.Float64))
    )
    names = ["row_id", "step", "rank", "reward", "reward_generated", "needed"]
    both = pl.concat([first.select(names), rest.select(names)], how="vertical_relaxed")
    written = pl.col("reward_generated").round(4)
    needed = pl.format("the seed model's answer has reward {}, below {}", written, pl.lit(threshold))
    row = pl.format("row {} of the seed", "rank")
    reason = (
        pl.when(pl.col("step") != "seed")
        .then(needed)
        .when(pl.col("needed"))
        .then(pl.concat_str(row, pl.lit("; "), needed))
        .otherwise(row)
    )
    return both.with_columns(reason=reason).drop("rank", "needed")


def with_rewards(chosen: pl.DataFrame, rewards: pl.DataFrame) -> pl.DataFrame:
    """The chosen rows with the rewards of their own answers (``row_id, reward``) where they have none yet."""
    told = chosen.join(
        rewards.select("row_id", own=pl.col("reward").cast(pl.Float64)),
        on="row_id",
        how="left",
        maintain_order="left",
    )
    return told.with_columns(reward=pl.coalesce("reward", "own")).drop("own")


def reward_necessity(pool: Pool, keep_truncated: bool = False) -> pl.DataFrame:
    """How badly a model that was tuned on a small seed of the pool answers the row's prompt.

    Equation: -R(x, y') with y' the answer of the seed-tuned model (Eq. 43). Rewards (-1.2, 0, .3) give (1.2, 0, -.3).

    Direction: higher: a poor answer shows that the row is needed. The paper takes rows whose reward is strictly below
    a threshold (0), which is a value strictly above 0 here.

    Parameters: `keep_truncated` believes the reward of an answer of which the reward model saw only the beginning.

    Statuses: `not_asked` (the row's own answer is not good enough, so the model was not asked); `empty_response` (the
    model said nothing); `truncated` unless `keep_truncated`; any status of generating or of the reward model.

    Source: Du, Zong, Zhang 2023, MoDS (arXiv 2311.15653).

    Departures: the survey's Eq. 43 reads as if the model under development answered; in the paper it is the model that
    was tuned on the seed, and only rows of quality are asked. Answers are greedy and cut after a number of tokens; a
    failure is a status, where the paper's code drops the row.
    """
    believed = (pl.col("status") == "truncated") & keep_truncated
    status = pl.when(believed).then(pl.lit(OK)).otherwise(pl.col("status").fill_null("not_asked"))
    table = pool.tables[ANSWERS].select(value=-pl.col("reward").cast(pl.Float64), status=status).collect()
    return statused(table["value"], table["status"])


def mods_seed(pool: Pool) -> pl.DataFrame:
    """The place of a row in the seed: the order in which k-center greedy took it among the rows of quality.

    Equation: k for the k-th pick argmax_i min_{j in S} ||g_i - g_j||, from 1. Points 0, 1, 5, 10 from the first on and
    three picks give 1, none, 3, 2.

    Direction: lower was taken earlier, and covers more.

    Statuses: `not_seed` for every row that is not in the seed.

    Source: Du, Zong, Zhang 2023, MoDS (arXiv 2311.15653); Sener & Savarese 2018 (arXiv 1708.00489).

    Departures: the text encoder's vectors of the instructions, not bert-base's; at most half of the rows of quality.
    """
    status = pl.when(pl.col("rank").is_null()).then(pl.lit("not_seed")).otherwise(pl.lit(OK))
    table = pool.tables[SEED].select(value=pl.col("rank").cast(pl.Float64), status=status).collect()
    return statused(table["value"], table["status"])


_DU = "Du, Zong, Zhang 2023, MoDS, arXiv 2311.15653"

INDICATORS = (
    Indicator(
        id="reward_necessity",
        title="Necessity: a seed model's poor answer",
        axis="importance",
        family="model",
        section="5.2",
        equation=r"-R(x, \hat y)",
        paper=_DU,
        meaning="How badly a model that was trained on a few varied rows of the pool answers this prompt. High: it has "
        "not learned this from them, so the row is needed.",
        needs=(ANSWERS,),
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        scope="pool",
        compute=reward_necessity,
    ),
    Indicator(
        id="mods_seed",
        title="Place in the seed of MoDS",
        axis="importance",
        family="model",
        section="5.2",
        equation="k : x_k = argmax_i min_{j in S} ||g(x_i) - g(x_j)||",
        paper=_DU,
        meaning="The order in which a small set that covers the good rows was put together. Low: the row is unlike "
        "those taken before it.",
        needs=(SEED,),
        cost="gpu",
        direction="lower",
        scope="pool",
        compute=mods_seed,
    ),
)
