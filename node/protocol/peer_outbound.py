"""Which address to dial next, and why: without I/O.

Owns the order (the operator's peers, then anchors, then addresses of the book), the limit on connections that the node
seeks itself, their spread over network groups, and feelers: short connections that find out whether an address
works, for the tried table. Two connections carry blocks and headers alone: since nothing of the network's shape can be
learnt over them, nobody can find out which they are and cut them. They are the anchors of the next run, so that whoever
fills the address book of a node cannot cut it off by making it start again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from ..wire.limits import FEELER_SECONDS, MAX_ANCHORS, MAX_BLOCK_RELAY, MAX_OUTBOUND, OUTBOUND_PER_GROUP
from .peer_book import AddressBook
from .peer_entry import AddressEntry, Endpoint, RandomSource
from .peer_groups import Reach, network_group, reach_of


class DialKind(StrEnum):
    """Why an address is dialed."""

    MANUAL = "manual"
    """The operator named it."""
    ANCHOR = "anchor"
    """It was a peer for blocks alone when the node was last stopped, and is one again."""
    OUTBOUND = "outbound"
    BLOCK_RELAY = "block-relay"
    """For blocks and headers: no statements and no addresses."""
    FEELER = "feeler"
    """To see whether it works; the connection is closed at once."""

    @property
    def is_block_relay(self) -> bool:
        """Whether neither statements nor addresses pass over the connection."""
        return self in {DialKind.ANCHOR, DialKind.BLOCK_RELAY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """An address to connect to."""

    endpoint: Endpoint
    kind: DialKind


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundPolicy:
    """Limits of the connections that the node seeks itself."""

    connections: int = MAX_OUTBOUND
    """For everything."""
    block_relay: int = MAX_BLOCK_RELAY
    """Beside these, for blocks alone."""
    per_group: int = OUTBOUND_PER_GROUP
    """Connections to addresses of one public network group."""
    attempts: int = 4
    """Attempts at a time."""
    feeler_ms: int = FEELER_SECONDS * 1_000
    anchors: int = MAX_ANCHORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A connection that this node opened, or is opening."""

    endpoint: Endpoint
    kind: DialKind
    connected: bool = True
    since: float = 0.0
    """Monotonic seconds."""
    last_block: float = 0.0
    """When it last brought a block that was new; monotonic seconds, 0: never."""


class OutboundPlan:
    """See the module's text."""

    def __init__(
        self,
        book: AddressBook,
        random: RandomSource,
        policy: OutboundPolicy,
        anchors: Iterable[Endpoint] = (),
    ) -> None:
        """`anchors`: those of the last run, tried first and once."""
        self._book = book
        self._random = random
        self._policy = policy
        self._anchors = list(anchors)[: policy.anchors]
        self._feeler_at_ms: int | None = None

    def next(self, outbound: Sequence[Outbound], exclude: Collection[Endpoint], now_ms: int) -> Dial | None:
        """Return what to dial now, beside the connections and attempts under way; None when nothing is.

        `exclude`: addresses that are connected in some other way, or this node's own.
        """
        taken = {item.endpoint for item in outbound} | set(exclude)
        named = self._book.due_manual(taken, now_ms)
        if named is not None:
            return Dial(endpoint=named.endpoint, kind=DialKind.MANUAL)
        attempts = sum(not item.connected and item.kind is not DialKind.MANUAL for item in outbound)
        if attempts >= self._policy.attempts:
            return None
        full = sum(item.kind is DialKind.OUTBOUND for item in outbound)
        needs_blocks = sum(item.kind.is_block_relay for item in outbound) < self._policy.block_relay
        if needs_blocks and (anchor := self._anchor(taken)) is not None:
            return anchor
        if full < self._policy.connections:
            return self._outbound(DialKind.OUTBOUND, outbound, taken, now_ms)
        found = self._outbound(DialKind.BLOCK_RELAY, outbound, taken, now_ms) if needs_blocks else None
        return found or self._feeler(outbound, taken, now_ms)

    def _anchor(self, taken: Collection[Endpoint]) -> Dial | None:
        while self._anchors:
            endpoint = self._anchors.pop(0)
            if endpoint not in taken:
                return Dial(endpoint=endpoint, kind=DialKind.ANCHOR)
        return None

    def _outbound(
        self, kind: DialKind, outbound: Sequence[Outbound], taken: Collection[Endpoint], now_ms: int
    ) -> Dial | None:
        """Choose an address of a group without a connection; of another one when there seems to be none."""
        sought = [item for item in outbound if item.kind not in {DialKind.MANUAL, DialKind.FEELER}]
        groups = Counter(network_group(host) for host, _ in (item.endpoint for item in sought))

        def suits(most: int, entry: AddressEntry) -> bool:
            if entry.manual or entry.endpoint in taken:
                return False
            is_public = reach_of(entry.host) is Reach.PUBLIC
            return groups[network_group(entry.host)] < most or not is_public

        entry = self._book.pick(partial(suits, 1), now_ms) or self._book.pick(
            partial(suits, self._policy.per_group), now_ms
        )
        return None if entry is None else Dial(endpoint=entry.endpoint, kind=kind)

    def _feeler(self, outbound: Sequence[Outbound], taken: Collection[Endpoint], now_ms: int) -> Dial | None:
        """Once in a while, when all places are filled: test a tried address, or try a new one."""
        if self._feeler_at_ms is None:
            self._feeler_at_ms = self._later(now_ms)
        if now_ms < self._feeler_at_ms or any(item.kind is DialKind.FEELER for item in outbound):
            return None
        self._feeler_at_ms = self._later(now_ms)
        entry = self._book.to_test(taken, now_ms) or self._book.pick(
            lambda entry: entry.endpoint not in taken and not entry.manual, now_ms, new_only=True
        )
        return None if entry is None else Dial(endpoint=entry.endpoint, kind=DialKind.FEELER)

    def _later(self, now_ms: int) -> int:
        """Return a time that an onlooker cannot foretell, half to one and a half intervals ahead."""
        return now_ms + self._policy.feeler_ms // 2 + self._random.randrange(self._policy.feeler_ms)

    def anchors(self, outbound: Iterable[Outbound]) -> tuple[Endpoint, ...]:
        """Return the connections for blocks alone to have again after a restart: useful ones first, then long ones."""
        kept = [item for item in outbound if item.connected and item.kind.is_block_relay]
        kept.sort(key=lambda item: (not item.last_block, item.since, item.endpoint))
        return tuple(item.endpoint for item in kept[: self._policy.anchors])
