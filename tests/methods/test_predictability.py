"""Predictability: by hand with a stand-in classifier, AFLite's rounds against a slow loop, planted noise, edges."""

import inspect

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.kinds import Pool
from methods.quality.predictability import (
    INDICATORS,
    aflite,
    class_labels,
    filter_rounds,
    held_out_share,
    logistic,
    proxy_predictability,
    random_splits,
    svm,
)

BOTH = [aflite, proxy_predictability]


def pool(vectors, clusters=None, sources=None, responses=None):
    n = len(vectors)
    texts = pl.DataFrame(
        {"source": sources or ["a"] * n, "prompt": ["p"] * n, "response": responses or ["r"] * n},
        schema=dict.fromkeys(("source", "prompt", "response"), pl.String),
    )
    return Pool(
        pl.Series([f"r{i}" for i in range(n)], dtype=pl.String),
        vectors=np.asarray(vectors, dtype=np.float32),
        clusters=None if clusters is None else np.asarray(clusters),
        texts=texts,
    )


def two_topics(n=60, seed=0, spread=0.3):
    """Two bundles of unit vectors, and which is which."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    vectors = np.eye(8)[labels] + spread * rng.normal(size=(n, 8))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


@pytest.mark.parametrize("indicator", INDICATORS, ids=lambda i: i.id)
def test_a_record_fits_its_function(indicator):
    named = list(inspect.signature(indicator.compute).parameters.values())[1:]
    assert {p.name: p.default for p in named} == dict(indicator.params)
    assert indicator.scope == "pool" and indicator.direction == "lower"


# --- counting guesses ------------------------------------------------------------------------------------------------
class Script:
    """A stand-in classifier that guesses what it is told: 1 is the right class of every row here, 0 a wrong one."""

    def __init__(self, guesses):
        self.guesses, self.fits = guesses, 0

    def __call__(self, vectors, labels):
        said = self.guesses[self.fits]
        self.fits += 1
        return lambda asked: np.array([said[int(v[0])] for v in asked])


ROWS = np.arange(5.0)[:, None]
TRAINS = [np.array([3, 4]), np.array([0, 3, 4]), np.array([1, 3, 4])]


def test_by_hand():
    # held out (right, -, right), (wrong, right, -), (right, right, right); rows 3 and 4 are always trained on
    script = Script([{0: 1, 1: 0, 2: 1}, {1: 1, 2: 1}, {0: 1, 2: 1}])
    labels = np.array([1, 1, 1, 1, 0])
    assert held_out_share(ROWS, labels, TRAINS, [script]) == pytest.approx([1, 0.5, 1, np.nan, np.nan], nan_ok=True)
    # predictions (1, 1, 0), truth 1
    script = Script([{0: 1, 1: 1, 2: 1}, {0: 1, 1: 1, 2: 1}, {0: 0, 1: 1, 2: 1}])
    trains = [np.array([3, 4])] * 3
    assert held_out_share(ROWS, labels, trains, [script])[0] == pytest.approx(2 / 3)


def test_two_classifiers_are_two_guesses():
    right, wrong = Script([{0: 1, 1: 1, 2: 1}]), Script([{0: 0, 1: 1, 2: 0}])
    found = held_out_share(ROWS, np.array([1, 1, 1, 1, 0]), TRAINS[:1], [right, wrong])
    assert found[:3].tolist() == [0.5, 1, 0.5]


def test_one_class_to_train_on_is_the_guess_and_nothing_is_fitted():
    found = held_out_share(ROWS, np.array([1, 0, 1, 1, 1]), TRAINS[:1], [Script([])])
    assert found[:3].tolist() == [1, 0, 1]


def test_held_out_rows_are_asked_for_in_blocks(monkeypatch):
    sizes = []

    def sizing(vectors, labels):
        return lambda asked: sizes.append(len(asked)) or np.zeros(len(asked))

    monkeypatch.setattr("methods.quality.predictability.BLOCK", 4)
    assert held_out_share(np.zeros((12, 1)), np.arange(12) % 2, [np.array([0, 1])], [sizing])[2:].sum() == 5
    assert sizes == [4, 4, 2]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(1, 10), st.integers(0, 5), st.data())
def test_splits(n, splits, seed, data):
    size = data.draw(st.integers(1, n))
    found = list(random_splits(n, size, splits, seed))
    assert len(found) == splits
    for train in found:
        assert len(np.unique(train)) == size and train.min() >= 0 and train.max() < n
    again = list(random_splits(n, size, splits, seed))
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.integers(1, 6))
def test_counting_against_a_slow_count(seed, splits):
    rng = np.random.default_rng(seed)
    vectors, labels = rng.normal(size=(14, 3)), rng.integers(0, 3, 14)

    def nearest(x, y):
        return lambda asked: np.array([y[np.argmin(((x - v) ** 2).sum(axis=1))] for v in asked])

    trains = list(random_splits(14, 5, splits, seed))
    found = held_out_share(vectors, labels, trains, [nearest])
    for i in range(14):
        marks = [
            labels[min(train, key=lambda j: ((vectors[j] - vectors[i]) ** 2).sum())] == labels[i]
            for train in trains
            if i not in train
        ]
        assert found[i] == pytest.approx(np.mean(marks)) if marks else np.isnan(found[i])


@pytest.mark.parametrize("classify", [logistic, svm])
def test_a_classifier_learns(classify):
    vectors, labels = two_topics(spread=0.1)
    assert (classify(vectors[:20], labels[:20])(vectors[20:]) == labels[20:]).all()


# --- AFLite's rounds -------------------------------------------------------------------------------------------------
def fixed(values):
    return lambda left, number: np.asarray(values, dtype=float)[left]


def test_rounds_by_hand():
    values = [0.9, 0.5, 1.0, 0.75, 0.8, 0.74]
    found = filter_rounds(fixed(values), 6, tau=0.75, k=2, target=0, rounds=9)
    # round 1: 1.0 and 0.9; round 2: 0.8 and 0.75, at the threshold; round 3 finds none
    assert found.round.tolist() == [1, 0, 1, 2, 2, 0]
    assert found.value.tolist() == values
    # fewer than k: those stay removed, and it ends
    assert filter_rounds(fixed(values), 6, 0.75, 3, 0, 9).round.tolist() == [1, 0, 1, 2, 1, 0]
    assert filter_rounds(fixed(values), 6, 0.75, 5, 0, 9).round.tolist() == [1, 0, 1, 1, 1, 0]
    # the target is not passed, and the rounds are counted
    assert filter_rounds(fixed(values), 6, 0.75, 2, 3, 9).round.tolist() == [1, 0, 1, 0, 2, 0]
    assert filter_rounds(fixed(values), 6, 0.75, 2, 0, 1).round.tolist() == [1, 0, 1, 0, 0, 0]
    # the other view takes out what is under the threshold, lowest first
    assert filter_rounds(fixed(values), 6, 0.75, 1, 0, 9, keep="high").round.tolist() == [0, 1, 0, 0, 0, 2]


def test_the_value_is_that_of_the_last_round_and_ties_go_by_row():
    def drifting(left, number):
        return np.where(left == 3, np.nan if number > 1 else 0.2, 0.9 - 0.1 * (number - 1))

    found = filter_rounds(drifting, 5, tau=0.75, k=1, target=0, rounds=9)
    assert found.round.tolist() == [1, 2, 0, 0, 0]
    # row 3 was not held out again: it keeps what was known
    assert found.value == pytest.approx([0.9, 0.8, 0.7, 0.2, 0.7])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0, 0.25, 0.5, 0.75, 1]), max_size=20),
    st.integers(1, 5),
    st.integers(0, 20),
    st.integers(1, 6),
    st.sampled_from(["low", "high"]),
)
def test_rounds_against_a_slow_loop(values, k, target, rounds, keep):
    left, gone = list(range(len(values))), {}
    for number in range(1, rounds + 1):
        if len(left) <= target:
            break
        beyond = [i for i in left if (values[i] >= 0.75) == (keep == "low")]
        beyond.sort(key=lambda i: (-values[i] if keep == "low" else values[i], i))
        taken = beyond[: min(k, len(left) - target)]
        gone.update(dict.fromkeys(taken, number))
        left = [i for i in left if i not in taken]
        if len(taken) < k:
            break
    found = filter_rounds(fixed(values), len(values), 0.75, k, target, rounds, keep)
    assert found.round.tolist() == [gone.get(i, 0) for i in range(len(values))]


# --- the indicators --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compute", BOTH)
@pytest.mark.parametrize("classifier", ["logistic", "svm", "both"])
def test_planted_label_noise_is_hard_to_predict(compute, classifier):
    vectors, labels = two_topics(n=200, spread=0.2)
    planted = np.array([4, 9, 30, 101, 150])
    wrong = labels.copy()
    wrong[planted] = 1 - wrong[planted]
    found = compute(pool(vectors, wrong), classifier=classifier, splits=16)
    assert found["status"].unique().to_list() == ["ok"]
    value = found["value"].to_numpy()
    assert value[planted].max() < 0.25 and np.delete(value, planted).mean() > 0.95
    assert set(planted) <= set(np.argsort(value, kind="stable")[:10])


@pytest.mark.parametrize("keep", ["low", "high"])
def test_aflite_without_rounds_to_spare_asks_as_the_proxy_does(keep):
    vectors, labels = two_topics(spread=0.6)
    once = aflite(pool(vectors, labels), keep=keep, splits=6, rounds=1)
    rows, splits = len(labels), random_splits(len(labels), 30, 6, [0, 1])
    expected = held_out_share(vectors.astype(np.float32), labels, splits, [logistic])
    assert rows == 60 and once["value"].to_numpy() == pytest.approx(expected)
    # a target of the whole pool still gives every row a value
    assert aflite(pool(vectors, labels), keep=keep, splits=6, target=60).equals(once)


def test_later_rounds_change_what_is_left_only():
    vectors, labels = two_topics(n=80, spread=0.6)
    once = aflite(pool(vectors, labels), splits=6, rounds=1)
    more = aflite(pool(vectors, labels), splits=6, k=10, target=30)
    easiest = np.argsort(-once["value"].to_numpy(), kind="stable")[:10]
    assert (more["value"].gather(easiest) == once["value"].gather(easiest)).all()
    assert not more.equals(once)


@pytest.mark.parametrize("compute", BOTH)
def test_a_seed_is_a_draw(compute):
    vectors, labels = two_topics(spread=0.8)
    first = compute(pool(vectors, labels), splits=4, seed=1)
    assert first.equals(compute(pool(vectors, labels), splits=4, seed=1))
    assert not first.equals(compute(pool(vectors, labels), splits=4, seed=2))
    assert first["value"].drop_nulls().is_between(0, 1).all()


@pytest.mark.parametrize("compute", BOTH)
def test_statuses(compute):
    vectors, labels = two_topics()
    vectors[0], labels[1] = np.nan, -1
    found = compute(pool(vectors, labels), splits=8)
    assert found["status"][:3].to_list() == ["no_embedding", "no_class", "ok"]
    assert found["value"].is_null().to_list() == [True, True, *[False] * 58]
    # a row that is unfit changes nothing for the others
    alone = compute(pool(vectors[2:], labels[2:]), splits=8)
    assert found[2:].equals(alone)
    same = compute(pool(vectors, np.zeros(60, dtype=int)), splits=8)
    assert same["status"].to_list() == ["no_embedding", *["one_class"] * 59]
    few = compute(pool(vectors[:8], labels[:8]), splits=8)
    assert few["status"].to_list() == ["no_embedding", "no_class", *["too_few_rows"] * 6]
    assert few["value"].null_count() == 8
    once = compute(pool(vectors[2:], labels[2:]), splits=1)
    assert once["status"].value_counts().sort("status").rows() == [("never_held_out", 29), ("ok", 29)]


@pytest.mark.parametrize("compute", BOTH)
def test_edges(compute):
    for n in (0, 1):
        found = compute(pool(np.ones((n, 8)), np.zeros(n, dtype=int)))
        assert found.height == n and found.schema == {"value": pl.Float64, "status": pl.String}
        assert found["status"].to_list() == ["too_few_rows"] * n
    equal = compute(pool(np.ones((20, 8)) / 8**0.5, np.arange(20) % 2), splits=16)
    assert equal["status"].unique().to_list() == ["ok"]  # nothing to tell them apart: a guess is a guess
    lonely = np.zeros(20, dtype=int)
    lonely[7] = 1
    assert compute(pool(two_topics(20)[0], lonely), splits=8)["value"][7] == 0  # nobody can know a class of one row


@pytest.mark.parametrize(
    "wrong",
    [{"label": "tag"}, {"classifier": "tree"}, {"splits": 0}, {"train_size": 0}, {"splits": 1.5}],
    ids=str,
)
@pytest.mark.parametrize("compute", BOTH)
def test_a_wrong_parameter_is_named(compute, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        compute(pool(*two_topics()), **wrong)


@pytest.mark.parametrize("wrong", [{"keep": "mid"}, {"tau": 2}, {"k": 0}, {"target": -1}, {"rounds": 0}], ids=str)
def test_a_wrong_parameter_of_aflite_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        aflite(pool(*two_topics()), **wrong)


# --- classes ---------------------------------------------------------------------------------------------------------
def test_classes():
    some = pool(
        np.zeros((8, 2)),
        [3, -1, 0, 0, 1, 1, 1, -5],
        sources=["b", "a", "b", None, "c", "a", "a", "a"],
        responses=["", "一二", "xx", "xxx", None, "xxxx", "xxxxx", "xxxxxx"],
    )
    assert class_labels(some).tolist() == [3, -1, 0, 0, 1, 1, 1, -1]
    assert class_labels(some, "source").tolist() == [1, 0, 1, -1, 2, 0, 0, 0]
    # six lengths: 2 2 3 4 5 6 at shares 2/6 2/6 3/6 4/6 5/6 1
    assert class_labels(some, "length").tolist() == [-1, 1, 1, 1, -1, 2, 3, 3]


def test_a_label_from_texts_needs_texts():
    bare = Pool(pl.Series(["a"]), vectors=np.ones((1, 2), dtype=np.float32))
    for label, missing in (("cluster", "clusters"), ("source", "texts"), ("length", "texts")):
        with pytest.raises(ValueError, match=f"reads {missing}"):
            class_labels(bare, label)
    with pytest.raises(ValueError, match="reads vectors"):
        aflite(Pool(pl.Series(["a"])))


def test_a_source_that_gives_itself_away():
    vectors, labels = two_topics(spread=0.1)
    sources = ["news" if label else "forum" for label in labels]
    found = proxy_predictability(pool(vectors, sources=sources), label="source", splits=4)
    assert found["value"].drop_nulls().min() == 1
