"""What a reward model is shown of a row, and what becomes of its answer."""

import numpy as np
import polars as pl
import pytest

from methods.quality.reward import INDICATORS, REWARDS_SCHEMA, question_and_answer, reward_score, rewarded


def messages(*said: tuple[str, str]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def test_a_single_turn_is_instruction_and_input_and_the_answer() -> None:
    assert question_and_answer(messages(("user", "Sum up.\nA text."), ("assistant", "Short."))) == (
        "Sum up.\nA text.",
        "Short.",
    )
    plain = {"messages": None, "instruction": "Sum up.", "input": "A text.", "response": "Short."}
    assert question_and_answer(plain) == ("Sum up.\nA text.", "Short.")
    assert question_and_answer({**plain, "input": ""}) == ("Sum up.", "Short.")


def test_of_several_turns_the_last_is_judged_behind_all_the_others() -> None:
    said = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "More"), ("assistant", "Fine")]
    whole = "System: Be kind.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: More"
    assert question_and_answer(messages(*said)) == (whole, "Fine")
    assert question_and_answer(messages(*said, ("user", "Bye"))) == (whole, "Fine")  # what follows is not shown
    used = messages(("user", "2+2?"), ("tool_call", "sum"), ("tool", "4"), ("assistant", "Four"))
    assert question_and_answer(used) == ("User: 2+2?\n\nCall: sum\n\nResult: 4", "Four")


def test_nobody_answered() -> None:
    assert question_and_answer(messages(("user", "Hi"))) == ("Hi", "")
    assert question_and_answer(messages(("user", "Hi"), ("assistant", ""))) == ("Hi", "")


STATUS = ["ok", "truncated", "empty_response", "out_of_memory", "ok"]


def test_a_reward_stands_where_it_could_be_given() -> None:
    table = rewarded(pl.Series("row_id", list("abcde")), np.array([-1.2, 0.5, 9.0, np.nan, np.nan]), STATUS)
    assert table.schema == pl.Schema(dict(REWARDS_SCHEMA))
    assert table["reward"].to_list() == [-1.2, 0.5, None, None, None]
    assert table["truncated"].to_list() == [False, True, False, False, False]
    scored = reward_score(table)
    assert scored["value"].to_list() == [-1.2, None, None, None, None]
    assert scored["status"].to_list() == ["ok", "truncated", "empty_response", "out_of_memory", "not_finite"]
    kept = reward_score(table, keep_truncated=True)
    assert kept["value"].to_list() == [-1.2, 0.5, None, None, None] and kept["status"][1] == "ok"


@pytest.mark.parametrize("values", [[], [-1.2, 0.0, 0.3], [7.5e3]])
def test_a_mock_model_is_passed_through(values: list[float]) -> None:
    ids = pl.Series("row_id", [f"r{i}" for i in range(len(values))], dtype=pl.String)
    table = rewarded(ids, np.array(values), ["ok"] * len(values))
    assert reward_score(table)["value"].to_list() == values
    assert reward_score(table)["value"].gt(0.0).to_list() == [value > 0 for value in values]  # MoDS: strictly above


def test_a_cut_that_gave_no_reward_has_none() -> None:
    table = pl.DataFrame([("a", "truncated", True, None)], schema=dict(REWARDS_SCHEMA), orient="row")
    assert reward_score(table, keep_truncated=True).row(0) == (None, "truncated")


def test_the_catalogue_entry() -> None:
    (entry,) = INDICATORS
    assert (entry.id, entry.axis, entry.family, entry.section, entry.direction) == (
        "reward_score", "quality", "model", "3.2", "higher",
    )  # fmt: skip
    assert entry.needs == ("evidence/rewards",) and entry.params == {"keep_truncated": False}
