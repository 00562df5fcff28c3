"""Judges held against people: correlations, bias, thresholds and the mapping."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quality import calibration
from methods.quality.calibration import calibrate, calibration_frame, isotonic, kappa_at, mapped


def rows(judge, human, length=None, position=None, source=None) -> pl.DataFrame:
    n = len(judge)
    return pl.DataFrame(
        {
            "judge": np.asarray(judge, float),
            "human": np.asarray(human, float),
            "n": [3] * n,
            "length": np.arange(n) % 7 + 10 if length is None else length,
            "position": np.arange(n)[::-1] if position is None else position,
            "source": ["a"] * n if source is None else source,
        }
    )


@pytest.fixture
def people() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 5, 200) / 4


def test_correlations_are_scipys_and_lie_in_their_intervals(people):
    from scipy.stats import kendalltau, spearmanr

    judge = people + np.random.default_rng(2).normal(0, 0.4, 200)
    found = calibrate(rows(judge, people))
    assert found["spearman"] == pytest.approx(spearmanr(judge, people).statistic)
    assert found["kendall"] == pytest.approx(kendalltau(judge, people).statistic)
    for name in ("spearman", "kendall"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_the_bootstrap_is_of_the_drawn_rows(people):
    from scipy.stats import kendalltau, spearmanr

    a, b = people[:30], np.random.default_rng(2).normal(size=30)
    weight = calibration.draws(30, 40, seed=0)
    told = calibration.kendall(a, b, weight)
    drawn = [np.repeat(np.arange(30), w.astype(int)) for w in weight]
    each = [kendalltau(a[d], b[d]).statistic for d in drawn]
    assert (told.low, told.high) == pytest.approx(tuple(np.quantile(each, [0.025, 0.975])))
    told = calibration.spearman(a, b, weight)
    each = [spearmanr(a[d], b[d]).statistic for d in drawn]
    assert (told.low, told.high) == pytest.approx(tuple(np.quantile(each, [0.025, 0.975])))
    assert calibration.kendall(np.arange(600), np.arange(600) % 7, calibration.draws(600, 30, 0)).low is None


def test_a_judge_who_likes_length_is_found_out(people):
    rng = np.random.default_rng(3)
    length = rng.integers(20, 3000, 200)
    fair = people + rng.normal(0, 0.3, 200)
    one, other = (calibrate(rows(j, people, length)) for j in (fair, fair + np.log(length) / 3))
    assert abs(one["length_bias"]) < 0.2 < other["length_bias_low"]
    backwards = calibrate(rows(-(fair + np.log(length) / 3), people, length), "lower")
    assert backwards["length_bias"] == pytest.approx(other["length_bias"])
    assert backwards["spearman"] == pytest.approx(other["spearman"])


def test_bias_given_the_people_is_that_of_the_difference_too(people):
    rng = np.random.default_rng(4)
    judge, what = people + rng.normal(0, 0.3, 200), rng.normal(size=200)
    from scipy.stats import rankdata

    j, h, w = (rankdata(x) for x in (judge, people, what))

    def rest(x):
        return x - np.polyval(np.polyfit(h, x, 1), h)

    wanted = np.corrcoef(rest(j - h), rest(w))[0, 1]
    weight = calibration.draws(200, 30, 0)
    assert calibration.bias(judge, people, what, weight).value == pytest.approx(wanted)


def test_a_judge_who_likes_a_source_is_found_out(people):
    source = np.array(["a", "b"] * 100)
    noise = np.random.default_rng(5).normal(0, 0.2, 200)
    fair = calibrate(rows(people + noise, people, source=source))
    unfair = calibrate(rows(people + noise + (source == "b"), people, source=source))
    assert abs(fair["source_share"]) < 0.05 < 0.5 < unfair["source_share"]
    assert unfair["source_most"] in "ab" and abs(unfair["source_difference"]) > 0.1
    assert calibrate(rows(people + noise, people))["source_share"] is None


def test_kappa_at_a_threshold_needs_no_common_scale(people):
    assert kappa_at(np.exp(7 * people), people, 0.5) == pytest.approx(1)
    assert kappa_at(-people, people, 0.5) < 0
    assert kappa_at(people, people, 1.0) is None and kappa_at(people, people, -1.0) is None


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_isotonic_against_scikit_learn(pairs):
    from sklearn.isotonic import IsotonicRegression

    x, y = (np.array(side, float) for side in zip(*pairs, strict=True))
    at, to = isotonic(x, y)
    assert to == pytest.approx(IsotonicRegression().fit(x, y).predict(at))
    assert (np.diff(to) >= -1e-12).all()


def test_the_mapping_beats_the_mean_only_where_the_judge_knows_something(people):
    good = mapped(3 - 2 * people, people, sign=-1)
    assert good["error"] == pytest.approx(0) and good["error_of_mean"] > 0.2
    assert good["mapping_from"] == pytest.approx([1, 1.5, 2, 2.5, 3]) and good["mapping_to"][0] == pytest.approx(1)
    assert mapped(3 - 2 * people, people, sign=0)["error"] == pytest.approx(0)
    rough = np.random.default_rng(7).normal(size=200)
    short, whole = mapped(rough, people), isotonic(rough, people)
    assert len(short["mapping_from"]) < 60
    assert np.interp(whole[0], short["mapping_from"], short["mapping_to"]) == pytest.approx(whole[1])
    blind = mapped(np.random.default_rng(6).normal(size=200), people)
    assert blind["error"] > 0.9 * blind["error_of_mean"]


def test_what_cannot_be_told():
    few = calibrate(rows(np.arange(19), np.arange(19)))
    assert few == {"n_rows": 19, "raters_a_row": 3.0, "status": "too_few_rows"}
    for judge, human in ((np.ones(30), np.arange(30)), (np.arange(30), np.ones(30))):
        assert calibrate(rows(judge, human))["status"] == "one_value"
    hollow = rows([*np.arange(25), np.nan], np.arange(26))
    assert calibrate(hollow)["n_rows"] == 25
    same_length = calibrate(rows(np.arange(30), np.arange(30) % 5, length=[9] * 30))
    assert same_length["length_bias"] is None and same_length["status"] == "ok"


def test_the_frame():
    frame = calibration_frame(
        [{"indicator": "i", "dimension": "quality", **calibrate(rows(np.arange(n), np.arange(n) % 5))} for n in (5, 40)]
    )
    assert frame.schema == calibration.CALIBRATION_SCHEMA
    assert frame["status"].to_list() == ["too_few_rows", "ok"]
    assert calibration_frame([]).schema == calibration.CALIBRATION_SCHEMA
