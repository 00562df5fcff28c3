"""Importance from asking a model again in other words (survey 5.2): what a perturbed instruction changes.

Here belong what is to be asked for a row (texts in, texts out, the same on every machine and in every order of rows),
the shape of the answers that are stored (`PERTURBATIONS_SCHEMA`), and the indicators that read them. No model runs
here.

All logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, statused
from methods.tokens import unspaced

PERTURBATIONS = ("evidence/prompt_perturbations",)
PERTURBATIONS_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {"row_id": pl.String, "status": pl.String, "logp": pl.List(pl.List(pl.Float32))}
)
"""One line a row: K + 1 lists of ln p of the same response tokens, behind the instruction as it is (index 0) and behind
each perturbed one; null unless the status is ``ok``."""


def flattened(lists: pl.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A list of lists as flat arrays: the row of each inner list, its place in the row, its length, and all values.

    Nothing stands for an empty or missing list; a missing value is NaN.
    """
    outer = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    inner = lists.explode(empty_as_null=False, keep_nulls=False)
    lengths = inner.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = inner.explode(empty_as_null=False, keep_nulls=False).cast(pl.Float64).fill_null(np.nan).to_numpy()
    rows = np.repeat(np.arange(len(lists)), outer)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(outer) - outer, outer)
    return rows, places, lengths, values


def sums_by(of: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """The sum of the values of each of ``n`` groups; ``of`` says whose a value is."""
    return np.bincount(of, weights=values, minlength=n)


def status_of(block: pl.DataFrame, lists: str, few: tuple[int, str], short: tuple[int, str], uneven: str) -> pl.Series:
    """The evidence's own status; then what is wrong with a line: under so many inner lists, under so many values in
    the longest of them, lists of unlike lengths."""
    lengths = pl.col(lists).list.eval(pl.element().list.len().fill_null(0)).list
    return block.select(
        pl.when(pl.col("status") != OK)
        .then("status")
        .when(lengths.len().fill_null(0) < few[0])
        .then(pl.lit(few[1]))
        .when(lengths.max() < short[0])
        .then(pl.lit(short[1]))
        .when(lengths.min() != lengths.max())
        .then(pl.lit(uneven))
        .otherwise(pl.lit(OK))
        .alias("status")
    ).to_series()


def _luck(text: str, seed: int) -> bytes:
    """Eight bytes that hang on the text and the seed, and on nothing else."""
    key = seed.to_bytes(8, "little", signed=True)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()


# --- what is asked: perturbed instructions ---------------------------------------------------------------------------
def droppable(instruction: str) -> list[str]:
    """The words that a perturbation may drop, each with the blanks behind it; joined they are the text from its first
    word on. A character of a script without spaces is a word of its own."""
    pieces: list[str] = []
    for sign in instruction.lstrip():
        behind_blank = not pieces or (pieces[-1][-1].isspace() and not sign.isspace())
        if behind_blank or unspaced(sign) or (unspaced(pieces[-1][0]) and sign.isalnum()):
            pieces.append(sign)
        else:
            pieces[-1] += sign
    return pieces


def perturbed(instruction: str, k: int = 10, drop: float = 0.2, seed: int = 0) -> list[str]:
    """The instruction as it is, then ``k`` copies in each of which every word was dropped with probability ``drop``.

    What is dropped hangs on the instruction, the seed and the copy's number alone: rows that share an instruction (a
    task) share its perturbations, and the first copies stay the same when more are asked for. Line breaks and blanks
    between the words that stay are kept. A copy may be equal to the original, and may be empty.
    """
    if k < 1 or not 0 <= drop <= 1:
        raise ValueError(f"k must be at least 1 and drop a probability, got {k} and {drop}")
    pieces = droppable(instruction)
    generator = np.random.default_rng(int.from_bytes(_luck(instruction, seed), "little"))
    keep = generator.random((k, len(pieces))) >= drop
    copies = []
    for mask in keep:
        kept = "".join(piece for piece, stays in zip(pieces, mask, strict=True) if stays)
        copies.append(instruction if mask.all() else kept.strip())
    return [instruction, *copies]


def perturbation_status(instruction: str, fewest: int = 2) -> str:
    """``ok``, or ``too_short`` where there are under ``fewest`` words and dropping one leaves no instruction."""
    return OK if len(droppable(instruction)) >= fewest else "too_short"


# --- what was answered: prompt uncertainty ---------------------------------------------------------------------------
def forms_of(rows: pl.DataFrame, k: int = 10) -> pl.DataFrame:
    """What is to be passed for some rows (``row_id, messages, instruction``): a row for every form of an instruction.

    ``row_id`` becomes ``ID/NUMBER`` with number 0 for the instruction as it is. Only the head of what the user says
    first is changed: the row's input and its further turns stay.
    """
    forms = [
        {"row_id": f"{row['row_id']}/{number}", "messages": _with_instruction(row, form)}
        for row in rows.iter_rows(named=True)
        for number, form in enumerate(perturbed(row["instruction"], k))
    ]
    return pl.DataFrame(forms, schema={"row_id": pl.String, "messages": rows.schema["messages"]})


def _with_instruction(row: Mapping[str, Any], instruction: str) -> list[dict[str, str]]:
    first = next((place for place, m in enumerate(row["messages"]) if m["role"] == "user"), None)
    return [
        {**m, "content": instruction + m["content"][len(row["instruction"]) :]} if place == first else m
        for place, m in enumerate(row["messages"])
    ]


def gathered(rows: pl.DataFrame, passed: pl.DataFrame) -> pl.DataFrame:
    """`PERTURBATIONS_SCHEMA` from the passes of `forms_of` (``row_id, status, logp_conditional``), in the rows' order.

    A row has the status of its first form that could not be passed.
    """
    lists = (
        passed.with_columns(pl.col("row_id").str.split("/"))
        .with_columns(number=pl.col("row_id").list.last().cast(pl.Int64), row_id=pl.col("row_id").list.first())
        .sort("row_id", "number")
        .group_by("row_id", maintain_order=True)
        .agg(
            status=pl.col("status").filter(pl.col("status") != OK).first().fill_null(OK),
            logp=pl.col("logp_conditional"),
        )
    )
    short = pl.Series([perturbation_status(text) for text in rows["instruction"]], dtype=pl.String)
    told = rows.select("row_id", short=short).join(lists, on="row_id", how="left", maintain_order="left")
    status = pl.when(pl.col("status") == OK).then("short").otherwise("status")
    found = told.select("row_id", status=status, logp=pl.when(status == OK).then("logp"))
    return found.cast(pl.Schema(dict(PERTURBATIONS_SCHEMA)))


def prompt_uncertainty(block: pl.DataFrame, mode: str = "sentence") -> pl.DataFrame:
    """How much the probability of the response changes when words of the instruction are dropped.

    Equation: (1/K) sum_k |P(y|x~_k) - P(y|x)| with P = exp of the mean ln p of the response's tokens (`sentence`), or
    (1/K) sum_k (1/T) sum_j |p_j(x~_k) - p_j(x)| (`token`, Eq. 42 without its minus). p = (.5, .8) and perturbed
    (.25, .8), (.5, .4) give .185242 and .1625.

    Direction: higher: the model's answer hangs on the wording, so there is something to learn.

    Parameters: `mode` is `sentence` or `token`. How many copies there are and how many words they lack is decided by
    the evidence (10 copies, each word dropped with probability .2).

    Statuses: `too_short` (an instruction of under two words has nothing to drop); `empty_response` (no token);
    `no_perturbations`; `uneven_tokens` (the copies do not score the same tokens, as after a cut); any status of the
    model's pass.

    Source: Kung et al. 2023, Active Instruction Tuning (arXiv 2311.00288).

    Departures: the survey's Eq. 42 has a minus, by which the most uncertain row would come last, and a sum over
    tokens, which grows with length; both are dropped. The response is the row's own; the paper's default is one that
    the model wrote. The paper ranks tasks by the mean of ten rows each; here rows are scored. Blanks between words that
    stay are kept, and in scripts without spaces a character counts as a word.
    """
    if mode not in ("sentence", "token"):
        raise ValueError(f"mode must be 'sentence' or 'token', not {mode!r}")
    status, first, of, p = _probabilities(block, mode)
    with np.errstate(invalid="ignore"):
        value = sums_by(of, np.abs(p - p[first]), block.height) / sums_by(of, first != np.arange(len(p)), block.height)
    return statused(value, status)


def _probabilities(block: pl.DataFrame, mode: str) -> tuple[pl.Series, np.ndarray, np.ndarray, np.ndarray]:
    """The status; and, flat: the index of the same probability behind the unperturbed instruction, the row, and the
    probability of a whole response (`sentence`) or of each of its tokens."""
    status = status_of(block, "logp", (2, "no_perturbations"), (1, "empty_response"), "uneven_tokens")
    readable = block.select(pl.when(status == OK).then("logp")).to_series()
    rows, places, lengths, values = flattened(readable)
    if mode == "sentence":
        inner = np.repeat(np.arange(len(rows)), lengths)
        values, lengths = sums_by(inner, values, len(rows)) / np.maximum(lengths, 1), np.ones_like(lengths)
    starts = np.cumsum(lengths) - lengths
    first = np.repeat(starts - places * lengths, lengths) + np.arange(len(values)) - np.repeat(starts, lengths)
    return status, first, np.repeat(rows, lengths), np.exp(values)


def prediction_probability(block: pl.DataFrame) -> pl.DataFrame:
    """How probable the response is to the model behind the instruction as it is: its tokens' geometric mean.

    Equation: P(y|x) = exp((1/T) sum_j ln p_j), the second axis of the task map. p = (.5, .8) gives .632456.

    Direction: neither end is better by itself. With little `prompt_uncertainty`, a low value marks what is difficult
    for the model and a high one what is easy.

    Statuses: as for `prompt_uncertainty`, so that a row has a place on both axes or on none.

    Source: Kung et al. 2023, Active Instruction Tuning (arXiv 2311.00288). It is 1 / perplexity behind the prompt.
    """
    status, first, of, p = _probabilities(block, "sentence")
    value = np.full(block.height, np.nan)
    value[of] = p[first]
    return statused(value, status)


_KUNG = "Kung et al. 2023, Active Instruction Tuning, arXiv 2311.00288"
_indicator = partial(Indicator, axis="importance", family="model", section="5.2", cost="gpu")

INDICATORS = (
    _indicator(
        id="prompt_uncertainty",
        title="Uncertainty under a changed instruction",
        equation=r"\frac{1}{K} \sum_k |P(y \mid \tilde x^k) - P(y \mid x)|",
        paper=_KUNG,
        meaning="How much the model's belief in the answer changes when a few words of the instruction are missing. "
        "High: it has not understood this kind of task firmly, and can learn from the row.",
        needs=PERTURBATIONS,
        params={"mode": "sentence"},
        direction="higher",
        compute=prompt_uncertainty,
    ),
    _indicator(
        id="prediction_probability",
        title="Probability of the response",
        equation=r"\exp(\frac{1}{T} \sum_j \ln p_j)",
        paper=_KUNG,
        meaning="How likely the model finds an average token of the answer, from 0 to 1. Beside a low uncertainty, low "
        "means difficult and high means easy.",
        needs=PERTURBATIONS,
        direction="band",
        compute=prediction_probability,
    ),
)
