"""Marginal relevance, determinants, effective number, centroids: dense oracles, known best sets, ties, edges."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import baselines
from methods.diversity.baselines import SELECTORS, dpp_greedy, mmr, quality_weighted_vendi_greedy, representative
from methods.diversity.submodular import min_max
from methods.diversity.vendi import quality_weighted_vendi
from methods.kinds import Candidates, Subset
from methods.numerics import columns

WITH_SCORE = (mmr, dpp_greedy, quality_weighted_vendi_greedy)


def pool(vectors, score=None):
    vectors = np.array(vectors, dtype=np.float32)
    ids = pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String)
    return Candidates(ids, score=None if score is None else np.array(score, dtype=np.float64), vectors=vectors)


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@st.composite
def dyadic(draw, largest=9):
    """Rows whose cosines are exact, with many ties and copies; scores with ties too."""
    corners = [np.eye(4)[i] * sign for i in range(4) for sign in (1, -1)]
    halves = [np.array(signs) / 2 for signs in itertools.product((1, -1), repeat=4)]
    n = draw(st.integers(1, largest))
    vectors = np.array([draw(st.sampled_from([*corners, *halves])) for _ in range(n)])
    return vectors, np.array([draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) for _ in range(n)])


def plain_greedy(n, budget, worth, tie=1e-9):
    """``worth(chosen, row)`` of every row for every pick, the first within ``tie`` of the largest."""
    order, values = [], []
    for _ in range(min(budget, n)):
        value = np.array([-np.inf if j in order else worth(order, j) for j in range(n)])
        if value.max() == -np.inf:
            break
        row = int(np.argmax(value >= value.max() - tie * max(1.0, abs(value.max()))))
        order.append(row)
        values.append(value[row])
    return order, values


def test_all_are_listed():
    assert [s.id for s in SELECTORS] == ["mmr", "dpp_greedy", "quality_weighted_vendi_greedy", "representative"]
    assert all(s.select(pool(unit_rows(3), [1, 2, 3]), 2, 0, **s.params).order.size == 2 for s in SELECTORS)


# --- maximal marginal relevance


def test_mmr_worked():
    """Scores .9, .8, .5 raw; the second row is the first turned by cosine .8, the third stands across."""
    rows = pool([[1, 0], [0.8, 0.6], [0, 1]], [0.9, 0.8, 0.5])
    found = mmr(rows, 3, normalize=False)
    assert found.order.tolist() == [0, 2, 1] and found.nearest.tolist() == [-1, 0, 0]
    assert found.gain == pytest.approx([0.45, 0.25, 0.0], abs=1e-6)
    assert found.reason[1] == "value 0.25: score 0.5 (0.5), its cosine to the nearest row before is 0.0000"
    assert mmr(rows, 3, weight=1).order.tolist() == [0, 1, 2]


@settings(deadline=None)
@given(dyadic(), st.integers(1, 10), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans())
def test_mmr_is_the_plain_greedy_choice(given_rows, budget, weight, normalize):
    vectors, score = given_rows
    s, quality = vectors @ vectors.T, min_max(score) if normalize else score

    def worth(chosen, row):
        return weight * quality[row] - (1 - weight) * max((s[row, j] for j in chosen), default=0.0)

    found = mmr(pool(vectors, score), budget, weight=weight, normalize=normalize)
    order, values = plain_greedy(len(s), budget, worth)
    assert found.order.tolist() == order and found.gain == pytest.approx(values, abs=1e-6)
    for place, (row, near) in enumerate(zip(found.order, found.nearest, strict=True)):
        before = found.order[:place].tolist()
        assert near == (max(before, key=lambda j: (s[row, j], -before.index(j))) if before else -1)


# --- determinants


def test_dpp_worked():
    """Without ridge and quality: three right angles are taken before anything between them, and then all is spanned."""
    vectors = [[1, 0, 0], [0.6, 0.8, 0], [0, 1, 0], [0, 0, 1]]
    found = dpp_greedy(pool(vectors, [0] * 4), 4, theta=0, ridge=0)
    assert found.order.tolist() == [0, 2, 3] and found.gain == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.reason[-1].endswith("every row left lies in the span of these, 3 of the 4 asked for")
    assert dpp_greedy(pool(vectors, [0] * 4), 4, theta=0).order.tolist() == [0, 2, 3, 1]
    assert dpp_greedy(pool(vectors, [0, 3, 1, 2]), 4, theta=1).order.tolist() == [1, 3, 2, 0]


@settings(deadline=None, max_examples=60)
@given(
    dyadic(),
    st.integers(1, 10),
    st.sampled_from([0.0, 0.5, 0.75, 1.0]),
    st.sampled_from([0.0, 0.01, 0.5]),
    st.sampled_from([1, 3, baselines._SHORT]),
)
def test_dpp_adds_the_logarithm_of_the_determinant(given_rows, budget, theta, ridge, short):
    vectors, score = given_rows
    quality = min_max(score)
    kernel = (1 - ridge) * vectors @ vectors.T + ridge * np.eye(len(vectors))

    def log_det(rows):
        sign, value = np.linalg.slogdet(kernel[np.ix_(rows, rows)]) if rows else (1, 0.0)
        return value if sign > 0 else -np.inf

    def worth(chosen, row):
        more = log_det([*chosen, row]) - log_det(chosen)
        return -np.inf if more < -20 else theta * quality[row] + ((1 - theta) * more if theta < 1 else 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_SHORT", short)
        found = dpp_greedy(pool(vectors, score), budget, theta=theta, ridge=ridge)
    order, values = plain_greedy(len(vectors), budget, worth)
    assert found.order.tolist() == order and found.gain == pytest.approx(values, abs=1e-7)


def test_dpp_computes_few_rows_anew_and_chooses_as_if_it_had_computed_all(monkeypatch):
    vectors, score = unit_rows(200, 8, 1), np.random.default_rng(1).normal(size=200)
    found = dpp_greedy(pool(vectors, score), 60, theta=0.3)
    kernel = 0.99 * vectors.astype(np.float64) @ vectors.T + 0.01 * np.eye(200)
    left = kernel.copy()
    for row, gain in zip(found.order, found.gain, strict=True):
        value = 0.3 * min_max(score) + 0.7 * np.log(np.diag(left).clip(1e-300))
        value[found.order[: found.order.tolist().index(row)]] = -np.inf
        assert value[row] == pytest.approx(value.max(), abs=1e-6) and gain == pytest.approx(value[row], abs=1e-6)
        left -= np.outer(left[:, row], left[row]) / left[row, row]
    monkeypatch.setattr(baselines, "_STALE", 1)
    assert dpp_greedy(pool(vectors, score), 60, theta=0.3).order.tolist() == found.order.tolist()


# --- effective number


def test_vendi_worked():
    """Equal scores: rows at right angles count in full, a copy not at all; the score is that of the measure."""
    rows = pool([[1, 0], [1, 0], [0, 1]], [2, 2, 2])
    found = quality_weighted_vendi_greedy(rows, 3)
    assert found.order.tolist() == [0, 2, 1] and found.gain == pytest.approx([1, 1, 1.8 - 2])
    assert found.nearest.tolist() == [-1, 0, 0]
    assert found.reason[2] == "mean quality x effective number is now 1.8 = 1 x 1.8; score 2"


@settings(deadline=None, max_examples=60)
@given(dyadic(), st.integers(1, 10), st.booleans())
def test_vendi_is_the_plain_greedy_choice_by_the_measure(given_rows, budget, normalize):
    vectors, score = given_rows
    quality = min_max(score) if normalize else score
    if normalize and not quality.any():
        quality = np.ones(len(score))

    def total(rows):
        ids = pl.Series([str(i) for i in rows])
        some = Subset(ids, vectors[rows].astype(np.float32), quality=quality[rows])
        return quality_weighted_vendi(some, order=2.0)

    found = quality_weighted_vendi_greedy(pool(vectors, score), budget, normalize=normalize)
    order, values = plain_greedy(len(vectors), budget, lambda chosen, row: total([*chosen, row]))
    assert found.order.tolist() == order and np.cumsum(found.gain) == pytest.approx(values, abs=1e-6)


def test_columns_made_ahead_change_nothing(monkeypatch):
    vectors, score = unit_rows(120, 6, 2), np.random.default_rng(2).random(120)
    found = [select(pool(vectors, score), 50).order.tolist() for select in WITH_SCORE]
    monkeypatch.setattr(columns, "LOOK_AHEAD", 1)
    monkeypatch.setattr(columns, "TILE", 7)
    assert [select(pool(vectors, score), 50).order.tolist() for select in WITH_SCORE] == found
    monkeypatch.setattr(columns, "LOOK_AHEAD", 20)
    monkeypatch.setattr(columns, "KEPT_BYTES", 4 * 120 * 25)
    assert [select(pool(vectors, score), 50).order.tolist() for select in WITH_SCORE] == found


def test_the_nearest_row_before_over_several_blocks():
    vectors = unit_rows(1500, 3, 3)
    order = np.random.default_rng(3).permutation(1500)[:1300]
    found, s = columns.nearest_before(vectors, order), vectors.astype(np.float64) @ vectors.T
    assert found[0] == -1
    for place in range(1, 1300, 7):
        before = order[:place]
        assert found[place] in before and s[order[place], found[place]] >= s[order[place], before].max() - 2e-6


# --- centroids


def test_representative_takes_the_middle_of_each_group():
    angles = np.array([0.0, 0.2, 0.4, 2.0, 2.2, 2.4, 2.6])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = representative(pool(vectors), 2)
    assert found.order.tolist()[1] == 1 and found.order.tolist()[0] in (4, 5)  # the larger group first
    assert found.reason[1].startswith("place 1 by its cosine 1.0000 to the centroid of a cluster of 3 rows")
    more = representative(pool(vectors), 7, k=2)
    assert sorted(more.order.tolist()) == list(range(7)) and more.order[:2].tolist() == found.order.tolist()
    for group in ([0, 1, 2], [3, 4, 5, 6]):
        inside = [g for row, g in zip(more.order, more.gain, strict=True) if row in group]
        assert inside == sorted(inside, reverse=True)


def test_representative_goes_by_the_seed_and_fills_up_where_rows_are_alike():
    vectors = unit_rows(50, 4, 4)
    assert representative(pool(vectors), 9, 1).order.tolist() == representative(pool(vectors), 9, 1).order.tolist()
    copies = np.concatenate([vectors[:3]] * 4)
    found = representative(pool(copies), 7)
    assert len(set(found.order.tolist())) == 7 and {i % 3 for i in found.order[:3].tolist()} == {0, 1, 2}


# --- edges


@pytest.mark.parametrize("select", [*WITH_SCORE, representative])
def test_edges(select):
    empty = select(pool(np.empty((0, 4)), []), 3)
    assert empty.order.tolist() == [] and empty.order.dtype == np.int64 and empty.gain.size == 0
    assert select(pool(unit_rows(3), [1, 2, 3]), 0).order.tolist() == []
    one = select(pool([[0.6, 0.8]], [1]), 5)
    assert one.order.tolist() == [0] and np.isfinite(one.gain).all()
    equal = select(pool([[0, 1, 0]] * 5, [1] * 5), 3)
    assert equal.order.tolist() == [0, 1, 2] and len(equal.reason) == 3
    assert sorted(select(pool(unit_rows(6), range(6)), 99).order.tolist()) == list(range(6))
    with pytest.raises(ValueError, match="needs vectors"):
        select(Candidates(pl.Series(["a"]), score=np.ones(1)), 1)
    with pytest.raises(ValueError, match="a candidate has no vector"):
        select(pool([[1, 0], [np.nan, 0]], [1, 2]), 1)
    if select is not representative:
        for score in (np.nan, np.inf, -np.inf):
            with pytest.raises(ValueError, match="a score is not finite"):
                select(pool([[1, 0], [0, 1]], [1, score]), 1)
        with pytest.raises(ValueError, match="needs score"):
            select(pool([[1, 0]]), 1)


def test_wrong_parameters_are_named():
    rows = pool(unit_rows(3), [-1, 2, 3])
    for select, wrong in (
        (mmr, {"weight": 1.1}),
        (mmr, {"weight": True}),
        (dpp_greedy, {"theta": -0.1}),
        (dpp_greedy, {"ridge": 1}),
        (representative, {"k": 0}),
        (representative, {"iterations": 0}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            select(rows, 1, **wrong)
    with pytest.raises(ValueError, match="the least score is -1, and none may be negative"):
        quality_weighted_vendi_greedy(rows, 1, normalize=False)
