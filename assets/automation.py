"""When an asset is made again without being asked.

Here belong the automation conditions, as named constants that say what would go wrong without each part. What starts a
source's own lane is the landing sensor; these conditions concern the assets that look across sources.

One gate watches the sources: `filtered/pool`, the list of rows to choose from (`gate`). It opens when the content of
any table of a lane has changed, no lane is under way, and nothing that follows is. Everything else that looks across
sources follows the pool (`REFRESH`), in the same look and thus in the same run. So a lane is judged as a whole, many
files that land together make one choice, and all tables of all sources are watched once instead of once a reader.

What a broken contract means here: a table that breaks its contract is never stored, so the last good one stays and its
data version does not change.

- A file that fails where it is read or filtered changes nothing: the source stays in use as it was, and other sources
  are refreshed as if nothing had happened.
- A lane that fails later (embedding, evidence, scores) leaves the source half refreshed: its rows are new, some of what
  is known of them is old. No subset is right then, so the gate stays shut until that table passes (`BROKEN_LANE`), and
  a step that is started all the same refuses (`assets.step.Step.pool`).
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

import dagster as dg
from dagster._core.definitions.declarative_automation.automation_condition import BuiltinAutomationCondition

from methods import catalog
from methods.judging.questions import QUESTIONS

GATE = "filtered/pool"
_ROW_SCORES = tuple(indicator for indicator in catalog.INDICATORS if indicator.scope == "row")
HEAD = ("filtered/instructions", "filtered/dropped")
"""Where others begin to read a lane: a contract broken here, or before, has changed nothing that anybody reads."""
LATER = (
    *("filtered/signatures", "evidence/text_counts", "evidence/readability_features", "evidence/token_statistics"),
    *("evidence/prompt_perturbations", "evidence/yes_no", "evidence/rewards", "embedded/minilm"),
    *(
        "evidence/ctc_alignment",
        "evidence/unieval",
        "evidence/deita_scorers",
        "evidence/continuations",
        "evidence/subnets",
    ),
    *(f"evidence/judgments_{question.id}" for question in QUESTIONS),
    *("evidence/bsdetector", "evidence/deita_scorers"),
    *(f"scored/{indicator.id}" for indicator in _ROW_SCORES),
)
"""The rest of a lane: what is known of a source's rows."""
LANE_ENDS = (
    *("filtered/signatures", "embedded/minilm", "evidence/judgments_bsdetector_choice"),
    *{indicator.needs: f"scored/{indicator.id}" for indicator in _ROW_SCORES}.values(),
)
"""The last table of every last step of a lane: where none of them is in progress, no lane is under way."""
FROM_COMMAND_LINE = {"sluice/from": "command line"}
"""The tag of runs in which the command line makes the sources' lanes and then all that was asked for."""

_condition = dg.AutomationCondition
_IN_PROGRESS = _condition.in_progress()


def _any_of(keys: Iterable[str], condition: dg.AutomationCondition) -> BuiltinAutomationCondition:
    return reduce(or_, (_condition.asset_matches(key.split("/"), condition) for key in keys))


LANE_UNDER_WAY = _any_of(LANE_ENDS, _IN_PROGRESS).with_label("a source's lane is under way")
"""The rows are made early in a lane, and what waits for embeddings and scores late: without this a recipe would choose
twice, and the first time from a source that is half refreshed."""

_BROKEN = _condition.any_checks_match(_condition.check_failed(), blocking_only=True)
BROKEN_LANE = _any_of(LATER, _BROKEN).with_label("a source is half refreshed: a contract in its lane is broken")
"""A blocking check stops its own run only; without this the next look would choose beside what the check refused."""

_CONTENT = _condition.data_version_changed() & ~_condition.all_new_updates_have_run_tags(tag_values=FROM_COMMAND_LINE)
OTHER_CONTENT = _any_of((*HEAD, *LATER), _CONTENT).with_label("a source has other content")
"""Content counts, not the event: without ``data_version_changed`` a refresh with the same content would choose again.
What the command line makes of its lanes it chooses from by itself, perhaps with a budget of its own; without
``all_new_updates_have_run_tags`` that subset would be replaced at the next look."""


def gate(followers: Iterable[dg.AssetKey] = ()) -> dg.AutomationCondition:
    """Of the pool: open once for each change of the sources' content, when lanes and ``followers`` are at rest."""
    # A change between a request and the next look comes with the request in one look: without `~again` it would be
    # taken for dealt with. `missing`: what changed before the pool was first made needs no second making.
    again = _any_of(HEAD[:1], _CONTENT).with_label("once more")
    dealt_with = (_condition.newly_requested() & ~again) | _condition.missing()
    choosing = _any_of((key.to_user_string() for key in (dg.AssetKey(GATE.split("/")), *followers)), _IN_PROGRESS)
    return (
        # First, for what is looked at last must not be older than what is looked at first.
        ~LANE_UNDER_WAY
        # A change that lands while a selection runs waits for its end; then everything is chosen again in one run.
        & ~choosing.with_label("a selection is under way")
        & ~BROKEN_LANE
        & ~_condition.missing()
        # `since` keeps the change in mind while the gate is shut.
        & OTHER_CONTENT.since(dealt_with.with_label("dealt with")).with_label("not yet chosen from")
    ).with_label("the sources have changed")


def with_gate(assets: dg.AssetsDefinition, followers: Iterable[dg.AssetKey]) -> dg.AssetsDefinition:
    """The same assets; the pool among them with the gate that waits for ``followers`` (what looks across sources)."""
    pool = dg.AssetKey(GATE.split("/"))
    if pool not in assets.keys:
        return assets
    shut = gate(key for key in followers if key != pool)
    return assets.map_asset_specs(
        lambda spec: spec.replace_attributes(automation_condition=shut) if spec.key == pool else spec
    )


_LANE = dg.AssetSelection.assets(*(key.split("/") for key in (*HEAD, *LATER)))
_NEWS = _condition.data_version_changed() & ~_condition.executed_with_root_target()
"""Without ``executed_with_root_target`` an input made in the same run as this asset would count as news afterwards."""
_REQUESTED = _condition.will_be_requested()
"""Without it every level of the graph would wait a look for the one before, and each would be a run of its own."""
BROKEN_INPUT = _condition.any_deps_match(_BROKEN).ignore(_LANE).with_label("an input's contract is broken")
"""As `BROKEN_LANE`, for what looks across sources itself."""


def _follow(changed: dg.AutomationCondition) -> dg.AutomationCondition:
    # `missing`: what changed before an asset was first made needs no second making.
    dealt_with = _condition.newly_requested() | _condition.missing()
    return (
        changed.since(dealt_with.with_label("dealt with")).with_label("changed since it was last asked for")
        # What a person never asked for is not computed.
        & ~_condition.missing()
        # Whoever makes an input or this asset by hand is not disturbed.
        & ~_condition.any_deps_match(_IN_PROGRESS).ignore(_LANE)
        & ~_IN_PROGRESS
        & ~BROKEN_INPUT
    ).with_label("refresh what is in use")


REFRESH = _follow(
    _condition.any_deps_match(_NEWS | _REQUESTED).ignore(_LANE).with_label("an input is new or about to be made")
)
"""Made again once for each change of content of what it reads, if it was ever made."""


def refresh_of(sources: Sequence[str] = (), aside: Sequence[str] = ()) -> dg.AutomationCondition:
    """`REFRESH` for a recipe and its card, but one with ``sources`` of its own is not asked when others change.

    ``aside`` are the tables that such a recipe reads but that say the same of its sources when others come and go. An
    indicator relative to the pool does count: what it says of a row depends on the other sources.
    """
    if not sources:
        return REFRESH
    ignored = _LANE | dg.AssetSelection.assets(*(key.split("/") for key in aside))
    # `& ~missing` holds the changed partitions against those that the recipe reads; alone, any partition would do.
    own = _condition.any_deps_match(_condition.data_version_changed() & ~_condition.missing()).allow(_LANE)
    own_pending = own.since((_condition.newly_requested() & ~own) | _condition.missing())
    opened = _condition.asset_matches(GATE.split("/"), _REQUESTED)
    changed = (own_pending & opened) | _condition.any_deps_match(_NEWS | _REQUESTED).ignore(ignored)
    return _follow(changed.with_label("its own sources have changed, or an input is new"))
