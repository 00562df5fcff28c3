"""InsTag's question: which intentions a request has, as tags that the judge makes up freely.

Here belongs asking for tags and reading them, as they came. Bringing the tags of many rows to one vocabulary is
`methods.quality.tag_normalisation`; questions whose words are given stand in `labels`.
"""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from methods.judging import parsers, prompts, wrapping
from methods.judging.asking import asking_rows, cell, noted, object_schema
from methods.judging.kinds import OK, PARSE_ERROR, REFUSED, Answer, Cell, Question, Reading

LONGEST_TAG = 80
"""Characters; what is longer describes, and is no tag."""
_BEGINS = re.compile(r'(?P<object>\{)\s*["}]|\[\s*["{\]]')
_ITEM = object_schema({"tag": {"type": "string"}, "explanation": {"type": "string"}})


def instag_cells(rows: pl.DataFrame, longest: int = wrapping.LONGEST) -> list[Cell]:
    """One request a row, about what is asked in it; what was answered is not shown."""
    prompt = prompts.load("instag.v1")
    more = {"schema": object_schema({"tags": {"type": "array", "items": _ITEM}}), "max_tokens": 1024}
    return [cell(prompt, row["row_id"], "", wrapping.asked(row), longest, **more) for row in asking_rows(rows)]


def instag_read(answer: Answer, asked: Cell, longest: int = wrapping.LONGEST) -> Reading:
    """The tags in the field ``tags``, their explanations in ``explanations``, in one order; the value is their number.

    Taken is ``{"tags": [...]}`` or the list by itself, whose items are objects with a ``tag`` (and an ``explanation``,
    which may be missing). A tag is kept as it was written, without outer blanks; one that comes again counts once. An
    item without a tag, or with a tag of more than 80 characters, makes the whole a ``parse_error``. An empty list
    says that the row has no tag.
    """
    items = _items(answer.text, wrapping.inside(asked))
    pairs = [_pair(item) for item in items] if items is not None else [None]
    if any(pair is None for pair in pairs):
        return Reading(REFUSED if parsers.refused(answer.text) else PARSE_ERROR)
    told: dict[str, str] = {}
    for tag, explanation in (pair for pair in pairs if pair):
        told.setdefault(tag, explanation)
    read = Reading(OK, float(len(told)), {"tags": list(told), "explanations": list(told.values())})
    return noted(asked, read)


def _items(text: str, material: str) -> list[Any] | None:
    begins = _BEGINS.search(parsers.without_thoughts(text))
    if begins is None:
        return None
    if not begins["object"]:
        return parsers.json_value(text, list, material)
    found = parsers.json_value(text, dict, material)
    items = found.get("tags") if found is not None else None
    return items if isinstance(items, list) else None


def _pair(item: Any) -> tuple[str, str] | None:
    if not isinstance(item, dict):
        return None
    tag, explanation = item.get("tag"), item.get("explanation") or ""
    if not isinstance(tag, str) or not isinstance(explanation, str) or not 0 < len(tag.strip()) <= LONGEST_TAG:
        return None
    return " ".join(tag.split()), explanation.strip()


QUESTIONS = (
    Question(
        id="instag",
        title="InsTag: what a request is about and what it wants",
        prompts=("instag.v1",),
        paper="Lu et al. 2023, InsTag, arXiv 2308.07074",
        meaning="Tags for the intentions of a request, in the judge's own words, each with a reason.",
        cells=instag_cells,
        read=instag_read,
        params={"longest": wrapping.LONGEST},
    ),
)
