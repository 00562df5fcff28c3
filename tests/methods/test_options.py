"""CAPE: the specification's toys, plain numpy as the oracle, what is asked, statuses, and calibration by hand."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance import options
from methods.importance.options import (
    CAPE_SCHEMA,
    TEMPLATES,
    answered,
    answers,
    calibration,
    cyclic,
    option_prompts,
    options_of,
    undone,
    words,
)
from methods.kinds import Pool


def cape_uncertainty(block, **params):
    return options.cape_uncertainty(Pool(block["row_id"], tables={"evidence/cape": block.lazy()}), **params)


def cape(rows):
    columns = {
        "row_id": [str(i) for i in range(len(rows))],
        "status": [s for s, _ in rows],
        "n_options": [len(p[0]) if p else None for _, p in rows],
        "probabilities": [p for _, p in rows],
    }
    return pl.DataFrame(columns, schema=dict(CAPE_SCHEMA))


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


# --- options ---------------------------------------------------------------------------------------------------------
def test_options_of():
    assert options_of(" Paris ", ["paris", "", "Rome", "ROME", "Oslo", "Bonn", "Bern"]) == [
        "Paris",
        "Rome",
        "Oslo",
        "Bonn",
    ]
    assert options_of("Paris", ["Rome", "Oslo"], most=1) == ["Paris", "Rome"]
    assert options_of("Paris", ["PARIS "]) == options_of("Paris", []) == options_of("  ", ["Rome"]) == []
    assert options_of("abcdef", ["abcxyz", "b"], longest=3) == ["abc …", "b"]
    with pytest.raises(ValueError, match="most"):
        options_of("a", ["b"], most=0)


def test_every_option_stands_once_in_every_place():
    for n in (2, 3, 5):
        orders = cyclic(n)
        assert sorted(orders[0]) == list(range(n))
        for place in range(n):
            assert sorted(orders[:, place]) == list(range(n))


def test_option_prompts():
    prompts = option_prompts("Where is {options}?", ["here", "{prompt}", "there"])
    assert len(prompts) == len(set(prompts)) == 3 * len(TEMPLATES)
    assert prompts[1] == (
        "Question:\nWhere is {options}?\n\nPossible answers:\nA. {prompt}\nB. there\nC. here\n\n"
        "Reply with the letter of the best answer."
    )
    assert all(template.count("{prompt}") == template.count("{options}") == 1 for template in TEMPLATES)
    for wrong in (["one"], ["x"] * 11):
        with pytest.raises(ValueError, match="options"):
            option_prompts("Q", wrong)


def letters_of(prompts, n, believes):
    """A stand-in for a model: ln p of the letters, from what it makes of each option's text and place."""
    found = []
    for prompt in prompts:
        lines = [line for line in prompt.split("\n") if line[1:3] == ". " and line[0] in options.LETTERS]
        found.append([math.log(believes(line[3:], place)) for place, line in enumerate(lines[-n:])])
    return np.array(found)


def test_a_model_that_reads_is_understood_in_every_order():
    texts = ["right", "wrong", "odd"]
    belief = {"right": 0.3, "wrong": 0.15, "odd": 0.05}  # half of its mass is on other tokens
    found = undone(letters_of(option_prompts("Q", texts), 3, lambda text, place: belief[text]))
    assert found.shape == (9, 3)
    assert found == pytest.approx(np.tile([0.6, 0.3, 0.1], (9, 1)))


def test_a_model_that_always_says_a():
    found = undone(np.tile([0.0, -800.0, -800.0], (3, 1)))
    block = cape([("ok", found.tolist())])
    assert found.mean(axis=0) == pytest.approx([1 / 3] * 3)
    assert only(cape_uncertainty(block)) == pytest.approx(1.098612, abs=1e-6)
    assert only(cape_uncertainty(block, stat="epistemic")) == pytest.approx(1.098612, abs=1e-6)
    assert only(cape_uncertainty(block, stat="confidence")) == pytest.approx(1 / 3)
    assert answers(block)["correct"].to_list() == [False]  # a tie is no answer


def test_undone_refuses_what_is_no_whole_round():
    for shape in ((4, 3), (2, 1), (3,)):
        with pytest.raises(ValueError, match="letters"):
            undone(np.zeros(shape))


def test_what_a_model_said_row_by_row():
    """Two ways to write a letter add up; a row has the status of its first prompt that could not be read."""
    assert words(2) == ["A", " A", "B", " B"]
    line = np.log([0.1, 0.2, 0.1, 1e-300, 0.3, 0.3])
    logp = np.tile(line, (len(TEMPLATES) * 5, 1))
    status = ["ok"] * len(logp)
    one, other = answered([2, 3], logp, status)
    assert one[0] == other[0] == "ok"
    assert one[1][0] == pytest.approx([0.75, 0.25]) and one[1][1] == pytest.approx([0.25, 0.75])
    assert other[1][0] == pytest.approx([0.3, 0.1, 0.6])
    assert len(one[1]) == 2 * len(TEMPLATES) and len(other[1]) == 3 * len(TEMPLATES)
    status[2 * len(TEMPLATES) + 1] = "too_long"
    logp[:, 1] = np.nan  # " A" is no single token
    one, other = answered([2, 3], logp, status)
    assert one[1][0] == pytest.approx([0.5, 0.5]) and other == ("too_long", None)
    logp[:, 0] = np.nan
    assert answered([2], logp, ["ok"] * len(logp)) == [("no_letters", None)]
    assert answered([], np.zeros((0, 4)), []) == []


def test_two_members_by_hand():
    block = cape([("ok", [[0.9, 0.1], [0.5, 0.5]])])
    found = {
        stat: only(cape_uncertainty(block, stat=stat)) for stat in ("entropy", "epistemic", "confidence", "p_gold")
    }
    wanted = {"entropy": 0.610864, "epistemic": 0.101749, "confidence": 0.7, "p_gold": 0.7}
    assert found == pytest.approx(wanted, abs=1e-6)
    with pytest.raises(ValueError, match="stat"):
        cape_uncertainty(block, stat="mean")


def test_p_gold_is_that_of_the_first_option():
    block = cape([("ok", [[0.2, 0.8]])])
    assert only(cape_uncertainty(block, stat="p_gold")) == pytest.approx(0.2)
    assert only(cape_uncertainty(block, stat="confidence")) == pytest.approx(0.8)
    assert answers(block).rows() == [(pytest.approx(0.8), False)]


def test_statuses_of_cape():
    good = [[0.9, 0.1], [0.5, 0.5]]
    rows = [
        ("ok", good),
        ("no_candidates", None),
        ("ok", [[1.0]]),
        ("ok", []),
        ("ok", [[0.5, 0.5], [1.0]]),
        ("ok", [[0.5, float("nan")]]),
        ("ok", [[0.2, 0.3, 0.5]]),
        ("ok", good),
    ]
    found = cape_uncertainty(cape(rows))
    wanted = ["ok", "no_candidates", "no_candidates", "no_answer", "uneven_options", "not_finite", "ok", "ok"]
    assert found["status"].to_list() == wanted
    assert found["value"].is_not_null().to_list() == [status == "ok" for status in wanted]
    assert found["value"][0] == found["value"][7]
    assert answers(cape(rows))["correct"].to_list() == [True, None, None, None, None, None, False, True]
    assert cape_uncertainty(cape([])).schema == found.schema
    assert cape_uncertainty(cape(rows[1:4]))["value"].to_list() == [None] * 3


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(2, 5)), min_size=1, max_size=6), st.integers(0, 1000))
def test_cape_against_plain_numpy(shapes, seed):
    rng = np.random.default_rng(seed)
    rows = [rng.dirichlet(np.ones(n) * 0.5, size=m) for m, n in shapes]

    def entropy(p):
        return -sum(x * math.log(x) for x in p if x > 0)

    block = cape([("ok", row.tolist()) for row in rows])
    whole = [entropy(row.mean(axis=0)) for row in rows]
    apart = [total - np.mean([entropy(p) for p in row]) for total, row in zip(whole, rows, strict=True)]
    assert cape_uncertainty(block)["value"].to_list() == pytest.approx(whole, abs=1e-9)
    found = cape_uncertainty(block, stat="epistemic")["value"].to_list()
    assert found == pytest.approx(apart, abs=1e-9)
    assert all(0 <= x <= y + 1e-9 for x, y in zip(found, whole, strict=True))


# --- calibration -----------------------------------------------------------------------------------------------------
def test_calibration_by_hand():
    # bins of .2: (.5 right, .5 wrong) share a bin: |.5 - .5| = 0; (.9 right): .1; (.95 wrong): with .9: |.5 - .925|
    found = calibration(pl.Series([0.5, 0.5, 0.9, 0.95]), pl.Series([True, False, True, False]), bins=5)
    assert found.ece == pytest.approx(0.5 * 0.425)
    assert found.brier == pytest.approx((0.25 + 0.25 + 0.01 + 0.9025) / 4)
    assert found.rows == 4
    assert found.bins.rows() == [
        (pytest.approx(0.4), pytest.approx(0.6), 2, 0.5, 0.5),
        (pytest.approx(0.8), 1.0, 2, pytest.approx(0.925), 0.5),
    ]


def test_calibration_edges():
    assert calibration(pl.Series([], dtype=pl.Float64), pl.Series([], dtype=pl.Boolean)) is None
    found = calibration(pl.Series([1.0, 0.0, None]), pl.Series([True, False, True]))
    assert found[:3] == (0.0, 0.0, 2)
    # .3 is the end of the third of 10 bins, however it was summed: it stands with .25 and not with .35
    third = 0.1 + 0.2
    together = calibration(pl.Series([third, 0.25]), pl.Series([True, False]), bins=10).ece
    apart = calibration(pl.Series([third, 0.35]), pl.Series([True, False]), bins=10).ece
    assert third > 0.3
    assert together == pytest.approx(0.5 - 0.275)
    assert apart == pytest.approx((0.7 + 0.35) / 2)
    with pytest.raises(ValueError, match="confidence"):
        calibration(pl.Series([1.5]), pl.Series([True]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_calibration_against_plain_loops(pairs, bins):
    p, correct = pl.Series([x for x, _ in pairs]), pl.Series([y for _, y in pairs])
    found = calibration(p, correct, bins=bins)
    total = 0.0
    for b in range(bins):
        inside = [(x, y) for x, y in pairs if max(math.ceil(x * bins - 1e-9), 1) == b + 1]
        total += abs(sum(y for _, y in inside) - sum(x for x, _ in inside)) / len(pairs)
    assert found.ece == pytest.approx(total)
    assert 0 <= found.ece <= 1 and 0 <= found.brier <= 1
    assert calibration(p, correct, bins=1).ece <= found.ece + 1e-9  # finer bins see more
