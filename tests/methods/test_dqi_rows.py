"""DQI of single rows: leave-one-out by brute force, inner terms that add up to their component, statuses."""

import math
import zlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Pool, Subset
from methods.quality.dqi_counts import GRANULARITIES
from methods.quality.dqi_measures import MEASURES
from methods.quality.dqi_rows import INDICATORS, pair_differences
from methods.quality.dqi_terms import c1_terms, c2_terms, c3_terms, c4_terms, c5_terms, c6_terms, c7_terms
from methods.tokens import tokenize

COMPUTE = {indicator.id: indicator.compute for indicator in INDICATORS}
MEASURE = {measure.id: measure.compute for measure in MEASURES}


def hashed(asked):
    found = np.array([np.random.default_rng(zlib.crc32(t.encode())).normal(size=6) + 0.7 for t in asked])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def table(rows, source=None):
    rows = list(rows)
    return pl.DataFrame(
        {"source": source or ["a"] * len(rows), "prompt": [q for q, _ in rows], "response": [r for _, r in rows]},
        schema={"source": pl.String, "prompt": pl.String, "response": pl.String},
    )


def pool(rows=(), source=None, clusters=None, vectors=None, encode=hashed):
    texts = table(rows, source)
    n = texts.height if vectors is None else len(vectors)
    return Pool(
        pl.Series([str(i) for i in range(n)], dtype=pl.String),
        texts=texts,
        clusters=None if clusters is None else np.array(clusters, dtype=np.int64),
        vectors=None if vectors is None else np.asarray(vectors, dtype=np.float32),
        encode=encode,
    )


def subset(rows, source=None, clusters=None):
    texts = table(rows, source)
    ids = pl.Series([str(i) for i in range(texts.height)], dtype=pl.String)
    return Subset(ids, texts=texts, clusters=None if clusters is None else np.array(clusters), encode=hashed)


def run(id, *args, **params):
    found = COMPUTE[id](*args, **params)
    assert found.columns == ["value", "status"]
    assert (found["value"].is_not_null() == (found["status"] == "ok")).all()
    return found["value"].to_list(), found["status"].to_list()


WORDS = "the cat cats sat quickly on red mats and dogs ran because big dog said hello 猫 42 ?!".split()
SENTENCE = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)
ROWS = st.lists(st.tuples(SENTENCE, SENTENCE), max_size=7)


def has_words(row):
    return any(map(tokenize, row))


# --- leave one out ---------------------------------------------------------------------------------------------------
def without(rows, i):
    return rows[:i] + rows[i + 1 :]


@settings(deadline=None, max_examples=35)
@given(ROWS)
def test_vocabulary_is_the_leave_one_out_difference(rows):
    values, statuses = run("dqi_c1_vocabulary_row", pool(rows), a=2, b=6)
    whole = MEASURE["dqi_c1_vocabulary"](subset(rows), a=2, b=6)
    for i, (value, status) in enumerate(zip(values, statuses, strict=True)):
        rest = MEASURE["dqi_c1_vocabulary"](subset(without(rows, i)), a=2, b=6)
        if not has_words(rows[i]):
            assert status == ("no_words" if "".join(rows[i]).strip() else "empty_text")
        elif rest is None:
            assert status == "too_few_rows"
        else:
            assert value == pytest.approx(whole - rest, abs=1e-9)


def test_new_words_are_worth_more_than_old_ones():
    rows = [("say hello", "hello you")] * 4 + [("name planets", "venus mars saturn")]
    values, _ = run("dqi_c1_vocabulary_row", pool(rows))
    assert values[4] > values[0] == pytest.approx(values[1])


@settings(deadline=None, max_examples=35)
@given(ROWS)
def test_likeness_of_prompt_and_response_is_the_leave_one_out_difference(rows):
    values, statuses = run("dqi_c5_sts_intra_row", pool(rows))
    whole = c5_terms(subset(rows))["combined"]
    for i, (value, status) in enumerate(zip(values, statuses, strict=True)):
        rest = c5_terms(subset(without(rows, i)))["combined"]
        if not rows[i][1].strip():
            assert status == "empty_response"
        elif not rows[i][0].strip():
            assert status == "empty_prompt"
        elif rest is None:
            assert status == "too_few_rows"
        else:
            assert value == pytest.approx(whole - rest, rel=1e-6, abs=1e-9)


def test_pair_differences_by_hand():
    # d = .1, .1, .4: the whole is 3/.6 = 5; without the last 2/.2 = 10
    assert pair_differences(np.array([0.1, 0.1, 0.4])) == pytest.approx([5 - 4, 5 - 4, 5 - 10])
    # one row is all of D: nothing is left without it
    assert np.isnan(pair_differences(np.array([0, 0.3, 0]))).tolist() == [False, True, False]
    assert np.isnan(pair_differences(np.array([0.2]))).all()
    # what remains beside a huge value is not lost in it
    tiny = pair_differences(np.array([1e-9, 1.0, 2e-9]))
    assert tiny[1] == pytest.approx(3 / (1 + 3e-9) - 2 / 3e-9)


# --- inner terms -----------------------------------------------------------------------------------------------------
SMALL = {"word": 0.2, "noun": 0.3, "bigram": 0.1}


@settings(deadline=None, max_examples=40)
@given(ROWS, st.sampled_from(GRANULARITIES))
def test_the_mean_over_occurrences_is_the_second_components_t2(rows, granularity):
    values, statuses = run("dqi_c2_ngram_inter_row", pool(rows), granularity=granularity, shares=SMALL)
    terms = c2_terms(subset(rows), shares=SMALL)
    weights = []
    for row in rows:
        alone = c2_terms(
            subset([row]), shares={"word": 1, "noun": 1, "verb": 1, "adj": 1, "adv": 1, "bigram": 1, "trigram": 1}
        )
        weights.append((row, alone.get(f"{granularity}_t2")))
    for (row, t2), status in zip(weights, statuses, strict=True):
        expected = (
            "ok"
            if t2 is not None
            else "too_short"
            if has_words(row)
            else "no_words"
            if "".join(row).strip()
            else "empty_text"
        )
        assert status == expected
    if granularity == "word" and terms.get("word_t2") is not None:
        sizes = [sum(len(tokenize(text)) for text in row) for row in rows]
        mean = math.fsum(v * n for v, n in zip(values, sizes, strict=True) if v is not None) / sum(sizes)
        assert mean == pytest.approx(terms["word_t2"])


def test_stock_phrases_by_hand():
    rows = [("x x x", "x"), ("u v", "w x")]  # x five times of eight, d = .5 * 8
    assert run("dqi_c2_ngram_inter_row", pool(rows), shares={"word": 0.5})[0] == [-1, pytest.approx((3 - 1) / 4)]
    same = [("say it", "no"), ("say it", "yes")]
    assert run("dqi_c2_ngram_inter_row", pool(same), granularity="sentence")[0] == [0, 0]


@settings(deadline=None, max_examples=35)
@given(ROWS, st.data())
def test_the_giveaways_of_the_rows_add_up(rows, data):
    labels = data.draw(st.lists(st.integers(-1, 2), min_size=len(rows), max_size=len(rows)))
    values, statuses = run("dqi_c6_ngram_label_row", pool(rows, clusters=labels))
    giveaway = c6_terms(subset(rows, clusters=np.array(labels, dtype=np.int64)))["giveaway"]
    total, n_sentences = 0.0, 0
    for row, label, value, status in zip(rows, labels, values, statuses, strict=True):
        if not has_words(row):
            assert status in ("no_words", "empty_text")
        elif label < 0:
            assert status == "no_label"
        elif giveaway is None:
            assert status == "too_few_labels"
        else:
            sizes = [len(tokenize(text)) for text in row]
            total += value * sum(max(0, size - step) for size in sizes for step in range(3))
            n_sentences += sum(size > 0 for size in sizes)
    if giveaway is not None:
        assert total / n_sentences == pytest.approx(giveaway)


def test_giveaways_by_hand():
    rows = [("x", "x"), ("b", ""), ("x", "")]
    values, _ = run("dqi_c6_ngram_label_row", pool(rows, clusters=[0, 1, 2]))
    assert values == pytest.approx([1 / 3, 0, 1 / 3])  # sigma(2, 0, 1) = 1, over three occurrences
    alone = [("x", "x"), ("b", "c")]
    assert run("dqi_c6_ngram_label_row", pool(alone, ["s", "t"]), label="source")[0] == pytest.approx(
        [1 / math.sqrt(2), 0]
    )


def test_the_shares_of_unlike_rows():
    vectors = [(1, 0), (0.6, 0.8), (0, 1), (np.nan, np.nan)]
    values, statuses = run("dqi_c3_sts_inter_row", pool(vectors=vectors), siml=0.7)
    assert values == [1, 0.5, 0.5, None]
    assert statuses == ["ok", "ok", "ok", "no_embedding"]
    assert run("dqi_c3_sts_inter_row", pool(vectors=vectors[2:]))[1] == ["too_few_rows", "no_embedding"]
    assert run("dqi_c3_sts_inter_row", pool(vectors=[(1, 0)] * 3))[0] == [0, 0, 0]
    assert run("dqi_c3_sts_inter_row", pool(vectors=np.empty((0, 2)))) == ([], [])


def test_the_third_component_wants_the_shares_equal():
    rows = [("cats", ""), ("dogs", ""), ("red mats", ""), ("hello", "")]
    vectors = hashed([q for q, _ in rows])
    values, _ = run("dqi_c3_sts_inter_row", pool(rows, vectors=vectors), siml=0.6)
    terms = c3_terms(subset(rows), siml=(0.6,))
    assert terms["t1_0.6"] == pytest.approx(4 / (np.std(np.array(values) * 3, ddof=1) + 1))


def test_the_words_of_a_row():
    vectors = {"x": (1, 0), "y": (0.9, math.sqrt(0.19)), "z": (0.5, math.sqrt(0.75))}
    asked = []

    def encode(words):
        asked.extend(words)
        return np.array([vectors[word] for word in words], dtype=np.float32)

    rows = [("z", "x y"), ("x y", "x"), ("x", " "), ("x", "?!"), ("x", "x x")]
    values, statuses = run("dqi_c4_word_sim_intra_row", pool(rows, encode=encode))
    assert values[:2] == [pytest.approx(10, rel=1e-5), pytest.approx(2)]
    assert sorted(asked) == ["x", "y"]
    # two equal words have m = 1/2 = WSIML
    assert statuses == ["ok", "ok", "empty_response", "no_words", "undefined"]
    prompts, _ = run("dqi_c4_word_sim_intra_row", pool(rows, encode=encode), field="prompt")
    assert prompts[:2] == [pytest.approx(2), pytest.approx(10, rel=1e-5)]


def test_the_rounding_of_a_vectors_length_is_no_distance():
    # "yes yes" has m = 1/2 but for rounding; 1/1e-8 would drown every other row
    rows = [("", "yes yes"), ("", "yes no")]
    values, statuses = run(
        "dqi_c4_word_sim_intra_row", pool(rows, encode=lambda asked: hashed(asked) * np.float32(1 + 1e-7))
    )
    assert statuses == ["undefined", "ok"]
    assert values[1] < 1e4


@settings(deadline=None, max_examples=25)
@given(st.lists(SENTENCE, min_size=1, max_size=6))
def test_the_values_of_the_rows_make_the_fourth_component(responses):
    rows = [("", response) for response in responses]
    values, _ = run("dqi_c4_word_sim_intra_row", pool(rows))
    known = [value for value in values if value is not None]
    combined = c4_terms(subset(rows))["combined"]
    assert combined == (pytest.approx(1 / math.fsum(known)) if known else None)


def test_the_split():
    vectors = [(1, 0), (0.3, math.sqrt(0.91)), (0.5, -math.sqrt(0.75)), (np.nan, np.nan), (np.nan, np.nan)]
    rows = [("q", "r")] * 5
    split = pool(rows, ["tr", "te", "te", "te", "tr"], vectors=vectors)
    values, statuses = run("dqi_c7_sts_split_row", split, test_source="te", siml=0.4)
    assert values == [None, pytest.approx(0.1, abs=1e-5), pytest.approx(0.1, abs=1e-5), None, None]
    assert statuses == ["in_training", "ok", "ok", "no_embedding", "in_training"]
    for nowhere in (None, "", "other"):
        assert set(run("dqi_c7_sts_split_row", split, test_source=nowhere)[1]) == {"no_split"}
    unembedded = pool(rows[:2], ["tr", "te"], vectors=[(np.nan, 0), (1, 0)])
    assert set(run("dqi_c7_sts_split_row", unembedded, test_source="te")[1]) == {"no_split"}


def test_the_rows_make_the_seventh_component():
    rows, source = [("cats", "dogs"), ("red", "mats"), ("hello", "you"), ("big", "dog")], ["te", "tr", "te", "tr"]
    vectors = hashed([f"{q} {r}" for q, r in rows])
    values, _ = run("dqi_c7_sts_split_row", pool(rows, source, vectors=vectors), test_source="te", siml=0.4)
    mean = np.mean([value for value in values if value is not None])
    assert c7_terms(subset(rows, source), "te", siml=(0.4,))["combined"] == pytest.approx(1 / mean)


# --- edges -----------------------------------------------------------------------------------------------------------
PARAMS = {"dqi_c6_ngram_label_row": {"label": "source"}, "dqi_c7_sts_split_row": {"test_source": "a"}}


@pytest.mark.parametrize("id", COMPUTE)
def test_an_empty_pool(id):
    assert run(id, pool(vectors=np.empty((0, 2))), **PARAMS.get(id, {})) == ([], [])


@pytest.mark.parametrize("id", COMPUTE)
def test_a_row_of_nothing(id):
    values, statuses = run(id, pool([(None, " ")], vectors=[(np.nan, 0)]), **PARAMS.get(id, {}))
    assert values == [None] and statuses[0] in ("empty_text", "empty_response", "no_embedding", "no_split")


@pytest.mark.parametrize("id", COMPUTE)
def test_a_lonely_row(id):
    found = run(id, pool([("say hello", "hello")], vectors=[(1, 0)]), **PARAMS.get(id, {}))
    assert len(found[1]) == 1


@pytest.mark.parametrize("id", COMPUTE)
def test_other_scripts(id):
    rows, source = [("猫坐在垫子上", "猫很好"), ("مرحبا بك", "أهلا"), ("Привет", "мир 世界")], ["a", "b", "b"]
    found = run(id, pool(rows, source, vectors=hashed(["1", "2", "3"])), **PARAMS.get(id, {}))
    assert "ok" in found[1]


@pytest.mark.parametrize("id", [i for i in COMPUTE if i[4:6] in ("c1", "c2", "c3", "c5", "c6")])
def test_the_order_of_rows_does_not_matter(id):
    rows = [("the cats", "sat"), ("big red dogs", "ran quickly"), ("hello", "hello hello"), ("", "dogs said hello")]
    source, order = ["a", "b", "b", "a"], [2, 0, 3, 1]
    vectors = hashed([q + r for q, r in rows])
    one, _ = run(id, pool(rows, source, vectors=vectors), **PARAMS.get(id, {}))
    two, _ = run(
        id, pool([rows[i] for i in order], [source[i] for i in order], vectors=vectors[order]), **PARAMS.get(id, {})
    )
    assert [one[i] for i in order] == [v if v is None else pytest.approx(v) for v in two]


@pytest.mark.parametrize("id", COMPUTE)
def test_what_it_needs_is_asked_for(id):
    with pytest.raises(ValueError, match="has n"):
        COMPUTE[id](Pool(pl.Series(["x"])))


def test_parameters_are_checked():
    rows = pool([("a", "b")])
    with pytest.raises(ValueError, match="field"):
        COMPUTE["dqi_c4_word_sim_intra_row"](rows, field="both")
    with pytest.raises(ValueError, match="label"):
        COMPUTE["dqi_c6_ngram_label_row"](rows, label="task")
    with pytest.raises(ValueError, match="clusters"):
        COMPUTE["dqi_c6_ngram_label_row"](rows)
    with pytest.raises(ValueError, match="granularity"):
        COMPUTE["dqi_c2_ngram_inter_row"](rows, granularity="letter")


def test_vocabulary_terms_are_those_of_the_measure():
    rows = [("cats ran", "big red dogs"), ("hello", "a mat"), ("", "dogs")]
    values, _ = run("dqi_c1_vocabulary_row", pool(rows))
    assert values[2] == pytest.approx(c1_terms(subset(rows))["combined"] - c1_terms(subset(rows[:2]))["combined"])
