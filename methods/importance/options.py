"""Importance from letting a model choose between answers (CAPE, survey 5.2): options in all orders and wordings.

Here belong what is to be asked for a row (texts in, texts out, the same on every machine and in every order of rows),
the shape of the answers that are stored (`CAPE_SCHEMA`), the indicator that reads them, and how well they are
calibrated. No model runs here. Asking again with a changed instruction is in `methods.importance.prompting`.

All logarithms are natural.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from methods.importance.prompting import flattened, status_of, sums_by
from methods.kinds import OK, Indicator, Pool, statused

CAPE = ("evidence/cape",)
CAPE_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {"row_id": pl.String, "status": pl.String, "n_options": pl.Int64, "probabilities": pl.List(pl.List(pl.Float64))}
)
"""One line a row: for each way of asking, the probabilities of the options (the row's own response first), which sum to
1; null unless the status is ``ok``."""

# --- what is asked: options ------------------------------------------------------------------------------------------
LETTERS = "ABCDEFGHIJ"
TEMPLATES = (
    "Question:\n{prompt}\n\nPossible answers:\n{options}\n\nReply with the letter of the best answer.",
    "Someone asked:\n{prompt}\n\nWhich of these replies is right?\n{options}\n\nSay its letter and nothing else.",
    "Choose the reply that serves best.\n\nRequest:\n{prompt}\n\nReplies:\n{options}\n\nAnswer with one letter.",
)
"""Three ways of asking for a letter; the answer is read at the first token of the reply."""


def options_of(gold: str, candidates: Sequence[str], most: int = 3, longest: int = 400) -> list[str]:
    """The row's own response first, then at most ``most`` candidates that differ from it and from each other.

    Candidates come in order of preference: where a row has none of its own, the responses of its nearest other rows.
    Blanks at the ends and capitals make no difference. What is longer than ``longest`` characters is cut there and
    shown with an ellipsis; options that are equal after the cut are one. An empty list: there is nothing to choose.
    """
    if not 1 <= most < len(LETTERS):
        raise ValueError(f"most must be between 1 and {len(LETTERS) - 1}, got {most}")
    stripped = [text.strip() for text in (gold, *candidates)]
    texts = [text if len(text) <= longest else text[:longest].rstrip() + " …" for text in stripped]
    distinct = {text.casefold(): text for text in reversed(texts) if text}  # the first of equal ones stays
    others = [text for text in dict.fromkeys(distinct[text.casefold()] for text in texts if text) if text != texts[0]]
    return [texts[0], *others[:most]] if texts[0] and others else []


def cyclic(n: int) -> np.ndarray:
    """(n, n) int64: in order s, place j shows option (j + s) mod n. Each option stands once in every place."""
    return (np.arange(n)[:, None] + np.arange(n)[None, :]) % n


def option_prompts(prompt: str, options: Sequence[str], templates: Sequence[str] = TEMPLATES) -> list[str]:
    """Every template with every cyclic order of the options: template by template, n prompts each."""
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"there must be 2 to {len(LETTERS)} options, got {len(options)}")
    texts = []
    for template in templates:
        for order in cyclic(len(options)):
            lines = "\n".join(f"{LETTERS[place]}. {options[option]}" for place, option in enumerate(order))
            # Not str.format: prompt and options may hold braces; nothing that was put in is replaced again.
            parts = re.split(r"(\{prompt\}|\{options\})", template)
            texts.append("".join({"{prompt}": prompt, "{options}": lines}.get(part, part) for part in parts))
    return texts


def words(n: int = len(LETTERS)) -> list[str]:
    """The ways to write the first ``n`` letters: each as it is, and behind a blank."""
    return [way + letter for letter in LETTERS[:n] for way in ("", " ")]


def answered(counts: Sequence[int], logp: np.ndarray, status: Sequence[str]) -> list[tuple[str, list[Any] | None]]:
    """The status of each row and what stands in ``probabilities``, from ln p of `words` behind `option_prompts`.

    ``counts`` says how many options each row has; the prompts stand row by row, (prompts, 2 * letters). NaN: that way
    of writing a letter is no single token. `no_letters`: neither way is, for some letter.
    """
    found: list[tuple[str, list[Any] | None]] = []
    begin = 0
    # A letter is chosen if it is written in one way or the other.
    both = np.logaddexp(
        *np.moveaxis(np.where(np.isnan(logp), -np.inf, logp).reshape(len(logp), logp.shape[1] // 2, 2), 2, 0)
    )
    for n in counts:
        asked = slice(begin, begin := begin + n * len(TEMPLATES))
        why = next((one for one in status[asked] if one != OK), OK)
        letters = both[asked, :n]
        if why == OK and not np.isfinite(letters).all():
            why = "no_letters"
        found.append((why, undone(letters).tolist() if why == OK else None))
    return found


def undone(logp: np.ndarray) -> np.ndarray:
    """ln p (or scores) of the letters, (templates * n, n), to probabilities of the options, in the same shape.

    Row by row as `option_prompts` gives them. The letters' probabilities are made to sum to 1, then put back in the
    options' own order.
    """
    logp = np.asarray(logp, dtype=np.float64)
    if logp.ndim != 2 or logp.shape[1] < 2 or logp.shape[0] % logp.shape[1]:
        raise ValueError(f"there must be n letters for a multiple of n prompts, got shape {logp.shape}")
    n = logp.shape[1]
    shown = np.exp(logp - logp.max(axis=1, keepdims=True))
    shown /= shown.sum(axis=1, keepdims=True)
    orders = np.tile(cyclic(n), (len(logp) // n, 1))
    found = np.empty_like(shown)
    np.put_along_axis(found, orders, shown, axis=1)
    return found


# --- what was answered: CAPE -----------------------------------------------------------------------------------------
def _readings(block: pl.DataFrame) -> tuple[pl.Series, dict[str, np.ndarray]]:
    """The status and every reading of each row."""
    status = status_of(block, "probabilities", (1, "no_answer"), (2, "no_candidates"), "uneven_options")
    rows, _, options, p = flattened(block.select(pl.when(status == OK).then("probabilities")).to_series())
    n, widest = block.height, int(options.max(initial=2))
    of = np.repeat(rows, options)
    option = np.arange(len(p)) - np.repeat(np.cumsum(options) - options, options)
    members = np.bincount(rows, minlength=n)
    with np.errstate(invalid="ignore"):
        mean = sums_by(of * widest + option, p, n * widest).reshape(n, widest) / members[:, None]
        of_members = sums_by(of, _surprise(p), n) / members
    entropy = _surprise(mean).sum(axis=1)
    return status, {
        "entropy": entropy,
        "epistemic": np.maximum(entropy - of_members, 0.0),
        "confidence": mean.max(axis=1),
        "p_gold": mean[:, 0],
        "rival": mean[:, 1:].max(axis=1),
    }


def _surprise(p: np.ndarray) -> np.ndarray:
    """-p ln p, 0 for 0; its sum is the entropy."""
    return -p * np.log(np.where(p == 0, 1.0, p))


def cape_uncertainty(pool: Pool, stat: str = "entropy") -> pl.DataFrame:
    """How undecided a model is between the row's response and others, asked in several ways and orders.

    Equation: H(p-bar) (`entropy`); H(p-bar) - mean_m H(p_m) (`epistemic`: how far the ways of asking disagree);
    max_i p-bar_i (`confidence`); p-bar of the row's response (`p_gold`), with p_m the probabilities of the options in
    the m-th way of asking and p-bar their mean, in nats. (.9, .1) and (.5, .5) give .610864, .101749, .7 and .7.

    Direction: higher, for `entropy` and `epistemic`: the model cannot tell. `confidence` and `p_gold` point the other
    way, and a recipe that scores by them must say `directions: {cape_uncertainty: lower}`.

    Parameters: `stat` is `entropy`, `epistemic`, `confidence` or `p_gold`.

    Statuses: `empty_response`; `no_candidates` (no other answer to choose from); `no_answer` (nothing was asked);
    `no_letters` (the model has no single token for a letter); `uneven_options`; any status of the model's pass.

    Source: Jiang et al. 2023, Calibrating Language Models via Augmented Prompt Ensembles (workshop paper).

    Departures: the paper calibrates; to choose rows by it is the survey's proposal. The options are the row's response
    and those of its nearest other rows (up to three, cut at 400 characters), not answers that a model wrote for this
    prompt: a row without near neighbours is an easy choice. Nearest is by the embedding of the whole row. Three
    wordings of our own, times all cyclic orders, so that a model which always takes one place is wholly undecided.
    """
    if stat not in ("entropy", "epistemic", "confidence", "p_gold"):
        raise ValueError(f"stat must be 'entropy', 'epistemic', 'confidence' or 'p_gold', not {stat!r}")
    status, found = _readings(pool.tables[CAPE[0]].collect())
    return statused(found[stat], status)


def answers(block: pl.DataFrame) -> pl.DataFrame:
    """``confidence`` and ``correct`` of each row, for `calibration`; null where a row has no answer.

    Correct: the row's response is more probable than every other option, by more than 1e-9; a tie is not.
    """
    status, found = _readings(block)
    correct = pl.Series(found["p_gold"] > found["rival"] + 1e-9)
    value = pl.col("value")
    return statused(found["confidence"], status).select(
        confidence=value, correct=pl.when(value.is_not_null()).then(correct)
    )


class Calibration(NamedTuple):
    """Expected calibration error and Brier score (0 is best for both), the rows they are of, and the bins."""

    ece: float
    brier: float
    rows: int
    bins: pl.DataFrame
    """``from``, ``to``, ``rows``, ``confidence`` (mean) and ``right`` (share) of each bin that has rows."""


def calibration(p: pl.Series, correct: pl.Series, bins: int = 15) -> Calibration | None:
    """ECE: |share right - mean confidence| of ``bins`` bins of equal width (open below), weighted by their rows; Brier:
    the mean of (confidence - 1 where right, 0 where wrong) squared. None without rows."""
    known = pl.DataFrame({"p": p.cast(pl.Float64), "correct": correct.cast(pl.Float64)}).drop_nulls()
    if not known.height:
        return None
    if not known["p"].is_between(-1e-9, 1 + 1e-9).all():
        raise ValueError("a confidence must be between 0 and 1")
    # 1e-9: .1 + .2 is a little more than .3, and belongs to the bin that ends there.
    which = ((pl.col("p") * bins - 1e-9).ceil().cast(pl.Int64) - 1).clip(0, bins - 1)
    table = (
        known.group_by(bin=which)
        .agg(rows=pl.len().cast(pl.Int64), confidence=pl.col("p").mean(), right=pl.col("correct").mean())
        .sort("bin")
        .select((pl.col("bin") / bins).alias("from"), ((pl.col("bin") + 1) / bins).alias("to"), pl.exclude("bin"))
    )
    gap = (table["rows"] * (table["right"] - table["confidence"]).abs()).sum() / known.height
    brier = known.select(((pl.col("p") - pl.col("correct")) ** 2).mean()).item()
    return Calibration(float(gap), float(brier), known.height, table)


INDICATORS = (
    Indicator(
        id="cape_uncertainty",
        title="Uncertainty between answers",
        axis="importance",
        family="model",
        section="5.2",
        equation=r"H(\bar p)",
        paper="Jiang et al. 2023, Calibrating Language Models via Augmented Prompt Ensembles",
        meaning="0 where the model always takes the same one of several answers; high where it cannot tell the row's "
        "answer from those of similar rows, or changes its mind with the wording.",
        needs=CAPE,
        cost="gpu",
        params={"stat": "entropy"},
        direction="higher",
        scope="pool",
        compute=cape_uncertainty,
    ),
)
