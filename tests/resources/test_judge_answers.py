"""The store of answers: what is kept, what is claimed, what is counted."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.judging.kinds import OK, PENDING, REFUSED, Answer
from resources import answers as module
from resources.answers import BATCH, DECLINED, Answers, Bill

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "judgments.sqlite"


def buy(store: Answers, key: str, answer: Answer = Answer(OK, "5", {}, 10, 2), cost: float | None = 0.5, **more) -> int:  # noqa: B008
    assert store.claim(key, 0.0) is True
    call = store.sent(key, 1.0)
    store.arrived(call, key, answer, "q", "m", cost, **more)
    return call


def test_what_arrived_is_there_for_the_next(path: Path) -> None:
    answer = Answer(OK, "Score: 5\n…", {"5": -0.1}, 11, 3)
    with Answers(path) as store:
        buy(store, "a", answer)
        buy(store, "b", Answer(REFUSED))
    with Answers(path) as store:
        assert store.known(["a", "b", "c"]) == {"a": answer, "b": Answer(REFUSED)}
        assert store.bill() == Bill(2, 2, 0, 0, 11, 3, 1.0, 0.0)


@settings(max_examples=20, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=("Cs",))),
    logprobs=st.dictionaries(st.text(max_size=3), st.floats(-50, 0)),
)
def test_any_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, text: str, logprobs: dict) -> None:
    with Answers(tmp_path_factory.mktemp("any") / "a.sqlite") as store:
        buy(store, "a", Answer(OK, text, logprobs, 1, 1))
        assert store.known(["a"]) == {"a": Answer(OK, text, logprobs, 1, 1)}


def test_an_answer_that_is_delivered_twice_is_kept_and_billed_once(path: Path) -> None:
    with Answers(path) as store:
        call = buy(store, "a")
        store.arrived(call, "a", Answer(OK, "5", {}, 10, 2), "q", "m", 0.5)
        assert store.bill() == Bill(1, 1, 0, 0, 10, 2, 0.5, 0.0)
        assert store.times_bought(["a"]) == {"a": 1}


def test_many_keys_are_asked_for_in_parts(path: Path) -> None:
    with Answers(path) as store:
        for i in range(1203):
            buy(store, str(i))
        assert len(store.known(map(str, range(1500)))) == 1203
        assert sum(store.times_bought(map(str, range(1500))).values()) == 1203


def test_a_bill_tells_what_failed_and_what_may_have_been_charged(path: Path) -> None:
    with Answers(path) as store:
        buy(store, "a")
        buy(store, "b", cost=None)
        buy(store, "c", Answer(REFUSED), cost=0.0, outcome=DECLINED)
        for outcome in ("http_500", "timeout", "connection"):
            store.failed(store.sent("d", 0.25), outcome)
        store.sent("e", 0.125)
        assert store.bill() == Bill(7, 2, 4, 1, 20, 4, None, 0.625)
        assert store.times_bought("abcde") == {"a": 1, "b": 1, "c": 1}


def test_accounts_are_counted_apart_and_across_openings(path: Path) -> None:
    with Answers(path, "evening") as store:
        buy(store, "a")
        store.failed(store.sent("b", 0.25), "timeout")
    with Answers(path) as store:
        buy(store, "b")
        assert store.committed() == (1, 0.5)
    with Answers(path, "evening") as store:
        assert store.committed() == (2, 0.75)
        assert store.bill().calls == 3


def test_a_claim_holds_against_others_until_its_run_is_over(path: Path) -> None:
    one, other = Answers(path), Answers(path)
    one.alive()
    other.alive()
    assert one.claim("a", 0.0) is True
    assert one.claim("a", 0.0) is True
    assert other.claim("a", 0.0) is False
    one.release("a")
    assert other.claim("a", 0.0) is True
    one.release("a")  # not its own any more
    assert one.claim("a", 0.0) is False
    other.close()
    assert one.claim("a", 0.0) is True


def test_who_comes_late_gets_the_answer_that_was_bought_meanwhile(path: Path) -> None:
    one, other = Answers(path), Answers(path)
    before = time.time() - 1
    buy(one, "a")
    assert other.claim("a", before) == Answer(OK, "5", {}, 10, 2)
    assert other.claim("a", time.time() + 1) is True  # that one is older than the asking: it is asked again


def test_claims_of_a_run_that_is_silent_or_gone_are_nobodys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Answers(path), Answers(path)
    assert one.claim("never alive", 0.0) is True
    assert other.claim("never alive", 0.0) is True
    one.alive()
    assert one.claim("silent", 0.0) is True
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + module.DEAD_AFTER_S - 1)
    assert other.claim("silent", 0.0) is False
    monkeypatch.setattr(module.time, "time", lambda: now + module.DEAD_AFTER_S + 1)
    assert other.claim("silent", 0.0) is True


def test_claims_of_a_process_that_was_killed_are_nobodys_at_once(path: Path) -> None:
    script = f"import os, signal; from pathlib import Path; from resources.answers import Answers; s = Answers(Path({str(path)!r}));"
    script += " s.alive(); s.claim('a', 0.0); s.sent('a'); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert done.returncode == -9
    with Answers(path) as store:
        assert store.claim("a", 0.0) is True
        assert store.bill().unanswered == 1


def test_nobody_waits_for_a_cell_that_lies_in_a_batch(path: Path) -> None:
    with Answers(path) as store:
        db = sqlite3.connect(path)
        db.execute("INSERT INTO claims VALUES ('a', ?)", (f"{BATCH}1",))
        db.execute("INSERT INTO runs VALUES (?, 0, '', ?)", (f"{BATCH}1", time.time() + 3600))
        db.commit()
        assert store.claim("a", 0.0) == Answer(PENDING)


def test_a_write_that_fails_leaves_the_store_usable(path: Path) -> None:
    with Answers(path) as store:
        with pytest.raises(OverflowError):
            store.arrived(store.sent("a"), "a", Answer(OK, "5", {}, 2**70, 0), "q", "m")
        assert store.known(["a"]) == {} and store.bill().unanswered == 1
        buy(store, "a")
        assert set(store.known(["a"])) == {"a"}


def test_many_processes_may_open_a_new_store_at_once(path: Path) -> None:
    script = f"import sys; from pathlib import Path; from resources.answers import Answers\nwith Answers(Path({str(path)!r})) as s: s.sent(sys.argv[1])"
    words = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([*words, str(i)], env=environment, stderr=subprocess.PIPE, text=True) for i in range(4)]
    assert [process.communicate(timeout=60)[1] for process in running] == [""] * 4
    with Answers(path) as store:
        assert store.bill().calls == 4


def test_flushing_is_quiet_before_anything_was_written(path: Path) -> None:
    with Answers(path) as store:
        store.flush()
        Path(f"{path}-wal").unlink()
        store.flush()
