"""DSIR: the specification's weights, the draw, several targets, filters, effective sample size and KL reduction."""

from collections import Counter
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance.dsir import (
    SELECTORS,
    divergence,
    dsir,
    effective_sample_size,
    frequencies,
    kl_reduction,
    log_weights,
    text_of,
    unlike_prose,
)
from methods.kinds import Candidates, Target

TEXTS = st.lists(st.text("ab c", max_size=10), min_size=1, max_size=8)


def frame(prompts: list[str], responses: list[str] | None = None) -> pl.DataFrame:
    columns = {"prompt": prompts, "response": responses or [""] * len(prompts)}
    return pl.DataFrame(columns, schema={"prompt": pl.String, "response": pl.String})


def pool(prompts: list[str], *targets: list[str]) -> Candidates:
    named = {f"t{i}": Target(frame(target)) for i, target in enumerate(targets)}
    ids = pl.Series([f"r{i}" for i in range(len(prompts))], dtype=pl.String)
    return Candidates(ids, texts=frame(prompts), targets=named)


def weights(raw: list[str], target: list[str], **options: Any) -> list[float]:
    return log_weights(pl.Series(raw, dtype=pl.String), {"t": pl.Series(target)}, **options).log_weight[0].tolist()


def by_hand(raw: list[str], target: list[str], laplace: float = 0.0) -> np.ndarray:
    """The definition, one dictionary a text: for texts of plain words."""

    def counts(text: str) -> np.ndarray:
        found = text.lower().split()
        grams = Counter([*found, *(f"{a} {b}" for a, b in pairwise(found))])
        made = np.zeros(10_000)
        for gram, n in grams.items():
            made[int(sha256(gram.encode()).hexdigest(), 16) % 10_000] += n
        return made

    rows = np.array([counts(text) for text in raw])
    p, q = np.array([counts(text) for text in target]).sum(axis=0) + laplace, rows.sum(axis=0)
    return rows @ (np.log(p / p.sum() + 1e-8) - np.log(q / q.sum() + 1e-8))


def test_the_specifications_weights() -> None:
    raw, target = ["a a b", "b c c"], ["a b"]
    assert weights(raw, target) == pytest.approx([-13.381646, -65.347852], abs=1e-6)
    assert weights(raw, target, laplace=1.0) == pytest.approx([-33.846829, -35.926121], abs=1e-6)
    assert weights(raw, target, length_normalise=True) == pytest.approx([-13.381646 / 5, -65.347852 / 5], abs=1e-6)


@given(TEXTS, TEXTS, st.sampled_from([0.0, 0.5]))
@settings(max_examples=80, deadline=None)
def test_weights_by_definition(raw: list[str], target: list[str], laplace: float) -> None:
    if not any(map(str.split, raw)) or not any(map(str.split, target)):
        return
    assert weights(raw, target, laplace=laplace) == pytest.approx(by_hand(raw, target, laplace), abs=1e-6)


@given(TEXTS, TEXTS, st.randoms())
@settings(max_examples=40, deadline=None)
def test_weights_follow_the_rows_and_ignore_the_targets_order(raw: list[str], target: list[str], rng: Any) -> None:
    if not any(map(str.split, target)):
        return
    order = list(range(len(raw)))
    rng.shuffle(order)
    moved = weights([raw[i] for i in order], [*reversed(target)])
    found = weights(raw, target)
    assert moved == pytest.approx([found[i] for i in order], abs=1e-9)
    assert weights(raw * 2, target * 3) == pytest.approx(found * 2, abs=1e-6)  # frequencies stay


def test_gumbel_draw_includes_rows_as_the_specification_says() -> None:
    # Weights .5, .3, .2: single words that a target has 5, 3 and 2 times, in a pool that has each once.
    candidates = pool(["x", "y", "z"], ["x"] * 5 + ["y"] * 3 + ["z"] * 2)
    draws = 500
    found = np.zeros(3)
    for seed in range(draws):
        found[dsir(candidates, 2, seed).order] += 1
    expected = np.array([0.839286, 0.675, 0.485714])
    assert np.all(np.abs(found / draws - expected) < 5 * np.sqrt(expected * (1 - expected) / draws))


def test_top_k_takes_the_largest_weights_and_ties_go_to_the_lowest_index() -> None:
    candidates = pool(["b c c", "a b", "a b", "a a b"], ["a b"])
    chosen = dsir(candidates, 3, 0, top_k=True)
    assert chosen.order.tolist() == [1, 2, 3]
    assert chosen.gain.tolist() == pytest.approx(by_hand(["b c c", "a b", "a b", "a a b"], ["a b"])[[1, 2, 3]])
    assert dsir(candidates, 3, 5, temperature=0.0).order.tolist() == [1, 2, 3]
    assert chosen.reason[0].startswith("taken as rank 1 of 4 by its weight for t0: ")
    assert chosen.reason[0].endswith("(4 weights, worth 2 equal ones)")


def test_the_same_seed_draws_the_same_and_a_larger_budget_holds_the_smaller_choice() -> None:
    candidates = pool([f"w{i} a" for i in range(30)], ["a w3 w4"])
    small, large = (dsir(candidates, b, 7, temperature=50.0).order.tolist() for b in (5, 20))
    assert large[:5] == small
    assert dsir(candidates, 5, 8, temperature=50.0).order.tolist() != small


def test_the_temperature_divides_the_weights() -> None:
    raw = [f"w{i} a" for i in range(30)]
    candidates, weight = pool(raw, ["a w3 w4"]), np.array(weights(raw, ["a w3 w4"]), dtype=np.float64)
    for temperature in (0.5, 20.0, 1e9):
        noisy = weight / temperature + np.random.default_rng(3).gumbel(size=30)
        assert dsir(candidates, 30, 3, temperature=temperature).order.tolist() == np.argsort(-noisy).tolist()


def test_edges_of_the_pool() -> None:
    assert dsir(pool([], ["a"]), 3, 0).order.tolist() == []
    assert dsir(pool(["a"], ["a"]), 0, 0).order.tolist() == []
    assert dsir(pool(["a"], ["b"]), 9, 0).order.tolist() == [0]
    assert sorted(dsir(pool(["a b"] * 4, ["a"]), 4, 0).order.tolist()) == [0, 1, 2, 3]
    assert dsir(pool(["a b"] * 4, ["a"]), 2, 0, top_k=True).order.tolist() == [0, 1]
    nothing = dsir(pool(["", " \n"], ["a"]), 2, 0)
    assert nothing.order.tolist() == []
    assert nothing.refused == {0: "no token to weigh", 1: "no token to weigh"}


def test_rows_with_few_tokens_are_refused_but_counted_in_the_pools_frequencies() -> None:
    candidates = pool(["a", "a b c", "c c", ""], ["a b"])
    chosen = dsir(candidates, 4, 0, min_tokens=2, top_k=True)
    assert chosen.order.tolist() == [1, 2]
    assert chosen.refused == {0: "1 tokens, fewer than 2", 3: "no token to weigh"}
    assert chosen.gain.tolist() == pytest.approx(by_hand(["a", "a b c", "c c", ""], ["a b"])[[1, 2]])


def test_fields_compare_prompt_response_or_both() -> None:
    texts = frame(["x y", "p q"], ["p q", "x y"])
    candidates = Candidates(pl.Series(["0", "1"]), texts=texts, targets={"t": Target(frame(["x y"], ["x y"]))})
    assert dsir(candidates, 1, 0, field="prompt", top_k=True).order.tolist() == [0]
    assert dsir(candidates, 1, 0, field="response", top_k=True).order.tolist() == [1]
    assert text_of(texts).to_list() == ["x y\np q", "p q\nx y"]
    with pytest.raises(ValueError, match="field must be"):
        text_of(texts, "all")  # type: ignore[arg-type]


def test_pooled_targets_are_one_text_and_names_choose_among_them() -> None:
    raw = ["a b", "c d", "e f", "g h"]
    both = dsir(pool(raw, ["a b"], ["c d", "c d"]), 4, 0, top_k=True)
    one = dsir(pool(raw, ["a b", "c d", "c d"]), 4, 0, top_k=True)
    assert both.gain.tolist() == one.gain.tolist()
    assert dsir(pool(raw, ["a b"], ["e f"]), 1, 0, targets=["t1"], top_k=True).order.tolist() == [2]


def test_separate_targets_take_their_parts_one_after_another() -> None:
    raw = ["a b", "a b", "a b", "c d", "c d", "c d"]
    candidates = pool(raw, ["a b"], ["c d", "c d", "c d"])
    by_size = dsir(candidates, 4, 0, separate=True, top_k=True)
    assert by_size.order.tolist() == [0, 3, 4, 5]  # 3 and 9 n-grams
    half = dsir(candidates, 4, 0, separate=True, proportions={"t0": 1, "t1": 1}, top_k=True)
    assert half.order.tolist() == [0, 1, 3, 4]
    assert "weight for t1" in half.reason[2]
    same = dsir(pool(raw, ["a b"], ["a b"]), 4, 0, separate=True, top_k=True)
    assert same.order.tolist() == [0, 1, 2, 3]  # what the first has taken, the second cannot
    assert sorted(dsir(candidates, 6, 1, separate=True).order.tolist()) == list(range(6))


def test_wrong_requests() -> None:
    candidates = pool(["a"], ["a"], ["..."])
    for match, options in {
        "no target 'x'": {"targets": ["x"]},
        "temperature": {"temperature": -1.0},
        "laplace": {"laplace": -1.0},
        "exactly the targets": {"separate": True, "proportions": {"t0": 1.0}},
        "nor all 0": {"separate": True, "proportions": {"t0": 0.0, "t1": 0.0}},
        "has no words in the field": {"field": "response"},
        "needs a target": {"targets": []},
    }.items():
        with pytest.raises(ValueError, match=match):
            dsir(candidates, 1, 0, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the text"):
        dsir(Candidates(pl.Series(["a"]), targets=candidates.targets), 1, 0)


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.zeros(7)) == pytest.approx(7)
    assert effective_sample_size(np.array([0.0, -900.0, -1200.0])) == pytest.approx(1)
    assert effective_sample_size(np.log([0.5, 0.3, 0.2]) + 2000) == pytest.approx(1 / 0.38)
    assert effective_sample_size(np.log([0.25, 0.09, 0.04]), temperature=2.0) == pytest.approx(1 / 0.38)
    assert effective_sample_size(np.array([1.0, 1.0, 0.0]), temperature=0.0) == 2
    assert effective_sample_size(np.zeros(0)) == 0


def test_divergence_by_hand() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert divergence(p, q) == pytest.approx(np.log(2), abs=1e-6)
    assert divergence(p, p) == 0
    assert divergence(q, p) == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(0.5 / 1e-8), abs=1e-6)


def test_kl_reduction_by_hand_and_its_sign() -> None:
    rows, goal = frame(["a b", "c d"]), frame(["a b"])
    p, q = np.full(3, 1 / 3), np.full(6, 1 / 6)
    # A random subset of both rows is the pool itself.
    whole = kl_reduction(rows, frame(["a b", "a b"]), goal, seed=0, draws=1)
    assert whole == pytest.approx(divergence(p, q[:3]), abs=1e-6)
    assert kl_reduction(rows, rows, goal, seed=0) == pytest.approx(0.0)
    many = frame(["a b"] * 20 + ["c d"] * 20)
    near, far = (kl_reduction(many, many[part], goal, seed=1) for part in (slice(0, 10), slice(20, 30)))
    assert near is not None and far is not None and near > 0 > far
    assert kl_reduction(many, many[:10], goal, seed=1) == near
    assert kl_reduction(many, many[:10], goal, seed=1, hash="fast") == pytest.approx(near)


def test_kl_reduction_is_undefined_without_words() -> None:
    some, none = frame(["a b"]), frame([""])
    for trio in ((some, none, some), (some, some, none), (none, some, some), (frame([]), some, some)):
        assert kl_reduction(*trio, seed=0) is None
    with pytest.raises(ValueError, match="draws=0"):
        kl_reduction(some, some, some, seed=0, draws=0)


def test_dsir_comes_nearer_to_its_target_than_chance() -> None:
    rng = np.random.default_rng(0)
    prose = [" ".join(f"p{i}" for i in rng.integers(0, 40, 12)) for _ in range(150)]
    code = [" ".join(f"c{i}" for i in rng.integers(0, 40, 12)) for _ in range(50)]
    candidates = pool(prose + code[:30], code[30:])
    chosen = dsir(candidates, 30, 0)
    assert (chosen.order >= 150).mean() > 0.95
    assert candidates.texts is not None
    gain = kl_reduction(candidates.texts, candidates.texts[chosen.order], frame(code[30:]), seed=0)
    assert gain is not None and gain > 1


def test_the_papers_filters() -> None:
    prose = "the old engine of a small train pulled heavy wagons through long valleys while people watched and"
    good = prose + " waved from bridges near old stations where other engines were being repaired by tired crews" * 2
    texts = {
        "good": good,
        "short": prose,
        "long": good * 20,
        "repeated": "engine the of a " * 15,
        "empty words": " ".join(f"the {w} of and" for w in "abcdefghijklmnopqrst"),
        "names": " ".join(f"name{i}" for i in range(45)),
        "digits": good + " 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8",
    }
    refused = unlike_prose(pl.Series(list(texts.values())))
    assert sorted(refused) == [1, 2, 3, 4, 5, 6]
    for i, words in {
        1: "tokens, not",
        2: "tokens, not",
        3: "most frequent",
        4: "most frequent",
        5: "informative",
    }.items():
        assert words in refused[i]
    assert "digits" in refused[6]
    candidates = pool(list(texts.values()), ["engine"])
    chosen = dsir(candidates, 9, 0, paper_filters=True)
    assert chosen.order.tolist() == [0]
    assert chosen.refused == refused


def test_frequencies() -> None:
    assert frequencies(np.array([1, 3])).tolist() == [0.25, 0.75]
    assert frequencies(np.array([0, 2]), laplace=1).tolist() == [0.25, 0.75]


def test_the_entry_names_the_functions_parameters() -> None:
    import inspect

    (entry,) = SELECTORS
    given_ = inspect.signature(entry.select).parameters
    assert dict(entry.params) == {k: p.default for k, p in list(given_.items())[3:]}
