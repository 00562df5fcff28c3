"""Rewards: what a reward model, or a head that was trained on comparisons, says of each row's answer.

Here belongs wiring: `tuned/preference_head` (comparisons from ``HOME/preferences``, or made from the pool, and the
head that learns them) and `evidence/rewards` (a line a row). What the numbers are stands in `methods.quality.reward`
and `methods.quality.preference`, the models in `resources.reward_model`.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import metadata
from assets.coverage import coverage, rows_to_assess, share_not_ok
from assets.embedded import encode_with
from assets.partitions import same_source, whole_pool
from assets.passes import model_pass, passed
from assets.step import Result, Step, check_specs
from methods.kinds import OK, Encode
from methods.quality import preference, reward
from methods.readers import opened
from methods.rows import BadRecord
from methods.streams import Limits, SourceError, Stream, content_hash, kind_by_name
from resources.encoder import Encoder
from resources.reward_model import PREFERENCE_HEAD, RewardModel
from resources.settings import Settings
from resources.tables import LakeResource

REWARDS, HEAD = dg.AssetKey(["evidence", "rewards"]), dg.AssetKey(["tuned", "preference_head"])
ROWS_REWARDED, ROWS_EMBEDDED = 64, 2048
"""Rows that a reward model, or the head, is shown, and that are kept, together."""
DEFAULTS: dict[str, Any] = {"seed": 0, "held_out": 0.2, "with_length": False, "most_rows": 1000}
"""Parameters of the head, to be changed under ``preference_head``: the seed, the share of questions that it is tested
on, whether it may look at the length, and how many rows comparisons are made from where there are none."""
MOST_BAD = 40

NO_MODEL = (
    "no reward model is set. Set SLUICE_REWARD_MODEL to a folder or a hub id of a sequence classification model, e.g. "
    "OpenAssistant/reward-model-deberta-v3-large-v2. Without one, make tuned/preference_head (`sluice make`; a small "
    "head on embeddings, from comparisons in the home's folder preferences/ or made from the pool) and set "
    "SLUICE_REWARD_MODEL=preference_head."
)
NO_HEAD = (
    "SLUICE_REWARD_MODEL is preference_head, and there is no such head yet: materialize tuned/preference_head first"
)


# ---- the head -------------------------------------------------------------------------------------------------------


class _Unpooled(Step):
    """A step whose comparisons come from files: of what its graph says that it may read, it reads nothing."""

    def deps(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        return []


@dg.asset(
    key=HEAD,
    group_name="tuned",
    deps=[same_source("filtered/pool"), whole_pool("filtered/instructions")],
    code_version="1",
    kinds={"parquet", "scikitlearn"},
    tags={"cost": "cpu"},
    check_specs=check_specs(HEAD.path),
    description="A Bradley-Terry head on embeddings of question and answer, trained on the comparisons in the home's "
    "folder preferences/ (JSON, lines of JSON, .gz: prompt with chosen and rejected, or output_1, output_2 and "
    "preference). Where there are none, comparisons are made from the pool: a row's own answer against another row's, "
    "and against itself when spoiled. Made only when somebody asks for it.",
)
def preference_head(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Train the head, and say how often it is right on questions that it has not seen."""
    files = preference_files(lake.lake.home)
    step = _Unpooled(context, lake, settings) if files else Step(context, lake, settings)
    pool = None if files else step.pool(HEAD)
    given = {**DEFAULTS, **settings.params.get("preference_head", {})}
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise dg.Failure(
            description=f"preference_head has no parameter {', '.join(unknown)}; it has {', '.join(DEFAULTS)}",
            allow_retries=False,
        )
    config = {**given, "pairs from": "files" if files else "pool", "encoder": encoder.identity()}

    def compute() -> Result:
        left: dict[str, int] = {}
        bad: list[tuple[str, int, str]] = []
        if files:
            pairs, left, bad = read_preferences(files)
            for name, at, why in bad[:MOST_BAD]:
                context.log.warning(f"left out: {name}, record {at}: {why}")
        else:
            rows = _drawn(step, pool, given["most_rows"], given["seed"])
            pairs = preference.made_pairs(rows, given["seed"], given["held_out"])
        texts_of = list(dict.fromkeys(t for pair in pairs for t in (pair.prompt, pair.chosen, pair.rejected)))
        vectors = dict(zip(texts_of, encode_with(lake, encoder, context.log.info)(texts_of), strict=True))
        try:
            trained, unread = preference.train(
                pairs, vectors, given["held_out"], given["seed"], bool(given["with_length"])
            )
        except ValueError as error:
            where = f"{_many(len(files), 'file')} in {files[0].parent}" if files else "the pool"
            where += f" ({_many(len(bad), 'record')} could not be read, the first: {bad[0][2]})" if bad else ""
            raise dg.Failure(
                description=f"no head can be trained from {where}: {error}", allow_retries=False
            ) from error
        if unread:
            left["without a vector"] = unread
        return _result(trained, "files" if files else "pool", left, bad, pool)

    hashes = {f"preferences/{_plain(file.name)}": content_hash(file) for file in files}
    yield from step.make(HEAD, config, compute, pool, hashes)


def _drawn(step: Step, pool: list[str] | None, most: int, seed: int) -> list[tuple[str, str]]:
    """Question and answer of some rows of the pool, drawn by the seed, in the pool's order."""
    ids = step.scan("filtered/pool").select("row_id").collect()
    some = ids[np.sort(np.random.default_rng(seed).permutation(ids.height)[:most])]
    rows = step.scan("filtered/instructions", pool).unique("row_id", keep="first")
    read = some.lazy().join(rows, on="row_id", how="inner", maintain_order="left")
    columns = read.select("messages", "instruction", "input", "response").collect()
    return [reward.question_and_answer(row) for row in columns.iter_rows(named=True)]


def _result(
    trained: preference.Trained,
    pairs_from: str,
    left: dict[str, int],
    bad: list[tuple[str, int, str]],
    pool: list[str] | None,
) -> Result:
    """The head's table, and what is worth telling about it."""
    n, accuracy, low, high, longer = trained.tested.select("pairs", "accuracy", "low", "high", "longer").row(0)
    verdict = trained.verdict()
    if pairs_from != "files":
        verdict = f"On comparisons that nobody made but the program: {verdict[0].lower()}{verdict[1:]}"
    origin = (
        "Comparisons that people or models made, from the home's folder preferences/."
        if pairs_from == "files"
        else "No comparisons were given, so they were made from the pool: a row's own answer was held to be better "
        "than another row's answer of like length, and than itself when spoiled. The head knows what fits the question "
        "and what is whole, not what people like."
    )
    facts = {
        "pairs trained on": trained.trained_on,
        "pairs held out": n,
        "pairs left out": sum(left.values()),
        "bad records": len(bad),
        "held-out accuracy": accuracy,
        "held-out accuracy, low": low,
        "held-out accuracy, high": high,
        "longer answer right": longer,
        "chance": 0.5,
        "regularisation C": trained.strength,
        "pairs from": pairs_from,
        "verdict": verdict,
        **{f"left out: {why}": count for why, count in left.items()},
        **({"pool": pool} if pool else {}),
    }
    records = pl.DataFrame(bad, schema={"file": pl.String, "record": pl.Int64, "why": pl.String}, orient="row")
    cut = "Embeddings see the beginning of a long text only; what the encoder cuts off has no say."
    shown = {
        "how good it is": dg.MetadataValue.md(f"**{verdict}**\n\n{origin} {cut}"),
        "on unseen pairs": metadata.table(trained.tested.with_columns(pl.col(pl.Float64).round(3))),
        "records that could not be read": metadata.table(records, most=MOST_BAD),
    }
    return Result(trained.head, facts, shown)


def preference_files(home: Path) -> list[Path]:
    """The files of comparisons in a home, by name."""
    return sorted(file for file in (home / "preferences").glob("[!.]*") if file.is_file())


def read_preferences(files: list[Path]) -> tuple[list[preference.Pair], dict[str, int], list[tuple[str, int, str]]]:
    """The comparisons of some files, how many were left out and why, and the bad records: file, number from 0 (-1: the
    file as a whole), what is wrong."""
    said: list[preference.Judgement] = []
    kinds: list[str] = []
    bad: list[tuple[str, int, str]] = []
    for file in files:
        try:
            for at, record in _records(file):
                try:
                    if isinstance(record, BadRecord):
                        raise record
                    said.append(preference.judgement(record))
                    kinds.append(file.name)
                except BadRecord as error:
                    bad.append((file.name, at, error.detail))
        except SourceError as error:
            bad.append((file.name, -1, str(error)))
    pairs, left = preference.majority(said, kinds)
    return pairs, left, bad


def _records(file: Path) -> Iterator[tuple[int, Any]]:
    """The records of a file with their numbers from 0; for one that cannot be parsed, what is wrong with it."""
    named = kind_by_name(file)
    with closing(Stream(file, Limits())) as stream:
        at = 0
        for raw in opened(stream, named):
            yield at, raw.value if raw.bad is None else raw.bad
            at += raw.span
        if stream.problem is not None:
            yield at, stream.problem


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _plain(name: str) -> str:
    """A file's name without the marks that stand for a source in a list of inputs."""
    return name.replace("[", "(").replace("]", ")")


# ---- the rows -------------------------------------------------------------------------------------------------------


@model_pass(
    REWARDS,
    "1",
    "What a reward model says of each row's last answer to what stands before it: one raw number, comparable only "
    "within the same model. Made only where somebody asks for it, and with the reward model that SLUICE_REWARD_MODEL "
    "names; preference_head is the head of tuned/preference_head.",
)
def rewards(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    settings: Settings,
    encoder: Encoder,
    reward_model: RewardModel,
) -> Iterator[Any]:
    """Reward the rows that were not rewarded yet."""
    if not reward_model.model:
        raise dg.Failure(description=NO_MODEL, allow_retries=False)
    step = Step(context, lake, settings)
    identity = reward_model.identity()
    head: dict[str, str] = {}
    if reward_model.model == PREFERENCE_HEAD:
        head = {HEAD.to_user_string(): head_version(step, encoder)}
        identity |= {"head": head[HEAD.to_user_string()]}

    def ask(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        if not head:
            return (asked(block, reward_model) for block in rows.iter_slices(ROWS_REWARDED))
        table, encode = step.lake.scan(HEAD.path).collect(), encode_with(lake, encoder, context.log.info)
        return (by_head(block, table, encode) for block in rows.iter_slices(ROWS_EMBEDDED))

    def compute() -> Result:
        rows = rows_to_assess(step).select("row_id", "messages", "instruction", "input", "response")
        done = passed(step, REWARDS, identity, reward.REWARDS_SCHEMA, rows, "rewarding", ask)
        facts = {**done.facts, **coverage(step), **share_not_ok(done.data), "model": str(identity["model"])}
        seen = pl.scan_parquet(done.data, glob=False).select("reward").collect()["reward"]
        return Result(done.data, facts, {"rewards": metadata.histogram(seen, "reward")})

    yield from step.make(REWARDS, identity, compute, extra_inputs=head)


def head_version(step: Step, encoder: Encoder) -> str:
    """The version of the stored head, if it reads this encoder's vectors."""
    manifest = step.lake.manifest(HEAD.path)
    if manifest is None:
        raise dg.Failure(description=NO_HEAD, allow_retries=False)
    theirs, ours = manifest.config.get("encoder", {}), encoder.identity()
    if theirs != ours:
        raise dg.Failure(
            description=f"tuned/preference_head was trained on vectors of {theirs.get('model')}, and the encoder is "
            f"{ours.get('model')} now (or another version of it): materialize tuned/preference_head again",
            allow_retries=False,
        )
    return manifest.data_version


def asked(rows: pl.DataFrame, reward_model: RewardModel) -> pl.DataFrame:
    """`reward.REWARDS_SCHEMA` of some rows from a reward model."""
    pairs = [reward.question_and_answer(row) for row in rows.iter_rows(named=True)]
    return reward.rewarded(rows["row_id"], *reward_model.scores(pairs))


def by_head(rows: pl.DataFrame, head: pl.DataFrame, encode: Encode) -> pl.DataFrame:
    """`reward.REWARDS_SCHEMA` of some rows from the trained head."""
    pairs = [reward.question_and_answer(row) for row in rows.iter_rows(named=True)]
    questions, answers = [question for question, _ in pairs], [answer for _, answer in pairs]
    vectors = encode([*questions, *answers])
    lengths = np.array([len(answer) for answer in answers], dtype=np.int64)
    found = preference.rewards_of(head, vectors[: len(pairs)], vectors[len(pairs) :], lengths)
    status = [
        reward.EMPTY_RESPONSE if not answer.strip() else OK if np.isfinite(value) else "no_embedding"
        for answer, value in zip(answers, found, strict=True)
    ]
    return reward.rewarded(rows["row_id"], found, status)


SOURCE_ASSETS, POOL_ASSETS = (rewards,), (preference_head,)
