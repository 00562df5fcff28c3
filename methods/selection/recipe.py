"""A recipe: a named selection, as plain data read from YAML.

Here belongs what a recipe may say and the errors for what it may not. How it is carried out stands in `choose.py`;
the recipes themselves are the files in ``jobs/recipes``.

A recipe in full::

    title: Quality first, then diverse
    description: what it is for, in a sentence or two
    sources: []                      # empty: every source of the pool
    duplicates: 0.75                 # drop near-duplicates at least this similar in their words; off: keep them
    semantic_duplicates: off         # or a cosine, e.g. 0.95: drop rows that mean the same in other words;
                                     # to_budget: as many go as can without falling below it, the most alike first
    gates:                           # rows outside are dropped, with the reason
      ifd: {below: 1.0}
      response_length: {percentile: [5, 100]}
    score:                           # optional; a selector that needs no score goes without
      indicators: {mtld: 1.0, ifd: 2.0}
      directions: {}                 # e.g. {response_length: higher}, where the indicator has no better end
      targets: {}                    # e.g. {response_length: [50, 300]}: the best range of such an indicator
      normalise: zscore              # or rank, minmax, none
      mode: mean                     # or sum, product, min, mean_rank
      nulls: drop                    # or ignore, worst
    reads: []                        # e.g. [ifd, ifd_experienced]: what the selector looks at one by one, unscaled
    selector: deita_repr_filter
    params: {threshold: 0.9}
    clusters: kmeans                 # or another clustering (hdbscan, topics_lda, ...): for a selector that goes by it
    tags: source                     # or instag: tags that a judge gave (tagged/instag), for selector and card
    budget: 10%                      # or a number of rows
    seed: 0
    targets: []                      # e.g. [humaneval]: files of HOME/targets that the selector looks for the like of
    on_request: false                # true: the job `choose` leaves it out, for it needs training or another model

A selector that reads `values` (`sluice methods`) gets the raw values of all indicators that the recipe names. A row
stays where one under ``reads`` is missing: the selector decides what that means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from methods.kinds import Direction, Indicator
from methods.selection.aggregate import Mode, Normalise, NullPolicy, aggregate

NORMALISE, MODES, NULLS = (get_args(choices) for choices in (Normalise, Mode, NullPolicy))


TO_BUDGET = "to_budget"
"""Of semantic duplicates as many go as can without falling below the budget, the most alike first."""


SOURCE = "source"
TAGS = (SOURCE, "instag")
"""Whose tags: the source's, or a judge's (`tagged/instag`)."""


class RecipeError(ValueError):
    """A recipe that cannot be carried out; the message names the file, the field and what would do."""


@dataclass(frozen=True)
class Score:
    """How indicators become one score: which, with which weights, how scaled, how joined, and what a null means."""

    indicators: Mapping[str, float]
    directions: Mapping[str, Direction] = field(default_factory=dict)
    """Which end of an indicator this recipe wants, where the indicator itself names none or the other one."""
    targets: Mapping[str, Any] = field(default_factory=dict)
    """The value, or the range [lo, hi], that is best for an indicator without a better end."""
    normalise: Normalise = "zscore"
    mode: Mode = "mean"
    nulls: NullPolicy = "drop"

    def of(self, values: pl.DataFrame, known: Mapping[str, Indicator]) -> pl.DataFrame:
        """``row_id, value, status`` from a column an indicator; a target makes any indicator a band around it."""
        own: dict[str, Direction] = {
            name: "band" if name in self.targets else known[name].direction for name in self.indicators
        }
        return aggregate(
            values,
            weights=dict(self.indicators),
            directions={**own, **self.directions},
            targets=self.targets,
            normalise=self.normalise,
            mode=self.mode,
            null_policy=self.nulls,
        )


@dataclass(frozen=True)
class Recipe:
    """One named selection."""

    name: str
    title: str
    selector: str
    description: str = ""
    sources: tuple[str, ...] = ()
    duplicates: float | None = 0.75
    """Jaccard similarity of words from which a row goes for its better twin."""
    semantic_duplicates: float | str | None = None
    """Cosine from which it does; or `TO_BUDGET`."""
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    score: Score | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    budget: str = "10%"
    seed: int = 0
    reads: tuple[str, ...] = ()
    """Further indicators whose raw values the selector gets."""
    targets: tuple[str, ...] = ()
    """Files of the home's folder ``targets`` that say what one wants to be good at."""
    clusters: str = "kmeans"
    """The clustering whose labels the selector and the subset's pages get."""
    tags: str = SOURCE
    """Whose tags the selector and the subset's card go by (`TAGS`)."""
    on_request: bool = False
    """Made only where somebody asks for it by name."""

    @property
    def indicators(self) -> tuple[str, ...]:
        """Every indicator that the recipe reads, in a fixed order: this is its lineage."""
        return tuple(sorted({*self.gates, *(self.score.indicators if self.score else {}), *self.reads}))

    def as_dict(self) -> dict[str, Any]:
        """Plain data: part of the data version of every subset that the recipe makes."""
        return asdict(self)

    def rule(self) -> str:
        """The recipe in a sentence, for a person."""
        parts = [f"gate {name} {_gate_words(gate)}" for name, gate in self.gates.items()]
        if self.score:
            weights = ", ".join(f"{weight:g} × {name}" for name, weight in self.score.indicators.items())
            parts.append(f"score = {self.score.mode} of {weights} ({self.score.normalise})")
        if self.reads:
            parts.append(f"read {', '.join(self.reads)}")
        if self.targets:
            parts.append(f"match {', '.join(self.targets)}")
        if self.duplicates is not None:
            parts.append(f"drop near-duplicates (Jaccard ≥ {self.duplicates:g})")
        if self.semantic_duplicates is not None:
            how = "the most alike first, to the budget"
            if self.semantic_duplicates != TO_BUDGET:
                how = f"cosine ≥ {self.semantic_duplicates:g}"
            parts.append(f"drop semantic duplicates ({how})")
        if self.clusters != "kmeans":
            parts.append(f"cluster by {self.clusters}")
        if self.tags != SOURCE:
            parts.append(f"tags by {self.tags}")
        params = ", ".join(f"{k}={v}" for k, v in self.params.items())
        parts.append(f"select by {self.selector}" + (f" ({params})" if params else ""))
        parts.append(f"budget {self.budget}, seed {self.seed}")
        return "; ".join(parts)


def parse(name: str, data: Any, where: str = "") -> Recipe:
    """A recipe from the mapping that its YAML holds."""
    where = where or f"recipe {name!r}"
    if not isinstance(data, dict):
        raise RecipeError(f"{where}: a recipe is a mapping of fields, found {type(data).__name__}")
    known = {f.name for f in fields(Recipe)} - {"name"}
    if unknown := sorted(set(data) - known):
        raise RecipeError(f"{where}: unknown field {', '.join(unknown)}; a recipe may have {', '.join(sorted(known))}")
    for needed in ("title", "selector"):
        if not isinstance(data.get(needed), str) or not data[needed].strip():
            raise RecipeError(f"{where}: {needed} is missing; give it as text")
    values = dict(data)
    if not isinstance(data.get("description", ""), str):
        raise RecipeError(f"{where}: description is {data['description']!r}; give it as text")
    values["budget"] = check_budget(str(data.get("budget", "10%")), where)
    values["sources"] = _names(data.get("sources"), f"{where}: sources")
    values["duplicates"] = _duplicates(data.get("duplicates", 0.75), f"{where}: duplicates", "a Jaccard similarity")
    alike = data.get("semantic_duplicates")
    values["semantic_duplicates"] = (
        alike if alike == TO_BUDGET else _duplicates(alike, f"{where}: semantic_duplicates", "a cosine")
    )
    values["gates"] = {
        name: _gate(rule, f"{where}: gates.{name}")
        for name, rule in _mapping(data.get("gates"), f"{where}: gates").items()
    }
    values["params"] = _mapping(data.get("params"), f"{where}: params")
    values["score"] = _score(data["score"], where) if data.get("score") is not None else None
    values["seed"] = _whole(data.get("seed", 0), f"{where}: seed")
    values["reads"] = _names(data.get("reads"), f"{where}: reads", "indicators")
    values["targets"] = _names(data.get("targets"), f"{where}: targets", "files of the home's folder targets")
    values["on_request"] = _yes_or_no(data.get("on_request", False), f"{where}: on_request")
    return _known(Recipe(name=name, **values), where)


def _known(recipe: Recipe, where: str) -> Recipe:
    """The recipe, if the catalogue has all that it names."""
    from methods import catalog

    try:
        selector = catalog.selector(recipe.selector)
        indicators = {name: catalog.indicator(name) for name in recipe.indicators}
    except catalog.UnknownMethod as error:
        raise RecipeError(f"{where}: {error}") from error
    clusterings = ("kmeans", *(method.id for method in catalog.CLUSTERINGS))
    if recipe.clusters not in clusterings:
        raise RecipeError(f"{where}: clusters is {recipe.clusters!r}; it can be {', '.join(clusterings)}")
    if recipe.clusters != "kmeans" and "clusters" not in selector.needs:
        raise RecipeError(f"{where}: clusters: {selector.id} goes by no clustering; leave the field out")
    if recipe.tags not in TAGS:
        raise RecipeError(f"{where}: tags is {recipe.tags!r}; it can be {', '.join(TAGS)}")
    if unknown := sorted(set(recipe.params) - set(selector.params)):
        has = ", ".join(selector.params) or "none"
        raise RecipeError(f"{where}: params: {selector.id} has no parameter {unknown[0]!r}; it has {has}")
    if "score" in selector.needs and recipe.score is None:
        raise RecipeError(f"{where}: score is missing: {selector.id} chooses by it; add `score: {{indicators: ...}}`")
    if "values" in selector.needs and not recipe.reads:
        raise RecipeError(f"{where}: reads is missing: {selector.id} looks at indicators one by one; name them there")
    matches = bool({"target_texts", "target_vectors"} & set(selector.needs))
    if matches and not recipe.targets:
        raise RecipeError(f"{where}: targets is missing: {selector.id} looks for rows like those of a file in targets/")
    if recipe.targets and not matches:
        raise RecipeError(f"{where}: targets: {selector.id} looks at no target")
    if recipe.reads and "values" not in selector.needs:
        raise RecipeError(f"{where}: reads: {selector.id} looks at no single indicators; name them in score or gates")
    for name in recipe.score.indicators if recipe.score else ():
        assert recipe.score
        if indicators[name].direction == "band" and not {name} & {*recipe.score.directions, *recipe.score.targets}:
            raise RecipeError(
                f"{where}: score.indicators: {name} has no better end; say which with "
                f"`directions: {{{name}: higher}}` or name the best with `targets: {{{name}: [low, high]}}`"
            )
    if recipe.score:
        try:
            recipe.score.of(
                pl.DataFrame(schema={"row_id": pl.String, **dict.fromkeys(recipe.score.indicators, pl.Float64)}),
                indicators,
            )
        except ValueError as error:
            raise RecipeError(f"{where}: score: {error}") from error
    return recipe


def check_budget(text: str, where: str = "budget") -> str:
    """``"1000"`` or ``"10%"``, or an error."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?%", text) and 0 < float(text[:-1]) <= 100:
        return text
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return text
    raise RecipeError(f"{where}: budget {text!r} is neither a number of rows (1000) nor a share of the pool (10%)")


def budget_rows(text: str, rows: int) -> int:
    """How many rows a budget is for a pool of this size; a share is rounded to the nearest row, at least one."""
    if text.endswith("%"):
        return max(1, round(rows * float(text[:-1]) / 100)) if rows else 0
    return int(text)


def load_folder(folder: Path) -> tuple[Recipe, ...]:
    """All recipes of a folder, by name; the file's name is the recipe's."""
    import yaml

    recipes = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise RecipeError(f"{path}: not valid YAML: {error}") from error
        if path.stem == "ledgers":
            raise RecipeError(
                f"{path}: a recipe cannot be named ledgers, where the ledgers of all recipes lie; rename it"
            )
        if not re.fullmatch(r"[a-z][a-z0-9_]*", path.stem):
            raise RecipeError(
                f"{path}: a recipe's file is named in lower-case letters, digits and _ (it becomes an asset)"
            )
        recipes.append(parse(path.stem, data, str(path)))
    return tuple(recipes)


def _score(data: Any, where: str) -> Score:
    data = _mapping(data, f"{where}: score")
    known = {f.name for f in fields(Score)}
    if unknown := sorted(set(data) - known):
        raise RecipeError(
            f"{where}: score has unknown field {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    indicators = data.get("indicators")
    if isinstance(indicators, list) and all(isinstance(name, str) for name in indicators):
        indicators = dict.fromkeys(indicators, 1.0)
    if not isinstance(indicators, dict) or not indicators:
        raise RecipeError(f"{where}: score.indicators names at least one indicator, as `id: weight`")
    for key, allowed in (("normalise", NORMALISE), ("mode", MODES), ("nulls", NULLS)):
        if data.get(key, allowed[0]) not in allowed:
            raise RecipeError(f"{where}: score.{key} is {data[key]!r}; it can be {', '.join(allowed)}")
    directions = _mapping(data.get("directions"), f"{where}: score.directions")
    if wrong := {k: v for k, v in directions.items() if v not in ("higher", "lower") or k not in indicators}:
        raise RecipeError(f"{where}: score.directions has {wrong}; give an indicator of this score and higher or lower")
    targets = _mapping(data.get("targets"), f"{where}: score.targets")
    for name, target in targets.items():
        if name not in indicators:
            raise RecipeError(f"{where}: score.targets names {name}, which is not among score.indicators")
        ends = target if isinstance(target, list) and len(target) == 2 else [target, target]
        if not all(_is_number(end) for end in ends) or ends[0] > ends[1]:
            raise RecipeError(f"{where}: score.targets.{name} is {target!r}; give the best value, or [low, high]")
    weights = {str(k): v for k, v in indicators.items()}
    for name, weight in weights.items():
        if not _is_number(weight) or weight < 0:
            raise RecipeError(
                f"{where}: score.indicators.{name} is {weight!r}; a weight is a number >= 0 (directions turn an "
                f"indicator)"
            )
    if not any(weights.values()):
        raise RecipeError(f"{where}: score.indicators: at least one weight is above 0")
    return Score(
        **{
            **data,
            "directions": directions,
            "targets": targets,
            "indicators": {name: float(weight) for name, weight in weights.items()},
        }
    )


def _gate(rule: Any, where: str) -> dict[str, Any]:
    from methods.selection.aggregate import gate

    rule = _mapping(rule, where)
    try:
        gate(np.zeros(0), rule)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error
    return rule


def _names(value: Any, where: str, of: str = "source names") -> tuple[str, ...]:
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RecipeError(f"{where} is {value!r}; give a list of {of}")
    return tuple(dict.fromkeys(value))


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RecipeError(f"{where} is {value!r}; give a whole number from 0")
    return value


def _yes_or_no(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise RecipeError(f"{where} is {value!r}; give true or false")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _duplicates(value: Any, where: str, of: str) -> float | None:
    if value is None or value is False or value == "off":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise RecipeError(f"{where} is {value!r}; give {of} in (0, 1], or off")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RecipeError(f"{where} is {value!r}; give a mapping")
    return {str(k): v for k, v in value.items()}


def _gate_words(gate: Mapping[str, Any]) -> str:
    return " and ".join(f"{word.replace('_', ' ')} {value}" for word, value in gate.items())
