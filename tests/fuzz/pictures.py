"""Small pictures in every format that is decoded, for the image targets."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

from PIL import Image

SIDE = 6


def _saved(mode: str, format_name: str, **options: Any) -> bytes:
    picture = Image.linear_gradient("L").resize((SIDE, SIDE)).convert(mode)
    output = io.BytesIO()
    picture.save(output, format_name, **options)
    return output.getvalue()


@cache
def sample_images() -> tuple[bytes, ...]:
    """Return pictures that can be registered: grey, colour, palette and one bit in PNG, lossless WebP."""
    return (
        *(_saved(mode, "PNG") for mode in ("L", "RGB", "P", "1")),
        _saved("RGB", "WEBP", lossless=True),
    )


@cache
def sample_pictures() -> tuple[bytes, ...]:
    """Return pictures that can only be looked at, too."""
    return (
        *sample_images(),
        *(_saved("RGB", name) for name in ("JPEG", "GIF", "BMP", "TIFF", "WEBP")),
        _saved("RGBA", "PNG"),
        _saved("L", "TIFF", compression="tiff_lzw"),
    )
