"""A training run's folder: configuration, statistics, sample grids, checkpoints and stage record.

RUN/config.json      the resolved configuration
RUN/dataset.json     what it was trained on (counts and digest, never a name or a face)
RUN/stats.jsonl      one row per tick
RUN/losses.png       curves of it
RUN/samples/*.png    the averaged generator's images for fixed latents
RUN/checkpoints/N/   generator.safetensors, train_state.pt and variety.json after N images
RUN/tensorboard/     the same rows and grids as TensorBoard events
RUN/generator.safetensors, RUN/stage.json   the result
RUN/run.lock         held by the process that trains into the folder
RUN/secret/          of a differentially private run: its noise until it is over, and the data set's salt
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..consensus.kinds import StageType
from .checkpoints import (
    GENERATOR_FILE,
    NAME_DIGITS,
    STATE_FILE,
    checkpoint_folder,
    drop_old_states,
    load_state,
    save_generator,
    save_state,
    state_to_resume,
    write_atomically,
)
from .collapse import GRACE_IMAGES, CollapseWatch, variety
from .config import TrainingConfig, to_json
from .datasets import RESIZER, FaceSet, Pixels, split_by_identity
from .device import Device
from .distributed import ALONE, Group
from .errors import ConfigError, PrivacyError
from .event_log import EventLog
from .generation import canonical_json, quantize
from .latents import latent_batch
from .loop import Tick, train
from .networks import parameter_count
from .plots import loss_curves
from .privacy.secret import SecretFolder
from .sheets import sample_grid
from .stages import StageRecord, make_details, write_stages
from .training import Trainer

CONFIG_FILE = "config.json"
DATASET_FILE = "dataset.json"
STATS_FILE = "stats.jsonl"
LOSSES_FILE = "losses.png"
VARIETY_FILE = "variety.json"
SAMPLES = "samples"
SAMPLE_COLUMNS = 8
VARIETY_IMAGES = 1_000
"""Training faces whose variety is the measure."""
SAMPLE_SEED = hashlib.sha256(b"facechain/samples").digest()
DEFAULT_CHECKPOINT_IMAGES = 50_000
DEFAULT_HOLDOUT_SHARE = 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a finished (or stopped) run leaves."""

    folder: Path
    generator: Path
    images_seen: int
    images_per_second: float
    """Over this invocation, checkpoints excluded."""
    finished: bool


class TrainingRun:
    """Trains into a folder, and goes on there when asked to resume.

    Args:
        folder: the run folder; holds no checkpoint unless `resume`.
        config: decides the weights.
        faces: the whole data set; people of the held-out share are left out of training.
        device: where to compute.
        holdout_share: share of identities that training never sees.
        resume: continue from the newest checkpoint in `folder`.
        group: the processes that train together; all of them see `folder`, the first one writes it.
        compiled: let `torch.compile` make the kernels.
        grace_images: how long a generator may draw one face for every latent.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: TrainingConfig,
        faces: FaceSet,
        device: Device,
        holdout_share: float = DEFAULT_HOLDOUT_SHARE,
        resume: bool = False,
        group: Group = ALONE,
        compiled: bool = False,
        grace_images: int = GRACE_IMAGES,
    ) -> None:
        newest = state_to_resume(folder, resume=resume)
        self.folder = folder
        self.group = group
        self._faces = faces
        self.holdout_share = holdout_share
        self.training, self.held_out = split_by_identity(faces, holdout_share=holdout_share)
        self.training_images = len(self.training)
        self.heldout_images = len(self.held_out)
        self.trainer = self._make_trainer(config, device, compiled=compiled)
        self.config = self.trainer.config
        self._collapse = CollapseWatch(self._real_variety(), grace_images=grace_images)
        self._prepare(newest)
        self._rates: list[tuple[int, float]] = []
        self._events = EventLog(folder, images_seen=self.trainer.images_seen) if group.leads else None

    def _make_trainer(self, config: TrainingConfig, device: Device, *, compiled: bool) -> Trainer:
        if not config.privacy.active:
            return Trainer(config, self.training.images, device, group=self.group, compiled=compiled)
        from .privacy.training import open_private_trainer, settle

        return open_private_trainer(
            self.folder,
            config=settle(config, self.training),
            training=self.training,
            device=device,
            group=self.group,
            compiled=compiled,
        )

    def _real_variety(self) -> float:
        """Of training faces; of others where nothing about those may be told."""
        if not self.config.privacy.active:
            return variety(self.training.images[:VARIETY_IMAGES])
        if not self.heldout_images:
            raise PrivacyError(
                "private training looks at held-out people only",
                expected="a hold-out share with people in it",
                got="nobody",
            )
        return variety(self.held_out.images[:VARIETY_IMAGES])

    def _prepare(self, newest: Path | None) -> None:
        self.group.wait()
        if newest is None:
            if not self.group.leads:
                return
            (self.folder / SAMPLES).mkdir(parents=True, exist_ok=True)
            (self.folder / STATS_FILE).write_text("")
            (self.folder / CONFIG_FILE).write_text(to_json(self.config) + "\n")
            (self.folder / DATASET_FILE).write_bytes(canonical_json(self._dataset_facts()))
            return
        known = (self.folder / DATASET_FILE).read_bytes()
        if known != canonical_json(self._dataset_facts()):
            raise ConfigError(
                "the run was started on other data",
                expected=known.decode().strip(),
                got=canonical_json(self._dataset_facts()).decode().strip(),
            )
        self.trainer.restore(load_state(newest))
        if not self.group.leads:
            return
        rows = [row for row in read_stats(self.folder) if row["images_seen"] <= self.trainer.images_seen]
        (self.folder / STATS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def _dataset_facts(self) -> dict[str, object]:
        known = [who for who in self._faces.identities if who]
        return {
            "digest": self._faces.digest,
            "images": len(self._faces),
            "identities": len(set(known)),
            "training_images": self.training_images,
            "heldout_images": self.heldout_images,
            "heldout_share": self.holdout_share,
            "resolution": self._faces.resolution,
            "resizer": RESIZER,
            "source": self._faces.source,
        }

    def run(
        self,
        *,
        on_tick: Callable[[Tick], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        checkpoint_images: int = DEFAULT_CHECKPOINT_IMAGES,
    ) -> RunResult:
        """Train to the end of the schedule, or until `stop`.

        Raises:
            TrainingDivergedError: a loss is not finite; the last good checkpoint is intact.
        """

        def record(tick: Tick) -> None:
            self._write_tick(tick)
            on_tick(tick)

        train(
            self.trainer,
            on_tick=record,
            on_checkpoint=self._save,
            checkpoint_images=checkpoint_images,
            stop=stop,
        )
        return self._finish()

    def close(self) -> None:
        """End the event files."""
        if self._events is not None:
            self._events.close()

    def _write_tick(self, tick: Tick) -> None:
        seconds = tick.seconds
        self._rates.append((round(tick.images_per_second * seconds), seconds))
        row = {
            "step": tick.step,
            "images_seen": tick.images_seen,
            "images_per_second": round(tick.images_per_second, 2),
            **tick.values,
        }
        if self._events is not None:
            with (self.folder / STATS_FILE).open("a") as file:
                file.write(json.dumps(row) + "\n")
            self._events.write_row(row)

    def _save(self) -> None:
        if self._events is not None:
            self._write_checkpoint(self._events)
        self.group.wait()

    def _write_checkpoint(self, events: EventLog) -> None:
        seen = self.trainer.images_seen
        folder = checkpoint_folder(self.folder, seen)
        average = self.trainer.average.module
        save_generator(folder / GENERATOR_FILE, average, self.config, images_seen=seen)
        save_state(folder / STATE_FILE, self.trainer.state())
        drop_old_states(self.folder)
        samples = self._samples()
        grid = sample_grid(samples, columns=SAMPLE_COLUMNS)
        (self.folder / SAMPLES / f"{seen:0{NAME_DIGITS}d}.png").write_bytes(grid)
        events.write_grid(np.asarray(Image.open(io.BytesIO(grid))), images_seen=seen)
        loss_curves(read_stats(self.folder), self.folder / LOSSES_FILE)
        share = self._collapse.look(samples, images_seen=seen)
        (folder / VARIETY_FILE).write_bytes(canonical_json({"share_of_real_faces": round(share, 4)}))

    def _samples(self) -> Pixels:
        dimension = self.config.generator.latent_dimension
        latents = latent_batch(SAMPLE_SEED, range(SAMPLE_COLUMNS**2), dimension)
        average = self.trainer.average.module
        with torch.inference_mode():
            return quantize(average(torch.from_numpy(latents).to(self.trainer.device.torch_device)))

    def _finish(self) -> RunResult:
        result = self.folder / GENERATOR_FILE
        seen = self.trainer.images_seen
        finished = self.trainer.step >= self.trainer.last_step
        if self.group.leads:
            written = (checkpoint_folder(self.folder, seen) / GENERATOR_FILE).read_bytes()
            write_atomically(result, lambda path: path.write_bytes(written))
            write_stages(self.folder, self._stages(hashlib.sha256(written).digest()))
            if finished and self.config.privacy.active:
                SecretFolder.of(self.folder).end()
        return RunResult(
            folder=self.folder,
            generator=result,
            images_seen=seen,
            images_per_second=self.images_per_second,
            finished=finished,
        )

    @property
    def images_per_second(self) -> float:
        """Mean speed of this invocation so far."""
        seconds = sum(duration for _, duration in self._rates)
        return sum(images for images, _ in self._rates) / seconds if seconds > 0 else 0.0

    def _stages(self, model: bytes) -> tuple[StageRecord, ...]:
        facts = self._dataset_facts()
        name = facts.pop("source")
        digest = str(facts.pop("digest"))
        artifact = bytes.fromhex(digest)
        if self.config.privacy.active:
            artifact = SecretFolder.of(self.folder).commit(digest)
            facts["artifact"] = "salted commitment"
        dataset = StageRecord(
            label="dataset",
            stage_type=StageType.DATASET,
            artifact=artifact,
            name=str(name),
            details=make_details(facts),
        )
        training = StageRecord(
            label="training",
            stage_type=StageType.TRAINING,
            artifact=model,
            inputs=(dataset.label,),
            name=self.config.preset,
            details=make_details(
                {
                    "preset": self.config.preset,
                    "images_seen": self.trainer.images_seen,
                    "steps": self.trainer.step,
                    "batch": self.config.batch,
                    "seed": self.config.seed,
                    "config_sha256": hashlib.sha256(to_json(self.config).encode()).hexdigest(),
                    "generator_parameters": parameter_count(self.trainer.generator),
                    "discriminator_parameters": parameter_count(self.trainer.discriminator),
                    **self.trainer.privacy_facts(),
                }
            ),
        )
        return (dataset, training)


def read_stats(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's `stats.jsonl`."""
    path = folder / STATS_FILE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
