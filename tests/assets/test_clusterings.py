"""Every clustering as a table: a label for each row of the pool, names and a map on the page, and nothing done twice."""

from pathlib import Path

import polars as pl
import pytest

from jobs.definitions import build_defs
from methods.diversity.clusterings import CLUSTERINGS
from tests.house import House, alpaca, lines

SAILING = [
    {"instruction": f"How do I sail to harbour {i}?", "output": f"Hoist the sail, mind the wind and steer by mast {i}."}
    for i in range(12)
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("clusterings")
    house = House(folder / "home")
    house.make(["filtered/pool"], {"a": lines(folder / "a.jsonl", [*(alpaca(i) for i in range(16)), *SAILING])})
    return house


@pytest.mark.parametrize("method", CLUSTERINGS, ids=lambda method: method.id)
def test_a_label_for_every_row(house: House, method) -> None:
    key = f"clustered/{method.id}"
    made = house.make([key])
    assert not made.failures
    table = house.frame(key)
    pool = house.frame("filtered/pool")["row_id"]
    assert table["row_id"].to_list() == pool.to_list()
    assert table["cluster"].min() >= -1
    assert table.filter(pl.col("cluster") < 0)["strength"].null_count() == (table["cluster"] < 0).sum()
    again = house.make([key])
    assert all(table.up_to_date for table in again.made)


def test_no_clustering_is_made_where_nobody_asks(tmp_path: Path) -> None:
    choose = build_defs(tmp_path).resolve_job_def("choose").asset_layer.executable_asset_keys
    assert not {tuple(key.path) for key in choose} & {("clustered", method.id) for method in CLUSTERINGS}
