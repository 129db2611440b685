"""Where a batch is computed: in this process, or spread over a cluster (`ray_engine`).

Both do the same work on the same pieces, micro-batches aligned to the index, one thread each, so that they give the
same bytes. What depends on all images, duplicates and clusters, stays with `produce`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .batchfolder import EncodedImages, encode_images
from .datasets import Pixels
from .filter import ReleaseFilter
from .generation import Renderer
from .imagestore import ImageStore

OnDone = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """One micro-batch and what the release filter says of it."""

    block: int
    images: Pixels
    """(m, H, W, 3)."""
    accepted: NDArray[np.bool_]
    """(m,)."""


class Engine(Protocol):
    """Renders and encodes."""

    def candidates(self, blocks: range) -> Iterator[Candidates]:
        """Micro-batches of these numbers, in order."""

    def encode(self, indices: Sequence[int], images: Pixels, on_done: OnDone) -> EncodedImages:
        """Encode, hash and store images (N, H, W, 3); `on_done` is told how many of them, now and then."""


class LocalEngine:
    """This process, on all its processors."""

    def __init__(
        self, renderer: Renderer, *, release_filter: ReleaseFilter | None, store: ImageStore | None
    ) -> None:
        self._renderer = renderer
        self._filter = release_filter
        self._store = store

    def candidates(self, blocks: range) -> Iterator[Candidates]:
        """See `Engine`."""
        for block, images in zip(blocks, self._renderer.render_micro_batches(blocks), strict=True):
            yield Candidates(block=block, images=images, accepted=judge(self._filter, images))

    def encode(self, indices: Sequence[int], images: Pixels, on_done: OnDone) -> EncodedImages:
        """See `Engine`."""
        encoded = encode_images(indices, images)
        if self._store is not None:
            for data in encoded.files:
                self._store.put(data)
                on_done(1)
        return encoded


def judge(release_filter: ReleaseFilter | None, images: Pixels) -> NDArray[np.bool_]:
    """Which of (m, H, W, 3) images may be released, the same wherever it is asked."""
    if release_filter is None:
        return np.ones(len(images), dtype=np.bool_)
    with threadpool_limits(limits=1):  # sums split by thread would differ in the last bits
        return release_filter.check(images).accepted
