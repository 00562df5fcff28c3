"""Every layout, in its usual dialects and in those that must be refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.formats import ANSWERS, CHOSEN, DIALOGUES, LAYOUTS, LONE_PROMPTS, SYSTEMS, read_record
from methods.rows import ROLES, BadRecord, make_row

SHORT = {"system": "s", "user": "u", "assistant": "a", "tool_call": "c", "tool": "t"}


def read(record, layout=None, paths="best"):
    """The layout's name, and each conversation as ``u:text a:text``, with its input after a bar if there is one."""
    name, conversations = read_record(record, layout, paths)
    shown = []
    for messages, input in conversations:
        said = " ".join(f"{SHORT[message['role']]}:{message['content']}" for message in messages)
        shown.append(f"{said} | {input}" if input else said)
    return name, *shown


def reason(record, layout=None):
    with pytest.raises(BadRecord) as caught:
        read_record(record, layout)
    assert caught.value.detail.endswith(".")
    return caught.value.reason


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def said(who, value):
    return {"from": who, "value": value}


ASKED = [turn("user", "Q")]
TALK = [turn("user", "Q"), turn("assistant", "A")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"instruction": "I", "input": "", "output": "O"}, "u:I a:O"),
        ({"instruction": "I", "input": "N", "response": "O"}, "u:I\nN a:O | N"),
        ({"instruction": "I", "context": "N", "completion": "O"}, "u:I\nN a:O | N"),
        ({"instruction": "I", "input": None, "output": "O"}, "u:I a:O"),
        ({"instruction": "", "input": "N", "output": "O"}, "u:N a:O"),
        ({"instruction": "I", "output": ""}, "u:I a:"),
        ({"instruction": "I", "response": "R", "output": "O"}, "u:I a:O"),
        ({"Instruction": "I", "Output": "O"}, "u:I a:O"),
        ({"instruction": "I", "output": "O", "system": "S"}, "s:S u:I a:O"),
        ({"instruction": "I", "input": "N", "output": "O", "history": [["q", "r"]]}, "u:q a:r u:I\nN a:O"),
        ({"instruction": "I", "output": '["a", "b"]'}, 'u:I a:["a", "b"]'),
        ({"instruction": "I", "output": '[{"role": "x"}]'}, 'u:I a:[{"role": "x"}]'),
    ],
)
def test_alpaca(record, expected):
    assert read(record) == ("alpaca", expected)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "P", "response": "R"}, "u:P a:R"),
        ({"question": "P", "answer": "R"}, "u:P a:R"),
        ({"question": "P", "std_answer": "R", "class": "x"}, "u:P a:R"),
        ({"query": "P", "response": "R"}, "u:P a:R"),
        ({"input": "P", "output": "R"}, "u:P a:R"),
        ({"input": "P", "target": "R"}, "u:P a:R"),
        ({"prompt": "P", "canonical_solution": "R", "test": "t"}, "u:P a:R"),
        ({"problem": "P", "solution": "R"}, "u:P a:R"),
        ({"question": "P", "context": "C", "answer": "R"}, "u:P\nC a:R | C"),
        ({"system_prompt": "S", "question": "P", "response": "R"}, "s:S u:P a:R"),
        ({"prompt": ASKED, "completion": [turn("assistant", "R")]}, "u:Q a:R"),
        ({"prompt": "P", "completion": [turn("assistant", "R")]}, "u:P a:R"),
    ],
)
def test_prompt_response(record, expected):
    assert read(record) == ("prompt_response", expected)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (TALK, "u:Q a:A"),
        ([turn("developer", "S"), *TALK, turn("user", "Q2")], "s:S u:Q a:A u:Q2"),
        ([turn("user", [{"type": "text", "text": "x"}, {"type": "text", "value": "y"}]), TALK[1]], "u:x\ny a:A"),
        ([turn("user", ["x"], name="bob"), turn("assistant", "A", weight=0)], "u:x a:A"),
        (
            [
                ASKED[0],
                turn("assistant", None, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": "{}"}}]),
                turn("tool", "42", tool_call_id="1"),
                turn("assistant", "A"),
            ],
            'u:Q c:{"name": "f", "arguments": "{}"} t:42 a:A',
        ),
        (
            [ASKED[0], turn("assistant", "wait", function_call={"name": "f"})],
            'u:Q a:wait c:{"name": "f", "arguments": {}}',
        ),
        ([ASKED[0], turn("assistant", "", tool_calls=[{"name": "f"}])], 'u:Q c:{"name": "f", "arguments": {}}'),
        ([ASKED[0], turn("assistant", [{"type": "tool_call", "value": "{}"}])], "u:Q c:{}"),
        ([ASKED[0], turn("assistant", [])], "u:Q a:"),
        (json.dumps(TALK), "u:Q a:A"),
    ],
)
def test_messages(messages, expected):
    assert read({"messages": messages}) == ("messages", expected)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"conversations": [said("human", "Q"), said("gpt", "A")]}, "u:Q a:A"),
        ({"conversations": [said("gpt", "hi"), said("human", "Q"), said("gpt", "A")]}, "a:hi u:Q a:A"),
        ({"conversations": [said("human", "Q"), said("gpt", "A")], "system": "S"}, "s:S u:Q a:A"),
        ({"conversations": ["the role of x", "A", "Q2"], "source": "multi_turn"}, "u:the role of x a:A u:Q2"),
    ],
)
def test_sharegpt(record, expected):
    assert read(record) == ("sharegpt", expected)


def test_tool_calls():
    talk = [said("human", "Q"), said("function_call", "{}"), said("observation", "42"), said("gpt", "A")]
    assert read({"conversations": talk, "tools": "[{}]"}) == ("tool_calls", "u:Q c:{} t:42 a:A")
    assert read({"conversations": talk, "tools": None})[0] == "sharegpt"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"conversations": [said("human", "Q")], "chosen": said("gpt", "A"), "rejected": said("gpt", "B")}, "u:Q a:A"),
        ({"prompt": "P", "chosen": "A", "rejected": "B"}, "u:P a:A"),
        ({"system": "S", "question": "P", "chosen": "A", "rejected": "B"}, "s:S u:P a:A"),
        ({"instruction": "I", "input": "N", "chosen": "A", "rejected": "B"}, "u:I\nN a:A | N"),
        ({"prompt": ASKED, "chosen": [turn("assistant", "A")], "rejected": [turn("assistant", "B")]}, "u:Q a:A"),
        ({"prompt": "P", "chosen": TALK, "rejected": TALK}, "u:Q a:A"),
        ({"chosen": TALK, "rejected": TALK}, "u:Q a:A"),
        ({"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "..."}, "u:Q a:A"),
    ],
)
def test_preference_takes_the_chosen_side(record, expected):
    assert read(record) == ("preference", expected)


def test_kto():
    assert read({"messages": TALK, "label": True}) == ("kto", "u:Q a:A")
    assert read({"prompt": "P", "completion": "A", "label": True}) == ("kto", "u:P a:A")
    assert reason({"messages": TALK, "label": False}) == "undesirable"
    assert reason({"messages": TALK, "label": 1}, "kto") == "wrong_type"
    assert read({"instruction": "I", "output": "O", "label": False})[0] == "alpaca"


def test_self_instruct_gives_one_conversation_for_each_instance():
    instances = [{"input": "N", "output": "O"}, {"input": "", "output": "P"}]
    assert read({"instruction": "I", "instances": instances}) == ("self_instruct", "u:I\nN a:O | N", "u:I a:P")
    assert reason({"instruction": "I", "instances": []}) == "no_conversation"
    assert reason({"instruction": "I", "instances": [*instances, {"input": "N"}]}) == "missing_key"
    assert reason({"instruction": "I", "instances": [3]}) == "wrong_type"


def node(role, text, *replies, **more):
    return {"role": role, "text": text, "replies": list(replies), **more}


def tree():
    return {
        "message_tree_id": "x",
        "prompt": node(
            "prompter",
            "Q",
            node("assistant", "unranked", review_count=9),
            node("assistant", "second", rank=1),
            node("assistant", "gone", rank=0, deleted=True),
            node(
                "assistant",
                "first",
                node("prompter", "few", node("assistant", "x"), review_count=1),
                node("prompter", "many", node("assistant", "y"), node("assistant", "z"), review_count=3),
                rank=0,
            ),
        ),
    }


def test_openassistant_takes_the_lowest_rank_then_the_most_reviewed_then_the_first():
    assert read(tree()) == ("openassistant", "u:Q a:first u:many a:y")
    assert read(tree()["prompt"]) == ("openassistant", "u:Q a:first u:many a:y")


def test_openassistant_all_paths_best_first():
    assert read(tree(), paths="all") == (
        "openassistant",
        "u:Q a:first u:many a:y",
        "u:Q a:first u:many a:z",
        "u:Q a:first u:few a:x",
        "u:Q a:second",
        "u:Q a:unranked",
    )


def test_openassistant_cuts_questions_without_answers():
    answer = node("assistant", "A", node("prompter", "more?"), node("prompter", "and?"))
    assert read({"prompt": node("prompter", "Q", answer)}) == ("openassistant", "u:Q a:A")
    assert read({"prompt": node("prompter", "Q", answer)}, paths="all") == ("openassistant", "u:Q a:A")
    answer["replies"][1]["replies"] = [node("assistant", "B")]
    assert read({"prompt": node("prompter", "Q", answer)}, paths="all") == ("openassistant", "u:Q a:A u:and? a:B")
    assert reason({"prompt": node("prompter", "Q")}) == "no_response"


def test_openassistant_trees_may_be_deep():
    root = leaf = node("prompter", "Q")
    for at in range(5000):
        leaf["replies"] = [node("assistant" if at % 2 == 0 else "prompter", str(at))]
        leaf = leaf["replies"][0]
    assert len(read_record({"prompt": root})[1][0].messages) == 5000


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"instruction": "I"}, "no_response"),
        ({"Instruction": "I", "Skill": "x"}, "no_response"),
        ({"turns": ["a", "b"]}, "no_response"),
        ({"messages": ASKED}, "no_response"),
        ({"messages": [turn("assistant", "A")]}, "no_prompt"),
        ({"messages": []}, "empty_conversation"),
        ({"messages": [turn("narrator", "A")]}, "unknown_role"),
        ({"messages": [turn(None, "A")]}, "unknown_role"),
        ({"messages": [{"role": "user"}]}, "missing_key"),
        ({"messages": [ASKED[0], turn("assistant", None)]}, "wrong_type"),
        ({"messages": [ASKED[0], turn("assistant", None, tool_calls=[{"id": 1}])]}, "wrong_type"),
        ({"messages": [turn("user", [{"type": "image_url"}])]}, "not_text"),
        ({"messages": [ASKED[0], ["nested"]]}, "wrong_type"),
        ({"messages": None}, "wrong_type"),
        ({"conversations": [said("human", 5), said("gpt", "A")]}, "wrong_type"),
        ({"instruction": "I", "output": 5}, "wrong_type"),
        ({"instruction": "I", "output": None}, "wrong_type"),
        ({"instruction": None, "output": "O"}, "wrong_type"),
        ({"instruction": "I", "output": ["a"]}, "wrong_type"),
        ({"instruction": ["a", "b"], "output": "O"}, "wrong_type"),
        ({"instruction": "I", "input": [[]], "output": "O"}, "wrong_type"),
        ({"instruction": "I", "output": "O", "history": [["a"]]}, "wrong_type"),
        ({"chosen": "no transcript", "rejected": "B"}, "missing_key"),
        ({"text_a": "x"}, "unknown_layout"),
        ({}, "unknown_layout"),
        ([], "not_an_object"),
        (None, "not_an_object"),
        ("text", "not_an_object"),
    ],
)
def test_refused(record, why):
    assert reason(record) == why


def test_an_unknown_layout_names_the_keys_and_the_layouts():
    with pytest.raises(BadRecord) as caught:
        read_record({"foo": 1, "bar": 2})
    assert "`foo`, `bar`" in caught.value.detail
    assert all(name in caught.value.detail for name in LAYOUTS)


def test_prompts_alone_are_read_only_when_asked_for():
    assert read({"prompt": "P"}, "prompts") == ("prompts", "u:P")
    assert read({"turns": ["a", "b"]}, "prompts") == ("prompts", "u:a u:b")
    assert read({"text": "P"}, "prompts") == ("prompts", "u:P")
    assert read({"Instruction": "P"}, "prompts") == ("prompts", "u:P")
    assert read({"messages": ASKED}, "prompts") == ("prompts", "u:Q")


def test_a_layout_can_be_named():
    both = {"instruction": "I", "output": "O", "prompt": "P", "response": "R"}
    assert read(both) == ("alpaca", "u:I a:O")
    assert read(both, "prompt_response") == ("prompt_response", "u:P a:O")
    assert reason({"prompt": "P", "response": "R"}, "alpaca") == "missing_key"
    with pytest.raises(ValueError, match="choose one of openassistant"):
        read_record(both, "nonsense")


OUTER = (*DIALOGUES, *ANSWERS, *CHOSEN, *SYSTEMS, *LONE_PROMPTS, "instances", "replies", "label", "history", "tools")
INNER = ("role", "from", "content", "value", "type", "tool_calls", "function", "name", "rank", "deleted")
keys = st.sampled_from(sorted({*OUTER, *INNER}))
words = st.sampled_from(["", "x", "user", "assistant", "human", "text", "[{"])
leaves = st.none() | st.booleans() | st.integers() | words
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


@settings(max_examples=400)
@given(st.dictionaries(keys, values, max_size=5), st.sampled_from([None, *LAYOUTS]), st.sampled_from(["best", "all"]))
def test_any_record_is_read_or_refused_with_a_reason(record, layout, paths):
    try:
        name, conversations = read_record(record, layout, paths)
    except BadRecord as error:
        assert error.reason.isidentifier()
        assert error.detail.endswith(".")
        return
    assert layout in (None, name)
    for messages, input in conversations:
        made = make_row("s", 0, 0, None, name, messages, input, "{}")
        assert all(message["role"] in ROLES and isinstance(message["content"], str) for message in messages)
        assert any(message["role"] == "user" for message in messages)
        assert not input or made["input"] == input
