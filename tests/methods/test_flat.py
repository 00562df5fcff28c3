"""The flat words of a block: codes against a dictionary, what is shared between callers, what is forgotten."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import flat as flat_module
from methods.diversity.handcrafted import INDICATORS
from methods.flat import flat_words, flatten
from methods.text import count_block

hash_lists = st.lists(
    st.none() | st.lists(st.sampled_from([0, 1, 2**12, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), max_size=30),
    max_size=8,
)


def counts(*responses):
    return count_block(
        pl.DataFrame(
            {
                "row_id": [str(i) for i in range(len(responses))],
                "instruction": ["say a b"] * len(responses),
                "input": [""] * len(responses),
                "response": list(responses),
            }
        )
    )


@settings(max_examples=80, deadline=None)
@given(hash_lists)
def test_codes_against_a_dictionary(rows):
    flat = flatten(pl.Series(rows, dtype=pl.List(pl.UInt64)))
    known: dict[int, int] = {}
    assert flat.codes.tolist() == [known.setdefault(word, len(known)) for row in rows for word in row or ()]
    assert flat.keys.tolist() == list(known)
    assert flat.n_types == len(known)
    assert flat.lengths.tolist() == [len(row or ()) for row in rows]
    assert flat.types.tolist() == [len(set(row or ())) for row in rows]
    assert flat.offsets.tolist() == [0, *np.cumsum([len(row or ()) for row in rows]).tolist()]
    before = [
        max((i for i in range(at) if row[i] == row[at]), default=-1) for row in rows if row for at in range(len(row))
    ]
    assert flat.previous.tolist() == before
    assert (flat.codes.dtype, flat.previous.dtype, flat.offsets.dtype) == (np.int32, np.int32, np.int64)


def test_a_table_that_grows():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, 50_000, dtype=np.uint64)[rng.integers(0, 50_000, 80_000)]
    words[:9000] = np.arange(9000, dtype=np.uint64) << np.uint64(50)  # alike in their low bits
    flat = flatten(pl.Series([words[:100], words[100:70_000], words[70_000:]], dtype=pl.List(pl.UInt64)))
    assert np.array_equal(flat.keys[flat.codes], words)
    assert flat.n_types == len(np.unique(words))
    first = np.unique(flat.codes, return_index=True)[1]
    assert (np.diff(first) > 0).all()


def test_fingerprints_stand_for_the_words_in_order():
    rows = [[1, 2, 3], [3, 2, 1], [1, 2, 3], [1, 2], [], [1, 2, 3, 0]]
    found = flatten(pl.Series(rows, dtype=pl.List(pl.UInt64))).fingerprints
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 5
    assert flatten(pl.Series(rows[::-1], dtype=pl.List(pl.UInt64))).fingerprints.tolist() == found[::-1].tolist()


def test_all_indicators_share_one_flattening(monkeypatch):
    made = []
    monkeypatch.setattr(flat_module, "flatten", lambda words: made.append(1) or flatten(words))
    block = counts("a b a", "b c")
    for method in INDICATORS:
        method.compute(block, **method.params)
    assert len(made) == 1
    INDICATORS[0].compute(block, field="prompt")
    assert len(made) == 2
    assert flat_words(block, "prompt") is flat_words(block, "prompt")


def test_another_block_or_field_is_another_flattening():
    block, equal = counts("a b a"), counts("a b a")
    first = flat_words(block, "response")
    assert flat_words(equal, "response") is not first
    assert flat_words(block, "response").types.tolist() == [2]
    assert flat_words(block, "both").lengths.tolist() == [6]
    assert flat_words(block, "response").lengths.tolist() == [3]
    with pytest.raises(ValueError, match="field"):
        flat_words(block, "answer")
    assert flat_words(block, "response").lengths.tolist() == [3]


def test_it_is_forgotten_with_its_block():
    block = counts("a b a")
    flat_words(block, "response")
    assert flat_module._LAST.flat is not None
    del block
    gc.collect()
    assert flat_module._LAST.flat is None


def test_it_cannot_be_written_to():
    flat = flat_words(counts("a b a"), "response")
    with pytest.raises(ValueError, match="read-only"):
        flat.codes[0] = 7


def test_threads_get_their_own_block():
    blocks = [counts(" ".join(f"w{j}" for j in range(i))) for i in range(1, 9)]

    def ask(i):
        return [flat_words(blocks[(i + turn) % 8], "response").n_types - 1 - (i + turn) % 8 for turn in range(50)]

    with ThreadPoolExecutor(4) as threads:
        assert not any(any(wrong) for wrong in threads.map(ask, range(8)))
