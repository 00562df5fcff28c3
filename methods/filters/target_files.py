"""Test sets as they lie on disk: the questions of a benchmark, whatever it calls them.

Here belongs finding the question in a record of a test set (`read_items`). Finding the questions again in the training
data is `contamination`. Test sets are small, so a file is read whole, up to a stated size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from methods.readers import SourceError

MOST_BYTES = 256 * 1024 * 1024
QUESTION_KEYS = ("question", "prompt", "instruction", "text", "input", "problem", "query", "turns", "messages", "conversations")
"""The first of these that a record has, in any case of letters, is its question; ``input`` follows an ``instruction``."""


def read_items(path: Path) -> list[tuple[str, str]]:
    """``(id, question)`` of every item: ``file:number``, counted from 0. A record without a question is passed over.

    Takes a JSON array, an object that holds one list of records (as BIG-bench does), or one record a line. Raises
    `SourceError` if the file is too large or is none of these.
    """
    if path.stat().st_size > MOST_BYTES:
        raise SourceError(f"{path} is larger than {MOST_BYTES >> 20} MiB: a test set is read whole; cut it or leave it out")
    items = []
    for number, record in enumerate(_records(path)):
        items += [(f"{path.stem}:{number}", question) for question in _questions(record)]
    if not items:
        raise SourceError(f"{path} holds no questions: give records with one of the keys {', '.join(QUESTION_KEYS)}")
    return items


def _records(path: Path) -> Iterator[Any]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        yield from _lines(path, text)
        return
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        data = lists[0] if len(lists) == 1 and not _questions(data) else [data]
    yield from data if isinstance(data, list) else [data]


def _lines(path: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise SourceError(f"{path}, line {number}: not JSON ({error.msg}); a test set is a JSON array or JSON lines") from error


def _questions(record: Any) -> list[str]:
    if isinstance(record, str):
        return [record] if record.strip() else []
    if not isinstance(record, Mapping):
        return []
    fields = {str(key).lower(): value for key, value in record.items()}
    for key in QUESTION_KEYS:
        found = _texts(fields.get(key))
        if found and key == "instruction" and isinstance(fields.get("input"), str) and fields["input"].strip():
            return [f"{found[0]}\n{fields['input']}"]
        if found:
            return found
    return []


def _texts(value: Any) -> list[str]:
    """A text, or the texts of the user's turns."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if not isinstance(value, list):
        return []
    turns = [turn if isinstance(turn, str) else _turn(turn) for turn in value]
    return [turn for turn in turns if turn]


def _turn(turn: Any) -> str:
    if not isinstance(turn, Mapping):
        return ""
    role = turn.get("role", turn.get("from", "user"))
    text = turn.get("content", turn.get("value", ""))
    return text if role in ("user", "human") and isinstance(text, str) else ""
