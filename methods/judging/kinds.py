"""What a judge is asked and what comes back, as plain frozen records: no prompt, no parser and no network here.

Here belong the shapes that all questions share. A `Question` says how rows become `Cell`s (one request each) and how an
`Answer` is read; asking and paying stand in ``resources/judge*.py``, and what the readings mean with the methods.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

OK = "ok"
PARSE_ERROR, REFUSED, API_ERROR, TRUNCATED = "parse_error", "refused", "api_error", "truncated"
FAILED = (PARSE_ERROR, REFUSED, API_ERROR, TRUNCATED)
"""A cell with one of these has no value, and is asked again the next time, alone."""
NOT_ASKED = "not_asked"
"""The budget ended before this cell; nothing was paid for it."""
PENDING = "pending"
"""Handed in with a batch of the provider whose answers are not there yet."""


@dataclass(frozen=True)
class Cell:
    """One request to a judge."""

    row_id: str
    part: str
    """Which of the row's requests this is: ``""`` where there is one, else a dimension, a turn, a sample."""
    messages: tuple[tuple[str, str], ...]
    """(role, content), roles ``system``, ``user``, ``assistant``."""
    max_tokens: int = 256
    temperature: float = 0.0
    repeat: int = 0
    """The how-manieth time the same is asked."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer, for endpoints that hold a model to one."""
    choices: tuple[str, ...] = ()
    """Words whose log-probabilities at the first token of the answer are wanted."""

    def key(self, model: Mapping[str, Any]) -> str:
        """What the answer hangs on and nothing else: the model, every word that it reads, and how it is asked.

        The row is in it by its content, so the same text in another source is not asked again.
        """
        said = [dict(model), self.messages, self.max_tokens, self.temperature, self.repeat, self.schema, self.choices]
        return hashlib.blake2b(
            json.dumps(said, sort_keys=True, ensure_ascii=False).encode(), digest_size=16
        ).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a judge said to a cell, as it came."""

    status: str
    """``ok``: there is a text; else why there is none (`FAILED`, `NOT_ASKED`, `PENDING`)."""
    text: str = ""
    logprobs: Mapping[str, float] = field(default_factory=dict)
    """ln p of each of the cell's choices at the first token, of those that the endpoint named."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Reading:
    """What an answer says."""

    status: str
    value: float | None = None
    """The number asked for; None where the question has none, and wherever the status is not ``ok``."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that was read from it, as plain data: dimensions, labels, an explanation."""


@dataclass(frozen=True)
class Question:
    """A question to a judge about rows: its table is ``evidence/judgments_<id>``, one line a row."""

    id: str
    title: str
    prompts: tuple[str, ...]
    """Names of its prompt files, version and all (``alpagasus.v1``); their contents are part of the fingerprint."""
    paper: str
    meaning: str
    """What is asked, in a sentence or two."""
    cells: Callable[..., list[Cell]]
    """``cells(rows, **params)``: the requests about some rows (``row_id, source, messages, instruction, input,
    response, turns``), a row's next to each other. A row that cannot be asked about has none."""
    read: Callable[..., Reading]
    """``read(answer, cell, **params)`` of an answer whose status is ``ok``."""
    params: Mapping[str, Any] = field(default_factory=dict)
    from_start: bool = False
    """What is read stands at the beginning of an answer: one whose end was cut is read all the same."""
    version: str = "1"
    """Raised when readings change; answers stay what they were and are read again."""

    def reading(self, answer: Answer, cell: Cell, **params: Any) -> Reading:
        """What an answer says, or why it says nothing."""
        readable = answer.status == OK or (self.from_start and answer.status == TRUNCATED and answer.text)
        return self.read(answer, cell, **params) if readable else Reading(answer.status)


JUDGMENTS_SCHEMA = pl.Schema(
    {
        "row_id": pl.String(),
        "status": pl.String(),  # ok if every part is; else the first status that is not; empty_response where not asked
        "parts": pl.List(pl.String()),
        "values": pl.List(pl.Float64()),  # null where a part has no value
        "statuses": pl.List(pl.String()),
        "fields": pl.List(pl.String()),  # JSON objects
        "answers": pl.List(pl.String()),  # as they came
    }
)
"""One line a row: its cells in their order."""


def gathered(
    row_ids: Sequence[str],
    cells: Sequence[Cell],
    answers: Sequence[Answer],
    read: Callable[[Answer, Cell], Reading],
    excused: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """`JUDGMENTS_SCHEMA`, one line for each of ``row_ids``.

    ``read`` is `Question.reading`. A row without a cell has the status that it is ``excused`` by (what it would be
    asked about is not there, and why), or else ``empty_response``.
    """
    lines: dict[str, list[tuple[str, float | None, str, str, str]]] = {row_id: [] for row_id in row_ids}
    for cell, answer in zip(cells, answers, strict=True):
        got = read(answer, cell)
        value = got.value if got.status == OK else None
        told = json.dumps(dict(got.fields), ensure_ascii=False, sort_keys=True)
        lines[cell.row_id].append((cell.part, value, got.status, told, answer.text))
    rows = []
    for row_id, line in lines.items():
        statuses = [status for _, _, status, _, _ in line]
        why = (excused or {}).get(row_id, "empty_response")
        status = next((s for s in statuses if s != OK), OK) if statuses else why
        parts, values, _, fields, texts = zip(*line, strict=True) if line else ((), (), (), (), ())
        rows.append((row_id, status, list(parts), list(values), statuses, list(fields), list(texts)))
    return pl.DataFrame(rows, schema=JUDGMENTS_SCHEMA, orient="row")
