"""InstructMining: the published rules by hand, the fit against other fits, draws, the search for a size on known
curves."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Pool
from methods.quality.instruction_mining import (
    V1,
    Collinear,
    fitted,
    instruction_mining,
    instruction_mining_v1,
    instruction_mining_v3,
    predicted_log_loss,
    random_subsets,
    refit,
    search_size,
    subset_means,
)


# --- rules -----------------------------------------------------------------------------------------------------------
def test_the_later_rule_by_hand():
    block = pl.DataFrame(
        {
            "row_id": ["a", "b", "c"],
            "status": ["ok", "no_model", "ok"],
            "reward": [2.0, None, 2.0],
            "understandability": [0.9, 0.9, 0.9],
            "naturalness": [0.8, 0.8, math.nan],
            "coherence": [0.7, 0.7, None],
        }
    )
    found = instruction_mining_v3(block)
    assert found["value"].to_list() == [pytest.approx(0.046330, abs=1e-9), None, None]
    assert found["status"].to_list() == ["ok", "missing: reward", "missing: naturalness, coherence"]
    unasked = instruction_mining_v3(block.drop("coherence", "reward"))
    assert unasked["status"].to_list()[0] == "missing: reward, coherence"
    assert instruction_mining_v3(block.head(0)).schema == {"value": pl.Float64, "status": pl.String}


def line_of_points(at, k=7, **tables):
    """A pool of points on a line, and who is near whom."""
    ids = pl.Series("row_id", [f"{n:032x}" for n in range(len(at))])
    vectors = np.array([[x, 0.0] for x in at], dtype=np.float32)
    gaps = np.abs(vectors[:, :1] - vectors[:, 0])
    order = [[int(j) for j in np.argsort(gap, kind="stable") if j != i][:k] for i, gap in enumerate(gaps)]
    near = pl.DataFrame(
        {
            "row_id": ids,
            "ids": [[ids[j] for j in js] for js in order],
            "similarity": pl.Series([[0.0] * len(js) for js in order], dtype=pl.List(pl.Float32)),
        }
    )
    return Pool(row_ids=ids, vectors=vectors, neighbours=near, **tables)


def test_the_first_rule_by_hand():
    """The first of seven points has its sixth neighbour at .4."""
    at = [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.4, math.nan]
    ids = line_of_points(at[:7]).row_ids.to_list() + [f"{7:032x}"]
    counts = pl.LazyFrame({"row_id": ids, "response_n_words": [100] * 8})
    rewards = pl.LazyFrame({"row_id": ids[::-1], "reward": [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, None, 2.0]})
    pool = line_of_points(at[:7], counts=counts, tables={"evidence/rewards": rewards})
    found = instruction_mining_v1(pool)
    assert found["value"][0] == pytest.approx(0.404057, abs=1e-7)  # the vectors are of single precision
    assert found["value"][2] == pytest.approx(1.0694 - 0.2996 + 0.008257 - 0.9350 * 0.38, abs=1e-7)
    assert found["value"][1] is None and found["status"][1] == "missing: reward"
    few = line_of_points(at[:6], counts=counts, tables={"evidence/rewards": rewards})
    assert instruction_mining_v1(few)["status"].to_list() == [
        "missing: knn_6" if n != 1 else "missing: reward, knn_6" for n in range(6)
    ]


def test_a_row_without_a_line_lacks_everything():
    empty = pl.LazyFrame({"row_id": [], "reward": []}, schema={"row_id": pl.String, "reward": pl.Float64})
    counts = pl.LazyFrame(schema={"row_id": pl.String, "response_n_words": pl.Int64})
    pool = line_of_points([0, 1], counts=counts, tables={"evidence/rewards": empty})
    assert instruction_mining_v1(pool)["status"].to_list() == ["missing: reward, response_length, knn_6"] * 2


def test_the_fitted_rule_sums_its_terms():
    ids = [f"{n:032x}" for n in range(4)]
    table = pl.LazyFrame(
        {
            "row_id": ids[:3],
            "status": ["ok", "missing: mtld", "no_rule"],
            "intercept": [0.5, 0.5, None],
            "terms": [[0.25, -1.0], None, None],
        }
    )
    pool = Pool(row_ids=pl.Series("row_id", ids), tables={"tuned/instruction_mining_rows": table})
    found = instruction_mining(pool)
    assert found["value"].to_list() == [-0.25, None, None, None]
    assert found["status"].to_list() == ["ok", "missing: mtld", "no_rule", "not_scored"]


def test_wrong_columns():
    with pytest.raises(ValueError, match="there is no knn_6"):
        predicted_log_loss(pl.DataFrame({"reward": [1.0], "response_length": [1]}), V1)


@given(st.lists(st.tuples(*[st.floats(-100, 100)] * 3), max_size=20))
def test_a_rule_is_a_product_of_matrices(rows):
    x = np.array(rows).reshape(-1, 3)
    found = predicted_log_loss(pl.DataFrame(x, schema=list(V1.weights)), V1)
    assert found["value"].to_numpy() == pytest.approx(x @ np.array(list(V1.weights.values())) + 1.0694)


# --- draws -----------------------------------------------------------------------------------------------------------
@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 3), st.booleans(), st.data())
def test_a_draw_is_a_set_and_hangs_on_its_number_alone(n, runs, seed, mixed, data):
    rows = data.draw(st.integers(1, n))
    groups = [str(i % 3) for i in range(n)]
    drawn = random_subsets(groups, runs, rows, seed, mixed)
    for subset in drawn:
        assert len(subset) == rows and (np.diff(subset) > 0).all() and subset[0] >= 0 and subset[-1] < n
    more = random_subsets(groups, runs + 2, rows, seed, mixed)
    assert all((a == b).all() for a, b in zip(drawn, more, strict=False))


def test_every_row_is_as_likely_and_mixed_draws_differ_more():
    groups = ["a"] * 30 + ["b"] * 30
    shares = {}
    for mixed in (False, True):
        drawn = random_subsets(groups, 400, 10, 1, mixed)
        often = np.bincount(np.concatenate(drawn), minlength=60)
        assert often.min() > 30 and often.max() < 110  # 67 on average
        shares[mixed] = np.std([(subset < 30).mean() for subset in drawn])
    assert shares[True] > 1.5 * shares[False]
    for runs, rows in ((0, 1), (1, 0), (1, 61)):
        with pytest.raises(ValueError, match="cannot be made from 60"):
            random_subsets(groups, runs, rows)


# --- fits ------------------------------------------------------------------------------------------------------------
def subsets(n=40, noise=0.05, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) * [1, 100, 0.01] + [5, 300, 0.5]
    y = 0.3 - 0.2 * x[:, 0] + 0.001 * x[:, 1] + noise * rng.normal(size=n)
    return pl.DataFrame(x, schema=["reward", "length", "chance"]), np.exp(y)


def test_a_fit_finds_the_planted_rule_and_drops_the_column_without_one():
    means, losses = subsets()
    rule = refit(means, losses)
    assert rule.dropped == ("chance",)
    assert rule.weights == pytest.approx({"reward": -0.2, "length": 0.001}, rel=0.2)
    assert max(rule.p_values.values()) < 0.05 and rule.r_squared > 0.8
    exact = refit(means.drop("chance"), np.exp(0.3 - 0.2 * means["reward"] + 0.001 * means["length"]))
    assert exact.weights == pytest.approx({"reward": -0.2, "length": 0.001}) and exact.intercept == pytest.approx(0.3)
    assert exact.r_squared == pytest.approx(1)
    # scoring the subsets with the rule gives the fitted values back
    found = predicted_log_loss(means, exact)
    assert found["value"].to_numpy() == pytest.approx(0.3 - 0.2 * means["reward"] + 0.001 * means["length"])


def test_one_indicator_against_scipy():
    from scipy.stats import linregress

    means, losses = subsets(n=12, noise=0.4)
    for name in means.columns:
        other = linregress(means[name], np.log(losses))
        rule = refit(means.select(name), losses, p_below=None)
        assert rule.weights[name] == pytest.approx(other.slope) and rule.intercept == pytest.approx(other.intercept)
        assert rule.p_values[name] == pytest.approx(other.pvalue) and rule.r_squared == pytest.approx(other.rvalue**2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(6, 20))
def test_p_values_against_the_f_test_of_leaving_a_column_out(seed, n):
    from scipy.stats import f

    means, losses = subsets(n=n, noise=0.3, seed=seed)
    rule = refit(means, losses, p_below=None)
    x, y = np.column_stack([np.ones(n), means.to_numpy()]), np.log(losses)

    def left(matrix):
        return float(((y - matrix @ np.linalg.pinv(matrix) @ y) ** 2).sum())

    full = left(x)
    for i, name in enumerate(means.columns, start=1):
        ratio = (left(np.delete(x, i, axis=1)) - full) / (full / (n - 4))
        assert rule.p_values[name] == pytest.approx(f.sf(ratio, 1, n - 4), rel=1e-4, abs=1e-9)


def test_a_fit_knows_no_unit_and_no_order():
    means, losses = subsets(noise=0.3)
    rule = refit(means, losses, p_below=None)
    scaled = refit(means.with_columns(pl.col("length") * 1000 - 7), losses, p_below=None)
    assert scaled.p_values == pytest.approx(rule.p_values) and scaled.r_squared == pytest.approx(rule.r_squared)
    assert scaled.weights["length"] == pytest.approx(rule.weights["length"] / 1000)
    turned = refit(means[::-1].select("chance", "length", "reward"), losses[::-1], p_below=None)
    assert turned.weights == pytest.approx(rule.weights)


def test_everything_may_be_dropped():
    means, losses = subsets(noise=0.1)
    rule = refit(means.select("chance"), losses, p_below=1e-12)
    assert rule.weights == {} and rule.dropped == ("chance",)
    assert rule.intercept == pytest.approx(np.log(losses).mean())
    flat = refit(means, np.ones(40))  # no loss differs: no weight, all certain
    assert flat.weights == {} and math.isnan(flat.r_squared)


def test_what_cannot_be_fitted_is_an_error():
    means, losses = subsets(n=6)
    with pytest.raises(ValueError, match="train on 5 subsets"):
        refit(means[:4], losses[:4])
    with pytest.raises(ValueError, match="one loss a subset"):
        refit(means, losses[:3])
    with pytest.raises(ValueError, match="above 0"):
        refit(means, [1, 2, 3, 4, 5, 0])
    with pytest.raises(ValueError, match="no mean of reward"):
        refit(means.with_columns(reward=pl.Series([1, None, 2, 3, 4, 5])), losses)
    for twin in (pl.col("reward") * 2 + 1, pl.lit(3.0)):
        with pytest.raises(Collinear, match="no weight can be told"):
            refit(means.select("reward", twin.alias("twin")), losses)


def test_means_of_subsets():
    values = pl.DataFrame({"row_id": list("abcd"), "x": [1.0, None, math.nan, 3.0], "k": [1, 2, 3, 4]})
    found = subset_means(values, [np.array([0, 3]), np.array([1, 2]), np.array([0, 1, 1])])
    assert found.to_dict(as_series=False) == {"x": [2, None, 1], "k": [2.5, 2.5, pytest.approx(5 / 3)]}
    assert subset_means(values, []).shape == (0, 2)


def test_the_account_of_a_fit():
    means, losses = subsets()
    odd = means.with_columns(flat=pl.lit(2.0), hole=pl.Series([None, *range(39)], dtype=pl.Float64))
    table, rule = fitted(odd, losses)
    assert table.schema == {"term": pl.String, "weight": pl.Float64, "p_value": pl.Float64, "status": pl.String}
    assert dict(table.select("term", "status").rows()) == {
        "intercept": "ok", "reward": "ok", "length": "ok", "chance": "dropped", "flat": "constant", "hole": "no_mean"
    }  # fmt: skip
    assert table["weight"].to_list()[:3] == pytest.approx([rule.intercept, *rule.weights.values()])
    assert table["weight"].is_null().to_list() == [False, False, False, True, True, True]
    assert rule == refit(means, losses)


def test_what_cannot_be_fitted_has_no_weights():
    means, losses = subsets(n=5)
    few, rule = fitted(means[:4], losses[:4])
    assert few["status"].to_list() == ["too_few_runs"] * 4 and few["weight"].null_count() == 4 and not rule.weights
    assert fitted(means, losses, None)[0]["status"].to_list() == ["ok"] * 4
    twin, rule = fitted(means.select("reward", twin=pl.col("reward") * 2 + 1), losses)
    assert twin["status"].to_list() == ["not_told_apart"] * 3 and not rule.weights
    assert fitted(means[:0], [])[0]["status"].to_list() == ["too_few_runs"] + ["constant"] * 3


# --- sizes -----------------------------------------------------------------------------------------------------------
def valley(middle):
    return lambda size: (math.log(size) - math.log(middle)) ** 2


@pytest.mark.parametrize("middle", [100, 150, 2532, 40_000, 100_000])
@pytest.mark.parametrize("seed", range(2))
def test_a_valley_is_found(middle, seed):
    found = search_size(valley(middle), 100_000, trials=25, seed=seed, smallest=100)
    assert abs(math.log(found.size / middle)) < 0.2
    assert found.loss == min(loss for _, loss in found.tried)


@pytest.mark.parametrize("seed", range(3))
def test_the_deeper_of_two_valleys_is_found(seed):
    def twice(size):  # falls, rises and falls again: double descent
        at = math.log10(size)
        return min((at - 2.6) ** 2 + 0.3, (at - 4.3) ** 2)

    assert 10**4.1 < search_size(twice, 100_000, seed=seed, smallest=100).size < 10**4.5


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3000), st.integers(1, 12), st.integers(0, 5), st.integers(1, 300))
def test_every_trial_is_a_size_of_its_own(n, trials, seed, smallest):
    asked = []
    found = search_size(lambda size: asked.append(size) or float(size % 7), n, trials, seed, smallest)
    assert len(set(asked)) == len(asked) <= trials and all(min(smallest, n) <= size <= n for size in asked)
    assert [size for size, _ in found.tried] == asked
    assert (found.loss, found.size) == min((float(size % 7), size) for size in asked)
    assert found == search_size(lambda size: float(size % 7), n, trials, seed, smallest)


def test_a_small_pool_is_searched_in_full():
    loss = dict(zip(range(1, 7), [5, 4, 3, 1, 2, 6], strict=True))
    found = search_size(loss.__getitem__, 6, trials=50, smallest=1)
    assert found.size == 4 and [size for size, _ in found.tried] == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_none_is_the_worst():
    found = search_size(lambda size: math.nan if size > 900 else float(size), 3000, trials=10, smallest=100)
    assert found.size < 900 and any(loss == math.inf for _, loss in found.tried)
    assert search_size(lambda size: math.nan, 10, trials=3).loss == math.inf
    assert search_size(float, 1).tried == ((1, 1.0),)
    for n, trials, smallest in ((0, 5, 5), (5, 0, 5), (5, 5, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            search_size(float, n, trials, smallest=smallest)


def test_a_fault_of_a_trial_is_not_swallowed():
    def broken(size):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        search_size(broken, 10_000, trials=5)


def test_a_seed_is_a_draw():
    tried = [search_size(valley(2532), 100_000, seed=seed).tried for seed in (1, 1, 2)]
    assert tried[0] == tried[1] != tried[2]
