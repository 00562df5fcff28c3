"""Hand-crafted diversity of a row by itself (survey 4.1): how varied its vocabulary is.

Here belong the lexical indicators, over the word hashes of `evidence/text_counts`. Their arithmetic is compiled
(`methods.numerics.words`) and reads the block's words as flat arrays (`methods.flat`); here stands what each number
is, when it is defined and what it is called. A row's place among the others is in `methods.diversity.geometry`;
numbers for a whole set are in `methods.diversity.measures`; repetition as a fault is in `methods.quality.repetition`.

The unit is the word of `methods.text`; lemmas and subwords are not offered. There is no cap on a text's length: every
number is linear in its words, but for `mtld_wrap` (words times the length of a stretch). The running example of the
docstrings is T = "a b a c a b d e a f": ten words, six types.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import polars as pl

from methods.flat import Flat, flat_words
from methods.kinds import OK, Direction, Indicator, statused
from methods.text import status_when_short

COUNTS = ("evidence/text_counts",)


def _kernels() -> Any:
    """The compiled kernels; importing them imports the compiler."""
    from methods.numerics import words

    return words


def _lexical(
    block: pl.DataFrame, field: str, least: int, value: Callable[[Flat], np.ndarray], unless_finite: str = "not_finite"
) -> pl.DataFrame:
    """A number for each row of at least ``least`` words, or the status ``unless_finite``."""
    status = block.select(status_when_short(field, least)).to_series()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = pl.Series(value(flat_words(block, field)), dtype=pl.Float64)
    return statused(found, status.zip_with((status != OK) | found.is_finite(), pl.Series([unless_finite])))


def _positive(**given: int) -> None:
    for name, number in given.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")


def _analytic(method: str) -> bool:
    if method not in ("analytic", "sampled"):
        raise ValueError(f"method must be 'analytic' or 'sampled', not {method!r}")
    return method == "analytic"


def _check_threshold(threshold: float) -> None:
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")


# --- types and tokens ------------------------------------------------------------------------------------------------
def ttr(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Type-token ratio: distinct words over words.

    Equation: V / n (Eq. 20). T gives .6.

    Direction: higher is more varied. It falls as texts grow longer: compare texts of like length, or use `mtld`.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`.

    Source: Templin 1957; survey 4.1.
    """
    return _lexical(block, field, 1, lambda words: words.types / words.lengths)


def root_ttr(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Guiraud's index: distinct words over the root of the words, which leans on length less than `ttr`.

    Equation: V / sqrt(n). T gives 1.897367.

    Direction: higher is more varied.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`.

    Source: Guiraud 1954.
    """
    return _lexical(block, field, 1, lambda words: words.types / np.sqrt(words.lengths))


def log_ttr(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Herdan's C: the logarithm of the distinct words over that of the words.

    Equation: ln V / ln n. T gives .778151.

    Direction: higher is more varied.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` at one word, where it is 0 / 0.

    Source: Herdan 1960.
    """
    return _lexical(block, field, 2, lambda words: np.log(words.types) / np.log(words.lengths))


def maas(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Maas's index: how far the logarithm of the distinct words stays behind that of the words.

    Equation: (ln n - ln V) / (ln n)^2. T gives .096348.

    Direction: lower is more varied; 0 where no word comes twice.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` at one word, where it is 0 / 0.

    Source: Maas 1972.
    """
    return _lexical(block, field, 2, lambda words: np.log(words.lengths / words.types) / np.log(words.lengths) ** 2)


def distinct_1(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """Distinct words over words: `ttr` under the name that work on generated text gives it, beside `distinct_2`.

    Equation: #distinct words / #words. T gives 6/10.

    Direction: higher is more varied.

    Parameters: `field` is `response`, `prompt` or `both`.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`.

    Source: Li et al. 2015 (arXiv 1510.03055).
    """
    return ttr(block, field)


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
    _positive(n=n)

    def share(words: Flat) -> np.ndarray:
        distinct, _ = _kernels().gram_counts(words.codes, words.offsets, n)
        return distinct / (words.lengths if denominator == "tokens" else words.lengths - n + 1)

    return _lexical(block, field, n, share)


# --- stretches -------------------------------------------------------------------------------------------------------
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
    _check_threshold(threshold)

    def mean(words: Flat) -> np.ndarray:
        forward, backward = _kernels().factors(words.previous, words.offsets, threshold)
        return 0.5 * (words.lengths / forward + words.lengths / backward)

    return _lexical(block, field, min_words, mean, "no_repetition")


def mtld_wrap(
    block: pl.DataFrame, field: str = "response", threshold: float = 0.72, min_length: int = 10, min_words: int = 10
) -> pl.DataFrame:
    """MTLD-W: from every word on, how many words it takes until the type-token ratio drops below a threshold.

    Equation: the mean over all starts of the least length >= `min_length` with TTR < threshold, in the text read twice;
    a start from which it never drops is left out. T gives 10, twenty distinct words give 28.

    Direction: higher is more varied; free of length, and without `mtld`'s remainder.

    Parameters: `field` is `response`, `prompt` or `both`. `threshold` is the ratio, `min_length` the least stretch,
    `min_words` the least text.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `min_words`;
    `never_drops` where no start reaches the threshold (only with a low `threshold` or a high `min_length`).

    Source: Vidal and Jarvis 2020; the conventions are those of the package lexical-diversity.

    Departures: named only in the survey. It drops at `<`, where `mtld` closes at `<=`, as that package has it.
    """
    _check_threshold(threshold)
    _positive(min_length=min_length)
    wrapped = _kernels().wrapped_lengths
    return _lexical(
        block, field, min_words, lambda w: wrapped(w.previous, w.offsets, threshold, min_length), "never_drops"
    )


# --- windows ---------------------------------------------------------------------------------------------------------
def msttr(block: pl.DataFrame, field: str = "response", window: int = 50) -> pl.DataFrame:
    """Mean segmental type-token ratio: the mean TTR of full windows that stand one after another.

    Equation: (1/m) sum_i V_i / w over the m = floor(n/w) windows. T with w = 5 gives (.6 + 1)/2 = .8.

    Direction: higher is more varied; free of length.

    Parameters: `field` is `response`, `prompt` or `both`. `window` is w.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `window` words.

    Source: Johnson 1944.

    Departures: the words after the last full window are dropped. The package lexicalrichness drops its last window
    even if it is full.
    """
    _positive(window=window)
    return _lexical(block, field, window, lambda words: _kernels().segment_ratio(words.previous, words.offsets, window))


def mattr(block: pl.DataFrame, field: str = "response", window: int = 50) -> pl.DataFrame:
    """Moving-average type-token ratio: the mean TTR of every window of a fixed number of words.

    Equation: (1/(n-w+1)) sum_i V(i..i+w-1)/w. T with w = 5 gives .8.

    Direction: higher is more varied; free of length.

    Parameters: `field` is `response`, `prompt` or `both`. `window` is w.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `window` words (no
    fallback to TTR).

    Source: Covington and McFall 2010.
    """
    _positive(window=window)
    return _lexical(block, field, window, lambda words: _kernels().moving_ratio(words.previous, words.offsets, window))


# --- draws -----------------------------------------------------------------------------------------------------------
def _expected(words: Flat, k_min: int, k_max: int) -> np.ndarray:
    return _kernels().expected_ratios(words.previous, words.offsets, k_min, k_max)


def _drawn(words: Flat, *sizes_draws_repeats_seed: int) -> np.ndarray:
    return _kernels().drawn_ratios(words.previous, words.offsets, words.fingerprints, *sizes_draws_repeats_seed)


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
    _positive(k=k)
    return _lexical(block, field, k, lambda words: _expected(words, k, k)[:, 0])


def mttrss(
    block: pl.DataFrame, field: str = "response", window: int = 50, method: str = "analytic", draws: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """Mean type-token ratio of random samples of one size, drawn without putting back.

    Equation: (1/R) sum_r V_r / w; its expectation is `hdd` with k = w. T with w = 5 has .750794.

    Direction: higher is more varied; free of length.

    Parameters: `field` is `response`, `prompt` or `both`. `window` is w, the words of a sample. `method` is `analytic`
    (the expectation, exact) or `sampled`: R = `draws` samples. `seed`: a row's samples depend on it and on the row's
    words, not on the block.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` under `window` words.

    Source: named in survey 4.1; its definition was not found, and this is the plain reading of the name.
    """
    _positive(window=window, draws=draws)
    if _analytic(method):
        return hdd(block, field, window)
    return _lexical(block, field, window, lambda words: _drawn(words, window, window, draws, 1, seed)[:, 0, 0])


def vocd_d(
    block: pl.DataFrame, field: str = "response", method: str = "analytic", k_min: int = 35, k_max: int = 50,
    draws: int = 100, repeats: int = 3, seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """vocd's D: the parameter of the curve by which the type-token ratio of random samples falls with their size.

    Equation: min_D sum_k [TTR(k) - (D/k)(sqrt(1 + 2k/D) - 1)]^2, TTR(k) the mean over samples of k words. T said six
    times gives .504071.

    Direction: higher is more varied; nearly free of length.

    Parameters: `field` is `response`, `prompt` or `both`. `method` is `analytic` (TTR(k) is its expectation, that is
    `hdd` with that k: exact, and much faster) or `sampled` (the mean of `draws` random samples, and D the mean of
    `repeats` such fits). `k_min` to `k_max` are the sample sizes. `seed`: a row's samples depend on it and on the row's
    words, not on the block.

    Statuses: `empty_response` (`empty_prompt`, `empty_text`); `no_words`; `too_short` at `k_max` words and fewer;
    `no_repetition` where every word is distinct, or no sample held a word twice: D has no bound.

    Source: McKee, Malvern and Richards 2000; Malvern et al. 2004; analytic: McCarthy and Jarvis 2007.

    Departures: the survey's Eq. 21 takes contiguous windows and k = 10, 20, 30; the original draws words at random.
    """
    exact = _analytic(method)
    _positive(k_min=k_min, draws=draws, repeats=repeats)
    if k_max < max(k_min, 2):
        raise ValueError(f"k_max must be at least 2 and not less than k_min, got {k_min} to {k_max}")

    def fitted(words: Flat) -> np.ndarray:
        if exact:
            return _kernels().fitted_d(k_min, _expected(words, k_min, k_max))
        ratios = _drawn(words, k_min, k_max, draws, repeats, seed)
        return _kernels().fitted_d(k_min, ratios.reshape(-1, ratios.shape[2])).reshape(-1, repeats).mean(axis=1)

    return _lexical(block, field, k_max + 1, fitted, "no_repetition")


def _indicator(
    compute: Callable[..., pl.DataFrame], title: str, equation: str, paper: str, meaning: str,
    direction: Direction = "higher",
) -> Indicator:  # fmt: skip
    """The record of a function: its name is the id, its keyword arguments are the parameters."""
    return Indicator(
        id=compute.__name__,
        title=title,
        axis="diversity",
        family="handcrafted",
        section="4.1",
        equation=equation,
        paper=paper,
        meaning=meaning,
        needs=COUNTS,
        params={name: given.default for name, given in list(signature(compute).parameters.items())[1:]},
        direction=direction,
        compute=compute,
    )


_MJ_2010 = "McCarthy and Jarvis 2010, MTLD, vocd-D and HD-D, Behavior Research Methods 42"
_LI_2015 = "Li et al. 2015, A Diversity-Promoting Objective Function, arXiv 1510.03055"
_MTLD_W = "Vidal and Jarvis 2020, Effects of English-medium instruction, Language Teaching Research 24"

# fmt: off
INDICATORS = (
    _indicator(
        ttr, "Type-token ratio", r"\frac{V}{n}", "Templin 1957, Certain Language Skills in Children",
        "The share of words that are distinct. Falls with length, so short texts look varied."),
    _indicator(
        root_ttr, "Root type-token ratio", r"\frac{V}{\sqrt{n}}",
        "Guiraud 1954, Les caractères statistiques du vocabulaire",
        "Distinct words, with length discounted by its root: a rich vocabulary is high."),
    _indicator(
        log_ttr, "Log type-token ratio (Herdan's C)", r"\frac{\ln V}{\ln n}", "Herdan 1960, Type-Token Mathematics",
        "Distinct words against words, both as logarithms: 1 where no word comes twice. Long texts stay fairly high."),
    _indicator(
        maas, "Maas's index", r"\frac{\ln n - \ln V}{(\ln n)^2}",
        "Maas 1972, Über den Zusammenhang zwischen Wortschatzumfang und Länge eines Textes",
        "How far the vocabulary stays behind the length. 0: no word comes twice; higher is more monotonous.", "lower"),
    _indicator(
        distinct_1, "Distinct words", r"\frac{\#\mathrm{distinct\ words}}{n}", _LI_2015,
        "The share of words that are distinct, as papers on generated text report it. Low values show loops."),
    _indicator(
        distinct_2, "Distinct bigrams", r"\frac{\#\mathrm{distinct}\ n\mathrm{-grams}}{n}", _LI_2015,
        "How many different word pairs a word brings. Low values show set phrases and loops."),
    _indicator(
        mtld, "Measure of textual lexical diversity",
        r"\frac{1}{2} \left(\frac{n}{F_{\rightarrow}} + \frac{n}{F_{\leftarrow}}\right)", _MJ_2010,
        "How many words the text goes on before it starts to repeat itself. Hardly depends on length."),
    _indicator(
        mtld_wrap, "Measure of textual lexical diversity, wrapped (MTLD-W)",
        r"\frac{1}{n} \sum_i \min \{m : m \geq 10, V_{i..i+m-1} / m < 0.72\}", _MTLD_W,
        "How many words it takes, from any word on, until the text repeats itself. Steadier than MTLD in short texts."),
    _indicator(
        msttr, "Mean segmental type-token ratio", r"\frac{1}{\lfloor n/w \rfloor} \sum_i \frac{V_i}{w}",
        "Johnson 1944, Studies in language behavior, Psychological Monographs 56",
        "The share of distinct words in pieces of fifty, one after another. Does not depend on length."),
    _indicator(
        mattr, "Moving-average type-token ratio", r"\frac{1}{n-w+1} \sum_i \frac{V_{i..i+w-1}}{w}",
        "Covington and McFall 2010, Cutting the Gordian Knot, Journal of Quantitative Linguistics 17",
        "The share of distinct words in a window of fifty, wherever it stands. Does not depend on length."),
    _indicator(
        hdd, "Hypergeometric distribution diversity (HD-D)",
        r"\frac{1}{k} \sum_v \left[1 - \binom{n-f_v}{k} / \binom{n}{k}\right]", _MJ_2010,
        "The share of distinct words to expect among 42 drawn from the text. Does not depend on length."),
    _indicator(
        mttrss, "Mean type-token ratio of random samples", r"\frac{1}{R} \sum_r \frac{V_r}{w}",
        "Survey 4.1 (named only)",
        "The share of distinct words among fifty drawn at random from the text. Does not depend on length."),
    _indicator(
        vocd_d, "vocd's D", r"\min_D \sum_k \left[TTR(k) - \frac{D}{k} \left(\sqrt{1 + 2k/D} - 1\right)\right]^2",
        "McKee, Malvern and Richards 2000, Measuring vocabulary diversity, Literary and Linguistic Computing 15",
        "How slowly new words run out as one reads on: high is a rich vocabulary. Hardly depends on length."),
)
