"""Lexical diversity of a row: the running example, other packages and brute force, edges."""

from collections import Counter
from itertools import pairwise
from math import comb, log, sqrt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import handcrafted
from methods.diversity.handcrafted import (
    distinct_1,
    distinct_2,
    hdd,
    log_ttr,
    maas,
    mattr,
    msttr,
    mtld,
    mtld_wrap,
    mttrss,
    root_ttr,
    ttr,
    vocd_d,
)
from methods.flat import flat_words
from methods.text import count_block

T = "a b a c a b d e a f"
LEXICAL = handcrafted.INDICATORS
SAMPLED = [(mttrss, {"method": "sampled", "window": 20, "draws": 30}), (vocd_d, {"method": "sampled", "draws": 5})]
SMALL = {
    "msttr": {"window": 5},
    "mattr": {"window": 5},
    "hdd": {"k": 5},
    "mttrss": {"window": 5},
    "vocd_d": {"k_min": 3, "k_max": 8},
}
"""Parameters by which a text of ten words is long enough."""
word_lists = st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=60)


def counts(*responses, prompt=""):
    return count_block(
        pl.DataFrame(
            {
                "row_id": [str(i) for i in range(len(responses))],
                "instruction": [prompt] * len(responses),
                "input": [""] * len(responses),
                "response": list(responses),
            },
            schema={name: pl.String for name in ("row_id", "instruction", "input", "response")},
        )
    )


def only(frame):
    assert frame["status"].to_list() == ["ok"]
    return frame["value"].item()


def zipf(n, seed, types=400):
    """A text with the shape of a language: few words often, many seldom."""
    weights = 1 / np.arange(1, types + 1)
    return [f"w{i}" for i in np.random.default_rng(seed).choice(types, n, p=weights / weights.sum())]


# --- the definitions, written plainly --------------------------------------------------------------------------------
def one_pass(words, threshold=0.72):
    factors, types, tokens, ratio = 0.0, set(), 0, 1.0
    for word in words:
        types.add(word)
        tokens += 1
        ratio = len(types) / tokens
        if ratio <= threshold:
            factors, types, tokens, ratio = factors + 1, set(), 0, 1.0
    return len(words) / (factors + (1 - ratio) / (1 - threshold))


def wrapped(words, threshold=0.72, least=10):
    """The conventions of the package lexical-diversity: the text twice, `<`, at least ten words, no drop no count."""
    lengths = []
    for start in range(len(words)):
        rest = (words + words)[start:]
        for length in range(least, len(rest) + 1):
            if len(set(rest[:length])) / length < threshold:
                lengths.append(length)
                break
    return sum(lengths) / len(lengths) if lengths else None


def segmental(words, window):
    full = [words[i : i + window] for i in range(0, len(words) - window + 1, window)]
    return sum(len(set(part)) / window for part in full) / len(full)


def moving(words, window):
    return np.mean([len(set(words[i : i + window])) / window for i in range(len(words) - window + 1)])


def drawn(words, k):
    n = len(words)
    return sum(1 - comb(n - f, k) / comb(n, k) for f in Counter(words).values()) / k


def curve(k, d):
    return d / k * (np.sqrt(1 + 2 * k / d) - 1)


def best_d(words, sizes=range(35, 51)):
    optimize = pytest.importorskip("scipy.optimize")
    sizes, ratios = np.array(sizes), np.array([drawn(words, k) for k in sizes])
    found = optimize.least_squares(
        lambda x: curve(sizes, np.exp(x[0])) - ratios, [np.log(50.0)], xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    return float(np.exp(found.x[0]))


# --- lexical ---------------------------------------------------------------------------------------------------------
def test_the_running_example():
    block = counts(T)
    assert only(ttr(block)) == pytest.approx(0.6)
    assert only(root_ttr(block)) == pytest.approx(1.897367, abs=1e-6)
    assert only(log_ttr(block)) == pytest.approx(0.778151, abs=1e-6)
    assert only(maas(block)) == pytest.approx(0.096348, abs=1e-6)
    assert only(distinct_1(block)) == pytest.approx(0.6)
    assert only(distinct_2(block)) == pytest.approx(0.8)
    assert only(distinct_2(block, denominator="ngrams")) == pytest.approx(8 / 9)
    assert only(distinct_2(block, n=1)) == pytest.approx(0.6)
    assert only(mtld(block)) == pytest.approx(8.310811, abs=1e-6)
    assert only(mtld_wrap(block)) == 10.0
    assert only(msttr(block, window=5)) == pytest.approx(0.8)
    assert only(mattr(block, window=5)) == pytest.approx(0.8)
    assert only(hdd(block, k=5)) == pytest.approx(0.750794, abs=1e-6)
    assert only(mttrss(block, window=5)) == pytest.approx(0.750794, abs=1e-6)
    assert only(vocd_d(counts(" ".join([T] * 6)))) == pytest.approx(0.504071, abs=1e-6)


def test_the_running_example_sampled():
    # 20,000 draws: the mean's standard error is under .001
    found = only(mttrss(counts(T), window=5, method="sampled", draws=20_000))
    assert found == pytest.approx(0.750794, abs=0.005)
    assert found != only(mttrss(counts(T), window=5))
    assert only(vocd_d(counts(" ".join([T] * 6)), method="sampled")) == pytest.approx(0.504, abs=0.005)


def test_mtld_passes_by_hand():
    from methods.numerics.words import factors

    def passes(words):
        flat = flat_words(counts(" ".join(words)), "response")
        forward, backward = factors(flat.previous, flat.offsets, 0.72)
        return forward[0], backward[0]

    forward, backward = passes(T.split())
    assert 10 / forward == pytest.approx(6.621622, abs=1e-6)
    assert 10 / backward == pytest.approx(10)
    # 18 types in 25 words: a ratio of exactly .72 closes the stretch
    exact = [f"w{i}" for i in (*range(18), *[0] * 7)]
    assert passes(exact)[0] == 1.0
    assert passes(exact[::-1])[1] == 1.0


def test_mtld_wrap_by_hand():
    distinct = [f"w{i}" for i in range(20)]
    # 20 types / 28 words is the first ratio below .72; only the first thirteen starts have 28 words before them
    assert only(mtld_wrap(counts(" ".join(distinct)))) == 28
    assert only(mtld_wrap(counts(" ".join(["z"] * 12)))) == 10
    assert only(mtld_wrap(counts("a b c d e"), min_words=5)) == 10
    assert mtld_wrap(counts("a b c d"), min_words=4).rows() == [(None, "never_drops")]
    assert mtld_wrap(counts(" ".join(distinct)), threshold=0.5).rows() == [(None, "never_drops")]
    # 18 types in 25 words are .72 exactly and do not drop: the next word does
    exact = [f"w{i}" for i in (*range(18), *[0] * 8)]
    assert wrapped(exact) == pytest.approx(only(mtld_wrap(counts(" ".join(exact)))))


def test_the_curve_of_vocd():
    from methods.numerics.words import fitted_d

    assert curve(50, 10) == pytest.approx(0.463325, abs=1e-6)
    assert curve(50, 50) == pytest.approx(0.732051, abs=1e-6)
    for d in (0.5, 10.0, 50.0, 120.0, 1e5):
        assert fitted_d(35, curve(np.arange(35, 51), d)[None])[0] == pytest.approx(d, rel=1e-6)
        assert fitted_d(50, curve(np.array([[50]]), d))[0] == pytest.approx(d, rel=1e-6)
    edges = fitted_d(35, np.array([[1.0, 1.0], [1.0, 0.9], [np.nan, 0.9]]))
    tried = np.arange(100, 1000, 0.01)
    errors = (1 - curve(35, tried)) ** 2 + (0.9 - curve(36, tried)) ** 2
    assert edges[1] == pytest.approx(tried[np.argmin(errors)], abs=0.02)
    assert edges[0] == np.inf
    assert np.isnan(edges[2])


def test_lexicalrichness_agrees():
    # Its msttr drops the last window even when it is full, and its mtld gives n where every word is distinct.
    lexicalrichness = pytest.importorskip("lexicalrichness")
    rng = np.random.default_rng(3)
    written = [" ".join(rng.choice(list("abcdefghijklmnopqrst"), n)) for n in (12, 43, 60, 151, 400)]
    written += [" ".join(zipf(n, n)) for n in (52, 117, 300)]
    block = counts(*written)
    theirs = [
        lexicalrichness.LexicalRichness(text, preprocessor=None, tokenizer=lambda t: t.split()) for text in written
    ]
    assert ttr(block)["value"].to_list() == pytest.approx([one.ttr for one in theirs])
    assert root_ttr(block)["value"].to_list() == pytest.approx([one.rttr for one in theirs])
    assert log_ttr(block)["value"].to_list() == pytest.approx([one.Herdan for one in theirs])
    assert maas(block)["value"].to_list() == pytest.approx([one.Maas for one in theirs])
    assert mtld(block)["value"].to_list() == pytest.approx([one.mtld(threshold=0.72) for one in theirs])
    assert hdd(block, k=10)["value"].to_list() == pytest.approx([one.hdd(draws=10) for one in theirs])
    assert mattr(block, window=9)["value"].to_list() == pytest.approx([one.mattr(window_size=9) for one in theirs])
    # where a part of a window is left it drops that part, and so do we
    assert msttr(block, window=11)["value"].to_list() == pytest.approx(
        [one.msttr(segment_window=11) if one.words % 11 else segmental(one.wordlist, 11) for one in theirs]
    )
    # theirs is one Monte-Carlo run with a spread of about one per cent
    for i in (5, 6, 7):
        assert vocd_d(block)["value"][i] == pytest.approx(theirs[i].vocd(), rel=0.06)
        assert vocd_d(block, method="sampled")["value"][i] == pytest.approx(theirs[i].vocd(), rel=0.06)


def test_vocd_is_the_best_fit():
    texts = [zipf(n, n, types) for n, types in ((51, 60), (80, 400), (300, 30), (700, 5000))]
    texts += [["a"] * 60, [f"w{i}" for i in range(59)] + ["w0"]]
    found = vocd_d(counts(*map(" ".join, texts)))["value"].to_list()
    assert found == pytest.approx([best_d(words) for words in texts], rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(word_lists, min_size=1, max_size=4), st.integers(1, 8), st.sampled_from((0.6, 0.72, 0.9)))
def test_against_brute_force(texts, width, threshold):
    block = counts(*map(" ".join, texts))
    found = {
        "moving": mattr(block, window=width),
        "segmental": msttr(block, window=width),
        "drawn": hdd(block, k=width),
        "samples": mttrss(block, window=width),
    }
    grams = {n: distinct_2(block, n=n, denominator="ngrams")["value"] for n in (2, 3)}
    closed = mtld(block, threshold=threshold, min_words=1)
    turned = mtld_wrap(block, threshold=threshold, min_length=width, min_words=1)["value"]
    for i, words in enumerate(texts):
        n, types = len(words), len(set(words))
        assert ttr(block)["value"][i] == distinct_1(block)["value"][i] == pytest.approx(types / n)
        assert root_ttr(block)["value"][i] == pytest.approx(types / sqrt(n))
        if n > 1:
            assert log_ttr(block)["value"][i] == pytest.approx(log(types) / log(n))
            assert maas(block)["value"][i] == pytest.approx((log(n) - log(types)) / log(n) ** 2)
            assert grams[2][i] == pytest.approx(len(set(pairwise(words))) / (n - 1))
        if n > 2:
            assert grams[3][i] == pytest.approx(len(set(zip(words, words[1:], words[2:], strict=False))) / (n - 2))
        if types == n:
            assert closed.row(i) == (None, "no_repetition")
        else:
            both = (one_pass(words, threshold) + one_pass(words[::-1], threshold)) / 2
            assert closed["value"][i] == pytest.approx(both)
        assert turned[i] == pytest.approx(wrapped(words, threshold, width))
        if n < width:
            assert {frame.row(i) for frame in found.values()} == {(None, "too_short")}
            continue
        assert found["moving"]["value"][i] == pytest.approx(moving(words, width))
        assert found["segmental"]["value"][i] == pytest.approx(segmental(words, width))
        assert found["drawn"]["value"][i] == found["samples"]["value"][i] == pytest.approx(drawn(words, width))


def test_long_texts_against_brute_force():
    texts = [zipf(1500, 1), zipf(800, 2, 5000), [f"w{i}" for i in range(300)], ["a", "b"] * 200]
    block = counts(*map(" ".join, texts))
    assert mtld_wrap(block)["value"].to_list() == pytest.approx([wrapped(words) for words in texts])
    assert hdd(block)["value"].to_list() == pytest.approx([drawn(words, 42) for words in texts], rel=1e-12)
    assert mattr(block)["value"].to_list() == pytest.approx([moving(words, 50) for words in texts])
    assert mtld(block)["value"][0] == pytest.approx((one_pass(texts[0]) + one_pass(texts[0][::-1])) / 2)


@settings(max_examples=40, deadline=None)
@given(word_lists.filter(lambda words: len(words) >= 10))
def test_fewer_types_never_raise_diversity(words):
    # one type is taken for another at the same length; MTLD's stretches may end elsewhere then, so it is no such bound
    merged = [words[0] if word == words[-1] else word for word in words]
    block = counts(" ".join(words), " ".join(merged), " ".join(["z"] * len(words)))
    for method in LEXICAL:
        if method.id not in ("mtld", "mtld_wrap"):
            before, after, least = method.compute(block, **SMALL.get(method.id, {}))["value"]
            if method.direction == "lower":
                before, after, least = -before, -after, -least
            assert before is None or before >= after - 1e-9 >= least - 2e-9
            if method.id in ("ttr", "root_ttr", "log_ttr", "maas", "distinct_1"):
                assert (before > after) == (words[0] != words[-1])


@settings(max_examples=20, deadline=None)
@given(word_lists.filter(lambda words: len(words) >= 10))
def test_planted_repetition(words):
    block = counts(" ".join(words), " ".join(words + words), " ".join(["z"] * 20))
    for method in (ttr, root_ttr, distinct_1):
        before, after, _ = method(block)["value"]
        assert after < before
    found = mtld(block)
    assert found["value"][2] == 2.0  # every second word closes a stretch: the least value there is
    assert found["value"][1] >= 2.0


@settings(max_examples=30, deadline=None)
@given(word_lists.filter(lambda words: len(words) >= 10), st.permutations("abcdefghijkl"), st.randoms())
def test_names_never_count_and_order_only_where_it_should(words, names, random):
    renamed = [f"q{names['abcdefghijkl'.index(word)]}" for word in words]
    shuffled = random.sample(words, len(words))
    block = counts(*map(" ".join, (words, renamed, shuffled)))
    for method in LEXICAL:
        first, second, third = method.compute(block, **SMALL.get(method.id, {})).rows()
        assert first == second
        if method.id not in ("mtld", "mtld_wrap", "msttr", "mattr", "distinct_2"):
            assert first == third  # a bag of words


@pytest.mark.parametrize(("method", "params"), SAMPLED)
def test_draws_depend_on_the_words_and_the_seed_alone(method, params):
    text, other = " ".join(zipf(90, 1)), " ".join(zipf(120, 2))
    alone = only(method(counts(text), **params))
    assert method(counts(other, "", text, text), **params)["value"].to_list()[2:] == [alone, alone]
    assert only(method(counts(text), seed=1, **params)) != alone
    assert only(method(counts(text), **params)) == alone
    turned = " ".join(reversed(text.split()))
    assert only(method(counts(turned), **params)) != alone  # another text, other draws


def test_more_draws_come_nearer():
    block = counts(*(" ".join(zipf(200, seed)) for seed in range(6)))
    exact = mttrss(block)["value"].to_numpy()
    gaps = [
        np.abs(mttrss(block, method="sampled", draws=draws)["value"].to_numpy() - exact).mean()
        for draws in (10, 10_000)
    ]
    assert gaps[1] < gaps[0] / 4
    assert gaps[1] < 0.002
    found, sampled = (
        vocd_d(block, method=method, draws=1000)["value"].to_numpy() for method in ("analytic", "sampled")
    )
    assert sampled == pytest.approx(found, rel=0.01)


def test_statuses_of_short_texts():
    block = counts("", "one", "?!", "all of these words are quite distinct from each other", T)
    assert mtld(block)["status"].to_list() == ["empty_response", "too_short", "no_words", "no_repetition", "ok"]
    assert distinct_2(block)["status"].to_list() == ["empty_response", "too_short", "no_words", "ok", "ok"]
    for method in (log_ttr, maas):
        assert method(block)["status"].to_list() == ["empty_response", "too_short", "no_words", "ok", "ok"]
    assert log_ttr(block)["value"][3] == 1.0
    assert maas(block)["value"][3] == 0.0
    for method in (mattr, msttr, mttrss, hdd, vocd_d):
        assert method(block)["status"].to_list() == [
            "empty_response",
            "too_short",
            "no_words",
            "too_short",
            "too_short",
        ]
    assert only(mtld(counts(" ".join("abcdefghij" * 2)), min_words=20)) == pytest.approx(
        mtld(counts(" ".join("abcdefghij" * 2)), min_words=2)["value"].item()
    )


def test_vocd_without_bound():
    fifty, distinct = [f"w{i}" for i in range(50)], [f"w{i}" for i in range(80)]
    block = counts(*map(" ".join, (fifty + ["w0"], fifty[1:] + ["w1"], distinct, distinct + ["w0"])))
    for params in ({}, {"method": "sampled"}):
        found = vocd_d(block, **params)["status"].to_list()
        assert found == ["ok", "too_short", "no_repetition", "ok"]
    few = {"method": "sampled", "k_min": 2, "k_max": 3, "draws": 1, "repeats": 1}
    assert vocd_d(block, **few).row(3) == (None, "no_repetition")  # no draw met the one word that comes twice


def test_chinese_counts_characters():
    block = counts("天天向上" * 3)
    assert only(ttr(block)) == pytest.approx(3 / 12)
    assert only(mtld(block)) > 2
    assert only(mtld_wrap(block)) == 10


def test_both_fields_are_read_in_order():
    block = counts("a b", prompt="a b a")
    assert only(ttr(block, field="both")) == pytest.approx(2 / 5)
    assert only(distinct_2(block, field="both")) == pytest.approx(3 / 5)  # ab, ba, aa at the seam


@pytest.mark.parametrize("method", LEXICAL, ids=lambda method: method.id)
def test_lexical_order_blocks_and_fields(method):
    block = counts(T, "", "cats and dogs and cats " * 20, "x", T * 6, prompt="what is this and what is that " * 8)
    forward = method.compute(block, **method.params)
    assert method.compute(block.reverse(), **method.params).rows() == forward.reverse().rows()
    parts = [method.compute(block[i : i + 1], **method.params) for i in range(5)]
    assert pl.concat(parts).rows() == forward.rows()
    assert method.compute(block.head(0), **method.params).schema == forward.schema
    assert method.compute(block, **{**method.params, "field": "prompt"})["value"].n_unique() == 1
    with pytest.raises(ValueError, match="field"):
        method.compute(block, **{**method.params, "field": "answer"})


def test_directions():
    assert {method.id for method in LEXICAL if method.direction == "lower"} == {"maas"}
    assert all(method.section == "4.1" and method.axis == "diversity" for method in LEXICAL)


def test_parameters_out_of_range_are_refused():
    block = counts(T)
    for method, wrong in (
        (mtld, {"threshold": 1.0}),
        (mtld_wrap, {"threshold": 0.0}),
        (mtld_wrap, {"min_length": 0}),
        (mattr, {"window": 0}),
        (msttr, {"window": -1}),
        (mttrss, {"window": 0}),
        (mttrss, {"draws": 0}),
        (mttrss, {"method": "exact"}),
        (hdd, {"k": 0}),
        (vocd_d, {"method": "exact"}),
        (vocd_d, {"k_min": 0}),
        (vocd_d, {"k_max": 34}),
        (vocd_d, {"repeats": 0}),
        (distinct_2, {"n": 0}),
        (distinct_2, {"denominator": "types"}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            method(block, **wrong)
