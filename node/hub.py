"""Connections and the protocol machines between them.

Owns the open connections, hands their messages to the machines of `node.protocol`, and carries out
the actions that come back. It decides nothing about validity (the chain runner does) nor about whom
to dial (`node.dialer` does).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..consensus.block import Block, SealedHeader
from ..consensus.errors import ConsensusError, RuleViolation
from ..consensus.statement import Statement
from .backlog import Backlog
from .chain_runner import ChainRunner
from .chainstate import ChainUpdate
from .intake import Relayed
from .mempool import Drop
from .peer_link import PeerLink
from .protocol.actions import Action, BlockReady, PeerId, Punish, Send, StatementReceived
from .protocol.actions import Drop as DropPeer
from .protocol.peers import AddressBook
from .protocol.relay import Relay
from .protocol.sync import DEFAULT_LIMITS, Synchronizer
from .recent import RecentStatements
from .store.errors import StoreError
from .wire.connection import Connection
from .wire.faults import Reason, WireError
from .wire.limits import MAX_INVENTORY
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

ADMIT_GROUP = 256
"""Statements that go to the mempool at once."""

HEADERS_CHECKED_ON_LOOP = 8
"""Seals of longer header messages are verified in a thread."""

TICK_SECONDS = 0.25

STORE_RETRY_SECONDS = 2.0
"""Between two tries of a store that failed."""

REOFFER_SECONDS = 60.0
"""Statements that wait are offered again this often: a peer may have had no room for them."""

_log = logging.getLogger(__name__)


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
        limits = dataclasses.replace(DEFAULT_LIMITS, minimum_chainwork=runner.chain.policy.minimum_chainwork)
        self.sync = Synchronizer(runner.chain, self.find_statement, limits)
        self.relay = Relay(self.find_statement)
        self.links: dict[PeerId, PeerLink] = {}
        self._next_id = 0
        self._backlog = Backlog()
        self._stopping = False
        self._closing: set[asyncio.Task[None]] = set()
        self.on_admitted: Callable[[], None] = lambda: None
        """Called when statements from peers entered the mempool."""
        runner.subscribe(self._on_update)
        runner.on_relayed = self._on_relayed

    def find_statement(self, leaf: bytes) -> Statement | None:
        """Return a statement from the mempool or the latest blocks."""
        return self._runner.intake.find(leaf) or self._recent.get(leaf)

    # Connections.

    async def serve(self, connection: Connection, dialed: tuple[str, int] | None = None) -> None:
        """Run one connection until it ends; a second one to the same node is refused.

        A fault of this node in dealing with a peer ends that connection and nothing else.
        """
        refusal = self._refusal(connection, dialed)
        if refusal is not None:
            await connection.close(*refusal)
            return
        key = connection.peer.node_key
        older = next((link for link in self.links.values() if link.node_key == key), None)
        self._next_id += 1
        link = PeerLink(self._next_id, connection, time.monotonic(), dialed)
        if older is not None:
            self._forget(older)
            self._end(older, Reason.DUPLICATE_CONNECTION, "a newer connection replaces this one")
        self.links[link.id] = link
        self._note_listener(link)
        _log.info("connected to %s:%d (%s)", *connection.remote, key.hex()[:16])
        try:
            await self._exchange(link)
        except Exception:  # noqa: BLE001 - whatever a peer sends, the node stays up
            _log.exception("a fault of this node in dealing with %s:%d", *connection.remote)
            await connection.close()
        finally:
            self._forget(link)

    def _refusal(self, connection: Connection, dialed: tuple[str, int] | None) -> tuple[Reason, str] | None:
        """Return why a connection is not served, if so."""
        key = connection.peer.node_key
        if self._stopping:
            return Reason.SHUTDOWN, "this node is stopping"
        if not self._admits(connection.remote[0], key):
            return Reason.BANNED, "this node's operator does not talk to this peer"
        ban = self._book.banned(key, self._clock_ms())
        if ban is not None and not self._is_manual(dialed):
            return Reason.BANNED, ban.reason
        if any(link.node_key == key for link in self.links.values()) and not self._keeps_newer(connection):
            return Reason.DUPLICATE_CONNECTION, "this node is connected to you already"
        return None

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
        writer = asyncio.create_task(link.write(), name=f"peer {link.id} outbox")
        writer.add_done_callback(lambda task: self._on_writer_done(link, task))
        try:
            now = time.monotonic()
            self.perform(self.sync.on_connected(link.id, now))
            self.perform(self.relay.on_connected(link.id, self._runner.mempool.pool.leaves()))
            if link.dialed is not None:
                self.perform([Send(link.id, GetAddresses())])
            while True:
                message = await link.connection.receive()
                await self._dispatch(link, message)
                await link.room()
                await self._backlog.room()
        except WireError as error:
            if error.misbehaviour and link.connection.failure is error:
                self._ban(link, error.reason, error.message)
            _log.info("peer %s:%d ended: %s", *link.connection.remote, error)
        finally:
            writer.cancel()
            await asyncio.wait((writer,))

    def _on_writer_done(self, link: PeerLink, writer: asyncio.Task[None]) -> None:
        """A message that cannot be sent is a fault of this node; the peer must not wait for it for ever."""
        if not writer.cancelled() and (error := writer.exception()) is not None:
            _log.error("a fault of this node in sending to %s:%d", *link.connection.remote, exc_info=error)
            self._end(link, Reason.DONE, "this node failed to send a message")

    def _forget(self, link: PeerLink) -> None:
        if self.links.pop(link.id, None) is not None:
            now = time.monotonic()
            self.perform(self.sync.on_disconnected(link.id, now))
            self.perform(self.relay.on_disconnected(link.id, now))

    async def close(self) -> None:
        """Say goodbye to every peer; later connections are refused."""
        self._stopping = True
        for link in list(self.links.values()):
            self._end(link, Reason.SHUTDOWN, "this node is stopping")
        while self._closing:
            await asyncio.wait(tuple(self._closing))

    # Messages.

    async def _dispatch(self, link: PeerLink, message: Message) -> None:
        """Hand one message to the machine that it is for."""
        if link.id not in self.links:
            return
        if isinstance(message, Headers):
            self.perform(await self._on_headers(link.id, message))
        elif isinstance(message, GetBody):
            self.perform(await self._on_get_body(link.id, message))
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

    async def _on_get_body(self, peer: PeerId, message: GetBody) -> list[Action]:
        """Serve a body; it is read and taken apart in a thread, since it may be large."""
        served = self.sync.served
        if message.block_hash not in served:
            try:
                body = await asyncio.to_thread(served.load, message.block_hash)
            except (StoreError, ConsensusError) as error:
                _log.warning("body %s cannot be served: %s", message.block_hash.hex(), error)
                body = None
            if body is None:
                return [Send(peer, NotFound(missing=Missing.BODY, hashes=(message.block_hash,)))]
            served.keep(body)
        return self.sync.on_get_body(peer, message) if peer in self.links else []

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
                    if link is not None and not link.queue(action.message):
                        self._end(link, Reason.SLOW_READER, "too many messages wait to be read")
                case BlockReady() | StatementReceived():
                    self._backlog.add(action)
                case Punish():
                    if link is not None:
                        self._ban(link, action.reason, action.detail)
                        self._end(link, Reason.MISBEHAVIOUR, f"{action.reason}: {action.detail}")
                case DropPeer():
                    if link is not None:
                        self._end(link, action.reason, action.detail)

    def _ban(self, link: PeerLink, reason: str, detail: str) -> None:
        _log.warning("peer %s:%d misbehaved: %s: %s", *link.connection.remote, reason, detail)
        if link.dialed is None or not self._is_manual(link.dialed):
            self._book.ban(link.node_key, f"{reason}: {detail}", self._clock_ms())

    def _is_manual(self, endpoint: tuple[str, int] | None) -> bool:
        return endpoint is not None and self._book.is_manual(endpoint)

    def _end(self, link: PeerLink, reason: str, detail: str) -> None:
        """Close a connection in the background; its `serve` sees the end."""
        link.end()
        task = asyncio.create_task(link.connection.close(reason, detail[:200]), name=f"peer {link.id} close")
        self._closing.add(task)
        task.add_done_callback(self._on_closed)

    def _on_closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)

    # Work that changes the chain or the mempool.

    async def run(self) -> None:
        """Connect blocks and admit statements as they come, and tick the machines."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work_off(), name="peer hub work")
            tasks.create_task(self._tick(), name="peer hub tick")
            tasks.create_task(self._recover(), name="peer hub recovery")

    async def _work_off(self) -> None:
        while True:
            blocks, statements = await self._backlog.take()
            try:
                if blocks:
                    await self._connect(blocks)
                for start in range(0, len(statements), ADMIT_GROUP):
                    await self._admit(statements[start : start + ADMIT_GROUP])
            except StoreError as error:
                _log.debug("%d blocks and %d statements wait: %s", len(blocks), len(statements), error)
            except Exception:  # noqa: BLE001 - whatever a peer sent, the node stays up
                _log.exception("a fault of this node in taking blocks and statements")
            finally:
                self.relay.on_checked(item.statement for item in statements)

    async def _connect(self, ready: Sequence[BlockReady]) -> None:
        _, refused = await self._runner.add_blocks([item.block for item in ready], self._announce)
        for block_hash, error in refused:
            self._on_refused(block_hash, error)
        self.perform(self.sync.on_tip_changed(time.monotonic()))

    def _on_refused(self, block_hash: bytes, error: ConsensusError) -> None:
        """Blame who vouched for a block. One that merely announced it may be as honest as this node."""
        peer = self._backlog.take_source(block_hash)
        guilty = isinstance(error, RuleViolation) and error.rule.punish
        if peer is not None and guilty and self.sync.vouches(peer, block_hash):
            self.perform([Punish(peer, error.code, error.message)])
        _log.info("block %s refused: %s", block_hash.hex(), error)
        self.perform(self.sync.on_refused(block_hash, time.monotonic()))

    async def _admit(self, received: Sequence[StatementReceived]) -> None:
        sources = {item.statement.leaf: item.peer for item in received}
        results = await self._runner.relay([item.statement for item in received])
        for statement, error in results:
            peer = sources.get(statement.leaf)
            if isinstance(error, RuleViolation) and error.rule.punish and peer is not None:
                self.perform([Punish(peer, error.code, error.message)])
            elif error is not None:
                _log.debug("statement %s: %s", statement.id.hex(), error)
        self._on_relayed(results)

    def _on_relayed(self, results: Sequence[Relayed]) -> None:
        """Statements of peers went through the mempool."""
        taken = [statement for statement, error in results if error is None]
        self.announce_statements(taken)
        if taken:
            self.on_admitted()

    async def submit_block(self, block: Block) -> ChainUpdate:
        """Take a block that this node mined.

        Raises:
            ConsensusError: it is refused.
            StoreError: the store failed; the block is tried again when it works.
        """
        self._recent.add(block)
        update, refused = await self._runner.add_blocks([block], self._announce)
        for block_hash, error in refused:
            if block_hash == block.hash:
                raise error
            self._on_refused(block_hash, error)
        return update

    def announce_statements(self, statements: Iterable[Statement]) -> None:
        """Tell peers of statements that are new in the mempool."""
        for statement in statements:
            self.relay.on_accepted(statement)
        self._flush()

    def _flush(self) -> None:
        """Send inventory to the peers that keep up; that of the others grows until the next tick."""
        self.perform(self.relay.flush([link.id for link in self.links.values() if not link.is_busy]))

    def _announce(self, block: Block) -> None:
        self._recent.add(block)
        self.perform(self.sync.announce(block))

    def _on_update(self, update: ChainUpdate, _drops: Sequence[Drop]) -> None:
        for block in update.connected:
            self._recent.add(block)
            self._backlog.take_source(block.hash)
        self.perform(self.sync.on_tip_changed(time.monotonic()))
        if update.connected:
            # Blocks of a catch-up were not announced when they came.
            self.perform(self.sync.announce(update.connected[-1]))
        if update.disconnected:
            returned = [item for block in update.disconnected for item in block.body.statements]
            pool = self._runner.mempool.pool
            self.announce_statements(item for item in returned if item.leaf in pool)

    async def _tick(self) -> None:
        offer_at = time.monotonic() + REOFFER_SECONDS
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            try:
                if now >= offer_at:
                    offer_at = now + REOFFER_SECONDS
                    self.relay.offer_again(self._runner.mempool.pool.leaves()[:MAX_INVENTORY])
                self.perform(self.sync.on_tick(now))
                self.perform(self.relay.on_tick(now))
                self._flush()
            except Exception:  # noqa: BLE001 - the next tick may do better
                _log.exception("a fault of this node at a tick")

    async def _recover(self) -> None:
        """Go on with what a failure of the store stopped, once it works again."""
        while True:
            await asyncio.sleep(STORE_RETRY_SECONDS)
            if self._runner.trouble is None:
                continue
            try:
                await self._runner.retry()
            except StoreError as error:
                _log.debug("the store still fails: %s", error)
            else:
                self.perform(self.sync.on_tip_changed(time.monotonic()))


def _seals_are_valid(headers: Sequence[SealedHeader], network_id: bytes) -> bool:
    return all(item.has_valid_seal(network_id) for item in headers)


_HANDLERS: Mapping[type[Message], Callable[[PeerHub, PeerLink, Any], list[Action]]] = MappingProxyType(
    {
        Status: PeerHub.on_status,
        SendAnnouncements: PeerHub.on_send_announcements,
        GetHeaders: PeerHub.on_get_headers,
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
"""Who takes a message of which type; Headers and GetBody may take long and go through a thread."""
