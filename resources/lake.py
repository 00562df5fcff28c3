"""Where everything lies: one folder of Parquet tables, row caches, vectors and the list of sources.

Here belongs the layout of the home on disk and the promise that a crash at any moment leaves the last good version
readable: every file is written beside its place and moved over it in one step.  What a table holds is decided by the
asset that writes it; vectors have their own module (`vectors.py`), because they live in LanceDB.

    HOME/landing/            files dropped here become sources
    HOME/targets/            test sets that must not leak into the training set
    HOME/preferences/        comparisons of answers, for a reward
    HOME/recipes/, HOME/filters.yaml               recipes and thresholds of one's own
    HOME/labels/, HOME/audits/                     what people said of rows, and what they were asked
    HOME/prompts/, HOME/prices.yaml                prompts of one's own, and what judges cost
    HOME/judgments.sqlite    what judges answered, and what was paid (`answers.py`)
    HOME/models/             models that were trained here
    HOME/lake/tables/STAGE/NAME.parquet            one file an asset
    HOME/lake/tables/STAGE/NAME/SOURCE.parquet     ... or one file a source
    HOME/lake/cache/NAME/FINGERPRINT/*.parquet     finished batches of an expensive pass
    HOME/lake/vectors/                             LanceDB
    HOME/lake/sources/NAME.json                    which file a source is read from
"""

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from resources.fingerprint import fingerprint

MANIFEST = "sluice"
"""The Parquet metadata key that holds a table's `Manifest`."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Source and table names become file names; nothing else is taken."""


class LakeError(Exception):
    """Something is missing or cannot be stored; the message says what and what to do."""


class MissingTable(LakeError):
    """A table that was never made."""


@dataclass(frozen=True)
class Manifest:
    """What a table says of itself. It travels inside the Parquet file, so table and manifest change together."""

    data_version: str
    """Hash of everything that decides the content: inputs, code, models, parameters."""
    code_version: str = ""
    rows: int = 0
    run_id: str = ""
    made_at: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    """Data version of each input table."""
    config: dict[str, Any] = field(default_factory=dict)
    """Parameters and identities of models that went into the data version."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Anything else worth keeping that does not decide the content (counts, costs, coverage)."""


@dataclass(frozen=True)
class Source:
    """A dataset: its name (the partition) and the file that it is read from."""

    name: str
    path: str
    layout: str | None = None


@dataclass(frozen=True)
class Table:
    """What an asset hands to the IO manager: a frame (or a file already written beside its place) and its manifest."""

    data: pl.DataFrame | Path
    manifest: Manifest


def check_name(name: str) -> str:
    """The name itself, or an error that says what a name may be made of."""
    if not NAME.fullmatch(name):
        raise LakeError(
            f"{name!r} cannot be a source name: use letters, digits, '.', '_' and '-' (it becomes a file name)"
        )
    return name


class Lake:
    """The tables, caches and sources under one home folder."""

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home).absolute()
        self.root = self.home / "lake"

    # ---- tables -------------------------------------------------------------------------------------------------

    def path(self, key: Sequence[str], partition: str | None = None) -> Path:
        """The Parquet file of an asset (of one source, where the asset is partitioned)."""
        folder = self.root.joinpath("tables", *key[:-1])
        return (
            folder / f"{key[-1]}.parquet"
            if partition is None
            else folder / key[-1] / f"{check_name(partition)}.parquet"
        )

    def exists(self, key: Sequence[str], partition: str | None = None) -> bool:
        """Whether the table was ever made."""
        return self.path(key, partition).is_file()

    def partitions(self, key: Sequence[str]) -> list[str]:
        """The sources for which a partitioned table was made, sorted."""
        return sorted(file.stem for file in self.path(key).with_suffix("").glob("*.parquet"))

    def scan(self, key: Sequence[str], partition: str | None = None) -> pl.LazyFrame:
        """A table, lazily; a partitioned one gets a ``source`` column."""
        path = self.path(key, partition)
        if not path.is_file():
            name = "/".join(key) + (f" of source {partition!r}" if partition else "")
            raise MissingTable(f"{name} is not there yet: materialize it first (looked for {path})")
        frame = pl.scan_parquet(path, glob=False)
        if partition is not None:
            frame = frame.with_columns(source=pl.lit(partition))
        return frame

    def scan_sources(self, key: Sequence[str], sources: Sequence[str]) -> pl.LazyFrame:
        """A partitioned table over several sources, in the order given; a missing one is a named error."""
        return pl.concat([self.scan(key, source) for source in sources], how="vertical")

    def manifest(self, key: Sequence[str], partition: str | None = None) -> Manifest | None:
        """What the stored table says of itself, or None if there is no table."""
        path = self.path(key, partition)
        if not path.is_file():
            return None
        text = pl.read_parquet_metadata(path).get(MANIFEST)
        return Manifest(**json.loads(text)) if text else Manifest(data_version="unknown")

    def write(self, key: Sequence[str], partition: str | None, table: Table) -> Path:
        """Replace a table in one step."""
        path = self.path(key, partition)
        with replacing(path) as staged:
            if isinstance(table.data, Path):
                os.replace(table.data, staged)
            else:
                table.data.write_parquet(staged, metadata={MANIFEST: json.dumps(asdict(table.manifest))})
        return path

    def staging_path(self, key: Sequence[str], partition: str | None = None) -> Path:
        """A fresh path on the same disk for a table that is written in blocks."""
        path = self.path(key, partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.parent / f".{path.stem}.{uuid.uuid4().hex}.staged"

    def sweep(self, older_than: float = 24 * 3600) -> int:
        """Remove what killed runs left half written, if it is older than this many seconds; returns how many."""
        left = [path for path in self.root.rglob(".*.staged") if _age(path) > older_than]
        for path in left:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(left)

    def alone(self, waiting: Callable[[], None] | None = None) -> AbstractContextManager[None]:
        """Only one command at a time works on a home: it sets the pool of every table that looks across sources."""
        return locked(self.root / ".command.lock", waiting)

    # ---- caches -------------------------------------------------------------------------------------------------

    def cache(self, name: str, identity: dict[str, Any]) -> "RowCache":
        """The finished batches of an expensive pass with exactly this model, code and parameters."""
        return RowCache(self.root / "cache" / name / fingerprint(identity))

    # ---- sources ------------------------------------------------------------------------------------------------

    def register(self, source: Source) -> None:
        """Remember which file a source is read from."""
        path = self.root / "sources" / f"{check_name(source.name)}.json"
        with replacing(path) as staged:
            staged.write_text(json.dumps(asdict(source)))

    def unregister(self, name: str) -> None:
        """Forget a source; its tables stay."""
        (self.root / "sources" / f"{check_name(name)}.json").unlink(missing_ok=True)

    def source(self, name: str) -> Source:
        """The source of that name, or an error that says how to add it."""
        path = self.root / "sources" / f"{check_name(name)}.json"
        if not path.is_file():
            raise LakeError(
                f"no source {name!r}: drop a file {name}.jsonl into {self.landing}, or name one with --source "
                f"{name}=FILE"
            )
        return Source(**json.loads(path.read_text()))

    def sources(self) -> list[Source]:
        """All sources, by name."""
        return [self.source(file.stem) for file in sorted((self.root / "sources").glob("*.json"))]

    @property
    def landing(self) -> Path:
        """The folder into which new data is dropped."""
        return self.home / "landing"

    @property
    def targets(self) -> Path:
        """The folder of test sets that must not leak."""
        return self.home / "targets"


class RowCache:
    """Finished batches, each a file of its own: safe against a kill at any moment and against two writers.

    A row's last word is not overwritten: a row that is already there is not computed again, and a batch that two runs
    finish at once is merely stored twice, and read once. Whoever scans or compacts while others may do so too does it
    inside ``alone()``; who waits there finds the other's rows finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else reads or joins files meanwhile. A killed process lets go by itself."""
        return locked(self.folder / ".lock")

    def scan(self) -> pl.LazyFrame | None:
        """All cached rows, one entry a row id, or None if there is none."""
        files = sorted(self.folder.glob("*.parquet"))
        if not files:
            return None
        return pl.scan_parquet(files, glob=False).unique("row_id", keep="first", maintain_order=True)

    def row_ids(self) -> set[str]:
        """The ids of the rows that are already computed."""
        frame = self.scan()
        return set() if frame is None else set(frame.select("row_id").collect()["row_id"])

    def append(self, batch: pl.DataFrame) -> None:
        """Store a finished batch."""
        with replacing(self.folder / f"{uuid.uuid4().hex}.parquet") as staged:
            batch.write_parquet(staged)

    def compact(self) -> None:
        """Join many small files into one. Rows are never absent: the new file lands before the old ones go."""
        files = sorted(self.folder.glob("*.parquet"))
        frame = self.scan()
        if len(files) > 1 and frame is not None:
            self.append(frame.collect())
            for file in files:
                file.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a file against every other process (and thread) that asks for the same; says so if it has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path that this yields; it takes the real one's place when all went well, and vanishes when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.parent / f".{path.name}.{uuid.uuid4().hex}.staged"
    try:
        yield staged
        with open(staged, "rb") as file:
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
