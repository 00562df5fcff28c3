"""The normalisation of tags step by step by hand, against brute force and scikit-learn's DBSCAN; how many a row has."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity.measures import tag_count
from methods.diversity.tag_sampling import instag_sampling
from methods.kinds import Candidates, Pool, Subset
from methods.quality import tag_normalisation as science
from methods.quality.tag_normalisation import (
    DEFAULTS,
    INDICATORS,
    TABLE,
    VOCABULARY_SCHEMA,
    applied,
    connected,
    key_of,
    normalise,
    surface_of,
    unknown,
)

OFF = {"min_count": 1, "distance": "off", "min_confidence": "off"}


def tags(*rows):
    return pl.Series("tags", rows, dtype=pl.List(pl.String))


def apart(names):
    """Every name a direction of its own."""
    return np.eye(max(len(names), 1), dtype=np.float32)[: len(names)]


def by_angle(angles):
    """Names on a circle; those that are not listed get no vector."""

    def encode(names):
        known = np.array([angles.get(name, np.nan) for name in names])
        return np.stack([np.cos(known), np.sin(known)], axis=1).astype(np.float32)

    return encode


def told(found, raw):
    return found.vocabulary.row(by_predicate=pl.col("raw") == raw, named=True)


# ---- the specification's example ------------------------------------------------------------------------------------


def test_the_specification_s_example():
    rows = tags(["a", "b"], ["b", "c"])
    final = applied(rows, normalise(rows, apart, **OFF).vocabulary)
    ids = pl.Series(["x", "y"])
    table = pl.DataFrame({"row_id": ids, "status": ["ok", "ok"], "tags": final}).lazy()
    (indicator,) = INDICATORS
    found = indicator.compute(Pool(ids, tables={TABLE: table}), **indicator.params)
    assert found["value"].to_list() == [2, 2] and indicator.needs == (TABLE,)
    assert tag_count(Subset(ids, tags=final)) == 3
    assert instag_sampling(Candidates(ids, tags=final), 2).order.tolist() == [0, 1]


def test_a_row_without_tags_has_nought_and_one_without_an_answer_none():
    table = pl.DataFrame({"status": ["ok", "parse_error", None, "ok"], "tags": tags([], None, None, ["a"])}).lazy()
    found = INDICATORS[0].compute(Pool(pl.Series(["a", "b", "c", "d"]), tables={TABLE: table}))
    assert found["value"].to_list() == [0, None, None, 1]
    assert found["status"].to_list() == ["ok", "parse_error", "not_tagged", "ok"]


# ---- each step by hand ----------------------------------------------------------------------------------------------


def test_rare_tags_go_and_rows_are_counted_once():
    rows = tags(["a", "a", "b"], ["a", "c"], ["b"], None, [], [None, " "])
    found = normalise(rows, apart, **{**OFF, "min_count": 2})
    assert found.counts == {"raw": 3, "frequency": 2, "rules": 2, "semantic": 2, "association": 2}
    assert found.vocabulary.rows() == [
        ("a", 2, "a", "kept", ["a"], []),
        ("b", 2, "b", "kept", ["b"], []),
        ("c", 1, None, "frequency", ["c"], ["frequency: 1 row, fewer than 2"]),
    ]
    assert applied(rows, found.vocabulary).to_list() == [["a", "b"], ["a"], ["b"], None, [], []]


def test_counted_by_the_rules_ways_of_writing_save_each_other():
    rows = tags(["Coding"], ["coding"], ["codings!"], ["art"])
    assert normalise(rows, apart, **{**OFF, "min_count": 3}).vocabulary["tag"].null_count() == 4
    found = normalise(rows, apart, **{**OFF, "min_count": 3, "count_by": "rules"})
    assert applied(rows, found.vocabulary).to_list() == [["coding"], ["coding"], ["coding"], []]


def test_the_form_that_most_rows_have_gives_the_name():
    rows = tags(
        ["Data-Analyzing"],
        ["data analyzed"],
        ["DATA  analyzed"],
        ["data analyze!"],
        ["Data-Analyzing", "data analyzed"],
    )
    found = normalise(rows, apart, **OFF)
    assert set(found.vocabulary["tag"]) == {"data analyzed"}
    assert told(found, "DATA  analyzed")["why"] == ["rules: written in its common form"]
    assert told(found, "Data-Analyzing")["why"] == ["rules: the same stems, 'data analyz'"]
    assert told(found, "Data-Analyzing")["path"] == ["Data-Analyzing", "data analyzed"]
    assert applied(rows, found.vocabulary).to_list() == [["data analyzed"]] * 5
    tie = normalise(tags(["walking"], ["walks"]), apart, **OFF)
    assert set(tie.vocabulary["tag"]) == {"walking"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ｐｙｔｈｏｎ", "python", True),
        ("e-mail", "e mail", True),
        ("snake_case", "Snake Case", True),
        ("C++", "C", False),
        ("c#", "C#", True),
        ("# heading", "heading", True),
        ("STRASSE", "straße", True),
        ("数学", "数学。", True),
        ("数学", "物理", False),
        ("हिन्दी", "हन्द", False),
        ("کتاب", "كتاب", False),
        ("équation", "e\u0301quation", True),
    ],
)
def test_what_makes_a_difference(one, other, same):
    assert (key_of(one) == key_of(other)) is same


def test_without_letters_a_tag_is_none_and_other_languages_have_other_stems():
    found = normalise(tags(["???", "a"], ["—"]), apart, **OFF)
    assert told(found, "???")["tag"] is None and told(found, "???")["why"] == ["rules: no letter and no digit"]
    assert found.counts["rules"] == 1
    assert key_of("Häuser", "german") == key_of("Haus", "german") and key_of("walks", "off") != key_of("walk", "off")
    with pytest.raises(ValueError, match="no stems for 'klingon'"):
        key_of("a", "klingon")


def test_names_of_nearly_one_meaning_take_that_of_most_rows():
    near = np.arccos(0.96)
    encode = by_angle({"maths": 0.0, "arithmetic": near, "algebra": 2 * near, "poetry": 2.0})
    rows = tags(
        ["maths"], ["arithmetic", "maths"], ["arithmetic"], ["arithmetic"], ["algebra"], ["poetry"], ["unknown"]
    )
    found = normalise(rows, encode, **{**OFF, "distance": 0.05})
    # Algebra and maths are farther apart than that, and are joined by arithmetic.
    assert dict(found.vocabulary.select("raw", "tag").iter_rows()) == {
        "maths": "arithmetic", "arithmetic": "arithmetic", "algebra": "arithmetic", "poetry": "poetry", "unknown": "unknown",
    }  # fmt: skip
    assert told(found, "algebra")["why"] == ["semantic: cosine 0.960 to 'arithmetic'"]
    assert told(found, "algebra")["step"] == "semantic" and found.counts["semantic"] == 3
    assert applied(rows, found.vocabulary)[1].to_list() == ["arithmetic"]
    assert normalise(rows, encode, **{**OFF, "distance": 0.03}).counts["semantic"] == 5


def test_a_tag_that_never_stands_alone_becomes_its_companion():
    rows = tags(*[["maths", "equation"]] * 3, ["maths"], *[["maths", "equation", "root"]] * 2, *[["ode", "poetry"]] * 4)
    found = normalise(rows, apart, **{**OFF, "min_support": 2, "min_confidence": 0.99})
    assert dict(found.vocabulary.select("raw", "tag").iter_rows()) == {
        "maths": "maths", "equation": "maths", "root": "maths", "ode": "ode", "poetry": "ode",
    }  # fmt: skip
    assert told(found, "equation")["why"] == ["association: stands beside 'maths' in 5 of its 5 rows"]
    assert told(found, "root")["why"] == ["association: stands beside 'maths' in 2 of its 2 rows"]
    assert found.counts == {"raw": 5, "frequency": 5, "rules": 5, "semantic": 5, "association": 2}
    few = normalise(rows, apart, **{**OFF, "min_support": 5, "min_confidence": 0.99})
    assert dict(few.vocabulary.select("raw", "tag").iter_rows())["ode"] == "ode" and few.counts["association"] == 4


def test_chains_are_followed_and_rules_that_a_merge_makes_too():
    rows = tags(*[["a", "b"]] * 8, *[["b", "c"]] * 2, *[["c", "b", "d"]] * 3)
    found = normalise(rows, apart, **{**OFF, "min_support": 3, "min_confidence": 0.99})
    # d always stands beside b and c; c beside b.
    assert set(found.vocabulary["tag"]) == {"b"}
    rows = tags(*[["x", "m"]] * 3, *[["y", "m"]] * 3, ["y"], *[["z", "y"]] * 2, *[["z", "m"]] * 2)
    strict = normalise(rows, apart, **{**OFF, "min_support": 2, "min_confidence": 0.99})
    assert told(strict, "x")["tag"] == "m" and told(strict, "z")["tag"] == "z"


def test_all_four_steps_on_one_pool_by_hand():
    rows = tags(
        *[["Coding", "Python"]] * 3, *[["coding", "python"]] * 3, *[["programming", "loops"]] * 3, *[["coding"]] * 2, ["poem"],
    )  # fmt: skip
    encode = by_angle({"coding": 0.0, "programming": 0.1, "python": 1.5, "loops": 3.0})
    found = normalise(rows, encode, min_count=2, min_support=3)
    assert found.counts == {"raw": 7, "frequency": 6, "rules": 4, "semantic": 3, "association": 1}
    assert told(found, "Python")["path"] == ["Python", "python", "coding"]
    assert told(found, "Python")["why"] == [
        "rules: written in its common form",
        "association: stands beside 'coding' in 6 of its 6 rows",
    ]
    assert told(found, "programming")["step"] == "semantic" and told(found, "loops")["tag"] == "coding"
    assert applied(rows, found.vocabulary).to_list() == [["coding"]] * 11 + [[]]


# ---- oracles --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0.01, 0.6))
def test_components_are_what_dbscan_finds(seed, n, distance):
    from sklearn.cluster import DBSCAN

    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for min_samples in (1, 2):
        theirs = DBSCAN(eps=distance, min_samples=min_samples, metric="cosine").fit_predict(vectors)
        theirs = np.where(theirs < 0, n + np.arange(n), theirs)
        ours = connected(vectors, distance)
        assert ((theirs[:, None] == theirs) == (ours[:, None] == ours)).all()


def test_blocks_of_rows_change_no_component(monkeypatch):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((300, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = connected(vectors, 0.02)
    monkeypatch.setattr(science, "_CELLS", 900)
    parts = connected(vectors, 0.02)
    assert ((whole[:, None] == whole) == (parts[:, None] == parts)).all() and 10 < len(set(whole)) < 290
    alike = connected(np.ones((300, 1)), 0.02)
    assert len(set(alike)) == 1


def associated(rows, least, confidence):
    """The same by sets of rows, tag by tag."""
    names = {tag: tag for row in rows for tag in row}
    while True:
        has = {}
        for at, row in enumerate(rows):
            for tag in row:
                has.setdefault(names[tag], set()).add(at)
        rank = sorted(has, key=lambda tag: (-len(has[tag]), tag))
        into = {}
        for b, a in combinations(rank, 2):
            both = len(has[a] & has[b])
            if both >= least and both >= confidence * len(has[a]) - 1e-9 and both > into.get(a, ("", 0))[1]:
                into[a] = (b, both)
        if not into:
            return names
        for tag, name in names.items():
            while name in into:
                name = into[name][0]
            names[tag] = name


rows_of_tags = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=5, unique=True), max_size=25)


@settings(max_examples=80, deadline=None)
@given(rows_of_tags, st.integers(1, 4), st.sampled_from([0.5, 2 / 3, 0.75, 1.0]), st.sampled_from([2**24, 3]))
def test_association_against_sets(rows, least, confidence, cells):
    before, science._CELLS = science._CELLS, cells
    try:
        found = normalise(tags(*rows), apart, **{**OFF, "min_support": least, "min_confidence": confidence})
    finally:
        science._CELLS = before
    assert dict(found.vocabulary.select("raw", "tag").iter_rows()) == associated(rows, least, confidence)


# ---- properties and edges -------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["Maths", "maths", "math", "C++", "c", "E-Mail", "e mail", "数学", "walks", "Walking", "!", "ode", "Straße"]
)
rows_of_words = st.lists(st.none() | st.lists(WORDS, max_size=4), max_size=20)


def some_meaning(names):
    rng = [np.random.default_rng(len(name)).standard_normal(4) for name in names]
    return np.array(rng).reshape(len(names), 4).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(rows_of_words, st.integers(1, 3), st.randoms(use_true_random=False))
def test_every_tag_is_accounted_for_and_the_order_of_rows_means_nothing(rows, least, random):
    given_ = {"min_count": least, "min_support": 2, "min_confidence": 0.9}
    series = tags(*rows)
    found = normalise(series, some_meaning, **given_)
    raw = {tag for row in rows for tag in row or ()}
    assert found.vocabulary.schema == VOCABULARY_SCHEMA and set(found.vocabulary["raw"]) == raw
    sizes = list(found.counts.values())
    assert list(found.counts) == ["raw", *science.STEPS] and sizes == sorted(sizes, reverse=True)
    assert found.counts["association"] == found.vocabulary["tag"].drop_nulls().n_unique()
    for line in found.vocabulary.iter_rows(named=True):
        assert line["path"][0] == line["raw"] and line["rows"] == sum(line["raw"] in (row or ()) for row in rows)
        assert line["tag"] in (None, line["path"][-1])
        assert len(line["why"]) == len(line["path"]) - (line["tag"] is not None)
        assert (line["step"] == "kept") == (line["why"] == [])
    names = dict(found.vocabulary.select("raw", "tag").iter_rows())
    final = applied(series, found.vocabulary).to_list()
    for row, mine in zip(rows, final, strict=True):
        wanted = None if row is None else list(dict.fromkeys(names[tag] for tag in row if names[tag]))
        assert mine == wanted
    mixed = list(rows)
    random.shuffle(mixed)
    assert normalise(tags(*mixed), some_meaning, **given_).vocabulary.equals(found.vocabulary)


@settings(max_examples=60, deadline=None)
@given(rows_of_words)
def test_a_vocabulary_normalised_again_is_itself(rows):
    first = applied(tags(*rows), normalise(tags(*rows), apart, **OFF).vocabulary)
    again = normalise(first, apart, **OFF)
    assert set(again.vocabulary["step"]) <= {"kept"}


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12))
def test_a_shown_form_keeps_what_makes_a_difference(text):
    assert key_of(surface_of(text), "off") == key_of(text, "off")


def test_edges():
    for series in (tags(), tags(None), tags([]), tags(["  "])):
        found = normalise(series, apart)
        assert found.vocabulary.is_empty() and set(found.counts.values()) == {0}
        assert applied(series, found.vocabulary).to_list() == [None if row is None else [] for row in series.to_list()]
    alike = tags(*[["a", "b"]] * 50)
    found = normalise(alike, apart)
    assert applied(alike, found.vocabulary).to_list() == [["a"]] * 50
    assert normalise(alike, apart, **{**DEFAULTS, "min_support": 51}).counts["association"] == 2
    assert normalise(tags(["a"]), apart).counts == {
        "raw": 1,
        "frequency": 0,
        "rules": 0,
        "semantic": 0,
        "association": 0,
    }


def test_tags_that_came_later_are_left_out_and_counted():
    vocabulary = normalise(tags(["a"]), apart, **OFF).vocabulary
    later = tags(["b", "a"], ["b"], None)
    assert applied(later, vocabulary).to_list() == [["a"], [], None] and unknown(later, vocabulary) == 1


def test_parameters_that_mean_nothing_are_refused():
    for wrong in (
        {"count_by": "letters"},
        {"distance": 0.0},
        {"distance": "never"},
        {"distance": 3},
        {"min_confidence": 0},
        {"min_confidence": 1.1},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            normalise(tags(["a"]), apart, **wrong)
