"""A batch computed by the workers of a Ray cluster (extra `ray`), byte for byte as one process computes it.

Ray Data spreads the micro-batches over actors, each with a generator and a filter of its own, and gives the work of an actor
that died to another one. Real faces never enter Ray's object store: each actor builds its filter from the data set itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .batchfolder import EncodedImages, encode_images, join_encoded
from .checkpoints import load_generator
from .datasets import Pixels
from .device import open_device
from .engine import Candidates, OnDone, judge
from .errors import CheckpointError, ConfigError, MissingPackageError
from .filter import ReleaseFilter
from .generation import Renderer
from .imagestore import ImageStore

ENCODE_IMAGES = 512
"""Images that one call of a worker encodes."""

Rows = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RayWork:
    """What a worker needs to know; small, for it is sent to each of them."""

    generator: Path
    digest: bytes
    """SHA-256 of the generator's file: a worker whose copy differs must not take part."""
    seed: bytes
    micro_batch: int
    make_filter: Callable[[], ReleaseFilter] | None
    store_url: str | None


class RayEngine:
    """See `Engine`. Make it inside of `connected`."""

    def __init__(self, work: RayWork, *, workers: int) -> None:
        self._work = work
        self._workers = workers

    def candidates(self, blocks: range) -> Iterator[Candidates]:
        """See `Engine`."""
        import ray

        rows = ray.data.from_items([{"block": block} for block in blocks], override_num_blocks=len(blocks))
        rendered = rows.map_batches(
            _RenderingWorker,
            fn_constructor_args=(self._work,),
            batch_size=1,
            concurrency=min(self._workers, len(blocks)),
            num_cpus=1,
        )
        waiting: dict[int, Candidates] = {}
        following = iter(blocks)
        wanted = next(following, None)
        row: dict[str, Any]
        for row in rendered.iter_rows():
            found = Candidates(
                block=int(row["block"]), images=np.array(row["images"]), accepted=np.array(row["accepted"])
            )
            waiting[found.block] = found
            while wanted is not None and wanted in waiting:
                yield waiting.pop(wanted)
                wanted = next(following, None)

    def encode(self, indices: Sequence[int], images: Pixels, on_done: OnDone) -> EncodedImages:
        """See `Engine`."""
        import ray

        starts = range(0, len(indices), ENCODE_IMAGES)
        numbers = np.asarray(indices, dtype=np.int64)
        parts: list[dict[str, Any]] = [
            {
                "start": start,
                "indices": numbers[start : start + ENCODE_IMAGES],
                "images": images[start : start + ENCODE_IMAGES],
            }
            for start in starts
        ]
        remote = ray.remote(num_cpus=1, max_retries=-1)(_encode_part)
        pending = {remote.remote(self._work, part): part["start"] for part in parts}
        found: dict[int, EncodedImages] = {}
        while pending:
            (ready, *_), _ = ray.wait(list(pending))
            start = pending.pop(ready)
            found[start] = ray.get(ready)
            on_done(len(found[start].files))
        return join_encoded([found[start] for start in starts])


class _RenderingWorker:
    """An actor: loads once, renders and judges many micro-batches."""

    def __init__(self, work: RayWork) -> None:
        torch.set_num_threads(1)
        loaded = load_generator(work.generator)
        if loaded.digest != work.digest:
            raise CheckpointError(
                "a worker has another generator", expected=work.digest.hex(), got=loaded.digest.hex()
            )
        device = open_device("cpu", bf16=False)
        self._renderer = Renderer(
            loaded, seed=work.seed, device=device, micro_batch=work.micro_batch, workers=1
        )
        self._filter = work.make_filter() if work.make_filter is not None else None

    def __call__(self, rows: Rows) -> Rows:
        """One micro-batch a row."""
        images = np.stack([self._renderer.render_micro_batch(int(block)) for block in rows["block"]])
        accepted = np.stack([judge(self._filter, part) for part in images])
        return {"block": rows["block"], "images": images, "accepted": accepted}


def _encode_part(work: RayWork, part: dict[str, Any]) -> EncodedImages:
    encoded = encode_images(tuple(int(index) for index in part["indices"]), part["images"])
    if work.store_url is not None:
        store = ImageStore(work.store_url)
        for data in encoded.files:
            store.put(data)
    return encoded


@contextmanager
def connected(*, workers: int, address: str | None = None) -> Iterator[None]:
    """Join the cluster at `address`, or start one of `workers` processes on this machine and end it after.

    Raises:
        MissingPackageError: Ray is not installed.
        ConfigError: no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError(
            "Ray is not installed",
            expected="the package ray[data]",
            got=str(error),
            hint="pip install 'facechain-node[ray]', or leave --engine out",
        ) from error
    try:
        if address is None:
            ray.init(
                num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            "no Ray cluster", expected="one that answers", got=f"{address}: {str(error).splitlines()[0]}"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield
    finally:
        ray.shutdown()
