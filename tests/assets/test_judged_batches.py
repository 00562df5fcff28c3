"""Tables of a judge in batch mode: handed in, waiting, taken up by what the sensor asks for."""

import shutil
from pathlib import Path

import pytest

from assets import judged
from assets.expectations import SuiteResult
from assets.partitions import SOURCES
from methods.judging.kinds import OK
from resources.answers import Answers
from resources.judge import Judge
from resources.judge_batch import Batches, client
from resources.judge_bill import store_path
from sensors import batches as sensing
from tests.asking import ASKED, Home, count_calls, said
from tests.house import alpaca, lines
from tests.provider import provider


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    count_calls(monkeypatch)
    monkeypatch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one source of twelve rows, filtered."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assets.checks.run_suite", lambda *_: SuiteResult())
        return Home(folder / "home", lines(folder / "a.jsonl", [alpaca(i) for i in range(12)]))


@pytest.fixture
def home(twelve: Home, tmp_path: Path) -> Home:
    shutil.copytree(twelve.lake.home, tmp_path / "home")
    copy = Home(tmp_path / "home")
    copy.instance.add_dynamic_partitions(SOURCES.name, ["a"])
    return copy


def test_a_batch_from_the_step_through_the_sensor_to_the_table(home: Home) -> None:
    with provider() as there:
        judge = Judge(model="judge-1", url=there.url, tries=1)
        first = home.ask(judge=judge, params={"judge": {"batch": True, "max_calls": 9}})
        assert first.success and len(there.requests("batch-0")) == 9
        assert sorted(home.table()["status"]) == ["not_asked"] * 3 + ["pending"] * 9
        (batch,) = home.facts()["waits for"]
        version = home.version()
        # Asked for again before it is done: nothing is handed in twice, by either way of asking.
        again = home.ask(judge=judge, params={"judge": {"batch": True, "max_calls": 0}})
        assert again.success and len(there.batches) == 1 and home.version() == version
        there.finish("batch-0", edit=lambda found: found[:-1])
        with Answers(store_path(home.lake.home)) as store, Batches(store_path(home.lake.home), store) as batches:
            collected, problems = sensing.look_after(batches, home.lake.home, client)
        assert (collected[0].batch, collected[0].answers, collected[0].failed, problems) == (batch, 9, 1, [])
        (table,) = sensing.ready(home.lake, [judged.key_of("toy")], [])
        config = sensing.request(home.lake, table, []).run_config["resources"]["settings"]["config"]
        taken = home.ask(judge=judge, **config)
        assert taken.success and not ASKED and len(there.batches) == 1
        assert sorted(home.table()["status"]) == ["api_error"] + ["not_asked"] * 3 + [OK] * 8
        assert home.facts()["cells open"] == 4 and home.facts()["waits for"] == []
        assert sensing.ready(home.lake, [judged.key_of("toy")], []) == []
        # What is left goes into the next batch, and only that.
        assert home.ask(judge=judge, params={"judge": {"batch": True}}).success
        assert len(there.requests("batch-1")) == 4
        there.batches["batch-1"]["status"] = "expired"
        with Answers(store_path(home.lake.home)) as store, Batches(store_path(home.lake.home), store) as batches:
            assert sensing.look_after(batches, home.lake.home, client)[0][0].freed == 4
        home.ask(judge=judge, **config)
        assert sorted(home.table()["status"]) == ["api_error"] + ["not_asked"] * 3 + [OK] * 8


def test_a_provider_without_batches_fails_with_a_sentence(home: Home) -> None:
    with provider() as there:
        there.refuse["files"] = 404
        result = home.ask(judge=Judge(model="judge-1", url=there.url), params={"judge": {"batch": True}})
    assert not result.success and "takes no batch" in said(result) and "topic number" not in said(result)
    for model in ("fake:judge", "local:embedded:smollm2"):
        result = home.ask(judge=Judge(model=model), params={"judge": {"batch": True}})
        assert not result.success and "takes no batches" in said(result)
