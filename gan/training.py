"""The training step and the loop around it.

Every random choice of step *k* is drawn from (seed, k), so a run that was killed and resumed
takes exactly the steps an uninterrupted one takes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .checkpoints import state_tensors
from .config import LossKind, TrainingConfig, to_json
from .datasets import Pixels
from .device import Device
from .ema import AveragedModel
from .errors import CheckpointError, DatasetError, TrainingDivergedError
from .losses import discriminator_loss, generator_loss, gradient_penalty
from .networks import Discriminator, Generator

MOMENTS = ("d_loss", "g_loss", "d_real", "d_fake", "penalty")
HALF_RANGE = 127.5
TICK_STEPS = 50
MIN_SECONDS = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Means since the last tick."""

    step: int
    images_seen: int
    seconds: float
    """Wall time spent training since the last tick."""
    images_per_second: float
    values: Mapping[str, float]


class Trainer:
    """Both networks, their optimisers, the average, and one step of training.

    Args:
        config: decides the weights.
        images: (N, R, R, 3) uint8; moved to the device as a whole.
        device: where to compute.
    """

    def __init__(self, config: TrainingConfig, images: Pixels, device: Device) -> None:
        if len(images) < config.batch:
            raise DatasetError(
                "data set smaller than a batch", expected=str(config.batch), got=str(len(images))
            )
        self.config = config
        self.device = device
        self.step = 0
        torch.manual_seed(_derive(config.seed, "init", 0))
        where = device.torch_device
        self.generator = Generator(config.generator).to(where).to(memory_format=torch.channels_last)
        self.discriminator = (
            Discriminator(config.discriminator).to(where).to(memory_format=torch.channels_last)
        )
        self.average = AveragedModel(
            self.generator, half_life_images=config.ema_half_life_images, ramp=config.ema_ramp
        )
        optimizer = config.optimizer
        betas = (optimizer.beta1, optimizer.beta2)
        self._g_adam = torch.optim.Adam(self.generator.parameters(), lr=optimizer.learning_rate, betas=betas)
        self._d_adam = torch.optim.Adam(
            self.discriminator.parameters(), lr=optimizer.learning_rate, betas=betas
        )
        self._images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(where)
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)
        self._sums = {name: torch.zeros((), device=where) for name in MOMENTS}
        self._counted = 0
        self._penalties = 0

    @property
    def images_seen(self) -> int:
        """Real images shown so far."""
        return self.step * self.config.batch

    @property
    def progress(self) -> float:
        """Share of the schedule that is done, 0..1."""
        return min(1.0, self.images_seen / self.config.total_images)

    def run_step(self) -> None:
        """One update of the discriminator and one of the generator."""
        config = self.config
        self._set_learning_rate()
        draw = torch.Generator().manual_seed(_derive(config.seed, "step", self.step))
        where = self.device.torch_device
        real = self._real_batch(draw)
        latents = torch.randn(config.batch, config.generator.latent_dimension, generator=draw)
        noise = torch.rand(2, config.batch, generator=draw).to(where)
        with self.device.autocast():
            fake = self.generator(latents.to(where))
        self._update_discriminator(real, fake.detach(), noise)
        self._update_generator(real, fake)
        self.step += 1
        self.average.update(self.generator, images_seen=self.images_seen, batch=config.batch)
        self._counted += 1

    def _update_discriminator(self, real: Tensor, fake: Tensor, noise: Tensor) -> None:
        loss_config = self.config.loss
        with self.device.autocast():
            scores = self.discriminator(torch.cat([real, fake]))
        on_real, on_fake = scores.chunk(2)
        loss = discriminator_loss(loss_config, on_real, on_fake, real_noise=noise[0], fake_noise=noise[1])
        total = loss
        weight = self._penalty_weight()
        if weight > 0 and self.step % loss_config.penalty_interval == 0:
            both = gradient_penalty(self.discriminator, torch.cat([real, fake])) * 2.0
            total = loss + 0.5 * weight * loss_config.penalty_interval * both
            self._sums["penalty"] += both.detach()
            self._penalties += 1
        self._d_adam.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self._d_adam.step()
        self._sums["d_loss"] += loss.detach()
        self._sums["d_real"] += on_real.detach().mean()
        self._sums["d_fake"] += on_fake.detach().mean()

    def _update_generator(self, real: Tensor, fake: Tensor) -> None:
        self.discriminator.requires_grad_(requires_grad=False)
        with self.device.autocast():
            on_fake = self.discriminator(fake)
            if self.config.loss.kind is LossKind.RPGAN:
                with torch.no_grad():
                    on_real = self.discriminator(real)
            else:
                on_real = on_fake
        loss = generator_loss(self.config.loss, on_real, on_fake)
        self._g_adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._g_adam.step()
        self.discriminator.requires_grad_(requires_grad=True)
        self._sums["g_loss"] += loss.detach()

    def _penalty_weight(self) -> float:
        loss = self.config.loss
        return loss.penalty_start + (loss.penalty_end - loss.penalty_start) * self.progress

    def _set_learning_rate(self) -> None:
        optimizer = self.config.optimizer
        span = optimizer.learning_rate_end - optimizer.learning_rate
        rate = optimizer.learning_rate + span * self.progress
        for adam in (self._g_adam, self._d_adam):
            for group in adam.param_groups:
                group["lr"] = rate

    def _real_batch(self, draw: torch.Generator) -> Tensor:
        chosen = torch.from_numpy(self._next_indices())
        flips = torch.rand(len(chosen), generator=draw) < 0.5
        where = self.device.torch_device
        batch = self._images[chosen.to(where)].float().div_(HALF_RANGE).sub_(1.0)
        if self.config.flip:
            batch = torch.where(flips.to(where)[:, None, None, None], batch.flip(3), batch)
        return batch.contiguous(memory_format=torch.channels_last)

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
        """Means since the last call.

        Raises:
            TrainingDivergedError: one of them is not finite.
        """
        counts = {name: self._penalties if name == "penalty" else self._counted for name in MOMENTS}
        values = {n: float(self._sums[n]) / max(1, counts[n]) for n in MOMENTS}
        broken = [name for name, value in values.items() if not np.isfinite(value)]
        if broken:
            raise TrainingDivergedError(
                f"training diverged at image {self.images_seen}",
                expected="finite losses",
                got=", ".join(f"{name}={values[name]}" for name in broken),
                hint="resume from the last checkpoint with a lower learning rate",
            )
        for total in self._sums.values():
            total.zero_()
        self._counted = self._penalties = 0
        return values

    def state(self) -> dict[str, object]:
        """Everything a resumed run needs: tensors and plain values."""
        return {
            "config": to_json(self.config),
            "step": self.step,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.module.state_dict(),
            "g_adam": self._g_adam.state_dict(),
            "d_adam": self._d_adam.state_dict(),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Continue from `state`; refuses one of another configuration."""
        if state.get("config") != to_json(self.config):
            raise CheckpointError(
                "the training state belongs to another configuration",
                expected=to_json(self.config),
                got=str(state.get("config")),
                hint="start a new run folder, or drop the options that changed",
            )
        self.generator.load_state_dict(state_tensors(state, "generator"))
        self.discriminator.load_state_dict(state_tensors(state, "discriminator"))
        self.average.module.load_state_dict(state_tensors(state, "average"))
        self._g_adam.load_state_dict(state_tensors(state, "g_adam"))
        self._d_adam.load_state_dict(state_tensors(state, "d_adam"))
        self.step = int(str(state["step"]))


def train(
    trainer: Trainer,
    *,
    on_tick: Callable[[Tick], None],
    on_checkpoint: Callable[[], None],
    checkpoint_images: int,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run to the end of the schedule, or until `stop`; a checkpoint is written in both cases."""
    every = max(1, checkpoint_images // trainer.config.batch)
    meter = _Meter(trainer, on_tick)
    saved_step = -1
    while trainer.step < trainer.config.steps and not stop():
        trainer.run_step()
        if trainer.step % every == 0:
            meter.tick()
            on_checkpoint()
            saved_step = trainer.step
            meter.restart()
        elif trainer.step % TICK_STEPS == 0:
            meter.tick()
    if saved_step != trainer.step:
        meter.tick()
        on_checkpoint()


class _Meter:
    """Measures the steps since the last tick; time spent on checkpoints is left out."""

    def __init__(self, trainer: Trainer, on_tick: Callable[[Tick], None]) -> None:
        self._trainer = trainer
        self._on_tick = on_tick
        self.restart()

    def restart(self) -> None:
        """Start measuring here."""
        self._step, self._time = self._trainer.step, time.monotonic()

    def tick(self) -> None:
        """Report and restart; raises `TrainingDivergedError`, says nothing after no steps."""
        trainer = self._trainer
        steps = trainer.step - self._step
        if steps == 0:
            return
        values = trainer.take_moments()
        trainer.device.synchronize()
        seconds = time.monotonic() - self._time
        self._on_tick(
            Tick(
                step=trainer.step,
                images_seen=trainer.images_seen,
                seconds=seconds,
                images_per_second=steps * trainer.config.batch / max(seconds, MIN_SECONDS),
                values=values,
            )
        )
        self.restart()


def _derive(seed: int, purpose: str, counter: int) -> int:
    digest = hashlib.sha256(f"facechain/train/{purpose}/{seed}/{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
