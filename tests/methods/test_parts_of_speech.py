"""Coarse parts of speech by word: closed classes by hand, open classes, endings, other scripts."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import english, parts_of_speech
from methods.parts_of_speech import POS, coarse_pos
from methods.tokens import tokenize


@pytest.mark.parametrize(
    ("pos", "words"),
    [
        ("pron", "i you he she it we they me him us them my your his its our their mine ours who whom whose which"),
        ("pron", "myself yourself everyone something nobody nothing"),
        ("prep", "of in to for with on at by from about into over after before between through under"),
        ("conj", "and or but nor if because although while whereas unless whether than that since"),
        ("verb", "is are was be do does did can will would should must have write explain describe generate provide"),
        ("noun", "city data model sentence answer people language water python"),
        ("adj", "good happy large important beautiful better largest"),
        ("adv", "quickly very not never always when how why often"),
        ("other", "the a an this these some every each one two 7 3rd hello"),
    ],
)
def test_common_words(pos, words):
    assert {word: coarse_pos(word) for word in words.split()} == {word: pos for word in words.split()}


def test_a_word_has_one_class_in_every_sentence():
    # the limit that the module states: no context is read
    assert coarse_pos("use") == "noun"


@pytest.mark.parametrize(
    ("word", "pos"),
    [
        ("vectorishly", "adv"),
        ("tokenization", "noun"),
        ("blorpness", "noun"),
        ("hyperparametrized", "verb"),
        ("refactorizing", "verb"),
        ("blorpable", "adj"),
        ("quantumesque", "adj"),
        ("blorp", "noun"),
        ("tweetstorms", "noun"),
        ("zed", "noun"),  # too short to be the past of "z"
    ],
)
def test_unknown_words_go_by_their_endings(word, pos):
    assert word not in parts_of_speech._lexicon() or word == "zed"
    assert coarse_pos(word) == pos


def test_plurals_go_by_the_singular():
    known = parts_of_speech._lexicon()
    missing = next(
        w for w, pos in known.items() if pos == "verb" and w.isalpha() and w[-1] not in "seyd" and w + "s" not in known
    )
    assert coarse_pos(missing + "s") == "verb"


@pytest.mark.parametrize(
    ("word", "pos"),
    [("i'm", "pron"), ("don't", "verb"), ("can't", "verb"), ("dog's", "noun"), ("that's", "conj"), ("they'll", "pron")],
)
def test_contractions(word, pos):
    assert coarse_pos(word) == pos


@pytest.mark.parametrize("word", ["猫", "привет", "مرحبا", "ไ", "2024", "3d", "α"])
def test_other_scripts_and_numbers_are_other(word):
    assert coarse_pos(word) == "other"


def test_accents_do_not_matter():
    assert coarse_pos("naïve") == coarse_pos("naive") == "adj"


@settings(deadline=None)  # the first call reads the lexicon
@given(st.text(max_size=40))
def test_every_word_has_a_class(text):
    assert {coarse_pos(word) for word in tokenize(text)} <= set(POS)


def test_the_package_is_read_without_being_imported():
    asked = "import sys; from methods.parts_of_speech import coarse_pos; coarse_pos('word'); print('textblob' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run([sys.executable, "-c", asked], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(english, "find_spec", lambda name: None)
    parts_of_speech._lexicon.cache_clear()
    try:
        with pytest.raises(ModuleNotFoundError, match="pip install textblob"):
            parts_of_speech._lexicon()
    finally:
        parts_of_speech._lexicon.cache_clear()
