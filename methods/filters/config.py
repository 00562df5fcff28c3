"""Every threshold of the row rules, in one place and as plain values.

Here belongs what a user may set and how it is checked; what a rule does with it stands in `rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

RULE_IDS = (
    "empty", "too_short", "too_long", "encoding", "boilerplate", "refusal", "leaked", "language", "language_mismatch",
    "repetition", "gibberish", "truncated", "no_full_stop", "garbled", "placeholder_input", "language_unsure",
)  # fmt: skip
"""The ids of the rules in the order in which they are applied (`rules.RULES`)."""


@dataclass(frozen=True)
class FilterConfig:
    """The settings of all row rules. Shares lie in [0, 1]; numbers of words count a CJK character as a word."""

    disabled: tuple[str, ...] = ()
    """Ids of rules that are not applied."""
    flag_only: tuple[str, ...] = ()
    """Ids of rules whose hits become flags and drop nothing."""
    languages: tuple[str, ...] = ()
    """`language`: codes of the response languages to keep; empty keeps all. ``und`` is kept and flagged."""
    language_confidence: float = 0.8
    """`language`, `language_mismatch`: probability from which an identified language is believed."""
    least_words: int = 1
    """`too_short`: least words of a response, so that ``Paris.`` and ``42`` stay."""
    most_words: int = 8000
    """`too_long`: most words of prompt and response together."""
    encoding_share: float = 0.01
    """`encoding`: most garbled characters; a smaller share is flagged (`garbled`)."""
    leak_overlap: float = 0.7
    """`leaked`: least share of a test item's words found in the row."""
    repetition_least_words: int = 30
    """`repetition`: shorter responses are not looked at."""
    repetition_ngram: int = 4
    """`repetition`: words of an n-gram; characters count half."""
    repetition_share: float = 0.75
    """`repetition`: most n-grams that may repeat an earlier one."""
    repetition_run: int = 12
    """`repetition`: the longest run of one word that is let pass."""
    gibberish_least_words: int = 40
    """`gibberish`: shorter responses are not searched for function words."""
    gibberish_function_share: float = 0.02
    """`gibberish`: least share of function words in prose of a language that has a list of them."""
    gibberish_unspeakable_share: float = 0.4
    """`gibberish`: most words of four letters and more without a vowel or with six consonants in a row."""
    truncated_least_words: int = 60
    """`truncated`: shorter responses are not looked at, except for an open code fence."""

    def __post_init__(self) -> None:
        """Refuse names of rules that do not exist."""
        for name in ("disabled", "flag_only"):
            wrong = [rule for rule in getattr(self, name) if rule not in RULE_IDS]
            if wrong:
                raise ValueError(f"{name}: no rule {wrong[0]!r}; rules: {', '.join(RULE_IDS)}")

    def as_dict(self) -> dict[str, Any]:
        """The values as plain data: tuples become lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FilterConfig:
        """A config from plain data; the error names the key that is unknown or has a wrong value."""
        known = {field.name: field.default for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"unknown filter setting {unknown[0]!r}; known: {', '.join(known)}")
        return cls(**{name: _checked(name, value, known[name]) for name, value in values.items()})


def _checked(name: str, value: Any, default: Any) -> Any:
    """The value in the type of the default, or an error that names the key."""
    if isinstance(default, tuple):
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"{name}: a list of names is needed, not {value!r}")
        return tuple(value)
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0 or (whole and value % 1):
        raise ValueError(f"{name}: a {'whole ' if whole else ''}number >= 0 is needed, not {value!r}")
    if not whole and value > 1:
        raise ValueError(f"{name}: a share or probability lies in [0, 1], not {value!r}")
    return type(default)(value)
