"""The one counter: every lexical, repetition, length, spelling and readability method reads what is counted here.

Here belong the rules by which words become sentences and counts, `count_block`, which applies them to a block of rows,
and the few expressions by which methods read the counts of a field. What a word is stands in `methods.tokens`, what is
known of an English word in `methods.english`. What a method makes of the counts stands in the room of its axis; it
never looks at the text again.

*Prose* is what stands outside code fences (three backticks; an unclosed fence runs to the end). Letters, syllables,
sentences and hard words are counted in prose only, because code makes such numbers meaningless.

*Sentence*: a stretch of prose up to a sentence end. A point after a title (``Dr.``) or after two single letters
(``e.g.``) ends nothing, and a stretch without a word that has a letter (``1.``) is no sentence.

*Name*: a word with a capital that opens no stretch; names are familiar, never complex, and not held to a dictionary.

*Spellable* are words of two letters or more, of letters alone, in lower case or opening a stretch, that stand in no
code, link, identifier or address. Syllables, familiarity and spelling mean something for English only: a method that
uses them asks `language`.
"""

from __future__ import annotations

import threading
from array import array
from functools import cache

import numpy as np
import polars as pl

from methods import english, marks
from methods.parts_of_speech import POS, coarse_pos
from methods.tokens import FENCE, LINK, TITLES, UNLINK, cut, hash_word, is_word, lowered, unspaced

COUNTS_VERSION = "2"
"""Part of the fingerprint of stored counts: raised when a rule or the version of a dictionary changes."""

FIELDS = ("prompt", "response")

COUNTED: dict[str, str] = {
    "n_words": "words, those inside code fences included",
    "n_chars": "Unicode code points of the whole text",
    "n_visible": "code points of the prose that are not blank",
    "n_unspaced": "words of the prose from scripts without spaces (one a character)",
    "n_prose_words": "words of the prose: the W of the readability formulas",
    "n_letter_words": "words of the prose with at least one letter",
    "n_letters": "letters of the prose's words",
    "n_alphanumerics": "letters and digits of the prose's words",
    "n_sentences": "sentences of the prose",
    "n_syllables": "syllables of the prose's words",
    "n_monosyllables": "words of the prose with one syllable",
    "n_polysyllables": "words of the prose with three syllables or more",
    "n_long_words": "words of the prose with more than six letters",
    "n_unfamiliar": "lettered words of the prose, names aside, that are no form of a word on the Dale-Chall list",
    "n_unlisted": "lettered words of the prose that do not stand on the Dale-Chall list as they are written",
    "n_unlisted_2": "unlisted words of two syllables or more",
    "n_unlisted_3": "unlisted words of three syllables or more",
    "n_complex": "Gunning's hard words: three syllables without -es, -ed, -ing, and no name",
    "n_spache_unfamiliar": "distinct lettered words of the prose, names aside, that are not on Spache's list",
    "n_first_words": "words of the prose's first hundred",
    "n_first_polysyllables": "words of the prose's first hundred with three syllables or more",
    "n_first_sentences": "sentences that open within the prose's first hundred words",
    "n_spellable": "words that can be held to a dictionary",
    "n_misspelt": "spellable words that no dictionary of English knows",
}

COUNTS_SCHEMA: dict[str, pl.DataType] = {
    "row_id": pl.String(),
    "language": pl.String(),
    **{
        f"{field}_{name}": {"words": pl.List(pl.UInt64()), "marks": pl.List(pl.UInt32())}.get(name, pl.Int64())
        for field in FIELDS
        for name in ("words", "marks", *COUNTED)
    },
}
"""`evidence/text_counts`: ``{field}_words`` is the 64-bit hash of each word in order and ``{field}_marks`` the card of
each (`methods.marks`); the rest are counts."""

_TYPES_KEPT = 400_000
"""Distinct spellings remembered from block to block; some 100 MB."""
_FIRST = 100
"""Words of the sample that Linsear Write takes."""
LONG_WORD = 6
"""Letters of a word that is not yet long (Björnsson's LIX)."""


# --- what is known of a piece ----------------------------------------------------------------------------------------
@cache
def _bit() -> dict[str, int]:
    """The bit of each trait, as the compiled pass has them."""
    from methods.numerics.counting import TRAITS

    return {name: 1 << i for i, name in enumerate(TRAITS)}


def _bits(**traits: bool) -> int:
    bits, known = 0, _bit()
    for name, holds in traits.items():
        if holds:
            bits |= known[name]
    return bits


def _traits_of_word(word: str, letters: int, spoken: int, familiar: bool) -> int:
    lettered = letters > 0
    return _bits(
        word=True,
        unspaced=unspaced(word[0]),
        title=word in TITLES,
        single=letters == len(word) == 1,
        lettered=lettered,
        unlisted=lettered and not english.is_listed(word),
        unfamiliar=lettered and not familiar,
        complex=spoken >= 3 and english.is_complex(word),
        off_spache=lettered and not english.is_on_spache_list(word),
        spellable=letters > 1 and (letters == len(word) or word.replace("'", "").isalpha()),
        unspelt=lettered and not english.is_spelt(word),
    )


def _as_written(traits: int, word: str, written: str) -> int:
    """The traits of a word that is written with capitals."""
    capital = written[0] != word[0] and not (len(written) > 1 and written.isupper())
    spellable = written[1:] == word[1:]
    return (traits if spellable else traits & ~_bits(spellable=True)) | _bits(capital=capital)


def _traits_of_sign(piece: str) -> int:
    # A point before a line break ends a sentence whatever word stands before it.
    point = piece[0] == "." and piece[1:2] != "." and piece[-1] not in "\r\n"
    return _bits(fence=piece == FENCE, link=piece == LINK, unlink=piece == UNLINK, point=point)


def _card_of_word(word: str, letters: int, spoken: int, familiar: bool) -> int:
    if not letters:
        return marks.pack(syllables=spoken, pos=POS.index("other"))
    pos = coarse_pos(word)
    connective = word in english.CONNECTIVES
    return marks.pack(
        letters=letters,
        syllables=spoken,
        pos=POS.index(pos),
        content=pos in ("noun", "verb", "adj", "adv") and not connective and word not in english.AUXILIARIES,
        familiar=familiar,
        connective=connective,
        zipf=round(10 * (english.log_frequency(word) or 0.0)),
        rank=english.rank_class(word),
    )


class _Types(dict[str, int]):
    """Piece -> its number, with what is known of each piece by number: worked out once for each distinct piece."""

    def __init__(self) -> None:
        self.hash, self.card, self.traits, self.base = array("Q"), array("I"), array("I"), array("q")
        self.letters, self.alphanumerics, self.syllables = array("q"), array("q"), array("q")

    def __missing__(self, piece: str) -> int:
        if not is_word(piece):
            return self._add(piece, 0, 0, _traits_of_sign(piece), (0, 0, 0), None)
        word = lowered(piece)
        if word != piece:
            base = self[word]
            counts = (self.letters[base], self.alphanumerics[base], self.syllables[base])
            traits = _as_written(self.traits[base], word, piece)
            return self._add(piece, self.hash[base], self.card[base], traits, counts, base)
        letters = len(word) if word.isalpha() else sum(map(str.isalpha, word))
        spoken = english.syllables(word) if letters else 1
        familiar = letters > 0 and english.is_familiar(word)
        counts = (letters, len(word) if letters == len(word) else sum(map(str.isalnum, word)), spoken)
        card = _card_of_word(word, letters, spoken, familiar)
        return self._add(word, hash_word(word), card, _traits_of_word(word, letters, spoken, familiar), counts, None)

    def _add(
        self, piece: str, hash: int, card: int, traits: int, counts: tuple[int, int, int], base: int | None
    ) -> int:
        number = len(self)
        self.hash.append(hash)
        self.card.append(card)
        self.traits.append(traits)
        self.letters.append(counts[0])
        self.alphanumerics.append(counts[1])
        self.syllables.append(counts[2])
        self.base.append(number if base is None else base)
        self[piece] = number
        return number

    def known(self, name: str) -> np.ndarray:
        """What is known under ``name`` of every piece, by number."""
        values: array = getattr(self, name)
        return np.array(values, dtype={"Q": np.uint64, "q": np.int64, "I": np.uint32}[values.typecode])


_REMEMBERED = threading.local()


def _types() -> _Types:
    """This thread's table of types; a new one when the old holds more than is good for memory."""
    types: _Types | None = getattr(_REMEMBERED, "types", None)
    if types is None or len(types) > _TYPES_KEPT:
        types = _REMEMBERED.types = _Types()
    return types


# --- counting --------------------------------------------------------------------------------------------------------
def _lists(values: np.ndarray, lengths: np.ndarray, kind: pl.DataType) -> pl.Series:
    """A list column from flat values and the length of each list."""
    import pyarrow as pa

    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    lists = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)))
    return pl.Series(lists, dtype=pl.List(kind))


def _count_field(texts: pl.Series, types: _Types) -> dict[str, pl.Series]:
    """The columns of one field, without its prefix."""
    from methods.numerics.counting import COLUMNS, count

    found = cut(texts)
    numbers = np.array([types[piece] for piece in found.distinct], dtype=np.int64)  # once for each distinct piece
    traits, letters, alphanumerics = types.known("traits"), types.known("letters"), types.known("alphanumerics")
    counted, words, cards = count(
        numbers[found.codes],
        found.lengths,
        traits,
        letters,
        alphanumerics,
        types.known("syllables"),
        types.known("base"),
        types.known("card"),
        marks.PLACED,
        _FIRST,
        LONG_WORD,
    )
    n_words = counted[:, COLUMNS.index("n_words")]
    return {
        "words": _lists(types.known("hash")[words], n_words, pl.UInt64()),
        "marks": _lists(cards, n_words, pl.UInt32()),
        "n_chars": texts.str.len_chars().cast(pl.Int64),
        "n_visible": pl.Series(found.visible),
        **{name: pl.Series(counted[:, column]) for column, name in enumerate(COLUMNS)},
    }


def _texts(block: pl.DataFrame) -> dict[str, pl.Series]:
    """The two counted texts; the prompt is the instruction and, on a new line, the input."""
    rows = block.select(pl.col("instruction", "input", "response").cast(pl.String).fill_null(""))
    asked = pl.when(pl.col("input") == "").then("instruction").otherwise(pl.col("instruction") + "\n" + pl.col("input"))
    return {"prompt": rows.select(asked).to_series(), "response": rows["response"]}


def count_block(block: pl.DataFrame) -> pl.DataFrame:
    """Count a block of rows: `COUNTS_SCHEMA`, one row for each row of the block, in its order.

    ``block`` has ``row_id``, ``instruction``, ``input``, ``response`` and, where it is known, ``language`` (that of the
    response, ISO 639-1; ``und`` where the block does not say). A null text is an empty one. Each text is read once;
    what a dictionary says is looked up once for each distinct word. Memory grows with the block alone.
    """
    types = _types()
    said = pl.col("language").fill_null("und") if "language" in block.columns else pl.lit("und").alias("language")
    columns = block.select("row_id", said).to_dict()
    for field, texts in _texts(block).items():
        columns |= {f"{field}_{name}": values for name, values in _count_field(texts, types).items()}
    return pl.DataFrame(columns).cast(pl.Schema(COUNTS_SCHEMA)).select(list(COUNTS_SCHEMA))


# --- reading the counts ----------------------------------------------------------------------------------------------
_NAMED = {"response": ("response",), "prompt": ("prompt",), "instruction": ("prompt",), "both": FIELDS}
"""The fields by the names that a person may use; the instruction is counted with its input."""
_EMPTY = {"response": "empty_response", "prompt": "empty_prompt", "instruction": "empty_prompt", "both": "empty_text"}


def _fields(field: str) -> tuple[str, ...]:
    if field not in _NAMED:
        raise ValueError(f"field must be 'response', 'prompt' (or 'instruction') or 'both', not {field!r}")
    return _NAMED[field]


def count_of(field: str, name: str) -> pl.Expr:
    """A count of the response, of the prompt, or of both together (their sum)."""
    columns = [pl.col(f"{part}_{name}") for part in _fields(field)]
    return columns[0] if len(columns) == 1 else pl.sum_horizontal(columns).cast(pl.Int64)


def words_of(block: pl.DataFrame, field: str) -> pl.Series:
    """The word hashes of the response, of the prompt, or of both (the prompt's first)."""
    return _joined(block, field, "words")


def marks_of(block: pl.DataFrame, field: str) -> pl.Series:
    """The cards of these words (`methods.marks`)."""
    return _joined(block, field, "marks")


def _joined(block: pl.DataFrame, field: str, name: str) -> pl.Series:
    columns = [f"{part}_{name}" for part in _fields(field)]
    return block[columns[0]] if len(columns) == 1 else block.select(pl.concat_list(columns)).to_series().alias(name)


def status_when_short(field: str, least: int = 1, name: str = "n_words") -> pl.Expr:
    """Why a text is too little to be measured, else ``ok``.

    ``empty_response`` (``empty_prompt``, ``empty_text``): nothing but blanks; ``no_words``: signs only;
    ``too_short``: fewer than ``least`` of what ``name`` counts.
    """
    wordless = count_of(field, "n_words") == 0
    return (
        pl.when(wordless & (count_of(field, "n_visible") == 0))
        .then(pl.lit(_EMPTY[field]))
        .when(wordless)
        .then(pl.lit("no_words"))
        .when(count_of(field, name) < least)
        .then(pl.lit("too_short"))
        .otherwise(pl.lit("ok"))
    )
