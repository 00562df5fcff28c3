"""Several runs at once, interrupted ones, and judges that are real: a model in this process, and one that is served."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from methods.judging.kinds import API_ERROR, OK, TRUNCATED, Cell
from resources.answers import Answers
from resources.judge import Judge
from tests import tiny
from tests.misbehaving import started

ROOT = Path(__file__).resolve().parents[2]


def hears() -> None:
    """A background shell starts its children deaf to SIGINT, and they hand that on; a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def store(tmp_path: Path):
    with Answers(tmp_path / "judgments.sqlite") as opened:
        yield opened


def cells(n: int, **more) -> list[Cell]:
    return [Cell(f"r{i}", "", (("user", f"Row {i}"),), **more) for i in range(n)]


# ---- several at once, and interruptions ----------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from methods.judging.kinds import Cell
from resources import judge_run
from resources.answers import Answers
from resources.judge import Judge
judge_run._LOOK_S = 0.05
path, url, first, n = sys.argv[1:]
cells = [Cell(f"r{i}", "", (("user", f"Row {i}"),)) for i in range(int(first), int(n))]
with Answers(Path(path)) as store:
    print("ready", flush=True)
    got = Judge(url=url, model="tiny", key_name="JUDGE_KEY", concurrency=4).ask(cells, store, "q")
    print(sum(answer.status == "ok" for answer in got), store.bill(store.account).answered, flush=True)
"""


def start(store: Path, url: str, n: int, first: int = 0) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT, str(store), url, str(first), str(n)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears
    )


def test_two_processes_at_once_share_the_work_and_buy_each_cell_once(tmp_path: Path) -> None:
    with started(delay_s=0.02) as server:
        running = [start(tmp_path / "j.sqlite", server.url, 120) for _ in range(2)]
        told = [process.communicate(timeout=120) for process in running]
        counted = server.counted
    found = [out.split()[1:] for out, _ in told]
    assert [ok for ok, _ in found] == ["120", "120"], told
    assert counted.calls == 120 and set(counted.whole.values()) == {1}
    assert sum(int(bought) for _, bought in found) == 120


def test_one_that_is_broken_off_keeps_what_it_bought_and_says_so(tmp_path: Path) -> None:
    with started(delay_s=0.3) as server:
        process = start(tmp_path / "j.sqlite", server.url, 400)
        until = time.monotonic() + 60
        while server.counted.answered < 6:
            assert process.poll() is None and time.monotonic() < until, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        counted = server.counted
    assert process.returncode == -signal.SIGINT or "KeyboardInterrupt" in errors, errors
    assert "never retrieved" not in errors and "was destroyed" not in errors
    with Answers(tmp_path / "j.sqlite") as store:
        bill = store.bill()
        # Calls under way at the time were waited for: nothing was paid for in vain.
        assert bill.answered == counted.answered == counted.calls < 100
        assert bill.unanswered == 0
        assert store.claim(cells(1)[0].key({}), 0.0) is True


def test_a_notebook_that_is_interrupted_stops_buying(tmp_path: Path) -> None:
    script = SCRIPT.replace(
        "    got = Judge", "    import asyncio\n    async def notebook():\n        return Judge"
    ).replace('.ask(cells, store, "q")', '.ask(cells, store, "q")\n    got = asyncio.run(notebook())')
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with started(delay_s=0.1) as server:
        words = [sys.executable, "-c", script, str(tmp_path / "j.sqlite"), server.url, "0", "400"]
        process = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears
        )
        until = time.monotonic() + 60
        while server.counted.answered < 6:
            assert process.poll() is None and time.monotonic() < until, process.communicate()
            time.sleep(0.02)
        for _ in range(2):  # the first is the notebook's loop's, which is waiting; the second reaches who waits
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        _, errors = process.communicate(timeout=60)
        counted = server.counted
    assert process.returncode != 0 and counted.calls < 100, errors
    with Answers(tmp_path / "j.sqlite") as store:
        assert store.bill().answered == counted.answered


# ---- models of this process ----------------------------------------------------------------------------------------


def test_the_stand_in_keeps_to_what_is_asked(store: Answers) -> None:
    schema = {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "minimum": 2, "maximum": 3},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 1},
            "fair": {"type": "boolean"},
        },
    }
    stand_in = Judge(model="fake:judge")
    answers = stand_in.ask(cells(20, schema=schema), store, "q") + stand_in.ask(cells(20), store, "q")
    for answer in answers[:20]:
        said = json.loads(answer.text)
        assert said["score"] in (2, 3) and len(said["tags"]) == 1 and isinstance(said["fair"], bool)
    assert all(answer.text.startswith("Score: ") for answer in answers[20:])
    chosen = stand_in.ask(cells(20, choices=("yes", "no")), store, "q")
    assert {answer.text for answer in chosen} == {"yes", "no"}
    assert (
        all(max(answer.logprobs, key=answer.logprobs.get) == answer.text for answer in chosen[:1])
        and store.bill().calls == 60
    )
    assert stand_in.ask(cells(20), store, "q") == answers[20:]


def test_a_small_model_of_this_process_answers_a_cell(store: Answers, tmp_path: Path) -> None:
    size = tiny.tokenizer(tmp_path / "model", bos_token="<|s|>", eos_token="<|e|>")
    tiny.llama(tmp_path / "model", size, max_position_embeddings=128)
    local = Judge(model=f"local:{tmp_path / 'model'}", concurrency=2)
    got = local.ask(cells(2, max_tokens=8) + [Cell("long", "", (("user", "word " * 500),), 8)], store, "q")
    assert [answer.status in (OK, TRUNCATED) for answer in got[:2]] == [True, True]
    assert all(answer.completion_tokens > 0 and answer.text for answer in got[:2])
    assert got[2].status == API_ERROR  # no room for it
    before = local.identity()
    tiny.llama(tmp_path / "model", size, max_position_embeddings=128, hidden_size=16)
    assert local.identity() != before  # the folder holds another model now: it is asked anew


# ---- a real server -------------------------------------------------------------------------------------------------

TEMPLATE = "{% for m in messages %}<|s|>{{ m['role'] }}: {{ m['content'] }}<|e|>{% endfor %}<|s|>assistant: "


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`transformers serve` with a tiny model on loopback: its address and the model's name."""
    if importlib.util.find_spec("fastapi") is None:
        pytest.skip("transformers serve needs fastapi (the extra transformers[serving])")
    folder = tmp_path_factory.mktemp("served")
    size = tiny.tokenizer(folder / "model", bos_token="<|s|>", eos_token="<|e|>", chat_template=TEMPLATE)
    tiny.llama(folder / "model", size, max_position_embeddings=512)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    words = [
        str(program),
        "serve",
        str(folder / "model"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 120
        while not listens(port):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", str(folder / "model")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_real_server_is_asked_and_its_answers_are_kept(store: Answers, transformers_serve: tuple[str, str]) -> None:
    url, model = transformers_serve
    judge = Judge(url=url, model=model, concurrency=2, timeout_s=60)
    asked = cells(3, max_tokens=6) + cells(1, max_tokens=7, schema={"type": "object"}, choices=("1", "2"))
    got = judge.ask(asked, store, "q")
    assert all(answer.status in (OK, TRUNCATED) and answer.text for answer in got), got
    assert all(answer.prompt_tokens > 0 and 0 < answer.completion_tokens <= 7 for answer in got)
    bill = store.bill()
    assert bill.answered == 4 and bill.unanswered == 0
    assert bill.prompt_tokens == sum(answer.prompt_tokens for answer in got)
    assert judge.estimate(cells(3, max_tokens=6), store, "q", worth=lambda *_: OK).calls == 0
