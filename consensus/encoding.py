"""Canonical MessagePack: the one byte encoding of every variable-size structure.

Owns the subset of MessagePack that the protocol uses (nil, booleans, unsigned integers, byte
strings, UTF-8 text and positional arrays, each in its shortest form) and the field checks that
turn a decoded array into typed values. It refuses maps, floats, extension types, negative
integers, trailing bytes and any encoding that is not the shortest one.

Source: MessagePack specification; ``docs/protocol.md``, section "Encoding".
"""

from __future__ import annotations

from typing import TypeAlias

import msgpack

from .errors import DecodeError

MAX_ITEMS_DEFAULT = 64
"""Elements that one array may hold unless the structure's own limit says otherwise."""

MAX_DEPTH = 6
"""Arrays within arrays. The deepest structure of the protocol needs four."""

U8, U16, U32, U64 = 8, 16, 32, 64
"""Widths in bits of the unsigned integers of the protocol."""

Value: TypeAlias = bool | int | bytes | str | list["Value"] | None


def pack(value: object) -> bytes:
    """Encode nested tuples or lists of plain values as canonical MessagePack."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes, *, max_bytes: int, max_items: int = MAX_ITEMS_DEFAULT) -> Value:
    """Decode one canonical value that fills ``data`` exactly.

    ``max_bytes`` bounds the input before anything is parsed, ``max_items`` every array within it,
    so that a hostile length never allocates more than a small multiple of the input.

    Raises:
        DecodeError: too long, malformed, truncated, of a type outside the subset, or not in the
            shortest form.
    """
    if len(data) > max_bytes:
        raise DecodeError("structure", expected=f"at most {max_bytes} bytes", got=f"{len(data)} bytes")
    try:
        value: Value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=min(max_items, len(data)),
            max_map_len=0,
            max_ext_len=0,
            max_bin_len=len(data),
            max_str_len=len(data),
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise DecodeError(
            "structure", expected="canonical MessagePack", got=str(error) or type(error).__name__
        ) from None
    _check_subset(value, MAX_DEPTH)
    if pack(value) != data:
        raise DecodeError(
            "structure", expected="the shortest encoding", got="a longer encoding of the same value"
        )
    return value


def _check_subset(value: object, depth: int) -> None:
    if isinstance(value, list):
        if depth == 0:
            raise DecodeError(
                "structure", expected=f"at most {MAX_DEPTH} nested arrays", got="deeper nesting"
            )
        for item in value:
            _check_subset(item, depth - 1)
    elif not (
        value is None or isinstance(value, (bool, bytes, str)) or (isinstance(value, int) and value >= 0)
    ):
        raise DecodeError(
            "structure", expected="nil, bool, uint, bin, str or array", got=type(value).__name__
        )


def as_array(value: object, name: str, size: int) -> list[Value]:
    """Require an array of exactly ``size`` elements."""
    if not isinstance(value, list):
        raise DecodeError(name, expected=f"an array of {size}", got=_kind(value))
    if len(value) != size:
        raise DecodeError(name, expected=f"{size} fields", got=f"{len(value)} fields")
    return value


def as_list(value: object, name: str, *, max_items: int, min_items: int = 0) -> list[Value]:
    """Require an array of ``min_items`` to ``max_items`` elements."""
    if not isinstance(value, list):
        raise DecodeError(name, expected="an array", got=_kind(value))
    if not min_items <= len(value) <= max_items:
        raise DecodeError(name, expected=f"{min_items} to {max_items} items", got=f"{len(value)} items")
    return value


def as_uint(value: object, name: str, bits: int = U64) -> int:
    """Require an unsigned integer below 2**bits (a boolean is not one)."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise DecodeError(name, expected=f"an unsigned {bits}-bit integer", got=_kind(value))
    if not 0 <= value < 1 << bits:
        raise DecodeError(name, expected=f"an unsigned {bits}-bit integer", got=str(value))
    return value


def as_bool(value: object, name: str) -> bool:
    """Require a boolean."""
    if not isinstance(value, bool):
        raise DecodeError(name, expected="a boolean", got=_kind(value))
    return value


def as_bytes(value: object, name: str, *, size: int | None = None, max_size: int | None = None) -> bytes:
    """Require a byte string of exactly ``size``, or of at most ``max_size``, bytes."""
    if not isinstance(value, bytes):
        raise DecodeError(name, expected="a byte string", got=_kind(value))
    if size is not None and len(value) != size:
        raise DecodeError(name, expected=f"{size} bytes", got=f"{len(value)} bytes")
    if max_size is not None and len(value) > max_size:
        raise DecodeError(name, expected=f"at most {max_size} bytes", got=f"{len(value)} bytes")
    return value


def as_text(value: object, name: str, *, max_bytes: int) -> str:
    """Require UTF-8 text of at most ``max_bytes`` bytes without control characters."""
    if not isinstance(value, str):
        raise DecodeError(name, expected="text", got=_kind(value))
    size = len(value.encode())
    if size > max_bytes:
        raise DecodeError(name, expected=f"at most {max_bytes} bytes of text", got=f"{size} bytes")
    if not value.isprintable():
        raise DecodeError(name, expected="printable text", got="a control character")
    return value


def split_fixed(packed: bytes, name: str, *, size: int, max_items: int) -> tuple[bytes, ...]:
    """Cut a packed array of fixed-size items; the count is the length divided by ``size``."""
    if len(packed) % size:
        raise DecodeError(name, expected=f"a multiple of {size} bytes", got=f"{len(packed)} bytes")
    if len(packed) > size * max_items:
        raise DecodeError(name, expected=f"at most {max_items} items", got=f"{len(packed) // size} items")
    return tuple(packed[start : start + size] for start in range(0, len(packed), size))


def _kind(value: object) -> str:
    return "nil" if value is None else type(value).__name__
