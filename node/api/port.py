"""What the HTTP API needs of a node: the one interface between the server and the composition root.

Owns types only. Everything that can be read from the chain state or the mempool is read there; the port adds
what only the running node knows (peers, progress, mining), submission, and events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...consensus.statement import Statement
from ..chainstate import ChainState
from ..mempool import Mempool, Submission
from ..peer_admin import PeerAdmin
from ..protocol.equivocation import Equivocations
from ..protocol.relay_counts import RelayCounts
from ..reorg_watch import ReorgWatch
from .events import EventHub


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInfo:
    """One connected peer."""

    node_key: bytes
    """The key that its handshake proved, 32 bytes."""
    address: str
    """HOST:PORT."""
    inbound: bool
    kind: str = "outbound"
    """`inbound`, or why this node dialed (`protocol.peer_outbound.DialKind`)."""
    height: int
    """Height that the peer announced last."""
    user_agent: str
    connected_seconds: float
    bytes_received: int = 0
    bytes_sent: int = 0
    ping_ms: float | None = None
    announces_with_leaves: bool = False
    """It was asked to announce blocks at once and with their leaves."""
    pruned_below: int = 0
    """Height below which it says that it has no bodies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """What only the running node knows of itself; the API adds chain and mempool."""

    version: str
    node_key: bytes
    uptime_seconds: float
    best_known_height: int
    """Height of the best chain whose headers a peer showed and whose bodies can be had, at least this node's own."""
    syncing: bool
    progress: float
    """Share of that chain whose bodies need not be downloaded any more, 0 to 1."""
    blocks_per_second: float
    eta_seconds: float | None
    """None when it is not syncing or cannot tell."""
    behind_by: int = 0
    """Blocks of that chain above the tip."""
    bodies_missing: int = 0
    headers_checked: int = 0
    """Height up to which a chain of little work was looked at before its headers are stored; 0 when none is."""
    mining: bool
    hash_rate: float
    """Hashes per second, 0 when not mining."""
    relay: RelayCounts = field(default_factory=RelayCounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTrouble:
    """The store takes no changes at present."""

    reason: str
    since_ms: int
    """Unix time."""


class NodePort(Protocol):
    """A running node, as the API sees it. All members are used on the event loop's thread."""

    @property
    def chain(self) -> ChainState:
        """The chain state; snapshots of its store are also read in executor threads."""
        ...

    @property
    def pool(self) -> Mempool:
        """The statements that wait; only read here."""
        ...

    @property
    def events(self) -> EventHub:
        """Where the node publishes and the API subscribes."""
        ...

    @property
    def reorgs(self) -> ReorgWatch:
        """What went off the chain since the node started."""
        ...

    @property
    def equivocations(self) -> Equivocations:
        """Keys that said two things in one place since the node started; only read here."""
        ...

    def now_ms(self) -> int:
        """Return Unix time in milliseconds by the node's clock."""
        ...

    def status(self) -> NodeStatus:
        """Return what the node knows of itself now."""
        ...

    def store_trouble(self) -> StoreTrouble | None:
        """Return why the store takes no changes; None while it does."""
        ...

    def peers(self) -> Sequence[PeerInfo]:
        """Return the connected peers."""
        ...

    @property
    def peer_control(self) -> PeerAdmin:
        """What the operator may do about peers."""
        ...

    def holders(self, leaf: bytes) -> int:
        """Return how many peers are known to hold a pooled statement (receipt level `relayed` when > 0)."""
        ...

    async def submit(self, statements: Sequence[Statement]) -> Sequence[Submission]:
        """Take statements into the durable mempool and relay them; answers in the same order.

        Those that are `queued` in the answer are on disk. Store errors are raised and acknowledge nothing.
        """
        ...

    async def settled(self) -> None:
        """Wait until no change of chain and mempool is half-way.

        In the middle of a reorganisation a statement may be on neither: it left its block and is not back in
        the mempool yet.
        """
        ...
