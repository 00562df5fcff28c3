"""Many cells: every answer that arrived is kept, nothing is bought twice, no limit is passed, no fault stops the rest."""

import asyncio
import logging
import random
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from methods.judging.kinds import API_ERROR, OK, PARSE_ERROR, REFUSED, TRUNCATED, Answer, Cell
from resources import judge_limits, judge_run
from resources.answers import Answers
from resources.judge import Judge, JudgeUnavailable
from resources.prices import Price
from tests.misbehaving import says, served

ROOT = Path(__file__).resolve().parents[2]
PRICE = Price(1_000.0, 2_000.0)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    monkeypatch.setattr(judge_limits, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(judge_limits, "LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr(judge_run, "_LOOK_S", 0.02)


@pytest.fixture
def store(tmp_path: Path):
    with Answers(tmp_path / "judgments.sqlite") as opened:
        yield opened


def cells(n: int, **more) -> list[Cell]:
    return [Cell(f"r{i}", "", (("user", f"Row {i}: {'a word ' * (i % 7)}"),), **more) for i in range(n)]


def prompt(cell: Cell) -> str:
    return cell.messages[-1][1]


def judge(url: str = "", **more) -> Judge:
    return Judge(**{"url": url, "model": "tiny", "key_name": "JUDGE_KEY", "timeout_s": 5.0, **more})


def strict(_: Cell, answer: Answer) -> str:
    return answer.status if answer.status != OK or answer.text.startswith("Score: ") else PARSE_ERROR


# ---- the usual way -------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_cells_and_are_bought_once(store: Answers) -> None:
    asked = cells(30)
    told: list[int] = []
    with served(delay_s=0.02) as server:
        got = judge(server.url).ask(asked, store, "q", strict, PRICE, told.append)
        again = judge(server.url).ask(list(reversed(asked)), store, "q", strict, PRICE)
    assert [answer.text for answer in got] == [says(prompt(cell)) for cell in asked]
    assert again == list(reversed(got)) and sum(told) == 30
    assert server.counted.calls == 30 and 1 < server.counted.most_at_once <= 8
    bill, counted = store.bill(), server.counted
    assert (bill.calls, bill.answered, bill.failed, bill.unanswered) == (30, 30, 0, 0)
    assert (bill.prompt_tokens, bill.completion_tokens) == (counted.prompt_tokens, counted.completion_tokens)
    assert bill.cost == pytest.approx(PRICE.of(counted.prompt_tokens, counted.completion_tokens))


def test_equal_cells_are_asked_once_and_all_are_told(store: Answers) -> None:
    asked = [Cell(f"r{i}", "", (("user", f"Row {i % 3}"),)) for i in range(12)]
    told: list[int] = []
    with served() as server:
        got = judge(server.url).ask(asked, store, "q", progress=told.append)
    assert server.counted.calls == 3 and sum(told) == 12
    assert [answer.text for answer in got] == [says(f"Row {i % 3}") for i in range(12)]


def test_another_model_address_or_wording_is_another_question(store: Answers) -> None:
    with served() as server:
        first = judge(server.url)
        first.ask(cells(1), store, "q")
        for other in (
            judge(server.url, model="other"),
            judge(server.url, extra={"top_p": 0.5}),
            judge(server.url + "/x/.."),
        ):
            assert other.identity() != first.identity()
        first.limited(model="other").ask(cells(1), store, "q")
        judge(server.url + "/", concurrency=3).ask(cells(1), store, "q")  # the same judge, within other limits
        first.ask(cells(1, max_tokens=5) + cells(1, repeat=1), store, "q")
    assert server.counted.calls == 4


def test_nothing_to_ask_asks_nobody(store: Answers) -> None:
    assert judge("http://127.0.0.1:9/v1").ask([], store, "q") == []


def test_a_store_that_has_everything_needs_neither_server_nor_key(
    store: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served() as server:
        got = judge(server.url).ask(cells(3), store, "q")
    monkeypatch.delenv("JUDGE_KEY")
    assert judge(server.url).ask(cells(3), store, "q") == got


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model": ""}, "no judge is set"),
        ({"max_budget": 1.0}, "has no price: add it to prices.yaml"),
        ({"tries": 0}, "tries is 0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"requests_per_minute": -1}, "requests_per_minute is -1"),
        ({"timeout_s": 0}, "timeout_s is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_spent(
    store: Answers, changes: dict, word: str
) -> None:
    with served() as server, pytest.raises(JudgeUnavailable, match=word):
        judge(server.url, **changes).ask(cells(1), store, "q")
    assert server.counted.calls == 0


def test_in_a_notebook_whose_loop_is_running(store: Answers) -> None:
    async def notebook(url: str) -> list[Answer]:
        return judge(url).ask(cells(3), store, "q")

    with served() as server:
        assert [answer.status for answer in asyncio.run(notebook(server.url))] == [OK] * 3


# ---- faults --------------------------------------------------------------------------------------------------------

PASSING = [
    "http_429",
    "http_429_0",
    "http_429_ms",
    "http_500",
    "http_502",
    "http_503",
    "cut",
    "gone",
    "malformed",
    "html",
]
PASSING += ["null", "empty_choices"]


@pytest.mark.parametrize("fault", [*PASSING, "hang", "drip"])
def test_a_fault_that_passes_costs_a_try_and_no_cell(store: Answers, fault: str) -> None:
    asked = cells(6)
    with served(faults={"prompt": [fault, fault, "ok"]}) as server:
        timeout = 0.3 if fault in ("hang", "drip") else 5.0
        got = judge(server.url, timeout_s=timeout).ask(asked, store, "q", strict)
    assert [answer.text for answer in got] == [says(prompt(cell)) for cell in asked]
    assert server.counted.calls == 18
    bill = store.bill()
    assert (bill.calls, bill.answered, bill.failed, bill.unanswered) == (18, 6, 12, 0)


@pytest.mark.parametrize("how", ["http_429_s", "http_429_date"])
def test_a_server_that_asks_for_a_second_gets_it(store: Answers, how: str) -> None:
    with served(faults=[how, "ok"]) as server:
        before = time.monotonic()
        got = judge(server.url, concurrency=1).ask(cells(2), store, "q")
        took = time.monotonic() - before
    assert [answer.status for answer in got] == [OK, OK] and server.counted.calls == 3
    assert how == "http_429_date" or took >= 1.0


@pytest.mark.parametrize(
    ("fault", "status", "calls"),
    [
        ("refusal", REFUSED, 1),
        ("filter", REFUSED, 1),
        ("filter_400", REFUSED, 1),
        ("length", TRUNCATED, 1),
        ("null_charged", PARSE_ERROR, 1),
        ("empty_charged", PARSE_ERROR, 1),
        ("too_long", API_ERROR, 1),
        ("http_400", API_ERROR, 1),
        ("http_500", API_ERROR, 6),
        ("http_429", API_ERROR, 12),
    ],
)
def test_a_cell_that_fails_has_a_status_and_no_effect_on_others(
    store: Answers, fault: str, status: str, calls: int
) -> None:
    bad, good = cells(2)
    with served(faults=[*[fault] * calls, "ok"]) as server:
        got = judge(server.url, concurrency=1).ask([bad, good], store, "q")
    assert [answer.status for answer in got] == [status, OK]
    assert server.counted.calls == calls + 1


@pytest.mark.parametrize(
    ("fault", "again"), [("refusal", 1), ("filter_400", 1), ("length", 1), ("null_charged", 1), ("http_400", 3)]
)
def test_what_failed_is_asked_again_alone_and_bought_twice_at_most(store: Answers, fault: str, again: int) -> None:
    with served(faults={"prompt": [fault]}) as server:
        first = judge(server.url).ask(cells(1), store, "q")
        for _ in range(3):
            assert judge(server.url).ask(cells(1), store, "q") == first
        assert judge(server.url).estimate(cells(1), store, "q").calls == (again == 3)
    assert server.counted.calls == 1 + again


def test_what_cannot_be_read_is_bought_twice_at_most_and_read_by_a_better_reader_for_nothing(store: Answers) -> None:
    with served(score="Well, four perhaps.") as server:
        for _ in range(4):
            got = judge(server.url).ask(cells(2), store, "q", strict, PRICE)
            assert [answer.status for answer in got] == [PARSE_ERROR] * 2
            assert got[0].text == "Well, four perhaps."  # the raw answer is kept
        assert server.counted.calls == 4
        better = judge(server.url).ask(cells(2), store, "q", lambda _, answer: OK)
        assert [answer.status for answer in better] == [OK] * 2
        # The worse reader does not spoil it for the better one.
        judge(server.url).ask(cells(2), store, "q", strict)
        assert [answer.status for answer in judge(server.url).ask(cells(2), store, "q")] == [OK] * 2
    assert server.counted.calls == 4


def test_an_answer_whose_end_was_cut_stays_known_as_cut(store: Answers) -> None:
    with served(faults=["length"]) as server:
        judge(server.url).ask(cells(1), store, "q", lambda _, answer: OK)  # reads beginnings
        seen: list[str] = []
        judge(server.url).ask(cells(1), store, "q", lambda _, answer: seen.append(answer.status) or TRUNCATED)
    assert seen[0] == TRUNCATED


def test_a_reader_that_breaks_loses_no_answer(store: Answers, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Cell, answer: Answer) -> str:
        raise ValueError(answer.text)

    with served() as server:
        got = judge(server.url).ask(cells(3), store, "q", broken)
    assert [answer.status for answer in got] == [PARSE_ERROR] * 3
    assert [answer.text for answer in got] == [says(prompt(cell)) for cell in cells(3)]
    assert "ValueError" in caplog.text and "Score" not in caplog.text


def test_a_server_without_schemas_and_log_probabilities_is_asked_without(store: Answers) -> None:
    asked = cells(9, schema={"type": "object"}, choices=("1", "2"))
    with served(faults=["no_schema"]) as server:
        got = judge(server.url, concurrency=2, tries=1).ask(asked, store, "q")
    assert [answer.status for answer in got] == [OK] * 9
    assert server.counted.calls == 9 + 2  # the first two at once; then it is known
    with served(faults=["no_logprobs"]) as server:
        got = judge(server.url, concurrency=1).ask(asked, store, "q")
    assert [answer.status for answer in got] == [OK] * 9 and server.counted.calls == 9 + 2
    with served(faults=["new_names"]) as server:
        got = judge(server.url, concurrency=1).ask(asked, store, "q")
    assert [answer.status for answer in got] == [OK] * 9 and server.counted.calls == 9 + 1


@pytest.mark.parametrize("fault", ["http_401", "http_403", "http_404", "quota"])
def test_what_can_never_succeed_stops_at_once_and_keeps_what_was_bought(
    store: Answers, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with served(faults=[*["ok"] * 10, fault], delay_s=0.01) as server:
        with pytest.raises(JudgeUnavailable) as caught:
            judge(server.url).ask(cells(50), store, "q")
        counted = server.counted
        assert counted.calls <= 10 + 8
        assert store.bill().answered == len(counted.whole) == 10
    told = f"{caught.value}{traceback.format_exception(caught.value)}{caplog.text}"
    assert "kept" in str(caught.value) and "sk-very-secret" not in told and "a word" not in told


@pytest.mark.parametrize("fault", ["http_500", "http_400", "gone"])
def test_a_judge_that_answers_nothing_is_left_alone(store: Answers, fault: str) -> None:
    with served(faults=[fault]) as server, pytest.raises(JudgeUnavailable, match=r"2\d cells in a row were given up"):
        judge(server.url, tries=2).ask(cells(500), store, "q")
    assert server.counted.calls <= 2 * (20 + 8)


def test_an_error_of_ours_stops_all_and_keeps_what_was_bought(store: Answers) -> None:
    told: list[int] = []

    def breaks(n: int) -> None:
        told.append(n)
        if len(told) == 5:
            raise OSError("no screen")

    with served(delay_s=0.01) as server:
        with pytest.raises(OSError, match="no screen"):
            judge(server.url, concurrency=4).ask(cells(100), store, "q", progress=breaks)
        assert server.counted.calls <= 9 and store.bill().answered == len(server.counted.whole)
        assert store.bill().unanswered == 0


FAULTS = [
    *PASSING,
    "http_400",
    "filter_400",
    "refusal",
    "filter",
    "length",
    "no_usage",
    "odd_usage",
    "wrong_id",
    "no_id",
]
FAULTS += ["null_charged", "too_long"]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), share=st.floats(0, 0.8), concurrency=st.integers(1, 12), n=st.integers(1, 40))
def test_whatever_a_server_does_what_it_answered_is_kept_and_bought_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float, concurrency: int, n: int
) -> None:
    asked, rng = cells(n), random.Random(seed)
    weights = [rng.random() ** 3 for _ in FAULTS]
    faults = {fault: share * weight / sum(weights) for fault, weight in zip(FAULTS, weights, strict=True)}
    with Answers(tmp_path_factory.mktemp("fuzz") / "j.sqlite") as store, served(faults=faults, seed=seed) as server:
        one = judge(server.url, concurrency=concurrency, tries=3)
        bought = {}
        for _ in range(3):
            before = server.counted.whole.copy()
            got = one.ask(asked, store, "q", strict)
            assert len(got) == n
            for cell, answer in zip(asked, got, strict=True):
                new = server.counted.whole[prompt(cell)] - before[prompt(cell)]
                assert new <= (prompt(cell) not in bought)  # never again what was bought
                if answer.status == OK:
                    assert answer.text == says(prompt(cell))
                    bought[prompt(cell)] = answer
            kept = store.known(cell.key(one.identity()) for cell in asked)
            for cell in asked:
                if server.counted.whole[prompt(cell)]:  # delivered whole: in the store
                    assert kept[cell.key(one.identity())].status in (OK, REFUSED, TRUNCATED, PARSE_ERROR)
        counted, bill = server.counted, store.bill()
        charged = counted.faults["null_charged"]
        assert bill.calls == counted.calls and bill.unanswered == 0
        assert bill.answered == counted.answered + charged
        assert max(counted.whole.values(), default=0) <= 2
