"""How many addresses a peer may tell, and to whom a new one is passed on: without I/O.

Owns an allowance for each peer: a slow trickle, and what it was asked for. Addresses beyond it are read and
passed over, which costs an honest peer nothing and a flooding one everything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...consensus.encoding import pack
from ...consensus.hashing import tagged_hash
from ..wire.limits import ADDRESS_RELAY_PEERS, ADDRESSES_PER_SECOND, MAX_ADDRESSES
from ..wire.messages import Address
from .actions import PeerId

RELAY_TURN_MS = 86_400_000
"""How long an address goes to the same peers, so that repeating it does not spread it further."""

RELAY_FRESH_MS = 600_000
"""An address that was last seen longer ago is not passed on unasked."""


class AddressAllowance:
    """What one peer may still tell. `now`: monotonic seconds."""

    def __init__(self, now: float) -> None:
        """One address at once: its own."""
        self._tokens = 1.0
        self._filled_at = now

    def on_asked(self) -> None:
        """The peer was asked for addresses: one full answer is welcome."""
        self._tokens += MAX_ADDRESSES

    def take(self, addresses: Sequence[Address], now: float) -> Sequence[Address]:
        """Return those that count; the trickle fills up to one full answer."""
        gained = max(0.0, now - self._filled_at) * ADDRESSES_PER_SECOND
        self._tokens = max(self._tokens, min(self._tokens + gained, float(MAX_ADDRESSES)))
        self._filled_at = max(now, self._filled_at)
        counted = addresses[: int(self._tokens)]
        self._tokens -= len(counted)
        return counted


def relay_targets(
    address: Address, peers: Collection[PeerId], secret: bytes, now_ms: int
) -> tuple[PeerId, ...]:
    """Return the few peers that hear of a new address from this node, the same ones for a day."""
    if now_ms - address.last_seen_ms > RELAY_FRESH_MS:
        return ()
    turn = now_ms // RELAY_TURN_MS

    def rank(peer: PeerId) -> bytes:
        parts = pack([address.host, address.port, turn, peer])
        return tagged_hash("facechain/address-relay", secret, parts)

    return tuple(sorted(peers, key=rank)[:ADDRESS_RELAY_PEERS])
