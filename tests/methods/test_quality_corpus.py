"""Compound probability of words: by hand, recounted with Counter, over blocks, statuses."""

import math
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Pool
from methods.quality import corpus
from methods.quality.corpus import (
    INDICATORS,
    compound_probability_distribution,
    count_unigrams,
    log_probabilities,
)
from methods.text import count_block
from methods.tokens import tokenize


def counts(responses, prompts=None):
    n = len(responses)
    return count_block(
        pl.DataFrame(
            {
                "row_id": [str(i) for i in range(n)],
                "instruction": prompts or [""] * n,
                "input": [""] * n,
                "response": responses,
            },
            schema=dict.fromkeys(("row_id", "instruction", "input", "response"), pl.String),
        )
    )


def pool(responses, prompts=None):
    table = counts(responses, prompts)
    return Pool(table["row_id"], counts=table.lazy())


def test_by_hand():
    model = count_unigrams(counts(["a a b"]).lazy())
    asked = counts(["a b"]).lazy()
    assert log_probabilities(asked, model, stat="sum")["value"].item() == pytest.approx(-1.50408, abs=1e-5)
    assert log_probabilities(asked, model)["value"].item() == pytest.approx(-0.75204, abs=1e-5)


def test_an_unseen_word_counts_half():
    model = count_unigrams(counts(["a a b"]).lazy())
    found = log_probabilities(counts(["c", "zebra a"]).lazy(), model, stat="sum")["value"].to_list()
    assert found == pytest.approx([math.log(0.5 / 3), math.log(0.5 / 3) + math.log(2 / 3)])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(alphabet="ab c猫é", max_size=12), max_size=12), st.sampled_from(["mean", "sum"]))
def test_recounted(responses, stat):
    found = compound_probability_distribution(pool(responses), stat=stat)
    seen = Counter(word for text in responses for word in tokenize(text))
    total = sum(seen.values())
    assert found.height == len(responses)
    for text, value, status in zip(responses, found["value"], found["status"], strict=True):
        words = tokenize(text)
        if not words:
            assert (value, status) == (None, "empty_response" if not text.strip() else "no_words")
            continue
        logs = [math.log(seen[word] / total) for word in words]
        assert value == pytest.approx(sum(logs) if stat == "sum" else sum(logs) / len(logs))


def test_blocks_do_not_matter(monkeypatch):
    responses = ["the cat sat", "", "a cat ran and ran", "?!", "the mat", "猫坐"] * 3
    whole = compound_probability_distribution(pool(responses))
    monkeypatch.setattr(corpus, "ROWS_AT_A_TIME", 2)
    assert compound_probability_distribution(pool(responses)).equals(whole)


def test_the_order_of_rows_does_not_matter():
    responses = ["the cat sat", "a cat ran and ran", "the mat"]
    one = compound_probability_distribution(pool(responses))["value"].to_list()
    two = compound_probability_distribution(pool(responses[::-1]))["value"].to_list()
    assert one == pytest.approx(two[::-1])


def test_a_doubled_pool_has_the_same_values():
    responses = ["the cat sat", "a cat ran and ran", "the mat"]
    one = compound_probability_distribution(pool(responses))["value"].to_list()
    assert compound_probability_distribution(pool(responses * 2))["value"].to_list() == pytest.approx(one * 2)


def test_fields():
    two = pool(["x x", "", "y"], ["x", "y", ""])
    assert compound_probability_distribution(two, field="prompt")["status"].to_list() == ["ok", "ok", "empty_prompt"]
    assert compound_probability_distribution(two, field="prompt")["value"].to_list()[:2] == pytest.approx(
        [math.log(0.5)] * 2
    )
    both = compound_probability_distribution(two, field="both")["value"].to_list()
    assert both == pytest.approx([math.log(0.6), math.log(0.4), math.log(0.4)])


def test_edges():
    assert compound_probability_distribution(pool([])).height == 0
    assert compound_probability_distribution(pool(["one"]))["value"].to_list() == [0]
    assert compound_probability_distribution(pool(["", " "]))["status"].to_list() == ["empty_response"] * 2
    with pytest.raises(ValueError, match="stat"):
        compound_probability_distribution(pool(["a"]), stat="median")
    with pytest.raises(ValueError, match="field"):
        compound_probability_distribution(pool(["a"]), field="title")
    with pytest.raises(ValueError, match="has none"):
        compound_probability_distribution(Pool(pl.Series(["x"])))
    assert INDICATORS[0].direction == "band"
