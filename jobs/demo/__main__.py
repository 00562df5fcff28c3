"""The demo: the whole pipeline on the corpus that ships, end to end, in a home of its own.

Here belongs the story that a newcomer sees: two sources are read, six recipes choose, a third source lands, and the recipes choose
again from what they now have. What became of the planted defects is counted from the tables. Nothing is downloaded.
"""

import json
import time
from pathlib import Path

import dagster as dg
import polars as pl
from rich.console import Console

from jobs import definitions, outputs, runs, tables, watching
from jobs import home as homes
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
    console = Console()
    lake = homes.prepare(out / "home")
    _targets(lake)
    again = lake.exists(["selected", RECIPES[0]])
    defs = definitions.build_defs(lake.home)
    sources: dict[str, Path] = {}
    with homes.instance() as instance:
        for step, files in (("two sources", FIRST), ("a third source lands", LATER)):
            if again and files is FIRST:
                sources |= {name: CORPUS / file for name, file in FIRST.items()}
                continue
            sources |= {name: CORPUS / file for name, file in files.items()}
            console.rule(f"[bold]{'everything, a second time' if again else step}")
            runs.add_sources(lake, instance, sources)
            with watching.watching(console):
                outcome = runs.materialize(
                    defs, instance, _targets_of_run(), list(sources), {"budget": BUDGET, "sources": list(sources)}
                )
            _tell(console, lake, outcome)
    planted = planted_kinds(lake, RECIPES[0], CORPUS / "planted.jsonl")
    subset, report = out / "subset.jsonl", out / "report.html"
    outputs.write_subset(lake, RECIPES[0], subset)
    reporting.write(
        lake, defs, RECIPES, report, command="make demo", planted=planted, title="Sluice demo: what was chosen, and why"
    )
    console.rule("[bold]what was planted, and what became of it")
    rows = [
        (
            k.kind,
            k.planted,
            sum(k.dropped_by.values()),
            ", ".join(f"{n} {rule}" for rule, n in k.dropped_by.items()),
            k.not_chosen,
            k.escaped,
        )
        for k in planted
    ]
    console.print(
        tables.grid(
            f"recipe {RECIPES[0]}", rows, ["planted", "rows", "dropped", "by", "not chosen", "selected all the same"]
        )
    )
    console.print(
        f"\n[bold]{subset}[/]  the chosen records\n[bold]{report}[/]  the report: open it in a browser", highlight=False
    )
    console.print(
        f"done in {time.monotonic() - started:.0f} s. See the very same data in the UI: [bold].venv/bin/sluice ui --home {out / 'home'}[/]",
        highlight=False,
    )


def _targets(lake: Lake) -> None:
    for file in (CORPUS / "targets").glob("*.jsonl"):
        (lake.targets / file.name).write_bytes(file.read_bytes())


def _targets_of_run() -> list[dg.AssetKey]:
    return [dg.AssetKey([stage, recipe]) for recipe in RECIPES for stage in ("selected", "evaluated")]


def _tell(console: Console, lake: Lake, outcome: runs.Outcome) -> None:
    console.print(tables.made(outcome))
    for source in lake.sources():
        manifest = lake.manifest(["filtered", "instructions"], source.name)
        if manifest:
            console.print(
                f"  {source.name}: {manifest.facts['rows in']} rows in, {manifest.rows} kept", highlight=False
            )
    computed = {
        m.key: m.computed
        for m in outcome.made
        if m.computed and m.key in ("evidence/token_statistics", "embedded/minilm")
    }
    if computed:
        console.print(
            "  computed now: " + ", ".join(f"{n} rows of {key}" for key, n in computed.items()), highlight=False
        )


def planted_kinds(lake: Lake, recipe: str, manifest: Path) -> list[PlantedKind]:
    """What became of each planted row: which rule dropped it, whether it was left, or chosen all the same."""
    planted = pl.DataFrame([json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]).select(
        "source", "position", "kind"
    )
    fates = []
    for source in lake.partitions(["raw", "instructions"]):
        bad = lake.scan(["raw", "quarantine"], source).select(
            "source", "position", fate=pl.lit("dropped"), rule=pl.lit("unreadable")
        )
        gone = lake.scan(["filtered", "dropped"], source).select(
            "source", "position", fate=pl.lit("dropped"), rule=pl.col("rule")
        )
        fates += [bad.collect(), gone.collect()]
    ledger = (
        lake.scan(["selected", "ledgers", recipe])
        .select("source", "position", fate=pl.col("decision"), rule=pl.col("rule"))
        .collect()
    )
    told = planted.join(
        pl.concat([*fates, ledger]).unique(["source", "position"], keep="first", maintain_order=True),
        on=["source", "position"],
        how="left",
    )
    kinds = []
    for (kind,), rows in told.group_by("kind", maintain_order=True):
        by = (
            rows.filter(pl.col("fate") == "dropped")
            .group_by("rule")
            .len()
            .sort("len", "rule", descending=[True, False])
        )
        kinds.append(
            PlantedKind(
                str(kind),
                rows.height,
                dict(by.iter_rows()),
                rows.filter(pl.col("fate") == "not_chosen").height,
                rows.filter(pl.col("fate") == "selected").height,
            )
        )
    return kinds


if __name__ == "__main__":
    main()
