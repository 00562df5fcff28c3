"""Labels on the way back: files of one label a line, and the exports of Label Studio and Argilla.

Here belongs reading files that people sent. A line that cannot be read is named by file and line and holds nobody up;
what the labels mean stands in `methods.quality.human`. No message holds what was read: it may be a row's text.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from methods.humans.exports import FLAGS, NO, YES
from methods.quality.human import DIMENSIONS, LABEL_SCHEMA, RANK, STEPS, canonical

EXTENSIONS = (".jsonl", ".json", ".csv")
PROBLEM_SCHEMA = pl.Schema({"file": pl.String(), "line": pl.Int64(), "detail": pl.String()})
_NAMES = {
    "row_id": ("row_id", "sample", "sample_id"),
    "rater": ("rater", "annotator", "rater_id"),
    "dimension": ("dimension", "dim"),
    "value": ("value",),
    "timestamp": ("timestamp", "ts", "time"),
    "group": ("group",),
    "steps": ("steps", "scale"),
}
_LIKERT = {dimension.name for dimension in DIMENSIONS if dimension.kind == "likert"}
_YES_NO = {dimension.name for dimension in DIMENSIONS if dimension.kind == "yes_no"}
_FLAG_NAMES = [dimension.name for dimension in DIMENSIONS if dimension.kind == "flag"]
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
LONGEST = 200
"""Characters of a name: anything longer is no name."""


class BadLabel(ValueError):
    """A label that cannot be used; the message says why, without quoting it."""


@dataclass(frozen=True)
class Imported:
    """The labels of some files (`LABEL_SCHEMA`), and what could not be read (`PROBLEM_SCHEMA`)."""

    labels: pl.DataFrame
    problems: pl.DataFrame


Label = tuple[str, str, str, str | None, float, datetime | None]
"""row_id, rater, dimension, group, value, timestamp."""


# ---- one label -----------------------------------------------------------------------------------------------------


def _name(value: Any, what: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadLabel(f"there is no {what}")
    if len(value) > LONGEST:
        raise BadLabel(f"the {what} is longer than {LONGEST} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadLabel(f"the {what} is no valid text") from error
    return value.strip()


def _number(value: Any) -> float:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            value = float(word)
        except ValueError as error:
            raise BadLabel("the value is no number, and neither yes nor no") from error
    if not isinstance(value, int | float):
        raise BadLabel("there is no value")
    try:
        number = float(value)
    except OverflowError as error:
        raise BadLabel("the value is not finite") from error
    if not math.isfinite(number):
        raise BadLabel("the value is not finite")
    return number


def _time(value: Any) -> datetime | None:
    """ISO 8601 (without a zone: UTC), or seconds or milliseconds since 1970; None where there is none."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and not value.strip().replace(".", "", 1).isdigit():
            said = datetime.fromisoformat(value.strip().replace(" UTC", "Z"))
            return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
        seconds = float(value)
        return datetime.fromtimestamp(seconds / 1000 if abs(seconds) > 1e11 else seconds, UTC)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise BadLabel("the timestamp is no ISO 8601 time and no number of seconds") from error


def _scaled(value: float, steps: Any) -> float:
    """A value between 0 and 1: as it is, or a step from 1 to ``steps``."""
    if steps in (None, ""):
        if not 0 <= value <= 1:
            raise BadLabel(
                "the value does not lie between 0 and 1; a step of a scale says how many there are (`steps`: 5)"
            )
        return value
    n = _number(steps)
    if n < 2 or n != int(n):
        raise BadLabel("`steps` is no whole number above 1")
    if not 1 <= value <= n:
        raise BadLabel("the value is no step of its scale")
    return (value - 1) / (n - 1)


def _plain(record: Mapping[str, Any]) -> list[Label]:
    """One label a line."""
    found = {ours: next((record[name] for name in names if name in record), None) for ours, names in _NAMES.items()}
    row, rater = _name(found["row_id"], "row_id"), _name(found["rater"], "rater")
    dimension, value = _name(found["dimension"], "dimension"), _number(found["value"])
    when = _time(found["timestamp"])
    if dimension == RANK:
        if value < 1:
            raise BadLabel("a rank is a place from 1")
        return [(row, rater, RANK, _name(found["group"], "group of the ranking"), value, when)]
    return [(row, rater, *_named(dimension, _scaled(value, found["steps"])), when)]


def _named(dimension: str, value: float) -> tuple[str, str | None, float]:
    name, value = canonical(dimension, value)
    return name, None, value


# ---- Label Studio --------------------------------------------------------------------------------------------------


def _answer(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The labels in the answer to one question, as either tool keeps it: a step, a word, a list of flags."""
    if name == FLAGS:
        ticked = value if isinstance(value, list) else [value] if isinstance(value, str) else []
        yield from ((flag, float(flag in ticked)) for flag in _FLAG_NAMES)
    elif name in _YES_NO:
        word = value[0] if isinstance(value, list) and value else value
        if word not in (YES, NO):
            raise BadLabel(f"{name} is neither {YES} nor {NO}")
        yield name, float(word == YES)
    elif name in _LIKERT:
        yield name, _scaled(_number(value), STEPS)


def _label_studio(record: Mapping[str, Any]) -> list[Label]:
    """A task with its annotations (the export called JSON)."""
    row = _name(_dict(record.get("data"), "data").get("row_id"), "row_id in the task's data")
    labels: list[Label] = []
    for annotation in _list(record["annotations"], "annotations"):
        annotation = _dict(annotation, "annotation")
        if annotation.get("was_cancelled"):
            continue  # skipped by the rater
        who = annotation.get("completed_by")
        rater = "label-studio-" + _name(who.get("id") if isinstance(who, dict) else who, "completed_by")
        when = _time(annotation.get("updated_at") or annotation.get("created_at"))
        answers: dict[str, Any] = {}
        for part in _list(annotation.get("result"), "result"):
            part = _dict(part, "result")
            value = _dict(part.get("value"), "value of a result")
            answers[str(part.get("from_name"))] = value.get("choices", value.get("rating"))
        labels += _answered(row, rater, when, answers)
    return labels


def _label_studio_min(record: Mapping[str, Any]) -> list[Label]:
    """An annotation by itself (the exports called JSON-MIN and CSV)."""
    rater = "label-studio-" + _name(record.get("annotator"), "annotator")
    answers = dict(record)
    if isinstance(answers.get(FLAGS), str):
        answers[FLAGS] = _choices(answers[FLAGS])
    elif isinstance(answers.get(FLAGS), dict):
        answers[FLAGS] = answers[FLAGS].get("choices")
    when = _time(record.get("updated_at") or record.get("created_at"))
    return _answered(_name(record.get("row_id"), "row_id"), rater, when, answers)


def _choices(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return [text]
    return list(found.get("choices", [])) if isinstance(found, dict) else [str(found)]


def _answered(row: str, rater: str, when: datetime | None, answers: Mapping[str, Any]) -> list[Label]:
    """The labels of one rater's answers; no flag ticked where other questions were answered means that none applies."""
    known = {n: v for n, v in answers.items() if n in _LIKERT | _YES_NO | {FLAGS} and v not in (None, "", [])}
    if known:
        known.setdefault(FLAGS, [])
    return [(row, rater, *_named(d, value), when) for name in sorted(known) for d, value in _answer(name, known[name])]


# ---- Argilla -------------------------------------------------------------------------------------------------------


def _argilla(record: Mapping[str, Any]) -> list[Label]:
    """A record with its responses: by question, or (before version 2) by rater."""
    metadata = record.get("metadata")
    row = _name(record.get("id") or (metadata or {}).get("row_id"), "id of the record")
    when = _time(record.get("updated_at"))
    answers: dict[str, dict[str, Any]] = {}
    responses = record["responses"]
    if isinstance(responses, list):
        for response in responses:
            response = _dict(response, "response")
            if response.get("status", "submitted") == "submitted":
                values = _dict(response.get("values"), "values of a response")
                given = {name: _dict(value, "value").get("value") for name, value in values.items()}
                answers.setdefault(_name(response.get("user_id"), "user_id"), {}).update(given)
    else:
        for question, said in _dict(responses, "responses").items():
            for response in _list(said, "responses to a question"):
                response = _dict(response, "response")
                if response.get("status") in (None, "submitted"):
                    answers.setdefault(_name(response.get("user_id"), "user_id"), {})[question] = response.get("value")
    return [label for user, given in answers.items() for label in _answered(row, f"argilla-{user}", when, given)]


def _dict(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadLabel(f"{what} is not what the export of the tool has there")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadLabel(f"{what} is not what the export of the tool has there")
    return value


# ---- files ---------------------------------------------------------------------------------------------------------


def labels_in(record: Any) -> list[Label]:
    """All labels of one record of whatever format, or `BadLabel`."""
    if not isinstance(record, dict):
        raise BadLabel("it is no JSON object")
    if "annotations" in record and "data" in record:
        return _label_studio(record)
    if "annotation_id" in record:
        return _label_studio_min(record)
    if "responses" in record and "fields" in record:
        return _argilla(record)
    return _plain(record)


def _records(name: str, text: str) -> Iterator[tuple[int, Any]]:
    """The records of a file with their lines (of a JSON list: their numbers); `BadLabel` in place of a bad one."""
    suffix = Path(name).suffix.lower()
    if suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            for record in reader:
                record.pop(None, None)  # type: ignore[call-overload]
                yield reader.line_num, record
        except csv.Error:
            yield reader.line_num, BadLabel("the rest of the file is no CSV")
        return
    whole = None
    if suffix == ".json":
        try:
            whole = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            whole = None
    if isinstance(whole, list):
        yield from enumerate(whole, 1)
    elif whole is not None:
        yield 1, whole
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (json.JSONDecodeError, RecursionError):
                    yield number, BadLabel("it is no JSON")


def read_text(name: str, content: bytes) -> Imported:
    """The labels of a file's content."""
    if Path(name).suffix.lower() not in EXTENSIONS:
        return Imported(
            pl.DataFrame(schema=LABEL_SCHEMA),
            _problems([(name, None, f"labels are read from {', '.join(EXTENSIONS)}")]),
        )
    lines, problems = [], []
    # What is no UTF-8 spoils its own line only: it becomes a lone surrogate, which no name may hold.
    for number, record in _records(name, content.decode("utf-8-sig", "surrogateescape")):
        try:
            if isinstance(record, BadLabel):
                raise record
            lines += [(*label, name, number) for label in labels_in(record)]
        except BadLabel as error:
            problems.append((name, number, str(error)))
    order = ["row_id", "rater", "dimension", "group", "value", "timestamp", "file", "line"]
    table = pl.DataFrame(lines, schema={column: LABEL_SCHEMA[column] for column in order}, orient="row")
    return Imported(table, _problems(problems))


def _problems(lines: Iterable[tuple[str, int | None, str]]) -> pl.DataFrame:
    return pl.DataFrame(list(lines), schema=PROBLEM_SCHEMA, orient="row")


def label_files(folder: Path) -> list[Path]:
    """The files of a folder that hold labels, by name."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "~")))
    return sorted(path for path in files if path.suffix.lower() in EXTENSIONS)


def read_folder(folder: Path) -> Imported:
    """The labels of all files of a folder, in the order of their names."""
    read = [read_text(path.name, path.read_bytes()) for path in label_files(folder)]
    return Imported(
        pl.concat([pl.DataFrame(schema=LABEL_SCHEMA), *(one.labels for one in read)]),
        pl.concat([pl.DataFrame(schema=PROBLEM_SCHEMA), *(one.problems for one in read)]),
    )
