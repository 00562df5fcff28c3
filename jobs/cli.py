"""The command line: the same assets, instance and storage as the UI.

Here belongs reading a person's words and showing the outcome. What a command does stands in `runs`, `outputs`,
`explain`. Results go to standard output; progress and messages go to standard error.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from jobs import audit_cli, judging
from jobs import home as homes
from jobs.options import HOME, LAYOUT, PARAM, SOURCE, options
from methods import catalog
from methods.selection.recipe import RecipeError, check_budget
from resources.lake import Lake, LakeError

SHOWN_WARNINGS = 8
WIDE = 160
"""Columns where nobody says how wide the terminal is."""
console = Console(stderr=True, width=None if sys.stderr.isatty() else WIDE)


class UserError(click.ClickException):
    """Something the person can put right; shown without a traceback."""

    def show(self, file: Any = None) -> None:
        """Print the message."""
        say(f"[bold red]error[/] {escape(self.message)}")


def say(text: str) -> None:
    """A line for a person; a terminal folds it, and a file keeps it whole."""
    console.print(text, highlight=False, soft_wrap=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Turn a flood of instruction data into a small training set that can say why each row is in it."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def methods(as_json: bool) -> None:
    """List every method."""
    described = [catalog.describe(method) for method in catalog.METHODS]
    if as_json:
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    from jobs import tables

    Console(width=None if sys.stdout.isatty() else WIDE).print(tables.methods(described))


@main.command()
@options(SOURCE, LAYOUT, PARAM, *judging.LIMITS, HOME)
@click.option(
    "--indicator",
    "indicators",
    multiple=True,
    required=True,
    metavar="ID",
    help="What to compute; give several if you like.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the table: .parquet, .csv or .jsonl."
)
def score(
    sources: dict[str, Path],
    layout: str | None,
    params: dict[str, Any],
    home: str | None,
    indicators: tuple[str, ...],
    out: Path | None,
) -> None:
    """Score every row of every file by one or more indicators."""
    from assets.scored import key_of
    from jobs import outputs, tables

    chosen = [_known(catalog.indicator, indicator) for indicator in dict.fromkeys(indicators)]
    if out:
        _friendly(lambda: outputs.check_extension(out))
    lake, _, outcome = _work(
        home, sources, layout, [key_of(i.id) for i in chosen], {"params": params, "all_rows": True}
    )
    table = _friendly(
        lambda: outputs.scores(
            lake, outcome.sources, [i.id for i in chosen], [i.id for i in chosen if i.scope == "pool"]
        )
    )
    if out:
        _friendly(lambda: outputs.write_table(table, out))
    console.print(tables.scores(table))
    if out:
        say(f"{table.height:,} lines in [bold]{escape(str(out))}[/]")


@main.command()
@options(SOURCE, LAYOUT, PARAM, HOME)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    required=True,
    metavar="ID",
    help="What to compute; give several if you like.",
)
@click.option("--quality", metavar="ID", help="The indicator that stands for quality where a measure weighs by it.")
@click.option(
    "--bootstrap", default=0, metavar="N", help="Give each number a 95 % interval from N resamples; 200 is usual."
)
def measure(
    sources: dict[str, Path],
    layout: str | None,
    params: dict[str, Any],
    home: str | None,
    measures: tuple[str, ...],
    quality: str | None,
    bootstrap: int,
) -> None:
    """Measure the files' rows as one set; prints JSON."""
    from jobs import measuring
    from jobs.outputs import finite

    chosen = [_known(catalog.measure, name) for name in dict.fromkeys(measures)]
    if bootstrap < 0 or bootstrap == 1:
        raise UserError("--bootstrap takes 2 or more resamples, or 0 for none")
    wish = measuring.Wish(params, _known(measuring.known_quality, quality), bootstrap)  # type: ignore[arg-type]
    lake, definitions, outcome = _work(
        home, sources, layout, measuring.keys_for(chosen, wish), {"params": params, "all_rows": True}
    )
    from jobs import watching

    with watching.watching(console):
        found = _friendly(lambda: measuring.measure(lake, definitions, outcome.sources, chosen, wish))
    click.echo(json.dumps(finite(found), indent=2, ensure_ascii=False, allow_nan=False))


@main.command()
@click.argument("recipe")
@options(SOURCE, LAYOUT, PARAM, *judging.LIMITS, HOME)
@click.option("--budget", help="A number of rows (1000) or a share of the pool (10%).")
@click.option("--seed", type=int, help="Seed of the selection.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the chosen records (.jsonl)."
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Where to write a report with plots (.html)."
)
def run(
    recipe: str,
    sources: dict[str, Path],
    layout: str | None,
    params: dict[str, Any],
    home: str | None,
    budget: str | None,
    seed: int | None,
    out: Path | None,
    report: Path | None,
) -> None:
    """Choose a subset by a recipe."""
    import dagster as dg

    from jobs import outputs, tables

    if budget is not None:
        _friendly(lambda: check_budget(budget, "--budget"))
    if out and out.suffix != ".jsonl":
        raise UserError(f"{out}: a subset is written as .jsonl")
    settings = {
        "params": params,
        **({"budget": budget} if budget else {}),
        **({"seed": seed} if seed is not None else {}),
    }
    lake, definitions, outcome = _work(
        home, sources, layout, [dg.AssetKey([stage, recipe]) for stage in ("selected", "evaluated")], settings, recipe
    )
    rows = _friendly(lambda: outputs.write_subset(lake, recipe, out)) if out else 0
    if report:
        from jobs.report import gather as reporting

        _friendly(lambda: reporting.write(lake, definitions, [recipe], report))
    for renderable in tables.run(lake, recipe, outcome):
        console.print(renderable, highlight=False, soft_wrap=isinstance(renderable, str))
    if out:
        say(f"{rows:,} records in [bold]{escape(str(out))}[/]")
    if report:
        say(f"report in [bold]{escape(str(report))}[/]")
    home_said = escape(str(lake.home))
    say(
        f"see the tables with [bold]sluice ui --home {home_said}[/]; why a row: [bold]sluice explain ROW_ID --home"
        f" {home_said}[/]"
    )


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="STAGE/NAME...")
@options(SOURCE, LAYOUT, PARAM, *judging.LIMITS, HOME)
def make(
    names: tuple[str, ...], sources: dict[str, Path], layout: str | None, params: dict[str, Any], home: str | None
) -> None:
    """Make tables by their names, with all that they are made of, e.g. mods/chosen or tuned/preference_head."""
    from jobs import runs, tables

    homes.prepare(home)
    targets = _friendly(lambda: runs.targets(_definitions(), names))
    lake, _, outcome = _work(home, sources, layout, targets, {"params": params})
    for table in tables.facts(lake, targets, outcome.sources):
        console.print(table)
    say(f"all of it, with plots: [bold]sluice ui --home {escape(str(lake.home))}[/]")


@main.command()
@click.argument("row_id")
@HOME
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def explain(row_id: str, home: str | None, as_json: bool) -> None:
    """Everything known of a row: where it came from, every score, which recipes took it or dropped it, and why."""
    from jobs import explain as explaining
    from jobs import tables
    from jobs.outputs import finite

    lake = homes.prepare(home)
    found = _friendly(lambda: explaining.explain(lake, row_id))
    if as_json:
        click.echo(json.dumps(finite(found.as_dict()), indent=2, ensure_ascii=False, default=str, allow_nan=False))
        return
    out = Console(width=None if sys.stdout.isatty() else WIDE)
    for renderable in tables.explanation(found):
        out.print(renderable, highlight=False)


main.add_command(judging.bill)


@main.command()
@HOME
@click.option("--port", default=3000, show_default=True, help="Port on this machine.")
@click.option("--host", default="127.0.0.1", show_default=True)
def ui(home: str | None, port: int, host: str) -> None:
    """Open the Dagster UI on the same data: `dagster dev` with the right home."""
    import os

    lake = homes.prepare(home)
    root = Path(__file__).resolve().parents[1]
    where = ["-w", str(root / "workspace.yaml")] if (root / "workspace.yaml").is_file() else ["-m", "jobs.definitions"]
    console.print(
        f"Dagster on http://{host}:{port} over {lake.home}; drop files into {lake.landing}; stop with Ctrl-C",
        highlight=False,
    )
    os.chdir(root if where[0] == "-w" else lake.home)
    os.execv(sys.executable, [sys.executable, "-m", "dagster", "dev", *where, "-h", host, "-p", str(port)])


def _work(
    home: str | None,
    sources: Mapping[str, Path],
    layout: str | None,
    targets: Sequence[Any],
    settings: Mapping[str, Any],
    recipe: str | None = None,
) -> tuple[Lake, Any, Any]:
    """Prepare the home, add the sources, and make the targets; a dry run ends with what judges would cost."""
    settings = judging.within(settings)
    asked = judging.ROWS if judging.is_dry() else targets
    lake = homes.prepare(home)
    from jobs import runs, tables, watching

    definitions = _friendly(_definitions)
    names = _names(lake, sources, recipe)
    wait = lake.alone(lambda: say(f"waiting for another run on {lake.home}"))
    click.get_current_context().with_resource(wait)
    lake.sweep()
    with homes.instance() as instance:
        _friendly(lambda: runs.add_sources(lake, instance, sources, layout))
        try:
            with watching.watching(console):
                outcome = _friendly(
                    lambda: runs.materialize(lake, definitions, instance, asked, names, {**settings, "sources": names})
                )
        finally:
            runs.forget_unread(lake, instance, sources)
    if judging.is_dry():
        _friendly(lambda: judging.tell(lake, definitions, targets, names, settings))
        click.get_current_context().exit()
    outcome.sources = names  # results come in the order in which the files were named
    for warning in outcome.warnings[:SHOWN_WARNINGS]:
        say(f"[yellow]worth a look[/] {escape(warning)}")
    if len(outcome.warnings) > SHOWN_WARNINGS:
        say(f"[yellow]worth a look[/] and {len(outcome.warnings) - SHOWN_WARNINGS} more: see the checks in `sluice ui`")
    say(tables.made(outcome))
    return lake, definitions, outcome


def _names(lake: Lake, sources: Mapping[str, Path], recipe: str | None) -> list[str]:
    """The sources of this call: those named, or else the recipe's, or else all there are."""
    from jobs import definitions

    recipes = {r.name: r for r in _friendly(lambda: definitions.recipes_of(lake.home))}
    if recipe is not None and recipe not in recipes:
        raise UserError(
            f"there is no recipe {recipe!r}; there are {', '.join(recipes)} "
            f"(files in jobs/recipes and {lake.home / 'recipes'})"
        )
    names = (
        list(sources) or list(recipes[recipe].sources if recipe else ()) or [source.name for source in lake.sources()]
    )
    if not names:
        raise UserError(
            f"no data yet: name a file with --source NAME=FILE, or drop one into {lake.landing} while `sluice ui` runs"
        )
    return names


def _definitions() -> Any:
    from jobs import definitions

    return definitions.build_defs()


def _known(find: Callable[[str], Any], name: str) -> Any:
    try:
        return find(name)
    except catalog.UnknownMethod as error:
        raise UserError(f"{error} (`sluice methods` lists all)") from error


def _friendly(action: Callable[[], Any]) -> Any:
    """Run something; what a person can put right is shown as a sentence."""
    from jobs.runs import RunFailed
    from methods.readers import SourceError

    try:
        return action()
    except (LakeError, RecipeError, RunFailed, SourceError, ValueError, OSError) as error:
        raise UserError(str(error)) from error


main.add_command(
    audit_cli.group(audit_cli.Tools(_work, _friendly, _definitions, _known, say, WIDE), SOURCE, LAYOUT, HOME)
)

if __name__ == "__main__":
    main()
