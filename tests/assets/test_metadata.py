"""What an asset's page shows: tables and pictures that hold what they should, are small, and cannot act on the page."""

import base64
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import columns, equations, metadata
from assets.evaluated import CARD_SCHEMA
from methods import catalog
from methods.diversity.clusters import CLUSTERS_SCHEMA
from methods.numerics.neighbours import NEIGHBOURS_SCHEMA
from methods.rows import QUARANTINE_SCHEMA, ROW_SCHEMA
from methods.selection.choose import LEDGER_SCHEMA
from methods.selection.twins import PAIRS_SCHEMA
from methods.text import COUNTS_SCHEMA
from resources.lake import Lake, Manifest, Table
from resources.token_pass import TOKEN_STATISTICS_SCHEMA

SVG = "{http://www.w3.org/2000/svg}"


def drawn(shown: dg.MarkdownMetadataValue) -> ET.Element:
    """The picture in a piece of Markdown."""
    found = re.fullmatch(r"!\[[^\[\]]*\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", shown.md_str)
    assert found, shown.md_str
    return ET.fromstring(base64.b64decode(found[1]))


def bars(picture: ET.Element) -> list[int]:
    """The heights of a histogram's bars, read off its outline."""
    outline = picture.find(f"{SVG}path").attrib["d"]
    base = int(re.match(r"M0 (\d+)", outline)[1])
    return [base - int(y) for y in re.findall(r"V(\d+)h12", outline)]


def cells(shown: dg.MetadataValue) -> list[list[str]]:
    return [list(record.data.values()) for record in shown.records]


# ---- histograms -----------------------------------------------------------------------------------------------------


def test_a_histogram_by_hand() -> None:
    picture = drawn(metadata.histogram(pl.Series([0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0]), "x", bins=3))
    low, high = np.percentile([0, 1, 1, 2, 2, 2, 2, 3], [0.5, 99.5])
    edges = np.linspace(low, high, 4)[:3]
    clipped = np.clip([0, 1, 1, 2, 2, 2, 2, 3], low, high)
    counts = [((clipped >= a) & (clipped < b)).sum() for a, b in pairwise(edges)]
    counts.append(8 - sum(counts))
    assert bars(picture) == [round(c / max(counts) * 120) for c in counts]
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts == [f"{low:.4g}", "median 2, n = 8", f"{high:.4g}"]


def test_an_outlier_does_not_flatten_the_rest() -> None:
    values = pl.Series(np.concatenate([np.linspace(0, 1, 1000), [1e9]]))
    assert sum(height > 0 for height in bars(drawn(metadata.histogram(values, "x")))) == 40


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "no value of x"),
        ([None, None], "no value of x"),
        ([float("nan"), float("inf")], "no value of x"),
        ([3.0, 3.0, None], "2 values of x, nearly all 3"),
    ],
)
def test_nothing_to_draw_is_said(values: list[float | None], said: str) -> None:
    assert metadata.histogram(pl.Series(values, dtype=pl.Float64), "x").md_str == said


@given(st.lists(st.floats(width=32) | st.none(), max_size=200))
@settings(max_examples=60, deadline=None)
def test_a_histogram_is_shown_in_place_whatever_it_holds(values: list[float | None]) -> None:
    shown = metadata.histogram(pl.Series(values, dtype=pl.Float64), "excessive_word_repetition, higher is better")
    assert len(shown.md_str) < metadata.IN_PLACE
    if shown.md_str.startswith("!"):
        heights = bars(drawn(shown))
        assert (len(heights), max(heights)) == (40, 120)


def test_whole_numbers_can_be_drawn() -> None:
    assert len(bars(drawn(metadata.histogram(pl.Series([1, 2, 3, 2**62]), "x")))) == 40


# ---- tables -----------------------------------------------------------------------------------------------------------

HOSTILE = "a|b\n<script>alert(1)</script> ![x](http://example.org/x.png)\t\x00\x07\u202eabc\u2028end"


def test_hostile_text_stays_text_on_one_line() -> None:
    (cell,) = cells(metadata.table(pl.DataFrame({"text": [HOSTILE]})))[0]
    assert cell == "a|b ⏎ <script>alert(1)</script> ![x](http://example.org/x.png) \ufffd\ufffd\ufffdabc ⏎ end"


@pytest.mark.parametrize("text", ["שלום עולם", "مرحبا بالعالم", "👩‍👩‍👧 नमस्ते ไทย", "再见 → “x”"])
def test_other_scripts_stay_as_they_are(text: str) -> None:
    assert cells(metadata.table(pl.DataFrame({"text": [text]}))) == [[text]]


def test_numbers_are_rounded_and_missing_ones_marked() -> None:
    frame = pl.DataFrame({"f": [0.123456, None], "i": [123456, 12], "b": [True, False]})
    assert cells(metadata.table(frame)) == [["0.1235", "123,456", "yes"], ["–", "12", "no"]]


def test_long_tables_and_long_texts_are_cut() -> None:
    shown = cells(metadata.table(pl.DataFrame({"a": ["x" * 50] * 9, "b": range(9)}), width=10, most=4))
    assert shown == [["x" * 9 + "…", str(i)] for i in range(4)] + [["… and 5 more", ""]]


def test_an_empty_table_says_none() -> None:
    assert metadata.table(pl.DataFrame(schema={"a": pl.String})).md_str == "none"


@given(st.lists(st.text(), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_cell_can_leave_its_line_or_turn_the_page(texts: list[str]) -> None:
    shown = metadata.table(pl.DataFrame({"text": [t.encode("utf-8", "replace").decode() for t in texts]}), width=40)
    for (cell,) in cells(shown):
        assert len(cell) <= 40
        assert not [c for c in cell if unicodedata.category(c) in ("Cc", "Zl", "Zp")]
        assert not set(cell) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_a_row_in_one_cell() -> None:
    frame = pl.DataFrame({"row_id": ["id"] * 3, "p": ["why?", "", None], "r": ["x" * 200, " \n", "y"]})
    said = frame.select(metadata.texts("p", "r", width=20))
    assert said.to_series().to_list() == [
        "why? → " + "x" * 19 + "…  [id]",
        "(empty) → (empty)  [id]",
        "– → y  [id]",
    ]


def test_the_mix_by_hand() -> None:
    shares = pl.DataFrame({"group": ["a", "b", "c"], "subset": [0.75, 0.25, 0.0], "pool": [0.5, 0.0, 0.5]})
    assert cells(metadata.mix(shares, "source")) == [
        ["a", "75.0% " + "█" * 8, "50.0% " + "█" * 5, "× 1.5"],
        ["b", "25.0% " + "█" * 3, "0.0%", "–"],
        ["c", "0.0%", "50.0% " + "█" * 5, "× 0.0"],
    ]


def test_the_mix_of_nothing() -> None:
    assert metadata.mix(pl.DataFrame(schema={"group": pl.String, "subset": pl.Float64, "pool": pl.Float64}), "x").md_str


# ---- what an unchanged table shows again --------------------------------------------------------------------------------


def test_pictures_and_tables_survive_being_stored() -> None:
    shown = {
        "picture": metadata.histogram(pl.Series(range(100)), "x"),
        "table": metadata.table(pl.DataFrame({"a": [1.5, None], "b": ["x", HOSTILE]})),
        "none": metadata.table(pl.DataFrame({"a": []})),
    }
    stored = Manifest(data_version="1", facts=json.loads(json.dumps({"shown": metadata.storable(shown)})))
    assert metadata.kept(stored) == shown


def test_a_page_is_small() -> None:
    """A wide table of long texts, as metadata of one event."""
    frame = pl.DataFrame({name: ["語" * 5000] * 5000 for name in "abc"})
    assert len(json.dumps(metadata.storable({"t": metadata.table(frame)}), ensure_ascii=False).encode()) < 110_000
    rows = frame.select(pl.lit("i" * 32).alias("row_id"), "a", "b").head(8).select(metadata.texts("a", "b"))
    assert len(json.dumps(metadata.storable({"t": metadata.table(rows)}), ensure_ascii=False).encode()) < 10_000


# ---- facts, change, origin ------------------------------------------------------------------------------------------------


def test_facts_are_told_as_a_person_reads_them() -> None:
    facts = {"rows": 9, "rows before": 3, "mean": 1 / 3, "pool": ["a", "b"], "file": "x", "none": None, "by": {"a": 1}}
    assert metadata.of_facts(facts) == {"mean": 0.333333, "pool": "a, b", "file": "x"}
    assert metadata.of_facts(facts, ["mean", "file"]) == {"pool": "a, b"}


def test_the_first_version_changes_nothing() -> None:
    assert metadata.of_change(None, Manifest("1"))["change"].md_str == "first version"


def test_the_change_names_what_is_different() -> None:
    before = Manifest("1", code_version="1", rows=10, inputs={"a": "1", "b": "1"}, config={"k": 3, "seed": 0})
    now = Manifest("2", code_version="2", rows=12, inputs={"a": "1", "b": "2", "c": "1"}, config={"k": 4, "seed": 0},
                   facts={"rows new in subset": 5, "rows gone from subset": 3})  # fmt: skip
    assert metadata.of_change(before, now)["change"].md_str.splitlines() == [
        "- rows: 10 → 12 (+2)",
        "- 5 rows came, 3 went",
        "- code version: 1 → 2",
        "- k: `3` → `4`",
        "- other content in: b, c",
    ]


def test_columns_say_what_they_are_and_where_they_come_from() -> None:
    lineage = metadata.column_lineage(
        ["row_id", "value", "status", "own"],
        {"evidence/x": ["row_id", "a", "b", "status"]},
        {"value": [("evidence/x", "a"), ("evidence/x", "b"), ("evidence/x", "gone"), ("elsewhere", "a")]},
    )
    deps = {
        name: [(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
        for name, deps in lineage.deps_by_column.items()
    }
    assert deps == {
        "row_id": [("evidence/x", "row_id")],
        "value": [("evidence/x", "a"), ("evidence/x", "b")],
        "status": [("evidence/x", "status")],
    }
    frame = pl.LazyFrame({"row_id": ["x"], "value": [1.0], "status": ["ok"], "own": [1]})
    shown = metadata.of_table(frame, lineage)
    assert shown["dagster/row_count"] == 1
    said = {column.name: column.description for column in shown["dagster/column_schema"].columns}
    assert said["value"] == "the number; empty where it could not be computed; from evidence/x.a, evidence/x.b"
    assert said["own"] is None


def test_types_are_named_shortly() -> None:
    frame = pl.LazyFrame(
        schema={"v": pl.Array(pl.Float32, 3), "m": pl.List(pl.Struct({f"f{i}": pl.Int8 for i in range(20)}))}
    )
    shown = metadata.of_table(frame, metadata.column_lineage([], {}, {}))["dagster/column_schema"].columns
    assert shown[0].type == "Array(Float32)"
    assert len(shown[1].type) == 60


def test_many_columns_of_one_table_are_counted() -> None:
    names = [f"c{i}" for i in range(9)]
    lineage = metadata.column_lineage(["value"], {"evidence/x": names}, {"value": [("evidence/x", n) for n in names]})
    (column,) = metadata.of_table(pl.LazyFrame({"value": [1.0]}), lineage)["dagster/column_schema"].columns
    assert column.description.endswith("; from 9 columns of evidence/x")


def test_one_can_walk_back_to_the_models(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    frame = pl.DataFrame({"row_id": ["x"]})
    lm = {"model": "some/lm", "revision": "0123456789abcdef"}
    lake.write(["evidence", "tokens"], "src", Table(frame, Manifest("t1", config=lm, inputs={"file": "hash"})))
    lake.write(
        ["scored", "ifd"], "src", Table(frame, Manifest("s1", code_version="3", inputs={"evidence/tokens[src]": "t1"}))
    )
    encoder = {"encoder": {"model": "some/encoder", "content": "fedcba9876543210"}}
    lake.write(["clustered", "kmeans"], None, Table(frame, Manifest("c1", config=encoder)))
    inputs = {"scored/ifd[src]": "s1", "clustered/kmeans": "c1", "targets/a|b`c.jsonl": "0123456789abcdef"}
    lines = metadata.of_inputs(lake, inputs)["made from"].md_str.splitlines()[2:]
    assert lines == [
        "| [scored/ifd](/assets/scored/ifd?view=partitions&partition=src) | src | 3 | `s1` | some/lm (01234567) |",
        "| [clustered/kmeans](/assets/clustered/kmeans) |  |  | `c1` | some/encoder (fedcba98) |",
        "| `targets/a_b_c.jsonl` |  |  | `0123456789` |  |",
    ]
    assert metadata.of_inputs(lake, {}) == {}
    many = metadata.of_inputs(lake, {f"scored/i{n}[src]": "1" for n in range(99)}, most=40)["made from"].md_str
    assert many.splitlines()[-1].startswith("| and 59 more")


# ---- words and equations ----------------------------------------------------------------------------------------------------

SCHEMAS = (
    *(ROW_SCHEMA, QUARANTINE_SCHEMA, COUNTS_SCHEMA, TOKEN_STATISTICS_SCHEMA, NEIGHBOURS_SCHEMA, CLUSTERS_SCHEMA),
    *(LEDGER_SCHEMA, CARD_SCHEMA, PAIRS_SCHEMA),
)
LEDGER_ONLY = {"decision", "twin"}


def test_every_column_is_explained() -> None:
    names = {name for schema in SCHEMAS for name in schema} - LEDGER_ONLY
    assert sorted(name for name in names if not columns.described(name)) == []


def test_a_description_names_few_origins() -> None:
    assert columns.described("unheard_of") is None
    assert columns.described("unheard_of", ["a", "b", "c", "d", "e"]) == "from a, b, c and 2 more"
    assert columns.described("prompt_n_words") == "prompt: words, those inside code fences included"


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        (r"\frac{1}{n} \sum_i x_i", "1/n Σ_i x_i"),
        (r"\frac{a + b}{c}", "(a + b)/c"),
        (r"\frac{\frac{a}{b}}{c}", "(a/b)/c"),
        (r"\left(\prod_j \sigma_j\right)^{1/H}", "(Π_j σ_j)^(1/H)"),
        (r"\mu_{i}^{n+1}", "μ_i^(n+1)"),
        (r"\sqrt{n} \le \sqrt{a b}", "√n ≤ √(a b)"),
        (r"\{x : \unheardof{y}\}", "{x : unheardofy}"),
        (r"\frac{NLL(A \mid Q)}{NLL(A)}", "NLL(A | Q)/NLL(A)"),
        ("S' = {x : q(x) > tau}", "S' = {x : q(x) > tau}"),
        ("", ""),
    ],
)
def test_an_equation_in_plain_text(latex: str, plain: str) -> None:
    assert equations.readable(latex) == plain


@pytest.mark.parametrize("method", catalog.METHODS, ids=lambda method: method.id)
def test_every_equation_is_readable(method: object) -> None:
    said = equations.readable(method.equation)
    assert said
    assert "\\" not in said
    assert (said.count("("), said.count("[")) == (said.count(")"), said.count("]"))


@given(st.text(alphabet="\\{}_^ abfrac12()", max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_reader_of_equations(text: str) -> None:
    assert isinstance(equations.readable(text), str)
