"""Hand-crafted diversity of a row by itself (survey 4.1): how varied its vocabulary is.

Here belong the lexical indicators, over the word hashes of `evidence/text_counts`. A row's place among the others is
in `methods.diversity.geometry`; numbers for a whole set are in `methods.diversity.measures`; ways to choose are in
`methods.diversity.coreset`; repetition as a fault is in `methods.quality.handcrafted`.

The running example of the docstrings is T = "a b a c a b d e a f": ten words, six types.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, statused
from methods.text import status_when_short, words_of

COUNTS = ("evidence/text_counts",)


def _flat(words: pl.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All words one after another as small codes, the row of each, and the words a row (all int64)."""
    lengths = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode(empty_as_null=False, keep_nulls=False).to_numpy()
    codes = np.unique(flat, return_inverse=True)[1].astype(np.int64)
    return codes, np.repeat(np.arange(len(words)), lengths), lengths


def _lexical(
    block: pl.DataFrame, field: str, least: int, compute: Callable[[pl.Series], pl.Series | np.ndarray]
) -> pl.DataFrame:
    status = block.select(status_when_short(field, least)).to_series()
    with np.errstate(divide="ignore", invalid="ignore"):
        return statused(compute(words_of(block, field)), status)


def ttr(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Type-token ratio: distinct words over words.

    Equation: V / n (Eq. 20). T gives .6.

    Direction: higher is more varied. It falls as texts grow longer: compare texts of like length, or use `mtld`.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`.

    Source: Templin 1957; survey 4.1.
    """
    return _lexical(block, field, 1, lambda words: words.list.n_unique() / words.list.len())


def root_ttr(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Guiraud's index: distinct words over the root of the words, which leans on length less than `ttr`.

    Equation: V / sqrt(n). T gives 1.897367.

    Direction: higher is more varied.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`.

    Source: Guiraud 1954.
    """
    return _lexical(block, field, 1, lambda words: words.list.n_unique() / words.list.len().cast(pl.Float64).sqrt())


def distinct_2(block: pl.DataFrame, field: str = "response", n: int = 2, denominator: str = "tokens") -> pl.DataFrame:
    """Distinct word pairs over words.

    Equation: #distinct n-grams / #words. T gives 8/10 (8/9 with `ngrams`).

    Direction: higher is more varied.

    Parameters: `field` is `response`, `prompt` or `both`. `n` is the length of the n-gram. `denominator` is `tokens`
    (the paper's wording) or `ngrams` (their number, so that a text without repetition has 1).

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `n` words.

    Source: Li et al. 2015 (arXiv 1510.03055).
    """
    if denominator not in ("tokens", "ngrams"):
        raise ValueError(f"denominator must be 'tokens' or 'ngrams', not {denominator!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")

    def share(words: pl.Series) -> np.ndarray:
        codes, row, lengths = _flat(words)
        total = max(len(codes) - n + 1, 0)
        starts = np.flatnonzero(row[:total] == row[len(row) - total :])
        grams = pl.DataFrame({"row": row[starts], **{f"w{i}": codes[starts + i] for i in range(n)}}).unique()
        found = np.bincount(grams["row"].to_numpy(), minlength=len(words))
        return found / (lengths if denominator == "tokens" else lengths - n + 1)

    return _lexical(block, field, n, share)


def _factors(words: list[int], threshold: float) -> float:
    """Stretches whose running type-token ratio fell to the threshold, the last one in part."""
    types: set[int] = set()
    tokens, factors, ratio = 0, 0.0, 1.0
    for word in words:
        types.add(word)
        tokens += 1
        ratio = len(types) / tokens
        if ratio <= threshold:
            types.clear()
            tokens, factors, ratio = 0, factors + 1.0, 1.0
    return factors + (1.0 - ratio) / (1.0 - threshold)


def mtld(block: pl.DataFrame, field: str = "response", threshold: float = 0.72, min_words: int = 10) -> pl.DataFrame:
    """Measure of textual lexical diversity: how many words a text keeps its type-token ratio above a threshold.

    Equation: n / F, the mean of a forward and a backward pass. F counts the stretches after which the running TTR fell
    to the threshold, and for the remainder (1 - TTR)/(1 - threshold). T gives 6.621622 forward, 10 backward, 8.310811.

    Direction: higher is more varied; nearly free of length from some hundred words on.

    Parameters: `field` is `response`, `prompt` or `both`. `threshold` .72 is McCarthy and Jarvis's. `min_words` is the
    least length; the authors advise 100 for a stable value.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `min_words`;
    `no_repetition` where every word is distinct, so that no stretch ends and the value has no bound.

    Source: McCarthy and Jarvis 2010.

    Departures: the survey's Eq. 24 lacks the remainder and the backward pass and takes the text's own TTR for the
    threshold. A stretch closes at `<=`; the package lexical-diversity takes `<` and stretches of ten words or more and
    so gives other numbers.
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    words = words_of(block, field)
    least = status_when_short(field, min_words)
    status = block.select(pl.when((least == OK) & _all_distinct(words)).then(pl.lit("no_repetition")).otherwise(least))
    values: list[float | None] = []
    for row, state in zip(words, status.to_series(), strict=True):
        if state != OK:
            values.append(None)
            continue
        forward = row.to_list()
        passes = (_factors(forward, threshold), _factors(forward[::-1], threshold))
        values.append(0.5 * sum(len(forward) / factors for factors in passes))
    return statused(values, status.to_series())


def _all_distinct(words: pl.Series) -> pl.Series:
    return words.list.n_unique() == words.list.len()


def mattr(block: pl.DataFrame, field: str = "response", window: int = 50) -> pl.DataFrame:
    """Moving-average type-token ratio: the mean TTR of every window of a fixed number of words.

    Equation: (1/(n-w+1)) sum_i V(i..i+w-1)/w. T with w = 5 gives .8.

    Direction: higher is more varied; free of length.

    Parameters: `field` is `response`, `prompt` or `both`. `window` is w.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `window` words (no
    fallback to TTR).

    Source: Covington and McFall 2010.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")

    def mean(words: pl.Series) -> np.ndarray:
        # A word is the first of its type in the windows that start after its previous occurrence: count those windows.
        codes, row, lengths = _flat(words)
        at = np.arange(len(codes)) - (np.cumsum(lengths) - lengths)[row]
        order = np.lexsort((at, codes, row))
        same = (row[order][1:] == row[order][:-1]) & (codes[order][1:] == codes[order][:-1])
        before = np.full(len(codes), -1)
        before[order[1:][same]] = at[order[:-1][same]]
        last = np.minimum(at, lengths[row] - window)
        first = np.maximum(np.maximum(before + 1, at - window + 1), 0)
        types = np.bincount(row, weights=np.maximum(last - first + 1, 0), minlength=len(words))
        return types / window / (lengths - window + 1)

    return _lexical(block, field, window, mean)


def hdd(block: pl.DataFrame, field: str = "response", k: int = 42) -> pl.DataFrame:
    """HD-D: the type-token ratio to expect of k words drawn from the text without putting back.

    Equation: sum over types of [1 - C(n-f, k)/C(n, k)] / k, f the type's count (exact, no sampling). T with k = 5 gives
    .750794.

    Direction: higher is more varied; free of length.

    Parameters: `field` is `response`, `prompt` or `both`. `k` is the number of words drawn.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `k` words.

    Source: McCarthy and Jarvis 2007, 2010.

    Departures: the survey's Eq. 25 counts over contiguous pieces and lacks the 1/k.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")

    def expected(words: pl.Series) -> np.ndarray:
        codes, row, lengths = _flat(words)
        counts = pl.DataFrame({"row": row, "code": codes}).group_by("row", "code", maintain_order=True).len()
        of, count = counts["row"].to_numpy(), counts["len"].to_numpy().astype(np.int64)
        logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, int(lengths.max(initial=0)) + 1)))))
        n, rest = lengths[of], lengths[of] - count
        possible = (rest >= k) & (n >= k)
        # C(rest, k) / C(n, k), whose k! cancels
        miss = np.exp(logs[rest] - logs[np.maximum(rest - k, 0)] - logs[n] + logs[np.maximum(n - k, 0)])
        return np.bincount(of, weights=1.0 - np.where(possible, miss, 0.0), minlength=len(words)) / k

    return _lexical(block, field, k, expected)


def _lexical_indicator(
    id: str, title: str, equation: str, paper: str, meaning: str, compute: Callable[..., pl.DataFrame], **params: object
) -> Indicator:
    return Indicator(
        id=id,
        title=title,
        axis="diversity",
        family="handcrafted",
        section="4.1",
        equation=equation,
        paper=paper,
        meaning=meaning,
        needs=COUNTS,
        params={"field": "response", **params},
        direction="higher",
        compute=compute,
    )


INDICATORS = (
    _lexical_indicator(
        "ttr",
        "Type-token ratio",
        r"\frac{V}{n}",
        "Templin 1957, Certain Language Skills in Children",
        "The share of words that are distinct. Falls with length, so short texts look varied.",
        ttr,
    ),
    _lexical_indicator(
        "root_ttr",
        "Root type-token ratio",
        r"\frac{V}{\sqrt{n}}",
        "Guiraud 1954, Les caractères statistiques du vocabulaire",
        "Distinct words, with length discounted by its root: a rich vocabulary is high.",
        root_ttr,
    ),
    _lexical_indicator(
        "distinct_2",
        "Distinct bigrams",
        r"\frac{\#\mathrm{distinct}\ n\mathrm{-grams}}{n}",
        "Li et al. 2015, A Diversity-Promoting Objective Function, arXiv 1510.03055",
        "How many different word pairs a word brings. Low values show set phrases and loops.",
        distinct_2,
        n=2,
        denominator="tokens",
    ),
    _lexical_indicator(
        "mtld",
        "Measure of textual lexical diversity",
        r"\frac{1}{2} \left(\frac{n}{F_{\rightarrow}} + \frac{n}{F_{\leftarrow}}\right)",
        "McCarthy and Jarvis 2010, MTLD, vocd-D and HD-D, Behavior Research Methods 42",
        "How many words the text goes on before it starts to repeat itself. Hardly depends on length.",
        mtld,
        threshold=0.72,
        min_words=10,
    ),
    _lexical_indicator(
        "mattr",
        "Moving-average type-token ratio",
        r"\frac{1}{n-w+1} \sum_i \frac{V_{i..i+w-1}}{w}",
        "Covington and McFall 2010, Cutting the Gordian Knot, Journal of Quantitative Linguistics 17",
        "The share of distinct words in a window of fifty, wherever it stands. Does not depend on length.",
        mattr,
        window=50,
    ),
    _lexical_indicator(
        "hdd",
        "Hypergeometric distribution diversity (HD-D)",
        r"\frac{1}{k} \sum_v \left[1 - \binom{n-f_v}{k} / \binom{n}{k}\right]",
        "McCarthy and Jarvis 2010, MTLD, vocd-D and HD-D, Behavior Research Methods 42",
        "The share of distinct words to expect among 42 drawn from the text. Does not depend on length.",
        hdd,
        k=42,
    ),
)
