"""The miner on a real chain: store on disk, chain state, durable mempool and worker processes together."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from facechain.consensus.block import Block
from facechain.node.chain_runner import ChainRunner
from facechain.node.chainstate import ChainState
from facechain.node.mining.controller import MinerController, MiningSituation, mining_situation
from facechain.node.mining.workers import HashlibWorkers
from facechain.node.service import SystemClock, clock_ms
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.template import Template
from support.deadline import eventually
from support.ledger import PRODUCER, Ledger, ledger_key

AUTHOR = ledger_key(11)
SECONDS = 60.0


class RunnerChain:
    """The miner's chain over the node's own chain runner."""

    def __init__(self, runner: ChainRunner) -> None:
        self.runner = runner

    async def mining_situation(self, producer: bytes) -> MiningSituation:
        chain = self.runner.chain
        with chain.view() as view:
            return mining_situation(
                chain.tree,
                view,
                chain.params,
                producer=producer,
                has_statements=len(self.runner.mempool.pool) > 0,
            )

    async def build_template(self, *, producer: bytes, now_ms: int) -> Template:
        return await self.runner.template(producer, now_ms)

    async def submit_block(self, block: Block) -> None:
        _, refused = await self.runner.add_blocks([block], lambda _: None)
        for _, error in refused:
            raise error


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(authors=(AUTHOR,))


@pytest.fixture
async def runner(ledger: Ledger, tmp_path: Path) -> AsyncIterator[ChainRunner]:
    with LmdbStore.open(tmp_path / "store") as store:
        async with ChainRunner.open(ChainState.open(store, ledger.genesis), clock_ms) as started:
            yield started


async def test_submitted_statements_are_mined_and_leave_the_pool(ledger: Ledger, runner: ChainRunner) -> None:
    statements = [ledger.stage(AUTHOR, sequence) for sequence in range(3)]
    assert all(answer.queued for answer in await runner.submit(statements[:2]))
    async with HashlibWorkers(2) as workers:
        controller = MinerController(
            key=PRODUCER,
            network_id=ledger.network_id,
            params=ledger.params,
            chain=RunnerChain(runner),
            search=workers,
            clock=SystemClock(),
        )
        runner.subscribe(lambda update, _: controller.on_new_tip(update.connected[-1].hash))
        mining = asyncio.create_task(controller.run())
        pool = runner.mempool.pool
        await eventually(lambda: not len(pool) or mining.done(), seconds=SECONDS, what="an empty pool")
        assert (await runner.submit(statements[2:]))[0].queued
        controller.on_statements()
        await eventually(lambda: not len(pool) or mining.done(), seconds=SECONDS, what="an empty pool again")
        mining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mining
    blocks = [runner.chain.block(node.hash) for node in runner.chain.tree.active[1:]]
    mined = [item.id for block in blocks if block is not None for item in block.body.statements]
    assert mined == [item.id for item in statements]
    assert controller.blocks_sealed == len(blocks)
