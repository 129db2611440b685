"""Mini-batch k-means over points that need not fit into memory, and a criterion for the number of clusters.

scikit-learn's `MiniBatchKMeans.partial_fit` over a shuffle of the points, or faiss on a sample of them. Callers limit the
threads, since sums that are split by thread differ in their last bits.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .errors import MissingPackageError
from .feature_space import Floats

MINI_BATCH = 4_096
LEAST_STEPS = 120
"""Passes are repeated until so many mini-batches were seen."""
MAX_PASSES = 100
FAISS_PASSES = 20
FAISS_POINTS_PER_CLUSTER = 256
"""faiss takes a sample of so many points for each cluster."""
LABEL_CHUNK = 65_536
CHOICES = (8, 16, 32, 64, 125, 250, 500)
LEAST_POINTS_PER_CLUSTER = 8
CHOICE_SAMPLE = 4_000
KEPT_GAIN = 0.9
"""The chosen number keeps this share of what the largest one explains."""


class Backend(StrEnum):
    """What finds the centroids."""

    SKLEARN = "sklearn"
    FAISS = "faiss"


def find_centroids(points: Floats, clusters: int, *, backend: Backend, random_state: int) -> Floats:
    """Centroids (K, C) of points (N, C).

    Raises:
        MissingPackageError: the backend is not installed.
    """
    if backend is Backend.FAISS:
        return _faiss(points, clusters, random_state)
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(n_clusters=clusters, batch_size=MINI_BATCH, n_init=1, random_state=random_state)
    draw = np.random.Generator(np.random.Philox(random_state))
    size = max(min(len(points), MINI_BATCH), clusters)
    batches = max(1, len(points) // size)
    for _ in range(min(MAX_PASSES, -(-LEAST_STEPS // batches))):
        order = draw.permutation(len(points))
        for number in range(batches):
            means.partial_fit(points[np.sort(order[number * size : (number + 1) * size])])
    centroids: Floats = means.cluster_centers_.astype(np.float32)
    return centroids


def _faiss(points: Floats, clusters: int, random_state: int) -> Floats:
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(
            "the faiss backend is not installed",
            expected="the package faiss-cpu",
            got=str(error),
            hint="pip install 'facechain-node[faiss]', or leave --cluster-backend out",
        ) from error
    draw = np.random.Generator(np.random.Philox(random_state))
    most = min(len(points), clusters * FAISS_POINTS_PER_CLUSTER)
    sample = np.ascontiguousarray(points[np.sort(draw.choice(len(points), most, replace=False))])
    means = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=FAISS_PASSES,
        seed=random_state % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=FAISS_POINTS_PER_CLUSTER,
    )
    means.train(sample)
    return np.asarray(means.centroids, dtype=np.float32).reshape(clusters, -1)


def nearest_centroids(points: Floats, centroids: Floats) -> NDArray[np.int64]:
    """Number of the nearest centroid for each point, (N,)."""
    norms = (centroids.astype(np.float64) ** 2).sum(axis=1)
    labels = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), LABEL_CHUNK):
        chunk = np.asarray(points[start : start + LABEL_CHUNK], dtype=np.float64)
        labels[start : start + len(chunk)] = (norms - 2 * chunk @ centroids.T.astype(np.float64)).argmin(
            axis=1
        )
    return labels


def choose_clusters(points: Floats, *, random_state: int) -> int:
    """The least of `CHOICES` that explains nearly as much variance as the largest one.

    Faces lie on a continuum: silhouette and its like fall steadily with the number of clusters and would always name the
    smallest. So the criterion is how much of the variance between faces the cluster says (1 - inertia / total, on a
    sample), and where more clusters stop to pay: `KEPT_GAIN` of the most that is to be had.
    """
    draw = np.random.Generator(np.random.Philox(random_state))
    count = min(len(points), CHOICE_SAMPLE)
    sample = np.asarray(points[np.sort(draw.choice(len(points), count, replace=False))])
    fitting = [k for k in CHOICES if k * LEAST_POINTS_PER_CLUSTER <= count] or [1]
    total = float(((sample - sample.mean(axis=0)) ** 2).sum())
    said = [1 - _inertia(sample, k, random_state) / total if total > 0 else 1.0 for k in fitting]
    return next(k for k, share in zip(fitting, said, strict=True) if share >= KEPT_GAIN * said[-1])


def _inertia(sample: Floats, clusters: int, random_state: int) -> float:
    centroids = find_centroids(sample, clusters, backend=Backend.SKLEARN, random_state=random_state)
    labels = nearest_centroids(sample, centroids)
    return float(((sample - centroids[labels]) ** 2).sum())
