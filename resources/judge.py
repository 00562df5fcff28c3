"""A judge: a language model that is asked about rows, as a Dagster resource.

Here belong its settings, and what asking would take. Asking itself stands in `judge_run`, one call in `judge_calls`,
rates, calls and money in `judge_limits`, the keeping in `answers`, the prices in `prices`; what is asked, and how an
answer is read, in ``methods.judging``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from methods.judging.kinds import Answer, Cell
from resources import judge_local, judge_run
from resources.answers import Answers
from resources.judge_calls import JudgeUnavailable
from resources.judge_run import Worth
from resources.prices import Guess, Price, guess

__all__ = ["Estimate", "Judge", "JudgeUnavailable", "Worth"]


@dataclass(frozen=True)
class Estimate:
    """What asking would take."""

    cells: int
    known: int
    """Of these, cells that need not be asked."""
    calls: int
    """Equal cells are asked once."""
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """In dollars; None where the model has no price."""
    seconds: float
    counted: int
    """Earlier answers of this judge that the guess of tokens goes by; 0: it goes by the length of the texts alone."""


class Judge(dg.ConfigurableResource):
    """Whom to ask, and within what limits. Nothing is asked before `ask`."""

    url: str = ""
    """Of an OpenAI-compatible endpoint, e.g. ``http://127.0.0.1:8000/v1``; empty: the provider's own."""
    model: str = ""
    """Its name there. ``local:embedded:smollm2`` or ``local:FOLDER``: a model in this process; ``fake:...``: a
    stand-in; empty: no judge is set."""
    key_name: str = "OPENAI_API_KEY"
    """The name of the environment variable that holds the key."""
    requests_per_minute: float = 0
    tokens_per_minute: float = 0
    """0: no limit. They hold for one process: two that ask at once share them only if each is given half."""
    concurrency: int = 8
    """Calls under way at a time."""
    timeout_s: float = 60.0
    """For a whole call."""
    tries: int = 6
    """Calls for a cell until it is given up with ``api_error``; one that the server only put off (429, 503) counts
    half."""
    max_calls: int | None = None
    max_budget: float | None = None
    """In dollars. Never passed: a call goes out only if its longest answer would still be paid for. Both limits hold
    for all that is asked on one account of the store (`Answers`)."""
    structured: bool = True
    """Ask for answers that keep to a schema, where the endpoint can."""
    batch: bool = False
    """Hand everything in as a batch of the provider, and come back for the answers."""
    extra: dict[str, Any] = {}
    """Further fields of every request, for endpoints that want them. They are part of the judge's identity: no keys."""

    def identity(self) -> dict[str, Any]:
        """What answers depend on beside the cell: part of every key and fingerprint. Empty where no judge is set."""
        if not self.model:
            return {}
        said = {"model": self.model, "url": self.url.rstrip("/"), **({"extra": self.extra} if self.extra else {})}
        if self.model.startswith(judge_local.PREFIX):
            said["content"] = judge_local.identity(self.model)
        return said

    def limited(self, **changes: Any) -> "Judge":
        """The same judge within other limits."""
        return self.model_copy(update=changes)

    def estimate(
        self,
        cells: Sequence[Cell],
        store: Answers,
        question: str,
        price: Price | None = None,
        worth: Worth | None = None,
    ) -> Estimate:
        """What asking these cells would take; asks nobody. Without ``worth`` a text that is there counts as known."""
        identity = self.identity()
        keys = [cell.key(identity) for cell in cells]
        by_key = dict(zip(keys, cells, strict=True))
        known = judge_run.known(by_key, store, worth)
        wanted = [cell for key, cell in by_key.items() if key not in known]
        by = self.guess(by_key, store, question)
        read, written = (math.fsum(of(cell) for cell in wanted) for of in (by.prompt, by.answer))
        seconds = [len(wanted) * by.seconds / max(self.concurrency, 1)]
        seconds += [60 * len(wanted) / self.requests_per_minute] if self.requests_per_minute else []
        seconds += [60 * (read + written) / self.tokens_per_minute] if self.tokens_per_minute else []
        cost = None if price is None else price.of(read, written, self.batch)
        there = sum(key in known for key in keys)
        return Estimate(len(cells), there, len(wanted), round(read), round(written), cost, max(seconds), by.counted)

    def guess(self, cells: dict[str, Cell], store: Answers, question: str) -> Guess:
        """How long requests and answers are, by what was counted for the known ones among these cells, else for other
        answers to the question; else by the texts."""
        return guess(store.usage(self.model, question), cells)

    def ask(
        self,
        cells: Sequence[Cell],
        store: Answers,
        question: str,
        worth: Worth | None = None,
        price: Price | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """An answer for every cell, in their order.

        Statuses: ``ok``; ``truncated``, ``refused``, ``parse_error`` (what ``worth`` says of a text); ``api_error``
        after ``tries`` calls; ``not_asked`` where a limit came first. Equal cells are asked once, and what the store
        has is not asked again unless it failed (and that is bought twice at most). Raises `JudgeUnavailable` where no
        call can succeed; what was bought until then is kept, as it is when the run is broken off or killed.
        """
        self._check(price)
        run = judge_run.Run(self, cells, store, question, worth, price, progress)
        return judge_run.to_its_end(run.all())

    def _check(self, price: Price | None) -> None:
        if not self.model:
            raise JudgeUnavailable("no judge is set: give SLUICE_JUDGE_MODEL, and SLUICE_JUDGE_URL for a server")
        if self.max_budget is not None and price is None:
            raise JudgeUnavailable(
                f"a budget is set, but {self.model!r} has no price: add it to prices.yaml in the home "
                "(`NAME: {input: ..., output: ...}`, in dollars for a million tokens)"
            )
        from_one = {"concurrency": self.concurrency, "tries": self.tries}
        for name, value in from_one.items():
            if value < 1:
                raise JudgeUnavailable(f"the judge's {name} is {value}; give a number from 1")
        from_nought = ("requests_per_minute", "tokens_per_minute", "max_calls", "max_budget")
        for name in from_nought:
            if not (getattr(self, name) or 0) >= 0:
                raise JudgeUnavailable(f"the judge's {name} is {getattr(self, name)}; give a number from 0")
        if not self.timeout_s > 0:
            raise JudgeUnavailable(f"the judge's timeout_s is {self.timeout_s}; give a number above 0")
