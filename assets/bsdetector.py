"""BSDetector in the lake: what is read off the judge's answers, and the answers that stand after correction.

Here belong `evidence/bsdetector` (each row's answer held against those that the judge would give) and
`corrected/answers` (which answers are replaced, and by what). The judge's answers are `evidence/judgments_bsdetector`
and `evidence/judgments_bsdetector_choice`; what is decided by which number, `methods.quality.bsdetector`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import metadata
from assets.coverage import coverage
from assets.embedded import encode_with
from assets.judged import TOY
from assets.partitions import SOURCES, same_source, whole_pool
from assets.step import Result, Step, check_specs
from methods.judging.detecting import own_answer
from methods.judging.kinds import JUDGMENTS_SCHEMA
from methods.kinds import OK
from methods.quality import bsdetector as science
from resources.encoder import Encoder
from resources.lake import RowCache
from resources.nli import NLI
from resources.settings import Settings
from resources.tables import LakeResource
from resources.token_pass import TRUNCATED

EVIDENCE, ANSWERS = dg.AssetKey(["evidence", "bsdetector"]), dg.AssetKey(["corrected", "answers"])
JUDGED, COMPARED = "evidence/judgments_bsdetector", "evidence/judgments_bsdetector_choice"
TRUST = "scored/bsdetector"
ROWS, PAIRS = 512, 256
"""Rows in hand at a time; pairs that a model reads, and that are kept, together."""
PAIR_SCHEMA = pl.Schema({"row_id": pl.String(), "contradiction": pl.Float64(), "truncated": pl.Boolean()})
DEFAULTS: dict[str, Any] = {"gamma": 0.8, "percentile": 50.0, "beta": 0.7}
"""Parameters of `corrected/answers`, to be changed under ``corrected``; see `methods.quality.bsdetector.corrected`."""


# ---- evidence -------------------------------------------------------------------------------------------------------


@dg.asset(
    key=EVIDENCE,
    group_name="evidence",
    partitions_def=SOURCES,
    deps=[same_source("filtered/instructions"), same_source("filtered/dropped"), same_source(JUDGED)],
    code_version="1",
    kinds={"parquet", "transformers"},
    pool="gpu",
    tags={"cost": "gpu"},
    check_specs=check_specs(EVIDENCE.path, SOURCES),
    description="Each row's answer held against those that the judge would give to its prompt: how likely the two do "
    "not contradict each other, whether they are the same, and what the judge thinks of the row's. Contradictions are "
    "read by the model that SLUICE_NLI names; without one, how unlike the embeddings are stands in their place. Made "
    "only where somebody asks for it.",
)
def detected(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder, nli: NLI
) -> Iterator[Any]:
    """Compare the answers; what was compared once is kept."""
    step = Step(context, lake, settings)
    by: dict[str, Any] = {"nli": nli.identity()} if nli.model else {"embeddings": encoder.identity()}
    judged_by = step.lake.manifest(JUDGED.split("/"), step.partition)
    # A score is taken over as long as this stays: it must not when a row was asked again.
    by["answers"] = judged_by.data_version if judged_by else None

    def compute() -> Result:
        compare = _ByModel(step, nli) if nli.model else None
        contradiction = compare or science.by_embeddings(encode_with(lake, encoder, context.log.info))
        judged = step.scan(JUDGED).select(JUDGMENTS_SCHEMA.names()).collect()
        own = _own_answers(step, judged["row_id"])
        tables = [pl.DataFrame(schema=science.EVIDENCE_SCHEMA)]
        progress = step.progress("comparing answers", judged.height)
        for block in judged.iter_slices(ROWS):
            tables.append(science.evidence(block, own, contradiction))
            progress.advance(block.height)
        table = pl.concat(tables)
        facts = {
            **coverage(step),
            "rows missing": judged.height - table.height,
            "share not ok": float(table.select((pl.col("status") != OK).mean()).item() or 0.0),
            "samples": int(table["same"].list.len().sum() or 0),
            "read by": nli.model or f"embeddings of {encoder.identity().get('model', '')}",
            **({"pairs cut": compare.cut} if compare else {}),
        }
        shown = {
            "not contradicting": metadata.histogram(
                table["consistent"].list.mean().cast(pl.Float64), "mean of 1 - P(contradiction)"
            ),
            "reflection": metadata.histogram(table["reflections"].list.mean().cast(pl.Float64), "mean reflection"),
        }
        return Result(table, facts, shown, {"consistent": [(JUDGED, "answers")], "reflections": [(JUDGED, "values")]})

    yield from step.make(EVIDENCE, by, compute)


class _ByModel:
    """P(contradiction) by a model; what it has read once is kept."""

    def __init__(self, step: Step, nli: NLI) -> None:
        self.nli = nli
        self.cache: RowCache = step.lake.cache("nli", {"code": "1", **nli.identity()})
        self.cut = 0

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        keys = [_key(pair) for pair in pairs]
        with self.cache.alone():
            known = self._known(keys)
        todo = list({key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}.items())
        for start in range(0, len(todo), PAIRS):
            part = todo[start : start + PAIRS]
            chances, status = self.nli.contradiction([pair for _, pair in part])
            cut = [said == TRUNCATED for said in status]
            found = pl.DataFrame(
                {"row_id": [key for key, _ in part], "contradiction": chances, "truncated": cut}, schema=PAIR_SCHEMA
            ).filter(pl.col("contradiction").is_finite())
            self.cache.append(found)
            known |= _lines(found)
        with self.cache.alone():
            self.cache.compact()
        self.cut += sum(known[key][1] for key in keys if key in known)
        return np.array([known[key][0] if key in known else np.nan for key in keys], dtype=np.float64)

    def _known(self, keys: Sequence[str]) -> dict[str, tuple[float, bool]]:
        stored = self.cache.scan()
        wanted = pl.LazyFrame({"row_id": list(dict.fromkeys(keys))}, schema={"row_id": pl.String})
        return {} if stored is None else _lines(stored.join(wanted, on="row_id", how="semi").collect())


def _lines(found: pl.DataFrame) -> dict[str, tuple[float, bool]]:
    return {key: (chance, cut) for key, chance, cut in found.select(PAIR_SCHEMA.names()).iter_rows()}


def _key(pair: tuple[str, str]) -> str:
    premise, hypothesis = (text.encode("utf-8", "surrogatepass") for text in pair)
    said = len(premise).to_bytes(8, "big") + premise + hypothesis
    return hashlib.blake2b(said, digest_size=16).hexdigest()


def _own_answers(step: Step, ids: pl.Series, pool: Sequence[str] | None = None) -> dict[str, str]:
    """The answer that each of these rows has, in their order."""
    names = ["row_id", "messages", "instruction", "input", "response"]
    tables = [step.scan(f"filtered/{name}", pool).select(names) for name in ("instructions", "dropped")]
    wanted = ids.to_frame("row_id").lazy()
    rows = pl.concat(tables).join(wanted, on="row_id", how="semi").unique("row_id", keep="first").collect()
    found = {row["row_id"]: own_answer(row) for row in rows.iter_rows(named=True)}
    return {row_id: found.get(row_id, "") for row_id in ids}


# ---- correction -----------------------------------------------------------------------------------------------------


@dg.asset(
    key=ANSWERS,
    group_name="corrected",
    deps=[
        same_source("filtered/pool"),
        whole_pool("filtered/instructions"),
        whole_pool("filtered/dropped"),
        whole_pool(JUDGED),
        whole_pool(COMPARED),
        whole_pool(TRUST),
    ],
    code_version="1",
    kinds={"parquet"},
    check_specs=check_specs(ANSWERS.path),
    description="What becomes of each answer of the pool: replaced by the judge's own where it is surely better, kept "
    "where it is trusted, dropped otherwise. The old answer stays beside the new one. Made only where somebody asks "
    "for it.",
)
def answers(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Decide on every row of the pool."""
    step = Step(context, lake, settings)
    pool = step.pool(ANSWERS)
    params = params_of(settings)

    def compute() -> Result:
        ids = step.scan("filtered/pool").select("row_id").collect()["row_id"]
        read = _reader(step, pool, ids)
        own = _own_answers(step, ids, pool)
        table = science.corrected(
            pl.DataFrame({"row_id": list(own), "answer": list(own.values())}, schema_overrides={"answer": pl.String}),
            read(TRUST).select("row_id", "value", "status"),
            read(JUDGED),
            read(COMPARED),
            **params,
        )
        by, toys = _judges(step, pool)
        if toys:
            context.log.warning(f"the new answers are a toy's ({', '.join(toys)}): do not train on them")
        counts = dict(table.group_by("decision").len().iter_rows())
        names = (science.REPLACED, science.KEPT, science.DROPPED, science.UNJUDGED)
        facts = {
            "pool": pool,
            "rows missing": len(ids) - table.height,
            "share not ok": counts.get(science.UNJUDGED, 0) / max(1, table.height),
            **{f"rows {name}": counts.get(name, 0) for name in names},
            "new answers by": ", ".join(by),
            **({TOY: "; ".join(toys)} if toys else {}),
        }
        changed = table.filter(pl.col("decision") == science.REPLACED).sort("confidence", descending=True)
        decisions = pl.DataFrame({"decision": list(names), "rows": [counts.get(name, 0) for name in names]})
        shown = {
            "decisions": metadata.table(decisions),
            "replaced": metadata.table(changed.select("confidence", "old", "new"), 300, most=10),
            "confidence": metadata.histogram(table["confidence"], "confidence that the judge's answer is better"),
        }
        lineage = {"trust": [(TRUST, "value")], "new": [(JUDGED, "answers")], "confidence": [(COMPARED, "values")]}
        return Result(table, facts, shown, lineage)

    yield from step.make(ANSWERS, params, compute, pool)


def _judges(step: Step, pool: Sequence[str]) -> tuple[list[str], list[str]]:
    """Whose the new answers are, and which of these judges are none that one could believe."""
    manifests = (step.lake.manifest(JUDGED.split("/"), source) for source in pool)
    told = [manifest.facts for manifest in manifests if manifest]
    return sorted({str(f.get("model", "")) for f in told}), sorted({str(f[TOY]) for f in told if f.get(TOY)})


def params_of(settings: Settings) -> dict[str, Any]:
    """The parameters of the correction: the defaults, and what a person set under ``corrected``."""
    wanted = settings.params.get("corrected", {})
    if unknown := sorted(set(wanted) - set(DEFAULTS)):
        raise ValueError(f"corrected has no parameter {', '.join(unknown)}; there are: {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **wanted}


def _reader(step: Step, pool: Sequence[str], ids: pl.Series) -> Callable[[str], pl.DataFrame]:
    """Tables of the pool's sources, the lines of these rows, each once."""
    wanted = ids.to_frame("row_id").lazy()

    def read(key: str) -> pl.DataFrame:
        found = step.scan(key, pool).drop("source", strict=False)
        return found.join(wanted, on="row_id", how="semi").unique("row_id", keep="first").collect()

    return read


SOURCE_ASSETS, POOL_ASSETS = (detected,), (answers,)
