"""Clusterings of vectors: planted groups, scikit-learn and brute force as oracles, edges; and their tables."""

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN, HDBSCAN
from sklearn.metrics import adjusted_rand_score

from assets import clusterings as tables
from methods.diversity import density
from methods.diversity.clustering_kinds import Clustering, numbered, to_centre
from methods.diversity.clusterings import BY_VECTORS, CLUSTERINGS, minibatch, spectral
from methods.diversity.corpus_map import principal
from methods.diversity.density import dbscan, hdbscan, knee
from methods.numerics import kmeans

METHODS = {method.id: method for method in BY_VECTORS}


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(n=120, groups=2, d=16, spread=0.08, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, groups, n)
    centres = unit(rng.normal(size=(groups, d)))
    return unit(centres[truth] + spread * rng.normal(size=(n, d))), truth


def rings(n=150, seed=0):
    """Two circles around one axis: no centre tells them apart."""
    rng = np.random.default_rng(seed)
    truth = np.arange(2 * n) % 2
    angle = rng.uniform(0, 2 * np.pi, 2 * n)
    height = np.where(truth, 0.75, -0.2)
    width = np.sqrt(1 - height**2)
    return unit(np.stack([width * np.cos(angle), width * np.sin(angle), height], axis=1)), truth


def given_k(method, k):
    return {"k": k} if "k" in method.params else {}


@pytest.mark.parametrize("name", METHODS)
def test_two_blobs_are_recovered_and_rows_without_a_vector_belong_to_none(name):
    vectors, truth = blobs()
    vectors[[3, 77]] = np.nan
    method = METHODS[name]
    found = method.fit(vectors, **given_k(method, 2))
    fine = np.isfinite(vectors[:, 0])
    assert adjusted_rand_score(truth[fine], found.labels[fine]) == 1
    assert found.labels.dtype == np.int64
    assert found.strength.dtype == np.float64
    assert found.labels[[3, 77]].tolist() == [-1, -1]
    assert np.array_equal(np.isnan(found.strength), found.labels < 0)
    assert found.facts["clusters"] == 2
    again = method.fit(vectors, **given_k(method, 2))
    assert np.array_equal(found.labels, again.labels)
    assert np.array_equal(found.strength, again.strength, equal_nan=True)


@pytest.mark.parametrize("name", METHODS)
def test_every_default_recovers_blobs_or_cuts_them_up_but_never_joins_them(name):
    vectors, truth = blobs(n=90, groups=3)
    labels = METHODS[name].fit(vectors, **METHODS[name].params).labels
    for label in range(labels.max() + 1):
        assert len(set(truth[labels == label])) == 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rows", [0, 1, 2, 12])
def test_few_rows_and_equal_rows(name, rows):
    vectors = np.repeat(unit([[3, 4, 0, 0]]), rows, axis=0)
    found = METHODS[name].fit(vectors)
    assert len(found.labels) == len(found.strength) == rows
    assert len(set(found.labels.tolist())) <= 1
    assert found.facts["clusters"] == int(found.labels.max(initial=-1)) + 1
    if name in ("minibatch", "spectral") and rows:
        assert set(found.labels.tolist()) == {0}
        assert found.strength == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_no_vector_at_all(name):
    found = METHODS[name].fit(np.full((3, 4), np.nan, dtype=np.float32))
    assert found.labels.tolist() == [-1] * 3
    assert np.isnan(found.strength).all()


# ---- mini-batch k-means ---------------------------------------------------------------------------------------------


def test_batches_find_centres_nearly_as_good_as_all_rows_do():
    vectors, _ = blobs(n=1500, groups=12, d=24, spread=0.12, seed=1)
    found = minibatch(vectors, k=12, batch=200, seed=3)
    _, whole = kmeans.assign(vectors, kmeans.fit(vectors, 12, seed=3))
    assert found.facts["batches"] > 5
    assert found.strength.mean() > 0.98 * whole.mean()


def test_labels_are_those_of_the_nearest_centre_whatever_the_batch():
    vectors, truth = blobs(n=400, groups=5, d=24, seed=2)
    assert {adjusted_rand_score(truth, minibatch(vectors, k=5, batch=size).labels) for size in (64, 400)} == {1.0}
    strength = minibatch(vectors, k=5, batch=64).strength
    assert strength == pytest.approx(to_centre(vectors, minibatch(vectors, k=5).labels), abs=0.02)


def test_a_number_of_clusters_below_one_is_refused():
    for fit in (minibatch, spectral):
        with pytest.raises(ValueError, match="k must be at least 1"):
            fit(blobs()[0], k=0)


# ---- DBSCAN ---------------------------------------------------------------------------------------------------------


def reference_agrees(vectors, eps, min_samples, found):
    """As scikit-learn, but for a row between two clusters: that one joins the nearest core row's."""
    distance = np.clip(1 - np.rint((vectors.astype(np.float64) @ vectors.T.astype(np.float64)) * 2**20) / 2**20, 0, 2)
    np.fill_diagonal(distance, 0)
    oracle = DBSCAN(eps=eps + 1e-9, min_samples=min_samples, metric="precomputed").fit(distance)
    core = np.zeros(len(vectors), dtype=bool)
    core[oracle.core_sample_indices_] = True
    assert found.facts["core rows"] == core.sum()
    assert np.array_equal(found.labels < 0, oracle.labels_ < 0)
    assert np.array_equal(found.labels[core], oracle.labels_[core])
    for row in np.flatnonzero(~core & (found.labels >= 0)):
        nearest = np.where(core, distance[row], np.inf).argmin()
        assert found.labels[row] == found.labels[nearest]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    eps=st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 2.0]),
    min_samples=st.integers(1, 6),
)
def test_dbscan_is_that_of_the_reference(seed, n, eps, min_samples):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.integers(-2, 3, size=(n, 3)) + np.array([0.5, 0, 0]))  # with copies among them
    reference_agrees(vectors, eps, min_samples, dbscan(vectors, eps=eps, min_samples=min_samples))


def test_dbscan_does_not_depend_on_blocks(monkeypatch):
    vectors, _ = blobs(n=150, groups=4, d=6, spread=0.25)
    whole = dbscan(vectors, eps=0.1)
    monkeypatch.setattr(density, "BLOCK", 7)
    monkeypatch.setattr(density, "TILE", 13)
    cut = dbscan(vectors, eps=0.1)
    assert np.array_equal(whole.labels, cut.labels)
    assert -1 in whole.labels
    reference_agrees(vectors, 0.1, 5, cut)


def test_dbscan_follows_a_ring_and_calls_a_lone_row_noise():
    vectors, truth = rings()
    vectors = np.vstack([vectors, unit([[0, 0, -1]])])
    found = dbscan(vectors, eps=0.02)
    assert adjusted_rand_score(truth, found.labels[:-1]) == 1
    assert found.labels[-1] == -1


def test_the_radius_is_at_the_knee():
    # The chord from (0, 0) to (1, 1); after the flat part the curve is farthest below it.
    assert knee(np.array([0.1, 0.1, 0.1, 0.1, 0.12, 0.5, 0.9])) == pytest.approx(0.12)
    assert knee(np.array([0.3, 0.3, 0.3])) == pytest.approx(0.3)
    assert knee(np.array([0.10, 0.11, 0.12, 0.16])) == pytest.approx(0.16)  # nothing lies apart
    assert knee(np.array([])) == 0


def test_the_distances_of_the_knee_are_those_to_the_fourth_other_row():
    vectors, _ = blobs(n=60)
    away = np.sort(1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64), axis=1)
    assert density._k_distances(vectors, 4, 0) == pytest.approx(away[:, 4], abs=2e-6)
    some = density._k_distances(vectors, 4, 0, most=10)
    assert len(some) == 10
    assert all(np.abs(away[:, 4] - one).min() < 2e-6 for one in some)


def test_in_cells_no_neighbour_is_invented_and_blobs_stay_whole():
    vectors, truth = blobs(n=600, groups=6, d=24)
    whole, cells = dbscan(vectors), dbscan(vectors, most=100, probes=8)
    assert cells.facts["neighbours"].startswith("approximate")
    assert cells.facts["core rows"] <= whole.facts["core rows"]
    for label in range(cells.labels.max() + 1):
        assert len(set(truth[cells.labels == label])) == 1
    # With all cells looked at nothing is missed.
    every = dbscan(vectors, most=100, probes=10**6)
    assert np.array_equal(every.labels, whole.labels)


def test_what_makes_no_radius_is_refused():
    with pytest.raises(ValueError, match="eps"):
        dbscan(blobs()[0], eps=-0.1)
    with pytest.raises(ValueError, match="min_samples"):
        dbscan(blobs()[0], min_samples=0)


# ---- HDBSCAN --------------------------------------------------------------------------------------------------------


def test_hdbscan_is_the_reference_on_principal_components():
    vectors, _ = blobs(n=300, groups=4, d=12, spread=0.2)
    found = hdbscan(vectors, min_cluster_size=8, dimensions=5)
    oracle = HDBSCAN(min_cluster_size=8, algorithm="brute", copy=True).fit(principal(vectors, 5))
    assert np.array_equal(found.labels < 0, oracle.labels_ < 0)
    assert adjusted_rand_score(found.labels, oracle.labels_) == 1
    inside = found.labels >= 0
    assert found.strength[inside] == pytest.approx(oracle.probabilities_[inside], abs=1e-6)
    assert found.facts["noise rows"] == (~inside).sum() > 0


def test_rows_that_were_not_fitted_go_with_their_nearest_fitted_row():
    vectors, truth = blobs(n=400, groups=3, d=24)
    found = hdbscan(vectors, most=100)
    assert found.facts["rows fitted"] == 100
    assert adjusted_rand_score(truth, found.labels) == 1


# ---- spectral -------------------------------------------------------------------------------------------------------


def test_spectral_follows_rings_where_centres_cannot():
    vectors, truth = rings()
    assert adjusted_rand_score(truth, spectral(vectors, k=2).labels) == 1
    assert adjusted_rand_score(truth, minibatch(vectors, k=2).labels) < 0.9


def test_iterated_eigenvectors_give_what_all_eigenvectors_give(monkeypatch):
    vectors, truth = blobs(n=500, groups=6, d=24)
    whole = spectral(vectors, k=6)
    monkeypatch.setattr("methods.diversity.clusterings.DENSE_SPECTRAL", 0)
    iterated = spectral(vectors, k=6)
    assert 0 < iterated.facts["largest residual"] < 1e-3
    assert adjusted_rand_score(truth, iterated.labels) == adjusted_rand_score(truth, whole.labels) == 1


def test_landmarks_stand_for_rows():
    vectors, truth = blobs(n=600, groups=5, d=24)
    found = spectral(vectors, k=5, most=100, landmarks=60)
    assert "landmarks" in found.facts["graph"]
    assert adjusted_rand_score(truth, found.labels) == 1


def test_copies_stay_together_and_do_not_cut_the_graph():
    vectors, truth = blobs(n=40)
    copied = np.vstack([vectors, np.repeat(vectors[:1], 30, axis=0)])
    found = spectral(copied, k=2, neighbours=5)
    assert set(found.labels[40:].tolist()) == {int(found.labels[0])}
    assert adjusted_rand_score(truth, found.labels[:40]) == 1


# ---- shared, and the tables -----------------------------------------------------------------------------------------


def test_labels_count_from_the_first_row():
    labels, count = numbered(np.array([7, -1, 3, 7, 0]))
    assert labels.tolist() == [0, -1, 1, 0, 2]
    assert count == 3


def test_strength_is_the_cosine_to_the_mean():
    vectors = unit([[1, 0], [0, 1], [0, 1], [1, 0], [-1, 0]])
    found = to_centre(vectors, np.array([0, 0, -1, 1, 1]))
    assert found[:2] == pytest.approx(np.sqrt(0.5))
    assert np.isnan(found[2:]).all()  # no cluster; rows that cancel out have no direction in common


def test_the_catalogue_names_every_clustering_once():
    assert [method.id for method in CLUSTERINGS] == [
        *("minibatch", "dbscan", "hdbscan", "spectral", "lda", "nmf", "tfidf", "latent_concept")
    ]
    for method in CLUSTERINGS:
        signature = method.fit.__kwdefaults__ or dict(
            zip(
                method.fit.__code__.co_varnames[1 : method.fit.__code__.co_argcount],
                method.fit.__defaults__,
                strict=True,
            )
        )
        assert signature == dict(method.params)


def test_each_clustering_becomes_an_asset():
    built = tables.build_assets(CLUSTERINGS)
    assert [asset.key.to_user_string() for asset in built] == [f"clustered/{method.id}" for method in CLUSTERINGS]
    for asset in built:
        assert {key.to_user_string() for key in asset.asset_deps[asset.key]} == {
            *("filtered/pool", "filtered/instructions", "embedded/minilm")
        }
        (spec,) = asset.specs
        assert spec.group_name == "clustered"
        assert spec.automation_condition is not None


def test_the_table_of_a_clustering():
    vectors, truth = blobs(n=30)
    labels = np.where(np.arange(30) < 3, -1, truth)
    strength = np.where(labels < 0, np.nan, 0.5)
    texts = pl.DataFrame(
        {"row_id": [f"{i:032x}" for i in range(30)], "text": [("cats purr", "stocks fell")[t] for t in truth]}
    ).with_columns(text=pl.when(pl.int_range(30) == 5).then(None).otherwise("text"))
    found = tables.result(texts, vectors, Clustering(labels, strength, {"eps": 0.25}), ["a"])
    frame = found.data
    assert frame.schema == {"row_id": pl.String, "cluster": pl.Int64, "strength": pl.Float64, "status": pl.String}
    assert frame["strength"].null_count() == frame.filter(status="no_cluster").height == 3
    assert found.facts["clusters"] == 2
    assert found.facts["eps"] == 0.25
    assert found.facts["share in a cluster"] == pytest.approx(0.9)
    named = found.metadata["what each cluster is about"]
    assert isinstance(named, dg.TableMetadataValue)
    assert {record.data["top_terms"].split(", ")[0] for record in named.records} == {"cats", "fell"}
    assert "data:image/svg+xml" in found.metadata["map"].md_str


def test_the_table_of_an_empty_pool():
    texts = pl.DataFrame(schema={"row_id": pl.String, "text": pl.String})
    nothing = np.empty((0, 4), dtype=np.float32)
    found = tables.result(texts, nothing, minibatch(nothing), [])
    assert found.data.is_empty()
    assert found.facts["clusters"] == 0
