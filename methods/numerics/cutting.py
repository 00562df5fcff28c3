"""Compiled: cutting ASCII texts into pieces, byte by byte.

Here belongs the loop over the bytes of a column of texts. The rule is that of `methods.tokens`, which cuts texts in
other scripts by a regular expression of the same meaning and is the only reader of this module. Importing it imports
the compiler; the compiled code is kept beside it.
"""

from __future__ import annotations

import numba
import numpy as np
import polars as pl

SIGNS = ("\n", ".", "```", "\x02", "\x03")
"""The pieces that are no words, by their codes: a sentence end, a point that ends one unless a title stands before it,
a fence, the marks around a link. Words are coded from `len(SIGNS)` on, by their first occurrence."""
_END, _POINT, _FENCE, _LINK, _UNLINK = range(5)

_LETTER, _DOT, _MARK, _CLOSER, _BLANK, _BREAK, _TICK, _QUOTE = range(1, 9)


def _classes() -> np.ndarray:
    """The class of each byte."""
    classes = np.zeros(256, dtype=np.uint8)
    members = {
        _LETTER: b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        _MARK: b"!?",
        _DOT: b".",
        _CLOSER: b'")]}*_',
        _BLANK: b" \t\v\f",
        _BREAK: b"\r\n",
        _TICK: b"`",
        _QUOTE: b"'",
    }
    for kind, signs in members.items():
        classes[np.frombuffer(signs, dtype=np.uint8)] = kind
    return classes


_CLASS = _classes()


@numba.njit(cache=True, nogil=True)
def _grown(table: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The table of twice the size with the same words."""
    bigger = np.full(2 * len(table), -1, dtype=np.int64)
    mask = np.uint64(len(bigger) - 1)
    for slot in table:
        if slot >= 0:
            at = hashes[slot] & mask
            while bigger[at] >= 0:
                at = (at + np.uint64(1)) & mask
            bigger[at] = slot
    return bigger


@numba.njit(cache=True, nogil=True)
def _same(text: np.ndarray, a: int, b: int, length: int) -> bool:
    for i in range(length):  # noqa: SIM110 (the compiler takes loops)
        if text[a + i] != text[b + i]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def cut(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray) -> tuple:
    """The pieces of each text: their codes one after another, how many each text has, where each word first stands.

    ``text`` holds the bytes of all texts, text i from ``offsets[i]`` to ``offsets[i + 1]``. Returns codes (int64),
    lengths (n), starts and sizes of the distinct words in ``text``, and the visible bytes of each text outside fences.
    """
    n = len(offsets) - 1
    codes = np.empty(len(text) + 1, dtype=np.int64)
    lengths, visible = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    room = 1024
    starts, sizes = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    hashes = np.empty(room, dtype=np.uint64)
    table = np.full(4 * room, -1, dtype=np.int64)
    n_words, n_pieces = 0, 0
    for row in range(n):
        i, end = offsets[row], offsets[row + 1]
        before, in_code, seen = n_pieces, False, 0
        while i < end:
            kind = classes[text[i]]
            at = i
            if kind == _LETTER:
                key = np.uint64(14695981039346656037)
                while i < end:
                    byte = text[i]
                    if classes[byte] != _LETTER:
                        joined = classes[byte] == _QUOTE and i + 1 < end and classes[text[i + 1]] == _LETTER
                        if not joined:
                            break
                    key = (key ^ np.uint64(byte)) * np.uint64(1099511628211)
                    i += 1
                key ^= key >> np.uint64(29)
                mask = np.uint64(len(table) - 1)
                slot = key & mask
                while table[slot] >= 0:
                    word = table[slot]
                    if hashes[word] == key and sizes[word] == i - at and _same(text, starts[word], at, i - at):
                        break
                    slot = (slot + np.uint64(1)) & mask
                word = table[slot]
                if word < 0:
                    word = n_words
                    n_words += 1
                    starts[word], sizes[word], hashes[word] = at, i - at, key
                    table[slot] = word
                    if n_words == room:
                        room *= 2
                        starts = np.concatenate((starts, np.empty(room - n_words, dtype=np.int64)))
                        sizes = np.concatenate((sizes, np.empty(room - n_words, dtype=np.int64)))
                        hashes = np.concatenate((hashes, np.empty(room - n_words, dtype=np.uint64)))
                        table = _grown(table, hashes)
                codes[n_pieces] = word + 5
                n_pieces += 1
                if not in_code:
                    seen += i - at
                continue
            if kind == _TICK and i + 2 < end and text[i + 1] == text[i] and text[i + 2] == text[i]:
                codes[n_pieces] = _FENCE
                n_pieces += 1
                in_code = not in_code
                i += 3
                continue
            i += 1
            if kind in (_DOT, _MARK):
                while i < end and classes[text[i]] in (_DOT, _MARK):
                    i += 1
                signs = i
                while i < end and classes[text[i]] in (_CLOSER, _QUOTE):
                    i += 1
                if i == end or classes[text[i]] == _BLANK or classes[text[i]] == _BREAK:
                    several = signs - at > 1 and classes[text[at + 1]] == _DOT
                    broken = i < end and classes[text[i]] == _BREAK
                    codes[n_pieces] = _POINT if kind == _DOT and not several and not broken else _END
                    n_pieces += 1
                if not in_code:
                    seen += i - at
            elif kind == _BREAK:
                codes[n_pieces] = _END
                n_pieces += 1
            elif text[at] == 2 or text[at] == 3:
                codes[n_pieces] = _LINK if text[at] == 2 else _UNLINK
                n_pieces += 1
            elif kind != _BLANK and not in_code:
                seen += 1
        lengths[row] = n_pieces - before
        visible[row] = seen
    return codes[:n_pieces].copy(), lengths, starts[:n_words].copy(), sizes[:n_words].copy(), visible


def cut_texts(texts: pl.Series) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Codes of the pieces, how many each text has, the distinct words, and the visible characters of each text.

    ``texts`` are of ASCII alone, without nulls. A code below ``len(SIGNS)`` is a sign, the others count the words.
    """
    import pyarrow as pa

    column = texts.to_arrow().cast(pa.large_string())
    if column.offset or isinstance(column, pa.ChunkedArray):
        column = pa.array(texts.to_list(), pa.large_string())
    _, places, data = column.buffers()
    offsets = np.frombuffer(places, dtype=np.int64)[: len(texts) + 1]
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    codes, lengths, starts, sizes, visible = cut(text, offsets, _CLASS)
    raw = text.tobytes()
    words = [raw[at : at + size].decode("ascii") for at, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
    return codes, lengths, words, visible
