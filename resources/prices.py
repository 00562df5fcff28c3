"""What a judge's tokens cost, and how many a request will be: said before anything is spent.

Here belong the table of prices (``prices.yaml``, a home's own before it) and the guess of tokens, which goes by what
was counted for earlier answers as soon as there are some.
"""

import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from methods.judging.kinds import Cell
from resources.answers import Used
from resources.judge_calls import is_local

OWN = "prices.yaml"
COMPLETION_TOKENS = 120.0
"""What an answer is taken to be long before any was counted ..."""
SECONDS_A_CALL = 2.0
"""... and to take."""
ENOUGH = 10
"""Answers to go by."""
_PER = 1e6
_SNAPSHOT = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{4})?")
"""Behind a model's name: the date of a version."""
_PIECES = re.compile(r"[^\W\d_]+|\d{1,3}|\s+(?=\s)|[^\w\s]|_")
_LETTERS_A_TOKEN = 6.5
_WIDE = "\u2e80"
"""Where the scripts of East Asia begin."""
_MESSAGE_TOKENS, _REQUEST_TOKENS = 4, 3
"""Tokens that chat formats put around a message and at the end."""


@dataclass(frozen=True)
class Price:
    """Of a million tokens."""

    input: float
    output: float
    batch: float = 1.0
    """The share of the price that a batch costs."""

    def of(self, prompt_tokens: float, completion_tokens: float, batch: bool = False) -> float:
        """What a call costs."""
        whole = (prompt_tokens * self.input + completion_tokens * self.output) / _PER
        return whole * (self.batch if batch else 1.0)


class PriceError(ValueError):
    """A price table that cannot be read; the message names the file and the entry."""


def price_of(model: str, url: str, home: Path | None = None) -> Price | None:
    """The price of a model, or of a dated version of it, by the home's table first, then by the program's; nothing for
    a judge on this machine that is in neither."""
    shipped = Path(__file__).with_name(OWN)
    own = home / OWN if home is not None else None
    for path in (own, shipped):
        if path is None or not path.is_file():
            continue
        table = _table(path)
        if names := [name for name in table if model.startswith(name) and _SNAPSHOT.fullmatch(model[len(name) :])]:
            return table[max(names, key=len)]
    if is_local(url) or model.startswith(("fake", "local:")):
        return Price(0.0, 0.0)
    return None


def _table(path: Path) -> dict[str, Price]:
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PriceError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(said, dict):
        raise PriceError(f"{path}: give `model: {{input: ..., output: ...}}`, one a line")
    return {str(name): _price(entry, f"{path}: {name}") for name, entry in said.items()}


def _price(entry: Any, where: str) -> Price:
    if (
        not isinstance(entry, dict)
        or not {"input", "output"} <= set(entry)
        or set(entry) - {"input", "output", "batch"}
    ):
        raise PriceError(f"{where}: give input and output, in dollars for a million tokens, and perhaps batch")
    for name, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise PriceError(f"{where}: {name} is {value!r}; give a number from 0")
    return Price(**{name: float(value) for name, value in entry.items()})


def tokens_of(text: str) -> float:
    """About how many tokens a text is: a token for each sign, each three digits, each 6.5 letters of a word begun; of
    other alphabets 0.3 for each byte, and 1.2 for each letter of Chinese, Japanese and Korean.

    Vocabularies differ, most of all beyond English: a guess for as long as nothing was counted (`guess`).
    """
    total = 0.0
    for piece in _PIECES.findall(text):
        if piece.isascii():
            total += math.ceil(len(piece) / _LETTERS_A_TOKEN) if piece[0].isalpha() else 1.0
        else:
            wide = sum(sign >= _WIDE for sign in piece)
            total += max(1.0, 1.2 * wide + 0.3 * (len(piece.encode("utf-8", "replace")) - 3 * wide))
    return total


def prompt_tokens(cell: Cell) -> float:
    """About how many tokens a request is."""
    around = _REQUEST_TOKENS + tokens_of(_said(cell.schema))
    return around + sum(_MESSAGE_TOKENS + tokens_of(content) for _, content in cell.messages)


def most_tokens(cell: Cell) -> int:
    """More tokens than a request can be: no token is shorter than a byte, and what a chat format puts around messages
    (a system prompt of its own where there is none) has its room."""
    return 128 + len(_said(cell.schema).encode()) + sum(16 + len(content.encode()) for _, content in cell.messages)


def _said(schema: Any) -> str:
    return "" if schema is None else json.dumps(dict(schema), ensure_ascii=False)


# ---- what was counted before ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guess:
    """How long requests and answers are, by what was counted before."""

    ratio: float = 1.0
    """Prompt tokens to those that are guessed by the texts."""
    completion: float = COMPLETION_TOKENS
    seconds: float = SECONDS_A_CALL
    counted: int = 0
    """Answers that it goes by."""

    def prompt(self, cell: Cell) -> float:
        """Tokens of the request."""
        return self.ratio * prompt_tokens(cell)

    def answer(self, cell: Cell) -> float:
        """Tokens of the answer."""
        return min(self.completion, float(cell.max_tokens))


def guess(usage: Sequence[Used], cells: Collection[str]) -> Guess:
    """By the answers to these cells (their keys) where there are enough of them, else by all answers to the question:
    other data are another language, perhaps."""
    here = [used for used in usage if used.key in cells]
    by = here if len(here) >= ENOUGH else usage
    texts = math.fsum(used.guessed for used in by)
    if not texts:
        return Guess()
    return Guess(
        sum(used.prompt_tokens for used in by) / texts,
        sum(used.completion_tokens for used in by) / len(by),
        median(used.seconds for used in by),
        len(by),
    )
