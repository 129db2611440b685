"""`db rollback`: take the active chain back to a height; the node fetches what is above again, or refuses it.

Owns the transactions. Each takes a group of blocks off the tip, keeps their statements among the acknowledged
ones, and forgets headers, bodies and undo data above the new tip. A crash between two groups leaves a whole
chain with a tip in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...consensus.block import SealedHeader
from ...consensus.state import StateView
from ..block_store import stored_block, write_disconnected
from ..chain_index import HEADER_FLAG_INVALID, ChainReader
from ..chainstate import GROUP_BLOCKS_MAX
from ..meta_keys import BASE_KEY, CHECKPOINT_KEY, PRUNED_KEY
from ..store.lmdb_store import LmdbStore
from ..store.port import Reader, Store, Writer
from ..store.schema import Table, height_key
from .damage import MaintenanceRefused
from .offline import require_store
from .progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What was taken back."""

    height: int
    tip: bytes
    blocks: int
    statements: int
    """Statements that are in the mempool's rows again."""


def roll_back(
    folder: Path, height: int, *, refuse: bool = False, force: bool = False, progress: Progress = silent
) -> Rollback:
    """Make block `height` the tip of the store in `folder`.

    `refuse`: keep the header of the block above, marked as refused, so that the node does not go there again.
    `force`: go below a checkpoint that was accepted. Raises MaintenanceRefused or StoreError.
    """
    require_store(folder)
    with LmdbStore.open(folder) as store:
        return roll_back_store(store, height, refuse=refuse, force=force, progress=progress)


def roll_back_store(
    store: Store, height: int, *, refuse: bool = False, force: bool = False, progress: Progress = silent
) -> Rollback:
    """See :func:`roll_back`; on a store that is open."""
    with store.read() as reader:
        top = reader.count(Table.ACTIVE) - 1
        _check_height(reader, height, top, force=force)
        above = list(_off_chain(reader, height))
    store.transact(lambda writer: _forget(writer, above))
    statements = 0
    current = top
    while current > height:
        lowest = max(height, current - GROUP_BLOCKS_MAX)
        statements += store.transact(_take_back(current, lowest, last=height, refuse=refuse))
        current = lowest
        progress("blocks", top - current, top - height)
    if force:
        store.transact(_lower_checkpoint)
    with store.read() as reader:
        tip = ChainReader(reader).tip_hash()
    return Rollback(height=height, tip=tip, blocks=top - height, statements=statements)


def _off_chain(reader: Reader, height: int) -> Iterator[bytes]:
    """Yield blocks above a height that are off the chain; a refusal of the block right above it stays."""
    for key, row in reader.scan(Table.HEADERS):
        sealed = SealedHeader.decode(row[:-1])
        is_refusal = row[-1] == HEADER_FLAG_INVALID and sealed.height == height + 1
        if (
            sealed.height > height
            and not is_refusal
            and reader.get(Table.ACTIVE, height_key(sealed.height)) != key
        ):
            yield key


def _check_height(reader: Reader, height: int, top: int, *, force: bool) -> None:
    if not 0 <= height <= top:
        raise MaintenanceRefused(f"--to: expected a height from 0 to {top}, got {height}")
    lowest = max(
        int.from_bytes(reader.get(Table.META, PRUNED_KEY) or b"", "big") - 1,
        int.from_bytes(reader.get(Table.META, BASE_KEY) or b"", "big"),
    )
    if height < lowest:
        raise MaintenanceRefused(
            f"--to: expected {lowest} or above, since what it takes to go further back is not in this store, "
            f"got {height}; remove the store and sync again"
        )
    checkpoint = int.from_bytes(reader.get(Table.META, CHECKPOINT_KEY) or b"", "big")
    if height < checkpoint and not force:
        raise MaintenanceRefused(
            f"--to: expected the accepted checkpoint {checkpoint} or above, got {height}; add --force if you mean it"
        )


def _take_back(current: int, lowest: int, *, last: int, refuse: bool) -> Callable[[Writer], int]:
    def change(writer: Writer) -> int:
        statements = 0
        for height in range(current, lowest, -1):
            block = stored_block(writer, writer.get(Table.ACTIVE, height_key(height)) or b"")
            write_disconnected(writer, block)
            for statement in block.body.statements:
                writer.put(Table.MEMPOOL, statement.leaf, statement.encode())
            statements += len(block.body.statements)
            _forget(writer, (block.hash,))
            if refuse and height == last + 1:
                row = block.sealed.encode() + bytes([HEADER_FLAG_INVALID])
                writer.put(Table.HEADERS, block.hash, row)
        return statements

    return change


def _forget(writer: Writer, hashes: Iterable[bytes]) -> None:
    for block_hash in hashes:
        for table in (Table.HEADERS, Table.BODIES):
            writer.delete(table, block_hash)


def _lower_checkpoint(writer: Writer) -> None:
    accepted = StateView(writer).checkpoint()
    if accepted is None:
        writer.delete(Table.META, CHECKPOINT_KEY)
    else:
        writer.put(Table.META, CHECKPOINT_KEY, accepted[0].to_bytes(8, "big"))
