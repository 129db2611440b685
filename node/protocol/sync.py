"""Headers-first synchronisation and block relay, as a state machine.

Owns the peers, and what each is known to have; puts together headers (`header_sync`) and bodies (`body_sync`),
announces new blocks, and tells how far behind this node is. It connects nothing: finished blocks leave as
`BlockReady`.

It is driven by `on_*` calls with a monotonic clock in seconds and returns actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...consensus.block import Block, SealedHeader
from ...consensus.errors import RuleViolation, Temporary
from ...consensus.statement import Statement
from ..wire.limits import MAX_BODY_LEAVES
from ..wire.messages import (
    BY_TYPE,
    AnnounceBlock,
    BodyChunk,
    GetBody,
    GetHeaders,
    GetLeaves,
    Leaves,
    NotFound,
    SendAnnouncements,
    Status,
)
from .actions import Action, Drop, PeerId, Send
from .announcers import Announcers
from .assembly import StatementByLeaf
from .body_sync import BodySync
from .equivocation import Equivocations
from .header_sync import HeaderSync, Sifted
from .presync import HeaderRules
from .relay_counts import RelayCounts, announcement_bytes
from .serving import ServedBodies
from .sync_peer import DEFAULT_LIMITS, ChainPort, SyncLimits, SyncPeer, blame, is_ancestor
from .sync_progress import Behind, how_far_behind

UNKNOWN_TO_ANNOUNCERS = frozenset({"bad-prevblk", "unauthorized-producer"})
"""Rules that an honest peer may not have checked yet when it announces a block."""

__all__ = ["DEFAULT_LIMITS", "ChainPort", "HeaderRules", "SyncLimits", "Synchronizer"]


class Synchronizer:
    """See the module's text."""

    def __init__(
        self,
        chain: ChainPort,
        source: StatementByLeaf,
        limits: SyncLimits = DEFAULT_LIMITS,
        rules: HeaderRules | None = None,
    ) -> None:
        """Sync ``chain``; ``source`` finds statements that are here already, by leaf.

        ``rules``: what headers of little work are checked against before ``chain`` is given them; None gives it all.
        """
        self._chain = chain
        self._limits = limits
        self._peers: dict[PeerId, SyncPeer] = {}
        self.counts = RelayCounts()
        self.equivocations = Equivocations()
        self.headers = HeaderSync(chain, self._peers, limits, rules, self.equivocations)
        self._bodies = BodySync(chain, self._peers, source, limits, self.counts)
        self._announcers = Announcers(limits.announcers, limits.announcer_swap)
        self.served = ServedBodies(lambda block_hash: chain.block(block_hash))  # noqa: PLW0108 - as it is then
        self._assemblies, self._asked = self._bodies.assemblies, self._bodies.asked

    # Peers come and go.

    def on_connected(
        self, peer: PeerId, now: float, *, outbound: bool = False, version: int = 1
    ) -> list[Action]:
        """Greet a new peer: say what this node has, ask for headers, and perhaps for announcements with leaves.

        `version`: of the wire, that this connection speaks.
        """
        self._peers[peer] = SyncPeer(
            timeout=self._limits.body_timeout,
            outbound=outbound,
            has_get_leaves=version >= BY_TYPE[GetLeaves].since,
        )
        return [Send(peer, self.status()), *self._fill_announcers(), self.headers.ask(peer, now)]

    def on_disconnected(self, peer: PeerId, now: float) -> list[Action]:
        """Forget a peer and ask others for what it owed."""
        state = self._peers.pop(peer, None)
        if state is None:
            return []
        self._bodies.on_disconnected(peer, state)
        freed = self._announcers.on_disconnected(peer)
        return [*(self._fill_announcers() if freed else ()), *self._bodies.schedule(now)]

    def status(self) -> Status:
        """Return this node's own status message."""
        tip = self._chain.tree.tip
        return Status(
            tip_hash=tip.hash,
            height=tip.height,
            chainwork=tip.chainwork.to_bytes(32, "big"),
            pruned_below=self._chain.pruned_below,
        )

    def behind(self) -> Behind:
        """Return what this node misses of the best chain that it can have."""
        return how_far_behind(self._chain.tree.tip, self._bodies.paths, self._peers.values())

    def is_behind(self) -> bool:
        """Tell whether a peer shows a chain with more work than the tip, and may have its next body.

        Headers alone do not count: anyone can keep their bodies back.
        """
        return any(self._bodies.paths.can_follow(state) for state in self._peers.values())

    def best_known_height(self) -> int:
        """Return the height of the best chain that can be had: shown by its headers, not merely claimed."""
        return self.behind().height

    def announces_with_leaves(self, peer: PeerId) -> bool:
        """Tell whether a peer was asked to announce blocks at once and with their leaves."""
        return peer in self._announcers

    def pruned_below(self, peer: PeerId) -> int:
        """Return the height below which a peer says that it has no bodies."""
        state = self._peers.get(peer)
        return 0 if state is None else state.pruned_below

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

    # Messages about headers.

    def on_status(self, peer: PeerId, message: Status, now: float) -> list[Action]:
        """Note what a peer has; ask for headers when it has more work."""
        state = self._peers[peer]
        state.pruned_below = message.pruned_below
        state.tip_hash = message.tip_hash
        node = self._chain.tree.get(message.tip_hash)
        if node is not None:
            state.note_best(node, self._limits.announce_known, vouched=True)
            return self._bodies.schedule(now)
        work = int.from_bytes(message.chainwork, "big")
        if work > self._chain.tree.best_header.chainwork and state.headers_deadline is None:
            return [self.headers.ask(peer, now)]
        return []

    def on_send_announcements(self, peer: PeerId, message: SendAnnouncements) -> list[Action]:
        """Note how a peer wants to hear of blocks."""
        self._peers[peer].high_bandwidth = message.high_bandwidth
        return []

    def on_get_headers(self, peer: PeerId, message: GetHeaders) -> list[Action]:
        """Serve headers of the active chain after the first hash that is known."""
        return [self.headers.serve(peer, message)]

    def sift_headers(
        self, peer: PeerId, headers: Sequence[SealedHeader], *, now: float, now_ms: int
    ) -> Sifted:
        """Say which headers of a message are to be stored; their seals may be checked before they are."""
        return self.headers.sift(peer, headers, now=now, now_ms=now_ms)

    def store_headers(
        self, peer: PeerId, sifted: Sifted, *, now: float, now_ms: int, seals_checked: bool = False
    ) -> list[Action]:
        """Store what :meth:`sift_headers` returned; ask for more headers when there are some, and for bodies."""
        if sifted.actions:
            return list(sifted.actions)
        state = self._peers[peer]
        actions, last, is_end = self.headers.store(
            peer, sifted, now=now, now_ms=now_ms, seals_checked=seals_checked
        )
        if last is not None:
            state.note_best(last, self._limits.announce_known, vouched=True)
        if is_end:
            state.headers_end = None
            tip = self._chain.tree.get(state.tip_hash)
            if tip is not None:
                state.note_best(tip, self._limits.announce_known, vouched=True)
        return [*self._bodies.schedule(now), *actions]

    def on_headers(
        self,
        peer: PeerId,
        headers: Sequence[SealedHeader],
        *,
        now: float,
        now_ms: int,
        seals_checked: bool = False,
    ) -> list[Action]:
        """Take a message of headers in one step."""
        sifted = self.sift_headers(peer, headers, now=now, now_ms=now_ms)
        return self.store_headers(peer, sifted, now=now, now_ms=now_ms, seals_checked=seals_checked)

    def on_announce_block(
        self, peer: PeerId, message: AnnounceBlock, *, now: float, now_ms: int
    ) -> list[Action]:
        """Take a new header; rebuild its block from the mempool and ask for what is missing."""
        sealed = SealedHeader.decode(message.sealed_header)
        state = self._peers[peer]
        state.note_known(sealed.hash, self._limits.announce_known)
        self.counts.announcements += 1
        self.counts.block_bytes += announcement_bytes(len(message.leaves))
        if not self.headers.is_worth_storing(sealed):
            return []
        try:
            node = self._chain.accept_header(sealed, now_ms=now_ms)
        except Temporary as error:
            self.headers.wait_for_time(state, error, now)
            if error.code == "missing-parent" and state.headers_deadline is None:
                return [self.headers.ask(peer, now)]
            return []
        except RuleViolation as error:
            # Announced before it was connected there: what only the state tells may not be known there yet.
            return [] if error.code in UNKNOWN_TO_ANNOUNCERS else [blame(peer, error)]
        self.equivocations.on_header(node, now_ms)
        state.note_best(node, self._limits.announce_known)
        return self._bodies.on_announced(peer, node, sealed, message, now)

    # Messages about bodies.

    def on_get_body(self, peer: PeerId, message: GetBody) -> list[Action]:
        """Serve the statements of a block from an index on, as many as one chunk holds."""
        return [self.served.answer(peer, message)]

    def on_get_leaves(self, peer: PeerId, message: GetLeaves) -> list[Action]:
        """Serve the leaves of a block's body."""
        return [self.served.answer_leaves(peer, message)]

    def on_leaves(self, peer: PeerId, message: Leaves, now: float) -> list[Action]:
        """Check the leaves of a body against its header, and ask for the statements that are not here."""
        return self._bodies.on_leaves(peer, message, now)

    def on_body_chunk(self, peer: PeerId, message: BodyChunk, now: float) -> list[Action]:
        """Check a chunk against the header and its leaves; ask for the rest or finish the block."""
        return self._bodies.on_body_chunk(peer, message, now)

    def on_statements(self, peer: PeerId, statements: Sequence[Statement], now: float) -> list[Action]:
        """Give statements that came, with checked payloads, to the bodies that wait for them."""
        return self._bodies.on_statements(peer, statements, now)

    def on_not_found(self, peer: PeerId, message: NotFound, now: float) -> list[Action]:
        """A peer lacks something: ask another one, or for the body instead of statements of it."""
        return self._bodies.on_not_found(peer, message, now)

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
        self._bodies.on_refused(block_hash)
        return self._bodies.schedule(now)

    def on_tip_changed(self, now: float) -> list[Action]:
        """The active chain moved: bodies that are connected are no longer wanted, nor is an invalid chain's peer."""
        actions: list[Action] = []
        for peer, state in self._peers.items():
            state.lacks = {item for item in state.lacks if not self._bodies.is_settled(item)}
            if state.vouched is not None and state.vouched.invalid:
                detail = f"expected a valid chain, got block {state.vouched.hash.hex()}"
                actions.append(Drop(peer, "invalid-chain", detail))
        first = self._bodies.forget_settled(now)
        if first is not None and first in self._peers:
            outbound = self._peers[first].outbound
            actions += _tell(self._announcers.on_delivered(first, now, outbound=outbound))
        return actions + self._bodies.schedule(now)

    def on_tick(self, now: float) -> list[Action]:
        """Act on deadlines that have passed."""
        actions: list[Action] = []
        for peer, state in list(self._peers.items()):
            asked, is_late = self.headers.on_tick(peer, state, now)
            actions += (self._stalled(peer, state, "headers") if is_late else []) or asked
            if self._bodies.is_late(peer, state, now):
                state.timeout = min(state.timeout * 2, self._limits.body_timeout_max)
                actions += self._stalled(peer, state, "a body")
        staller = self._bodies.on_window(now)
        if staller is not None:
            actions += self._stalled(staller, self._peers[staller], "the lowest body")
        self._bodies.forget_settled(now)
        return actions + self._bodies.schedule(now)

    # Inside.

    def _fill_announcers(self) -> list[Action]:
        peers = ((peer, state.outbound) for peer, state in self._peers.items())
        return _tell(self._announcers.fill(peers))

    def _stalled(self, peer: PeerId, state: SyncPeer, what: str) -> list[Action]:
        state.stalls += 1
        if state.stalls < self._limits.stalls_until_drop:
            return []
        return [Drop(peer, "stalled", f"expected {what} in time, got nothing for the {state.stalls}. time")]


def _tell(changes: Iterable[tuple[PeerId, bool]]) -> list[Action]:
    """Tell peers how to announce blocks from now on."""
    return [Send(peer, SendAnnouncements(high_bandwidth=high)) for peer, high in changes]
