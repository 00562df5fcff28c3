"""One row of the demo corpus, and the ways to damage it: the defects that the demo plants.

Here belong the `Row` that the generator moves about and one function for each defect, from a sound row to a damaged
one. Which rows are damaged, and where they end up, is decided in `make_corpus`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from random import Random

Turn = tuple[str, str]
KINDS = (
    "exact_duplicate",
    "near_duplicate",
    "mismatched_answer",
    "truncated_response",
    "empty_response",
    "refusal",
    "word_salad",
    "wrong_language",
    "leaked_test_item",
    "malformed",
)


@dataclass(frozen=True, eq=False)
class Row:
    """One row to be written. ``kind`` is empty for a sound row; ``twin`` is the row that a duplicate repeats."""

    source: str
    turns: tuple[Turn, ...]
    """Pairs of role (``system``, ``user``, ``assistant``) and content."""
    topic: str = ""
    language: str = "en"
    input: str = ""
    kind: str = ""
    note: str = ""
    twin: Row | None = None
    malformed: str = ""
    """The line or record to be written instead, for a row of kind ``malformed``."""

    @property
    def prompt(self) -> str:
        """The first user turn, with its input."""
        first = next((content for role, content in self.turns if role == "user"), "")
        return f"{first}\n{self.input}" if self.input else first

    @property
    def response(self) -> str:
        """All assistant turns."""
        return "\n\n".join(content for role, content in self.turns if role == "assistant")

    @property
    def text(self) -> str:
        """All that is said, without the roles."""
        return "\n".join((*(content for _, content in self.turns), self.input))


def shingles(text: str, n: int = 3) -> frozenset[tuple[str, ...]]:
    """The set of runs of n words, in lower case; a text shorter than that is one run."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1)))


def jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """Size of the intersection over size of the union."""
    return len(a & b) / len(a | b)


def answered(row: Row, answer: str, kind: str, note: str, **changes: object) -> Row:
    """The row with another (only) answer, marked as planted."""
    turns = (*(turn for turn in row.turns if turn[0] != "assistant"), ("assistant", answer))
    return replace(row, turns=turns, kind=kind, note=note, **changes)  # type: ignore[arg-type]


def mismatched(rows: list[Row]) -> list[Row]:
    """Hands each row the answer of the next one in its own source, so that each answer still occurs once."""
    planted = []
    for i, row in enumerate(rows):
        other = rows[(i + 1) % len(rows)]
        note = f"carries the answer to: {other.prompt[:80]}"
        planted.append(answered(row, other.response, "mismatched_answer", note))
    return planted


def truncated(rng: Random, row: Row) -> Row:
    """Cuts the answer at 35 to 70 percent of its words, never where a sentence ends, and sometimes within a word."""
    words = row.response.split(" ")
    at = int(len(words) * rng.uniform(0.35, 0.7))
    while words[at - 1][-1] in ".!?:;,\")'" or len(words[at - 1]) < 4:
        at -= 1
    cut = " ".join(words[:at])
    inside = rng.random() < 0.4
    cut = cut[:-2] if inside else cut
    return answered(row, cut, "truncated_response", f"cut {'within a word' if inside else 'after a word'}")


def salad(rng: Random, row: Row, words: list[str], form: str) -> Row:
    """A meaningless answer: words in random order, letters struck at random, or one phrase over and over."""
    if form == "shuffled words":
        answer = " ".join(rng.sample(words, rng.randint(35, 60))).capitalize() + "."
    elif form == "random letters":
        letters = "asdfghjklqwertyuiopzxcvbnm"
        answer = " ".join("".join(rng.choices(letters, k=rng.randint(3, 10))) for _ in range(rng.randint(25, 40))) + "."
    else:
        answer = " ".join([f"{' '.join(rng.sample(words, 3))} and"] * rng.randint(12, 18)) + " so on."
    return answered(row, answer, "word_salad", form)


SWAPS = {
    "because": "since",
    "which": "that",
    "large": "big",
    "small": "little",
    "quickly": "fast",
    "begin": "start",
    "start": "begin",
    "most": "many",
    "keep": "hold",
    "also": "too",
    "often": "frequently",
    "use": "take",
    "makes": "renders",
    "about": "around",
    "until": "till",
    "while": "whereas",
    "gives": "yields",
    "people": "persons",
    "shows": "reveals",
    "need": "require",
    "needs": "requires",
    "far": "much",
    "many": "numerous",
    "whole": "entire",
    "between": "amid",
    "cannot": "can not",
    "still": "yet",
}


def near(rng: Random, row: Row, source: str) -> Row | None:
    """The row with two or three words swapped for others of like meaning, or None if it does not stay close enough."""
    words = row.response.split(" ")
    places = [i for i, word in enumerate(words) if word in SWAPS]
    if len(places) < 2:
        return None
    swapped = sorted(rng.sample(places, min(len(places), rng.randint(2, 3))))
    note = "changed: " + ", ".join(f"{words[i]} -> {SWAPS[words[i]]}" for i in swapped)
    for i in swapped:
        words[i] = SWAPS[words[i]]
    near = answered(row, " ".join(words), "near_duplicate", note, source=source, twin=row)
    return near if 0.75 <= jaccard(shingles(near.text), shingles(row.text)) < 0.98 else None


def malformed() -> list[Row]:
    """Three records that no reader can take, each for another reason."""
    broken = '{"instruction": "Name a bird that cannot fly.", "input": "", "output": "The ostrich cannot fly'
    loose = json.dumps({"headline": "Town fair moved to Sunday", "body": "Rain is expected.", "pages": 2})
    typed = json.dumps(
        {"id": "dlg-bad", "conversations": [{"from": "human", "value": 12}, {"from": "gpt", "value": None}]}
    )
    return [
        Row(
            "handbook",
            (),
            kind="malformed",
            note="broken JSON line: string and object are never closed",
            malformed=broken,
        ),
        Row(
            "late_arrivals", (), kind="malformed", note="fits no layout: a news item without any turn", malformed=loose
        ),
        Row(
            "dialogues", (), kind="malformed", note="bad types: the values of the turns are no strings", malformed=typed
        ),
    ]
