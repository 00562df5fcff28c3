"""Importance resampling by n-grams (DSIR): rows whose words look more like a target's than like the pool's.

Here belong the log-weights, the draw by them, and the two numbers that say what came of it: the effective sample size
of the weights and the KL reduction of a choice. How a text becomes buckets of n-grams stands in ``ngram_buckets.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from methods.kinds import Candidates, Chosen, Selector
from methods.selection.basic import at_most, best_first, largest_remainder

if TYPE_CHECKING:
    from methods.importance.ngram_buckets import BucketedTexts, Hash

Field = Literal["both", "prompt", "response"]

EPSILON = 1e-8
"""Added to a frequency before its logarithm, so that a bucket that never occurs has one."""


@dataclass(frozen=True)
class Weights:
    """What each row of a pool weighs for each target; made by `log_weights`."""

    names: tuple[str, ...]
    """The targets; one name, joined by ``+``, where they are pooled."""
    log_weight: np.ndarray
    """(targets, n) float64, nats (nats an n-gram where length-normalised); 0 for a row without tokens."""
    tokens: np.ndarray
    """(n,) int64."""
    target_ngrams: np.ndarray
    """(targets,) int64: n-grams that each target's distribution was fit on."""


def text_of(frame: pl.DataFrame, field: Field = "both") -> pl.Series:
    """One text a row: the prompt, the response, or both with a line break between them."""
    prompt, response = pl.col("prompt").fill_null(""), pl.col("response").fill_null("")
    parts = {"both": prompt + "\n" + response, "prompt": prompt, "response": response}
    if field not in parts:
        raise ValueError(f"field must be both, prompt or response, got {field!r}")
    return frame.select(text=parts[field].cast(pl.String)).to_series()


def frequencies(counts: np.ndarray, laplace: float = 0.0) -> np.ndarray:
    """The share of each bucket, with ``laplace`` added to every count."""
    if not laplace >= 0:
        raise ValueError(f"laplace must not be negative, got {laplace}")
    smooth = counts + laplace
    return smooth / smooth.sum()


def log_weights(
    pool: pl.Series | BucketedTexts,
    targets: Mapping[str, pl.Series],
    separate: bool = False,
    laplace: float = 0.0,
    length_normalise: bool = False,
    hash: Hash = "sha256",
) -> Weights:
    """log w(x) = sum over the buckets b of x of counts_b (log(p_b + 1e-8) - log(q_b + 1e-8)), in nats.

    p: the target's frequencies of buckets (with ``laplace`` added to each count), q: those of the whole pool. All
    targets' texts are one target, or, ``separate``, each has its own weights. O(characters).
    """
    from methods.importance.ngram_buckets import BucketedTexts

    texts = pool if isinstance(pool, BucketedTexts) else BucketedTexts(pool, hash)
    counts = {name: BucketedTexts(target, texts.hash, texts.n_buckets).counts() for name, target in targets.items()}
    if not counts:
        raise ValueError("dsir needs a target: name at least one in the recipe")
    for name, found in counts.items():
        if not found.sum():
            raise ValueError(f"dsir: the target {name} has no words in the field that is compared; take another field")
    if not separate:
        counts = {"+".join(counts): np.sum(list(counts.values()), axis=0)}
    raw, lengths = texts.counts(), texts.lengths()
    found = np.zeros((len(counts), len(texts)), np.float64)
    for i, target in enumerate(counts.values() if raw.sum() else ()):
        ratio = np.log(frequencies(target, laplace) + EPSILON) - np.log(frequencies(raw) + EPSILON)
        found[i] = texts.sums(ratio)
    if length_normalise:
        found /= np.maximum(lengths, 1)
    sizes = np.array([target.sum() for target in counts.values()], dtype=np.int64)
    return Weights(tuple(counts), found, (lengths + 1) // 2, sizes)


def effective_sample_size(log_weight: np.ndarray, temperature: float = 1.0) -> float:
    """(sum w)^2 / sum w^2 with w = exp(log_weight / temperature): how many rows of equal weight they are worth.

    1 means that one row outweighs all others together, so that a draw is no different from taking the largest; n
    means that all weigh the same. 0 for no rows; at temperature 0 the number of rows that share the largest weight.
    """
    if not len(log_weight):
        return 0.0
    away = log_weight - log_weight.max()
    if temperature == 0:
        return float((away == 0).sum())
    weight = np.exp(away / temperature)
    return float(weight.sum() ** 2 / (weight**2).sum())


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) = sum p (log(p + 1e-8) - log(q + 1e-8)) of two rows of frequencies, in nats."""
    return float(np.sum(p * (np.log(p + EPSILON) - np.log(q + EPSILON))))


def kl_reduction(
    pool: pl.DataFrame,
    subset: pl.DataFrame,
    target: pl.DataFrame,
    seed: int,
    draws: int = 10,
    field: Field = "both",
    hash: Hash = "sha256",
) -> float | None:
    """How much nearer to a target a subset is than a random one of the same size, by n-grams.

    Equation: KL(target || random) - KL(target || subset), on frequencies of hashed tokens and pairs of tokens
    Direction: higher is nearer to the target; 0 is no better than chance, negative is worse.
    Parameters: pool, subset, target: ``prompt`` and ``response``. draws: random subsets, over which the first term is
        averaged (the paper takes one). field: the text that is compared. seed: draws the random subsets.
    Undefined: None where the subset, the pool or the target has no tokens.
    Source: Xie et al. 2023, arXiv 2302.03169, section 5 (the measure that goes with gains downstream).
    Departures: several random subsets, so that the number does not hang on one of them; 1e-8 inside both logarithms.
    """
    from methods.importance.ngram_buckets import BucketedTexts

    if draws < 1:
        raise ValueError(f"kl_reduction needs at least one random subset, got draws={draws}")
    goal, chosen = (BucketedTexts(text_of(frame, field), hash).counts() for frame in (target, subset))
    if not goal.sum() or not chosen.sum() or not len(pool):
        return None
    p = frequencies(goal)
    rng, size = np.random.default_rng(seed), min(len(subset), len(pool))
    drawn = [rng.choice(len(pool), size, replace=False) for _ in range(draws)]
    texts = text_of(pool, field)
    used = np.unique(np.concatenate(drawn))
    bucketed = BucketedTexts(texts.gather(used), hash)
    counts = [bucketed.counts(np.searchsorted(used, rows)) for rows in drawn]
    by_chance = [divergence(p, frequencies(found)) for found in counts if found.sum()]
    return float(np.mean(by_chance)) - divergence(p, frequencies(chosen)) if by_chance else None


def unlike_prose(texts: pl.Series) -> dict[int, str]:
    """Rows that the paper's filters refuse, by index, and why.

    Kept are texts with 40 < tokens < 500, 0.02 < share of the most frequent token < 0.2, 0.3 < share of tokens that
    are neither function words nor marks < 0.7, and a share of tokens other than single digits above 0.8. Tokens are
    those of the n-grams; the list of function words is the project's own.
    """
    from methods.importance.ngram_buckets import tokens
    from methods.quality.stopwords import STOP_WORDS

    refused: dict[int, str] = {}
    for i, found in enumerate(tokens(texts).to_list()):
        n = len(found)
        if not 40 < n < 500:
            refused[i] = f"{n} tokens, not between 40 and 500"
            continue
        frequent = max(Counter(found).values()) / n
        telling = sum(token not in STOP_WORDS and any(c.isalnum() for c in token) for token in found) / n
        digits = sum(len(token) == 1 and token in "0123456789" for token in found) / n
        if not 0.02 < frequent < 0.2:
            refused[i] = f"the most frequent token is {frequent:.3f} of all, not between 0.02 and 0.2"
        elif not 0.3 < telling < 0.7:
            refused[i] = f"{telling:.3f} of the tokens are informative, not between 0.3 and 0.7"
        elif not 1 - digits > 0.8:
            refused[i] = f"{digits:.3f} of the tokens are digits, not less than 0.2"
    return refused


def dsir(
    candidates: Candidates,
    budget: int,
    seed: int,
    field: Field = "both",
    targets: Sequence[str] | None = None,
    separate: bool = False,
    proportions: Mapping[str, float] | None = None,
    temperature: float = 1.0,
    top_k: bool = False,
    laplace: float = 0.0,
    length_normalise: bool = False,
    min_tokens: int = 0,
    paper_filters: bool = False,
    hash: Hash = "sha256",
) -> Chosen:
    """Draw rows with chances proportional to their importance weight, without replacement (survey Eq. 47).

    log w(x) is that of `log_weights`; the rows taken are the largest log w / T + Gumbel(0, 1), which is a draw without
    replacement from w^(1/T). On whole rows the weights span hundreds of nats, so that at T = 1 the noise decides
    little: each reason says how many rows of equal weight the weights are worth (`effective_sample_size`).

    The weight is a sum over the row's n-grams, not a mean: with a target unlike the pool most n-grams count against a
    row, and short rows come out ahead; with a target like it, long ones do. ``length_normalise`` takes the mean.

    Parameters
    ----------
    candidates : ``texts`` and ``targets`` with texts.
    budget : rows to take.
    seed : draws the noise.
    field : the text that is compared, of the pool and of the targets: ``both``, ``prompt``, ``response``.
    targets : names of the targets to use; all by default.
    separate : one target after another takes its part of the budget from the rows that are left; else they are one.
    proportions : each target's share of the budget where they are separate; by default that of its n-grams. Parts are
        whole numbers by largest remainder.
    temperature : T; more makes the choice more varied. 0 is ``top_k``.
    top_k : take the largest weights, without noise; ties (1e-9) go to the lowest index.
    laplace : added to every count of the target (the paper's code has 0).
    length_normalise : divide a row's log-weight by its n-grams.
    min_tokens : rows with fewer tokens are refused (the paper's code: 100, for web pages; instructions are short).
    paper_filters : refuse what the paper's pipeline for web text refuses (`unlike_prose`).
    hash : ``sha256`` gives the buckets of the paper's code, ``fast`` others, several times as fast.

    Returns
    -------
    Chosen. ``gain``: the log-weight, in nats (nats an n-gram where length-normalised). ``refused``: rows without a
    token, which no weight can be given to, and those of the filters.

    Source: Xie et al. 2023, arXiv 2302.03169. Departures: the pool's frequencies are of all rows, however many; the
    parts of separate targets are rounded by largest remainder (there: down, the rest to the last); a budget of the
    whole pool works; rows without a token are refused (there they weigh 0 nats, often the most).
    """
    if not temperature >= 0:
        raise ValueError(f"the temperature must not be negative, got {temperature}")
    n_take = at_most(candidates, budget)
    if candidates.texts is None or len(candidates.texts) != len(candidates):
        raise ValueError("dsir needs the text of every candidate")
    goals = {name: text_of(target, field) for name, target in _named(candidates, targets).items()}
    texts = text_of(candidates.texts, field)
    weights = log_weights(texts, goals, separate, laplace, length_normalise, hash)
    refused = unlike_prose(texts) if paper_filters else {}
    for i in np.flatnonzero(weights.tokens < min_tokens).tolist():
        refused.setdefault(i, f"{weights.tokens[i]} tokens, fewer than {min_tokens}")
    refused |= dict.fromkeys(np.flatnonzero(weights.tokens == 0).tolist(), "no token to weigh")
    left = np.setdiff1d(np.arange(len(candidates)), np.fromiter(refused, np.int64, len(refused)))
    parts = largest_remainder(_shares(weights, proportions if separate else None), min(n_take, len(left)))
    rng = np.random.default_rng(seed)
    order: list[int] = []
    gain: list[float] = []
    reason: list[str] = []
    plain = top_k or temperature == 0
    how = "taken as" if plain else f"drawn with temperature {temperature:g}:"
    for name, weight, part in zip(weights.names, weights.log_weight, parts.tolist(), strict=True):
        noise = rng.gumbel(size=len(weight))
        ranked = by = left[best_first(weight[left])]
        worth = effective_sample_size(weight[left], temperature)
        if not plain:
            by = left[np.argsort(-(weight[left] / temperature + noise[left]), kind="stable")]
        rank = np.zeros(len(weight), np.int64)
        rank[ranked] = np.arange(1, len(ranked) + 1)
        taken = by[:part]
        order.extend(taken.tolist())
        gain.extend(weight[taken].tolist())
        unit = "nats an n-gram" if length_normalise else "nats"
        reason += [
            f"{how} rank {rank[i]} of {len(left)} by its weight for {name}: {weight[i]:.4f} {unit}"
            f" ({len(left)} weights, worth {worth:.4g} equal ones)"
            for i in taken
        ]
        left = np.setdiff1d(left, taken)
    return Chosen(np.array(order, dtype=np.int64), np.array(gain, dtype=np.float64), reason, refused=refused)


def _named(candidates: Candidates, names: Sequence[str] | None) -> Mapping[str, pl.DataFrame]:
    """The wanted targets' texts, in the order named."""
    if unknown := [name for name in names or () if name not in candidates.targets]:
        raise ValueError(
            f"dsir: there is no target {unknown[0]!r}; there are {', '.join(candidates.targets) or 'none'}"
        )
    return {name: candidates.targets[name].texts for name in (candidates.targets if names is None else names)}


def _shares(weights: Weights, proportions: Mapping[str, float] | None) -> np.ndarray:
    """Each target's share of the budget, in the order of the targets."""
    if proportions is None:
        return weights.target_ngrams.astype(np.float64)
    if set(proportions) != set(weights.names):
        raise ValueError(f"proportions must name exactly the targets {', '.join(weights.names)}")
    shares = np.array([proportions[name] for name in weights.names], dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"proportions must not be negative, nor all 0: {dict(proportions)}")
    return shares


SELECTORS = (
    Selector(
        id="dsir",
        title="Words like the target's (DSIR)",
        axis="importance",
        family="model",
        section="5.2",
        equation="S_b = top-b of (sum_j c_j(x) log(p_j / q_j)) / T + g,  g ~ Gumbel(0, 1)",
        paper="Xie et al. 2023 (DSIR), arXiv 2302.03169",
        meaning="Prefers rows whose words and pairs of words are more usual in the target than in the pool.",
        needs=("texts", "target_texts"),
        params={
            "field": "both",
            "targets": None,
            "separate": False,
            "proportions": None,
            "temperature": 1.0,
            "top_k": False,
            "laplace": 0.0,
            "length_normalise": False,
            "min_tokens": 0,
            "paper_filters": False,
            "hash": "sha256",
        },
        select=dsir,
    ),
)
