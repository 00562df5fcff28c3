"""Agreement of raters: the specification's values, other people's implementations, and what cannot be told."""

import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality import agreement
from methods.quality.agreement import (
    LEVELS,
    NO_OVERLAP,
    ONE_VALUE,
    TOO_FEW_RATERS,
    agreement_table,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    with_interval,
)

A, B = (1.0, 2.0, 3.0, 3.0), (1.0, 2.0, 3.0, 4.0)
TWO = np.array([A, B])


def test_the_values_of_the_specification():
    assert cohen_kappa(A, B).value == pytest.approx(0.666667, abs=1e-6)
    assert cohen_kappa(A, B, "quadratic").value == pytest.approx(0.875)
    assert fleiss_kappa(TWO).value == pytest.approx(0.652174, abs=1e-6)
    wanted = {"nominal": 0.695652, "ordinal": 0.910256, "interval": 0.888889}
    assert {level: krippendorff_alpha(TWO, level).value for level in LEVELS} == pytest.approx(wanted, abs=1e-6)


cells = st.one_of(st.integers(0, 4).map(lambda i: i / 4), st.just(float("nan")))
some_ratings = st.tuples(st.integers(2, 4), st.integers(1, 8)).flatmap(
    lambda shape: st.lists(st.lists(cells, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
)


@given(some_ratings)
@settings(max_examples=60, deadline=None)
def test_alpha_against_krippendorff(said):
    """The oracle raises where a single value or nothing is to be compared; there we have no value."""
    oracle = pytest.importorskip("krippendorff")
    ratings = np.array(said)
    for level in LEVELS:
        ours = krippendorff_alpha(ratings, level)
        if ours.value is None:
            assert ours.status in (NO_OVERLAP, ONE_VALUE)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    theirs = float(oracle.alpha(ratings, level_of_measurement=level))
                except (ValueError, AssertionError):
                    continue
            # Where it compares nothing but equal values it says 1, or NaN.
            assert np.isnan(theirs) or theirs == 1.0
        else:
            assert ours.value == pytest.approx(float(oracle.alpha(ratings, level_of_measurement=level)), abs=1e-9)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_cohen_against_scikit_learn(pairs):
    from sklearn.metrics import cohen_kappa_score

    a, b = (np.array(side, float) for side in zip(*pairs, strict=True))
    for weights in (None, "linear", "quadratic"):
        ours = cohen_kappa(a, b, weights)
        if ours.value is None:
            assert len({*a, *b}) == 1 and ours.status == ONE_VALUE  # there scikit-learn says NaN
        else:
            assert ours.value == pytest.approx(cohen_kappa_score(a.astype(int), b.astype(int), weights=weights))


def test_weights_count_steps_of_the_scale_and_not_of_what_occurs():
    a, b = np.array([0, 1, 0, 1.0]), np.array([0, 0.25, 0, 1.0])
    scale = np.arange(5) / 4
    assert cohen_kappa(a, b, "linear", scale).value < cohen_kappa(a, b, "linear").value
    with pytest.raises(ValueError, match="none of the categories"):
        cohen_kappa(a, b, None, np.array([0.0, 1.0]))


def test_fleiss_by_hand_and_with_missing_ratings():
    """Rows (2,1), (3,0), (0,3) of two categories: P = (1/3 + 1 + 1)/3, p = (5/9, 4/9)."""
    ratings = np.array([[0, 0, 1], [0, 0, 1], [1, 0, 1]], float)
    chance = (5 / 9) ** 2 + (4 / 9) ** 2
    assert fleiss_kappa(ratings).value == pytest.approx((7 / 9 - chance) / (1 - chance))
    more = np.column_stack([ratings, [1, np.nan, np.nan]])  # one rating says nothing of agreement
    assert fleiss_kappa(more).value == pytest.approx(fleiss_kappa(ratings).value)


@pytest.mark.parametrize(
    ("ratings", "status"),
    [
        ([[1, 1, 1], [1, 1, 1]], ONE_VALUE),
        ([[1, np.nan], [np.nan, 2]], NO_OVERLAP),
        ([[np.nan], [np.nan]], NO_OVERLAP),
        ([[], []], NO_OVERLAP),
    ],
)
def test_what_cannot_be_told_says_why(ratings, status):
    ratings = np.array(ratings, float)
    found = [fleiss_kappa(ratings), cohen_kappa(*ratings), *(krippendorff_alpha(ratings, level) for level in LEVELS)]
    assert {(one.value, one.status, one.alarm) for one in found} == {(None, status, False)}
    assert all(one.reason for one in found)
    assert with_interval(ratings, "krippendorff_ordinal").low is None


def test_full_disagreement_alarms():
    found = with_interval(np.array([[0, 1, 0, 1], [1, 0, 1, 0.0]]), "krippendorff_nominal")
    assert found.alarm and found.value < 0


def test_the_interval_holds_the_value_and_shrinks_with_rows():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 400)
    ratings = np.stack([np.clip(truth + rng.integers(-1, 2, 400), 0, 4) for _ in range(3)]) / 4.0
    few, many = (with_interval(ratings[:, :n], "krippendorff_ordinal", seed=1) for n in (40, 400))
    for one in (few, many):
        assert one.low < one.value < one.high
    assert many.high - many.low < 0.6 * (few.high - few.low)
    assert with_interval(ratings, "fleiss_kappa", seed=1) == with_interval(ratings, "fleiss_kappa", seed=1)


def test_most_intervals_hold_the_truth():
    """Alpha of very many rows stands for the truth: of 60 samples of 60 rows nearly all intervals should hold it."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 20000)
    ratings = np.stack([np.clip(truth + rng.integers(-1, 2, 20000), 0, 4) for _ in range(3)]) / 4.0
    whole = krippendorff_alpha(ratings, "interval").value
    found = [with_interval(ratings[:, 60 * i : 60 * i + 60], "krippendorff_interval", 200, seed=i) for i in range(60)]
    assert sum(one.low <= whole <= one.high for one in found) >= 50


def test_the_table():
    rows = [(f"r{i}", rater, "quality", v) for rater, said in {"ann": A, "ben": B}.items() for i, v in enumerate(said)]
    rows += [(f"r{i}", rater, "spam", float(i != j)) for j, rater in enumerate(("ann", "ben")) for i in range(2)]
    rows += [("r0", "ann", "humor", 0.0)]
    schema = {"row_id": pl.String, "rater": pl.String, "dimension": pl.String, "value": pl.Float64}
    table = agreement_table(pl.DataFrame(rows, schema=schema, orient="row"), frozenset({"quality", "humor"}), 50)
    assert table.schema == agreement.AGREEMENT_SCHEMA
    found = {(d, m): v for d, m, v in table.select("dimension", "measure", "value").rows()}
    assert found["quality", "krippendorff_ordinal"] == pytest.approx(0.910256, abs=1e-6)
    assert found["quality", "cohen_kappa_quadratic"] == pytest.approx(0.875)
    assert ("spam", "krippendorff_ordinal") not in found and ("spam", "cohen_kappa_linear") not in found
    assert table.filter("alarm").select("dimension", "measure").rows() == [("spam", "krippendorff_nominal")]
    assert set(table.filter(dimension="humor")["status"]) == {TOO_FEW_RATERS}
    assert agreement_table(pl.DataFrame(schema=schema), frozenset()).height == 0
