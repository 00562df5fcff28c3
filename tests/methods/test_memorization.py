"""Memorization: the specification's toy, a slice as the oracle, and statuses."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality.memorization import memorization_rank, memorization_rank_generated


def statistics(*rows):
    schema = {"row_id": pl.String, "status": pl.String, "truncated": pl.Boolean, "hit": pl.List(pl.Boolean)}
    return pl.DataFrame([(str(i), *row) for i, row in enumerate(rows)], schema=schema, orient="row")


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


def test_memorization_of_the_toy():
    guessed, true = [5, 6, 7, 9], [5, 6, 8, 9]
    block = statistics(("ok", False, [a == b for a, b in zip(guessed, true, strict=True)]))
    assert only(memorization_rank(block, prompt_tokens=0, window=4)) == 0.75


def test_only_the_window_counts():
    hits = [True] * 32 + [False] * 32 + [True] * 50
    assert only(memorization_rank(statistics(("ok", False, hits)))) == 0.0
    assert only(memorization_rank(statistics(("ok", False, hits)), prompt_tokens=0)) == 1.0
    assert only(memorization_rank(statistics(("ok", False, hits)), prompt_tokens=48)) == 0.5


def test_statuses_of_memorization():
    whole = [True] * 64
    block = statistics(
        ("ok", False, whole),
        ("ok", False, whole[:63]),
        ("ok", False, []),
        ("truncated", True, whole),
        ("truncated", True, whole[:63]),
        ("too_long", True, None),
        ("empty_response", False, None),
        ("ok", None, [None] * 64),
        ("ok", None, [None] + whole),
    )
    found = memorization_rank(block)
    wanted = ["ok", "too_short", "too_short", "ok", "truncated", "too_long", "empty_response", "not_finite", "ok"]
    assert found["status"].to_list() == wanted
    assert found["value"].to_list() == [1.0 if status == "ok" else None for status in wanted]
    assert memorization_rank(block.head(0)).schema == found.schema
    for wrong in ({"window": 0}, {"prompt_tokens": -1}):
        with pytest.raises(ValueError, match="window"):
            memorization_rank(block, **wrong)


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=30), st.integers(0, 6), st.integers(1, 8))
def test_memorization_against_a_slice(hits, prompt_tokens, window):
    found = memorization_rank(statistics(("ok", False, hits)), prompt_tokens, window)
    asked = hits[prompt_tokens : prompt_tokens + window]
    assert found["value"].item() == (None if len(asked) < window else sum(asked) / window)


# --- written by itself -----------------------------------------------------------------------------------------------
def continued(*rows):
    schema = {"row_id": pl.String, "status": pl.String, "n_matched": pl.Int64, "n_scored": pl.Int64}
    return pl.DataFrame([(str(i), *row) for i, row in enumerate(rows)], schema=schema, orient="row")


def test_the_toy_written_by_itself():
    wrote, true = [5, 6, 7, 9], [5, 6, 8, 9]
    hits = sum(a == b for a, b in zip(wrote, true, strict=True))
    assert only(memorization_rank_generated(continued(("ok", hits, 4)))) == 0.75


def test_the_two_forms_differ_after_the_first_miss():
    """A model whose next token hangs on the last one alone: it misses 5 behind 4, and then never comes back to 5."""
    follows = {1: 2, 2: 3, 3: 4, 4: 9, 9: 9, 5: 6, 6: 7}
    response, shown = [1, 2, 3, 4, 5, 6, 7], 2
    forced = [follows[before] == token for before, token in zip(response[shown - 1 :], response[shown:], strict=False)]
    block = statistics(("ok", False, [False] * shown + forced))
    assert only(memorization_rank(block, prompt_tokens=shown, window=5)) == 0.8
    wrote = response[:shown]
    for _ in range(5):
        wrote.append(follows[wrote[-1]])
    hits = sum(a == b for a, b in zip(wrote[shown:], response[shown:], strict=True))
    assert only(memorization_rank_generated(continued(("ok", hits, 5)))) == 0.4


def test_statuses_of_what_was_written():
    block = continued(
        ("ok", 0, 32), ("ok", 0, 0), ("too_short", None, None), ("out_of_memory", None, None), ("ok", None, 4)
    )
    found = memorization_rank_generated(block)
    nothing = [(None, status) for status in ("too_short", "too_short", "out_of_memory", "not_finite")]
    assert found.rows() == [(0.0, "ok"), *nothing]
    assert memorization_rank_generated(block.head(0)).schema == found.schema
