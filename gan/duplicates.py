"""Exact and near duplicates among synthetic images: the first by index stays, later ones leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .datasets import Pixels

DEFAULT_RMS_LEVELS = 4.0
"""Root mean square difference, in grey levels of 255, up to which two images count as one."""
POOLED_SIDE = 8
BLOCK = 1024


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
        stop = min(start + BLOCK, len(images))
        rows = pooled[start:stop]
        distances = squares[start:stop, None] + squares[None, :stop] - 2.0 * rows @ pooled[:stop].T
        slack = 1e-5 * (squares[start:stop, None] + squares[None, :stop])
        near_rows, near_columns = np.nonzero(distances <= limit + slack)
        for row, column in zip((near_rows + start).tolist(), near_columns.tolist(), strict=True):
            if column < row and keep[row] and keep[column]:
                keep[row] = _rms(images[row], images[column]) > rms_levels
    return keep


def _rms(left: Pixels, right: Pixels) -> float:
    difference = left.astype(np.float64) - right.astype(np.float64)
    return float(np.sqrt((difference**2).mean()))


def _pool(images: Pixels) -> NDArray[np.float64]:
    count, height, width, channels = images.shape
    if not count or height % POOLED_SIDE or width % POOLED_SIDE:
        return images.reshape(count, height * width * channels).astype(np.float64)
    cells = images.reshape(
        count, POOLED_SIDE, height // POOLED_SIDE, POOLED_SIDE, width // POOLED_SIDE, channels
    )
    pooled: NDArray[np.float64] = cells.mean(axis=(2, 4), dtype=np.float64).reshape(count, -1)
    return pooled
