"""The composition root: everything that Dagster loads, at a glance.

Here belongs putting assets, sensors, jobs and resources together, and nothing else. Loading this module imports no
model library and reads nothing but the recipes.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from assets import automation, clustered, embedded, evaluated, evidence, filtered, passes, raw, scored, selected
from methods.selection.recipe import Recipe, load_folder
from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.from_env import causal_lm_from_env, encoder_from_env
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables, default_home
from sensors import landing, selection

RECIPES = Path(__file__).parent / "recipes"


def recipes_of(home: Path) -> tuple[Recipe, ...]:
    """The recipes that ship, and those of the home; one of the home replaces one that ships under the same name."""
    both = {recipe.name: recipe for recipe in (*load_folder(RECIPES), *load_folder(home / "recipes"))}
    return tuple(both[name] for name in sorted(both))


def sensor_interval_from_env() -> int:
    """``SLUICE_SENSOR_INTERVAL`` in seconds, or 30."""
    text = os.environ.get("SLUICE_SENSOR_INTERVAL", "").strip() or "30"
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"SLUICE_SENSOR_INTERVAL is {text!r}; it is a whole number of seconds, 1 or more")
    return int(text)


def build_defs(
    home: Path | None = None,
    encoder: Encoder | None = None,
    causal_lm: CausalLM | None = None,
    recipes: Sequence[Recipe] | None = None,
    sensor_interval: int | None = None,
) -> dg.Definitions:
    """All definitions; tests and notebooks replace what they like.

    ``sensor_interval``: seconds between two looks at the landing folder and at what changed;
    ``SLUICE_SENSOR_INTERVAL``, or 30.
    """
    interval = sensor_interval or sensor_interval_from_env()
    home = (home or default_home()).absolute()
    recipes = recipes_of(home) if recipes is None else tuple(recipes)
    sources = (*raw.ASSETS, *filtered.ASSETS, *evidence.ASSETS, *passes.ASSETS, *embedded.ASSETS, *scored.ASSETS)
    across = (*clustered.ASSETS, *selected.build_assets(recipes), *evaluated.build_assets(recipes))
    assets = (*sources, *across)
    lane = [key for asset in assets if asset.partitions_def for key in asset.keys]
    read = {dep for asset in across for deps in asset.asset_deps.values() for dep in deps}
    downstream = [key for asset in assets if not asset.partitions_def for key in asset.keys]
    assets = tuple(automation.with_gate(asset, downstream) for asset in assets)
    return dg.Definitions(
        assets=assets,
        resources={
            "io_manager": ParquetTables(home=str(home)),
            "lake": LakeResource(home=str(home)),
            "settings": Settings(),
            "encoder": encoder or encoder_from_env(),
            "causal_lm": causal_lm or causal_lm_from_env(),
        },
        jobs=[
            dg.define_asset_job(
                "lane", dg.AssetSelection.assets(*lane), description="One source through all stages of its own."
            ),
            dg.define_asset_job(
                "choose",
                dg.AssetSelection.assets(*(key for key in downstream if key.path[0] != "scored" or key in read)),
                description="Everything that looks across sources and that a recipe or card reads.",
            ),
        ],
        sensors=[
            landing.build_sensor(lane, interval, read),
            selection.build_sensor(recipes, downstream, max(60, 2 * interval)),
            dg.AutomationConditionSensorDefinition(
                "refresh",
                target=dg.AssetSelection.all(),
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=interval,
                description="Makes again what is in use and whose inputs have other content.",
            ),
        ],
        # One process a run: Polars, BLAS and torch use the cores already, and a model is loaded once.
        executor=dg.in_process_executor,
    )


defs = build_defs()
