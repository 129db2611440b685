"""The chain state of a node: the tree of headers, the store, and the moves between tips.

Owns what is valid here and which tip is active. It is synchronous and has one writer. The tree
(`ChainState.tree`) is changed only by the thread that calls the methods; `execute` alone does the
heavy work (validation and one durable transaction for a whole plan) and touches only the store, so
a caller with an event loop may run it in an executor and call the rest on the loop.

A write transaction covers whole blocks with their undo data, state and indexes, so a crash at any
instruction leaves the chain before or after the plan. A block that turns out invalid aborts the
transaction; it is marked and the best remaining candidate is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from ..consensus.apply import genesis_block
from ..consensus.block import Block, SealedHeader
from ..consensus.chain import UNLIMITED_REORG, BlockTree, HeaderNode, ReorgPlan
from ..consensus.errors import ConsensusError, RuleViolation, Temporary
from ..consensus.params import Genesis, Params
from ..consensus.state import StateView
from ..consensus.statement import Statement
from ..consensus.upgrade import SUPPORTED_VERSIONS, Schedule, UpgradeNeeded
from ..consensus.validation import (
    NOTHING_VERIFIED,
    Verified,
    check_body,
    check_seal,
    check_time,
    connect_block,
)
from .block_store import stored_block, write_connected, write_disconnected, write_parts, write_refused
from .chain_index import ChainReader
from .chain_update import ChainUpdate, Executed, InvalidBlock
from .clock_watch import ClockWatch
from .header_load import load_headers
from .mempool.limits import KEEP_ROWS_BLOCKS
from .meta_keys import BASE_KEY, CHECKPOINT_KEY, GENESIS_KEY, NETWORK_KEY, PRUNED_KEY
from .sealing import check_sealer, find_wrongly_sealed
from .self_check import Marks, StoreUnsound, check_genesis, check_tip, read_mark
from .store.port import Store, Writer
from .store.schema import LEFT_TIP_KEY, Table
from .stored_block import BodyBudget
from .template import Template, TemplateBase, build_template
from .waiting import Waiting

PENDING_BYTES_MAX = 64 * 2**20
"""Bodies that wait in memory for their turn; past this they are moved to the store."""

GROUP_BLOCKS_MAX = 256
"""Blocks that one transaction connects during catch-up."""

GROUP_BYTES_MAX = 16 * 2**20
"""Bytes of waiting bodies that one transaction connects during catch-up, so that none takes too long."""

HEADERS_WAITING_MAX = 200_000
"""Headers without a body that are held; past this, those of chains with less work than the tip are forgotten."""


class ChainMismatch(ConsensusError):
    """The store belongs to another network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPolicy:
    """The operator's own limits; none of them is part of the network id."""

    max_reorg: int = UNLIMITED_REORG
    pinned: Mapping[int, bytes] = field(default_factory=lambda: MappingProxyType({}))
    """Block hashes that the operator pinned, by height."""
    minimum_chainwork: int = 0


class ChainState:
    """See the module's text. Opened with :meth:`open`."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        policy: ChainPolicy,
        *,
        versions: Collection[int] = SUPPORTED_VERSIONS,
    ) -> None:
        """Bind to a store; :meth:`open` does the work."""
        self.store = store
        self.genesis = genesis
        self.params: Params = genesis.params
        self.network_id = genesis.network_id
        self.policy = policy
        self.versions = versions
        """Protocol versions that this software knows."""
        self.schedule = Schedule()
        """Of protocol versions, after the tip."""
        self._genesis_block, self._genesis_delta = genesis_block(genesis)
        self.tree = BlockTree(self._genesis_block.sealed, genesis.params, versions=versions)
        self.waiting = Waiting()
        self.headers_limit = HEADERS_WAITING_MAX
        self._clock = ClockWatch(genesis.params)
        self.checkpoint_height = 0
        """Height of the highest checkpoint that was ever in force here; nothing is reorganised below it."""
        self.pruned_below = 0
        """Bodies of blocks below this height were dropped."""
        self.base_height = 0
        """There is no undo data at or below this height."""

    @classmethod
    def open(
        cls,
        store: Store,
        genesis: Genesis,
        policy: ChainPolicy | None = None,
        *,
        versions: Collection[int] = SUPPORTED_VERSIONS,
    ) -> ChainState:
        """Load the chain from a store, or start it with block 0.

        Raises:
            ChainMismatch: the store holds another network.
            StoreUnsound: the stored chain contradicts itself.
            UpgradeNeeded: it holds blocks of a protocol version that is not among `versions`.
        """
        chain = cls(store, genesis, policy or ChainPolicy(), versions=versions)
        with store.read() as reader:
            stored = reader.get(Table.META, NETWORK_KEY)
            begun = reader.count(Table.HEADERS) > 0
        if stored is None and begun:
            raise StoreUnsound("meta 'network'", expected=chain.network_id.hex(), got="nothing")
        if stored is None:
            store.transact(chain._write_genesis)
        elif stored != chain.network_id:
            raise ChainMismatch(
                "wrong-network",
                f"data directory: expected network {chain.network_id.hex()}, got {stored.hex()}; "
                "use another --data-dir or the genesis file of that network",
            )
        chain._load()
        if len(chain.tree.nodes) > len(chain.tree.active):
            chain._refuse_wrongly_sealed(chain.tree.active)
        chain.advance()
        return chain

    def _write_genesis(self, writer: Writer) -> None:
        writer.put(Table.META, NETWORK_KEY, self.network_id)
        writer.put(Table.META, GENESIS_KEY, self.genesis.encode())
        write_parts(writer, self._genesis_block)
        write_connected(writer, self._genesis_block, self._genesis_delta, ())

    def _load(self) -> None:
        """Build the header tree from the store, and check what the next block would stand on."""
        with self.store.read() as reader:
            check_genesis(reader.get(Table.META, GENESIS_KEY), self.network_id)
            load_headers(reader, self.tree)
            height = self.tree.tip.height
            marks = Marks(
                checkpoint=read_mark(reader, CHECKPOINT_KEY, highest=height),
                pruned_below=read_mark(reader, PRUNED_KEY, highest=height),
                base=read_mark(reader, BASE_KEY, highest=height),
            )
            check_tip(reader, self.tree.active, marks)
            self.schedule = StateView(reader).schedule()
        self.checkpoint_height = marks.checkpoint
        self.pruned_below = marks.pruned_below
        self.base_height = marks.base

    @property
    def lowest_fork(self) -> int:
        """Height below which no branch is followed: a checkpoint, or what it takes to go back is not here."""
        return max(self.checkpoint_height, self.pruned_below - 1, self.base_height)

    # Protocol versions.

    @property
    def version(self) -> int:
        """The version that the block after the tip must have."""
        return self.schedule.version_at(self.tree.tip.height + 1)

    @property
    def scheduled(self) -> tuple[int, int] | None:
        """Version and height of what begins after the next block, or None."""
        return self.schedule.pending_at(self.tree.tip.height + 1)

    def upgrade_needed(self) -> UpgradeNeeded | None:
        """Return why this software can connect nothing to the tip; None while it can."""
        try:
            self.schedule.check_known(self.tree.tip.height + 1, self.versions)
        except UpgradeNeeded as needed:
            return needed
        return None

    # Headers and bodies: light, on the thread that owns the tree.

    def accept_header(self, sealed: SealedHeader, *, now_ms: int, seal_checked: bool = False) -> HeaderNode:
        """Check a header and add it to the tree.

        Authority is checked here when the parent is connected, else as soon as it is.

        Raises:
            Temporary: missing-parent, time-too-new.
            RuleViolation: any header rule, bad-seal, unauthorized-producer, below-checkpoint.
        """
        known = self.tree.get(sealed.hash)
        if known is not None:
            if known.invalid:
                raise RuleViolation(
                    "bad-prevblk", expected="a valid block", got=f"{sealed.hash.hex()}, refused before"
                )
            return known
        try:
            check_time(sealed.header, self.params, now_ms=now_ms)
        except Temporary:
            self._clock.on_future_header(sealed.header, now_ms=now_ms)
            raise
        pinned = self.policy.pinned.get(sealed.height, sealed.hash)
        if pinned != sealed.hash:
            raise RuleViolation(
                "below-checkpoint",
                expected=f"block {pinned.hex()} at height {sealed.height}",
                got=sealed.hash.hex(),
            )
        # Work before the seal: a header without it then costs one hash, not one signature.
        self.tree.check_header(sealed)
        if not seal_checked:
            check_seal(sealed, self.network_id)
        parent = self.tree.nodes[sealed.header.previous]
        check_sealer(self.tree, self.store, parent, sealed.header.producer)
        node = self.tree.restore(sealed)
        self.waiting.add_header(sealed)
        if len(self.waiting.headers) > self.headers_limit:
            self._forget_headers(node)
        return node

    def _forget_headers(self, newest: HeaderNode) -> None:
        """Make room among headers that nobody gave a body for: chains of less work than the tip go."""
        keep = {newest.hash} | {node.hash for node in self.tree.without_body(self.tree.best_header)}
        gone = self.tree.forget_waiting(keep, below=self.tree.tip.chainwork)
        for block_hash in gone:
            self.waiting.drop(block_hash)
        # Amortised: when real work fills the limit, it is not walked again at every header.
        self.headers_limit = max(HEADERS_WAITING_MAX, 2 * len(self.waiting.headers))

    def check_new_body(self, block: Block) -> None:
        """Check that a body is the one its header commits to; a failure says nothing about the header.

        Raises:
            RuleViolation: bad-merkle-root, or a limit of bodies.
        """
        parent = self.tree.nodes[block.header.previous]
        check_body(block.header, block.body, self.params, parent_time_ms=parent.time_ms)

    def accept_body(self, block: Block) -> HeaderNode:
        """Keep a checked body until its block is connected. The header must be in the tree."""
        node = self.tree.nodes[block.hash]
        if not node.has_body:
            self.waiting.add_block(block)
            self.tree.mark_body(node)
        return node

    def accept_block(
        self, block: Block, *, now_ms: int, verified: Verified = NOTHING_VERIFIED
    ) -> ChainUpdate:
        """Check and add a whole block, and move to the best tip.

        Raises:
            Temporary, RuleViolation: as :meth:`accept_header` and :meth:`check_new_body`. A block that
                breaks a rule only when it is connected is reported in :attr:`ChainUpdate.refused`.
        """
        node = self.accept_header(block.sealed, now_ms=now_ms)
        if not node.has_body:
            self.check_new_body(block)
            self.accept_body(block)
        return self.advance(verified=verified)

    # Moves between tips.

    def advance(self, *, verified: Verified = NOTHING_VERIFIED) -> ChainUpdate:
        """Move to the best tip, marking blocks that turn out invalid on the way."""
        disconnected: list[Block] = []
        connected: list[Block] = []
        refused: list[tuple[bytes, ConsensusError]] = []
        budget = BodyBudget(self.stored)
        while (plan := self.next_plan()) is not None:
            try:
                done = self.execute(plan, verified=verified)
            except InvalidBlock as found:
                self.refuse(found)
                refused.append((found.node.hash, found.error))
                continue
            self.settle(done)
            disconnected = [*map(budget.hold, reversed(done.disconnected)), *disconnected]
            connected.extend(map(budget.hold, done.connected))
        if self.wants_flush:
            self.store.transact(self.flush_pending)
            self.forget_flushed()
        return ChainUpdate(
            disconnected=tuple(disconnected), connected=tuple(connected), refused=tuple(refused)
        )

    def next_plan(self) -> ReorgPlan | None:
        """Return the next move towards the best candidate, at most ``GROUP_BLOCKS_MAX`` blocks of catch-up.

        A move that disconnects blocks is never cut short: it is one transaction, so no crash can leave
        the chain on a tip with less work than it had.
        """
        target = self.tree.best_candidate(checkpoint_height=self.lowest_fork, max_reorg=self.policy.max_reorg)
        if target is None:
            return None
        plan = self.tree.plan(target)
        if plan.disconnect:
            return plan
        return ReorgPlan(fork=plan.fork, disconnect=(), connect=self._first_group(plan.connect))

    def refused_candidates(self) -> tuple[HeaderNode, ...]:
        """Return the ends of chains with more work that this node does not follow."""
        return self.tree.refused_candidates(
            checkpoint_height=self.lowest_fork, max_reorg=self.policy.max_reorg
        )

    def _first_group(self, nodes: Sequence[HeaderNode]) -> tuple[HeaderNode, ...]:
        """Return the blocks that one transaction of a catch-up takes: at least one."""
        count, size = 0, 0
        for node in nodes[:GROUP_BLOCKS_MAX]:
            block = self.waiting.blocks.get(node.hash)
            size += 0 if block is None else block.body.byte_count()
            if count and size > GROUP_BYTES_MAX:
                break
            count += 1
        return tuple(nodes[:count])

    def execute(self, plan: ReorgPlan, *, verified: Verified = NOTHING_VERIFIED) -> Executed:
        """Validate and write a plan in one durable transaction. Touches the store only.

        Raises:
            InvalidBlock: a block broke a rule; nothing was written.
            StoreError: the store could not take it, or is damaged; nothing was written.
        """
        return self.store.transact(lambda writer: self._execute(writer, plan, verified))

    def _execute(self, writer: Writer, plan: ReorgPlan, verified: Verified) -> Executed:
        budget = BodyBudget(self.stored)
        if len(plan.disconnect) > KEEP_ROWS_BLOCKS and writer.get(Table.META, LEFT_TIP_KEY) is None:
            writer.put(Table.META, LEFT_TIP_KEY, plan.disconnect[0].hash)
        disconnected = [budget.hold(self._disconnect(writer, node)) for node in plan.disconnect]
        connected = [budget.hold(self._connect(writer, node, verified)) for node in plan.connect]
        state = StateView(writer)
        checkpoint = state.checkpoint()
        height = max(self.checkpoint_height, 0 if checkpoint is None else checkpoint[0])
        if height > self.checkpoint_height:
            writer.put(Table.META, CHECKPOINT_KEY, height.to_bytes(8, "big"))
        return Executed(
            target=plan.connect[-1],
            disconnected=tuple(disconnected),
            connected=tuple(connected),
            checkpoint_height=height,
            schedule=state.schedule(),
        )

    def _connect(self, writer: Writer, node: HeaderNode, verified: Verified) -> Block:
        waiting = self.waiting.blocks.get(node.hash)
        block = waiting or stored_block(writer, node.hash)
        try:
            delta, checked = connect_block(
                writer,
                block.header,
                block.body,
                self.params,
                self.network_id,
                verified=verified,
                versions=self.versions,
            )
        except RuleViolation as error:
            raise InvalidBlock(node, error) from error
        if waiting is not None:
            write_parts(writer, waiting)
        write_connected(writer, block, delta, checked)
        return block

    def _disconnect(self, writer: Writer, node: HeaderNode) -> Block:
        block = stored_block(writer, node.hash)
        write_disconnected(writer, block)
        return block

    def settle(self, done: Executed) -> None:
        """Make an executed plan the active chain of the tree."""
        self.tree.set_tip(done.target)
        self.checkpoint_height = done.checkpoint_height
        self.schedule = done.schedule
        for block in done.connected:
            self.waiting.drop(block.hash)
        self._refuse_wrongly_sealed([self.tree.nodes[block.hash] for block in done.connected])

    def _refuse_wrongly_sealed(self, connected: Sequence[HeaderNode]) -> None:
        for node, error in find_wrongly_sealed(self.tree, self.store, connected):
            self.mark_refused(InvalidBlock(node, error))

    def refuse(self, found: InvalidBlock) -> None:
        """Mark a block and its descendants as invalid, for good, in memory and in the store."""
        self.keep_refusal(found.node.hash, self.mark_refused(found))

    def mark_refused(self, found: InvalidBlock) -> SealedHeader | None:
        """Mark a block and its descendants as invalid in memory; return the header if it is not stored yet.

        :meth:`keep_refusal` makes it durable; without that the block is merely tried again after a restart.
        """
        block = self.waiting.blocks.get(found.node.hash)
        for node in self.tree.mark_invalid(found.node):
            self.waiting.drop(node.hash)
        return None if block is None else block.sealed

    def keep_refusal(self, block_hash: bytes, sealed: SealedHeader | None) -> None:
        """Write what :meth:`mark_refused` returned for a block. Touches the store only."""
        self.store.transact(lambda writer: write_refused(writer, block_hash, sealed))

    @property
    def wants_flush(self) -> bool:
        """Tell whether waiting bodies should be moved to the store."""
        return self.waiting.body_bytes > PENDING_BYTES_MAX

    def flush_pending(self, writer: Writer) -> None:
        """Write waiting blocks (of side branches, or of a catch-up) to the store."""
        self.waiting.write(writer, self.tree.nodes)

    def forget_flushed(self) -> None:
        """Drop from memory what :meth:`flush_pending` wrote."""
        self.waiting.drop_blocks()

    # Reading.

    @contextmanager
    def snapshot(self) -> Iterator[ChainReader]:
        """Read the chain and its indexes as of one moment."""
        with self.store.read() as reader:
            yield ChainReader(reader)

    @contextmanager
    def view(self) -> Iterator[StateView]:
        """Read the state after the tip as of one moment."""
        with self.store.read() as reader:
            yield StateView(reader)

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block whose body is here, from memory or from the store."""
        waiting = self.waiting.blocks.get(block_hash)
        if waiting is not None:
            return waiting
        with self.snapshot() as chain:
            sealed, body = chain.sealed_header(block_hash), chain.body(block_hash)
        return None if sealed is None or body is None else Block(sealed, body)

    def stored(self, block_hash: bytes) -> Block:
        """Return a block that is in the store; raises StoreDamaged when it is not."""
        with self.store.read() as reader:
            return stored_block(reader, block_hash)

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        """Return a known header with its seal."""
        waiting = self.waiting.sealed_header(block_hash)
        if waiting is not None:
            return waiting
        with self.snapshot() as chain:
            return chain.sealed_header(block_hash)

    def sealed_headers(self, nodes: Sequence[HeaderNode]) -> tuple[bytes, ...]:
        """Return the encoded headers of connected blocks in one read, up to the first that is not stored."""
        with self.snapshot() as chain:
            return tuple(chain.sealed_rows(node.hash for node in nodes))

    def make_template(
        self,
        statements: Sequence[Statement],
        *,
        producer: bytes,
        now_ms: int,
        verified: Verified = NOTHING_VERIFIED,
    ) -> Template:
        """Build the next block on the store's tip: everything but nonce and seal.

        Statements that the rules refuse are left out, with their rule; the others keep their order.

        Raises:
            RuleViolation: unauthorized-producer.
        """
        with self.store.read() as reader:
            parent = self.tree.nodes[ChainReader(reader).tip_hash()]
            base = TemplateBase(
                reader=reader,
                context=self.tree.context(parent),
                params=self.params,
                network_id=self.network_id,
                versions=self.versions,
            )
            return build_template(base, statements, producer=producer, now_ms=now_ms, verified=verified)
