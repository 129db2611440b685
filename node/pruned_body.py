"""What is kept of a body that was dropped: its statements without the records of batches.

Owns that row and the sum over index rows that can no longer be derived from a body. What is kept still has
the body root that the block's header commits to, so who signed what, and when, stays provable; stages,
retractions and attestations are kept whole, so that no audit overlooks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..consensus.block import Body, body_root
from ..consensus.encoding import as_array, as_bytes, as_list, as_uint, pack, unpack
from ..consensus.errors import DecodeError
from ..consensus.hashing import sha256
from ..consensus.kinds import Kind
from ..consensus.statement import Statement, StatementHeader

PRUNED_ROWS_KEY: Final = b"pruned-rows"
"""Key in META: sum of the digests of all index rows of dropped payloads, and how many they are."""

_SUM_BYTES: Final = 32
_COUNT_BYTES: Final = 8
_FIELDS: Final = 4


Row = tuple[str, bytes, bytes]
"""Table, key and value of an index row."""


@dataclass(frozen=True, slots=True)
class StatementStub:
    """A statement; that of a batch without its payload."""

    header_bytes: bytes
    signature: bytes
    size_bytes: int
    """Length of the whole encoded statement."""
    payload: bytes | None
    """None for a batch."""

    @classmethod
    def of(cls, statement: Statement) -> StatementStub:
        """Keep what is kept of a statement."""
        kept = None if statement.kind is Kind.IMAGE_BATCH else statement.payload
        return cls(statement.header_bytes, statement.signature, statement.size_bytes, kept)

    def statement(self) -> Statement | None:
        """Return the whole statement, None when its payload was dropped; raises DecodeError."""
        return None if self.payload is None else Statement(self.header_bytes, self.signature, self.payload)

    @property
    def header(self) -> StatementHeader:
        """The decoded header; raises DecodeError."""
        return StatementHeader.decode(self.header_bytes)

    @property
    def id(self) -> bytes:
        """The statement's id."""
        return sha256(self.header_bytes)

    @property
    def leaf(self) -> bytes:
        """The leaf under the body root."""
        return sha256(self.header_bytes + self.signature)


@dataclass(frozen=True, slots=True)
class PrunedBody:
    """The stubs of a dropped body, in order."""

    stubs: tuple[StatementStub, ...]

    @classmethod
    def of(cls, body: Body) -> PrunedBody:
        """Keep what is kept of a body."""
        return cls(tuple(StatementStub.of(item) for item in body.statements))

    def root(self) -> bytes:
        """Return the body root."""
        return body_root(tuple(stub.leaf for stub in self.stubs), sum(stub.size_bytes for stub in self.stubs))

    def encode(self) -> bytes:
        """Return the row: an array of [header bin, signature bin, size uint, payload bin or nil]."""
        return pack(
            [[[stub.header_bytes, stub.signature, stub.size_bytes, stub.payload] for stub in self.stubs]]
        )

    @classmethod
    def decode(cls, data: bytes) -> PrunedBody:
        """Read a row; raises DecodeError."""
        (items,) = as_array(unpack(data, max_bytes=len(data), max_items=len(data)), "pruned body", 1)
        return cls(tuple(_stub(item) for item in as_list(items, "stubs", max_items=len(data))))


def _stub(item: object) -> StatementStub:
    header, signature, size, payload = as_array(item, "stub", _FIELDS)
    return StatementStub(
        as_bytes(header, "statement header"),
        as_bytes(signature, "signature", size=64),
        as_uint(size, "size"),
        None if payload is None else as_bytes(payload, "payload"),
    )


@dataclass(frozen=True, slots=True)
class RowSum:
    """A sum over a set of rows that does not depend on their order: it finds damage, and stops no forger."""

    total: int = 0
    count: int = 0

    def add(self, rows: Iterable[Row]) -> RowSum:
        """Return the sum with more rows in it."""
        total, count = self.total, self.count
        for table, key, value in rows:
            text = b"%d %s %d %s %s" % (len(table), table.encode(), len(key), key, value)
            total = (total + int.from_bytes(hashlib.sha256(text).digest(), "big")) % (1 << 8 * _SUM_BYTES)
            count += 1
        return RowSum(total, count)

    def encode(self) -> bytes:
        """Return sum (32 bytes) followed by count u64."""
        return self.total.to_bytes(_SUM_BYTES, "big") + self.count.to_bytes(_COUNT_BYTES, "big")

    @classmethod
    def decode(cls, data: bytes | None) -> RowSum:
        """Read 40 bytes; None is the empty sum. Raises DecodeError."""
        if data is None:
            return cls()
        if len(data) != _SUM_BYTES + _COUNT_BYTES:
            raise DecodeError(
                "sum of rows", expected=f"{_SUM_BYTES + _COUNT_BYTES} bytes", got=f"{len(data)} bytes"
            )
        return cls(int.from_bytes(data[:_SUM_BYTES], "big"), int.from_bytes(data[_SUM_BYTES:], "big"))
