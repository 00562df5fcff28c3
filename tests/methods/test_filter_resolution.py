"""Which row of a pair stays."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.filters import duplicates as D
from methods.filters import resolution as R


def block(rows: list[tuple[str, str]], ids: list[str] | None = None, sources: list[str] | None = None) -> pl.DataFrame:
    n = len(rows)
    return pl.DataFrame(
        {"row_id": ids or [str(i) for i in range(n)], "source": sources or ["s"] * n,
         "instruction": [p for p, _ in rows], "input": [""] * n, "response": [r for _, r in rows]},
        schema={c: pl.String for c in ("row_id", "source", "instruction", "input", "response")},
    )  # fmt: skip


def edges(*rows: tuple[int, int, float]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=D.EDGES, orient="row")


def test_a_chain_does_not_eat_its_end() -> None:
    dropped = R.resolve(np.arange(4), edges((0, 1, 0.9), (1, 2, 0.9), (2, 3, 0.9)), 0.8)
    assert dropped.rows() == [(1, 0, 0.9), (3, 2, 0.9)]


def test_the_preferred_row_stays_and_the_nearest_is_named() -> None:
    found = edges((0, 1, 0.85), (1, 2, 0.95), (0, 3, 0.9), (2, 3, 0.9))
    assert R.resolve(np.array([1, 0, 2, 3]), found, 0.8).rows() == [(0, 1, 0.85), (2, 1, 0.95)]
    assert R.resolve(np.array([0, 2, 1, 3]), found, 0.8).rows() == [(1, 2, 0.95), (3, 0, 0.9)]
    assert R.resolve(np.array([2, 0, 1, 3]), found, 0.8).rows() == [(1, 2, 0.95), (3, 2, 0.9)]


def test_a_higher_threshold_needs_no_new_edges() -> None:
    found = edges((0, 1, 0.85), (1, 2, 0.95))
    assert R.resolve(np.arange(3), found, 0.9).rows() == [(2, 1, 0.95)]
    assert R.resolve(np.arange(3), found, 0.96).height == 0


def test_rows_of_a_class_share_its_edges() -> None:
    classes = np.array([0, 1, 0, 1])
    dropped = R.resolve(np.array([2, 3, 0, 1]), edges((0, 1, 0.9)), 0.8, classes)
    assert dropped.rows() == [(3, 2, 0.9), (0, 2, 1.0), (1, 2, 0.9)]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_what_resolve_promises(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    rows = [(a, b, data.draw(st.sampled_from([0.5, 0.7, 0.8, 0.9, 1.0]))) for a, b in chosen]
    order = data.draw(st.permutations(range(n)))
    threshold = data.draw(st.sampled_from([0.5, 0.75, 0.9]))
    likeness = {frozenset((a, b)): s for a, b, s in rows if s >= threshold}
    dropped = R.resolve(np.array(order), edges(*rows), threshold)
    gone = set(dropped["row"].to_list())
    kept = [row for row in order if row not in gone]
    for a, b, s in rows:
        assert s < threshold or a in gone or b in gone
    for row, twin, similarity in dropped.iter_rows():
        before = [other for other in kept if order.index(other) < order.index(row)]
        assert twin in before and similarity == likeness[frozenset((row, twin))]
        assert similarity == max(likeness.get(frozenset((row, other)), 0.0) for other in before)


def test_exact_duplicates_within_and_across_sources() -> None:
    rows = [("Say hi.", "Hi"), ("say  HI.", "hi "), ("Say hi.", "Hi"), ("Say hi!", "Hi"), ("Ｓay hi.", "Hi")]
    of_two = block(rows, ["x", "y", "x", "z", "w"], ["a", "a", "b", "b", "b"])
    assert R.exact_classes(of_two).tolist() == R.exact_classes(block(rows)).tolist() == [0, 0, 0, 3, 0]
    assert len(R.exact_classes(block([]))) == 0


def test_an_input_counts_and_may_stand_in_the_instruction() -> None:
    frame = block([("Add", "3"), ("Add", "3"), ("Add\n1 2", "3")]).with_columns(input=pl.Series(["1 2", "1 3", ""]))
    assert R.exact_classes(frame).tolist() == [0, 1, 0]


def test_contradictions_name_the_most_different_twin() -> None:
    long = "Paris is the capital of France and its largest city"
    rows = [("Capital of France?", long), ("capital of  france?", long + " by far"), ("Capital of France?", "Lyon"),
            ("Capital of Spain?", "Madrid"), ("Capital of France?", "")]  # fmt: skip
    found = R.contradictions(block(rows))
    assert found.schema == R.CONTRADICTIONS
    assert found.select("row", "twin", "similarity").rows() == [(0, 2, 0.0), (1, 2, 0.0), (2, 0, 0.0)]
    assert R.contradictions(block(rows[:2])).height == 0 and R.contradictions(block([])).height == 0


def test_contradictions_of_a_large_group_stay_linear() -> None:
    rows = [("Tell me a word", f"word{i} alone") for i in range(300)]
    found = R.contradictions(block(rows), most=0.5, most_rows=5)
    assert found.height == 300 and found["twin"].max() < 5


def test_alarm_when_one_cluster_eats_a_source() -> None:
    sources = pl.Series(["a"] * 20 + ["b"] * 100)
    dropped = pl.DataFrame({"row": [*range(1, 16), *range(21, 33)], "twin": [0] * 15 + [20] * 12,
                            "similarity": [0.9] * 27}, schema=R.DROPPED)  # fmt: skip
    alarms = R.cluster_alarm(sources, dropped, 0.1, 10)
    assert alarms.rows() == [("a", 0, 15, 0.75), ("b", 20, 12, pytest.approx(0.12))]
    assert R.cluster_alarm(sources, dropped, 0.5, 10)["source"].to_list() == ["a"]
    assert R.cluster_alarm(sources, dropped.head(0)).height == 0


def test_whole_way_from_rows_to_what_is_dropped() -> None:
    base = "the quick brown fox jumps over the lazy dog while the small cat looks at both of them from a wall"
    rows = [
        ("Tell a story", base),
        ("tell a  story", base.upper()),
        ("Tell a story", base + " today"),
        ("Other", "thing"),
    ]
    frame = block(rows)
    classes = R.exact_classes(frame)
    heads = np.flatnonzero(classes == np.arange(len(classes)))
    found = D.near_duplicates(R.text_of(frame).gather(heads), 0.8)
    found = found.with_columns(a=pl.Series(heads)[found["a"]], b=pl.Series(heads)[found["b"]])
    dropped = R.resolve(np.array([2, 0, 1, 3]), found, 0.8, classes)
    assert dropped.select("row", "twin").rows() == [(0, 2), (1, 2)]
    assert dropped["similarity"].min() >= 0.8
