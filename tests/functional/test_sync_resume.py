"""A node that is killed in the middle of a catch-up goes on from what it had, while the network goes on mining."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from facechain.cli.answers import NodeStatus
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.service import clock_ms
from support.chain import PRODUCER, make_genesis
from support.deadline import eventually
from support.live import live_node
from support.long_chain import LongChain
from support.node_processes import NodeProcess

BLOCKS = 2_000
SECONDS = 60
HEARTBEAT_MS = 400


async def above(node: NodeProcess, height: int) -> NodeStatus | None:
    """Return the status of a node that came further than a height."""
    status = await asyncio.to_thread(node.status)
    return status if status.height > height else None


@contextlib.asynccontextmanager
async def running(folder: Path, genesis: Path, *options: str) -> AsyncIterator[NodeProcess]:
    """Run a node process beside a node of this one."""
    node = NodeProcess(folder, genesis, *options)
    await asyncio.to_thread(node.__enter__)
    try:
        yield node
    finally:
        await asyncio.to_thread(node.__exit__, None, None, None)


@pytest.mark.timeout(180)
async def test_a_catch_up_goes_on_after_a_kill_while_blocks_are_mined(tmp_path: Path) -> None:
    spacing_ms = make_genesis().params.spacing_ms
    genesis = make_genesis(time_ms=clock_ms() - (BLOCKS + 10) * spacing_ms, heartbeat_ms=HEARTBEAT_MS)
    file = tmp_path / "genesis.json"
    write_document(file, GenesisDocument.of(genesis))
    blocks = list(LongChain(genesis).mine_many(BLOCKS))
    folder = tmp_path / "follower"
    async with live_node(tmp_path / "miner", genesis, mining=PRODUCER) as miner:
        await miner.node.runner.add_blocks(blocks, lambda _block: None)
        options = ("--peers", str(miner.addresses.peer))

        async with running(folder, file, *options) as follower:
            begun: NodeStatus = await eventually(
                partial(above, follower, 0), seconds=SECONDS, what="some blocks"
            )
            assert await asyncio.to_thread(follower.end, signal.SIGKILL) == -signal.SIGKILL
        async with running(folder, file) as alone:
            kept = await asyncio.to_thread(alone.status)
            assert 0 < begun.height <= kept.height, "what it showed is there"
            assert kept.tip == miner.node.chain.tree.active[kept.height].hash
            assert await asyncio.to_thread(alone.end) == 0
        before = miner.height
        async with running(folder, file, *options) as again:
            ended: NodeStatus = await eventually(
                partial(above, again, max(before, BLOCKS) + 1),
                seconds=SECONDS,
                what="the tip and what was mined since",
            )
            assert ended.network_id == genesis.network_id
            assert await asyncio.to_thread(again.block_hash, BLOCKS) == blocks[-1].hash
            assert await asyncio.to_thread(again.end) == 0
