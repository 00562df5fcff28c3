"""New data: a file dropped into the landing folder becomes a source, or refreshes one.

Here belongs noticing files by content and asking for the source's lane. Reading and judging the data is the lane's
business.

- A file is taken when it stands still: the same at two looks, so that a copy in progress is not read in half.
- What counts is a hash of the content. A touched or copied file asks for nothing; content that returns to an earlier
  state is a change like any other.
- Each content is asked for once. A file that breaks the contract is not tried again until it changes; a lane that
  failed for another reason is run again by a person (re-execute it in the UI).
- Where a source of the same name was read from another file, the landing folder wins from its next change on.
- A file that is removed from the folder removes nothing: its source stays.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dagster as dg

from assets.partitions import SOURCES
from methods import readers
from methods.readers import SourceError
from methods.streams import KINDS
from resources.lake import NAME, Lake, LakeError, Source
from resources.tables import LakeResource

EXTENSIONS = tuple(KINDS)
FEATURES = dg.AssetKey(["evidence", "readability_features"])
"""Read by indicators alone: it joins a lane with the first of them."""


@dataclass(frozen=True)
class Landed:
    """A file in the landing folder: the source it names, a hash of its content, and how often the source has
    changed."""

    name: str
    path: Path
    content: str
    change: int = 1


@dataclass(frozen=True)
class Asked:
    """What was last asked for a source: the file, its content, and the how-manieth change of the source that was."""

    file: str
    content: str
    change: int


@dataclass(frozen=True)
class Seen:
    """A file at the last look: its stamp, and the hash of its content if it stood still then."""

    stamp: str
    content: str | None = None


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers: what it asked for by source, and the files as it saw them last."""

    asked: dict[str, Asked] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)

    @classmethod
    def load(cls, text: str | None) -> "Cursor":
        """The cursor as Dagster kept it."""
        data = json.loads(text) if text else {}
        return cls(
            {name: Asked(**asked) for name, asked in data.get("asked", {}).items()},
            {name: Seen(**seen) for name, seen in data.get("seen", {}).items()},
        )

    def dump(self) -> str:
        """The cursor as Dagster keeps it."""
        return json.dumps(asdict(self), sort_keys=True)


def extension(path: Path) -> str | None:
    """The extension by which a file says that it is data, with ``.gz`` where it is packed; None if it has none such."""
    packed = ".gz" if path.name.lower().endswith(".gz") else ""
    found = [known + packed for known in EXTENSIONS if path.name.lower().endswith(known + packed)]
    return found[0] if found else None


def source_name(path: Path) -> str:
    """The source that a file names: its name without the extension."""
    return path.name[: len(path.name) - len(extension(path) or "")]


def look(folder: Path, cursor: Cursor) -> tuple[list[Landed], list[str], Cursor]:
    """New or changed files that stand still, what is wrong with others, and the cursor for the next look."""
    landed: list[Landed] = []
    problems: list[str] = []
    seen: dict[str, Seen] = {}
    taken: dict[str, Path] = {}
    for path in _files(folder, cursor):
        name = source_name(path)
        if extension(path) is None:
            problems.append(f"{path.name}: not a kind of file that can be read ({', '.join(EXTENSIONS)}, also .gz)")
        elif not NAME.fullmatch(name):
            problems.append(
                f"{path.name}: {name!r} cannot be a source name; rename the file to letters, digits, '.', '_' and '-'"
            )
        elif name in taken:
            problems.append(
                f"{path.name}: {taken[name].name} already names the source {name!r}; rename or remove one of them"
            )
        else:
            taken[name] = path
            try:
                now = see(path, cursor.seen.get(path.name))
            except SourceError as error:
                problems.append(str(error))
                continue
            if now is None:
                continue
            seen[path.name] = now
            before = cursor.asked.get(name)
            if now.content and (before is None or before.content != now.content):
                landed.append(Landed(name, path, now.content, before.change + 1 if before else 1))
    asked = {**cursor.asked, **{file.name: Asked(file.path.name, file.content, file.change) for file in landed}}
    return landed, problems, Cursor(asked, seen)


def _files(folder: Path, cursor: Cursor) -> list[Path]:
    """The folder's files by name; where two name one source, the one that is in use comes first."""
    if not folder.is_dir():
        return []
    in_use = {asked.file for asked in cursor.asked.values()}
    files = (path for path in folder.iterdir() if not path.name.startswith((".", "~")) and path.is_file())
    return sorted(files, key=lambda path: (path.name not in in_use, path.name))


def see(path: Path, before: Seen | None) -> Seen | None:
    """The file as it is now, with the hash of its content if it stood still since the last look; None if it went
    away."""
    stamp = _stamp(path)
    if stamp is None:
        return None
    if before is None or before.stamp != stamp:
        return Seen(stamp)
    if before.content:
        return before  # nobody wrote to it since it was hashed: a large file is not read at every look
    content = readers.content_hash(path)
    return Seen(stamp, content) if _stamp(path) == stamp else None


def _stamp(path: Path) -> str | None:
    """What changes whenever somebody writes to a file or puts another in its place; it is a hint only, content
    decides."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}"


def request(file: Landed, lane: Sequence[dg.AssetKey]) -> dg.RunRequest:
    """The run that brings one source up to date. The key counts changes, so that content which returns is run again."""
    return dg.RunRequest(
        run_key=f"{file.name}@{file.content}#{file.change}",
        partition_key=file.name,
        asset_selection=list(lane),
        tags={"sluice/source": file.name, "sluice/content": file.content},
    )


def register(store: Lake, file: Landed) -> str | None:
    """Read the source from this file from now on; says so if it was read from another one until now."""
    try:
        before = store.source(file.name)
    except LakeError:
        before = None
    if before is not None and before.path == str(file.path):
        return None  # the layout that a person named for this file stays
    store.register(Source(file.name, str(file.path)))
    if before is None:
        return None
    return f"source {file.name!r} was read from {before.path}; from now on it is read from {file.path}"


def build_sensor(
    lane: Iterable[dg.AssetKey],
    interval: int = 30,
    read: Iterable[dg.AssetKey] | None = None,
    expensive: Iterable[dg.AssetKey] = (),
) -> dg.SensorDefinition:
    """The sensor; ``lane`` are the partitioned assets that a source passes through.

    ``expensive`` are passes that join a lane only once a person has asked for them somewhere: what you use is kept
    fresh. ``read`` are those that recipes and cards read (all, if it is not said). Of the others a lane makes only
    those that a person has once asked for: nobody waits for forty scores that nobody looks at.
    """
    lane, costly = sorted(lane), set(expensive)
    optional = set() if read is None else {key for key in lane if key.path[0] == "scored"} - set(read)
    optional |= {FEATURES} & set(lane) if read is not None else set()

    @dg.sensor(
        name="landing",
        target=dg.AssetSelection.assets(*lane),
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for new or changed files in the landing folder and brings their source up to date.",
    )
    def landing(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        store: Lake = lake.lake
        files, problems, cursor = look(store.landing, Cursor.load(context.cursor))
        for problem in problems:
            context.log.warning(problem)
        for file in files:
            said = register(store, file)
            if said:
                context.log.warning(said)
        in_use = {key for key in costly if context.instance.get_latest_materialization_event(key)}
        in_use |= {key for key in optional if store.partitions(key.path)}
        wanted = wanted_keys(lane, costly | optional, in_use)
        known = set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
        new = [file.name for file in files if file.name not in known]
        return dg.SensorResult(
            run_requests=[request(file, wanted) for file in files],
            # Without a file to take, the list of ticks shows what is wrong.
            skip_reason="; ".join(problems) or None if not files else None,
            dynamic_partitions_requests=[SOURCES.build_add_request(new)] if new else [],
            cursor=cursor.dump(),
        )

    return landing


def wanted_keys(
    lane: Sequence[dg.AssetKey], expensive: set[dg.AssetKey], in_use: set[dg.AssetKey]
) -> list[dg.AssetKey]:
    """The lane without expensive passes that nobody uses, and without what can only be read off them."""
    behind = _behind(expensive - in_use)
    return [key for key in lane if key not in behind]


def _behind(keys: set[dg.AssetKey]) -> set[dg.AssetKey]:
    from methods import catalog

    names = {key.to_user_string() for key in keys}
    return keys | {dg.AssetKey(["scored", i.id]) for i in catalog.INDICATORS if names & set(i.needs)}
