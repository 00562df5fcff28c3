"""Recipes as text: what they may say, and an error that names file and field for what they may not."""

from pathlib import Path

import polars as pl
import pytest

from methods.selection.recipe import RecipeError, budget_rows, check_budget, load_folder, parse

SHIPPED = Path(__file__).resolve().parents[2] / "jobs" / "recipes"
LEAST = {"title": "T", "selector": "random"}
SCORED = {"title": "T", "selector": "top_k", "score": {"indicators": {"mtld": 1}}}


def with_score(**score):
    return {**SCORED, "score": {"indicators": {"mtld": 1.0}, **score}}


def test_the_least_that_a_recipe_says_and_what_follows():
    recipe = parse("least", LEAST)
    assert (recipe.budget, recipe.seed, recipe.duplicates, recipe.sources) == ("10%", 0, 0.75, ())
    assert recipe.indicators == () and recipe.score is None
    assert recipe.rule() == "drop near-duplicates (Jaccard ≥ 0.75); select by random; budget 10%, seed 0"


def test_a_recipe_in_full_is_read_as_it_is_documented():
    said = {
        "title": "T", "description": "D", "sources": ["b", "a", "b"], "duplicates": "off",
        "gates": {"ifd": {"below": 1.0}, "response_length": {"percentile": [5, 100]}},
        "score": {"indicators": {"mtld": 1, "response_length": 2}, "targets": {"response_length": [50, 300]},
                  "normalise": "rank", "mode": "sum", "nulls": "worst"},
        "selector": "deita_repr_filter", "params": {"threshold": 0.8}, "budget": 50, "seed": 3,
    }  # fmt: skip
    recipe = parse("full", said)
    assert recipe.indicators == ("ifd", "mtld", "response_length")
    assert (recipe.sources, recipe.duplicates, recipe.budget, recipe.seed) == (("b", "a"), None, "50", 3)
    assert recipe.score.indicators == {"mtld": 1.0, "response_length": 2.0}
    assert parse("full", said).as_dict() == recipe.as_dict()
    assert "gate ifd below 1.0" in recipe.rule() and "near-duplicates" not in recipe.rule()


def test_indicators_as_a_list_weigh_the_same():
    assert parse("r", with_score(indicators=["mtld", "ttr"])).score.indicators == {"mtld": 1.0, "ttr": 1.0}


def test_what_a_selector_reads_singly_is_part_of_the_lineage_and_said():
    said = {"title": "T", "selector": "mods_union", "reads": ["ttr", "mtld", "ttr"], "gates": {"ifd": {"below": 1}}}
    recipe = parse("r", {**said, "params": {"seeds": "ttr", "necessity": "mtld"}, "on_request": True})
    assert recipe.reads == ("ttr", "mtld") and recipe.indicators == ("ifd", "mtld", "ttr")
    assert "; read ttr, mtld; " in recipe.rule()
    assert recipe.on_request and not parse("r", said).on_request


def test_every_recipe_that_ships_is_read():
    assert {"random", "longest", "k_center", "quality_diverse"} <= {recipe.name for recipe in load_folder(SHIPPED)}


WRONG = [
    ([], "a recipe is a mapping of fields, found list"),
    (None, "found NoneType"),
    ({"selector": "random"}, "title is missing"),
    ({"title": "T"}, "selector is missing"),
    ({"title": " ", "selector": "random"}, "title is missing"),
    ({**LEAST, "description": 3}, "description is 3"),
    ({**LEAST, "filter": {}}, "unknown field filter; a recipe may have budget, clusters, description"),
    ({**LEAST, "selector": "randon"}, "there is no selector 'randon'; did you mean random"),
    ({**LEAST, "params": {"temperature": 1}}, "params: random has no parameter 'temperature'; it has none"),
    ({**LEAST, "params": [1]}, r"params is \[1\]; give a mapping"),
    ({**LEAST, "sources": "a"}, "sources is 'a'; give a list of source names"),
    ({**LEAST, "sources": [1]}, "sources is"),
    ({**LEAST, "duplicates": 0}, "duplicates is 0; give a Jaccard similarity"),
    ({**LEAST, "duplicates": 1.5}, "duplicates is 1.5"),
    ({**LEAST, "duplicates": True}, "duplicates is True"),
    ({**LEAST, "duplicates": "yes"}, "duplicates is 'yes'"),
    ({**LEAST, "semantic_duplicates": 2}, "semantic_duplicates is 2; give a cosine in"),
    ({**LEAST, "clusters": "hdbscan"}, "clusters: random goes by no clustering"),
    ({**LEAST, "selector": "stratified", "clusters": "hdscan"}, "clusters is 'hdscan'; it can be kmeans, minibatch"),
    ({**LEAST, "budget": "many"}, "budget 'many' is neither"),
    ({**LEAST, "budget": 0.1}, "budget '0.1'"),
    ({**LEAST, "seed": "one"}, "seed is 'one'; give a whole number"),
    ({**LEAST, "seed": True}, "seed is True"),
    ({**LEAST, "seed": -1}, "seed is -1"),
    ({**LEAST, "reads": "ifd"}, "reads is 'ifd'; give a list of indicators"),
    ({**LEAST, "reads": ["ifd"]}, "reads: random looks at no single indicators; name them in score or gates"),
    ({**LEAST, "selector": "mods_union"}, "reads is missing: mods_union looks at indicators one by one"),
    ({**LEAST, "selector": "mods_union", "reads": ["idf"]}, "there is no indicator 'idf'; did you mean ifd"),
    ({**LEAST, "on_request": "yes"}, "on_request is 'yes'; give true or false"),
    ({**LEAST, "on_request": 1}, "on_request is 1"),
    ({**LEAST, "gates": ["ifd"]}, "gates is"),
    ({**LEAST, "gates": {"ifd": 1}}, "gates.ifd is 1; give a mapping"),
    ({**LEAST, "gates": {"ifd": {}}}, "gates.ifd: a gate takes above"),
    ({**LEAST, "gates": {"ifd": {"under": 1}}}, "gates.ifd: a gate takes above.*got under"),
    ({**LEAST, "gates": {"ifd": {"below": "1"}}}, "gates.ifd: below takes a finite number"),
    ({**LEAST, "gates": {"ifd": {"percentile": [0.1, 0.9]}}}, "gates.ifd: percentile runs from 0 to 100"),
    ({**LEAST, "gates": {"idf": {"below": 1}}}, "there is no indicator 'idf'; did you mean ifd"),
    ({**LEAST, "selector": "top_k"}, "score is missing: top_k chooses by it"),
    (with_score(indicators={}), "score.indicators names at least one"),
    ({**SCORED, "score": {}}, "score.indicators names at least one"),
    ({**SCORED, "score": 3}, "score is 3; give a mapping"),
    (with_score(indicators=[{"mtld": 1}]), "score.indicators names at least one"),
    (with_score(indicators={"mtld": "much"}), "score.indicators.mtld is 'much'; a weight is a number"),
    (with_score(indicators={"mtld": -1}), "score.indicators.mtld is -1"),
    (with_score(indicators={"mtld": 0}), "at least one weight is above 0"),
    (with_score(indicators={"mtdl": 1}), "there is no indicator 'mtdl'; did you mean mtld"),
    (with_score(normalize="rank"), "score has unknown field normalize; known are .*normalise"),
    (with_score(normalise="softmax"), "score.normalise is 'softmax'; it can be zscore, rank"),
    (with_score(mode="max"), "score.mode is 'max'"),
    (with_score(nulls="zero"), "score.nulls is 'zero'"),
    (with_score(mode="product"), "score: mode='product' needs values that are not negative"),
    (with_score(indicators={"mtld": 1, "ttr": 2}, mode="min"), "score: mode='min' takes no weights"),
    (with_score(directions={"mtld": "up"}), "score.directions has"),
    (with_score(directions={"ttr": "higher"}), "score.directions has"),
    (with_score(targets={"ttr": 1}), "score.targets names ttr, which is not among"),
    (with_score(targets={"mtld": [3, 1]}), r"score.targets.mtld is \[3, 1\]"),
    (with_score(targets={"mtld": "long"}), "score.targets.mtld is 'long'"),
    (with_score(indicators={"response_length": 1}), "response_length has no better end; say which"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "error"), WRONG)
def test_an_error_names_the_file_and_the_field(said, error):
    with pytest.raises(RecipeError, match=error) as raised:
        parse("r", said, "/home/recipes/r.yaml")
    assert str(raised.value).startswith("/home/recipes/r.yaml: ")
    assert "\n" not in str(raised.value)


def test_files_that_are_no_recipes(tmp_path):
    (tmp_path / "broken.yaml").write_text("title: [")
    with pytest.raises(RecipeError, match=r"broken.yaml: not valid YAML"):
        load_folder(tmp_path)
    (tmp_path / "broken.yaml").rename(tmp_path / "notes.txt")
    (tmp_path / "My Recipe.yaml").write_text("title: T\nselector: random")
    with pytest.raises(RecipeError, match=r"My Recipe.yaml: a recipe's file is named in lower-case"):
        load_folder(tmp_path)
    (tmp_path / "My Recipe.yaml").rename(tmp_path / "mine.yaml")
    assert [recipe.name for recipe in load_folder(tmp_path)] == ["mine"]
    (tmp_path / "ledgers.yaml").write_text("title: T\nselector: random")
    with pytest.raises(RecipeError, match="ledgers"):
        load_folder(tmp_path)
    assert load_folder(tmp_path / "not there") == ()


@pytest.mark.parametrize("text", ["1", "1000", "1%", "0.5%", "100%", "12.25%"])
def test_budgets(text):
    assert check_budget(text) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "0%", "101%", "%", "10 %", "1e3", "1,000", "½", "all", "١٠"])
def test_no_budgets(text):
    with pytest.raises(RecipeError, match="neither a number of rows"):
        check_budget(text)


@pytest.mark.parametrize(
    ("text", "rows", "expected"),
    [("10%", 100, 10), ("10%", 1, 1), ("10%", 0, 0), ("0.5%", 1000, 5), ("100%", 7, 7), ("33.3%", 10, 3), ("1000", 7, 1000)],
)  # fmt: skip
def test_what_a_budget_is_for_a_pool(text, rows, expected):
    assert budget_rows(text, rows) == expected


def test_a_target_makes_any_indicator_a_band():
    from methods import catalog

    recipe = parse("r", with_score(targets={"mtld": [50, 60]}, normalise="none"))
    values = pl.DataFrame({"row_id": ["a", "b", "c"], "mtld": [55.0, 70.0, None]})
    scores = recipe.score.of(values, {"mtld": catalog.indicator("mtld")})
    assert scores["value"].to_list() == [0.0, -10.0, None]
