"""The demo: the whole pipeline on the corpus that ships, end to end, in a home of its own.

Here belongs the story that a newcomer sees: two sources are read, six recipes choose, a third source lands, and the
recipes choose again from what they now have. What became of the planted defects is counted from the tables. Nothing
is downloaded.
"""

import json
import shutil
import time
from pathlib import Path

import dagster as dg
import polars as pl
from rich.console import Console

from jobs import definitions, outputs, runs, tables, watching
from jobs import home as homes
from jobs.made import Outcome
from jobs.report import gather as reporting
from jobs.report.data import PlantedKind
from resources.lake import Lake

CORPUS = Path(__file__).parent / "corpus"
FIRST = {"handbook": "handbook.jsonl", "dialogues": "dialogues.json"}
LATER = {"late_arrivals": "late_arrivals.jsonl"}
RECIPES = ("lm_quality_diverse", "quality_diverse", "ifd_top", "k_center", "longest", "random")
BUDGET = "80"


def main() -> None:
    """Run the demo and say where to look."""
    started = time.monotonic()
    out = Path("demo-out").absolute()
    console = Console(width=None if Console().is_terminal else 120)
    lake = homes.prepare(out / "home")
    _put_targets(lake)
    defs = definitions.build_defs(lake.home)
    with homes.instance() as instance:
        if not lake.exists(["selected", RECIPES[0]]):
            _run(console, lake, defs, instance, "two sources", FIRST)
        outcome = _run(console, lake, defs, instance, "with the source that lands later", {**FIRST, **LATER})
    planted = planted_kinds(lake, RECIPES[0], CORPUS / "planted.jsonl")
    subset, report = out / "subset.jsonl", out / "report.html"
    if outcome.up_to_date < len(outcome.made) or not (subset.exists() and report.exists()):
        outputs.write_subset(lake, RECIPES[0], subset)
        title = "Sluice demo: what was chosen, and why"
        reporting.write(lake, defs, RECIPES, report, command="make demo", planted=planted, title=title)
    console.rule("[bold]what was planted, and what became of it")
    columns = ["planted", "rows", "dropped", "by", "not chosen", "selected all the same"]
    console.print(tables.grid(f"recipe {RECIPES[0]}", [_line(kind) for kind in planted], columns))
    console.print(f"\n[bold]{subset}[/]  the chosen records", highlight=False)
    console.print(f"[bold]{report}[/]  the report: open it in a browser", highlight=False)
    console.print(f"done in {time.monotonic() - started:.0f} s; the very same data in the UI:", highlight=False)
    console.print(f"[bold].venv/bin/sluice ui --home {out / 'home'}[/]", highlight=False, soft_wrap=True)


def _run(
    console: Console, lake: Lake, defs: dg.Definitions, instance: dg.DagsterInstance, what: str, files: dict[str, str]
) -> Outcome:
    console.rule(f"[bold]{what}")
    sources = {name: CORPUS / file for name, file in files.items()}
    runs.add_sources(lake, instance, sources)
    settings = {"budget": BUDGET, "sources": list(sources)}
    with watching.watching(console):
        outcome = runs.materialize(lake, defs, instance, _wanted(), list(sources), settings)
    _tell(console, lake, outcome)
    return outcome


def _line(kind: PlantedKind) -> tuple[object, ...]:
    by = ", ".join(f"{n} {rule}" for rule, n in kind.dropped_by.items())
    return kind.kind, kind.planted, sum(kind.dropped_by.values()), by, kind.not_chosen, kind.escaped


def _put_targets(lake: Lake) -> None:
    for file in (CORPUS / "targets").glob("*.jsonl"):
        shutil.copy(file, lake.targets / file.name)


def _wanted() -> list[dg.AssetKey]:
    return [dg.AssetKey([stage, recipe]) for recipe in RECIPES for stage in ("selected", "evaluated")]


def _tell(console: Console, lake: Lake, outcome: Outcome) -> None:
    console.print(tables.made(outcome))
    for source in lake.sources():
        manifest = lake.manifest(["filtered", "instructions"], source.name)
        if manifest:
            console.print(
                f"  {source.name}: {manifest.facts['rows in']} rows in, {manifest.rows} kept", highlight=False
            )
    computed: dict[str, int] = {}
    for made in outcome.made:
        if made.computed and made.key in ("evidence/token_statistics", "embedded/minilm"):
            computed[made.key] = computed.get(made.key, 0) + made.computed
    if computed:
        told = ", ".join(f"{n} rows of {key}" for key, n in computed.items())
        console.print(f"  computed now: {told}", highlight=False)


def planted_kinds(lake: Lake, recipe: str, manifest: Path) -> list[PlantedKind]:
    """What became of each planted row: which rule dropped it, whether it was left, or chosen all the same.

    Of two near-duplicates the better scored stays. Where that is the planted one, the pair was caught all the same.
    """
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    planted = pl.DataFrame(lines).select("source", "position", "kind", "twin_source", "twin_position")
    fates = _fates(lake, recipe)
    twins = fates.select(pl.all().name.prefix("twin_"))
    told = planted.join(fates, on=["source", "position"], how="left")
    told = told.join(twins, on=["twin_source", "twin_position"], how="left").with_columns(
        caught=pl.col("twin_rule").eq("near_duplicate") & (pl.col("fate") != "dropped")
    )
    told = told.with_columns(
        fate=pl.when("caught").then(pl.lit("dropped")).otherwise("fate"),
        rule=pl.when("caught").then(pl.lit("near_duplicate (its twin went)")).otherwise("rule"),
    )
    kinds = []
    for (kind,), rows in told.group_by("kind", maintain_order=True):
        by = (
            rows.filter(pl.col("fate") == "dropped")
            .group_by("rule")
            .len()
            .sort("len", "rule", descending=[True, False])
        )
        left, chosen = (rows.filter(pl.col("fate") == fate).height for fate in ("not_chosen", "selected"))
        kinds.append(PlantedKind(str(kind), rows.height, dict(by.iter_rows()), left, chosen))
    return kinds


def _fates(lake: Lake, recipe: str) -> pl.DataFrame:
    """``source, position, fate, rule`` of every record."""
    fates = []
    for source in lake.partitions(["raw", "instructions"]):
        bad = lake.scan(["raw", "quarantine"], source).with_columns(rule=pl.lit("unreadable"))
        gone = lake.scan(["filtered", "dropped"], source)
        fates += [table.select("source", "position", "rule", fate=pl.lit("dropped")).collect() for table in (bad, gone)]
    ledger = lake.scan(["selected", "ledgers", recipe]).select("source", "position", "rule", fate=pl.col("decision"))
    return pl.concat([*fates, ledger.collect()]).unique(["source", "position"], keep="first", maintain_order=True)


if __name__ == "__main__":
    main()
