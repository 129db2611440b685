"""What it costs to code an image as PNG, and to commit to it: the times that the paper's "encode" and "decode" could be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

from ...consensus.image import Pixels as DecodedImage
from ...consensus.image import decode_image, pixel_hash
from ...consensus.records import Record, Records
from ..datasets import Pixels
from ..generation import describe_object, encode_png

Result = TypeVar("Result")

IMAGES_MAX = 1_000
"""Images that are coded; more would not change a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecTimes:
    """Means over `images`, in one thread, of processor time: other programs do not count."""

    images: int
    png_encode_ms: float
    png_decode_ms: float
    png_bytes: int
    commit_ms: float
    """Pixel hash, file hash, record and the image's share of the batch's Merkle root."""

    def to_json(self) -> dict[str, object]:
        """Field by field."""
        return asdict(self)


def measure_codec(images: Pixels) -> CodecTimes:
    """Time the codec on the first `IMAGES_MAX` of (N, H, W, 3) uint8 images, after one image that is not counted."""
    taken = images[:IMAGES_MAX]
    decode_image(encode_png(taken[0]))
    files, encode = _timed(lambda: [encode_png(image) for image in taken])
    decoded, decode = _timed(lambda: [decode_image(data) for data in files])
    _, commit = _timed(lambda: _commit(decoded, files))
    count = len(taken)
    return CodecTimes(
        images=count,
        png_encode_ms=round(encode * 1000 / count, 4),
        png_decode_ms=round(decode * 1000 / count, 4),
        png_bytes=round(sum(map(len, files)) / count),
        commit_ms=round(commit * 1000 / count, 4),
    )


def _commit(decoded: list[DecodedImage], files: list[bytes]) -> bytes:
    records = (
        Record(
            pixel_hash=pixel_hash(image),
            file_hash=describe_object(data).file_hash,
            generator_index=index,
            cluster=0,
        )
        for index, (image, data) in enumerate(zip(decoded, files, strict=True))
    )
    return Records.of(records).root()


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.thread_time()
    result = work()
    return result, time.thread_time() - started
