"""The canonical encoding: one form of every value, and hostile input costs no more than its own length."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import msgpack
import pytest

from facechain.consensus import encoding
from facechain.consensus.encoding import (
    MAX_DEPTH,
    as_array,
    as_bool,
    as_bytes,
    as_list,
    as_text,
    as_uint,
    pack,
    split_fixed,
    unpack,
)
from facechain.consensus.errors import DecodeError

NOT_CANONICAL = {
    "uint 5 in one byte": "cc05",
    "uint 5 in two bytes": "cd0005",
    "uint 255 in two bytes": "cd00ff",
    "uint 65535 in four bytes": "ce0000ffff",
    "uint 2^32-1 in eight bytes": "cf00000000ffffffff",
    "bin 16": "c5000161",
    "bin 32": "c60000000161",
    "text of 8-bit length": "d90161",
    "text of 16-bit length": "da000161",
    "text of 32-bit length": "db0000000161",
    "array of 16-bit length": "dc0001c0",
    "array of 32-bit length": "dd00000001c0",
    "map": "8101c0",
    "empty map": "80",
    "map of 16-bit length": "de000101c0",
    "float 32": "ca00000000",
    "float 64": "cb0000000000000000",
    "negative fixint": "ff",
    "negative int 8": "d080",
    "positive int 8": "d005",
    "int 16": "d10100",
    "int 32": "d200010000",
    "int 64": "d30000000100000000",
    "fixext": "d40100",
    "ext": "c7010100",
    "timestamp": "d6ff00000000",
    "reserved": "c1",
    "trailing byte": "c0c0",
    "no byte": "",
    "truncated number": "cd01",
    "truncated length": "dc00",
    "truncated bin": "c40361",
    "truncated text": "a361",
    "truncated array": "92c0",
    "not UTF-8": "a1ff",
    "surrogate": "a3eda080",
    "overlong UTF-8": "a2c080",
    "huge bin": "c6ffffffff",
    "huge array": "ddffffffff",
    "huge text": "dbffffffff",
}


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        unpack(bytes.fromhex(NOT_CANONICAL[name]), max_bytes=100)


@pytest.mark.parametrize(
    "value",
    [
        None,
        False,
        True,
        *(base + step for base in (0, 0x80, 0x100, 0x10000, 2**32) for step in (0, 1)),
        2**64 - 1,
        *(b"x" * size for size in (0, 31, 32, 255, 256, 65_535, 65_536)),
        *("é" * size for size in (0, 15, 16, 127, 128, 32_767, 32_768)),
        *([None] * size for size in (0, 15, 16, 65_535, 65_536)),
    ],
    ids=lambda value: f"{type(value).__name__}-{len(value) if hasattr(value, '__len__') else value}",
)
def test_every_width_has_one_form(value: object) -> None:
    data = pack(value)
    assert unpack(data, max_bytes=len(data), max_items=2**20) == value
    for end in {0, len(data) // 2, len(data) - 1} - {len(data)}:
        with pytest.raises(DecodeError):
            unpack(data[:end], max_bytes=len(data), max_items=2**20)


def test_longer_than_the_limit() -> None:
    with pytest.raises(DecodeError, match="at most 3 bytes"):
        unpack(bytes(4), max_bytes=3)


def test_more_items_than_the_limit() -> None:
    assert unpack(pack([1, 2]), max_bytes=9, max_items=2) == [1, 2]
    with pytest.raises(DecodeError, match="an array of at most 2"):
        unpack(pack([1, 2, 3]), max_bytes=9, max_items=2)


def test_all_arrays_together_have_a_limit() -> None:
    rows = [[0] * 4] * 12
    assert unpack(pack(rows), max_bytes=99, max_items=12) == rows
    pairs: object = 0
    for _ in range(4):
        pairs = [pairs, pairs]
    assert unpack(pack(pairs), max_bytes=99, max_items=2) == pairs
    with pytest.raises(DecodeError, match="an array of at most 0, got 2"):
        unpack(pack([pairs, pairs]), max_bytes=99, max_items=2)


def test_nesting_has_a_limit() -> None:
    deepest: object = 1
    for _ in range(MAX_DEPTH):
        deepest = [deepest]
    assert unpack(pack(deepest), max_bytes=99) == deepest
    with pytest.raises(DecodeError, match="nested arrays"):
        unpack(pack([deepest]), max_bytes=99)
    with pytest.raises(DecodeError, match="nested arrays"):
        unpack(b"\x91" * 1_000_000, max_bytes=10**6)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\x00\x0f\xff\xff" * 400_000,
        b"\x9f" * 2_000_000,
        b"\xdc\xff\xff" * 700_000,
        b"\xdd\x00\x0f\x00\x00" + b"\xdd\x00\x00\xff\xff" * 400_000,
        b"\xc6\x7f\xff\xff\xff" + bytes(2_000_000),
        b"\xdd\x00\x01\x86\xa0" + b"\x90" * 100_000,
    ],
    ids=["arrays of a million", "fixarrays", "arrays of 65535", "array of arrays", "bin", "empty arrays"],
)
def test_hostile_lengths_allocate_no_more_than_a_multiple_of_the_input(data: bytes) -> None:
    tracemalloc.start()
    try:
        try:
            unpack(data, max_bytes=len(data), max_items=2**20)
        except DecodeError:
            pass
        else:
            assert data.endswith(b"\x90"), "only the empty arrays are well-formed"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 * len(data)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536, 200_000])
def test_size_of_a_packed_byte_string(size: int) -> None:
    assert encoding.packed_bytes_size(size) == len(pack(bytes(size)))


def test_pack_writes_what_the_library_reads() -> None:
    value = [None, True, 0, 2**64 - 1, b"bytes", "text", [[], [1]]]
    assert msgpack.unpackb(pack(value)) == value


@pytest.mark.parametrize("code", [0x00, 0x0A, 0x1F, 0x7F, 0x9F, 0x2028, 0x202E, 0x2066, 0x2069])
def test_text_without_control_characters(code: int) -> None:
    with pytest.raises(DecodeError, match="without control characters"):
        as_text(f"a{chr(code)}b", "name", max_bytes=9)


@pytest.mark.parametrize(
    "text", ["", "Grace Höpper", "Ä ö", "深層", "🙂", "\U0003fffd", "\u2027\u202f\u206a"]
)
def test_all_other_text_is_welcome_whatever_python_knows_of_it(text: str) -> None:
    assert as_text(text, "name", max_bytes=99) == text


FIELDS: dict[str, tuple[Callable[[], object], str]] = {
    "array size": (lambda: as_array([1], "f", 2), "2 fields, got 1 fields"),
    "array type": (lambda: as_array(b"", "f", 2), "an array of 2, got bytes"),
    "list type": (lambda: as_list(None, "f", max_items=2), "an array, got nil"),
    "list too long": (lambda: as_list([1, 2, 3], "f", max_items=2), "0 to 2 items, got 3"),
    "list too short": (lambda: as_list([], "f", max_items=2, min_items=1), "1 to 2 items, got 0"),
    "uint type": (lambda: as_uint("1", "f"), "64-bit integer, got str"),
    "uint bool": (lambda: as_uint(True, "f"), "64-bit integer, got bool"),
    "uint range": (lambda: as_uint(256, "f", 8), "8-bit integer, got 256"),
    "uint negative": (lambda: as_uint(-1, "f", 8), "8-bit integer, got -1"),
    "bool type": (lambda: as_bool(1, "f"), "a boolean, got int"),
    "bytes type": (lambda: as_bytes("x", "f"), "a byte string, got str"),
    "bytes size": (lambda: as_bytes(b"x", "f", size=2), "2 bytes, got 1 bytes"),
    "bytes max": (lambda: as_bytes(b"xxx", "f", max_size=2), "at most 2 bytes, got 3"),
    "text type": (lambda: as_text(b"x", "f", max_bytes=2), "text, got bytes"),
    "text max": (lambda: as_text("éé", "f", max_bytes=3), "at most 3 bytes of text, got 4"),
    "packed size": (lambda: split_fixed(b"abc", "f", size=2, max_items=9), "a multiple of 2 bytes"),
    "packed count": (lambda: split_fixed(b"abcdef", "f", size=2, max_items=2), "at most 2 items, got 3"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_field_checks_name_expected_and_got(name: str) -> None:
    check, message = FIELDS[name]
    with pytest.raises(DecodeError, match=message) as caught:
        check()
    assert caught.value.what == "f"


def test_field_checks_let_good_values_through() -> None:
    assert as_array([1, 2], "f", 2) == [1, 2]
    assert as_list([1], "f", max_items=1, min_items=1) == [1]
    assert as_uint(255, "f", encoding.U8) == 255
    assert as_bool(False, "f") is False
    assert as_bytes(b"ab", "f", size=2, max_size=2) == b"ab"
    assert split_fixed(b"abcd", "f", size=2, max_items=2) == (b"ab", b"cd")
