"""Which peers announce blocks with their leaves, at once: the few that delivered blocks first.

Owns the choice alone, as BIP 152 makes it: each list of leaves beyond the first is sent for nothing, so only a few
peers are asked for it, and the others announce by header. A place goes from whoever delivered longest ago to a peer
that was first with a block; no inbound peer takes the place of the only outbound one, since anyone can connect and
be quick.
"""

from __future__ import annotations

from collections.abc import Iterable

from .actions import PeerId


class Announcers:
    """See the module's text. Each call returns which peers are to be told what they are from now on."""

    def __init__(self, places: int, swap_seconds: float) -> None:
        """`swap_seconds`: least time between two peers' taking over a place."""
        self._places = places
        self._swap_seconds = swap_seconds
        self._chosen: dict[PeerId, bool] = {}
        """Peer -> outbound; who delivered longest ago is first."""
        self._next_swap = 0.0

    def __contains__(self, peer: object) -> bool:
        """Tell whether a peer was asked to announce with leaves."""
        return peer in self._chosen

    def __len__(self) -> int:
        """Return how many were."""
        return len(self._chosen)

    def fill(self, peers: Iterable[tuple[PeerId, bool]]) -> list[tuple[PeerId, bool]]:
        """Give the free places to some of the connected peers (with whether they are outbound), outbound first."""
        told = []
        for peer, outbound in sorted(peers, key=lambda item: not item[1]):
            if len(self._chosen) < self._places and peer not in self._chosen:
                self._chosen = {peer: outbound, **self._chosen}
                told.append((peer, True))
        return told

    def on_disconnected(self, peer: PeerId) -> bool:
        """Forget a peer; tell whether a place is free now."""
        return self._chosen.pop(peer, None) is not None

    def on_delivered(self, peer: PeerId, now: float, *, outbound: bool) -> list[tuple[PeerId, bool]]:
        """A peer was the first with a new block."""
        if peer in self._chosen:
            self._chosen[peer] = self._chosen.pop(peer)
            return []
        if now < self._next_swap or not self._places:
            return []
        self._next_swap = now + self._swap_seconds
        told = []
        if len(self._chosen) >= self._places:
            oldest = self._oldest(keep_outbound=not outbound)
            if oldest is None:
                return []
            del self._chosen[oldest]
            told.append((oldest, False))
        self._chosen[peer] = outbound
        return [*told, (peer, True)]

    def _oldest(self, *, keep_outbound: bool) -> PeerId | None:
        """Return who is to make room: not the only outbound peer for an inbound one."""
        spared = keep_outbound and sum(self._chosen.values()) == 1
        return next((peer for peer, outbound in self._chosen.items() if not (spared and outbound)), None)
