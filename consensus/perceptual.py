"""A 256-bit perceptual hash: how an altered copy of a registered image is recognised.

Owns the function pixels -> 256 bits. It is a finding aid, never part of a rule: a match is always
recomputed from the pixels and reported with its distance.

The luma plane is averaged down to 32 x 32 cells, transformed by a DCT-II, and the sign of the 256
lowest frequencies (without the constant one) against their median gives the bits.

Source: ``docs/protocol.md``, section "Perceptual hash".
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .image import Pixels

HASH_BYTES = 32
GRID = 32
"""Cells a side after averaging."""

BLOCK = 16
"""Frequencies a side; 16 x 16 = 256 bits."""

LUMA_WEIGHTS = (299, 587, 114)
"""ITU-R BT.601 luma in thousandths."""


def perceptual_hash(pixels: Pixels) -> bytes:
    """Return the 32-byte perceptual hash of an image of any size."""
    import numpy as np  # noqa: PLC0415 - imported by the commands that look at pixels

    samples = np.frombuffer(pixels.rgb, dtype=np.uint8).reshape(1, pixels.height, pixels.width, 3)
    return perceptual_hashes(samples)[0]


def perceptual_hashes(images: NDArray[np.uint8]) -> list[bytes]:
    """Hash a stack of images of shape (n, height, width, 3), uint8; returns n times 32 bytes."""
    import numpy as np  # noqa: PLC0415

    luma = images.astype(np.float64) @ (np.asarray(LUMA_WEIGHTS, dtype=np.float64) / 1000)
    rows = _averaging(images.shape[1])
    columns = _averaging(images.shape[2])
    cells = rows @ luma @ columns.T
    spectrum = _cosines() @ cells @ _cosines().T
    low = spectrum.reshape(len(images), BLOCK * BLOCK)
    return [np.packbits(row > np.median(row)).tobytes() for row in low]


def hamming(left: bytes, right: bytes) -> int:
    """Count the differing bits of two perceptual hashes (0 to 256)."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_count()


@cache
def _averaging(size: int) -> Any:
    """Area-averaging matrix of shape (GRID, size); each row sums to one."""
    import numpy as np  # noqa: PLC0415

    matrix = np.zeros((GRID, size), dtype=np.float64)
    step = size / GRID
    for cell in range(GRID):
        start, stop = cell * step, (cell + 1) * step
        for sample in range(math.floor(start), min(size, math.ceil(stop))):
            matrix[cell, sample] = (min(stop, sample + 1) - max(start, sample)) / step
    return matrix


@cache
def _cosines() -> Any:
    """DCT-II rows 1 to BLOCK of shape (BLOCK, GRID): the constant frequency is left out."""
    import numpy as np  # noqa: PLC0415

    frequency = np.arange(1, BLOCK + 1)[:, None]
    position = np.arange(GRID)[None, :]
    return np.cos(math.pi / GRID * (position + 0.5) * frequency)
