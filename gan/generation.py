"""From a checkpoint, a seed and an index to pixels and PNG bytes.

Floating-point results depend on the shape of a batch, so the generator always runs on whole
micro-batches aligned to the index: index *i* is row *i mod m* of micro-batch *i div m*, whatever
else is wanted. Each runs in float32 on one thread for the same reason; several run side by side.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..consensus.latent import MAX_INDEX
from .checkpoints import LoadedGenerator, write_atomically
from .datasets import Pixels
from .device import Device
from .errors import ConfigError
from .latents import latent_batch
from .training import HALF_RANGE

DEFAULT_MICRO_BATCH = 64
MAX_MICRO_BATCH = 4096
GENERATION_THREADS = 1
"""CPU kernels may split sums by thread; one thread gives one result on any number of cores."""
PNG_COMPRESSION = 6
PNG_MEDIA_TYPE = "image/png"
NAME_DIGITS = 8
MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = "facechain-manifest-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageObject:
    """One image file as a manifest names it: by its SHA-256."""

    file_hash: bytes
    size_bytes: int
    media_type: str = PNG_MEDIA_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenImages:
    """What `write_images` wrote."""

    count: int
    first: int
    manifest_digest: bytes
    images_per_second: float


class Renderer:
    """Renders images of one generator and one seed.

    Args:
        loaded: the generator.
        seed: 32-byte batch seed.
        device: where to compute; its bf16 setting is ignored.
        micro_batch: images per generator call; part of what must be recorded.
        workers: micro-batches at a time; by default one per processor, and one on a GPU.
    """

    def __init__(
        self,
        loaded: LoadedGenerator,
        *,
        seed: bytes,
        device: Device,
        micro_batch: int = DEFAULT_MICRO_BATCH,
        workers: int | None = None,
    ) -> None:
        if not 1 <= micro_batch <= MAX_MICRO_BATCH:
            raise ConfigError("micro-batch", expected=f"1..{MAX_MICRO_BATCH}", got=str(micro_batch))
        self.seed = seed
        self.micro_batch = micro_batch
        self._device = device
        self._dimension = loaded.config.generator.latent_dimension
        self._module = loaded.module.to(device.torch_device)
        on_cpu = device.torch_device.type == "cpu"
        self._workers = workers or (len(os.sched_getaffinity(0)) if on_cpu else 1)

    def render(self, indices: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
        """Yield (index, (H, W, 3) uint8) for ascending indices."""
        if list(indices) != sorted(set(indices)) or not all(0 <= i <= MAX_INDEX for i in indices):
            raise ConfigError(
                "generator indices",
                expected=f"ascending ones from 0 to {MAX_INDEX}",
                got=f"{indices[0]} to {indices[-1]}",
            )
        wanted = [
            (block, list(members))
            for block, members in itertools.groupby(indices, lambda index: index // self.micro_batch)
        ]
        rendered = self.render_micro_batches([block for block, _ in wanted])
        for (_, members), images in zip(wanted, rendered, strict=True):
            for index in members:
                yield index, images[index % self.micro_batch]

    def render_micro_batches(self, blocks: Sequence[int]) -> Iterator[Pixels]:
        """Micro-batches in this order, a few of them computed before they are asked for."""
        waiting: deque[Future[Pixels]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="render") as pool:
            try:
                for block in blocks:
                    waiting.append(pool.submit(self.render_micro_batch, block))
                    if len(waiting) > self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def render_micro_batch(self, block: int) -> Pixels:
        """All images (m, H, W, 3) of micro-batch number `block`."""
        start = block * self.micro_batch
        latents = latent_batch(self.seed, range(start, start + self.micro_batch), self._dimension)
        with torch.inference_mode(), _fixed_threads():
            images = self._module(torch.from_numpy(latents).to(self._device.torch_device))
            return quantize(images)


def quantize(images: torch.Tensor) -> Pixels:
    """(N, 3, H, W) in [-1, 1] to (N, H, W, 3) uint8, rounding half to even."""
    scaled = images.float().add(1.0).mul(HALF_RANGE).round().clamp(0, 255).to(torch.uint8)
    result: Pixels = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return result


def encode_png(pixels: Pixels) -> bytes:
    """Lossless PNG of an (H, W, 3) uint8 image; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=PNG_COMPRESSION)
    return buffer.getvalue()


def image_name(index: int) -> str:
    """File name of generator index `index`."""
    return f"{index:0{NAME_DIGITS}d}.png"


def describe_object(data: bytes) -> ImageObject:
    """The manifest entry of a PNG file's bytes."""
    return ImageObject(file_hash=hashlib.sha256(data).digest(), size_bytes=len(data))


def manifest_bytes(objects: Sequence[ImageObject]) -> bytes:
    """The manifest, byte for byte as it is hashed (docs/producer.md, "Batch folder")."""
    entries = [
        {"media_type": item.media_type, "name": item.file_hash.hex(), "size": item.size_bytes}
        for item in objects
    ]
    return canonical_json({"format": MANIFEST_FORMAT, "objects": entries})


def canonical_json(value: object) -> bytes:
    """Sorted, compact UTF-8 JSON with one trailing newline."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def write_images(
    renderer: Renderer,
    out: Path,
    *,
    count: int,
    first: int = 0,
    on_image: Callable[[], object] = lambda: None,
) -> WrittenImages:
    """Write `count` PNGs and their manifest into `out`.

    A folder that already holds images of another run is refused, so that nothing is mixed up.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("*.png")):
        raise ConfigError(
            "output folder holds images",
            expected="an empty folder",
            got=str(out),
            hint="choose another --out",
        )
    objects: list[ImageObject] = []
    started = time.monotonic()
    for index, pixels in renderer.render(range(first, first + count)):
        data = encode_png(pixels)
        (out / image_name(index)).write_bytes(data)
        objects.append(describe_object(data))
        on_image()
    manifest = manifest_bytes(objects)
    write_atomically(out / MANIFEST_FILE, lambda path: path.write_bytes(manifest))
    return WrittenImages(
        count=count,
        first=first,
        manifest_digest=hashlib.sha256(manifest).digest(),
        images_per_second=count / max(time.monotonic() - started, 1e-9),
    )


@contextmanager
def _fixed_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(GENERATION_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
