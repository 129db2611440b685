"""Generator and discriminator of the PPSA-GAN family (DCGAN with self-attention).

Sizes follow the paper where it can be run: 4x4 transposed convolutions of stride 2, padding 1.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import BASE_RESOLUTION, DiscriminatorConfig, GeneratorConfig, Init, Norm

RGB = 3
KERNEL = 4
ATTENTION_REDUCTION = 8
GROUP_CHANNELS = 16
DCGAN_STD = 0.02


class SelfAttention(nn.Module):
    """Self-attention over all positions (Zhang et al. 2019), added with a learned gate from 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // ATTENTION_REDUCTION)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        count, channels, height, width = images.shape
        query = self.query(images).flatten(2).transpose(1, 2)
        key = self.key(images).flatten(2).transpose(1, 2)
        value = self.value(images).flatten(2).transpose(1, 2)
        weights: Tensor = torch.softmax(query @ key.transpose(1, 2), dim=-1).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).reshape(count, channels, height, width)
        added: Tensor = images + self.gate.to(images.dtype) * mixed
        return added


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
        _initialize(self, config.init, leak=0.0)

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
        _initialize(self, config.init, leak=config.leak)

    def features(self, images: Tensor) -> Tensor:
        """Flat features of the last convolution, (N, C·16)."""
        return cast("Tensor", self.body(images)).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Scores in float32."""
        return cast("Tensor", self.score(self.features(images))).float().flatten()


def parameter_count(module: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def _norm(kind: Norm, channels: int) -> nn.Module:
    if kind is Norm.BATCH:
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(max(1, channels // GROUP_CHANNELS), channels)


def _initialize(root: nn.Module, kind: Init, *, leak: float) -> None:
    for module in root.modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        if kind is Init.DCGAN:
            nn.init.normal_(module.weight, 0.0, DCGAN_STD)
        else:
            nn.init.kaiming_normal_(module.weight, a=leak, nonlinearity="leaky_relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
