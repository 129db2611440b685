"""`db prune`: drop the records of old batches, and keep headers, state, and who signed what.

Owns the transactions. Each drops the bodies of a group of blocks, keeps the stubs of their statements, and
raises the height below which the node neither serves bodies nor goes back; so a crash leaves a pruned store
that is merely pruned less far. Side branches that leave the chain below that height are forgotten first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ...consensus.block import Body, SealedHeader
from ..block_store import StoreDamaged
from ..chain_index import BODY_DECODE_BYTES_MAX, payload_rows
from ..chainstate import GROUP_BLOCKS_MAX
from ..meta_keys import PRUNED_KEY
from ..pruned_body import PRUNED_ROWS_KEY, PrunedBody, RowSum
from ..store.lmdb_file import DATA_NAME
from ..store.lmdb_store import LmdbStore
from ..store.port import Reader, Store, Writer
from ..store.schema import Table, height_key
from .damage import at
from .offline import alone, require_store
from .progress import Progress, silent
from .replace import compact
from .verify_index import decoded

KEEP_MIN: Final = 1
"""The tip's body always stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What was dropped."""

    height: int
    pruned_below: int
    blocks: int
    dropped_bytes: int
    file_bytes: int = 0


def prune(folder: Path, keep: int, *, shrink: bool = False, progress: Progress = silent) -> Pruning:
    """Keep the bodies of block 0 and of the last `keep` blocks of the store in `folder`.

    `shrink`: then write the file anew without the room that was freed. Raises MaintenanceRefused, StoreError.
    """
    require_store(folder)
    with LmdbStore.open(folder) as store:
        done = prune_store(store, keep, progress=progress)
    if shrink:
        with alone(folder):
            compact(folder)
    return replace(done, file_bytes=(folder / DATA_NAME).stat().st_size)


def prune_store(store: Store, keep: int, *, progress: Progress = silent) -> Pruning:
    """See :func:`prune`; on a store that is open."""
    with store.read() as reader:
        top = reader.count(Table.ACTIVE) - 1
        before = int.from_bytes(reader.get(Table.META, PRUNED_KEY) or b"", "big")
        below = max(before, top - max(keep, KEEP_MIN) + 1, 0)
        dead = _dead_branches(reader, below)
    if below > before:
        store.transact(lambda writer: _forget(writer, dead))
    start = current = max(before, 1)
    dropped = 0
    while current < below:
        group = min(current + GROUP_BLOCKS_MAX, below)
        dropped += store.transact(_drop(current, group))
        current = group
        progress("bodies", current - start, below - start)
    return Pruning(
        height=top,
        pruned_below=below if below > 1 else before,
        blocks=max(below - start, 0),
        dropped_bytes=dropped,
    )


def _drop(start: int, stop: int) -> Callable[[Writer], int]:
    def change(writer: Writer) -> int:
        dropped = 0
        kept_sum = RowSum.decode(writer.get(Table.META, PRUNED_ROWS_KEY))
        for height in range(start, stop):
            block_hash = writer.get(Table.ACTIVE, height_key(height)) or b""
            data = writer.get(Table.BODIES, block_hash)
            if data is None:
                raise StoreDamaged(block_hash, "body")
            with at(f"body of block {block_hash.hex()}"):
                body = Body.decode(data, max_bytes=BODY_DECODE_BYTES_MAX)
                kept_sum = kept_sum.add(payload_rows(height, block_hash, decoded(body)))
            stubs = PrunedBody.of(body).encode()
            writer.put(Table.PRUNED, block_hash, stubs)
            writer.delete(Table.BODIES, block_hash)
            dropped += len(data) - len(stubs)
        writer.put(Table.META, PRUNED_ROWS_KEY, kept_sum.encode())
        writer.put(Table.META, PRUNED_KEY, stop.to_bytes(8, "big"))
        return dropped

    return change


def _dead_branches(reader: Reader, below: int) -> list[bytes]:
    """Return the blocks off the chain that leave it below the last block that can be the fork point."""
    headers = sorted(
        (SealedHeader.decode(row[:-1]) for _, row in reader.scan(Table.HEADERS)), key=lambda item: item.height
    )
    fork_of: dict[bytes, int] = {}
    dead = []
    for sealed in headers:
        if reader.get(Table.ACTIVE, height_key(sealed.height)) == sealed.hash:
            fork_of[sealed.hash] = sealed.height
            continue
        fork = fork_of.get(sealed.header.previous, -1)
        fork_of[sealed.hash] = fork
        if fork < below - 1:
            dead.append(sealed.hash)
    return dead


def _forget(writer: Writer, hashes: list[bytes]) -> None:
    for block_hash in hashes:
        for table in (Table.HEADERS, Table.BODIES):
            writer.delete(table, block_hash)
