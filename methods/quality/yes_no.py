"""A language model asked for yes or no (survey 3.3): no answer is written, the next token is read.

Here belong the questions and their wording, the shape of the answers that are stored (`YES_NO_SCHEMA`), and the
indicator that reads them. No model runs here; a judge that writes its verdict is another thing.

All logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, statused

YES_NO_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "row_id": pl.String,
        "status": pl.String,
        "logp_yes": pl.List(pl.Float64),
        "logp_no": pl.List(pl.Float64),
    }
)
"""One line a row, one value a question: ln p of the likeliest of `YES` and of `NO` at the first token of the answer;
null unless the status is ``ok``. Which questions were asked is said beside the table."""

QUESTIONS = (
    "Does the text reason with mathematics: does it calculate, derive or prove something?",
    "Would the text help somebody who is learning mathematics?",
)
"""The two that are asked unless a person gives others; they are about mathematics, as in the paper."""

YES, NO = ("Yes", "YES", " Yes", " YES"), ("No", "NO", " No", " NO")
"""Ways to write the answer; one that is not a single token of the model's vocabulary is left out."""
WORDS = (*YES, *NO)

UNSEEN = -100.0
"""Stands for ln p of an answer that none of these ways can write."""

_ASKED = """Here is a text.

<text>
{text}
</text>

Question: {question} Reply with Yes or No.
Answer:"""


def yes_no_prompts(text: str, questions: Sequence[str] = QUESTIONS, longest: int = 4096) -> list[str]:
    """One prompt a question about the first ``longest`` characters of a text; the next token is the answer."""
    before, behind = _ASKED.split("{text}")
    return [before + text[:longest] + behind.replace("{question}", question) for question in questions]


def checked(questions: Any) -> list[str]:
    """The questions as a list; a single text is one question, and anything else is refused."""
    found = [questions] if isinstance(questions, str) else questions
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError(f'questions must be a list of texts, e.g. ["Is the text about law?"]; got {questions!r}')
    return list(found)


def answered(rows: pl.DataFrame, n_questions: int, logp: np.ndarray, status: Sequence[str]) -> pl.DataFrame:
    """`YES_NO_SCHEMA` of some rows (``row_id, response``) from the answers to their prompts, question by question.

    ``logp`` (rows x questions, `WORDS`) is NaN where a word cannot be written, ``status`` tells for each prompt whether
    it was read. Of several ways to write an answer the likeliest counts. A row without a response is not judged, and
    one of whose prompts any could not be read has that prompt's status.
    """
    sides = np.split(np.where(np.isnan(logp), UNSEEN, logp), [len(YES)], axis=1)
    yes, no = (
        pl.Series(side.max(axis=1).reshape(rows.height, n_questions).tolist(), dtype=pl.List(pl.Float64))
        for side in sides
    )
    asked = np.array(status, dtype=object).reshape(rows.height, n_questions)
    unread = [next((one for one in line if one != OK), OK) for line in asked]
    mute = (rows["response"].str.strip_chars() == "").to_list()
    said = ["empty_response" if empty else other for empty, other in zip(mute, unread, strict=True)]
    table = pl.DataFrame({"row_id": rows["row_id"], "status": said, "logp_yes": yes, "logp_no": no})
    fine = pl.col("status") == OK
    found = table.with_columns(pl.when(fine).then("logp_yes"), pl.when(fine).then("logp_no"))
    return found.cast(pl.Schema(dict(YES_NO_SCHEMA)))


def autods_lm_score(block: pl.DataFrame, questions: Sequence[str] = QUESTIONS) -> pl.DataFrame:
    """How sure a model is that every question about the text is to be answered with yes.

    Equation: prod_q p_q with p_q = e^yes / (e^yes + e^no), yes and no being the ln p of the answers (Eq. 18). ln p of
    (yes, no) = (-.1, -2.5), (-.5, -1.0) gives .570688. Between 0 and 1.

    Direction: higher; the paper cuts at .5, .6, .7 or .8.

    Parameters: `questions` are what is asked about the row's prompt and response; yes to each is good. They are asked
    when the evidence is gathered: other questions gather it anew.

    Statuses: `no_question` (none was asked); `no_answer` (neither yes nor no can be written by the model, for some
    question); `uneven_answers` (not as many no as yes); any status of the model's pass.

    Source: Zhang et al. 2024, AutoMathText (arXiv 2402.07625).

    Departures: the survey lists it among judges that are called over a network; it is read off a base model's next
    token. The wording is ours. Each question is asked by itself and not behind the answer to the one before, so no
    answer sways another. The default questions are about mathematics as in the paper: give others for other data.
    A product falls with every question: scores are comparable only where the same questions were asked.
    """
    asked, answered = (pl.col(name).list.len().fill_null(0) for name in ("logp_yes", "logp_no"))
    status = block.select(
        pl.when(pl.col("status") != OK)
        .then("status")
        .when(asked != answered)
        .then(pl.lit("uneven_answers"))
        .when(asked == 0)
        .then(pl.lit("no_question"))
        .otherwise(pl.lit(OK))
        .alias("status")
    ).to_series()
    of, yes = _flat(block.select(pl.when(status == OK).then("logp_yes")).to_series())
    _, no = _flat(block.select(pl.when(status == OK).then("logp_no")).to_series())
    mute = np.bincount(of, weights=np.maximum(yes, no) <= UNSEEN, minlength=block.height) > 0
    with np.errstate(invalid="ignore"):  # a missing value makes its row not finite
        score = np.exp(np.bincount(of, weights=-np.logaddexp(0.0, no - yes), minlength=block.height))
    return statused(score, status.zip_with(~pl.Series(mute), pl.Series(["no_answer"])))


def _flat(lists: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """The row of each value and the values of a column of lists; a missing value is NaN."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    values = lists.explode(empty_as_null=False, keep_nulls=False).cast(pl.Float64).fill_null(np.nan)
    return np.repeat(np.arange(len(lists)), lengths), values.to_numpy()


INDICATORS = (
    Indicator(
        id="autods_lm_score",
        title="Questions answered with yes",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"\prod_q \frac{e^{yes_q}}{e^{yes_q} + e^{no_q}}",
        paper="Zhang et al. 2024, Autonomous Data Selection (AutoMathText), arXiv 2402.07625",
        meaning="Near 1 the model would say yes to every question that it was asked about the text; near 0 it would "
        "say no to at least one.",
        needs=("evidence/yes_no",),
        cost="gpu",
        params={"questions": QUESTIONS},
        direction="higher",
        compute=autods_lm_score,
    ),
)
