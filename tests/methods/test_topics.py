"""Topics: counts and weights worked by hand, scikit-learn and brute force as oracles, planted vocabularies, edges."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import NMF, LatentDirichletAllocation
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.metrics import adjusted_rand_score

from methods.diversity import topic_models
from methods.diversity.topic_models import count_words, fit_nmf, fit_spherical, idf, strongest, tf_idf, umass
from methods.diversity.topics import BY_TEXTS, latent_concept, lda, nmf, tfidf
from methods.tokens import tokenize

METHODS = {method.id: method for method in BY_TEXTS}
WORDS = ("sun", "moon", "star", "sky", "cloud", "rain", "数", "学", "привет")


def series(texts):
    return pl.Series(texts, dtype=pl.String)


def planted(n=60, groups=2, words=12, length=10, seed=0):
    """Texts of groups that share no word."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, groups, n)
    names = [[f"{chr(97 + group)}word{chr(97 + i)}" for i in range(words)] for group in range(groups)]
    return series([" ".join(rng.choice(names[t], length)) for t in truth]), truth


def dense(texts, **kwargs):
    counts = count_words(series(texts), **kwargs)
    return counts.matrix.toarray(), counts


# ---- counts ---------------------------------------------------------------------------------------------------------


def test_idf_of_a_word_in_one_of_three_texts():
    matrix = count_words(series(["one same", "two same", "three same"])).matrix
    found = dict(zip(("one", "same", "three", "two"), idf(matrix), strict=True))
    assert found["one"] == pytest.approx(1.693147, abs=1e-6)
    assert found["same"] == 1


def test_counts_are_of_words_in_any_script_and_in_alphabetical_order():
    matrix, counts = dense(["The the CAT's 数学 数", None, "", "cat's Привет"])
    assert counts.words == sorted(["the", "cat's", "数", "学", "привет"])
    assert matrix[0].tolist() == [1, 2, 0, 1, 2]
    assert not matrix[1:3].any()


def test_small_pools_keep_every_word_and_large_ones_do_not():
    small = count_words(series(["all rare", "all"]))
    assert small.words == ["all", "rare"]
    assert (small.facts["min_df"], small.facts["max_df"]) == (1, 1.0)
    texts = ["common " + ("twice " if i < 2 else "") + ("often" if i < 9 else "") + f" w{i}" for i in range(1200)]
    large = count_words(series(texts))
    assert large.words == ["often"]
    assert (large.facts["min_df"], large.facts["max_df"]) == (5, 0.5)
    texts = ["half" if i % 2 else "other" for i in range(100)]
    assert count_words(series(texts)).words == ["half", "other"]  # at the limit, not above it


def test_limits_that_leave_nothing_are_lifted_and_that_is_said():
    counts = count_words(series(["a b", "c d"]), min_df=3)
    assert counts.words == ["a", "b", "c", "d"]
    assert counts.facts["limits lifted"]


def test_of_too_many_words_the_most_frequent_stay():
    assert count_words(series(["b c", "b c a", "b"]), most=2).words == ["b", "c"]
    assert count_words(series(["b c a"]), most=2).words == ["a", "b"]  # ties by the alphabet


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), min_size=1, max_size=12))
def test_counts_and_weights_are_those_of_the_reference(texts):
    if not any(texts):
        assert count_words(series(texts)).matrix.shape == (len(texts), 0)
        return
    found = count_words(series(texts), min_df=1, max_df=1.0)
    oracle = CountVectorizer(tokenizer=tokenize, token_pattern=None, lowercase=False)
    assert np.array_equal(found.matrix.toarray(), oracle.fit_transform(texts).toarray())
    assert found.words == oracle.get_feature_names_out().tolist()
    weighed = TfidfTransformer().fit_transform(oracle.transform(texts)).toarray()
    assert tf_idf(found.matrix).toarray() == pytest.approx(weighed)


def test_counts_do_not_depend_on_blocks(monkeypatch):
    texts, _ = planted(20)
    whole = count_words(texts)
    monkeypatch.setattr(topic_models, "TEXT_BLOCK", 3)
    cut = count_words(texts)
    assert cut.words == whole.words
    assert np.array_equal(cut.matrix.toarray(), whole.matrix.toarray())


# ---- coherence and ties -----------------------------------------------------------------------------------------------


def test_coherence_worked_by_hand():
    matrix = count_words(series(["a b", "a b", "a", "c"])).matrix
    # Words a, b, c by weight: D(a) = 3, D(b) = 2, D(a, b) = 2, D(c) with either 0.
    expected = math.log(3 / 3) + math.log(1 / 3) + math.log(1 / 2)
    # The order is that of D whatever the weights, which say only which words are looked at.
    assert umass(matrix, np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])) == pytest.approx([expected, expected])
    assert umass(matrix, np.array([[1.0, 2.0, 3.0]]), top=2) == pytest.approx([math.log(1 / 2)])
    assert umass(matrix, np.array([[3.0, 2.0, 1.0]]), top=2) == pytest.approx([0])


def test_ties_go_to_the_first_topic():
    assert strongest(np.array([[0.2, 0.5, 0.5 + 1e-12], [0, 0, 0], [0.1, 0.2, 0.3]])).tolist() == [1, 0, 2]


# ---- the clusterings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("k", [2, None])
def test_two_groups_that_share_no_word_are_recovered(name, k):
    texts, truth = planted(n=120, words=30, length=15)
    texts = pl.concat([texts, series(["", None, "?!"])])
    found = METHODS[name].fit(texts, **{**METHODS[name].params, "k": k})
    assert adjusted_rand_score(truth, found.labels[:-3]) == 1
    assert found.labels[-3:].tolist() == [-1, -1, -1]
    assert np.array_equal(np.isnan(found.strength), found.labels < 0)
    assert found.strength[:-3].min() > 0
    assert found.strength[:-3].max() <= 1 + 1e-9
    assert found.labels.dtype == np.int64
    assert (found.facts["topics"], found.facts["clusters"], found.facts["rows without words"]) == (2, 2, 3)
    assert ("tried" in found.facts) == (k is None)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_topics(name):
    texts, _ = planted(40, groups=3)
    one, two = (METHODS[name].fit(texts, k=3, seed=4) for _ in range(2))
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.strength, two.strength)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("texts", [[], ["hi"], ["the same words"] * 6, ["", None], ["数学函数", "天气很好", "a b"]])
def test_edges(name, texts):
    found = METHODS[name].fit(series(texts))
    assert len(found.labels) == len(found.strength) == len(texts)
    if len(set(texts)) == 1:
        assert set(found.labels.tolist()) == {0}
    if not any(texts):
        assert set(found.labels.tolist()) <= {-1}
    assert found.facts["clusters"] == int(found.labels.max(initial=-1)) + 1


@pytest.mark.parametrize("name", METHODS)
def test_more_topics_than_rows_or_words_are_cut_down(name):
    found = METHODS[name].fit(series(["x y", "x y", "z"]), k=50)
    assert found.facts["topics"] == 3
    assert found.labels[0] == found.labels[1]


def test_a_number_below_one_is_refused():
    for fit in (lda, nmf, tfidf, latent_concept):
        with pytest.raises(ValueError, match="k must be at least 1"):
            fit(series(["a"]), k=0)
    with pytest.raises(ValueError, match="criterion"):
        latent_concept(series(["a"]), criterion="aic")


def test_chinese_groups_are_recovered():
    texts = series(["数学函数积分", "函数积分数学", "积分函数", "天气下雨晴", "下雨天气", "晴天气下雨"])
    for fit in (nmf, tfidf):
        assert fit(texts, k=2).labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_lda_is_the_reference():
    texts, _ = planted(50, groups=3, seed=2)
    matrix = count_words(texts).matrix
    oracle = LatentDirichletAllocation(
        3, learning_method="online", max_iter=4, batch_size=13, total_samples=50, random_state=9
    )
    theta = oracle.fit_transform(matrix)
    found = lda(texts, k=3, seed=9, passes=4, restarts=1)
    assert found.strength == pytest.approx(theta.max(axis=1))
    assert adjusted_rand_score(theta.argmax(axis=1), found.labels) == 1


def test_of_several_fits_the_one_of_the_best_bound_is_taken():
    texts, _ = planted(50, groups=4, seed=3)
    matrix = count_words(texts).matrix
    bounds = [topic_models.fit_lda(matrix, 4, seed, 5, 1, scored=True).bound for seed in (0, 1, 2)]
    assert topic_models.fit_lda(matrix, 4, 0, 5, 3).bound == max(bounds)
    assert len(set(bounds)) == 3


def test_nmf_is_the_reference_with_parts_of_unit_length():
    texts, _ = planted(40, groups=3, seed=5)
    matrix = tf_idf(count_words(texts).matrix)
    oracle = NMF(3, init="nndsvd", max_iter=300, random_state=0)
    w = oracle.fit_transform(matrix) * np.linalg.norm(oracle.components_, axis=1)
    found = fit_nmf(matrix, 3, 0, 300)
    assert found.rows == pytest.approx(w / w.sum(axis=1, keepdims=True))
    assert np.array_equal(strongest(found.rows), w.argmax(axis=1))


def test_spherical_k_means_ends_where_no_row_is_nearer_to_another_centre():
    texts, _ = planted(60, groups=4, words=6, length=3, seed=6)
    matrix = tf_idf(count_words(texts).matrix)
    model = fit_spherical(matrix, 4, 0, 100, 3)
    x, label = matrix.toarray(), strongest(model.rows)
    means = np.stack([x[label == t].sum(axis=0) for t in range(4)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert model.topics == pytest.approx(means)
    assert (x @ means.T).argmax(axis=1).tolist() == label.tolist()


def test_the_number_of_topics_is_the_fewest_that_are_nearly_as_coherent_as_the_best(monkeypatch):
    coherence = {2: [-9, -9], 5: [-5, -5, -5, -5, -6], 10: [-3.0, -7] * 5, 20: [-6] * 20, 40: [-9] * 40}
    asked = []

    def told(matrix, topics, top=10):
        asked.append(matrix.shape[0])
        return np.array(coherence[len(topics)], dtype=np.float64)

    monkeypatch.setattr("methods.diversity.topics.umass", told)
    texts, _ = planted(100, groups=5, words=20, length=12, seed=7)
    # The best is 10 with -5, give or take 2.108 / sqrt(10) = .667; 5 topics have -5.2, and 2 have -9.
    assert tfidf(texts).facts["topics"] == 5
    coherence[10] = [-5.0] * 10
    assert tfidf(texts).facts["topics"] == 10
    coherence[20] = [-5.0] * 20
    assert tfidf(texts).facts["topics"] == 10  # a tie: the fewer
    assert asked == [100] * 15


def test_concepts_by_held_out_perplexity():
    texts, truth = planted(300, groups=2, words=20, length=30)
    found = latent_concept(texts, criterion="perplexity", passes=8, restarts=1)
    assert found.facts["k by"].startswith("perplexity")
    assert adjusted_rand_score(truth, found.labels) == 1
    tried = {int(k): float(v) for k, v in (part.split(": ") for part in found.facts["tried"].split(", "))}
    assert found.facts["topics"] == 2
    # Words are drawn evenly from 20 of 40: half of them tell which.
    assert tried[1] == pytest.approx(40, rel=0.05)
    assert tried[2] == pytest.approx(20, rel=0.05)


def test_one_vocabulary_is_one_concept():
    texts, _ = planted(80, groups=1, words=15)
    found = latent_concept(texts)
    assert found.facts["topics"] == 1
    assert set(found.labels.tolist()) == {0}
