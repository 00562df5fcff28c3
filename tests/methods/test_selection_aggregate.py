"""Many indicators into one score, and the gates: hand-worked values and every refusal."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.selection.aggregate import aggregate, ecdf, gate, select_percentile, select_threshold

HIGHER = {"a": "higher", "b": "higher"}


def scores(**columns):
    n = len(next(iter(columns.values())))
    frame = {"row_id": [f"r{i}" for i in range(n)], **columns}
    return pl.DataFrame(frame, schema_overrides=dict.fromkeys(columns, pl.Float64))


def values(frame, weights=None, directions=HIGHER, **kwargs):
    return aggregate(frame, weights, directions, **kwargs)["value"].to_list()


def test_weighted_mean_of_given_z_scores():
    frame = scores(a=[1, -1], b=[0, 2])
    assert values(frame, {"a": 0.75, "b": 0.25}, normalise="none") == pytest.approx([0.75, -0.25])


def test_z_scores_use_the_population_deviation_and_constants_weigh_nothing():
    frame = scores(a=[1, 2, 3], b=[5, 5, 5])
    z = math.sqrt(1.5)
    assert values(frame) == pytest.approx([-z / 2, 0, z / 2])
    assert values(scores(a=[0.1 + 0.2, 0.3], b=[1, 2])) == pytest.approx([-0.5, 0.5])


def test_lower_is_better_is_turned_before_anything_else():
    frame = scores(a=[1, 2, 4], b=[0, 0, 0])
    for normalise in ("zscore", "rank", "minmax"):
        up = values(frame, {"a": 1, "b": 0}, normalise=normalise)
        down = values(frame.with_columns(-pl.col("a")), {"a": 1, "b": 0}, {"a": "lower"}, normalise=normalise)
        assert down == pytest.approx(up) and up == sorted(up)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"normalise": "none", "mode": "sum"}, [11, 22, 33]),
        ({"normalise": "none", "mode": "mean"}, [5.5, 11, 16.5]),
        ({"normalise": "none", "mode": "product"}, [10, 40, 90]),
        ({"normalise": "none", "mode": "min"}, [1, 2, 3]),
        ({"normalise": "minmax", "mode": "mean"}, [0, 0.5, 1]),
        ({"normalise": "rank", "mode": "mean"}, [1 / 3, 2 / 3, 1]),
        ({"mode": "mean_rank"}, [1 / 3, 2 / 3, 1]),
    ],
)
def test_modes(options, expected):
    assert values(scores(a=[1, 2, 3], b=[10, 20, 30]), **options) == pytest.approx(expected)


def test_a_product_takes_weights_as_exponents_and_refuses_negative_factors_row_by_row():
    frame = scores(a=[4, 9, 0], b=[2, -1, 5])
    found = aggregate(frame, {"a": 0.5, "b": 2}, HIGHER, normalise="none", mode="product")
    assert found["value"].to_list() == pytest.approx([8, None, 0])
    assert found["status"].to_list() == ["ok", "negative_factor", "ok"]


def test_a_missing_value_leaves_the_row_without_a_score_and_is_named():
    frame = scores(a=[1, None, float("nan")], b=[2, 3, float("inf")])
    found = aggregate(frame, None, HIGHER, normalise="none")
    assert found["value"].to_list() == [1.5, None, None]
    assert found["status"].to_list() == ["ok", "missing: a", "missing: a, b"]
    assert found["row_id"].to_list() == ["r0", "r1", "r2"]


def test_ignoring_missing_values_lets_the_others_decide():
    frame = scores(a=[1, None, None], b=[3, 4, None])
    found = aggregate(frame, {"a": 3, "b": 1}, HIGHER, normalise="none", null_policy="ignore")
    assert found["value"].to_list() == [1.5, 4, None]
    assert found["status"].to_list() == ["ok", "ok", "missing: a, b"]
    assert values(frame, normalise="none", mode="min", null_policy="ignore") == [1, 4, None]
    assert values(frame, normalise="none", mode="product", null_policy="ignore") == [3, 4, None]


def test_the_worst_value_stands_in_for_a_missing_one():
    frame = scores(a=[1, None, 5], b=[2, 2, 2])
    assert values(frame, {"a": 1, "b": 0}, normalise="none", null_policy="worst") == [1, 1, 5]
    turned = values(frame, {"a": 1, "b": 0}, {"a": "lower"}, normalise="none", null_policy="worst")
    assert turned == [-1, -5, -5]
    found = aggregate(scores(a=[1, 2], b=[None, None]), None, HIGHER, null_policy="worst")
    assert found["status"].to_list() == ["missing: b", "missing: b"]


def test_statistics_come_from_the_values_that_are_there():
    frame = scores(a=[1, 3, None], b=[1, 1, 1])
    assert values(frame, {"a": 1, "b": 0}) == [-1, 1, None]


def test_a_band_counts_the_distance_to_its_target():
    frame = scores(a=[1, 2, 3, 7])
    assert values(frame, None, {"a": "band"}, normalise="none", targets={"a": 2}) == [-1, 0, -1, -5]
    assert values(frame, None, {"a": "band"}, normalise="none", targets={"a": [2, 5]}) == [-1, 0, 0, -2]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=25))
def test_scipy_normalises_alike(rows):
    stats = pytest.importorskip("scipy.stats")
    a, b = np.array(rows, dtype=float).T
    frame, weights = scores(a=a, b=b), {"a": 0.75, "b": 0.25}

    def z(x):
        return stats.zscore(x) if np.ptp(x) else np.zeros_like(x)  # scipy has no z-score of a constant

    assert values(frame, weights) == pytest.approx(0.75 * z(a) + 0.25 * z(b), abs=1e-9)
    rank = 0.75 * stats.rankdata(a, "max") + 0.25 * stats.rankdata(b, "max")
    assert values(frame, weights, normalise="rank") == pytest.approx(rank / len(rows))
    assert values(frame, weights, mode="mean_rank") == pytest.approx(rank / len(rows))


@settings(deadline=None)
@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=20),
    st.sampled_from([0.5, 2, 7]),
    st.integers(-9, 9),
    st.sampled_from(["zscore", "rank", "minmax"]),
)
def test_the_unit_of_an_indicator_does_not_matter(numbers, scale, shift, normalise):
    frame = scores(a=numbers, b=list(range(len(numbers))))
    other = frame.with_columns(pl.col("a") * scale + shift)
    assert values(other, normalise=normalise) == pytest.approx(values(frame, normalise=normalise), abs=1e-9)
    turned = frame.with_columns(-pl.col("a"))
    assert values(turned, None, {**HIGHER, "a": "lower"}, normalise=normalise) == pytest.approx(
        values(frame, normalise=normalise), abs=1e-9
    )


def test_nothing_in_nothing_out():
    found = aggregate(scores(a=[], b=[]), None, HIGHER)
    assert found.schema == {"row_id": pl.Null, "value": pl.Float64, "status": pl.String} or found.height == 0
    assert found.columns == ["row_id", "value", "status"]
    assert values(scores(a=[3], b=[4])) == [0]


@pytest.mark.parametrize(
    ("weights", "directions", "options", "says"),
    [
        (None, {"a": "higher"}, {}, "no direction for b"),
        (None, {"a": "higher", "b": "up"}, {}, "direction of b must be one of"),
        (None, {"a": "higher", "b": "band"}, {}, "b has no better end.*targets.*percentile"),
        (None, {"a": "higher", "b": "band"}, {"targets": {"b": [3, 1]}}, "target of b"),
        ({"a": 1}, HIGHER, {}, "differ in b"),
        ({"a": 1, "b": 1, "c": 1}, HIGHER, {}, "differ in c"),
        ({"a": 1, "b": -1}, HIGHER, {}, "weight of b is -1"),
        ({"a": 0, "b": 0}, HIGHER, {}, "nothing to aggregate"),
        (None, HIGHER, {"mode": "median"}, "mode must be one of"),
        (None, HIGHER, {"normalise": "log"}, "normalise must be one of"),
        (None, HIGHER, {"null_policy": "zero"}, "null_policy must be one of"),
        ({"a": 1, "b": 2}, HIGHER, {"mode": "min"}, "takes no weights"),
        (None, HIGHER, {"mode": "product"}, "not negative"),
        (None, {"a": "higher", "b": "lower"}, {"mode": "product", "normalise": "none"}, "not negative"),
    ],
)
def test_refusals_say_what_to_do(weights, directions, options, says):
    with pytest.raises(ValueError, match=says):
        aggregate(scores(a=[1, 2], b=[3, 4]), weights, directions, **options)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=20), st.randoms())
def test_the_order_of_rows_does_not_matter(rows, rnd):
    shuffled = list(range(len(rows)))
    rnd.shuffle(shuffled)
    straight = values(scores(a=[r[0] for r in rows], b=[r[1] for r in rows]))
    mixed = values(scores(a=[rows[i][0] for i in shuffled], b=[rows[i][1] for i in shuffled]))
    assert mixed == pytest.approx([straight[i] for i in shuffled], abs=1e-9)


# --- thresholds and percentiles


def test_thresholds_are_strict_unless_told():
    s = np.array([1.0, 2.0, 3.0, np.nan])
    assert select_threshold(s, 1, 3).tolist() == [False, True, False, False]
    assert select_threshold(s, 1, 3, (True, False)).tolist() == [True, True, False, False]
    assert select_threshold(s, high=3, inclusive=(False, True)).tolist() == [True, True, True, False]
    assert select_threshold(s).tolist() == [True, True, True, False]


def test_ecdf_shares_the_largest_rank():
    assert ecdf(np.array([10, 20, 20, 40])).tolist() == [0.25, 0.75, 0.75, 1]
    assert ecdf(np.array([0.3, 0.1 + 0.2, 1])).tolist() == pytest.approx([2 / 3, 2 / 3, 1])
    assert ecdf(np.array([3, np.nan, 1])).tolist()[::2] == [1, 0.5]
    assert np.isnan(ecdf(np.array([3, np.nan]))[1])
    assert ecdf(np.array([])).tolist() == []


@pytest.mark.parametrize("n", [5, 10, 30, 100])
def test_the_open_bound_keeps_exact_shares(n):
    s = np.random.default_rng(n).permutation(n).astype(float)
    for tenths in range(0, 11, 2):
        top = select_percentile(s, 1 - tenths / 10, 1, inclusive=(False, True))
        assert top.sum() == n * tenths // 10
    assert select_percentile(s, 0.8, 1).sum() == n // 5 + 1


@given(st.lists(st.integers(-5, 5), max_size=30), st.integers(0, 100))
def test_ecdf_is_the_count_of_values_not_larger(numbers, cut):
    s = np.array(numbers, dtype=float)
    expected = [sum(b <= a for b in numbers) / len(numbers) for a in numbers]
    assert ecdf(s).tolist() == pytest.approx(expected)
    below = select_percentile(s, 0, cut / 100, (False, True))
    above = select_percentile(s, cut / 100, 1, (False, True))
    assert (below ^ above).all()


def test_a_gate_keeps_what_passes_every_bound_and_says_why_not():
    keep, why = gate(pl.Series([1.0, 2.0, 3.0, None, float("nan")]), {"at_least": 2, "below": 3})
    assert keep.tolist() == [False, True, False, False, False]
    assert why == ["1 is not at least 2", None, "3 is not below 3", "no value", "no value"]
    keep, why = gate(np.array([0.5, 4.0]), {"above": 0.5, "at_most": 3.5})
    assert (keep.tolist(), why) == ([False, False], ["0.5 is not above 0.5", "4 is not at most 3.5"])


def test_a_gate_quotes_the_status_of_a_missing_value():
    keep, why = gate(pl.Series([None, 1.0]), {"above": 0}, pl.Series(["too_short", "ok"]))
    assert (keep.tolist(), why) == ([False, True], ["no value (too_short)", None])


def test_a_percentile_gate():
    keep, why = gate(np.arange(10.0), {"percentile": [80, 100]})
    assert keep.tolist() == [False] * 8 + [True] * 2
    assert why[0] == "0 stands at percentile 10, outside 80 to 100"
    keep, _ = gate(np.arange(10.0), {"percentile": [0, 50], "above": 1})
    assert np.flatnonzero(keep).tolist() == [2, 3, 4]
    assert gate(np.array([]), {"percentile": [0, 50]})[1] == []


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({}, "got nothing"),
        ({"min": 3}, "got min"),
        ({"above": "3"}, "above takes a finite number"),
        ({"above": True}, "above takes a finite number"),
        ({"at_most": float("nan")}, "at_most takes a finite number"),
        ({"percentile": 80}, "two numbers"),
        ({"percentile": [80, 20]}, "0 <= lo < hi <= 100"),
        ({"percentile": [0.25, 0.75]}, r"write \[25, 75\]"),
    ],
)
def test_a_gate_refuses_what_it_does_not_understand(rule, says):
    with pytest.raises(ValueError, match=says):
        gate(np.array([1.0]), rule)
