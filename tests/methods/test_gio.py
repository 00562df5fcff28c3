"""GIO: worked divergences, the formula pair by pair and differences as oracles, the plain loop, rules, edges."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.importance import gio as module
from methods.importance.gio import SELECTORS, Divergence, gio, quantised, uniform_points
from methods.kinds import Candidates, Target
from methods.numerics import kmeans

LINE = np.array([[0.0], [1.0], [2.0]])


def kl_knn(target: np.ndarray, data: np.ndarray, k: int = 5) -> float:
    """The estimate as the selector makes it: the sum of the points' costs, and the constant."""
    divergence = Divergence(target, k)
    return divergence.value(float(divergence.cost(np.asarray(data, dtype=np.float64)).sum()), len(data))


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def around(middle, n, seed, spread=0.3):
    return unit(np.asarray(middle) + spread * np.random.default_rng(seed).normal(size=(n, len(middle))))


def as_target(vectors):
    vectors = np.asarray(vectors, dtype=np.float32)
    return Target(pl.DataFrame({"prompt": [""] * len(vectors), "response": [""] * len(vectors)}), vectors)


def pool(vectors, *targets):
    vectors = np.array(vectors, dtype=np.float32)
    ids = pl.Series([f"r{i}" for i in range(len(vectors))], dtype=pl.String)
    return Candidates(ids, vectors=vectors, targets={f"t{i}": as_target(t) for i, t in enumerate(targets)})


def plain_kl(x, data, k):
    """The formula, pair by pair."""
    x, data = np.asarray(x, dtype=np.float64), np.asarray(data, dtype=np.float64)
    n, d, m = len(x), x.shape[1], len(data)
    away = lambda a, b: math.sqrt(max(float(((a - b) ** 2).sum()), 1e-10))  # noqa: E731
    rho = [sorted(away(x[i], x[j]) for j in range(n) if j != i)[k - 1] for i in range(n)]
    pairs = [d * math.log(away(x[i], y) + 1e-8) - d * math.log(rho[i] + 1e-8) for i in range(n) for y in data]
    return sum(pairs) / len(pairs) + sum(math.log(k * m / (j * (n - 1))) for j in range(1, m + 1)) / m


def plain_gio(vectors, x, begin, k=5, rate=0.01, steps=50, first_steps=150):
    """Row by row until KL grows: the whole divergence anew for each addition."""
    vectors, x, data, order = vectors.astype(np.float64), x.astype(np.float64), list(begin), []

    def slope(v, m):
        gap = v - x
        length = np.linalg.norm(gap, axis=1)
        return x.shape[1] / (m * len(x)) * (gap / (length * (length + 1e-8))[:, None]).sum(axis=0)

    mean = x.mean(axis=0)
    scale = np.linalg.norm(mean) / np.linalg.norm(slope(mean, len(data) + 1))
    values = [plain_kl(x, data, k)]
    while len(order) < len(vectors):
        v = mean
        for _ in range(steps if order else first_steps):
            v = v - rate * scale * slope(v, len(data) + 1)
        away = np.linalg.norm(vectors - v, axis=1)
        away[order] = np.inf
        row = int(np.argmin(away))
        value = plain_kl(x, [*data, vectors[row]], k)
        if value > values[-1]:
            break
        data.append(vectors[row])
        order.append(row)
        values.append(value)
    return order, values


def test_it_is_listed_under_the_specification_s_name():
    assert [s.id for s in SELECTORS] == ["gio"]
    x = around([1, 0, 0, 0], 10, 0)
    assert SELECTORS[0].select(pool(around([1, 0, 0, 0], 9, 1), x), 2, 0, **SELECTORS[0].params).order.size == 2


# --- the divergence


def test_the_worked_divergences():
    assert kl_knn(LINE, LINE, k=1) == pytest.approx(-3.875064, abs=5e-7)
    assert kl_knn(LINE, np.array([[5.0], [6.0], [7.0]]), k=1) == pytest.approx(1.389206, abs=5e-7)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 8), st.integers(0, 999))
def test_the_divergence_is_the_formula(n, m, d, k, seed):
    rng = np.random.default_rng(seed)
    x, data = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    data[rng.random(m) < 0.3] = x[0]  # distances at the floor
    assert kl_knn(x, data, k) == pytest.approx(plain_kl(x, data, min(k, n - 1)), abs=1e-6)
    assert kl_knn(x[::-1], data[::-1], k) == pytest.approx(kl_knn(x, data, k), abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(1, 30), st.integers(0, 999))
def test_the_gradient_is_that_of_differences(n, d, m, seed):
    rng = np.random.default_rng(seed)
    x, data, v = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.normal(size=d)
    h = 1e-5
    slope = [(kl_knn(x, [*data, v + h * e]) - kl_knn(x, [*data, v - h * e])) / (2 * h) for e in np.eye(d)]
    nearest = np.linalg.norm(x - v, axis=1).min()
    assert Divergence(x).gradient(v, m + 1) == pytest.approx(slope, rel=1e-3, abs=1e-5 / max(nearest, 1e-3) ** 3)


def test_nothing_pulls_from_the_floor():
    slope = Divergence(np.array([[0.0, 0.0], [2.0, 0.0]])).gradient(np.zeros(2), 1)
    assert slope == pytest.approx([-0.5, 0])  # the other one alone: d / (m n) / r
    assert Divergence(np.zeros((3, 2))).gradient(np.zeros(2), 1).tolist() == [0, 0]


def test_a_cost_does_not_depend_on_the_others():
    """What the module says of the estimator: it splits into a cost for each point and terms in their number."""
    rng = np.random.default_rng(2)
    x, a, b = rng.normal(size=(8, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    u, w = rng.normal(size=(1, 3)), rng.normal(size=(1, 3))
    change = [kl_knn(x, np.concatenate([data, u])) - kl_knn(x, np.concatenate([data, w])) for data in (a, b)]
    assert change[0] == pytest.approx(change[1], abs=1e-9)


# --- row by row


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_the_plain_loop(seed):
    """Short descents: long ones come near target vectors, where the last bit decides where the next step goes."""
    short = {"steps": 6, "first_steps": 18}
    vectors = np.concatenate([around([1, 0, 0, 0, 0], 8, seed), around([0, 1, 1, 0, 0], 12, seed + 50, 0.6)])
    x = around([1, 0.3, 0, 0, 0], 15, seed + 99, 0.4)
    begin = uniform_points(20, 5, np.random.default_rng(seed))
    order, values = plain_gio(vectors, x, begin, **short)
    found = gio(pool(vectors, x), 20, seed, **short)
    assert 0 < len(order) < 20
    assert found.order.tolist() == order
    assert found.gain == pytest.approx(-np.diff(values), abs=1e-9)
    assert (found.gain > -1e-9).all()
    assert f"stopped at {len(order)} of 20 rows: the next centroid would raise KL from" in found.reason[-1]
    fewer = gio(pool(vectors, x), 2, seed, **short)
    assert fewer.order.tolist() == order[:2] and "stopped" not in fewer.reason[-1]


def test_a_planted_target_is_found():
    """Three groups; the target lies in the second: exactly its rows, whichever way the pool is cut."""
    middles = np.eye(16)[:3]
    vectors = np.concatenate([around(middle, 40, seed, 0.15) for seed, middle in enumerate(middles)])
    x = around(middles[1], 60, 9, 0.15)
    for centroids in (1500, 12):
        found = gio(pool(vectors, x), 30, 0, centroids=centroids)
        assert found.order.size == 30 and set((found.order // 40).tolist()) == {1}
        everything = gio(pool(vectors, x), 120, 0, centroids=centroids)
        assert set((everything.order // 40).tolist()) == {1}


def test_it_does_not_matter_how_the_pool_is_ordered_or_the_target_is_cut():
    vectors, x = around([1, 0, 0, 0], 20, 1, 0.8), around([1, 0, 0, 0], 12, 2)
    found = gio(pool(vectors, x), 6, 3)
    turned = gio(pool(vectors[::-1], x), 6, 3)
    assert (19 - turned.order).tolist() == found.order.tolist()
    assert gio(pool(vectors, x[:5], x[5:]), 6, 3).order.tolist() == found.order.tolist()


def test_the_start_is_of_length_one_and_drawn_by_the_seed():
    points = uniform_points(20, 7, np.random.default_rng(4))
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.ones(20)) and (points < 0).any()
    assert (points == uniform_points(20, 7, np.random.default_rng(4))).all()


def test_given_rows_are_the_start_and_do_not_count():
    vectors, x = around([1, 0, 0, 0], 12, 1, 0.8), around([1, 0, 0, 0], 12, 2)
    order, _ = plain_gio(np.delete(vectors, [3, 7], axis=0), x, vectors[[3, 7]].astype(np.float64), first_steps=18)
    found = gio(pool(vectors, x), 4, given=(3, 7), stop="size", first_steps=18)
    back = np.delete(np.arange(12), [3, 7])
    assert found.order.size == 4 and not {3, 7} & set(found.order.tolist())
    assert found.order[: len(order)].tolist() == back[order][:4].tolist()
    assert gio(pool(vectors, x), 99, given=(3, 7), stop="size").order.size == 10
    assert gio(pool(vectors, x), 99, given=range(12)).order.size == 0


# --- clusters


def test_clusters_are_taken_whole_and_from_their_middle():
    vectors = around([1, 0, 0, 0], 60, 1, 0.7)
    x = around([1, 0, 0, 0], 30, 2, 0.4)
    found = gio(pool(vectors, x), 25, 5, centroids=8)
    centres = kmeans.fit(vectors, 8, 5, iterations=20)
    label, similarity = kmeans.assign(vectors, centres)
    place = 0
    while place < 25:
        here = label[found.order[place]]
        rows = np.flatnonzero(label == here)
        rows = rows[np.argsort(-similarity[rows], kind="stable")]
        part = found.order[place : place + len(rows)]
        assert part.tolist() == rows[: len(part)].tolist()
        assert found.gain[place : place + len(part)] == pytest.approx(np.full(len(part), found.gain[place]))
        assert found.reason[place].startswith(f"row 1 of {len(rows)} of the nearest unused cluster, ")
        place += len(part)
    middle = kmeans.fit(x, 8, 5, iterations=20).astype(np.float64)
    first = centres[label[found.order[0]]].astype(np.float64)
    begin = uniform_points(20, 4, np.random.default_rng(5))
    fall = plain_kl(middle, begin, 5) - plain_kl(middle, [*begin, first], 5)
    assert found.gain[: (label == label[found.order[0]]).sum()].sum() == pytest.approx(fall, abs=1e-8)


def test_every_row_belongs_to_one_centroid_and_those_left_out_to_none():
    vectors = np.concatenate([around([1, 0, 0], 30, 0), np.tile(unit([[0, 1, 1]]), (10, 1))])
    found = quantised(vectors, 6, 0, without=(2, 35))
    rows = np.sort(np.concatenate(found.rows))
    assert rows.tolist() == [i for i in range(40) if i not in (2, 35)]
    assert len(found.rows) == len(found.centres) <= 6 and all(len(r) for r in found.rows)
    single = quantised(vectors, 40, 0)
    assert [r.tolist() for r in single.rows] == [[i] for i in range(40)]


# --- rules


def rules(**params):
    vectors = np.concatenate([around([1, 0, 0, 0], 8, 1), around([-1, 0, 0.5, 0], 8, 2)])
    return gio(pool(vectors, around([1, 0, 0, 0], 12, 3)), 16, 0, **params)


def test_the_size():
    kept = len(rules().order)
    assert kept < 12
    all_of_them = rules(stop="size")
    assert sorted(all_of_them.order.tolist()) == list(range(16)) and (all_of_them.gain[kept:] < 0).any()
    some = rules(stop="size", size=0.75)
    assert some.order.tolist() == all_of_them.order[:12].tolist()
    assert some.reason[-1].endswith("stopped at 12 of 16 rows: 12 of 16 centroids are used")
    assert all_of_them.order[:kept].tolist() == rules().order.tolist()


def test_the_least_divergence():
    every = rules(stop="size")
    start = float(every.reason[0].split("target ")[1].split(" ->")[0])
    falls = start - np.cumsum(every.gain)
    found = rules(stop="min_kl", min_kl=(falls[1] + falls[2]) / 2)
    assert found.order.tolist() == every.order[:3].tolist() and "is below" in found.reason[-1]
    assert rules(stop="min_kl", min_kl=start + 1).order.size == 0
    assert rules(stop="min_kl", min_kl=-1e9).order.tolist() == every.order.tolist()


def test_tolerance_looks_past_a_growth_and_drops_it_when_it_goes_on():
    every, kept = rules(stop="size"), rules().order.size
    grows = every.gain < 0
    for tolerance in (0, 1, 3):
        found = rules(stop="tolerance", tolerance=tolerance).order.tolist()
        run, at = 0, len(every.order)
        for place, worse in enumerate(grows):
            run = run + 1 if worse else 0
            if run > tolerance:
                at = place - tolerance
                break
        assert found == every.order[:at].tolist()
    assert rules(stop="tolerance", tolerance=0).order.size == kept
    assert rules(stop="tolerance", tolerance=99).order.tolist() == every.order.tolist()


def test_a_reset_frees_all_centroids_but_gives_no_row_twice():
    assert rules(stop="resets", resets=0).order.tolist() == rules().order.tolist()
    found = rules(stop="resets", resets=2)
    assert len(set(found.order.tolist())) == found.order.size >= rules().order.size
    assert found.order[: rules().order.size].tolist() == rules().order.tolist()


@pytest.mark.parametrize("v_init", ["mean", "previous", "jump"])
def test_where_the_descent_starts_again(v_init):
    found = rules(v_init=v_init, stop="size", size=0.5)
    assert len(set(found.order.tolist()) & set(range(8))) >= 7
    assert found.order.tolist() == rules(v_init=v_init, stop="size", size=0.5).order.tolist()


# --- edges


def test_edges():
    x = around([1, 0, 0, 0], 6, 0)
    empty = gio(pool(np.empty((0, 4)), x), 3)
    assert empty.order.size == 0 and empty.reason == []
    assert gio(pool(x, x), 0).order.size == 0
    one = gio(pool(x[:1], x), 5)
    assert one.order.tolist() == [0] and one.nearest.tolist() == [-1]
    copies = gio(pool(np.tile(x[:1], (5, 1)), x), 3)
    assert copies.order.tolist() == [0, 1, 2] and copies.nearest.tolist() == [-1, 0, 0]
    over = gio(pool(np.tile(x[:1], (5, 1)), x), 9)
    assert over.order.tolist() == [0, 1, 2, 3, 4] and "stopped at 5 of 9" not in over.reason[-1]


def test_degenerate_targets():
    vectors = around([1, 0, 0, 0], 8, 0)
    best = int(np.argmax(vectors[:, 0]))
    single = gio(pool(vectors, [[1, 0, 0, 0]]), 3)  # the mean is the target itself: nothing pulls
    assert single.order[0] == best and np.isfinite(single.gain).all()
    same = gio(pool(vectors, [[1, 0, 0, 0]] * 4), 3)
    assert same.order.tolist() == single.order.tolist() and np.isfinite(same.gain).all()
    for times in (1, 2, 3, 5):  # in the middle of two the pulls cancel: what is left of them is rounding
        for seed in range(6):
            two = np.repeat(around([1, 0, 0, 0], 2, seed), times, axis=0)
            middle = np.linalg.norm(vectors - two.astype(np.float64).mean(axis=0), axis=1)
            assert gio(pool(vectors, two), 1).order.tolist() == [int(np.argmin(middle))]
    opposite = gio(pool(vectors, [[1, 0, 0, 0], [-1, 0, 0, 0]]), 3, stop="size")
    assert opposite.order.size == 3 and np.isfinite(opposite.gain).all()


def test_nonsense_is_refused():
    x = around([1, 0, 0, 0], 6, 0)
    for params, match in (
        ({"k": 0}, "at least 1"),
        ({"centroids": 0}, "at least 1"),
        ({"uniform": 0}, "at least 1"),
        ({"given": (0, 0)}, "distinct"),
        ({"given": (6,)}, "from 0 to 5"),
        ({"stop": "later"}, "stop is one of increase"),
        ({"v_init": "zero"}, "v_init is one of mean"),
    ):
        with pytest.raises(ValueError, match=match):
            gio(pool(x, x), 2, **params)
    no_vectors = Candidates(
        pl.Series(["a"]), vectors=x[:1], targets={"t": Target(pl.DataFrame({"prompt": [""], "response": [""]}))}
    )
    for candidates, match in (
        (pool(x), "needs a target"),
        (pool(x, x[:, :3]), "have"),
        (pool(x, np.empty((0, 4))), "no rows"),
        (pool(x, np.full((2, 4), np.nan)), "has no vector"),
        (pool(np.full((2, 4), np.nan), x), "has no vector"),
        (no_vectors, "needs the vectors of target 't'"),
        (Candidates(pl.Series(["a"])), "needs vectors"),
    ):
        with pytest.raises(ValueError, match=match):
            gio(candidates, 1)
    assert module.FLOOR == 1e-10 and module.INSIDE == 1e-8
