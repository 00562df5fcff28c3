"""Planted structure: what each selector makes of clusters of very unequal size that hold near-duplicates.

    python -m benchmarks.planted

Here belong the planted sets, what is measured of a choice, and the tables and the picture of `docs/planted.md`. Nothing
is timed. Every selector of the catalogue that looks at vectors or clusters (and at no target) runs with its defaults on
the same sets, beside two that look at the score alone, and chance.

A set is made of unit vectors of 384 numbers about ten centres. The largest cluster has a hundred times the rows of the
smallest, the others lie between in equal ratios. A fifth of the rows are copies, ten of one row: each that row and a
little noise, at a cosine above .97 to it, where rows that are no copies stay below .95. The clusters that selectors
are given are those that k-means finds, not the planted ones; the score knows nothing of clusters or copies. Other
scores (`SCORES`) stand in a table of their own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

for _name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.catalog import SELECTORS  # noqa: E402
from methods.diversity.clusters import default_k  # noqa: E402
from methods.kinds import Candidates, Selector  # noqa: E402
from methods.numerics import kmeans  # noqa: E402

ROWS, WIDTH, CLUSTERS, SKEW, RARE = 2000, 384, 10, 100, 3
SPREAD_DIMENSIONS = 12
COPIES, COPIES_OF_ONE = 0.2, 10
TWIN = 0.95
BUDGETS = (0.02, 0.05, 0.1)
SEEDS = 5
DRAWS = 20
"""Random choices of each set: their mean is what chance gives there."""
ALSO_BY_SCORE = ("random", "stratified")
"""Run with the other scores too, though they can do without one."""
SHOWN = 0.05
"""The budget of the picture and of the table of other scores."""
BASELINES = ("random", "top_k", "gumbel_top_k")
OTHERWISE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("qdit", {"alpha": 0.01}),
    ("mmr", {"weight": 0.1}),
    ("dpp_greedy", {"theta": 0.0}),
    ("semdedup", {"order": "easy"}),
)
"""Selectors that run once more, with another parameter."""
MARKS = ("<!-- what follows is made by `python -m benchmarks.planted` -->", "<!-- made until here -->")


# --- the planted set --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Planted:
    """A set and what was planted in it."""

    vectors: np.ndarray
    """(n, 384) float32, unit length."""
    cluster: np.ndarray
    """(n,) 0 is the largest."""
    original: np.ndarray
    """(n,) the row that a row is a copy of; its own index where it is none."""
    typical: np.ndarray
    """(n,) cosine to the centre of its cluster."""


def planted(seed: int, rows: int = ROWS) -> Planted:
    """A set by its seed; the rows stand in random order."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(CLUSTERS), sizes(rows))
    centres = unit(rng.normal(size=(CLUSTERS, WIDTH)))
    directions = rng.normal(size=(CLUSTERS, SPREAD_DIMENSIONS, WIDTH)) / np.sqrt(WIDTH)
    # Along a few directions of the cluster's own rows differ more or less; the noise in all keeps any two apart.
    along = rng.gamma(4, 0.2, size=(rows, 1)) * unit(rng.normal(size=(rows, SPREAD_DIMENSIONS)))
    spread = np.einsum("nk,nkd->nd", along, directions[cluster])
    vectors = unit(centres[cluster] + spread + 0.4 * rng.normal(size=(rows, WIDTH)) / np.sqrt(WIDTH))
    original = np.arange(rows)
    for name in range(CLUSTERS):
        here = rng.permutation(np.flatnonzero(cluster == name))
        copies = int(COPIES * len(here))
        original[here[:copies]] = here[copies + np.arange(copies) // COPIES_OF_ONE]
    copied = np.flatnonzero(original != np.arange(rows))
    noise = unit(rng.normal(size=(len(copied), WIDTH))) * rng.uniform(0.05, 0.2, size=(len(copied), 1))
    vectors[copied] = unit(vectors[original[copied]] + noise)
    order = rng.permutation(rows)
    place = np.empty(rows, dtype=np.int64)
    place[order] = np.arange(rows)
    typical = np.einsum("nd,nd->n", vectors, centres[cluster])
    return Planted(vectors[order].astype(np.float32), cluster[order], place[original[order]], typical[order])


def sizes(rows: int) -> np.ndarray:
    """Rows of each cluster, falling in equal ratios from ``SKEW`` to 1; the first takes what rounding leaves."""
    share = float(SKEW) ** -np.linspace(0, 1, CLUSTERS)
    found = np.maximum(np.round(rows * share / share.sum()).astype(np.int64), 1)
    found[0] += rows - found.sum()
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def blind(made: Planted, noise: np.ndarray) -> np.ndarray:
    """Knows nothing of the structure."""
    return noise


def shared(made: Planted, noise: np.ndarray) -> np.ndarray:
    """A copy scores as its original does, as the same text would."""
    return noise[made.original]


def fond_of_large(made: Planted, noise: np.ndarray) -> np.ndarray:
    """Rows of large clusters score higher: correlation .7 with the rank of the cluster's size."""
    return 0.7 * standard(-made.cluster) + np.sqrt(1 - 0.7**2) * noise


def fond_of_typical(made: Planted, noise: np.ndarray) -> np.ndarray:
    """Rows near the centre of their cluster score higher: correlation .7."""
    return 0.7 * standard(made.typical) + np.sqrt(1 - 0.7**2) * noise


def standard(values: np.ndarray) -> np.ndarray:
    """Mean 0, standard deviation 1."""
    found: np.ndarray = (values - values.mean()) / values.std()
    return found


SCORES: Mapping[str, Callable[[Planted, np.ndarray], np.ndarray]] = {
    "blind": blind,
    "copies score alike": shared,
    "large clusters score higher": fond_of_large,
    "typical rows score higher": fond_of_typical,
}


def candidates(made: Planted, seed: int, score: str = "blind") -> Candidates:
    """The set as selectors are handed it, with the clusters that k-means finds."""
    noise = standard(np.random.default_rng([seed, 1]).normal(size=len(made.vectors)))
    values = SCORES[score](made, noise)
    found = kmeans.assign(made.vectors, kmeans.fit(made.vectors, default_k(len(made.vectors)), seed))[0]
    ids = pl.Series([f"r{i:05d}" for i in range(len(made.vectors))])
    loss = {"loss": np.exp(-values)}
    return Candidates(ids, score=values, vectors=made.vectors, clusters=found.astype(np.int64), values=loss)


def compared() -> list[tuple[str, Selector, dict[str, Any]]]:
    """Chance, the two by score alone, and all that look at vectors or clusters but at no target; with parameters."""
    by_id = {selector.id: selector for selector in SELECTORS}
    looking = [s for s in SELECTORS if {"vectors", "clusters"} & set(s.needs) and "target_vectors" not in s.needs]
    out = []
    for selector in [by_id[name] for name in BASELINES] + [s for s in looking if s.id not in BASELINES]:
        out.append((selector.id, selector, dict(selector.params)))
        for other in (other for name, other in OTHERWISE if name == selector.id):
            label = ", ".join(f"{key} {value}" for key, value in other.items())
            out.append((f"{selector.id}, {label}", selector, {**selector.params, **other}))
    return out


# --- what is measured of a choice -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Column:
    """A number of a choice."""

    title: str
    better: int
    """1: more is better; -1: less."""
    digits: int


COLUMNS = {
    "clusters": Column("clusters hit", 1, 1),
    "rare": Column("rare rows, times their share", 1, 2),
    "twins": Column("twin pairs", -1, 1),
    "radius": Column("radius", -1, 3),
    "distance": Column("mean distance", -1, 3),
    "score": Column("mean score", 1, 2),
}


def measured(made: Planted, order: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """The columns of one choice, and how many rows it has."""
    chosen = made.vectors[order].astype(np.float64)
    twins = int((np.triu(chosen @ chosen.T, 1) > TWIN).sum())
    nearest = (made.vectors.astype(np.float64) @ chosen.T).max(axis=1)
    away = np.sqrt(np.maximum(2 - 2 * nearest, 0))
    rare = made.cluster >= CLUSTERS - RARE
    return {
        "rows": len(order),
        "clusters": len(np.unique(made.cluster[order])),
        "rare": float(rare[order].mean() / rare.mean()),
        "twins": twins,
        "radius": float(away.max()),
        "distance": float(away.mean()),
        "score": float(score[order].mean()),
    }


def run(
    seeds: int, budgets: tuple[float, ...], scores: tuple[str, ...] = ("blind",), rows: int = ROWS
) -> list[dict[str, Any]]:
    """A line a choice: selector, seed, budget, score, and its numbers."""
    lines: list[dict[str, Any]] = []
    for seed in range(seeds):
        made = planted(seed, rows)
        for score in scores:
            pool = candidates(made, seed, score)
            assert pool.score is not None
            for label, selector, params in compared():
                if score != "blind" and selector.id not in ALSO_BY_SCORE and "score" not in selector.needs:
                    continue
                draws = DRAWS if selector.id == "random" else 1
                for budget, draw in product(budgets, range(draws)):
                    order = selector.select(pool, round(budget * rows), seed + 1000 * draw, **params).order
                    line = {"selector": label, "seed": seed, "budget": budget, "score_kind": score}
                    lines.append(line | measured(made, order, pool.score))
    return lines


# --- tables and picture -----------------------------------------------------------------------------------------------
def against_random(frame: pl.DataFrame, selector: str, column: str) -> int:
    """1 where the selector is better than the mean of the random choices under every seed, -1 where worse, else 0."""
    by_seed = frame.group_by("selector", "seed").agg(pl.col(column).cast(pl.Float64).mean()).sort("seed")
    own, chance = (by_seed.filter(pl.col("selector") == name)[column].to_numpy() for name in (selector, "random"))
    more = (own - chance) * COLUMNS[column].better
    return 1 if (more > 1e-9).all() else -1 if (more < -1e-9).all() else 0


def table(frame: pl.DataFrame) -> list[str]:
    """Markdown: a line a selector, mean and standard deviation over the seeds, and how it stands to chance."""
    names = list(COLUMNS)
    out = ["| selector | rows | " + " | ".join(COLUMNS[name].title for name in names) + " |"]
    out.append("|---|---|" + "---|" * len(names))
    for selector in frame["selector"].unique(maintain_order=True):
        own = frame.filter(pl.col("selector") == selector)
        cells = []
        for name in names:
            mean, spread = own[name].to_numpy().mean(), own[name].to_numpy().std(ddof=1) if len(own) > 1 else 0.0
            digits = COLUMNS[name].digits
            sign = {1: " ▲", -1: " ▼", 0: ""}[against_random(frame, selector, name)]
            cells.append(f"{mean:.{digits}f} ± {spread:.{digits}f}{sign}")
        out.append(f"| {named(selector)} | {own['rows'].to_numpy().mean():.0f} | " + " | ".join(cells) + " |")
    return out


def named(label: str) -> str:
    """The id as code, its parameters beside it."""
    name, _, rest = label.partition(", ")
    return f"`{name}`" + (f", {rest}" if rest else "")


def page(frame: pl.DataFrame, seeds: int, rows: int = ROWS) -> str:
    """What stands between the marks of the page."""
    counts = ", ".join(str(n) for n in sizes(rows))
    out = [
        f"{rows:,} rows in clusters of {counts}; {seeds} seeds, each with a set of its own. Mean ± standard deviation",
        f"over the seeds (`random`: over {DRAWS} choices of each set). ▲ better under every seed than the mean of the",
        "random choices of the same set, ▼ worse under every seed, no mark: neither.",
        "",
    ]
    plain = frame.filter(pl.col("score_kind") == "blind")
    for budget in plain["budget"].unique(maintain_order=True):
        out += [f"### Budget {budget:.0%}: {round(budget * rows)} rows", ""]
        out += [*table(plain.filter(pl.col("budget") == budget)), ""]
    for kind in list(SCORES)[1:]:
        part = frame.filter((pl.col("score_kind") == kind) & (pl.col("budget") == SHOWN))
        out += [f"### Another score at {SHOWN:.0%}: {kind}", "", *table(part), ""]
    return "\n".join(out)


def written(path: Path, text: str) -> None:
    """The page with its made part replaced; what a person wrote around it stays."""
    before, after = "# Planted structure\n\n", "\n"
    if path.exists() and MARKS[0] in (old := path.read_text(encoding="utf-8")):
        before, after = old.split(MARKS[0])[0], old.split(MARKS[1])[1]
    path.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def picture(frame: pl.DataFrame, path: Path) -> None:
    """A panel a column, a line a selector: the mean, the range over the seeds, and chance as an upright line."""
    import altair as alt

    frame = frame.filter((pl.col("score_kind") == "blind") & (pl.col("budget") == SHOWN))
    by_distance = frame.group_by("selector").agg(pl.col("distance").mean()).sort("distance", "selector")
    order = by_distance["selector"].to_list()
    colours = {"better under every seed": "#16958a", "neither": "#98a2ad", "worse under every seed": "#a8434f"}
    words = {1: "better under every seed", 0: "neither", -1: "worse under every seed"}
    panels: list[Any] = []
    for name in ("clusters", "rare", "twins", "radius", "distance"):
        lines = [
            {
                "selector": selector,
                "mean": float(own.mean()),
                "low": float(own.min()),
                "high": float(own.max()),
                "beside": words[against_random(frame, selector, name)],
            }
            for selector in order
            for own in [frame.filter(pl.col("selector") == selector)[name].to_numpy()]
        ]
        chance = [{"mean": line["mean"]} for line in lines if line["selector"] == "random"]
        labels = alt.Axis(labels=not panels, labelLimit=240, ticks=False, domain=False, grid=True)
        y = alt.Y("selector:N", sort=order, title=None, axis=labels)
        base = alt.Chart(alt.InlineData(values=lines)).encode(y=y)
        title, zero = COLUMNS[name].title, name in ("twins", "clusters", "rare")
        # A few twins count as much as many: a root keeps both on the panel.
        scale = alt.Scale(type="sqrt") if name in ("twins", "rare") else alt.Scale(zero=zero, nice=True)
        axis = alt.Axis(grid=False, tickCount=5)
        rule = alt.Chart(alt.InlineData(values=chance)).mark_rule(strokeDash=[4, 3], color="#5c6670")
        colour = alt.Color(
            "beside:N", title="against chance (dashed)",
            scale=alt.Scale(domain=list(colours), range=list(colours.values())),
            legend=alt.Legend(orient="bottom", direction="horizontal") if not panels else None,
        )  # fmt: skip
        bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=scale, axis=axis, title=None), x2="high:Q",
                                                    color=colour)  # fmt: skip
        points = base.mark_point(filled=True, size=45, opacity=1).encode(x="mean:Q", color=colour)
        arrow = "more is better" if COLUMNS[name].better > 0 else "less is better"
        panels.append(
            (rule.encode(x="mean:Q") + bars + points).properties(
                width=170, height=alt.Step(19), title=alt.TitleParams(title, subtitle=arrow, anchor="start")
            )
        )
    chart = alt.hconcat(*panels, spacing=14).configure_view(stroke=None).properties(background="white", padding=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(path))


def main() -> None:
    """Run everything and write the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    given = parser.parse_args()
    lines = run(given.seeds, BUDGETS) + run(given.seeds, (SHOWN,), tuple(list(SCORES)[1:]))
    frame = pl.DataFrame(lines)
    written(given.docs / "planted.md", page(frame, given.seeds))
    picture(frame, given.docs / "images" / "planted.svg")


if __name__ == "__main__":
    main()
