"""UniEval: the questions as the checkpoints know them, the specification's value, plain loops, and statuses."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality.unieval import (
    DEFAULT_ASK,
    DIMENSIONS,
    MARK,
    answers_schema,
    asked,
    gathered,
    probability_of_yes,
    question,
    questions_of,
    sentences,
    unieval,
)


def rows_of(*rows):
    schema = dict.fromkeys(("row_id", "instruction", "input", "response"), pl.String)
    return pl.DataFrame([(str(i), *row) for i, row in enumerate(rows)], schema=schema, orient="row")


def evidence(dimensions, *lines):
    return pl.DataFrame(
        [(str(i), *one) for i, one in enumerate(lines)], schema=answers_schema(dimensions), orient="row"
    )


# ---- questions -----------------------------------------------------------------------------------------------------
def test_how_a_question_is_written():
    """Every part in its place, divided by the mark of the end of a sequence, as the checkpoints were trained."""
    written = question(DIMENSIONS["dialogue"]["coherence"], output="O", source="S", context="C")
    assert written == (
        "question: Is this a coherent response given the dialogue history? </s> response: O </s> dialogue history: S"
    )
    for task in DIMENSIONS.values():
        for dimension in task.values():
            text = question(dimension, output="<o>", source="<s>", context="<c>", reference="<r>")
            assert text.startswith(f"question: {dimension.question} {MARK} ") and dimension.question.endswith("?")
            assert text.count(MARK) == len(dimension.parts) and dimension.parts[0][1] == "output"
    assert {task: len(of) for task, of in DIMENSIONS.items()} == {
        "dialogue": 5, "summarization": 4, "data2text": 2, "fact": 1,
    }  # fmt: skip
    sums = [name for task in DIMENSIONS.values() for name, one in task.items() if one.over == "sentence sum"]
    means = {name for task in DIMENSIONS.values() for name, one in task.items() if one.over == "sentence mean"}
    assert sums == ["engagingness"] and means == {"consistency", "fluency"}


def test_what_is_asked_about_a_row():
    rows = rows_of(("Ask", "Fact", "One. Two!"), ("Ask </s> me", "", "x"), ("Ask", "", "  "), ("Ask", None, None))
    found = questions_of(rows, ("naturalness", "coherence", "engagingness", "groundedness"))
    assert found.row.tolist() == [0] * 5 + [1] * 2
    assert found.dimension.tolist() == [0, 1, 2, 2, 3, 0, 1]
    assert found.texts[1].endswith("</s> response: One. Two! </s> dialogue history: Ask\nFact")
    assert found.texts[2].endswith("</s> response: One. </s> dialogue history: Ask </s> fact: Fact")
    assert found.texts[3].endswith("</s> response: Two! </s> dialogue history: Ask </s> fact: Fact")
    assert found.texts[4].endswith("</s> response: One. Two! </s> fact: Fact")
    assert found.texts[6].endswith("</s> dialogue history: Ask   me")  # a row cannot end a part
    document = questions_of(rows, ("consistency",), "fact").texts
    assert len(document) == 3 and document[0].endswith("</s> claim: One. </s> document: Ask\nFact")


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", []),
        ("...", []),
        ("One", ["One"]),
        ("Dr. Who came. He left! Why?", ["Dr. Who came.", "He left!", "Why?"]),
        ("It is 3.14, e.g. here. J. Doe said so.", ["It is 3.14, e.g. here.", "J. Doe said so."]),
        ('He said "go." She went.', ['He said "go."', "She went."]),
        ("春天来了。花开了！", ["春天来了。", "花开了！"]),
        ("a list\n- one\n\n- two", ["a list", "- one", "- two"]),
    ],
)
def test_sentences(text, cut):
    assert sentences(text) == cut


@given(st.text(alphabet="ab .!?。\n", max_size=30))
def test_sentences_lose_no_letter(text):
    assert [c for one in sentences(text) for c in one if c.isalnum()] == [c for c in text if c.isalnum()]


def test_a_response_of_signs_alone_is_one_sentence():
    found = questions_of(rows_of(("Ask", "Fact", "!!!")), ("engagingness",))
    assert len(found.texts) == 1 and "response: !!! " in found.texts[0]


def test_what_can_be_asked():
    assert asked() == DEFAULT_ASK
    assert asked(dimension="engagingness") == (*DEFAULT_ASK, "engagingness")
    assert asked(ask=["coherence"], dimension="coherence") == ("coherence",)
    for wrong, why in (
        ({"task": "poetry"}, "task must be one of"),
        ({"ask": "coherence"}, "must be a list"),
        ({"ask": []}, "must be a list"),
        ({"dimension": "fluency"}, "dialogue has no dimension 'fluency'"),
        ({"task": "summarization", "ask": ["relevance"]}, "a reference answer"),
        ({"task": "data2text", "ask": ["informativeness"]}, "a reference answer"),
    ):
        with pytest.raises(ValueError, match=why):
            asked(**wrong)


# ---- answers -------------------------------------------------------------------------------------------------------
def test_value_of_the_specification():
    assert float(probability_of_yes(0.6, 0.2)) == pytest.approx(0.75)
    assert np.isnan(probability_of_yes(0.0, 0.0))
    assert probability_of_yes([0.0, 0.1], [0.3, 0.0]).tolist() == [0.0, 1.0]


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(-8, 8))
def test_the_chance_is_the_sigmoid_of_the_two_scores(yes, no, other):
    p = np.exp([yes, no, other])
    p /= p.sum()
    assert float(probability_of_yes(p[0], p[1])) == pytest.approx(1 / (1 + np.exp(no - yes)), rel=1e-9)


def test_answers_are_put_together():
    rows = rows_of(("Ask", "Fact", "One. Two!"), ("Ask", "", "x"), ("Ask", "", ""), ("Ask", "F", "Aa. Bb."))
    names = ("naturalness", "engagingness")
    found = questions_of(rows, names)
    assert found.row.tolist() == [0, 0, 0, 1, 3, 3, 3]
    chance = np.array([0.25, 0.75, 0.5, 0.125, np.nan, 0.5, 0.5])
    status = ["ok"] * 4 + ["out_of_memory"] + ["ok"] * 2
    table = gathered(rows, names, found, chance, status, np.array([0, 0, 0, 1, 0, 0, 0], dtype=bool))
    assert table.rows() == [
        ("0", "ok", False, 0.25, 1.25),  # a sum over sentences goes beyond 1
        ("1", "ok", True, 0.125, None),
        ("2", "empty_response", False, None, None),
        ("3", "out_of_memory", False, None, None),
    ]
    mean = questions_of(rows[:1], ("consistency",), "fact")
    none = np.zeros(2, dtype=bool)
    table = gathered(rows[:1], ("consistency",), mean, np.array([0.2, 0.6]), ["ok"] * 2, none, "fact")
    assert table["consistency"].to_list() == pytest.approx([0.4])
    empty = questions_of(rows.head(0), names)
    assert gathered(rows.head(0), names, empty, np.array([]), [], none[:0]).schema == pl.Schema(answers_schema(names))


def test_the_indicator():
    block = evidence(
        (*DEFAULT_ASK, "groundedness"),
        ("ok", False, 0.9, 0.6, 0.3, 0.1),
        ("ok", True, 0.5, 0.5, 0.5, None),
        ("empty_response", False, None, None, None, None),
        ("ok", False, float("nan"), 0.5, 0.5, 0.5),
    )
    assert unieval(block)["status"].to_list() == ["ok", "ok", "empty_response", "not_finite"]
    assert unieval(block)["value"].to_list() == pytest.approx([0.6, 0.5, None, None])
    assert unieval(block, dimension="coherence")["value"].to_list() == pytest.approx([0.6, 0.5, None, 0.5])
    grounded = unieval(block, dimension="groundedness")
    assert grounded.rows() == [(0.1, "ok"), (None, "no_input"), (None, "empty_response"), (0.5, "ok")]
    every = unieval(block, ask=(*DEFAULT_ASK, "groundedness"))
    assert every["status"].to_list() == ["ok", "no_input", "empty_response", "not_finite"]
    assert every["value"][0] == pytest.approx(1.9 / 4)
    assert unieval(block, keep_truncated=False)["status"][1] == "truncated"
    other = unieval(block, dimension="engagingness")
    assert other["status"].to_list() == ["not_asked", "not_asked", "empty_response", "not_asked"]
    assert unieval(block.head(0)).schema == unieval(block).schema
    with pytest.raises(ValueError, match="no dimension 'fluency'"):
        unieval(block, dimension="fluency")


chances = st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(chances)
def test_overall_is_the_mean_of_what_was_asked(table):
    block = evidence(DEFAULT_ASK, *(("ok", False, *row) for row in table))
    assert unieval(block)["value"].to_list() == pytest.approx([sum(row) / 3 for row in table])
    assert unieval(block[::-1])["value"].to_list() == unieval(block)["value"].to_list()[::-1]
