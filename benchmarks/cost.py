"""What every selector costs as the pool grows: seconds and memory of one thread, as a table and a plot.

Here belong the synthetic pool, the measurement of one cell (a selector at a size) in a process of its own, and the
report. Every selector of the catalogue is run with its default parameters; what stands in for a recipe's columns
(scores, clusters, texts, tags, targets) is seeded, and made block by block, so that the pool is the same on every run.

    python -m benchmarks.cost                        # 10,000, 50,000 and 200,000 rows; 1,000,000 of what grows slowly
    python -m benchmarks.cost --only mmr d4 --sizes 10000 50000 --limit 60
    python -m benchmarks.cost --report               # docs/cost.md and docs/images/cost.svg, from what was measured

One row in a hundred is chosen, 2,000 at most. Counted are the CPU seconds of `select` alone, after a call on 300 rows
that compiles what is compiled; input is made before. Memory is the highest resident memory during the call less that
just before it, in which the input stands; compiled code and libraries are loaded by then. A cell that needs more CPU
seconds than the limit, or more memory, is given up, and larger sizes with it. Results are appended to a file, a line a
cell, and what stands there is not measured again: a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

for _name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from methods.catalog import SELECTORS, selector  # noqa: E402
from methods.kinds import Candidates, Selector, Target  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TABLE, PLOT = (ROOT / "docs" / name for name in ("cost.jsonl", "cost.md", "images/cost.svg"))
SIZES, LARGE = (10_000, 50_000, 200_000), 1_000_000
MOST = 2000
DIMENSIONS, BLOCK, TARGETS, GROUPS, TAGS, WORDS = 384, 10_000, 100, 10, 2000, 5000
NOISE, COPIES = 1.2, 0.05
HOPELESS = 3.0
"""A cell that is expected to take so many times the limit is not tried."""
SETTINGS: dict[str, dict[str, Any]] = {"sensitivity_sampling": {"loss": "loss"}}
"""What a recipe would have to say: all else is as the catalogue has it."""
WAYS: dict[str, dict[str, Any]] = {
    "facility_location greedi": {"method": "greedi"},
    "qdit greedi": {"method": "greedi"},
    "superfiltering_d 4,000": {"first": 4000},
    "semdedup given": {"clusters": "given"},
    "d4 k 100": {"k": 100, "k_after": 100},
    "representative k 100": {"k": 100},
    "gio 200 centroids": {"centroids": 200},
    "dsir fast": {"hash": "fast"},
}
"""Selectors with other parameters, for what is too slow as the catalogue has it; named by the selector first."""

PANELS: dict[str, tuple[str, ...]] = {
    "best, by chance, within bounds": (
        "random",
        "top_k",
        "select_threshold",
        "select_percentile",
        "gumbel_top_k",
        "select_band",
        "ppl_prune_low_mid_high",
    ),
    "quotas and votes": (
        "stratified",
        "stratified_by_score",
        "group_quota",
        "flex_rand",
        "bettermixture_voting",
        "mods_union",
        "instag_sampling",
    ),
    "unlike the rows chosen before": (
        "k_center_greedy",
        "deita_repr_filter",
        "herding_greedy",
        "reverse_semantic_search",
        "mmr",
        "dpp_greedy",
        "quality_weighted_vendi_greedy",
    ),
    "inside clusters": (
        "easy_and_diverse_first",
        "cluster_clip",
        "moderate_coreset",
        "cluster_margin",
        "ordered_clustering",
        "sensitivity_sampling",
        "representative",
        "semdedup",
        "d4",
    ),
    "standing for the whole pool": (
        "facility_location",
        "superfiltering_d",
        "qdit",
        "dataset_quantization",
        "ideal",
    ),
    "by words, and towards a target": ("limited_lexical_similarity", "dsir", "nearest_to_target", "gio"),
}
_ITSELF = "itself: one sort or one pass"
_CLUSTERS = "itself: one pass, with the clusters of the pool"
_PICKS = (
    "one product with the pool a pick: a gate or a sample before it, or fewer picks; `k_center_greedy` in its place"
)
_FACILITY = "`method: greedi`: shards of 8,192 rows, nearly linear in rows, 2 GiB for the rows that judge"
BEYOND: dict[str, str] = {
    **dict.fromkeys([*PANELS["best, by chance, within bounds"], *PANELS["quotas and votes"]], _ITSELF),
    "instag_sampling": "itself: rows of the same tags are walked together",
    "k_center_greedy": "itself, as far as the vectors fit in memory; then shard by shard with `given`",
    "deita_repr_filter": "itself: it looks at few more rows than it takes, unless most are alike; a gate by score then",
    "herding_greedy": _PICKS,
    "mmr": _PICKS,
    "quality_weighted_vendi_greedy": _PICKS,
    "dpp_greedy": "itself; a gate by score leaves fewer rows to compute anew",
    "reverse_semantic_search": "itself: above `exact_up_to` the first pair is not searched among all (`exact_up_to: 0` "
    "saves it at any size); then a product with the pool a pick, `k_center_greedy` in its place",
    "easy_and_diverse_first": "itself: k-means is fitted on 256 rows a cluster",
    "cluster_clip": _CLUSTERS,
    "moderate_coreset": _CLUSTERS,
    "cluster_margin": _CLUSTERS,
    "sensitivity_sampling": _CLUSTERS,
    "ordered_clustering": "density by all distances: `moderate_coreset` or `stratified` by k-means; a sample of 20,000",
    "representative": "`k: 100`, several rows a cluster",
    "semdedup": "`clusters: given` with those of the pool: the fit is most of the cost",
    "d4": "`k: 100`, `k_after: 100`: the two fits are most of the cost; or `semdedup` with `clusters: given`",
    "facility_location": _FACILITY,
    "qdit": _FACILITY,
    "superfiltering_d": "smaller `first`, as a number of rows",
    "dataset_quantization": "products of all pairs: a sample before it, or `facility_location` by `greedi`",
    "ideal": "exact neighbours of all rows: a sample or a gate before it, at most some 100,000 rows",
    "limited_lexical_similarity": "itself with `compare: previous`; `all` grows with the square of the budget",
    "dsir": "itself: one pass over the texts; `hash: fast`",
    "nearest_to_target": "itself: one product with the rows of the target",
    "gio": "`centroids: 200`: fitting 1,500 is the cost, whatever the pool",
}
"""What to do where the pool outgrows a selector as it comes."""


def method_of(name: str) -> tuple[Selector, dict[str, Any]]:
    """The selector of a name (an id, or one of `WAYS`), and what is said to it."""
    id = name.split(" ")[0]
    return selector(id), {**SETTINGS.get(id, {}), **WAYS.get(name, {})}


NAMES = (*(method.id for method in SELECTORS), *WAYS)


# --- the pool ---------------------------------------------------------------------------------------------------------
def budget_of(rows: int) -> int:
    """One row in a hundred, `MOST` at most."""
    return max(1, min(MOST, rows // 100))


def pool(rows: int, needs: tuple[str, ...], seed: int = 0) -> Candidates:
    """Candidates with the fields in ``needs``, and no others.

    Vectors: as many clusters as the square root of the rows, of uneven sizes, unit centres with noise of 1.2 times
    their length; one row in twenty is nearly a copy of another. Scores and values are drawn by themselves, texts have
    10 to 30 words of a long-tailed vocabulary in the prompt and in the response, tags are 1 to 5 of 2,000, and targets
    are 100 rows like those of the first clusters.
    """
    rng = np.random.default_rng([seed, rows])
    ids = pl.int_range(rows, eager=True).cast(pl.String).alias("row_id")
    found: dict[str, Any] = {}
    if {"vectors", "clusters", "target_vectors"} & set(needs):
        centres = rng.standard_normal((max(1, round(rows**0.5)), DIMENSIONS), dtype=np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        share = rng.lognormal(size=len(centres))
        label = rng.choice(len(centres), rows, p=share / share.sum())
        if "clusters" in needs:
            found["clusters"] = label.astype(np.int64)
        if "vectors" in needs:
            found["vectors"] = vectors_of(centres, label, seed)
    if "score" in needs:
        found["score"] = rng.standard_normal(rows)
    if "groups" in needs:
        found["groups"] = pl.Series([f"source {i}" for i in range(GROUPS)]).gather(rng.integers(0, GROUPS, rows))
    if "values" in needs:
        seeds, places = np.full(rows, np.nan), rng.permutation(rows)[: budget_of(rows)]
        seeds[places] = np.arange(len(places)) + 1.0
        found["values"] = {
            "ifd": rng.beta(8, 2, rows) * 1.1,
            "ifd_experienced": rng.beta(8, 2, rows) * 1.1,
            "loss": rng.gamma(4, 0.3, rows),
            "mods_seed": seeds,
            "reward_necessity": rng.normal(-1, 1, rows),
        }
    if "texts" in needs:
        found["texts"] = pl.DataFrame(
            {field: texts_of(rows, [seed, i]) for i, field in enumerate(("prompt", "response"))}
        )
    if "tags" in needs:
        found["tags"] = lists_of(pl.Series([f"tag {i}" for i in range(TAGS)]), rows, (1, 5), [seed, 2])
    if {"target_texts", "target_vectors"} & set(needs):
        texts = pl.DataFrame({field: texts_of(TARGETS, [seed, 3, i]) for i, field in enumerate(("prompt", "response"))})
        some = np.arange(TARGETS) % min(5, len(centres)) if "target_vectors" in needs else None
        found["targets"] = {"goal": Target(texts, None if some is None else vectors_of(centres, some, seed + 1))}
    return Candidates(ids, **found)


def vectors_of(centres: np.ndarray, label: np.ndarray, seed: int) -> np.ndarray:
    """(n, d) float32 of unit length, a block at a time."""
    made = np.empty((len(label), DIMENSIONS), dtype=np.float32)
    for number, start in enumerate(range(0, len(label), BLOCK)):
        rng = np.random.default_rng([seed, 1, number])
        part = centres[label[start : start + BLOCK]]
        part += NOISE / DIMENSIONS**0.5 * rng.standard_normal(part.shape, dtype=np.float32)
        again = rng.permutation(len(part))[: 2 * int(COPIES * len(part))].reshape(2, -1)
        part[again[0]] = part[again[1]] + 0.1 / DIMENSIONS**0.5 * rng.standard_normal(
            (again.shape[1], DIMENSIONS), dtype=np.float32
        )
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        made[start : start + len(part)] = part
    return made


def texts_of(rows: int, seed: list[int]) -> pl.Series:
    """Texts of 10 to 30 words, the w-th of them as frequent as 1 / (w + 10)."""
    rank = 1 / (np.arange(WORDS) + 10)
    words = pl.Series([f"w{i:x}" for i in range(WORDS)])
    return lists_of(words, rows, (10, 30), seed, rank / rank.sum()).list.join(" ")


def lists_of(
    names: pl.Series, rows: int, lengths: tuple[int, int], seed: list[int], p: np.ndarray | None = None
) -> pl.Series:
    """List(String) of so many names a row, a block at a time."""
    mass = np.cumsum(np.full(len(names), 1 / len(names)) if p is None else p)
    parts = []
    for number, start in enumerate(range(0, rows, BLOCK)):
        rng = np.random.default_rng([*seed, number])
        length = rng.integers(lengths[0], lengths[1] + 1, min(BLOCK, rows - start))
        drawn = np.minimum(np.searchsorted(mass, rng.random(int(length.sum()))), len(names) - 1)
        row = np.repeat(np.arange(len(length)), length)
        lines = pl.DataFrame({"row": row, "name": names.gather(drawn)})
        parts.append(lines.group_by("row", maintain_order=True).agg("name")["name"])
    return pl.concat(parts).rechunk()


def size_of(found: Candidates) -> int:
    """Bytes of all fields."""
    total = found.row_ids.estimated_size()
    for field in (found.score, found.vectors, found.clusters, *found.values.values()):
        total += 0 if field is None else field.nbytes
    for table in (found.groups, found.texts, found.tags):
        total += 0 if table is None else table.estimated_size()
    for target in found.targets.values():
        total += target.texts.estimated_size() + (0 if target.vectors is None else target.vectors.nbytes)
    return int(total)


# --- one cell ---------------------------------------------------------------------------------------------------------
def warm_up(method: Selector, settings: dict[str, Any]) -> None:
    """Compile, or load what is compiled, also of the ways that only large pools go."""
    small = pool(300, method.needs)
    method.select(small, 5, 0, **settings)
    if method.params.get("method") == "auto":
        method.select(small, 5, 0, method="sparse")
    if method.id == "ideal" and small.vectors is not None:
        from methods.importance.ideal import neighbour_graph
        from methods.numerics.cascade import widest_by_sets

        widest_by_sets(neighbour_graph(small.vectors, 5), 2, 10, 0)


def resident(which: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"this system does not tell {which}")


def cell(id: str, rows: int, limit: float, memory: int) -> dict[str, Any]:
    """One selector on one pool, in this process. A signal ends the process where it needs more CPU seconds."""
    method, settings = method_of(id)
    warm_up(method, settings)
    given = pool(rows, method.needs)
    budget = budget_of(rows)
    before = resident("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    most = int((before + memory) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    signal.setitimer(signal.ITIMER_PROF, limit)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        chosen = method.select(given, budget, 0, **settings)
    except MemoryError:
        return {"status": "memory", "memory": memory}
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    signal.setitimer(signal.ITIMER_PROF, 0)
    peak = resident("VmHWM")
    return {
        "status": "ok", "budget": budget, "chosen": len(chosen.order), "cpu_s": round(cpu, 4), "wall_s": round(wall, 4),
        "input_mib": round(size_of(given) / 2**20, 1), "before_mib": round(before, 1), "peak_mib": round(peak, 1),
        "above_mib": round(max(0.0, peak - before), 1),
    }  # fmt: skip


def measure(id: str, rows: int, limit: float, memory: int) -> dict[str, Any]:
    """One cell in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cost", "--cell", id, str(rows)]
    command += ["--limit", str(limit), "--memory", str(memory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = {"id": id, "version": method_of(id)[0].version, "rows": rows, "limit": limit}
    found["at"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    if done.returncode == -signal.SIGPROF:
        return found | {"status": "time"}
    if done.returncode == -signal.SIGKILL:
        return found | {"status": "memory", "memory": memory}
    if done.returncode:
        return found | {"status": "error", "error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return found | json.loads(done.stdout.splitlines()[-1])


# --- the run ----------------------------------------------------------------------------------------------------------
def known(results: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The last result of each cell, of the selector's present version."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    versions = {name: method_of(name)[0].version for name in NAMES}
    for line in results.read_text().splitlines() if results.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):  # a line that was broken off
            record = json.loads(line)
            if versions.get(record["id"]) == record["version"]:
                found[record["id"], record["rows"]] = record
    return found


def settled(record: dict[str, Any] | None, limit: float) -> bool:
    """Whether a cell need not be measured again: it succeeded, or failed under no smaller limit."""
    return record is not None and (record["status"] in ("ok", "memory") or record["limit"] >= limit)


def worth_trying(id: str, rows: int, cells: dict[tuple[str, int], dict[str, Any]], limit: float, memory: int) -> bool:
    """False where a smaller size failed, or it surely fails: growing as before, or for `LARGE` in proportion."""
    smaller = [record for (name, size), record in cells.items() if name == id and size < rows]
    if any(record["status"] != "ok" for record in smaller):
        return False
    if len(smaller) < 2:
        return rows < LARGE
    last = max(smaller, key=lambda record: record["rows"])
    times = rows / last["rows"]
    if rows < LARGE:
        return last["cpu_s"] * times ** (exponent(smaller) or 1.0) < HOPELESS * limit
    return last["cpu_s"] * times < limit and last["above_mib"] * times < memory


def run(ids: list[str], sizes: list[int], limit: float, memory: int, results: Path, again: bool) -> None:
    """Every cell that is wanted and not known, smallest sizes first."""
    results.parent.mkdir(parents=True, exist_ok=True)
    fresh: set[tuple[str, int]] = set()
    for rows in sorted(sizes):
        for id in cheapest_first(ids, known(results)):
            cells = known(results)
            done = cells.get((id, rows))
            if (settled(done, limit) and not (again and (id, rows) not in fresh)) or not worth_trying(
                id, rows, cells, limit, memory
            ):
                continue
            found = measure(id, rows, limit, memory)
            fresh.add((id, rows))
            with results.open("a") as stream:
                stream.write(json.dumps(found) + "\n")
            print(
                f"{id:32} {rows:>9,}  {seconds(found):>10}  {found.get('above_mib', '')} {found.get('error', '')}",
                flush=True,
            )


def cheapest_first(ids: list[str], cells: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """By the seconds of the largest size that is known; what failed and what is not known comes last."""
    last = {id: record for (id, _), record in sorted(cells.items(), key=lambda item: item[0][1])}
    return sorted(ids, key=lambda id: last[id].get("cpu_s", np.inf) if id in last else np.inf)


# --- the report -------------------------------------------------------------------------------------------------------
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ID", help="these selectors; all by default")
    parser.add_argument("--sizes", type=int, nargs="+", default=[*SIZES, LARGE])
    parser.add_argument("--limit", type=float, default=120.0, help="CPU seconds a cell (120)")
    parser.add_argument("--memory", type=int, default=8192, help="MiB a cell may add to its input (8192)")
    parser.add_argument("--again", action="store_true", help="measure anew what is known")
    parser.add_argument("--report", action="store_true", help="write the table and the plot")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell:
        print(json.dumps(cell(given.cell[0], int(given.cell[1]), given.limit, given.memory)))
    elif given.report:
        report(given.results, given.table, given.plot)
    else:
        ids = [id for id in given.only if method_of(id)] if given.only else list(NAMES)
        run(ids, given.sizes, given.limit, given.memory, given.results, given.again)


if __name__ == "__main__":
    main()
