"""`db snapshot`: the chain up to one block as a file, and a store made from such a file without replaying it.

Owns both directions. The file is bound to a block hash and its state root. Import takes it only when every
header links, has its work and its seal by a key that held the producer role, every body is the one its header
commits to, the state's entries have the state root of the last header, and that header is the one the operator
named. Whether that header is the network's, the operator knows; `db verify --level 4` replays the rest.
A store made so has no undo data at or below the snapshot: it follows no reorganisation from below it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from ...consensus.apply import genesis_block
from ...consensus.block import Block, Body, SealedHeader
from ...consensus.chain import BlockTree
from ...consensus.encoding import as_array, as_bytes, pack, unpack
from ...consensus.errors import DecodeError
from ...consensus.kinds import SEALING_ROLE
from ...consensus.kv import Bucket
from ...consensus.params import Genesis
from ...consensus.state import TREES, StateView, state_root, sub_roots
from ...consensus.validation import check_body, check_header, check_seal
from ..block_store import write_parts
from ..chain_index import BODY_DECODE_BYTES_MAX, TIP_KEY, write_index
from ..meta_keys import BASE_KEY, CHECKPOINT_KEY, GENESIS_KEY, NETWORK_KEY, PRUNED_KEY
from ..store.lmdb_file import DATA_NAME
from ..store.lmdb_store import LmdbStore
from ..store.lock import InstanceLock
from ..store.port import Writer
from ..store.schema import Table, height_key
from .damage import MaintenanceRefused, SnapshotDamage, StoreDamage, at, check_same
from .offline import ReadOnlyStore
from .progress import STEP_ROWS, Progress, silent
from .replace import new_file, sync_file
from .snapshot_file import Frame, SnapshotWriter, read_frames
from .verify_index import decoded
from .verify_state import rebuild_trees

_TARGET: Final = struct.Struct(">Q32s32s")
_HISTORY_SIZE: Final = b"size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a snapshot is bound to."""

    network: bytes
    height: int
    block_hash: bytes
    state_root: bytes
    size_bytes: int
    chainwork: int = 0


def export_snapshot(folder: Path, out: Path, progress: Progress = silent) -> Snapshot:
    """Write the chain of the store in `folder` as of this moment to the new file `out`.

    Works beside a running node. Raises MaintenanceRefused (no store, pruned, `out` exists) or StoreError.
    """
    partial = out.with_name(out.name + ".partial")
    if out.exists():
        raise MaintenanceRefused(f"{out}: expected a new file, got one that exists; choose another name")
    try:
        with ReadOnlyStore.open(folder) as store, store.read() as reader, partial.open("wb") as file:
            if reader.get(Table.META, PRUNED_KEY):
                raise MaintenanceRefused(
                    "snapshot: expected all bodies, got a pruned store; use another node"
                )
            height = reader.count(Table.ACTIVE) - 1
            hashes = [value for _, value in reader.scan(Table.ACTIVE)]
            rows = [reader.get(Table.HEADERS, block_hash) or b"" for block_hash in hashes]
            target = SealedHeader.decode(rows[-1][:-1]).header
            genesis = reader.get(Table.META, GENESIS_KEY) or b""
            writer = SnapshotWriter(file)
            writer.put(Frame.GENESIS, genesis)
            writer.put(Frame.TARGET, _TARGET.pack(height, target.hash, target.state_root))
            for row in rows[1:]:
                writer.put(Frame.HEADER, row[:-1])
            for bucket in TREES:
                for key, value in reader.scan(bucket):
                    writer.put(Frame.ENTRY, pack([bucket.value, key, value]))
            for number, block_hash in enumerate(hashes[1:], start=1):
                body = reader.get(Table.BODIES, block_hash)
                if body is None:
                    raise StoreDamage(f"body of block {block_hash.hex()}", expected="it", got="nothing")
                writer.put(Frame.BODY, body)
                if number % STEP_ROWS == 0:
                    progress("bodies", number, height)
            writer.end()
        progress("bodies", height, height)
        sync_file(partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return Snapshot(
        network=Genesis.decode(genesis).network_id,
        height=height,
        block_hash=target.hash,
        state_root=target.state_root,
        size_bytes=out.stat().st_size,
    )


@dataclass(slots=True)
class _Import:
    """What was read of a snapshot before its bodies."""

    genesis: Genesis
    tree: BlockTree
    height: int
    target: bytes
    root: bytes
    headers: list[SealedHeader]
    entries: dict[Bucket, dict[bytes, bytes]] = field(
        default_factory=lambda: {bucket: {} for bucket in TREES}
    )


def import_snapshot(
    folder: Path, file: Path, *, expected: bytes, network: bytes | None = None, progress: Progress = silent
) -> Snapshot:
    """Make the store in `folder`, which must have none, from a snapshot of block `expected`.

    `network`: the id that the data directory's genesis file has. Raises StoreLocked, SnapshotDamage (the
    file is not what it claims), MaintenanceRefused (there is a store, another block or network) or StoreError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with InstanceLock.acquire(folder):
        if (folder / DATA_NAME).exists() and (folder / DATA_NAME).stat().st_size:
            raise MaintenanceRefused(f"{folder}: expected no store, got one; choose another --data-dir")
        with file.open("rb") as source, new_file(folder) as work:
            frames = read_frames(source)
            with _named(file):
                begun = _begin(frames, expected, network)
                with LmdbStore.open(work) as store:
                    _fill(store, begun, frames, progress)
    return Snapshot(
        network=begun.genesis.network_id,
        height=begun.height,
        block_hash=begun.target,
        state_root=begun.root,
        size_bytes=file.stat().st_size,
        chainwork=begun.tree.nodes[begun.target].chainwork,
    )


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turn whatever does not hold inside into SnapshotDamage of the file."""
    try:
        with at(str(file)):
            try:
                yield
            except DecodeError as error:
                raise SnapshotDamage(
                    f"{file}: {error.what}", expected=str(error.expected), got=str(error.got)
                ) from error
    except SnapshotDamage:
        raise
    except StoreDamage as damage:
        place = damage.place if damage.place == str(file) else f"{file}: {damage.place}"
        raise SnapshotDamage(place, expected=damage.expected, got=damage.got) from damage


def _begin(frames: Iterator[tuple[Frame, bytes]], expected: bytes, network: bytes | None) -> _Import:
    genesis = Genesis.decode(_take(frames, Frame.GENESIS))
    if network is not None and genesis.network_id != network:
        raise MaintenanceRefused(
            f"snapshot: expected network {network.hex()}, got {genesis.network_id.hex()}; check --data-dir"
        )
    bound = _take(frames, Frame.TARGET)
    if len(bound) != _TARGET.size:
        raise DecodeError("snapshot", expected=f"{_TARGET.size} bytes of a target", got=f"{len(bound)} bytes")
    height, target, root = _TARGET.unpack(bound)
    if target != expected:
        raise MaintenanceRefused(f"snapshot: expected block {expected.hex()}, got {target.hex()}")
    sealed = genesis_block(genesis)[0].sealed
    return _Import(genesis, BlockTree(sealed, genesis.params), height, target, root, [sealed])


def _take(frames: Iterator[tuple[Frame, bytes]], kind: Frame) -> bytes:
    found, content = next(frames, (None, b""))
    if found is not kind:
        raise DecodeError("snapshot", expected=f"a frame of kind {kind.name.lower()}", got=str(found))
    return content


def _fill(
    store: LmdbStore, begun: _Import, frames: Iterator[tuple[Frame, bytes]], progress: Progress
) -> None:
    for _ in range(begun.height):
        _add_header(begun, SealedHeader.decode(_take(frames, Frame.HEADER)))
    check_same("hash of the last header", begun.target, begun.headers[-1].hash)
    check_same("state root of the last header", begun.root, begun.headers[-1].header.state_root)
    body = b""
    for kind, content in frames:
        if kind is not Frame.ENTRY:
            body = content if kind is Frame.BODY else b""
            break
        _add_entry(begun, content)
    store.transact(lambda writer: _write_state(writer, begun))
    _check_sealers(store, begun)
    bodies = _bodies(body, frames)
    for start in range(1, begun.height + 1, STEP_ROWS):
        wanted = min(STEP_ROWS, begun.height + 1 - start)
        group = list(islice(bodies, wanted))
        if len(group) != wanted:
            raise DecodeError("snapshot", expected=f"{begun.height} bodies", got=f"{start + len(group) - 1}")
        blocks = [_checked_block(begun, start + number, data) for number, data in enumerate(group)]
        store.transact(lambda writer, blocks=blocks: _write_blocks(writer, blocks))  # type: ignore[misc]
        progress("bodies", start + len(group) - 1, begun.height)
    if next(bodies, None) is not None:
        raise DecodeError("snapshot", expected=f"{begun.height} bodies", got="more")


def _bodies(first: bytes, frames: Iterator[tuple[Frame, bytes]]) -> Iterator[bytes]:
    if first:
        yield first
    for kind, content in frames:
        if kind is not Frame.BODY:
            raise DecodeError("snapshot", expected="bodies up to the end", got=kind.name.lower())
        yield content


def _add_header(begun: _Import, sealed: SealedHeader) -> None:
    parent = begun.tree.get(sealed.header.previous)
    if parent is None or parent.hash != begun.headers[-1].hash:
        raise DecodeError("header", expected="one that follows the one before", got=sealed.hash.hex())
    check_header(sealed.header, begun.tree.context(parent), begun.genesis.params)
    check_seal(sealed, begun.genesis.network_id)
    begun.tree.restore(sealed)
    begun.headers.append(sealed)


def _add_entry(begun: _Import, content: bytes) -> None:
    name, key, value = as_array(unpack(content, max_bytes=len(content)), "state entry", 3)
    buckets = {bucket.value: bucket for bucket in TREES}
    if not isinstance(name, str) or name not in buckets:
        raise DecodeError("state entry", expected="the name of a mapped bucket", got=repr(name)[:40])
    begun.entries[buckets[name]][as_bytes(key, "key")] = as_bytes(value, "value")


def _write_state(writer: Writer, begun: _Import) -> None:
    """Write entries, rebuilt trees, headers' frame and what META says; the state root must come out."""
    for bucket, entries in begun.entries.items():
        writer.put_many(bucket, sorted(entries.items()))
    ancestors = [sealed.hash for sealed in begun.headers[:-1]]
    for tree, nodes in rebuild_trees(begun.entries, ancestors).items():
        writer.put_many(tree, sorted(nodes.rows.items()))
    size = len(ancestors).to_bytes(8, "big")
    if ancestors:
        writer.put(Bucket.META_STATE, _HISTORY_SIZE, size)
    check_same("state root of the entries", begun.root, state_root(sub_roots(writer)))
    genesis, delta = genesis_block(begun.genesis)
    write_parts(writer, genesis)
    if not ancestors:
        writer.put(Table.UNDO, genesis.hash, delta.encode())
    else:
        writer.put(Table.META, BASE_KEY, size)
    writer.put(Table.ACTIVE, height_key(0), genesis.hash)
    writer.put(Table.META, NETWORK_KEY, begun.genesis.network_id)
    writer.put(Table.META, GENESIS_KEY, begun.genesis.encode())
    writer.put(Table.META, TIP_KEY, begun.target)
    accepted = StateView(writer).checkpoint()
    if accepted is not None:
        writer.put(Table.META, CHECKPOINT_KEY, accepted[0].to_bytes(8, "big"))


def _check_sealers(store: LmdbStore, begun: _Import) -> None:
    """Every sealing key held its role at its height: role entries keep all intervals."""
    with store.read() as reader:
        state = StateView(reader)
        for sealed in begun.headers[1:]:
            producer = sealed.header.producer
            if not state.role(SEALING_ROLE, producer).holds_at(sealed.height):
                raise DecodeError(
                    f"header at height {sealed.height}",
                    expected=f"a seal by a {SEALING_ROLE.label}",
                    got=producer.hex(),
                )


def _checked_block(begun: _Import, height: int, data: bytes) -> Block:
    sealed = begun.headers[height]
    body = Body.decode(data, max_bytes=BODY_DECODE_BYTES_MAX)
    parent = begun.headers[height - 1].header
    check_body(sealed.header, body, begun.genesis.params, parent_time_ms=parent.time_ms)
    return Block(sealed, body)


def _write_blocks(writer: Writer, blocks: list[Block]) -> None:
    for block in blocks:
        write_parts(writer, block)
        write_index(writer, block.header.height, block.hash, decoded(block.body))
