"""The space in which faces are clustered: leading principal components of the pixels in [0, 1].

Fitted on the very images that are clustered (a sample of them when they are many). It has no weights to download and sees
no real face; Euclidean distance in it is pixel distance without the components that are mostly noise.
"""

from __future__ import annotations

import tempfile

import numpy as np
from numpy.typing import NDArray

from .datasets import Pixels

FIT_SAMPLE = 20_000
CHUNK_IMAGES = 8_192
POINTS_IN_MEMORY_BYTES = 256 * 2**20
"""Larger sets of points live in a temporary file."""

Floats = NDArray[np.float32]


def project(images: Pixels, mean: Floats, basis: Floats) -> Floats:
    """Images in the feature space, (N, C), read in chunks."""
    points = _room_for(len(images), len(basis))
    for start in range(0, len(images), CHUNK_IMAGES):
        chunk = images[start : start + CHUNK_IMAGES]
        flat = chunk.reshape(len(chunk), -1).astype(np.float32) / np.float32(255)
        points[start : start + len(chunk)] = (flat - mean) @ basis.T
    return points


def _room_for(count: int, components: int) -> Floats:
    if count * components * 4 <= POINTS_IN_MEMORY_BYTES:
        return np.empty((count, components), dtype=np.float32)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the nameless file alive
        return np.memmap(file, dtype=np.float32, mode="w+", shape=(count, components))


def principal_components(images: Pixels, components: int) -> tuple[Floats, Floats, float]:
    """Mean (D,), basis (C, D) and the share of the variance that it keeps, of at most `FIT_SAMPLE` images."""
    step = max(1, -(-len(images) // FIT_SAMPLE))
    sample = images[::step].reshape(len(images[::step]), -1).astype(np.float64) / 255
    mean = sample.mean(axis=0)
    centred = sample - mean
    kept = min(components, *centred.shape)
    if centred.shape[0] <= centred.shape[1]:
        variances, left = np.linalg.eigh(centred @ centred.T)
        chosen = np.argsort(variances)[::-1][:kept]
        basis: NDArray[np.float64] = (centred.T @ left[:, chosen]).T
        basis /= np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-12)
    else:
        variances, right = np.linalg.eigh(centred.T @ centred)
        chosen = np.argsort(variances)[::-1][:kept]
        basis = right[:, chosen].T
    signs = np.sign(basis[np.arange(kept), np.abs(basis).argmax(axis=1)])
    oriented = basis * np.where(signs == 0, 1, signs)[:, None]
    total = float(variances.clip(min=0).sum())
    explained = float(variances[chosen].clip(min=0).sum() / total) if total > 0 else 1.0
    return mean.astype(np.float32), oriented.astype(np.float32), explained
