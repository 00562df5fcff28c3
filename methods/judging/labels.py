"""Questions whose answer is a word: the level of education, the kind of task, the field of knowledge.

Here belong the words that may be chosen and the reading of one; the tags that a judge makes up freely, and their
tidying up, are a method of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from methods.judging import parsers, prompts, wrapping
from methods.judging.asking import Show, answered_rows, asking_rows, cell, noted, object_schema
from methods.judging.kinds import Answer, Cell, Question, Reading

LEVELS = ("primary school", "middle school", "high school", "undergraduate", "graduate", "expert")
"""From the lowest to the highest: the value is the place in this list, from 1."""
TASKS = (
    "question answering",
    "explanation",
    "writing",
    "rewriting",
    "summarization",
    "translation",
    "classification",
    "extraction",
    "reasoning",
    "mathematics",
    "coding",
    "advice",
    "conversation",
    "other",
)


def _label_cells(
    rows: pl.DataFrame, prompt: str, name: str, labels: Sequence[str], show: Show, whole: bool, longest: int
) -> list[Cell]:
    if len(set(labels)) < 2:
        raise ValueError(f"{name} needs at least two words to choose from, got {list(labels)}")
    schema = object_schema({name: {"type": "string", "enum": list(labels)}})
    told = "\n".join(f"- {label}" for label in labels)
    found = prompts.load(prompt)
    return [
        cell(found, row["row_id"], "", show(row), longest, labels=told, schema=schema, max_tokens=64)
        for row in (answered_rows if whole else asking_rows)(rows)
    ]


def _label(answer: Answer, asked: Cell, name: str, labels: Sequence[str]) -> Reading:
    return noted(asked, parsers.json_label(answer.text, name, labels, wrapping.inside(asked)))


def education_cells(rows: pl.DataFrame, levels: Sequence[str] = LEVELS, longest: int = wrapping.LONGEST) -> list[Cell]:
    """One request a row, shown with its response."""
    return _label_cells(rows, "education_level.v1", "level", levels, wrapping.sections, True, longest)


def education_read(
    answer: Answer, asked: Cell, levels: Sequence[str] = LEVELS, longest: int = wrapping.LONGEST
) -> Reading:
    """The place of the level, from 1; the word in the field ``level``."""
    return _label(answer, asked, "level", levels)


def task_cells(rows: pl.DataFrame, tasks: Sequence[str] = TASKS, longest: int = wrapping.LONGEST) -> list[Cell]:
    """One request a row; what was answered is not shown."""
    return _label_cells(rows, "task.v1", "task", tasks, wrapping.asked, False, longest)


def task_read(answer: Answer, asked: Cell, tasks: Sequence[str] = TASKS, longest: int = wrapping.LONGEST) -> Reading:
    """The word in the field ``task``; no value, for tasks have no order."""
    read = _label(answer, asked, "task", tasks)
    return Reading(read.status, None, read.fields)


def domain_cells(rows: pl.DataFrame, most: int = 3, longest: int = wrapping.LONGEST) -> list[Cell]:
    """One request a row; what was answered is not shown."""
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    words = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": most}
    more = {"schema": object_schema({"domains": words}), "most": most, "max_tokens": 96}
    prompt = prompts.load("domain.v1")
    return [cell(prompt, row["row_id"], "", wrapping.asked(row), longest, **more) for row in asking_rows(rows)]


def domain_read(answer: Answer, asked: Cell, most: int = 3, longest: int = wrapping.LONGEST) -> Reading:
    """One to ``most`` fields of knowledge, in lower case, in the field ``domains``; no value."""
    read = parsers.json_texts(answer.text, "domains", 1, most, wrapping.inside(asked))
    if "domains" in read.fields:
        words = list(dict.fromkeys(" ".join(word.split()).casefold()[:60] for word in read.fields["domains"]))
        read = Reading(read.status, None, {"domains": words})
    return noted(asked, read)


QUESTIONS = (
    Question(
        id="education_level",
        title="Level of education",
        prompts=("education_level.v1",),
        paper="In the manner of FineWeb-Edu (Penedo et al. 2024, arXiv 2406.17557); the scale is ours",
        meaning="The lowest level of education at which one could follow the row, chosen from a list.",
        cells=education_cells,
        read=education_read,
        params={"levels": LEVELS, "longest": wrapping.LONGEST},
    ),
    Question(
        id="task",
        title="Kind of task",
        prompts=("task.v1",),
        paper="In the manner of Lu et al. 2023, InsTag, arXiv 2308.07074, with a closed list",
        meaning="What the user wants done, chosen from a list of tasks.",
        cells=task_cells,
        read=task_read,
        params={"tasks": TASKS, "longest": wrapping.LONGEST},
    ),
    Question(
        id="domain",
        title="Field of knowledge",
        prompts=("domain.v1",),
        paper="In the manner of Lu et al. 2023, InsTag, arXiv 2308.07074",
        meaning="The fields of knowledge that the row belongs to, in the judge's own words.",
        cells=domain_cells,
        read=domain_read,
        params={"most": 3, "longest": wrapping.LONGEST},
    ),
)
