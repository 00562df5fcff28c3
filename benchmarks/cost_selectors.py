"""The selectors whose cost is measured: in which ways, in which panel of the plot, and what to use where they end.

Here belongs what is said of each by hand; measuring stands in ``cost.py``, the page in ``cost_page.py``.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from methods.catalog import SELECTORS, selector
from methods.kinds import Selector

SETTINGS: dict[str, dict[str, Any]] = {"sensitivity_sampling": {"loss": "loss"}}
"""What a recipe would have to say: all else is as the catalogue has it."""
WAYS: dict[str, dict[str, Any]] = {
    "facility_location greedi": {"method": "greedi"},
    "qdit greedi": {"method": "greedi"},
    "superfiltering_d 4,000": {"first": 4000},
    "semdedup given": {"clusters": "given"},
    "d4 k 100": {"k": 100, "k_after": 100},
    "representative k 100": {"k": 100},
    "gio 200 centroids": {"centroids": 200},
    "dsir fast": {"hash": "fast"},
}
"""Selectors with other parameters, for what is too slow as the catalogue has it; named by the selector first."""

PANELS: dict[str, tuple[str, ...]] = {
    "best, by chance, within bounds": (
        "random",
        "top_k",
        "select_threshold",
        "select_percentile",
        "gumbel_top_k",
        "select_band",
        "ppl_prune_low_mid_high",
    ),
    "quotas and votes": (
        "stratified",
        "stratified_by_score",
        "group_quota",
        "flex_rand",
        "bettermixture_voting",
        "mods_union",
        "instag_sampling",
    ),
    "unlike the rows chosen before": (
        "k_center_greedy",
        "deita_repr_filter",
        "herding_greedy",
        "reverse_semantic_search",
        "mmr",
        "dpp_greedy",
        "quality_weighted_vendi_greedy",
    ),
    "inside clusters": (
        "easy_and_diverse_first",
        "cluster_clip",
        "moderate_coreset",
        "cluster_margin",
        "ordered_clustering",
        "sensitivity_sampling",
        "representative",
        "semdedup",
        "d4",
    ),
    "standing for the whole pool": (
        "facility_location",
        "superfiltering_d",
        "qdit",
        "dataset_quantization",
        "ideal",
    ),
    "by words, and towards a target": ("limited_lexical_similarity", "dsir", "nearest_to_target", "gio"),
}
_ITSELF = "itself: one sort or one pass"
_CLUSTERS = "itself: one pass, with the clusters of the pool"
_PICKS = (
    "one product with the pool a pick: a gate or a sample before it, or fewer picks; `k_center_greedy` in its place"
)
_FACILITY = "`method: greedi`: shards of 8,192 rows, nearly linear in rows, 2 GiB for the rows that judge"
BEYOND: dict[str, str] = {
    **dict.fromkeys([*PANELS["best, by chance, within bounds"], *PANELS["quotas and votes"]], _ITSELF),
    "instag_sampling": "itself: rows of the same tags are walked together",
    "k_center_greedy": "itself, as far as the vectors fit in memory; then shard by shard with `given`",
    "deita_repr_filter": "itself: it looks at few more rows than it takes, unless most are alike; a gate by score then",
    "herding_greedy": _PICKS,
    "mmr": _PICKS,
    "quality_weighted_vendi_greedy": _PICKS,
    "dpp_greedy": "itself; a gate by score leaves fewer rows to compute anew",
    "reverse_semantic_search": "itself: above `exact_up_to` the first pair is not searched among all (`exact_up_to: 0` "
    "saves it at any size); then a product with the pool a pick, `k_center_greedy` in its place",
    "easy_and_diverse_first": "itself: k-means is fitted on 256 rows a cluster",
    "cluster_clip": _CLUSTERS,
    "moderate_coreset": _CLUSTERS,
    "cluster_margin": _CLUSTERS,
    "sensitivity_sampling": _CLUSTERS,
    "ordered_clustering": "density by all distances: `moderate_coreset` or `stratified` by k-means; a sample of 20,000",
    "representative": "`k: 100`, several rows a cluster",
    "semdedup": "`clusters: given` with those of the pool: the fit is most of the cost",
    "d4": "`k: 100`, `k_after: 100`: the two fits are most of the cost; or `semdedup` with `clusters: given`",
    "facility_location": _FACILITY,
    "qdit": _FACILITY,
    "superfiltering_d": "smaller `first`, as a number of rows",
    "dataset_quantization": "products of all pairs: a sample before it, or `facility_location` by `greedi`",
    "ideal": "exact neighbours of all rows: a sample or a gate before it, at most some 100,000 rows",
    "limited_lexical_similarity": "itself with `compare: previous`; `all` grows with the square of the budget",
    "dsir": "itself: one pass over the texts; `hash: fast`",
    "nearest_to_target": "itself: one product with the rows of the target",
    "gio": "`centroids: 200`: fitting 1,500 is the cost, whatever the pool",
}
"""What to do where the pool outgrows a selector as it comes."""


def method_of(name: str) -> tuple[Selector, dict[str, Any]]:
    """The selector of a name (an id, or one of `WAYS`), and what is said to it."""
    id = name.split(" ")[0]
    return selector(id), {**SETTINGS.get(id, {}), **WAYS.get(name, {})}


NAMES = (*(method.id for method in SELECTORS), *WAYS)


def known(results: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The last result of each cell, of the selector's present version."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    versions = {name: method_of(name)[0].version for name in NAMES}
    for line in results.read_text().splitlines() if results.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):  # a line that was broken off
            record = json.loads(line)
            if versions.get(record["id"]) == record["version"]:
                found[record["id"], record["rows"]] = record
    return found
