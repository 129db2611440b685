import io

import numpy as np
import pytest
from PIL import Image

from facechain.gan.errors import ConfigError
from facechain.gan.sheets import FACE_SIDE, RegisteredFace, contact_sheet, sample_grid
from support.faces import made_faces

FACES = made_faces(people=5, per_person=1).images


def registered(number: int) -> RegisteredFace:
    return RegisteredFace(pixels=FACES[number], block_height=40 + number, pixel_hash=bytes([number]) * 32)


def test_contact_sheet_shows_each_face_with_text_below() -> None:
    data = contact_sheet([registered(n) for n in range(5)], columns=2, title="a batch")
    sheet = np.asarray(Image.open(io.BytesIO(data)))
    enlarged = np.asarray(Image.fromarray(FACES[0]).resize((FACE_SIDE, FACE_SIDE), Image.Resampling.NEAREST))
    places = [
        (y, x)
        for y in range(60)
        for x in range(20)
        if np.array_equal(sheet[y : y + FACE_SIDE, x : x + FACE_SIDE], enlarged)
    ]
    assert len(places) == 1
    top, left = places[0]
    caption = sheet[top + FACE_SIDE : top + FACE_SIDE + 26, left : left + FACE_SIDE]
    assert (caption < 100).any()


def test_contact_sheet_depends_on_block_and_hash() -> None:
    other = RegisteredFace(pixels=FACES[0], block_height=41, pixel_hash=bytes(32))
    assert contact_sheet([registered(0)]) != contact_sheet([other])
    assert contact_sheet([registered(0)]) == contact_sheet([registered(0)])


def test_contact_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError):
        contact_sheet([])


def test_sample_grid_places_images_row_by_row() -> None:
    grid = np.asarray(Image.open(io.BytesIO(sample_grid(FACES, columns=2, scale=1))))
    assert grid.shape == (48, 32, 3)
    assert np.array_equal(grid[16:32, 16:32], FACES[3])
    assert not grid[32:, 16:].any()
