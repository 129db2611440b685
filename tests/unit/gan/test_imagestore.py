import hashlib
from pathlib import Path

import pytest

from facechain.gan.errors import StoreError
from facechain.gan.imagestore import ImageStore


def test_objects_lie_under_their_hash(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "store"))
    name = store.put(b"face")
    assert name == hashlib.sha256(b"face").digest()
    assert (tmp_path / "store" / name.hex()[:2] / name.hex()).read_bytes() == b"face"
    assert store.get(name) == b"face"
    assert store.put(b"face") == name
    assert len(list((tmp_path / "store").rglob("*"))) == 2


def test_altered_objects_are_never_returned(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path))
    name = store.put(b"face")
    Path(store.path(name)).write_bytes(b"fake")
    with pytest.raises(StoreError, match="altered"):
        store.get(name)


def test_a_torn_object_is_replaced(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path))
    name = store.put(b"face")
    Path(store.path(name)).write_bytes(b"fa")
    assert store.put(b"face") == name
    assert store.get(name) == b"face"


def test_missing_objects_are_not_available(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path))
    with pytest.raises(StoreError, match="not available"):
        store.get(bytes(32))
    with pytest.raises(StoreError, match="32 bytes"):
        store.get(b"short")


def test_other_file_systems_work_by_url() -> None:
    store = ImageStore("memory://faces")
    assert store.get(store.put(b"face")) == b"face"


def test_unknown_schemes_end_in_one_line() -> None:
    with pytest.raises(StoreError, match="URL"):
        ImageStore("nosuchscheme://x")
