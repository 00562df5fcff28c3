"""Judges in this process: a causal language model for trying things out, and a stand-in for tests.

Here belongs answering a cell without a network. A small model is a toy judge: it shows that the path works, and what
it says of a row is worth little.
"""

import asyncio
import hashlib
import json
from typing import Any

import polars as pl

from methods.judging.kinds import API_ERROR, OK, TRUNCATED, Answer, Cell
from resources.judge_calls import Failed

PREFIX = "local:"


def identity(model: str) -> dict[str, Any]:
    """What a model of this process is, by its content: a folder may hold another one tomorrow."""
    return _causal_lm(model).identity()


def _causal_lm(model: str) -> Any:
    from resources.from_env import causal_lm

    return causal_lm(model.removeprefix(PREFIX))


class Local:
    """A causal language model of this process, one answer at a time; greedy, whatever the temperature."""

    def __init__(self, model: str) -> None:
        self._model = _causal_lm(model)
        self._turn = asyncio.Lock()

    async def ask(self, cell: Cell, without: frozenset[str] = frozenset()) -> Answer | Failed:
        """Write the answer."""
        async with self._turn:
            return await asyncio.to_thread(self._answer, cell)

    def _answer(self, cell: Cell) -> Answer | Failed:
        from resources.generation import generate

        messages = [{"role": role, "content": content} for role, content in cell.messages]
        rows = pl.DataFrame({"row_id": ["cell"], "messages": [messages]})
        line = next(generate(self._model, rows, cell.max_tokens)).row(0, named=True)
        if line["status"] != OK:
            return Failed(line["status"], final=API_ERROR)
        cut = line["n_tokens"] >= cell.max_tokens
        return Answer(TRUNCATED if cut else OK, line["response"], {}, 0, line["n_tokens"])

    async def close(self) -> None:
        """The model stays loaded for the next who asks."""


class StandIn:
    """Answers by a hash of what it is asked, in the form that is wanted; no model."""

    async def ask(self, cell: Cell, without: frozenset[str] = frozenset()) -> Answer:
        """The answer: an object of the cell's schema, one of its choices, or a score from 1 to 5 and a reason."""
        said = json.dumps(cell.messages, ensure_ascii=False) + str(cell.repeat)
        number = int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big")
        read = sum(len(content.split()) for _, content in cell.messages)
        if cell.choices:
            return Answer(OK, cell.choices[number % len(cell.choices)], _chances(cell.choices, number), read, 1)
        if cell.schema is not None:
            text = json.dumps(_fitting(cell.schema, number))
            return Answer(OK, text, {}, read, len(text) // 4)
        score = f"Score: {1 + number % 5}"  # some questions want it first, and some last
        return Answer(OK, f"{score}\nThe answer does what was asked, in part.\n{score}", {}, read, 14)

    async def close(self) -> None:
        """Nothing is held."""


def _chances(choices: tuple[str, ...], number: int) -> dict[str, float]:
    """ln p of each choice: the one that is said has half, the others share the rest."""
    from math import log

    said = number % len(choices)
    rest = max(len(choices) - 1, 1)
    return {word: log(0.5) if at == said else log(0.5 / rest) for at, word in enumerate(choices)}


def _fitting(schema: Any, number: int) -> Any:
    """Some value that keeps to a JSON schema."""
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    kind = schema.get("type")
    if kind == "object":
        named = schema.get("properties", {}).items()
        return {name: _fitting(part, number // (at + 3)) for at, (name, part) in enumerate(named)}
    if kind == "array":
        many = max(int(schema.get("minItems", 0)), min(int(schema.get("maxItems", 3)), 1 + number % 3))
        return [_fitting(schema["items"], number // (at + 5) + at) for at in range(many)]
    if kind in ("integer", "number"):
        low, high = int(schema.get("minimum", 1)), int(schema.get("maximum", 5))
        return low + number % (high - low + 1)
    if kind == "boolean":
        return number % 2 == 0
    return f"word {number % 9973}"
