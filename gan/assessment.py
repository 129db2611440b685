"""Measures a run's generator against faces that training never saw, and records it as a stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from ..consensus.kinds import StageType
from .checkpoints import GENERATOR_FILE, load_generator
from .datasets import RESIZER, Pixels
from .errors import DatasetError
from .evaluation import METRIC, extract_features, frechet_distance, open_extractor
from .evaluation import RESIZER as FEATURE_RESIZER
from .generation import Renderer
from .runs import TrainingRun
from .stages import STAGE_FILE, StageRecord, extend, find_label, make_details, read_stages, write_stages

EVALUATION_SEED = hashlib.sha256(b"facechain/evaluation").digest()


def assess_run(
    run: TrainingRun, *, count: int, on_images: Callable[[int], object] = lambda _: None
) -> dict[str, object]:
    """Distance of `count` generated and of `count` training faces to `count` held-out faces.

    Appends an `evaluation` record to the run's `stage.json` and returns the figures.

    Raises:
        DatasetError: fewer than `count` held-out or training faces.
    """
    least = min(run.training_images, run.heldout_images)
    if count > least:
        raise DatasetError("too few faces to evaluate with", expected=f"at most {least}", got=str(count))
    loaded = load_generator(run.folder / GENERATOR_FILE)
    renderer = Renderer(loaded, seed=EVALUATION_SEED, device=run.trainer.device)
    generated = np.stack([pixels for _, pixels in renderer.render(range(count))])
    extractor = open_extractor()

    def features(images: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return extract_features(extractor, images, on_images=on_images)

    unseen = features(spread(run.held_out.images, count))
    real = features(spread(run.training.images, count))
    facts: dict[str, object] = {
        METRIC: round(frechet_distance(features(generated), unseen), 2),
        f"{METRIC}_training_faces": round(frechet_distance(real, unseen), 2),
        "evaluated_images": count,
        "reference": "held-out identities",
        "extractor_sha256": extractor.weights_sha256,
        "resizer": f"{RESIZER}, {FEATURE_RESIZER}",
        "heldout_share": run.holdout_share,
    }
    before = read_stages(run.folder / STAGE_FILE)
    model = find_label(before, StageType.TRAINING)
    record = StageRecord(
        label="evaluation",
        stage_type=StageType.EVALUATION,
        inputs=(model,) if model else (),
        name=METRIC,
        details=make_details(facts),
    )
    write_stages(run.folder, extend(before, record))
    return facts


def spread(images: Pixels, count: int) -> Pixels:
    """`count` images taken at even distances, so that no folder or source dominates."""
    return images[np.linspace(0, len(images) - 1, count).round().astype(np.int64)]
