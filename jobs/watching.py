"""What a person sees while a command works: one bar a piece of long work, with rate and time left.

Here belongs drawing the progress that `resources.progress` counts, on a terminal as bars, elsewhere as a line now and
then.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from resources import progress as counting


@contextmanager
def watching(console: Console) -> Iterator[None]:
    """Show the progress of everything that runs inside."""
    watcher = _bars(console) if console.is_terminal else _lines(console)
    with watcher as watch:
        counting.watch(watch)
        try:
            yield
        finally:
            counting.unwatch(watch)


@contextmanager
def _bars(console: Console) -> Iterator[counting.Watcher]:
    columns = (
        TextColumn("{task.description:<38}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[speed]:>18}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[int, object] = {}

        def watch(work: counting.Progress) -> None:
            if id(work) not in tasks:
                tasks[id(work)] = bars.add_task(work.what, total=work.total, speed="")
            bars.update(tasks[id(work)], completed=work.done, speed=f"{work.rate:,.0f} {work.unit}/s")  # type: ignore[arg-type]
            if work.done >= work.total:
                bars.remove_task(tasks.pop(id(work)))  # type: ignore[arg-type]

        yield watch


@contextmanager
def _lines(console: Console, every: float = 10.0) -> Iterator[counting.Watcher]:
    said: dict[str, float] = {}

    def watch(work: counting.Progress) -> None:
        now = time.monotonic()
        if now - said.setdefault(work.what, work.started) >= every:
            said[work.what] = now
            console.print(str(work), highlight=False, markup=False, soft_wrap=True)

    yield watch
