"""The training step of the expression classifier.

Every random choice of step *k* is drawn from (seed, k), so a run that was killed and resumed takes exactly the
steps an uninterrupted one takes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..checkpoints import state_tensors
from ..config import differences
from ..device import Device
from ..ema import AveragedModel
from ..errors import CheckpointError, DatasetError, TrainingDivergedError
from .augment import augment, standardize
from .config import ExpressionConfig, from_json, to_json
from .faces import UNLABELLED, LabelledFaces
from .network import ExpressionClassifier

EMA_RAMP = 0.1
"""Early on the half-life of the average is at most this share of the images seen."""


class ExpressionTrainer:
    """The network, its optimiser, its average, and one step of training.

    Args:
        config: decides the weights.
        faces: training images, every one labelled, of the configured resolution.
        device: where to compute.
    """

    def __init__(self, config: ExpressionConfig, faces: LabelledFaces, device: Device) -> None:
        if len(faces) < config.batch:
            raise DatasetError(
                "data set smaller than a batch", expected=str(config.batch), got=str(len(faces))
            )
        if bool((faces.labels == UNLABELLED).any()):
            raise DatasetError("training images without a class", expected="all labelled", got="some are not")
        self.config = config
        self.device = device
        self.step = 0
        torch.manual_seed(_derive(config.seed, "init", 0))
        where = device.torch_device
        self.network = ExpressionClassifier(config.classifier).to(where).to(memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network, half_life_images=config.ema_half_life_images, ramp=EMA_RAMP
        )
        self._sgd = torch.optim.SGD(
            self._parameter_groups(), lr=config.learning_rate, momentum=config.momentum, nesterov=True
        )
        self._images = torch.from_numpy(np.ascontiguousarray(faces.images)).unsqueeze(1).to(where)
        self._labels = torch.from_numpy(faces.labels).to(where)
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)
        self._loss = torch.zeros((), device=where)
        self._right = torch.zeros((), device=where)
        self._counted = 0

    def _parameter_groups(self) -> list[dict[str, object]]:
        """Weight decay for matrices and kernels alone."""
        weights = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        return [
            {"params": weights, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]

    @property
    def images_seen(self) -> int:
        """Images shown so far, repetitions counted."""
        return self.step * self.config.batch

    def run_step(self) -> None:
        """One update of the weights and of their average."""
        config = self.config
        for group in self._sgd.param_groups:
            group["lr"] = config.rate_at(self.images_seen)
        draw = torch.Generator().manual_seed(_derive(config.seed, "step", self.step))
        torch.manual_seed(_derive(config.seed, "dropout", self.step))
        images, labels = self._batch(draw)
        self.network.train()
        with self.device.autocast():
            logits = self.network(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        self._sgd.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._sgd.step()
        self.step += 1
        self.average.update(self.network, images_seen=self.images_seen, batch=config.batch)
        self._loss += loss.detach()
        self._right += (logits.detach().argmax(1) == labels).float().mean()
        self._counted += 1

    def _batch(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(self._next_indices()).to(self.device.torch_device)
        side = self.config.side_at(self.images_seen)
        images = augment(standardize(self._images[chosen].float()), self.config, draw, side=side)
        return images.contiguous(memory_format=torch.channels_last), self._labels[chosen]

    def _next_indices(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        batches = len(self._images) // self.config.batch
        epoch, position = divmod(self.step, batches)
        if epoch != self._epoch:
            shuffle = np.random.Generator(np.random.Philox(_derive(self.config.seed, "epoch", epoch)))
            self._order = shuffle.permutation(len(self._images))
            self._epoch = epoch
        start = position * self.config.batch
        return self._order[start : start + self.config.batch]

    def take_moments(self) -> dict[str, float]:
        """Mean loss and accuracy on augmented training images since the last call.

        Raises:
            TrainingDivergedError: the loss is not finite.
        """
        steps = max(1, self._counted)
        values = {"loss": float(self._loss) / steps, "training_accuracy": float(self._right) / steps}
        if not np.isfinite(values["loss"]):
            raise TrainingDivergedError(
                f"training diverged at image {self.images_seen}",
                expected="a finite loss",
                got=str(values["loss"]),
                hint="start again with a lower learning rate",
            )
        self._loss.zero_()
        self._right.zero_()
        self._counted = 0
        return values

    def state(self) -> dict[str, object]:
        """Everything a resumed run needs: tensors and plain values."""
        return {
            "config": to_json(self.config),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.module.state_dict(),
            "sgd": self._sgd.state_dict(),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Continue from `state`.

        The length of the run and the share in which the learning rate falls may differ from the state's as long as it
        has not begun to fall in either: up to there both take the same steps.

        Raises:
            CheckpointError: the state belongs to another configuration.
        """
        step = int(str(state["step"]))
        self._check_same(from_json(str(state.get("config"))), step * self.config.batch)
        self.network.load_state_dict(state_tensors(state, "network"))
        self.average.module.load_state_dict(state_tensors(state, "average"))
        self._sgd.load_state_dict(state_tensors(state, "sgd"))
        self.step = step

    def _check_same(self, before: ExpressionConfig, images_seen: int) -> None:
        if before == self.config:
            return
        rescheduled = dataclasses.replace(
            before, total_images=self.config.total_images, decay_share=self.config.decay_share
        )
        if rescheduled != self.config:
            raise CheckpointError(
                "the training state belongs to another configuration",
                expected="the options that it was started with",
                got=differences(before, self.config),
                hint="start a new run folder, or drop the options that changed",
            )
        limit = min(before.decay_start_images, self.config.decay_start_images)
        if images_seen > limit:
            raise CheckpointError(
                "the run's end cannot change once the learning rate falls",
                expected=f"a state of at most {limit} images",
                got=f"{images_seen} images",
                hint=f"resume with --images {before.total_images} --decay-share {before.decay_share}",
            )


def _derive(seed: int, purpose: str, counter: int) -> int:
    digest = hashlib.sha256(f"facechain/expression/{purpose}/{seed}/{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
