"""Batches of a judge: answers that a provider has ready are fetched, and the tables that waited for them made again.

Here belongs looking after what was handed in. Handing in and collecting are `resources.judge_batch`; what an answer
means is the business of the tables.

- A batch is asked after until it has ended, whichever way; one whose handing in was broken off is looked for first.
- A table names the batches that it waits for. As soon as one of them has ended the table is asked for, once for each
  such state, with the settings that it was made with, and so are the scores that were read off it.
- Nothing is bought here: cells that a batch brought no answer to stay open until a person asks for the table.
- Where the provider cannot be reached, or the key is not set, the tick says so and the next one tries again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.judged import WAITS_FOR
from assets.scored import MADE_WITH
from assets.spending import JUDGE
from resources import prices
from resources.answers import Answers
from resources.fingerprint import fingerprint
from resources.judge_batch import HANDING_IN, Batch, Batches, Collected, client
from resources.judge_bill import store_path
from resources.judge_calls import JudgeUnavailable
from resources.lake import Lake, Manifest
from resources.tables import LakeResource

Connect = Callable[[str, str], Any]
"""A client for an address, with the key of this name."""


@dataclass(frozen=True)
class Ready:
    """A table that waited for batches which have ended."""

    key: dg.AssetKey
    source: str
    manifest: Manifest
    ended: tuple[str, ...]


def look_after(batches: Batches, home: Path, connect: Connect) -> tuple[list[Collected], list[str]]:
    """Fetch what is ready of all batches; what they brought, and what stood in the way."""
    collected: list[Collected] = []
    problems: list[str] = []
    for batch in batches.under_way():
        try:
            got = _collect(batches, batch, home, connect(batch.url, batch.key_name))
        except JudgeUnavailable as error:
            problems.append(str(error))
        except Exception as error:  # the text of a provider's error may repeat a request
            problems.append(f"batch {batch.remote or batch.id} of {batch.question}: {type(error).__name__}")
        else:
            collected += [got] if got else []
    return collected, problems


def _collect(batches: Batches, batch: Batch, home: Path, openai: Any) -> Collected | None:
    with openai:
        if batch.state == HANDING_IN:
            batches.find_again(openai, batch)
            return None  # it is asked after at the next look
        return batches.collect(openai, batch, prices.price_of(batch.model, batch.url, home))


def ready(lake: Lake, keys: Iterable[dg.AssetKey], open_batches: Iterable[str]) -> list[Ready]:
    """The tables that waited for a batch which has ended."""
    waiting, found = set(open_batches), []
    for key in keys:
        for source in lake.partitions(key.path):
            manifest = lake.manifest(key.path, source)
            ended = [name for name in (manifest.facts.get(WAITS_FOR, []) if manifest else []) if name not in waiting]
            if manifest and ended:
                found.append(Ready(key, source, manifest, tuple(ended)))
    return found


def request(lake: Lake, table: Ready, readers: Sequence[dg.AssetKey]) -> dg.RunRequest:
    """The run that takes up what arrived: the table as it was asked for, without asking anybody, and the scores that
    were read off it."""
    used = [key for key in readers if lake.exists(key.path, table.source)]
    params: dict[str, Any] = {JUDGE: {"max_calls": 0}}
    for key in used:
        manifest = lake.manifest(key.path, table.source)
        params[key.path[-1]] = {k: v for k, v in (manifest.config if manifest else {}).items() if k != MADE_WITH}
    # Last, for a question may be called like a score.
    params[str(table.manifest.config["question"])] = _own(table.manifest)
    settings = {"params": params, "all_rows": table.manifest.facts.get("coverage") == "all"}
    return dg.RunRequest(
        run_key=f"{'/'.join(table.key.path)}[{table.source}]@"
        + fingerprint([table.manifest.data_version, table.manifest.run_id, table.ended]),
        partition_key=table.source,
        asset_selection=[table.key, *used],
        run_config={"resources": {"settings": {"config": settings}}},
        tags={"sluice/source": table.source, "sluice/from": "batches"},
    )


def _own(manifest: Manifest) -> dict[str, Any]:
    """A question's parameters, but for those that name a table."""
    given = manifest.config.get("params", {})
    return {name: value for name, value in given.items() if not str(value).startswith("evidence/")}


def build_sensor(
    keys: Iterable[dg.AssetKey],
    readers: Mapping[dg.AssetKey, Sequence[dg.AssetKey]] | None = None,
    interval: int = 300,
    connect: Connect = client,
) -> dg.SensorDefinition:
    """The sensor; ``keys`` are the tables of answers, ``readers`` the scores that are read off each."""
    keys, read_by = sorted(keys), dict(readers or {})
    every = {*keys, *(key for of in read_by.values() for key in of)}

    @dg.sensor(
        name="batches",
        target=dg.AssetSelection.assets(*sorted(every)),
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fetches the answers of a judge's batches and asks for the tables that waited for them.",
    )
    def batches(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
        path = store_path(lake.lake.home)
        if not path.is_file():
            return dg.SkipReason("no judge was asked yet")
        with Answers(path) as store, Batches(path, store) as handed:
            collected, problems = look_after(handed, lake.lake.home, connect)
            open_batches = [batch.id for batch in handed.under_way()]
        for got in collected:
            context.log.info(said(got))
        for problem in problems:
            context.log.warning(problem)
        tables = ready(lake.lake, keys, open_batches)
        requests = [request(lake.lake, table, read_by.get(table.key, ())) for table in tables]
        waiting = f"{len(open_batches)} batches are under way" if open_batches else "no batch is under way"
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else "; ".join([waiting, *problems]))

    return batches


def said(got: Collected) -> str:
    """What a batch brought, for the log."""
    odd = {"failed": got.failed, "free again": got.freed, "about unknown cells": got.unknown, "told twice": got.twice}
    rest = "".join(f", {count:,} {what}" for what, count in odd.items() if count)
    return f"batch {got.batch[:8]} of {got.question} {got.state}: {got.answers:,} answers{rest}"
