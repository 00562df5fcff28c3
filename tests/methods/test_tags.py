"""Tags that a source brings: where they are looked for, and what is no tag."""

import json

import polars as pl
import pytest

from methods.tags import tags_of


def tags(*records):
    return tags_of(pl.Series([json.dumps(record) for record in records], dtype=pl.String)).to_list()


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"instruction": "x", "category": "Closed_QA "}, ["closed_qa"]),
        ({"tags": ["math", "Math", " code "], "task": "sum"}, ["math", "code", "sum"]),
        ({"metadata": {"domain": "law"}, "tags": []}, ["law"]),
        ({"category": "code", "domain": "code"}, ["code"]),
        ({"tags": [["nested"], {"no": "tag"}, 3, None, ""]}, ["nested"]),
        ({"instruction": "tell me of the category of groups"}, None),
        (
            {"task": "Write a very long description of what is to be done here, which nobody would call a tag at all."},
            None,
        ),
        ({"category": None}, None),
        (["category"], None),
        ({"category": "数学"}, ["数学"]),
    ],
)
def test_tags_of_a_record(record, found):
    assert tags(record) == [found]


def test_no_records():
    assert tags_of(pl.Series([], dtype=pl.String)).dtype == pl.List(pl.String)


def test_the_categories_of_a_real_pool(shared_data):
    rows = json.loads((shared_data / "pools" / "dolly.json").read_text(encoding="utf-8"))[:500]
    found = tags_of(pl.Series([json.dumps(row) for row in rows], dtype=pl.String))
    expected = [[row["category"]] if row.get("category") else None for row in rows]
    assert found.to_list() == expected
