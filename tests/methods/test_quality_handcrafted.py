"""Lengths: hand-worked values, directions of change, other scripts and empty texts."""

import polars as pl
import pytest

from methods.quality.handcrafted import (
    INDICATORS,
    average_word_length,
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


def test_fields():
    block = counts("it is so", prompt="cats purr")
    found = [average_word_length(block, field=field)["value"].item() for field in ("response", "prompt", "both")]
    assert found == pytest.approx([6 / 3, 8 / 2, 14 / 5])
    with pytest.raises(ValueError, match="field"):
        average_word_length(block, field="answer")


@pytest.mark.parametrize("method", INDICATORS, ids=lambda method: method.id)
def test_order_and_empty_block(method):
    block = counts(T, "", "cats and dogs and cats", "x", "我我我 我")
    forward = method.compute(block, **method.params)
    assert method.compute(block.reverse(), **method.params).rows() == forward.reverse().rows()
    assert method.compute(block.head(0), **method.params).schema == forward.schema
    assert forward.height == 5
