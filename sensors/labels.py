"""New labels: files that people put into the home's folder ``labels`` become evidence.

Here belongs noticing them by content. Reading them is the business of `assets.humans`.

- The folder is asked for when all its files stand still: the same at two looks, so that no copy in progress is read.
- What counts are the names and contents of its files: a touched file asks for nothing, one that is taken away does.
- Each state of the folder is asked for once; a state that returns is a change like any other.
- `humans/labels` and `humans/ratings` are always made. What else reads labels is made again if it was ever made.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dagster as dg

from assets.humans import LABELS, RATINGS, labels_folder
from methods.humans.imports import label_files
from resources.fingerprint import fingerprint
from resources.tables import LakeResource
from sensors.landing import Seen, see


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers: the state that it last asked for, which change that was, and the files."""

    asked: str = ""
    change: int = 0
    seen: dict[str, Seen] = field(default_factory=dict)

    @classmethod
    def load(cls, text: str | None) -> "Cursor":
        """The cursor as Dagster kept it."""
        data = json.loads(text) if text else {}
        seen = {name: Seen(**one) for name, one in data.get("seen", {}).items()}
        return cls(data.get("asked", ""), data.get("change", 0), seen)

    def dump(self) -> str:
        """The cursor as Dagster keeps it."""
        return json.dumps(asdict(self), sort_keys=True)


def look(folder: Path, cursor: Cursor) -> tuple[bool, Cursor]:
    """Whether the folder's labels are others than were last asked for, and the cursor for the next look."""
    seen = {}
    for path in label_files(folder):
        now = see(path, cursor.seen.get(path.name))
        if now is not None:
            seen[path.name] = now
    if any(one.content is None for one in seen.values()):
        return False, Cursor(cursor.asked, cursor.change, seen)
    state = fingerprint({name: one.content for name, one in seen.items()}) if seen or cursor.asked else ""
    if state == cursor.asked:
        return False, Cursor(cursor.asked, cursor.change, seen)
    return True, Cursor(state, cursor.change + 1, seen)


def build_sensor(readers_of_labels: Iterable[dg.AssetKey], interval: int = 30) -> dg.SensorDefinition:
    """The sensor; ``readers_of_labels`` are the assets that read labels, directly or through indicators."""
    later = [key for key in readers_of_labels if key not in (LABELS, RATINGS)]

    @dg.sensor(
        name="labels",
        target=dg.AssetSelection.assets(LABELS, RATINGS, *later),
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for new or changed files in the folder of labels and reads them.",
    )
    def labels(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        changed, cursor = look(labels_folder(lake.lake), Cursor.load(context.cursor))
        keys = [LABELS, RATINGS, *(key for key in later if lake.lake.exists(key.path))]
        request = dg.RunRequest(
            run_key=f"labels@{cursor.asked}#{cursor.change}",
            asset_selection=keys,
            tags={"sluice/labels": cursor.asked},
        )
        return dg.SensorResult(run_requests=[request] if changed else [], cursor=cursor.dump())

    return labels
