"""A head that learns comparisons: reading them, making them, the fit against brute force, and what is said of it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.quality import preference
from methods.quality.preference import Judgement, Pair, judgement, majority
from methods.rows import BadRecord

TWO = {"output_1": "A", "output_2": "B"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "Q", "chosen": "A", "rejected": "B"}, Judgement("Q", "A", "B", 1)),
        ({"question": "Q", "chosen": "A", "rejected": "B", "input": ""}, Judgement("Q", "A", "B", 1)),
        ({"instruction": "Q", "input": "I", **TWO, "preference": 1}, Judgement("Q\nI", "A", "B", 1)),
        ({"instruction": "Q", **TWO, "preference": 2}, Judgement("Q", "A", "B", -1)),
        ({"instruction": "Q", **TWO, "preference": 1.83}, Judgement("Q", "A", "B", -1)),
        ({"instruction": "Q", **TWO, "preference": 0}, Judgement("Q", "A", "B", 0)),
        ({"instruction": "Q", **TWO, "preference": 1.5}, Judgement("Q", "A", "B", 0)),
        (
            {"chosen": [{"content": "Q"}, {"content": "A"}], "rejected": [{"content": "Q"}, {"content": "B"}]},
            Judgement("Q", "A", "B", 1),
        ),
    ],
)
def test_comparisons_are_read_by_common_names(record: dict[str, Any], expected: Judgement) -> None:
    assert judgement(record) == expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (["Q", "A", "B"], "wrong_type"),
        ({"prompt": "Q", "chosen": "A"}, "missing_key"),
        ({"chosen": "A", "rejected": "B"}, "missing_key"),
        ({"prompt": " ", "chosen": "A", "rejected": "B"}, "missing_key"),
        ({"prompt": "Q", "chosen": 3, "rejected": "B"}, "wrong_type"),
        ({"prompt": "Q", "chosen": [], "rejected": "B"}, "wrong_type"),
        ({"prompt": "Q", **TWO}, "no_preference"),
        ({"prompt": "Q", **TWO, "preference": 3}, "no_preference"),
        ({"prompt": "Q", **TWO, "preference": True}, "no_preference"),
        ({"prompt": "Q", **TWO, "preference": float("nan")}, "no_preference"),
    ],
)
def test_what_is_no_comparison_says_why(record: Any, reason: str) -> None:
    with pytest.raises(BadRecord) as error:
        judgement(record)
    assert error.value.reason == reason


def test_most_annotators_decide_whichever_answer_stood_first() -> None:
    said = [
        Judgement("Q", "a", "b", 1),
        Judgement("Q", "b", "a", -1),  # again a
        Judgement("Q", "a", "b", -1),
        Judgement("R", "a", "b", 1),
        Judgement("R", "b", "a", 1),  # one each
        Judgement("S", "a", "a", 1),
        Judgement("T", "", "a", -1),
        Judgement("U", "a", "b", -1),
    ]
    pairs, left = majority(said, [f"file {at}" for at in range(len(said))])
    assert pairs == [Pair("Q", "a", "b", "file 0"), Pair("U", "b", "a", "file 7")]
    assert left == {"tied": 1, "equal answers": 1, "empty answer": 1}
    assert majority([], []) == ([], {})


ROWS = [
    (f"Question {i}?", f"Answer {i} starts here. It goes on for a while {'so ' * i}. Then it ends.") for i in range(40)
]


def test_made_comparisons_prefer_the_own_and_whole_answer() -> None:
    own = dict(ROWS)
    pairs = preference.made_pairs([*ROWS, ROWS[3], ("Empty?", " ")], seed=3, share=0.3)
    assert pairs == preference.made_pairs([*ROWS, ROWS[3], ("Empty?", " ")], seed=3, share=0.3)
    assert pairs != preference.made_pairs(ROWS, seed=4, share=0.3)
    kinds = {pair.kind for pair in pairs}
    assert kinds == {"another row's answer", "its first half", "its sentences in another order"}
    assert all(pair.chosen == own[pair.prompt] and pair.rejected.strip() != pair.chosen for pair in pairs)
    side = dict(zip(own, preference.held_out(list(own), 0.3, 3), strict=True))
    whose = {answer: prompt for prompt, answer in ROWS}
    for pair in pairs:
        if pair.kind == "another row's answer":
            assert side[whose[pair.rejected]] == side[pair.prompt]
            assert abs(len(pair.rejected) - len(pair.chosen)) <= 3 * 40
        elif pair.kind == "its first half":
            assert pair.chosen.startswith(pair.rejected) and len(pair.rejected) <= len(pair.chosen) / 2
        else:
            assert sorted("".join(pair.rejected.split())) == sorted("".join(pair.chosen.split()))
    assert len([pair for pair in pairs if pair.kind.startswith("another")]) == 40
    chinese = preference.made_pairs([("春天？", "花开了。鸟在叫。天很蓝。"), ("夏天？", "很热。")], 0, 0.0)
    assert [pair.rejected for pair in chinese if pair.kind == "its first half"] == ["花开了。鸟在", "很"]
    assert preference.made_pairs([], 0, 0.2) == [] and preference.made_pairs([("Q", "x")], 0, 0.2) == []


def test_features_by_hand() -> None:
    q, a = np.array([[1.0, 0.0]], dtype=np.float32), np.array([[0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(preference.features(q, a), [[0.6, 0.8, 0.6, 0.0, 0.4, 0.8, 0.6]], atol=1e-6)
    np.testing.assert_allclose(preference.features(q, a, np.array([9]))[0, -1], np.log(10))
    assert np.isnan(preference.features(q, a * np.nan)).any() and np.isfinite(preference.features(q * 0, a)).all()


def test_the_fit_is_the_optimum_of_its_equation() -> None:
    """Against logistic regression on both directions of each comparison, and against plain gradient descent."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    d = rng.standard_normal((60, 4)) * [1.0, 5.0, 0.1, 1.0] + [0.5, 0.0, 0.02, 0.0]
    d[:, 3] = 0.0  # a feature that never differs
    scale = np.sqrt((d**2).mean(axis=0))
    scale[3] = 1.0
    mine = preference.fit(d, 0.3)
    both, sides = np.vstack([d, -d]) / scale, np.repeat([1, 0], len(d))
    oracle = LogisticRegression(C=0.15, fit_intercept=False, tol=1e-10, max_iter=5000).fit(both, sides).coef_[0] / scale
    np.testing.assert_allclose(mine, oracle, rtol=2e-3, atol=1e-5)
    weights = np.zeros(4)
    for _ in range(20_000):
        slope = weights - 0.3 * ((d / scale) / (1 + np.exp((d / scale) @ weights))[:, None]).sum(axis=0)
        weights -= 0.01 * slope
    np.testing.assert_allclose(mine, weights / scale, rtol=2e-3, atol=1e-5)
    assert mine[3] == 0.0


def planted(seed: int, flip: float, n: int = 240, width: int = 6) -> tuple[list[Pair], dict[str, np.ndarray]]:
    """Comparisons that a direction in the answers' vectors decides, but for a share of them that is turned round."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(width)
    vectors: dict[str, np.ndarray] = {}
    pairs = []
    for i in range(n):
        names = [f"question {i}", f"one {i}", f"two {i} longer" if i % 2 else f"two {i}"]
        found = rng.standard_normal((3, width))
        vectors.update(zip(names, (found / np.linalg.norm(found, axis=1)[:, None]).astype(np.float32), strict=True))
        first = (vectors[names[1]] @ truth > vectors[names[2]] @ truth) != (rng.random() < flip)
        chosen, rejected = (names[1], names[2]) if first else (names[2], names[1])
        pairs.append(Pair(names[0], chosen, rejected, "odd" if i % 2 else "even"))
    return pairs, vectors


def test_a_planted_preference_is_learned() -> None:
    pairs, vectors = planted(1, 0.0)
    trained, left = preference.train(pairs, vectors, seed=2, strengths=(1e-2, 1.0))
    assert left == 0 and trained.trained_on + trained.tested["pairs"][0] == len(pairs)
    assert trained.tested["accuracy"][0] > 0.9 and trained.tested["low"][0] > 0.75
    assert trained.tested["kind"].to_list() == ["all", "even", "odd"]
    assert trained.tested["pairs"][0] == trained.tested["pairs"][1:].sum()
    assert trained.verdict().startswith(f"Right in {trained.tested['accuracy'][0]:.0%} of {trained.tested['pairs'][0]}")
    assert trained.head.equals(preference.train(pairs, vectors, seed=2, strengths=(1e-2, 1.0))[0].head)
    # the stored head gives the rewards that it was tested with
    test = preference.held_out([pair.prompt for pair in pairs], 0.2, 2)
    unseen = [pair for pair, is_test in zip(pairs, test, strict=True) if is_test]
    good, bad = (_rewards(trained.head, vectors, unseen, which) for which in ("chosen", "rejected"))
    assert (good > bad).mean() == pytest.approx(trained.tested["accuracy"][0])
    seen = [pair for pair, is_test in zip(pairs, test, strict=True) if not is_test]
    both = [_rewards(trained.head, vectors, seen, which) for which in ("chosen", "rejected")]
    assert np.mean(both) == pytest.approx(0.0, abs=1e-9)


def _rewards(head: Any, vectors: dict[str, np.ndarray], pairs: list[Pair], which: str) -> np.ndarray:
    answers = [getattr(pair, which) for pair in pairs]
    stacked = (np.stack([vectors[text] for text in texts]) for texts in ([p.prompt for p in pairs], answers))
    return preference.rewards_of(head, *stacked, np.array([len(text) for text in answers]))


def test_random_judgements_teach_nothing_and_that_is_said() -> None:
    pairs, vectors = planted(3, 0.5)
    trained, _ = preference.train(pairs, vectors, seed=0)
    accuracy, low, high = trained.tested.select("accuracy", "low", "high").row(0)
    assert low <= 0.5 <= high and 0.25 < accuracy < 0.75
    assert trained.verdict().endswith("It is not shown to be better than chance.")


def test_a_head_that_only_sees_length_is_told_so() -> None:
    rng = np.random.default_rng(0)
    texts = [f"q{i}" for i in range(200)]
    pairs = [Pair(text, "long " * int(rng.integers(20, 40)) + text, "long " * int(rng.integers(3, 9)) + text, "x")
             for text in texts]  # fmt: skip
    everything = {t for pair in pairs for t in (pair.prompt, pair.chosen, pair.rejected)}
    vectors = {text: rng.standard_normal(3).astype(np.float32) for text in sorted(everything)}
    blind, _ = preference.train(pairs, vectors)
    assert blind.tested["longer"][0] == 1.0 and blind.tested["accuracy"][0] < 0.8
    sees, _ = preference.train(pairs, vectors, with_length=True)
    assert sees.tested["accuracy"][0] > 0.95 and "log_length" in sees.head["feature"].to_list()
    assert "log_length" not in blind.head["feature"].to_list()
    assert sees.verdict().endswith("It is no better than looking at the length.")


def test_texts_without_a_vector_are_left_out() -> None:
    pairs, vectors = planted(1, 0.0)
    vectors[pairs[0].rejected] = np.full(6, np.nan, dtype=np.float32)
    trained, left = preference.train(pairs, vectors, strengths=(1e-2,))
    assert left == 1 and trained.trained_on + trained.tested["pairs"][0] == len(pairs) - 1
    q = np.stack([vectors[pairs[0].prompt]] * 2)
    a = np.stack([vectors[pairs[0].rejected], vectors[pairs[0].chosen]])
    found = preference.rewards_of(trained.head, q, a, np.zeros(2))
    assert np.isnan(found[0]) and np.isfinite(found[1])
    nothing = np.full((1, 1), np.nan)  # no text was ever embedded
    assert np.isnan(preference.rewards_of(trained.head, nothing, nothing, np.zeros(1))).all()
    with pytest.raises(ValueError, match="vectors of 6 numbers, and these have 5"):
        preference.rewards_of(trained.head, np.ones((1, 5)), np.ones((1, 5)), np.zeros(1))


def test_too_few_questions_are_refused() -> None:
    pairs, vectors = planted(1, 0.0, n=9)
    for some in (pairs, [Pair("question 0", p.chosen, p.rejected, "x") for p in pairs], []):
        with pytest.raises(ValueError, match="needs at least 10 questions"):
            preference.train(some, vectors)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=20), st.integers(0, 5))
def test_a_prompt_stays_on_its_side(prompts: list[str], seed: int) -> None:
    side = dict(zip(prompts, preference.held_out(prompts, 0.4, seed).tolist(), strict=True))
    assert [side[p] for p in reversed(prompts)] == preference.held_out(prompts[::-1], 0.4, seed).tolist()
    spaced = [f"  {prompt}\n" for prompt in prompts]
    assert preference.held_out(spaced, 0.4, seed).tolist() == [side[prompt] for prompt in prompts]


def test_about_the_share_is_held_out() -> None:
    side = preference.held_out([f"question {i}" for i in range(2000)], 0.2, 0)
    assert 0.17 < side.mean() < 0.23
    assert not preference.held_out(["a", "b"], 0.0, 0).any() and preference.held_out(["a", "b"], 1.0, 0).all()


def test_the_interval_of_a_share() -> None:
    """Against the two roots of (share - p)^2 = z^2 p (1 - p) / n, which define it."""
    for good, n in ((73.0, 120), (0.0, 10), (10.0, 10), (2.5, 5)):
        z2 = 1.959964**2 / n
        roots = np.sort(np.roots([1 + z2, -(2 * good / n + z2), (good / n) ** 2]).real)
        np.testing.assert_allclose(preference.wilson(good, n), roots, atol=1e-9)
    assert preference.wilson(0, 0) == (0.0, 1.0)
    assert preference.right(np.array([1.0, 0.0, -1.0, 2.0])) == 2.5
