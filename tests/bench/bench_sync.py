"""Catch-up of a new node from one peer over TLS, beside plain `ChainState.accept_block`; prints a JSON line.

Run: PYTHONPATH=tests python tests/bench/bench_sync.py [EMPTY_BLOCKS] [BUSY_BLOCKS] [STATEMENTS_PER_BLOCK]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from facechain.consensus.block import Block, seal_header
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.chainstate import ChainState
from facechain.node.service import clock_ms
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from support.chain import PRODUCER, SUBMITTER, ChainBuilder, make_genesis, solve
from support.live import live_node

SECONDS_MAX = 300.0


def build(genesis: Genesis, empty: int, busy: int, statements: int) -> tuple[list[Block], list[Block]]:
    """Mine `empty` blocks without and then `busy` blocks with statements."""
    chain = ChainState.open(MemoryStore.open(), genesis)
    builder = ChainBuilder(genesis)

    def mine(number: int, offered: list[Statement]) -> Block:
        now_ms = genesis.time_ms + (number + 1) * genesis.params.spacing_ms
        template = chain.make_template(offered, producer=PRODUCER.public, now_ms=now_ms)
        block = Block(seal_header(PRODUCER, genesis.network_id, solve(template.header)), template.body)
        if not chain.accept_block(block, now_ms=clock_ms()).connected:
            raise ValueError(f"block {number}: expected it to be connected")
        return block

    def offer(number: int) -> list[Statement]:
        first = number * statements
        return [
            builder.statement(SUBMITTER, Cancel(note=str(item)), sequence=item)
            for item in range(first, first + statements)
        ]

    idle = [mine(number, []) for number in range(empty)]
    return idle, [mine(empty + number, offer(number)) for number in range(busy)]


def accept(chain: ChainState, blocks: list[Block]) -> float:
    """Return the seconds that accepting blocks one by one takes."""
    started = time.perf_counter()
    for block in blocks:
        chain.accept_block(block, now_ms=clock_ms())
    return time.perf_counter() - started


async def catch_up(folder: Path, genesis: Genesis, blocks: list[Block]) -> tuple[float, float]:
    """Return the seconds of a catch-up, and the longest time that the loop of both nodes stood still."""
    async with live_node(folder / "full", genesis) as full:
        await full.node.runner.add_blocks(blocks, lambda _block: None)
        started = time.perf_counter()
        worst = asyncio.create_task(longest_stall())
        async with live_node(folder / "new", genesis, peers=[full]) as new:
            await new.until(lambda: new.tip == blocks[-1].hash, SECONDS_MAX)
            seconds = time.perf_counter() - started
        worst.cancel()
        await asyncio.wait((worst,))
        return seconds, STALLS.pop()


STALLS = [0.0]


async def longest_stall() -> None:
    """Note how late the loop comes back to a task that only yields."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        STALLS[-1] = max(STALLS[-1], time.perf_counter() - before - 0.001)


def measure(genesis: Genesis, name: str, first: list[Block], blocks: list[Block]) -> dict[str, float]:
    """Compare both ways for `blocks`, which come after `first`."""
    with tempfile.TemporaryDirectory() as folder:
        with LmdbStore.open(Path(folder) / "plain") as store:
            chain = ChainState.open(store, genesis)
            accept(chain, first)
            plain = accept(chain, blocks)
        STALLS[:] = [0.0]
        synced, stall = asyncio.run(catch_up(Path(folder), genesis, [*first, *blocks]))
    rate, plain_rate = (len(first) + len(blocks)) / synced, len(blocks) / plain
    return {
        f"{name}_blocks": len(blocks),
        f"{name}_sync_blocks_per_second": round(rate, 1),
        f"{name}_plain_blocks_per_second": round(plain_rate, 1),
        f"{name}_ratio": round(rate / plain_rate, 2),
        f"{name}_longest_loop_stall_ms": round(1_000 * stall, 1),
    }


def main() -> None:
    """Measure and print."""
    numbers = [int(item) for item in sys.argv[1:4]]
    empty, busy, statements = [*numbers, *(2_000, 200, 50)[len(numbers) :]]
    genesis = make_genesis(time_ms=clock_ms() - (empty + busy + 100) * 10_000)
    idle, full = build(genesis, empty, 0, statements)[0], build(genesis, 0, busy, statements)[1]
    report: dict[str, float] = {"statements_per_block": statements}
    report |= measure(genesis, "empty", [], idle)
    report |= measure(genesis, "busy", [], full)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
