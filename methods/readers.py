"""Files become rows: one pass over a file, batch by batch, in bounded memory, with nothing lost on the way.

Here belongs what ties the pieces together: find out what the file really is, read its records one by one, make rows
of the good ones and quarantine the others.  For every file the number of records seen is the number of records that
gave a row plus the number that were quarantined.  The pieces: `streams` (bytes), `records` and `elements` (where a
record begins and ends), `formats` (what it means), `rows` (what a row is).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from methods.elements import find_wrapped, first_element, read_elements
from methods.formats import LAYOUTS, Paths, read_record
from methods.records import Raw, bad, excerpt_of, read_csv, read_lines, too_large
from methods.rows import QUARANTINE_SCHEMA, ROW_SCHEMA, BadRecord, make_row
from methods.streams import BOM, Kind, Limits, SourceError, Stream, content_hash, kind_by_name

__all__ = ["Batch", "Limits", "SourceError", "content_hash", "read_file"]

PARQUET_ROWS = 256
"""Rows of a Parquet file turned into objects at a time."""
SNIFFED_LINES = 50


@dataclass(frozen=True)
class Batch:
    """Some of a file's records, in file order."""

    rows: pl.DataFrame
    """`ROW_SCHEMA`."""
    quarantined: pl.DataFrame
    """`QUARANTINE_SCHEMA`."""
    records: int
    """How many records were seen: those that gave a row and those quarantined."""
    bytes_read: int
    """How far into the file (as it lies on the disk) the reading has come."""
    bytes_total: int


def read_file(
    path: str | Path, source: str, layout: str | None = None, limits: Limits | None = None, paths: Paths = "best"
) -> Iterator[Batch]:
    """Read a file into batches of rows and of what had to be quarantined; there is at least one batch.

    The name must end in ``.json``, ``.jsonl``, ``.ndjson``, ``.csv`` (each perhaps with ``.gz``) or ``.parquet``; what
    the file really holds is found out from its content.  ``layout`` is one of `formats.LAYOUTS`, or None to find it
    out for every record.  ``paths`` says which branches of an OpenAssistant tree become rows: the ``best`` or ``all``.

    Raises `SourceError` at once if the file cannot be read at all, and `ValueError` for an unknown layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    limits = limits or Limits()
    named = kind_by_name(path)
    stream = Stream(path, limits)
    try:
        raws = opened(stream, named)
    except BaseException:
        stream.close()
        raise
    return _batches(stream, raws, _Builder(source, str(path), layout, limits, paths))


def _batches(stream: Stream, raws: Iterator[Raw], builder: _Builder) -> Iterator[Batch]:
    with closing(stream):
        for raw in raws:
            builder.add(raw)
            if builder.full():
                yield builder.batch(stream)
        if stream.problem is not None:
            builder.add(Raw(None, bad=stream.problem))
        elif builder.position == 0:
            builder.add(bad(None, "empty_file", "The file holds no records; check where it came from."))
        if builder.records or stream.problem is not None:
            yield builder.batch(stream)


class _Builder:
    """Gathers rows and quarantined records until there are enough for a batch."""

    def __init__(self, source: str, file: str, layout: str | None, limits: Limits, paths: Paths) -> None:
        self._source, self._file, self._layout, self._paths, self._limits = source, file, layout, paths, limits
        self.position = 0
        self._start()

    def _start(self) -> None:
        self.records = 0
        self._size = 0
        self._rows: list[dict[str, Any]] = []
        self._bad: list[dict[str, Any]] = []

    def full(self) -> bool:
        """Say whether there is enough for a batch."""
        return self._size >= self._limits.batch_bytes or len(self._rows) + len(self._bad) >= self._limits.batch_rows

    def add(self, raw: Raw) -> None:
        """Take the next record of the file."""
        error, excerpt = raw.bad, raw.excerpt
        if error is None:
            try:
                rows = self._read(raw)
                self._rows += rows
                self._size += len(raw.text) * len(rows)
            except BadRecord as problem:
                error, excerpt = problem, excerpt_of(raw.text)
        if error is not None:
            entry = (self._source, self._file, self.position, raw.line, error.reason, str(error.detail), excerpt)
            self._bad.append(dict(zip(QUARANTINE_SCHEMA, entry, strict=True)))
        self.records += 1
        self.position += raw.span

    def batch(self, stream: Stream) -> Batch:
        """Hand out what was gathered and begin anew."""
        batch = Batch(
            rows=_frame(self._rows, ROW_SCHEMA),
            quarantined=_frame(self._bad, QUARANTINE_SCHEMA),
            records=self.records,
            bytes_read=stream.bytes_read,
            bytes_total=stream.bytes_total,
        )
        self._start()
        return batch

    def _read(self, raw: Raw) -> list[dict[str, Any]]:
        try:
            layout, conversations = read_record(raw.value, self._layout, self._paths)
            rows = [
                make_row(self._source, self.position, part, raw.line, layout, said.messages, said.input, raw.text)
                for part, said in enumerate(conversations)
            ]
        except UnicodeEncodeError:
            detail = "A text has half of a surrogate pair, which is no character; remove it."
            raise BadRecord("lone_surrogate", detail) from None
        except RecursionError:
            raise BadRecord("too_deep", "The record is nested too deeply to be data; flatten it.") from None
        if any("\0" in message["content"] for row in rows for message in row["messages"]):
            raise BadRecord("nul_character", "A text holds a NUL character, at which many programs stop; remove it.")
        return rows


def _frame(entries: list[dict[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    flat = {name: [entry[name] for entry in entries] for name in schema if name != "messages"}
    frame = pl.DataFrame(flat, schema={name: schema[name] for name in flat})
    if "messages" not in schema or not entries:
        return frame if "messages" not in schema else schema.to_frame()
    return frame.with_columns(_messages(entries)).select(list(schema))


def _messages(entries: list[dict[str, Any]]) -> pl.Series:
    """The column of messages. Polars builds a list of structs row by row, thirty times slower than by grouping."""
    said = [(at, message["role"], message["content"]) for at, row in enumerate(entries) for message in row["messages"]]
    flat = pl.DataFrame(said, schema={"at": pl.UInt32, "role": pl.String, "content": pl.String}, orient="row")
    lists = flat.group_by("at", maintain_order=True).agg(messages=pl.struct("role", "content"))
    return lists["messages"]


# --- what the file really is ------------------------------------------------------------------------------------------


def opened(stream: Stream, named: Kind) -> Iterator[Raw]:
    """Choose the way to read the file: its content decides, its name only where the content leaves a choice."""
    head, limit = stream.peek(), stream.limits.max_record_bytes
    if head.startswith(b"PAR1"):
        return _parquet(stream, limit)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"{stream.path} is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8).")
    text = head.removeprefix(BOM).lstrip()
    start = len(head) - len(text)
    if named == "parquet" and text and not text.startswith((b"{", b"[")):
        raise SourceError(f"{stream.path} is no Parquet file; give it the extension of what it is, or copy it again.")
    if text.startswith((b"{", b"[")):
        if wrapped := find_wrapped(text) if _may_wrap(text) else 0:
            return read_elements(stream, limit, start + wrapped, wrapped=True)
        if not _by_lines(text, named):
            return read_elements(stream, limit, start)
    elif named == "csv":
        return read_csv(stream, limit)
    return read_lines(stream, limit)


def _may_wrap(text: bytes) -> bool:
    """A file whose first line is a whole object, with more to follow, is one of lines; so is one with several such."""
    first, _, rest = text.partition(b"\n")
    if isinstance(_loaded(first), dict):
        return not rest.strip()
    return _whole_lines(text)[0] < 2


def _by_lines(text: bytes, named: Kind) -> bool:
    """Whether the text is one record a line, where it begins like an object or a list."""
    first, _, rest = text.partition(b"\n")
    value = _loaded(first)
    if isinstance(value, dict):
        return True
    whole, part = _whole_lines(text)
    if whole >= 2 and whole > part:
        return True
    if text.startswith(b"["):
        return isinstance(value, list) and isinstance(_loaded(rest.lstrip().partition(b"\n")[0]), list)
    element = first_element(text)
    return named == "jsonl" if element is None or _loaded(element) is None else False


def _whole_lines(text: bytes) -> tuple[int, int]:
    """Of the first lines that begin at the margin: how many are an object, and how many are but for a comma."""
    lines = [line.rstrip() for line in text.split(b"\n", SNIFFED_LINES)[:SNIFFED_LINES] if line.startswith(b"{")]
    whole = sum(isinstance(_loaded(line), dict) for line in lines)
    part = sum(isinstance(_loaded(line[:-1]), dict) for line in lines if line.endswith(b","))
    return whole, part


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(stream: Stream, limit: int) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if stream.packed:
        raise SourceError(f"{stream.path} is a packed Parquet file; unpack it first, Parquet packs by itself.")
    try:
        file = pq.ParquetFile(stream.path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{stream.path} cannot be read as Parquet ({error}); copy it again.") from error
    return _row_groups(stream, file, limit)


def _row_groups(stream: Stream, file: Any, limit: int) -> Iterator[Raw]:
    import pyarrow as pa

    with file:
        for group in range(file.num_row_groups):
            rows, seen = file.metadata.row_group(group).num_rows, 0
            try:
                for batch in file.iter_batches(batch_size=PARQUET_ROWS, row_groups=[group], use_threads=False):
                    for at in range(batch.num_rows):
                        yield _parquet_row(batch, at, limit)
                        seen += 1
                    stream.advance(batch.num_rows / max(file.metadata.num_rows, 1))
            except (pa.ArrowException, OSError) as error:
                detail = f"{rows - seen} rows of row group {group} cannot be read ({error}); copy the file again."
                lost = bad(None, "damaged_rows", detail)
                lost.span = max(rows - seen, 1)
                yield lost


def _parquet_row(batch: Any, at: int, limit: int) -> Raw:
    try:
        value = _plain({name: batch.column(place)[at].as_py() for place, name in enumerate(batch.schema.names)})
    except UnicodeDecodeError:
        return bad(None, "invalid_utf8", "A text of the row is no UTF-8; write the file again from its source.")
    text = json.dumps(value, ensure_ascii=False)
    if len(text.encode()) > limit:
        return too_large(None, limit, text)
    return Raw(None, text, value)


def _plain(value: Any) -> Any:
    """Bring a value of a table to what JSON can say: not-a-number is null, dates and the like are text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if value is None or isinstance(value, str | int | Decimal):
        return str(value) if isinstance(value, Decimal) else value
    return str(value)
