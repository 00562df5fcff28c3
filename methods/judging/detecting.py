"""BSDetector's questions: what the judge itself would answer to a row, and what it thinks of the row's own answer.

Here belong two questions. ``bsdetector`` has the row's prompt answered several times and asks the judge about the
answer that the row has; ``bsdetector_choice`` has it compare that answer with one of its own, and reads the table of
the first: its parameter ``samples`` names the asset, and is handed that table (`JUDGMENTS_SCHEMA`) when cells are made.
What follows from the readings stands in `methods.quality.bsdetector`.

Of a conversation the last answer is meant, and what stands before it is the prompt.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

import polars as pl

from methods.judging import parsers, prompts, wrapping
from methods.judging.asking import answered_rows, base, cell, noted, object_schema, repeated
from methods.judging.kinds import OK, PARSE_ERROR, TRUNCATED, Answer, Cell, Question, Reading
from methods.quality.reward import question_and_answer
from methods.tokens import unspaced

SAMPLES = "evidence/judgments_bsdetector"
SAMPLE, REFLECTION, VOTE = "sample", "reflection", "vote"
VERDICTS: Mapping[str, float] = {"correct": 1.0, "not sure": 0.5, "wrong": 0.0}
PROMPTS = tuple(f"bsdetector_reflection_{k}.v1" for k in (1, 2, 3))
CHOICE, CHOICE_REFLECTION = "bsdetector_choice.v1", "bsdetector_choice_reflection.v1"
BETTER = ("A", "B", "equal")
_SPEAK = {"system", "user", "assistant"}
_AROUND = " .!,;:\"'`*_“”。！"


# --- a row and its prompt --------------------------------------------------------------------------------------------
def own_answer(row: Mapping[str, Any]) -> str:
    """The answer that the row has."""
    return question_and_answer(row)[1].strip()


def conversation(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What the judge is to answer: the messages before the row's answer, as they are. Where tools speak among them, it
    is one message with the speakers' names."""
    messages = row.get("messages") or []
    last = max((at for at, said in enumerate(messages) if said["role"] == "assistant"), default=len(messages))
    before = [(said["role"], said["content"] or "") for said in messages[:last]]
    roles = {role for role, _ in before}
    if "user" in roles and roles <= _SPEAK:
        return tuple(before)
    return (("user", question_and_answer(row)[0]),)


def folded(text: str) -> str:
    """A text without regard to case, blanks, and marks around the whole of it: two answers are the same if these are.
    What stands inside makes a difference: ``x = -1`` is not ``x = 1``."""
    bare = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(bare.split()).strip(_AROUND) or bare.strip()


# --- bsdetector ------------------------------------------------------------------------------------------------------
def bsdetector_cells(
    rows: pl.DataFrame,
    samples: int = 5,
    reflections: int = 2,
    temperature: float = 1.0,
    sample_tokens: int = 512,
    longest: int = wrapping.LONGEST,
) -> list[Cell]:
    """For each row the samples (``sample``, ``sample~2``, ...), and what the judge is asked about its answer."""
    if not 1 <= reflections <= len(PROMPTS):
        raise ValueError(f"reflections must be from 1 to {len(PROMPTS)}, got {reflections}")
    found = [prompts.load(name) for name in PROMPTS[:reflections]]
    schema = _verdict_schema()
    cells: list[Cell] = []
    for row in answered_rows(rows):
        if not own_answer(row):
            continue
        sample = Cell(row["row_id"], SAMPLE, conversation(row), sample_tokens, temperature)
        cells += repeated([sample], samples)
        cells += [
            cell(prompt, row["row_id"], f"{REFLECTION}:{k}", wrapping.sections(row), longest, schema=schema)
            for k, prompt in enumerate(found, 1)
        ]
    return cells


def bsdetector_read(
    answer: Answer,
    asked: Cell,
    samples: int = 5,
    reflections: int = 2,
    temperature: float = 1.0,
    sample_tokens: int = 512,
    longest: int = wrapping.LONGEST,
) -> Reading:
    """A sample is any text, and has no value; one that ran out of tokens has the field ``cut``. What the judge thinks
    of the row's answer: 1 correct, .5 not sure, 0 wrong."""
    if base(asked.part) == SAMPLE:
        if not sample_text(answer.text):
            return Reading(PARSE_ERROR)
        return Reading(OK, None, {"cut": True} if answer.status == TRUNCATED else {})
    return _verdict(answer, asked)


def sample_text(text: str) -> str:
    """What a sampled answer says, without the thoughts that it may begin with."""
    return parsers.without_thoughts(text).strip()


def _verdict_schema() -> dict[str, Any]:
    return object_schema({"verdict": {"type": "string", "enum": list(VERDICTS)}})


def _verdict(answer: Answer, asked: Cell) -> Reading:
    if answer.status == TRUNCATED:
        return Reading(TRUNCATED)
    read = parsers.json_label(answer.text, "verdict", list(VERDICTS), wrapping.inside(asked))
    if read.status == OK:
        read = Reading(OK, VERDICTS[read.fields["verdict"]], read.fields)
    return noted(asked, read)


# --- bsdetector_choice -----------------------------------------------------------------------------------------------
def candidate(own: str, texts: Sequence[str]) -> str | None:
    """Of some sampled answers the one that has most words in common with the others, the earliest of several; None
    where there is none, or where it says the same as the row's own."""
    if not texts:
        return None
    words = [Counter(_words(text)) for text in texts]
    # Exactly rounded, so that samples of the same words are a tie whatever the order.
    near = [fsum(_overlap(one, other) for at, other in enumerate(words) if at != k) for k, one in enumerate(words)]
    best = texts[max(range(len(texts)), key=lambda k: (near[k], -k))]
    return None if folded(best) == folded(own) else best


def _words(text: str) -> list[str]:
    """The words of a text; where none are parted by blanks, its characters."""
    return [w for word in folded(text).split() for w in (list(word) if any(map(unspaced, word)) else [word])]


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    """F1 of two bags of words."""
    both, total = (one & other).total(), one.total() + other.total()
    return 2 * both / total if total else 0.0


def whole_samples(line: Mapping[str, Any]) -> list[str]:
    """The sampled answers of a line of the first question's table, those aside that have no end or could not be had."""
    columns = (line[name] or () for name in ("parts", "statuses", "fields", "answers"))
    return [
        sample_text(text)
        for part, status, told, text in zip(*columns, strict=True)
        if base(part) == SAMPLE and status == OK and '"cut"' not in told
    ]


def choice_cells(
    rows: pl.DataFrame,
    samples: Any = SAMPLES,
    votes: int = 6,
    temperature: float = 1.0,
    longest: int = 2 * wrapping.LONGEST,
) -> list[Cell]:
    """For each row of which the judge would give another answer: votes on which is better, half of them in each order
    (``vote:B`` where the judge's own is B), and in each order what it thinks of the verdict that its own is better."""
    if votes < 2 or votes % 2:
        raise ValueError(f"votes must be even, so that both orders have as many, got {votes}")
    if not isinstance(samples, pl.DataFrame):
        raise ValueError("samples must be the table of the question bsdetector")
    lines = {line["row_id"]: line for line in samples.iter_rows(named=True)}
    vote, reflection = prompts.load(CHOICE), prompts.load(CHOICE_REFLECTION)
    schema = object_schema({"better": {"type": "string", "enum": list(BETTER)}})
    cells: list[Cell] = []
    for row in answered_rows(rows):
        own, line = own_answer(row), lines.get(row["row_id"])
        new = candidate(own, whole_samples(line)) if own and line else None
        if new is None:
            continue
        for better, other in ("AB", "BA"):
            texts = {better: new, other: own}
            shown = [("request", question_and_answer(row)[0]), *((f"answer {at}", texts[at]) for at in "AB")]
            of_vote = {"schema": schema, "temperature": temperature, "max_tokens": 64}
            asked = cell(vote, row["row_id"], f"{VOTE}:{better}", shown, longest, **of_vote)
            cells += repeated([asked], votes // 2)
            names: dict[str, Any] = {"better": better, "other": other, "schema": _verdict_schema(), "max_tokens": 64}
            cells.append(cell(reflection, row["row_id"], f"{REFLECTION}:{better}", shown, longest, **names))
    return cells


def choice_read(
    answer: Answer,
    asked: Cell,
    samples: Any = SAMPLES,
    votes: int = 6,
    temperature: float = 1.0,
    longest: int = 2 * wrapping.LONGEST,
) -> Reading:
    """A vote: 1 for the judge's own answer, 0 for the row's, .5 for neither. A reflection: as in `bsdetector_read`."""
    name, _, mine = base(asked.part).partition(":")
    if name == REFLECTION:
        return _verdict(answer, asked)
    read = parsers.json_label(answer.text, "better", BETTER, wrapping.inside(asked))
    if read.status == OK:
        said = read.fields["better"]
        read = Reading(OK, 0.5 if said == "equal" else float(said == mine), read.fields)
    return noted(asked, read)


_PAPER = "Chen & Mueller 2023, BSDetector, arXiv 2308.16175"

QUESTIONS = (
    Question(
        id="bsdetector",
        title="BSDetector: would the judge answer the same, and what does it think of the answer",
        prompts=PROMPTS,
        paper=_PAPER,
        meaning="The judge answers the row's prompt itself, several times, and is asked whether the row's own answer "
        "is correct.",
        cells=bsdetector_cells,
        read=bsdetector_read,
        params={
            "samples": 5,
            "reflections": 2,
            "temperature": 1.0,
            "sample_tokens": 512,
            "longest": wrapping.LONGEST,
        },
        from_start=True,
    ),
    Question(
        id="bsdetector_choice",
        title="Auto-correct: which answer is better, the row's or the judge's",
        prompts=(CHOICE, CHOICE_REFLECTION),
        paper="Chen & Mueller 2024, CLEAR, arXiv 2403.12776",
        meaning="Where the judge would answer something else: which of the two answers is better, asked in both "
        "orders, and how sure it is that its own is.",
        cells=choice_cells,
        read=choice_read,
        params={"samples": SAMPLES, "votes": 6, "temperature": 1.0, "longest": 2 * wrapping.LONGEST},
    ),
)
