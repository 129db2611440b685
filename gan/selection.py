"""Which generated images go into a batch: rendered in order, filtered, without duplicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .datasets import Pixels
from .duplicates import DEFAULT_RMS_LEVELS, unique_images
from .errors import FilterError
from .filter import ReleaseFilter
from .generation import Renderer

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
    renderer: Renderer,
    *,
    count: int,
    release_filter: ReleaseFilter | None,
    duplicate_rms: float = DEFAULT_RMS_LEVELS,
    on_progress: Progress = lambda *_: None,
) -> Selection:
    """Render from index 0 on until `count` images pass the filter and are no duplicates.

    Raises:
        FilterError: so few pass that something must be wrong.
    """
    shape = (0, *renderer.render_micro_batch(0).shape[1:])
    images, indices = np.empty(shape, dtype=np.uint8), np.empty(0, dtype=np.int64)
    candidates = rejected = duplicates = 0
    block = 0
    while len(indices) < count:
        if candidates > MAX_CANDIDATES_PER_IMAGE * count + renderer.micro_batch:
            raise FilterError(
                "the release filter leaves too little",
                expected=f"{count} of at most {MAX_CANDIDATES_PER_IMAGE * count} candidates",
                got=str(len(indices)),
                hint="the generator may have memorised its training set: do not release it",
            )
        blocks = range(block, block + -(-(count - len(indices)) // renderer.micro_batch))
        fresh = np.concatenate([renderer.render_micro_batch(number) for number in blocks])
        numbers = np.arange(block * renderer.micro_batch, blocks.stop * renderer.micro_batch)
        block = blocks.stop
        candidates += len(fresh)
        if release_filter is not None:
            accepted = release_filter.check(fresh).accepted
            rejected += int((~accepted).sum())
            fresh, numbers = fresh[accepted], numbers[accepted]
        images, indices = np.concatenate([images, fresh]), np.concatenate([indices, numbers])
        single = unique_images(images, rms_levels=duplicate_rms)
        duplicates += int((~single).sum())
        images, indices = images[single], indices[single]
        on_progress("generate", min(len(indices), count), count)
    return Selection(
        indices=tuple(indices[:count].tolist()),
        images=images[:count],
        candidates=candidates,
        rejected=rejected,
        duplicates=duplicates,
    )
