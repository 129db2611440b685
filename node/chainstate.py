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

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from ..consensus.apply import Checked, Transition, genesis_block
from ..consensus.block import HEADER_VERSION, Block, Body, Header, SealedHeader
from ..consensus.chain import UNLIMITED_REORG, BlockTree, HeaderNode, ReorgPlan
from ..consensus.errors import ConsensusError, RuleViolation
from ..consensus.kv import Delta
from ..consensus.params import Genesis, Params
from ..consensus.state import StateView
from ..consensus.statement import Statement
from ..consensus.validation import (
    check_body,
    check_producer,
    check_seal,
    check_statement,
    check_time,
    connect_block,
)
from .chain_index import (
    HEADER_FLAG_BODY,
    HEADER_FLAG_INVALID,
    TIP_KEY,
    ChainReader,
    block_rows,
    delete_rows,
    write_rows,
)
from .store.port import Store, Writer
from .store.schema import Table

PENDING_BYTES_MAX = 64 * 2**20
"""Bodies that wait in memory for their turn; past this they are moved to the store."""

GROUP_BLOCKS_MAX = 256
"""Blocks that one transaction connects during catch-up."""

NETWORK_KEY = b"network"
GENESIS_KEY = b"genesis"
CHECKPOINT_KEY = b"checkpoint"
"""Height of the highest checkpoint that was ever in force here: it outlives a reorganisation above it."""


class ChainMismatch(ConsensusError):
    """The store belongs to another network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainUpdate:
    """What a change of the active chain was, oldest block first."""

    disconnected: tuple[Block, ...] = ()
    connected: tuple[Block, ...] = ()
    refused: tuple[tuple[bytes, ConsensusError], ...] = ()
    """Blocks that were found invalid on the way, with the rule."""

    @property
    def changed(self) -> bool:
        """Tell whether the tip moved."""
        return bool(self.connected or self.disconnected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A block that lacks only its nonce and seal."""

    header: Header
    body: Body
    dropped: tuple[tuple[Statement, RuleViolation], ...]
    """Offered statements that the rules refuse at this height."""


class InvalidBlock(Exception):
    """A block of a plan broke a rule, so the transaction was aborted."""

    def __init__(self, node: HeaderNode, error: ConsensusError) -> None:
        """Carry the block and the rule out of the transaction."""
        super().__init__(node.hash.hex(), error.code)
        self.node = node
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A plan that is durably in the store; :meth:`ChainState.settle` makes it the active chain."""

    target: HeaderNode
    disconnected: tuple[Block, ...]
    connected: tuple[Block, ...]
    checkpoint_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPolicy:
    """The operator's own limits; none of them is part of the network id."""

    max_reorg: int = UNLIMITED_REORG
    pinned: Mapping[int, bytes] = field(default_factory=lambda: MappingProxyType({}))
    """Block hashes that the operator pinned, by height."""
    minimum_chainwork: int = 0


class ChainState:
    """See the module's text. Opened with :meth:`open`."""

    def __init__(self, store: Store, genesis: Genesis, policy: ChainPolicy) -> None:
        """Bind to a store; :meth:`open` does the work."""
        self.store = store
        self.genesis = genesis
        self.params: Params = genesis.params
        self.network_id = genesis.network_id
        self.policy = policy
        self._genesis_block, self._genesis_delta = genesis_block(genesis)
        self.tree = BlockTree(self._genesis_block.sealed, genesis.params)
        self._headers: dict[bytes, SealedHeader] = {}
        self._pending: dict[bytes, Block] = {}
        self._pending_bytes = 0
        self.checkpoint_height = 0
        """Height of the highest checkpoint that was ever in force here; nothing is reorganised below it."""

    @classmethod
    def open(cls, store: Store, genesis: Genesis, policy: ChainPolicy | None = None) -> ChainState:
        """Load the chain from a store, or start it with block 0.

        Raises:
            ChainMismatch: the store holds another network.
        """
        chain = cls(store, genesis, policy or ChainPolicy())
        with store.read() as reader:
            stored = reader.get(Table.META, NETWORK_KEY)
        if stored is None:
            store.transact(chain._write_genesis)
        elif stored != chain.network_id:
            raise ChainMismatch(
                "wrong-network",
                f"data directory: expected network {chain.network_id.hex()}, got {stored.hex()}; "
                "use another --data-dir or the genesis file of that network",
            )
        chain._load_tree()
        chain.advance()
        return chain

    def _write_genesis(self, writer: Writer) -> None:
        writer.put(Table.META, NETWORK_KEY, self.network_id)
        writer.put(Table.META, GENESIS_KEY, self.genesis.encode())
        _write_block(writer, self._genesis_block, self._genesis_delta, ())

    def _load_tree(self) -> None:
        """Rebuild the header tree in order of height, since a parent must come first."""
        with self.store.read() as reader:
            rows = [(SealedHeader.decode(row[:-1]), row[-1]) for _, row in reader.scan(Table.HEADERS)]
            tip = ChainReader(reader).tip_hash()
            checkpoint = reader.get(Table.META, CHECKPOINT_KEY)
        rows.sort(key=lambda row: row[0].height)
        for sealed, flags in rows[1:]:
            node = self.tree.restore(sealed)
            if flags & HEADER_FLAG_INVALID:
                self.tree.mark_invalid(node)
            elif flags & HEADER_FLAG_BODY:
                self.tree.mark_body(node)
        self.tree.set_tip(self.tree.nodes[tip])
        self.checkpoint_height = 0 if checkpoint is None else int.from_bytes(checkpoint, "big")

    # Headers and bodies: light, on the thread that owns the tree.

    def accept_header(self, sealed: SealedHeader, *, now_ms: int, seal_checked: bool = False) -> HeaderNode:
        """Check a header and add it to the tree. Authority is checked when its block is connected.

        Raises:
            Temporary: missing-parent, time-too-new.
            RuleViolation: any header rule, bad-seal, below-checkpoint.
        """
        known = self.tree.get(sealed.hash)
        if known is not None:
            if known.invalid:
                raise RuleViolation(
                    "bad-prevblk", expected="a valid block", got=f"{sealed.hash.hex()}, refused before"
                )
            return known
        check_time(sealed.header, self.params, now_ms=now_ms)
        pinned = self.policy.pinned.get(sealed.height, sealed.hash)
        if pinned != sealed.hash:
            raise RuleViolation(
                "below-checkpoint",
                expected=f"block {pinned.hex()} at height {sealed.height}",
                got=sealed.hash.hex(),
            )
        if not seal_checked:
            check_seal(sealed, self.network_id)
        node = self.tree.add_header(sealed)
        self._headers[node.hash] = sealed
        return node

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
            self._headers.pop(node.hash, None)
            self._pending[node.hash] = block
            self._pending_bytes += block.body.byte_count()
            self.tree.mark_body(node)
        return node

    def accept_block(self, block: Block, *, now_ms: int, verified: Container[bytes] = ()) -> ChainUpdate:
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

    def advance(self, *, verified: Container[bytes] = ()) -> ChainUpdate:
        """Move to the best tip, marking blocks that turn out invalid on the way."""
        disconnected: list[Block] = []
        connected: list[Block] = []
        refused: list[tuple[bytes, ConsensusError]] = []
        while (plan := self.next_plan()) is not None:
            try:
                done = self.execute(plan, verified=verified)
            except InvalidBlock as found:
                self.refuse(found)
                refused.append((found.node.hash, found.error))
                continue
            self.settle(done)
            disconnected = [*reversed(done.disconnected), *disconnected]
            connected.extend(done.connected)
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
        target = self.tree.best_candidate(
            checkpoint_height=self.checkpoint_height, max_reorg=self.policy.max_reorg
        )
        if target is None:
            return None
        plan = self.tree.plan(target)
        if plan.disconnect or len(plan.connect) <= GROUP_BLOCKS_MAX:
            return plan
        return ReorgPlan(fork=plan.fork, disconnect=(), connect=plan.connect[:GROUP_BLOCKS_MAX])

    def execute(self, plan: ReorgPlan, *, verified: Container[bytes] = ()) -> Executed:
        """Validate and write a plan in one durable transaction. Touches the store only.

        Raises:
            InvalidBlock: a block broke a rule; nothing was written.
        """
        return self.store.transact(lambda writer: self._execute(writer, plan, verified))

    def _execute(self, writer: Writer, plan: ReorgPlan, verified: Container[bytes]) -> Executed:
        disconnected = [self._disconnect(writer, node) for node in plan.disconnect]
        connected = [self._connect(writer, node, verified) for node in plan.connect]
        checkpoint = StateView(writer).checkpoint()
        height = max(self.checkpoint_height, 0 if checkpoint is None else checkpoint[0])
        if height > self.checkpoint_height:
            writer.put(Table.META, CHECKPOINT_KEY, height.to_bytes(8, "big"))
        return Executed(
            target=plan.connect[-1],
            disconnected=tuple(disconnected),
            connected=tuple(connected),
            checkpoint_height=height,
        )

    def _connect(self, writer: Writer, node: HeaderNode, verified: Container[bytes]) -> Block:
        block = self._pending.get(node.hash) or _stored_block(writer, node.hash)
        try:
            delta, checked = connect_block(
                writer, block.header, block.body, self.params, self.network_id, verified=verified
            )
        except RuleViolation as error:
            raise InvalidBlock(node, error) from error
        _write_block(writer, block, delta, checked)
        return block

    def _disconnect(self, writer: Writer, node: HeaderNode) -> Block:
        block = _stored_block(writer, node.hash)
        undo = writer.get(Table.UNDO, node.hash)
        if undo is None:
            raise _damaged(node.hash, "undo data")
        _apply_delta(writer, Delta.decode(undo).inverse())
        checked = [Checked(statement, statement.decode_payload()) for statement in block.body.statements]
        delete_rows(writer, block_rows(node.height, node.hash, checked))
        writer.delete(Table.UNDO, node.hash)
        writer.put(Table.META, TIP_KEY, block.header.previous)
        return block

    def settle(self, done: Executed) -> None:
        """Make an executed plan the active chain of the tree."""
        self.tree.set_tip(done.target)
        self.checkpoint_height = done.checkpoint_height
        for block in done.connected:
            if self._pending.pop(block.hash, None) is not None:
                self._pending_bytes -= block.body.byte_count()

    def refuse(self, found: InvalidBlock) -> None:
        """Mark a block and its descendants as invalid, for good."""
        self.tree.mark_invalid(found.node)
        block = self._pending.pop(found.node.hash, None)
        if block is not None:
            self._pending_bytes -= block.body.byte_count()
            row = block.sealed.encode() + bytes([HEADER_FLAG_INVALID])
            self.store.transact(lambda writer: writer.put(Table.HEADERS, block.hash, row))

    @property
    def wants_flush(self) -> bool:
        """Tell whether waiting bodies should be moved to the store."""
        return self._pending_bytes > PENDING_BYTES_MAX

    def flush_pending(self, writer: Writer) -> None:
        """Write waiting blocks (of side branches, or of a catch-up) to the store."""
        for block in self._pending.values():
            _write_parts(writer, block)

    def forget_flushed(self) -> None:
        """Drop from memory what :meth:`flush_pending` wrote."""
        self._pending.clear()
        self._pending_bytes = 0

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
        waiting = self._pending.get(block_hash)
        if waiting is not None:
            return waiting
        with self.snapshot() as chain:
            sealed, body = chain.sealed_header(block_hash), chain.body(block_hash)
        return None if sealed is None or body is None else Block(sealed, body)

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        """Return a known header with its seal."""
        waiting = self._pending.get(block_hash)
        if waiting is not None:
            return waiting.sealed
        if block_hash in self._headers:
            return self._headers[block_hash]
        with self.snapshot() as chain:
            return chain.sealed_header(block_hash)

    def make_template(
        self,
        statements: Sequence[Statement],
        *,
        producer: bytes,
        now_ms: int,
        verified: Container[bytes] = (),
    ) -> Template:
        """Build the next block on the store's tip: everything but nonce and seal.

        Statements that the rules refuse are left out, with their rule; the others keep their order.

        Raises:
            RuleViolation: unauthorized-producer.
        """
        with self.store.read() as reader:
            parent = self.tree.nodes[ChainReader(reader).tip_hash()]
            context = self.tree.context(parent)
            dropped: list[tuple[Statement, RuleViolation]] = []
            offered = list(statements)
            while True:
                transition = Transition(
                    reader, self.params, self.network_id, height=context.height, parent_hash=parent.hash
                )
                check_producer(transition, producer)
                refused = self._first_refused(transition, offered, verified)
                if refused is None:
                    break
                dropped.append(refused)
                offered.remove(refused[0])
            _, root = transition.finish()
        body = Body(tuple(offered))
        header = Header(
            version=HEADER_VERSION,
            height=context.height,
            previous=parent.hash,
            body_root=body.root(),
            state_root=root,
            time_ms=max(now_ms, context.median_time_ms + 1),
            bits=context.bits,
            producer=producer,
            nonce=0,
        )
        return Template(header=header, body=body, dropped=tuple(dropped))

    def _first_refused(
        self, transition: Transition, offered: Sequence[Statement], verified: Container[bytes]
    ) -> tuple[Statement, RuleViolation] | None:
        for statement in offered:
            try:
                transition.add(check_statement(statement, self.params, self.network_id, verified=verified))
            except RuleViolation as error:
                return statement, error
        return None


def _write_block(writer: Writer, block: Block, delta: Delta, checked: Sequence[Checked]) -> None:
    """Write all that belongs to a connected block."""
    _write_parts(writer, block)
    _apply_delta(writer, delta)
    writer.put(Table.UNDO, block.hash, delta.encode())
    write_rows(writer, block_rows(block.header.height, block.hash, checked))
    writer.put(Table.META, TIP_KEY, block.hash)


def _write_parts(writer: Writer, block: Block) -> None:
    writer.put(Table.HEADERS, block.hash, block.sealed.encode() + bytes([HEADER_FLAG_BODY]))
    writer.put(Table.BODIES, block.hash, block.body.encode())


def _apply_delta(writer: Writer, delta: Delta) -> None:
    for change in delta:
        if change.new is None:
            writer.delete(change.bucket, change.key)
        else:
            writer.put(change.bucket, change.key, change.new)


def _stored_block(writer: Writer, block_hash: bytes) -> Block:
    chain = ChainReader(writer)
    sealed, body = chain.sealed_header(block_hash), chain.body(block_hash)
    if sealed is None or body is None:
        raise _damaged(block_hash, "block")
    return Block(sealed, body)


def _damaged(block_hash: bytes, what: str) -> ConsensusError:
    return ConsensusError(
        "store-damaged", f"{what} of block {block_hash.hex()}: expected it in the store, got nothing"
    )
