"""Asking for yes or no: one value a question, the likeliest way to write each, and rows that could not be read."""

import numpy as np
import polars as pl
import pytest

from assets.passes import asked_yes_or_no
from methods.quality.yes_no import NO, UNSEEN, YES, YES_NO_SCHEMA, autods_lm_score, checked
from resources.fakes import FakeCausalLM

ROWS = pl.DataFrame(
    {
        "row_id": ["a" * 32, "b" * 32],
        "text": ["How much is it?\nTwo and two are four.", "Who sails?\nShips sail."],
        "response": ["Two and two are four.", "Ships sail."],
    }
)
QUESTIONS = ["Is it short?", "Is it true?", "Is it new?"]


class Scripted(FakeCausalLM):
    """Answers by a table: the k-th prompt gets the k-th line."""

    lines: list[list[float]]
    said: list[str] | None = None

    def next_token(self, prompts, words):  # type: ignore[no-untyped-def]
        assert list(words) == [*YES, *NO] and len(prompts) == len(self.lines)
        return np.array(self.lines), self.said or ["ok"] * len(prompts)


def test_the_likeliest_way_to_write_an_answer_counts() -> None:
    nothing = float("nan")
    line = [-3.0, -1.0, nothing, -2.0, -0.5, nothing, nothing, nothing]
    found = asked_yes_or_no(ROWS[:1], ["Is it?"], Scripted(lines=[line]))
    assert found.schema == pl.Schema(dict(YES_NO_SCHEMA))
    assert found.row(0)[1:] == ("ok", [-1.0], [-0.5])
    mute = asked_yes_or_no(ROWS[:1], ["Is it?"], Scripted(lines=[[nothing] * 4 + [-0.5] * 4]))
    assert mute.row(0)[1:] == ("ok", [UNSEEN], [-0.5])


def test_a_row_that_was_not_read_has_no_answers() -> None:
    lines = [[-1.0] * 8, [float("nan")] * 8, [-1.0] * 8, [-2.0] * 8]
    for why in ("too_long", "out_of_memory"):
        found = asked_yes_or_no(ROWS, QUESTIONS[:2], Scripted(lines=lines, said=["ok", why, "ok", "ok"]))
        assert found["status"].to_list() == [why, "ok"]
    assert found["logp_yes"].to_list() == [None, [-1.0, -2.0]]


def test_every_question_of_every_row() -> None:
    found = asked_yes_or_no(ROWS, QUESTIONS, FakeCausalLM())
    assert found["row_id"].to_list() == ROWS["row_id"].to_list()
    assert found["logp_yes"].list.len().to_list() == found["logp_no"].list.len().to_list() == [3, 3]
    values = autods_lm_score(found)["value"]
    assert values.is_between(0, 1).all()
    alone = asked_yes_or_no(ROWS[1:], QUESTIONS, FakeCausalLM())
    assert autods_lm_score(alone)["value"][0] == pytest.approx(values[1])


def test_a_row_without_an_answer_is_not_judged() -> None:
    mute = ROWS.with_columns(response=pl.Series(["  ", "Ships sail."]))
    found = asked_yes_or_no(mute, QUESTIONS, FakeCausalLM())
    assert found["status"].to_list() == ["empty_response", "ok"]


def test_a_model_that_can_write_neither_answer_has_none() -> None:
    """It was read, so it is not called too long."""
    found = asked_yes_or_no(ROWS[:1], ["Is it?"], Scripted(lines=[[float("nan")] * 8]))
    assert found["status"].to_list() == ["ok"]
    assert autods_lm_score(found).row(0) == (None, "no_answer")


def test_a_single_text_is_one_question() -> None:
    assert checked("Is it law?") == ["Is it law?"] and checked(("a?", "b?")) == ["a?", "b?"]
    for wrong in (3, ["a?", 4], [""], {"a": "b"}):
        with pytest.raises(ValueError, match="questions must be a list of texts"):
            checked(wrong)


def test_no_question() -> None:
    found = asked_yes_or_no(ROWS, [], FakeCausalLM())
    assert autods_lm_score(found)["status"].to_list() == ["no_question"] * 2
