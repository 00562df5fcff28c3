"""Leaked test items: found when they are there, and not when only their wording is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.filters import contamination as C
from methods.filters.shingles import word_list

ITEM = (
    "A baker sells twelve loaves each morning and seven more after lunch, so how many loaves does she sell in a week?"
)


def rows(*texts: tuple[str, str, str]) -> pl.DataFrame:
    kinds = {"row_id": pl.String, "instruction": pl.String, "input": pl.String, "response": pl.String}
    return pl.DataFrame([(str(i), *row) for i, row in enumerate(texts)], schema=kinds, orient="row")


def test_a_copied_item_is_found_whatever_its_case_and_marks() -> None:
    targets = C.target_ngrams(
        [ITEM, "Something else entirely that nobody in this pool would ever think of asking a baker"]
    )
    found = C.leaks(rows(("Solve.", ITEM.upper().replace(",", ""), "133"), ("How many loaves does she sell?", "", "12"),
                         ("x", "", "The question was: " + ITEM)), targets)  # fmt: skip
    assert found["leaked"].to_list() == [True, False, True]
    assert found["target_id"].to_list() == ["0", None, "0"] and found["overlap"].to_list() == [1.0, None, 1.0]
    assert found["span"][0] == " ".join(word_list(ITEM))
    assert found.schema == C.LEAKS


def test_overlap_is_the_share_of_the_items_words() -> None:
    item = [f"w{i}" for i in range(20)]
    found = C.leaks(
        rows((" ".join(item[:15]), "", "x"), (" ".join(item[:12]), "", "x")), C.target_ngrams([" ".join(item)])
    )
    assert found["overlap"].to_list() == [0.75, None] and found["leaked"].to_list() == [True, False]
    assert found["span"][0] == " ".join(item[:15])
    assert C.leaks(rows((" ".join(item[:15]), "", "")), C.target_ngrams([" ".join(item)]), 0.8)["leaked"].to_list() == [
        False
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=4, max_size=40), st.lists(st.integers(0, 30), min_size=4, max_size=40))
def test_overlap_against_brute_force(item: list[int], row: list[int]) -> None:
    n = 4
    targets = C.target_ngrams([" ".join(f"w{i}" for i in item)], n=n, n_short=n)
    grams = {tuple(row[i : i + n]) for i in range(len(row) - n + 1)}
    covered = [False] * len(item)
    for i in range(len(item) - n + 1):
        if tuple(item[i : i + n]) in grams:
            covered[i : i + n] = [True] * n
    found = C.leaks(rows((" ".join(f"w{i}" for i in row), "", "")), targets)
    expected = sum(covered) / len(item)
    assert (found["overlap"][0] or 0.0) == pytest.approx(expected)


def test_short_items_match_whole_and_alone() -> None:
    targets = C.target_ngrams(["What is the capital of France?"], ids=["q7"])
    found = C.leaks(rows(("what is the capital of france", "", "Paris"), ("Tell me: what is the capital of France?", "", "Paris"),
                         ("Answer.", "What is the capital of France?", "Paris"), ("", "", "")), targets)  # fmt: skip
    assert found["leaked"].to_list() == [True, False, True, False]
    assert found["target_id"].to_list() == ["q7", None, "q7", None]
    assert found["span"][0] == "what is the capital of france"


def test_items_of_middle_length_use_the_shorter_ngrams() -> None:
    text = "how tall is the tower that stands in Paris now"
    found = C.leaks(
        rows(("Please tell me: " + text, "", "330 m"), ("how tall is the tower", "", "x")), C.target_ngrams([text])
    )
    assert found["leaked"].to_list() == [True, False]


def test_the_frame_of_a_task_is_not_counted() -> None:
    frame = "If you follow these instructions do you return to the starting point? Always face forward."
    items = [
        f"{frame} Take {i} steps left and then {i + 3} steps right before you turn around number {i * 7}"
        for i in range(9)
    ]
    targets = C.target_ngrams(items)
    found = C.leaks(rows((frame + " Think first.", "", "Yes"), (items[4], "", "No")), targets, 0.4)
    assert found["leaked"].to_list() == [False, True] and found["target_id"][1] == "4"


def test_copies_of_one_item_do_not_make_it_boilerplate() -> None:
    found = C.leaks(rows((ITEM, "", "133")), C.target_ngrams([ITEM] * 8))
    assert found["leaked"].to_list() == [True] and found["target_id"].to_list() == ["0"]


def test_chinese_by_characters() -> None:
    item = "小明有十二个苹果，他每天吃两个苹果，请问小明一共可以吃多少天才能吃完所有的苹果呢？"
    found = C.leaks(
        rows(("请回答：" + item, "", "六天"), ("小明有十二个苹果，请问他还有多少？", "", "x")), C.target_ngrams([item])
    )
    assert found["leaked"].to_list() == [True, False] and found["overlap"][0] == 1.0


def test_no_rows_and_no_targets() -> None:
    assert C.leaks(rows(), C.target_ngrams([ITEM])).height == 0
    nothing = C.leaks(rows((ITEM, "", "")), C.target_ngrams([]))
    assert nothing["leaked"].to_list() == [False]
    assert C.leaks(rows(("", "", "")), C.target_ngrams(["", "?"]))["leaked"].to_list() == [False]
    with pytest.raises(ValueError, match="ids"):
        C.target_ngrams([ITEM], ids=[])


def test_a_verdict_does_not_depend_on_the_other_rows() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 40, 30)) for _ in range(12)]
    targets = C.target_ngrams(texts[:6], n=3, n_short=3)
    block = rows(*((text, "", "r") for text in texts))
    one_by_one = pl.concat([C.leaks(block[i : i + 1], targets) for i in range(len(block))])
    assert C.leaks(block, targets).equals(one_by_one)
