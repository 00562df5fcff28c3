"""A recipe: a named selection, as plain data read from YAML.

Here belongs what a recipe may say and the errors for what it may not. How it is carried out stands in `choose.py`; the recipes
themselves are the files in ``jobs/recipes``.

A recipe in full::

    title: Quality first, then diverse
    description: what it is for, in a sentence or two
    sources: []                      # empty: every source of the pool
    duplicates: 0.8                  # drop near-duplicates at least this similar; off: keep them
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
    selector: deita_repr_filter
    params: {threshold: 0.9}
    budget: 10%                      # or a number of rows
    seed: 0
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

NORMALISE = ("zscore", "rank", "minmax", "none")
MODES = ("mean", "sum", "product", "min", "mean_rank")
NULLS = ("drop", "ignore", "worst")


class RecipeError(ValueError):
    """A recipe that cannot be carried out; the message names the file, the field and what would do."""


@dataclass(frozen=True)
class Score:
    """How indicators become one score: which, with which weights, how scaled, how joined, and what a null means."""

    indicators: Mapping[str, float]
    directions: Mapping[str, str] = field(default_factory=dict)
    """Which end of an indicator this recipe wants, where the indicator itself names none or the other one."""
    targets: Mapping[str, Any] = field(default_factory=dict)
    """The value, or the range [lo, hi], that is best for an indicator without a better end."""
    normalise: str = "zscore"
    mode: str = "mean"
    nulls: str = "drop"


@dataclass(frozen=True)
class Recipe:
    """One named selection."""

    name: str
    title: str
    selector: str
    description: str = ""
    sources: tuple[str, ...] = ()
    duplicates: float | None = 0.8
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    score: Score | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    budget: str = "10%"
    seed: int = 0

    @property
    def indicators(self) -> tuple[str, ...]:
        """Every indicator that the recipe reads, in a fixed order: this is its lineage."""
        return tuple(sorted({*self.gates, *(self.score.indicators if self.score else {})}))

    def as_dict(self) -> dict[str, Any]:
        """Plain data: part of the data version of every subset that the recipe makes."""
        return asdict(self)

    def rule(self) -> str:
        """The recipe in a sentence, for a person."""
        parts = [f"gate {name} {_gate_words(gate)}" for name, gate in self.gates.items()]
        if self.score:
            weights = ", ".join(f"{weight:g} × {name}" for name, weight in self.score.indicators.items())
            parts.append(f"score = {self.score.mode} of {weights} ({self.score.normalise})")
        if self.duplicates is not None:
            parts.append(f"drop near-duplicates (Jaccard ≥ {self.duplicates:g})")
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
        if not isinstance(data.get(needed), str):
            raise RecipeError(f"{where}: {needed} is missing; give it as text")
    values = dict(data)
    values["budget"] = check_budget(str(data.get("budget", "10%")), where)
    values["sources"] = tuple(data.get("sources") or ())
    values["duplicates"] = _duplicates(data.get("duplicates", 0.8), where)
    values["gates"] = _mapping(data.get("gates"), f"{where}: gates")
    values["params"] = _mapping(data.get("params"), f"{where}: params")
    values["score"] = _score(data["score"], where) if data.get("score") else None
    return Recipe(name=name, **values)


def check_budget(text: str, where: str = "budget") -> str:
    """``"1000"`` or ``"10%"``, or an error."""
    if re.fullmatch(r"\d+", text) or (re.fullmatch(r"\d+(\.\d+)?%", text) and float(text[:-1]) <= 100):
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
    if isinstance(indicators, list):
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
    return Score(
        **{
            **data,
            "directions": directions,
            "targets": targets,
            "indicators": {str(k): float(v) for k, v in indicators.items()},
        }
    )


def _duplicates(value: Any, where: str) -> float | None:
    if value is None or value is False or value == "off":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise RecipeError(f"{where}: duplicates is {value!r}; give a Jaccard similarity in (0, 1], or off")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RecipeError(f"{where} is {value!r}; give a mapping")
    return {str(k): v for k, v in value.items()}


def _gate_words(gate: Mapping[str, Any]) -> str:
    return " and ".join(f"{word.replace('_', ' ')} {value}" for word, value in gate.items())
