"""BSDetector by hand: who is asked what, the confidence, which answers are replaced, and where a new one is written."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.judging import detecting
from methods.judging.detecting import QUESTIONS, SAMPLES, candidate, conversation, folded, own_answer, whole_samples
from methods.judging.kinds import JUDGMENTS_SCHEMA, OK, PARSE_ERROR, TRUNCATED, Answer, gathered
from methods.kinds import Pool
from methods.quality.bsdetector import (
    AUTO_CORRECT,
    CORRECTED,
    CORRECTED_SCHEMA,
    EVIDENCE_SCHEMA,
    INDICATORS,
    auto_correct,
    bsdetector,
    by_embeddings,
    confidence,
    corrected,
    evidence,
    lineage,
    observed,
    preference,
    threshold,
    with_answer,
    with_correction,
)
from methods.selection.aggregate import gate

DETECT, CHOICE = QUESTIONS
TALK = [
    ("system", "Be brief."),
    ("user", "Q1"),
    ("assistant", "A1"),
    ("user", "Q2"),
    ("assistant", "A2"),
    ("user", "Q3"),
]


def row(row_id="a", instruction="What is 2 + 2?", response="4", messages=None, given_input=""):
    messages = messages if messages is None else [{"role": role, "content": said} for role, said in messages]
    return {
        "row_id": row_id, "source": "s", "messages": messages, "instruction": instruction, "input": given_input,
        "response": response, "turns": 1,
    }  # fmt: skip


def table(*rows):
    said = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    return pl.DataFrame(list(rows), schema_overrides={"messages": said})


def judged(rows, answers, question=DETECT, **params):
    """The table that a judge with these answers leaves: a text, or an `Answer`, for each part without its number."""
    cells = question.cells(rows, **{**question.params, **params})
    said = [answers[cell.row_id].get(cell.part, answers[cell.row_id].get(cell.part.split("~")[0])) for cell in cells]
    given_ = [one if isinstance(one, Answer) else Answer(OK, one) for one in said]
    return gathered(rows["row_id"].to_list(), cells, given_, lambda a, c: question.reading(a, c, **question.params))


def verdict(word):
    return json.dumps({"verdict": word})


# ---- the question ---------------------------------------------------------------------------------------------------


def test_the_prompt_is_asked_as_it_is_and_often():
    rows = table(
        row(),
        row("b", "Add.", "5", given_input="2 and 3"),
        row("c", "Q", " "),
        row("d", messages=TALK, response="A1\n\nA2"),
    )
    cells = DETECT.cells(rows, **DETECT.params)
    assert [c.part for c in cells if c.row_id == "a"] == [
        "sample", "sample~2", "sample~3", "sample~4", "sample~5", "reflection:1", "reflection:2",
    ]  # fmt: skip
    samples = [c for c in cells if c.part.startswith("sample")]
    assert {(c.temperature, c.max_tokens) for c in samples} == {(1.0, 512)} and samples[1].repeat == 1
    assert len({c.key({}) for c in cells}) == len(cells) and {c.row_id for c in cells} == {"a", "b", "d"}
    first = {c.row_id: c.messages for c in samples if c.part == "sample"}
    assert first["a"] == (("user", "What is 2 + 2?"),) and first["b"] == (("user", "Add.\n2 and 3"),)
    assert first["d"] == (("system", "Be brief."), ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"))
    reflections = [c for c in cells if c.part.startswith("reflection") and c.row_id == "a"]
    assert {c.temperature for c in reflections} == {0.0} and reflections[0].messages != reflections[1].messages
    assert all("<<<" in c.messages[-1][1] and "4" in c.messages[-1][1] for c in reflections)
    assert len(DETECT.cells(rows, **{**DETECT.params, "samples": 2, "reflections": 3})) == 15
    with pytest.raises(ValueError, match="reflections must be from 1 to 3"):
        DETECT.cells(rows, **{**DETECT.params, "reflections": 4})


def test_what_tools_say_is_written_into_one_message():
    tools = [("user", "Weather?"), ("tool_call", "get()"), ("tool", "rain"), ("assistant", "It rains.")]
    one = row(messages=tools, response="It rains.")
    assert (
        conversation(one) == (("user", "User: Weather?\n\nCall: get()\n\nResult: rain"),)
        and own_answer(one) == "It rains."
    )
    assert DETECT.cells(table(row(messages=[("user", "Q"), ("assistant", "")], response="x")), **DETECT.params) == []


def test_readings():
    sample, *_, reflection = DETECT.cells(table(row()), **DETECT.params)

    def read(cell, text, status=OK):
        got = DETECT.reading(Answer(status, text), cell, **DETECT.params)
        return got.status, got.value, dict(got.fields)

    assert read(sample, "Four.") == (OK, None, {}) and read(sample, "I am sorry.")[0] == OK
    assert read(sample, "Four and", TRUNCATED) == (OK, None, {"cut": True})
    assert read(sample, "  ")[0] == PARSE_ERROR and read(sample, "<think>never ends", TRUNCATED)[0] == PARSE_ERROR
    assert read(sample, "", "refused")[0] == "refused"
    for word, value in {"correct": 1.0, "not sure": 0.5, "wrong": 0.0}.items():
        assert read(reflection, verdict(word)) == (OK, value, {"verdict": word})
    assert read(reflection, "Not sure.") == (OK, 0.5, {"verdict": "not sure"})
    assert read(reflection, verdict("incorrect"))[0] == read(reflection, "It is correct")[0] == PARSE_ERROR
    assert read(reflection, verdict("correct"), TRUNCATED)[0] == TRUNCATED
    assert read(reflection, "", "not_asked")[0] == "not_asked"


def test_the_same_but_for_dress():
    assert folded(" **Four.** ") == folded("four") == "four" and folded("Ｆｏｕｒ") == "four"
    for one, other in (("x = -1", "x = 1"), ("1.5", "15"), ("a < b", "a > b"), ("C++", "C"), ("数学", "物理")):
        assert folded(one) != folded(other)
    assert folded("...") == "..." and folded("!") != folded("?")


# ---- the evidence and the number ------------------------------------------------------------------------------------


def test_the_specification_s_example():
    assert observed([0.9, 0.7, 0.8], [1, 0, 0]) == pytest.approx(0.706667, abs=1e-6)
    assert confidence(observed([0.9, 0.7, 0.8], [1, 0, 0]), [1, 0.5]) == pytest.approx(0.719667, abs=1e-6)
    block = pl.DataFrame(
        [("a", OK, [0.9, 0.7, 0.8], [1.0, 0.0, 0.0], [1.0, 0.5])], schema=EVIDENCE_SCHEMA, orient="row"
    )
    found = INDICATORS[0].compute(block, **INDICATORS[0].params)
    assert found.rows() == [(pytest.approx(0.719667, abs=1e-6), OK)]
    plain = bsdetector(block, alpha=1.0, beta=1.0)["value"][0]
    assert plain == pytest.approx(0.8) and bsdetector(block, beta=0.0)["value"][0] == pytest.approx(0.75)


def test_the_weights_are_those_of_the_ensemble_s_parts():
    """1 - P(contradiction) alone counts .56, exact match .14, reflection .30."""
    parts = [([1.0], [0.0], [0.0]), ([0.0], [1.0], [0.0]), ([0.0], [0.0], [1.0])]
    assert [confidence(observed(s, r), refl) for s, r, refl in parts] == pytest.approx([0.56, 0.14, 0.30])


def test_both_orders_are_asked_and_averaged():
    asked = []

    def contradiction(pairs):
        asked.extend(pairs)
        return np.array([0.2 if premise == "4" else 0.6 for premise, _ in pairs])

    answers = {
        "a": {
            "sample": "Five",
            "sample~2": " 4. ",
            "reflection:1": verdict("correct"),
            "reflection:2": verdict("wrong"),
        }
    }
    found = evidence(judged(table(row()), answers, samples=3), {"a": "4"}, contradiction)
    assert asked[:2] == [("4", "Five"), ("Five", "4")] and len(asked) == 6
    assert found.schema == EVIDENCE_SCHEMA
    (line,) = found.iter_rows(named=True)
    assert line["consistent"] == pytest.approx([0.6, 0.6, 0.6]) and line["same"] == [0.0, 1.0, 0.0]
    assert line["reflections"] == [1.0, 0.0] and line["status"] == OK


def test_what_is_missing_has_a_name_and_no_number():
    failed, none = Answer("api_error"), Answer("not_asked")
    good = {"sample": "4", "reflection:1": verdict("correct"), "reflection:2": verdict("correct")}
    answers = {
        "all": good,
        "some": {**good, "sample~2": failed, "sample~3": Answer(OK, "")},
        "few": {**good, "sample~2": failed, "sample~3": failed, "sample~4": failed},
        "mute": {**good, "sample": failed},
        "one": {**good, "reflection:1": Answer(OK, "Perhaps?")},
        "blind": {**good, "reflection:1": Answer(OK, "Perhaps?"), "reflection:2": none},
        "never": dict.fromkeys(good, none),
    }
    rows = table(*(row(name) for name in answers), row("empty", response=""))
    own = {name: "4" for name in answers}
    found = evidence(judged(rows, answers), own, lambda pairs: np.zeros(len(pairs)))
    scored = dict(zip(found["row_id"], bsdetector(found).iter_rows(), strict=True))
    assert scored["all"] == scored["some"] == scored["one"] == (pytest.approx(1.0), OK)
    assert scored["few"] == (None, "few_samples") and scored["mute"] == (None, "api_error")
    assert scored["blind"] == (None, PARSE_ERROR) and scored["never"] == (None, "not_asked")
    assert scored["empty"] == (None, "empty_response")
    strict = dict(zip(found["row_id"], bsdetector(found, least_reflections=2)["status"], strict=True))
    assert strict["one"] == "few_reflections" and strict["all"] == OK
    blank = evidence(judged(rows, answers), own, lambda pairs: np.full(len(pairs), np.nan))
    assert dict(zip(blank["row_id"], blank["status"], strict=True))["all"] == "no_comparison"
    no_rows = evidence(pl.DataFrame(schema=JUDGMENTS_SCHEMA), {}, lambda pairs: np.zeros(0))
    assert bsdetector(no_rows).height == 0


def test_embeddings_in_the_place_of_a_model():
    vectors = {"a": [1, 0], "b": [0.6, 0.8], "c": [-1, 0], "": [np.nan, np.nan]}
    found = by_embeddings(lambda texts: np.array([vectors[text] for text in texts], dtype=np.float32))
    assert found([("a", "a"), ("a", "b"), ("b", "a"), ("a", "c")]).tolist() == pytest.approx([0, 0.4, 0.4, 1])
    assert np.isnan(found([("a", "")])).all() and found([]).tolist() == []


chances = st.floats(0, 1)


@given(st.lists(st.tuples(chances, st.booleans()), min_size=1, max_size=6), st.lists(st.sampled_from([0, 0.5, 1]), min_size=1, max_size=3), chances, chances)  # fmt: skip
def test_a_confidence_is_a_mean(pairs, reflections, alpha, beta):
    consistent, same = [s for s, _ in pairs], [float(r) for _, r in pairs]
    value = confidence(observed(consistent, same, alpha), reflections, beta)
    assert -1e-9 <= value <= 1 + 1e-9
    one_by_one = sum(alpha * s + (1 - alpha) * r for s, r in zip(consistent, same, strict=True)) / len(pairs)
    assert value == pytest.approx(beta * one_by_one + (1 - beta) * sum(reflections) / len(reflections))
    assert confidence(observed(consistent, [1.0] * len(pairs), alpha), reflections, beta) >= value - 1e-9


# ---- auto-filter ----------------------------------------------------------------------------------------------------


def test_auto_filter_is_a_gate():
    assert gate(np.array([0.2, 0.6, 0.9]), {"percentile": [50, 100]})[0].tolist() == [False, True, True]
    assert threshold(np.array([0.2, 0.6, 0.9])) == 0.6 and threshold(np.zeros(0)) == math.inf


@given(st.lists(st.integers(0, 8), min_size=1, max_size=30))
def test_from_the_fiftieth_percentile_is_from_the_median_upwards(values):
    numbers = np.array(values, dtype=np.float64)
    kept, _ = gate(numbers, {"percentile": [50, 100]})
    assert kept.tolist() == (numbers >= np.median(numbers)).tolist()


# ---- auto-correct ---------------------------------------------------------------------------------------------------


def test_the_candidate_is_the_most_typical_answer():
    texts = [
        "It is Rome.",
        "The capital of France is Paris.",
        "France has the capital Paris.",
        "Paris is the capital of France.",
    ]
    assert candidate("Lyon", texts) == "The capital of France is Paris."
    assert candidate("the capital of france is paris", texts) is None and candidate("x", []) is None
    assert candidate("no", ["yes"]) == "yes" and candidate("no", ["a", "b"]) == "a"
    assert candidate("x", ["巴黎很大", "首都是巴黎", "是巴黎"]) == "是巴黎"
    line = judged(table(row()), {"a": {"sample": "5", "sample~2": Answer(TRUNCATED, "4 and"), "sample~3": Answer("api_error"),
                                       "reflection:1": "?", "reflection:2": "?"}}).row(0, named=True)  # fmt: skip
    assert whole_samples(line) == ["5", "5", "5"]


SAID = {"reflection:1": verdict("correct"), "reflection:2": verdict("correct")}


def test_both_orders_are_put_to_the_vote():
    rows = table(row("a"), row("b"), row("c"), row("d", response=""))
    samples = judged(
        rows,
        {"a": {"sample": "5", **SAID}, "b": {"sample": "4.", **SAID}, "c": {"sample": Answer("api_error"), **SAID}},
    )
    cells = CHOICE.cells(rows, **{**CHOICE.params, "samples": samples})
    assert {c.row_id for c in cells} == {"a"}  # b answers the same, c has nothing to offer
    parts = "vote:A vote:A~2 vote:A~3 reflection:A vote:B vote:B~2 vote:B~3 reflection:B"
    assert [c.part for c in cells] == parts.split()
    text = {c.part: c.messages[-1][1] for c in cells}
    for part, first, second in (("vote:A", "5", "4"), ("vote:B", "4", "5")):
        a, b = text[part].index("| answer A>>>"), text[part].index("| answer B>>>")
        assert text[part][a:b].split(">>>\n")[1][0] == first and text[part][b:].split(">>>\n")[1][0] == second
    assert "Somebody holds that B is better than A" in text["reflection:B"]
    by_part = {c.part: c for c in cells}

    def value(part, text):
        return CHOICE.reading(Answer(OK, text), by_part[part], **CHOICE.params).value

    assert [value("vote:A~2", json.dumps({"better": word})) for word in ("A", "B", "equal")] == [1, 0, 0.5]
    assert [value("vote:B", json.dumps({"better": word})) for word in ("A", "B", "equal")] == [0, 1, 0.5]
    assert value("vote:B", json.dumps({"better": "both"})) is None and value("reflection:A", verdict("not sure")) == 0.5
    assert CHOICE.params["samples"] == SAMPLES == "evidence/judgments_bsdetector"
    with pytest.raises(ValueError, match="votes must be even"):
        CHOICE.cells(rows, **{**CHOICE.params, "samples": samples, "votes": 5})
    with pytest.raises(ValueError, match="table of the question"):
        CHOICE.cells(rows, **CHOICE.params)


def compare(votes, reflections):
    """A line of the second question's table: votes for the judge's own answer by order, and reflections."""
    parts = [(f"vote:{order}", value) for order, some in votes.items() for value in some]
    parts += [(f"reflection:{order}", value) for order, value in zip("AB", reflections, strict=False)]
    names, values = zip(*parts, strict=True) if parts else ((), ())
    statuses = [OK if value is not None else PARSE_ERROR for value in values]
    status = next((one for one in statuses if one != OK), OK)
    whole = ("a", status, list(names), list(values), statuses, ["{}"] * len(names), [""] * len(names))
    return dict(zip(JUDGMENTS_SCHEMA, whole, strict=True))


def test_how_sure_the_judge_is_of_its_own_answer():
    sure, agreement, said = preference(compare({"A": [1, 1, 0.5], "B": [1, 0, 1]}, [1, 0.5]))
    assert agreement == pytest.approx((2.5 / 3 + 2 / 3) / 2) and said == OK
    assert sure == pytest.approx(0.7 * 0.75 + 0.3 * 0.75)
    # A judge that always takes the first sways nothing, however the votes were lost.
    assert preference(compare({"A": [1, 1, 1], "B": [0]}, [1]))[1] == 0.5
    assert preference(compare({"A": [1, 1], "B": [None]}, [1, 1])) == (None, 0.0, PARSE_ERROR)
    assert preference(compare({"A": [1], "B": [1]}, [None])) == (None, 0.0, PARSE_ERROR)
    assert preference(None)[2] == "not_asked" and preference(compare({}, []))[2] == "not_asked"


def test_what_becomes_of_each_answer():
    names = ["better", "unsure", "low", "same", "blind", "lost"]
    rows = table(*(row(name) for name in names))
    own = pl.DataFrame({"row_id": names, "answer": ["4"] * 6})
    answers = {name: {"sample": "5", **SAID} for name in names}
    answers["same"]["sample"] = "4"
    answers["lost"] = dict.fromkeys(answers["lost"], Answer("api_error"))
    samples = judged(rows, answers)
    choice = {
        "vote:A": json.dumps({"better": "A"}),
        "vote:B": json.dumps({"better": "B"}),
        "reflection:A": verdict("correct"),
        "reflection:B": verdict("correct"),
    }
    divided = {**choice, "vote:B": json.dumps({"better": "A"})}
    said = {"better": choice, "unsure": divided, "low": divided, "blind": dict.fromkeys(choice, Answer("not_asked"))}
    compared = judged(rows, said, CHOICE, samples=samples)
    trust = pl.DataFrame(
        {"row_id": names, "value": [0.1, 0.6, 0.2, 0.9, 0.6, None], "status": [OK] * 5 + ["api_error"]}
    )
    found = corrected(own, trust, samples, compared)
    assert found.schema == CORRECTED_SCHEMA and found["row_id"].to_list() == names
    assert found["decision"].to_list() == ["replaced", "kept", "dropped", "kept", "kept", "unjudged"]
    assert found["new"].to_list() == ["5"] + [None] * 5 and set(found["old"]) == {"4"}
    assert found["confidence"].to_list()[:3] == pytest.approx([1.0, 0.65, 0.65]) and found["confidence"][3] is None
    assert found["why"].to_list() == [
        "the judge's answer is better with confidence 1.000, above 0.8",
        "the judge's answer is better with confidence 0.650, not above 0.8; trust 0.600 reaches 0.600",
        "the judge's answer is better with confidence 0.650, not above 0.8; trust 0.200 is below 0.600",
        "the judge answers the same; trust 0.900 reaches 0.600",
        "the two answers were not compared (not_asked); trust 0.600 reaches 0.600",
        "there is no answer of the judge's that ends; no trust in it is known (api_error)",
    ]
    assert corrected(own, trust, samples, compared, gamma=1.0)["decision"][0] == "dropped"
    assert corrected(own, trust, samples, compared, gamma=0.6)["decision"].to_list()[1:3] == [
        "kept",
        "dropped",
    ]  # even votes prefer nothing
    assert corrected(own, trust, samples, compared, percentile=0)["decision"].to_list().count("dropped") == 0
    pool = Pool(pl.Series([*names, "other"]), tables={CORRECTED: pl.concat([found, found.head(1).clear()]).lazy()})
    lazy = pool.row_ids.to_frame("row_id").lazy().join(found.lazy(), on="row_id", how="left", maintain_order="left")
    stays = auto_correct(Pool(pool.row_ids, tables={CORRECTED: lazy}))
    assert stays["value"].to_list() == [1, 1, 0, 1, 1, None, None]
    assert stays["status"].to_list() == [OK] * 5 + ["api_error", "not_asked"]
    nothing = corrected(own.clear(), trust.clear(), samples.clear(), compared.clear())
    assert nothing.schema == CORRECTED_SCHEMA and nothing.is_empty()


# ---- records --------------------------------------------------------------------------------------------------------


def test_a_new_answer_stands_where_the_old_one_stood():
    record = {"instruction": "Say 4", "output": " 4\n", "meta": {"n": 4}}
    assert with_answer(record, "4", "5") == {"instruction": "Say 4", "output": "5", "meta": {"n": 4}}
    assert record["output"] == " 4\n"
    talk = {"messages": [{"role": "user", "content": "4"}, {"role": "assistant", "content": "4"}], "id": "4x"}
    assert with_answer(talk, "4", "5")["messages"] == [
        {"role": "user", "content": "4"},
        {"role": "assistant", "content": "5"},
    ]
    assert with_answer(["a", ["b", "a"]], "a", "c") == ["a", ["b", "c"]]
    assert with_answer({"text": "### Response: 4"}, "4", "5") is None and with_answer({"output": ""}, "", "5") is None
    talk = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "4"}]
    new = [talk[0], {"role": "assistant", "content": "5"}]
    assert with_correction({"output": "4"}, talk, "4", "5") == {"output": "5"}
    assert with_correction({"text": "Q -> 4"}, talk, "4", "5") == {"text": "Q -> 4", "messages": new}
    several = {"messages": talk, "replies": [{"text": "3"}, {"text": "4"}]}
    assert with_correction(several, talk, "4", "5") == {**several, "messages": new}
    with pytest.raises(ValueError, match="does not hold the answer"):
        with_correction({}, talk, "6", "5")
    said = {"old": "4", "new": "5", "confidence": 0.9, "why": "w"}
    assert lineage({**said, "row_id": "a", "trust": 0.1}) == said


def test_they_are_listed_under_the_specification_s_names():
    assert DETECT.prompts == detecting.PROMPTS and (DETECT.from_start, CHOICE.from_start) == (True, False)
    assert [i.id for i in INDICATORS] == ["bsdetector", AUTO_CORRECT]
