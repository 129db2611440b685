"""How a block lies in the store: what is written when it is kept, connected or disconnected.

Owns the rows of headers, bodies and undo data. Every function works inside a transaction of the caller;
whether a block is valid was decided before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from ..consensus.apply import Checked
from ..consensus.block import Block, SealedHeader
from ..consensus.errors import ConsensusError
from ..consensus.kv import Delta
from .chain_index import (
    HEADER_FLAG_BODY,
    HEADER_FLAG_INVALID,
    TIP_KEY,
    ChainReader,
    delete_index,
    write_index,
)
from .store.errors import StoreError
from .store.port import Reader, Writer
from .store.schema import Table


class StoreDamaged(StoreError):
    """Something that was written earlier is missing, or does not read back."""

    code = "store-damaged"

    def __init__(self, block_hash: bytes, what: str, got: str = "nothing") -> None:
        """Say what of which block is not as it was written."""
        super().__init__(
            f"{what} of block {block_hash.hex()}: expected it in the store as it was written, got {got}; "
            "restore a backup, or remove the data directory's store and sync again"
        )


def write_connected(writer: Writer, block: Block, delta: Delta, checked: Sequence[Checked]) -> None:
    """Write all that belongs to a block that becomes the tip, but header and body (:func:`write_parts`)."""
    apply_delta(writer, delta)
    writer.put(Table.UNDO, block.hash, delta.encode())
    write_index(writer, block.header.height, block.hash, checked)
    writer.put(Table.META, TIP_KEY, block.hash)


def write_disconnected(writer: Writer, block: Block) -> None:
    """Take back all that :func:`write_connected` wrote but header and body; raises StoreDamaged."""
    undo = writer.get(Table.UNDO, block.hash)
    if undo is None:
        raise StoreDamaged(block.hash, "undo data")
    apply_delta(writer, Delta.decode(undo).inverse())
    checked = [Checked(statement, statement.decode_payload()) for statement in block.body.statements]
    delete_index(writer, block.header.height, block.hash, checked)
    writer.delete(Table.UNDO, block.hash)
    writer.put(Table.META, TIP_KEY, block.header.previous)


def write_parts(writer: Writer, block: Block) -> None:
    """Write header and body of a block that may be connected later."""
    writer.put(Table.HEADERS, block.hash, block.sealed.encode() + bytes([HEADER_FLAG_BODY]))
    writer.put(Table.BODIES, block.hash, block.body.encode())


def write_header(writer: Writer, sealed: SealedHeader) -> None:
    """Write a header whose body is not here, below a block that is kept."""
    writer.put(Table.HEADERS, sealed.hash, sealed.encode() + bytes([0]))


def write_refused(writer: Writer, block_hash: bytes, sealed: SealedHeader | None) -> None:
    """Remember that a block broke a rule, and let go of its body.

    ``sealed`` is None when the header was stored already; a header that is not known at all is left out.
    """
    row = None if sealed is None else sealed.encode()
    if row is None:
        stored = writer.get(Table.HEADERS, block_hash)
        row = None if stored is None else stored[:-1]
    if row is not None:
        writer.put(Table.HEADERS, block_hash, row + bytes([HEADER_FLAG_INVALID]))
    writer.delete(Table.BODIES, block_hash)


def apply_delta(writer: Writer, delta: Delta) -> None:
    """Write the changes of a block to the state."""
    for bucket, changes in groupby(delta, key=attrgetter("bucket")):
        kept: list[tuple[bytes, bytes]] = []
        for change in changes:
            if change.new is None:
                writer.delete(bucket, change.key)
            else:
                kept.append((change.key, change.new))
        writer.put_many(bucket, kept)


def stored_block(reader: Reader, block_hash: bytes) -> Block:
    """Read a whole block back; raises StoreDamaged."""
    chain = ChainReader(reader)
    try:
        sealed, body = chain.sealed_header(block_hash), chain.body(block_hash)
    except ConsensusError as error:
        raise StoreDamaged(block_hash, "header or body", error.diagnostics()) from error
    if sealed is None or body is None:
        raise StoreDamaged(block_hash, "header or body")
    return Block(sealed, body)
