"""The row rules: what is wrong with one row, seen by itself.

Here belong the list of rules and the judge that applies them. Their thresholds stand in `config`, what they look at
in `facts`, the wordings they know in `phrases`. A rule never looks at other rows: likeness between rows is the business
of `duplicates` and `resolution`.

The rules are made to be believed: each rather lets a bad row pass than drops a good one, since what passes is still
scored, and what is dropped is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from methods.filters import phrases
from methods.filters.config import RULE_IDS, FilterConfig
from methods.filters.contamination import Targets
from methods.filters.facts import (
    facts_of,
    foreign,
    function_share,
    last_line,
    looks_like_prose,
    spoken_words,
    unspeakable_share,
)
from methods.filters.language import UNKNOWN

__all__ = ["RULES", "RULE_IDS", "FilterConfig", "Rule", "judge_rows"]

JUDGED: dict[str, pl.DataType | type[pl.DataType]] = {
    "row_id": pl.String, "language": pl.String, "rule": pl.String, "detail": pl.String, "flags": pl.List(pl.String),
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One reason to drop a row (or, if ``soft``, to flag it)."""

    id: str
    title: str
    meaning: str
    """What a hit says, for a person."""
    hit: Callable[[FilterConfig], pl.Expr]
    """A Boolean expression over the facts (`facts.facts_of`); null counts as no."""
    detail: Callable[[FilterConfig], pl.Expr]
    """A short sentence with the numbers."""
    params: tuple[str, ...] = ()
    """The settings it reads."""
    gate: Callable[[FilterConfig], pl.Expr] | None = None
    """A cheap condition that every hit fulfils: ``hit`` is worked out for these rows only."""
    soft: bool = False


def judge_rows(block: pl.DataFrame, config: FilterConfig | None = None, targets: Targets | None = None) -> pl.DataFrame:
    """One line for every row, in order: ``row_id``, ``language``, ``rule``, ``detail``, ``flags``.

    ``rule`` is the first rule of `RULES` that hits, null for a row that stays; ``detail`` says why in a sentence;
    ``flags`` holds the ids of everything else found, in the order of `RULES`. ``block`` needs ``row_id``,
    ``instruction``, ``input`` and ``response``. Rule ``leaked`` is applied where ``targets`` are given.
    """
    config = config or FilterConfig()
    active = [rule for rule in RULES if rule.id not in config.disabled]
    hard = [rule for rule in active if not rule.soft and rule.id not in config.flag_only]
    facts = facts_of(block, config, targets)
    hits = pl.DataFrame([facts["row_id"], *(_hits(facts, rule, config) for rule in active)])
    nothing = pl.lit(None, pl.String)
    hits = hits.with_columns(rule=pl.coalesce(*(pl.when(rule.id).then(pl.lit(rule.id)) for rule in hard), nothing))
    others = [pl.when(pl.col(rule.id) & pl.col("rule").ne_missing(rule.id)).then(pl.lit(rule.id)) for rule in active]
    hits = hits.with_columns(flags=pl.concat_list(*others, nothing).list.drop_nulls())
    facts = facts.with_columns(hits["rule"], hits["flags"])
    facts = facts.with_columns(_details(facts, hard, config))
    return facts.select(pl.col(name).cast(kind) for name, kind in JUDGED.items())


def _hits(facts: pl.DataFrame, rule: Rule, config: FilterConfig) -> pl.Series:
    """Whether the rule hits each row."""
    if rule.gate is None:
        return facts.select(rule.hit(config).fill_null(False).alias(rule.id)).to_series()
    rows = facts.select(rule.gate(config).fill_null(False).alias("gate")).to_series().arg_true()
    out = pl.Series(rule.id, [False] * len(facts), dtype=pl.Boolean)
    if not len(rows):
        return out
    return out.scatter(rows, facts[rows.to_numpy()].select(hit=rule.hit(config).fill_null(False)).to_series())


def _details(facts: pl.DataFrame, hard: list[Rule], config: FilterConfig) -> pl.Series:
    """Why each row was dropped; the sentences are made of the rows dropped only."""
    out = pl.Series("detail", [None] * len(facts), dtype=pl.String)
    for rule in hard:
        rows = (facts["rule"] == rule.id).fill_null(False).arg_true()
        if len(rows):
            said = facts[rows.to_numpy()].select(rule.detail(config).cast(pl.String).alias("detail")).to_series()
            out = out.scatter(rows, said if len(said) == len(rows) else said.extend_constant(said[0], len(rows) - 1))
    return out


def _any(column: str, patterns: tuple[str, ...]) -> pl.Expr:
    return pl.any_horizontal(pl.col(column).str.contains(pattern) for pattern in patterns)


def _opening() -> pl.Expr:
    return pl.col("head").str.slice(0, 80)


def _percent(share: pl.Expr) -> pl.Expr:
    return (share * 100).round(1)


def _empty_detail(_: FilterConfig) -> pl.Expr:
    return pl.when(pl.col("body") == "").then(pl.lit("the response is empty")).otherwise(pl.lit("the prompt is empty"))


def _boilerplate(_: FilterConfig) -> pl.Expr:
    residue = [pl.col("response").str.contains(p) & ~pl.col("prompt").str.contains(p) for p in phrases.RESIDUE]
    return _any("body", phrases.PLACEHOLDER) | pl.any_horizontal(residue)


def _language(config: FilterConfig) -> pl.Expr:
    wanted = pl.col("language").is_in([*config.languages, UNKNOWN]) | pl.lit(not config.languages)
    return ~wanted & (pl.col("language_sure") >= config.language_confidence)


def _mismatch(_: FilterConfig) -> pl.Expr:
    no_input = pl.col("input").str.strip_chars() == ""
    other = foreign("instruction_language") & (no_input | foreign("input_language"))
    quoted = (pl.col("instruction_language").is_in(["zh", "ja", "ko"])
              & pl.col("instruction").str.contains(r"[A-Za-z]{2,}[ ,]+[A-Za-z]{2,}[ ,]+[A-Za-z]{2,}"))  # fmt: skip
    # Names of plants and animals make Latin of any text, and lists or code make a language less sure than it looks.
    sure = ~pl.col("spaced") | looks_like_prose() | (pl.col("language_sure") >= 0.97)
    return other & ~quoted & sure & (pl.col("language") != "la")


def _repetition(config: FilterConfig) -> pl.Expr:
    asked = pl.col("prompt").str.contains(phrases.ASKS_REPETITION)
    numbers = pl.col("spaced") & (pl.col("response").str.count_matches(r"\pL") < 2.5 * pl.col("n_words"))
    loops = (pl.col("repeated") > config.repetition_share) | (pl.col("run") > config.repetition_run)
    return loops & ~asked & ~numbers


def _gibberish(config: FilterConfig) -> pl.Expr:
    salad = (pl.col("n_words") >= config.gibberish_least_words) & looks_like_prose() & (
        function_share() < config.gibberish_function_share)  # fmt: skip
    return salad | (looks_like_prose() & (unspeakable_share() > config.gibberish_unspeakable_share))


def _gibberish_detail(config: FilterConfig) -> pl.Expr:
    odd = pl.format("{} % of its longer words cannot be spoken (at most {} %)", _percent(unspeakable_share()),
                    pl.lit(100 * config.gibberish_unspeakable_share))  # fmt: skip
    few = pl.format("{} % of {} words are function words (at least {} %)", _percent(function_share()), "n_words",
                    pl.lit(100 * config.gibberish_function_share))  # fmt: skip
    return pl.when(unspeakable_share() > config.gibberish_unspeakable_share).then(odd).otherwise(few)


def _open_fence() -> pl.Expr:
    """An odd number of fences, of which an odd number stand on a line of their own."""
    odd = pl.col("body").str.count_matches("```", literal=True) % 2 == 1
    return odd & (pl.col("body").str.count_matches(r"(?m)^\s*```[\w+#.-]*\s*$") % 2 == 1)


def _no_end() -> pl.Expr:
    return pl.col("body").str.tail(1).str.contains(r"[\pL\pN,(]")


def _open_end(config: FilterConfig) -> pl.Expr:
    """Prose of several sentences, not a list and not code, whose last line has more than a few words."""
    sentences = pl.col("body").str.count_matches(phrases.SENTENCE_BREAK) >= 3
    code = pl.col("body").str.contains(r"[{};=]\s*(?:\n|$)|```")
    other = code | last_line().str.contains(r"^\s*(?:[-*•>|#]|\d+[.)])")
    long = (pl.col("n_words") >= config.truncated_least_words) & last_line().str.contains(r"(?:\S+\s+){7,}\S+$")
    return long & pl.col("spaced") & sentences & ~other


def _truncated(config: FilterConfig) -> pl.Expr:
    return _open_fence() | (_open_end(config) & last_line().str.contains(phrases.HANGING))


def _truncated_detail(_: FilterConfig) -> pl.Expr:
    end = pl.format('the response stops inside a sentence: "... {}"', last_line().str.tail(60))
    return pl.when(_open_fence()).then(pl.lit("a code block (```) is opened and not closed")).otherwise(end)


def _garbled_share() -> pl.Expr:
    return pl.col("garbled") / pl.col("n_chars").clip(1)


RULES: tuple[Rule, ...] = (
    Rule(
        "empty", "Empty", "There is no prompt or no response, so there is nothing to learn.",
        lambda _: (pl.col("body") == "") | (pl.col("prompt").str.strip_chars() == ""), _empty_detail,
    ),
    Rule(
        "too_short", "Too short",
        "The response says nothing. By default only one without any word, symbol or sign is meant.",
        lambda c: (pl.col("body") != "") & (spoken_words() < c.least_words),
        lambda c: pl.format("response has {} words (at least {})", spoken_words(), pl.lit(c.least_words)),
        ("least_words",), gate=lambda c: pl.col("n_words") < c.least_words,
    ),
    Rule(
        "too_long", "Too long", "Prompt and response together are longer than a model is trained on.",
        lambda c: pl.col("n_all") > c.most_words,
        lambda c: pl.format("prompt and response have {} words (at most {})", "n_all", pl.lit(c.most_words)),
        ("most_words",),
    ),
    Rule(
        "encoding", "Broken encoding",
        "Much of the response is control characters, replacement characters or bytes read in the wrong encoding.",
        lambda c: _garbled_share() > c.encoding_share,
        lambda c: pl.format("{} of {} characters are garbled (at most {} %)", "garbled", "n_chars",
                            pl.lit(100 * c.encoding_share)),
        ("encoding_share",),
    ),
    Rule(
        "boilerplate", "Placeholder or template",
        "The response is a placeholder, or holds marks of a prompt template that the prompt does not speak of.",
        _boilerplate, lambda _: pl.format('placeholder or template residue: "{}"', _opening()),
    ),
    Rule(
        "refusal", "Refusal",
        "The response refuses, or opens by saying what a language model cannot do.",
        lambda _: _any("head", phrases.REFUSAL), lambda _: pl.format('the response refuses: "{}"', _opening()),
    ),
    Rule(
        "leaked", "Leaked test item",
        "The row holds most of an item of a test set that must stay unseen.",
        lambda _: pl.col("leak_leaked"),
        lambda c: pl.format('holds {} % of test item {} (at least {} %): "{}"', _percent(pl.col("leak_overlap")),
                            "leak_target_id", pl.lit(100 * c.leak_overlap), pl.col("leak_span").str.slice(0, 120)),
        ("leak_overlap",),
    ),
    Rule(
        "language", "Language not wanted", "The response is in a language that is not on the list.",
        _language,
        lambda c: pl.format("response is in '{}' with probability {} (wanted: {})", "language",
                            pl.col("language_sure").round(2), pl.lit(", ".join(c.languages))),
        ("languages", "language_confidence"),
    ),
    Rule(
        "language_mismatch", "Answered in another language",
        "Prompt and response are in different languages, and the prompt does not speak of a language.",
        _mismatch,
        lambda _: pl.format("prompt is in '{}', response in '{}' with probability {}", "instruction_language",
                            "language", pl.col("language_sure").round(2)),
        ("language_confidence",),
    ),
    Rule(
        "repetition", "Repeats itself", "The response says the same again and again, as a generator in a loop does.",
        _repetition,
        lambda c: pl.format("{} % of its n-grams repeat (at most {} %), longest run of one word {} (at most {})",
                            _percent(pl.col("repeated")), pl.lit(100 * c.repetition_share), "run",
                            pl.lit(c.repetition_run)),
        ("repetition_least_words", "repetition_ngram", "repetition_share", "repetition_run"),
        gate=lambda c: (pl.col("repeated") > c.repetition_share) | (pl.col("run") > c.repetition_run),
    ),
    Rule(
        "gibberish", "Gibberish",
        "The response is a salad of words without grammar, or letters that make no words.",
        _gibberish, _gibberish_detail,
        ("gibberish_least_words", "gibberish_function_share", "gibberish_unspeakable_share"),
        gate=lambda c: (pl.col("n_words") >= c.gibberish_least_words) | pl.col("body").str.contains(phrases.CONSONANTS),
    ),
    Rule(
        "truncated", "Cut off", "The response stops in the middle of a sentence or of a code block.",
        _truncated, _truncated_detail, ("truncated_least_words",),
        gate=lambda _: _no_end() | pl.col("body").str.contains("```", literal=True),
    ),
    Rule(
        "no_full_stop", "No full stop at the end",
        "The last sentence of the response has no end: it may be cut off, or its author may not have cared.",
        lambda c: _open_end(c) & last_line().str.contains(phrases.OPEN_SENTENCE),
        lambda _: pl.format('the response ends with "... {}"', last_line().str.tail(60)),
        ("truncated_least_words",), gate=lambda _: _no_end(), soft=True,
    ),
    Rule(
        "garbled", "A few garbled characters", "A small part of the response is garbled (less than `encoding` drops).",
        lambda c: (pl.col("garbled") > 0) & (_garbled_share() <= c.encoding_share),
        lambda _: pl.format("{} garbled characters", "garbled"), ("encoding_share",), soft=True,
    ),
    Rule(
        "placeholder_input", "Placeholder as input", "The input field holds a placeholder instead of being empty.",
        lambda _: pl.col("input").str.contains(phrases.PLACEHOLDER_INPUT),
        lambda _: pl.format('input is "{}"', pl.col("input").str.slice(0, 60)), soft=True,
    ),
    Rule(
        "language_unsure", "Language not recognised",
        "A list of wanted languages is set, and the response's language could not be told.",
        lambda c: pl.lit(bool(c.languages)) & ((pl.col("language") == UNKNOWN)
                                               | (pl.col("language_sure") < c.language_confidence)),
        lambda _: pl.lit("the response's language could not be told"), ("languages", "language_confidence"), soft=True,
    ),
)  # fmt: skip
"""Every rule, in the order in which they are applied: the first that hits names the reason."""
