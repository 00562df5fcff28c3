"""Recipes on request: what trains or needs another model is made where somebody asks for it, and nowhere else."""

import dagster as dg

from jobs.definitions import build_defs, recipes_of
from methods import catalog
from methods.selection.recipe import parse
from resources.fakes import FakeCausalLM, FakeEncoder

USUAL = parse("usual", {"title": "T", "selector": "random"})


def chosen_by_the_job(home, *recipes):
    """The keys of the job `choose`, and the graph that it is a part of."""
    defs = build_defs(home, FakeEncoder(), FakeCausalLM(), recipes)
    graph = defs.resolve_asset_graph()
    keys = defs.resolve_job_def("choose").asset_layer.selected_asset_keys
    return {key.to_user_string() for key in keys}, graph


def test_the_job_leaves_out_what_is_on_request_and_what_only_that_reads(tmp_path):
    said = {"title": "T", "selector": "random", "gates": {"knn_i": {"above": 0}}}
    for on_request in (False, True):
        keys, graph = chosen_by_the_job(tmp_path, USUAL, parse("extra", {**said, "on_request": on_request}))
        assert {"selected/usual", "evaluated/usual", "filtered/pool", "clustered/kmeans"} <= keys
        assert ({"selected/extra", "evaluated/extra", "scored/knn_i"} & keys == set()) is on_request
        assert graph.has(dg.AssetKey(["selected", "extra"]))  # it is there to be asked for


def test_recipes_that_ship_and_read_what_trains_are_on_request(tmp_path):
    """Nothing that trains, and nothing of a reward model, is in the job for the recipes as they ship."""
    shipped = recipes_of(tmp_path)
    reading = {
        recipe.name
        for recipe in shipped
        for name in recipe.indicators
        if set(catalog.indicator(name).needs)
        & {"evidence/token_statistics_experienced", "mods/seed", "mods/answers", "evidence/rewards"}
    }
    assert reading == {"bettermixture", "mods"}
    assert reading <= {recipe.name for recipe in shipped if recipe.on_request}
    keys, _ = chosen_by_the_job(tmp_path, *shipped)
    assert "selected/superfiltering_d" in keys
    assert not [key for key in keys if key.startswith(("tuned/", "mods/")) or key.endswith(("/mods", "/bettermixture"))]
