"""The tables that the command line shows.

Here belongs laying out facts for a terminal. Where the facts come from is the lake's manifests and tables.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from dagster import AssetKey
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from jobs.explain import Explanation
from jobs.made import Outcome
from resources.lake import Lake


def grid(title: str, frame: Sequence[Sequence[Any]], columns: Sequence[str]) -> Table:
    """A table; numbers to the right."""
    table = Table(
        title=title,
        min_width=len(title),
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    numeric = [
        all(isinstance(row[i], int | float | None) for row in frame) and bool(frame) for i in range(len(columns))
    ]
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in frame:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return escape(str(value))


def methods(described: Sequence[dict[str, Any]]) -> Table:
    """The catalogue."""
    rows = [
        (m["id"], m["kind"], m["axis"], m["section"], m["direction"] or "", m["cost"], m["title"]) for m in described
    ]
    return grid(f"{len(rows)} methods", rows, ["id", "kind", "axis", "section", "direction", "cost", "what"])


def made(outcome: Outcome) -> str:
    """One line: what was computed and what was up to date."""
    fresh = [m for m in outcome.made if not m.up_to_date]
    return f"[dim]{len(outcome.made)} tables: {len(fresh)} made, {outcome.up_to_date} up to date[/]"


def facts(lake: Lake, keys: Sequence[AssetKey], sources: Sequence[str]) -> Iterator[Table]:
    """What some tables counted while they were made: one grid a table."""
    for key in keys:
        for source in (*sources, None):
            manifest = lake.manifest(key.path, source)
            if manifest is None:
                continue
            counted = {name: value for name, value in manifest.facts.items() if isinstance(value, str | int | float)}
            of = f" of {source}" if source else ""
            lines = [(name, _cell(value)) for name, value in counted.items()]
            yield grid(f"{key.to_user_string()}{of}", lines, ["", ""])


def scores(table: pl.DataFrame) -> Table:
    """A summary of a score table: one line an indicator and source."""
    summary = table.group_by("source", "indicator", maintain_order=True).agg(
        pl.len().alias("rows"),
        pl.col("value").count().alias("with value"),
        pl.col("value").min().alias("min"),
        pl.col("value").median().alias("median"),
        pl.col("value").max().alias("max"),
        pl.col("status").filter(pl.col("status") != "ok").value_counts(sort=True).alias("without"),
    )
    rows = [(*row[:-1], ", ".join(f"{s['count']} {s['status']}" for s in row[-1])) for row in summary.iter_rows()]
    return grid(
        "scores", rows, ["source", "indicator", "rows", "with value", "min", "median", "max", "without a value"]
    )


def run(lake: Lake, recipe: str, outcome: Outcome) -> Iterator[RenderableType]:
    """What came in, what was dropped and why, what was selected from where."""
    subset = lake.manifest(["selected", recipe])
    if subset is None:
        return
    pool = subset.facts["pool"]
    yield grid(
        "what came in",
        [_came_in(lake, source) for source in pool],
        ["source", "records", "quarantined", "rows", "kept by the filters", "file"],
    )
    yield grid("what was dropped, and why", list(drops(lake, recipe, pool)), ["where", "rule", "rows", "for example"])
    ledger = lake.scan(["selected", "ledgers", recipe]).collect()
    chosen = ledger.group_by("source", maintain_order=True).agg(
        (pl.col("decision") == "selected").sum().alias("selected"),
        (pl.col("decision") == "not_chosen").sum().alias("not chosen"),
        pl.len().alias("kept"),
    )
    yield grid(
        f"what {recipe} selected (budget {subset.facts['budget']:,})",
        list(chosen.select("source", "selected", "not chosen", "kept").iter_rows()),
        ["source", "selected", "not chosen", "of"],
    )
    facts = subset.facts
    yield (
        f"[bold]{facts['rows in']:,} rows in = {subset.rows:,} selected + {facts['rows dropped']:,} dropped with a"
        f" reason + {facts['rows not chosen']:,} not chosen[/]"
        + (
            " [green]✓[/]"
            if facts["rows in"] == subset.rows + facts["rows dropped"] + facts["rows not chosen"]
            else " [red]✗[/]"
        )
    )
    fresh = sorted(
        ((m.computed or 0, m.key, m.source) for m in outcome.made if not m.up_to_date and m.computed), reverse=True
    )
    if fresh:
        most = ", ".join(f"{key}{f' of {source}' if source else ''} {count:,}" for count, key, source in fresh[:4])
        yield f"[dim]rows computed: {most}[/]"


def _came_in(lake: Lake, source: str) -> tuple[Any, ...]:
    raw, kept = lake.manifest(["raw", "instructions"], source), lake.manifest(["filtered", "instructions"], source)
    assert raw is not None and kept is not None  # a subset was made of them
    return source, raw.facts["records"], raw.facts["records quarantined"], raw.rows, kept.rows, raw.facts["file"]


def drops(lake: Lake, recipe: str, pool: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """``where, rule, rows, example`` for everything that did not come through."""
    for source in pool:
        bad = (
            lake.scan(["raw", "quarantine"], source)
            .group_by("reason")
            .agg(pl.len(), pl.first("detail"))
            .collect()
            .sort("len", "reason", descending=[True, False])
        )
        yield from ((source, f"unreadable: {reason}", n, example) for reason, n, example in bad.iter_rows())
        dropped = (
            lake.scan(["filtered", "dropped"], source)
            .group_by("rule")
            .agg(pl.len(), pl.first("detail"))
            .collect()
            .sort("len", "rule", descending=[True, False])
        )
        yield from ((source, rule, n, example) for rule, n, example in dropped.iter_rows())
    ledger = lake.scan(["selected", "ledgers", recipe]).filter(pl.col("decision") == "dropped")
    rules = (
        ledger.group_by("rule")
        .agg(pl.len(), pl.first("reason"))
        .collect()
        .sort("len", "rule", descending=[True, False])
    )
    yield from ((f"recipe {recipe}", rule, n, example) for rule, n, example in rules.iter_rows())


def explanation(found: Explanation) -> Iterator[RenderableType]:
    """A row's story, from its file to the decisions on it."""
    yield f"[bold]row {found.row_id}[/]"
    for place in found.places[:1]:
        for name in ("instruction", "input", "response"):
            text = str(place[name] or "")
            if text:
                yield f"[dim]{name}[/] {escape(text[:600])}{' …' if len(text) > 600 else ''}"
    yield grid(
        "where it came from",
        [(p["source"], p["file"], p["position"], p["line"], p["layout"], p["read at"]) for p in found.places],
        ["source", "file", "record", "line", "layout", "read at"],
    )
    yield grid(
        "the filters",
        [
            (v["source"], v["verdict"], v["rule"], v["detail"], v["language"], ", ".join(v["flags"] or []))
            for v in found.verdicts
        ],
        ["source", "verdict", "rule", "why", "language", "flags"],
    )
    if found.twins:
        yield grid("rows that say the same", [(t["twin"], t["similarity"]) for t in found.twins], ["row", "similarity"])
    if found.cluster:
        terms = ", ".join(found.cluster["top_terms"] or [])
        yield f"[bold]cluster[/] {found.cluster['cluster']} of {found.cluster['size']:,} rows about {escape(terms)}"
    yield grid(
        "scores",
        [_score(s) for s in found.scores],
        ["indicator", "value", "status", "better", "code", "made of", "made at"],
    )
    yield grid(
        "what the recipes decided",
        [_decision(d) for d in found.decisions],
        ["recipe", "decision", "rank", "score", "why", "made at"],
    )


def _score(score: dict[str, Any]) -> tuple[Any, ...]:
    evidence = (f"{name.split('[')[0]} {_model(parts)}".strip() for name, parts in score["made of"].items())
    made_of = "; ".join(dict.fromkeys(evidence))
    return (
        score["indicator"],
        score["value"],
        score["status"],
        score["direction"],
        score["code"],
        made_of,
        score["made at"],
    )


def _model(parts: Any) -> str:
    if not isinstance(parts, dict):
        return str(parts)
    encoder = parts.get("encoder")
    model = parts if "model" in parts else encoder if isinstance(encoder, dict) else {}
    state = str(model.get("revision") or model.get("content") or "")[:12]
    return f"{model.get('model', '')} {state}".strip() or f"code {parts.get('code', '')}"


def _decision(decision: dict[str, Any]) -> tuple[Any, ...]:
    why = decision.get("reason", "")
    rule, weight = decision.get("rule"), decision.get("weight", 1.0)
    if weight != 1:
        why = f"{why}; counts for {weight:,.4g} in training"
    return (
        decision["recipe"],
        decision["decision"],
        decision.get("rank"),
        decision.get("score"),
        f"{rule}: {why}" if rule else why,
        decision["made at"],
    )
