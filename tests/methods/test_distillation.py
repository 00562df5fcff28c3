"""A score learned on embeddings: what is told of it is measured on unseen rows, and a weak fit is refused."""

from functools import partial

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from methods.kinds import Pool
from methods.quality import distillation
from methods.quality.distillation import compared, distilled, folded, out_of_fold, rank_correlation

distil = partial(distillation.distil, resamples=100)


def planted(n: int = 240, noise: float = 0.3, by_length: float = 0.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    characters = rng.integers(10, 2000, size=n)
    y = 4 * vectors[:, 0] - 3 * vectors[:, 1] + noise * rng.normal(size=n)
    y = y + by_length * (np.log1p(characters) - 6)
    return vectors, characters, y, [f"q{i}" for i in range(n)]


def test_what_the_vectors_hold_is_learned() -> None:
    vectors, characters, y, groups = planted()
    target = np.where(np.arange(len(y)) % 4 == 0, np.nan, y)
    found = distil(vectors, characters, target, groups)
    assert found.learned_from == 180 and found.correlation is not None and found.correlation > 0.9
    assert found.beats_length and found.usable(0.3) and found.features == "embedding"
    unjudged = np.isnan(target)
    assert spearmanr(found.predicted[unjudged], y[unjudged])[0] > 0.9
    assert abs(found.predicted.mean() - y.mean()) < 0.2  # in the judge's own unit
    assert found.report["from"].to_list() == ["length", "embedding", "embedding and length"]
    told = found.verdict(0.3)
    assert "180 judged rows" in told and "not used" not in told and "not shown" not in told


def test_it_is_said_when_the_length_does_as_well() -> None:
    vectors, characters, y, groups = planted(noise=0.1, by_length=5.0)
    found = distil(vectors, characters, y, groups)
    assert not found.beats_length and found.ahead is not None and found.ahead[0] < 0
    assert "not shown to be better than looking at the length" in found.verdict(-1.0)
    both = distil(vectors, characters, y, groups, with_length=True)
    assert both.features == "embedding and length" and both.correlation > 0.95 and both.beats_length
    shorter = distil(vectors, characters, -y, groups)  # the baseline takes whichever direction is right
    assert shorter.report["spearman"][0] == pytest.approx(found.report["spearman"][0], abs=1e-9)


def test_noise_is_not_believed() -> None:
    vectors, characters, _, groups = planted()
    found = distil(vectors, characters, np.random.default_rng(7).normal(size=len(groups)), groups)
    assert found.correlation is not None and abs(found.correlation) < 0.25 and not found.usable(0.3)
    assert "it is not used" in found.verdict(0.3)
    same = distil(vectors, characters, np.full(len(groups), 3.0), groups)
    assert same.correlation is None and not same.usable(-1) and same.ahead is None
    assert "Nothing was learned" in same.verdict(0.3)
    np.testing.assert_allclose(same.predicted, 3.0)


def test_rows_of_a_question_are_never_on_both_sides() -> None:
    """Each question has a value of its own, that of its vector's twin: a leak would show."""
    rng = np.random.default_rng(1)
    vectors = np.repeat(rng.normal(size=(60, 40)), 4, axis=0).astype(np.float32)
    y = np.repeat(rng.normal(size=60), 4)
    questions = [f"q{i // 4}" for i in range(240)]
    fair = distil(vectors, np.ones(240), y, questions)
    leaking = distil(vectors, np.ones(240), y, [str(i) for i in range(240)])
    assert fair.correlation < 0.3 and leaking.correlation > 0.6
    assert fair.report["spearman"][0] is None  # all lengths are the same


def test_ordinal() -> None:
    vectors, characters, y, groups = planted(400)
    steps = np.digitize(y, np.quantile(y, [0.2, 0.5, 0.9])) + 1.0
    found = distil(vectors, characters, steps, groups, kind="ordinal")
    assert found.correlation > 0.8 and found.predicted.min() >= 1 and found.predicted.max() <= 4
    with pytest.raises(ValueError, match="192 values"):
        distil(*planted(), kind="ordinal")
    # two values: P(y > low) of one logistic regression, from the lower value upwards
    from sklearn.linear_model import LogisticRegression

    two = (y > 0) * 3.0 + 1
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    inner = distillation._ordinal(vectors, two)(vectors)
    expected = [
        1
        + 3
        * LogisticRegression(C=c, max_iter=2000)
        .fit((vectors - mean) / scale, two)
        .predict_proba((vectors - mean) / scale)[:, 1]
        for c in distillation.STRENGTHS
    ]
    assert min(np.abs(inner - one).max() for one in expected) < 1e-6


def test_rows_without_a_vector_and_too_few() -> None:
    vectors, characters, y, groups = planted(60)
    vectors[:5] = np.nan
    found = distil(vectors, characters, y, groups)
    assert found.learned_from == 55 and np.isnan(found.predicted[:5]).all() and np.isfinite(found.predicted[5:]).all()
    few = np.where(np.arange(60) < 33, y, np.nan)
    with pytest.raises(ValueError, match="28 rows with a vector have a score; at least 30"):
        distil(vectors, characters, few, groups)
    with pytest.raises(ValueError, match="of 5 questions"):
        distil(vectors, characters, y, ["q"] * 60)
    with pytest.raises(ValueError, match="no kind"):
        distil(vectors, characters, y, groups, kind="forest")
    with pytest.raises(ValueError):
        distil(np.empty((0, 3)), np.empty(0), np.empty(0), [])


def test_same_seed_same_numbers() -> None:
    one, two, other = (distil(*planted(90), seed=seed, resamples=50) for seed in (3, 3, 4))
    assert one.report.equals(two.report) and one.ahead == two.ahead
    np.testing.assert_array_equal(one.predicted, other.predicted)  # the seed deals folds alone
    assert not one.report.equals(other.report)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-5, 5)), min_size=3, max_size=30))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    found = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(a, b)[0])
        assert rank_correlation(np.exp(a), -b) == pytest.approx(-found)


def test_folds_keep_groups_and_hold_out() -> None:
    groups = [f"g{i % 23}" for i in range(100)]
    fold = folded(groups, 5, 0)
    assert {len({f for f, g in zip(fold, groups, strict=True) if g == name}) for name in groups} == {1}
    sizes = [len({g for f, g in zip(fold, groups, strict=True) if f == k}) for k in range(5)]
    assert sorted(sizes) == [4, 4, 5, 5, 5]
    seen: list[set[int]] = []

    def fit(x, y):
        seen.append(set(y.astype(int)))
        return lambda new: new[:, 0]

    said = out_of_fold(np.arange(100.0)[:, None], np.arange(100.0), fold, fit)
    np.testing.assert_array_equal(said, np.arange(100.0))
    assert [set(range(100)) - mine for mine in seen] == [set(np.flatnonzero(fold == k).tolist()) for k in range(5)]


def test_the_interval_of_a_difference_is_of_pairs() -> None:
    """Two predictions that err alike differ surely, although each by itself is unsure."""
    rng = np.random.default_rng(5)
    y, shared = rng.normal(size=60), rng.normal(size=60)
    held = {"length": y + 2.2 * shared, "embedding": y + 1.6 * shared}
    report, ahead = compared(held, y, np.arange(60), "embedding", 0, 400)
    (l_low, l_high), (e_low, e_high) = report.select("low", "high").rows()
    assert l_high > e_low and l_low < e_low < e_high  # apart from each other they say nothing
    assert ahead is not None and ahead[1] > 0
    grouped, _ = compared(held, y, np.arange(60) // 20, "embedding", 0, 400)
    assert grouped["spearman"].to_list() == report["spearman"].to_list()


# ---- the indicator --------------------------------------------------------------------------------------------------


def table(correlation: float | None, of: str = "alpagasus_score") -> Pool:
    ids = pl.Series(["a", "b", "c"])
    report = pl.DataFrame({"from": ["embedding"], "spearman": [correlation]}, schema_overrides={"spearman": pl.Float64})
    found = distillation.Distilled(np.array([1.5, np.nan, 3.0]), 40, report, "embedding", None)
    frame = distillation.table_of(ids, found, of)
    assert frame.schema == pl.Schema(dict(distillation.DISTILLED_SCHEMA))
    return Pool(ids, tables={"tuned/distilled": frame.lazy()})


def test_the_indicator_hands_on_or_refuses() -> None:
    found = distilled(table(0.5))
    assert found["value"].to_list() == [1.5, None, 3.0] and found["status"].to_list() == ["ok", "no_embedding", "ok"]
    for pool, changed in (
        (table(0.29), {}),
        (table(None), {}),
        (table(0.5), {"minimum": 0.6}),
        (table(None), {"minimum": -1.0}),
    ):
        refused = distilled(pool, **changed)
        assert refused["value"].null_count() == 3 and set(refused["status"]) == {"distilled_too_weak"}
    assert distilled(table(0.5), of="alpagasus_score")["status"][0] == "ok"
    assert set(distilled(table(0.5), of="lift")["status"]) == {"distilled_from_another"}


def test_a_row_that_is_newer_than_the_table_is_not_scored() -> None:
    pool = table(0.5)
    lines = pool.tables["tuned/distilled"].collect()
    newer = pl.concat([lines, lines.clear(1)])
    found = distilled(Pool(pl.Series(["a", "b", "c", "d"]), tables={"tuned/distilled": newer.lazy()}))
    assert found["status"].to_list()[-1] == "not_scored" and found["value"].to_list()[-1] is None
    empty = distilled(Pool(pl.Series([], dtype=pl.String), tables={"tuned/distilled": lines.clear().lazy()}))
    assert empty.height == 0
