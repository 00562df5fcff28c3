"""What a clustering tells: sizes, telling terms in any script, typical rows."""

import numpy as np
import polars as pl
import pytest

from methods.diversity.clusters import CLUSTERS_SCHEMA, default_k, describe_clusters, terms_of


@pytest.mark.parametrize(("n", "k"), [(0, 1), (1, 1), (100, 10), (29_700, 172), (10**9, 2000)])
def test_default_k(n, k):
    assert default_k(n) == k


def described(texts, labels, similarity=None, **kwargs):
    ids = pl.Series([f"r{i}" for i in range(len(texts))], dtype=pl.String)
    similarity = np.ones(len(texts)) if similarity is None else np.array(similarity)
    return describe_clusters(ids, np.array(labels), similarity, pl.Series(texts, dtype=pl.String), **kwargs)


def test_terms_that_tell_a_cluster_come_first_and_common_words_do_not():
    found = described(
        ["The cat and the dog", "the CAT sleeps", "the integral of the function", "the function grows"], [0, 0, 1, 1]
    )
    assert found["top_terms"].to_list() == [["cat", "and", "dog", "sleeps"], ["function", "grows", "integral", "of"]]
    assert found["size"].to_list() == [2, 2]


def test_the_weight_is_worked_by_hand():
    # Shares in cluster 0: a1 2/2, b1 1/2; in the pool: a1 2/4, b1 1/4, so weights ln 2 and (ln 2)/2; c1 weighs 0.
    found = described(["a1 c1", "a1 b1 c1", "c1", "c1"], [0, 0, 1, 1])
    assert found["top_terms"].to_list() == [["a1", "b1"], ["c1"]]


def test_chinese_goes_by_character_pairs():
    texts = ["数学函数的积分", "求函数的导数", "今天天气很好", "明天天气怎么样"]
    found = described(texts, [0, 0, 1, 1], n_terms=2)
    assert found["top_terms"].to_list() == [["函数", "数的"], ["天天", "天气"]]


def test_terms_in_mixed_scripts():
    (terms,) = terms_of(pl.Series(["用Python写代码, Ünïcode 2024 x a1 Привет don't"])).to_list()
    assert sorted(terms) == sorted(["python", "ünïcode", "a1", "привет", "don't", "写代", "代码"])
    assert terms_of(pl.Series(["", None, "天"], dtype=pl.String)).to_list() == [[], [], []]


def test_pairs_do_not_reach_over_a_gap():
    (terms,) = terms_of(pl.Series(["天气 很好"])).to_list()
    assert sorted(terms) == sorted(["天气", "很好"])


def test_exemplars_are_nearest_first_and_ties_go_by_index():
    found = described(["x"] * 5, [7, 7, 7, 7, 2], similarity=[0.5, 0.9, 0.7, 0.9, 0.1])
    assert found["cluster"].to_list() == [2, 7]
    assert found["exemplars"].to_list() == [["r4"], ["r1", "r3", "r2"]]
    assert found["mean_similarity"].to_list() == pytest.approx([0.1, 0.75])


def test_one_cluster_is_described_by_its_most_frequent_terms():
    assert described(["aa bb", "bb cc", "bb cc"], [0, 0, 0])["top_terms"].to_list() == [["bb", "cc", "aa"]]


def test_rows_without_a_label_and_empty_frames():
    found = described(["aa", "bb"], [-1, 0], similarity=[np.nan, 1.0])
    assert found["exemplars"].to_list() == [["r1"]]
    assert found.schema == CLUSTERS_SCHEMA
    assert described([], []).schema == CLUSTERS_SCHEMA
    assert described(["aa"], [-1]).height == 0
    assert described(["", ""], [0, 1])["top_terms"].to_list() == [[], []]


def test_blocks_of_texts_do_not_change_the_terms(monkeypatch):
    texts = [f"word{i % 7} word{i % 3} common" for i in range(40)]
    labels = [i % 4 for i in range(40)]
    whole = described(texts, labels)
    monkeypatch.setattr("methods.diversity.clusters.TEXT_BLOCK", 3)
    assert whole.equals(described(texts, labels))
