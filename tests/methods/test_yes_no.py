"""Yes and no: the specification's toy, plain loops as the oracle, what is asked, and statuses."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality.yes_no import QUESTIONS, UNSEEN, YES_NO_SCHEMA, autods_lm_score, yes_no_prompts


def evidence(schema, *rows):
    """A frame of stored lines; row ids are made."""
    return pl.DataFrame([(str(i), *row) for i, row in enumerate(rows)], schema=dict(schema), orient="row")


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


def test_autods_of_the_toy():
    block = evidence(YES_NO_SCHEMA, ("ok", [-0.1, -0.5], [-2.5, -1.0]))
    assert only(autods_lm_score(block)) == pytest.approx(0.570688, abs=1e-6)
    first, second = (evidence(YES_NO_SCHEMA, ("ok", [y], [n])) for y, n in ((-0.1, -2.5), (-0.5, -1.0)))
    assert only(autods_lm_score(first)) == pytest.approx(0.916827, abs=1e-6)
    assert only(autods_lm_score(second)) == pytest.approx(0.622459, abs=1e-6)


def test_statuses_of_yes_and_no():
    nan = float("nan")
    block = evidence(
        YES_NO_SCHEMA,
        ("ok", [-0.1], [-2.5]),
        ("out_of_memory", None, None),
        ("ok", [], []),
        ("ok", None, None),
        ("ok", [-1.0], [-1.0, -2.0]),
        ("ok", [-1.0, UNSEEN], [-1.0, UNSEEN]),
        ("ok", [UNSEEN], [-1.0]),
        ("ok", [nan], [-1.0]),
        ("ok", [None], [-1.0]),
        ("ok", [-0.1], [-2.5]),
    )
    found = autods_lm_score(block)
    wanted = ["ok", "out_of_memory", "no_question", "no_question", "uneven_answers", "no_answer", "ok"]
    assert found["status"].to_list() == [*wanted, "not_finite", "not_finite", "ok"]
    assert found["value"].is_not_null().to_list() == [status == "ok" for status in found["status"]]
    assert found["value"][0] == found["value"][9]
    assert found["value"][6] == pytest.approx(math.exp(-99), rel=1e-6)
    assert autods_lm_score(block.head(0)).schema == found.schema
    assert autods_lm_score(block.slice(1, 2))["value"].to_list() == [None, None]


logs = st.floats(-60, 0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.tuples(logs, logs), min_size=1, max_size=4), min_size=1, max_size=8))
def test_autods_against_plain_loops(rows):
    block = evidence(YES_NO_SCHEMA, *(("ok", [y for y, _ in row], [n for _, n in row]) for row in rows))
    wanted = [math.prod(math.exp(y) / (math.exp(y) + math.exp(n)) for y, n in row) for row in rows]
    assert autods_lm_score(block)["value"].to_list() == pytest.approx(wanted, rel=1e-9)
    turned = block.rename({"logp_yes": "logp_no", "logp_no": "logp_yes"})
    one = [i for i, row in enumerate(rows) if len(row) == 1]
    found, other = (autods_lm_score(frame)["value"].gather(one) for frame in (block, turned))
    assert (found + other).to_list() == pytest.approx([1.0] * len(one))


def test_yes_no_prompts():
    prompts = yes_no_prompts("2 + {question} = {text}")
    assert len(prompts) == len(QUESTIONS) == 2
    for prompt, question in zip(prompts, QUESTIONS, strict=True):
        assert "2 + {question} = {text}" in prompt  # what the text holds is left alone
        assert prompt.endswith(f"Question: {question} Reply with Yes or No.\nAnswer:")
    assert yes_no_prompts("x", questions=[]) == []
    short, long = yes_no_prompts("y" * 4096, ["Is it?"]), yes_no_prompts("y" * 9000, ["Is it?"])
    assert short == long
    assert yes_no_prompts("y" * 9000, ["Is it?"], longest=10)[0].count("yyyyyyyyyy") == 1
