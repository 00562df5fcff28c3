"""What the row rules are told of each row: every fact computed once, for the whole block.

Here belong counts, languages and expressions over a response that more than one rule or a rule and its sentence need.
Which value is too much is decided in `rules`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from methods.filters import phrases
from methods.filters.config import FilterConfig
from methods.filters.contamination import Targets, leaks
from methods.filters.language import UNKNOWN, identify
from methods.filters.shingles import Ragged, Words, distinct, ngrams, prompt_of, words


def facts_of(block: pl.DataFrame, config: FilterConfig, targets: Targets | None = None) -> pl.DataFrame:
    """``row_id`` and the facts: texts (``prompt``, ``instruction``, ``input``, ``response``, ``body`` without white
    space around it, ``head``: its first 300 characters in lower case), counts, languages, repetition and leaks."""
    text = block.select(
        "row_id",
        prompt=prompt_of(),
        instruction=pl.col("instruction").cast(pl.String).fill_null(""),
        input=pl.col("input").cast(pl.String).fill_null(""),
        response=pl.col("response").cast(pl.String).fill_null(""),
    ).with_columns(body=pl.col("response").str.strip_chars())
    head = pl.col("body").str.slice(0, 300).str.to_lowercase().str.replace_all("[\u2018\u2019\u02bc`\u00b4]", "'")
    said, asked = words(text["response"]), words(text["prompt"])
    return text.with_columns(
        head=head.str.replace_all(r"\s+", " "),
        n_words=pl.Series(said.lengths),
        n_all=pl.Series(said.lengths + asked.lengths),
        spaced=pl.Series(said.spaced),
        garbled=pl.col("response").str.count_matches(phrases.GARBLED),
        n_chars=pl.col("response").str.len_chars(),
        **_repetition(said, config),
        **_languages(text, config),
        **_leaks(text, targets, config),
    )


def last_line() -> pl.Expr:
    """The last line of the response."""
    return pl.col("body").str.extract(r"([^\n]*)$")


def spoken_words() -> pl.Expr:
    """The response's words; one without any still says a word by a symbol (emoji, `+`) or two different marks
    (`:-)`, a line of Morse), though not by quotes or fences."""
    bare = pl.col("body").str.slice(0, 60).str.replace_all(r"\s", "")
    marks = bare.str.extract_all(r"\PC").list.n_unique()
    symbol = bare.str.contains(r"[\p{Sm}\p{Sc}\p{So}]")
    return pl.when((pl.col("n_words") == 0) & (bare != "") & (symbol | (marks > 1))).then(1).otherwise("n_words")


def unspeakable_share() -> pl.Expr:
    """Of the response's lower-case Latin words of four letters and more (at least six of them, code taken out): the
    share without a vowel or with six consonants in a row."""
    plain = pl.col("response").str.slice(0, 4000).str.replace_all(phrases.CODE, " ")
    every = plain.str.count_matches(r"\b[a-z]{4,}\b")
    odd = plain.str.count_matches(r"\b(?:[bcdfghjklmnpqrstvwxz]{4,}|[a-z]*[bcdfghjklmnpqrstvwxz]{6}[a-z]*)\b")
    return pl.when(every >= 6).then(odd / every)


def function_share() -> pl.Expr:
    """The share of function words in a response of a language that has a list of them, else null."""
    counts = pl.lit(None, pl.UInt32)
    for code, pattern in phrases.FUNCTION_WORDS.items():
        found = pl.col("response").str.count_matches(pattern)
        counts = pl.when(pl.col("language") == code).then(found).otherwise(counts)
    return counts / pl.col("n_words").clip(1)


def looks_like_prose() -> pl.Expr:
    """Whether a response is neither a list, nor a table, nor code: few marks between its words."""
    marks = pl.col("response").str.count_matches(r"[\n,;:|/=<>{}()\[\]\d_*#&$\"+-]")
    return marks / pl.col("n_words").clip(1) < 0.15


def foreign(side: str) -> pl.Expr:
    """Whether the language of ``side`` is believed and neither the response's nor akin to it."""
    groups = [set(group) for group in phrases.KIN]
    kin = [(a, b) for group in groups for a in group for b in group]
    pair = pl.concat_str("language", pl.lit(" "), side)
    akin = pair.is_in([f"{a} {b}" for a, b in kin])
    return pl.col(side).is_not_null() & (pl.col(side) != pl.col("language")) & ~akin


def _repetition(said: Words, config: FilterConfig) -> dict[str, pl.Series]:
    """The share of n-grams that repeat an earlier one of the same response, and the longest run of one word."""
    sizes = np.where(said.spaced, config.repetition_ngram, 2 * config.repetition_ngram)
    grams = ngrams(said, np.where(said.lengths >= max(config.repetition_least_words, 1), sizes, 0))
    share = 1 - np.divide(distinct(grams).lengths, grams.lengths, out=np.ones(len(said)), where=grams.lengths > 0)
    return {"repeated": pl.Series(share, dtype=pl.Float64), "run": pl.Series(_longest_runs(said), dtype=pl.Int64)}


def _longest_runs(said: Ragged) -> np.ndarray:
    """(n,) int64: the longest run of equal entries in each row, 0 in an empty one."""
    values, rows = said.values, said.rows
    fresh = np.ones(len(values), bool)
    fresh[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    starts, out = np.flatnonzero(fresh), np.zeros(len(said), np.int64)
    np.maximum.at(out, rows[starts], np.diff(np.append(starts, len(values))))
    return out


def _languages(text: pl.DataFrame, config: FilterConfig) -> dict[str, pl.Series]:
    """The response's language and, where they might differ from it, the instruction's and the input's (else null).

    Asking the identifier costs more than all rules together. So it is not asked about a prompt where
    `language_mismatch` cannot hit: after a response whose language is not believed, where the prompt speaks of a
    language or a translation, and where an English response follows an ASCII instruction with an English function word.
    """
    said = identify(text["response"].to_list())
    language = pl.Series([code for code, _ in said], dtype=pl.String)
    sure = pl.Series([p for _, p in said], dtype=pl.Float64)
    believed = (language != UNKNOWN) & (sure >= config.language_confidence)
    english = pl.col("instruction").str.contains(phrases.ENGLISH) & ~pl.col("instruction").str.contains(r"[^\x00-\x7F]")
    about = pl.col("prompt").str.contains(phrases.ABOUT_LANGUAGE)
    ask = text.select(believed & ~about & ~((language == "en") & english)).to_series()
    rows = ask.arg_true() if "language_mismatch" not in config.disabled else ask.head(0).arg_true()
    out = {"language": language, "language_sure": sure}
    for side in ("instruction", "input"):
        found = identify(text[side].gather(rows).to_list())
        codes = [code if code != UNKNOWN and p >= config.language_confidence else None for code, p in found]
        blank = pl.Series([None] * len(text), dtype=pl.String)
        out[f"{side}_language"] = blank.scatter(rows, pl.Series(codes, dtype=pl.String)) if len(rows) else blank
    return out


def _leaks(text: pl.DataFrame, targets: Targets | None, config: FilterConfig) -> dict[str, pl.Series]:
    """The findings of `contamination.leaks`, or nulls without targets."""
    names = {"leaked": pl.Boolean, "target_id": pl.String, "overlap": pl.Float64, "span": pl.String}
    if targets is None or "leaked" in config.disabled:
        return {f"leak_{name}": pl.Series([None] * len(text), dtype=kind) for name, kind in names.items()}
    found = leaks(text, targets, config.leak_overlap)
    return {f"leak_{name}": found[name] for name in names}
