"""When an asset is made again without being asked.

Here belong the automation conditions, as named constants that say what would go wrong without each part. What starts a
source's own lane is the landing sensor; these conditions concern the assets that look across sources.

What a broken contract means here: a table that breaks its contract is never stored, so the last good one stays and its data
version does not change.

- A file that fails where it is read or filtered changes nothing: the source stays in use as it was, and other sources are
  refreshed as if nothing had happened (`HEAD`).
- A lane that fails later (embedding, evidence, scores) leaves the source half refreshed: its rows are new, some of what is
  known of them is old. No subset is right then, so whatever reads the broken table waits until the lane passes
  (`BROKEN_INPUT`), and a step that is started all the same refuses (`assets.step.Step.pool`).
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_

import dagster as dg

from methods import catalog

_condition = dg.AutomationCondition
FROM_COMMAND_LINE = {"sluice/from": "command line"}
"""The tag of runs that make a source's lane and the recipe together, outside the daemon."""


def _lane_ends() -> tuple[str, ...]:
    """The last table of every last step of a lane: where none of them is in progress, no lane is under way."""
    last = {indicator.needs: f"scored/{indicator.id}" for indicator in catalog.INDICATORS if indicator.scope == "row"}
    return ("filtered/signatures", "embedded/minilm", *last.values())


LANE_ENDS = _lane_ends()
HEAD = ("filtered/instructions", "filtered/dropped")
"""Where a lane begins to be read by others: a contract broken here has changed nothing of what they read."""

_LANE_UNDER_WAY = reduce(
    or_, (_condition.asset_matches(key.split("/"), _condition.in_progress()) for key in LANE_ENDS)
).with_label("a source's lane is under way")
"""Looking at the direct inputs alone is not enough: a recipe reads the rows, which are made early in a lane, and clusters,
which wait for the lane's embeddings; it would choose twice, and the first time from a source that is half refreshed."""


def refresh(aside: Sequence[str] = ()) -> dg.AutomationCondition:
    """Made again once for each change of content of what it reads, and only if it was ever made.

    A change of the assets in ``aside`` alone is no reason (but what is in progress among them is waited for).
    """
    ignored = dg.AssetSelection.assets(*(key.split("/") for key in aside)) if aside else None
    # Content counts, not the event: without `data_version_changed` a refresh with the same content would choose again.
    # Without `executed_with_root_target` an input made in the same run as this asset would count as news afterwards.
    content = _condition.data_version_changed() & ~_condition.executed_with_root_target()
    news = _condition.any_deps_match(content)
    # Without `will_be_requested` every level of the graph would wait a tick for the one before.
    changed = _condition.any_deps_match(content | _condition.will_be_requested())
    if ignored is not None:
        news, changed = news.ignore(ignored), changed.ignore(ignored)
    # A change that lands between a request and the next look comes with the request in the same look: without `~news` it
    # would be taken for dealt with. What the command line made of its own lanes needs no second run.
    by_hand = _condition.newly_updated() & _condition.executed_with_tags(tag_values=FROM_COMMAND_LINE)
    dealt_with = (_condition.newly_requested() & ~news) | by_hand | _condition.initial_evaluation()
    pending = changed.with_label("an input has other content, or is about to be made again").since(
        dealt_with.with_label("dealt with")
    )
    return (
        # First, because what is decided last must not be older than what is decided first.
        ~_LANE_UNDER_WAY
        & pending.with_label("changed since it was last asked for")
        # What a person never asked for is not computed.
        & ~_condition.missing()
        # The change is kept in mind (`since`) while inputs or this asset itself are being made, and chosen from afterwards.
        & ~_condition.any_deps_in_progress()
        & ~_condition.in_progress()
        & ~BROKEN_INPUT
    ).with_label("refresh what is in use")


BROKEN_INPUT = (
    _condition.any_deps_match(_condition.any_checks_match(_condition.check_failed(), blocking_only=True))
    .ignore(dg.AssetSelection.assets(*(key.split("/") for key in HEAD)))
    .with_label("an input's contract is broken")
)
"""A blocking check stops its own run only; without this the next tick would choose beside what the check refused."""

REFRESH = refresh()
"""For everything that looks across all sources."""


def refresh_of(sources: Sequence[str], aside: Sequence[str]) -> dg.AutomationCondition:
    """For a recipe and its card: one with sources of its own is not asked when another source changes.

    ``aside`` are the tables that every recipe reads but that say of a source what they said before when others come and go:
    the list of the pool, its duplicate pairs, its cluster labels. An indicator relative to the pool does count: what it says
    of a row depends on the other sources.
    """
    return refresh(aside) if sources else REFRESH
