"""Memorization (survey 3.2): how much of a response a model would write as it stands.

Here belong both forms of it: each token behind the true ones, read off the one pass (`evidence/token_statistics`), and
a stretch that the model wrote by itself (`evidence/continuations`). What else the pass tells is in
`methods.quality.model`.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from methods.kinds import OK, Indicator, statused

_PROMPT_TOKENS, _WINDOW = 32, 32
CONTINUATIONS = ("evidence/continuations",)
"""``n_matched`` of ``n_scored`` tokens that the model wrote by itself are the response's own, in their place."""


def _check(prompt_tokens: int, window: int) -> None:
    if prompt_tokens < 0 or window < 1:
        raise ValueError(f"prompt_tokens must be at least 0 and window at least 1, got {prompt_tokens} and {window}")


def memorization_rank(block: pl.DataFrame, prompt_tokens: int = _PROMPT_TOKENS, window: int = _WINDOW) -> pl.DataFrame:
    """How much of the response a model knows by heart: the share of a stretch of it that it would write as it stands.

    Equation: (1/N) sum of [argmax p(. | x_<j) = x_j] over the response's tokens j = M .. M+N-1, counted from 0
    (Eq. 11). Guesses 5 6 7 9 where 5 6 8 9 stand give .75.

    Direction: lower; rows near 1 were probably seen in training, and pruning takes the highest. Lists, code and set
    phrases are easy to continue without having been seen.

    Parameters: `prompt_tokens` is M, how many tokens of the response the model reads before it is asked (behind the
    row's prompt, which it always reads). `window` is N, how many tokens are asked.

    Statuses: `too_short` (under M+N response tokens); `truncated` (the model's pass was cut before M+N tokens);
    any other status of the model's pass.

    Source: Biderman et al. 2023, Emergent and Predictable Memorization (arXiv 2304.11158).

    Departures: every token is guessed behind the true ones before it, as Eq. 11 says; the reference lets the model go
    on by itself, which differs after the first miss and is `memorization_rank_generated`. M counts tokens of the
    response; the reference takes the first 32 of a text without a prompt. A response that was cut is scored if M+N of
    its tokens were seen.
    """
    _check(prompt_tokens, window)
    least = prompt_tokens + window
    short = pl.col("hit").list.len().fill_null(0) < least
    cut = pl.col("truncated").fill_null(False)
    asked = pl.col("hit").list.slice(prompt_tokens, window)
    found = block.select(
        value=pl.when(~short).then(asked.cast(pl.List(pl.Float64)).list.sum() / window),
        status=pl.when(~pl.col("status").is_in([OK, "truncated"]))
        .then("status")
        .when(short & cut)
        .then(pl.lit("truncated"))
        .when(short)
        .then(pl.lit("too_short"))
        .when(asked.list.drop_nulls().list.len() < window)
        .then(pl.lit("not_finite"))
        .otherwise(pl.lit(OK)),
    )
    return statused(found["value"], found["status"])


def memorization_rank_generated(
    block: pl.DataFrame, prompt_tokens: int = _PROMPT_TOKENS, window: int = _WINDOW
) -> pl.DataFrame:
    """How much of the response a model writes by itself when it is given the beginning.

    Equation: (1/N) sum of [y_j = x_j] over the response's tokens j = M .. M+N-1, y the model's greedy continuation of
    the prompt and the response's first M tokens. 5 6 7 9 where 5 6 8 9 stand gives .75.

    Direction: lower; as for `memorization_rank`, with less chance: after a miss the model is on a path of its own.

    Parameters: `prompt_tokens` is M and `window` is N, both 32 as in the reference. They are asked for when the
    evidence is gathered: others gather it anew.

    Statuses: `too_short` (no assistant turn has M+N tokens); `truncated` (none has, for the conversation was cut); any
    other status of the model's pass.

    Source: Biderman et al. 2023, Emergent and Predictable Memorization (arXiv 2304.11158), whose code reads 32 tokens
    and writes exactly 32: end marks are not allowed, here neither.

    Departures: one method with two ids, since its forms are read off two tables: this is the reference's, and
    `memorization_rank` (teacher-forced) costs nothing where the one pass was made. M counts tokens of the response,
    behind the row's prompt; the reference takes the first 32 of a text. Of a conversation the first answer that is long
    enough is continued.
    """
    _check(prompt_tokens, window)
    few = pl.col("n_scored").fill_null(0) < 1
    found = block.select(
        value=pl.when(~few).then(pl.col("n_matched").cast(pl.Float64) / pl.col("n_scored")),
        status=pl.when(pl.col("status") != OK).then("status").when(few).then(pl.lit("too_short")).otherwise(pl.lit(OK)),
    )
    return statused(found["value"], found["status"])


_indicator = partial(
    Indicator,
    axis="quality",
    family="model",
    section="3.2",
    paper="Biderman et al. 2023, Emergent and Predictable Memorization, arXiv 2304.11158",
    cost="gpu",
    direction="lower",
)

INDICATORS = (
    _indicator(
        id="memorization_rank",
        title="Tokens known by heart",
        equation=r"\frac{1}{N} \sum_{j=M}^{M+N-1} [\arg\max p(\cdot \mid x_{<j}) = x_j]",
        meaning="The share of a stretch of the answer that the model would have written in the same words. Near 1: it "
        "has probably seen the row, and learns nothing from it.",
        needs=("evidence/token_statistics",),
        params={"prompt_tokens": _PROMPT_TOKENS, "window": _WINDOW},
        compute=memorization_rank,
    ),
    _indicator(
        id="memorization_rank_generated",
        title="Tokens known by heart, written by the model itself",
        equation=r"\frac{1}{N} \sum_{j=M}^{M+N-1} [y_j = x_j]",
        meaning="Given the beginning of the answer, the share of the next tokens that the model writes just so by "
        "itself. Near 1 it knows the row by heart and learns nothing from it.",
        needs=CONTINUATIONS,
        params={"prompt_tokens": _PROMPT_TOKENS, "window": _WINDOW},
        compute=memorization_rank_generated,
    ),
)
