"""Spelling errors: hand-worked shares, what is not held to a dictionary, statuses, a dictionary as the oracle."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality.spelling import INDICATORS, spelling_error_rate
from methods.text import count_block

TEXT = {name: pl.String for name in ("row_id", "instruction", "input", "response", "language")}


def counts(*responses, language="en", prompt="Say it"):
    rows = [(str(i), prompt, "", text, language) for i, text in enumerate(responses)]
    return count_block(pl.DataFrame(rows, schema=TEXT, orient="row"))


def rates(*responses, min_words=1, **params):
    return spelling_error_rate(counts(*responses), min_words=min_words, **params)["value"].to_list()


def test_the_share_of_unknown_words():
    assert rates("the caat sat", "the cat sat", "teh caat szat") == pytest.approx([1 / 3, 0, 1])
    assert rates("the caat sat", stat="count") == [1]
    with pytest.raises(ValueError, match="stat must be 'rate' or 'count'"):
        rates("the cat", stat="share")


def test_what_no_dictionary_is_asked_for():
    said = "the cat saw Brzzq and NASAX in file qzx_1 of v2x at https://qzqz.example/zxcv"
    assert rates(said) == [0]
    assert rates("the cat sat\n```\nqzxv zqqx\n```") == [0]
    assert rates("the cat's don't and won’t") == [0]


def test_british_and_american_spelling_are_both_right():
    assert rates("the colour and the color of the grey and gray theatre and theater") == [0]


def test_statuses():
    block = counts("", "!?", "two words", "the cat sat on the mat today")
    assert spelling_error_rate(block)["status"].to_list() == ["empty_response", "no_words", "too_short", "ok"]
    assert spelling_error_rate(counts("le chat est sur la table", language="fr")).rows() == [(None, "wrong_language")]
    assert spelling_error_rate(counts("the cat sat on it", language="und")).rows() == [(None, "unknown_language")]
    assert spelling_error_rate(counts("我喜欢机器学习。" * 4, language="zh")).rows() == [(None, "wrong_language")]
    assert spelling_error_rate(counts("", language="fr"))["status"].to_list() == ["empty_response"]
    assert spelling_error_rate(counts("```\nx = foo(bar)\n```"), min_words=0).rows() == [(None, "too_short")]
    assert spelling_error_rate(block.head(0)).shape == (0, 2)


def test_fields():
    block = counts("the cat sat", prompt="the caat")
    found = [spelling_error_rate(block, field=f, min_words=1)["value"].item() for f in ("prompt", "response", "both")]
    assert found == pytest.approx([1 / 2, 0, 1 / 5])


def test_a_spell_checker_agrees_where_its_words_are_ours():
    # pyspellchecker alone knows no British forms and splits no contractions: none occur here.
    checker = pytest.importorskip("spellchecker").SpellChecker(language="en")
    written = [
        "the quick brown fox jumps over the lazy dog and runs awayy",
        "we recieve many letters and seperate them by their adress",
        "nothing wrong with this one at all",
    ]
    expected = [len(checker.unknown(set(text.split()))) / len(text.split()) for text in written]
    assert rates(*written) == pytest.approx(expected)
    assert expected[1] == pytest.approx(3 / 10)


WORDS = st.lists(st.sampled_from(["cat", "sat", "house", "xqzt", "caat", "qqqz", "where"]), min_size=1, max_size=12)


@settings(deadline=None, max_examples=30)
@given(WORDS, st.randoms())
def test_order_and_doubling_change_nothing_and_planted_errors_raise_the_rate(words, rnd):
    mixed = rnd.sample(words, len(words))
    plain, shuffled, doubled, worse = rates(*(" ".join(w) for w in (words, mixed, words * 2, [*words, "xqzt"])))
    assert plain == pytest.approx(shuffled) and plain == pytest.approx(doubled)
    assert plain == pytest.approx(sum(w in ("xqzt", "caat", "qqqz") for w in words) / len(words))
    assert worse > plain or plain == 1


def test_the_record():
    (record,) = INDICATORS
    assert (record.axis, record.direction, record.compute) == ("quality", "lower", spelling_error_rate)
