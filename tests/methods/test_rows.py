"""A row's identity and what is read off its messages."""

import hashlib
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.rows import PROMPT, ROLES, ROW_SCHEMA, TEXT, make_row, row_id

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
message = st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": texts})
conversations = st.lists(message, max_size=4)


def row(messages, input=""):
    return make_row("s", 3, 0, 7, "alpaca", messages, input, "{}")


def test_row_id_is_the_hash_of_the_canonical_json():
    messages = [{"role": "user", "content": 'a "b"\n'}, {"role": "assistant", "content": "é"}]
    canonical = '[["user","a \\"b\\"\\n"],["assistant","é"]]'
    assert row_id(messages) == hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


@given(conversations, conversations)
def test_row_id_tells_conversations_apart_and_nothing_else(one, other):
    assert (row_id(one) == row_id(other)) == (one == other)
    assert row_id(json.loads(json.dumps(one))) == row_id(one)


def test_row_id_keeps_borders_and_unicode_forms():
    def user(*contents):
        return row_id([{"role": "user", "content": content} for content in contents])

    assert len({user("ab", "c"), user("a", "bc"), user("abc"), user('a"],["user","bc')}) == 4
    assert user("\u00e9") != user("e\u0301")
    assert user("a") != user("a ")
    with pytest.raises(UnicodeEncodeError):
        user("\ud800")


def test_row_id_ignores_everything_but_role_and_content():
    assert row_id([{"role": "user", "content": "a", "name": "x"}]) == row_id([{"content": "a", "role": "user"}])


def test_make_row_reads_off_a_conversation():
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "do\nthis"},
        {"role": "assistant", "content": "one"},
        {"role": "tool_call", "content": "{}"},
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "two"},
    ]
    made = row(messages, "this")
    assert (made["instruction"], made["input"], made["response"], made["turns"]) == ("do", "this", "one\n\ntwo", 2)
    assert (made["source"], made["position"], made["line"], made["messages"]) == ("s", 3, 7, messages)
    assert list(made) == list(ROW_SCHEMA)


@pytest.mark.parametrize("content", ["dothis", "this", "", "this\nand more"])
def test_an_input_that_the_message_does_not_end_with_is_none(content):
    made = row([{"role": "user", "content": content}], "this")
    assert (made["instruction"], made["input"]) == (content, "")


def test_no_user_and_no_assistant():
    made = row([{"role": "system", "content": "S"}])
    assert (made["instruction"], made["response"], made["turns"]) == ("", "", 0)


@given(texts, texts, texts)
def test_prompt_and_text(instruction, input, response):
    content = f"{instruction}\n{input}" if input else instruction
    made = row([{"role": "user", "content": content}, {"role": "assistant", "content": response}], input)
    frame = pl.DataFrame([made], schema=ROW_SCHEMA).select(PROMPT, TEXT)
    assert frame.columns == ["prompt", "text"]
    assert frame.row(0) == (content, f"{content}\n{response}")


def test_prompt_of_an_empty_frame():
    assert ROW_SCHEMA.to_frame().select(PROMPT, TEXT).height == 0
