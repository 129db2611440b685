"""What a clustering leaves on disk: the model, the labels, and pictures of both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .checkpoints import write_atomically
from .clustering import WITHHELD, Clustering
from .datasets import Pixels
from .errors import MissingPackageError
from .feature_space import Floats
from .latents import derive_seed
from .plots import cluster_scatter, size_histogram
from .sheets import captioned_sheet

CLUSTERS_FILE = "clusters.safetensors"
LABELS_FILE = "clusters.csv"
SCATTER_FILE = "clusters-pca.png"
UMAP_FILE = "clusters-umap.png"
HISTOGRAM_FILE = "cluster-sizes.png"
MEDOIDS_FILE = "cluster-medoids.png"
WITHHELD_NAME = "withheld"
SCATTER_POINTS_MAX = 20_000
UMAP_NEIGHBOURS = 15
MEDOID_COLUMNS = 16


def write_clustering(clustering: Clustering, names: Sequence[str], images: Pixels, folder: Path) -> bytes:
    """Write model, labels, scatter, histogram and medoids of (N, H, W, 3) images; returns the model's SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    model = clustering.encode()
    labels = ["" if label == WITHHELD else str(label) for label in clustering.labels.tolist()]
    rows = "".join(f"{name},{label or WITHHELD_NAME}\n" for name, label in zip(names, labels, strict=True))
    write_atomically(folder / CLUSTERS_FILE, lambda path: path.write_bytes(model))
    write_atomically(folder / LABELS_FILE, lambda path: path.write_text("file,cluster\n" + rows))
    shown = _shown(clustering)
    planar = np.asarray(clustering.points[shown, :2])
    if planar.shape[1] < 2:
        planar = np.pad(planar, ((0, 0), (0, 1)))
    cluster_scatter(planar, clustering.labels[shown], folder / SCATTER_FILE)
    size_histogram(clustering.sizes, folder / HISTOGRAM_FILE)
    medoids = clustering.medoids
    sheet = captioned_sheet(
        images[medoids],
        [f"{number}: {size}" for number, size in enumerate(clustering.sizes.tolist())],
        columns=min(MEDOID_COLUMNS, len(medoids)),
        title="the face nearest to each centroid; cluster: faces",
    )
    write_atomically(folder / MEDOIDS_FILE, lambda path: path.write_bytes(sheet))
    return hashlib.sha256(model).digest()


def write_umap(clustering: Clustering, folder: Path, *, seed: bytes) -> None:
    """Scatter of a UMAP embedding (McInnes et al. 2018) of the feature space.

    Raises:
        MissingPackageError: umap-learn is not installed.
    """
    shown = _shown(clustering)
    planar = _umap(np.asarray(clustering.points[shown]), derive_seed(seed, "facechain/umap") % 2**31)
    cluster_scatter(planar, clustering.labels[shown], folder / UMAP_FILE, axes_names=("UMAP 1", "UMAP 2"))


def _umap(points: Floats, random_state: int) -> Floats:
    try:
        import umap
    except ImportError as error:
        raise MissingPackageError(
            "UMAP is not installed",
            expected="the package umap-learn",
            got=str(error),
            hint="pip install 'facechain-node[umap]', or leave --umap out",
        ) from error
    neighbours = max(2, min(UMAP_NEIGHBOURS, len(points) - 1))
    embedding = umap.UMAP(n_neighbors=neighbours, random_state=random_state, n_jobs=1)
    return np.asarray(embedding.fit_transform(points), dtype=np.float32)


def _shown(clustering: Clustering) -> slice:
    return slice(None, None, max(1, -(-len(clustering.labels) // SCATTER_POINTS_MAX)))
