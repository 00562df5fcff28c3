"""The audit sample: designs, planted rows, exact intervals, and estimates of noise."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from methods.humans import sample
from methods.humans.sample import ALL_SOURCES, allocate, clopper_pearson, draw, finite_interval, noise, rows_needed
from methods.rows import row_id


def population(sizes: dict[str, int], seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    sources = [name for name, n in sizes.items() for _ in range(n)]
    n = len(sources)
    return pl.DataFrame(
        {
            "row_id": [f"{i:032x}" for i in range(n)],
            "source": sources,
            "cluster": pl.Series(rng.integers(0, 4, n), dtype=pl.Int64),
            "score": rng.normal(size=n),
            "disagreement": rng.random(n),
        },
        schema_overrides={"row_id": pl.String, "source": pl.String},
    )


# ---- designs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", sample.DESIGNS)
def test_every_design_draws_the_rows_that_it_says(by):
    rows = population({"a": 300, "b": 100})
    one = draw(rows, 40, by, seed=3)
    assert one.rows.height == 40 and one.rows["row_id"].n_unique() == 40
    assert set(one.rows["row_id"]) <= set(rows["row_id"])
    assert int(one.cells["drawn"].sum()) == 40 and int(one.cells["population"].sum()) == 400
    assert one.rows.equals(draw(rows, 40, by, seed=3).rows)
    assert not one.rows.equals(draw(rows, 40, by, seed=4).rows)
    assert one.rows.equals(draw(rows.sample(fraction=1, shuffle=True, seed=1), 40, "random", seed=3).rows) == (
        by == "random"
    )
    assert draw(rows, 1000, by).rows.height == 400
    assert draw(rows.clear(), 5, by).rows.height == 0


def test_what_each_design_prefers():
    rows = population({"a": 300, "b": 100})
    counts = {by: dict(draw(rows, 40, by).rows.group_by("stratum").len().rows()) for by in sample.DESIGNS}
    assert counts["source"] == {"a": 20, "b": 20}
    assert counts["score"] == {f"quarter {i}": 10 for i in (1, 2, 3, 4)}
    assert counts["disagreement"]["quarter 4"] == 20
    drawn = draw(rows, 40, "disagreement").rows.filter(stratum="quarter 4").join(rows, on="row_id")
    assert drawn["disagreement"].min() >= rows["disagreement"].quantile(0.74)
    none = draw(rows.with_columns(score=pl.lit(None, pl.Float64)), 8, "score").rows
    assert set(none["stratum"]) == {"no value"}
    with pytest.raises(ValueError, match="random, source"):
        draw(rows, 5, "luck")
    with pytest.raises(ValueError, match="at least one"):
        draw(rows, 0)


def test_the_order_of_a_sample_tells_nothing_of_strata():
    strata = draw(population({"a": 200, "b": 200}), 40, "source").rows["stratum"].to_list()
    assert strata != sorted(strata) and strata != sorted(strata, reverse=True)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 40), st.data())
def test_allocation(sizes, n, data):
    weights = data.draw(st.lists(st.floats(0.01, 5), min_size=len(sizes), max_size=len(sizes)))
    given_ = allocate(sizes, weights, n)
    assert sum(given_) == min(n, sum(sizes))
    assert all(0 <= g <= size for g, size in zip(given_, sizes, strict=True))


def test_allocation_by_hand():
    assert allocate([100, 100], [1, 3], 8) == [2, 6]
    assert allocate([100, 2, 100], [1, 1, 1], 20) == [9, 2, 9]
    assert allocate([5, 5, 5], [1, 1, 1], 2) == [1, 1, 0]
    assert allocate([3, 0], [0, 1], 2) == [2, 0]


def test_disagreement_is_the_variance_of_ranks():
    values = pl.DataFrame({"up": [1.0, 2, 3, None], "down": [1.0, 2, 3, 4], "any": [9.0, 1, 5, 7]})
    found = sample.disagreement(values, {"up": "higher", "down": "lower", "any": "band"}).to_list()
    # up ranks 0, .5, 1; down, turned round, 1, 2/3, 1/3, 0
    assert found[:3] == pytest.approx([0.25, (1 / 12) ** 2, (1 / 3) ** 2])
    assert found[3] is None


# ---- planted ------------------------------------------------------------------------------------------------------------


def donors(n: int, source: str = "a") -> pl.DataFrame:
    said = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}] for i in range(n)]
    return pl.DataFrame({"row_id": [row_id(m) for m in said], "source": [source] * n, "messages": said})


def test_planted_rows_have_one_rows_question_and_anothers_answer():
    rows = pl.concat([donors(20), donors(6).with_columns(source=pl.lit("b"))])
    text = {line["row_id"]: line["messages"] for line in rows.to_dicts()}
    made = sample.planted(rows, 5, seed=2)
    assert len(made) == 5 == len({row["row_id"] for row in made})
    for row in made:
        assert row["prompt_of"] != row["answer_of"]
        assert row["messages"][0] == text[row["prompt_of"]][0] and row["messages"][-1] == text[row["answer_of"]][-1]
        assert row["row_id"] == row_id(row["messages"]) not in text
    assert made == sample.planted(rows, 5, seed=2) != sample.planted(rows, 5, seed=3)


def test_rows_that_cannot_be_exchanged_are_not_planted():
    assert sample.planted(donors(1), 1) == []
    assert len(sample.planted(donors(2), 1)) == 1
    same = donors(4).with_columns(
        messages=pl.Series(
            [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}] for i in range(4)]
        )
    )
    assert sample.planted(same, 3) == []
    assert sample.planted(donors(3).with_columns(pl.col("messages").list.head(1)), 2) == []
    assert sample.planted(donors(3).clear(), 2) == []


def test_of_a_conversation_the_last_answer_is_exchanged():
    long = donors(3).with_columns(pl.concat_list(pl.col("messages"), pl.col("messages")).alias("messages"))
    for row in sample.planted(long, 2):
        assert row["messages"][1]["content"][1:] == row["messages"][0]["content"][1:]
        assert row["messages"][-1]["content"][1:] != row["messages"][0]["content"][1:]


# ---- intervals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 40)])
def test_clopper_pearson_leaves_half_the_error_on_either_side(k, n):
    low, high = clopper_pearson(k, n)
    if k:
        assert binom.sf(k - 1, n, low) == pytest.approx(0.025)
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(0.025)
    assert 0 <= low <= k / n <= high <= 1
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("n", "size"), [(1, 3), (5, 12), (12, 12), (8, 40)])
def test_the_finite_interval_is_every_share_that_the_draw_does_not_refuse(n, size):
    for k in range(n + 1):
        kept = [
            total
            for total in range(k, size - (n - k) + 1)
            if hypergeom.sf(k - 1, size, total, n) > 0.025 and hypergeom.cdf(k, size, total, n) > 0.025
        ]
        assert finite_interval(k, n, size) == (min(kept) / size, max(kept) / size)
    with pytest.raises(ValueError, match="no sample"):
        finite_interval(2, 1, 5)


def test_a_large_population_is_as_good_as_none():
    assert finite_interval(3, 20, 2_000_000) == pytest.approx(clopper_pearson(3, 20), abs=1e-3)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.0])
@pytest.mark.parametrize("size", [None, 400, 30])
def test_rows_needed_is_enough_and_hardly_more(share, size):
    n = rows_needed(0.2, share, size)

    def width(n):
        low, high = clopper_pearson(share * n, n) if size is None else finite_interval(round(share * n), n, size)
        return high - low

    assert width(n) <= 0.2 + 1e-12
    assert size is None or n <= size
    assert max(width(m) for m in range(max(n - 12, 1), n)) > 0.2
    assert rows_needed(0.1, share, size) >= n
    with pytest.raises(ValueError, match="width"):
        rows_needed(0.0)


# ---- what verdicts tell -------------------------------------------------------------------------------------------------


def test_false_positives_by_hand():
    found = sample.false_positives(pl.Series([True, False, False, None, False]))
    assert (found["accepted"], found["read"], found["planted"], found["value"]) == (1, 4, 5, 0.25)
    assert (found["low"], found["high"]) == clopper_pearson(1, 4)
    nobody = sample.false_positives(pl.Series([None, None], dtype=pl.Boolean))
    assert nobody["value"] is None and nobody["status"] == "no_labels"


def cells(*lines) -> pl.DataFrame:
    return pl.DataFrame(lines, schema=["population", "drawn", "read", "noisy"], orient="row")


def test_the_stratified_estimate_by_hand():
    """Half of 10 of 900, all of 5 of 100: .9 x .5 + .1 x 1."""
    found = sample.share_of_cells(cells((900, 10, 10, 5), (100, 5, 5, 5)))
    assert found["value"] == pytest.approx(0.55) and found["interval"] == sample.STRATIFIED
    assert 0.2 < found["low"] < 0.55 < found["high"] < 0.9
    one = sample.share_of_cells(cells((900, 10, 10, 5)))
    assert (one["low"], one["high"]) == pytest.approx(finite_interval(5, 10, 900)) and one["interval"] == sample.EXACT


def test_everything_read_is_known():
    found = sample.share_of_cells(cells((10, 10, 10, 3), (5, 5, 5, 0)))
    assert found["value"] == found["low"] == found["high"] == pytest.approx(0.2)


def test_rows_of_which_none_was_read_may_be_anything():
    found = sample.share_of_cells(cells((50, 50, 50, 0), (50, 2, 0, 0)))
    assert found["covered"] == 0.5 and found["value"] == 0
    assert (found["low"], found["high"]) == (0, 0.5)
    assert sample.share_of_cells(cells((50, 3, 0, 0)))["status"] == "no_labels"


def test_noise_by_source():
    rows = population({"a": 60, "b": 60})
    drawn = draw(rows, 40, "source")
    verdicts = drawn.rows.select("row_id", accepted=pl.col("source") == "a")
    found = noise(drawn.rows, drawn.cells, verdicts)
    assert found.schema == sample.NOISE_SCHEMA
    assert found.select("source", "value", "read").rows() == [("a", 0.0, 20), ("b", 1.0, 20), (ALL_SOURCES, 0.5, 40)]
    nobody = noise(drawn.rows, drawn.cells, verdicts.clear())
    assert set(nobody["status"]) == {"no_labels"} and nobody["value"].null_count() == 3


@pytest.mark.parametrize("by", ["random", "disagreement"])
def test_intervals_hold_the_truth_as_often_as_they_say(by):
    """120 audits of one population whose noise hangs on the stratum; estimates are unbiased, 9 in 10 intervals hold."""
    rows = population({"a": 500, "b": 300})
    rng = np.random.default_rng(9)
    noisy = rng.random(800) < 0.1 + 0.3 * (rows["disagreement"].to_numpy() > 0.75)
    verdicts = rows.select("row_id", accepted=pl.Series(~noisy))
    held, off = [], []
    for seed in range(120):
        drawn = draw(rows, 80, by, seed)
        line = noise(drawn.rows, drawn.cells, verdicts).filter(source=ALL_SOURCES).to_dicts()[0]
        held.append(line["low"] <= noisy.mean() <= line["high"])
        off.append(line["value"] - noisy.mean())
    assert np.mean(held) >= 0.9
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(120)


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_what_was_read_bounds_every_interval(n, k, more):
    k = min(k, n)
    found = sample.share_of_cells(cells((n + more, n, n, k), (7, 7, 7, 7)))
    size = n + more + 7
    assert (k + 7) / size - 1e-12 <= found["low"] <= found["high"] <= (k + more + 7) / size + 1e-12
