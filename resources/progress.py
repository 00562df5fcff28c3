"""How long work tells how far it is: rate and time left, for whoever is watching.

Here belongs the counting and the wording; drawing a bar is the command line's business, which puts its own `watch` in
place. Without a watcher a line goes to the step's log every few seconds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Watcher = Callable[["Progress"], None]
_watchers: list[Watcher] = []


def watch(watcher: Watcher) -> None:
    """Call this function at every step of every piece of long work in this process."""
    _watchers.append(watcher)


def unwatch(watcher: Watcher) -> None:
    """Stop calling it."""
    _watchers.remove(watcher)


@dataclass
class Progress:
    """One piece of long work: ``done`` of ``total`` units since ``started``."""

    what: str
    total: int
    unit: str = "rows"
    log: Callable[[str], None] | None = None
    every: float = 10.0
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)

    def advance(self, units: int) -> None:
        """Count finished units and tell whoever is watching."""
        self.done += units
        for watcher in _watchers:
            watcher(self)
        now = time.monotonic()
        if self.log and not _watchers and now - self._said >= self.every:
            self._said = now
            self.log(str(self))

    @property
    def rate(self) -> float:
        """Units a second so far."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def __str__(self) -> str:
        left = (self.total - self.done) / self.rate if self.done else float("inf")
        time_left = f"{left:.0f} s left" if left < float("inf") else "time left unknown"
        return f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {self.rate:,.1f} {self.unit}/s, {time_left}"
