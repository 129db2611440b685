"""Notices a generator that came to draw the same face for every latent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import TrainingDivergedError

COLLAPSED_SHARE = 0.05
"""Below this share of the real faces' variety a set of images shows one face."""
COLLAPSED_CHECKPOINTS = 2
"""That many checkpoints in a row."""
GRACE_IMAGES = 20_000
"""A young generator has not learned to vary yet."""


def variety(images: NDArray[np.uint8]) -> float:
    """Standard deviation between images (N, H, W, 3), mean over all positions, in grey levels."""
    return float(images.astype(np.float32).std(axis=0).mean())


class CollapseWatch:
    """Compares the variety of generated samples with that of real faces at every checkpoint.

    Args:
        real_variety: of the training faces.
        grace_images: images during which nothing is said.
    """

    def __init__(self, real_variety: float, *, grace_images: int = GRACE_IMAGES) -> None:
        self._real_variety = real_variety
        self._grace_images = grace_images
        self._collapsed = 0

    def look(self, samples: NDArray[np.uint8], *, images_seen: int) -> float:
        """Return the samples' variety as a share of the real faces'.

        Raises:
            TrainingDivergedError: it was too small this time and the times before.
        """
        share = variety(samples) / max(self._real_variety, 1e-9)
        low = share < COLLAPSED_SHARE and images_seen > self._grace_images
        self._collapsed = self._collapsed + 1 if low else 0
        if self._collapsed >= COLLAPSED_CHECKPOINTS:
            raise TrainingDivergedError(
                f"the generator collapsed by image {images_seen}",
                expected=f"at least {COLLAPSED_SHARE:.0%} of the variety of real faces",
                got=f"{share:.2%} at {self._collapsed} checkpoints in a row",
                hint="resume from an earlier checkpoint with a lower learning rate or a higher penalty",
            )
        return share
