"""From image bytes to pixels, and the two hashes by which an image is known.

Owns the decision which files can be registered: losslessly coded 8-bit grey or RGB images (PNG or
lossless WebP). Grey becomes RGB; EXIF and ICC are ignored. It refuses alpha, palettes with
transparency, 16 bits, animation, lossy WebP and anything whose size is over the limit, before
pixels are allocated. It works on bytes in memory and opens no file.

Source: ``docs/protocol.md``, section "Images".
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass

from .errors import ConsensusError
from .hashing import sha256, tagged_hash

MAX_SIDE_PIXELS = 8_192
MAX_PIXELS = 16_777_216
MAX_FILE_BYTES = 67_108_864
PIXEL_HASH_TAG = "facechain/pixels/v1"

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MEDIA_TYPES = {"PNG": "image/png", "WEBP": "image/webp"}


class ImageRejected(ConsensusError):
    """The bytes are not an image that can be registered; says what was expected and what came."""

    def __init__(self, code: str, *, expected: str, got: str) -> None:
        """Name the refused property, e.g. ``image-size``."""
        super().__init__(code, f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Decoded pixels: ``rgb`` holds ``3 * width * height`` bytes, row by row, 8 bits each."""

    width: int
    height: int
    rgb: bytes
    media_type: str


def decode_image(data: bytes) -> Pixels:
    """Decode a PNG or a lossless WebP into RGB8 pixels.

    Raises:
        ImageRejected: codes ``image-size``, ``image-format``, ``image-lossy``, ``image-animated``,
            ``image-depth``, ``image-alpha`` or ``image-damaged``.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - 40 ms for image commands only

    if len(data) > MAX_FILE_BYTES:
        raise ImageRejected(
            "image-size", expected=f"at most {MAX_FILE_BYTES} bytes", got=f"{len(data)} bytes"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=tuple(MEDIA_TYPES)) as picture:
                _check_size(*picture.size)
                _check_coding(data, picture)
                picture.load()
                rgb = picture.convert("RGB")
                return Pixels(
                    width=rgb.width,
                    height=rgb.height,
                    rgb=rgb.tobytes(),
                    media_type=MEDIA_TYPES[str(picture.format)],
                )
    except ImageRejected:
        raise
    except UnidentifiedImageError:
        raise ImageRejected(
            "image-format", expected="a PNG or a lossless WebP file", got=_looks_like(data)
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageRejected("image-size", expected=f"at most {MAX_PIXELS} pixels", got=str(error)) from None
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything on hostile bytes
        raise ImageRejected(
            "image-damaged", expected="a complete image", got=str(error) or type(error).__name__
        ) from None


def pixel_hash(pixels: Pixels) -> bytes:
    """Hash width, height and RGB8 samples: the identity of the picture, whatever codes it."""
    return tagged_hash(PIXEL_HASH_TAG, struct.pack(">II", pixels.width, pixels.height), pixels.rgb)


def file_hash(data: bytes) -> bytes:
    """SHA-256 of the file's bytes."""
    return sha256(data)


def _check_size(width: int, height: int) -> None:
    if not (
        1 <= width <= MAX_SIDE_PIXELS and 1 <= height <= MAX_SIDE_PIXELS and width * height <= MAX_PIXELS
    ):
        raise ImageRejected(
            "image-size",
            expected=f"1 to {MAX_SIDE_PIXELS} pixels a side and at most {MAX_PIXELS} in all",
            got=f"{width} x {height}",
        )


def _check_coding(data: bytes, picture: object) -> None:
    """Refuse what has no unique 8-bit RGB reading: alpha, 16 bits, animation, lossy coding."""
    frames = getattr(picture, "n_frames", 1)
    if frames != 1:
        raise ImageRejected("image-animated", expected="one frame", got=f"{frames} frames")
    if data.startswith(PNG_SIGNATURE):
        _check_png(data)
    elif b"VP8L" not in _webp_chunks(data):
        raise ImageRejected("image-lossy", expected="lossless WebP (VP8L)", got="lossy WebP")
    mode = str(getattr(picture, "mode", ""))
    info = getattr(picture, "info", {})
    if mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in info:
        raise ImageRejected("image-alpha", expected="no transparency", got=f"mode {mode} with transparency")
    if mode not in {"1", "L", "P", "RGB"}:
        raise ImageRejected("image-depth", expected="8-bit grey or RGB", got=f"mode {mode}")


def _check_png(data: bytes) -> None:
    depth_offset = 24
    if len(data) <= depth_offset:
        raise ImageRejected("image-damaged", expected="a PNG header", got=f"{len(data)} bytes")
    depth = data[depth_offset]
    if depth > 8:
        raise ImageRejected("image-depth", expected="at most 8 bits per sample", got=f"{depth} bits")


def _webp_chunks(data: bytes) -> frozenset[bytes]:
    """Names of the RIFF chunks of a WebP file (RFC 9649, section 2)."""
    names: set[bytes] = set()
    position = 12
    while position + 8 <= len(data):
        names.add(data[position : position + 4])
        (size,) = struct.unpack_from("<I", data, position + 4)
        position += 8 + size + (size & 1)
    return frozenset(names)


def _looks_like(data: bytes) -> str:
    known = {b"\xff\xd8\xff": "a JPEG", b"GIF8": "a GIF", b"BM": "a BMP", b"PK\x03\x04": "a zip archive"}
    for prefix, name in known.items():
        if data.startswith(prefix):
            return name
    return f"{len(data)} bytes that start with {data[:8].hex() or 'nothing'}"
