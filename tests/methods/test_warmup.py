"""Cherry's warm-up: even steps of perplexity in every cluster, what is left out, and the difficulty after it."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.kinds import Pool
from methods.quality.model import ifd
from methods.quality.warmup import (
    EXPERIENCED,
    NO_PERPLEXITY,
    NO_VECTOR,
    ifd_experienced,
    prompt_perplexity,
    random_rows,
    warmup_rows,
)

NAN = float("nan")


def towards(*axes: int, width: int = 4) -> np.ndarray:
    """Unit vectors along these axes, -1 for a row without a vector."""
    vectors = np.full((len(axes), width), NAN, dtype=np.float32)
    for row, axis in enumerate(axes):
        if axis >= 0:
            vectors[row] = np.eye(width)[axis]
    return vectors


def test_even_steps_inside_the_window() -> None:
    """Perplexities 1..21 in one cluster: percentiles 5 and 95 are 2 and 20, inside are 19 rows, and the middles of three
    equal stretches are places 3, 9 and 15 of them."""
    perplexity = np.arange(21, 0, -1.0)
    found = warmup_rows(towards(*[0] * 21), perplexity, clusters=1, each=3, window=(5, 95))
    assert perplexity[found.order].tolist() == [5, 11, 17]
    assert found.order.tolist() == [16, 10, 4] and found.cluster.tolist() == [0, 0, 0]
    assert found.reason[0] == "cluster 0: perplexity 5, of 19 rows between its percentiles 5 and 95"
    assert found.sizes == {0: 21} and not found.left_out


def test_a_small_cluster_gives_all_its_rows() -> None:
    found = warmup_rows(towards(*[0] * 30, 1, 1, 1), np.arange(33.0), clusters=2, each=4)
    small = [row for row in found.order.tolist() if row >= 30]
    assert small == [30, 31, 32] and len(found.order) == 7
    assert len(set(found.cluster.tolist())) == 2 and sorted(found.sizes.values()) == [3, 30]
    assert [reason for reason in found.reason if "all its rows are taken" in reason] == found.reason[-3:]


def test_rows_that_cannot_be_looked_at_say_why() -> None:
    found = warmup_rows(towards(0, -1, 0, 1, -1), np.array([2.0, 3.0, NAN, math.inf, NAN]), clusters=2, each=2)
    assert found.order.tolist() == [0]
    assert found.left_out == {1: NO_VECTOR, 2: NO_PERPLEXITY, 3: NO_PERPLEXITY, 4: NO_PERPLEXITY}


def test_fewer_rows_than_clusters_and_none_at_all() -> None:
    found = warmup_rows(towards(0, 1, 1), np.array([4.0, 2.0, 1.0]))
    assert sorted(found.order.tolist()) == [0, 1, 2] and len(set(found.cluster.tolist())) == 2
    for vectors in (towards(), towards(-1, -1), np.full((2, 1), NAN, dtype=np.float32)):
        empty = warmup_rows(vectors, np.ones(len(vectors)))
        assert empty.order.tolist() == [] and empty.reason == [] and empty.order.dtype == np.int64


def test_all_equal() -> None:
    """One cluster, every perplexity in the window; ties go by index, at even steps."""
    found = warmup_rows(towards(*[2] * 40), np.full(40, 7.0), each=4)
    assert found.order.tolist() == [5, 15, 25, 35]


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"clusters": 0}, {"each": 0}, {"window": (50, 10)}, {"window": (-1, 99)}, {"window": (1, 101)}):
        with pytest.raises(ValueError, match="at least one cluster"):
            warmup_rows(towards(0), np.ones(1), **wrong)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6), st.sampled_from([(1, 99), (25, 75), (0, 100)]))
def test_against_a_slow_reading_of_the_definition(
    luck: int, clusters: int, each: int, window: tuple[float, float]
) -> None:
    rng = np.random.default_rng(luck)
    n = int(rng.integers(1, 60))
    vectors = rng.standard_normal((n, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * 0.999999).astype(np.float32)
    perplexity = rng.integers(1, 12, n).astype(float)
    found = warmup_rows(vectors, perplexity, clusters, each, window)
    assert len(set(found.order.tolist())) == len(found.order) == len(found.reason)
    for cluster, size in found.sizes.items():
        taken = found.order[found.cluster == cluster]
        assert len(taken) <= each and (size > each or len(taken) == size)
        assert (np.diff(perplexity[taken]) >= 0).all()
    assert sum(found.sizes.values()) == n
    again = warmup_rows(vectors, perplexity, clusters, each, window)
    assert again.order.tolist() == found.order.tolist()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 6))
def test_one_cluster_by_hand(values: list[int], each: int) -> None:
    found = warmup_rows(towards(*[0] * len(values)), np.array(values, dtype=float), 1, each, (10, 90))
    ranked = sorted(range(len(values)), key=lambda row: (values[row], row))
    if len(values) > each:
        low, high = np.percentile(values, [10, 90])
        inside = [row for row in ranked if low <= values[row] <= high]
        if len(inside) > each:
            inside = [inside[int((k + 0.5) * len(inside) / each + 1e-9)] for k in range(each)]
        ranked = inside
    assert found.order.tolist() == ranked


def test_random() -> None:
    found = random_rows(50, 8, seed=3)
    assert len(set(found.order.tolist())) == 8 and set(found.cluster.tolist()) == {-1}
    assert found.order.tolist() == random_rows(50, 8, seed=3).order.tolist() != random_rows(50, 8).order.tolist()
    assert sorted(random_rows(3, 8).order.tolist()) == [0, 1, 2] and random_rows(0, 8).order.tolist() == []


def test_the_perplexity_of_a_prompt() -> None:
    lists = [[math.log(0.5), math.log(0.125)], [], None, [None], [math.log(0.5), None]]
    block = pl.DataFrame({"logp_prompt": lists}, schema={"logp_prompt": pl.List(pl.Float32)})
    found = prompt_perplexity(block).to_list()
    assert found[0] == pytest.approx(4, rel=1e-6) and found[4] == pytest.approx(2, rel=1e-6)
    assert found[1:4] == [None, None, None]
    assert prompt_perplexity(block.head(0)).to_list() == []


# --- the indicator ---------------------------------------------------------------------------------------------------
def passed(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(n)
    lists = [np.log(rng.uniform(0.01, 0.9, rng.integers(0, 6))).tolist() for _ in range(2 * n)]
    return pl.DataFrame(
        {
            "row_id": [f"{row:032x}" for row in range(n)],
            "status": [("ok", "truncated", "too_long", None)[row % 4] for row in range(n)],
            "truncated": [row % 4 == 1 for row in range(n)],
            "logp_conditional": lists[:n],
            "logp_alone": [b[: len(a)] + a[len(b) :] for a, b in zip(lists[:n], lists[n:], strict=True)],
        },
        schema_overrides={"logp_conditional": pl.List(pl.Float32), "logp_alone": pl.List(pl.Float32)},
    )


def pool_of(table: pl.DataFrame) -> Pool:
    return Pool(table["row_id"], tables={EXPERIENCED: table.lazy()})


def test_hand_value_of_the_survey() -> None:
    table = pl.DataFrame(
        {
            "row_id": ["a"],
            "status": ["ok"],
            "truncated": [False],
            "logp_conditional": [np.log([0.5, 0.5, 0.25]).tolist()],
            "logp_alone": [np.log([0.25, 0.25, 0.125]).tolist()],
        }
    )
    assert ifd_experienced(pool_of(table))["value"].to_list() == [pytest.approx(4 / 7)]


def test_it_is_ifd_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = passed(90)
    monkeypatch.setattr("methods.quality.warmup.ROWS_AT_A_TIME", 7)
    for keep in (False, True):
        found = ifd_experienced(pool_of(table), keep_truncated=keep)
        whole = ifd(table.with_columns(pl.col("status").fill_null("not_passed")), keep)
        assert found.equals(whole)
    assert set(found["status"]) >= {"ok", "too_long", "not_passed", "empty_response"}


def test_an_empty_pool() -> None:
    assert ifd_experienced(pool_of(passed(1).head(0))).shape == (0, 2)
