"""Whose turn it is to change the chain: blocks go before statements.

Owns the one lock of chain and mempool. Statements that wait for a block's turn are not passed over for ever: a
catch-up brings blocks without end, and whoever hands statements in gets an answer meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

GIVEN_WAY_MAX: Final = 4
"""Times that a change of statements lets blocks go first."""


class Turns:
    """See the module's text."""

    def __init__(self) -> None:
        """Start with nobody at work."""
        self._lock = asyncio.Lock()
        self._blocks = 0
        """Changes that wait for their turn, or have it, and go first."""
        self._no_blocks = asyncio.Event()
        self._no_blocks.set()

    @property
    def taken(self) -> bool:
        """Tell whether a change is being made."""
        return self._lock.locked()

    @asynccontextmanager
    async def of_blocks(self) -> AsyncIterator[None]:
        """Hold the lock for a change that everything else waits for."""
        self._blocks += 1
        self._no_blocks.clear()
        try:
            async with self._lock:
                yield
        finally:
            self._blocks -= 1
            if not self._blocks:
                self._no_blocks.set()

    @asynccontextmanager
    async def of_statements(self) -> AsyncIterator[None]:
        """Hold the lock for a change that can wait."""
        for _ in range(GIVEN_WAY_MAX):
            await self._no_blocks.wait()
            await self._lock.acquire()
            if not self._blocks:
                break
            self._lock.release()
        else:
            await self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()
