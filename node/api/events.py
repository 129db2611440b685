"""Events of a running node, and the hub that hands them to any number of listeners.

Owns the event types and bounded queues. A listener that does not keep up loses its subscription, never the
node's memory. Not thread-safe: publish on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ..protocol.equivocation import Equivocation

QUEUED_EVENTS_MAX: Final = 256
"""Events that one listener may lag behind before it is cut off."""

LISTENERS_MAX: Final = 128
"""Listeners at a time."""


class TooManyListeners(Exception):
    """Every place of a listener is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TipChanged:
    """The active chain has another tip."""

    height: int
    hash: bytes
    time_ms: int
    statements: int
    """Statements in the tip's body."""
    disconnected: int = 0
    """Blocks that left the active chain on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptChanged:
    """A statement reached another receipt level, or was dropped."""

    id: bytes
    receipt: str
    """`queued`, `relayed`, `sealed`, `confirmed` or `refused`."""
    height: int | None = None
    code: str | None = None
    """The rule, when it was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChanged:
    """The store began to fail, or works again."""

    ok: bool
    reason: str | None
    """Why it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReorgAlarm:
    """A reorganisation that an operator must look at."""

    reason: str
    """`deep-reorganisation`, or `refused-fork`: a chain with more work that this node does not follow."""
    at_ms: int
    """Unix time."""
    depth: int
    """Blocks that went off the chain, or would have."""
    fork_height: int
    """Height of the last block that both chains have."""
    left: bytes
    """Tip of the chain that was left, or is kept against the other."""
    right: bytes
    """Tip of the chain that is followed, or refused."""


Event = TipChanged | ReceiptChanged | StoreChanged | ReorgAlarm | Equivocation


class Subscription:
    """The events of one listener, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._open = True

    def offer(self, event: Event) -> bool:
        """Queue an event; False when the listener lags too far behind and is cut off."""
        if self._open and self._queue.qsize() >= QUEUED_EVENTS_MAX:
            self.end()
        elif self._open:
            self._queue.put_nowait(event)
        return self._open

    def end(self) -> None:
        """Let the listener finish what is queued, then end."""
        if self._open:
            self._open = False
            self._queue.put_nowait(None)

    async def next(self) -> Event | None:
        """Wait for the next event; None when the subscription ended."""
        return await self._queue.get()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self.next()) is not None:
            yield event


class EventHub:
    """Hands every published event to every listener."""

    def __init__(self) -> None:
        self._listeners: set[Subscription] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def publish(self, event: Event) -> None:
        """Hand an event to all listeners; never waits."""
        self._listeners = {item for item in self._listeners if item.offer(event)}

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Listen from now on; TooManyListeners when there is no place left."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise TooManyListeners
        subscription = Subscription()
        if self._closed:
            subscription.end()
        self._listeners.add(subscription)
        try:
            yield subscription
        finally:
            self._listeners.discard(subscription)

    def close(self) -> None:
        """End every subscription; done once at shutdown."""
        self._closed = True
        for subscription in self._listeners:
            subscription.end()
