"""What the messages of peers are for: each goes to the machine that takes its type.

Owns the table of message types. It changes no chain and keeps no connection: what the machines want done is returned.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..consensus.block import SealedHeader
from ..consensus.errors import ConsensusError
from .address_gossip import AddressGossip
from .chainstate import ChainState
from .peer_link import PeerLink
from .protocol.actions import Action, PeerId, Punish, Send
from .protocol.relay import ReadStatements, Relay, read_statements
from .protocol.sync import Synchronizer
from .store.errors import StoreError
from .wire.messages import (
    Addresses,
    AnnounceBlock,
    BodyChunk,
    Clock,
    GetAddresses,
    GetBody,
    GetHeaders,
    GetLeaves,
    GetStatements,
    Headers,
    Inventory,
    Leaves,
    Message,
    Missing,
    NotFound,
    SendAnnouncements,
    ShareAddresses,
    Statements,
    Status,
)

HEADERS_CHECKED_ON_LOOP = 8
"""Seals of longer header messages are verified in a thread."""

HEADERS_READ_ON_LOOP = 64
"""More headers are read for a peer in a thread."""

STATEMENTS_READ_IN_A_TURN = 64
"""Statements that are decoded at a time: some 4 ms."""

STATEMENT_BYTES_READ_IN_A_TURN = 256 * 2**10
"""The same, for large ones; one more may come on top."""

_log = logging.getLogger(__name__)


class Inbox:
    """See the module's text."""

    def __init__(
        self,
        *,
        chain: ChainState,
        sync: Synchronizer,
        relay: Relay,
        gossip: AddressGossip,
        links: Mapping[PeerId, PeerLink],
        clock_ms: Callable[[], int],
    ) -> None:
        """`links`: the open connections, of which a peer's may end while one of its messages is dealt with."""
        self._chain = chain
        self._sync = sync
        self._relay = relay
        self._gossip = gossip
        self._links = links
        self._clock_ms = clock_ms
        self._reading = asyncio.Lock()
        """Of whoever reads many headers."""

    async def take(self, link: PeerLink, message: Message) -> Sequence[Action]:
        """Hand one message to the machine that it is for; return what that wants done."""
        if link.id not in self._links:
            return ()
        if isinstance(message, Headers):
            return await self._on_headers(link.id, message)
        if isinstance(message, GetHeaders):
            return await self._on_get_headers(link.id, message)
        if isinstance(message, GetBody | GetLeaves):
            return await self._on_get_body(link.id, message)
        if isinstance(message, Statements):
            return await self._on_statements(link, message)
        handler = _HANDLERS.get(type(message))
        return () if handler is None else handler(self, link, message)

    # Blocks.

    def on_status(self, link: PeerLink, message: Status) -> Sequence[Action]:
        """Take a Status."""
        link.claimed_height = message.height
        return self._sync.on_status(link.id, message, time.monotonic())

    def on_send_announcements(self, link: PeerLink, message: SendAnnouncements) -> Sequence[Action]:
        """Take a SendAnnouncements."""
        return self._sync.on_send_announcements(link.id, message)

    async def _on_get_headers(self, peer: PeerId, message: GetHeaders) -> Sequence[Action]:
        """Serve headers; many are read in a thread, one answer at a time, since each takes a while."""
        nodes = self._sync.headers.wanted(message)
        if len(nodes) <= HEADERS_READ_ON_LOOP:
            return self._sync.on_get_headers(peer, message)
        async with self._reading:
            headers = await asyncio.to_thread(self._chain.sealed_headers, nodes)
        return [Send(peer, Headers(sealed_headers=headers))] if peer in self._links else []

    async def _on_get_body(self, peer: PeerId, message: GetBody | GetLeaves) -> Sequence[Action]:
        """Serve a body or its leaves; it is read and taken apart in a thread, since it may be large."""
        served = self._sync.served
        if message.block_hash not in served:
            try:
                body = await asyncio.to_thread(served.load, message.block_hash)
            except (StoreError, ConsensusError) as error:
                _log.warning("body %s cannot be served: %s", message.block_hash.hex(), error)
                body = None
            if body is None:
                missing = Missing.BODY if isinstance(message, GetBody) else Missing.LEAVES
                return [Send(peer, NotFound(missing=missing, hashes=(message.block_hash,)))]
            served.keep(body)
        if peer not in self._links:
            return []
        if isinstance(message, GetLeaves):
            return self._sync.on_get_leaves(peer, message)
        return self._sync.on_get_body(peer, message)

    def on_body_chunk(self, link: PeerLink, message: BodyChunk) -> Sequence[Action]:
        """Take a BodyChunk."""
        return self._sync.on_body_chunk(link.id, message, time.monotonic())

    def on_leaves(self, link: PeerLink, message: Leaves) -> Sequence[Action]:
        """Take a Leaves."""
        return self._sync.on_leaves(link.id, message, time.monotonic())

    def on_announce_block(self, link: PeerLink, message: AnnounceBlock) -> Sequence[Action]:
        """Take an AnnounceBlock."""
        height = SealedHeader.decode(message.sealed_header).height
        link.claimed_height = max(link.claimed_height, height)
        return self._sync.on_announce_block(link.id, message, now=time.monotonic(), now_ms=self._clock_ms())

    async def _on_headers(self, peer: PeerId, message: Headers) -> Sequence[Action]:
        headers = [SealedHeader.decode(item) for item in message.sealed_headers]
        now, now_ms = time.monotonic(), self._clock_ms()
        sifted = self._sync.sift_headers(peer, headers, now=now, now_ms=now_ms)
        fresh = [item for item in sifted.headers if self._chain.tree.get(item.hash) is None]
        checked = len(fresh) > HEADERS_CHECKED_ON_LOOP
        if checked:
            good = await asyncio.to_thread(_seals_are_valid, fresh, self._chain.network_id)
            if peer not in self._links:
                return []
            if not good:
                return [
                    Punish(peer, "bad-seal", "headers: expected every seal to verify, got one that does not")
                ]
        return self._sync.store_headers(
            peer, sifted, now=time.monotonic(), now_ms=self._clock_ms(), seals_checked=checked
        )

    # Statements.

    def on_inventory(self, link: PeerLink, message: Inventory) -> Sequence[Action]:
        """Take an Inventory."""
        return self._relay.on_inventory(link.id, message, time.monotonic())

    def on_get_statements(self, link: PeerLink, message: GetStatements) -> Sequence[Action]:
        """Take a GetStatements."""
        return self._relay.on_get_statements(link.id, message)

    async def _on_statements(self, link: PeerLink, message: Statements) -> Sequence[Action]:
        """Take a Statements; of many, everybody else has a turn after every few."""
        read = ReadStatements()
        for part in _parts(message.statements):
            if read.statements:
                await asyncio.sleep(0)
            read_statements(part, read)
            if read.error is not None:
                break
        if link.id not in self._links:
            return ()
        now = time.monotonic()
        return self._relay.on_read(link.id, read, now) + self._sync.on_statements(
            link.id, read.statements, now
        )

    def on_not_found(self, link: PeerLink, message: NotFound) -> Sequence[Action]:
        """Take a NotFound."""
        now = time.monotonic()
        actions = self._sync.on_not_found(link.id, message, now)
        if message.missing is Missing.STATEMENT:
            actions += self._relay.on_not_found(link.id, message, now)
        return actions

    # Addresses and clocks.

    def on_get_addresses(self, link: PeerLink, message: GetAddresses) -> Sequence[Action]:
        """Take a GetAddresses."""
        return self._gossip.on_get_addresses(link, message)

    def on_addresses(self, link: PeerLink, message: Addresses) -> Sequence[Action]:
        """Take an Addresses."""
        return self._gossip.on_addresses(link, message)

    def on_share_addresses(self, link: PeerLink, message: ShareAddresses) -> Sequence[Action]:
        """Take a ShareAddresses."""
        return self._gossip.on_share_addresses(link, message)

    def on_clock(self, link: PeerLink, message: Clock) -> Sequence[Action]:
        """Take a Clock."""
        return self._gossip.on_clock(link, message)


def _seals_are_valid(headers: Sequence[SealedHeader], network_id: bytes) -> bool:
    return all(item.has_valid_seal(network_id) for item in headers)


def _parts(statements: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut statements into what is read in one turn."""
    start = size = 0
    for position, item in enumerate(statements):
        if position - start >= STATEMENTS_READ_IN_A_TURN or size >= STATEMENT_BYTES_READ_IN_A_TURN:
            yield statements[start:position]
            start, size = position, 0
        size += len(item)
    yield statements[start:]


_HANDLERS: Mapping[type[Message], Callable[[Inbox, PeerLink, Any], Sequence[Action]]] = MappingProxyType(
    {
        Status: Inbox.on_status,
        SendAnnouncements: Inbox.on_send_announcements,
        BodyChunk: Inbox.on_body_chunk,
        Leaves: Inbox.on_leaves,
        AnnounceBlock: Inbox.on_announce_block,
        Inventory: Inbox.on_inventory,
        GetStatements: Inbox.on_get_statements,
        NotFound: Inbox.on_not_found,
        GetAddresses: Inbox.on_get_addresses,
        Addresses: Inbox.on_addresses,
        ShareAddresses: Inbox.on_share_addresses,
        Clock: Inbox.on_clock,
    }
)
"""Who takes a message of which type; Headers, GetHeaders, GetBody and GetLeaves may take long and go through a thread,
and Statements are read in several turns."""
