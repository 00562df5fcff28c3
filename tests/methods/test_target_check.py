"""Whether a target stands in the pool: planted copies, near copies and vectors, and rows that only look alike."""

import numpy as np
import polars as pl
import pytest

from methods.importance import target_check
from methods.importance.target_check import SCHEMA, target_in_pool
from methods.kinds import Target


def frame(prompts: list[str], responses: list[str] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"prompt": prompts, "response": responses or [""] * len(prompts)},
        schema={"prompt": pl.String, "response": pl.String},
    )


def ids(n: int) -> pl.Series:
    return pl.Series([f"r{i}" for i in range(n)], dtype=pl.String)


def found(texts: pl.DataFrame, target: pl.DataFrame, **options: object) -> list[tuple[object, ...]]:
    return target_in_pool(ids(len(texts)), texts, Target(target), **options).rows()  # type: ignore[arg-type]


def sentence(start: int, n: int = 20) -> str:
    return " ".join(f"word{i}" for i in range(start, start + n))


def test_a_prompt_is_found_but_for_case_and_white_space() -> None:
    texts = frame(["Name  a\tRiver.", "other", "name a river."])
    assert found(texts, frame(["name a river."])) == [
        (0, "exact", "r0", 1.0, 2), (0, "overlap", "r0", 1.0, None),
    ]  # fmt: skip
    assert found(texts, frame(["name a river in spain."])) == []


def test_a_target_without_a_prompt_goes_by_its_response() -> None:
    texts = frame(["yes", "is it?"], ["is it?", "yes"])
    assert found(texts, frame([" "], ["yes"]))[0] == (0, "exact", "r1", 1.0, 1)
    assert found(texts, frame(["yes"], ["is it?"]))[0] == (0, "exact", "r0", 1.0, 1)
    assert found(texts, frame([""], [""])) == []


def test_most_of_a_prompts_words_are_found_inside_a_longer_row() -> None:
    texts = frame(["other", "Please answer: " + sentence(0, 18) + " and more"], ["", "no"])
    assert found(texts, frame([sentence(0)])) == [(0, "overlap", "r1", 0.9, None)]
    assert found(texts, frame([sentence(0)]), least_overlap=0.95) == []
    assert found(frame(["x"], [sentence(0)]), frame([sentence(0)])) == [(0, "overlap", "r0", 1.0, None)]


def test_every_row_of_the_target_is_found_also_where_one_row_of_the_pool_holds_several() -> None:
    texts = frame(["first", " then ".join([sentence(0), sentence(100), sentence(200)]), sentence(300)])
    target = frame([sentence(100), sentence(300), sentence(0), sentence(500), sentence(200), sentence(0)])
    overlaps = [row for row in found(texts, target) if row[1] == "overlap"]
    assert [(row[0], row[2]) for row in overlaps] == [(0, "r1"), (1, "r2"), (2, "r1"), (4, "r1"), (5, "r1")]


def test_a_short_prompt_does_not_hide_what_the_response_holds() -> None:
    texts = frame(["name a river"], [sentence(0, 18)])
    overlaps = [row for row in found(texts, frame(["name a river", sentence(0)])) if row[1] == "overlap"]
    assert overlaps == [(0, "overlap", "r0", 1.0, None), (1, "overlap", "r0", 0.9, None)]


def test_blocks_change_nothing() -> None:
    texts = frame([sentence(7 * i, 25) for i in range(30)])
    target = frame([sentence(10 * i, 20) for i in range(20)])
    vectors = np.eye(30, 8, dtype=np.float32)
    goal = Target(target, np.eye(20, 8, dtype=np.float32))
    whole = target_in_pool(ids(30), texts, goal, vectors)
    assert len(whole)
    for block in (1, 4, 13):
        assert target_in_pool(ids(30), texts, goal, vectors, block=block).equals(whole)


def test_vectors_that_are_nearly_the_targets() -> None:
    vectors = np.array([[np.nan, np.nan], [1, 0], [0.96, 0.28], [0.8, 0.6], [0, -1]], dtype=np.float32)
    goal = Target(frame(["a", "b"]), np.array([[1, 0], [0, 1]], dtype=np.float32))
    texts = frame(list("vwxyz"))
    assert target_in_pool(ids(5), texts, goal, vectors).rows() == [(0, "cosine", "r1", 1.0, 2)]
    both = target_in_pool(ids(5), texts, goal, vectors, least_cosine=0.6)
    assert both.rows() == [(0, "cosine", "r1", 1.0, 3), (1, "cosine", "r3", pytest.approx(0.6, abs=1e-6), 1)]
    blind = np.full((5, 2), np.nan, dtype=np.float32)
    assert target_in_pool(ids(5), texts, goal, blind).is_empty()


def test_tiles_of_the_target_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.linspace(0, 3, 17)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32) * np.float32(0.999999)
    goal = Target(frame(["x"] * 17), circle[::-1].copy())
    whole = target_in_pool(ids(17), frame(["y"] * 17), goal, circle)
    assert whole["row_id"].to_list() == [f"r{i}" for i in range(16, -1, -1)]
    monkeypatch.setattr(target_check, "TILE", 5)
    assert target_in_pool(ids(17), frame(["y"] * 17), goal, circle).equals(whole)


def test_ninety_nine_of_a_hundred_planted_rows_are_found_and_none_of_the_others() -> None:
    rng = np.random.default_rng(0)
    target = [" ".join(f"w{i}" for i in rng.integers(0, 500, 15)) for _ in range(100)]
    others = [" ".join(f"w{i}" for i in rng.integers(0, 500, 40)) for _ in range(400)]
    planted = [f"q{i} {text}" for i, text in enumerate(target[:50])]
    made = target_in_pool(ids(450), frame(others + planted), Target(frame(target)))
    assert made["target_row"].to_list() == list(range(50))


def test_nothing_to_look_at() -> None:
    some = frame(["a b c"])
    for texts, target in ((frame([]), some), (some, frame([])), (frame([]), frame([]))):
        made = target_in_pool(ids(len(texts)), texts, Target(target))
        assert made.is_empty() and made.schema == SCHEMA
    nulls = pl.DataFrame({"prompt": [None, "a b c"], "response": [None, None]}, schema=some.schema)
    assert found(nulls, some)[0] == (0, "exact", "r1", 1.0, 1)


def test_a_pool_of_unequal_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="of one length"):
        target_in_pool(ids(2), frame(["a"]), Target(frame(["a"])))
