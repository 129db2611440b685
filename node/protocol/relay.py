"""Statement relay by inventory and request, as a state machine.

Owns which leaves each peer is known to hold, which were asked of whom and until when, and what is
still to be announced. It validates nothing: statements leave as `StatementReceived` and come back
through `on_accepted` once the mempool took them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...consensus.errors import DecodeError
from ...consensus.statement import Statement
from ..wire.chunks import cut_statements
from ..wire.limits import MAX_INVENTORY
from ..wire.messages import GetStatements, Inventory, Missing, NotFound
from .actions import Action, PeerId, Punish, Send, StatementReceived
from .assembly import StatementByLeaf


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Policy of the relay; times in seconds."""

    known_per_peer: int = 50_000
    """Leaves remembered per peer."""
    request_timeout: float = 15.0
    """After it, another peer that has the statement is asked."""
    requests_per_peer: int = 5_000
    """Leaves that one peer may owe at once; inventory beyond it is passed over."""
    request_size: int = 1_000
    """Leaves in one request."""


DEFAULT_LIMITS = RelayLimits()


@dataclass(slots=True)
class _Peer:
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    announce: dict[bytes, None] = field(default_factory=dict)
    owes: set[bytes] = field(default_factory=set)
    requests: int = 0
    """Requests that are not answered yet."""


@dataclass(slots=True)
class _Request:
    peer: PeerId
    deadline: float
    others: list[PeerId] = field(default_factory=list)


class Relay:
    """See the module's text."""

    def __init__(self, source: StatementByLeaf, limits: RelayLimits = DEFAULT_LIMITS) -> None:
        """``source`` finds a statement by leaf in the mempool or in recent blocks."""
        self._source = source
        self._limits = limits
        self._peers: dict[PeerId, _Peer] = {}
        self._requests: dict[bytes, _Request] = {}

    def on_connected(self, peer: PeerId, mempool: Iterable[bytes]) -> list[Action]:
        """Offer a new peer everything in the mempool."""
        self._peers[peer] = _Peer(announce=dict.fromkeys(mempool))
        return self.flush()

    def on_disconnected(self, peer: PeerId, now: float) -> list[Action]:
        """Forget a peer; ask others for what it owed."""
        state = self._peers.pop(peer, None)
        if state is None:
            return []
        for request in self._requests.values():
            if peer in request.others:
                request.others.remove(peer)
        return self._ask_others(state.owes, now)

    def on_inventory(self, peer: PeerId, message: Inventory, now: float) -> list[Action]:
        """Ask for what is new; remember the peer as another source of what was asked elsewhere."""
        state = self._peers[peer]
        wanted: list[bytes] = []
        for leaf in message.leaves:
            self._note_known(state, leaf)
            if self._source(leaf) is not None:
                continue
            request = self._requests.get(leaf)
            if request is not None:
                if peer != request.peer and peer not in request.others:
                    request.others.append(peer)
            elif len(state.owes) < self._limits.requests_per_peer:
                wanted.append(leaf)
                self._request(peer, leaf, now, [])
        return self._ask(peer, wanted)

    def on_get_statements(self, peer: PeerId, message: GetStatements) -> list[Action]:
        """Serve statements by leaf, as many as one message holds."""
        state = self._peers[peer]
        found = [item.encode() for leaf in message.leaves if (item := self._source(leaf)) is not None]
        if not found:
            return [Send(peer, NotFound(missing=Missing.STATEMENT, hashes=message.leaves))]
        for leaf in message.leaves:
            self._note_known(state, leaf)
        return [Send(peer, cut_statements(found))]

    def on_statements(self, peer: PeerId, encoded: Sequence[bytes]) -> tuple[list[Action], list[Statement]]:
        """Take statements that came; return actions and the decoded statements.

        What the peer was asked for and did not send in this message is asked for again.
        """
        state = self._peers[peer]
        statements: list[Statement] = []
        actions: list[Action] = []
        for item in encoded:
            try:
                statement = Statement.decode(item)
            except DecodeError as error:
                return [Punish(peer, error.code, error.message)], statements
            statements.append(statement)
            self._note_known(state, statement.leaf)
            if self._requests.pop(statement.leaf, None) is not None:
                actions.append(StatementReceived(statement, peer))
            state.owes.discard(statement.leaf)
        state.requests = max(0, state.requests - 1)
        if state.owes and actions and not state.requests:
            actions += self._ask(peer, list(state.owes))
        return actions, statements

    def on_not_found(self, peer: PeerId, message: NotFound, now: float) -> list[Action]:
        """Ask another peer for what this one lacks."""
        state = self._peers[peer]
        state.owes.difference_update(message.hashes)
        state.requests = max(0, state.requests - 1)
        return self._ask_others(
            {leaf for leaf in message.hashes if leaf in self._requests and self._requests[leaf].peer == peer},
            now,
        )

    def on_accepted(self, statement: Statement) -> None:
        """Queue a statement that the mempool took for every peer that does not know it; `flush` sends."""
        for state in self._peers.values():
            if statement.leaf not in state.known:
                state.announce[statement.leaf] = None

    def flush(self) -> list[Action]:
        """Send what is queued."""
        actions: list[Action] = []
        for peer, state in self._peers.items():
            fresh = [leaf for leaf in state.announce if leaf not in state.known]
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
        late: set[bytes] = set()
        for leaf, request in self._requests.items():
            if now >= request.deadline:
                late.add(leaf)
                state = self._peers.get(request.peer)
                if state is not None:
                    state.owes.discard(leaf)
        return self._ask_others(late, now)

    def holders(self, leaf: bytes) -> int:
        """Count the peers that are known to hold (or to have been offered) a statement."""
        return sum(leaf in state.known for state in self._peers.values())

    def _note_known(self, state: _Peer, leaf: bytes) -> None:
        state.known[leaf] = None
        while len(state.known) > self._limits.known_per_peer:
            state.known.popitem(last=False)

    def _request(self, peer: PeerId, leaf: bytes, now: float, others: list[PeerId]) -> None:
        self._requests[leaf] = _Request(peer, now + self._limits.request_timeout, others)
        self._peers[peer].owes.add(leaf)

    def _ask(self, peer: PeerId, leaves: Sequence[bytes]) -> list[Action]:
        size = self._limits.request_size
        starts = range(0, len(leaves), size)
        self._peers[peer].requests += len(starts)
        return [Send(peer, GetStatements(leaves=tuple(leaves[start : start + size]))) for start in starts]

    def _ask_others(self, leaves: set[bytes], now: float) -> list[Action]:
        by_peer: dict[PeerId, list[bytes]] = {}
        for leaf in leaves:
            request = self._requests.pop(leaf, None)
            if request is None:
                continue
            able = [peer for peer in request.others if peer in self._peers]
            if able:
                self._request(able[0], leaf, now, able[1:])
                by_peer.setdefault(able[0], []).append(leaf)
        return [action for peer, wanted in by_peer.items() for action in self._ask(peer, wanted)]
