"""The list of every question to a judge, and how to find one by its id.

Here belongs the tuple, put together from those at the end of the modules. A question of one's own is a prompt file and
an entry in one of them.
"""

from __future__ import annotations

from difflib import get_close_matches

from methods.judging import detecting, evolved, labels, scores, tagging
from methods.judging.kinds import Question

QUESTIONS: tuple[Question, ...] = (
    *scores.QUESTIONS,
    *labels.QUESTIONS,
    *evolved.QUESTIONS,
    *tagging.QUESTIONS,
    *detecting.QUESTIONS,
)

ASSET = "evidence/judgments_"


class UnknownQuestion(KeyError):
    """There is no question of this id."""

    def __str__(self) -> str:
        """The sentence itself, without the quotation marks of a key."""
        return str(self.args[0])


def question(question_id: str) -> Question:
    """The question of this id."""
    ids = [one.id for one in QUESTIONS]
    if question_id in ids:
        return QUESTIONS[ids.index(question_id)]
    near = get_close_matches(question_id, ids, n=3) or ids
    raise UnknownQuestion(f"there is no question {question_id!r}; there is {', '.join(near)}")


def reads_from(asked: Question) -> dict[str, str]:
    """The questions whose tables this one reads, by the parameter that is handed the table."""
    named = {name: value for name, value in asked.params.items() if isinstance(value, str)}
    return {name: value.removeprefix(ASSET) for name, value in named.items() if value.startswith(ASSET)}
