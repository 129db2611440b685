import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facechain.gan.datasets import open_dataset, split_by_identity
from facechain.gan.errors import DatasetError
from support.faces import made_faces, png, write_folder, write_zip


def test_folder_and_zip_of_the_same_files_are_the_same_data_set(tmp_path: Path) -> None:
    faces = made_faces(people=3, per_person=2)
    folder = open_dataset(write_folder(faces, tmp_path / "a"), resolution=16)
    archive = open_dataset(write_zip(faces, tmp_path / "a.zip"), resolution=16)
    assert np.array_equal(folder.images, faces.images)
    assert np.array_equal(archive.images, faces.images)
    assert folder.identities == archive.identities == faces.identities
    assert folder.names == archive.names
    assert folder.digest == archive.digest


def test_digest_changes_with_a_file(tmp_path: Path) -> None:
    root = write_folder(made_faces(people=2, per_person=2), tmp_path / "a")
    before = open_dataset(root, resolution=16).digest
    (root / "0000/000.png").write_bytes(png(np.zeros((16, 16, 3), dtype=np.uint8)))
    assert open_dataset(root, resolution=16).digest != before


def test_nested_archives_are_read_with_their_labels(tmp_path: Path) -> None:
    faces = made_faces(people=2, per_person=2)
    inner = write_zip(faces, tmp_path / "inner.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("deep/inner.zip", inner)
        archive.writestr("readme.txt", "no image")
        archive.writestr("__MACOSX/._x.png", b"junk")
    found = open_dataset(tmp_path / "outer.zip", resolution=16)
    assert len(found) == 4
    assert found.names[0] == "deep/inner.zip/0000/000.png"
    assert set(found.identities) == {"person_0", "person_1"}


def test_archives_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    data = write_zip(made_faces(people=1, per_person=1), tmp_path / "0.zip").read_bytes()
    for _ in range(4):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x.zip", data)
        data = buffer.getvalue()
    (tmp_path / "deep.zip").write_bytes(data)
    with pytest.raises(DatasetError, match="nested"):
        open_dataset(tmp_path / "deep.zip", resolution=16)


def test_celeba_layout_brings_identities(tmp_path: Path) -> None:
    images = tmp_path / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    for number in (1, 2):
        (images / f"00000{number}.jpg").write_bytes(png(np.full((22, 18, 3), number * 50, dtype=np.uint8)))
    (tmp_path / "celeba" / "identity_CelebA.txt").write_text("000001.jpg 77\n000002.jpg 78\n")
    found = open_dataset(tmp_path, resolution=8)
    assert found.images.shape == (2, 8, 8, 3)
    assert found.identities == ("celeba_77", "celeba_78")


def test_resizing_averages_instead_of_dropping_pixels(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    (tmp_path / "a.png").write_bytes(png(stripes))
    found = open_dataset(tmp_path, resolution=16).images[0]
    assert abs(int(found[8, 8, 0]) - 127) < 12


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 9).save(tmp_path / "a.png")
    Image.new("RGBA", (16, 16), (1, 2, 3, 255)).save(tmp_path / "b.png")
    found = open_dataset(tmp_path, resolution=16)
    assert found.images[0, 0, 0].tolist() == [9, 9, 9]
    assert found.images[1, 0, 0].tolist() == [1, 2, 3]


def test_split_keeps_people_on_one_side_and_is_stable() -> None:
    faces = made_faces(people=80, per_person=2)
    training, held_out = split_by_identity(faces, holdout_share=0.25)
    assert not set(training.identities) & set(held_out.identities)
    assert len(training) + len(held_out) == len(faces)
    assert 10 < len(held_out) < 80
    smaller = faces.subset(np.arange(len(faces)) < 100)
    assert set(split_by_identity(smaller, holdout_share=0.25)[1].names) <= set(held_out.names)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "broken", "nested", "damaged", "labels"])
def test_bad_data_sets_end_in_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data"
    if kind == "empty":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "broken":
        path.mkdir()
        (path / "x.png").write_bytes(png(np.zeros((9, 9, 3), dtype=np.uint8))[:40])
    elif kind == "nested":
        path.mkdir()
        (path / "x.zip").write_bytes(b"PK no archive")
    elif kind == "damaged":
        data = bytearray(write_zip(made_faces(people=3, per_person=2), tmp_path / "a.zip").read_bytes())
        data[60:400] = bytes(340)
        path.write_bytes(data)
    elif kind == "labels":
        path.mkdir()
        (path / "labels.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError) as caught:
        open_dataset(path, resolution=16)
    assert "\n" not in caught.value.diagnostics()
    assert caught.value.exit_code == 3


def test_a_file_that_is_no_image_is_named_and_nothing_of_python(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"empty\.png cannot be decoded: got nothing that is an image"):
        open_dataset(tmp_path, resolution=16)


def test_native_size_must_be_one_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(np.zeros((9, 9, 3), dtype=np.uint8)))
    assert open_dataset(tmp_path, resolution=None).images.shape == (1, 9, 9, 3)
    (tmp_path / "b.png").write_bytes(png(np.zeros((8, 9, 3), dtype=np.uint8)))
    with pytest.raises(DatasetError, match="differs in size"):
        open_dataset(tmp_path, resolution=None)
