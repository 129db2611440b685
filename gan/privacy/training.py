"""Training whose discriminator is differentially private (DP-SGD); the generator sees data through it alone.

A step: every record (an image, or a person by one of their images) is in with the same probability; the
gradients of their scores are clipped one by one and added; Gaussian noise is added; then the gradient on
generated images, which no record has touched, joins it. Scores of real images are never written anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..checkpoints import newest_state
from ..config import PrivacyUnit, TrainingConfig
from ..datasets import FaceSet
from ..device import Device
from ..distributed import Group
from ..errors import CheckpointError, ConfigError, PrivacyError
from ..training import FLIPPED, HALF_RANGE, Trainer, derive
from .accounting import ACCOUNTANT, Mechanism, check_delta, least_noise, sample_rate, spending, steps_within
from .clipping import clipped_sum
from .recipe import check_recipe
from .secret import Secret, SecretFolder

CHUNK: Final = 64
"""Images that are clipped at a time: what each layer of the discriminator gets is held for so many."""
PUBLIC_MOMENTS: Final = ("g_loss", "d_fake")
"""Means over generated images; the others are of real ones and stay unknown."""

Indices = NDArray[np.int64]


def settle(config: TrainingConfig, training: FaceSet) -> TrainingConfig:
    """`config` with the noise filled in, where it was left to the length of the run.

    Raises:
        PrivacyError: too few records, unnamed people, or a budget that nothing keeps to.
    """
    check_recipe(config)
    privacy = config.privacy
    records = len(records_of(training, privacy.unit))
    check_delta(privacy.delta, records=records)
    rate = sample_rate(batch=config.batch, records=records)
    if privacy.noise_multiplier:
        return config
    noise = least_noise(privacy, rate=rate, steps=config.steps)
    return replace(config, privacy=replace(privacy, noise_multiplier=noise))


def records_of(faces: FaceSet, unit: PrivacyUnit) -> list[Indices]:
    """Numbers of the images of each record, people sorted by name.

    Raises:
        PrivacyError: records are people and an image names none.
    """
    if unit is PrivacyUnit.IMAGE:
        return [np.array([number]) for number in range(len(faces))]
    unnamed = faces.identities.count("")
    if unnamed:
        raise PrivacyError(
            "a guarantee per person needs the person of every image",
            expected="an identity for each image in labels.csv",
            got=f"{unnamed} images without",
        )
    people: dict[str, list[int]] = {}
    for number, who in enumerate(faces.identities):
        people.setdefault(who, []).append(number)
    return [np.array(people[who]) for who in sorted(people)]


def open_private_trainer(
    folder: Path, *, config: TrainingConfig, training: FaceSet, device: Device, group: Group, compiled: bool
) -> PrivateTrainer:
    """Trainer of a run folder, with a new secret where the folder holds no run yet.

    Raises:
        ConfigError: several processes, or compiled kernels.
    """
    if group.size > 1 or compiled:
        raise ConfigError(
            "private training",
            expected="one process, without --compile",
            got=f"{group.size} processes" + (", compiled" if compiled else ""),
        )
    place = SecretFolder.of(folder)
    secret = place.create() if newest_state(folder) is None else place.read()
    return PrivateTrainer(config, training, device, secret=secret)


class PrivateTrainer(Trainer):
    """A trainer that stops before its budget is exceeded.

    Args:
        config: settled by `settle`.
        faces: the training images with their people.
        device: where to compute.
        secret: what the draws come from; None for a run that is over.
    """

    def __init__(
        self, config: TrainingConfig, faces: FaceSet, device: Device, *, secret: Secret | None
    ) -> None:
        check_recipe(config)
        super().__init__(config, faces.images, device)
        self._secret = secret
        self._records = records_of(faces, config.privacy.unit)
        self.mechanism = Mechanism(
            noise_multiplier=config.privacy.noise_multiplier,
            sample_rate=sample_rate(batch=config.batch, records=len(self._records)),
            delta=config.privacy.delta,
        )
        self._allowed = steps_within(self.mechanism, epsilon=config.privacy.epsilon, at_most=config.steps)
        if self._allowed == 0:
            raise PrivacyError(
                "the budget does not pay for one step",
                expected=f"at least {spending(self.mechanism, 1).prv:.3f}",
                got=f"{config.privacy.epsilon:g}",
                hint="raise the noise or the budget",
            )

    @property
    def last_step(self) -> int:
        """See `Trainer`; the budget may end the run earlier."""
        return min(self.config.steps, self._allowed)

    def run_step(self) -> None:
        """See `Trainer`.

        Raises:
            PrivacyError: the step would exceed the budget, or the run's secret is gone.
        """
        if self.step >= self._allowed:
            raise PrivacyError(
                "the privacy budget is spent",
                expected=f"at most {self._allowed} steps at ε = {self.config.privacy.epsilon:g}",
                got=f"step {self.step + 1}",
            )
        super().run_step()

    def _draws(self) -> Secret:
        if self._secret is None:
            raise PrivacyError(
                "the secret of this run is gone",
                expected="secret/noise.key in the run folder",
                got="none",
                hint="steps since the checkpoint would spend privacy twice: start a new run",
            )
        return self._secret

    def _real_batch(self, draw: torch.Generator) -> Tensor:
        secret = self._draws()
        members = secret.sample(self.step, records=len(self._records), rate=self.mechanism.sample_rate)
        which = secret.words("image", self.step, len(self._records))[members]
        chosen = [
            self._records[m][int(w % len(self._records[m]))] for m, w in zip(members, which, strict=True)
        ]
        where = self.device.torch_device
        numbers = torch.tensor(chosen, dtype=torch.int64, device=where)
        batch = self._images[numbers].float().div_(HALF_RANGE).sub_(1.0)
        if self.config.flip:
            flips = (torch.rand(len(chosen), generator=draw) < FLIPPED).to(where)
            batch = torch.where(flips[:, None, None, None], batch.flip(3), batch)
        return batch

    def _update_discriminator(self, real: Tensor, fake: Tensor, noise: Tensor) -> None:
        private = self._private_gradient(real)
        self._d_adam.zero_grad(set_to_none=True)
        on_fake = self._fake_backward(fake, noise[1])
        for weight, gradient in zip(self.discriminator.parameters(), private, strict=True):
            fake_gradient = weight.grad
            weight.grad = gradient if fake_gradient is None else gradient + fake_gradient
        self._d_adam.step()
        self._sums["d_fake"] += on_fake.mean()
        self._fake_steps()

    def _private_gradient(self, real: Tensor) -> list[Tensor]:
        """Clipped, summed and noised gradient of the scores of real images, over the expected batch."""
        privacy = self.config.privacy
        weights = list(self.discriminator.parameters())
        noise = self._draws().noise(self.step, sum(weight.numel() for weight in weights))
        noise *= privacy.noise_multiplier * privacy.clip
        parts = torch.split(noise, [weight.numel() for weight in weights])
        totals = [part.to(weight.device) for part, weight in zip(parts, weights, strict=True)]
        for summed in self._clipped_sums(real):
            for total, part in zip(totals, summed, strict=True):
                total.add_(part.flatten())
        return [
            (total / self.config.batch).to(weight.dtype).view_as(weight)
            for total, weight in zip(totals, weights, strict=True)
        ]

    def _clipped_sums(self, real: Tensor) -> Iterator[list[Tensor]]:
        """Sums over a few images at a time."""
        labels = torch.Generator().manual_seed(derive(self.config.seed, "labels", self.step))
        smoothing = torch.rand(len(real), generator=labels).to(real.device)
        low = self.config.loss.real_label_low
        targets = low + (1.0 - low) * smoothing
        for images, target in zip(torch.split(real, CHUNK), torch.split(targets, CHUNK), strict=True):
            if len(images):

                def loss(scores: Tensor, target: Tensor = target) -> Tensor:
                    return functional.binary_cross_entropy_with_logits(scores, target, reduction="sum")

                yield clipped_sum(self.discriminator, images, loss, clip=self.config.privacy.clip)

    def _fake_backward(self, fake: Tensor, smoothing: Tensor) -> Tensor:
        scores: Tensor = self.discriminator(fake)
        targets = self.config.loss.fake_label_high * smoothing
        functional.binary_cross_entropy_with_logits(scores, targets).backward()  # type: ignore[no-untyped-call]
        return scores.detach()

    def _fake_steps(self) -> None:
        """Further steps on generated images alone."""
        for number in range(self.config.privacy.fake_steps):
            seed = derive(self.config.seed, f"fake-{number}", self.step)
            draw = torch.Generator().manual_seed(seed)
            latents = torch.randn(self.config.batch, self.config.generator.latent_dimension, generator=draw)
            smoothing = torch.rand(self.config.batch, generator=draw).to(self.device.torch_device)
            with torch.no_grad():
                fake = self.generator(latents.to(self.device.torch_device))
            self._d_adam.zero_grad(set_to_none=True)
            self._fake_backward(fake, smoothing)
            self._d_adam.step()

    def take_moments(self) -> dict[str, float]:
        """Means over generated images only."""
        values = super().take_moments()
        return {name: values[name] for name in PUBLIC_MOMENTS}

    def privacy_facts(self) -> dict[str, object]:
        """What was spent so far, for the training record."""
        spent = spending(self.mechanism, self.step)
        privacy = self.config.privacy
        return {
            "privacy": f"DP-SGD per {privacy.unit}",
            "dp_unit": str(privacy.unit),
            "dp_records": len(self._records),
            "dp_epsilon": round(spent.prv, 4),
            "dp_epsilon_rdp": round(spent.rdp, 4),
            "dp_delta": privacy.delta,
            "dp_budget": privacy.epsilon,
            "dp_sample_rate": self.mechanism.sample_rate,
            "dp_noise_multiplier": privacy.noise_multiplier,
            "dp_clip": privacy.clip,
            "dp_steps": self.step,
            "dp_accountant": ACCOUNTANT,
        }

    def state(self) -> dict[str, object]:
        """See `Trainer`; the secret is not in it, only what tells it from another."""
        history = [self.mechanism.noise_multiplier, self.mechanism.sample_rate, self.step]
        fingerprint = "" if self._secret is None else self._secret.fingerprint
        return {**super().state(), "dp_history": [history], "dp_secret": fingerprint}

    def restore(self, state: Mapping[str, object]) -> None:
        """See `Trainer`; refuses another data set's rate and another run's secret."""
        super().restore(state)
        expected = [[self.mechanism.noise_multiplier, self.mechanism.sample_rate, self.step]]
        if state.get("dp_history") != expected:
            raise CheckpointError(
                "the accountant's history", expected=str(expected), got=str(state.get("dp_history"))
            )
        known = state.get("dp_secret")
        if self._secret is not None and known and known != self._secret.fingerprint:
            raise CheckpointError(
                "the secret of another run", expected=str(known), got=self._secret.fingerprint
            )
