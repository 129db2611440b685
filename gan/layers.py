"""Layers and initialisation that the families of networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import Init

RGB = 3
ATTENTION_REDUCTION = 8
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


def initialize(root: nn.Module, kind: Init, *, leak: float) -> None:
    """Draw every weight of the convolutions and linear layers under `root`; biases start at 0."""
    for module in root.modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        if kind is Init.DCGAN:
            nn.init.normal_(module.weight, 0.0, DCGAN_STD)
        else:
            nn.init.kaiming_normal_(module.weight, a=leak, nonlinearity="leaky_relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
