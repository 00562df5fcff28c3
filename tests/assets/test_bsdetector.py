"""BSDetector in a home: the judge's answers held against the rows', scores, and which answers are replaced."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets import bsdetector, scored
from assets.bsdetector import COMPARED, JUDGED
from assets.views import pool_view
from methods.judging.detecting import QUESTIONS, own_answer
from methods.judging.kinds import OK, Answer, Cell, Question, gathered
from methods.quality.bsdetector import CORRECTED_SCHEMA, EVIDENCE_SCHEMA, INDICATORS
from resources.lake import Manifest, Table
from resources.nli import NLI, stand_in
from resources.settings import Settings
from resources.tables import LakeResource, ParquetTables
from tests.house import ALPHA, Encoder, House, conversation, lines

DETECT, CHOICE = QUESTIONS
(SCORE,) = scored.build_assets(INDICATORS[:1])
SEEN: list[tuple[str, str]] = []


class Model(NLI):
    model: str = "fake:nli"

    def contradiction(self, pairs):
        SEEN.extend(pairs)
        return super().contradiction(pairs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A home with one source, filtered and pooled."""
    folder = tmp_path_factory.mktemp("detecting")
    house = House(folder / "home")
    house.make(["filtered/pool"], {"alpha": lines(folder / "alpha.jsonl", [*ALPHA[:9], conversation(7)])})
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    SEEN.clear()
    copy = made.copy(tmp_path / "home")
    copy.instance.add_dynamic_partitions("source", ["alpha"])
    return copy


def judge(
    house: House, question: Question, say: Callable[[int, Cell], Answer], version: str = "1", **params: Any
) -> None:
    """The table of a question, as a judge who says this (of the place of a row, and a cell) leaves it."""
    rows = house.frame("filtered/instructions", "alpha").unique("row_id", keep="first", maintain_order=True)
    place = {row_id: at for at, row_id in enumerate(rows["row_id"])}
    params = {**question.params, **params}
    cells = question.cells(rows, **params)
    answers = [say(place[cell.row_id], cell) for cell in cells]
    frame = gathered(rows["row_id"].to_list(), cells, answers, lambda a, c: question.reading(a, c, **params))
    names = ["filtered/instructions", "filtered/dropped", *([JUDGED] if question is CHOICE else [])]
    inputs = {f"{name}[alpha]": house.version(name, "alpha") for name in names}
    house.lake.write(
        ["evidence", f"judgments_{question.id}"],
        "alpha",
        Table(frame, Manifest(version, inputs=inputs, facts={"model": "fake:judge", "toy judge": "a stand-in"})),
    )


def answered(house: House) -> list[str]:
    rows = house.frame("filtered/instructions", "alpha").unique("row_id", keep="first", maintain_order=True)
    return [own_answer(row) for row in rows.iter_rows(named=True)]


def detect(house: House, broken: bool = False) -> Callable[[int, Cell], Answer]:
    """A judge who agrees with every row but the first three, and never answers to the fourth (when ``broken``)."""
    own = answered(house)

    def say(at: int, cell: Cell) -> Answer:
        if broken and at == 3:
            return Answer("api_error")
        if cell.part.startswith("sample"):
            return Answer(OK, "Something else altogether." if at < 3 else own[at])
        return Answer(OK, json.dumps({"verdict": "wrong" if at < 3 else "correct"}))

    return say


def choose(at: int, cell: Cell) -> Answer:
    """Its own answer is better to the first row; to the others it takes whatever stands first."""
    if cell.part.startswith("vote"):
        return Answer(OK, json.dumps({"better": cell.part[5] if at == 0 else "A"}))
    return Answer(OK, json.dumps({"verdict": "correct" if at == 0 else "not sure"}))


def make(house: House, asset: dg.AssetsDefinition, nli: NLI | None = None, **params: Any) -> Mapping[str, Any]:
    home = str(house.lake.home)
    result = dg.materialize(
        [asset],
        instance=house.instance,
        partition_key="alpha" if asset.partitions_def else None,
        resources={
            "io_manager": ParquetTables(home=home),
            "lake": LakeResource(home=home),
            "settings": Settings(params=params),
            "encoder": Encoder(),
            "nli": nli or NLI(),
        },
    )
    (event,) = result.get_asset_materialization_events()
    return event.materialization.metadata


def facts(house: House, key: str, source: str | None = None) -> Mapping[str, Any]:
    manifest = house.lake.manifest(key.split("/"), source)
    assert manifest is not None
    return manifest.facts


def test_evidence_by_a_model_both_ways(house: House) -> None:
    judge(house, DETECT, detect(house))
    make(house, bsdetector.detected, Model())
    table, own = house.frame("evidence/bsdetector", "alpha").drop("source"), answered(house)
    assert table.schema == EVIDENCE_SCHEMA and table.height == len(own) and set(table["status"]) == {OK}
    other = "Something else altogether."
    both = (stand_in(own[0], other) + stand_in(other, own[0])) / 2
    assert table["consistent"][0].to_list() == pytest.approx([1 - both] * 5) and 0.5 < both <= 1
    assert table["consistent"][5].to_list() == [1.0] * 5 and table["same"][5].to_list() == [1.0] * 5
    assert table["reflections"][0].to_list() == [0.0, 0.0] and table["same"][0].to_list() == [0.0] * 5
    # A pair of texts is read once each way, however often it comes.
    assert len(SEEN) == len(set(SEEN)) == 3 * 2 + (len(own) - 3)
    told = facts(house, "evidence/bsdetector", "alpha")
    assert told["read by"] == "fake:nli" and told["samples"] == 5 * len(own) and told["pairs cut"] == 0
    make(house, SCORE)
    score = house.frame("scored/bsdetector", "alpha")
    assert score["value"][5] == pytest.approx(1.0) and score["value"][0] == pytest.approx(0.7 * 0.8 * (1 - both))


def test_what_a_model_has_read_is_kept_and_a_row_asked_again_gets_its_score(house: House) -> None:
    judge(house, DETECT, detect(house, broken=True))
    make(house, bsdetector.detected, Model())
    make(house, SCORE)
    assert house.frame("scored/bsdetector", "alpha")["status"].to_list().count("api_error") == 1
    assert house.frame("scored/bsdetector", "alpha")["value"][3] is None
    first = len(SEEN)
    assert make(house, bsdetector.detected, Model())["up to date"].value is True and len(SEEN) == first
    judge(house, DETECT, detect(house), version="2")
    make(house, bsdetector.detected, Model())
    assert len(SEEN) == first + 1  # the row that had no answer
    make(house, SCORE)
    assert set(house.frame("scored/bsdetector", "alpha")["status"]) == {OK}


def test_without_a_model_embeddings_take_its_place(house: House) -> None:
    judge(house, DETECT, detect(house))
    make(house, bsdetector.detected)
    table, own = house.frame("evidence/bsdetector", "alpha"), answered(house)
    vectors = next(iter(Encoder().encode([own[0], "Something else altogether."])))
    cosine = float(np.prod(vectors.vectors.astype(np.float64), axis=0).sum())
    assert table["consistent"][0].to_list() == pytest.approx([max(cosine, 0.0)] * 5, abs=1e-5)
    assert table["consistent"][5].to_list() == pytest.approx([1.0] * 5, abs=1e-6)
    assert facts(house, "evidence/bsdetector", "alpha")["read by"] == "embeddings of fake:words" and not SEEN
    by_embeddings = house.version("evidence/bsdetector", "alpha")
    make(house, bsdetector.detected, Model())
    assert house.version("evidence/bsdetector", "alpha") != by_embeddings


def test_answers_are_replaced_kept_or_dropped(house: House) -> None:
    judge(house, DETECT, detect(house, broken=True))
    make(house, bsdetector.detected, Model())
    make(house, SCORE)
    judge(house, CHOICE, choose, samples=house.frame(JUDGED, "alpha"))
    make(house, bsdetector.answers)
    table, own = house.frame("corrected/answers"), answered(house)
    assert table.schema == CORRECTED_SCHEMA and table["row_id"].equals(house.frame("filtered/pool")["row_id"])
    assert table["decision"].to_list() == ["replaced", "dropped", "dropped", "unjudged"] + ["kept"] * (len(own) - 4)
    assert table["old"].to_list() == own and table["new"][0] == "Something else altogether."
    assert table["new"].drop_nulls().len() == 1 and table["confidence"][0] == pytest.approx(1.0)
    assert table["confidence"][1] == pytest.approx(0.5) and table["status"][3] == "api_error"
    told = facts(house, "corrected/answers")
    assert [told[f"rows {name}"] for name in ("replaced", "kept", "dropped", "unjudged")] == [1, len(own) - 4, 2, 1]
    assert "replaced" in told["shown"] and told["new answers by"] == "fake:judge"
    assert told["toy judge"] == "a stand-in"  # nobody shall train on these unawares

    view = pool_view(LakeResource(home=str(house.lake.home)), Encoder(), ["alpha"], INDICATORS[1].needs, False, print)
    stays = INDICATORS[1].compute(view)
    assert stays["value"].to_list() == [1, 0, 0, None] + [1] * (len(own) - 4)

    make(house, bsdetector.answers, corrected={"gamma": 1.0})
    assert house.frame("corrected/answers")["decision"][0] == "dropped"
    with pytest.raises(ValueError, match="corrected has no parameter gama"):
        make(house, bsdetector.answers, corrected={"gama": 0.9})


def test_a_comparison_of_older_answers_is_refused(house: House) -> None:
    judge(house, DETECT, detect(house))
    make(house, bsdetector.detected, Model())
    make(house, SCORE)
    judge(house, CHOICE, choose, samples=house.frame(JUDGED, "alpha"))
    judge(house, DETECT, detect(house), version="2")
    with pytest.raises(Exception, match="half refreshed"):
        make(house, bsdetector.answers)
    assert not house.lake.exists(["corrected", "answers"])
    assert f"{JUDGED}_choice" == COMPARED
