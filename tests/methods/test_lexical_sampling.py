"""Sampling by words: likeness against tables and a published BLEU, the draw against a plain re-statement, edges."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import lexical_sampling
from methods.diversity.lexical_sampling import SELECTORS, Words, bleu, limited_lexical_similarity, rouge_l
from methods.kinds import Candidates
from methods.tokens import tokenize


def pool(prompts, responses=None):
    ids = pl.Series([f"r{i}" for i in range(len(prompts))], dtype=pl.String)
    responses = [""] * len(prompts) if responses is None else responses
    texts = {"prompt": prompts, "response": responses}
    return Candidates(ids, texts=pl.DataFrame(texts, schema={"prompt": pl.String, "response": pl.String}))


def like(measure, left, right):
    return measure(Words(left), Words(right))


# --- likeness


def test_rouge_l_by_hand():
    police = "police killed the gunman".split()
    assert like(rouge_l, "police kill the gunman".split(), police) == 0.75  # 2 * 3 / 8
    assert like(rouge_l, "the gunman kill police".split(), police) == 0.5
    assert like(rouge_l, ["the"], "a b c the".split()) == 0.4
    assert like(rouge_l, police, police) == 1
    assert like(rouge_l, [], police) == like(rouge_l, police, []) == like(rouge_l, [], []) == 0


def table(left, right):
    """The longest common subsequence by the textbook's table."""
    best = np.zeros((len(left) + 1, len(right) + 1), dtype=int)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            best[i + 1, j + 1] = best[i, j] + 1 if a == b else max(best[i, j + 1], best[i + 1, j])
    return int(best[-1, -1])


words = st.lists(st.sampled_from("abcde"), max_size=80)


@settings(max_examples=150, deadline=None)
@given(left=words, right=words)
def test_rouge_l_is_that_of_the_table(left, right):
    expected = 2 * table(left, right) / (len(left) + len(right)) if left and right else 0
    assert like(rouge_l, left, right) == expected == like(rouge_l, right, left)


def test_bleu_by_hand():
    left, right = "the cat sat on the mat".split(), "the cat is on the mat".split()
    # precisions 5/6, 3/5, 1/4 and 0 of 3, which becomes 1/6
    assert like(bleu, left, right) == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25)
    assert like(bleu, left, left) == pytest.approx(1)
    assert like(bleu, ["the", "cat"], right) == pytest.approx(np.exp(1 - 3))  # too short, and no more than two words
    assert like(bleu, ["the"] * 3, ["the", "cat", "the"]) == pytest.approx((2 / 3 * 1 / 4 * 1 / 4) ** (1 / 3))
    assert like(bleu, ["dog"], right) == like(bleu, [], right) == like(bleu, left, []) == 0


@settings(max_examples=100, deadline=None)
@given(left=words, right=words)
def test_bleu_is_the_published_one(left, right):
    """NLTK with NIST's geometric smoothing."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method3
    expected = sentence_bleu([right], left, smoothing_function=smooth, auto_reweigh=True) if left and right else 0
    assert like(bleu, left, right) == pytest.approx(expected, abs=1e-9)


# --- the draw

TEXTS = ["how to bake bread", "how to bake a cake", "sum two numbers", "sum three numbers", "write a poem", "die Katze"]


def plain_likeness(left, right, likeness):
    return like({"rouge_l": rouge_l, "bleu": bleu}[likeness], tokenize(left), tokenize(right))


def test_no_row_is_like_the_one_before():
    for seed in range(20):
        found = limited_lexical_similarity(pool(TEXTS), 4, seed)
        pairs = zip(found.order[1:], found.order, strict=False)
        alike = [plain_likeness(TEXTS[i], TEXTS[j], "rouge_l") for i, j in pairs]
        assert max(alike) <= 0.3
        assert found.gain[1:].tolist() == [1 - a for a in alike]
        assert np.isnan(found.gain[0]) and found.nearest.tolist() == [-1, *found.order[:-1].tolist()]
        assert found.reason[0] == "first row, drawn by chance"


def slow(texts, budget, seed, tau, compare, tries, relax, likeness):
    """The pool as a list that is walked and turned, all likenesses anew."""
    queue = np.random.default_rng(seed).permutation(len(texts)).tolist()
    order, levels = [], []
    while len(order) < min(budget, len(texts)):
        limit, done = tau, False
        while not done:
            for _ in range(min(tries, len(queue))):
                row = queue.pop(0)
                against = order[-1:] if compare == "previous" else order
                level = max((plain_likeness(texts[row], texts[j], likeness) for j in against), default=-1)
                if level <= limit + 1e-9:
                    order.append(row)
                    levels.append(level)
                    done = True
                    break
                queue.append(row)
            if not done and relax is None:
                return order, levels
            limit += relax or 0
    return order, levels


texts = st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), max_size=20)


@settings(max_examples=120, deadline=None)
@given(
    texts=texts,
    budget=st.integers(0, 22),
    seed=st.integers(0, 99),
    tau=st.sampled_from([0.0, 0.3, 0.8]),
    compare=st.sampled_from(["previous", "all"]),
    tries=st.integers(1, 8),
    relax=st.sampled_from([None, 0.25]),
    likeness=st.sampled_from(["rouge_l", "bleu"]),
)
def test_it_is_the_slow_one(texts, budget, seed, tau, compare, tries, relax, likeness):
    options = {"tau": tau, "compare": compare, "max_tries": tries, "relax": relax, "likeness": likeness}
    found = limited_lexical_similarity(pool(texts), budget, seed, **options, text="prompt")
    order, levels = slow(texts, budget, seed, tau, compare, tries, relax, likeness)
    assert found.order.tolist() == order
    assert found.gain[1:] == pytest.approx([1 - level for level in levels[1:]])
    assert not set(order) & set(found.refused)
    assert len(found.reason) == len(found.nearest) == len(order)
    if relax is not None:
        assert len(order) == min(budget, len(texts))


def test_texts_are_cut_ahead_without_a_trace(monkeypatch):
    long = [" ".join(np.random.default_rng(i).choice(list("abcdefgh"), 9)) for i in range(60)]
    whole = limited_lexical_similarity(pool(long), 30, 5)
    monkeypatch.setattr(lexical_sampling, "AHEAD", 7)
    assert limited_lexical_similarity(pool(long), 30, 5).order.tolist() == whole.order.tolist()


def test_the_limit_is_raised_for_one_pick_and_this_is_said():
    found = limited_lexical_similarity(pool(["same words here"] * 3), 3, 0)
    assert sorted(found.order.tolist()) == [0, 1, 2]
    assert found.gain[1:].tolist() == [0, 0]
    assert found.reason[1] == (
        "drawn by chance; ROUGE-L 1.0000 to the row chosen before "
        f"(r{found.order[0]}), under a limit raised from 0.3 to 1"
    )


def test_without_relaxation_it_ends():
    found = limited_lexical_similarity(pool(["same words here"] * 3), 3, 0, relax=None, max_tries=2)
    first = found.order[0]
    assert found.reason == ["first row, drawn by chance; 2 draws in vain after it, 1 of the 3 rows asked for"]
    assert found.refused == {i: f"ROUGE-L 1.0000 to row r{first}, above the limit" for i in {0, 1, 2} - {first}}


def test_all_is_stricter_than_previous():
    lines = ["a b c", "d e f", "a b c", "d e f"]
    assert len(limited_lexical_similarity(pool(lines), 4, 1, relax=None).order) == 4
    assert len(limited_lexical_similarity(pool(lines), 4, 1, relax=None, compare="all").order) == 2


def test_the_text_compared_is_the_one_named():
    candidates = pool(["one two three", "four five six"], ["same words here", "same words here"])
    ended = {
        text: len(limited_lexical_similarity(candidates, 2, 0, relax=None, text=text).order)
        for text in ("prompt", "response", "both")
    }
    assert ended == {"prompt": 2, "response": 1, "both": 1}


def test_scripts_without_spaces_and_texts_without_words():
    assert limited_lexical_similarity(pool(["如何做面包", "如何做面包", "写诗"]), 3, 0, relax=None).order.size == 2
    assert limited_lexical_similarity(pool(["", "!!!", None]), 3, 0, relax=None).gain[1:].tolist() == [1, 1]


def test_by_seed():
    assert len({tuple(limited_lexical_similarity(pool(TEXTS), 3, seed).order.tolist()) for seed in range(20)}) > 5


@pytest.mark.parametrize(("n", "budget"), [(0, 3), (1, 0), (1, 5), (6, 0), (6, 9)])
def test_edges(n, budget):
    assert len(limited_lexical_similarity(pool(TEXTS[:n]), budget, 0).order) == min(n, budget)


def test_options_are_checked():
    (selector,) = SELECTORS
    assert selector.id == "limited_lexical_similarity"
    assert selector.select(pool(TEXTS), 2, 0, **selector.params).order.size == 2
    for wrong in ({"tau": 1.5}, {"max_tries": 0}, {"relax": 0}, {"likeness": "x"}, {"compare": "x"}, {"text": "x"}):
        with pytest.raises(ValueError, match="limited_lexical_similarity"):
            limited_lexical_similarity(pool(TEXTS), 2, 0, **wrong)
    with pytest.raises(ValueError, match="needs texts"):
        limited_lexical_similarity(Candidates(pl.Series(["a"])), 1)
