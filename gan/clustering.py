"""Mini-batch k-means over synthetic faces.

Feature space: the leading principal components of the pixels in [0, 1], fitted on the very images
that are clustered. It has no weights to download and sees no real face; Euclidean distance in it is
pixel distance without the components that are mostly noise, so clusters group pose, light,
background and hair. It is not a space of identity.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .checkpoints import write_atomically
from .datasets import Pixels
from .errors import ConfigError
from .latents import derive_seed

DEFAULT_CLUSTERS = 125
MAX_CLUSTERS = 65_534
DEFAULT_COMPONENTS = 64
FIT_SAMPLE = 20_000
MINI_BATCH = 1_024
RESTARTS = 3
MAX_PASSES = 100
FEATURE_SPACE = "pca-of-pixels"
CLUSTERS_FILE = "clusters.safetensors"
LABELS_FILE = "clusters.csv"
SCATTER_FILE = "clusters-pca.png"
HISTOGRAM_FILE = "cluster-sizes.png"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringOptions:
    """What decides a clustering besides the images."""

    clusters: int = DEFAULT_CLUSTERS
    k_min_cluster_size: int = 1
    """Smaller clusters are merged into the nearest one. This is no k-anonymity."""
    components: int = DEFAULT_COMPONENTS

    def __post_init__(self) -> None:
        """Refuse values that have no meaning."""
        if not 1 <= self.clusters <= MAX_CLUSTERS:
            raise ConfigError("clusters", expected=f"1..{MAX_CLUSTERS}", got=str(self.clusters))
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
        labels: (N,) cluster of each image, 0..K-1, each cluster with at least one member.
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
        return np.bincount(self.labels, minlength=len(self.centroids)).astype(np.int64)

    def encode(self) -> bytes:
        """The model (mean, basis, centroids) as safetensors; its SHA-256 is the stage's artifact."""
        from safetensors.numpy import save

        tensors = {"mean": self.mean, "basis": self.basis, "centroids": self.centroids}
        return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


def cluster_images(images: Pixels, *, options: ClusteringOptions, seed: bytes) -> Clustering:
    """Cluster (N, H, W, 3) uint8 images; the same images, options and seed give the same result.

    Raises:
        ConfigError: fewer images than clusters.
    """
    if len(images) < options.clusters:
        raise ConfigError(
            "more clusters than images",
            expected=f"at most {len(images)} clusters",
            got=str(options.clusters),
            hint="lower --clusters or generate more images",
        )
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # sums split by thread would differ in the last bits
        mean, basis, explained = _principal_components(images, options.components)
        points = project(images, mean, basis)
        means = MiniBatchKMeans(
            n_clusters=options.clusters,
            batch_size=MINI_BATCH,
            n_init=RESTARTS,
            max_iter=MAX_PASSES,
            random_state=derive_seed(seed, "facechain/clustering"),
        )
        labels = means.fit_predict(points).astype(np.int64)
    centroids = means.cluster_centers_.astype(np.float32)
    labels, centroids = merge_small(labels, centroids, least=options.k_min_cluster_size)
    return Clustering(
        labels=labels, centroids=centroids, mean=mean, basis=basis, points=points, explained=explained
    )


def project(images: Pixels, mean: Floats, basis: Floats) -> Floats:
    """Images in the feature space, (N, C)."""
    flat = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    points: Floats = ((flat - mean) @ basis.T).astype(np.float32)
    return points


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


def write_clustering(clustering: Clustering, names: list[str], folder: Path) -> bytes:
    """Write model, labels, scatter and histogram; returns the model file's SHA-256."""
    from .plots import cluster_scatter, size_histogram

    folder.mkdir(parents=True, exist_ok=True)
    model = clustering.encode()
    rows = "".join(f"{name},{label}\n" for name, label in zip(names, clustering.labels.tolist(), strict=True))
    write_atomically(folder / CLUSTERS_FILE, lambda path: path.write_bytes(model))
    write_atomically(folder / LABELS_FILE, lambda path: path.write_text("file,cluster\n" + rows))
    planar = clustering.points[:, :2]
    if planar.shape[1] < 2:
        planar = np.pad(planar, ((0, 0), (0, 1)))
    cluster_scatter(planar, clustering.labels, folder / SCATTER_FILE)
    size_histogram(clustering.sizes, folder / HISTOGRAM_FILE)
    return hashlib.sha256(model).digest()


def _principal_components(images: Pixels, components: int) -> tuple[Floats, Floats, float]:
    step = max(1, -(-len(images) // FIT_SAMPLE))
    sample = images[::step].reshape(len(images[::step]), -1).astype(np.float64) / 255
    mean = sample.mean(axis=0)
    centred = sample - mean
    kept = min(components, *centred.shape)
    if centred.shape[0] <= centred.shape[1]:
        variances, left = np.linalg.eigh(centred @ centred.T)
        chosen = np.argsort(variances)[::-1][:kept]
        basis: NDArray[np.float64] = (centred.T @ left[:, chosen]).T
        basis /= np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-12)
    else:
        variances, right = np.linalg.eigh(centred.T @ centred)
        chosen = np.argsort(variances)[::-1][:kept]
        basis = right[:, chosen].T
    signs = np.sign(basis[np.arange(kept), np.abs(basis).argmax(axis=1)])
    oriented = basis * np.where(signs == 0, 1, signs)[:, None]
    total = float(variances.clip(min=0).sum())
    explained = float(variances[chosen].clip(min=0).sum() / total) if total > 0 else 1.0
    return mean.astype(np.float32), oriented.astype(np.float32), explained
