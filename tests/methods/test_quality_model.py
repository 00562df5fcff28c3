"""Indicators over token statistics: the specification's toys, full distributions as the oracle, and statuses."""

import math

import numpy as np
import polars as pl
import pytest

from methods.quality import model
from methods.quality.model import INDICATORS

LISTS = ("logp_conditional", "logp_alone", "logp_prompt", "entropy", "sum_p2", "top1", "top2")


def statistics(rows):
    """A token_statistics frame; each row is (status, truncated, {list: values})."""
    filled = [
        {"row_id": str(i), "status": status, "truncated": cut, **{name: lists.get(name) for name in LISTS}}
        for i, (status, cut, lists) in enumerate(rows)
    ]
    schema = {"row_id": pl.String, "status": pl.String, "truncated": pl.Boolean}
    return pl.DataFrame(filled, schema={**schema, **dict.fromkeys(LISTS, pl.List(pl.Float32))})


def of_distributions(distributions, labels, alone=None):
    """What the model's pass would store for these next-token distributions, one row."""
    p = np.asarray(distributions, dtype=float)
    best = np.sort(p, axis=1)[:, ::-1]
    logp = np.log(p[np.arange(len(labels)), labels])
    lists = {
        "logp_conditional": logp,
        "logp_alone": np.log(alone) if alone is not None else logp,
        "entropy": -(p * np.log(p)).sum(axis=1),
        "sum_p2": (p**2).sum(axis=1),
        "top1": best[:, 0],
        "top2": best[:, 1],
    }
    return {name: values.tolist() for name, values in lists.items()}


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


def test_perplexity():
    block = statistics([("ok", False, {"logp_conditional": np.log([0.5, 0.25, 0.125, 0.5]).tolist()})])
    assert only(model.perplexity(block)) == pytest.approx(3.363586, abs=1e-6)
    assert only(model.perplexity(block)) != pytest.approx(2.318204, abs=1e-3)  # a power of 2 of nats
    with pytest.raises(ValueError, match="scope"):
        model.perplexity(block, scope="whole")


def test_perplexity_of_the_prompt_and_of_the_whole_text():
    lists = {"logp_prompt": np.log([0.5, 0.25]).tolist(), "logp_conditional": np.log([0.125, 0.5]).tolist()}
    block = statistics([("ok", False, lists), ("ok", False, {**lists, "logp_prompt": []}), ("too_long", True, {})])
    text = model.perplexity(block, scope="text")
    assert text["value"].to_list() == pytest.approx([3.363586, 4.0, None], abs=1e-6)
    assert text["status"].to_list() == ["ok", "ok", "too_long"]
    prompt = model.perplexity(block, scope="prompt")
    assert prompt["value"][0] == pytest.approx(math.sqrt(8))
    assert prompt["status"].to_list() == ["ok", "empty_response", "too_long"]


def test_normalised_loss_is_the_logarithm_of_the_perplexity():
    block = statistics([("ok", False, {"logp_conditional": np.log([0.5, 0.25, 0.125, 0.5]).tolist()})])
    assert only(model.normalised_loss(block)) == pytest.approx(1.2130076, abs=1e-6)
    assert only(model.normalised_loss(block)) == pytest.approx(math.log(only(model.perplexity(block))))
    assert model.normalised_loss(statistics([("ok", False, {})]))["status"].to_list() == ["empty_response"]


def test_perplexity_alone_leaves_out_a_first_token_without_a_value():
    lists = {"logp_conditional": [-1.0, -1.0, -1.0], "logp_alone": [None, -2.0, -4.0]}
    assert only(model.perplexity(statistics([("ok", False, lists)]), scope="alone")) == pytest.approx(math.exp(3))


def test_ifd_and_superfiltering():
    lists = {"logp_conditional": np.log([0.5, 0.5, 0.25]).tolist(), "logp_alone": np.log([0.25, 0.25, 0.125]).tolist()}
    block = statistics([("ok", False, lists)])
    assert only(model.ifd(block)) == pytest.approx(0.571429, abs=1e-6)
    assert only(model.superfiltering(block)) == pytest.approx(0.5, abs=1e-6)


def test_ifd_of_a_response_that_is_certain_by_itself():
    block = statistics([("ok", False, {"logp_conditional": [-1.0], "logp_alone": [0.0]})])
    assert model.ifd(block).rows() == [(None, "not_finite")]


def test_ifd_is_above_one_where_the_prompt_misleads():
    block = statistics([("ok", False, {"logp_conditional": [-3.0], "logp_alone": [-2.0]})])
    assert only(model.ifd(block)) == pytest.approx(1.5)


def test_el2n_against_one_hot_vectors():
    p, labels = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]), [0, 2]
    block = statistics([("ok", False, of_distributions(p, labels))])
    direct = np.linalg.norm(p - np.eye(3)[labels], axis=1).mean()
    assert direct == pytest.approx(0.650764, abs=1e-6)
    assert only(model.el2n(block)) == pytest.approx(direct, abs=1e-6)


def test_el2n_of_a_sure_and_right_model_is_not_nan():
    block = statistics([("ok", False, {"sum_p2": [0.9999999], "logp_conditional": [0.0]})])
    assert only(model.el2n(block)) == pytest.approx(0.0, abs=1e-3)


def test_uncertainties():
    block = statistics([("ok", False, of_distributions([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], [0, 0]))])
    assert only(model.uncertainty_mean_entropy(block)) == pytest.approx(0.915736, abs=1e-6)
    assert only(model.uncertainty_least_confidence(block, stat="product")) == pytest.approx(-0.35, abs=1e-6)
    assert only(model.uncertainty_least_confidence(block)) == pytest.approx(-math.log(0.35), abs=1e-6)
    mean = only(model.uncertainty_least_confidence(block, stat="log_mean"))
    assert mean == pytest.approx(-math.log(0.35) / 2, abs=1e-6)
    assert only(model.uncertainty_mean_margin(block)) == pytest.approx(-0.35, abs=1e-6)
    assert only(model.uncertainty_min_margin(block)) == pytest.approx(-0.2, abs=1e-6)
    with pytest.raises(ValueError, match="stat"):
        model.uncertainty_least_confidence(block, stat="sum")


def test_log_of_least_confidence_still_ranks_where_the_product_is_zero():
    rows = [("ok", False, {"logp_conditional": [-2.0] * n}) for n in (500, 600)]
    block = statistics(rows)
    assert model.uncertainty_least_confidence(block, stat="product")["value"].to_list() == [0.0, 0.0]
    assert model.uncertainty_least_confidence(block)["value"].to_list() == [1000.0, 1200.0]


@pytest.mark.parametrize("method", INDICATORS, ids=lambda method: method.id)
def test_every_status(method):
    good = of_distributions([[0.6, 0.3, 0.1]], [1], alone=[0.2])
    rows = [
        ("ok", False, good),
        ("ok", True, good),
        ("ok", False, {name: [] for name in LISTS}),
        ("out_of_memory", False, {}),
        ("ok", None, good),
        ("ok", False, {name: [float("nan")] for name in LISTS}),
    ]
    found = method.compute(statistics(rows), **method.params)
    assert found["status"].to_list() == ["ok", "truncated", "empty_response", "out_of_memory", "ok", "not_finite"]
    assert found["value"].is_not_null().to_list() == [True, False, False, False, True, False]
    kept = method.compute(statistics(rows), **{**method.params, "keep_truncated": True})
    assert kept["value"][1] == found["value"][0]
    assert method.compute(statistics(rows[2:4]), **method.params)["value"].to_list() == [None, None]
    assert method.compute(statistics(rows).head(0), **method.params).schema == found.schema


@pytest.mark.parametrize("method", INDICATORS, ids=lambda method: method.id)
def test_a_cut_row_is_scored_on_request(method):
    """As the pass writes it: the status says `truncated` too."""
    good = of_distributions([[0.6, 0.3, 0.1]], [1], alone=[0.2])
    rows = statistics(
        [("truncated", True, good), ("truncated", True, {name: [] for name in LISTS}), ("ok", False, good)]
    )
    strict = method.compute(rows, **method.params)
    assert strict["status"].to_list() == ["truncated", "truncated", "ok"]
    kept = method.compute(rows, **{**method.params, "keep_truncated": True})
    assert kept["status"].to_list() == ["ok", "truncated", "ok"] and kept["value"][0] == strict["value"][2]


def test_random_distributions_against_plain_numpy():
    rng = np.random.default_rng(7)
    rows, wanted = [], []
    for n in (1, 2, 9, 40):
        p = rng.dirichlet(np.ones(11) * 0.3, size=n) * 0.999 + 0.001 / 11
        labels, alone = rng.integers(0, 11, n), rng.uniform(0.01, 0.9, n)
        rows.append(("ok", False, of_distributions(p, labels, alone)))
        own, best = p[np.arange(n), labels], np.sort(p, axis=1)
        nll, gap = -np.log(own).mean(), best[:, -1] - best[:, -2]
        wanted.append(
            {
                "perplexity": np.exp(nll),
                "normalised_loss": nll,
                "ifd": nll / -np.log(alone).mean(),
                "superfiltering": np.exp(nll + np.log(alone).mean()),
                "el2n": np.linalg.norm(p - np.eye(11)[labels], axis=1).mean(),
                "uncertainty_mean_entropy": -(p * np.log(p)).sum(axis=1).mean(),
                "uncertainty_least_confidence": -np.log(own).sum(),
                "uncertainty_mean_margin": -gap.mean(),
                "uncertainty_min_margin": -gap.min(),
            }
        )
    block = statistics(rows)
    for method in INDICATORS:
        found = method.compute(block, **method.params)["value"].to_list()
        assert found == pytest.approx([row[method.id] for row in wanted], rel=1e-5), method.id
