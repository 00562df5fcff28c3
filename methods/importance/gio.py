"""GIO: rows that bring the distribution of what is chosen nearest to that of a target.

Here belong the divergence between two sets of vectors, its gradient in a free point, and the selector that descends
along it. Weights from word counts (DSIR) stand elsewhere in this room; so does the graph of neighbours.

The divergence is an average over *all* distances from the target to what is chosen. It therefore splits into one cost
a chosen vector, c(u) = mean_i log ||x_i - u||, and terms in their number alone: what a vector costs does not depend on
the others, and adding one takes one pass over the target. That is the estimator as published, kept as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, lgamma, log, sqrt
from typing import Literal, get_args

import numpy as np

from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.columns import nearest_before
from methods.numerics.similarity import blocks, usable_rows
from methods.selection.basic import at_most, require

Stop = Literal["increase", "size", "min_kl", "tolerance", "resets"]
Restart = Literal["mean", "previous", "jump"]
FLOOR = 1e-10
"""The least squared distance."""
INSIDE = 1e-8
"""Added to a distance in a logarithm."""
TIE = 1e-9
"""Distances and divergences this close are tied."""
NO_PULL = 1e-12
"""A gradient of less than this share of what the target's vectors could pull together is rounding."""
FIT_ROWS = 16
"""Rows a centroid that the centroids are fitted on."""


def gio(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    centroids: int = 1500,
    k: int = 5,
    rate: float = 0.01,
    steps: int = 50,
    first_steps: int = 150,
    v_init: Restart = "mean",
    uniform: int = 20,
    given: Sequence[int] = (),
    stop: Stop = "increase",
    size: float = 1.0,
    min_kl: float = 0.0,
    tolerance: int = 3,
    resets: int = 2,
) -> Chosen:
    """Rows that lower the divergence of the target's vectors from those chosen, found by descent on a free point.

    Equation: KL(X || D) = mean_ij [d log(nu_ij + e) - d log(rho_k(i) + e)] + mean_j log(k m / (j (n - 1))) for n target
    vectors X and m vectors D in d dimensions, j = 1..m; nu_ij is the distance from x_i to the j-th of D, rho_k(i) that
    to its k-th nearest in X; squared distances are at least 1e-10, e = 1e-8. Repeat: v := mean(X); descend
    v := v - rate s grad_v KL(X || D + v) with s = ||v|| / ||grad|| at the very start; add the nearest unused vector of
    the pool to D.

    Steps: pool and target are cut into `centroids` clusters each (spherical k-means), and centroids stand for their
    rows; a pool or target of no more rows is taken row by row. What is chosen is whole clusters in the order of choice,
    within a cluster the row nearest to the centroid first, until the budget ends. The rule to stop may end it before;
    the last reason says so. KL is a sum of one cost for each vector of D (see the module), so all descents from the
    mean go the same way, less far as D grows: rows come from around one point of the target. `jump` spreads them.

    Parameters: `centroids` (1,500). `k` of the divergence (5; n - 1 where the target is smaller). `rate` (.01),
    `steps` of a descent (50), `first_steps` of the first one and of one after a reset (150). `v_init` is where v starts
    again: at the target's `mean` (default), where it ended (`previous`), or at a target vector drawn by the seed
    (`jump`). `uniform` points (20), coordinates uniform in (-1, 1) by the seed, scaled to length 1, are D at first;
    they stay in it and are no rows. `given`: indices of rows that are D at first instead; they are not returned and do
    not count. `stop`: `increase` (default), when KL grows, without the vector that makes it grow; `size`, when the
    share `size` (1) of the centroids is used; `min_kl`, when KL lies under `min_kl` (0); `tolerance`, when KL grew more
    than `tolerance` (3) times in a row, without those; `resets`, at the growth after `resets` (2) resets: each growth
    before makes all centroids free again, and one that is added twice counts twice in D but gives its rows once.

    Gain: the fall of KL in nats by the row's centroid, in equal parts to the rows of its cluster that were taken;
    negative where KL grew and the rule let it. `nearest`: the row chosen before with the largest cosine. Several
    targets count as one set. A target of one vector has no rho and no n - 1: KL then lacks these constants, its falls
    are exact.

    Memory: centroids, and blocks. Time of an addition: `steps` passes over the target's centroids.

    Source: Everaert and Potts 2023, GIO (arXiv 2306.11670). The survey shows it as a case of matching a model's
    gradients; the gradient here is that in the vector, and no model has part in it.

    Departures: centroids have length 1, and are fitted on at most 16 rows each; KL that grows by less than 1e-9 does
    not grow. The vector that brings KL under `min_kl` is kept. In the reference code the rules `tolerance` and `resets`
    count only after they have stopped, so that they never do; here they are what its documentation says.
    """
    vectors = require(candidates, "vectors", "gio")
    x = _target(candidates, vectors.shape[1])
    _refuse_nonsense(centroids, k, uniform, given, len(vectors), stop, v_init)
    budget = min(at_most(candidates, budget), len(vectors) - len(given))
    if budget == 0:
        return Chosen(np.empty(0, dtype=np.int64), np.empty(0), [], np.empty(0, dtype=np.int64))
    if len(usable_rows(vectors)) < len(vectors):
        raise ValueError("gio: a candidate has no vector; drop such rows, with a reason, before it")
    rng = np.random.default_rng(seed)
    divergence = Divergence(quantised(x, centroids, seed).centres, k)
    pool = quantised(vectors, centroids, seed, without=given)
    begin = vectors[list(given)].astype(np.float64) if len(given) else uniform_points(uniform, vectors.shape[1], rng)
    rule = _Rule(stop, size, min_kl, tolerance, resets, len(pool.centres))
    walk = _Descent(divergence, rate, steps, first_steps, v_init, rng)
    picks = _picks(pool, begin, walk, rule, budget)
    return _expanded(candidates, vectors, pool, picks, budget)


# --- the divergence ---------------------------------------------------------------------------------------------------
class Divergence:
    """KL(X || D) by nearest neighbours, for a fixed X and a D that grows."""

    def __init__(self, target: np.ndarray, k: int = 5) -> None:
        self.target = np.ascontiguousarray(target, dtype=np.float64)
        self.columns = np.ascontiguousarray(self.target.T)
        self.squared = np.einsum("ij,ij->i", self.target, self.target)
        n, d = self.target.shape
        self.dimensions = d
        self.constant = 0.0
        k = min(k, n - 1)
        if k:
            near = np.concatenate(
                [np.partition(self._away(self.target[part]), k, axis=0)[k] for part in blocks(n, 512)]
            )
            self.constant = log(k / (n - 1)) - d * float(np.log(np.sqrt(near) + INSIDE).mean())

    def _away(self, points: np.ndarray) -> np.ndarray:
        """(n, points): squared distances, clipped."""
        squared = np.einsum("ij,ij->i", points, points)
        found = self.squared[:, None] - 2 * (self.target @ points.T) + squared[None, :]
        return np.maximum(found, FLOOR, out=found)

    def cost(self, points: np.ndarray) -> np.ndarray:
        """For each point, the mean logarithm of its distances to the target."""
        parts = [np.log(np.sqrt(self._away(points[p])) + INSIDE).mean(axis=0) for p in blocks(len(points), 512)]
        return np.concatenate(parts) if parts else np.empty(0)

    def value(self, total: float, m: int) -> float:
        """KL from the sum of the costs of the ``m`` points of D."""
        return self.dimensions * total / m + self.constant + log(m) - lgamma(m + 1) / m

    def gradient(self, v: np.ndarray, m: int) -> np.ndarray:
        """The gradient of KL in one of the ``m`` points of D; distances at the floor do not pull."""
        from methods.numerics.descent import slope

        return slope(self.columns, v, FLOOR, INSIDE) * (self.dimensions / m)

    def pull(self, v: np.ndarray, m: int) -> float:
        """The length of the gradient if all target vectors pulled the same way."""
        return float((1 / np.sqrt(self._away(v[None]))).mean()) * self.dimensions / m

    def descended(self, v: np.ndarray, m: int, rate: float, steps: int) -> np.ndarray:
        """Where ``v``, one of the ``m`` points of D, ends after steps of ``rate`` times the gradient."""
        from methods.numerics.descent import descend

        return descend(self.columns, v, rate * self.dimensions / m, steps, FLOOR, INSIDE)


# --- centroids --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Quantised:
    """Vectors that stand for rows, and the rows of each, the nearest to it first."""

    centres: np.ndarray
    rows: list[np.ndarray]


def quantised(vectors: np.ndarray, centroids: int, seed: int, without: Sequence[int] = ()) -> Quantised:
    """At most ``centroids`` unit vectors for these rows; the rows themselves where they are no more than that.

    Rows in ``without`` belong to no centroid; a centroid without rows is left out.
    """
    rows = np.setdiff1d(np.arange(len(vectors), dtype=np.int64), np.asarray(without, dtype=np.int64))
    if len(rows) <= centroids:
        return Quantised(vectors[rows].astype(np.float64), list(rows[:, None]))
    from methods.numerics import kmeans

    here = vectors[rows] if len(rows) < len(vectors) else vectors  # a copy only where rows are left out
    fitted = kmeans.fit(here, centroids, seed, iterations=20, sample_cap=FIT_ROWS * centroids)
    label, similarity = kmeans.assign(here, fitted)
    order = np.lexsort((rows, -similarity, label))
    present, first = np.unique(label[order], return_index=True)
    return Quantised(fitted[present].astype(np.float64), np.split(rows[order], first[1:]))


def uniform_points(n: int, dimensions: int, rng: np.random.Generator) -> np.ndarray:
    """Points with coordinates uniform in (-1, 1), scaled to length 1."""
    points = rng.uniform(-1, 1, size=(n, dimensions))
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)


# --- the descent and the choice ---------------------------------------------------------------------------------------
class _Descent:
    """Where a free point ends that starts as told and moves against the gradient."""

    def __init__(
        self, to: Divergence, rate: float, steps: int, first_steps: int, v_init: Restart, rng: np.random.Generator
    ) -> None:
        self.to, self.rate, self.steps, self.first_steps, self.v_init, self.rng = (
            to,
            rate,
            steps,
            first_steps,
            v_init,
            rng,
        )
        self.mean = to.target.mean(axis=0)
        self.v = self._drawn() if v_init == "jump" else self.mean
        self.scale: float | None = None

    def _drawn(self) -> np.ndarray:
        return self.to.target[int(self.rng.integers(len(self.to.target)))]

    def __call__(self, m: int, long: bool) -> np.ndarray:
        """The end of a descent with ``m`` points in D, the free one among them."""
        v = self.v
        if self.scale is None:
            length, slope = sqrt(fsum(v * v)), sqrt(fsum(self.to.gradient(v, m) ** 2))
            # A mean that cancels out has no length to go by. Where nothing pulls there is nowhere to go; nor is there
            # where pulls cancel out but for rounding (a target of two vectors, one as often as the other).
            pulled = slope > NO_PULL * self.to.pull(v, m)
            self.scale = (length if length > 1e-6 else 1.0) / slope if pulled else 0.0
        v = self.to.descended(v, m, self.rate * self.scale, self.first_steps if long else self.steps)
        self.v = {"mean": self.mean, "previous": v}[self.v_init] if self.v_init != "jump" else self._drawn()
        return v


@dataclass
class _Rule:
    """When to stop."""

    stop: Stop
    size: float
    min_kl: float
    tolerance: int
    resets: int
    of: int
    run: int = 0
    """Growths of KL in a row that were tolerated."""

    def before(self, kl: float, used: int) -> str | None:
        """Why nothing more is to be added, if so."""
        if self.stop == "size" and used >= max(1, int(self.size * self.of + TIE)):
            return f"{used} of {self.of} centroids are used"
        if self.stop == "min_kl" and kl < self.min_kl:
            return f"KL {kl:.6g} is below {self.min_kl:g}"
        return None

    def grew(self) -> Literal["keep", "reset", "stop"]:
        """What to do about a vector that makes KL grow."""
        if self.stop == "increase":
            return "stop"
        if self.stop == "tolerance":
            self.run += 1
            return "stop" if self.run > self.tolerance else "keep"
        if self.stop == "resets":
            self.resets -= 1
            return "reset" if self.resets >= 0 else "stop"
        return "keep"


@dataclass(frozen=True)
class _Pick:
    centroid: int
    before: float
    after: float
    distance: float
    """From where the descent ended to the centroid."""


@dataclass(frozen=True)
class _Picks:
    picks: list[_Pick]
    stopped: str
    """Why, where it was before the budget."""


def _picks(pool: Quantised, begin: np.ndarray, descend: _Descent, rule: _Rule, budget: int) -> _Picks:
    """Centroids in the order of choice, those of resets twice, until their rows fill the budget or the rule stops."""
    to, picks, rows, long = descend.to, [], 0, True  # type: ignore[var-annotated]
    squared = np.einsum("ij,ij->i", pool.centres, pool.centres)
    free, seen = np.ones(len(pool.centres), dtype=bool), np.zeros(len(pool.centres), dtype=bool)
    total, m = float(to.cost(begin).sum()), len(begin)
    kl = to.value(total, m)
    stopped = ""
    while rows < budget:
        if why := rule.before(kl, len(picks)):
            stopped = why
            break
        if not free.any():
            stopped = "no centroid is left"
            break
        v = descend(m + 1, long)
        away = np.where(free, squared - 2 * (pool.centres @ v) + v @ v, np.inf)
        nearest = int(np.argmax(away <= away.min() + TIE))
        free[nearest], long = False, False
        cost = float(to.cost(pool.centres[nearest : nearest + 1])[0])
        after = to.value(total + cost, m + 1)
        verdict = rule.grew() if after - kl > TIE else "fell"
        if verdict == "stop":
            stopped = f"the next centroid would raise KL from {kl:.6g} to {after:.6g}"
            picks = picks[: len(picks) - rule.run + 1] if rule.run else picks
            break
        if verdict == "reset":
            free[:], long = True, True
            continue
        rule.run = 0 if verdict == "fell" else rule.run
        picks.append(_Pick(nearest, kl, after, sqrt(max(0.0, float(away[nearest])))))
        rows += 0 if seen[nearest] else len(pool.rows[nearest])
        seen[nearest] = True
        total, m, kl = total + cost, m + 1, after
    return _Picks(picks, stopped)


def _expanded(candidates: Candidates, vectors: np.ndarray, pool: Quantised, found: _Picks, budget: int) -> Chosen:
    """The rows of the picked centroids."""
    order: list[int] = []
    gain: list[float] = []
    reason: list[str] = []
    seen: set[int] = set()
    for pick in found.picks:
        rows = pool.rows[pick.centroid][: budget - len(order)].tolist()
        if pick.centroid in seen or not rows:
            continue
        seen.add(pick.centroid)
        what = (
            f"{pick.distance:.4f} from where the descent ended; KL to the target {pick.before:.6g} -> {pick.after:.6g}"
        )
        order += rows
        gain += [(pick.before - pick.after) / len(rows)] * len(rows)
        if len(pool.rows[pick.centroid]) == 1:
            reason.append(f"the nearest unused row, {what}")
        else:
            whole = len(pool.rows[pick.centroid])
            reason += [f"row {i} of {whole} of the nearest unused cluster, {what}" for i in range(1, len(rows) + 1)]
    if reason and len(order) < budget:
        reason[-1] += f"; stopped at {len(order)} of {budget} rows: {found.stopped}"
    chosen = np.array(order, dtype=np.int64)
    return Chosen(chosen, np.array(gain, dtype=np.float64), reason, nearest_before(vectors, chosen))


# --- what it is given -------------------------------------------------------------------------------------------------
def _target(candidates: Candidates, dimensions: int) -> np.ndarray:
    """The vectors of all targets, one below the other."""
    if not candidates.targets:
        raise ValueError("gio needs a target: name a file of rows to be like under `targets` in the recipe")
    parts = []
    for name, target in candidates.targets.items():
        if target.vectors is None:
            raise ValueError(f"gio needs the vectors of target {name!r}: embed it")
        if target.vectors.ndim != 2 or target.vectors.shape[1] != dimensions:
            raise ValueError(f"gio: target {name!r} has vectors {target.vectors.shape}, the pool's have {dimensions}")
        if len(usable_rows(target.vectors)) < len(target.vectors):
            raise ValueError(f"gio: a row of target {name!r} has no vector")
        parts.append(target.vectors)
    found = np.concatenate(parts)
    if not len(found):
        raise ValueError("gio: the target has no rows")
    return found


def _refuse_nonsense(
    centroids: int, k: int, uniform: int, given: Sequence[int], n: int, stop: str, v_init: str
) -> None:
    if min(centroids, k, uniform) < 1:
        raise ValueError(f"gio: centroids, k and uniform are at least 1, got {centroids}, {k} and {uniform}")
    if len(set(given)) != len(given) or any(not 0 <= row < n for row in given):
        raise ValueError(f"gio: given must hold distinct indices from 0 to {n - 1}, got {list(given)}")
    for name, value, known in (("stop", stop, get_args(Stop)), ("v_init", v_init, get_args(Restart))):
        if value not in known:
            raise ValueError(f"gio: {name} is one of {', '.join(known)}; got {value!r}")


SELECTORS = (
    Selector(
        id="gio",
        title="GIO: nearest to a target's distribution",
        axis="importance",
        family="model",
        section="5.3",
        equation="min_{D} KL(X || D), KL = mean_ij d log(nu_ij) - mean_i d log(rho_k(i)) "
        "+ mean_j log(k m / (j (n - 1)))",
        paper="Everaert & Potts 2023, arXiv 2306.11670",
        meaning="Rows whose embeddings lie where the target's do, until more of them would move the choice away from "
        "it. It may take fewer rows than the budget, and says why.",
        needs=("vectors", "target_vectors"),
        version="2",
        params={
            "centroids": 1500,
            "k": 5,
            "rate": 0.01,
            "steps": 50,
            "first_steps": 150,
            "v_init": "mean",
            "uniform": 20,
            "given": (),
            "stop": "increase",
            "size": 1.0,
            "min_kl": 0.0,
            "tolerance": 3,
            "resets": 2,
        },
        select=gio,
    ),
)
