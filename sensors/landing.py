"""New data: a file dropped into the landing folder becomes a source, or refreshes one.

Here belongs noticing files by content and asking for the source's lane. Reading and judging the data is the lane's business.
A file is taken when it stands still: the same size at two looks, so that a copy in progress is not read in half.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from assets.partitions import SOURCES
from methods import readers
from methods.streams import KINDS
from resources.lake import NAME, Lake, Source
from resources.tables import LakeResource

EXTENSIONS = tuple(KINDS)
LAST_USED = (["evidence", "token_statistics"],)
"""Expensive passes that join a lane only once a person has asked for them somewhere: what you use is kept fresh."""


@dataclass(frozen=True)
class Landed:
    """A file in the landing folder: the source it names and a hash of its content."""

    name: str
    path: Path
    content: str


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers: the content it asked for, and the size of files it saw last."""

    asked: dict[str, str]
    sizes: dict[str, int]

    @classmethod
    def load(cls, text: str | None) -> "Cursor":
        """The cursor as Dagster kept it."""
        data = json.loads(text) if text else {}
        return cls(data.get("asked", {}), data.get("sizes", {}))

    def dump(self) -> str:
        """The cursor as Dagster keeps it."""
        return json.dumps({"asked": self.asked, "sizes": self.sizes}, sort_keys=True)


def source_name(path: Path) -> str:
    """The source that a file names: its name without the extensions."""
    name = path.name
    for suffix in (".gz", *EXTENSIONS):
        name = name.removesuffix(suffix)
    return name


def look(folder: Path, cursor: Cursor) -> tuple[list[Landed], list[str], Cursor]:
    """New or changed files that stand still, what is wrong with others, and the cursor for the next look."""
    landed: list[Landed] = []
    problems: list[str] = []
    sizes: dict[str, int] = {}
    taken: dict[str, Path] = {}
    files = (
        sorted(p for p in folder.glob("*") if p.is_file() and not p.name.startswith((".", "~")))
        if folder.is_dir()
        else []
    )
    for path in files:
        name, size = source_name(path), path.stat().st_size
        sizes[path.name] = size
        if not path.name.removesuffix(".gz").endswith(EXTENSIONS):
            problems.append(f"{path.name}: not a kind of file that can be read ({', '.join(EXTENSIONS)})")
        elif not NAME.fullmatch(name):
            problems.append(
                f"{path.name}: {name!r} cannot be a source name; rename the file to letters, digits, '.', '_' and '-'"
            )
        elif name in taken:
            problems.append(
                f"{path.name}: {taken[name].name} already names the source {name!r}; rename or remove one of them"
            )
        elif cursor.sizes.get(path.name) == size:
            taken[name] = path
            content = readers.content_hash(path)
            if cursor.asked.get(name) != content:
                landed.append(Landed(name, path, content))
    asked = {**cursor.asked, **{file.name: file.content for file in landed}}
    return landed, problems, Cursor(asked, sizes)


def request(file: Landed, lane: Sequence[dg.AssetKey]) -> dg.RunRequest:
    """The run that brings one source up to date; the same content is never asked for twice."""
    return dg.RunRequest(
        run_key=f"{file.name}@{file.content}",
        partition_key=file.name,
        asset_selection=list(lane),
        tags={"sluice/source": file.name, "sluice/content": file.content},
    )


def build_sensor(lane: Iterable[dg.AssetKey], interval: int = 30) -> dg.SensorDefinition:
    """The sensor; ``lane`` are the partitioned assets that a source passes through."""
    lane = sorted(lane)
    expensive = {dg.AssetKey(list(key)) for key in LAST_USED}

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
            store.register(Source(file.name, str(file.path)))
        in_use = {key for key in expensive if context.instance.get_latest_materialization_event(key)}
        wanted = wanted_keys(lane, expensive, in_use)
        known = set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
        new = [file.name for file in files if file.name not in known]
        return dg.SensorResult(
            run_requests=[request(file, wanted) for file in files],
            dynamic_partitions_requests=[SOURCES.build_add_request(new)] if new else [],
            cursor=cursor.dump(),
        )

    return landing


def wanted_keys(
    lane: Sequence[dg.AssetKey], expensive: set[dg.AssetKey], in_use: set[dg.AssetKey]
) -> list[dg.AssetKey]:
    """The lane without expensive passes that nobody uses, and without what can only be read off them."""
    return [key for key in lane if key not in _behind(expensive - in_use)]


def _behind(keys: set[dg.AssetKey]) -> set[dg.AssetKey]:
    from methods import catalog

    names = {key.to_user_string() for key in keys}
    return keys | {dg.AssetKey(["scored", i.id]) for i in catalog.INDICATORS if names & set(i.needs)}
