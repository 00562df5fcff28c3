"""Pairs of rows before a judge: which is better, how strong that makes each, and a rater that scores all the others.

Here belongs wiring: which rows are asked about, within which limits, and what is kept. The question and its votes are
`methods.judging.pairs`, strengths `methods.quality.pairwise`, the rater `methods.quality.qurating`; asking and paying
stand in ``resources/judge*.py``, a run's limits in `spending`.

Asking costs money, and training hangs on what was asked: both start only when somebody asks for them. Rows once asked
about are held while all of them are in the pool, so that a new row means no new questions; it is rated by the rater
that there is.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from assets import automation, metadata
from assets.embedded import vectors_identity, vectors_of
from assets.judged import NO_JUDGE, OPEN_CELLS, reading_of
from assets.partitions import same_source, whole_pool
from assets.spending import Plan, Wish, account_of, add_up, wish_of
from assets.step import STORED, Result, Step, check_specs
from assets.training import POOL_ROWS, pool_rows
from methods.judging import pairs as asking
from methods.judging import prompts
from methods.judging.kinds import FAILED, NOT_ASKED, OK, PENDING, Answer, Cell
from methods.judging.pairs import PAIR
from methods.numerics.bradley_terry import PRIOR
from methods.quality import pairwise, qurating
from resources import prices
from resources.answers import Answers
from resources.encoder import Encoder
from resources.judge import Judge
from resources.judge_batch import Batches
from resources.judge_bill import store_path
from resources.judge_calls import JudgeUnavailable
from resources.settings import Settings
from resources.tables import LakeResource

PAIRS, STRENGTHS, RATED = (dg.AssetKey(["judged", name]) for name in ("pairs", "strengths", "rated"))
RATER = dg.AssetKey(["tuned", "rater"])
STEP = "judged_pairs"
"""The name under which parameters are set."""
DESIGN: Mapping[str, Any] = {"rows": 200, "neighbours": 8, "design": "connected", "seed": 0}
"""Which pairs are asked: so many rows of the pool, drawn by the seed, each beside so many others."""
DEFAULTS: Mapping[str, Any] = {**DESIGN, **PAIR.params, "temperature": None, "votes": None, "prior": PRIOR}
"""``criterion``: one of `asking.CRITERIA`, or a question in one's own words. ``repeats``: times that each order is
asked; the paper's are 20 at the judge's own temperature. ``temperature`` is 0 for one repeat and 1 for more, ``votes``
(usable answers that each order of a pair must have) more than half of the repeats, unless they are set."""


def params_of(settings: Settings) -> dict[str, Any]:
    """The parameters: the defaults, and what a person set."""
    wanted = settings.params.get(STEP, {})
    if unknown := sorted(set(wanted) - set(DEFAULTS)):
        raise ValueError(f"{STEP} has no parameter {', '.join(unknown)}; it has {', '.join(DEFAULTS)}")
    params = {**DEFAULTS, **wanted}
    if not isinstance(params["repeats"], int) or params["repeats"] < 1 or int(params["rows"]) < 2:
        raise ValueError(f"{STEP}: repeats is 1 or more and rows 2 or more, got {params['repeats']}, {params['rows']}")
    asking.wording(str(params["criterion"]))
    if params["temperature"] is None:
        params["temperature"] = 0.0 if params["repeats"] == 1 else 1.0
    if params["votes"] is None:
        params["votes"] = params["repeats"] // 2 + 1
    return params


def some(params: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those that a step reads."""
    return {name: params[name] for name in names}


# ---- asking ---------------------------------------------------------------------------------------------------------


# Of several, although it is one: only so may a step end without a table, as a dry run does.
@dg.multi_asset(
    name="judged_pairs",
    can_subset=True,
    pool="judge",
    check_specs=check_specs(PAIRS.path),
    specs=[
        dg.AssetSpec(
            PAIRS,
            deps=POOL_ROWS,
            group_name="judged",
            code_version=PAIR.version,
            kinds={"parquet", "openai"},
            skippable=True,
            tags={"cost": "llm"},
            description="Which of two rows has more of what a criterion asks for, said by a judge (SLUICE_JUDGE_MODEL) "
            "that is shown both in both orders: a line a pair, with the votes of each order. Some rows of the pool are "
            "asked about (parameters of judged_pairs). It costs money, and is made only where somebody asks for it.",
            metadata={
                "prompts": ", ".join(PAIR.prompts),
                "parameters": dg.MetadataValue.json(dict(DEFAULTS)),
                **STORED,
            },
        )
    ],
)
def judged_pairs(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, judge: Judge
) -> Iterator[Any]:
    """Ask about the pairs that have no answer yet."""
    step = Step(context, lake, settings)
    if not judge.model:
        stored = step.lake.manifest(PAIRS.path)
        if stored is None:
            raise dg.Failure(description=f"judged/pairs: {NO_JUDGE}", allow_retries=False)
        context.log.warning("no judge is set: the pairs that were asked about before stay as they are")
        yield from step.unchanged(PAIRS, stored)
        return
    try:
        yield from _Asking(step, wish_of(settings), judge).made()
    except JudgeUnavailable as error:
        # From None: what lies behind it may repeat the request.
        raise dg.Failure(description=str(error), allow_retries=False) from None


class _Asking:
    """The making of the table of pairs."""

    def __init__(self, step: Step, wish: Wish, judge: Judge) -> None:
        self.step, self.wish, self.judge = step, wish, judge.limited(**wish.limits)
        self.home = step.lake.home
        self.pool = step.pool(PAIRS)
        self.params = params_of(step.settings)
        self.asked = some(self.params, *PAIR.params)
        self.read = reading_of(PAIR, self.asked)
        self.price = prices.price_of(judge.model, judge.url, self.home)
        self.config = {
            **judge.identity(),
            "prompts": {name: prompts.content_hash([name], self.home) for name in PAIR.prompts},
            "wording": asking.wording(str(self.params["criterion"])),
            "params": {name: value for name, value in self.params.items() if name != "prior"},
        }
        self.known = 0

    def made(self) -> Iterator[Any]:
        """The table, or the word that nothing is to be done."""
        stored = self.step.lake.manifest(PAIRS.path)
        if not self.wish.dry_run and stored is not None and not stored.facts.get(OPEN_CELLS):
            same = self.step.draft(PAIRS, {**self.config, "answers": stored.config.get("answers")}, self.pool)
            if settled := self.step.up_to_date(PAIRS, same):
                yield from self.step.unchanged(PAIRS, settled)
                return
        rows = pool_rows(self.step, self.pool, kept=True).filter(pl.col("response").str.strip_chars() != "")
        chosen, held = self._chosen(rows)
        ids = list(dict.fromkeys(row_id for pair in chosen for row_id in pair))
        texts = rows.filter(pl.col("row_id").is_in(ids)).collect()
        with prompts.using(self.home):
            cells = asking.pair_cells(texts, chosen, **self.asked)
        with (
            Answers(store_path(self.home), account_of(self.step.context)) as store,
            Batches(store_path(self.home), store) as batches,
        ):
            if self.wish.dry_run:
                self._say_what_it_would_take(cells, store, batches)
                return
            before = store.bill(store.account)
            answers = self._answers(cells, store, batches)
            bill = store.bill(store.account)
        characters = {a: len(response) for a, response in texts.select("row_id", "response").iter_rows()}
        table = asking.counted(chosen, cells, answers, self.read, characters, int(self.params["votes"]))
        paid = None if bill.cost is None or before.cost is None else bill.cost - before.cost
        facts = {
            "asked of": self.pool,
            "criterion": str(self.params["criterion"]),
            "rows asked about": len(ids),
            "rows held from before": held,
            "cells": len(cells),
            OPEN_CELLS: sum(self.read(a, c).status in (*FAILED, NOT_ASKED, PENDING) for a, c in _zip(answers, cells)),
            "answers known before": self.known,
            "calls": bill.calls - before.calls,
            "prompt tokens": bill.prompt_tokens - before.prompt_tokens,
            "completion tokens": bill.completion_tokens - before.completion_tokens,
            "cost": "the model has no price" if paid is None else paid,
            "model": self.judge.model,
            **_told(table),
        }
        shown = {"pairs": metadata.table(_examples(table, texts), 200), "statuses": _statuses(table)}
        draft = self.step.draft(PAIRS, {**self.config, "answers": _content(table)}, self.pool)
        settled = self.step.up_to_date(PAIRS, draft)
        result = Result(table, facts, shown)
        yield from self.step.unchanged(PAIRS, settled) if settled else self.step.publish(PAIRS, result, draft)

    def _chosen(self, rows: pl.LazyFrame) -> tuple[list[tuple[str, str]], bool]:
        """The pairs, and whether they are those of before."""
        ids = rows.select("row_id").collect()["row_id"]
        wanted = some(self.params, *DESIGN)
        stored = self.step.lake.manifest(PAIRS.path)
        if stored is not None and some({**DEFAULTS, **stored.config.get("params", {})}, *DESIGN) == wanted:
            before = self.step.lake.scan(PAIRS.path).select("a", "b").collect()
            if before.height and pl.concat([before["a"], before["b"]]).is_in(ids.implode()).all():
                return before.rows(), True
        seed = int(wanted["seed"])
        drawn = asking.drawn(ids.to_list(), int(wanted["rows"]), seed)
        made = asking.designed(len(drawn), int(wanted["neighbours"]), seed, str(wanted["design"]))
        if not len(made):
            raise dg.Failure(
                description="judged/pairs: the pool has fewer than two rows to compare", allow_retries=False
            )
        return [(drawn[a], drawn[b]) for a, b in asking.shown_first(made, seed).tolist()], False

    def _answers(self, cells: list[Cell], store: Answers, batches: Batches) -> list[Answer]:
        """An answer for every cell, in their order; those in a batch are pending."""
        progress = self.step.progress(f"{self.judge.model} asked (pairs)", len(cells), "answers")
        identity = self.judge.identity()
        keys = [cell.key(identity) for cell in cells]
        self.known = sum(answer.status == OK for answer in store.known(keys).values())
        held = batches.holding(keys)
        free = {key: cell for key, cell in zip(keys, cells, strict=True) if key not in held}
        judge = self.judge.limited(max_calls=0) if self.judge.batch else self.judge
        given = judge.ask(list(free.values()), store, PAIR.id, self._worth, self.price, progress.advance)
        found = dict(zip(free, given, strict=True))
        left = [key for key, answer in found.items() if answer.status == NOT_ASKED]
        if self.judge.batch and left:
            batches.hand_in(self.judge, [free[key] for key in left], PAIR.id, self.price)
        found |= {**store.known(left), **dict.fromkeys(batches.holding(keys), Answer(PENDING))}
        return [found[key] for key in keys]

    def _worth(self, cell: Cell, answer: Answer) -> str:
        return self.read(answer, cell).status

    def _say_what_it_would_take(self, cells: list[Cell], store: Answers, batches: Batches) -> None:
        plan = Plan(PAIR.id)
        add_up(plan, self.judge, [cells], store, batches, self.price, self._worth)
        said = dg.AssetObservation(
            asset_key=PAIRS,
            description="a dry run: nobody was asked, and the table is as it was",
            metadata={"model": self.judge.model, **plan.told()},
        )
        self.step.context.log_event(said)


def _zip(answers: list[Answer], cells: list[Cell]) -> Iterator[tuple[Answer, Cell]]:
    return zip(answers, cells, strict=True)


def _told(table: pl.DataFrame) -> dict[str, Any]:
    """What a table of pairs says of the judge."""
    biases = {name: value for name, value in asking.biases(table).items() if value is not None}
    return {
        "pairs": table.height,
        "pairs usable": int((table["status"] == OK).sum()),
        "pairs clear": int(table["confident"].sum()),
        "share not ok": share_not_ok(table),
        **biases,
    }


def share_not_ok(table: pl.DataFrame) -> float:
    """The share of lines without a value."""
    return table.filter(pl.col("status") != OK).height / max(table.height, 1)


def _statuses(table: pl.DataFrame) -> dg.MetadataValue:
    counted = table.group_by("status").agg(pl.len().alias("pairs"))
    return metadata.table(counted.sort("pairs", "status", descending=[True, False]))


def _examples(table: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """The clearest pairs, and some that have no answer: what a person looks at first."""
    clear = table.filter(pl.col("probability").is_not_null())
    clear = clear.sort((pl.col("probability") - 0.5).abs(), "a", "b", descending=[True, False, False])
    some_of = pl.concat([clear.head(8), table.filter(pl.col("probability").is_null()).head(4)])
    said = texts.select("row_id", text=pl.concat_str("instruction", pl.lit(" → "), "response").str.slice(0, 160))
    for side in ("a", "b"):
        named = said.rename({"row_id": side, "text": f"text {side}"})
        some_of = some_of.join(named, on=side, how="left", maintain_order="left")
    return some_of.select(
        pl.col("probability").round(3).alias("P(b before a)"), "text a", "text b", "status", "answers"
    )


def _content(table: pl.DataFrame) -> str:
    """A hash of what the judge said: the part of the table's version that nothing else decides."""
    digest = hashlib.blake2b(digest_size=12)
    for line in table.select("a", "b", "statuses", "answers").iter_rows():
        digest.update(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


# ---- what follows from it -------------------------------------------------------------------------------------------


@dg.asset(
    key=STRENGTHS,
    group_name="judged",
    deps=[same_source("judged/pairs")],
    code_version="1",
    kinds={"parquet"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(STRENGTHS.path),
    description="How strong each row that was asked about came out (Bradley-Terry over both orders of every pair, with "
    "a standard error): a difference of 1 means odds of 2.7 to be preferred.",
)
def strengths(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings) -> Iterator[Any]:
    """Fit the strengths."""
    step = Step(context, lake, settings)
    prior = float(params_of(settings)["prior"])

    def compute() -> Result:
        pairs = step.scan("judged/pairs").collect()
        lengths = pl.concat([pairs.select(row_id=side, n=f"{side}_chars") for side in ("a", "b")])
        rows = lengths.unique("row_id", keep="first", maintain_order=True)
        table, found = pairwise.strengths_of(rows["row_id"], rows["n"].to_numpy(), pairs, prior)
        facts = {
            "pairs": int((pairs["status"] == OK).sum()),
            "components": int(found.component.max(initial=-1)) + 1,
            "rows without a strength": int((table["status"] != OK).sum()),
            "share not ok": share_not_ok(table),
            "converged": int(found.converged),
            "standard errors": "exact" if found.exact_errors else "lower bounds",
        }
        return Result(table, facts, {"strengths": metadata.histogram(table["strength"], "strength")})

    yield from step.make(STRENGTHS, {"prior": prior}, compute)


@dg.asset(
    key=RATER,
    group_name="tuned",
    deps=[same_source("judged/pairs"), same_source("judged/strengths"), *POOL_ROWS, whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"parquet"},
    tags={"cost": "cpu"},
    check_specs=check_specs(RATER.path),
    description="A weight for each place of the embedding, learned from the clear pairs: it rates any row without the "
    "judge. Its page says how often it is right about rows that it has not seen, beside the length.",
)
def rater(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder) -> Iterator[Any]:
    """Train the rater."""
    step = Step(context, lake, settings)
    pool, seed = step.pool(RATER), int(params_of(settings)["seed"])
    minimum = _minimum(settings)

    def compute() -> Result:
        pairs, asked = step.scan("judged/pairs").collect(), step.scan("judged/strengths").collect()
        first, second, chance = pairwise.indexed(asked["row_id"], pairs)
        vectors = vectors_of(lake, encoder).read(asked["row_id"].to_list())
        strength = asked["strength"].fill_null(float("nan")).to_numpy()
        try:
            found = qurating.train(vectors, first, second, chance, strength, asked["characters"].to_numpy(), seed)
        except ValueError as error:
            raise dg.Failure(description=f"no rater can be trained: {error}", allow_retries=False) from error
        manifest = step.lake.manifest(PAIRS.path)
        facts = {
            "criterion": str(manifest.facts["criterion"]) if manifest else "",
            "judge": str(manifest.facts["model"]) if manifest else "",
            "pairs trained on": found.trained_on,
            "pairs held out": found.tested,
            "held-out accuracy": found.accuracy,
            "held-out accuracy, low": found.interval[0],
            "held-out accuracy, high": found.interval[1],
            "longer preferred in these": found.longer,
            "held-out loss": found.loss,
            "rank correlation": found.correlation,
            "verdict": found.verdict(minimum),
            **_told(pairs),
        }
        shown = {
            "how good it is": dg.MetadataValue.md(f"**{found.verdict(minimum)}**"),
            "rank correlations": metadata.table(found.report.with_columns(pl.col(pl.Float64).round(3))),
        }
        return Result(qurating.rater_frame(found), facts, shown)

    yield from step.make(RATER, {"seed": seed, **vectors_identity(encoder)}, compute, pool)


def _minimum(settings: Settings) -> float:
    return float(settings.params.get("qurating", {}).get("minimum", 0.3))


@dg.asset(
    key=RATED,
    group_name="judged",
    deps=[same_source("tuned/rater"), same_source("filtered/pool"), whole_pool("embedded/minilm")],
    code_version="1",
    kinds={"polars"},
    automation_condition=automation.REFRESH,
    check_specs=check_specs(RATED.path),
    description="How the rater rates each row of the pool; no judge is asked. Ratings count from the mean of the rows "
    "that were asked about.",
)
def rated(context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder) -> Iterator[Any]:
    """Rate every row of the pool."""
    step = Step(context, lake, settings)
    pool = step.pool(RATED)
    made = step.lake.manifest(RATER.path)
    theirs = {name: made.config.get(name) for name in vectors_identity(encoder)} if made else {}
    if made and json.loads(json.dumps(vectors_identity(encoder), default=str)) != theirs:
        raise dg.Failure(
            description="tuned/rater was trained on vectors of another encoder: materialize tuned/rater again",
            allow_retries=False,
        )

    def compute() -> Result:
        assert made is not None, "its version was asked for before"
        ids = step.scan("filtered/pool").select("row_id").collect()["row_id"]
        vectors = vectors_of(lake, encoder).read(ids.to_list())
        rho = made.facts.get("rank correlation")
        table = qurating.rated(ids, step.scan("tuned/rater").collect(), vectors, str(made.facts["criterion"]), rho)
        facts = {
            "pool": pool,
            "rows missing": 0,
            "rows computed": table.height,
            "share not ok": share_not_ok(table),
            "verdict": str(made.facts["verdict"]),
        }
        shown = {
            "how good it is": dg.MetadataValue.md(f"**{made.facts['verdict']}**"),
            "ratings": metadata.histogram(table["rating"], f"rating: {made.facts['criterion']}"),
        }
        return Result(table, facts, shown)

    yield from step.make(RATED, {}, compute, pool)


ASSETS = (judged_pairs, strengths, rater, rated)
