"""The file format of a snapshot: a line, frames of one kind byte, a length and content, and a checksum.

Owns the bytes only. What the frames hold is checked by `snapshot.py`; the checksum finds a copy that was cut or
damaged, and proves nothing else.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO, Final

from ...consensus.errors import DecodeError
from ..chain_index import BODY_DECODE_BYTES_MAX

MAGIC: Final = b"facechain snapshot 1\n"
_FRAME: Final = struct.Struct(">BQ")


class Frame(IntEnum):
    """What a frame holds."""

    GENESIS = 1
    """Encoded genesis."""
    TARGET = 2
    """Height u64, block hash, state root."""
    HEADER = 3
    """A sealed header, in order of height from 1."""
    ENTRY = 4
    """MessagePack array of bucket name, key and value: an entry of the state."""
    BODY = 5
    """A body, in order of height from 1."""
    END = 6
    """SHA-256 of everything before this frame."""


_KINDS: Final = frozenset(map(int, Frame))


class SnapshotWriter:
    """Writes frames and keeps their checksum."""

    def __init__(self, file: BinaryIO) -> None:
        """Start a file."""
        self._file = file
        self._digest = hashlib.sha256()
        self._write(MAGIC)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    def put(self, kind: Frame, content: bytes) -> None:
        """Append a frame."""
        self._write(_FRAME.pack(kind, len(content)))
        self._write(content)

    def end(self) -> None:
        """Append the checksum."""
        self.put(Frame.END, self._digest.digest())


def read_frames(file: BinaryIO) -> Iterator[tuple[Frame, bytes]]:
    """Yield (kind, content) up to the checksum, which is compared; raises DecodeError.

    `file` must be seekable: reading a length that a frame claims reserves as much memory at once, so it is
    compared with what the file has left first.
    """
    digest = hashlib.sha256()
    left = file.seek(0, os.SEEK_END)
    file.seek(0)

    def take(size: int) -> bytes:
        nonlocal left
        data = file.read(size) if size <= left else b""
        if len(data) != size:
            raise DecodeError("snapshot", expected=f"{size} more bytes", got="the end of the file")
        left -= size
        return data

    if left < len(MAGIC) or take(len(MAGIC)) != MAGIC:
        raise DecodeError("snapshot", expected=repr(MAGIC.decode().strip()), got="other content")
    digest.update(MAGIC)
    while True:
        head = take(_FRAME.size)
        number, size = _FRAME.unpack(head)
        if number not in _KINDS or size > BODY_DECODE_BYTES_MAX:
            raise DecodeError("snapshot frame", expected="a known kind and length", got=f"{number}, {size}")
        content = take(size)
        if number == Frame.END:
            break
        yield Frame(number), content
        digest.update(head)
        digest.update(content)
    if content != digest.digest():
        raise DecodeError("snapshot checksum", expected=content.hex(), got=digest.hexdigest())
    if file.read(1):
        raise DecodeError("snapshot", expected="the end after the checksum", got="more bytes")
