"""Parsers of JSON: a zoo of objects, lists and labels as judges give them, each with what is to be made of it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.judging.kinds import OK, PARSE_ERROR, REFUSED
from methods.judging.parsers import json_label, json_scores, json_texts, number

BAD, NO = PARSE_ERROR, REFUSED

OBJECTS = {  # a and b from 1 to 5
    '{"a": 4, "b": 2}': (4, 2),
    '{"A": 4, " b ": 2.5}': (4, 2.5),
    '{"a": "4", "b": "2/5"}': (4, 2),
    '{"a": "４", "b": "٢"}': (4, 2),
    '```json\n{"a": 4, "b": 2}\n```': (4, 2),
    'Here it is:\n```\n{"a": 4,\n "b": 2}\n```\nI hope that helps.': (4, 2),
    'Sure! {"a": 4, "b": 2} is my mark.': (4, 2),
    'As {asked}: {"a": 4, "b": 2}': (4, 2),
    '{"a": 4, "b": 2, "reason": "with {braces} and \\"5\\""}': (4, 2),
    '{"a": 4, "b": 2, "reason": "a raw\nline"}': (4, 2),
    '{"a": 4, "b": 2}\n{"a": 4, "b": 2}': (4, 2),
    '<think>{"a": 1, "b": 1}</think>{"a": 4, "b": 2}': (4, 2),
    '{"a": 4, "b": 2} or {"a": 4, "b": 3}': BAD,
    '{"a": 4, "b": 2} {"a": 4': BAD,
    '{"a": 4, "a": 5, "b": 2}': BAD,
    '{"a": 4, "A": 4, "b": 2}': BAD,
    '{"a": 4, "b": 2,}': BAD,
    '{"x": {"a": 4, "b": 2},}': BAD,
    '{"x": {"a": 4, "b": 2}}': BAD,
    '[{"a": 4, "b": 2},]': (4, 2),
    "{'a': 4, 'b': 2}": BAD,
    "{a: 4, b: 2}": BAD,
    '{"a": 4, "b": 2': BAD,
    '{"a": 4}': BAD,
    '{"a": 4, "b": null}': BAD,
    '{"a": 4, "b": true}': BAD,
    '{"a": 4, "b": [2]}': BAD,
    '{"a": 4, "b": "two"}': BAD,
    '{"a": 4, "b": 0}': BAD,
    '{"a": 4, "b": 6}': BAD,
    '{"a": 4, "b": -2}': BAD,
    '{"a": 4, "b": NaN}': BAD,
    '{"a": 4, "b": Infinity}': BAD,
    '{"a": 4, "b": 1e400}': BAD,
    '{"a": 4, "b": ' + "9" * 6000 + "}": BAD,
    '{"a": 4, "b": 2, "c": "\\ud800"}': BAD,
    '{"a": 4, "b": 2, "c": ' + "[" * 20_000: BAD,
    '{"a":' * 20_000: BAD,
    "{}": BAD,
    "": BAD,
    "a: 4\nb: 2": BAD,
    "| a | b |\n| 4 | 2 |": BAD,
    "Lo siento, no puedo ayudar con eso.": NO,
    '{"error": "I cannot do this"}': BAD,
    '<<<0123456789abcdef | end>>>\n{"a": 4, "b": 2}': BAD,
    '{"a": 4, "b": 2}' * 17: BAD,
}


@pytest.mark.parametrize(("text", "wanted"), OBJECTS.items(), ids=[repr(text)[:40] for text in OBJECTS])
def test_objects(text, wanted):
    read = json_scores(text, ["a", "b"], 1, 5)
    assert read.value is None
    fields = dict(read.fields)
    assert (read.status, fields) == (
        (wanted, {}) if isinstance(wanted, str) else (OK, dict(zip("ab", wanted, strict=True)))
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"v": ["x", " y "]}', ["x", "y"]),
        ('["x", "y"]', ["x", "y"]),
        ('```json\n["x", "y"]\n```', ["x", "y"]),
        ('{"V": ["x", "y", "x"]}', ["x", "y"]),
        ('{"v": ["x", "x"]}', BAD),
        ('{"v": ["x", ""]}', BAD),
        ('{"v": ["x", "y", "z"]}', BAD),
        ('{"v": ["x", 2]}', BAD),
        ('{"v": "x, y"}', BAD),
        ('{"v": ["x", "y"],}', BAD),
        ('["x", "y",]', BAD),
        ('["x", "y"] ["z", "w"]', BAD),
        ("1. x\n2. y", BAD),
        ("I'm unable to rewrite this.", NO),
    ],
)
def test_lists(text, wanted):
    read = json_texts(text, "v", 2, 2)
    assert (read.status, read.fields.get("v")) == ((wanted, None) if isinstance(wanted, str) else (OK, wanted))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"level": "high school"}', "high school"),
        ('{"Level": " High_School "}', "high school"),
        ("high school", "high school"),
        ("**Expert**.", "expert"),
        ('{"level": "college"}', None),
        ('{"level": ["expert"]}', None),
        ("expert\nhigh school", None),
        ("high school or expert", None),
        ("", None),
    ],
)
def test_labels(text, wanted):
    read = json_label(text, "level", ["high school", "expert"])
    assert read.fields.get("level") == wanted
    assert read.status == (OK if wanted else BAD)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), st.one_of(st.integers(-2, 8), st.floats(), st.none(), st.text(max_size=3)))
)
def test_what_json_writes_is_read_back(scores):
    read = json_scores("So:\n" + json.dumps(scores), ["a", "b"], 1, 5)
    if read.status == OK:
        assert all(
            number(str(scores[name]), 1, 5) == read.fields[name] for name in "ab" if isinstance(scores[name], str)
        )
        assert all(scores[name] == read.fields[name] for name in "ab" if not isinstance(scores[name], str))
    else:
        wanted = [scores.get(name) for name in "ab"]
        assert not all(isinstance(one, int) and 1 <= one <= 5 for one in wanted)
