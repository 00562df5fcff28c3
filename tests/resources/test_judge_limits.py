"""How fast and how much: on a loop whose time is counted, not waited for."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources import judge_limits
from resources.judge_limits import Limiter, Purse, backoff, retry_after


class Loop(asyncio.SelectorEventLoop):
    """Sleeping takes no time: where nothing else is to be done, the clock is put on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        select = self._selector.select
        self._selector.select = lambda left=None: self._put_on(select, left)

    def time(self) -> float:
        return self.now

    def _put_on(self, select, left):
        events = select(0)
        if not events and left:
            self.now += left
        return events


def run(work):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


async def sends(
    limiter: Limiter, tokens: list[float], workers: int = 8, takes: float = 0.05
) -> list[tuple[float, float]]:
    """(time, tokens) of each request that went."""
    queue, went = iter(tokens), []

    async def work() -> None:
        for used in queue:
            went.append((await limiter.wait(used), used))
            await asyncio.sleep(takes)

    await asyncio.gather(*(work() for _ in range(workers)))
    return went


def most_in_a_minute(times: list[float], weights: list[float]) -> float:
    return max(sum(w for t, w in zip(times, weights, strict=True) if start <= t < start + 60) for start in times)


@settings(max_examples=15, deadline=None)
@given(rate=st.integers(1, 400), workers=st.integers(1, 30), takes=st.floats(0, 3), n=st.integers(1, 300))
def test_no_minute_holds_more_requests_than_allowed(rate: int, workers: int, takes: float, n: int) -> None:
    went = run(sends(Limiter(rate), [1.0] * n, workers, takes))
    assert len(went) == n
    assert most_in_a_minute([t for t, _ in went], [1] * n) <= rate + 1e-6


@settings(max_examples=30, deadline=None)
@given(tokens=st.lists(st.floats(1, 500), min_size=1, max_size=300), rate=st.integers(500, 20_000))
def test_no_minute_holds_more_tokens_than_allowed_and_one_request(tokens: list[float], rate: int) -> None:
    went = run(sends(Limiter(0, rate), tokens))
    assert most_in_a_minute([t for t, _ in went], [w for _, w in went]) <= rate + max(tokens) + 1e-6


def test_the_rate_is_used() -> None:
    went = run(sends(Limiter(6000), [1.0] * 2000))
    assert 2000 / (went[-1][0] - went[0][0]) >= 0.95 * 100


def test_without_limits_nobody_waits() -> None:
    went = run(sends(Limiter(), [1e9] * 50, workers=50))
    assert {t for t, _ in went} == {1000.0}


def test_requests_that_were_larger_than_guessed_hold_up_those_to_come() -> None:
    async def work(used: float) -> float:
        limiter = Limiter(0, 6100)
        for _ in range(2):
            await limiter.wait(100)
            limiter.correct(100, used)
        return await limiter.wait(100) - 1000.0

    assert run(work(100)) == pytest.approx(1.0)  # two guessed at a second each, of which one may be caught up with
    assert run(work(1000)) == pytest.approx(19.0)
    assert run(work(10)) == 0.0


def test_a_pause_holds_for_everybody_also_for_those_who_wait_already() -> None:
    async def work() -> list[float]:
        limiter = Limiter(61)  # one a second
        waiting = [asyncio.create_task(limiter.wait(1)) for _ in range(6)]
        await asyncio.sleep(2.5)
        limiter.refused(asyncio.get_running_loop().time(), 30.0)
        return [round(await task - 1000, 2) for task in waiting]

    times = run(work())
    assert times[:4] == [0, 0, 1, 2]  # the first two: one second is caught up with
    assert all(t >= 32.5 for t in times[4:])


def test_refusals_of_one_moment_count_once_and_those_after_a_pause_double_it() -> None:
    async def work() -> list[float]:
        loop, limiter, begins = asyncio.get_running_loop(), Limiter(rng=random.Random(0)), []
        for _ in range(9):
            sent = await limiter.wait(1)
            begins.append(sent)
            await asyncio.sleep(0.01)
            for _ in range(8):
                limiter.refused(sent)
                await asyncio.sleep(0)
        limiter.answered()
        sent = await limiter.wait(1)
        limiter.refused(sent)
        begins += [sent, await limiter.wait(1)]
        assert loop.time() == begins[-1]
        return begins

    begins = run(work())
    pauses = [b - a - 0.01 for a, b in pairwise(begins)]
    for i, pause in enumerate(pauses[:9]):
        whole = min(0.5 * 2**i, 60)
        assert whole / 2 - 1e-6 <= pause <= whole + 1e-6
    assert pauses[9] + 0.01 <= 0.5  # after an answer it begins anew


def test_a_server_that_asks_for_no_time_at_all_is_left_alone_for_a_while() -> None:
    async def work() -> float:
        limiter = Limiter()
        limiter.refused(await limiter.wait(1), 0.0)
        return await limiter.wait(1) - 1000

    assert run(work()) >= 0.25


def test_a_server_may_not_hold_us_for_a_day() -> None:
    async def work() -> float:
        limiter = Limiter()
        limiter.refused(await limiter.wait(1), 86_400.0)
        return await limiter.wait(1) - 1000

    assert run(work()) == judge_limits.LONGEST_PAUSE_S


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 -0000"}, None),  # a date without a zone says nothing
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_what_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_waits_between_tries(attempt: int, seed: int) -> None:
    whole = min(0.5 * 2 ** min(attempt - 1, 20), 60.0)
    assert whole / 2 <= backoff(attempt, random.Random(seed)) <= whole


# ---- calls and money -----------------------------------------------------------------------------------------------


async def spend(purse: Purse, costs: list[float], most: list[float], workers: int) -> tuple[list[int], list[float]]:
    queue, bought, open_ = iter(range(len(costs))), [], [0.0]
    worst = [0.0]

    async def work() -> None:
        for i in queue:
            if (aside := await purse.take(most[i])) is None:
                return
            open_[0] += most[i]
            worst.append(open_[0])
            await asyncio.sleep(0.1 + i % 3)
            open_[0] += costs[i] - most[i]
            bought.append(i)
            purse.give(aside, costs[i], most[i])

    await asyncio.gather(*(work() for _ in range(workers)))
    return bought, worst


@settings(max_examples=60, deadline=None)
@given(data=st.data(), workers=st.integers(1, 12), budget=st.floats(0, 20), calls=st.none() | st.integers(0, 40))
def test_no_limit_is_ever_passed_and_what_is_left_is_used(data, workers: int, budget: float, calls: int | None) -> None:
    most = data.draw(st.lists(st.floats(0.1, 3), max_size=40))
    costs = [m * data.draw(st.floats(0, 1)) for m in most]

    async def work():
        purse = Purse(calls, budget)
        return purse, *(await spend(purse, costs, most, workers))

    purse, bought, worst = run(work())
    assert max(worst) <= budget + 1e-9 or max(worst) == 0
    assert calls is None or len(bought) <= calls
    assert sorted(bought) == list(range(len(bought)))  # the first ones, none left out
    if len(bought) < len(most):
        spent = sum(costs[i] for i in bought)
        assert purse.empty
        assert len(bought) == calls or spent + most[len(bought)] > budget - 1e-9


def test_as_many_calls_as_allowed_and_no_more() -> None:
    async def work() -> tuple[int, str]:
        purse = Purse(max_calls=7, calls=2)
        bought, _ = await spend(purse, [0.0] * 30, [0.0] * 30, 8)
        return len(bought), purse.empty

    assert run(work()) == (5, "7 calls were made, as many as were allowed")


def test_a_call_that_was_not_made_leaves_its_place_to_another() -> None:
    async def work() -> list[bool]:
        purse = Purse(max_calls=1, max_budget=1.0)
        first = await purse.take(1.0)
        second = asyncio.create_task(purse.take(0.5))
        await asyncio.sleep(1)
        waits = not second.done()
        purse.give(first, None)
        return [waits, await second == 0.5]

    assert run(work()) == [True, True]


def test_a_server_that_charges_beyond_all_bounds_is_trusted_less() -> None:
    async def work() -> list[float | None]:
        purse = Purse(max_budget=10.0)
        aside = await purse.take(1.0)
        purse.give(aside, 3.0, 1.0)
        return [await purse.take(1.0), await purse.take(1.0)]

    assert run(work()) == [3.0, 3.0]
