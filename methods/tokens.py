"""What a word, a sentence end and a code fence are: the one tokenizer of texts in any script.

Here belong the rules by which texts fall into pieces, and nothing that counts them: that is `methods.text`.

*Word*: a maximal run of letters, digits and the marks that sit on them, NFC-normalised; apostrophes inside a word
belong to it (``don't``; the typographic apostrophe counts as the straight one). Hyphens, underscores, points and all
other punctuation separate words, so ``well-known`` and ``3.14`` are two words each. Scripts that are written without
spaces between words (Han, kana, Thai, Lao, Khmer, Myanmar) give one word for each character. Words inside code fences
count as words. `tokenize` gives words in lower case; `cut` keeps their capitals.

*Sentence end*: ``. ! ? …`` (and their Arabic and Indic kin) before a blank or the end of the text, ``。！？``, a line
break, a fence. Whether a point after ``Dr.`` ends a sentence is decided where sentences are counted.

*Link*: what reads as an address or a name in code (``https://...``, ``a@b.c``, ``snake_case``, ``np.array``,
```` `inline` ````). Its words count as words; the marks `LINK` and `UNLINK` stand around it for those who skip it.

A column of texts is cut at once. Most texts are ASCII and go through a compiled loop over bytes; the others go through
one regular expression of the same meaning, which is two to three times slower.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import polars as pl

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
FENCE = "```"
LINK, UNLINK = "\x02", "\x03"
FENCED = r"(?s)```.*?(?:```|\z)"
TITLES = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "gen", "rep", "sen", "gov", "hon", "rev", "capt", "lt", "col", "sgt")
) | {"vs", "cf", "fig", "approx"}


# --- the pattern -----------------------------------------------------------------------------------------------------
def unspaced(character: str) -> bool:
    """Whether a character is of a script that puts no spaces between words."""
    point = ord(character)
    return point >= _UNSPACED_SPANS[0][0] and any(first <= point <= last for first, last in _UNSPACED_SPANS)


_JOINERS = r"\u200C\u200D"  # inside Persian and Indic words
_SINGLE = "[" + "".join(f"\\U{first:08X}-\\U{last:08X}" for first, last in _UNSPACED_SPANS) + r"&&[\p{L}\p{N}]]"
_FIRST = r"[\p{L}\p{N}--" + _SINGLE + "]"
_INSIDE = rf"[\p{{L}}\p{{N}}\p{{M}}{_JOINERS}--{_SINGLE}]"
_WORDS = rf"{_FIRST}{_INSIDE}*(?:'{_INSIDE}+)*|{_SINGLE}[\p{{M}}{_JOINERS}]*"
_ENDS = r"""[.!?…؟۔।॥]+["'”»)\]}*_]*(?:\s|$)|[。！？｡]+|[\r\n]+|[\x02\x03]"""
_PIECES = f"{FENCE}|{_WORDS}|{_ENDS}"

_LINKED = re.compile(
    # The marks must not fall inside a word: not beside a letter, an apostrophe that joins, a sign of another script.
    r"(?<!`)`[^`\n]+`(?!`)|(?<![^\x00-\x7f])(?<![^\x00-\x7f]')(?<!\w)(?<!\w')"
    r"(?:(?:https?://|www\.)\S*\w|[\w.+-]+@[\w-]+(?:\.\w+)+|\w*_\w+|[A-Za-z]\w*(?:\.[A-Za-z]\w*)+)"
    r"(?!'?(?:\w|[^\x00-\x7f]))",
    re.ASCII,
)
_MAY_HOLD_LINKS = r"[`_@\x02\x03]|[A-Za-z0-9]\.[A-Za-z]|://"


def _link(text: str) -> str:
    """The text with `LINK` and `UNLINK` around its links, and nowhere else."""
    text = text.replace(LINK, " ").replace(UNLINK, " ")
    return _LINKED.sub(lambda found: f"{LINK}{found[0]}{UNLINK}", text)


@dataclass(frozen=True)
class Cut:
    """The pieces of a column of texts, one after another."""

    codes: np.ndarray
    """int64: which of ``distinct`` each piece is."""
    lengths: np.ndarray
    """int64: how many pieces each text has."""
    distinct: list[str]
    """Words as they are written, sentence ends, fences and the marks around links."""
    visible: np.ndarray
    """int64: code points of each text that are not blank, outside code fences."""


def cut(texts: pl.Series) -> Cut:
    """Every text (none is null) as its pieces. What is ASCII goes through compiled code, the rest through `_PIECES`."""
    ascii_alone = texts.str.len_bytes() == texts.str.len_chars()
    plain = bool(ascii_alone.all())
    if not plain:
        normal = texts.filter(~ascii_alone).str.normalize("NFC").str.replace_all("’", "'", literal=True)
        texts = _changed(texts, ~ascii_alone, normal)
    linked = texts.str.contains(_MAY_HOLD_LINKS)
    if linked.any():
        texts = _changed(texts, linked, pl.Series([_link(text) for text in texts.filter(linked)], dtype=pl.String))
    if plain:
        return _cut_ascii(texts)
    parts = (_cut_ascii(texts.filter(ascii_alone)), _cut_any(texts.filter(~ascii_alone)))
    return _woven(*parts, ascii_alone.to_numpy())


def _changed(texts: pl.Series, which: pl.Series, changed: pl.Series) -> pl.Series:
    return texts.clone().scatter(which.arg_true(), changed)


def _cut_ascii(texts: pl.Series) -> Cut:
    from methods.numerics.cutting import SIGNS, cut_texts

    codes, lengths, words, visible = cut_texts(texts)
    return Cut(codes, lengths, [*SIGNS, *words], visible)


def _cut_any(texts: pl.Series) -> Cut:
    found = texts.str.extract_all(_PIECES)
    flat = found.explode(empty_as_null=False, keep_nulls=False).alias("piece")
    distinct = flat.unique(maintain_order=True)
    codes = flat.to_frame().join(
        distinct.to_frame().with_row_index("code"), on="piece", how="left", maintain_order="left"
    )
    prose = texts.str.replace_all(FENCED, "").str.replace_all(f"[{LINK}{UNLINK}]", "")
    return Cut(
        codes["code"].to_numpy().astype(np.int64),
        found.list.len().to_numpy().astype(np.int64),
        distinct.to_list(),
        prose.str.count_matches(r"\S").to_numpy().astype(np.int64),
    )


def _woven(first: Cut, second: Cut, of_first: np.ndarray) -> Cut:
    """Two columns as the one that they were filtered from."""
    lengths, visible = np.empty((2, len(of_first)), dtype=np.int64)
    lengths[of_first], lengths[~of_first] = first.lengths, second.lengths
    visible[of_first], visible[~of_first] = first.visible, second.visible
    codes = np.empty(int(lengths.sum()), dtype=np.int64)
    of_first_piece = np.repeat(of_first, lengths)
    codes[of_first_piece], codes[~of_first_piece] = first.codes, second.codes + len(first.distinct)
    return Cut(codes, lengths, [*first.distinct, *second.distinct], visible)


def is_word(piece: str) -> bool:
    """Whether a piece is a word and no sign."""
    return piece[0].isalnum()


def lowered(word: str) -> str:
    """A word in lower case, as `tokenize` gives it and as it is hashed."""
    return word.lower() if word.isascii() else unicodedata.normalize("NFC", word.lower())


def tokenize(text: str) -> list[str]:
    """The words of a text, in order, by the rule of this module. For many texts at once take `tokenize_all`."""
    return tokenize_all(pl.Series([text], dtype=pl.String))[0]


def tokenize_all(texts: pl.Series) -> list[list[str]]:
    """The words of each text, in order."""
    found = cut(texts)
    word = np.array([is_word(piece) for piece in found.distinct], dtype=bool)[found.codes]
    forms = [lowered(piece) for piece in found.distinct]
    words = [forms[code] for code in found.codes[word]]
    ends = np.cumsum(np.bincount(np.repeat(np.arange(len(texts)), found.lengths)[word], minlength=len(texts)))
    return [words[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if len(texts) else []


def hash_word(word: str) -> int:
    """The 64 bits that stand for a word in the stored counts; the same on every machine."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
