"""Prompt uncertainty: the specification's toys, plain loops as the oracle, what is asked, and statuses."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance.prompting import (
    INDICATORS,
    PERTURBATIONS_SCHEMA,
    droppable,
    perturbation_status,
    perturbed,
    prediction_probability,
    prompt_uncertainty,
)


def perturbations(rows):
    """An evidence frame; each row is (status, lists of p) or (status, None)."""
    logs = [None if p is None else [[None if x is None else math.log(x) for x in one] for one in p] for _, p in rows]
    columns = {"row_id": [str(i) for i in range(len(rows))], "status": [s for s, _ in rows], "logp": logs}
    return pl.DataFrame(columns, schema=dict(PERTURBATIONS_SCHEMA))


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


# --- perturbed instructions ------------------------------------------------------------------------------------------
def test_perturbed_keeps_the_original_first_and_drops_words_in_order():
    text = "Write a short\n\n  poem about   the sea."
    first, *copies = perturbed(text, k=200, seed=3)
    assert first == text and len(copies) == 200
    words = text.split()
    for copy in copies:
        rest = iter(words)
        assert all(word in rest for word in copy.split())
    assert text in copies  # .8 ** 7 is .21
    assert len(set(copies)) > 20


def test_blanks_between_words_that_stay_are_kept():
    copies = perturbed("one\n\ntwo", k=100)
    assert set(copies) <= {"one\n\ntwo", "one", "two", ""}


def test_the_share_of_dropped_words():
    text = " ".join(f"w{i}" for i in range(500))
    for drop in (0.0, 0.2, 1.0):
        kept = [len(copy.split()) / 500 for copy in perturbed(text, k=40, drop=drop)[1:]]
        assert np.mean(kept) == pytest.approx(1 - drop, abs=0.015)
    assert perturbed(text, k=2, drop=0.0) == [text] * 3


def test_perturbations_hang_on_text_and_seed_alone():
    text = "Name three rivers of Europe and say where they rise"
    assert perturbed(text, k=5) == perturbed(text, k=12)[:6]
    assert perturbed(text, seed=1)[1:] != perturbed(text, seed=2)[1:]
    # The same on every machine.
    assert perturbed("a b c d e f g h i j", k=2)[1:] == ["a b c d e f g j", "a b c e f g j"]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_pieces_are_the_text(text):
    assert "".join(droppable(text)) == text.lstrip()
    assert perturbed(text, k=3)[0] == text
    assert all(not piece[0].isspace() for piece in droppable(text))


def test_words_of_scripts_without_spaces():
    assert droppable("写一首诗，关于 sea life。") == ["写", "一", "首", "诗，", "关", "于 ", "sea ", "life。"]
    assert droppable("Übersetze: ¿qué tal?") == ["Übersetze: ", "¿qué ", "tal?"]
    assert perturbation_status("写诗") == "ok"
    assert [perturbation_status(text) for text in ("", " \n", "Hello!", "Hello there")] == ["too_short"] * 3 + ["ok"]


@pytest.mark.parametrize("wrong", [{"k": 0}, {"drop": 1.2}, {"drop": -0.1}])
def test_perturbed_refuses(wrong):
    with pytest.raises(ValueError, match="got"):
        perturbed("a b", **wrong)


# --- prompt uncertainty ----------------------------------------------------------------------------------------------
TOY = [[0.5, 0.8], [0.25, 0.8], [0.5, 0.4]]


def test_prompt_uncertainty_of_the_toy():
    block = perturbations([("ok", TOY)])
    assert only(prompt_uncertainty(block)) == pytest.approx(0.185242, abs=1e-6)
    assert only(prompt_uncertainty(block, mode="token")) == pytest.approx(0.1625, abs=1e-6)
    assert 2 * only(prompt_uncertainty(block, mode="token")) == pytest.approx(0.325, abs=1e-6)  # Eq. 42's sum
    assert only(prediction_probability(block)) == pytest.approx(0.632456, abs=1e-6)
    with pytest.raises(ValueError, match="mode"):
        prompt_uncertainty(block, mode="word")


def test_an_instruction_that_changes_nothing():
    block = perturbations([("ok", [[0.3, 0.9, 0.2]] * 5)])
    for mode in ("sentence", "token"):
        assert only(prompt_uncertainty(block, mode=mode)) == 0.0


def test_the_two_modes_differ_where_tokens_cancel():
    block = perturbations([("ok", [[0.2, 0.8], [0.8, 0.2]])])
    assert only(prompt_uncertainty(block)) == pytest.approx(0, abs=1e-7)
    assert only(prompt_uncertainty(block, mode="token")) == pytest.approx(0.6, abs=1e-6)


def test_statuses_of_perturbations():
    rows = [
        ("ok", TOY),
        ("too_short", None),
        ("ok", None),
        ("ok", [[0.5]]),
        ("ok", [[], []]),
        ("ok", [[0.5, 0.5], [0.5]]),
        ("ok", [[0.5, None], [0.5, 0.5]]),
        ("out_of_memory", TOY),
        ("ok", TOY),
    ]
    wanted = ["ok", "too_short", *["no_perturbations"] * 2, "empty_response", "uneven_tokens", "not_finite"]
    for method in INDICATORS[:2]:
        found = method.compute(perturbations(rows), **method.params)
        assert found["status"].to_list() == [*wanted, "out_of_memory", "ok"]
        assert found["value"].is_not_null().to_list() == [status == "ok" for status in found["status"]]
        assert found["value"][0] == found["value"][8]  # what stands between does not shift
        assert method.compute(perturbations([]), **method.params).schema == found.schema
        nothing = method.compute(perturbations(rows[1:3]), **method.params)
        assert nothing["value"].to_list() == [None, None]


probabilities = st.floats(1e-6, 1.0)


@st.composite
def answered(draw):
    k, tokens = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    return draw(st.lists(st.lists(probabilities, min_size=tokens, max_size=tokens), min_size=k + 1, max_size=k + 1))


@settings(deadline=None, max_examples=60)
@given(st.lists(answered(), min_size=1, max_size=6))
def test_prompt_uncertainty_against_plain_loops(rows):
    block = perturbations([("ok", row) for row in rows])
    sentence, token, base = [], [], []
    for first, *others in rows:
        whole = [float(np.exp(np.mean(np.log(p)))) for p in (first, *others)]
        sentence.append(np.mean([abs(p - whole[0]) for p in whole[1:]]))
        token.append(np.mean([np.mean(np.abs(np.subtract(p, first))) for p in others]))
        base.append(whole[0])
    assert prompt_uncertainty(block)["value"].to_list() == pytest.approx(sentence, abs=1e-5)
    assert prompt_uncertainty(block, mode="token")["value"].to_list() == pytest.approx(token, abs=1e-5)
    assert prediction_probability(block)["value"].to_list() == pytest.approx(base, abs=1e-5)
    turned = prompt_uncertainty(block.reverse())["value"].reverse()
    assert turned.to_list() == prompt_uncertainty(block)["value"].to_list()
