"""What every selector costs as the pool grows: seconds and memory of one thread, as a table and a plot.

Here belongs the measurement: one cell (a selector at a size) in a process of its own, and the run over all cells. The
synthetic pool stands in ``cost_pool.py``, what is said of each selector in ``cost_selectors.py``, the report in
``cost_page.py``. Every selector of the catalogue is run with its default parameters.

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
import math
import os
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

from benchmarks.cost_page import exponent, report, seconds  # noqa: E402
from benchmarks.cost_pool import budget_of, pool, size_of  # noqa: E402
from benchmarks.cost_selectors import NAMES, known, method_of  # noqa: E402
from methods.kinds import Selector  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TABLE, PLOT = (ROOT / "docs" / name for name in ("cost.jsonl", "cost.md", "images/cost.svg"))
SIZES, LARGE = (10_000, 50_000, 200_000), 1_000_000
HOPELESS = 3.0
"""A cell that is expected to take so many times the limit is not tried."""


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
    return sorted(ids, key=lambda id: last[id].get("cpu_s", math.inf) if id in last else math.inf)


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
