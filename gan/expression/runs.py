"""A classifier's training run: its folder, its checkpoints, and the choice of the best of them.

RUN/config.json, RUN/dataset.json    the resolved configuration; what it was trained and selected on
RUN/stats.jsonl                      one row per checkpoint
RUN/checkpoints/N/                   expression.safetensors, train_state.pt after N images
RUN/expression.safetensors           the checkpoint with the best accuracy on the selection images
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..checkpoints import (
    STATE_FILE,
    checkpoint_folder,
    drop_old_states,
    load_state,
    save_state,
    state_to_resume,
    write_atomically,
)
from ..device import Device
from ..errors import ConfigError, DatasetError
from ..generation import canonical_json
from .checkpoints import EXPRESSION_FILE, load_classifier, save_classifier
from .config import ExpressionConfig, to_json
from .faces import PREPARATION, SELECTION, TRAINING, LabelledFaces
from .inference import predict
from .scores import confusion_matrix, macro_f1
from .training import ExpressionTrainer

CONFIG_FILE: Final = "config.json"
DATASET_FILE: Final = "dataset.json"
STATS_FILE: Final = "stats.jsonl"
DEFAULT_CHECKPOINT_IMAGES: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionResult:
    """What a finished (or stopped) run leaves."""

    classifier: Path
    images_seen: int
    finished: bool
    best_images_seen: int
    """Images after which the chosen checkpoint was taken."""
    selection_accuracy: float
    """Of the chosen checkpoint, on the images that chose it."""
    checkpoints: int
    """Checkpoints that were compared."""


class ExpressionRun:
    """Trains into a folder, and goes on there when asked to resume.

    Args:
        folder: the run folder; holds no checkpoint unless `resume`.
        config: decides the weights.
        faces: the whole data set; trains on usage Training, selects on usage PublicTest.
        device: where to compute.
        resume: continue from the newest checkpoint in `folder`.
    """

    def __init__(
        self, folder: Path, *, config: ExpressionConfig, faces: LabelledFaces, device: Device, resume: bool
    ) -> None:
        newest = state_to_resume(folder, resume=resume)
        self.folder = folder
        self.config = config
        self._faces = faces
        self.training = faces.of_usage(TRAINING)
        self.selection = faces.of_usage(SELECTION)
        for part, usage in ((self.training, TRAINING), (self.selection, SELECTION)):
            if len(part) == 0:
                raise DatasetError(
                    f"no images for {usage}",
                    expected=f"a labels.csv with usage {TRAINING} and {SELECTION}",
                    got=str(faces.usage_counts()),
                )
        self.trainer = ExpressionTrainer(config, self.training, device)
        self._since = time.monotonic()
        self._since_step = 0
        self._prepare(newest)

    def _prepare(self, newest: Path | None) -> None:
        facts = canonical_json(self._dataset_facts())
        if newest is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(DATASET_FILE, facts)
            self._write(STATS_FILE, b"")
        else:
            known = (self.folder / DATASET_FILE).read_bytes()
            if known != facts:
                raise ConfigError(
                    "the run was started on other data", expected=known.decode(), got=facts.decode()
                )
            self.trainer.restore(load_state(newest))
            rows = [r for r in read_stats(self.folder) if r["images_seen"] <= self.trainer.images_seen]
            self._write(STATS_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._write(CONFIG_FILE, (to_json(self.config) + "\n").encode())

    def _write(self, name: str, data: bytes) -> None:
        write_atomically(self.folder / name, lambda path: path.write_bytes(data))

    def _dataset_facts(self) -> dict[str, object]:
        return {
            "digest": self._faces.digest,
            "source": self._faces.source,
            "images": len(self._faces),
            "training": self.training.class_counts(),
            "selection": self.selection.class_counts(),
            "resolution": self.config.classifier.resolution,
            "preparation": PREPARATION,
        }

    def run(
        self,
        *,
        on_step: Callable[[int], object] = lambda _: None,
        on_row: Callable[[dict[str, Any]], object] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        checkpoint_images: int = DEFAULT_CHECKPOINT_IMAGES,
    ) -> ExpressionResult:
        """Train to the end of the schedule, or until `stop`; a checkpoint is written in both cases.

        Raises:
            TrainingDivergedError: the loss is not finite; the last good checkpoint is intact.
        """
        every = max(1, checkpoint_images // self.config.batch)
        saved = self.trainer.step if read_stats(self.folder) else -1
        self._since, self._since_step = time.monotonic(), self.trainer.step
        while self.trainer.step < self.config.steps and not stop():
            self.trainer.run_step()
            on_step(self.config.batch)
            if self.trainer.step % every == 0:
                on_row(self._checkpoint())
                saved = self.trainer.step
        if saved != self.trainer.step:
            on_row(self._checkpoint())
        return self._finish()

    def _checkpoint(self) -> dict[str, Any]:
        trainer = self.trainer
        seconds = time.monotonic() - self._since
        moments = trainer.take_moments()
        folder = checkpoint_folder(self.folder, trainer.images_seen)
        save_classifier(
            folder / EXPRESSION_FILE,
            trainer.average.module,
            self.config,
            images_seen=trainer.images_seen,
            training_digest=self._faces.digest,
        )
        row = {
            "step": trainer.step,
            "images_seen": trainer.images_seen,
            "images_per_second": round((trainer.step - self._since_step) * self.config.batch / seconds, 1),
            **moments,
            **self._select(folder / EXPRESSION_FILE),
        }
        with (self.folder / STATS_FILE).open("a") as file:
            file.write(json.dumps(row) + "\n")
        save_state(folder / STATE_FILE, trainer.state())
        drop_old_states(self.folder)
        self._since, self._since_step = time.monotonic(), trainer.step
        return row

    def _select(self, path: Path) -> dict[str, float]:
        """Scores of the stored file on the selection images."""
        loaded = load_classifier(path)
        predicted = predict(loaded.module, self.selection.images, self.trainer.device).argmax(1)
        confusion = confusion_matrix(self.selection.labels, predicted)
        return {
            "selection_accuracy": float(confusion.trace() / confusion.sum()),
            "selection_macro_f1": macro_f1(confusion),
        }

    def _finish(self) -> ExpressionResult:
        rows = read_stats(self.folder)
        best = max(rows, key=lambda row: (row["selection_accuracy"], row["images_seen"]))
        source = checkpoint_folder(self.folder, best["images_seen"]) / EXPRESSION_FILE
        self._write(EXPRESSION_FILE, source.read_bytes())
        return ExpressionResult(
            classifier=self.folder / EXPRESSION_FILE,
            images_seen=self.trainer.images_seen,
            finished=self.trainer.step >= self.config.steps,
            best_images_seen=best["images_seen"],
            selection_accuracy=best["selection_accuracy"],
            checkpoints=len(rows),
        )


def read_stats(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's `stats.jsonl`."""
    path = folder / STATS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
