"""What a single row does to each component of the Data Quality Index: one indicator a component.

Here belongs the score of a row. Where the component without the row has a closed form (1 and 5) it is the leave-one-out
difference DQI(S) - DQI(S without the row); elsewhere it is the row's own inner term, and each method says which. The
measures of a set stand in ``dqi_measures.py``. All look at the whole pool: a row's score changes with its company.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from methods.kinds import Indicator, Pool, statused
from methods.numerics.similarity import usable_rows
from methods.quality.dqi import SOURCE, band_signs, sign_above
from methods.quality.dqi_counts import (
    GRAM_LENGTH,
    SHARES,
    checked_shares,
    count_words,
    label_spreads,
    occurrences,
    read_corpus,
    row_lemmas,
)
from methods.quality.dqi_similarity import filled, largest_cosines, pair_cosines, unlike_counts
from methods.quality.dqi_terms import sentence_word_values


def _texts(pool: Pool) -> pl.DataFrame:
    if pool.texts is None:
        raise ValueError("this indicator reads texts, and this pool has none")
    return pool.texts


def _vectors(pool: Pool) -> np.ndarray:
    if pool.vectors is None:
        raise ValueError("this indicator reads vectors, and this pool has none")
    return pool.vectors


def _statuses(value: np.ndarray, why: str = "undefined") -> np.ndarray:
    """``ok`` where there is a number, else ``why``; to be overwritten by what says more."""
    return np.where(np.isfinite(value), "ok", why).astype(object)


def _wordless(texts: pl.DataFrame) -> np.ndarray:
    """The status of a row without any word: ``empty_text`` (nothing but blanks) or ``no_words`` (signs only)."""
    pairs = zip(filled(texts, "prompt"), filled(texts, "response"), strict=True)
    return np.array(["no_words" if (q + r).strip() else "empty_text" for q, r in pairs], dtype=object)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


# --- counts ----------------------------------------------------------------------------------------------------------
def dqi_c1_vocabulary_row(pool: Pool, a: float = 3, b: float = 30) -> pl.DataFrame:
    """How much DQI component 1 (vocabulary and lengths) owes to the row: the leave-one-out difference.

    Equation: DQI_1(S) - DQI_1(S without i), DQI_1 = V/N + sigma(len) (1/n_s) sum_s sgn+((len_s - a)(b - len_s)).

    Direction: higher is better: the set would lose vocabulary a row without it. Above 0 a row brings more new words
    than the average, or mends the lengths.

    Parameters: `a`, `b` bound the usual length of a prompt or a response in words.

    Statuses: `empty_text`; `no_words` (signs only); `too_few_rows` where what is left has under two sentences.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: lemmas (simplemma) and stop-words (own list) are English; words of other languages count as they stand.
    Exact, in one pass: only lemmas that no other row has leave with it, and the spread comes from running sums.
    """
    texts = _texts(pool)
    corpus = read_corpus(texts)
    n = texts.height
    counted = np.bincount(corpus.row, minlength=n).astype(np.float64)
    row, lemma = row_lemmas(corpus)
    rows_with = np.bincount(lemma) if len(lemma) else np.zeros(0, dtype=np.int64)
    alone = np.bincount(row[rows_with[lemma] == 1], minlength=n)
    size = corpus.length - (int(np.median(corpus.length)) if len(corpus.length) else 0)  # keeps the squares small
    sums = (
        counted,
        np.bincount(corpus.row, weights=size, minlength=n),
        np.bincount(corpus.row, weights=size * size, minlength=n),
        np.bincount(corpus.row, weights=sign_above((corpus.length - a) * (b - corpus.length)), minlength=n),
    )
    vocabulary, n_rows = int((rows_with > 0).sum()), int((counted > 0).sum())
    whole = _vocabulary_index(np.array([vocabulary]), np.array([n_rows]), *(np.array([part.sum()]) for part in sums))
    rest = _vocabulary_index(vocabulary - alone, np.full(n, n_rows - 1), *(part.sum() - part for part in sums))
    value = whole - rest
    return statused(value, np.where(counted == 0, _wordless(texts), _statuses(value, "too_few_rows")))


def _vocabulary_index(
    lemmas: np.ndarray, rows: np.ndarray, n: np.ndarray, sizes: np.ndarray, squares: np.ndarray, signs: np.ndarray
) -> np.ndarray:
    """Component 1 of many sets at once, from their sums; NaN under two sentences or without rows."""
    variance = _ratio(n * squares - sizes * sizes, n * (n - 1))
    return _ratio(lemmas.astype(np.float64), rows) + np.sqrt(np.maximum(variance, 0)) * _ratio(signs, n)


def dqi_c2_ngram_inter_row(
    pool: Pool, granularity: str = "word", shares: Mapping[str, float] = SHARES, c: float = 1
) -> pl.DataFrame:
    """How much of the row is said in units that the pool uses neither too often nor too seldom.

    Equation: (1/n_i) sum over the row's occurrences of sgn((d - count_v)(count_v - c)), 0 counting as +; count_v is the
    unit's count in the pool, d = share * (all occurrences). The inner term of component 2's T2: its mean over all
    occurrences of the pool is T2.

    Direction: higher is better: 1 if every unit lies inside the band, -1 if every unit is a stock phrase.

    Parameters: `granularity` is `word`, `noun`, `verb`, `adj`, `adv`, `bigram`, `trigram` or `sentence` (for which the
    sign is + only for a sentence that stands nowhere else); `shares` and `c` bound the band.

    Statuses: `empty_text`; `no_words` (signs only); `too_short` where the row has words but none of these units.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: the row's mean, not its leave-one-out difference: T1 is a property of the pool. Parts of speech are
    looked up by word, in English.
    """
    texts, shares = _texts(pool), checked_shares(shares)
    corpus = read_corpus(texts)
    key, sentence = occurrences(corpus, granularity)
    _, unit, count = np.unique(key, return_inverse=True, return_counts=True)
    sign = band_signs(count, shares.get(granularity), c)[unit]
    of = corpus.row[sentence]
    n = np.bincount(of, minlength=texts.height)
    value = _ratio(np.bincount(of, weights=sign, minlength=texts.height), n)
    wordless = np.bincount(corpus.row, minlength=texts.height) == 0
    return statused(value, np.where(wordless, _wordless(texts), _statuses(value, "too_short")))


def _labels(pool: Pool, label: str) -> np.ndarray:
    if label == "source":
        return (_texts(pool)["source"].cast(pl.String).rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy()
    if label != "cluster":
        raise ValueError(f"label must be 'cluster' or 'source', not {label!r}")
    if pool.clusters is None:
        raise ValueError("this indicator reads clusters, and this pool has none")
    return np.asarray(pool.clusters, dtype=np.int64)


def dqi_c6_ngram_label_row(pool: Pool, label: str = "cluster") -> pl.DataFrame:
    """How much the row's own words and phrases give away its label (cluster, source).

    Equation: the mean over the row's words, bigrams and trigrams v of sigma_labels(count_v)/count_v, 0 for those that
    occur only once. The inner term of component 6: summed over all occurrences of the pool and divided by n_s it is
    that component.

    Direction: lower is better; 0 if whatever it repeats is as frequent under every label, 1/sqrt(K) with K labels if
    all of it belongs to one.

    Parameters: `label` is `cluster` or `source`.

    Statuses: `empty_text`; `no_words` (signs only); `no_label` (no cluster); `too_few_labels` under two labels.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: a mean over occurrences, so that long rows do not look worse for their length.
    """
    texts = _texts(pool)
    corpus, of_row = read_corpus(texts), _labels(pool, label)
    names = np.unique(of_row[corpus.row][of_row[corpus.row] >= 0])
    given, n = np.zeros(texts.height), np.zeros(texts.height)
    for granularity in GRAM_LENGTH if len(names) > 1 else ():
        key, sentence = occurrences(corpus, granularity)
        row = corpus.row[sentence]
        kept = of_row[row] >= 0
        key, row = key[kept], row[kept]
        spreads = label_spreads(key, of_row[row], len(names))
        known = spreads["key"].to_numpy()
        per_occurrence = np.append((spreads["sigma"] / spreads["count"]).to_numpy(), 0.0)
        place = np.searchsorted(known, key)
        found = np.append(known, -1)[place] == key
        given += np.bincount(row, weights=per_occurrence[np.where(found, place, len(known))], minlength=len(n))
        n += np.bincount(row, minlength=len(n))
    value = _ratio(given, n)
    status = np.where(of_row < 0, "no_label", _statuses(value, "too_few_labels"))
    wordless = np.bincount(corpus.row, minlength=texts.height) == 0
    return statused(value, np.where(wordless, _wordless(texts), status))


# --- similarity ------------------------------------------------------------------------------------------------------
def dqi_c3_sts_inter_row(pool: Pool, siml: float = 0.5) -> pl.DataFrame:
    """The share of the other rows that the row is less alike to than SIML.

    Equation: #{m != i: sim_im < SIML}/(N - 1). The inner term of component 3's T1, whose spread over the rows it wants
    small.

    Direction: higher: a low share shows a row in a crowd. The component itself wants all shares alike, so that a row
    that nothing resembles lowers it too; take a band if you mean that.

    Parameters: `siml` the limit of likeness; a cosine equal to it (to 1e-6) is not below it.

    Statuses: `no_embedding`; `too_few_rows` where no other row has an embedding.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: a row's one embedding of prompt and response together takes the place of two sentences. Exact: all
    pairs, in blocks.
    """
    vectors = _vectors(pool)
    usable = usable_rows(vectors)
    value = np.full(len(vectors), np.nan)
    if len(usable) > 1:
        value[usable] = unlike_counts(vectors[usable], [siml])[0] / (len(usable) - 1)
    status = _statuses(value, "no_embedding")
    if len(usable) == 1:
        status[usable] = "too_few_rows"
    return statused(value, status)


def dqi_c4_word_sim_intra_row(
    pool: Pool, field: str = "response", wsiml: float = 0.5, most_words: int = 256
) -> pl.DataFrame:
    """How near the words of the row's response are to a middling likeness of meaning: the row's own v_s.

    Equation: 1/sum_j |m_j - WSIML|, m_j = (sum_{k != j} sim(w_j, w_k))/L over its first words. The inner term of
    component 4, v_s, without the factor n_s that all rows share; two words with similarity .9 give 10.

    Direction: lower, since component 4 is n_s/sum_s v_s; by the formula long texts have low values.

    Parameters: `field` is `response` or `prompt`; `wsiml` the middling likeness; the first `most_words` words count.

    Statuses: `empty_response` (`empty_prompt`); `no_words` (signs only); `undefined` where every word has m = WSIML (to
    1e-6), as in one word said twice.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: words are encoded by themselves, once each.
    """
    if field not in ("prompt", "response"):
        raise ValueError(f"field must be 'response' or 'prompt', not {field!r}")
    if pool.encode is None:
        raise ValueError("this indicator encodes texts, and this pool has no encoder")
    texts = _texts(pool)
    other = "prompt" if field == "response" else "response"
    corpus = count_words(texts.with_columns(pl.lit("").alias(other)))
    value = np.full(texts.height, np.nan)
    value[corpus.row] = sentence_word_values(corpus, pool.encode, wsiml, most_words)
    status = _statuses(value)
    for i, text in enumerate(filled(texts, field)):
        if not text.strip():
            status[i] = f"empty_{field}"
    silent = np.bincount(corpus.row, minlength=texts.height) == 0
    return statused(value, np.where(silent & (status == "undefined"), "no_words", status))


def dqi_c5_sts_intra_row(pool: Pool, siml: float = 0.5) -> pl.DataFrame:
    """How much DQI component 5 (likeness of prompt and response) owes to the row: the leave-one-out difference.

    Equation: N/D - (N - 1)/(D - d_i), d_i = |sim(Q_i, A_i) - SIML|, D = sum_i d_i.

    Direction: higher is better; above 0 the row's likeness is nearer to SIML than the pool's is on average.

    Parameters: `siml` the likeness wanted.

    Statuses: `empty_prompt`; `empty_response`; `no_embedding`; `too_few_rows` (no other row has both);
    `undefined` where every other row has d = 0.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).
    """
    if pool.encode is None:
        raise ValueError("this indicator encodes texts, and this pool has no encoder")
    texts = _texts(pool)
    asked, said = filled(texts, "prompt"), filled(texts, "response")
    status = np.array(
        [
            "empty_response" if not r.strip() else "empty_prompt" if not q.strip() else "no_embedding"
            for q, r in zip(asked, said, strict=True)
        ],
        dtype=object,
    )
    value = np.full(texts.height, np.nan)
    whole = np.flatnonzero(status == "no_embedding")
    if len(whole):
        similarity = pair_cosines(pool.encode([asked[i] for i in whole]), pool.encode([said[i] for i in whole]))
        known = np.isfinite(similarity)
        whole, away = whole[known], np.abs(similarity[known] - siml)
        value[whole] = pair_differences(away)
        status[whole] = "too_few_rows" if len(whole) == 1 else _statuses(value[whole])
    return statused(value, status)


def pair_differences(away: np.ndarray) -> np.ndarray:
    """N/D - (N - 1)/(D - d_i) of every d_i; NaN where a denominator is 0.

    D - d_i is added up from the values before and after i, so that nothing is lost where one d_i is nearly all of D.
    """
    n = len(away)
    if n < 2:
        return np.full(n, np.nan)
    before = np.concatenate(([0.0], np.cumsum(away)[:-1]))
    after = np.concatenate((np.cumsum(away[::-1])[:-1][::-1], [0.0]))
    rest = before + after
    return _ratio(np.full(n, float(n)), rest + away) - _ratio(np.full(n, n - 1.0), rest)


def dqi_c7_sts_split_row(pool: Pool, test_source: str | None = None, siml: float = 0.3) -> pl.DataFrame:
    """How far a test row's nearest training row is from a wanted likeness.

    Equation: |max_{j in train} sim(test_i, j) - SIML|. The inner term of component 7, which is 1 over its mean.

    Direction: lower is better: neither a copy of a training row nor a stranger to all.

    Parameters: `test_source` names the source that is the test split; `siml` the likeness wanted.

    Statuses: `no_split` without `test_source`, or where either split has no embedded row; `in_training` for the rows
    of the other sources; `no_embedding`.

    Source: Mishra et al. 2020 (arXiv 2005.00816, 2008.03964).

    Departures: reads the row's embedding of prompt and response that is there already, joined by a line break and not
    by a blank.
    """
    vectors, source = _vectors(pool), _texts(pool)["source"].cast(pl.String).fill_null("").to_numpy()
    usable = usable_rows(vectors)
    tested = source == test_source if test_source else np.zeros(len(source), dtype=bool)
    test, train = usable[tested[usable]], usable[~tested[usable]]
    value = np.full(len(vectors), np.nan)
    if not len(test) or not len(train):
        return statused(value, np.full(len(vectors), "no_split", dtype=object))
    value[test] = np.abs(largest_cosines(vectors[test], vectors[train]) - siml)
    return statused(value, np.where(tested, _statuses(value, "no_embedding"), "in_training"))


def _indicator(number: int, name: str, title: str, equation: str, meaning: str, **more: object) -> Indicator:
    """What the seven indicators have in common."""
    return Indicator(
        id=f"dqi_c{number}_{name}_row",
        title=f"DQI {number}: {title}",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=equation,
        paper=SOURCE,
        meaning=meaning,
        scope="pool",
        **more,  # type: ignore[arg-type]
    )


_TEXTS, _VECTORS = "filtered/instructions", "embedded/minilm"

INDICATORS = (
    _indicator(
        1,
        "vocabulary",
        "what the row adds to the vocabulary",
        r"DQI_1(S) - DQI_1(S \setminus \{i\})",
        "Above 0: the row brings more words that no other row has than the average row does, or evens out the lengths.",
        needs=(_TEXTS,),
        params={"a": 3, "b": 30},
        compute=dqi_c1_vocabulary_row,
    ),
    _indicator(
        2,
        "ngram_inter",
        "words of the row neither worn nor odd",
        r"\frac{1}{n_i} \sum_v sgn((d - c_v)(c_v - c))",
        "1 if the row uses no word (or phrase) that is overused in the pool; negative if most of it is stock phrases.",
        needs=(_TEXTS,),
        params={"granularity": "word", "shares": SHARES, "c": 1},
        compute=dqi_c2_ngram_inter_row,
    ),
    _indicator(
        3,
        "sts_inter",
        "rows that the row is unlike",
        r"\#\{m \ne i: s_{im} < SIML\} / (N - 1)",
        "The share of the pool that the row does not resemble. Low values show a row in a crowd of similar ones.",
        needs=(_VECTORS,),
        params={"siml": 0.5},
        compute=dqi_c3_sts_inter_row,
    ),
    _indicator(
        4,
        "word_sim_intra",
        "likeness of the words within the row",
        r"1 / \sum_j |m_j - WSIML|",
        "High where the words of the text are all of one middling likeness, and in very short texts.",
        direction="lower",
        needs=(_TEXTS, "encode"),
        params={"field": "response", "wsiml": 0.5, "most_words": 256},
        compute=dqi_c4_word_sim_intra_row,
    ),
    _indicator(
        5,
        "sts_intra",
        "what the row adds to the likeness of prompt and response",
        r"N/D - (N - 1)/(D - d_i), d_i = |sim(Q_i, A_i) - SIML|",
        "Above 0: the answer is near its prompt in meaning without repeating it. Below: it copies or strays more than "
        "the average row does.",
        needs=(_TEXTS, "encode"),
        params={"siml": 0.5},
        compute=dqi_c5_sts_intra_row,
    ),
    _indicator(
        6,
        "ngram_label",
        "words of the row that give its label away",
        r"mean_v \sigma_{labels}(c_v) / c_v",
        "High values show a row whose wording alone tells which cluster or source it comes from.",
        direction="lower",
        needs=(_TEXTS, "clustered/kmeans"),
        params={"label": "cluster"},
        compute=dqi_c6_ngram_label_row,
    ),
    _indicator(
        7,
        "sts_split",
        "likeness of a test row to the training rows",
        r"|\max_{j \in train} sim(test_i, j) - SIML|",
        "For rows of the source named as the test split: high if the row is a copy of a training row or a stranger to "
        "all of them.",
        direction="lower",
        needs=(_TEXTS, _VECTORS),
        params={"test_source": None, "siml": 0.3},
        compute=dqi_c7_sts_split_row,
    ),
)
