"""A few whole nodes in one process: the real chain state, sync and relay machines on a simulated network.

Messages are encoded and decoded as on the wire, delivered in an order that a seeded generator picks, and may be
lost with a link that is cut. Time stands still unless a test moves it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from facechain.consensus.block import Block
from facechain.consensus.errors import ConsensusError
from facechain.consensus.params import Genesis
from facechain.consensus.statement import Statement
from facechain.node.chain_runner import open_tip
from facechain.node.chain_update import ChainUpdate
from facechain.node.chainstate import ChainState
from facechain.node.intake import Intake
from facechain.node.mempool import DurableMempool
from facechain.node.protocol.actions import (
    Action,
    BlockReady,
    Drop,
    Punish,
    Send,
    StatementReceived,
)
from facechain.node.protocol.presync import HeaderRules, PresyncLimits
from facechain.node.protocol.relay import Relay
from facechain.node.protocol.sync import DEFAULT_LIMITS, Synchronizer, SyncLimits
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.handshake import PROTOCOL_VERSIONS

from .chain import GENESIS_TIME_MS
from .chain import seed as seed_of
from .dispatch import hand_to_machines

FAR_FUTURE_MS = GENESIS_TIME_MS * 2


@dataclass
class SimulatedNode:
    """One node; `peers` maps a connection to the node at its other end."""

    number: int
    chain: ChainState
    sync: Synchronizer
    relay: Relay
    pool: dict[bytes, Statement] = field(default_factory=dict)
    intake: Intake | None = None
    """The real mempool's, in place of `pool`."""
    mempool: DurableMempool | None = None
    peers: dict[int, int] = field(default_factory=dict)
    sources: dict[bytes, int] = field(default_factory=dict)
    """Who delivered a block's body."""
    punished: list[tuple[int, str]] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    sent: list[tuple[int, wire.Message]] = field(default_factory=list)

    @property
    def height(self) -> int:
        return self.chain.tree.tip.height

    @property
    def tip(self) -> bytes:
        return self.chain.tree.tip.hash

    def leaves(self) -> tuple[bytes, ...]:
        """Return what waits here for a block."""
        return tuple(self.pool) if self.mempool is None else self.mempool.pool.leaves()

    def sent_of(self, kind: type[wire.Message]) -> list[wire.Message]:
        """Return what this node sent of one type."""
        return [message for _, message in self.sent if isinstance(message, kind)]


class Gossip:
    """The network; `run` delivers until nothing is under way."""

    def __init__(
        self,
        genesis: Genesis,
        count: int,
        *,
        seed: int = 0,
        limits: SyncLimits = DEFAULT_LIMITS,
        real_pools: bool = False,
        presync: PresyncLimits | None = None,
        version: int = PROTOCOL_VERSIONS[1],
    ) -> None:
        self._version = version
        self._presync = presync or PresyncLimits()
        self.now = 0.0
        self.now_ms = FAR_FUTURE_MS
        self._random = random.Random(seed)
        self._under_way: dict[tuple[int, int], deque[bytes]] = {}
        make = self._real_node if real_pools else self._node
        self.nodes = [make(number, genesis, limits) for number in range(count)]

    def _real_node(self, number: int, genesis: Genesis, limits: SyncLimits) -> SimulatedNode:
        chain = ChainState.open(MemoryStore.open(), genesis)
        mempool = DurableMempool.open(chain.store, chain.params, chain.network_id, partial(open_tip, chain))
        intake = Intake(chain, mempool)
        sync = Synchronizer(chain, intake.find, limits, self._rules(genesis, number))
        relay = Relay(intake.find, counts=sync.counts)
        return SimulatedNode(number, chain, sync, relay, intake=intake, mempool=mempool)

    def _node(self, number: int, genesis: Genesis, limits: SyncLimits) -> SimulatedNode:
        chain = ChainState.open(MemoryStore.open(), genesis)
        pool: dict[bytes, Statement] = {}
        sync = Synchronizer(chain, pool.get, limits, self._rules(genesis, number))
        return SimulatedNode(number, chain, sync, Relay(pool.get, counts=sync.counts), pool)

    def _rules(self, genesis: Genesis, number: int) -> HeaderRules:
        return HeaderRules(params=genesis.params, salt=seed_of(f"salt {number}"), limits=self._presync)

    def connect(self, left: int, right: int) -> None:
        """Open a connection; peer ids are the other node's number."""
        for here, there in ((left, right), (right, left)):
            node = self.nodes[here]
            node.peers[there] = there
            self.perform(node, node.sync.on_connected(there, self.now, version=self._version))
            self.perform(node, node.relay.on_connected(there, node.leaves()))

    def cut(self, left: int, right: int) -> None:
        """Lose a connection and all that is under way on it."""
        for here, there in ((left, right), (right, left)):
            node = self.nodes[here]
            self._under_way.pop((here, there), None)
            if node.peers.pop(there, None) is not None:
                self.perform(node, node.sync.on_disconnected(there, self.now))
                self.perform(node, node.relay.on_disconnected(there, self.now))

    def give(self, number: int, *blocks: Block) -> None:
        """Hand blocks to a node as its own miner would."""
        node = self.nodes[number]
        for block in blocks:
            self._connect(node, BlockReady(block, -1))

    def submit(self, number: int, *statements: Statement) -> None:
        """Hand statements to a node as a submitter would."""
        self._admit(self.nodes[number], statements)

    def perform(self, node: SimulatedNode, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    if action.peer in node.peers:
                        node.sent.append((action.peer, action.message))
                        queue = self._under_way.setdefault((node.number, action.peer), deque())
                        queue.append(encode(action.message))
                case BlockReady():
                    self._connect(node, action)
                case StatementReceived():
                    self._admit(node, (action.statement,))
                case Punish():
                    node.punished.append((action.peer, action.reason))
                    self.cut(node.number, action.peer)
                case Drop():
                    node.dropped.append((action.peer, action.reason))
                    self.cut(node.number, action.peer)

    def _admit(self, node: SimulatedNode, statements: Iterable[Statement]) -> None:
        if node.intake is None:
            node.pool.update({statement.leaf: statement for statement in statements})
            taken = list(statements)
        else:
            taken = [statement for statement, error in node.intake.relay(statements) if error is None]
        node.relay.on_checked(statements)
        for statement in taken:
            node.relay.on_accepted(statement)
        self.perform(node, node.relay.flush())

    def _connect(self, node: SimulatedNode, ready: BlockReady) -> None:
        node.sources[ready.block.hash] = ready.peer
        try:
            update = node.chain.accept_block(ready.block, now_ms=self.now_ms)
        except ConsensusError as error:
            node.punished.append((ready.peer, error.code))
            return
        node.punished += [(node.sources[refused], reason.code) for refused, reason in update.refused]
        if update.connected:
            self.perform(node, node.sync.announce(update.connected[-1]))
        if node.mempool is not None:
            node.mempool.on_update(connected=update.connected, disconnected=update.disconnected)
        for block in update.connected:
            for statement in block.body.statements:
                node.pool.setdefault(statement.leaf, statement)
        self.perform(node, node.sync.on_tip_changed(self.now))
        self._offer_returned(node, update)

    def _offer_returned(self, node: SimulatedNode, update: ChainUpdate) -> None:
        """Tell peers of statements that a reorganisation put back into the pool, as the hub does."""
        waiting = set(node.leaves())
        for block in update.disconnected:
            for statement in block.body.statements:
                if statement.leaf in waiting:
                    node.relay.on_accepted(statement)
        self.perform(node, node.relay.flush())

    def run(self, steps: int = 100_000, *, all_delivered: bool = True) -> None:
        """Deliver messages in random order (in order on each connection) until all, or `steps`, are delivered."""
        for _ in range(steps):
            busy = sorted(link for link, queue in self._under_way.items() if queue)
            if not busy:
                return
            sender, receiver = self._random.choice(busy)
            self._deliver(sender, receiver, self._under_way[sender, receiver].popleft())
        if not all_delivered:
            return
        raise AssertionError(f"messages are still under way after {steps} steps")

    def tick(self, seconds: float) -> None:
        """Let time pass and the machines act on their deadlines, then deliver."""
        self.now += seconds
        for node in self.nodes:
            self.perform(node, node.sync.on_tick(self.now))
            self.perform(node, node.relay.on_tick(self.now))
        self.run()

    def _deliver(self, sender: int, receiver: int, frame: bytes) -> None:
        node = self.nodes[receiver]
        if sender not in node.peers:
            return
        message = decode(frame)
        actions = hand_to_machines(node.sync, node.relay, sender, message, now=self.now, now_ms=self.now_ms)
        if actions is None:
            raise AssertionError(f"no machine takes {message}")
        self.perform(node, actions)
