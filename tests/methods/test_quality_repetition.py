"""Repetition: hand-worked values, brute force, directions of change, other scripts and empty texts."""

from collections import Counter
from itertools import groupby

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality.repetition import INDICATORS, excessive_word_repetition
from methods.text import count_block

T = "a b a c a b d e a f"
word_lists = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40)


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


def share_in_repeated(words, n):
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    times = Counter(grams)
    covered = {i + j for i, gram in enumerate(grams) if times[gram] > 1 for j in range(n)}
    return len(covered) / len(words) if grams else None


def test_the_running_example():
    block = counts(T)
    assert excessive_word_repetition(block)["value"].item() == pytest.approx(0.4)
    assert excessive_word_repetition(block, stat="count")["value"].item() == 4
    assert excessive_word_repetition(block, stat="max_run")["value"].item() == 1
    # the pair "a b" stands twice and nothing else: four of ten words
    assert excessive_word_repetition(block, stat="dup_ngram", n=2)["value"].item() == pytest.approx(0.4)
    assert excessive_word_repetition(block, stat="dup_ngram")["value"].item() == 0.0


def test_edges():
    block = counts("", "one", "no no no yes no", "我我我", "?!")
    assert excessive_word_repetition(block)["value"].to_list() == pytest.approx([None, 0.0, 0.6, 2 / 3, None])
    assert excessive_word_repetition(block, stat="max_run")["value"].to_list() == [None, 1.0, 3.0, 3.0, None]
    found = excessive_word_repetition(block, stat="dup_ngram", n=2)
    assert found["status"].to_list() == ["empty_response", "too_short", "ok", "ok", "no_words"]
    assert found["value"].to_list() == pytest.approx([None, None, 0.6, 1.0, None])
    with pytest.raises(ValueError, match="stat"):
        excessive_word_repetition(block, stat="sum")
    with pytest.raises(ValueError, match="n must"):
        excessive_word_repetition(block, stat="dup_ngram", n=0)


def test_fields():
    block = counts("it is", prompt="it is it")
    assert excessive_word_repetition(block)["value"].item() == 0.0
    assert excessive_word_repetition(block, field="prompt")["value"].item() == pytest.approx(1 / 3)
    assert excessive_word_repetition(block, field="both")["value"].item() == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match="field"):
        excessive_word_repetition(block, field="answer")


@settings(max_examples=60, deadline=None)
@given(st.lists(word_lists, min_size=1, max_size=4), st.integers(1, 5))
def test_against_brute_force(texts, n):
    block = counts(*map(" ".join, texts))
    found = {
        stat: excessive_word_repetition(block, stat=stat, n=n) for stat in ("ratio", "count", "max_run", "dup_ngram")
    }
    for i, words in enumerate(texts):
        again = sum(count - 1 for count in Counter(words).values())
        assert found["count"]["value"][i] == again
        assert found["ratio"]["value"][i] == pytest.approx(again / len(words))
        assert found["max_run"]["value"][i] == max(len(list(run)) for _, run in groupby(words))
        assert found["dup_ngram"]["value"][i] == pytest.approx(share_in_repeated(words, n))


def test_long_loops():
    loop = ("one two three four " * 400).split()
    block = counts(" ".join(loop), " ".join(f"w{i}" for i in range(5000)))
    assert excessive_word_repetition(block, stat="dup_ngram", n=20)["value"].to_list() == [1.0, 0.0]
    assert excessive_word_repetition(block, stat="count")["value"].to_list() == [1596.0, 0.0]


@pytest.mark.parametrize("stat", ["ratio", "count", "max_run", "dup_ngram"])
@pytest.mark.parametrize("method", INDICATORS, ids=lambda method: method.id)
def test_order_blocks_and_empty_block(method, stat):
    block = counts(T, "", "cats and dogs and cats and dogs", "x", "我我我 我")
    params = {**method.params, "stat": stat}
    forward = method.compute(block, **params)
    assert method.compute(block.reverse(), **params).rows() == forward.reverse().rows()
    assert pl.concat([method.compute(block[i : i + 1], **params) for i in range(5)]).rows() == forward.rows()
    assert method.compute(block.head(0), **params).schema == forward.schema
    assert forward.height == 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=30), st.integers(0, 29))
def test_planted_repetition_raises_the_ratio(words, at):
    planted = words + [words[at % len(words)]] * 2
    found = excessive_word_repetition(counts(" ".join(words), " ".join(planted)))["value"]
    assert found[1] > found[0]
    phrase = excessive_word_repetition(counts(" ".join(words + words)), stat="dup_ngram")["value"].item()
    assert phrase == 1.0
