"""What a judge's answer says: strict readers that never raise and never guess.

Here belongs reading texts; what is asked stands in the questions, what a value means with the indicators. Each reader
gives a `Reading`: ``ok`` with a value inside the range, ``refused`` where the judge says that it will not, else
``parse_error``. A number outside the range is a ``parse_error`` and never clipped, and so is whatever can be read in
two ways: ``3-4``, ``4,5``, ``4 5``, ``8/10`` where five is the most, two scores that differ, number words.

What is taken for granted around a number: blanks, emphasis, brackets, quotation marks, a tag around the whole, a full
stop, ``/5`` and ``out of 5`` where 5 is the most, digits of other scripts. A closed ``<think>`` part at the beginning
of an answer is passed over.

An answer may repeat the row, and a row may hold ``Score: 5``: where readers are given the row's ``material`` (see
`wrapping.inside`), a score whose lines stand in it word for word is a ``parse_error``. So is an answer that repeats
the fences.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from methods.judging.kinds import OK, PARSE_ERROR, REFUSED, Reading

LONGEST = 200_000
"""Answers longer than this are not read."""
_LINE = 1_000
_UNREAD = Reading(PARSE_ERROR)
_FENCE = re.compile(r"^\s*<<<[0-9a-f]{16} \|", re.MULTILINE)


# --- numbers ---------------------------------------------------------------------------------------------------------
_SIGNS = str.maketrans("．：／－−＊＿＃｀＋（）［］，٫", ".:/--*_#`+()[],.")
_NUMBER = r"[+-]?(?:0|[1-9]\d{0,3})(?:\.\d{1,6})?"
_TAIL = re.compile(rf"\s*(?:(?:/|out of)\s*(?P<most>{_NUMBER}))?\s*(?:points?|stars?)?\s*\.?", re.IGNORECASE)


def plain_digits(text: str) -> str:
    """Decimal digits of every script, and full-width signs, as ASCII has them."""
    if text.isascii():
        return text
    text = text.translate(_SIGNS)
    return "".join(str(unicodedata.decimal(one, one)) if one.isdecimal() else one for one in text)


def number(text: str, low: float, high: float, whole: bool = False) -> float | None:
    """The number that a text is, and nothing else; None unless it stands in the closed range."""
    bare = _undecorated(plain_digits(text))
    found = re.match(_NUMBER, bare)
    tail = _TAIL.fullmatch(bare, found.end()) if found else None
    if not found or not tail or (tail["most"] and float(tail["most"]) != high):
        return None
    return _within(float(found[0]), low, high, whole)


def _within(value: Any, low: float, high: float, whole: bool = False) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    return None if whole and value != int(value) else float(value) + 0.0  # -0.0 is 0.0


_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "“": "”", "「": "」"}


def _undecorated(line: str) -> str:
    """A line without emphasis, a tag or brackets around the whole of it."""
    line = re.sub(r"[*_`#\s\u200e\u200f\ufeff]+", " ", line).strip()
    while 0 < len(line) <= _LINE:  # nobody sets a longer one in brackets, and peeling it takes long
        tag = re.fullmatch(r"<(\w{1,20})>(.*)</\1>", line, re.DOTALL)
        if tag:
            line = tag[2].strip()
        elif len(line) > 1 and _PAIRS.get(line[0]) == line[-1]:
            line = line[1:-1].strip()
        else:
            break
    return line


# --- a score by itself -----------------------------------------------------------------------------------------------
_LABEL = re.compile(
    r"(?:(?:the|my|an?|overall|final|total)\s+){0,3}(?:(?P<named>\w{1,30})\s+)?(?:score|rating)\s*"
    r"(?::|=|\bis\b\s*:?|[-–—](?=\s)|(?<=\s)(?=\d))\s*",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"(?:[.;:,]\s|\s?[-–—]\s|\s(?=\(|because\b|since\b|as\b|for\b))\s*(?P<said>.*)", re.DOTALL | re.IGNORECASE
)
"""How a sentence may follow a labelled score."""
_MORE = re.compile(r"[\s,&+~/–—-]*(?:to|or|and|point|plus|minus|half|bis|oder|und|ou|y)\b", re.IGNORECASE)
"""How it may not: the number would go on."""
_OF = re.compile(rf"(?:/|\bout of|\bof)\s*(?P<most>{_NUMBER})", re.IGNORECASE)
_REMARK = re.compile(r"\s*\([^()\d]*\)\.?")


def first_line_score(text: str, low: float, high: float, whole: bool = False, material: str = "") -> Reading:
    """The score that an answer begins with: its first line is the number, or ``Score: `` and the number.

    Behind a bare number nothing may follow on its line but a remark in brackets; behind a labelled one a sentence may.
    """
    lines = _lines(text)
    if not lines:
        return _unread(text)
    value = _of_line(lines[0], low, high, whole)
    if len(lines) > 1 and _LABEL.fullmatch(_undecorated(lines[0]).rstrip(": ") + ":"):
        value = _bare(lines[1], low, high, whole)
    elif len(lines) > 1 and _bare(lines[1], low, high, whole) not in (None, value):
        value = None  # two scores, one below the other
    if value is None:
        return _unread(text)
    return _UNREAD if copied("\n".join(lines[:2]), material) else Reading(OK, value)


def last_line_score(text: str, low: float, high: float, whole: bool = True, material: str = "") -> Reading:
    """The score that an answer ends with: its last line is ``Score: `` and the number, and nothing else."""
    lines = _lines(text)
    line = _undecorated(plain_digits(lines[-1])) if lines else ""
    label = _LABEL.match(line)
    value = number(line[label.end() :], low, high, whole) if label else None
    if value is None:
        return _unread(text)
    return _UNREAD if copied("\n".join(lines[-2:]), material) else Reading(OK, value)


def _of_line(line: str, low: float, high: float, whole: bool) -> float | None:
    bare = _undecorated(plain_digits(line))
    label = _LABEL.match(bare)
    if not label:
        return _bare(line, low, high, whole)
    rest = bare[label.end() :].lstrip("[(\"'")
    found = re.match(_NUMBER, rest)
    if not found:
        return None
    exact = number(rest.rstrip("])\"'"), low, high, whole)
    if exact is not None:
        return exact
    tail = _TAIL.match(rest, found.end())
    most = tail["most"] if tail else None
    end = tail.end() if tail and most else found.end()
    after = _AFTER.fullmatch(rest, end)
    if (most and float(most) != high) or not after or _goes_on(after["said"], high):
        return None
    return _within(float(found[0]), low, high, whole)


def _goes_on(said: str, high: float) -> bool:
    """Whether what follows a number changes it: a second number, another scale, another score."""
    of = _OF.search(said[:24])
    return (
        said[:1].isnumeric()
        or bool(_MORE.match(said) or _LABEL.search(said))
        or (of is not None and float(of["most"]) != high)
    )


def _bare(line: str, low: float, high: float, whole: bool) -> float | None:
    bare = _undecorated(plain_digits(line))
    exact = number(bare, low, high, whole)
    if exact is not None:
        return exact
    found = re.match(_NUMBER, bare)
    remark = _REMARK.fullmatch(bare, found.end()) if found else None
    return _within(float(found[0]), low, high, whole) if found and remark else None


def _lines(text: str) -> list[str]:
    """The lines that say something, without a closed part of thoughts at the beginning."""
    if len(text) > LONGEST or _FENCE.search(text):
        return []
    return [line for line in without_thoughts(text).splitlines() if any(one.isalnum() for one in line)]


def without_thoughts(text: str) -> str:
    """An answer without the thoughts that it begins with; with nothing where they never end."""
    bare = text.lstrip()
    if not bare.lower().startswith("<think>"):
        return text
    end = bare.lower().find("</think>")
    return bare[end + len("</think>") :] if end >= 0 else ""


def copied(said: str, material: str, signs: bool = False) -> bool:
    """Whether what a score is read from stands in the row itself, blanks aside (and other signs, unless ``signs``).

    Under eight letters nothing is called a copy.
    """
    skipped = r"\s+" if signs else r"[\W_]+"
    bare = re.sub(skipped, "", said).casefold()
    return len(bare) >= 8 and bare in re.sub(skipped, "", material).casefold()


def _unread(text: str) -> Reading:
    return Reading(REFUSED) if refused(text) else _UNREAD


# --- JSON ------------------------------------------------------------------------------------------------------------
class _Broken(ValueError):
    """JSON that says a thing twice, or what is no number."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {key.strip().casefold(): value for key, value in pairs}
    if len(found) < len(pairs):
        raise _Broken
    return found


def _no_constant(_: str) -> Any:
    raise _Broken


_decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, strict=False)
_BEGINS: Mapping[type, re.Pattern[str]] = {dict: re.compile(r'\{\s*["}]'), list: re.compile(r'\[\s*["{\[\]\d-]')}
_PARTS = 16
"""Values in one answer that are looked at."""


def json_value(text: str, kind: type, material: str = "") -> Any | None:
    """The one JSON object (``kind=dict``) or array (``list``) in an answer, whatever stands around it; else None.

    Keys come in lower case. None, too, where a key stands twice, where two values differ, or where the first that
    begins does not end well. Nothing is mended: a comma before a closing bracket makes it no JSON.
    """
    text = without_thoughts(text)
    begins, at = _BEGINS[kind], 0
    found: list[Any] = []
    if len(text) > LONGEST or _FENCE.search(text):
        return None
    while next_one := begins.search(text, at):
        try:
            value, at = _decoder.raw_decode(text, next_one.start())
        except (ValueError, RecursionError):
            return None
        repeated = copied(text[next_one.start() : at], material, signs=True)
        if repeated or not _writable(value) or len(found) == _PARTS:
            return None
        found.append(value)
    return found[0] if found and all(_same(value, found[0]) for value in found[1:]) else None


def _writable(value: Any) -> bool:
    """Whether no half of a character is in it: such texts cannot be stored."""
    try:
        return bool(json.dumps(value, ensure_ascii=False).encode())
    except (UnicodeEncodeError, RecursionError):
        return False


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def json_scores(
    text: str, names: Sequence[str], low: float, high: float, whole: bool = False, material: str = ""
) -> Reading:
    """An object with a score under each of these names: the scores are the fields, there is no value.

    A score is a number or a text that is one. One that is missing or out of range makes the whole a ``parse_error``.
    """
    found = json_value(text, dict, material)
    if found is None:
        return _unread(text)
    scores: dict[str, Any] = {}
    for name in names:
        said = found.get(name.casefold())
        value = number(said, low, high, whole) if isinstance(said, str) else _within(said, low, high, whole)
        if value is None:
            return _unread(text)
        scores[name] = value
    return Reading(OK, None, scores)


def json_texts(text: str, name: str, least: int, most: int, material: str = "") -> Reading:
    """A list of texts under a name, or by itself: the field of that name. Empty ones and repetitions do not count."""
    found = json_value(text, dict, material)
    if found is None and not _BEGINS[dict].search(text):  # else a list would be taken out of a broken object
        found = {name.casefold(): json_value(text, list, material)}
    said = found.get(name.casefold()) if found is not None else None
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        return _unread(text)
    texts = list(dict.fromkeys(one.strip() for one in said if one.strip()))
    return Reading(OK, None, {name: texts}) if least <= len(texts) <= most else _UNREAD


def json_label(text: str, name: str, labels: Sequence[str], material: str = "") -> Reading:
    """One of some labels under a name, or as the whole first line: the field of that name, and its place from 1."""
    found = json_value(text, dict, material)
    lines = _lines(text)
    said = found.get(name.casefold()) if found is not None else (lines[0] if len(lines) == 1 else None)
    known = {_folded(label): label for label in labels}
    label = known.get(_folded(said)) if isinstance(said, str) else None
    return _unread(text) if label is None else Reading(OK, float(1 + list(labels).index(label)), {name: label})


def _folded(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", _undecorated(label).rstrip(".")).strip().casefold()


# --- chances ---------------------------------------------------------------------------------------------------------
def expected_score(logits: Mapping[str, float], scores: Mapping[str, float]) -> float | None:
    """Sum of k P(k), P being the softmax over those of the score words that there is a number for; None for none.

    Six words with (0, 0, 0, 0, ln 2, ln 2) and the scores 1 to 6 give 4.
    """
    known = {word: float(logits[word]) for word in scores if word in logits and not math.isnan(logits[word])}
    top = max(known.values(), default=-math.inf)
    if not math.isfinite(top):
        return None
    weights = {word: math.exp(value - top) for word, value in known.items()}
    mean = sum(scores[word] * weight for word, weight in weights.items()) / sum(weights.values())
    return min(max(mean, min(scores.values())), max(scores.values()))  # against the rounding of a mean, no more


# --- refusals --------------------------------------------------------------------------------------------------------
_REFUSALS = (
    r"(?:i'?m|i am|we are|we're)\b[^.\n]{0,40}?\b(?:sorry|unable|not able)",
    r"(?:i|we) (?:can ?not|can't|could not|couldn't|won't|will not|(?:must )?(?:decline|refuse)|apologi[sz]e)",
    r"sorry,? but|my apologies|apologies|as an? (?:ai|language model)\b|this (?:content|request) (?:violates|cannot)",
    r"(?:es )?tut mir (?:sehr )?leid|leider kann ich|ich kann (?:\w+ ){0,3}nicht\b|(?:je suis )?désolée?\b",
    r"je ne (?:peux|puis) pas|lo siento|no puedo\b|lamento\b|desculpe|sinto muito|(?:eu )?não posso|mi dispiace",
    r"(?:purtroppo )?non posso|het spijt me|ik kan (?:\w+ ){0,3}niet\b|tyvärr|jag kan inte|beklager|jeg kan ikke",
    r"przepraszam|przykro mi|nie mogę|omlouvám se|bohužel|sajnálom|îmi pare rău|valitettavasti|üzgünüm|maalesef",
    r"извините|простите|к сожалению|я не могу|вибачте|на жаль|я не можу|λυπάμαι|συγγνώμη|xin lỗi|tôi không thể",
    r"maaf|saya tidak (?:bisa|dapat)|ขออภัย|ขอโทษ|很?抱歉|非常抱歉|对不起|對不起|我(?:不能|无法|無法|不可以)",
    r"作为一?个?(?:ai|人工智能)|申し訳|すみません|お答えできません|죄송|미안|عذر|أعتذر|آسف|لا أستطيع|لا يمكنني|متأسف",
    r"סליחה|אני מצטער|אינני יכול|क्षमा|मुझे खेद|माफ",
)
_REFUSAL = re.compile(
    rf"(?:(?:oh|well|hello|hi|sorry|unfortunately)[,.!:]?\s+)*(?:{'|'.join(_REFUSALS)})", re.IGNORECASE
)


def refused(text: str) -> bool:
    """Whether an answer begins as refusals do, in one of some thirty languages: phrases, no understanding.

    Asked only of answers that no score was found in.
    """
    head = without_thoughts(text[:4000]).strip()[:200].replace("’", "'").lstrip("*_#>\"'“ ¡¿")
    return bool(_REFUSAL.match(unicodedata.normalize("NFC", head)))
