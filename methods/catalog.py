"""The list of every method, and how to find one by its id.

Here belong the three tuples, put together from the tuples at the end of the rooms' modules, and the look-ups. A new
method is added to its room's tuple; a new module is added here. Nothing is computed here and nothing heavy imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from methods.diversity import baselines as diversity_baselines
from methods.diversity import cluster_margin as diversity_margin
from methods.diversity import cluster_sampling as diversity_clustered
from methods.diversity import clusterings as diversity_clusterings
from methods.diversity import coreset as diversity_coreset
from methods.diversity import facility as diversity_facility
from methods.diversity import geometry as diversity_geometry
from methods.diversity import handcrafted as diversity_handcrafted
from methods.diversity import herding as diversity_herding
from methods.diversity import lexical_sampling as diversity_lexical
from methods.diversity import measures as diversity_measures
from methods.diversity import overlap as diversity_overlap
from methods.diversity import semantic_dedup as diversity_dedup
from methods.diversity import sensitivity as diversity_sensitivity
from methods.diversity import submodular as diversity_submodular
from methods.diversity import tag_sampling as diversity_tags
from methods.diversity import vendi as diversity_vendi
from methods.diversity import word_measures as diversity_words
from methods.importance import dsir as importance_dsir
from methods.importance import familiarity as importance_familiarity
from methods.importance import gio as importance_gio
from methods.importance import handcrafted as importance_handcrafted
from methods.importance import ideal as importance_ideal
from methods.importance import mods as importance_mods
from methods.importance import nearest as importance_nearest
from methods.importance import options as importance_options
from methods.importance import prompting as importance_prompting
from methods.kinds import Indicator, Measure, Method, Selector
from methods.quality import alignment as quality_alignment
from methods.quality import bsdetector as quality_bsdetector
from methods.quality import corpus as quality_corpus
from methods.quality import deita_scorers as quality_deita_scorers
from methods.quality import distillation as quality_distillation
from methods.quality import dqi_measures as quality_dqi
from methods.quality import dqi_rows as quality_dqi_rows
from methods.quality import flags as quality_flags
from methods.quality import handcrafted as quality_handcrafted
from methods.quality import human as quality_human
from methods.quality import instruction_mining as quality_instruction_mining
from methods.quality import judge as quality_judge
from methods.quality import judge_deita as quality_deita
from methods.quality import memorization as quality_memorization
from methods.quality import model as quality_model
from methods.quality import pairwise as quality_pairwise
from methods.quality import predictability as quality_predictability
from methods.quality import qurating as quality_qurating
from methods.quality import readability as quality_readability
from methods.quality import repetition as quality_repetition
from methods.quality import reward as quality_reward
from methods.quality import spelling as quality_spelling
from methods.quality import subnets as quality_subnets
from methods.quality import tag_normalisation as quality_tags
from methods.quality import unieval as quality_unieval
from methods.quality import warmup as quality_warmup
from methods.quality import yes_no as quality_yes_no
from methods.selection import bands as selection_bands
from methods.selection import basic as selection_basic
from methods.selection import quotas as selection_quotas
from methods.selection import voting as selection_voting

INDICATORS: tuple[Indicator, ...] = (
    *quality_handcrafted.INDICATORS,
    *quality_repetition.INDICATORS,
    *quality_spelling.INDICATORS,
    *quality_readability.INDICATORS,
    *quality_corpus.INDICATORS,
    *quality_flags.INDICATORS,
    *quality_dqi_rows.INDICATORS,
    *quality_model.INDICATORS,
    *quality_memorization.INDICATORS,
    *quality_predictability.INDICATORS,
    *quality_yes_no.INDICATORS,
    *quality_judge.INDICATORS,
    *quality_human.INDICATORS,
    *quality_qurating.INDICATORS,
    *quality_pairwise.INDICATORS,
    *quality_distillation.INDICATORS,
    *quality_deita.INDICATORS,
    *quality_deita_scorers.INDICATORS,
    *quality_tags.INDICATORS,
    *quality_bsdetector.INDICATORS,
    *quality_alignment.INDICATORS,
    *quality_unieval.INDICATORS,
    *quality_subnets.INDICATORS,
    *quality_reward.INDICATORS,
    *quality_warmup.INDICATORS,
    *quality_instruction_mining.INDICATORS,
    *diversity_handcrafted.INDICATORS,
    *diversity_geometry.INDICATORS,
    *diversity_overlap.INDICATORS,
    *importance_handcrafted.INDICATORS,
    *importance_familiarity.INDICATORS,
    *importance_prompting.INDICATORS,
    *importance_options.INDICATORS,
    *importance_mods.INDICATORS,
)

MEASURES: tuple[Measure, ...] = (
    *quality_dqi.MEASURES,
    *diversity_vendi.MEASURES,
    *diversity_measures.MEASURES,
    *diversity_words.MEASURES,
)

SELECTORS: tuple[Selector, ...] = (
    *selection_basic.SELECTORS,
    *selection_quotas.SELECTORS,
    *selection_bands.SELECTORS,
    *quality_subnets.SELECTORS,
    *selection_voting.SELECTORS,
    *diversity_coreset.SELECTORS,
    *diversity_herding.SELECTORS,
    *diversity_clustered.SELECTORS,
    *diversity_margin.SELECTORS,
    *diversity_sensitivity.SELECTORS,
    *diversity_submodular.SELECTORS,
    *diversity_baselines.SELECTORS,
    *diversity_dedup.SELECTORS,
    *diversity_lexical.SELECTORS,
    *diversity_tags.SELECTORS,
    *importance_dsir.SELECTORS,
    *importance_nearest.SELECTORS,
    *importance_ideal.SELECTORS,
    *importance_gio.SELECTORS,
    *diversity_facility.SELECTORS,
)

CLUSTERINGS = diversity_clusterings.CLUSTERINGS
"""Those beside k-means, each a table of its own; no methods of the survey by themselves but what selectors go by."""

METHODS: tuple[Method, ...] = (*INDICATORS, *MEASURES, *SELECTORS)

_M = TypeVar("_M", bound=Method)


class UnknownMethod(KeyError):
    """An id that the catalogue does not have; the message names the nearest ones that it has."""

    def __init__(self, kind: str, id: str, known: Sequence[str]) -> None:
        """Look among the ``known`` ids of this kind for those that were perhaps meant."""
        near = get_close_matches(id, known, n=3, cutoff=0.5) or sorted(known)[:3]
        self.message = f"there is no {kind} {id!r}; did you mean {', '.join(near)}?" if near else f"no {kind} {id!r}"
        super().__init__(self.message)

    def __str__(self) -> str:
        """The bare message; a KeyError would show it in quotes."""
        return self.message


def _find(kind: str, id: str, among: Sequence[_M]) -> _M:
    for method in among:
        if method.id == id:
            return method
    raise UnknownMethod(kind, id, [method.id for method in among])


def indicator(id: str) -> Indicator:
    """The indicator of this id, or `UnknownMethod`."""
    return _find("indicator", id, INDICATORS)


def measure(id: str) -> Measure:
    """The measure of this id, or `UnknownMethod`."""
    return _find("measure", id, MEASURES)


def selector(id: str) -> Selector:
    """The selector of this id, or `UnknownMethod`."""
    return _find("selector", id, SELECTORS)


def kind_of(method: Method) -> str:
    """``indicator``, ``measure`` or ``selector``."""
    return type(method).__name__.lower()


def _plain(value: Any) -> Any:
    """Tuples and mappings as the lists and dicts that JSON gives back."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def describe(method: Method) -> dict[str, Any]:
    """What a person or a program asks of a method, as plain values that JSON takes; a selector's direction is None."""
    return {
        "id": method.id,
        "kind": kind_of(method),
        "title": method.title,
        "axis": method.axis,
        "family": method.family,
        "section": method.section,
        "equation": method.equation,
        "direction": getattr(method, "direction", None),
        "scope": getattr(method, "scope", None),
        "needs": list(method.needs),
        "cost": method.cost,
        "paper": method.paper,
        "params": _plain(method.params),
        "meaning": method.meaning,
        "version": method.version,
    }
