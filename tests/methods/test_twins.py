"""Duplicate pairs by row id: found in a pool as by brute force, and resolved so that of like rows one stays."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.filters import duplicates, resolution
from methods.selection.twins import NEAR, PAIRS_SCHEMA, SAME_TEXT, find_pairs, resolve
from tests.pairs import compared

LONG = "the quick brown fox jumps over the lazy dog while seven wizards brew a strong potion of old leaves and rain "


def rows(*responses: str) -> pl.DataFrame:
    n = len(responses)
    return pl.DataFrame(
        {
            "row_id": [f"r{i}" for i in range(n)],
            "instruction": ["Say something."] * n,
            "input": [""] * n,
            "response": list(responses),
        },
        schema=dict.fromkeys(("row_id", "instruction", "input", "response"), pl.String),
    )


def found(table: pl.DataFrame, threshold: float = 0.8) -> list[tuple]:
    return find_pairs(table, duplicates.signatures(table)["signature"], threshold).rows()


def pairs(*lines: tuple[str, str, float, str]) -> pl.DataFrame:
    return pl.DataFrame(list(lines), schema=PAIRS_SCHEMA, orient="row")


def test_same_text_and_near_text():
    near = LONG * 3 + "and then they sleep"
    made = found(rows(LONG * 3, "something else entirely, about ships", near, "  " + (LONG * 3).upper(), LONG * 3))
    assert [line for line in made if line[3] == SAME_TEXT] == [
        ("r0", "r3", 1.0, SAME_TEXT),
        ("r0", "r4", 1.0, SAME_TEXT),
    ]
    close = [line for line in made if line[3] == NEAR]
    assert [(a, b) for a, b, _, _ in close] == [("r0", "r2")] and 0.8 <= close[0][2] < 1


def test_nothing_to_find():
    assert found(rows()) == []
    assert found(rows("alone")) == []
    assert find_pairs(rows(), duplicates.signatures(rows())["signature"]).schema == pl.Schema(PAIRS_SCHEMA)


def test_rows_without_words_are_pairs_only_of_their_equals():
    table = rows("!!!", "???", "!!!").with_columns(instruction=pl.lit("..."))
    assert found(table) == [("r0", "r2", 1.0, SAME_TEXT)]


def test_chinese_rows():
    text = "春天来了，花园里的花都开了，孩子们在草地上奔跑，老人坐在长椅上晒太阳，远处传来鸟叫声。" * 3
    made = found(
        rows(text, "今天我们讨论数据库索引的原理与实现，以及如何选择合适的结构。", text + "大家都很开心。", text)
    )
    assert [(a, b) for a, b, _, _ in made] == [("r0", "r3"), ("r0", "r2")]


def test_the_preferred_one_stays_and_the_other_names_it():
    lines = pairs(("a", "b", 0.9, NEAR))
    assert resolve(pl.Series(["a", "b"]), lines, 0.8).rows() == [("b", "a", 0.9)]
    assert resolve(pl.Series(["b", "a"]), lines, 0.8).rows() == [("a", "b", 0.9)]


def test_no_chain_eats_a_source():
    """a ~ b ~ c, but a and c differ: b goes for a, and c stays."""
    lines = pairs(("a", "b", 0.9, NEAR), ("b", "c", 0.9, NEAR))
    assert resolve(pl.Series(["a", "b", "c"]), lines, 0.8)["row_id"].to_list() == ["b"]
    assert resolve(pl.Series(["b", "a", "c"]), lines, 0.8)["row_id"].to_list() == ["a", "c"]


def test_the_text_s_first_row_was_dropped_before():
    """x stands for the text of y and z in the near pairs; without x, y takes its place."""
    lines = pairs(("x", "y", 1.0, SAME_TEXT), ("x", "z", 1.0, SAME_TEXT), ("w", "x", 0.85, NEAR))
    assert resolve(pl.Series(["w", "y", "z"]), lines, 0.8).rows() == [("y", "w", 0.85), ("z", "w", 0.85)]
    assert resolve(pl.Series(["z", "y"]), lines, 0.8).rows() == [("y", "z", 1.0)]
    assert resolve(pl.Series(["z", "w"]), lines, 0.9).rows() == []


def test_strangers_and_nothing():
    lines = pairs(("a", "b", 0.9, NEAR), ("a", "c", 1.0, SAME_TEXT))
    assert resolve(pl.Series(["d", "a"]), lines, 0.8).rows() == []
    assert resolve(pl.Series([], dtype=pl.String), lines, 0.8).rows() == []
    assert resolve(pl.Series(["a", "b"]), pairs(), 0.8).rows() == []


@st.composite
def pools(draw):
    """Texts as classes of rows, near pairs between classes (named by their first rows), and the rows at hand in order."""
    n = draw(st.integers(1, 8))
    text = [draw(st.integers(0, n - 1)) for _ in range(n)]
    first = {label: text.index(label) for label in text}
    same = [(f"r{first[label]}", f"r{i}", 1.0, SAME_TEXT) for i, label in enumerate(text) if first[label] != i]
    ends = sorted(itertools.combinations(sorted(set(first.values())), 2))
    chosen = draw(st.lists(st.sampled_from(ends), unique=True)) if ends else []
    near = [(f"r{a}", f"r{b}", draw(st.sampled_from([0.7, 0.8, 0.9])), NEAR) for a, b in chosen]
    order = draw(st.permutations(range(n)))[: draw(st.integers(0, n))]
    return text, pairs(*same, *near), near, order


@settings(deadline=None, max_examples=60)
@given(pools())
def test_of_like_rows_exactly_one_stays(case):
    text, table, near, order = case
    likeness = {frozenset((text[int(a[1:])], text[int(b[1:])])): s for a, b, s, _ in near if s >= 0.8}

    def like(i: int, j: int) -> float:
        return 1.0 if text[i] == text[j] else likeness.get(frozenset((text[i], text[j])), 0.0)

    gone = resolve(pl.Series([f"r{i}" for i in order], dtype=pl.String), table, 0.8)
    dropped = [int(row[1:]) for row in gone["row_id"]]
    kept = [i for i in order if i not in dropped]
    expected: list[int] = []  # brute force: walk in order, keep what is like nothing kept
    for i in order:
        if not any(like(i, j) for j in expected):
            expected.append(i)
    assert kept == expected
    assert len(dropped) == len(set(dropped))
    for row, twin, similarity in gone.iter_rows():
        assert int(twin[1:]) in kept
        before = [j for j in kept if order.index(j) < order.index(int(row[1:]))]
        assert similarity == like(int(row[1:]), int(twin[1:])) == max(like(int(row[1:]), j) for j in before)


def test_pairs_of_a_pool_agree_with_brute_force():
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(300)]
    texts = []
    for i in range(40):
        base = rng.choice(words, 60, replace=False).tolist() if i % 4 == 0 else texts[-1].split()
        edited = list(base)
        for at in rng.integers(0, 60, i % 4):
            edited[at] = str(rng.choice(words))
        texts.append(" ".join(edited))
    table = rows(*texts)
    made = find_pairs(table, duplicates.signatures(table)["signature"], 0.8)
    first = resolution.exact_classes(table)
    own = np.flatnonzero(first == np.arange(40))
    everything = compared(np.array(list(itertools.combinations(own, 2))), resolution.text_of(table), 0.8)
    expected = {(f"r{a}", f"r{b}"): s for a, b, s in everything.rows()}
    near = made.filter(pl.col("kind") == NEAR)
    assert {(a, b): s for a, b, s, _ in near.rows()} == pytest.approx(expected)
    assert len(expected) > 10
    same = made.filter(pl.col("kind") == SAME_TEXT)
    assert same.select("a", "b").rows() == [(f"r{first[i]}", f"r{i}") for i in range(40) if first[i] != i]
