"""Batches of a judge against a provider on this machine: what is handed in, found again, collected, and freed."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from methods.judging.kinds import API_ERROR, NOT_ASKED, OK, PENDING, REFUSED, TRUNCATED, Answer, Cell
from resources.answers import Answers
from resources.judge import Judge
from resources.judge_batch import (
    COLLECTED,
    GRACE_S,
    HANDING_IN,
    LOST,
    NEVER,
    OPEN,
    Batches,
    Collected,
    affordable,
    client,
)
from resources.judge_calls import JudgeUnavailable
from resources.judge_files import chunks, read_line
from resources.prices import Price
from tests.provider import Provider, answer, error, provider

PRICE = Price(10, 100, batch=0.5)
CELLS = [Cell(f"row{i}", "", (("user", f"Judge text {i}."),), max_tokens=20) for i in range(6)]


class Kept:
    """A store with its batches, and a provider."""

    def __init__(self, path: Path, there: Provider, account: str = "") -> None:
        self.path, self.there = path, there
        self.judge = Judge(model="judge-1", url=there.url, tries=1)
        self.store = Answers(path, account)
        self.batches = Batches(path, self.store)
        self.keys = [cell.key(self.judge.identity()) for cell in CELLS]

    def hand_in(self, cells: list[Cell] = CELLS, **limits: object) -> list[str]:
        return self.batches.hand_in(self.judge.limited(**limits), cells, "toy", PRICE).batches

    def collect(self, price: Price | None = PRICE) -> list[Collected | None]:
        with client(self.there.url, "OPENAI_API_KEY") as openai:
            return [self.batches.collect(openai, batch, price) for batch in self.batches.under_way()]

    def find(self, later: float = 0.0) -> list[str]:
        with client(self.there.url, "OPENAI_API_KEY") as openai:
            return [self.batches.find_again(openai, b, b.submitted + later) for b in self.batches.under_way()]

    def statuses(self) -> list[str]:
        known = self.store.known(self.keys)
        return [known[key].status if key in known else NOT_ASKED for key in self.keys]

    def claims(self) -> int:
        return self.lines("SELECT COUNT(*) FROM claims")[0][0]

    def lines(self, query: str) -> list[tuple]:
        db = sqlite3.connect(self.path)
        found = db.execute(query).fetchall()
        db.close()
        return found


@pytest.fixture
def there() -> Iterator[Provider]:
    with provider() as state:
        yield state


@pytest.fixture
def kept(tmp_path: Path, there: Provider) -> Iterator[Kept]:
    made = Kept(tmp_path / "judgments.sqlite", there)
    yield made
    made.batches.close()
    made.store.close()


def test_from_cells_to_answers(kept: Kept, there: Provider) -> None:
    handed = kept.batches.hand_in(kept.judge, [*CELLS, CELLS[0]], "toy", PRICE)
    assert len(handed.batches) == 1 and handed.keys == set(kept.keys)
    asked = there.requests("batch-0")
    assert [line["custom_id"] for line in asked] == kept.keys
    assert asked[2]["url"] == "/v1/chat/completions" and asked[2]["method"] == "POST"
    assert asked[2]["body"]["messages"] == [{"role": "user", "content": "Judge text 2."}]
    assert asked[2]["body"]["model"] == "judge-1" and asked[2]["body"]["max_tokens"] == 20
    assert set(kept.batches.holding(kept.keys).values()) == set(handed.batches)
    assert kept.store.bill().unanswered == 6 and kept.store.bill().in_doubt > 0
    assert kept.collect() == [None] and kept.statuses() == [NOT_ASKED] * 6
    there.finish("batch-0")
    (got,) = kept.collect()
    assert (got.answers, got.failed, got.freed, got.unknown, got.twice) == (6, 0, 0, 0, 0)
    assert kept.statuses() == [OK] * 6 and kept.batches.under_way() == [] and kept.claims() == 0
    bill = kept.store.bill()
    assert (bill.calls, bill.answered, bill.unanswered, bill.prompt_tokens) == (6, 6, 0, 600)
    assert bill.cost == pytest.approx(6 * 0.5 * (100 * 10 + 10 * 100) / 1e6) and bill.in_doubt == 0
    answers = kept.judge.ask(CELLS, kept.store, "toy")  # nobody is asked: the server knows no such path
    assert [a.status for a in answers] == [OK] * 6
    assert kept.collect() == [] and kept.store.bill().calls == 6


def test_what_lies_in_a_batch_is_not_handed_in_again_by_anyone(kept: Kept, there: Provider, tmp_path: Path) -> None:
    kept.hand_in(CELLS[:4])
    other = Kept(kept.path, there)
    assert len(other.hand_in()) == 1
    assert [line["custom_id"] for line in there.requests("batch-1")] == kept.keys[4:]
    assert other.hand_in() == [] and len(there.batches) == 2
    kept.batches.close()
    kept.store.close()  # the batch's claims do not go with the run that handed it in
    assert other.claims() == 6
    other.batches.close()
    other.store.close()
    kept.store = Answers(kept.path)
    kept.batches = Batches(kept.path, kept.store)
    assert kept.store.claim(kept.keys[0], 0.0) == Answer(PENDING)


def test_odd_lines_are_counted_and_spoil_nothing(kept: Kept, there: Provider) -> None:
    kept.hand_in()
    keys = kept.keys

    def edit(lines: list) -> list:
        first = answer(keys[0], "Score: 1")
        cut = answer(keys[1], "Sco", finish_reason="length")
        return [
            first,
            answer(keys[0], "Score: 5"),  # told twice: the first counts
            answer("f" * 32),  # of no cell
            "{broken",
            json.dumps(["no", "object"]),
            json.dumps({"custom_id": 7}),
            cut,
            error(keys[2], "content_filter", 400),
            error(keys[3], "server_error", 500),
            {"custom_id": keys[4], "response": {"status_code": 200, "body": {"choices": []}}},
        ]  # and nothing at all about the last

    there.finish("batch-0", edit=edit)
    (got,) = kept.collect()
    assert kept.statuses() == [OK, TRUNCATED, REFUSED, API_ERROR, API_ERROR, API_ERROR]
    assert (got.unknown, got.twice, got.answers, got.failed) == (4, 1, 6, 3)
    assert kept.store.known(keys[:1])[keys[0]].text == "Score: 1"
    bill = kept.store.bill()
    assert (bill.answered, bill.failed, bill.unanswered) == (3, 3, 0)
    again = kept.hand_in(CELLS[3:])
    assert len(again) == 1 and len(there.requests("batch-1")) == 3


@pytest.mark.parametrize("ended", ["expired", "cancelled", "failed"])
def test_what_the_provider_never_came_to_is_free_again(kept: Kept, there: Provider, ended: str) -> None:
    kept.hand_in()
    done = [answer(key) for key in kept.keys[:2]]
    if ended == "expired":
        there.files["errors"] = json.dumps(error(kept.keys[2], "batch_expired")) + "\n"
        there.batches["batch-0"]["error_file_id"] = "errors"
    there.finish("batch-0", ended, lambda _: done if ended != "failed" else [])
    (got,) = kept.collect()
    paid = 0 if ended == "failed" else 2
    assert (got.state, got.answers, got.freed) == (ended, paid, 6 - paid)
    assert kept.statuses() == [OK] * paid + [NOT_ASKED] * (6 - paid) and kept.claims() == 0
    assert kept.batches.holding(kept.keys) == {} and kept.store.bill().unanswered == 0
    assert len(kept.hand_in(CELLS[paid:])) == 1


def test_a_batch_that_is_gone_frees_its_cells(kept: Kept, there: Provider) -> None:
    kept.hand_in()
    there.batches.clear()
    (got,) = kept.collect()
    assert got.state == LOST and got.freed == 6 and kept.claims() == 0


def test_collecting_twice_is_collecting_once(kept: Kept, there: Provider) -> None:
    kept.hand_in()
    (batch,) = kept.batches.under_way()
    there.finish("batch-0")
    with client(there.url, "OPENAI_API_KEY") as openai:
        assert kept.batches.collect(openai, batch, PRICE).answers == 6
        assert kept.batches.collect(openai, batch, PRICE) is None
        # Broken off after the answers were stored and before the batch was done with:
        db = sqlite3.connect(kept.path)
        db.execute("UPDATE batches SET state = ?", (OPEN,))
        db.commit()
        db.close()
        bill, known = kept.store.bill(), kept.store.known(kept.keys)
        assert kept.batches.collect(openai, batch, PRICE).state == COLLECTED
    assert kept.store.bill() == bill and kept.store.known(kept.keys) == known


DIES = """
import os, sys
from pathlib import Path
from resources import judge_batch
from resources.answers import Answers
from resources.judge import Judge
from methods.judging.kinds import Cell
CELLS = [Cell(f"row{i}", "", (("user", f"Judge text {i}."),), max_tokens=20) for i in range(6)]
where, url, when = sys.argv[1:]
batches = judge_batch.Batches
if when == "before the batch":
    whole = batches._set
    batches._set = lambda self, batch, **said: (whole(self, batch, **said), os._exit(9))
elif when == "before the file":
    batches._handed_in = lambda *_: os._exit(9)
else:
    whole = batches._set
    batches._set = lambda self, batch, **said: os._exit(9) if "remote" in said else whole(self, batch, **said)
store = Answers(Path(where))
batches(Path(where), store).hand_in(Judge(model="judge-1", url=url), CELLS, "toy")
"""


@pytest.mark.parametrize("when", ["before the file", "before the batch", "after the batch"])
def test_killed_between_handing_in_and_writing_it_down(kept: Kept, there: Provider, when: str) -> None:
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", DIES, str(kept.path), there.url, when], cwd=root, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert ran.returncode == 9
    (batch,) = kept.batches.under_way()
    assert batch.state == HANDING_IN and batch.remote is None and len(kept.batches.holding(kept.keys)) == 6
    assert kept.hand_in() == [], "nobody buys these cells until it is known what became of them"
    if when == "after the batch":
        assert kept.find() == [OPEN]
        there.finish("batch-0")
        assert kept.collect()[0].answers == 6 and kept.statuses() == [OK] * 6
        assert len(there.batches) == 1 and kept.store.bill().calls == 6
        return
    if when == "before the batch":
        assert kept.find() == [HANDING_IN], "it may not be listed yet"
    assert kept.find(GRACE_S) == [NEVER] and kept.claims() == 0
    assert kept.store.bill().failed == 6
    assert len(kept.hand_in()) == 1 and len(there.batches) == 1


def test_a_reply_that_is_lost_is_not_a_second_batch(kept: Kept, there: Provider) -> None:
    there.swallow = True
    with pytest.raises(JudgeUnavailable, match="looked for later"):
        kept.hand_in()
    there.swallow = False
    assert len(there.batches) == 1 and kept.hand_in() == []
    assert kept.find() == [OPEN]
    there.finish("batch-0")
    assert kept.collect()[0].answers == 6


def test_a_provider_that_takes_no_batches_holds_nothing(kept: Kept, there: Provider) -> None:
    there.refuse["batches"] = 404
    with pytest.raises(JudgeUnavailable, match=r"takes no batch \(HTTP 404\)") as caught:
        kept.hand_in()
    assert "Judge text" not in str(caught.value)
    assert kept.batches.under_way() == [] and kept.claims() == 0 and kept.store.bill().unanswered == 0
    there.refuse.clear()
    assert len(kept.hand_in()) == 1


def test_no_more_than_the_limits_allow(kept: Kept, there: Provider) -> None:
    identity = kept.judge.identity()
    by_key = {cell.key(identity): cell for cell in CELLS}
    assert affordable(by_key, kept.judge.limited(max_calls=2), kept.store, PRICE) == kept.keys[:2]
    kept.hand_in(max_calls=2)
    assert len(there.requests("batch-0")) == 2
    assert affordable(by_key, kept.judge.limited(max_calls=3), kept.store, PRICE) == kept.keys[:1]
    one = kept.store.bill().in_doubt / 2
    budget = kept.judge.limited(max_budget=4.5 * one)  # two are under way
    assert affordable(by_key, budget, kept.store, PRICE) == kept.keys[:2]
    with pytest.raises(JudgeUnavailable, match="no price"):
        kept.batches.hand_in(budget, CELLS, "toy", None)


def test_a_large_batch_is_cut(kept: Kept, there: Provider) -> None:
    body = {str(i): b"x" * 10 for i in range(7)}
    assert list(chunks(body, 3, 1000, body)) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert list(chunks(body, 99, 25, body)) == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]
    assert list(chunks(body, 99, 5, ["1"])) == [["1"]] and list(chunks(body, 3, 1000, [])) == []
    handed = kept.batches.hand_in(kept.judge, CELLS, "toy", PRICE, most=(4, 10**6))
    assert len(handed.batches) == 2 and [len(there.requests(f"batch-{i}")) for i in (0, 1)] == [4, 2]
    there.finish("batch-1")
    assert [got is None for got in kept.collect()] == [True, False]
    assert kept.statuses() == [NOT_ASKED] * 4 + [OK] * 2


def test_chances_of_choices_come_along() -> None:
    places = {"content": [{"top_logprobs": [{"token": " 4", "logprob": -0.5}, {"token": "x", "logprob": -1}]}]}
    line = json.dumps(answer("k", "4", logprobs=places))
    key, found, free = read_line(line, lambda _: ("4", "5"))
    assert (key, found.logprobs, free) == ("k", {"4": -0.5}, False)


def test_the_key_is_named_and_not_kept(kept: Kept, there: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    kept.hand_in()
    kept.store.flush()
    assert b"sk-very-secret" not in b"".join(path.read_bytes() for path in kept.path.parent.iterdir())
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(JudgeUnavailable, match="set OPENAI_API_KEY"):
        client("https://example.org/v1", "OPENAI_API_KEY")
