"""The HTML report: complete, self-contained, safe against hostile text, and only written if its numbers add up."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.report import plots as report_plots
from jobs.report import render as report
from jobs.report.data import MAP_COLUMNS, CorpusMap, PlantedKind, RecipeResult, ReportData, ReportError
from jobs.report.render import render_report

HOSTILE = (
    """<script>alert("x")</script><img src=x onerror='alert(1)'><a href="javascript:alert(2)">&amp;</a></td>-->\u2028"""
)
OTHERS = "שלום עולם 你好，世界 مرحبا"


def _frame(rows: list[tuple[object, ...]], *columns: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(columns), orient="row")


def _selected(n: int, text: str = "an answer") -> pl.DataFrame:
    rows = [
        (i + 1, f"id{i:030d}", "a", f"question {i} {text}", text, 1.5 - i, 0.25, f"reason {text}") for i in range(n)
    ]
    return _frame(rows, "rank", "row_id", "source", "instruction", "response", "score", "gain", "reason")


def _recipe(text: str = "x", **changes: object) -> RecipeResult:
    made = RecipeResult(
        name=f"deita {text}",
        title=f"Title {text}",
        description=f"Description {text}",
        rule=f"Rule {text}",
        budget=f"2 rows {text}",
        selected=_selected(2, text),
        decisions={"selected": 2, f"not chosen {text}": 3},
        measures={f"vendi {text}": (1.5, None, 2.25)},
        directions={f"vendi {text}": "higher"},
        mix=_frame([("source", f"a {text}", 4, 2), ("source", "b", 1, 0)], "by", "value", "pool", "selected"),
        distributions={f"ifd {text}": ([0.5, None], [0.1, 0.5, 0.9, float("nan")])},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def _data(text: str = "x", **changes: object) -> ReportData:
    funnel = [("in", f"read {text}", 8), ("quarantined", "bad", 1), ("filtered", f"rule {text}", 1)]
    funnel += [("duplicate", "twin", 1), ("gated", "gate", 0), ("not_chosen", "rest", 3), ("selected", "kept", 2)]
    made = ReportData(
        title=f"Report {text}",
        made_at="2024-08-05",
        funnel=_frame(funnel, "step", "label", "rows"),
        sources=_frame(
            [(f"a {text}", "a.jsonl", 8, 7, 1, 5)], "source", "file", "records", "rows", "quarantined", "kept"
        ),
        filters=_frame([("a", f"short {text}", 1, text)], "source", "rule", "count", "example"),
        quarantined=_frame([("a.jsonl", 3, f"broken {text}")], "file", "line", "reason"),
        duplicates=_frame([(f"a:4 {text}", "a:1", 1.0)], "row", "twin", "similarity"),
        recipes=[_recipe(text)],
        corpus_map=CorpusMap(
            _frame(
                [(0.0, 1.0, f"c {text}", True, text, f"a {text}", text, text), (1.0, None, "c", False, *"bade")],
                *MAP_COLUMNS,
            ),
            layout="tsne",
            rows=2,
            selected=1,
            largest=[f"c {text}", "c"],
        ),
        planted=[PlantedKind(f"refusal {text}", 3, {f"rule {text}": 2}, 0, 1)],
        models={f"encoder {text}": text},
        versions={"polars": text},
        config={"seed": text},
        command=f"sluice run {text}",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class _Page(HTMLParser):
    """What a browser would see: elements with attributes, the content of scripts, and the visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.text = ""
        self._inside: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = None if tag in ("script", "style") else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._inside != "style":
            self.text += data


@pytest.fixture(scope="module", autouse=True)
def _small_vega():
    """The real bundle is 0.9 MB and the same in each report; one test below asks for it."""
    patch = pytest.MonkeyPatch()
    real = report._vega
    patch.setattr(report, "_vega", lambda: "window.vegaEmbed = null;")
    yield real
    patch.undo()


def _render(data: ReportData, folder: Path) -> tuple[str, _Page]:
    text = render_report(data, folder / "report.html").read_text(encoding="utf-8")
    return text, _Page(text)


def test_hostile_text_is_shown_and_never_becomes_markup(tmp_path: Path) -> None:
    text, page = _render(_data(HOSTILE), tmp_path)
    clean_text, clean = _render(_data("x"), tmp_path)
    shown = [(tag, sorted(attrs)) for tag, attrs in page.elements if tag not in ("details", "summary", "span", "div")]
    assert shown == [(tag, sorted(a)) for tag, a in clean.elements if tag not in ("details", "summary", "span", "div")]
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in clean.elements} | {
        "details",
        "summary",
        "span",
        "div",
    }
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert page.text.count('alert("x")') >= 15
    assert "<img" not in text and "<img" not in clean_text


def test_figures_carry_hostile_text_as_data(tmp_path: Path) -> None:
    _, page = _render(_data(HOSTILE), tmp_path)
    figures = [json.loads(content) for kind, content in page.scripts if kind == "application/json"]
    assert len(figures) == 5
    assert sum(HOSTILE in json.dumps(figure, ensure_ascii=False).replace('\\"', '"') for figure in figures) >= 4


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    _, page = _render(_data(), tmp_path)
    loads = ("src", "srcset", "data", "poster", "action", "background")
    assert not [attrs for _, attrs in page.elements if any(name in attrs for name in loads)]
    links = [attrs["href"] for tag, attrs in page.elements if "href" in attrs]
    assert links and all(link and link.startswith("#") for link in links)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    css = (report.PAGE / "report.css").read_text(encoding="utf-8")
    assert "url(" not in css and "@import" not in css


def test_every_link_of_the_page_leads_somewhere(tmp_path: Path) -> None:
    _, page = _render(_data(), tmp_path)
    ids = {attrs.get("id") for _, attrs in page.elements}
    assert {str(attrs["href"])[1:] for _, attrs in page.elements if "href" in attrs} <= ids


def test_the_policy_allows_just_the_two_scripts_of_the_page(tmp_path: Path) -> None:
    _, page = _render(_data(HOSTILE), tmp_path)
    policy = next(str(a["content"]) for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    code = [content for kind, content in page.scripts if kind != "application/json"]
    allowed = ["'sha256-" + base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() + "'" for c in code]
    assert len(code) == 2
    assert policy.split("script-src ")[1].split(" ;")[0].split() == allowed
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy


def test_the_real_bundle_fits_and_survives_the_page(tmp_path: Path, _small_vega, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(report, "_vega", _small_vega)
    path = render_report(_data(), tmp_path / "report.html")
    assert path.stat().st_size < 6_000_000
    page = _Page(path.read_text(encoding="utf-8"))
    code = [content for kind, content in page.scripts if kind != "application/json"]
    assert len(code) == 2 and "vegaEmbed" in code[0] and len(code[0]) > 500_000
    policy = next(str(a["content"]) for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode() in policy


def test_other_scripts_and_line_breaks_are_kept(tmp_path: Path) -> None:
    text, page = _render(_data(recipes=[_recipe(OTHERS)]), tmp_path)
    assert OTHERS in page.text and OTHERS in text
    assert any(attrs.get("dir") == "auto" for _, attrs in page.elements)


def test_an_empty_report_renders(tmp_path: Path) -> None:
    funnel = _frame([("in", "read", 0), ("selected", "kept", 0)], "step", "label", "rows")
    _, page = _render(ReportData(title="Nothing", made_at="today", funnel=funnel), tmp_path)
    for sentence in (
        "No source was read.",
        "No rule dropped any row.",
        "Every record could be read.",
        "No duplicates were found.",
        "No recipe was run.",
        "Nothing was recorded.",
        "sluice explain ROW_ID",
    ):
        assert sentence in page.text
    assert "planted" not in page.text.lower() and "A map of the corpus" not in page.text


def test_empty_parts_of_a_recipe_render(tmp_path: Path) -> None:
    bare = RecipeResult("none", "None", "d", "r", "0 rows", _selected(0), {"selected": 0})
    blind = _recipe(distributions={"ifd": ([None], [None, None]), "len": ([], [1.0])})
    points = _data().corpus_map.points.head(0)  # type: ignore[union-attr]
    nowhere = CorpusMap(points, "pca", rows=0, selected=0)
    _, page = _render(_data(recipes=[bare, blind], corpus_map=nowhere), tmp_path)
    assert "The recipe chose no row." in page.text
    assert "no value for any row of the pool" in page.text and "no value for any selected row" in page.text
    assert "There is no row to draw." in page.text


def test_numbers_and_reasons_reach_the_page(tmp_path: Path) -> None:
    _, page = _render(_data(), tmp_path)
    for piece in ("2 of 5 candidates", "higher is better", "2.25", "25.0 % of all", "sluice explain id" + "0" * 30):
        assert piece in page.text
    assert page.text.count("reason x") == 2 and "counts for" not in page.text
    weighed = _recipe(selected=_selected(2).with_columns(weight=pl.Series([1.0, 2.625])))
    _, page = _render(_data(recipes=[weighed]), tmp_path)
    assert "counts for" in page.text and "2.625" in page.text


def test_long_tables_and_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    many = _frame([(f"a:{i}", "a:0", i / 300) for i in range(250)], "row", "twin", "similarity")
    recipe = _recipe(selected=_selected(40, "y" * 5000), decisions={"selected": 40})
    _, page = _render(_data(duplicates=many, recipes=[recipe]), tmp_path)
    assert "150 more are not shown here." in page.text
    assert "a:249" in page.text and "a:100" not in page.text
    assert "The first 25 of 40 rows" in page.text and "question 25" not in page.text
    assert "(3,000 more characters)" in page.text


def test_a_funnel_that_does_not_add_up_is_refused() -> None:
    funnel = _frame([("in", "read", 8), ("filtered", "rule", 1), ("selected", "kept", 2)], "step", "label", "rows")
    with pytest.raises(ReportError, match=r"8 came in, but the other steps count 3 \(5 unexplained\)"):
        ReportData(title="t", made_at="d", funnel=funnel)
    with pytest.raises(ReportError, match="1 too many"):
        ReportData(title="t", made_at="d", funnel=funnel.with_columns(rows=pl.Series([2, 1, 2])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"funnel": _frame([("came", "x", 1)], "step", "label", "rows")}, "unknown step"),
        ({"funnel": _frame([("in", "x", -1), ("selected", "y", -1)], "step", "label", "rows")}, "negative or missing"),
        ({"funnel": _frame([("in", 1)], "step", "rows")}, r"funnel lacks the column\(s\) label"),
        ({"sources": _data().sources.with_columns(rows=pl.lit(6))}, "sources and funnel disagree"),
        (
            {"sources": _data().sources.with_columns(rows=pl.lit(8), quarantined=pl.lit(0))},
            "0 quarantined in the sources",
        ),
        ({"sources": _data().sources.with_columns(kept=pl.lit(9))}, "keeps more rows than it has"),
        ({"duplicates": _frame([("a", "b")], "row", "twin")}, "duplicates lacks"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        _data(**changes)


def test_recipes_and_planted_kinds_check_their_own_sums() -> None:
    with pytest.raises(ReportError, match="2 selected rows, but decisions says 1"):
        _recipe(decisions={"selected": 1})
    with pytest.raises(ReportError, match="no count for 'selected'"):
        _recipe(decisions={"dropped": 1})
    with pytest.raises(ReportError, match="mix lacks"):
        _recipe(mix=pl.DataFrame({"by": ["a"]}))
    with pytest.raises(ReportError, match="3 planted, but dropped"):
        PlantedKind("refusal", 3, {"rule": 1}, 1, 0)


def test_the_funnel_picture_closes_at_zero() -> None:
    values = _values(report_plots.funnel(_data().funnel.sample(fraction=1, shuffle=True, seed=3)))
    assert [(v["step"], v["start"], v["end"]) for v in values] == [
        ("in", 0, 8),
        ("quarantined", 7, 8),
        ("filtered", 6, 7),
        ("duplicate", 5, 6),
        ("gated", 5, 5),
        ("not_chosen", 2, 5),
        ("selected", 0, 2),
    ]


def _values(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows behind a picture (behind its first layer, if it has several)."""
    data = spec["data"] if "data" in spec else spec["layer"][0]["data"]
    return list(spec["datasets"][data["name"]] if "name" in data else data["values"])


def test_histograms_share_bins_and_each_sums_to_one() -> None:
    rng = np.random.default_rng(0)
    pool, mine = rng.normal(size=500), rng.normal(1, 0.5, size=40)
    spec, note = report_plots.distribution(list(mine), pl.Series([*pool, None]))
    assert spec is not None
    lines = _values(spec)
    for of in ("pool", "selected"):
        assert sum(line["share"] for line in lines if line["of"] == of) == pytest.approx(1)
    assert [li["from"] for li in lines if li["of"] == "pool"] == [li["from"] for li in lines if li["of"] == "selected"]
    assert note == "10 outlying values of the pool in the outermost bins; no value for 1 of 501 in the pool"


def test_a_constant_indicator_has_a_histogram() -> None:
    spec, note = report_plots.distribution([2.0], [2.0, 2.0])
    assert spec is not None and note == ""


def test_many_values_of_a_mix_are_gathered_without_loss() -> None:
    frame = pl.DataFrame({"value": [f"c{i:02d}" for i in range(50)], "pool": range(50), "selected": [1] * 50})
    gathered = report_plots._gathered(frame)
    assert gathered.height == report_plots.MIX_LINES and gathered["value"][-1] == "31 others"
    assert gathered["pool"].sum() == frame["pool"].sum() and gathered["selected"].sum() == 50


def test_an_older_report_is_replaced_and_no_draft_stays(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.html"
    render_report(_data("first"), target)
    render_report(_data("second"), target)
    assert "Report second" in target.read_text(encoding="utf-8")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (1234567, "1,234,567"), (0.12345678, "0.1235"), (1.0, "1"), ("a", "a")],
)
def test_numbers_are_shown_short(value: object, shown: str) -> None:
    assert report._number(value) == shown
