"""Prompt files and questions: finding, filling, hashing, and every question asked and read with a stand-in."""

import asyncio
import inspect
import json

import polars as pl
import pytest

from methods.judging import evolved, labels, prompts, questions, scores
from methods.judging.kinds import OK, Answer, Question, gathered
from methods.judging.prompts import PACKAGE, PromptError
from methods.judging.questions import QUESTIONS
from methods.quality.judge import INDICATORS
from methods.quality.judge_deita import INDICATORS as DEITA
from resources.judge_local import StandIn

IDS = [one.id for one in QUESTIONS]


def message(role, content):
    return {"role": role, "content": content}


def row(row_id, messages, **fields):
    users = [one["content"] for one in messages if one["role"] == "user"]
    answers = [one["content"] for one in messages if one["role"] == "assistant"]
    made = {"row_id": row_id, "source": "toy", "messages": messages, "instruction": users[0] if users else ""}
    return made | {"input": "", "response": "\n\n".join(answers), "turns": len(answers)} | fields


ROWS = pl.DataFrame(
    [
        row("a", [message("user", "Add 2 and 3."), message("assistant", "5")]),
        row(
            "b",
            [
                message("user", "Name a star."),
                message("assistant", "Vega"),
                message("user", "How far is it?"),
                message("assistant", "25 light years"),
            ],
        ),
        row("mute", [message("user", "And now?"), message("assistant", " ")]),
        row("void", [message("assistant", "Good morning")], instruction=""),
    ]
)


def table_of(question, cells, params):
    answers = [asyncio.run(StandIn().ask(cell)) for cell in cells]
    return gathered(ROWS["row_id"].to_list(), cells, answers, lambda said, cell: question.reading(said, cell, **params))


def asked(question, rows=ROWS, **changes):
    params = {**question.params, **changes}
    for name, needed in questions.reads_from(question).items():
        first = questions.question(needed)
        fake = [variants(cell, first.params["count"]) for cell in first.cells(rows, **first.params)]
        cells = first.cells(rows, **first.params)
        ids = rows["row_id"].to_list()
        params[name] = gathered(ids, cells, fake, lambda a, c, first=first: first.reading(a, c, **first.params))
    return question.cells(rows, **params), params


def variants(cell, count):
    return Answer(OK, json.dumps({"variants": [f"form {k} for {cell.row_id} {cell.part}" for k in range(count)]}))


# --- files -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def home(tmp_path):
    (tmp_path / "prompts").mkdir()
    return tmp_path


def write(home, name, text):
    (home / "prompts" / f"{name}.md").write_text(text, encoding="utf-8")


def test_a_file_has_a_head_and_a_question(home):
    write(home, "mine.v1", "Be brief.\n---\nJudge {{ material }} by {{criterion}}.\n")
    prompt = prompts.load("mine.v1", home)
    assert (prompt.system, prompt.places) == ("Be brief.", {"material", "criterion"})
    filled = prompt.fill(material="M", criterion="wit")
    assert filled == (("system", "Be brief."), ("user", "Judge M by wit."))


def test_what_is_filled_in_is_not_filled_again(home):
    write(home, "mine.v1", "---\n{{material}} / {{criterion}}")
    assert prompts.load("mine.v1", home).fill(material=r"{{criterion}} \1", criterion="{{material}}") == (
        ("user", r"{{criterion}} \1 / {{material}}"),
    )


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        ("a\n---\n{{material}} {{tone}}", {"material": "x"}, "tone"),
        ("a\n---\n{{material}}", {"material": "x", "tone": "y"}, "tone"),
        ("only one part {{material}}", {"material": "x"}, "three dashes"),
        ("a\n---\n \n", {}, "nothing is asked"),
        ("a\n---\n{{bad name}}", {}, "bad name"),
    ],
)
def test_an_error_names_the_file_and_the_place(home, text, values, says):
    write(home, "mine.v1", text)
    with pytest.raises(PromptError, match=says) as caught:
        prompts.load("mine.v1", home).fill(**values)
    assert "mine.v1.md" in str(caught.value)


def test_an_error_does_not_repeat_what_was_filled_in(home):
    write(home, "mine.v1", "---\n{{tone}}")
    with pytest.raises(PromptError) as caught:
        prompts.load("mine.v1", home).fill(material="a secret row")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret", "a/b", "", "..", "a..b", "a\n", "/etc/passwd", "nosuch.v1"])
def test_a_name_that_is_none(name, home):
    with pytest.raises(PromptError):
        prompts.load(name, home)


def test_the_home_comes_first_and_the_hash_follows_the_words(home):
    before = prompts.content_hash(["rubric.v1", "lift.v1"])
    assert prompts.content_hash(["rubric.v1", "lift.v1"], home) == before
    assert prompts.content_hash(["lift.v1", "rubric.v1"]) != before
    write(home, "rubric.v1", "Be kind.\n---\n{{material}}{{criterion}}{{low}}{{high}}")
    assert prompts.content_hash(["rubric.v1", "lift.v1"], home) != before
    cells = questions.question("rubric").cells
    with prompts.using(home):
        assert cells(ROWS)[0].messages[0] == ("system", "Be kind.")
        assert prompts.find("lift.v1").parent == PACKAGE
    assert cells(ROWS)[0].messages[0] != ("system", "Be kind.")
    assert prompts.content_hash(["rubric.v1", "lift.v1"]) == before


def test_line_ends_do_not_change_the_hash(home):
    write(home, "mine.v1", "a\n---\nb")
    before = prompts.content_hash(["mine.v1"], home)
    (home / "prompts" / "mine.v1.md").write_bytes(b"\xef\xbb\xbfa\r\n---\r\nb\r\n")
    assert prompts.content_hash(["mine.v1"], home) == before


# --- questions -------------------------------------------------------------------------------------------------------
def test_ids_and_prompt_files_are_what_the_list_says():
    assert len(set(IDS)) == len(IDS)
    assert len({prompts.content_hash(one.prompts) for one in QUESTIONS}) == len(QUESTIONS)
    with pytest.raises(questions.UnknownQuestion, match="alpagasus"):
        questions.question("alpagasos")
    needed = {need.removeprefix(questions.ASSET) for one in (*INDICATORS, *DEITA) for need in one.needs}
    assert needed - {"evidence/text_counts"} <= set(IDS)


@pytest.mark.parametrize("question", QUESTIONS, ids=IDS)
def test_params_are_the_arguments(question: Question):
    for function, views in ((question.cells, 1), (question.read, 2)):
        named = list(inspect.signature(function).parameters.values())[views:]
        assert {one.name for one in named} == set(question.params), function
    named = list(inspect.signature(question.cells).parameters.values())[1:]
    assert {one.name: one.default for one in named} == dict(question.params)
    assert json.loads(json.dumps(dict(question.params)))


MARKED = (*scores.QUESTIONS, *labels.QUESTIONS, *evolved.QUESTIONS)
"""Those that have a judge read a row; others have it answer the row's own prompt, and have tests of their own."""


@pytest.mark.parametrize("question", MARKED, ids=[one.id for one in MARKED])
def test_every_question_is_asked_and_read(question: Question):
    cells, params = asked(question)
    assert [cell.row_id for cell in cells] == sorted((cell.row_id for cell in cells), key="ab mute void".find)
    assert {"a", "b"} <= {cell.row_id for cell in cells} <= {"a", "b", "mute"}
    for cell in cells:
        roles = [role for role, _ in cell.messages]
        assert roles == ["system", "user"]
        assert "{{" not in cell.messages[1][1]
        assert "material" in cell.messages[1][1]
    if question.id == "humpback" or question.id.startswith("deita_variants"):
        return  # the stand-in does not give its reasons first, nor different texts
    table = table_of(question, cells, params)
    assert table.filter(pl.col("row_id").is_in(["a", "b"]))["status"].to_list() == ["ok", "ok"], table[
        "answers"
    ].to_list()
    assert table.filter(pl.col("row_id") == "void")["status"].item() == "empty_response"


@pytest.mark.parametrize("question", QUESTIONS, ids=IDS)
def test_nothing_to_ask(question: Question):
    assert asked(question, ROWS.head(0))[0] == []


def test_dimensions_and_repeats_are_cells_of_their_own():
    cells, _ = asked(
        questions.question("alpagasus"), dimensions=["accuracy", "helpfulness"], repeats=2, temperature=1.0
    )
    assert [cell.part for cell in cells[:4]] == ["accuracy", "accuracy~2", "helpfulness", "helpfulness~2"]
    assert len({cell.key({}) for cell in cells}) == len(cells) == 8
    assert "helpfulness" in cells[2].messages[1][1] and "accuracy" not in cells[2].messages[1][1]
    alone, _ = asked(questions.question("alpagasus"), dimensions="wit")
    assert [cell.part for cell in alone] == ["wit", "wit"]
    with pytest.raises(ValueError, match="repeats"):
        asked(questions.question("alpagasus"), repeats=0)


def test_a_score_from_the_chances():
    question = questions.question("alpagasus")
    cells, params = asked(question, expected=True)
    assert cells[0].choices == ("0", "1", "2", "3", "4", "5")
    sure = Answer(OK, "4", {"4": -0.6931471805599453, "5": -0.6931471805599453})
    read = question.reading(sure, cells[0], **params)
    assert (read.value, read.fields) == (pytest.approx(4.5), {"read_from": "logprobs", "said": 4.0})
    for chances in ({}, {"4": -5.0}, {"4": float("nan")}):
        read = question.reading(Answer(OK, "4", chances), cells[0], **params)
        assert (read.value, read.fields) == (4.0, {"read_from": "text"})
    assert question.reading(Answer(OK, "4 or 5", {"4": 0.0}), cells[0], **params).status == "parse_error"


def test_a_cut_answer_is_read_where_its_first_line_is_whole():
    question = questions.question("alpagasus")
    cells, params = asked(question)
    assert question.reading(Answer("truncated", "4\nbecause it"), cells[0], **params).value == 4.0
    assert question.reading(Answer("truncated", "4"), cells[0], **params).status == "truncated"
    assert question.reading(Answer("truncated", ""), cells[0], **params).status == "truncated"
    last = questions.question("humpback")
    assert last.reading(Answer("truncated", "so\nScore: 5"), last.cells(ROWS)[0]).status == "truncated"


# --- DEITA -----------------------------------------------------------------------------------------------------------
def test_the_ranking_reads_the_variants_and_finds_its_own():
    question = questions.question("deita_quality")
    assert questions.reads_from(question) == {"variants": "deita_variants_quality"}
    cells, params = asked(question)
    assert [cell.part.partition(":")[0] for cell in cells] == ["1", "1", "2"]
    cell = cells[-1]
    letters = list(cell.schema["properties"])
    assert len(letters) == 6
    own = cell.part.partition(":")[2]
    after = cell.messages[1][1].split(f"response {own}>>>\n")[1]
    assert after.startswith("25 light years\n")
    scores = {letter: 1 + at for at, letter in enumerate(letters)}
    read = question.reading(Answer(OK, json.dumps(scores)), cell, **params)
    assert (read.value, read.fields["own"]) == (scores[own], own)
    short = question.reading(Answer(OK, json.dumps({**scores, "B": 7})), cell, **params)
    assert short.status == "parse_error"
    del scores[letters[0]]
    assert question.reading(Answer(OK, json.dumps(scores)), cell, **params).status == "parse_error"


def test_a_row_whose_variants_are_not_all_there_is_not_scored():
    first, second = questions.question("deita_variants_complexity"), questions.question("deita_complexity")
    cells = first.cells(ROWS)
    answers = [Answer("refused") if cell.part == "2" else variants(cell, 4) for cell in cells]
    ids = ROWS["row_id"].to_list()
    table = gathered(ids, cells, answers, lambda said, cell: first.reading(said, cell, **first.params))
    assert [cell.row_id for cell in second.cells(ROWS, variants=table)] == ["a", "mute"]
    assert [cell.row_id for cell in second.cells(ROWS, variants=table, turns="first")] == ["a", "b", "mute"]
    with pytest.raises(ValueError, match="variants must be the table"):
        second.cells(ROWS)
    with pytest.raises(ValueError, match="turns must be"):
        second.cells(ROWS, variants=table, turns="last")


def test_the_order_of_variants_hangs_on_the_texts_alone():
    places = [evolved.drawn([f"own {k}", "x", "y", "z", "w"]).index(f"own {k}") for k in range(200)]
    assert all(places.count(place) > 15 for place in range(5))
    assert evolved.drawn(["a", "b", "c"]) == evolved.drawn(["a", "b", "c"])


def test_labels_are_those_that_were_offered():
    level = questions.question("education_level")
    cell = level.cells(ROWS)[0]
    read = level.reading(Answer(OK, '{"level": "High School"}'), cell, **level.params)
    assert (read.value, read.fields) == (3.0, {"level": "high school"})
    assert level.reading(Answer(OK, '{"level": "kindergarten"}'), cell, **level.params).status == "parse_error"
    task = questions.question("task")
    read = task.reading(Answer(OK, "coding"), cell, **task.params)
    assert (read.value, read.fields) == (None, {"task": "coding"})
    domain = questions.question("domain")
    read = domain.reading(Answer(OK, '{"domains": ["Contract  Law", "contract law"]}'), cell, **domain.params)
    assert read.fields == {"domains": ["contract law"]}
    for wrong in ('{"domains": []}', '{"domains": ["a", "b", "c", "d"]}', '{"domains": "law"}', '{"domains": [1]}'):
        assert domain.reading(Answer(OK, wrong), cell, **domain.params).status == "parse_error"
