"""DQI as measures: the functions that compute it against values worked by hand."""

import math
import statistics

import numpy as np
import pytest

from methods.quality import dqi
from methods.quality.dqi_counts import (
    band_sums,
    label_spreads,
)
from methods.quality.dqi_measures import MEASURES
from methods.quality.dqi_terms import c1_terms, c3_terms, c5_terms, c6_terms, c7_terms
from tests.sets import angle, subset, table_encoder

COMPUTE = {measure.id: measure.compute for measure in MEASURES}


def test_vocabulary_by_hand():
    terms = dqi.vocabulary_terms(8, 3, np.array([5, 7, 2]))
    assert terms["combined"] == pytest.approx(3.50554, abs=1e-5)
    assert terms["length_spread"] == pytest.approx(2.516611, abs=1e-6)
    assert terms["length_balance"] == pytest.approx(1 / 3)
    # the bounds themselves count as outside
    assert dqi.vocabulary_terms(1, 1, np.array([3, 30]))["length_balance"] == -1


def test_vocabulary_from_texts():
    # lemmas: cat, sit, mat, see, mouse, run (stop-words out)
    found = c1_terms(
        subset([("The cats sat on the mats", "It saw mice"), ("", "A cat is running away from the mouse")])
    )
    assert found["lemmas_per_row"] == pytest.approx(len({"cat", "sit", "mat", "see", "mouse", "run", "away"}) / 2)
    assert found["length_spread"] == pytest.approx(statistics.stdev([6, 3, 8]))
    assert found["length_balance"] == pytest.approx((1 - 1 + 1) / 3)


def bands(counts, share, c=1, ddof=1):
    """T1 and T2 of types that occur so often, as the components compute them."""
    keys = np.repeat(np.arange(len(counts)), counts)
    return band_sums(keys, np.zeros(len(keys), dtype=np.int64), share, c, ddof).get(0, (None, None))


def test_bands_by_hand():
    t1, t2 = bands([2, 1, 1], share=0.25)
    assert t1 == pytest.approx(5.19615, abs=1e-5)
    assert t2 == pytest.approx((-2 + 1 + 1) / 4)  # d = 1: twice is too often, once lies on both bounds
    assert bands([2, 1, 1], share=0.5)[1] == 1  # d = 2: equal to the bound counts as inside
    assert bands([3, 2, 1], share=None)[1] == pytest.approx((-3 - 2 + 1) / 6)
    assert bands([2, 2], share=0.5) == (None, 1)
    assert bands([], share=0.5) == (None, None)
    assert bands([2, 1, 1], 0.5, ddof=0)[0] == pytest.approx(1 / statistics.pstdev([2 / 3, 1 / 3, 1 / 3]))


def test_likeness_between_sentences_by_hand():
    assert dqi.unlike_term(np.array([2, 2, 0])) == pytest.approx(1.39230, abs=1e-5)
    assert dqi.unlike_term(np.array([5])) is None
    assert dqi.shortfall_term(3, 0.5) == 2


def test_likeness_between_sentences_from_vectors():
    vectors = {"x": angle(1), "y": angle(0.6), "z": angle(0)}  # x.y .6, y.z .8, x.z 0
    set_ = subset([("x", "y"), ("z", " ")], encode=table_encoder(vectors))
    found = c3_terms(set_, siml=(0.7,), a=(0.3, 0.7), siml_top=0.7)
    assert found["sentences"] == 3
    assert found["t1_0.7"] == pytest.approx(3 / (statistics.stdev([2, 1, 1]) + 1))
    assert found["t2_0.3"] == pytest.approx(3 / (1 + 0.1), rel=1e-5)  # nearest: y .6 (short .1), z .8, y .8
    assert found["t2_0.7"] == pytest.approx(3 / (1 + (0.1 + 0.7) + 0.1 + 0.7), rel=1e-5)
    assert found["combined"] == pytest.approx(found["t1_0.7"] + found["t2_0.3"] + found["t2_0.7"])


def test_likeness_of_words_by_hand():
    assert dqi.word_similarity_terms([10])["combined"] == pytest.approx(0.1)
    set_ = subset([("x y", "")], encode=table_encoder({"x": angle(1), "y": angle(0.9)}))
    assert COMPUTE["dqi_c4_word_sim_intra"](set_) == pytest.approx(0.1, rel=1e-5)
    # a single word has m = 0
    assert COMPUTE["dqi_c4_word_sim_intra"](
        subset([("x", "")], encode=table_encoder({"x": angle(1)}))
    ) == pytest.approx(0.5)


def test_likeness_of_prompt_and_response_by_hand():
    terms = dqi.pair_terms(np.array([0.6, 0.4, 0.9]), np.array([1, 3, 4]))
    assert terms["similarity"] == terms["combined"] == pytest.approx(5)
    assert terms["length"] == pytest.approx(3 / 9)
    assert terms["length_spread"] == pytest.approx(statistics.stdev([1, 3, 4]) / 3)
    assert terms["similarity_spread"] == pytest.approx(statistics.stdev([0.6, 0.4, 0.9]) / 3)
    vectors = {"q": angle(1), "r": angle(0.6), "s t": angle(0.4), "u": angle(0.9)}
    rows = [("q", "r"), ("q", "s t"), ("q", "u"), ("q", ""), (None, "u")]
    found = c5_terms(subset(rows, encode=table_encoder(vectors)))
    assert found["combined"] == pytest.approx(5, rel=1e-5)
    assert found["length"] == pytest.approx(3 / 2)


def test_giveaways_by_hand():
    keys, labels = np.array([7, 7, 7]), np.array([0, 0, 2])  # counts 2, 0, 1 over three labels
    assert label_spreads(keys, labels, 3)["sigma"].sum() / 4 == pytest.approx(0.25)
    # "x" stands twice under 0, never under 1, once under 2; all else is said once; four sentences
    rows = [("x", "x"), ("b", ""), ("x", "")]
    found = c6_terms(subset(rows, clusters=[0, 1, 2]))
    assert found["giveaway_1"] == pytest.approx(0.25)
    assert (found["giveaway_2"], found["giveaway_3"], found["combined"]) == (0, 0, pytest.approx(0.25))


def test_likeness_over_the_split_by_hand():
    assert dqi.split_term(np.array([0.3, 0.5]), 0.4) == pytest.approx(10)
    vectors = {"q t": angle(1), "q p": angle(0.3), "q n": np.array([0.5, -math.sqrt(0.75)]), "q far": angle(-1)}
    for text in ("q u",):
        vectors[text] = angle(1)
    rows = [("q", "p"), ("q", "far"), ("q", "t")]
    one = c7_terms(subset(rows, ["tr", "tr", "te"], encode=table_encoder(vectors)), "te", siml=(0.4,))
    assert one["combined"] == pytest.approx(10, rel=1e-4) and one["mean_largest"] == pytest.approx(0.3, rel=1e-5)
    rows = [("q", "t"), ("q", "p"), ("q", "n")]
    two = c7_terms(subset(rows, ["tr", "te", "te"], encode=table_encoder(vectors)), "te", siml=(0.4,))
    assert two["siml_0.4"] == pytest.approx(10, rel=1e-4)
