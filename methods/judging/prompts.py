"""The files that hold what a judge is told: found by name, filled in, and hashed.

Here belongs reading a prompt file and putting values in its places. Its words stand in ``prompts/NAME.md`` beside this
module or in ``HOME/prompts/NAME.md``, which comes first; how text of a row is made safe is `wrapping`.

A file has two parts with a line of three dashes between them: what the judge is told to be (the system message), and
what it is asked (the user message). Places are written ``{{name}}``. A prompt is changed by a file with a new name
(``rubric.v2``), so that the name says what was asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent / "prompts"
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PLACE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
_DASHES = re.compile(r"^---[ \t]*$", re.MULTILINE)
_home: ContextVar[Path | None] = ContextVar("home of the prompts", default=None)


class PromptError(ValueError):
    """A prompt file that is not there or cannot be filled; the message names the file and what is wrong in it."""


@dataclass(frozen=True)
class Prompt:
    """A prompt file."""

    name: str
    path: Path
    system: str
    """Empty: there is no system message."""
    user: str

    @property
    def places(self) -> frozenset[str]:
        """The names that are to be filled in."""
        return frozenset(_PLACE.findall(self.system) + _PLACE.findall(self.user))

    def fill(self, **values: object) -> tuple[tuple[str, str], ...]:
        """The messages, (role, content), with every place filled; a place without a value or a value without a place
        is an error. What is filled in is not looked at for places again."""
        if missing := sorted(self.places - values.keys()):
            raise PromptError(f"{self.path}: nothing is given for {{{{{missing[0]}}}}}; {_given(values)}")
        if unused := sorted(values.keys() - self.places):
            raise PromptError(f"{self.path}: {{{{{unused[0]}}}}} stands nowhere in it; the question fills it in")
        texts = [("system", self.system), ("user", self.user)]
        return tuple((role, _PLACE.sub(lambda at: str(values[at[1]]), text)) for role, text in texts if text)


def _given(values: dict[str, object]) -> str:
    return f"there is {', '.join(f'{{{{{name}}}}}' for name in sorted(values)) or 'no other'}"


@contextmanager
def using(home: Path | str | None) -> Iterator[None]:
    """Inside, prompts of this home come first wherever no home is named: what a question's ``cells`` are made in."""
    token = _home.set(Path(home) if home else None)
    try:
        yield
    finally:
        _home.reset(token)


def load(name: str, home: Path | str | None = None) -> Prompt:
    """The prompt of this name: of ``home`` (else of `using`), or of the package."""
    path = find(name, home)
    text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    parts = _DASHES.split(text, maxsplit=1)
    if len(parts) < 2:
        raise PromptError(f"{path}: a line of three dashes must part what the judge is from what it is asked")
    system, user = (part.strip() for part in parts)
    if not user:
        raise PromptError(f"{path}: nothing is asked below the line of dashes")
    if stray := re.search(r"\{\{[^{}\n]*\}\}", _PLACE.sub("", system + user)):
        raise PromptError(f"{path}: {stray[0]} is no place; a name has letters, digits and _ only")
    return Prompt(name, path, system, user)


def find(name: str, home: Path | str | None = None) -> Path:
    """The file of a prompt."""
    if not _NAME.fullmatch(name):
        raise PromptError(f"{name!r} is no name of a prompt; it has letters, digits, _, - and dots, as rubric.v1 does")
    where = Path(home) if home else _home.get()
    folders = [*([where / "prompts"] if where else []), PACKAGE]
    for folder in folders:
        if (folder / f"{name}.md").is_file():
            return folder / f"{name}.md"
    there = sorted({path.stem for folder in folders for path in folder.glob("*.md")})
    looked = " or ".join(str(folder) for folder in folders)
    raise PromptError(f"there is no prompt {name}.md in {looked}; there are {', '.join(there)}")


def content_hash(names: Sequence[str], home: Path | str | None = None) -> str:
    """What these files say, as 32 hex digits: part of the fingerprint of whatever asks with them."""
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        prompt = load(name, home)
        for text in (name, prompt.system, prompt.user):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
