"""Gathers what a run, its evaluation and its batch left on disk; what is missing is named, never guessed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...consensus.kinds import StageType
from ..batchfolder import BATCH_FILE
from ..checkpoints import GENERATOR_FILE
from ..cluster_files import HISTOGRAM_FILE, MEDOIDS_FILE, SCATTER_FILE
from ..datasets import Pixels
from ..documents import PICTURE_BYTES_MAX, read_bounded, read_document
from ..errors import ReportError
from ..expression.distribution import Distribution
from ..metrics.evaluate import HISTOGRAM_FILE as PIXELS_FILE
from ..metrics.evaluate import REPORT_FILE, ROC_FILE
from ..produce import CLUSTERING_FOLDER
from ..runs import CONFIG_FILE, DATASET_FILE, LOSSES_FILE, SAMPLES, read_stats
from ..sheets import sample_grid
from ..stages import STAGE_FILE, StageRecord, read_stages
from .batch import Placed, expressions, placed_parts, read_records, registered_sheet, trail
from .belonging import check_batch, check_evaluation, check_receipt, generator_hash, identity
from .clustering_time import ClusteringTime, time_clustering
from .mining import MinedBlocks

ABLATION_FILE = "ablation.json"
REAL_FACES = 64
"""Held-out faces beside the samples, and as many columns and rows as those have."""
REAL_COLUMNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a page takes what it shows; only the run has to be there."""

    run: Path
    evaluation: Path | None = None
    """What `evaluate --out` wrote; the run folder where None."""
    batch: Path | None = None
    receipt: Path | None = None
    """What `submit --json` or `produce --json` printed of that batch."""
    ablation: Path | None = None
    """What `ablation --out` wrote."""
    real: Pixels | None = None
    """Faces (N, H, W, 3) of people never trained on, where the operator wants them in the page."""
    mined: MinedBlocks | None = None
    watts: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG inside the page."""

    caption: str
    data: str
    """As a `data:` address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What training took, from its statistics."""

    images: int
    hours: float
    images_per_second: float
    kilowatt_hours: float
    """At the power that was assumed."""
    watts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything the page shows; None and empty where nothing was found."""

    run: str
    config: Mapping[str, Any] | None
    dataset: Mapping[str, Any] | None
    cost: Cost | None
    evaluation: Mapping[str, Any] | None
    batch: Mapping[str, Any] | None
    ablation: Mapping[str, Any] | None
    expressions: Distribution | None
    mined: MinedBlocks | None
    clustered: ClusteringTime | None
    stages: tuple[StageRecord, ...]
    anchored: Mapping[str, Mapping[str, Any]]
    """What the receipt says of the batch's stages, by `identity`: statement id, level, height of the block."""
    parts: tuple[Placed, ...]
    """The batch's parts as the receipt places them."""
    trail: tuple[tuple[str, str], ...]
    """One image's way through the chain."""
    pictures: Mapping[str, Picture]
    missing: tuple[str, ...]

    def stage(self, kind: StageType) -> StageRecord | None:
        """The latest record of a kind."""
        return next((record for record in reversed(self.stages) if record.stage_type is kind), None)

    def place(self, record: StageRecord) -> Mapping[str, Any] | None:
        """What the receipt says of a stage; None where the batch was submitted without it."""
        return self.anchored.get(identity(record))

    @property
    def heights(self) -> tuple[int, ...]:
        """Blocks in which the receipt places stages and parts."""
        told = [item.get("height") for item in self.anchored.values()]
        return tuple(
            int(height) for height in (*told, *(part.height for part in self.parts)) if height is not None
        )


def gather(sources: Sources) -> Gathered:
    """Read everything that `sources` names.

    Raises:
        ReportError: the run holds no generator, a folder is not what its name says, a file in it is damaged, or it
            belongs to another generator or another batch.
        DatasetError: the batch's expressions speak of other images.
    """
    run, batch = sources.run, sources.batch
    _check_folders(sources)
    folder = sources.evaluation if sources.evaluation is not None else run
    document = read_document(folder / REPORT_FILE)
    told = read_document(batch / BATCH_FILE) if batch is not None else None
    made = tuple(StageRecord.from_json(record) for record in told["stages"]) if told is not None else ()
    stages = _stages(sources, document, made)
    anchored, parts = _receipt(sources.receipt, batch, made)
    stats = read_stats(run)
    return Gathered(
        run=run.resolve().name,
        config=read_document(run / CONFIG_FILE),
        dataset=read_document(run / DATASET_FILE),
        cost=_cost(stats, sources.watts),
        evaluation=document,
        batch=told,
        ablation=None if sources.ablation is None else read_document(sources.ablation / ABLATION_FILE),
        expressions=expressions(batch) if batch is not None else None,
        mined=sources.mined,
        clustered=_clustered(batch, stages) if batch is not None else None,
        stages=stages,
        anchored=anchored,
        parts=parts,
        trail=trail(batch, parts, stages, anchored) if batch is not None else (),
        pictures=_pictures(sources, folder, parts),
        missing=tuple(_missing(document, told, stages, anchored, stats)),
    )


def _missing(
    document: Mapping[str, Any] | None,
    batch: Mapping[str, Any] | None,
    stages: Sequence[StageRecord],
    anchored: Mapping[str, object],
    stats: Sequence[object],
) -> list[str]:
    private = any(record.stage_type is StageType.PRIVACY for record in stages)
    lines = (
        (document, "the evaluation: facechain evaluate --checkpoint RUN --data FACES --out DIR"),
        (batch, "a batch with its clusters: facechain produce --checkpoint RUN --out BATCH --key NAME"),
        (private, "the privacy stage: facechain privacy-report RUN --data FACES"),
        (
            anchored,
            "the ledger's receipt: facechain submit --batch BATCH --wait 1 --json > FILE, then --receipt FILE",
        ),
        (stats, "statistics of the training: the generator came without its run"),
    )
    return [line for there, line in lines if not there]


def _clustered(batch: Path, stages: Sequence[StageRecord]) -> ClusteringTime | None:
    records = [record for record in stages if record.stage_type is StageType.CLUSTERING]
    return time_clustering(batch, records[-1]) if records else None


def _check_folders(sources: Sources) -> None:
    wanted = (
        ("run", sources.run, GENERATOR_FILE),
        ("evaluation", sources.evaluation, REPORT_FILE),
        ("batch", sources.batch, BATCH_FILE),
        ("ablation", sources.ablation, ABLATION_FILE),
    )
    for name, folder, file in wanted:
        if folder is not None and not (folder / file).is_file():
            raise ReportError(f"not a folder of {name}", expected=f"a folder with {file}", got=str(folder))


def _stages(
    sources: Sources, document: Mapping[str, Any] | None, made: tuple[StageRecord, ...]
) -> tuple[StageRecord, ...]:
    """The records of run, evaluation and batch (`made`), each once, where all are of the run's generator."""
    generator = generator_hash(sources.run)
    kept = read_stages(sources.run / STAGE_FILE)
    folder = sources.evaluation or sources.run
    measured = read_stages(folder / STAGE_FILE)
    check_evaluation(sources.run, None, kept, generator=generator)
    check_evaluation(folder, document, measured, generator=generator)
    if sources.batch is not None:
        check_batch(sources.batch, made, generator=generator)
    return tuple({identity(record): record for record in (*kept, *measured, *made)}.values())


def _receipt(
    receipt: Path | None, batch: Path | None, made: Sequence[StageRecord]
) -> tuple[Mapping[str, Mapping[str, Any]], tuple[Placed, ...]]:
    document = read_document(receipt) if receipt is not None else None
    if receipt is None or document is None:
        return {}, ()
    if batch is None:
        raise ReportError("a receipt speaks of a batch", expected="--batch beside --receipt", got="no batch")
    try:
        told = _told_receipt(document)
        items = {str(item["label"]): dict(item) for item in told["stages"] if item["id"] is not None}
        anchored = {identity(record): items[record.label] for record in made if record.label in items}
        parts = placed_parts(told)
        check_receipt(receipt, told, read_records(batch))
        return anchored, parts
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(
            f"{receipt} is no receipt",
            expected="what submit --json or produce --json printed of one batch",
            got=repr(error),
        ) from error


def _told_receipt(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one receipt of what `submit`, `submit --resume` or `produce` printed; ValueError where there are several."""
    if "receipts" in document:
        (told,) = document["receipts"]
        return dict(told)
    return dict(document.get("receipt", document))


def _cost(stats: Sequence[Mapping[str, float]], watts: float) -> Cost | None:
    rows = [row for row in stats if row.get("images_per_second", 0) > 0]
    if not rows:
        return None
    before = [0.0, *(row["images_seen"] for row in rows[:-1])]
    seconds = sum(
        (row["images_seen"] - start) / row["images_per_second"]
        for row, start in zip(rows, before, strict=True)
    )
    images = int(rows[-1]["images_seen"])
    return Cost(
        images=images,
        hours=seconds / 3600,
        images_per_second=images / max(seconds, 1e-9),
        kilowatt_hours=seconds / 3600 * watts / 1000,
        watts=watts,
    )


def _pictures(sources: Sources, evaluation: Path, parts: Sequence[Placed]) -> dict[str, Picture]:
    run, batch = sources.run, sources.batch
    samples = sorted((run / SAMPLES).glob("*.png"))
    wanted = {
        "first": (samples[0] if samples else None, "the same 64 latents after the first checkpoint"),
        "samples": (samples[-1] if samples else None, "64 faces of the averaged generator, none picked"),
        "losses": (run / LOSSES_FILE, "losses and scores over images seen"),
        "roc": (evaluation / ROC_FILE, "the discriminator on held-out people and fresh fakes"),
        "levels": (evaluation / PIXELS_FILE, "levels of each colour in generated faces and held-out people"),
    }
    if batch is not None:
        clusters = batch / CLUSTERING_FOLDER
        wanted |= {
            "scatter": (clusters / SCATTER_FILE, "generated faces on their first two principal components"),
            "sizes": (clusters / HISTOGRAM_FILE, "sizes of the clusters"),
            "medoids": (clusters / MEDOIDS_FILE, "the face nearest to each centroid"),
        }
    found = {
        name: Picture(caption=caption, data=_embedded(read_bounded(path, PICTURE_BYTES_MAX)))
        for name, (path, caption) in wanted.items()
        if path is not None and path.is_file()
    }
    return found | _drawn(sources, parts)


def _drawn(sources: Sources, parts: Sequence[Placed]) -> dict[str, Picture]:
    """Pictures that no command wrote: real faces where they were handed in, and the batch as it is registered."""
    found = {}
    if sources.real is not None:
        grid = sample_grid(sources.real[:REAL_FACES], columns=REAL_COLUMNS)
        found["real"] = Picture(
            caption="photographs of people that training never saw: the data set's terms hold for this page",
            data=_embedded(grid),
        )
    sheet = registered_sheet(sources.batch, parts) if sources.batch is not None and parts else None
    if sheet is not None:
        found["sheet"] = Picture(
            caption="faces spread over the batch, each with its block and the first digits of its pixels' hash",
            data=_embedded(sheet),
        )
    return found


def _embedded(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
