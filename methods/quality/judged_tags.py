"""What a judge calls a row: its kind of task, its field of knowledge, its level of education, as labels.

Here belongs taking labels out of the tables ``evidence/judgments_<question>``, for quotas, strata and overviews. They
are no numbers, so they are no indicators; the level's place in its list is (`judge.judge_education_level`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

import polars as pl

from methods.judging.kinds import OK

FIELD_OF: Mapping[str, str] = MappingProxyType({"task": "task", "domain": "domains", "education_level": "level"})
"""Questions whose answer is a label, and the field that it stands in."""


def labels(table: pl.DataFrame, question: str) -> pl.Series:
    """List(String): the labels of each row of a question's table; null where the judge gave none.

    A row with several cells has the labels of all of them that were answered, each once, in their order.
    """
    if question not in FIELD_OF:
        raise ValueError(f"{question!r} gives no labels; {', '.join(FIELD_OF)} do")
    found = [
        _labels(FIELD_OF[question], statuses or [], fields or [])
        for statuses, fields in table.select("statuses", "fields").iter_rows()
    ]
    return pl.Series("labels", found, dtype=pl.List(pl.String))


def _labels(field: str, statuses: list[str], fields: list[str]) -> list[str] | None:
    told = [json.loads(one).get(field) for status, one in zip(statuses, fields, strict=True) if status == OK]
    words = [word for one in told for word in ([one] if isinstance(one, str) else one or [])]
    return list(dict.fromkeys(words)) or None
