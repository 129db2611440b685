"""The paper's ablation, which it tells in prose only: attention, smoothed labels, and the space of the clusters.

Each variant is trained several times with different seeds. A difference between variants that is not clearly larger than the
spread between the seeds of one variant is no effect, and on a small budget few are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from .checkpoints import load_generator, newest_state, write_atomically
from .cluster_quality import measure_quality
from .clustering import Clustering, ClusteringOptions, cluster_images
from .config import TrainingConfig, override, to_json
from .datasets import FaceSet, Pixels, split_by_identity
from .device import Device
from .errors import ConfigError
from .evaluation import frechet_distance
from .feature_space import Floats
from .generation import Renderer, canonical_json
from .kmeans import Backend, find_centroids, nearest_centroids
from .latents import derive_seed
from .metrics.extractors import FeatureNetwork
from .runs import TrainingRun

VARIANTS: Final = {
    "as printed": (),
    "no attention": ("generator.attention=[]",),
    "hard labels": ("loss.real_label_low=1", "loss.fake_label_high=0"),
}
"""What is trained: overrides of the preset."""
ROW_FILE = "row.json"
RENDER_SEED = bytes(32)

OnStep = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """One variant over all its seeds."""

    variant: str
    overrides: tuple[str, ...]
    distances: tuple[float, ...]
    """Fréchet distance to held-out people, per seed."""
    images_per_second: float

    def to_json(self) -> dict[str, object]:
        """With mean and spread."""
        spread = float(np.std(self.distances, ddof=1)) if len(self.distances) > 1 else None
        return {
            "variant": self.variant,
            "overrides": list(self.overrides),
            "distances": [round(value, 3) for value in self.distances],
            "mean": round(float(np.mean(self.distances)), 3),
            "deviation_between_seeds": None if spread is None else round(spread, 3),
            "images_per_second": round(self.images_per_second, 1),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRow:
    """One space in which the same images were clustered."""

    space: str
    dimensions: int
    silhouette_here: float | None
    """In the space itself; spaces do not compare by it."""
    silhouette_pixels: float | None
    """Of the same labels among the pixels' principal components: this one compares."""
    agreement: float
    """Adjusted Rand index with another clustering by principal components; that of the same space is the scale, for
    k-means from another start finds other clusters."""

    def to_json(self) -> dict[str, object]:
        """Rounded."""
        return {
            "space": self.space,
            "dimensions": self.dimensions,
            "silhouette_here": _rounded(self.silhouette_here),
            "silhouette_pixels": _rounded(self.silhouette_pixels),
            "agreement": round(self.agreement, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationOptions:
    """Budget."""

    images: int
    """Images shown in each training."""
    seeds: int
    count: int
    """Faces generated for each distance, and clustered."""
    clusters: int
    holdout_share: float


def run_trainings(
    preset: TrainingConfig,
    faces: FaceSet,
    network: FeatureNetwork,
    out: Path,
    *,
    options: AblationOptions,
    device: Device,
    on_step: OnStep = lambda _: None,
) -> list[TrainingRow]:
    """Train every variant with every seed; what `out` holds already from the same budget is not trained again."""
    _, held_out = split_by_identity(faces, holdout_share=options.holdout_share)
    unseen = network.features(held_out.images).pooled
    rows = []
    for variant, overrides in VARIANTS.items():
        found = []
        for seed in range(options.seeds):
            on_step(f"{variant}, seed {seed}")
            config = override(replace(preset, seed=seed, total_images=options.images), overrides)
            folder = out / f"{variant.replace(' ', '-')}-{seed}"
            found.append(_train_once(config, faces, network, unseen, folder, options=options, device=device))
        rows.append(
            TrainingRow(
                variant=variant,
                overrides=overrides,
                distances=tuple(row["distance"] for row in found),
                images_per_second=float(np.mean([row["images_per_second"] for row in found])),
            )
        )
    return rows


def compare_spaces(images: Pixels, network: FeatureNetwork, *, clusters: int) -> list[ClusterRow]:
    """Cluster images (N, H, W, 3) by principal components, bare pixels, and a network's features."""
    from sklearn.metrics import adjusted_rand_score
    from threadpoolctl import threadpool_limits

    base = cluster_images(images, options=ClusteringOptions(clusters=clusters), seed=RENDER_SEED)
    pixels = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    spaces: dict[str, Floats] = {
        "principal components of pixels": base.points,
        "pixels": pixels,
        network.name: network.features(images).pooled.astype(np.float32),
    }
    rows = []
    for name, points in spaces.items():
        with threadpool_limits(limits=1):
            state = derive_seed(RENDER_SEED, "facechain/ablation")
            centroids = find_centroids(points, clusters, backend=Backend.SKLEARN, random_state=state)
            labels = nearest_centroids(points, centroids)
        here = replace(base, labels=labels, centroids=centroids, points=points)
        rows.append(
            ClusterRow(
                space=name,
                dimensions=points.shape[1],
                silhouette_here=_silhouette(here),
                silhouette_pixels=_silhouette(
                    replace(here, points=base.points, centroids=_means(base.points, labels))
                ),
                agreement=float(adjusted_rand_score(base.labels, labels)),
            )
        )
    return rows


def write_ablation(
    out: Path, trainings: Sequence[TrainingRow], spaces: Sequence[ClusterRow], facts: Mapping[str, object]
) -> dict[str, object]:
    """Write `ablation.json` and return what it says."""
    document = {
        **facts,
        "trainings": [row.to_json() for row in trainings],
        "clusterings": [row.to_json() for row in spaces],
    }
    write_atomically(out / "ablation.json", lambda path: path.write_bytes(canonical_json(document)))
    return document


def _train_once(
    config: TrainingConfig,
    faces: FaceSet,
    network: FeatureNetwork,
    unseen: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    folder: Path,
    *,
    options: AblationOptions,
    device: Device,
) -> dict[str, float]:
    path = folder / ROW_FILE
    budget = {"config": json.loads(to_json(config)), "count": options.count, "data": faces.digest}
    if path.is_file():
        row = json.loads(path.read_text())
        if row.pop("budget") != budget:
            raise ConfigError(
                f"{folder} holds a training of another budget", expected="a new --out", got=str(folder)
            )
        return dict(row)
    run = TrainingRun(
        folder,
        config=config,
        faces=faces,
        device=device,
        holdout_share=options.holdout_share,
        resume=newest_state(folder) is not None,
    )
    result = run.run(checkpoint_images=options.images)
    run.close()
    images = generate(result.generator, options.count, device)
    distance = frechet_distance(network.features(images).pooled, unseen)
    found = {"distance": distance, "images_per_second": result.images_per_second}
    write_atomically(path, lambda target: target.write_bytes(canonical_json({**found, "budget": budget})))
    return found


def generate(generator: Path, count: int, device: Device) -> Pixels:
    """The first `count` faces (N, H, W, 3) of a generator, the same latents for every variant."""
    renderer = Renderer(load_generator(generator), seed=RENDER_SEED, device=device)
    return np.stack([pixels for _, pixels in renderer.render(range(count))])


def _means(points: Floats, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    count = int(labels.max()) + 1
    return np.stack(
        [points[labels == k].mean(axis=0) if (labels == k).any() else points[0] for k in range(count)]
    )


def _silhouette(clustering: Clustering) -> float | None:
    return measure_quality(clustering, seed=RENDER_SEED).silhouette


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
