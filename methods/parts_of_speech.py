"""What part of speech a word most often is, looked up by itself: no sentence is read, no model is run.

Here belongs the one map from a lower-cased English word (as `methods.tokens.tokenize` gives it) to one of eight coarse
classes. Which classes a method counts, and what it makes of them, stands with the method.

The rule
--------
The lexicon of Brill's tagger (93,000 word forms from the Brown corpus, the Penn Treebank and annotated tweets; the
file comes inside the package ``textblob``) lists for each form its most frequent tag. A form that it does not hold is
looked up without its plural ``s``, and after that judged by its ending; what no ending tells is a noun.

How far to trust it
-------------------
A word has one class whatever the sentence: ``use`` and ``answer`` are nouns in *use it* and *answer me* too. Taking
the most frequent tag is right for about nine words in ten of newspaper English and for fewer in imperatives, which
instructions are full of. Counts and shares over many words mean something; a single word's class proves nothing. The
rules are English ones: words of another language written in Latin letters mostly come out as nouns, words of other
scripts and numbers as ``other``. Ask the row's `language` before reading anything into such numbers.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from methods.english import data_file, without_accents

CoarsePos = Literal["noun", "verb", "adj", "adv", "pron", "prep", "conj", "other"]

POS: tuple[CoarsePos, ...] = ("noun", "verb", "adj", "adv", "pron", "prep", "conj", "other")
"""Every class, in the order in which tables show them."""

# Penn tags by their first letters; the longest that fits decides.
_CLASS_OF_TAG: dict[str, CoarsePos] = {
    "NN": "noun",
    "VB": "verb",
    "MD": "verb",  # can, will, must
    "JJ": "adj",
    "RB": "adv",
    "WRB": "adv",  # when, where, why, how
    "PRP": "pron",
    "WP": "pron",
    "EX": "pron",  # there is
    "WDT": "pron",  # which
    "IN": "prep",
    "TO": "prep",
    "RP": "prep",
    "CC": "conj",
}

# Penn tags these as prepositions (IN) or determiners; grammars call them conjunctions.
_CONJUNCTIONS = frozenset(
    ("although", "because", "if", "lest", "once", "since", "so", "than", "that", "though", "till", "unless", "until")
) | {"whereas", "whether", "while", "whilst", "yet"}

# Nouns (or what else the lexicon says) by its tags, pronouns by grammar.
_PRONOUNS = (
    frozenset(
        (
            "mine",
            "ours",
            "yours",
            "hers",
            "theirs",
            "oneself",
            "who",
            "whom",
            "whose",
            "something",
            "anything",
            "nothing",
        )
    )
    | {f"{some}{body}" for some in ("some", "any", "no", "every") for body in ("body", "one")}
    | {"everything"}
)

# Endings of words that the lexicon does not hold; the first that fits decides.
_ENDINGS: tuple[tuple[tuple[str, ...], CoarsePos], ...] = (
    (("ly",), "adv"),
    (("tion", "sion", "ment", "ness", "ity", "ism", "ist", "ship", "hood", "ance", "ence", "ology"), "noun"),
    (("ize", "ise", "ify", "ized", "ised", "ified", "izes", "ises", "ifies", "ing", "ed"), "verb"),
    (("able", "ible", "ous", "ful", "less", "ive", "ical", "ial", "ual", "ic", "ish", "esque"), "adj"),
)
_SHORTEST_STEM = 2
"""Letters that must stand before an ending: ``bed`` is not the past of ``b``."""


def _class_of_tag(tag: str) -> CoarsePos:
    first = tag.partition("|")[0]
    for length in (3, 2):
        if first[:length] in _CLASS_OF_TAG:
            return _CLASS_OF_TAG[first[:length]]
    return "other"


@cache
def _lexicon() -> dict[str, CoarsePos]:
    """Lower-cased word form -> class of its most frequent tag; a lower-case entry outdoes a capitalised one."""
    known: dict[str, CoarsePos] = {}
    capitalised: dict[str, CoarsePos] = {}
    for line in data_file("textblob", "en", "en-lexicon.txt").read_text(encoding="utf-8").splitlines():
        form, _, tags = line.partition(" ")
        if form and tags and not line.startswith(";;;"):
            into = known if form.islower() else capitalised
            into.setdefault(form.lower(), _class_of_tag(tags.split()[0]))
    return capitalised | known


def _by_form(word: str) -> CoarsePos:
    """The class of a word that the lexicon does not hold."""
    plain = without_accents(word)
    if not any(c.isascii() and c.isalpha() for c in plain) or plain[0].isdigit():
        return "other"
    known = _lexicon()
    if plain in known:
        return known[plain]
    if plain.endswith("s") and not plain.endswith("ss"):
        stem = known.get(plain[:-1]) or (known.get(plain[:-2]) if plain.endswith("es") else None)
        if stem in ("noun", "verb"):
            return stem
    for endings, pos in _ENDINGS:
        if any(plain.endswith(ending) and len(plain) - len(ending) >= _SHORTEST_STEM for ending in endings):
            return pos
    return "noun"


@cache
def coarse_pos(word: str) -> CoarsePos:
    """The class of a lower-cased word: its most frequent one in English text, whatever the sentence.

    ``noun``, ``verb`` (modals too), ``adj``, ``adv`` (``when``, ``how`` and ``not`` too), ``pron`` (``my``, ``which``
    and ``everyone`` too), ``prep`` (``to`` and particles too), ``conj`` (``because``, ``that`` and their like too),
    ``other`` (articles and other determiners, numbers, interjections, other scripts). A contraction goes by its first
    part (``i'm`` as ``i``), except that ``n't`` makes a verb. Worked out once for each distinct word and then kept.
    """
    head, apostrophe, tail = word.partition("'")
    if apostrophe and head:
        return "verb" if tail == "t" and head.endswith("n") else coarse_pos(head)
    if word in _PRONOUNS:
        return "pron"
    if word in _CONJUNCTIONS:
        return "conj"
    return _lexicon().get(word) or _by_form(word)
