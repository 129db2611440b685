from pathlib import Path

import pytest

from facechain.consensus.hashing import sha256
from facechain.consensus.image import ImageRejected
from facechain.node.api.limits import OBJECT_BYTES_MAX
from facechain.node.api.objects import ObjectFolder, media_type
from facechain.node.api.problems import ApiProblem
from support.pictures import make_picture


def test_what_was_put_is_got_again_and_counted_after_reopening(tmp_path: Path) -> None:
    folder = ObjectFolder.open(tmp_path / "objects")
    picture = make_picture(1)
    assert folder.get(picture.file_hash) is None
    assert folder.put(picture.file_hash, picture.data)
    assert not folder.put(picture.file_hash, picture.data)
    again = ObjectFolder.open(tmp_path / "objects")
    assert again.get(picture.file_hash) == picture.data
    assert picture.file_hash in again
    assert (again.count, again.size_bytes) == (1, len(picture.data))
    assert media_type(picture.data) == "image/png"


def test_unfinished_files_are_removed_at_the_next_start(tmp_path: Path) -> None:
    scratch = tmp_path / "ab" / ".unfinished"
    scratch.parent.mkdir()
    scratch.write_bytes(b"half")
    assert ObjectFolder.open(tmp_path).count == 0
    assert not scratch.exists()


def test_the_quota_holds(tmp_path: Path) -> None:
    picture = make_picture(1)
    folder = ObjectFolder.open(tmp_path, quota_bytes=len(picture.data) - 1)
    with pytest.raises(ApiProblem) as caught:
        folder.put(picture.file_hash, picture.data)
    assert (caught.value.status, caught.value.code) == (507, "object-quota")
    assert not list(tmp_path.rglob("*.*"))


def test_bytes_that_are_no_image_or_too_many_are_refused(tmp_path: Path) -> None:
    folder = ObjectFolder.open(tmp_path)
    with pytest.raises(ImageRejected):
        folder.put(sha256(b"text"), b"text")
    large = bytes(OBJECT_BYTES_MAX + 1)
    with pytest.raises(ApiProblem, match="oversized"):
        folder.put(sha256(large), large)
    with pytest.raises(ApiProblem, match="object-mismatch"):
        folder.put(sha256(b"other"), make_picture(1).data)
