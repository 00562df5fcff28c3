"""What an asset's page shows: counts, schema, column lineage, histograms, tables of rows.

Here belongs turning tables and numbers into Dagster metadata. Which of them an asset shows is the asset's business.
Plots are small inline SVGs, because the UI shows an image in Markdown and nothing more.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from resources.lake import Manifest

BAR, AXIS = "#4f6bed", "#888"


def of_table(frame: pl.LazyFrame, lineage: dg.TableColumnLineage) -> dict[str, Any]:
    """Row count, schema and column lineage, under the names that the UI knows."""
    schema = frame.collect_schema()
    return {
        "dagster/row_count": frame.select(pl.len()).collect().item(),
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(name, str(kind)) for name, kind in schema.items()]
        ),
        "dagster/column_lineage": lineage,
    }


def column_lineage(
    columns: Sequence[str], upstream: Mapping[str, Sequence[str]], extra: Mapping[str, Sequence[tuple[str, str]]]
) -> dg.TableColumnLineage:
    """A column comes from the upstream columns of the same name, and from those that the asset names."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for column in columns:
        pairs = [(key, column) for key, names in upstream.items() if column in names]
        pairs += [(key, name) for key, name in extra.get(column, ()) if name in upstream.get(key, ())]
        if pairs:
            deps[column] = [
                dg.TableColumnDep(asset_key=dg.AssetKey(key.split("/")), column_name=name)
                for key, name in dict.fromkeys(pairs)
            ]
    return dg.TableColumnLineage(deps_by_column=deps)


def of_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Plain numbers and words among the facts, as they are; Dagster plots the numbers over time."""
    return {key: value for key, value in facts.items() if isinstance(value, int | float | str | bool) and key != "rows"}


def of_change(before: Manifest | None, now: Manifest) -> dict[str, Any]:
    """What is different from the version that this one replaces."""
    if before is None:
        return {"change": dg.MetadataValue.md("first version")}
    changed = sorted(k for k in set(before.inputs) | set(now.inputs) if before.inputs.get(k) != now.inputs.get(k))
    lines = [f"rows: {before.rows:,} → {now.rows:,} ({now.rows - before.rows:+,})"]
    lines += [f"changed input: `{name}`" for name in changed]
    if before.code_version != now.code_version:
        lines.append(f"code version: {before.code_version} → {now.code_version}")
    if before.config != now.config:
        lines.append("configuration changed")
    return {"change": dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))}


def storable(shown: Mapping[str, Any]) -> dict[str, str]:
    """The Markdown among an asset's metadata, kept with the table so that an unchanged table can show it again."""
    return {key: value.md_str for key, value in shown.items() if isinstance(value, dg.MarkdownMetadataValue)}


def kept(stored: Manifest) -> dict[str, Any]:
    """What `storable` kept."""
    return {key: dg.MetadataValue.md(text) for key, text in stored.facts.get("shown", {}).items()}


def table(frame: pl.DataFrame, width: int = 300) -> dg.MarkdownMetadataValue:
    """A table of rows for a person; long text is cut. Markdown, because the UI's own table cuts at two lines."""
    header = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
    lines = ["| " + " | ".join(_cell(value, width) for value in row) + " |" for row in frame.iter_rows()]
    return dg.MetadataValue.md("\n".join([header, *lines]))


def _cell(value: Any, width: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    text = text if len(text) <= width else text[: width - 1] + "…"
    return html.escape(text).replace("|", "\\|").replace("\n", " ⏎ ").replace("\r", " ")


def histogram(values: pl.Series, label: str, bins: int = 40) -> dg.MarkdownMetadataValue:
    """The distribution of a column of numbers as an inline picture, between its 0.5th and 99.5th percentile."""
    numbers = values.drop_nulls().drop_nans().to_numpy()
    if len(numbers) == 0:
        return dg.MetadataValue.md(f"no value of {label}")
    low, high = np.percentile(numbers, [0.5, 99.5])
    if low == high:
        return dg.MetadataValue.md(f"{len(numbers):,} values of {label}, nearly all {low:.6g}")
    counts, _ = np.histogram(np.clip(numbers, low, high), bins=bins, range=(low, high))
    width, height, step = 640, 180, 640 / bins
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height - h:.1f}" width="{step - 1:.1f}" height="{h:.1f}" fill="{BAR}"/>'
        for i, h in enumerate(counts / counts.max() * height)
    )
    names = "".join(
        f'<text x="{x}" y="{height + 16}" font-size="12" fill="{AXIS}" text-anchor="{anchor}" font-family="sans-serif">{text}</text>'
        for x, anchor, text in (
            (0, "start", f"{low:.4g}"),
            (width / 2, "middle", f"median {np.median(numbers):.4g}, n = {len(numbers):,}"),
            (width, "end", f"{high:.4g}"),
        )
    )
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 22}" width="{width}">{bars}{names}</svg>'
    return picture(svg, f"distribution of {label}")


def mix(shares: pl.DataFrame, label: str) -> dg.MarkdownMetadataValue:
    """Two shares a group side by side (``group``, ``subset``, ``pool``): what was chosen against what there was."""
    rows = shares.head(24)
    top = max(rows.select(pl.max_horizontal(pl.col("subset").max(), pl.col("pool").max())).item() or 0.0, 1e-9)
    line, left, width = 24, 170, 420
    parts = []
    for i, (group, subset, pool) in enumerate(rows.select("group", "subset", "pool").iter_rows()):
        y = i * line
        parts.append(
            f'<text x="{left - 8}" y="{y + 15}" font-size="12" text-anchor="end" fill="{AXIS}" font-family="sans-serif">{html.escape(str(group))[:24]}</text>'
        )
        for share, offset, colour in ((subset, 2, BAR), (pool, 12, "#bbb")):
            parts.append(
                f'<rect x="{left}" y="{y + offset}" width="{share / top * width:.1f}" height="9" fill="{colour}"/>'
            )
        parts.append(
            f'<text x="{left + width + 8}" y="{y + 15}" font-size="11" fill="{AXIS}" font-family="sans-serif">{subset:.1%} of subset, {pool:.1%} of pool</text>'
        )
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {line * len(rows)}" width="800">{"".join(parts)}</svg>'
    return picture(svg, f"{label}: subset (blue) against pool (grey)")


def picture(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """An SVG that the asset page shows."""
    return dg.MetadataValue.md(f"![{alt}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")
