"""The three flags on planted rows: outliers, noise, duplicates; the robust z-score by hand; statuses."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Pool
from methods.numerics.neighbours import top_k
from methods.quality.flags import broken_bounds, duplicate_flag, noise_flag, outlier_flag, outlying, robust_z
from methods.text import count_block


def counts(responses, prompts=None, language="en"):
    n = len(responses)
    block = pl.DataFrame(
        {
            "row_id": [str(i) for i in range(n)],
            "instruction": prompts or ["Say something"] * n,
            "input": [""] * n,
            "response": responses,
            "language": [language] * n,
        },
        schema=dict.fromkeys(("row_id", "instruction", "input", "response", "language"), pl.String),
    )
    return count_block(block)


# --- outliers --------------------------------------------------------------------------------------------------------
def test_robust_z_by_hand():
    # median 3, deviations 2 1 0 1 97, MAD 1
    assert robust_z(np.array([1.0, 2, 3, 4, 100])) == pytest.approx(np.array([2, 1, 0, 1, 97]) / 1.4826)
    with_hole = robust_z(np.array([1.0, 2, np.nan, 3, 4, 100]))
    assert np.isnan(with_hole[2]) and with_hole[5] == pytest.approx(97 / 1.4826)
    assert np.isnan(robust_z(np.array([5.0, 5, 5, 9]))).all()  # half is one value
    assert np.isnan(robust_z(np.array([1.0, 9]))).all()


@settings(deadline=None)
@given(st.lists(st.integers(-100, 100), min_size=3, max_size=30), st.integers(1, 9), st.integers(-50, 50))
def test_robust_z_knows_no_scale(values, scale, shift):
    numbers = np.array(values, dtype=float)
    assert robust_z(numbers * scale + shift) == pytest.approx(robust_z(numbers), nan_ok=True)


def featured(columns, status=None, responses=None):
    n = len(next(iter(columns.values())))
    table = counts(responses or ["word " * (10 + i % 3) for i in range(n)])
    features = pl.DataFrame(
        {"row_id": table["row_id"], "status": status or ["ok"] * n, **columns},
        schema_overrides={**dict.fromkeys(columns, pl.Float64), "status": pl.String},
    )
    return Pool(table["row_id"], counts=table.lazy(), features=features)


def test_outliers_in_several_columns():
    usual = [1.0, 2, 3, 4, 5, 6, 7]
    columns = {
        "x": [*usual, 99],
        "y": [*usual[:-1], 99, 99],
        "z": [*usual[:-1], 7, -99],
        "constant": [1.0] * 7 + [50],
    }
    pool = featured(columns)
    assert outlier_flag(pool, at_least=3)["value"].to_list() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert outlier_flag(pool, at_least=1)["value"].to_list() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert outlier_flag(pool, at_least=4)["value"].sum() == 0
    assert outlier_flag(pool, cut=1e9, at_least=1)["value"].sum() == 0
    assert outlying(pool)["constant"].to_list() == [None] * 8
    assert outlying(pool)["y"].to_list() == [False] * 6 + [True, True]


def test_lengths_are_asked_too():
    responses = ["word " * (9 + i % 4) for i in range(9)] + ["word " * 5000]
    pool = featured({"x": [float(i) for i in range(10)]}, responses=responses)
    assert outlier_flag(pool, at_least=1)["value"].to_list() == [0] * 9 + [1]


def test_outlier_statuses():
    columns = {"x": [1.0, 2, 3, 4, None], "y": [1.0, 2, 3, None, None]}
    found = outlier_flag(featured(columns, ["ok"] * 4 + ["too_short"]))
    assert found["status"].to_list() == ["ok"] * 4 + ["too_short"]
    assert found["value"].to_list() == [0, 0, 0, 0, None]
    few = outlier_flag(featured({"x": [1.0, 2, None]}, ["ok", "ok", "wrong_language"]))
    assert few["status"].to_list() == ["too_few_rows", "too_few_rows", "wrong_language"]
    assert outlier_flag(featured({"x": []})).height == 0
    with pytest.raises(ValueError, match="at_least"):
        outlier_flag(featured(columns), at_least=0)


# --- noise -----------------------------------------------------------------------------------------------------------
CLEAN = "The river runs past the old mill and turns slowly towards the sea."
LOOP = "Please try again later. " * 12
STUTTER = "This is good " + "very " * 9 + "nice work that anyone would be glad to have done today."
TYPOS = "Ths sentnce hs mny wrds tht ar speld vry bdly indeeed by smone."
SIGNS = "| 12 | 34 | ## == ++ | 56 | 78 | ... yes | 90 |"


def noisy(responses, **more):
    return counts(responses, **more)


def test_planted_noise():
    pool = noisy([CLEAN, LOOP, STUTTER, TYPOS, SIGNS])
    broken = broken_bounds(pool)
    assert broken["repeated"].to_list() == [False, True, False, False, False]
    assert broken["run"].to_list() == [False, False, True, False, False]
    assert broken["misspelt"].to_list() == [False, False, False, True, False]
    assert broken["letters"].to_list() == [False, False, False, False, True]
    assert noise_flag(pool)["value"].to_list() == [0, 1, 1, 1, 1]
    assert noise_flag(pool, least_letters=1.01)["value"].to_list() == [1, 2, 2, 2, 1]
    lenient = noise_flag(pool, most_repeated=1, longest_run=99, most_misspelt=1, least_letters=0)
    assert lenient["value"].to_list() == [0] * 5


def test_what_cannot_be_asked_is_not_broken():
    assert noise_flag(noisy([TYPOS], language="fr"))["value"].to_list() == [0]
    assert noise_flag(noisy(["Yes."]))["value"].to_list() == [0]
    assert noise_flag(noisy(["猫坐在垫子上，很高兴。"], language="zh"))["value"].to_list() == [0]
    code = noise_flag(noisy(["```\nx = [1, 2, 3, 4] + {5: 6}\n```"]))
    assert code["value"].to_list() == [0]


def test_noise_statuses_and_fields():
    found = noise_flag(noisy(["", "?!", CLEAN]))
    assert found["status"].to_list() == ["empty_response", "no_words", "ok"]
    assert found["value"].to_list() == [None, None, 0]
    prompts = noise_flag(noisy([CLEAN], prompts=[LOOP]), field="prompt")
    assert prompts["value"].to_list() == [1]
    assert noise_flag(noisy([])).height == 0
    with pytest.raises(ValueError, match="field"):
        noise_flag(noisy([CLEAN]), field="title")


# --- duplicates ------------------------------------------------------------------------------------------------------
def near(lists, order=None):
    ids = order or [str(i) for i in range(len(lists))]
    neighbours = pl.DataFrame(
        {
            "row_id": [str(i) for i in range(len(lists))],
            "ids": [None if one is None else [id for id, _ in one] for one in lists],
            "similarity": [None if one is None else [s for _, s in one] for one in lists],
        },
        schema={"row_id": pl.String, "ids": pl.List(pl.String), "similarity": pl.List(pl.Float32)},
    )
    return Pool(pl.Series(ids, dtype=pl.String), neighbours=neighbours)


def test_the_first_of_a_group_is_not_flagged():
    lists = [
        [("2", 0.99), ("3", 0.96)],
        [("0", 0.5)],
        [("3", 0.995), ("0", 0.99)],  # its nearest comes later, but an earlier one is near enough
        [("2", 0.995), ("0", 0.96)],
        None,
        [],
    ]
    found = duplicate_flag(near(lists))
    assert found["value"].to_list() == [0, 0, 1, 1, None, 0]
    assert found["status"].to_list() == ["ok"] * 4 + ["no_embedding", "ok"]
    assert duplicate_flag(near(lists), similarity=0.97)["value"].to_list() == [0, 0, 1, 1, None, 0]
    assert duplicate_flag(near(lists), similarity=0.999)["value"].to_list() == [0, 0, 0, 0, None, 0]


def test_the_threshold_itself_counts():
    assert duplicate_flag(near([[("1", 0.95)], [("0", 0.95)]]))["value"].to_list() == [0, 1]
    assert duplicate_flag(near([[("1", 0.9499)], [("0", 0.9499)]]))["value"].to_list() == [0, 0]


def test_the_pools_order_decides_and_not_the_tables():
    lists = [[("1", 1.0)], [("0", 1.0)]]
    assert duplicate_flag(near(lists, order=["1", "0"]))["value"].to_list() == [0, 1]
    missing = duplicate_flag(near(lists, order=["1", "7"]))
    assert missing["status"].to_list() == ["ok", "no_embedding"]
    assert missing["value"].to_list() == [0, None]  # the near one is not in this pool
    assert duplicate_flag(near([])).height == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=12), st.floats(0.5, 0.99))
def test_against_all_pairs(points, limit):
    vectors = np.array([(x + 0.1, y + 0.3) for x, y in points], dtype=np.float64)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    cosines = vectors.astype(float) @ vectors.T.astype(float)
    if np.abs(cosines - limit).min() < 1e-4:
        return
    index, similarity = top_k(vectors, len(points))
    lists = [
        [(str(j), float(s)) for j, s in zip(js, ss, strict=True) if j >= 0]
        for js, ss in zip(index.tolist(), similarity.tolist(), strict=True)
    ]
    slow = [float(any(cosines[i, j] >= limit for j in range(i))) for i in range(len(points))]
    assert duplicate_flag(near(lists), similarity=limit)["value"].to_list() == slow


@pytest.mark.parametrize("flag", [outlier_flag, duplicate_flag])
def test_what_it_needs_is_asked_for(flag):
    with pytest.raises(ValueError, match="has none"):
        flag(Pool(pl.Series(["x"])))
