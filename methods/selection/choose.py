"""Carrying out a recipe: every row of the pool gets a decision, and every decision a reason.

Here belongs the order of the steps (copies, gates, score, near-duplicates, selector) and the ledger that they leave.
The steps themselves are the methods of `aggregate`, `twins` and the selectors of the catalogue.

The ledger has one line for each row in: ``decision`` is ``selected``, ``dropped`` (with the ``rule`` that dropped it)
or ``not_chosen``. Rows in = selected + dropped + not chosen, always. A selected row has a ``weight``, what it counts
for in training: 1 where the selector says nothing else. Other rows have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.filters import semantic
from methods.kinds import Candidates, Chosen, Indicator, Selector, Target
from methods.selection.aggregate import gate
from methods.selection.recipe import TO_BUDGET, Recipe, budget_rows
from methods.selection.twins import resolve

MOST_COMPARED = 20_000
"""Chosen rows up to which each is compared with all before it, where a selector did not: some seconds."""
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
    "weight": pl.Float64,
    "nearest": pl.String,
}
NUMBERS = ("rank", "gain", "weight", "nearest")
"""What is told of a selected row alone."""
DECIDED = ("row_id", "decision", "rule", "reason", "twin", *NUMBERS)


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
    semantic_pairs: pl.DataFrame | None = None
    """Pairs by the cosine of the rows' vectors (`semantic.PAIRS_SCHEMA`), where the recipe drops those."""


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
    if recipe.duplicates is not None:
        left = _without(left, resolve(_preferred(left), data.pairs, recipe.duplicates), "near_duplicate", ledger)
    if recipe.semantic_duplicates is not None and data.semantic_pairs is not None:
        gone = _same_meaning(_preferred(left), data.semantic_pairs, recipe.semantic_duplicates, wanted)
        left = _without(left, gone, "semantic_duplicate", ledger)
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
    places = _nearest(chosen, vectors)
    ledger.select(
        pl.DataFrame(
            {
                "row_id": ids.gather(chosen.order),
                "rank": np.arange(1, len(chosen.order) + 1),
                "gain": chosen.gain,
                "weight": weights_of(chosen, selector.id),
                "reason": pl.Series(chosen.reason, dtype=pl.String),
                "nearest": ids.gather(pl.Series(places, dtype=pl.Int64).replace({-1: None})),
            }
        )
    )
    ledger.pass_over(ids.gather(list(chosen.refused)), list(chosen.refused.values()))
    return ledger.frame(left.select("row_id", "score") if "score" in left.columns else None)


def _nearest(chosen: Chosen, vectors: np.ndarray | None) -> np.ndarray:
    """The most similar row chosen before each: as the selector says, or found here where it looked at vectors."""
    if chosen.nearest is not None:
        return chosen.nearest
    if vectors is None or not 0 < len(chosen.order) <= MOST_COMPARED:
        return np.full(len(chosen.order), -1)
    from methods.numerics.columns import nearest_before

    return nearest_before(vectors, chosen.order)


def weights_of(chosen: Chosen, selector: str) -> np.ndarray:
    """What each chosen row counts for in training: 1 unless the selector says otherwise; nonsense is refused."""
    if chosen.weight is None:
        return np.ones(len(chosen.order))
    weight = np.asarray(chosen.weight, dtype=np.float64)
    if weight.shape != (len(chosen.order),) or not (np.isfinite(weight) & (weight > 0)).all():
        raise ValueError(f"selector {selector}: every chosen row needs a weight, finite and above 0")
    return weight


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
        out = np.flatnonzero(keep & ~inside)
        gone = table[out].select("row_id", status=f"{name} status")
        gone = gone.with_columns(pl.Series("why", [reasons[i] for i in out], dtype=pl.String))
        why = pl.when(pl.col("status") == "ok").then(pl.format(f"{name}: {{}}", "why"))
        gone = gone.with_columns(why=why.otherwise(pl.format(f"{name} has no value ({{}})", "status")))
        ledger.drop(gone["row_id"], f"gate {name}", gone["why"])
        keep &= inside
    return table.filter(pl.Series(keep, dtype=pl.Boolean))


def _scored(recipe: Recipe, indicators: Mapping[str, Indicator], table: pl.DataFrame, ledger: _Ledger) -> pl.DataFrame:
    """The score of each row; rows without one go, with the status that says why."""
    if recipe.score is None:
        return table
    names = list(recipe.score.indicators)
    scores = recipe.score.of(table.select("row_id", *names), indicators)
    table = table.with_columns(score=scores["value"])
    gaps = [pl.when(pl.col(name).is_null()).then(pl.format(f"{name} is {{}}", f"{name} status")) for name in names]
    gone = table.filter(pl.col("score").is_null())
    gone = gone.select("row_id", why=pl.concat_str(gaps, separator=", ", ignore_nulls=True))
    ledger.drop(gone["row_id"], "no score", gone["why"].replace("", "the score could not be computed"))
    return table.filter(pl.col("score").is_not_null())


LIKENESS = {
    "near_duplicate": "{:.0%} the same as row {}",
    "semantic_duplicate": "means the same (cosine {:.3f}) as row {}",
}


def _preferred(table: pl.DataFrame) -> pl.Series:
    """The rows, those to keep rather first: the better scored, or the first where there is no score."""
    if "score" not in table.columns:
        return table["row_id"]
    return table.with_row_index("at").sort("score", "at", descending=[True, False])["row_id"]


def _same_meaning(preferred: pl.Series, pairs: pl.DataFrame, threshold: float | str, wanted: int) -> pl.DataFrame:
    """Who goes for a row of the same meaning: from a cosine upwards, or down to the one that leaves the budget."""
    if threshold == TO_BUDGET:
        return semantic.dedup_to(preferred, pairs, wanted).dropped
    return semantic.drop_at(preferred, pairs, float(threshold)).dropped


def _without(table: pl.DataFrame, gone: pl.DataFrame, rule: str, ledger: _Ledger) -> pl.DataFrame:
    """Twins of a row that stays go."""
    better = "scores better" if "score" in table.columns else "comes first"
    told = [
        f"{LIKENESS[rule].format(similarity, twin)}, which {better}"
        for twin, similarity in gone.select("twin", "similarity").iter_rows()
    ]
    ledger.drop(gone["row_id"], rule, pl.Series("why", told, dtype=pl.String), gone["twin"])
    return table.join(gone, on="row_id", how="anti", maintain_order="left")


def _with_vectors(
    selector: Selector, table: pl.DataFrame, data: Ingredients, ledger: _Ledger
) -> tuple[pl.DataFrame, np.ndarray | None]:
    """Vectors where the selector reads them; rows without one go."""
    if "vectors" not in selector.needs:
        return table, None
    vectors = data.vectors(table["row_id"])
    there = np.isfinite(vectors).all(axis=1)
    blind = table["row_id"].filter(pl.Series(~there, dtype=pl.Boolean))
    ledger.drop(blind, "no_embedding", ["the row has no embedding"] * len(blind))
    return table.filter(pl.Series(there, dtype=pl.Boolean)), vectors[there]


def _sources(table: pl.DataFrame, pool: pl.DataFrame) -> pl.Series:
    """The source of each row that is left; of a content in several sources the first."""
    sources = pool.select("row_id", "source")
    return table.select("row_id").join(sources, on="row_id", how="left", maintain_order="left")["source"]


def _raw(table: pl.DataFrame, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The indicators of the rows that are left, as they are; NaN where a row has none."""
    return {name: table[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names}


class _Ledger:
    """The decisions as they fall, a table for each step; lines of copies are added at the end."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self.steps = [pl.DataFrame(schema={name: LEDGER_SCHEMA[name] for name in DECIDED})]

    def drop(
        self, ids: pl.Series, rule: str, reasons: Sequence[str] | pl.Series, twins: pl.Series | None = None
    ) -> None:
        gone = {"row_id": ids, "reason": pl.Series(reasons, dtype=pl.String)}
        named = pl.lit(None, pl.String) if twins is None else pl.lit(twins)
        self._note("dropped", pl.DataFrame(gone).with_columns(rule=pl.lit(rule), twin=named))

    def select(self, lines: pl.DataFrame) -> None:
        finite = pl.when(pl.col("gain").is_finite()).then("gain")
        self._note("selected", lines.with_columns(gain=finite))

    def pass_over(self, ids: pl.Series, reasons: Sequence[str]) -> None:
        self._note("not_chosen", pl.DataFrame({"row_id": ids, "reason": pl.Series(reasons, dtype=pl.String)}))

    def _note(self, decision: str, lines: pl.DataFrame) -> None:
        schema = {name: LEDGER_SCHEMA[name] for name in lines.columns}
        self.steps.append(lines.cast(schema).with_columns(decision=pl.lit(decision)))  # type: ignore[arg-type]

    def frame(self, scores: pl.DataFrame | None) -> pl.DataFrame:
        decided = pl.concat(self.steps, how="diagonal").unique("row_id", keep="last")  # what is said last, holds
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
    first = lines["row_id"].is_first_distinct()
    again = lines.filter(~first).select("row_id").unique()
    place = pl.format("the same content stands in {} at position {}", "source", "position")
    places = lines.filter(first).join(again, on="row_id", how="semi").select("row_id", place=place)
    lines = lines.join(places, on="row_id", how="left", maintain_order="left").with_columns(copy=~first)
    empty = [pl.when("copy").then(None).otherwise(pl.col(name)).alias(name) for name in NUMBERS]
    return lines.with_columns(
        *empty,
        decision=pl.when("copy").then(pl.lit("dropped")).otherwise("decision"),
        rule=pl.when("copy").then(pl.lit("exact_duplicate")).otherwise("rule"),
        reason=pl.when("copy").then("place").otherwise("reason"),
        twin=pl.when("copy").then("row_id").otherwise("twin"),
    )
