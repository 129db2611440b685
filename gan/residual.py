"""Residual generator and discriminator: no normalisation, dense 3x3 convolutions, bilinear resampling.

After R3GAN (Huang et al. 2024), with self-attention instead of its grouped convolutions. Training is kept
stable by the loss (RpGAN with R1 and R2 at every step) and by blocks that start as the identity: the last convolution of
each is zero.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import BASE_RESOLUTION, DiscriminatorConfig, GeneratorConfig
from .layers import RGB, SelfAttention, initialize

GENERATOR_LEAK = 0.2


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), both 3x3."""

    def __init__(self, channels: int, *, leak: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self._leak = leak

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        inner = self.first(functional.leaky_relu(images, self._leak))
        added: Tensor = images + self.last(functional.leaky_relu(inner, self._leak))
        return added


class Double(nn.Module):
    """Twice the side by bilinear interpolation."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        return functional.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


class ResidualGenerator(nn.Module):
    """Latent (N, D) to images (N, 3, R, R), meant for [-1, 1] and not forced into it."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.project = nn.Linear(config.latent_dimension, first * BASE_RESOLUTION**2)
        layers: list[nn.Module] = []
        side = BASE_RESOLUTION
        for width, following in zip(config.widths, (*config.widths[1:], None), strict=True):
            layers += _stage(width, side, depth=config.depth, attention=config.attention, leak=GENERATOR_LEAK)
            if following is not None:
                layers += [_change_width(width, following), Double()]
                side *= 2
        layers += [nn.LeakyReLU(GENERATOR_LEAK), nn.Conv2d(config.widths[-1], RGB, 3, padding=1)]
        self.body = nn.Sequential(*layers)
        _start_as_identity(self, leak=GENERATOR_LEAK, config=config)

    def forward(self, latents: Tensor) -> Tensor:
        """Images for latents; float32 whatever autocast chose inside."""
        start = self.project(latents).view(-1, self.config.widths[0], BASE_RESOLUTION, BASE_RESOLUTION)
        start = start.contiguous(memory_format=torch.channels_last)
        return cast("Tensor", self.body(start)).float()


class ResidualDiscriminator(nn.Module):
    """Images (N, 3, R, R) to one score each (N,); positive means real."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [nn.Conv2d(RGB, config.widths[0], 3, padding=1)]
        side = config.resolution
        for width, following in zip(config.widths, (*config.widths[1:], None), strict=True):
            layers += _stage(width, side, depth=config.depth, attention=config.attention, leak=config.leak)
            if following is not None:
                layers += [nn.AvgPool2d(2), _change_width(width, following)]
                side //= 2
        layers.append(nn.LeakyReLU(config.leak))
        self.body = nn.Sequential(*layers)
        self.score = nn.Linear(config.widths[-1] * BASE_RESOLUTION**2, 1)
        _start_as_identity(self, leak=config.leak, config=config)

    def features(self, images: Tensor) -> Tensor:
        """Flat features of the last stage, (N, C·16)."""
        return cast("Tensor", self.body(images)).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Scores in float32."""
        return cast("Tensor", self.score(self.features(images))).float().flatten()


def _stage(width: int, side: int, *, depth: int, attention: tuple[int, ...], leak: float) -> list[nn.Module]:
    blocks: list[nn.Module] = [ResidualBlock(width, leak=leak) for _ in range(depth)]
    return [*blocks, SelfAttention(width)] if side in attention else blocks


def _change_width(channels: int, following: int) -> nn.Module:
    if channels == following:
        return nn.Identity()
    return nn.Conv2d(channels, following, 1, bias=False)


def _start_as_identity(
    module: nn.Module, *, leak: float, config: GeneratorConfig | DiscriminatorConfig
) -> None:
    initialize(module, config.init, leak=leak)
    for part in module.modules():
        if isinstance(part, ResidualBlock):
            nn.init.zeros_(part.last.weight)
