"""The whole engine within limits: no call, no cent and no request a minute more than allowed."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from methods.judging.kinds import NOT_ASKED, OK, Answer, Cell
from resources import judge_limits, judge_run
from resources.answers import Answers
from resources.judge_calls import Failed
from resources.prices import most_tokens
from tests.misbehaving import served
from tests.resources.test_judge_engine import PRICE, cells, judge, prompt, strict
from tests.resources.test_judge_limits import Loop


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_limits, "FIRST_WAIT_S", 0.001)


@pytest.fixture
def store(tmp_path: Path):
    with Answers(tmp_path / "judgments.sqlite") as opened:
        yield opened


def test_exactly_as_many_calls_as_allowed(store: Answers) -> None:
    with served(faults={"http_500": 0.2}, seed=1) as server:
        one = judge(server.url, max_calls=17)
        got = one.ask(cells(40), store, "q")
        assert server.counted.calls == 17
        n = sum(answer.status == OK for answer in got)
        assert n == store.bill().answered > 5 and {answer.status for answer in got} == {OK, NOT_ASKED}
        # The account is empty for other questions, too; a new one is not.
        assert one.ask(cells(50)[40:], store, "other")[0].status == NOT_ASKED
        assert server.counted.calls == 17
    assert store.bill().calls == 17


def test_no_calls_allowed(store: Answers) -> None:
    with served() as server:
        got = judge(server.url, max_calls=0).ask(cells(3), store, "q")
    assert [answer.status for answer in got] == [NOT_ASKED] * 3 and server.counted.calls == 0


@pytest.mark.parametrize("faults", [["ok"], {"http_500": 0.2, "cut": 0.1, "malformed": 0.1, "no_usage": 0.1}])
@pytest.mark.parametrize("dear", [1, 3])
def test_the_budget_is_never_passed_whatever_the_server_charges(store: Answers, faults, dear: int) -> None:
    asked = cells(60, max_tokens=60)
    worst = max(PRICE.of(most_tokens(cell), 60) for cell in asked)
    budget = 12 * worst
    with served(faults=faults, dear=dear, seed=3) as server:
        one = judge(server.url, max_budget=budget)
        guessed = one.estimate(asked, store, "q", PRICE).cost
        got = one.ask(asked, store, "q", strict, PRICE)
    counted, bill = server.counted, store.bill()
    paid = PRICE.of(counted.prompt_tokens, counted.completion_tokens)
    assert paid - 1e-9 <= bill.cost <= bill.cost + bill.in_doubt <= budget
    assert guessed is not None and guessed > 0
    n = sum(answer.status == OK for answer in got)
    assert 0 < n == len(counted.whole)  # everything bought is kept
    if n < len(asked):
        assert bill.cost + bill.in_doubt > budget - worst - 1e-9  # and what is left would not pay the next


def test_a_server_that_does_not_count_is_taken_at_the_most_it_can_charge(store: Answers) -> None:
    asked = [Cell(f"r{i}", "", (("user", f"Row {i:02}"),), 60) for i in range(40)]
    most = PRICE.of(most_tokens(asked[0]), 60)
    with served(faults=["no_usage"]) as server:
        got = judge(server.url, max_budget=10.5 * most).ask(asked, store, "q", strict, PRICE)
    assert server.counted.calls == 10 == sum(answer.status == OK for answer in got)
    assert store.bill().cost == pytest.approx(10 * most)


def test_a_budget_is_shared_by_the_questions_of_an_account_and_its_resumptions(tmp_path: Path) -> None:
    asked = cells(40, max_tokens=60)
    budget = 10 * max(PRICE.of(most_tokens(cell), 60) for cell in asked)
    with served() as server:
        one = judge(server.url, max_budget=budget)
        for question in range(3):
            with Answers(tmp_path / "j.sqlite", "tonight") as store:
                one.ask(
                    [Cell("r", "", (("user", f"{question} {prompt(cell)}"),), 60) for cell in asked],
                    store,
                    "q",
                    None,
                    PRICE,
                )
        counted = server.counted
        assert PRICE.of(counted.prompt_tokens, counted.completion_tokens) <= budget
        before = counted.calls
        with Answers(tmp_path / "j.sqlite", "tomorrow") as store:
            one.ask(asked, store, "q", None, PRICE)
        assert counted.calls > before


def test_rates_hold_for_what_goes_out_failures_included(store: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loop whose time is counted: 300 cells, a fifth of the calls fail, 120 requests a minute."""
    went: list[float] = []

    class Slow:
        async def ask(self, cell: Cell, without: frozenset[str] = frozenset()) -> Answer | Failed:
            now = asyncio.get_running_loop().time()
            went.append(now)
            await asyncio.sleep(0.7)
            if len(went) == 100:
                return Failed("http_429", 30.0, put_off=True)
            return Failed("http_500") if len(went) % 5 == 0 else Answer(OK, "5", {}, 50, 2)

        async def close(self) -> None: ...

    monkeypatch.setattr(judge_run, "backend", lambda _: Slow())
    run = judge_run.Run(judge(requests_per_minute=120), cells(300), store, "q")
    with asyncio.Runner(loop_factory=Loop) as runner:
        got = runner.run(run.all())
    assert all(answer.status == OK for answer in got) and len(went) > 360
    assert max(sum(start <= t < start + 60 for t in went) for start in went) <= 120
    gaps = [b - a for a, b in pairwise(went)]
    assert max(gaps) >= 29  # everybody waited
    assert len(went) / (went[-1] - went[0] - max(gaps)) >= 0.9 * 2
