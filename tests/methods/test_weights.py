"""What a chosen row counts for in training: told by the selector, kept in the ledger, 1 where nothing is said."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import catalog
from methods.kinds import Candidates, Chosen, Selector
from methods.selection.choose import Ingredients, choose
from methods.selection.recipe import parse
from methods.selection.twins import PAIRS_SCHEMA

ROWS = {"row_id": pl.String, "source": pl.String, "position": pl.Int64, "part": pl.Int64}
WEIGHING = {"cluster_clip": {"clip": 3}, "sensitivity_sampling": {"loss": "mtld"}}


def data(n: int, losses: list[float] | None = None, again: int = 0, clusters: str = "") -> Ingredients:
    """Rows on a circle, three clusters in turn; the first ``again`` of them stand in a second source too."""
    labels = clusters or "012" * n
    places = [(f"r{i}", "one", i, 0) for i in range(n)] + [(f"r{i}", "two", i, 0) for i in range(again)]
    losses = losses or [1.0] * n
    angles = np.linspace(0, 3, max(n, 1))
    ring = {f"r{i}": (np.cos(a), np.sin(a)) for i, a in enumerate(angles)}
    return Ingredients(
        pl.DataFrame(places, schema=ROWS, orient="row"),
        {"mtld": pl.DataFrame({"row_id": [f"r{i}" for i in range(n)], "value": losses, "status": "ok"})},
        pl.DataFrame(schema=PAIRS_SCHEMA),
        vectors=lambda ids: np.array([ring[row] for row in ids], np.float32).reshape(-1, 2),
        clusters=lambda ids: np.array([int(labels[int(row[1:])]) for row in ids], np.int64),
    )


def ledger_of(selector: Selector, given: Ingredients, budget: str, seed: int = 0, **params: object) -> pl.DataFrame:
    recipe = replace(parse("r", {"title": "T", "selector": "random"}), reads=("mtld",), params=params)
    return choose(recipe, selector, {"mtld": catalog.indicator("mtld")}, given, budget, seed)


def by(weight: object, refused: int | None = None) -> Selector:
    """Takes the first rows as they come, and says this of their weight."""

    def select(candidates: Candidates, budget: int, seed: int) -> Chosen:
        order = np.arange(budget, dtype=np.int64)
        said = {} if refused is None else {refused: "not this one"}
        return Chosen(order, np.zeros(budget), ["taken"] * budget, refused=said, weight=weight)

    return replace(catalog.selector("random"), id="made_up", needs=(), select=select)


def test_a_row_counts_for_one_where_the_selector_says_nothing():
    ledger = ledger_of(by(None, refused=3), data(4), "2")
    assert ledger["weight"].to_list() == [1, 1, None, None]
    assert ledger.filter(pl.col("decision") == "not_chosen")["reason"].to_list() == [
        "not among the best within the budget",
        "not this one",
    ]


def test_weights_stand_beside_their_rows_and_copies_have_none():
    ledger = ledger_of(by(np.array([2, 5])), data(3, again=2), "2")
    assert ledger["weight"].dtype == pl.Float64
    assert ledger.select("row_id", "source", "weight").rows() == [
        ("r0", "one", 2),
        ("r1", "one", 5),
        ("r2", "one", None),
        ("r0", "two", None),
        ("r1", "two", None),
    ]


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0], [1.0]]])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="selector made_up: every chosen row needs a weight"):
        ledger_of(by(np.array(wrong)), data(3), "2")


def test_repetitions_of_a_clip_are_weights():
    """Clusters of 6, 2 and 1 rows share 9 looks, no row has more than two: 4, 3 and 2."""
    given_ = data(9, clusters="000000112")
    ledger = ledger_of(catalog.selector("cluster_clip"), given_, "9", clip=2)
    weights = ledger["weight"].fill_null(0).to_list()
    assert sorted(weights[:6]) == [0, 0, 1, 1, 1, 1] and sorted(weights[6:8]) == [1, 2] and weights[8] == 2
    assert ledger["weight"].to_list() == ledger["gain"].to_list()
    single = ledger_of(catalog.selector("cluster_clip"), given_, "9", clip=1)
    assert single["weight"].to_list() == [1] * 9


def test_weights_of_a_draw_make_up_for_its_chances():
    """All rows drawn without replacement count for 1; drawn with it, every draw stands for 1 / (b p)."""
    one = catalog.selector("sensitivity_sampling")
    whole = ledger_of(one, data(6, [1.0, 2, 3, 4, 5, 6]), "6", loss="mtld", replacement=False)
    assert whole["weight"].to_list() == [1] * 6
    drawn = ledger_of(one, data(6, [2.0] * 6), "4", loss="mtld", scale=0.0)  # p = 1/6 each: 1.5 a draw
    assert np.array(drawn["weight"].drop_nulls()) % 1.5 == pytest.approx(0)
    assert drawn["weight"].sum() == pytest.approx(6)


@pytest.mark.parametrize(
    "name", [s.id for s in catalog.SELECTORS if {*s.needs} <= {"score", "vectors", "clusters", "values"}]
)
@settings(deadline=None, max_examples=6)
@given(st.lists(st.floats(0, 50), min_size=1, max_size=12), st.integers(1, 15), st.integers(0, 5))
def test_a_selector_weighs_each_chosen_row_or_none(name, losses, budget, seed):
    selector, n = catalog.selector(name), len(losses)
    given_ = data(n, losses)
    candidates = Candidates(
        row_ids=given_.rows["row_id"],
        score=np.array(losses),
        vectors=given_.vectors(given_.rows["row_id"]),
        clusters=given_.clusters(given_.rows["row_id"]),
        values={"mtld": np.array(losses), "ttr": np.arange(n, dtype=np.float64)},
    )
    params = WEIGHING.get(name) or {
        "bettermixture_voting": {"voters": ["mtld", "ttr"]},
        "mods_union": {"seeds": "mtld", "necessity": "ttr"},
    }.get(name, {})
    found = selector.select(candidates, min(budget, n), seed, **params)
    assert (found.weight is not None) == (name in WEIGHING)
    if found.weight is not None:
        assert found.weight.dtype == np.float64 and found.weight.shape == found.order.shape
        assert np.isfinite(found.weight).all() and (found.weight > 0).all()
