"""A node's store on disk with a bit of everything in it: batches, stages, a side branch, a checkpoint, promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facechain.consensus.block import Block
from facechain.consensus.payloads import Checkpoint, Retract
from facechain.consensus.statement import Statement
from facechain.node.chain_runner import open_tip
from facechain.node.chainstate import ChainState
from facechain.node.mempool import DurableMempool
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.schema import BUCKETS, Table
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder, make_genesis, make_stage

NOW_MS = 2 * make_genesis().time_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChain:
    """What was put into the store of a data directory."""

    builder: ChainBuilder
    active: list[Block]
    """From block 1 to the tip."""
    side: list[Block]
    promised: Statement


def busy_block(builder: ChainBuilder, name: str, *, parent: Block | None = None, records: int = 3) -> Block:
    """Mine a block with a stage and a batch."""
    stage = builder.statement(SUBMITTER, make_stage(name=name), parent=parent)
    if parent is not None:
        return builder.mine([stage], parent=parent)
    return builder.mine([stage, builder.batch(PRODUCER, records, name=name)])


def fill_store(folder: Path, *, blocks: int = 8, records: int = 3) -> StoredChain:
    """Make a store in `folder` with `blocks` active blocks, a shorter side branch and a statement in waiting."""
    builder = ChainBuilder(make_genesis())
    active = [busy_block(builder, f"common {number}", records=records) for number in range(3)]
    vouched = active[0]
    named = vouched.body.statements[0]
    active.append(
        builder.mine(
            [
                builder.statement(ADMIN, Checkpoint(height=1, block_hash=vouched.hash)),
                builder.statement(ADMIN, Retract(target=named.id, record=None, reason="a test")),
            ]
        )
    )
    side = [busy_block(builder, "side 0", parent=active[-1])]
    active.append(busy_block(builder, "long 0", parent=active[-1]))
    while len(active) < blocks:
        active.append(
            builder.mine(
                [builder.statement(SUBMITTER, make_stage(name=f"long {len(active)}"), parent=active[-1])],
                parent=active[-1],
            )
        )
    with LmdbStore.open(folder) as store:
        chain = ChainState.open(store, builder.genesis)
        for block in [*active[:4], *side, *active[4:]]:
            chain.accept_block(block, now_ms=NOW_MS)
        assert chain.tree.tip.hash == active[-1].hash
        pool = DurableMempool.open(store, chain.params, chain.network_id, lambda: open_tip(chain))
        sequence = builder.view().next_sequence(SUBMITTER.public)
        promised = builder.statement(SUBMITTER, make_stage(name="promised"), sequence=sequence)
        (answer,) = pool.submit([promised])
        assert answer.queued, answer.refusal
    return StoredChain(builder=builder, active=active, side=side, promised=promised)


def stored_rows(folder: Path) -> dict[str, dict[bytes, bytes]]:
    """Return every row of a store."""
    with LmdbStore.open(folder) as store, store.read() as reader:
        return {bucket: dict(reader.scan(bucket)) for bucket in BUCKETS if bucket != Table.TESTS}
