"""One evaluation of a generator against real faces: every figure of this package, as one document."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...consensus.kinds import StageType
from ..assessment import spread
from ..checkpoints import LoadedGenerator, load_state, newest_state, state_tensors, write_atomically
from ..config import LossKind, from_json
from ..datasets import RESIZER, FaceSet, Pixels, split_by_identity
from ..device import Device
from ..errors import CheckpointError, DatasetError
from ..generation import Renderer, canonical_json
from ..networks import make_discriminator
from ..plots import histogram_comparison, roc_curve
from ..stages import StageRecord, find_label, make_details
from .codec import CodecTimes, measure_codec
from .distances import Sample, compare, inception_score
from .extractors import FeatureNetwork
from .judgement import Judgement, discriminator_scores, judge
from .measure import Measure
from .pixels import compare_pairs, compare_statistics
from .speed import Speed, measure_speed

LEAST_IMAGES = 10
REPORT_FILE = "evaluation.json"
ROC_FILE = "evaluation-roc.png"
HISTOGRAM_FILE = "evaluation-histogram.png"
SEED_LABEL = b"facechain/evaluation"
NO_DISCRIMINATOR = "no training state beside the generator"

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What decides the figures besides generator and data."""

    count: int
    seed: int = 0
    rounds: int = 5
    """Resamples behind the interval of a Fréchet distance; below 2 there is none."""
    holdout_share: float = 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures, and what they were taken on."""

    facts: dict[str, object]
    measures: tuple[Measure, ...]
    judgement: Judgement | None
    speed: tuple[Speed, ...]
    codec: CodecTimes
    generated: Pixels = field(repr=False)
    unseen: Pixels = field(repr=False)

    def to_json(self) -> dict[str, object]:
        """The document that `write_evaluation` writes."""
        return {
            **self.facts,
            "measures": [measure.to_json() for measure in self.measures],
            "discriminator": NO_DISCRIMINATOR if self.judgement is None else self.judgement.to_json(),
            "speed": [
                {
                    "batch": item.batch,
                    "latency_ms": item.latency_ms,
                    "images_per_second": item.images_per_second,
                }
                for item in self.speed
            ],
            "codec": self.codec.to_json(),
        }

    def value(self, name: str) -> float:
        """The first figure of that name: of generated faces, where it is taken on real ones as well."""
        return next(measure.value for measure in self.measures if measure.name == name)


def evaluate(
    loaded: LoadedGenerator,
    faces: FaceSet,
    networks: Sequence[FeatureNetwork],
    *,
    options: EvaluationOptions,
    device: Device,
    on_progress: OnProgress = lambda *_: None,
) -> Evaluation:
    """Generate, and compare with people that training never saw; training faces get the same figures beside.

    Raises:
        DatasetError: too few faces, or the faces have another resolution than the generator.
    """
    training, held_out = _split(faces, loaded, options)
    unseen, seen = _at_most(held_out.images, options.count), _at_most(training.images, options.count)
    seed = hashlib.sha256(SEED_LABEL + options.seed.to_bytes(8, "big")).digest()
    renderer = Renderer(loaded, seed=seed, device=device)
    generated = np.stack([pixels for _, pixels in renderer.render(range(options.count))])
    measures: list[Measure] = []
    for network in networks:
        measures += _in_space(network, (generated, unseen, seen), options, on_progress)
    measures += [*compare_statistics(generated, unseen), *compare_pairs(generated, unseen, seed=options.seed)]
    return Evaluation(
        facts=_facts(loaded, faces, options, device),
        measures=tuple(measures),
        judgement=_judge(loaded, generated, unseen, device),
        speed=tuple(measure_speed(loaded, device)),
        codec=measure_codec(generated),
        generated=generated,
        unseen=unseen,
    )


def write_evaluation(evaluation: Evaluation, folder: Path) -> bytes:
    """Write the document and its pictures; returns the SHA-256 of the document."""
    folder.mkdir(parents=True, exist_ok=True)
    document = canonical_json(evaluation.to_json())
    write_atomically(folder / REPORT_FILE, lambda path: path.write_bytes(document))
    histogram_comparison(evaluation.generated, evaluation.unseen, folder / HISTOGRAM_FILE)
    if evaluation.judgement is not None:
        roc_curve(evaluation.judgement.roc, evaluation.judgement.auc, folder / ROC_FILE)
    return hashlib.sha256(document).digest()


def evaluation_record(
    evaluation: Evaluation, document: bytes, before: tuple[StageRecord, ...]
) -> StageRecord:
    """Stage record whose artifact is the document; the distances stand in its details."""
    model = find_label(before, StageType.TRAINING)
    distances = {
        measure.name: round(measure.value, 4)
        for measure in reversed(evaluation.measures)
        if measure.name.startswith(("fid", "fd_", "kid", "kd_", "precision", "recall", "density", "coverage"))
    }
    labels = {record.label for record in before}
    return StageRecord(
        label=next(
            f"evaluation{n or ''}" for n in range(len(labels) + 1) if f"evaluation{n or ''}" not in labels
        ),
        stage_type=StageType.EVALUATION,
        artifact=document,
        inputs=(model,) if model else (),
        name="evaluation",
        details=make_details({**evaluation.facts, **distances}),
    )


def _split(faces: FaceSet, loaded: LoadedGenerator, options: EvaluationOptions) -> tuple[FaceSet, FaceSet]:
    side = loaded.config.generator.resolution
    if faces.resolution != side:
        raise DatasetError(
            "faces of another size than the generator's", expected=f"{side}x{side}", got=str(faces.resolution)
        )
    training, held_out = split_by_identity(faces, holdout_share=options.holdout_share)
    least = min(len(training), len(held_out), options.count)
    if least < LEAST_IMAGES:
        raise DatasetError(
            "too few faces to evaluate with",
            expected=f"at least {LEAST_IMAGES} generated, held-out and training faces",
            got=f"{options.count}, {len(held_out)} and {len(training)}",
        )
    return training, held_out


def _in_space(
    network: FeatureNetwork,
    images: tuple[Pixels, Pixels, Pixels],
    options: EvaluationOptions,
    on_progress: OnProgress,
) -> list[Measure]:
    total = sum(len(part) for part in images)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress(network.name, done, total)

    names = ("generated", "held-out people", "training faces")
    ours, unseen, seen = (
        Sample(name=name, features=network.features(part, advance))
        for name, part in zip(names, images, strict=True)
    )
    found = compare(ours, unseen, network, seed=options.seed, rounds=options.rounds)
    found += compare(seen, unseen, network, seed=options.seed, rounds=options.rounds)
    if ours.features.logits is not None:
        found += [inception_score(sample, network, seed=options.seed) for sample in (ours, unseen)]
    return found


def _judge(loaded: LoadedGenerator, generated: Pixels, unseen: Pixels, device: Device) -> Judgement | None:
    path = newest_state(loaded.path.parent)
    if path is None:
        return None
    state = load_state(path)
    config = from_json(str(state.get("config")))
    if config != loaded.config:
        raise CheckpointError(
            "the training state beside the generator is of another run",
            expected=loaded.config.preset,
            got=str(path),
        )
    discriminator = make_discriminator(config.discriminator)
    discriminator.load_state_dict(state_tensors(state, "discriminator"))
    discriminator.eval().to(device.torch_device)
    on_real, on_fake = (discriminator_scores(discriminator, images, device) for images in (unseen, generated))
    return judge(on_real, on_fake, relativistic=config.loss.kind is LossKind.RPGAN)


def _facts(
    loaded: LoadedGenerator, faces: FaceSet, options: EvaluationOptions, device: Device
) -> dict[str, object]:
    return {
        "generator_sha256": loaded.digest.hex(),
        "images_seen": loaded.images_seen,
        "preset": loaded.config.preset,
        "data_sha256": faces.digest,
        "split": f"held-out people, share {options.holdout_share}",
        "resizer": RESIZER,
        "count": options.count,
        "seed": options.seed,
        "device": device.name,
    }


def _at_most(images: Pixels, count: int) -> Pixels:
    return spread(images, min(count, len(images)))
