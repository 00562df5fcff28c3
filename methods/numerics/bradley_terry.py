"""Bradley-Terry: how strong things are, from which of two was preferred how often.

Here belong the fit of one strength a thing (`fit`), the fit of strengths that are linear in features (`linear`), and
the loss of both. Which comparisons are made, and what a strength means, stands with the methods. SciPy is imported
where it is used.

P(i before j) = 1 / (1 + exp(-(s_i - s_j))) (Bradley and Terry 1952). Wins may be shares: half a win each is a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PRIOR = 0.1
"""The inverse variance of the normal distribution round 0 that strengths are taken from (standard deviation 3.2): as
much as a tenth of what one comparison of two strengths far apart could say. 0 is maximum likelihood."""
EXACT_ERRORS = 2000
"""Up to so many things standard errors come from the whole inverse; above it they are lower bounds."""
_STEPS, _HALVINGS, _NEAR, _ROUNDING = 100, 40, 1e-10, 1e-10


@dataclass(frozen=True)
class Strengths:
    """A fitted strength for each thing, mean 0 in each component."""

    strength: np.ndarray
    """(n,) float64. NaN where there is none: never compared, or (without a prior) no finite maximum."""
    error: np.ndarray
    """(n,) float64: standard error of a strength against the mean of its component; NaN where there is none."""
    component: np.ndarray
    """(n,) int64: things that a chain of comparisons joins have the same number, 0 for the largest such set (ties: the
    one with the lowest index); -1 for what was never compared. Strengths of two components cannot be compared."""
    comparisons: np.ndarray
    """(n,) float64: how often each was compared."""
    converged: bool
    exact_errors: bool


def fit(
    n: int, first: np.ndarray, second: np.ndarray, wins: np.ndarray, times: np.ndarray, prior: float = PRIOR
) -> Strengths:
    """The likeliest strengths of ``n`` things.

    Equation: argmax_s sum_k [w_k ln S(s_i - s_j) + (t_k - w_k) ln S(s_j - s_i)] - (prior / 2) sum_i s_i^2, where S is
    the logistic function, and the first thing of line k was preferred in w_k of t_k comparisons with the second.

    Newton's method with halved steps; each step is solved by conjugate gradients, so that the cost follows the number
    of pairs. With a prior every compared thing has a finite strength, also one that never lost; without one (0) a
    component has strengths only if a chain of wins leads from each of its things to each other (Ford 1957), and is NaN
    otherwise.
    """
    first, second, wins, times = _checked(n, first, second, wins, times, prior)
    if not len(first):
        none = np.full(n, np.nan)
        return Strengths(none, none.copy(), np.full(n, -1, dtype=np.int64), np.zeros(n), True, True)
    component = _components(n, first, second, wins, times, strong=False)
    compared = np.bincount(first, times, n) + np.bincount(second, times, n)
    free = component >= 0
    if prior == 0:
        strong = _components(n, first, second, wins, times, strong=True)
        whole = {c: len(set(strong[component == c].tolist())) == 1 for c in np.unique(component[free]).tolist()}
        free = np.array([c >= 0 and whole[c] for c in component.tolist()], dtype=np.bool_)
    keep = free[first]
    first, second, wins, times = first[keep], second[keep], wins[keep], times[keep]
    strength, converged = _newton(n, first, second, wins, times, prior)
    strength = _centred(strength, component)
    error, exact = _errors(strength, first, second, times, prior, component, free)
    strength[~free] = np.nan
    return Strengths(strength, error, component, compared, converged, exact)


def cross_entropy(differences: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -[y ln S(d) + (1 - y) ln S(-d)]: d = 1 and y = .8 are .513262."""
    d, y = np.asarray(differences, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    return float((y * np.logaddexp(0.0, -d) + (1 - y) * np.logaddexp(0.0, d)).mean())


def linear(differences: np.ndarray, labels: np.ndarray, strength: float) -> np.ndarray:
    """The weights w of strengths s(x) = w . x that make soft comparisons likeliest, under a penalty on their squares.

    Equation: argmin_w -strength * sum_k [y_k ln S(w . d_k / s) + (1 - y_k) ln S(-w . d_k / s)] + |w|^2 / 2 with
    d_k = x_i - x_j, y_k = P(i before j), S the logistic function and s the root mean square of each feature's
    differences; given back for d as it is (w / s). With labels of 0 and 1 this is `methods.quality.preference.fit`.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    y = np.asarray(labels, dtype=np.float64)
    scale = np.sqrt((np.asarray(differences, dtype=np.float64) ** 2).mean(axis=0))
    scale[scale == 0] = 1.0
    d = differences / scale

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = d @ w
        value = strength * (y * np.logaddexp(0.0, -margin) + (1 - y) * np.logaddexp(0.0, margin)).sum() + w @ w / 2
        return float(value), strength * (d.T @ (expit(margin) - y)) + w

    found = minimize(loss, np.zeros(d.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-6})
    return found.x / scale


# ---- how it is fitted -----------------------------------------------------------------------------------------------


def _checked(
    n: int, first: np.ndarray, second: np.ndarray, wins: np.ndarray, times: np.ndarray, prior: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    wins, times = np.asarray(wins, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if not len(first) == len(second) == len(wins) == len(times):
        raise ValueError("first, second, wins and times have a line each a comparison")
    if not prior >= 0:
        raise ValueError(f"the prior is {prior}; give 0 or more")
    if len(first) and (min(first.min(), second.min()) < 0 or max(first.max(), second.max()) >= n):
        raise ValueError(f"a comparison names a thing outside of 0 to {n - 1}")
    if (first == second).any():
        raise ValueError("a thing is compared with itself")
    if not (np.isfinite(times).all() and (wins >= 0).all() and (wins <= times).all()):
        raise ValueError("wins are from 0 to the number of comparisons")
    said = times > 0
    return first[said], second[said], wins[said], times[said]


def _components(
    n: int, first: np.ndarray, second: np.ndarray, wins: np.ndarray, times: np.ndarray, strong: bool
) -> np.ndarray:
    """Labels from the largest component to the smallest; -1 for what no line names. ``strong``: along wins only."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    beaten = np.concatenate([second[wins > 0], first[wins < times]])
    winner = np.concatenate([first[wins > 0], second[wins < times]])
    graph = coo_matrix((np.ones(len(beaten)), (beaten, winner)), shape=(n, n)).tocsr()
    _, label = connected_components(graph, directed=True, connection="strong" if strong else "weak")
    seen = np.zeros(n, dtype=np.bool_)
    seen[first] = seen[second] = True
    names, start, size = np.unique(label[seen], return_index=True, return_counts=True)
    place = np.full(label.max(initial=0) + 1, -1, dtype=np.int64)
    place[names[np.lexsort((start, -size))]] = np.arange(len(names))
    return np.where(seen, place[label], -1).astype(np.int64)


def _newton(
    n: int, first: np.ndarray, second: np.ndarray, wins: np.ndarray, times: np.ndarray, prior: float
) -> tuple[np.ndarray, bool]:
    from scipy.special import expit

    def loss(s: np.ndarray) -> float:
        d = s[first] - s[second]
        said = wins * np.logaddexp(0.0, -d) + (times - wins) * np.logaddexp(0.0, d)
        return float(said.sum() + prior / 2 * (s @ s))

    s = np.zeros(n)
    now = loss(s)
    most = (np.bincount(first, times, n) + np.bincount(second, times, n)).max(initial=1.0)
    for _ in range(_STEPS):
        p = expit(s[first] - s[second])
        pull = times * p - wins
        gradient = np.bincount(first, pull, n) - np.bincount(second, pull, n) + prior * s
        if np.abs(gradient).max(initial=0.0) <= _NEAR * most:
            return s, True
        step = -_solved(times * p * (1 - p), first, second, prior, gradient)
        slope, length = float(gradient @ step), 1.0
        close = -slope <= _ROUNDING * max(1.0, abs(now))  # the loss cannot tell any more whether a step is good
        for _ in range(_HALVINGS):
            then = loss(s + length * step)
            if close or then <= now + 1e-4 * length * slope:
                break
            length /= 2
        s, now = s + length * step, then
    return s, False


def _solved(weight: np.ndarray, first: np.ndarray, second: np.ndarray, prior: float, right: np.ndarray) -> np.ndarray:
    """x of (L + prior) x = right, L being the Laplacian of the weighted comparisons: conjugate gradients, scaled by the
    diagonal. Without a prior L is singular, but ``right`` sums to 0 in each component, which is enough."""
    from scipy.sparse import coo_matrix

    n = len(right)
    diagonal = np.bincount(first, weight, n) + np.bincount(second, weight, n) + prior
    places = (np.concatenate([first, second]), np.concatenate([second, first]))
    links = coo_matrix((np.concatenate([weight, weight]), places), shape=(n, n)).tocsr()

    def times(x: np.ndarray) -> np.ndarray:
        return diagonal * x - links @ x

    return _conjugate(times, np.where(diagonal > 0, diagonal, 1.0), right)


def _conjugate(times: Callable[[np.ndarray], np.ndarray], diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    x, rest = np.zeros_like(right), right.copy()
    scaled = rest / diagonal
    direction, energy = scaled.copy(), float(rest @ scaled)
    goal = 1e-20 * energy
    for _ in range(10 * len(right) + 10):
        if energy <= goal or energy == 0:
            break
        image = times(direction)
        curve = float(direction @ image)
        if curve <= 0:
            break
        x += energy / curve * direction
        rest -= energy / curve * image
        scaled = rest / diagonal
        before, energy = energy, float(rest @ scaled)
        direction = scaled + energy / before * direction
    return x


def _centred(strength: np.ndarray, component: np.ndarray) -> np.ndarray:
    """Mean 0 in each component (with a prior it is so anyway, up to rounding)."""
    at = component + 1
    mean = np.bincount(at, strength) / np.maximum(np.bincount(at), 1)
    return strength - mean[at]


def _errors(
    strength: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    times: np.ndarray,
    prior: float,
    component: np.ndarray,
    free: np.ndarray,
) -> tuple[np.ndarray, bool]:
    """Roots of the diagonal of the inverse of the curvature, the component's common shift left out."""
    from scipy.special import expit

    n = len(strength)
    p = expit(strength[first] - strength[second])
    weight = times * p * (1 - p)
    diagonal = np.bincount(first, weight, n) + np.bincount(second, weight, n) + prior
    error = np.full(n, np.nan)
    if int(free.sum()) > EXACT_ERRORS:
        error[free] = 1 / np.sqrt(diagonal[free])
        return error, False
    for name in np.unique(component[free]).tolist():
        mine = np.flatnonzero(component == name)
        place = np.full(n, -1)
        place[mine] = np.arange(len(mine))
        curvature = np.diag(diagonal[mine])
        here = component[first] == name
        i, j, w = place[first[here]], place[second[here]], weight[here]
        np.add.at(curvature, (i, j), -w)
        np.add.at(curvature, (j, i), -w)
        # All ones are an eigenvector (of the value `prior`): moved to 1, inverted, and taken out again.
        shift = (1 - prior) / len(mine)
        variance = np.diag(np.linalg.inv(curvature + shift)) - 1 / len(mine)
        error[mine] = np.sqrt(np.maximum(variance, 0.0))
    return error, True
