"""What commands have in common: files, parameters of methods, the home, as click options.

Here belongs reading a person's words into plain data, and refusing what cannot be meant. What a command does with it
is `cli`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from methods import catalog
from methods.formats import LAYOUTS
from methods.judging import questions
from resources.lake import LakeError, check_name


def _sources(_: Any, __: Any, values: Sequence[str]) -> dict[str, Path]:
    sources: dict[str, Path] = {}
    for value in values:
        name, mark, path = value.partition("=")
        if not mark or not path:
            raise click.BadParameter(f"{value!r} is not NAME=FILE")
        try:
            check_name(name)
        except LakeError as error:
            raise click.BadParameter(str(error)) from error
        if name in sources:
            raise click.BadParameter(f"source {name!r} is named twice")
        sources[name] = Path(path).expanduser()
    return sources


def _params(_: Any, __: Any, values: Sequence[str]) -> dict[str, dict[str, Any]]:
    params: dict[str, dict[str, Any]] = {}
    for value in values:
        place, mark, text = value.partition("=")
        method, dot, name = place.partition(".")
        if not mark or not dot:
            raise click.BadParameter(f"{value!r} is not ID.NAME=VALUE")
        _check_param(method, name)
        params.setdefault(method, {})[name] = _value(text)
    return params


STEPS = (
    *("kmeans", "duplicates", "neighbours", "semantic_pairs", "task_map", "preference_head", "warmup_rows"),
    *("experienced", "mods", "mods_model", "subset_runs", "instruction_mining_rule", "size_search", "judge"),
    *("judged_pairs", "distillation", "agreement", "calibration"),
)
"""Steps that are no methods of the catalogue and have parameters too; each says itself which."""


def _check_param(method: str, name: str) -> None:
    asked = {f"judgments_{question.id}": question for question in questions.QUESTIONS}
    found: Any = asked.get(method) or next((m for m in catalog.METHODS if m.id == method), None)
    steps = (*STEPS, *(clustering.id for clustering in catalog.CLUSTERINGS), *asked)
    if found is None and method not in steps:
        raise click.BadParameter(
            f"there is no method {method!r}; `sluice methods` lists them, and these steps have parameters too: "
            f"{', '.join(steps)}"
        )
    if found is not None and name not in found.params:
        raise click.BadParameter(f"{method} has no parameter {name!r}; it has {', '.join(found.params) or 'none'}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def options(*chosen: Callable[..., Any]) -> Callable[..., Any]:
    """A command with these options, in this order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(chosen):
            command = option(command)
        return command

    return add


HOME = click.option(
    "--home", type=click.Path(file_okay=False), help="Where everything lies; SLUICE_HOME, or ./.sluice by default."
)
SOURCE = click.option(
    "--source",
    "sources",
    multiple=True,
    callback=_sources,
    metavar="NAME=FILE",
    help="A dataset; give several if you like.",
)
LAYOUT = click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    help="Force a layout for all files of this call instead of recognising it.",
)
PARAM = click.option(
    "--param", "params", multiple=True, callback=_params, metavar="ID.NAME=VALUE", help="A parameter of a method."
)
