"""Carrying out a recipe: every row of the pool is accounted for, whatever the recipe says and the pool holds."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import catalog
from methods.kinds import Target
from methods.selection import basic, quotas
from methods.selection.choose import LEDGER_SCHEMA, Ingredients, choose
from methods.selection.recipe import parse
from methods.selection.twins import NEAR, PAIRS_SCHEMA, SAME_TEXT

NO_PAIRS = pl.DataFrame(schema=PAIRS_SCHEMA)
ROWS = {"row_id": pl.String, "source": pl.String, "position": pl.Int64, "part": pl.Int64}


def rows(*ids: str, source: str = "s") -> pl.DataFrame:
    return pl.DataFrame([(row, source, i, 0) for i, row in enumerate(ids)], schema=ROWS, orient="row")


def values(**found: float | str | None) -> pl.DataFrame:
    """A number is a value, a word is the status of a row without one, None is both missing."""
    lines = [(row, v, "ok") if isinstance(v, int | float) else (row, None, v or "ok") for row, v in found.items()]
    return pl.DataFrame(lines, schema={"row_id": pl.String, "value": pl.Float64, "status": pl.String}, orient="row")


def vector_of(row: str) -> np.ndarray:
    if row.startswith("blind"):
        return np.full(3, np.nan, np.float32)
    made = np.random.default_rng(list(row.encode())).standard_normal(3).astype(np.float32)
    return made / np.linalg.norm(made)


def data(pool: pl.DataFrame, pairs: pl.DataFrame = NO_PAIRS, vectors=vector_of, **indicators) -> Ingredients:
    return Ingredients(
        pool,
        indicators,
        pairs,
        vectors=lambda ids: np.stack([vectors(row) for row in ids]) if len(ids) else np.empty((0, 3), np.float32),
        clusters=lambda ids: np.array([len(row) % 2 for row in ids], dtype=np.int64),
        texts=lambda ids: pl.DataFrame({"prompt": [f"Say {row}." for row in ids], "response": ids.cast(pl.String)}),
        tags=lambda ids: pl.Series([[row[0], row[-1]] for row in ids], dtype=pl.List(pl.String)),
        targets=lambda: {"exam": Target(WANTED, np.eye(2, 3, dtype=np.float32))},
    )


WANTED = pl.DataFrame({"prompt": ["Say r1.", "Sing."], "response": ["r1", "la"]})


def carry_out(said: dict, given: Ingredients, budget: str | None = None, seed: int | None = None) -> pl.DataFrame:
    recipe = parse("r", {"title": "T", "selector": "random", **said})
    known = {name: catalog.indicator(name) for name in recipe.indicators}
    return choose(recipe, catalog.selector(recipe.selector), known, given, budget, seed)


def decisions(ledger: pl.DataFrame) -> dict[str, tuple]:
    return {
        row: (d, rule, reason) for row, d, rule, reason in ledger.select("row_id", "decision", "rule", "reason").rows()
    }


TOP = {"selector": "top_k", "score": {"indicators": {"mtld": 1}, "normalise": "none"}, "budget": "2"}


def test_the_best_are_taken_in_order_and_the_rest_is_told_so():
    ledger = carry_out(TOP, data(rows("a", "b", "c", "d"), mtld=values(a=1, b=4, c=3, d=2)))
    assert ledger.columns == list(LEDGER_SCHEMA)
    assert ledger["row_id"].to_list() == ["a", "b", "c", "d"]  # pool order
    assert ledger["decision"].to_list() == ["not_chosen", "selected", "selected", "not_chosen"]
    assert ledger["rank"].to_list() == [None, 1, 2, None]
    assert ledger["score"].to_list() == [1, 4, 3, 2]
    assert ledger["gain"].to_list() == [None, 4, 3, None]
    assert ledger.filter(pl.col("decision") == "not_chosen")["reason"].unique().to_list() == [
        "not among the best within the budget"
    ]


# ---- gates ------------------------------------------------------------------------------------------------------------


def test_gates_fail_closed():
    """Outside, without a value, without a line, and with a value that is none: all of them stay out, each says why."""
    found = values(a=1, b=-1, c="empty_response", d=None)
    ledger = carry_out(
        {"gates": {"mtld": {"at_least": 0}}, "budget": "9"}, data(rows("a", "b", "c", "d", "e"), mtld=found)
    )
    said = decisions(ledger)
    assert said["a"][0] == "selected"
    assert said["b"] == ("dropped", "gate mtld", "mtld: -1 is not at least 0")
    assert said["c"] == ("dropped", "gate mtld", "mtld has no value (empty_response)")
    assert said["d"] == ("dropped", "gate mtld", "mtld: no value")
    assert said["e"] == ("dropped", "gate mtld", "mtld has no value (not_scored)")


def test_not_a_number_passes_no_gate():
    found = values(a=1, b=float("nan"), c=float("inf"))
    ledger = carry_out({"gates": {"mtld": {"below": 5}}}, data(rows("a", "b", "c"), mtld=found), budget="3")
    assert ledger["decision"].to_list() == ["selected", "dropped", "dropped"]


def test_a_row_is_dropped_by_the_first_gate_that_it_fails():
    said = {"gates": {"mtld": {"above": 0}, "ttr": {"above": 0}}}
    given = data(rows("a", "b"), mtld=values(a=-1, b=1), ttr=values(a=-1, b=-1))
    assert carry_out(said, given)["rule"].to_list() == ["gate mtld", "gate ttr"]


def test_percentiles_are_those_of_the_whole_pool():
    """The second gate does not count anew among the rows that the first one let through."""
    pool = rows(*(f"r{i}" for i in range(10)))
    found = values(**{f"r{i}": i for i in range(10)})
    said = {"gates": {"mtld": {"percentile": [50, 100]}, "ttr": {"percentile": [50, 100]}}, "budget": "9"}
    ledger = carry_out(said, data(pool, mtld=found, ttr=found))
    assert ledger.filter(pl.col("decision") == "selected")["row_id"].sort().to_list() == [f"r{i}" for i in range(5, 10)]


# ---- score ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nulls", "expected"),
    [("drop", {"a": 3.0, "b": None}), ("ignore", {"a": 3.0, "b": 4.0}), ("worst", {"a": 3.0, "b": 3.0})],
)
def test_what_a_missing_value_does(nulls, expected):
    score = {"indicators": {"mtld": 1, "ttr": 1}, "normalise": "none", "nulls": nulls}
    given = data(rows("a", "b"), mtld=values(a=2, b="too_short"), ttr=values(a=4, b=4))
    ledger = carry_out({**TOP, "score": score}, given)
    assert dict(ledger.select("row_id", "score").rows()) == expected
    if nulls == "drop":
        assert decisions(ledger)["b"] == ("dropped", "no score", "mtld is too_short")


def test_a_row_without_any_value_has_no_score_under_any_policy():
    for nulls in ("drop", "ignore"):
        score = {"indicators": {"mtld": 1}, "nulls": nulls}
        ledger = carry_out({**TOP, "score": score}, data(rows("a", "b"), mtld=values(a=2, b="too_short")))
        assert decisions(ledger)["b"][:2] == ("dropped", "no score")


def test_lower_is_better_and_directions_turn():
    given = data(rows("a", "b"), excessive_word_repetition=values(a=0.1, b=0.9))
    score = {"indicators": {"excessive_word_repetition": 1}, "normalise": "none"}
    assert carry_out({**TOP, "score": score}, given, "1")["decision"].to_list() == ["selected", "not_chosen"]
    turned = {**score, "directions": {"excessive_word_repetition": "higher"}}
    assert carry_out({**TOP, "score": turned}, given, "1")["decision"].to_list() == ["not_chosen", "selected"]


# ---- duplicates -------------------------------------------------------------------------------------------------------


def near(*lines: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame([(*line, NEAR) for line in lines], schema=PAIRS_SCHEMA, orient="row")


def test_of_near_duplicates_the_better_scored_stays():
    given = data(rows("a", "b", "c"), near(("a", "b", 0.9)), mtld=values(a=1, b=2, c=0))
    ledger = carry_out({**TOP, "budget": "3"}, given)
    assert decisions(ledger)["a"] == ("dropped", "near_duplicate", "90% the same as row b, which scores better")
    assert ledger["twin"].to_list() == ["b", None, None]
    assert ledger["rank"].to_list() == [None, 1, 2]


def test_ties_and_recipes_without_a_score_keep_the_first():
    given = data(rows("a", "b"), near(("a", "b", 0.9)), mtld=values(a=1, b=1))
    assert decisions(carry_out(TOP, given))["b"][0] == "dropped"
    assert decisions(carry_out({}, given))["b"][2] == "90% the same as row a, which comes first"


def test_a_twin_that_a_gate_dropped_takes_nobody_along():
    """Near-duplicates are resolved among the rows that are left: were b dropped for a, both would be gone."""
    given = data(rows("a", "b"), near(("a", "b", 0.9)), mtld=values(a=-1, b=1), ttr=values(a=9, b=1))
    said = {"gates": {"mtld": {"above": 0}}, "score": {"indicators": {"ttr": 1}}, "selector": "top_k", "budget": "5"}
    assert carry_out(said, given)["decision"].to_list() == ["dropped", "selected"]


def test_duplicates_can_be_kept():
    given = data(rows("a", "b"), near(("a", "b", 0.9)))
    assert carry_out({"duplicates": "off", "budget": "2"}, given)["decision"].to_list() == ["selected"] * 2
    assert carry_out({"duplicates": 0.95, "budget": "2"}, given)["decision"].to_list() == ["selected"] * 2


def test_copies_stand_once_and_name_their_first_place():
    pool = pl.concat([rows("a", "b", source="one"), rows("b", "a", "c", source="two")])
    ledger = carry_out({"budget": "9"}, data(pool))
    assert ledger.select("row_id", "source", "decision", "rule").rows() == [
        ("a", "one", "selected", None),
        ("b", "one", "selected", None),
        ("b", "two", "dropped", "exact_duplicate"),
        ("a", "two", "dropped", "exact_duplicate"),
        ("c", "two", "selected", None),
    ]
    assert ledger["reason"][2] == "the same content stands in one at position 1"
    assert ledger["rank"].drop_nulls().n_unique() == 3


# ---- what a selector refuses, or cannot use -----------------------------------------------------------------------------


def test_a_refusal_is_told():
    """DEITA's filter: the second of two equal vectors is looked at and refused."""
    same = np.array([1, 0, 0], np.float32)
    said = {**TOP, "selector": "deita_repr_filter", "budget": "2"}
    given = data(rows("a", "b"), mtld=values(a=2, b=1), vectors=lambda _: same)
    ledger = carry_out(said, given)
    assert ledger["decision"].to_list() == ["selected", "not_chosen"]
    assert "a" in ledger["reason"][1] or "cosine" in ledger["reason"][1]
    assert ledger["reason"][1] != "not among the best within the budget"


def test_rows_without_an_embedding_are_dropped_where_vectors_are_read_and_only_there():
    pool = rows("blind1", "b", "c")
    ledger = carry_out({"selector": "k_center_greedy", "budget": "3"}, data(pool))
    assert decisions(ledger)["blind1"] == ("dropped", "no_embedding", "the row has no embedding")
    assert carry_out({"budget": "3"}, data(pool))["decision"].to_list() == ["selected"] * 3


def test_the_nearest_row_is_named_by_its_id():
    ledger = carry_out({"selector": "k_center_greedy", "budget": "3"}, data(rows("x", "y", "z")))
    first, *others = ledger.sort("rank")["nearest"].to_list()
    assert first is None and set(others) <= {"x", "y", "z"}


# ---- budgets and seeds --------------------------------------------------------------------------------------------------


def test_a_share_is_one_of_the_distinct_rows_before_any_gate():
    pool = pl.concat([rows(*(f"r{i}" for i in range(20))), rows("r0", "r1", source="two")])
    found = values(**{f"r{i}": i for i in range(20)})
    ledger = carry_out({"gates": {"mtld": {"at_least": 10}}, "budget": "20%"}, data(pool, mtld=found))
    assert (ledger["decision"] == "selected").sum() == 4


def test_the_run_s_budget_and_seed_replace_the_recipe_s():
    given = data(rows(*(f"r{i}" for i in range(30))))
    said = {"budget": "3", "seed": 1}
    assert (carry_out(said, given, budget="10%", seed=2)["decision"] == "selected").sum() == 3
    assert carry_out(said, given, seed=0).equals(carry_out({**said, "seed": 0}, given))
    assert not carry_out(said, given, seed=0)["rank"].equals(carry_out(said, given, seed=2)["rank"])


SELECTORS = [selector.id for selector in catalog.SELECTORS]
SINGLY = {
    "bettermixture_voting": {"voters": ["mtld", "ttr"]},
    "mods_union": {"seeds": "mtld", "necessity": "ttr"},
    "sensitivity_sampling": {"loss": "mtld", "k": None},
}


def by(selector: str) -> dict:
    """What a recipe says to choose by it: a selector of single indicators reads two."""
    said: dict = {"selector": selector, "score": {"indicators": {"mtld": 1}}}
    if selector in SINGLY:
        said |= {"reads": ["mtld", "ttr"], "params": SINGLY[selector]}
    if {"target_texts", "target_vectors"} & set(catalog.selector(selector).needs):
        said |= {"targets": ["exam"]}
    if selector == "ordered_clustering":
        said |= {"params": {"noise": "last"}}  # a few rows are no cluster
    return said


def test_what_selectors_of_single_indicators_read_is_named_here():
    assert set(SINGLY) == {selector.id for selector in catalog.SELECTORS if "values" in selector.needs}


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_pools_and_budgets_above_them(selector, n):
    ids = [f"r{i}" for i in range(n)]
    found = values(**dict.fromkeys(ids, 0.5))
    given = data(rows(*ids), mtld=found, ttr=found, vectors=lambda _: np.array([0, 1, 0], np.float32))
    for budget in ("1", "50", "100%"):
        ledger = carry_out(by(selector), given, budget=budget)
        assert ledger.height == n and ledger.schema == pl.Schema(LEDGER_SCHEMA)
        assert (ledger["decision"] == "selected").sum() <= n
        assert n == 0 or (ledger["decision"] == "selected").any()


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_pool_of_which_nothing_is_left(selector):
    none = values(a="too_short", b="too_short")
    ledger = carry_out(by(selector), data(rows("a", "b"), mtld=none, ttr=none))
    assert ledger["decision"].to_list() == ["dropped", "dropped"]


@st.composite
def cases(draw):
    n = draw(st.integers(0, 12))
    ids = [f"{draw(st.sampled_from(['r', 'blind']))}{i}" for i in range(n)]
    again = draw(st.lists(st.sampled_from(ids), max_size=4)) if ids else []
    pool = pl.concat([rows(*ids), rows(*again, source="two")])
    selector = draw(st.sampled_from(SELECTORS))
    least = 0 if selector == "sensitivity_sampling" else -3  # it refuses a loss below nought
    number = st.one_of(st.integers(least, 3).map(float), st.sampled_from([None, "too_short", float("nan")]))
    found = {name: values(**{row: draw(number) for row in ids if draw(st.integers(0, 9))}) for name in ("mtld", "ttr")}
    ends = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=8)) if ids else []
    lines = [(ids[a], ids[b], draw(st.sampled_from([0.8, 0.9]))) for a, b in {(min(e), max(e)) for e in ends} if a != b]
    said = {**by(selector), "duplicates": draw(st.sampled_from(["off", 0.8, 0.85]))}
    del said["score"]
    if draw(st.booleans()):
        said["gates"] = {"ttr": draw(st.sampled_from([{"above": 0}, {"percentile": [25, 100]}]))}
    if draw(st.booleans()) or "score" in catalog.selector(selector).needs:
        said["score"] = {
            "indicators": {"mtld": 1, "ttr": 2},
            "nulls": draw(st.sampled_from(["drop", "ignore", "worst"])),
        }
    budget = draw(st.sampled_from(["1", "3", "50", "10%", "60%", "100%"]))
    return said, data(pool, near(*lines), **found), budget, lines


@settings(deadline=None, max_examples=80)
@given(cases())
def test_rows_in_are_selected_dropped_or_not_chosen(case):
    said, given, budget, lines = case
    ledger = carry_out(said, given, budget)
    assert ledger.select(*ROWS).equals(given.rows.select(*ROWS))  # every place once, in pool order
    assert set(ledger["decision"]) <= {"selected", "dropped", "not_chosen"}
    assert ledger["reason"].null_count() == 0 and not (ledger["reason"] == "").any()
    picked = ledger.filter(pl.col("decision") == "selected")
    assert picked["row_id"].n_unique() == picked.height
    assert sorted(picked["rank"]) == list(range(1, picked.height + 1))
    distinct = given.rows["row_id"].n_unique()
    assert picked.height <= (int(budget) if budget.isdigit() else max(1, round(distinct * int(budget[:-1]) / 100)))
    others = ledger.filter(pl.col("decision") != "selected")
    assert others.select("rank", "gain", "weight", "nearest").null_count().row(0) == (others.height,) * 4
    assert all(weight > 0 and np.isfinite(weight) for weight in picked["weight"])
    dropped = ledger.filter(pl.col("decision") == "dropped")
    assert dropped["rule"].null_count() == 0
    assert ledger.filter(pl.col("decision") != "dropped")["rule"].null_count() == ledger.height - dropped.height
    gone = set(dropped.filter(pl.col("rule") != "exact_duplicate")["row_id"])
    twins = dropped.filter(pl.col("rule") == "near_duplicate")
    assert not set(twins["twin"]) & set(twins["row_id"])  # never both of a pair
    if said["duplicates"] != "off":
        left = {row for row in ledger["row_id"] if row not in gone}
        assert not [line for line in lines if line[2] >= said["duplicates"] and {line[0], line[1]} <= left]
    assert carry_out(said, given, budget).equals(ledger)


@pytest.mark.parametrize("selector", (*basic.SELECTORS, *quotas.SELECTORS), ids=lambda s: s.id)
def test_a_score_of_several_indicators_goes_into_every_selector(selector):
    """Two columns, weighted three to one and one of them turned; whatever the selector takes, it saw that score."""
    a, b = {"r0": 1.0, "r1": -1.0, "r2": 0.0}, {"r0": 0.0, "r1": -2.0, "r2": 2.0}
    given = data(rows("r0", "r1", "r2"), mtld=values(**a), excessive_word_repetition=values(**b))
    score = {"indicators": {"mtld": 0.75, "excessive_word_repetition": 0.25}, "normalise": "none"}
    recipe = replace(parse("r", {"title": "T", "selector": "top_k", "score": score}), selector=selector.id)
    known = {name: catalog.indicator(name) for name in recipe.indicators}
    ledger = choose(recipe, selector, known, given, "2")
    assert ledger["score"].to_list() == pytest.approx([0.75, -0.25, -0.5])
    assert (ledger["decision"] == "selected").sum() == 2
    if selector.id == "top_k":
        assert ledger["rank"].to_list() == [1, 2, None]


def test_a_selector_of_single_indicators_gets_them_raw_and_with_their_gaps():
    """A row stays where a value is missing, but not where a gate or near-duplicates took it; only who asks gets them."""
    seen = {}

    def look(candidates, budget, seed):
        seen.update(candidates.values)
        return basic.random(candidates, budget, seed)

    recipe = parse("r", {"title": "T", **by("mods_union"), "gates": {"polysyllable_count": {"below": 9}}})
    assert recipe.indicators == ("mtld", "polysyllable_count", "ttr")
    known = {name: catalog.indicator(name) for name in recipe.indicators}
    given = data(
        rows("a", "b", "c"),
        near(("a", "b", 0.9)),
        mtld=values(a=2, b=1, c=5),
        ttr=values(a=0.25, c="too_short"),
        polysyllable_count=values(a=3, b=4, c=8),
    )
    asking = replace(catalog.selector("random"), needs=("values",), select=look)
    ledger = choose(replace(recipe, params={}), asking, known, given, "3")
    assert ledger["decision"].to_list() == ["selected", "dropped", "selected"]
    assert {name: column.dtype for name, column in seen.items()} == dict.fromkeys(recipe.indicators, np.float64)
    np.testing.assert_array_equal([seen[name] for name in recipe.indicators], [[2, 5], [3, 8], [0.25, np.nan]])
    seen.clear()
    choose(replace(recipe, params={}), replace(asking, needs=()), known, given, "3")
    assert seen == {}


def test_seed_and_needed_rows_by_a_recipe():
    """The row that is both stands once; a row that is neither says why it stays out."""
    given = data(
        rows("a", "b", "c", "d", "e"),
        mtld=values(a="not_seed", b=2, c=1, d="not_seed", e="not_seed"),
        ttr=values(a=1.2, b=0.5, c=-1, d=0, e="not_asked"),
    )
    ledger = carry_out({**by("mods_union"), "score": None, "budget": "5"}, given)
    assert ledger["rank"].to_list() == [3, 2, 1, None, None]
    assert ledger["reason"].to_list() == [
        "needed: the tuned model's answer has a reward of -1.2, below 0",
        "seed row, rank 2",
        "seed row, rank 1",
        "no seed row; the tuned model's answer has a reward of 0, not below 0",
        "no seed row, and no reward",
    ]
    assert ledger["decision"].to_list()[3:] == ["not_chosen"] * 2


def test_groups_are_the_sources():
    """A content in two sources belongs to the first; dropped rows give nothing; the quota goes by what is left."""
    pool = pl.concat([rows("a", "b", "c", "x", source="one"), rows("a", "d", "e", source="two")])
    found = values(a=9, b=1, c=2, d=3, e=4, x="too_short")
    recipe = replace(
        parse("r", {"title": "T", **TOP, "duplicates": "off"}), params={"quotas": {"two": 0.5}}, selector="group_quota"
    )
    known = {"mtld": catalog.indicator("mtld")}
    (by_group,) = (s for s in quotas.SELECTORS if s.id == "group_quota")
    ledger = choose(recipe, by_group, known, data(pool, mtld=found), "4")
    taken = ledger.filter(pl.col("decision") == "selected").sort("rank")
    assert sorted(taken.select("row_id", "source").rows()) == [("a", "one"), ("c", "one"), ("d", "two"), ("e", "two")]
    assert taken.filter(row_id="e")["reason"].item() == "1 of 2 from two (its quota), score 4"
    assert decisions(ledger)["b"] == ("not_chosen", None, "not among the best within the budget")
    wrong = replace(recipe, params={"quotas": {"three": 0.5}})
    with pytest.raises(ValueError, match="no candidate is of group 'three'; the groups are one, two"):
        choose(wrong, by_group, known, data(pool, mtld=found), "4")


def test_params_reach_the_selector():
    recipe = parse("r", {"title": "T", "selector": "deita_repr_filter", "score": {"indicators": {"mtld": 1}}})
    near_vectors = {"a": np.array([1, 0, 0], np.float32), "b": np.array([0.8, 0.6, 0], np.float32)}
    given = data(rows("a", "b"), mtld=values(a=2, b=1), vectors=near_vectors.__getitem__)
    known = {"mtld": catalog.indicator("mtld")}
    for threshold, taken in ((0.9, 2), (0.7, 1)):
        ledger = choose(
            replace(recipe, params={"threshold": threshold}), catalog.selector(recipe.selector), known, given, "2"
        )
        assert (ledger["decision"] == "selected").sum() == taken


def test_same_text_rows_of_other_ids_are_twins():
    lines = pl.DataFrame([("a", "b", 1.0, SAME_TEXT)], schema=PAIRS_SCHEMA, orient="row")
    ledger = carry_out({"budget": "2"}, data(rows("a", "b"), lines))
    assert decisions(ledger)["b"] == ("dropped", "near_duplicate", "100% the same as row a, which comes first")
