"""MoDS: strict thresholds, a seed that covers, a union without doubles, and what the indicators say of a row."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.importance.mods import (
    ANSWERS,
    SEED,
    chosen_rows,
    good_rows,
    mods_seed,
    needed_rows,
    reward_necessity,
    seed_rows,
    seed_size,
    with_rewards,
)
from methods.kinds import Pool
from resources.fakes import FakeEncoder

NAN = float("nan")
REWARDS = pl.Series([-1.2, 0.0, 0.3, None, NAN])
rewards = st.lists(st.one_of(st.none(), st.floats(-3, 3), st.just(NAN), st.just(0.0)), max_size=12)


def ids(n: int) -> pl.Series:
    return pl.Series([chr(ord("a") + row) for row in range(n)], dtype=pl.String)


def test_thresholds_are_strict() -> None:
    assert good_rows(REWARDS).tolist() == [False, False, True, False, False]
    assert needed_rows(REWARDS).tolist() == [True, False, False, False, False]
    assert good_rows(REWARDS, -1.2).tolist() == [False, True, True, False, False]
    assert needed_rows(REWARDS, 0.3).tolist() == [True, True, False, False, False]
    assert good_rows(REWARDS.head(0)).tolist() == needed_rows(REWARDS.head(0)).tolist() == []


def test_the_seed_of_the_survey() -> None:
    """Points 0, 1, 5, 10 on a line: after 0 comes 10, then 5. Whatever the first, k-center knows the rest."""
    line = np.array([[0.0], [1.0], [5.0], [10.0]], dtype=np.float32)
    start = next(seed for seed in range(50) if np.random.default_rng(seed).integers(4) == 0)
    found = seed_rows(ids(4), line, 3, seed=start)
    assert line[found.order, 0].tolist() == [0, 10, 5]
    assert found.gain[1:].tolist() == [10, 5] and np.isnan(found.gain[0])


def test_rows_without_a_vector_are_no_candidates() -> None:
    line = np.array([[NAN], [0.0], [NAN], [3.0], [1.0]], dtype=np.float32)
    found = seed_rows(ids(5), line, 5)
    assert sorted(found.order.tolist()) == [1, 3, 4]
    assert found.nearest is not None and set(found.nearest.tolist()) <= {-1, 1, 3, 4}
    assert found.nearest[0] == -1
    assert seed_rows(ids(2), np.full((2, 1), NAN, dtype=np.float32), 2).order.tolist() == []
    assert seed_rows(ids(0), np.empty((0, 3), dtype=np.float32), 2).order.tolist() == []


def test_against_a_slow_k_center() -> None:
    texts = [f"{verb} a {noun}" for verb in ("write", "draw", "count", "sing") for noun in ("song", "ship", "letter")]
    (block,) = FakeEncoder().encode(texts)
    vectors = block.vectors[np.argsort(block.indices)]
    found = seed_rows(ids(12), vectors, 6, seed=4).order.tolist()
    slow = [int(np.random.default_rng(4).integers(12))]
    while len(slow) < 6:
        away = [min(float(np.linalg.norm(vectors[i] - vectors[j])) for j in slow) for i in range(12)]
        slow.append(int(np.argmax(np.round(away, 5))))
    assert found == slow


@pytest.mark.parametrize(
    ("good", "wanted", "size"), [(5000, 1000, 1000), (30, 1000, 15), (31, 4, 4), (1, 9, 1), (0, 9, 0)]
)
def test_the_seed_leaves_rows_to_be_needed(good: int, wanted: int, size: int) -> None:
    assert seed_size(good, wanted) == size


def test_the_union_has_no_doubles_and_tells_both_reasons() -> None:
    seed = pl.DataFrame({"row_id": ["c", "gone", "a"], "rank": [2, 1, 3], "reward": [0.5, 0.9, 2.0]})
    answers = pl.DataFrame({"row_id": ["a", "b", "c", "d", "e", "left"], "reward": [1.0, -0.5, -2.0, 0.0, -1.5, -9.0]})
    found = chosen_rows(pl.Series(["a", "b", "c", "d", "e"]), seed, answers)
    assert found.rows() == [
        ("c", "seed", 0.5, -2.0, "row 2 of the seed; the seed model's answer has reward -2.0, below 0.0"),
        ("a", "seed", 2.0, 1.0, "row 3 of the seed"),
        ("e", "necessity", None, -1.5, "the seed model's answer has reward -1.5, below 0.0"),
        ("b", "necessity", None, -0.5, "the seed model's answer has reward -0.5, below 0.0"),
    ]
    told = with_rewards(found, pl.DataFrame({"row_id": ["b", "c"], "reward": [7.0, 8.0]}))
    assert told["reward"].to_list() == [0.5, 2.0, None, 7.0] and told.columns == found.columns


def test_ties_go_by_the_order_of_the_pool() -> None:
    answers = pl.DataFrame({"row_id": ["x", "y", "z"], "reward": [-1.0, -1.0, -2.0]})
    none = pl.DataFrame(schema={"row_id": pl.String, "rank": pl.Int64, "reward": pl.Float64})
    found = chosen_rows(pl.Series(["y", "x", "z"]), none, answers)
    assert found["row_id"].to_list() == ["z", "y", "x"]
    nobody = chosen_rows(pl.Series([], dtype=pl.String), none, answers.head(0))
    assert nobody.is_empty() and nobody.columns == ["row_id", "step", "reward", "reward_generated", "reason"]


@given(rewards, st.sets(st.integers(0, 11)))
def test_the_union_is_the_union(generated: list[float | None], seeds: set[int]) -> None:
    pool = ids(12)
    seed = pl.DataFrame(
        {"row_id": [pool[row] for row in sorted(seeds)], "rank": range(1, len(seeds) + 1), "reward": 1.0},
        schema={"row_id": pl.String, "rank": pl.Int64, "reward": pl.Float64},
    )
    answers = pl.DataFrame({"row_id": pool[: len(generated)], "reward": pl.Series(generated, dtype=pl.Float64)})
    found = chosen_rows(pool, seed, answers)
    low = {pool[row] for row, reward in enumerate(generated) if reward is not None and reward < 0}
    assert set(found["row_id"]) == {pool[row] for row in seeds} | low
    assert found["row_id"].is_unique().all() and found["reason"].null_count() == 0
    assert set(found.filter(step="necessity")["row_id"]) == low - {pool[row] for row in seeds}


# --- indicators ------------------------------------------------------------------------------------------------------
def test_necessity_is_the_reward_turned_round() -> None:
    table = pl.DataFrame(
        {
            "row_id": list("abcdef"),
            "status": ["ok", "ok", "ok", "too_long", None, "ok"],
            "reward": [-1.2, 0.0, 0.3, None, None, NAN],
        }
    )
    found = reward_necessity(Pool(table["row_id"], tables={ANSWERS: table.lazy()}))
    assert found["value"].to_list() == [1.2, 0.0, -0.3, None, None, None]
    assert found["status"].to_list() == ["ok", "ok", "ok", "too_long", "not_asked", "not_finite"]
    cut = Pool(table["row_id"], tables={ANSWERS: table.with_columns(status=pl.lit("truncated")).lazy()})
    assert reward_necessity(cut)["status"].unique().to_list() == ["truncated"]
    kept = reward_necessity(cut, keep_truncated=True)
    assert kept["value"].to_list() == [1.2, 0.0, -0.3, None, None, None]
    assert kept["status"].to_list() == ["ok"] * 3 + ["not_finite"] * 3


def test_the_place_in_the_seed() -> None:
    table = pl.DataFrame({"row_id": list("abcd"), "rank": [1, None, 3, 2]})
    found = mods_seed(Pool(table["row_id"], tables={SEED: table.lazy()}))
    assert found.rows() == [(1.0, "ok"), (None, "not_seed"), (3.0, "ok"), (2.0, "ok")]
    for compute, name, column in ((mods_seed, SEED, "rank"), (reward_necessity, ANSWERS, "reward")):
        empty = pl.LazyFrame(schema={"row_id": pl.String, "status": pl.String, column: pl.Float64})
        assert compute(Pool(table["row_id"].head(0), tables={name: empty})).shape == (0, 2)
