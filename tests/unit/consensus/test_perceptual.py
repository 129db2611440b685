"""The perceptual hash: copies are near, other pictures are far, and every bit is exact."""

from __future__ import annotations

import io
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from facechain.consensus.image import Pixels
from facechain.consensus.perceptual import GRID, hamming, is_telling, perceptual_hash, perceptual_hashes

NEAR_BITS = 24
FAR_BITS = 60


def picture(number: int, *, height: int = 64, width: int = 64) -> np.ndarray:
    """Return smooth blobs of colour, other ones for every number."""
    draw = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    layers = np.zeros((height, width, 3))
    for _ in range(120):
        cy, cx, size = draw.uniform((0, 0, 0.01), (1, 1, 0.08)).tolist()
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
        layers += blob[..., None] * draw.uniform(-120, 120, 3)
    low, high = layers.min(), layers.max()
    found: np.ndarray = (20 + (layers - low) * 210 / (high - low)).astype(np.uint8)
    return found


def pixels(samples: np.ndarray) -> Pixels:
    height, width = samples.shape[:2]
    return Pixels(width=width, height=height, rgb=samples.tobytes(), media_type="image/png")


def reference(samples: np.ndarray) -> bytes:
    """Compute the hash as the protocol page has it, in Python's integers."""
    height, width = samples.shape[:2]
    luma = [[299 * int(r) + 587 * int(g) + 114 * int(b) for r, g, b in row] for row in samples]

    def share(cell: int, sample: int, size: int) -> int:
        return max(0, min((cell + 1) * size, (sample + 1) * GRID) - max(cell * size, sample * GRID))

    cells = [
        [
            sum(
                share(row, y, height) * share(column, x, width) * luma[y][x]
                for y in range(height)
                if share(row, y, height)
                for x in range(width)
            )
            * 256
            // (1000 * width * height)
            for column in range(GRID)
        ]
        for row in range(GRID)
    ]
    mean = sum(map(sum, cells)) // GRID**2
    cosine = [
        [round(4096 * math.cos(math.pi * k * (2 * n + 1) / 64)) for n in range(GRID)] for k in range(1, 17)
    ]
    values = [
        sum(cosine[v][y] * cosine[u][x] * (cells[y][x] - mean) for y in range(GRID) for x in range(GRID))
        for v in range(16)
        for u in range(16)
    ]
    middle = Fraction(sum(sorted(values)[127:129]), 2)
    bits = "".join("1" if value > middle else "0" for value in values)
    return int(bits, 2).to_bytes(32, "big")


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (7, 5), (33, 20)])
def test_equals_the_definition_in_integers(shape: tuple[int, int]) -> None:
    samples = np.random.default_rng(shape[0]).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert perceptual_hash(pixels(samples)) == reference(samples)


def test_copies_are_near_and_other_pictures_far() -> None:
    for number in range(20):
        original = picture(number)
        at_home = perceptual_hash(pixels(original))
        image = Image.fromarray(original)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        copies = [
            np.asarray(image.resize((200, 200), Image.Resampling.BICUBIC)),
            np.asarray(image.resize((48, 48), Image.Resampling.LANCZOS)),
            np.asarray(Image.open(buffer)),
            original + np.uint8(9),
        ]
        assert max(hamming(at_home, perceptual_hash(pixels(copy))) for copy in copies) <= NEAR_BITS
        other = perceptual_hash(pixels(picture(number + 100)))
        assert hamming(at_home, other) >= FAR_BITS


def test_a_stack_is_hashed_as_its_images_are() -> None:
    stack = np.stack([picture(number, height=40, width=24) for number in range(5)])
    assert perceptual_hashes(stack) == [perceptual_hash(pixels(item)) for item in stack]


@pytest.mark.parametrize("shade", [0, 77, 255])
def test_flat_picture_has_no_bits(shade: int) -> None:
    assert perceptual_hash(pixels(np.full((19, 45, 3), shade, np.uint8))) == bytes(32)


def test_likeness_to_a_picture_without_structure_means_nothing() -> None:
    stripes = np.repeat(np.arange(0, 256, 4, dtype=np.uint8), 64 * 3).reshape(64, 64, 3)
    for samples in (np.full((8, 8, 3), 9, np.uint8), stripes, stripes.transpose(1, 0, 2)):
        assert not is_telling(perceptual_hash(pixels(samples)))
    assert all(is_telling(perceptual_hash(pixels(picture(number)))) for number in range(20))
    assert (is_telling(b"\xff" * 6 + bytes(26)), is_telling(b"\xff" * 6 + b"\x01" * 26)) == (False, True)


def test_half_of_the_bits_are_set() -> None:
    assert int.from_bytes(perceptual_hash(pixels(picture(1))), "big").bit_count() == 128


def test_hamming_counts_bits() -> None:
    assert hamming(bytes(32), bytes(32)) == 0
    assert hamming(bytes(32), b"\xff" * 32) == 256
    assert hamming(b"\x01" + bytes(31), b"\x03" + bytes(31)) == 1
