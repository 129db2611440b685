"""Damaged image files end in one named refusal, or are images."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facechain.consensus.image import ImageRejected, decode_image


def _files() -> list[bytes]:
    samples = np.random.default_rng(5).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    found = []
    for coding, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("WEBP", {"lossless": False})):
        buffer = io.BytesIO()
        Image.fromarray(samples).save(buffer, coding, **options)
        found.append(buffer.getvalue())
    return found


FILES = _files()


@settings(max_examples=300)
@given(
    which=st.sampled_from(FILES),
    cuts=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4
    ),
)
def test_damaged_files_are_refused_by_name(which: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    data = which
    for start, length, patch in cuts:
        data = data[:start] + patch + data[start + length :]
    try:
        pixels = decode_image(data)
    except ImageRejected as refused:
        assert refused.code.startswith("image-")  # noqa: PT017 - both outcomes are checked
    else:
        assert len(pixels.rgb) == 3 * pixels.width * pixels.height


@settings(max_examples=200)
@given(
    prefix=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x10\x00\x00WEBP"]),
    data=st.binary(max_size=200),
)
def test_garbage_is_refused_by_name(prefix: bytes, data: bytes) -> None:
    try:
        decode_image(prefix + data)
    except ImageRejected as refused:
        assert refused.code.startswith("image-")  # noqa: PT017 - both outcomes are checked
