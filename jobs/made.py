"""What a command's runs made: plain records, for tables and messages.

Here belong the shapes alone; `runs` fills them, `memo` keeps them, `tables` shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Made:
    """One table after a run."""

    key: str
    source: str | None
    rows: int
    computed: int | None
    up_to_date: bool
    metadata: Mapping[str, Any]


@dataclass
class Outcome:
    """What a command's runs made, what their expectations say, and what failed."""

    sources: list[str] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def up_to_date(self) -> int:
        """Tables that needed nothing."""
        return sum(m.up_to_date for m in self.made)
