"""What a command may spend on judges, what it would spend, and what was spent.

Here belong the options that commands share, the dry run, and the bill. The asking is `assets.judged`; limits and
estimates are `assets.spending`.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
import dagster as dg
import polars as pl

from methods.judging.kinds import Answer, Cell, Question, Reading
from resources.lake import Lake, LakeError

ROWS = tuple(dg.AssetKey(["filtered", name]) for name in ("instructions", "dropped"))
"""All that a dry run makes: what would be asked about."""
WIDE = 160
_PREFIX, _META = "judgments_", "sluice.judge"


def is_judged(key: dg.AssetKey) -> bool:
    """Whether this table is made by asking a judge."""
    return key.path[0] == "evidence" and key.path[-1].startswith(_PREFIX)


# ---- options ---------------------------------------------------------------------------------------------------------


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and value is not False:
        context.meta.setdefault(_META, {})[option.name] = value


def _limit(*names: str, **more: Any) -> Callable[..., Any]:
    return click.option(*names, expose_value=False, callback=_remember, **more)


LIMITS = (
    _limit("--max-calls", type=click.IntRange(min=0), metavar="N", help="Ask a judge no more often than this."),
    _limit(
        "--max-budget",
        type=click.FloatRange(min=0),
        metavar="DOLLARS",
        help="Spend no more than this on a judge; all that was bought is kept.",
    ),
    _limit("--dry-run", is_flag=True, help="Say what a judge would be asked, and what it would cost; ask nobody."),
)
"""Of every command that may ask a judge."""


def wished() -> dict[str, Any]:
    """The limits that this command was given."""
    return dict(click.get_current_context().meta.get(_META, {}))


def is_dry() -> bool:
    """Whether nobody is to be asked."""
    return bool(wished().get("dry_run"))


def within(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings, with the limits that this command was given."""
    limits = wished()
    if not limits:
        return dict(settings)
    params = dict(settings.get("params", {}))
    return {**settings, "params": {**params, "judge": {**params.get("judge", {}), **limits}}}


# ---- before ----------------------------------------------------------------------------------------------------------


def questions_behind(
    definitions: dg.Definitions, targets: Sequence[dg.AssetKey], questions: Iterable[Question]
) -> list[Question]:
    """The questions that making these tables would ask, those first that others read."""
    graph = definitions.resolve_asset_graph()
    wanted = dg.AssetSelection.assets(*targets).upstream().required_multi_asset_neighbors().resolve(graph)
    names = {key.path[-1].removeprefix(_PREFIX) for key in wanted if is_judged(key)}
    return [question for question in questions if question.id in names]


def plans(
    lake: Lake,
    definitions: dg.Definitions,
    targets: Sequence[dg.AssetKey],
    sources: Sequence[str],
    settings: Mapping[str, Any],
    questions: Iterable[Question],
) -> list[Any]:
    """What each question behind these tables would take over all sources (`assets.spending.Plan`)."""
    from assets import judged, spending
    from resources import prices
    from resources.answers import Answers
    from resources.judge_batch import Batches
    from resources.judge_bill import store_path
    from resources.settings import Settings

    asked = questions_behind(definitions, targets, questions)
    if not asked:
        return []
    judge: Any = (definitions.resources or {})["judge"]
    if not judge.model:
        raise LakeError(judged.NO_JUDGE)
    wish = spending.wish_of(Settings(params=dict(settings.get("params", {}))))
    judge = judge.limited(**wish.limits)
    price = prices.price_of(judge.model, judge.url, lake.home)
    found = []
    with Answers(store_path(lake.home)) as store, Batches(store_path(lake.home), store) as batches:
        for question in asked:
            plan = spending.Plan(question.id)
            params = judged.params_of(question, settings.get("params", {}))
            worth = _worth(judged.reading_of(question, params))
            try:
                cells = _cells(lake, question, params, sources, bool(settings.get("all_rows")))
                spending.add_up(plan, judge, cells, store, batches, price, worth)
            except _NotYet as error:
                plan.unknown = str(error)
            found.append(plan)
    return found


def _worth(read: Callable[[Answer, Cell], Reading]) -> Callable[[Cell, Answer], str]:
    return lambda cell, answer: read(answer, cell).status


class _NotYet(Exception):
    """What is asked follows from answers that are not there yet."""


def _cells(
    lake: Lake, question: Question, params: Mapping[str, Any], sources: Sequence[str], all_rows: bool
) -> Iterator[list[Cell]]:
    """Each source's requests, some at a time."""
    from assets import judged

    for source in sources:
        rows = lake.scan(["filtered", "instructions"], source)
        if all_rows:
            dropped = lake.scan(["filtered", "dropped"], source)
            rows = pl.concat([rows, dropped.select(rows.collect_schema().names())])

        def table(name: str, source: str = source) -> pl.LazyFrame:
            if not lake.exists(name.split("/"), source):
                raise _NotYet(f"it is asked about {name}, which is not there yet")
            return lake.scan(name.split("/"), source)

        rows = rows.unique("row_id", keep="first", maintain_order=True)
        for _, cells, _ in judged.requests(question, params, rows, table, lake.home):
            yield cells


def tell(
    lake: Lake,
    definitions: dg.Definitions,
    targets: Sequence[dg.AssetKey],
    sources: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Print what making these tables would cost."""
    from methods.judging.questions import QUESTIONS

    found = plans(lake, definitions, targets, sources, settings, QUESTIONS)
    out = _console()
    if not found:
        out.print("nothing of this asks a judge")
        return
    out.print(_priced(found, (definitions.resources or {})["judge"].model))
    for plan in found:
        if plan.unknown:
            out.print(f"{plan.question}: cannot be said yet: {plan.unknown}", highlight=False)
    if any(plan.cost is None for plan in found):
        out.print(f"no price is known: add the model to {lake.home / 'prices.yaml'}", highlight=False, soft_wrap=True)
    least = min((plan.counted for plan in found if plan.calls), default=1)
    if not least:
        out.print(
            "no earlier answers to go by: ask a few first (--max-calls 20) for a guess from counted tokens",
            highlight=False,
        )


def _priced(found: Sequence[Any], model: str) -> Any:
    from rich.table import Table

    table = Table(title=f"what {model} would be asked; nobody was", title_justify="left")
    table.add_column("question")
    for name in ("requests", "known", "in a batch", "calls", "tokens read", "tokens written", "dollars", "time"):
        table.add_column(name, justify="right")
    said = [plan for plan in found if not plan.unknown]
    for plan in said:
        table.add_row(plan.question, *_numbers([plan]))
    if len(said) > 1:
        table.add_section()
        table.add_row("all", *_numbers(said))
    return table


def _numbers(found: Sequence[Any]) -> list[str]:
    names = ("cells", "known", "waiting", "calls", "prompt_tokens", "completion_tokens")
    counts = [f"{sum(getattr(plan, name) for plan in found):,}" for name in names]
    costs = [plan.cost for plan in found]
    return [*counts, _money(None if None in costs else sum(costs)), _time(sum(plan.seconds for plan in found))]


def _money(cost: float | None) -> str:
    if cost is None:
        return "?"
    return f"{cost:,.2f}" if cost == 0 or cost >= 0.1 else f"{cost:.2g}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# ---- after -----------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--home", type=click.Path(file_okay=False), help="Where everything lies.")
def bill(home: str | None) -> None:
    """What judges were paid so far, by question and model."""
    from rich.table import Table

    from jobs import home as homes
    from resources.answers import Answers
    from resources.judge_bill import lines, store_path

    path = store_path(homes.prepare(home).home)
    found = lines(path)
    out = _console()
    if not found:
        out.print("no judge was asked yet")
        return
    table = Table()
    for name in ("question", "model"):
        table.add_column(name)
    for name in ("answers", "calls", "tokens read", "tokens written", "dollars"):
        table.add_column(name, justify="right")
    for line in found:
        counts = (line.answers, line.calls, line.prompt_tokens, line.completion_tokens)
        table.add_row(line.question or "(no answer)", line.model, *(f"{n:,}" for n in counts), _money(line.cost))
    with Answers(path) as store:
        whole = store.bill()
    table.add_section()
    counts = (sum(line.answers for line in found), whole.calls, whole.prompt_tokens, whole.completion_tokens)
    table.add_row("all", "", *(f"{n:,}" for n in counts), _money(whole.cost))
    out.print(table)
    if whole.unanswered or whole.in_doubt:
        out.print(
            f"{whole.unanswered:,} calls are under way or were cut off; with others that may have been charged they "
            f"cost at most {_money(whole.in_doubt)} dollars more",
            highlight=False,
            soft_wrap=True,
        )


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE)
