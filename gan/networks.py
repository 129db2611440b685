"""Generator and discriminator of the PPSA-GAN family (DCGAN with self-attention), and the choice of a family.

Sizes follow the paper where it can be run: 4x4 transposed convolutions of stride 2, padding 1. The residual family lives in
`residual`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import BASE_RESOLUTION, DiscriminatorConfig, Family, GeneratorConfig, Norm
from .layers import RGB, SelfAttention, initialize
from .residual import ResidualDiscriminator, ResidualGenerator

KERNEL = 4
GROUP_CHANNELS = 16


class Generator(nn.Module):
    """Latent (N, D) to images (N, 3, R, R) in [-1, 1]."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.project = nn.Linear(config.latent_dimension, first * BASE_RESOLUTION**2)
        self.project_norm = _norm(config.norm, first)
        layers: list[nn.Module] = []
        side = BASE_RESOLUTION
        channels = first
        for width in (*config.widths[1:], RGB):
            layers.append(nn.ConvTranspose2d(channels, width, KERNEL, stride=2, padding=1))
            side *= 2
            channels = width
            if side < config.resolution:
                layers += [_norm(config.norm, width), nn.ReLU()]
                if side in config.attention:
                    layers.append(SelfAttention(width))
        self.body = nn.Sequential(*layers)
        initialize(self, config.init, leak=0.0)

    def forward(self, latents: Tensor) -> Tensor:
        """Images for latents; float32 whatever autocast chose inside."""
        start = self.project(latents).view(-1, self.config.widths[0], BASE_RESOLUTION, BASE_RESOLUTION)
        start = start.contiguous(memory_format=torch.channels_last)
        start = functional.relu(self.project_norm(start))
        return torch.tanh(cast("Tensor", self.body(start)).float())


class Discriminator(nn.Module):
    """Images (N, 3, R, R) to one score each (N,); positive means real."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels = RGB
        for width in config.widths:
            layers += [
                nn.Conv2d(channels, width, KERNEL, stride=2, padding=1),
                nn.LeakyReLU(config.leak),
            ]
            channels = width
        self.body = nn.Sequential(*layers)
        self.score = nn.Linear(channels * BASE_RESOLUTION**2, 1)
        initialize(self, config.init, leak=config.leak)

    def features(self, images: Tensor) -> Tensor:
        """Flat features of the last convolution, (N, C·16)."""
        return cast("Tensor", self.body(images)).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Scores in float32."""
        return cast("Tensor", self.score(self.features(images))).float().flatten()


def make_generator(config: GeneratorConfig) -> Generator | ResidualGenerator:
    """Untrained generator of the family that `config` names."""
    return ResidualGenerator(config) if config.family is Family.RESIDUAL else Generator(config)


def make_discriminator(config: DiscriminatorConfig) -> Discriminator | ResidualDiscriminator:
    """Untrained discriminator of the family that `config` names."""
    return ResidualDiscriminator(config) if config.family is Family.RESIDUAL else Discriminator(config)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def _norm(kind: Norm, channels: int) -> nn.Module:
    if kind is Norm.BATCH:
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(max(1, channels // GROUP_CHANNELS), channels)
