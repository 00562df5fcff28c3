"""Which language a text is in, offline and fast.

Here belongs the identifier alone; whether a language is wanted is a rule's question (`rules`). The model is that of
py3langid (a naive Bayes model over byte n-grams, Lui and Baldwin 2012, "langid.py", retrained; it comes inside the
wheel), chosen because its normalised probability can be trusted: of the short or mixed texts that it gets wrong nearly
all stay below `LEAST`, where faster identifiers are wrong at a probability of .9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

UNKNOWN = "und"
LEAST = 0.5
"""Below this probability a text is `und`."""
SURE = 0.9
"""From this probability on the first `GLANCE` characters decide alone."""
GLANCE = 100
MOST = 600
"""No more than this many characters are read."""
LEAST_LETTERS = 4
"""Fewer letters than this are `und`, except in the scripts of `_SCRIPTS`."""

_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|https?://\S+", re.DOTALL)
_LETTERS = re.compile(r"[^\W\d_]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_KANA = re.compile(r"[\u3040-\u30ff\uff66-\uff9d]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_HANGUL = re.compile(r"[\uac00-\ud7af\u1100-\u11ff]")
_ALIAS = {"zxx": UNKNOWN, "nb": "no", "nn": "no"}


def identify(texts: Sequence[str | None]) -> list[tuple[str, float]]:
    """For each text its ISO 639-1 code and the probability of it, or ``("und", p)`` where that is below `LEAST`.

    Code in backquotes and addresses are taken out first. Two shortcuts: a text with at least a third of its letters
    in Hangul is Korean; one with at least a third of Chinese characters or kana is Japanese if a twentieth of
    those are kana, else Chinese (so Japanese without any kana is taken for Chinese, and the Chinese languages are
    one). Their probability is the share of those letters. Everything else is asked of the model: first with
    `GLANCE` characters, and with up to `MOST` if that leaves a doubt.
    """
    return [_identify(text or "") for text in texts]


def _identify(text: str) -> tuple[str, float]:
    plain = text[: 4 * MOST]
    if "`" in plain or "http" in plain:
        plain = _CODE.sub(" ", plain)
    plain = plain[:MOST].strip()
    if _NOT_ASCII.search(plain):
        known = _script(plain[:GLANCE]) or _script(plain)
        if known:
            return known
    if len(plain) < GLANCE and len(_LETTERS.findall(plain[:GLANCE])) < LEAST_LETTERS:
        return UNKNOWN, 0.0
    found, sure = _model().classify(plain[:GLANCE])
    if sure < SURE and len(plain) > GLANCE:
        found, sure = _model().classify(plain)
    found = _ALIAS.get(found, found)
    return (found if sure >= LEAST else UNKNOWN), float(sure)


def _script(text: str) -> tuple[str, float] | None:
    """The language that the script alone tells, and the share of its letters."""
    kana, han, hangul = (len(pattern.findall(text)) for pattern in (_KANA, _HAN, _HANGUL))
    if not kana + han + hangul:
        return None
    letters = len(_LETTERS.findall(text)) or 1
    if 3 * hangul >= letters:
        return "ko", hangul / letters
    # A Latin word has several letters where a Chinese one has one or two: a third of the letters is most of the text.
    if 3 * (kana + han) >= letters:
        share = min((kana + han) / letters, 1.0)
        return ("ja" if 20 * kana >= kana + han else "zh"), share
    return None


@lru_cache(maxsize=1)
def _model() -> Any:
    """The model, loaded once a process; restricted to languages with a two-letter code and to 'no language'."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages([code for code in model.labels if len(code) == 2 or code == "zxx"])
    return model
