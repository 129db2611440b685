"""The privacy report of a run: what is guaranteed, what attacks find, and what the release filter does.

Appends a `privacy` record of aggregates to the run's `stage.json`. The figures are measured on the training
faces without noise, so they lie outside of a differential privacy guarantee (docs/privacy.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...consensus.kinds import StageType
from ..checkpoints import (
    GENERATOR_FILE,
    LoadedGenerator,
    load_generator,
    load_state,
    newest_state,
    state_tensors,
)
from ..datasets import FaceSet, Pixels, split_by_identity
from ..device import Device
from ..duplicates import DEFAULT_RMS_LEVELS, unique_images
from ..errors import FilterError, PrivacyError
from ..filter import DEFAULT_FALSE_MATCH_RATE, ReferenceFilter
from ..generation import Renderer
from ..networks import make_discriminator
from ..runs import DATASET_FILE
from ..stages import STAGE_FILE, StageRecord, extend, find_label, make_details, read_stages, write_stages
from .attacks import Calibration, calibrate, choose_people, run_attacks
from .membership import FALSE_POSITIVE_RATES, Attack, most_found
from .neighbours import find_neighbours, write_sheet

REPORT_SEED = hashlib.sha256(b"facechain/privacy-report").digest()
LABEL = "privacy"
NO_GUARANTEE = "no differential privacy"
DEFAULT_GENERATED = 2_000
DEFAULT_PROBES = 3_000
PLANTED = 200
"""Training faces that the release filter is shown as if they had been generated; so many again mirrored."""

STATED = ("dp_epsilon", "dp_delta", "dp_unit")
"""What the privacy record repeats of the training record that it links to; a record has few details."""

Step = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """How much is measured."""

    generated: int = DEFAULT_GENERATED
    probes: int = DEFAULT_PROBES
    """Images of members, and as many of others."""
    false_match_rate: float = DEFAULT_FALSE_MATCH_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyReport:
    """What was found; everything but the sheet is aggregates."""

    guarantee: Mapping[str, str]
    attacks: tuple[Attack, ...]
    measured: Mapping[str, object]
    """Neighbours, release filter, duplicates."""
    missing: tuple[str, ...]
    """What could not be measured, and why."""
    sheet: Path
    stage: Path

    @property
    def statement(self) -> str:
        """One line about the guarantee."""
        if not self.guarantee:
            return NO_GUARANTEE
        found = self.guarantee
        return f"ε = {found['dp_epsilon']}, δ = {found['dp_delta']} per {found['dp_unit']}"

    @property
    def bounds(self) -> Mapping[float, float]:
        """Per false positive rate, the share of records that the guarantee lets any attack find; empty without."""
        return _bounds(self.guarantee)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "statement": self.statement,
            "guarantee": dict(self.guarantee),
            "bounds": [{"fpr": rate, "tpr_at_most": found} for rate, found in self.bounds.items()],
            "attacks": [attack.to_json() for attack in self.attacks],
            "leaks": sorted({attack.name for attack in self.attacks if attack.succeeds}),
            "measured": dict(self.measured),
            "missing": list(self.missing),
            "sheet": str(self.sheet),
            "stage": str(self.stage),
        }


def data_of_run(folder: Path) -> dict[str, str]:
    """What a run says about its data: at least `digest`, `heldout_share` and `resolution`.

    Raises:
        PrivacyError: the folder tells neither.
    """
    path = folder / DATASET_FILE
    if path.exists():
        return {key: str(value) for key, value in json.loads(path.read_text()).items()}
    for record in read_stages(folder / STAGE_FILE):
        if record.stage_type is StageType.DATASET:
            return {**dict(record.details), "digest": record.artifact.hex()}
    raise PrivacyError(
        "nothing says what this generator was trained on",
        expected=f"{DATASET_FILE} or a dataset record in {STAGE_FILE}",
        got=str(folder),
    )


def report_on(
    folder: Path, faces: FaceSet, *, device: Device, options: ReportOptions, on_step: Step = lambda _: None
) -> PrivacyReport:
    """Attack the generator in `folder` with the data set it was trained on.

    Raises:
        PrivacyError: other data, or too few people for the attacks.
    """
    about = data_of_run(folder)
    if faces.digest != about["digest"]:
        raise PrivacyError(
            "not the data this generator was trained on", expected=about["digest"], got=faces.digest
        )
    share = float(about["heldout_share"])
    training, held_out = split_by_identity(faces, holdout_share=share)
    loaded = load_generator(folder / GENERATOR_FILE)
    on_step("generate")
    renderer = Renderer(loaded, seed=REPORT_SEED, device=device)
    generated = np.stack([pixels for _, pixels in renderer.render(range(options.generated))])
    calibration, uncalibrated = _calibration(held_out, share, options.probes)
    discriminator, missing = _discriminator(folder, loaded)
    on_step("attacks")
    attacks = run_attacks(
        members=choose_people(training, images=options.probes),
        non_members=choose_people(held_out, images=options.probes),
        generated=generated,
        calibration=calibration,
        discriminator=discriminator,
        device=device,
    )
    on_step("nearest training faces")
    neighbours = find_neighbours(generated, training, held_out)
    sheet = write_sheet(folder, generated, training, neighbours)
    on_step("release filter")
    filtered, more = _filter_facts(training, held_out, generated, options.false_match_rate)
    measured: dict[str, object] = {
        "generated_images": options.generated,
        **neighbours.facts(),
        **filtered,
        **_duplicate_facts(generated),
    }
    before = read_stages(folder / STAGE_FILE)
    guarantee = _guarantee(before)
    record = _record(before, attacks, measured, guarantee)
    kept = [stage for stage in before if stage.label != LABEL]
    return PrivacyReport(
        guarantee=guarantee,
        attacks=attacks,
        measured=measured,
        missing=(*uncalibrated, *missing, *more),
        sheet=sheet,
        stage=write_stages(folder, extend(kept, record)),
    )


def _calibration(held_out: FaceSet, share: float, images: int) -> tuple[Calibration | None, tuple[str, ...]]:
    try:
        return calibrate(held_out, heldout_share=share, images=images), ()
    except PrivacyError as error:
        return None, (f"calibrated attack: {error}",)


def _discriminator(folder: Path, loaded: LoadedGenerator) -> tuple[torch.nn.Module | None, tuple[str, ...]]:
    """The discriminator of the same step, if the run folder still has it."""
    newest = newest_state(folder)
    if newest is None:
        return None, ("discriminator: no training state in the run folder",)
    state = load_state(newest)
    if int(str(state["step"])) * loaded.config.batch != loaded.images_seen:
        return None, ("discriminator: the training state is of another step than the generator",)
    module = make_discriminator(loaded.config.discriminator)
    module.load_state_dict(state_tensors(state, "discriminator"))
    return module, ()


def _filter_facts(
    training: FaceSet, held_out: FaceSet, generated: Pixels, rate: float
) -> tuple[dict[str, object], tuple[str, ...]]:
    try:
        release = ReferenceFilter(training, held_out, false_match_rate=rate)
    except FilterError as error:
        return {}, (f"release filter: {error}",)
    planted = training.images[np.linspace(0, len(training) - 1, PLANTED).round().astype(np.int64)]
    planted = np.concatenate([planted, planted[:, :, ::-1]])
    facts = {f"filter_{key}": value for key, value in release.facts().items()}
    return {
        **facts,
        "filter": release.name,
        "filter_generated_rejected": int((~release.check(generated).accepted).sum()),
        "filter_planted": len(planted),
        "filter_planted_rejected": int((~release.check(planted).accepted).sum()),
    }, ()


def _duplicate_facts(generated: Pixels) -> dict[str, object]:
    return {
        "duplicates": int((~unique_images(generated)).sum()),
        "duplicate_rms_levels": DEFAULT_RMS_LEVELS,
    }


def _guarantee(stages: tuple[StageRecord, ...]) -> dict[str, str]:
    """What the training record says of differential privacy; empty without."""
    found: dict[str, str] = {}
    for record in stages:
        if record.stage_type is StageType.TRAINING:
            found = {key: value for key, value in record.details if key.startswith("dp_")}
    return found


def _bounds(guarantee: Mapping[str, str]) -> dict[float, float]:
    if not guarantee:
        return {}
    epsilon, delta = float(guarantee["dp_epsilon"]), float(guarantee["dp_delta"])
    return {rate: most_found(rate, epsilon=epsilon, delta=delta) for rate in FALSE_POSITIVE_RATES}


def _record(
    stages: tuple[StageRecord, ...],
    attacks: tuple[Attack, ...],
    measured: Mapping[str, object],
    guarantee: Mapping[str, str],
) -> StageRecord:
    facts = {**measured, **{key: value for key, value in guarantee.items() if key in STATED}}
    facts |= {
        f"dp_tpr_at_most_at_fpr_{rate:g}": round(found, 5) for rate, found in _bounds(guarantee).items()
    }
    if guarantee:
        facts["figures"] = "measured on training faces without noise: outside of the guarantee"
    for attack in attacks:
        key = f"mia_{attack.unit}_{attack.name.split()[0]}"
        facts |= {
            f"{key}_auc": attack.auc,
            f"{key}_auc_interval": f"{attack.low} to {attack.high}",
            f"{key}_compared": f"{attack.members} members, {attack.non_members} others",
        }
        for point in attack.points:
            found = point.note if point.true_positive_rate is None else f"{point.true_positive_rate:g}"
            facts[f"{key}_tpr_at_fpr_{point.false_positive_rate:g}"] = found
    model = find_label(stages, StageType.TRAINING)
    return StageRecord(
        label=LABEL,
        stage_type=StageType.PRIVACY,
        inputs=(model,) if model else (),
        name=f"differential privacy, ε = {guarantee['dp_epsilon']}" if guarantee else NO_GUARANTEE,
        details=make_details(facts),
    )
