"""Sheets of faces as one PNG: training samples, and faces captioned with block and hash.

The captioned sheet is the paper's figure 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .datasets import Pixels
from .errors import ConfigError
from .generation import encode_png

HASH_DIGITS = 8
FACE_SIDE = 96
MARGIN = 8
CAPTION_HEIGHT = 28
FONT_SIZE = 11
BACKGROUND = (255, 255, 255)
INK = (30, 30, 30)
DEFAULT_COLUMNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredFace:
    """A face and where it stands on the chain."""

    pixels: Pixels
    """(H, W, 3) uint8."""
    block_height: int
    pixel_hash: bytes
    """32 bytes; the first digits are printed."""


def contact_sheet(
    faces: Sequence[RegisteredFace], *, columns: int = DEFAULT_COLUMNS, title: str = ""
) -> bytes:
    """PNG of faces in rows, each with its block height and short hash below.

    Raises:
        ConfigError: no faces, or no columns.
    """
    captions = [f"block {face.block_height}\n{face.pixel_hash.hex()[:HASH_DIGITS]}" for face in faces]
    return captioned_sheet([face.pixels for face in faces], captions, columns=columns, title=title)


def captioned_sheet(
    images: Sequence[Pixels] | Pixels,
    captions: Sequence[str],
    *,
    columns: int = DEFAULT_COLUMNS,
    title: str = "",
) -> bytes:
    """PNG of images (H, W, 3) in rows, each with its caption of up to two lines below.

    Raises:
        ConfigError: no images, or no columns.
    """
    if not len(images) or columns < 1:
        raise ConfigError("contact sheet", expected="faces and columns", got=f"{len(images)} and {columns}")
    rows = -(-len(images) // columns)
    top = CAPTION_HEIGHT if title else 0
    cell_width, cell_height = FACE_SIDE + MARGIN, FACE_SIDE + CAPTION_HEIGHT + MARGIN
    sheet = Image.new(
        "RGB",
        (min(columns, len(images)) * cell_width + MARGIN, top + rows * cell_height + MARGIN),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=FONT_SIZE)
    if title:
        draw.text((MARGIN, MARGIN), title, fill=INK, font=font)
    for number, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        left, upper = MARGIN + column * cell_width, top + MARGIN + row * cell_height
        picture = Image.fromarray(pixels).resize((FACE_SIDE, FACE_SIDE), Image.Resampling.NEAREST)
        sheet.paste(picture, (left, upper))
        draw.multiline_text((left, upper + FACE_SIDE + 1), caption, fill=INK, font=font, spacing=1)
    return encode_png(np.asarray(sheet, dtype=np.uint8))


def sample_grid(images: Pixels, *, columns: int, scale: int = 2) -> bytes:
    """PNG of (N, H, W, 3) uint8 images side by side, without captions, enlarged `scale` times."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    padded[:count] = images
    grid = padded.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    flat = grid.reshape(rows * height, columns * width, channels)
    return encode_png(np.ascontiguousarray(flat.repeat(scale, axis=0).repeat(scale, axis=1)))
