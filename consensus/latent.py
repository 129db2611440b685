"""The latent vector of one generated image, as a counter-based function.

Owns nothing but the function (batch seed, generator index) -> vector. No generator state is
shared between indices, so leaving an image out never changes another, and anyone can draw the
vector of one image alone. All arithmetic is on integers; the float values are exact.

Source: ``docs/protocol.md``, section "Latents". SHAKE-256 is FIPS 202; the sum of twelve uniform
variables is the Irwin-Hall distribution (mean 6, variance 1).
"""

from __future__ import annotations

import hashlib
import sys
from array import array

LATENT_TAG = b"facechain/latent/v1"
UNIFORMS_PER_VALUE = 12
UNIFORM_BYTES = 2
OFFSET = UNIFORMS_PER_VALUE * 0xFFFF // 2
"""Mean of the sum of twelve uniform 16-bit integers: 393,210."""

SCALE = 65_536
"""A latent value is integer / SCALE: exact in IEEE 754 binary32 (19 significant bits)."""

SEED_BYTES = 32
MAX_INDEX = 2**32 - 1


def latent_stream(seed: bytes, index: int, dimension: int) -> bytes:
    """Return the SHAKE-256 output that the vector is made of.

    Returns ``24 * dimension`` bytes: twelve big-endian u16 for each value, value after value.

    Raises:
        ValueError: seed not of 32 bytes, or index outside u32, or dimension below 1.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"seed: expected {SEED_BYTES} bytes, got {len(seed)}")
    if not 0 <= index <= MAX_INDEX:
        raise ValueError(f"generator index: expected 0 to {MAX_INDEX}, got {index}")
    if dimension < 1:
        raise ValueError(f"latent dimension: expected at least 1, got {dimension}")
    message = LATENT_TAG + seed + index.to_bytes(4, "big")
    return hashlib.shake_256(message).digest(UNIFORMS_PER_VALUE * UNIFORM_BYTES * dimension)


def latent_integers(seed: bytes, index: int, dimension: int) -> array[int]:
    """Return ``dimension`` integers; value k is ``sum of twelve u16 - 393210``.

    Divide by :data:`SCALE` for the latent vector, approximately N(0, 1) within [-6, 6].
    """
    uniforms = array("H")
    uniforms.frombytes(latent_stream(seed, index, dimension))
    if sys.byteorder == "little":
        uniforms.byteswap()
    return array(
        "i",
        (
            sum(uniforms[start : start + UNIFORMS_PER_VALUE]) - OFFSET
            for start in range(0, len(uniforms), UNIFORMS_PER_VALUE)
        ),
    )
