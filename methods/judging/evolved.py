"""DEITA's two questions by a judge: a text is scored beside evolved variants of itself, all in one request.

Here belong four questions, two and two: ``deita_variants_*`` has the judge write the variants, and ``deita_*`` has it
score them together with the row's own text, whose score is the value. The second reads the table of the first: its
parameter ``variants`` names the asset, and is handed that table (`JUDGMENTS_SCHEMA`) when cells are made.

Each turn of a conversation is asked by itself, with what came before it. A row is scored only if all its turns have
their variants. The texts stand in an order drawn from themselves, so that the row's own has no place of its own; the
part of a cell says which letter it has: ``2:C`` is the second turn, whose own text is C.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from methods.judging import parsers, prompts, wrapping
from methods.judging.asking import asking_rows, cell, noted, object_schema, whole_numbers
from methods.judging.kinds import OK, Answer, Cell, Question, Reading
from methods.judging.wrapping import Section, Turn

COMPLEXITY, QUALITY = "evidence/judgments_deita_variants_complexity", "evidence/judgments_deita_variants_quality"
LOW, HIGH = 1, 6
LETTERS = "ABCDEFGHIJKLMNOPQRST"


def _turns(rows: pl.DataFrame, turns: str, answered: bool) -> Iterator[tuple[str, list[tuple[int, Turn]]]]:
    """Rows with the turns that are asked about, from 1; a row of which one is empty is left out."""
    if turns not in ("each", "first"):
        raise ValueError(f"turns must be 'each' or 'first', not {turns!r}")
    for row in asking_rows(rows):
        found = list(enumerate(wrapping.turns(row), 1))[: 1 if turns == "first" else None]
        if found and all(turn.prompt.strip() and (turn.answer.strip() or not answered) for _, turn in found):
            yield row["row_id"], found


def _before(turn: Turn) -> list[Section]:
    return [("conversation so far", turn.before)] if turn.before else []


# --- variants --------------------------------------------------------------------------------------------------------
def _variants(
    rows: pl.DataFrame, prompt: str, answered: bool, count: int, turns: str, longest: int, max_tokens: int
) -> list[Cell]:
    if not 1 <= count < len(LETTERS):
        raise ValueError(f"count must be from 1 to {len(LETTERS) - 1}, got {count}")
    texts = {"type": "array", "items": {"type": "string"}, "minItems": count, "maxItems": count}
    more = {"schema": object_schema({"variants": texts}), "count": count, "max_tokens": max_tokens}
    found = prompts.load(prompt)
    return [
        cell(found, row_id, str(at), shown, longest, **more)
        for row_id, asked in _turns(rows, turns, answered)
        for at, turn in asked
        for shown in [
            [*_before(turn), ("instruction", turn.prompt), *([("response", turn.answer)] if answered else [])]
        ]
    ]


def complexity_variants_cells(
    rows: pl.DataFrame, count: int = 4, turns: str = "each", longest: int = wrapping.LONGEST
) -> list[Cell]:
    """A request a turn for ``count`` more complex forms of the instruction."""
    return _variants(rows, "deita_variants_complexity.v1", False, count, turns, longest, 2048)


def quality_variants_cells(
    rows: pl.DataFrame, count: int = 5, turns: str = "each", longest: int = wrapping.LONGEST
) -> list[Cell]:
    """A request a turn for ``count`` better and better forms of the response."""
    return _variants(rows, "deita_variants_quality.v1", True, count, turns, longest, 4096)


def variants_read(
    answer: Answer, asked: Cell, count: int = 4, turns: str = "each", longest: int = wrapping.LONGEST
) -> Reading:
    """Exactly as many different texts as were wanted, in the field ``variants``; no value."""
    return noted(asked, parsers.json_texts(answer.text, "variants", count, count))


# --- scores ----------------------------------------------------------------------------------------------------------
def known_variants(table: Any) -> dict[tuple[str, int], list[str]]:
    """The variants of a table of ``deita_variants_*`` by row and turn."""
    if not isinstance(table, pl.DataFrame):
        raise ValueError(
            "variants must be the table of the question that has them written (judgments_deita_variants_*)"
        )
    found: dict[tuple[str, int], list[str]] = {}
    for row_id, parts, statuses, fields in table.select("row_id", "parts", "statuses", "fields").iter_rows():
        for part, status, told in zip(parts or (), statuses or (), fields or (), strict=True):
            if status == OK:
                found[row_id, int(part)] = json.loads(told)["variants"]
    return found


def _scored(rows: pl.DataFrame, table: Any, prompt: str, answered: bool, turns: str, longest: int) -> Iterator[Cell]:
    variants, found = known_variants(table), prompts.load(prompt)
    name = "response" if answered else "instruction"
    for row_id, asked in _turns(rows, turns, answered):
        if any((row_id, at) not in variants for at, _ in asked):
            continue
        for at, turn in asked:
            own = turn.answer if answered else turn.prompt
            texts = drawn([own, *(text for text in variants[row_id, at] if text != own)])
            letters = LETTERS[: len(texts)]
            context = [("instruction", turn.prompt)] if answered else []
            shown = [*_before(turn), *context, *((f"{name} {a}", text) for a, text in zip(letters, texts, strict=True))]
            schema = whole_numbers(letters, LOW, HIGH)
            part = f"{at}:{letters[texts.index(own)]}"
            more = {"letters": ", ".join(letters), "schema": schema, "max_tokens": 16 + 8 * len(texts)}
            yield cell(found, row_id, part, shown, longest, **more)


def drawn(texts: list[str]) -> list[str]:
    """Texts in an order that hangs on nothing but themselves."""
    seed = "\0".join(texts).encode()
    return sorted(texts, key=lambda text: hashlib.blake2b(text.encode() + b"\0" + seed, digest_size=16).digest())


def complexity_cells(
    rows: pl.DataFrame, variants: Any = COMPLEXITY, turns: str = "each", longest: int = 2 * wrapping.LONGEST
) -> list[Cell]:
    """A request a turn: the instruction and its variants, each to be scored beside the others."""
    return list(_scored(rows, variants, "deita_complexity.v1", False, turns, longest))


def quality_cells(
    rows: pl.DataFrame, variants: Any = QUALITY, turns: str = "each", longest: int = 2 * wrapping.LONGEST
) -> list[Cell]:
    """A request a turn: the response and its variants, each to be scored beside the others."""
    return list(_scored(rows, variants, "deita_quality.v1", True, turns, longest))


def scored_read(
    answer: Answer,
    asked: Cell,
    variants: Any = COMPLEXITY,
    turns: str = "each",
    longest: int = 2 * wrapping.LONGEST,
) -> Reading:
    """The score of the row's own text, 1 to 6, whole; those of all texts in the field ``scores``. Every text must have
    one."""
    letters = list((asked.schema or {}).get("properties", {}))
    read = parsers.json_scores(answer.text, letters, LOW, HIGH, whole=True, material=wrapping.inside(asked))
    own = asked.part.partition(":")[2]
    if read.status == OK:
        read = Reading(OK, read.fields[own], {"scores": dict(read.fields), "own": own})
    return noted(asked, read)


_PAPER = "Liu et al. 2023, DEITA, arXiv 2312.15685"

QUESTIONS = (
    Question(
        id="deita_variants_complexity",
        title="DEITA: more complex forms of the instruction",
        prompts=("deita_variants_complexity.v1",),
        paper=_PAPER,
        meaning="The judge writes more and more complex forms of the instruction, which it is then scored beside.",
        cells=complexity_variants_cells,
        read=variants_read,
        params={"count": 4, "turns": "each", "longest": wrapping.LONGEST},
    ),
    Question(
        id="deita_variants_quality",
        title="DEITA: better forms of the response",
        prompts=("deita_variants_quality.v1",),
        paper=_PAPER,
        meaning="The judge writes better and better forms of the response, which it is then scored beside.",
        cells=quality_variants_cells,
        read=variants_read,
        params={"count": 5, "turns": "each", "longest": wrapping.LONGEST},
    ),
    Question(
        id="deita_complexity",
        title="DEITA: complexity of the instruction",
        prompts=("deita_complexity.v1",),
        paper=_PAPER,
        meaning="How complex the instruction is beside more complex forms of itself, from 1 to 6.",
        cells=complexity_cells,
        read=scored_read,
        params={"variants": COMPLEXITY, "turns": "each", "longest": 2 * wrapping.LONGEST},
    ),
    Question(
        id="deita_quality",
        title="DEITA: quality of the response",
        prompts=("deita_quality.v1",),
        paper=_PAPER,
        meaning="How good the response is beside better forms of itself, from 1 to 6.",
        cells=quality_cells,
        read=scored_read,
        params={"variants": QUALITY, "turns": "each", "longest": 2 * wrapping.LONGEST},
    ),
)
