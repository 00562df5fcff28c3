"""What one run does differently from the defaults: its pool, its parameters, its budget.

Here belongs everything that a person may set for a run, from the launchpad or the command line. What lasts longer than
a run stands in files: recipes in ``jobs/recipes``, filter thresholds in ``HOME/filters.yaml``.
"""

from typing import Any

import dagster as dg


class Settings(dg.ConfigurableResource):
    """Settings of a run. All of them go into the data version of whatever they change."""

    sources: list[str] = []
    """The pool: which sources pool-relative indicators, clusters and recipes look at. Empty: all of them."""
    all_rows: bool = False
    """Also gather evidence and scores for rows that a filter dropped (``sluice score`` answers for every row)."""
    params: dict[str, dict[str, Any]] = {}
    """Parameters of methods: ``{"mtld": {"threshold": 0.7}}``."""
    budget: str | None = None
    """Budget of the recipes in this run, ``"1000"`` or ``"10%"``; otherwise each recipe's own."""
    seed: int | None = None
    """Seed of the recipes in this run; otherwise each recipe's own."""
    filters: dict[str, Any] = {}
    """Filter thresholds that differ from ``HOME/filters.yaml`` and the defaults."""
