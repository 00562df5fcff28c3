"""Each chosen row names the most similar one chosen before it, also where its selector does not."""

import numpy as np
import polars as pl

from methods import catalog
from methods.selection import choose as module
from methods.selection.choose import Ingredients, choose
from methods.selection.recipe import parse
from methods.selection.twins import PAIRS_SCHEMA

ANGLES = {"a": 0.0, "b": 0.1, "c": 1.0, "d": 1.05}


def ledger(selector: str) -> pl.DataFrame:
    ids = list(ANGLES)
    rows = pl.DataFrame({"row_id": ids, "source": ["s"] * 4, "position": range(4), "part": [0] * 4})
    vectors = np.array([[np.cos(ANGLES[i]), np.sin(ANGLES[i])] for i in ids], dtype=np.float32)
    given = Ingredients(
        rows, {}, pl.DataFrame(schema=PAIRS_SCHEMA), lambda wanted: vectors, lambda wanted: np.zeros(4, np.int64)
    )
    recipe = parse("r", {"title": "T", "selector": selector, "budget": "4", "duplicates": "off"})
    return choose(recipe, catalog.selector(selector), {}, given).sort("rank")


def test_it_is_found_where_the_selector_looked_at_vectors():
    found = ledger("moderate_coreset")
    order, nearest = found["row_id"].to_list(), found["nearest"].to_list()
    assert nearest[0] is None
    for at in range(1, 4):
        assert nearest[at] == min(order[:at], key=lambda other: abs(ANGLES[other] - ANGLES[order[at]]))


def test_not_without_vectors_and_not_for_too_many(monkeypatch):
    assert ledger("random")["nearest"].null_count() == 4
    monkeypatch.setattr(module, "MOST_COMPARED", 3)
    assert ledger("moderate_coreset")["nearest"].null_count() == 4
