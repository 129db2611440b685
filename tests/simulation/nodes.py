"""A whole node on the simulated network: the real machines, driven as the hub and the service drive them.

Real are the chain state and mempool on a store that keeps what was committed, the synchroniser, the relay, the
session of every connection with its rates, the address book and its bans. What is asyncio in a node (sockets, tasks,
the writer's thread) is here: events on virtual time. Work on the chain is done in steps that take time, in order,
as the one thread that writes does it, and messages come in between the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from facechain.consensus.block import Block, seal_header
from facechain.consensus.errors import ConsensusError, Temporary
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement
from facechain.node.chain_runner import open_tip
from facechain.node.chainstate import ChainState
from facechain.node.hub_work import REOFFER_SECONDS
from facechain.node.intake import Intake
from facechain.node.mempool import DurableMempool, MempoolLimits, Submission
from facechain.node.peer_link import OUTBOX_MESSAGES_MAX
from facechain.node.peering import SAVE_SECONDS
from facechain.node.protocol.actions import Action, BlockReady, Drop, PeerId, Punish, Send, StatementReceived
from facechain.node.protocol.peer_duplicates import newer_stays
from facechain.node.protocol.peer_outbound import DialKind
from facechain.node.protocol.relay import Relay, RelayLimits
from facechain.node.protocol.sync import HeaderRules, Synchronizer, SyncLimits
from facechain.node.recent import RecentStatements
from facechain.node.store.memory import MemoryStore, Operation
from facechain.node.wire import messages as wire
from facechain.node.wire.codec import disconnect_frame
from facechain.node.wire.faults import PeerFault, Reason
from facechain.node.wire.limits import MAX_INVENTORY, Timeouts
from facechain.node.wire.session import Session
from support.chain import GENESIS_TIME_MS, solve
from support.dispatch import hand_to_machines

from .doors import Doors, Link
from .events import MS, Violation
from .links import Crash, Endpoint, Side
from .writer import Step, Writer

if TYPE_CHECKING:
    from .world import World

START_MS: Final = GENESIS_TIME_MS + 3_600_000
"""What a right clock shows at the start of a run."""

TICK_SECONDS: Final = 1.0
"""The hub ticks four times a second; deadlines are seconds, so that this changes nothing but the cost."""

SYNC_LIMITS: Final = SyncLimits(announce_known=64, window_blocks=32, assemblies=24)
RELAY_LIMITS: Final = RelayLimits(
    known_per_peer=120, offers_per_peer=60, announce_per_peer=80, request_size=20
)
"""Smaller than a node's own, so that a run reaches them."""

TIMEOUTS: Final = Timeouts()


class SimNode(Writer):
    """See the module's text."""

    def __init__(
        self,
        world: World,
        number: int,
        *,
        mining_key: LedgerKey | None,
        manual: Sequence[Endpoint],
        pool_limits: MempoolLimits,
    ) -> None:
        endpoint = (f"10.{number}.0.1", 9735)
        super().__init__(world.events, f"n{number}", endpoint, bytes([1, number]) * 16)
        self.world = world
        self.mining_key = mining_key
        self.skew_ms = 0
        self.disk_seconds = 0.004
        self.fuse: int | None = None
        """Operations of the store until this process dies; None as long as it shall live."""
        self.crashes = 0
        self._manual = tuple(manual)
        self._pool_limits = pool_limits
        self.store = MemoryStore.open()
        self.links: dict[PeerId, Link] = {}

    @property
    def now_ms(self) -> int:
        """What this node's clock shows."""
        return START_MS + int(self.events.now * MS) + self.skew_ms

    @property
    def tip(self) -> bytes:
        return self.chain.tree.tip.hash

    # Life and death.

    def start(self) -> None:
        """Start the process on what was committed before."""
        self.life += 1
        self.up = True
        self.frozen = False
        self.enter(self.life, self._boot)

    def _boot(self) -> None:
        self.store = self.store.reopen(on_operation=self._on_operation)
        self.links = {}
        self._next_id = 0
        self.start_writer()
        self.chain = ChainState.open(self.store, self.world.genesis)
        self.mempool = DurableMempool.open(
            self.store,
            self.chain.params,
            self.chain.network_id,
            partial(open_tip, self.chain),
            self._pool_limits,
        )
        self.doors = Doors(
            self,
            self.world.network,
            self.links,
            store=self.store,
            clock_ms=lambda: self.now_ms,
            manual=self._manual,
        )
        self.intake = Intake(self.chain, self.mempool)
        self.recent = RecentStatements()
        rules = HeaderRules(params=self.chain.params, salt=self.key, versions=self.chain.versions)
        self.sync = Synchronizer(self.chain, self.find_statement, SYNC_LIMITS, rules)
        self.relay = Relay(self.find_statement, RELAY_LIMITS, self.sync.counts)
        self.events.note("start", self.name, self.tip.hex()[:16], len(self.mempool.pool))
        self.world.on_tip(self)
        self._offer_at = self._save_at = self.events.now
        self.world.network.on_start(self)
        self.after(self.events.random.random() * TICK_SECONDS, self._tick)

    def kill(self, *, silent: bool) -> None:
        """End the process at once: what was not committed is gone."""
        self.events.note("kill", self.name, silent)
        self.life += 1
        self.up = False
        self.fuse = None
        self.crashes += 1
        self.disturbed = self.events.now
        self._deferred.clear()
        self.world.network.on_death(self, silent=silent)

    def stop(self) -> None:
        """End the process in order: what is known of peers is saved, and peers are told."""

        def job() -> Step:
            yield from self._save(in_order=True)
            for link in list(self.links.values()):
                self._end(link, Reason.SHUTDOWN, "this node is stopping")
            self.kill(silent=True)

        self.work(job())

    def on_crash(self) -> None:
        """The fuse burnt down inside a transaction."""
        self.kill(silent=False)
        self.world.on_crash(self)

    def _on_operation(self, _operation: Operation) -> None:
        if self.fuse is None:
            return
        self.fuse -= 1
        if self.fuse <= 0:
            raise Crash

    def on_moved(self) -> None:
        self.world.on_tip(self)

    def find_statement(self, leaf: bytes) -> Statement | None:
        """Find a statement as the hub does."""
        return self.intake.find(leaf) or self.recent.get(leaf)

    # Connections.

    def on_open(self, side: Side, kind: DialKind = DialKind.OUTBOUND) -> bool:
        now = self.events.now
        link = Link(self._next_id + 1, side, Session(now), since=now, heard=now, pinged=now, kind=kind)
        older = next((item for item in self.links.values() if item.node_key == link.node_key), None)
        if self.doors.refuses(link) or (older is not None and not self._keeps_newer(link, older)):
            return False
        if side.inbound and older is None and not self.doors.has_room(self._make_room):
            return False
        if older is not None:
            self._end(older, Reason.DUPLICATE_CONNECTION, "a newer connection replaces this one")
        self._next_id = link.id
        self.links[link.id] = link
        if side.inbound:
            self.doors.hear_of(link)
        self.perform(self.sync.on_connected(link.id, now, outbound=not side.inbound))
        self.perform(self.relay.on_connected(link.id, self.mempool.pool.leaves()))
        if side.dialed is not None:
            link.allowance.on_asked()
            self.perform([Send(link.id, wire.GetAddresses())])
        return True

    def _keeps_newer(self, link: Link, older: Link) -> bool:
        opener, other = (link.node_key, self.key) if link.side.inbound else (self.key, link.node_key)
        return newer_stays(
            older_seconds=link.since - older.since,
            same_way=link.side.inbound == older.side.inbound,
            opener=opener,
            other=other,
        )

    def _make_room(self, link: Link) -> None:
        self._end(link, Reason.TOO_MANY_CONNECTIONS, "another connection took this place")

    def link_of(self, side: Side) -> Link | None:
        return next((link for link in self.links.values() if link.side is side), None)

    def on_closed(self, side: Side) -> None:
        link = self.link_of(side)
        if link is not None:
            self._forget(link)

    def _forget(self, link: Link) -> None:
        if self.links.pop(link.id, None) is None:
            return
        now = self.events.now
        self.doors.on_ended(link)
        self.perform(self.sync.on_disconnected(link.id, now))
        self.perform(self.relay.on_disconnected(link.id, now))

    def _end(self, link: Link, reason: str, detail: str) -> None:
        if link.side.open:
            self.events.note("close", self.name, link.side.other.host.name, reason)
            link.side.close(disconnect_frame(reason, detail))
        self._forget(link)

    def _punish(self, link: Link, reason: str, detail: str) -> None:
        other = link.side.other
        is_ban = self.doors.on_offence(link, reason, detail)
        self.events.note("ban" if is_ban else "offence", self.name, other.host.name, reason)
        self.world.on_offence(self, other.host, reason, detail, is_ban=is_ban)

    # Messages.

    def on_frame(self, side: Side, frame: bytes) -> None:
        link = self.link_of(side)
        if link is None:
            return
        now = link.heard = self.events.now
        try:
            message = link.session.incoming(frame, now)
        except PeerFault as fault:
            self._punish(link, fault.reason, fault.message)
            self._end(link, fault.reason, fault.message)
            return
        match message:
            case wire.Ping():
                self._queue(link, wire.Pong(nonce=message.nonce))
            case wire.Disconnect():
                link.side.close()
                self._forget(link)
            case _:
                self.perform(self._dispatch(link, message))

    def _dispatch(self, link: Link, message: wire.Message) -> list[Action]:
        found = hand_to_machines(
            self.sync, self.relay, link.id, message, now=self.events.now, now_ms=self.now_ms
        )
        if found is not None:
            return found
        match message:
            case wire.GetAddresses():
                return [Send(link.id, self.doors.answer(link))]
            case wire.Addresses():
                self.doors.on_addresses(link, message)
        return []

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out what a machine asked for, as the hub does."""
        for action in actions:
            link = self.links.get(action.peer)
            match action:
                case BlockReady() | StatementReceived():
                    self.take_in(action)
                case Send() if link is not None:
                    self._queue(link, action.message)
                case Punish() if link is not None:
                    self._punish(link, action.reason, action.detail)
                    self._end(link, Reason.MISBEHAVIOUR, f"{action.reason}: {action.detail}"[:200])
                case Drop() if link is not None:
                    self._end(link, action.reason, action.detail[:200])

    def _queue(self, link: Link, message: wire.Message) -> None:
        if len(link.outbox) >= OUTBOX_MESSAGES_MAX:
            self._end(link, Reason.SLOW_READER, "too many messages wait to be read")
            return
        link.outbox.append(message)
        if len(link.outbox) == 1:
            self._pump(link)

    def _pump(self, link: Link) -> None:
        """Send what waits, as fast as the pace of each type allows."""
        while link.outbox and link.side.open:
            delay = link.session.send_delay_seconds(type(link.outbox[0]), self.events.now)
            if delay:
                self.after(delay + 0.001, partial(self._pump, link))
                return
            link.side.send(link.session.outgoing(link.outbox.popleft(), self.events.now))

    def _tick(self) -> None:
        self.after(TICK_SECONDS, self._tick)
        now = self.events.now
        for link in list(self.links.values()):
            if now - link.heard >= TIMEOUTS.idle_seconds:
                self._end(link, Reason.IDLE_TIMEOUT, "expected a message in time, got none")
            elif now - link.pinged >= TIMEOUTS.ping_interval_seconds and not link.session.awaits_pong:
                link.pinged = now
                self._queue(link, wire.Ping(nonce=self.events.random.getrandbits(64)))
        if now - self._offer_at >= REOFFER_SECONDS:
            self._offer_at = now
            self.relay.offer_again(self.mempool.pool.leaves()[:MAX_INVENTORY])
        if now - self._save_at >= SAVE_SECONDS:
            self._save_at = now
            self.work(self._save(in_order=False))
        self.perform(self.sync.on_tick(now))
        self.perform(self.relay.on_tick(now))
        self.perform(self.relay.flush())
        self.doors.dial(self.on_open)

    def _save(self, *, in_order: bool) -> Step:
        yield self.disk()
        self.doors.save(in_order=in_order)

    def next_sequence(self, author: bytes) -> int:
        """Return the sequence that the pool expects of an author."""
        fuse, self.fuse = self.fuse, None
        try:
            return self.mempool.next_sequence(author)
        finally:
            self.fuse = fuse

    # What people do with this node.

    def submit(self, statement: Statement, answer: Callable[[Submission], None]) -> None:
        """Take a statement as the API does; `answer` is called once it is durable or refused."""

        def job() -> Step:
            yield self.disk()
            taken = self.mempool.submit([statement])[0]
            if taken.queued and not taken.known:
                self.announce([taken.statement])
            freed = self.intake.orphans.take_after(taken.statement) if taken.queued else ()
            if freed:
                self.announce([item for item, error in self.intake.relay(freed) if error is None])
            answer(taken)

        self.work(job())

    def mine(self, key: LedgerKey) -> None:
        """Seal the next block if one is due."""

        def job() -> Step:
            yield 0.001
            block = self.make_block(key)
            if block is None:
                return
            self.events.note("mined", self.name, block.header.height, block.hash.hex()[:16])
            self.world.on_mined(block)
            self.recent.add(block)
            yield from self.add_blocks([block], partial(self._on_own_refused, block))

        self.work(job())

    def make_block(self, key: LedgerKey) -> Block | None:
        """Return the sealed block that follows the tip, or None before an empty one is due."""
        template = self.chain.make_template(
            self.mempool.select(), producer=key.public, now_ms=self.now_ms, verified=self.mempool.pool
        )
        due = self.chain.tree.tip.time_ms + self.chain.params.heartbeat_ms
        if not template.body.statements and template.header.time_ms < due:
            return None
        header = solve(template.header)
        return Block(seal_header(key, self.chain.network_id, header), template.body)

    def _on_own_refused(self, block: Block, block_hash: bytes, error: ConsensusError) -> None:
        if block_hash == block.hash and not isinstance(error, Temporary):
            raise Violation(f"{self.name} refused the block that it made itself: {error}")
        if block_hash != block.hash:
            self.on_block_refused(block_hash, error)
