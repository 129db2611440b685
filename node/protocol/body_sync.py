"""Bodies: who was asked for which, until when, and what is being put together.

Owns the bodies on their way: it downloads those of each peer's best chain in a moving window, rebuilds announced
blocks from the mempool, and hands finished blocks out as `BlockReady`. Only chains with more work than the tip, and
at least the operator's minimum, are downloaded, each from peers that showed its headers and may have the body: a
chain whose bodies nobody delivers keeps no other chain waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import tee

from ...consensus.block import SealedHeader
from ...consensus.chain import HeaderNode
from ...consensus.errors import DecodeError, RuleViolation
from ...consensus.statement import Statement
from ..wire.limits import MAX_INVENTORY
from ..wire.messages import (
    AnnounceBlock,
    BodyChunk,
    GetBody,
    GetLeaves,
    GetStatements,
    Leaves,
    Missing,
    NotFound,
)
from .actions import Action, BlockReady, PeerId, Punish, Send
from .assembly import BodyAssembly, StatementByLeaf
from .body_budget import BodyBudget
from .paths import ChainPath, ChainPaths
from .relay_counts import RelayCounts, leaves_bytes
from .sync_peer import Ask, ChainPort, ReadyBlock, SyncLimits, SyncPeer, blame
from .window_stall import WindowStall


class BodySync:
    """See the module's text."""

    def __init__(
        self,
        chain: ChainPort,
        peers: Mapping[PeerId, SyncPeer],
        source: StatementByLeaf,
        limits: SyncLimits,
        counts: RelayCounts,
    ) -> None:
        """``source`` finds statements that are here already, by leaf."""
        self._chain = chain
        self._source = source
        self._limits = limits
        self._peers = peers
        self._counts = counts
        self.assemblies: dict[bytes, BodyAssembly] = {}
        self.asked: dict[bytes, PeerId] = {}
        """Who was asked for the body, or for statements of it."""
        self._ready: dict[bytes, ReadyBlock] = {}
        """Finished blocks that are being connected."""
        self.paths = ChainPaths(chain, limits)
        self._window = WindowStall(peers, self.paths, self.asked, self._ready, limits)
        self._budget = BodyBudget(self.assemblies, self.asked, limits.in_flight_bytes)

    def on_disconnected(self, peer: PeerId, state: SyncPeer) -> None:
        """Free what a peer owed for others to be asked."""
        for block_hash in list(state.in_flight):
            if self.asked.get(block_hash) == peer:
                del self.asked[block_hash]

    # Announced blocks.

    def on_announced(
        self, peer: PeerId, node: HeaderNode, sealed: SealedHeader, message: AnnounceBlock, now: float
    ) -> list[Action]:
        """Put an announced block together at once, or let it wait for its turn."""
        self._counts.announcements_known += node.has_body or node.hash in self._ready
        has_list = bool(message.leaves) or message.byte_count == 0
        if not self._takes_announced(node):
            return self.schedule(now)
        if not has_list:
            return self._ask_leaves(peer, node, sealed, now)
        assembly = self.assemblies.get(node.hash) or BodyAssembly(sealed)
        if assembly.leaves is None:
            try:
                assembly.set_leaves(message.leaves, message.byte_count)
            except RuleViolation as error:
                if not message.leaves:
                    return self.schedule(now)  # an announcement without leaves of a body that has some
                return [blame(peer, error)]
            assembly.fill(self._source)
        self.assemblies[node.hash] = assembly
        if done := self._finish(assembly, peer, now):
            return done + self.schedule(now)
        if not self._peers[peer].may_have(node) or not self._takes_over(node.hash):
            return []
        return [self._ask(peer, assembly, now)]

    def _ask_leaves(self, peer: PeerId, node: HeaderNode, sealed: SealedHeader, now: float) -> list[Action]:
        """Ask who announced a block by its header alone for its leaves: most statements are likely to be here."""
        state = self._peers[peer]
        is_better = node.chainwork > self._chain.tree.tip.chainwork
        has_room = len(state.in_flight) < self._limits.in_flight_per_peer
        is_fresh = node.hash not in self.assemblies and self._may_ask(peer, node)
        if not (is_better and has_room and is_fresh and state.has_get_leaves):
            return self.schedule(now)
        self.assemblies[node.hash] = BodyAssembly(sealed)
        self.asked[node.hash] = peer
        state.in_flight[node.hash] = Ask(deadline=now + state.timeout, since=now, start=None, is_leaves=True)
        return [Send(peer, GetLeaves(block_hash=node.hash))]

    def _takes_over(self, block_hash: bytes) -> bool:
        """Tell whether nobody need be waited for: nobody is asked, or only for leaves that are here by now."""
        asked = self.asked.get(block_hash)
        if asked is None:
            return True
        ask = self._peers[asked].in_flight.get(block_hash)
        if ask is None or not ask.is_leaves:
            return False
        return self._answered(asked, block_hash)

    def _takes_announced(self, node: HeaderNode) -> bool:
        """Tell whether an announced block is put together at once, and not in its turn."""
        return not (
            node.has_body
            or node.hash in self._ready
            or node.parent is None
            or not (node.parent.has_body or node.parent.hash in self._ready)
            or node.chainwork < self._limits.minimum_chainwork
            or (node.hash not in self.assemblies and len(self.assemblies) >= self._limits.assemblies)
        )

    # Answers.

    def on_body_chunk(self, peer: PeerId, message: BodyChunk, now: float) -> list[Action]:
        """Check a chunk against the header and its leaves; ask for the rest or finish the block."""
        state = self._peers[peer]
        ask = state.in_flight.get(message.block_hash)
        is_overdue = (message.block_hash, message.start) in state.overdue
        if ask is None or ask.start is None or (is_overdue and message.start != ask.start):
            if is_overdue:
                del state.overdue[message.block_hash, message.start]
                state.on_answer(now, self._limits)
            return []  # came after its deadline; it was asked for again, perhaps of somebody else
        self._answered(peer, message.block_hash)
        assembly = self.assemblies.get(message.block_hash)
        if assembly is None:
            return self.schedule(now)
        brings_leaves = assembly.leaves is None and (bool(message.leaves) or not message.byte_count)
        if not brings_leaves and (message.start != ask.start or not message.statements):
            detail = f"BodyChunk: expected statements from {ask.start} on, got {len(message.statements)}"
            return [Punish(peer, "empty-chunk", detail), *self.schedule(now)]
        try:
            if brings_leaves:
                assembly.set_leaves(message.leaves, message.byte_count)
                assembly.fill(self._source)
            statements = [Statement.decode(item) for item in message.statements]
            assembly.add(message.start, statements)
        except (RuleViolation, DecodeError) as error:
            self.assemblies.pop(message.block_hash, None)
            return [blame(peer, error), *self.schedule(now)]
        self._counts.statements_fetched += len(statements)
        self._counts.block_bytes += sum(map(len, message.statements)) + leaves_bytes(len(message.leaves))
        state.on_answer(now, self._limits)
        if done := self._finish(assembly, peer, now):
            return done + self.schedule(now)
        has_room = self._budget.has_room(assembly)
        return [self._ask(peer, assembly, now, since=ask.since)] if has_room else self.schedule(now)

    def on_leaves(self, peer: PeerId, message: Leaves, now: float) -> list[Action]:
        """Check the leaves of a body against its header; ask for what is not here, or finish the block."""
        state, block_hash = self._peers[peer], message.block_hash
        ask = state.in_flight.get(block_hash)
        self._counts.block_bytes += leaves_bytes(len(message.leaves))
        if ask is None or not ask.is_leaves:
            return []  # came after its deadline, or after somebody else announced the block with leaves
        self._answered(peer, block_hash)
        assembly = self.assemblies.get(block_hash)
        if assembly is None:
            return self.schedule(now)
        try:
            assembly.set_leaves(message.leaves, message.byte_count)
        except RuleViolation as error:
            self.assemblies.pop(block_hash, None)
            return [blame(peer, error), *self.schedule(now)]
        state.on_answer(now, self._limits)
        assembly.fill(self._source)
        if done := self._finish(assembly, peer, now):
            return done + self.schedule(now)
        has_room = self._budget.has_room(assembly)
        return [self._ask(peer, assembly, now, since=ask.since)] if has_room else self.schedule(now)

    def on_statements(self, peer: PeerId, statements: Sequence[Statement], now: float) -> list[Action]:
        """Give statements that came, with checked payloads, to the bodies that wait for them."""
        actions: list[Action] = []
        state = self._peers.get(peer)
        for block_hash, assembly in list(self.assemblies.items()):
            before = assembly.received_bytes
            taken = assembly.add_by_leaf(statements)
            if not taken:
                continue
            self._counts.statements_fetched += taken
            self._counts.block_bytes += assembly.received_bytes - before
            ask = None if state is None else state.in_flight.get(block_hash)
            if done := self._finish(assembly, peer, now):
                actions += done
            elif ask is not None and ask.start is None:
                self._answered(peer, block_hash)
                if self._budget.has_room(assembly):
                    actions.append(self._ask(peer, assembly, now, since=ask.since))
        return actions + (self.schedule(now) if actions else [])

    def on_not_found(self, peer: PeerId, message: NotFound, now: float) -> list[Action]:
        """A peer lacks something: ask another one, or for the body instead of statements of it."""
        state = self._peers[peer]
        if message.missing is not Missing.STATEMENT:
            for block_hash in message.hashes:
                if self._answered(peer, block_hash) and message.missing is Missing.BODY:
                    state.lacks.add(block_hash)
            return self.schedule(now)
        actions: list[Action] = []
        for block_hash, ask in list(state.in_flight.items()):
            assembly = self.assemblies.get(block_hash)
            if ask.start is None and assembly is not None and assembly.lacks(message.hashes):
                actions.append(self._ask(peer, assembly, now, since=ask.since, whole=True))
        return actions

    # Time, and the chain's moves.

    def on_refused(self, block_hash: bytes) -> None:
        """A finished block was not taken: when that was not the header's fault, its body is asked for again."""
        self._ready.pop(block_hash, None)

    def is_late(self, peer: PeerId, state: SyncPeer, now: float) -> bool:
        """Take back what a peer owes for too long; tell whether there was something."""
        late = [item for item, ask in state.in_flight.items() if ask.is_late(now, self._limits)]
        for block_hash in late:
            self._give_up(peer, block_hash)
        return bool(late)

    def _give_up(self, peer: PeerId, block_hash: bytes) -> None:
        if self.asked.get(block_hash) == peer:
            del self.asked[block_hash]
        self._peers[peer].give_up(block_hash, self._limits)

    def on_window(self, now: float) -> PeerId | None:
        """Take the body that holds up all others back from whoever owes it; return that peer."""
        found = self._window.find(now)
        if found is None:
            return None
        self._give_up(*found)
        return found[0]

    def is_settled(self, block_hash: bytes) -> bool:
        """Tell whether a block is here, refused, or not known any more."""
        node = self._chain.tree.get(block_hash)
        return node is None or node.has_body or node.invalid

    def forget_settled(self, now: float) -> PeerId | None:
        """Let go of blocks that are here, refused, not wanted any more, or that nobody could connect.

        Returns the peer that brought the block which is the tip now, once.
        """
        brought: PeerId | None = None
        for block_hash, ready in list(self._ready.items()):
            if now >= ready.deadline or self.is_settled(block_hash):
                del self._ready[block_hash]
                brought = ready.peer if block_hash == self._chain.tree.tip.hash else brought
        wanted = {node.hash for node in self.paths.windows(self._peers.values())}
        for block_hash in list(self.assemblies):
            idle = block_hash not in self.asked and block_hash not in wanted
            if idle or self.is_settled(block_hash):
                del self.assemblies[block_hash]
        return brought

    # Asking.

    def schedule(self, now: float) -> list[Action]:
        """Ask peers for the lowest missing bodies, as far as the window and their limits allow."""
        waiting = sum(ready.size_bytes for ready in self._ready.values())
        room = self._limits.in_flight_per_peer
        free: dict[int, Iterator[HeaderNode]] = {}
        able: list[tuple[int, int, PeerId, Iterator[HeaderNode]]] = []
        for peer, state in self._peers.items():
            if len(state.in_flight) < room and (path := self.paths.path(state)) is not None:
                # What is asked for already is passed over once for all peers that show the same chain.
                free[id(path)], own = tee(free.get(id(path)) or self._free(path))
                able.append((state.stalls, len(state.in_flight), peer, own))
        actions: list[Action] = []
        while able and waiting <= self._limits.ready_bytes:
            stalls, owed, peer, nodes = able.pop(able.index(min(able, key=lambda item: item[:3])))
            node = next((item for item in nodes if self._may_ask(peer, item)), None)
            sealed = None if node is None else self._chain.sealed_header(node.hash)
            if node is None or sealed is None:
                continue
            assembly = self.assemblies.get(node.hash) or BodyAssembly(sealed)
            if not self._budget.has_room(assembly):
                break
            self.assemblies[node.hash] = assembly
            actions.append(self._ask(peer, assembly, now))
            if owed + 1 < room:
                able.append((stalls, owed + 1, peer, nodes))
        return actions

    def _free(self, path: ChainPath) -> Iterator[HeaderNode]:
        """Yield what is missing on a way and was not asked for."""
        for node in path.window(self._limits.window_blocks):
            if node.hash not in self._ready and node.hash not in self.asked:
                yield node

    def _may_ask(self, peer: PeerId, node: HeaderNode) -> bool:
        state = self._peers[peer]
        return not (node.hash in self._ready or node.hash in self.asked or not state.may_have(node))

    def _ask(
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
        self.asked[block_hash] = peer
        state.in_flight[block_hash] = Ask(deadline=now + state.timeout, since=began, start=start)
        if start is None:
            return Send(peer, GetStatements(leaves=missing))
        return Send(peer, GetBody(block_hash=block_hash, start=start, with_leaves=assembly.leaves is None))

    def _answered(self, peer: PeerId, block_hash: bytes) -> bool:
        """Note that a peer owes nothing for a block any more; tell whether it did."""
        if self.asked.get(block_hash) == peer:
            del self.asked[block_hash]
        return self._peers[peer].in_flight.pop(block_hash, None) is not None

    def _finish(self, assembly: BodyAssembly, peer: PeerId, now: float) -> list[Action]:
        block = assembly.block()
        if block is None:
            return []
        asked = self.asked.pop(block.hash, None)
        if asked is not None and asked in self._peers:
            self._peers[asked].in_flight.pop(block.hash, None)
        self.assemblies.pop(block.hash, None)
        if peer in self._peers:
            self._peers[
                peer
            ].stalls = 0  # a whole body: one who brings it in drips does not come here in time
        self._ready[block.hash] = ReadyBlock(
            deadline=now + self._limits.body_timeout_max, size_bytes=assembly.byte_count, peer=peer
        )
        self._window.on_body()
        self._counts.blocks += 1
        self._counts.statements_reused += assembly.reused
        return [BlockReady(block, peer)]
