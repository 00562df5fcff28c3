"""The card of 32 bits that each counted word carries, so that its text need not be read again.

Here belongs the layout of a card and how one is read. `methods.text` writes the cards (`{field}_marks` of
`evidence/text_counts`, one beside each word); `methods.quality.readability` reads them. The lower bits tell of the
word by itself, the upper ones of its place in the text.

========  ==================================================================================================
bits      what they hold
========  ==================================================================================================
0-4       letters of the word, at most 31
5-7       syllables, at most 7
8-10      part of speech, by its place in `methods.parts_of_speech.POS`
11        content word: noun, verb, adjective or adverb, and no auxiliary or connective
12        familiar: on the Dale-Chall list, or an inflection of a word on it
13        connective
14-20     frequency on Zipf's scale, in tenths; 0 for a word that the frequency list does not hold
21-22     2 among the thousand most frequent words, 1 among the three thousand, else 0
24        prose: the word stands outside code fences
25        the word opens a sentence of the prose
26        a capital inside a sentence: probably a name
========  ==================================================================================================
"""

from __future__ import annotations

import numpy as np

FIELDS: dict[str, tuple[int, int]] = {
    "letters": (0, 5),
    "syllables": (5, 3),
    "pos": (8, 3),
    "content": (11, 1),
    "familiar": (12, 1),
    "connective": (13, 1),
    "zipf": (14, 7),
    "rank": (21, 2),
    "prose": (24, 1),
    "opens": (25, 1),
    "name": (26, 1),
}
"""First bit and number of bits of each field."""


def pack(**values: int) -> int:
    """A card with these fields; a value that is too large for its bits is held as the largest that fits."""
    card = 0
    for name, value in values.items():
        first, width = FIELDS[name]
        most = (1 << width) - 1
        card |= (value if value < most else most) << first
    return card


def read(cards: np.ndarray, name: str) -> np.ndarray:
    """One field of each card: bool where it has one bit, else int64."""
    first, width = FIELDS[name]
    bits = (cards >> np.uint32(first)) & np.uint32((1 << width) - 1)
    return bits.astype(np.bool_) if width == 1 else bits.astype(np.int64)


PLACED = np.array([1 << FIELDS[name][0] for name in ("prose", "opens", "name")], dtype=np.uint32)
"""The bits that a word's place in the text sets."""
