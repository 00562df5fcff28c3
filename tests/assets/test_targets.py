"""Recipes that look for rows like those of a file in the home's folder ``targets``."""

from pathlib import Path

import polars as pl
import pytest

from assets.evaluated import RANDOM_SEED
from jobs.runs import RunFailed
from methods.importance.dsir import kl_reduction
from tests.house import House, alpaca, lines

SAILING = [
    {"instruction": f"How do I sail to harbour {i}?", "output": f"Hoist the sail, mind the wind and steer by mast {i}."}
    for i in range(6)
]
WANTED = [{"instruction": "How do I hoist a sail?", "output": "Mind the wind, hoist the sail and steer by the mast."}]
RECIPE = "title: Like the target\ntargets: [{target}]\nselector: {selector}\nduplicates: off\nparams: {params}\nbudget: '6'\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("targets")
    house = House(folder / "home")
    lines(house.lake.targets / "exam.jsonl", WANTED)
    recipes = house.lake.home / "recipes"
    recipes.mkdir()
    said = {"dsir": "{top_k: true, length_normalise: true}", "nearest_to_target": "{}"}
    for selector, params in said.items():
        text = RECIPE.format(target="exam", selector=selector, params=params)
        (recipes / f"like_{selector}.yaml").write_text(text)
    (recipes / "lost.yaml").write_text(RECIPE.format(target="exams", selector="dsir", params="{}"))
    house.make(["filtered/pool"], {"alpha": lines(folder / "a.jsonl", [*(alpaca(i) for i in range(20)), *SAILING])})
    return house


@pytest.mark.parametrize("selector", ["dsir", "nearest_to_target"])
def test_rows_like_the_target_are_chosen(made: House, selector: str) -> None:
    made.make([f"selected/like_{selector}"])
    chosen = made.frame(f"selected/like_{selector}")
    assert sorted(chosen["position"]) == list(range(20, 26))
    made.make([f"evaluated/like_{selector}"])
    (line,) = (
        made.frame(f"evaluated/like_{selector}").filter(pl.col("measure") == "KL reduction towards exam").to_dicts()
    )
    assert line["subset"] > 0.1 > abs(line["pool"]) and line["subset"] > line["random"]
    again = made.make([f"selected/like_{selector}"])
    assert all(table.up_to_date for table in again.made)


def test_another_target_means_another_choice(made: House, tmp_path: Path) -> None:
    house = made.copy(tmp_path / "home")
    house.make(["selected/like_dsir"])
    before = house.version("selected/like_dsir")
    lines(house.lake.targets / "exam.jsonl", [{"instruction": "What of topic 3?", "output": "The narrow river."}])
    house.make(["selected/like_dsir"])
    assert house.version("selected/like_dsir") != before
    assert house.frame("targets/rows")["response"].to_list() == ["The narrow river."]


def test_a_target_that_stands_in_the_pool_is_counted(made: House, tmp_path: Path) -> None:
    house = made.copy(tmp_path / "home")
    assert house.lake.manifest(["targets", "rows"]).facts["rows that are in the pool"] == 0
    # Its prompt is too short to be taken for a leak by its words, so the filters leave the rows in.
    lines(house.lake.targets / "exam.jsonl", [{**WANTED[0]}, {"instruction": SAILING[2]["instruction"], "output": "?"}])
    house.make(["targets/rows"])
    facts = house.lake.manifest(["targets", "rows"]).facts
    dropped = house.frame("filtered/dropped", "alpha").filter(pl.col("rule") == "leaked").height
    assert facts["rows that are in the pool"] + dropped == 1


def test_a_target_that_says_the_same_in_another_order_is_counted(made: House, tmp_path: Path) -> None:
    house = made.copy(tmp_path / "home")
    said = {name: " ".join(reversed(text.split())) for name, text in SAILING[1].items()}
    lines(house.lake.targets / "exam.jsonl", [said])
    lines(house.lake.targets / "other.jsonl", [{"instruction": "Kann der Hahn?", "output": "Freilich kann er."}])
    house.make(["targets/rows"])
    assert house.lake.manifest(["targets", "rows"]).facts["rows that are in the pool"] == 1


def test_a_target_that_is_not_there_is_said(made: House) -> None:
    with pytest.raises(RunFailed, match=r"'exams' names no files.*exam\.jsonl"):
        made.make(["selected/lost"])


def test_two_files_of_one_name_are_refused(made: House, tmp_path: Path) -> None:
    house = made.copy(tmp_path / "home")
    lines(house.lake.targets / "exam.json", WANTED)
    with pytest.raises(RunFailed, match=r"exam\.json and exam\.jsonl.*rename one"):
        house.make(["targets/rows"])


def towards(house: House, recipe: str) -> dict[str, dict]:
    house.make([f"evaluated/{recipe}"])
    card = house.frame(f"evaluated/{recipe}").filter(pl.col("measure").str.starts_with("KL"))
    return {line["measure"].removeprefix("KL reduction towards "): line for line in card.to_dicts()}


def test_every_card_tells_of_every_target(made: House, tmp_path: Path) -> None:
    """A recipe that looks at no target is told how near it came, and made again only when the targets change."""
    house = made.copy(tmp_path / "home")
    (house.lake.home / "recipes" / "plain.yaml").write_text(
        "title: Any\nselector: random\nbudget: '6'\nduplicates: off\n"
    )
    house.lake.path(["targets", "rows"]).unlink(missing_ok=True)
    (line,) = towards(house, "plain").values()
    rows = house.frame("filtered/instructions", "alpha").select("row_id", prompt="instruction", response="response")
    chosen = house.frame("selected/plain").select("row_id").join(rows, on="row_id", maintain_order="left")
    wanted = pl.DataFrame({"prompt": [WANTED[0]["instruction"]], "response": [WANTED[0]["output"]]})
    assert line["subset"] == pytest.approx(kl_reduction(rows, chosen, wanted, RANDOM_SEED))
    assert line["pool"] == 0 and line["n_used"] == 6
    assert not house.lake.exists(["targets", "rows"])  # nobody asked for it
    one = house.version("evaluated/plain")
    lines(house.lake.targets / "school.jsonl", [{"instruction": "What of topic 3?", "output": "The narrow river."}])
    assert list(towards(house, "plain")) == ["exam", "school"]
    two = house.version("evaluated/plain")
    for file in house.lake.targets.iterdir():
        file.unlink()
    assert towards(house, "plain") == {}
    assert len({one, two, house.version("evaluated/plain")}) == 3
