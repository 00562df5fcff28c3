"""What judging has cost, by question and model.

Here belongs reading the store's log of calls. It is written by `answers`; who asks within which limits is the business
of `judge`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAME = "judgments.sqlite"
"""The store of a home: answers were paid for, so they lie beside the lake, which can be made again without them."""


@dataclass(frozen=True)
class Line:
    """A line of the bill."""

    question: str
    """Empty: calls that never brought an answer."""
    model: str
    answers: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """In dollars; None where a call had no price."""


def store_path(home: Path) -> Path:
    """Where a home keeps the answers of its judges."""
    return home / NAME


def lines(path: Path) -> list[Line]:
    """What was paid, a line for each question and model."""
    if not path.is_file():
        return []
    with _reading(path) as db:
        found = db.execute(
            "SELECT COALESCE(a.question, ''), COALESCE(a.model, ''), COUNT(DISTINCT a.key), COUNT(*), "
            "SUM(c.prompt_tokens), SUM(c.completion_tokens), SUM(c.cost), "
            "SUM(c.outcome = 'answered' AND c.cost IS NULL) FROM calls c LEFT JOIN answers a ON a.key = c.key "
            "GROUP BY 1, 2 ORDER BY 1 = '', 1, 2"
        ).fetchall()
    return [
        Line(question, model, answers, calls, read, written, None if unpriced else float(cost or 0.0))
        for question, model, answers, calls, read, written, cost, unpriced in found
    ]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, timeout=60.0)
    try:
        yield db
    finally:
        db.close()
