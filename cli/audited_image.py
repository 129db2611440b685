"""The image that is audited: its hashes, and its look whatever it was coded with.

Owns the opening of one file in hand. An image that cannot be registered (a JPEG, one with transparency) has no
pixel hash, but it may be an altered copy of one that is, so its look counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError


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
    from ..consensus.image import (
        MAX_FILE_BYTES,
        ImageRejected,
        decode_for_look,
        decode_image,
        file_hash,
        pixel_hash,
    )
    from ..consensus.perceptual import perceptual_hash
    from ..node.bounded_files import read_bounded

    with path.open("rb") as file:
        data = read_bounded(file, MAX_FILE_BYTES)
    note = None
    try:
        pixels = decode_image(data)
    except ImageRejected as error:
        found = None if error.code in {"image-size", "image-damaged"} else decode_for_look(data)
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
