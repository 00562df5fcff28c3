"""Questions whose answer is a score: AlpaGasus, LIFT, Humpback, difficulty, and any criterion in a user's own words.

Here belong who is asked what of a row, and how the answer is read; the words stand in the prompt files, and what the
scores mean in `methods.quality.judge`.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from methods.judging import parsers, prompts, wrapping
from methods.judging.asking import (
    answered_rows,
    asking_rows,
    cell,
    noted,
    read_score,
    repeated,
    score_words,
    whole_numbers,
)
from methods.judging.kinds import Answer, Cell, Question, Reading

LIFT_DIMENSIONS = ("accuracy", "explanation", "clarity", "difficulty")


# --- AlpaGasus -------------------------------------------------------------------------------------------------------
def alpagasus_cells(
    rows: pl.DataFrame,
    dimensions: Sequence[str] = ("accuracy",),
    expected: bool = False,
    repeats: int = 1,
    temperature: float = 0.0,
    longest: int = wrapping.LONGEST,
) -> list[Cell]:
    """A request for each dimension of each row; a single word is one dimension."""
    prompt = prompts.load("alpagasus.v1")
    wanted = [dimensions] if isinstance(dimensions, str) else list(dict.fromkeys(dimensions))
    choices = score_words(0, 5) if expected else ()
    more = {"choices": choices, "temperature": temperature, "max_tokens": 256}
    cells = [
        cell(prompt, row["row_id"], dimension, wrapping.sections(row), longest, dimension=dimension, **more)
        for row in answered_rows(rows)
        for dimension in wanted
    ]
    return repeated(cells, repeats)


def alpagasus_read(
    answer: Answer,
    asked: Cell,
    dimensions: Sequence[str] = ("accuracy",),
    expected: bool = False,
    repeats: int = 1,
    temperature: float = 0.0,
    longest: int = wrapping.LONGEST,
) -> Reading:
    """0 to 5 on the first line."""
    return read_score(answer, asked, 0, 5, expected)


# --- LIFT ------------------------------------------------------------------------------------------------------------
def lift_cells(rows: pl.DataFrame, longest: int = wrapping.LONGEST) -> list[Cell]:
    """One request a row for all four dimensions."""
    prompt = prompts.load("lift.v1")
    schema = whole_numbers(LIFT_DIMENSIONS, 1, 5)
    return [
        cell(prompt, row["row_id"], "", wrapping.sections(row), longest, schema=schema, max_tokens=128)
        for row in answered_rows(rows)
    ]


def lift_read(answer: Answer, asked: Cell, longest: int = wrapping.LONGEST) -> Reading:
    """The four dimensions, 1 to 5, as fields; there is no value, for their weights are the indicator's."""
    return noted(asked, parsers.json_scores(answer.text, LIFT_DIMENSIONS, 1, 5, material=wrapping.inside(asked)))


# --- Humpback --------------------------------------------------------------------------------------------------------
def humpback_cells(
    rows: pl.DataFrame, repeats: int = 1, temperature: float = 0.0, longest: int = wrapping.LONGEST
) -> list[Cell]:
    """One request a row; the reasons come first, so there is room for them."""
    prompt = prompts.load("humpback.v1")
    cells = [
        cell(prompt, row["row_id"], "", wrapping.sections(row), longest, max_tokens=512, temperature=temperature)
        for row in answered_rows(rows)
    ]
    return repeated(cells, repeats)


def humpback_read(
    answer: Answer, asked: Cell, repeats: int = 1, temperature: float = 0.0, longest: int = wrapping.LONGEST
) -> Reading:
    """1 to 5 on the last line, whole."""
    return noted(asked, parsers.last_line_score(answer.text, 1, 5, material=wrapping.inside(asked)))


# --- difficulty ------------------------------------------------------------------------------------------------------
def difficulty_cells(
    rows: pl.DataFrame,
    expected: bool = False,
    repeats: int = 1,
    temperature: float = 0.0,
    longest: int = wrapping.LONGEST,
) -> list[Cell]:
    """One request a row; what was answered is not shown."""
    prompt = prompts.load("difficulty.v1")
    more = {"choices": score_words(1, 5) if expected else (), "temperature": temperature, "max_tokens": 96}
    cells = [cell(prompt, row["row_id"], "", wrapping.asked(row), longest, **more) for row in asking_rows(rows)]
    return repeated(cells, repeats)


def difficulty_read(
    answer: Answer,
    asked: Cell,
    expected: bool = False,
    repeats: int = 1,
    temperature: float = 0.0,
    longest: int = wrapping.LONGEST,
) -> Reading:
    """1 to 5 on the first line."""
    return read_score(answer, asked, 1, 5, expected)


# --- any criterion ---------------------------------------------------------------------------------------------------
CRITERION = "The response does what the instruction asks, is right, and leaves nothing out that the user needs."


def rubric_cells(
    rows: pl.DataFrame,
    criterion: str = CRITERION,
    low: int = 1,
    high: int = 5,
    expected: bool = False,
    repeats: int = 1,
    temperature: float = 0.0,
    longest: int = wrapping.LONGEST,
) -> list[Cell]:
    """One request a row about a criterion in the user's own words."""
    if not criterion.strip():
        raise ValueError("the question rubric needs a criterion: a sentence that says when a row is good")
    prompt, words = prompts.load("rubric.v1"), score_words(low, high)
    more = {"choices": words if expected else (), "temperature": temperature, "max_tokens": 256}
    more |= {"criterion": criterion.strip(), "low": low, "high": high}
    cells = [cell(prompt, row["row_id"], "", wrapping.sections(row), longest, **more) for row in answered_rows(rows)]
    return repeated(cells, repeats)


def rubric_read(
    answer: Answer,
    asked: Cell,
    criterion: str = CRITERION,
    low: int = 1,
    high: int = 5,
    expected: bool = False,
    repeats: int = 1,
    temperature: float = 0.0,
    longest: int = wrapping.LONGEST,
) -> Reading:
    """A number of the range on the first line."""
    return read_score(answer, asked, low, high, expected)


_SAMPLED = {"repeats": 1, "temperature": 0.0, "longest": wrapping.LONGEST}

QUESTIONS = (
    Question(
        id="alpagasus",
        title="AlpaGasus: how good a response is",
        prompts=("alpagasus.v1",),
        paper="Chen et al. 2023, AlpaGasus, arXiv 2307.08701",
        meaning="How accurate (or helpful, or whatever word is given) the response to the instruction is, from 0 to 5.",
        cells=alpagasus_cells,
        read=alpagasus_read,
        params={"dimensions": ("accuracy",), "expected": False, **_SAMPLED},
        from_start=True,
    ),
    Question(
        id="lift",
        title="LIFT: accuracy, explanation, clarity, difficulty",
        prompts=("lift.v1",),
        paper="Xu et al. 2023, LIFT, arXiv 2312.11508",
        meaning="Four marks from 1 to 5: is the response right, does it explain, is it clear, is the task demanding.",
        cells=lift_cells,
        read=lift_read,
        params={"longest": wrapping.LONGEST},
    ),
    Question(
        id="humpback",
        title="Humpback: would an expert assistant have answered so",
        prompts=("humpback.v1",),
        paper="Li et al. 2023, Self-Alignment with Instruction Backtranslation, arXiv 2308.06259",
        meaning="A mark from 1 (beside the point or unfinished) to 5 (an expert's answer without a needless sentence), "
        "given after the reasons.",
        cells=humpback_cells,
        read=humpback_read,
        params=dict(_SAMPLED),
    ),
    Question(
        id="difficulty",
        title="Difficulty of the instruction",
        prompts=("difficulty.v1",),
        paper="In the manner of Lu et al. 2023, InsTag, arXiv 2308.07074; wording and scale are ours",
        meaning="How hard it is to do what the instruction asks, from 1 (anybody could) to 5 (few experts could).",
        cells=difficulty_cells,
        read=difficulty_read,
        params={"expected": False, **_SAMPLED},
        from_start=True,
    ),
    Question(
        id="rubric",
        title="A criterion in one's own words",
        prompts=("rubric.v1",),
        paper="Survey, Eq. 18 (Qin et al. 2024, arXiv 2408.02085)",
        meaning="How well the row meets the criterion that was given, on the scale that was given.",
        cells=rubric_cells,
        read=rubric_read,
        params={"criterion": CRITERION, "low": 1, "high": 5, "expected": False, **_SAMPLED},
        from_start=True,
    ),
)
