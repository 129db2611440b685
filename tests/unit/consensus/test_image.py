"""Which files are registered, and that the pixel hash does not depend on their coding."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from facechain.consensus import image
from facechain.consensus.image import (
    ImageRejected,
    Pixels,
    decode_for_look,
    decode_image,
    file_hash,
    pixel_hash,
)


def noise(height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def coded(picture: Image.Image, coding: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, coding, **options)
    return buffer.getvalue()


def png(mode: str = "RGB", **options: object) -> bytes:
    return coded(Image.fromarray(noise()).convert(mode), "PNG", **options)


def webp(*, lossless: bool = True, **options: object) -> bytes:
    return coded(Image.fromarray(noise()), "WEBP", lossless=lossless, **options)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(*, width: int = 4, height: int = 4, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """Write a PNG by hand, so that it can say what no library writes."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = b"\x00" + bytes((min(width, 64) * samples * depth + 7) // 8)
    pixels = zlib.compress(row * min(height, 64))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return image.PNG_SIGNATURE + header + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def animated_webp() -> bytes:
    frames = [Image.fromarray(noise()), Image.fromarray(255 - noise())]
    return coded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


def animated_png() -> bytes:
    frames = [Image.fromarray(noise()), Image.fromarray(255 - noise())]
    return coded(frames[0], "PNG", save_all=True, append_images=frames[1:])


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) & 1) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def vp8l(width: int, height: int) -> bytes:
    return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(8)


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nothing": ("image-format", lambda: b""),
    "jpeg": ("image-format", lambda: coded(Image.fromarray(noise()), "JPEG")),
    "gif": ("image-format", lambda: coded(Image.fromarray(noise()), "GIF")),
    "bmp": ("image-format", lambda: coded(Image.fromarray(noise()), "BMP")),
    "zip": ("image-format", lambda: b"PK\x03\x04" + bytes(20)),
    "text": ("image-format", lambda: b"not an image"),
    "png signature alone": ("image-damaged", lambda: image.PNG_SIGNATURE),
    "png without IHDR first": (
        "image-damaged",
        lambda: image.PNG_SIGNATURE + chunk(b"tEXt", b"a\x00b") + raw_png()[8:],
    ),
    "truncated png": ("image-damaged", lambda: png()[:-200]),
    "png with a broken checksum": ("image-damaged", lambda: png()[:60] + b"\xff\xff\xff" + png()[63:]),
    "png with two headers": (
        "image-damaged",
        lambda: raw_png(extra=chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))),
    ),
    "png of many chunks": ("image-damaged", lambda: raw_png(extra=chunk(b"prIv", b"") * 1_025)),
    "png without pixels": ("image-damaged", lambda: raw_png()[:33] + chunk(b"tEXt", b"a\x00b")),
    "png of 16 bits": ("image-depth", lambda: raw_png(depth=16)),
    "grey png of 16 bits": ("image-depth", lambda: raw_png(depth=16, colour=0)),
    "png with alpha": ("image-alpha", lambda: png("RGBA")),
    "grey png with alpha": ("image-alpha", lambda: png("LA")),
    "palette png with a transparent colour": ("image-alpha", lambda: png("P", transparency=0)),
    "rgb png with a transparent colour": (
        "image-alpha",
        lambda: raw_png(extra=chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))),
    ),
    "animated png": ("image-animated", animated_png),
    "lossy webp": ("image-lossy", lambda: webp(lossless=False)),
    "lossy webp that names a lossless chunk": (
        "image-lossy",
        lambda: riff((b"VP8 ", bytes(10)), (b"VP8L", vp8l(4, 4))),
    ),
    "animated webp": ("image-animated", animated_webp),
    "webp with alpha": (
        "image-alpha",
        lambda: coded(Image.fromarray(noise(channels=4), "RGBA"), "WEBP", lossless=True, exact=True),
    ),
    "truncated webp": ("image-damaged", lambda: webp()[:200]),
    "webp header alone": ("image-damaged", riff),
    "webp with half a header": ("image-damaged", lambda: riff((b"VP8L", b"\x2f\x00"))),
    "webp with a chunk twice": ("image-damaged", lambda: riff((b"VP8L", vp8l(4, 4)), (b"VP8L", vp8l(9, 9)))),
    "webp of many chunks": (
        "image-damaged",
        lambda: riff(*((struct.pack(">I", number), b"") for number in range(1_025))),
    ),
    "wide webp": ("image-size", lambda: riff((b"VP8L", vp8l(16_384, 1)))),
    "wide webp canvas": (
        "image-size",
        lambda: riff((b"VP8X", bytes(4) + b"\x00\x00\x10" + bytes(3)), (b"VP8L", vp8l(4, 4))),
    ),
    "a side of 40,000 pixels": ("image-size", lambda: raw_png(width=40_000, height=1)),
    "no pixels": ("image-size", lambda: raw_png(width=0, height=1)),
    "too many pixels": ("image-size", lambda: raw_png(width=8_192, height=8_192)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_reason(name: str) -> None:
    code, make = REFUSED[name]
    with pytest.raises(ImageRejected) as caught:
        decode_image(make())
    assert caught.value.code == code
    assert caught.value.expected
    assert caught.value.got
    assert "\n" not in caught.value.diagnostics()


@pytest.mark.parametrize("size", [(40_000, 40_000), (2**31 - 1, 2**31 - 1)])
def test_hostile_size_is_refused_before_pixels_are_allocated(size: tuple[int, int]) -> None:
    data = raw_png(width=size[0], height=size[1])
    webp_data = riff((b"VP8X", bytes(4) + b"\xff" * 6), (b"VP8L", vp8l(16_384, 16_384)))
    with pytest.raises(ImageRejected):
        decode_image(data)  # imports the decoder before memory is watched
    tracemalloc.start()
    try:
        for hostile in (data, webp_data):
            with pytest.raises(ImageRejected, match="image-size"):
                decode_image(hostile)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_file_over_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "MAX_FILE_BYTES", 100)
    with pytest.raises(ImageRejected, match="at most 100 bytes"):
        decode_image(png())


def test_pixel_hash_does_not_depend_on_the_coding() -> None:
    plain = decode_image(png())
    codings = [
        png(compress_level=0),
        png(compress_level=9, optimize=True),
        png(dpi=(300, 300)),
        webp(),
        webp(quality=100, method=6),
        coded(Image.fromarray(noise()), "PNG", icc_profile=b"\x00" * 200),
        coded(Image.fromarray(noise()), "WEBP", lossless=True, exif=b"Exif\x00\x00MM\x00*" + bytes(16)),
    ]
    assert {pixel_hash(decode_image(data)) for data in codings} == {pixel_hash(plain)}
    assert len({file_hash(data) for data in codings}) == len(codings)
    assert plain.rgb == noise().tobytes()
    assert (plain.width, plain.height, plain.media_type) == (32, 32, "image/png")
    assert decode_image(webp()).media_type == "image/webp"


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette_become_rgb(mode: str) -> None:
    picture = Image.fromarray(noise(channels=1)).convert(mode)
    same = picture.convert("RGB")
    assert pixel_hash(decode_image(coded(picture, "PNG"))) == pixel_hash(decode_image(coded(same, "PNG")))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_are_scaled_to_eight(depth: int) -> None:
    assert decode_image(raw_png(depth=depth, colour=0)).rgb == bytes(48)


def test_pixel_hash_tells_shape_and_every_sample() -> None:
    rgb = bytes(range(48))
    base = Pixels(width=4, height=4, rgb=rgb, media_type="image/png")
    turned = Pixels(width=2, height=8, rgb=rgb, media_type="image/png")
    changed = Pixels(width=4, height=4, rgb=rgb[:-1] + b"\x00", media_type="image/png")
    other_type = Pixels(width=4, height=4, rgb=rgb, media_type="image/webp")
    assert len({pixel_hash(item) for item in (base, turned, changed)}) == 3
    assert pixel_hash(base) == pixel_hash(other_type)


@pytest.mark.parametrize("coding", ["PNG", "WEBP", "JPEG", "GIF", "BMP", "TIFF"])
def test_any_common_picture_has_a_look(coding: str) -> None:
    found = decode_for_look(coded(Image.fromarray(noise(20, 30)), coding))
    assert found is not None
    assert (found.width, found.height, len(found.rgb)) == (30, 20, 1_800)


def test_what_is_no_picture_or_too_large_has_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_for_look(b"no picture") is None
    assert decode_for_look(png()[:100]) is None
    assert decode_for_look(coded(Image.new("L", (image.MAX_SIDE_PIXELS + 1, 1)), "BMP")) is None
    data = png()
    monkeypatch.setattr(image, "MAX_FILE_BYTES", len(data) - 1)
    assert decode_for_look(data) is None
