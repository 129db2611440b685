"""How well clusters are parted: the usual three figures, each with the number of points it was taken on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .clustering import WITHHELD, Clustering
from .latents import derive_seed

SILHOUETTE_SAMPLE = 5_000
"""Silhouettes compare all pairs; more points are sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterQuality:
    """Figures of one clustering; None where they are not defined (a single cluster)."""

    silhouette: float | None
    """Mean over a sample, -1..1, higher is better (Rousseeuw 1987)."""
    silhouette_points: int
    davies_bouldin: float | None
    """Lower is better (Davies and Bouldin 1979)."""
    inertia: float
    """Mean squared distance to the own centroid."""
    variance_explained: float
    """1 - inertia over the variance of all points."""

    def to_json(self) -> dict[str, object]:
        """Rounded, for people and for a stage record."""
        return {
            "silhouette": _rounded(self.silhouette),
            "silhouette_points": self.silhouette_points,
            "davies_bouldin": _rounded(self.davies_bouldin),
            "inertia": round(self.inertia, 4),
            "variance_explained": round(self.variance_explained, 4),
        }


def measure_quality(clustering: Clustering, *, seed: bytes) -> ClusterQuality:
    """Measure a clustering on the points that are in a cluster."""
    from sklearn.metrics import davies_bouldin_score, silhouette_score

    kept = clustering.labels != WITHHELD
    points, labels = clustering.points[kept], clustering.labels[kept]
    distances = ((points - clustering.centroids[labels]) ** 2).sum(axis=1)
    total = float(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
    draw = np.random.Generator(np.random.Philox(derive_seed(seed, "facechain/silhouette")))
    count = min(len(points), SILHOUETTE_SAMPLE)
    sample = np.sort(draw.choice(len(points), count, replace=False))
    parted = 1 < len(np.unique(labels[sample])) < count
    return ClusterQuality(
        silhouette=float(silhouette_score(points[sample], labels[sample])) if parted else None,
        silhouette_points=count,
        davies_bouldin=float(davies_bouldin_score(points, labels)) if parted else None,
        inertia=float(distances.mean()),
        variance_explained=1 - float(distances.mean()) / total if total > 0 else 1.0,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
