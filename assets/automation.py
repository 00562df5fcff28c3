"""When an asset is made again without being asked.

Here belong the automation conditions, as named constants that say what would go wrong without each part. What starts a
source's own lane is the landing sensor; these conditions concern the assets that look across sources.
"""

import dagster as dg

_condition = dg.AutomationCondition

CHANGED_INPUT = _condition.any_deps_match(
    (_condition.data_version_changed() & ~_condition.executed_with_root_target()) | _condition.will_be_requested()
).with_label("an input has other content, or is about to be made again")
"""Content counts, not the event: without ``data_version_changed`` a refresh with the same content would choose again.
Without ``executed_with_root_target`` an input made in the same run as this asset would count as news afterwards and the
asset would run twice. Without ``will_be_requested`` every level of the graph would wait a tick for the one before."""

BROKEN_INPUT = _condition.any_deps_match(
    _condition.any_checks_match(_condition.check_failed(), blocking_only=True)
).with_label("an input's contract is broken")
"""A blocking check stops its own run only; without this the next tick would choose from what the check refused."""

REFRESH = (
    CHANGED_INPUT.since(_condition.newly_requested() | _condition.initial_evaluation()).with_label(
        "changed since it was last asked for"
    )
    & ~_condition.missing()
    & ~_condition.any_deps_in_progress()
    & ~_condition.in_progress()
    & ~BROKEN_INPUT
).with_label("refresh what is in use")
"""Made again once for each change of content of what it reads, and only if it was ever made: what a person never
asked for is not computed. ``since`` keeps the change in mind while inputs are still being made (``in_progress``), so that a
change that lands while a selection runs is chosen from afterwards, and the many inputs of one lane cause one choice."""
