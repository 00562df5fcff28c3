"""What selectors cost, as a page and a plot, from the results that ``cost.py`` keeps.

Here belongs telling; nothing is measured here.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cost_pool import MOST
from benchmarks.cost_selectors import BEYOND, NAMES, PANELS, WAYS, known, method_of
from methods.catalog import selector


def seconds(record: dict[str, Any] | None) -> str:
    """How a cell reads."""
    if record is None:
        return ""
    if record["status"] == "time":
        return f"> {record['limit']:g}"
    if record["status"] == "memory":
        return f"> {record.get('memory', 0) / 1024:.0f} GiB"
    if record["status"] == "error":
        return "failed"
    return f"{record['cpu_s']:.2f}" if record["cpu_s"] < 9.95 else f"{record['cpu_s']:.0f}"


def exponent(records: list[dict[str, Any]]) -> float | None:
    """The slope of ln seconds over ln rows; None where there are not two sizes that took a hundredth of a second."""
    told = [
        (record["rows"], record["cpu_s"]) for record in records if record["status"] == "ok" and record["cpu_s"] >= 0.01
    ]
    if len(told) < 2:
        return None
    x, y = np.log(np.array(told, dtype=np.float64)).T
    return float(np.polyfit(x, y, 1)[0])


def figures(name: str, sizes: list[int], cells: dict[tuple[str, int], dict[str, Any]]) -> str:
    """The cells of a line: seconds by size, memory at the largest size that was measured, growth."""
    mine = [cells[name, rows] for rows in sizes if (name, rows) in cells]
    fine = [record for record in mine if record["status"] == "ok"]
    above = f"{fine[-1]['above_mib']:,.0f} at {fine[-1]['rows']:,}" if fine else ""
    growth = exponent(mine)
    times = [seconds(cells.get((name, rows))) for rows in sizes]
    return " | ".join([*times, above, "" if growth is None else f"{growth:.1f}"])


def panel_of(id: str) -> str:
    """Which panel of the plot a selector stands in."""
    return next((name for name, ids in PANELS.items() if id in ids), "others")


def machine() -> str:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def report(results: Path, table: Path, plot: Path) -> None:
    """The table and the plot from all results."""
    cells = known(results)
    sizes = sorted({rows for _, rows in cells})
    order = [id for ids in PANELS.values() for id in ids if id in NAMES]
    order += [id for id in NAMES if id not in order and id not in WAYS]
    top = " | ".join(f"{rows:,}" for rows in sizes) + " | MiB above the input | growth |"
    rule = "---:|" * len(sizes) + "---:|---:|"
    lines = [f"| selector | needs | {top} use beyond |", f"|---|---|{rule}---|"]
    for id in order:
        needs = ", ".join(selector(id).needs)
        lines.append(f"| `{id}` | {needs} | {figures(id, sizes, cells)} | {BEYOND.get(id, '')} |")
    lines += ["", "## With other parameters", "", f"| selector | parameters | {top}", f"|---|---|{rule}"]
    for name, said in WAYS.items():
        what = ", ".join(f"`{key}: {value}`" for key, value in said.items())
        lines.append(f"| `{name.split(' ')[0]}` | {what} | {figures(name, sizes, cells)} |")
    days = sorted({record["at"][:10] for record in cells.values()})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""
    inputs = {
        record["rows"]: record["input_mib"]
        for record in cells.values()
        if record["status"] == "ok" and "vectors" in method_of(record["id"])[0].needs
    }
    head = HEAD.format(
        when=when, machine=machine(), most=MOST,
        inputs=", ".join(f"{mib:,.0f} MiB at {rows:,}" for rows, mib in sorted(inputs.items())),
    )  # fmt: skip
    table.write_text(head + "\n" + "\n".join(lines) + "\n" + TAIL)
    draw(list(cells.values()), plot)


HEAD = """# Cost as the pool grows

CPU seconds of `select` alone, by rows. Seeded synthetic pool: 384-d unit vectors in as many clusters as the square
root of the rows, short texts, default parameters, **1 % of the rows chosen, {most:,} at most**. Each cell in a process
of its own, one thread; other work ran beside it.

{when}; {machine}; `python -m benchmarks.cost`, then `python -m benchmarks.cost --report`.

*MiB above the input* is the peak of resident memory during the call less that before it, at the largest size that was
measured. The input itself, with vectors: {inputs}.

*Growth* is the slope of seconds over rows, both logarithmic: 1 is linear, 2 quadratic. The budget grows along up to
200,000 rows, so that a selector that takes one pass over the pool for each pick shows nearly 2. Facility location,
`qdit` and `reverse_semantic_search` go another way above some size: there it says little.

`> 120` means given up after so many CPU seconds; an empty cell was not tried, because a smaller size failed or this one
was sure to.

![CPU seconds over rows, one panel a family; where a line ends without a symbol it was given up](images/cost.svg)
"""
TAIL = """
What holds for all: gates before a selector make the pool smaller, and the cost falls by the growth above.
`superfiltering_d` is the pattern: a score first, then what is expensive among the best. Where a selector reads
clusters, those of the pool (`clustered/kmeans`) are made once for all of them, and their cost is not in the table.
"""


def draw(records: list[dict[str, Any]], plot: Path) -> None:
    """Seconds over rows, both logarithmic, one panel a family with a legend of its own."""
    import altair as alt

    told = [
        {
            "selector": record["id"],
            "panel": panel_of(record["id"]),
            "rows": record["rows"],
            "seconds": max(record.get("cpu_s", record["limit"]), 1e-3),
            "done": record["status"] == "ok",
        }
        for record in records
        if record["status"] in ("ok", "time") and record["id"] not in WAYS
    ]
    names = [name for name in (*PANELS, "others") if any(line["panel"] == name for line in told)]
    ticks = sorted({line["rows"] for line in told})
    if not ticks:
        return
    span = [ticks[0] / 1.3, ticks[-1] * 1.3]
    x = alt.X("rows:Q").scale(type="log", domain=span, nice=False)
    x = x.axis(values=ticks, format="~s", title="rows", grid=True)
    y = alt.Y("seconds:Q").scale(type="log", domain=[1e-3, 300], nice=False)
    y = y.axis(values=[0.001, 0.01, 0.1, 1, 10, 100], format="~g", title="CPU seconds")
    shown = alt.condition("datum.done", alt.value(1), alt.value(0))
    charts = []
    for name in names:
        mine = [line for line in told if line["panel"] == name]
        ids = [
            id
            for id in PANELS.get(name, sorted({line["selector"] for line in mine}))
            if any(m["selector"] == id for m in mine)
        ]
        legend = alt.Legend(title=None, orient="right", symbolStrokeWidth=2, labelLimit=220)
        color = alt.Color("selector:N", sort=ids, legend=legend).scale(domain=ids, scheme="category10")
        shape = alt.Shape("selector:N", sort=ids, legend=legend).scale(domain=ids)
        base = alt.Chart(alt.Data(values=mine), title=name).encode(x=x, y=y, color=color)
        charts.append(
            (
                base.mark_line(strokeWidth=1.5)
                + base.mark_point(size=40, filled=True).encode(shape=shape, fillOpacity=shown)
            ).properties(width=250, height=210)
        )
    grid = alt.vconcat(
        *(
            alt.hconcat(*charts[i : i + 2]).resolve_scale(color="independent", shape="independent")
            for i in range(0, len(charts), 2)
        )
    )
    plot.parent.mkdir(parents=True, exist_ok=True)
    grid.resolve_scale(color="independent", shape="independent").configure_view(stroke="#ccc").configure_title(
        anchor="start"
    ).save(str(plot))
