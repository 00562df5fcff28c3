"""Every selector of the catalogue has a recipe that ships, and every such recipe chooses: on a small pool, end to end."""

import json

import polars as pl
import pytest

from jobs.definitions import recipes_of
from methods import catalog
from tests.house import House, conversation, lines

TRAINED = {"bettermixture", "mods"}
"""Recipes that train a model first; they have tests of their own."""
BY_CLASS = {"k_center_greedy", "deita_repr_filter", "random", "top_k"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    house = House(folder / "home")
    rows = [{**conversation(i), "tags": [f"t{i % 7}", f"u{i % 5}", f"v{i}"][: 1 + i % 3]} for i in range(40)]
    file = lines(folder / "talk.jsonl", rows)
    target = [{"instruction": f"Describe the harbour, part {i}.", "output": "Ships and bridges."} for i in range(5)]
    (house.lake.targets / "target.jsonl").write_text("".join(json.dumps(row) + "\n" for row in target))
    own = house.lake.home / "recipes"
    own.mkdir()
    said = "title: T\ndescription: d\nduplicates: off\nselector: random\nbudget: 10\n"
    (own / "by_meaning.yaml").write_text(said + "semantic_duplicates: 0.9\n")
    (own / "to_budget.yaml").write_text(said + "semantic_duplicates: to_budget\n")
    dense = "title: T\nselector: stratified\nclusters: tfidf\nbudget: 10\n"
    (own / "by_words.yaml").write_text(dense)
    names = [recipe.name for recipe in recipes_of(house.lake.home) if recipe.name not in TRAINED]
    house.make([f"selected/{name}" for name in names], {"talk": file}, budget="8")
    return house, names


def test_every_geometric_or_matching_selector_ships_with_a_recipe(tmp_path):
    used = {recipe.selector for recipe in recipes_of(tmp_path)}
    geometric = {s.id for s in catalog.SELECTORS if {"vectors", "texts", "tags"} & set(s.needs) and s.axis != "quality"}
    assert len(geometric) > 20
    assert geometric <= used | BY_CLASS, geometric - used - BY_CLASS


def test_every_shipped_recipe_chooses_and_accounts_for_every_row(made):
    house, names = made
    for name in names:
        subset, ledger = house.frame(f"selected/{name}"), house.lake.scan(["selected", "ledgers", name]).collect()
        if name == "ordered_clustering":  # stand-in vectors lie nowhere dense: all rows are noise, and it says so
            assert subset.is_empty() and ledger["reason"].str.contains("noise").all()
        else:
            assert 0 < subset.height <= 8, name
        assert subset["reason"].null_count() == 0, name
        assert ledger.height == 40, name
        decided = dict(ledger.group_by("decision").len().iter_rows())
        assert decided.get("selected", 0) == subset.height and sum(decided.values()) == 40, name


def test_gains_are_there_and_ranks_are_the_order_of_choice(made):
    house, names = made
    for name in names:
        subset = house.frame(f"selected/{name}")
        assert subset["rank"].to_list() == list(range(1, subset.height + 1)), name
        assert subset.select(pl.col("gain").is_finite().fill_null(True).all()).item(), name


def test_rows_of_one_meaning_go_for_one_that_stays(made):
    house, _ = made
    pairs = house.frame("evidence/semantic_pairs")
    assert pairs.height > 0
    ledger = house.lake.scan(["selected", "ledgers", "by_meaning"]).collect()
    gone = ledger.filter(pl.col("rule") == "semantic_duplicate")
    assert gone.height > 0
    assert gone["reason"].str.contains("means the same").all()
    assert not set(gone["twin"]) & set(gone["row_id"])  # nobody goes for one that goes
    kept = ledger.filter(pl.col("decision") != "dropped")["row_id"].implode()
    left = pairs.filter(pl.col("a").is_in(kept) & pl.col("b").is_in(kept) & (pl.col("similarity") >= 0.9))
    assert left.is_empty()


def test_the_most_alike_go_down_to_the_budget(made):
    house, _ = made
    ledger = house.lake.scan(["selected", "ledgers", "to_budget"]).collect()
    gone = ledger.filter(pl.col("rule") == "semantic_duplicate")
    assert gone.height > 0 and 40 - gone.height >= 8  # the budget of this run


def test_a_recipe_goes_by_the_clustering_that_it_names(made):
    house, _ = made
    labels = house.frame("clustered/tfidf").select("row_id", cluster="cluster")
    subset = house.frame("selected/by_words").select("row_id", "cluster")
    assert subset.join(labels, on=["row_id", "cluster"], how="semi").height == subset.height == 8
