"""Intervals of measures: which rows count, what is resampled how, and that the intervals cover."""

import math

import numpy as np
import polars as pl
import pytest

from methods.diversity import intervals, measures, vendi, word_measures
from methods.diversity.intervals import BOOTSTRAP, BOOTSTRAPPED, JACKKNIFE, SUBSAMPLED, Interval, interval, n_of, take
from methods.kinds import Subset

MEASURES = {m.id: m for m in (*measures.MEASURES, *vendi.MEASURES, *word_measures.MEASURES)}


def full(n, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Subset(
        pl.Series([f"{i:04d}" for i in range(n)], dtype=pl.String),
        vectors.astype(np.float32),
        rng.integers(0, 4, n),
        pl.Series([rng.integers(0, 300, rng.integers(1, 9)).tolist() for _ in range(n)], dtype=pl.List(pl.UInt64)),
        pl.DataFrame({"source": ["s"] * n, "prompt": [f"p{i}" for i in range(n)], "response": ["r"] * n}),
        pl.Series([rng.choice(list("abcdefgh"), 2).tolist() for _ in range(n)], dtype=pl.List(pl.String)),
        frozenset("abcdefghij"),
        rng.random(n),
    )


def test_take_keeps_all_fields_together():
    data = full(6)
    part = take(data, np.array([4, 0, 4]))
    assert part.row_ids.to_list() == ["0004", "0000", "0004"]
    assert part.texts["prompt"].to_list() == ["p4", "p0", "p4"]
    assert part.words.to_list() == [data.words.to_list()[i] for i in (4, 0, 4)]
    assert part.tags.to_list() == [data.tags.to_list()[i] for i in (4, 0, 4)]
    assert (part.vectors == data.vectors[[4, 0, 4]]).all()
    assert (part.clusters == data.clusters[[4, 0, 4]]).all()
    assert (part.quality == data.quality[[4, 0, 4]]).all()
    assert part.known_tags == data.known_tags
    assert take(Subset(data.row_ids), np.array([2])).vectors is None
    assert len(take(data, np.array([], dtype=np.int64)).row_ids) == 0


def test_n_counts_the_rows_that_were_used():
    data = Subset(
        pl.Series(list("abcde")),
        np.array([[1, 0], [0, 1], [math.nan, 0], [1, 0], [1, 0]], dtype=np.float32),
        np.array([0, -1, 1, 1, 1]),
        pl.Series([[1], [], None, [2], [3]], dtype=pl.List(pl.UInt64)),
        tags=pl.Series([["x"], None, [], None, None], dtype=pl.List(pl.String)),
        known_tags=frozenset("x"),
        quality=np.array([1, 1, 1, math.nan, 1]),
    )
    wanted = {"vendi": 4, "quality_weighted_vendi": 3, "d_inertia": 3, "d_entropy": 4, "d_icd": 3, "tag_coverage": 2}
    wanted |= {"mean_response_length": 4, "self_bleu": 3}  # an empty response has a length, but no n-gram
    assert {id: n_of(MEASURES[id], data) for id in wanted} == wanted
    assert n_of(MEASURES["self_bleu"], data, {"rows": 2}) == 2


def test_every_measure_stands_in_one_set():
    assert not BOOTSTRAPPED & SUBSAMPLED
    assert set(MEASURES) == BOOTSTRAPPED | SUBSAMPLED


@pytest.mark.parametrize("id", sorted(MEASURES))
def test_every_measure_has_an_interval(id):
    data = full(60)
    found = interval(MEASURES[id], data, draws=40)
    assert found.method == (BOOTSTRAP if id in BOOTSTRAPPED else JACKKNIFE)
    assert 0 <= found.low <= found.high
    assert interval(MEASURES[id], data, draws=40) == found
    assert interval(MEASURES[id], full(3), draws=40) == Interval(None, None, "undefined")
    wide, narrow = (interval(MEASURES[id], data, draws=40, level=level) for level in (0.99, 0.5))
    assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_parameters_are_passed_on():
    data = full(60)
    total, mean = (interval(MEASURES["d_inertia"], data, {"per_row": flag}, draws=20) for flag in (False, True))
    assert total.low == pytest.approx(mean.low * 60)
    only = Subset(data.row_ids, clusters=np.full(60, -1))
    assert interval(MEASURES["d_entropy"], only).method == "undefined"
    for wrong in ({"draws": 1}, {"level": 1.0}, {"most": 1}):
        with pytest.raises(ValueError, match="draws"):
            interval(MEASURES["d_entropy"], data, **wrong)


def test_copies_would_break_what_is_subsampled():
    # the reason for the second way: a bootstrap of nearest neighbours lies below the value itself
    data, method = full(80), MEASURES["d_knn"]
    value = method.compute(data, **method.params)
    rng = np.random.default_rng(0)
    again = [method.compute(take(data, rng.integers(0, 80, 80)), **method.params) for _ in range(40)]
    assert max(again) < value
    found = interval(method, data, draws=60)
    assert found.low < value < found.high


def lengths_of(rng, n):
    lengths = rng.poisson(12, n)
    words = pl.Series([[1] * int(length) for length in lengths], dtype=pl.List(pl.UInt64))
    return Subset(pl.Series([str(i) for i in range(n)]), words=words)


def test_the_mean_length_is_covered_both_ways(monkeypatch):
    covered = {BOOTSTRAP: 0, JACKKNIFE: 0}
    widths = {BOOTSTRAP: [], JACKKNIFE: []}
    rng, method = np.random.default_rng(1), MEASURES["mean_response_length"]
    samples = [lengths_of(rng, 40) for _ in range(100)]
    for ids in (BOOTSTRAPPED, frozenset()):
        monkeypatch.setattr(intervals, "BOOTSTRAPPED", ids)
        for data in samples:
            found = interval(method, data, draws=60)
            covered[found.method] += found.low <= 12 <= found.high
            widths[found.method].append(found.high - found.low)
    assert 85 <= covered[BOOTSTRAP] <= 99
    assert 85 <= covered[JACKKNIFE] <= 99
    # 2 x 1.96 sqrt(12 / 40): the scale of the delete-half spread is right
    for found in widths.values():
        assert np.mean(found) == pytest.approx(2 * 1.96 * math.sqrt(12 / 40), rel=0.1)


def test_the_scale_of_smaller_subsamples(monkeypatch):
    monkeypatch.setattr(intervals, "BOOTSTRAPPED", frozenset())
    rng, method = np.random.default_rng(2), MEASURES["mean_response_length"]
    found = [interval(method, lengths_of(rng, 80), draws=60, most=10) for _ in range(40)]
    assert np.mean([one.high - one.low for one in found]) == pytest.approx(2 * 1.96 * math.sqrt(12 / 80), rel=0.1)


def test_entropy_is_covered():
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    truth = -(shares * np.log2(shares)).sum()
    rng, covered = np.random.default_rng(5), 0
    for _ in range(100):
        data = Subset(pl.Series(["x"] * 150), clusters=rng.choice(4, 150, p=shares))
        found = interval(MEASURES["d_entropy"], data, draws=60)
        covered += found.low <= truth <= found.high
    assert 80 <= covered <= 99


def test_many_clusters_are_covered_and_the_value_is_held():
    # the plug-in entropy lies (K - 1)/(2 N ln 2) below the truth, and quantiles of the draws lie below it again
    rng, covered, under, method = np.random.default_rng(6), 0, 0, MEASURES["d_entropy"]
    for _ in range(40):
        data = Subset(pl.Series(["x"] * 1000), clusters=rng.integers(0, 100, 1000))
        value = method.compute(data)
        found = interval(method, data, draws=60)
        covered += found.low <= math.log2(100) <= found.high
        under += value < math.log2(100) - 0.04
        assert found.low <= value <= found.high
    assert under >= 35
    assert covered >= 32
