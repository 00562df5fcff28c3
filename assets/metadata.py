"""What an asset's page shows: counts, columns and where they come from, histograms, tables of rows.

Here belongs turning tables and numbers into Dagster metadata. Which of them an asset shows is the asset's business.

What the UI does decides the forms. Markdown of fewer than 1,000 characters is shown in place, longer Markdown behind
a link: so a histogram is a picture that fits. Tables of rows are Dagster's own tables, in place whatever their
length, and plain text whatever the rows hold: in Markdown a row could draw links and load pictures. Column lineage is
recorded but not shown by the open-source UI, so each column's description names its origin too.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets.columns import described
from resources.lake import Lake, Manifest

BAR, AXIS, MARK = "#4f6bed", "#888", "#e5484d"
IN_PLACE = 1000
"""Markdown of this many characters and more stands behind a link."""
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters, and the marks that turn the direction of the text around them."""


# ---- what every page shows ------------------------------------------------------------------------------------------


def of_table(frame: pl.LazyFrame, lineage: dg.TableColumnLineage) -> dict[str, Any]:
    """Row count, schema and column lineage, under the names that the UI knows."""
    schema = frame.collect_schema()
    columns = [
        dg.TableColumn(name, _kind(kind), described(name, _origins(lineage, name))) for name, kind in schema.items()
    ]
    return {
        "dagster/row_count": frame.select(pl.len()).collect().item(),
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "dagster/column_lineage": lineage,
    }


def _kind(kind: pl.DataType) -> str:
    text = re.sub(r", (shape|size)=(\(.*?\)|\d+)", "", str(kind))
    return text if len(text) <= 60 else text[:59] + "…"


def _origins(lineage: dg.TableColumnLineage, column: str) -> list[str]:
    by_asset: dict[str, list[str]] = {}
    for dep in lineage.deps_by_column.get(column, ()):
        by_asset.setdefault(dep.asset_key.to_user_string(), []).append(dep.column_name)
    named = []
    for key, names in by_asset.items():
        few = [key if name == column else f"{key}.{name}" for name in names]
        named += few if len(few) <= 3 else [f"{len(few)} columns of {key}"]
    return named


def column_lineage(
    columns: Sequence[str], upstream: Mapping[str, Sequence[str]], extra: Mapping[str, Sequence[tuple[str, str]]]
) -> dg.TableColumnLineage:
    """A column comes from the upstream columns that the asset names, or else from those of the same name."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for column in columns:
        named = [(key, name) for key, name in extra.get(column, ()) if name in upstream.get(key, ())]
        pairs = named or [(key, column) for key, names in upstream.items() if column in names]
        if pairs:
            deps[column] = [
                dg.TableColumnDep(asset_key=dg.AssetKey(key.split("/")), column_name=name)
                for key, name in dict.fromkeys(pairs)
            ]
    return dg.TableColumnLineage(deps_by_column=deps)


def of_facts(facts: Mapping[str, Any], shown: Iterable[str] = ()) -> dict[str, Any]:
    """Numbers and words among the facts, but for those already shown; Dagster plots the numbers over time."""
    skipped = {"rows", "rows before", *shown}
    told: dict[str, Any] = {}
    for key, value in facts.items():
        if key in skipped:
            continue
        if isinstance(value, float):
            told[key] = float(f"{value:.6g}")
        elif isinstance(value, int | str | bool):
            told[key] = value
        elif isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            told[key] = ", ".join(value)
    return told


def of_change(before: Manifest | None, now: Manifest) -> dict[str, Any]:
    """What is different from the version that this one replaces."""
    if before is None:
        return {"change": dg.MetadataValue.md("first version")}
    lines = [f"rows: {before.rows:,} → {now.rows:,} ({now.rows - before.rows:+,})"]
    if "rows new in subset" in now.facts:
        lines.append(f"{now.facts['rows new in subset']:,} rows came, {now.facts['rows gone from subset']:,} went")
    if before.code_version != now.code_version:
        lines.append(f"code version: {before.code_version} → {now.code_version}")
    lines += [
        f"{name}: {_short(before.config.get(name))} → {_short(now.config.get(name))}"
        for name in sorted(set(before.config) | set(now.config))
        if before.config.get(name) != now.config.get(name)
    ]
    changed = sorted(k for k in set(before.inputs) | set(now.inputs) if before.inputs.get(k) != now.inputs.get(k))
    if changed:
        rest = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        lines.append("other content in: " + ", ".join(changed[:6]) + rest)
    return {"change": dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))}


def _short(value: Any) -> str:
    text = safe(str(value))
    return f"`{text if len(text) <= 60 else text[:59] + '…'}`".replace("``", "`–`")


# ---- where a table comes from ---------------------------------------------------------------------------------------


def of_inputs(lake: Lake, inputs: Mapping[str, str], most: int = 40) -> dict[str, Any]:
    """Each table that went in: a link to it, its versions, and the models behind it, so that one can walk back.

    Names of assets and sources hold no Markdown; other inputs are files, which may be called anything.
    """
    lines = []
    for name, version in list(inputs.items())[:most]:
        key, _, source = name.removesuffix("]").partition("[")
        manifest = lake.manifest(key.split("/"), source or None)
        link = f"[{key}](/assets/{key}{f'?view=partitions&partition={source}' if source else ''})"
        link = link if manifest else f"`{safe(re.sub('[|`]', '_', name))}`"
        code = manifest.code_version if manifest else ""
        models = ", ".join(models_behind(lake, [name]))
        lines.append(f"| {link} | {source} | {code} | `{version[:10]}` | {models} |")
    if not lines:
        return {}
    if len(inputs) > most:
        lines.append(f"| and {len(inputs) - most} more | | | | |")
    head = "| made from | source | code | content | models behind it |\n|---|---|---|---|---|"
    return {"made from": dg.MetadataValue.md("\n".join([head, *lines]))}


def models_behind(lake: Lake, names: Iterable[str]) -> list[str]:
    """The models that had a part in these tables or in what those were made from, with the start of their hash."""
    todo, seen, models = list(names), set[str](), set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        key, _, source = name.removesuffix("]").partition("[")
        manifest = lake.manifest(key.split("/"), source or None)
        if manifest is None:
            continue
        models |= {
            f"{identity['model']} ({str(identity.get('revision') or identity.get('content', ''))[:8]})"
            for identity in (manifest.config, manifest.config.get("encoder"))
            if isinstance(identity, dict) and isinstance(identity.get("model"), str)
        }
        todo += manifest.inputs
    return sorted(models)


# ---- kept with the table, for a run that finds it up to date --------------------------------------------------------


def storable(shown: Mapping[str, Any]) -> dict[str, Any]:
    """An asset's pictures and tables as plain data, kept with the table to be shown again when it is unchanged."""
    kept: dict[str, Any] = {}
    for key, value in shown.items():
        if isinstance(value, dg.MarkdownMetadataValue):
            kept[key] = value.md_str
        elif isinstance(value, dg.TableMetadataValue):
            names = [column.name for column in value.schema.columns]
            kept[key] = {"columns": names, "rows": [[r.data.get(name) for name in names] for r in value.records]}
    return kept


def kept(stored: Manifest) -> dict[str, Any]:
    """What `storable` kept."""
    shown = stored.facts.get("shown", {})
    return {
        key: dg.MetadataValue.md(value) if isinstance(value, str) else _table(value["columns"], value["rows"])
        for key, value in shown.items()
    }


# ---- tables ---------------------------------------------------------------------------------------------------------


def table(frame: pl.DataFrame, width: int = 300, most: int = 40) -> dg.MetadataValue:
    """A table of rows for a person: numbers are rounded, long text is cut, and so is a long table."""
    if frame.height == 0:
        return dg.MetadataValue.md("none")
    rows = [[_cell(value, width) for value in row] for row in frame.head(most).iter_rows()]
    if frame.height > most:
        rows.append([f"… and {frame.height - most:,} more", *[""] * (frame.width - 1)])
    return _table(frame.columns, rows)


def texts(*parts: str, row_id: str = "row_id", width: int = 130) -> pl.Expr:
    """Several texts of a row and its id as one cell: the page is narrow, and an id by itself would take half of it."""
    cut = [
        pl.when(pl.col(part).str.len_chars() > width)
        .then(pl.col(part).str.slice(0, width - 1) + "…")
        .when(pl.col(part).str.strip_chars() == "")
        .then(pl.lit("(empty)"))
        .otherwise(pl.col(part))
        .fill_null("–")
        for part in parts
    ]
    return pl.format(" → ".join("{}" for _ in cut) + "  [{}]", *cut, row_id)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.TableMetadataValue:
    records = [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name, "text") for name in columns]))


def _cell(value: Any, width: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    text = safe(str(value)).strip()
    return text if len(text) <= width else text[: width - 1] + "…"


def safe(text: str) -> str:
    """Text on one line, without characters that would act on the page instead of being seen."""
    return _UNSAFE.sub("\ufffd", re.sub(r"\s*[\r\n\u2028\u2029]+\s*", " ⏎ ", text).replace("\t", " "))


def mix(shares: pl.DataFrame, label: str) -> dg.MetadataValue:
    """Two shares a group side by side (``group``, ``subset``, ``pool``): what was chosen against what there was."""
    top = max(shares.select(pl.max_horizontal("subset", "pool").max()).item() or 0.0, 1e-9)

    def drawn(column: str) -> pl.Expr:
        shown = pl.format("{}% {}", (pl.col(column) * 100).round(1), pl.col(column).map_elements(bar, pl.String))
        return shown.alias(column)

    def bar(share: float) -> str:
        return "█" * round(share / top * 8)

    change = pl.when(pl.col("pool") > 0).then(pl.format("× {}", (pl.col("subset") / pl.col("pool")).round(2)))
    return table(
        shares.select(pl.col("group").alias(label), drawn("subset"), drawn("pool"), change.alias("ratio")), 22, 20
    )


# ---- pictures -------------------------------------------------------------------------------------------------------


def histogram(values: pl.Series, label: str, bins: int = 40) -> dg.MarkdownMetadataValue:
    """The distribution of a column of numbers as an inline picture, between its 0.5th and 99.5th percentile.

    The picture is one outline of few characters, so that the page shows it in place; a thin line marks the median.
    """
    numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) == 0:
        return dg.MetadataValue.md(f"no value of {label}")
    low, high = np.percentile(numbers, [0.5, 99.5])
    if low == high:
        return dg.MetadataValue.md(f"{len(numbers):,} values of {label}, nearly all {low:.6g}")
    counts, _ = np.histogram(np.clip(numbers, low, high), bins=bins, range=(low, high))
    width, height = 12 * bins, 130
    outline = "".join(f"V{height - round(count / counts.max() * (height - 10))}h12" for count in counts)
    median = float(np.median(numbers))
    at = round((median - low) / (high - low) * width)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 20}" font-family="sans-serif" '
        f'font-size="12" fill="{AXIS}"><path fill="{BAR}" d="M0 {height}{outline}V{height}z"/>'
        f'<path stroke="{MARK}" d="M{at} 0V{height}"/><text y="{height + 15}">{low:.4g}</text>'
        f'<text x="50%" y="{height + 15}" text-anchor="middle">median {median:.4g}, n = {len(numbers):,}</text>'
        f'<text x="100%" y="{height + 15}" text-anchor="end">{high:.4g}</text></svg>'
    )
    return picture(svg, label)


def picture(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """An SVG that the asset page shows."""
    return dg.MetadataValue.md(f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def line(values: Sequence[float], label: str, points: int = 40) -> dg.MarkdownMetadataValue:
    """How a number went, from its first value to its last, as an inline picture; many values are averaged in turn."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) == 0:
        return dg.MetadataValue.md(f"no value of {label}")
    shown = np.array([part.mean() for part in np.array_split(numbers, min(points, len(numbers)))])
    low, high = float(shown.min()), float(shown.max())
    width, height = 480, 130
    x = np.round(np.linspace(0, width, len(shown))).astype(int)
    y = np.round((1 - (shown - low) / ((high - low) or 1.0)) * (height - 20) + 10).astype(int)
    path = f"M{x[0]} {y[0]}" + "".join(f"L{a} {b}" for a, b in zip(x[1:], y[1:], strict=True))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 20}" font-family="sans-serif" '
        f'font-size="12" fill="{AXIS}"><path fill="none" stroke="{BAR}" stroke-width="2" d="{path}"/>'
        f'<text y="{height + 15}">first {numbers[0]:.4g}</text>'
        f'<text x="50%" y="{height + 15}" text-anchor="middle">n = {len(numbers):,}</text>'
        f'<text x="100%" y="{height + 15}" text-anchor="end">last {numbers[-1]:.4g}</text></svg>'
    )
    return picture(svg, label)


def scatter(
    points: pl.DataFrame, colours: Mapping[str, str], cuts: tuple[float | None, float | None], label: str
) -> dg.MarkdownMetadataValue:
    """Points (``x``, ``y``, ``kind``), each in the colour of its kind, as an inline picture; thin lines mark the cuts.

    Each kind is one outline of few characters, so that the page shows a dozen points or two in place.
    """
    shown = points.drop_nulls()
    if shown.height == 0:
        return dg.MetadataValue.md(f"no points of {label}")
    width, height = 480, 180

    def place(name: str, value: pl.Expr) -> pl.Expr:
        low, high = shown.select(low=pl.col(name).min(), high=pl.col(name).max()).row(0)
        share = (value - low) / ((high - low) or 1.0)
        at = 8 + share * (width - 16) if name == "x" else height - 8 - share * (height - 16)
        return at.round().cast(pl.Int64)

    at = shown.select("kind", x=place("x", pl.col("x")), y=place("y", pl.col("y")))
    u, v = (shown.select(place(n, pl.lit(c, pl.Float64))).item() for n, c in zip("xy", cuts, strict=True))
    lines = "".join((f"M{u} 0v{height}" if u is not None else "", f"M0 {v}h{width}" if v is not None else ""))
    outlines, legend = "", ""
    for kind, colour in colours.items():
        of_kind = at.filter(pl.col("kind") == kind)
        dots = "".join(f"M{x} {y}h0" for _, x, y in of_kind.iter_rows())
        outlines += f'<path stroke="{colour}" d="{dots}"/>' if dots else ""
        legend += f'<tspan fill="{colour}">{kind} {of_kind.height} </tspan>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 20}" font-family="sans-serif" '
        f'font-size="12"><path stroke="#ccc" d="{lines}"/><g stroke-width="9" stroke-linecap="round">{outlines}</g>'
        f'<text y="{height + 15}">{legend}</text></svg>'
    )
    return picture(svg, label)
