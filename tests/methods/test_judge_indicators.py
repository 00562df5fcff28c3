"""Indicators of a judge: the specification's values, every status, and plain loops beside them."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.judging.kinds import FAILED, JUDGMENTS_SCHEMA, NOT_ASKED, OK, PENDING, Answer, Cell, Reading, gathered
from methods.judging.questions import question
from methods.kinds import Pool
from methods.quality import judge, judge_deita
from methods.quality.judged_tags import labels

STATUSES = (*FAILED, NOT_ASKED, PENDING)
INDICATORS = (*judge.INDICATORS, *judge_deita.INDICATORS)
OF_ROWS = [one for one in INDICATORS if one.scope == "row"]


def table(*rows):
    """A table from lists of (part, value, status, fields) a row; row ids are made."""
    ids = [str(at) for at in range(len(rows))]
    cells = [Cell(row_id, part, ()) for row_id, row in zip(ids, rows, strict=True) for part, *_ in row]
    told = iter([Reading(status, value, fields) for row in rows for _, value, status, fields in row])
    return gathered(ids, cells, [Answer(OK)] * len(cells), lambda *_: next(told))


def one(value, part="", status=OK, **fields):
    return (part, value if status == OK else None, status, fields)


def marks(accuracy, explanation, clarity, difficulty, status=OK):
    named = {"accuracy": accuracy, "explanation": explanation, "clarity": clarity, "difficulty": difficulty}
    return [one(None, "", status, **named)]


def read(question_id, *texts):
    """A table from what a judge wrote about rows."""
    asked = question(question_id)
    ids = [str(at) for at in range(len(texts))]
    rows = pl.DataFrame(
        {"row_id": ids, "instruction": "Ask", "input": "", "response": "Answer", "messages": [[]] * len(ids)}
    )
    cells = asked.cells(rows, **asked.params)
    return gathered(ids, cells, [Answer(OK, text) for text in texts], lambda a, c: asked.reading(a, c, **asked.params))


# --- the specification's values --------------------------------------------------------------------------------------
def test_alpagasus():
    found = judge.alpagasus_score(
        read("alpagasus", "4.5\nbecause it is right", "Score: 3", "I think it is good", "5.5")
    )
    assert found["value"].to_list() == [4.5, 3.0, None, None]
    assert found["status"].to_list() == ["ok", "ok", "parse_error", "parse_error"]


def test_humpback():
    found = judge.humpback_score(
        read("humpback", "It is right.\nScore: 5", "So\nScore: 50", "5\nIt is right.", "Je suis désolé")
    )
    assert found["value"].to_list() == [5.0, None, None, None]
    assert found["status"].to_list() == ["ok", "parse_error", "parse_error", "refused"]


def test_lift():
    block = table(marks(4, 3, 5, 2))
    assert judge.lift(block)["value"].to_list() == [3.5]
    assert judge.lift(block, 2, 1, 1, 0)["value"].to_list() == [4.0]
    assert judge.lift(block, 0, 0, 0, 3)["value"].to_list() == [2.0]
    text = '{"accuracy": 4, "explanation": 3, "clarity": 5, "difficulty": 2}'
    short = '{"accuracy": 4, "explanation": 3, "clarity": 5}'
    found = judge.lift(read("lift", text, short))
    assert (found["value"].to_list(), found["status"].to_list()) == ([3.5, None], ["ok", "parse_error"])


def test_deita():
    complexity = table([one(4.0, "1:B")], [one(2.0, "1:A"), one(5.0, "2:C")])
    quality = table([one(5.0, "1:D")], [one(3.0, "1:A"), one(6.0, "2:F")])
    joined = complexity.join(quality.drop("status"), on="row_id", how="left", maintain_order="left")
    assert judge_deita.deita_score(joined)["value"].to_list() == [20.0, 36.0]
    for over, wanted in (("mean", 3.5), ("sum", 7.0), ("max", 5.0)):
        assert judge_deita.deita_complexity(complexity, over)["value"].to_list() == [4.0, wanted]
    assert judge_deita.deita_quality(quality)["value"].to_list() == [5.0, 4.5]
    with pytest.raises(ValueError, match="over must be"):
        judge_deita.deita_quality(quality, "min")


def test_agreement_counts_equal_pairs():
    block = table(
        [one(4.0, "accuracy"), one(4.0, "accuracy~2"), one(5.0, "accuracy~3")],
        [one(4.0, "accuracy"), one(4.0, "accuracy~2")],
        [one(4.0, "accuracy"), one(5.0, "accuracy~2")],
        [one(4.0, "accuracy")],
        [one(4.0, "accuracy"), one(None, "accuracy~2", "refused")],
        [one(4.0, "wit"), one(4.0, "wit~2")],
    )
    found = judge.judge_agreement(block)
    assert found["value"].to_list() == [pytest.approx(1 / 3), 1.0, 0.0, None, None, None]
    assert found["status"].to_list() == ["ok", "ok", "ok", "one_sample", "refused", "other_dimension"]
    assert judge.alpagasus_score(block)["value"].to_list()[:4] == [pytest.approx(13 / 3), 4.0, 4.5, 4.0]
    assert judge.rubric_agreement(table([one(2.0, ""), one(2.0, "~2")]))["value"].to_list() == [1.0]


# --- statuses --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("indicator", OF_ROWS, ids=[one.id for one in OF_ROWS])
def test_a_failed_cell_is_null_and_says_why(indicator, status):
    fine = {"accuracy": 4, "explanation": 4, "clarity": 4, "difficulty": 4}
    names = ("accuracy", "accuracy~2") if "dimension" in indicator.params else ("", "~2")
    names = ("1:A", "2:B") if indicator.id.startswith("deita") else names
    rows = [[one(4.0, names[0], OK, **fine), one(4.0, names[1], say, **fine)] for say in (OK, status)]
    block = table(*rows, [])
    block = block.join(block.drop("status"), on="row_id", how="left", maintain_order="left")
    found = indicator.compute(block)
    assert found["status"].to_list() == ["ok", status, "empty_response"]
    assert found["value"].is_not_null().to_list() == [True, False, False]
    assert indicator.compute(block.head(0)).shape == (0, 2)
    assert found.schema == pl.Schema({"value": pl.Float64(), "status": pl.String()})


def test_a_row_that_is_in_no_table():
    empty = pl.DataFrame([{"row_id": "x"}], schema=JUDGMENTS_SCHEMA)
    assert judge.lift(empty).row(0) == (None, "not_asked")
    assert judge.alpagasus_score(empty).row(0) == (None, "not_asked")
    assert judge.judge_agreement(empty).row(0) == (None, "not_asked")


def test_each_dimension_is_a_number_of_its_own():
    block = table(
        [one(4.0, "accuracy"), one(2.0, "helpfulness")], [one(4.0, "accuracy"), one(None, "helpfulness", "refused")]
    )
    assert judge.alpagasus_score(block)["value"].to_list() == [4.0, 4.0]
    assert judge.alpagasus_score(block, "helpfulness")["status"].to_list() == ["ok", "refused"]
    assert judge.alpagasus_score(block, "wit")["status"].to_list() == ["other_dimension"] * 2


def test_turns_that_do_not_meet():
    complexity = table([one(4.0, "1:A"), one(3.0, "2:A")], [one(4.0, "1:A")], [one(4.0, "1:A")], [])
    quality = table([one(5.0, "1:A")], [], [one(None, "1:A", "api_error")], [one(5.0, "1:A")])
    joined = complexity.join(quality.drop("status"), on="row_id", how="left", maintain_order="left")
    found = judge_deita.deita_score(joined)
    assert found["status"].to_list() == ["uneven_turns", "not_asked", "api_error", "empty_response"]
    assert found["value"].null_count() == 4


def test_weights_that_weigh_nothing():
    for weights in ((0, 0, 0, 0), (-1, 1, 1, 1), (float("nan"), 1, 1, 1)):
        with pytest.raises(ValueError, match="weights"):
            judge.lift(table(marks(4, 3, 5, 2)), *weights)


# --- length in the pool ----------------------------------------------------------------------------------------------
def pool_of(lift_table, words):
    counts = pl.LazyFrame({"row_id": lift_table["row_id"], "response_n_words": pl.Series(words, dtype=pl.Int64)})
    return Pool(lift_table["row_id"], counts=counts, tables={judge.LIFT_TABLE: lift_table.lazy()})


def test_lift_with_length():
    block = table(
        marks(4, 3, 5, 2), marks(4, 3, 5, 2), marks(1, 1, 1, 1, "refused"), marks(1, 1, 1, 1), marks(3, 3, 3, 3)
    )
    pool = pool_of(block, [10, 30, 1000, 0, 20])
    found = judge.lift_length(pool)
    step = np.sqrt(1.5)  # 10, 30 and 20: mean 20, standard deviation sqrt(200 / 3)
    assert found["status"].to_list() == ["ok", "ok", "refused", "no_words", "ok"]
    assert found["value"].to_list() == [pytest.approx(3.5 - step), pytest.approx(3.5 + step), None, None, 3.0]
    assert judge.lift_length(pool, length=0.0)["value"].to_list() == [3.5, 3.5, None, None, 3.0]
    same = judge.lift_length(pool_of(block, [7] * 5))
    assert same["value"].to_list() == [3.5, 3.5, None, 1.0, 3.0]
    assert judge.lift_length(pool_of(block.head(0), [])).shape == (0, 2)
    nobody = judge.lift_length(pool_of(table([], []), [3, 4]))
    assert nobody["status"].to_list() == ["empty_response"] * 2
    with pytest.raises(ValueError, match="lift_length reads"):
        judge.lift_length(Pool(block["row_id"]))


# --- plain loops -----------------------------------------------------------------------------------------------------
cells = st.tuples(st.sampled_from([OK, OK, OK, *STATUSES]), st.integers(0, 10).map(lambda k: k / 2))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(cells, max_size=4), max_size=8), st.randoms())
def test_means_against_plain_loops(rows, random):
    made = [[one(v, "accuracy" + (f"~{k + 1}" if k else ""), s) for k, (s, v) in enumerate(row)] for row in rows]
    found = judge.alpagasus_score(table(*made))
    for (value, status), row in zip(found.iter_rows(), rows, strict=True):
        failed = [said for said, _ in row if said != OK]
        assert status == (failed[0] if failed else OK if row else "empty_response")
        assert value == (None if failed or not row else pytest.approx(sum(v for _, v in row) / len(row)))
    order = list(range(len(rows)))
    random.shuffle(order)
    mixed = judge.alpagasus_score(table(*[made[at] for at in order]))
    assert mixed.rows() == [found.row(at) for at in order]


# --- labels ----------------------------------------------------------------------------------------------------------
def test_labels_of_a_table():
    block = table([one(None, task="coding")], [one(None, "", "refused")], [])
    assert labels(block, "task").to_list() == [["coding"], None, None]
    block = table([one(None, domains=["law", "cooking"])])
    assert labels(block, "domain").to_list() == [["law", "cooking"]]
    assert labels(table([one(3.0, level="high school")]), "education_level").to_list() == [["high school"]]
    assert labels(block.head(0), "domain").dtype == pl.List(pl.String)
    with pytest.raises(ValueError, match="gives no labels"):
        labels(block, "lift")


def test_ids_are_unique_and_params_are_json():
    ids = [one.id for one in INDICATORS]
    assert len(set(ids)) == len(ids)
    assert all(json.loads(json.dumps(dict(one.params))) == dict(one.params) for one in INDICATORS)
    assert {one.cost for one in INDICATORS} == {"llm"} and {one.family for one in INDICATORS} == {"judge"}
