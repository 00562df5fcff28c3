"""CTC's aspects: the specification's values, plain loops as the oracle, what a word is, and statuses."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import OK
from methods.quality.alignment import (
    ALIGNMENT_SCHEMA,
    ASPECTS,
    BETWEEN,
    contexts_of,
    ctc_unified_evaluator,
    is_stop_word,
    preservation,
    relevance,
    word_spans,
)

LISTS = ("to_instruction", "to_input", "to_prompt", "of_instruction", "of_input", "of_prompt")


def line(stop, status="ok", truncated=False, **lists):
    return {"row_id": "0", "status": status, "truncated": truncated, "stop": stop, **lists}


def evidence(*lines):
    return pl.DataFrame([{"row_id": str(i), **line} for i, line in enumerate(lines)], schema=dict(ALIGNMENT_SCHEMA))


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


# ---- the numbers ---------------------------------------------------------------------------------------------------
def test_values_of_the_specification():
    assert float(preservation(0.8, 0.6)) == pytest.approx(0.685714, abs=1e-6)
    assert float(relevance(0.8, 0.6)) == pytest.approx(0.48)
    assert float(preservation(0.0, 0.0)) == 0.0
    assert preservation([1.0, 0.5], [1.0, 0.0]).tolist() == [1.0, 0.0]
    lists = {"to_prompt": [0.9, 0.7], "of_prompt": [0.6], "to_instruction": [0.1, 0.1], "of_instruction": [0.4, 0.8]}
    block = evidence(line([False, False], **lists))
    assert only(ctc_unified_evaluator(block, "preservation")) == pytest.approx(0.685714, abs=1e-6)
    assert only(ctc_unified_evaluator(block, "relevance")) == pytest.approx(0.48, abs=1e-6)


def test_the_aspects_of_a_row():
    block = evidence(
        line(
            [True, False, False],
            to_instruction=[0.3, 0.6, 0.9],
            to_input=[0.1, 0.2, 0.4],
            to_prompt=[0.5, 0.6, 0.8],
            of_instruction=[0.5],
            of_input=[0.25],
            of_prompt=[1.0],
        )
    )
    assert only(ctc_unified_evaluator(block)) == pytest.approx(0.6)
    assert only(ctc_unified_evaluator(block, "groundedness")) == pytest.approx(0.6)
    assert only(ctc_unified_evaluator(block, "engagingness")) == pytest.approx(1.4)
    assert only(ctc_unified_evaluator(block, "engagingness", stop_words="keep")) == pytest.approx(1.9)
    assert only(ctc_unified_evaluator(block, "engagingness", reduce="mean")) == pytest.approx(0.7)
    assert only(ctc_unified_evaluator(block, "consistency", reduce="sum", stop_words="drop")) == pytest.approx(1.5)
    assert only(ctc_unified_evaluator(block, "consistency", against="input")) == pytest.approx(0.7 / 3)
    a, b = 0.7 / 3, 0.25
    found = only(ctc_unified_evaluator(block, "preservation", against="input"))
    assert found == pytest.approx(2 * a * b / (a + b), rel=1e-6)


def test_sums_grow_with_the_length_and_means_do_not():
    short, long = (line([False] * n, to_prompt=[0.5] * n, to_instruction=[0.5] * n) for n in (3, 30))
    both = evidence(short, long)
    assert ctc_unified_evaluator(both)["value"].to_list() == pytest.approx([0.5, 0.5])
    assert ctc_unified_evaluator(both, "engagingness")["value"].to_list() == pytest.approx([1.5, 15.0])


def test_statuses():
    nan = float("nan")
    block = evidence(
        line([False], to_instruction=[0.5], to_prompt=[0.5]),
        line(None, status="empty_response"),
        line(None, status="out_of_memory"),
        line([True, True], to_instruction=[0.5, 0.5], to_input=[0.5, 0.5], to_prompt=[0.5, 0.5]),
        line([False], truncated=True, to_instruction=[0.5], to_input=[0.5], to_prompt=[0.5], of_prompt=[0.5]),
        line([False, False], to_instruction=[nan, 0.5], to_input=[None, 0.5], to_prompt=[0.5, 0.5], of_prompt=[nan]),
        line([], to_input=None),
    )
    said = {
        "consistency": ["ok", "empty_response", "out_of_memory", "ok", "ok", "not_finite", "empty_instruction"],
        "groundedness": ["no_input", "empty_response", "out_of_memory", "only_stop_words", "ok", "not_finite", "no_input"],
        "engagingness": ["ok", "empty_response", "out_of_memory", "only_stop_words", "ok", "ok", "empty_prompt"],
        "preservation": ["unaligned", "empty_response", "out_of_memory", "unaligned", "ok", "not_finite", "empty_prompt"],
        "relevance": ["unaligned", "empty_response", "out_of_memory", "unaligned", "unaligned", "unaligned", "empty_prompt"],
    }  # fmt: skip
    for aspect, wanted in said.items():
        found = ctc_unified_evaluator(block, aspect)
        assert found["status"].to_list() == wanted, aspect
        assert found["value"].is_not_null().to_list() == [status == OK for status in wanted]
    strict = ctc_unified_evaluator(block, keep_truncated=False)
    assert strict["status"][4] == "truncated" and strict["value"][4] is None
    assert ctc_unified_evaluator(block.head(0), "engagingness").schema == found.schema
    assert ctc_unified_evaluator(block[1:3], "groundedness")["value"].to_list() == [None, None]


def test_what_is_not_known_is_refused():
    block = evidence(line([False], to_instruction=[0.5]))
    for wrong in ({"aspect": "beauty"}, {"against": "response"}, {"reduce": "max"}, {"stop_words": "no"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be one of"):
            ctc_unified_evaluator(block, **wrong)
    for aspect in ("preservation", "relevance"):
        with pytest.raises(ValueError, match="stop-words are not told"):
            ctc_unified_evaluator(block, aspect, stop_words="drop")


values = st.floats(0, 1, width=32)
rows = st.lists(
    st.tuples(
        st.lists(st.tuples(values, values, values, st.booleans()), min_size=1, max_size=5),
        st.lists(values, min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(rows, st.sampled_from(["mean", "sum"]), st.sampled_from(["keep", "drop"]))
def test_against_plain_loops(table, how, stop_words):
    lines = []
    for words, back in table:
        stop = [word[3] for word in words]
        to = {name: [word[k] for word in words] for k, name in enumerate(LISTS[:3])}
        lines.append(line(stop, **to, **dict.fromkeys(LISTS[3:], back)))
    block = evidence(*lines)
    for aspect, usual in ASPECTS.items():
        dropped = stop_words == "drop" and not usual.back
        found = ctc_unified_evaluator(block, aspect, reduce=how, stop_words="drop" if dropped else "keep")
        for (words, back), value, status in zip(table, *found.get_columns(), strict=True):
            column = LISTS[:3].index(f"to_{usual.against}")
            kept = [word[column] for word in words if not (dropped and word[3])]
            if not kept:
                assert (value, status) == (None, "only_stop_words")
                continue
            a, b = (math.fsum(one) / (len(one) if how == "mean" else 1) for one in (kept, back))
            wanted = a
            if usual.back == "same":
                wanted = 2 * a * b / (a + b) if a + b else 0.0
            elif usual.back:
                wanted = a * b
            assert status == OK and value == pytest.approx(wanted, rel=1e-6, abs=1e-9)


# ---- words ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n ", []),
        ("one", ["one"]),
        (" It's well-known,\n\nisn't it? ", ["It's", "well-known,", "isn't", "it?"]),
        ("春天来了，abc花", ["春", "天", "来", "了", "，abc", "花"]),
        ("naïve — dash", ["naïve", "—", "dash"]),
    ],
)
def test_words(text, words):
    assert [text[a:b] for a, b in word_spans(text)] == words


@given(st.text(max_size=40))
def test_words_leave_out_blanks_alone(text):
    spans = word_spans(text)
    assert "".join(text[a:b] for a, b in spans) == "".join(text.split())
    assert spans == sorted(spans) and all(a < b for a, b in spans)


def test_stop_words():
    assert all(map(is_stop_word, ("the", "The", "(it", "and,", "don’t", "IT’S")))
    assert not any(map(is_stop_word, ("house", "春", "--", "", "then-so", "42")))


def test_contexts():
    row = {"instruction": " Ask ", "input": "Given", "response": "x"}
    assert contexts_of(row) == {"instruction": "Ask", "input": "Given", "prompt": f"Given{BETWEEN}Ask"}
    assert contexts_of({"instruction": "Ask", "input": None}) == {"instruction": "Ask", "prompt": "Ask"}
    assert contexts_of({"instruction": " ", "input": "Given"}) == {"input": "Given", "prompt": "Given"}
    assert contexts_of({"instruction": "", "input": ""}) == {}
