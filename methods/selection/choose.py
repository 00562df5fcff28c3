"""Carrying out a recipe: every row of the pool gets a decision, and every decision a reason.

Here belongs the order of the steps (copies, gates, score, near-duplicates, selector) and the ledger that they leave.
The steps themselves are the methods of `aggregate`, `twins` and the selectors of the catalogue.

The ledger has one line for each row in: ``decision`` is ``selected``, ``dropped`` (with the ``rule`` that dropped it)
or ``not_chosen``. Rows in = selected + dropped + not chosen, always.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import Candidates, Indicator, Selector, Target
from methods.selection.aggregate import gate
from methods.selection.recipe import Recipe, budget_rows
from methods.selection.twins import resolve

LEDGER_SCHEMA = {
    "row_id": pl.String,
    "source": pl.String,
    "position": pl.Int64,
    "part": pl.Int64,
    "decision": pl.String,
    "rule": pl.String,
    "reason": pl.String,
    "twin": pl.String,
    "rank": pl.Int64,
    "score": pl.Float64,
    "gain": pl.Float64,
    "nearest": pl.String,
}


@dataclass(frozen=True)
class Ingredients:
    """What a recipe is carried out on."""

    rows: pl.DataFrame
    """``row_id, source, position, part`` of every kept row of the recipe's sources, in pool order, copies included."""
    values: Mapping[str, pl.DataFrame]
    """``row_id, value, status`` of each indicator that the recipe names."""
    pairs: pl.DataFrame
    """Verified duplicate pairs (`twins.PAIRS_SCHEMA`)."""
    vectors: Callable[[pl.Series], np.ndarray]
    """Unit vectors of these rows, in their order; NaN where there is none."""
    clusters: Callable[[pl.Series], np.ndarray]
    """Cluster labels of these rows, in their order; -1 where there is none."""
    texts: Callable[[pl.Series], pl.DataFrame] | None = None
    """``prompt``, ``response`` of these rows, in their order."""
    tags: Callable[[pl.Series], pl.Series] | None = None
    """The tags of these rows, in their order; null where there are none."""
    targets: Callable[[], Mapping[str, Target]] | None = None
    """What the recipe wants to be good at, by name."""


def choose(
    recipe: Recipe,
    selector: Selector,
    indicators: Mapping[str, Indicator],
    data: Ingredients,
    budget: str | None = None,
    seed: int | None = None,
) -> pl.DataFrame:
    """The ledger of one selection, in pool order. ``budget`` and ``seed`` replace the recipe's own."""
    ledger = _Ledger(data.rows)
    pool = data.rows.unique("row_id", keep="first", maintain_order=True)
    wanted = budget_rows(budget or recipe.budget, pool.height)
    table = _wide(pool, data.values)
    left = _gated(recipe, table, ledger)
    left = _scored(recipe, indicators, left, ledger)
    left = _without_twins(recipe, left, data.pairs, ledger)
    left, vectors = _with_vectors(selector, left, data, ledger)
    candidates = Candidates(
        row_ids=left["row_id"],
        score=left["score"].to_numpy() if "score" in left.columns else None,
        vectors=vectors,
        clusters=data.clusters(left["row_id"]) if "clusters" in selector.needs else None,
        groups=_sources(left, pool) if "groups" in selector.needs else None,
        texts=data.texts(left["row_id"]) if "texts" in selector.needs and data.texts else None,
        tags=data.tags(left["row_id"]) if "tags" in selector.needs and data.tags else None,
        targets=data.targets() if {"target_texts", "target_vectors"} & set(selector.needs) and data.targets else {},
        values=_raw(left, recipe.indicators) if "values" in selector.needs else {},
    )
    if "score" in selector.needs and candidates.score is None:
        raise ValueError(
            f"recipe {recipe.name}: selector {selector.id} needs a score; add `score: {{indicators: ...}}`"
        )
    chosen = selector.select(
        candidates, min(wanted, len(candidates)), recipe.seed if seed is None else seed, **recipe.params
    )
    ids = left["row_id"]
    places = chosen.nearest if chosen.nearest is not None else np.full(len(chosen.order), -1)
    nearest = [ids[int(i)] if i >= 0 else None for i in places]
    ledger.select(ids.gather(chosen.order), chosen.gain, chosen.reason, nearest)
    ledger.pass_over({ids[int(i)]: why for i, why in chosen.refused.items()})
    return ledger.frame(left.select("row_id", "score") if "score" in left.columns else None)


def _wide(pool: pl.DataFrame, values: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One line a row, a value and a status column for each indicator; a row without a line has no value."""
    table = pool.select("row_id")
    for name, frame in values.items():
        named = frame.select("row_id", pl.col("value").alias(name), pl.col("status").alias(f"{name} status")).unique(
            "row_id", keep="first"
        )
        table = table.join(named, on="row_id", how="left", maintain_order="left")
        table = table.with_columns(pl.col(f"{name} status").fill_null("not_scored"))
    return table


def _gated(recipe: Recipe, table: pl.DataFrame, ledger: _Ledger) -> pl.DataFrame:
    """Rows outside a gate go. Gates close on a missing value; percentiles are those of the whole pool."""
    keep = np.ones(table.height, dtype=bool)
    for name, rule in recipe.gates.items():
        inside, reasons = gate(table[name], rule)
        statuses = table[f"{name} status"]
        for i in np.flatnonzero(keep & ~inside):
            status = statuses[int(i)]
            why = f"{name}: {reasons[int(i)]}" if status == "ok" else f"{name} has no value ({status})"
            ledger.drop(table["row_id"][int(i)], f"gate {name}", why)
        keep &= inside
    return table.filter(pl.Series(keep, dtype=pl.Boolean))


def _scored(recipe: Recipe, indicators: Mapping[str, Indicator], table: pl.DataFrame, ledger: _Ledger) -> pl.DataFrame:
    """The score of each row; rows without one go, with the status that says why."""
    if recipe.score is None:
        return table
    names = list(recipe.score.indicators)
    scores = recipe.score.of(table.select("row_id", *names), indicators)
    table = table.with_columns(score=scores["value"])
    for line in table.filter(pl.col("score").is_null()).iter_rows(named=True):
        why = ", ".join(f"{name} is {line[f'{name} status']}" for name in names if line[name] is None)
        ledger.drop(line["row_id"], "no score", why or "the score could not be computed")
    return table.filter(pl.col("score").is_not_null())


def _without_twins(recipe: Recipe, table: pl.DataFrame, pairs: pl.DataFrame, ledger: _Ledger) -> pl.DataFrame:
    """Near-duplicates of a row that stays go: the better scored stays, or the first where there is no score."""
    if recipe.duplicates is None:
        return table
    order = table.with_row_index("at")
    if "score" in table.columns:
        order = order.sort("score", "at", descending=[True, False])
    gone = resolve(order["row_id"], pairs, recipe.duplicates)
    better = "scores better" if "score" in table.columns else "comes first"
    for row, twin, similarity in gone.select("row_id", "twin", "similarity").iter_rows():
        ledger.drop(row, "near_duplicate", f"{similarity:.0%} the same as row {twin}, which {better}", twin)
    return table.join(gone, on="row_id", how="anti", maintain_order="left")


def _with_vectors(
    selector: Selector, table: pl.DataFrame, data: Ingredients, ledger: _Ledger
) -> tuple[pl.DataFrame, np.ndarray | None]:
    """Vectors where the selector reads them; rows without one go."""
    if "vectors" not in selector.needs:
        return table, None
    vectors = data.vectors(table["row_id"])
    there = np.isfinite(vectors).all(axis=1)
    for row in table["row_id"].filter(pl.Series(~there, dtype=pl.Boolean)):
        ledger.drop(row, "no_embedding", "the row has no embedding")
    return table.filter(pl.Series(there, dtype=pl.Boolean)), vectors[there]


def _sources(table: pl.DataFrame, pool: pl.DataFrame) -> pl.Series:
    """The source of each row that is left; of a content in several sources the first."""
    sources = pool.select("row_id", "source")
    return table.select("row_id").join(sources, on="row_id", how="left", maintain_order="left")["source"]


def _raw(table: pl.DataFrame, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The indicators of the rows that are left, as they are; NaN where a row has none."""
    return {name: table[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names}


class _Ledger:
    """The decisions as they fall, by row id; lines of copies are added at the end."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self.decisions: dict[str, dict[str, Any]] = {}

    def drop(self, row_id: str, rule: str, reason: str, twin: str | None = None) -> None:
        self.decisions[row_id] = {"decision": "dropped", "rule": rule, "reason": reason, "twin": twin}

    def select(self, ids: pl.Series, gain: np.ndarray, reasons: list[str], nearest: list[str | None]) -> None:
        for rank, (row_id, g, reason, near) in enumerate(zip(ids, gain, reasons, nearest, strict=True), start=1):
            self.decisions[row_id] = {
                "decision": "selected",
                "rank": rank,
                "gain": float(g) if np.isfinite(g) else None,
                "reason": reason,
                "nearest": near,
            }

    def pass_over(self, refused: Mapping[str, str]) -> None:
        for row_id, reason in refused.items():
            self.decisions[row_id] = {"decision": "not_chosen", "reason": reason}

    def frame(self, scores: pl.DataFrame | None) -> pl.DataFrame:
        decided = pl.DataFrame(
            [{"row_id": row_id, **line} for row_id, line in self.decisions.items()],
            schema={k: v for k, v in LEDGER_SCHEMA.items() if k not in {"source", "position", "part", "score"}},
        )
        lines = self.rows.select("row_id", "source", "position", "part").join(
            decided, on="row_id", how="left", maintain_order="left"
        )
        lines = (
            lines.join(scores, on="row_id", how="left", maintain_order="left")
            if scores is not None
            else lines.with_columns(score=pl.lit(None, pl.Float64))
        )
        lines = lines.with_columns(
            pl.col("decision").fill_null("not_chosen"),
            pl.col("reason").fill_null("not among the best within the budget"),
        )
        return _copies(lines).select(LEDGER_SCHEMA.keys())


def _copies(lines: pl.DataFrame) -> pl.DataFrame:
    """The first place of a content carries the decision; its other places are dropped as copies of it."""
    copy = ~pl.col("row_id").is_first_distinct()
    place = pl.format(
        "the same content stands in {} at position {}",
        pl.first("source").over("row_id"),
        pl.first("position").over("row_id"),
    )
    empty = [pl.when(copy).then(None).otherwise(pl.col(name)).alias(name) for name in ("rank", "gain", "nearest")]
    return lines.with_columns(
        *empty,
        decision=pl.when(copy).then(pl.lit("dropped")).otherwise("decision"),
        rule=pl.when(copy).then(pl.lit("exact_duplicate")).otherwise("rule"),
        reason=pl.when(copy).then(place).otherwise("reason"),
        twin=pl.when(copy).then("row_id").otherwise("twin"),
    )
