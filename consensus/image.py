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
from typing import TYPE_CHECKING

from .errors import ConsensusError
from .hashing import sha256, tagged_hash

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_SIDE_PIXELS = 8_192
MAX_PIXELS = 16_777_216
MAX_FILE_BYTES = 67_108_864
PIXEL_HASH_TAG = "facechain/pixels/v1"

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER_BYTES = 33
"""Signature and IHDR chunk."""

PNG_ALPHA_COLOURS = frozenset({4, 6})
MEDIA_TYPES = {"image/png": "PNG", "image/webp": "WEBP"}
LOOK_FORMATS = ("PNG", "WEBP", "JPEG", "GIF", "BMP", "TIFF")
"""Decoders that may be tried for the look of a picture that cannot be registered."""
"""Accepted media types, each with the decoder's name for it."""

WEBP_PIXEL_CHUNKS = frozenset({b"VP8X", b"VP8L"})
"""Chunks that say how many pixels there are: once each."""

OPAQUE_MODES = frozenset({"1", "L", "P", "RGB"})
MAX_CHUNKS = 1_024
"""Chunks that a file may hold, of a PNG before its pixels."""


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
    from PIL import Image  # noqa: PLC0415 - 40 ms for image commands only

    if len(data) > MAX_FILE_BYTES:
        raise ImageRejected(
            "image-size", expected=f"at most {MAX_FILE_BYTES} bytes", got=f"{len(data)} bytes"
        )
    media_type = _check_container(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=(MEDIA_TYPES[media_type],)) as picture:
                _check_picture(picture)
                rgb = picture.convert("RGB")
                return Pixels(width=rgb.width, height=rgb.height, rgb=rgb.tobytes(), media_type=media_type)
    except ImageRejected:
        raise
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything on hostile bytes
        raise ImageRejected(
            "image-damaged", expected="a complete image", got=str(error) or type(error).__name__
        ) from None


def decode_for_look(data: bytes) -> Pixels | None:
    """Decode the first frame of any common picture, registrable or not, for its perceptual hash alone.

    The same size limits hold. Returns None when no picture can be made of the bytes; the media type is empty.
    """
    from PIL import Image  # noqa: PLC0415 - 40 ms for image commands only

    if len(data) > MAX_FILE_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=LOOK_FORMATS) as picture:
                _check_size(*picture.size)
                rgb = picture.convert("RGB")
                return Pixels(width=rgb.width, height=rgb.height, rgb=rgb.tobytes(), media_type="")
    except Exception:  # noqa: BLE001 - a decoder may raise anything on hostile bytes
        return None


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


def _check_container(data: bytes) -> str:
    """Read size and coding from the file's first bytes, before any decoder sees it; return the media type."""
    if data.startswith(PNG_SIGNATURE):
        _check_png(data)
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _check_webp(data)
        return "image/webp"
    raise ImageRejected("image-format", expected="a PNG or a lossless WebP file", got=_looks_like(data))


def _check_png(data: bytes) -> None:
    """Refuse by the IHDR chunk (PNG, section 11.2.1), which is the first of all chunks."""
    if len(data) < PNG_HEADER_BYTES or data[8:16] != b"\x00\x00\x00\x0dIHDR":
        raise ImageRejected("image-damaged", expected="a PNG header", got=f"{len(data)} bytes")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    _check_size(width, height)
    if depth > 8:
        raise ImageRejected("image-depth", expected="at most 8 bits per sample", got=f"{depth} bits")
    chunks = _png_chunks(data)
    if b"acTL" in chunks:
        raise ImageRejected("image-animated", expected="one frame", got="an animated PNG")
    if colour in PNG_ALPHA_COLOURS or b"tRNS" in chunks:
        raise ImageRejected("image-alpha", expected="no transparency", got=f"PNG colour type {colour}")


def _png_chunks(data: bytes) -> frozenset[bytes]:
    """Names of the chunks after IHDR and before the pixels; a second IHDR would overrule the first."""
    names: set[bytes] = set()
    position, count = PNG_HEADER_BYTES, 0
    while position + 8 <= len(data):
        count += 1
        if count > MAX_CHUNKS:
            raise ImageRejected("image-damaged", expected=f"at most {MAX_CHUNKS} chunks", got="more")
        size, name = struct.unpack_from(">I4s", data, position)
        if name == b"IHDR":
            raise ImageRejected("image-damaged", expected="one IHDR chunk", got="a second one")
        if name == b"IDAT":
            break
        names.add(name)
        position += 12 + size
    return frozenset(names)


def _check_webp(data: bytes) -> None:
    """Refuse by the chunks (RFC 9649): lossless files have VP8L, and nothing that codes other pixels."""
    chunks = _webp_chunks(data)
    if chunks.keys() & {b"ANIM", b"ANMF"}:
        raise ImageRejected("image-animated", expected="one frame", got="an animated WebP")
    if chunks.keys() & {b"VP8 ", b"ALPH"}:
        raise ImageRejected("image-lossy", expected="lossless WebP (VP8L)", got="lossy WebP")
    if b"VP8X" in chunks:
        wide, high = (data[at : at + 3] for at in (chunks[b"VP8X"] + 4, chunks[b"VP8X"] + 7))
        _check_size(int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1)
    at = chunks.get(b"VP8L")
    if at is None or len(data) < at + 5:
        raise ImageRejected("image-damaged", expected="a VP8L chunk", got=f"{len(data)} bytes without one")
    packed = int.from_bytes(data[at + 1 : at + 5], "little")
    _check_size((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)


def _webp_chunks(data: bytes) -> dict[bytes, int]:
    """Names of the RIFF chunks of a WebP file and where the data of the last of each name starts."""
    found: dict[bytes, int] = {}
    position, count = 12, 0
    while position + 8 <= len(data):
        count += 1
        if count > MAX_CHUNKS:
            raise ImageRejected("image-damaged", expected=f"at most {MAX_CHUNKS} chunks", got="more")
        name = data[position : position + 4]
        if name in found and name in WEBP_PIXEL_CHUNKS:
            raise ImageRejected("image-damaged", expected="one chunk of a name", got=f"two of {name!r}")
        found[name] = position + 8
        (size,) = struct.unpack_from("<I", data, position + 4)
        position += 8 + size + (size & 1)
    return found


def _check_picture(picture: ImageFile) -> None:
    """Decode the pixels and refuse what only the decoder knows: a WebP with alpha."""
    picture.load()
    if picture.mode not in OPAQUE_MODES or "transparency" in picture.info:
        raise ImageRejected(
            "image-alpha", expected="no transparency", got=f"mode {picture.mode} with transparency"
        )


def _looks_like(data: bytes) -> str:
    known = {b"\xff\xd8\xff": "a JPEG", b"GIF8": "a GIF", b"BM": "a BMP", b"PK\x03\x04": "a zip archive"}
    for prefix, name in known.items():
        if data.startswith(prefix):
            return name
    return f"{len(data)} bytes that start with {data[:8].hex() or 'nothing'}"
