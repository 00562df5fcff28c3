"""The tags that a source itself brings: categories, tasks, domains, skills, as its records name them.

Here belongs finding them in the original record. Tags that a model or a judge gives are evidence of their own.
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

TAG_FIELDS = ("tags", "tag", "categories", "category", "task", "task_name", "task_type", "domain", "topic", "skill")
"""Fields of a record that are read as tags, by name, at its top or in its ``metadata`` or ``meta``."""
_LONGEST = 80
"""A longer text is a description, not a tag."""


def tags_of(records: pl.Series) -> pl.Series:
    """List(String): the distinct tags of each record (JSON text), in the order in which it names them.

    Null where a record names none. Values are taken in lower case without outer blanks; a field's name is no part of
    its tag, so that ``category: code`` and ``domain: code`` are one.
    """
    # Records of layouts without any of these words need no parsing.
    likely = records.str.contains("|".join(f'"{field}"' for field in TAG_FIELDS))
    found = [_tags(record) if maybe else None for record, maybe in zip(records, likely, strict=True)]
    return pl.Series("tags", found, dtype=pl.List(pl.String))


def _tags(record: str) -> list[str] | None:
    data = json.loads(record)
    if not isinstance(data, dict):
        return None
    places = [data, *(data[name] for name in ("metadata", "meta") if isinstance(data.get(name), dict))]
    named = [tag for place in places for field in TAG_FIELDS for tag in _values(place.get(field))]
    return list(dict.fromkeys(named)) or None


def _values(value: Any) -> list[str]:
    if isinstance(value, list):
        return [tag for part in value for tag in _values(part)]
    text = value.strip().lower() if isinstance(value, str) else ""
    return [text] if 0 < len(text) <= _LONGEST else []
