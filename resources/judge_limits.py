"""How fast and how much a judge may be asked: requests and tokens a minute, pauses that the server asks for, waits
between tries; calls and money.

Here belong time and counting alone: no request is made here, and nothing is known of prompts. Time is the event
loop's, so that whoever brings a loop of their own brings their own time.
"""

import asyncio
import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MINUTE_S = 60.0
BURST_S = 1.0
"""What was not used may be caught up with, but no more than this much of it. The pace is that much slower, so that no
minute holds more requests than it may (by a hair more, for the rounding)."""
_HAIR = 1e-9
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
LONGEST_PAUSE_S = 600.0
"""A server that asks for a longer pause is asked again after this one."""


class Limiter:
    """Lets requests through at a rate, in turn; ``0`` is no limit.

    No minute holds more requests than allowed. Tokens are guessed when a request goes and corrected when its answer is
    there, so a minute may hold more of them by what one request, and the error of the guess, amount to.
    """

    def __init__(
        self, requests_per_minute: float = 0, tokens_per_minute: float = 0, rng: random.Random | None = None
    ) -> None:
        self._rates = [
            per_minute / (MINUTE_S + BURST_S) / (1 + _HAIR) for per_minute in (requests_per_minute, tokens_per_minute)
        ]
        self._free = [-math.inf] * 2
        """When the next request may go, by requests and by tokens: each pushes it on by what it uses."""
        self._paused_at = self._paused_until = -math.inf
        self._refusals = 0
        """Times in a row that the server put us off, without an answer between."""
        self._rng = rng or random.Random()

    async def wait(self, tokens: float) -> float:
        """Return when a request of about so many tokens may go, with the time that it is."""
        while True:
            await _until(self._paused_until)
            if _now() < self._paused_until:
                continue  # it grew meanwhile
            await _until(self._turn(tokens))
            # Whoever was waiting for a turn when a pause began lines up anew behind it.
            if (now := _now()) >= self._paused_until:
                return now

    def correct(self, guessed: float, used: float) -> None:
        """What a request really used: the difference counts for those to come."""
        if self._rates[1]:
            self._free[1] += (used - guessed) / self._rates[1]

    def refused(self, sent: float, asked_s: float | None = None) -> None:
        """The server put off a request that went at ``sent``: nobody goes for as long as it asks, and for a while in
        any case, twice as long each time. Requests that were under way together count as one time."""
        now = _now()
        if sent >= self._paused_at:
            self._refusals += 1
            self._paused_at = now
            asked_s = max(asked_s or 0.0, backoff(self._refusals, self._rng))
        self._paused_until = max(self._paused_until, now + min(asked_s or 0.0, LONGEST_PAUSE_S))

    def answered(self) -> None:
        """The server takes requests again."""
        self._refusals = 0

    def _turn(self, tokens: float) -> float:
        now = _now()
        turn = now
        for at, (rate, used) in enumerate(zip(self._rates, (1.0, tokens), strict=True)):
            if rate:
                start = max(self._free[at], now - BURST_S)
                self._free[at] = start + used / rate
                turn = max(turn, start)
        return turn


class Purse:
    """How many calls may be made, and what they may cost: nothing is spent that was not set aside before.

    ``calls`` and ``cost`` are what was spent already.
    """

    def __init__(
        self, max_calls: int | None = None, max_budget: float | None = None, calls: int = 0, cost: float = 0.0
    ) -> None:
        self._max_calls, self._max_budget = max_calls, max_budget
        self._calls, self._cost = calls, cost
        self._open: list[float] = []
        """What is set aside for calls under way."""
        self._over = 1.0
        """How far a call passed what it should have cost at the most (a server that adds to prompts, or does not
        stop): the next are taken for as bad."""
        self._line, self._settled = asyncio.Lock(), asyncio.Event()
        self.empty = ""
        """Why nothing more is bought, once it is so."""

    async def take(self, at_most: float) -> float | None:
        """Set aside what a call may cost at the most; None where that is more than is left. While calls are under way
        that may turn out cheaper, wait for them."""
        async with self._line:  # whoever waits is not overtaken by a cheaper one
            while not self.empty:
                aside = at_most * self._over
                if not (why := self._too_much(aside)):
                    self._open.append(aside)
                    return aside
                if not self._open:
                    self.empty = why
                    break
                await self._settled.wait()
        return None

    def give(self, aside: float, cost: float | None, at_most: float = 0.0) -> None:
        """A call ended, and cost so much; None: it was not made."""
        self._open.remove(aside)
        if cost is not None:
            self._calls += 1
            self._cost += cost
            if at_most > 0:
                self._over = max(self._over, cost / at_most)
        self._settled.set()
        self._settled = asyncio.Event()

    def _too_much(self, aside: float) -> str:
        if self._max_calls is not None and self._calls + len(self._open) >= self._max_calls:
            return f"{self._max_calls} calls were made, as many as were allowed"
        if self._max_budget is not None and self._cost + sum(self._open) + aside > self._max_budget:
            return f"the next answer might pass the budget of {self._max_budget:g}"
        return ""


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds before the try after the ``attempt``-th (from 1): doubled each time, between half and all of it by
    chance, so that requests that failed together do not come back together."""
    wait = min(FIRST_WAIT_S * 2.0 ** min(attempt - 1, 30), LONGEST_WAIT_S)
    return wait * rng.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a server asks to wait (``retry-after-ms``, or ``retry-after`` in seconds or as a date)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) / unit
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(said) - (now or datetime.now(UTC))).total_seconds()
            except (TypeError, ValueError):
                continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    return None


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _until(moment: float) -> None:
    if (left := moment - _now()) > 0:
        await asyncio.sleep(left)
