"""generate → filter → cluster → store → batch folder, in one go.

Knows no node: the folder it writes is what gets submitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..consensus.kinds import StageType
from .batchfolder import BatchFacts, EncodedImages, check_new, write_batch
from .checkpoints import LoadedGenerator
from .cluster_files import write_clustering
from .clustering import WITHHELD, cluster_images
from .device import Device
from .engine import Engine, LocalEngine
from .filter import ReleaseFilter
from .generation import Renderer, image_name
from .imagestore import ImageStore
from .provenance import ProduceOptions, describe_batch
from .selection import Progress, Selection, select_images
from .stages import StageRecord, find_label

NO_FILTER = "none"
CLUSTERING_FOLDER = "clustering"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducedBatch:
    """What a run of `produce` made."""

    path: Path
    count: int
    candidates: int
    rejected: int
    duplicates: int
    withheld: int
    filter: str
    clusters: int


def produce(
    out: Path,
    *,
    loaded: LoadedGenerator,
    model_stages: tuple[StageRecord, ...],
    options: ProduceOptions,
    device: Device,
    release_filter: ReleaseFilter | None = None,
    store: ImageStore | None = None,
    engine: Engine | None = None,
    on_progress: Progress = lambda *_: None,
    annotate: Callable[[Path], object] = lambda _: None,
) -> ProducedBatch:
    """Make a batch folder at `out`; without a filter the batch will say `filter: none`.

    `engine` computes it, with the filter and the store that it was given; without one this process does. `annotate` may add off-chain files to the folder before it appears under its name.
    """
    check_new(out)
    renderer = Renderer(loaded, seed=options.seed, device=device, micro_batch=options.micro_batch)
    chosen = engine or LocalEngine(renderer, release_filter=release_filter, store=store)
    selection = select_images(
        chosen,
        count=options.count,
        micro_batch=options.micro_batch,
        duplicate_rms=options.duplicate_rms,
        on_progress=on_progress,
    )
    on_progress("cluster", 0, 1)
    clustering = cluster_images(selection.images, options=options.clustering, seed=options.seed)
    on_progress("cluster", 1, 1)
    withheld = clustering.labels == WITHHELD
    selection, clustering = selection.without(withheld), clustering.without(withheld)
    encoded = _encode(chosen, selection, on_progress)
    stages = describe_batch(
        encoded=encoded,
        selection=selection,
        clustering=clustering,
        loaded=loaded,
        model_stages=model_stages,
        options=options,
        device=device,
        release_filter=release_filter,
    )
    names = [image_name(index) for index in selection.indices]

    def fill(folder: Path) -> None:
        write_clustering(clustering, names, selection.images, folder / CLUSTERING_FOLDER)
        annotate(folder)

    write_batch(
        out,
        encoded,
        labels=clustering.labels.tolist(),
        facts=_facts(options, stages, store),
        fill=fill,
    )
    return _summary(out, selection, len(clustering.centroids), release_filter)


def _facts(options: ProduceOptions, stages: tuple[StageRecord, ...], store: ImageStore | None) -> BatchFacts:
    return BatchFacts(
        public=options.public,
        seed=options.seed,
        micro_batch=options.micro_batch,
        stages=stages,
        model=options.model_statement or find_label(stages, StageType.TRAINING),
        clustering=find_label(stages, StageType.CLUSTERING),
        filter=find_label(stages, StageType.FILTER),
        store=store.url if store is not None else None,
    )


def _summary(
    path: Path, selection: Selection, clusters: int, release_filter: ReleaseFilter | None
) -> ProducedBatch:
    return ProducedBatch(
        path=path,
        count=len(selection.indices),
        candidates=selection.candidates,
        rejected=selection.rejected,
        duplicates=selection.duplicates,
        withheld=selection.withheld,
        filter=NO_FILTER if release_filter is None else release_filter.name,
        clusters=clusters,
    )


def _encode(engine: Engine, selection: Selection, on_progress: Progress) -> EncodedImages:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress("store", done, len(selection.indices))

    return engine.encode(selection.indices, selection.images, advance)
