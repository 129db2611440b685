"""Statement relay by inventory and request, as a state machine.

Owns which leaves each peer is known to hold, which were asked of whom and until when, and what is
still to be announced. It checks that a statement is the one that was asked for and no more: statements
leave as `StatementReceived` and come back through `on_accepted` once the mempool took them.

A peer is asked for a few groups of leaves at a time; what else it offers waits for its turn. A group that is
answered in part is asked for again as long as answers bring something; one that is not answered goes to
other peers that offered the same, and otherwise to the end of the peer's own queue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...consensus.errors import ConsensusError, DecodeError, RuleViolation
from ...consensus.statement import Statement
from ...consensus.validation import check_payload_hash
from ..wire.chunks import cut_statements
from ..wire.limits import MAX_INVENTORY
from ..wire.messages import GetStatements, Inventory, Missing, NotFound
from .actions import Action, Drop, PeerId, Punish, Send, StatementReceived
from .assembly import StatementByLeaf
from .relay_counts import RelayCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Policy of the relay; times in seconds."""

    known_per_peer: int = 50_000
    """Leaves remembered per peer."""
    offers_per_peer: int = 20_000
    """Leaves that a peer offered and that wait to be asked for; inventory beyond it is passed over."""
    announce_per_peer: int = 50_000
    """Leaves that wait to be announced to a peer; the oldest are passed over."""
    groups_per_peer: int = 4
    """Requests that one peer may owe an answer to."""
    request_timeout: float = 15.0
    """After it, another peer that has the statements is asked."""
    request_size: int = 1_000
    """Leaves in one request."""
    stalls_until_drop: int = 4
    """Requests in a row that a peer may leave unanswered."""


DEFAULT_LIMITS = RelayLimits()

UNBOUNDED: Final = 2**32
"""Room of somebody who takes everything."""


@dataclass(slots=True)
class _Group:
    """Leaves of one request, in its order."""

    leaves: dict[bytes, None]
    deadline: float


@dataclass(slots=True)
class _Peer:
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    sent: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    """Leaves whose statements it was sent."""
    announce: dict[bytes, None] = field(default_factory=dict)
    offers: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    """Leaves that it has and that nobody was asked for yet."""
    spare: dict[bytes, None] = field(default_factory=dict)
    """Leaves that it has, too, and that another peer was asked for."""
    groups: list[_Group] = field(default_factory=list)
    stalls: int = 0
    blocks_only: bool = False
    """Statements are neither offered to it nor taken from it, but for those of blocks."""


@dataclass(slots=True)
class ReadStatements:
    """Statements of a message whose payloads are checked, up to the first one that is wrong."""

    statements: list[Statement] = field(default_factory=list)
    error: ConsensusError | None = None
    """What is wrong with that one."""


def read_statements(encoded: Iterable[bytes], read: ReadStatements | None = None) -> ReadStatements:
    """Decode statements, after those that were `read` of the same message before."""
    read = read or ReadStatements()
    for item in encoded:
        try:
            statement = Statement.decode(item)
            check_payload_hash(statement)
        except (DecodeError, RuleViolation) as error:
            read.error = error
            break
        read.statements.append(statement)
    return read


class Relay:
    """See the module's text."""

    def __init__(
        self,
        source: StatementByLeaf,
        limits: RelayLimits = DEFAULT_LIMITS,
        counts: RelayCounts | None = None,
        room: Callable[[], int] = lambda: UNBOUNDED,
        waits: Callable[[bytes], bool] = lambda _leaf: True,
    ) -> None:
        """``source`` finds a statement by leaf in the mempool or in recent blocks; ``counts`` may be shared.

        ``room`` tells how many statements may be under way to the mempool: more are not asked for. ``waits`` tells
        whether one is in the mempool at this moment: what a block took meanwhile is no news, since blocks bring it.
        """
        self._source = source
        self._room = room
        self._waits = waits
        self._limits = limits
        self.counts = counts or RelayCounts()
        self._peers: dict[PeerId, _Peer] = {}
        self._asked: dict[bytes, PeerId] = {}
        self._checking: dict[bytes, None] = {}
        """Leaves that came and that the mempool has not judged yet."""

    def on_connected(
        self, peer: PeerId, mempool: Iterable[bytes], *, blocks_only: bool = False
    ) -> list[Action]:
        """Offer a new peer everything in the mempool; `blocks_only`: nothing, now or later."""
        waiting = () if blocks_only else mempool
        self._peers[peer] = _Peer(announce=dict.fromkeys(waiting), blocks_only=blocks_only)
        return self.flush((peer,))

    def on_disconnected(self, peer: PeerId, now: float) -> list[Action]:
        """Forget a peer; ask others for what it owed."""
        state = self._peers.pop(peer, None)
        if state is None:
            return []
        for group in state.groups:
            self._release(peer, group.leaves)
        return self._ask_all(now)

    def on_inventory(self, peer: PeerId, message: Inventory, now: float) -> list[Action]:
        """Ask for what is new; remember the peer as another source of what was asked elsewhere."""
        state = self._peers[peer]
        if state.blocks_only:
            return []
        for leaf in message.leaves:
            self._note_known(state, leaf)
            state.announce.pop(leaf, None)
            has_room = len(state.offers) + len(state.spare) < self._limits.offers_per_peer
            if has_room and not self._is_here(leaf):
                (state.spare if leaf in self._asked else state.offers)[leaf] = None
        return self._ask(peer, now)

    def on_get_statements(self, peer: PeerId, message: GetStatements) -> list[Action]:
        """Serve statements by leaf, as many as one message holds."""
        state = self._peers[peer]
        found = [item for leaf in message.leaves if (item := self._source(leaf)) is not None]
        if not found:
            return [Send(peer, NotFound(missing=Missing.STATEMENT, hashes=message.leaves))]
        answer = cut_statements([item.encode() for item in found])
        for item in found[: len(answer.statements)]:
            self.counts.statements_sent_again += item.leaf in state.sent
            self._note_sent(state, item.leaf)
            self._note_known(state, item.leaf)
        self.counts.statements_sent += len(answer.statements)
        return [Send(peer, answer)]

    def on_statements(
        self, peer: PeerId, encoded: Sequence[bytes], now: float
    ) -> tuple[list[Action], list[Statement]]:
        """Take statements that came in one step; return actions and the decoded statements."""
        read = read_statements(encoded)
        return self.on_read(peer, read, now), read.statements

    def on_read(self, peer: PeerId, read: ReadStatements, now: float) -> list[Action]:
        """Take statements that came and were read.

        What the peer was asked for together with them and did not send is asked for again.
        """
        state = self._peers[peer]
        actions: list[Action] = []
        for statement in read.statements:
            self._note_known(state, statement.leaf)
            self.counts.statements_received += 1
            self.counts.statements_repeated += self._is_here(statement.leaf)
            if self._asked.get(statement.leaf) == peer:
                self._checking[statement.leaf] = None
                actions.append(StatementReceived(statement, peer))
        if read.error is not None:
            return [*actions, Punish(peer, read.error.code, read.error.message)]
        self._on_answer(peer, state, {statement.leaf for statement in read.statements})
        return [*actions, *self._ask(peer, now)]

    def _on_answer(self, peer: PeerId, state: _Peer, leaves: Collection[bytes]) -> None:
        """Close the groups that an answer belongs to; what is left of them is to be asked for first."""
        for group in [item for item in state.groups if not item.leaves.keys().isdisjoint(leaves)]:
            state.groups.remove(group)
            state.stalls = 0
            self._release(peer, group.leaves)
            for leaf in reversed([leaf for leaf in group.leaves if leaf not in leaves]):
                state.offers[leaf] = None
                state.offers.move_to_end(leaf, last=False)
        for other in self._peers.values():
            for offered in (other.offers, other.spare):
                if offered:
                    for leaf in leaves:
                        offered.pop(leaf, None)

    def on_not_found(self, peer: PeerId, message: NotFound, now: float) -> list[Action]:
        """Ask another peer for what this one lacks."""
        state = self._peers[peer]
        missing = set(message.hashes)
        for group in [item for item in state.groups if item.leaves.keys() <= missing]:
            state.groups.remove(group)
            state.stalls = 0
            self._release(peer, group.leaves)
        return self._ask_all(now)

    def on_checked(self, statements: Iterable[Statement]) -> None:
        """The mempool judged statements that came; one that it refused may be offered again."""
        for statement in statements:
            self._checking.pop(statement.leaf, None)

    def _is_here(self, leaf: bytes) -> bool:
        return leaf in self._checking or self._source(leaf) is not None

    def on_accepted(self, statement: Statement) -> None:
        """Queue a statement that the mempool took for every peer that does not know it; `flush` sends."""
        leaf = statement.leaf
        for state in self._peers.values():
            if leaf not in state.known:
                self._announce(state, leaf)

    def offer_again(self, leaves: Iterable[bytes]) -> None:
        """Queue leaves for every peer, whatever it is known to hold: it may have had no room for them."""
        for leaf in leaves:
            for state in self._peers.values():
                state.known.pop(leaf, None)
                self._announce(state, leaf)

    def _announce(self, state: _Peer, leaf: bytes) -> None:
        if state.blocks_only:
            return
        state.announce[leaf] = None
        while len(state.announce) > self._limits.announce_per_peer:
            del state.announce[next(iter(state.announce))]

    def has_news(self, peer: PeerId) -> bool:
        """Tell whether something is queued for a peer."""
        state = self._peers.get(peer)
        return state is not None and bool(state.announce)

    def flush(self, peers: Collection[PeerId] | None = None) -> list[Action]:
        """Send what is queued for some peers (default: all) and still waits."""
        actions: list[Action] = []
        for peer, state in self._peers.items():
            if not state.announce or (peers is not None and peer not in peers):
                continue
            fresh = [leaf for leaf in state.announce if leaf not in state.known and self._waits(leaf)]
            state.announce.clear()
            for leaf in fresh:
                self._note_known(state, leaf)
            actions += [
                Send(peer, Inventory(leaves=tuple(fresh[start : start + MAX_INVENTORY])))
                for start in range(0, len(fresh), MAX_INVENTORY)
            ]
        return actions

    def on_tick(self, now: float) -> list[Action]:
        """Ask other peers for what is overdue."""
        actions: list[Action] = []
        for peer, state in self._peers.items():
            late = [group for group in state.groups if now >= group.deadline]
            for group in late:
                state.groups.remove(group)
                self._release(peer, group.leaves)
                state.offers.update(dict.fromkeys(group.leaves))
            state.stalls += len(late)
            if late and state.stalls >= self._limits.stalls_until_drop:
                detail = f"expected statements in time, got nothing for {state.stalls} requests"
                actions.append(Drop(peer, "stalled", detail))
        return actions + self._ask_all(now)

    def holders(self, leaf: bytes) -> int:
        """Count the peers that are known to hold (or to have been offered) a statement."""
        return sum(leaf in state.known for state in self._peers.values())

    def _note_sent(self, state: _Peer, leaf: bytes) -> None:
        state.sent[leaf] = None
        while len(state.sent) > self._limits.known_per_peer:
            state.sent.popitem(last=False)

    def _note_known(self, state: _Peer, leaf: bytes) -> None:
        state.known[leaf] = None
        while len(state.known) > self._limits.known_per_peer:
            state.known.popitem(last=False)

    def _release(self, peer: PeerId, leaves: Iterable[bytes]) -> None:
        """A peer owes these no longer: whoever offered them, too, may be asked."""
        for leaf in leaves:
            if self._asked.get(leaf) != peer:
                continue
            del self._asked[leaf]
            for state in self._peers.values():
                if leaf in state.spare:
                    del state.spare[leaf]
                    state.offers[leaf] = None

    def _ask_all(self, now: float) -> list[Action]:
        """Ask peers for what they offered and nobody was asked for; those that answered before go first."""
        order = sorted(self._peers, key=lambda peer: (self._peers[peer].stalls, peer))
        return [action for peer in order for action in self._ask(peer, now)]

    def _ask(self, peer: PeerId, now: float) -> list[Action]:
        """Ask one peer, as far as it may owe more; what another one owes stays among its offers."""
        state = self._peers[peer]
        actions: list[Action] = []
        while state.offers and len(state.groups) < self._limits.groups_per_peer:
            room = self._room() - len(self._asked) - len(self._checking)
            wanted = self._free(state, min(self._limits.request_size, room))
            if not wanted:
                break
            self._asked.update(dict.fromkeys(wanted, peer))
            deadline = now + self._limits.request_timeout
            state.groups.append(_Group(dict.fromkeys(wanted), deadline))
            actions.append(Send(peer, GetStatements(leaves=tuple(wanted))))
        return actions

    def _free(self, state: _Peer, size: int) -> list[bytes]:
        """Take out offers that nobody was asked for, at most `size`; what is here by now is forgotten."""
        found: list[bytes] = []
        while state.offers and len(found) < size:
            leaf, _ = state.offers.popitem(last=False)
            if leaf in self._asked:
                state.spare[leaf] = None
            elif not self._is_here(leaf):
                found.append(leaf)
        return found
