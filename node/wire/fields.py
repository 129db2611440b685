# ruff: noqa: D102 - the methods of the shapes are described once, in `Field`
"""The shapes that a message's fields can have, as data: how each is packed, checked and bounded.

A message annotates its fields with these (`Annotated[int, Uint(64)]`); `codec` reads the annotations. Taking a
field refuses every value outside its shape with DecodeError, putting one never produces such a value.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Protocol, get_type_hints

from ...consensus.encoding import as_array, as_bool, as_bytes, as_list, as_text, as_uint, split_fixed
from ...consensus.errors import DecodeError
from .limits import HASH_BYTES

_LENGTH_BYTES = 5
"""Largest MessagePack prefix of a byte string, text or array."""


class Field(Protocol):
    """One shape: `put` and `take` are inverse to each other."""

    @property
    def max_bytes(self) -> int:
        """Most bytes of the packed field."""

    @property
    def max_items(self) -> int:
        """Most elements of the arrays within the field."""

    @property
    def depth(self) -> int:
        """Arrays within each other that the field is made of."""

    def put(self, value: Any) -> object:
        """Return what is packed for `value`."""

    def take(self, value: object, name: str) -> Any:
        """Return the value for what was unpacked; DecodeError when it is none of this shape."""


@dataclass(frozen=True, slots=True)
class Uint:
    """Unsigned integer of `bits` bits."""

    bits: int

    max_items: ClassVar[int] = 0
    depth: ClassVar[int] = 0

    @property
    def max_bytes(self) -> int:
        return 1 + self.bits // 8

    def put(self, value: int) -> object:
        return value

    def take(self, value: object, name: str) -> int:
        return as_uint(value, name, self.bits)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Byte string of exactly `size` bytes."""

    size: int

    max_items: ClassVar[int] = 0
    depth: ClassVar[int] = 0

    @property
    def max_bytes(self) -> int:
        return _prefix(self.size) + self.size

    def put(self, value: bytes) -> object:
        return value

    def take(self, value: object, name: str) -> bytes:
        return as_bytes(value, name, size=self.size)


@dataclass(frozen=True, slots=True)
class Packed:
    """Tuple of at most `items` byte strings of `size` bytes each, packed as one byte string."""

    size: int
    items: int

    max_items: ClassVar[int] = 0
    depth: ClassVar[int] = 0

    @property
    def max_bytes(self) -> int:
        return _prefix(self.size * self.items) + self.size * self.items

    def put(self, value: tuple[bytes, ...]) -> object:
        if any(len(item) != self.size for item in value):
            sizes = sorted({len(item) for item in value})
            raise DecodeError("packed items", expected=f"{self.size} bytes each", got=f"{sizes} bytes")
        return b"".join(value)

    def take(self, value: object, name: str) -> tuple[bytes, ...]:
        return split_fixed(as_bytes(value, name), name, size=self.size, max_items=self.items)


@dataclass(frozen=True, slots=True)
class Blobs:
    """Tuple of at most `items` byte strings of 1 to `size` bytes each, packed as an array."""

    size: int
    items: int

    depth: ClassVar[int] = 1

    @property
    def max_items(self) -> int:
        return self.items

    @property
    def max_bytes(self) -> int:
        return _LENGTH_BYTES + self.items * (_LENGTH_BYTES + self.size)

    def put(self, value: tuple[bytes, ...]) -> object:
        return value

    def take(self, value: object, name: str) -> tuple[bytes, ...]:
        blobs = as_list(value, name, max_items=self.items)
        return tuple(self._blob(blob, name) for blob in blobs)

    def _blob(self, value: object, name: str) -> bytes:
        blob = as_bytes(value, name, max_size=self.size)
        if not blob:
            raise DecodeError(name, expected="no empty item", got="an empty item")
        return blob


@dataclass(frozen=True, slots=True)
class Text:
    """Printable UTF-8 text of at most `size` bytes."""

    size: int

    max_items: ClassVar[int] = 0
    depth: ClassVar[int] = 0

    @property
    def max_bytes(self) -> int:
        return _prefix(self.size) + self.size

    def put(self, value: str) -> object:
        return value

    def take(self, value: object, name: str) -> str:
        return as_text(value, name, max_bytes=self.size)


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    max_items: ClassVar[int] = 0
    depth: ClassVar[int] = 0
    max_bytes: ClassVar[int] = 1

    def put(self, value: bool) -> object:  # noqa: FBT001 - the value itself
        return value

    def take(self, value: object, name: str) -> bool:
        return as_bool(value, name)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the numbers of `values`, below 128."""

    values: type[IntEnum]

    max_items: ClassVar[int] = 0
    depth: ClassVar[int] = 0
    max_bytes: ClassVar[int] = 1

    def put(self, value: IntEnum) -> object:
        return int(value)

    def take(self, value: object, name: str) -> IntEnum:
        number = as_uint(value, name, 7)
        try:
            return self.values(number)
        except ValueError:
            known = ", ".join(str(int(choice)) for choice in self.values)
            raise DecodeError(name, expected=f"one of {known}", got=str(number)) from None


@dataclass(frozen=True, slots=True)
class Rows:
    """Tuple of at most `items` values of the annotated dataclass `row`, packed as an array of arrays."""

    row: type[Any]
    items: int

    depth: ClassVar[int] = 2

    @property
    def max_items(self) -> int:
        return self.items

    @property
    def max_bytes(self) -> int:
        return _LENGTH_BYTES + self.items * array_bytes(self.row)

    def put(self, value: tuple[Any, ...]) -> object:
        return [put_fields(row) for row in value]

    def take(self, value: object, name: str) -> tuple[Any, ...]:
        rows = as_list(value, name, max_items=self.items)
        return tuple(take_fields(self.row, row, name) for row in rows)


U16 = Annotated[int, Uint(16)]
U32 = Annotated[int, Uint(32)]
U64 = Annotated[int, Uint(64)]
Hash = Annotated[bytes, Fixed(HASH_BYTES)]

_FIELDS: dict[type[Any], tuple[tuple[str, Field], ...]] = {}


def fields_of(cls: type[Any]) -> tuple[tuple[str, Field], ...]:
    """Return (name, shape) of every field of an annotated dataclass, in wire order."""
    if cls not in _FIELDS:
        hints = get_type_hints(cls, include_extras=True)
        _FIELDS[cls] = tuple(
            (field.name, hints[field.name].__metadata__[0]) for field in dataclasses.fields(cls)
        )
    return _FIELDS[cls]


def array_bytes(cls: type[Any]) -> int:
    """Return the most bytes that the packed array of a dataclass can take."""
    return 1 + sum(field.max_bytes for _, field in fields_of(cls))


def put_fields(value: Any) -> list[object]:
    """Return the positional array of a dataclass value; DecodeError when a field is out of its shape."""
    items: list[object] = []
    for name, field in fields_of(type(value)):
        item = field.put(getattr(value, name))
        # What this node's own decoder would refuse must not leave it: the peer would call it misbehaviour.
        field.take(list(item) if isinstance(item, tuple) else item, name)
        items.append(item)
    return items


def take_fields(cls: type[Any], value: object, name: str) -> Any:
    """Return the dataclass value of an unpacked positional array."""
    fields = fields_of(cls)
    items = as_array(value, name, len(fields))
    return cls(
        **{
            field_name: field.take(item, f"{name}.{field_name}")
            for (field_name, field), item in zip(fields, items, strict=True)
        }
    )


def _prefix(size: int) -> int:
    """Bytes of the length prefix of a byte string (text shorter than 32 bytes has one less)."""
    if size < 1 << 8:
        return 2
    return 3 if size < 1 << 16 else _LENGTH_BYTES
