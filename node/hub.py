"""Connections and the protocol machines between them.

Owns the open connections, hands their messages on (`hub_inbox`), and carries out the actions that come
back. Who is let in is decided by `peer_door`, whom to dial by `dialer`, and what becomes of blocks and statements
by `hub_work`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Iterable

from ..consensus.block import Block
from ..consensus.statement import Statement
from .address_gossip import AddressGossip
from .chain_runner import ChainRunner
from .chain_update import ChainUpdate
from .hub_inbox import Inbox
from .hub_work import HubWork
from .peer_door import PeerDoor, Refusal
from .peer_link import PeerLink
from .protocol.actions import Action, BlockReady, PeerId, Punish, Send, StatementReceived
from .protocol.actions import Drop as DropPeer
from .protocol.peer_clock import ClockOffsets
from .protocol.peer_duplicates import newer_stays
from .protocol.peer_entry import Endpoint
from .protocol.peer_outbound import DialKind
from .protocol.presync import SALT_BYTES, HeaderRules
from .protocol.relay import Relay
from .protocol.sync import DEFAULT_LIMITS, Synchronizer
from .recent import RecentStatements
from .wire.connection import Connection
from .wire.faults import Reason, WireError
from .wire.limits import SEND_TOTAL_BYTES
from .wire.messages import Message

DETAIL_CHARACTERS_MAX = 200

ASKED_WHEN_FULL = 64
"""Statements that peers are asked for at a time when the mempool is full: a few may displace others."""

PROBE_SECONDS = 5.0
"""Within which a peer says something on a connection that is in the way of another one of its own."""

SMALL_BYTES = 64 * 2**10
"""Up to this waits for most peers at most times; what waits for all together is looked at when one has more."""

_log = logging.getLogger(__name__)


class PeerHub:
    """See the module's text. `run` works until it is cancelled."""

    def __init__(
        self,
        *,
        runner: ChainRunner,
        door: PeerDoor,
        clock_ms: Callable[[], int],
        own_key: bytes,
        own_address: Endpoint | None = None,
    ) -> None:
        """Gossip about the runner's chain.

        `own_key` is this node's identity, `own_address` a numeric address where others reach it, if it is known.
        """
        self._runner = runner
        self._door = door
        self._clock_ms = clock_ms
        self._own_key = own_key
        self._recent = RecentStatements()
        limits = dataclasses.replace(DEFAULT_LIMITS, minimum_chainwork=runner.chain.policy.minimum_chainwork)
        chain = runner.chain
        rules = HeaderRules(
            params=chain.params, versions=chain.versions, salt=secrets.token_bytes(SALT_BYTES)
        )
        self.sync = Synchronizer(chain, self.find_statement, limits, rules)
        self.relay = Relay(
            self.find_statement,
            counts=self.sync.counts,
            room=self._room,
            waits=runner.mempool.pool.__contains__,
        )
        self.links: dict[PeerId, PeerLink] = {}
        self.clocks = ClockOffsets(runner.chain.params.future_limit_ms // 2)
        self._gossip = AddressGossip(
            book=door.book,
            clocks=self.clocks,
            links=self.links,
            clock_ms=clock_ms,
            own_address=own_address,
        )
        self._inbox = Inbox(
            chain=runner.chain,
            sync=self.sync,
            relay=self.relay,
            gossip=self._gossip,
            links=self.links,
            clock_ms=clock_ms,
        )
        self.work = HubWork(
            runner=runner,
            recent=self._recent,
            sync=self.sync,
            relay=self.relay,
            links=self.links,
            perform=self.perform,
            clock_ms=clock_ms,
        )
        self._next_id = 0
        self._stopping = False
        self._closing: set[asyncio.Task[None]] = set()

    def _room(self) -> int:
        """Return how many statements of peers the mempool may be brought at present."""
        pool = self._runner.mempool.pool
        return max(ASKED_WHEN_FULL, pool.limits.statements - len(pool))

    def find_statement(self, leaf: bytes) -> Statement | None:
        """Return a statement from the mempool or the latest blocks."""
        return self._runner.intake.find(leaf) or self._recent.get(leaf)

    async def run(self) -> None:
        """Take in what peers bring, and tick the machines."""
        await self.work.run()

    async def submit_block(self, block: Block) -> ChainUpdate:
        """Take a block that this node mined; see `HubWork.submit_block`."""
        return await self.work.submit_block(block)

    def announce_statements(self, statements: Iterable[Statement]) -> None:
        """Tell peers of statements that are new in the mempool."""
        self.work.announce_statements(statements)

    # Connections.

    async def serve(
        self,
        connection: Connection,
        dialed: Endpoint | None = None,
        kind: DialKind = DialKind.OUTBOUND,
    ) -> None:
        """Run one connection until it ends; of two to the same node one stays.

        `dialed` and `kind` tell where and why this node connected; None when the peer did. A fault of this node in
        dealing with a peer ends that connection and nothing else.
        """
        refusal = self._refusal(connection, dialed)
        if refusal is not None:
            await connection.close(*refusal)
            return
        key = connection.peer.node_key
        older = self._link_of(key)
        self._next_id += 1
        link = PeerLink(self._next_id, connection, time.monotonic(), dialed, kind)
        if older is not None:
            self._forget(older)
            self.end(older, Reason.DUPLICATE_CONNECTION, "a newer connection replaces this one")
        self.links[link.id] = link
        _log.info("connected to %s:%d (%s)", *connection.remote, key.hex()[:16])
        try:
            await self._exchange(link)
        except Exception:  # noqa: BLE001 - whatever a peer sends, the node stays up
            _log.exception("a fault of this node in dealing with %s:%d", *connection.remote)
            await connection.close()
        finally:
            self._forget(link)

    def _refusal(self, connection: Connection, dialed: Endpoint | None) -> Refusal | None:
        """Return why a connection is not served, if so."""
        if self._stopping:
            return Reason.SHUTDOWN, "this node is stopping"
        refusal = self._door.refusal(connection, dialed)
        if refusal is not None:
            return refusal
        older = self._link_of(connection.peer.node_key)
        if older is not None and not self._keeps_newer(connection, older):
            self._probe(older)
            return Reason.DUPLICATE_CONNECTION, "this node is connected to you already"
        return None

    def is_connected_to(self, node_key: bytes) -> bool:
        """Tell whether there is a connection to a node."""
        return self._link_of(node_key) is not None

    def _probe(self, link: PeerLink) -> None:
        """Find out whether a connection is alive: its peer opened another one, so perhaps it lost this one."""
        if link.probe is None or link.probe.done():
            name = f"peer {link.id} probe"
            link.probe = asyncio.create_task(link.connection.probe(PROBE_SECONDS), name=name)

    def _link_of(self, node_key: bytes) -> PeerLink | None:
        return next((link for link in self.links.values() if link.node_key == node_key), None)

    def _keeps_newer(self, connection: Connection, older: PeerLink) -> bool:
        """Tell whether a connection replaces an older one to the same node."""
        peer = connection.peer.node_key
        opener, other = (peer, self._own_key) if connection.inbound else (self._own_key, peer)
        return newer_stays(
            older_seconds=time.monotonic() - older.since,
            same_way=connection.inbound == (older.dialed is None),
            opener=opener,
            other=other,
        )

    def make_room(self, newcomer: Connection) -> bool:
        """Tell whether a proven inbound connection gets a place although all are taken; then another one ends."""
        if self._refusal(newcomer, None) is not None:
            return True  # `serve` says why it has to go
        inbound = [link for link in self.links.values() if link.dialed is None and not link.is_ended]
        if len(inbound) < self._door.max_inbound:
            return True  # those that ended are still being closed
        victim = self._door.choose_victim(inbound)
        if victim is None:
            return self._door.is_protected(newcomer.remote[0], newcomer.peer.node_key)
        _log.info("peer %s:%d makes room for %s:%d", *victim.connection.remote, *newcomer.remote)
        self._door.counts.evictions += 1
        self.end(victim, Reason.TOO_MANY_CONNECTIONS, "another connection took this place")
        return True

    async def _exchange(self, link: PeerLink) -> None:
        writer = asyncio.create_task(link.write(), name=f"peer {link.id} outbox")
        writer.add_done_callback(lambda task: self._on_writer_done(link, task))
        try:
            now = time.monotonic()
            self.perform(self._gossip.on_connected(link))
            version = link.connection.peer.version
            self.perform(
                self.sync.on_connected(link.id, now, outbound=link.dialed is not None, version=version)
            )
            waiting = self._runner.mempool.pool.leaves()
            self.perform(self.relay.on_connected(link.id, waiting, blocks_only=link.blocks_only))
            while True:
                message = await link.connection.receive()
                self.perform(await self._inbox.take(link, message))
                await link.room()
                await self.work.backlog.room()
        except WireError as error:
            if error.misbehaviour and link.connection.ended_by(error):
                self._door.on_offence(link, error.reason, error.message)
            _log.info("peer %s:%d ended: %s", *link.connection.remote, error)
        finally:
            writer.cancel()
            await asyncio.wait((writer,))

    def _on_writer_done(self, link: PeerLink, writer: asyncio.Task[None]) -> None:
        """A message that cannot be sent is a fault of this node; the peer must not wait for it for ever."""
        if not writer.cancelled() and (error := writer.exception()) is not None:
            _log.error("a fault of this node in sending to %s:%d", *link.connection.remote, exc_info=error)
            self.end(link, Reason.DONE, "this node failed to send a message")

    def _forget(self, link: PeerLink) -> None:
        if self.links.pop(link.id, None) is not None:
            now = time.monotonic()
            self.perform(self.sync.on_disconnected(link.id, now))
            self.perform(self.relay.on_disconnected(link.id, now))

    async def close(self) -> None:
        """Say goodbye to every peer; later connections are refused."""
        self._stopping = True
        for link in list(self.links.values()):
            self.end(link, Reason.SHUTDOWN, "this node is stopping")
        while self._closing:
            await asyncio.wait(tuple(self._closing))

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out what a machine asked for."""
        for action in actions:
            link = self.links.get(action.peer)
            match action:
                case Send():
                    if link is not None:
                        self._send(link, action.message)
                case BlockReady() | StatementReceived():
                    self.work.backlog.add(action)
                case Punish():
                    if link is not None:
                        self._door.on_offence(link, action.reason, action.detail)
                        self.end(link, Reason.MISBEHAVIOUR, f"{action.reason}: {action.detail}")
                case DropPeer():
                    if link is not None:
                        self.end(link, action.reason, action.detail)

    def _send(self, link: PeerLink, message: Message) -> None:
        if not link.queue(message):
            self.end(link, Reason.SLOW_READER, "too many messages wait to be read")
        if link.waiting_bytes > SMALL_BYTES:
            self._keep_within_total()

    def _keep_within_total(self) -> None:
        """Give up whoever lets most wait, until the bytes that wait for all peers are within their bound."""
        waiting = {link: link.waiting_bytes for link in self.links.values()}
        total = sum(waiting.values())
        while total > SEND_TOTAL_BYTES:
            link = max(waiting, key=lambda item: waiting[item])
            total -= waiting.pop(link)
            _log.info(
                "peer %s:%d lets most wait to be read, and all together too much", *link.connection.remote
            )
            link.give_up()

    def end(self, link: PeerLink, reason: str, detail: str) -> None:
        """Close a connection in the background; its `serve` sees the end."""
        link.end()
        detail = detail[:DETAIL_CHARACTERS_MAX]
        task = asyncio.create_task(link.connection.close(reason, detail), name=f"peer {link.id} close")
        self._closing.add(task)
        task.add_done_callback(self._on_closed)

    def _on_closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)
