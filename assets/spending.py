"""What a run may spend on a judge, and what it would: limits, accounts and estimates.

Here belongs reading a person's limits (``settings.params["judge"]``) and adding up what asking would take. The asking
stands in `judged`, the limits are kept by `resources.judge`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from methods.judging.kinds import Cell
from resources.answers import Answers
from resources.judge import Judge, Worth
from resources.judge_batch import Batches
from resources.prices import Price
from resources.settings import Settings

JUDGE = "judge"
"""The name under which a run's limits stand among the parameters."""
NUMBERS = ("max_calls", "max_budget", "requests_per_minute", "tokens_per_minute", "concurrency")
SWITCHES = ("dry_run", "batch")
KNOWN = (*NUMBERS, *SWITCHES)
COMMAND = "sluice/command"
"""The tag by which the runs of one command are known."""


@dataclass(frozen=True)
class Wish:
    """How a run may ask."""

    limits: Mapping[str, Any]
    """Fields of `Judge` that differ."""
    dry_run: bool = False


def wish_of(settings: Settings) -> Wish:
    """What a person set for this run; none of it decides what a table holds when all is answered."""
    wanted = dict(settings.params.get(JUDGE, {}))
    if unknown := sorted(set(wanted) - set(KNOWN)):
        raise ValueError(f"the judge has no setting {', '.join(unknown)}; it has {', '.join(KNOWN)}")
    for name, value in wanted.items():
        if name in SWITCHES and not isinstance(value, bool):
            raise ValueError(f"judge.{name} is {value!r}; give true or false")
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if name in NUMBERS and not number:
            raise ValueError(f"judge.{name} is {value!r}; give a number from 0")
        if name in ("max_calls", "concurrency") and value != int(value):
            raise ValueError(f"judge.{name} is {value!r}; give a whole number")
    dry = bool(wanted.pop("dry_run", False))
    return Wish({n: int(v) if n in ("max_calls", "concurrency") else v for n, v in wanted.items()}, dry)


def account_of(context: dg.AssetExecutionContext) -> str:
    """Whose limits a step counts against: a command's, a backfill's or its run's, whatever sources and questions it
    asks about."""
    tags = context.run.tags
    return tags.get(COMMAND) or tags.get("dagster/backfill") or context.run.run_id


@dataclass
class Plan:
    """What asking would take."""

    question: str
    cells: int = 0
    known: int = 0
    """Cells whose answer is there."""
    waiting: int = 0
    """Cells that lie in a batch."""
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    """In dollars; None where the model has no price."""
    seconds: float = 0.0
    counted: int = 0
    """Earlier answers that the guess goes by."""
    unknown: str = ""
    """Why it cannot be said."""
    seen: set[str] = field(default_factory=set, repr=False)

    def told(self) -> dict[str, Any]:
        """The numbers under the names that a page shows."""
        return {
            "cells": self.cells,
            "answers known": self.known,
            "waiting in a batch": self.waiting,
            "calls": self.calls,
            "prompt tokens": self.prompt_tokens,
            "completion tokens": self.completion_tokens,
            **({"cost": self.cost} if self.cost is not None else {"cost": "the model has no price"}),
            "seconds": round(self.seconds, 1),
            "answers that the guess goes by": self.counted,
        }


def add_up(
    plan: Plan,
    judge: Judge,
    blocks: Iterable[Sequence[Cell]],
    store: Answers,
    batches: Batches,
    price: Price | None,
    worth: Worth | None = None,
) -> None:
    """Add to a plan what these requests would take; one that it counted already costs nothing more. Asks nobody."""
    identity = judge.identity()
    for cells in blocks:
        keys = [cell.key(identity) for cell in cells]
        held = batches.holding(keys)
        once = {key: cell for key, cell in zip(keys, cells, strict=True) if key not in plan.seen}
        plan.seen |= set(once)
        free = [cell for key, cell in once.items() if key not in held]
        part = judge.estimate(free, store, plan.question, price, worth)
        plan.cells += len(cells)
        plan.waiting += sum(key in held for key in keys)
        plan.known += part.known
        plan.calls += part.calls
        plan.prompt_tokens += part.prompt_tokens
        plan.completion_tokens += part.completion_tokens
        plan.cost = None if plan.cost is None or part.cost is None else plan.cost + part.cost
        plan.seconds += part.seconds
        plan.counted = max(plan.counted, part.counted)
