"""From a file's text to its records: JSON, lines of JSON, and CSV. Each record parsed on its own, good or bad.

Here belong the ways to find where a record ends and how a bad one is explained; lists of JSON stand in `elements`,
Parquet in `readers`.  What a record means is the business of `formats`.
"""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from methods.rows import BadRecord
from methods.streams import BOM, Stream

EXCERPT = 200


@dataclass(slots=True)
class Raw:
    """One record of a file: parsed, or the reason why not."""

    line: int | None
    text: str = ""
    """The record as JSON text."""
    value: Any = None
    bad: BadRecord | None = None
    excerpt: str = ""
    span: int = 1
    """How many positions it takes: more than one where a part of a file is lost as a whole."""


def excerpt_of(data: bytes | str) -> str:
    """Return the first characters, with whatever no UTF-8 (or no text) can hold replaced."""
    text = data[: 4 * EXCERPT].decode(errors="replace") if isinstance(data, bytes) else data[:EXCERPT]
    return text[:EXCERPT].encode(errors="replace").decode().replace("\0", "\ufffd")


def bad(line: int | None, reason: str, detail: str, data: bytes | str = b"") -> Raw:
    """Make the record that stands for something that could not be read."""
    return Raw(line, bad=BadRecord(reason, detail), excerpt=excerpt_of(data))


def too_large(line: int | None, limit: int, data: bytes | str) -> Raw:
    """Make the record that stands for one over the limit; ``data`` is its beginning."""
    detail = f"The record is longer than {limit:,} bytes and was skipped; shorten it or raise the limit."
    return bad(line, "too_large", detail, data)


def read_one(data: bytes, line: int | None) -> Raw:
    """Parse one record's JSON."""
    try:
        text, value = parse(data)
    except BadRecord as error:
        return Raw(line, bad=error, excerpt=excerpt_of(data))
    return Raw(line, text, value)


def parse(data: bytes) -> tuple[str, Any]:
    """Parse JSON strictly: the text and its value, or a `BadRecord` that explains.

    Stricter than the standard library: a key given twice, NaN and infinities, lone surrogates and text after the end
    are refused, since the next program would read something else or nothing.
    """
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        detail = f"Byte {error.start} of the record is no UTF-8; save the file as UTF-8."
        raise BadRecord("invalid_utf8", detail) from None
    try:
        value = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _explained(error, text) from None
    except UnicodeEncodeError:
        detail = "The record has half of a surrogate pair (\\ud800 to \\udfff), which is no character; remove it."
        raise BadRecord("lone_surrogate", detail) from None
    except RecursionError:
        raise BadRecord("too_deep", "The record is nested too deeply to be data; flatten it.") from None
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord("malformed_json", f"The record cannot be parsed: {error}.") from None
    return text, value


def pairs_to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of keys and values, refusing a key that is there twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRecord("duplicate_key", f"The key `{twice[:40]}` is there twice; keep the one that is meant.")
    return made


def _refuse_constant(name: str) -> Any:
    raise BadRecord("not_a_number", f"The record holds {name}, which JSON does not have; write null or a number.")


_DECODER = json.JSONDecoder(object_pairs_hook=pairs_to_object, parse_constant=_refuse_constant)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _explained(error: json.JSONDecodeError, text: str) -> BadRecord:
    at = f"at character {error.pos + 1}"
    found = text[error.pos : error.pos + 2]
    if "\0" in text:
        return BadRecord("nul_character", "The record holds NUL bytes, mostly a sign of a file cut off; write it anew.")
    if "escape" in error.msg:
        return BadRecord("invalid_escape", f"The escape {found} {at} is none of JSON's; write a backslash as \\\\.")
    if "control character" in error.msg:
        detail = f"A raw control character stands in a text {at}; write it as an escape, e.g. a newline as \\n."
        return BadRecord("control_character", detail)
    if error.msg == "Extra data":
        return BadRecord("extra_data", f"The record ends {at}, but more follows; write one record a line.")
    if error.pos >= len(text):
        return BadRecord("truncated", "The text ends inside the record; the file or the line was probably cut off.")
    return BadRecord("malformed_json", f"The record is no JSON: {error.msg} {at}; mend it there.")


# --- lines ------------------------------------------------------------------------------------------------------------


def split_lines(stream: Stream, limit: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield each line with its number from 1 and whether it is whole; of one over the limit only its beginning."""
    number, rest, skipping = 1, b"", False
    while block := stream.read():
        first, newline, block = block.partition(b"\n")
        if not skipping:
            rest += first
        if not newline:
            skipping = skipping or len(rest) > limit
            rest = rest[: 4 * EXCERPT] if skipping else rest
            continue
        yield number, rest, not (skipping or len(rest) > limit)
        number, skipping = number + 1, False
        *lines, rest = block.split(b"\n")
        for line in lines:
            yield number, line, len(line) <= limit
            number += 1
    if rest:
        yield number, rest, not (skipping or len(rest) > limit)


def read_lines(stream: Stream, limit: int) -> Iterator[Raw]:
    """Read one JSON record a line; blank lines are none."""
    for number, line, whole in split_lines(stream, limit):
        data = line.removeprefix(BOM)
        if not whole:
            yield too_large(number, limit, data)
        elif data and not data.isspace():
            yield read_one(data, number)


# --- CSV --------------------------------------------------------------------------------------------------------------


def read_csv(stream: Stream, limit: int) -> Iterator[Raw]:
    """Read CSV with a header; fields in quotes may hold delimiters and newlines, and ``""`` for a quote.

    A quote that is never closed does not swallow what follows: the line where it opens is quarantined alone.
    """
    if csv.field_size_limit() < limit:  # the module's limit is global and far below what a response may be
        csv.field_size_limit(limit)
    source = _CsvLines(stream, limit)
    header: list[str] | None = None
    delimiter = ","
    while group := source.group():
        number, first = group[0]
        if first is None:
            yield too_large(number, limit, source.start)
            source.put_back(group[1:])
            continue
        if not first.strip():
            source.put_back(group[1:])
            continue
        if header is None:
            delimiter = max(",;\t", key=lambda mark: first.count(mark.encode()))
        try:
            # Bytes that are no UTF-8 pass through, so that only the record that holds them is given up.
            lines = [line.decode(errors="surrogateescape") for _, line in group if line is not None]
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            fields = next(reader)
        except csv.Error as error:
            source.put_back(group[1:])
            yield bad(number, "malformed_csv", f"The record is no CSV: {error}; check its quotes.", first)
            continue
        source.put_back(group[reader.line_num :])
        if header is None:
            header = [field.strip() for field in fields]
        else:
            yield _csv_record(header, fields, number, first)


def _csv_record(header: list[str], fields: list[str], number: int, first: bytes) -> Raw:
    if len(fields) != len(header):
        detail = f"The record has {len(fields)} fields, the header {len(header)}; check its quotes and commas."
        return bad(number, "wrong_columns", detail, first)
    try:
        "".join(fields).encode()
        value = pairs_to_object(list(zip(header, fields, strict=True)))
    except UnicodeEncodeError:
        return bad(number, "invalid_utf8", "The record is no UTF-8; save the file as UTF-8.", first)
    except BadRecord as error:
        return Raw(number, bad=error, excerpt=excerpt_of(first))
    return Raw(number, json.dumps(value, ensure_ascii=False), value)


class _CsvLines:
    """Lines in groups that may be one record: up to where the quotes are even again. Lines can be put back."""

    def __init__(self, stream: Stream, limit: int) -> None:
        self._lines = split_lines(stream, limit)
        self._waiting: deque[tuple[int, bytes | None]] = deque()
        self._limit = limit
        self._first = True
        self.start = b""
        """The beginning of the last line that was too long."""

    def put_back(self, lines: Iterable[tuple[int, bytes | None]]) -> None:
        self._waiting.extendleft(reversed(list(lines)))

    def group(self) -> list[tuple[int, bytes | None]]:
        group: list[tuple[int, bytes | None]] = []
        quotes = size = 0
        while size <= self._limit and (line := self._line()):
            group.append(line)
            if line[1] is None:
                break
            quotes += line[1].count(b'"')
            size += len(line[1])
            if quotes % 2 == 0:
                break
        return group

    def _line(self) -> tuple[int, bytes | None] | None:
        if self._waiting:
            return self._waiting.popleft()
        for number, line, whole in self._lines:
            if self._first:
                line, self._first = line.removeprefix(BOM), False
            if not whole:
                self.start = line
                return number, None
            return number, line + b"\n"
        return None
