"""The composition root: everything that Dagster loads, at a glance.

Here belongs putting assets, sensors, jobs and resources together, and nothing else. Loading this module imports no
model library and reads nothing but the recipes.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import dagster as dg

from assets import (
    automation,
    bsdetector,
    clustered,
    clusterings,
    distilled,
    embedded,
    evaluated,
    evaluators,
    evidence,
    filtered,
    humans,
    instruction_mining,
    judged,
    mods,
    pairwise,
    passes,
    probes,
    raw,
    rewards,
    scored,
    selected,
    semantic,
    subset_runs,
    tags,
    targets,
    tuned,
)
from methods import catalog
from methods.catalog import CLUSTERINGS
from methods.judging.questions import QUESTIONS
from methods.selection.recipe import Recipe, load_folder
from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.from_env import (
    causal_lm_from_env,
    ctc_aligner_from_env,
    deita_from_env,
    encoder_from_env,
    judge_from_env,
    nli_from_env,
    reward_model_from_env,
    unieval_from_env,
)
from resources.judge import Judge
from resources.reward_model import RewardModel
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables, default_home
from sensors import batches, labels, landing, selection

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


def read_by(readers: Iterable[dg.AssetsDefinition], assets: Iterable[dg.AssetsDefinition]) -> set[dg.AssetKey]:
    """All that these assets read, and across sources what that reads in turn."""
    across = {key: deps for a in assets if not a.partitions_def for key, deps in a.asset_deps.items()}
    todo = [dep for reader in readers for deps in reader.asset_deps.values() for dep in deps]
    found = set[dg.AssetKey]()
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += across.get(key, ())
    return found


def behind(keys: Iterable[dg.AssetKey], assets: Iterable[dg.AssetsDefinition]) -> set[dg.AssetKey]:
    """These tables, and all that is made of them."""
    deps = {key: of for asset in assets for key, of in asset.asset_deps.items()}
    found, before = set(keys), set[dg.AssetKey]()
    while found != before:
        before = set(found)
        found |= {key for key, of in deps.items() if of & found}
    return found


def _expensive(assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetKey]:
    """The passes among these assets that cost a model's time."""
    specs = (spec for asset in assets for spec in asset.specs)
    return [spec.key for spec in specs if spec.key.path[0] == "evidence" and spec.tags.get("cost", "cpu") != "cpu"]


READ_OFF = {pairwise.PAIRS: [pairwise.STRENGTHS]} | {
    judged.key_of(question.id): [
        scored.key_of(indicator.id)
        for indicator in catalog.INDICATORS
        if judged.key_of(question.id).to_user_string() in indicator.needs
    ]
    for question in QUESTIONS
}
"""The scores that are read off each question's answers."""


HUMAN = (
    *(key for asset in humans.ASSETS for key in asset.keys),
    *(scored.key_of(indicator.id) for indicator in catalog.INDICATORS if "humans/ratings" in indicator.needs),
)
"""What is made of people's labels."""


def build_defs(
    home: Path | None = None,
    encoder: Encoder | None = None,
    causal_lm: CausalLM | None = None,
    recipes: Sequence[Recipe] | None = None,
    sensor_interval: int | None = None,
    reward_model: RewardModel | None = None,
    judge: Judge | None = None,
) -> dg.Definitions:
    """All definitions; tests and notebooks replace what they like.

    ``sensor_interval``: seconds between two looks at the landing folder and at what changed;
    ``SLUICE_SENSOR_INTERVAL``, or 30.
    """
    interval = sensor_interval or sensor_interval_from_env()
    home = (home or default_home()).absolute()
    recipes = recipes_of(home) if recipes is None else tuple(recipes)
    sources = (*raw.ASSETS, *filtered.ASSETS, *evidence.ASSETS, *passes.ASSETS, *embedded.ASSETS, *scored.ASSETS)
    sources = (*sources, *rewards.SOURCE_ASSETS, *bsdetector.SOURCE_ASSETS, *probes.SOURCE_ASSETS, *evaluators.ASSETS)
    across = (*clustered.ASSETS, *selected.build_assets(recipes), *evaluated.build_assets(recipes))
    demanded = (
        *tags.ASSETS,
        *bsdetector.POOL_ASSETS,
        *tuned.ASSETS,
        *rewards.POOL_ASSETS,
        *mods.ASSETS,
        *subset_runs.ASSETS,
        *instruction_mining.ASSETS,
        *probes.POOL_ASSETS,
        *targets.ASSETS,
        *semantic.ASSETS,
        *pairwise.ASSETS,
        *distilled.ASSETS,
        *humans.ASSETS,
        *clusterings.build_assets(CLUSTERINGS),
    )
    assets = (*sources, *across, *demanded, *judged.build_assets(QUESTIONS))
    # Never made by a new file or by a job, nor what cannot be made without it: a person asks for it.
    costs_money = behind(READ_OFF, assets)
    lane = sorted({key for asset in assets if asset.partitions_def for key in asset.keys} - costs_money)
    asked = {dg.AssetKey([stage, r.name]) for r in recipes if r.on_request for stage in ("selected", "evaluated")}
    read = read_by([asset for asset in across if not asset.keys & asked], assets)
    # What trains is started by a person alone, and what else is demanded is made where it is in use.
    by_hand = {spec.key for asset in demanded for spec in asset.specs if spec.automation_condition is None}
    downstream = [key for asset in assets if not asset.partitions_def for key in asset.keys if key not in by_hand]
    waiting = {key for asset in demanded for key in asset.keys} | asked
    chosen = [key for key in downstream if key in read or (key.path[0] != "scored" and key not in waiting)]
    chosen += sorted((by_hand & read) - costs_money)
    assets = tuple(automation.with_gate(asset, downstream) for asset in assets)
    return dg.Definitions(
        assets=assets,
        resources={
            "io_manager": ParquetTables(home=str(home)),
            "lake": LakeResource(home=str(home)),
            "settings": Settings(),
            "encoder": encoder or encoder_from_env(),
            "causal_lm": causal_lm or causal_lm_from_env(),
            "reward_model": reward_model or reward_model_from_env(),
            "ctc_aligner": ctc_aligner_from_env(),
            "unieval_model": unieval_from_env(),
            "nli": nli_from_env(),
            "deita": deita_from_env(),
            "judge": judge or judge_from_env(),
        },
        jobs=[
            dg.define_asset_job(
                "lane", dg.AssetSelection.assets(*lane), description="One source through all stages of its own."
            ),
            dg.define_asset_job(
                "choose",
                dg.AssetSelection.assets(*chosen),
                description="Everything that looks across sources and that a recipe or card reads.",
            ),
        ],
        sensors=[
            landing.build_sensor(lane, interval, read, _expensive(sources)),
            batches.build_sensor(READ_OFF, READ_OFF),
            labels.build_sensor(HUMAN, interval),
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
