"""All pairs above a threshold: against brute force, with identical rows, lists that are cut, and rows that come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.numerics import pairs
from methods.numerics.similarity import QUANTUM, cosines


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def groups(n: int, d: int, spread: float, seed: int = 0, per_group: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // per_group), d))
    return unit(centres[rng.integers(len(centres), size=n)] + spread * rng.standard_normal((n, d)))


def brute(vectors: np.ndarray, threshold: float) -> dict[tuple[int, int], float]:
    """Every pair from one float64 product on the grid; rows without a vector left out."""
    fine = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    near = cosines(vectors[fine], vectors[fine])
    return {(int(fine[i]), int(fine[j])): float(near[i, j]) for i, j in np.argwhere(near >= threshold) if i < j}


def listed(found: pairs.Pairs) -> dict[tuple[int, int], float]:
    assert len(set(zip(found.a, found.b, strict=True))) == len(found.a), "a pair stands once"
    return {(int(a), int(b)): float(s) for a, b, s in zip(found.a, found.b, found.similarity, strict=True)}


def every(found: pairs.Pairs) -> dict[tuple[int, int], float]:
    """The pairs with those written out that the first row of a class stands for."""
    members = {int(c): np.flatnonzero(found.classes == c).tolist() for c in np.unique(found.classes)}
    out = {}
    for (a, b), s in listed(found).items():
        if found.classes[a] == found.classes[b]:
            continue
        out |= {(min(i, j), max(i, j)): s for i in members[a] for j in members[b]}
    own = {int(a): float(s) for a, s, same in zip(found.a, found.similarity, found.same, strict=True) if same}
    for first, rows in members.items():
        out |= {(i, j): own[first] for k, i in enumerate(rows) for j in rows[k + 1 :]}
    return out


def test_by_hand() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [np.nan, 0]], np.float32)
    found = pairs.all_pairs(vectors, 0.7)
    assert list(zip(found.a.tolist(), found.b.tolist(), strict=True)) == [(0, 1), (1, 2), (2, 3)]
    np.testing.assert_allclose(found.similarity, [0.8, 0.96, 0.8], atol=QUANTUM)
    assert not found.same.any() and not found.cut.any() and found.compared == 4
    assert found.classes.tolist() == [0, 1, 2, 3, 4]


def test_the_threshold_itself_is_reached() -> None:
    vectors = np.array([[1, 0], [0.5, np.sqrt(0.75)]], np.float32)
    assert len(pairs.all_pairs(vectors, 0.5).a) == 1
    assert len(pairs.all_pairs(vectors, 0.5 + QUANTUM / 2).a) == 0


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("spread", [0.4, 1.2])
def test_against_all_products(threshold: float, spread: float) -> None:
    vectors = groups(700, 24, spread)
    vectors[[5, 300]] = np.nan
    assert listed(pairs.all_pairs(vectors, threshold, most=700)) == brute(vectors, threshold)


@pytest.mark.parametrize("threshold", [0.8, 0.9])
def test_few_coordinates_lose_no_pair(threshold: float) -> None:
    vectors = groups(2600, 64, 0.5)
    bounds, margin = pairs._bounds(vectors, np.arange(len(vectors)), threshold)
    assert bounds.shape[1] < 64, "the sample says that fewer coordinates are cheaper"
    true = cosines(vectors[:400], vectors[:400])
    assert (bounds[:400] @ bounds[:400].T >= true - margin).all()
    assert listed(pairs.all_pairs(vectors, threshold, most=2600)) == brute(vectors, threshold)


def test_blocks_do_not_matter() -> None:
    vectors = groups(3000, 32, 0.6)
    whole = pairs.all_pairs(vectors, 0.8)
    for block in (7, 512, 4096):
        part = pairs.all_pairs(vectors, 0.8, block=block)
        for name in ("a", "b", "similarity", "same", "classes", "cut"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))
    assert (np.diff(whole.a) >= 0).all() and (whole.a < whole.b).all() and len(whole.a) > 0


@pytest.mark.parametrize("n", [0, 1])
def test_next_to_nothing(n: int) -> None:
    found = pairs.all_pairs(np.ones((n, 1), np.float32), 0.5)
    assert len(found.a) == 0 and len(found.classes) == n and found.similarity.dtype == np.float64


def test_no_row_has_a_vector() -> None:
    found = pairs.all_pairs(np.full((3, 4), np.nan, np.float32), 0.5)
    assert len(found.a) == 0 and found.compared == 0


@pytest.mark.parametrize(("threshold", "most"), [(0.0, 8), (1.1, 8), (-0.5, 8), (0.9, 1)])
def test_nonsense_is_refused(threshold: float, most: int) -> None:
    with pytest.raises(ValueError, match=r"cosine|earlier rows"):
        pairs.all_pairs(np.eye(3, dtype=np.float32), threshold, most)


# ---- identical rows -------------------------------------------------------------------------------------------------


def test_all_rows_equal_are_as_many_pairs_as_rows() -> None:
    vectors = np.repeat(groups(1, 16, 1.0), 5000, axis=0)
    found = pairs.all_pairs(vectors, 0.9)
    assert found.a.tolist() == [0] * 4999 and found.b.tolist() == list(range(1, 5000))
    assert found.same.all() and (found.similarity == 1).all() and found.compared == 1
    assert not found.cut.any()


def test_a_class_is_searched_once_and_no_pair_is_lost() -> None:
    base = groups(120, 12, 0.4)
    vectors = np.concatenate([base, base[:40], base[10:30]])[np.random.default_rng(1).permutation(180)]
    vectors[7] = np.nan
    found = pairs.all_pairs(vectors, 0.8, most=180)
    assert every(found) == brute(vectors, 0.8)
    for row in range(180):
        equal = np.flatnonzero((vectors == vectors[row]).all(axis=1))
        assert found.classes[row] == (equal[0] if len(equal) else row)


def test_short_vectors_are_no_twins_of_themselves() -> None:
    vectors = np.zeros((4, 3), np.float32)
    vectors[2:, 0] = 0.5
    assert len(pairs.all_pairs(vectors, 0.5).a) == 0
    assert listed(pairs.all_pairs(vectors, 0.25)) == {(2, 3): 0.25}


# ---- lists that are cut ---------------------------------------------------------------------------------------------


def nearly_equal(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return unit(np.ones(8) + 0.05 * rng.standard_normal((n, 8)))


def test_a_list_keeps_the_nearest_and_the_first() -> None:
    vectors, most = nearly_equal(300), 6
    found, all_of_them = pairs.all_pairs(vectors, 0.9, most), brute(vectors, 0.9)
    assert len(all_of_them) == 300 * 299 // 2
    mine = listed(found)
    for b in range(300):
        earlier = [(a, all_of_them[a, b]) for a in range(b)]
        if b <= most:
            want = {a for a, _ in earlier}
        else:
            nearest = sorted(earlier, key=lambda pair: (-pair[1], pair[0]))[:3]
            want = {a for a, _ in nearest} | {0, 1, 2}
        assert {a for a, c in mine if c == b} == want
        assert found.cut[b] == (b > most)
    assert all(mine[pair] == all_of_them[pair] for pair in mine)


def test_cutting_in_between_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = nearly_equal(400)
    whole = pairs.all_pairs(vectors, 0.9, 10)
    monkeypatch.setattr(pairs, "HELD", 50)
    monkeypatch.setattr(pairs, "TILE", 32)
    often = pairs.all_pairs(vectors, 0.9, 10, block=16)
    assert listed(often) == listed(whole) and (often.cut == whole.cut).all()


def test_lists_are_cut_while_they_grow() -> None:
    rng, lists = np.random.default_rng(0), pairs._Lists(50, 4, limit=20)
    a, b = np.triu_indices(50, 1)
    order = rng.permutation(len(a))
    level = rng.integers(0, 9, len(a)).astype(float)
    for part in np.array_split(order, 40):
        lists.add(a[part], b[part], level[part])
        assert lists.size <= lists.limit
    kept = set(zip(*(x.tolist() for x in lists.cut()), strict=True))
    for row in range(50):
        mine = sorted((-level[i], a[i]) for i in np.flatnonzero(b == row))
        want = {at for _, at in mine} if row <= 4 else {at for _, at in mine[:2]} | {0, 1}
        assert {x for x, y, _ in kept if y == row} == want


# ---- rows that come and go ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 200]), st.floats(0.02, 0.8))
def test_from_stored_pairs_as_from_nothing(seed: int, most: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = groups(150, 6, spread, seed, per_group=50)
    vectors[rng.integers(150, size=30)] = vectors[rng.integers(150, size=30)]
    vectors[rng.integers(150, size=3)] = np.nan
    before = pairs.all_pairs(vectors[:100], 0.9, most)
    order = rng.permutation(np.setdiff1d(np.arange(150), rng.integers(1, 100, size=10)))
    place = np.full(150, -1)
    place[order] = np.arange(len(order))
    stays = (place[before.a] >= 0) & (place[before.b] >= 0) & ~before.same
    # Only rows that stand for themselves are settled here: who stands in for one that went is told by row ids.
    alone = np.bincount(before.classes, minlength=100)[before.classes] == 1
    settled = np.zeros(len(order), dtype=bool)
    known = np.flatnonzero((place[:100] >= 0) & alone & ~before.cut & np.isfinite(vectors[:100]).all(axis=1))
    settled[place[known]] = True
    stored = (place[before.a[stays]], place[before.b[stays]], before.similarity[stays])
    after, whole = (
        pairs.all_pairs(vectors[order], 0.9, most, stored, settled),
        pairs.all_pairs(vectors[order], 0.9, most),
    )
    assert listed(after) == listed(whole)
    np.testing.assert_array_equal(after.cut, whole.cut)
    assert after.compared <= whole.compared


def test_only_new_rows_are_compared() -> None:
    vectors = groups(500, 16, 0.5)
    before = pairs.all_pairs(vectors[:480], 0.8)
    stored = (before.a, before.b, before.similarity)
    after = pairs.all_pairs(vectors, 0.8, stored=stored, settled=np.arange(500) < 480)
    assert after.compared == 20 and listed(after) == listed(pairs.all_pairs(vectors, 0.8))
