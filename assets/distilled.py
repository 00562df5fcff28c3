"""A judge's or a person's score, learned by a small model on embeddings and guessed for every row.

Here belongs wiring: which score is learned and from which rows, and the table of guesses. The fit, and when it is not
to be used, stands in `methods.quality.distillation`. The scores are those that happen to be there, so that nobody is
asked for their sake: they are inputs of the table without being upstream of it in the graph.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import metadata
from assets.embedded import encode_with, vectors_identity, vectors_of
from assets.pairwise import share_not_ok
from assets.partitions import whole_pool
from assets.step import Result, Step, check_specs
from assets.training import POOL_ROWS, pool_rows
from methods import catalog
from methods.kinds import Encode
from methods.quality import distillation
from methods.quality.reward import question_and_answer
from methods.rows import PROMPT
from resources.encoder import Encoder
from resources.lake import LakeError
from resources.settings import Settings
from resources.tables import LakeResource

DISTILLED = dg.AssetKey(["tuned", "distilled"])
STEP = "distillation"
"""The name under which the fit's parameters are set; what is learned, and what is believed, stands with the indicator
(`distilled.of`, `distilled.minimum`)."""
DEFAULTS: Mapping[str, Any] = {"kind": "ridge", "with_length": False, "apart": False, "folds": 5, "seed": 0}
"""``apart``: the question and the last answer have a vector each, which is made here and kept, instead of the row's."""
BELIEVED = 0.3
NOTHING_NAMED = (
    "say which score is to be learned, by its indicator, e.g. --param distilled.of=alpagasus_score; some rows of the "
    "pool must have it"
)


def params_of(settings: Settings) -> dict[str, Any]:
    """How the fit is made: the defaults, and what a person set."""
    wanted = settings.params.get(STEP, {})
    if unknown := sorted(set(wanted) - set(DEFAULTS)):
        raise ValueError(f"{STEP} has no parameter {', '.join(unknown)}; it has {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **wanted}


def scores_there(step: Step, of: str, pool: Sequence[str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """The scores of an indicator wherever the pool has them, ``row_id`` and ``value``, and the versions of their
    tables. A source that has none is left out."""
    path = ["scored", catalog.indicator(of).id]
    frames, versions = [pl.DataFrame(schema={"row_id": pl.String, "value": pl.Float64})], {}
    for place in pool if step.is_partitioned(path) else [None]:
        manifest = step.lake.manifest(path, place)
        if manifest is not None:
            versions["/".join(path) + (f"[{place}]" if place else "")] = manifest.data_version
            frames.append(step.lake.scan(path, place).select("row_id", "value").collect())
    if not versions:
        raise LakeError(f"no source of the pool has {of} yet: materialize {'/'.join(path)} for some rows first")
    return pl.concat(frames).unique("row_id", keep="first", maintain_order=True), versions


@dg.asset(
    key=DISTILLED,
    group_name="tuned",
    deps=[*POOL_ROWS, whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"parquet", "scikitlearn"},
    tags={"cost": "cpu"},
    check_specs=check_specs(DISTILLED.path),
    description="What a small model on embeddings guesses of a judge's or a person's score (distilled.of), for every "
    "row of the pool. Its page says how well its order goes with the score on rows that it has not seen, beside the "
    "length of the answer; below distilled.minimum its numbers are not used. Made only when somebody asks for it.",
)
def distilled(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Fit the rows that have a score, and guess all."""
    step = Step(context, lake, settings)
    pool, params = step.pool(DISTILLED), params_of(settings)
    wanted = settings.params.get("distilled", {})
    of, minimum = str(wanted.get("of", "")), float(wanted.get("minimum", BELIEVED))
    stored = step.lake.manifest(DISTILLED.path)
    if not of and stored is not None:
        of = str(stored.config["of"])  # what it was made of before
    if not of:
        raise dg.Failure(description=NOTHING_NAMED, allow_retries=False)
    if of == "distilled":
        raise dg.Failure(description="what was distilled cannot be distilled again", allow_retries=False)
    scores, versions = scores_there(step, of, pool)
    config = {"of": of, **params, **vectors_identity(encoder)}

    def compute() -> Result:
        said = pool_rows(step, pool).with_columns(
            question=PROMPT, characters=pl.col("response").str.len_chars().cast(pl.Int64)
        )
        rows = said.collect().join(scores, on="row_id", how="left", maintain_order="left")
        if params["apart"]:
            vectors = _apart(rows, encode_with(lake, encoder, context.log.info))
        else:
            vectors = vectors_of(lake, encoder).read(rows["row_id"].to_list())
        target = rows["value"].fill_null(float("nan")).to_numpy().astype(np.float64)
        lengths, questions = rows["characters"].to_numpy(), rows["question"].to_list()
        kind, with_length = str(params["kind"]), bool(params["with_length"])
        try:
            found = distillation.distil(
                vectors, lengths, target, questions, kind, with_length, int(params["folds"]), int(params["seed"])
            )
        except ValueError as error:
            raise dg.Failure(description=f"{of} cannot be distilled: {error}", allow_retries=False) from error
        table = distillation.table_of(rows["row_id"], found, of)
        return _result(table, found, {"pool": pool, "of": of, "minimum": minimum}, rows["value"])

    yield from step.make(DISTILLED, config, compute, pool, versions)


def _apart(rows: pl.DataFrame, encode: Encode) -> np.ndarray:
    """The vectors of question and answer side by side; NaN where one of them is empty."""
    pairs = [question_and_answer(row) for row in rows.iter_rows(named=True)]
    vectors = encode([text for pair in pairs for text in pair])
    return vectors.reshape(len(pairs), 2 * vectors.shape[1])


def _result(table: pl.DataFrame, found: distillation.Distilled, facts: dict[str, Any], said: pl.Series) -> Result:
    verdict = found.verdict(float(facts["minimum"]))
    ahead = dict(zip(("ahead of the length", "ahead, low", "ahead, high"), found.ahead or (), strict=False))
    facts = {
        **facts,
        "rows learned from": found.learned_from,
        "rows missing": 0,
        "rows computed": table.height,
        "share not ok": share_not_ok(table),
        "rank correlation": found.correlation,
        **ahead,
        "beats the length": int(found.beats_length),
        "verdict": verdict,
    }
    shown = {
        "how good it is": dg.MetadataValue.md(f"**{verdict}**"),
        "rank correlations": metadata.table(found.report.with_columns(pl.col(pl.Float64).round(3))),
        "what was said": metadata.histogram(said.drop_nulls(), f"{facts['of']}, as it was given"),
        "what is guessed": metadata.histogram(table["predicted"], f"{facts['of']}, as it is guessed"),
    }
    return Result(table, facts, shown)


ASSETS = (distilled,)
