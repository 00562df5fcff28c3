"""What training on a subset leads to, measured: many small runs, and a ledger of them.

Here belongs the ledger (which rows, which loss; each set of rows is trained on once, whoever asks) and its table. How
a model is trained is `resources.tuning`; how subsets are drawn, `methods.quality.instruction_mining`; what is read off
the runs, `assets.instruction_mining` and whatever else asks what a row does to a model.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg
import polars as pl

from assets import metadata
from assets.step import Result, Step
from assets.targets import target_file
from assets.training import trains
from methods import readers
from methods.kinds import OK
from methods.quality import instruction_mining as mining
from resources.causal_lm import CausalLM
from resources.fingerprint import fingerprint
from resources.lake import LakeError
from resources.loaded import let_go
from resources.settings import Settings
from resources.tables import LakeResource
from resources.tuning import Tuning, tune

RUNS = dg.AssetKey(["tuned", "subset_runs"])
LEDGER_VERSION = "1"
"""Raised when the same rows lead to another loss than before: earlier runs are not taken over."""
TRAINED: dict[str, Any] = {"method": "full", "epochs": 3.0, "learning_rate": 2e-5, "batch_rows": 16}
"""How a run is trained where nothing else is said; the rest are the defaults of `Tuning`."""
LEDGER: dict[str, Any] = {
    "row_id": pl.String,
    "rows": pl.List(pl.String),
    "n": pl.Int64,
    "seed": pl.Int64,
    "eval_loss": pl.Float64,
    "eval_losses": pl.List(pl.Float64),
    "train_loss": pl.Float64,
    "tokens": pl.Int64,
    "seconds": pl.Float64,
    "model": pl.String,
    "status": pl.String,
}
"""One line a run. ``row_id`` names the run: it is a hash of its rows."""


# ---- the runs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Which subsets are drawn, how they are trained on, and what the loss is measured on."""

    runs: int = 8
    rows: int = 64
    draw: str = "uniform"
    """``uniform``, or ``mixed``: each subset takes other shares of the sources."""
    seed: int = 0
    target: str | None = None
    """A file of ``HOME/targets`` (its name, with or without the ending) whose answers are predicted."""
    held_out: float = 0.1
    """Without a target: this share of the pool is kept out of every subset and measured on."""
    held_out_most: int = 256
    keep_models: bool = False
    tuning: dict[str, Any] = field(default_factory=dict)

    @property
    def training(self) -> Tuning:
        """The settings of a training."""
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in self.tuning.items()}
        known = list(Tuning.__dataclass_fields__)
        if unknown := sorted(set(given) - set(known)):
            raise LakeError(f"a training has no setting {', '.join(unknown)}; it has {', '.join(known)}")
        return Tuning(**{**TRAINED, **given})

    def measured_with(self) -> dict[str, Any]:
        """What decides a loss, given the rows and the model."""
        held_out = [] if self.target else [self.held_out, self.held_out_most, self.seed]
        return {"trained": asdict(self.training), "target": self.target, "held out": held_out}

    @classmethod
    def of(cls, settings: Settings) -> "Plan":
        """The defaults and what ``params: {"subset_runs": ...}`` says otherwise."""
        return settled(cls, settings, "subset_runs")


def settled(cls: Any, settings: Settings, name: str) -> Any:
    """A record of parameters with the run's settings in it; a name that it does not have is an error."""
    given = settings.params.get(name, {})
    known = list(cls.__dataclass_fields__)
    if unknown := sorted(set(given) - set(known)):
        raise LakeError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    return cls(**given)


class Ledger:
    """Trains on sets of the pool's rows and measures what comes of it; a set that stands in the ledger is not trained
    on again."""

    def __init__(self, step: Step, plan: Plan, causal_lm: CausalLM, pool: Sequence[str]) -> None:
        self.step, self.plan, self.causal_lm, self.tuning = step, plan, causal_lm, plan.training
        rows = step.scan("filtered/instructions", pool).unique("row_id", keep="first")
        self.texts = rows.select("row_id", "messages", "instruction", "input", "response")
        ids = step.scan("filtered/pool").select("row_id", "source")
        kept = ids.join(rows.select("row_id"), on="row_id", how="semi", maintain_order="left").collect()
        if plan.target is None:
            out = held_out(kept["row_id"].to_list(), plan.held_out, plan.held_out_most, plan.seed)
            self.evaluated = self._rows_of(out)
        else:
            out, self.evaluated = [], read_target(step, plan.target)
        self.there = kept.filter(~pl.col("row_id").is_in(out))
        """``row_id``, ``source`` of what may be trained on, in the pool's order."""
        self.identity = {
            "ledger": LEDGER_VERSION,
            "model": causal_lm.identity(),
            "tuning": asdict(self.tuning),
            "measured on": fingerprint(self.evaluated["row_id"].to_list()),
        }
        self.cache = step.lake.cache("subset_runs", self.identity)

    def _rows_of(self, ids: Sequence[str]) -> pl.DataFrame:
        """Rows with their texts, in the order of the pool's files."""
        wanted = pl.Series("row_id", list(ids), dtype=pl.String).to_frame().lazy()
        return wanted.join(self.texts, on="row_id", how="left", maintain_order="left").collect()

    def run(self, ids: Sequence[str]) -> dict[str, Any]:
        """The line of a set of rows: as it stands in the ledger, or trained and measured now. No rows: the model as it
        is. The order of the rows is of no account."""
        members = set(ids)
        rows = self.there.filter(pl.col("row_id").is_in(members))["row_id"].to_list()
        if len(rows) != len(members):
            raise LakeError("a subset holds rows that the pool has not, or that the loss is measured on")
        name = hashlib.blake2b("\n".join(sorted(rows)).encode(), digest_size=16).hexdigest()
        with self.cache.alone():
            known = self.cache.scan()
            if known is not None and (found := known.filter(pl.col("row_id") == name).collect()).height:
                return found.to_dicts()[0]
            line = self._made(name, rows)
            self.cache.append(pl.DataFrame([line], schema=LEDGER))
        return line

    def _made(self, name: str, rows: list[str]) -> dict[str, Any]:
        started = time.monotonic()
        folder = self.step.lake.home / "models" / f"subset-{fingerprint([self.identity, name])}"
        trained, train_loss, tokens = self.causal_lm, None, 0
        if rows:
            progress = self.step.progress(f"training on {len(rows)} rows", 0, "steps")

            def on_progress(done: int, total: int) -> None:
                progress.total = total
                progress.advance(done - progress.done)

            done = tune(self.causal_lm, self._rows_of(rows), folder, self.tuning, on_progress)
            trained, tokens = self.causal_lm.with_model(done.model), done.tokens
            train_loss = done.steps.tail(last_epoch(done.steps.height, self.tuning.epochs))["loss"].mean()
        losses = losses_of(trained, self.evaluated)
        if rows:
            let_go("causal_lm", trained.model)
            if not self.plan.keep_models:
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_name(f".{folder.name}.lock").unlink(missing_ok=True)  # only a ledger, alone, makes these
        eval_loss = losses.mean()
        return {
            "row_id": name,
            "rows": rows,
            "n": len(rows),
            "seed": self.tuning.seed,
            "eval_loss": eval_loss,
            "eval_losses": losses.to_list(),
            "train_loss": train_loss,
            "tokens": tokens,
            "seconds": time.monotonic() - started,
            "model": json.dumps(self.causal_lm.identity(), sort_keys=True),
            "status": OK if eval_loss is not None else "no_loss",
        }


def held_out(ids: Sequence[str], share: float, most: int, seed: int) -> list[str]:
    """Rows that are measured on and never trained on, in order: those whose hash with the seed is least, so that a
    growing pool changes few of them."""
    count = min(most, max(1, round(share * len(ids))))
    if not 0 < share < 1 or most < 1 or count >= len(ids):
        raise LakeError(f"a share of {share} cannot be held out of {len(ids)} rows: name a target, or add rows")

    def place(row: str) -> bytes:
        return hashlib.blake2b(f"{seed} {row}".encode(), digest_size=16).digest()

    chosen = set(sorted(ids, key=place)[:count])
    return [row for row in ids if row in chosen]


def read_target(step: Step, name: str) -> pl.DataFrame:
    """The rows of a target file that have an answer."""
    file = target_file(step.lake, name)
    rows = pl.concat([batch.rows for batch in readers.read_file(file, file.stem)])
    rows = rows.filter(pl.col("response").str.strip_chars() != "").unique("row_id", keep="first", maintain_order=True)
    if rows.is_empty():
        raise LakeError(f"{file} has no row with an answer: a loss is measured on answers")
    return rows.select("row_id", "messages", "instruction", "input", "response")


def losses_of(model: CausalLM, rows: pl.DataFrame) -> pl.Series:
    """Each row's mean negative ln p of its response's tokens, in nats; null where the model could not read it."""
    passed = pl.concat(list(model.token_statistics(rows, alone=False)))
    tokens = pl.col("logp_conditional").cast(pl.List(pl.Float64))
    lost = passed.select("row_id", loss=-tokens.list.mean()).with_columns(pl.col("loss").fill_nan(None))
    return rows.select("row_id").join(lost, on="row_id", how="left", maintain_order="left")["loss"]


def last_epoch(steps: int, epochs: float) -> int:
    """How many steps the last pass over the rows has."""
    return max(1, round(steps / max(epochs, 1.0)))


@trains(
    RUNS,
    [],
    "The ledger of many small trainings: the rows that the language model was trained on, and the loss that it came to "
    "on rows that it never saw. Trains only when asked; a finished run is never made twice.",
)
def subset_runs(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, causal_lm: CausalLM
) -> Iterator[Any]:
    """Draw subsets, train on each and measure."""
    step = Step(context, lake, settings)
    pool, plan = step.pool(RUNS), Plan.of(settings)
    config = {**asdict(plan), **plan.measured_with(), "model": causal_lm.identity()}
    if plan.draw not in ("uniform", "mixed"):
        raise LakeError(f"draw={plan.draw!r} is not known: uniform or mixed")

    def compute() -> Result:
        ledger = Ledger(step, plan, causal_lm, pool)
        rows = min(plan.rows, max(1, ledger.there.height // 2))
        if rows < plan.rows:
            step.context.log.warning(f"{ledger.there.height} rows are there to draw from: {rows} a subset, not more")
        sources, ids = ledger.there["source"].to_list(), ledger.there["row_id"]
        subsets = mining.random_subsets(sources, plan.runs, rows, plan.seed, plan.draw == "mixed")
        before = ledger.run([])["eval_loss"]
        progress = step.progress("subsets", plan.runs, "runs")
        lines = []
        for at, subset in enumerate(subsets):
            lines.append({"run": at, **ledger.run(ids.gather(subset).to_list())})
            progress.advance(1)
        frame = pl.DataFrame(lines, schema={"run": pl.Int64, **LEDGER}).rename({"row_id": "key"})
        frame = frame.with_columns(eval_rows=pl.lit(ledger.evaluated["row_id"].to_list(), dtype=pl.List(pl.String)))
        facts = {
            "pool": pool,
            "runs": frame.height,
            "rows a run": rows,
            "rows measured on": ledger.evaluated.height,
            "loss before training": before,
            "mean loss": frame["eval_loss"].mean(),
            "share not ok": share_other_than_ok(frame["status"]),
        }
        shown = {"runs": metadata.table(frame.select("run", "n", "eval_loss", "train_loss", "tokens", "status"))}
        return Result(frame, facts, shown)

    yield from step.make(RUNS, config, compute, pool, target_version(step, plan))


def share_other_than_ok(status: pl.Series) -> float:
    """The share of lines without a number."""
    return int((status != OK).sum()) / max(len(status), 1)


def target_version(step: Step, plan: Plan) -> dict[str, str]:
    """The target's rows as an input of a table."""
    if plan.target is None:
        return {}
    return {f"targets/{plan.target}": fingerprint(read_target(step, plan.target)["row_id"].to_list())}


ASSETS = (subset_runs,)
