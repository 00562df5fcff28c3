"""Readability features (survey 3.1): 46 numbers that say of which kind a text's words, sentences and links are.

Here belong the four families of features (lexical, syntactic, cohesion, formulae), read off the cards of
`evidence/text_counts`, and the indicator that hands out one of them. The formulae themselves are those of
`methods.importance.handcrafted`; what a card holds is in `methods.marks`.

The list is ours. François's 46 variables (2011) are for French and are not printed where we could read them; this list
has the same four families and the measures that his and later work share, for English.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from methods import english, marks
from methods.importance import familiarity, handcrafted
from methods.importance.readability import readable
from methods.kinds import OK, Indicator, statused
from methods.parts_of_speech import POS
from methods.text import count_of, marks_of, words_of
from methods.tokens import hash_word

LEXICAL = {
    "word_length_mean": "mean letters a word",
    "word_length_median": "median letters a word",
    "word_length_p90": "letters that nine words in ten do not exceed",
    "syllables_mean": "mean syllables a word",
    "share_words_over_6": "share of words of more than 6 letters",
    "share_words_over_8": "share of words of more than 8 letters",
    "share_polysyllables": "share of words of three syllables or more",
    "ttr": "distinct words over words",
    "root_ttr": "distinct words over the root of the words",
    "hapax_ratio": "share of the distinct words that stand once",
    "log_frequency_mean": "mean frequency of the words on Zipf's scale (7: the, 3: rare)",
    "log_frequency_median": "median frequency of the words on Zipf's scale",
    "share_outside_1k": "share of words not among the 1,000 most frequent",
    "share_outside_3k": "share of words not among the 3,000 most frequent",
    "share_outside_dale_chall": "share of words, names aside, that are no form of a word on the Dale-Chall list",
    "lexical_density": "share of content words: nouns, verbs, adjectives, adverbs that are no auxiliaries",
}
SYNTACTIC = {
    "sentence_count": "sentences",
    "sentence_length_mean": "mean words a sentence",
    "sentence_length_median": "median words a sentence",
    "sentence_length_max": "words of the longest sentence",
    "share_sentences_over_20": "share of sentences of more than 20 words",
    "share_sentences_over_30": "share of sentences of more than 30 words",
    "noun_ratio": "share of nouns",
    "verb_ratio": "share of verbs",
    "adjective_ratio": "share of adjectives",
    "adverb_ratio": "share of adverbs",
    "pronoun_ratio": "share of pronouns",
    "preposition_ratio": "share of prepositions",
    "conjunction_ratio": "share of conjunctions",
    "punctuation_per_sentence": "signs that are neither letter nor digit, a sentence",
}
COHESION = {
    "adjacent_cosine_mean": "mean cosine of the content words of neighbouring sentences, weighted by rarity",
    "adjacent_cosine_min": "least cosine of the content words of neighbouring sentences",
    "adjacent_overlap": "mean share of content words that neighbouring sentences have in common",
    "connective_density": "share of connectives (however, because, then)",
    "pronoun_noun_ratio": "pronouns a noun",
    "concept_repetition": "share of nouns that were said before",
    "idea_density": "propositions a word: verbs, adjectives, adverbs, prepositions, conjunctions",
    "bigram_surprisal_mean": "mean surprisal of a word after the one before it, in bits",
}
FORMULAE = {
    "flesch_reading_ease": "Flesch's reading ease",
    "flesch_kincaid_grade": "Flesch-Kincaid grade",
    "gunning_fog": "Gunning's fog index",
    "smog": "SMOG grade",
    "ari": "automated readability index",
    "coleman_liau": "Coleman-Liau index",
    "dale_chall": "Dale-Chall score (1948)",
    "lix": "LIX",
}
MEANING = {**LEXICAL, **SYNTACTIC, **COHESION, **FORMULAE}
"""The 46 features in the order of their families, and what each is."""
FEATURES = tuple(MEANING)

FEATURES_SCHEMA: dict[str, pl.DataType] = {
    "row_id": pl.String(),
    "status": pl.String(),
    **dict.fromkeys(FEATURES, pl.Float64()),
}
FEATURES_VERSION = "1"
MIN_WORDS = 10
"""Under so many words of prose shares of words mean nothing."""


# --- the words of a block, flat --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Words:
    """The words of the prose of all rows, one after another."""

    n_rows: int
    row: np.ndarray
    hash: np.ndarray
    cards: np.ndarray
    sentence: np.ndarray
    """The number of each word's sentence, counted through the block."""

    def of(self, name: str) -> np.ndarray:
        return marks.read(self.cards, name)

    def share(self, which: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """Of each row's words (or of those ``among`` them), the share that ``which`` marks."""
        among = np.ones(len(self.row), dtype=bool) if among is None else among
        return _ratio(self.count(which & among), self.count(among))

    def count(self, which: np.ndarray) -> np.ndarray:
        return np.bincount(self.row[which], minlength=self.n_rows).astype(np.float64)

    def mean(self, values: np.ndarray, among: np.ndarray) -> np.ndarray:
        total = np.bincount(self.row[among], weights=values[among], minlength=self.n_rows)
        return _ratio(total, self.count(among))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _words(block: pl.DataFrame, field: str) -> _Words:
    lists = words_of(block, field)
    row = np.repeat(np.arange(block.height), lists.list.len().to_numpy())
    hashes, cards = (
        column.explode(empty_as_null=False, keep_nulls=False).to_numpy() for column in (lists, marks_of(block, field))
    )
    prose = marks.read(cards, "prose")
    row, cards, hashes = row[prose], cards[prose], hashes[prose]
    fresh_row = np.concatenate(([True], row[1:] != row[:-1])) if len(row) else np.empty(0, dtype=bool)
    return _Words(block.height, row, hashes, cards, np.cumsum(fresh_row | marks.read(cards, "opens")))


def _quantile(row: np.ndarray, values: np.ndarray, n_rows: int, share: float) -> np.ndarray:
    """The quantile of each row's values, between two of them in proportion (numpy's default)."""
    order = np.lexsort((values, row))
    ordered = values[order].astype(np.float64)
    lengths = np.bincount(row, minlength=n_rows)
    start = np.cumsum(lengths) - lengths
    at = start + share * np.maximum(lengths - 1, 0)
    some = lengths > 0
    low, high = np.floor(at[some]).astype(np.int64), np.ceil(at[some]).astype(np.int64)
    found = np.full(n_rows, np.nan)
    found[some] = ordered[low] + (ordered[high] - ordered[low]) * (at[some] - low)
    return found


# --- the families ----------------------------------------------------------------------------------------------------
def _lexical(words: _Words) -> dict[str, np.ndarray]:
    letters, zipf, rank = words.of("letters"), words.of("zipf"), words.of("rank")
    lettered, known = letters > 0, zipf > 0
    kinds = pl.DataFrame({"row": words.row, "hash": words.hash}).group_by("row", "hash").len()
    types = np.bincount(kinds["row"].to_numpy(), minlength=words.n_rows).astype(np.float64)
    once = np.bincount(kinds.filter(pl.col("len") == 1)["row"].to_numpy(), minlength=words.n_rows)
    total = words.count(np.ones(len(words.row), dtype=bool))
    row, length = words.row[lettered], letters[lettered]
    return {
        "word_length_mean": words.mean(letters, lettered),
        "word_length_median": _quantile(row, length, words.n_rows, 0.5),
        "word_length_p90": _quantile(row, length, words.n_rows, 0.9),
        "syllables_mean": words.mean(words.of("syllables"), lettered),
        "share_words_over_6": words.share(letters > 6, lettered),
        "share_words_over_8": words.share(letters > 8, lettered),
        "share_polysyllables": words.share(words.of("syllables") >= 3, lettered),
        "ttr": _ratio(types, total),
        "root_ttr": _ratio(types, np.sqrt(total)),
        "hapax_ratio": _ratio(once.astype(np.float64), types),
        "log_frequency_mean": words.mean(zipf / 10.0, known),
        "log_frequency_median": _quantile(words.row[known], zipf[known] / 10.0, words.n_rows, 0.5),
        "share_outside_1k": words.share(rank < 2, lettered),
        "share_outside_3k": words.share(rank < 1, lettered),
        "share_outside_dale_chall": words.share(~words.of("familiar") & ~words.of("name"), lettered),
        "lexical_density": words.share(words.of("content"), lettered),
    }


def _syntactic(words: _Words, signs: np.ndarray) -> dict[str, np.ndarray]:
    """``signs``: the visible code points of each row that are neither letter nor digit."""
    pos, lettered = words.of("pos"), words.of("letters") > 0
    found, first, length = np.unique(words.sentence, return_index=True, return_counts=True)
    row = words.row[first]
    sentences = np.bincount(row, minlength=words.n_rows).astype(np.float64)
    longest = np.full(words.n_rows, np.nan)
    np.fmax.at(longest, row, length.astype(np.float64))

    def share_over(limit: int) -> np.ndarray:
        return _ratio(np.bincount(row[length > limit], minlength=words.n_rows).astype(np.float64), sentences)

    ratios = {
        f"{name}_ratio": words.share(pos == POS.index(kind), lettered)
        for name, kind in zip(
            ("noun", "verb", "adjective", "adverb", "pronoun", "preposition", "conjunction"),
            ("noun", "verb", "adj", "adv", "pron", "prep", "conj"),
            strict=True,
        )
    }
    assert len(found) == len(row)
    return {
        "sentence_count": np.where(sentences > 0, sentences, np.nan),
        "sentence_length_mean": _ratio(np.bincount(row, weights=length, minlength=words.n_rows), sentences),
        "sentence_length_median": _quantile(row, length, words.n_rows, 0.5),
        "sentence_length_max": longest,
        "share_sentences_over_20": share_over(20),
        "share_sentences_over_30": share_over(30),
        **ratios,
        "punctuation_per_sentence": _ratio(signs, sentences),
    }


def _cohesion(words: _Words) -> dict[str, np.ndarray]:
    pos, content, lettered = words.of("pos"), words.of("content"), words.of("letters") > 0
    nouns, pronouns = words.count(pos == POS.index("noun")), words.count(pos == POS.index("pron"))
    concepts = pos == POS.index("noun")
    kinds = pl.DataFrame({"row": words.row[concepts], "hash": words.hash[concepts]}).unique()
    different = np.bincount(kinds["row"].to_numpy(), minlength=words.n_rows)
    propositions = np.isin(pos, [POS.index(kind) for kind in ("verb", "adj", "adv", "prep", "conj")])
    return {
        **_adjacent(words, content),
        "connective_density": words.share(words.of("connective"), lettered),
        "pronoun_noun_ratio": _ratio(pronouns, nouns),
        "concept_repetition": _ratio(nouns - different, nouns),
        "idea_density": words.share(propositions, lettered),
        "bigram_surprisal_mean": _surprisal(words),
    }


_WORDS_IN_A_THOUSAND_MILLION = 9.0
"""The top of Zipf's scale: log10 of a thousand million."""


def _adjacent(words: _Words, content: np.ndarray) -> dict[str, np.ndarray]:
    """How alike each sentence and the next are: cosine of their weighted content words, and the share in common.

    A content word weighs its count times its rarity, 9 less its frequency on Zipf's scale. The share is of the smaller
    sentence's distinct content words. Sentences without a content word are passed over.
    """
    weight = _WORDS_IN_A_THOUSAND_MILLION - words.of("zipf") / 10.0
    table = (
        pl.DataFrame({"row": words.row, "sentence": words.sentence, "hash": words.hash, "weight": weight})
        .filter(pl.Series(content, dtype=pl.Boolean))
        .group_by("row", "sentence", "hash", maintain_order=True)
        .agg(pl.col("weight").sum())
    )
    whole = table.group_by("row", "sentence", maintain_order=True).agg(
        norm=(pl.col("weight") ** 2).sum().sqrt(), kinds=pl.len()
    )
    after = whole.with_columns(sentence=pl.col("sentence") - 1).rename({"norm": "norm_after", "kinds": "kinds_after"})
    shared = (
        table.join(
            table.with_columns(sentence=pl.col("sentence") - 1).rename({"weight": "weight_after"}),
            on=["row", "sentence", "hash"],
            maintain_order="left",
        )
        .group_by("row", "sentence", maintain_order=True)
        .agg(dot=(pl.col("weight") * pl.col("weight_after")).sum(), common=pl.len())
    )
    pairs = (
        whole.join(after, on=["row", "sentence"], maintain_order="left")
        .join(shared, on=["row", "sentence"], how="left", maintain_order="left")
        .with_columns(
            cosine=pl.col("dot").fill_null(0.0) / (pl.col("norm") * pl.col("norm_after")),
            overlap=pl.col("common").fill_null(0) / pl.min_horizontal("kinds", "kinds_after"),
        )
    )
    each = pairs.group_by("row", maintain_order=True).agg(
        adjacent_cosine_mean=pl.col("cosine").mean(),
        adjacent_cosine_min=pl.col("cosine").min(),
        adjacent_overlap=pl.col("overlap").mean(),
    )
    found = {name: np.full(words.n_rows, np.nan) for name in each.columns if name != "row"}
    for name, values in found.items():
        values[each["row"].to_numpy()] = each[name].to_numpy()
    return found


@cache
def _pairs_of_books() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Sorted keys of word pairs with their counts, sorted hashes of words with theirs, and the sum of the latter."""
    singles, pairs = english.book_counts(), english.pair_counts()
    hashes = {word: hash_word(word) for word in {*singles, *(word for pair in pairs for word in pair)}}
    keys = _pair_key(
        np.array([hashes[first] for first, _ in pairs], dtype=np.uint64),
        np.array([hashes[second] for _, second in pairs], dtype=np.uint64),
    )
    of_pairs = np.array(list(pairs.values()), dtype=np.float64)
    words = np.array([hashes[word] for word in singles], dtype=np.uint64)
    of_words = np.array(list(singles.values()), dtype=np.float64)
    by_key, by_word = np.argsort(keys), np.argsort(words)
    return keys[by_key], of_pairs[by_key], words[by_word], of_words[by_word], float(of_words.sum())


def _pair_key(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """64 bits for a pair of words, by a multiplication that mixes the first before the second is added."""
    return first * np.uint64(0x9E3779B97F4A7C15) + second


def _look_up(keys: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, counts[at], 0.0)


_BACK_OFF = 0.4
"""What a pair that the books do not hold is worth of its second word's own share (Brants et al. 2007)."""


def _surprisal(words: _Words) -> np.ndarray:
    """Mean -log2 of how likely each word is after the one before it in its sentence, by pairs counted in books.

    count(v w) / count(v) where the pair is known, else .4 count(w) / all (`stupid backoff`); a word that is not
    known either is passed over.
    """
    keys, of_pairs, known, of_words, total = _pairs_of_books()
    same = words.sentence[1:] == words.sentence[:-1]
    first, second, row = words.hash[:-1][same], words.hash[1:][same], words.row[1:][same]
    together, before = _look_up(keys, of_pairs, _pair_key(first, second)), _look_up(known, of_words, first)
    alone = _look_up(known, of_words, second)
    chance = np.where((together > 0) & (before > 0), together / np.maximum(before, 1.0), _BACK_OFF * alone / total)
    some = chance > 0
    bits = -np.log2(np.minimum(chance[some], 1.0))
    summed = np.bincount(row[some], weights=bits, minlength=words.n_rows)
    return _ratio(summed, np.bincount(row[some], minlength=words.n_rows).astype(np.float64))


_OWN_LIMITS: dict[str, dict[str, object]] = {"smog": {"min_sentences": 1}, "lix": {"language": None}}


def _formulae(block: pl.DataFrame, field: str) -> dict[str, np.ndarray]:
    """The formulae on whatever text there is: whether they may be used at all is said by the row's status."""
    loose: dict[str, object] = {"field": field, "min_words": 1, "min_letters": 0.0}
    known = {**vars(handcrafted), **vars(familiarity)}
    frames = {name: known[name](block, **{**loose, **_OWN_LIMITS.get(name, {})}) for name in FORMULAE}
    return {name: frame["value"].to_numpy() for name, frame in frames.items()}


def features_of(block: pl.DataFrame, field: str = "response") -> pl.DataFrame:
    """All 46 features of each row (`FEATURES_SCHEMA`), null where one has no meaning, with one status for the row.

    ``block`` is of `evidence/text_counts`. Shares are of the words with a letter, in prose. A row whose status is not
    ``ok`` has no feature at all: ``empty_response`` (``empty_prompt``, ``empty_text``), ``no_words``, ``too_short``
    under ten words of prose, ``unknown_language``, ``wrong_language``.
    """
    status = block.select(readable(field, "en", MIN_WORDS, 0.0)).to_series()
    words = _words(block, field)
    signs = block.select(count_of(field, "n_visible") - count_of(field, "n_alphanumerics")).to_series()
    found = {
        **_lexical(words),
        **_syntactic(words, signs.to_numpy().astype(np.float64)),
        **_cohesion(words),
        **_formulae(block, field),
    }
    fine = pl.Series(status == OK)
    table = pl.DataFrame({"row_id": block["row_id"], "status": status, **{name: found[name] for name in FEATURES}})
    table = table.cast(pl.Schema(FEATURES_SCHEMA)).fill_nan(None)
    return table.with_columns(pl.when(fine).then(pl.col(name)) for name in FEATURES)


# --- the indicator ---------------------------------------------------------------------------------------------------
def readability_features(
    block: pl.DataFrame, feature: str = "sentence_length_mean", field: str = "response"
) -> pl.DataFrame:
    """One of the 46 readability features of a text; all of them stand in `evidence/readability_features`.

    Equation: one a feature, in words in the columns of that table. The families: lexical (length, syllables, variety
    and frequency of words), syntactic (sentences and parts of speech), cohesion (what links neighbouring sentences),
    formulae. Shares are of the words with a letter. The cosine of neighbouring sentences is over their content words,
    each weighing its count times 9 less its frequency on Zipf's scale; surprisal is -log2 of a pair's count over that
    of its first word in Google Books, or of .4 times the second word's share where the pair is not known.

    Direction: band; no feature has a better end by itself.

    Parameters: `feature` names the column. `field` is `response`, `prompt` or `both`.

    Statuses: those of the row: `empty_response`, `no_words`, `too_short` under ten words of prose, `wrong_language`,
    `unknown_language`; and `undefined` where this feature has no value (neighbouring sentences of a single one).

    Source: François and Fairon 2012; François and Miltsakaki 2012 (the families); Saranathan et al. (DELE).

    Departures: François's list is not printed in the survey and was not at hand; this one keeps the four families and
    46 columns. Parts of speech are looked up word by word, not tagged in the sentence. No dependency depth: it would
    take a parser.
    """
    if feature not in FEATURES:
        raise ValueError(f"there is no readability feature {feature!r}; there are {', '.join(FEATURES)}")
    value = block[feature]
    status = pl.when((pl.col("status") == OK) & pl.col(feature).is_null()).then(pl.lit("undefined")).otherwise("status")
    return statused(value, block.select(status).to_series())


INDICATORS = (
    Indicator(
        id="readability_features",
        title="Readability features",
        axis="quality",
        family="handcrafted",
        section="3.1",
        equation=r"\phi_k(x), k = 1..46",
        paper="François and Fairon 2012, An AI readability formula for French; François and Miltsakaki 2012",
        meaning="One of 46 numbers on a text's words, sentences and their links, as chosen by `feature`: for gates "
        "('no sentence over 30 words') and as input to models of quality.",
        needs=("evidence/readability_features",),
        params={"feature": "sentence_length_mean", "field": "response"},
        direction="band",
        compute=readability_features,
    ),
)
