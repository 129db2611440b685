"""Headers-first synchronisation and block relay, as a state machine.

Owns what each peer is known to have, which headers and bodies were asked of whom and until when,
and bodies that are being put together. It asks for headers by locator, downloads the bodies of each
peer's best chain in a moving window, rebuilds announced blocks from the mempool, serves headers and
bodies, and announces new blocks. It connects nothing: finished blocks leave as `BlockReady`.

Only chains with more work than the tip, and at least the operator's minimum, are downloaded, each from
peers that showed its headers: a chain whose bodies nobody delivers keeps no other chain waiting.

It is driven by `on_*` calls with a monotonic clock in seconds and returns actions.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...consensus.block import Block, SealedHeader
from ...consensus.chain import HeaderNode
from ...consensus.errors import ConsensusError, DecodeError, RuleViolation, Temporary
from ...consensus.statement import Statement
from ..wire.limits import MAX_BODY_LEAVES, MAX_HEADERS, MAX_INVENTORY
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
from .body_budget import BodyBudget
from .paths import ChainPaths
from .serving import ServedBodies
from .sync_peer import DEFAULT_LIMITS, Ask, ChainPort, SyncLimits, SyncPeer, is_ancestor

ZERO_HASH = bytes(32)

UNKNOWN_TO_ANNOUNCERS = frozenset({"bad-prevblk", "unauthorized-producer"})
"""Rules that an honest peer may not have checked yet when it announces a block."""

__all__ = ["DEFAULT_LIMITS", "ChainPort", "SyncLimits", "Synchronizer"]


class Synchronizer:
    """See the module's text."""

    def __init__(
        self, chain: ChainPort, source: StatementByLeaf, limits: SyncLimits = DEFAULT_LIMITS
    ) -> None:
        """Sync ``chain``; ``source`` finds statements that are here already, by leaf."""
        self._chain = chain
        self._source = source
        self._limits = limits
        self._peers: dict[PeerId, SyncPeer] = {}
        self._assemblies: dict[bytes, BodyAssembly] = {}
        self._asked: dict[bytes, PeerId] = {}
        """Who was asked for the body, or for statements of it."""
        self._ready: dict[bytes, tuple[float, int]] = {}
        """Finished blocks that are being connected: until when that may take, and their bytes."""
        self._paths = ChainPaths(chain, limits)
        self._budget = BodyBudget(self._assemblies, self._asked, limits.in_flight_bytes)
        self.served = ServedBodies(lambda block_hash: chain.block(block_hash))  # noqa: PLW0108 - as it is then
        self.statements_reused = 0
        """Statements of announced blocks that did not travel twice."""
        self.statements_fetched = 0

    # Peers come and go.

    def on_connected(self, peer: PeerId, now: float) -> list[Action]:
        """Greet a new peer: say what this node has, ask for announcements and headers."""
        self._peers[peer] = SyncPeer(timeout=self._limits.body_timeout)
        return [
            Send(peer, self.status()),
            Send(peer, SendAnnouncements(high_bandwidth=True)),
            self._ask_headers(peer, now),
        ]

    def on_disconnected(self, peer: PeerId, now: float) -> list[Action]:
        """Forget a peer and ask others for what it owed."""
        state = self._peers.pop(peer, None)
        for block_hash in () if state is None else list(state.in_flight):
            if self._asked.get(block_hash) == peer:
                del self._asked[block_hash]
        return self._schedule(now)

    def status(self) -> Status:
        """Return this node's own status message."""
        tip = self._chain.tree.tip
        return Status(
            tip_hash=tip.hash, height=tip.height, chainwork=tip.chainwork.to_bytes(32, "big"), pruned_below=0
        )

    def is_behind(self) -> bool:
        """Tell whether a peer shows a chain with more work than the tip, and may have its next body.

        Headers alone do not count: anyone can keep their bodies back.
        """
        return any(self._paths.can_follow(state) for state in self._peers.values())

    def best_known_height(self) -> int:
        """Return the height of the best chain that can be had, or that a peer claims until it showed its headers."""
        heights = [self._chain.tree.tip.height]
        for state in self._peers.values():
            heights.append(state.claimed_height)
            if state.best is not None and self._paths.can_follow(state):
                heights.append(state.best.height)
        return max(heights)

    def vouches(self, peer: PeerId, block_hash: bytes) -> bool:
        """Tell whether a peer showed a block as part of its own active chain, not merely announced it.

        A block is announced before it is connected, so an honest peer may pass on one that breaks a rule of
        the state; only a peer that vouches for such a block is to blame for it.
        """
        state, node = self._peers.get(peer), self._chain.tree.get(block_hash)
        return (
            state is not None
            and state.vouched is not None
            and node is not None
            and is_ancestor(node, state.vouched)
        )

    # Messages.

    def on_status(self, peer: PeerId, message: Status, now: float) -> list[Action]:
        """Note what a peer has; ask for headers when it has more work."""
        state = self._peers[peer]
        state.pruned_below = message.pruned_below
        state.tip_hash = message.tip_hash
        node = self._chain.tree.get(message.tip_hash)
        if node is not None:
            self._note_best(state, node, vouched=True)
            return self._schedule(now)
        work = int.from_bytes(message.chainwork, "big")
        if work > self._chain.tree.best_header.chainwork:
            state.claimed_height = message.height
            if state.headers_deadline is None:
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
        nodes = tree.after(start, limit=MAX_HEADERS, stop=message.stop_hash)
        return [Send(peer, Headers(sealed_headers=self._chain.sealed_headers(nodes)))]

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

        A gap, a broken rule or a bad seal is the sender's fault; a missing parent or too new a time is nobody's.
        """
        state = self._peers[peer]
        state.headers_deadline = None
        last: HeaderNode | None = None
        more = len(headers) == MAX_HEADERS
        for position, sealed in enumerate(headers):
            if position and sealed.header.previous != headers[position - 1].hash:
                return [Punish(peer, "bad-prevblk", f"headers: expected a chain, got a gap at {position}")]
            try:
                last = self._chain.accept_header(sealed, now_ms=now_ms, seal_checked=seals_checked)
            except Temporary as error:
                self._wait_for_time(state, error, now)
                more = False
                break
            except RuleViolation as error:
                return self._blame(peer, error)
        if last is not None:
            self._note_best(state, last, vouched=True)
        if more and last is not None:
            if state.headers_end is last:
                return [Drop(peer, "no-progress", f"headers: expected new ones, got {last.height} again")]
            state.headers_end = last
            return [*self._schedule(now), self._ask_headers(peer, now, after=last)]
        self._settle_claim(state)
        return self._schedule(now)

    def _settle_claim(self, state: SyncPeer) -> None:
        """A peer showed all its headers: what it claimed beyond them does not count."""
        state.headers_end = None
        tip = self._chain.tree.get(state.tip_hash)
        if tip is not None:
            self._note_best(state, tip, vouched=True)
        state.claimed_height = 0

    def on_announce_block(
        self, peer: PeerId, message: AnnounceBlock, *, now: float, now_ms: int
    ) -> list[Action]:
        """Take a new header; rebuild its block from the mempool and ask for what is missing."""
        sealed = SealedHeader.decode(message.sealed_header)
        state = self._peers[peer]
        state.note_known(sealed.hash, self._limits.announce_known)
        try:
            node = self._chain.accept_header(sealed, now_ms=now_ms)
        except Temporary as error:
            self._wait_for_time(state, error, now)
            if error.code == "missing-parent" and state.headers_deadline is None:
                return [self._ask_headers(peer, now)]
            return []
        except RuleViolation as error:
            # Announced before it was connected there: what only the state tells may not be known there yet.
            return [] if error.code in UNKNOWN_TO_ANNOUNCERS else self._blame(peer, error)
        self._note_best(state, node)
        has_list = bool(message.leaves) or message.byte_count == 0
        if not has_list or not self._takes_announced(node):
            return self._schedule(now)
        return self._start_from_announcement(peer, node, sealed, message, now)

    def _takes_announced(self, node: HeaderNode) -> bool:
        """Tell whether an announced block is put together at once, and not in its turn."""
        return not (
            node.has_body
            or node.hash in self._ready
            or node.parent is None
            or not (node.parent.has_body or node.parent.hash in self._ready)
            or node.chainwork < self._limits.minimum_chainwork
            or (node.hash not in self._assemblies and len(self._assemblies) >= self._limits.assemblies)
        )

    def _start_from_announcement(
        self, peer: PeerId, node: HeaderNode, sealed: SealedHeader, message: AnnounceBlock, now: float
    ) -> list[Action]:
        assembly = self._assemblies.get(node.hash) or BodyAssembly(sealed)
        if assembly.leaves is None:
            try:
                assembly.set_leaves(message.leaves, message.byte_count)
            except RuleViolation as error:
                if not message.leaves:
                    return self._schedule(now)  # an announcement without leaves of a body that has some
                return self._blame(peer, error)
            assembly.fill(self._source)
        self._assemblies[node.hash] = assembly
        if done := self._finish(assembly, peer, now):
            return done + self._schedule(now)
        if node.hash in self._asked:
            return []
        return [self._ask_body(peer, assembly, now)]

    def on_get_body(self, peer: PeerId, message: GetBody) -> list[Action]:
        """Serve the statements of a block from an index on, as many as one chunk holds."""
        return [self.served.answer(peer, message)]

    def on_body_chunk(self, peer: PeerId, message: BodyChunk, now: float) -> list[Action]:
        """Check a chunk against the header and its leaves; ask for the rest or finish the block."""
        state = self._peers[peer]
        ask = state.in_flight.get(message.block_hash)
        if ask is None or ask.start is None:
            return []  # came after its deadline; somebody else was asked
        self._answered(peer, message.block_hash)
        assembly = self._assemblies.get(message.block_hash)
        if assembly is None:
            return self._schedule(now)
        brings_leaves = assembly.leaves is None and (bool(message.leaves) or not message.byte_count)
        if not brings_leaves and (message.start != ask.start or not message.statements):
            detail = f"BodyChunk: expected statements from {ask.start} on, got {len(message.statements)}"
            return [Punish(peer, "empty-chunk", detail), *self._schedule(now)]
        try:
            if brings_leaves:
                assembly.set_leaves(message.leaves, message.byte_count)
                assembly.fill(self._source)
            statements = [Statement.decode(item) for item in message.statements]
            assembly.add(message.start, statements)
        except (RuleViolation, DecodeError) as error:
            self._assemblies.pop(message.block_hash, None)
            return [*self._blame(peer, error), *self._schedule(now)]
        self.statements_fetched += len(statements)
        state.timeout = max(self._limits.body_timeout, state.timeout / 2)
        state.stalls = 0
        if done := self._finish(assembly, peer, now):
            return done + self._schedule(now)
        has_room = self._budget.has_room(assembly)
        return [self._ask_body(peer, assembly, now, since=ask.since)] if has_room else self._schedule(now)

    def on_statements(self, peer: PeerId, statements: Sequence[Statement], now: float) -> list[Action]:
        """Give statements that came, with checked payloads, to the bodies that wait for them."""
        actions: list[Action] = []
        state = self._peers.get(peer)
        for block_hash, assembly in list(self._assemblies.items()):
            taken = assembly.add_by_leaf(statements)
            if not taken:
                continue
            self.statements_fetched += taken
            ask = None if state is None else state.in_flight.get(block_hash)
            if done := self._finish(assembly, peer, now):
                actions += done
            elif ask is not None and ask.start is None:
                self._answered(peer, block_hash)
                if self._budget.has_room(assembly):
                    actions.append(self._ask_body(peer, assembly, now, since=ask.since))
        return actions + (self._schedule(now) if actions else [])

    def on_not_found(self, peer: PeerId, message: NotFound, now: float) -> list[Action]:
        """A peer lacks something: ask another one, or for the body instead of statements of it."""
        state = self._peers[peer]
        if message.missing is Missing.BODY:
            for block_hash in message.hashes:
                if self._answered(peer, block_hash):
                    state.lacks.add(block_hash)
            return self._schedule(now)
        actions: list[Action] = []
        for block_hash, ask in list(state.in_flight.items()):
            assembly = self._assemblies.get(block_hash)
            if ask.start is None and assembly is not None and assembly.lacks(message.hashes):
                actions.append(self._ask_body(peer, assembly, now, since=ask.since, whole=True))
        return actions

    # The node's own news, and time.

    def announce(self, block: Block) -> list[Action]:
        """Tell peers of a block whose work, seal and body were checked, unless they have it or a better one."""
        node = self._chain.tree.get(block.hash)
        work = 0 if node is None else node.chainwork
        unaware = [
            (peer, state)
            for peer, state in self._peers.items()
            if block.hash not in state.known and not state.has_work(work)
        ]
        if not unaware:
            return []
        header, size = block.sealed.encode(), block.body.byte_count()
        short = full = AnnounceBlock(sealed_header=header, byte_count=size, leaves=())
        if 0 < len(block.body.statements) <= MAX_BODY_LEAVES:
            full = AnnounceBlock(sealed_header=header, byte_count=size, leaves=block.body.leaves())
        actions: list[Action] = []
        for peer, state in unaware:
            state.note_known(block.hash, self._limits.announce_known)
            actions.append(Send(peer, full if state.high_bandwidth else short))
        return actions

    def on_refused(self, block_hash: bytes, now: float) -> list[Action]:
        """A finished block was not taken: when that was not the header's fault, its body is asked for again."""
        self._ready.pop(block_hash, None)
        return self._schedule(now)

    def on_tip_changed(self, now: float) -> list[Action]:
        """The active chain moved: bodies that are connected are no longer wanted, nor is an invalid chain's peer."""
        actions: list[Action] = []
        for peer, state in self._peers.items():
            state.lacks = {item for item in state.lacks if not self._is_settled(item)}
            if state.vouched is not None and state.vouched.invalid:
                detail = f"expected a valid chain, got block {state.vouched.hash.hex()}"
                actions.append(Drop(peer, "invalid-chain", detail))
        self._forget_settled(now)
        return actions + self._schedule(now)

    def on_tick(self, now: float) -> list[Action]:
        """Act on deadlines that have passed."""
        actions: list[Action] = []
        for peer, state in list(self._peers.items()):
            if state.headers_deadline is not None and now >= state.headers_deadline:
                state.headers_deadline = None
                actions += self._stalled(peer, state, "headers") or [self._ask_headers(peer, now)]
            if state.ask_again is not None and now >= state.ask_again and state.headers_deadline is None:
                state.ask_again = None
                actions.append(self._ask_headers(peer, now))
            late = [item for item, ask in state.in_flight.items() if ask.is_late(now, self._limits)]
            for block_hash in late:
                self._answered(peer, block_hash)
            if late:
                state.timeout = min(state.timeout * 2, self._limits.body_timeout_max)
                actions += self._stalled(peer, state, "a body")
        self._forget_settled(now)
        return actions + self._schedule(now)

    # Inside.

    def _wait_for_time(self, state: SyncPeer, error: Temporary, now: float) -> None:
        """A header from the future is asked for again later: perhaps no newer one will tell of it."""
        if error.code == "time-too-new" and state.ask_again is None:
            state.ask_again = now + self._limits.future_retry

    def _is_settled(self, block_hash: bytes) -> bool:
        node = self._chain.tree.get(block_hash)
        return node is None or node.has_body or node.invalid

    def _forget_settled(self, now: float) -> None:
        """Let go of blocks that are here, refused, not wanted any more, or that nobody could connect."""
        for block_hash, (deadline, _) in list(self._ready.items()):
            if now >= deadline or self._is_settled(block_hash):
                del self._ready[block_hash]
        wanted = {node.hash for node in self._paths.windows(self._peers.values())}
        for block_hash in list(self._assemblies):
            idle = block_hash not in self._asked and block_hash not in wanted
            if idle or self._is_settled(block_hash):
                del self._assemblies[block_hash]

    def _stalled(self, peer: PeerId, state: SyncPeer, what: str) -> list[Action]:
        state.stalls += 1
        if state.stalls < self._limits.stalls_until_drop:
            return []
        return [Drop(peer, "stalled", f"expected {what} in time, got nothing for the {state.stalls}. time")]

    def _blame(self, peer: PeerId, error: ConsensusError) -> list[Action]:
        if isinstance(error, RuleViolation) and not error.rule.punish:
            return [Drop(peer, error.code, error.message)]
        return [Punish(peer, error.code, error.message)]

    def _ask_headers(self, peer: PeerId, now: float, after: HeaderNode | None = None) -> Action:
        """Ask for what follows the best header, or for what follows `after` when that is on another chain."""
        tree = self._chain.tree
        start = tree.best_header
        if after is not None and not is_ancestor(after, start):
            start = after
        self._peers[peer].headers_deadline = now + self._limits.headers_timeout
        return Send(peer, GetHeaders(locator=tree.locator(start), stop_hash=ZERO_HASH))

    def _ask_body(
        self,
        peer: PeerId,
        assembly: BodyAssembly,
        now: float,
        *,
        since: float | None = None,
        whole: bool = False,
    ) -> Action:
        """Ask for statements that are missing, or for a chunk from the first of them on."""
        state, block_hash = self._peers[peer], assembly.sealed.hash
        began = now if since is None else since
        missing = assembly.missing_leaves()
        few = missing and (assembly.reused or len(missing) <= 1) and len(missing) <= MAX_INVENTORY
        start = None if few and not whole else assembly.next_start()
        self._asked[block_hash] = peer
        state.in_flight[block_hash] = Ask(deadline=now + state.timeout, since=began, start=start)
        if start is None:
            return Send(peer, GetStatements(leaves=missing))
        return Send(peer, GetBody(block_hash=block_hash, start=start, with_leaves=assembly.leaves is None))

    def _answered(self, peer: PeerId, block_hash: bytes) -> bool:
        """Note that a peer owes nothing for a block any more; tell whether it did."""
        if self._asked.get(block_hash) == peer:
            del self._asked[block_hash]
        return self._peers[peer].in_flight.pop(block_hash, None) is not None

    def _finish(self, assembly: BodyAssembly, peer: PeerId, now: float) -> list[Action]:
        block = assembly.block()
        if block is None:
            return []
        asked = self._asked.pop(block.hash, None)
        if asked is not None and asked in self._peers:
            self._peers[asked].in_flight.pop(block.hash, None)
        self._assemblies.pop(block.hash, None)
        self._ready[block.hash] = now + self._limits.body_timeout_max, assembly.byte_count
        self.statements_reused += assembly.reused
        return [BlockReady(block, peer)]

    def _note_best(self, state: SyncPeer, node: HeaderNode, *, vouched: bool = False) -> None:
        if state.best is None or node.chainwork > state.best.chainwork or state.best.invalid:
            state.best = node
            state.lacks.clear()
        if vouched and (state.vouched is None or node.chainwork >= state.vouched.chainwork):
            state.vouched = node
        state.note_known(node.hash, self._limits.announce_known)

    def _schedule(self, now: float) -> list[Action]:
        """Ask peers for the lowest missing bodies, as far as the window and their limits allow."""
        waiting = sum(size for _, size in self._ready.values())
        room = self._limits.in_flight_per_peer
        able = [
            (state.stalls, len(state.in_flight), peer, iter(path.window(self._limits.window_blocks)))
            for peer, state in self._peers.items()
            if len(state.in_flight) < room and (path := self._paths.path(state)) is not None
        ]
        actions: list[Action] = []
        while able and waiting <= self._limits.ready_bytes:
            stalls, owed, peer, nodes = able.pop(able.index(min(able, key=lambda item: item[:3])))
            node = next((item for item in nodes if self._may_ask(peer, item)), None)
            sealed = None if node is None else self._chain.sealed_header(node.hash)
            if node is None or sealed is None:
                continue
            assembly = self._assemblies.get(node.hash) or BodyAssembly(sealed)
            if not self._budget.has_room(assembly):
                break
            self._assemblies[node.hash] = assembly
            actions.append(self._ask_body(peer, assembly, now))
            if owed + 1 < room:
                able.append((stalls, owed + 1, peer, nodes))
        return actions

    def _may_ask(self, peer: PeerId, node: HeaderNode) -> bool:
        state = self._peers[peer]
        return not (node.hash in self._ready or node.hash in self._asked or not state.may_have(node))
