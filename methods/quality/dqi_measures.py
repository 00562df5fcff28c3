"""The seven components of the Data Quality Index as measures of a set (survey 3.1).

Here belong the measures and what a user must know of each; their number is the term ``combined`` of ``dqi_terms.py``.
The formulas stand in ``dqi.py``, where the mapping from pairs of sentences to instruction data is told. No component
is comparable between sets of very different size or between encoders: hold sets of equal size against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from methods.kinds import Measure, Subset
from methods.quality.dqi import SOURCE
from methods.quality.dqi_counts import SHARES
from methods.quality.dqi_terms import c1_terms, c2_terms, c3_terms, c4_terms, c5_terms, c6_terms, c7_terms


# --- counts ----------------------------------------------------------------------------------------------------------
def dqi_c1_vocabulary(subset: Subset, a: float = 3, b: float = 30) -> float | None:
    """DQI component 1: how many different words a row brings, and how spread and how usual the lengths are.

    Equation: V/N + sigma(len) (1/n_s) sum_s sgn+((len_s - a)(b - len_s)). V distinct lemmas, N rows, n_s sentences
    (prompts and responses), len in words; sgn+ is +1 above 0, else -1. V 8, N 3, lengths 5, 7, 2 give 3.50554.

    Direction: higher means a richer vocabulary a row. The lengths pull up only while most sentences have `a` to `b`
    words: long answers make the second term large and negative, so look at the terms.

    Parameters: `a`, `b` bound the usual length in words (3 and 30, of one-sentence texts).

    Undefined: under two sentences.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: lemmas are simplemma's, not WordNet's; the stop-words are this project's own list. Both are English:
    words of other languages count as they stand. Rows without any word are not counted.
    """
    return c1_terms(subset, a, b)["combined"]


def dqi_c2_ngram_inter(
    subset: Subset, shares: Mapping[str, float] = SHARES, c: float = 1, ddof_pos: int = 1
) -> float | None:
    """DQI component 2: how evenly words, parts of speech, n-grams and sentences are used over the set.

    Equation: sum over granularities of T1 T2; T1 = 1/sigma_v(count_v/#types), T2 = (1/sum count) sum_v count_v
    sgn((d - count_v)(count_v - c)), 0 counting as +; for whole sentences T2 takes sgn+(2 - count_v). Counts 2, 1, 1
    give T1 5.19615.

    Direction: higher means that no word or phrase is used so often that it gives answers away.

    Parameters: `shares` is d/(sum of counts) of each granularity (those given replace the defaults); `c` the least
    count; `ddof_pos` 0 takes the population deviation for parts of speech, as the published code does.

    Undefined: where no granularity has two types of different count. A granularity whose counts are all equal has no
    T1 and is left out of the sum.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: that the terms combine as sum T1 T2 is not verified, and rare units (trigrams, sentences) outweigh the
    rest in it; the terms are given apart. Parts of speech are looked up by word (`methods.parts_of_speech`), in
    English; for other languages only words, n-grams and sentences mean something.
    """
    return c2_terms(subset, shares, c, ddof_pos)["combined"]


def dqi_c6_ngram_label(
    subset: Subset,
    label: str = "cluster",
    shares: Mapping[str, float] = SHARES,
    c: float = 1,
    ddof_pos: int = 1,
) -> float | None:
    """DQI component 6: how much words and phrases give away which label (cluster, source) a row has.

    Equation: (1/n_s) sum over n = 1, 2, 3 and over n-grams v with a total count above 1 of sigma_labels(count_v),
    labels without v counted as 0. Counts (2, 0, 1) over three labels and four sentences give .25.

    Direction: lower is better: 0 means that every repeated n-gram is as frequent under every label. This is the sign
    of the give-away term; the other half, component 2 within each label (its mean over labels is the term
    `within_labels`), is better when higher, and is not added to it.

    Parameters: `label` is `cluster` or `source`. `shares`, `c` and `ddof_pos` are those of `dqi_c2_ngram_inter`, for
    `within_labels` alone.

    Undefined: under two labels. Rows without a cluster are left out.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: how the two halves combine is not verified. Labels of unequal size raise every sigma, as in the paper.
    """
    return c6_terms(subset, label, shares, c, ddof_pos)["combined"]


# --- similarity ------------------------------------------------------------------------------------------------------
def dqi_c3_sts_inter(
    subset: Subset,
    siml: Sequence[float] = (0.5, 0.6, 0.7),
    a: Sequence[float] = (0.25, 0.33, 0.5),
    siml_top: float = 0.5,
    sample: int = 50_000,
    seed: int = 0,
) -> float | None:
    """DQI component 3: how evenly the sentences of the set resemble each other.

    Equation: sum over SIML of T1 + sum over a of T2; T1 = n_s/(sigma_l(#{m != l: sim_lm < SIML}) + 1), T2 = n_s/(1 +
    sum_l sum_{m in top-a of l, sim < SIML} |sim - SIML|). Counts (2, 2, 0) give T1 1.39230.

    Direction: higher means that no part of the set stands in a crowd while another stands alone.

    Parameters: `siml` the limits of T1; `a` the shares of nearest sentences of T2 and `siml_top` its limit; above
    `sample` sentences a sample of that many, drawn with `seed`, stands for the set.

    Undefined: under two sentences with an embedding.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: cosines of the project's encoder, not of spaCy's BERT vectors. The sentence itself is not among its
    nearest (in the published code it is). The sum of the terms is not verified. T2 shrinks as n_s grows.
    """
    return c3_terms(subset, siml, a, siml_top, sample, seed)["combined"]


def dqi_c4_word_sim_intra(subset: Subset, wsiml: float = 0.5, most_words: int = 256) -> float | None:
    """DQI component 4: how far the words within a sentence are from a middling likeness of meaning.

    Equation: n_s/sum_s v_s, v_s = n_s/sum_i |m_i - WSIML|, m_i = (sum_{j != i} sim(w_i, w_j))/L. One sentence of two
    words with similarity .9 gives .1.

    Direction: higher, in the authors' sense; by the formula it rises with the distance from `wsiml` and with length.

    Parameters: `wsiml` the middling likeness; of a sentence the first `most_words` words are read.

    Undefined: without a sentence that has a word off `wsiml` (to 1e-6). Such sentences (one word said twice, at .5) are
    left out.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: words are encoded by themselves, once each, not in their sentence. The division is by L, not L - 1, as
    published; the variant without the absolute value is an error and not offered.
    """
    return c4_terms(subset, wsiml, most_words)["combined"]


def dqi_c5_sts_intra(subset: Subset, siml: float = 0.5) -> float | None:
    """DQI component 5: how close the likeness of prompt and response is to a middling one.

    Equation: N/sum_i |sim(Q_i, A_i) - SIML|. Similarities .6, .4, .9 with SIML .5 give 5. The terms also have
    N/(1 + sum |len_Q - len_A|), sigma(|len_Q - len_A|)/N and sigma(sim)/N.

    Direction: higher means that answers neither repeat their prompts nor leave them.

    Parameters: `siml` the likeness wanted (the paper scans .1 to .9).

    Undefined: without a row that has both texts, or if every similarity equals `siml`.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: the value is the term of similarity alone; how the others join it is not known. Lengths in words.
    """
    return c5_terms(subset, siml)["combined"]


def dqi_c7_sts_split(
    subset: Subset,
    test_source: str | None = None,
    siml: Sequence[float] = (0.2, 0.3, 0.4),
    sample: int = 50_000,
    seed: int = 0,
) -> float | None:
    """DQI component 7: how close the test rows' nearest training row is to a wanted likeness.

    Equation: sum over SIML of 1/mean_i |max_{j in train} sim(test_i, j) - SIML|, text = prompt, a blank, response.
    Largest similarities .3, .5 with SIML .4 give 10.

    Direction: higher means that test rows are neither copies of training rows nor strangers to them.

    Parameters: `test_source` names the source that is the test split, all others are training; `siml` the likenesses
    wanted; above `sample` test rows a sample of that many, drawn with `seed`, is held against all training rows.

    Undefined: without `test_source`, or where either split has no embedded row. A limit that every largest similarity
    equals has no term.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: the sum over the limits is not verified; the terms are given apart.
    """
    return c7_terms(subset, test_source, siml, sample, seed)["combined"]


_COUNTED = {"shares": SHARES, "c": 1, "ddof_pos": 1}
_SAMPLED = {"sample": 50_000, "seed": 0}


def _measure(id: str, number: int, title: str, equation: str, meaning: str, **more: object) -> Measure:
    """What the seven measures have in common."""
    return Measure(
        id=id,
        title=f"DQI {number}: {title}",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=equation,
        paper=SOURCE,
        meaning=meaning,
        **more,  # type: ignore[arg-type]
    )


MEASURES = (
    _measure(
        "dqi_c1_vocabulary",
        1,
        "vocabulary",
        r"V/N + \sigma(len) \frac{1}{n_s} \sum_s sgn^+((len_s - a)(b - len_s))",
        "How many different words a row brings. It falls, even below 0, where most texts are longer than a few lines.",
        needs=("texts",),
        params={"a": 3, "b": 30},
        compute=dqi_c1_vocabulary,
        terms=c1_terms,
    ),
    _measure(
        "dqi_c2_ngram_inter",
        2,
        "n-gram frequency",
        r"\sum_g T_1 T_2, T_1 = 1/\sigma_v(c_v/\#types), T_2 = \frac{1}{\sum c} \sum_v c_v sgn((d - c_v)(c_v - c))",
        "How evenly words and phrases are used. Low values show stock phrases that recur over the set.",
        needs=("texts",),
        params=_COUNTED,
        compute=dqi_c2_ngram_inter,
        terms=c2_terms,
    ),
    _measure(
        "dqi_c3_sts_inter",
        3,
        "likeness between sentences",
        r"\sum_{SIML} \frac{n_s}{\sigma_l(\#\{m: s_{lm} < SIML\}) + 1} + \sum_a T_2",
        "How evenly the texts resemble each other. Low values show a crowd of similar texts beside lonely ones.",
        needs=("texts", "encode"),
        params={"siml": (0.5, 0.6, 0.7), "a": (0.25, 0.33, 0.5), "siml_top": 0.5, **_SAMPLED},
        compute=dqi_c3_sts_inter,
        terms=c3_terms,
    ),
    _measure(
        "dqi_c4_word_sim_intra",
        4,
        "likeness of words within a sentence",
        r"n_s / \sum_s v_s, v_s = n_s / \sum_i |m_i - WSIML|",
        "How far the words of a text are from being of one middling likeness. It grows with the length of texts.",
        needs=("texts", "encode"),
        params={"wsiml": 0.5, "most_words": 256},
        compute=dqi_c4_word_sim_intra,
        terms=c4_terms,
    ),
    _measure(
        "dqi_c5_sts_intra",
        5,
        "likeness of prompt and response",
        r"N / \sum_i |sim(Q_i, A_i) - SIML|",
        "High where answers are near their prompts in meaning without repeating them; low where they copy or stray.",
        needs=("texts", "encode"),
        params={"siml": 0.5},
        compute=dqi_c5_sts_intra,
        terms=c5_terms,
    ),
    _measure(
        "dqi_c6_ngram_label",
        6,
        "words that give the label away",
        r"\frac{1}{n_s} \sum_{n=1}^{3} \sum_{v: c_v > 1} \sigma_{labels}(c_v)",
        "How much words and phrases belong to one cluster or source. High values mean that wording alone tells the "
        "label.",
        direction="lower",
        needs=("texts", "clusters"),
        params={"label": "cluster", **_COUNTED},
        compute=dqi_c6_ngram_label,
        terms=c6_terms,
    ),
    _measure(
        "dqi_c7_sts_split",
        7,
        "likeness of test and training rows",
        r"\sum_{SIML} 1 / mean_i |\max_{j \in train} sim(test_i, j) - SIML|",
        "High where test rows are related to the training rows without being copies of them. It needs a source that is "
        "named as the test split.",
        needs=("texts", "encode"),
        params={"test_source": None, "siml": (0.2, 0.3, 0.4), **_SAMPLED},
        compute=dqi_c7_sts_split,
        terms=c7_terms,
    ),
)
