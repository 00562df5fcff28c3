"""Asking again with words of the instruction missing: what is passed, what comes back, and rows that cannot be asked."""

import polars as pl
import pytest

from assets.passes import ASKED_AGAIN, asked_again
from methods.importance.prompting import PERTURBATIONS_SCHEMA, perturbed, prompt_uncertainty
from methods.rows import ROW_SCHEMA
from resources.fakes import FakeCausalLM


def row(number: int, instruction: str, response: str, given: str = "", more: tuple[tuple[str, str], ...] = ()) -> dict:
    first = instruction + (f"\n{given}" if given else "")
    said = [("user", first), ("assistant", response), *more]
    messages = [{"role": role, "content": content} for role, content in said]
    return {
        "row_id": f"{number:032x}",
        "messages": messages,
        "instruction": instruction,
        "input": given,
        "response": response,
    }


SCHEMA = {name: ROW_SCHEMA[name] for name in ("row_id", "messages", "instruction", "input", "response")}
ROWS = pl.DataFrame(
    [
        row(0, "Name three large rivers of Europe please.", "The Volga, the Danube and the Dnieper.", "In one line."),
        row(1, "Summarize", "It is short."),
        row(2, "Say nothing at all to me now.", ""),
        row(3, "Tell me of ships and the sea.", "They sail.", more=(("user", "Tell me more."), ("assistant", "Far."))),
    ],
    schema=SCHEMA,
)


def test_each_row_is_asked_once_for_each_form_of_its_instruction() -> None:
    found = asked_again(ROWS, FakeCausalLM())
    assert found.schema == pl.Schema(dict(PERTURBATIONS_SCHEMA))
    assert found["row_id"].to_list() == ROWS["row_id"].to_list()
    assert found["status"].to_list() == ["ok", "too_short", "empty_response", "ok"]
    assert found["logp"].is_null().to_list() == [False, True, True, False]
    for at in (0, 3):
        lists = found["logp"][at].to_list()
        assert len(lists) == 1 + ASKED_AGAIN and len({len(one) for one in lists}) == 1
        plain = pl.concat(list(FakeCausalLM().token_statistics(ROWS[at : at + 1])))["logp_conditional"][0].to_list()
        assert lists[0] == pytest.approx(plain)


def test_only_the_instruction_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[pl.DataFrame] = []

    class Listening(FakeCausalLM):
        def token_statistics(self, rows, on_progress=None, alone=True):  # type: ignore[no-untyped-def]
            asked.append(rows)
            assert not alone
            yield from super().token_statistics(rows, on_progress, alone)

    asked_again(ROWS[:1], Listening())
    contents = [messages[0]["content"] for messages in asked[0]["messages"].to_list()]
    forms = perturbed(ROWS["instruction"][0], ASKED_AGAIN)
    assert contents == [f"{form}\nIn one line." for form in forms]
    assert all(messages[1]["content"] == ROWS["response"][0] for messages in asked[0]["messages"].to_list())


def test_the_reading_of_a_row_that_hangs_on_its_instruction() -> None:
    """The stand-in finds words of the prompt likelier: an answer that repeats the instruction loses by missing words."""
    table = pl.DataFrame(
        [
            row(0, "rivers lakes oceans mountains valleys", "rivers lakes oceans mountains valleys"),
            row(1, "rivers lakes oceans mountains valleys", "something wholly different stands here"),
        ],
        schema=SCHEMA,
    )
    values = prompt_uncertainty(asked_again(table, FakeCausalLM()))["value"].to_list()
    assert values[0] > 0.0 and values[1] == pytest.approx(0.0, abs=1e-7)


def test_nothing_to_ask() -> None:
    assert prompt_uncertainty(asked_again(ROWS[1:2], FakeCausalLM()))["status"].to_list() == ["too_short"]
