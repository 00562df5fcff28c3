"""A reward learned from comparisons of answers: a Bradley-Terry head on embeddings (pure part).

Here belong reading a comparison out of a record, making comparisons where nobody gave any, the features of a question
and an answer, the fit, and how well it does on questions that it has not seen. Which vectors are taken, and where the
head is kept, is said by the asset. No model that makes embeddings runs here.

The score of an answer is r = w . phi(q, a) - c with phi of `features`, and the model of a comparison is
P(a before b) = 1 / (1 + exp(-(r_a - r_b))) (Bradley and Terry 1952). Only differences of rewards are learned, so c is a
convention: 0 is the mean reward of the answers that the head was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl

from methods.rows import BadRecord

PROMPTS = ("prompt", "instruction", "question")
HEAD_SCHEMA: Mapping[str, Any] = {"feature": pl.String, "weights": pl.List(pl.Float64)}
"""One line a block of features: its name and its weights. The block ``offset`` is what is taken off (c)."""
BLOCKS = ("answer", "product", "distance", "cosine")
LENGTH, OFFSET = "log_length", "offset"
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Values of C (the inverse of the penalty on squared weights) that are tried, weakest head first."""
LEAST_PROMPTS = 10
"""With fewer there is nothing to hold out."""


@dataclass(frozen=True)
class Pair:
    """Two answers to a question, the better one first."""

    prompt: str
    chosen: str
    rejected: str
    kind: str
    """Where the judgement comes from, to report by."""


@dataclass(frozen=True)
class Judgement:
    """What one annotator said of two answers: 1 the first is better, -1 the second, 0 a tie."""

    prompt: str
    first: str
    second: str
    verdict: int


# ---- comparisons that somebody made ---------------------------------------------------------------------------------


def judgement(record: Any) -> Judgement:
    """Read a comparison: ``prompt`` (or ``instruction``, ``question``; with ``input`` on the next line), and either
    ``chosen`` and ``rejected``, or ``output_1``, ``output_2`` and ``preference``.

    ``preference`` below 1.5 means the first, above it the second; 1.5 and 0 are ties. Chosen and rejected may be lists
    of messages: then the last is the answer, and without a prompt those before it are the question. Raises
    `BadRecord`.
    """
    if not isinstance(record, dict):
        raise BadRecord("wrong_type", "The record is no object with named fields.")
    prompt = next((record[name] for name in PROMPTS if isinstance(record.get(name), str)), None)
    if prompt is not None and isinstance(record.get("input"), str) and record["input"]:
        prompt = f"{prompt}\n{record['input']}"
    if "chosen" in record and "rejected" in record:
        (before, first), (_, second) = _answer(record["chosen"], "chosen"), _answer(record["rejected"], "rejected")
        verdict = 1
        prompt = before if prompt is None else prompt
    elif "output_1" in record and "output_2" in record:
        (_, first), (_, second) = _answer(record["output_1"], "output_1"), _answer(record["output_2"], "output_2")
        verdict = _verdict(record.get("preference"))
    else:
        raise BadRecord("missing_key", "There is neither chosen and rejected, nor output_1, output_2 and preference.")
    if not prompt or not prompt.strip():
        raise BadRecord("missing_key", f"There is no question: give one as {', '.join(PROMPTS)}.")
    return Judgement(prompt, first, second, verdict)


def _answer(value: Any, key: str) -> tuple[str | None, str]:
    """The question that stands in front of the answer (if any does), and the answer."""
    if isinstance(value, str):
        return None, value
    turns = value if isinstance(value, list) else []
    if turns and all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns):
        return "\n\n".join(turn["content"] for turn in turns[:-1]) or None, turns[-1]["content"]
    raise BadRecord("wrong_type", f"`{key}` is neither a text nor a list of messages.")


def _verdict(preference: Any) -> int:
    if isinstance(preference, bool) or not isinstance(preference, int | float):
        raise BadRecord("no_preference", f"`preference` is {preference!r}; it is 1 or 2, and 1.5 or 0 for a tie.")
    if preference == 0 or preference == 1.5:
        return 0
    if not 1 <= preference <= 2:
        raise BadRecord("no_preference", f"`preference` is {preference!r}; it is 1 or 2, and 1.5 or 0 for a tie.")
    return 1 if preference < 1.5 else -1


def majority(judgements: Sequence[Judgement], kinds: Sequence[str]) -> tuple[list[Pair], dict[str, int]]:
    """One pair for all judgements of the same two answers to the same question, whichever stood first: the side that
    most annotators took. Also how many pairs were left out, and why."""
    votes: dict[tuple[str, str, str], int] = {}
    named: dict[tuple[str, str, str], str] = {}
    left = {"tied": 0, "equal answers": 0, "empty answer": 0}
    for said, kind in zip(judgements, kinds, strict=True):
        low, high = sorted((said.first, said.second))
        key = (said.prompt, low, high)
        votes[key] = votes.get(key, 0) + said.verdict * (1 if said.first == low else -1)
        named.setdefault(key, kind)
    pairs = []
    for (prompt, low, high), vote in votes.items():
        if not low.strip():
            left["empty answer"] += 1
        elif low == high:
            left["equal answers"] += 1
        elif vote == 0:
            left["tied"] += 1
        else:
            chosen, rejected = (low, high) if vote > 0 else (high, low)
            pairs.append(Pair(prompt, chosen, rejected, named[prompt, low, high]))
    return pairs, {why: count for why, count in left.items() if count}


# ---- comparisons that nobody made -----------------------------------------------------------------------------------

NEAR_IN_LENGTH = 20
"""Another answer is drawn from this many whose length is nearest."""


def made_pairs(rows: Sequence[tuple[str, str]], seed: int, share: float) -> list[Pair]:
    """Comparisons out of questions and their answers: an answer is held to be better than another question's answer of
    like length, and better than itself when spoiled.

    Spoiled is: cut in the middle, or (every other row, if it has three sentences) its sentences in another order. Other
    answers come from questions on the same side of `held_out`, so that no answer stands on both. A question that stands
    there twice is taken once, one without an answer not at all.
    """
    own: dict[str, str] = {}
    for prompt, answer in rows:
        if prompt.strip() and answer.strip():
            own.setdefault(prompt, answer)
    prompts, answers = list(own), list(own.values())
    rng = np.random.default_rng(seed)
    side = held_out(prompts, share, seed)
    lengths = np.array([len(answer) for answer in answers])
    pairs = []
    for at, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        others = [o for o in np.flatnonzero(side == side[at]).tolist() if o != at and answers[o] != answer]
        near = sorted(others, key=lambda o: (abs(int(lengths[o] - lengths[at])), o))[:NEAR_IN_LENGTH]
        if near:
            pairs.append(Pair(prompt, answer, answers[near[int(rng.integers(len(near)))]], "another row's answer"))
        spoiled, how = _spoiled(answer, at % 2 == 1, rng)
        if spoiled.strip() and spoiled.strip() != answer.strip():
            pairs.append(Pair(prompt, answer, spoiled, how))
    return pairs


_BREAK = re.compile(r"(\n+|(?<=[.!?])\s+|(?<=[。！？])\s*)")
"""Where a sentence or a line ends: good enough to spoil a text."""


def _spoiled(answer: str, mix: bool, rng: np.random.Generator) -> tuple[str, str]:
    parts = _BREAK.split(answer.strip())
    pieces, between = parts[::2], [*parts[1::2], ""]
    if mix and sum(bool(piece.strip()) for piece in pieces) >= 3:
        order = rng.permutation(len(pieces))
        if (order == np.arange(len(pieces))).all():
            order = order[::-1]
        mixed = "".join(pieces[i] + gap for i, gap in zip(order, between, strict=True))
        return mixed, "its sentences in another order"
    half = answer[: len(answer) // 2]
    end = half.rfind(" ")
    return half[:end] if end > 0 else half, "its first half"


# ---- features -------------------------------------------------------------------------------------------------------


def features(questions: np.ndarray, answers: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """phi(q, a), (n, 3 d + 1) float64: the answer's vector, the product with the question's place by place, the
    absolute difference, and the cosine; with ``lengths`` (characters) also ln(1 + length). NaN where there is no
    vector."""
    q, a = questions.astype(np.float64), answers.astype(np.float64)
    product = q * a
    norms = np.linalg.norm(q, axis=1) * np.linalg.norm(a, axis=1)
    cosine = product.sum(axis=1) / np.where(norms > 0, norms, 1.0)
    blocks = [a, product, np.abs(q - a), cosine[:, None]]
    if lengths is not None:
        blocks.append(np.log1p(lengths.astype(np.float64))[:, None])
    return np.hstack(blocks)


def head_frame(weights: np.ndarray, offset: float, dimension: int) -> pl.DataFrame:
    """`HEAD_SCHEMA` of a fitted head."""
    names, sizes = [*BLOCKS], [dimension, dimension, dimension, 1]
    if len(weights) == sum(sizes) + 1:
        names.append(LENGTH)
        sizes.append(1)
    parts = np.split(weights, np.cumsum(sizes)[:-1])
    lines = [{"feature": name, "weights": part.tolist()} for name, part in zip(names, parts, strict=True)]
    return pl.DataFrame([*lines, {"feature": OFFSET, "weights": [float(offset)]}], schema=dict(HEAD_SCHEMA))


def rewards_of(head: pl.DataFrame, questions: np.ndarray, answers: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """r = w . phi(q, a) - c of each answer, float64; NaN where there is no vector."""
    blocks = {name: np.array(weights) for name, weights in head.iter_rows()}
    dimension = len(blocks["answer"])
    found = np.full(len(answers), np.nan)
    if questions.shape[1] != dimension or answers.shape[1] != dimension:
        if np.isfinite(questions).any() and np.isfinite(answers).any():
            raise ValueError(f"the head reads vectors of {dimension} numbers, and these have {answers.shape[1]}")
        return found
    weights = np.concatenate([blocks[name] for name in (*BLOCKS, LENGTH) if name in blocks])
    fine = np.isfinite(questions).all(axis=1) & np.isfinite(answers).all(axis=1)
    phi = features(questions[fine], answers[fine], lengths[fine] if LENGTH in blocks else None)
    found[fine] = phi @ weights - blocks[OFFSET][0]
    return found


# ---- the fit --------------------------------------------------------------------------------------------------------


def held_out(prompts: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Which prompts are kept for the test: each by a hash of its text and the seed, so that no prompt stands on both
    sides, and a prompt stays on its side when others come and go."""

    def luck(prompt: str) -> float:
        text = " ".join(prompt.split()).lower().encode("utf-8", "surrogatepass")
        key = seed.to_bytes(8, "little", signed=True)
        return int.from_bytes(blake2b(text, digest_size=8, key=key).digest(), "little") / 2**64

    return np.array([luck(prompt) < share for prompt in prompts], dtype=np.bool_)


def fit(differences: np.ndarray, strength: float) -> np.ndarray:
    """The weights that make the comparisons likeliest under a penalty on their squares:
    argmin_w  strength * sum_i ln(1 + exp(-w . d_i / s)) + |w|^2 / 2, d_i = phi(chosen) - phi(rejected), given back for
    d as it is (w / s), with s the root mean square of each feature's differences."""
    from sklearn.linear_model import LogisticRegression

    scale = np.sqrt((differences**2).mean(axis=0))
    scale[scale == 0] = 1.0
    signs = np.where(np.arange(len(differences)) % 2, -1.0, 1.0)  # the fit wants both classes; the loss is the same
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=2000, tol=1e-6)
    model.fit(differences / scale * signs[:, None], signs > 0)
    return model.coef_[0] / scale


def best_strength(
    differences: np.ndarray, prompts: Sequence[str], seed: int, strengths: Sequence[float] = STRENGTHS, folds: int = 5
) -> float:
    """The C with the least mean log loss on folds of prompts that were left out; ties to the weaker head."""
    names = list(dict.fromkeys(prompts))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[i]: place % folds for place, i in enumerate(order.tolist())}
    of = np.array([fold[prompt] for prompt in prompts])
    losses = []
    for strength in strengths:
        total = 0.0
        for k in np.unique(of):
            margins = differences[of == k] @ fit(differences[of != k], strength)
            total += float(np.logaddexp(0.0, -margins).sum())
        losses.append(total / len(of))
    return strengths[int(np.argmin(np.round(losses, 9)))]


# ---- how good it is -------------------------------------------------------------------------------------------------


def right(margins: np.ndarray) -> float:
    """How many comparisons a score gets right: the chosen one's is higher; an equal one counts half."""
    return float((margins > 0).sum() + 0.5 * (margins == 0).sum())


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share after Wilson (1927)."""
    if n == 0:
        return 0.0, 1.0
    share, weight = successes / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * float(np.sqrt(share * (1 - share) / n + weight / (4 * n))) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Trained:
    """A fitted head, and what it does on the comparisons that were held out."""

    head: pl.DataFrame
    strength: float
    trained_on: int
    tested: pl.DataFrame
    """``kind``, ``pairs``, ``accuracy``, ``low``, ``high`` (95 %), ``longer`` (share in which the longer answer is
    the chosen one); the first line is for all."""

    def verdict(self) -> str:
        """In words, for a person."""
        n, accuracy, low, high, longer = self.tested.select("pairs", "accuracy", "low", "high", "longer").row(0)
        text = (
            f"Right in {accuracy:.0%} of {n} unseen pairs (95 % interval {low:.0%} to {high:.0%}); always taking the "
            f"longer answer: {longer:.0%}; chance: 50 %."
        )
        if low <= 0.5:
            return f"{text} It is not shown to be better than chance."
        return text if accuracy > longer else f"{text} It is no better than looking at the length."


def train(
    pairs: Sequence[Pair],
    vectors: Mapping[str, np.ndarray],
    share: float = 0.2,
    seed: int = 0,
    with_length: bool = False,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[Trained, int]:
    """Fit a head on comparisons, and test it on those of the prompts that were held out (``share`` of them).

    ``vectors`` holds the vector of every text. Also how many pairs were left out because a text has none. Raises
    `ValueError` where there are too few prompts to train on or to test with.
    """

    def phi(texts: Sequence[str], questions: np.ndarray) -> np.ndarray:
        lengths = np.array([len(text) for text in texts]) if with_length else None
        return features(questions, np.stack([vectors[text] for text in texts]), lengths)

    fine = [p for p in pairs if all(np.isfinite(vectors[t]).all() for t in (p.prompt, p.chosen, p.rejected))]
    prompts = [pair.prompt for pair in fine]
    test = held_out(prompts, share, seed)
    if len(set(prompts)) < LEAST_PROMPTS or not test.any() or test.all():
        raise ValueError(
            f"there are {len(fine)} usable comparisons of {len(set(prompts))} questions: a head needs at least "
            f"{LEAST_PROMPTS} questions, some to learn from and some to be tested on"
        )
    questions = np.stack([vectors[prompt] for prompt in prompts])
    chosen, rejected = phi([p.chosen for p in fine], questions), phi([p.rejected for p in fine], questions)
    differences = chosen - rejected
    train_prompts = [prompt for prompt, is_test in zip(prompts, test, strict=True) if not is_test]
    strength = best_strength(differences[~test], train_prompts, seed, strengths)
    weights = fit(differences[~test], strength)
    offset = float((np.vstack([chosen, rejected])[np.tile(~test, 2)] @ weights).mean())
    tested = _tested([p for p, is_test in zip(fine, test, strict=True) if is_test], differences[test] @ weights)
    head = head_frame(weights, offset, questions.shape[1])
    return Trained(head, strength, int((~test).sum()), tested), len(pairs) - len(fine)


def _tested(pairs: Sequence[Pair], margins: np.ndarray) -> pl.DataFrame:
    """How often the margins are right, in all and by kind of pair."""
    longer = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs], dtype=np.float64)
    kinds = np.array([pair.kind for pair in pairs])
    lines: list[tuple[Any, ...]] = []
    names = sorted(set(kinds.tolist()))
    for name in ["all", *(names if len(names) > 1 else [])]:
        mine = np.ones(len(pairs), dtype=np.bool_) if not lines else kinds == name
        n, good = int(mine.sum()), right(margins[mine])
        low, high = wilson(good, n)
        lines.append((name, n, good / n, low, high, right(longer[mine]) / n))
    schema = ["kind", "pairs", "accuracy", "low", "high", "longer"]
    return pl.DataFrame(lines, schema=schema, orient="row")
