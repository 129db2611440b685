"""Headers-first synchronisation and block relay, as a state machine.

Owns what each peer is known to have, which headers and bodies were asked of whom and until when,
and bodies that are being put together. It asks for headers by locator, downloads bodies along the
best header chain from several peers in a moving window, rebuilds announced blocks from the mempool,
serves headers and bodies, and announces new blocks. It connects nothing: finished blocks leave as
`BlockReady`.

It is driven by `on_*` calls with a monotonic clock in seconds and returns actions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...consensus.block import Block, SealedHeader
from ...consensus.chain import BlockTree, HeaderNode
from ...consensus.errors import ConsensusError, DecodeError, RuleViolation, Temporary
from ...consensus.statement import Statement
from ..wire.chunks import cut_body_chunk
from ..wire.limits import MAX_BODY_LEAVES, MAX_HEADERS, MAX_IN_FLIGHT, MAX_INVENTORY
from ..wire.messages import (
    AnnounceBlock,
    BodyChunk,
    GetBody,
    GetHeaders,
    GetStatements,
    Headers,
    Missing,
    NotFound,
    SendAnnouncements,
    Status,
)
from .actions import Action, BlockReady, Drop, PeerId, Punish, Send
from .assembly import BodyAssembly, StatementByLeaf

ZERO_HASH = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLimits:
    """Policy of the synchroniser; times in seconds."""

    window_blocks: int = 256
    """Bodies that may be under way or waiting at once."""
    in_flight_per_peer: int = MAX_IN_FLIGHT
    headers_timeout: float = 20.0
    body_timeout: float = 20.0
    """Doubles with each stall, up to ``body_timeout_max``; halves with each finished body."""
    body_timeout_max: float = 120.0
    announce_known: int = 512
    """Block hashes remembered per peer, so that nothing is announced back."""
    stalls_until_drop: int = 3


DEFAULT_LIMITS = SyncLimits()


class ChainPort(Protocol):
    """What the synchroniser needs of a chain state."""

    tree: BlockTree

    def accept_header(self, sealed: SealedHeader, *, now_ms: int, seal_checked: bool = False) -> HeaderNode:
        """Check a header and add it to the tree."""
        ...

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block whose body is here."""
        ...

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        """Return a known header."""
        ...


@dataclass(slots=True)
class _Peer:
    best: HeaderNode | None = None
    """Most work that it is known to have."""
    claimed_height: int = 0
    pruned_below: int = 0
    high_bandwidth: bool = False
    headers_deadline: float | None = None
    in_flight: dict[bytes, float] = field(default_factory=dict)
    lacks: set[bytes] = field(default_factory=set)
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    stalls: int = 0


def _get_body(assembly: BodyAssembly) -> GetBody:
    return GetBody(
        block_hash=assembly.sealed.hash, start=assembly.next_start(), with_leaves=assembly.leaves is None
    )


class Synchronizer:
    """See the module's text."""

    def __init__(
        self, chain: ChainPort, source: StatementByLeaf, limits: SyncLimits = DEFAULT_LIMITS
    ) -> None:
        """Sync ``chain``; ``source`` finds statements that are here already, by leaf."""
        self._chain = chain
        self._source = source
        self._limits = limits
        self._peers: dict[PeerId, _Peer] = {}
        self._assemblies: dict[bytes, BodyAssembly] = {}
        self._ready: dict[bytes, float] = {}
        """Finished blocks that are being connected, and until when that may take."""
        self._wanted: list[HeaderNode] = []
        self._wanted_for: HeaderNode | None = None
        self._timeout = limits.body_timeout
        self.statements_reused = 0
        """Statements of announced blocks that did not travel twice."""
        self.statements_fetched = 0

    # Peers come and go.

    def on_connected(self, peer: PeerId, now: float) -> list[Action]:
        """Greet a new peer: say what this node has, ask for announcements and headers."""
        self._peers[peer] = _Peer()
        return [
            Send(peer, self.status()),
            Send(peer, SendAnnouncements(high_bandwidth=True)),
            self._ask_headers(peer, now),
        ]

    def on_disconnected(self, peer: PeerId, now: float) -> list[Action]:
        """Forget a peer and ask others for what it owed."""
        self._peers.pop(peer, None)
        return self._schedule(now)

    def status(self) -> Status:
        """Return this node's own status message."""
        tip = self._chain.tree.tip
        return Status(
            tip_hash=tip.hash, height=tip.height, chainwork=tip.chainwork.to_bytes(32, "big"), pruned_below=0
        )

    def is_behind(self) -> bool:
        """Tell whether a header chain with more work than the tip is known."""
        tree = self._chain.tree
        return tree.best_header.chainwork > tree.tip.chainwork

    def best_known_height(self) -> int:
        """Return the greatest height that this node or a peer claims."""
        claims = (peer.claimed_height for peer in self._peers.values())
        return max(self._chain.tree.best_header.height, *claims, 0)

    # Messages.

    def on_status(self, peer: PeerId, message: Status, now: float) -> list[Action]:
        """Note what a peer has; ask for headers when it has more work."""
        state = self._peers[peer]
        state.claimed_height = message.height
        state.pruned_below = message.pruned_below
        node = self._chain.tree.get(message.tip_hash)
        if node is not None:
            self._note_best(state, node)
            return self._schedule(now)
        work = int.from_bytes(message.chainwork, "big")
        if work > self._chain.tree.best_header.chainwork and state.headers_deadline is None:
            return [self._ask_headers(peer, now)]
        return []

    def on_send_announcements(self, peer: PeerId, message: SendAnnouncements) -> list[Action]:
        """Note how a peer wants to hear of blocks."""
        self._peers[peer].high_bandwidth = message.high_bandwidth
        return []

    def on_get_headers(self, peer: PeerId, message: GetHeaders) -> list[Action]:
        """Serve headers of the active chain after the first hash that is known."""
        tree = self._chain.tree
        start = tree.locate(message.locator)
        found = []
        for node in tree.after(start, limit=MAX_HEADERS, stop=message.stop_hash):
            sealed = self._chain.sealed_header(node.hash)
            if sealed is None:
                break
            found.append(sealed.encode())
        return [Send(peer, Headers(sealed_headers=tuple(found)))]

    def on_headers(
        self,
        peer: PeerId,
        headers: Sequence[SealedHeader],
        *,
        now: float,
        now_ms: int,
        seals_checked: bool = False,
    ) -> list[Action]:
        """Add headers in order; ask for more when the message was full.

        A gap, a broken rule or a bad seal is the sender's fault; a missing parent or a time that is too
        new is nobody's.
        """
        state = self._peers[peer]
        state.headers_deadline = None
        last: HeaderNode | None = None
        for position, sealed in enumerate(headers):
            if position and sealed.header.previous != headers[position - 1].hash:
                return [Punish(peer, "bad-prevblk", f"headers: expected a chain, got a gap at {position}")]
            try:
                last = self._chain.accept_header(sealed, now_ms=now_ms, seal_checked=seals_checked)
            except Temporary as error:
                if error.code == "missing-parent":
                    return [self._ask_headers(peer, now)] if position == 0 and len(headers) == 1 else []
                break
            except RuleViolation as error:
                return self._blame(peer, error)
        if last is not None:
            self._note_best(state, last)
        actions = self._schedule(now)
        if len(headers) == MAX_HEADERS:
            actions.append(self._ask_headers(peer, now))
        return actions

    def on_announce_block(
        self, peer: PeerId, message: AnnounceBlock, *, now: float, now_ms: int
    ) -> list[Action]:
        """Take a new header; rebuild its block from the mempool and ask for what is missing."""
        sealed = SealedHeader.decode(message.sealed_header)
        state = self._peers[peer]
        self._note_known(state, sealed.hash)
        try:
            node = self._chain.accept_header(sealed, now_ms=now_ms)
        except Temporary as error:
            if error.code == "missing-parent" and state.headers_deadline is None:
                return [self._ask_headers(peer, now)]
            return []
        except RuleViolation as error:
            return self._blame(peer, error)
        self._note_best(state, node)
        parent_is_near = node.parent is not None and node.parent.has_body
        if node.has_body or not parent_is_near or not (message.leaves or message.byte_count == 0):
            return self._schedule(now)
        return self._start_from_announcement(peer, node, sealed, message, now)

    def _start_from_announcement(
        self, peer: PeerId, node: HeaderNode, sealed: SealedHeader, message: AnnounceBlock, now: float
    ) -> list[Action]:
        assembly = self._assemblies.setdefault(node.hash, BodyAssembly(sealed))
        if assembly.leaves is None:
            try:
                assembly.set_leaves(message.leaves, message.byte_count)
            except RuleViolation as error:
                if not message.leaves:
                    return self._schedule(now)  # an announcement without leaves of a body that has some
                del self._assemblies[node.hash]
                return self._blame(peer, error)
            assembly.fill(self._source)
        done = self._finish(assembly, peer, now)
        if done:
            return done + self._schedule(now)
        if self._is_in_flight(node.hash):
            return []
        return [self._ask_body(peer, node.hash, now)]

    def on_get_body(self, peer: PeerId, message: GetBody) -> list[Action]:
        """Serve the statements of a block from an index on, as many as one chunk holds."""
        block = self._chain.block(message.block_hash)
        if block is None:
            return [Send(peer, NotFound(missing=Missing.BODY, hashes=(message.block_hash,)))]
        if message.start and message.start >= len(block.body.statements):
            return [
                Punish(
                    peer,
                    "bad-start",
                    f"GetBody: expected a start below {len(block.body.statements)}, got {message.start}",
                )
            ]
        chunk = cut_body_chunk(
            block_hash=message.block_hash,
            leaves=block.body.leaves() if message.with_leaves else (),
            byte_count=block.body.byte_count(),
            statements=[statement.encode() for statement in block.body.statements],
            start=message.start,
        )
        return [Send(peer, chunk)]

    def on_body_chunk(self, peer: PeerId, message: BodyChunk, now: float) -> list[Action]:
        """Check a chunk against the header and its leaves; ask for the rest or finish the block."""
        state = self._peers[peer]
        if state.in_flight.pop(message.block_hash, None) is None:
            return []  # came after its deadline; somebody else was asked
        assembly = self._assemblies.get(message.block_hash)
        if assembly is None:
            return self._schedule(now)
        try:
            if message.leaves or not message.byte_count:
                assembly.set_leaves(message.leaves, message.byte_count)
                assembly.fill(self._source)
            statements = [Statement.decode(item) for item in message.statements]
            assembly.add(message.start, statements)
        except (RuleViolation, DecodeError) as error:
            self._assemblies.pop(message.block_hash, None)
            return [*self._blame(peer, error), *self._schedule(now)]
        self.statements_fetched += len(statements)
        self._timeout = max(self._limits.body_timeout, self._timeout / 2)
        state.stalls = 0
        done = self._finish(assembly, peer, now)
        if done:
            return done + self._schedule(now)
        if not message.statements and message.start:
            return [Punish(peer, "empty-chunk", "BodyChunk: expected at least one statement, got none")]
        return [self._ask_body(peer, message.block_hash, now)]

    def on_statements(self, peer: PeerId, statements: Sequence[Statement], now: float) -> list[Action]:
        """Give statements that came to the bodies that wait for them."""
        actions: list[Action] = []
        state = self._peers.get(peer)
        for block_hash, assembly in list(self._assemblies.items()):
            taken = assembly.add_by_leaf(statements)
            if not taken:
                continue
            self.statements_fetched += taken
            if state is not None:
                state.in_flight.pop(block_hash, None)
            done = self._finish(assembly, peer, now)
            if done:
                actions += done
            elif not self._is_in_flight(block_hash):
                actions.append(self._ask_body(peer, block_hash, now))
        return actions + (self._schedule(now) if actions else [])

    def on_not_found(self, peer: PeerId, message: NotFound, now: float) -> list[Action]:
        """A peer lacks something: ask another one."""
        state = self._peers[peer]
        if message.missing is Missing.BODY:
            for block_hash in message.hashes:
                state.in_flight.pop(block_hash, None)
                state.lacks.add(block_hash)
            return self._schedule(now)
        wanted = set(message.hashes)
        actions: list[Action] = []
        for block_hash in list(state.in_flight):
            assembly = self._assemblies.get(block_hash)
            if assembly is not None and wanted & set(assembly.missing_leaves()):
                actions.append(Send(peer, _get_body(assembly)))
        return actions

    # The node's own news, and time.

    def announce(self, block: Block) -> list[Action]:
        """Tell every peer that does not know it of a block whose work, seal and body were checked."""
        actions: list[Action] = []
        leaves = block.body.leaves()
        short = AnnounceBlock(
            sealed_header=block.sealed.encode(), byte_count=block.body.byte_count(), leaves=()
        )
        full = short
        if leaves and len(leaves) <= MAX_BODY_LEAVES:
            full = AnnounceBlock(
                sealed_header=short.sealed_header, byte_count=short.byte_count, leaves=leaves
            )
        for peer, state in self._peers.items():
            if block.hash not in state.known:
                self._note_known(state, block.hash)
                actions.append(Send(peer, full if state.high_bandwidth else short))
        return actions

    def on_tip_changed(self, now: float) -> list[Action]:
        """The active chain moved: bodies that are connected are no longer wanted."""
        for block_hash in list(self._assemblies):
            node = self._chain.tree.get(block_hash)
            if node is None or node.has_body or node.invalid:
                del self._assemblies[block_hash]
        self._forget_ready(now)
        return self._schedule(now)

    def _forget_ready(self, now: float) -> None:
        """Let go of blocks that are connected or refused, or that the store could not take."""
        for block_hash, deadline in list(self._ready.items()):
            node = self._chain.tree.get(block_hash)
            if node is None or node.has_body or node.invalid or now >= deadline:
                del self._ready[block_hash]

    def on_tick(self, now: float) -> list[Action]:
        """Act on deadlines that have passed."""
        self._forget_ready(now)
        actions: list[Action] = []
        for peer, state in list(self._peers.items()):
            if state.headers_deadline is not None and now >= state.headers_deadline:
                state.headers_deadline = None
                actions += self._stalled(peer, state, "headers")
            late = [block_hash for block_hash, deadline in state.in_flight.items() if now >= deadline]
            for block_hash in late:
                del state.in_flight[block_hash]
            if late:
                self._timeout = min(self._timeout * 2, self._limits.body_timeout_max)
                actions += self._stalled(peer, state, "a body")
        return actions + self._schedule(now)

    # Inside.

    def _stalled(self, peer: PeerId, state: _Peer, what: str) -> list[Action]:
        state.stalls += 1
        if state.stalls < self._limits.stalls_until_drop and len(self._peers) > 1:
            return []
        return [Drop(peer, "stalled", f"expected {what} in time, got nothing for the {state.stalls}. time")]

    def _blame(self, peer: PeerId, error: ConsensusError) -> list[Action]:
        if isinstance(error, RuleViolation) and not error.rule.punish:
            return [Drop(peer, error.code, error.message)]
        return [Punish(peer, error.code, error.message)]

    def _ask_headers(self, peer: PeerId, now: float) -> Action:
        self._peers[peer].headers_deadline = now + self._limits.headers_timeout
        return Send(peer, GetHeaders(locator=self._chain.tree.locator(), stop_hash=ZERO_HASH))

    def _ask_body(self, peer: PeerId, block_hash: bytes, now: float) -> Action:
        self._peers[peer].in_flight[block_hash] = now + self._timeout
        assembly = self._assemblies[block_hash]
        missing = assembly.missing_leaves()
        if missing and (assembly.reused or len(missing) <= 1) and len(missing) <= MAX_INVENTORY:
            return Send(peer, GetStatements(leaves=missing))
        return Send(peer, _get_body(assembly))

    def _is_in_flight(self, block_hash: bytes) -> bool:
        return any(block_hash in state.in_flight for state in self._peers.values())

    def _finish(self, assembly: BodyAssembly, peer: PeerId, now: float) -> list[Action]:
        block = assembly.block()
        if block is None:
            return []
        self._assemblies.pop(block.hash, None)
        self._ready[block.hash] = now + self._limits.body_timeout_max
        self.statements_reused += assembly.reused
        return [BlockReady(block, peer)]

    def _note_best(self, state: _Peer, node: HeaderNode) -> None:
        if state.best is None or node.chainwork > state.best.chainwork:
            state.best = node
        state.claimed_height = max(state.claimed_height, node.height)
        self._note_known(state, node.hash)

    def _note_known(self, state: _Peer, block_hash: bytes) -> None:
        state.known[block_hash] = None
        state.known.move_to_end(block_hash)
        while len(state.known) > self._limits.announce_known:
            state.known.popitem(last=False)

    def _refill(self) -> None:
        """Keep the list of missing bodies towards the best header; walked again only when it is used up."""
        tree = self._chain.tree
        self._wanted = [node for node in self._wanted if not node.has_body and not node.invalid]
        if self._wanted and self._wanted_for is tree.best_header:
            return
        self._wanted_for = tree.best_header
        self._wanted = list(tree.missing_bodies(limit=self._limits.window_blocks))

    def _schedule(self, now: float) -> list[Action]:
        """Ask peers for the lowest missing bodies, as far as the window and their limits allow."""
        self._refill()
        actions: list[Action] = []
        for node in self._wanted:
            if node.hash in self._ready or self._is_in_flight(node.hash):
                continue
            peer = self._pick_peer(node)
            if peer is None:
                continue
            if node.hash not in self._assemblies:
                sealed = self._chain.sealed_header(node.hash)
                if sealed is None:
                    continue
                self._assemblies[node.hash] = BodyAssembly(sealed)
            actions.append(self._ask_body(peer, node.hash, now))
        return actions

    def _pick_peer(self, node: HeaderNode) -> PeerId | None:
        """Choose the least busy peer that has the block."""
        able = [
            (len(state.in_flight), state.stalls, peer)
            for peer, state in self._peers.items()
            if state.best is not None
            and state.best.height >= node.height >= state.pruned_below
            and node.hash not in state.lacks
            and len(state.in_flight) < self._limits.in_flight_per_peer
        ]
        return min(able)[2] if able else None
