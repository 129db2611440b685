"""The training step.

Every random choice of step *k* is drawn from (seed, k), so a run that was killed and resumed
takes exactly the steps an uninterrupted one takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from .checkpoints import state_tensors
from .config import LossKind, TrainingConfig, differences, from_json, to_json
from .datasets import Pixels
from .device import Device
from .distributed import ALONE, Group
from .ema import AveragedModel
from .errors import CheckpointError, ConfigError, DatasetError, TrainingDivergedError
from .losses import discriminator_loss, generator_loss, gradient_penalty
from .networks import make_discriminator, make_generator
from .schedule import Settings, settings_at

Network = Callable[[Tensor], Tensor]

MOMENTS = ("d_loss", "g_loss", "d_real", "d_fake", "penalty")
MOMENT_MAX = 1e4
"""Scores and losses of a run that works stay far below."""
HALF_RANGE = 127.5
FLIPPED = 0.5


class Trainer:
    """Both networks, their optimisers, the average, and one step of training.

    Args:
        config: decides the weights.
        images: (N, R, R, 3) uint8; moved to the device as a whole.
        device: where to compute.
        group: the processes that train together; the batch is shared among them.
        compiled: let `torch.compile` make the kernels; only where no penalty differentiates twice.
    """

    def __init__(
        self,
        config: TrainingConfig,
        images: Pixels,
        device: Device,
        *,
        group: Group = ALONE,
        compiled: bool = False,
    ) -> None:
        if len(images) < config.batch:
            raise DatasetError(
                "data set smaller than a batch", expected=str(config.batch), got=str(len(images))
            )
        self.config = config
        self.device = device
        self.group = group
        self.step = 0
        self._share = group.share(config.batch)
        torch.manual_seed(derive(config.seed, "init", 0))
        where = device.torch_device
        self.generator = make_generator(config.generator).to(where).to(memory_format=torch.channels_last)
        self.discriminator = (
            make_discriminator(config.discriminator).to(where).to(memory_format=torch.channels_last)
        )
        self.average = AveragedModel(
            self.generator, half_life_images=config.ema_half_life_images, ramp=config.ema_ramp
        )
        self._generate, self._score = self._runners(compiled=compiled)
        self._settings = settings_at(config, 0)
        self._g_adam = self._make_adam(self.generator)
        self._d_adam = self._make_adam(self.discriminator)
        self._images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(where)
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)
        self._sums = {name: torch.zeros((), device=where) for name in MOMENTS}
        self._counted = 0
        self._penalties = 0

    def _runners(self, *, compiled: bool) -> tuple[Network, Network]:
        if not compiled:
            return self.generator, self.discriminator
        if self.config.loss.penalised:
            raise ConfigError(
                "this loss cannot be compiled",
                expected="a loss without penalties: torch.compile does not differentiate twice",
                got=f"{self.config.preset} with R1 and R2",
                hint="leave --compile out",
            )
        return torch.compile(self.generator), torch.compile(self.discriminator)

    def _make_adam(self, module: torch.nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(
            module.parameters(), lr=self._settings.learning_rate, betas=self._settings.betas
        )

    @property
    def images_seen(self) -> int:
        """Real images shown so far."""
        return self.step * self.config.batch

    @property
    def last_step(self) -> int:
        """Steps after which the run is over."""
        return self.config.steps

    def privacy_facts(self) -> dict[str, object]:
        """What the training record says about privacy."""
        return {"privacy": "none"}

    def run_step(self) -> None:
        """One update of the discriminator and one of the generator."""
        config = self.config
        self._settings = settings_at(config, self.images_seen)
        _apply(self._settings, self._g_adam, self._d_adam)
        draw = torch.Generator().manual_seed(derive(config.seed, "step", self.step))
        where = self.device.torch_device
        real = self._real_batch(draw)
        latents = torch.randn(config.batch, config.generator.latent_dimension, generator=draw)
        noise = torch.rand(2, config.batch, generator=draw)[:, self._share].to(where)
        with self.device.autocast():
            fake = self._generate(latents[self._share].to(where))
        self._update_discriminator(real, fake.detach(), noise)
        self._update_generator(real, fake)
        self.step += 1
        self.average.update(self.generator, images_seen=self.images_seen, batch=config.batch)
        self._counted += 1

    def _update_discriminator(self, real: Tensor, fake: Tensor, noise: Tensor) -> None:
        loss_config = self.config.loss
        with self.device.autocast():
            scores = self._score(torch.cat([real, fake]))
        on_real, on_fake = scores.chunk(2)
        loss = discriminator_loss(loss_config, on_real, on_fake, real_noise=noise[0], fake_noise=noise[1])
        total = loss
        weight = self._settings.penalty_weight
        if weight > 0 and self.step % loss_config.penalty_interval == 0:
            both = gradient_penalty(self.discriminator, torch.cat([real, fake])) * 2.0
            total = loss + 0.5 * weight * loss_config.penalty_interval * both
            self._sums["penalty"] += both.detach()
            self._penalties += 1
        self._d_adam.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.group.average_gradients(self.discriminator.parameters())
        self._d_adam.step()
        self._sums["d_loss"] += loss.detach()
        self._sums["d_real"] += on_real.detach().mean()
        self._sums["d_fake"] += on_fake.detach().mean()

    def _update_generator(self, real: Tensor, fake: Tensor) -> None:
        self.discriminator.requires_grad_(requires_grad=False)
        with self.device.autocast():
            on_fake = self._score(fake)
            if self.config.loss.kind is LossKind.RPGAN:
                with torch.no_grad():
                    on_real = self._score(real)
            else:
                on_real = on_fake
        loss = generator_loss(self.config.loss, on_real, on_fake)
        self._g_adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.average_gradients(self.generator.parameters())
        self._g_adam.step()
        self.discriminator.requires_grad_(requires_grad=True)
        self._sums["g_loss"] += loss.detach()

    def _real_batch(self, draw: torch.Generator) -> Tensor:
        chosen = torch.from_numpy(self._next_indices())
        flips = (torch.rand(self.config.batch, generator=draw) < FLIPPED)[self._share]
        where = self.device.torch_device
        batch = self._images[chosen.to(where)].float().div_(HALF_RANGE).sub_(1.0)
        if self.config.flip:
            batch = torch.where(flips.to(where)[:, None, None, None], batch.flip(3), batch)
        return batch.contiguous(memory_format=torch.channels_last)

    def _next_indices(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        batches = len(self._images) // self.config.batch
        epoch, position = divmod(self.step, batches)
        if epoch != self._epoch:
            shuffle = np.random.Generator(np.random.Philox(derive(self.config.seed, "epoch", epoch)))
            self._order = shuffle.permutation(len(self._images))
            self._epoch = epoch
        start = position * self.config.batch
        return self._order[start : start + self.config.batch][self._share]

    def take_moments(self) -> dict[str, float]:
        """Means since the last call, over all processes.

        Raises:
            TrainingDivergedError: one of them is not finite, or beyond `MOMENT_MAX`.
        """
        self.group.average(list(self._sums.values()))
        counts = {name: self._penalties if name == "penalty" else self._counted for name in MOMENTS}
        values = {n: float(self._sums[n]) / max(1, counts[n]) for n in MOMENTS}
        broken = [name for name, value in values.items() if not abs(value) <= MOMENT_MAX]
        if broken:
            raise TrainingDivergedError(
                f"training diverged at image {self.images_seen}",
                expected=f"finite losses up to {MOMENT_MAX:g}",
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
        before = from_json(str(state.get("config")))
        if before != self.config:
            raise CheckpointError(
                "the training state belongs to another configuration",
                expected="the options that it was started with",
                got=differences(before, self.config),
                hint="start a new run folder, or drop the options that changed",
            )
        self.generator.load_state_dict(state_tensors(state, "generator"))
        self.discriminator.load_state_dict(state_tensors(state, "discriminator"))
        self.average.module.load_state_dict(state_tensors(state, "average"))
        self._g_adam.load_state_dict(state_tensors(state, "g_adam"))
        self._d_adam.load_state_dict(state_tensors(state, "d_adam"))
        self.step = int(str(state["step"]))


def _apply(settings: Settings, *adams: torch.optim.Adam) -> None:
    for adam in adams:
        for group in adam.param_groups:
            group["lr"], group["betas"] = settings.learning_rate, settings.betas


def derive(seed: int, purpose: str, counter: int) -> int:
    """Seed of one purpose in one step, from the public seed of the run."""
    digest = hashlib.sha256(f"facechain/train/{purpose}/{seed}/{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
