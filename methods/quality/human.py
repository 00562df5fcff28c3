"""Human evaluation (survey 3.4): what people are asked about a row, and what their labels together say of it.

Here belong the dimensions, the rule which label of a rater counts, Eq. 19 over raters and dimensions, acceptance, and
the merging of rankings. How a sample is drawn, shown and read back stands in `methods.humans`; whether the raters agree
with each other in `agreement`, and whether a judge agrees with them in `calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, Pool, statused

Kind = Literal["yes_no", "flag", "likert"]
STEPS = 5
"""Steps of a Likert scale; stored as 0, .25, .5, .75, 1."""
RANK = "rank"
"""The dimension of a ranking: the value is the row's place in its group, from 1; equal places are ties."""
ACCEPTED_ABOVE = 0.6
SAME = 1e-9
"""Values nearer to each other than this are the same."""


@dataclass(frozen=True)
class Dimension:
    """Something that a rater says of a row, as a number between 0 (``low``) and 1 (``high``)."""

    name: str
    kind: Kind
    title: str
    low: str = "no"
    high: str = "yes"
    bad: bool = False
    """A high value speaks against the row: the item is reversed before it is put together with others."""


DIMENSIONS = (
    Dimension("spam", "yes_no", "Is it spam?", bad=True),
    Dimension("fails_task", "yes_no", "Does the answer fail the task?", bad=True),
    Dimension("lang_mismatch", "flag", "Wrong language", bad=True),
    Dimension("pii", "flag", "Personal data", bad=True),
    Dimension("not_appropriate", "flag", "Not appropriate", bad=True),
    Dimension("hate_speech", "flag", "Hate speech", bad=True),
    Dimension("sexual_content", "flag", "Sexual content", bad=True),
    Dimension("moral_judgement", "flag", "Judges morally", bad=True),
    Dimension("political_content", "flag", "Political", bad=True),
    Dimension("quality", "likert", "Quality", "poor", "excellent"),
    Dimension("helpfulness", "likert", "Helpfulness", "useless", "very helpful"),
    Dimension("creativity", "likert", "Creativity", "ordinary", "creative"),
    Dimension("humor", "likert", "Humour", "serious", "funny"),
    Dimension("toxicity", "likert", "Toxicity", "polite", "rude", bad=True),
    Dimension("violence", "likert", "Violence", "harmless", "violent", bad=True),
)
"""OpenAssistant's dimensions. Labels of other dimensions are kept and put together all the same."""
REVERSED = frozenset(dimension.name for dimension in DIMENSIONS if dimension.bad)
OPPOSITE = {"politeness": "toxicity", "harmlessness": "violence"}
"""The survey's names of the two reversed scales: a label of the one is a label of the other, the other way round."""
ALIAS = {"humorousness": "humor", "humour": "humor"}

LABEL_SCHEMA = pl.Schema(
    {
        "row_id": pl.String(),
        "rater": pl.String(),
        "dimension": pl.String(),
        "group": pl.String(),  # which ranking a place is from; null for all other dimensions
        "value": pl.Float64(),
        "timestamp": pl.Datetime("us", "UTC"),  # null where the file has none
        "file": pl.String(),
        "line": pl.Int64(),
    }
)
"""One label, as it was imported."""
RATINGS_SCHEMA = pl.Schema(
    {
        "row_id": pl.String(),
        "raters": pl.List(pl.String()),
        "dimensions": pl.List(pl.String()),
        "groups": pl.List(pl.String()),
        "values": pl.List(pl.Float64()),
    }
)
"""The labels of a row that count, beside each other."""
_KEY = ["row_id", "rater", "dimension", "group"]
_LISTS = {"raters": "rater", "dimensions": "dimension", "groups": "group", "values": "value"}


def canonical(dimension: str, value: float) -> tuple[str, float]:
    """The name under which a label is stored, and its value there: politeness of .75 is toxicity of .25."""
    if dimension in OPPOSITE:
        return OPPOSITE[dimension], 1.0 - value
    return ALIAS.get(dimension, dimension), value


# ---- which labels count --------------------------------------------------------------------------------------------


def with_current(labels: pl.DataFrame) -> pl.DataFrame:
    """The labels without those that stand twice, and with ``current``: whether it is the rater's last word.

    Of a rater's labels for one row and dimension (and ranking) the latest counts; one without a time is taken for older
    than one with a time, and of two that are equally old the one in the later file, on the later line, counts. The
    others are history.
    """
    once = labels.unique([*_KEY, "value", "timestamp"], keep="first", maintain_order=True)
    ordered = once.sort("timestamp", "file", "line", nulls_last=False, maintain_order=True)
    last = pl.int_range(pl.len()).over(_KEY) == pl.len().over(_KEY) - 1
    return ordered.with_columns(current=last).sort(*_KEY, "timestamp", "file", "line", nulls_last=False)


def ratings(labels: pl.DataFrame) -> pl.DataFrame:
    """`RATINGS_SCHEMA`: one line for each labelled row, of the labels that are ``current``."""
    there = labels.filter("current").sort(_KEY, nulls_last=False)
    lines = there.group_by("row_id", maintain_order=True).agg(**{many: pl.col(one) for many, one in _LISTS.items()})
    return lines.cast(RATINGS_SCHEMA) if lines.height else pl.DataFrame(schema=RATINGS_SCHEMA)


def labels_of(table: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """``row_id, rater, dimension, group, value``, one line a label, from lines of `RATINGS_SCHEMA`."""
    lines = table.lazy().select("row_id", *_LISTS).filter(pl.col("values").list.len() > 0)
    return lines.explode(list(_LISTS)).rename(_LISTS).collect()


# ---- Eq. 19 --------------------------------------------------------------------------------------------------------

HOW = ("mean", "median", "trimmed", "sum")


def _together(how: str, trim: float) -> pl.Expr:
    value = pl.col("value")
    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(HOW)}, got {how!r}")
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim is a share below 0.5 taken from either end, got {trim}")
    if how == "trimmed":
        cut = (pl.len() * trim + SAME).floor().cast(pl.Int64)
        return value.sort().slice(cut, pl.len().cast(pl.Int64) - 2 * cut).mean()
    return {"mean": value.mean(), "median": value.median(), "sum": value.sum()}[how]


def aggregate(
    labels: pl.DataFrame, dimension: str, how: str = "mean", minimum: int = 3, trim: float = 0.2, flip: bool = True
) -> pl.DataFrame:
    """What the raters together say of each row in one dimension: ``row_id, value, sd, n, status``.

    ``labels`` has ``row_id, dimension, value``, one line a rater. Reversed items are flipped (1 - value) unless
    ``flip`` is False. ``sd`` is that of the sample, null for one rater. Rows without a label have no line.
    """
    name, _ = canonical(dimension, 0.0)
    value = 1 - pl.col("value") if flip and name in REVERSED else pl.col("value")
    told = labels.filter(pl.col("dimension") == name).with_columns(value=value)
    found = told.group_by("row_id", maintain_order=True).agg(
        value=_together(how, trim), sd=pl.col("value").std(), n=pl.len().cast(pl.Int64)
    )
    enough = pl.col("n") >= minimum
    return found.with_columns(
        value=pl.when(enough).then("value"),
        status=pl.when(enough).then(pl.lit(OK)).otherwise(pl.lit("too_few_raters")),
    )


def _pool_labels(pool: Pool) -> pl.DataFrame:
    return labels_of(pool.tables["humans/ratings"])


def _of_rows(ids: pl.Series, found: pl.DataFrame) -> pl.DataFrame:
    """``value, status`` of these rows in their order, from a frame that has both for rows with labels."""
    lines = ids.to_frame("row_id").join(found, on="row_id", how="left", maintain_order="left")
    return statused(lines["value"], lines["status"].fill_null("no_labels"))


def human_label_aggregate(
    pool: Pool,
    dimension: str | Sequence[str] = "quality",
    how: str = "mean",
    over: str = "mean",
    minimum: int = 3,
    trim: float = 0.2,
) -> pl.DataFrame:
    """What people say of a row: the labels of its raters put together, then the dimensions.

    Equation: f(IND^1, ..., IND^M) = sum or mean over the M dimensions, IND^m = how over the raters of the label, 1 -
    label for reversed items.

    Direction: higher is better, also for reversed items: high toxicity gives a low value.

    Parameters: `dimension` is one name or several: OpenAssistant's (spam, fails_task, the flags, quality, helpfulness,
    creativity, humor, toxicity, violence), the survey's politeness and harmlessness (toxicity and violence reversed),
    or any other that labels name. `how` puts raters together: `mean`, `median`, `trimmed` (without the share `trim` of
    the labels at either end) or `sum`, which grows with the number of raters. `over` puts dimensions together: `mean`
    or `sum`. `minimum` is the least number of raters in every dimension.

    Statuses: `no_labels` where a dimension has none; `too_few_raters` under `minimum`.

    Source: Köpf et al. 2023, "OpenAssistant Conversations", arXiv 2304.07327; survey Eq. 19.

    Departures: a row that lacks one of several dimensions has no value; Eq. 19 does not say what to do with it.
    """
    names = [dimension] if isinstance(dimension, str) else list(dimension)
    if not names:
        raise ValueError("dimension names at least one dimension")
    if over not in ("mean", "sum"):
        raise ValueError(f"over must be mean or sum, got {over!r}")
    labels = _pool_labels(pool)
    parts = [_of_rows(pool.row_ids, aggregate(labels, name, how, minimum, trim)) for name in names]
    values = np.column_stack([part["value"].fill_null(np.nan).to_numpy() for part in parts])
    status = np.array([part["status"].to_list() for part in parts], dtype=object).reshape(len(parts), -1)
    said = np.where((status == "no_labels").any(axis=0), "no_labels", "too_few_raters")
    said = np.where((status == OK).all(axis=0), OK, said)
    return statused(values.mean(axis=1) if over == "mean" else values.sum(axis=1), said.tolist())


# ---- acceptance ----------------------------------------------------------------------------------------------------


def acceptance(labels: pl.DataFrame, minimum: int = 3) -> pl.DataFrame:
    """1 - (mean spam + mean lang_mismatch) of each row that has labels: ``row_id, value, n, status``.

    ``n`` is the number of raters of whichever of the two has fewer. A row that lacks one of them has no value.
    """
    spam = aggregate(labels, "spam", "mean", minimum, flip=False)
    language = aggregate(labels, "lang_mismatch", "mean", minimum, flip=False)
    both = labels.select("row_id").unique(maintain_order=True)
    for frame, name in ((spam, "spam"), (language, "language")):
        mine = frame.select("row_id", pl.col("value", "n", "status").name.prefix(f"{name} "))
        both = both.join(mine, on="row_id", how="left", maintain_order="left")
    status = (
        pl.when(pl.any_horizontal(pl.col("spam status", "language status").is_null()))
        .then(pl.lit("no_labels"))
        .when(pl.any_horizontal(pl.col("spam status", "language status") != OK))
        .then(pl.lit("too_few_raters"))
        .otherwise(pl.lit(OK))
    )
    return both.select(
        "row_id",
        value=1 - (pl.col("spam value") + pl.col("language value")),
        n=pl.min_horizontal(pl.col("spam n", "language n").fill_null(0)),
        status=status,
    )


def human_acceptance(pool: Pool, minimum: int = 3) -> pl.DataFrame:
    """Whether raters let a row in: it is neither spam nor in the wrong language.

    Equation: 1 - (mean spam + mean lang_mismatch).

    Direction: higher is better; a row is accepted above 0.6. It may be negative, where both are said of a row.

    Parameters: `minimum` is the least number of raters for each of the two.

    Statuses: `no_labels` where either is missing; `too_few_raters` under `minimum`.

    Source: Köpf et al. 2023, "OpenAssistant Conversations", arXiv 2304.07327, and its released code.
    """
    return _of_rows(pool.row_ids, acceptance(_pool_labels(pool), minimum))


def verdicts(labels: pl.DataFrame, minimum: int = 1, above: float = ACCEPTED_ABOVE) -> pl.DataFrame:
    """Whether raters take each labelled row for good: ``row_id, accepted, n, status``; null where they do not say.

    ``labels`` has ``row_id, rater, dimension, value``. A row is accepted if its acceptance lies above the threshold and
    fewer than half of its raters say that it fails the task: an answer to another question is neither spam nor in the
    wrong language. All three must have been asked; but who calls a row spam need not say that it fails.
    """
    let_in = acceptance(labels, minimum)
    spam = labels.filter((pl.col("dimension") == "spam") & (pl.col("value") > 0.5))
    failed = labels.filter(pl.col("dimension") == "fails_task").select("row_id", "rater", "dimension", "value")
    said = spam.join(failed, on=["row_id", "rater"], how="anti").select("row_id", "rater", "dimension", "value")
    failed = pl.concat([failed, said.with_columns(dimension=pl.lit("fails_task"))])
    fails = aggregate(failed, "fails_task", "mean", minimum, flip=False)
    lines = let_in.join(fails, on="row_id", how="left", maintain_order="left", suffix=" fails")
    theirs = pl.col("status fails").fill_null("no_labels")
    status = pl.when(pl.col("status") != OK).then("status").otherwise(theirs)
    good = (pl.col("value") > above + SAME) & (pl.col("value fails") < 0.5 - SAME)
    n = pl.min_horizontal("n", pl.col("n fails").fill_null(0))
    return lines.select("row_id", accepted=pl.when(status == OK).then(good), n=n, status=status)


# ---- rankings ------------------------------------------------------------------------------------------------------


def ranked_pairs(places: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Tideman's ranked pairs: one order out of many rankings, and who beats whom in it.

    ``places`` is (raters, n): the place that each rater gives each candidate, lower is better, equal for a tie, NaN
    where the rater did not rank it (then nothing is said of its pairs). Pairs with a majority are taken by margin, then
    by votes for the winner, then by index of winner and loser; a pair is locked unless it would close a circle.
    Returns the order (best first, candidates between which nothing is locked by index) and ``beats`` (n, n): whether
    the first beats the second, directly or through others.
    """
    votes = (places[:, :, None] < places[:, None, :]).sum(axis=0)  # a comparison with NaN is False
    margin = votes - votes.T
    n = places.shape[1]
    pairs = [(-margin[a, b], -votes[a, b], a, b) for a in range(n) for b in range(n) if margin[a, b] > 0]
    beats = np.zeros((n, n), dtype=bool)
    for _, _, a, b in sorted(pairs):
        if not beats[b, a]:
            above, below = beats[:, a].copy(), beats[b].copy()
            above[a] = below[b] = True
            beats |= np.outer(above, below)
    order: list[int] = []
    left = set(range(n))
    while left:
        first = min(a for a in left if not any(beats[b, a] for b in left))
        order.append(first)
        left.remove(first)
    return order, beats


def standing(beats: np.ndarray) -> np.ndarray:
    """Where each candidate stands, 1 (beats all others) to 0: the share of the others that it beats, half for those
    with which it is level."""
    n = len(beats)
    level = n - 1 - beats.sum(axis=1) - beats.sum(axis=0)
    return (beats.sum(axis=1) + 0.5 * level) / (n - 1)


def merged_rankings(labels: pl.DataFrame, minimum: int = 3) -> pl.DataFrame:
    """``row_id, group, value, n, status`` of every row that somebody ranked; ``n``: raters of its group."""
    lines = []
    ranked = labels.filter(pl.col("dimension") == RANK).sort("group", "row_id", "rater", nulls_last=False)
    for (group,), part in ranked.group_by("group", maintain_order=True):
        rows, raters = part["row_id"].unique(maintain_order=True), part["rater"].unique(maintain_order=True)
        places = np.full((len(raters), len(rows)), np.nan)
        column = {row: i for i, row in enumerate(rows)}
        line = {rater: i for i, rater in enumerate(raters)}
        for row, rater, place in part.select("row_id", "rater", "value").iter_rows():
            places[line[rater], column[row]] = place
        n = int((np.isfinite(places).sum(axis=1) > 1).sum())
        status = "alone" if len(rows) < 2 else "too_few_raters" if n < minimum else OK
        values = standing(ranked_pairs(places)[1]) if status == OK else [None] * len(rows)
        lines += [(row, group, value, n, status) for row, value in zip(rows, values, strict=True)]
    schema = {"row_id": pl.String, "group": pl.String, "value": pl.Float64, "n": pl.Int64, "status": pl.String}
    return pl.DataFrame(lines, schema=schema, orient="row")


def human_rank(pool: Pool, minimum: int = 3) -> pl.DataFrame:
    """Where people rank a row among other answers to the same question.

    Equation: (others beaten + 0.5 others level) / (n - 1) in the order that Tideman's ranked pairs make of the raters'
    rankings.

    Direction: higher is better: 1 is the best of its group, 0 the last.

    Parameters: `minimum` is the least number of raters who ranked at least two rows of the group.

    Statuses: `no_labels` where nobody ranked the row; `alone` where no other row of its group is in the pool;
    `too_few_raters` under `minimum`.

    Source: Tideman 1987, "Independence of clones as a criterion for voting rules"; Köpf et al. 2023, arXiv 2304.07327.

    Departures: ties and rankings of some of the rows are allowed, and say nothing of the pairs concerned. A row that
    was ranked in several groups has the mean. Rows of a group that are not in the pool are left out.
    """
    merged = merged_rankings(_pool_labels(pool), minimum)
    best_known = pl.col("status").filter(pl.col("status") == OK).first()
    lines = merged.group_by("row_id", maintain_order=True).agg(
        pl.col("value").mean(), status=best_known.fill_null(pl.col("status").first())
    )
    return _of_rows(pool.row_ids, lines)


_OPEN_ASSISTANT = "Köpf et al. 2023, OpenAssistant Conversations, arXiv 2304.07327"
_HUMAN = {"axis": "quality", "family": "human", "section": "3.4", "needs": ("humans/ratings",), "scope": "pool"}

INDICATORS = (
    Indicator(
        id="human_label_aggregate",
        title="What people say of a row",
        equation="f(IND^1, ..., IND^M), f = mean or sum",
        paper=_OPEN_ASSISTANT,
        meaning="What the raters together say of a row, from 0 to 1; a high value is good, whatever the dimension.",
        params={"dimension": "quality", "how": "mean", "over": "mean", "minimum": 3, "trim": 0.2},
        compute=human_label_aggregate,
        **_HUMAN,  # type: ignore[arg-type]
    ),
    Indicator(
        id="human_acceptance",
        title="Whether raters let a row in",
        equation="1 - (\\bar{spam} + \\bar{lang\\_mismatch})",
        paper=_OPEN_ASSISTANT,
        meaning="A row is accepted above 0.6; a low value means that raters call it spam or find it in the wrong "
        "language.",
        params={"minimum": 3},
        compute=human_acceptance,
        **_HUMAN,  # type: ignore[arg-type]
    ),
    Indicator(
        id="human_rank",
        title="Where people rank an answer",
        equation="\\frac{beaten + 0.5 \\cdot level}{n - 1}",
        paper="Tideman 1987, Independence of clones as a criterion for voting rules; " + _OPEN_ASSISTANT,
        meaning="1 is the best of the answers to the same question that people ranked, 0 the last.",
        params={"minimum": 3},
        compute=human_rank,
        **_HUMAN,  # type: ignore[arg-type]
    ),
)
