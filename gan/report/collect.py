"""Gathers what a run, its evaluation and its batch left on disk; what is missing is named, never guessed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...consensus.kinds import StageType
from ..batchfolder import BATCH_FILE
from ..checkpoints import GENERATOR_FILE
from ..cluster_files import HISTOGRAM_FILE, MEDOIDS_FILE, SCATTER_FILE
from ..errors import ReportError
from ..metrics.evaluate import HISTOGRAM_FILE as PIXELS_FILE
from ..metrics.evaluate import REPORT_FILE, ROC_FILE
from ..produce import CLUSTERING_FOLDER
from ..runs import CONFIG_FILE, DATASET_FILE, LOSSES_FILE, SAMPLES, read_stats
from ..stages import STAGE_FILE, StageRecord, read_stages

PICTURE_BYTES_MAX = 8 * 2**20
DOCUMENT_BYTES_MAX = 16 * 2**20


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
    stages: tuple[StageRecord, ...]
    anchored: Mapping[str, Mapping[str, Any]]
    """What the receipt says of each stage, by its label: statement id, level, height of the block."""
    pictures: Mapping[str, Picture]
    missing: tuple[str, ...]

    def stage(self, kind: StageType) -> StageRecord | None:
        """The latest record of a kind."""
        return next((record for record in reversed(self.stages) if record.stage_type is kind), None)


def gather(
    run: Path, *, evaluation: Path | None, batch: Path | None, receipt: Path | None, watts: float
) -> Gathered:
    """Read a run folder, the folder that `evaluate --out` wrote, a batch folder, and what `submit --json` printed.

    Raises:
        ReportError: `run` holds no generator, or a file in one of the folders is damaged.
    """
    if not (run / GENERATOR_FILE).is_file():
        raise ReportError("not a run folder", expected=f"a folder with {GENERATOR_FILE}", got=str(run))
    missing: list[str] = []
    folder = evaluation if evaluation is not None else run
    document = _document(folder / REPORT_FILE)
    if document is None:
        missing.append("the evaluation: facechain evaluate --checkpoint RUN --data FACES --out DIR")
    told = _document(batch / BATCH_FILE) if batch is not None else None
    if told is None:
        missing.append("a batch with its clusters: facechain produce --checkpoint RUN --out BATCH --key NAME")
    stages = _stages(run, folder, told)
    if not any(record.stage_type is StageType.PRIVACY for record in stages):
        missing.append("the privacy stage: facechain privacy-report RUN --data FACES")
    anchored = _anchored(receipt)
    if not anchored:
        missing.append(
            "the ledger's receipt: facechain submit --batch BATCH --json > FILE, then --receipt FILE"
        )
    stats = read_stats(run)
    if not stats:
        missing.append("statistics of the training: the generator came without its run")
    return Gathered(
        run=run.resolve().name,
        config=_document(run / CONFIG_FILE),
        dataset=_document(run / DATASET_FILE),
        cost=_cost(stats, watts),
        evaluation=document,
        batch=told,
        stages=stages,
        anchored=anchored,
        pictures=_pictures(run, folder, batch),
        missing=tuple(missing),
    )


def _stages(run: Path, evaluation: Path, batch: Mapping[str, Any] | None) -> tuple[StageRecord, ...]:
    found: dict[str, StageRecord] = {}
    for folder in (run, evaluation):
        for record in read_stages(folder / STAGE_FILE):
            found.setdefault(_identity(record), record)
    for record in batch["stages"] if batch is not None else ():
        loaded = StageRecord.from_json(record)
        found.setdefault(_identity(loaded), loaded)
    return tuple(found.values())


def _anchored(receipt: Path | None) -> dict[str, Mapping[str, Any]]:
    document = _document(receipt) if receipt is not None else None
    if document is None:
        return {}
    told = document.get("receipt", document)
    try:
        return {str(item["label"]): dict(item) for item in told["stages"] if item["id"] is not None}
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(
            f"{receipt} is no receipt",
            expected="what submit --json or produce --json printed",
            got=repr(error),
        ) from error


def _identity(record: StageRecord) -> str:
    return json.dumps({**record.to_json(), "label": ""}, sort_keys=True)


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


def _pictures(run: Path, evaluation: Path, batch: Path | None) -> dict[str, Picture]:
    samples = sorted((run / SAMPLES).glob("*.png"))
    wanted = {
        "first": (samples[0] if samples else None, "the same 64 latents after the first checkpoint"),
        "samples": (samples[-1] if samples else None, "64 faces of the averaged generator, none picked"),
        "losses": (run / LOSSES_FILE, "losses and scores over images seen"),
        "roc": (evaluation / ROC_FILE, "the discriminator on held-out people and fresh fakes"),
        "pixels": (evaluation / PIXELS_FILE, "grey levels of generated faces and held-out people"),
    }
    if batch is not None:
        clusters = batch / CLUSTERING_FOLDER
        wanted |= {
            "scatter": (clusters / SCATTER_FILE, "generated faces on their first two principal components"),
            "sizes": (clusters / HISTOGRAM_FILE, "sizes of the clusters"),
            "medoids": (clusters / MEDOIDS_FILE, "the face nearest to each centroid"),
        }
    return {
        name: Picture(caption=caption, data=_embedded(path))
        for name, (path, caption) in wanted.items()
        if path is not None and path.is_file()
    }


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(_bounded(path, PICTURE_BYTES_MAX)).decode()


def _document(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        loaded = json.loads(_bounded(path, DOCUMENT_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is damaged", expected="a JSON object", got=str(error)) from error
    if not isinstance(loaded, dict):
        raise ReportError(f"{path} is damaged", expected="a JSON object", got=type(loaded).__name__)
    return loaded


def _bounded(path: Path, most: int) -> bytes:
    size = path.stat().st_size
    if size > most:
        raise ReportError(
            f"{path} is too large for the page", expected=f"at most {most} bytes", got=str(size)
        )
    return path.read_bytes()
