"""Structure that was planted: small clusters and copies, and what each selector makes of them that chance does not."""

import numpy as np
import polars as pl
import pytest

from methods.catalog import SELECTORS
from methods.kinds import Candidates

BY_ID = {selector.id: selector for selector in SELECTORS}
SIZES = (200, 100, 50, 24, 12, 6, 4, 2)
WIDTH, COPIES, FAMILIES = 64, 9, 4
SEEDS = range(3)
BUDGET = 24
CHANCE = 40
"""Random choices of each set."""


class Planted:
    """Clusters at right angles, their rows at cosines of about .66 to each other; families of ten rows above .99."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.cluster = np.repeat(np.arange(len(SIZES)), SIZES)
        noise = rng.normal(size=(len(self.cluster), WIDTH))
        noise[:, : len(SIZES)] = 0  # the centres' own directions
        vectors = unit(np.eye(WIDTH)[self.cluster] + 0.72 * unit(noise))
        self.family = np.arange(len(vectors))
        for first in range(FAMILIES):  # all in the two largest clusters
            rows = np.arange(first * (COPIES + 1), (first + 1) * (COPIES + 1)) + SIZES[0] * (first % 2)
            vectors[rows] = unit(vectors[rows[0]] + 0.05 * unit(rng.normal(size=(len(rows), WIDTH))))
            self.family[rows] = rows[0]
        order = rng.permutation(len(vectors))
        self.vectors = vectors[order].astype(np.float32)
        self.cluster, self.family = self.cluster[order], self.family[order]
        noise = rng.normal(size=len(vectors))
        blind = Candidates(
            pl.Series([f"r{i}" for i in order]), vectors=self.vectors, clusters=self.cluster, score=noise
        )
        # Copies are the best rows of all: whoever looks at the score alone takes them.
        copied = 3.0 * (np.bincount(self.family, minlength=len(order))[self.family] > 1)
        good = Candidates(blind.row_ids, vectors=self.vectors, clusters=self.cluster, score=noise / 10 + copied)
        self.pools = {"blind": blind, "copies first": good}

    def choose(self, name: str, score: str = "blind", budget: int = BUDGET, seed: int = 0, **options) -> np.ndarray:
        selector = BY_ID[name]
        order = selector.select(self.pools[score], budget, seed, **{**selector.params, **options}).order
        assert len(set(order.tolist())) == len(order) <= budget
        return order

    def hit(self, order: np.ndarray) -> int:
        return len(set(self.cluster[order].tolist()))

    def twins(self, order: np.ndarray) -> int:
        """Chosen rows that say what another chosen row says."""
        return len(order) - len(set(self.family[order].tolist()))

    def away(self, order: np.ndarray) -> np.ndarray:
        """Distance of each row of the pool to the nearest chosen one."""
        nearest = (self.vectors.astype(np.float64) @ self.vectors[order].T.astype(np.float64)).max(axis=1)
        return np.sqrt(np.maximum(2 - 2 * nearest, 0))

    def by_chance(self, measure) -> list[float]:
        return [float(measure(self.choose("random", seed=seed))) for seed in range(CHANCE)]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module", params=SEEDS)
def made(request) -> Planted:
    return Planted(request.param)


COVERING = (
    ("k_center_greedy", {}),
    ("reverse_semantic_search", {}),
    ("facility_location", {}),
    ("mmr", {"weight": 0.1}),
    ("dpp_greedy", {"theta": 0.0}),
    ("quality_weighted_vendi_greedy", {}),
)
WITHOUT_TWINS = (
    ("k_center_greedy", {}),
    ("reverse_semantic_search", {}),
    ("facility_location", {}),
    ("representative", {}),
    ("deita_repr_filter", {}),
    ("mmr", {"weight": 0.1}),
    ("dpp_greedy", {"theta": 0.0}),
    ("semdedup", {"clusters": "given"}),
    ("superfiltering_d", {}),
)


def test_the_set_holds_what_it_says(made):
    cosine = made.vectors @ made.vectors.T
    same_family = made.family[:, None] == made.family[None]
    same_cluster = made.cluster[:, None] == made.cluster[None]
    assert cosine[same_family].min() > 0.98 and cosine[~same_family].max() < 0.9
    assert cosine[same_cluster].min() > 0.3 and cosine[~same_cluster].max() < 0.3
    assert sorted(np.bincount(made.cluster).tolist()) == sorted(SIZES)
    assert (np.bincount(made.family) == COPIES + 1).sum() == FAMILIES


def test_chance_misses_clusters_and_takes_twins(made):
    """What the others are held against; with 24 rows of 398 the four smallest clusters (24 rows) get 1.4."""
    assert max(made.by_chance(made.hit)) < len(SIZES)
    assert np.mean(made.by_chance(made.twins)) > 0.2


@pytest.mark.parametrize(("name", "options"), COVERING, ids=[name for name, _ in COVERING])
def test_every_cluster_is_covered(made, name, options):
    assert made.hit(made.choose(name, **options)) == len(SIZES)


@pytest.mark.parametrize("score", ["blind", "copies first"])
@pytest.mark.parametrize(("name", "options"), WITHOUT_TWINS, ids=[name for name, _ in WITHOUT_TWINS])
def test_no_two_say_the_same(made, name, options, score):
    order = made.choose(name, score, **options)
    assert len(order) == BUDGET and made.twins(order) == 0


def test_the_score_alone_takes_every_copy(made):
    """The same set on which the filters above take none."""
    order = made.choose("top_k", "copies first")
    assert made.twins(order) >= BUDGET - FAMILIES
    # At qdit's default weight the score decides; at a small one the pool does.
    assert made.twins(made.choose("qdit", "copies first")) > made.twins(made.choose("qdit", alpha=0.001)) == 0


def test_k_center_has_the_smallest_radius_and_facility_location_the_smallest_mean(made):
    farthest, typical = made.choose("k_center_greedy"), made.choose("facility_location")
    radius, mean = (
        made.by_chance(lambda order: made.away(order).max()),
        made.by_chance(lambda order: made.away(order).mean()),
    )
    assert made.away(farthest).max() < min(radius)
    assert made.away(typical).mean() < min(mean) < made.away(farthest).mean()


def test_all_are_wanted_before_any_is_repeated(made):
    """K-center takes a second row of a family only after a row of each: never while a row lies farther off."""
    whole = made.choose("k_center_greedy", budget=len(made.family))
    families = made.family[whole]
    n = len(set(made.family.tolist()))
    assert len(set(families[:n].tolist())) == n < len(whole)


def test_clusters_given_are_served_alike_or_by_size(made):
    order = made.choose("stratified", allocation="equal")
    assert np.bincount(made.cluster[order]).tolist() == [4, 3, 3, 3, 3, 3, 3, 2]  # the smallest has no third row
    assert made.hit(made.choose("stratified")) < len(SIZES)


@pytest.mark.parametrize("name", ["k_center_greedy", "facility_location", "semdedup", "dpp_greedy", "d4"])
def test_the_same_again(made, name):
    assert made.choose(name, seed=5).tolist() == made.choose(name, seed=5).tolist()
