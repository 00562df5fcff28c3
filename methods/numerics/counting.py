"""Compiled: one pass over the pieces of each text that counts everything at once.

Here belongs the loop alone. What each count means, and what is known of a piece by itself, is said in `methods.text`,
the only reader of this module. Importing it imports the compiler; the compiled code is kept beside it.
"""

from __future__ import annotations

import numba
import numpy as np

# The names stand here and not with their reader: compiled code is kept as long as this file does not change.
TRAITS = (
    "word", "unspaced", "title", "single", "fence", "point", "link", "unlink", "lettered", "capital", "unlisted",
    "unfamiliar", "complex", "off_spache", "spellable", "unspelt",
)  # fmt: skip
"""What may hold of a piece by itself, a bit each, from the lowest."""
(
    WORD, UNSPACED, TITLE, SINGLE, FENCE, POINT, LINK, UNLINK, LETTERED, CAPITAL, UNLISTED,
    UNFAMILIAR, COMPLEX, OFF_SPACHE, SPELLABLE, UNSPELT,
) = (1 << i for i in range(len(TRAITS)))  # fmt: skip

COLUMNS = (
    "n_words", "n_unspaced", "n_prose_words", "n_letter_words", "n_letters", "n_alphanumerics", "n_sentences",
    "n_syllables", "n_monosyllables", "n_polysyllables", "n_long_words", "n_unfamiliar", "n_unlisted", "n_unlisted_2",
    "n_unlisted_3", "n_complex", "n_spache_unfamiliar", "n_first_words", "n_first_polysyllables", "n_first_sentences",
    "n_spellable", "n_misspelt",
)  # fmt: skip
"""What is counted, a column each."""
(
    WORDS, OF_UNSPACED, PROSE_WORDS, LETTER_WORDS, LETTERS, ALPHANUMERICS, SENTENCES,
    SYLLABLES, MONOSYLLABLES, POLYSYLLABLES, LONG_WORDS, OF_UNFAMILIAR, OF_UNLISTED, UNLISTED_2,
    UNLISTED_3, OF_COMPLEX, SPACHE_UNFAMILIAR, FIRST_WORDS, FIRST_POLYSYLLABLES, FIRST_SENTENCES,
    OF_SPELLABLE, MISSPELT,
) = range(len(COLUMNS))  # fmt: skip
N_COUNTS = len(COLUMNS)


@numba.njit(cache=True, nogil=True)
def count(
    pieces: np.ndarray,
    lengths: np.ndarray,
    traits: np.ndarray,
    letters: np.ndarray,
    alphanumerics: np.ndarray,
    syllables: np.ndarray,
    base: np.ndarray,
    card: np.ndarray,
    placed: np.ndarray,
    first: int,
    long: int,
) -> tuple:
    """Counts (n, len(COLUMNS)), and of every word, in order, its number and its card.

    ``pieces`` are the numbers of all pieces, ``lengths`` how many each text has; the arrays after them say what is
    known of a piece by its number (``base``: that of its lower-cased form). ``placed``: the bits of a card for prose,
    for a word that opens a sentence, for a name. ``first``: words of Linsear Write's sample; ``long``: letters of a
    word that is not yet long.
    """
    n = len(lengths)
    found = np.zeros((n, N_COUNTS), dtype=np.int64)
    words = np.empty(len(pieces), dtype=np.int64)
    cards = np.empty(len(pieces), dtype=np.uint32)
    met = np.full(len(base), -1, dtype=np.int64)  # the last text in which an unfamiliar word was met
    start, n_words = 0, 0
    for row in range(n):
        counted = found[row]
        in_code, links, opener, prose_words = False, 0, -1, 0
        sentence = False  # whether the stretch has a word with a letter
        before, earlier = 0, 0  # the traits of the two pieces before
        opener_place = 0
        for i in range(start, start + lengths[row]):
            piece = pieces[i]
            has = traits[piece]
            if has & (LINK | UNLINK):
                links += 1 if has & LINK else -1
                continue
            if not has & WORD:
                abbreviated = before & TITLE or (before & SINGLE and earlier & SINGLE)
                if has & FENCE:
                    in_code = not in_code
                if not (has & POINT and abbreviated):
                    opener, sentence = -1, False
                before, earlier = has, before
                continue
            before, earlier = has, before
            words[n_words], cards[n_words] = piece, card[piece]
            counted[WORDS] += 1
            if not in_code:
                opens = opener < 0
                if opens:
                    opener, opener_place = n_words, prose_words
                name = has & CAPITAL and not opens
                spoken, lettered = syllables[piece], has & LETTERED
                if lettered and not sentence:
                    sentence = True
                    cards[opener] |= placed[1]
                    counted[SENTENCES] += 1
                    counted[FIRST_SENTENCES] += opener_place < first
                cards[n_words] |= placed[0]
                if name:
                    cards[n_words] |= placed[2]
                early = prose_words < first
                prose_words += 1
                counted[PROSE_WORDS] += 1
                counted[OF_UNSPACED] += 1 if has & UNSPACED else 0
                counted[LETTER_WORDS] += 1 if lettered else 0
                counted[LETTERS] += letters[piece]
                counted[ALPHANUMERICS] += alphanumerics[piece]
                counted[SYLLABLES] += spoken
                counted[MONOSYLLABLES] += spoken == 1
                counted[POLYSYLLABLES] += spoken >= 3
                counted[LONG_WORDS] += letters[piece] > long
                counted[FIRST_WORDS] += early
                counted[FIRST_POLYSYLLABLES] += early and spoken >= 3
                if has & UNLISTED:
                    counted[OF_UNLISTED] += 1
                    counted[UNLISTED_2] += spoken >= 2
                    counted[UNLISTED_3] += spoken >= 3
                if not name:
                    counted[OF_UNFAMILIAR] += 1 if has & UNFAMILIAR else 0
                    counted[OF_COMPLEX] += 1 if has & COMPLEX else 0
                    if has & OFF_SPACHE and met[base[piece]] != row:
                        met[base[piece]] = row
                        counted[SPACHE_UNFAMILIAR] += 1
                    if has & SPELLABLE and links <= 0:
                        counted[OF_SPELLABLE] += 1
                        counted[MISSPELT] += 1 if has & UNSPELT else 0
            n_words += 1
        start += lengths[row]
    return found, words[:n_words].copy(), cards[:n_words].copy()
