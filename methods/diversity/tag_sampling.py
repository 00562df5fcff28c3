"""Choosing by tags: rows with many of them first, each for a tag that is not there yet (InsTag).

Here belongs the choice by tags that a row has. Giving tags, and measuring how many of them a set covers, do not.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter

import numpy as np
import polars as pl

from methods.kinds import Candidates, Chosen, Selector
from methods.selection.basic import at_most

NAMED = 5
"""Tags that a reason names."""


def instag_sampling(candidates: Candidates, budget: int, seed: int = 0) -> Chosen:
    """Complexity first, then diversity: rows go by their number of tags, and each must add one unseen in its pass.

    Algorithm: sort the rows by the number of their distinct tags, most first, ties by lowest index. A pass begins with
    no tag seen and walks down the rows that are left; a row is taken iff it has a tag that is unseen, and all its tags
    are then seen. At the end begins a new pass over the rows that are left. Stop as soon as the budget is reached.

    Rows without tags (none, or null) can add nothing; they come last, in an order drawn by `seed`, and the reason says
    so. The seed is not used before.

    Gain: unseen tags that the row added in its pass (0 without tags). `nearest` is not known.

    Source: Lu et al. 2023 (arXiv 2308.07074), the survey's Alg. 1.

    Departures: the printed algorithm takes the largest D_x where the largest |D_x| is meant, asks for |S_b| = b only at
    the end of a pass and so may take too many, and changes the set that it walks over; it does not say what becomes of
    rows without tags, on which its passes would never end. Rows of the same tags are walked together, of which a pass
    takes at most one: the choice is the same, and many rows of few tags cost no more than a few.
    """
    n_take = at_most(candidates, budget)
    if candidates.tags is None:
        raise ValueError("instag_sampling needs tags: run it on rows whose source gives them")
    if len(candidates.tags) != len(candidates):
        raise ValueError(f"instag_sampling: {len(candidates.tags)} tags do not fit {len(candidates)} candidates")
    groups, untagged = _groups(candidates.tags)
    order: list[int] = []
    gain: list[int] = []
    reason: list[str] = []
    number = 0
    groups_with = Counter(tag for group in groups for tag in group.tags)
    while groups and len(order) < n_take:
        number += 1
        taken = _one_pass(groups, set(groups_with), n_take - len(order))
        for place, added in taken:
            n_tags = len(groups[place].tags)
            order.append(groups[place].rows.pop())
            gain.append(len(added))
            names = ", ".join(added[:NAMED]) + (", ..." if len(added) > NAMED else "")
            reason.append(f"pass {number}: {len(added)} of its {n_tags} tags not seen before ({names})")
        _put_back(groups, [place for place, _ in taken], groups_with)
    if len(order) < n_take:
        rest = np.random.default_rng(seed).permutation(untagged)[: n_take - len(order)].tolist()
        order += rest
        gain += [0] * len(rest)
        reason += ["no tags: drawn by chance after all rows that have some"] * len(rest)
    return Chosen(np.array(order, dtype=np.int64), np.array(gain, dtype=np.float64), reason)


class _Group:
    """The rows that have the same tags, the last of them first."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self.tags = tags
        self.rows: list[int] = []

    def place(self) -> tuple[int, int]:
        """Where its first row stands in the walk."""
        return -len(self.tags), self.rows[-1]


def _groups(tags: pl.Series) -> tuple[list[_Group], list[int]]:
    """Rows by their tags in the order of the walk, and the rows without tags."""
    found: dict[tuple[str, ...], _Group] = {}
    untagged = []
    clean = tags.cast(pl.List(pl.String)).list.drop_nulls().list.unique(maintain_order=True).to_list()
    for row in range(len(clean) - 1, -1, -1):
        own = tuple(clean[row] or ())
        if own:
            # Named in the order in which the first row has them.
            group = found.setdefault(tuple(sorted(own)), _Group(own))
            group.tags = own
            group.rows.append(row)
        else:
            untagged.append(row)
    return sorted(found.values(), key=_Group.place), untagged[::-1]


def _one_pass(groups: list[_Group], unseen: set[str], most: int) -> list[tuple[int, list[str]]]:
    """Places of the groups whose first row a pass takes, with the tags that each adds; ``unseen`` is used up."""
    taken: list[tuple[int, list[str]]] = []
    for place, group in enumerate(groups):
        if len(taken) == most or not unseen:
            break
        added = [tag for tag in group.tags if tag in unseen]
        if added:
            unseen.difference_update(added)
            taken.append((place, added))
    return taken


def _put_back(groups: list[_Group], places: list[int], groups_with: Counter[str]) -> None:
    """Groups that a row was taken from go where their next row stands; those without one leave, with their tags."""
    moved = [groups.pop(place) for place in reversed(places)]
    for group in moved:
        if group.rows:
            insort(groups, group, key=_Group.place)
            continue
        for tag in group.tags:
            groups_with[tag] -= 1
            if not groups_with[tag]:
                del groups_with[tag]


SELECTORS = (
    Selector(
        id="instag_sampling",
        title="InsTag: many tags first, each row for a new one",
        axis="diversity",
        family="handcrafted",
        section="4.2",
        equation="walk by |tags(x)| descending; take x iff tags(x) is not within the tags seen in this pass",
        paper="Lu et al. 2023 (InsTag), arXiv 2308.07074",
        meaning="Covers the pool's tags with the rows that have most of them; rows without tags come last.",
        needs=("tags",),
        params={},
        select=instag_sampling,
    ),
)
