"""A node: the one place where all its parts are built and run together.

Owns start-up, the task group in which everything runs, and shutdown. It is the `NodePort` of the
HTTP API. Every other module of the node is handed what it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from .. import __version__
from ..consensus.block import Block
from ..consensus.params import Genesis
from ..consensus.signing import LedgerKey, NodeKey
from ..consensus.statement import Statement
from ..consensus.upgrade import SUPPORTED_VERSIONS
from .api.access import AdminAccess
from .api.context import ApiConfig
from .api.events import EventHub, ReceiptChanged, StoreChanged, TipChanged
from .api.port import NodeStatus, PeerInfo, StoreTrouble
from .api.server import ApiServer
from .chain_runner import ChainRunner
from .chain_update import ChainUpdate
from .chainstate import ChainPolicy, ChainState
from .config import NodeConfig
from .config_kinds import Endpoint
from .mempool import Drop, Mempool, Submission
from .mining.controller import MinerController, MiningSituation, mining_situation
from .mining.workers import HashlibWorkers
from .peer_admin import PeerAdmin
from .peering import Peering
from .protocol.equivocation import Equivocations
from .protocol.sync_progress import BlockRate
from .reorg_watch import ReorgWatch
from .store.errors import StoreError
from .store.lmdb_store import LmdbStore
from .store.port import Store
from .stored_block import whole
from .template import Template
from .version_watch import VersionWatch
from .wire.handshake import PROTOCOL_VERSIONS, LocalNode

RATE_WINDOW_SECONDS = 10.0
"""Blocks per second are those of this long a time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKeys:
    """The keys that a running node holds."""

    identity: NodeKey
    mining: LedgerKey | None
    api_token: str
    admin_token: str = ""
    """Of the routes that change peers; empty: nobody may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a running node can be reached, once its ports are open."""

    peer: Endpoint
    api: Endpoint


def clock_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class SystemClock:
    """The miner's clock."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return clock_ms()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Node:
    """See the module's text. Built with :meth:`open`, then `run` until the stop event is set."""

    def __init__(self, config: NodeConfig, keys: NodeKeys, store: Store, chain: ChainState) -> None:
        """Put the parts together; nothing runs yet."""
        self.config = config
        self._keys = keys
        self._store = store
        self.chain = chain
        self.runner = ChainRunner.open(chain, clock_ms)
        self.peering = Peering(
            config=config, store=store, runner=self.runner, own_key=keys.identity.public, clock_ms=clock_ms
        )
        self.hub = self.peering.hub
        self.events = EventHub()
        self.workers = HashlibWorkers(config.mining_workers) if config.mine and keys.mining else None
        self.miner = self._build_miner()
        self._rate = BlockRate(RATE_WINDOW_SECONDS, time.monotonic())
        self.version_watch = VersionWatch(chain)
        self.reorgs = ReorgWatch(
            chain, deep_blocks=config.deep_reorg, now_ms=clock_ms, tell=self.events.publish
        )
        self._started = time.monotonic()
        self.runner.subscribe(self._on_update)
        self.runner.subscribe(self.reorgs.on_update)
        self.runner.on_blocks = self.reorgs.look
        self.reorgs.look()
        self.runner.on_trouble = self._on_trouble
        self.hub.work.equivocations.tell = self.events.publish
        if self.miner is not None:
            self.hub.work.on_admitted = self.miner.on_statements

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        config: NodeConfig,
        genesis: Genesis,
        keys: NodeKeys,
        *,
        versions: Collection[int] = SUPPORTED_VERSIONS,
    ) -> Iterator[Node]:
        """Open the data directory's store and chain; closed at the end of the context.

        Raises:
            StoreError: the store is in use, damaged, or of another version.
            ChainMismatch: it holds another network.
            UpgradeNeeded: the next block's protocol version is not among `versions`.
        """
        policy = ChainPolicy(
            max_reorg=config.max_reorg,
            pinned={item.height: item.block_hash for item in config.checkpoints},
            minimum_chainwork=config.minimum_chainwork,
        )
        with LmdbStore.open(config.layout.store) as store:
            chain = ChainState.open(store, genesis, policy, versions=versions)
            needed = chain.upgrade_needed()
            if needed is not None:
                raise needed
            yield cls(config, keys, store, chain)

    def _build_miner(self) -> MinerController | None:
        if self.workers is None or self._keys.mining is None:
            return None
        return MinerController(
            key=self._keys.mining,
            network_id=self.chain.network_id,
            params=self.chain.params,
            chain=self,
            search=self.workers,
            clock=SystemClock(),
        )

    # Running.

    async def run(self, stop: asyncio.Event, started: asyncio.Future[Addresses] | None = None) -> None:
        """Open the ports and work until ``stop`` is set; ``started`` is told the addresses.

        Raises:
            ListenFailed: a port is taken.
            WrongNetworkPeers: no peer of `--peers` belongs to this network.
            UpgradeNeeded: the chain came to a protocol version that this node does not know.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.runner)
            stack.push_async_callback(self.peering.save_last)
            local = self._local(self.config.listen.port)
            listener = await stack.enter_async_context(self.peering.listener(local))
            api = await stack.enter_async_context(self._api())
            listen = Endpoint(host=self.config.listen.host, port=listener.port)
            addresses = Addresses(peer=listen, api=Endpoint(host=self.config.api.host, port=api.port))
            _log.info("network %s (%s)", self.chain.genesis.name, self.chain.network_id.hex())
            _log.info("peers at %s, API at http://%s", addresses.peer, addresses.api)
            if started is not None:
                started.set_result(addresses)
            if self.workers is not None:
                await stack.enter_async_context(self.workers)
            stack.push_async_callback(self.hub.close)
            await self._work(stop, listener.port)
            self.events.close()
            _log.info("stopping at height %d", self.chain.tree.tip.height)

    async def _work(self, stop: asyncio.Event, port: int) -> None:
        """Run every long task until ``stop`` is set or one of them fails."""
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self.peering.run(self._local(port)), name="peers"),
                    tasks.create_task(self.version_watch.run(), name="version watch"),
                ]
                if self.miner is not None:
                    running.append(tasks.create_task(self._mine(self.miner), name="miner"))
                await stop.wait()
                for task in running:
                    task.cancel()
        except BaseExceptionGroup as group:
            raise _first_cause(group) from group

    def _local(self, port: int) -> LocalNode:
        advertised = self.config.advertise.port if self.config.advertise else port
        return LocalNode(
            key=self._keys.identity,
            network_id=self.chain.network_id,
            user_agent=f"facechain/{__version__}",
            listen_port=advertised,
            versions=(PROTOCOL_VERSIONS[0], self.config.wire_version),
        )

    def _api(self) -> ApiServer:
        return ApiServer(
            self,
            ApiConfig(
                host=self.config.api.host,
                port=self.config.api.port,
                token=self._keys.api_token,
                read_token=self.config.api_read_token,
                admin=AdminAccess(token=self._keys.admin_token, networks=self.config.api_admin),
                objects=self.config.data_dir / "objects",
            ),
        )

    async def _mine(self, miner: MinerController) -> None:
        """Mine; while the store fails, wait."""
        while True:
            await self.runner.until_it_works()
            try:
                await miner.run()
            except StoreError as error:
                _log.warning("mining waits for the store: %s", error)

    # What happens.

    def _on_update(self, update: ChainUpdate, drops: Sequence[Drop]) -> None:
        tip = self.chain.tree.tip
        self._rate.note(len(update.connected), time.monotonic())
        statements = len(update.connected[-1].body.statements) if update.connected else 0
        self.events.publish(
            TipChanged(
                height=tip.height,
                hash=tip.hash,
                time_ms=tip.time_ms,
                statements=statements,
                disconnected=len(update.disconnected),
            )
        )
        for block in whole(update.connected):
            for statement in block.body.statements:
                self.events.publish(
                    ReceiptChanged(id=statement.id, receipt="sealed", height=block.header.height)
                )
        for drop in drops:
            self.events.publish(ReceiptChanged(id=drop.id, receipt="refused", code=drop.code))
        if update.disconnected:
            _log.warning(
                "reorganised: %d blocks off, %d on, tip %d %s",
                len(update.disconnected),
                len(update.connected),
                tip.height,
                tip.hash.hex(),
            )
        else:
            _log.info("tip %d %s (%d statements)", tip.height, tip.hash.hex()[:16], statements)
        self.version_watch.on_tip()
        if self.miner is not None:
            self.miner.on_new_tip(tip.hash)

    def _on_trouble(self) -> None:
        trouble = self.store_trouble()
        reason = None if trouble is None else trouble.reason
        self.events.publish(StoreChanged(ok=trouble is None, reason=reason))

    # The port of API and miner.

    @property
    def pool(self) -> Mempool:
        """The statements that wait; to be read only."""
        return self.runner.mempool.pool

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return clock_ms()

    @property
    def equivocations(self) -> Equivocations:
        """Keys that said two things in one place."""
        return self.hub.sync.equivocations

    @property
    def peer_control(self) -> PeerAdmin:
        """What the operator may do about peers."""
        return self.peering.admin

    def holders(self, leaf: bytes) -> int:
        """Return how many peers are known to hold a statement."""
        return self.hub.relay.holders(leaf)

    async def settled(self) -> None:
        """Wait until no change of chain and mempool is half-way."""
        await self.runner.call(lambda: None)

    async def submit(self, statements: Sequence[Statement]) -> Sequence[Submission]:
        """Take statements into the durable mempool and tell peers.

        Raises:
            StoreError: the store fails, and nothing was acknowledged.
        """
        self.runner.check_works()
        answers = await self.runner.submit(statements)
        self.hub.announce_statements(item.statement for item in answers if item.queued and not item.known)
        await self.hub.work.equivocations.on_submitted(answers)
        if self.miner is not None and answers:
            self.miner.on_statements()
        return answers

    async def mining_situation(self, producer: bytes) -> MiningSituation:
        """Return what the tip says about the next block by ``producer``, once the store works."""
        await self.runner.until_it_works()

        def look() -> MiningSituation:
            with self.chain.view() as view:
                return mining_situation(
                    self.chain.tree,
                    view,
                    self.chain.params,
                    producer=producer,
                    has_statements=bool(self.pool),
                )

        return await self.runner.call(look)

    async def build_template(self, *, producer: bytes, now_ms: int) -> Template:
        """Build the next block on the tip; raises ConsensusError when that cannot be."""
        return await self.runner.template(producer, now_ms)

    async def submit_block(self, block: Block) -> ChainUpdate:
        """Take a block that this node sealed."""
        return await self.hub.submit_block(block)

    def status(self) -> NodeStatus:
        """Return what only the running node knows."""
        sync, now = self.hub.sync, time.monotonic()
        behind = sync.behind()
        return NodeStatus(
            version=__version__,
            node_key=self._keys.identity.public,
            uptime_seconds=now - self._started,
            best_known_height=behind.height,
            syncing=sync.is_behind(),
            progress=behind.progress,
            blocks_per_second=self._rate.per_second(now),
            eta_seconds=self._rate.eta_seconds(behind.blocks, now),
            behind_by=behind.blocks,
            bodies_missing=behind.bodies,
            headers_checked=behind.checked_height,
            relay=sync.counts,
            mining=self.miner is not None,
            hash_rate=0.0 if self.workers is None else self.workers.hashes_per_second,
        )

    def store_trouble(self) -> StoreTrouble | None:
        """Return why the store takes no changes; None while it does."""
        trouble = self.runner.trouble
        if trouble is None:
            return None
        return StoreTrouble(reason=trouble.diagnostics(), since_ms=self.runner.trouble_since_ms)

    def peers(self) -> Sequence[PeerInfo]:
        """Return the connected peers."""
        now = time.monotonic()
        return [
            PeerInfo(
                node_key=link.node_key,
                address=f"{link.connection.remote[0]}:{link.connection.remote[1]}",
                inbound=link.dialed is None,
                kind=link.kind_name,
                height=link.claimed_height,
                user_agent=link.connection.peer.user_agent,
                connected_seconds=now - link.since,
                bytes_received=sum(link.connection.session.received_bytes.values()),
                bytes_sent=sum(link.connection.session.sent_bytes.values()),
                ping_ms=_milliseconds(link.connection.session.round_trip_seconds),
                announces_with_leaves=self.hub.sync.announces_with_leaves(link.id),
                pruned_below=self.hub.sync.pruned_below(link.id),
            )
            for link in self.hub.links.values()
        ]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception inside nested groups."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
