"""Levels 3 and 4 of `db verify`: state, trees and undo data against the state roots of the headers.

Level 3 takes a copy of the stored state back block by block with the stored undo data. Every value that the
undo data names is compared, the state root is compared with the header's at every height, and what is left at
the bottom is rebuilt from its entries. Level 4 goes the other way: from block 0 up, computing everything again.
"""

from __future__ import annotations

from ...consensus import history, merkle, sparse
from ...consensus.apply import genesis_block
from ...consensus.block import SealedHeader
from ...consensus.kv import Bucket, Delta
from ...consensus.state import TREES, state_root, sub_roots, tree_key
from ...consensus.validation import connect_block
from ..store.schema import Table
from .damage import StoreDamage, at, check_same, compare_rows
from .progress import STEP_ROWS
from .scratch import ScratchState, scratch_state
from .verify import Job, Level
from .verify_index import read_body

_HISTORY_SIZE = b"size"


class EveryLeaf:
    """A set of leaves with every leaf in it: level 2 has verified all signatures before."""

    def __contains__(self, leaf: object, /) -> bool:
        """Tell that it is."""
        return True

    def get(self, _leaf: bytes, /) -> None:
        """Tell that nothing else of it is known."""


class DictNodes:
    """Tree nodes in memory."""

    def __init__(self) -> None:
        """Start empty."""
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes, /) -> bytes | None:
        """Return a node."""
        return self.rows.get(key)

    def put(self, key: bytes, value: bytes, /) -> None:
        """Keep a node."""
        self.rows[key] = value

    def delete(self, key: bytes, /) -> None:
        """Forget a node."""
        self.rows.pop(key, None)


def check_state(job: Job) -> None:
    """Take the state back to the base with the undo data, and rebuild what is left from its entries."""
    base, tip = job.report.base_height, job.report.height
    with scratch_state() as state:
        for bucket in Bucket:
            for key, value in job.reader.scan(bucket):
                state.put(bucket, key, value)
        size = 0
        for height in range(tip, base, -1):
            block_hash = job.active[height]
            with at(f"state after block {block_hash.hex()} at height {height}"):
                _check_root(job, state, block_hash)
            with at(f"undo data of block {block_hash.hex()} at height {height}"):
                undo = job.reader.get(Table.UNDO, block_hash) or b""
                state.apply(Delta.decode(undo).inverse())
            size += len(undo)
            if height % STEP_ROWS == 0:
                job.progress("undo data", tip - height, tip - base)
        job.progress("undo data", tip - base, tip - base)
        _check_base(job, state, base)
    has_genesis_undo = base == 0
    expected, got = tip - base + has_genesis_undo, job.reader.count(Table.UNDO)
    if expected != got:
        raise StoreDamage("table 'undo'", expected=f"{expected} rows", got=f"{got} rows")
    what = "undo data: taken back block by block, every value and every state root on the way"
    job.report.note(Level.INDEXES, what, got, size)
    rows = sum(job.reader.count(bucket) for bucket in Bucket)
    job.report.note(Level.INDEXES, "state: every entry and tree node, by undo data and state roots", rows)


def _check_root(job: Job, state: ScratchState, block_hash: bytes) -> None:
    check_same("state root", _header_root(job, block_hash), state_root(sub_roots(state)))


def _header_root(job: Job, block_hash: bytes) -> bytes:
    row = job.reader.get(Table.HEADERS, block_hash) or b""
    return SealedHeader.decode(row[:-1]).header.state_root


def _check_base(job: Job, state: ScratchState, base: int) -> None:
    """Rebuild all trees of the lowest state from its entries; at block 0 the genesis says what it is."""
    place = f"state at height {base}"
    if base == 0:
        delta = genesis_block(job.genesis)[1]
        check_same("undo data of block 0", delta.encode(), job.reader.get(Table.UNDO, job.active[0]))
        with at(place):
            state.apply(delta.inverse())
        for bucket in Bucket:
            for key, _ in state.rows(bucket):
                raise StoreDamage(f"{place}, {bucket} {key.hex()}", expected="nothing", got="a row")
        return
    with at(place):
        rebuilt = rebuild_trees({bucket: dict(state.rows(bucket)) for bucket in TREES}, job.active[:base])
        check_same(
            f"{place}: size of history", base.to_bytes(8, "big"), state.get(Bucket.META_STATE, _HISTORY_SIZE)
        )
        for bucket, nodes in rebuilt.items():
            compare_rows(f"{place}, {bucket}", sorted(nodes.rows.items()), state.rows(bucket))
        _check_root(job, state, job.active[base])


def rebuild_trees(
    entries: dict[Bucket, dict[bytes, bytes]], ancestors: list[bytes]
) -> dict[Bucket, DictNodes]:
    """Return the nodes of all trees over a state's entries and over the hashes of its ancestors."""
    nodes = {tree: DictNodes() for tree in (*TREES.values(), Bucket.HISTORY)}
    for bucket, tree in TREES.items():
        sparse.update(nodes[tree], {tree_key(key): value for key, value in entries[bucket].items()})
    for size, block_hash in enumerate(ancestors):
        history.append(nodes[Bucket.HISTORY], size, merkle.leaf_hash(block_hash))
    return nodes


def replay_state(job: Job) -> None:
    """Connect every block again, from block 0 up, and compare undo data, state roots and the last state."""
    genesis, tip = job.genesis, job.report.height
    with scratch_state() as state:
        state.apply(genesis_block(genesis)[1])
        for height in range(1, tip + 1):
            block_hash = job.active[height]
            row = job.reader.get(Table.HEADERS, block_hash) or b""
            header = SealedHeader.decode(row[:-1]).header
            body = read_body(job.reader, block_hash)
            with at(f"block {block_hash.hex()} at height {height}"):
                delta, _ = connect_block(
                    state, header, body, genesis.params, genesis.network_id, verified=EveryLeaf()
                )
            if height > job.report.base_height:
                stored = job.reader.get(Table.UNDO, block_hash)
                check_same(f"undo data of block {block_hash.hex()}", delta.encode(), stored)
            state.apply(delta)
            if height % STEP_ROWS == 0:
                job.progress("state", height, tip)
        job.progress("state", tip, tip)
        for bucket in Bucket:
            compare_rows(f"state, {bucket}", state.rows(bucket), job.reader.scan(bucket))
    rows = sum(job.reader.count(bucket) for bucket in Bucket)
    job.report.note(Level.STATE, "blocks: connected again from block 0, undo data compared", tip)
    job.report.note(Level.STATE, "state: recomputed, compared byte for byte in both directions", rows)
