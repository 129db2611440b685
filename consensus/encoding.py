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

VALUES_PER_ITEM = 16
"""All arrays of a structure together may hold this many times what one may; an empty array, one byte on the
wire, takes 64 bytes of memory."""

_FORBIDDEN_RANGES = ((0x00, 0x1F), (0x7F, 0x9F), (0x2028, 0x202E), (0x2066, 0x2069))
_FORBIDDEN_IN_TEXT = frozenset(
    chr(code) for first, last in _FORBIDDEN_RANGES for code in range(first, last + 1)
)
"""C0, DEL and C1, line and paragraph separators, and what changes the direction of writing. A closed list:
a property from Unicode's tables (as ``str.isprintable``) would depend on the version of Python."""

PACK_BUFFER_BYTES = 1_024
"""Room that a value is packed into to begin with. The library's own default is a mebibyte for each value, which
costs more than the packing of a small one."""

QUICK_BYTES_MAX = 8_192
"""Up to here the library decodes first. It makes room for all that an array claims to hold, which for more bytes would
be too much room for bytes that are no structure."""

U8, U16, U32, U64 = 8, 16, 32, 64
"""Widths in bits of the unsigned integers of the protocol."""

Value: TypeAlias = bool | int | bytes | str | list["Value"] | None


def pack(value: object) -> bytes:
    """Encode nested tuples or lists of plain values as canonical MessagePack."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, buf_size=PACK_BUFFER_BYTES)
    return packed


def packed_bytes_size(size: int) -> int:
    """Return how many bytes a byte string of `size` takes when it is packed."""
    if size < 1 << 8:
        return 2 + size
    return 3 + size if size < 1 << 16 else 5 + size


def unpack(
    data: bytes, *, max_bytes: int, max_items: int = MAX_ITEMS_DEFAULT, max_depth: int = MAX_DEPTH
) -> Value:
    """Decode one canonical value that fills ``data`` exactly.

    ``max_bytes`` bounds the input before anything is parsed, ``max_items`` every array within it and, times
    ``VALUES_PER_ITEM``, all of them together, ``max_depth`` the arrays within each other. A claimed length is
    checked against the bytes that are left before anything is allocated for it, so hostile input costs a small
    multiple of its own length.

    Raises:
        DecodeError: too long, malformed, truncated, of a type outside the subset, or not in the
            shortest form.
    """
    if len(data) > max_bytes:
        raise DecodeError("structure", expected=f"at most {max_bytes} bytes", got=f"{len(data)} bytes")
    if max_items <= MAX_ITEMS_DEFAULT and len(data) <= QUICK_BYTES_MAX:
        quick = _unpack_quickly(data, max_items, max_depth)
        if quick is not None:
            return quick
    reader = _Reader(data, max_items)
    value = reader.value(max_depth)
    if reader.position != len(data):
        raise DecodeError(
            "structure", expected=f"{reader.position} bytes", got=f"{len(data) - reader.position} more bytes"
        )
    return value


_PLAIN = frozenset((int, bytes, bool, str, type(None)))


def _unpack_quickly(data: bytes, max_items: int, max_depth: int) -> Value:
    """Decode with the library; None for whatever is not surely canonical: `_Reader` decides and tells why.

    What the library packs is the shortest form, so a value that packs to the same bytes was written in it.
    Only for few items and bytes (`QUICK_BYTES_MAX`).
    """
    try:
        value: Value = msgpack.unpackb(data, max_array_len=max_items, max_map_len=0, max_ext_len=0)
        if not _is_plain(value, max_items, max_depth) or pack(value) != data:
            return None
    except (ValueError, OverflowError):
        return None
    return value


def _is_plain(value: Value, max_items: int, max_depth: int) -> bool:
    """Tell whether a decoded value is of the subset, and neither too deep nor of too many parts."""
    level, left, depth = [value], VALUES_PER_ITEM * max_items, max_depth
    while level:
        inner: list[Value] = []
        for item in level:
            if isinstance(item, list):
                if not depth:
                    return False
                inner += item
            elif type(item) not in _PLAIN or (type(item) is int and item < 0):
                return False
        left -= len(inner)
        if left < 0:
            return False
        level, depth = inner, depth - 1
    return True


_CONSTANTS: dict[int, bool | None] = {0xC0: None, 0xC2: False, 0xC3: True}
_FIX_ARRAY, _FIX_TEXT, _FIX_TEXT_END = 0x90, 0xA0, 0xC0
_FIX_UINT_END = 0x80

# First byte -> (bytes of the number that follows, least number that needs so many).
_UINTS = {0xCC: (1, 0x80), 0xCD: (2, 1 << 8), 0xCE: (4, 1 << 16), 0xCF: (8, 1 << 32)}
_BINARIES = {0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16)}
_TEXTS = {0xD9: (1, 32), 0xDA: (2, 1 << 8), 0xDB: (4, 1 << 16)}
_ARRAYS = {0xDC: (2, 16), 0xDD: (4, 1 << 16)}


class _Reader:
    """Reads values off a byte string, refusing every form but the shortest."""

    __slots__ = ("data", "max_items", "position", "values_left")

    def __init__(self, data: bytes, max_items: int) -> None:
        self.data = data
        self.max_items = max_items
        self.values_left = VALUES_PER_ITEM * max_items
        self.position = 0

    def value(self, depth: int) -> Value:
        """Read one value with at most ``depth`` levels of arrays."""
        first = self._take(1)[0]
        if first < _FIX_UINT_END:
            return first
        if first in _BINARIES:
            return self._take(self._number(*_BINARIES[first]))
        if first in _UINTS:
            return self._number(*_UINTS[first])
        if _FIX_ARRAY <= first < _FIX_TEXT:
            return self._array(first - _FIX_ARRAY, depth)
        if first in _ARRAYS:
            return self._array(self._number(*_ARRAYS[first]), depth)
        if _FIX_TEXT <= first < _FIX_TEXT_END:
            return self._text(first - _FIX_TEXT)
        if first in _TEXTS:
            return self._text(self._number(*_TEXTS[first]))
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        raise DecodeError("structure", expected="nil, bool, uint, bin, str or array", got=f"0x{first:02x}")

    def _take(self, size: int) -> bytes:
        start = self.position
        if size > len(self.data) - start:
            raise DecodeError(
                "structure", expected=f"{size} more bytes", got=f"{len(self.data) - start} bytes"
            )
        self.position = start + size
        return self.data[start : self.position]

    def _number(self, size: int, least: int) -> int:
        number = int.from_bytes(self._take(size), "big")
        if number < least:
            raise DecodeError(
                "structure", expected="the shortest encoding", got=f"{number} written in {size} bytes"
            )
        return number

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError("structure", expected="UTF-8 text", got=error.reason) from None

    def _array(self, count: int, depth: int) -> list[Value]:
        left = len(self.data) - self.position
        if depth == 0:
            raise DecodeError("structure", expected="fewer nested arrays", got="deeper nesting")
        most = min(self.max_items, self.values_left, left)
        if count > most:
            raise DecodeError("structure", expected=f"an array of at most {most}", got=str(count))
        self.values_left -= count
        return [self.value(depth - 1) for _ in range(count)]


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
    """Require UTF-8 text of at most ``max_bytes`` bytes without control characters (a closed list)."""
    if not isinstance(value, str):
        raise DecodeError(name, expected="text", got=_kind(value))
    size = len(value.encode())
    if size > max_bytes:
        raise DecodeError(name, expected=f"at most {max_bytes} bytes of text", got=f"{size} bytes")
    if not _FORBIDDEN_IN_TEXT.isdisjoint(value):
        raise DecodeError(name, expected="text without control characters", got=ascii(value)[:80])
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
