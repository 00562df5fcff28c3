"""From drawn rows to tasks, and the key that raters do not see."""

from pathlib import Path

import polars as pl
import pytest

from methods.humans import tasks
from methods.humans.sample import CELLS_SCHEMA, Sample
from methods.humans.tasks import BadKey, Key


def test_tasks_are_shuffled_together() -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = pl.DataFrame({"row_id": [f"r{i}" for i in range(20)], "messages": [said] * 20})
    planted = [{"row_id": f"p{i}", "messages": said} for i in range(4)]
    made = tasks.rating_tasks(rows, planted, seed=1)
    order = [task.id for task in made]
    assert sorted(order) == sorted([*rows["row_id"], *(p["row_id"] for p in planted)])
    assert not all(name.startswith("p") for name in order[-4:]) and order != sorted(order)
    assert made == tasks.rating_tasks(rows, planted, seed=1)
    assert tasks.audit_id(made) != tasks.audit_id(tasks.rating_tasks(rows, planted, seed=2))


def test_rankings_are_of_different_answers_to_one_question() -> None:
    pairs = [("q1", "a"), ("q1", "b"), ("q1", "a"), ("q2", "a"), ("q3", "x"), ("q3", "y"), ("q3", "z")]
    said = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    rows = pl.DataFrame({"row_id": [f"r{i}" for i in range(7)], "messages": said})
    found = {task.messages[0][1]: sorted(row for row, _ in task.replies) for task in tasks.ranking_tasks(rows, 9, 0)}
    assert found == {"q1": ["r0", "r1"], "q3": ["r4", "r5", "r6"]}
    (one,) = tasks.ranking_tasks(rows, 1, 0, most=2)
    assert len(one.replies) == 2


def key() -> Key:
    rows = pl.DataFrame({"row_id": ["r1"], "source": ["a"], "stratum": ["all"]})
    cells = pl.DataFrame([("a", "all", 9, 1)], schema=CELLS_SCHEMA, orient="row")
    planted = ({"row_id": "p", "prompt_of": "x", "answer_of": "y", "messages": "SECRET"},)
    return Key("abc", "T", "2024-01-01", {"by": "random"}, Sample(rows, cells), planted)


def test_the_key_comes_back_sealed_and_without_text(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(key().dump())
    found = Key.load(tmp_path / "k.json")
    assert found.audit == "abc" and found.planted == ({"row_id": "p", "prompt_of": "x", "answer_of": "y"},)
    assert found.sample.cells.equals(key().sample.cells) and "SECRET" not in key().dump()


@pytest.mark.parametrize("text", [key().dump().replace('"p"', '"r1"'), "{", "[]", "{}", '{"seal": 1, "version": 9}'])
def test_a_key_that_was_changed_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(BadKey, match=r"k\.json"):
        Key.load(tmp_path / "k.json")
