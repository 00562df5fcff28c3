"""Writes the report: one HTML file that tells a reader what was chosen, what was dropped, and why.

Here belongs the way from `ReportData` to the page: which tables and pictures there are and how much of each is shown.
The page's text stands in `page/report.html.j2`, its looks in `report.css`, and what little it does by itself in
`report.js`. The file loads nothing from anywhere: pictures are drawn by Vega, which is inlined once, and a content
security policy forbids scripts other than these two, so that text from the data can never run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from jobs.report import plots
from jobs.report.data import CorpusMap, PlantedKind, RecipeResult, ReportData, ReportError

__all__ = ["CorpusMap", "PlantedKind", "RecipeResult", "ReportData", "ReportError", "render_report"]

PAGE = Path(__file__).resolve().parent / "page"
FIRST_ROWS = 25
TABLE_ROWS = 100
TEXT_CHARS = 2000
PREVIEW_CHARS = 150
ARROWS = {"higher": "higher is better", "lower": "lower is better", "band": "neither end is better by itself"}


def render_report(data: ReportData, path: Path | str) -> Path:
    """Writes the report as one self-contained HTML file and returns its path; an older file is replaced at once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    path = Path(path)
    scripts = {"vega": _safe_script(_vega()), "page": _safe_script(_read("report.js"))}
    figures = _Figures()
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": _count, "number": _number, "cell": _cell, "clip": _clip}
    page = environment.get_template("report.html.j2").render(
        data=data,
        scripts=scripts,
        hashes=[_digest(script) for script in scripts.values()],
        css=_safe_style(_read("report.css")),
        figures=figures,
        tiles=_tiles(data),
        tables={
            "sources": _table(data.sources),
            "filters": _table(data.filters.sort("count", descending=True, nulls_last=True, maintain_order=True)),
            "quarantined": _table(data.quarantined),
            "duplicates": _table(
                data.duplicates.sort("similarity", descending=True, nulls_last=True, maintain_order=True)
            ),
        },
        recipes=[_recipe(recipe) for recipe in data.recipes],
        example_id=_example_id(data),
        arrows=ARROWS,
        preview=PREVIEW_CHARS,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(page, encoding="utf-8", errors="replace", newline="\n")
    draft.replace(path)
    return path


class _Figures:
    """Hands out pictures to the template as JSON that is safe inside a script element."""

    def funnel(self, data: ReportData) -> Any:
        return _json(plots.funnel(data.funnel))

    def planted(self, data: ReportData) -> Any:
        return _json(plots.planted(data.planted))

    def mix(self, frame: pl.DataFrame) -> Any:
        return _json(plots.mix(frame))

    def distribution(self, selected: Any, pool: Any) -> tuple[Any, str]:
        spec, note = plots.distribution(selected, pool)
        return (None if spec is None else _json(spec)), note

    def corpus_map(self, of: CorpusMap) -> tuple[Any, list[tuple[str, str, int]]]:
        spec, legend = plots.corpus_map(of)
        return _json(spec), legend


def _json(value: object) -> Any:
    """JSON in which no character can end the script element or open another one."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _safe_script(code: str) -> Any:
    """Our own code as the content of a script element."""
    from markupsafe import Markup

    return Markup(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def _safe_style(css: str) -> Any:
    """Our own styles as the content of a style element."""
    from markupsafe import Markup

    return Markup(css.replace("</", "<\\/"))


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _vega() -> str:
    import vl_convert

    return str(vl_convert.javascript_bundle(None))  # type: ignore[arg-type]  # None asks for the plain bundle


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _tiles(data: ReportData) -> list[tuple[str, str, str]]:
    """The numbers on top: caption, number, and a word on it."""
    came = data.rows_at("in")
    left = data.rows_at("gated", "not_chosen", "selected")
    chosen = data.rows_at("selected")

    def part(n: int) -> str:
        return f"{100 * n / came:.1f} % of all" if came else "nothing came in"

    sources = data.sources.height
    return [
        ("came in", _count(came), f"from {sources} source{'' if sources == 1 else 's'}" if sources else "records"),
        ("dropped as unsound", _count(data.rows_at("quarantined", "filtered", "duplicate")), "each with its reason"),
        ("sound candidates", _count(left), part(left)),
        ("selected", _count(chosen), part(chosen)),
    ]


def _table(frame: pl.DataFrame) -> dict[str, Any]:
    """A frame as heads (name, whether it holds numbers), the first rows, and how many more there are."""
    heads = [(name.replace("_", " "), frame.schema[name].is_numeric()) for name in frame.columns]
    return {"heads": heads, "rows": frame.head(TABLE_ROWS).rows(), "more": max(frame.height - TABLE_ROWS, 0)}


def _recipe(recipe: RecipeResult) -> dict[str, Any]:
    """A recipe with what its card shows."""
    groups = [(str(by[0]), group) for by, group in recipe.mix.group_by("by", maintain_order=True)]
    return {
        "is": recipe,
        "mixes": groups,
        "decisions": plots.shares_of(recipe.decisions),
        "rows": recipe.selected.sort("rank").head(FIRST_ROWS).to_dicts(),
        "weighs": "weight" in recipe.selected.columns and bool((recipe.selected["weight"] != 1).any()),
    }


def _example_id(data: ReportData) -> str:
    for recipe in data.recipes:
        if "row_id" in recipe.selected.columns and recipe.selected.height:
            return str(recipe.selected["row_id"][0])
    return "ROW_ID"


def _count(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"


def _number(value: object) -> str:
    """Four significant digits, no trailing noise; a dash where there is no number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _clip(text: str, limit: int) -> str:
    """The beginning of a text, cut between words where its script has gaps between them."""
    head = text[:limit]
    gap = head.rfind(" ")
    return head[:gap] if gap > limit - 25 else head


def _cell(value: object) -> str:
    """A table cell's text, cut where it would flood the page."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    if isinstance(value, Mapping | list):
        value = json.dumps(value, ensure_ascii=False)
    text = "–" if value is None else str(value)
    return text if len(text) <= TEXT_CHARS else text[:TEXT_CHARS] + f" … ({len(text) - TEXT_CHARS:,} more characters)"
