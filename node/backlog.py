"""Blocks and statements from peers that wait for the chain's thread.

Owns the queue and its bound in bytes: readers of peers wait while it is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict

from .protocol.actions import BlockReady, PeerId, StatementReceived

BACKLOG_BYTES_MAX = 32 * 2**20
"""Bytes that wait, from which on no peer is read."""

TAKE_BYTES_MAX = 16 * 2**20
"""Bytes of blocks that are taken at a time, so that those that are in the store by then are not held for the others."""

STATEMENTS_TAKEN = 256
"""Statements that are taken at a time, so that a block that comes next need not wait for all."""

GATHER_SECONDS = 0.1
"""Fewer statements than that are taken at most this often."""

SOURCES_MAX = 4_096
"""Blocks of which the sender is remembered until they are connected or refused."""


class Backlog:
    """See the module's text."""

    def __init__(self) -> None:
        """Start empty."""
        self._blocks: list[tuple[BlockReady, int]] = []
        """With the bytes of the body."""
        self._statements: list[StatementReceived] = []
        self._bytes = 0
        self._work = asyncio.Event()
        self._enough = asyncio.Event()
        """A block waits, or so many statements that it is time to take them."""
        self._statements_at = 0.0
        """When it is time to take statements, however few."""
        self._room = asyncio.Event()
        self._sources: OrderedDict[bytes, PeerId] = OrderedDict()

    def add(self, item: BlockReady | StatementReceived) -> None:
        """Queue one."""
        if isinstance(item, BlockReady):
            size = item.block.body.byte_count()
            self._blocks.append((item, size))
            self._bytes += size
            self._sources[item.block.hash] = item.peer
            while len(self._sources) > SOURCES_MAX:
                self._sources.popitem(last=False)
        else:
            self._statements.append(item)
            self._bytes += item.statement.size_bytes
        if self._blocks or len(self._statements) >= STATEMENTS_TAKEN:
            self._enough.set()
        self._work.set()

    async def _gather(self) -> None:
        """Wait a little for more when statements were taken just now: each time costs as much as many of them."""
        if self._blocks:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._statements_at - time.monotonic())):
                await self._enough.wait()

    async def take(self) -> tuple[list[BlockReady], list[StatementReceived]]:
        """Wait for work; take the first blocks, up to `TAKE_BYTES_MAX`, and some statements."""
        await self._work.wait()
        await self._gather()
        blocks, taken_bytes = list[BlockReady](), 0
        for block, size in self._blocks:
            if blocks and taken_bytes + size > TAKE_BYTES_MAX:
                break
            blocks.append(block)
            taken_bytes += size
        del self._blocks[: len(blocks)]
        statements = self._statements[:STATEMENTS_TAKEN]
        del self._statements[: len(statements)]
        self._bytes -= taken_bytes + sum(item.statement.size_bytes for item in statements)
        if statements:
            self._statements_at = time.monotonic() + GATHER_SECONDS
        if not self._blocks and not self._statements:
            self._work.clear()
        if not self._blocks and len(self._statements) < STATEMENTS_TAKEN:
            self._enough.clear()
        self._room.set()
        return blocks, statements

    async def room(self) -> None:
        """Wait until not too much waits."""
        while self._bytes > BACKLOG_BYTES_MAX:
            self._room.clear()
            await self._room.wait()

    def take_source(self, block_hash: bytes) -> PeerId | None:
        """Return who completed a block, and forget it."""
        return self._sources.pop(block_hash, None)
