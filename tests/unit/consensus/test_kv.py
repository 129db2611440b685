from __future__ import annotations

import msgpack
import pytest

from facechain.consensus.errors import DecodeError
from facechain.consensus.kv import MAX_KEY_BYTES, Bucket, Change, Delta, Overlay


class Reader:
    def __init__(self, content: dict[tuple[Bucket, bytes], bytes]) -> None:
        self.content = content

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        return self.content.get((bucket, key))


def _overlay() -> Overlay:
    return Overlay(Reader({(Bucket.ROLES, b"a"): b"1", (Bucket.ROLES, b"b"): b"2"}))


def test_overlay_reads_through_and_sees_its_changes() -> None:
    overlay = _overlay()
    overlay.put(Bucket.ROLES, b"a", b"new")
    overlay.delete(Bucket.ROLES, b"b")
    assert overlay.get(Bucket.ROLES, b"a") == b"new"
    assert overlay.get(Bucket.ROLES, b"b") is None
    assert overlay.get(Bucket.STAGES, b"a") is None


def test_overlay_bucket_view_is_live() -> None:
    overlay = _overlay()
    view = overlay.bucket(Bucket.ROLES)
    view.put(b"c", b"3")
    view.delete(b"a")
    assert overlay.get(Bucket.ROLES, b"c") == b"3"
    assert view.get(b"a") is None
    assert view.get(b"b") == b"2"


def test_delta_holds_real_changes_in_order() -> None:
    overlay = _overlay()
    overlay.put(Bucket.STAGES, b"z", b"9")
    overlay.put(Bucket.ROLES, b"b", b"22")
    overlay.put(Bucket.ROLES, b"a", b"1")
    overlay.put(Bucket.HISTORY, b"x", b"gone")
    overlay.delete(Bucket.HISTORY, b"x")
    delta = overlay.delta()
    assert len(delta) == 2
    assert list(delta) == [
        Change(bucket=Bucket.ROLES, key=b"b", old=b"2", new=b"22"),
        Change(bucket=Bucket.STAGES, key=b"z", old=None, new=b"9"),
    ]


def test_overlay_apply_checks_what_it_replaces() -> None:
    overlay = _overlay()
    overlay.put(Bucket.ROLES, b"a", b"1'")
    overlay.delete(Bucket.ROLES, b"b")
    delta = overlay.delta()
    overlay.apply(delta.inverse())
    assert overlay.delta() == Delta(changes=())
    with pytest.raises(ValueError, match="different state"):
        overlay.apply(delta.inverse())


def test_overlay_on_an_overlay_is_taken_in_or_leaves_no_trace() -> None:
    lower = _overlay()
    lower.put(Bucket.ROLES, b"a", b"lower")
    upper = Overlay(lower)
    upper.put(Bucket.ROLES, b"a", b"upper")
    upper.delete(Bucket.ROLES, b"b")
    assert (upper.get(Bucket.ROLES, b"a"), lower.get(Bucket.ROLES, b"a")) == (b"upper", b"lower")
    assert lower.get(Bucket.ROLES, b"b") == b"2"
    lower.take(upper)
    assert sorted(lower.changed()) == [(Bucket.ROLES, b"a", b"upper"), (Bucket.ROLES, b"b", None)]


def test_overlay_refuses_long_keys() -> None:
    with pytest.raises(ValueError, match="at most 256"):
        _overlay().put(Bucket.ROLES, bytes(MAX_KEY_BYTES + 1), b"")


def test_delta_encoding_is_byte_exact() -> None:
    delta = Delta(changes=(Change(bucket=Bucket.ROLES, key=b"k", old=None, new=b"v"),))
    assert delta.encode().hex() == "9194a5726f6c6573c4016bc0c40176"
    assert Delta.decode(delta.encode()) == delta
    assert Delta.decode(b"\x90") == Delta(changes=())
    three = tuple(Change(bucket=Bucket.ROLES, key=b"%d" % n, old=None, new=b"v") for n in range(3))
    assert Delta.decode(Delta(changes=three).encode()) == Delta(changes=three)


_GOOD = ["roles", b"k", None, b"v"]


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"\xc1",
        msgpack.packb("text"),
        msgpack.packb([b"row"]),
        msgpack.packb([_GOOD[:3]]),
        msgpack.packb([["nowhere", b"k", None, b"v"]]),
        msgpack.packb([[7, b"k", None, b"v"]]),
        msgpack.packb([["roles", "text", None, b"v"]]),
        msgpack.packb([["roles", bytes(MAX_KEY_BYTES + 1), None, b"v"]]),
        msgpack.packb([["roles", b"k", 5, b"v"]]),
        msgpack.packb([["roles", b"k", None, "v"]]),
        msgpack.packb([["roles", b"k", b"v", b"v"]]),
        msgpack.packb([["roles", b"k", None, None]]),
        msgpack.packb([_GOOD, _GOOD]),
        msgpack.packb([["stages", b"k", None, b"v"], _GOOD]),
        msgpack.packb([_GOOD]) + b"\x00",
        b"\x91\x94\xd9\x05roles" + b"\xc4\x01k\xc0\xc4\x01v",
    ],
)
def test_delta_decode_refuses_everything_else(rows: bytes) -> None:
    with pytest.raises(DecodeError):
        Delta.decode(rows)
