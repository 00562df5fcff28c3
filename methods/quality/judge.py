"""What a judge's scores say of a row (survey 3.3): numbers read off the tables ``evidence/judgments_<question>``.

Here belong the indicators; what is asked, in which words, and how an answer is read stands in `methods.judging`, the
indicators of DEITA in `judge_deita`, labels that are no numbers in `judged_tags`. Nobody is asked here.

A value that the judge did not give is null, with the status of its answer: `parse_error` (it could not be read),
`refused`, `api_error`, `truncated` (the answer was cut off), `not_asked` (the budget ended, or nobody asked),
`pending` (handed in with a batch). Of several requests about a row that belong together all must be answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from methods.judging.asking import base
from methods.judging.kinds import NOT_ASKED
from methods.judging.scores import LIFT_DIMENSIONS
from methods.kinds import OK, Indicator, Pool, statused

OTHER_DIMENSION, ONE_SAMPLE = "other_dimension", "one_sample"

Part = tuple[str, float | None, str, str]
"""A cell of a row: its part, value, status and fields."""


def cells_of(block: pl.DataFrame, suffix: str = "") -> Iterator[tuple[str, list[Part]]]:
    """The status and the cells of each row of `JUDGMENTS_SCHEMA`."""
    lists = [f"{name}{suffix}" for name in ("parts", "values", "statuses", "fields")]
    for status, *columns in block.select("status", *lists).iter_rows():
        cells = list(zip(*(column or () for column in columns), strict=True))
        yield status or NOT_ASKED, cells


def failed(cells: list[Part]) -> str | None:
    """The first status that is not ok."""
    return next((status for _, _, status, _ in cells if status != OK), None)


def means(block: pl.DataFrame, name: str | None = None) -> pl.DataFrame:
    """The mean over the cells of a row (of one part and its repeats, where ``name`` is given)."""
    values, told = [], []
    for status, all_cells in cells_of(block):
        cells = [cell for cell in all_cells if name is None or base(cell[0]) == name]
        if not all_cells:
            said = status if status != OK else NOT_ASKED
        else:
            said = (failed(cells) or OK) if cells else OTHER_DIMENSION
        told.append(said)
        values.append(_mean(cells) if said == OK else None)
    return statused(values, told)


def _mean(cells: list[Part]) -> float | None:
    scores = [value for _, value, *_ in cells if value is not None]
    return sum(scores) / len(scores) if len(scores) == len(cells) else None


# --- AlpaGasus, Humpback, difficulty, level, any criterion ------------------------------------------------------------
def alpagasus_score(block: pl.DataFrame, dimension: str = "accuracy") -> pl.DataFrame:
    """How accurate a judge finds the response to the instruction, on a scale from 0 to 5.

    Equation: G(x, p), what the judge G answers to the prompt p about the row x (Eq. 18). "4.5 because ..." with the
    number alone on the first line is 4.5; "Score: 3" is 3.

    Direction: higher. The paper keeps 4.5 and above, which is a gate of the recipe and not of the indicator.

    Parameters: `dimension` is the word that was asked about: `accuracy` (the paper's filter) or any other that the
    question was given, such as `helpfulness`.

    Statuses: `other_dimension` (the judge was not asked about this one); `empty_response`, `parse_error`, `refused`,
    `api_error`, `truncated`, `not_asked`, `pending`.

    Source: Chen et al. 2023, AlpaGasus (arXiv 2307.08701).

    Departures: the survey reads as if two dimensions were combined; the paper filters by one, so each is a number of
    its own. The authors' code writes -1 where it cannot read an answer, and reads only one character behind `Score:`;
    here such a row has no value, and the whole number is read. The wording of the prompt is ours. Of repeats the mean
    is taken. Judges of another model, or other words, give other numbers: do not mix them. Weak on rows of code.
    """
    return means(block, dimension)


def humpback_score(block: pl.DataFrame) -> pl.DataFrame:
    """How good an example of an assistant's answer a judge finds the response, in five grades, after giving reasons.

    Equation: the k of the last line `Score: k`, k = 1 ... 5.

    Direction: higher. The paper keeps 5 (or 4 and above) and instructions of 10 to 800 characters, which are gates of
    a recipe.

    Statuses: `parse_error` (the last line is no `Score: k`; 50 is not 5); `empty_response`, `refused`, `api_error`,
    `truncated`, `not_asked`, `pending`.

    Source: Li et al. 2023, Self-Alignment with Instruction Backtranslation (arXiv 2308.06259).

    Departures: the paper asks its own model, tuned on seed data, in two rounds; here whatever judge is set is asked
    once. The grades are worded anew. Of repeats the mean is taken.
    """
    return means(block)


def judge_difficulty(block: pl.DataFrame) -> pl.DataFrame:
    """How hard a judge finds it to do what the instruction asks, from 1 (anybody could) to 5 (few specialists could).

    Equation: G(x, p) (Eq. 18).

    Direction: band; too easy teaches little, too hard may not be learnable.

    Statuses: `empty_response` (nothing is asked); `parse_error`, `refused`, `api_error`, `truncated`, `not_asked`,
    `pending`.

    Source: in the manner of the complexity of Lu et al. 2023, InsTag (arXiv 2308.07074); wording and scale are ours.
    """
    return means(block)


def judge_education_level(block: pl.DataFrame) -> pl.DataFrame:
    """The lowest level of education at which somebody could follow the row, as a number from 1 up.

    Equation: the place of the chosen level in the list that was offered: 1 primary school, 2 middle school, 3 high
    school, 4 undergraduate, 5 graduate, 6 expert. The word itself stands in the table's fields.

    Direction: band; neither end is good by itself.

    Statuses: `parse_error` (also a level that was not offered); `empty_response`, `refused`, `api_error`, `truncated`,
    `not_asked`, `pending`.

    Source: in the manner of FineWeb-Edu (Penedo et al. 2024, arXiv 2406.17557); the scale is ours.
    """
    return means(block)


def rubric_score(block: pl.DataFrame) -> pl.DataFrame:
    """How well a judge finds that the row meets a criterion in the user's own words.

    Equation: G(x, p), the criterion being part of p (Eq. 18).

    Direction: higher; word the criterion so that more of it is better.

    Statuses: `empty_response`, `parse_error`, `refused`, `api_error`, `truncated`, `not_asked`, `pending`.

    Source: the survey's general form of a score by a judge (Qin et al. 2024, arXiv 2408.02085). Of repeats the mean is
    taken.
    """
    return means(block)


def judge_agreement(block: pl.DataFrame, dimension: str = "accuracy") -> pl.DataFrame:
    """How often a judge that is asked the same several times gives the same score: AlpaGasus' question.

    Equation: share of the pairs of repeats whose scores are equal; 1 where all are, 0 where no two are. Three scores
    4, 4, 5 give 1/3.

    Direction: higher; a low value says that the row's score is worth little.

    Parameters: `dimension` is the word that was asked about.

    Statuses: `one_sample` (asked only once: set the question's `repeats`, and a temperature above 0);
    `other_dimension`; `empty_response`, `parse_error`, `refused`, `api_error`, `truncated`, `not_asked`, `pending`.

    Source: self-consistency as in Chen & Mueller 2023 (arXiv 2308.16175), on scores instead of texts.
    """
    return _agreement(block, dimension)


def rubric_agreement(block: pl.DataFrame) -> pl.DataFrame:
    """How often a judge that is asked the same several times gives the same score: the criterion's question.

    Equation: share of the pairs of repeats whose scores are equal.

    Direction: higher; a low value says that the row's score is worth little.

    Statuses: `one_sample` (asked only once: set the question's `repeats`, and a temperature above 0);
    `empty_response`, `parse_error`, `refused`, `api_error`, `truncated`, `not_asked`, `pending`.

    Source: self-consistency as in Chen & Mueller 2023 (arXiv 2308.16175), on scores instead of texts.
    """
    return _agreement(block)


def _agreement(block: pl.DataFrame, name: str | None = None) -> pl.DataFrame:
    mean = means(block, name)
    values, told = [], []
    for status, (_, all_cells) in zip(mean["status"], cells_of(block), strict=True):
        scores = [value for part, value, *_ in all_cells if name is None or base(part) == name]
        pairs = len(scores) * (len(scores) - 1) // 2
        equal = sum(one == other for at, one in enumerate(scores) for other in scores[:at])
        told.append(ONE_SAMPLE if status == OK and not pairs else status)
        values.append(equal / pairs if pairs else None)
    return statused(values, told)


# --- LIFT ------------------------------------------------------------------------------------------------------------
def lift(
    block: pl.DataFrame,
    accuracy: float = 1.0,
    explanation: float = 1.0,
    clarity: float = 1.0,
    difficulty: float = 1.0,
) -> pl.DataFrame:
    """A judge's four marks in one: is the response right, does it explain, is it clear, is the task demanding.

    Equation: sum_d w_d m_d / sum_d w_d, m_d from 1 to 5. Marks 4, 3, 5, 2 with equal weights give 3.5.

    Direction: higher.

    Parameters: `accuracy`, `explanation`, `clarity` and `difficulty` are the weights w_d; the paper prints none, so
    all are 1.

    Statuses: `parse_error` (also where one mark is missing or out of range); `empty_response`, `refused`, `api_error`,
    `truncated`, `not_asked`, `pending`.

    Source: Xu et al. 2023, LIFT (arXiv 2312.11508).

    Departures: this is the score of the paper's last stage only. Its rewriting of rows by a judge is no indicator, its
    choice by variety is `pca_row_variance`. What the paper adds for length is in `lift_length`.
    """
    weights = dict(zip(LIFT_DIMENSIONS, (accuracy, explanation, clarity, difficulty), strict=True))
    _check_weights(weights)
    values, told = [], []
    for status, cells in cells_of(block):
        said = (failed(cells) or OK) if cells else (status if status != OK else NOT_ASKED)
        told.append(said)
        marks = json.loads(cells[0][3]) if said == OK else {}
        values.append(_weighted(marks, weights))
    return statused(values, told)


def _check_weights(weights: Mapping[str, float]) -> None:
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights.values()) or not sum(weights.values()) > 0:
        raise ValueError(f"the weights must not be negative, and one must be above 0; got {dict(weights)}")


def _weighted(marks: Mapping[str, Any], weights: Mapping[str, float]) -> float | None:
    if any(marks.get(name) is None for name in weights):
        return None
    return sum(weight * marks[name] for name, weight in weights.items()) / sum(weights.values())


LIFT_TABLE = "evidence/judgments_lift"


def lift_length(
    pool: Pool,
    accuracy: float = 1.0,
    explanation: float = 1.0,
    clarity: float = 1.0,
    difficulty: float = 1.0,
    length: float = 1.0,
) -> pl.DataFrame:
    """LIFT's rank: a judge's four marks, and something for the length of the response within its pool.

    Equation: `lift` + w (n - mean n) / sd n, n being the words of the response; mean and (population) standard
    deviation over the rows of the pool that have marks. All of one length: nothing is added.

    Direction: higher.

    Parameters: `accuracy`, `explanation`, `clarity` and `difficulty` are the weights of the marks; `length` is w, in
    marks for a standard deviation.

    Statuses: `no_words` (signs only); those of `lift`.

    Source: Xu et al. 2023, LIFT (arXiv 2312.11508).

    Departures: the paper speaks of a semantic score of length and prints no formula; a z-score is the plain reading.
    Long answers win favour with judges anyway: `length` 0 gives `lift`.
    """
    if pool.counts is None or LIFT_TABLE not in pool.tables:
        raise ValueError(f"lift_length reads {LIFT_TABLE} and text counts, and this pool has not both")
    table = pool.tables[LIFT_TABLE].select("status", "parts", "values", "statuses", "fields").collect()
    marks = lift(table, accuracy, explanation, clarity, difficulty)
    words = pool.counts.select(pl.col("response_n_words").cast(pl.Float64)).collect().to_series()
    words = words.fill_null(0.0)
    status = marks["status"].zip_with((marks["status"] != OK) | (words > 0), pl.Series(["no_words"]))
    n, fine = words.to_numpy(), (status == OK).to_numpy()
    spread = float(n[fine].std()) if fine.any() else 0.0
    z = (n - n[fine].mean()) / spread if spread > 0 else np.zeros(len(n))
    return statused(marks["value"].fill_null(np.nan).to_numpy() + length * z, status)


def indicator_of(question: str, **said: Any) -> Indicator:
    """An indicator that reads one question's table."""
    kind = {"axis": "quality", "family": "judge", "section": "3.3", "cost": "llm"}
    return Indicator(**{**kind, "needs": (f"evidence/judgments_{question}",), **said})


_GASUS = "Chen et al. 2023, AlpaGasus, arXiv 2307.08701"
_LIFT = "Xu et al. 2023, LIFT, arXiv 2312.11508"
_WEIGHTS = dict.fromkeys(LIFT_DIMENSIONS, 1.0)

INDICATORS = (
    indicator_of(
        "alpagasus",
        id="alpagasus_score",
        title="AlpaGasus: mark for a response",
        equation=r"G(x, p_{dim})",
        paper=_GASUS,
        meaning="Near 5 the judge finds the answer accurate (or whatever it was asked about), near 0 it finds it "
        "worthless.",
        params={"dimension": "accuracy"},
        compute=alpagasus_score,
    ),
    indicator_of(
        "lift",
        id="lift",
        title="LIFT: four marks in one",
        equation=r"\frac{\sum_d w_d m_d}{\sum_d w_d}",
        paper=_LIFT,
        meaning="High: the judge finds the answer right, explained and clear, and the task worth learning from.",
        params=_WEIGHTS,
        compute=lift,
    ),
    indicator_of(
        "lift",
        id="lift_length",
        title="LIFT with length",
        equation=r"LIFT(x) + w \frac{n - \bar n}{\sigma_n}",
        paper=_LIFT,
        meaning="High: the judge gives good marks, and the answer is long for this pool.",
        needs=(LIFT_TABLE, "evidence/text_counts"),
        params={**_WEIGHTS, "length": 1.0},
        scope="pool",
        compute=lift_length,
    ),
    indicator_of(
        "humpback",
        id="humpback_score",
        title="Humpback: grade as an example",
        equation=r"k \in \{1, \dots, 5\}",
        paper="Li et al. 2023, Self-Alignment with Instruction Backtranslation, arXiv 2308.06259",
        meaning="5: the judge finds that an expert assistant could have written the answer; 1: it is unfinished or "
        "beside the point.",
        compute=humpback_score,
    ),
    indicator_of(
        "difficulty",
        id="judge_difficulty",
        title="Difficulty by a judge",
        equation=r"G(x, p)",
        paper="In the manner of Lu et al. 2023, InsTag, arXiv 2308.07074",
        meaning="1: anybody could do what is asked; 5: few specialists could.",
        direction="band",
        compute=judge_difficulty,
    ),
    indicator_of(
        "education_level",
        id="judge_education_level",
        title="Level of education by a judge",
        equation=r"k \in \{1, \dots, 6\}",
        paper="In the manner of FineWeb-Edu, Penedo et al. 2024, arXiv 2406.17557",
        meaning="1: a pupil of a primary school could follow the row; 6: only an expert could.",
        direction="band",
        compute=judge_education_level,
    ),
    indicator_of(
        "rubric",
        id="rubric_score",
        title="A criterion in one's own words",
        equation=r"G(x, p_{criterion})",
        paper="Qin et al. 2024, arXiv 2408.02085",
        meaning="High: the judge finds that the row meets the criterion that you gave it.",
        compute=rubric_score,
    ),
    indicator_of(
        "alpagasus",
        id="judge_agreement",
        title="Agreement of a judge with itself",
        equation=r"\binom{n}{2}^{-1} \sum_{i<j} [s_i = s_j]",
        paper="In the manner of Chen & Mueller 2023, BSDetector, arXiv 2308.16175",
        meaning="1: asked often, the judge gives the row the same mark; near 0 its mark is a matter of chance.",
        params={"dimension": "accuracy"},
        compute=judge_agreement,
    ),
    indicator_of(
        "rubric",
        id="rubric_agreement",
        title="Agreement of a judge with itself on a criterion",
        equation=r"\binom{n}{2}^{-1} \sum_{i<j} [s_i = s_j]",
        paper="In the manner of Chen & Mueller 2023, BSDetector, arXiv 2308.16175",
        meaning="1: asked often, the judge gives the row the same mark; near 0 its mark is a matter of chance.",
        compute=rubric_agreement,
    ),
)
