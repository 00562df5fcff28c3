"""The IO manager: LazyFrames in, whole tables out, and errors that name the asset."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from resources.lake import Lake, LakeError, Manifest, MissingTable, Table
from resources.tables import ParquetTables, Unchanged, default_home

KEY = dg.AssetKey(["stage", "name"])
PARTS = dg.StaticPartitionsDefinition(["a", "b", "c"])


@pytest.fixture
def tables(tmp_path: Path) -> ParquetTables:
    return ParquetTables(home=str(tmp_path))


def table(*ids: str) -> Table:
    return Table(pl.DataFrame({"row_id": list(ids)}), Manifest("v1"))


def store(tables: ParquetTables, value: object, partition: str | None = None) -> None:
    context = dg.build_output_context(
        asset_key=KEY, partition_key=partition, asset_partitions_def=PARTS if partition else None
    )
    tables.handle_output(context, value)


def load(tables: ParquetTables, *partitions: str, many: bool = False) -> pl.LazyFrame:
    """As an asset downstream reads it; ``many``: as one that looks across sources."""
    if many:
        downstream = dg.AssetKey("downstream")

        @dg.asset(key=KEY, partitions_def=PARTS)
        def upstream() -> None: ...

        found: list[pl.LazyFrame] = []

        @dg.asset(key=downstream, ins={"table": dg.AssetIn(KEY, partition_mapping=dg.AllPartitionMapping())})
        def reader(table: pl.LazyFrame) -> None:
            found.append(table)

        result = dg.materialize(
            [upstream, reader], selection=[downstream], resources={"io_manager": tables}, raise_on_error=True
        )
        assert result.success
        return found[0]
    partition = partitions[0] if partitions else None
    context = dg.build_input_context(
        asset_key=KEY, partition_key=partition, asset_partitions_def=PARTS if partition else None,
        asset_partition_key_range=dg.PartitionKeyRange(partition, partition) if partition else None,
    )  # fmt: skip
    return tables.load_input(context)


def test_round_trip_is_lazy(tables):
    store(tables, table("x"))
    assert isinstance(load(tables), pl.LazyFrame)
    assert load(tables).collect().to_dicts() == [{"row_id": "x"}]


def test_one_source(tables):
    store(tables, table("x"), "a")
    store(tables, table("y"), "b")
    assert load(tables, "b").collect().to_dicts() == [{"row_id": "y", "source": "b"}]


def test_a_missing_table_is_named(tables):
    with pytest.raises(MissingTable, match="stage/name is not there yet"):
        load(tables)
    with pytest.raises(MissingTable, match="of source 'c'"):
        load(tables, "c")


def test_across_sources_those_that_are_there(tables):
    store(tables, table("x"), "c")
    store(tables, table("y"), "a")
    assert load(tables, many=True).collect().rows() == [("y", "a"), ("x", "c")]


def test_across_sources_none_is_there(tables):
    with pytest.raises(LakeError, match="holds no source yet: add one with --source NAME=FILE"):
        load(tables, many=True)


def test_unchanged_writes_nothing(tables):
    store(tables, table("x"))
    path = Lake(tables.home).path(KEY.path)
    before = path.stat().st_mtime_ns
    store(tables, Unchanged(Manifest("v1")))
    assert path.stat().st_mtime_ns == before


def test_anything_else_is_refused_before_it_replaces_a_table(tables):
    store(tables, table("x"))
    for wrong in (pl.DataFrame({"row_id": ["y"]}), None, {"a": 1}):
        with pytest.raises(LakeError, match="stage/name returned"):
            store(tables, wrong)
    assert load(tables).collect().height == 1


def test_the_home_is_the_environments_or_here(monkeypatch, tmp_path):
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path / "mine"))
    assert default_home() == tmp_path / "mine"
    monkeypatch.delenv("SLUICE_HOME")
    monkeypatch.chdir(tmp_path)
    assert default_home() == tmp_path / ".sluice"
