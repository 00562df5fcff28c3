"""All hand-crafted indicators of a row together: rows a second, and memory as the file grows.

    python -m benchmarks.handcrafted --data alpaca.jsonl

The file's rows, and ten times as many, go block by block (8,192 rows) from Parquet through the counts, the 46
readability features and every indicator that is read off them, and the scores back to Parquet: what the assets do,
without Dagster. Each size runs in a process of its own with one thread; memory is that process's peak, and beside it
the peak after one block, with all libraries, dictionaries and compiled kernels loaded.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

BLOCK = 8192


def rows_of(path: Path) -> pl.DataFrame:
    from methods.readers import read_file

    frames = [batch.rows for batch in read_file(path, "pool")]
    rows = pl.concat(frames).select("row_id", "instruction", "input", "response")
    return rows.with_columns(language=pl.lit("en"))


def score_file(path: Path, out: Path) -> dict[str, float]:
    """Everything for one file; the facts of this process."""
    import pyarrow.parquet as pq

    from methods import catalog
    from methods.quality.readability import features_of
    from methods.text import count_block

    by_need = {
        need: [i for i in catalog.INDICATORS if i.scope == "row" and i.needs == (need,)]
        for need in ("evidence/text_counts", "evidence/readability_features")
    }

    def score(block: pl.DataFrame) -> pl.DataFrame:
        counts = count_block(block)
        tables = {"evidence/text_counts": counts, "evidence/readability_features": features_of(counts)}
        values = [
            indicator.compute(tables[need], **indicator.params)["value"].alias(indicator.id)
            for need, members in by_need.items()
            for indicator in members
        ]
        return pl.DataFrame([block["row_id"], *values])

    frame = pl.scan_parquet(path)
    total = frame.select(pl.len()).collect().item()
    score(frame.head(BLOCK).collect())  # loads dictionaries, compiles kernels
    start, before = time.process_time(), _peak()
    writer = None
    for block in frame.collect_batches(chunk_size=BLOCK, maintain_order=True):
        table = score(block).to_arrow()
        writer = writer or pq.ParquetWriter(out, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    seconds = time.process_time() - start
    indicators = sum(map(len, by_need.values()))
    return {"rows": total, "indicators": indicators, "seconds": seconds, "one block": before, "peak": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--child", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.child:
            print(json.dumps(score_file(arguments.child, Path(folder) / "out.parquet")))
            return
        rows = rows_of(arguments.data)
        print(f"{'rows':>9} {'indicators':>10} {'CPU s':>8} {'rows/s':>8} {'MiB, one block':>15} {'MiB, peak':>10}")
        for times in (1, arguments.times):
            path = Path(folder) / f"{times}.parquet"
            again = pl.concat([rows.with_columns(row_id=pl.col("row_id") + f"-{n}") for n in range(times)])
            again.write_parquet(path, row_group_size=BLOCK)
            found = run_alone(path)
            print(
                f"{found['rows']:>9,} {found['indicators']:>10} {found['seconds']:>8.1f} "
                f"{found['rows'] / found['seconds']:>8,.0f} {found['one block']:>15,.0f} {found['peak']:>10,.0f}"
            )


def run_alone(path: Path) -> dict[str, float]:
    import os

    alone = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.handcrafted", "--child", str(path)]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
