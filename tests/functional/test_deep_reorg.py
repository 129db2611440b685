"""A reorganisation of 2,000 blocks on disk: as one transaction, in bounded memory, and no statement is lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from facechain.consensus.block import Block, seal_header
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node import stored_block
from facechain.node.chain_runner import ChainRunner
from facechain.node.chain_update import ChainUpdate
from facechain.node.chainstate import ChainState
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from facechain.node.store.port import Store
from facechain.node.store.schema import BUCKETS, SCHEMA_KEY, Table
from facechain.node.stored_block import StoredBlock, whole
from support.chain import PRODUCER, SUBMITTER, ChainBuilder, make_genesis, solve
from support.long_chain import LongChain, connect_all

GENESIS = make_genesis()
NOW_MS = 2 * GENESIS.time_ms
DEPTH = 2_000
STATEMENT_EVERY = 20
GROUP = 250


def nobody(_block: Block) -> None:
    """Relay to nobody."""


def statements() -> list[Statement]:
    builder = ChainBuilder(GENESIS)
    return [
        builder.statement(SUBMITTER, Cancel(note=str(number)), sequence=number)
        for number in range(DEPTH // STATEMENT_EVERY)
    ]


def mine_with(chain: LongChain, waiting: Sequence[Statement]) -> list[Block]:
    """Mine `DEPTH` blocks, every twentieth with one of the statements."""
    queue = list(waiting)
    return [chain.mine([queue.pop(0)] if number % STATEMENT_EVERY == 0 else ()) for number in range(DEPTH)]


async def add(runner: ChainRunner, blocks: Sequence[Block]) -> ChainUpdate:
    """Hand blocks over in groups; return the last move."""
    update = ChainUpdate()
    for start in range(0, len(blocks), GROUP):
        update, refused = await runner.add_blocks(blocks[start : start + GROUP], nobody)
        assert not refused
    return update


def contents(store: Store) -> dict[str, dict[bytes, bytes]]:
    """Return all rows but kept blocks and promises."""
    left_out = {Table.HEADERS, Table.BODIES, Table.MEMPOOL}
    with store.read() as reader:
        rows = {bucket: dict(reader.scan(bucket)) for bucket in BUCKETS if bucket not in left_out}
    rows[Table.META].pop(SCHEMA_KEY, None)
    return rows


async def test_two_thousand_blocks_go_off_and_their_statements_are_sealed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = statements()
    monkeypatch.setattr(stored_block, "HELD_BODY_BYTES", sum(item.size_bytes for item in made[:30]))
    trunk = LongChain(GENESIS)
    common = list(trunk.mine_many(3))
    losing_end, winning_end = trunk.fork(), trunk.fork()
    losing = mine_with(losing_end, made)
    winning = list(winning_end.mine_many(DEPTH + 1, delay_ms=GENESIS.params.spacing_ms + 1))
    told: list[ChainUpdate] = []
    with LmdbStore.open(tmp_path) as store:
        async with ChainRunner.open(ChainState.open(store, GENESIS), lambda: NOW_MS) as runner:
            runner.subscribe(lambda update, _drops: told.append(update))
            assert all(answer.queued for answer in await runner.submit(made[:10]))
            await add(runner, [*common, *losing])
            assert not len(runner.mempool.pool)
            assert not (await add(runner, winning[:-1])).changed
            assert runner.chain.tree.tip.hash == losing[-1].hash
            update = await add(runner, winning[-1:])
            assert told[-1] == update
            assert [block.hash for block in update.disconnected] == [block.hash for block in losing]
            assert [block.hash for block in update.connected] == [block.hash for block in winning]
            held = list(whole(update.disconnected))
            assert 0 < sum(len(block.body.statements) for block in held) <= 30
            left = random.Random(1).sample(
                [item for item in update.disconnected if isinstance(item, StoredBlock)], 60
            )
            by_hash = {block.hash: block for block in losing}
            assert [item.body for item in left] == [by_hash[item.hash].body for item in left]
            assert any(item.body.statements for item in left)
            block = await mine_next(runner)
            assert block.body.statements == tuple(made), "all statements came back, in order"
            await add(runner, [block])
            assert not len(runner.mempool.pool)
        again = ChainState.open(store, GENESIS)
        assert again.tree.tip.hash == block.hash
        clean = MemoryStore.open()
        connect_all(ChainState.open(clean, GENESIS), [*common, *winning, block], now_ms=NOW_MS)
        assert contents(store) == contents(clean)


async def mine_next(runner: ChainRunner) -> Block:
    template = await runner.template(PRODUCER.public, NOW_MS)
    assert not template.dropped
    return Block(seal_header(PRODUCER, GENESIS.network_id, solve(template.header)), template.body)
