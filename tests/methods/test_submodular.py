"""QDIT and Dataset Quantization: worked examples, plain greedy choices as oracles, ties, edges."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import maximise, submodular
from methods.diversity.facility import facility_location
from methods.diversity.submodular import SELECTORS, dataset_quantization, graph_cut, min_max, qdit
from methods.kinds import Candidates

WORKED = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
QUALITY = (0.2, 0.1, 0.9)


def pool(vectors, score=None):
    vectors = np.array(vectors, dtype=np.float32)
    ids = pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String)
    return Candidates(ids, score=None if score is None else np.array(score, dtype=np.float64), vectors=vectors)


def unit_rows(n, d=4, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cosine(vectors):
    v = np.asarray(vectors, dtype=np.float64)
    return v @ v.T


def worked():
    return pool(np.linalg.cholesky(WORKED), QUALITY)


def first_within(values, tie=1e-6):
    return int(np.argmax(values >= values.max() - tie))


def plain_qdit(s, quality, budget, alpha, unit):
    """Every value anew for every pick, the first within 1e-6 of the largest."""
    order, values, best = [], [], np.zeros(len(s))
    for _ in range(min(budget, len(s))):
        gains = np.maximum(s - best[:, None], 0).sum(axis=0)
        value = (1 - alpha) * gains / unit + alpha * quality
        value[order] = -np.inf
        row = first_within(value)
        order.append(row)
        values.append(value[row])
        best = np.maximum(best, s[:, row])
    return order, values


@st.composite
def dyadic(draw, largest=9):
    """Rows whose cosines are exact, with many ties and copies; scores with ties too."""
    corners = [np.eye(4)[i] * sign for i in range(4) for sign in (1, -1)]
    halves = [np.array(signs) / 2 for signs in itertools.product((1, -1), repeat=4)]
    n = draw(st.integers(1, largest))
    vectors = np.array([draw(st.sampled_from([*corners, *halves])) for _ in range(n)])
    return vectors, np.array([draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) for _ in range(n)])


def test_they_are_listed_under_the_specification_s_names():
    assert [s.id for s in SELECTORS] == ["qdit", "dataset_quantization"]
    assert all(s.select(pool(unit_rows(3), [1, 2, 3]), 2, 0, **s.params).order.size == 2 for s in SELECTORS)


# --- QDIT


@pytest.mark.parametrize(("alpha", "expected"), [(0, [1, 2]), (1, [2, 0]), (0.4, [1, 2]), (0.6, [2, 0]), (0.5, [0, 2])])
def test_the_worked_example_raw(alpha, expected):
    """At .5 all three are worth 1.1 at first: a tie that rounding must not decide."""
    found = qdit(worked(), 2, alpha=alpha, normalize=False)
    assert found.order.tolist() == expected
    order, values = plain_qdit(WORKED, np.array(QUALITY), 2, alpha, 1)
    assert order == expected and found.gain == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(("alpha", "expected"), [(0.2, [1, 2]), (0.5, [2, 0])])
def test_the_worked_example_normalised(alpha, expected):
    found = qdit(worked(), 2, alpha=alpha)
    assert found.order.tolist() == expected
    assert found.gain == pytest.approx(plain_qdit(WORKED, np.array([0.125, 0, 1]), 2, alpha, 3)[1], abs=1e-6)


def test_the_reason_names_both_parts():
    found = qdit(worked(), 1, alpha=0.2)
    assert found.reason[0].startswith(
        "value 0.56: 0.8 x 0.7 for the rows it stands for + 0.2 x 0 for quality (score 0.1)"
    )


@settings(deadline=None)
@given(dyadic(), st.integers(1, 10), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans(), st.booleans())
def test_the_choice_is_the_plain_greedy_one(given_rows, budget, alpha, raw, kept):
    vectors, score = given_rows
    s = np.maximum(cosine(vectors), 0)
    for normalize in (False,) if raw else (True, "first"):
        quality = score if raw else min_max(score)
        unit = 1 if raw else len(s) if normalize is True else max(s.sum(axis=0).max(), 1e-9)
        with pytest.MonkeyPatch.context() as patch:
            if not kept:
                patch.setattr(maximise, "CACHE_BYTES", 0)
                patch.setattr(maximise, "LOOK_AHEAD", 2)
            found = qdit(pool(vectors, score), budget, alpha=alpha, normalize=normalize, method="exact")
        order, values = plain_qdit(s, quality, budget, alpha, unit)
        assert found.order.tolist() == order
        assert found.gain == pytest.approx(values, abs=1e-5)


def test_between_facility_location_and_the_highest_scores():
    vectors, score = unit_rows(60, 5, 3), np.random.default_rng(3).normal(size=60)
    nothing = qdit(pool(vectors, score), 20, alpha=0)
    plain = facility_location(pool(vectors), 20)
    assert nothing.order.tolist() == plain.order.tolist() and nothing.nearest.tolist() == plain.nearest.tolist()
    assert nothing.gain == pytest.approx(plain.gain / 60)
    everything = qdit(pool(vectors, score), 20, alpha=1)
    assert everything.order.tolist() == np.argsort(-score)[:20].tolist()
    mean = [score[qdit(pool(vectors, score), 20, alpha=a).order].mean() for a in (0, 0.5, 0.9, 1)]
    assert mean == sorted(mean)


def test_the_graph_of_all_neighbours_gives_the_exact_choice():
    vectors, score = unit_rows(90, 6, 4), np.random.default_rng(4).normal(size=90)
    exact = qdit(pool(vectors, score), 30, alpha=0.1)
    graph = qdit(pool(vectors, score), 30, alpha=0.1, method="sparse", neighbours=200)
    assert graph.order.tolist() == exact.order.tolist() and graph.gain.tolist() == exact.gain.tolist()


@pytest.mark.parametrize("normalize", [True, "first", False])
@pytest.mark.parametrize("judges", [150, 60])
def test_shards_weigh_gain_and_quality_as_the_whole_pool_does(normalize, judges, monkeypatch):
    """The gains that are reported add up to the value of the choice, and that is near the exact one's."""
    monkeypatch.setattr(maximise, "SHARD", 40)
    vectors, score = unit_rows(150, 5, 8), np.random.default_rng(8).random(150)
    alpha = 0.9 if normalize is False else 0.3
    s, quality = np.maximum(cosine(vectors), 0), score if normalize is False else min_max(score)
    unit = {True: 150.0, "first": s.sum(axis=0).max(), False: 1.0}[normalize]

    def total(rows):
        return (1 - alpha) * s[:, rows].max(axis=1).sum() / unit + alpha * quality[rows].sum()

    if judges < 150:  # 80 rows are handed on
        monkeypatch.setattr(maximise, "JUDGED_BYTES", 4 * 80 * judges)
    found = qdit(pool(vectors, score), 20, 1, alpha, normalize, method="greedi")
    exact = qdit(pool(vectors, score), 20, 1, alpha, normalize)
    assert total(exact.order) == pytest.approx(exact.gain.sum(), rel=1e-5)
    assert total(found.order) > 0.97 * total(exact.order)
    # The largest single gain is that among the rows handed on, and fewer judges only estimate.
    known = judges == 150 and normalize != "first"
    assert found.gain.sum() == pytest.approx(total(found.order), rel=1e-5 if known else 0.05)


def test_scores_from_least_to_greatest():
    assert min_max(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert min_max(np.array([7.0, 7.0])).tolist() == [0, 0] and min_max(np.empty(0)).size == 0


# --- Dataset Quantization


def plain_graph_cut(s, budget):
    order, gains, value = [], [], s.sum(axis=1)
    for _ in range(budget):
        left = value.copy()
        left[order] = -np.inf
        row = first_within(left, 1e-9)
        order.append(row)
        gains.append(left[row])
        value = value - 2 * s[:, row]
    return order, gains


def test_the_worked_bin():
    order, gain = graph_cut(np.linalg.cholesky(WORKED).astype(np.float32), 3)
    assert order.tolist() == [1, 2, 0] and gain == pytest.approx([2.1, 0.9, 0.0], abs=1e-5)
    found = dataset_quantization(pool(np.linalg.cholesky(WORKED)), 2, bins=1)
    assert found.order.size == 2 and found.reason[0].startswith("drawn by chance from bin 1 of 1, where it came ")


@settings(deadline=None)
@given(dyadic(12), st.data())
def test_the_bin_is_the_plain_greedy_one(given_rows, data):
    vectors = given_rows[0]
    budget = data.draw(st.integers(1, len(vectors)))
    order, gain = graph_cut(vectors.astype(np.float32), budget)
    slow, gains = plain_graph_cut(cosine(vectors), budget)
    assert order.tolist() == slow and gain == pytest.approx(gains, abs=1e-5)


def test_random_rows_with_few_columns_at_a_time(monkeypatch):
    from methods.numerics import columns

    vectors = unit_rows(150, 6, 5)
    order, _ = graph_cut(vectors, 150)
    assert order[:100].tolist() == plain_graph_cut(cosine(vectors), 100)[0]
    monkeypatch.setattr(columns, "LOOK_AHEAD", 1)
    assert graph_cut(vectors, 150)[0].tolist() == order.tolist()


def test_copies_are_tied_where_the_last_bit_of_a_product_would_decide():
    """The sum of each copy's cosines lies half way between two steps, and a plain product rounds it either way."""
    row = np.random.default_rng(2).normal(size=17)
    vectors = np.tile((row / np.linalg.norm(row)).astype(np.float32), (34, 1))
    vectors[33, :8] = np.float32([2281, 2069, 2236, 3895, 4059, 118, 3623, 627]) * np.float32(2.0**-26)
    vectors[33, 8:] = 0
    assert graph_cut(vectors, 5)[0].tolist() == [0, 1, 2, 3, 4]


def test_bins_are_made_of_what_earlier_bins_left_and_the_rest_joins_the_last():
    vectors = unit_rows(23, 5, 6)
    found = dataset_quantization(pool(vectors), 23, seed=1, bins=5)
    left, start = list(range(23)), 0
    for size in (4, 4, 4, 4, 7):
        inner, _ = plain_graph_cut(cosine(vectors[left]), size)
        assert sorted(found.order[start : start + size].tolist()) == sorted(left[i] for i in inner)
        left = [row for i, row in enumerate(left) if i not in inner]
        start += size
    assert "bin 5 of 5, where it came " in found.reason[-1] and " of 7 with" in found.reason[-1]


def test_every_bin_gives_as_many_the_first_ones_one_more():
    vectors = unit_rows(40, 5, 7)
    found = dataset_quantization(pool(vectors), 10, seed=2, bins=4)
    assert [sum(f"bin {b} of 4" in r for r in found.reason) for b in (1, 2, 3, 4)] == [3, 3, 2, 2]
    assert found.order.tolist() == dataset_quantization(pool(vectors), 10, seed=2, bins=4).order.tolist()
    assert found.order.tolist() != dataset_quantization(pool(vectors), 10, seed=3, bins=4).order.tolist()
    assert dataset_quantization(pool(vectors), 40, ratio=0.1).order.size == 4
    assert dataset_quantization(pool(vectors), 2, ratio=0.5).order.size == 2


def test_the_numbers_of_the_paper_s_data(monkeypatch):
    """52,002 rows, ten bins and a tenth: bins of 5,200 rows, and 520 of each."""
    monkeypatch.setattr(submodular, "graph_cut", lambda vectors, n: (np.arange(n), np.zeros(n)))
    found = dataset_quantization(pool(np.ones((52_002, 1))), 52_002, ratio=0.1)
    size = [5200] * 9 + [5202]
    assert found.order.size == 5200
    for number, here in enumerate(np.split(found.order, 10)):
        assert ((here >= 5200 * number) & (here < 5200 * number + size[number])).all()
        why = found.reason[520 * number]
        assert why.startswith(f"drawn by chance from bin {number + 1} of 10, ") and f" of {size[number]} with" in why


# --- edges


@pytest.mark.parametrize("select", [qdit, dataset_quantization])
def test_edges(select):
    empty = select(pool(np.empty((0, 4)), []), 3)
    assert empty.order.tolist() == [] and empty.order.dtype == np.int64
    assert select(pool(unit_rows(3), [1, 2, 3]), 0).order.tolist() == []
    assert select(pool([[0.6, 0.8]], [1]), 5).order.tolist() == [0]
    equal = select(pool([[0, 1, 0]] * 5, [1] * 5), 3)
    assert equal.order.size == 3 and (select is dataset_quantization or equal.order.tolist() == [0, 1, 2])
    assert sorted(select(pool(unit_rows(6), range(6)), 99).order.tolist()) == list(range(6))
    with pytest.raises(ValueError, match="needs vectors"):
        select(Candidates(pl.Series(["a"]), score=np.ones(1)), 1)
    with pytest.raises(ValueError, match="a candidate has no vector"):
        select(pool([[1, 0], [np.nan, 0]], [1, 2]), 1)


def test_wrong_parameters_are_named():
    rows = pool(unit_rows(3), [1, 2, 3])
    for wrong in ({"alpha": -0.1}, {"alpha": True}, {"normalize": "last"}, {"normalize": None}, {"similarity": "dot"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            qdit(rows, 1, **wrong)
    for wrong in ({"bins": 0}, {"ratio": 0}, {"ratio": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            dataset_quantization(rows, 1, **wrong)
    for score in (np.nan, np.inf):
        with pytest.raises(ValueError, match="qdit: a score is not finite"):
            qdit(pool([[1, 0], [0, 1]], [1, score]), 1)
    with pytest.raises(ValueError, match="qdit needs score"):
        qdit(pool([[1, 0]]), 1)
