"""InsTag's sampling: the specification's example, the printed algorithm mended as an oracle, edges."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity.tag_sampling import SELECTORS, instag_sampling
from methods.kinds import Candidates


def pool(tags):
    ids = pl.Series([f"r{i}" for i in range(len(tags))], dtype=pl.String)
    return Candidates(ids, tags=pl.Series("tags", tags, dtype=pl.List(pl.String)))


EXAMPLE = [["a", "b", "c"], ["a", "b"], ["d"], ["c", "d"], ["a"]]


def test_worked_example():
    found = instag_sampling(pool(EXAMPLE), 4)
    assert found.order.tolist() == [0, 3, 1, 2]
    assert found.gain.tolist() == [3, 1, 2, 1]
    assert found.reason == [
        "pass 1: 3 of its 3 tags not seen before (a, b, c)",
        "pass 1: 1 of its 2 tags not seen before (d)",
        "pass 2: 2 of its 2 tags not seen before (a, b)",
        "pass 2: 1 of its 1 tags not seen before (d)",
    ]
    assert instag_sampling(pool(EXAMPLE), 9).order.tolist() == [0, 3, 1, 2, 4]


def test_it_is_listed_under_the_specification_s_name():
    (selector,) = SELECTORS
    assert (selector.id, selector.needs) == ("instag_sampling", ("tags",))
    assert selector.select(pool(EXAMPLE), 2, 0, **selector.params).order.tolist() == [0, 3]


def slow(tags, budget):
    """Row by row, pass by pass, over whatever is left."""
    left = sorted((i for i, t in enumerate(tags) if t), key=lambda i: (-len(set(tags[i])), i))
    order = []
    while left and len(order) < budget:
        seen = set()
        for i in list(left):
            if len(order) < budget and not set(tags[i]) <= seen:
                seen |= set(tags[i])
                order.append(i)
                left.remove(i)
    return order


tag_lists = st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=30)


@settings(max_examples=150, deadline=None)
@given(tags=tag_lists, budget=st.integers(0, 35))
def test_it_is_the_slow_one(tags, budget):
    found = instag_sampling(pool(tags), budget, 3)
    expected = slow(tags, budget)
    assert found.order.tolist()[: len(expected)] == expected
    rest = found.order.tolist()[len(expected) :]
    assert len(found.order) == min(budget, len(tags))
    assert all(not tags[i] for i in rest) and len(set(rest)) == len(rest)
    assert len(found.gain) == len(found.reason) == len(found.order)


@settings(max_examples=50, deadline=None)
@given(tags=tag_lists, small=st.integers(0, 20), more=st.integers(0, 20))
def test_a_larger_budget_holds_the_smaller(tags, small, more):
    few, many = instag_sampling(pool(tags), small, 1), instag_sampling(pool(tags), small + more, 1)
    assert many.order[: len(few.order)].tolist() == few.order.tolist()


def test_rows_without_tags_come_last_by_seed():
    tags = [None, ["a"], [], None, [None], ["a"]]
    orders = {tuple(instag_sampling(pool(tags), 6, seed).order.tolist()) for seed in range(30)}
    assert all(order[:2] == (1, 5) for order in orders)
    assert {order[2] for order in orders} == {0, 2, 3, 4}
    found = instag_sampling(pool(tags), 6, 0)
    assert found.gain.tolist() == [1, 1, 0, 0, 0, 0]
    assert found.reason[2] == "no tags: drawn by chance after all rows that have some"


def test_a_tag_given_twice_counts_once_and_many_are_not_all_named():
    found = instag_sampling(pool([["a", "a", "a"], ["b", "c"], list("defghijk")]), 3)
    assert found.order.tolist() == [2, 1, 0]
    assert found.reason[0] == "pass 1: 8 of its 8 tags not seen before (d, e, f, g, h, ...)"


def test_many_rows_of_the_same_tags_are_taken_in_order():
    found = instag_sampling(pool([["a"]] * 5000 + [["b"]] * 5000), 9999)
    assert found.order[:4].tolist() == [0, 5000, 1, 5001]
    assert len(set(found.order.tolist())) == 9999


@pytest.mark.parametrize(("tags", "budget", "order"), [([], 3, []), ([["a"]], 0, []), ([["a"]], 5, [0])])
def test_edges(tags, budget, order):
    assert instag_sampling(pool(tags), budget).order.tolist() == order


def test_what_is_missing_is_said():
    ids = pl.Series(["a", "b"])
    with pytest.raises(ValueError, match="needs tags"):
        instag_sampling(Candidates(ids), 1)
    with pytest.raises(ValueError, match="1 tags do not fit 2"):
        instag_sampling(Candidates(ids, tags=pl.Series([["a"]])), 1)
