"""What the questions share: rows become requests, and readings say how they were come by.

Here belongs the making of a cell out of a prompt and a row, the names of its parts, and the reading of a score. What is
asked stands in `scores`, `labels` and `evolved`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp
from typing import Any

import polars as pl

from methods.judging import parsers, wrapping
from methods.judging.kinds import OK, TRUNCATED, Answer, Cell, Reading
from methods.judging.prompts import Prompt
from methods.judging.wrapping import Section

AGAIN = "~"
"""Stands in a part's name before the how-manieth time it was asked: ``accuracy``, ``accuracy~2``, ``accuracy~3``."""
LEAST_MASS = 0.5
"""Chances of the score words are used only if together they have so much: else the answer begins with another word."""


def answered_rows(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows that have an instruction and a response; no others can be judged as a whole."""
    for row in asking_rows(rows):
        if (row["response"] or "").strip():
            yield row


def asking_rows(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows that ask something."""
    for row in rows.iter_rows(named=True):
        if ((row["instruction"] or "") + (row["input"] or "")).strip():
            yield row


def cell(prompt: Prompt, row_id: str, part: str, shown: Sequence[Section], longest: int, **more: Any) -> Cell:
    """One request. ``more`` fills the prompt's places, and those of its names that `Cell` has go there."""
    of_cell = {name: more.pop(name) for name in list(more) if name in Cell.__dataclass_fields__}
    messages = prompt.fill(material=wrapping.material(shown, longest).text, **more)
    return Cell(row_id, part, messages, **of_cell)


def repeated(cells: Sequence[Cell], repeats: int) -> list[Cell]:
    """Each of these cells as often as wanted, the repeats of one next to each other."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    return [
        replace(one, repeat=k, part=f"{one.part}{AGAIN}{k + 1}" if k else one.part)
        for one in cells
        for k in range(repeats)
    ]


def base(part: str) -> str:
    """The name of a part without the how-manieth time it was asked."""
    name, again, count = part.rpartition(AGAIN)
    return name if again and count.isdecimal() else part


def score_words(low: int, high: int) -> tuple[str, ...]:
    """The whole numbers of a range as a judge writes them."""
    if low >= high:
        raise ValueError(f"a score needs a range, got {low} to {high}")
    return tuple(str(score) for score in range(low, high + 1))


def read_score(answer: Answer, asked: Cell, low: float, high: float, expected: bool = False) -> Reading:
    """The score that an answer begins with. With ``expected`` it is the mean of the score words under their chances at
    the first token; where the endpoint gives none, or they are unlikely, it is the text's, and the fields say so."""
    read = parsers.first_line_score(answer.text, low, high, material=wrapping.inside(asked))
    if read.status == OK and answer.status == TRUNCATED and "\n" not in answer.text.strip():
        return Reading(TRUNCATED)  # "4" may be the beginning of "4.5"
    if expected:
        read = _expected(answer, asked, read)
    return noted(asked, read)


def _expected(answer: Answer, asked: Cell, text: Reading) -> Reading:
    mass = sum(exp(min(chance, 0.0)) for chance in answer.logprobs.values())
    value = parsers.expected_score(answer.logprobs, {word: float(word) for word in asked.choices})
    if value is None or mass < LEAST_MASS or text.status != OK:
        return replace(text, fields={**text.fields, "read_from": "text"}) if text.status == OK else text
    return Reading(OK, value, {"read_from": "logprobs", "said": text.value})


def noted(asked: Cell, read: Reading) -> Reading:
    """The reading, with the field ``left_out`` where the judge did not see all characters of the row."""
    gone = wrapping.left_out(asked)
    return replace(read, fields={**read.fields, "left_out": gone}) if gone else read


def object_schema(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON schema of an object that has exactly these parts."""
    return {"type": "object", "properties": dict(parts), "required": list(parts), "additionalProperties": False}


def whole_numbers(names: Sequence[str], low: int, high: int) -> dict[str, Any]:
    """The JSON schema of an object with a whole number under each name."""
    return object_schema({name: {"type": "integer", "minimum": low, "maximum": high} for name in names})


Show = Callable[[Mapping[str, Any]], list[Section]]
"""What a judge is shown of a row."""
