"""Hand-crafted importance (survey 5.1): readability by lists of familiar words, Dale and Chall's and Spache's.

Here belong the formulae that ask how many words a child does not know. The lists stand in `methods.english`, what is
counted of them in `methods.text`, the gate that all formulae share in `methods.importance.readability`; formulae over
lengths alone are in `methods.importance.handcrafted`.
"""

from __future__ import annotations

import polars as pl

from methods.importance.readability import formula, one_of, per_sentence, per_word, readability, readable


def _difficult(field: str, inflections: bool) -> pl.Expr:
    """D/W: the share of words that are not on the Dale-Chall list."""
    return per_word(field, "n_unfamiliar" if inflections else "n_unlisted")


def dale_chall(
    block: pl.DataFrame,
    field: str = "response",
    inflections: bool = True,
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """A school grade from the share of words that fourth-graders do not know, by the formula of 1948.

    Equation: 0.1579 PDW + 0.0496 W/S, plus 3.6365 where PDW > 5; PDW = 100 D/W with D words not on the list, however
    many syllables they have.

    Direction: higher is harder.

    Parameters: `inflections` counts plurals, -ed, -ing and the like of listed words, and names, as familiar, as Dale
    and Chall's rules do; without it a word is familiar only as it stands, which is textstat's way. `field`, `language`,
    `min_words` and `min_letters` as for `flesch_reading_ease`.

    Statuses: those of `flesch_reading_ease`.

    Source: Dale & Chall 1948, "A formula for predicting readability". The survey cites their book of 1995, whose other
    formula is `dale_chall_new`.

    Departures: the list is textstat's of 2,940 words, not the 3,000 of print. textstat's
    `dale_chall_readability_score_v2` is not followed: it adds 3.6365 to every text.
    """
    percent = 100 * _difficult(field, inflections)
    value = 0.1579 * percent + 0.0496 * per_sentence(field) + pl.when(percent > 5).then(3.6365).otherwise(0.0)
    return formula(block, value, readable(field, language, min_words, min_letters))


def dale_chall_new(
    block: pl.DataFrame,
    field: str = "response",
    inflections: bool = True,
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """The share of left-out words that readers fill in right (a cloze score), by the formula of 1995.

    Equation: 64 - 95 D/W - 0.69 W/S with D words not on the Dale-Chall list.

    Direction: a low score is hard, so `lower`.

    Parameters: `field`, `inflections`, `language`, `min_words` and `min_letters` as for `dale_chall`.

    Statuses: those of `flesch_reading_ease`.

    Source: Chall & Dale 1995, "Readability Revisited: The New Dale-Chall Readability Formula"; coefficients as in the R
    package quanteda.

    Departures: the score is not read off their table of grades.
    """
    value = 64 - 95 * _difficult(field, inflections) - 0.69 * per_sentence(field)
    return formula(block, value, readable(field, language, min_words, min_letters))


def percent_difficult_words(
    block: pl.DataFrame,
    field: str = "response",
    inflections: bool = True,
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """How many words in a hundred are not on Dale and Chall's list of familiar ones.

    Equation: 100 D/W.

    Direction: higher is harder.

    Parameters: `field`, `inflections`, `language`, `min_words` and `min_letters` as for `dale_chall`.

    Statuses: those of `flesch_reading_ease`.

    Source: Klare 1974, "Assessing readability"; Begeny & Greene 2014, "Can readability formulas be used to successfully
    gauge difficulty of reading materials?".

    Departures: no threshold of syllables; textstat's `difficult_words` counts words of two syllables or more only.
    """
    value = 100 * _difficult(field, inflections)
    return formula(block, value, readable(field, language, min_words, min_letters))


_SPACHE = {"classic": "n_spache_unfamiliar", "textstat": "n_unlisted_2"}


def spache(
    block: pl.DataFrame,
    field: str = "response",
    rule: str = "classic",
    language: str = "en",
    min_words: int = 30,
    min_letters: float = 0.6,
) -> pl.DataFrame:
    """A school grade for the first years of primary school, from words that are not on Spache's list.

    Equation: 0.141 W/S + 0.086 PDW + 0.839; PDW = 100 U/W with U unfamiliar words.

    Direction: higher is harder. Made for the grades 1 to 4; above it only the order means something.

    Parameters: `rule` says what is unfamiliar. `classic`: each different word once that is not on Spache's list;
    `textstat`: every word of two syllables or more, each time, that is not on the Dale-Chall list. `field`, `language`,
    `min_words` and `min_letters` as for `flesch_reading_ease`; for `both` a word counts once in each.

    Statuses: those of `flesch_reading_ease`.

    Source: Spache 1953, "A new readability formula for primary-grade reading materials".

    Departures: Spache measured samples of 100 words. In a whole text words come again, so U/W falls with length under
    `classic`: compare texts of like length.
    """
    unfamiliar = per_word(field, one_of("rule", rule, _SPACHE))
    value = 0.141 * per_sentence(field) + 0.086 * 100 * unfamiliar + 0.839
    return formula(block, value, readable(field, language, min_words, min_letters))


INDICATORS = (
    readability(
        "dale_chall", "Dale-Chall score (1948)", r"0.1579 PDW + 0.0496 \frac{W}{S} + 3.6365 [PDW > 5]",
        "Dale & Chall 1948, A formula for predicting readability, Educational Research Bulletin 27",
        "Under 5 a fourth-grader can read it, above 10 a graduate. Rare words weigh more than long sentences. English "
        "prose only.",
        dale_chall, inflections=True,
    ),
    readability(
        "dale_chall_new", "Dale-Chall cloze score (1995)", r"64 - 95 \frac{D}{W} - 0.69 \frac{W}{S}",
        "Chall & Dale 1995, Readability Revisited: The New Dale-Chall Readability Formula",
        "How well readers guess words that are left out: low values are hard, high ones easy. English prose only.",
        dale_chall_new, "lower", inflections=True,
    ),
    readability(
        "percent_difficult_words", "Words off the familiar list", r"100 \frac{D}{W}",
        "Klare 1974, Assessing readability, Reading Research Quarterly 10; Begeny & Greene 2014",
        "How many words in a hundred a fourth-grader would not know; high values have rare or technical words. English "
        "prose only.",
        percent_difficult_words, inflections=True,
    ),
    readability(
        "spache", "Spache grade", r"0.141 \frac{W}{S} + 0.086 PDW + 0.839",
        "Spache 1953, A new readability formula for primary-grade reading materials, Elementary School Journal 53",
        "A grade for the first years of school: tells very easy answers apart, where the other formulae are coarse. "
        "English prose only.",
        spache, rule="classic",
    ),
)  # fmt: skip
