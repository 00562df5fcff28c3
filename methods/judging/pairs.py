"""Which of two rows is better: what pairs are asked about, the requests of a pair, and the votes that come back.

Here belong the choice of pairs, the question in both orders, the reading of an A or a B, and the table of votes
(`PAIRS_SCHEMA`). What follows from votes stands in `methods.quality.qurating` and `methods.quality.pairwise`, the fit
in `methods.numerics.bradley_terry`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from math import exp
from typing import Any

import numpy as np
import polars as pl

from methods.judging import parsers, prompts, wrapping
from methods.judging.asking import cell, repeated
from methods.judging.kinds import NOT_ASKED, OK, PARSE_ERROR, REFUSED, Answer, Cell, Question, Reading

CRITERIA: Mapping[str, str] = {
    "writing_style": "Which text is written better: clearer, more polished, more pleasant to read?",
    "facts_and_trivia": "Which text holds more facts and trivia, the particular and little-known ones above all?",
    "educational_value": "Which text is worth more for teaching: clear explanations, steps of reasoning, questions and "
    "answers?",
    "required_expertise": "Which text takes more knowledge of its subject, or more training, to be understood?",
}
"""QuRating's four, in our words. Any other text is a criterion of its own, asked as it is written."""
ORDERS = ("ab", "ba")
"""Parts of a pair: which of its rows is shown first."""
CHOICES = ("A", "B")
DESIGNS = ("connected", "random")


def wording(criterion: str) -> str:
    """What a judge is asked for a criterion: of one of `CRITERIA`, or in the user's own words."""
    if not criterion.strip():
        raise ValueError(f"a criterion is one of {', '.join(CRITERIA)}, or a question in your own words")
    return CRITERIA.get(criterion, criterion.strip())


# ---- which pairs are asked -------------------------------------------------------------------------------------------


def designed(n: int, neighbours: int, seed: int, design: str = "connected") -> np.ndarray:
    """Pairs of ``n`` rows, (m, 2) int64 with the lower index first, in ascending order; each pair once.

    ``connected``: rings through all rows in random orders are laid over each other until there are ``n neighbours / 2``
    pairs, links of rows that have ``neighbours`` others left out, so that nearly all have just as many. The first ring
    already joins all rows, so that all strengths can be compared. ``random``: as many pairs, drawn from all there are;
    some rows may stand in none. Where there are no more pairs than that, all of them.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours must be 1 or more, got {neighbours}")
    if design not in DESIGNS:
        raise ValueError(f"there is no design {design!r}; there are {', '.join(DESIGNS)}")
    rng = np.random.default_rng(seed)
    if n < 2:
        return np.empty((0, 2), dtype=np.int64)
    if neighbours >= n - 1:
        return np.stack(np.triu_indices(n, 1), axis=1).astype(np.int64)
    wanted = max(n * neighbours // 2, n - 1 if design == "connected" else 1)
    if design == "random":
        return _unranked(np.sort(rng.choice(n * (n - 1) // 2, wanted, replace=False)), n)
    keys: dict[int, None] = {}
    degree, most = [0] * n, neighbours
    while len(keys) < wanted:
        ring = rng.permutation(n)
        links = np.sort(np.stack([ring, np.roll(ring, -1)], axis=1), axis=1)
        before = len(keys)
        for low, high in links.tolist():
            first_ring, room = not before, degree[low] < most and degree[high] < most
            if (first_ring or (room and low * n + high not in keys)) and len(keys) < wanted:
                keys[low * n + high] = None
                degree[low] += 1
                degree[high] += 1
        most += len(keys) == before  # a ring that brought nothing: rows may have one more
    found = np.array(sorted(keys), dtype=np.int64)
    return np.stack([found // n, found % n], axis=1)


def _unranked(ranks: np.ndarray, n: int) -> np.ndarray:
    """The pairs (i, j), i < j, of these places in their ascending order."""
    starts = np.concatenate([[0], np.cumsum(np.arange(n - 1, 0, -1))])
    low = np.searchsorted(starts, ranks, side="right") - 1
    return np.stack([low, low + 1 + ranks - starts[low]], axis=1).astype(np.int64)


def drawn(row_ids: Sequence[str], rows: int, seed: int) -> list[str]:
    """So many rows in a random order: those whose ids hash lowest with the seed, so that a row that comes or goes moves
    no other."""

    def luck(row_id: str) -> bytes:
        return blake2b(row_id.encode(), digest_size=8, key=seed.to_bytes(8, "little", signed=True)).digest()

    return sorted(set(row_ids), key=lambda row_id: (luck(row_id), row_id))[:rows]


def shown_first(pairs: np.ndarray, seed: int) -> np.ndarray:
    """The pairs with either row first, by chance: which row a pair names first shall not hang on the rows' order."""
    swap = np.random.default_rng([seed, 1]).random(len(pairs)) < 0.5
    return np.where(swap[:, None], pairs[:, ::-1], pairs)


# ---- what is asked about a pair -------------------------------------------------------------------------------------


def pair_id(a: str, b: str) -> str:
    """The name of a pair among cells."""
    return f"{a}:{b}"


def pair_cells(
    rows: pl.DataFrame,
    pairs: Sequence[tuple[str, str]] = (),
    criterion: str = "educational_value",
    repeats: int = 1,
    temperature: float = 0.0,
    chances: bool = False,
    max_tokens: int = 16,
    longest: int = wrapping.LONGEST,
) -> list[Cell]:
    """Both orders of each pair, ``repeats`` times each; a pair of which a row has no text has none.

    ``pairs`` are row ids. ``longest`` characters of both rows together are shown. ``chances`` matters to
    the reading alone: the log-probabilities of A and B are asked for in any case.
    """
    prompt = prompts.load("pair.v1")
    by_id = {row["row_id"]: row for row in rows.iter_rows(named=True)}
    more: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "choices": CHOICES}
    cells = []
    for a, b in pairs:
        texts = [by_id[a], by_id[b]]
        if not all((row["response"] or "").strip() for row in texts):
            continue
        for order, (first, second) in zip(ORDERS, (texts, texts[::-1]), strict=True):
            shown = [*_side("A", first, longest), *_side("B", second, longest)]
            cells.append(cell(prompt, pair_id(a, b), order, shown, longest, criterion=wording(criterion), **more))
    return repeated(cells, repeats)


def _side(name: str, row: Mapping[str, Any], longest: int) -> Iterator[tuple[str, str]]:
    """A row's sections under the name of its text; of a long conversation the beginning and the end, so that neither
    row crowds out the other."""
    parts = wrapping.sections(row)
    most = max(2, longest // 2 // 400)
    if len(parts) > most:
        gone = parts[most // 2 : len(parts) - (most - most // 2)]
        note = ("left out", f"[{len(gone)} messages]")
        parts = [*parts[: most // 2], note, *parts[len(parts) - (most - most // 2) :]]
    for title, text in parts:
        yield f"text {name}, {title}", text


_NAMED = r"(?:(?:the\s+)?(?:text|response|option|passage|document)\s+)"
_CHOICE = re.compile(
    rf"(?:(?:my\s+|the\s+)?(?:answer|choice|verdict|winner|better(?:\s+(?:one|text))?)\s*(?::|=|\bis\b\s*:?)\s*)?{_NAMED}?"
    r"[(\[\"'“]?(?P<said>[AB])[)\]\"'”]?\s*\.?",
    re.IGNORECASE,
)


def read_choice(answer: Answer, asked: Cell, chances: bool = False, **_: Any) -> Reading:
    """0 for A, 1 for B: the first line of an answer is the letter, perhaps after ``Answer:`` or ``Text``, and nothing
    else; or a JSON object has it as its ``choice``. An answer that says the other letter on a later line says nothing.

    With ``chances`` the value is P(B) / (P(A) + P(B)) at the first token, where the endpoint names both and together
    they have at least half of all chances.
    """
    said = _letter(answer.text, asked)
    if said is None:
        return Reading(REFUSED if parsers.refused(answer.text) else PARSE_ERROR)
    fields: dict[str, Any] = {"choice": said}
    gone = wrapping.left_out(asked)
    if gone:
        fields["left_out"] = gone
    value = float(CHOICES.index(said))
    if chances and set(CHOICES) <= set(answer.logprobs):
        a, b = (exp(min(answer.logprobs[name], 0.0)) for name in CHOICES)
        if a + b >= 0.5:
            value, fields["read_from"] = b / (a + b), "logprobs"
    return Reading(OK, value, fields)


def _letter(text: str, asked: Cell) -> str | None:
    found = parsers.json_value(text, dict, wrapping.inside(asked))
    if found is not None:
        said = found.get("choice")
        letter = said.strip().upper() if isinstance(said, str) else ""
        return letter if letter in CHOICES else None
    bare = parsers.without_thoughts(text[: parsers.LONGEST])
    lines = [line for line in bare.splitlines() if any(one.isalnum() for one in line)]
    bare_lines = [re.sub(r"[*_`#\s]+", " ", line).strip() for line in lines]
    matches = [_CHOICE.fullmatch(line) for line in bare_lines]
    letters = {match["said"].upper() for match in matches if match}
    return letters.pop() if matches and matches[0] and len(letters) == 1 else None


PAIR = Question(
    id="pair",
    title="Which of two rows is better",
    prompts=("pair.v1",),
    paper="Wettig et al. 2024, QuRating, arXiv 2402.09739",
    meaning="Two rows are shown, and the judge names the one that has more of what a criterion asks for.",
    cells=pair_cells,
    read=read_choice,
    params={
        "criterion": "educational_value",
        "repeats": 1,
        "temperature": 0.0,
        "chances": False,
        "max_tokens": 16,
        "longest": wrapping.LONGEST,
    },
    from_start=True,
)
"""It is about pairs and not about rows, so it is none of `methods.judging.questions`."""


# ---- votes ----------------------------------------------------------------------------------------------------------

PAIRS_SCHEMA = pl.Schema(
    {
        "a": pl.String(),
        "b": pl.String(),
        "status": pl.String(),  # ok: enough votes in both orders; else why not
        "ab_first": pl.Float64(),  # votes for the one shown first (a), when a was
        "ab_second": pl.Float64(),
        "ba_first": pl.Float64(),  # votes for the one shown first (b), when b was
        "ba_second": pl.Float64(),
        "probability": pl.Float64(),  # that b is preferred to a; null unless the status is ok
        "confident": pl.Boolean(),
        "a_chars": pl.Int64(),
        "b_chars": pl.Int64(),
        "statuses": pl.List(pl.String()),  # of each answer
        "answers": pl.List(pl.String()),  # as they came
    }
)
"""One line a pair."""
TOO_FEW_VOTES, EMPTY_RESPONSE = "too_few_votes", "empty_response"
CONFIDENT = 0.5
"""|2 P - 1| from which a rater learns from a pair."""


def debiased(ab_first: np.ndarray, ab_second: np.ndarray, ba_first: np.ndarray, ba_second: np.ndarray) -> np.ndarray:
    """P(b preferred to a) = (p(a, b) + 1 - p(b, a)) / 2 with p(first, second) the share of votes for the second; NaN
    where an order has no votes. 15:5 with a first and 4:16 with b first are .225."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ab = np.asarray(ab_second, dtype=np.float64) / (np.asarray(ab_first, dtype=np.float64) + ab_second)
        ba = np.asarray(ba_second, dtype=np.float64) / (np.asarray(ba_first, dtype=np.float64) + ba_second)
    return (ab + 1 - ba) / 2


def counted(
    pairs: Sequence[tuple[str, str]],
    cells: Sequence[Cell],
    answers: Sequence[Answer],
    read: Callable[[Answer, Cell], Reading],
    characters: Mapping[str, int],
    least: int = 1,
) -> pl.DataFrame:
    """`PAIRS_SCHEMA`, one line a pair. ``least``: usable votes that each order must have; ``read`` is
    `Question.reading`. A pair that has fewer has the first status that is not ``ok``, or ``too_few_votes``."""
    lines: dict[str, list[tuple[str, Reading, str]]] = {pair_id(a, b): [] for a, b in pairs}
    for asked, answer in zip(cells, answers, strict=True):
        lines[asked.row_id].append((asked.part[:2], read(answer, asked), answer.text))
    rows: list[tuple[Any, ...]] = []
    for a, b in pairs:
        line = lines[pair_id(a, b)]
        seconds = [[got.value or 0.0 for order, got, _ in line if order == o and got.status == OK] for o in ORDERS]
        statuses = [got.status for _, got, _ in line]
        enough = min(len(votes) for votes in seconds) >= max(least, 1)
        status = OK if enough else next((s for s in statuses if s != OK), TOO_FEW_VOTES)
        status = EMPTY_RESPONSE if not line else status
        sums = [share for votes in seconds for share in (len(votes) - sum(votes), sum(votes))]
        rows.append((a, b, status, *sums, None, None, characters[a], characters[b], statuses, [t for *_, t in line]))
    table = pl.DataFrame(rows, schema=PAIRS_SCHEMA, orient="row")
    chance = debiased(*(table[name].to_numpy() for name in PAIRS_SCHEMA.names()[3:7]))
    fine = (table["status"] == OK).to_numpy()
    return table.with_columns(
        probability=pl.Series(np.where(fine, chance, np.nan), dtype=pl.Float64).fill_nan(None),
        confident=pl.Series(fine & (np.abs(2 * chance - 1) >= CONFIDENT - 1e-9), dtype=pl.Boolean),
    )


def biases(table: pl.DataFrame) -> dict[str, float | None]:
    """What the judge prefers whatever the texts say, as shares of votes: the text shown first; the longer text. Half is
    no bias; None where there is nothing to count by. Also how often the two orders of a pair agree."""
    votes = table.select("ab_first", "ab_second", "ba_first", "ba_second").to_numpy()
    total = float(votes.sum())
    a, b = votes[:, 0] + votes[:, 3], votes[:, 1] + votes[:, 2]
    longer = np.sign(table["b_chars"].to_numpy() - table["a_chars"].to_numpy())
    uneven = longer != 0
    for_longer, of = float(np.where(longer > 0, b, a)[uneven].sum()), float((a + b)[uneven].sum())
    fine = table.filter(pl.col("status") == OK)
    ab, ba = (fine["ab_second"] - fine["ab_first"]).to_numpy(), (fine["ba_first"] - fine["ba_second"]).to_numpy()
    said = (ab != 0) & (ba != 0)
    return {
        "first preferred": float(votes[:, 0].sum() + votes[:, 2].sum()) / total if total else None,
        "longer preferred": for_longer / of if of else None,
        "orders agree": float((ab[said] * ba[said] > 0).mean()) if said.any() else None,
    }


def not_asked(table: pl.DataFrame) -> int:
    """How many requests the budget did not reach."""
    return int((table["statuses"].explode() == NOT_ASKED).sum())
