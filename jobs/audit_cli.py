"""`sluice audit`: reading a person's words, and showing what came of them.

Here belong the options and the tables of the three commands. What they do stands in `jobs.audit`. The helpers of the
command line are handed in, because `jobs.cli` puts this group into its own.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from methods.humans.sample import DESIGNS


@dataclass(frozen=True)
class Tools:
    """What `jobs.cli` lends: its way to make tables, to turn mistakes into sentences, and to speak."""

    work: Callable[..., Any]
    friendly: Callable[[Callable[[], Any]], Any]
    definitions: Callable[[], Any]
    known: Callable[[Callable[[str], Any], str], Any]
    say: Callable[[str], None]
    wide: int
    """Columns where nobody says how wide the terminal is."""


def group(tools: Tools, source: Any, layout: Any, home: Any) -> click.Group:
    """The group with its commands; ``source``, ``layout`` and ``home`` are options that all commands share."""

    @click.group()
    def audit() -> None:
        """Let people read a sample: draw it, take their labels in, and see what they say of the data."""

    @audit.command()
    @source
    @layout
    @home
    @click.option("--rows", default=60, show_default=True, help="How many rows to draw.")
    @click.option("--by", type=click.Choice(list(DESIGNS)), default="random", show_default=True, help=_designs())
    @click.option(
        "--indicator",
        "indicators",
        multiple=True,
        metavar="ID",
        help="The one that --by score goes by; two or more for --by disagreement (default: all that were scored).",
    )
    @click.option(
        "--planted", default="10%", show_default=True, help="Rows with a wrong answer to plant: a number, or a share."
    )
    @click.option("--rankings", default=0, show_default=True, help="Questions with several answers to rank as well.")
    @click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
    @click.option("--title", default="Audit", show_default=True, help="What raters see at the top.")
    @click.option(
        "--guidelines", type=click.Path(dir_okay=False, path_type=Path), help="Guidelines of your own (Markdown)."
    )
    @click.option(
        "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder to write; a new one."
    )
    def draw(
        sources: dict[str, Path],
        layout: str | None,
        home: str | None,
        rows: int,
        by: str,
        indicators: tuple[str, ...],
        planted: str,
        rankings: int,
        seed: int,
        title: str,
        guidelines: Path | None,
        out: Path,
    ) -> None:
        """Draw rows for people to read, and write what they need to do it."""
        from jobs import audit as auditing
        from jobs import home as homes
        from methods import catalog

        for indicator in indicators:
            tools.known(catalog.indicator, indicator)
        wish = auditing.Wish(rows, by, tuple(dict.fromkeys(indicators)), planted, rankings, seed, title, guidelines)
        tools.friendly(lambda: auditing.check(wish, out))
        lake = homes.prepare(home)
        chosen = auditing.compared(lake, wish, list(sources) or [one.name for one in lake.sources()])
        lake, _, _ = tools.work(home, sources, layout, auditing.keys_for(wish, chosen), {})
        drawn = tools.friendly(lambda: auditing.draw(lake, wish, chosen, out))
        counts = [f"{drawn.rows:,} rows", f"{drawn.planted:,} planted"]
        counts += [f"{drawn.rankings:,} rankings"] if rankings else []
        tools.say(f"audit [bold]{drawn.audit}[/]: {', '.join(counts)}, {_of(drawn.cells)}")
        if drawn.planted < auditing.planted_rows(wish):
            tools.say("[yellow]worth a look[/] fewer rows are planted than asked for: there were too few to exchange")
        where = escape(str(out))
        tools.say(f"give raters [bold]{where}/page.html[/] (or the files for Label Studio or Argilla)")
        tools.say(f"keep [bold]{where}/key.json[/] to yourself: it says which rows are planted")
        tools.say("then: [bold]sluice audit import FILE...[/] and [bold]sluice audit report[/]")

    @audit.command("import")
    @click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
    @home
    def take(files: tuple[Path, ...], home: str | None) -> None:
        """Take labels in: files of the page, or exports of Label Studio or Argilla."""
        from jobs import audit as auditing
        from jobs import home as homes

        lake = homes.prepare(home)
        refused = []
        for file in files:
            taken = tools.friendly(partial(auditing.take, lake, file))
            for line in taken.problems.head(8).iter_rows(named=True):
                place = f"{file}, line {line['line']}" if line["line"] else str(file)
                tools.say(f"[yellow]left out[/] {escape(place)}: {escape(line['detail'])}")
            if taken.problems.height > 8:
                tools.say(f"[yellow]left out[/] and {taken.problems.height - 8:,} more lines of {escape(str(file))}")
            if taken.unknown:
                tools.say(f"[yellow]worth a look[/] {taken.unknown:,} labels are of rows that no source here has")
            if taken.stored is None:
                refused.append(str(file))
            else:
                again = "" if taken.new else " (they were there already)"
                tools.say(f"{taken.labels:,} labels in [bold]{escape(str(taken.stored))}[/]{again}")
        if refused:
            tools.friendly(lambda: _refuse(refused))

    @audit.command()
    @home
    @click.option("--minimum", default=1, show_default=True, help="Raters that a row needs for a verdict.")
    @click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
    def report(home: str | None, minimum: int, as_json: bool) -> None:
        """What the labels say: agreement, planted rows that passed, and the noise of each source."""
        from jobs import audit as auditing
        from jobs import home as homes
        from jobs import runs
        from jobs.outputs import finite

        lake = homes.prepare(home)
        with lake.alone(), homes.instance() as instance:
            made = tools.friendly(tools.definitions)
            tools.friendly(lambda: runs.materialize(lake, made, instance, auditing.REPORT_TABLES, [], {}))
        found = tools.friendly(lambda: auditing.report(lake, minimum))
        if as_json:
            click.echo(json.dumps(finite(found), indent=2, ensure_ascii=False, default=str, allow_nan=False))
            return
        out = Console(width=None if sys.stdout.isatty() else tools.wide)
        for renderable in tables(found):
            out.print(renderable, highlight=False)

    return audit


def _designs() -> str:
    return "How: " + "; ".join(f"{name}: {what}" for name, what in DESIGNS.items()) + "."


def _of(cells: Any) -> str:
    sources = cells["source"].n_unique()
    return f"of {cells['population'].sum():,} rows of {sources:,} source{'s' if sources > 1 else ''}"


def _refuse(files: Sequence[str]) -> None:
    raise ValueError(f"nothing could be read from {', '.join(files)}")


# ---- tables --------------------------------------------------------------------------------------------------------


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _between(low: float | None, high: float | None, text: Callable[[float | None], str]) -> str:
    return "–" if low is None or high is None else f"{text(low)} to {text(high)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def tables(found: dict[str, Any]) -> list[Any]:
    """The report as tables and lines for a terminal."""
    shown: list[Any] = [
        f"{found['labels']:,} labels of {found['rows']:,} rows by {found['raters']:,} raters",
        *(f"[yellow]worth a look[/] {escape(problem)}" for problem in found["problems"]),
    ]
    if found["agreement"]:
        shown.append(_agreement(found["agreement"]))
    if found["alarms"]:
        shown.append(
            "[bold red]too little agreement[/] (alpha below 0.667): "
            + escape(", ".join(found["alarms"]))
            + ". Talk the guidelines through with the raters before you rely on these labels."
        )
    for audit in found["audits"]:
        shown += _audit(audit)
    if not found["audits"]:
        shown.append("no audit has been drawn here: [bold]sluice audit draw[/]")
    return shown


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _agreement(lines: Sequence[dict[str, Any]]) -> Table:
    table = _table("Do the raters agree?", "dimension", "measure", "value", "95 % interval", "rows", "why not")
    before = None
    for line in lines:
        name = escape(line["dimension"]) if line["dimension"] != before else ""
        before = line["dimension"]
        value = _number(line["value"])
        table.add_row(
            name,
            line["measure"],
            f"[bold red]{value}[/]" if line["alarm"] else value,
            _between(line["low"], line["high"], _number),
            str(line["n_rows"]),
            "" if line["status"] == "ok" else line["status"],
        )
    return table


def _audit(audit: dict[str, Any]) -> list[Any]:
    head = f"[bold]{escape(audit['title'])}[/] ({audit['audit']}, drawn by {audit['design']['by']}, {audit['made_at']})"
    if not audit["raters"]:
        return [head, "nobody has rated it yet"]
    shown: list[Any] = [head]
    if any(line["planted"] for line in audit["planted"].values()):
        table = _table("Planted rows that were accepted", "rater", "accepted", "of read", "rate", "95 % interval")
        for rater, line in audit["planted"].items():
            ends = _between(line["low"], line["high"], _share)
            table.add_row(escape(rater), str(line["accepted"]), str(line["read"]), _share(line["value"]), ends)
        shown.append(table)
    table = _table(
        "Noise: rows that raters do not accept",
        *("source", "noise", "95 % interval", "read", "of", "covered", "rows for ten points", "interval"),
    )
    for line in audit["noise"]:
        table.add_row(
            escape(line["source"]),
            _share(line["value"]),
            _between(line["low"], line["high"], _share),
            str(line["read"]),
            f"{line['population']:,}",
            _share(line["covered"]),
            "–" if line["rows for ten points"] is None else f"{line['rows for ten points']:,}",
            line["interval"] or line["status"],
        )
    return [*shown, table]
