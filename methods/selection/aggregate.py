"""Many indicators into one score, and one score into keep or drop (survey Eq. 3-6 and 19).

Here belongs arithmetic on columns of scores: `aggregate`, the ECDF, and the gates. Ordering rows by a score and
choosing under a budget stand in ``selection/basic.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl

from methods.kinds import OK, Direction, statused

Normalise = Literal["zscore", "rank", "minmax", "none"]
Mode = Literal["mean", "sum", "product", "min", "mean_rank"]
NullPolicy = Literal["drop", "ignore", "worst"]
Target = float | Sequence[float]
TIE = 1e-9
"""Values this close (relative to their size) are one value: rounding must not order them."""
_NORMALISE = ("zscore", "rank", "minmax", "none")
_MODES = ("mean", "sum", "product", "min", "mean_rank")
_POLICIES = ("drop", "ignore", "worst")
_BOUNDS = ("above", "at_least", "below", "at_most")


def aggregate(
    scores: pl.DataFrame,
    weights: Mapping[str, float] | None,
    directions: Mapping[str, Direction],
    normalise: Normalise = "zscore",
    mode: Mode = "mean",
    null_policy: NullPolicy = "drop",
    targets: Mapping[str, Target] | None = None,
) -> pl.DataFrame:
    """One score out of several indicators: f(IND_1(x), ..., IND_M(x)), higher = take first (survey Eq. 3, 6, 19).

    First every column is turned so that more is better: ``lower`` is negated; ``band`` needs a target and becomes
    minus the distance to it. Then every column is normalised by itself, over all its values that are there:

    - ``zscore``: (x - mean) / population standard deviation; 0 throughout for a constant column;
    - ``rank``: the share of values <= x (ties share the largest rank), in (0, 1];
    - ``minmax``: (x - min) / (max - min); 0.5 throughout for a constant column;
    - ``none``: as it is.

    Then the columns are joined, with weights w (default 1 each; a column of weight 0 is left out altogether):

    - ``mean``: sum(w z) / sum(w).  ``sum``: sum(w z).
    - ``product``: prod(z^w), for values that cannot be negative; elsewhere null with status ``negative_factor``.
      With ``normalise="none"`` this is DEITA's complexity x quality.
    - ``min``: the worst column decides; takes no weights.
    - ``mean_rank``: the weighted mean of the ``rank`` forms, whatever ``normalise`` says.

    The survey names no default f; z-scores and a weighted mean are the usual linear combination. (Regression onto
    a measured loss is the method ``instruction_mining``.)

    Parameters
    ----------
    scores : ``row_id`` and a Float64 column an indicator; null, NaN and infinity all mean "no value".
    weights : weight of each column, None for equal. Columns of ``scores`` that it does not name are refused.
    directions : ``higher``, ``lower`` or ``band`` for each column.
    null_policy : what a missing value does to its row. ``drop``: the row has no score, and the status says which
        indicators are missing (``missing: ifd, reward``). ``ignore``: the others decide; only a row without any value
        has no score. ``worst``: it counts as the worst value of its column.
    targets : for ``band`` columns: the ideal value, or [low, high] in the indicator's own unit.

    Returns
    -------
    ``row_id``, ``value`` (Float64, null without a score), ``status``; same height and order as ``scores``.
    """
    _one_of("normalise", normalise, _NORMALISE)
    _one_of("mode", mode, _MODES)
    _one_of("null_policy", null_policy, _POLICIES)
    names, weight = _weights([c for c in scores.columns if c != "row_id"], weights)
    _refuse_nonsense(names, weight, directions, normalise, mode)
    form: Normalise = "rank" if mode == "mean_rank" else normalise
    columns = [_oriented(scores[name], name, directions[name], (targets or {}).get(name)) for name in names]
    z = np.column_stack([_normalised(column, form) for column in columns])
    missing = np.isnan(z)
    if null_policy == "worst":
        z = np.column_stack([_filled_with_worst(column) for column in z.T])
    blocked = np.isnan(z).all(axis=1) if null_policy == "ignore" else np.isnan(z).any(axis=1)
    value, status = _joined(z, weight, mode)
    naming = np.isnan(z) if null_policy == "worst" else missing
    for row in np.flatnonzero(blocked):
        status[row] = "missing: " + ", ".join(name for name, gone in zip(names, naming[row], strict=True) if gone)
    return scores.select("row_id").hstack(statused(np.where(blocked, np.nan, value), status))


def ecdf(values: np.ndarray) -> np.ndarray:
    """F(s_i) = #{s_j <= s_i} / N: the right-continuous ECDF, ties share the largest rank; NaN stays out and NaN.

    The smallest of N distinct values stands at 1/N, not at 0.
    """
    rank, n = _ranks(values)
    return rank / max(n, 1)


def select_threshold(
    values: np.ndarray,
    low: float | None = None,
    high: float | None = None,
    inclusive: tuple[bool, bool] = (False, False),
) -> np.ndarray:
    """Keep low < s < high, both strict unless ``inclusive`` says otherwise (survey Eq. 4); NaN is never kept.

    References differ in the bounds: AlpaGasus keeps s >= 4.5, Superfiltering s < 1.
    """
    values = np.asarray(values, dtype=np.float64)
    keep = np.isfinite(values)
    if low is not None:
        keep &= values >= low if inclusive[0] else values > low
    if high is not None:
        keep &= values <= high if inclusive[1] else values < high
    return keep


def select_percentile(
    values: np.ndarray, low: float, high: float, inclusive: tuple[bool, bool] = (True, True)
) -> np.ndarray:
    """Keep low <= F(s) <= high with shares in [0, 1] and F the `ecdf` (survey Eq. 5); NaN is never kept.

    Whole ranks are compared with low N and high N (within 1e-9), not floating shares. With the closed lower bound of
    the equation "0.8 to 1" keeps 3 of 10 rows; the top fifth exactly is ``inclusive=(False, True)``.
    """
    rank, n = _ranks(values)
    with np.errstate(invalid="ignore"):
        above = rank >= low * n - TIE if inclusive[0] else rank > low * n + TIE
        below = rank <= high * n + TIE if inclusive[1] else rank < high * n - TIE
    return above & below & np.isfinite(rank)


def gate(
    values: pl.Series | np.ndarray,
    rule: Mapping[str, object],
    status: pl.Series | None = None,
) -> tuple[np.ndarray, list[str | None]]:
    """Keep the rows that satisfy every bound of ``rule``; a row without a value never passes.

    Parameters
    ----------
    values : n numbers; null, NaN and infinity mean "no value".
    rule : any of ``above``, ``at_least``, ``below``, ``at_most`` (in the indicator's unit) and
        ``percentile: [lo, hi]`` on the scale 0 to 100, which keeps lo < 100 F(s) <= hi with F the `ecdf` of the
        values that are there. The lower bound is open so that [80, 100] keeps exactly the top fifth and adjoining
        bands share no row.
    status : why a value is missing, quoted in the reason.

    Returns
    -------
    keep : (n,) bool.
    reason : a sentence for every row that is dropped, None for every row that is kept.
    """
    numbers = _numbers(values)
    checks = _checks(numbers, rule)
    keep = np.isfinite(numbers)
    for passes, _ in checks:
        keep &= passes
    place = 100 * ecdf(numbers)
    reason: list[str | None] = [None] * len(numbers)
    for row in np.flatnonzero(~keep):
        if not np.isfinite(numbers[row]):
            why = status[int(row)] if status is not None else None
            reason[row] = f"no value ({why})" if why and why != OK else "no value"
            continue
        said = (text for passes, text in checks if not passes[row])
        reason[row] = "; ".join(said).format(value=f"{numbers[row]:.6g}", place=f"{place[row]:.4g}")
    return keep, reason


def _checks(numbers: np.ndarray, rule: Mapping[str, object]) -> list[tuple[np.ndarray, str]]:
    """Each bound of a rule: who passes it, and what to say of the others."""
    unknown = [key for key in rule if key not in (*_BOUNDS, "percentile")]
    if unknown or not rule:
        got = ", ".join(unknown) or "nothing"
        raise ValueError(f"a gate takes above, at_least, below, at_most or percentile: [lo, hi]; got {got}")
    checks = []
    for key, bound in rule.items():
        if key == "percentile":
            low, high = _percentiles(bound)
            passes = select_percentile(numbers, low / 100, high / 100, inclusive=(False, True))
            checks.append((passes, f"{{value}} stands at percentile {{place}}, outside {low:g} to {high:g}"))
            continue
        limit = _number(key, bound)
        side = {"low": limit} if key in ("above", "at_least") else {"high": limit}
        closed = key in ("at_least", "at_most")
        passes = select_threshold(numbers, **side, inclusive=(closed, closed))
        checks.append((passes, f"{{value}} is not {key.replace('_', ' ')} {limit:g}"))
    return checks


def _percentiles(bound: object) -> tuple[float, float]:
    if not isinstance(bound, Sequence) or isinstance(bound, str) or len(bound) != 2:
        raise ValueError(f"percentile takes two numbers from 0 to 100, e.g. [25, 75]; got {bound!r}")
    low, high = (_number("percentile", side) for side in bound)
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentile must be [lo, hi] with 0 <= lo < hi <= 100; got [{low:g}, {high:g}]")
    if high <= 1:
        raise ValueError(f"percentile runs from 0 to 100: write [{low * 100:g}, {high * 100:g}]")
    return low, high


def _number(key: str, bound: object) -> float:
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not np.isfinite(bound):
        raise ValueError(f"{key} takes a finite number, got {bound!r}")
    return float(bound)


def _numbers(values: pl.Series | np.ndarray) -> np.ndarray:
    """Float64 with NaN for everything that is no finite number."""
    if isinstance(values, pl.Series):
        values = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    numbers = np.array(values, dtype=np.float64)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _ranks(values: np.ndarray) -> tuple[np.ndarray, int]:
    """#{s_j <= s_i} as float64 (NaN for rows without a value), and how many have one. Values within `TIE` are one."""
    numbers = _numbers(values)
    rank = np.full(len(numbers), np.nan)
    rows = np.flatnonzero(np.isfinite(numbers))
    if len(rows):
        order = rows[np.argsort(numbers[rows], kind="stable")]
        ends = np.append(np.flatnonzero(~tied(numbers[order])), len(order) - 1)
        rank[order] = ends[np.searchsorted(ends, np.arange(len(order)))] + 1
    return rank, len(rows)


def tied(ordered: np.ndarray) -> np.ndarray:
    """(n - 1,) whether each value of an ordered array is one with the next: equal up to `TIE` of their size."""
    here, after = ordered[:-1], ordered[1:]
    with np.errstate(invalid="ignore"):
        near = np.abs(here - after) <= TIE * np.maximum(np.abs(here), np.abs(after))
    return np.where(np.isfinite(here) & np.isfinite(after), near, here == after)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def _weights(columns: list[str], weights: Mapping[str, float] | None) -> tuple[list[str], np.ndarray]:
    """The columns that count and their weights."""
    given = dict.fromkeys(columns, 1.0) if weights is None else dict(weights)
    strangers = sorted(set(given) ^ set(columns))
    if strangers:
        differ = ", ".join(strangers)
        raise ValueError(f"weights and score columns must name the same indicators; they differ in {differ}")
    for name, value in given.items():
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"the weight of {name} is {value}: use a number >= 0, and directions to turn an indicator")
    names = [name for name in columns if given[name] > 0]
    if not names:
        raise ValueError("nothing to aggregate: name at least one indicator with a weight above 0")
    return names, np.array([given[name] for name in names], dtype=np.float64)


def _refuse_nonsense(
    names: list[str], weight: np.ndarray, directions: Mapping[str, Direction], normalise: str, mode: str
) -> None:
    for name in names:
        if name not in directions:
            raise ValueError(f"no direction for {name}: say higher, lower or band")
        _one_of(f"the direction of {name}", directions[name], ("higher", "lower", "band"))
    if mode == "min" and np.ptp(weight) > 0:
        raise ValueError("mode='min' takes no weights: the worst indicator decides; use mode='mean' to weigh them")
    turned = [name for name in names if directions[name] != "higher"]
    if mode == "product" and (normalise == "zscore" or (normalise == "none" and turned)):
        raise ValueError(
            "mode='product' needs values that are not negative: use normalise='rank' or 'minmax'"
            + ("" if turned else " (or 'none' for indicators that are never negative)")
        )


def _oriented(column: pl.Series, name: str, direction: Direction, target: Target | None) -> np.ndarray:
    """The column as numbers of which more is better."""
    numbers = _numbers(column)
    if direction == "band":
        if target is None:
            raise ValueError(
                f"{name} has no better end (direction 'band'): give targets={{'{name}': value or [low, high]}}, "
                f"or leave it out here and gate it by percentile: [lo, hi]"
            )
        low, high = (target, target) if isinstance(target, int | float) else target
        if not low <= high:
            raise ValueError(f"the target of {name} must be a number or [low, high], got {target!r}")
        return -np.maximum(np.maximum(low - numbers, numbers - high), 0.0)
    return -numbers if direction == "lower" else numbers


def _normalised(numbers: np.ndarray, form: Normalise) -> np.ndarray:
    some = numbers[np.isfinite(numbers)]
    if form == "none" or not len(some):
        return numbers
    if form == "rank":
        return ecdf(numbers)
    low, high = float(some.min()), float(some.max())
    constant = high - low <= TIE * max(abs(low), abs(high))
    if form == "minmax":
        return np.where(np.isfinite(numbers), 0.5, np.nan) if constant else (numbers - low) / (high - low)
    return numbers * 0.0 if constant else (numbers - some.mean()) / some.std()


def _filled_with_worst(column: np.ndarray) -> np.ndarray:
    some = column[np.isfinite(column)]
    return np.where(np.isfinite(column), column, some.min()) if len(some) else column


def _joined(z: np.ndarray, weight: np.ndarray, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """Value and status of each row, from the values that are there (NaN is not)."""
    there = np.isfinite(z)
    status = np.full(len(z), OK, dtype=object)
    if mode == "min":
        return np.where(there, z, np.inf).min(axis=1), status
    if mode == "product":
        negative = (there & (z < 0)).any(axis=1)
        status[negative] = "negative_factor"
        return np.where(there, np.where(there & (z >= 0), z, 1.0) ** weight, 1.0).prod(axis=1), status
    total = np.where(there, z, 0.0) @ weight
    if mode == "sum":
        return total, status
    with np.errstate(invalid="ignore"):
        return total / (there @ weight), status
