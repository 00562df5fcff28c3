"""Hand-crafted importance (survey 5.1): readability, that is how hard a text is by its word and sentence lengths.

Here belong formulae over the lengths counted in `evidence/text_counts`. The counting rules stand in `methods.text`,
the gate that all formulae share in `methods.importance.readability`; formulae that look words up in a list of familiar
ones are in `methods.importance.familiarity`; difficulty that a model sees is in `methods.quality.model` and in the
other modules of this room.
"""

from __future__ import annotations

import polars as pl

from methods.importance.readability import formula, one_of, per_sentence, per_word, readability, readable
from methods.text import count_of


# --- by syllables ----------------------------------------------------------------------------------------------------
def flesch_reading_ease(
    block: pl.DataFrame, field: str = "response", language: str = "en", min_words: int = 30, min_letters: float = 0.6
) -> pl.DataFrame:
    """How easy English prose is to read: short sentences and short words give a high value (100 very easy, 0 hard).

    Equation: 206.835 - 1.015 W/S - 84.6 Y/W with W words, S sentences, Y syllables, all of the prose.

    Direction: lower is harder, and importance wants the harder row: `lower`. The value itself stays Flesch's.

    Parameters: `field` is `response`, `prompt` or `both`. `language` is the one the row must have; the formula was
    fitted to English. `min_words` is the least number of words of prose, `min_letters` the least share of letters among
    the visible characters. The row's language is that of its response, whatever the field.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `wrong_language`; `unknown_language` where
    the row's is not known; `unspaced_script` where most words are single characters of a script without spaces;
    `too_short` under `min_words`; `not_prose` under `min_letters` (tables, formulae, unfenced code).

    Source: Flesch 1948, "A new readability yardstick".

    Departures: an empty text has no value, where textstat says 0 ("very hard"); code fences are left out; sentences of
    one or two words count, where textstat drops them; numbers in digits have one syllable.
    """
    value = 206.835 - 1.015 * per_sentence(field) - 84.6 * per_word(field, "n_syllables")
    return formula(block, value, readable(field, language, min_words, min_letters))


def flesch_kincaid_grade(
    block: pl.DataFrame, field: str = "response", language: str = "en", min_words: int = 30, min_letters: float = 0.6
) -> pl.DataFrame:
    """The American school grade that can read a text, from the same two ratios as the reading ease.

    Equation: 0.39 W/S + 11.8 Y/W - 15.59.

    Direction: higher is harder. Very easy texts lie below 0.

    Parameters: `field`, `language`, `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: Kincaid et al. 1975, "Derivation of new readability formulas for Navy enlisted personnel".
    """
    value = 0.39 * per_sentence(field) + 11.8 * per_word(field, "n_syllables") - 15.59
    return formula(block, value, readable(field, language, min_words, min_letters))


_FOG = {"classic": "n_complex", "list": "n_unlisted_3", "all": "n_polysyllables"}


def gunning_fog(
    block: pl.DataFrame,
    field: str = "response",
    rule: str = "classic",
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """Years of schooling that a text asks for: long sentences and complex words.

    Equation: 0.4 (W/S + 100 complex/W).

    Direction: higher is harder.

    Parameters: `rule` says which words of three syllables or more are complex. `classic`: Gunning's, without names,
    hyphenated compounds and words that have their third syllable from -es, -ed or -ing only; `list`: textstat's, those
    not on the Dale-Chall list; `all`: every one. `field`, `language`, `min_words` and `min_letters` as for
    `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: Gunning 1952, "The Technique of Clear Writing".

    Departures: for `classic` the parts of a hyphenated compound are words by themselves, so that a long part counts.
    """
    complex_words = per_word(field, one_of("rule", rule, _FOG))
    value = 0.4 * (per_sentence(field) + 100 * complex_words)
    return formula(block, value, readable(field, language, min_words, min_letters))


def smog(
    block: pl.DataFrame,
    field: str = "response",
    min_sentences: int = 30,
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """The school grade at which a text is understood in full, from its words of three syllables or more.

    Equation: 1.0430 sqrt(30 P3/S) + 3.1291.

    Direction: higher is harder.

    Parameters: `min_sentences` is the least number of sentences. McLaughlin fitted the formula to samples of 30, and
    the default keeps to that, so that few answers have a value; a recipe that wants an order rather than a grade may
    lower it. `field`, `language`, `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`; `few_sentences` under `min_sentences`.

    Source: McLaughlin 1969, "SMOG grading: a new readability formula".

    Departures: all sentences are used, not ten each from the beginning, the middle and the end. textstat gives a grade
    for a single sentence without a word.
    """
    value = 1.043 * (30 * count_of(field, "n_polysyllables") / count_of(field, "n_sentences")).sqrt() + 3.1291
    status = readable(field, language, min_words, min_letters)
    few = (status == "ok") & (count_of(field, "n_sentences") < min_sentences)
    return formula(block, value, pl.when(few).then(pl.lit("few_sentences")).otherwise(status))


def linsear_write(
    block: pl.DataFrame, field: str = "response", language: str = "en", min_words: int = 30, min_letters: float = 0.6
) -> pl.DataFrame:
    """A school grade from the first 100 words: one point for an easy word, three for one of three syllables or more.

    Equation: r = (easy + 3 hard) / S over the first 100 words; r/2 where r > 20, else (r - 2)/2.

    Direction: higher is harder.

    Parameters: `field`, `language`, `min_words` and `min_letters` as for `flesch_reading_ease`; for `both` the first
    100 words of each are taken together.

    Statuses: those of `flesch_reading_ease`.

    Source: O'Hayre 1966, "Gobbledygook Has Gotta Go"; the grade's form as in textstat.

    Departures: a text of fewer than 100 words is taken whole. A sentence that the 100th word cuts counts as one.
    """
    words, hard = count_of(field, "n_first_words"), count_of(field, "n_first_polysyllables")
    points = (words + 2 * hard) / count_of(field, "n_first_sentences")
    value = pl.when(points > 20).then(points / 2).otherwise((points - 2) / 2)
    return formula(block, value, readable(field, language, min_words, min_letters))


def syllables_per_word(
    block: pl.DataFrame, field: str = "response", language: str = "en", min_words: int = 30, min_letters: float = 0.6
) -> pl.DataFrame:
    """Mean number of syllables of a word.

    Equation: Y/W.

    Direction: higher is harder.

    Parameters: `field`, `language`, `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: an ingredient of Flesch 1948; used by itself by Connatser 1999.
    """
    return formula(block, per_word(field, "n_syllables"), readable(field, language, min_words, min_letters))


def _counted(name: str, field: str, stat: str) -> pl.Expr:
    one_of("stat", stat, {"share": stat, "count": stat})
    return per_word(field, name) if stat == "share" else count_of(field, name)


def monosyllable_count(
    block: pl.DataFrame,
    field: str = "response",
    stat: str = "share",
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """How many words have one syllable, as a share of all.

    Equation: #{w : syllables(w) = 1} / W.

    Direction: lower is harder, so `lower`.

    Parameters: `stat` is `share`, or `count` for the number itself, which grows with the length of the text. `field`,
    `language`, `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: Connatser 1999, "Last rites for readability formulas in technical communication".
    """
    value = _counted("n_monosyllables", field, stat)
    return formula(block, value, readable(field, language, min_words, min_letters))


def polysyllable_count(
    block: pl.DataFrame,
    field: str = "response",
    stat: str = "share",
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """How many words have three syllables or more, as a share of all.

    Equation: #{w : syllables(w) >= 3} / W.

    Direction: higher is harder.

    Parameters: `stat` is `share`, or `count` for the number itself, which grows with the length of the text. `field`,
    `language`, `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: Connatser 1999, "Last rites for readability formulas in technical communication".
    """
    value = _counted("n_polysyllables", field, stat)
    return formula(block, value, readable(field, language, min_words, min_letters))


# --- by letters ------------------------------------------------------------------------------------------------------
def coleman_liau(
    block: pl.DataFrame, field: str = "response", language: str = "en", min_words: int = 30, min_letters: float = 0.6
) -> pl.DataFrame:
    """A school grade that counts letters, not syllables.

    Equation: 0.0588 L - 0.296 S' - 15.8 with L letters and S' sentences per 100 words.

    Direction: higher is harder.

    Parameters: `field`, `language`, `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: Coleman & Liau 1975, "A computer readability formula designed for machine scoring".

    Departures: textstat has .058 for .0588, which lowers the grade by about .4.
    """
    sentences = 100 * count_of(field, "n_sentences") / count_of(field, "n_prose_words")
    value = 0.0588 * 100 * per_word(field, "n_letters") - 0.296 * sentences - 15.8
    return formula(block, value, readable(field, language, min_words, min_letters))


def ari(
    block: pl.DataFrame, field: str = "response", language: str = "en", min_words: int = 30, min_letters: float = 0.6
) -> pl.DataFrame:
    """The automated readability index: a school grade from characters a word and words a sentence.

    Equation: 4.71 C/W + 0.5 W/S - 21.43 with C letters and digits.

    Direction: higher is harder.

    Parameters: `field`, `language`, `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: Smith & Senter 1967, "Automated readability index".

    Departures: textstat counts punctuation as characters, which raises the grade by about one.
    """
    value = 4.71 * per_word(field, "n_alphanumerics") + 0.5 * per_sentence(field) - 21.43
    return formula(block, value, readable(field, language, min_words, min_letters))


def lix(
    block: pl.DataFrame,
    field: str = "response",
    language: str | None = None,
    min_words: int = 30,
    min_letters: float = 0.4,
) -> pl.DataFrame:
    """Difficulty in any language that is written with spaces: long sentences and the share of long words.

    Equation: W/S + 100 long/W; a long word has more than six letters.

    Direction: higher is harder. Compare rows of one language: German words are longer than English ones.

    Parameters: `language` restricts the value to one language; None is any, known or not. `min_letters` is lower than
    the English formulae's, because the vowel signs of Indic scripts are visible but no letters. `field` and `min_words`
    as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`; the two of language only where `language` is given.

    Source: Björnsson 1968, "Läsbarhet".

    Departures: the stretch between colons or capitals is no sentence here; see the rule of `methods.text`.
    """
    value = per_sentence(field) + 100 * per_word(field, "n_long_words")
    return formula(block, value, readable(field, language, min_words, min_letters))


def rix(
    block: pl.DataFrame,
    field: str = "response",
    language: str | None = None,
    min_words: int = 30,
    min_letters: float = 0.4,
) -> pl.DataFrame:
    """Long words a sentence, in any language that is written with spaces.

    Equation: long/S; a long word has more than six letters.

    Direction: higher is harder. Compare rows of one language.

    Parameters: `field`, `language`, `min_words` and `min_letters` as for `lix`.

    Statuses: those of `lix`.

    Source: Anderson 1983, "Lix and Rix: variations on a little-known readability index".
    """
    value = count_of(field, "n_long_words") / count_of(field, "n_sentences")
    return formula(block, value, readable(field, language, min_words, min_letters))


# --- the list --------------------------------------------------------------------------------------------------------
INDICATORS = (
    readability(
        "flesch_reading_ease", "Flesch reading ease", r"206.835 - 1.015 \frac{W}{S} - 84.6 \frac{Y}{W}",
        "Flesch 1948, A new readability yardstick, Journal of Applied Psychology 32",
        "High values are easy to read (100: primary school), low ones hard (0: scholarly). English prose only.",
        flesch_reading_ease, "lower",
    ),
    readability(
        "flesch_kincaid_grade", "Flesch-Kincaid grade", r"0.39 \frac{W}{S} + 11.8 \frac{Y}{W} - 15.59",
        "Kincaid, Fishburne, Rogers & Chissom 1975, Navy Research Branch Report 8-75",
        "The American school grade that can read the text: 12 is the last year of school, more is university. English "
        "prose only.",
        flesch_kincaid_grade,
    ),
    readability(
        "gunning_fog", "Gunning fog index", r"0.4 (\frac{W}{S} + 100 \frac{complex}{W})",
        "Gunning 1952, The Technique of Clear Writing",
        "Years of schooling that the text asks for; above 17 it asks for a degree. English prose only.",
        gunning_fog, rule="classic",
    ),
    readability(
        "smog", "SMOG grade", r"1.043 \sqrt{30 \frac{P_3}{S}} + 3.1291",
        "McLaughlin 1969, SMOG grading: a new readability formula, Journal of Reading 12",
        "The school grade at which the text is understood in full. Needs 30 sentences, so most short answers have no "
        "value. English prose only.",
        smog, min_sentences=30,
    ),
    readability(
        "linsear_write", "Linsear Write grade",
        r"\frac{r}{2} if r > 20, else \frac{r - 2}{2}; r = \frac{easy + 3 hard}{S}",
        "O'Hayre 1966, Gobbledygook Has Gotta Go",
        "A school grade from the first 100 words: high values have many long words and few full stops. English prose "
        "only.",
        linsear_write,
    ),
    readability(
        "syllables_per_word", "Syllables a word", r"\frac{Y}{W}", "Connatser 1999; Flesch 1948",
        "High values have long words, which are learned or technical more often than not. English prose only.",
        syllables_per_word,
    ),
    readability(
        "monosyllable_count", "Words of one syllable", r"\frac{mono}{W}, mono = #(w : syllables(w) = 1)",
        "Connatser 1999, Last rites for readability formulas in technical communication",
        "The share of the shortest words: high in plain talk, low in learned prose. English prose only.",
        monosyllable_count, "lower", stat="share",
    ),
    readability(
        "polysyllable_count", "Words of three syllables or more", r"\frac{P_3}{W}, P_3 = #(w : syllables(w) \ge 3)",
        "Connatser 1999, Last rites for readability formulas in technical communication",
        "The share of long words: low in plain talk, high in learned prose. English prose only.",
        polysyllable_count, stat="share",
    ),
    readability(
        "coleman_liau", "Coleman-Liau index", r"0.0588 L - 0.296 S' - 15.8",
        "Coleman & Liau 1975, A computer readability formula designed for machine scoring",
        "A school grade from the letters of a word, without syllables: high values are hard. English prose only.",
        coleman_liau,
    ),
    readability(
        "ari", "Automated readability index", r"4.71 \frac{C}{W} + 0.5 \frac{W}{S} - 21.43",
        "Smith & Senter 1967, Automated readability index, AMRL-TR-66-220",
        "A school grade from the characters of a word and the words of a sentence: high values are hard. English prose "
        "only.",
        ari,
    ),
    readability(
        "lix", "LIX", r"\frac{W}{S} + 100 \frac{long}{W}", "Björnsson 1968, Läsbarhet",
        "Under 30 is a children's book, above 60 a learned paper. For any language with spaces; compare rows of one.",
        lix, language=None, min_letters=0.4,
    ),
    readability(
        "rix", "RIX", r"\frac{long}{S}", "Anderson 1983, Lix and Rix, Journal of Reading 26",
        "Long words a sentence: high values are hard. For any language with spaces, but compare rows of one.",
        rix, language=None, min_letters=0.4,
    ),
)  # fmt: skip
