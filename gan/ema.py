"""Exponential moving average of a generator's weights, with a half-life in images."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedModel:
    """Owns a frozen copy of a module that trails it.

    Args:
        module: what is averaged; never changed.
        half_life_images: images after which an old weight counts half; 0 copies.
        ramp: early on the half-life is at most this share of the images seen so far.
    """

    def __init__(self, module: nn.Module, *, half_life_images: int, ramp: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(requires_grad=False)
        self._half_life_images = half_life_images
        self._ramp = ramp

    def decay(self, images_seen: int, batch: int) -> float:
        """Share of the old average that survives one step of `batch` images."""
        half_life = min(self._half_life_images, self._ramp * images_seen)
        if half_life <= 0:
            return 0.0
        return float(0.5 ** (batch / half_life))

    @torch.no_grad()
    def update(self, module: nn.Module, *, images_seen: int, batch: int) -> None:
        """Move towards `module`; buffers (batch statistics) are copied."""
        weight = 1.0 - self.decay(images_seen, batch)
        averaged: list[Tensor] = list(self.module.parameters())
        current: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(averaged, current, weight)
        for kept, latest in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(latest)
