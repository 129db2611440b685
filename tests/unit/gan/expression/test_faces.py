import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facechain.gan.errors import DatasetError
from facechain.gan.expression.classes import CLASSES
from facechain.gan.expression.faces import UNLABELLED, class_number, open_faces
from support.expressions import expression_files, grey_png, table, unpacked, zipped

SIDE = 24
GREY = np.arange(SIDE * SIDE, dtype=np.uint64).reshape(SIDE, SIDE).astype(np.uint8)


def test_a_zip_and_a_folder_of_the_same_files_are_the_same_data(tmp_path: Path) -> None:
    files = expression_files(per_class=3, selection=1)
    packed = open_faces(zipped(files, tmp_path / "a.zip"), resolution=SIDE)
    loose = open_faces(unpacked(files, tmp_path / "a"), resolution=SIDE)
    assert packed.digest == loose.digest
    assert (packed.images == loose.images).all()
    assert packed.usage_counts() == {"PublicTest": 7, "Training": 14} == loose.usage_counts()
    assert packed.class_counts() == dict.fromkeys(CLASSES, 3)
    for name, label in zip(packed.names, packed.labels, strict=True):
        assert name.startswith(CLASSES[label] + "/")
    assert len(packed.of_usage("PublicTest")) == 7
    assert packed.of_usage("PublicTest").digest == packed.digest


def test_class_folders_alone_are_labels_in_any_case_and_other_words(tmp_path: Path) -> None:
    folders = ("Angry", "happiness", "6", "set/train/fear")
    files = {f"{folder}/x.png": grey_png(GREY) for folder in folders}
    faces = open_faces(unpacked(files, tmp_path), resolution=SIDE)
    found = dict(zip(faces.names, (CLASSES[label] for label in faces.labels), strict=True))
    assert [found[f"{folder}/x.png"] for folder in folders] == ["angry", "happy", "neutral", "fear"]
    assert set(faces.usages) == {""}


def test_a_table_labels_images_in_folders_that_are_no_class(tmp_path: Path) -> None:
    rows = [["file", "name", "usage"], ["pictures/a.png", "sad", "PrivateTest"]]
    faces = open_faces(
        unpacked({"pictures/a.png": grey_png(GREY), "labels.csv": table(rows)}, tmp_path), resolution=SIDE
    )
    assert (faces.labels.tolist(), faces.usages) == ([4], ("PrivateTest",))


def test_other_sizes_are_cut_to_the_central_square_and_resized(tmp_path: Path) -> None:
    wide = np.zeros((48, 96), dtype=np.uint8)
    wide[:, 24:72] = 200
    faces = open_faces(unpacked({"sad/a.png": grey_png(wide)}, tmp_path), resolution=SIDE)
    assert faces.images.shape == (1, SIDE, SIDE)
    assert (faces.images == 200).all()


def test_grey_passes_unchanged_and_colour_becomes_luma(tmp_path: Path) -> None:
    red = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (255, 0, 0)).save(red, format="PNG")
    files = {"angry/grey.png": grey_png(GREY), "angry/red.png": red.getvalue()}
    faces = open_faces(unpacked(files, tmp_path), resolution=SIDE)
    assert (faces.images[0] == GREY).all()
    assert (faces.images[1] == 76).all()


def test_without_need_of_labels_none_are_looked_for(tmp_path: Path) -> None:
    files = {"x/a.png": grey_png(GREY), "labels.csv": b"file,identity\nx/a.png,somebody\n"}
    faces = open_faces(unpacked(files, tmp_path), resolution=SIDE, need_labels=False)
    assert faces.labels.tolist() == [UNLABELLED]


@pytest.mark.parametrize(
    "files, told",
    [
        ({"bored/a.png": grey_png(GREY)}, "bored/a.png has no known class"),
        ({"a.png": grey_png(GREY)}, "a folder called angry, disgust"),
        ({"happy/a.png": b"no image"}, "happy/a.png cannot be decoded"),
        ({"readme.txt": b"no faces"}, "no images in the data set"),
        (
            {"happy/a.png": grey_png(GREY), "labels.csv": b"file,name\nhappy/a.png,sad\n"},
            "expected happy, its folder, got sad in labels.csv",
        ),
        (
            {"happy/a.png": grey_png(GREY), "labels.csv": b"file,name\nhappy/a.png,bored\n"},
            "labels.csv line 2: class: expected one of angry",
        ),
        (
            {"x/a.png": grey_png(GREY), "labels.csv": b"file,label,name\nx/a.png,3,sad\n"},
            "got sad and 3",
        ),
        (
            {"happy/a.png": grey_png(GREY), "labels.csv": b"file,identity\nhappy/a.png,x\n"},
            "no table of expressions: expected columns file and name or label",
        ),
        ({"happy/a.png": grey_png(GREY), "labels.csv": b"file,name\n\xff\xfe,sad\n"}, "CSV in UTF-8"),
        ({"happy/a.png": grey_png(GREY), "labels.csv": b'file,name\n"happy/a.png,sad\n'}, "CSV in UTF-8"),
    ],
)
def test_what_is_wrong_is_named(files: dict[str, bytes], told: str, tmp_path: Path) -> None:
    for path in (unpacked(files, tmp_path / "folder"), zipped(files, tmp_path / "packed.zip")):
        with pytest.raises(DatasetError) as caught:
            open_faces(path, resolution=SIDE)
        assert told in str(caught.value)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = zipped({"happy/a.png": grey_png(GREY)}, tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match=r"damaged|cannot be decoded"):
        open_faces(path, resolution=SIDE)
    path.write_bytes(bytes(data[:80]))
    with pytest.raises(DatasetError, match="not a data set"):
        open_faces(path, resolution=SIDE)
    with pytest.raises(DatasetError, match="data set not found"):
        open_faces(tmp_path / "nothing", resolution=SIDE)


def test_a_zip_that_claims_a_huge_image_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("happy/a.png", bytes(33 * 2**20))
    with pytest.raises(DatasetError, match=r"happy/a\.png is too large"):
        open_faces(path, resolution=SIDE)


@pytest.mark.parametrize("word", ["7", "٣", "-1", "", "99999999999999999999", "joy"])
def test_words_that_are_no_class(word: str) -> None:
    assert class_number(word) is None
