"""InstructMining over the pool: its rule fitted to measured losses, what that says of each row, and the best size.

Here belongs wiring: which scores a rule reads, and the tables. The fit and the search are
`methods.quality.instruction_mining`; the runs that both hang on are those of `assets.subset_runs`. The scores that are
read are those that happen to be there, so that nothing expensive is made for their sake: they are inputs of a table
without being upstream of it in the graph.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import metadata
from assets.partitions import same_source
from assets.step import Result, Step, check_specs
from assets.subset_runs import Ledger, Plan, settled, share_other_than_ok, target_version
from assets.training import POOL_ROWS, trains
from methods import catalog
from methods.kinds import OK
from methods.quality import instruction_mining as mining
from resources.causal_lm import CausalLM
from resources.lake import LakeError
from resources.settings import Settings
from resources.tables import LakeResource

RULE, ROWS, SIZES = (
    dg.AssetKey(["tuned", name]) for name in ("instruction_mining_rule", "instruction_mining_rows", "size_search")
)
UNIEVAL = ("naturalness", "coherence", "understandability")
PAPERS = ("reward_score", "response_length", "prompt_length", "knn_i", "mtld", "perplexity", *UNIEVAL)
"""The paper's indicators; of these a rule takes those that have scores. Those of UniEval are columns of its evidence,
all others are scores of the catalogue."""


# ---- scores that are there -----------------------------------------------------------------------------------------


def place_of(name: str) -> tuple[str, str]:
    """The table and the column of an indicator."""
    if name in UNIEVAL:
        return "evidence/unieval", name
    return f"scored/{catalog.indicator(name).id}", "value"


def versions_of(step: Step, name: str, pool: Sequence[str]) -> dict[str, str] | None:
    """The data version of each table of an indicator's scores for this pool; None where one is missing."""
    table, column = place_of(name)
    path, found = table.split("/"), {}
    for place in pool if step.is_partitioned(path) else [None]:
        manifest = step.lake.manifest(path, place)
        if manifest is None or set(pool) - set(manifest.facts.get("pool", pool)):
            return None
        if column not in step.lake.scan(path, place).collect_schema().names():
            return None
        found[table + (f"[{place}]" if place else "")] = manifest.data_version
    return found


def scored_columns(step: Step, names: Sequence[str], ids: pl.Series, pool: Sequence[str]) -> pl.DataFrame:
    """``row_id`` and one column an indicator, in the order of ``ids``; null where a row has no score."""
    rows = ids.to_frame("row_id").lazy()
    for name in names:
        table, column = place_of(name)
        scores = step.scan(table, pool).select("row_id", pl.col(column).alias(name))
        rows = rows.join(scores.unique("row_id", keep="first"), on="row_id", how="left", maintain_order="left")
    return rows.collect()


def to_read(step: Step, wanted: Sequence[str] | None, pool: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Which indicators a rule reads, and the versions of their scores: those that are asked for, or whatever of the
    paper's is there."""
    names: list[str] = []
    versions: dict[str, str] = {}
    for name in PAPERS if wanted is None else wanted:
        found = versions_of(step, name, pool)
        if found is not None:
            names.append(name)
            versions |= found
        elif wanted is not None:
            raise LakeError(f"the pool has no {name} yet: materialize {place_of(name)[0]} first")
    if not names:
        raise LakeError(f"nothing is there to fit a rule to: score the pool by some of {', '.join(PAPERS)} first")
    return names, versions


# ---- the rule ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """How a rule is fitted."""

    indicators: list[str] | None = None
    p_below: float | None = 0.05


@dg.asset(
    key=RULE,
    group_name="tuned",
    deps=[same_source("tuned/subset_runs"), *POOL_ROWS],
    code_version="1",
    kinds={"parquet"},
    check_specs=check_specs(RULE.path),
    description="InstructMining's rule fitted anew: least squares of ln(loss) of the runs on the mean indicators of "
    "their rows. It reads the scores that are there for the pool, and takes what the paper took unless indicators are "
    "named.",
)
def instruction_mining_rule(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Fit the rule to the ledger."""
    step = Step(context, lake, settings)
    pool, fit = step.pool(RULE), settled(Fit, settings, "instruction_mining_rule")
    names, versions = to_read(step, fit.indicators, pool)

    def compute() -> Result:
        runs = step.scan("tuned/subset_runs").filter(pl.col("status") == OK).select("rows", "eval_loss").collect()
        ids = step.scan("filtered/pool").select("row_id").collect()["row_id"]
        place = {row: at for at, row in enumerate(ids)}
        values = scored_columns(step, names, ids, pool)
        subsets = [np.array([place[row] for row in rows if row in place], dtype=int) for rows in runs["rows"]]
        means = mining.subset_means(values, subsets)
        frame, rule = mining.fitted(means, runs["eval_loss"].to_list(), fit.p_below)
        few = runs.height <= len(names) + 2
        if few:
            step.context.log.warning(_few(runs.height, len(names)))
        facts = {
            "pool": pool,
            "runs": runs.height,
            "indicators": names,
            "R squared": rule.r_squared if rule.r_squared == rule.r_squared else None,
            "too few runs": int(few),
        }
        shown = {"rule": metadata.table(frame), **({"beware": _few(runs.height, len(names))} if few else {})}
        return Result(frame, facts, shown)

    yield from step.make(RULE, asdict(fit), compute, pool, versions)


def _few(runs: int, indicators: int) -> str:
    return (
        f"{runs} runs for {indicators} indicators: with so few, a rule follows chance (or cannot be fitted at all). "
        "Make more runs (params: subset_runs: runs), or name fewer indicators (params: instruction_mining_rule: "
        "indicators)"
    )


@dg.asset(
    key=ROWS,
    group_name="tuned",
    deps=[same_source("tuned/instruction_mining_rule"), *POOL_ROWS],
    code_version="1",
    kinds={"polars"},
    check_specs=check_specs(ROWS.path),
    description="For each row of the pool, what every term of the fitted rule adds to the predicted ln(loss).",
)
def instruction_mining_rows(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Multiply each row's indicators by the rule's weights."""
    step = Step(context, lake, settings)
    pool = step.pool(ROWS)
    rule = step.scan("tuned/instruction_mining_rule").collect()
    intercept = rule.filter(pl.col("term") == "intercept")["weight"][0]
    weights = dict(
        rule.filter((pl.col("term") != "intercept") & (pl.col("status") == OK)).select("term", "weight").rows()
    )
    versions = to_read(step, list(weights), pool)[1] if weights else {}

    def compute() -> Result:
        ids = step.scan("filtered/pool").select("row_id").collect()["row_id"]
        values = scored_columns(step, list(weights), ids, pool)
        frame = row_terms(values, intercept, weights)
        facts = {
            "pool": pool,
            "rows missing": 0,
            "rows computed": frame.height,
            "share not ok": share_other_than_ok(frame["status"]),
        }
        return Result(frame, facts, {"terms": metadata.table(rule)})

    yield from step.make(ROWS, {}, compute, pool, versions)


def row_terms(values: pl.DataFrame, intercept: float | None, weights: dict[str, float]) -> pl.DataFrame:
    """``row_id, status, intercept, terms``: the terms in the order of ``weights``, null where an indicator is."""
    if not weights:
        terms, status = pl.lit(None, pl.List(pl.Float64)), pl.lit(mining.NO_RULE)
    else:
        terms = pl.concat_list([weight * pl.col(name) for name, weight in weights.items()])
        status = mining.missing_of(weights).fill_null(OK)
    rows = values.with_columns(status=status, terms=terms, intercept=pl.lit(intercept, pl.Float64))
    whole = pl.when(pl.col("status") == OK)
    return rows.select("row_id", "status", "intercept", terms=whole.then("terms"))


# ---- the size ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """Which rows come first, and how many sizes are tried."""

    by: str = "instruction_mining_v1"
    trials: int = 12
    smallest: int = 64
    seed: int = 0


@trains(
    SIZES,
    [],
    "How many of the rows that an indicator puts first are best to train on: BlendSearch over the size, each trial a "
    "training and a measurement in the ledger of the subset runs. Trains only when asked.",
)
def size_search(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Try sizes."""
    step = Step(context, lake, settings)
    pool, plan, search = step.pool(SIZES), Plan.of(settings), settled(Search, settings, "size_search")
    config = {**asdict(search), **plan.measured_with(), "model": causal_lm.identity()}
    _, versions = to_read(step, [search.by], pool)

    def compute() -> Result:
        ledger = Ledger(step, plan, causal_lm, pool)
        ranked = in_order_of(step, search.by, ledger.there["row_id"], pool)
        if not ranked:
            raise LakeError(f"{search.by} has no value for any row that may be trained on")
        progress = step.progress("sizes", search.trials, "trials")
        lines: list[dict[str, Any]] = []

        def loss_of(size: int) -> float:
            line = ledger.run(ranked[:size])
            lines.append({"trial": len(lines), "size": size, "key": line["row_id"], **line})
            progress.advance(1)
            return float("nan") if line["eval_loss"] is None else line["eval_loss"]

        found = mining.search_size(loss_of, len(ranked), search.trials, search.seed, search.smallest)
        names = ["trial", "size", "best", "eval_loss", "train_loss", "tokens", "key", "status"]
        best = found.size if math.isfinite(found.loss) else None
        frame = pl.DataFrame(lines, schema=TRIALS).with_columns(best=pl.col("size").eq_missing(best)).select(names)
        facts = {
            "pool": pool,
            "by": search.by,
            "best size": best,
            "least loss": None if best is None else found.loss,
            "rows ranked": len(ranked),
            "rows without a value": ledger.there.height - len(ranked),
        }
        return Result(frame, facts, {"trials": metadata.table(frame.drop("key").sort("size"))})

    yield from step.make(SIZES, config, compute, pool, {**versions, **target_version(step, plan)})


TRIALS = {
    "trial": pl.Int64,
    "size": pl.Int64,
    "eval_loss": pl.Float64,
    "train_loss": pl.Float64,
    "tokens": pl.Int64,
    "key": pl.String,
    "status": pl.String,
}


def in_order_of(step: Step, name: str, ids: pl.Series, pool: Sequence[str]) -> list[str]:
    """The rows that have a score, best first, ties in the pool's order."""
    direction = catalog.indicator(name).direction
    if direction == "band":
        raise LakeError(f"{name} has no better end to take rows from: name another indicator")
    rows = scored_columns(step, [name], ids, pool).drop_nulls(name)
    return rows.sort(name, descending=direction == "higher", maintain_order=True)["row_id"].to_list()


ASSETS = (instruction_mining_rule, instruction_mining_rows, size_search)
