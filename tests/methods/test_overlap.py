"""Distance by shared shingles: worked values, Python's sets over all pairs, blocks, statuses, scripts."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.diversity import overlap
from methods.diversity.overlap import knn_jaccard
from methods.kinds import Pool
from methods.text import count_block


def pool(*responses, prompts=None):
    ids = [f"r{i}" for i in range(len(responses))]
    rows = {
        "row_id": ids,
        "instruction": prompts or [""] * len(ids),
        "input": [""] * len(ids),
        "response": list(responses),
    }
    block = pl.DataFrame(rows, schema={name: pl.String for name in rows})
    return Pool(block["row_id"], counts=count_block(block).lazy())


def by_brute_force(words, n, j, stat):
    sets = [{tuple(row[i : i + n]) for i in range(len(row) - n + 1)} for row in words]
    scored = [i for i, one in enumerate(sets) if one]
    found = []
    for i, one in enumerate(sets):
        if not one or len(scored) <= j:
            found.append(None)
            continue
        gaps = sorted(1 - len(one & sets[k]) / len(one | sets[k]) for k in scored if k != i)[:j]
        found.append(gaps[-1] if stat == "jth" else float(np.mean(gaps)))
    return found


def test_by_hand():
    found = knn_jaccard(pool("a b c d", "a b c e", "x y z"))
    assert found["status"].to_list() == ["ok"] * 3
    assert found["value"].to_list() == pytest.approx([2 / 3, 2 / 3, 1])
    assert knn_jaccard(pool("a b c d", "a b c e", "x y z"), n=1)["value"].to_list() == pytest.approx([0.4, 0.4, 1])


def test_copies_are_at_distance_zero():
    found = knn_jaccard(pool("one two three four", "x y z w", "one two, three FOUR!", "one two three four"))
    assert found["value"].to_list() == [0.0, 1.0, 0.0, 0.0]
    second = knn_jaccard(pool("one two three four", "x y z w", "one two three four"), j=2)
    assert second["value"].to_list() == [1.0, 1.0, 1.0]
    mean = knn_jaccard(pool("one two three four", "x y z w", "one two three four"), j=2, stat="mean")
    assert mean["value"].to_list() == [0.5, 1.0, 0.5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=1, max_size=9),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["jth", "mean"]),
)
def test_against_brute_force(words, n, j, stat):
    found = knn_jaccard(pool(*map(" ".join, words)), field="response", n=n, j=j, stat=stat)
    wanted = by_brute_force(words, n, j, stat)
    assert [value is None for value in found["value"]] == [value is None for value in wanted]
    pairs = [(a, b) for a, b in zip(found["value"], wanted, strict=True) if b is not None]
    assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], abs=1e-12)


def random_texts(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list("abcdef"), rng.integers(1, 15))) for _ in range(n)]


@pytest.mark.parametrize(("meetings", "rows"), [(1, 8192), (500, 8192), (10**9, 3), (10**9, 8192)])
def test_blocks_change_nothing(monkeypatch, meetings, rows):
    texts = random_texts(50)
    wanted = by_brute_force([text.split() for text in texts], 2, 2, "jth")
    monkeypatch.setattr(overlap, "MEETINGS", meetings)
    monkeypatch.setattr(overlap, "ROWS_AT_A_TIME", rows)
    found = knn_jaccard(pool(*texts), n=2, j=2)
    scored = [i for i, value in enumerate(wanted) if value is not None]
    assert found["value"].gather(scored).to_list() == pytest.approx([wanted[i] for i in scored], abs=1e-12)


def test_order_of_rows():
    texts = [*random_texts(30, seed=4), ""]
    order = np.random.default_rng(1).permutation(31)
    forward, moved = knn_jaccard(pool(*texts)), knn_jaccard(pool(*(texts[i] for i in order)))
    assert moved.rows() == forward[order].rows()


def test_a_planted_relative_never_moves_a_row_away():
    texts = random_texts(20, seed=7)
    before = knn_jaccard(pool(*texts), n=2)["value"].to_list()
    after = knn_jaccard(pool(*texts, texts[0] + " a b"), n=2)["value"].to_list()[:20]
    assert all(b is None or a <= b for a, b in zip(after, before, strict=True))


def test_statuses():
    found = knn_jaccard(pool("", "?!", "one two", "a b c d", "a b c d"))
    assert found["status"].to_list() == ["empty_text", "no_words", "too_short", "ok", "ok"]
    assert found["value"].to_list() == [None, None, None, 0.0, 0.0]
    assert knn_jaccard(pool("", "a b c"), field="response")["status"][0] == "empty_response"
    assert knn_jaccard(pool("a b c")).rows() == [(None, "too_few_neighbours")]
    assert knn_jaccard(pool("a b c", "a b c", "b"), j=2)["status"].to_list() == ["too_few_neighbours"] * 2 + [
        "too_short"
    ]
    empty = knn_jaccard(pool())
    assert empty.height == 0
    assert empty.schema == {"value": pl.Float64, "status": pl.String}


def test_fields():
    both = pool("x y z", "x y z", prompts=["a b c", "d e f"])
    assert knn_jaccard(both, field="response")["value"].to_list() == [0.0, 0.0]
    assert knn_jaccard(both, field="prompt")["value"].to_list() == [1.0, 1.0]
    # abc bcx cxy xyz | def efx fxy xyz: one of seven in common
    assert knn_jaccard(both)["value"].to_list() == pytest.approx([6 / 7, 6 / 7])


def test_scripts_without_spaces():
    found = knn_jaccard(pool("今天天气好", "今天天气坏", "我爱北京"))
    assert found["value"].to_list() == pytest.approx([0.5, 0.5, 1.0])


def test_refuses():
    good = pool("a b c", "a b c")
    with pytest.raises(ValueError, match="word counts"):
        knn_jaccard(Pool(good.row_ids))
    with pytest.raises(ValueError, match="3 rows and word counts of 2"):
        knn_jaccard(Pool(pl.Series(["a", "b", "c"]), counts=good.counts))
    for wrong in ({"stat": "median"}, {"field": "answer"}, {"j": 0}, {"n": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            knn_jaccard(good, **wrong)
