"""Exact and near duplicates among synthetic images: the first by index stays, later ones leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .datasets import Pixels

DEFAULT_RMS_LEVELS = 4.0
"""Root mean square difference, in grey levels of 255, up to which two images count as one."""
POOLED_SIDE = 8
BLOCK = 1024
ROUNDING = 1e-5
"""Slack relative to the squares, so that rounding loses no pair."""

Floats = NDArray[np.float64]


def unique_images(images: Pixels, *, rms_levels: float = DEFAULT_RMS_LEVELS) -> NDArray[np.bool_]:
    """(N,) true for images that are not within `rms_levels` of an earlier one that stays.

    Averaging over cells never increases the root mean square difference (Jensen), so comparing
    pooled images first loses no pair; only the few pairs left are compared in full.
    """
    keep = np.ones(len(images), dtype=np.bool_)
    pooled = _pool(images)
    squares = (pooled**2).sum(axis=1)
    limit = rms_levels**2 * pooled.shape[1]
    for start in range(0, len(images), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(images)))
        near = np.concatenate(
            [_near_pairs(pooled, squares, rows, other, limit) for other in range(0, start + 1, BLOCK)]
        )
        for row, column in near[np.lexsort((near[:, 1], near[:, 0]))].tolist():
            if column < row and keep[row] and keep[column]:
                keep[row] = _rms(images[row], images[column]) > rms_levels
    return keep


def _near_pairs(
    pooled: Floats, squares: Floats, rows: NDArray[np.int64], start: int, limit: float
) -> NDArray[np.int64]:
    """(M, 2) pairs of `rows` with the block of images from `start` whose pooled images are near."""
    stop = min(start + BLOCK, len(pooled))
    sums = squares[rows][:, None] + squares[None, start:stop]
    distances = sums - 2.0 * pooled[rows] @ pooled[start:stop].T
    near, other = np.nonzero(distances <= limit + ROUNDING * sums)
    return np.stack([rows[near], other + start], axis=1)


def _rms(left: Pixels, right: Pixels) -> float:
    difference = left.astype(np.float64) - right.astype(np.float64)
    return float(np.sqrt((difference**2).mean()))


def _pool(images: Pixels) -> Floats:
    count, height, width, channels = images.shape
    if not count or height % POOLED_SIDE or width % POOLED_SIDE:
        return images.reshape(count, height * width * channels).astype(np.float64)
    cells = images.reshape(
        count, POOLED_SIDE, height // POOLED_SIDE, POOLED_SIDE, width // POOLED_SIDE, channels
    )
    pooled: Floats = cells.mean(axis=(2, 4), dtype=np.float64).reshape(count, -1)
    return pooled
