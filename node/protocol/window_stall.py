"""Who holds up the whole download: the peer that owes the lowest body while nothing else of the window can be asked for.

Owns how long that may take. Others brought a window of bodies in the meantime, so it is taken as a stall long before
the body's own deadline; the time doubles each time, so that a slow network is not blamed on its peers.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from .actions import PeerId
from .paths import ChainPath, ChainPaths
from .sync_peer import SyncLimits, SyncPeer


class WindowStall:
    """See the module's text."""

    def __init__(
        self,
        peers: Mapping[PeerId, SyncPeer],
        paths: ChainPaths,
        asked: Mapping[bytes, PeerId],
        ready: Container[bytes],
        limits: SyncLimits,
    ) -> None:
        """`asked`: who owes which body; `ready`: the bodies that are being connected."""
        self._peers = peers
        self._paths = paths
        self._asked = asked
        self._ready = ready
        self._limits = limits
        self.timeout = limits.window_timeout

    def on_body(self) -> None:
        """A whole body came."""
        self.timeout = max(self._limits.window_timeout, self.timeout / 2)

    def find(self, now: float) -> tuple[PeerId, bytes] | None:
        """Return who holds up the download with which body; it is to be asked of another peer."""
        for path in self._paths.each(self._peers.values()):
            block_hash = self._lowest(path)
            owner = None if block_hash is None else self._asked.get(block_hash)
            if block_hash is None or owner is None:
                continue
            ask = self._peers[owner].in_flight.get(block_hash)
            if ask is not None and now - ask.since >= self.timeout and self._others_could(path, owner):
                self.timeout = min(2 * self.timeout, self._limits.window_timeout_max)
                return owner, block_hash
        return None

    def _lowest(self, path: ChainPath) -> bytes | None:
        """Return the lowest body on its way, when the window is full: nothing more can be asked for before it."""
        if not path.is_longer_than(self._limits.window_blocks):
            return None
        missing = (node.hash for node in path.window(self._limits.window_blocks))
        under_way = [block_hash for block_hash in missing if block_hash not in self._ready]
        return under_way[0] if under_way and all(item in self._asked for item in under_way) else None

    def _others_could(self, path: ChainPath, owner: PeerId) -> bool:
        lowest = next(path.window(self._limits.window_blocks))
        return any(
            peer != owner
            and len(state.in_flight) < self._limits.in_flight_per_peer
            and state.may_have(lowest)
            and (other := self._paths.path(state)) is not None
            and next(other.window(self._limits.window_blocks), None) is lowest
            for peer, state in self._peers.items()
        )
