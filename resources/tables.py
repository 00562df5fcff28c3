"""The lake as Dagster sees it: a resource that knows the home, and the IO manager of all Parquet tables.

Here belongs only the translation between Dagster's contexts and `resources.lake`. A LazyFrame goes into every asset; a
`Table` (or `Unchanged`) comes out.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from resources.lake import Lake, LakeError, Manifest, Table
from resources.vectors import VectorStore


def default_home() -> Path:
    """``SLUICE_HOME``, or ``.sluice`` in the current folder."""
    return Path(os.environ.get("SLUICE_HOME") or ".sluice").absolute()


class LakeResource(dg.ConfigurableResource):
    """The home folder. Replaced in tests by a temporary one."""

    home: str

    @property
    def lake(self) -> Lake:
        """The lake in this home."""
        return Lake(self.home)

    def vectors(self, name: str, identity: dict[str, Any]) -> VectorStore:
        """The vectors of one encoder."""
        return VectorStore(self.lake.root / "vectors", name, identity)


@dataclass(frozen=True)
class Unchanged:
    """Handed to the IO manager by an asset that found its stored table up to date: nothing is written."""

    manifest: Manifest


class ParquetTables(dg.ConfigurableIOManager):
    """One Parquet file an asset (and source); LazyFrames in, atomic replacement out."""

    home: str

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store what an asset made."""
        if isinstance(obj, Unchanged):
            return
        if not isinstance(obj, Table):
            raise LakeError(
                f"{context.asset_key.to_user_string()} returned {type(obj).__name__}; an asset hands over a Table"
            )
        Lake(self.home).write(
            context.asset_key.path, context.partition_key if context.has_asset_partitions else None, obj
        )

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame:
        """The upstream table: one source's, or all sources' together with a ``source`` column."""
        lake, key = Lake(self.home), context.asset_key.path
        if not context.has_asset_partitions:
            return lake.scan(key)
        wanted = list(context.asset_partition_keys)
        if context.has_partition_key or len(wanted) == 1:
            return lake.scan_sources(key, wanted)
        there = [source for source in wanted if lake.exists(key, source)]
        if not there:
            raise LakeError(
                f"{'/'.join(key)} holds no source yet: add one with --source NAME=FILE or drop a file into "
                f"{lake.landing}"
            )
        return lake.scan_sources(key, there)
