"""Bytes of a file, in blocks and within limits: opening, unpacking, and finding out what the file really is.

Nothing here knows what a record is (`records`).  What ends a stream early (a damaged or exploding archive) is kept in
`Stream.problem`, never raised, so that everything read before it stays.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from methods.rows import BadRecord

BLOCK = 1 << 20
BOM = b"\xef\xbb\xbf"

Kind = Literal["json", "jsonl", "csv", "parquet"]
KINDS: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}


class SourceError(Exception):
    """A file that cannot be read at all: names the file and says what to do."""


@dataclass(frozen=True)
class Limits:
    """What a reader holds and how far it goes. Sizes are in bytes."""

    max_record_bytes: int = 16 << 20
    """A longer record is skipped without being held, and quarantined."""
    max_expanded_bytes: int = 64 << 30
    """An archive is read no further than this."""
    max_expansion: float = 200.0
    """An archive that grows by more than this factor is no data: text shrinks to a tenth, a bomb to a thousandth."""
    free_expanded_bytes: int = 64 << 20
    """``max_expansion`` counts only from here on, so that a small, very regular file passes."""
    batch_rows: int = 4096
    batch_bytes: int = 8 << 20
    """A batch is handed on when its records hold this much text."""


def content_hash(path: str | Path) -> str:
    """Hash a file's bytes, block by block: 32 hex digits of blake2b."""
    digest = hashlib.blake2b(digest_size=16)
    with open_file(path) as file:
        while block := _read(file, path):
            digest.update(block)
    return digest.hexdigest()


def open_file(path: str | Path) -> IO[bytes]:
    """Open a file for reading bytes, or say in a `SourceError` why not."""
    path = Path(path)
    if path.is_dir():
        raise SourceError(f"{path} is a folder; name a file in it.")
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist; check the path.") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be opened ({error}); check that it may be read.") from error


def kind_by_name(path: str | Path) -> Kind:
    """Say by its extension what a file claims to be; `SourceError` if the extension is unknown."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    kind = KINDS.get(suffixes[-1]) if suffixes else None
    if kind is None:
        raise SourceError(f"{path} has no extension that is known; rename it to one of {', '.join(KINDS)} (also .gz).")
    return kind


class Stream:
    """The unpacked bytes of a file. Gzip is known by its first bytes, whatever the file's name."""

    def __init__(self, path: str | Path, limits: Limits) -> None:
        """Open the file."""
        self.path = Path(path)
        self.limits = limits
        self.problem: BadRecord | None = None
        """Why the stream ended before the file did."""
        self._file = open_file(path)
        self.bytes_total = self.path.stat().st_size
        start = _read(self._file, path, 4)
        self._file.seek(0)
        self.packed = start[:2] == b"\x1f\x8b"
        self._unpacked: gzip.GzipFile | None = gzip.GzipFile(fileobj=self._file) if self.packed else None
        self._expanded = 0
        self._head = b""
        self._read_elsewhere = 0.0

    @property
    def bytes_read(self) -> int:
        """How much of the file itself (packed, if it is) has been read."""
        return min(max(self._file.tell(), round(self._read_elsewhere * self.bytes_total)), self.bytes_total)

    def advance(self, share: float) -> None:
        """Count a share of the file that was read past this stream (Parquet opens the file by itself)."""
        self._read_elsewhere += share

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def peek(self) -> bytes:
        """Return the first block, which `read` will give again."""
        while len(self._head) < BLOCK and (block := self._next()):
            self._head += block
        return self._head

    def read(self) -> bytes:
        """Return the next block; empty at the end, or where the stream broke off."""
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._next()

    def _next(self) -> bytes:
        if self.problem is not None:
            return b""
        if self._unpacked is None:
            return _read(self._file, self.path)
        try:
            block = self._unpacked.read1(BLOCK)
        except EOFError:
            self._break("truncated_archive", "The archive ends too early; what came before was read. Copy it again.")
            return b""
        except (OSError, zlib.error) as error:
            detail = f"The archive is damaged ({error}); what came before was read. Copy it again."
            self._break("damaged_archive", detail)
            return b""
        self._expanded += len(block)
        limits = self.limits
        growth = self._expanded / max(self._file.tell(), 1)
        if self._expanded > limits.max_expanded_bytes or (
            self._expanded > limits.free_expanded_bytes and growth > limits.max_expansion
        ):
            self._break(
                "archive_bomb",
                f"The archive grows to {self._expanded:,} bytes, {growth:.0f} times its size; it was read no further. "
                "If that is right, unpack it first, or raise the limits.",
            )
            return b""
        return block

    def _break(self, reason: str, detail: str) -> None:
        self.problem = BadRecord(reason, detail)


def _read(file: IO[bytes], path: str | Path, size: int = BLOCK) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error}); check the disk or copy the file again.") from error
