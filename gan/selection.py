"""Which generated images go into a batch: rendered in order, filtered, without duplicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .datasets import Pixels
from .duplicates import DEFAULT_RMS_LEVELS, unique_images
from .engine import Engine
from .errors import FilterError

MAX_CANDIDATES_PER_IMAGE = 10
"""Give up when more than this many candidates are needed for each image that is kept."""


Progress = Callable[[str, int, int], None]
"""Called with a step's name, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Images that passed, and how many did not."""

    indices: tuple[int, ...]
    images: Pixels
    candidates: int
    rejected: int
    duplicates: int
    withheld: int = 0
    """Taken back because their clusters were too small."""

    def without(self, gone: NDArray[np.bool_]) -> Selection:
        """The images where `gone` (N,) is false; the others count as withheld."""
        return replace(
            self,
            indices=tuple(np.asarray(self.indices, dtype=np.int64)[~gone].tolist()),
            images=self.images[~gone],
            withheld=self.withheld + int(gone.sum()),
        )


def select_images(
    engine: Engine,
    *,
    count: int,
    micro_batch: int,
    duplicate_rms: float = DEFAULT_RMS_LEVELS,
    on_progress: Progress = lambda *_: None,
) -> Selection:
    """Take candidates from index 0 on until `count` images pass the filter and are no duplicates.

    Raises:
        FilterError: so few pass that something must be wrong.
    """
    images: Pixels | None = None
    indices = np.empty(0, dtype=np.int64)
    candidates = rejected = duplicates = 0
    block = 0
    while len(indices) < count:
        if candidates > MAX_CANDIDATES_PER_IMAGE * count + micro_batch:
            raise FilterError(
                "the release filter leaves too little",
                expected=f"{count} of at most {MAX_CANDIDATES_PER_IMAGE * count} candidates",
                got=str(len(indices)),
                hint="the generator may have memorised its training set: do not release it",
            )
        blocks = range(block, block + -(-(count - len(indices)) // micro_batch))
        block = blocks.stop
        fresh = [] if images is None else [images]
        numbers = [indices]
        for found in engine.candidates(blocks):
            candidates += len(found.images)
            rejected += int((~found.accepted).sum())
            fresh.append(found.images[found.accepted])
            numbers.append(found.block * micro_batch + np.flatnonzero(found.accepted))
            on_progress("generate", min(sum(map(len, fresh)), count), count)
        images, indices = np.concatenate(fresh), np.concatenate(numbers)
        single = unique_images(images, rms_levels=duplicate_rms)
        duplicates += int((~single).sum())
        images, indices = images[single], indices[single]
    if images is None:
        raise FilterError("no images asked for", expected="at least 1", got=str(count))
    return Selection(
        indices=tuple(indices[:count].tolist()),
        images=images[:count],
        candidates=candidates,
        rejected=rejected,
        duplicates=duplicates,
    )
