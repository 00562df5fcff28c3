"""Lengths and repetition: hand-worked values, directions of change, other scripts and empty texts."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality.handcrafted import (
    INDICATORS,
    average_word_length,
    excessive_word_repetition,
    prompt_length,
    response_length,
)
from methods.text import count_block

T = "a b a c a b d e a f"


def counts(*responses, prompt="Say it twice"):
    return count_block(
        pl.DataFrame(
            {
                "row_id": [str(i) for i in range(len(responses))],
                "instruction": [prompt] * len(responses),
                "input": [""] * len(responses),
                "response": list(responses),
            },
            schema={name: pl.String for name in ("row_id", "instruction", "input", "response")},
        )
    )


def test_lengths():
    block = counts(T, "", "我喜欢你", "!?")
    assert response_length(block).rows() == [
        (10.0, "ok"),
        (None, "empty_response"),
        (4.0, "ok"),
        (None, "no_words"),
    ]
    assert response_length(block, unit="chars")["value"].to_list() == [19.0, None, 4.0, None]
    assert prompt_length(block).rows() == [(3.0, "ok")] * 4
    assert prompt_length(counts("x", prompt=" ")).rows() == [(None, "empty_prompt")]
    with pytest.raises(ValueError, match="unit"):
        response_length(block, unit="tokens")


def test_average_word_length():
    block = counts("The cat sat on the mat", "2024 cats", "", "123", "我喜欢机器", "naïve été")
    found = average_word_length(block)
    assert found["value"].to_list() == pytest.approx([17 / 6, 4.0, None, None, None, 4.0])
    assert found["status"].to_list() == ["ok", "ok", "empty_response", "too_short", "unspaced_script", "ok"]


def test_repetition_on_the_running_example():
    block = counts(T)
    assert excessive_word_repetition(block)["value"].item() == pytest.approx(0.4)
    assert excessive_word_repetition(block, stat="count")["value"].item() == 4
    assert excessive_word_repetition(block, stat="max_run")["value"].item() == 1
    # the pair "a b" stands twice and nothing else: four of ten words
    assert excessive_word_repetition(block, stat="dup_ngram", n=2)["value"].item() == pytest.approx(0.4)


def test_repetition_edges():
    block = counts("", "one", "no no no yes no", "我我我")
    assert excessive_word_repetition(block)["value"].to_list() == pytest.approx([None, 0.0, 0.6, 2 / 3])
    assert excessive_word_repetition(block, stat="max_run")["value"].to_list() == [None, 1.0, 3.0, 3.0]
    found = excessive_word_repetition(block, stat="dup_ngram", n=2)
    assert found["status"].to_list() == ["empty_response", "too_short", "ok", "ok"]
    with pytest.raises(ValueError, match="stat"):
        excessive_word_repetition(block, stat="sum")


def test_fields():
    block = counts("it is", prompt="it is it")
    assert excessive_word_repetition(block)["value"].item() == 0.0
    assert excessive_word_repetition(block, field="prompt")["value"].item() == pytest.approx(1 / 3)
    assert excessive_word_repetition(block, field="both")["value"].item() == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match="field"):
        excessive_word_repetition(block, field="answer")


@pytest.mark.parametrize("method", INDICATORS, ids=lambda method: method.id)
def test_order_and_empty_block(method):
    block = counts(T, "", "cats and dogs and cats", "x", "我我我 我")
    forward = method.compute(block, **method.params)
    assert method.compute(block.reverse(), **method.params).rows() == forward.reverse().rows()
    assert method.compute(block.head(0), **method.params).schema == forward.schema
    assert forward.height == 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=30), st.integers(0, 29))
def test_planted_repetition_raises_the_ratio(words, at):
    planted = words + [words[at % len(words)]] * 2
    found = excessive_word_repetition(counts(" ".join(words), " ".join(planted)))["value"]
    assert found[1] > found[0]
    phrase = excessive_word_repetition(counts(" ".join(words + words)), stat="dup_ngram")["value"].item()
    assert phrase == 1.0
