"""Stage 2: rows that are worth nothing are dropped, with the rule and the numbers that dropped them.

Here belongs applying the rules of `methods.filters` to a source (`filtered/instructions`, `filtered/dropped`), and
finding duplicates across the pool (`filtered/signatures`, `filtered/duplicates`, `filtered/pool`). The rules and the
thresholds themselves are in `methods.filters`.

Duplicate *pairs* are found once for the pool; which twin of a pair stays depends on the rows that one chooses from
and on their scores, so each recipe resolves the pairs among its own rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from assets import automation, metadata
from assets.incremental import fill, in_blocks
from assets.partitions import SOURCES, same_source, whole_pool
from assets.step import STORED, Result, Step, check_specs
from assets.targets import target_files
from methods.filters import contamination, duplicates, resolution, rules
from methods.rows import TEXT
from methods.selection import twins
from resources.fingerprint import fingerprint
from resources.lake import LakeError
from resources.settings import Settings
from resources.tables import LakeResource

RULES_VERSION = "1"
"""Raised when a rule judges differently."""
KEPT, DROPPED = dg.AssetKey(["filtered", "instructions"]), dg.AssetKey(["filtered", "dropped"])
PAIRS_FROM = 0.7
"""Pairs are kept from this similarity upwards; a recipe may drop from any higher one without finding them again."""
SIGNATURES, PAIRS, POOL = (dg.AssetKey(["filtered", name]) for name in ("signatures", "duplicates", "pool"))


# ---- one source ----------------------------------------------------------------------------------------------------


@dg.multi_asset(
    name="filtered",
    group_name="filtered",
    partitions_def=SOURCES,
    specs=[
        dg.AssetSpec(
            KEPT,
            deps=[same_source("raw/instructions")],
            code_version=RULES_VERSION,
            kinds={"parquet"},
            metadata=STORED,
            description="The rows that passed every rule, with their language. Rules, in order:\n\n"
            + "\n".join(f"- **{rule.id}**: {rule.meaning}" for rule in rules.RULES)
            + "\n- **exact_duplicate**: the same content stands earlier in the same source",
        ),
        dg.AssetSpec(
            DROPPED,
            deps=[same_source("raw/instructions")],
            code_version=RULES_VERSION,
            kinds={"parquet"},
            metadata=STORED,
            description="The rows that a rule dropped: the rule, and the numbers behind it.",
        ),
    ],
    check_specs=[*check_specs(KEPT.path, SOURCES), *check_specs(DROPPED.path, SOURCES)],
)
def filtered(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Judge every row of a source by the rules; rows judged before under the same rules are not judged again."""
    step = Step(context, lake, settings)
    config = filter_config(step)
    targets, target_hashes = _targets(step)
    inputs = {f"targets/{name}": version for name, version in target_hashes.items()}
    drafts = {key: step.draft(key, config.as_dict(), extra_inputs=inputs) for key in (KEPT, DROPPED)}
    stored = {key: step.up_to_date(key, draft) for key, draft in drafts.items()}
    kept_stored, dropped_stored = stored[KEPT], stored[DROPPED]
    if kept_stored and dropped_stored:
        yield from step.unchanged(DROPPED, dropped_stored)
        yield from step.unchanged(KEPT, kept_stored)
        return
    verdicts, facts = _verdicts(step, config, targets, fingerprint([config.as_dict(), target_hashes]))
    kept, dropped, counts, shown = _split(step, verdicts)
    facts |= counts
    # The kept rows first: if they break their contract, what was dropped stays as it was too.
    try:
        yield from step.publish(KEPT, Result(kept, facts, shown), drafts[KEPT])
    except dg.Failure:
        dropped.unlink()
        raise
    yield from step.publish(DROPPED, Result(dropped, {"rules": facts["dropped by rule"]}, shown), drafts[DROPPED])


def filter_config(step: Step) -> rules.FilterConfig:
    """Defaults, then ``HOME/filters.yaml``, then what was set for this run."""
    import yaml

    path = step.lake.home / "filters.yaml"
    try:
        lasting = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}
        if not isinstance(lasting, dict):
            raise ValueError("give a mapping of settings")
        rules.FilterConfig.from_dict(lasting)
    except (yaml.YAMLError, ValueError) as error:
        raise LakeError(f"{path}: {' '.join(str(error).split())}") from error
    return rules.FilterConfig.from_dict({**lasting, **step.settings.filters})


def _targets(step: Step) -> tuple[contamination.Targets | None, dict[str, str]]:
    """The test sets that must not leak, and the hash of each."""
    from methods import readers

    files = target_files(step.lake)
    if not files:
        return None, {}
    batches = [batch.rows for file in files for batch in readers.read_file(file, file.stem, layout="prompts")]
    read = pl.concat(batches)
    if unread := sorted({file.stem for file in files} - set(read["source"])):
        raise LakeError(
            f"no test item could be read from {', '.join(unread)} in {step.lake.targets}: put it right or take it "
            f"out, or "
            "leaks would go unseen"
        )
    turns = read.explode("messages").unnest("messages").filter(pl.col("role") == "user")
    names = turns.select(pl.format("{}:{}", "source", "position"))
    targets = contamination.target_ngrams(turns["content"], names.to_series().to_list())
    return targets, {file.name: readers.content_hash(file) for file in files}


def _verdicts(
    step: Step, config: rules.FilterConfig, targets: contamination.Targets | None, version: str
) -> tuple[pl.LazyFrame, dict[str, Any]]:
    """``row_id, language, rule, detail, flags`` for every distinct row of the source."""
    rows = step.scan("raw/instructions").unique("row_id", keep="first", maintain_order=True)
    cache = step.lake.cache("verdicts", {"rules": RULES_VERSION, "config": version})
    judge = in_blocks(step, "filtering", lambda block: rules.judge_rows(block, config, targets))
    done = fill(step, KEPT, rows, [], judge, cache)
    verdicts = pl.read_parquet(done.data)
    done.data.unlink()
    return verdicts.lazy(), {"rows computed": done.computed, "rows reused": done.rows - done.computed}


def _split(step: Step, verdicts: pl.LazyFrame) -> tuple[Path, Path, dict[str, Any], dict[str, Any]]:
    """The kept and the dropped rows in staged files, and the account of them."""
    raw = step.scan("raw/instructions").drop("source")
    first = raw.select("row_id", first_position="position", first_part="part").unique(
        "row_id", keep="first", maintain_order=True
    )
    again = (pl.col("position") != pl.col("first_position")) | (pl.col("part") != pl.col("first_part"))
    judged = (
        raw.join(verdicts, on="row_id", how="left", maintain_order="left")
        .join(first, on="row_id", how="left", maintain_order="left")
        .with_columns(
            rule=pl.when(pl.col("rule").is_null() & again).then(pl.lit("exact_duplicate")).otherwise("rule"),
            detail=pl.when(pl.col("rule").is_null() & again)
            .then(pl.format("the same content stands at position {} of this source", "first_position"))
            .otherwise("detail"),
            source=pl.lit(step.partition),
        )
        .drop("first_position", "first_part")
    )
    kept, dropped = (step.lake.staging_path(key.path, step.partition) for key in (KEPT, DROPPED))
    judged.filter(pl.col("rule").is_null()).drop("rule", "detail").sink_parquet(kept)
    judged.filter(pl.col("rule").is_not_null()).sink_parquet(dropped)
    rows_in = raw.select(pl.len()).collect().item()
    drop = pl.scan_parquet(dropped, glob=False)
    by_rule = drop.group_by("rule").agg(pl.len().alias("rows"), pl.first("detail", "response", "position", "row_id"))
    by_rule_frame = by_rule.sort("rows", "rule", descending=[True, False]).collect()
    n_dropped = int(by_rule_frame["rows"].sum())
    n_kept = pl.scan_parquet(kept, glob=False).select(pl.len()).collect().item()
    counts = {
        "rows in": rows_in,
        "rows dropped": n_dropped,
        "rows unaccounted": rows_in - n_kept - n_dropped,
        "ids not in raw": 0
        if n_kept == 0
        else pl.scan_parquet(kept, glob=False).join(raw, on="row_id", how="anti").select(pl.len()).collect().item(),
        "share dropped": n_dropped / max(rows_in, 1),
        "dropped by rule": dict(by_rule_frame.select("rule", "rows").iter_rows()),
    }
    return kept, dropped, counts, _shown(by_rule_frame, pl.scan_parquet(kept, glob=False))


def _shown(by_rule: pl.DataFrame, kept: pl.LazyFrame) -> dict[str, Any]:
    """What was dropped and why, with an example of each; what was only flagged; which languages stayed."""

    def counted(rows: pl.LazyFrame, column: str) -> pl.DataFrame:
        return (
            rows.group_by(column).agg(pl.len().alias("rows")).sort("rows", column, descending=[True, False]).collect()
        )

    place = pl.format("#{}", "position").alias("place")
    row = metadata.texts("detail", "response", "place").alias("for example: why → response → position  [row_id]")
    example = by_rule.with_columns(place).select("rule", "rows", row)
    return {
        "dropped by rule": metadata.table(example, 440),
        "flagged and kept": metadata.table(counted(kept.select("flags").explode("flags").drop_nulls(), "flags")),
        "languages kept": metadata.table(counted(kept, "language"), most=12),
    }


@dg.asset(
    key=SIGNATURES,
    group_name="filtered",
    partitions_def=SOURCES,
    deps=[same_source("filtered/instructions")],
    code_version="1",
    kinds={"parquet"},
    check_specs=check_specs(SIGNATURES.path, SOURCES),
    description="MinHash signature of every kept row: rows with similar wording have similar signatures (Broder 1997).",
)
def signatures(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Sign the rows that have no signature yet."""
    step = Step(context, lake, settings)

    def sign(block: pl.DataFrame) -> pl.DataFrame:
        return duplicates.signatures(block).with_columns(
            status=pl.when(pl.col("signature").is_null()).then(pl.lit("no_words")).otherwise(pl.lit("ok"))
        )

    def compute() -> Result:
        done = fill(
            step,
            SIGNATURES,
            step.scan("filtered/instructions"),
            [step.previous(SIGNATURES, {})],
            in_blocks(step, "signing", sign),
        )
        return Result(done.data, done.facts)

    yield from step.make(SIGNATURES, {}, compute)


# ---- the pool ------------------------------------------------------------------------------------------------------


@dg.asset(
    key=POOL,
    group_name="filtered",
    deps=[whole_pool("filtered/instructions"), whole_pool("filtered/dropped")],
    code_version="1",
    kinds={"parquet"},
    automation_condition=automation.gate(),
    check_specs=check_specs(POOL.path),
    description="The distinct rows of the pool in order (sources by name, then position): what pool-relative "
    "indicators, clusters and recipes "
    "look at. A content that stands in several places is listed once, with its first place and the number of its "
    "copies.",
)
def pool_rows(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """List what there is to choose from."""
    step = Step(context, lake, settings)
    pool = step.pool(POOL)

    def compute() -> Result:
        rows = step.scan("filtered/instructions", pool)
        if settings.all_rows:
            dropped = step.scan("filtered/dropped", pool).select(rows.collect_schema().names())
            rows = pl.concat([rows, dropped])
        places = rows.select("row_id", "source", "position", "part").collect()
        if places.is_empty():
            raise LakeError(f"nothing is left to choose from: the filters dropped every row of {', '.join(pool)}")
        distinct = places.group_by("row_id", maintain_order=True).agg(
            pl.first("source", "position", "part"), pl.len().alias("copies")
        )
        facts = {
            "pool": pool,
            "rows in": places.height,
            "rows unaccounted": places.height - int(distinct["copies"].sum()),
        }
        by_source = distinct.group_by("source").agg(pl.len().alias("distinct rows")).sort("source")
        return Result(distinct, facts, {"rows by source": metadata.table(by_source)})

    yield from step.make(POOL, {"pool": pool, "all_rows": settings.all_rows}, compute, pool)


@dg.asset(
    key=PAIRS,
    group_name="filtered",
    deps=[same_source("filtered/pool"), whole_pool("filtered/instructions"), whole_pool("filtered/signatures")],
    code_version="2",
    kinds={"parquet"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(PAIRS.path),
    description="Pairs of rows of the pool that say the same: identical text (after case, blanks and Unicode "
    "forms are folded), or a Jaccard "
    "similarity of their word n-grams of at least the threshold. Candidates come from MinHash bands; every pair "
    "is verified on the texts.",
)
def duplicate_pairs(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Find and verify the pairs across all sources of the pool."""
    step = Step(context, lake, settings)
    pool = step.pool(PAIRS)
    config = {"threshold": PAIRS_FROM, **settings.params.get("duplicates", {})}

    def compute() -> Result:
        ids = step.scan("filtered/pool").select("row_id")
        rows = step.scan("filtered/instructions", pool).unique("row_id", keep="first", maintain_order=True)
        texts = (
            ids.join(rows, on="row_id", how="inner", maintain_order="left")
            .select("row_id", "source", "instruction", "input", "response")
            .collect()
        )
        signed = (
            step.scan("filtered/signatures", pool)
            .select("row_id", "signature")
            .unique("row_id", keep="first")
            .collect()
        )
        signature = texts.select("row_id").join(signed, on="row_id", how="left", maintain_order="left")["signature"]
        pairs = twins.find_pairs(texts, signature, config["threshold"])
        alarms = _alarms(texts, pairs, config["threshold"])
        repeated = pairs.select(pl.col("b").n_unique()).item() / max(texts.height, 1)
        return Result(
            pairs,
            {"pool": pool, "alarms": alarms.height, "share near duplicate": repeated},
            {
                "most similar pairs": metadata.table(
                    _with_texts(pairs.sort("similarity", descending=True).head(8), texts), 400
                ),
                "similarity of pairs": metadata.histogram(pairs["similarity"], "Jaccard similarity"),
                "clusters that eat a source": metadata.table(alarms.head(12), 160),
            },
        )

    yield from step.make(PAIRS, config, compute, pool)


def _alarms(rows: pl.DataFrame, pairs: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """The duplicate clusters that would eat a large part of a source, if the pool were resolved as it stands."""
    number = rows.select("row_id").with_row_index("n")
    gone = twins.resolve(rows["row_id"], pairs, threshold)
    numbered = (
        gone.join(number, on="row_id")
        .rename({"n": "row"})
        .join(number.rename({"row_id": "twin", "n": "kept"}), on="twin")
    )
    alarms = resolution.cluster_alarm(rows["source"], numbered.select("row", twin="kept", similarity="similarity"))
    return alarms.with_columns(twin=rows["row_id"].gather(alarms["twin"]))


def _with_texts(pairs: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    text = texts.select("row_id", text=TEXT)
    both = pairs.join(text, left_on="a", right_on="row_id", how="left", maintain_order="left").join(
        text, left_on="b", right_on="row_id", how="left", suffix=" of b", maintain_order="left"
    )
    one, other = metadata.texts("text", row_id="a"), metadata.texts("text of b", row_id="b")
    return both.select("similarity", pl.format("{} ↔ {}", one, other).alias("row a  [row_id] ↔ row b  [row_id]"))


ASSETS = (filtered, signatures, pool_rows, duplicate_pairs)
