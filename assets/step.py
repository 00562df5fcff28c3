"""One step of one asset: what it reads, whether it is up to date, and how its table is published.

Here belongs what every asset does alike: find its inputs in the lake, name the data version that follows from inputs,
code and configuration, skip the work when the stored table already has that version, hold the new table against its
expectations *before* it replaces the old one, and report it to Dagster. What an asset computes stands in its stage.

A table whose contract is broken never replaces the last good one: the failed check is reported, the step fails, and
everything downstream stays as it was.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from assets import checks, metadata
from assets.expectations import SuiteResult, from_dicts
from assets.partitions import SOURCES
from resources.fingerprint import fingerprint
from resources.lake import MANIFEST, Lake, LakeError, Manifest, MissingTable, Table
from resources.progress import Progress
from resources.settings import Settings
from resources.tables import LakeResource, Unchanged

CONTRACT, STATISTICS = "contract", "statistics"
STORED = {"dagster/io_manager_key": "io_manager"}
"""Metadata of every spec of a multi-asset: its tables go through the IO manager."""


@dataclass(frozen=True)
class Result:
    """What an asset made of its inputs: the table, and what is worth telling about it."""

    data: pl.DataFrame | Path
    facts: dict[str, Any] = field(default_factory=dict)
    """Numbers kept with the table (and held against the expectations of its stage)."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What the asset's page shows besides what every page shows."""
    columns_from: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """Column lineage beyond columns of the same name: column -> (upstream key, column)."""
    beside: Mapping[tuple[str, ...], pl.DataFrame] = field(default_factory=dict)
    """Tables that belong to this one and are stored with it, such as the ledger of a selection."""


class Step:
    """The running step, seen from an asset."""

    def __init__(self, context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> None:
        self.context = context
        self.resource = lake
        self.lake: Lake = lake.lake
        self.settings = settings
        self.partition = context.partition_key if context.has_partition_key else None
        self.events: list[Any] = []

    # ---- what it reads ------------------------------------------------------------------------------------------

    def deps(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """The upstream assets of one of this step's assets, by name."""
        return sorted(self.context.assets_def.asset_deps[key], key=str)

    def known_sources(self) -> list[str]:
        """Every source there is."""
        return sorted(self.context.instance.get_dynamic_partitions(SOURCES.name or ""))

    def pool(self, key: dg.AssetKey, allowed: Sequence[str] | None = None) -> list[str]:
        """The sources that this run looks at: those named for the run (a missing one is an error), or all complete
        ones."""
        partitioned = [dep.path for dep in self.deps(key) if self.is_partitioned(dep.path)]
        named = list(self.settings.sources or allowed or [])
        if allowed:
            named = [source for source in named if source in allowed]
            if not named:
                raise LakeError(
                    f"{key.to_user_string()} looks at {', '.join(allowed)}, and this run at "
                    f"{', '.join(self.settings.sources)}: name one of the former, or change the recipe's sources"
                )
        if named:
            for source in named:
                for path in partitioned:
                    self.lake.scan(path, source)
            self._whole(partitioned, named)
            return sorted(named)  # the order in which they were named must not make another pool
        ready = [s for s in self.known_sources() if all(self.lake.exists(path, s) for path in partitioned)]
        left_out = sorted(set(self.known_sources()) - set(ready))
        if left_out:
            self.context.log.warning(
                f"left out of the pool, because their tables are not complete: {', '.join(left_out)}"
            )
        if not ready:
            raise LakeError(
                "the pool is empty: no source has been read and filtered yet; drop a file into "
                f"{self.lake.landing} or pass --source NAME=FILE"
            )
        self._whole(partitioned, ready)
        return ready

    def _whole(self, partitioned: Sequence[Sequence[str]], pool: Sequence[str]) -> None:
        """Refuse a source whose lane stopped half-way: its rows are new, and some of what is known of them is old.

        While a lane is under way that is only said: what is chosen now will be chosen again when the lane is done.
        """
        for source in pool:
            problem = half_refreshed(self.lake, partitioned, source)
            if problem is None:
                continue
            filters = dg.RunsFilter(tags={"dagster/partition": source}, statuses=list(UNDER_WAY))
            if not self.context.instance.get_runs_count(filters):
                raise LakeError(
                    f"source {source!r} is half refreshed: {problem}. Its lane failed or was run in part; run it again "
                    f"(job `lane`, partition {source!r}) before anything is chosen from it"
                )
            self.context.log.warning(f"source {source!r} is being refreshed right now: {problem}")

    def is_partitioned(self, path: Sequence[str]) -> bool:
        """Whether an upstream table is kept one file a source."""
        return bool(self.lake.partitions(path))

    def scan(self, key: str, pool: Sequence[str] | None = None) -> pl.LazyFrame:
        """An upstream table: this partition's, the pool's, or the one there is."""
        path = key.split("/")
        if pool is not None and self.is_partitioned(path):
            return self.lake.scan_sources(path, pool)
        if self.partition is not None and not self.lake.exists(path):
            return self.lake.scan(path, self.partition)
        return self.lake.scan(path)

    def previous(self, key: dg.AssetKey, config: Mapping[str, Any]) -> pl.LazyFrame | None:
        """The stored table, if its rows were computed with the very same code and configuration: they need not be
        again."""
        manifest = self.lake.manifest(key.path, self.partition)
        same = (
            manifest is not None
            and manifest.config == _plain(config)
            and manifest.code_version == self.code_version(key)
        )
        return self.lake.scan(key.path, self.partition).drop("source", strict=False) if same else None

    def made_with(self, needs: Sequence[str]) -> dict[str, Any]:
        """The code and the models behind some tables: what is read off rows that they describe changes with them."""
        found = {}
        for need in needs:
            path = need.split("/")
            manifest = self.lake.manifest(path, self.partition if self.is_partitioned(path) else None)
            if manifest:
                found[need] = {"code": manifest.code_version, **manifest.config}
        return found

    # ---- whether there is anything to do ------------------------------------------------------------------------

    def code_version(self, key: dg.AssetKey) -> str:
        """The version of the code behind an asset."""
        return self.context.assets_def.code_versions_by_key.get(key) or "1"

    def inputs(self, key: dg.AssetKey, pool: Sequence[str] | None = None) -> dict[str, str]:
        """The data version of every table that goes into an asset."""
        versions: dict[str, str] = {}
        for dep in self.deps(key):
            name = dep.to_user_string()
            if not self.is_partitioned(dep.path):
                places: list[str | None] = [None]
            else:
                places = [self.partition] if self.partition else list(pool or [])
            for place in places:
                manifest = self.lake.manifest(dep.path, place)
                if manifest is None:
                    raise MissingTable(
                        f"{key.to_user_string()} needs {name}"
                        + (f" of source {place!r}" if place else "")
                        + ": materialize it first"
                    )
                if missing := set(pool or ()) - set(manifest.facts.get("pool", pool or ())):
                    raise LakeError(
                        f"{name} was made without {', '.join(sorted(missing))}, which {key.to_user_string()} looks at: "
                        "materialize it again"
                    )
                versions[name + (f"[{place}]" if place else "")] = manifest.data_version
        return versions

    def draft(
        self,
        key: dg.AssetKey,
        config: Mapping[str, Any],
        pool: Sequence[str] | None = None,
        extra_inputs: Mapping[str, str] | None = None,
    ) -> Manifest:
        """The manifest of the table that is about to be made; its data version says what it will hold."""
        inputs = {**self.inputs(key, pool), **(extra_inputs or {})}
        code = self.code_version(key)
        config = _plain(config)
        version = fingerprint({"key": key.path, "code": code, "config": config, "inputs": inputs})
        return Manifest(
            data_version=version, code_version=code, run_id=self.context.run.run_id, inputs=inputs, config=config
        )

    def up_to_date(self, key: dg.AssetKey, draft: Manifest) -> Manifest | None:
        """The stored manifest, if the stored table is what would be computed again."""
        stored = self.lake.manifest(key.path, self.partition)
        if stored is None or stored.data_version != draft.data_version:
            return None
        if self.settings.all_rows and stored.facts.get("coverage") == "kept":
            return None
        return stored

    # ---- publishing ---------------------------------------------------------------------------------------------

    def make(
        self,
        key: dg.AssetKey,
        config: Mapping[str, Any],
        compute: Callable[[], Result],
        pool: Sequence[str] | None = None,
        extra_inputs: Mapping[str, str] | None = None,
    ) -> Iterator[Any]:
        """The whole life of one table: compute it unless it is up to date, check it, publish it."""
        draft = self.draft(key, config, pool, extra_inputs)
        stored = self.up_to_date(key, draft)
        if stored is not None:
            yield from self.unchanged(key, stored)
        else:
            yield from self.publish(key, compute(), draft)

    def unchanged(self, key: dg.AssetKey, stored: Manifest) -> Iterator[Any]:
        """Report a table that is already what it should be, with the verdicts that it was stored with."""
        suites = stored.facts.get("checks", {})
        verdicts = self._checks(key, from_dicts(suites.get(CONTRACT, [])), from_dicts(suites.get(STATISTICS, [])))
        frame = pl.scan_parquet(self.lake.path(key.path, self.partition), glob=False)
        lineage = self._lineage(key, frame, stored.facts.get("columns from", {}))
        yield dg.MaterializeResult(
            asset_key=key,
            value=Unchanged(stored),
            data_version=dg.DataVersion(stored.data_version),
            metadata={
                **metadata.of_table(frame, lineage),
                **(kept := metadata.kept(stored)),
                **metadata.of_inputs(self.lake, stored.inputs),
                **metadata.of_facts(stored.facts, kept),
                "rows computed": 0,
                "rows reused": stored.rows,
                "up to date": True,
            },
            check_results=verdicts,
        )

    def publish(self, key: dg.AssetKey, result: Result, draft: Manifest) -> Iterator[Any]:
        """Check a new table and put it in its place."""
        staged = result.data if isinstance(result.data, Path) else None
        frame = pl.scan_parquet(staged, glob=False) if staged else result.data.lazy()  # type: ignore[union-attr]
        rows = frame.select(pl.len()).collect().item()
        stored = self.lake.manifest(key.path, self.partition)
        facts = {**result.facts, "rows": rows, "rows before": stored.rows if stored else None}
        suite = checks.suite_of(key.path)
        contract, statistics = suite.run(frame, facts)
        verdicts = self._checks(key, contract, statistics)
        if not contract.passed:
            yield from verdicts
            if staged:
                staged.unlink(missing_ok=True)
            raise dg.Failure(
                description=f"the contract of {key.to_user_string()} is broken, so the last good version stays: "
                + "; ".join(contract.failures),
                allow_retries=False,
            )
        manifest = replace(draft, rows=rows, made_at=datetime.now(UTC).isoformat(timespec="seconds"), facts=facts)
        shown = {**result.metadata, **metadata.of_change(stored, manifest)}
        again = {
            "checks": {CONTRACT: contract.as_dicts(), STATISTICS: statistics.as_dicts()},
            "columns from": {name: list(pairs) for name, pairs in result.columns_from.items()},
            "shown": metadata.storable(shown),
        }
        manifest = replace(manifest, facts={**facts, **again})
        for path, table in result.beside.items():
            self.lake.write(path, self.partition, Table(table, manifest))
        data = self._with_manifest(key, staged, manifest) if staged else result.data
        yield dg.MaterializeResult(
            asset_key=key,
            value=Table(data, manifest),
            data_version=dg.DataVersion(manifest.data_version),
            metadata={
                **metadata.of_table(
                    pl.scan_parquet(data, glob=False) if isinstance(data, Path) else frame,
                    self._lineage(key, frame, result.columns_from),
                ),
                **shown,
                **metadata.of_inputs(self.lake, manifest.inputs),
                **metadata.of_facts(facts, shown),
                "up to date": False,
            },
            check_results=verdicts,
        )

    def _with_manifest(self, key: dg.AssetKey, staged: Path, manifest: Manifest) -> Path:
        import json

        sealed = self.lake.staging_path(key.path, self.partition)
        pl.scan_parquet(staged, glob=False).sink_parquet(sealed, metadata={MANIFEST: json.dumps(asdict(manifest))})
        staged.unlink(missing_ok=True)
        return sealed

    def _checks(self, key: dg.AssetKey, contract: SuiteResult, statistics: SuiteResult) -> list[dg.AssetCheckResult]:
        """The verdicts of those checks that this run asks for; reported after the table, so that they are about it."""
        selected = {check.name for check in self.context.selected_asset_check_keys if check.asset_key == key}
        verdicts = [contract.check(key, CONTRACT, blocking=True), statistics.check(key, STATISTICS, blocking=False)]
        return [verdict for verdict in verdicts if verdict.check_name in selected]

    def _lineage(
        self, key: dg.AssetKey, frame: pl.LazyFrame, extra: Mapping[str, Sequence[tuple[str, str]]]
    ) -> dg.TableColumnLineage:
        upstream: dict[str, list[str]] = {}
        for dep in self.deps(key):
            place = next(iter(self.lake.partitions(dep.path)), None)
            if self.lake.exists(dep.path, place):
                upstream[dep.to_user_string()] = list(pl.read_parquet_schema(self.lake.path(dep.path, place)))
        return metadata.column_lineage(frame.collect_schema().names(), upstream, extra)

    def progress(self, what: str, total: int, unit: str = "rows") -> Progress:
        """A piece of long work that tells how far it is."""
        where = f" of {self.partition}" if self.partition else ""
        return Progress(what + where, total, unit, log=self.context.log.info)


UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)
"""The states of a run that may still write."""


def half_refreshed(lake: Lake, tables: Sequence[Sequence[str]], source: str) -> str | None:
    """Which of a source's tables was made from something older than what is there now, in words; None if all fit.

    The file itself is left out: one that could not be read or filtered leaves the source as it was, all of a piece.
    """
    todo, seen = [tuple(table) for table in tables], set[tuple[str, ...]]()
    while todo:
        table = todo.pop()
        manifest = lake.manifest(table, source)
        if table in seen or manifest is None:
            continue
        seen.add(table)
        for name, version in manifest.inputs.items():
            upstream = tuple(name.removesuffix(f"[{source}]").split("/"))
            if not name.endswith(f"[{source}]") or upstream[0] == "raw":
                continue
            now = lake.manifest(upstream, source)
            if now is None or now.data_version != version:
                return f"{'/'.join(table)} was made from an older {'/'.join(upstream)}"
            todo.append(upstream)
    return None


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as JSON gives it back, so that a stored one compares equal."""
    import json

    return json.loads(json.dumps(config, sort_keys=True, default=str))


def check_specs(key: Sequence[str], partitions: dg.PartitionsDefinition | None = None) -> list[dg.AssetCheckSpec]:
    """The two checks that every table has; where it has a part for each source, the statistics are told for each.

    The contract is not partitioned: the automation conditions ask for the latest verdict, and one that is broken for
    a source leaves that source's last good table where it is.
    """
    with warnings.catch_warnings():
        # Partitions of checks are in preview. They are shown by the UI alone; without them the last source's verdict
        # hides the others'.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                CONTRACT,
                asset=dg.AssetKey(list(key)),
                blocking=True,
                description="Schema, keys, ranges and counts: a table that breaks them never replaces the last "
                "good one.",
            ),
            dg.AssetCheckSpec(
                STATISTICS,
                asset=dg.AssetKey(list(key)),
                partitions_def=partitions,
                description="Shares and drift that are worth a look; they stop nothing.",
            ),
        ]
