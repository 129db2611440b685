"""A 256-bit perceptual hash: how an altered copy of a registered image is recognised.

Owns the function pixels -> 256 bits. It is a finding aid, never part of a rule: a match is always
recomputed from the pixels and reported with its distance.

The luma plane is averaged down to 32 x 32 cells, transformed by a DCT-II, and the 256 lowest
frequencies (without the constant ones) against their median give the bits. All values are integers
below 2**53, so that the matrix products in binary64 are exact in any order of summation, and every
machine finds the same bits.

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

MATCH_DISTANCE = 48
"""Greatest distance at which an image is called an altered copy of a registered one.

Chosen from what tests/bench/bench_looks.py measures on 32 x 32 faces of the embedded generator (table in
docs/audit.md).
"""

MATCH_PAIRS_MEASURED = 1_999_000
"""Pairs of different faces of one generator that were compared; none was within :data:`MATCH_DISTANCE`."""

MATCH_FALSE_RATE_BOUND = 3 / MATCH_PAIRS_MEASURED
"""Upper bound (95 %, rule of three) of the share of pairs of different faces within the distance."""

LUMA_WEIGHTS = (299, 587, 114)
"""ITU-R BT.601 luma in thousandths."""

LUMA_SCALE = sum(LUMA_WEIGHTS)
CELL_SCALE = 256
"""Cells are luma (0 to 255) in 1/256, rounded down."""

COSINE_SCALE = 4_096
"""Cosines are rounded to this many parts: 33 bits after one product with cells, 50 after two."""


def perceptual_hash(pixels: Pixels) -> bytes:
    """Return the 32-byte perceptual hash of an image of any size."""
    import numpy as np  # noqa: PLC0415 - imported by the commands that look at pixels

    samples = np.frombuffer(pixels.rgb, dtype=np.uint8).reshape(1, pixels.height, pixels.width, 3)
    return perceptual_hashes(samples)[0]


def perceptual_hashes(images: NDArray[np.uint8]) -> list[bytes]:
    """Hash a stack of images of shape (n, height, width, 3), uint8; returns n times 32 bytes."""
    import numpy as np  # noqa: PLC0415

    height, width = images.shape[1:3]
    luma = np.zeros(images.shape[:3], dtype=np.float64)
    for channel, weight in enumerate(LUMA_WEIGHTS):
        luma += images[..., channel] * float(weight)
    sums = (_averaging(height) @ luma @ _averaging(width).T).astype(np.int64)
    cells = sums * CELL_SCALE // (LUMA_SCALE * width * height)
    cells -= cells.sum(axis=(1, 2), keepdims=True) // (GRID * GRID)
    spectrum = _cosines() @ cells.astype(np.float64) @ _cosines().T
    low = spectrum.reshape(len(images), BLOCK * BLOCK)
    middle = np.sort(low, axis=1)[:, BLOCK * BLOCK // 2 - 1 : BLOCK * BLOCK // 2 + 1].sum(axis=1)
    return [row.tobytes() for row in np.packbits(2 * low > middle[:, None], axis=1)]


def is_telling(look: bytes) -> bool:
    """Return whether likeness by this hash means anything.

    Of 256 frequencies half are above their median. Where nearly none is, most of them are zero: the image
    has one colour or plain stripes, and is no nearer to a copy of itself than to any other such image.
    """
    return int.from_bytes(look, "big").bit_count() > MATCH_DISTANCE


def hamming(left: bytes, right: bytes) -> int:
    """Count the differing bits of two perceptual hashes (0 to 256)."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_count()


@cache
def _averaging(size: int) -> Any:
    """Matrix of shape (GRID, size): how many 1/GRID parts of each sample lie in each cell."""
    import numpy as np  # noqa: PLC0415

    cell_starts = np.arange(GRID)[:, None] * size
    sample_starts = np.arange(size)[None, :] * GRID
    ends = np.minimum(cell_starts + size, sample_starts + GRID)
    return np.clip(ends - np.maximum(cell_starts, sample_starts), 0, None).astype(np.float64)


@cache
def _cosines() -> Any:
    """DCT-II rows 1 to BLOCK of shape (BLOCK, GRID), rounded to integers: the constant one is left out."""
    import numpy as np  # noqa: PLC0415

    rows = [
        [
            round(COSINE_SCALE * math.cos(math.pi * frequency * (2 * cell + 1) / (2 * GRID)))
            for cell in range(GRID)
        ]
        for frequency in range(1, BLOCK + 1)
    ]
    return np.asarray(rows, dtype=np.float64)
