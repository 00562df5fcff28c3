"""Semantic pairs as evidence: every pair by id, only new rows compared when rows come, and the page."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assets.embedded import vectors_of
from assets.semantic import COMPARED
from methods.filters import semantic
from methods.numerics.similarity import cosines
from resources.lake import Table
from resources.tables import LakeResource
from tests.house import Encoder, House, alpaca, lines, prose

KEY = "evidence/semantic_pairs"


class Forgetful(Encoder):
    """To this encoder, texts that differ in the number of their copy are the same."""

    model: str = "fake:forgetful"

    def encode(self, texts, *args, **kwargs):
        return super().encode([text.partition(" Copy ")[0] for text in texts], *args, **kwargs)


def near(i: int) -> dict[str, str]:
    """Nearly row i, to a stand-in encoder that goes by words."""
    return {**alpaca(i), "output": prose(i) + " So it ends."}


def brute(house: House, threshold: float = semantic.THRESHOLD) -> dict[tuple[str, str], float]:
    """Every pair of the pool, from one product."""
    pool = house.frame("filtered/pool")["row_id"].to_list()
    vectors = vectors_of(LakeResource(home=str(house.lake.home)), Encoder()).read(pool)
    alike = cosines(vectors, vectors)
    return {(pool[i], pool[j]): alike[i, j] for i, j in np.argwhere(np.triu(alike >= threshold, 1))}


def listed(house: House) -> dict[tuple[str, str], float]:
    return {(a, b): s for a, b, s in house.frame(KEY).select("a", "b", "similarity").iter_rows()}


def told(house: House) -> dict[str, object]:
    return house.lake.manifest(KEY.split("/")).facts


def sources_of(house: House) -> dict[str, Path]:
    return {source.name: Path(source.path) for source in house.lake.sources()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("semantic")
    house = House(folder / "home")
    sources = {
        "a": lines(folder / "a.jsonl", [alpaca(i) for i in range(20)]),
        "b": lines(folder / "b.jsonl", [*(near(i) for i in range(4)), *(alpaca(i) for i in range(30, 36))]),
    }
    assert not house.make([KEY], sources).failures
    return house


def test_every_pair_by_id(made: House) -> None:
    want = brute(made)
    assert len(want) >= 4 and listed(made) == want
    assert made.frame(KEY)["kind"].unique().to_list() == [semantic.SEMANTIC]
    assert told(made)["rows computed"] == 30 and told(made)["rows reused"] == 0
    assert told(made)["ids not in pool"] == 0 and told(made)["pairs of a row with itself"] == 0
    assert made.lake.scan(COMPARED).collect()["row_id"].to_list() == made.frame("filtered/pool")["row_id"].to_list()


def test_the_page_tells_what_each_threshold_leaves_and_shows_both_texts(made: House) -> None:
    shown = told(made)["shown"]
    left = shown["rows left by threshold"]
    assert left["columns"][:2] == ["threshold", "left"]
    pool, pairs = made.frame("filtered/pool")["row_id"], made.frame(KEY)
    for threshold, rows in ((float(row[0]), int(row[1])) for row in left["rows"]):
        assert rows == semantic.drop_at(pool, pairs, threshold).left
    similarity, kind, texts = shown["most similar pairs"]["rows"][0]
    best = pairs.sort("similarity", descending=True).row(0, named=True)
    assert kind == "semantic" and float(similarity) == pytest.approx(best["similarity"], abs=1e-4)
    assert best["a"] in texts and best["b"] in texts and "Write about topic" in texts
    by_source = {row[0]: row[1:] for row in shown["dropped by source at the lowest threshold"]["rows"]}
    gone = semantic.drop_at(pool, pairs, semantic.THRESHOLD).dropped.height
    assert set(by_source) == {"a", "b"} and sum(int(row[1]) for row in by_source.values()) == gone


def test_the_same_again_computes_nothing(made: House) -> None:
    (again,) = [table for table in made.make([KEY]).made if table.key == KEY]
    assert again.up_to_date


def test_new_rows_alone_are_compared_and_rows_that_go_take_their_pairs_along(made: House, tmp_path: Path) -> None:
    house = made.copy(tmp_path / "home")
    # A source that stands first in the pool: its rows are the earlier ones of their pairs.
    sources = {"0": lines(tmp_path / "more.jsonl", [near(7), alpaca(50)]), "a": sources_of(house)["a"]}
    assert not house.make([KEY], sources).failures
    assert told(house)["rows computed"] == 2 and told(house)["rows reused"] == 20
    assert listed(house) == brute(house)
    first = house.frame("filtered/pool")["row_id"][0]
    assert house.frame(KEY).filter(pl.col("a") == first).height >= 1


def test_a_list_of_rows_that_is_not_of_these_pairs_is_not_trusted(made: House, tmp_path: Path) -> None:
    house = made.copy(tmp_path / "home")
    other = house.lake.manifest(["filtered", "pool"])
    house.lake.write(COMPARED, None, Table(house.lake.scan(COMPARED).collect(), other))
    assert not house.make([KEY], {"b": sources_of(made)["b"]}).failures
    assert told(house)["rows computed"] == 10 and listed(house) == brute(house)


def test_the_threshold_is_a_parameter(made: House, tmp_path: Path) -> None:
    house = made.copy(tmp_path / "home")
    assert not house.make([KEY], params={"semantic_pairs": {"threshold": 0.95}}).failures
    assert listed(house) == brute(house, 0.95) and told(house)["rows computed"] == 30
    assert len(brute(house, 0.95)) < len(brute(house))


def test_rows_of_one_vector_and_one_that_eats_a_source(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    again = [{**alpaca(1), "output": f"{prose(1)} Copy {i}."} for i in range(12)]
    sources = {"a": lines(tmp_path / "a.jsonl", [*again, *(alpaca(i) for i in range(2, 20))])}
    assert not house.make([KEY], sources, encoder=Forgetful()).failures
    pairs = house.frame(KEY).filter(pl.col("kind") == semantic.SAME_VECTOR)
    assert pairs.height == 11 and pairs["a"].n_unique() == 1 and set(pairs["similarity"]) == {1.0}
    assert told(house)["rows of the same vector"] == 11 and told(house)["alarms"] >= 1
    source, rows, _, text = told(house)["shown"]["rows that eat a source"]["rows"][0]
    assert source == "a" and int(rows) >= 11 and "Write about topic" in text
