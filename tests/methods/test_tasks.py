"""Tasks: means of drawn rows by hand, draws that hang on ids alone, and the regions of the map."""

import numpy as np
import polars as pl
import pytest

from methods.importance.tasks import cuts_of, task_map, task_scores

NUMBERS = {"row_id": pl.String, "task": pl.String, "uncertainty": pl.Float64, "probability": pl.Float64}


def table(**columns):
    return pl.DataFrame(columns, NUMBERS)


def test_task_scores_by_hand():
    rows = table(
        row_id=list("abcdefg"),
        task=["x", "x", "y", "y", "y", None, "z"],
        uncertainty=[0.1, 0.3, 0.5, None, float("nan"), 0.9, 0.2],
        probability=[0.2, 0.4, None, 0.9, 0.9, 0.9, 0.6],
    )
    found = task_scores(rows)
    assert found.rows() == [
        ("y", 0.5, None, 1, 1),
        ("x", pytest.approx(0.2), pytest.approx(0.3), 2, 2),
        ("z", 0.2, 0.6, 1, 1),
    ]
    assert found.columns == ["task", "uncertainty", "probability", "task_rows", "drawn"]
    assert task_scores(rows.head(0)).schema == found.schema
    with pytest.raises(ValueError, match="instances"):
        task_scores(rows, instances=0)


def test_equal_tasks_are_in_order_of_name():
    rows = table(row_id=list("abc"), task=["z", "x", "y"], uncertainty=[0.5, 0.5, 0.7], probability=[0.1, 0.2, 0.3])
    assert task_scores(rows)["task"].to_list() == ["y", "x", "z"]


def test_task_scores_draw_the_same_rows_in_any_order():
    rng = np.random.default_rng(5)
    rows = table(
        row_id=[f"r{i}" for i in range(60)],
        task=[f"t{i % 3}" for i in range(60)],
        uncertainty=rng.random(60),
        probability=rng.random(60),
    )
    found = task_scores(rows)
    assert found["task_rows"].to_list() == [20] * 3 and found["drawn"].to_list() == [10] * 3
    assert found["uncertainty"].is_sorted(descending=True)
    assert task_scores(rows[rng.permutation(60)]).rows() == found.rows()
    one = task_scores(rows, instances=1)
    assert set(one["uncertainty"]) <= set(rows["uncertainty"])  # the mean of a single row is that row's
    pairs = set(rows.select("uncertainty", "probability").rows())
    assert set(one.select("uncertainty", "probability").rows()) <= pairs  # and both numbers are of the same row
    assert task_scores(rows, seed=1)["uncertainty"].to_list() != found["uncertainty"].to_list()
    everything = task_scores(rows, instances=20).sort("task")["uncertainty"].to_list()
    assert everything == pytest.approx([rows["uncertainty"].gather_every(3, i).mean() for i in range(3)])


def test_task_map():
    uncertainty = pl.Series([0.9, 0.8, 0.1, 0.2, None, 0.3])
    probability = pl.Series([0.5, 0.1, 0.2, 0.9, 0.5, None])
    assert cuts_of(uncertainty, probability) == (pytest.approx(0.5), pytest.approx(0.35))
    labels = ["ambiguous", "ambiguous", "difficult", "easy", None, None]
    assert task_map(uncertainty, probability).to_list() == labels
    assert task_map(uncertainty, probability, at=1.0).to_list() == ["difficult"] * 4 + [None] * 2
    assert task_map(pl.Series([0.5] * 3), pl.Series([0.5] * 3)).to_list() == ["difficult"] * 3
    assert task_map(pl.Series([None], dtype=pl.Float64), pl.Series([0.5])).to_list() == [None]
    assert task_map(uncertainty.head(0), probability.head(0)).to_list() == []
    with pytest.raises(ValueError, match="quantile"):
        task_map(uncertainty, probability, at=2)
