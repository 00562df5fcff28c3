"""Killed at any moment while it buys answers, a run keeps all that arrived and buys none of them again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from methods.judging.kinds import OK, Cell
from resources.answers import Answers
from resources.judge import Judge
from tests.misbehaving import There, says, started

ROOT = Path(__file__).resolve().parents[1]
CELLS, CONCURRENCY = 160, 6
SCRIPT = '''
"""Ask about some rows, again and again the same: STORE URL"""
import sys
from pathlib import Path
from methods.judging.kinds import Cell
from resources import judge_limits
from resources.answers import Answers
from resources.judge import Judge
from resources.prices import Price

judge_limits.FIRST_WAIT_S = 0.01
cells = [Cell(f"r{i}", "", (("user", f"Row {i}"),)) for i in range(CELLS)]
with Answers(Path(sys.argv[1])) as store:
    judge = Judge(url=sys.argv[2], model="tiny", concurrency=CONCURRENCY, timeout_s=5)
    judge.ask(cells, store, "q", None, Price(1.0, 2.0))
'''.replace("CELLS", str(CELLS)).replace("CONCURRENCY", str(CONCURRENCY))


def start(store: Path, server: There) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT, str(store), server.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def kill_after(process: subprocess.Popen[str], server: There, calls: int, more_s: float) -> None:
    until = time.monotonic() + 60
    while server.counted.calls < calls:
        assert process.poll() is None and time.monotonic() < until, process.communicate()[1][-2000:]
        time.sleep(0.002)
    time.sleep(more_s)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.communicate()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_and_resumed(tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), tmp_path / "judgments.sqlite"
    cells = [Cell(f"r{i}", "", (("user", f"Row {i}"),)) for i in range(CELLS)]
    bought: dict[str, str] = {}
    faults = {"http_500": 0.05, "cut": 0.05, "http_429_ms": 0.05}
    with started(faults=faults, seed=seed, delay_s=0.02) as server:
        judge = Judge(url=server.url, model="tiny")
        keys = {cell.key(judge.identity()): cell.messages[0][1] for cell in cells}
        kills = 0
        while kills < 3:
            process = start(path, server)
            kill_after(process, server, server.counted.calls + rng.randint(5, 40), rng.random() * 0.05)
            kills += 1
            with Answers(path) as store:
                kept = {keys[key]: answer.text for key, answer in store.known(keys).items()}
                assert bought.items() <= kept.items()  # what was there is there, and no other
                assert all(text == says(prompt) for prompt, text in kept.items())
                # Of what the server answered only calls under way at a kill can be missing, and they are counted.
                missing = set(server.counted.whole) - set(kept)
                assert len(missing) <= CONCURRENCY and store.bill().unanswered <= kills * CONCURRENCY
                assert len(missing) <= store.bill().unanswered
            bought = kept
        again = server.counted.whole.copy()
        process = start(path, server)
        assert process.wait(120) == 0, process.communicate()[1][-3000:]
        process.communicate()
        counted = server.counted
    with Answers(path) as store:
        answers, bill = store.known(keys), store.bill()
    assert len(answers) == CELLS and {answer.status for answer in answers.values()} == {OK}
    for prompt in bought:  # what had arrived was never asked for again
        assert counted.whole[prompt] == again[prompt]
    twice = sum((counted.whole - Counter(dict.fromkeys(keys.values(), 1))).values())
    assert twice <= bill.unanswered <= 3 * CONCURRENCY
    # The bill is the server's: answers that arrived, and of those under way at a kill each one that went out.
    assert bill.answered == CELLS and counted.answered == CELLS + twice
    assert counted.calls <= bill.calls <= counted.calls + bill.unanswered
    assert bill.calls == bill.answered + bill.failed + bill.unanswered
    assert bill.in_doubt > 0 and bill.cost is not None


def test_what_a_killed_process_was_about_to_buy_is_bought_by_the_one_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "judgments.sqlite"
    with started(delay_s=0.3) as server:
        first = start(path, server)
        until = time.monotonic() + 60
        while server.counted.calls < 20:
            assert first.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        second = start(path, server)
        while server.counted.most_at_once <= CONCURRENCY:  # both are at it
            assert second.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        kill_after(first, server, 0, 0.0)
        errors = second.communicate(timeout=120)[1]
        assert second.returncode == 0, errors[-3000:]
        counted = server.counted
    assert len(counted.whole) == CELLS and sum(counted.whole.values()) <= CELLS + CONCURRENCY
    with Answers(path) as store:
        assert store.bill().answered == CELLS and store.bill().unanswered <= CONCURRENCY
