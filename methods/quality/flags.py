"""Rows to look at twice (survey 3.1): outliers, noise and duplicates, marked and not judged.

Here belong three flags that are read off evidence which is there already. They decide nothing: a recipe drops flagged
rows or a person looks at them. Filters that drop rows before anything is counted stand in `methods.filters`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, Pool, statused
from methods.quality.repetition import excessive_word_repetition
from methods.quality.spelling import spelling_error_rate
from methods.text import count_of, status_when_short

PAPER = "Dang & Verma 2024 (grouping into flags; thresholds ours)"
LENGTHS = ("prompt_n_words", "response_n_words")
_MAD = 1.4826
"""Makes the median absolute deviation of a normal distribution its standard deviation."""
_ROUNDING = 1e-6
"""Cosines this close are equal."""
_FEWEST = 3
"""Under so many values a median says nothing of what is usual."""


def _features(pool: Pool) -> pl.DataFrame:
    if pool.features is None:
        raise ValueError("outlier_flag reads readability features, and this pool has none")
    return pool.features


def _counts(pool: Pool) -> pl.LazyFrame:
    if pool.counts is None:
        raise ValueError("this flag reads text counts, and this pool has none")
    return pool.counts


# --- outliers --------------------------------------------------------------------------------------------------------
def robust_z(values: np.ndarray) -> np.ndarray:
    """|x - median| / (1.4826 MAD) of a column; NaN where x is, and everywhere if half of the column is one value."""
    known = values[np.isfinite(values)]
    if len(known) < _FEWEST:
        return np.full(len(values), np.nan)
    away = np.abs(values - np.median(known))
    spread = _MAD * float(np.median(away[np.isfinite(away)]))
    return away / spread if spread > 0 else np.full(len(values), np.nan)


def outlying(pool: Pool, cut: float = 3.5) -> pl.DataFrame:
    """Which columns each row stands out in: one Boolean column a feature or length, null where it cannot be said."""
    features = _features(pool)
    numbers = features.drop("row_id", "status", strict=False).cast(pl.Float64)
    lengths = _counts(pool).select(pl.col(LENGTHS).log1p()).collect()
    columns, unknown = {}, pl.Series([None] * features.height, dtype=pl.Boolean)
    for column in (*numbers.iter_columns(), *lengths.iter_columns()):
        z = robust_z(column.fill_null(np.nan).to_numpy())
        columns[column.name] = pl.Series(z > cut).zip_with(pl.Series(np.isfinite(z)), unknown)
    return pl.DataFrame(columns)


def outlier_flag(pool: Pool, cut: float = 3.5, at_least: int = 5) -> pl.DataFrame:
    """1 for a row that is far from the pool's usual in several respects at once, else 0.

    Equation: 1 if #{k : |x_k - median_k| / (1.4826 MAD_k) > cut} >= at_least, over the 46 readability features and
    ln(1 + words) of prompt and response.

    Direction: lower: 1 marks a row to look at. An outlier may be the best row of the pool; it is never the usual one.

    Parameters: `cut` is the robust z-score above which a value is far (3.5, Iglewicz and Hoaglin). `at_least` is the
    number of columns (of 48) in which a row must be far.

    Statuses: those of the row's features: `empty_response`, `no_words`, `too_short`, `wrong_language`,
    `unknown_language`; `too_few_rows` where under three rows of the pool have features.

    Source: Dang and Verma 2024; the z-score is that of Iglewicz and Hoaglin 1993, "How to detect and handle outliers".

    Departures: columns and threshold are ours. A column of which half is one value (MAD 0) is not asked. Lengths are
    taken as logarithms, because raw ones have a long tail that would flag every long answer.
    """
    if at_least < 1:
        raise ValueError(f"at_least must be at least 1, got {at_least}")
    status = _features(pool)["status"]
    far = outlying(pool, cut).select(pl.sum_horizontal(pl.all().cast(pl.Int64).fill_null(0))).to_series()
    value = (far >= at_least).cast(pl.Float64)
    if int((status == OK).sum()) < _FEWEST:
        status = status.replace({OK: "too_few_rows"})
    return statused(value, status)


# --- noise -----------------------------------------------------------------------------------------------------------
def broken_bounds(
    block: pl.DataFrame,
    field: str = "response",
    most_repeated: float = 0.5,
    longest_run: float = 5,
    most_misspelt: float = 0.3,
    least_letters: float = 0.5,
) -> pl.DataFrame:
    """Which bounds of `noise_flag` each row broke: ``repeated``, ``run``, ``misspelt``, ``letters`` and ``status``.

    A bound that cannot be asked of a row (too short a text, no dictionary of its language) is not broken.
    """
    letters = count_of(field, "n_letters") / count_of(field, "n_visible")
    return pl.DataFrame(
        {
            "repeated": excessive_word_repetition(block, field, "dup_ngram")["value"] > most_repeated,
            "run": excessive_word_repetition(block, field, "max_run")["value"] > longest_run,
            "misspelt": spelling_error_rate(block, field)["value"] > most_misspelt,
            "letters": block.select((letters < least_letters) & (count_of(field, "n_visible") > 0)).to_series(),
            "status": block.select(status_when_short(field)).to_series(),
        }
    ).with_columns(pl.col(pl.Boolean).fill_null(False))


def noise_flag(
    block: pl.DataFrame,
    field: str = "response",
    most_repeated: float = 0.5,
    longest_run: float = 5,
    most_misspelt: float = 0.3,
    least_letters: float = 0.5,
) -> pl.DataFrame:
    """How many of four bounds of clean prose a text breaks: 0 for none, 1 or more for noise.

    Equation: [share of words in a repeated 3-gram > most_repeated] + [longest run of one word > longest_run] +
    [misspelt words / words that can be looked up > most_misspelt] + [letters / signs that are not blank <
    least_letters], the last in prose outside code fences.

    Direction: lower: 0 breaks none. Tables, lists of numbers and code outside fences break the last one rightly or not.

    Parameters: `field` is `response`, `prompt` or `both`. `most_repeated`, `longest_run`, `most_misspelt`,
    `least_letters` are the bounds; `broken_bounds` of this module tells which of them a row broke.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words` (signs only). A bound that cannot be asked is
    not broken: no 3-grams in two words, no dictionary for the language, fewer than five words to look up.

    Source: Dang and Verma 2024 name noise among their flags; the bounds are ours and were set by eye, not fitted.
    """
    broken = broken_bounds(block, field, most_repeated, longest_run, most_misspelt, least_letters)
    value = broken.select(pl.sum_horizontal(pl.col(pl.Boolean).cast(pl.Float64))).to_series()
    return statused(value, broken["status"])


# --- duplicates ------------------------------------------------------------------------------------------------------
def duplicate_flag(pool: Pool, similarity: float = 0.95) -> pl.DataFrame:
    """1 for a row that comes after a nearly equal one, else 0; the first of a group is never flagged.

    Equation: 1 if some j before i in the pool's order, among i's nearest neighbours, has cos(x_i, x_j) >= similarity.

    Direction: lower: 1 marks a row that says again what an earlier one says.

    Parameters: `similarity` is the least cosine (to 1e-6) of two rows that count as the same.

    Statuses: `no_embedding`.

    Source: Dang and Verma 2024 name duplicates among their flags; the threshold is ours.

    Departures: all listed neighbours are looked at, not the nearest alone, so that the second of three equal rows is
    flagged although its nearest may be the third. Likeness is not transitive: a row may be flagged for its likeness to
    a row that is flagged itself. Where more rows than the list is long are alike, those at its end may go unseen.
    """
    if pool.neighbours is None:
        raise ValueError("duplicate_flag reads neighbours, and this pool has none")
    order = pl.DataFrame({"row_id": pool.row_ids.cast(pl.String)}).with_row_index("place")
    lists = pool.neighbours.select("row_id", "ids", "similarity")
    listed = order.join(lists, on="row_id", how="left", maintain_order="left")
    near = (
        listed.select("place", "ids", "similarity")
        .drop_nulls("ids")
        .explode("ids", "similarity")
        .filter(pl.col("similarity").cast(pl.Float64) >= pl.lit(similarity - _ROUNDING))
        .join(order.rename({"place": "other"}), left_on="ids", right_on="row_id")
        .filter(pl.col("other") < pl.col("place"))
    )
    value = np.zeros(order.height)
    value[near["place"].to_numpy()] = 1.0
    status = np.where(listed["ids"].is_null().to_numpy(), "no_embedding", OK)
    return statused(value, status)


INDICATORS = (
    Indicator(
        id="outlier_flag",
        title="Outlier in several respects",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"[\#\{k: |x_k - med_k| / (1.4826 MAD_k) > 3.5\} \ge 5]",
        paper=PAPER,
        meaning="1 marks a text that is unlike the rest of the pool in length, wording or structure in several ways at "
        "once. Look at it before you keep or drop it.",
        needs=("evidence/readability_features", "evidence/text_counts"),
        params={"cut": 3.5, "at_least": 5},
        direction="lower",
        scope="pool",
        compute=outlier_flag,
    ),
    Indicator(
        id="noise_flag",
        title="Noise: bounds of clean prose that are broken",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"\#\{broken bounds\}",
        paper=PAPER,
        meaning="0 for clean prose; each point is one sign of noise: loops, one word over and over, misspelling, few "
        "letters.",
        needs=("evidence/text_counts",),
        params={
            "field": "response",
            "most_repeated": 0.5,
            "longest_run": 5,
            "most_misspelt": 0.3,
            "least_letters": 0.5,
        },
        direction="lower",
        compute=noise_flag,
    ),
    Indicator(
        id="duplicate_flag",
        title="Near-duplicate of an earlier row",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"[\exists j < i: \cos(x_i, x_j) \ge 0.95]",
        paper=PAPER,
        meaning="1 marks a row that means nearly the same as an earlier one. Dropping the marked rows keeps the first "
        "of each group.",
        needs=("evidence/neighbours",),
        params={"similarity": 0.95},
        direction="lower",
        scope="pool",
        compute=duplicate_flag,
    ),
)
