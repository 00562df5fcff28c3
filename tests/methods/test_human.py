"""Human evaluation: which labels count, Eq. 19, acceptance, verdicts and ranked pairs."""

from datetime import UTC, datetime
from itertools import permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Pool
from methods.quality import human

LONG = {"row_id": pl.String, "rater": pl.String, "dimension": pl.String, "group": pl.String, "value": pl.Float64}


def labels(*lines) -> pl.DataFrame:
    """(row, dimension, values of raters x0, x1, ...)"""
    rows = [(row, f"x{i}", name, None, float(v)) for row, name, values in lines for i, v in enumerate(values)]
    return pl.DataFrame(rows, schema=LONG, orient="row")


def ranking(group: str, places: dict[str, dict[str, float]]) -> pl.DataFrame:
    rows = [(row, rater, "rank", group, float(p)) for rater, said in places.items() for row, p in said.items()]
    return pl.DataFrame(rows, schema=LONG, orient="row")


def pool(ids: list[str], said: pl.DataFrame) -> Pool:
    table = human.ratings(said.with_columns(current=True))
    rows = pl.Series("row_id", ids, dtype=pl.String)
    lines = rows.to_frame().join(table, on="row_id", how="left", maintain_order="left")
    return Pool(rows, tables={"humans/ratings": lines.lazy()})


def told(frame: pl.DataFrame) -> list[tuple[float | None, str]]:
    return frame.rows()


# ---- acceptance ---------------------------------------------------------------------------------------------------------


def test_the_acceptance_of_the_specification():
    said = labels(("r", "spam", (0, 1, 0)), ("r", "lang_mismatch", (0, 0, 0)), ("r", "fails_task", (0, 0, 0)))
    ((value, status),) = told(human.human_acceptance(pool(["r"], said)))
    assert value == pytest.approx(2 / 3) and status == "ok"
    assert human.verdicts(said)["accepted"].to_list() == [True]


def test_acceptance_that_cannot_be_told():
    said = labels(
        ("few", "spam", (0, 0)),
        ("few", "lang_mismatch", (0, 0)),
        ("half", "spam", (0, 0, 0)),
        ("none", "quality", (1,)),
    )
    found = told(human.human_acceptance(pool(["few", "half", "none", "absent"], said)))
    assert found == [(None, "too_few_raters"), (None, "no_labels"), (None, "no_labels"), (None, "no_labels")]
    assert told(human.human_acceptance(pool(["few"], said), minimum=2)) == [(1.0, "ok")]


def test_a_verdict_sits_on_the_threshold_fairly():
    """1 - (.2 + .2) is .6 and not above it, whatever floating point says."""
    said = labels(
        ("r", "spam", (1, 0, 0, 0, 0)), ("r", "lang_mismatch", (0, 0, 0, 0, 1)), ("r", "fails_task", (0,) * 5)
    )
    assert human.verdicts(said)["accepted"].to_list() == [False]


def test_an_answer_to_another_question_is_refused_though_it_is_no_spam():
    clean = [("r", "spam", (0, 0)), ("r", "lang_mismatch", (0, 0))]
    assert human.verdicts(labels(*clean, ("r", "fails_task", (1, 1))))["accepted"].to_list() == [False]
    assert human.verdicts(labels(*clean, ("r", "fails_task", (1, 0))))["accepted"].to_list() == [False]
    assert human.verdicts(labels(*clean)).select("accepted", "status").rows() == [(None, "no_labels")]


def test_who_calls_a_row_spam_need_not_say_that_it_fails():
    said = labels(("r", "spam", (1,)), ("r", "lang_mismatch", (0,)))
    assert human.verdicts(said).select("accepted", "n", "status").rows() == [(False, 1, "ok")]


# ---- Eq. 19 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "value"), [("mean", 0.45), ("median", 0.5), ("sum", 2.25), ("trimmed", (0.25 + 0.5 + 0.5) / 3)]
)
def test_raters_put_together_by_hand(how, value):
    said = labels(("r", "quality", (0.5, 1, 0.25, 0, 0.5)))
    assert told(human.human_label_aggregate(pool(["r"], said), how=how)) == [(pytest.approx(value), "ok")]


def test_reversed_items_are_flipped_and_have_the_surveys_names():
    said = labels(("r", "toxicity", (0.25, 0.25, 0.25)), ("r", "quality", (1, 1, 1)), ("r", "spam", (0, 0, 1)))
    view = pool(["r"], said)
    for name, value in {"toxicity": 0.75, "politeness": 0.75, "spam": 2 / 3, "quality": 1.0}.items():
        assert told(human.human_label_aggregate(view, dimension=name)) == [(pytest.approx(value), "ok")]
    both = ("quality", "politeness")
    assert told(human.human_label_aggregate(view, dimension=both))[0][0] == pytest.approx(0.875)
    assert told(human.human_label_aggregate(view, dimension=both, over="sum"))[0][0] == pytest.approx(1.75)
    assert human.canonical("politeness", 0.75) == ("toxicity", 0.25)
    assert human.aggregate(said, "toxicity", flip=False)["value"].to_list() == [pytest.approx(0.25)]


def test_statuses_and_minimum():
    said = labels(("a", "quality", (1, 1, 1)), ("b", "quality", (1, 1)), ("a", "humor", (0, 0)))
    view = pool(["b", "a", "c"], said)
    assert told(human.human_label_aggregate(view)) == [(None, "too_few_raters"), (1.0, "ok"), (None, "no_labels")]
    both = human.human_label_aggregate(view, dimension=("quality", "humor"), minimum=2)
    assert told(both) == [(None, "no_labels"), (0.5, "ok"), (None, "no_labels")]
    found = human.aggregate(said, "quality")
    assert found.filter(row_id="b").select("n", "sd", "value").rows() == [(2, 0.0, None)]


@pytest.mark.parametrize(
    "wrong", [{"how": "best"}, {"over": "max"}, {"dimension": ()}, {"how": "trimmed", "trim": 0.5}]
)
def test_wrong_parameters_are_said(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("how", "how|trim")):
        human.human_label_aggregate(pool(["r"], labels(("r", "quality", (1,)))), **wrong)


def test_no_rows_and_no_labels():
    for indicator in human.INDICATORS:
        assert indicator.compute(pool([], labels())).rows() == []
        assert indicator.compute(pool(["r"], labels())).rows() == [(None, "no_labels")]


@given(st.lists(st.sampled_from([0, 0.25, 0.5, 0.75, 1]), min_size=3, max_size=9), st.randoms())
@settings(max_examples=25, deadline=None)
def test_the_order_of_raters_is_of_no_account(values, random):
    shuffled = random.sample(values, len(values))
    for how in human.HOW:
        one, other = (
            human.aggregate(labels(("r", "quality", v)), "quality", how)["value"][0] for v in (values, shuffled)
        )
        assert one == pytest.approx(other)
        if how != "sum":
            assert min(values) - 1e-9 <= one <= max(values) + 1e-9


# ---- which labels count -------------------------------------------------------------------------------------------------


def stored(*lines) -> pl.DataFrame:
    """(rater, value, hour or None, file, line) of one row and dimension."""
    rows = [
        (
            "r",
            rater,
            "quality",
            None,
            value,
            None if hour is None else datetime(2024, 1, 1, hour, tzinfo=UTC),
            file,
            line,
        )
        for rater, value, hour, file, line in lines
    ]
    return pl.DataFrame(rows, schema=human.LABEL_SCHEMA, orient="row")


def test_a_raters_last_word_counts_and_the_rest_is_history():
    table = human.with_current(
        stored(
            ("ann", 0.5, 9, "b", 1), ("ann", 1.0, 8, "c", 1), ("ben", 0.0, None, "z", 9), ("ben", 0.25, 1, "a", 1),
            ("cy", 0.0, None, "a", 2), ("cy", 0.75, None, "b", 1), ("cy", 1.0, None, "b", 2),
        )
    )  # fmt: skip
    now = {rater: value for rater, value in table.filter("current").select("rater", "value").rows()}
    assert now == {"ann": 0.5, "ben": 0.25, "cy": 1.0}
    assert table.height == 7


def test_the_same_label_twice_is_one():
    table = human.with_current(stored(("ann", 0.5, 9, "a", 1), ("ann", 0.5, 9, "b", 7)))
    assert table.select("file", "current").rows() == [("a", True)]


def test_ratings_hold_the_labels_that_count():
    table = human.with_current(stored(("ann", 0.5, 9, "a", 1), ("ann", 1.0, 10, "a", 2), ("ben", 0.0, 9, "a", 3)))
    lines = human.ratings(table)
    assert lines.select("row_id", "raters", "values").rows() == [("r", ["ann", "ben"], [1.0, 0.0])]
    assert human.labels_of(lines).select("rater", "value").rows() == [("ann", 1.0), ("ben", 0.0)]
    assert human.ratings(table.clear()).schema == human.RATINGS_SCHEMA


# ---- ranked pairs -------------------------------------------------------------------------------------------------------


def brute(places: np.ndarray) -> list[int]:
    """Of all orders the one that obeys the strongest pairs first: ranked pairs, said in another way."""
    n = places.shape[1]
    votes = {(a, b): int(np.sum(places[:, a] < places[:, b])) for a in range(n) for b in range(n) if a != b}
    pairs = [(votes[b, a] - votes[a, b], -votes[a, b], a, b) for a, b in votes if votes[a, b] > votes[b, a]]

    def obeys(order):
        at = {c: i for i, c in enumerate(order)}
        return tuple(at[a] < at[b] for _, _, a, b in sorted(pairs))

    return list(max(permutations(range(n)), key=lambda order: (obeys(order), tuple(-c for c in order))))


some_places = st.integers(2, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.one_of(st.integers(1, n).map(float), st.just(float("nan"))), min_size=n, max_size=n),
        min_size=1,
        max_size=6,
    )
)


@given(some_places)
@settings(max_examples=150, deadline=None)
def test_ranked_pairs_against_all_orders(said):
    places = np.array(said)
    order, beats = human.ranked_pairs(places)
    assert order == brute(places)
    assert not (beats & beats.T).any()
    at = np.argsort(order)
    assert all(at[a] < at[b] for a, b in zip(*np.nonzero(beats), strict=True))
    better = (places[:, :, None] < places[:, None, :]).sum(axis=0)
    for winner in range(places.shape[1]):
        if all(better[winner, other] > better[other, winner] for other in range(places.shape[1]) if other != winner):
            assert order[0] == winner
            assert human.standing(beats)[winner] == 1


def test_a_circle_is_broken_at_its_weakest_pair():
    """4 say a b c, 3 say b c a, 2 say c a b: a over b by 3, b over c by 5, c over a by 1."""
    places = np.array([[1, 2, 3]] * 4 + [[3, 1, 2]] * 3 + [[2, 3, 1]] * 2, dtype=float)
    order, beats = human.ranked_pairs(places)
    assert order == [0, 1, 2] and bool(beats[0, 2])
    assert human.standing(beats).tolist() == [1.0, 0.5, 0.0]


def test_ranks_of_rows():
    said = pl.concat(
        [
            ranking("g", {x: {"a": 1, "b": 2, "c": 2} for x in "xyz"}),
            ranking("h", {"x": {"d": 1, "e": 2}, "y": {"d": 1, "e": 2}, "z": {"d": 1}}),
            ranking("i", {x: {"f": 1} for x in "xyz"}),
        ]
    )
    found = told(human.human_rank(pool(list("abcdefg"), said)))
    assert found == [
        (1.0, "ok"), (0.25, "ok"), (0.25, "ok"), (None, "too_few_raters"), (None, "too_few_raters"), (None, "alone"),
        (None, "no_labels"),
    ]  # fmt: skip
    assert told(human.human_rank(pool(["d", "e"], said), minimum=2)) == [(1.0, "ok"), (0.0, "ok")]
