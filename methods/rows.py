"""What a row is: its columns, its identity, and what is read off its messages.

Here belongs what every reader and every method must agree on: the two schemas, the roles, the hash that makes the
same conversation the same row in every source, and the two expressions for prompt and text.  How a file is read
stands in `readers`, how a record of some layout becomes messages stands in `formats`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypedDict

import polars as pl

ROLES = ("system", "user", "assistant", "tool_call", "tool")
"""Who may speak. ``tool_call`` is the assistant calling a tool (JSON text), ``tool`` is the tool's answer."""


class Message(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


ROW_SCHEMA = pl.Schema(
    {
        "row_id": pl.String(),
        "source": pl.String(),
        "position": pl.Int64(),
        "part": pl.Int64(),
        "line": pl.Int64(),
        "layout": pl.String(),
        "messages": pl.List(pl.Struct({"role": pl.String(), "content": pl.String()})),
        "instruction": pl.String(),
        "input": pl.String(),
        "response": pl.String(),
        "turns": pl.Int64(),
        "record": pl.String(),
    }
)
"""A row. ``position`` counts the records of the file from 0, bad ones too; ``part`` is above 0 only where one record
gives several rows; ``line`` (from 1) is null where the file has no lines; ``turns`` counts assistant messages."""

QUARANTINE_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "file": pl.String(),
        "position": pl.Int64(),
        "line": pl.Int64(),
        "reason": pl.String(),
        "detail": pl.String(),
        "excerpt": pl.String(),
    }
)
"""A record that gave no row: ``reason`` is a code to count by, ``detail`` a sentence for a person."""

PROMPT = (
    pl.when(pl.col("input").fill_null("") == "")
    .then(pl.col("instruction"))
    .otherwise(pl.concat_str("instruction", pl.lit("\n"), "input"))
    .alias("prompt")
)
"""``instruction``, then ``input`` on the next line if there is one."""

TEXT = pl.concat_str(PROMPT, pl.lit("\n"), pl.col("response")).alias("text")
"""The prompt and, on the next line, the response."""

_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class BadRecord(ValueError):
    """A record that cannot become a row: a short code and a sentence that says what is wrong and what to do."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the code and the sentence."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def row_id(messages: Sequence[Message]) -> str:
    """Hash a conversation: 32 hex digits that depend on its roles and contents and on nothing else.

    blake2b (128 bits) over the UTF-8 of the JSON list ``[[role, content], ...]``: the quotes and escapes of JSON keep
    the borders between messages unambiguous.  The text is taken as it stands: no Unicode normalisation, no trimming,
    no folding of case or newlines, so texts that merely look the same (a precomposed and a combining accent) are
    different rows; finding those is the work of near-duplicate methods, not of identity.  A lone surrogate has no
    UTF-8 and raises `UnicodeEncodeError`.
    """
    text = _canonical([(message["role"], message["content"]) for message in messages])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def make_row(
    source: str,
    position: int,
    part: int,
    line: int | None,
    layout: str,
    messages: Sequence[Message],
    input: str,
    record: str,
) -> dict[str, Any]:
    """Build one row of `ROW_SCHEMA`, reading instruction, input, response and turns off the messages.

    ``input`` is the part of the first user message that the layout keeps apart (Alpaca): that message must then end
    with a newline and the input, else the row has no ``input`` and the whole message is the instruction.
    """
    prompt = next((message["content"] for message in messages if message["role"] == "user"), "")
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    apart = bool(input) and prompt.endswith("\n" + input)
    return {
        "row_id": row_id(messages),
        "source": source,
        "position": position,
        "part": part,
        "line": line,
        "layout": layout,
        "messages": list(messages),
        "instruction": prompt[: -len(input) - 1] if apart else prompt,
        "input": input if apart else "",
        "response": "\n\n".join(answers),
        "turns": len(answers),
        "record": record,
    }
