"""Records in a list of JSON, or one after another without newlines between: found by their brackets, in a stream.

Here belongs what finds the end of an element without parsing it, and where to go on after a bad one; parsing stands
in `records`.  The buffer never holds more than one element (up to the limit) and one block.

After an element that does not parse, two ends are possible: where its brackets close, and where the next element
seems to begin (a closing bracket, a comma, and an object whose first key has begun an element of this file before).
The nearer one is taken: a lost quote turns the strings that follow inside out, and the brackets close much too late.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from methods.formats import RECORD_KEYS
from methods.records import EXCERPT, Raw, bad, excerpt_of, parse, read_one, too_large
from methods.rows import BadRecord
from methods.streams import BLOCK, Stream

# Possessive (`*+`), so that a long text takes no memory for going back.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = re.compile(rb"\{[^\"{}\[\]]*+(?:" + _STRING + rb"[^\"{}\[\]]*+)*+\}", re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_STRUCTURE = re.compile(rb'["{}\[\]]')
_SCALAR = re.compile(rb"(?:" + _STRING + rb"|[^\s,\[\]{}\"]+)(?=\s*[,\]])", re.DOTALL)
_GARBAGE = re.compile(rb"[^\[\]{]+|\]")
_SPACE = re.compile(rb"[\s,]*")
_FIRST_KEY = re.compile(rb"\{\s*(" + _STRING + rb")\s*:", re.DOTALL)
_ANY_KEY = re.compile(rb"\s*(" + _STRING + rb")\s*:\s*", re.DOTALL)
_LIST_OF_OBJECTS = re.compile(rb"\[\s*\{")
MAX_KEYS = 32
"""How many different first keys are remembered."""
WINDOW = 1 << 16
"""How far brackets are followed before looking whether the next element has begun meanwhile."""
MARGIN = 256
"""How far back from there to look, since the border may fall into the beginning of an element."""


class _Depth:
    """Where a value ends: follows brackets and strings from block to block."""

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.in_string = False

    def scan(self, data: bytes, at: int, stop: int | None = None) -> tuple[bool, int]:
        """Go on from ``at`` to ``stop``: whether the end was reached, and how far it went."""
        stop = len(data) if stop is None else min(stop, len(data))
        while True:
            if self.in_string:
                at = _IN_STRING.match(data, at, stop).end()  # type: ignore[union-attr]  # it matches the empty string
                if at >= stop or data[at] != 0x22:
                    return False, at  # the text ends, perhaps on a backslash whose other half is yet to come
                self.in_string = False
                at += 1
            found = _STRUCTURE.search(data, at, stop)
            if found is None:
                return False, stop
            at = found.end()
            mark = found.group()
            if mark == b'"':
                self.in_string = True
            elif mark in b"{[":
                self.depth += 1
            else:
                self.depth -= 1
                if self.depth <= 0:
                    return True, at


def read_elements(stream: Stream, limit: int, start: int = 0, wrapped: bool = False) -> Iterator[Raw]:
    """Read the elements of lists, and objects that stand alone, from ``start`` to the end of the stream.

    ``wrapped``: ``start`` lies within the list that an object wraps (`find_wrapped`); what stands around is no record.
    """
    return _Elements(stream, limit, start, wrapped).read()


class _Elements:
    def __init__(self, stream: Stream, limit: int, start: int, wrapped: bool) -> None:
        self._stream = stream
        self._limit = limit
        self._data = stream.read()
        self._at = start
        self._line = 1
        self._counted = 0
        self._keys: dict[bytes, None] = {}
        self._open = self._wrapped = wrapped

    def read(self) -> Iterator[Raw]:
        while self._to_next():
            mark = self._data[self._at]
            if mark == 0x5B and not self._open:
                self._open, self._at = True, self._at + 1
            elif mark == 0x5D and self._open:
                self._open, self._at = False, self._at + 1
                if self._wrapped:
                    yield from self._leave_wrapper()
            elif mark in b"{[":
                yield self._element()
            else:
                yield self._other()
        if self._open:
            detail = "The list of records is never closed; the file was probably cut off. Copy it again."
            yield bad(self._line_at(self._at), "truncated", detail)

    # --- the buffer ---

    def _more(self) -> bool:
        """Read on, letting go of what lies before the current place, which becomes 0."""
        block = self._stream.read()
        self._line_at(self._at)
        self._data = self._data[self._at :] + block
        self._at = self._counted = 0
        return bool(block)

    def _line_at(self, at: int) -> int:
        """The line of a place that never lies before the one asked for last."""
        self._line += self._data.count(b"\n", self._counted, at)
        self._counted = at
        return self._line

    def _to_next(self) -> bool:
        while True:
            self._at = _SPACE.match(self._data, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._data):
                return True
            if not self._more():
                return False

    # --- elements ---

    def _element(self) -> Raw:
        line = self._line_at(self._at)
        flat = _FLAT.match(self._data, self._at)
        if flat:
            done, end, boundary = True, flat.end(), None
        else:
            depth = _Depth()
            done, end, boundary = self._find_end(depth)
        start = self._at
        if boundary is None and end - start > self._limit:
            boundary = self._next_start(start, end)
            if boundary is None:
                return self._skip(line, done, end, depth if not flat else _Depth())
        end = end if boundary is None else boundary
        data = self._data[start:end]
        if boundary is not None:
            data = data.rstrip().removesuffix(b",")
        self._at = end
        if len(data) > self._limit:
            return too_large(line, self._limit, data)
        try:
            text, value = parse(data)
        except BadRecord as error:
            if boundary is None:
                self._at = self._next_start(start, end) or end
                self._open = self._open and (done or self._at < end)  # cut off within a record: said once
            return Raw(line, bad=error, excerpt=excerpt_of(self._data[start : self._at]))
        self._remember(start)
        return Raw(line, text, value)

    def _find_end(self, depth: _Depth) -> tuple[bool, int, int | None]:
        """Where the brackets close, if they do within the limit; or where the next element begins inside a string.

        Strings are inside out after a lost quote, and only then can an element begin in one.
        """
        reached = looked = self._at
        while True:
            done, reached = depth.scan(self._data, reached, looked + WINDOW)
            if done:
                return True, reached, None
            if looked + WINDOW <= len(self._data):
                boundary = self._next_start(max(self._at, looked - MARGIN), reached, self._at)
                if boundary is not None and self._inside_string(boundary):
                    return False, reached, boundary
                looked += WINDOW
                if reached - self._at > self._limit:
                    return False, reached, None
                continue
            before = self._at
            if not self._more():
                return False, len(self._data), None
            reached, looked = reached - before, looked - before

    def _inside_string(self, at: int) -> bool:
        depth = _Depth()
        depth.scan(self._data, self._at, at)
        return depth.in_string

    def _remember(self, start: int) -> None:
        found = _FIRST_KEY.match(self._data, start)
        if found and len(self._keys) < MAX_KEYS:
            self._keys[found.group(1)] = None

    def _next_start(self, start: int, end: int, element: int | None = None) -> int | None:
        """Where, between two places, an element seems to begin that is not the first one there."""
        own = _FIRST_KEY.match(self._data, start if element is None else element)
        keys = {**self._keys, **({own.group(1): None} if own else {})}
        if not keys:
            return None
        pattern = rb"[}\]]\s*,?\s*(?=\{\s*(?:" + b"|".join(map(re.escape, keys)) + rb")\s*:)"
        found = re.compile(pattern).search(self._data, start + 1, end + MARGIN)
        return found.end() if found and found.end() < end else None

    def _skip(self, line: int, done: bool, reached: int, depth: _Depth) -> Raw:
        """Go past an element over the limit without holding it."""
        start = self._data[self._at : self._at + 4 * EXCERPT]
        self._at = reached
        while not done:
            done, self._at = depth.scan(self._data, self._at)
            if not done and not self._more():
                self._at, self._open = len(self._data), False
                break
        return too_large(line, self._limit, start)

    def _other(self) -> Raw:
        """Something in the list that is neither object nor list: a value by itself, or garbage up to the next one."""
        line = self._line_at(self._at)
        while len(self._data) - self._at < min(self._limit, BLOCK) and self._more():
            pass
        found = (_SCALAR.match(self._data, self._at) if self._open else None) or _GARBAGE.match(self._data, self._at)
        start, end = self._at, found.end() if found else self._at + 1
        self._at = end
        if end - start > self._limit:
            return too_large(line, self._limit, self._data[start : start + 4 * EXCERPT])
        return read_one(self._data[start:end], line)

    def _leave_wrapper(self) -> Iterator[Raw]:
        """After the wrapped list: only the rest of the object. A second list of records in it is said, not read."""
        self._wrapped = False
        line, depth = self._line_at(self._at), _Depth(1)
        done, reached, second = False, self._at, False
        while not done:
            begun = self._at
            done, reached = depth.scan(self._data, begun)
            second = second or bool(_LIST_OF_OBJECTS.search(self._data, begun, reached))
            self._at = reached
            if not done and not self._more():
                yield bad(line, "truncated", "The object around the records is never closed; copy the file again.")
                return
        if second:
            detail = "The object holds a second list beside the records, which was not read; give it a file of its own."
            yield bad(line, "second_list", detail)


def find_wrapped(head: bytes) -> int:
    """Where the records begin in an object that only wraps a list of them, like ``{"data": [{...`` ; else 0."""
    if not head.startswith(b"{"):
        return 0
    at = 1
    while key := _ANY_KEY.match(head, at):
        name = key.group(1)[1:-1].decode(errors="replace")
        if name in RECORD_KEYS:
            return 0
        at = key.end()
        if _LIST_OF_OBJECTS.match(head, at):
            return at + 1 if name not in ("tools", "functions", "kwargs") else 0
        done, at = _skip_value(head, at)
        if not done:
            return 0
        at = _SPACE.match(head, at).end()  # type: ignore[union-attr]
    return 0


def _skip_value(head: bytes, at: int) -> tuple[bool, int]:
    if head[at : at + 1] in (b"{", b"["):
        return _Depth().scan(head, at)
    found = re.compile(_STRING + rb"|[^\s,}\"]+", re.DOTALL).match(head, at)
    return (True, found.end()) if found else (False, at)


def first_element(text: bytes) -> bytes | None:
    """Return the object or list that a text begins with, if its brackets close."""
    done, end = _Depth().scan(text, 0)
    return text[:end] if done else None
