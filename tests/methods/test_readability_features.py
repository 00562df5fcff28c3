"""The 46 features: a text worked out by hand, each family against plain counting, and texts that have none."""

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from methods import english
from methods.kinds import OK
from methods.parts_of_speech import coarse_pos
from methods.quality.readability import FEATURES, FEATURES_SCHEMA, features_of, readability_features
from methods.text import count_block

CATS = "The cat sat on the mat. It was happy and the cat purred."


def counts(*responses, language="en", prompt=""):
    block = pl.DataFrame(
        {"row_id": [str(i) for i in range(len(responses))], "response": list(responses)},
        schema={"row_id": pl.String, "response": pl.String},
    )
    return count_block(
        block.with_columns(instruction=pl.lit(prompt), input=pl.lit(""), language=pl.lit(language, pl.String))
    )


def features(response):
    return features_of(counts(response)).row(0, named=True)


def test_there_are_forty_six():
    assert len(FEATURES) == len(set(FEATURES)) == 46


def test_worked_by_hand():
    found = features(CATS)
    expected = {
        "word_length_mean": 42 / 13,
        "word_length_median": 3,
        "word_length_p90": 4.6,  # sorted: 2 2 3x9 5 6; place 10.8 of 0..12 lies between 3 and 5
        "syllables_mean": 14 / 13,
        "share_words_over_6": 0,
        "share_polysyllables": 0,
        "ttr": 10 / 13,
        "root_ttr": 10 / math.sqrt(13),
        "hapax_ratio": 8 / 10,  # the, cat stand more than once
        "share_outside_dale_chall": 1 / 13,  # purred
        "lexical_density": 6 / 13,  # cat sat mat happy cat purred
        "sentence_count": 2,
        "sentence_length_mean": 6.5,
        "sentence_length_median": 6.5,
        "sentence_length_max": 7,
        "share_sentences_over_20": 0,
        "noun_ratio": 3 / 13,
        "verb_ratio": 3 / 13,
        "adjective_ratio": 1 / 13,
        "pronoun_ratio": 1 / 13,
        "preposition_ratio": 1 / 13,
        "conjunction_ratio": 1 / 13,
        "punctuation_per_sentence": 1,
        "adjacent_overlap": 1 / 3,
        "pronoun_noun_ratio": 1 / 3,
        "concept_repetition": 1 / 3,
        "idea_density": 6 / 13,
        "flesch_reading_ease": 206.835 - 1.015 * 6.5 - 84.6 * 14 / 13,
        "lix": 6.5,
        "coleman_liau": 0.0588 * 100 * 42 / 13 - 0.296 * 100 * 2 / 13 - 15.8,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["adjacent_cosine_mean"] == found["adjacent_cosine_min"]


WORDS = "the an cat city beautiful runs however and quickly municipality it of happy because blorp 7".split()
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), min_size=3, max_size=9), min_size=4, max_size=7)


def zipf(word):
    return round(10 * (english.log_frequency(word) or 0)) / 10


def is_content(word):
    return (
        word[0].isalpha()
        and coarse_pos(word) in ("noun", "verb", "adj", "adv")
        and word not in english.CONNECTIVES
        and word not in english.AUXILIARIES
    )


def plain_cosine(first, second):
    def weigh(sentence):
        content = [word for word in sentence if is_content(word)]
        return {word: content.count(word) * (9 - zipf(word)) for word in content}

    a, b = weigh(first), weigh(second)
    if not a or not b:
        return None, None
    dot = sum(a[word] * b[word] for word in a.keys() & b.keys())
    norms = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
    return dot / norms, len(a.keys() & b.keys()) / min(len(a), len(b))


def plain_surprisal(sentences):
    singles, pairs = english.book_counts(), english.pair_counts()
    bits = []
    for sentence in sentences:
        for first, second in pairwise(sentence):
            together, before = pairs.get((first, second), 0), singles.get(first, 0)
            known = together and before
            chance = together / before if known else 0.4 * singles.get(second, 0) / sum(singles.values())
            if chance:
                bits.append(-math.log2(min(chance, 1)))
    return sum(bits) / len(bits) if bits else None


@settings(max_examples=25, deadline=None)
@given(SENTENCES)
def test_against_plain_counting(sentences):
    sentences = [["so", *sentence] for sentence in sentences]  # each sentence has a letter
    found = features(" ".join(" ".join(sentence) + "." for sentence in sentences))
    words = [word for sentence in sentences for word in sentence]
    lettered = [word for word in words if word.isalpha()]
    lengths = [len(word) for word in lettered]
    cosines = [plain_cosine(a, b) for a, b in pairwise(sentences)]
    known = [pair for pair in cosines if pair[0] is not None]
    expected = {
        "word_length_mean": np.mean(lengths),
        "word_length_median": np.median(lengths),
        "word_length_p90": np.quantile(lengths, 0.9),
        "log_frequency_mean": np.mean([zipf(word) for word in words if zipf(word)]),
        "log_frequency_median": np.median([zipf(word) for word in words if zipf(word)]),
        "hapax_ratio": sum(words.count(word) == 1 for word in set(words)) / len(set(words)),
        "share_outside_1k": np.mean([english.rank_class(word) < 2 for word in lettered]),
        "share_outside_3k": np.mean([english.rank_class(word) < 1 for word in lettered]),
        "sentence_length_median": np.median([len(sentence) for sentence in sentences]),
        "sentence_length_max": max(len(sentence) for sentence in sentences),
        "connective_density": np.mean([word in english.CONNECTIVES for word in lettered]),
        "adjacent_cosine_mean": np.mean([pair[0] for pair in known]) if known else None,
        "adjacent_cosine_min": min(pair[0] for pair in known) if known else None,
        "adjacent_overlap": np.mean([pair[1] for pair in known]) if known else None,
        "bigram_surprisal_mean": plain_surprisal(sentences),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_long_sentences_are_counted():
    found = features(" ".join(["word"] * 25) + ". " + " ".join(["word"] * 31) + ". A few words.")
    assert (found["share_sentences_over_20"], found["share_sentences_over_30"]) == (2 / 3, 1 / 3)


@pytest.mark.parametrize(
    ("text", "language", "status"),
    [
        ("", "en", "empty_response"),
        ("?!", "en", "no_words"),
        ("Too short by far.", "en", "too_short"),
        (CATS, "de", "wrong_language"),
        (CATS, "und", "unknown_language"),
        ("今天天气很好，我们去公园散步吧。" * 3, "zh", "wrong_language"),
    ],
)
def test_texts_without_features_say_why(text, language, status):
    row = features_of(counts(text, language=language)).row(0, named=True)
    assert row["status"] == status and all(row[name] is None for name in FEATURES)


def test_one_sentence_has_no_neighbours():
    table = features_of(counts("one two three four five six seven eight nine ten eleven"))
    found = readability_features(table, feature="adjacent_overlap")
    assert found.row(0) == (None, "undefined")
    assert readability_features(table, feature="sentence_count").row(0) == (1.0, OK)


def test_rows_do_not_touch_each_other():
    texts = [CATS, "", "12 34 " * 20, CATS.upper(), "```\ncode code\n``` " + CATS]
    together = features_of(counts(*texts)).drop("row_id")
    alone = pl.concat([features_of(counts(text)).drop("row_id") for text in texts])
    assert_frame_equal(together, alone, rel_tol=1e-12)
    assert_frame_equal(together[:1], together[4:])  # code is no prose


def test_prompt_and_both():
    block = counts(CATS, prompt="Tell me a story about a cat on a mat, and make it short.")
    prompt, both = (features_of(block, field).row(0, named=True) for field in ("prompt", "both"))
    assert prompt["sentence_count"] == 1 and both["sentence_count"] == 3


def test_empty_block():
    assert features_of(counts()).schema == pl.Schema(FEATURES_SCHEMA)


def test_unknown_feature_is_named():
    with pytest.raises(ValueError, match="no readability feature 'shoe_size'"):
        readability_features(features_of(counts(CATS)), feature="shoe_size")
