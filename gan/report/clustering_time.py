"""Clusters a batch once more, for its time: a stage record says what came out, and must not depend on a clock."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..clustering import ClusteringOptions, cluster_images
from ..kmeans import Backend
from ..stages import StageRecord
from .batch import read_images

IMAGES_MAX: Final = 20_000
"""Images of a large batch that are clustered; decoding them takes longer than clustering does."""
SEED: Final = hashlib.sha256(b"facechain/report/clustering").digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringTime:
    """From decoded pixels to labels."""

    images: int
    clusters: int
    seconds: float
    """By the clock."""
    processor_seconds: float


def time_clustering(folder: Path, record: StageRecord) -> ClusteringTime:
    """Cluster the batch's images as its clustering record says that they were.

    Raises:
        ConfigError: the record asks for what cannot be.
    """
    told: Mapping[str, Any] = dict(record.details)
    images = read_images(folder, IMAGES_MAX)
    options = ClusteringOptions(
        clusters=min(int(told["clusters"]), len(images)),
        components=int(told["components"]),
        backend=Backend(told["backend"]),
    )
    started, processor = time.perf_counter(), time.process_time()
    cluster_images(images, options=options, seed=SEED)
    return ClusteringTime(
        images=len(images),
        clusters=options.clusters,
        seconds=time.perf_counter() - started,
        processor_seconds=time.process_time() - processor,
    )
