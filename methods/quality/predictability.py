"""Predictability (survey 3.2, Eq. 13, and 5.3): how often a simple classifier that did not see a row guesses its class.

Here belong AFLite and the proxy that it refines: linear classifiers on the embeddings that are there already, trained
again and again on a random part of the pool and asked for the rest. Instruction data has no class, so one is derived
(`class_labels`). Scores of a language model stand in `methods.quality.model`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, Pool, statused

Classify = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""Vectors (t, d) and their class labels (t,) to a function that guesses the labels of other vectors."""

LABELS = ("cluster", "source", "length")
CLASSIFIERS = ("logistic", "svm", "both")
FEWEST = 10
"""With fewer rows than this nothing is said."""
BLOCK = 16_384
"""Rows that are asked for at once."""
_LENGTH_CLASSES = 4
_BUDGET = 100
"""Most iterations of a fit: a fit that has not converged by then guesses nearly as well."""


# --- the class -------------------------------------------------------------------------------------------------------
def class_labels(pool: Pool, label: str = "cluster") -> np.ndarray:
    """(n,) int64: a class for each row, -1 for none: its cluster, its source, or the quarter that its length is in."""
    if label not in LABELS:
        raise ValueError(f"label must be one of {', '.join(LABELS)}; got {label!r}")
    if label == "cluster":
        if pool.clusters is None:
            raise ValueError("label 'cluster' reads clusters, and this pool has none")
        return np.maximum(np.asarray(pool.clusters, dtype=np.int64), -1)
    if pool.texts is None:
        raise ValueError(f"label {label!r} reads texts, and this pool has none")
    if label == "source":
        return pool.texts["source"].rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    return _quarters(pool.texts["response"].str.len_chars())


def _quarters(lengths: pl.Series) -> np.ndarray:
    """Which quarter of the pool a length is in, 0 to 3; equal lengths are in one quarter; no text is in none."""
    known = lengths.replace({0: None})
    rank = known.rank("max").cast(pl.Float64) / max(known.len() - known.null_count(), 1)
    quarter = (rank * _LENGTH_CLASSES).ceil().cast(pl.Int64) - 1
    return quarter.fill_null(-1).to_numpy()


# --- the classifiers -------------------------------------------------------------------------------------------------
def logistic(vectors: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Logistic regression over all classes at once (scikit-learn's, C = 1)."""
    from sklearn.linear_model import LogisticRegression

    return _fitted(LogisticRegression(max_iter=_BUDGET), vectors, labels)


def svm(vectors: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A linear support vector machine, each class against the rest (scikit-learn's, C = 1)."""
    from sklearn.svm import LinearSVC

    return _fitted(LinearSVC(max_iter=_BUDGET, random_state=0), vectors, labels)


def _fitted(model: Any, vectors: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(vectors, labels)
    return model.predict  # type: ignore[no-any-return]


def _classifiers(name: str) -> tuple[Classify, ...]:
    if name not in CLASSIFIERS:
        raise ValueError(f"classifier must be one of {', '.join(CLASSIFIERS)}; got {name!r}")
    return {"logistic": (logistic,), "svm": (svm,), "both": (logistic, svm)}[name]


# --- held out, asked and counted -------------------------------------------------------------------------------------
def random_splits(n: int, train_size: int, splits: int, seed: int | list[int]) -> Iterator[np.ndarray]:
    """The rows to train on, ``splits`` times: drawn without replacement, in ascending order."""
    rng = np.random.default_rng(seed)
    for _ in range(splits):
        yield np.sort(rng.permutation(n)[:train_size])


def held_out_share(
    vectors: np.ndarray, labels: np.ndarray, trains: Iterable[np.ndarray], classifiers: Iterable[Classify]
) -> np.ndarray:
    """(n,) float64: of the guesses made for a row while it was held out, the share that was right; NaN for no guess.

    Where a training part has one class only, that class is every guess. Held-out rows are asked for in blocks.
    """
    right, asked = np.zeros(len(labels)), np.zeros(len(labels))
    fits = tuple(classifiers)
    for train in trains:
        held = np.setdiff1d(np.arange(len(labels)), train, assume_unique=True)
        one_class = len(np.unique(labels[train])) < 2
        for fit in fits:
            guess = _always(labels[train[0]]) if one_class else fit(vectors[train], labels[train])
            for start in range(0, len(held), BLOCK):
                rows = held[start : start + BLOCK]
                right[rows] += guess(vectors[rows]) == labels[rows]
                asked[rows] += 1
    return np.where(asked > 0, right / np.maximum(asked, 1), np.nan)


def _always(label: np.int64) -> Callable[[np.ndarray], np.ndarray]:
    return lambda vectors: np.full(len(vectors), label)


# --- AFLite ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Filtered:
    """What AFLite did to each row."""

    value: np.ndarray
    """(n,) float64: predictability in the row's last round; NaN where it was never held out."""
    round: np.ndarray
    """(n,) int64: the round, from 1, in which the row was removed; 0 for a row that stayed."""


def filter_rounds(
    assess: Callable[[np.ndarray, int], np.ndarray],
    n: int,
    tau: float,
    k: int,
    target: int,
    rounds: int,
    keep: str = "low",
) -> Filtered:
    """The loop of AFLite round any measure of predictability.

    ``assess(rows, round)`` gives the predictability of these rows among themselves, NaN where it is not known. A round
    removes up to ``k`` rows (never below ``target``) beyond ``tau``: highest first, of those with PRED >= tau, for
    ``keep="low"``; lowest first, of those with PRED < tau, for ``keep="high"``. The last round is one that removed
    fewer than ``k``, that reached the target, or the one numbered ``rounds``.
    """
    value, removed = np.full(n, np.nan), np.zeros(n, dtype=np.int64)
    left, number = np.arange(n), 0
    while len(left) > target and number < rounds:
        number += 1
        found = np.asarray(assess(left, number), dtype=np.float64)
        value[left] = np.where(np.isnan(found), value[left], found)
        with np.errstate(invalid="ignore"):
            beyond = np.flatnonzero(found >= tau if keep == "low" else found < tau)
        worst_first = np.argsort(-found[beyond] if keep == "low" else found[beyond], kind="stable")
        gone = beyond[worst_first][: min(k, len(left) - target)]
        removed[left[gone]] = number
        left = np.delete(left, gone)
        if len(gone) < k:
            break
    return Filtered(value, removed)


# --- the two indicators ----------------------------------------------------------------------------------------------
def _usable(pool: Pool, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows that have a vector and a class, their labels, and the status of every row."""
    if pool.vectors is None:
        raise ValueError("predictability reads vectors, and this pool has none")
    labels = class_labels(pool, label)
    embedded = np.isfinite(pool.vectors).all(axis=1)
    status = np.where(embedded, np.where(labels < 0, "no_class", OK), "no_embedding").astype(object)
    rows = np.flatnonzero(status == OK)
    if len(rows) < FEWEST:
        status[rows] = "too_few_rows"
        return rows[:0], labels[:0], status
    if len(np.unique(labels[rows])) < 2:
        status[rows] = "one_class"
        return rows[:0], labels[:0], status
    return rows, labels[rows], status


def _column(rows: np.ndarray, found: np.ndarray, status: np.ndarray) -> pl.DataFrame:
    """The pool's column, from the values of some of its rows."""
    value = np.full(len(status), np.nan)
    value[rows] = found
    status[rows[np.isnan(found)]] = "never_held_out"
    return statused(value, pl.Series(status.tolist(), dtype=pl.String))


def _refuse(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {number!r}")


def proxy_predictability(
    pool: Pool,
    label: str = "cluster",
    classifier: str = "logistic",
    splits: int = 64,
    train_size: int = 5620,
    seed: int = 0,
) -> pl.DataFrame:
    """How often simple classifiers that did not see a row guess its class from its embedding.

    Equation: PRED_i = #right guesses for i / #guesses for i, over the splits in which i was held out (Eq. 13).
    Held-out guesses (right, -, right), (wrong, right, -), (right, right, right) give 1, .5, 1.

    Direction: lower: a row that anyone guesses teaches little (AFLite's view). With labels that may be wrong the other
    end is the clean one: say `directions: {proxy_predictability: higher}` in the recipe, or give a target for a band.

    Parameters: `label` is the class to be guessed: `cluster`, `source`, or `length` (the quarter of the pool that the
    response's length is in). `classifier` is `logistic`, `svm`, or `both` (two guesses a split); the SVM takes some 40
    times as long with 50 classes. `splits` is the number of random splits; `train_size` the rows that each trains on,
    at most half of those at hand. `seed` is that of the splits.

    Statuses: `no_embedding`; `no_class` (no cluster, source or response); `too_few_rows` (under ten with both);
    `one_class`; `never_held_out` (with few splits).

    Source: Mishra and Sachdeva 2020 (ACL 2020.sustainlp-1.23); Le Bras et al. 2020 (arXiv 2002.04108).

    Departures: the derived classes are our adaptation to data without any. Clusters are cut from the same embedding by
    straight lines, so that most rows are guessed and a low value means a place between topics; `source` asks whether a
    row gives away where it came from. The survey says that predictability is a probability; it is this frequency, whose
    denominator in Eq. 13 must be the number of guesses. A class of one row can never be guessed: its row has 0.
    """
    _refuse(splits=splits, train_size=train_size)
    classifiers = _classifiers(classifier)
    rows, labels, status = _usable(pool, label)
    if not len(rows):
        return _column(rows, np.zeros(0), status)
    assert pool.vectors is not None
    trains = random_splits(len(rows), min(train_size, len(rows) // 2), splits, seed)
    return _column(rows, held_out_share(pool.vectors[rows], labels, trains, classifiers), status)


def aflite(
    pool: Pool,
    label: str = "cluster",
    keep: str = "low",
    classifier: str = "logistic",
    splits: int = 64,
    train_size: int = 5620,
    tau: float = 0.75,
    k: int = 500,
    target: int = 0,
    rounds: int = 10,
    seed: int = 0,
) -> pl.DataFrame:
    """AFLite: predictability, measured again each time that the most predictable rows have been taken out.

    Equation: repeat { PRED_i over `splits` random splits of the rows left; remove up to k rows with PRED >= tau,
    highest first } while more than `target` are left and k were removed. The value is PRED in the row's last round:
    that of its removal, or the last of all.

    Direction: lower: AFLite deletes what is easy to guess, as artefacts. With `keep: high` say `directions: {aflite:
    higher}` in the recipe.

    Parameters: `label` is the class to be guessed: `cluster`, `source` or `length` (see `proxy_predictability`).
    `keep` is `low`, or `high` (rounds take out rows under `tau`, lowest first: the clean-label view of the survey).
    `classifier` is `logistic`, `svm` or `both`. `splits` (64), `tau` (.75) and `k` (500) are the paper's.
    `train_size` is the number of rows that a split trains on, at most half of those left. `target` is the number of
    rows to stop at (0: none); `rounds` is the most rounds. `seed` is that of the splits.

    Statuses: `no_embedding`; `no_class` (no cluster, source or response); `too_few_rows` (under ten with both);
    `one_class`; `never_held_out` (with few splits).

    Source: Le Bras et al. 2020 (arXiv 2002.04108); Sakaguchi et al. 2020, WinoGrande (arXiv 1907.10641).

    Departures: the survey calls higher values better, and the papers delete them: hence `keep`. The classes are our
    adaptation (see `proxy_predictability`). The limit of rounds is ours, for the time that they take; so is half of the
    rows at most to train on, so that every row is held out. A round never goes below `target`. Rounds end when fewer
    than ten rows or one class are left. A row that the last rounds never held out keeps the value that it had before.
    """
    _refuse(splits=splits, train_size=train_size, k=k, rounds=rounds)
    if keep not in ("low", "high"):
        raise ValueError(f"keep must be low or high, got {keep!r}")
    if not 0 <= tau <= 1:
        raise ValueError(f"tau is a share from 0 to 1, got {tau}")
    if target < 0:
        raise ValueError(f"target must not be negative, got {target}")
    classifiers = _classifiers(classifier)
    rows, labels, status = _usable(pool, label)
    if not len(rows):
        return _column(rows, np.zeros(0), status)
    assert pool.vectors is not None
    vectors = pool.vectors[rows]

    def assess(left: np.ndarray, number: int) -> np.ndarray:
        if number > 1 and (len(left) < FEWEST or len(np.unique(labels[left])) < 2):
            return np.full(len(left), np.nan)
        trains = random_splits(len(left), min(train_size, len(left) // 2), splits, [seed, number])
        return held_out_share(vectors[left], labels[left], trains, classifiers)

    # a target of all rows still asks once: every row has a value
    found = filter_rounds(assess, len(rows), tau, k, min(target, len(rows) - 1), rounds, keep)
    return _column(rows, found.value, status)


_NEEDS = ("embedded/minilm", "clustered/kmeans", "filtered/instructions")
_COMMON = {"classifier": "logistic", "splits": 64, "train_size": 5620}

INDICATORS = (
    Indicator(
        id="aflite",
        title="Predictability after rounds of filtering",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"PRED_i = \frac{\#\{right guesses for i\}}{|E_i|}, remove PRED \ge \tau, repeat",
        paper="Le Bras et al. 2020, AFLite, arXiv 2002.04108; Sakaguchi et al. 2020, arXiv 1907.10641",
        meaning="1 for a row whose topic (or source) a simple classifier always guesses: easy, or full of giveaways. "
        "Low values are rows that it gets wrong even after the easiest are gone.",
        needs=_NEEDS,
        params={
            "label": "cluster",
            "keep": "low",
            **_COMMON,
            "tau": 0.75,
            "k": 500,
            "target": 0,
            "rounds": 10,
            "seed": 0,
        },
        direction="lower",
        scope="pool",
        compute=aflite,
    ),
    Indicator(
        id="proxy_predictability",
        title="How often simple classifiers guess a row's class",
        axis="importance",
        family="loss",
        section="5.3",
        equation=r"PRED_i = \frac{\#\{right guesses for i\}}{\#\{guesses for i\}}",
        paper="Mishra & Sachdeva 2020, ACL 2020.sustainlp-1.23; Le Bras et al. 2020, arXiv 2002.04108",
        meaning="1 for a row whose topic (or source) classifiers that never saw it always guess; near 0 for a row that "
        "lies between topics, or is filed under a wrong one.",
        needs=_NEEDS,
        params={"label": "cluster", **_COMMON, "seed": 0},
        direction="lower",
        scope="pool",
        compute=proxy_predictability,
    ),
)
