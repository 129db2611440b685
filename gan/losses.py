"""Objectives: smoothed BCE of the paper, relativistic pairing (RpGAN), zero-centred penalties.

The penalties differentiate the discriminator twice and therefore run it eagerly, in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .config import LossConfig, LossKind

Scorer = Callable[[Tensor], Tensor]


def discriminator_loss(
    config: LossConfig, real: Tensor, fake: Tensor, *, real_noise: Tensor, fake_noise: Tensor
) -> Tensor:
    """Loss of the discriminator for scores (N,); the noises are U(0, 1) per image."""
    if config.kind is LossKind.RPGAN:
        return functional.softplus(fake - real).mean()
    real_labels = config.real_label_low + (1.0 - config.real_label_low) * real_noise
    fake_labels = config.fake_label_high * fake_noise
    on_real = functional.binary_cross_entropy_with_logits(real, real_labels)
    on_fake = functional.binary_cross_entropy_with_logits(fake, fake_labels)
    return on_real + on_fake


def generator_loss(config: LossConfig, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the generator (non-saturating; the paper's Algorithm 1 has the sign wrong)."""
    if config.kind is LossKind.RPGAN:
        return functional.softplus(real - fake).mean()
    return functional.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def gradient_penalty(score: Scorer, images: Tensor) -> Tensor:
    """Mean squared norm of the score's gradient at `images` (R1 on reals, R2 on fakes)."""
    points = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(points).sum(), points, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
