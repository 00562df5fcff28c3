"""What raters are given and what comes back: the page in a real browser, Label Studio, Argilla, and bad files."""

import json
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.humans import exports, imports, rendering, tasks
from methods.humans.imports import read_folder, read_text
from methods.humans.tasks import Audit, Task
from methods.quality import human

ARABIC, CHINESE = "السد حاجز يُقام على مجرى مائي 123.", "春天来了，公园里的花都开了。"
NASTY = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script></script><!-- {{style}} ${1} \u2028 &amp; \ud800'
TASKS = (
    Task("r1", (("user", "What is a sluice?"), ("assistant", "A gate for water."))),
    Task("r2", (("system", "Be terse."), ("user", ARABIC), ("assistant", CHINESE))),
    Task("r3", (("user", NASTY), ("assistant", NASTY))),
    Task("ranking-1", (("user", "Name a river."),), (("p", "The Rhine."), ("q", "The Danube."), ("s", "River?"))),
)
AUDIT = Audit("abc123", 'Audit "1" <b>& more</b>', TASKS)
DIMENSIONS = {dimension.name for dimension in human.DIMENSIONS}


def values(found: imports.Imported) -> dict[tuple[str, str, str], float]:
    return {
        (row, rater, name): v
        for row, rater, name, v in found.labels.select("row_id", "rater", "dimension", "value").rows()
    }


# ---- the page -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The audit in a tab without a network; it may not complain of anything."""
    (tmp_path / "page.html").write_text(rendering.render(AUDIT), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1360, "height": 900}, offline=True)
    tab = context.new_page()
    tab.set_default_timeout(10_000)
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    tab.goto((tmp_path / "page.html").as_uri())
    yield tab
    assert said == []
    context.close()


def begin(page: Any, name: str = "Ann Bé") -> None:
    page.fill("#rater", name)
    page.keyboard.press("Enter")


def keys(page: Any, text: str) -> None:
    for key in text.split():
        page.keyboard.press(key)


def downloaded(page: Any, tmp_path: Path) -> imports.Imported:
    with page.expect_download() as waiting:
        page.click("#download")
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    return read_text(file.name, file.read_bytes())


def test_a_rater_works_through_the_audit_by_keyboard_and_the_labels_come_back(page: Any, tmp_path: Path) -> None:
    begin(page)
    assert page.is_disabled("#next")
    keys(page, "n n 2 j 4 5 3 2 1 1 Enter")  # spam, fails, a flag, six scales
    assert page.inner_text(".where") == "2 of 4"
    keys(page, "y Enter")  # spam needs nothing else
    assert page.inner_text(".where") == "3 of 4"
    page.click("fieldset[data-name=quality] input[value='0.5']")
    keys(page, "s")
    page.click(".ranking li:nth-child(2) .up")
    page.click(".ranking li:nth-child(3) .tie")
    page.click("text=This is my ranking")
    found = downloaded(page, tmp_path)
    assert found.problems.height == 0 and set(found.labels["rater"]) == {"Ann Bé"}
    assert found.labels["timestamp"].null_count() == 0
    said = values(found)
    first = {name: value for (row, _, name), value in said.items() if row == "r1"}
    assert first.keys() == DIMENSIONS
    wanted = {"spam": 0, "fails_task": 0, "pii": 1, "quality": 0.75, "helpfulness": 1, "creativity": 0.5, "humor": 0.25}
    assert {name: first[name] for name in wanted} == wanted
    assert sum(first[flag.name] for flag in human.DIMENSIONS if flag.kind == "flag") == 1
    assert {name for row, _, name in said if row == "r2"} == {"spam"} | set(exports_flags())
    assert {name: v for (row, _, name), v in said.items() if row == "r3"} == {"quality": 0.5}  # not done: no flags
    ranks = found.labels.filter(dimension="rank").select("row_id", "group", "value").sort("row_id").rows()
    assert ranks == [("p", "ranking-1", 2.0), ("q", "ranking-1", 1.0), ("s", "ranking-1", 2.0)]


def exports_flags() -> list[str]:
    return [dimension.name for dimension in human.DIMENSIONS if dimension.kind == "flag"]


def test_moving_an_answer_leaves_the_ties_of_others(page: Any, tmp_path: Path) -> None:
    begin(page)
    keys(page, "s s s")
    page.click(".ranking li:nth-child(2) .tie")
    assert page.locator(".ranking .place").all_inner_texts() == ["1", "1", "3"]
    page.click(".ranking li:nth-child(3) .up")
    assert page.locator(".ranking .place").all_inner_texts() == ["1", "2", "3"]
    page.click(".ranking li:nth-child(3) .tie")
    page.click(".ranking li:nth-child(3) .tie")
    assert page.locator(".ranking .text").all_inner_texts() == ["The Rhine.", "River?", "The Danube."]
    assert downloaded(page, tmp_path).labels.is_empty()  # nobody said that this is the ranking


def test_work_is_kept_for_who_comes_back_and_for_nobody_else(page: Any, tmp_path: Path) -> None:
    begin(page)
    keys(page, "n n")
    page.reload()
    begin(page, "Ben")
    assert page.locator("input:checked").count() == 0
    page.reload()
    begin(page)
    assert page.locator("input:checked").count() == 2
    assert {name for _, _, name in values(downloaded(page, tmp_path))} == {"spam", "fails_task"}


def test_rows_are_text_and_never_markup(page: Any) -> None:
    begin(page)
    keys(page, "s s")
    shown = page.locator(".judged .text")
    assert shown.text_content().startswith('<img src=x onerror="window.hacked=1"><script>')
    assert "</script><!-- {{style}} ${1} \u2028 &amp;" in shown.text_content()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0
    assert page.title() == AUDIT.title and page.text_content("#title") == AUDIT.title


def test_scripts_of_either_direction_and_both_colours(page: Any) -> None:
    begin(page)
    keys(page, "s")
    arabic, chinese = page.locator(".text").nth(1), page.locator(".judged .text")
    assert (arabic.text_content(), chinese.text_content()) == (ARABIC, CHINESE)
    direction = "element => getComputedStyle(element).direction"
    assert (arabic.evaluate(direction), chinese.evaluate(direction)) == ("rtl", "ltr")
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) != before
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_guidelines_stand_beside_each_question(page: Any) -> None:
    begin(page)
    for name in [d.name for d in human.DIMENSIONS if d.kind != "flag"] + ["flags"]:
        assert page.locator(f"fieldset[data-name={name}] .hint").count() == 1
    keys(page, "g")
    assert "Personal data" in page.inner_text("dialog") and "{#" not in page.inner_text("dialog")
    page.click("#close")
    assert page.locator("dialog[open]").count() == 0


def test_the_page_says_nothing_of_where_rows_come_from() -> None:
    text = rendering.render(AUDIT)
    for word in ("planted", "prompt_of", "stratum", "http:", "https:"):
        assert word not in text
    assert json.loads(text.partition('id="data">')[2].partition("</script>")[0])["tasks"][0]["id"] == "r1"


def test_guidelines_cover_every_dimension() -> None:
    intro, found = tasks.sections(AUDIT.guidelines)
    assert {section.name for section in found} == DIMENSIONS | {"flags", "rank"}
    assert all(section.text for section in found) and "last answer" in intro


# ---- Label Studio -------------------------------------------------------------------------------------------------------


def studio(row: str, who: Any, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A task as Label Studio exports it."""
    result = [
        {
            "from_name": name,
            "to_name": "conversation",
            "type": "rating" if isinstance(value, int) else "choices",
            "value": {"rating": value} if isinstance(value, int) else {"choices": value},
        }
        for name, value in answers.items()
    ]
    annotation = {"id": 7, "completed_by": who, "result": result, "updated_at": "2024-05-01T10:00:00.123456Z", **more}
    return {"id": 1, "data": {"row_id": row}, "annotations": [annotation]}


def test_label_studios_interface_names_what_the_import_reads() -> None:
    root = xml.fromstring(exports.label_studio_config(AUDIT))
    named = {node.get("name") for node in root if node.tag in ("Choices", "Rating")}
    scales = {d.name for d in human.DIMENSIONS if d.kind != "flag"}
    assert named == scales | {"flags"}
    assert {c.get("value") for c in root.find("Choices[@name='flags']")} == set(exports_flags())
    assert {node.get("maxRating") for node in root.iter("Rating")} == {"5"}
    first, *_ = exports.label_studio_tasks(AUDIT)
    assert first["data"]["row_id"] == "r1" and first["data"]["conversation"][1] == {
        "role": "assistant",
        "text": "A gate for water.",
    }
    assert len(exports.label_studio_tasks(AUDIT)) == 3  # rankings are the page's


def test_label_studios_export_comes_back() -> None:
    answers = {"spam": ["no"], "quality": 4, "flags": ["pii"], "toxicity": 1, "else": ["x"]}
    done = [
        studio("r1", 5, answers),
        studio("r2", {"id": 6, "email": "someone@example.org"}, {"spam": ["yes"]}),
        studio("r3", 5, {"spam": ["no"]}, was_cancelled=True),
    ]
    found = read_text("export.json", json.dumps(done).encode())
    said = values(found)
    assert found.problems.height == 0
    who = "label-studio-5"
    assert (said["r1", who, "quality"], said["r1", who, "spam"], said["r1", who, "pii"]) == (0.75, 0, 1)
    assert said["r1", who, "hate_speech"] == 0 and said["r2", "label-studio-6", "lang_mismatch"] == 0
    assert not [key for key in said if key[0] == "r3"] and "example" not in str(said)
    short = {"row_id": "r1", "annotation_id": 1, "annotator": 5, "spam": "no", "quality": 4, "toxicity": 1}
    for flags in ("pii", {"choices": ["pii"]}, '{"choices": ["pii"]}'):
        again = read_text(
            "min.json", json.dumps([{**short, "flags": flags, "updated_at": "2024-05-01T10:00:00Z"}]).encode()
        )
        assert values(again) == {key: value for key, value in said.items() if key[0] == "r1"}


# ---- Argilla ------------------------------------------------------------------------------------------------------------


def test_argillas_records_come_back() -> None:
    record, *_ = exports.argilla_records(AUDIT)
    responses = {
        "spam": [{"value": "no", "user_id": "u1"}, {"value": "yes", "user_id": "u2"}],
        "quality": [{"value": 4, "user_id": "u1"}],
        "flags": [{"value": ["pii"], "user_id": "u1"}],
        "humor": [{"value": 1, "user_id": "u3", "status": "draft"}],
    }
    found = read_text("records.json", json.dumps([{**record, "responses": responses, "status": "completed"}]).encode())
    said = values(found)
    assert found.problems.height == 0
    assert (said["r1", "argilla-u1", "quality"], said["r1", "argilla-u1", "pii"]) == (0.75, 1)
    assert said["r1", "argilla-u2", "spam"] == 1 and not [key for key in said if key[1] == "argilla-u3"]
    old = [
        {
            "user_id": "u1",
            "status": "submitted",
            "values": {name: {"value": v[0]["value"]} for name, v in responses.items() if name != "humor"},
        },
        {"user_id": "u3", "status": "discarded", "values": {}},
    ]
    again = values(read_text("old.json", json.dumps([{**record, "responses": old}]).encode()))
    assert again == {key: value for key, value in said.items() if key[1] == "argilla-u1"}


def test_argillas_settings_ask_for_what_the_import_reads() -> None:
    asked = {question["name"]: question for question in exports.argilla_settings(AUDIT)["questions"]}
    assert asked.keys() == {d.name for d in human.DIMENSIONS if d.kind != "flag"} | {"flags"}
    assert [option["value"] for option in asked["quality"]["settings"]["options"]] == [1, 2, 3, 4, 5]
    assert [option["value"] for option in asked["flags"]["settings"]["options"]] == exports_flags()


# ---- one label a line ---------------------------------------------------------------------------------------------------


def test_lines_by_any_of_their_names_and_forms() -> None:
    text = (
        '{"row_id": "r", "rater": "a", "dimension": "quality", "value": 0.75, "timestamp": "2024-05-01T12:00:00+02:00"}\n\n'
        '{"sample": "r", "annotator": 3, "dim": "politeness", "value": 5, "scale": 5, "ts": 1714557600}\n'
        '{"sample": "r", "rater": "a", "dimension": "spam", "value": "Yes", "ts": 1714557600000}\n'
        '{"sample": "r", "rater": "a", "dimension": "own", "value": false}\n'
    )
    found = read_text("a.jsonl", text.encode("utf-8-sig"))
    assert values(found) == {
        ("r", "a", "quality"): 0.75,
        ("r", "3", "toxicity"): 0,
        ("r", "a", "spam"): 1,
        ("r", "a", "own"): 0,
    }
    assert found.labels["timestamp"].drop_nulls().n_unique() == 1 and found.labels["line"].to_list() == [1, 3, 4, 5]
    table = "sample,rater,dim,value,ts\nr,a,quality,0.75,2024-05-01T10:00:00Z\nr,a,humor,,\n"
    csv = read_text("a.csv", table.encode())
    assert values(csv) == {("r", "a", "quality"): 0.75}
    assert csv.problems.select("line").to_series().to_list() == [3]


GOOD = {"row_id": "r", "rater": "a", "dimension": "quality", "value": 0.5}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"value": 4}, "between 0 and 1"), ({"value": "SECRET"}, "no number"), ({"value": None}, "no value"),
        ({"value": float("nan")}, "not finite"), ({"value": 10**400}, "not finite"), ({"value": 6, "steps": 5}, "no step"),
        ({"value": 1, "steps": 1}, "whole number"), ({"rater": ""}, "no rater"), ({"row_id": None}, "no row_id"),
        ({"dimension": "SECRET" * 99}, "longer"), ({"timestamp": "SECRET"}, "ISO 8601"), ({"rater": "\ud800"}, "valid text"),
        ({"dimension": "rank", "value": 1}, "group"), ({"dimension": "rank", "value": 0, "group": "g"}, "from 1"),
        ({"annotations": 1, "data": {"row_id": "r"}}, "export of the tool"), ({"annotation_id": 1}, "no annotator"),
        ({"responses": [1], "fields": {}, "id": "r"}, "export of the tool"),
        ({"annotations": [], "data": []}, "export of the tool"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_holds_nobody_up(change: dict[str, Any], why: str) -> None:
    lines = [json.dumps(GOOD), json.dumps({**GOOD, **change}), json.dumps({**GOOD, "rater": "b"})]
    found = read_text("f.jsonl", "\n".join(lines).encode())
    assert set(found.labels["rater"]) == {"a", "b"}
    ((file, line, detail),) = found.problems.rows()
    assert (file, line) == ("f.jsonl", 2) and why in detail and "SECRET" not in detail


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.recursive(
                st.none() | st.integers() | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["row_id", "data", "annotations", "responses", "fields", "value", "id"]),
                        inner,
                        max_size=5,
                    )
                ),
                max_leaves=8,
            ).map(lambda v: json.dumps(v).encode()),
        ),
        max_size=5,
    ),
    st.sampled_from([".jsonl", ".json", ".csv"]),
)
@settings(max_examples=150, deadline=None)
def test_nothing_that_is_sent_breaks_the_import(parts: list[bytes], suffix: str) -> None:
    found = read_text("f" + suffix, b"\n".join(parts))
    assert found.labels.schema == human.LABEL_SCHEMA and found.problems.schema == imports.PROBLEM_SCHEMA


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, value in (("b.jsonl", 1), ("a.jsonl", 0), (".c.jsonl", 0.5), ("notes.txt", 0.5)):
        (tmp_path / name).write_text(json.dumps({**GOOD, "value": value}))
    (tmp_path / "bad.json").write_bytes(b"\xff[")
    found = read_folder(tmp_path)
    assert found.labels["file"].to_list() == ["a.jsonl", "b.jsonl"] and found.problems["file"].to_list() == ["bad.json"]
    assert human.with_current(found.labels).filter("current")["value"].to_list() == [1.0]
    assert read_folder(tmp_path / "absent").labels.height == 0
