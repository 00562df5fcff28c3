"""The page of all methods, ``docs/methods.md``, written from the catalogue: ``python -m jobs.methods_page``.

Here belongs the page's layout only. What it says of a method stands in the catalogue's record and in the labelled
paragraphs (``Statuses:``, ``Parameters:``, ``Departures:``, ...) of the method's docstring.
"""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from methods.catalog import CLUSTERINGS, METHODS, kind_of
from methods.kinds import Method

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
LENGTH = PAGE.with_name("length_correlation.json")
"""What `benchmarks.length` measured."""

_HEAD = """# Methods

Every method of the catalogue. This page is generated (`python -m jobs.methods_page`); do not edit it.

An **indicator** is a number for a row, a **measure** a number for a set of rows, a **selector** a way to choose rows.
An indicator that cannot be computed is null and its status says why; a measure that has no meaning is null.
*Direction* says which end a selector wants: `higher`, `lower`, or `band` (neither end is good by itself).
*Cost* is that of the evidence: `cpu`, `gpu` (a model's pass over the data) or `llm` (a judge's calls).
*With length* is Spearman's rank correlation of an indicator with the number of words in the response, on the rows of
{data} where both have a value ({measured}; `python -m benchmarks.length --data alpaca.jsonl`). An indicator far from 0
ranks rows much as their length does: a selection by it is a selection of long (or short) answers until the contrary is
shown."""

_AXES = ("quality", "diversity", "importance")
_KINDS = ("indicator", "measure", "selector")
_LABEL = re.compile(r"^(Direction|Parameters|Statuses|Undefined|Departures|Source): ")
_SHOWN = ("Direction", "Parameters", "Statuses", "Undefined", "Departures", "Source")


def _docstring(method: Method) -> str:
    function = getattr(method, "compute", None) or getattr(method, "select", None)
    function = getattr(function, "func", function)  # what a partial wraps
    return inspect.getdoc(function) or ""


def labelled(docstring: str) -> dict[str, str]:
    """The paragraphs of a docstring that open with a label, each on one line, without the label."""
    found = {}
    for paragraph in docstring.split("\n\n"):
        text = " ".join(paragraph.split())
        if match := _LABEL.match(text):
            found[match[1]] = text[match.end() :]
    return found


def _code(values: Sequence[str]) -> str:
    return ", ".join(f"`{value}`" for value in values) or "-"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _with_length(method: Method, measured: Mapping[str, Mapping[str, Any]]) -> str:
    """``+0.62`` and, where it is not thousands, of how many rows."""
    found = measured.get(method.id, {})
    if found.get("rho") is None:
        return "-"
    return f"{found['rho']:+.2f}" + ("" if found["n"] >= 1000 else f" (n={found['n']})")


def _table(methods: Sequence[Method], measured: Mapping[str, Mapping[str, Any]]) -> str:
    names = ["id", "what", "section", "direction", "needs", "cost"]
    indicators = kind_of(methods[0]) == "indicator"
    names += ["with length"] if indicators else []
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for method in methods:
        cells = [
            f"[`{method.id}`](#{method.id})",
            method.title,
            method.section,
            getattr(method, "direction", "-"),
            _code(method.needs),
            method.cost,
        ]
        cells += [_with_length(method, measured)] if indicators else []
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _block(method: Method) -> str:
    says = labelled(_docstring(method))
    lines = [f"### {method.id}", "", f"**{method.title}.** {method.meaning}", "", "```tex", method.equation, "```", ""]
    if direction := getattr(method, "direction", None):
        why = re.sub(rf"^{direction}[;,] ", "", says.get("Direction", ""))  # the word itself is said already
        says["Direction"] = f"`{direction}`: {why}" if why else f"`{direction}`"
    lines.append(f"- Needs: {_code(method.needs)}; cost `{method.cost}`; version {method.version}")
    if method.params:
        lines.append(f"- Defaults: {_code([f'{name}={value!r}' for name, value in method.params.items()])}")
    lines.extend(f"- {label}: {says[label]}" for label in _SHOWN if label in says)
    if "Source" not in says:
        lines.append(f"- Source: {method.paper}")
    return "\n".join(lines)


_CLUSTERINGS = """## Clusterings

Each is a table of its own, `clustered/<id>`: `sluice make clustered/nmf`. A row's label counts from 0; -1 is none."""


def _clusterings() -> str:
    blocks = []
    for method in CLUSTERINGS:
        says = labelled(inspect.getdoc(method.fit) or "")
        defaults = _code([f"{name}={value!r}" for name, value in method.params.items()])
        lines = [f"### {method.id}", "", f"**{method.title}.** {method.meaning}", "", "```tex", method.equation, "```"]
        lines += ["", f"- Goes by: {method.needs}; version {method.version}", f"- Defaults: {defaults}"]
        lines += [f"- {label}: {says[label]}" for label in _SHOWN if label in says]
        blocks.append("\n".join([*lines, *([] if "Source" in says else [f"- Source: {method.paper}"])]))
    return "\n\n".join([_CLUSTERINGS, *blocks])


def render(methods: Sequence[Method] = METHODS) -> str:
    """The whole page: a section for each axis and kind, with a table and then a block for each method."""

    def place(method: Method) -> tuple[int, int]:
        return _AXES.index(method.axis), _KINDS.index(kind_of(method))

    said = json.loads(LENGTH.read_text(encoding="utf-8"))
    parts = [_HEAD.replace("{data}", said["data"]).replace("{measured}", said["measured"])]
    for (axis, kind), group in groupby(sorted(methods, key=place), key=place):
        members = list(group)
        parts.append(f"## {_AXES[axis].capitalize()}: {_KINDS[kind]}s")
        parts.append(_table(members, said["indicators"]))
        parts.extend(map(_block, members))
    parts.append(_clusterings())
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
