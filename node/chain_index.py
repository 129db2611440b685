"""Look-ups over the active chain: by height, statement, batch, pixels, file, look and reference.

Owns the index tables of the store: which rows a block adds when it is connected (and loses when it
is disconnected), and the reads over them. Rows are functions of the block alone, so disconnecting
derives the same rows again and deletes them; the hashes of records are kept as sorted runs (`runs`).
No rule of validity reads these tables.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..consensus.apply import Checked
from ..consensus.block import Body, SealedHeader
from ..consensus.errors import DecodeError
from ..consensus.kinds import Kind
from ..consensus.payloads import Attestation, ImageBatch, Retract, RoleApproval, Stage, ViewGrant
from ..consensus.statement import ABSENT, BatchHeader, Statement
from .pruned_body import PrunedBody, Row
from .runs.placed import PlacedRecords, plain_rows
from .runs.table import LOGICAL_NAMES, RUN_TABLES, add_block, find, remove_block
from .store.port import Reader, Writer
from .store.schema import Table, height_key, prefix_stop

HEADER_FLAG_INVALID = 1
HEADER_FLAG_BODY = 2
"""Flags in the last byte of a header row: the block broke a rule; its body is stored."""

TIP_KEY = b"tip"
BODY_DECODE_BYTES_MAX = 1 << 27
"""Bound for reading a stored body back; every genesis limit is below it."""

_PLACE = struct.Struct(">QI")
_RECORD_PLACE = struct.Struct(">QII")
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a statement stands on the active chain."""

    height: int
    index: int

    def encode(self) -> bytes:
        """Return height u64 followed by index u32."""
        return _PLACE.pack(self.height, self.index)

    @classmethod
    def decode(cls, data: bytes) -> Place:
        """Read 12 bytes; raises DecodeError."""
        return cls(*_unpack(_PLACE, data))


@dataclass(frozen=True, slots=True, order=True)
class RecordPlace:
    """Where a record stands on the active chain."""

    height: int
    statement: int
    record: int

    @classmethod
    def decode(cls, data: bytes) -> RecordPlace:
        """Read 16 bytes; raises DecodeError."""
        return cls(*_unpack(_RECORD_PLACE, data))

    @property
    def place(self) -> Place:
        """The statement that holds the record."""
        return Place(self.height, self.statement)


def _unpack(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) != layout.size:
        raise DecodeError("place", expected=f"{layout.size} bytes", got=f"{len(data)} bytes")
    return layout.unpack(data)


def block_rows(height: int, block_hash: bytes, checked: Sequence[Checked]) -> Iterator[Row]:
    """Yield every index row of a block as (table, key, value), those of its records' hashes apart."""
    yield Table.ACTIVE, height_key(height), block_hash
    for index, item in enumerate(checked):
        place = Place(height, index).encode()
        yield Table.STATEMENTS, item.statement.id, place
        for named in references(item):
            yield Table.REFERENCES, named + place, bytes([item.statement.kind])
        if isinstance(item.payload, ImageBatch):
            yield from _batch_rows(item.statement, item.payload, place)


def _batch_rows(statement: Statement, payload: ImageBatch, place: bytes) -> Iterator[Row]:
    batch = statement.header.batch
    root = ABSENT if batch is None else batch.records_root
    yield Table.BATCHES, statement.author + root + place, statement.id
    if payload.perceptual is not None:
        yield Table.LOOKS, place, payload.perceptual


def placed_records(checked: Sequence[Checked]) -> tuple[PlacedRecords, ...]:
    """Return the records of a block's batches."""
    return tuple(
        PlacedRecords(index, item.payload.records.packed)
        for index, item in enumerate(checked)
        if isinstance(item.payload, ImageBatch)
    )


def payload_rows(height: int, block_hash: bytes, checked: Sequence[Checked]) -> Iterator[Row]:
    """Yield the rows that only the payloads of batches tell: looks, and the hashes of records one by one."""
    yield from (row for row in block_rows(height, block_hash, checked) if row[0] == Table.LOOKS)
    batches = placed_records(checked)
    for table, column in RUN_TABLES:
        yield from ((LOGICAL_NAMES[table], row, b"") for row in plain_rows(height, batches, column))


def references(item: Checked) -> tuple[bytes, ...]:
    """Return the statement ids that a statement names, each once."""
    payload, batch = item.payload, item.statement.header.batch
    named: tuple[bytes, ...] = ()
    if isinstance(payload, Stage):
        named = payload.inputs
    elif isinstance(payload, Retract):
        named = (payload.target,)
    elif isinstance(payload, (Attestation, ViewGrant)):
        named = (payload.batch,)
    elif isinstance(payload, RoleApproval):
        named = (payload.proposal,)
    elif batch is not None:
        named = batch_references(batch)
    return tuple(dict.fromkeys(named))


def batch_references(batch: BatchHeader) -> tuple[bytes, ...]:
    """Return the stages that a batch names."""
    named = (item for item in (batch.model, batch.clustering, batch.filter) if item != ABSENT)
    return tuple(dict.fromkeys(named))


def write_index(writer: Writer, height: int, block_hash: bytes, checked: Sequence[Checked]) -> None:
    """Add what the indexes say of a connected block."""
    by_table: dict[str, list[tuple[bytes, bytes]]] = {}
    for table, key, value in block_rows(height, block_hash, checked):
        by_table.setdefault(table, []).append((key, value))
    for table, items in by_table.items():
        writer.put_many(table, sorted(items))
    add_block(writer, height, placed_records(checked))


def delete_index(writer: Writer, height: int, block_hash: bytes, checked: Sequence[Checked]) -> None:
    """Remove what the indexes say of the block at the tip; raises StoreError when it is not there."""
    for table, key, _ in block_rows(height, block_hash, checked):
        writer.delete(table, key)
    if placed_records(checked):
        remove_block(writer, height)


class ChainReader:
    """The active chain as it stands in one snapshot of the store."""

    def __init__(self, reader: Reader) -> None:
        """Read through ``reader``, which must stay open."""
        self.reader = reader

    def tip_hash(self) -> bytes:
        """Return the hash of the snapshot's tip."""
        return self.reader.get(Table.META, TIP_KEY) or b""

    def block_hash(self, height: int) -> bytes | None:
        """Return the active block hash at a height."""
        return self.reader.get(Table.ACTIVE, height_key(height))

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        """Return a stored header with its seal."""
        row = self.reader.get(Table.HEADERS, block_hash)
        return None if row is None else SealedHeader.decode(row[:-1])

    def sealed_rows(self, hashes: Iterable[bytes]) -> Iterator[bytes]:
        """Yield encoded headers with their seals, up to the first that is not stored."""
        for block_hash in hashes:
            row = self.reader.get(Table.HEADERS, block_hash)
            if row is None:
                return
            yield row[:-1]

    def body(self, block_hash: bytes) -> Body | None:
        """Return a stored body; None when it is not here (or pruned)."""
        data = self.reader.get(Table.BODIES, block_hash)
        return None if data is None else Body.decode(data, max_bytes=BODY_DECODE_BYTES_MAX)

    def place_of(self, statement: bytes) -> Place | None:
        """Return where a statement id stands on the active chain."""
        data = self.reader.get(Table.STATEMENTS, statement)
        return None if data is None else Place.decode(data)

    def statements_at(self, height: int) -> tuple[Statement | None, ...]:
        """Return the statements of a block in order, None for each whose payload was pruned; empty without a body."""
        block_hash = self.block_hash(height)
        if block_hash is None:
            return ()
        body = self.body(block_hash)
        if body is not None:
            return body.statements
        row = self.reader.get(Table.PRUNED, block_hash)
        return () if row is None else tuple(stub.statement() for stub in PrunedBody.decode(row).stubs)

    def statement_at(self, place: Place) -> Statement | None:
        """Return the statement at a place, payload included; None when that was pruned."""
        statements = self.statements_at(place.height)
        return statements[place.index] if place.index < len(statements) else None

    def statement(self, statement: bytes) -> tuple[Place, Statement] | None:
        """Return a confirmed statement by id."""
        place = self.place_of(statement)
        found = None if place is None else self.statement_at(place)
        return None if place is None or found is None else (place, found)

    def batches_of(self, author: bytes, records_root: bytes) -> tuple[bytes, ...]:
        """Return the ids of an author's batches with this records root, oldest first."""
        prefix = author + records_root
        rows = self.reader.scan(Table.BATCHES, start=prefix, stop=prefix_stop(prefix))
        return tuple(value for _, value in rows)

    def claims_of_pixels(self, pixel_hash: bytes, *, limit: int) -> tuple[RecordPlace, ...]:
        """Return every registration of a pixel hash, oldest first."""
        return self._record_places(Table.PIXEL_RUNS, pixel_hash, limit)

    def claims_of_file(self, file_hash: bytes, *, limit: int) -> tuple[RecordPlace, ...]:
        """Return every registration of a file hash, oldest first."""
        return self._record_places(Table.FILE_RUNS, file_hash, limit)

    def _record_places(self, table: Table, digest: bytes, limit: int) -> tuple[RecordPlace, ...]:
        return tuple(RecordPlace.decode(place) for place in find(self.reader, table, digest, limit=limit))

    def looks(self) -> Iterator[tuple[Place, bytes]]:
        """Yield (place, perceptual column) of every batch that has one, oldest first."""
        return ((Place.decode(key), column) for key, column in self.reader.scan(Table.LOOKS))

    def naming(self, statement: bytes, kind: Kind) -> Iterator[Place]:
        """Yield the places of the statements of a kind that name a statement, oldest first."""
        rows = self.reader.scan(Table.REFERENCES, start=statement, stop=prefix_stop(statement))
        return (Place.decode(key[_HASH_BYTES:]) for key, value in rows if value[0] == kind)
