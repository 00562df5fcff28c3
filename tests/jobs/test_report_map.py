"""The report's map: which rows are drawn, in which colours, and what is said of those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assets.embedded import vectors_of
from jobs import definitions
from jobs.report import gather, plots
from jobs.report.data import MAP_COLUMNS, CorpusMap, ReportError
from tests.house import House, alpaca, lines


def corpus(n: int, chosen: int = 1, clusters: str = "ab", **changes: object) -> CorpusMap:
    """Rows on a line of slope 1/2, clusters in turn; a dash is none."""
    names = [clusters[i % len(clusters)] for i in range(max(n, 1))]
    points = pl.DataFrame(
        {
            "x": [2.0 * i for i in range(max(n, 1))],
            "y": [float(i) for i in range(max(n, 1))],
            "cluster": [None if name == "-" else name for name in names],
            "chosen": [i < chosen for i in range(max(n, 1))],
            **{name: [f"{name} {i}" for i in range(max(n, 1))] for name in ("excerpt", "source", "decision", "reason")},
        }
    )
    said = {"layout": "tsne", "rows": n, "selected": chosen, "largest": ["a", "b"], **changes}
    return CorpusMap(points.select(MAP_COLUMNS).head(n), **said)  # type: ignore[arg-type]


def values_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return list(spec["datasets"][spec["data"]["name"]])


def test_selected_rows_are_drawn_last_and_every_point_tells_its_row() -> None:
    spec, _ = plots.corpus_map(corpus(4, chosen=2))
    values = values_of(spec)
    assert [value["excerpt"] for value in values] == [f"excerpt {i}" for i in (2, 3, 0, 1)]
    assert [value["chosen"] for value in values] == [False, False, True, True]
    told = [part["title"] for part in spec["encoding"]["tooltip"]]
    assert told == ["instruction", "source", "cluster", "decision", "why"]
    sizes = spec["encoding"]["size"]
    assert sizes["condition"]["value"] > 2 * sizes["value"]


def test_the_legend_names_the_largest_clusters_and_gathers_the_rest() -> None:
    spec, legend = plots.corpus_map(corpus(10, chosen=1, clusters="abcd-"))
    assert [(name, n) for name, _, n in legend] == [
        ("selected", 1),
        ("a", 1),
        ("b", 2),
        ("other clusters", 4),
        ("no cluster", 2),
    ]
    scale = spec["encoding"]["color"]["scale"]
    assert dict(zip(scale["domain"], scale["range"], strict=True)) | {"selected": plots.CHOSEN} == {
        **{name: colour for name, colour, _ in legend}
    }
    assert len({colour for name, colour, _ in legend[:3]}) == 3
    groups = {value["excerpt"]: (value["group"], value["cluster"]) for value in values_of(spec)}
    assert groups["excerpt 2"] == ("other clusters", "c") and groups["excerpt 4"] == ("no cluster", "none")


def span(scale: dict, width: float, height: float) -> tuple[float, float]:
    """What the browser makes of the ends of an axis."""
    known = {"width": width, "height": height, "max": max, "__builtins__": {}}
    low, high = (eval(scale[end]["expr"], known) for end in ("domainMin", "domainMax"))
    return low, high


@pytest.mark.parametrize(("width", "height"), [(1100, 560), (300, 560), (560, 560)])
def test_distances_of_principal_components_are_not_distorted(width: float, height: float) -> None:
    spec, _ = plots.corpus_map(corpus(11, layout="pca"))
    x, y = (spec["encoding"][side]["scale"] for side in "xy")
    (left, right), (low, high) = span(x, width, height), span(y, width, height)
    assert (right - left) / width == pytest.approx((high - low) / height)  # as much a pixel
    assert left <= 0 < 20 <= right and low <= 0 < 10 <= high  # and all points are inside
    free, _ = plots.corpus_map(corpus(11))
    assert "domainMin" not in free["encoding"]["x"]["scale"]


def test_a_single_place_and_no_place_at_all_can_be_drawn() -> None:
    for layout in ("pca", "tsne"):
        spec, legend = plots.corpus_map(corpus(1, layout=layout))
        assert len(values_of(spec)) == 1 and [line[0] for line in legend] == ["selected"]
        assert plots.corpus_map(corpus(0, chosen=0, layout=layout))[1] == []
    x = plots.corpus_map(corpus(1, layout="pca"))[0]["encoding"]["x"]["scale"]
    low, high = span(x, 100, 100)
    assert low < 0 < high


def test_the_words_on_what_is_drawn() -> None:
    assert corpus(4, chosen=2).drawn == "All 4 rows are drawn, 2 of them selected."
    part = corpus(4, chosen=2, rows=1500, selected=2, unplaced=1).drawn
    assert part == (
        "4 of 1,500 rows are drawn: all 2 selected rows, and 2 of the 1,498 others, each cluster in its share. "
        "1 row has no embedding, and so no place here."
    )
    assert "2 of the 90 selected rows, and 2 of the 910 others" in corpus(4, chosen=2, rows=1000, selected=90).drawn


@pytest.mark.parametrize(("rows", "selected"), [(3, 2), (4, 1), (4, 3)])
def test_more_points_than_rows_are_refused(rows: int, selected: int) -> None:
    with pytest.raises(ReportError, match="corpus_map: 4 points, 2 of them selected"):
        corpus(4, chosen=2, rows=rows, selected=selected)
    with pytest.raises(ReportError, match="corpus_map lacks"):
        CorpusMap(pl.DataFrame({"x": [1.0]}), "pca", 1, 0)


@pytest.mark.parametrize(
    ("n", "chosen", "drawn"),
    [(8, 3, (3, 5)), (100, 3, (3, 7)), (100, 5, (5, 5)), (100, 60, (5, 5)), (100, 98, (8, 2)), (100, 100, (10, 0))],
)
def test_selected_rows_come_first_and_leave_room_for_others(
    n: int, chosen: int, drawn: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "MAP_ROWS", 10)
    selected = np.zeros(n, bool)
    selected[np.random.default_rng(0).permutation(n)[:chosen]] = True
    points = np.random.default_rng(1).standard_normal((n + 1, 2))
    points[n] = np.nan  # a row without an embedding is never drawn
    shown = gather._shown(points, np.arange(n + 1) % 2, np.append(selected, True))
    assert (np.diff(shown) > 0).all() and n not in shown
    assert (int(selected[shown].sum()), int((~selected[shown]).sum())) == drawn


def test_the_share_of_the_variance_is_that_of_the_principal_components() -> None:
    from methods.diversity.corpus_map import corpus_map

    vectors = np.random.default_rng(0).standard_normal((50, 6)) * [5, 4, 1, 1, 1, 1] + 3
    values = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1]
    assert gather._explained(vectors, corpus_map(vectors)) == pytest.approx(values[:2].sum() / values.sum(), rel=1e-5)
    assert gather._explained(np.ones((4, 3)), np.zeros((4, 2))) is None
    assert gather._explained(np.empty((0, 3)), np.empty((0, 2))) is None


def test_the_map_of_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions, names and places are those of the tables; above the bound the layout is that of PCA."""
    house = House(tmp_path / "home")
    (house.lake.home / "recipes").mkdir()
    (house.lake.home / "recipes" / "few.yaml").write_text("title: Few\nselector: random\nbudget: '4'\n")
    defs = definitions.build_defs(house.lake.home, *_models())
    house.make(["selected/few"], {"alpha": lines(tmp_path / "a.jsonl", [alpaca(i) for i in range(12)])})
    found = gather._map(house.lake, defs, "few", ["alpha"])
    ledger = house.frame("selected/ledgers/few")
    assert found.layout == "tsne" and found.rows == found.points.height == 12 and found.explained is None
    assert found.selected == found.points["chosen"].sum() == 4
    assert sorted(found.points.filter("chosen")["decision"]) == [f"selected, rank {i}" for i in range(1, 5)]
    assert set(found.points["decision"]) - {f"selected, rank {i}" for i in range(1, 5)} <= {
        "not chosen",
        "dropped: near duplicate",
    }
    assert found.points["reason"].to_list() == ledger["reason"].to_list()
    assert set(found.points["cluster"]) <= set(gather._names(house.lake).values())
    assert set(found.largest) <= set(found.points["cluster"]) and found.points["excerpt"].null_count() == 0
    monkeypatch.setattr("methods.diversity.corpus_map.MOST_TSNE", 5)
    flat = gather._map(house.lake, defs, "few", ["alpha"])
    assert flat.layout == "pca" and flat.explained is not None and 0 < flat.explained <= 1
    resources = defs.resources
    vectors = vectors_of(resources["lake"], resources["encoder"]).read(ledger["row_id"].to_list())  # type: ignore[index]
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    places = flat.points.select("x", "y").to_numpy()
    assert np.abs(places) == pytest.approx(np.abs(centred @ axes.T), abs=1e-4)


def _models() -> tuple:
    from tests.house import Encoder, Model

    return Encoder(), Model()
