"""The ways from this node's chain to the best blocks of its peers.

Owns which bodies are missing on each way, and whether a way is worth following and can be: headers alone make
no chain, since anyone can keep their bodies back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ...consensus.chain import HeaderNode
from .sync_peer import ChainPort, SyncLimits, SyncPeer


class ChainPath:
    """The missing bodies on the way to one block, lowest first; walked once, since bodies only arrive."""

    def __init__(self, nodes: tuple[HeaderNode, ...]) -> None:
        """Start with all that were missing."""
        self._nodes = nodes
        self._position = 0

    def window(self, limit: int) -> Iterator[HeaderNode]:
        """Yield those that are still missing among the lowest ``limit`` from the first missing one on."""
        self._skip()
        for node in islice(self._nodes, self._position, self._position + limit):
            if not node.has_body and not node.invalid:
                yield node

    def is_longer_than(self, limit: int) -> bool:
        """Tell whether the chain goes on above the lowest ``limit`` blocks from the first missing one on."""
        self._skip()
        return len(self._nodes) - self._position > limit

    def missing(self) -> int:
        """Return how many bodies are missing."""
        self._skip()
        return sum(not node.has_body for node in islice(self._nodes, self._position, None))

    def _skip(self) -> None:
        while self._position < len(self._nodes) and self._nodes[self._position].has_body:
            self._position += 1


class ChainPaths:
    """The path to every peer's best block, made once for each block."""

    def __init__(self, chain: ChainPort, limits: SyncLimits) -> None:
        """Look at ``chain``; nothing is known yet."""
        self._chain = chain
        self._limits = limits
        self._paths: dict[HeaderNode, ChainPath] = {}

    def __len__(self) -> int:
        """Return how many ways are remembered."""
        return len(self._paths)

    def path(self, state: SyncPeer) -> ChainPath | None:
        """Return the way to a peer's best block, when that is worth following."""
        best, tip = state.best, self._chain.tree.tip
        if best is None or best.invalid or best.chainwork <= tip.chainwork:
            return None
        if best.chainwork < self._limits.minimum_chainwork:
            return None
        if best not in self._paths:
            self._paths[best] = ChainPath(tuple(reversed(self._chain.tree.without_body(best))))
        return self._paths[best]

    def windows(self, peers: Iterable[SyncPeer]) -> Iterator[HeaderNode]:
        """Yield the lowest missing blocks of every peer's best chain; forget the ways to other blocks."""
        states = tuple(peers)
        alive = {state.best for state in states}
        self._paths = {best: path for best, path in self._paths.items() if best in alive}
        for path in self.each(states):
            yield from path.window(self._limits.window_blocks)

    def each(self, peers: Iterable[SyncPeer]) -> tuple[ChainPath, ...]:
        """Return the ways to all peers' best chains, each once."""
        return tuple({id(path): path for state in peers if (path := self.path(state))}.values())

    def can_follow(self, state: SyncPeer) -> bool:
        """Tell whether a peer shows a better chain than the tip's, and may have the next body of it."""
        path = self.path(state)
        if path is None:
            return False
        lowest = next(path.window(self._limits.window_blocks), None)
        return lowest is None or state.may_have(lowest)
