"""The pictures of the report, as Vega-Lite specifications made with Altair.

Here belongs one function for each picture, from the report's data to a specification (a dict that goes into the page
as JSON). Colours of marks are fixed here and work on light and dark ground; colours of text and axes are set in the
page, which knows the reader's theme. No picture hides numbers: what is gathered or thinned out is returned as a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from jobs.report.data import STEPS, CorpusMap, PlantedKind, Values

Spec = dict[str, Any]
COLOURS = {
    "in": "#5b7fb4",
    "quarantined": "#a8434f",
    "filtered": "#cf6a4c",
    "duplicate": "#d9a441",
    "gated": "#8f73b8",
    "not_chosen": "#98a2ad",
    "selected": "#16958a",
}
CHOSEN, POOL, ESCAPED = (COLOURS["selected"], COLOURS["not_chosen"], COLOURS["quarantined"])
CLUSTERS = ("#4f6bed", "#f76b15", "#8e4ec6", "#c9a400", "#d6409f", "#4ba3d9", "#a3683c", "#c93a40")
"""Of the largest clusters on the map, in turn; none is near the colour of what is selected."""
OTHERS, NONE = "other clusters", "no cluster"
TOLD = {"excerpt": "instruction", "source": "source", "cluster": "cluster", "decision": "decision", "reason": "why"}
"""What a point of the map tells when it is pointed at."""
MAP_HEIGHT = 560
BINS = 28
MIX_LINES = 20


def _spec(chart: Any) -> Spec:
    """The specification without Altair's own theme, so that the page's colours apply."""
    spec: Spec = chart.to_dict()
    spec.pop("config", None)
    spec |= {"background": "transparent", "autosize": {"type": "fit-x", "contains": "padding"}, "padding": 6}
    return spec


def _inline(values: list[dict[str, Any]]) -> Any:
    """Rows as data that stand in the specification itself."""
    import altair as alt

    return alt.InlineData(values=values)


def funnel(frame: pl.DataFrame) -> Spec:
    """The waterfall: each way to leave takes its rows off the end of what is left; what remains is selected."""
    import altair as alt

    order = {step: at for at, step in enumerate(STEPS)}
    lines, left = [], 0
    for row in sorted(frame.iter_rows(named=True), key=lambda row: order[row["step"]]):
        step, n = row["step"], row["rows"]
        end = left + n if step == "in" else left
        start = end - n
        left = end if step == "in" else start
        sign = "" if step in ("in", "selected") else "−"
        lines.append(
            {"label": row["label"], "step": step, "start": start, "end": end, "rows": n, "text": f"{sign}{n:,}"}
        )
    base = alt.Chart(_inline(lines)).encode(
        y=alt.Y("label:N", sort=[line["label"] for line in lines], title=None, axis=alt.Axis(labelLimit=260)),
        tooltip=[alt.Tooltip("label:N", title="step"), alt.Tooltip("rows:Q", format=",")],
    )
    scale = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    bars = base.mark_bar(cornerRadius=2, height={"band": 0.72}).encode(
        x=alt.X("start:Q", title="rows", axis=alt.Axis(tickCount=8, format=",d")),
        x2="end:Q",
        color=alt.Color("step:N", scale=scale, legend=None),
    )
    labels = base.mark_text(align="left", dx=6).encode(x="end:Q", text="text:N")
    return _spec((bars + labels).properties(width="container", height=alt.Step(27)))


def planted(kinds: Sequence[PlantedKind]) -> Spec:
    """For each planted kind, how many rows were dropped, left unchosen, or escaped into a selection."""
    import altair as alt

    names = ("dropped", "not chosen", "escaped")
    lines = [
        {"kind": kind.kind.replace("_", " "), "fate": fate, "at": at, "rows": n}
        for kind in kinds
        for at, (fate, n) in enumerate(
            zip(names, (sum(kind.dropped_by.values()), kind.not_chosen, kind.escaped), strict=True)
        )
    ]
    scale = alt.Scale(domain=list(names), range=[CHOSEN, POOL, ESCAPED])
    chart = (
        alt.Chart(_inline(lines))
        .mark_bar(cornerRadius=2)
        .encode(
            x=alt.X("rows:Q", title="planted rows", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("kind:N", sort=None, title=None, axis=alt.Axis(labelLimit=200)),
            color=alt.Color("fate:N", scale=scale, title=None, legend=alt.Legend(orient="top")),
            order="at:Q",
            tooltip=["kind:N", "fate:N", "rows:Q"],
        )
    )
    return _spec(chart.properties(width="container", height=alt.Step(24)))


def mix(frame: pl.DataFrame) -> Spec:
    """Shares of one grouping: what part of the pool and what part of the selection each value makes up."""
    import altair as alt

    pool, chosen = max(frame["pool"].sum(), 1), max(frame["selected"].sum(), 1)
    lines = []
    for row in _gathered(frame).iter_rows(named=True):
        lines.append({"value": row["value"], "of": "pool", "rows": row["pool"], "share": row["pool"] / pool})
        lines.append(
            {"value": row["value"], "of": "selected", "rows": row["selected"], "share": row["selected"] / chosen}
        )
    chart = (
        alt.Chart(_inline(lines))
        .mark_bar(cornerRadius=1.5)
        .encode(
            x=alt.X("share:Q", title="share of rows", axis=alt.Axis(format="%", tickCount=5)),
            y=alt.Y("value:N", sort=None, title=None, axis=alt.Axis(labelLimit=180)),
            yOffset=alt.YOffset("of:N", sort=["pool", "selected"]),
            color=_two_colours(alt),
            tooltip=["value:N", "of:N", alt.Tooltip("rows:Q", format=","), alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return _spec(chart.properties(width="container", height=alt.Step(11)))


def _two_colours(alt: Any, legend: bool = True) -> Any:
    scale = alt.Scale(domain=["pool", "selected"], range=[POOL, CHOSEN])
    return alt.Color("of:N", scale=scale, title=None, legend=alt.Legend(orient="top") if legend else None)


def _gathered(frame: pl.DataFrame) -> pl.DataFrame:
    """The largest values by pool, and one line for all the others together if there are too many to read."""
    frame = frame.select("value", "pool", "selected").sort("pool", "value", descending=[True, False])
    if frame.height <= MIX_LINES:
        return frame
    rest = frame[MIX_LINES - 1 :]
    other = rest.select(value=pl.lit(f"{rest.height} others"), pool=pl.sum("pool"), selected=pl.sum("selected"))
    return pl.concat([frame[: MIX_LINES - 1], other])


def finite(values: Values) -> tuple[np.ndarray, int]:
    """The finite values, and how many were null or not finite."""
    array = np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
    kept = array[np.isfinite(array)]
    return kept, len(array) - len(kept)


def distribution(selected: Values, pool: Values) -> tuple[Spec | None, str]:
    """Two histograms over the same bins, each as a share of its own rows, and a note on what they leave out.

    The bins span the pool's 1st to 99th percentile; values beyond are gathered in the outermost bins.
    """
    import altair as alt

    (mine, my_gaps), (all_, gaps) = finite(selected), finite(pool)
    if not len(all_) or not len(mine):
        return (None, f"no value for {'any row of the pool' if not len(all_) else 'any selected row'}")
    low, high = np.quantile(all_, [0.01, 0.99])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    lines = []
    for of, values in (("pool", all_), ("selected", mine)):
        share = np.histogram(np.clip(values, low, high), edges)[0] / len(values)
        lines += [
            {"of": of, "from": float(a), "to": float(b), "share": float(s), "zero": 0}
            for a, b, s in zip(edges[:-1], edges[1:], share, strict=True)
        ]
    medians = [{"of": "pool", "m": float(np.median(all_))}, {"of": "selected", "m": float(np.median(mine))}]
    tooltip = [alt.Tooltip("of:N"), alt.Tooltip("from:Q", format=".3~g"), alt.Tooltip("to:Q", format=".3~g")]
    bars = (
        alt.Chart(_inline(lines))
        .mark_bar(opacity=0.62, binSpacing=0)
        .encode(
            x=alt.X("from:Q", title=None, axis=alt.Axis(format=".3~g", tickCount=5), scale=alt.Scale(zero=False)),
            x2="to:Q",
            y=alt.Y("share:Q", title=None, stack=None, axis=alt.Axis(format=".0%", tickCount=3)),
            y2="zero:Q",
            color=_two_colours(alt, legend=False),
            tooltip=[*tooltip, alt.Tooltip("share:Q", format=".1%")],
        )
    )
    rules = (
        alt.Chart(_inline(medians))
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.6)
        .encode(x="m:Q", color="of:N", tooltip=["of:N", alt.Tooltip("m:Q", title="median", format=".4~g")])
    )
    beyond = int(((all_ < low) | (all_ > high)).sum())
    notes = [f"{beyond} outlying value{'s' if beyond > 1 else ''} of the pool in the outermost bins"] if beyond else []
    notes += [f"no value for {gaps} of {gaps + len(all_)} in the pool"] if gaps else []
    notes += [f"no value for {my_gaps} selected"] if my_gaps else []
    return _spec((bars + rules).properties(width="container", height=120)), "; ".join(notes)


def corpus_map(of: CorpusMap) -> tuple[Spec, list[tuple[str, str, int]]]:
    """The rows as points, the selected ones large and on top; and the legend: name, colour and number of points."""
    import altair as alt

    drawn = of.points.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
    colours = dict(zip(of.largest, CLUSTERS, strict=False))
    known = pl.when(pl.col("cluster").is_in(list(colours))).then("cluster").otherwise(pl.lit(OTHERS))
    data = drawn.select(
        pl.col("x", "y").cast(pl.Float64).round(4),
        "chosen",
        group=pl.when(pl.col("cluster").is_null()).then(pl.lit(NONE)).otherwise(known),
        **{name: pl.col(name).cast(pl.String).fill_null("none") for name in TOLD},
    ).sort("chosen", maintain_order=True)
    colours |= {OTHERS: POOL, NONE: POOL}
    lit = int(data["chosen"].sum())
    small = 40 if data.height <= 1000 else 24
    across, up = _sides(data, of.layout == "pca")
    axis = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
    hue = alt.Color("group:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=None)
    chart = (
        alt.Chart(_inline(data.to_dicts()))
        .mark_circle()
        .encode(
            x=alt.X("x:Q", title=None, axis=axis, scale=across),
            y=alt.Y("y:Q", title=None, axis=axis, scale=up),
            color=alt.condition("datum.chosen", alt.value(CHOSEN), hue),
            opacity=alt.condition("datum.chosen", alt.value(1), alt.value(0.6)),
            size=alt.condition(
                "datum.chosen", alt.value(105 if lit <= 200 else 60 if lit <= 1000 else 34), alt.value(small)
            ),
            stroke=alt.condition("datum.chosen", alt.value("#ffffff"), alt.value(None)),
            strokeWidth=alt.condition("datum.chosen", alt.value(1.4), alt.value(0)),
            tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in TOLD.items()],
        )
    )
    counts = dict(data.filter(~pl.col("chosen")).group_by("group").len().iter_rows())
    legend = [("selected", CHOSEN, lit), *((name, colour, counts.get(name, 0)) for name, colour in colours.items())]
    return _spec(chart.properties(width="container", height=MAP_HEIGHT)), [line for line in legend if line[2]]


def _sides(places: pl.DataFrame, alike: bool) -> tuple[Any, Any]:
    """The scales of the map: of the same unit whatever the width of the page (`alike`), or each as wide as it can be.

    Where distances mean something they must not be distorted; elsewhere the map may fill the page.
    """
    import altair as alt

    if not alike or places.is_empty():
        return (alt.Scale(zero=False, nice=False, padding=14),) * 2
    (left, low), (right, high) = (places.select(end).row(0) for end in (pl.min("x", "y"), pl.max("x", "y")))
    half = f"max({max(high - low, 1e-9) * 0.53:.6g}, {max(right - left, 1e-9) * 0.52:.6g} * height / width)"

    def scale(middle: float, unit: str) -> Any:
        low, high = (alt.ExprRef(f"{middle:.6g} {sign} {half}{unit}") for sign in "-+")
        return alt.Scale(domainMin=low, domainMax=high, zero=False, nice=False)

    return scale((left + right) / 2, " * width / height"), scale((low + high) / 2, "")


def shares_of(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Name, count and share in percent, in the given order."""
    total = sum(counts.values())
    return [(name, n, 100 * n / total if total else 0.0) for name, n in counts.items()]
