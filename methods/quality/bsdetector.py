"""BSDetector: how far an answer may be trusted, and what becomes of the answers that may not (CLEAR).

Here belong the numbers and the decisions. What the judge is asked stands in `methods.judging.detecting`; whether two
answers contradict each other is handed in as a function, by a model (`resources.nli`) or by embeddings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from methods.judging.asking import base
from methods.judging.detecting import REFLECTION, SAMPLE, VOTE, candidate, folded, sample_text, whole_samples
from methods.judging.kinds import NOT_ASKED
from methods.kinds import OK, Encode, Indicator, Pool, statused

EVIDENCE, CORRECTED = "evidence/bsdetector", "corrected/answers"
AUTO_CORRECT = "bsdetector_auto_correct"
"""The indicator that a recipe gates by, whose subset is then written with the new answers."""
FEW_SAMPLES, FEW_REFLECTIONS, NO_COMPARISON = "few_samples", "few_reflections", "no_comparison"
EVIDENCE_SCHEMA = pl.Schema(
    {
        "row_id": pl.String(),
        "status": pl.String(),  # ok if there is a sample and a reflection; else the judge's, or `no_comparison`
        "consistent": pl.List(pl.Float64()),  # 1 - P(contradiction) of each sample and the row's answer, both ways
        "same": pl.List(pl.Float64()),  # 1 where the sample says the very same
        "reflections": pl.List(pl.Float64()),
    }
)
"""One line a row: what is read off the judge's answers, those aside that could not be had."""

Contradiction = Callable[[Sequence[tuple[str, str]]], np.ndarray]
"""P(contradiction) of each (premise, hypothesis), float64; NaN where it is not known."""


# --- evidence --------------------------------------------------------------------------------------------------------
def by_embeddings(encode: Encode) -> Contradiction:
    """How unlike two texts are, 1 - cosine between 0 and 1, in the place of P(contradiction)."""

    def contradiction(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        if not pairs:
            return np.zeros(0)
        firsts, seconds = ([pair[side] for pair in pairs] for side in (0, 1))
        vectors = np.asarray(encode([*firsts, *seconds]), dtype=np.float64)
        cosine = (vectors[: len(pairs)] * vectors[len(pairs) :]).sum(axis=1)
        return np.clip(1.0 - cosine, 0.0, 1.0)

    return contradiction


def evidence(judged: pl.DataFrame, own: Mapping[str, str], contradiction: Contradiction) -> pl.DataFrame:
    """`EVIDENCE_SCHEMA` of some rows of ``judgments_bsdetector``; ``own`` is the answer of each row.

    A sample and the row's answer are compared both ways, and the mean is taken.
    """
    lines = list(judged.iter_rows(named=True))
    texts = [_samples(line) for line in lines]
    pairs = [
        pair
        for line, some in zip(lines, texts, strict=True)
        for text in some
        for pair in ((own[line["row_id"]], text), (text, own[line["row_id"]]))
    ]
    both = np.asarray(contradiction(pairs), dtype=np.float64).reshape(-1, 2).mean(axis=1)
    found, at = [], 0
    for line, some in zip(lines, texts, strict=True):
        chances, at = both[at : at + len(some)], at + len(some)
        known = np.isfinite(chances)
        answer = folded(own.get(line["row_id"], ""))
        same = [float(folded(text) == answer) for text, there in zip(some, known, strict=True) if there]
        reflections = _values(line, REFLECTION)
        status = OK
        if not same or not reflections:
            status = _status(line) if not some or not reflections else NO_COMPARISON
        found.append((line["row_id"], status, (1.0 - chances[known]).tolist(), same, reflections))
    return pl.DataFrame(found, schema=EVIDENCE_SCHEMA, orient="row")


def _samples(line: Mapping[str, Any]) -> list[str]:
    columns = (line[name] or () for name in ("parts", "statuses", "answers"))
    return [sample_text(a) for part, s, a in zip(*columns, strict=True) if base(part) == SAMPLE and s == OK]


def _values(line: Mapping[str, Any], kind: str) -> list[float]:
    """The numbers of the parts of a kind, those aside that could not be had."""
    columns = (line[name] or () for name in ("parts", "statuses", "values"))
    return [v for part, s, v in zip(*columns, strict=True) if part.partition(":")[0] == kind and s == OK]


def _status(line: Mapping[str, Any]) -> str:
    """Why a row has too little: the first status that is not ok."""
    said = next((status for status in line["statuses"] or () if status != OK), line["status"] or NOT_ASKED)
    return NOT_ASKED if said == OK else said


# --- confidence ------------------------------------------------------------------------------------------------------
def observed(consistent: Sequence[float], same: Sequence[float], alpha: float = 0.8) -> float:
    """Observed consistency: mean_k (alpha s_k + (1 - alpha) r_k)."""
    return float(np.mean(alpha * np.asarray(consistent) + (1 - alpha) * np.asarray(same)))


def confidence(agreement: float, reflections: Sequence[float], beta: float = 0.7) -> float:
    """beta O + (1 - beta) S, S being the mean of the reflections."""
    return beta * agreement + (1 - beta) * float(np.mean(reflections))


def bsdetector(
    block: pl.DataFrame, alpha: float = 0.8, beta: float = 0.7, least_samples: int = 3, least_reflections: int = 1
) -> pl.DataFrame:
    """How far the judge trusts the row's answer: does it answer the same itself, and does it hold it to be correct.

    Equation: C = beta O + (1 - beta) S with O = mean_k (alpha s_k + (1 - alpha) r_k). s_k = 1 - P(contradiction) of
    the k-th sampled answer and the row's, the mean of both orders; r_k = 1 where they are the same but for case, blanks
    and marks around them; S = mean over the reflections of 1 (correct), .5 (not sure), 0 (wrong). With (s, r) = (.9,
    1), (.7, 0), (.8, 0) and S = .75: O = .706667, C = .719667.

    Direction: higher. Auto-filter keeps the rows from the median upwards: a gate with percentile [50, 100].

    Parameters: `alpha` = .8, `beta` = .7 (the paper's); `least_samples` and `least_reflections` that must be there (5
    and 2 are asked for).

    Statuses: `few_samples`, `few_reflections`; `no_comparison` (no sample could be compared); where there is none at
    all, the status of the judge's answers (`parse_error`, `refused`, `api_error`, `truncated`, `not_asked`, `pending`),
    or `empty_response`.

    Source: Chen & Mueller 2023, BSDetector (arXiv 2308.16175); 2024, CLEAR (arXiv 2403.12776).

    Departures: the row's own answer takes the place of the judge's greedy one, as in CLEAR. The prompt is asked as it
    is, without the demand to think step by step. Without an NLI model s_k is the cosine of embeddings, cut to 0 to 1:
    of two answers that differ in one word that matters it sees little. The evidence says which of the two it was.
    A judge that cannot draw (`local:` models are greedy) gives one answer five times, and O says little.
    """
    values, statuses = [], []
    columns = block.select("status", "consistent", "same", "reflections")
    for status, consistent, same, reflections in columns.iter_rows():
        said = status or NOT_ASKED
        if said == OK and len(consistent) < least_samples:
            said = FEW_SAMPLES
        elif said == OK and len(reflections) < least_reflections:
            said = FEW_REFLECTIONS
        statuses.append(said)
        values.append(confidence(observed(consistent, same, alpha), reflections, beta) if said == OK else None)
    return statused(values, statuses)


# --- auto-correct ----------------------------------------------------------------------------------------------------
REPLACED, KEPT, DROPPED, UNJUDGED = "replaced", "kept", "dropped", "unjudged"
CORRECTED_SCHEMA = pl.Schema(
    {
        "row_id": pl.String(),
        "status": pl.String(),  # ok where something was decided
        "decision": pl.String(),  # replaced, kept, dropped; unjudged: nothing is known
        "old": pl.String(),
        "new": pl.String(),  # only where it was replaced
        "confidence": pl.Float64(),  # that the judge's answer is better; null where it was not compared
        "trust": pl.Float64(),  # the row's own BSDetector confidence
        "why": pl.String(),
    }
)


def preference(line: Mapping[str, Any] | None, beta: float = 0.7) -> tuple[float | None, float, str]:
    """How sure the judge is that its own answer is better, the mean of its votes, and where there is no number, why.

    C = beta O + (1 - beta) S: O is the mean vote (1 for its own answer, .5 for neither, 0 for the row's), S the mean
    reflection on the verdict that its own is better. Each order of the two must have a vote; and there must be a
    reflection.
    """
    if line is None:
        return None, 0.0, NOT_ASKED
    columns = (line[name] or () for name in ("parts", "statuses", "values"))
    votes: dict[str, list[float]] = {}
    for part, status, value in zip(*columns, strict=True):
        kind, _, order = base(part).partition(":")
        if kind == VOTE and status == OK:
            votes.setdefault(order, []).append(value)
    reflections = _values(line, REFLECTION)
    if len(votes) < 2 or not reflections:
        return None, 0.0, _status(line)
    # Orders count alike, however many votes of each there are.
    agreement = float(np.mean([np.mean(some) for some in votes.values()]))
    return confidence(agreement, reflections, beta), agreement, OK


def corrected(
    own: pl.DataFrame,
    trust: pl.DataFrame,
    judged: pl.DataFrame,
    compared: pl.DataFrame,
    gamma: float = 0.8,
    percentile: float = 50.0,
    beta: float = 0.7,
) -> pl.DataFrame:
    """`CORRECTED_SCHEMA`: what becomes of each row's answer.

    Algorithm: the judge's own answer A' (`detecting.candidate`) replaces the row's A where the judge prefers it, with a
    confidence above `gamma`. Else the row is kept if its trust C(A) reaches the median of all that have one
    (`percentile` = 50), and dropped if not. A row of which neither is known stays as it is and is `unjudged`: no gate
    lets it pass.

    Parameters: ``own`` has ``row_id`` and ``answer``, ``trust`` ``row_id, value, status`` (`bsdetector`), ``judged``
    and ``compared`` are the tables of the two questions.

    Source: Chen & Mueller 2024, CLEAR (arXiv 2403.12776); gamma = .8, the median.

    Departures: A' is the most typical of the judge's own samples, and not of a model that was tuned on what the filter
    leaves. The confidence in "A' is better" is BSDetector's: votes in both orders for its observed consistency, the
    reflections in both orders for the rest.
    """
    values = dict(trust.select("row_id", "value").iter_rows())
    known = np.array([value for value in values.values() if value is not None], dtype=np.float64)
    least = threshold(known, percentile)
    samples = {line["row_id"]: line for line in judged.iter_rows(named=True)}
    lines = {line["row_id"]: line for line in compared.iter_rows(named=True)}
    statuses = dict(trust.select("row_id", "status").iter_rows())
    found: list[tuple[Any, ...]] = []
    for row_id, old in own.select("row_id", "answer").iter_rows():
        texts = whole_samples(samples[row_id]) if row_id in samples else []
        new, value = candidate(old, texts), values.get(row_id)
        sure, agreement, said = preference(lines.get(row_id), beta) if new is not None else (None, 0.0, OK)
        if new is not None and sure is not None and agreement > 0.5 and sure > gamma:
            why = f"the judge's answer is better with confidence {sure:.3f}, above {gamma:g}"
            found.append((row_id, OK, REPLACED, old, new, sure, value, why))
            continue
        why = _instead(new, texts, sure, said, gamma)
        if value is None:
            status = statuses.get(row_id) or NOT_ASKED
            found.append(
                (row_id, status, UNJUDGED, old, None, sure, None, f"{why}; no trust in it is known ({status})")
            )
        else:
            kept = value >= least
            how = f"trust {value:.3f} {'reaches' if kept else 'is below'} {least:.3f}"
            found.append((row_id, OK, KEPT if kept else DROPPED, old, None, sure, value, f"{why}; {how}"))
    return pl.DataFrame(found, schema=CORRECTED_SCHEMA, orient="row")


def threshold(values: np.ndarray, percentile: float = 50.0) -> float:
    """The percentile of the values that are there, by linear interpolation: 50 is the median. Infinite for none."""
    return float(np.percentile(values, percentile)) if len(values) else float("inf")


def _instead(new: str | None, texts: Sequence[str], sure: float | None, said: str, gamma: float) -> str:
    """Why an answer was not replaced."""
    if new is None:
        return "the judge answers the same" if texts else "there is no answer of the judge's that ends"
    if sure is None:
        return f"the two answers were not compared ({said})"
    return f"the judge's answer is better with confidence {sure:.3f}, not above {gamma:g}"


def auto_correct(pool: Pool) -> pl.DataFrame:
    """Whether a row stays after auto-correction: 1 with its own answer or a better one, 0 if it is dropped.

    Equation: 1 if C(A' > A) > gamma or C(A) >= median(C), else 0.

    Direction: higher; a gate asks for at least 1.

    Statuses: `not_asked` and the other statuses of the judge where nothing is known of a row.

    Source: Chen & Mueller 2024, CLEAR (arXiv 2403.12776).
    """
    table = pool.tables[CORRECTED].select("status", "decision").collect()
    stays = table["decision"].is_in([REPLACED, KEPT]).cast(pl.Float64)
    return statused(stays, table["status"].fill_null(NOT_ASKED))


# --- records ---------------------------------------------------------------------------------------------------------
def with_answer(record: Any, old: str, new: str) -> Any | None:
    """A record with the last text in it that is the old answer, blanks around it aside, replaced; None where there is
    none. Texts that hold more than the answer are left alone."""
    found = copy.deepcopy(record)
    place = _last(found, old.strip()) if old.strip() else None
    if place is None:
        return None
    inside, key = place
    inside[key] = new
    return found


def _last(value: Any, wanted: str) -> tuple[Any, Any] | None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    place = None
    for key, part in items:
        here = (value, key) if isinstance(part, str) and part.strip() == wanted else _last(part, wanted)
        place = here or place
    return place


def with_correction(
    record: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], old: str, new: str
) -> dict[str, Any]:
    """A record whose answer is the new one: where its layout has the old one as a text of its own, else as
    ``messages``, the row's conversation."""
    said = with_answer([dict(message) for message in messages], old, new)
    if said is None:
        raise ValueError("the row's conversation does not hold the answer that was replaced")
    # One record may hold several rows; its messages are then those of this row.
    found = None if record.get("messages") == list(messages) else with_answer(dict(record), old, new)
    return found if found is not None else {**record, "messages": said}


def lineage(line: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of an answer that was replaced."""
    return {name: line[name] for name in ("old", "new", "confidence", "why")}


INDICATORS = (
    Indicator(
        id="bsdetector",
        title="BSDetector: how far the answer may be trusted",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"C = \beta O + (1 - \beta) S,\quad O = \frac{1}{K} \sum_k (\alpha s_k + (1 - \alpha) r_k)",
        paper="Chen & Mueller 2023, BSDetector, arXiv 2308.16175",
        meaning="Near 1 where the judge would answer the same and holds the row's answer to be correct; near 0 where "
        "it contradicts the row and calls it wrong.",
        needs=(EVIDENCE,),
        cost="llm",
        params={"alpha": 0.8, "beta": 0.7, "least_samples": 3, "least_reflections": 1},
        compute=bsdetector,
    ),
    Indicator(
        id=AUTO_CORRECT,
        title="Auto-correct: the row stays, with its own answer or a better one",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"[C(A' \succ A) > \gamma \lor C(A) \geq \mathrm{median}(C)]",
        paper="Chen & Mueller 2024, CLEAR, arXiv 2403.12776",
        meaning="1: the answer is trusted, or the judge's replaces it; 0: neither, and the row should go.",
        needs=(CORRECTED,),
        cost="llm",
        scope="pool",
        compute=auto_correct,
    ),
)
