"""What the synchroniser remembers: its limits, and each peer.

Owns plain state; what is done with it is `sync`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ...consensus.block import Block, SealedHeader
from ...consensus.chain import BlockTree, HeaderNode
from ...consensus.errors import ConsensusError, RuleViolation
from ..wire.limits import MAX_ANNOUNCERS, MAX_HEADERS_AHEAD, MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES
from .actions import Action, Drop, PeerId, Punish
from .presync import Presync


class ChainPort(Protocol):
    """What the synchroniser needs of a chain state."""

    tree: BlockTree

    @property
    def pruned_below(self) -> int:
        """Height below which there are no bodies here."""
        ...

    def accept_header(self, sealed: SealedHeader, *, now_ms: int, seal_checked: bool = False) -> HeaderNode:
        """Check a header and add it to the tree."""
        ...

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block whose body is here."""
        ...

    def sealed_header(self, block_hash: bytes) -> SealedHeader | None:
        """Return a known header."""
        ...

    def sealed_headers(self, nodes: Sequence[HeaderNode]) -> tuple[bytes, ...]:
        """Return the encoded headers of connected blocks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncLimits:
    """Policy of the synchroniser; times in seconds."""

    window_blocks: int = 256
    """Missing bodies, from the lowest on, that may be under way or waiting at once."""
    in_flight_per_peer: int = MAX_IN_FLIGHT
    in_flight_bytes: int = MAX_IN_FLIGHT_BYTES
    """Bytes of bodies that are put together, of all peers, past which no more are asked for."""
    ready_bytes: int = 64 * 2**20
    """Bytes of finished bodies that wait to be connected, past which no more are asked for."""
    assemblies: int = 512
    """Bodies that are put together at once, past which announced blocks wait for their turn."""
    minimum_chainwork: int = 0
    """Chains with less work than this are not downloaded."""
    margin_blocks: int = 144
    """Headers of chains that have this many blocks' work less than the tip are stored as they come."""
    headers_ahead: int = MAX_HEADERS_AHEAD
    """Headers of one peer above the tip, past which it is asked for more only as bodies arrive."""
    announcers: int = MAX_ANNOUNCERS
    """Peers that are asked to announce blocks with leaves."""
    announcer_swap: float = 10.0
    """Least time between two peers' taking over such a place."""
    headers_timeout: float = 20.0
    body_timeout: float = 20.0
    """Per chunk. Doubles with each stall of a peer, up to ``body_timeout_max``; halves with each chunk."""
    body_timeout_max: float = 120.0
    """Also the longest time that one peer may take over one body."""
    window_timeout: float = 2.0
    """Until the lowest body is asked of another peer when nothing else of the window is left to ask for. Doubles
    each time, up to ``window_timeout_max``; halves with each body."""
    window_timeout_max: float = 64.0
    future_retry: float = 30.0
    """Until headers that came from the future are asked for again."""
    overdue: int = 64
    """Answers remembered per peer that may come after their deadline."""
    announce_known: int = 512
    """Block hashes remembered per peer, so that nothing is announced back."""
    stalls_until_drop: int = 3
    """Answers that a peer may be late with before it brings another whole body."""


DEFAULT_LIMITS = SyncLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one peer was asked for of one block."""

    deadline: float
    since: float
    """When it was first asked, or brought the body before this one."""
    start: int | None
    """First statement of the chunk; None when statements were asked for by leaf, or the leaves themselves."""
    is_leaves: bool = False
    """Whether it was asked for the leaves alone."""

    def is_late(self, now: float, limits: SyncLimits) -> bool:
        """Tell whether an answer, or the whole body, took too long."""
        return now >= self.deadline or now - self.since >= limits.body_timeout_max


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyBlock:
    """A finished block that is being connected."""

    deadline: float
    """When it is given up."""
    size_bytes: int
    peer: PeerId
    """Who completed it."""


@dataclass(slots=True, kw_only=True)
class SyncPeer:
    """What is known of one peer."""

    timeout: float
    best: HeaderNode | None = None
    """Most work that it is known to have."""
    vouched: HeaderNode | None = None
    """Most work that it showed as its own active chain."""
    tip_hash: bytes = b""
    """Tip that its Status named."""
    pruned_below: int = 0
    high_bandwidth: bool = False
    """Whether it wants to hear of blocks with their leaves."""
    outbound: bool = False
    has_get_leaves: bool = False
    """Whether it can be asked for the leaves of a body alone."""
    presync: Presync | None = None
    """Its chain, while that has too little work to be stored."""
    is_ahead: bool = False
    """Its chain goes on, but bodies have to come first."""
    headers_deadline: float | None = None
    ask_again: float | None = None
    """When to ask for headers that came from the future."""
    headers_end: HeaderNode | None = None
    """Last header of its last full message."""
    in_flight: dict[bytes, Ask] = field(default_factory=dict)
    overdue: OrderedDict[tuple[bytes, int], None] = field(default_factory=OrderedDict)
    """Chunks, by block and start, that it was asked for and that may still come after their deadline."""
    lacks: set[bytes] = field(default_factory=set)
    """Bodies that it was asked for and does not have."""
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    stalls: int = 0

    def may_have(self, node: HeaderNode) -> bool:
        """Tell whether the peer did not say that it lacks a body, or that it pruned it."""
        return node.hash not in self.lacks and node.height >= self.pruned_below

    def has_work(self, chainwork: int) -> bool:
        """Tell whether the peer has a valid chain of at least this work, so that a block on top of less is no news.

        A block that it passed on in good faith may have been found invalid since: the peer left it as this node did.
        """
        return self.best is not None and not self.best.invalid and self.best.chainwork >= chainwork

    def on_answer(self, now: float, limits: SyncLimits, *, whole: bool = False) -> None:
        """It brought something: what else it owes waited for that, since one answer comes after the other.

        `whole`: it was all of a body, so the time that the next one may take begins now.
        """
        self.timeout = max(limits.body_timeout, self.timeout / 2)
        for block_hash, ask in self.in_flight.items():
            self.in_flight[block_hash] = replace(
                ask, deadline=max(ask.deadline, now + self.timeout), since=now if whole else ask.since
            )

    def give_up(self, block_hash: bytes, limits: SyncLimits) -> None:
        """Take back what it was asked for of a block; its answer may come all the same."""
        ask = self.in_flight.pop(block_hash)
        if ask.start is not None:
            self.overdue[block_hash, ask.start] = None
            while len(self.overdue) > limits.overdue:
                self.overdue.popitem(last=False)

    def note_best(self, node: HeaderNode, limit: int, *, vouched: bool = False) -> None:
        """Remember that the peer has a chain; `vouched`: that it showed it as its own."""
        if self.best is None or node.chainwork > self.best.chainwork or self.best.invalid:
            self.best = node
            self.lacks.clear()
        if vouched and (self.vouched is None or node.chainwork >= self.vouched.chainwork):
            self.vouched = node
        self.note_known(node.hash, limit)

    def note_known(self, block_hash: bytes, limit: int) -> None:
        """Remember that the peer knows a block."""
        self.known[block_hash] = None
        self.known.move_to_end(block_hash)
        while len(self.known) > limit:
            self.known.popitem(last=False)


def blame(peer: PeerId, error: ConsensusError) -> Action:
    """Return what becomes of a peer that broke a rule."""
    if isinstance(error, RuleViolation) and not error.rule.punish:
        return Drop(peer, error.code, error.message)
    return Punish(peer, error.code, error.message)


def is_ancestor(node: HeaderNode, of: HeaderNode) -> bool:
    """Tell whether ``node`` is ``of`` or below it."""
    item: HeaderNode | None = of
    while item is not None and item.height > node.height:
        item = item.parent
    return item is node
