"""What a produced batch says about itself: the stage records of generation, filter and clustering."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..consensus.kinds import StageType
from ..consensus.payloads import MAX_VALUE_BYTES
from ..consensus.statement import seed_commitment
from .batchfolder import EncodedImages
from .checkpoints import LoadedGenerator
from .cluster_quality import measure_quality
from .clustering import FEATURE_SPACE, Clustering, ClusteringOptions
from .device import Device
from .duplicates import DEFAULT_RMS_LEVELS
from .filter import ReleaseFilter
from .generation import DEFAULT_MICRO_BATCH, Renderer, WrittenImages
from .selection import Selection
from .stages import StageRecord, extend, find_label, make_details

HISTOGRAM_BINS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ProduceOptions:
    """What decides a batch besides the generator and the filter."""

    count: int
    seed: bytes
    micro_batch: int = DEFAULT_MICRO_BATCH
    clustering: ClusteringOptions = field(default_factory=ClusteringOptions)
    duplicate_rms: float = DEFAULT_RMS_LEVELS
    public: bool = True
    model_statement: str | None = None
    """Hex id of a `training` statement already on chain; its records are then not repeated."""


def describe_batch(
    *,
    encoded: EncodedImages,
    selection: Selection,
    clustering: Clustering,
    loaded: LoadedGenerator,
    model_stages: tuple[StageRecord, ...],
    options: ProduceOptions,
    device: Device,
    release_filter: ReleaseFilter | None,
) -> tuple[StageRecord, ...]:
    """All records that must be anchored for a batch, in order: the model's, then the batch's own."""
    known = () if options.model_statement else model_stages
    model = options.model_statement or find_label(known, StageType.TRAINING)
    generation = _generation_record(
        encoded=encoded, selection=selection, loaded=loaded, options=options, device=device, model=model
    )
    added = [generation]
    if release_filter is not None:
        added.append(_filter_record(selection, release_filter, generation.label))
    added.append(clustering_record(clustering, options.clustering, added[-1].label))
    return extend(known, *added)


def generation_only(
    model_stages: tuple[StageRecord, ...],
    *,
    written: WrittenImages,
    loaded: LoadedGenerator,
    renderer: Renderer,
    device: Device,
) -> tuple[StageRecord, ...]:
    """Records of images that were rendered and neither filtered nor clustered."""
    model = find_label(model_stages, StageType.TRAINING)
    record = StageRecord(
        label="generation",
        stage_type=StageType.GENERATION,
        artifact=written.manifest_digest,
        inputs=(model,) if model else (),
        name=f"{written.count} images",
        details=make_details(
            {
                **_rendering_facts(loaded, renderer.seed, renderer.micro_batch, device),
                "count": written.count,
                "first_index": written.first,
            }
        ),
    )
    return extend(model_stages, record)


def _rendering_facts(
    loaded: LoadedGenerator, seed: bytes, micro_batch: int, device: Device
) -> dict[str, object]:
    return {
        "checkpoint_sha256": loaded.digest.hex(),
        "seed_commitment": seed_commitment(seed).hex(),
        "micro_batch": micro_batch,
        "device": device.torch_device.type,
        "torch": torch.__version__,
    }


def _generation_record(
    *,
    encoded: EncodedImages,
    selection: Selection,
    loaded: LoadedGenerator,
    options: ProduceOptions,
    device: Device,
    model: str | None,
) -> StageRecord:
    return StageRecord(
        label="generation",
        stage_type=StageType.GENERATION,
        artifact=hashlib.sha256(encoded.manifest()).digest(),
        inputs=(model,) if model else (),
        name=f"{selection.candidates} candidates",
        details=make_details(
            {
                **_rendering_facts(loaded, options.seed, options.micro_batch, device),
                "candidates": selection.candidates,
                "kept": len(selection.indices),
                "duplicates_removed": selection.duplicates,
                "withheld": selection.withheld,
                "duplicate_rms_levels": options.duplicate_rms,
            }
        ),
    )


def _filter_record(selection: Selection, release_filter: ReleaseFilter, source: str) -> StageRecord:
    return StageRecord(
        label="filter",
        stage_type=StageType.FILTER,
        inputs=(source,),
        name=release_filter.name,
        details=make_details(
            {**release_filter.facts(), "candidates": selection.candidates, "rejected": selection.rejected}
        ),
    )


def clustering_record(clustering: Clustering, options: ClusteringOptions, source: str | None) -> StageRecord:
    """Record of a clustering; `source` is the record of the images, where there is one."""
    sizes = clustering.sizes
    quality = measure_quality(clustering, seed=hashlib.sha256(clustering.encode()).digest())
    return StageRecord(
        label="clustering",
        stage_type=StageType.CLUSTERING,
        artifact=hashlib.sha256(clustering.encode()).digest(),
        inputs=(source,) if source else (),
        name="mini-batch k-means",
        details=make_details(
            {
                "feature_space": FEATURE_SPACE,
                "components": clustering.basis.shape[0],
                "variance_kept": clustering.explained,
                "clusters_asked": options.clusters,
                "clusters": len(sizes),
                "k_min_cluster_size": options.k_min_cluster_size,
                "small_clusters": options.small,
                "backend": options.backend,
                "images": int(sizes.sum()),
                "centroids_sha256": hashlib.sha256(clustering.centroids.tobytes()).hexdigest(),
                "sizes": histogram(sizes),
                "smallest": int(sizes.min()),
                "largest": int(sizes.max()),
                **quality.to_json(),
            }
        ),
    )


def histogram(sizes: NDArray[np.int64]) -> str:
    """Sizes of the clusters as `size:how many` in ascending order, cut to what a stage's detail may hold."""
    values, counts = np.unique(sizes, return_counts=True)
    text = " ".join(f"{size}:{count}" for size, count in zip(values.tolist(), counts.tolist(), strict=True))
    if len(text) <= MAX_VALUE_BYTES:
        return text
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, HISTOGRAM_BINS + 1)).astype(np.int64))
    counts, edges = np.histogram(sizes, bins=edges)
    return " ".join(
        f"{edge}-:{count}" for edge, count in zip(edges[:-1].tolist(), counts.tolist(), strict=True)
    )
