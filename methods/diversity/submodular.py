"""Sums over the pool with something beside them: facility location with quality (QDIT), graph cut in bins (DQ).

Here belong the selectors that maximise such a sum greedily. Facility location alone stands in ``facility.py``, the
greedy choice itself in ``maximise.py``.
"""

from __future__ import annotations

import numpy as np

from methods.diversity.facility import all_vectors
from methods.diversity.maximise import Bonus, Similarity, Way, maximise
from methods.kinds import Candidates, Chosen, Selector
from methods.numerics.columns import Columns
from methods.numerics.similarity import QUANTUM, QUANTUM_BITS, blocks, in_two
from methods.selection.basic import at_most, quotas, require


def qdit(
    candidates: Candidates,
    budget: int,
    seed: int = 0,
    alpha: float = 0.5,
    normalize: bool | str = True,
    similarity: Similarity = "cosine",
    epsilon: float | None = None,
    method: Way = "auto",
    neighbours: int = 64,
) -> Chosen:
    """Rows that stand for the pool and are good: facility location and quality, weighed against each other (Alg. 5).

    Equation: take argmax_a (1 - alpha) d(a|A) + alpha q(a), where d(a|A) = sum_i max(0, s_ia - max_{k in A} s_ik) is
    what a adds to the facility location of the rows A chosen before. Submodular plus modular: the lazy choice is that
    of computing every value anew.

    Parameters: `alpha` is the weight of quality (.5; 0 is `facility_location`, 1 takes the highest scores).
    `normalize`: True divides d by the number of rows and brings q to [0, 1] by the least and greatest score of the
    candidates (all equal: 0); `"first"` divides d by the largest gain of a single row instead; False takes both as
    they are, where d is up to N and q in its own unit. `similarity`, `epsilon`, `method` and `neighbours` are those of
    `facility_location`.

    Gain: (1 - alpha) d + alpha q as weighed. Ties go to the lowest index. Values are tied within 1e-9 and what the
    rounding of similarities to 2^-22 can make of a sum of N of them, sqrt(N) such steps.

    Source: Bukharin and Zhao 2023, QDIT (arXiv 2311.14736).

    Departures: the survey writes the value of A and a together in place of the gain (the same choice) and no
    normalisation, without which the gain of thousands of rows drowns a quality of 0 to 5. Under `greedi` each shard
    weighs its own sums, scaled to the pool.
    """
    if isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise ValueError(f"qdit: alpha lies between 0 and 1, got {alpha}")
    if not (normalize is True or normalize is False or normalize == "first"):
        raise ValueError(f"qdit: normalize is True, 'first' or False, got {normalize!r}")
    n_take = at_most(candidates, budget)
    score = all_scores(candidates, "qdit")
    vectors = all_vectors(candidates, "qdit")
    quality = score if normalize is False else min_max(score)
    bonus = Bonus(alpha, quality, "first" if normalize == "first" else "rows" if normalize else "one", len(quality))
    found = maximise(vectors, n_take, similarity, epsilon, seed, method, neighbours, bonus)
    gain = (1 - alpha) * found.gain / found.unit + alpha * quality[found.order]
    reason = [
        f"value {worth:.6g}: {1 - alpha:.6g} x {part:.6g} for the rows it stands for + {alpha:.6g} x {good:.6g} for "
        f"quality (score {score[row]:.6g}); {why}"
        for row, worth, part, good, why in zip(
            found.order, gain, found.gain / found.unit, quality[found.order], found.reasons(), strict=True
        )
    ]
    return Chosen(found.order, gain, reason, found.nearest)


def all_scores(candidates: Candidates, method: str) -> np.ndarray:
    """The scores, or an error that names the method: in a sum one that is not finite would decide every choice."""
    score = require(candidates, "score", method).astype(np.float64)
    if not np.isfinite(score).all():
        raise ValueError(f"{method}: a score is not finite; drop such rows, with a reason, before it")
    return score


def min_max(score: np.ndarray) -> np.ndarray:
    """To [0, 1] by the least and the greatest; all 0 where they are the same (within 1e-9 of their size)."""
    if not len(score):
        return score.astype(np.float64)
    low, high = float(score.min()), float(score.max())
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
        return np.zeros(len(score))
    return (score - low) / (high - low)


def dataset_quantization(
    candidates: Candidates, budget: int, seed: int = 0, bins: int = 10, ratio: float | None = None
) -> Chosen:
    """The pool cut into bins from the most central and varied rows to the rest, and as many drawn by chance from each.

    Equation: k rounds; in each, N // k times the row i not yet binned of the largest graph-cut gain
    sum_{j in P} s_ij - 2 sum_{j in B} s_ij, where P is what earlier rounds left (i included, and what this round
    binned too), B this round's bin, s the cosine. Then the budget is drawn without replacement from the bins alike.

    Parameters: `bins` is k (10; at most one a row). `ratio`: None lets the budget decide; a number in (0, 1] draws at
    most the paper's int(N ratio) rows (.1 there), if that is fewer.

    Exact and without an N x N matrix: the sums over P are products with one vector, the sum of P's vectors; those over
    B are kept up with one column of cosines a pick, of which 32 likely ones are made together. O(N^2 d) operations
    (half of N^2 pairs), O(N d) memory. Sums are rounded to whole steps of 2^-20 and tied rows go by index.

    Gain: the graph-cut gain with which the row was put into its bin; the order is bin by bin, and within one by chance.

    Source: Zhou et al. 2023, Dataset Quantization (arXiv 2308.10524), as applied there to instruction data.

    Departures: the N mod k rows that the reference never samples join the last bin. Where the budget is no multiple
    of k, the first bins give one more, and what a bin lacks is given by the others.
    """
    if isinstance(bins, bool) or bins < 1:
        raise ValueError(f"dataset_quantization: bins must be at least 1, got {bins}")
    if ratio is not None and not 0 < ratio <= 1:
        raise ValueError(f"dataset_quantization: ratio lies above 0 and up to 1, or is left out; got {ratio}")
    n_take = at_most(candidates, budget)
    vectors = all_vectors(candidates, "dataset_quantization")
    n = len(vectors)
    if ratio is not None:
        n_take = min(n_take, int(n * ratio + 1e-9))
    if n_take == 0:
        return Chosen(np.empty(0, dtype=np.int64), np.empty(0), [])
    order, gain = _binned(vectors, min(bins, n))
    rng = np.random.default_rng(seed)
    sizes = np.array([len(rows) for rows in order])
    picked: list[int] = []
    gains: list[float] = []
    reason: list[str] = []
    for number, (rows, worth, quota) in enumerate(zip(order, gain, quotas(sizes, n_take, "equal"), strict=True)):
        for place in rng.permutation(len(rows))[:quota].tolist():
            picked.append(int(rows[place]))
            gains.append(float(worth[place]))
            reason.append(
                f"drawn by chance from bin {number + 1} of {len(order)}, where it came {place + 1} of {len(rows)} "
                f"with a graph-cut gain of {worth[place]:.6g}"
            )
    return Chosen(np.array(picked, dtype=np.int64), np.array(gains), reason)


def _binned(vectors: np.ndarray, bins: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The rows of each bin in the order of their picks, and the gains they were picked with."""
    pool = np.arange(len(vectors))
    size = len(pool) // bins
    order: list[np.ndarray] = []
    gain: list[np.ndarray] = []
    for number in range(bins):
        wanted = size if number + 1 < bins else len(pool)
        places, gains = graph_cut(vectors[pool], wanted)
        order.append(pool[places])
        gain.append(gains)
        pool = np.delete(pool, places)
    return order, gain


def graph_cut(vectors: np.ndarray, n_take: int) -> tuple[np.ndarray, np.ndarray]:
    """The greedy order of ``n_take`` rows by graph cut, and the gain of each."""
    columns = Columns(vectors)
    total = np.zeros(vectors.shape[1])
    for part in blocks(len(vectors)):
        total += columns.grid[part].sum(axis=0, dtype=np.float64)
    value = np.empty(len(vectors))
    for part in blocks(len(vectors)):
        high, low = in_two(total) @ columns.grid[part].astype(np.float64).T
        value[part] = np.rint((high + low) * 2.0**QUANTUM_BITS)
    order = np.empty(n_take, dtype=np.int64)
    gain = np.empty(n_take)
    for place in range(n_take):
        row = int(np.argmax(value))
        order[place], gain[place] = row, value[row] * QUANTUM
        column = columns.column(row, value)
        value -= 2.0 * column
        value[row] = -np.inf
    return order, gain


SELECTORS = (
    Selector(
        id="qdit",
        title="QDIT: facility location with quality",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="argmax_{a} (1 - alpha) d(a|A) + alpha q(a), d the gain of facility location",
        paper="Bukharin and Zhao 2023, QDIT, arXiv 2311.14736",
        meaning="Rows that stand for the pool and score well; alpha says how much the score counts (0: not at all, "
        "1: nothing else does).",
        needs=("score", "vectors"),
        params={
            "alpha": 0.5,
            "normalize": True,
            "similarity": "cosine",
            "epsilon": None,
            "method": "auto",
            "neighbours": 64,
        },
        select=qdit,
    ),
    Selector(
        id="dataset_quantization",
        title="Dataset quantization: graph cut in bins",
        axis="diversity",
        family="coreset",
        section="4.3",
        equation="k bins of N/k rows, each greedily by sum_{j in P} s_ij - 2 sum_{j in B} s_ij; a share of each drawn",
        paper="Zhou et al. 2023, Dataset Quantization, arXiv 2308.10524",
        meaning="A sample that holds the typical and the odd rows in fixed shares: the pool is laid out in bins from "
        "the most central, least repetitive rows to the rest, and each bin gives the same number.",
        needs=("vectors",),
        version="2",
        params={"bins": 10, "ratio": None},
        select=dataset_quantization,
    ),
)
