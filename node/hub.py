"""Connections and the protocol machines between them.

Owns the open connections, hands their messages to the machines of `node.protocol`, and carries out
the actions that come back. It decides nothing about validity (the chain runner does) nor about whom
to dial (`node.dialer` does).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..consensus.block import Block, SealedHeader
from ..consensus.errors import ConsensusError, RuleViolation
from ..consensus.statement import Statement
from .chain_runner import ChainRunner
from .chainstate import ChainUpdate
from .mempool import Drop
from .protocol.actions import Action, BlockReady, PeerId, Punish, Send, StatementReceived
from .protocol.actions import Drop as DropPeer
from .protocol.peers import AddressBook
from .protocol.relay import Relay
from .protocol.sync import Synchronizer
from .recent import RecentStatements
from .wire.connection import Connection
from .wire.faults import Reason, WireError
from .wire.messages import (
    Address,
    Addresses,
    AnnounceBlock,
    BodyChunk,
    GetAddresses,
    GetBody,
    GetHeaders,
    GetStatements,
    Headers,
    Inventory,
    Message,
    Missing,
    NotFound,
    SendAnnouncements,
    Statements,
    Status,
)

OUTBOX_MESSAGES_MAX = 4_096
"""Messages that wait for one peer; a peer that lets more pile up is too slow."""

OUTBOX_PAUSE = 64
"""Messages waiting for a peer from which on its own requests are not read."""

HEADERS_CHECKED_ON_LOOP = 8
"""Seals of longer header messages are verified in a thread."""

TICK_SECONDS = 0.25

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class PeerLink:
    """One open connection and what waits to be sent over it."""

    id: PeerId
    connection: Connection
    since: float
    dialed: tuple[str, int] | None
    """The address that this node connected to; None for an inbound connection."""
    outbox: deque[Message] = field(default_factory=deque)
    has_work: asyncio.Event = field(default_factory=asyncio.Event)
    has_room: asyncio.Event = field(default_factory=asyncio.Event)
    claimed_height: int = 0

    @property
    def node_key(self) -> bytes:
        """The peer's proven identity."""
        return self.connection.peer.node_key

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where the peer listens: the address that was dialed, or the one that an inbound peer claims."""
        return self.dialed or (self.connection.remote[0], self.connection.peer.listen_port)


class PeerHub:
    """See the module's text. `run` works until it is cancelled."""

    def __init__(
        self,
        runner: ChainRunner,
        book: AddressBook,
        clock_ms: Callable[[], int],
        own_key: bytes,
        admits: Callable[[str, bytes], bool] = lambda _address, _node_key: True,
    ) -> None:
        """Gossip about the runner's chain; `own_key` is this node's identity.

        `admits` tells whether the operator's lists let a peer (address, node key) in.
        """
        self._runner = runner
        self._book = book
        self._clock_ms = clock_ms
        self._own_key = own_key
        self._admits = admits
        self._recent = RecentStatements()
        self.sync = Synchronizer(runner.chain, self.find_statement)
        self.relay = Relay(self.find_statement)
        self.links: dict[PeerId, PeerLink] = {}
        self._next_id = 0
        self._blocks: deque[BlockReady] = deque()
        self._statements: deque[StatementReceived] = deque()
        self._work = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self.on_admitted: Callable[[], None] = lambda: None
        """Called when statements from peers entered the mempool."""
        runner.subscribe(self._on_update)

    def find_statement(self, leaf: bytes) -> Statement | None:
        """Return a statement from the mempool or the latest blocks."""
        return self._runner.mempool.pool.get(leaf) or self._recent.get(leaf)

    # Connections.

    async def serve(self, connection: Connection, dialed: tuple[str, int] | None = None) -> None:
        """Run one connection until it ends; a second one to the same node is refused."""
        key = connection.peer.node_key
        if not self._admits(connection.remote[0], key):
            await connection.close(Reason.BANNED, "this node's operator does not talk to this peer")
            return
        ban = self._book.banned(key, self._clock_ms())
        if ban is not None:
            await connection.close(Reason.BANNED, ban.reason)
            return
        other = next((link for link in self.links.values() if link.node_key == key), None)
        if other is not None:
            if not self._keeps_newer(connection):
                await connection.close(Reason.DUPLICATE_CONNECTION, "this node is connected to you already")
                return
            self._forget(other)
            await other.connection.close(Reason.DUPLICATE_CONNECTION, "a newer connection replaces this one")
        self._next_id += 1
        link = PeerLink(self._next_id, connection, time.monotonic(), dialed)
        self.links[link.id] = link
        self._note_listener(link)
        _log.info("connected to %s:%d (%s)", *connection.remote, key.hex()[:16])
        try:
            await self._exchange(link)
        finally:
            self._forget(link)

    def _keeps_newer(self, connection: Connection) -> bool:
        """Of two connections that cross, both ends keep the one that the smaller key opened."""
        opener = connection.peer.node_key if connection.inbound else self._own_key
        return opener == min(self._own_key, connection.peer.node_key)

    def _note_listener(self, link: PeerLink) -> None:
        """Remember where an inbound peer says that it listens."""
        port = link.connection.peer.listen_port
        if link.dialed is None and port:
            host, now_ms = link.connection.remote[0], self._clock_ms()
            self._book.add_heard(
                [Address(host=host, port=port, last_seen_ms=now_ms)], source_host=host, now_ms=now_ms
            )

    async def _exchange(self, link: PeerLink) -> None:
        writer = asyncio.create_task(self._write(link), name=f"peer {link.id} outbox")
        try:
            now = time.monotonic()
            self.perform(self.sync.on_connected(link.id, now))
            self.perform(self.relay.on_connected(link.id, self._runner.mempool.pool.leaves()))
            if link.dialed is not None:
                self.perform([Send(link.id, GetAddresses())])
            while True:
                message = await link.connection.receive()
                await self._dispatch(link, message)
                while len(link.outbox) > OUTBOX_PAUSE:
                    link.has_room.clear()
                    await link.has_room.wait()
        except WireError as error:
            if error.misbehaviour and link.connection.failure is error:
                self._ban(link, error.reason, error.message)
            _log.info("peer %s:%d ended: %s", *link.connection.remote, error)
        finally:
            writer.cancel()
            await asyncio.wait((writer,))

    async def _write(self, link: PeerLink) -> None:
        while True:
            while link.outbox:
                message = link.outbox.popleft()
                link.has_room.set()
                try:
                    await link.connection.send(message)
                except WireError:
                    link.has_room.set()
                    return
            link.has_work.clear()
            await link.has_work.wait()

    def _forget(self, link: PeerLink) -> None:
        if self.links.pop(link.id, None) is not None:
            now = time.monotonic()
            self.perform(self.sync.on_disconnected(link.id, now))
            self.perform(self.relay.on_disconnected(link.id, now))

    async def close(self) -> None:
        """Say goodbye to every peer."""
        links = list(self.links.values())
        await asyncio.gather(*(link.connection.close(Reason.SHUTDOWN) for link in links))

    # Messages.

    async def _dispatch(self, link: PeerLink, message: Message) -> None:
        """Hand one message to the machine that it is for."""
        if link.id not in self.links:
            return
        if isinstance(message, Headers):
            self.perform(await self._on_headers(link.id, message))
        elif (handler := _HANDLERS.get(type(message))) is not None:
            self.perform(handler(self, link, message))

    def on_status(self, link: PeerLink, message: Status) -> list[Action]:
        """Take a Status."""
        link.claimed_height = message.height
        return self.sync.on_status(link.id, message, time.monotonic())

    def on_send_announcements(self, link: PeerLink, message: SendAnnouncements) -> list[Action]:
        """Take a SendAnnouncements."""
        return self.sync.on_send_announcements(link.id, message)

    def on_get_headers(self, link: PeerLink, message: GetHeaders) -> list[Action]:
        """Take a GetHeaders."""
        return self.sync.on_get_headers(link.id, message)

    def on_get_body(self, link: PeerLink, message: GetBody) -> list[Action]:
        """Take a GetBody."""
        return self.sync.on_get_body(link.id, message)

    def on_body_chunk(self, link: PeerLink, message: BodyChunk) -> list[Action]:
        """Take a BodyChunk."""
        return self.sync.on_body_chunk(link.id, message, time.monotonic())

    def on_announce_block(self, link: PeerLink, message: AnnounceBlock) -> list[Action]:
        """Take a AnnounceBlock."""
        height = SealedHeader.decode(message.sealed_header).height
        link.claimed_height = max(link.claimed_height, height)
        return self.sync.on_announce_block(link.id, message, now=time.monotonic(), now_ms=self._clock_ms())

    def on_inventory(self, link: PeerLink, message: Inventory) -> list[Action]:
        """Take a Inventory."""
        return self.relay.on_inventory(link.id, message, time.monotonic())

    def on_get_statements(self, link: PeerLink, message: GetStatements) -> list[Action]:
        """Take a GetStatements."""
        return self.relay.on_get_statements(link.id, message)

    def on_statements(self, link: PeerLink, message: Statements) -> list[Action]:
        """Take a Statements."""
        actions, statements = self.relay.on_statements(link.id, message.statements, time.monotonic())
        return actions + self.sync.on_statements(link.id, statements, time.monotonic())

    def on_not_found(self, link: PeerLink, message: NotFound) -> list[Action]:
        """Take a NotFound."""
        now = time.monotonic()
        actions = self.sync.on_not_found(link.id, message, now)
        if message.missing is Missing.STATEMENT:
            actions += self.relay.on_not_found(link.id, message, now)
        return actions

    def on_get_addresses(self, link: PeerLink, _message: GetAddresses) -> list[Action]:
        """Take a GetAddresses."""
        return [Send(link.id, Addresses(addresses=self._book.answer()))]

    def on_addresses(self, link: PeerLink, message: Addresses) -> list[Action]:
        """Take a Addresses."""
        self._book.add_heard(
            message.addresses, source_host=link.connection.remote[0], now_ms=self._clock_ms()
        )
        return []

    async def _on_headers(self, peer: PeerId, message: Headers) -> list[Action]:
        headers = [SealedHeader.decode(item) for item in message.sealed_headers]
        fresh = [item for item in headers if self._runner.chain.tree.get(item.hash) is None]
        checked = len(fresh) > HEADERS_CHECKED_ON_LOOP
        if checked:
            network_id = self._runner.chain.network_id
            good = await asyncio.to_thread(_seals_are_valid, fresh, network_id)
            if peer not in self.links:
                return []
            if not good:
                return [
                    Punish(peer, "bad-seal", "headers: expected every seal to verify, got one that does not")
                ]
        return self.sync.on_headers(
            peer, headers, now=time.monotonic(), now_ms=self._clock_ms(), seals_checked=checked
        )

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out what a machine asked for."""
        for action in actions:
            link = self.links.get(action.peer)
            match action:
                case Send():
                    if link is not None:
                        self._send(link, action.message)
                case BlockReady():
                    self._blocks.append(action)
                    self._work.set()
                case StatementReceived():
                    self._statements.append(action)
                    self._work.set()
                case Punish():
                    if link is not None:
                        self._ban(link, action.reason, action.detail)
                        self._end(link, Reason.MISBEHAVIOUR, f"{action.reason}: {action.detail}")
                case DropPeer():
                    if link is not None:
                        self._end(link, action.reason, action.detail)

    def _send(self, link: PeerLink, message: Message) -> None:
        if len(link.outbox) >= OUTBOX_MESSAGES_MAX:
            self._end(link, Reason.SLOW_READER, f"{OUTBOX_MESSAGES_MAX} messages wait to be read")
            return
        link.outbox.append(message)
        link.has_work.set()

    def _ban(self, link: PeerLink, reason: str, detail: str) -> None:
        _log.warning("peer %s:%d misbehaved: %s: %s", *link.connection.remote, reason, detail)
        if link.dialed is None or not self._is_manual(link.dialed):
            self._book.ban(link.node_key, f"{reason}: {detail}", self._clock_ms())

    def _is_manual(self, endpoint: tuple[str, int]) -> bool:
        return any(entry.endpoint == endpoint and entry.manual for entry in self._book.entries())

    def _end(self, link: PeerLink, reason: str, detail: str) -> None:
        """Close a connection in the background; its `serve` sees the end."""
        link.outbox.clear()
        link.has_room.set()
        task = asyncio.create_task(link.connection.close(reason, detail[:200]), name=f"peer {link.id} close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # Work that changes the chain or the mempool.

    async def run(self) -> None:
        """Connect blocks and admit statements as they come, and tick the machines."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work_off(), name="peer hub work")
            tasks.create_task(self._tick(), name="peer hub tick")

    async def _work_off(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._blocks:
                ready = list(self._blocks)
                self._blocks.clear()
                await self._connect(ready)
            if self._statements:
                received = list(self._statements)
                self._statements.clear()
                await self._admit(received)

    async def _connect(self, ready: Sequence[BlockReady]) -> None:
        sources = {item.block.hash: item.peer for item in ready}
        _, refused = await self._runner.add_blocks([item.block for item in ready], self._announce)
        for block, error in refused:
            if block in sources:
                self._blame(sources[block], error)
        self.perform(self.sync.on_tip_changed(time.monotonic()))

    async def _admit(self, received: Sequence[StatementReceived]) -> None:
        sources = {item.statement.leaf: item.peer for item in received}
        for statement, error in await self._runner.relay([item.statement for item in received]):
            if error is None:
                self.relay.on_accepted(statement)
                self.on_admitted()
            elif statement.leaf in sources:
                self._blame(sources[statement.leaf], error)
        self.perform(self.relay.flush())

    def _blame(self, peer: PeerId, error: Exception) -> None:
        if isinstance(error, RuleViolation) and error.rule.punish:
            self.perform([Punish(peer, error.code, error.message)])
        elif isinstance(error, ConsensusError):
            _log.debug("from peer %d: %s", peer, error)

    async def submit_block(self, block: Block) -> ChainUpdate:
        """Take a block that this node mined; raises ConsensusError when it is refused."""
        self._recent.add(block)
        update, refused = await self._runner.add_blocks([block], self._announce)
        if refused:
            raise refused[0][1]
        return update

    def announce_statements(self, statements: Iterable[Statement]) -> None:
        """Tell peers of statements that a submitter handed in."""
        for statement in statements:
            self.relay.on_accepted(statement)
        self.perform(self.relay.flush())

    def _announce(self, block: Block) -> None:
        self._recent.add(block)
        self.perform(self.sync.announce(block))

    def _on_update(self, update: ChainUpdate, _drops: Sequence[Drop]) -> None:
        for block in update.connected:
            self._recent.add(block)
        now = time.monotonic()
        self.perform(self.sync.on_tip_changed(now))
        if update.disconnected:
            returned = [item for block in update.disconnected for item in block.body.statements]
            pool = self._runner.mempool.pool
            self.announce_statements(item for item in returned if item.leaf in pool)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            self.perform(self.sync.on_tick(now))
            self.perform(self.relay.on_tick(now))


def _seals_are_valid(headers: Sequence[SealedHeader], network_id: bytes) -> bool:
    return all(item.has_valid_seal(network_id) for item in headers)


_HANDLERS: Mapping[type[Message], Callable[[PeerHub, PeerLink, Any], list[Action]]] = MappingProxyType(
    {
        Status: PeerHub.on_status,
        SendAnnouncements: PeerHub.on_send_announcements,
        GetHeaders: PeerHub.on_get_headers,
        GetBody: PeerHub.on_get_body,
        BodyChunk: PeerHub.on_body_chunk,
        AnnounceBlock: PeerHub.on_announce_block,
        Inventory: PeerHub.on_inventory,
        GetStatements: PeerHub.on_get_statements,
        Statements: PeerHub.on_statements,
        NotFound: PeerHub.on_not_found,
        GetAddresses: PeerHub.on_get_addresses,
        Addresses: PeerHub.on_addresses,
    }
)
"""Who takes a message of which type; Headers may take long and go through a thread."""
