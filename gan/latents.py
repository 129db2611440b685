"""The protocol's latent vectors for many indices at once.

The definition is `consensus.latent`; this is the same function over numpy arrays, and a test
holds the two equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..consensus.hashing import tagged_hash
from ..consensus.latent import OFFSET, SCALE, SEED_BYTES, UNIFORMS_PER_VALUE, latent_stream
from .errors import ConfigError

SEED_TEXT_TAG = "facechain/seed-text/v1"


def latent_batch(seed: bytes, indices: Sequence[int], dimension: int) -> NDArray[np.float32]:
    """Latent vectors (len(indices), dimension), float32, exact in every bit.

    Raises:
        ValueError: the seed is not 32 bytes, or an index or the dimension is out of range.
    """
    streams = b"".join(latent_stream(seed, index, dimension) for index in indices)
    uniforms = np.frombuffer(streams, dtype=">u2").astype(np.int32)
    sums = uniforms.reshape(len(indices), dimension, UNIFORMS_PER_VALUE).sum(axis=2) - OFFSET
    latents: NDArray[np.float32] = sums.astype(np.float32) / np.float32(SCALE)
    return latents


def parse_seed(text: str) -> bytes:
    """32 bytes from 64 hex digits, or the tagged hash of any other text (such as a number)."""
    if not text:
        raise ConfigError("empty seed", expected="64 hex digits or any text", got="nothing")
    if len(text) == 2 * SEED_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    return tagged_hash(SEED_TEXT_TAG, text.encode())


def derive_seed(seed: bytes, purpose: str) -> int:
    """A 32-bit seed for a library's own generator, one per purpose."""
    return int.from_bytes(hashlib.sha256(purpose.encode() + b"\x00" + seed).digest()[:4], "big")
