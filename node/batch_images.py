"""The images of a batch: decoded, hashed and compared in size, in a bounded pool of threads.

Owns what is registered of one image and the manifest over all of them. It opens no file itself.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..consensus.image import ImageRejected, decode_image, file_hash, pixel_hash
from ..consensus.perceptual import perceptual_hash
from .batch_source import BatchRejected, Source

MANIFEST_FORMAT: Final = "facechain-manifest-1"
IMAGES_MAX: Final = 2**20
DECODERS: Final = min(8, (os.cpu_count() or 1) + 1)
"""Threads that decode images; the decoder works outside the interpreter's lock."""

DECODE_AHEAD: Final = 64
"""Images that wait decoded at once: bounds the memory."""

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What is registered of one image."""

    name: str
    pixel_hash: bytes
    file_hash: bytes
    look: bytes
    width: int
    height: int
    size_bytes: int
    media_type: str


def manifest_bytes(images: Sequence[ImageFacts]) -> bytes:
    """Return the manifest byte for byte as it is hashed (docs/producer.md)."""
    objects = [
        {"media_type": image.media_type, "name": image.file_hash.hex(), "size": image.size_bytes}
        for image in images
    ]
    content = {"format": MANIFEST_FORMAT, "objects": objects}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def examine_all(path: Path, source: Source, names: Sequence[str], on_progress: Progress) -> list[ImageFacts]:
    """Decode every image in a bounded pool; all must have one size."""
    if not names:
        raise BatchRejected(str(path), expected="at least one image", got="none")
    if len(names) > IMAGES_MAX:
        raise BatchRejected(str(path), expected=f"at most {IMAGES_MAX} images", got=str(len(names)))
    images: list[ImageFacts] = []
    with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
        waiting: deque[Future[ImageFacts]] = deque()
        left = iter(names)
        while len(images) < len(names):
            while len(waiting) < DECODE_AHEAD and (name := next(left, None)) is not None:
                data = source.read(name)
                waiting.append(pool.submit(_examine, source.describe(name), name, data))
            try:
                images.append(waiting.popleft().result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            _check_size(source, images[0], images[-1])
            on_progress(len(images), len(names))
    return images


def _examine(what: str, name: str, data: bytes) -> ImageFacts:
    try:
        pixels = decode_image(data)
    except ImageRejected as error:
        raise BatchRejected(what, expected=error.expected, got=error.got) from error
    return ImageFacts(
        name=name,
        pixel_hash=pixel_hash(pixels),
        file_hash=file_hash(data),
        look=perceptual_hash(pixels),
        width=pixels.width,
        height=pixels.height,
        size_bytes=len(data),
        media_type=pixels.media_type,
    )


def _check_size(source: Source, first: ImageFacts, image: ImageFacts) -> None:
    if (image.width, image.height) != (first.width, first.height):
        raise BatchRejected(
            source.describe(image.name),
            expected=f"{first.width} x {first.height} pixels as {first.name}",
            got=f"{image.width} x {image.height}",
            advice="submit images of each size as a batch of its own",
        )
