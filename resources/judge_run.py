"""One asking of many cells: what is known is not asked again, what is asked keeps to the limits, what arrives is kept.

Here belongs the order of things: claim, set money aside, wait for a turn, write down, call, keep. Each of them has a
module of its own (`answers`, `judge_limits`, `judge_calls`); the settings are `judge`'s.
"""

import asyncio
import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from methods.judging.kinds import API_ERROR, FAILED, NOT_ASKED, PARSE_ERROR, REFUSED, Answer, Cell
from resources import judge_calls, judge_local, prices
from resources.answers import ANSWERED, BEAT_S, DECLINED, DOUBTFUL, Answers
from resources.judge_calls import LENGTHS, Endpoint, Failed, JudgeUnavailable
from resources.judge_limits import Limiter, Purse, backoff
from resources.prices import Price

if TYPE_CHECKING:
    from resources.judge import Judge

Worth = Callable[[Cell, Answer], str]
"""The status of an answer once it was read: `Question.reading`'s."""
BOUGHT_AT_MOST = 2
"""Answers bought for a cell whose answers cannot be used: at temperature 0 a third would hardly be another."""
GIVEN_UP_IN_A_ROW = 20
"""Cells (two for each call under way, if that is more) after which a judge that answers nothing is left alone."""
GRACE_S = 5.0
"""For calls under way when a run is broken off: their answers are paid for."""
_FLUSH_S = 1.0
_LOOK_S = 0.5
_log = logging.getLogger(__name__)


class Backend(Protocol):
    """Whoever answers: an endpoint, a model in this process, a stand-in."""

    async def ask(self, cell: Cell, without: frozenset[str] = frozenset()) -> Answer | Failed:
        """One call, without some of a request's fields; what can never succeed raises `JudgeUnavailable`."""
        ...

    async def close(self) -> None:
        """Let go what it holds."""
        ...


def backend(judge: "Judge") -> Backend:
    """Whoever answers for a judge."""
    if judge.model.startswith("fake"):
        return judge_local.StandIn()
    if judge.model.startswith(judge_local.PREFIX):
        return judge_local.Local(judge.model)
    endpoint = Endpoint(judge.url, judge.model, judge.key_name, judge.timeout_s, judge.extra)
    return judge_calls.Remote(endpoint, judge.structured)


def status_of(cell: Cell, answer: Answer, worth: Worth | None) -> str:
    """What an answer is worth. A reader that fails has not read it."""
    if worth is None or not answer.text or answer.status == REFUSED:
        return answer.status
    try:
        return worth(cell, answer)
    except Exception as error:
        # Its message may repeat the answer.
        _log.warning("a reader of answers raised %s; the answer is kept as %s", type(error).__name__, PARSE_ERROR)
        return PARSE_ERROR


def known(cells: Mapping[str, Cell], store: Answers, worth: Worth | None) -> dict[str, Answer]:
    """What need not be asked: answers of use, read anew each time, for a better reader may find what an earlier one
    did not; and those of no use that were bought often enough."""
    found: dict[str, Answer] = {}
    useless: dict[str, Answer] = {}
    for key, answer in store.known(cells).items():
        status = status_of(cells[key], answer, worth)
        (useless if status in FAILED else found)[key] = _as(status, answer)
    often = store.times_bought(useless)
    return found | {key: answer for key, answer in useless.items() if often.get(key, 0) >= BOUGHT_AT_MOST}


def to_its_end(work: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    """Run it, also from a notebook, whose own event loop is running: there in a thread with a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    ended: list[Any] = []
    over = threading.Event()  # not `Thread.join`, which takes a thread for done when the waiting is interrupted

    async def watched() -> list[Answer]:
        begun.append((asyncio.get_running_loop(), asyncio.ensure_future(work)))
        return await begun[0][1]

    def in_a_loop_of_its_own() -> None:
        try:
            ended.append(asyncio.run(watched()))
        except BaseException as error:  # handed to whoever waits
            ended.append(error)
        finally:
            over.set()

    threading.Thread(target=in_a_loop_of_its_own).start()
    try:
        over.wait()
    except BaseException:  # whoever waits was broken off: so is the work
        while not begun and not over.is_set():
            time.sleep(0.01)
        if not over.is_set():
            with suppress(RuntimeError):  # its loop was closed this very moment
                begun[0][0].call_soon_threadsafe(begun[0][1].cancel)
        over.wait()
        raise
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


class Run:
    """One asking of some cells."""

    def __init__(
        self,
        judge: "Judge",
        cells: Sequence[Cell],
        store: Answers,
        question: str,
        worth: Worth | None = None,
        price: Price | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.judge, self.store, self.question = judge, store, question
        self.worth, self.price, self.progress = worth, price, progress
        identity = judge.identity()
        self.keys = [cell.key(identity) for cell in cells]
        self.by_key = dict(zip(self.keys, cells, strict=True))
        self.times = Counter(self.keys)
        self.began = time.time()
        self.rng = random.Random(store.run)
        self.limiter = Limiter(judge.requests_per_minute, judge.tokens_per_minute, self.rng)
        self.found: dict[str, Answer] = {}
        self.elsewhere: list[str] = []
        """Cells that another run is about to buy."""
        self.calling: set[asyncio.Task[Any] | None] = set()
        """Workers whose call is under way."""
        self.broken_off = False
        self.given_up = 0
        """Cells in a row that no call answered."""

    async def all(self) -> list[Answer]:
        """An answer for every cell, in their order."""
        for key, answer in known(self.by_key, self.store, self.worth).items():
            self._have(key, answer)
        wanted = [key for key in self.by_key if key not in self.found]
        if wanted:
            self.guess = self.judge.guess(self.by_key, self.store, self.question)
            self.purse = Purse(self.judge.max_calls, self.judge.max_budget, *self.store.committed())
            await self._buy(wanted)
        return [self.found.get(key, Answer(NOT_ASKED)) for key in self.keys]

    def _have(self, key: str, answer: Answer) -> None:
        self.found[key] = answer
        if self.progress:
            self.progress(self.times[key])

    async def _buy(self, wanted: Sequence[str]) -> None:
        asked = backend(self.judge)
        self.store.alive()
        heart = asyncio.create_task(self._beat())
        try:
            while wanted and not self.purse.empty:
                queue = iter(wanted)
                workers = min(self.judge.concurrency, len(wanted))
                await self._together([self._work(asked, queue) for _ in range(workers)], heart)
                wanted, self.elsewhere = self.elsewhere, []
                await asyncio.sleep(_LOOK_S if wanted else 0)
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
            await asked.close()
            self.store.flush()

    async def _beat(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_FLUSH_S)
            await asyncio.to_thread(self.store.flush)
            if time.monotonic() - last >= BEAT_S:
                self.store.alive()
                last = time.monotonic()

    async def _together(self, work: Sequence[Coroutine[Any, Any, None]], heart: asyncio.Task[None]) -> None:
        """Wait for all. Where one raises, or all are broken off, those that only wait stop at once; calls under way
        may end, and their answers are kept."""
        tasks = {asyncio.create_task(one) for one in work}
        everything = asyncio.ensure_future(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        grace = self.judge.timeout_s
        try:
            await asyncio.wait({everything, heart}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            grace = min(grace, GRACE_S)
            raise
        finally:
            everything.cancel()
            errors = await self._ended(tasks, grace)
        if heart.done():
            heart.result()
        for error in errors:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _ended(self, tasks: set[asyncio.Task[None]], grace: float) -> list[BaseException | None]:
        if not all(task.done() for task in tasks):
            self.broken_off = True
            for task in tasks - self.calling:
                task.cancel()
            await asyncio.wait(tasks, timeout=grace)
            for task in tasks:
                task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, asked: Backend, queue: Iterator[str]) -> None:
        try:
            for key in queue:
                if self.purse.empty or self.broken_off:
                    return
                await self._cell(asked, key)
        except BaseException:
            self.broken_off = True
            raise

    async def _cell(self, asked: Backend, key: str) -> None:
        """Get one cell's answer: from whoever has bought it meanwhile, or by buying it."""
        claimed = self.store.claim(key, self.began)
        if claimed is False:
            self.elsewhere.append(key)
        elif isinstance(claimed, Answer):
            self._have(key, _as(status_of(self.by_key[key], claimed, self.worth), claimed))
        else:
            try:
                await self._one(asked, key)
            finally:
                self.store.release(key)

    async def _one(self, asked: Backend, key: str) -> None:
        """Buy one cell, with as many tries as it may have."""
        tried, without = 0.0, frozenset[str]()
        while True:
            got = await self._call(asked, key, without)
            if got is None:
                return
            if isinstance(got, Answer):
                self.given_up = 0
                self._have(key, _as(status_of(self.by_key[key], got, self.worth), got))
                return
            if got.without:
                without |= got.without
                continue
            tried += 0.5 if got.put_off else 1.0
            if got.final or tried >= self.judge.tries:
                self._have(key, Answer(got.final or API_ERROR))
                self._lost(got)
                return
            if not got.put_off:
                await asyncio.sleep(backoff(math.ceil(tried), self.rng))

    async def _call(self, asked: Backend, key: str, without: frozenset[str]) -> Answer | Failed | None:
        """One call, with all that belongs before and behind it. None: the limits leave nothing for it, or the run is
        broken off."""
        cell = self.by_key[key]
        at_most = self._at_most(cell)
        aside = await self.purse.take(at_most)
        if aside is None:
            return None
        cost: float | None = None
        try:
            guessed = self.guess.prompt(cell) + self.guess.answer(cell)
            sent = await self.limiter.wait(guessed)
            if self.broken_off:
                return None
            call, cost = self.store.sent(key, at_most), at_most
            got = await self._answer(asked, cell, without, call)
            cost = self._keep(call, key, got, at_most)
        finally:
            self.purse.give(aside, cost, at_most)
        if isinstance(got, Answer):
            self.limiter.answered()
            self.limiter.correct(guessed, got.prompt_tokens + got.completion_tokens or guessed)
        elif got.put_off:
            self.limiter.refused(sent, got.wait_s)
        return got

    async def _answer(self, asked: Backend, cell: Cell, without: frozenset[str], call: int) -> Answer | Failed:
        worker = asyncio.current_task()
        self.calling.add(worker)
        try:
            return await asked.ask(cell, without)
        except JudgeUnavailable:
            self.store.failed(call, "unavailable")
            raise
        finally:
            self.calling.discard(worker)

    def _keep(self, call: int, key: str, got: Answer | Failed, at_most: float) -> float:
        """Store what a call brought; what it cost, or may have."""
        cell = self.by_key[key]
        declined = isinstance(got, Failed) and got.final == REFUSED
        if isinstance(got, Failed) and not declined:
            self.store.failed(call, got.outcome)
            return at_most if got.outcome in DOUBTFUL else 0.0
        answer = got if isinstance(got, Answer) else Answer(REFUSED)
        cost = None
        if self.price is not None:
            used = (answer.prompt_tokens, answer.completion_tokens)
            # A server that does not count its tokens is taken at the most that it can charge.
            cost = self.price.of(*used) if any(used) else 0.0 if declined else at_most
        outcome, guessed = DECLINED if declined else ANSWERED, prices.prompt_tokens(cell)
        self.store.arrived(call, key, answer, self.question, self.judge.model, cost, guessed, outcome)
        return cost or 0.0

    def _at_most(self, cell: Cell) -> float:
        if self.price is None:
            return 0.0
        lengths = [self.judge.extra.get(name) for name in LENGTHS]
        longest = max(length for length in (cell.max_tokens, *lengths) if isinstance(length, int))
        return self.price.of(prices.most_tokens(cell), longest)

    def _lost(self, failed: Failed) -> None:
        """A cell was given up. A judge that answers nothing at all is not asked about the rest."""
        if failed.final == REFUSED or failed.outcome == "too_long":
            return
        self.given_up += 1
        if self.given_up >= max(GIVEN_UP_IN_A_ROW, 2 * self.judge.concurrency):
            raise JudgeUnavailable(
                f"the judge does not answer: {self.given_up} cells in a row were given up, the last one with "
                f"{failed.outcome!r}; what was bought is kept"
            )


def _as(status: str, answer: Answer) -> Answer:
    return Answer(status, answer.text, answer.logprobs, answer.prompt_tokens, answer.completion_tokens)
