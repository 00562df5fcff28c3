"""Lexical and geometric diversity of a row: the running example, other packages and brute force, edges."""

from itertools import pairwise
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import geometry, handcrafted
from methods.diversity.geometry import knn_1, pca_row_variance
from methods.diversity.handcrafted import distinct_2, hdd, mattr, mtld, ttr
from methods.kinds import Pool
from methods.text import count_block

T = "a b a c a b d e a f"
LEXICAL = [method for method in (*handcrafted.INDICATORS, *geometry.INDICATORS) if method.scope == "row"]
GEOMETRIC = [method for method in (*handcrafted.INDICATORS, *geometry.INDICATORS) if method.scope == "pool"]
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


# --- lexical ---------------------------------------------------------------------------------------------------------
def test_the_running_example():
    block = counts(T)
    assert only(ttr(block)) == pytest.approx(0.6)
    assert only(handcrafted.root_ttr(block)) == pytest.approx(1.897367, abs=1e-6)
    assert only(distinct_2(block)) == pytest.approx(0.8)
    assert only(distinct_2(block, denominator="ngrams")) == pytest.approx(8 / 9)
    assert only(distinct_2(block, n=1)) == pytest.approx(0.6)
    assert only(mtld(block)) == pytest.approx(8.310811, abs=1e-6)
    assert only(mattr(block, window=5)) == pytest.approx(0.8)
    assert only(hdd(block, k=5)) == pytest.approx(0.750794, abs=1e-6)


def test_mtld_passes_by_hand():
    words = T.split()
    codes = [ord(word) for word in words]
    assert 10 / handcrafted._factors(codes, 0.72) == pytest.approx(6.621622, abs=1e-6)
    assert 10 / handcrafted._factors(codes[::-1], 0.72) == pytest.approx(10)
    # 18 types in 25 words: a ratio of exactly .72 closes the stretch
    exact = [*range(18), *[0] * 7]
    assert handcrafted._factors(exact, 0.72) == 1.0


def test_lexical_packages_agree():
    # lexicalrichness's msttr drops the last window even when it is full and is no oracle; these four are.
    lexicalrichness = pytest.importorskip("lexicalrichness")
    rng = np.random.default_rng(3)
    written = [" ".join(rng.choice(list("abcdefghijklmnopqrst"), n)) for n in (12, 43, 60, 151, 400)]
    block = counts(*written)
    theirs = [
        lexicalrichness.LexicalRichness(text, preprocessor=None, tokenizer=lambda t: t.split()) for text in written
    ]
    assert ttr(block)["value"].to_list() == pytest.approx([one.ttr for one in theirs])
    assert mtld(block)["value"].to_list() == pytest.approx([one.mtld(threshold=0.72) for one in theirs])
    assert hdd(block, k=10)["value"].to_list() == pytest.approx([one.hdd(draws=10) for one in theirs])
    assert mattr(block, window=9)["value"].to_list() == pytest.approx([one.mattr(window_size=9) for one in theirs])


@settings(max_examples=60, deadline=None)
@given(st.lists(word_lists, min_size=1, max_size=4), st.integers(1, 8))
def test_windows_and_draws_against_brute_force(texts, width):
    block = counts(*map(" ".join, texts))
    windows, draws, pairs = mattr(block, window=width), hdd(block, k=width), distinct_2(block, denominator="ngrams")
    for i, words in enumerate(texts):
        n = len(words)
        if n < width:
            assert windows.row(i) == draws.row(i) == (None, "too_short")
            continue
        shares = [len(set(words[j : j + width])) / width for j in range(n - width + 1)]
        assert windows["value"][i] == pytest.approx(np.mean(shares))
        missing = [comb(n - words.count(word), width) / comb(n, width) for word in set(words)]
        assert draws["value"][i] == pytest.approx(sum(1 - p for p in missing) / width)
        if n > 1:
            assert pairs["value"][i] == pytest.approx(len(set(pairwise(words))) / (n - 1))


@settings(max_examples=40, deadline=None)
@given(word_lists.filter(lambda words: len(words) >= 10))
def test_planted_repetition_never_raises_diversity(words):
    varied, repeated = " ".join(words), " ".join(words + [words[0]] * len(words))
    for method in (ttr, handcrafted.root_ttr):
        before, after = method(counts(varied, repeated))["value"]
        assert after < before
    found = mtld(counts(repeated, " ".join(["z"] * 20)))
    assert found["value"][1] == 2.0  # every second word closes a stretch: the least value there is
    assert found["value"][0] >= 2.0


def test_statuses_of_short_texts():
    block = counts("", "one", "?!", "all of these words are quite distinct from each other", T)
    assert mtld(block)["status"].to_list() == ["empty_response", "too_short", "no_words", "no_repetition", "ok"]
    assert distinct_2(block)["status"].to_list() == ["empty_response", "too_short", "no_words", "ok", "ok"]
    assert mattr(block)["status"].to_list() == ["empty_response", "too_short", "no_words", "too_short", "too_short"]
    assert hdd(block)["value"].null_count() == 5
    assert only(mtld(counts(" ".join("abcdefghij" * 2)), min_words=20)) == pytest.approx(
        mtld(counts(" ".join("abcdefghij" * 2)), min_words=2)["value"].item()
    )


def test_chinese_counts_characters():
    block = counts("天天向上" * 3)
    assert only(ttr(block)) == pytest.approx(3 / 12)
    assert only(mtld(block)) > 2


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


def test_parameters_out_of_range_are_refused():
    block = counts(T)
    for method, wrong in (
        (mtld, {"threshold": 1.0}),
        (mattr, {"window": 0}),
        (hdd, {"k": 0}),
        (distinct_2, {"n": 0}),
        (distinct_2, {"denominator": "types"}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            method(block, **wrong)


# --- geometric -------------------------------------------------------------------------------------------------------
def pool(points, neighbours=None):
    """A pool of these vectors with every row's neighbours in order of distance (or as given)."""
    vectors = np.asarray(points, dtype=np.float32)
    ids = [chr(97 + i) for i in range(len(vectors))]
    if neighbours is None:
        gaps = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) if len(vectors) else np.empty((0, 0))
        orders = [[j for j in np.argsort(row, kind="stable") if j != i] for i, row in enumerate(gaps)]
        neighbours = {ids[i]: [ids[j] for j in order] for i, order in enumerate(orders)}
    lists = pl.DataFrame(
        {"row_id": list(neighbours), "ids": list(neighbours.values())},
        schema={"row_id": pl.String, "ids": pl.List(pl.String)},
    ).with_columns(similarity=pl.lit([], dtype=pl.List(pl.Float32)))
    return Pool(pl.Series(ids, dtype=pl.String), vectors, lists)


LINE = [[0.0], [1.0], [3.0], [7.0]]


def test_knn_on_a_line():
    line = pool(LINE)
    assert knn_1(line)["value"].to_list() == [1, 1, 2, 4]
    assert knn_1(line, j=2)["value"].to_list() == [3, 2, 3, 6]
    assert knn_1(line, j=2, stat="mean")["value"].to_list() == [2, 1.5, 2.5, 5]
    assert knn_1(line, j=4).rows() == [(None, "too_few_neighbours")] * 4


def test_knn_statuses_and_duplicates():
    points = [[1, 0], [1, 0], [0, 1], [np.nan, np.nan], [-1, 0]]
    lists = {"a": ["b", "c"], "b": ["a", "c"], "c": ["gone", "c", "a"], "d": [], "e": []}
    found = knn_1(pool(points, lists))
    assert found["status"].to_list() == ["ok", "ok", "ok", "no_embedding", "too_few_neighbours"]
    assert found["value"].to_list()[:3] == [0.0, 0.0, pytest.approx(2**0.5)]  # "gone" and the row itself do not count
    assert knn_1(pool(points, lists), metric="cosine")["value"].to_list()[:3] == [0.0, 0.0, 1.0]
    null = pool(points, {"a": None, "b": ["a"]})
    assert knn_1(null)["status"].to_list()[:3] == ["too_few_neighbours", "ok", "too_few_neighbours"]


def test_knn_refuses():
    line = pool(LINE)
    with pytest.raises(ValueError, match="neighbour lists"):
        knn_1(Pool(line.row_ids, line.vectors))
    for wrong in ({"stat": "median"}, {"metric": "jaccard"}, {"j": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            knn_1(line, **wrong)


def test_knn_with_the_kernel_of_the_project():
    from methods.numerics.neighbours import neighbours_frame

    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = pl.Series([f"{i:03d}" for i in range(40)])
    table, _ = neighbours_frame(ids, vectors, 5)
    gaps = np.sort(np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2), axis=1)
    found = Pool(ids, vectors, table)
    assert knn_1(found)["value"].to_numpy() == pytest.approx(gaps[:, 1], abs=1e-5)
    assert knn_1(found, j=3)["value"].to_numpy() == pytest.approx(gaps[:, 3], abs=1e-5)
    assert knn_1(found, j=5, stat="mean")["value"].to_numpy() == pytest.approx(gaps[:, 1:6].mean(axis=1), abs=1e-5)


SQUARE = [(4, 1), (1, 2), (-2, -2), (-3, -1)]


def test_pca_row_variance_by_hand():
    found = pca_row_variance(pool(SQUARE), k=2)["value"].to_list()
    assert found == pytest.approx([12.005837, 0.091642, 1.561157, 6.341364], abs=1e-5)
    assert pca_row_variance(pool(SQUARE), k=2, stat="energy")["value"].to_list() == pytest.approx([17, 5, 8, 10])


@pytest.mark.parametrize("block", [3, 1000])
def test_pca_against_sklearn(monkeypatch, block):
    decomposition = pytest.importorskip("sklearn.decomposition")
    monkeypatch.setattr(geometry, "ROWS_AT_A_TIME", block)
    rng = np.random.default_rng(11)
    x = (rng.normal(size=(60, 8)) * np.array([9, 7, 5, 4, 3, 2, 1, 0.1]) + 20).astype(np.float32)
    fitted = decomposition.PCA(svd_solver="full").fit(x.astype(float))
    kept = int(np.searchsorted(np.cumsum(fitted.explained_variance_ratio_), 0.95)) + 1
    assert 1 < kept < 8
    theirs = fitted.transform(x.astype(float))[:, :kept]
    assert pca_row_variance(pool(x))["value"].to_numpy() == pytest.approx(theirs.var(axis=1, ddof=1), rel=1e-6)
    energy = pca_row_variance(pool(x), stat="energy", k=3)["value"].to_numpy()
    assert energy == pytest.approx((theirs[:, :3] ** 2).sum(axis=1), rel=1e-6)


def test_pca_edges():
    nan = [np.nan, np.nan]
    found = pca_row_variance(pool([*SQUARE, nan]), k=2)
    assert found.head(4).rows() == pca_row_variance(pool(SQUARE), k=2).rows()
    assert found.row(4) == (None, "no_embedding")
    assert pca_row_variance(pool([(1, 0), nan])).rows() == [(None, "too_few_rows"), (None, "no_embedding")]
    assert pca_row_variance(pool([(1, 0), (1, 0)])).rows() == [(None, "no_variance")] * 2
    assert pca_row_variance(pool(LINE), k=1)["value"].to_list() == pytest.approx([7.5625, 3.0625, 0.0625, 18.0625])
    for wrong in ({"k": 3}, {"k": 0}, {"stat": "range"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            pca_row_variance(pool(SQUARE), **wrong)


@pytest.mark.parametrize("method", GEOMETRIC, ids=lambda method: method.id)
def test_geometric_order_and_empty_pool(method):
    rng = np.random.default_rng(2)
    points = rng.normal(size=(12, 3))
    forward = method.compute(pool(points), **method.params)["value"].to_numpy()
    order = rng.permutation(12)
    assert method.compute(pool(points[order]), **method.params)["value"].to_numpy() == pytest.approx(forward[order])
    empty = method.compute(pool(np.empty((0, 3)), {}), **method.params)
    assert empty.schema == {"value": pl.Float64, "status": pl.String}
    assert empty.height == 0
