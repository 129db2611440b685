"""Clusters of synthetic faces, and what becomes of those that are too small.

They group pose, light, background and hair, as far as pixels tell (`feature_space`); it is not a space of identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .datasets import Pixels
from .errors import ConfigError
from .feature_space import Floats, principal_components, project
from .kmeans import Backend, choose_clusters, find_centroids, nearest_centroids
from .latents import derive_seed

DEFAULT_CLUSTERS = 125
MAX_CLUSTERS = 65_534
DEFAULT_COMPONENTS = 64
WITHHELD = -1
"""Label of an image that is in no cluster and must not be released."""
FEATURE_SPACE = "pca-of-pixels"


class SmallClusters(StrEnum):
    """What becomes of clusters below the least size."""

    MERGE = "merge"
    WITHHOLD = "withhold"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringOptions:
    """What decides a clustering besides the images."""

    clusters: int = DEFAULT_CLUSTERS
    """How many; 0 lets `choose_clusters` choose."""
    k_min_cluster_size: int = 1
    """Smaller clusters are merged or withheld. This is no k-anonymity."""
    small: SmallClusters = SmallClusters.MERGE
    components: int = DEFAULT_COMPONENTS
    backend: Backend = Backend.SKLEARN

    def __post_init__(self) -> None:
        """Refuse values that have no meaning."""
        if not 0 <= self.clusters <= MAX_CLUSTERS:
            raise ConfigError("clusters", expected=f"1..{MAX_CLUSTERS}, or 0", got=str(self.clusters))
        if self.k_min_cluster_size < 1 or self.components < 1:
            raise ConfigError(
                "clustering options",
                expected="k_min_cluster_size and components of at least 1",
                got=f"{self.k_min_cluster_size} and {self.components}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """Result of a clustering.

    Attributes:
        labels: (N,) cluster of each image, 0..K-1, each cluster with at least one member; `WITHHELD` where its
            cluster was too small.
        centroids: (K, C) in the feature space.
        mean: (D,) subtracted from the pixels.
        basis: (C, D) principal components.
        points: (N, C) images in the feature space.
        explained: share of the variance that the components keep.
    """

    labels: NDArray[np.int64]
    centroids: Floats
    mean: Floats
    basis: Floats
    points: Floats
    explained: float

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Members of each cluster, (K,)."""
        return np.bincount(self.labels[self.labels != WITHHELD], minlength=len(self.centroids)).astype(
            np.int64
        )

    @property
    def medoids(self) -> NDArray[np.int64]:
        """Image nearest to each centroid among its members, (K,)."""
        distances = ((self.points - self.centroids[self.labels]) ** 2).sum(axis=1)
        order = np.lexsort((distances, self.labels))
        order = order[self.labels[order] != WITHHELD]
        _, first = np.unique(self.labels[order], return_index=True)
        found: NDArray[np.int64] = order[first].astype(np.int64)
        return found

    def without(self, gone: NDArray[np.bool_]) -> Clustering:
        """The same model for the images where `gone` (N,) is false."""
        return replace(self, labels=self.labels[~gone], points=self.points[~gone])

    def encode(self) -> bytes:
        """The model (mean, basis, centroids) as safetensors; its SHA-256 is the stage's artifact."""
        from safetensors.numpy import save

        tensors = {"mean": self.mean, "basis": self.basis, "centroids": self.centroids}
        return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


def cluster_images(images: Pixels, *, options: ClusteringOptions, seed: bytes) -> Clustering:
    """Cluster (N, H, W, 3) uint8 images; the same images, options and seed give the same result.

    `images` may be mapped from a file: its pixels are read in chunks, and what is kept of an image is its point.

    Raises:
        ConfigError: fewer images than clusters, or a backend that is not installed.
    """
    if len(images) < options.clusters:
        raise ConfigError(
            "more clusters than images",
            expected=f"at most {len(images)} clusters",
            got=str(options.clusters),
            hint="lower --clusters or generate more images",
        )
    from threadpoolctl import threadpool_limits

    random_state = derive_seed(seed, "facechain/clustering")
    with threadpool_limits(limits=1):  # sums split by thread would differ in the last bits
        mean, basis, explained = principal_components(images, options.components)
        points = project(images, mean, basis)
        count = options.clusters or choose_clusters(points, random_state=random_state)
        centroids = find_centroids(points, count, backend=options.backend, random_state=random_state)
        labels = nearest_centroids(points, centroids)
    if options.small is SmallClusters.MERGE:
        labels, centroids = merge_small(labels, centroids, least=options.k_min_cluster_size)
    else:
        labels, centroids = withhold_small(labels, centroids, least=options.k_min_cluster_size)
    if not len(centroids):
        raise ConfigError(
            "every cluster is withheld",
            expected=f"a cluster of at least {options.k_min_cluster_size} faces",
            got=f"{len(images)} faces in {count} clusters",
            hint="lower --k-min-cluster-size or --clusters",
        )
    return Clustering(
        labels=labels, centroids=centroids, mean=mean, basis=basis, points=points, explained=explained
    )


def merge_small(
    labels: NDArray[np.int64], centroids: Floats, *, least: int
) -> tuple[NDArray[np.int64], Floats]:
    """Drop empty clusters and merge those below `least` members into the nearest, smallest first.

    Returns labels 0..K-1 without gaps, and the centroids of what is left (weighted means).
    """
    sizes = np.bincount(labels, minlength=len(centroids)).astype(np.int64)
    target = np.arange(len(centroids))
    places = centroids.astype(np.float64)
    alive = sizes > 0
    while alive.sum() > 1:
        small = int(np.where(alive, sizes, np.iinfo(np.int64).max).argmin())
        if sizes[small] >= least:
            break
        distances = np.where(alive, ((places - places[small]) ** 2).sum(axis=1), np.inf)
        distances[small] = np.inf
        into = int(distances.argmin())
        total = sizes[into] + sizes[small]
        places[into] = (places[into] * sizes[into] + places[small] * sizes[small]) / total
        sizes[into], sizes[small], alive[small] = total, 0, False
        target[target == small] = into
    numbers = np.cumsum(alive) - 1
    return numbers[target[labels]].astype(np.int64), places[alive].astype(np.float32)


def withhold_small(
    labels: NDArray[np.int64], centroids: Floats, *, least: int
) -> tuple[NDArray[np.int64], Floats]:
    """Give images of clusters below `least` members the label `WITHHELD`; the others count from 0 without gaps."""
    kept = np.bincount(labels, minlength=len(centroids)) >= max(1, least)
    numbers = np.where(kept, np.cumsum(kept) - 1, WITHHELD)
    return numbers[labels].astype(np.int64), centroids[kept]
