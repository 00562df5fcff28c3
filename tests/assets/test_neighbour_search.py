"""Which search the neighbours of a pool get, what the table says of it, and that only an exact one is brought up to
date."""

from pathlib import Path

import pytest

from assets.evidence import SEARCH_DEFAULTS, how_to_search
from methods.numerics import neighbours as exact_search
from tests.house import House, alpaca, lines

KEY = "evidence/neighbours"


def facts(house: House) -> dict:
    return house.lake.manifest(KEY.split("/")).facts


def config(house: House) -> dict:
    return house.lake.manifest(KEY.split("/")).config


def said(house: House) -> list[str]:
    """What the run that made the table logged."""
    run = house.lake.manifest(KEY.split("/")).run_id
    return [entry.user_message for entry in house.instance.all_logs(run)]


ALPHA, BETA = [alpaca(i) for i in range(40)], [alpaca(i) for i in range(200, 204)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("search")
    house = House(folder / "home")
    house.make([KEY], {"a": lines(folder / "a.jsonl", ALPHA)})
    return house


@pytest.fixture
def more(tmp_path: Path) -> dict[str, Path]:
    return {"a": lines(tmp_path / "a.jsonl", ALPHA), "b": lines(tmp_path / "b.jsonl", BETA)}


def test_an_exact_search_is_brought_up_to_date(house: House, more: dict[str, Path], tmp_path: Path) -> None:
    house = house.copy(tmp_path / "home")
    assert config(house)["search"] == facts(house)["search"] == "exact" and "recall" not in facts(house)
    assert house.frame(KEY)["ids"].list.len().to_list() == [10] * 40
    house.make([KEY], more)
    assert (facts(house)["rows computed"], facts(house)["rows reused"]) == (4, 40)
    assert facts(house)["search"] == "exact"


def test_an_approximate_search_tells_its_recall_and_is_done_anew(
    house: House, more: dict[str, Path], tmp_path: Path
) -> None:
    house = house.copy(tmp_path / "home")
    exact = house.frame(KEY)
    wanted = {"search": "approximate", "recall": 0.9, "sample": 20, "seed": 3}
    made = house.make([KEY], params={"neighbours": wanted})
    assert not made.failures
    told = facts(house)
    assert told["recall"] >= told["recall floor"] == 0.9
    assert told["rows checked"] == 20 and 1 <= told["cells searched"] <= told["cells"]
    assert (told["rows computed"], told["rows reused"]) == (40, 0)
    assert any("approximate neighbours of 40 rows" in line and "recall" in line for line in said(house))
    assert {name: config(house)[name] for name in wanted} == wanted
    table = house.frame(KEY)
    assert table.columns == [*exact_search.NEIGHBOURS_SCHEMA, "status"]
    assert table.schema == exact.schema and table["row_id"].equals(exact["row_id"])
    # A pair has the cosine of the exact search, whichever search found it.
    pairs = [t.explode("ids", "similarity").select("row_id", "ids", "similarity") for t in (table, exact)]
    both = pairs[0].join(pairs[1], on=["row_id", "ids"])
    assert both.height > 200 and (both["similarity"] == both["similarity_right"]).all()

    house.make([KEY], more, params={"neighbours": wanted})
    assert (facts(house)["rows computed"], facts(house)["rows reused"]) == (44, 0)
    # What an approximate search found is nothing for an exact one to go on from.
    house.make([KEY], params={"neighbours": {"search": "exact"}})
    assert (facts(house)["rows computed"], facts(house)["rows reused"]) == (44, 0)
    house.make([KEY], params={"neighbours": {"exact_rows": 43}})
    assert config(house)["search"] == "approximate"


@pytest.mark.parametrize(
    ("given", "rows", "mode"),
    [
        ({}, SEARCH_DEFAULTS["exact_rows"], "exact"),
        ({}, SEARCH_DEFAULTS["exact_rows"] + 1, "approximate"),
        ({"search": "exact"}, 10**9, "exact"),
        ({"search": "approximate"}, 1, "approximate"),
        ({"exact_rows": 5}, 6, "approximate"),
    ],
)
def test_the_mode(given: dict, rows: int, mode: str) -> None:
    assert how_to_search(given, rows)["search"] == mode


def test_what_does_not_change_the_result_is_no_part_of_its_configuration() -> None:
    assert how_to_search({"recall": 0.5, "exact_rows": 7}, 7) == how_to_search({}, 0) == {"search": "exact"}
    assert how_to_search({"exact_rows": 7}, 8) == how_to_search({"search": "approximate"}, 8)


@pytest.mark.parametrize("given", [{"search": "hnsw"}, {"probes": 3}])
def test_what_is_no_search_is_refused(given: dict) -> None:
    with pytest.raises(ValueError, match="neighbours"):
        how_to_search(given, 10)
