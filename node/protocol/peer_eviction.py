"""Whose inbound connection makes room for a newcomer when all places are taken: a pure choice.

Owns what protects a connection. Each protection asks for something that an attacker cannot have in bulk: addresses
of many network groups, a short way to this node, blocks or statements that were new here, a long time. What is
left when these are set aside is a crowd; of it, the youngest connection of the largest network group goes.

The steps and their order are those of Bitcoin Core's `SelectNodeToEvict`; the numbers are shares of the places, so
that a node with few places can make room as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...consensus.hashing import tagged_hash
from ..wire.limits import (
    PROTECTED_BY_AGE_SHARE,
    PROTECTED_BY_BLOCKS_SHARE,
    PROTECTED_BY_GROUP_SHARE,
    PROTECTED_BY_PING_SHARE,
    PROTECTED_BY_STATEMENTS_SHARE,
)
from .actions import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPeer:
    """What speaks for and against one inbound connection. Times are monotonic seconds, 0: never."""

    id: PeerId
    group: str
    since: float
    ping_seconds: float | None = None
    """The shortest round trip that was seen."""
    last_block: float = 0.0
    """When it last brought a block that was new here and valid."""
    last_statement: float = 0.0
    is_discouraged: bool = False
    """Whether its address misbehaved before: such go first."""
    is_protected: bool = False
    """Whether the operator named it, or allows it: such never go."""


def choose_to_evict(peers: Sequence[InboundPeer], secret: bytes) -> PeerId | None:
    """Return who makes room; None when everybody is protected.

    `secret`: 32 bytes of the node's own, so that nobody can choose network groups that are protected.
    """
    left = [peer for peer in peers if not peer.is_protected]
    places = len(left)

    def protect(share: float, demerit: Callable[[InboundPeer], float | None]) -> None:
        """Set the best few aside; `demerit` is lowest for the best, None for who has no merit of the kind."""
        ranked = [(worth, peer.id) for peer in left if (worth := demerit(peer)) is not None]
        best = {peer_id for _, peer_id in sorted(ranked)[: max(1, int(places * share))]}
        left[:] = [peer for peer in left if peer.id not in best]

    protect(PROTECTED_BY_GROUP_SHARE, lambda peer: _secret_rank(peer.group, secret))
    protect(PROTECTED_BY_PING_SHARE, lambda peer: peer.ping_seconds)
    protect(PROTECTED_BY_STATEMENTS_SHARE, lambda peer: -peer.last_statement or None)
    protect(PROTECTED_BY_BLOCKS_SHARE, lambda peer: -peer.last_block or None)
    left.sort(key=lambda peer: (peer.since, peer.id))
    del left[: int(len(left) * PROTECTED_BY_AGE_SHARE)]
    if any(peer.is_discouraged for peer in left):
        left = [peer for peer in left if peer.is_discouraged]
    if not left:
        return None
    groups = Counter(peer.group for peer in left)
    youngest = {group: max(peer.since for peer in left if peer.group == group) for group in groups}
    crowd = max(groups, key=lambda group: (groups[group], youngest[group], group))
    return max((peer for peer in left if peer.group == crowd), key=lambda peer: (peer.since, peer.id)).id


def _secret_rank(group: str, secret: bytes) -> float:
    return int.from_bytes(tagged_hash("facechain/eviction", secret, group.encode())[:6], "big")
