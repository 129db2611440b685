"""Small pictures that are no faces, and true batches of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from facechain.consensus.image import decode_image, file_hash, pixel_hash
from facechain.consensus.payloads import ImageBatch
from facechain.consensus.perceptual import perceptual_hash
from facechain.consensus.records import Record, Records
from facechain.consensus.statement import BatchHeader
from support.chain import make_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG file and everything that a record says of it."""

    data: bytes
    pixel_hash: bytes
    file_hash: bytes
    look: bytes


def describe(data: bytes) -> Picture:
    """Return the hashes of an image file."""
    pixels = decode_image(data)
    return Picture(
        data=data,
        pixel_hash=pixel_hash(pixels),
        file_hash=file_hash(data),
        look=perceptual_hash(pixels),
    )


def make_picture(number: int, *, side: int = 32) -> Picture:
    """Return picture `number`: a few textured blobs of colour, the same in every run and unlike the others."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[0:side, 0:side] / side
    plane = np.zeros((side, side, 3))
    for _ in range(6):
        x, y, size = random.random(), random.random(), 0.08 + 0.25 * random.random()
        blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / size**2)
        plane += blob[..., None] * random.random(3)
    plane = 0.8 * plane / plane.max() + 0.2 * random.random(plane.shape)  # texture, as a photograph has
    return describe(encode_png((255 * plane).astype(np.uint8)))


def encode_png(samples: Any) -> bytes:
    """Return samples of shape (height, width, 3) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(samples, "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def altered(picture: Picture) -> Picture:
    """Return a picture that differs from `picture` in one pixel."""
    pixels = decode_image(picture.data)
    samples = np.frombuffer(pixels.rgb, np.uint8).reshape(pixels.height, pixels.width, 3).copy()
    samples[5, 7] ^= 0x3F
    return describe(encode_png(samples))


def picture_batch(
    pictures: Sequence[Picture], *, public: bool = True, **header: Any
) -> tuple[ImageBatch, BatchHeader]:
    """Return a batch of real pictures and the header that is true of it."""
    made, true_of_it = make_batch(
        len(pictures), name=hashlib.sha256(b"".join(item.file_hash for item in pictures)).hexdigest()
    )
    payload = ImageBatch(
        records=Records.of(
            Record(
                pixel_hash=item.pixel_hash,
                file_hash=item.file_hash,
                generator_index=number,
                cluster=number % 5,
            )
            for number, item in enumerate(pictures)
        ),
        perceptual=b"".join(item.look for item in pictures) if public else None,
        seed=made.seed if public else None,
    )
    fields = {
        "records_root": payload.records.root(),
        "perceptual_root": payload.perceptual_root() or bytes(32),
        "public": public,
        **header,
    }
    return payload, replace(true_of_it, **fields)
