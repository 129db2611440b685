"""`db reindex`: build state, undo data and indexes anew from the stored headers and bodies.

Owns the job. It is all or nothing: a new data file is made beside the old one, every block goes through every
rule again, and one rename puts the new file in place. What does not read back, or breaks a rule, is left out
and named; the node fetches it again from its peers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ...consensus.block import Block, Body, SealedHeader
from ...consensus.errors import ConsensusError
from ...consensus.params import Genesis
from ...consensus.statement import Statement
from ...consensus.validation import check_payload_hash
from ..chain_index import BODY_DECODE_BYTES_MAX, HEADER_FLAG_BODY, HEADER_FLAG_INVALID, TIP_KEY
from ..chainstate import ChainState
from ..meta_keys import CHECKPOINT_KEY, GENESIS_KEY, PRUNED_KEY
from ..store.errors import StoreCorrupt
from ..store.lmdb_file import DATA_NAME, check_file, find_damage
from ..store.lmdb_store import LmdbStore
from ..store.port import Reader, Writer
from ..store.schema import OLDEST_SCHEMA, Table
from .damage import MaintenanceRefused, at
from .offline import ReadOnlyStore, alone
from .progress import STEP_ROWS, Progress, silent
from .replace import new_file

NAMED_MAX: Final = 20
"""Things left out that are named one by one."""


@dataclass(slots=True)
class Reindexed:
    """What the new file holds, and what it lacks."""

    height: int = 0
    tip: bytes = b""
    side_blocks: int = 0
    left_out: int = 0
    named: list[str] = field(default_factory=list)
    """Why, for the first things that were left out."""

    def leave_out(self, what: str, error: object) -> None:
        """Note something that was not taken over."""
        self.left_out += 1
        if len(self.named) < NAMED_MAX:
            self.named.append(f"{what}: {error}")


@dataclass(frozen=True, slots=True)
class _Stored:
    """The headers of the old file: the way to its tip, other blocks, and refused ones."""

    path: list[SealedHeader]
    side: list[SealedHeader]
    refused: list[SealedHeader]


def reindex(folder: Path, progress: Progress = silent) -> Reindexed:
    """Rebuild the store in `folder`.

    Raises StoreLocked, StoreCorrupt (pages that cannot be read), MaintenanceRefused (no store, pruned, no
    room) or StoreError; the old file is then as it was.
    """
    with alone(folder):
        check_file(folder)
        if problem := find_damage(folder):
            raise StoreCorrupt(folder / DATA_NAME, expected="sound pages", got=problem)
        with (
            new_file(folder) as work,
            ReadOnlyStore.open(folder, oldest=OLDEST_SCHEMA) as source,
            source.read() as reader,
            LmdbStore.open(work) as target,
        ):
            return _rebuild(reader, target, progress)


def _rebuild(reader: Reader, target: LmdbStore, progress: Progress) -> Reindexed:
    if reader.get(Table.META, PRUNED_KEY):
        raise MaintenanceRefused("reindex: expected all bodies, got a pruned store; remove it and sync again")
    with at("meta 'genesis'"):
        genesis = Genesis.decode(reader.get(Table.META, GENESIS_KEY) or b"")
    done = Reindexed()
    stored = _read_headers(reader, done)
    chain = ChainState.open(target, genesis)
    total = len(stored.path)
    for number, sealed in enumerate(stored.path, start=1):
        _feed(chain, reader, sealed, done)
        if number % STEP_ROWS == 0:
            _advance(chain, done)
            progress("blocks", number, total)
    _advance(chain, done)
    progress("blocks", total, total)
    # Blocks off the chain are kept, not followed: the node decides that under its own limits.
    for sealed in stored.side:
        done.side_blocks += _feed(chain, reader, sealed, done)
    target.transact(chain.flush_pending)
    chain.forget_flushed()
    done.height, done.tip = chain.tree.tip.height, chain.tree.tip.hash
    target.transact(lambda writer: _copy_rest(reader, writer, stored.refused, chain.checkpoint_height, done))
    return done


def _read_headers(reader: Reader, done: Reindexed) -> _Stored:
    headers: dict[bytes, SealedHeader] = {}
    refused = []
    for key, row in reader.scan(Table.HEADERS):
        try:
            sealed = SealedHeader.decode(row[:-1])
        except ConsensusError as error:
            done.leave_out(f"header row {key.hex()}", error)
            continue
        if sealed.hash != key:
            done.leave_out(f"header row {key.hex()}", f"its hash is {sealed.hash.hex()}")
        elif row[-1] == HEADER_FLAG_INVALID:
            refused.append(sealed)
        elif row[-1] == HEADER_FLAG_BODY:
            headers[key] = sealed
    path: list[SealedHeader] = []
    item = headers.get(reader.get(Table.META, TIP_KEY) or b"")
    while item is not None and item.height > 0:
        path.append(item)
        item = headers.get(item.header.previous)
    path.reverse()
    on_path = {sealed.hash for sealed in path}
    side = [sealed for key, sealed in headers.items() if key not in on_path and sealed.height > 0]
    side.sort(key=lambda sealed: sealed.height)
    if not path or path[0].height != 1:
        # The way to the tip is broken: whatever is sound is fed in order of height.
        path, side = sorted([*path, *side], key=lambda sealed: sealed.height), []
    return _Stored(path, side, refused)


def _feed(chain: ChainState, reader: Reader, sealed: SealedHeader, done: Reindexed) -> bool:
    """Hand a block to the new chain; tell whether it was taken."""
    try:
        chain.accept_header(sealed, now_ms=sealed.header.time_ms)
        data = reader.get(Table.BODIES, sealed.hash) or b""
        block = Block(sealed, Body.decode(data, max_bytes=BODY_DECODE_BYTES_MAX))
        chain.check_new_body(block)
    except ConsensusError as error:
        done.leave_out(f"block {sealed.hash.hex()} at height {sealed.height}", error)
        return False
    chain.accept_body(block)
    return True


def _advance(chain: ChainState, done: Reindexed) -> None:
    for block_hash, error in chain.advance().refused:
        done.leave_out(f"block {block_hash.hex()}", error)


def _copy_rest(
    reader: Reader, writer: Writer, refused: list[SealedHeader], checkpoint: int, done: Reindexed
) -> None:
    """Take over what the chain does not say: refused headers, promises, peers and a checkpoint in force."""
    for sealed in refused:
        writer.put(Table.HEADERS, sealed.hash, sealed.encode() + bytes([HEADER_FLAG_INVALID]))
    for leaf, data in reader.scan(Table.MEMPOOL):
        try:
            statement = Statement.decode(data)
            check_payload_hash(statement)
        except ConsensusError as error:
            done.leave_out(f"acknowledged statement {leaf.hex()}", error)
            continue
        writer.put(Table.MEMPOOL, statement.leaf, data)
    for table in (Table.PEERS, Table.BANS):
        writer.put_many(table, reader.scan(table))
    remembered = int.from_bytes(reader.get(Table.META, CHECKPOINT_KEY) or b"", "big")
    if checkpoint < remembered <= done.height:
        writer.put(Table.META, CHECKPOINT_KEY, remembered.to_bytes(8, "big"))
