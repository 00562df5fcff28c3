"""A rater from judged pairs: strengths of the asked rows, the fit, what it says of itself, and the two indicators."""

from functools import partial

import numpy as np
import polars as pl
import pytest

from methods.judging.pairs import PAIRS_SCHEMA, designed
from methods.kinds import Pool
from methods.quality import pairwise, qurating
from methods.quality.pairwise import strengths_of
from methods.quality.preference import fit as reward_fit

train = partial(qurating.train, resamples=60)


def judged(n: int = 150, neighbours: int = 10, by: str = "vector", seed: int = 0, soft: bool = False):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    characters = rng.integers(10, 3000, size=n)
    true = {"vector": 12 * vectors[:, 0] - 8 * vectors[:, 3], "length": 3 * np.log(characters), "chance": np.zeros(n)}
    first, second = designed(n, neighbours, seed).T
    p = 1 / (1 + np.exp(true[by][first] - true[by][second]))
    p = p if soft else (rng.random(len(p)) < p).astype(float)
    return vectors, first, second, p, true[by], characters


def frame(first, second, p, status: str = "ok") -> pl.DataFrame:
    lines = {
        "a": [f"r{i}" for i in first],
        "b": [f"r{i}" for i in second],
        "probability": np.asarray(p, dtype=float),
    }
    given = pl.DataFrame(lines, schema_overrides={"a": pl.String, "b": pl.String}).with_columns(status=pl.lit(status))
    missing = [pl.lit(None, kind).alias(name) for name, kind in PAIRS_SCHEMA.items() if name not in given.columns]
    return given.with_columns(missing).select(list(PAIRS_SCHEMA))


def ids(n: int) -> pl.Series:
    return pl.Series([f"r{i}" for i in range(n)], dtype=pl.String)


# ---- strengths of the rows asked about ------------------------------------------------------------------------------


def test_strengths_from_pairs() -> None:
    table, found = strengths_of(ids(3), np.array([5, 6, 7]), frame([0, 1, 0], [1, 2, 2], [0.25, 0.5, 0.5]), 0.0)
    assert table.schema == pl.Schema(dict(pairwise.STRENGTHS_SCHEMA)) and found.converged
    s = table["strength"].to_numpy()
    # gradient of the likelihood is 0: the expected wins of each row are the wins it had
    share = 1 / (1 + np.exp(-(s[:, None] - s[None, :])))
    np.testing.assert_allclose(share.sum(axis=1) - 0.5, [0.75 + 0.5, 0.25 + 0.5, 0.5 + 0.5], atol=1e-6)
    assert table["pairs"].to_list() == [2, 2, 2] and table["characters"].to_list() == [5, 6, 7]


def test_one_clear_pair_is_half_of_its_odds_each() -> None:
    table, _ = strengths_of(ids(2), np.ones(2), frame([0], [1], [0.75]), 0.0)
    assert table["strength"].to_list() == pytest.approx([-np.log(3) / 2, np.log(3) / 2])


def test_rows_that_have_no_strength_say_why() -> None:
    pairs = pl.concat([frame([0, 1], [1, 2], [0.6, 0.4]), frame([4], [5], [0.5]), frame([2], [3], [None], "refused")])
    table, _ = strengths_of(ids(6), np.ones(6), pairs, 0.1)
    assert table["status"].to_list() == ["ok", "ok", "ok", "not_compared", "not_joined", "not_joined"]
    assert table["strength"].is_null().to_list() == table["error"].is_null().to_list() == [False] * 3 + [True] * 3
    table, _ = strengths_of(ids(2), np.ones(2), frame([0], [1], [1.0]), 0.0)
    assert table["status"].to_list() == ["not_finite"] * 2 and table["strength"].null_count() == 2
    empty, _ = strengths_of(ids(0), np.ones(0), frame([], [], []), 0.1)
    assert empty.height == 0


def test_pairwise_strength_reads_them() -> None:
    table, _ = strengths_of(ids(3), np.ones(3), frame([0], [1], [0.9]), 0.1)
    lines = ids(4).to_frame("row_id").join(table, on="row_id", how="left", maintain_order="left")
    found = pairwise.pairwise_strength(Pool(ids(4), tables={"judged/strengths": lines.lazy()}))
    assert found["status"].to_list() == ["ok", "ok", "not_compared", "not_asked"]
    assert found["value"][1] > 0 > found["value"][0]


# ---- the rater ------------------------------------------------------------------------------------------------------


def test_a_rater_learns_what_the_vectors_hold() -> None:
    vectors, first, second, p, true, characters = judged()
    rater = train(vectors, first, second, p, true, characters)
    assert rater.trained_on == len(p) and rater.tested == len(p)
    assert rater.accuracy > 0.85 and rater.interval[0] < rater.accuracy < rater.interval[1]
    assert 0.4 < rater.longer < 0.6 and rater.loss < 0.5
    assert rater.correlation > 0.9 and rater.ahead is not None and rater.ahead[1] > 0
    assert "not used" not in rater.verdict(0.3) and "not shown" not in rater.verdict(0.3)
    weights = rater.weights / np.linalg.norm(rater.weights)
    assert weights[0] > 0.7 and weights[3] < -0.4
    table = qurating.rated(ids(150), qurating.rater_frame(rater), vectors, "c", rater.correlation)
    assert table.schema == pl.Schema(dict(qurating.RATED_SCHEMA))
    assert abs(table["rating"].mean()) < 1e-6  # the rows asked about have a mean of 0


def test_chance_and_length_are_seen_through() -> None:
    vectors, first, second, p, true, characters = judged(by="chance")
    rater = train(vectors, first, second, p, np.random.default_rng(1).normal(size=150), characters)
    assert 0.4 < rater.accuracy < 0.6 and abs(rater.correlation) < 0.3 and "it is not used" in rater.verdict(0.3)
    flat = train(vectors, first, second, p, true, characters)
    assert flat.correlation is None and "it is not used" in flat.verdict(-1.0)
    vectors, first, second, p, true, characters = judged(by="length")
    rater = train(vectors, first, second, p, true, characters)
    assert rater.longer > 0.8 > rater.accuracy and "not shown to be better" in rater.verdict(-1.0)


def test_both_rows_of_a_tested_pair_are_new() -> None:
    """Every row has a dimension of its own: whoever has seen a row knows all of it, and whoever has not, nothing."""
    n = 60
    rng = np.random.default_rng(2)
    first, second = designed(n, 20, 0).T
    true = rng.permutation(n).astype(float)
    p = (true[second] > true[first]).astype(float)
    rater = train(np.eye(n, dtype=np.float32), first, second, p, true, np.ones(n))
    assert rater.accuracy == 0.5 and rater.longer == 0.5
    own = np.eye(n) @ rater.weights
    assert np.corrcoef(own, true)[0, 1] > 0.9  # what it was trained on it knows


def test_only_clear_pairs_of_rows_with_vectors_teach() -> None:
    vectors, first, second, p, true, characters = judged(soft=True, seed=3)
    clear = np.abs(2 * p - 1) >= 0.5
    rater = train(vectors, first, second, p, true, characters)
    assert rater.trained_on == clear.sum() < len(p)
    vectors[:10] = np.nan
    touched = clear & (first >= 10) & (second >= 10)
    fewer = train(vectors, first, second, p, true, characters)
    assert fewer.trained_on == touched.sum()
    table = qurating.rated(ids(150), qurating.rater_frame(fewer), vectors, "c", 0.5)
    assert table["status"].to_list()[:11] == ["no_embedding"] * 10 + ["ok"] and table["rating"].null_count() == 10
    exact = np.array([0.75, 0.25, 0.7499])
    assert (np.abs(2 * exact - 1) >= 0.5 - 1e-9).tolist() == [True, True, False]


def test_hard_labels_give_the_weights_of_the_reward_head() -> None:
    vectors, first, second, p, true, characters = judged(seed=4)
    rater = train(vectors, first, second, p, true, characters)
    toward = (vectors[second] - vectors[first]) * np.where(p > 0.5, 1, -1)[:, None]
    np.testing.assert_allclose(rater.weights, reward_fit(toward.astype(float), rater.strength), rtol=5e-3, atol=5e-3)


def test_too_few_pairs_say_so() -> None:
    vectors, first, second, p, true, characters = judged(20, 2)
    with pytest.raises(ValueError, match=r"20 pairs have a clear answer.*at least 30"):
        train(vectors, first, second, p, true, characters)
    with pytest.raises(ValueError, match="0 pairs have a clear answer"):
        train(vectors, first, second, np.full(len(p), 0.6), true, characters)
    with pytest.raises(ValueError, match="reads vectors of 12 numbers, not 3"):
        rater = pl.DataFrame({"feature": ["embedding", "offset"], "weights": [[0.0] * 12, [0.0]]})
        qurating.rated(ids(2), rater, np.zeros((2, 3)), "c", 0.5)


def test_same_seed_same_rater() -> None:
    one, two = (train(*judged(80), seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.weights, two.weights)
    assert one.report.equals(two.report) and one.accuracy == two.accuracy


# ---- the indicator --------------------------------------------------------------------------------------------------


def pool(correlation: float | None) -> Pool:
    rater = pl.DataFrame({"feature": ["embedding", "offset"], "weights": [[1.0, 0.0], [0.5]]})
    vectors = np.array([[1, 0], [0, 1], [np.nan, np.nan]])
    return Pool(ids(3), tables={"judged/rated": qurating.rated(ids(3), rater, vectors, "c", correlation).lazy()})


def test_qurating_hands_on_or_refuses() -> None:
    found = qurating.qurating(pool(0.4))
    assert found["value"].to_list() == [0.5, -0.5, None]
    assert found["status"].to_list() == ["ok", "ok", "no_embedding"]
    for refused in (qurating.qurating(pool(0.2)), qurating.qurating(pool(None)), qurating.qurating(pool(0.4), 0.5)):
        assert refused["value"].null_count() == 3 and set(refused["status"]) == {"distilled_too_weak"}
    lines = pool(0.4).tables["judged/rated"].collect()
    newer = Pool(ids(4), tables={"judged/rated": pl.concat([lines, lines.clear(1)]).lazy()})
    assert qurating.qurating(newer)["status"].to_list()[-1] == "not_scored"
