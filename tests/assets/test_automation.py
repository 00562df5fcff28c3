"""The automation conditions, one look after the other, against the real graph; runs are told to the instance, not computed."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from assets import automation
from jobs.definitions import build_defs
from resources.fakes import FakeCausalLM, FakeEncoder
from tests.book import NEVER, RECIPES, Book, key

pytestmark = [pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")]


def test_the_lists_of_tables_are_those_of_the_graph(tmp_path: Path) -> None:
    """The conditions name the tables of a lane; a new one that is missing there would be watched by nobody."""
    graph = build_defs(tmp_path, FakeEncoder(), FakeCausalLM(), RECIPES).resolve_asset_graph()
    lane = {k for k in graph.materializable_asset_keys if graph.get(k).is_partitioned and k.path[0] != "raw"}
    assert {k.to_user_string() for k in lane} == {*automation.HEAD, *automation.LATER}
    followed_in_lane = {k for k in lane if graph.get(k).child_keys & lane}
    families = {frozenset(graph.get(k).parent_keys) for k in lane - followed_in_lane}
    ends = {key(name) for name in automation.LANE_ENDS}
    assert ends <= lane - followed_in_lane
    assert {frozenset(graph.get(k).parent_keys) for k in ends} == families
    across = graph.materializable_asset_keys - lane - {key("raw/instructions"), key("raw/quarantine")}
    by_hand = {k for k in across if graph.get(k).automation_condition is None}
    # What trains and what is decided by it; what costs money or patience, and what is made of that alone.
    assert {k.path[0] for k in by_hand} == {"tuned", "mods", "judged", "humans", "tagged", "corrected"}
    for k in across - by_hand - {key(automation.GATE)}:
        others = [parent for parent in graph.get(k).parent_keys if parent in across]
        assert others, f"{k} follows nothing that follows the gate"


ACROSS = {
    *("filtered/pool", "filtered/duplicates", "evidence/neighbours", "clustered/kmeans_model", "clustered/kmeans"),
    *("scored/knn_1", "scored/pca_row_variance"),
}
ALL_BUT_OWN = ACROSS | {f"{stage}/{recipe}" for stage in ("selected", "evaluated") for recipe in ("plain", "scored")}
EVERYTHING = ALL_BUT_OWN | {"selected/own", "evaluated/own"}

Scenario = Callable[[Book], None]


# ---- scenarios: what must happen, look by look --------------------------------------------------------------------------


def at_rest(book: Book) -> None:
    assert [book.look() for _ in range(2)] == [set(), set()]


def changed_source_is_chosen_from_once(book: Book) -> None:
    book.run_lane("a", "2")
    assert book.look() == EVERYTHING
    book.run_requested("2")
    assert [book.look() for _ in range(2)] == [set(), set()]


def new_source_is_chosen_from_once(book: Book) -> None:
    book.add_source("c")
    book.run_lane("c", "1")
    assert book.look() == ALL_BUT_OWN
    book.run_requested("2")
    assert [book.look() for _ in range(2)] == [set(), set()]


def same_content_asks_for_nothing(book: Book) -> None:
    book.run_lane("a", "1")
    assert [book.look() for _ in range(2)] == [set(), set()]


def lane_is_judged_as_a_whole(book: Book) -> None:
    lane = book.start(book.lane, "a").make("2", ["raw/instructions", "filtered/instructions", "filtered/signatures"])
    assert book.look() == set()
    lane.make("2", [k.to_user_string() for k in book.lane])
    lane.end()
    assert book.look() == EVERYTHING
    book.run_requested("2")
    assert book.look() == set()


def two_files_at_once_make_one_choice(book: Book) -> None:
    second = book.start(book.lane, "b")
    book.run_lane("a", "2")
    assert book.look() == set()
    second.make("2").end()
    assert book.look() == EVERYTHING
    book.run_requested("2")
    assert book.look() == set()


def later_evidence_alone_counts(book: Book) -> None:
    """Another encoder: the rows are what they were, their vectors are not."""
    book.start([key("embedded/minilm")], "a").make("2").end()
    assert book.look() == EVERYTHING - {"selected/own"}  # random rows of a source of its own: it reads no vectors
    book.run_requested("2")
    assert book.look() == set()


def change_while_a_selection_runs(book: Book) -> None:
    book.run_lane("a", "2")
    assert book.look() == EVERYTHING
    choosing = book.start(book.requested).make("2", ["filtered/pool", "filtered/duplicates"])
    assert book.look() == set()
    book.run_lane("a", "3")
    assert book.look() == set()
    choosing.make("2", sorted(EVERYTHING - {"filtered/pool", "filtered/duplicates"})).end()
    assert book.look() == EVERYTHING
    book.run_requested("3")
    assert [book.look() for _ in range(2)] == [set(), set()]


def change_between_request_and_next_look(book: Book) -> None:
    book.run_lane("a", "2")
    assert book.look() == EVERYTHING
    choosing = book.start(book.requested)
    book.run_lane("b", "2")
    assert book.look() == set()
    choosing.make("2").end()
    assert book.look() == ALL_BUT_OWN
    book.run_requested("3")
    assert [book.look() for _ in range(2)] == [set(), set()]


def other_source_leaves_own_recipe_alone(book: Book) -> None:
    book.run_lane("b", "2")
    asked = book.look()
    # knn_1 is relative to the pool, but `own` does not read it; the card reads row scores only.
    assert asked == ALL_BUT_OWN
    book.run_requested("2")
    assert [book.look() for _ in range(2)] == [set(), set()]
    book.run_lane("a", "2")
    assert book.look() == EVERYTHING


def own_source_counts_in_a_race(book: Book) -> None:
    """The recipe's own source changes between a request and the next look."""
    book.run_lane("a", "2")
    assert book.look() == EVERYTHING
    choosing = book.start(book.requested)
    book.run_lane("a", "3")
    assert book.look() == set()
    choosing.make("2").end()
    assert book.look() == EVERYTHING


def broken_head_of_a_lane_holds_nobody(book: Book) -> None:
    """Source a cannot be filtered: its old tables stay. Source b is used."""
    broken = book.start(book.lane, "a").make("2", ["raw/quarantine", "raw/instructions"])
    book.check("filtered/instructions", False)
    broken.end(success=False)
    assert [book.look() for _ in range(2)] == [set(), set()]
    book.run_lane("b", "2")
    assert book.look() == ALL_BUT_OWN
    book.run_requested("2")
    assert book.look() == set()


def broken_later_in_a_lane_holds_the_gate(book: Book) -> None:
    """Source a is half refreshed: nobody chooses from it until the table that broke its contract passes."""
    broken = book.start(book.lane, "a").make("2", ["raw/instructions", "filtered/instructions", "filtered/dropped"])
    book.check("evidence/text_counts", False)
    broken.end(success=False)
    assert [book.look() for _ in range(2)] == [set(), set()]
    book.run_lane("a", "3")
    book.check("evidence/text_counts", True)
    assert book.look() == EVERYTHING
    book.run_requested("3")
    assert book.look() == set()


def broken_input_across_sources(book: Book) -> None:
    """The duplicates break their contract: what reads them waits until they pass, and follows then."""
    book.check("filtered/duplicates", False)
    book.run_lane("a", "2")
    asked = book.look()
    assert "filtered/duplicates" in asked
    assert not [name for name in asked if name.startswith("selected/")]
    again = book.start(book.requested).make("2", sorted(asked - {"filtered/duplicates"}))
    book.check("filtered/duplicates", False)
    again.end(success=False)
    assert [book.look() for _ in range(2)] == [set(), set()]
    book.start([key("filtered/duplicates")]).make("3").end()
    book.check("filtered/duplicates", True)
    assert {f"selected/{recipe}" for recipe in ("plain", "scored")} <= book.look()
    book.run_requested("3")
    assert book.look() == set()


def failed_choice_is_not_repeated(book: Book) -> None:
    book.run_lane("a", "2")
    assert book.look() == EVERYTHING
    book.start(book.requested).make("2", ["filtered/pool"]).end(success=False)
    assert [book.look() for _ in range(2)] == [set(), set()]


def command_line_is_not_repeated(book: Book) -> None:
    """The command line makes lane and recipe itself, perhaps with a budget of its own."""
    book.run_lane("a", "2", sluice__from="command line")
    book.run_across("2", sluice__from="command line")
    assert [book.look() for _ in range(2)] == [set(), set()]


def command_line_refreshes_other_recipes(book: Book) -> None:
    book.run_lane("a", "2", sluice__from="command line")
    some = [k for k in book.across if k.path[-1] not in ("scored", "own") or k.path[0] == "clustered"]
    book.run_across("2", some, sluice__from="command line")
    assert {"selected/scored", "evaluated/scored"} <= book.look()
    assert "selected/plain" not in {k.to_user_string() for k in book.requested}


def input_made_by_hand(book: Book) -> None:
    """Someone makes an input anew: its readers wait for the end, then follow once."""
    by_hand = book.start([key("filtered/duplicates"), key("clustered/kmeans")])
    by_hand.make("9", ["filtered/duplicates"])
    assert book.look() == set()
    by_hand.make("9", ["clustered/kmeans"]).end()
    asked = book.look()
    assert {"selected/plain", "evaluated/plain", "selected/scored"} <= asked
    assert "filtered/pool" not in asked
    book.run_requested("9")
    assert book.look() == set()


def recipe_made_by_hand(book: Book) -> None:
    """Someone makes a recipe while an input of it is made anew: it is not made twice at a time, but again afterwards."""
    by_hand = book.start([key("selected/plain")])
    book.run_across("9", [key("clustered/kmeans")])
    assert "selected/plain" not in book.look()
    by_hand.make("8").end()
    assert "selected/plain" in book.look()


def first_asked_for_after_a_change(book: Book) -> None:
    """A change before a recipe was first made is in it already."""
    book.run_lane("a", "2")
    assert book.look() == EVERYTHING
    book.run_requested("2")
    assert book.look() == set()
    book.start([key("selected/never")]).make("1").end()
    assert [book.look() for _ in range(2)] == [set(), set()]
    book.run_lane("a", "3")
    assert book.look() == EVERYTHING | {"selected/never"}


SCENARIOS: tuple[Scenario, ...] = (
    at_rest,
    changed_source_is_chosen_from_once,
    new_source_is_chosen_from_once,
    same_content_asks_for_nothing,
    lane_is_judged_as_a_whole,
    two_files_at_once_make_one_choice,
    later_evidence_alone_counts,
    change_while_a_selection_runs,
    change_between_request_and_next_look,
    other_source_leaves_own_recipe_alone,
    own_source_counts_in_a_race,
    broken_head_of_a_lane_holds_nobody,
    broken_later_in_a_lane_holds_the_gate,
    broken_input_across_sources,
    failed_choice_is_not_repeated,
    command_line_is_not_repeated,
    command_line_refreshes_other_recipes,
    input_made_by_hand,
    recipe_made_by_hand,
    first_asked_for_after_a_change,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Scenario, tmp_path: Path) -> None:
    scenario(Book(tmp_path, None))


# ---- every part of the conditions is needed: without it, a scenario comes out otherwise ------------------------------------

_is = dg.AutomationCondition
PARTS: tuple[tuple[str, dg.AutomationCondition | str, dg.AutomationCondition, Scenario], ...] = (
    ("content, not events", _is.data_version_changed(), _is.newly_updated(), same_content_asks_for_nothing),
    ("lane at rest", "a source's lane is under way", NEVER, lane_is_judged_as_a_whole),
    ("selection at rest", "a selection is under way", NEVER, change_while_a_selection_runs),
    (
        "whole lane",
        "a source is half refreshed: a contract in its lane is broken",
        NEVER,
        broken_later_in_a_lane_holds_the_gate,
    ),
    ("sound inputs", "an input's contract is broken", NEVER, broken_input_across_sources),
    (
        "not after the command line",
        _is.all_new_updates_have_run_tags(tag_values=automation.FROM_COMMAND_LINE),
        NEVER,
        command_line_is_not_repeated,
    ),
    ("not from the same run", _is.executed_with_root_target(), NEVER, changed_source_is_chosen_from_once),
    ("in the same run", _is.will_be_requested(), NEVER, changed_source_is_chosen_from_once),
    ("once", _is.newly_requested(), NEVER, changed_source_is_chosen_from_once),
    ("again", "once more", NEVER, change_between_request_and_next_look),
    ("in use", _is.missing(), NEVER, first_asked_for_after_a_change),
    ("at rest", _is.in_progress(), NEVER, input_made_by_hand),
)


@pytest.mark.parametrize(("what", "part", "instead", "scenario"), PARTS, ids=[part[0] for part in PARTS])
def test_without_this_part_it_goes_wrong(
    what: str, part: dg.AutomationCondition | str, instead: dg.AutomationCondition, scenario: Scenario, tmp_path: Path
) -> None:
    book = Book(tmp_path, lambda condition: condition.replace(part, instead))
    with pytest.raises(AssertionError):
        scenario(book)
