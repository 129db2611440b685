from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from facechain.gan import feature_space
from facechain.gan.cluster_files import write_clustering, write_umap
from facechain.gan.cluster_quality import measure_quality
from facechain.gan.clustering import (
    WITHHELD,
    ClusteringOptions,
    SmallClusters,
    cluster_images,
    merge_small,
    withhold_small,
)
from facechain.gan.datasets import open_array
from facechain.gan.errors import ConfigError, DatasetError
from facechain.gan.feature_space import project
from facechain.gan.kmeans import CHOICES, Backend, choose_clusters
from support.faces import made_faces

FACES = made_faces(people=10, per_person=12)
SEED = bytes(32)


def test_clustering_is_the_same_for_the_same_seed() -> None:
    options = ClusteringOptions(clusters=10, components=16)
    first = cluster_images(FACES.images, options=options, seed=SEED)
    second = cluster_images(FACES.images, options=options, seed=SEED)
    assert np.array_equal(first.labels, second.labels)
    assert first.encode() == second.encode()


def test_clusters_find_what_looks_alike() -> None:
    found = cluster_images(FACES.images, options=ClusteringOptions(clusters=10, components=16), seed=SEED)
    pure = sum(
        np.bincount(np.unique(np.array(FACES.identities)[found.labels == c], return_inverse=True)[1]).max()
        for c in range(len(found.centroids))
    )
    assert pure / len(FACES) > 0.7
    assert found.sizes.sum() == len(FACES)
    assert found.sizes.min() >= 1


def test_each_image_is_in_the_nearest_cluster() -> None:
    found = cluster_images(FACES.images, options=ClusteringOptions(clusters=8, components=12), seed=SEED)
    points = project(FACES.images, found.mean, found.basis)
    distances = ((points[:, None] - found.centroids[None]) ** 2).sum(axis=2)
    assert np.array_equal(distances.argmin(axis=1), found.labels)


def test_basis_is_orthonormal_and_keeps_most_variance() -> None:
    for faces in (FACES, made_faces(people=4, per_person=4)):
        found = cluster_images(faces.images, options=ClusteringOptions(clusters=4, components=10), seed=SEED)
        assert np.allclose(found.basis @ found.basis.T, np.eye(10), atol=1e-4)
        assert 0.5 < found.explained <= 1


def test_small_clusters_are_merged_into_the_nearest() -> None:
    labels = np.array([0] * 5 + [1] * 5 + [2] + [4] * 2)
    centroids = np.array([[0.0], [10.0], [9.0], [50.0], [1.0]], dtype=np.float32)
    merged, places = merge_small(labels, centroids, least=3)
    assert merged.tolist() == [0] * 5 + [1] * 5 + [1] + [0] * 2
    assert places[:, 0].tolist() == pytest.approx([2 / 7, 59 / 6])
    untouched, places = merge_small(labels, centroids, least=1)
    assert len(places) == 4
    assert sorted(set(untouched.tolist())) == [0, 1, 2, 3]


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="more clusters"):
        cluster_images(FACES.images[:3], options=ClusteringOptions(clusters=4), seed=SEED)
    with pytest.raises(ConfigError):
        ClusteringOptions(clusters=70_000)
    with pytest.raises(ConfigError):
        ClusteringOptions(k_min_cluster_size=0)


def test_written_result_has_model_table_and_charts(tmp_path: Path) -> None:
    options = ClusteringOptions(clusters=5, k_min_cluster_size=4, components=1)
    found = cluster_images(FACES.images, options=options, seed=SEED)
    digest = write_clustering(found, FACES.names, FACES.images, tmp_path)
    assert len(digest) == 32
    rows = (tmp_path / "clusters.csv").read_text().splitlines()
    assert rows[0] == "file,cluster"
    assert len(rows) == 1 + len(FACES)
    for name in ("clusters-pca.png", "cluster-sizes.png", "cluster-medoids.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_small_clusters_are_withheld_whole() -> None:
    labels = np.array([0] * 5 + [1] * 2 + [2] * 4 + [3])
    centroids = np.arange(4, dtype=np.float32)[:, None]
    kept, places = withhold_small(labels, centroids, least=3)
    assert kept.tolist() == [0] * 5 + [WITHHELD] * 2 + [1] * 4 + [WITHHELD]
    assert places[:, 0].tolist() == [0, 2]


def test_withheld_images_are_in_no_size_medoid_or_label(tmp_path: Path) -> None:
    odd = np.full((1, 16, 16, 3), 255, dtype=np.uint8)
    images = np.concatenate([FACES.images, odd])
    options = ClusteringOptions(clusters=12, components=4, k_min_cluster_size=9, small=SmallClusters.WITHHOLD)
    found = cluster_images(images, options=options, seed=SEED)
    gone = found.labels == WITHHELD
    assert 0 < gone.sum() < len(images)
    assert found.sizes.sum() == (~gone).sum()
    assert not gone[found.medoids].any()
    left = found.without(gone)
    assert len(left.points) == len(left.labels) == (~gone).sum()
    write_clustering(found, [str(n) for n in range(len(images))], images, tmp_path)
    table = (tmp_path / "clusters.csv").read_text()
    assert table.count(",withheld\n") == gone.sum()
    with pytest.raises(ConfigError, match="every cluster is withheld"):
        cluster_images(images, options=replace(options, clusters=60, k_min_cluster_size=60), seed=SEED)


def test_medoids_are_the_members_nearest_to_their_centroids() -> None:
    found = cluster_images(FACES.images, options=ClusteringOptions(clusters=6, components=8), seed=SEED)
    distances = ((found.points - found.centroids[found.labels]) ** 2).sum(axis=1)
    for number, medoid in enumerate(found.medoids):
        members = np.flatnonzero(found.labels == number)
        assert medoid in members
        assert distances[medoid] == distances[members].min()


def test_pixels_mapped_from_a_file_give_the_same_clusters(tmp_path: Path) -> None:
    np.save(tmp_path / "faces.npy", FACES.images)
    mapped = open_array(tmp_path / "faces.npy")
    assert isinstance(mapped.images, np.memmap)
    options = ClusteringOptions(clusters=7, components=9)
    first = cluster_images(FACES.images, options=options, seed=SEED)
    second = cluster_images(mapped.images, options=options, seed=SEED)
    assert first.encode() == second.encode()
    assert np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize(
    "written, said",
    [
        (np.zeros((3, 4, 4), np.uint8), "uint8"),
        (np.zeros((3, 4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 4, 3), np.uint8), "number of images"),
    ],
)
def test_arrays_that_hold_no_images_are_refused(
    written: NDArray[np.generic], said: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "faces.npy", written)
    with pytest.raises(DatasetError, match=said):
        open_array(tmp_path / "faces.npy")


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no array")
    for name in ("text.npy", "missing.npy"):
        with pytest.raises(DatasetError, match="NumPy file"):
            open_array(tmp_path / name)


def test_points_beyond_the_limit_live_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ClusteringOptions(clusters=7, components=9)
    in_memory = cluster_images(FACES.images, options=options, seed=SEED)
    monkeypatch.setattr(feature_space, "POINTS_IN_MEMORY_BYTES", 1_000)
    in_file = cluster_images(FACES.images, options=options, seed=SEED)
    assert isinstance(in_file.points, np.memmap)
    assert in_file.encode() == in_memory.encode()


def test_faiss_finds_the_clusters_that_scikit_learn_finds() -> None:
    options = ClusteringOptions(clusters=10, components=16, backend=Backend.FAISS)
    found = cluster_images(FACES.images, options=options, seed=SEED)
    again = cluster_images(FACES.images, options=options, seed=SEED)
    assert found.encode() == again.encode()
    reference = cluster_images(FACES.images, options=replace(options, backend=Backend.SKLEARN), seed=SEED)
    assert adjusted_rand_score(reference.labels, found.labels) > 0.5


def test_quality_prefers_the_real_number_of_people() -> None:
    right = cluster_images(FACES.images, options=ClusteringOptions(clusters=10, components=16), seed=SEED)
    wrong = cluster_images(FACES.images, options=ClusteringOptions(clusters=40, components=16), seed=SEED)
    good, bad = measure_quality(right, seed=SEED), measure_quality(wrong, seed=SEED)
    assert good.silhouette is not None
    assert bad.silhouette is not None
    assert good.silhouette > bad.silhouette
    assert good.silhouette_points == len(FACES)
    assert good.davies_bouldin is not None
    assert good.davies_bouldin > 0
    assert 0 < good.variance_explained < bad.variance_explained < 1
    single = cluster_images(FACES.images, options=ClusteringOptions(clusters=1, components=4), seed=SEED)
    assert measure_quality(single, seed=SEED).silhouette is None


def test_the_chosen_number_is_where_more_clusters_stop_to_pay() -> None:
    draw = np.random.default_rng(0)
    places = draw.normal(size=(16, 6)) * 10
    points = (places[draw.integers(16, size=1_500)] + draw.normal(size=(1_500, 6)) * 0.2).astype(np.float32)
    noise = draw.normal(size=(2_000, 20)).astype(np.float32)
    same = np.zeros((200, 3), np.float32)
    with threadpool_limits(limits=1):
        chosen = [choose_clusters(some, random_state=0) for some in (points, noise, points[:20], same)]
    assert chosen == [16, CHOICES[-2], 1, CHOICES[0]]


def test_zero_clusters_lets_the_criterion_choose() -> None:
    found = cluster_images(FACES.images, options=ClusteringOptions(clusters=0, components=16), seed=SEED)
    assert len(found.centroids) in CHOICES


@pytest.mark.filterwarnings("ignore::ImportWarning", "ignore::UserWarning")
def test_umap_draws_a_scatter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than all other tests here
    found = cluster_images(FACES.images[:24], options=ClusteringOptions(clusters=4, components=4), seed=SEED)
    write_umap(found, tmp_path, seed=SEED)
    assert (tmp_path / "clusters-umap.png").read_bytes().startswith(b"\x89PNG")
