from pathlib import Path

import numpy as np
import pytest

from facechain.gan.clustering import (
    ClusteringOptions,
    cluster_images,
    merge_small,
    project,
    write_clustering,
)
from facechain.gan.errors import ConfigError
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
    digest = write_clustering(found, list(FACES.names), tmp_path)
    assert len(digest) == 32
    rows = (tmp_path / "clusters.csv").read_text().splitlines()
    assert rows[0] == "file,cluster"
    assert len(rows) == 1 + len(FACES)
    for name in ("clusters-pca.png", "cluster-sizes.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
