"""A whole node on the simulated network: `service.Node` itself, in a process of its own.

Everything from the composition root down is the node's own code, on an event loop in virtual time (`process`): hub,
dialer, chain runner, mempool, machines, connections with their queues. What comes from outside is the simulation's
(`ambient`): clock, chance, sockets; no HTTP API; and a store that keeps what was committed. Work of threads takes time,
and messages come in meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from facechain.consensus.block import Block, seal_header
from facechain.consensus.chain import UNLIMITED_REORG
from facechain.consensus.errors import ConsensusError, RuleViolation, Temporary
from facechain.consensus.signing import LedgerKey, NodeKey
from facechain.consensus.statement import Statement
from facechain.consensus.upgrade import UpgradeNeeded
from facechain.node.chain_update import ChainUpdate
from facechain.node.chainstate import ChainPolicy, ChainState
from facechain.node.config import NodeConfig
from facechain.node.config_kinds import Endpoint as Address
from facechain.node.intake import Intake
from facechain.node.mempool import Drop, DurableMempool, Submission
from facechain.node.peer_link import PeerLink
from facechain.node.protocol.actions import PeerId
from facechain.node.protocol.peer_bans import BanList
from facechain.node.protocol.peer_book import AddressBook
from facechain.node.protocol.relay import Relay
from facechain.node.protocol.sync import Synchronizer
from facechain.node.service import Node, NodeKeys
from facechain.node.store.errors import StoreError, StoreFull
from facechain.node.store.memory import MemoryStore, Operation
from support.chain import seed, solve

from .ambient import START_MS
from .events import MS, Violation
from .links import Crash, Endpoint, Host, Side
from .process import ProcessLoop
from .sockets import PORT, SimListener, SimSocket
from .versions import KNOWN

if TYPE_CHECKING:
    from .world import World

MAX_OUTBOUND: Final = 3
MAX_INBOUND: Final = 5
"""Fewer than a node's own, so that a run fills them and connections have to make room."""
DISK_SECONDS: Final = 0.004
THREAD_SECONDS: Final = 0.001
"""Mean time of a commit, and of other work in a thread."""
TELL_SECONDS: Final = 10.0
"""A write that failed is told by then, however slow the disk is."""
SOCKETS_KEPT: Final = 64

_WRITES: Final = frozenset((Operation.PUT, Operation.COMMIT))
"""What a full disk fails at."""


class SimNode(Host):
    """See the module's text."""

    reads_at_once = False

    def __init__(
        self,
        world: World,
        number: int,
        *,
        mining_key: LedgerKey | None,
        manual: Sequence[Endpoint],
        max_reorg: int,
        wire_version: int,
        versions: frozenset[int] = KNOWN,
    ) -> None:
        """`versions` of the protocol are those that its release knows."""
        endpoint, identity = (f"10.{number}.0.1", PORT), NodeKey.from_seed(seed(f"node {number}"))
        super().__init__(world.events, f"n{number}", endpoint, identity.public)
        self.world = world
        self.mining_key = mining_key
        self.wire_version = wire_version
        self.versions = versions
        self.max_reorg = max_reorg
        self.disk_seconds = DISK_SECONDS
        self.disk_is_full = False
        self.refused_since: float | None = None
        """When a write failed first since its disk is full, or the process started."""
        self.fuse: int | None = None
        """Operations of the store until this process dies; None as long as it shall live."""
        self.crashes = 0
        self.store = MemoryStore.open()
        self.listener: SimListener | None = None
        self._keys = NodeKeys(identity=identity, mining=None, api_token="")
        self._config = NodeConfig(
            data_dir=Path("/nonexistent"),
            listen=Address(host=endpoint[0], port=PORT),
            peers=tuple(Address(host=host, port=port) for host, port in manual),
            max_inbound=MAX_INBOUND,
            max_outbound=MAX_OUTBOUND,
            wire_version=wire_version,
        )
        self.headers_before: frozenset[bytes] = frozenset()
        """Headers that were in the store when this life began."""
        self.headers_seen: frozenset[bytes] = frozenset()
        """Headers that were here at the last check."""
        self.equivocators: set[bytes] = set()
        """Keys of which this node knows two blocks on one parent."""
        self._sockets: dict[Side, SimSocket] = {}
        self._loops: list[ProcessLoop] = []
        self._is_aside = False

    # What others look at.

    @property
    def now_ms(self) -> int:
        """What this node's clock shows."""
        return START_MS + int(self.events.now * MS) + self.skew_ms

    @property
    def chain(self) -> ChainState:
        return self.node.chain

    @property
    def tip(self) -> bytes:
        return self.chain.tree.tip.hash

    @property
    def mempool(self) -> DurableMempool:
        return self.node.runner.mempool

    @property
    def intake(self) -> Intake:
        return self.node.runner.intake

    @property
    def sync(self) -> Synchronizer:
        return self.node.hub.sync

    @property
    def relay(self) -> Relay:
        return self.node.hub.relay

    @property
    def links(self) -> Mapping[PeerId, PeerLink]:
        return self.node.hub.links

    @property
    def book(self) -> AddressBook:
        return self.node.peering.book

    @property
    def bans(self) -> BanList:
        return self.node.peering.bans

    @property
    def sides(self) -> Iterable[Side]:
        """The ends of connections that this process has or had lately."""
        return self._sockets.keys()

    def is_banned(self, key: bytes) -> bool:
        """Tell whether a node key is kept out now."""
        return self.bans.find("", key, self.now_ms) is not None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Look at the store as nobody of this process: no fuse burns, and a dead one may be looked at."""
        before, self._is_aside = self._is_aside, True
        try:
            yield
        finally:
            self._is_aside = before

    def next_sequence(self, author: bytes) -> int:
        """Return the sequence that the pool expects of an author."""
        with self.aside():
            return self.mempool.next_sequence(author)

    # Life and death.

    def start(self) -> None:
        """Start the process on what was committed before."""
        self.life += 1
        self.up = True
        self.frozen = False
        self.enter(self.life, self._boot)

    def _boot(self) -> None:
        self.refused_since = None
        self.store = self.store.reopen(on_operation=partial(self._on_operation, self.life))
        self._sockets.clear()
        self.equivocators.clear()
        self._is_mining = False
        self._loops = [loop for loop in self._loops if not loop.is_closed()]
        self.loop = ProcessLoop(self, work_seconds=self._work_seconds)
        self._loops.append(self.loop)
        try:
            chain = ChainState.open(self.store, self.world.genesis, self._policy(), versions=self.versions)
            self.node = Node(self._config, self._keys, self.store, chain)
        except StoreError as error:
            if not self.disk_is_full:
                raise Violation(f"{self.name} does not start: {error}") from error
            self.events.note("no start", self.name)
            self.on_crash()
            return
        self.node.runner.subscribe(self._on_update)
        self.headers_before = frozenset(chain.tree.nodes)
        self.headers_seen = self.headers_before
        self._stop = asyncio.Event()
        self.events.note("start", self.name, self.tip.hex()[:16], len(self.mempool.pool))
        self.world.on_tip(self)
        needed = chain.upgrade_needed()
        if needed is not None:  # as `Node.open` does
            self._on_outdated(needed)
            return
        self.world.network.on_start(self)
        self.loop.create_task(self.node.run(self._stop), name="node").add_done_callback(
            partial(self._on_ended, self.life)
        )

    def _policy(self) -> ChainPolicy:
        return ChainPolicy(max_reorg=self.max_reorg)

    def _work_seconds(self, executor: object) -> float:
        return self.events.exponential(THREAD_SECONDS if executor is None else self.disk_seconds)

    def _on_ended(self, life: int, task: asyncio.Task[None]) -> None:
        """The node's own end, in order or not."""
        if life != self.life:
            return
        error = None if task.cancelled() else task.exception()
        if isinstance(error, UpgradeNeeded):
            self._on_outdated(error)
            return
        if error is not None or not self._stop.is_set():
            self.events.fail(Violation(f"{self.name} ended by itself: {error!r}"))
        self.kill(silent=True)

    def _on_outdated(self, needed: UpgradeNeeded) -> None:
        """This release goes no further."""
        self.world.oracle.versions.on_stop(self, needed)
        self.events.note("outdated", self.name, needed.version, needed.height)
        self.kill(silent=True)
        self.world.on_outdated(self, needed)

    def install(self, versions: frozenset[int]) -> None:
        """Let the operator install another release, which is not started here."""
        if versions == self.versions:
            return
        if self.up:
            self.kill(silent=False)
        self.versions = versions

    def kill(self, *, silent: bool) -> None:
        """End the process at once: what was not committed is gone."""
        self.events.note("kill", self.name, silent)
        self.life += 1
        self.up = False
        self.fuse = None
        self.crashes += 1
        self.disturbed = self.events.now
        self.listener = None
        self._deferred.clear()
        self.world.network.on_death(self, silent=silent)
        self.loop.end()

    def stop(self) -> None:
        """End the process in order: what is known of peers is saved, and peers are told."""
        self.enter(self.life, self._stop.set)

    def bury(self) -> None:
        """The run is over: let no task of any life be left."""
        self.up = False
        self.life += 1
        for loop in self._loops:
            loop.bury()

    def check_trouble(self) -> None:
        """What the disk refused is told, and what was committed is still read."""
        told, since = self.node.store_trouble(), self.refused_since
        is_late = since is not None and self.events.now - since > TELL_SECONDS
        if is_late and (told is None or StoreFull.code not in told.reason):
            raise Violation(f"{self.name}: writes fail since {since:.1f}, got {told} told of it")
        with self.chain.snapshot() as reader:
            if reader.tip_hash() != self.tip:
                raise Violation(f"{self.name} reads another tip than it follows while its disk is full")

    def lift_limit(self) -> None:
        """Let the operator allow any reorganisation: he was told of a chain that is refused, or there is none."""
        if self.max_reorg == UNLIMITED_REORG:
            return
        if self.up and not self.frozen:
            self._check_alarm()
            self.kill(silent=False)
        self.max_reorg = UNLIMITED_REORG

    def _check_alarm(self) -> None:
        if self.chain.refused_candidates() and self.node.reorgs.alarm is None:
            raise Violation(f"{self.name} refuses a chain with more work and told nobody")

    def wipe(self) -> None:
        """Forget all that was ever stored; the process must not run."""
        if self.up:
            raise ValueError(f"{self.name}: expected a process that ended, got a running one")
        self.store = MemoryStore.open()

    def on_crash(self) -> None:
        """The process dies at this instruction."""
        self.kill(silent=False)
        self.world.on_crash(self)

    def _on_operation(self, life: int, operation: Operation) -> None:
        if self._is_aside:
            return
        if life != self.life or not self.up:
            raise Crash
        if self.disk_is_full and operation in _WRITES:
            self.refused_since = self.refused_since or self.events.now
            raise StoreFull("expected room on the disk, got none; make room")
        if self.fuse is None:
            return
        self.fuse -= 1
        if self.fuse <= 0:
            self.on_crash()
            raise Crash

    def _on_update(self, _update: ChainUpdate, _drops: Sequence[Drop]) -> None:
        self.world.on_tip(self)

    def on_offence(self, key: bytes, reason: str, detail: str, *, is_ban: bool) -> None:
        """A peer was punished by this node."""
        other = self.world.by_key.get(key)
        self.events.note(
            "ban" if is_ban else "offence", self.name, other.name if other else key.hex(), reason
        )
        if self.up:
            self.world.on_offence(self, other, reason, detail, is_ban=is_ban)

    # Connections.

    def socket_of(self, side: Side) -> SimSocket:
        """Return this process's socket of a connection."""
        if side not in self._sockets:
            if len(self._sockets) >= SOCKETS_KEPT:
                self._sockets = {key: value for key, value in self._sockets.items() if key.open}
            self._sockets[side] = SimSocket(side)
        return self._sockets[side]

    def on_open(self, side: Side) -> bool:
        return self.listener is not None and self.listener.accept(side)

    def on_frame(self, side: Side, frame: bytes) -> None:
        self.socket_of(side).push(frame)

    def on_closed(self, side: Side) -> None:
        self.socket_of(side).wake()

    def on_room(self, side: Side) -> None:
        self.socket_of(side).wake()

    # What people do with this node.

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something in this process."""
        self.loop.create_task(work, name=name).add_done_callback(partial(self._on_done, self.life))

    def _on_done(self, life: int, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if life == self.life and isinstance(error, Violation):
            self.events.fail(error)
        elif life == self.life and error is not None:
            self.events.fail(Violation(f"{self.name}: {task.get_name()} failed: {error!r}"))

    def submit(self, statement: Statement, answer: Callable[[Submission], None]) -> None:
        """Take a statement as the API does; `answer` is called once it is durable or refused."""
        self.spawn(self._submit(statement, answer), "submit")

    async def _submit(self, statement: Statement, answer: Callable[[Submission], None]) -> None:
        try:
            taken = await self.node.submit([statement])
        except StoreError as error:
            self.events.note("unavailable", self.name, error.code)
            return
        answer(taken[0])

    def mine(self, key: LedgerKey) -> None:
        """Seal the next block if one is due; a miner makes one at a time, and none while the store fails."""
        if not self._is_mining and self.node.store_trouble() is None:
            self._is_mining = True
            self.spawn(self._mine(key), "mine")

    async def _mine(self, key: LedgerKey) -> None:
        try:
            await self._mine_one(key)
        finally:
            self._is_mining = False

    async def _mine_one(self, key: LedgerKey) -> None:
        try:
            block = await self._make_block(key)
        except (StoreError, RuleViolation, UpgradeNeeded) as error:
            # The disk fails, the key was revoked, or the node is about to stop.
            self.events.note("no template", self.name, error.code)
            return
        if block is None:
            return
        self.events.note("mined", self.name, block.header.height, block.hash.hex()[:16])
        self.world.on_mined(block)
        try:
            await self.node.submit_block(block)
        except StoreError as error:
            self.events.note("unavailable", self.name, error.code)
        except Temporary:
            pass
        except ConsensusError as error:
            raise Violation(f"{self.name} refused the block that it made itself: {error}") from error

    async def _make_block(self, key: LedgerKey) -> Block | None:
        """Return the sealed block that follows the tip, or None before an empty one is due."""
        template = await self.node.build_template(producer=key.public, now_ms=self.now_ms)
        parent = self.chain.tree.nodes[template.header.previous]
        due = parent.time_ms + self.chain.params.heartbeat_ms
        if not template.body.statements and template.header.time_ms < due:
            return None
        header = solve(template.header)
        return Block(seal_header(key, self.chain.network_id, header), template.body)
