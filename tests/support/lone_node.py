"""A node without a network: a real chain and mempool in memory, and blocks sealed on demand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from facechain.consensus.block import Block, seal_header
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import AnyPayload
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import NEVER_EXPIRES, BatchHeader, Statement, sign_statement
from facechain.node.api.events import EventHub, ReceiptChanged, TipChanged
from facechain.node.api.port import NodeStatus, PeerInfo, StoreTrouble
from facechain.node.chain_runner import ChainRunner
from facechain.node.chain_update import ChainUpdate
from facechain.node.chainstate import ChainState
from facechain.node.equivocation_watch import EquivocationWatch
from facechain.node.mempool import Drop, Mempool, MempoolLimits, Submission
from facechain.node.peer_admin import PeerAdmin
from facechain.node.peer_door import PeerDoor
from facechain.node.protocol.equivocation import Equivocations
from facechain.node.protocol.peer_bans import BanList
from facechain.node.reorg_watch import ReorgWatch
from facechain.node.store.memory import MemoryStore
from facechain.node.template import Template
from support.chain import KIND_OF, PRODUCER, make_genesis, seed, solve
from support.peer_books import make_book


@dataclass
class Clock:
    """Time that moves when it is told to."""

    now_ms: int


@dataclass
class LoneNode:
    """Satisfies `NodePort`. Enter it, `submit`, `seal`."""

    genesis: Genesis = field(default_factory=lambda: make_genesis(heartbeat_ms=0))
    limits: MempoolLimits = field(default_factory=MempoolLimits)
    deep_blocks: int = 2
    """Depth from which a reorganisation raises the alarm."""

    def __post_init__(self) -> None:
        self.clock = Clock(self.genesis.time_ms)
        self.events = EventHub()
        self.connected: list[PeerInfo] = []
        self.held_by: dict[bytes, int] = {}
        self.saves = 0
        door = PeerDoor(book=make_book(), bans=BanList(), clock_ms=self.now_ms, max_inbound=0)
        self.peer_control = PeerAdmin(
            door=door, links={}, end=self._end, clock_ms=self.now_ms, save=self._save_peers
        )
        self._sequences: dict[bytes, int] = {}

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        store = self._stack.enter_context(MemoryStore.open())
        self.chain = ChainState.open(store, self.genesis)
        runner = ChainRunner.open(self.chain, self.now_ms, self.limits)
        self.runner = await self._stack.enter_async_context(runner)
        self.runner.subscribe(self._on_update)
        self.reorgs = ReorgWatch(
            self.chain, deep_blocks=self.deep_blocks, now_ms=self.now_ms, tell=self.events.publish
        )
        self.runner.subscribe(self.reorgs.on_update)
        self.runner.on_blocks = self.reorgs.look
        self.equivocations = Equivocations()
        self.watch = EquivocationWatch(
            chain=self.chain, pool=self.pool, found=self.equivocations, now_ms=self.now_ms
        )
        self.watch.tell = self.events.publish
        self.runner.subscribe(self.watch.on_update)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def pool(self) -> Mempool:
        return self.runner.mempool.pool

    def now_ms(self) -> int:
        return self.clock.now_ms

    def status(self) -> NodeStatus:
        return NodeStatus(
            version="0.0.1",
            node_key=seed("node"),
            uptime_seconds=1.5,
            best_known_height=self.chain.tree.tip.height,
            syncing=False,
            progress=1.0,
            blocks_per_second=0.0,
            eta_seconds=None,
            mining=False,
            hash_rate=0.0,
        )

    def store_trouble(self) -> StoreTrouble | None:
        trouble = self.runner.trouble
        if trouble is None:
            return None
        return StoreTrouble(reason=trouble.diagnostics(), since_ms=self.runner.trouble_since_ms)

    def peers(self) -> Sequence[PeerInfo]:
        return self.connected

    def holders(self, leaf: bytes) -> int:
        return self.held_by.get(leaf, 0)

    async def _save_peers(self) -> None:
        self.saves += 1

    def _end(self, *connection: object) -> None:
        raise AssertionError(f"a lone node has no connection to end, got {connection}")

    async def submit(self, statements: Sequence[Statement]) -> Sequence[Submission]:
        answers = await self.runner.submit(statements)
        await self.watch.on_submitted(answers)
        return answers

    async def settled(self) -> None:
        await self.runner.call(lambda: None)

    def _on_update(self, update: ChainUpdate, drops: Sequence[Drop]) -> None:
        tip = update.connected[-1]
        self.events.publish(
            TipChanged(
                height=tip.header.height,
                hash=tip.hash,
                time_ms=tip.header.time_ms,
                statements=len(tip.body.statements),
                disconnected=len(update.disconnected),
            )
        )
        for block in update.connected:
            for item in block.body.statements:
                self.events.publish(ReceiptChanged(id=item.id, receipt="sealed", height=block.header.height))
        for drop in drops:
            self.events.publish(ReceiptChanged(id=drop.id, receipt="refused", code=drop.code))

    def sign(
        self,
        key: LedgerKey,
        payload: AnyPayload,
        batch: BatchHeader | None = None,
        *,
        sequence: int | None = None,
        valid_until_height: int = NEVER_EXPIRES,
    ) -> Statement:
        """Sign a statement with the author's next sequence, counting those that were signed here before."""
        if sequence is None:
            sequence = self._sequences.get(key.public, 0)
            self._sequences[key.public] = sequence + 1
        return sign_statement(
            key,
            self.chain.network_id,
            payload=payload,
            kind=KIND_OF[type(payload)],
            sequence=sequence,
            claimed_time_ms=self.now_ms(),
            valid_until_height=valid_until_height,
            batch=batch,
        )

    async def put(self, key: LedgerKey, payload: AnyPayload, batch: BatchHeader | None = None) -> Statement:
        """Sign a statement and hand it in; AssertionError when it is refused."""
        statement = self.sign(key, payload, batch)
        (answer,) = await self.submit([statement])
        assert answer.queued, answer.refusal
        return statement

    async def seal(self, count: int = 1, *, key: LedgerKey = PRODUCER) -> Block:
        """Seal `count` blocks from the mempool, a spacing apart; return the last."""
        block: Any = None
        for _ in range(count):
            self.clock.now_ms += self.chain.params.spacing_ms
            block = await self.seal_template(self.template(key), key=key)
        assert isinstance(block, Block)
        return block

    def template(self, key: LedgerKey = PRODUCER) -> Template:
        """Build the next block from the mempool."""
        return self.chain.make_template(
            self.runner.mempool.select(), producer=key.public, now_ms=self.now_ms()
        )

    async def seal_template(self, template: Template, *, key: LedgerKey = PRODUCER) -> Block:
        """Find a nonce, seal and connect."""
        block = Block(seal_header(key, self.chain.network_id, solve(template.header)), template.body)
        self.clock.now_ms = max(self.clock.now_ms, block.header.time_ms)
        _, refused = await self.runner.add_blocks([block], lambda _: None)
        assert not refused, refused
        return block
