"""The image that is audited: its hashes, and its look whatever it was coded with.

Owns the opening of one file in hand. An image that cannot be registered (a JPEG, one with transparency) has no
pixel hash, but it may be an altered copy of one that is, so its look counts.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import UsageError

if TYPE_CHECKING:
    from ..consensus.image import Pixels

OTHER_FORMATS: Final = ("PNG", "WEBP", "JPEG", "GIF", "BMP", "TIFF")
"""Decoders that may be tried for the look alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedImage:
    """What is known of a file in hand."""

    path: str
    file_hash: bytes
    pixel_hash: bytes | None
    """None for an image that cannot be registered."""
    look: bytes
    note: str | None
    """Why it has no pixel hash."""


def open_image(path: Path) -> AuditedImage:
    """Read and hash an image; UsageError when it is none, too large or damaged."""
    from ..consensus.image import MAX_FILE_BYTES, ImageRejected, decode_image, file_hash, pixel_hash
    from ..consensus.perceptual import perceptual_hash

    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    note = None
    try:
        pixels = decode_image(data)
    except ImageRejected as error:
        found = None if error.code in {"image-size", "image-damaged"} else _other_pixels(data)
        if found is None:
            raise UsageError(str(path), expected=error.expected, got=error.got) from error
        pixels, note = found, error.got
    return AuditedImage(
        path=str(path),
        file_hash=file_hash(data),
        pixel_hash=None if note else pixel_hash(pixels),
        look=perceptual_hash(pixels),
        note=note,
    )


def _other_pixels(data: bytes) -> Pixels | None:
    """Decode the first frame of a picture that cannot be registered; None when that cannot be done."""
    from PIL import Image

    from ..consensus.image import MAX_PIXELS, MAX_SIDE_PIXELS, Pixels

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=OTHER_FORMATS) as picture:
                width, height = picture.size
                if max(width, height) > MAX_SIDE_PIXELS or width * height > MAX_PIXELS:
                    return None
                rgb = picture.convert("RGB")
                return Pixels(width=rgb.width, height=rgb.height, rgb=rgb.tobytes(), media_type="")
    except Exception:  # noqa: BLE001 - a decoder may raise anything on hostile bytes
        return None
