"""What happens to grey images between the array in memory and the network, in training and in use.

Every draw comes from a generator that is handed in, so a step can be repeated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .config import ExpressionConfig

MIN_DEVIATION = 8.0
"""Grey levels: a flatter image is not stretched further."""


def standardize(images: Tensor) -> Tensor:
    """(N, 1, H, W) grey levels to mean 0 and deviation 1 for each image."""
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / deviation.clamp_min(MIN_DEVIATION)


def centre_crop(images: Tensor, side: int) -> Tensor:
    """The central `side` x `side` of (N, C, H, W)."""
    top, left = (images.shape[2] - side) // 2, (images.shape[3] - side) // 2
    return images[:, :, top : top + side, left : left + side]


def augment(images: Tensor, config: ExpressionConfig, draw: torch.Generator, *, side: int) -> Tensor:
    """Flip, turn, scale and move (N, 1, H, W), sample the views, erase rectangles of some.

    Args:
        images: standardised, of the configured resolution.
        config: how much of each.
        draw: on the CPU; where all randomness comes from.
        side: of the views, pixels; they show as much of the face as the classifier's crop does.
    """
    count = len(images)
    moved = _warp(images, config, torch.rand(5, count, generator=draw), side)
    keep = _keep_mask(side, config, torch.rand(5, count, generator=draw))
    return moved * keep.to(moved.device)


def _warp(images: Tensor, config: ExpressionConfig, noise: Tensor, view: int) -> Tensor:
    side, crop = images.shape[-1], config.classifier.crop
    signed = noise * 2.0 - 1.0
    angle = signed[0] * math.radians(config.rotation_degrees)
    scale = (crop / side) / (1.0 + signed[1] * config.zoom)
    mirror = torch.where(noise[4] < 0.5, -1.0, 1.0)
    shift = signed[2:4] * (2.0 * config.shift_pixels / side)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (
        torch.stack([cosine * mirror, -sine, shift[0]], dim=1),
        torch.stack([sine * mirror, cosine, shift[1]], dim=1),
    )
    matrices = torch.stack(rows, dim=1).to(images.device)
    grid = functional.affine_grid(matrices, [len(images), 1, view, view], align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _keep_mask(side: int, config: ExpressionConfig, noise: Tensor) -> Tensor:
    """(N, 1, side, side): 0 inside each image's rectangle, 1 elsewhere."""
    sizes = (
        noise[1:3] * (config.erase_pixels * side / config.classifier.crop) * (noise[0] < config.erase_share)
    )
    starts = noise[3:5] * side - sizes / 2.0
    place = torch.arange(side, dtype=torch.float32)
    inside = [
        (place >= start[:, None]) & (place < (start + size)[:, None])
        for start, size in zip(starts, sizes, strict=True)
    ]
    erased: Tensor = inside[0][:, :, None] & inside[1][:, None, :]
    return erased.logical_not().float()[:, None]
