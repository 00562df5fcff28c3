"""Models that are trained on rows of the pool: which rows, when again, where the model lies and who reads it.

Here belongs what every asset needs that trains or reads with a trained model. Which rows a method trains on and what it
makes of the model stands with the method's assets (`tuned`, `mods`, `subset_runs`); the training in
`resources.tuning`.

A training starts only when somebody asks for it: what trains, and what decides on what is trained, has no automation.
Rows once chosen are held while the pool stays much the same, so that a new row does not mean a new model, and with it
a new pass over every other row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import polars as pl

from assets import metadata
from assets.partitions import same_source, whole_pool
from assets.step import Result, Step, check_specs
from resources import models
from resources.causal_lm import CausalLM
from resources.lake import LakeError, MissingTable
from resources.progress import Progress
from resources.settings import Settings
from resources.tuning import Tuning, fingerprint_of, tune

POOL_ROWS = [same_source("filtered/pool"), whole_pool("filtered/instructions")]
MODEL, CONTENT = "trained model", "content of its files"


def trains(key: dg.AssetKey, deps: Sequence[dg.AssetDep], description: str) -> Callable[..., dg.AssetsDefinition]:
    """The asset of a training: all look alike but for what they train on."""
    return dg.asset(
        key=key,
        group_name=key.path[0],
        deps=[*deps, *POOL_ROWS],
        code_version="1",
        kinds={"transformers"},
        pool="gpu",
        tags={"cost": "gpu"},
        check_specs=check_specs(key.path),
        description=description,
    )


def pool_rows(step: Step, pool: list[str], kept: bool = False) -> pl.LazyFrame:
    """The distinct rows of the pool with their texts, in the pool's order.

    ``kept``: without those that a filter dropped, which are in the pool where every row is to be scored. No model is
    trained on them.
    """
    names = ["row_id", "messages", "instruction", "input", "response"]
    tables = ["filtered/instructions", *(["filtered/dropped"] if step.settings.all_rows and not kept else [])]
    rows = pl.concat([step.scan(table, pool).select(names) for table in tables]).unique("row_id", keep="first")
    ids = step.scan("filtered/pool").select("row_id", "source")
    return ids.join(rows, on="row_id", how="inner", maintain_order="left")


def held(step: Step, key: dg.AssetKey, config: Mapping[str, Any], candidates: pl.Series) -> pl.DataFrame | None:
    """The rows that were chosen before, if they may stay.

    They stay while the code and the parameters are the same, every one of them is still a candidate, and there are not
    many more or fewer candidates than when they were chosen (by ``hold``, a share of those; with 0 any change of their
    number chooses again). So what is chosen depends on the pool that it was first chosen from, which the table names.
    """
    stored = step.lake.manifest(key.path)
    if stored is None or step.previous(key, config) is None:
        return None
    before = int(stored.facts.get("chosen from", 0))
    rows = step.lake.scan(key.path).collect()
    same = abs(len(candidates) - before) <= float(config["hold"]) * before
    return rows if same and rows["row_id"].is_in(candidates.implode()).all() else None


def chosen_from(step: Step, key: dg.AssetKey, kept: pl.DataFrame | None, candidates: pl.Series) -> dict[str, Any]:
    """The facts that `held` reads the next time."""
    stored = step.lake.manifest(key.path)
    before = int(stored.facts["chosen from"]) if stored and kept is not None else len(candidates)
    return {"chosen from": before, "candidates": len(candidates), "held from before": kept is not None}


def tuning_of(settings: Settings, name: str, defaults: Mapping[str, Any]) -> Tuning:
    """The settings of a training: its defaults, and what a person set for it."""
    wanted = settings.params.get(name, {})
    known = Tuning.__dataclass_fields__
    if unknown := sorted(set(wanted) - set(known)):
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; there are: {', '.join(known)}")
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in wanted.items()}
    return Tuning(**{**defaults, **plain})


def training(
    step: Step,
    key: dg.AssetKey,
    name: str,
    causal_lm: CausalLM,
    tuning: Tuning,
    chosen: str,
) -> Iterator[Any]:
    """The whole life of a trained model: the folder ``HOME/models/NAME-FINGERPRINT``, and the table of its steps.

    ``chosen`` is the table of the rows to train on, by their rank. The same rows and settings are trained on once,
    however often this is asked. A model whose folder was removed is trained again, although its table is up to date.
    """
    pool = step.pool(key)
    config = {**causal_lm.identity(), "tuning": asdict(tuning)}
    draft = step.draft(key, config, pool)
    stored = step.up_to_date(key, draft)
    if stored is not None and _is_there(step, str(stored.facts[MODEL])):
        yield from step.unchanged(key, stored)
        return
    ranked = step.scan(chosen).sort("rank").select("row_id")
    learned = ranked.join(pool_rows(step, pool), on="row_id", how="inner", maintain_order="left").collect()
    folder = step.lake.home / "models" / f"{name}-{fingerprint_of(causal_lm, learned, tuning)}"
    tuned = tune(causal_lm, learned, folder, tuning, _told(step, f"training {name}"))
    losses = tuned.steps["loss"].drop_nulls()
    facts = {
        "pool": pool,
        MODEL: tuned.model if models.is_fake(tuned.model) else f"models/{folder.name}",
        CONTENT: str(causal_lm.with_model(tuned.model).identity()["content"]),
        "rows asked for": learned.height,
        "rows trained on": tuned.rows,
        "tokens": tuned.tokens,
        "seconds": tuned.seconds,
        **({"loss, first step": losses[0], "loss, last step": losses[-1]} if len(losses) else {}),
    }
    shown = {"loss": metadata.line(losses.to_list(), "loss of a step")}
    yield from step.publish(key, Result(tuned.steps, facts, shown), draft)


def _told(step: Step, what: str) -> Callable[[int, int], None]:
    progress: list[Progress] = []

    def tell(done: int, total: int) -> None:
        if not progress:
            progress.append(step.progress(what, total, "steps"))
        progress[0].advance(done - progress[0].done)

    return tell


def _is_there(step: Step, model: str) -> bool:
    return models.is_fake(model) or (step.lake.home / model).is_dir()


def _facts(step: Step, key: dg.AssetKey) -> dict[str, Any]:
    stored = step.lake.manifest(key.path)
    if stored is None:
        raise MissingTable(f"{key.to_user_string()} is not there yet: materialize it first; it trains a model")
    return stored.facts


def tuned_identity(step: Step, key: dg.AssetKey, causal_lm: CausalLM) -> dict[str, Any]:
    """As `CausalLM.identity` of the trained model; its files need not be there for it."""
    facts = _facts(step, key)
    base = {name: value for name, value in causal_lm.identity().items() if name != "revision"}
    return {**base, "model": str(facts[MODEL]), "content": facts[CONTENT]}


def tuned_model(step: Step, key: dg.AssetKey, causal_lm: CausalLM) -> CausalLM:
    """The trained model, with the settings of the language model that is in use."""
    model = str(_facts(step, key)[MODEL])
    if not _is_there(step, model):
        raise LakeError(f"{step.lake.home / model} is gone: materialize {key.to_user_string()} again, which trains it")
    return causal_lm.with_model(model if models.is_fake(model) else str(step.lake.home / model))
