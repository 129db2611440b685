"""How far behind a node is, from what its peers showed: pure, and not to be fooled by what they merely claim.

Owns which chain counts: the one with most work whose headers a peer showed, with more work than the tip and enough
to be downloaded, and whose next body that peer may have. A chain that only peers show which let this node wait
counts while there is no other one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ...consensus.chain import HeaderNode
from .paths import ChainPaths
from .sync_peer import SyncPeer


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What a node misses of the best chain that it can have."""

    height: int
    """Of that chain; the tip's own when there is none."""
    blocks: int
    """How many blocks the tip is below it."""
    bodies: int
    """Bodies on the way there that are not here."""
    checked_height: int
    """Height up to which a chain of too little work, so far, was looked at; 0 when none is."""

    @property
    def progress(self) -> float:
        """Share of that chain's blocks whose bodies need not be downloaded any more, 0 to 1."""
        return 1.0 if not self.height else 1.0 - min(self.bodies, self.height) / self.height


def how_far_behind(tip: HeaderNode, paths: ChainPaths, peers: Iterable[SyncPeer]) -> Behind:
    """Look at every peer's chain; see the module's text."""
    states = tuple(peers)
    shown = [(state.stalls == 0, state.best, state) for state in states if paths.can_follow(state)]
    looked_at = (state.presync.height for state in states if state.presync is not None)
    best, bodies = tip, 0
    candidates = [(prompt, node, state) for prompt, node, state in shown if node is not None]
    if candidates:
        _, best, state = max(candidates, key=lambda item: (item[0], item[1].chainwork))
        path = paths.path(state)
        bodies = 0 if path is None else path.missing()
    return Behind(
        height=max(best.height, tip.height),
        blocks=max(best.height - tip.height, 0),
        bodies=bodies,
        checked_height=max(looked_at, default=0),
    )


class BlockRate:
    """Blocks per second over the last seconds, of which there may be fewer than the window has."""

    def __init__(self, window_seconds: float, now: float) -> None:
        """Begin to count at `now`, on a monotonic clock."""
        self._window_seconds = window_seconds
        self._began = now
        self._counted: deque[tuple[float, int]] = deque()

    def note(self, blocks: int, now: float) -> None:
        """Count blocks that were connected."""
        self._forget(now)
        self._counted.append((now, blocks))

    def per_second(self, now: float) -> float:
        """Return the rate; 0 when nothing was connected in the window."""
        self._forget(now)
        seconds = min(self._window_seconds, now - self._began)
        return sum(blocks for _, blocks in self._counted) / seconds if seconds > 0 else 0.0

    def eta_seconds(self, blocks: int, now: float) -> float | None:
        """Return how long so many blocks take at this rate; None when there are none or nobody knows."""
        rate = self.per_second(now)
        return blocks / rate if blocks and rate else None

    def _forget(self, now: float) -> None:
        while self._counted and now - self._counted[0][0] > self._window_seconds:
            self._counted.popleft()
