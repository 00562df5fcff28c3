"""What raters are given: tasks, the guidelines beside them, and the key that they do not see.

Here belong the shapes, and the way from drawn rows to tasks in an order that tells nothing. How tasks look stands in
`rendering` and `exports`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from methods.humans.sample import CELLS_SCHEMA, Sample

GUIDELINES = Path(__file__).parent / "page" / "guidelines.md"
KEY_VERSION = 1
_HEADING = re.compile(r"^##\s+(.+?)\s*\(`(\w+)`\)\s*$")


class BadKey(ValueError):
    """A key file that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Task:
    """One thing to rate (``replies`` is empty), or the replies to one question to rank."""

    id: str
    """The row's id, or the ranking's."""
    messages: tuple[tuple[str, str], ...]
    """(role, content); of a ranking all that comes before the replies."""
    replies: tuple[tuple[str, str], ...] = ()
    """(row_id, text) of the rows to rank."""


@dataclass(frozen=True)
class Section:
    """What the guidelines say of one dimension."""

    name: str
    title: str
    text: str


@dataclass(frozen=True)
class Audit:
    """What raters see of an audit."""

    id: str
    title: str
    tasks: tuple[Task, ...]
    guidelines: str = field(default_factory=lambda: GUIDELINES.read_text(encoding="utf-8"))


def sections(guidelines: str) -> tuple[str, list[Section]]:
    """The guidelines' beginning, and the part about each dimension: headings like ``## Quality (`quality`)``."""
    before: list[str] = []
    found: list[tuple[str, str, list[str]]] = []
    for line in guidelines.splitlines():
        heading = _HEADING.match(line)
        if heading:
            found.append((heading[2], heading[1], []))
        else:
            (found[-1][2] if found else before).append(line)
    return "\n".join(before).strip(), [Section(n, title, "\n".join(said).strip()) for n, title, said in found]


def _messages(messages: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in messages)


def rating_tasks(rows: pl.DataFrame, planted: Sequence[Mapping[str, Any]], seed: int) -> tuple[Task, ...]:
    """The drawn rows (``row_id, messages``) and the planted ones, shuffled together."""
    tasks = [Task(row_id, _messages(said)) for row_id, said in rows.select("row_id", "messages").iter_rows()]
    tasks += [Task(row["row_id"], _messages(row["messages"])) for row in planted]
    order = np.random.default_rng(seed).permutation(len(tasks))
    return tuple(tasks[i] for i in order)


def ranking_tasks(rows: pl.DataFrame, n: int, seed: int, most: int = 5) -> tuple[Task, ...]:
    """Rankings of rows that answer the same question: up to n questions, at most so many answers each, shuffled.

    ``rows`` has ``row_id, messages``; two rows answer the same question if all but their last message, an answer, is
    the same. The same answer is not given twice.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for row_id, said in rows.select("row_id", "messages").iter_rows():
        messages = _messages(said)
        if len(messages) > 1 and messages[-1][0] == "assistant":
            groups.setdefault(messages[:-1], {}).setdefault(messages[-1][1], row_id)
    several = [(question, answers) for question, answers in groups.items() if len(answers) > 1]
    rng = np.random.default_rng(seed)
    tasks = []
    for i in rng.permutation(len(several))[:n]:
        question, answers = several[i]
        texts = list(answers)
        chosen = [texts[j] for j in rng.permutation(len(texts))[:most]]
        replies = tuple((answers[text], text) for text in chosen)
        name = hashlib.blake2b(json.dumps(sorted(r for r, _ in replies)).encode(), digest_size=8).hexdigest()
        tasks.append(Task(f"ranking-{name}", question, replies))
    return tuple(tasks)


def audit_id(tasks: Sequence[Task]) -> str:
    """A short name of these tasks: the same tasks in the same order have the same."""
    said = json.dumps([asdict(task) for task in tasks], sort_keys=True).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=6).hexdigest()


# ---- the key -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """What the one who drew an audit knows and raters do not: where rows come from, and which are planted.

    It holds ids and counts, and no text.
    """

    audit: str
    title: str
    made_at: str
    design: Mapping[str, Any]
    sample: Sample
    planted: tuple[Mapping[str, str], ...] = ()
    """``row_id, prompt_of, answer_of`` of each planted row."""

    def dump(self) -> str:
        """The key as a file, sealed: a hash over all of it."""
        body = {
            "version": KEY_VERSION,
            "audit": self.audit,
            "title": self.title,
            "made_at": self.made_at,
            "design": dict(self.design),
            "rows": self.sample.rows.to_dicts(),
            "cells": self.sample.cells.to_dicts(),
            "planted": [{name: row[name] for name in ("row_id", "prompt_of", "answer_of")} for row in self.planted],
        }
        return json.dumps({**body, "seal": _seal(body)}, indent=1, ensure_ascii=False)

    @classmethod
    def load(cls, path: Path) -> Key:
        """Read a key; one that was changed, or is none, is an error that names the file."""
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            seal = body.pop("seal")
            if body["version"] != KEY_VERSION:
                raise BadKey(f"{path.name}: this key is of version {body['version']}, and {KEY_VERSION} is read")
            if seal != _seal(body):
                raise BadKey(f"{path.name}: the seal of this key is broken: it was changed after the audit was drawn")
            schema = {"row_id": pl.String, "source": pl.String, "stratum": pl.String}
            sample = Sample(pl.DataFrame(body["rows"], schema=schema), pl.DataFrame(body["cells"], schema=CELLS_SCHEMA))
            return cls(body["audit"], body["title"], body["made_at"], body["design"], sample, tuple(body["planted"]))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadKey(f"{path.name} is no key of an audit ({type(error).__name__})") from error


def _seal(body: Mapping[str, Any]) -> str:
    said = json.dumps(body, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=16).hexdigest()
